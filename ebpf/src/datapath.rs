//! Opening the datapath, in three steps whose order the types keep: `open`, `sync`, `activate`. Pinned maps of
//! the same ABI are taken over with all they hold; beside maps of another ABI or shape a new generation is
//! made, which shares what it can with that of the ABI before. Either way interfaces keep the programs that they carry until `activate`, which asks for the report
//! of a sync, so nothing is ever forwarded by tables that were not filled. An interface without a program
//! gets one at once: empty tables drop, no program lets everything pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use aya::{Ebpf, EbpfLoader};
use weft_ebpf_abi as abi;

use crate::OBJECT;
use crate::bpffs;
use crate::error::Error;
use crate::generation::Generation;
use crate::hook::Hook;
use crate::migrate;
use crate::pods::P;
use crate::ports::make_flows;
use crate::programs::Programs;
use crate::sync::SyncReport;

/// What opening needs.
#[derive(Clone, Debug)]
pub struct OpenConfig {
    /// Folder of this node's pins, e.g. `/sys/fs/bpf/weft/n1`.
    pub bpf_dir: PathBuf,
    /// What the programs must know of the node; `abi` is filled in.
    pub node: abi::NodeConfig,
}

/// What a binary brings to the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Build {
    /// Programs, and how maps are defined.
    pub(crate) object: &'static [u8],
    /// Version of what is in the maps.
    pub(crate) abi: u32,
    /// Every map that is pinned.
    pub(crate) maps: &'static [&'static str],
}

impl Build {
    /// This binary's.
    pub(crate) fn own() -> Build {
        Build {
            object: OBJECT,
            abi: abi::ABI_VERSION,
            maps: &MAPS,
        }
    }
}

/// What a datapath was opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// All maps of an earlier run.
    TakenOver,
    /// These maps of a run of the ABI before; the others are new.
    Migrated(Vec<&'static str>),
    /// New maps.
    Anew,
}

/// The programs and maps of one node.
pub struct Datapath {
    pub(crate) ebpf: Ebpf,
    pub(crate) dir: PathBuf,
    pub(crate) hook: Hook,
    pub(crate) programs: Programs,
    /// Interfaces that are known to carry this binary's programs, and which.
    pub(crate) attached: BTreeMap<u32, &'static str>,
    pub(crate) generation: Generation,
    /// Whether the interfaces were brought to this binary's programs.
    pub(crate) active: bool,
    build: Build,
    begun: Begun,
}

/// Every map that is pinned.
pub(crate) const MAPS: [&str; 22] = [
    "config",
    "ports",
    "endpoints",
    "networks",
    "subnets",
    "nodes",
    "vteps",
    "classes",
    "class_cidrs",
    "pairs",
    "stages",
    "slots",
    "positions",
    "flows",
    "drops",
    "network_drops",
    "arrivals",
    "port_stats",
    "trace_filter",
    "events",
    "events_lost",
    "decision",
];

impl Datapath {
    /// Loads the programs and takes over or makes their maps.
    ///
    /// # Errors
    /// No bpffs, no privilege, or a kernel that refuses the programs.
    pub fn open(config: &OpenConfig) -> Result<Datapath, Error> {
        Datapath::open_at(config, Hook::of_kernel())
    }

    /// The same, with the programs at this hook, which the kernel must have.
    ///
    /// # Errors
    /// As of [`Datapath::open`].
    pub fn open_at(config: &OpenConfig, hook: Hook) -> Result<Datapath, Error> {
        Datapath::open_build(config, hook, Build::own())
    }

    pub(crate) fn open_build(
        config: &OpenConfig,
        hook: Hook,
        build: Build,
    ) -> Result<Datapath, Error> {
        bpffs::ensure(&config.bpf_dir)?;
        let links = config.bpf_dir.join("links");
        fs::create_dir_all(&links).map_err(|source| Error::Bpffs {
            path: links,
            action: "making the folder",
            source,
        })?;
        let object = aya_obj::Object::parse(build.object)
            .map_err(|error| Error::Load(Box::new(aya::EbpfError::ParseError(error))))?;
        let (generation, begun) = begin(config, &build, &object)?;
        generation.make()?;
        make_flows(&object, &generation.maps().join("flows"))?;
        let mut loader = EbpfLoader::new();
        for name in build.maps {
            loader.map_pin_path(name, generation.maps().join(name));
        }
        let mut ebpf = loader
            .load(build.object)
            .map_err(|error| Error::Load(Box::new(error)))?;
        let programs = Programs::load(&mut ebpf, build.object, &generation.programs())?;
        let mut datapath = Datapath {
            ebpf,
            dir: config.bpf_dir.clone(),
            hook,
            programs,
            attached: BTreeMap::new(),
            generation,
            active: false,
            build,
            begun,
        };
        datapath.set_node(config.node)?;
        Ok(datapath)
    }

