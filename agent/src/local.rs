//! What this node must remember itself, so that a restart of anything changes nothing: its cluster, which
//! ports and addresses its containers have, which chain versions it classifies.
//!
//! Written and fsynced before the world is changed accordingly. Port ids only grow.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_ebpf_abi::PORT_ID_MAX;
use weft_overlay::{
    ContainerRef, EndpointName, EndpointRef, InterfaceName, Mac, NetworkRef, PortId, Vni,
};

/// Format of the file.
const FORMAT: u32 = 1;
/// Its name in the state directory.
const FILE: &str = "node.json";

/// A node's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalState {
    /// Format of the file.
    pub format: u32,
    /// What tells this memory from that of another node of the same name; made before the node
    /// registers, never changed.
    #[serde(default)]
    pub uid: String,
    /// The cluster that the node belongs to, once it is registered: a store of another one, or an
    /// empty one, proves nothing about this node's containers.
    #[serde(default)]
    pub cluster: Option<String>,
    /// The next port id.
    pub next_port: u32,
    /// The containers that have something here.
    #[serde(default)]
    pub containers: BTreeMap<ContainerRef, LocalContainer>,
    /// `tenant/chain` -> the version that this node classifies by.
    #[serde(default)]
    pub classified: BTreeMap<String, u64>,
    /// The networks' gateways that this node has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gateways: BTreeMap<NetworkRef, LocalGateway>,
    /// Whether this node passed on packets of IPv4 and of IPv6 before it had gateways; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_on: Option<[bool; 2]>,
}

impl Default for LocalState {
    fn default() -> Self {
        Self {
            format: FORMAT,
            uid: String::new(),
            cluster: None,
            next_port: 1,
            containers: BTreeMap::new(),
            classified: BTreeMap::new(),
            gateways: BTreeMap::new(),
            passed_on: None,
        }
    }
}

/// A network's gateway on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalGateway {
    /// Its number: names of devices and transit addresses follow from it.
    pub index: u16,
    /// The network's number: another one of its name is another network.
    pub vni: Vni,
    /// The datapath's end.
    pub port: PortId,
}

/// A container's life on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalContainer {
    /// The spec's uid that it was made from.
    pub uid: String,
    /// Its interfaces, in order.
    pub interfaces: Vec<LocalInterface>,
    /// How often its process was started again.
    #[serde(default)]
    pub restarts: u32,
    /// How often in a row it ended soon after its start: what the pause before the next one grows with.
    #[serde(default)]
    pub streak: u32,
    /// When its process was last started, Unix ms.
    #[serde(default)]
    pub started: Option<u64>,
    /// Where its interfaces are, if not in a container of this node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<String>,
    /// Whether its tap device was made here, and goes with it.
    #[serde(default)]
    pub made_tap: bool,
    /// How it ended, when it is not to be started again by itself.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// Why a container stays down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Exit code, or 128 + signal.
    pub exit: Option<i32>,
    /// The user stopped it: started again when the spec says so.
    pub stopped: bool,
    /// What went wrong.
    #[serde(default)]
    pub message: Option<String>,
}

/// An interface of a container here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalInterface {
    /// Its name inside.
    pub interface: InterfaceName,
    /// The endpoint it is.
    pub endpoint: EndpointName,
    /// Its network.
    pub network: NetworkRef,
    /// The network's VNI.
    pub vni: Vni,
    /// Its addresses; none for a hop's.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its port.
    pub port: PortId,
    /// Whether it is a hop's.
    pub hop: bool,
    /// The tap device that it is, instead of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<InterfaceName>,
}

