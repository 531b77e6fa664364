//! The plan of links as a function: applied to a model of the kernel it leads to what was desired,
//! and touches nothing that is not ours.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_overlay::Mac;
use weft_overlay::link::{
    DesiredLink, LinkInfo, LinkKind, LinkOp, VethSpec, VxlanInfo, VxlanSpec, plan,
};

fn owned(name: &str) -> bool {
    name.starts_with("wf")
}

/// What the kernel would have after `ensure_*`: made down, set right in place.
fn ensure(links: &mut BTreeMap<String, LinkInfo>, want: &DesiredLink, index: u32) {
    let up = links.get(want.name()).is_some_and(|l| l.up);
    let (mac, vxlan) = match want {
        DesiredLink::Vxlan(spec) => {
            let info = VxlanInfo {
                port: spec.port,
                external: true,
                learning: false,
                udp_csum: true,
                udp6_zero_csum_tx: false,
            };
            (spec.mac, Some(info))
        }
        DesiredLink::Veth(spec) => (spec.mac, None),
        DesiredLink::Bridge(_) => (None, None),
    };
    let info = LinkInfo {
        index,
        name: want.name().to_owned(),
        kind: want.kind(),
        mac,
        mtu: want.mtu().unwrap_or(1500),
        up,
        master: None,
        peer: None,
        vxlan,
    };
    links.insert(info.name.clone(), info);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["wf[0-4]", "eth[0-2]"]
}

fn desired() -> impl Strategy<Value = DesiredLink> {
    let mac = || proptest::option::of(any::<u8>().prop_map(|b| Mac([0x0a, 0, 0, 0, 0, b])));
    prop_oneof![
        ("wf[0-4]", 1u16..4, mac()).prop_map(|(name, port, mac)| DesiredLink::Vxlan(VxlanSpec {
            name,
            port,
            mtu: 1450,
            mac
        })),
        ("wf[0-4]", 1400u32..1403, mac()).prop_map(|(name, mtu, mac)| DesiredLink::Veth(
            VethSpec {
                name,
                mac,
                peer_name: "eth0".into(),
                peer_mac: None,
                mtu
            }
        )),
        "wf[0-4]".prop_map(DesiredLink::Bridge),
    ]
}

fn observed() -> impl Strategy<Value = LinkInfo> {
    let kind = prop_oneof![
        Just(LinkKind::Bridge),
        Just(LinkKind::Veth),
        Just(LinkKind::Vxlan),
        Just(LinkKind::Device),
        Just(LinkKind::Other("dummy".into())),
    ];
    (name(), kind, 1400u32..1403, any::<bool>(), any::<bool>()).prop_map(
        |(name, kind, mtu, up, learning)| {
            let vxlan = (kind == LinkKind::Vxlan).then_some(VxlanInfo {
                port: 1,
                external: true,
                learning,
                udp_csum: true,
                udp6_zero_csum_tx: false,
            });
            LinkInfo {
                index: 1,
                name,
                kind,
                mac: None,
                mtu,
                up,
                master: None,
                peer: None,
                vxlan,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_plan_leads_to_what_is_desired(
        wanted in proptest::collection::vec(desired(), 0..6),
        seen in proptest::collection::vec(observed(), 0..8),
    ) {
        // One link a name.
        let wanted: Vec<DesiredLink> = wanted.into_iter().map(|d| (d.name().to_owned(), d))
            .collect::<BTreeMap<_, _>>().into_values().collect();
        let mut links: BTreeMap<String, LinkInfo> = seen.into_iter().map(|l| (l.name.clone(), l)).collect();
        let foreign: Vec<LinkInfo> = links.values().filter(|l| !owned(&l.name)).cloned().collect();
        let list: Vec<LinkInfo> = links.values().cloned().collect();
        let made = plan(&wanted, &list, owned);
        prop_assert_eq!(&made, &plan(&wanted, &list, owned), "deterministic");
        for (index, op) in made.ops().iter().enumerate() {
            match op {
                LinkOp::Delete { name } => prop_assert!(links.remove(name).is_some(), "{} is not there", name),
                LinkOp::Ensure(want) => {
                    let other = links.get(want.name()).is_some_and(|l| l.kind != want.kind());
                    prop_assert!(!other, "{} is of another kind", want.name());
                    ensure(&mut links, want, 100 + u32::try_from(index).expect("few"));
                }
                LinkOp::SetUp { name } => links.get_mut(name).expect("is there").up = true,
            }
        }
        let after: Vec<LinkInfo> = links.values().cloned().collect();
        prop_assert!(plan(&wanted, &after, owned).is_empty());
        let ours: Vec<&str> = after.iter().filter(|l| owned(&l.name)).map(|l| l.name.as_str()).collect();
        prop_assert_eq!(ours, wanted.iter().map(DesiredLink::name).collect::<Vec<_>>());
        let still: Vec<LinkInfo> = after.into_iter().filter(|l| !owned(&l.name)).collect();
        prop_assert_eq!(still, foreign);
    }
}
