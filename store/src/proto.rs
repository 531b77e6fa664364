//! Generated protocol code: etcd's client API and the members' own.

#![allow(missing_docs, reason = "generated; documented in the .proto files")]
#![allow(clippy::all, reason = "generated")]
#![allow(rust_2018_idioms, reason = "generated")]

/// Key-value records and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's v3 client API.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// What members say to each other.
pub(crate) mod weftpeer {
    tonic::include_proto!("weftpeer");
}
