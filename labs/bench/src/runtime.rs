//! `runtime`: from `weft run` returning to the first answer that another node gets from the new container.
//!
//! Twice: with an address of the subnet that the container's node has leased, of which other nodes need not hear; and with
//! a fixed one outside, whose way they must learn from the store first.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path as File;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_overlay::netns::run_in_netns;

use crate::cluster::Cluster;
use crate::overlay::{Family, address};
use crate::row::{Goal, Row, against, tail_against};

const LAB: &str = include_str!("overlay.toml");
/// Milliseconds until the first answer, of 99 of 100 runs.
const WITHIN: f64 = 50.0;
/// Where the container answers.
const PORT: u16 = 9000;
/// Until another question is asked.
const AGAIN: Duration = Duration::from_millis(1);
/// A container that is silent for so long is none.
const DEADLINE: Duration = Duration::from_secs(30);

/// All cases, of so many containers each.
pub fn run(weft: &File, count: u8) -> anyhow::Result<Vec<Row>> {
    let cluster = Cluster::up(weft, LAB)?;
    let IpAddr::V4(leased) = address(&cluster.container("red/a")?, "eth0", Family::Four)? else {
        bail!("red/a has no IPv4 address");
    };
    let [a, b, c, last] = leased.octets();
    let asker = cluster.container("red/b")?;
    let socket = run_in_netns(&asker, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    socket.set_read_timeout(Some(AGAIN))?;
    let mut rows = Vec::new();
    for case in ["leased address", "claimed address"] {
        let mut took = Vec::new();
        for number in 0..count {
            let to = match case {
                // The subnet has 64; the lab's containers have the first ones. One that was removed has time to go.
                "leased address" => Ipv4Addr::new(a, b, c, last | 32 | (number % 16)),
                _ => Ipv4Addr::new(10, 10, 200, 1 + number),
            };
            took.push(one(&cluster, &socket, &format!("red/{number}"), to)?);
        }
        let title = |metric| ("runtime", case, metric, "ms");
        rows.push(against(title("answer_p50"), &took, Goal::AtMost(WITHIN)));
        rows.push(tail_against(
            title("answer_p99"),
            &took,
            Goal::AtMost(WITHIN),
        ));
    }
    Ok(rows)
}

/// Starts a container, asks it until it answers, and removes it.
fn one(cluster: &Cluster, socket: &UdpSocket, name: &str, to: Ipv4Addr) -> anyhow::Result<f64> {
    let network = format!("red/front:{to}");
    let line = ["run", name, "--net", &network, "--node", "n1", "host", "--"];
    let serve = format!("udp/{PORT}");
    let command = ["/.weft", "function", "serve", &serve];
    cluster.ask("n1", &[&line[..], &command].concat())?;
    let returned = Instant::now();
    let took = answer(socket, SocketAddr::new(to.into(), PORT), returned)
        .with_context(|| format!("{name} at {to}"))?;
    cluster.ask("n1", &["rm", name])?;
    Ok(took.as_secs_f64() * 1000.0)
}

fn answer(socket: &UdpSocket, to: SocketAddr, begun: Instant) -> anyhow::Result<Duration> {
    let mut buffer = [0; 64];
    while begun.elapsed() < DEADLINE {
        socket.send_to(b"there?", to)?;
        // Neither silence nor an answer of the container before is one.
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            if from == to {
                return Ok(begun.elapsed());
            }
        }
    }
    bail!("no answer within {DEADLINE:?}")
}
