//! Crash tests of the log: cut at every byte, damaged at every byte.

use std::path::Path;
use std::sync::mpsc::channel;

use super::recover::segment_path;
use super::{Error, Frame, Kind, Wal};

fn entry(index: u64) -> Frame {
    Frame::new(Kind::Entry, index, format!("entry {index}").into_bytes())
}

fn write(wal: &Wal, frames: Vec<Frame>) {
    let (sender, receiver) = channel();
    wal.write(
        frames,
        Box::new(move |r| sender.send(r).expect("test waits")),
    );
    receiver.recv().expect("called").expect("written");
}

fn written(dir: &Path, count: u64) -> Vec<u8> {
    let (wal, frames) = Wal::open(dir, 1 << 20).expect("opens");
    assert!(frames.is_empty());
    for index in 1..=count {
        write(&wal, vec![entry(index)]);
    }
    drop(wal);
    std::fs::read(segment_path(dir, 1)).expect("there")
}

#[test]
fn frames_come_back_in_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (wal, _) = Wal::open(dir.path(), 1 << 20).expect("opens");
    let frames = vec![
        Frame::new(Kind::Vote, 0, b"v".to_vec()),
        entry(1),
        entry(2),
        Frame::new(Kind::Truncate, 2, Vec::new()),
        entry(2),
    ];
    write(&wal, frames.clone());
    wal.note(Frame::new(Kind::Committed, 0, b"c".to_vec()));
    drop(wal);
    let (_, found) = Wal::open(dir.path(), 1 << 20).expect("opens again");
    assert_eq!(&found[..5], &frames[..]);
    assert_eq!(found[5].kind, Kind::Committed);
}

#[test]
fn cut_at_every_byte_keeps_a_prefix() {
    let source = tempfile::tempdir().expect("tempdir");
    let bytes = written(source.path(), 6);
    let mut longest = 0;
    for length in 0..=bytes.len() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(segment_path(dir.path(), 1), &bytes[..length]).expect("written");
        let (wal, frames) = Wal::open(dir.path(), 1 << 20).expect("a torn end is no error");
        for (at, frame) in frames.iter().enumerate() {
            assert_eq!(*frame, entry(at as u64 + 1), "cut at {length}");
        }
        assert!(frames.len() >= longest);
        longest = frames.len();
        // What is written after the cut must be readable too.
        write(&wal, vec![entry(99)]);
        drop(wal);
        let (_, again) = Wal::open(dir.path(), 1 << 20).expect("opens again");
        assert_eq!(again.len(), longest + 1);
        assert_eq!(again.last(), Some(&entry(99)));
    }
    assert_eq!(longest, 6);
}

#[test]
fn damage_before_acknowledged_data_is_refused() {
    let source = tempfile::tempdir().expect("tempdir");
    let bytes = written(source.path(), 6);
    let last_frame = bytes.len() - (8 + 17 + b"entry 6".len());
    for at in 0..bytes.len() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        std::fs::write(segment_path(dir.path(), 1), &damaged).expect("written");
        match Wal::open(dir.path(), 1 << 20) {
            Err(Error::Damaged { offset, .. }) => {
                assert!(
                    at < last_frame && offset <= at as u64,
                    "damage at {at}, found at {offset}"
                );
            }
            Err(other) => panic!("damage at {at}: {other}"),
            // The last frame may be torn: nothing was promised after it.
            Ok((_, frames)) => {
                assert!(at >= last_frame, "damage at {at} was not noticed");
                assert_eq!(frames.len(), 5);
            }
        }
    }
}

#[test]
fn segments_rotate_repeat_the_vote_and_go() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (wal, _) = Wal::open(dir.path(), 200).expect("opens");
    write(&wal, vec![Frame::new(Kind::Vote, 0, b"vote".to_vec())]);
    for index in 1..=40 {
        write(&wal, vec![entry(index)]);
    }
    assert!(segment_path(dir.path(), 3).exists());
    wal.drop_upto(30);
    write(&wal, vec![entry(41)]);
    drop(wal);
    assert!(!segment_path(dir.path(), 1).exists());
    let (_, frames) = Wal::open(dir.path(), 200).expect("opens again");
    assert!(
        frames
            .iter()
            .any(|f| f.kind == Kind::Vote && f.payload == b"vote")
    );
    let entries: Vec<u64> = frames
        .iter()
        .filter(|f| f.kind == Kind::Entry)
        .map(|f| f.index)
        .collect();
    assert!(entries[0] <= 31);
    assert_eq!(entries.last(), Some(&41));
    assert!(entries.windows(2).all(|w| w[1] == w[0] + 1));
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (wal, _) = Wal::open(dir.path(), 100).expect("opens");
    for index in 1..=20 {
        write(&wal, vec![entry(index)]);
    }
    drop(wal);
    std::fs::remove_file(segment_path(dir.path(), 2)).expect("removed");
    assert!(matches!(
        Wal::open(dir.path(), 100),
        Err(Error::Damaged { .. })
    ));
}
