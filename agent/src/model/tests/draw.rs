//! Documents and frames, drawn. Addresses are few, so that frames meet what the documents name.

use super::*;

/// A site of four nodes; n4 has no VTEP, n3's is IPv6, n5 is named without a document.
#[derive(Clone, Debug)]
pub struct Documents {
    pub underlay_mtu: u32,
    /// What n2 says of its underlay.
    far_mtu: Option<u32>,
    /// IPv4 and IPv6 ranges: which there are.
    families: (bool, bool),
    /// Whether priority and time to live are the tunnel's too.
    uniform: (bool, bool),
    /// Holder of each subnet, 0 = nobody.
    leases: Vec<u8>,
    /// Node of the endpoint with each number, 0 = there is none. The first is the sender, on n1.
    endpoints: Vec<u8>,
    way_out: WayOut,
    /// Whether frames that come by no tunnel come from the gateway.
    from_gateway: bool,
}

/// Why the network has a gateway on n1, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WayOut {
    None,
    Egress,
    Published,
    /// A container publishes a port in another network, on another node, or not now: no reason.
    Elsewhere(u8),
}

/// A frame, and the tunnel it came by.
#[derive(Clone, Debug)]
pub struct Case {
    pub frame: Vec<u8>,
    pub tunnel: Option<(Ipv4Addr, u32)>,
    /// What the tunnel's header said at last.
    pub outer: Marks,
}

const VNI: u32 = 7;

fn v4(number: u8) -> Ipv4Addr {
    // Two to a subnet of /26: the second half of the numbers is far from home.
    Ipv4Addr::new(10, 10, number / 8, (number % 8) * 32 + 2)
}

fn v6(number: u8) -> Ipv6Addr {
    let [a, b] = [u16::from(number / 2), u16::from(number % 2) + 2];
    Ipv6Addr::new(0xfd00, 0, 0, a, 0, 0, 0, b)
}

fn mac(number: u8) -> [u8; 6] {
    [0x0a, 0x58, 0, 0, 0, number]
}

pub fn documents() -> impl Strategy<Value = Documents> {
    (
        prop_oneof![Just(1500u32), Just(1280u32), 600..1600u32],
        prop::option::of(600..1600u32),
        prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        any::<(bool, bool)>(),
        prop::collection::vec(0..6u8, 8),
        prop::collection::vec(prop_oneof![2 => Just(0u8), 3 => Just(1u8), 4 => 2..6u8], 15),
        prop_oneof![
            2 => Just(WayOut::None),
            2 => Just(WayOut::Egress),
            1 => Just(WayOut::Published),
            1 => (0..3u8).prop_map(WayOut::Elsewhere),
        ],
        prop::bool::weighted(0.3),
    )
        .prop_map(
            |(underlay_mtu, far_mtu, families, uniform, leases, others, way_out, from_gateway)| {
                Documents {
                    underlay_mtu,
                    far_mtu,
                    families,
                    uniform,
                    leases,
                    endpoints: [1].into_iter().chain(others).collect(),
                    way_out,
                    from_gateway,
                }
            },
        )
}

impl Documents {
    pub fn sender(&self) -> EndpointRef {
        "red/front/e0".parse().unwrap()
    }

    pub fn has_gateway(&self) -> bool {
        matches!(self.way_out, WayOut::Egress | WayOut::Published)
    }

    pub fn enters_by_gateway(&self) -> bool {
        self.from_gateway && self.has_gateway()
    }

    pub fn entry(&self) -> Ingress {
        if self.enters_by_gateway() {
            Ingress::Gateway("red/front".parse().unwrap())
        } else {
            Ingress::Endpoint(self.sender())
        }
    }

