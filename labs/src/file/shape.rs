//! The shape of a lab file as one table: which keys a table has, what stands in them, and what they are for.
//!
//! The reader judges every table by it, so that all mistakes of a table are found in one go, and `schema` prints it for
//! editors: what one knows the other knows. Never: judges what a value refers to.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::lab::{DURATION_HELP, duration};
use super::traffic::Probe;
use super::units;
use crate::diagnose::{Mistakes, nearest};
use crate::tables::Value;

mod keys;

#[cfg(test)]
pub(super) use keys::{ATTACHMENT, RESOURCES};
pub(super) use keys::{CHAIN, CONTAINER, LAB, LINK, NETWORK, NODE, STEP_KINDS, WITHIN};

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// What it is for, shown by editors.
    pub(super) about: &'static str,
}

/// What stands in a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A string like `500ms`.
    Duration,
    /// `tcp/80`, `udp/53` or `icmp`.
    Traffic,
    /// A whole number in this range, both ends included.
    Number(i64, i64),
    /// Any number.
    Decimal,
    /// true or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A string like `500us` or `0ms`.
    Time,
    /// A string like `0.5%`.
    Part,
    /// A string like `100mbit`, or `none`.
    Rate,
    /// A list of two strings or more.
    Ends,
    /// Names of the writer's choice, each with a table of these keys.
    Each(&'static [Key]),
    /// A list of exactly two strings.
    Pair,
    /// A table with these keys.
    Table(&'static [Key]),
    /// Names of the writer's choice, each with a string.
    Names,
    /// A list of strings or of tables with these keys.
    TextsOrTables(&'static [Key]),
}

/// Judges a value by its shape. The value without its unknown keys; nothing if what is left cannot be read.
pub(super) fn check<'i>(
    value: &Value<'i>,
    kind: &Kind,
    context: &str,
    mistakes: &mut Mistakes,
) -> Option<Value<'i>> {
    match kind {
        Kind::Table(keys) => table(value, keys, context, mistakes),
        Kind::Each(keys) => each(value, keys, context, mistakes),
        _ => leaf(value, kind)
            .map_err(|(message, help)| {
                mistakes.add(value.span(), format!("{context}: {message}"), "this", help);
            })
            .ok()
            .map(|()| value.clone()),
    }
}

/// Every table of a table of the writer's names.
fn each<'i>(
    value: &Value<'i>,
    keys: &'static [Key],
    context: &str,
    mistakes: &mut Mistakes,
) -> Option<Value<'i>> {
    let Some(all) = value.get_ref().as_table() else {
        mistakes.add(
            value.span(),
            format!("{context}: a table of tables is expected"),
            "this",
            "write { NAME = { ... } }".to_owned(),
        );
        return None;
    };
    let judged = all.iter().map(|(name, value)| {
        let context = format!("{context}: {}", name.get_ref());
        table(value, keys, &context, mistakes).map(|value| (name.clone(), value))
    });
    let judged: Vec<_> = judged.collect();
    let kept: Option<DeTable<'i>> = judged.into_iter().collect();
    kept.map(|kept| Spanned::new(value.span(), DeValue::Table(kept)))
}

fn table<'i>(
    value: &Value<'i>,
    keys: &'static [Key],
    context: &str,
    mistakes: &mut Mistakes,
) -> Option<Value<'i>> {
    let Some(table) = value.get_ref().as_table() else {
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        mistakes.add(
            value.span(),
            format!("{context}: a table is expected"),
            "this",
            format!("write {{ ... }} with {}", names.join(", ")),
        );
        return None;
    };
    let mut whole = true;
    let mut kept = Vec::new();
    for (name, value) in table.iter() {
        let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) else {
            unknown(name, keys.iter().map(|key| key.name), context, mistakes);
            continue;
        };
        match check(
            value,
            &key.kind,
            &format!("{context}: `{}`", key.name),
            mistakes,
        ) {
            Some(value) => kept.push((name.clone(), value)),
            None => whole = false,
        }
    }
    for key in keys.iter().filter(|key| key.required) {
        if !table.contains_key(key.name) {
            whole = false;
            mistakes.add(
                value.span(),
                format!("{context}: `{}` is missing", key.name),
                "here",
                format!("add the key `{}`. {}", key.name, key.about),
            );
        }
    }
    let kept: DeTable<'i> = kept.into_iter().collect();
    whole.then(|| Spanned::new(value.span(), DeValue::Table(kept)))
}

