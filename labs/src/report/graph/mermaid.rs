//! The picture as a Mermaid flowchart. Source: <https://mermaid.js.org/syntax/flowchart.html>.

use std::fmt::Write as _;

use super::Picture;

/// Ids are made here, for names may hold what Mermaid takes for its own; text is quoted, with entities for what ends it.
pub(crate) fn mermaid(picture: &Picture) -> String {
    let mut text = format!(
        "---\ntitle: {}\n---\nflowchart TB\n",
        json(&format!("lab {}", picture.lab))
    );
    let mut line = |line: String| {
        let _ = writeln!(text, "    {line}");
    };
    let mut joined = Vec::new();
    for (number, node) in picture.nodes.iter().enumerate() {
        let state = if node.alive { "" } else { ", not alive" };
        let title = format!("{} {}{state}", node.name, node.vtep);
        line(format!("subgraph n{number}[\"{}\"]", quoted(&title)));
        let on = picture.containers.iter().enumerate();
        let mut empty = true;
        for (id, container) in on.filter(|(_, c)| c.node == node.name) {
            empty = false;
            line(format!("    c{id}[\"{}\"]", quoted(&container.words())));
            for (network, address) in &container.endpoints {
                if let Some(at) = picture.networks.iter().position(|n| n.name == *network) {
                    joined.push(format!("c{id} ---|\"{}\"| w{at}", quoted(address)));
                }
            }
        }
        if empty {
            line(format!("    e{number}[\" \"]"));
        }
        line("end".to_owned());
    }
    for (number, network) in picture.networks.iter().enumerate() {
        line(format!("w{number}([\"{}\"])", quoted(&network.words())));
    }
    joined.into_iter().for_each(&mut line);
    for (number, link) in picture.links.iter().enumerate() {
        line(format!(
            "l{number}{{{{\"{}\"}}}}",
            quoted(&link.label.join(", "))
        ));
        for (at, node) in picture.nodes.iter().enumerate() {
            if link.nodes.contains(&node.name) {
                let arrow = if link.good { "===" } else { "-.-" };
                line(format!("n{at} {arrow} l{number}"));
            }
        }
    }
    for (number, chain) in picture.chains.iter().enumerate() {
        line(format!("s{number}>\"{}\"]", quoted(&chain.words())));
        let hops = chain.hops.iter().flat_map(|(_, by)| by);
        for container in hops {
            if let Some(id) = picture.containers.iter().position(|c| c.name == *container) {
                line(format!("s{number} --> c{id}"));
            }
        }
    }
    text
}

/// Inside quotes: Mermaid's entities are `#` and the character's number.
fn quoted(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '#' | '<' | '>' | '&' => format!("#{};", u32::from(c)),
            c if c.is_control() => " ".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

/// A YAML string.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::graph::example;

    #[test]
    fn everything_stands_in_it_and_nothing_ends_a_text_early() {
        let text = mermaid(&example());
        assert_eq!(
            text,
            r#"---
title: "lab a <b> & \"c\""
---
flowchart TB
    subgraph n0["n1 192.0.2.11"]
        c0["red/a"]
    end
    subgraph n1["n2 192.0.2.11, not alive"]
        c1["red/fw"]
    end
    w0(["red/front  vni 7  10.10.0.0/16"])
    c0 ---|"10.10.0.1"| w0
    c1 ---|"in0"| w0
    c1 ---|"out0"| w0
    l0{{"n1+n2, delay 5ms"}}
    n0 -.- l0
    n1 -.- l0
    s0>"red/guard v3: fw (red/fw)"]
    s0 --> c1
"#
        );
        assert_eq!(quoted("a\"b#\n"), "a#34;b#35; ");
    }
}
