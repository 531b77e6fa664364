//! Programs onto interfaces. What is put there outlives this process, and a process that finds its own
//! programs there leaves them alone. Before the datapath is active, only bare interfaces get a program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use weft_ebpf_abi as abi;

use crate::datapath::{Datapath, map_error};
use crate::error::Error;
use crate::programs::{FROM_CONTAINER, FROM_OVERLAY, FROM_UNDERLAY, PROGRAMS};

impl Datapath {
    /// `from_overlay` onto the VXLAN device.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses.
    pub fn attach_overlay(&mut self, ifindex: u32) -> Result<(), Error> {
        self.attach(ifindex, FROM_OVERLAY)
    }

    /// `from_underlay` onto a device of the underlay, which may carry programs of others too.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses.
    pub fn attach_underlay(&mut self, ifindex: u32) -> Result<(), Error> {
        self.attach(ifindex, FROM_UNDERLAY)
    }

    /// `from_container` onto the host end of an endpoint's veth.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses.
    pub fn attach_port(&mut self, ifindex: u32) -> Result<(), Error> {
        self.attach(ifindex, FROM_CONTAINER)
    }

    /// Takes the program off an interface; one that is gone is no error.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), Error> {
        self.attached.remove(&ifindex);
        for program in PROGRAMS {
            self.hook.take(&self.links(), ifindex, program)?;
        }
        Ok(())
    }

    /// Interfaces that carry this binary's programs: those attached, less those that are gone and those
    /// where somebody took the program off.
    pub fn attached(&mut self) -> BTreeSet<u32> {
        let mut kept = std::mem::take(&mut self.attached);
        kept.retain(|&ifindex, program| self.carries(ifindex, program));
        self.attached = kept;
        self.attached.keys().copied().collect()
    }

    /// Removes the pins of links whose interface is gone: a container that ends takes its veth with it, and
    /// nobody detaches then. How many there were.
    ///
    /// # Errors
    /// The pins cannot be listed or removed.
    pub fn sweep(&mut self) -> Result<usize, Error> {
        self.hook.sweep(&self.links())
    }

    /// Whether the interface carries this very program.
    fn carries(&self, ifindex: u32, program: &str) -> bool {
        let found = self.hook.carried(&self.links(), ifindex, program);
        found.is_ok_and(|id| id.is_some() && id == self.programs.id(program))
    }

    fn attach(&mut self, ifindex: u32, name: &'static str) -> Result<(), Error> {
        let found = self.hook.carried(&self.links(), ifindex, name)?;
        if found.is_none() || found != self.programs.id(name) {
            if found.is_some() && !self.active {
                // It forwards by filled tables, which this binary's program would not.
                return Ok(());
            }
            let links = self.links();
            let program = self.programs.get(name)?;
            self.hook.put(&links, ifindex, name, program)?;
        }
        self.attached.insert(ifindex, name);
        Ok(())
    }

    /// Brings every interface that carries programs to this binary's. One that refuses does not keep the others
    /// from it.
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        let known = self.interfaces()?;
        let mut refused = None;
        for (ifindex, program) in self.hook.carriers(&self.links(), &known)? {
            if let Err(error) = self.attach(ifindex, program) {
                refused.get_or_insert(error);
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The interfaces that the maps speak of, and which program is theirs.
    fn interfaces(&mut self) -> Result<BTreeMap<u32, &'static str>, Error> {
        let ports = self.read::<u32, abi::Port>("ports")?;
        let mut known: BTreeMap<u32, &'static str> =
            ports.into_keys().map(|i| (i, FROM_CONTAINER)).collect();
        let config = self.array::<abi::NodeConfig>("config")?;
        let config = config.get(&0, 0).map_err(map_error("config", "reading"))?;
        known.insert(config.0.vxlan_ifindex, FROM_OVERLAY);
        Ok(known)
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.dir.join("links")
    }
}
