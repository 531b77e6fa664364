//! The verifier: a chain file against what the tenant has. Everything that would not work, or not as
//! written, is refused here with its place, before anything is changed.
//!
//! Looks at containers as they are wanted, not at endpoints as they run: a chain is applied along with
//! the containers that serve it.
//!
//! - `support`: what the format has and this version's datapath has not.
//! - `members`: who is selected, by which interfaces; loops.
//! - `rules`: matches that hide each other, in one chain and between chains, and more rules than a table holds.

mod members;
mod rules;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use weft_overlay::documents::{ContainerSpec, DatapathKind, InterfaceSpec, Labels, NetworkSpec};
use weft_overlay::naming::{NamedInterface, name_interfaces};
use weft_overlay::{ContainerRef, NetworkRef, TenantName};

use crate::diagnostic::{Diagnostic, nearest};
use crate::file::{ChainFile, Span};
use crate::policy::{OnFailure, Policy, Select, Selector, has_all};

/// What a chain is checked against.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Every tenant.
    pub tenants: BTreeSet<TenantName>,
    /// The networks of the chain's tenant at least.
    pub networks: BTreeMap<NetworkRef, NetworkSpec>,
    /// The containers of the chain's tenant at least.
    pub containers: BTreeMap<ContainerRef, WorldContainer>,
    /// Policies in force of the tenant's other chains; the checked chain's own is passed over.
    pub others: Vec<Policy>,
}

/// What a chain asks of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorldContainer {
    /// Its labels.
    pub labels: Labels,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceSpec>,
}

impl From<&ContainerSpec> for WorldContainer {
    fn from(spec: &ContainerSpec) -> WorldContainer {
        WorldContainer {
            labels: spec.labels.clone(),
            interfaces: spec.interfaces.clone(),
        }
    }
}

/// A container of the chain's tenant.
struct Member<'w> {
    name: &'w ContainerRef,
    labels: &'w Labels,
    interfaces: Vec<NamedInterface>,
}

/// A check under way.
struct Check<'a> {
    file: &'a ChainFile,
    world: &'a World,
    members: Vec<Member<'a>>,
    found: Vec<Diagnostic>,
}

