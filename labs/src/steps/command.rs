//! `run`: a command on a node or in a container ends with the code it should, and says what it should.

use std::time::Instant;

use super::{Attempt, until};
use crate::cancel::Cancel;
use crate::command::Output;
use crate::engine::Running;
use crate::file::Machine;

/// What a command must do.
pub(super) struct Expected<'a> {
    pub(super) on: &'a Machine,
    pub(super) command: &'a [String],
    pub(super) exit: i32,
    pub(super) text: Option<&'a str>,
}

pub(super) fn run(
    running: &Running,
    expected: &Expected<'_>,
    deadline: Instant,
    cancel: &Cancel,
) -> Attempt {
    let command: Vec<&str> = expected.command.iter().map(String::as_str).collect();
    let (node, look) = match expected.on {
        Machine::Node(name) => {
            let node = running.node(name.as_str());
            let log = running.place.log(name.as_str());
            (node, log.display().to_string())
        }
        Machine::Container(name) => (running.nodes.first(), format!("weft logs {name}")),
    };
    let Some(node) = node else {
        return Err(format!("expected: a node {}; seen: none", expected.on));
    };
    let container = expected.on.to_string();
    // What it did last, when a later attempt is cut off by the deadline.
    let mut last: Option<String> = None;
    until(deadline, cancel, || {
        let left = deadline.saturating_duration_since(Instant::now());
        let output = match expected.on {
            Machine::Node(_) => node.run(&command, left),
            Machine::Container(_) => {
                let line = [&["exec", &container, "--"], command.as_slice()].concat();
                node.weft(&line, left)
            }
        };
        match output {
            Ok(output) => {
                let judged = judge(expected, &Seen::of(&output), &look);
                last = judged.as_ref().err().cloned();
                judged
            }
            Err(error) => {
                let cut = sentence(expected, &error.to_string(), &look);
                Err(last.take().unwrap_or(cut))
            }
        }
    })
}

/// What a command did.
struct Seen {
    /// Nothing: a signal ended it.
    code: Option<i32>,
    text: String,
    words: String,
}

impl Seen {
    fn of(output: &Output) -> Seen {
        Seen {
            code: output.status.code(),
            text: format!("{}{}", output.stdout, output.stderr),
            words: output.words(),
        }
    }
}

fn judge(expected: &Expected<'_>, seen: &Seen, look: &str) -> Attempt {
    let has_text = expected.text.is_none_or(|text| seen.text.contains(text));
    if seen.code == Some(expected.exit) && has_text {
        return Ok(seen.text.lines().next().unwrap_or_default().to_owned());
    }
    let end = match seen.code {
        Some(code) => format!("it ended with {code}"),
        None => "a signal ended it".to_owned(),
    };
    let said = format!("{end}, {}", seen.words);
    Err(sentence(expected, &said, look))
}

fn sentence(expected: &Expected<'_>, seen: &str, look: &str) -> String {
    let text = match expected.text {
        Some(text) => format!(" and says {text:?}"),
        None => String::new(),
    };
    format!(
        "expected: `{}` on {} ends with {}{text}; seen: {seen}; look at: {look}",
        expected.command.join(" "),
        expected.on,
        expected.exit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(exit: i32, text: Option<&str>, code: Option<i32>, said: &str) -> Attempt {
        let seen = Seen {
            code,
            text: said.to_owned(),
            words: said.to_owned(),
        };
        let expected = Expected {
            on: &Machine::Node("n1".parse().unwrap()),
            command: &["ls".to_owned(), "/x".to_owned()],
            exit,
            text,
        };
        judge(&expected, &seen, "weft logs")
    }

    #[test]
    fn a_command_is_judged_by_its_code_and_its_words() {
        assert_eq!(judged(0, None, Some(0), "a\nb"), Ok("a".to_owned()));
        assert_eq!(judged(2, Some("no x"), Some(2), "no x"), Ok("no x".into()));
        assert_eq!(
            judged(0, None, Some(2), "no such file").unwrap_err(),
            "expected: `ls /x` on n1 ends with 0; seen: it ended with 2, no such file; \
             look at: weft logs"
        );
        assert_eq!(
            judged(2, Some("denied"), Some(2), "no such file").unwrap_err(),
            "expected: `ls /x` on n1 ends with 2 and says \"denied\"; \
             seen: it ended with 2, no such file; look at: weft logs"
        );
        let ended = judged(0, None, None, "").unwrap_err();
        assert!(ended.contains("seen: a signal ended it"), "{ended}");
    }
}
