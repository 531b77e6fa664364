//! The node: observe, plan, apply over store, overlay, ebpf, chain and runtime, and the one API of it.
//!
//! - `node`: what a node is made of, its registration and lease; `node::run` is `weft node run`.
//! - `mirror`: the store's documents as this node knows them, parsed once.
//! - `local`: what must survive the agent: the node's id, ports and addresses of its containers.
//! - `plan`: pure decisions `(documents, local state, observed, now) -> what to do`, one file a subject.
//! - `reconcile`: applies the plans and observes again; the only writer of the node.
//! - `api`: the gRPC service for the command line and for other agents; `client` is its other end.
//! - `model`: what should happen to a packet, from documents alone; tests hold compiler and programs to it.
//! - `trace`: joins observations of packets into ladders; pure. - `underlay`: what nodes found of their ways to each other,
//!   and what that means; pure. - `why`: what hinders a flow; pure.
//!
//! Never: detaches, deletes or renumbers anything because it lacks knowledge. A store that cannot be
//! reached, or is not fully read yet, freezes the node as it is.
#![forbid(unsafe_code)]

mod api;
pub mod client;
pub mod local;
pub mod mirror;
pub mod model;
pub mod node;
pub mod plan;
mod reconcile;
mod storage;
pub mod trace;
pub mod underlay;
pub mod why;

// What the binary needs of the parts that it runs; it names no other crate of the node.
pub use weft_chain as chain;
pub use weft_ebpf::features;
pub use weft_overlay as overlay;
pub use weft_runtime as runtime;
pub use weft_store as store;

/// The API as generated from `proto/weft.proto`.
#[allow(missing_docs, reason = "generated; documented in the proto file")]
pub mod proto {
    tonic::include_proto!("weft.v1");
}
