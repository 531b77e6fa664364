//! Reading the ring buffer. There is one reader a node; whoever wants events of it asks the reader's owner.

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_ebpf_abi::TraceEvent;

use crate::datapath::{Datapath, map_error};
use crate::error::Error;
use crate::pods;

/// The one reader of trace events.
pub struct EventReader {
    ring: AsyncFd<RingBuf<MapData>>,
}

/// Another name that callers know it by.
pub type Events = EventReader;

impl Datapath {
    /// The reader of trace events; it works on a handle of its own. Needs a tokio runtime.
    ///
    /// # Errors
    /// The ring buffer cannot be opened.
    pub fn events(&mut self) -> Result<EventReader, Error> {
        let name = "events";
        let data = MapData::from_pin(self.generation.maps().join(name))
            .map_err(map_error(name, "opening"))?;
        let ring =
            RingBuf::try_from(aya::maps::Map::RingBuf(data)).map_err(map_error(name, "opening"))?;
        // SAFETY: the ring buffer owns its descriptor and gives the same one for its whole life.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| Error::Events(error.into()))?;
        Ok(EventReader { ring })
    }
}

impl EventReader {
    /// The next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The ring buffer cannot be polled.
    pub async fn next(&mut self) -> Result<TraceEvent, Error> {
        loop {
            if let Some(event) = self.take() {
                return Ok(event);
            }
            let mut ready = self.ring.readable_mut().await.map_err(Error::Events)?;
            let event = ready
                .get_inner_mut()
                .next()
                .and_then(|item| pods::read(&item));
            match event {
                Some(event) => return Ok(event),
                None => ready.clear_ready(),
            }
        }
    }

    /// An event that is there already.
    pub fn take(&mut self) -> Option<TraceEvent> {
        self.ring
            .get_mut()
            .next()
            .and_then(|item| pods::read(&item))
    }
}
