//! What is said when a verb fails.

use crate::support::{ip, namespace, net, veth};
use weft_overlay::link::{Netlink, Route};

#[tokio::test]
async fn errors_name_the_verb_and_the_link() {
    let netlink = Netlink::in_netns(namespace()).expect("netlink");
    netlink
        .ensure_veth(&veth("a", "b"), None)
        .await
        .expect("made");
    let address = net("192.0.2.1/24");
    let unknown = Route::direct(address, "nope");
    let unreachable = Route {
        onlink: false,
        ..Route::via(net("0.0.0.0/0"), ip("203.0.113.1"), "a")
    };
    for (result, text) in [
        (
            netlink.set_up("nope").await,
            "set up nope: there is no such link",
        ),
        (
            netlink.set_mtu("nope", 1400).await,
            "set the MTU of nope: there",
        ),
        (
            netlink.add_address("nope", address).await,
            "add an address to nope: there",
        ),
        (
            netlink.set_master("a", Some("nope")).await,
            "set the bridge of nope: there",
        ),
        (
            netlink.replace_route(&unknown).await,
            "set a route on nope: there",
        ),
        // Refused by the kernel: smaller than any IPv4 packet; not a bridge; link down.
        (netlink.set_mtu("a", 10).await, "set the MTU of a: "),
        (
            netlink.set_master("a", Some("b")).await,
            "set the bridge of a: ",
        ),
        (
            netlink.replace_route(&unreachable).await,
            "set a route on a (0.0.0.0/0 via 203.0.113.1): ",
        ),
    ] {
        let error = result.expect_err(text);
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(!error.help().is_empty());
    }
}
