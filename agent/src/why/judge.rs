//! From facts to a verdict.

use std::collections::BTreeMap;

use weft_ebpf_abi::DropReason;
use weft_overlay::NodeName;

use super::{Cause, Flow, Look, PortLook, Verdict, Way};
use crate::mirror::State;
use crate::model::Fate;
use crate::proto::Observation;

/// What the probe in the sender's network said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// It was answered.
    pub answered: bool,
    /// Why not, by its own word.
    pub error: String,
    /// A small one was answered, and one as large as the network's MTU was not.
    pub only_small: bool,
}

/// All that is known of a flow.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The documents.
    pub state: &'a State,
    /// What is asked.
    pub flow: &'a Flow,
    /// The nodes of the sender and, if it is an endpoint, of the receiver.
    pub nodes: (NodeName, Option<NodeName>),
    /// What the model says at the sender.
    pub intended: Fate,
    /// What each node has, or why it did not say.
    pub looks: BTreeMap<NodeName, Result<Look, String>>,
    /// What the nodes' programs saw.
    pub seen: Vec<Observation>,
    /// What the sender saw.
    pub probed: Probed,
}

fn verdict(
    cause: Cause,
    node: Option<&NodeName>,
    says: impl Into<String>,
    help: impl Into<String>,
) -> Verdict {
    Verdict {
        cause,
        node: node.cloned(),
        says: says.into(),
        help: help.into(),
    }
}

/// The first step at which intent and facts part.
pub fn judge(e: &Evidence<'_>) -> Verdict {
    if e.probed.answered && !e.probed.only_small {
        return verdict(Cause::Arrives, None, "the probe was answered", "");
    }
    let steps: [fn(&Evidence<'_>) -> Option<Verdict>; 9] = [
        sender,
        intended,
        receiver_stopped,
        tables_of_sender,
        large,
        dropped,
        not_sent,
        on_the_way,
        receiver,
    ];
    steps.iter().find_map(|step| step(e)).unwrap_or_else(|| {
        let help = "`weft trace live` shows its packets as they come";
        verdict(
            Cause::NoAnswer,
            e.nodes.1.as_ref(),
            "it is not answered",
            help,
        )
    })
}

/// A node that does not say what it has.
fn silent(e: &Evidence<'_>, node: &NodeName) -> Option<Verdict> {
    let Some(Err(why)) = e.looks.get(node) else {
        return None;
    };
    if e.state.is_alive(node) {
        let says = format!("the agent of {node} does not answer: {why}");
        let help = format!("look at its log, and whether port 7946 of {node} is reachable");
        return Some(verdict(Cause::AgentSilent, Some(node), says, help));
    }
    let says = format!("node {node} is gone: its lease ran out ({why})");
    let help = format!("bring {node} back, or move what is on it to another node");
    Some(verdict(Cause::NodeGone, Some(node), says, help))
}

fn look<'a>(e: &'a Evidence<'_>, node: &NodeName) -> Option<&'a Look> {
    e.looks.get(node).and_then(|look| look.as_ref().ok())
}

fn sender(e: &Evidence<'_>) -> Option<Verdict> {
    let node = &e.nodes.0;
    if let Some(found) = silent(e, node) {
        return Some(found);
    }
    let port = port(look(e, node)?, &e.flow.from)?;
    if !port.running {
        let says = format!("{} does not run", e.flow.from);
        let help = "`weft ps` says what it does, `weft logs` what it said last";
        return Some(verdict(Cause::SenderStopped, Some(node), says, help));
    }
    end(node, port)
}

fn port<'a>(look: &'a Look, endpoint: &weft_overlay::EndpointRef) -> Option<&'a PortLook> {
    look.ports.iter().find(|port| port.endpoint == *endpoint)
}

/// A port that is not whole.
fn end(node: &NodeName, port: &PortLook) -> Option<Verdict> {
    let put_back =
        "its agent puts it back within a second; `weft status` there says what hinders it";
    let of = |cause, what: &str| {
        let says = format!("on {node}, {} {what}", port.endpoint);
        Some(verdict(cause, Some(node), says, put_back))
    };
    if !port.up {
        return of(Cause::DeviceDown, "has no device that is up");
    }
    if !port.program {
        return of(Cause::ProgramMissing, "has no program at its device");
    }
    if !port.entered {
        return of(Cause::MapEntry, "is not in the tables as documented");
    }
    None
}

/// What the documents intend is a drop.
fn intended(e: &Evidence<'_>) -> Option<Verdict> {
    let Fate::Drop(reason) = e.intended else {
        return None;
    };
    let (flow, network) = (e.flow, e.flow.network());
    let node = Some(&e.nodes.0);
    Some(match reason {
        DropReason::NoEndpoint => {
            let says = format!("nobody in {network} has the address {}", flow.to);
            let help = format!("`weft endpoint ls {network}` shows who has which");
            verdict(Cause::NoEndpoint, node, says, help)
        }
        DropReason::NodeAddress => {
            let says = format!(
                "{} is the address of a node, which no tenant reaches",
                flow.to
            );
            verdict(
                Cause::NodeAddress,
                node,
                says,
                "ask for a container, or use `--net host`",
            )
        }
        DropReason::NoRoute => outside(e),
        other => {
            let says = format!("it is dropped by design: {}", other.name());
            verdict(
                Cause::Dropped,
                node,
                says,
                "the README of drop reasons says when",
            )
        }
    })
}

