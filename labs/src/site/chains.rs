//! `[[chain]] file = "..."`: the chain files are read and checked along with the file that names them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ChainText, LoadChain};
use crate::diagnose::Mistakes;
use crate::tables::{Value, span_of, typed};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainTable {
    file: String,
}

pub(super) fn read(
    items: Vec<Value<'_>>,
    mistakes: &mut Mistakes,
    load: LoadChain<'_>,
) -> Vec<ChainText> {
    let mut names = BTreeSet::new();
    let mut chains = Vec::new();
    for item in items {
        let Some(ChainTable { file }) = typed(&item, "chain", mistakes) else {
            continue;
        };
        let at = span_of(&item, "file");
        let text = match load(&file) {
            Ok(text) => text,
            Err(cause) => {
                mistakes.add(
                    at,
                    format!("chain file cannot be read: {cause}"),
                    "this file",
                    "chain files are looked for beside the file that names them".to_owned(),
                );
                continue;
            }
        };
        match weft_chain::file::parse(&file, &text) {
            Ok(parsed) => {
                let name = format!("{}/{}", parsed.chain.tenant, parsed.chain.name);
                if names.insert(name.clone()) {
                    chains.push(ChainText {
                        file,
                        text,
                        name,
                        parsed,
                    });
                } else {
                    mistakes.add(
                        at,
                        format!("chain {name} is there twice"),
                        "second time",
                        "give it another name or remove it".to_owned(),
                    );
                }
            }
            Err(found) => mistakes.adopt(found),
        }
    }
    chains
}
