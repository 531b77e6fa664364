//! `weft function`: built-in service functions and probes, run inside containers.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weft_agent::chain::Traffic;
use weft_agent::chain::functions::{
    self, CounterArgs, DEFAULT_STATUS, FirewallArgs, FunctionArgs, FunctionError, ProbeArgs,
    ServeArgs,
};

use super::node::duration;
use crate::fail::{Done, Failure};

/// `weft function ...`
#[derive(Debug, Subcommand)]
pub enum Function {
    /// A hop that lets some traffic and its replies through, and counts.
    Firewall {
        /// Let this through; then everything else is denied. May be repeated.
        #[arg(long)]
        allow: Vec<Traffic>,
        /// Deny this, whatever is allowed. May be repeated.
        #[arg(long)]
        deny: Vec<Traffic>,
        #[command(flatten)]
        ports: Ports,
    },
    /// A hop that lets everything through and counts.
    Counter {
        #[command(flatten)]
        ports: Ports,
    },
    /// Answer with this host's name.
    Serve {
        /// tcp/80, udp/53; one port each.
        #[arg(required = true)]
        traffic: Vec<Traffic>,
    },
    /// Ask an address and print what came back, as one line of JSON. Exit code 1 without an answer.
    Probe(Probe),
    /// Print what the hop in this container counts.
    Status {
        /// The file that it writes.
        #[arg(long, default_value = DEFAULT_STATUS)]
        file: PathBuf,
    },
}

/// The two interfaces of a hop.
#[derive(Debug, Args)]
pub struct Ports {
    /// First interface.
    #[arg(long = "in", default_value = "in0")]
    input: String,
    /// Second interface.
    #[arg(long = "out", default_value = "out0")]
    output: String,
    /// Where the counters go.
    #[arg(long, default_value = DEFAULT_STATUS)]
    status: PathBuf,
}

/// `weft function probe`
#[derive(Debug, Args)]
pub struct Probe {
    /// tcp/80, udp/53 or icmp.
    traffic: Traffic,
    /// Whom.
    address: IpAddr,
    /// How long each answer may take.
    #[arg(long, default_value = "2s", value_parser = duration)]
    timeout: Duration,
    /// How often.
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// Time between two.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    interval: Duration,
    /// Bytes of payload: of each datagram, or of the whole TCP exchange.
    #[arg(long, default_value_t = 0)]
    size: usize,
    /// UDP: datagrams a second, for --duration.
    #[arg(long)]
    rate: Option<u32>,
    /// With --rate: for how long.
    #[arg(long, default_value = "1s", value_parser = duration)]
    duration: Duration,
}

/// Runs it.
pub fn run(function: Function) -> Done {
    let code = functions::run(arguments(function)).map_err(|error| {
        let mut message = format!("function: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let more = cause.to_string();
            if !message.contains(&more) {
                message.push_str(&format!(": {more}"));
            }
            source = cause.source();
        }
        let code = match &error {
            FunctionError::Unsuitable { .. } => 2,
            FunctionError::Status { source, .. } if source.kind() == ErrorKind::NotFound => 3,
            _ => 1,
        };
        Failure {
            code,
            ..Failure::new(message, error.help())
        }
    })?;
    Ok(u8::try_from(code).unwrap_or(1))
}

fn arguments(function: Function) -> FunctionArgs {
    match function {
        Function::Firewall { allow, deny, ports } => FunctionArgs::Firewall(FirewallArgs {
            input: ports.input,
            output: ports.output,
            allow,
            deny,
            status: ports.status,
        }),
        Function::Counter { ports } => FunctionArgs::Counter(CounterArgs {
            input: ports.input,
            output: ports.output,
            status: ports.status,
        }),
        Function::Serve { traffic } => FunctionArgs::Serve(ServeArgs { traffic }),
        Function::Probe(probe) => FunctionArgs::Probe(ProbeArgs {
            traffic: probe.traffic,
            address: probe.address,
            timeout: probe.timeout,
            count: probe.count,
            interval: probe.interval,
            size: probe.size,
            rate: probe.rate,
            duration: probe.duration,
        }),
        Function::Status { file } => FunctionArgs::Status { file },
    }
}