fn outside(e: &Evidence<'_>) -> Verdict {
    let (flow, network) = (e.flow, e.flow.network());
    let node = Some(&e.nodes.0);
    let other = e.state.networks.iter().find(|(name, doc)| {
        let holds = match flow.to {
            std::net::IpAddr::V4(a) => doc.value.cidr4.is_some_and(|net| net.contains(&a)),
            std::net::IpAddr::V6(a) => doc.value.cidr6.is_some_and(|net| net.contains(&a)),
        };
        // Other tenants' networks are nobody else's affair.
        holds && name.tenant == network.tenant && **name != network
    });
    match other {
        Some((name, _)) => {
            let says = format!(
                "{} is of network {name}, which {network} is kept apart from",
                flow.to
            );
            let help = format!("give the sender an interface in {name} too (`--net {name}`)");
            verdict(Cause::Isolated, node, says, help)
        }
        None => {
            let says = format!(
                "{} is in no network of the tenant, and {network} has no way out",
                flow.to
            );
            let help = format!("`weft network create {network} --egress nat` gives it one");
            verdict(Cause::NoRoute, node, says, help)
        }
    }
}

/// The sender's tables lead elsewhere than the documents.
fn tables_of_sender(e: &Evidence<'_>) -> Option<Verdict> {
    let look = look(e, &e.nodes.0)?;
    let right = match &e.intended {
        Fate::Deliver(_) => Way::Here,
        Fate::Tunnel { node, .. } => Way::Node(node.clone()),
        _ => return None,
    };
    let wrong = |what: String| {
        let help = format!(
            "the agent of {} sets it right within a second; `weft status` there says what hinders it",
            look.node
        );
        Some(verdict(Cause::MapEntry, Some(&look.node), what, help))
    };
    if look.way != right {
        let says = format!(
            "on {}, the tables lead {} to {:?} instead of {right:?}",
            look.node, e.flow.to, look.way
        );
        return wrong(says);
    }
    let stranger = look.strangers.first()?;
    wrong(format!(
        "on {}, the tables say of a node: {stranger}",
        look.node
    ))
}

fn large(e: &Evidence<'_>) -> Option<Verdict> {
    if !e.probed.only_small {
        return None;
    }
    let says = "small packets arrive, and packets as large as the network's MTU do not";
    let help = "the underlay between the nodes passes less than its devices say: make it pass more, or give the \
                network a smaller MTU (`weft network create --mtu`)";
    Some(verdict(Cause::Mtu, e.nodes.1.as_ref(), says, help))
}

/// A program dropped it, or its answer.
fn dropped(e: &Evidence<'_>) -> Option<Verdict> {
    let drop = e.seen.iter().find(|o| o.point == "drop")?;
    let node: Option<NodeName> = drop.node.parse().ok();
    let back = if drop.dst == e.flow.to.to_string() {
        "it"
    } else {
        "its answer"
    };
    let says = format!("{} dropped {back}: {}", drop.node, drop.reason);
    let tables =
        "its agent sets the tables right within a second; `weft status` there says what hinders it";
    let (cause, help) = match drop.reason.as_str() {
        "spoofed_mac" | "spoofed_address" => (
            Cause::Spoofed,
            "the sender speaks with an address that is not its own: `ip addr` there shows which it has",
        ),
        "too_big" => (Cause::Mtu, "send less, or let the underlay pass more"),
        "no_instance" => (
            Cause::NoInstance,
            "start an instance of the hop, or let the chain bypass it (`on_failure`)",
        ),
        "no_endpoint" | "no_vtep" | "unknown_vni" | "unknown_vtep" | "unknown_port"
        | "unknown_steer" | "tunnel_key" => (Cause::MapEntry, tables),
        _ => (
            Cause::Dropped,
            "the reason says what is wrong with the packet",
        ),
    };
    Some(verdict(cause, node.as_ref(), says, help))
}

/// Whether a node's program saw the flow (or its answers) at a point.
fn saw(e: &Evidence<'_>, node: &NodeName, point: &str, answers: bool) -> bool {
    let to = e.flow.to.to_string();
    e.seen
        .iter()
        .any(|o| o.node == node.as_str() && o.point == point && (o.dst == to) != answers)
}

