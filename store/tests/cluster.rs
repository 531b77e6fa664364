//! Three members in one process over loopback: the client's view of a cluster, also while members stop and come back.

mod support;

use std::time::Duration;

use support::{Cluster, wait_until};
use weft_store::client::{Compare, Error, EventKind, KeyRange, Op, OpReply, RangeOptions, Txn};
use weft_store::server::InitialClusterState;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn keys_transactions_and_revisions() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    let empty = client
        .range(KeyRange::all(), RangeOptions::default())
        .await
        .expect("range");
    assert_eq!((empty.revision, empty.count), (1, 0));

    assert_eq!(client.put("a", "1", 0).await.expect("put"), 2);
    assert_eq!(client.put("a", "2", 0).await.expect("put"), 3);
    let kv = client.get("a").await.expect("get").expect("there");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(kv.value, "2");

    let txn = Txn::new(
        vec![Compare::mod_revision("a", 3), Compare::absent("b")],
        vec![
            Op::put("b", "x"),
            Op::put("c", "y"),
            Op::delete("a"),
            Op::get("b"),
        ],
    )
    .or_else(vec![Op::get("a")]);
    let reply = client.txn(txn.clone()).await.expect("txn");
    assert!(reply.succeeded);
    assert_eq!(reply.revision, 4);
    let OpReply::Range(read) = &reply.responses[3] else {
        panic!("a range was asked for");
    };
    assert_eq!(read.kvs[0].value, "x");
    let again = client.txn(txn).await.expect("txn");
    assert!(!again.succeeded);
    assert_eq!(again.revision, 4);

    let old = RangeOptions {
        revision: 3,
        ..Default::default()
    };
    assert_eq!(
        client.range(KeyRange::all(), old).await.expect("old").count,
        1
    );
    client.compact(4).await.expect("compact");
    assert!(matches!(
        client.range(KeyRange::all(), old).await,
        Err(Error::Compacted { .. })
    ));
    assert_eq!(
        client.delete(KeyRange::prefix("")).await.expect("delete"),
        2
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_everything_once_and_in_order() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    let first = client.put("w/0", "0", 0).await.expect("put");
    let mut watch = client.watch(KeyRange::prefix("w/"), first);
    for n in 1..50 {
        client
            .put(format!("w/{}", n % 5), n.to_string(), 0)
            .await
            .expect("put");
        client.put("other", "x", 0).await.expect("put");
    }
    client.delete(KeyRange::key("w/1")).await.expect("delete");
    let mut seen = Vec::new();
    while seen.len() < 51 {
        let events = tokio::time::timeout(LONG, watch.next())
            .await
            .expect("in time");
        seen.extend(events.expect("goes on").expect("no error").events);
    }
    assert!(
        seen.windows(2)
            .all(|w| w[0].kv.mod_revision < w[1].kv.mod_revision)
    );
    assert!(
        seen.iter()
            .take(50)
            .enumerate()
            .all(|(n, e)| e.kv.value == n.to_string())
    );
    assert_eq!(seen[50].kind, EventKind::Delete);

    client
        .compact(seen[50].kv.mod_revision)
        .await
        .expect("compact");
    let mut late = client.watch(KeyRange::prefix("w/"), first);
    let ended = tokio::time::timeout(LONG, late.next())
        .await
        .expect("in time");
    assert!(
        matches!(ended, Some(Err(Error::Compacted { revision })) if revision == seen[50].kv.mod_revision)
    );
    // At the compact revision itself a watch may start, and sees the deletion.
    let mut exact = client.watch(KeyRange::prefix("w/"), seen[50].kv.mod_revision);
    let events = tokio::time::timeout(LONG, exact.next())
        .await
        .expect("in time");
    assert_eq!(
        events.expect("goes on").expect("no error").events[0].kind,
        EventKind::Delete
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_and_takes_its_keys_along() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    let lease = client
        .lease_grant(Duration::from_secs(2))
        .await
        .expect("grant");
    let kept = client
        .lease_grant(Duration::from_secs(2))
        .await
        .expect("grant");
    client.put("l/1", "x", lease).await.expect("put");
    client.put("l/2", "x", lease).await.expect("put");
    client.put("k", "x", kept).await.expect("put");
    wait_until(LONG, async || {
        assert!(client.lease_keepalive(kept).await.is_ok(), "kept alive");
        client
            .range(KeyRange::prefix("l/"), RangeOptions::default())
            .await
            .is_ok_and(|r| r.count == 0)
    })
    .await;
    assert!(client.get("k").await.expect("get").is_some());
    assert!(matches!(
        client.lease_keepalive(lease).await,
        Err(Error::LeaseNotFound { .. })
    ));
    assert!(matches!(
        client.put("l/1", "x", lease).await,
        Err(Error::LeaseNotFound { .. })
    ));
    client.lease_revoke(kept).await.expect("revoke");
    assert!(client.get("k").await.expect("get").is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_does_not_end_while_nobody_could_renew_it() {
    let mut cluster = Cluster::with(3, |config| {
        config.request_timeout = Duration::from_millis(500);
    })
    .await;
    let client = cluster.client();
    let ttl = Duration::from_secs(2);
    let lease = client.lease_grant(ttl).await.expect("grant");
    client.put("held", "x", lease).await.expect("put");
    let leader = cluster.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.stop_one(other).await;
    }
    let alone = std::time::Instant::now();
    wait_until(LONG, async || alone.elapsed() > ttl * 2).await;
    for other in others {
        cluster.start_one(other).await;
    }
    wait_until(LONG, async || client.put("back", "x", 0).await.is_ok()).await;
    // Its holder needs a moment to find out: half the TTL.
    let back = std::time::Instant::now();
    wait_until(LONG, async || back.elapsed() > ttl / 2).await;
    client.lease_keepalive(lease).await.expect("not ended");
    assert!(client.get("held").await.expect("get").is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_a_set_tell_their_own_and_outlive_members() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    let first = client.put("a/0", "", 0).await.expect("put");
    let mut set = client.watch_set();
    set.add(1, KeyRange::prefix("a/"), first);
    set.add(2, KeyRange::prefix("b/"), 0);
    let mut next = async || {
        let told = tokio::time::timeout(LONG, set.next()).await;
        let told = told.expect("in time").expect("goes on");
        let events = told.events.expect("no error").events;
        let keys = events.iter().map(|e| e.kv.key_str().to_owned());
        (told.id, keys.collect::<Vec<_>>())
    };
    let of = |id: u32, key: &str| (id, vec![key.to_owned()]);
    assert_eq!(next().await, of(1, "a/0"));
    // The second began with what came last, so this is told by the first alone.
    client.put("a/1", "", 0).await.expect("put");
    assert_eq!(next().await, of(1, "a/1"));
    client.put("b/0", "", 0).await.expect("put");
    assert_eq!(next().await, of(2, "b/0"));
    let leader = cluster.leader().await;
    cluster.stop_one(leader).await;
    for (id, key) in [(1, "a/2"), (2, "b/1"), (1, "a/3")] {
        client.put(key, "", 0).await.expect("put");
        assert_eq!(next().await, of(id, key));
    }
    cluster.start_one(leader).await;
    // One comes, one goes: what it would have told is not told by anybody.
    set.remove(1);
    let last = client.put("a/4", "", 0).await.expect("put");
    set.add(3, KeyRange::key("b/2"), last);
    client.put("b/2", "", 0).await.expect("put");
    let mut told = Vec::new();
    while told.len() < 2 {
        let one = tokio::time::timeout(LONG, set.next()).await;
        let one = one.expect("in time").expect("goes on");
        assert!(one.events.is_ok(), "{one:?}");
        told.push(one.id);
    }
    told.sort_unstable();
    assert_eq!(told, [2, 3]);
    client.compact(last).await.expect("compact");
    set.add(4, KeyRange::prefix("a/"), first);
    let ended = tokio::time::timeout(LONG, set.next()).await;
    let ended = ended.expect("in time").expect("goes on");
    assert_eq!(ended.id, 4);
    assert!(matches!(ended.events, Err(Error::Compacted { revision }) if revision == last));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_stops_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    let mut watch = client.watch(KeyRange::prefix("n/"), 2);
    let mut last = 0;
    for round in 0..3 {
        for n in 0..10 {
            last = client
                .put(format!("n/{round}/{n}"), "v", 0)
                .await
                .expect("put");
        }
        let leader = cluster.leader().await;
        cluster.stop_one(leader).await;
        let started = std::time::Instant::now();
        last = client
            .put(format!("n/{round}/after"), "v", 0)
            .await
            .expect("put after the leader stopped")
            .max(last);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "took {:?}",
            started.elapsed()
        );
        let read = client
            .range(KeyRange::prefix("n/"), RangeOptions::default())
            .await
            .expect("range");
        assert_eq!(read.count, 11 * (round + 1));
        cluster.start_one(leader).await;
    }
    let mut seen = 0;
    while seen < 33 {
        let events = tokio::time::timeout(LONG, watch.next())
            .await
            .expect("in time");
        seen += events.expect("goes on").expect("no error").events.len();
    }
    // Every member ends up with the same history.
    for at in 0..3 {
        let own = cluster.client_of(at);
        wait_until(LONG, async || {
            let stale = RangeOptions {
                serializable: true,
                ..Default::default()
            };
            own.range(KeyRange::prefix("n/"), stale)
                .await
                .is_ok_and(|r| r.revision == last && r.count == 33)
        })
        .await;
    }
    let members = client.members().await.expect("members");
    assert_eq!(members.len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_answered_wrongly() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.put("q", "1", 0).await.expect("put");
    cluster.stop_one(0).await;
    cluster.stop_one(1).await;
    let alone = cluster.client_of(2);
    assert!(
        alone.get("q").await.is_err(),
        "a linearizable read needs a quorum"
    );
    assert!(alone.put("q", "2", 0).await.is_err());
    let stale = RangeOptions {
        serializable: true,
        ..Default::default()
    };
    let read = alone
        .range(KeyRange::key("q"), stale)
        .await
        .expect("a serializable read does not");
    assert_eq!(read.kvs[0].value, "1");
    cluster.start_one(0).await;
    wait_until(LONG, async || client.put("q", "3", 0).await.is_ok()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_too_long_gets_a_snapshot() {
    let mut cluster = Cluster::with(3, |config| {
        config.snapshot_bytes = 2000;
        config.keep_entries = 10;
        config.segment_bytes = 4096;
    })
    .await;
    let client = cluster.client();
    let lease = client
        .lease_grant(Duration::from_secs(600))
        .await
        .expect("grant");
    client.put("leased", "x", lease).await.expect("put");
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    cluster.stop_one(other).await;
    for n in 0..200 {
        client
            .put(format!("s/{}", n % 20), n.to_string(), 0)
            .await
            .expect("put");
    }
    client.compact(100).await.expect("compact");
    cluster.start_one(other).await;
    let own = cluster.client_of(other);
    wait_until(LONG, async || {
        let stale = RangeOptions {
            serializable: true,
            ..Default::default()
        };
        own.range(KeyRange::all(), stale)
            .await
            .is_ok_and(|r| r.count == 21 && r.revision == 202)
    })
    .await;
    let hashes = cluster.hashes(150).await;
    assert!(
        hashes.windows(2).all(|w| w[0] == w[1]),
        "members disagree: {hashes:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_follow_the_bytes_of_the_log() {
    let cluster = Cluster::with(1, |config| config.snapshot_bytes = 100_000).await;
    let client = cluster.client();
    let snapshots = || {
        let listed = std::fs::read_dir(cluster.folder(0).join("snapshots")).expect("lists");
        let names = listed.map(|e| e.expect("entry").path());
        let made = names.filter(|p| p.extension().is_some_and(|e| e == "snap"));
        made.collect::<Vec<_>>()
    };
    // Many entries, few bytes.
    for n in 0..200 {
        client.put("small", n.to_string(), 0).await.expect("put");
    }
    assert!(snapshots().is_empty());
    // Few entries, many bytes; one snapshot of more than the threshold.
    let value = "x".repeat(50_000);
    for n in 0..4 {
        client
            .put(format!("large/{n}"), value.clone(), 0)
            .await
            .expect("put");
    }
    wait_until(LONG, async || !snapshots().is_empty()).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_folder_was_lost_is_filled_again() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    for n in 0..20 {
        client.put(format!("k/{n}"), "v", 0).await.expect("put");
    }
    let leader = cluster.leader().await;
    let lost = (leader + 1) % 3;
    cluster.stop_one(lost).await;
    cluster.lose(lost);
    cluster
        .try_start(lost, |config| {
            config.initial_cluster_state = InitialClusterState::Existing;
        })
        .await
        .expect("starts");
    client.put("after", "v", 0).await.expect("put");
    let own = cluster.client_of(lost);
    wait_until(LONG, async || {
        let stale = RangeOptions {
            serializable: true,
            ..Default::default()
        };
        own.range(KeyRange::all(), stale)
            .await
            .is_ok_and(|r| r.count == 21)
    })
    .await;
    let hashes = cluster.hashes(0).await;
    assert!(hashes.windows(2).all(|w| w[0] == w[1]), "{hashes:?}");
    assert_eq!(
        cluster.leader().await,
        leader,
        "the leader is not disturbed"
    );
    for at in 0..3 {
        cluster
            .client_of(at)
            .get("k/0")
            .await
            .expect("every member serves");
    }
    cluster.stop().await;
}
