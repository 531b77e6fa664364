//! The abi's structs as aya's plain data. A transparent wrapper, since neither trait nor types are ours.

use weft_ebpf_abi as abi;

/// Any bit pattern is valid, and there are no implicit padding bytes.
///
/// # Safety
/// Only for `repr(C)` structs of integers with explicit padding, and integers.
pub(crate) unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: repr(C), integers only, explicit padding; the abi crate asserts the sizes.
            unsafe impl Plain for $type {}
        )*
    };
}

plain!(
    u32,
    u64,
    abi::NodeConfig,
    abi::Port,
    abi::EndpointKey,
    abi::Endpoint,
    abi::Network,
    abi::SubnetKey,
    abi::Subnet,
    abi::Node,
    abi::VtepKey,
    abi::ClassKey,
    abi::ClassCidrKey,
    abi::PairKey,
    abi::Rules,
    abi::Stage,
    abi::SlotKey,
    abi::Position,
    abi::FlowKey,
    abi::Flow,
    abi::PortStats,
    abi::TraceEvent,
    abi::TraceFilter,
    abi::Decision,
    abi::DropKey,
    abi::Arrival,
);

/// A plain struct for aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct P<T>(pub(crate) T);

// SAFETY: transparent over a type that is plain.
unsafe impl<T: Plain> aya::Pod for P<T> {}

/// Its bytes, to compare values of types that need no `PartialEq` for it.
pub(crate) fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: plain data without implicit padding, read for its own size.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A value from bytes that the kernel wrote.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: any bit pattern is valid, the length was checked, the read is unaligned.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
