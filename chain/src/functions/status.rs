//! What a hop counts, in a file: written whole to another name and renamed, so that a reader never
//! sees half of it; at most every 100 ms, and once more at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::FunctionError;

/// Where a function in a container writes its status.
pub const DEFAULT_STATUS: &str = "/run/weft-function.json";
/// The shortest time between two writes.
const PACE: Duration = Duration::from_millis(100);

/// What a hop counts. Packets as the kernel hands them over: a large one counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `firewall` or `counter`.
    pub function: String,
    /// First and second interface.
    pub interfaces: [String; 2],
    /// Packets that some rule or the default let through.
    pub allowed: u64,
    /// Packets that some rule or the default denied.
    pub denied: u64,
    /// Frames that are no IP packets (ARP), let through.
    pub other: u64,
    /// Packets by what decided: `allow tcp/80`, `deny tcp/23`, `default`, ...
    pub by_rule: BTreeMap<String, u64>,
    /// Frames that came in by the first interface and left by the second.
    pub forwarded_in_to_out: u64,
    /// Frames that came in by the second interface and left by the first.
    pub forwarded_out_to_in: u64,
    /// Bytes of the former, Ethernet headers included.
    pub bytes_in_to_out: u64,
    /// Bytes of the latter.
    pub bytes_out_to_in: u64,
    /// Frames that were larger than the buffer, lost.
    pub oversize: u64,
    /// Frames that the kernel did not take, lost.
    pub send_errors: u64,
    /// Reads that failed.
    pub receive_errors: u64,
}

/// Writes a status to its file.
pub(super) struct StatusFile {
    path: PathBuf,
    written: Option<(Instant, Status)>,
}

impl StatusFile {
    pub(super) fn new(path: &Path) -> StatusFile {
        StatusFile {
            path: path.to_owned(),
            written: None,
        }
    }

    /// Writes `status` if it differs from what the file says and the last write is long enough ago;
    /// else gives how long to wait before it can be written.
    pub(super) fn keep(
        &mut self,
        status: &Status,
        now: Instant,
    ) -> Result<Option<Duration>, FunctionError> {
        if let Some((at, last)) = &self.written {
            if last == status {
                return Ok(None);
            }
            let since = now.saturating_duration_since(*at);
            if since < PACE {
                return Ok(Some(PACE - since));
            }
        }
        self.write(status, now)?;
        Ok(None)
    }

    /// Writes it now.
    pub(super) fn write(&mut self, status: &Status, now: Instant) -> Result<(), FunctionError> {
        let failed = |source| FunctionError::Status {
            file: self.path.clone(),
            source,
        };
        let beside = self.path.with_extension("json.new");
        let text = serde_json::to_string(status).map_err(|e| failed(e.into()))?;
        fs::write(&beside, text + "\n").map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)?;
        self.written = Some((now, status.clone()));
        Ok(())
    }
}
