//! The node's store: a member in this process, or members elsewhere; and the client of either.

use std::net::{IpAddr, SocketAddr};

use weft_store::client::Client;
use weft_store::server::{Config, Error, Server};

use super::{NodeConfig, NodeError, StoreConfig};

/// Starts the member if there is one, and makes the client.
pub async fn start(config: &NodeConfig) -> Result<(Option<Server>, Client), NodeError> {
    let (server, endpoints) = match &config.store {
        StoreConfig::External { endpoints } => (None, endpoints.clone()),
        StoreConfig::Embedded {
            initial_cluster,
            initial_cluster_state,
            client_port,
            peer_port,
        } => {
            let mut member = member(config, initial_cluster, *client_port, *peer_port)?;
            member.initial_cluster_state = *initial_cluster_state;
            let endpoints = endpoints(config.advertise, *client_port, &member.initial_cluster);
            let server = Server::start(member)
                .await
                .map_err(|e| refused(config, &e))?;
            (Some(server), endpoints)
        }
    };
    let client = Client::connect(endpoints).map_err(|e| {
        NodeError::new(
            "store endpoints",
            e,
            "write them as http://host:port, separated by commas",
        )
    })?;
    Ok((server, client))
}

fn refused(config: &NodeConfig, error: &Error) -> NodeError {
    let subject = format!("store of node {}", config.name);
    match error {
        Error::Emptied { path, detail, .. } => NodeError::new(
            subject,
            format!(
                "its data in {} is gone: {detail}; with an empty folder it must not vote",
                path.display()
            ),
            "bring the folder back; if it is lost, start the node with --initial-cluster-state existing \
             while all other members are up: it is filled from them before it votes again",
        ),
        _ => NodeError::new(
            subject,
            error,
            "check that its ports are free and its data directory is writable",
        ),
    }
}

fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}", SocketAddr::new(address, port))
}

fn member(
    config: &NodeConfig,
    initial_cluster: &[(String, String)],
    client_port: u16,
    peer_port: u16,
) -> Result<Config, NodeError> {
    let name = config.name.to_string();
    let own = url(config.advertise, peer_port);
    let mut member = Config::new(name.clone(), config.state_dir.join("store"));
    member.initial_cluster = if initial_cluster.is_empty() {
        vec![(name.clone(), own.clone())]
    } else {
        initial_cluster.to_vec()
    };
    let Some((_, advertised)) = member.initial_cluster.iter().find(|(n, _)| *n == name) else {
        return Err(NodeError::new(
            format!("node {name}"),
            "is not in --initial-cluster",
            format!("add {name}={own} to it, the same list on all nodes"),
        ));
    };
    member.advertise_peer = advertised.clone();
    member.listen_peer = SocketAddr::new(config.advertise, peer_port);
    // Loopback too, so that a person on the node can use etcdctl without naming the address.
    let loopback: IpAddr = if config.advertise.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    member.listen_client = vec![SocketAddr::new(config.advertise, client_port)];
    if loopback != config.advertise {
        member
            .listen_client
            .push(SocketAddr::new(loopback, client_port));
    }
    member.advertise_client = vec![url(config.advertise, client_port)];
    Ok(member)
}

/// Where clients reach the members: this one first, then the others on the same port of their hosts.
fn endpoints(own: IpAddr, client_port: u16, cluster: &[(String, String)]) -> Vec<String> {
    let mut list = vec![url(own, client_port)];
    for (_, peer) in cluster {
        let host = peer
            .strip_prefix("http://")
            .and_then(|rest| rest.rsplit_once(':'))
            .map(|(host, _)| host);
        if let Some(host) = host {
            let endpoint = format!("http://{host}:{client_port}");
            if !list.contains(&endpoint) {
                list.push(endpoint);
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_know_every_member_and_ask_their_own_first() {
        let cluster: Vec<(String, String)> = [
            ("n1", "http://192.0.2.1:2380"),
            ("n2", "http://192.0.2.2:2380"),
        ]
        .map(|(n, u)| (n.to_owned(), u.to_owned()))
        .into();
        let list = endpoints("192.0.2.2".parse().unwrap(), 2379, &cluster);
        assert_eq!(list, ["http://192.0.2.2:2379", "http://192.0.2.1:2379"]);
    }
}
