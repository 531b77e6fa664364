//! The command line as a whole; each group's arguments stand with its command.

use clap::{Parser, Subcommand};

use crate::commands::{
    apply, chain, container, doctor, drops, function, lab, network, node, store, tenant, trace,
};

/// Tenant networks, service chains and containers on Linux, with their own store.
#[derive(Debug, Parser)]
#[command(
    name = "weft",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Agent to talk to: unix:/path/to/weft.sock or host:port.
    #[arg(
        long,
        global = true,
        env = "WEFT_HOST",
        default_value = "unix:/run/weft/weft.sock"
    )]
    pub host: String,
    /// Print JSON, one object a line, instead of tables; errors too, on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node, and see the nodes of the cluster.
    #[command(subcommand)]
    Node(node::Node),
    /// Run and inspect the replicated store on its own.
    #[command(subcommand)]
    Store(store::Store),
    /// Make the cluster hold what a site file says.
    Apply(apply::Apply),
    /// Show what `apply` would change.
    Diff(apply::Apply),
    /// Remove what a site file lists.
    Delete(apply::Apply),
    /// How the node and its cluster are.
    Status,
    /// Tenants.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Tenant networks.
    #[command(subcommand)]
    Network(network::Network),
    /// Endpoints: the containers' interfaces in networks.
    #[command(subcommand)]
    Endpoint(network::Endpoint),
    /// Start a container.
    Run(container::Run),
    /// List containers.
    Ps(container::Ps),
    /// Print a container's output.
    Logs(container::Logs),
    /// Run a command in a container.
    Exec(container::Exec),
    /// Stop a container, but keep it.
    Stop(container::Named),
    /// Remove a container.
    Rm(container::Named),
    /// Everything known of a container.
    Inspect(container::Named),
    /// Service chains.
    #[command(subcommand)]
    Chain(chain::Chain),
    /// Follow packets through the nodes.
    #[command(subcommand)]
    Trace(trace::Trace),
    /// Dropped packets by node, tenant, network and reason.
    Drops(drops::Drops),
    /// Whole clusters on this machine, from one file.
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Built-in service functions, to be run in containers.
    #[command(subcommand)]
    Function(function::Function),
    /// Check kernel, privileges and limits of this machine, or what lies between the nodes.
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        let error = Cli::try_parse_from(["weft", "network", "crate", "red/front"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
