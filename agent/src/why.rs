//! Why a flow does not arrive: what the documents intend for it (the model), beside what each node on its way has (its
//! look) and what was seen of a probe. The first step where they part is told, with who decided it and what to change.
//!
//! - `look`: the facts of one node about a flow. - `judge`: from facts to a verdict. Both pure.
//!
//! Never: guesses. What cannot be told apart is told as what it may be.

mod judge;
mod look;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weft_overlay::{EndpointRef, NetworkRef, NodeName};

pub use judge::{Evidence, Probed, judge};
pub use look::{Look, PortLook, Way};

/// A flow that somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who begins it.
    pub from: EndpointRef,
    /// Its address in it.
    pub source: IpAddr,
    /// Where it is to go.
    pub to: IpAddr,
    /// Whose address that is, in the sender's network.
    pub target: Option<EndpointRef>,
    /// IP protocol: 6, 17, or 1 and 58 for echo.
    pub protocol: u8,
    /// Destination port; 0 for echo.
    pub port: u16,
}

impl Flow {
    /// The sender's network.
    pub fn network(&self) -> NetworkRef {
        NetworkRef {
            tenant: self.from.tenant.clone(),
            network: self.from.network.clone(),
        }
    }
}

/// What hinders a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: it arrives and is answered.
    Arrives,
    /// Nobody in the network has the address.
    NoEndpoint,
    /// The address is of another network, which this one is kept apart from.
    Isolated,
    /// The address is in no network, and the network has no way out.
    NoRoute,
    /// The address is a node's, which no tenant reaches.
    NodeAddress,
    /// The sender does not run.
    SenderStopped,
    /// The receiver does not run.
    ReceiverStopped,
    /// A node on the way is gone.
    NodeGone,
    /// A node's agent does not answer; its datapath may be well.
    AgentSilent,
    /// The sender's own network sends nothing there: a route, an address, its own filter.
    NotSent,
    /// The sender speaks with an address or Ethernet address that is not its own.
    Spoofed,
    /// A device is missing or down.
    DeviceDown,
    /// A device has lost its program.
    ProgramMissing,
    /// A table in the kernel says something else than the documents.
    MapEntry,
    /// A node is known by an address that is not its own.
    WrongVtep,
    /// A packet filter of a node drops the tunnel's datagrams, or may.
    UnderlayFiltered,
    /// What one node sent through the tunnel does not reach the other.
    Underlay,
    /// Large packets do not pass.
    Mtu,
    /// Nobody listens at the port.
    ClosedPort,
    /// It is delivered, and not answered.
    NoAnswer,
    /// A hop of a chain has no live instance.
    NoInstance,
    /// A hop of a chain took it and did not pass it on.
    HopDrops,
    /// Dropped for another reason, which `says` names.
    Dropped,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What hinders it.
    pub cause: Cause,
    /// Where.
    pub node: Option<NodeName>,
    /// What is so, and how it is known.
    pub says: String,
    /// What to change.
    pub help: String,
}
