//! The tables of a lab file, key by key.

use super::{Key, Kind};
use crate::file::nodes::NODES_MAX;

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: true,
        about,
    }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        required: false,
        about,
    }
}

pub(in crate::file) const LAB: &[Key] = &[
    must("name", Kind::Text, "The lab's name: a-z, 0-9 and '-'."),
    may(
        "backend",
        Kind::Text,
        "What a node is: `netns`, namespaces of this machine, or `qemu`, a virtual machine.",
    ),
    may(
        "store",
        Kind::Word(&["weft", "etcd"]),
        "What keeps the cluster's documents: the nodes themselves, or etcd beside them (netns).",
    ),
    may(
        "lease_ttl",
        Kind::Duration,
        "How long a node without sign of life counts as there.",
    ),
    may(
        "seed",
        Kind::Number(0, i64::MAX),
        "Of all chance on links: the same seed and frames lose the same frames. 0 without it.",
    ),
    may(
        "underlay",
        Kind::Word(&["ipv4", "ipv6"]),
        "The family of the nodes' own addresses; `ipv4` without it. Networks have either on both.",
    ),
];

pub(in crate::file) const NODE: &[Key] = &[
    must(
        "name",
        Kind::Text,
        "Its name; with `count`, what stands before the number.",
    ),
    may(
        "count",
        Kind::Number(1, NODES_MAX as i64),
        "So many nodes, NAME1, NAME2, ...",
    ),
    may(
        "memory",
        Kind::Text,
        "Memory of a virtual machine, e.g. 512M.",
    ),
    may(
        "kernel",
        Kind::Text,
        "What a virtual machine boots: `auto`, or a path.",
    ),
    may(
        "disk",
        Kind::Text,
        "A disk of a virtual machine for the node's state, e.g. 1G; without it the state ends with the machine.",
    ),
    may(
        "packages",
        Kind::Texts,
        "Packages of the distribution whose programs a virtual machine has, e.g. busybox-static; none without it.",
    ),
];

const DELAY: Key = may("delay", Kind::Time, "Added to each frame's way, one way.");
const JITTER: Key = may(
    "jitter",
    Kind::Time,
    "By how much the delay varies to both sides; order is kept.",
);
const LOSS: Key = may("loss", Kind::Part, "The part of frames that is lost.");
const REORDER: Key = may(
    "reorder",
    Kind::Part,
    "The part of frames that skips the delay and overtakes others.",
);
const RATE: Key = may("rate", Kind::Rate, "Bits a second of each direction.");
const CUT: Key = may("cut", Kind::Flag, "Nothing passes, and no device tells.");
/// IPv6 needs 1280 (RFC 8200, 5); 9000 is the usual jumbo frame.
const MTU: Kind = Kind::Number(1280, 9000);

pub(in crate::file) const LINK: &[Key] = &[
    must(
        "between",
        Kind::Ends,
        "The nodes that it joins: two by a wire, more by a segment.",
    ),
    DELAY,
    JITTER,
    LOSS,
    REORDER,
    RATE,
    may(
        "mtu",
        MTU,
        "The largest packet in bytes, of the devices at it too.",
    ),
    CUT,
    may(
        "from",
        Kind::Each(&[
            DELAY,
            JITTER,
            LOSS,
            REORDER,
            RATE,
            may("mtu", MTU, "The largest packet in bytes that passes."),
            CUT,
        ]),
        "By node: what is different for what it sends.",
    ),
    may(
        "capture",
        Kind::Text,
        "A pcapng file for all its frames; a relative path begins where weft is started.",
    ),
];

