//! Which members may vote: the first start of a cluster, and a member whose folder was emptied.

mod support;

use std::time::{Duration, Instant};

use support::{Cluster, wait_until};
use weft_store::client::{KeyRange, RangeOptions};
use weft_store::server::{Config, Error, InitialClusterState};

const LONG: Duration = Duration::from_secs(20);

fn existing(config: &mut Config) {
    config.initial_cluster_state = InitialClusterState::Existing;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_found_a_cluster_at_once() {
    let started = Instant::now();
    let cluster = Cluster::start(3).await;
    cluster.client().put("first", "v", 0).await.expect("put");
    let taken = started.elapsed();
    println!("first start of three members to the first acknowledged write: {taken:?}");
    // Far more than it takes, below what one election that failed costs on top.
    assert!(taken < Duration::from_secs(3), "{taken:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_new_members_do_not_found_a_cluster() {
    let mut cluster = Cluster::prepare(3, |config| {
        config.request_timeout = Duration::from_millis(500);
    });
    cluster.start_one(0).await;
    cluster.start_one(1).await;
    assert!(
        !cluster.server(0).is_member() && !cluster.server(1).is_member(),
        "the third could be a member that knows a cluster"
    );
    assert!(cluster.client_of(0).put("early", "v", 0).await.is_err());
    // A crash before the founding costs nothing.
    cluster.stop_one(0).await;
    cluster.start_one(0).await;
    cluster.start_one(2).await;
    wait_until(LONG, async || {
        cluster.client().put("first", "v", 0).await.is_ok()
    })
    .await;
    cluster.stop().await;
}

/// Writes what only the leader and one other member hold, then empties that one: (emptied, lagging, leader).
async fn acknowledged_by_two(cluster: &mut Cluster) -> (usize, usize, usize) {
    let client = cluster.client();
    client.put("old", "v", 0).await.expect("put");
    let leader = cluster.leader().await;
    let (emptied, lagging) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop_one(lagging).await;
    for n in 0..10 {
        client.put(format!("k/{n}"), "v", 0).await.expect("put");
    }
    cluster.stop_one(emptied).await;
    cluster.lose(emptied);
    (emptied, lagging, leader)
}

async fn nothing_is_lost(cluster: &Cluster) {
    let mut count = 0;
    let client = cluster.client();
    wait_until(LONG, async || {
        let read = client.range(KeyRange::prefix("k/"), RangeOptions::default());
        count = read.await.map_or(0, |r| r.count);
        count > 0
    })
    .await;
    assert_eq!(count, 10, "every acknowledged write is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_member_is_refused_while_the_cluster_lives() {
    let mut cluster = Cluster::start(3).await;
    let (emptied, lagging, _) = acknowledged_by_two(&mut cluster).await;
    let refused = cluster.try_start(emptied, |_| {}).await;
    assert!(
        matches!(&refused, Err(Error::Emptied { .. })),
        "{:?}",
        refused.err()
    );
    // The refused start left nothing that the next one could take for data.
    let refused = cluster.try_start(emptied, |_| {}).await;
    assert!(matches!(refused, Err(Error::Emptied { .. })));
    cluster.start_one(lagging).await;
    nothing_is_lost(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_member_and_one_that_lags_elect_nobody() {
    for state in [InitialClusterState::New, InitialClusterState::Existing] {
        let mut cluster = Cluster::start(3).await;
        let (emptied, lagging, leader) = acknowledged_by_two(&mut cluster).await;
        cluster.stop_one(leader).await;
        // Nobody who holds the writes is there. The lagging one starts first and asks for votes meanwhile.
        cluster.start_one(lagging).await;
        let started = cluster
            .try_start(emptied, |config| config.initial_cluster_state = state)
            .await;
        if state == InitialClusterState::New {
            assert!(
                matches!(started, Err(Error::Emptied { .. })),
                "the lagging one knows the cluster"
            );
        } else {
            started.expect("starts");
        }
        // Longer than two elections: without a guard one of them wins in the first.
        let elected = tokio::time::timeout(Duration::from_secs(3), cluster.leader()).await;
        assert!(elected.is_err(), "a leader without the acknowledged writes");
        if state == InitialClusterState::Existing {
            assert!(!cluster.server(emptied).is_member());
        }
        cluster.start_one(leader).await;
        if state == InitialClusterState::New {
            cluster.try_start(emptied, existing).await.expect("starts");
        }
        nothing_is_lost(&cluster).await;
        wait_until(LONG, async || cluster.server(emptied).is_member()).await;
        // Filled, it holds what it had acknowledged: now it may stand for it.
        cluster.stop_one(leader).await;
        nothing_is_lost(&cluster).await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_returns_through_a_snapshot_survives_its_restart() {
    let mut cluster = Cluster::with(3, |config| {
        config.keep_entries = 5;
        config.snapshot_bytes = 800;
        config.segment_bytes = 4096;
    })
    .await;
    let client = cluster.client();
    for n in 0..100 {
        client
            .put(format!("k/{}", n % 10), "v", 0)
            .await
            .expect("put");
    }
    let leader = cluster.leader().await;
    let emptied = (leader + 1) % 3;
    cluster.stop_one(emptied).await;
    cluster.lose(emptied);
    cluster.try_start(emptied, existing).await.expect("starts");
    wait_until(LONG, async || cluster.server(emptied).is_member()).await;
    cluster.stop_one(emptied).await;
    // As it is run ever after.
    cluster.start_one(emptied).await;
    assert!(cluster.server(emptied).is_member());
    cluster.stop_one((leader + 2) % 3).await;
    nothing_is_lost(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanished_is_noticed() {
    let mut cluster = Cluster::start(1).await;
    cluster.client().put("k", "v", 0).await.expect("put");
    cluster.stop_one(0).await;
    std::fs::remove_dir_all(cluster.folder(0).join("wal")).expect("removed");
    let refused = cluster.try_start(0, |_| {}).await;
    assert!(matches!(refused, Err(Error::Emptied { .. })));
}
