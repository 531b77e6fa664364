//! One probe from inside a container, by the function that is part of the binary.

use std::time::Duration;

use serde::Deserialize;
use weft_overlay::ContainerRef;

use super::address_of;
use crate::engine::Running;
use crate::file::{Probe, Target};

/// How much longer the command may take than the probe.
const SLACK: Duration = Duration::from_secs(5);

/// Who sends what to whom.
pub(super) struct Flow<'a> {
    pub(super) from: &'a ContainerRef,
    pub(super) to: &'a Target,
    pub(super) traffic: Probe,
}

/// What a probe says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    /// An answer came.
    pub(super) ok: bool,
    /// Who answered, by its own word.
    #[serde(deserialize_with = "text_or_nothing")]
    pub(super) answer: String,
    #[serde(deserialize_with = "text_or_nothing")]
    pub(super) error: String,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

/// Probes `address` from `from`. An error is one of the probe itself, not silence.
pub(super) fn send(
    running: &Running,
    from: &ContainerRef,
    traffic: Probe,
    address: &str,
    timeout: Duration,
) -> Result<Answer, String> {
    let (from, traffic) = (from.to_string(), traffic.to_string());
    let timeout_text = format!("{}ms", timeout.as_millis());
    let args = [
        "exec",
        &from,
        "--",
        "/.weft",
        "function",
        "probe",
        &traffic,
        address,
        "--timeout",
        &timeout_text,
    ];
    let output = running.nodes[0]
        .weft(&args, timeout + SLACK)
        .map_err(|e| format!("the probe in {from}: {e}"))?;
    output
        .stdout
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line.trim()).ok())
        .ok_or_else(|| format!("the probe in {from}: {}", output.words()))
}

impl Flow<'_> {
    /// Probes with the target's present address.
    pub(super) fn send(&self, running: &Running, timeout: Duration) -> Result<Answer, String> {
        let address =
            address_of(running, self.to).ok_or_else(|| format!("{} has no address", self.to))?;
        send(running, self.from, self.traffic, &address, timeout)
    }

    /// The same flow as arguments of a trace.
    pub(super) fn trace(
        &self,
        running: &Running,
        within: Duration,
    ) -> Result<crate::observe::Trace, String> {
        // A trace knows a container by its name, and one of its addresses by the address alone.
        let to = match self.to {
            Target::Family(..) => {
                address_of(running, self.to).ok_or_else(|| format!("{} has no address", self.to))?
            }
            whole => whole.to_string(),
        };
        crate::observe::Trace::start(
            &running.nodes[0],
            &self.from.to_string(),
            &to,
            &self.traffic.to_string(),
            within,
        )
    }
}

/// What to say of an answer.
pub(super) fn words(answer: &Answer) -> String {
    match (answer.ok, answer.answer.trim(), answer.error.trim()) {
        (true, "", _) => "an answer".to_owned(),
        (true, who, _) => format!("an answer from {}", who.split(' ').next().unwrap_or(who)),
        (false, _, "") => "no answer".to_owned(),
        (false, _, why) => format!("no answer ({why})"),
    }
}
