//! The moment between a command's entry into a container and its exec: it then is a copy of the shim, and
//! nothing of the host may be reached through it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Place, container, wait_until};
use weft_runtime::Error;

/// Says what it can reach of each process that comes and goes beside it, once that is gone.
const WATCH: &str = "\
import os
print('up', flush=True)
seen, reached = set(), set()
while not (seen and not seen & set(os.listdir('/proc'))):
    for pid in os.listdir('/proc'):
        if not pid.isdigit() or pid == '1':
            continue
        seen.add(pid)
        for what, look in [('fds', lambda: os.listdir(f'/proc/{pid}/fd')),
                           ('memory', lambda: open(f'/proc/{pid}/mem', 'rb')),
                           ('root', lambda: os.readlink(f'/proc/{pid}/root')),
                           ('environment', lambda: open(f'/proc/{pid}/environ').read())]:
            try:
                look()
                reached.add(what)
            except OSError:
                pass
print('reached', sorted(reached), flush=True)
";

/// Makes the look-up of a command so long that the moment before its exec lasts for about a second.
fn slow_path() -> BTreeMap<String, String> {
    BTreeMap::from([("PATH".to_owned(), "/none:".repeat(100_000))])
}

/// The descriptors of a process that is in the container's namespaces beside `first`.
fn entered(place: &Place, first: u32) -> Option<Vec<String>> {
    let dir = place.cgroups().into_iter().next()?.join("c");
    let procs = fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    procs.lines().find_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
        if numbers.split_whitespace().count() < 2 || pid == first.to_string() {
            return None;
        }
        let mut fds = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()? {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            fds.push(target.to_str()?.split(':').next()?.to_owned());
        }
        fds.sort();
        Some(fds)
    })
}

#[test]
fn a_command_on_its_way_in_shows_nothing_of_the_host() {
    let place = Place::new();
    let mut watcher = container("c", &["python3", "-c", WATCH]);
    // The most that a container may have to look at its processes.
    watcher.capabilities = vec!["SYS_PTRACE".to_owned(), "DAC_OVERRIDE".to_owned()];
    place.runtime.create(&watcher).unwrap();
    place.runtime.start("c").unwrap();
    let first = place.runtime.list().unwrap()[0].pid;
    let log = || fs::read_to_string(place.runtime.logs_path("c")).unwrap();
    wait_until("the watcher is up", || log() == "up\n");

    let (over, mut most) = (AtomicBool::new(false), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let (command, env) = (["no-such".to_owned()], slow_path());
            let answer = runtime.block_on(place.runtime.exec("c", &command, &env));
            over.store(true, Ordering::Release);
            assert!(matches!(answer, Err(Error::Command { .. })));
        });
        while !over.load(Ordering::Acquire) {
            if let Some(fds) = entered(&place, first)
                && fds.len() > most.len()
            {
                most = fds;
            }
        }
    });
    // Its three streams, and the line on which it says why it cannot be executed.
    assert_eq!(most, ["pipe", "pipe", "pipe", "socket"]);
    wait_until("the watcher is done", || log().contains("reached"));
    assert_eq!(log(), "up\nreached []\n");
}
