//! The shortest ways over the links that are up. Pure.

use std::collections::{BTreeMap, VecDeque};

use super::Wire;

/// For each node that can be reached from `from`: the link over which the way begins, and the node at its other end.
/// Among ways of equal length the one whose links come first in the file.
pub(crate) fn next_hops(
    from: usize,
    nodes: usize,
    wires: &[Wire],
) -> BTreeMap<usize, (usize, usize)> {
    let mut first: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        let links = wires.iter().enumerate();
        for (number, wire) in links.filter(|(_, w)| w.up && w.ends.contains(&at)) {
            for &next in &wire.ends {
                if next == from || first.contains_key(&next) || next >= nodes {
                    continue;
                }
                let way = first.get(&at).copied().unwrap_or((number, next));
                first.insert(next, way);
                queue.push_back(next);
            }
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wires(ends: &[&[usize]], down: &[usize]) -> Vec<Wire> {
        ends.iter()
            .enumerate()
            .map(|(i, ends)| Wire {
                ends: ends.to_vec(),
                up: !down.contains(&i),
                mtu: 1500,
                relayed: false,
                gone: false,
            })
            .collect()
    }

    #[test]
    fn a_triangle_goes_direct_and_around_a_cut() {
        let ends: [&[usize]; 3] = [&[0, 1], &[1, 2], &[0, 2]];
        let hops = |down: &[usize]| next_hops(0, 3, &wires(&ends, down));
        assert_eq!(hops(&[]), [(1, (0, 1)), (2, (2, 2))].into());
        assert_eq!(hops(&[2]), [(1, (0, 1)), (2, (0, 1))].into());
        assert_eq!(hops(&[0, 2]), [].into());
    }

    #[test]
    fn a_segment_joins_all_its_nodes_and_leads_to_what_is_behind_them() {
        let ends: [&[usize]; 2] = [&[0, 1, 2], &[2, 3]];
        let hops = next_hops(0, 4, &wires(&ends, &[]));
        assert_eq!(hops, [(1, (0, 1)), (2, (0, 2)), (3, (0, 2))].into());
        let hops = next_hops(3, 4, &wires(&ends, &[]));
        assert_eq!(hops, [(0, (1, 2)), (1, (1, 2)), (2, (1, 2))].into());
    }
}