/// Checks a file. The diagnostics come in the order of the text.
pub fn check(file: &ChainFile, world: &World) -> Result<(), Vec<Diagnostic>> {
    let tenant = &file.chain.tenant;
    let members = world
        .containers
        .iter()
        .filter(|(name, _)| name.tenant == *tenant);
    let members = members.map(|(name, one)| Member {
        name,
        labels: &one.labels,
        interfaces: name_interfaces(name, &one.interfaces).unwrap_or_default(),
    });
    let mut check = Check {
        file,
        world,
        members: members.collect(),
        found: Vec::new(),
    };
    check.support();
    if world.tenants.contains(tenant) {
        check.selectors();
        check.hops();
        check.shadows();
        check.hidden_by_others();
        check.room();
    } else {
        check.unknown_tenant();
    }
    let mut found = check.found;
    found.sort_by_key(|one| (one.span.start, one.span.end));
    found.dedup();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

impl Check<'_> {
    fn say(
        &mut self,
        span: &Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.found.push(Diagnostic::new(
            &self.file.source,
            span.clone(),
            message,
            label,
            help,
        ));
    }

    fn unknown_tenant(&mut self) {
        let tenant = &self.file.chain.tenant;
        let known: Vec<&str> = self.world.tenants.iter().map(TenantName::as_str).collect();
        let help = match (
            nearest(tenant.as_str(), known.iter().copied()),
            known.is_empty(),
        ) {
            (Some(near), _) => format!("did you mean {near:?}?"),
            (None, true) => format!(
                "make it with a network: weft network create {tenant}/front --cidr 10.10.0.0/16"
            ),
            (None, false) => format!("there are {}", known.join(", ")),
        };
        let message = format!("tenant {tenant} does not exist");
        self.say(&self.file.spans.tenant, message, "unknown tenant", help);
    }

    /// Whether some hop drops what it cannot serve.
    fn drops(&self) -> bool {
        self.file
            .hops
            .iter()
            .any(|hop| hop.on_failure == OnFailure::Drop)
    }

    /// Networks exist and can carry a chain; selectors select something.
    fn selectors(&mut self) {
        for (matching, spans) in self.file.matches.iter().zip(&self.file.spans.matches) {
            for (selector, spans) in [(&matching.from, &spans.from), (&matching.to, &spans.to)] {
                let Some(name) = &selector.network else {
                    continue;
                };
                let network = NetworkRef {
                    tenant: self.file.chain.tenant.clone(),
                    network: name.clone(),
                };
                match self.world.networks.get(&network) {
                    None => self.unknown_network(&network, &spans.network),
                    Some(spec) if spec.datapath != DatapathKind::Ebpf => {
                        let message = format!(
                            "network {network} is carried by Open vSwitch: chains there are not supported by this version"
                        );
                        self.say(
                            &spans.network,
                            message,
                            "not an ebpf network",
                            "make the network with datapath = \"ebpf\"",
                        );
                    }
                    Some(spec) => self.selects(selector, spec, &network, &spans.select),
                }
            }
        }
    }

    fn unknown_network(&mut self, network: &NetworkRef, span: &Span) {
        let tenant = &network.tenant;
        let own = self
            .world
            .networks
            .keys()
            .filter(|known| known.tenant == *tenant);
        let known: Vec<&str> = own.map(|known| known.network.as_str()).collect();
        let help = match (
            nearest(network.network.as_str(), known.iter().copied()),
            known.is_empty(),
        ) {
            (Some(near), _) => format!("did you mean {near:?}?"),
            (None, true) => format!("make it: weft network create {network} --cidr 10.10.0.0/16"),
            (None, false) => format!("tenant {tenant} has {}", known.join(", ")),
        };
        self.say(
            span,
            format!("network {network} does not exist"),
            "unknown network",
            help,
        );
    }

    fn selects(
        &mut self,
        selector: &Selector,
        spec: &NetworkSpec,
        network: &NetworkRef,
        span: &Span,
    ) {
        match &selector.select {
            Select::External => {}
            Select::Cidr(net) => {
                let inside = match net {
                    ipnet::IpNet::V4(net) => spec.cidr4.is_some_and(|c| c.contains(net)),
                    ipnet::IpNet::V6(net) => spec.cidr6.is_some_and(|c| c.contains(net)),
                };
                if !inside {
                    let own = [
                        spec.cidr4.map(|c| c.to_string()),
                        spec.cidr6.map(|c| c.to_string()),
                    ];
                    let own: Vec<String> = own.into_iter().flatten().collect();
                    let message = format!("{net} is not inside of network {network}");
                    self.say(
                        span,
                        message,
                        "outside of the network",
                        format!("the network is {}", own.join(" and ")),
                    );
                }
            }
            Select::Labels(_) | Select::Endpoint(_) if !self.drops() => {}
            Select::Endpoint(name) => {
                if !self.members.iter().any(|m| m.selected(selector, network)) {
                    let all = self.members.iter().flat_map(|m| m.ordinary(network));
                    let names: Vec<&str> = all.map(|i| i.endpoint.endpoint.as_str()).collect();
                    let help = match nearest(name.as_str(), names.iter().copied()) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => {
                            "an endpoint is named as its container; `weft endpoint ls` shows all"
                                .to_owned()
                        }
                    };
                    self.say(
                        span,
                        format!("endpoint {network}/{name} does not exist"),
                        "selects nothing",
                        help,
                    );
                }
            }
            Select::Labels(labels) => {
                if !self.members.iter().any(|m| m.selected(selector, network)) {
                    let help = self.label_help(
                        labels,
                        "start the container first, or let every hop bypass on failure",
                    );
                    let message =
                        format!("no container in network {network} has {}", pairs(labels));
                    self.say(span, message, "selects nothing", help);
                }
            }
        }
    }

    /// The nearest label that a container has, else `otherwise`.
    fn label_help(&self, labels: &Labels, otherwise: &str) -> String {
        for (key, value) in labels {
            let own = self.members.iter().filter_map(|m| m.labels.get(key));
            if let Some(near) = nearest(value, own.map(String::as_str)).filter(|near| near != value)
            {
                return format!("did you mean {key} = {near:?}?");
            }
            let keys = self.members.iter().flat_map(|m| m.labels.keys());
            if let Some(near) = nearest(key, keys.map(String::as_str)).filter(|near| near != key) {
                return format!("did you mean the label {near:?}?");
            }
        }
        otherwise.to_owned()
    }
}

impl Member<'_> {
    /// Its interfaces with addresses in a network.
    fn ordinary(&self, network: &NetworkRef) -> impl Iterator<Item = &NamedInterface> {
        let in_network =
            move |i: &&NamedInterface| i.spec.network == network.network && !i.spec.hop;
        self.interfaces.iter().filter(in_network)
    }

    /// Whether a label or name selector of `network` selects one of its endpoints.
    fn selected(&self, selector: &Selector, network: &NetworkRef) -> bool {
        self.ordinary(network)
            .any(|interface| match &selector.select {
                Select::Labels(labels) => has_all(self.labels, labels),
                Select::Endpoint(name) => interface.endpoint.endpoint == *name,
                Select::Cidr(_) | Select::External => false,
            })
    }
}

/// `role=web, tier=1`
fn pairs(labels: &Labels) -> String {
    if labels.is_empty() {
        return "an address".to_owned();
    }
    let all: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    all.join(", ")
}
