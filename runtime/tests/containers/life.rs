//! A container's life: made, started, asked, stopped, deleted; and what is left when a part of it is killed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Place, alive, container, sh, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_runtime::{Error, Runtime, State};

#[test]
fn created_started_exited_with_code_and_log() {
    let place = Place::new();
    let created = place
        .runtime
        .create(&sh("c", "echo out; echo err >&2; exit 7"))
        .unwrap();
    assert!(alive(created.pid));
    assert_eq!(place.state("c"), Some(State::Created));
    assert!(fs::metadata(format!("/proc/{}/ns/net", created.pid)).is_ok());
    place.runtime.start("c").unwrap();
    assert_eq!(
        place
            .runtime
            .wait_exit("c", Duration::from_secs(10))
            .unwrap(),
        7
    );
    assert_eq!(place.state("c"), Some(State::Exited { code: 7 }));
    assert_eq!(
        fs::read_to_string(place.runtime.logs_path("c")).unwrap(),
        "out\nerr\n"
    );
    assert!(matches!(
        place.runtime.start("c"),
        Err(Error::WrongState { .. })
    ));
    place.runtime.signal("c", Signal::SIGTERM).unwrap();
    place.runtime.delete("c").unwrap();
    assert_eq!(place.state("c"), None);
    assert!(matches!(
        place.runtime.start("c"),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn refusals_are_typed_and_leave_nothing() {
    let place = Place::new();
    let mut other = container("c", &["true"]);
    other.image = "oci:/srv/web".to_owned();
    assert!(matches!(
        place.runtime.create(&other),
        Err(Error::Image { .. })
    ));
    let mut mighty = container("c", &["true"]);
    mighty.capabilities = vec!["SYS_ADMIN".to_owned()];
    assert!(matches!(
        place.runtime.create(&mighty),
        Err(Error::RefusedCapability { .. })
    ));
    assert!(place.runtime.list().unwrap().is_empty());
    place.runtime.create(&container("c", &["true"])).unwrap();
    assert!(matches!(
        place.runtime.create(&container("c", &["true"])),
        Err(Error::Exists { .. })
    ));
    assert_eq!(place.state("c"), Some(State::Created));
}

#[test]
fn a_command_that_is_not_there_fails_the_start() {
    let place = Place::new();
    place
        .runtime
        .create(&container("c", &["no-such-command"]))
        .unwrap();
    let error = place.runtime.start("c").unwrap_err();
    assert!(
        matches!(&error, Error::Command { cause, exit: 127, .. } if cause.contains("not found")),
        "{error}"
    );
    wait_until("it has exited", || {
        place.state("c") == Some(State::Exited { code: 127 })
    });
    place
        .runtime
        .create(&container("d", &["/etc/passwd"]))
        .unwrap();
    let error = place.runtime.start("d").unwrap_err();
    assert!(error.to_string().contains("Permission denied"), "{error}");
    wait_until("it has exited", || {
        place.state("d") == Some(State::Exited { code: 126 })
    });
}

#[test]
fn stop_asks_first_and_kills_after_the_grace() {
    let place = Place::new();
    place.started(
        "polite",
        &[
            "/bin/sh",
            "-c",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done",
        ],
    );
    wait_until("it is up", || {
        fs::read(place.runtime.logs_path("polite")).is_ok_and(|l| l == b"up\n")
    });
    assert_eq!(
        place
            .runtime
            .stop("polite", Duration::from_secs(10))
            .unwrap(),
        3
    );
    // Process 1 without a handler gets no TERM.
    place.started("deaf", &["sleep", "1000"]);
    let begin = Instant::now();
    assert_eq!(
        place
            .runtime
            .stop("deaf", Duration::from_millis(200))
            .unwrap(),
        137
    );
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn exec_has_streams_codes_and_the_containers_world() {
    let place = Place::new();
    place.started("c", &["sleep", "1000"]);
    let (code, out, err) = place
        .exec(
            "c",
            &["/bin/sh", "-c", "cat; echo err >&2; hostname; exit 5"],
            "in\n",
        )
        .await;
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (5, "in\nbox\n", "err\n")
    );
    let (_, ps, _) = place
        .exec(
            "c",
            &[
                "/bin/sh",
                "-c",
                "cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l",
            ],
            "",
        )
        .await;
    assert_eq!(ps.lines().next(), Some("sleep"));
    assert!(
        ps.lines().nth(1).unwrap().trim().parse::<u32>().unwrap() <= 5,
        "host processes are seen: {ps}"
    );
    let (_, status, _) = place.exec("c", &["cat", "/proc/self/status"], "").await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000")),
            "{set}: {status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1"));
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let (_, inside, _) = place.exec("c", &["readlink", &link], "").await;
        let first = place
            .exec("c", &["readlink", &format!("/proc/1/ns/{kind}")], "")
            .await
            .1;
        assert_eq!(inside, first, "{kind}");
        assert_ne!(
            inside.trim(),
            fs::read_link(&link).unwrap().to_str().unwrap(),
            "{kind}"
        );
    }
    let (_, cgroup, _) = place
        .exec("c", &["cat", "/proc/self/cgroup", "/proc/1/cgroup"], "")
        .await;
    assert!(!cgroup.contains(&place.config.cgroup_parent), "{cgroup}");
    for (command, code) in [
        ("no-such-command", 127),
        ("/no/such", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
    ] {
        let line = [command.to_owned()];
        let refused = place.runtime.exec("c", &line, &BTreeMap::new()).await;
        assert!(
            matches!(&refused, Err(Error::Command { exit, .. }) if *exit == code),
            "{command}: {:?}",
            refused.err()
        );
    }
    place
        .runtime
        .create(&container("waiting", &["true"]))
        .unwrap();
    let early = place
        .runtime
        .exec("waiting", &["true".to_owned()], &BTreeMap::new())
        .await;
    assert!(matches!(early, Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn a_dropped_exec_ends_its_command() {
    let place = Place::new();
    place.started("c", &["sleep", "1000"]);
    let command = ["/bin/sh", "-c", "echo up; exec sleep 777"].map(str::to_owned);
    let mut handle = place
        .runtime
        .exec("c", &command, &BTreeMap::new())
        .await
        .unwrap();
    let mut two = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut handle.stdout, &mut two)
        .await
        .unwrap();
    drop(handle);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, running, _) = place
            .exec(
                "c",
                &["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"],
                "",
            )
            .await;
        if !running.contains("777") {
            break;
        }
        assert!(Instant::now() < deadline, "still there: {running}");
    }
}

#[tokio::test]
async fn a_new_runtime_finds_what_runs() {
    let place = Place::new();
    let pid = place.started("c", &["sleep", "1000"]);
    place.runtime.create(&sh("ended", "exit 4")).unwrap();
    let place_config = place.config.clone();
    place.runtime.start("ended").unwrap();
    let again = Runtime::open(place_config).unwrap();
    assert_eq!(
        again.wait_exit("ended", Duration::from_secs(10)).unwrap(),
        4
    );
    let list = again.list().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].pid, list[0].state), (pid, State::Running));
    assert_eq!(list[1].state, State::Exited { code: 4 });
    let handle = again
        .exec("c", &["true".to_owned()], &BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(handle.exit.await.unwrap(), 0);
}