/// Notes a key that nobody knows.
pub(super) fn unknown<'k>(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    known: impl Iterator<Item = &'k str> + Clone,
    context: &str,
    mistakes: &mut Mistakes,
) {
    let help = match nearest(name.get_ref(), known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("the keys known here are {}", known.join(", "))
        }
    };
    mistakes.add(
        name.span(),
        format!("{context}: unknown key `{}`", name.get_ref()),
        "not known here",
        help,
    );
}

/// What is wrong with a value that is no table, and what to write instead.
fn leaf(value: &Value<'_>, kind: &Kind) -> Result<(), (String, String)> {
    let plain = value.get_ref();
    let text = plain.as_str();
    let texts = || {
        plain
            .as_array()
            .filter(|all| all.iter().all(|one| one.get_ref().is_str()))
    };
    let wrong = |message: &str, help: &str| Err((message.to_owned(), help.to_owned()));
    match kind {
        Kind::Text if text.is_none() => wrong("a string is expected", "write it in quotes"),
        Kind::Duration => match text.and_then(duration) {
            Some(_) => Ok(()),
            None => wrong("not a duration", DURATION_HELP),
        },
        Kind::Time if text.and_then(units::time).is_none() => wrong("not a time", units::TIME_HELP),
        Kind::Part if text.and_then(units::part).is_none() => {
            wrong("not a part of a hundred", units::PART_HELP)
        }
        Kind::Rate if text.and_then(units::rate).is_none() => wrong("not a rate", units::RATE_HELP),
        Kind::Ends if texts().is_none_or(|all| all.len() < 2) => wrong(
            "a list of two nodes or more is expected",
            "write [\"...\", \"...\"]",
        ),
        Kind::Traffic => match text {
            None => wrong("a string is expected", TRAFFIC_HELP),
            Some(text) => text
                .parse::<Probe>()
                .map(|_| ())
                .map_err(|message| (message, TRAFFIC_HELP.to_owned())),
        },
        Kind::Number(least, most) => {
            let number = plain
                .as_integer()
                .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
            match number {
                Some(number) if (*least..=*most).contains(&number) => Ok(()),
                _ if *most == i64::MAX => wrong("a whole number is expected", "write one like 0"),
                _ => Err((
                    format!("not a whole number from {least} to {most}"),
                    format!("write {least} to {most}"),
                )),
            }
        }
        Kind::Decimal if plain.as_integer().is_none() && plain.as_float().is_none() => {
            wrong("a number is expected", "write one like 0.5")
        }
        Kind::Flag if plain.as_bool().is_none() => {
            wrong("true or false is expected", "write true or false")
        }
        Kind::Word(words) if !text.is_some_and(|text| words.contains(&text)) => Err((
            match text {
                Some(text) => format!("{text:?} is not known here"),
                None => "a string is expected".to_owned(),
            },
            format!("write one of {}", words.join(", ")),
        )),
        Kind::Texts if texts().is_none() => {
            wrong("a list of strings is expected", "write [\"...\", \"...\"]")
        }
        Kind::Pair if texts().is_none_or(|all| all.len() != 2) => wrong(
            "a list of two strings is expected",
            "write [\"...\", \"...\"]",
        ),
        _ => Ok(()),
    }
}

pub(super) const TRAFFIC_HELP: &str = "write tcp/80, udp/53 or icmp";
