//! `weft lab graph`: what runs in a lab, as its agents and links tell it. The drawing is `report::graph`'s.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::links;
use super::list::Found;
use super::{check_name, need_root};
use crate::backend;
use crate::cancel::Cancel;
use crate::command;
use crate::error::LabError;
use crate::options::{Drawing, Host};
use crate::place::Place;
use crate::report::graph::{self, Chain, Container, Link, Network, Node, Picture};

/// How long an agent may take to answer, on a machine that is emulated.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// `weft lab graph NAME`: prints the picture.
pub fn graph(host: &Host, name: &str, drawing: Drawing) -> Result<(), LabError> {
    let name = check_name(name)?;
    let lab = Found::read(host, &name)?;
    need_root(&name, lab.backend)?;
    let picture = look(host, &lab)?;
    match drawing {
        Drawing::Mermaid => print!("{}", graph::mermaid(&picture)),
        Drawing::Svg => print!("{}", graph::svg(&picture)),
    }
    Ok(())
}

fn look(host: &Host, lab: &Found) -> Result<Picture, LabError> {
    let ask = |words: &[&str]| ask(host, lab, words);
    let status = ask(&["status"])?;
    let known = status
        .first()
        .map_or(&[][..], |status| list(&status["nodes"]));
    let nodes = lab.names().into_iter().map(|name| {
        let told = known.iter().find(|node| node["name"] == *name);
        Node {
            alive: told.is_some_and(|node| node["alive"] == true),
            vtep: told.map_or(String::new(), |node| text(&node["vteps"][0])),
            name,
        }
    });
    let joined = links::all(host, lab)?.into_iter().map(|link| Link {
        label: std::iter::once(link.name.clone())
            .chain(link.words())
            .collect(),
        good: link.words().is_empty(),
        nodes: link.nodes,
    });
    let networks = ask(&["network", "ls"])?.into_iter().map(|network| Network {
        name: text(&network["name"]),
        cidrs: ["cidr4", "cidr6"]
            .iter()
            .map(|key| text(&network[key]))
            .filter(|c| !c.is_empty())
            .collect(),
        vni: network["vni"].as_u64().unwrap_or_default(),
    });
    let containers = ask(&["ps"])?.into_iter().map(|container| Container {
        name: text(&container["name"]),
        node: text(&container["status"]["node"]),
        state: text(&container["status"]["state"]),
        endpoints: list(&container["endpoints"]).iter().map(endpoint).collect(),
    });
    let chains = ask(&["chain", "ls"])?.into_iter().map(chain);
    Ok(Picture {
        lab: lab.name.clone(),
        nodes: nodes.collect(),
        links: joined.collect(),
        networks: networks.collect(),
        containers: containers.collect(),
        chains: chains.collect(),
    })
}

/// The network of an endpoint, and its address or, of a hop, its interface.
fn endpoint(endpoint: &Value) -> (String, String) {
    let address = text(&endpoint["addresses"][0]);
    let shown = if address.is_empty() {
        text(&endpoint["interface"])
    } else {
        address
    };
    (text(&endpoint["network"]), shown)
}

/// The version that flows are classified by, with the instances of each hop in the order of the hops.
fn chain(chain: Value) -> Chain {
    let current = &chain["classified"];
    let versions = list(&chain["versions"]);
    let version = versions
        .iter()
        .find(|version| version["version"] == *current);
    let order = hops_of(&text(&chain["text"]));
    let instances = version.map_or(&[][..], |version| list(&version["instances"]));
    let hops = order.into_iter().map(|hop| {
        let of = instances.iter().filter(|one| one["hop"] == *hop);
        (hop.clone(), of.map(|one| text(&one["instance"])).collect())
    });
    Chain {
        name: text(&chain["name"]),
        version: current.as_u64().unwrap_or_default(),
        hops: hops.collect(),
    }
}

/// The names of the hops, in order, of a chain's text as it was applied.
fn hops_of(chain: &str) -> Vec<String> {
    let parsed: toml::Table = toml::from_str(chain).unwrap_or_default();
    let hops = parsed.get("hop").and_then(toml::Value::as_array);
    let names = hops
        .into_iter()
        .flatten()
        .filter_map(|hop| hop.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the first agent that answers says.
fn ask(host: &Host, lab: &Found, words: &[&str]) -> Result<Vec<Value>, LabError> {
    let place = Place::new(&host.root, &lab.name);
    let mut why = "no node of it runs".to_owned();
    for name in lab.names() {
        let Ok((node, keeper)) = lab.node(&name) else {
            continue;
        };
        let carrier = backend::attach(lab.backend, &place, &host.weft_exe, &lab.id, &node, keeper);
        let mut line = vec![carrier.weft()];
        line.extend(words);
        line.push("--json");
        let deadline = Instant::now() + ANSWER_WITHIN;
        match command::run(carrier.command(&line), deadline, &Cancel::never()) {
            Ok(output) if output.status.success() => {
                let values = serde_json::Deserializer::from_str(&output.stdout);
                return Ok(values.into_iter().map_while(Result::ok).collect());
            }
            Ok(output) => why = format!("{node}: {}", output.words()),
            Err(error) => why = format!("{node}: {error}"),
        }
    }
    Err(LabError::Refused {
        subject: format!("lab {}", lab.name),
        cause: format!("no agent answers `weft {}`: {why}", words.join(" ")),
        help: format!("`weft lab inspect {}` shows which nodes run", lab.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_s_hops_stand_in_their_order_with_who_serves_them() {
        let told = serde_json::json!({
            "name": "red/guard", "classified": 2,
            "text": "[[hop]]\nname = \"b\"\n[[hop]]\nname = \"a\"\n",
            "versions": [
                {"version": 1, "instances": []},
                {"version": 2, "instances": [
                    {"hop": "a", "instance": "red/x"}, {"hop": "b", "instance": "red/y"},
                    {"hop": "a", "instance": "red/z"}]},
            ],
        });
        let chain = chain(told);
        assert_eq!((chain.name.as_str(), chain.version), ("red/guard", 2));
        let hops: Vec<(&str, usize)> = chain
            .hops
            .iter()
            .map(|(h, i)| (h.as_str(), i.len()))
            .collect();
        assert_eq!(hops, [("b", 1), ("a", 2)]);
    }
}
