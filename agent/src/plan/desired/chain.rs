//! A chain that is wanted: read and checked as a whole; a new version only when its policy changed.

use serde::{Deserialize, Serialize};
use weft_chain::{ChainDoc, ChainFile, ChainVersionDoc, Diagnostic, Policy, World, check, parse};
use weft_overlay::keys::Key;

use super::{Action, Planned, Refusal, Write};
use crate::mirror::{ChainKey, State};
use crate::plan::chains::versions;

/// A chain as the API carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedChain {
    /// The file's name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Plans an apply of a chain at `now` (Unix ms); `name` is `TENANT/CHAIN`, or empty.
pub fn chain(
    state: &State,
    name: &str,
    wanted: &WantedChain,
    now: u64,
) -> Result<Planned, Refusal> {
    let subject = if name.is_empty() {
        format!("chain file {}", wanted.file)
    } else {
        format!("chain {name}")
    };
    let file = parse(&wanted.file, &wanted.text).map_err(|found| mistakes(&subject, &found))?;
    let key: ChainKey = (
        file.policy.chain.tenant.clone(),
        file.policy.chain.name.clone(),
    );
    let full = format!("{}/{}", key.0, key.1);
    if !name.is_empty() && name != full {
        let help = "name the chain as its file does";
        return Err(Refusal::invalid(
            subject,
            format!("the file defines chain {full}"),
            help,
        ));
    }
    let spec_key = Key::Chain(key.0.clone(), key.1.clone());
    if state.is_unreadable(&spec_key) {
        return Err(Refusal::unreadable(subject));
    }
    check(&file, &world(state, &key)).map_err(|found| mistakes(&subject, &found))?;
    plan(state, &key, &file, now)
}

fn plan(state: &State, key: &ChainKey, file: &ChainFile, now: u64) -> Result<Planned, Refusal> {
    let spec_key = Key::Chain(key.0.clone(), key.1.clone());
    let present = state.chains.get(key);
    let doc = |current| ChainDoc {
        current,
        file: file.source.name.clone(),
        text: file.source.text.clone(),
    };
    let in_force = present.and_then(|p| {
        state
            .versions
            .get(&(key.0.clone(), key.1.clone(), p.value.current))
    });
    let mut write = Write::default();
    if let (Some(present), Some(version)) = (present, in_force)
        && version.value.policy == file.policy
    {
        let current = present.value.current;
        if present.value == doc(current) {
            return Ok(Planned::unchanged(format!("version {current}")));
        }
        // Comments and layout: what is shown changes, what is carried does not.
        write.put(&spec_key, &doc(current), Some(present.revision));
        return Ok(Planned {
            action: Action::Update,
            detail: format!("version {current}, same policy"),
            write,
        });
    }
    let newest = versions(state, &key.0, &key.1).last().map_or(0, |k| k.2);
    let next = newest.max(present.map_or(0, |p| p.value.current)) + 1;
    if let Some(tenant) = state.tenants.get(&key.0) {
        write.require(&Key::Tenant(key.0.clone()), tenant.revision);
    }
    write.put(&spec_key, &doc(next), present.map(|p| p.revision));
    let version = ChainVersionDoc::new(file, now);
    write.put(
        &Key::ChainVersion(key.0.clone(), key.1.clone(), next),
        &version,
        None,
    );
    let action = if present.is_some() {
        Action::Update
    } else {
        Action::Create
    };
    Ok(Planned {
        action,
        detail: format!("version {next}"),
        write,
    })
}

/// What the chain is checked against: the tenant as it is wanted.
fn world(state: &State, key: &ChainKey) -> World {
    let others = state
        .chains
        .iter()
        .filter(|(other, _)| other.0 == key.0 && *other != key);
    let policies = others.filter_map(|(other, doc)| {
        let version = (other.0.clone(), other.1.clone(), doc.value.current);
        state.versions.get(&version).map(|v| v.value.policy.clone())
    });
    World {
        tenants: state.tenants.keys().cloned().collect(),
        networks: state
            .networks
            .iter()
            .map(|(n, d)| (n.clone(), d.value.clone()))
            .collect(),
        containers: state
            .containers
            .iter()
            .map(|(c, d)| (c.clone(), (&d.value).into()))
            .collect(),
        others: policies.collect::<Vec<Policy>>(),
    }
}

/// The first mistake in words, all of them as JSON in the details.
fn mistakes(subject: &str, found: &[Diagnostic]) -> Refusal {
    let first = found.first();
    let more = found.len().saturating_sub(1);
    let cause = first.map_or_else(|| "cannot be read".to_owned(), ToString::to_string);
    let cause = if more > 0 {
        format!("{cause} (and {more} more)")
    } else {
        cause
    };
    let help = first
        .and_then(|d| d.help.clone())
        .unwrap_or_else(|| "correct the file and apply it again".into());
    let mut refusal = Refusal::invalid(subject, cause, help);
    refusal.details = serde_json::to_vec(found).unwrap_or_default();
    refusal
}
