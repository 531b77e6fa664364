//! The shortest ways over the links that are up. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::Wire;

/// For each node that can be reached from `from`: the link over which the way begins. Among ways of
/// equal length the one whose links come first in the file.
pub(crate) fn next_hops(from: usize, nodes: usize, wires: &[Wire]) -> BTreeMap<usize, usize> {
    let mut first: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for (number, wire) in wires.iter().enumerate().filter(|(_, w)| w.up) {
            let [a, b] = wire.ends;
            let next = match at {
                _ if at == a => b,
                _ if at == b => a,
                _ => continue,
            };
            if next == from || first.contains_key(&next) || next >= nodes {
                continue;
            }
            let way = first.get(&at).copied().unwrap_or(number);
            first.insert(next, way);
            queue.push_back(next);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wires(ends: &[[usize; 2]], down: &[usize]) -> Vec<Wire> {
        ends.iter()
            .enumerate()
            .map(|(i, ends)| Wire {
                ends: *ends,
                up: !down.contains(&i),
            })
            .collect()
    }

    #[test]
    fn a_triangle_goes_direct_and_around_a_cut() {
        let ends = [[0, 1], [1, 2], [0, 2]];
        assert_eq!(next_hops(0, 3, &wires(&ends, &[])), [(1, 0), (2, 2)].into());
        assert_eq!(
            next_hops(0, 3, &wires(&ends, &[2])),
            [(1, 0), (2, 0)].into()
        );
        assert_eq!(next_hops(0, 3, &wires(&ends, &[0, 2])), [].into());
    }
}
