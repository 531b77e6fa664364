//! Making the maps hold what they should, by difference with what they really hold, so that an entry
//! somebody deleted comes back. What others point at is written first and deleted last.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData};

use crate::datapath::{Datapath, map_error};
use crate::error::Error;
use crate::pods::{P, Plain, bytes};
use crate::tables::Tables;

/// What a sync changed, entries. Only a sync makes one: it is the proof that the maps are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// Were missing.
    pub inserted: usize,
    /// Had another value.
    pub updated: usize,
    /// Were too many.
    pub deleted: usize,
}

impl SyncReport {
    pub(crate) const NOTHING: SyncReport = SyncReport {
        inserted: 0,
        updated: 0,
        deleted: 0,
    };

    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        *self != SyncReport::NOTHING
    }
}

/// Calls `$action` for every hash, in the order in which entries may be added.
macro_rules! in_order {
    ($action:ident) => {
        $action!(nodes);
        $action!(vteps);
        $action!(networks);
        $action!(subnets);
        $action!(positions);
        $action!(slots);
        $action!(stages);
        $action!(pairs);
        $action!(classes);
        $action!(endpoints);
        $action!(ports);
    };
}

/// The same, in the order in which entries may be deleted.
macro_rules! in_reverse {
    ($action:ident) => {
        $action!(ports);
        $action!(endpoints);
        $action!(classes);
        $action!(pairs);
        $action!(stages);
        $action!(slots);
        $action!(positions);
        $action!(subnets);
        $action!(networks);
        $action!(vteps);
        $action!(nodes);
    };
}

impl Datapath {
    /// Makes the maps hold exactly `tables`.
    ///
    /// # Errors
    /// The first map that the kernel would not read or write; what was written before stays, and the next
    /// call goes on from there.
    pub fn sync(&mut self, tables: &Tables) -> Result<SyncReport, Error> {
        let report = self.fill(tables)?;
        self.forget_drops(&tables.networks.keys().copied().collect())?;
        Ok(report)
    }

    /// The same without what only this ABI's maps have.
    pub(crate) fn fill(&mut self, tables: &Tables) -> Result<SyncReport, Error> {
        let observed = self.observe()?;
        let mut report = SyncReport::NOTHING;
        macro_rules! add {
            ($map:ident) => {
                self.add(stringify!($map), &tables.$map, &observed.$map, &mut report)?;
            };
        }
        macro_rules! delete {
            ($map:ident) => {
                self.delete(stringify!($map), &tables.$map, &observed.$map, &mut report)?;
            };
        }
        self.make_ports(tables)?;
        self.sync_cidrs(tables, &observed, &mut report)?;
        in_order!(add);
        in_reverse!(delete);
        self.remove_ports(tables)?;
        Ok(report)
    }

    /// What the maps hold now.
    ///
    /// # Errors
    /// A map that the kernel would not read.
    pub fn observe(&mut self) -> Result<Tables, Error> {
        let mut tables = Tables::default();
        macro_rules! read {
            ($map:ident) => {
                tables.$map = self.read(stringify!($map))?;
            };
        }
        in_order!(read);
        let name = "class_cidrs";
        let trie: LpmTrie<&mut MapData, P<weft_ebpf_abi::ClassCidrKey>, u32> =
            LpmTrie::try_from(self.map(name)?).map_err(map_error(name, "opening"))?;
        for entry in trie.iter() {
            let (key, class) = entry.map_err(map_error(name, "reading"))?;
            tables
                .class_cidrs
                .insert((key.prefix_len(), key.data().0), class);
        }
        Ok(tables)
    }

    fn hash<K: Plain, V: Plain>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, P<K>, P<V>>, Error> {
        HashMap::try_from(self.map(name)?).map_err(map_error(name, "opening"))
    }

    pub(crate) fn read<K: Plain + Ord, V: Plain>(
        &mut self,
        name: &'static str,
    ) -> Result<BTreeMap<K, V>, Error> {
        let map = self.hash::<K, V>(name)?;
        let entries = map
            .iter()
            .map(|entry| entry.map(|(key, value)| (key.0, value.0)));
        entries
            .collect::<Result<_, _>>()
            .map_err(map_error(name, "reading"))
    }

    fn add<K: Plain + Ord, V: Plain>(
        &mut self,
        name: &'static str,
        desired: &BTreeMap<K, V>,
        observed: &BTreeMap<K, V>,
        report: &mut SyncReport,
    ) -> Result<(), Error> {
        let mut map = self.hash::<K, V>(name)?;
        for (key, value) in desired {
            match observed.get(key) {
                Some(present) if bytes(present) == bytes(value) => continue,
                Some(_) => report.updated += 1,
                None => report.inserted += 1,
            }
            map.insert(P(*key), P(*value), 0)
                .map_err(map_error(name, "writing"))?;
        }
        Ok(())
    }

    fn delete<K: Plain + Ord, V: Plain>(
        &mut self,
        name: &'static str,
        desired: &BTreeMap<K, V>,
        observed: &BTreeMap<K, V>,
        report: &mut SyncReport,
    ) -> Result<(), Error> {
        let mut map = self.hash::<K, V>(name)?;
        for key in observed.keys().filter(|key| !desired.contains_key(key)) {
            match map.remove(&P(*key)) {
                Ok(()) => report.deleted += 1,
                Err(aya::maps::MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error(name, "deleting")(error)),
            }
        }
        Ok(())
    }

    fn sync_cidrs(
        &mut self,
        tables: &Tables,
        observed: &Tables,
        report: &mut SyncReport,
    ) -> Result<(), Error> {
        let name = "class_cidrs";
        let mut trie: LpmTrie<&mut MapData, P<weft_ebpf_abi::ClassCidrKey>, u32> =
            LpmTrie::try_from(self.map(name)?).map_err(map_error(name, "opening"))?;
        for ((len, key), class) in &tables.class_cidrs {
            match observed.class_cidrs.get(&(*len, *key)) {
                Some(present) if present == class => continue,
                Some(_) => report.updated += 1,
                None => report.inserted += 1,
            }
            trie.insert(&Key::new(*len, P(*key)), class, 0)
                .map_err(map_error(name, "writing"))?;
        }
        for (len, key) in observed.class_cidrs.keys() {
            if !tables.class_cidrs.contains_key(&(*len, *key)) {
                trie.remove(&Key::new(*len, P(*key)))
                    .map_err(map_error(name, "deleting"))?;
                report.deleted += 1;
            }
        }
        Ok(())
    }
}
