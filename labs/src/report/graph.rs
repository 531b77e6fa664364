//! A lab as a picture: nodes with what runs on them, the links between, networks and chains. Pure.

mod mermaid;
mod svg;

pub(crate) use mermaid::mermaid;
pub(crate) use svg::svg;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Picture {
    pub(crate) lab: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    pub(crate) networks: Vec<Network>,
    pub(crate) containers: Vec<Container>,
    pub(crate) chains: Vec<Chain>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Whether its lease stands.
    pub(crate) alive: bool,
    pub(crate) vtep: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Link {
    pub(crate) nodes: Vec<String>,
    /// Its name and what is wrong with it, a line each.
    pub(crate) label: Vec<String>,
    pub(crate) good: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) cidrs: Vec<String>,
    pub(crate) vni: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) state: String,
    /// Network, and address or interface.
    pub(crate) endpoints: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) version: u64,
    /// Hops in order, each with the containers that serve it.
    pub(crate) hops: Vec<(String, Vec<String>)>,
}

impl Network {
    fn words(&self) -> String {
        format!("{}  vni {}  {}", self.name, self.vni, self.cidrs.join(" "))
    }
}

impl Chain {
    fn words(&self) -> String {
        let hops = self.hops.iter().map(|(hop, by)| match &by[..] {
            [] => format!("{hop} (nobody)"),
            by => format!("{hop} ({})", by.join(", ")),
        });
        let hops: Vec<String> = hops.collect();
        format!("{} v{}: {}", self.name, self.version, hops.join(" > "))
    }
}

impl Container {
    fn words(&self) -> String {
        match self.state.as_str() {
            "running" => self.name.clone(),
            other => format!("{} ({other})", self.name),
        }
    }
}

impl Picture {
    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |c| c.node == node)
    }
}

#[cfg(test)]
pub(crate) fn example() -> Picture {
    let container = |name: &str, node: &str, at: &[(&str, &str)]| Container {
        name: name.to_owned(),
        node: node.to_owned(),
        state: "running".to_owned(),
        endpoints: at
            .iter()
            .map(|(n, a)| ((*n).to_owned(), (*a).to_owned()))
            .collect(),
    };
    Picture {
        lab: "a <b> & \"c\"".to_owned(),
        nodes: ["n1", "n2"]
            .map(|name| Node {
                name: name.to_owned(),
                alive: name == "n1",
                vtep: "192.0.2.11".to_owned(),
            })
            .into(),
        links: vec![Link {
            nodes: vec!["n1".to_owned(), "n2".to_owned()],
            label: vec!["n1+n2".to_owned(), "delay 5ms".to_owned()],
            good: false,
        }],
        networks: vec![Network {
            name: "red/front".to_owned(),
            cidrs: vec!["10.10.0.0/16".to_owned()],
            vni: 7,
        }],
        containers: vec![
            container("red/a", "n1", &[("red/front", "10.10.0.1")]),
            container(
                "red/fw",
                "n2",
                &[("red/front", "in0"), ("red/front", "out0")],
            ),
        ],
        chains: vec![Chain {
            name: "red/guard".to_owned(),
            version: 3,
            hops: vec![("fw".to_owned(), vec!["red/fw".to_owned()])],
        }],
    }
}
