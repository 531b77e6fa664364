//! The JSON schema of chain files, for editors: the keys that the reader knows, in the words of JSON Schema 2020-12.
//!
//! Says the shape alone. What a file names is judged by the verifier ([`crate::check`]), and limits
//! between two values (a range's first and last port) by the reader.

use serde_json::{Value, json};

use super::FORMAT;

const NAME: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
const NETWORK: &str = "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
const TRAFFIC: &str = "^(any|icmp|(tcp|udp)(/[0-9]{1,5}(-[0-9]{1,5})?)?)$";

/// The schema as JSON.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "weft chain",
        "description": "A service chain: which traffic goes through which hops, in order.",
        "type": "object",
        "additionalProperties": false,
        "required": ["format", "chain", "match", "hop"],
        "properties": {
            "format": {"description": "The file format.", "const": FORMAT},
            "chain": chain(),
            "match": {"description": "The traffic that takes the chain: any of these.", "type": "array", "minItems": 1, "items": matching()},
            "hop": {"description": "What it goes through, in order.", "type": "array", "minItems": 1, "items": hop()},
        },
    })
}

fn chain() -> Value {
    json!({
        "description": "The chain itself.",
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "tenant"],
        "properties": {
            "name": {"description": "The chain's name.", "type": "string", "pattern": NAME},
            "tenant": {"description": "Whose it is; it selects in this tenant's networks only.", "type": "string", "pattern": NAME},
            "symmetric": {"description": "Whether answers take the same hops back. Default false.", "type": "boolean"},
        },
    })
}

fn matching() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["from", "to", "traffic"],
        "properties": {
            "from": selector("Who sends."),
            "to": selector("Who receives."),
            "traffic": {
                "description": "tcp/80, udp/53, tcp/8000-8100, tcp, udp, icmp or any; ports are the receiver's.",
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"type": "string", "pattern": TRAFFIC},
            },
        },
    })
}

/// A network and at most one of labels, CIDR and endpoint in it, or what is outside.
fn selector(about: &str) -> Value {
    json!({
        "description": about,
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "network": {"description": "A network of the tenant.", "type": "string", "pattern": NETWORK},
            "labels": labels("Endpoints of containers with all of these labels."),
            "cidr": {"description": "Addresses of a range, as 10.10.4.0/24 or fd00:10::/64.", "type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"},
            "endpoint": {"description": "The endpoint of this name.", "type": "string", "pattern": NAME},
            "external": {"description": "What is outside of every network.", "const": true},
        },
        "oneOf": [
            {"required": ["network"], "maxProperties": 2, "not": {"required": ["external"]}},
            {"required": ["external"], "maxProperties": 1},
        ],
    })
}

fn hop() -> Value {
    let arms = |number: u32| json!({"properties": {"interfaces": {"minItems": number, "maxItems": number}}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "select", "interfaces"],
        "properties": {
            "name": {"description": "The hop's name; each once.", "type": "string", "pattern": NAME},
            "select": labels("Containers with all of these labels serve the hop."),
            "mode": {"description": "How packets pass it. Default inline.", "enum": ["inline", "routed", "tap"]},
            "interfaces": {
                "description": "Where packets enter and where they leave; for mode tap the one that gets the copies.",
                "type": "array", "uniqueItems": true,
                "items": {"type": "string", "pattern": "^[-_.A-Za-z0-9]{1,15}$"},
            },
            "on_failure": {"description": "What becomes of packets that no instance can take. Default drop.", "enum": ["drop", "bypass"]},
            "health": health(),
        },
        "if": {"properties": {"mode": {"const": "tap"}}, "required": ["mode"]},
        "then": arms(1),
        "else": arms(2),
    })
}

fn health() -> Value {
    json!({
        "description": "How instances are probed; by one of tcp, http, exec and path.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tcp": {"description": "A port that must accept.", "type": "integer", "minimum": 1, "maximum": u16::MAX},
            "http": {"description": "Port and path that must answer, as :8080/healthy.", "type": "string"},
            "exec": {"description": "A command that must succeed.", "type": "array", "minItems": 1, "items": {"type": "string"}},
            "path": {"description": "A probe through the hop must come out again.", "const": true},
            "interval": {"description": "Between probes, 10ms to 1h. Default 1s.", "type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
            "failures": {"description": "So many in a row, and the instance is out. Default 3.", "type": "integer", "minimum": 1, "maximum": 1000},
        },
        "oneOf": [{"required": ["tcp"]}, {"required": ["http"]}, {"required": ["exec"]}, {"required": ["path"]}],
    })
}

fn labels(about: &str) -> Value {
    json!({"description": about, "type": "object", "minProperties": 1, "additionalProperties": {"type": "string"}})
}

#[cfg(test)]
mod tests;
