//! `[[container]]`: each attachment is read on its own, so that a mistake in it has its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weft_overlay::site::{Attachment, AttachmentTable, Container};
use weft_overlay::{ContainerRef, NetworkRef};

use super::networks;
use crate::diagnose::{Mistakes, nearest};
use crate::tables::{Value, items_of, span_of, text_of, typed, without};

pub(super) fn read(
    items: Vec<Value<'_>>,
    networks: &[networks::Read],
    mistakes: &mut Mistakes,
) -> Vec<Container> {
    let mut seen: BTreeSet<ContainerRef> = BTreeSet::new();
    let mut addresses: BTreeMap<(NetworkRef, std::net::IpAddr), ContainerRef> = BTreeMap::new();
    let mut containers = Vec::new();
    for item in items {
        let title = text_of(&item, "name")
            .unwrap_or("without a name")
            .to_owned();
        let context = format!("container {title}");
        let attached: Vec<(Range<usize>, Option<Attachment>)> = items_of(&item, "networks")
            .into_iter()
            .map(|one| (one.span(), attachment(one, &context, mistakes)))
            .collect();
        let Some(mut container) =
            typed::<Container>(&without(&item, "networks"), &context, mistakes)
        else {
            continue;
        };
        if !seen.insert(container.name.clone()) {
            mistakes.add(
                span_of(&item, "name"),
                format!("container {title} is there twice"),
                "second time",
                "give it another name or remove it".to_owned(),
            );
        }
        for (span, attachment) in &attached {
            let Some(attachment) = attachment else {
                continue;
            };
            check_reference(&container, attachment, span, networks, mistakes);
            if let Attachment::Full(full) = attachment
                && let Some(address) = full.address
                && let Some(other) =
                    addresses.insert((full.network.clone(), address), container.name.clone())
            {
                mistakes.add(
                    span.clone(),
                    format!("{address} in {} is taken by {other}", full.network),
                    "second time",
                    "give one of them another address".to_owned(),
                );
            }
        }
        if container.command.is_empty() {
            mistakes.add(
                span_of(&item, "command"),
                format!("{context}: the command is empty"),
                "nothing to run",
                "write the program and its arguments, e.g. [\"sleep\", \"infinity\"]".to_owned(),
            );
        }
        container.networks = attached.into_iter().filter_map(|(_, a)| a).collect();
        containers.push(container);
    }
    containers
}

fn attachment(one: &Value<'_>, context: &str, mistakes: &mut Mistakes) -> Option<Attachment> {
    if one.get_ref().is_str() {
        typed(one, context, mistakes).map(Attachment::Name)
    } else {
        typed::<AttachmentTable>(one, context, mistakes).map(Attachment::Full)
    }
}

/// A network that the file speaks of must be in the file or, for a site, in the cluster. A file that
/// has networks of that tenant is taken to have all of them.
fn check_reference(
    container: &Container,
    attachment: &Attachment,
    span: &Range<usize>,
    networks: &[networks::Read],
    mistakes: &mut Mistakes,
) {
    let network = match attachment {
        Attachment::Name(name) => name,
        Attachment::Full(full) => &full.network,
    };
    if network.tenant != container.name.tenant {
        mistakes.add(
            span.clone(),
            format!(
                "container {} cannot be in {network}: it belongs to another tenant",
                container.name
            ),
            "another tenant's",
            format!(
                "use a network of {}, or name the container {}/{}",
                container.name.tenant, network.tenant, container.name.container
            ),
        );
        return;
    }
    let known: Vec<String> = networks
        .iter()
        .filter_map(|n| n.name.as_ref())
        .map(ToString::to_string)
        .collect();
    let tenant_here = networks
        .iter()
        .filter_map(|n| n.name.as_ref())
        .any(|n| n.tenant == network.tenant);
    if tenant_here && !known.contains(&network.to_string()) {
        let help = match nearest(&network.to_string(), known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the file has {}", known.join(", ")),
        };
        mistakes.add(
            span.clone(),
            format!(
                "container {}: there is no network {network}",
                container.name
            ),
            "not in the file",
            help,
        );
    }
}

/// The network of an attachment.
pub(crate) fn network_of(attachment: &Attachment) -> &NetworkRef {
    match attachment {
        Attachment::Name(name) => name,
        Attachment::Full(full) => &full.network,
    }
}

/// Whether an attachment is a hop's interface.
pub(crate) fn is_hop(attachment: &Attachment) -> bool {
    matches!(attachment, Attachment::Full(full) if full.hop)
}
