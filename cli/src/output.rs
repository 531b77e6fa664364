//! Printing facts: tables for people, one JSON object a line for machines.

use std::io::IsTerminal;

use comfy_table::{Table, presets};
use serde_json::{Map, Value};
use weft_agent::proto::Object;

/// Whether to colour: only for a person at a terminal who did not decline (no-color.org).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A table without lines, as wide as its content.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    println!("{}", table.trim_fmt());
}

/// One object as JSON: its document with `name` and `revision` beside it.
pub fn object_json(object: &Object) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), object.name.clone().into());
    match serde_json::from_str(&object.json) {
        Ok(Value::Object(document)) => map.extend(document),
        Ok(other) => {
            map.insert("value".to_owned(), other);
        }
        Err(_) => {
            map.insert("value".to_owned(), object.json.clone().into());
        }
    }
    map.insert("revision".to_owned(), object.revision.into());
    Value::Object(map)
}

/// A value in a cell: text without quotes, lists with commas, absence as a dash.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(map) if map.is_empty() => "-".to_owned(),
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| format!("{k}={}", cell(v)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// Prints objects: as JSON, or the named fields as columns. A field is a path, `status.state`.
pub fn objects<const N: usize>(json: bool, objects: &[Object], columns: [(&str, &str); N]) {
    let values = objects.iter().map(object_json);
    if json {
        for value in values {
            println!("{value}");
        }
        return;
    }
    let rows = values.map(|value| columns.map(|(_, path)| cell(field(&value, path))));
    table(columns.map(|(head, _)| head), rows);
}

fn field<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(value, |value, key| value.get(key).unwrap_or(&Value::Null))
}

/// One object in full, indented.
pub fn document(json: bool, object: &Object) {
    let value = object_json(object);
    if json {
        println!("{value}");
    } else {
        println!("{value:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_read_like_words() {
        assert_eq!(cell(&json!(null)), "-");
        assert_eq!(cell(&json!(["10.0.0.1", "fd00::1"])), "10.0.0.1, fd00::1");
        assert_eq!(cell(&json!({"role": "web"})), "role=web");
        assert_eq!(field(&json!({"a": {"b": 3}}), "a.b"), &json!(3));
        assert_eq!(field(&json!({}), "a.b"), &json!(null));
    }

    #[test]
    fn an_object_carries_name_and_revision_beside_its_document() {
        let object = Object {
            kind: "network".into(),
            name: "red/front".into(),
            json: r#"{"vni": 1}"#.into(),
            revision: 7,
        };
        assert_eq!(
            object_json(&object),
            json!({"name": "red/front", "vni": 1, "revision": 7})
        );
    }
}
