//! Every netlink verb in network namespaces of its own, twice: the second time must change nothing.
//!
//! The namespaces are held by descriptors only, so they vanish with the test, however it ends.

mod container;
mod errors;
mod handles;
mod pairs;
mod planned;
mod properties;
mod support;
mod tunnels;