    /// A container that publishes a port, where one does.
    fn publisher(&self) -> Option<String> {
        let (network, node, running) = match self.way_out {
            WayOut::None | WayOut::Egress => return None,
            WayOut::Published => ("front", "n1", true),
            WayOut::Elsewhere(0) => ("back", "n1", true),
            WayOut::Elsewhere(1) => ("front", "n2", true),
            WayOut::Elsewhere(_) => ("front", "n1", false),
        };
        Some(format!(
            r#"{{"uid":"u","image":"host","command":["x"],"node":"{node}","running":{running},"publish":["80:tcp/80"],
                "interfaces":[{{"network":"hops","hop":true}},{{"network":"{network}"}},{{"network":"front"}}]}}"#
        ))
    }

    pub fn state(&self) -> State {
        let mut state = State::default();
        let mut put = |key: String, value: String| {
            state.put(&format!("/weft/v1/{key}"), value.as_bytes(), 1);
        };
        let vteps = [
            r#""192.0.2.1""#,
            r#""192.0.2.2","192.0.2.22""#,
            r#""2001:db8::3","192.0.2.3""#,
            "",
        ];
        for (number, vteps) in (1..).zip(vteps) {
            let mtu = self.far_mtu.filter(|_| number == 2);
            let mtu = mtu.map_or(String::new(), |mtu| format!(r#","mtu":{mtu}"#));
            let spec = format!(r#"{{"id":{number},"vteps":[{vteps}],"api":"n:7946"{mtu}}}"#);
            put(format!("nodes/n{number}/spec"), spec);
        }
        let mut spec = format!(r#"{{"vni":{VNI}"#);
        if self.families.0 {
            spec += r#","cidr4":"10.10.0.0/16","subnet_len4":26"#;
        }
        if self.families.1 {
            spec += r#","cidr6":"fd00::/48","subnet_len6":64"#;
        }
        for (key, is) in [("dscp", self.uniform.0), ("ttl", self.uniform.1)] {
            if is {
                spec += &format!(r#","{key}":"uniform""#);
            }
        }
        if self.way_out == WayOut::Egress {
            spec += r#","egress":"nat""#;
        }
        if let Some(publisher) = self.publisher() {
            put("tenants/red/containers/p/spec".into(), publisher);
        }
        let front = "tenants/red/networks/front";
        put(format!("{front}/spec"), spec + "}");
        // Another tenant's, of equal addresses, on this node and not.
        let blue = |vni| format!(r#"{{"vni":{vni},"cidr4":"10.10.0.0/16","subnet_len4":26}}"#);
        put("tenants/blue/networks/front/spec".into(), blue(8));
        put("tenants/blue/networks/away/spec".into(), blue(9));
        let endpoint = |addresses: &str, mac: u8, node| {
            format!(
                r#"{{"uid":"u","addresses":[{addresses}],"mac":"0a:58:00:00:00:{mac:02x}","node":"n{node}","container":"c","interface":"eth0"}}"#
            )
        };
        let theirs = endpoint(&format!(r#""{}""#, v4(1)), 0x77, 1);
        put("tenants/blue/networks/front/endpoints/e1".into(), theirs);
        for (i, node) in (0..).zip(&self.leases).filter(|(_, node)| **node > 0) {
            let lease = format!(r#"{{"node":"n{node}","since":1}}"#);
            let (c, quarter) = (i / 4, (i % 4) * 64);
            if self.families.0 {
                put(
                    format!("{front}/subnets/10.10.{c}.{quarter}-26"),
                    lease.clone(),
                );
            }
            if self.families.1 {
                put(format!("{front}/subnets/fd00:0:0:{i}::-64"), lease);
            }
        }
        for (i, &node) in (0..).zip(&self.endpoints).filter(|(_, node)| **node > 0) {
            let mut addresses = Vec::new();
            if self.families.0 {
                addresses.push(format!(r#""{}""#, v4(i)));
            }
            if self.families.1 {
                addresses.push(format!(r#""{}""#, v6(i)));
            }
            let doc = endpoint(&addresses.join(","), i, node);
            put(format!("{front}/endpoints/e{i}"), doc);
        }
        assert!(state.problems.is_empty(), "{:?}", state.problems);
        state
    }
}

fn target4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        12 => (0..16u8).prop_map(v4),
        2 => (0..3u8, any::<u8>()).prop_map(|(c, d)| Ipv4Addr::new(10, 10, c, d)),
        1 => Just(Ipv4Addr::new(10, 10, 0, 1)),
        1 => (1..5u8).prop_map(|d| Ipv4Addr::new(192, 0, 2, d)),
        1 => (0..=255u8).prop_map(|d| Ipv4Addr::new(169, 254, d, d)),
        1 => Just(Ipv4Addr::new(198, 51, 100, 7)),
        1 => any::<u32>().prop_map(Ipv4Addr::from),
        1 => Just(Ipv4Addr::BROADCAST),
        1 => Just(Ipv4Addr::UNSPECIFIED),
    ]
}

fn target6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        12 => (0..16u8).prop_map(v6),
        2 => (0..9u16, 0..9u16).prop_map(|(a, b)| Ipv6Addr::new(0xfd00, 0, 0, a, 0, 0, 0, b)),
        1 => Just(GATEWAY6),
        1 => (0..16u8).prop_map(|number| v4(number).to_ipv6_mapped()),
        1 => Just("2001:db8::3".parse().unwrap()),
        1 => Just("ff02::1".parse().unwrap()),
        1 => Just("fe80::77".parse().unwrap()),
        1 => (0..4u16).prop_map(|h| Ipv6Addr::new(0xfd77, 0x6566, 0x7400, 0, 0, 0, h / 2, h)),
        1 => Just("64:ff9b::c633:6407".parse().unwrap()),
        1 => Just("2001:db8:9::7".parse().unwrap()),
        1 => any::<u128>().prop_map(Ipv6Addr::from),
        1 => Just(Ipv6Addr::UNSPECIFIED),
    ]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(6u8), 4 => Just(17u8), 2 => Just(1u8), 2 => Just(58u8), 1 => any::<u8>()]
}

/// What an IP header carries: its first byte is the type of an ICMP message.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(8u8),
        Just(0),
        Just(3),
        Just(128),
        Just(135),
        Just(1),
        any::<u8>()
    ];
    let length = prop_oneof![8 => 20..80usize, 2 => 0..40usize, 3 => 500..1600usize];
    (kind, length).prop_map(|(kind, length)| {
        let mut bytes = vec![0x50; length];
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        bytes
    })
}

/// The length a header tells: mostly the truth.
fn length(truth: usize) -> impl Strategy<Value = u16> {
    let truth = u16::try_from(truth).unwrap();
    prop_oneof![12 => Just(truth), 1 => 0..80u16, 1 => Just(0)]
}

/// Options of IPv4: kinds, each with a length that is mostly the truth.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![3 => Just(1u8), 3 => Just(7), 1 => Just(131), 1 => Just(137), 1 => Just(0), 1 => any::<u8>()];
    let one = (
        kind,
        2..6usize,
        prop_oneof![9 => Just(0u8), 1 => any::<u8>()],
    );
    let one = one.prop_map(|(kind, size, lie)| {
        let mut bytes = vec![kind];
        if kind > 1 {
            bytes.resize(size, 4);
            bytes[1] = if lie == 0 { size as u8 } else { lie };
        }
        bytes
    });
    prop::collection::vec(one, 0..12).prop_map(|all| all.concat())
}

fn internet4() -> impl Strategy<Value = Vec<u8>> {
    let source =
        prop_oneof![10 => Just(v4(0)), 1 => target4(), 2 => Just(Ipv4Addr::new(198, 51, 100, 7))];
    let words = prop_oneof![12 => Just(5u8), 1 => 0..16u8];
    let fragment = prop_oneof![12 => Just(0x4000u16), 1 => Just(0x2000), 1 => any::<u16>()];
    (
        source,
        target4(),
        words,
        fragment,
        protocol(),
        options(),
        payload(),
        any::<[u8; 4]>(),
    )
        .prop_flat_map(
            |(
                source,
                target,
                words,
                fragment,
                protocol,
                mut said,
                payload,
                [class, ttl, high, low],
            )| {
                let options = usize::from(words.max(5) - 5) * 4;
                said.resize(options, 0);
                length(20 + options + payload.len()).prop_map(move |total| {
                    let mut ip = vec![0x40 | words, class];
                    ip.extend(total.to_be_bytes());
                    ip.extend([0, 1]);
                    ip.extend(fragment.to_be_bytes());
                    ip.extend([ttl, protocol, high, low]);
                    ip.extend(source.octets());
                    ip.extend(target.octets());
                    ip.extend(&said);
                    ip.extend(&payload);
                    ip
                })
            },
        )
}

/// Extension headers before the transport, the first's kind in front of each.
fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60)];
    let drawn = (kind, 0..3u8, any::<bool>(), any::<u8>(), 0..3u8);
    let one = drawn.prop_map(|(kind, units, first, low, kinds)| {
        let (units, size) = match kind {
            44 => (0, 8),
            51 => (units * 2, (usize::from(units) * 2 + 2) * 4),
            _ => (units, (usize::from(units) + 1) * 8),
        };
        let mut header = vec![0; size];
        header[1] = units;
        // Of a routing header the type; what a fragment's offset begins with.
        header[2] = if kind == 43 { kinds } else { 0 };
        header[3] = if first { low & 7 } else { low };
        (kind, header)
    });
    prop_oneof![8 => Just(Vec::new()), 2 => prop::collection::vec(one, 1..9)]
}

fn internet6() -> impl Strategy<Value = Vec<u8>> {
    let source =
        prop_oneof![10 => Just(v6(0)), 1 => target6(), 2 => Just("2001:db8:9::7".parse().unwrap())];
    let marks = any::<[u8; 3]>();
    (
        source,
        target6(),
        extensions(),
        protocol(),
        payload(),
        marks,
    )
        .prop_flat_map(
            |(source, target, headers, protocol, payload, [class, label, ttl])| {
                let (mut next, mut body) = (protocol, payload);
                for (kind, mut header) in headers.into_iter().rev() {
                    header[0] = next;
                    next = kind;
                    header.extend(body);
                    body = header;
                }
                length(body.len()).prop_map(move |length| {
                    let mut ip = vec![0x60 | class >> 4, class << 4 | label >> 4, label, 0];
                    ip.extend(length.to_be_bytes());
                    ip.extend([next, ttl]);
                    ip.extend(source.octets());
                    ip.extend(target.octets());
                    ip.extend(&body);
                    ip
                })
            },
        )
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![12 => Just([0u8, 1, 8, 0, 6, 4, 0, 1]), 1 => Just([0, 1, 8, 0, 6, 4, 0, 2]), 1 => any::<[u8; 8]>()];
    let sender = prop_oneof![6 => Just(v4(0)), 1 => target4()];
    let from = prop_oneof![12 => Just(0u8), 1 => any::<u8>()];
    (head, from, sender, target4()).prop_map(|(head, from, sender, target)| {
        let mut packet = head.to_vec();
        packet.extend(mac(from));
        packet.extend(sender.octets());
        packet.extend([0; 6]);
        packet.extend(target.octets());
        packet
    })
}

fn solicitation() -> impl Strategy<Value = Vec<u8>> {
    let sender =
        prop_oneof![6 => Just(v6(0)), 1 => Just("fe80::9".parse().unwrap()), 2 => target6()];
    let size = prop_oneof![8 => Just(32usize), 2 => Just(24), 1 => 8..40usize];
    (sender, target6(), target6(), size).prop_flat_map(|(sender, to, target, size)| {
        length(size).prop_map(move |length| {
            let mut ip = vec![0x60, 0, 0, 0];
            ip.extend(length.to_be_bytes());
            ip.extend([58, 255]);
            ip.extend(sender.octets());
            ip.extend(to.octets());
            ip.extend([135, 0, 0, 0, 0, 0, 0, 0]);
            ip.extend(target.octets());
            ip.extend([1, 1, 0x0a, 0x58, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            ip.truncate(40 + size);
            ip
        })
    })
}

pub fn case(documents: &Documents) -> impl Strategy<Value = Case> + use<> {
    let (four, six) = documents.families;
    let weigh = |is: bool, weight| if is { weight } else { 1 };
    let body = prop_oneof![
        weigh(four, 8) => internet4().boxed().prop_map(|body| (0x0800u16, body)),
        weigh(six, 8) => internet6().boxed().prop_map(|body| (0x86dd, body)),
        weigh(four, 2) => arp().boxed().prop_map(|body| (0x0806, body)),
        weigh(six, 2) => solicitation().boxed().prop_map(|body| (0x86dd, body)),
        1 => (any::<u16>(), payload()),
    ];
    let to = prop_oneof![14 => Just(GATEWAY_MAC), 1 => Just([0xff; 6]), 1 => Just([0x33, 0x33, 0, 0, 0, 1]),
        1 => Just(mac(1)), 1 => Just(abi::steer_mac(40))];
    let from = prop_oneof![24 => Just(mac(0)), 1 => Just(mac(1))];
    let cut = prop_oneof![14 => Just(usize::MAX), 1 => 15..100usize];
    let vtep = prop_oneof![6 => Just(2u8), 1 => Just(3), 1 => Just(22), 1 => any::<u8>()];
    let vni = prop_oneof![8 => Just(VNI), 1 => Just(8u32), 1 => Just(9), 1 => 0..20u32];
    let tunnel = prop_oneof![
        2 => Just(None),
        1 => (vtep, vni).prop_map(|(last, vni)| Some((Ipv4Addr::new(192, 0, 2, last), vni))),
    ];
    let outer = (0..64u8, any::<u8>()).prop_map(|(dscp, ttl)| Marks { dscp, ttl });
    (body, to, from, cut, tunnel, outer).prop_map(|((kind, body), to, from, cut, tunnel, outer)| {
        // Frames of chains come by the tunnel with a position's address, which is not drawn.
        let to = match tunnel {
            Some(_) if to == abi::steer_mac(40) => GATEWAY_MAC,
            _ => to,
        };
        let mut frame = [to, from].concat();
        frame.extend(kind.to_be_bytes());
        frame.extend(body);
        // The kernel runs no frame that ends within its IP header.
        let least = match kind {
            0x0800 => 34,
            0x86dd => 54,
            _ => 15,
        };
        frame.truncate(cut);
        frame.resize(frame.len().max(least), 0);
        Case {
            frame,
            tunnel,
            outer,
        }
    })
}
