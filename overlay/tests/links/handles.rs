//! What a handle leaves behind: nothing.

use std::time::Duration;

use crate::support::namespace;
use weft_overlay::link::{LinkError, Netlink};
use weft_overlay::netns;

#[test]
fn namespaces_are_left_as_they_were() {
    let before = std::fs::read_link("/proc/thread-self/ns/net").expect("read");
    let ns = namespace();
    let inside = netns::run_in_netns(&ns, || std::fs::read_link("/proc/thread-self/ns/net"))
        .expect("entered");
    assert_ne!(inside.expect("read"), before);
    assert_eq!(
        std::fs::read_link("/proc/thread-self/ns/net").expect("read"),
        before
    );
    assert!(
        matches!(Netlink::current(), Err(LinkError::NoRuntime)),
        "no runtime, no socket"
    );
    let missing = netns::of_pid(u32::MAX).expect_err("no such process");
    assert!(missing.to_string().contains("4294967295"), "{missing}");
    assert!(!missing.help().is_empty());
}

/// Each call opens a socket; a socket that stayed would end an agent after some thousand containers.
#[tokio::test]
async fn sockets_are_closed_with_their_handles() {
    let ns = namespace();
    let open = || std::fs::read_dir("/proc/self/fd").expect("listed").count();
    let before = open();
    for _ in 0..500 {
        let netlink = Netlink::in_netns(&ns).expect("netlink");
        netlink.set_up("lo").await.expect("up");
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    // Other tests run beside this one and hold some.
    while open() > before + 200 {
        assert!(
            std::time::Instant::now() < deadline,
            "{before} before, {} after",
            open()
        );
        tokio::task::yield_now().await;
    }
}
