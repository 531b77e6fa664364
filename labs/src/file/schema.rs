//! The JSON schema of lab files, for editors: the shape that the reader judges by, in the words of JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::shape::{self, Key, Kind};

/// The schema as JSON.
pub fn schema() -> Value {
    let list = |keys: &'static [Key], about: &str| json!({"description": about, "type": "array", "items": table(keys)});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "weft lab",
        "description": "A lab: nodes, networks, containers and the steps that must hold.",
        "type": "object",
        "additionalProperties": false,
        "required": ["lab", "node"],
        "properties": {
            "lab": table(shape::LAB),
            "node": list(shape::NODE, "The nodes."),
            "link": list(shape::LINK, "Links between nodes; without any, all share one segment."),
            "network": list(shape::NETWORK, "The networks."),
            "container": list(shape::CONTAINER, "The containers."),
            "chain": list(shape::CHAIN, "The chains."),
            "step": {"description": "What happens and must hold, in order.", "type": "array", "items": step()},
        },
    })
}

/// One kind of step, and perhaps its deadline.
fn step() -> Value {
    let kinds = shape::STEP_KINDS;
    let only: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({"required": [kind.name]}))
        .collect();
    let mut properties = properties(kinds);
    properties.insert(shape::WITHIN.name.to_owned(), described(&shape::WITHIN));
    json!({
        "type": "object", "additionalProperties": false, "properties": properties, "oneOf": only,
    })
}

fn table(keys: &[Key]) -> Value {
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    json!({
        "type": "object", "additionalProperties": false, "required": required,
        "properties": properties(keys),
    })
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter()
        .map(|key| (key.name.to_owned(), described(key)))
        .collect()
}

fn described(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    schema["description"] = key.about.into();
    schema
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Duration => json!({"type": "string", "pattern": "^[0-9]*[1-9][0-9]*(ms|s|m)$"}),
        Kind::Traffic => json!({"type": "string", "pattern": "^(icmp|(tcp|udp)/[0-9]{1,5})$"}),
        Kind::Number(least, i64::MAX) => json!({"type": "integer", "minimum": least}),
        Kind::Number(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::Decimal => json!({"type": "number"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Time => json!({"type": "string", "pattern": "^[0-9]+(us|ms|s)$"}),
        Kind::Part => json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]*)?%$"}),
        Kind::Rate => {
            json!({"type": "string", "pattern": "^(none|[0-9]*[1-9][0-9]*(k|m|g)bit)$"})
        }
        Kind::Ends => json!({"type": "array", "items": {"type": "string"}, "minItems": 2}),
        Kind::Each(keys) => json!({"type": "object", "additionalProperties": table(keys)}),
        Kind::Pair => {
            json!({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2})
        }
        Kind::Table(keys) => table(keys),
        Kind::Names => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::TextsOrTables(keys) => {
            json!({"type": "array", "items": {"anyOf": [{"type": "string"}, table(keys)]}})
        }
    }
}
