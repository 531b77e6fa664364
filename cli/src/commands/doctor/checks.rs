//! The checks themselves. Devices are tried for real, in a network namespace that goes with its
//! descriptor: /sys/module tells nothing of what is built in. Never: changes anything outside it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use weft_agent::overlay::filter::{self, FilterError};
use weft_agent::overlay::gateway::{Gateway, gateway_rules, node_rules};
use weft_agent::overlay::link::{LinkError, Netlink, VethSpec, VxlanSpec};
use weft_agent::overlay::netns;
use weft_agent::{features, runtime};

/// Fewer open files than this do not carry a node with many containers and watches.
const OPEN_FILES: u64 = 4096;
/// Default ports of a node: store clients, store members, API (TCP).
const TCP_PORTS: [u16; 3] = [2379, 2380, 7946];
/// VXLAN (RFC 7348, section 5).
const VXLAN_PORT: u16 = 4789;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it is there.
    pub present: bool,
    /// Whether a node cannot run without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// What it is for, and what to do without it.
    pub why: String,
}

impl Check {
    /// Whether a node cannot start for it.
    pub fn blocks(&self) -> bool {
        self.required && !self.present
    }
}

/// Everything.
pub fn all() -> Vec<Check> {
    let mut all = required();
    all.extend([open_files(), ports()]);
    all
}

/// What a node needs, with what it merely uses.
pub fn required() -> Vec<Check> {
    let mut found = vec![root()];
    found.extend(datapath());
    found.extend(containers());
    if privileged() {
        found.extend(devices());
    }
    found
}

fn root() -> Check {
    let root = privileged();
    Check {
        name: "root",
        present: root,
        required: true,
        found: if root {
            "CAP_SYS_ADMIN"
        } else {
            "an ordinary user"
        }
        .to_owned(),
        why: "namespaces, network devices and BPF programs: use sudo".to_owned(),
    }
}

/// Effective CAP_SYS_ADMIN, bit 21 (linux/capability.h), decides, not the user's number.
pub fn privileged() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok())
        .is_some_and(|caps| caps & (1 << 21) != 0)
}

/// The running kernel's release.
pub fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

fn datapath() -> Vec<Check> {
    features::probe()
        .into_iter()
        .map(|feature| Check {
            found: match feature.name.starts_with("linux") {
                true => kernel(),
                false => String::new(),
            },
            name: feature.name,
            present: feature.present,
            required: feature.required,
            why: feature.why.to_owned(),
        })
        .collect()
}

fn containers() -> impl Iterator<Item = Check> {
    let probed = runtime::features::probe().into_iter();
    // `root` is said once.
    probed
        .filter(|feature| feature.name != "root")
        .map(|feature| Check {
            required: feature.name == "namespaces",
            name: match feature.name {
                "user namespaces" => "user-namespaces",
                "cgroup controllers" => "cgroup-controllers",
                other => other,
            },
            present: feature.present,
            found: feature.found,
            why: feature.why.to_owned(),
        })
}

