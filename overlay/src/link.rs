//! Links, addresses, routes and the sysctls beside them, by netlink, in our own verbs and types.
//!
//! Owns: every netlink message that weft sends. Never: decides what should exist (callers do, or
//! `plan`), never runs a program.
//!
//! Every verb is idempotent: what is already so stays so and is no error. Every error names the verb
//! and the link.
//!
//! - `types`: what is asked for and what was seen. - `error`: what can go wrong.
//! - `ensure`: devices; `change`: their properties, addresses, routes; `observe`: what exists.
//! - `container`: the inside of a container's network namespace. - `sysctl`: /proc/sys/net.
//! - `plan`: from desired and observed links to operations, and their application.

mod change;
mod container;
mod ensure;
mod error;
mod observe;
mod plan;
pub mod sysctl;
mod types;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use container::{MTU, configure_container, missing_inside};
pub use error::LinkError;
pub use plan::{LinkOp, LinkPlan, apply, plan};
pub use types::{
    AddressInfo, ContainerNet, DEFAULT4, DEFAULT6, DesiredLink, LinkInfo, LinkKind, Route,
    VethSpec, VxlanInfo, VxlanSpec,
};

use crate::netns;

/// A netlink socket in one network namespace. Cheap to clone; needs a running tokio runtime.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    netns: Arc<OwnedFd>,
}

impl Netlink {
    /// In the calling thread's namespace.
    pub fn current() -> Result<Netlink, LinkError> {
        Netlink::in_netns(netns::current()?)
    }

    /// In another namespace: the socket is opened by a thread inside it and stays there.
    pub fn in_netns(netns: impl AsFd) -> Result<Netlink, LinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| LinkError::NoRuntime)?;
        let netns = netns
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| LinkError::Socket { source })?;
        let (connection, handle, _) = netns::run_in_netns(&netns, || {
            let _inside = runtime.enter();
            rtnetlink::new_connection()
        })?
        .map_err(|source| LinkError::Socket { source })?;
        // Ends by itself when the last clone of the handle is dropped.
        runtime.spawn(connection);
        Ok(Netlink {
            handle,
            netns: Arc::new(netns),
        })
    }

    /// The namespace it speaks to.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}
