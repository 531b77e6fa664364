//! The two places of the kernel where the programs run, behind the same verbs: what an interface
//! carries, put (in one step over what is there), take away, sweep, and which interfaces carry anything.
//!
//! Owns: which of the two this kernel has. Never: decides when a program is put.

mod clsact;
mod link;
mod tcx;

use std::collections::BTreeMap;
use std::path::Path;

use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use crate::error::Error;

/// Where programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A TCX link, pinned by interface index; from Linux 6.6.
    Tcx,
    /// A filter on the clsact queueing discipline, which lives with the interface.
    Clsact,
}

impl Hook {
    /// What this kernel has: asked, for distributions carry features to older kernels and leave them out
    /// of newer ones. Without the privilege to ask, the version must do.
    pub fn of_kernel() -> Hook {
        let answers = SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok();
        let may_ask = nix::unistd::geteuid().is_root();
        let new = KernelVersion::current().is_ok_and(|k| k >= KernelVersion::new(6, 6, 0));
        if answers || (!may_ask && new) {
            Hook::Tcx
        } else {
            Hook::Clsact
        }
    }

    /// Id of the program of this name that the interface carries; `None` when it carries none, or is gone.
    pub(crate) fn carried(
        self,
        links: &Path,
        ifindex: u32,
        program: &str,
    ) -> Result<Option<u32>, Error> {
        match self {
            Hook::Tcx => Ok(tcx::carried(links, ifindex, program)),
            Hook::Clsact => clsact::carried(ifindex, program),
        }
    }

    /// Puts the program onto the interface. One of the same name is replaced in one step: every packet meets
    /// the old one or the new one.
    pub(crate) fn put(
        self,
        links: &Path,
        ifindex: u32,
        name: &str,
        program: &mut SchedClassifier,
    ) -> Result<(), Error> {
        match self {
            Hook::Tcx => tcx::put(links, ifindex, name, program),
            Hook::Clsact => clsact::put(ifindex, name, program),
        }
    }

    /// The interfaces that carry programs of this node. Filters keep no list of theirs, so those of `known`
    /// are looked at.
    pub(crate) fn carriers(
        self,
        links: &Path,
        known: &BTreeMap<u32, &'static str>,
    ) -> Result<BTreeMap<u32, &'static str>, Error> {
        match self {
            Hook::Tcx => tcx::carriers(links),
            Hook::Clsact => {
                let mut found = BTreeMap::new();
                for (&ifindex, &program) in known {
                    if clsact::carried(ifindex, program)?.is_some() {
                        found.insert(ifindex, program);
                    }
                }
                Ok(found)
            }
        }
    }

    /// Removes what is left of interfaces that are gone; how many pins that were. Filters go with theirs.
    pub(crate) fn sweep(self, links: &Path) -> Result<usize, Error> {
        match self {
            Hook::Tcx => tcx::sweep(links),
            Hook::Clsact => Ok(0),
        }
    }

    /// Takes the program off the interface; none there is what is wanted.
    pub(crate) fn take(self, links: &Path, ifindex: u32, program: &str) -> Result<(), Error> {
        match self {
            Hook::Tcx => tcx::take(links, ifindex, program),
            Hook::Clsact => {
                clsact::take(ifindex, program);
                Ok(())
            }
        }
    }
}

/// The interface's name, which aya asks for.
fn name_of(ifindex: u32) -> Result<String, Error> {
    nix::net::if_::if_indextoname(ifindex)
        .map(|name| name.to_string_lossy().into_owned())
        .map_err(|errno| Error::Interface {
            ifindex,
            action: "looking up its name",
            source: errno.into(),
        })
}

fn failed<E>(ifindex: u32, action: &'static str) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| Error::Link {
        ifindex,
        action,
        source: source.into(),
    }
}
