//! The schema and the reader accept and refuse the same shapes, and know the same keys.

use super::*;
use crate::file::{hop, parse, tables};

const GOOD: &str = r#"format = 1
[chain]
name = "web-guard"
tenant = "red"
symmetric = true
[[match]]
from = { network = "front", labels = { role = "client" } }
to = { network = "red/front", cidr = "10.10.4.0/24" }
traffic = ["tcp/80", "tcp/8000-8100", "icmp"]
[[match]]
from = { external = true }
to = { network = "front", endpoint = "web1" }
traffic = ["any"]
[[hop]]
name = "firewall"
select = { role = "fw" }
mode = "inline"
interfaces = ["in0", "out0"]
on_failure = "bypass"
health = { tcp = 8080, interval = "100ms", failures = 3 }
[[hop]]
name = "ids"
select = { role = "ids" }
mode = "tap"
interfaces = ["mon0"]
"#;

fn fits(text: &str) -> bool {
    let file: Value = toml::from_str(text).expect("TOML");
    let validator = jsonschema::validator_for(&schema()).expect("the schema is a schema");
    validator.is_valid(&file)
}

#[test]
fn a_good_file_and_the_shipped_one_fit() {
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../labs/topologies/web-guard.toml"
    );
    let shipped = std::fs::read_to_string(shipped).expect("the shipped chain");
    for text in [GOOD, &shipped] {
        assert_eq!(parse("x.toml", text).err(), None);
        assert!(fits(text), "{text}");
    }
}

#[test]
fn what_the_reader_refuses_by_its_shape_does_not_fit() {
    for (old, new) in [
        ("format = 1", "format = 2"),
        ("format = 1\n", ""),
        ("symmetric = true", "symmetric = 1"),
        ("symmetric", "symetric"),
        ("\"web-guard\"", "\"Web\""),
        ("tenant = \"red\"\n", ""),
        ("network = \"front\", labels", "labels"),
        (
            "{ external = true }",
            "{ external = true, network = \"front\" }",
        ),
        ("{ external = true }", "{ external = false }"),
        (
            "endpoint = \"web1\"",
            "endpoint = \"web1\", cidr = \"10.10.4.0/24\"",
        ),
        ("10.10.4.0/24", "10.10.4.0"),
        ("[\"any\"]", "[]"),
        ("\"any\"", "\"sctp\""),
        ("\"icmp\"]", "\"tcp/80\"]"),
        ("{ role = \"fw\" }", "{}"),
        ("\"inline\"", "\"outline\""),
        ("[\"in0\", \"out0\"]", "[\"in0\"]"),
        ("[\"in0\", \"out0\"]", "[\"in0\", \"in0\"]"),
        ("[\"mon0\"]", "[\"mon0\", \"mon1\"]"),
        ("\"bypass\"", "\"open\""),
        ("tcp = 8080, ", ""),
        ("tcp = 8080", "tcp = 8080, path = true"),
        ("tcp = 8080", "tcp = 0"),
        ("failures = 3", "failures = 0"),
        ("\"100ms\"", "\"soon\""),
    ] {
        assert!(GOOD.contains(old), "{old}");
        let text = GOOD.replacen(old, new, 1);
        assert!(parse("x.toml", &text).is_err(), "the reader takes {new}");
        assert!(!fits(&text), "the schema takes {new}");
    }
}

#[test]
fn the_keys_are_the_readers() {
    let schema = schema();
    for (place, known) in [
        ("/properties", &tables::FILE[..]),
        ("/properties/chain/properties", &tables::CHAIN[..]),
        ("/properties/match/items/properties", &tables::MATCH[..]),
        (
            "/properties/match/items/properties/from/properties",
            &tables::SELECTOR[..],
        ),
        ("/properties/hop/items/properties", &hop::HOP[..]),
        (
            "/properties/hop/items/properties/health/properties",
            &hop::HEALTH[..],
        ),
    ] {
        let table = schema.pointer(place).and_then(Value::as_object);
        let mut keys: Vec<&str> = table.expect("a table").keys().map(String::as_str).collect();
        let mut known = known.to_vec();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known, "{place}");
    }
}
