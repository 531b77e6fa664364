//! What a running relay is asked: one JSON object a line over a unix socket, one answer a line.
//!
//! Owns: the requests, their form, and the client's side. Never: acts; the loop does.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capture::CaptureStats;
use super::fabric::{Direction, LaneStats};
use super::impairment::Impairment;
use super::spec::LinkSpec;
use crate::error::LabError;

/// A relay answers between two frames; longer, and it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Changes one direction, or without one what every end sends.
    Set {
        /// Its name.
        link: String,
        /// Seen from a node.
        #[serde(default)]
        direction: Option<Direction>,
        /// In place of the one before, its cut included.
        impairment: Impairment,
    },
    /// Cuts one direction, or without one all.
    Cut {
        /// Its name.
        link: String,
        /// Seen from a node.
        #[serde(default)]
        direction: Option<Direction>,
    },
    /// Takes a cut back; the impairment stays as it was set.
    Heal {
        /// Its name.
        link: String,
        /// Seen from a node.
        #[serde(default)]
        direction: Option<Direction>,
    },
    /// Counters of one link, or of all.
    Stats {
        /// Its name.
        #[serde(default)]
        link: Option<String>,
    },
    /// Writes a link's frames to a new file, or without one no longer.
    Capture {
        /// Its name.
        link: String,
        /// pcapng.
        #[serde(default)]
        file: Option<PathBuf>,
        /// To the end of the file, as a section of its own.
        #[serde(default)]
        append: bool,
    },
    /// Joins more nodes.
    Add {
        /// What and how.
        link: LinkSpec,
    },
    /// Removes a link, its sockets and devices.
    Remove {
        /// Its name.
        link: String,
    },
    /// Closes the ends of a node that has ended: an open TAP device keeps its network alive, and with it all that the
    /// node's kernel still answers and passes on. The links and their other ends stay.
    Leave {
        /// Its name.
        node: String,
    },
    /// Lets its time stand: nothing leaves a link any more, what nodes send is kept. It goes on at [`Request::Go`], and
    /// when the client that asked for this leaves.
    Freeze,
    /// Writes all that is on the links to a file, while the relay stands.
    Save {
        /// For the spec of another relay.
        file: PathBuf,
    },
    /// Lets time go on.
    Go,
    /// Ends the relay.
    Stop,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is so from the next frame on.
    Done,
    /// In the order in which links were added.
    Stats(Vec<LinkStats>),
    /// Nothing was changed; a sentence says why.
    Error(String),
}

/// What a link has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStats {
    /// Its name.
    pub link: String,
    /// Its directions.
    pub lanes: Vec<LaneStats>,
    /// Its ends.
    pub ends: Vec<EndStats>,
    /// Its capture, if one is on.
    pub capture: Option<CaptureStats>,
}

/// What an end has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndStats {
    /// The node.
    pub node: String,
    /// Frames that had passed the link and that the node did not take: not there, down, too slow.
    pub refused: u64,
}

/// A connection to a relay.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// To the relay with this control socket.
    pub fn connect(path: &Path) -> Result<Client, LabError> {
        let connect = || {
            let (folder, name) = (path.parent(), path.file_name());
            // By way of the folder's descriptor: a socket's path may be no longer than 107 bytes (unix(7)).
            let folder = File::open(folder.unwrap_or(Path::new(".")))?;
            let name = Path::new(name.unwrap_or_default());
            let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
            let stream = UnixStream::connect(short.join(name))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(BufReader::new(stream))
        };
        Ok(Client {
            stream: connect().map_err(LabError::io("reach the relay", path))?,
            path: path.to_owned(),
        })
    }

    /// Asks, and waits for the answer; what the relay refuses is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, LabError> {
        let failed = |cause: String| {
            let help = "`weft lab inspect` tells whether the lab runs";
            LabError::failed(format!("relay at {}", self.path.display()), cause, help)
        };
        let mut line = serde_json::to_vec(request).map_err(|e| failed(e.to_string()))?;
        line.push(b'\n');
        let mut answer = String::new();
        self.stream
            .get_mut()
            .write_all(&line)
            .and_then(|()| self.stream.read_line(&mut answer))
            .map_err(|e| failed(e.to_string()))?;
        match serde_json::from_str(&answer) {
            Ok(Reply::Error(cause)) => Err(failed(cause)),
            Ok(reply) => Ok(reply),
            Err(_) if answer.is_empty() => Err(failed("it ended".to_owned())),
            Err(error) => Err(failed(format!("its answer is not understood: {error}"))),
        }
    }
}
