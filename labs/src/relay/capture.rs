//! A link's frames in a pcapng file, with nanoseconds.
//!
//! One interface for each end: `in` when the relay read the frame there, `out` when the link let it
//! go there. So the file alone shows what was lost, and where and by how much a frame was late. Times
//! are the link's own: the moment that was asked for, on the machine's clock.
//!
//! Owns: the file and the bound of its size. Never: decides what passes; a full disk stops the
//! capture, not the link.

use std::borrow::Cow;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use serde::{Deserialize, Serialize};

use super::port::LARGEST;

/// A capture ends at this size: it is for looking, and must not fill the disk.
const LIMIT: u64 = 1 << 30;
/// Timestamps in 10^-9 s (pcapng, `if_tsresol`).
const NANOSECONDS: u8 = 9;

/// Which way a frame went, as seen from the relay: the values of pcapng's `epb_flags`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    In = 1,
    Out = 2,
}

/// How a capture goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStats {
    /// Where.
    pub file: PathBuf,
    /// Written.
    pub frames: u64,
    /// Not written any more, as the file was full or could not be written.
    pub missed: u64,
}

pub(crate) struct Capture {
    writer: PcapNgWriter<BufWriter<File>>,
    stats: CaptureStats,
    size: u64,
    /// From the relay's clock to the time of day.
    epoch: Duration,
    dirty: bool,
    failed: bool,
}

impl Capture {
    pub(crate) fn start(file: &Path, append: bool, nodes: &[String]) -> Result<Capture, String> {
        let start = || -> anyhow::Result<Capture> {
            let opened = if append {
                File::options().create(true).append(true).open(file)?
            } else {
                File::create(file)?
            };
            let size = opened.metadata()?.len();
            let mut writer = PcapNgWriter::new(BufWriter::new(opened))?;
            for node in nodes {
                let mut interface =
                    InterfaceDescriptionBlock::new(DataLink::ETHERNET, LARGEST as u32);
                interface.options = vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(node)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ];
                writer.write_block(&interface.into_block())?;
            }
            let day = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
            let own = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
            Ok(Capture {
                writer,
                stats: CaptureStats {
                    file: file.to_owned(),
                    frames: 0,
                    missed: 0,
                },
                size,
                epoch: day.saturating_sub(own),
                dirty: true,
                failed: false,
            })
        };
        start().map_err(|error| format!("capture to {}: {error:#}", file.display()))
    }

    pub(crate) fn stats(&self) -> CaptureStats {
        self.stats.clone()
    }

    pub(crate) fn write(&mut self, now: Duration, interface: u32, seen: Seen, frame: &[u8]) {
        if self.failed || self.size >= LIMIT {
            self.stats.missed += 1;
            return;
        }
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: self.epoch + now,
            original_len: frame.len() as u32,
            data: Cow::Borrowed(frame),
            options: vec![EnhancedPacketOption::Flags(seen as u32)],
        };
        match self.writer.write_block(&block.into_block()) {
            Ok(written) => {
                self.size += written as u64;
                self.stats.frames += 1;
                self.dirty = true;
            }
            Err(_) => {
                self.failed = true;
                self.stats.missed += 1;
            }
        }
    }

    /// Whether [`Capture::flush`] has something to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(crate) fn flush(&mut self) {
        use std::io::Write;
        self.dirty = false;
        self.failed |= self.writer.get_mut().flush().is_err();
    }
}
