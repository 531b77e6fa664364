//! `weft lab up --dry-run`: what a file asks for, and whether there is such a lab already. Touches nothing.

use serde_json::{Value, json};

use super::converge;
use crate::backend::Backend;
use crate::error::LabError;
use crate::file::{LabFile, MachineTable};
use crate::options::RunOptions;
use crate::place::Place;
use crate::report::table;

/// Prints what `up` would make.
pub fn print(options: &RunOptions) -> Result<(), LabError> {
    let (lab, _) = converge::read(options)?;
    let place = Place::new(&options.host.root, &lab.name);
    if converge::is_up(&place)? {
        return converge::dry_run(options, &lab);
    }
    let there = place.dir().is_dir();
    if options.host.json {
        println!("{}", as_json(&lab, there));
        return Ok(());
    }
    println!("lab {}, backend {}: nothing is made", lab.name, lab.backend);
    let head = ["WHAT", "NAME", "DETAILS"].map(str::to_owned);
    print!("{}", table(&head, &rows(&lab)));
    if there {
        println!(
            "\nA lab of this name is there and not whole: `up` would be refused. `weft lab down {}` removes it.",
            lab.name
        );
    }
    Ok(())
}

/// What is made, in the order in which it is made.
fn rows(lab: &LabFile) -> Vec<[String; 3]> {
    let row = |what: &str, name: String, details: String| [what.to_owned(), name, details];
    let nodes = lab.nodes.iter().zip(&lab.machines).map(|(node, machine)| {
        let details = match lab.backend {
            Backend::Netns => "namespaces of this machine".to_owned(),
            Backend::Qemu => machine_of(machine),
        };
        row("node", node.to_string(), details)
    });
    let links = lab.links.iter().map(|link| {
        let ends: Vec<&str> = link.between.iter().map(|node| node.as_str()).collect();
        row("link", ends.join(" "), String::new())
    });
    let networks = lab.site.networks.iter().map(|network| {
        let cidrs = [
            network.cidr.map(|c| c.to_string()),
            network.cidr6.map(|c| c.to_string()),
        ];
        let cidrs: Vec<String> = cidrs.into_iter().flatten().collect();
        row("network", network.name.to_string(), cidrs.join(" "))
    });
    let containers = lab.site.containers.iter().map(|container| {
        let node = container.node.as_ref();
        let on = node.map_or("any node".to_owned(), |node| format!("on {node}"));
        let details = format!("{on}: {}", container.command.join(" "));
        row("container", container.name.to_string(), details)
    });
    let chains = lab.site.chains.iter().map(|chain| {
        let hops: Vec<String> = chain
            .parsed
            .hops
            .iter()
            .map(|h| h.name.to_string())
            .collect();
        row("chain", chain.name.clone(), hops.join(", "))
    });
    nodes
        .chain(links)
        .chain(networks)
        .chain(containers)
        .chain(chains)
        .collect()
}

fn machine_of(machine: &MachineTable) -> String {
    let mut parts = vec![
        format!("{} MiB", machine.memory_mib),
        format!("kernel {}", machine.kernel),
    ];
    parts.extend(machine.disk_mib.map(|disk| format!("disk {disk} MiB")));
    if !machine.packages.is_empty() {
        parts.push(format!("packages {}", machine.packages.join(" ")));
    }
    parts.join(", ")
}

fn as_json(lab: &LabFile, there: bool) -> Value {
    let plan: Vec<Value> = rows(lab)
        .into_iter()
        .map(|[what, name, details]| json!({"what": what, "name": name, "details": details}))
        .collect();
    json!({"lab": lab.name, "backend": lab.backend, "there": there, "plan": plan})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn the_plan_has_everything_that_the_file_asks_for() {
        let (lab, _) = builtin::read("two-tenants", Some("qemu")).unwrap();
        let rows = rows(&lab);
        let count = |what: &str| rows.iter().filter(|row| row[0] == what).count();
        assert_eq!(count("node"), lab.nodes.len());
        assert_eq!(count("network"), lab.site.networks.len());
        assert_eq!(count("container"), lab.site.containers.len());
        assert_eq!(count("chain"), 1);
        assert!(rows[0][2].contains("MiB, kernel auto"), "{:?}", rows[0]);
        assert_eq!(as_json(&lab, true)["there"], true);
    }
}
