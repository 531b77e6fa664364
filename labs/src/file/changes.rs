//! What a link does to frames, as far as it is said: in a link's table for its whole life, in a step from then on.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::units;
use crate::diagnose::Mistakes;
use crate::relay::Impairment;
use crate::tables::{Value, span_of, typed};

/// What is said of a link; all else stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Added to each frame's way.
    pub delay: Option<Duration>,
    /// By how much the delay varies to both sides.
    pub jitter: Option<Duration>,
    /// The part of frames that is lost, 0 to 1.
    pub loss: Option<f64>,
    /// The part of frames that overtakes others, 0 to 1.
    pub reorder: Option<f64>,
    /// Bits a second; `Some(None)` takes the limit away.
    pub rate: Option<Option<u64>>,
    /// The largest packet that passes, in bytes.
    pub mtu: Option<u32>,
    /// Whether nothing passes.
    pub cut: Option<bool>,
}

#[derive(Deserialize)]
struct Words {
    delay: Option<String>,
    jitter: Option<String>,
    loss: Option<String>,
    reorder: Option<String>,
    rate: Option<String>,
    mtu: Option<u32>,
    cut: Option<bool>,
}

impl Changes {
    /// Out of a table that its shape has judged.
    pub(super) fn read(value: &Value<'_>, context: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let words: Words = typed(value, context, mistakes)?;
        let text = |word: Option<String>| word.unwrap_or_default();
        Some(Changes {
            delay: units::time(&text(words.delay)),
            jitter: units::time(&text(words.jitter)),
            loss: units::part(&text(words.loss)),
            reorder: units::part(&text(words.reorder)),
            rate: units::rate(&text(words.rate)),
            mtu: words.mtu,
            cut: words.cut,
        })
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// What a link then does.
    pub fn on(&self, before: &Impairment) -> Impairment {
        Impairment {
            delay: self.delay.unwrap_or(before.delay),
            jitter: self.jitter.unwrap_or(before.jitter),
            loss: self.loss.unwrap_or(before.loss),
            reorder: self.reorder.unwrap_or(before.reorder),
            rate: self.rate.unwrap_or(before.rate),
            mtu: self.mtu.or(before.mtu),
            cut: self.cut.unwrap_or(before.cut),
            ..before.clone()
        }
    }

    /// [`Changes::on`], if a link can do it; what it cannot is told at the key that says it.
    pub(super) fn judged_on(
        &self,
        before: &Impairment,
        value: &Value<'_>,
        context: &str,
        mistakes: &mut Mistakes,
    ) -> Impairment {
        let after = self.on(before);
        if let Some((key, cause)) = after.fault() {
            mistakes.add(
                span_of(value, key),
                format!("{context}: {cause}"),
                "this",
                "change it, or what it depends on".to_owned(),
            );
        }
        after
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: f64| format!("{}%", part * 100.0);
        let words = [
            self.delay.map(|time| format!("delay {time:?}")),
            self.jitter.map(|time| format!("jitter {time:?}")),
            self.loss.map(|part| format!("loss {}", percent(part))),
            self.reorder
                .map(|part| format!("reorder {}", percent(part))),
            self.rate.map(|rate| match rate {
                Some(rate) => format!("rate {rate} bit/s"),
                None => "no rate".to_owned(),
            }),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.cut
                .map(|cut| if cut { "cut" } else { "not cut" }.to_owned()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}
