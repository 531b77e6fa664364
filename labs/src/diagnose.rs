//! Mistakes in a file, each with the place where it stands.
//!
//! Owns: collecting them in the order of the file, and the words for common mistakes. The type is the
//! chain files' own, so that both print alike. Never: decides what is a mistake; the readers of the tables do.

use std::ops::Range;

pub use weft_chain::Diagnostic;
use weft_chain::diagnostic::Source;

/// Collects the mistakes of one file.
#[derive(Debug)]
pub(crate) struct Mistakes {
    source: Source,
    found: Vec<Diagnostic>,
}

impl Mistakes {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let source = Source {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        Self {
            source,
            found: Vec::new(),
        }
    }

    /// Notes a mistake at `span`.
    pub(crate) fn add(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        let help = help.into().unwrap_or_default();
        self.found
            .push(Diagnostic::new(&self.source, span, message, label, help));
    }

    /// Notes what the TOML reader says, with `context` (e.g. "container") before it.
    pub(crate) fn add_toml(
        &mut self,
        error: &toml::de::Error,
        context: &str,
        around: Range<usize>,
    ) {
        let message = error.message().trim().replace('\n', ", ");
        let span = error.span().unwrap_or(around);
        let help = toml_help(&message);
        let label = message
            .split([',', ':'])
            .next()
            .unwrap_or("here")
            .trim()
            .to_owned();
        let message = if context.is_empty() {
            message
        } else {
            format!("{context}: {message}")
        };
        self.add(span, message, label, help);
    }

    /// Takes mistakes found in another file.
    pub(crate) fn adopt(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        self.found.extend(others);
    }

    /// The line of a byte, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        let end = at.min(self.source.text.len());
        let before = &self.source.text.as_bytes()[..end];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes in the order of the file; those of other files last.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let own = self.source.name.clone();
        self.found.sort_by_key(|d| {
            let file = d.source.name.clone();
            (file != own, file, d.span.start)
        });
        self.found
    }
}

/// The next step for what the TOML reader finds most often.
fn toml_help(message: &str) -> Option<String> {
    if message.starts_with("unknown field") {
        let known = message.split("expected").nth(1)?.trim();
        let known = known.trim_start_matches("one of").trim();
        return Some(format!(
            "check the spelling; the keys known here are {known}"
        ));
    }
    if let Some(rest) = message.strip_prefix("missing field") {
        return Some(format!("add the key {}", rest.trim()));
    }
    if message.starts_with("unknown variant") {
        let known = message.split("expected").nth(1)?.trim();
        return Some(format!("write {known}"));
    }
    if message.starts_with("invalid type") {
        return message
            .split("expected")
            .nth(1)
            .map(|what| format!("write {} here", what.trim()));
    }
    None
}

/// "did you mean" for a name that is not among `known`.
pub(crate) fn nearest<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 4))
        .min()
        .map(|(_, name)| name)
}

/// Edit distance (Levenshtein), two rows.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_in_lines_and_characters() {
        let text = "a = 1\nß = \"x\"\n";
        let mut mistakes = Mistakes::new("f.toml", text);
        let at = text.find('"').unwrap();
        mistakes.add(at..at + 3, "bad", "here", None);
        let found = mistakes.finish();
        assert_eq!((found[0].line, found[0].column), (2, 5));
        assert_eq!(found[0].message, "bad");
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["red/web1", "red/web2", "blue/a"];
        assert_eq!(nearest("red/wed1", known), Some("red/web1"));
        assert_eq!(nearest("green/db", known), None);
    }
}