impl LocalInterface {
    /// The host end's name: `wv` and the port id, or the tap device.
    pub fn host_name(&self) -> String {
        match &self.tap {
            Some(tap) => tap.to_string(),
            None => format!("wv{:06x}", self.port.0),
        }
    }
    /// The endpoint in full.
    pub fn endpoint_ref(&self) -> EndpointRef {
        EndpointRef {
            tenant: self.network.tenant.clone(),
            network: self.network.network.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

impl LocalState {
    /// Every interface here, with its container.
    pub fn interfaces(&self) -> impl Iterator<Item = (&ContainerRef, &LocalInterface)> {
        self.containers
            .iter()
            .flat_map(|(c, l)| l.interfaces.iter().map(move |i| (c, i)))
    }

    /// The interface with this port.
    pub fn by_port(&self, port: u32) -> Option<(&ContainerRef, &LocalInterface)> {
        self.interfaces().find(|(_, i)| i.port.0 == port)
    }

    /// Leaves out the ports of devices that exist: a memory that was lost or is an older one gave them to others.
    pub fn pass_over<'a>(&mut self, devices: impl Iterator<Item = &'a str>) {
        let port = |name: &str| u32::from_str_radix(name.strip_prefix("wv")?, 16).ok();
        let last = devices.filter_map(port).max().unwrap_or(0);
        self.next_port = self.next_port.max(last.saturating_add(1));
    }

    /// Takes the next port id; `None` when all 2^24-1 were used.
    pub fn take_port(&mut self) -> Option<PortId> {
        let port = self.next_port;
        if port > PORT_ID_MAX {
            return None;
        }
        self.next_port += 1;
        Some(PortId(port))
    }
}

/// Why the memory could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The file could not be read or written.
    #[error(
        "node state {path}: {source}\nhelp: check that the state directory exists, is writable and not full"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file is not a node's memory.
    #[error(
        "node state {path}: {cause}\nhelp: it was written by another version or damaged; restore it; if it is lost, move it away: the node comes back by its name and makes its containers anew"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// Makes a directory for root alone, whatever the umask. One that is there already and is a node's (it has the file
/// `mark`), or empty as a service manager makes it, is closed to others too; any other folder that an operator names
/// stays as it is.
pub fn private_folder(dir: &Path, mark: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if dir.join(mark).exists() || fs::read_dir(dir)?.next().is_none() {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The file that holds the memory.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    state: LocalState,
}

impl LocalFile {
    /// Reads the memory, or begins one when there is no file.
    pub fn open(state_dir: &Path) -> Result<LocalFile, LocalError> {
        let path = state_dir.join(FILE);
        let io = |source| LocalError::Io {
            path: path.clone(),
            source,
        };
        private_folder(state_dir, FILE).map_err(io)?;
        let state = match fs::read(&path) {
            Ok(text) => {
                let format = |cause: String| LocalError::Format {
                    path: path.clone(),
                    cause,
                };
                let state: LocalState =
                    serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
                if state.format != FORMAT {
                    return Err(format(format!("format {} is not {FORMAT}", state.format)));
                }
                state
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => LocalState::default(),
            Err(e) => return Err(io(e)),
        };
        Ok(LocalFile { path, state })
    }

    /// What is remembered.
    pub fn get(&self) -> &LocalState {
        &self.state
    }

    /// Changes the memory; it is on disk when this returns. On an error nothing is changed.
    pub fn change<T>(
        &mut self,
        change: impl FnOnce(&mut LocalState) -> T,
    ) -> Result<T, LocalError> {
        let mut next = self.state.clone();
        let result = change(&mut next);
        if next != self.state {
            self.write(&next).map_err(|source| LocalError::Io {
                path: self.path.clone(),
                source,
            })?;
            self.state = next;
        }
        Ok(result)
    }

    fn write(&self, state: &LocalState) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        // One that a crash left may have been made by an earlier version.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec_pretty(state)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        match self.path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_never_given_twice_even_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = LocalFile::open(dir.path()).unwrap();
        let first = file.change(LocalState::take_port).unwrap();
        let mut again = LocalFile::open(dir.path()).unwrap();
        assert_eq!(again.get(), file.get());
        let second = again.change(LocalState::take_port).unwrap();
        assert_eq!((first, second), (Some(PortId(1)), Some(PortId(2))));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_memory_is_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let open = dir.path().join("made-by-a-service-manager");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        for state in [dir.path().join("deep/state"), open] {
            let mut file = LocalFile::open(&state).unwrap();
            fs::write(state.join("node.json.new"), "left by a crash").unwrap();
            file.change(LocalState::take_port).unwrap();
            let modes = (mode(&state), mode(&state.join("node.json")));
            assert_eq!(modes, (0o700, 0o600), "{}", state.display());
            // As an earlier version left it.
            fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
            LocalFile::open(&state).unwrap();
            assert_eq!(mode(&state), 0o700, "{}", state.display());
        }
        // Not a node's: `--state-dir /srv` must not close it to everybody else.
        LocalFile::open(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn ports_of_devices_that_exist_are_passed_over() {
        let mut state = LocalState::default();
        state.pass_over(["eth0", "wv00000a", "weft-vxlan", "wv000003"].into_iter());
        assert_eq!(state.take_port(), Some(PortId(11)));
        state.pass_over(["wv000003"].into_iter());
        assert_eq!(state.take_port(), Some(PortId(12)));
    }

    #[test]
    fn ports_run_out_instead_of_wrapping() {
        let mut state = LocalState {
            next_port: PORT_ID_MAX,
            ..LocalState::default()
        };
        assert_eq!(state.take_port(), Some(PortId(PORT_ID_MAX)));
        assert_eq!(state.take_port(), None);
    }

    #[test]
    fn a_damaged_file_is_refused_with_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.json"), b"{").unwrap();
        let text = LocalFile::open(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("node.json") && text.contains("help: "),
            "{text}"
        );
    }
}
