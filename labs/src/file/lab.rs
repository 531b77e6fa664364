//! `[lab]`: name, backend, and what all its nodes are started with.

use std::time::Duration;

use serde::Deserialize;
use weft_overlay::NodeName;

use super::{Family, shape};
use crate::backend::Backend;
use crate::diagnose::Mistakes;
use crate::tables::{Value, span_of, typed};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabTable {
    name: String,
    backend: Option<String>,
    store: Option<String>,
    lease_ttl: Option<String>,
    seed: Option<u64>,
    underlay: Option<Family>,
}

pub(super) struct Lab {
    pub(super) name: String,
    pub(super) etcd: bool,
    pub(super) lease_ttl: Option<Duration>,
    pub(super) seed: u64,
    pub(super) underlay: Family,
    pub(super) backend: Backend,
}

pub(super) fn read(
    mut items: Vec<Value<'_>>,
    backend: Option<&str>,
    mistakes: &mut Mistakes,
) -> Option<Lab> {
    if items.is_empty() {
        mistakes.add(
            0..0,
            "the file has no [lab] table",
            "add it at the top",
            "write [lab] with name = \"...\"; a site without nodes is for `weft apply -f`"
                .to_owned(),
        );
        return None;
    }
    let item = items.remove(0);
    if let Some(second) = items.first() {
        mistakes.add(
            second.span(),
            "[lab] is there twice",
            "second time",
            "one file is one lab".to_owned(),
        );
    }
    let item = shape::check(&item, &shape::Kind::Table(shape::LAB), "lab", mistakes)?;
    let table: LabTable = typed(&item, "lab", mistakes)?;
    let backend = read_backend(&table, backend, &item, mistakes);
    // A lab's name becomes part of paths, so it follows the rule of all names.
    if let Err(error) = table.name.parse::<NodeName>() {
        let message = error.to_string().replace("node name", "lab name");
        mistakes.add(span_of(&item, "name"), message, "this name", None);
    }
    let etcd = table.store.as_deref() == Some("etcd");
    if etcd && backend == Backend::Qemu {
        mistakes.add(
            span_of(&item, "store"),
            "a machine of the backend qemu has no etcd",
            "not there",
            "remove `store`, or run the lab with --backend netns".to_owned(),
        );
    }
    let lease_ttl = table.lease_ttl.as_deref().and_then(duration);
    Some(Lab {
        name: table.name,
        etcd,
        lease_ttl,
        seed: table.seed.unwrap_or_default(),
        underlay: table.underlay.unwrap_or(Family::Ipv4),
        backend,
    })
}

fn read_backend(
    table: &LabTable,
    wanted: Option<&str>,
    item: &Value<'_>,
    mistakes: &mut Mistakes,
) -> Backend {
    let name = wanted.or(table.backend.as_deref()).unwrap_or("netns");
    if let Some(backend) = Backend::of(name) {
        return backend;
    }
    let place = if table.backend.is_some() {
        "backend"
    } else {
        "name"
    };
    mistakes.add(
        span_of(item, place),
        format!("there is no backend {name:?}"),
        "this backend",
        "write backend = \"netns\" (each node in namespaces of this machine) or \"qemu\" (each a virtual machine)"
            .to_owned(),
    );
    Backend::default()
}

pub(super) const DURATION_HELP: &str = "write a number and its unit: \"500ms\", \"10s\", \"2m\"";

/// `500ms`, `10s`, `2m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (!duration.is_zero()).then_some(duration)
}
