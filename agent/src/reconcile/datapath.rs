//! Brings the maps and programs to what documents and ports say, and keeps them there.

use std::collections::BTreeMap;

use weft_overlay::PortId;
use weft_overlay::documents::NodeSpec;
use weft_overlay::keys::Key;
use weft_overlay::link::LinkInfo;

use super::Reconciler;
use super::chains::merge;
use crate::local::LocalInterface;
use crate::mirror::State;
use crate::node::{chain_of, overlay_device};
use crate::plan::desired::Write;
use crate::plan::tables::{Here, tables};

impl Reconciler {
    /// Fills the tables, then puts the programs to the devices; whether the tables are in the kernel.
    ///
    /// The tables come first: a port without its entry would drop what its container sends.
    pub(super) async fn sync_datapath(&mut self, state: &State) -> bool {
        if let Some(path) = state.blind() {
            let cause = "cannot be read and was never read before, so the datapath stays as it is; \
                         restore the document, or delete it if it is not wanted";
            self.problem(format!("document {path}"), cause);
            return false;
        }
        let links = match self.netlink.links().await {
            Ok(links) => links,
            Err(error) => {
                self.problem("links", error);
                return false;
            }
        };
        self.follow_underlay(state, &links).await;
        let mut ifindexes = self.ports(&links);
        let gateways = self.keep_gateways(state, &links).await;
        let here = Here {
            gateways: &gateways,
            name: &self.shared.config.name,
            id: self.id,
            ifindexes: &ifindexes,
            underlay_mtu: self.underlay_mtu,
        };
        let mut wanted = tables(state, self.file.get(), &here);
        let chains = self.compile_chains(state, &ifindexes);
        merge(chains, &mut wanted);
        let synced = {
            let mut datapath = self.datapath.lock();
            let filled = datapath.sync(&wanted);
            filled.and_then(|report| datapath.activate(&report).map(|()| report))
        };
        match synced {
            Ok(report) => {
                tracing::trace!(?report, "tables are in the kernel");
                self.repaired_tables(wanted, &report);
            }
            Err(error) => {
                self.problem("datapath", chain_of(&error));
                return false;
            }
        }
        self.repair_pins();
        ifindexes.extend(gateways.values().copied());
        self.attach(&ifindexes);
        self.open_gateways(&gateways, &links).await;
        self.drop_gateways(state).await;
        self.keep_overlay(&links).await;
        self.keep_underlay(&links);
        true
    }

    /// Takes over another MTU of the underlay, and says it in the node's document for its peers.
    async fn follow_underlay(&mut self, state: &State, links: &[LinkInfo]) {
        let Some(mtu) = overlay_device::least_mtu(&self.shared.config, links) else {
            return;
        };
        if mtu != self.underlay_mtu {
            tracing::info!(
                was = self.underlay_mtu,
                is = mtu,
                "the underlay has another MTU"
            );
            let config = &self.shared.config;
            let made = overlay_device::ensure(config, &self.netlink, mtu).await;
            if let Err(error) = made {
                // Tried again in the next pass.
                self.problem(error.subject, error.cause);
                return;
            }
            self.underlay_mtu = mtu;
            // Ends of pairs follow in the next pass.
            self.inspected = None;
            self.again = true;
        }
        let name = self.shared.config.name.clone();
        if let Some(doc) = state.nodes.get(&name)
            && doc.value.mtu != Some(mtu)
        {
            let spec = NodeSpec {
                mtu: Some(mtu),
                ..doc.value.clone()
            };
            let mut write = Write::default();
            write.put(&Key::NodeSpec(name), &spec, Some(doc.revision));
            self.write("MTU of the underlay", &write).await;
        }
    }

    /// The host end of each port that exists.
    fn ports(&self, links: &[LinkInfo]) -> BTreeMap<PortId, u32> {
        let by_name: BTreeMap<&str, &LinkInfo> =
            links.iter().map(|l| (l.name.as_str(), l)).collect();
        let of = |i: &LocalInterface| {
            let link = by_name.get(i.host_name().as_str())?;
            // A device that only has the name is not touched.
            (i.tap.is_none() || link.is_tap()).then_some((i.port, link.index))
        };
        self.file
            .get()
            .interfaces()
            .filter_map(|(_, i)| of(i))
            .collect()
    }

    /// Programs on every port; pins of devices that are gone away.
    fn attach(&mut self, ifindexes: &BTreeMap<PortId, u32>) {
        let attached = self.datapath.lock().attached();
        let before = std::mem::take(&mut self.attached);
        for (port, ifindex) in ifindexes {
            let there = attached.contains(ifindex);
            if !there && before.contains(port) {
                self.repaired(format!("port {port}"), "its program");
            }
            let result = if there {
                Ok(())
            } else {
                self.datapath.lock().attach_port(*ifindex)
            };
            match result {
                Ok(()) => drop(self.attached.insert(*port)),
                Err(error) => self.problem(format!("port {port}"), chain_of(&error)),
            }
        }
        let swept = self.datapath.lock().sweep();
        if let Err(error) = swept {
            self.problem("links of devices that are gone", chain_of(&error));
        }
    }

    /// The VXLAN device is there and carries its program; one that somebody deleted is made anew.
    async fn keep_overlay(&mut self, links: &[LinkInfo]) {
        let device = links.iter().find(|l| l.name == overlay_device::NAME);
        let attached = self.datapath.lock().attached();
        let lost = match device {
            Some(link) if link.index == self.overlay && !attached.contains(&link.index) => {
                "its program"
            }
            Some(link) if link.index == self.overlay && link.up => return,
            Some(link) if link.index == self.overlay => "its being up",
            _ => "the device",
        };
        let config = &self.shared.config;
        let made = overlay_device::ensure(config, &self.netlink, self.underlay_mtu).await;
        let result = made.and_then(|index| {
            let mut datapath = self.datapath.lock();
            let node = overlay_device::node_config(config, self.id, index, self.underlay.short_way);
            datapath
                .set_node(node)
                .and_then(|()| datapath.attach_overlay(index))
                .map_err(overlay_device::error)?;
            Ok(index)
        });
        match result {
            Ok(index) => {
                self.overlay = index;
                self.repaired(format!("VXLAN device {}", overlay_device::NAME), lost);
            }
            Err(error) => self.problem(error.subject, error.cause),
        }
    }
}
