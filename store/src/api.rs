//! The gRPC services that clients see: translate requests, check them, call the member.

/// etcd's message for a member that knows no leader: the request was not taken.
pub(crate) const NO_LEADER: &str = "etcdserver: no leader";
/// etcd's message for a read below the compact revision.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// etcd's message for a lease that is not there.
pub(crate) const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
