//! From the links that should exist and those that do, to operations; and their application, which
//! goes on after an error and returns them all.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{DesiredLink, LinkError, LinkInfo, LinkKind, Netlink, VethSpec};

/// One step towards the desired links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOp {
    /// Take it away.
    Delete {
        /// Which.
        name: String,
    },
    /// Make it, or set right what it is set to.
    Ensure(DesiredLink),
    /// Set it up.
    SetUp {
        /// Which.
        name: String,
    },
}

/// Operations in order. Made by `plan` alone, applied by `apply` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkPlan {
    ops: Vec<LinkOp>,
}

impl LinkPlan {
    /// The operations, in order.
    pub fn ops(&self) -> &[LinkOp] {
        &self.ops
    }
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// What to do so that `desired` links, and of those that are `owned` (by name) no others, exist.
/// Deletions come first: names and UDP ports become free.
pub fn plan(
    desired: &[DesiredLink],
    observed: &[LinkInfo],
    owned: impl Fn(&str) -> bool,
) -> LinkPlan {
    let wanted: BTreeMap<&str, &DesiredLink> = desired.iter().map(|d| (d.name(), d)).collect();
    let seen: BTreeMap<&str, &LinkInfo> = observed.iter().map(|l| (l.name.as_str(), l)).collect();
    let mut ops = Vec::new();
    for (name, link) in &seen {
        let replaced = wanted
            .get(name)
            .is_some_and(|want| want.kind() != link.kind);
        if owned(name) && (replaced || !wanted.contains_key(name)) {
            ops.push(LinkOp::Delete {
                name: (*name).to_owned(),
            });
        }
    }
    for (name, want) in &wanted {
        match seen.get(name) {
            Some(link) if is_right(want, link) => {
                if !link.up {
                    ops.push(LinkOp::SetUp {
                        name: (*name).to_owned(),
                    });
                }
            }
            _ => {
                ops.push(LinkOp::Ensure((*want).clone()));
                ops.push(LinkOp::SetUp {
                    name: (*name).to_owned(),
                });
            }
        }
    }
    LinkPlan { ops }
}

/// Whether a link is what it should be, as far as this end shows.
fn is_right(want: &DesiredLink, link: &LinkInfo) -> bool {
    let mac = match want {
        DesiredLink::Vxlan(spec) => spec.mac,
        DesiredLink::Veth(spec) => spec.mac,
        DesiredLink::Bridge(_) => None,
    };
    let flags = match want {
        DesiredLink::Vxlan(spec) => Some(spec.flags()),
        _ => None,
    };
    want.kind() == link.kind
        && want.mtu().is_none_or(|mtu| mtu == link.mtu)
        && mac.is_none_or(|mac| Some(mac) == link.mac)
        && (link.kind != LinkKind::Vxlan || flags == link.vxlan)
}

/// Applies a plan; `peer_netns` says where the other end of a pair belongs (`None`: gone). Goes on
/// after an error; returns all of them.
pub async fn apply(
    netlink: &Netlink,
    plan: LinkPlan,
    peer_netns: impl Fn(&VethSpec) -> Option<Arc<OwnedFd>>,
) -> Vec<LinkError> {
    let mut errors = Vec::new();
    for op in plan.ops {
        let result = match &op {
            LinkOp::Delete { name } => netlink.delete_link(name).await,
            LinkOp::SetUp { name } => netlink.set_up(name).await,
            LinkOp::Ensure(DesiredLink::Vxlan(spec)) => netlink.ensure_vxlan(spec).await.map(drop),
            LinkOp::Ensure(DesiredLink::Bridge(name)) => {
                netlink.ensure_bridge(name).await.map(drop)
            }
            LinkOp::Ensure(DesiredLink::Veth(spec)) => match peer_netns(spec) {
                Some(netns) => ensure_port(netlink, spec, &netns).await,
                None => Err(LinkError::NoPeer {
                    link: spec.name.clone(),
                }),
            },
        };
        errors.extend(result.err());
    }
    errors
}

/// A port: a pair whose end here has nothing of the node's own to say to the container.
async fn ensure_port(
    netlink: &Netlink,
    spec: &VethSpec,
    peer_netns: &OwnedFd,
) -> Result<(), LinkError> {
    netlink.ensure_veth(spec, Some(peer_netns.as_fd())).await?;
    netlink.quiet(&spec.name).await
}
