//! What a trace is asked for, from names to a VNI and addresses. Pure.

use std::net::IpAddr;

use weft_ebpf_abi::TraceFilter;
use weft_overlay::{ContainerRef, EndpointRef, NetworkRef};

use crate::mirror::State;
use crate::plan::desired::Refusal;
use crate::plan::tables::map_address;

/// Where a name or address may be: the network and the address there.
type Places = Vec<(NetworkRef, IpAddr)>;

/// The filter for packets between `a` and `b` (either may be empty) of `traffic`.
pub fn resolve(state: &State, a: &str, b: &str, traffic: &str) -> Result<TraceFilter, Refusal> {
    let (proto, port) = traffic_of(traffic)?;
    let mut filter = TraceFilter {
        mode: 1,
        proto,
        port,
        ..TraceFilter::default()
    };
    // A name knows its network; an address learns it from the other end.
    let (places_a, places_b) = (places(state, a)?, places(state, b)?);
    let subject = || format!("trace {a} {b}");
    let same = |pa: &Places, pb: &Places| {
        pa.iter().find_map(|(n, aa)| {
            pb.iter()
                .find(|(m, _)| m == n)
                .map(|(_, bb)| (n.clone(), *aa, *bb))
        })
    };
    let found = match (places_a, places_b) {
        (End::Any, End::Any) => return Ok(filter),
        (End::Named(pa), End::Named(pb)) => match same(&pa, &pb) {
            Some((network, aa, bb)) => (network, Some(aa), Some(bb)),
            // Ends in two networks: a trace of the first's packets shows where they go instead.
            None => match (pa.into_iter().next(), pb.into_iter().next()) {
                (Some((network, aa)), Some((_, bb))) => (network, Some(aa), Some(bb)),
                _ => return Err(no_address(subject())),
            },
        },
        (End::Named(p), End::Address(x)) => {
            let (network, address) = of_family(p, x).ok_or_else(|| no_address(subject()))?;
            (network, Some(address), Some(x))
        }
        (End::Address(x), End::Named(p)) => {
            let (network, address) = of_family(p, x).ok_or_else(|| no_address(subject()))?;
            (network, Some(x), Some(address))
        }
        (End::Named(p), End::Any) => {
            let (network, address) = p.into_iter().next().ok_or_else(|| no_address(subject()))?;
            (network, Some(address), None)
        }
        (End::Any, End::Named(p)) => {
            let (network, address) = p.into_iter().next().ok_or_else(|| no_address(subject()))?;
            (network, None, Some(address))
        }
        (End::Address(_), _) | (_, End::Address(_)) => {
            return Err(Refusal::invalid(
                subject(),
                "an address alone names no network",
                "name the other end as TENANT/NAME or TENANT/NETWORK/NAME",
            ));
        }
    };
    let (network, aa, bb) = found;
    // 0 would be every network, other tenants' too.
    filter.vni = match state.networks.get(&network) {
        Some(doc) => doc.value.vni.get(),
        None => {
            let cause = format!("network {network} is gone or cannot be read");
            return Err(Refusal::state(subject(), cause, "`weft status` names it"));
        }
    };
    filter.a = aa.map_or([0; 16], map_address);
    filter.b = bb.map_or([0; 16], map_address);
    Ok(filter)
}

fn no_address(subject: String) -> Refusal {
    Refusal::state(
        subject,
        "an end has no address",
        "trace a container with an address; hops are shown on the way",
    )
}

/// Among a name's places, the one of the address's family whose network contains it, else the first of the family.
fn of_family(places: Places, x: IpAddr) -> Option<(NetworkRef, IpAddr)> {
    places.into_iter().find(|(_, a)| a.is_ipv4() == x.is_ipv4())
}

enum End {
    Any,
    Address(IpAddr),
    Named(Places),
}

