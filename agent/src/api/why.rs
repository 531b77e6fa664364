//! `weft trace why`: asks the nodes on a flow's way what they have, listens, sends a probe from the sender, and judges.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use etherparse::PacketBuilder;
use serde::Deserialize;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use weft_ebpf_abi::GATEWAY_MAC;
use weft_overlay::{ContainerRef, EndpointRef, NetworkRef, NodeName};

use super::fault::{fault, refused};
use super::look;
use super::peers::{PATIENCE, connect};
use super::resolve::{resolve, traffic_of};
use super::shared::Shared;
use super::trace::trace;
use crate::client::{AgentClient, Target};
use crate::mirror::State;
use crate::model::{Fate, Ingress, Model};
use crate::plan::tables::{map_address, plain_address};
use crate::proto::{
    ExecInput, ExecStart, LookRequest, Observation, TraceRequest, WhyReply, WhyRequest,
};
use crate::why::{Evidence, Flow, Look, Probed, judge};

/// How long an answer to the probe may take.
const ANSWER: &str = "1s";
/// How long what the nodes saw of the last packet may take to come here.
const SETTLED: Duration = Duration::from_millis(400);
/// Longest trace, seconds: ends by itself if this request is given up.
const SECONDS: u32 = 20;
/// What an echo has around its payload, bytes: IPv6 40 and ICMP 8 (RFC 4443 section 4.1).
const AROUND: u32 = 48;
/// An underlay whose MTU no document tells.
const MTU: u32 = 1500;

/// Answers.
pub async fn why(shared: &Arc<Shared>, request: &WhyRequest) -> Result<WhyReply, Status> {
    let state = shared.known().await?;
    let flow = flow(&state, request)?;
    let (nodes, intended, lines) = intend(&state, &flow)?;
    let listening = TraceRequest {
        a: request.a.clone(),
        b: request.b.clone(),
        traffic: request.traffic.clone(),
        seconds: SECONDS,
        ..TraceRequest::default()
    };
    let mut events = trace(shared.clone(), listening).await?;
    let mut problems = Vec::new();
    if let Some(Ok(first)) = events.next().await {
        problems = first.problems;
    }
    let looks = looks(shared, &state, &flow, &nodes, &request.traffic).await;
    let probed = probe(shared, &state, &flow, &request.traffic).await?;
    let mut seen: Vec<Observation> = Vec::new();
    while let Ok(Some(Ok(reply))) = tokio::time::timeout(SETTLED, events.next()).await {
        seen.extend(reply.observation);
    }
    let verdict = judge(&Evidence {
        state: &state,
        flow: &flow,
        nodes,
        intended,
        looks,
        seen: seen.clone(),
        probed,
    });
    // A struct of strings always serialises.
    let verdict = serde_json::to_string(&verdict).unwrap_or_default();
    Ok(WhyReply {
        verdict,
        intended: lines,
        seen,
        problems,
    })
}

/// The flow that the words mean.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn flow(state: &State, request: &WhyRequest) -> Result<Flow, Status> {
    let subject = format!("trace why {} {}", request.a, request.b);
    let bad = |cause: &str, help: &str| fault(Code::InvalidArgument, &subject, cause, help);
    let filter = resolve(state, &request.a, &request.b, &request.traffic).map_err(refused)?;
    let (protocol, port) = traffic_of(&request.traffic).map_err(refused)?;
    if protocol == 0 || (port == 0 && matches!(protocol, 6 | 17)) {
        return Err(bad(
            "says not which traffic",
            "add tcp/PORT, udp/PORT or icmp",
        ));
    }
    let (Some(source), Some(to)) = (plain_address(filter.a), plain_address(filter.b)) else {
        return Err(bad(
            "needs two ends",
            "name the sender, and the receiver or an address",
        ));
    };
    let network = state.network_of(filter.vni).map(|(name, _)| name.clone());
    let owner = |address: IpAddr| {
        let network = network.as_ref()?;
        let mut all = state.endpoints_of(network);
        all.find(|(_, doc)| doc.addresses.contains(&address))
            .map(|(name, _)| name.clone())
    };
    let from = owner(source).ok_or_else(|| {
        bad(
            "begins at an address that no endpoint has",
            "name the sender as TENANT/NAME",
        )
    })?;
    let target = owner(to);
    // Echo of IPv6 has a number of its own.
    let protocol = match (protocol, to) {
        (1, IpAddr::V6(_)) => 58,
        (other, _) => other,
    };
    Ok(Flow {
        from,
        source,
        to,
        target,
        protocol,
        port,
    })
}

