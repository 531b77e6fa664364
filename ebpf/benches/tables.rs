//! What `from_container` takes for a packet to another node, with 1, 1,000 and 100,000 subnets and as many moved
//! endpoints in the tables, and a destination drawn anew for every packet. One line for each number of entries: the number, then
//! nanoseconds a packet of each round, the clock's own included. `cargo xtask bench overlay` reads them.

#![allow(
    clippy::expect_used,
    reason = "a measurement that cannot be made has failed"
)]

use std::net::Ipv4Addr;
use std::path::PathBuf;

use etherparse::PacketBuilder;
use weft_ebpf::abi::{
    Endpoint, EndpointKey, GATEWAY_MAC, Network, Node, NodeConfig, Port, Subnet, SubnetKey,
    VtepKey, mapped,
};
use weft_ebpf::{Datapath, Entry, OpenConfig, Tables};

const ENTRIES: [u32; 3] = [1, 1_000, 100_000];
/// Packets of a round.
const PACKETS: usize = 500;
/// Rounds, unless the first argument says otherwise.
const ROUNDS: usize = 8;
const VNI: u32 = 7;
/// The loopback, where test runs enter.
const LO: u32 = 1;
const MAC: [u8; 6] = [0x0a, 0x58, 10, 0, 0, 11];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
/// Other nodes, among whom subnets and endpoints are shared out.
const NODES: u32 = 1000;
/// Addresses of a subnet (/26); the first subnet is this node's own.
const SUBNET: u32 = 64;

struct Bed {
    datapath: Datapath,
    entries: u32,
    folder: PathBuf,
}

fn main() {
    // `cargo bench` adds a word of its own.
    let rounds = std::env::args().find_map(|word| word.parse().ok());
    let mut beds = ENTRIES.map(Bed::new);
    let mut figures = ENTRIES.map(|_| Vec::new());
    let mut random = Random(1);
    for round in 0..rounds.unwrap_or(ROUNDS) {
        for step in 0..beds.len() {
            let which = (round + step) % beds.len();
            figures[which].push(beds[which].round(&mut random));
        }
    }
    for (bed, figures) in beds.iter().zip(figures) {
        let words: Vec<String> = figures.iter().map(|ns| format!("{ns:.1}")).collect();
        println!("{} {}", bed.entries, words.join(" "));
    }
}

impl Bed {
    fn new(entries: u32) -> Bed {
        let folder = format!("bench-{}-{entries}", std::process::id());
        let folder = PathBuf::from("/sys/fs/bpf/weft-test").join(folder);
        let node = NodeConfig {
            node: 1,
            vxlan_ifindex: 99,
            vtep: mapped([192, 0, 2, 11]),
            ..NodeConfig::default()
        };
        let mut datapath = Datapath::open(&OpenConfig {
            bpf_dir: folder.clone(),
            node,
        })
        .expect("the programs are loaded: run as root");
        let filled = datapath.sync(&tables(entries)).expect("tables are filled");
        datapath.activate(&filled).expect("they are used");
        Bed {
            datapath,
            entries,
            folder,
        }
    }

    /// Mean nanoseconds of a packet. The first packets of a round only bring the program back into the caches.
    fn round(&mut self, random: &mut Random) -> f64 {
        let mut total = 0;
        for number in 0..PACKETS + PACKETS / 10 {
            let subnet = 1 + random.below(self.entries);
            let to = Ipv4Addr::from(base() + subnet * SUBNET + 1 + random.below(SUBNET / 2));
            let packet = udp(to);
            let entry = Entry {
                ifindex: LO,
                ..Entry::default()
            };
            let took = self.datapath.time("from_container", &packet, entry);
            if number >= PACKETS / 10 {
                total += took.as_nanos();
            }
        }
        total as f64 / PACKETS as f64
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Best effort: a leftover folder is named by this process and harms no later run.
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

/// 10.0.0.0
fn base() -> u32 {
    u32::from(Ipv4Addr::new(10, 0, 0, 0))
}

fn address(v4: u32) -> [u8; 16] {
    mapped(Ipv4Addr::from(v4).octets())
}

fn tables(entries: u32) -> Tables {
    let mut tables = Tables::default();
    let port = Port {
        port: 11,
        vni: VNI,
        flags: 0,
        mac: MAC,
        pad: [0; 2],
        own: [mapped(CLIENT.octets()), [0; 16]],
    };
    tables.ports.insert(LO, port);
    let network = Network {
        net4: address(base()),
        len4: 8,
        subnet_len4: 26,
        gateway4: mapped([10, 0, 0, 1]),
        mtu: 1450,
        ..Network::default()
    };
    tables.networks.insert(VNI, network);
    for node in 0..=NODES {
        let vtep = address(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + node);
        let there = Node {
            vtep,
            mtu: 1450,
            flags: 0,
        };
        tables.nodes.insert(node + 1, there);
        tables.vteps.insert(VtepKey { addr: vtep }, node + 1);
    }
    let at = |v4: u32, endpoint: Endpoint| {
        let key = EndpointKey {
            vni: VNI,
            addr: address(v4),
        };
        (key, endpoint)
    };
    let own = Endpoint {
        node: 1,
        ifindex: LO,
        port: 11,
        mac: MAC,
        flags: 0,
    };
    let subnet = |number: u32, node: u32| {
        let key = SubnetKey {
            vni: VNI,
            addr: address(base() + number * SUBNET),
        };
        (
            key,
            Subnet {
                node,
                ..Subnet::default()
            },
        )
    };
    tables.endpoints.extend([at(u32::from(CLIENT), own)]);
    tables.subnets.extend([subnet(0, 1)]);
    for number in 1..=entries {
        let node = 2 + number % NODES;
        tables.subnets.extend([subnet(number, node)]);
        // In the upper half of its subnet, where no packet goes.
        let moved = Endpoint {
            node,
            ..Endpoint::default()
        };
        tables
            .endpoints
            .extend([at(base() + number * SUBNET + SUBNET / 2 + 1, moved)]);
    }
    tables.complete_subnets();
    tables
}

fn udp(to: Ipv4Addr) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
        .ipv4(CLIENT.octets(), to.octets(), 64)
        .udp(1000, 9);
    let mut packet = Vec::new();
    builder
        .write(&mut packet, &[0; 64])
        .expect("it fits into memory");
    packet
}

/// xorshift64 (Marsaglia, Xorshift RNGs, 2003): the same destinations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) % u64::from(end)) as u32
    }
}
