//! A relay that stands still, as a file: what is on its links and for how much longer, what its lanes have done and
//! will draw next. A relay that is started from it goes on where the other one stood.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fabric::{Fabric, PortId};
use super::spec::LinkSpec;

/// Everything but descriptors and captures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The relay's time.
    pub(crate) time: Duration,
    pub(crate) fabric: Fabric,
    /// The links that are there.
    pub(crate) links: Vec<LinkSpec>,
    /// The ends that are there.
    pub(crate) ends: Vec<Waiting>,
    /// What nodes have sent since the relay stands, in order.
    pub(crate) inbox: Vec<(PortId, Box<[u8]>)>,
}

/// What waits for a node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) port: PortId,
    /// Passed the link; the node has not taken them yet.
    pub(crate) frames: Vec<Box<[u8]>>,
    /// Frames that it never took.
    pub(crate) refused: u64,
}

impl State {
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut to = BufWriter::new(File::create(file)?);
        ciborium::into_writer(self, &mut to)?;
        to.flush()?;
        Ok(())
    }

    pub(crate) fn read(file: &Path) -> anyhow::Result<State> {
        Ok(ciborium::from_reader(BufReader::new(File::open(file)?))?)
    }
}
