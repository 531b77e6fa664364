//! A network that is wanted: created with its tenant and VNI in one transaction. What its endpoints
//! rely on never changes in place.

use std::collections::BTreeSet;

use weft_overlay::documents::TenantSpec;
use weft_overlay::keys::Key;
use weft_overlay::network::{NetworkError, network_spec};
use weft_overlay::{Vni, site};

use super::tenant::room_for_network;
use super::{Action, Planned, Refusal, RefusalKind, Write};
use crate::mirror::State;

/// Plans an apply of a network.
pub fn network(state: &State, wanted: &site::Network) -> Result<Planned, Refusal> {
    let subject = format!("network {}", wanted.name);
    let key = Key::Network(wanted.name.clone());
    if state.is_unreadable(&key) {
        return Err(Refusal::unreadable(subject));
    }
    let present = state.networks.get(&wanted.name);
    let used: BTreeSet<Vni> = state.vnis.keys().copied().collect();
    let spec = network_spec(wanted, present.map(|d| &d.value), &used)
        .map_err(|error| refused(state, &subject, &error))?;
    let detail = format!("VNI {}", spec.vni);
    if present.is_some_and(|d| d.value == spec) {
        return Ok(Planned::unchanged(detail));
    }
    let mut write = Write::default();
    if !state.tenants.contains_key(&wanted.name.tenant) {
        write.put(
            &Key::Tenant(wanted.name.tenant.clone()),
            &TenantSpec::default(),
            None,
        );
    }
    write.put(&key, &spec, present.map(|d| d.revision));
    if present.is_none() {
        room_for_network(state, &wanted.name.tenant, &mut write)?;
        write.put(&Key::Vni(spec.vni), &wanted.name, None);
    }
    let action = if present.is_some() {
        Action::Update
    } else {
        Action::Create
    };
    Ok(Planned {
        action,
        detail,
        write,
    })
}

fn refused(state: &State, subject: &str, error: &NetworkError) -> Refusal {
    let kind = match error {
        NetworkError::VniTaken { .. }
        | NetworkError::VnisExhausted { .. }
        | NetworkError::Fixed { .. } => RefusalKind::State,
        _ => RefusalKind::Invalid,
    };
    let text = error.to_string();
    // The subject is named once: the library's texts begin with it, some as part of the sentence.
    let cause = text
        .strip_prefix(subject)
        .map_or(text.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let cause = match error {
        NetworkError::VniTaken { vni, .. } => match state.vnis.get(vni) {
            Some(holder) => format!("VNI {vni} belongs to network {}", holder.value),
            None => cause.to_owned(),
        },
        _ => cause.to_owned(),
    };
    Refusal::new(kind, subject, cause, error.help())
}
