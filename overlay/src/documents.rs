//! The documents of the store, one struct each. JSON; unknown keys are errors, so that a typo in a
//! desired state is refused and never ignored. Times are Unix milliseconds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::ids::{Mac, NodeId, Vni};
use crate::names::{ContainerName, InterfaceName, NetworkName, NodeName};
use crate::publish::Publish;

/// Labels of a node, network, container or endpoint.
pub type Labels = BTreeMap<String, String>;

/// `nodes/<node>/spec`: permanent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Number, never reused.
    pub id: NodeId,
    /// Outer addresses of its tunnels.
    pub vteps: Vec<IpAddr>,
    /// `host:port` of its agent's API for other agents.
    pub api: String,
    /// MTU of its underlay, bytes: what passes a tunnel fits both of its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Labels for placement.
    #[serde(default)]
    pub labels: Labels,
}

/// `cluster`: which cluster the documents are of, and what its next node is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterDoc {
    /// Unique for each cluster; never changes.
    pub id: String,
    /// Which formats of documents may run.
    pub format: FormatRange,
    /// The next node id: ids only grow.
    pub next_node: u32,
}

/// The formats of documents that a cluster's members may write, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRange {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// `nodes/<node>/alive`: under the node's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAlive {
    /// Which machine's memory speaks: two nodes of one name differ in it.
    pub uid: String,
    /// Version of the running weft.
    pub version: String,
    /// When this run of the agent began.
    pub since: u64,
}

/// `tenants/<t>/spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// How many networks it may have; as many as it likes without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_networks: Option<u32>,
    /// How many endpoints its containers may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_endpoints: Option<u32>,
}

/// Which datapath carries a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatapathKind {
    /// weft's own BPF programs.
    #[default]
    Ebpf,
    /// An Open vSwitch bridge.
    Ovs,
}

/// What a network's endpoints may reach outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Nothing.
    #[default]
    None,
    /// Everything, behind the node's address.
    Nat,
}

/// What a tunnel does with a field that the outer header has too (RFC 2983 section 3; for the time to live RFC 3443).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Copying {
    /// Tunnel and packet have each their own.
    #[default]
    Pipe,
    /// The packet's is the tunnel's too, and what the underlay made of it is the packet's afterwards.
    Uniform,
}

impl Copying {
    /// Whether it is what networks have that ask for nothing.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// `tenants/<t>/networks/<n>/spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its VXLAN network identifier, unique in the cluster.
    pub vni: Vni,
    /// IPv4 range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr4: Option<Ipv4Net>,
    /// IPv6 range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr6: Option<Ipv6Net>,
    /// Prefix length of IPv4 subnets leased to nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_len4: Option<u8>,
    /// Prefix length of IPv6 subnets leased to nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_len6: Option<u8>,
    /// MTU of its interfaces; without it, the underlay's less the encapsulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Which datapath carries it.
    #[serde(default)]
    pub datapath: DatapathKind,
    /// What its endpoints may reach outside.
    #[serde(default)]
    pub egress: Egress,
    /// The priority (differentiated services) between packet and tunnel.
    #[serde(default, skip_serializing_if = "Copying::is_usual")]
    pub dscp: Copying,
    /// The time to live between packet and tunnel.
    #[serde(default, skip_serializing_if = "Copying::is_usual")]
    pub ttl: Copying,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
}

/// `tenants/<t>/networks/<n>/subnets/<addr>-<len>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetLease {
    /// Who leases it.
    pub node: NodeName,
    /// Since when.
    pub since: u64,
    /// Since when its node is gone; unset while the node lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<u64>,
}

/// `tenants/<t>/networks/<n>/endpoints/<endpoint>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointDoc {
    /// Unique for each life of the endpoint.
    pub uid: String,
    /// Its addresses; none for a hop's interface.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Where it is.
    pub node: NodeName,
    /// The container's labels.
    #[serde(default)]
    pub labels: Labels,
    /// The container that has it.
    pub container: ContainerName,
    /// The interface inside the container.
    pub interface: InterfaceName,
}

/// An interface that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSpec {
    /// The network, of the container's own tenant.
    pub network: NetworkName,
    /// Its name inside; `eth0`, `eth1`, ... by order without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<InterfaceName>,
    /// A fixed address instead of one from the node's subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The addresses that it had on the node from which it was moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<IpAddr>,
    /// An interface of a hop: no addresses, only steered frames.
    #[serde(default)]
    pub hop: bool,
}

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After a failure.
    OnFailure,
    /// Always, also after a reboot.
    #[default]
    Always,
}

/// Limits of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPUs, e.g. 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// `tenants/<t>/containers/<c>/spec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// Changes when the container is to be made anew.
    pub uid: String,
    /// `host`, `oci:DIR`, `archive:FILE`, ...; or a [`Foreign`](crate::foreign::Foreign) place.
    pub image: String,
    /// What it runs.
    pub command: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its interfaces, in order.
    #[serde(default)]
    pub interfaces: Vec<InterfaceSpec>,
    /// Labels, also of its endpoints.
    #[serde(default)]
    pub labels: Labels,
    /// Capabilities it keeps beyond none, without `CAP_`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// Ports that its node offers to the outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// When it is started again.
    #[serde(default)]
    pub restart: Restart,
    /// Where it runs; written by the API when the user named none.
    pub node: NodeName,
    /// False: stopped, but kept.
    #[serde(default = "yes")]
    pub running: bool,
}

fn yes() -> bool {
    true
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Being made.
    Creating,
    /// Its process runs.
    Running,
    /// Its process ended.
    Exited,
    /// It could not be started; `message` says why.
    Failed,
}

/// `tenants/<t>/containers/<c>/status`: written by the container's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerStatus {
    /// The node that says so.
    pub node: NodeName,
    /// The spec's uid that this speaks of.
    pub uid: String,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Exit code, or 128 + signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// When its process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

/// `tenants/<t>/chains/<c>/versions/<v>/instances/<hop>/<container>`: the steering block of a hop's
/// instance, allocated by its node together with `steer/<block>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceDoc {
    /// Steering block, a multiple of 4.
    pub block: u32,
    /// The container's node.
    pub node: NodeName,
    /// The endpoint of its first interface.
    pub input: crate::names::EndpointName,
    /// The endpoint of its second interface.
    pub output: crate::names::EndpointName,
}
