//! A datapath of its own for one test, with the network of the examples in its maps, and packets to send.
//!
//! The network: VNI 7, 10.10.0.0/16, subnets /26; node 1 is this node. Local ports: 11 = 10.10.0.11 (an
//! ordinary endpoint), 12 = 10.10.0.12, 21 and 22 = the interfaces of a hop. Node 2 leases 10.10.1.0/26.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use aya::maps::of_maps::HashOfMaps;
use etherparse::PacketBuilder;
use weft_ebpf_abi::*;

use crate::datapath::Build;
use crate::judge::Entry;
use crate::{Datapath, Hook, OpenConfig, Tables};

pub const VNI: u32 = 7;
/// The loopback's index: what `BPF_PROG_TEST_RUN` says unless told otherwise.
pub const LO: u32 = 1;
pub const CLIENT_MAC: [u8; 6] = [0x0a, 0x58, 10, 10, 0, 11];
pub const OTHER_MAC: [u8; 6] = [0x0a, 0x58, 10, 10, 0, 12];
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 11);
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 12);
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 5);

pub struct Bed {
    pub datapath: Datapath,
    pub tables: Tables,
    pub build: Build,
    dir: PathBuf,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::of(Build::own())
    }

    pub fn of(build: Build) -> Bed {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test loads BPF programs: run it as root"
        );
        let unique = format!(
            "t{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = PathBuf::from("/sys/fs/bpf/weft-test").join(unique);
        let datapath = open(&dir, build);
        let mut bed = Bed {
            datapath,
            tables: tables(),
            build,
            dir,
        };
        bed.sync();
        bed
    }

    pub fn sync(&mut self) {
        self.tables.complete_subnets();
        let filled = fill(&mut self.datapath, &self.build, &self.tables);
        let filled = filled.expect("the tables are accepted");
        self.datapath.activate(&filled).expect("it is activated");
    }

    /// Opens the same pins again, as a restarted agent would.
    pub fn reopen(&mut self) {
        self.datapath = open(&self.dir, self.build);
    }

    /// Takes the port's flow memory away.
    pub fn forget(&mut self, port: u32) {
        let map = self.datapath.map("flows").expect("in the object");
        let mut map: HashOfMaps<&mut MapData, u32> = HashOfMaps::try_from(map).unwrap();
        map.remove(&port).expect("it had one");
    }

    /// Makes the port on the loopback (where test runs enter) this one.
    pub fn enter_at(&mut self, port: Port) {
        self.tables.ports.insert(LO, port);
        self.sync();
    }

    pub fn send(&mut self, packet: &[u8]) -> (Decision, Vec<u8>) {
        self.run("from_container", packet, 0, 0, 0)
    }

    /// A packet that is to be sent as segments with so many bytes of payload each.
    pub fn send_segmented(&mut self, packet: &[u8], segment: u32) -> (Decision, Vec<u8>) {
        self.run("from_container", packet, 0, 0, segment)
    }

    pub fn arrive(&mut self, packet: &[u8], vni: u32, sender: Ipv4Addr) -> (Decision, Vec<u8>) {
        self.run("from_overlay_test", packet, vni, u32::from(sender), 0)
    }

    fn run(
        &mut self,
        name: &'static str,
        packet: &[u8],
        mark: u32,
        cb0: u32,
        segment: u32,
    ) -> (Decision, Vec<u8>) {
        let entry = Entry {
            ifindex: LO,
            mark,
            cb0,
            segment,
            ..Entry::default()
        };
        self.datapath.judge(name, packet, entry)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Best effort: a leftover pin folder is named by this process and harms no later test.
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// Fills the maps, also of a build that lacks what is new in this one.
pub fn fill(
    datapath: &mut Datapath,
    build: &Build,
    tables: &Tables,
) -> Result<crate::SyncReport, crate::Error> {
    match build.abi {
        ABI_VERSION => datapath.sync(tables),
        _ => datapath.fill(tables),
    }
}

fn open(dir: &std::path::Path, build: Build) -> Datapath {
    let node = NodeConfig {
        node: 1,
        vxlan_ifindex: 99,
        short_way_port: 4789,
        vtep: mapped([192, 0, 2, 11]),
        ..NodeConfig::default()
    };
    let config = OpenConfig {
        bpf_dir: dir.into(),
        node,
    };
    Datapath::open_build(&config, Hook::of_kernel(), build).unwrap_or_else(|error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        panic!("{text}")
    })
}

