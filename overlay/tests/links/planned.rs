//! Plans of links, carried out.

use std::sync::Arc;

use crate::support::{namespace, veth, vxlan};
use weft_overlay::link::{DesiredLink, LinkError, LinkOp, Netlink, apply, plan, sysctl};

#[tokio::test]
async fn plans_bring_links_to_what_is_desired() {
    let (here, inside) = (namespace(), Arc::new(namespace()));
    let netlink = Netlink::in_netns(&here).expect("netlink");
    let owned = |name: &str| name.starts_with("wf");
    let desired = vec![
        DesiredLink::Vxlan(vxlan("wfvx", 4789)),
        DesiredLink::Veth(veth("wf1", "eth0")),
        DesiredLink::Bridge("wfbr".into()),
    ];
    // Left over from an earlier life, and somebody else's.
    netlink.ensure_bridge("wf9").await.expect("made");
    netlink.ensure_bridge("docker0").await.expect("made");
    netlink.ensure_bridge("wf1").await.expect("made");
    let first = plan(&desired, &netlink.links().await.expect("listed"), owned);
    let deleted: Vec<_> = first
        .ops()
        .iter()
        .filter(|op| matches!(op, LinkOp::Delete { .. }))
        .collect();
    assert_eq!(deleted.len(), 2, "{first:?}");
    let errors = apply(&netlink, first, |_| Some(Arc::clone(&inside))).await;
    assert!(errors.is_empty(), "{errors:?}");
    let seen = netlink.links().await.expect("listed");
    assert!(
        plan(&desired, &seen, owned).is_empty(),
        "{:?}",
        plan(&desired, &seen, owned)
    );
    assert!(seen.iter().any(|l| l.name == "docker0"), "not ours");
    assert!(!seen.iter().any(|l| l.name == "wf9"), "ours, not wanted");
    assert_eq!(
        sysctl::read(&here, "net/ipv6/conf/wf1/disable_ipv6").expect("read"),
        "1"
    );

    netlink.set_down("wfbr").await.expect("down");
    netlink.delete_link("wfvx").await.expect("deleted");
    let mend = plan(&desired, &netlink.links().await.expect("listed"), owned);
    assert_eq!(mend.ops().len(), 3, "{mend:?}");
    // Goes on after an error: the pair's namespace is gone, the rest is made.
    netlink.delete_link("wf1").await.expect("deleted");
    let mend = plan(&desired, &netlink.links().await.expect("listed"), owned);
    let errors = apply(&netlink, mend, |_| None).await;
    assert!(
        errors.iter().any(|e| matches!(e, LinkError::NoPeer { .. })),
        "{errors:?}"
    );
    let vx = netlink.link("wfvx").await.expect("read").expect("made");
    assert!(vx.up && netlink.link("wfbr").await.expect("read").expect("there").up);
}
