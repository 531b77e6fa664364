//! Names and traffic in arguments: judged before anybody is asked, and passed on as they were written.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use weft_agent::chain::Traffic;
use weft_agent::overlay::{ChainName, ContainerRef, EndpointRef, TenantName};

fn checked<T: FromStr<Err: Display>>(text: &str) -> Result<String, String> {
    match text.parse::<T>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// TENANT
pub fn tenant(text: &str) -> Result<String, String> {
    checked::<TenantName>(text)
}

/// TENANT/CHAIN
pub fn chain(text: &str) -> Result<String, String> {
    let (tenant, chain) = text.split_once('/').ok_or("write it as TENANT/CHAIN")?;
    checked::<TenantName>(tenant)?;
    checked::<ChainName>(chain)?;
    Ok(text.to_owned())
}

/// An end of a flow: TENANT/CONTAINER, TENANT/NETWORK/ENDPOINT, or an address.
pub fn end(text: &str) -> Result<String, String> {
    match text.matches('/').count() {
        0 => checked::<IpAddr>(text).map_err(|_| {
            "write it as TENANT/CONTAINER, TENANT/NETWORK/ENDPOINT or an address".to_owned()
        }),
        1 => checked::<ContainerRef>(text),
        _ => checked::<EndpointRef>(text),
    }
}

/// tcp/80 and the like.
pub fn traffic(text: &str) -> Result<String, String> {
    checked::<Traffic>(text).map_err(|e| format!("{e}; write it as tcp/80, tcp/8000-8100 or icmp"))
}
