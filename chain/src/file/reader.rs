//! Tables, keys and values of a TOML document with their places, and the words for what is wrong
//! with them. Knows nothing of chains.

use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;
use crate::diagnostic::{Diagnostic, Source, nearest};

/// A value with its place.
pub(super) type Node<'i> = Spanned<DeValue<'i>>;

/// Collects mistakes while values are taken out.
pub(super) struct Reader<'s> {
    source: &'s Source,
    found: Vec<Diagnostic>,
}

/// A table that is being read.
pub(super) struct Table<'t, 'i> {
    /// What it is, for messages: `[chain]`, `[[hop]]`, `from`.
    pub(super) what: String,
    /// Where it stands.
    pub(super) span: Span,
    entries: &'t DeTable<'i>,
}

impl<'t, 'i> Table<'t, 'i> {
    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<&'t Node<'i>> {
        self.entries
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, value)| value)
    }
    /// All keys and values.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, Span, &'t Node<'i>)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }
    /// Where `key` stands, or the table without it.
    pub(super) fn key_span(&self, key: &str) -> Span {
        let found = self.entries.iter().find(|(k, _)| k.get_ref() == key);
        found.map_or(self.span.clone(), |(key, _)| key.span())
    }
}

/// A type's name with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `a, b or c`
pub(super) fn or_list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Reader {
            source,
            found: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.found
    }

    /// Notes a mistake.
    pub(super) fn say(
        &mut self,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.found
            .push(Diagnostic::new(self.source, span, message, label, help));
    }

    /// Notes what the TOML reader says.
    pub(super) fn syntax(&mut self, error: &toml::de::Error) {
        let words = error.message().trim().replace('\n', ", ");
        let end = self.source.text.len();
        let span = error.span().unwrap_or(end..end);
        let label = words
            .split([',', ':'])
            .next()
            .unwrap_or("here")
            .trim()
            .to_owned();
        let help = if words.contains("duplicate key") {
            "keep one of the two"
        } else if words.contains("string") || words.contains("quote") {
            "text is written in double quotes: name = \"web-guard\""
        } else {
            "the file is TOML 1.0: tables like [chain] and [[hop]], entries like key = \"value\""
        };
        self.say(span, format!("not TOML: {words}"), label, help);
    }

    /// A table whose keys are all in `known`; others are mistakes.
    pub(super) fn table<'t, 'i>(
        &mut self,
        what: &str,
        node: &'t Node<'i>,
        known: &[&str],
    ) -> Option<Table<'t, 'i>> {
        let Some(entries) = node.get_ref().as_table() else {
            self.wrong_type(what, node, "a table");
            return None;
        };
        Some(self.entries(what, entries, node.span(), known))
    }

    /// The same for entries that are known to be a table's.
    pub(super) fn entries<'t, 'i>(
        &mut self,
        what: &str,
        entries: &'t DeTable<'i>,
        span: Span,
        known: &[&str],
    ) -> Table<'t, 'i> {
        for (key, _) in entries.iter().filter(|_| !known.is_empty()) {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{what} knows {}", known.join(", ")),
            };
            self.say(
                key.span(),
                format!("unknown key `{name}` in {what}"),
                "unknown key",
                help,
            );
        }
        Table {
            what: what.to_owned(),
            span,
            entries,
        }
    }

    fn wrong_type(&mut self, what: &str, node: &Node<'_>, wanted: &str) {
        let is = kind(node.get_ref());
        self.say(
            node.span(),
            format!("{what} is {is}, not {wanted}"),
            format!("not {wanted}"),
            "",
        );
    }

    /// The value of a key that must be there.
    pub(super) fn need<'t, 'i>(
        &mut self,
        table: &Table<'t, 'i>,
        key: &str,
        example: &str,
    ) -> Option<&'t Node<'i>> {
        let found = table.get(key);
        if found.is_none() {
            let what = &table.what;
            self.say(
                table.span.clone(),
                format!("{what} has no `{key}`"),
                format!("`{key}` is missing here"),
                format!("add {example}"),
            );
        }
        found
    }

    /// A string.
    pub(super) fn string<'t>(&mut self, what: &str, node: &'t Node<'_>) -> Option<&'t str> {
        let text = node.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(what, node, "a string");
        }
        text
    }

    /// A string that is read further.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        what: &str,
        node: &Node<'_>,
        help: &str,
    ) -> Option<T> {
        let text = self.string(what, node)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.say(
                    node.span(),
                    error.to_string(),
                    format!("not a valid {what}"),
                    help,
                );
                None
            }
        }
    }

    /// A string that is one of `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        what: &str,
        node: &Node<'_>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(what, node)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let help = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("use {}", or_list(&names)),
        };
        self.say(
            node.span(),
            format!("unknown {what} {text:?}"),
            format!("not {}", or_list(&names)),
            help,
        );
        None
    }

    /// True or false.
    pub(super) fn boolean(&mut self, what: &str, node: &Node<'_>) -> Option<bool> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            self.wrong_type(what, node, "true or false");
        }
        value
    }

    /// A whole number in `range`.
    pub(super) fn number(
        &mut self,
        what: &str,
        node: &Node<'_>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let Some(integer) = node.get_ref().as_integer() else {
            self.wrong_type(what, node, "a number");
            return None;
        };
        let value = u32::from_str_radix(integer.as_str(), integer.radix());
        match value {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                let (lo, hi) = (range.start(), range.end());
                let text = integer.as_str();
                self.say(
                    node.span(),
                    format!("{what} {text} is not possible"),
                    format!("not {lo} to {hi}"),
                    "",
                );
                None
            }
        }
    }

    /// A list; each entry as it is.
    pub(super) fn list<'t, 'i>(
        &mut self,
        what: &str,
        node: &'t Node<'i>,
    ) -> Option<Vec<&'t Node<'i>>> {
        let Some(array) = node.get_ref().as_array() else {
            self.wrong_type(what, node, "a list");
            return None;
        };
        Some(array.iter().collect())
    }
}
