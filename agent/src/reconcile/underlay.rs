//! The short way in: the program on the underlay's devices, and whether it may take anything.
//!
//! What it takes never reaches the node's own packet filter. So it takes nothing while that has rules for what comes in,
//! and they hold for all that nodes send each other; one that is added is seen in the next pass.

use std::collections::BTreeSet;

use weft_overlay::filter;
use weft_overlay::link::LinkInfo;

use super::Reconciler;
use crate::node::{chain_of, overlay_device};

/// What was found and done.
#[derive(Debug, Default)]
pub struct Underlay {
    /// Devices that carried their program in the pass before.
    carried: BTreeSet<u32>,
    /// Whether the program may take anything.
    pub short_way: bool,
}

impl Reconciler {
    /// Every device of the underlay carries its program, which knows whether it may take anything.
    pub(super) fn keep_underlay(&mut self, links: &[LinkInfo]) {
        self.follow_node_filter();
        let attached = self.datapath.lock().attached();
        let names = &self.shared.config.underlay;
        let devices = links.iter().filter(|link| names.contains(&link.name));
        let devices: Vec<(u32, String)> = devices.map(|l| (l.index, l.name.clone())).collect();
        let before = std::mem::take(&mut self.underlay.carried);
        for (index, name) in devices {
            let there = attached.contains(&index);
            if !there && before.contains(&index) {
                self.repaired(format!("underlay {name}"), "its program");
            }
            let result = match there {
                true => Ok(()),
                false => self.datapath.lock().attach_underlay(index),
            };
            match result {
                Ok(()) => drop(self.underlay.carried.insert(index)),
                Err(error) => self.problem(format!("underlay {name}"), chain_of(&error)),
            }
        }
    }

    fn follow_node_filter(&mut self) {
        let may = match filter::looks_at_what_arrives(self.netlink.netns()) {
            Ok(looks) => !looks,
            Err(error) => {
                self.problem("packet filter of the node", error);
                false
            }
        };
        if may == self.underlay.short_way {
            return;
        }
        let config = &self.shared.config;
        let node = overlay_device::node_config(config, self.id, self.overlay, may);
        let told = self.datapath.lock().set_node(node);
        match told {
            Ok(()) => {
                tracing::info!(short_way = may, "the node's packet filter was looked at");
                self.underlay.short_way = may;
            }
            Err(error) => self.problem("datapath", chain_of(&error)),
        }
    }
}
