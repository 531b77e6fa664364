//! What each port has of its own: its counters, and the memory of its flows where chains concern it. Made
//! before the port itself and removed after it, so the programs find them whenever they find the port.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use aya::maps::of_maps::HashOfMaps;
use aya::maps::{MapData, MapError, MapType, PerCpuHashMap, PerCpuValues};
use weft_ebpf_abi::{
    FLOWS_PER_HOP, FLOWS_PER_PORT, Flow, FlowKey, NETWORK_CHAINS, PORT_HOP, Port, PortStats,
};

use crate::datapath::{Datapath, map_error};
use crate::error::Error;
use crate::pods::P;
use crate::syscall::bpf;
use crate::tables::Tables;

/// Entries a memory has for each CPU, at least. Each CPU keeps up to 128 free ones for itself
/// (`LOCAL_FREE_TARGET` in kernel/bpf/bpf_lru_list.c); with fewer, it would evict flows of a memory that is
/// not full.
const FLOWS_PER_CPU: u32 = 256;

const FLOWS: &str = "flows";
const STATS: &str = "port_stats";

impl Datapath {
    /// Makes what the ports of `tables` lack.
    pub(crate) fn make_ports(&mut self, tables: &Tables) -> Result<(), Error> {
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, source)| map_error(STATS, "counting CPUs")(MapError::IoError(source)))?;
        let mut stats = self.stats()?;
        let present = stats.keys().collect::<Result<BTreeSet<u32>, _>>();
        let present = present.map_err(map_error(STATS, "reading"))?;
        for port in tables.ports.values().map(|p| p.port) {
            if !present.contains(&port) {
                let zero = PerCpuValues::try_from(vec![P(PortStats::default()); cpus]).map_err(
                    |source| map_error(STATS, "counting CPUs")(MapError::IoError(source)),
                )?;
                stats
                    .insert(port, zero, 0)
                    .map_err(map_error(STATS, "writing"))?;
            }
        }
        let mut flows = self.flows()?;
        let present = flows.keys().collect::<Result<BTreeSet<u32>, _>>();
        let present = present.map_err(map_error(FLOWS, "reading"))?;
        for (port, size) in remembering(tables) {
            if !present.contains(&port) {
                let size = size.max(FLOWS_PER_CPU.saturating_mul(u32::try_from(cpus).unwrap_or(1)));
                let memory = memory(size).map_err(map_error(FLOWS, "making a port's"))?;
                flows
                    .insert(port, &memory, 0)
                    .map_err(map_error(FLOWS, "writing"))?;
            }
        }
        Ok(())
    }

    /// Removes what ports had that `tables` does not hold any more.
    pub(crate) fn remove_ports(&mut self, tables: &Tables) -> Result<(), Error> {
        let ports: BTreeSet<u32> = tables.ports.values().map(|p| p.port).collect();
        let mut stats = self.stats()?;
        let keys = stats.keys().collect::<Result<Vec<u32>, _>>();
        for port in keys.map_err(map_error(STATS, "reading"))? {
            if !ports.contains(&port) {
                absent(stats.remove(&port)).map_err(map_error(STATS, "deleting"))?;
            }
        }
        let remembering = remembering(tables);
        let mut flows = self.flows()?;
        let keys = flows.keys().collect::<Result<Vec<u32>, _>>();
        for port in keys.map_err(map_error(FLOWS, "reading"))? {
            if !remembering.contains_key(&port) {
                absent(flows.remove(&port)).map_err(map_error(FLOWS, "deleting"))?;
            }
        }
        Ok(())
    }

    /// Ports that have a memory of flows.
    #[cfg(test)]
    pub(crate) fn remembering(&mut self) -> BTreeSet<u32> {
        let flows = self.flows().expect("in the object");
        flows.keys().map(|key| key.expect("it is read")).collect()
    }

    fn stats(&mut self) -> Result<PerCpuHashMap<&mut MapData, u32, P<PortStats>>, Error> {
        PerCpuHashMap::try_from(self.map(STATS)?).map_err(map_error(STATS, "opening"))
    }

    fn flows(&mut self) -> Result<HashOfMaps<&mut MapData, u32>, Error> {
        HashOfMaps::try_from(self.map(FLOWS)?).map_err(map_error(FLOWS, "opening"))
    }
}

/// The ports whose packets chains may select or carry, and how many flows each remembers.
fn remembering(tables: &Tables) -> BTreeMap<u32, u32> {
    let chained = |vni: u32| {
        let network = tables.networks.get(&vni);
        network.is_some_and(|n| n.flags & NETWORK_CHAINS != 0)
    };
    let size = |port: &Port| {
        if port.flags & PORT_HOP != 0 {
            Some((port.port, FLOWS_PER_HOP))
        } else {
            chained(port.vni).then_some((port.port, FLOWS_PER_PORT))
        }
    };
    tables.ports.values().filter_map(size).collect()
}

/// Makes the map of memories, if nothing is pinned there yet. aya would make it with a pattern that has type
/// information; Linux 6.1 then takes no memory without (`bpf_map_meta_equal` compares where a timer was looked
/// for), and memories are made without.
pub(crate) fn make_flows(object: &aya_obj::Object, pin: &Path) -> Result<(), Error> {
    /// `BPF_MAP_CREATE` of `enum bpf_cmd`, include/uapi/linux/bpf.h.
    const MAP_CREATE: libc::c_long = 0;
    /// The fields of `union bpf_attr` for it.
    #[repr(C)]
    struct MapCreate {
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        pattern: u32,
        numa_node: u32,
        name: [u8; 16],
    }
    if pin.exists() {
        return Ok(());
    }
    let missing = Error::Missing {
        kind: "map",
        name: FLOWS,
    };
    let definition = object.maps.get(FLOWS).ok_or(missing)?;
    let pattern = memory(FLOWS_PER_PORT).map_err(map_error(FLOWS, "making a port's"))?;
    let mut name = [0; 16];
    name[..FLOWS.len()].copy_from_slice(FLOWS.as_bytes());
    let attributes = MapCreate {
        kind: definition.map_type(),
        key_size: definition.key_size(),
        value_size: definition.value_size(),
        max_entries: definition.max_entries(),
        flags: definition.map_flags(),
        pattern: pattern.fd().as_fd().as_raw_fd().cast_unsigned(),
        numa_node: 0,
        name,
    };
    let fail = |source| map_error(FLOWS, "making")(MapError::IoError(source));
    let fd = bpf(MAP_CREATE, &attributes).map_err(fail)?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let map = MapData::from_fd(fd).map_err(map_error(FLOWS, "making"))?;
    map.pin(pin).map_err(|source| Error::Pin {
        program: FLOWS.into(),
        action: "pinning its map",
        source: std::io::Error::other(source),
    })
}

fn memory(size: u32) -> Result<MapData, MapError> {
    let definition = aya_obj::Map::new_from_params(
        MapType::LruHash as u32,
        size_of::<FlowKey>() as u32,
        size_of::<Flow>() as u32,
        size,
        0,
    );
    MapData::create(definition, "flows_of_port", None)
}

fn absent(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        other => other,
    }
}
