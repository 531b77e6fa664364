//! The VXLAN device: how it is made, and what stands in its way.

use crate::support::{namespace, vxlan};
use weft_overlay::link::{LinkError, LinkKind, Netlink, VxlanInfo, VxlanSpec, sysctl};

#[tokio::test]
async fn vxlan_is_external_and_does_not_learn() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    let spec = vxlan("weft-vx", 4789);
    let index = netlink.ensure_vxlan(&spec).await.expect("made");
    let made = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .expect("exists");
    let flags = VxlanInfo {
        port: 4789,
        external: true,
        learning: false,
        udp_csum: true,
        udp6_zero_csum_tx: false,
    };
    assert_eq!(
        (made.index, made.kind.clone(), made.vxlan),
        (index, LinkKind::Vxlan, Some(flags))
    );
    assert_eq!((made.mtu, made.up, made.mac), (1450, true, spec.mac));
    let off = sysctl::read(netlink.netns(), "net/ipv6/conf/weft-vx/disable_ipv6").expect("read");
    assert_eq!(off, "1");

    assert_eq!(
        netlink.ensure_vxlan(&spec).await.expect("again"),
        index,
        "the same device"
    );
    let smaller = VxlanSpec {
        mtu: 1400,
        ..spec.clone()
    };
    assert_eq!(
        netlink.ensure_vxlan(&smaller).await.expect("smaller"),
        index,
        "MTU changes in place"
    );
    assert_eq!(netlink.mtu_of("weft-vx").await.expect("read"), 1400);
    // The port cannot be changed: a new device.
    let moved = netlink
        .ensure_vxlan(&vxlan("weft-vx", 4790))
        .await
        .expect("made anew");
    assert_ne!(moved, index);
    let port = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .and_then(|l| l.vxlan)
        .map(|v| v.port);
    assert_eq!(port, Some(4790));
}

#[tokio::test]
async fn one_external_device_a_port_is_explained() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink
        .ensure_vxlan(&vxlan("weft-vx", 4789))
        .await
        .expect("made");
    let error = netlink
        .ensure_vxlan(&vxlan("other", 4789))
        .await
        .expect_err("the port is taken");
    assert!(error.to_string().contains("VXLAN device other"), "{error}");
    assert!(!error.help().is_empty());
}

#[tokio::test]
async fn a_foreign_link_of_the_name_is_not_touched() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink.ensure_bridge("weft-vx").await.expect("made");
    let error = netlink
        .ensure_vxlan(&vxlan("weft-vx", 4789))
        .await
        .expect_err("a bridge");
    assert!(
        matches!(
            error,
            LinkError::Kind {
                found: LinkKind::Bridge,
                wanted: LinkKind::Vxlan,
                ..
            }
        ),
        "{error}"
    );
    let still = netlink
        .link("weft-vx")
        .await
        .expect("read")
        .expect("still there");
    assert_eq!(still.kind, LinkKind::Bridge);
}
