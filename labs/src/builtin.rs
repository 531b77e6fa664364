//! The topologies that go by name, from any folder: they are part of the binary.

use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::file::LabFile;

/// Name, text.
const TOPOLOGIES: [(&str, &str); 6] = [
    (
        "two-tenants",
        include_str!("../topologies/two-tenants.toml"),
    ),
    (
        "chain-across-three-nodes",
        include_str!("../topologies/chain-across-three-nodes.toml"),
    ),
    ("dual-stack", include_str!("../topologies/dual-stack.toml")),
    (
        "ring-of-five",
        include_str!("../topologies/ring-of-five.toml"),
    ),
    (
        "store-on-etcd",
        include_str!("../topologies/store-on-etcd.toml"),
    ),
    (
        "two-vms-one-chain",
        include_str!("../topologies/two-vms-one-chain.toml"),
    ),
];
/// Files that topologies name.
const CHAINS: [(&str, &str); 2] = [
    (
        "web-guard.toml",
        include_str!("../topologies/web-guard.toml"),
    ),
    ("two-hops.toml", include_str!("../topologies/two-hops.toml")),
];

/// The built-in topologies' names.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOPOLOGIES.iter().map(|(name, _)| *name)
}

/// Reads a lab: a file if there is one of that name, else a built-in topology. Returns its text too.
pub(crate) fn read(source: &str, backend: Option<&str>) -> Result<(LabFile, String), LabError> {
    let bad = |diagnostics| LabError::File {
        file: source.to_owned(),
        diagnostics,
    };
    let path = Path::new(source);
    if let Some((_, text)) = TOPOLOGIES.iter().find(|(name, _)| *name == source)
        && !path.is_file()
    {
        let load = |file: &str| {
            CHAINS
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| format!("{file} is not part of the binary"))
        };
        let parsed =
            LabFile::parse_with(&format!("{source}.toml"), text, backend, &load).map_err(bad)?;
        return Ok((parsed, (*text).to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| LabError::NotFound {
        subject: format!("lab {source}"),
        cause: format!("no such file or built-in topology ({error})"),
        help: format!(
            "name a lab file, or one of the built-in topologies: {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    })?;
    let folder: PathBuf = path.parent().unwrap_or(Path::new("")).to_owned();
    let parsed = LabFile::parse(source, &text, &folder, backend).map_err(bad)?;
    Ok((parsed, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_topology_is_read_without_a_mistake() {
        for name in names() {
            let (lab, _) =
                read(name, None).unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics()));
            assert_eq!(lab.name, name);
            assert!(!lab.steps.is_empty());
        }
    }

    #[test]
    fn an_unknown_name_is_not_found_and_names_those_that_are() {
        let error = read("three-tenants", None).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("two-tenants"), "{error}");
    }
}
