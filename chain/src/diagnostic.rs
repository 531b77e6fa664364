//! A mistake in a chain file, with its place: file, line, column, what is marked and what to do.
//!
//! Travels as JSON from an agent to whoever applied the file, so it carries the file's text.

use std::fmt;
use std::ops::Range;

use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use serde::{Deserialize, Serialize};

/// A file's name and text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's name, as the user gave it.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// One mistake in a chain file. Prints with its lines through miette.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is wrong: subject and cause.
    pub message: String,
    /// What to write under the marked text.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The marked bytes of the file.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The file.
    pub source: Source,
}

impl Diagnostic {
    /// A mistake at `span` of `source`; a span that the text does not have is moved into it.
    pub fn new(
        source: &Source,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        let start = floor(&source.text, span.start);
        let end = floor(&source.text, span.end).max(start);
        let line_start = source.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let help: String = help.into();
        Diagnostic {
            message: message.into(),
            label: label.into(),
            help: (!help.is_empty()).then_some(help),
            line: source.text[..start].matches('\n').count() + 1,
            column: source.text[line_start..start].chars().count() + 1,
            span: start..end,
            source: source.clone(),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.source.name
    }
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.source.name;
        write!(f, "{file}:{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::at(self.span.clone(), self.label.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Which of `known` the writer most likely meant by `text`, if any is near.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (text.chars().count() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|candidate| (distance(text, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance with transpositions of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_near() {
        assert_eq!(
            nearest("trafic", ["from", "to", "traffic"]),
            Some("traffic")
        );
        assert_eq!(nearest("form", ["from", "to", "traffic"]), Some("from"));
        assert_eq!(nearest("colour", ["from", "to", "traffic"]), None);
    }

    #[test]
    fn columns_count_characters() {
        let source = Source {
            name: "x".into(),
            text: "ä = 1\n  ö = 2".into(),
        };
        let at = source.text.find('2').expect("is there");
        let found = Diagnostic::new(&source, at..at + 1, "m", "l", "");
        assert_eq!((found.line, found.column, found.help), (2, 7, None));
    }
}
