//! Packet events of this node, given to everyone who listens.
//!
//! One task reads the ring buffer (`pump`, spawned and ended by `node::run`). The kernel has one filter:
//! with one listener it is the listener's, with several it lets every packet through, and each listener
//! gets what its own filter takes. Without listeners tracing is off and costs nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use weft_chain::traffic::{ICMP, ICMPV6};
use weft_ebpf::EventReader;
use weft_ebpf_abi::{TRACE_FILTER_PORT_ANY, TRACE_FILTER_PROTO_ANY, TraceEvent, TraceFilter};

use super::shared::SharedDatapath;

/// Events a slow listener may be behind; more are lost to it, and counted.
const BACKLOG: usize = 8192;

#[derive(Debug)]
struct Listener {
    filter: TraceFilter,
    events: mpsc::Sender<TraceEvent>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    list: BTreeMap<u64, Listener>,
}

/// The listeners and the kernel's filter.
#[derive(Clone, Debug)]
pub struct Tracer {
    datapath: SharedDatapath,
    listeners: Arc<Mutex<Listeners>>,
}

/// One listener's end; dropping it ends its part in the filter.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    tracer: Tracer,
    /// The events.
    pub events: mpsc::Receiver<TraceEvent>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// Events that this listener missed so far.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.tracer.lock();
        listeners.list.remove(&self.id);
        if let Err(error) = self.tracer.set_filter(&listeners) {
            tracing::warn!(%error, "the trace filter could not be narrowed");
        }
    }
}

impl Tracer {
    /// A tracer without listeners; the filter that a killed agent left in the kernel is taken back.
    pub fn new(datapath: SharedDatapath) -> Result<Tracer, weft_ebpf::Error> {
        let tracer = Tracer {
            datapath,
            listeners: Arc::default(),
        };
        tracer.set_filter(&tracer.lock())?;
        Ok(tracer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_filter(&self, listeners: &Listeners) -> Result<(), weft_ebpf::Error> {
        self.datapath
            .lock()
            .set_trace_filter(combined(listeners.list.values().map(|l| &l.filter)))
    }

    /// Begins to listen; what follows is seen.
    pub fn listen(&self, filter: TraceFilter) -> Result<Subscription, weft_ebpf::Error> {
        let (sender, events) = mpsc::channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let mut listeners = self.lock();
        let id = listeners.next;
        listeners.next += 1;
        listeners.list.insert(
            id,
            Listener {
                filter,
                events: sender,
                lost: lost.clone(),
            },
        );
        if let Err(error) = self.set_filter(&listeners) {
            listeners.list.remove(&id);
            return Err(error);
        }
        drop(listeners);
        Ok(Subscription {
            id,
            tracer: self.clone(),
            events,
            lost,
        })
    }

    /// Hands out events until the reader ends or the task is aborted.
    pub async fn pump(self, mut reader: EventReader) {
        while let Ok(event) = reader.next().await {
            for listener in self.lock().list.values() {
                if matches(&listener.filter, &event) && listener.events.try_send(event).is_err() {
                    listener.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        tracing::error!(
            "packet events cannot be read any more; `weft trace` shows nothing of this node"
        );
    }
}

/// The narrowest filter that the kernel can have for all listeners.
fn combined<'a>(mut filters: impl Iterator<Item = &'a TraceFilter>) -> TraceFilter {
    let Some(first) = filters.next() else {
        return TraceFilter::default();
    };
    if filters.all(|f| f == first) {
        *first
    } else {
        TraceFilter {
            mode: 2,
            ..TraceFilter::default()
        }
    }
}

/// Whether a listener with `filter` wants `event`; the same rule as the programs'.
fn matches(filter: &TraceFilter, event: &TraceEvent) -> bool {
    let end = |want: &[u8; 16], is: &[u8; 16]| *want == [0; 16] || want == is;
    let ends = (end(&filter.a, &event.src) && end(&filter.b, &event.dst))
        || (end(&filter.a, &event.dst) && end(&filter.b, &event.src));
    let port = filter.port == TRACE_FILTER_PORT_ANY
        || filter.port == event.sport
        || filter.port == event.dport;
    // `icmp` is that of either family.
    let proto = filter.proto == TRACE_FILTER_PROTO_ANY
        || filter.proto == event.proto
        || (filter.proto == ICMP && event.proto == ICMPV6);
    match filter.mode {
        0 => false,
        1 => (filter.vni == 0 || filter.vni == event.vni) && ends && port && proto,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(port: u16) -> TraceFilter {
        TraceFilter {
            mode: 1,
            vni: 1,
            a: [1; 16],
            b: [2; 16],
            port,
            proto: 6,
            ..Default::default()
        }
    }

    #[test]
    fn a_filter_takes_both_directions_and_nothing_else() {
        let there = TraceEvent {
            vni: 1,
            src: [1; 16],
            dst: [2; 16],
            sport: 999,
            dport: 80,
            proto: 6,
            ..Default::default()
        };
        let back = TraceEvent {
            src: there.dst,
            dst: there.src,
            sport: 80,
            dport: 999,
            ..there
        };
        assert!(matches(&filter(80), &there) && matches(&filter(80), &back));
        assert!(!matches(&filter(81), &there));
        assert!(!matches(&filter(80), &TraceEvent { vni: 2, ..there }));
        assert!(!matches(
            &filter(80),
            &TraceEvent {
                src: [3; 16],
                ..there
            }
        ));
    }

    #[test]
    fn icmp_is_that_of_either_family() {
        let icmp = TraceFilter {
            proto: ICMP,
            ..filter(TRACE_FILTER_PORT_ANY)
        };
        let event = |proto| TraceEvent {
            vni: 1,
            src: [1; 16],
            dst: [2; 16],
            proto,
            ..Default::default()
        };
        assert!(matches(&icmp, &event(ICMP)) && matches(&icmp, &event(ICMPV6)));
        assert!(!matches(&icmp, &event(17)));
    }

    #[test]
    fn the_kernel_filter_is_as_narrow_as_the_listeners_allow() {
        assert_eq!(combined([].iter()).mode, 0);
        assert_eq!(combined([filter(80)].iter()), filter(80));
        assert_eq!(combined([filter(80), filter(81)].iter()).mode, 2);
    }
}
