//! Veth pairs: made, joined, moved to another namespace and renamed.

use crate::support::{namespace, veth};
use std::os::fd::AsFd;
use weft_overlay::link::{LinkKind, Netlink, sysctl};

#[tokio::test]
async fn veth_pairs_join_namespaces() {
    let (here, there) = (namespace(), namespace());
    let netlink = Netlink::in_netns(&here).expect("netlink");
    let inside = Netlink::in_netns(&there).expect("netlink");
    let spec = veth("wf1", "eth0");
    let index = netlink
        .ensure_veth(&spec, Some(there.as_fd()))
        .await
        .expect("made");
    let (a, b) = (
        netlink.link("wf1").await.expect("read").expect("this end"),
        inside
            .link("eth0")
            .await
            .expect("read")
            .expect("the other end"),
    );
    assert_eq!((a.peer, b.peer), (Some(b.index), Some(a.index)));
    assert_eq!(
        (a.mac, b.mac, a.mtu, b.mtu),
        (spec.mac, spec.peer_mac, 1450, 1450)
    );
    assert!(
        netlink.link("eth0").await.expect("read").is_none(),
        "the other end is not here"
    );
    assert_eq!(
        netlink
            .ensure_veth(&spec, Some(there.as_fd()))
            .await
            .expect("again"),
        index
    );

    // Changed behind our back: set right in place.
    inside.set_mtu("eth0", 1300).await.expect("set");
    netlink
        .ensure_veth(&spec, Some(there.as_fd()))
        .await
        .expect("mended");
    assert_eq!(inside.mtu_of("eth0").await.expect("read"), 1450);
    // The container has a new namespace: a new pair, the old end gone.
    let elsewhere = namespace();
    let anew = netlink
        .ensure_veth(&spec, Some(elsewhere.as_fd()))
        .await
        .expect("made anew");
    assert_ne!(anew, index);
    assert!(inside.link("eth0").await.expect("read").is_none());
    assert!(
        Netlink::in_netns(&elsewhere)
            .expect("netlink")
            .link("eth0")
            .await
            .expect("read")
            .is_some()
    );

    netlink.quiet("wf1").await.expect("quiet");
    assert_eq!(
        sysctl::read(&here, "net/ipv6/conf/wf1/disable_ipv6").expect("read"),
        "1"
    );
    for _ in 0..2 {
        netlink.delete_link("wf1").await.expect("deleted");
    }
    assert!(netlink.link("wf1").await.expect("read").is_none());
}

#[tokio::test]
async fn links_move_and_change_names() {
    let (here, there) = (namespace(), namespace());
    let netlink = Netlink::in_netns(&here).expect("netlink");
    netlink
        .ensure_veth(&veth("a", "b"), None)
        .await
        .expect("made");
    for _ in 0..2 {
        netlink.rename("a", "c").await.expect("renamed");
        netlink.move_link("b", &there, "eth0").await.expect("moved");
    }
    let inside = Netlink::in_netns(&there).expect("netlink");
    assert_eq!(
        inside.link("eth0").await.expect("read").map(|l| l.kind),
        Some(LinkKind::Veth)
    );
    assert!(netlink.link("c").await.expect("read").is_some());
}
