//! `weft chain`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use weft_agent::proto::{HopStats, Object, RemoveRequest};

use super::apply::{chain_object, print_changes, print_removed, read_file};
use crate::connect::with_agent;
use crate::fail::{Done, Failure};
use crate::output;

/// `weft chain ...`
#[derive(Debug, Subcommand)]
pub enum Chain {
    /// Check a chain file's form, without a cluster.
    Check {
        /// The chain file.
        file: PathBuf,
    },
    /// Print the JSON schema of chain files, for editors.
    Schema,
    /// Check a chain file against the cluster and show what applying it would change.
    Plan {
        /// The chain file.
        file: PathBuf,
    },
    /// Make the chain as the file says: a new version if it differs.
    Apply {
        /// The chain file.
        file: PathBuf,
    },
    /// List chains.
    Ls {
        /// Only this tenant's.
        #[arg(value_parser = super::named::tenant)]
        tenant: Option<String>,
    },
    /// Everything known of a chain.
    Show {
        /// TENANT/CHAIN
        #[arg(value_parser = super::named::chain)]
        name: String,
        /// Print the file as it was applied.
        #[arg(long)]
        as_applied: bool,
    },
    /// Packets and bytes of each hop's instances.
    Stats {
        /// TENANT/CHAIN; all without it.
        #[arg(value_parser = super::named::chain)]
        name: Option<String>,
    },
    /// Remove a chain: its traffic goes straight again.
    Rm {
        /// TENANT/CHAIN
        #[arg(value_parser = super::named::chain)]
        name: String,
    },
}

/// Runs it.
pub fn run(host: &str, json: bool, chain: Chain) -> Done {
    match chain {
        Chain::Check { file } => {
            let object = read(&file)?;
            if json {
                println!("{}", json!({ "chain": object.name, "ok": true }));
            } else {
                println!("{}: chain {} is well formed", file.display(), object.name);
            }
            Ok(0)
        }
        Chain::Schema => {
            println!("{:#}", weft_agent::chain::file::schema());
            Ok(0)
        }
        Chain::Plan { file } => apply(host, json, read(&file)?, true),
        Chain::Apply { file } => apply(host, json, read(&file)?, false),
        Chain::Ls { tenant } => with_agent(host, async |mut agent| {
            let list = agent
                .list("chain", tenant.as_deref().unwrap_or(""), "")
                .await?;
            output::objects(
                json,
                &list,
                [
                    ("CHAIN", "name"),
                    ("VERSION", "current"),
                    ("IN USE", "classified"),
                    ("FILE", "file"),
                ],
            );
            Ok(0)
        }),
        Chain::Show { name, as_applied } => show(host, json, &name, as_applied),
        Chain::Stats { name } => stats(host, json, name.as_deref().unwrap_or("")),
        Chain::Rm { name } => with_agent(host, async |mut agent| {
            let request = RemoveRequest {
                kind: "chain".into(),
                name,
                ..RemoveRequest::default()
            };
            print_removed(json, &agent.remove(request).await?);
            Ok(0)
        }),
    }
}

fn read(file: &Path) -> Result<Object, Failure> {
    let text = read_file(file)?;
    let name = file.display().to_string();
    let parsed = weft_agent::chain::parse(&name, &text)
        .map_err(|diagnostics| Failure::file(&name, diagnostics))?;
    let chain = format!("{}/{}", parsed.chain.tenant, parsed.chain.name);
    chain_object(&chain, &name, &text)
}

fn apply(host: &str, json: bool, object: Object, dry_run: bool) -> Done {
    with_agent(host, async |mut agent| {
        print_changes(json, &agent.apply(vec![object], dry_run).await?);
        Ok(0)
    })
}

fn show(host: &str, json: bool, name: &str, as_applied: bool) -> Done {
    with_agent(host, async |mut agent| {
        for object in agent.list("chain", "", name).await? {
            if as_applied {
                let value = output::object_json(&object);
                print!("{}", value["text"].as_str().unwrap_or_default());
            } else {
                output::document(json, &object);
            }
        }
        Ok(0)
    })
}

fn stats(host: &str, json: bool, name: &str) -> Done {
    with_agent(host, async |mut agent| {
        let reply = agent.chain_stats(name, false).await?;
        for problem in &reply.problems {
            eprintln!("warning: {problem}");
        }
        if json {
            reply
                .hops
                .iter()
                .for_each(|hop| println!("{}", stats_json(hop)));
            return Ok(0);
        }
        output::table(
            [
                "CHAIN",
                "HOP",
                "INSTANCE",
                "NODE",
                "INTERFACE",
                "IN",
                "BYTES IN",
                "OUT",
                "BYTES OUT",
                "DROPS",
            ],
            reply.hops.iter().map(|hop| {
                [
                    hop.chain.clone(),
                    hop.hop.clone(),
                    hop.instance.clone(),
                    hop.node.clone(),
                    hop.interface.clone(),
                    hop.packets_in.to_string(),
                    hop.bytes_in.to_string(),
                    hop.packets_out.to_string(),
                    hop.bytes_out.to_string(),
                    hop.drops.to_string(),
                ]
            }),
        );
        Ok(0)
    })
}

fn stats_json(hop: &HopStats) -> serde_json::Value {
    json!({
        "chain": hop.chain, "hop": hop.hop, "instance": hop.instance, "node": hop.node,
        "interface": hop.interface, "packets_in": hop.packets_in, "bytes_in": hop.bytes_in,
        "packets_out": hop.packets_out, "bytes_out": hop.bytes_out, "drops": hop.drops,
    })
}
