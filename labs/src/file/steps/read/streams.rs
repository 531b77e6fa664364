//! `traffic`: streams that begin, and what is judged of them.

use serde::Deserialize;
use weft_overlay::ContainerRef;

use super::Reader;
use crate::file::Probe;
use crate::file::lab::duration;
use crate::file::steps::{Family, StepKind, Stream};
use crate::tables::{Value, span_of, typed};

/// Datagrams a second of a stream, without `rate`: a gap is then told to 10 ms.
const RATE: u32 = 100;

#[derive(Deserialize)]
struct StreamTable {
    name: String,
    from: Option<ContainerRef>,
    to: Option<String>,
    family: Option<Family>,
    traffic: Option<String>,
    rate: Option<u32>,
    duration: Option<String>,
    lost: Option<u64>,
    gap: Option<String>,
}

impl Reader<'_> {
    pub(super) fn stream(&mut self, value: &Value<'_>) -> Option<StepKind> {
        let table: StreamTable = typed(value, "traffic", self.mistakes)?;
        let begins = table.from.is_some();
        let begin = [
            ("from", table.from.is_some()),
            ("to", table.to.is_some()),
            ("traffic", table.traffic.is_some()),
            ("duration", table.duration.is_some()),
            ("rate", table.rate.is_some()),
            ("family", table.family.is_some()),
        ];
        let judge = [("lost", table.lost.is_some()), ("gap", table.gap.is_some())];
        let mut good = true;
        if begins {
            for (key, given) in &begin[..4] {
                if !given {
                    good = false;
                    self.refuse(
                        value.span(),
                        format!("traffic: `{key}` is missing"),
                        format!("add the key `{key}`: a stream that begins needs it"),
                    );
                }
            }
        }
        let strange: &[(&str, bool)] = if begins { &judge } else { &begin };
        for (key, _) in strange.iter().filter(|(_, given)| *given) {
            good = false;
            self.refuse(
                span_of(value, key),
                format!("traffic: `{key}` does not belong here"),
                "one step begins a stream with `from`, a later one judges it by `lost` and `gap`",
            );
        }
        if !begins && !judge.iter().any(|(_, given)| *given) {
            good = false;
            self.refuse(
                value.span(),
                "traffic: nothing to begin and nothing to judge",
                "begin with from, to, traffic and duration; judge with lost or gap",
            );
        }
        if !begins {
            self.known.stream(&table.name, value, self.mistakes);
            return good.then_some(StepKind::Judge {
                name: table.name,
                lost: table.lost,
                gap: table.gap.as_deref().and_then(duration),
            });
        }
        if self.known.streams.contains(&table.name) {
            self.refuse(
                span_of(value, "name"),
                format!("traffic: stream {} begins twice", table.name),
                "give it another name",
            );
        }
        self.known.streams.push(table.name.clone());
        let from = table.from?;
        self.known.container(&from, value, "from", self.mistakes);
        let to = table
            .to
            .and_then(|to| self.target(&to, table.family, value));
        let traffic = table.traffic?.parse().ok()?;
        if !matches!(traffic, Probe::Udp(_)) {
            self.refuse(
                span_of(value, "traffic"),
                "traffic: a stream is of datagrams",
                "write udp/PORT",
            );
        }
        Some(StepKind::Stream(Stream {
            name: table.name,
            from,
            to: to?,
            traffic,
            rate: table.rate.unwrap_or(RATE),
            duration: table.duration.as_deref().and_then(duration)?,
        }))
    }
}
