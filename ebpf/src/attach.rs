//! Programs onto interfaces. From Linux 6.6 by TCX, whose link is pinned by interface index and outlives
//! this process; before, by a clsact filter, which lives with the interface.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program,
};
use aya::util::KernelVersion;

use crate::datapath::{Datapath, FROM_CONTAINER, FROM_OVERLAY};
use crate::error::Error;

/// Whether this kernel has TCX.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
}

impl Datapath {
    /// `from_overlay` onto the VXLAN device.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses.
    pub fn attach_overlay(&mut self, ifindex: u32) -> Result<(), Error> {
        self.attach(ifindex, FROM_OVERLAY)
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
        if has_tcx() {
            for pin in self.pins_of(ifindex) {
                remove(&pin, ifindex)?;
            }
            return Ok(());
        }
        if let Ok(name) = name_of(ifindex) {
            for program in [FROM_CONTAINER, FROM_OVERLAY] {
                // No filter of that name is what we want.
                let _absent = qdisc_detach_program(&name, TcAttachType::Ingress, program);
            }
        }
        Ok(())
    }

    /// Interfaces that carry this binary's programs: those attached, less those whose pin somebody removed.
    pub fn attached(&mut self) -> BTreeSet<u32> {
        if has_tcx() {
            let kept: BTreeSet<u32> = self
                .attached
                .iter()
                .copied()
                .filter(|&ifindex| !self.pins_of(ifindex).is_empty())
                .collect();
            self.attached = kept;
        }
        self.attached.retain(|&ifindex| name_of(ifindex).is_ok());
        self.attached.clone()
    }

    fn pins_of(&self, ifindex: u32) -> Vec<PathBuf> {
        [FROM_CONTAINER, FROM_OVERLAY]
            .iter()
            .map(|program| pin_path(&self.dir, ifindex, program))
            .filter(|pin| pin.exists())
            .collect()
    }

    fn attach(&mut self, ifindex: u32, program: &'static str) -> Result<(), Error> {
        let name = name_of(ifindex)?;
        if has_tcx() {
            let pin = pin_path(&self.dir, ifindex, program);
            if pin.exists() {
                if self.attached.contains(&ifindex) {
                    return Ok(());
                }
                remove(&pin, ifindex)?;
            }
            self.attach_tcx(ifindex, &name, program, &pin)?;
        } else if !self.attached.contains(&ifindex) {
            self.attach_clsact(ifindex, &name, program)?;
        }
        self.attached.insert(ifindex);
        Ok(())
    }

    fn attach_tcx(
        &mut self,
        ifindex: u32,
        name: &str,
        program: &'static str,
        pin: &Path,
    ) -> Result<(), Error> {
        let fail = |action| failed(ifindex, action);
        let loaded = self.program(program)?;
        let id = loaded
            .attach_with_options(
                name,
                TcAttachType::Ingress,
                TcAttachOptions::TcxOrder(LinkOrder::default()),
            )
            .map_err(|e| fail("attaching")(Box::new(e)))?;
        let link = loaded
            .take_link(id)
            .map_err(|e| fail("taking the link")(Box::new(e)))?;
        let link: FdLink = link
            .try_into()
            .map_err(|e| fail("taking the link")(Box::new(e)))?;
        link.pin(pin)
            .map_err(|e| fail("pinning the link")(Box::new(e)))?;
        Ok(())
    }

    /// Filters are found again by their program's name. Replacing one has a gap of a netlink round trip,
    /// which is why TCX is preferred where the kernel has it.
    fn attach_clsact(
        &mut self,
        ifindex: u32,
        name: &str,
        program: &'static str,
    ) -> Result<(), Error> {
        // It may be there already; the filter itself is what is checked.
        let _present = qdisc_add_clsact(name);
        let _absent = qdisc_detach_program(name, TcAttachType::Ingress, program);
        let loaded = self.program(program)?;
        let fail = |action| failed(ifindex, action);
        let id = loaded
            .attach_with_options(
                name,
                TcAttachType::Ingress,
                TcAttachOptions::Netlink(NlOptions::default()),
            )
            .map_err(|e| fail("attaching")(Box::new(e)))?;
        let link: SchedClassifierLink = loaded
            .take_link(id)
            .map_err(|e| fail("taking the link")(Box::new(e)))?;
        // Dropping it would take the filter off; it is to outlive this process.
        std::mem::forget(link);
        Ok(())
    }

    /// Brings every pinned link to this binary's programs in one step each; drops pins whose interface is gone.
    pub(crate) fn renew_links(&mut self, dir: &Path) -> Result<(), Error> {
        let fail = |action| {
            move |source| Error::Bpffs {
                path: dir.into(),
                action,
                source,
            }
        };
        for entry in fs::read_dir(dir).map_err(fail("listing links"))? {
            let path = entry.map_err(fail("listing links"))?.path();
            let Some((ifindex, program)) = parse_pin(&path) else {
                continue;
            };
            if self.renew(&path, program).is_ok() {
                self.attached.insert(ifindex);
            } else {
                remove(&path, ifindex)?;
            }
        }
        Ok(())
    }

    fn renew(
        &mut self,
        path: &Path,
        program: &'static str,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let link: FdLink = PinnedLink::from_pin(path)?.into();
        let loaded = self.program(program)?;
        let id = loaded.attach_to_link(link.try_into()?)?;
        // The pin keeps the link; this handle is not needed.
        drop(loaded.take_link(id)?);
        Ok(())
    }
}

fn pin_path(dir: &Path, ifindex: u32, program: &str) -> PathBuf {
    dir.join("links").join(format!("{ifindex}-{program}"))
}

fn parse_pin(path: &Path) -> Option<(u32, &'static str)> {
    let (ifindex, program) = path.file_name()?.to_str()?.split_once('-')?;
    let program = [FROM_CONTAINER, FROM_OVERLAY]
        .into_iter()
        .find(|known| *known == program)?;
    Some((ifindex.parse().ok()?, program))
}

fn name_of(ifindex: u32) -> Result<String, Error> {
    nix::net::if_::if_indextoname(ifindex)
        .map(|name| name.to_string_lossy().into_owned())
        .map_err(|errno| Error::Interface {
            ifindex,
            action: "looking up its name",
            source: errno.into(),
        })
}

fn remove(pin: &Path, ifindex: u32) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::Interface {
            ifindex,
            action: "removing the link's pin",
            source,
        }),
        _ => Ok(()),
    }
}

fn failed(
    ifindex: u32,
    action: &'static str,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error {
    move |source| Error::Link {
        ifindex,
        action,
        source,
    }
}