/// Makes each kind of device once.
fn devices() -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let netns = netns::create();
    let (Ok(runtime), Ok(netns)) = (runtime, &netns) else {
        let found = netns
            .err()
            .map_or_else(|| "no threads".to_owned(), |e| e.to_string());
        return vec![Check {
            name: "network-namespaces",
            present: false,
            required: true,
            found,
            why: "nodes' and containers' networks: needs CONFIG_NET_NS and root".to_owned(),
        }];
    };
    runtime.block_on(async {
        let veth = async {
            let spec = VethSpec {
                name: "doctor0".to_owned(),
                mac: None,
                peer_name: "doctor1".to_owned(),
                peer_mac: None,
                mtu: 1500,
            };
            Netlink::in_netns(netns)?.ensure_veth(&spec, None).await
        };
        let vxlan = async {
            let spec = VxlanSpec::over("doctor2", VXLAN_PORT, 1500, Ipv4Addr::LOCALHOST.into());
            Netlink::in_netns(netns)?.ensure_vxlan(&spec).await
        };
        let bridge = async { Netlink::in_netns(netns)?.ensure_bridge("doctor3").await };
        let nat = nat(netns);
        vec![
            Check {
                name: "nat",
                present: nat.is_ok(),
                required: false,
                found: match &nat {
                    Ok(()) => "made and removed".to_owned(),
                    Err(error) => error.to_string(),
                },
                why: "networks with `egress = \"nat\"`, published ports: `modprobe -a nf_tables nft_chain_nat nft_nat nft_masq \
                      nft_ct nft_connlimit nft_fib_inet`; without such modules, a kernel with CONFIG_NF_TABLES_INET"
                    .to_owned(),
            },
            device(
                "veth",
                true,
                veth.await,
                "containers' interfaces: `modprobe veth`; without such a module, a kernel with CONFIG_VETH",
            ),
            device(
                "vxlan",
                true,
                vxlan.await,
                "traffic between nodes: `modprobe vxlan`; without such a module, a kernel with CONFIG_VXLAN",
            ),
            device(
                "bridge",
                false,
                bridge.await,
                "the segment of a lab: `modprobe bridge`; without such a module, a kernel with CONFIG_BRIDGE",
            ),
        ]
    })
}

/// All kinds of rules that gateways and their nodes have.
fn nat(netns: &OwnedFd) -> Result<(), FilterError> {
    let published = ["10.10.0.2", "fd00:10::2"].map(|address| {
        let address: IpAddr = address.parse().expect("an address");
        ("80:tcp/80".parse().expect("a published port"), address)
    });
    let gateway = Gateway {
        index: 0,
        cidr4: Some("10.10.0.0/16".parse().expect("a range")),
        cidr6: Some("fd00:10::/48".parse().expect("a range")),
        mtu: 1450,
        underlay_mtu: 1500,
        egress: true,
        published: BTreeSet::from(published),
    };
    filter::replace(netns, &gateway_rules(&gateway))?;
    filter::replace(
        netns,
        &node_rules(&[gateway], &BTreeSet::new(), [false, false], VXLAN_PORT),
    )
}

fn device(name: &'static str, required: bool, made: Result<u32, LinkError>, why: &str) -> Check {
    let found = match &made {
        Ok(_) => "made and removed".to_owned(),
        Err(error) => error.to_string(),
    };
    Check {
        name,
        present: made.is_ok(),
        required,
        found,
        why: why.to_owned(),
    }
}

fn open_files() -> Check {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or("unknown");
    Check {
        name: "open-files",
        present: soft.parse().is_ok_and(|limit: u64| limit >= OPEN_FILES) || soft == "unlimited",
        required: false,
        found: soft.to_owned(),
        why: format!("at least {OPEN_FILES} for many containers on a node: `ulimit -n 65536`"),
    }
}

fn ports() -> Check {
    let any = Ipv4Addr::UNSPECIFIED;
    let tcp = TCP_PORTS
        .into_iter()
        .filter(|port| TcpListener::bind((any, *port)).is_err());
    let mut taken: Vec<String> = tcp.map(|port| format!("tcp/{port}")).collect();
    if UdpSocket::bind((any, VXLAN_PORT)).is_err() {
        taken.push(format!("udp/{VXLAN_PORT}"));
    }
    Check {
        name: "ports",
        present: taken.is_empty(),
        required: false,
        found: match taken.is_empty() {
            true => "all free".to_owned(),
            false => format!("in use: {}", taken.join(", ")),
        },
        why: "a node's defaults; another node or store here? `weft node run` takes other ports by flags"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the real machine; what it has is not asserted, only that every check says something.
    #[test]
    fn every_check_says_what_to_do_and_none_twice() {
        let found = all();
        let mut names: Vec<&str> = found.iter().map(|check| check.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
        assert!(found.iter().all(|check| !check.why.is_empty()));
    }
}