#[test]
fn a_killed_shim_leaves_no_process_and_is_told() {
    let place = Place::new();
    let pid = place.started("c", &["/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    let shim = place.shim_pid("c");
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    wait_until("process 1 is gone", || !alive(pid));
    assert_eq!(place.state("c"), Some(State::Exited { code: 137 }));
    assert_eq!(
        place
            .runtime
            .wait_exit("c", Duration::from_secs(1))
            .unwrap(),
        137
    );
    place.runtime.delete("c").unwrap();
    assert!(place.cgroups().is_empty(), "{:?}", place.cgroups());
    assert_eq!(place.state("c"), None);
}

#[test]
fn delete_leaves_no_process_mount_or_cgroup() {
    let place = Place::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    for id in ["running", "created", "exited"] {
        place
            .runtime
            .create(&container(
                id,
                if id == "exited" {
                    &["true"]
                } else {
                    &["sleep", "1000"]
                },
            ))
            .unwrap();
    }
    place.runtime.start("running").unwrap();
    place.runtime.start("exited").unwrap();
    place
        .runtime
        .wait_exit("exited", Duration::from_secs(10))
        .unwrap();
    assert_eq!(mounts(), before, "a container's mounts are seen outside");
    let mut pids: Vec<u32> = place
        .runtime
        .list()
        .unwrap()
        .iter()
        .filter(|o| o.id != "exited")
        .map(|o| o.pid)
        .collect();
    for id in ["running", "created", "exited"] {
        pids.push(place.shim_pid(id).unsigned_abs());
    }
    assert!(!place.cgroups().is_empty());
    for id in ["running", "created", "exited"] {
        place.runtime.delete(id).unwrap();
    }
    wait_until("all processes are gone", || {
        !pids.iter().any(|pid| alive(*pid))
    });
    assert!(place.cgroups().is_empty(), "{:?}", place.cgroups());
    assert_eq!(mounts(), before);
    for dir in [&place.config.run_dir, &place.config.state_dir] {
        assert_eq!(fs::read_dir(dir.join("containers")).unwrap().count(), 0);
    }
}

#[test]
fn a_kept_log_goes_on_in_the_next_life() {
    let place = Place::new();
    for _ in 0..2 {
        place.runtime.create(&sh("c", "echo life")).unwrap();
        place.runtime.start("c").unwrap();
        place
            .runtime
            .wait_exit("c", Duration::from_secs(10))
            .unwrap();
        place.runtime.delete_keeping_log("c").unwrap();
    }
    assert_eq!(
        fs::read_to_string(place.runtime.logs_path("c")).unwrap(),
        "life\nlife\n"
    );
}

#[test]
fn twenty_at_once() {
    let place = Place::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let runtime = place.runtime.clone();
            scope.spawn(move || {
                let id = format!("c{n}");
                runtime.create(&sh(&id, &format!("exit {n}"))).unwrap();
                runtime.start(&id).unwrap();
                assert_eq!(runtime.wait_exit(&id, Duration::from_secs(30)).unwrap(), n);
                runtime.delete(&id).unwrap();
            });
        }
    });
    println!(
        "20 containers from creation to deletion: {:?}",
        begin.elapsed()
    );
    assert!(place.cgroups().is_empty());
}

#[test]
fn names_of_full_length_work() {
    let place = Place::new();
    let id = format!("{}.{}", "t".repeat(63), "c".repeat(63));
    place.started(&id, &["sleep", "1000"]);
    assert_eq!(place.state(&id), Some(State::Running));
}

#[test]
fn a_start_is_quick() {
    let place = Place::new();
    let mut times: Vec<Duration> = (0..20)
        .map(|n| {
            let config = container(&format!("c{n}"), &["true"]);
            let begin = Instant::now();
            place.runtime.create(&config).unwrap();
            place.runtime.start(&config.id).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "create and start: median {:?}, worst {:?}",
        times[10], times[19]
    );
    // The goal is 20 ms on an idle machine; tests run beside each other.
    assert!(times[10] < Duration::from_millis(500), "{times:?}");
}
