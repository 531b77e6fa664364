//! What this node needs to know of a chain's policy.

use std::collections::BTreeSet;

use weft_chain::ChainVersionDoc;
use weft_chain::policy::{Hop, Mode};
use weft_overlay::documents::Labels;
use weft_overlay::{InterfaceName, NetworkRef, TenantName};

/// A hop that containers serve by two interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopView {
    /// Its name in the chain.
    pub name: String,
    /// Labels of the containers that serve it.
    pub select: Labels,
    /// The first interface: forward packets enter here.
    pub input: InterfaceName,
    /// The second interface.
    pub output: InterfaceName,
}

/// A version, as far as carrying it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionView {
    /// The networks whose traffic it selects.
    pub networks: BTreeSet<NetworkRef>,
    /// Its inline hops, in order.
    pub hops: Vec<HopView>,
}

/// The view of a version of a chain of `tenant`.
pub fn view(tenant: &TenantName, doc: &ChainVersionDoc) -> VersionView {
    let named = doc
        .policy
        .matches
        .iter()
        .flat_map(|m| [&m.from.network, &m.to.network]);
    let networks = named
        .flatten()
        .map(|network| NetworkRef {
            tenant: tenant.clone(),
            network: network.clone(),
        })
        .collect();
    VersionView {
        networks,
        hops: doc.policy.hops.iter().filter_map(hop).collect(),
    }
}

fn hop(hop: &Hop) -> Option<HopView> {
    match (hop.mode, hop.interfaces.as_slice()) {
        (Mode::Inline, [input, output]) => Some(HopView {
            name: hop.name.clone(),
            select: hop.select.clone(),
            input: input.clone(),
            output: output.clone(),
        }),
        // Other modes hold no positions yet; the verifier refuses them at apply.
        _ => None,
    }
}
