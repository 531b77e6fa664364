//! `link`: a link of the lab is set up or down.

use weft_overlay::NodeName;

use super::Attempt;
use crate::engine::Running;
use crate::file::LinkState;
use crate::underlay;

pub(super) fn run(running: &mut Running, between: &[NodeName; 2], state: LinkState) -> Attempt {
    let [a, b] = between;
    let Some(number) = running.lab.links.iter().position(|link| link.joins(a, b)) else {
        return Err(format!("expected: a link between {a} and {b}; seen: none"));
    };
    running.wires[number].up = state == LinkState::Up;
    underlay::set_wire(&running.nodes, &running.wires, number).map_err(|e| e.to_string())?;
    Ok(String::new())
}
