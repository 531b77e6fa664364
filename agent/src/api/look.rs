//! What this node has for a flow, from the kernel itself: its tables, devices, programs and sockets as they are now.

use std::collections::BTreeSet;

use tonic::{Code, Status};
use weft_ebpf::Tables;
use weft_ebpf_abi as abi;
use weft_overlay::link::{ContainerNet, LinkInfo, Netlink, missing_inside};
use weft_overlay::mtu::network_mtu;
use weft_overlay::{ContainerRef, EndpointRef, filter, netns};

use super::fault::fault;
use super::resolve::traffic_of;
use super::shared::Shared;
use crate::local::LocalInterface;
use crate::mirror::State;
use crate::plan::tables::{map_address, plain_address};
use crate::proto::{LookReply, LookRequest};
use crate::reconcile::runtime_id;
use crate::why::{Look, PortLook, Way};

/// State of a socket that listens in /proc/net/tcp (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTEN: &str = "0A";

fn internal(error: impl std::fmt::Display) -> Status {
    fault(Code::Internal, "look", error, "the node's log says more")
}

/// Looks.
pub async fn look(shared: &Shared, request: &LookRequest) -> Result<LookReply, Status> {
    let parts = shared.parts()?;
    let state = shared.known().await?;
    let to: [u8; 16] = request
        .to
        .as_slice()
        .try_into()
        .map_err(|_| internal("an address is not 16 bytes"))?;
    let netlink = Netlink::current().map_err(internal)?;
    let links = netlink.links().await.map_err(internal)?;
    let (tables, attached) = {
        let mut datapath = parts.datapath.lock();
        let tables = datapath
            .observe()
            .map_err(|e| internal(crate::node::chain_of(&e)))?;
        (tables, datapath.attached())
    };
    let facts = Facts {
        shared,
        state: &state,
        links: &links,
        tables: &tables,
        attached: &attached,
    };
    let (protocol, port) = traffic_of(&request.traffic).map_err(super::fault::refused)?;
    let mut ports = Vec::new();
    for name in &request.endpoints {
        let Ok(endpoint) = name.parse::<EndpointRef>() else {
            continue;
        };
        ports.extend(facts.port(&endpoint, (protocol, port)).await);
    }
    let look = Look {
        node: shared.config.name.clone(),
        vtep: shared.config.advertise,
        ports,
        way: facts.way(request.vni, to),
        tunnel: facts.tunnel(&parts.overlay.1),
        strangers: facts.strangers(),
        filtered: filter::looks_at_what_arrives(netlink.netns()).unwrap_or(false),
    };
    let json = serde_json::to_string(&look).map_err(internal)?;
    Ok(LookReply { json })
}

struct Facts<'a> {
    shared: &'a Shared,
    state: &'a State,
    links: &'a [LinkInfo],
    tables: &'a Tables,
    attached: &'a BTreeSet<u32>,
}