type Intent = ((NodeName, Option<NodeName>), Fate, Vec<String>);

/// What the documents intend for it, step by step.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn intend(state: &State, flow: &Flow) -> Result<Intent, Status> {
    let gone = |what: &str| {
        let help = "`weft endpoint ls` shows what there is";
        fault(
            Code::FailedPrecondition,
            format!("endpoint {}", flow.from),
            what,
            help,
        )
    };
    let sender = state.endpoints.get(&flow.from).map(|doc| &doc.value);
    let sender = sender.ok_or_else(|| gone("is gone"))?;
    let frame = frame(sender.mac.0, flow).ok_or_else(|| gone("speaks another family"))?;
    let mtu = |node: &NodeName| {
        let doc = state.nodes.get(node);
        doc.and_then(|doc| doc.value.mtu).unwrap_or(MTU)
    };
    let model = |node| Model {
        state,
        node,
        underlay_mtu: mtu(node),
    };
    let there = sender.node.clone();
    let fate = model(&there).fate(&Ingress::Endpoint(flow.from.clone()), &frame);
    let mut lines = vec![
        format!("{there}: {} sends it", flow.from),
        told(&there, &fate),
    ];
    let of_target = flow
        .target
        .as_ref()
        .and_then(|name| state.endpoints.get(name));
    let mut here = of_target.map(|doc| doc.value.node.clone());
    if let Fate::Tunnel { node, vni, .. } = &fate {
        let vtep = state
            .nodes
            .get(&there)
            .and_then(|doc| doc.value.vteps.first());
        if let Some(vtep) = vtep {
            let arrives = Ingress::Overlay {
                vtep: *vtep,
                vni: vni.get(),
            };
            lines.push(told(node, &model(node).fate(&arrives, &frame)));
        }
        here = here.or_else(|| Some(node.clone()));
    }
    Ok(((there, here), fate, lines))
}

fn told(node: &NodeName, fate: &Fate) -> String {
    match fate {
        Fate::Deliver(endpoint) => format!("{node}: delivers it to {endpoint}"),
        Fate::Tunnel { node: to, vtep, .. } => {
            format!("{node}: sends it through the tunnel to {to} ({vtep})")
        }
        Fate::Gateway(network) => format!("{node}: lets it out by the gateway of {network}"),
        Fate::Answer(_) => format!("{node}: answers it itself"),
        Fate::Ignore => format!("{node}: takes no notice of it"),
        Fate::Drop(reason) => format!("{node}: drops it ({})", reason.name()),
        Fate::Undecided => format!("{node}: a chain decides"),
    }
}

/// The flow's first packet as it leaves the sender.
fn frame(mac: [u8; 6], flow: &Flow) -> Option<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(mac, GATEWAY_MAC);
    let ip = match (flow.source, flow.to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ethernet.ipv4(a.octets(), b.octets(), 64),
        (IpAddr::V6(a), IpAddr::V6(b)) => ethernet.ipv6(a.octets(), b.octets(), 64),
        _ => return None,
    };
    let mut bytes = Vec::new();
    let payload = [0; 8];
    let written = match flow.protocol {
        6 => ip
            .tcp(40_000, flow.port, 1, 65_535)
            .syn()
            .write(&mut bytes, &payload),
        17 => ip.udp(40_000, flow.port).write(&mut bytes, &payload),
        58 => ip.icmpv6_echo_request(1, 1).write(&mut bytes, &payload),
        _ => ip.icmpv4_echo_request(1, 1).write(&mut bytes, &payload),
    };
    written.ok().map(|()| bytes)
}

async fn looks(
    shared: &Arc<Shared>,
    state: &State,
    flow: &Flow,
    nodes: &(NodeName, Option<NodeName>),
    traffic: &str,
) -> BTreeMap<NodeName, Result<Look, String>> {
    let vni = state.networks.get(&flow.network());
    let ends = [Some(&flow.from), flow.target.as_ref()];
    let asked = LookRequest {
        vni: vni.map_or(0, |doc| doc.value.vni.get()),
        to: map_address(flow.to).to_vec(),
        endpoints: ends
            .into_iter()
            .flatten()
            .map(EndpointRef::to_string)
            .collect(),
        traffic: traffic.to_owned(),
    };
    let mut looks = BTreeMap::new();
    for node in [Some(&nodes.0), nodes.1.as_ref()].into_iter().flatten() {
        if looks.contains_key(node) {
            continue;
        }
        let one = one_look(shared, state, node, asked.clone()).await;
        looks.insert(node.clone(), one);
    }
    looks
}

