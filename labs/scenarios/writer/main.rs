//! Writes numbered records and tells each one as soon as it counts as written, or checks them. Runs inside a
//! machine, for the scenario that cuts its power.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bytes of a record.
const RECORD: usize = 4096;
/// How far a file's blocks are laid out before the first record: then no record needs the file system's journal,
/// whose flushes would save what nobody asked to be saved.
const RECORDS: u64 = 2048;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words[..] {
        ["write", how, path, round] => write(how, path, number(round)),
        ["check", path, round, told] => check(path, number(round), number(told)),
        _ => panic!("disk-writer write fsync|range|none FILE ROUND, or check FILE ROUND TOLD"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// No two sectors of any two records are alike.
fn record(round: u64, number: u64) -> Vec<u8> {
    (0..RECORD as u64 / 16)
        .flat_map(|at| [(round << 32 | number).to_le_bytes(), at.to_le_bytes()])
        .flatten()
        .collect()
}

fn write(how: &str, path: &str, round: u64) {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .expect("open the file");
    for at in 0..RECORDS {
        file.write_all_at(&[0; RECORD], at * RECORD as u64)
            .expect("lay the file out");
    }
    file.sync_all().expect("lay the file out");
    let mut out = std::io::stdout();
    for number in 0..RECORDS {
        let at = number * RECORD as u64;
        file.write_all_at(&record(round, number), at)
            .expect("write");
        match how {
            "fsync" => file.sync_data().expect("fdatasync"),
            "range" => range(&file, at),
            _ => {}
        }
        writeln!(out, "{number}").expect("tell");
    }
}

/// Hands the pages to the drive and waits until it has taken them: what sync_file_range(2) promises, and no more.
fn range(file: &File, at: u64) {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: a call on an open descriptor that touches no memory of ours.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), at as i64, RECORD as i64, flags) };
    assert_eq!(
        done,
        0,
        "sync_file_range: {}",
        std::io::Error::last_os_error()
    );
}

/// Prints how many of the records that were told are not there.
fn check(path: &str, round: u64, told: u64) {
    let file = File::open(path).expect("open the file");
    let mut bytes = vec![0; RECORD];
    let lost = (0..told).filter(|number| {
        file.read_exact_at(&mut bytes, number * RECORD as u64)
            .is_err()
            || bytes != record(round, *number)
    });
    println!("{}", lost.count());
}
