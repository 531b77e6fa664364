//! `link` and `capture`: steps on what joins nodes.

use serde::Deserialize;
use weft_overlay::NodeName;

use super::Reader;
use crate::file::Changes;
use crate::file::links::words;
use crate::file::steps::{Capture, LinkChange, LinkState, StepKind};
use crate::tables::{Value, items_of, span_of, typed};

#[derive(Deserialize)]
struct LinkTable {
    between: Vec<NodeName>,
    state: Option<LinkState>,
    from: Option<NodeName>,
}

#[derive(Deserialize)]
struct CaptureTable {
    link: Vec<NodeName>,
    filter: String,
    present: Option<bool>,
    to: Option<NodeName>,
}

impl Reader<'_> {
    pub(super) fn link(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let LinkTable {
            between,
            state,
            from,
        } = typed(value, "link", self.mistakes)?;
        let changes = Changes::read(value, "link", self.mistakes)?;
        self.link_of(&between, value, "between");
        if let Some(node) = &from
            && !between.contains(node)
        {
            self.refuse(
                span_of(value, "from"),
                format!("link: {node} is not at it"),
                format!("it joins {}", words(&between)),
            );
        }
        if changes.is_empty() && (state.is_none() || from.is_some()) {
            self.refuse(
                value.span(),
                "link: nothing to change",
                "write state = \"down\", cut = true, delay = \"5ms\", loss = \"1%\" or the like",
            );
            return None;
        }
        // Jitter and reorder depend on a delay that the file or an earlier step has said.
        let mut told = false;
        for way in self.known.ways(&between, from.as_ref()) {
            // What is wrong before this step was told at its own place.
            let faulty = changes.on(way).fault().is_some() && way.fault().is_none();
            if faulty && !told {
                changes.judged_on(way, value, "link", self.mistakes);
            }
            told |= faulty;
            if !faulty {
                *way = changes.on(way);
            }
        }
        let change = LinkChange {
            state,
            from,
            changes,
        };
        Some(StepKind::Link { between, change })
    }

    pub(super) fn capture(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: CaptureTable = typed(value, "capture", self.mistakes)?;
        self.link_of(&table.link, value, "link");
        if let Some(node) = &table.to
            && !table.link.contains(node)
        {
            self.refuse(
                span_of(value, "to"),
                format!("capture: {node} is not at the link"),
                format!("it joins {}", words(&table.link)),
            );
        }
        Some(StepKind::Capture(Capture {
            link: table.link,
            filter: table.filter.parse().ok()?,
            present: table.present.unwrap_or(true),
            to: table.to,
        }))
    }

    /// The nodes of a step must be those of a link.
    pub(super) fn link_of(&mut self, between: &[NodeName], value: &Value<'_>, key: &str) {
        for (name, item) in between.iter().zip(items_of(value, key)) {
            self.known.node(name, item.span(), self.mistakes);
        }
        if !self.known.joined(between) {
            let names: Vec<String> = between.iter().map(|name| format!("\"{name}\"")).collect();
            self.refuse(
                span_of(value, key),
                format!("there is no link between {}", words(between)),
                format!("add [[link]] with between = [{}]", names.join(", ")),
            );
        }
    }
}
