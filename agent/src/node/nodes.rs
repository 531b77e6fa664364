//! The cluster's nodes as they were known last, in a file: so a node that was started anew while the store does not answer can
//! still say whether it reaches them, which is asked just then. Nothing is decided by it.
//!
//! One task, owned by `node::run`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use weft_overlay::NodeName;
use weft_overlay::documents::NodeSpec;

use crate::mirror::{Doc, Mirror, State};

/// The file's name in the state directory.
const FILE: &str = "nodes.json";

type Nodes = BTreeMap<NodeName, NodeSpec>;

/// Keeps the file until the task is aborted.
pub async fn keep(mut mirror: Mirror, dir: PathBuf) {
    let mut written = None;
    loop {
        if let Some(state) = mirror.state() {
            let nodes = nodes(&state);
            if written.as_ref() != Some(&nodes) {
                match write(&dir, &nodes) {
                    Ok(()) => written = Some(nodes),
                    Err(error) => tracing::warn!(%error, "{FILE} cannot be written"),
                }
            }
        }
        if !mirror.changed().await {
            // The mirror's own end is told by its task.
            return std::future::pending().await;
        }
    }
}

/// The nodes that were known last, as documents of revision 0; `None` without a file that can be read.
pub fn last(dir: &Path) -> Option<State> {
    let text = std::fs::read(dir.join(FILE)).ok()?;
    let nodes: Nodes = serde_json::from_slice(&text).ok()?;
    let doc = |(name, value)| (name, Doc { value, revision: 0 });
    Some(State {
        nodes: nodes.into_iter().map(doc).collect(),
        ..State::default()
    })
}

fn nodes(state: &State) -> Nodes {
    let all = state.nodes.iter();
    all.map(|(name, doc)| (name.clone(), doc.value.clone()))
        .collect()
}

/// Whole or not at all; what is lost with the machine's power is known again when the store answers.
fn write(dir: &Path, nodes: &Nodes) -> std::io::Result<()> {
    let new = dir.join("nodes.json.new");
    std::fs::write(&new, serde_json::to_vec_pretty(nodes)?)?;
    std::fs::rename(&new, dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_known_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(last(dir.path()).is_none());
        let mut state = State::default();
        let spec = br#"{"id":2,"vteps":["192.0.2.12"],"api":"192.0.2.12:7946","mtu":1500}"#;
        state.put("/weft/v1/nodes/n2/spec", spec, 7);
        let kept = keep(Mirror::fixed(state.clone()), dir.path().to_owned());
        tokio::select! {
            () = kept => unreachable!("it goes on"),
            () = async {
                while last(dir.path()).is_none() {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        let again = last(dir.path()).unwrap();
        assert_eq!(nodes(&again), nodes(&state));
        std::fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(last(dir.path()).is_none(), "half a file is none");
    }
}