async fn one_look(
    shared: &Arc<Shared>,
    state: &State,
    node: &NodeName,
    asked: LookRequest,
) -> Result<Look, String> {
    let ask = async {
        if *node == shared.config.name {
            return look::look(shared, &asked).await;
        }
        connect(state, node).await?.look(asked).await
    };
    let answer = match tokio::time::timeout(PATIENCE, ask).await {
        Ok(answer) => {
            answer.map_err(|e| e.message().lines().next().unwrap_or_default().to_owned())?
        }
        Err(_) => return Err(format!("no answer within {PATIENCE:?}")),
    };
    serde_json::from_str(&answer.json).map_err(|e| e.to_string())
}

/// The line that `weft function probe` prints.
#[derive(Deserialize)]
struct Line {
    ok: bool,
    #[serde(default)]
    error: String,
}

/// Sends a probe in the sender's container; if a small one is answered, also echoes as large as the network takes.
async fn probe(
    shared: &Arc<Shared>,
    state: &State,
    flow: &Flow,
    traffic: &str,
) -> Result<Probed, Status> {
    let Some(doc) = state.endpoints.get(&flow.from) else {
        return Ok(Probed::default());
    };
    let container = ContainerRef {
        tenant: flow.from.tenant.clone(),
        container: doc.value.container.clone(),
    };
    let to = flow.to.to_string();
    let small = run(shared, &container, &[traffic, &to, "--timeout", ANSWER]).await;
    let (answered, error) = match small {
        Ok(line) => (line.ok, line.error),
        Err(why) => (false, why),
    };
    let mut only_small = false;
    if answered {
        let fits = largest(state, &flow.network(), &doc.value.node);
        let size = fits.saturating_sub(AROUND).to_string();
        let words =
            |size: &str| ["icmp", &to, "--timeout", ANSWER, "--size", size].map(str::to_owned);
        let echo = async |size: &str| {
            let words = words(size);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            run(shared, &container, &words)
                .await
                .is_ok_and(|line| line.ok)
        };
        // Who answers no small echo says nothing by its silence.
        only_small = echo("8").await && !echo(&size).await;
    }
    Ok(Probed {
        answered,
        error,
        only_small,
    })
}

/// The MTU of a network's interfaces on a node, bytes.
fn largest(state: &State, network: &NetworkRef, node: &NodeName) -> u32 {
    let (Some(spec), Some(doc)) = (state.networks.get(network), state.nodes.get(node)) else {
        return MTU;
    };
    let vtep = doc.value.vteps.first().copied();
    let vtep = vtep.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
    let underlay = doc.value.mtu.unwrap_or(MTU);
    u32::from(weft_overlay::mtu::network_mtu(&spec.value, underlay, vtep))
}

/// Runs the probe of the binary that every container has.
async fn run(
    shared: &Arc<Shared>,
    container: &ContainerRef,
    words: &[&str],
) -> Result<Line, String> {
    let line = |e: Status| e.message().lines().next().unwrap_or_default().to_owned();
    let target = Target::Unix(shared.config.socket());
    let mut own = AgentClient::connect(target)
        .await
        .map_err(|e| e.to_string())?;
    let command = ["/.weft", "function", "probe"].iter().chain(words);
    let start = ExecStart {
        container: container.to_string(),
        command: command.map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
    };
    let opening = ExecInput {
        start: Some(start),
        ..ExecInput::default()
    };
    let answer = async {
        let mut output = own
            .exec(tokio_stream::iter([opening]))
            .await
            .map_err(line)?;
        let mut text = Vec::new();
        while let Some(part) = output.message().await.map_err(line)? {
            text.extend(part.stdout);
            if part.ended {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let last = text.lines().rev().find(|line| line.starts_with('{'));
        let last = last.ok_or_else(|| "the probe said nothing".to_owned())?;
        serde_json::from_str::<Line>(last).map_err(|e| e.to_string())
    };
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(line) => line,
        Err(_) => Err(format!("the probe did not end within {PATIENCE:?}")),
    }
}