fn not_sent(e: &Evidence<'_>) -> Option<Verdict> {
    let node = &e.nodes.0;
    if saw(e, node, "from_container", false) {
        return None;
    }
    let port = look(e, node).and_then(|look| port(look, &e.flow.from));
    let lacks = port.map(|port| port.lacks.as_slice()).unwrap_or_default();
    if let Some(lost) = lacks.iter().find(|lost| lost.contains("MAC address")) {
        let says = format!(
            "{} speaks with another Ethernet address: it lacks {lost}",
            e.flow.from
        );
        let help = "its agent gives it its own back within a second; end what changes it there";
        return Some(verdict(Cause::Spoofed, Some(node), says, help));
    }
    let mut says = format!("{} sends nothing there: {}", e.flow.from, e.probed.error);
    if !lacks.is_empty() {
        says += &format!("; inside, it lacks {}", lacks.join(", "));
    }
    let help =
        "look at `ip route` and `ip addr` inside; its agent puts back what is missing of its own";
    Some(verdict(Cause::NotSent, Some(node), says, help))
}

/// Between two nodes, either way, and through hops.
fn on_the_way(e: &Evidence<'_>) -> Option<Verdict> {
    let there = &e.nodes.0;
    let hop = |o: &&Observation| o.point == "to_hop";
    for given in e.seen.iter().filter(hop) {
        let passed = e.seen.iter().any(|o| {
            o.point == "from_hop" && o.instance == given.instance && o.direction == given.direction
        });
        if !passed {
            let node: Option<NodeName> = given.node.parse().ok();
            let says = format!(
                "{} took it and did not pass it on ({})",
                given.instance, given.position
            );
            let help = format!(
                "`weft logs {}` and `weft chain stats` show what it does",
                given.instance
            );
            return Some(verdict(Cause::HopDrops, node.as_ref(), says, help));
        }
    }
    let here = e.nodes.1.as_ref().filter(|here| *here != there)?;
    if saw(e, there, "encap", false) && !saw(e, here, "decap", false) {
        return Some(lost(e, there, here));
    }
    if saw(e, here, "encap", true) && !saw(e, there, "decap", true) {
        return Some(lost(e, here, there));
    }
    None
}

/// What `from` sent through the tunnel did not come to `to`.
fn lost(e: &Evidence<'_>, from: &NodeName, to: &NodeName) -> Verdict {
    if let Some(found) = silent(e, to) {
        return found;
    }
    let known = e
        .state
        .nodes
        .get(to)
        .and_then(|doc| doc.value.vteps.first());
    if let (Some(look), Some(known)) = (look(e, to), known) {
        if look.vtep != *known {
            let says = format!("{to} is known by {known}, and has {}", look.vtep);
            let help =
                format!("start the agent of {to} with the address that it has (`--advertise`)");
            return verdict(Cause::WrongVtep, Some(to), says, help);
        }
        if let Err(why) = &look.tunnel {
            let says = format!("the tunnel's device of {to} {why}");
            let help = format!(
                "the agent of {to} makes it anew within a second; `weft status` there says what hinders it"
            );
            return verdict(Cause::DeviceDown, Some(to), says, help);
        }
        if look.filtered {
            let says = format!(
                "{from} sent it to {to}, it did not come out of the tunnel there, and {to} has a packet filter"
            );
            let help = format!("let UDP of the tunnel's port in on {to}");
            return verdict(Cause::UnderlayFiltered, Some(to), says, help);
        }
    }
    let says = format!("{from} sent it to {to}, and it did not come out of the tunnel there");
    let help = format!(
        "the underlay from {from} to {to} does not pass UDP of the tunnel's port: a link, a route, a firewall between them"
    );
    verdict(Cause::Underlay, Some(to), says, help)
}

fn receiver_stopped(e: &Evidence<'_>) -> Option<Verdict> {
    let (node, target) = (e.nodes.1.as_ref()?, e.flow.target.as_ref()?);
    let port = port(look(e, node)?, target)?;
    if port.running {
        return None;
    }
    let says = format!("{target} does not run");
    let help = "`weft ps` says what it does, `weft logs` what it said last";
    Some(verdict(Cause::ReceiverStopped, Some(node), says, help))
}

/// It was delivered.
fn receiver(e: &Evidence<'_>) -> Option<Verdict> {
    let (node, target) = (e.nodes.1.as_ref()?, e.flow.target.as_ref()?);
    if let Some(found) = silent(e, node) {
        return Some(found);
    }
    let port = port(look(e, node)?, target)?;
    if let Some(found) = end(node, port) {
        return Some(found);
    }
    if port.listens == Some(false) {
        let says = format!(
            "{target} got it, and nobody there listens at port {}",
            e.flow.port
        );
        let help = "start what should listen, at this address or at all";
        return Some(verdict(Cause::ClosedPort, Some(node), says, help));
    }
    let says = format!("{target} got it and does not answer");
    let help = "what listens there is busy or hung, or a filter inside drops it";
    Some(verdict(Cause::NoAnswer, Some(node), says, help))
}

#[cfg(test)]
mod tests;
