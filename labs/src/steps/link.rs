//! `link`: a link of the lab is set up or down.

use weft_overlay::NodeName;

use super::Attempt;
use crate::engine::Running;
use crate::file::LinkState;
use crate::underlay;

pub(super) fn run(running: &mut Running, between: &[NodeName; 2], state: LinkState) -> Attempt {
    let [a, b] = between;
    let Some(number) = running.lab.links.iter().position(|link| link.joins(a, b)) else {
        return Err(judge(between, state, "no such link"));
    };
    running.wires[number].up = state == LinkState::Up;
    underlay::set_wire(&running.nodes, &running.wires, number)
        .map(|()| String::new())
        .map_err(|error| judge(between, state, &error.to_string().replace('\n', "; ")))
}

/// Why a link is not as told.
fn judge([a, b]: &[NodeName; 2], state: LinkState, seen: &str) -> String {
    let state = state.word();
    format!(
        "expected: link {a} to {b} is set {state}; seen: {seen}; look at: ip -d link on {a} and {b}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_cannot_be_set_is_told() {
        let between = ["n1".parse().unwrap(), "n2".parse().unwrap()];
        assert_eq!(
            judge(&between, LinkState::Down, "no such link"),
            "expected: link n1 to n2 is set down; seen: no such link; \
             look at: ip -d link on n1 and n2"
        );
    }
}
