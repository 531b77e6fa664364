//! Makes the gateways that networks are to have here, keeps them whole, and takes them away.
//!
//! A gateway is made in this order: its namespace and devices, the node's rules, the tables, its program, and last the
//! datapath's end goes up: nothing passes before all of it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt, socket, sockopt,
};
use weft_overlay::filter::{self, Transport};
use weft_overlay::gateway::{self, Gateway, GatewayError, Hold, UP_PREFIX, inner_name, up_name};
use weft_overlay::link::LinkInfo;
use weft_overlay::publish::Publish;
use weft_overlay::{ContainerRef, NetworkRef, PortId};

use super::Reconciler;
use crate::local::LocalGateway;
use crate::mirror::State;
use crate::node::chain_of;
use crate::plan::gateways::{Wanted, gateway as planned, number, published, wanted};

/// Gateways are looked into no more often.
const INSPECT_EVERY: Duration = Duration::from_millis(900);

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    made: BTreeMap<NetworkRef, (Gateway, Hold)>,
    /// What the node's rules were made of, and their generation.
    rules: Option<(Vec<Gateway>, BTreeSet<IpAddr>, u32)>,
    inspected: Option<Instant>,
    /// Chains of others in which what passes ends.
    closed: Vec<String>,
    /// The node's ports that are published, held so that no process of the node takes them.
    held: BTreeMap<(Transport, u16), (ContainerRef, OwnedFd)>,
}

impl Reconciler {
    /// Makes what is wanted, but for the way into it; port and host end of each that is whole.
    pub(super) async fn keep_gateways(
        &mut self,
        state: &State,
        links: &[LinkInfo],
    ) -> BTreeMap<NetworkRef, (PortId, u32)> {
        self.hold_published(state);
        let all = self.wanted_gateways(state);
        if all.is_empty() && self.file.get().gateways.is_empty() {
            return BTreeMap::new();
        }
        let since = self.gateways.inspected;
        let inspect = since.is_none_or(|last| last.elapsed() >= INSPECT_EVERY);
        if inspect {
            self.gateways.inspected = Some(Instant::now());
        }
        let (mut present, mut gateways) = (BTreeMap::new(), Vec::new());
        for (network, want) in &all {
            let Some(doc) = state.networks.get(network) else {
                continue;
            };
            let vni = doc.value.vni;
            let known = self.file.get().gateways.get(network).copied();
            if let Some(old) = known.filter(|one| one.vni != vni) {
                // The network was made anew: nothing of the old one's stays.
                if !self.forget_gateway(network, old).await {
                    continue;
                }
            }
            let one = match known.filter(|one| one.vni == vni) {
                Some(one) => one,
                None => match self.remember(|local| number(local, network, vni)) {
                    Some(Some(one)) => one,
                    Some(None) => {
                        self.problem(format!("gateway of network {network}"), "all are taken");
                        continue;
                    }
                    None => continue,
                },
            };
            let config = &self.shared.config;
            let vtep = config.advertise;
            let gateway = planned(&doc.value, want, one.index, (self.underlay_mtu, vtep));
            match self.keep_gateway(network, &gateway, links, inspect).await {
                Ok(ifindex) => {
                    present.insert(network.clone(), (one.port, ifindex));
                    gateways.push(gateway);
                }
                Err(error) => {
                    let cause = format!("{}; {}", chain_of(&error), error.help());
                    self.problem(format!("gateway of network {network}"), cause);
                    // What works goes on working.
                    if let Some((before, hold)) = self.gateways.made.get(network)
                        && links.iter().any(|l| l.index == hold.ifindex)
                    {
                        present.insert(network.clone(), (one.port, hold.ifindex));
                        gateways.push(before.clone());
                    }
                }
            }
        }
        let kept = self.keep_rules(state, gateways, inspect);
        if !self.gateways.closed.is_empty() && !present.is_empty() {
            let cause = format!(
                "{} of this machine's firewall drops what it was not told to let pass: let pass what comes in and goes out \
                 by devices {UP_PREFIX}*, e.g. `iptables -I FORWARD -i {UP_PREFIX}+ -j ACCEPT; iptables -I FORWARD -o {UP_PREFIX}+ -j ACCEPT`",
                self.gateways.closed.join(", ")
            );
            self.problem("traffic to and from the outside", cause);
        }
        match kept {
            Ok(()) => present,
            Err(error) => {
                let cause = format!("{}; {}", chain_of(&error), error.help());
                self.problem("rules for gateways", cause);
                if self.gateways.rules.is_none() {
                    present.clear();
                }
                present
            }
        }
    }

