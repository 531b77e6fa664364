//! `[[network]]`: ranges are checked here too, so that a CIDR too small has a line and column.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weft_overlay::NetworkRef;
use weft_overlay::site::Network;

use crate::diagnose::Mistakes;
use crate::tables::{Value, span_of, text_of, typed};

/// A network table. Without a value it was bad, but its name counts for references.
pub(super) struct Read {
    pub(super) name: Option<NetworkRef>,
    pub(super) value: Option<Network>,
}

pub(super) fn read(items: Vec<Value<'_>>, mistakes: &mut Mistakes) -> Vec<Read> {
    let mut seen: BTreeMap<NetworkRef, Range<usize>> = BTreeMap::new();
    let mut read = Vec::new();
    for item in items {
        let at = span_of(&item, "name");
        let title = text_of(&item, "name")
            .unwrap_or("without a name")
            .to_owned();
        let value: Option<Network> = typed(&item, &format!("network {title}"), mistakes);
        let name = value
            .as_ref()
            .map(|network| network.name.clone())
            .or_else(|| text_of(&item, "name")?.parse().ok());
        if let Some(name) = &name
            && seen.insert(name.clone(), at.clone()).is_some()
        {
            mistakes.add(
                at,
                format!("network {name} is there twice"),
                "second time",
                "give it another name or remove it".to_owned(),
            );
        }
        if let Some(network) = &value {
            check(network, &item, mistakes);
        }
        read.push(Read { name, value });
    }
    read
}

/// The rules of the overlay, at the key that breaks them.
fn check(network: &Network, item: &Value<'_>, mistakes: &mut Mistakes) {
    use weft_overlay::network::NetworkError as E;
    // Any VNI does: the cluster chooses the real one.
    let Err(error) = weft_overlay::network::network_spec(network, None, &BTreeSet::new()) else {
        return;
    };
    let key = match &error {
        E::TooSmall { cidr, .. } | E::Reserved { cidr, .. } if cidr.addr().is_ipv6() => "cidr6",
        E::HostBits { given, .. } if given.addr().is_ipv6() => "cidr6",
        E::TooSmall { .. } | E::Reserved { .. } | E::HostBits { .. } => "cidr",
        E::NoRange { .. } => "name",
        E::SubnetLen { cidr, .. } if cidr.addr().is_ipv6() => "subnet_len6",
        E::SubnetLen { .. } => "subnet_len",
        _ => "mtu",
    };
    let (message, help) = (error.to_string(), error.help());
    mistakes.add(span_of(item, key), message, "this", help);
}
