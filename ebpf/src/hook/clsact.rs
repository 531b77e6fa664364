//! Filters on the clsact queueing discipline (tc-bpf(8), direct action). A filter is found again by its
//! program's name. Naming its priority and handle in a new request makes the kernel exchange the program in
//! one step (`list_replace_rcu` in net/sched/cls_bpf.c), so no packet passes between two filters; taking one
//! off and putting another on would leave the port open for a round trip to the kernel.

mod dump;

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{SchedClassifier, TcAttachType};

use self::dump::Filter;
use super::{failed, name_of};
use crate::error::Error;

fn find(ifindex: u32, program: &str) -> Result<Option<Filter>, Error> {
    let filters = dump::ingress(ifindex).map_err(failed(ifindex, "listing filters"))?;
    Ok(filters.into_iter().find(|f| f.name == program))
}

pub(super) fn carried(ifindex: u32, program: &str) -> Result<Option<u32>, Error> {
    Ok(find(ifindex, program)?.map(|filter| filter.program))
}

pub(super) fn put(ifindex: u32, name: &str, program: &mut SchedClassifier) -> Result<(), Error> {
    let device = name_of(ifindex)?;
    let ingress = TcAttachType::Ingress;
    let id = if let Some(old) = find(ifindex, name)? {
        let old =
            SchedClassifierLink::attached(&device, ingress, old.priority, old.handle.into(), None)
                .map_err(failed(ifindex, "finding its filter"))?;
        program
            .attach_to_link(old)
            .map_err(failed(ifindex, "replacing the filter"))?
    } else {
        // It may be there already; the filter itself is what is checked.
        let _present = qdisc_add_clsact(&device);
        let options = TcAttachOptions::Netlink(NlOptions::default());
        program
            .attach_with_options(&device, ingress, options)
            .map_err(failed(ifindex, "attaching"))?
    };
    let link = program
        .take_link(id)
        .map_err(failed(ifindex, "taking the filter"))?;
    // Dropping it would take the filter off; it is to outlive this process.
    std::mem::forget(link);
    Ok(())
}

pub(super) fn take(ifindex: u32, program: &str) {
    if let Ok(device) = name_of(ifindex) {
        // No filter of that name is what we want.
        let _absent = qdisc_detach_program(&device, TcAttachType::Ingress, program);
    }
}
