//! One file a group of commands.

pub mod apply;
pub mod chain;
pub mod container;
pub mod doctor;
pub mod drops;
pub mod function;
pub mod hidden;
pub mod lab;
pub mod named;
pub mod network;
pub mod node;
pub mod status;
pub mod store;
pub mod tenant;
pub mod trace;

use clap::CommandFactory;

use crate::args::{Cli, Command};
use crate::fail::Done;

/// Runs the command.
pub fn run(cli: Cli) -> Done {
    let (host, json) = (cli.host.as_str(), cli.json);
    match cli.command {
        Command::Node(node) => node::run(host, json, node),
        Command::Store(store) => store::run(json, store),
        Command::Apply(apply) => apply::apply(host, json, &apply, false),
        Command::Diff(apply) => apply::apply(host, json, &apply, true),
        Command::Delete(apply) => apply::delete(host, json, &apply),
        Command::Status => status::run(host, json),
        Command::Tenant(tenant) => tenant::run(host, json, tenant),
        Command::Network(network) => network::run(host, json, network),
        Command::Endpoint(endpoint) => network::endpoint(host, json, endpoint),
        Command::Run(run) => container::run(host, json, run),
        Command::Ps(ps) => container::ps(host, json, ps),
        Command::Logs(logs) => container::logs(host, logs),
        Command::Exec(exec) => container::exec(host, exec),
        Command::Stop(named) => container::remove(host, json, named, true),
        Command::Rm(named) => container::remove(host, json, named, false),
        Command::Inspect(named) => container::inspect(host, json, named),
        Command::Chain(chain) => chain::run(host, json, chain),
        Command::Trace(trace) => trace::run(host, json, trace),
        Command::Drops(drops) => drops::run(host, json, drops),
        Command::Lab(lab) => lab::run(json, lab),
        Command::Function(function) => function::run(function),
        Command::Doctor(doctor) => doctor::run(host, json, &doctor),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "weft", &mut std::io::stdout());
            Ok(0)
        }
    }
}
