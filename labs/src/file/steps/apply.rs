//! `apply`: the file is read and checked along with the lab, and kept as it then was.

use super::AppliedFile;
use crate::diagnose::Mistakes;
use crate::site::{self, LoadChain, SITE_TABLES, Site};
use crate::tables::{Tables, Value, read_document, span_of};

/// Reads the chain or site file that a step names.
pub(super) fn read(
    file: &str,
    value: &Value<'_>,
    load: LoadChain<'_>,
    mistakes: &mut Mistakes,
) -> Option<AppliedFile> {
    let at = span_of(value, "file");
    let text = load(file)
        .map_err(|cause| {
            mistakes.add(
                at.clone(),
                format!("apply: the file cannot be read: {cause}"),
                "this file",
                "files are looked for beside the lab's file".to_owned(),
            );
        })
        .ok()?;
    // A chain file has one [chain] of its own; a site file names chain files.
    let chain = weft_chain::file::parse(file, &text);
    let wrapped = format!("[[chain]]\nfile = {file:?}\n");
    let is_chain = chain.is_ok() || text.lines().any(|line| line.trim() == "[chain]");
    let (own, text) = if is_chain {
        (file, &wrapped)
    } else {
        (file, &text)
    };
    let mut inner = Mistakes::new(own, text);
    let site = read_site(text, load, &mut inner);
    let files = site.as_ref().and_then(|site| site.to_files().ok());
    let found = inner.finish();
    let clean = found.is_empty();
    mistakes.adopt(found);
    match (site, files) {
        (Some(site), Some(files)) if clean => Some(AppliedFile {
            file: file.to_owned(),
            site,
            files,
        }),
        _ => None,
    }
}

fn read_site(text: &str, load: LoadChain<'_>, mistakes: &mut Mistakes) -> Option<Site> {
    let document = read_document(text, mistakes)?;
    let mut tables = Tables::of(document, &SITE_TABLES, mistakes, |_| None);
    Some(site::parse_tables(&mut tables, mistakes, load))
}
