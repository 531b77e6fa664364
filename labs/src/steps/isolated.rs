//! `isolated`: what is sent in one network to an address of the other is never answered from there.
//! It must hold at once: there is nothing to wait for.
//!
//! Both networks may have a server of one name at one address, so an answer is judged by who gave it: each server says of
//! itself what no other says, and is asked for it on its own loopback interface. Where two say the same, as kernels do
//! that answer echo requests, the other side's own counters decide.

use std::time::Duration;

use weft_overlay::site::Container;
use weft_overlay::{ContainerRef, NetworkRef};

use super::probe::{self, Answer};
use super::{ANSWER_WITHIN, Attempt, SILENCE};
use crate::engine::Running;
use crate::file::Probe;
use crate::site::{is_hop, network_of};

/// Where only the container itself can answer.
const LOOPBACK: &str = "127.0.0.1";
/// How long the counters of a container may take to be read.
const COUNTERS_WITHIN: Duration = Duration::from_secs(5);
/// How often a question is counted before the other side is said to take it in.
const COUNTED_TRIES: usize = 3;

pub(super) fn run(running: &Running, a: &NetworkRef, b: &NetworkRef) -> Attempt {
    let there = one_way(running, a, b)?;
    let back = one_way(running, b, a)?;
    Ok(format!(
        "{} probes, none answered from the other side",
        there + back
    ))
}

/// Probes from each container of `from` to each address of `to`; how many probes there were.
fn one_way(running: &Running, from: &NetworkRef, to: &NetworkRef) -> Result<usize, String> {
    let asking = ordinary(running, from);
    let asked = ordinary(running, to);
    if asking.is_empty() || asked.is_empty() {
        return Err(format!(
            "expected: containers in {from} and {to}; seen: none with an address; \
             look at: weft ps"
        ));
    }
    let mut probes = 0;
    for container in asked {
        let addresses = running
            .container(&container.name.to_string())
            .map(|c| c.addresses.clone())
            .unwrap_or_default();
        for address in addresses {
            let address = address.split('/').next().unwrap_or(&address);
            let traffic = served(container);
            // One asker is enough: the datapath decides by network, and every node's tables are asked by `to`. But who has
            // the address itself would ask itself, and nothing would be sent.
            let own = owner(running, from, address);
            let asker = asking.iter().find(|c| Some(&c.name) != own.as_ref());
            let asker = &asker.unwrap_or(&asking[0]).name;
            probes += 1;
            let question = Question {
                asker,
                traffic,
                address,
            };
            let (verdict, answer) = question.put(running, from, &container.name)?;
            told(asker, &container.name, address, traffic, verdict, &answer)?;
        }
    }
    Ok(probes)
}

/// The sentence of a probe that was not apart.
fn told(
    asker: &ContainerRef,
    other: &ContainerRef,
    address: &str,
    traffic: Probe,
    verdict: Verdict,
    answer: &Answer,
) -> Result<(), String> {
    if verdict == Verdict::Apart {
        return Ok(());
    }
    Err(format!(
        "expected: {asker} gets nothing from {other} ({address}); seen: {}{}; \
         look at: weft trace live {asker} {address} {traffic}",
        probe::words(answer),
        verdict.words()
    ))
}

/// What is sent.
struct Question<'a> {
    asker: &'a ContainerRef,
    traffic: Probe,
    address: &'a str,
}

impl Question<'_> {
    /// Asks, and finds out whether `other`, which is not in `from`, took part in the answer.
    fn put(
        &self,
        running: &Running,
        from: &NetworkRef,
        other: &ContainerRef,
    ) -> Result<(Verdict, Answer), String> {
        let send = || probe::send(running, self.asker, self.traffic, self.address, SILENCE);
        let own = owner(running, from, self.address);
        let own = match own {
            // One container in both networks may answer in either.
            Some(own) if &own == other => return Ok((Verdict::Apart, send()?)),
            Some(own) => Some(identity(running, &own, self.traffic)?),
            None => None,
        };
        let other_says = identity(running, other, self.traffic)?;
        let mut answer = send()?;
        let mut verdict = judge(&answer, own.as_deref(), &other_says);
        // Each time again, since somebody else may ask it meanwhile: had this asker reached it, it would count always.
        for _ in 0..COUNTED_TRIES {
            if verdict != Verdict::Unclear {
                break;
            }
            let before = counted(running, other, self.traffic)?;
            answer = send()?;
            if counted(running, other, self.traffic)? == before {
                verdict = Verdict::Apart;
            }
        }
        Ok((verdict, answer))
    }
}

/// Whether the other network's container answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody did, or the asker's own network.
    Apart,
    /// It did, or nobody who is known to be of the asker's own network.
    Reached,
    /// The two say the same of themselves.
    Unclear,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Verdict::Apart | Verdict::Reached => "",
            Verdict::Unclear => ", and each time it counted one more",
        }
    }
}

/// Judges an answer by what the two that have the address say of themselves; `own` is in the asker's network.
fn judge(answer: &Answer, own: Option<&str>, other: &str) -> Verdict {
    let said = answer.answer.trim();
    match own {
        _ if !answer.ok => Verdict::Apart,
        None => Verdict::Reached,
        Some(own) if own == other => Verdict::Unclear,
        Some(own) if own == said => Verdict::Apart,
        Some(_) => Verdict::Reached,
    }
}

/// What a container says of itself on its own loopback interface, where nobody else can answer. Empty: nothing.
fn identity(running: &Running, who: &ContainerRef, traffic: Probe) -> Result<String, String> {
    match traffic {
        Probe::Icmp => Ok(String::new()),
        _ => probe::send(running, who, traffic, LOOPBACK, ANSWER_WITHIN)
            .map(|answer| answer.answer.trim().to_owned()),
    }
}

