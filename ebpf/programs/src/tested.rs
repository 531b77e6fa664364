//! Entries for tests: under `BPF_PROG_TEST_RUN` there is no tunnel, so its key is written and read by the packet's mark and
//! control words. The same code runs between.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{BPF_F_TUNINFO_IPV6, bpf_tunnel_key},
    helpers::generated::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
    macros::classifier,
    programs::TcContext,
};

/// From a tunnel whose VNI is the mark; the first control word is the outer IPv4 source, the second the outer traffic
/// class and, above its byte, the outer time to live.
#[classifier]
pub fn from_overlay_test(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: integers only; all zero is a valid value.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    // SAFETY: the context is the program's own.
    unsafe {
        key.tunnel_id = (*skb).mark;
        key.__bindgen_anon_3.local_ipv4 = (*skb).cb[0];
        key.__bindgen_anon_1.remote_ipv4 = (*skb).cb[0];
        key.tunnel_tos = (*skb).cb[1] as u8;
        key.tunnel_ttl = ((*skb).cb[1] >> 8) as u8;
        if bpf_skb_set_tunnel_key(skb, &mut key, size_of::<bpf_tunnel_key>() as u32, 0) != 0 {
            return -1;
        }
    }
    crate::overlay(skb)
}

/// Into a tunnel: the second control word becomes what the outer header is to say, as above, if the packet has a key then.
#[classifier]
pub fn from_container_test(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    let verdict = crate::container(ctx);
    let mut room = MaybeUninit::<bpf_tunnel_key>::uninit();
    let size = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: `room` is of this stack frame; the helper fills it or clears it. The context is the program's own.
    unsafe {
        let key = room.as_mut_ptr();
        if bpf_skb_get_tunnel_key(skb, key, size, 0) == 0
            || bpf_skb_get_tunnel_key(skb, key, size, BPF_F_TUNINFO_IPV6 as u64) == 0
        {
            (*skb).cb[1] = (*key).tunnel_tos as u32 | ((*key).tunnel_ttl as u32) << 8;
        }
    }
    verdict
}
