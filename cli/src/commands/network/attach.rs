//! `weft endpoint attach` and `detach`: endpoints of what weft did not make. Such an endpoint is the one interface of a
//! container whose place is somebody else's, so that `weft ps`, `rm` and files know it, too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tonic::Code;
use weft_agent::client::AgentClient;
use weft_agent::overlay::documents::{Resources, Restart};
use weft_agent::overlay::{
    ContainerRef, EndpointRef, InterfaceName, NetworkRef, NodeName, foreign::Foreign, network, site,
};
use weft_agent::proto::RemoveRequest;

use crate::commands::apply::{object, print_changes, print_removed};
use crate::commands::container::{label, wait};
use crate::fail::Failure;
use crate::output;

/// `weft endpoint attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// TENANT/NETWORK/NAME
    name: EndpointRef,
    /// A network namespace: /run/netns/NAME, /proc/PID/ns/net.
    #[arg(long, value_name = "PATH", required_unless_present = "tap")]
    netns: Option<PathBuf>,
    /// A tap device of the node, made if it is not there.
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["netns", "interface"])]
    tap: Option<InterfaceName>,
    /// The interface's name in the namespace [default: eth0]
    #[arg(long)]
    interface: Option<InterfaceName>,
    /// A fixed address.
    #[arg(long)]
    address: Option<IpAddr>,
    /// KEY=VALUE; may be repeated.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The node that it is on; without it, the one that is asked.
    #[arg(long)]
    node: Option<NodeName>,
}

fn network_of(name: &EndpointRef) -> NetworkRef {
    NetworkRef {
        tenant: name.tenant.clone(),
        network: name.network.clone(),
    }
}

/// The container that has the endpoint: of its name.
fn holder(name: &EndpointRef) -> Result<ContainerRef, Failure> {
    let text = format!("{}/{}", name.tenant, name.endpoint);
    text.parse().map_err(|e| {
        Failure::usage(
            format!("endpoint {name}: {e}"),
            "write it as TENANT/NETWORK/NAME",
        )
    })
}

/// Runs `weft endpoint attach`.
pub async fn attach(agent: &mut AgentClient, json: bool, wanted: Attach) -> Result<(), Failure> {
    let container = holder(&wanted.name)?;
    let node = match wanted.node {
        Some(node) => node,
        None => {
            let asked = agent.status().await?.node;
            asked
                .parse()
                .map_err(|e| Failure::usage(format!("node {asked}: {e}"), "name one with --node"))?
        }
    };
    let place = match (wanted.netns, wanted.tap) {
        (_, Some(device)) => Foreign::Tap(device),
        (Some(path), None) => Foreign::Netns(path),
        (None, None) => {
            return Err(Failure::usage(
                format!("endpoint {}: has no place", wanted.name),
                "give --netns or --tap",
            ));
        }
    };
    let networks = vec![site::Attachment::Full(site::AttachmentTable {
        network: network_of(&wanted.name),
        address: wanted.address,
        interface: wanted.interface,
        hop: false,
    })];
    let spec = site::Container {
        name: container.clone(),
        networks,
        node: Some(node),
        labels: wanted.labels.into_iter().collect(),
        image: place.to_string(),
        command: Vec::new(),
        env: BTreeMap::new(),
        capabilities: Vec::new(),
        resources: Resources::default(),
        publish: Vec::new(),
        restart: Restart::Always,
    };
    not_another(agent, &wanted.name, &container).await?;
    let objects = vec![object("container", &container.to_string(), &spec)?];
    let changes = agent.apply(objects, false).await?;
    if !json {
        print_changes(json, &changes);
    }
    wait::until_started(agent, &container).await?;
    let facts = facts(agent, &wanted.name, &place).await?;
    if json {
        println!("{facts}");
    } else {
        let text = |key: &str| output::cell(&facts[key]);
        let rows = ["addresses", "gateways", "mac", "mtu"].map(|key| [key.to_owned(), text(key)]);
        output::table(["ENDPOINT", &wanted.name.to_string()], rows);
        if matches!(place, Foreign::Tap(_)) {
            println!(
                "\nthe machine's card must have this MAC address, and the address a prefix of its full length"
            );
        }
    }
    Ok(())
}

/// The container's document, if it is there.
async fn document(agent: &mut AgentClient, name: &ContainerRef) -> Result<Option<Value>, Failure> {
    match agent.list("container", "", &name.to_string()).await {
        Ok(list) => Ok(list.first().map(output::object_json)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Whether the container is somebody else's, and has the endpoint and no other.
fn has_only(found: &Value, name: &EndpointRef) -> bool {
    let image = found["spec"]["image"].as_str().unwrap_or_default();
    let networks = found["spec"]["interfaces"].as_array();
    let ours = networks.is_some_and(|all| {
        all.len() == 1 && all[0]["network"].as_str() == Some(name.network.as_str())
    });
    !matches!(Foreign::of(image), Ok(None)) && ours
}

/// Refuses to take the place of something that is there under the name.
async fn not_another(
    agent: &mut AgentClient,
    name: &EndpointRef,
    container: &ContainerRef,
) -> Result<(), Failure> {
    match document(agent, container).await? {
        Some(found) if !has_only(&found, name) => Err(Failure::refused(
            format!("endpoint {name}: {container} is there already, and is something else"),
            format!("choose another name; `weft inspect {container}` shows it"),
        )),
        _ => Ok(()),
    }
}

/// What whoever sets up the other end must know.
async fn facts(
    agent: &mut AgentClient,
    name: &EndpointRef,
    place: &Foreign,
) -> Result<Value, Failure> {
    let first = |list: Vec<weft_agent::proto::Object>| list.first().map(output::object_json);
    let endpoint = first(agent.list("endpoint", "", &name.to_string()).await?).unwrap_or_default();
    let of = network_of(name).to_string();
    let net = first(agent.list("network", "", &of).await?).unwrap_or_default();
    let cidr4 = net["cidr4"].as_str().and_then(|text| text.parse().ok());
    let gateway4 = cidr4.map(|cidr| network::gateway4(&cidr).to_string());
    let gateway6 = net["cidr6"]
        .is_string()
        .then(|| network::GATEWAY6.to_string());
    let gateways: Vec<String> = gateway4.into_iter().chain(gateway6).collect();
    // Known where the device is: the node may be another machine.
    let mtu = match place {
        Foreign::Tap(device) => std::fs::read_to_string(format!("/sys/class/net/{device}/mtu"))
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok()),
        Foreign::Netns(_) => None,
    };
    Ok(json!({
        "name": name.to_string(), "place": place.to_string(), "node": endpoint["node"],
        "addresses": endpoint["addresses"], "mac": endpoint["mac"],
        "gateways": gateways, "mtu": mtu,
    }))
}

/// Runs `weft endpoint detach`.
pub async fn detach(
    agent: &mut AgentClient,
    json: bool,
    name: &EndpointRef,
) -> Result<(), Failure> {
    let container = holder(name)?;
    let found = document(agent, &container).await?.unwrap_or_default();
    if !has_only(&found, name) {
        // One that is not there at all is told as such.
        agent.list("endpoint", "", &name.to_string()).await?;
        return Err(Failure::refused(
            format!(
                "endpoint {name}: belongs to a container that weft runs, or that has more of them"
            ),
            format!("remove that: `weft rm {container}`"),
        ));
    }
    let request = RemoveRequest {
        kind: "container".into(),
        name: container.to_string(),
        ..RemoveRequest::default()
    };
    print_removed(json, &agent.remove(request).await?);
    Ok(())
}
