//! A tenant that is wanted, and what it may have.
//!
//! Two requests that would each take a tenant's last place both write its document again, so one of them is planned anew.

use weft_overlay::TenantName;
use weft_overlay::documents::TenantSpec;
use weft_overlay::keys::Key;
use weft_overlay::site;

use super::{Action, Planned, Refusal, Write};
use crate::mirror::State;

/// Plans an apply of a tenant; what is not said stays as it is.
pub fn tenant(state: &State, name: &TenantName, asked: &site::Tenant) -> Result<Planned, Refusal> {
    let subject = format!("tenant {name}");
    let key = Key::Tenant(name.clone());
    if state.is_unreadable(&key) {
        return Err(Refusal::unreadable(subject));
    }
    let present = state.tenants.get(name);
    let mut wanted = present.map_or_else(TenantSpec::default, |doc| doc.value.clone());
    for (key, value) in &asked.labels {
        if value.is_empty() {
            wanted.labels.remove(key);
        } else {
            wanted.labels.insert(key.clone(), value.clone());
        }
    }
    if let Some(limit) = asked.max_networks {
        wanted.max_networks = limit.number();
    }
    if let Some(limit) = asked.max_endpoints {
        wanted.max_endpoints = limit.number();
    }
    let detail = quotas(&wanted);
    if present.is_some_and(|doc| doc.value == wanted) {
        return Ok(Planned::unchanged(detail));
    }
    let mut write = Write::default();
    write.put(&key, &wanted, present.map(|doc| doc.revision));
    let action = match present {
        Some(_) => Action::Update,
        None => Action::Create,
    };
    Ok(Planned {
        action,
        detail,
        write,
    })
}

fn quotas(spec: &TenantSpec) -> String {
    let of = |limit: Option<u32>, what: &str| limit.map(|n| format!("at most {n} {what}"));
    let all = [
        of(spec.max_networks, "networks"),
        of(spec.max_endpoints, "endpoints"),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Refuses a network beyond what the tenant may have.
pub(super) fn room_for_network(
    state: &State,
    name: &TenantName,
    write: &mut Write,
) -> Result<(), Refusal> {
    let has = state.networks.keys().filter(|n| n.tenant == *name).count();
    let most = |spec: &TenantSpec| spec.max_networks;
    room(state, name, write, (has, 1, "networks"), most)
}

/// Refuses `more` endpoints beside the `has` that the tenant's other containers ask for.
pub(super) fn room_for_endpoints(
    state: &State,
    name: &TenantName,
    write: &mut Write,
    (has, more): (usize, usize),
) -> Result<(), Refusal> {
    let most = |spec: &TenantSpec| spec.max_endpoints;
    room(state, name, write, (has, more, "endpoints"), most)
}

fn room(
    state: &State,
    name: &TenantName,
    write: &mut Write,
    (has, more, what): (usize, usize, &str),
    most: impl Fn(&TenantSpec) -> Option<u32>,
) -> Result<(), Refusal> {
    let Some(doc) = state.tenants.get(name) else {
        return Ok(());
    };
    let Some(limit) = most(&doc.value).filter(|_| more > 0) else {
        return Ok(());
    };
    if has + more > limit as usize {
        let cause = format!("has {has} of at most {limit} {what}, and {more} more are asked for");
        let help = format!(
            "remove some, or let it have more: `weft tenant create {name} --max-{what} N`, or `none`"
        );
        return Err(Refusal::state(format!("tenant {name}"), cause, help));
    }
    write.put(&Key::Tenant(name.clone()), &doc.value, Some(doc.revision));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::desired::{RefusalKind, network};
    use weft_overlay::site::Limit;

    fn state(max: u32) -> State {
        let mut state = State::default();
        let spec = format!(r#"{{"max_networks":{max}}}"#);
        state.put("/weft/v1/tenants/red/spec", spec.as_bytes(), 3);
        let front = br#"{"vni":1,"cidr4":"10.1.0.0/16","subnet_len4":26}"#;
        state.put("/weft/v1/tenants/red/networks/front/spec", front, 4);
        state
    }

    #[test]
    fn the_last_place_is_taken_once_and_no_more() {
        let wanted = serde_json::from_str(r#"{"name":"red/back","cidr":"10.2.0.0/16"}"#).unwrap();
        let planned = network(&state(2), &wanted).unwrap();
        let path = Key::Tenant("red".parse().unwrap()).path();
        let fenced = super::super::Expect::Revision(path, 3);
        assert!(planned.write.expect.contains(&fenced));
        let refusal = network(&state(1), &wanted).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::State);
        assert!(
            refusal.cause.contains("1 of at most 1 networks"),
            "{refusal:?}"
        );
        // What is there may be changed.
        let front = r#"{"name":"red/front","cidr":"10.1.0.0/16","labels":{"a":"b"}}"#;
        assert!(network(&state(1), &serde_json::from_str(front).unwrap()).is_ok());
    }

    #[test]
    fn a_tenant_is_made_and_its_limits_change_and_go() {
        let name = "red".parse().unwrap();
        let spec = site::Tenant {
            max_endpoints: Some(Limit::AtMost(5)),
            ..site::Tenant::default()
        };
        let made = tenant(&State::default(), &name, &spec).unwrap();
        assert_eq!(
            (made.action, made.detail.as_str()),
            (Action::Create, "at most 5 endpoints")
        );
        assert_eq!(
            tenant(&state(1), &name, &spec).unwrap().action,
            Action::Update
        );
        let same = site::Tenant {
            max_networks: Some(Limit::AtMost(1)),
            ..site::Tenant::default()
        };
        assert_eq!(
            tenant(&state(1), &name, &same).unwrap().action,
            Action::Unchanged
        );
        let label = |value: &str| site::Tenant {
            labels: [("team".to_owned(), value.to_owned())].into(),
            max_networks: Some(Limit::None),
            max_endpoints: None,
        };
        let mut changed = state(1);
        for (asked, labels) in [(label("a"), 1), (label(""), 0)] {
            let planned = tenant(&changed, &name, &asked).unwrap();
            assert_eq!(planned.action, Action::Update);
            assert_eq!(planned.detail, "");
            planned.write.preview(&mut changed);
            let spec = &changed.tenants[&name].value;
            assert_eq!((spec.labels.len(), spec.max_networks), (labels, None));
        }
    }
}