fn places(state: &State, end: &str) -> Result<End, Refusal> {
    if end.is_empty() || end == "any" {
        return Ok(End::Any);
    }
    if let Ok(address) = end.parse() {
        return Ok(End::Address(address));
    }
    let endpoints: Vec<&EndpointRef> = if let Ok(name) = end.parse::<EndpointRef>() {
        state.endpoints.keys().filter(|e| **e == name).collect()
    } else if let Ok(name) = end.parse::<ContainerRef>() {
        let of = |e: &EndpointRef, c| e.tenant == name.tenant && name.container == c;
        state
            .endpoints
            .iter()
            .filter(|(e, d)| of(e, d.value.container.clone()))
            .map(|(e, _)| e)
            .collect()
    } else {
        let help = "write TENANT/NAME, TENANT/NETWORK/NAME or an address";
        return Err(Refusal::invalid(
            format!("trace end {end:?}"),
            "is neither a name nor an address",
            help,
        ));
    };
    if endpoints.is_empty() {
        let help = "`weft ps` and `weft endpoint ls` show what there is";
        return Err(Refusal::not_found(
            format!("endpoint {end}"),
            "does not exist",
            help,
        ));
    }
    let place = |e: &EndpointRef| {
        let network = NetworkRef {
            tenant: e.tenant.clone(),
            network: e.network.clone(),
        };
        let addresses = state
            .endpoints
            .get(e)
            .map(|d| d.value.addresses.clone())
            .unwrap_or_default();
        addresses
            .into_iter()
            .map(move |a| (network.clone(), a))
            .collect::<Vec<_>>()
    };
    Ok(End::Named(endpoints.into_iter().flat_map(place).collect()))
}

/// `tcp/80`, `udp/53`, `icmp` or nothing: protocol and port.
pub fn traffic_of(text: &str) -> Result<(u8, u16), Refusal> {
    let bad = || {
        let help = "write tcp/80, udp/53, tcp, udp or icmp";
        Refusal::invalid(
            format!("traffic {text:?}"),
            "is not traffic that can be traced",
            help,
        )
    };
    let (proto, port) = match text.split_once('/') {
        Some((proto, port)) => (
            proto,
            port.parse::<u16>()
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(bad)?,
        ),
        None => (text, 0),
    };
    match (proto, port) {
        ("", 0) => Ok((0, 0)),
        ("tcp", port) => Ok((6, port)),
        ("udp", port) => Ok((17, port)),
        ("icmp", 0) => Ok((1, 0)),
        ("icmp6", 0) => Ok((58, 0)),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut s = State::default();
        s.put(
            "/weft/v1/tenants/red/networks/front/spec",
            br#"{"vni":5,"cidr4":"10.0.0.0/16"}"#,
            1,
        );
        for (name, address) in [("a", "10.0.0.2"), ("b", "10.0.0.3")] {
            let doc = format!(
                r#"{{"uid":"u","addresses":["{address}"],"mac":"0a:00:00:00:00:01","node":"n1","container":"{name}","interface":"eth0"}}"#
            );
            s.put(
                &format!("/weft/v1/tenants/red/networks/front/endpoints/{name}"),
                doc.as_bytes(),
                1,
            );
        }
        s
    }

    #[test]
    fn names_and_addresses_become_a_filter() {
        let f = resolve(&state(), "red/a", "red/front/b", "tcp/80").unwrap();
        assert_eq!((f.mode, f.vni, f.proto, f.port), (1, 5, 6, 80));
        assert_eq!(
            (f.a, f.b),
            (
                weft_ebpf_abi::mapped([10, 0, 0, 2]),
                weft_ebpf_abi::mapped([10, 0, 0, 3])
            )
        );
        let f = resolve(&state(), "red/a", "10.0.99.9", "icmp").unwrap();
        assert_eq!((f.b, f.proto), (weft_ebpf_abi::mapped([10, 0, 99, 9]), 1));
        assert_eq!(resolve(&state(), "", "", "").unwrap().vni, 0);
    }

    #[test]
    fn what_cannot_be_traced_is_refused_with_the_next_step() {
        for (a, b, t) in [
            ("red/x", "", ""),
            ("10.0.0.1", "", ""),
            ("red/a", "", "sctp/1"),
            ("red/a", "", "tcp/0"),
            ("x y", "", ""),
        ] {
            let refusal = resolve(&state(), a, b, t).unwrap_err();
            assert!(!refusal.help.is_empty(), "{refusal}");
        }
    }
}