    fn wanted_gateways(&self, state: &State) -> BTreeMap<NetworkRef, Wanted> {
        let held = |container: &ContainerRef, publish: &Publish| {
            let key = (publish.transport, publish.outside.get());
            let holder = self.gateways.held.get(&key);
            holder.is_some_and(|(holder, _)| holder == container)
        };
        wanted(state, self.file.get(), &self.shared.config.name, held)
    }

    /// Makes it if it is another than before or lacks something.
    async fn keep_gateway(
        &mut self,
        network: &NetworkRef,
        gateway: &Gateway,
        links: &[LinkInfo],
        inspect: bool,
    ) -> Result<u32, GatewayError> {
        let mut lost = Vec::new();
        let same = match self.gateways.made.get(network) {
            Some((before, hold)) if before == gateway => {
                let is = |name: String, right: &dyn Fn(&LinkInfo) -> bool| {
                    let whole = links.iter().any(|l| l.name == name && right(l));
                    (!whole).then(|| format!("device {name}"))
                };
                lost.extend(is(inner_name(gateway.index), &|l| l.index == hold.ifindex));
                lost.extend(is(up_name(gateway.index), &|l| l.up));
                if inspect && lost.is_empty() {
                    lost = gateway::lacks(hold, gateway).await?;
                }
                lost.is_empty().then_some(hold.ifindex)
            }
            _ => None,
        };
        if let Some(ifindex) = same {
            return Ok(ifindex);
        }
        let pin = self.pin(gateway.index);
        let hold = gateway::ensure(&self.netlink, &pin, gateway).await?;
        for one in lost {
            self.repaired(format!("gateway of network {network}"), one);
        }
        let ifindex = hold.ifindex;
        let made = (gateway.clone(), hold);
        self.gateways.made.insert(network.clone(), made);
        Ok(ifindex)
    }

    fn pin(&self, index: u16) -> PathBuf {
        let folder = self.shared.config.run_dir.join("gateways");
        folder.join(index.to_string())
    }

    /// The node's own part, as long as it has gateways; then all is as it was before the first.
    fn keep_rules(
        &mut self,
        state: &State,
        gateways: Vec<Gateway>,
        inspect: bool,
    ) -> Result<(), GatewayError> {
        let own = self.netlink.netns();
        let before = self.file.get().passed_on;
        if gateways.is_empty() && before.is_none() {
            return Ok(());
        }
        let vteps = state.nodes.values().flat_map(|doc| doc.value.vteps.clone());
        let nodes: BTreeSet<IpAddr> = vteps.collect();
        // Anybody's change counts: whose it was cannot be told from the number.
        if let Some((made, of, generation)) = &self.gateways.rules
            && *made == gateways
            && *of == nodes
            && (!inspect || (filter::generation(own)? == *generation && gateway::passes_on(own)[0]))
        {
            return Ok(());
        }
        let passed_on = match before {
            Some(passed_on) => passed_on,
            None => {
                let now = gateway::passes_on(own);
                // Without the memory of it, it could not be undone.
                if self.remember(|l| l.passed_on = Some(now)).is_none() {
                    return Ok(());
                }
                now
            }
        };
        let own = self.netlink.netns();
        let generation = gateway::configure(
            own,
            &gateways,
            &nodes,
            passed_on,
            self.shared.config.vxlan_port,
        )?;
        // What cannot be read is no reason to do without the rules.
        let closed = filter::closed_by_others(own);
        self.gateways.closed = closed.unwrap_or_default();
        if gateways.is_empty() {
            self.gateways.rules = None;
            self.remember(|local| local.passed_on = None);
        } else {
            self.gateways.rules = Some((gateways, nodes, generation));
        }
        Ok(())
    }

    /// The ways into the gateways whose program is there.
    pub(super) async fn open_gateways(
        &mut self,
        present: &BTreeMap<NetworkRef, (PortId, u32)>,
        links: &[LinkInfo],
    ) {
        for (network, (port, ifindex)) in present {
            let up = links.iter().any(|l| l.index == *ifindex && l.up);
            if up || !self.attached.contains(port) {
                continue;
            }
            let Some(one) = self.file.get().gateways.get(network) else {
                continue;
            };
            if let Err(error) = self.netlink.set_up(&inner_name(one.index)).await {
                self.problem(format!("gateway of network {network}"), error);
            }
        }
    }