/// The tables of a site. Their reader is the site's own; a test compares the two.
pub(in crate::file) const NETWORK: &[Key] = &[
    must(
        "name",
        Kind::Text,
        "TENANT/NETWORK; the tenant is made with it.",
    ),
    may("cidr", Kind::Text, "IPv4 range."),
    may("cidr6", Kind::Text, "IPv6 range."),
    may(
        "subnet_len",
        Kind::Number(0, 32),
        "Prefix length of the IPv4 subnets that nodes lease.",
    ),
    may(
        "subnet_len6",
        Kind::Number(0, 128),
        "Prefix length of the IPv6 subnets that nodes lease.",
    ),
    may(
        "vni",
        Kind::Number(1, (1 << 24) - 1),
        "A chosen VNI instead of the lowest free one.",
    ),
    may(
        "mtu",
        Kind::Number(0, 65_535),
        "MTU of its interfaces, bytes.",
    ),
    may(
        "datapath",
        Kind::Word(&["ebpf", "ovs"]),
        "Which datapath carries it.",
    ),
    may(
        "egress",
        Kind::Word(&["none", "nat"]),
        "What its endpoints may reach outside.",
    ),
    may(
        "dscp",
        Kind::Word(&["pipe", "uniform"]),
        "The priority between packet and tunnel (RFC 2983).",
    ),
    may(
        "ttl",
        Kind::Word(&["pipe", "uniform"]),
        "The time to live between packet and tunnel (RFC 3443).",
    ),
    may("labels", Kind::Names, "Labels."),
];

pub(in crate::file) const CONTAINER: &[Key] = &[
    must("name", Kind::Text, "TENANT/NAME"),
    may(
        "networks",
        Kind::TextsOrTables(ATTACHMENT),
        "Its interfaces, in order.",
    ),
    may("node", Kind::Text, "Where it runs; any node without it."),
    may("labels", Kind::Names, "Labels."),
    may(
        "image",
        Kind::Text,
        "`host`, `oci:DIR`, `archive:FILE`, `docker-archive:FILE` or a registry reference.",
    ),
    must("command", Kind::Texts, "What it runs."),
    may(
        "publish",
        Kind::Texts,
        "Ports of its node that lead to its own: `8080:tcp/80`.",
    ),
    may("env", Kind::Names, "Environment."),
    may(
        "capabilities",
        Kind::Texts,
        "Capabilities it keeps, without CAP_.",
    ),
    may("resources", Kind::Table(RESOURCES), "Limits."),
    may(
        "restart",
        Kind::Word(&["no", "on-failure", "always"]),
        "When it is started again.",
    ),
];

pub(in crate::file) const ATTACHMENT: &[Key] = &[
    must("network", Kind::Text, "TENANT/NETWORK"),
    may("address", Kind::Text, "A fixed address."),
    may(
        "interface",
        Kind::Text,
        "The interface's name inside the container.",
    ),
    may(
        "hop",
        Kind::Flag,
        "An interface of a hop: only steered frames.",
    ),
];

pub(in crate::file) const RESOURCES: &[Key] = &[
    may("cpus", Kind::Decimal, "CPUs, e.g. 0.5."),
    may("memory", Kind::Number(0, i64::MAX), "Bytes of memory."),
    may("pids", Kind::Number(0, i64::MAX), "Processes and threads."),
];

pub(in crate::file) const CHAIN: &[Key] = &[must(
    "file",
    Kind::Text,
    "The chain's file, beside the file that names it.",
)];

const FROM: Key = must("from", Kind::Text, "The container that sends.");
const TO: Key = must(
    "to",
    Kind::Text,
    "A container, or an address in the sender's network.",
);
const WITH: Key = must("traffic", Kind::Traffic, "tcp/80, udp/53 or icmp.");

const FAMILY: Key = may(
    "family",
    Kind::Word(&["ipv4", "ipv6"]),
    "Which of the container's addresses; the first without it.",
);

const SIGNALS: &[&str] = &[
    "KILL", "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "STOP", "CONT",
];
const AGENT: Key = may("agent", Kind::Text, "The agent of this node.");
const NODE_NAME: Key = may("node", Kind::Text, "This node.");
const CONTAINER_NAME: Key = may("container", Kind::Text, "This container, TENANT/NAME.");

