//! The tables that sites and labs share: `[[network]]`, `[[container]]`, `[[chain]]`.
//!
//! Owns: reading them with every mistake at its line and column, and the checks that need no
//! cluster: duplicate names, references between the tables, chain files. Never: decides whether a
//! cluster can take them; the agent does, against what stands in its store.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use weft_overlay::site::{Container, Network};

use crate::diagnose::{Diagnostic, Mistakes};
use crate::tables::{Tables, read_document};

mod chains;
mod containers;
mod networks;

pub(crate) use containers::{is_hop, network_of};

/// A parsed site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// `[[network]]`
    pub networks: Vec<Network>,
    /// `[[container]]`
    pub containers: Vec<Container>,
    /// `[[chain]]`
    pub chains: Vec<ChainText>,
}

/// A chain file as read.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainText {
    /// As named in the site file.
    pub file: String,
    /// Its text.
    pub text: String,
    /// `tenant/chain`, from inside the file.
    pub name: String,
    /// What it holds.
    pub parsed: weft_chain::file::ChainFile,
}

/// Where chain files come from.
pub(crate) type LoadChain<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The tables that only a lab file has.
const LAB_TABLES: [&str; 4] = ["lab", "node", "link", "step"];
/// The tables of a site.
pub(crate) const SITE_TABLES: [&str; 3] = ["network", "container", "chain"];

/// Parses the text of a site file. `name` is for messages; chain files are looked for in `folder`.
/// Returns all mistakes that can be found in one go.
pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Site, Vec<Diagnostic>> {
    let mut mistakes = Mistakes::new(name, text);
    let Some(document) = read_document(text, &mut mistakes) else {
        return Err(mistakes.finish());
    };
    let mut tables = Tables::of(document, &SITE_TABLES, &mut mistakes, |key| {
        LAB_TABLES.contains(&key).then(|| {
            format!(
                "`{key}` belongs to a lab file, not to a site: bring it up with `weft lab run {name}`"
            )
        })
    });
    let load = from_folder(folder);
    let site = parse_tables(&mut tables, &mut mistakes, &load);
    // References can only be judged against tables that were all read.
    if mistakes.is_empty() {
        Ok(site)
    } else {
        Err(mistakes.finish())
    }
}

/// Reads chain files from a folder.
pub(crate) fn from_folder(folder: &Path) -> impl Fn(&str) -> Result<String, String> + '_ {
    move |file| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Reads the shared tables out of `tables`.
pub(crate) fn parse_tables(
    tables: &mut Tables<'_>,
    mistakes: &mut Mistakes,
    load: LoadChain<'_>,
) -> Site {
    let networks = networks::read(tables.take("network"), mistakes);
    let containers = containers::read(tables.take("container"), &networks, mistakes);
    let chains = chains::read(tables.take("chain"), mistakes, load);
    Site {
        networks: networks.into_iter().filter_map(|n| n.value).collect(),
        containers,
        chains,
    }
}

impl Site {
    /// The site as files: `site.toml` and its chain files, by name. What `weft apply -f` takes.
    pub fn to_files(&self) -> Result<BTreeMap<String, String>, toml::ser::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            network: &'a [Network],
            container: &'a [Container],
            chain: Vec<BTreeMap<&'static str, String>>,
        }
        let mut files = BTreeMap::new();
        let mut chain = Vec::new();
        for (index, one) in self.chains.iter().enumerate() {
            // Numbered, because the names given may be paths.
            let base = Path::new(&one.file)
                .file_name()
                .map_or_else(|| "chain.toml".into(), |n| n.to_string_lossy());
            let file = if files.contains_key(base.as_ref()) || base == "site.toml" {
                format!("{index}-{base}")
            } else {
                base.into_owned()
            };
            chain.push(BTreeMap::from([("file", file.clone())]));
            files.insert(file, one.text.clone());
        }
        let written = Written {
            network: &self.networks,
            container: &self.containers,
            chain,
        };
        files.insert("site.toml".to_owned(), toml::to_string(&written)?);
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