pub fn addr(v4: Ipv4Addr) -> [u8; 16] {
    mapped(v4.octets())
}

pub fn client_port() -> Port {
    Port {
        port: 11,
        vni: VNI,
        flags: 0,
        mac: CLIENT_MAC,
        pad: [0; 2],
        own: [[0; 16]; 2],
    }
}

pub fn hop_port(port: u32) -> Port {
    Port {
        port,
        vni: VNI,
        flags: PORT_HOP,
        mac: [0x0a, 0x58, 0, 0, 0, port as u8],
        pad: [0; 2],
        own: [[0; 16]; 2],
    }
}

fn tables() -> Tables {
    let mut t = Tables::default();
    let endpoint = |ifindex, port, mac| Endpoint {
        node: 1,
        ifindex,
        port,
        mac,
        flags: 0,
    };
    t.ports.insert(LO, client_port());
    t.ports.insert(
        312,
        Port {
            port: 12,
            mac: OTHER_MAC,
            ..client_port()
        },
    );
    t.endpoints.insert(
        EndpointKey {
            vni: VNI,
            addr: addr(CLIENT),
        },
        endpoint(LO, 11, CLIENT_MAC),
    );
    t.endpoints.insert(
        EndpointKey {
            vni: VNI,
            addr: addr(OTHER),
        },
        endpoint(312, 12, OTHER_MAC),
    );
    t.networks.insert(
        VNI,
        Network {
            net4: mapped([10, 10, 0, 0]),
            len4: 16,
            subnet_len4: 26,
            gateway4: mapped([10, 10, 0, 1]),
            mtu: 1450,
            ..Network::default()
        },
    );
    t.subnets.insert(
        SubnetKey {
            vni: VNI,
            addr: mapped([10, 10, 0, 0]),
        },
        Subnet {
            node: 1,
            ..Subnet::default()
        },
    );
    t.subnets.insert(
        SubnetKey {
            vni: VNI,
            addr: mapped([10, 10, 1, 0]),
        },
        Subnet {
            node: 2,
            ..Subnet::default()
        },
    );
    for (node, last) in [(1, 11), (2, 12), (3, 13)] {
        let vtep = mapped([192, 0, 2, last]);
        t.nodes.insert(
            node,
            Node {
                vtep,
                mtu: 0,
                flags: 0,
            },
        );
        t.vteps.insert(VtepKey { addr: vtep }, node);
    }
    t
}

/// A TCP segment with eight bytes of payload.
pub fn tcp(eth: ([u8; 6], [u8; 6]), ip: (Ipv4Addr, Ipv4Addr), ports: (u16, u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(eth.0, eth.1)
        .ipv4(ip.0.octets(), ip.1.octets(), 64)
        .tcp(ports.0, ports.1, 1000, 65535)
        .syn();
    let mut packet = Vec::new();
    builder.write(&mut packet, b"payload.").unwrap();
    packet
}

/// The same as UDP.
pub fn udp(eth: ([u8; 6], [u8; 6]), ip: (Ipv4Addr, Ipv4Addr), ports: (u16, u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(eth.0, eth.1)
        .ipv4(ip.0.octets(), ip.1.octets(), 64)
        .udp(ports.0, ports.1);
    let mut packet = Vec::new();
    builder.write(&mut packet, b"payload.").unwrap();
    packet
}
