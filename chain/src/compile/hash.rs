//! One fixed hash for numbers that every node, run and version of weft must compute alike; the
//! standard library's may change between releases.

/// FNV-1a, 64 bits (draft-eastlake-fnv), over the parts with a separator that no name has, finished
/// by the avalanche of MurmurHash3 (fmix64), since FNV's high bits mix badly on short keys.
pub(super) fn stable(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut step = |byte: u8| {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    };
    for part in parts {
        part.iter().copied().for_each(&mut step);
        step(0xff);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Never given by [`number`].
pub(super) const RESERVED: u32 = u32::MAX;

/// A number for `parts` that is not 0, not [`RESERVED`] and not `taken`: the hash's, else the next free one.
pub(super) fn number(parts: &[&[u8]], taken: impl Fn(u32) -> bool) -> u32 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the low half of the hash is wanted"
    )]
    let mut number = stable(parts) as u32;
    while number == 0 || number == RESERVED || taken(number) {
        number = number.wrapping_add(1);
    }
    number
}
