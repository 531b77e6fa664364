//! Brings the maps and programs to what documents and ports say, and keeps them there.

use std::collections::BTreeMap;

use weft_overlay::PortId;

use super::Reconciler;
use super::chains::merge;
use crate::mirror::State;
use crate::node::chain_of;
use crate::plan::tables::{Here, tables};

impl Reconciler {
    /// Fills the tables, then puts the programs to the ports; whether all of it is done.
    ///
    /// The tables come first: a port without its entry would drop what its container sends.
    pub(super) async fn sync_datapath(&mut self, state: &State) -> bool {
        let Some(ifindexes) = self.ports().await else {
            return false;
        };
        let here = Here {
            name: &self.shared.config.name,
            id: self.id,
            ifindexes: &ifindexes,
            underlay_mtu: self.underlay_mtu,
        };
        let mut wanted = tables(state, self.file.get(), &here);
        let chains = self.compile_chains(state, &ifindexes);
        merge(chains, &mut wanted);
        let synced = self.datapath.lock().sync(&wanted);
        match synced {
            Ok(report) => tracing::trace!(?report, "tables are in the kernel"),
            Err(error) => {
                self.problem("datapath", chain_of(&error));
                return false;
            }
        }
        self.attach(&ifindexes)
    }

    /// The host end of each port that exists; `None` and a problem when links cannot be read.
    async fn ports(&mut self) -> Option<BTreeMap<PortId, u32>> {
        let links = match self.netlink.links().await {
            Ok(links) => links,
            Err(error) => {
                self.problem("links", error);
                return None;
            }
        };
        let by_name: BTreeMap<String, u32> = links.into_iter().map(|l| (l.name, l.index)).collect();
        let of = |i: &crate::local::LocalInterface| Some((i.port, *by_name.get(&i.host_name())?));
        Some(
            self.file
                .get()
                .interfaces()
                .filter_map(|(_, i)| of(i))
                .collect(),
        )
    }

    fn attach(&mut self, ifindexes: &BTreeMap<PortId, u32>) -> bool {
        let attached = self.datapath.lock().attached();
        let mut errors = Vec::new();
        for (port, ifindex) in ifindexes {
            if !attached.contains(ifindex)
                && let Err(error) = self.datapath.lock().attach_port(*ifindex)
            {
                errors.push((format!("port {port}"), chain_of(&error)));
            }
        }
        let done = errors.is_empty();
        for (subject, error) in errors {
            self.problem(subject, error);
        }
        done
    }
}
