//! TCP at full speed through the firewall: large segments and missing checksums pass unharmed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::lab::{Lab, last_object, objects, wait_until};

const BULK: &str = include_str!("topologies/bulk.toml");
/// Bytes each way: enough for large segments and full windows.
const BYTES: usize = 128 << 20;
/// One write.
const BLOCK: usize = 64 << 10;
/// The port that the firewall allows.
const PORT: u16 = 80;
/// How long the transfer may take: a debug build copies some 50 MB/s.
const WITHIN: Duration = Duration::from_secs(60);

/// The byte at a place of the stream: its period, 251, is no power of two, so that a lost or repeated
/// segment shows.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

#[test]
fn bulk_passes_the_firewall_without_a_fault() {
    let lab = Lab::up(BULK);
    let (a, web) = (lab.enter("red/a"), lab.enter("red/web1"));
    let server: SocketAddr = format!("{}:{PORT}", lab.address("red/web1"))
        .parse()
        .unwrap();
    let listener = web
        .run(|| TcpListener::bind(server))
        .expect("listen in red/web1");
    let receiver = std::thread::spawn(move || receive(&listener));
    let mut stream = wait_until("the chain lets the client connect", WITHIN, || {
        a.run(|| TcpStream::connect_timeout(&server, Duration::from_secs(1)))
            .ok()
    });
    stream.set_write_timeout(Some(WITHIN)).unwrap();
    let begun = Instant::now();
    for block in 0..BYTES / BLOCK {
        let bytes: Vec<u8> = (0..BLOCK).map(|i| pattern(block * BLOCK + i)).collect();
        stream.write_all(&bytes).expect("send");
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let received = receiver.join().expect("the receiver");
    let took = begun.elapsed();
    assert_eq!(received, Ok(BYTES));
    println!(
        "{:.0} MB/s through the firewall",
        BYTES as f64 / 1e6 / took.as_secs_f64()
    );

    for (name, inside) in [("red/a", &a), ("red/web1", &web)] {
        assert_eq!(inside.counter("Tcp", "InCsumErrors"), 0, "{name}");
        assert_eq!(inside.counter("Tcp", "InErrs"), 0, "{name}");
    }
    passed_the_firewall(&lab);
    lab.down();
}

/// Reads to the end: how many bytes, or where the first wrong one is.
fn receive(listener: &TcpListener) -> Result<usize, String> {
    let (mut stream, _) = listener.accept().map_err(|e| e.to_string())?;
    stream
        .set_read_timeout(Some(WITHIN))
        .map_err(|e| e.to_string())?;
    let (mut at, mut buffer) = (0, vec![0; BLOCK]);
    loop {
        let read = stream.read(&mut buffer).map_err(|e| e.to_string())?;
        if read == 0 {
            return Ok(at);
        }
        if let Some(wrong) = (0..read).find(|i| buffer[*i] != pattern(at + i)) {
            return Err(format!("byte {} is wrong", at + wrong));
        }
        at += read;
    }
}

/// The hop saw it and dropped nothing of it.
fn passed_the_firewall(lab: &Lab) {
    let status = last_object(&lab.must("red/fw", &["/.weft", "function", "status"]));
    assert_eq!(status["denied"], 0, "{status}");
    let stats = objects(&lab.must("n1", &["weft", "chain", "stats", "--json"]));
    let bytes: u64 = stats
        .iter()
        .filter_map(|hop| hop["bytes_in"].as_u64())
        .max()
        .unwrap_or(0);
    assert!(bytes as usize >= BYTES, "{stats:?}");
    let drops = objects(&lab.must("n1", &["weft", "drops", "--json"]));
    let too_big = drops
        .iter()
        .any(|d| d["reason"] == "too_big" && d["packets"] != 0);
    assert!(!too_big, "{drops:?}");
}
