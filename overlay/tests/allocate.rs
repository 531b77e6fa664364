//! Allocators: nothing is given twice, nothing reserved is given, and what is free is found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_overlay::allocate::{
    AddressError, AddressPool, FixedAddress, endpoint_mac, lowest_free_block, lowest_free_vni,
};
use weft_overlay::documents::NetworkSpec;
use weft_overlay::network::is_reserved;
use weft_overlay::{Mac, Vni};

fn spec(cidr4: &str, cidr6: Option<&str>) -> NetworkSpec {
    let mut document = serde_json::json!({ "vni": 1, "cidr4": cidr4 });
    if let Some(cidr6) = cidr6 {
        document["cidr6"] = cidr6.into();
    }
    serde_json::from_value(document).expect("a network")
}

fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|t| t.parse().expect("a subnet")).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn macs_follow_the_address() {
    let mac = endpoint_mac(&[ip("fd00::5"), ip("10.10.3.7")], [9; 4]);
    assert_eq!(mac, Mac([0x0a, 0x58, 10, 10, 3, 7]));
    assert_eq!(
        endpoint_mac(&[ip("fd00::5")], [1, 2, 3, 4]),
        Mac([0x0a, 0x58, 1, 2, 3, 4])
    );
    assert_eq!(
        endpoint_mac(&[], [1, 2, 3, 4]),
        Mac([0x0a, 0x58, 1, 2, 3, 4])
    );
}

#[test]
fn fixed_addresses_are_checked() {
    let spec = spec("10.10.0.0/16", None);
    let own = nets(&["10.10.3.0/26"]);
    let used = BTreeSet::from([ip("10.10.3.5")]);
    let claimed = BTreeSet::from([ip("10.10.9.9")]);
    let pool = AddressPool {
        spec: &spec,
        own: &own,
        used: &used,
        claimed: &claimed,
    };
    assert_eq!(
        pool.fixed(ip("10.10.3.6")),
        Ok(FixedAddress::Own("10.10.3.0/26".parse().expect("a net")))
    );
    assert_eq!(pool.fixed(ip("10.10.7.7")), Ok(FixedAddress::Claim));
    assert_eq!(
        pool.fixed(ip("10.10.3.5")),
        Err(AddressError::Taken(ip("10.10.3.5")))
    );
    assert_eq!(
        pool.fixed(ip("10.10.9.9")),
        Err(AddressError::Taken(ip("10.10.9.9")))
    );
    assert_eq!(
        pool.fixed(ip("10.10.0.1")),
        Err(AddressError::Reserved(ip("10.10.0.1")))
    );
    let outside = pool.fixed(ip("10.11.0.1")).expect_err("outside");
    assert!(
        outside.help().contains("10.10.0.0/16"),
        "{}",
        outside.help()
    );
}

#[test]
fn an_address_rests_before_it_is_given_again() {
    let spec = spec("10.10.0.0/16", Some("fd00::/48"));
    let own = nets(&["10.10.3.0/29", "fd00:0:0:3::/64"]);
    let none = BTreeSet::new();
    let pool = AddressPool {
        spec: &spec,
        own: &own,
        used: &none,
        claimed: &none,
    };
    assert_eq!(pool.pick(false, None), Some(ip("10.10.3.0")));
    assert_eq!(
        pool.pick(false, Some(ip("10.10.3.0"))),
        Some(ip("10.10.3.1"))
    );
    // At the end it begins anew; one of the other family says nothing.
    assert_eq!(
        pool.pick(false, Some(ip("10.10.3.7"))),
        Some(ip("10.10.3.0"))
    );
    assert_eq!(
        pool.pick(true, Some(ip("10.10.3.7"))),
        Some(ip("fd00:0:0:3::"))
    );
}

#[test]
fn the_first_subnet_keeps_the_gateway() {
    let spec = spec("10.10.0.0/16", None);
    let own = nets(&["10.10.0.0/29"]);
    let mut used = BTreeSet::new();
    let none = BTreeSet::new();
    let mut given = Vec::new();
    loop {
        let pool = AddressPool {
            spec: &spec,
            own: &own,
            used: &used,
            claimed: &none,
        };
        let Some(address) = pool.pick(false, None) else {
            assert!(pool.is_full(own.first().expect("a subnet")));
            break;
        };
        given.push(address.to_string());
        used.insert(address);
    }
    assert_eq!(
        given,
        [
            "10.10.0.2",
            "10.10.0.3",
            "10.10.0.4",
            "10.10.0.5",
            "10.10.0.6",
            "10.10.0.7"
        ]
    );
}

#[test]
fn blocks_are_multiples_of_four() {
    assert_eq!(lowest_free_block(&BTreeSet::new()), Some(4));
    assert_eq!(lowest_free_block(&BTreeSet::from([4, 8, 16])), Some(12));
    assert_eq!(lowest_free_block(&BTreeSet::from([5, 6])), Some(4));
    let all: BTreeSet<u32> = (1..0x40_0000).map(|n| n * 4).collect();
    assert_eq!(lowest_free_block(&all), None);
}

proptest! {
    #[test]
    fn the_lowest_free_vni_is_the_lowest_free(used in proptest::collection::btree_set(1u32..200, 0..150)) {
        let vnis: BTreeSet<Vni> = used.iter().filter_map(|v| Vni::new(*v)).collect();
        let got = lowest_free_vni(&vnis).expect("some are free").get();
        prop_assert_eq!(got, (1..).find(|v| !used.contains(v)).expect("some are free"));
    }

    #[test]
    fn addresses_are_never_given_twice_nor_reserved(
        index in 0u32..1024,
        len in 26u8..=30,
        claims in proptest::collection::btree_set(0u32..64, 0..8),
        freed in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let spec = spec("10.10.0.0/16", None);
        let first = u32::from(std::net::Ipv4Addr::new(10, 10, 0, 0)) + index * 64;
        let net: IpNet = format!("{}/{len}", std::net::Ipv4Addr::from(first)).parse().expect("a subnet");
        let own = BTreeSet::from([net]);
        let claimed: BTreeSet<IpAddr> =
            claims.iter().map(|n| IpAddr::V4(std::net::Ipv4Addr::from(first + n))).collect();
        let mut used: BTreeSet<IpAddr> = BTreeSet::new();
        let mut last = None;
        let mut freed = freed.into_iter();
        for _ in 0..100 {
            let pool = AddressPool { spec: &spec, own: &own, used: &used, claimed: &claimed };
            prop_assert_eq!(pool.pick(false, last), pool.pick(false, last), "deterministic");
            match pool.pick(false, last) {
                Some(address) => {
                    prop_assert!(net.contains(&address));
                    prop_assert!(!is_reserved(&spec, address) && !claimed.contains(&address));
                    prop_assert!(used.insert(address), "{} was given twice", address);
                    last = Some(address);
                }
                None => {
                    // Exhausted means: every address is used, claimed or the network's.
                    let free = net.hosts().filter(|a| !used.contains(a) && !claimed.contains(a) && !is_reserved(&spec, *a));
                    prop_assert_eq!(free.count(), 0);
                    let Some(index) = freed.next() else { break };
                    if used.is_empty() { break }
                    let address = *index.get(&used.iter().copied().collect::<Vec<_>>());
                    used.remove(&address);
                }
            }
        }
    }
}
