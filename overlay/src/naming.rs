//! Names that follow from other names: a container's interfaces and the endpoints they are.

use std::collections::BTreeMap;

use crate::documents::InterfaceSpec;
use crate::names::{
    ContainerName, ContainerRef, EndpointName, EndpointRef, InterfaceName, NetworkRef,
};

/// An interface of a container with the names that follow from its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedInterface {
    /// Its name inside the container.
    pub name: InterfaceName,
    /// The endpoint that it is.
    pub endpoint: EndpointRef,
    /// What was asked for.
    pub spec: InterfaceSpec,
}

/// Interfaces whose names cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamingError {
    /// Two of one name.
    #[error("container {container} has two interfaces named {interface}")]
    Twice {
        /// The container.
        container: ContainerRef,
        /// The name.
        interface: InterfaceName,
    },
    /// No endpoint can be named after it.
    #[error(
        "interface {interface} of container {container} makes no endpoint name: {text:?} is not 1 to 63 of a-z, 0-9 and '-'"
    )]
    NoEndpoint {
        /// The container.
        container: ContainerName,
        /// The interface.
        interface: InterfaceName,
        /// What the endpoint would be called.
        text: String,
    },
}

impl NamingError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Twice { .. } => "give each interface a name of its own".into(),
            Self::NoEndpoint { .. } => {
                "use a shorter container or interface name, of a-z, 0-9 and '-'".into()
            }
        }
    }
}

/// The endpoint that an interface is: the container's own name for `eth0` and for an interface that
/// is the container's only one in its network, else `<container>-<interface>`.
pub fn endpoint_name(
    container: &ContainerName,
    interface: &InterfaceName,
    only_in_network: bool,
) -> Result<EndpointName, NamingError> {
    let text = if only_in_network || interface.as_str() == "eth0" {
        container.as_str().to_owned()
    } else {
        let suffix = interface
            .as_str()
            .to_ascii_lowercase()
            .replace(['_', '.'], "-");
        format!("{container}-{suffix}")
    };
    text.parse().map_err(|_| NamingError::NoEndpoint {
        container: container.clone(),
        interface: interface.clone(),
        text,
    })
}

/// The interfaces of a container, named: `ethN` by place where no name was asked for.
pub fn name_interfaces(
    container: &ContainerRef,
    interfaces: &[InterfaceSpec],
) -> Result<Vec<NamedInterface>, NamingError> {
    let mut in_network: BTreeMap<_, usize> = BTreeMap::new();
    for spec in interfaces {
        *in_network.entry(&spec.network).or_default() += 1;
    }
    let mut named: Vec<NamedInterface> = Vec::with_capacity(interfaces.len());
    for (place, spec) in interfaces.iter().enumerate() {
        let name = match &spec.name {
            Some(name) => name.clone(),
            // A container with more than 65,535 interfaces meets "Twice" here.
            None => InterfaceName::numbered(u16::try_from(place).unwrap_or(u16::MAX)),
        };
        if named.iter().any(|n| n.name == name) {
            return Err(NamingError::Twice {
                container: container.clone(),
                interface: name,
            });
        }
        let only = in_network.get(&spec.network) == Some(&1);
        let endpoint = EndpointRef {
            tenant: container.tenant.clone(),
            network: spec.network.clone(),
            endpoint: endpoint_name(&container.container, &name, only)?,
        };
        named.push(NamedInterface {
            name,
            endpoint,
            spec: spec.clone(),
        });
    }
    Ok(named)
}

/// The network of an interface of a container of `container`'s tenant.
pub fn network_of(container: &ContainerRef, spec: &InterfaceSpec) -> NetworkRef {
    NetworkRef {
        tenant: container.tenant.clone(),
        network: spec.network.clone(),
    }
}