    /// Takes away what is not wanted any more, which no table names.
    pub(super) async fn drop_gateways(&mut self, state: &State) {
        if self.file.get().gateways.is_empty() {
            return;
        }
        let all = self.wanted_gateways(state);
        let gone = self.file.get().gateways.iter();
        let gone = gone.filter(|(network, _)| !all.contains_key(network));
        let gone: Vec<_> = gone.map(|(network, one)| (network.clone(), *one)).collect();
        for (network, one) in gone {
            self.forget_gateway(&network, one).await;
        }
    }

    /// Takes a gateway away, and its number; whether that is done.
    async fn forget_gateway(&mut self, network: &NetworkRef, one: LocalGateway) -> bool {
        if let Err(cause) = self.drop_gateway(one.index).await {
            self.problem(format!("gateway of network {network}"), cause);
            return false;
        }
        self.gateways.made.remove(network);
        self.attached.remove(&one.port);
        self.again = true;
        self.remember(|local| local.gateways.remove(network))
            .is_some()
    }

    async fn drop_gateway(&mut self, index: u16) -> Result<(), String> {
        let link = self.netlink.link(&inner_name(index)).await;
        if let Some(link) = link.map_err(|e| e.to_string())? {
            let detached = self.datapath.lock().detach(link.index);
            detached.map_err(|e| chain_of(&e))?;
        }
        let removed = gateway::remove(&self.netlink, &self.pin(index), index).await;
        removed.map_err(|e| format!("{}; {}", chain_of(&e), e.help()))
    }

    /// Takes the ports that a container publishes for it.
    pub(super) fn take_published(
        &mut self,
        container: &ContainerRef,
        ports: &[Publish],
    ) -> Result<(), String> {
        for publish in ports {
            let key = (publish.transport, publish.outside.get());
            let name = format!("port {}/{}", key.1, key.0.name());
            match self.gateways.held.get(&key) {
                Some((holder, _)) if holder == container => continue,
                Some((holder, _)) => {
                    return Err(format!(
                        "{name} of this node is published by container {holder}; publish another port"
                    ));
                }
                None => {}
            }
            let held = hold(key.0, key.1).map_err(|errno| {
                format!(
                    "{name} of this node: {errno}; publish another port, or end what listens there"
                )
            })?;
            self.gateways.held.insert(key, (container.clone(), held));
        }
        Ok(())
    }

    /// Lets go of ports that nobody publishes now, and takes those of containers that run since before this agent.
    fn hold_published(&mut self, state: &State) {
        let name = self.shared.config.name.clone();
        let records = self.file.get().containers.clone();
        let mut all = BTreeMap::new();
        for (container, record) in &records {
            let ports = published(state, container, &record.uid, &name);
            if !ports.is_empty() {
                all.insert(container.clone(), ports);
            }
        }
        self.gateways.held.retain(|key, (container, _)| {
            let ports = all.get(container).copied().unwrap_or_default();
            let same = |p: &Publish| (p.transport, p.outside.get()) == *key;
            ports.iter().any(same)
        });
        for (container, ports) in all {
            if let Err(cause) = self.take_published(&container, ports) {
                self.problem(format!("container {container}"), cause);
            }
        }
    }
}

/// Holds a port of all of this node's addresses, without listening there. What is there already is an error, and what comes
/// later meets one: the port is not to be shared.
fn hold(transport: Transport, port: u16) -> Result<OwnedFd, Errno> {
    let kind = match transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let open = |family| socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
    match open(AddressFamily::Inet6) {
        Ok(held) => {
            setsockopt(&held, sockopt::Ipv6V6Only, &false)?;
            let all = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
            bind(held.as_raw_fd(), &SockaddrIn6::from(all))?;
            Ok(held)
        }
        // A kernel without IPv6.
        Err(Errno::EAFNOSUPPORT) => {
            let held = open(AddressFamily::Inet)?;
            let all = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port);
            bind(held.as_raw_fd(), &SockaddrIn::from(all))?;
            Ok(held)
        }
        Err(errno) => Err(errno),
    }
}
