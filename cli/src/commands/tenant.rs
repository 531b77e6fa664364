//! `weft tenant`.

use clap::Subcommand;
use weft_agent::overlay::TenantName;
use weft_agent::proto::{Object, RemoveRequest};

use super::apply::{print_changes, print_removed};
use crate::connect::with_agent;
use crate::fail::Done;
use crate::output;

/// `weft tenant ...`
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make a tenant.
    Create {
        /// Its name.
        name: TenantName,
    },
    /// List tenants.
    Ls,
    /// Everything known of a tenant.
    Show {
        /// Its name.
        name: TenantName,
    },
    /// Remove a tenant that has nothing any more.
    Rm {
        /// Its name.
        name: TenantName,
    },
}

/// Runs it.
pub fn run(host: &str, json: bool, tenant: Tenant) -> Done {
    with_agent(host, async |mut agent| {
        match tenant {
            Tenant::Create { name } => {
                let object = Object {
                    kind: "tenant".into(),
                    name: name.to_string(),
                    json: "{}".into(),
                    revision: 0,
                };
                print_changes(json, &agent.apply(vec![object], false).await?);
            }
            Tenant::Ls => {
                let list = agent.list("tenant", "", "").await?;
                output::objects(json, &list, [("TENANT", "name"), ("LABELS", "labels")]);
            }
            Tenant::Show { name } => {
                let list = agent.list("tenant", "", name.as_str()).await?;
                list.iter()
                    .for_each(|object| output::document(json, object));
            }
            Tenant::Rm { name } => {
                let request = RemoveRequest {
                    kind: "tenant".into(),
                    name: name.to_string(),
                    ..RemoveRequest::default()
                };
                print_removed(json, &agent.remove(request).await?);
            }
        }
        Ok(0)
    })
}
