//! A TOML document cut into its tables, with the place of each.
//!
//! Owns: syntax errors, unknown tables, and the step from one spanned table to one typed value.
//! Never: knows what the tables mean.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::diagnose::{Mistakes, nearest};

/// A value with its place.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// Reads the syntax; on mistakes notes all of them and returns nothing.
pub(crate) fn read_document<'i>(
    text: &'i str,
    mistakes: &mut Mistakes,
) -> Option<Spanned<DeTable<'i>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        mistakes.add_toml(error, "syntax", 0..0);
    }
    errors.is_empty().then_some(document)
}

/// The document's top tables by name.
pub(crate) struct Tables<'i> {
    by_name: BTreeMap<String, Value<'i>>,
}

impl<'i> Tables<'i> {
    /// Sorts the document's tables; those not in `known` are mistakes, with `special`'s help or the
    /// nearest known name.
    pub(crate) fn of(
        document: Spanned<DeTable<'i>>,
        known: &[&str],
        mistakes: &mut Mistakes,
        special: impl Fn(&str) -> Option<String>,
    ) -> Tables<'i> {
        let mut by_name = BTreeMap::new();
        for (key, value) in document.into_inner() {
            let (span, key) = (key.span(), key.into_inner().into_owned());
            if known.contains(&key.as_str()) {
                by_name.insert(key, value);
                continue;
            }
            let help =
                special(&key).unwrap_or_else(|| match nearest(&key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the tables known here are {}", known.join(", ")),
                });
            mistakes.add(
                span,
                format!("unknown table `{key}`"),
                "not known here",
                help,
            );
        }
        Tables { by_name }
    }

    /// The items of `[[name]]`, left in place.
    pub(crate) fn peek(&self, name: &str) -> Vec<Value<'i>> {
        match self.by_name.get(name).map(|value| value.get_ref()) {
            Some(DeValue::Array(items)) => items.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The items of `[[name]]`; a single `[name]` counts as a list of one.
    pub(crate) fn take(&mut self, name: &str) -> Vec<Value<'i>> {
        match self.by_name.remove(name) {
            None => Vec::new(),
            Some(value) => {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Array(items) => items.into_iter().collect(),
                    other => vec![Spanned::new(span, other)],
                }
            }
        }
    }
}

/// The span of the value of `key` in a table, or of the whole table.
pub(crate) fn span_of(value: &Value<'_>, key: &str) -> Range<usize> {
    value
        .get_ref()
        .as_table()
        .and_then(|table| table.get(key))
        .map_or_else(|| value.span(), Spanned::span)
}

/// A string below `key`.
pub(crate) fn text_of<'a>(value: &'a Value<'_>, key: &str) -> Option<&'a str> {
    value.get_ref().as_table()?.get(key)?.get_ref().as_str()
}

/// The items of the array below `key`.
pub(crate) fn items_of<'a, 'i>(value: &'a Value<'i>, key: &str) -> Vec<&'a Value<'i>> {
    value
        .get_ref()
        .as_table()
        .and_then(|table| table.get(key))
        .and_then(|items| items.get_ref().as_array())
        .map(|items| items.iter().collect())
        .unwrap_or_default()
}

/// The table without `key`.
pub(crate) fn without<'i>(value: &Value<'i>, key: &str) -> Value<'i> {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => {
            let rest = table
                .iter()
                .filter(|(name, _)| name.get_ref() != key)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            Spanned::new(span, DeValue::Table(rest))
        }
        _ => value.clone(),
    }
}

/// One table as a typed value; what does not fit is noted with `context` before it.
pub(crate) fn typed<T: DeserializeOwned>(
    value: &Value<'_>,
    context: &str,
    mistakes: &mut Mistakes,
) -> Option<T> {
    match T::deserialize(ValueDeserializer::from(value.clone())) {
        Ok(typed) => Some(typed),
        Err(error) => {
            mistakes.add_toml(&error, context, value.span());
            None
        }
    }
}
