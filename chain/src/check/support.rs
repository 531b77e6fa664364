//! What the format can say and this version's ebpf datapath cannot do. Refused, never ignored.

use super::Check;
use crate::policy::{Mode, Select};

const NOT_SUPPORTED: &str = "not supported by this version's ebpf datapath";

impl Check<'_> {
    pub(super) fn support(&mut self) {
        for (hop, spans) in self.file.hops.iter().zip(&self.file.spans.hops) {
            if hop.mode != Mode::Inline {
                let message = format!(
                    "hop {:?}: mode \"{}\" is {NOT_SUPPORTED}",
                    hop.name,
                    hop.mode.name()
                );
                self.say(
                    &spans.mode,
                    message,
                    "not supported",
                    "use mode = \"inline\", or leave the hop out",
                );
            }
            if let (Some(_), Some(span)) = (&hop.health, &spans.health) {
                let message = format!("hop {:?}: health probes are {NOT_SUPPORTED}", hop.name);
                let help =
                    "leave `health` out: an instance then serves as long as its container runs";
                self.say(span, message, "would not be carried out", help);
            }
        }
        let network = self.file.network();
        for (matching, spans) in self.file.matches.iter().zip(&self.file.spans.matches) {
            for (selector, spans) in [(&matching.from, &spans.from), (&matching.to, &spans.to)] {
                if selector.select == Select::External {
                    let message = format!("`external = true` is {NOT_SUPPORTED}");
                    self.say(
                        &spans.select,
                        message,
                        "not supported",
                        "select by labels, cidr or endpoint",
                    );
                }
                let (Some(own), Some(first)) = (&selector.network, &network) else {
                    continue;
                };
                if *own != first.network {
                    let message = format!(
                        "a chain over two networks ({} and {own}) is {NOT_SUPPORTED}",
                        first.network
                    );
                    self.say(
                        &spans.network,
                        message,
                        "another network",
                        "write one chain for each network",
                    );
                }
            }
        }
    }
}
