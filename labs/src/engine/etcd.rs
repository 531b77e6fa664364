//! A store of stock etcd members in the nodes' namespaces, in place of the nodes' own.
//!
//! Owns: their arguments. They end with their nodes; agents wait until they answer.

use std::path::PathBuf;

use super::agents::members;
use crate::error::LabError;
use crate::file::LabFile;
use crate::journal::{Entry, Journal};
use crate::node::Node;
use crate::underlay;

const ETCD: &str = "etcd";

/// Where etcd is.
pub(super) fn program() -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(ETCD));
    places
        .find(|place| place.is_file())
        .ok_or_else(|| LabError::NotFound {
            subject: ETCD.to_owned(),
            cause: "the lab's file wants it as the store, and it is not on the PATH".to_owned(),
            help: "install the package etcd-server, or remove `store` from [lab]".to_owned(),
        })
}

/// Starts a member on each of the first nodes.
pub(super) fn start(lab: &LabFile, nodes: &[Node], journal: &mut Journal) -> Result<(), LabError> {
    let program = program()?;
    let members = &nodes[..members(nodes.len())];
    let peers: Vec<String> = members
        .iter()
        .map(|node| format!("{}={}", node.name, underlay::url(node.address, 2380)))
        .collect();
    for node in members {
        let args = arguments(lab, node, &peers.join(","));
        let process = node
            .carrier
            .spawn_program(&program.to_string_lossy(), &args)?;
        journal.write(&Entry::Store {
            node: node.name.clone(),
            pid: process.pid,
            start: process.start,
        })?;
    }
    Ok(())
}

fn arguments(lab: &LabFile, node: &Node, peers: &str) -> Vec<String> {
    let url = |port: u16| underlay::url(node.address, port);
    let own = format!("{},http://127.0.0.1:2379", url(2379));
    let data = format!("{}/etcd", node.carrier.state());
    [
        ("--name", node.name.as_str()),
        ("--data-dir", &data),
        ("--listen-client-urls", &own),
        ("--advertise-client-urls", &url(2379)),
        ("--listen-peer-urls", &url(2380)),
        ("--initial-advertise-peer-urls", &url(2380)),
        ("--initial-cluster", peers),
        ("--initial-cluster-token", &lab.name),
    ]
    .iter()
    .flat_map(|(key, value)| [(*key).to_owned(), (*value).to_owned()])
    .collect()
}
