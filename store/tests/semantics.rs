//! What etcd's clients rely on, asked over the wire: codes, messages, revisions, the life of a watch.

mod support;

use std::time::Duration;

use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request as One;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use support::{Cluster, wait_until};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};
use weft_store::proto::etcdserverpb as pb;

const LONG: Duration = Duration::from_secs(20);

async fn channel(cluster: &Cluster) -> Channel {
    Channel::from_shared(cluster.url(0))
        .expect("url")
        .connect()
        .await
        .expect("connects")
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn get(key: &str, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        revision,
        ..Default::default()
    }
}

fn op(request: One) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, tonic::Status>, code: Code, message: &str) {
    let status = answer.expect_err("refused");
    assert_eq!((status.code(), status.message()), (code, message));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_etcds_codes_and_words() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(channel(&cluster).await);
    refused(
        kv.put(put("", "x")).await,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let mut ignoring = put("absent", "");
    ignoring.ignore_value = true;
    refused(
        kv.put(ignoring.clone()).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    ignoring.value = "x".into();
    refused(
        kv.put(ignoring).await,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let mut leased = put("x", "x");
    leased.lease = 99;
    refused(
        kv.put(leased).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let large = put("x", &"x".repeat(3 * 512 * 1024));
    refused(
        kv.put(large).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    refused(
        kv.range(get("x", 9)).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let many = pb::TxnRequest {
        success: (0..129)
            .map(|n| op(One::RequestPut(put(&n.to_string(), ""))))
            .collect(),
        ..Default::default()
    };
    refused(
        kv.txn(many).await,
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );
    let twice = pb::TxnRequest {
        success: vec![
            op(One::RequestPut(put("a", ""))),
            op(One::RequestPut(put("a", ""))),
        ],
        ..Default::default()
    };
    refused(
        kv.txn(twice).await,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    );
    for n in 0..4 {
        kv.put(put("c", &n.to_string())).await.expect("put");
    }
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: false,
    };
    kv.compact(compact(4)).await.expect("compacts");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(kv.compact(compact(4)).await, Code::OutOfRange, compacted);
    refused(kv.range(get("c", 3)).await, Code::OutOfRange, compacted);
    assert_eq!(
        kv.range(get("c", 4)).await.expect("at it").into_inner().kvs[0].value,
        "2"
    );
    refused(
        kv.compact(compact(99)).await,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
    let mut lease = LeaseClient::new(channel(&cluster).await);
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    lease.lease_grant(grant).await.expect("granted");
    refused(
        lease.lease_grant(grant).await,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    );
    let huge = pb::LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 0,
    };
    refused(
        lease.lease_grant(huge).await,
        Code::OutOfRange,
        "etcdserver: too large lease TTL",
    );
    let lost = pb::LeaseTimeToLiveRequest { id: 8, keys: true };
    assert_eq!(
        lease
            .lease_time_to_live(lost)
            .await
            .expect("answers")
            .into_inner()
            .ttl,
        -1
    );
    let renew = tokio_stream::once(pb::LeaseKeepAliveRequest { id: 8 });
    let mut answers = lease
        .lease_keep_alive(renew)
        .await
        .expect("opens")
        .into_inner();
    assert_eq!(
        answers.message().await.expect("answers").expect("one").ttl,
        0
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_who_asks_for_one_is_refused() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop_one(1).await;
    cluster.stop_one(2).await;
    let mut kv = KvClient::new(channel(&cluster).await);
    let asked = || {
        let mut request = Request::new(pb::RangeRequest {
            serializable: true,
            ..get("x", 0)
        });
        request
            .metadata_mut()
            .insert("hasleader", "true".parse().expect("value"));
        request
    };
    wait_until(LONG, async || kv.range(asked()).await.is_err()).await;
    refused(
        kv.range(asked()).await,
        Code::Unavailable,
        "etcdserver: no leader",
    );
    cluster.stop().await;
}

struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn open(cluster: &Cluster) -> Watching {
        let (requests, receiver) = mpsc::channel(8);
        let mut client = WatchClient::new(channel(cluster).await);
        let answers = client
            .watch(ReceiverStream::new(receiver))
            .await
            .expect("opens")
            .into_inner();
        Watching { requests, answers }
    }
    async fn ask(&self, union: RequestUnion) {
        let request = pb::WatchRequest {
            request_union: Some(union),
        };
        self.requests.send(request).await.expect("stream is open");
    }
    async fn create(&self, create: pb::WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(create)).await;
    }
    async fn next(&mut self) -> pb::WatchResponse {
        let answer = tokio::time::timeout(LONG, self.answers.message())
            .await
            .expect("in time");
        answer.expect("no error").expect("goes on")
    }
}

fn watch(key: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        start_revision,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_watch() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(channel(&cluster).await);
    for n in 0..5 {
        kv.put(put("k", &n.to_string())).await.expect("put");
    }
    let compaction = pb::CompactionRequest {
        revision: 4,
        physical: false,
    };
    kv.compact(compaction).await.expect("compacts");
    let mut stream = Watching::open(&cluster).await;

    stream.create(watch("k", -1)).await;
    let answer = stream.next().await;
    assert!(answer.created && answer.canceled && answer.watch_id == -1);

    stream.create(watch("k", 3)).await;
    let answer = stream.next().await;
    assert!(answer.created && !answer.canceled);
    let ended = stream.next().await;
    assert!(ended.canceled && ended.watch_id == answer.watch_id && ended.compact_revision == 4);

    let mut create = watch("k", 4);
    create.prev_kv = true;
    stream.create(create).await;
    let created = stream.next().await;
    assert!(created.created && created.events.is_empty());
    let mut events = Vec::new();
    while events.len() < 3 {
        let answer = stream.next().await;
        assert_eq!(answer.watch_id, created.watch_id);
        events.extend(answer.events);
    }
    let values: Vec<_> = events
        .iter()
        .map(|e| e.kv.clone().expect("kv").value)
        .collect();
    assert_eq!(values, ["2", "3", "4"]);
    assert!(events[0].prev_kv.is_none(), "what was before is compacted");
    assert_eq!(events[2].prev_kv.as_ref().expect("before").value, "3");

    stream
        .ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
        .await;
    let answer = stream.next().await;
    assert!(answer.events.is_empty() && answer.watch_id == -1);
    assert_eq!(answer.header.expect("header").revision, 6);

    let cancel = pb::WatchCancelRequest {
        watch_id: created.watch_id,
    };
    stream.ask(RequestUnion::CancelRequest(cancel)).await;
    let answer = stream.next().await;
    assert!(answer.canceled && answer.watch_id == created.watch_id);

    let mut late = watch("k", 8);
    late.watch_id = 42;
    late.filters = vec![pb::watch_create_request::FilterType::Nodelete as i32];
    stream.create(late).await;
    assert_eq!(stream.next().await.watch_id, 42);
    kv.put(put("k", "too early")).await.expect("put");
    kv.delete_range(pb::DeleteRangeRequest {
        key: "k".into(),
        ..Default::default()
    })
    .await
    .expect("delete");
    let reply = kv.put(put("k", "in time")).await.expect("put").into_inner();
    assert_eq!(reply.header.expect("header").revision, 9);
    let answer = stream.next().await;
    assert_eq!(
        answer.events.len(),
        1,
        "neither what came before nor what is filtered"
    );
    assert_eq!(answer.events[0].kv.as_ref().expect("kv").value, "in time");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revision_is_one_response() {
    let cluster = Cluster::start(1).await;
    let mut kv = KvClient::new(channel(&cluster).await);
    let mut stream = Watching::open(&cluster).await;
    stream
        .create(pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            ..Default::default()
        })
        .await;
    assert!(stream.next().await.created);
    let value = "x".repeat(11_000);
    let txn = pb::TxnRequest {
        success: (0..128)
            .map(|n| op(One::RequestPut(put(&format!("t/{n}"), &value))))
            .collect(),
        ..Default::default()
    };
    kv.txn(txn).await.expect("txn");
    let answer = stream.next().await;
    assert_eq!(answer.events.len(), 128);
    assert!(
        answer
            .events
            .iter()
            .all(|e| e.kv.as_ref().expect("kv").mod_revision == 2)
    );
    cluster.stop().await;
}
