//! Runs one store member, for trying it with other clients: NAME CLIENT_PORT PEER_PORT DATA_DIR INITIAL_CLUSTER.

use std::net::SocketAddr;

use weft_store::server::{Config, Server, parse_initial_cluster};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, client, peer, data, cluster] = arguments.as_slice() else {
        return Err("arguments: NAME CLIENT_PORT PEER_PORT DATA_DIR INITIAL_CLUSTER".into());
    };
    let mut config = Config::new(name, data);
    config.listen_client = vec![SocketAddr::from(([127, 0, 0, 1], client.parse()?))];
    config.advertise_client = vec![format!("http://127.0.0.1:{client}")];
    config.listen_peer = SocketAddr::from(([127, 0, 0, 1], peer.parse()?));
    config.advertise_peer = format!("http://127.0.0.1:{peer}");
    config.initial_cluster = parse_initial_cluster(cluster)?;
    let server = Server::start(config).await?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
