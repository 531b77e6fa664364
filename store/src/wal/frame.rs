//! One frame of the log: its bytes, its checksum, and nothing of files.
//!
//! Layout, little endian: length of the body (u32), CRC-32 of the body (u32), body. Body: bytes of the file known
//! durable when this was written (u64), kind (u8), index (u64), payload.

/// Bytes before the body.
pub(super) const HEAD: usize = 8;
/// Shortest body: durable, kind, index.
const FIXED: usize = 17;
/// No body is longer: a request is at most 1.5 MiB; this leaves ample room and bounds what a damaged length can ask for.
pub(super) const MAX_BODY: usize = 64 << 20;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// First frame of a segment; index: the format.
    Header = 1,
    /// A log entry at index.
    Entry = 2,
    /// Entries from index on are void.
    Truncate = 3,
    /// The vote.
    Vote = 4,
    /// What is known to be committed.
    Committed = 5,
    /// Entries up to index are in a snapshot and gone.
    Purged = 6,
}

/// A frame without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: Kind, index: u64, payload: Vec<u8>) -> Frame {
        Frame {
            kind,
            index,
            payload,
        }
    }

    /// Appends the frame's bytes.
    pub(super) fn encode(&self, durable: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(&durable.to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.payload);
        let body = &out[start + HEAD..];
        let length = u32::try_from(body.len()).expect("requests are bounded far below 4 GiB");
        let crc = crc32fast::hash(body);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + HEAD].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A frame as read: itself, what it says was durable, and its size with head.
pub(super) struct Read {
    pub(super) frame: Frame,
    pub(super) durable: u64,
    pub(super) size: usize,
}

/// Reads the frame at `offset` of a whole file's bytes, or says why there is none.
pub(super) fn read_at(file: &[u8], offset: usize) -> Result<Read, &'static str> {
    let rest = &file[offset..];
    let Some((head, rest)) = rest.split_at_checked(HEAD) else {
        return Err("head cut off");
    };
    let length = le_u32(&head[..4]) as usize;
    if !(FIXED..=MAX_BODY).contains(&length) {
        return Err("impossible length");
    }
    let Some(body) = rest.get(..length) else {
        return Err("body cut off");
    };
    let durable = le_u64(&body[..8]);
    // Cheap and nearly always false for noise: spares the checksum when searching.
    if durable > offset as u64 {
        return Err("impossible offset");
    }
    let kind = match body[8] {
        1 => Kind::Header,
        2 => Kind::Entry,
        3 => Kind::Truncate,
        4 => Kind::Vote,
        5 => Kind::Committed,
        6 => Kind::Purged,
        _ => return Err("unknown kind"),
    };
    if crc32fast::hash(body) != le_u32(&head[4..]) {
        return Err("checksum differs");
    }
    Ok(Read {
        frame: Frame::new(kind, le_u64(&body[9..FIXED]), body[FIXED..].to_vec()),
        durable,
        size: HEAD + length,
    })
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}
