//! The model against compiler and program: drawn documents become tables, drawn frames go through both, and the
//! fates must be equal. The sender's port is the loopback's, where the kernel lets test runs enter.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weft_ebpf::{Datapath, Entry, OpenConfig};
use weft_ebpf_abi as abi;
use weft_overlay::{NodeId, PortId};

use super::*;
use crate::local::{LocalContainer, LocalInterface, LocalState};
use crate::plan::tables::{Here, tables};

mod draw;
mod wrapped;

use draw::{Case, Documents};

const LOOPBACK: u32 = 1;
/// Host end of the gateway, where it is not the loopback.
const GATEWAY: u32 = 900;
/// 400 sets of documents with 250 frames each.
const SETS: u32 = 400;

/// A datapath for one test.
struct Bed {
    datapath: Datapath,
    dir: PathBuf,
    /// Frames that took the short way in.
    short: u32,
}

impl Bed {
    fn new() -> Bed {
        let name = format!("model-{}", std::process::id());
        let dir = PathBuf::from("/sys/fs/bpf/weft-test").join(name);
        let node = abi::NodeConfig {
            node: 1,
            vxlan_ifindex: 99,
            short_way_port: u32::from(wrapped::PORT),
            vtep: abi::mapped([192, 0, 2, 1]),
            ..abi::NodeConfig::default()
        };
        let config = OpenConfig {
            bpf_dir: dir.clone(),
            node,
        };
        let datapath =
            Datapath::open(&config).expect("this test loads BPF programs: run it as root");
        Bed {
            datapath,
            dir,
            short: 0,
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Best effort: the folder is named by this process.
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// Documents as one node has them, and the devices of its endpoints.
struct World {
    state: State,
    name: NodeName,
    underlay_mtu: u32,
    devices: BTreeMap<EndpointRef, u32>,
    /// Host end of the network's gateway.
    gateway: u32,
}

impl World {
    fn new(documents: &Documents, bed: &mut Bed) -> World {
        let (state, name) = (documents.state(), "n1".parse().unwrap());
        let mut local = LocalState::default();
        let (mut devices, mut ifindexes) = (BTreeMap::new(), BTreeMap::new());
        let here = state.endpoints.iter().filter(|(_, e)| e.value.node == name);
        for (number, (endpoint, doc)) in here.enumerate() {
            let port = PortId(10 + number as u32);
            let device = if *endpoint == documents.sender() && !documents.enters_by_gateway() {
                LOOPBACK
            } else {
                300 + number as u32
            };
            devices.insert(endpoint.clone(), device);
            ifindexes.insert(port, device);
            let network = network_of(endpoint);
            let interface = LocalInterface {
                interface: doc.value.interface.clone(),
                endpoint: endpoint.endpoint.clone(),
                vni: state.networks[&network].value.vni,
                network,
                addresses: doc.value.addresses.clone(),
                mac: doc.value.mac,
                port,
                hop: false,
                tap: None,
            };
            let record = LocalContainer {
                interfaces: vec![interface],
                ..Default::default()
            };
            let container = format!("{}/c{number}", endpoint.tenant);
            local.containers.insert(container.parse().unwrap(), record);
        }
        let gateway = if documents.enters_by_gateway() {
            LOOPBACK
        } else {
            GATEWAY
        };
        let front: NetworkRef = "red/front".parse().unwrap();
        let gateways = documents
            .has_gateway()
            .then_some((front, (PortId(99), gateway)));
        let here = Here {
            gateways: &gateways.into_iter().collect(),
            name: &name,
            id: NodeId(1),
            ifindexes: &ifindexes,
            underlay_mtu: documents.underlay_mtu,
        };
        let filled = bed.datapath.sync(&tables(&state, &local, &here)).unwrap();
        bed.datapath.activate(&filled).unwrap();
        World {
            underlay_mtu: documents.underlay_mtu,
            state,
            name,
            devices,
            gateway,
        }
    }

    /// A fate as the programs tell it: action, target, reason.
    fn told(&self, fate: &Fate) -> (u32, u32, u32) {
        match fate {
            Fate::Deliver(endpoint) => (abi::ACTION_LOCAL, self.devices[endpoint], 0),
            Fate::Tunnel { node, .. } => (abi::ACTION_TUNNEL, self.state.nodes[node].value.id.0, 0),
            Fate::Gateway(_) => (abi::ACTION_LOCAL, self.gateway, 0),
            Fate::Answer(Answer::TooBig(_)) => {
                let reason = DropReason::TooBig as u32;
                (abi::ACTION_ANSWER, LOOPBACK, reason)
            }
            Fate::Answer(_) => (abi::ACTION_ANSWER, LOOPBACK, 0),
            Fate::Ignore => (abi::ACTION_IGNORE, 0, 0),
            Fate::Drop(reason) => (abi::ACTION_DROP, 0, *reason as u32),
            Fate::Undecided => panic!("no chain was drawn"),
        }
    }

    /// What the frame is when it leaves, where the fate says so.
    fn leaves(&self, fate: &Fate, case: &Case, out: &[u8]) -> Result<(), TestCaseError> {
        let frame = &case.frame[..];
        match fate {
            Fate::Deliver(endpoint) => {
                prop_assert_eq!(&out[..6], &self.state.endpoints[endpoint].value.mac.0);
                prop_assert_eq!(&out[6..12], &GATEWAY_MAC);
                prop_assert_eq!(&out[12..14], &frame[12..14]);
                let spec = &self.state.networks[&network_of(endpoint)].value;
                let expected = match case.tunnel {
                    Some(_) => case.outer.inside(spec, frame).expect("it is delivered"),
                    None => frame[14..].to_vec(),
                };
                prop_assert_eq!(&out[14..], &expected);
            }
            Fate::Answer(answer) => {
                prop_assert_eq!(&out[..6], &frame[6..12]);
                prop_assert_eq!(&out[6..12], &GATEWAY_MAC);
                if let Answer::TooBig(fits) = answer {
                    let at = if out[12] == 8 { 14 + 26 } else { 14 + 46 };
                    let told = u16::from_be_bytes([out[at], out[at + 1]]);
                    prop_assert_eq!(u32::from(told), *fits);
                }
            }
            _ => prop_assert_eq!(out, frame),
        }
        Ok(())
    }

    fn judge(&self, bed: &mut Bed, case: &Case, entry: &Ingress) -> Result<(), TestCaseError> {
        let mut run = Entry {
            ifindex: LOOPBACK,
            ..Entry::default()
        };
        let (program, ingress) = match case.tunnel {
            None => ("from_container", entry.clone()),
            Some((vtep, vni)) => {
                (run.mark, run.cb0) = (vni, u32::from(vtep));
                let Marks { dscp, ttl } = case.outer;
                run.outer = u32::from(dscp) << 2 | u32::from(ttl) << 8;
                let vtep = IpAddr::V4(vtep);
                ("from_overlay_test", Ingress::Overlay { vtep, vni })
            }
        };
        let model = Model {
            state: &self.state,
            node: &self.name,
            underlay_mtu: self.underlay_mtu,
        };
        let expected = model.fate(&ingress, &case.frame);
        let (decision, out) = bed.datapath.judge(program, &case.frame, run);
        let found = (decision.action, decision.target, decision.reason);
        prop_assert_eq!(found, self.told(&expected), "{:?} of {:?}", expected, case);
        if let Fate::Tunnel { .. } = &expected {
            let front: NetworkRef = "red/front".parse().unwrap();
            let spec = &self.state.networks[&front].value;
            let Marks { dscp, ttl } = Marks::outside(spec, &case.frame).expect("it is sent");
            let outer = bed.datapath.outer(&case.frame, run);
            prop_assert_eq!(outer, [dscp << 2, ttl], "{:?}", case);
        }
        self.leaves(&expected, case, &out)?;
        self.short(bed, case, &expected, found)
    }

    /// The short way in says the same as the long one, or nothing.
    fn short(
        &self,
        bed: &mut Bed,
        case: &Case,
        expected: &Fate,
        found: (u32, u32, u32),
    ) -> Result<(), TestCaseError> {
        let Some((vtep, vni)) = case.tunnel else {
            return Ok(());
        };
        let entry = Entry {
            ifindex: LOOPBACK,
            ..Entry::default()
        };
        let frame = wrapped::frame(case, vtep, vni);
        let Some((decision, out)) = bed.datapath.short_way(&frame, entry) else {
            return Ok(());
        };
        bed.short += 1;
        let said = (decision.action, decision.target, decision.reason);
        prop_assert_eq!(said, found, "the short way, of {:?}", case);
        self.leaves(expected, case, &out)
    }
}

#[test]
fn the_model_agrees_with_compiler_and_program() {
    let bed = RefCell::new(Bed::new());
    let fates = RefCell::new(BTreeMap::<(u32, u32), u32>::new());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: SETS,
        max_shrink_iters: 2_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    });
    let drawn = draw::documents().prop_flat_map(|documents| {
        let frames = prop::collection::vec(draw::case(&documents), 250);
        (Just(documents), frames)
    });
    let done = runner.run(&drawn, |(documents, cases)| {
        let mut bed = bed.borrow_mut();
        let world = World::new(&documents, &mut bed);
        let entry = documents.entry();
        for case in &cases {
            world.judge(&mut bed, case, &entry)?;
            let ingress = match case.tunnel {
                None => entry.clone(),
                Some((vtep, vni)) => Ingress::Overlay {
                    vtep: vtep.into(),
                    vni,
                },
            };
            let model = Model {
                state: &world.state,
                node: &world.name,
                underlay_mtu: world.underlay_mtu,
            };
            let (action, _, reason) = world.told(&model.fate(&ingress, &case.frame));
            *fates.borrow_mut().entry((action, reason)).or_default() += 1;
        }
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
    // Frames that are all refused alike would prove little.
    let fates = fates.into_inner();
    let short = bed.into_inner().short;
    println!("{fates:?}, {short} by the short way");
    assert!(short >= 500, "{short} frames took the short way in");
    assert!(fates.len() >= 18, "{fates:?}");
}