/// How many questions of this kind have reached a container, by its own kernel's counters.
fn counted(running: &Running, who: &ContainerRef, traffic: Probe) -> Result<u64, String> {
    let name = who.to_string();
    let args = [
        "exec",
        &name,
        "--",
        "cat",
        "/proc/net/snmp",
        "/proc/net/snmp6",
    ];
    let output = running.nodes[0]
        .weft(&args, COUNTERS_WITHIN)
        .map_err(|e| format!("the counters of {name}: {e}"))?;
    // Without IPv6 the second file is not there, and `cat` says so.
    taken_in(&output.stdout, traffic)
        .ok_or_else(|| format!("the counters of {name}: {}", output.words()))
}

/// Echo requests or connections taken in, in the text of /proc/net/snmp and snmp6 (net/ipv4/proc.c, net/ipv6/proc.c).
fn taken_in(text: &str, traffic: Probe) -> Option<u64> {
    let (group, name) = match traffic {
        Probe::Icmp => ("Icmp:", "InEchos"),
        _ => ("Tcp:", "PassiveOpens"),
    };
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|n| n == name)?;
    let first: u64 = values.split_whitespace().nth(at)?.parse().ok()?;
    let echoes6 = text
        .lines()
        .find_map(|line| line.strip_prefix("Icmp6InEchos"))
        .and_then(|value| value.trim().parse::<u64>().ok());
    Some(match traffic {
        Probe::Icmp => first + echoes6.unwrap_or(0),
        _ => first,
    })
}

/// Who has `address` in `network`.
fn owner(running: &Running, network: &NetworkRef, address: &str) -> Option<ContainerRef> {
    ordinary(running, network)
        .into_iter()
        .find(|container| {
            running
                .container(&container.name.to_string())
                .is_some_and(|c| {
                    c.addresses
                        .iter()
                        .any(|a| a.split('/').next() == Some(address))
                })
        })
        .map(|container| container.name.clone())
}

/// Containers with an ordinary interface in a network.
fn ordinary<'a>(running: &'a Running, network: &NetworkRef) -> Vec<&'a Container> {
    running
        .lab
        .site
        .containers
        .iter()
        .filter(|c| {
            c.networks
                .iter()
                .any(|n| network_of(n) == network && !is_hop(n))
        })
        .collect()
}

/// What a container answers to: the first TCP port that it serves, else echo requests.
fn served(container: &Container) -> Probe {
    container
        .command
        .iter()
        .filter_map(|word| word.parse().ok())
        .find(|probe| matches!(probe, Probe::Tcp(_)))
        .unwrap_or(Probe::Icmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(who: &str) -> Answer {
        Answer {
            ok: true,
            answer: who.to_owned(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_server_of_the_same_name_at_the_same_address_is_told_from_the_own_one() {
        let (own, other) = ("a 0011223344556677", "a 8899aabbccddeeff");
        assert_eq!(judge(&says(own), Some(own), other), Verdict::Apart);
        assert_eq!(judge(&says(other), Some(own), other), Verdict::Reached);
        // One that was started again meanwhile, or a third: not known to be the own one.
        assert_eq!(judge(&says("a 0123"), Some(own), other), Verdict::Reached);
        assert_eq!(judge(&Answer::default(), Some(own), other), Verdict::Apart);
    }

    #[test]
    fn an_answer_from_an_address_that_the_own_network_has_not_is_the_other_ones() {
        assert_eq!(judge(&says(""), None, ""), Verdict::Reached);
        assert_eq!(judge(&says("a 1"), None, "a 2"), Verdict::Reached);
        assert_eq!(judge(&Answer::default(), None, "a 2"), Verdict::Apart);
    }

    #[test]
    fn two_that_say_the_same_are_not_taken_for_apart() {
        assert_eq!(judge(&says(""), Some(""), ""), Verdict::Unclear);
        assert_eq!(judge(&says("a"), Some("a"), "a"), Verdict::Unclear);
    }

    #[test]
    fn an_answer_from_the_other_network_is_told() {
        let (asker, other) = ("red/a".parse().unwrap(), "blue/b".parse().unwrap());
        let told = |verdict| {
            let traffic = "tcp/80".parse().unwrap();
            told(&asker, &other, "10.0.0.9", traffic, verdict, &says("b 01"))
        };
        assert_eq!(told(Verdict::Apart), Ok(()));
        assert_eq!(
            told(Verdict::Reached).unwrap_err(),
            "expected: red/a gets nothing from blue/b (10.0.0.9); seen: an answer from b; \
             look at: weft trace live red/a 10.0.0.9 tcp/80"
        );
        assert!(
            told(Verdict::Unclear)
                .unwrap_err()
                .contains("it counted one more")
        );
    }

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        let text = "Ip: Forwarding InReceives\nIp: 1 9\n\
                    Icmp: InMsgs InErrors InEchos\nIcmp: 5 0 3\nIcmpMsg: InType8\nIcmpMsg: 3\n\
                    Tcp: ActiveOpens PassiveOpens\nTcp: 7 2\n\
                    Ip6InReceives \t4\nIcmp6InEchos                    \t6\n";
        assert_eq!(taken_in(text, Probe::Icmp), Some(9));
        assert_eq!(taken_in(text, "tcp/80".parse().unwrap()), Some(2));
        assert_eq!(taken_in("", Probe::Icmp), None);
    }
}