/// What a step does: exactly one of these keys.
pub(in crate::file) const STEP_KINDS: &[Key] = &[
    may(
        "reach",
        Kind::Table(&[
            FROM,
            TO,
            FAMILY,
            WITH,
            may(
                "via",
                Kind::Texts,
                "Hops that the packet must pass, in order.",
            ),
        ]),
        "An answer comes back.",
    ),
    may(
        "blocked",
        Kind::Table(&[
            FROM,
            TO,
            FAMILY,
            WITH,
            must(
                "by",
                Kind::Text,
                "The hop that takes the packet in and keeps it.",
            ),
        ]),
        "No answer comes: a hop kept the packet.",
    ),
    may(
        "dropped",
        Kind::Table(&[
            FROM,
            TO,
            FAMILY,
            WITH,
            must("reason", Kind::Text, "The drop reason's name."),
        ]),
        "No answer comes: a node dropped the packet.",
    ),
    may(
        "isolated",
        Kind::Pair,
        "Nothing sent in one network is answered from the other.",
    ),
    may(
        "link",
        Kind::Table(&[
            must("between", Kind::Ends, "Its nodes."),
            may(
                "state",
                Kind::Word(&["up", "down"]),
                "Its devices are set up or down, and routes lead around it.",
            ),
            may(
                "from",
                Kind::Text,
                "Only what this node sends; all directions without it.",
            ),
            DELAY,
            JITTER,
            LOSS,
            REORDER,
            RATE,
            may(
                "mtu",
                MTU,
                "The largest packet in bytes that passes; no device tells.",
            ),
            CUT,
        ]),
        "A link is set up or down, cut, or made better or worse.",
    ),
    may(
        "capture",
        Kind::Table(&[
            must("link", Kind::Ends, "The link's nodes."),
            must(
                "filter",
                Kind::Traffic,
                "Which frames: udp/4789, tcp/80 or icmp.",
            ),
            may(
                "present",
                Kind::Flag,
                "Whether there must be some; true without it.",
            ),
            may("to", Kind::Text, "Only frames that reach this node."),
        ]),
        "Frames came out of a link since the step before began, or none did.",
    ),
    may(
        "run",
        Kind::Table(&[
            NODE_NAME,
            CONTAINER_NAME,
            must("command", Kind::Texts, "The program and its arguments."),
            may(
                "exit",
                Kind::Number(0, 255),
                "The exit code that it ends with; 0 without it.",
            ),
            may("text", Kind::Text, "What its output has in it."),
        ]),
        "A command on a node or in a container ends as told.",
    ),
    may(
        "kill",
        Kind::Table(&[
            AGENT,
            NODE_NAME,
            CONTAINER_NAME,
            may("signal", Kind::Word(SIGNALS), "KILL without it."),
            may(
                "power",
                Kind::Flag,
                "Of a node with a disk: its power is cut, and what it had not flushed is partly lost.",
            ),
        ]),
        "A signal to an agent, to a container's first process, or the end of a node.",
    ),
    may(
        "start",
        Kind::Table(&[AGENT, NODE_NAME, CONTAINER_NAME]),
        "What an earlier step killed runs again; a node boots from its disk.",
    ),
    may(
        "pause",
        Kind::Table(&[AGENT, NODE_NAME, CONTAINER_NAME]),
        "All its processes stop and stay.",
    ),
    may(
        "resume",
        Kind::Table(&[AGENT, NODE_NAME, CONTAINER_NAME]),
        "The end of a pause.",
    ),
    may(
        "wait",
        Kind::Table(&[
            NODE_NAME,
            CONTAINER_NAME,
            may(
                "state",
                Kind::Text,
                "Of a node: ready or lost. Of a container: running, exited, ...",
            ),
            may("time", Kind::Duration, "Just this long."),
        ]),
        "Until something holds, or for a time.",
    ),
    may(
        "apply",
        Kind::Table(&[must("file", Kind::Text, "A chain file or a site file.")]),
        "A file is applied; its containers run and its chains steer.",
    ),
    may(
        "traffic",
        Kind::Table(&[
            must("name", Kind::Text, "The stream's name."),
            may("from", Kind::Text, "Begin: the container that sends."),
            may(
                "to",
                Kind::Text,
                "Begin: a container, or an address in the sender's network.",
            ),
            FAMILY,
            may("traffic", Kind::Traffic, "Begin: udp/PORT."),
            may(
                "rate",
                Kind::Number(1, 100_000),
                "Begin: datagrams a second; 100 without it.",
            ),
            may("duration", Kind::Duration, "Begin: how long it goes on."),
            may(
                "lost",
                Kind::Number(0, i64::MAX),
                "Judge: at most so many without answer.",
            ),
            may(
                "gap",
                Kind::Duration,
                "Judge: the longest time without an answer.",
            ),
        ]),
        "A stream in the background begins, or one that began is judged.",
    ),
];

pub(in crate::file) const WITHIN: Key = may(
    "within",
    Kind::Duration,
    "By when it must hold; 10s without it.",
);
