//! What a program decides of a packet, asked of the kernel by `BPF_PROG_TEST_RUN`. For tests, here and of who
//! fills the tables: compiler and program together are compared with a model.
#![allow(clippy::expect_used, reason = "a test that cannot ask has failed")]

use std::time::Duration;

use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, TestRunResult};
use weft_ebpf_abi::Decision;

use crate::Datapath;
use crate::pods::P;
use crate::programs::in_object;

/// Bytes of `struct __sk_buff`, and where its second control word is.
const CONTEXT: usize = 192;
const OUTER: usize = 52;

/// `TCX_NEXT`, include/uapi/linux/bpf.h.
const PASSED: u32 = u32::MAX;

/// How a packet enters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// The interface; the kernel asks that it is one of this network namespace, so tests say the loopback's, 1.
    pub ifindex: u32,
    /// Of `from_overlay_test`: the VNI.
    pub mark: u32,
    /// Of `from_overlay_test`: the outer IPv4 source, host order.
    pub cb0: u32,
    /// Of `from_overlay_test`: the outer traffic class, and above its byte the outer time to live.
    pub outer: u32,
    /// Bytes of payload of each segment that it is to be sent as; 0 = it is sent whole.
    pub segment: u32,
}

impl Datapath {
    /// Runs the program `name` over a frame: its decision, and the frame as it leaves.
    ///
    /// # Panics
    /// The kernel does not run it, or it did not decide exactly once.
    pub fn judge(
        &mut self,
        name: &'static str,
        packet: &[u8],
        entry: Entry,
    ) -> (Decision, Vec<u8>) {
        let mut out = vec![0u8; packet.len() + 256];
        let result = self.run(name, packet, entry, (&mut out, &mut [0; CONTEXT]));
        out.truncate(result.data_size_out as usize);
        (self.decision(), out)
    }

    /// What `from_underlay` decides of a frame as the underlay has it, and the frame as it leaves; `None`: it goes on to the
    /// kernel as it is.
    ///
    /// # Panics
    /// As of `judge`; a frame that goes on was changed.
    pub fn short_way(&mut self, packet: &[u8], entry: Entry) -> Option<(Decision, Vec<u8>)> {
        let mut out = vec![0u8; packet.len() + 256];
        let room = (&mut out[..], &mut [0; CONTEXT]);
        let result = self.run("from_underlay", packet, entry, room);
        out.truncate(result.data_size_out as usize);
        if result.return_value == PASSED {
            assert_eq!(out, packet, "it goes on as it is");
            return None;
        }
        Some((self.decision(), out))
    }

    /// What the outer header of a frame is to say that a container sent and that goes to another node: traffic class, less
    /// its congestion bits, and time to live.
    ///
    /// # Panics
    /// As of `judge`.
    pub fn outer(&mut self, packet: &[u8], entry: Entry) -> [u8; 2] {
        let (mut out, mut context) = (vec![0u8; packet.len() + 256], [0; CONTEXT]);
        self.run(
            "from_container_test",
            packet,
            entry,
            (&mut out, &mut context),
        );
        self.decision();
        [context[OUTER], context[OUTER + 1]]
    }

    /// How long the program `name` takes for a frame, once, with what the clock itself takes.
    ///
    /// # Panics
    /// The kernel does not run it.
    pub fn time(&mut self, name: &'static str, packet: &[u8], entry: Entry) -> Duration {
        let mut out = vec![0u8; packet.len() + 256];
        self.run(name, packet, entry, (&mut out, &mut [0; CONTEXT]))
            .duration
    }

    fn run(
        &mut self,
        name: &'static str,
        packet: &[u8],
        entry: Entry,
        (out, context_out): (&mut [u8], &mut [u8; CONTEXT]),
    ) -> TestRunResult {
        // struct __sk_buff: mark is the third word, ifindex the eleventh, cb begins at the thirteenth; gso_segs
        // is at byte 164, gso_size at 176.
        let mut context = [0u8; CONTEXT];
        context[8..12].copy_from_slice(&entry.mark.to_ne_bytes());
        context[48..52].copy_from_slice(&entry.cb0.to_ne_bytes());
        context[OUTER..OUTER + 4].copy_from_slice(&entry.outer.to_ne_bytes());
        context[40..44].copy_from_slice(&entry.ifindex.to_ne_bytes());
        if entry.segment > 0 {
            let segments = (packet.len() as u32).div_ceil(entry.segment);
            context[164..168].copy_from_slice(&segments.to_ne_bytes());
            context[176..180].copy_from_slice(&entry.segment.to_ne_bytes());
        }
        let program: &mut SchedClassifier =
            in_object(&mut self.ebpf, name).expect("it is in the object");
        if program.fd().is_err() {
            program.load().expect("the verifier accepts it");
        }
        program
            .test_run(TestRunOptions {
                data_in: Some(packet),
                data_out: Some(out),
                ctx_in: Some(&context),
                ctx_out: Some(context_out),
                ..TestRunOptions::new()
            })
            .expect("the kernel runs it")
    }

    /// The one decision that any CPU wrote; then cleared.
    fn decision(&mut self) -> Decision {
        let map = self.map("decision").expect("in the object");
        let mut map: PerCpuArray<&mut MapData, P<Decision>> =
            PerCpuArray::try_from(map).expect("of this shape");
        let slots = map.get(&0, 0).expect("it has a slot");
        let found: Vec<Decision> = slots
            .iter()
            .map(|slot| slot.0)
            .filter(|decision| decision.action != 0)
            .collect();
        assert_eq!(found.len(), 1, "one decision a packet");
        let cleared = vec![P(Decision::default()); slots.len()];
        let cleared = cleared.try_into().expect("one value a CPU");
        map.set(0, cleared, 0).expect("it takes values");
        found[0]
    }
}