impl Facts<'_> {
    fn link(&self, name: &str) -> Option<&LinkInfo> {
        self.links.iter().find(|link| link.name == name)
    }

    /// `None`: the endpoint is not of this node.
    async fn port(&self, endpoint: &EndpointRef, asked: (u8, u16)) -> Option<PortLook> {
        let local = self.shared.report.borrow().local.clone();
        let (container, interface) = local
            .interfaces()
            .find(|(_, i)| i.endpoint_ref() == *endpoint)?;
        let id = runtime_id(container);
        let runtime = self.shared.parts.get()?.runtime.clone();
        let list = tokio::task::spawn_blocking(move || runtime.list()).await;
        let mut list = list
            .ok()
            .and_then(Result::ok)
            .unwrap_or_default()
            .into_iter();
        let pid = list
            .find(|one| one.id == id && one.state == weft_runtime::State::Running)
            .map(|one| one.pid);
        // What others made runs as long as it is there.
        let foreign = local.containers.get(container)?.foreign.is_some();
        let link = self.link(&interface.host_name());
        let index = link.map(|link| link.index);
        Some(PortLook {
            endpoint: endpoint.clone(),
            running: foreign || pid.is_some(),
            up: link.is_some_and(|link| link.up),
            program: index.is_some_and(|index| self.attached.contains(&index)),
            lacks: self.lacks(pid, container, interface).await,
            entered: index.is_some_and(|index| self.entered(index, interface)),
            listens: pid.and_then(|pid| listens(pid, asked)),
        })
    }

    /// What its end in a container of weft's own lacks; nothing of one that cannot be asked.
    async fn lacks(
        &self,
        pid: Option<u32>,
        container: &ContainerRef,
        interface: &LocalInterface,
    ) -> Vec<String> {
        let network = self.state.networks.get(&interface.network);
        let netns = pid.and_then(|pid| netns::of_pid(pid).ok());
        let (Some(network), Some(netns)) = (network, netns) else {
            return Vec::new();
        };
        let local = self.shared.report.borrow().local.clone();
        let interfaces = local.containers.get(container).map(|c| &c.interfaces);
        let first = interfaces.and_then(|all| all.first());
        let config = &self.shared.config;
        let own = self.state.nodes.get(&config.name);
        let underlay = own.and_then(|doc| doc.value.mtu).unwrap_or(u32::MAX);
        let mtu = network_mtu(&network.value, underlay, config.advertise);
        let net = ContainerNet::ordinary(
            interface.interface.to_string(),
            interface.mac,
            u32::from(mtu),
            interface.addresses.clone(),
            &network.value,
            first.is_some_and(|one| one.port == interface.port),
        );
        missing_inside(&netns, &[net]).await.unwrap_or_default()
    }

    fn entered(&self, index: u32, interface: &LocalInterface) -> bool {
        let port = self.tables.ports.get(&index);
        let vni = interface.vni.get();
        let own = |address: &std::net::IpAddr| {
            let key = abi::EndpointKey {
                vni,
                addr: map_address(*address),
            };
            let entry = self.tables.endpoints.get(&key);
            entry.is_some_and(|entry| entry.port == interface.port.0 && entry.ifindex == index)
        };
        port.is_some_and(|port| port.port == interface.port.0 && port.vni == vni)
            && interface.addresses.iter().all(own)
    }

    /// As the programs look it up: by address, then by subnet.
    fn way(&self, vni: u32, to: [u8; 16]) -> Way {
        let name = |id: u32| match self.state.node_name(id) {
            Some(name) if *name == self.shared.config.name => Way::Here,
            Some(name) => Way::Node(name.clone()),
            None => Way::Nobody,
        };
        let Some(network) = self.tables.networks.get(&vni) else {
            return Way::Unknown;
        };
        if let Some(endpoint) = self
            .tables
            .endpoints
            .get(&abi::EndpointKey { vni, addr: to })
        {
            return name(endpoint.node);
        }
        let length = match plain_address(to) {
            Some(std::net::IpAddr::V4(_)) => 96 + u32::from(network.subnet_len4),
            _ => u32::from(network.subnet_len6),
        };
        let mask = u128::MAX
            .checked_shl(128_u32.saturating_sub(length))
            .unwrap_or(0);
        let addr = (u128::from_be_bytes(to) & mask).to_be_bytes();
        match self.tables.subnets.get(&abi::SubnetKey { vni, addr }) {
            // Of its own subnet it would know the endpoint.
            Some(subnet) => match name(subnet.node) {
                Way::Here => Way::Nobody,
                there => there,
            },
            None => Way::Nobody,
        }
    }

    fn tunnel(&self, name: &str) -> Result<(), String> {
        let Some(link) = self.link(name) else {
            return Err(format!("{name} is missing"));
        };
        if !link.up {
            return Err(format!("{name} is down"));
        }
        if !self.attached.contains(&link.index) {
            return Err(format!("{name} has lost its program"));
        }
        Ok(())
    }

    /// Other nodes that the tables know by other addresses than the documents, or not at all.
    fn strangers(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, doc) in &self.state.nodes {
            let Some(vtep) = doc.value.vteps.first() else {
                continue;
            };
            let addr = map_address(*vtep);
            let way = self.tables.nodes.get(&doc.value.id.0);
            if way.is_none_or(|way| way.vtep != addr) {
                let told = way.and_then(|way| plain_address(way.vtep));
                let told = told.map_or_else(|| "nowhere".to_owned(), |a| a.to_string());
                all.push(format!("{name} is at {told} instead of {vtep}"));
            } else if self.tables.vteps.get(&abi::VtepKey { addr }) != Some(&doc.value.id.0) {
                all.push(format!("what {name} sends from {vtep} is not taken"));
            }
        }
        all
    }
}

/// Whether somebody in a process's network namespace listens at a port; `None` where there are no ports.
fn listens(pid: u32, (protocol, port): (u8, u16)) -> Option<bool> {
    let name = match protocol {
        6 => "tcp",
        17 => "udp",
        _ => return None,
    };
    let mut any = false;
    for family in ["", "6"] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/{name}{family}")) else {
            continue;
        };
        any |= text.lines().skip(1).any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().and_then(|local| local.rsplit_once(':'));
            let at = local.and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
            let state = words.nth(1);
            at == Some(port) && (name == "udp" || state == Some(LISTEN))
        });
    }
    Some(any)
}
