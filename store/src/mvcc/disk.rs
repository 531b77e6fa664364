//! How the state stands in sled: keys, records, small values.

use std::io;

use prost::Message;

use super::index::Version;
use crate::proto::mvccpb::KeyValue;

/// Changes with the layout; another one is thrown away and rebuilt.
pub(super) const FORMAT: &[u8] = b"weft-store-1";
pub(super) const TREE: &str = "state";

/// Names of the small values.
pub(super) const TRUST: &[u8] = b"mtrust";
pub(super) const REVISION: &[u8] = b"mrevision";
pub(super) const COMPACTED: &[u8] = b"mcompacted";
pub(super) const APPLIED: &[u8] = b"mapplied";
pub(super) const MEMBERSHIP: &[u8] = b"mmembership";

/// `r` revision sub, big endian, so that keys sort by place.
pub(super) fn record_key(main: i64, sub: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = b'r';
    key[1..9].copy_from_slice(&main.to_be_bytes());
    key[9..].copy_from_slice(&sub.to_be_bytes());
    key
}

pub(super) fn lease_key(id: i64) -> [u8; 9] {
    tagged(b'l', id.to_be_bytes())
}

pub(super) fn publish_key(id: u64) -> [u8; 9] {
    tagged(b'p', id.to_be_bytes())
}

fn tagged(tag: u8, number: [u8; 8]) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number);
    key
}

pub(super) fn number(bytes: &[u8]) -> io::Result<i64> {
    let bytes = bytes.try_into().map_err(|_| damaged("a number"))?;
    Ok(i64::from_be_bytes(bytes))
}

/// The key-value as it stands after the change. A deletion has version and create revision 0.
pub(super) fn decode_record(key: &[u8], value: &[u8]) -> io::Result<(KeyValue, Version)> {
    let place: &[u8; 13] = key.try_into().map_err(|_| damaged("a record's key"))?;
    let kv = KeyValue::decode(value).map_err(|_| damaged("a record"))?;
    let sub = u32::from_be_bytes([place[9], place[10], place[11], place[12]]);
    let version = Version {
        main: kv.mod_revision,
        sub,
        create: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    };
    if number(&place[1..9])? != version.main {
        return Err(damaged("a record's revision"));
    }
    Ok((kv, version))
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the state database is damaged ({what}); stop the member, remove its `state` folder, start it: the state is rebuilt from snapshot and log"
        ),
    )
}

/// This boot of the machine: sled's pages, unsynced, survive a process but not a boot.
pub(super) fn boot_id() -> io::Result<Vec<u8>> {
    let mut mark = FORMAT.to_vec();
    mark.extend(std::fs::read("/proc/sys/kernel/random/boot_id")?);
    Ok(mark)
}
