//! Flow memory: each port's own. A port without one is as if nothing were remembered, which is counted.

use weft_ebpf_abi::{Flow, FlowKey};

use crate::maps;

/// Where the flow went before, seen at `port`; the full steering id.
#[inline(always)]
pub fn get(port: u32, key: &FlowKey) -> Option<u32> {
    // SAFETY: the outer hash is not preallocated, and the kernel frees a memory only after every program
    // that may have found it has ended.
    let flows = unsafe { maps::FLOWS.get(&port) }?;
    // SAFETY: read at once, before anything is inserted.
    unsafe { flows.get(key) }.map(|flow| flow.steer)
}

#[inline(always)]
pub fn put(port: u32, key: &FlowKey, flow: &Flow) {
    // SAFETY: as above.
    if let Some(flows) = unsafe { maps::FLOWS.get(&port) } {
        if flows.insert(key, flow, 0).is_ok() {
            return;
        }
    }
    if let Some(stats) = maps::PORT_STATS.get_ptr_mut(port) {
        // SAFETY: a per-CPU slot.
        unsafe { (*stats).unremembered += 1 };
    }
}
