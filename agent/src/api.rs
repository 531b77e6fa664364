//! The gRPC service.
mod fault;
//mod list;
mod peers;
mod resolve;
