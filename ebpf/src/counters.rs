//! What the programs counted, summed over CPUs.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap};
use weft_ebpf_abi::{Arrival, DropKey, DropReason, PortStats, TraceFilter};

use crate::datapath::{Datapath, map_error};
use crate::error::Error;
use crate::pods::P;

const BY_NETWORK: &str = "network_drops";
const ARRIVALS: &str = "arrivals";

impl Datapath {
    /// Packets dropped, by reason; reasons that never occurred are left out.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn drops(&mut self) -> Result<BTreeMap<DropReason, u64>, Error> {
        let name = "drops";
        let map: PerCpuArray<&mut MapData, u64> =
            PerCpuArray::try_from(self.map(name)?).map_err(map_error(name, "opening"))?;
        let mut drops = BTreeMap::new();
        for reason in DropReason::ALL {
            let slots = map
                .get(&(reason as u32), 0)
                .map_err(map_error(name, "reading"))?;
            let packets: u64 = slots.iter().sum();
            if packets > 0 {
                drops.insert(reason, packets);
            }
        }
        Ok(drops)
    }

    /// The same by network, as far as there was room to count so; under VNI 0 those of no network that was here.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn network_drops(&mut self) -> Result<BTreeMap<DropKey, u64>, Error> {
        let map = self.by_network()?;
        let entries = map.iter().map(|entry| {
            let (key, slots) = entry?;
            Ok((key.0, slots.iter().sum()))
        });
        let all: Result<BTreeMap<DropKey, u64>, MapError> = entries.collect();
        all.map_err(map_error(BY_NETWORK, "reading"))
    }

    /// Forgets the drops of networks that are not in `networks`: their numbers become others'.
    pub(crate) fn forget_drops(&mut self, networks: &BTreeSet<u32>) -> Result<(), Error> {
        let mut map = self.by_network()?;
        let keys: Result<Vec<_>, _> = map.keys().collect();
        for key in keys.map_err(map_error(BY_NETWORK, "reading"))? {
            if key.0.vni == 0 || networks.contains(&key.0.vni) {
                continue;
            }
            match map.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error(BY_NETWORK, "deleting")(error)),
            }
        }
        Ok(())
    }

    fn by_network(&mut self) -> Result<PerCpuHashMap<&mut MapData, P<DropKey>, u64>, Error> {
        PerCpuHashMap::try_from(self.map(BY_NETWORK)?).map_err(map_error(BY_NETWORK, "opening"))
    }

    /// How the probe of this number arrived here, or its answer; `None`: it did not, or too many came since.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn arrival(&mut self, number: u64) -> Result<Option<Arrival>, Error> {
        let map: HashMap<&mut MapData, u64, P<Arrival>> =
            HashMap::try_from(self.map(ARRIVALS)?).map_err(map_error(ARRIVALS, "opening"))?;
        noted(&map, number)
    }

    /// Counters of every port, by port id.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn port_stats(&mut self) -> Result<BTreeMap<u32, PortStats>, Error> {
        let name = "port_stats";
        let map: PerCpuHashMap<&mut MapData, u32, P<PortStats>> =
            PerCpuHashMap::try_from(self.map(name)?).map_err(map_error(name, "opening"))?;
        let mut all = BTreeMap::new();
        for entry in map.iter() {
            let (port, slots) = entry.map_err(map_error(name, "reading"))?;
            let total = slots
                .iter()
                .fold(PortStats::default(), |sum, slot| PortStats {
                    tx_packets: sum.tx_packets + slot.0.tx_packets,
                    tx_bytes: sum.tx_bytes + slot.0.tx_bytes,
                    rx_packets: sum.rx_packets + slot.0.rx_packets,
                    rx_bytes: sum.rx_bytes + slot.0.rx_bytes,
                    drops: sum.drops + slot.0.drops,
                    unremembered: sum.unremembered + slot.0.unremembered,
                });
            all.insert(port, total);
        }
        Ok(all)
    }

    /// Trace events that did not fit into the ring buffer since the maps were made.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn events_lost(&mut self) -> Result<u64, Error> {
        let name = "events_lost";
        let map: PerCpuArray<&mut MapData, u64> =
            PerCpuArray::try_from(self.map(name)?).map_err(map_error(name, "opening"))?;
        let slots = map.get(&0, 0).map_err(map_error(name, "reading"))?;
        Ok(slots.iter().sum())
    }

    /// Chooses the packets that are told about.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_trace_filter(&mut self, filter: TraceFilter) -> Result<(), Error> {
        let mut map = self.array::<TraceFilter>("trace_filter")?;
        map.set(0, P(filter), 0)
            .map_err(map_error("trace_filter", "writing"))
    }
}

/// The same of the datapath that forwards, whose pins are there, though this process has not opened it.
///
/// # Errors
/// Nothing is pinned there, or the map cannot be read.
pub fn arrival_of(bpf_dir: &Path, number: u64) -> Result<Option<Arrival>, Error> {
    let path = bpf_dir.join("active/maps").join(ARRIVALS);
    let data = MapData::from_pin(&path).map_err(|source| Error::Bpffs {
        path,
        action: "opening the map",
        source: std::io::Error::other(source),
    })?;
    let map: HashMap<MapData, u64, P<Arrival>> =
        HashMap::try_from(Map::LruHashMap(data)).map_err(map_error(ARRIVALS, "opening"))?;
    noted(&map, number)
}

fn noted(
    map: &HashMap<impl Borrow<MapData>, u64, P<Arrival>>,
    number: u64,
) -> Result<Option<Arrival>, Error> {
    match map.get(&number, 0) {
        Ok(arrival) => Ok(Some(arrival.0)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(map_error(ARRIVALS, "reading")(error)),
    }
}
