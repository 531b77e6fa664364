//! `weft tenant`.

use clap::Subcommand;
use weft_agent::overlay::TenantName;
use weft_agent::overlay::site::{self, Limit};
use weft_agent::proto::RemoveRequest;

use super::apply::{object, print_changes, print_removed};
use super::container::label;
use crate::connect::with_agent;
use crate::fail::Done;
use crate::output;

/// `weft tenant ...`
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make a tenant, or change what it may have.
    Create {
        /// Its name.
        name: TenantName,
        /// How many networks it may have: a number, or `none` for as many as it likes.
        #[arg(long)]
        max_networks: Option<Limit>,
        /// How many endpoints its containers may ask for: the same.
        #[arg(long)]
        max_endpoints: Option<Limit>,
        /// KEY=VALUE, or KEY= to take the label away; may be repeated.
        #[arg(long = "label", value_parser = label)]
        labels: Vec<(String, String)>,
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
            Tenant::Create {
                name,
                max_networks,
                max_endpoints,
                labels,
            } => {
                let spec = site::Tenant {
                    labels: labels.into_iter().collect(),
                    max_networks,
                    max_endpoints,
                };
                let objects = vec![object("tenant", name.as_str(), &spec)?];
                print_changes(json, &agent.apply(objects, false).await?);
            }
            Tenant::Ls => {
                let list = agent.list("tenant", "", "").await?;
                output::objects(
                    json,
                    &list,
                    [
                        ("TENANT", "name"),
                        ("MAX NETWORKS", "max_networks"),
                        ("MAX ENDPOINTS", "max_endpoints"),
                        ("LABELS", "labels"),
                    ],
                );
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