    /// Forwards by these maps from now on: brings every interface that carries a program to this binary's, then
    /// removes what another generation left. After the first time it does nothing.
    ///
    /// # Errors
    /// The kernel refuses; interfaces that were not reached keep forwarding as they did, and the next call
    /// goes on.
    pub fn activate(&mut self, _filled: &SyncReport) -> Result<(), Error> {
        if self.active {
            return Ok(());
        }
        // First, so that a start after a crash from here on takes over the maps that were filled.
        self.generation.activate()?;
        self.active = true;
        let done = self.renew();
        self.active = done.is_ok();
        done?;
        self.generation.remove_others()
    }

    /// Puts back what somebody removed of the pins by which the next run finds all this; what that was.
    ///
    /// # Errors
    /// The kernel refuses a pin.
    pub fn repin(&mut self) -> Result<Vec<String>, Error> {
        let mut lost = Vec::new();
        self.generation.make()?;
        let maps = self.generation.maps();
        for &name in self.build.maps {
            let pin = maps.join(name);
            if pin.exists() {
                continue;
            }
            let pinned = self.map(name)?.pin(&pin);
            pinned.map_err(|source| Error::Pin {
                program: name.into(),
                action: "pinning its map",
                source: std::io::Error::other(source),
            })?;
            lost.push(format!("pin of map {name}"));
        }
        let programs = self.programs.repin(&self.generation.programs())?;
        lost.extend(
            programs
                .into_iter()
                .map(|name| format!("pin of program {name}")),
        );
        if self.active && !self.generation.is_active() {
            self.generation.activate()?;
            lost.push("link to the active generation".to_owned());
        }
        Ok(lost)
    }

    /// What it was opened with.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// Tells the programs of a changed node (another VTEP, another VXLAN device).
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn set_node(&mut self, node: abi::NodeConfig) -> Result<(), Error> {
        let node = abi::NodeConfig {
            abi: self.build.abi,
            ..node
        };
        let mut map: Array<_, P<abi::NodeConfig>> = self.array("config")?;
        map.set(0, P(node), 0)
            .map_err(map_error("config", "writing"))
    }

    pub(crate) fn array<T: crate::pods::Plain>(
        &mut self,
        name: &'static str,
    ) -> Result<Array<&mut MapData, P<T>>, Error> {
        let map = self.map(name)?;
        Array::try_from(map).map_err(map_error(name, "opening"))
    }

    pub(crate) fn map(&mut self, name: &'static str) -> Result<&mut Map, Error> {
        self.ebpf
            .map_mut(name)
            .ok_or(Error::Missing { kind: "map", name })
    }
}

/// The generation to go on with.
fn begin(
    config: &OpenConfig,
    build: &Build,
    object: &aya_obj::Object,
) -> Result<(Generation, Begun), Error> {
    let old = Generation::active(&config.bpf_dir);
    let version = old.as_ref().and_then(|old| version(&old.maps()));
    if let Some(old) = &old {
        let mut maps = build.maps.iter();
        let fits = |name: &str| same_shape(object, &old.maps(), name);
        if version == Some(build.abi) && maps.all(|name| fits(name)) {
            return Ok((old.clone(), Begun::TakenOver));
        }
    }
    let new = Generation::after(&config.bpf_dir, old.as_ref())?;
    let begun = match (&old, version) {
        (Some(old), Some(version)) if version + 1 == build.abi => {
            Begun::Migrated(migrate::share(build, object, &old.maps(), &new.maps())?)
        }
        _ => Begun::Anew,
    };
    Ok((new, begun))
}

/// The ABI of pinned maps.
fn version(maps: &Path) -> Option<u32> {
    let data = MapData::from_pin(maps.join("config")).ok()?;
    let config: Array<MapData, P<abi::NodeConfig>> = Array::try_from(Map::Array(data)).ok()?;
    config.get(&0, 0).ok().map(|config| config.0.abi)
}

/// Whether the pinned map of this name is defined as in the object.
pub(crate) fn same_shape(object: &aya_obj::Object, maps: &Path, name: &str) -> bool {
    let pinned = MapData::from_pin(maps.join(name)).and_then(|data| data.info());
    let (Some(wanted), Ok(found)) = (object.maps.get(name), pinned) else {
        return false;
    };
    found
        .map_type()
        .is_ok_and(|kind| kind as u32 == wanted.map_type())
        && found.key_size() == wanted.key_size()
        && found.value_size() == wanted.value_size()
        && found.max_entries() == wanted.max_entries()
}

pub(crate) fn map_error(
    map: &'static str,
    action: &'static str,
) -> impl FnOnce(aya::maps::MapError) -> Error {
    move |source| Error::Map {
        map,
        action,
        source: Box::new(source),
    }
}
