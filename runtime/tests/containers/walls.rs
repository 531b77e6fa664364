//! What a container can see, touch and use: each wall is tried from inside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Place, alive, container, sh, wait_until};
use weft_overlay::documents::Resources;
use weft_runtime::{Runtime, State};

fn say(place: &Place, script: &str) -> String {
    let (code, log) = place.output(&sh("c", script));
    assert_eq!(code, 0, "{script}: {log}");
    log
}

#[test]
fn secrets_sockets_and_state_are_not_there() {
    let place = Place::new();
    assert_eq!(
        say(&place, "cat /etc/shadow /etc/gshadow | wc -c").trim(),
        "0"
    );
    let found = say(&place, "find /run /var /root /home /tmp -type s -o -type f");
    assert_eq!(found, "");
    let root = place.root.display();
    let inside = say(
        &place,
        &format!("ls {root}/secret {root}/state {root}/run; wc -c < {root}/secret-file"),
    );
    assert_eq!(inside.lines().last().unwrap().trim(), "0", "{inside}");
    assert!(
        !inside.contains("key") && !inside.contains("containers"),
        "{inside}"
    );
    let keys = say(&place, "cat /etc/ssh/ssh_host_*_key 2>/dev/null | wc -c");
    assert_eq!(keys.trim(), "0");
    let mounts = say(&place, "cut -d' ' -f5 /proc/self/mountinfo");
    assert!(
        !mounts.contains(&format!("{root}/run/")),
        "the stage is seen: {mounts}"
    );
    assert!(!mounts.contains("/sys/fs/"), "{mounts}");
}

#[test]
fn only_its_own_processes_and_identity() {
    let place = Place::new();
    assert_eq!(
        say(&place, "echo $$; hostname; cat /etc/hostname; id -u"),
        "1\nbox\nbox\n0\n"
    );
    assert_eq!(say(&place, "ls -d /proc/[0-9]* | head -1"), "/proc/1\n");
    assert!(say(&place, "ls /sys/class/net").trim() == "lo");
    assert_eq!(
        say(&place, "cat /sys/class/net/lo/flags").trim(),
        "0x9",
        "loopback is not up"
    );
}

#[test]
fn root_is_an_unprivileged_user_of_the_host() {
    let place = Place::new();
    let pid = place.started("c", &["sleep", "1000"]);
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let fields: Vec<u64> = map.split_whitespace().map(|f| f.parse().unwrap()).collect();
    assert!(
        fields[0] == 0 && fields[1] >= 1_000_000 && fields[2] == 65536,
        "{map}"
    );
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let user = format!("Uid:\t{0}\t{0}\t{0}\t{0}", fields[1]);
    assert!(status.contains(&user), "{status}");
    assert!(
        status.contains("CapEff:\t0000000000000000")
            && status.contains("CapBnd:\t0000000000000000"),
        "{status}"
    );
    assert!(
        status.contains("NoNewPrivs:\t1") && status.contains("Groups:\t \n"),
        "{status}"
    );
    assert!(place.runtime.list().unwrap()[0].user_namespace);
}

#[test]
fn the_root_cannot_be_written_and_its_own_folders_can() {
    let place = Place::new();
    let script = "for f in / /etc /usr /dev /.weft /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward; do \
                  if [ -d $f ]; then f=$f/new; fi; (echo x > $f) 2>/dev/null && echo wrote $f; done; \
                  for d in /run /var /var/tmp /root /home /tmp /dev/shm /run/lock; do echo x > $d/new || exit 1; done; \
                  echo x > /dev/null; echo to-stderr > /dev/stderr; mount -o remount,rw / 2>/dev/null && echo remounted; \
                  umount /proc 2>/dev/null && echo unmounted; true";
    assert_eq!(say(&place, script), "to-stderr\n");
    let outside: Vec<&str> = ["/new", "/etc/new", "/tmp/new", "/var/new"]
        .into_iter()
        .filter(|p| fs::exists(p).unwrap())
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[test]
fn covers_hold_in_a_namespace_of_the_containers_own() {
    let place = Place::new();
    // With all capabilities of a user namespace of its own, it still lifts no cover.
    let script = "import ctypes, os\n\
                  c = ctypes.CDLL(None, use_errno=True)\n\
                  assert c.unshare(0x10020000) == 0\n\
                  print([l for l in open('/proc/self/status') if l.startswith('CapEff')][0].split()[1] != '0' * 16)\n\
                  for p in ['/etc/shadow', '/proc', '/tmp', '/var', '/dev', '/sys', '/']:\n\
                  \x20 if c.umount2(p.encode(), 2) == 0: print('lifted', p)\n\
                  print(len(open('/etc/shadow').read()), len(os.listdir('/tmp')))";
    let (code, log) = place.output(&container("c", &["python3", "-c", script]));
    assert_eq!((code, log.as_str()), (0, "True\n0 0\n"));
}

#[test]
fn without_user_namespaces_the_walls_are_the_user_and_the_lack_of_powers() {
    let place = Place::new();
    let runtime = place.runtime.clone().without_user_namespaces();
    let script = "id -u; cat /etc/shadow | wc -c; cat /proc/self/uid_map; grep Cap /proc/self/status; cat /proc/sys/net/ipv4/ping_group_range; \
                  for f in /usr/new /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo x > $f) 2>/dev/null && echo wrote $f; done; \
                  touch /tmp/new && ls /tmp";
    runtime.create(&sh("c", script)).unwrap();
    runtime.start("c").unwrap();
    assert_eq!(runtime.wait_exit("c", Duration::from_secs(10)).unwrap(), 0);
    let log = fs::read_to_string(runtime.logs_path("c")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let user: u32 = lines[0].parse().unwrap();
    assert!(user >= 1_000_000 && lines[1] == "0", "{log}");
    assert!(
        lines[2].split_whitespace().eq(["0", "0", "4294967295"]),
        "{log}"
    );
    assert_eq!(log.matches("0000000000000000").count(), 5, "{log}");
    assert!(lines[8].split_whitespace().eq(["0", "2147483647"]), "{log}");
    assert_eq!(lines[9..], ["new"], "{log}");
    assert!(!runtime.list().unwrap()[0].user_namespace);
    let mut raw = container("raw", &["python3", "-c", PACKET]);
    for name in ["DAC_OVERRIDE", "SETUID", "SETGID"] {
        raw.capabilities = vec![name.to_owned()];
        assert!(
            matches!(
                runtime.create(&raw),
                Err(weft_runtime::Error::RefusedCapability { .. })
            ),
            "{name}"
        );
    }
    raw.capabilities = vec!["NET_RAW".to_owned()];
    runtime.create(&raw).unwrap();
    runtime.start("raw").unwrap();
    assert_eq!(
        runtime.wait_exit("raw", Duration::from_secs(10)).unwrap(),
        0
    );
}

/// With and without user namespaces alike: only what the machine shows to everybody.
#[tokio::test]
async fn private_files_of_the_machine_stay_private() {
    let mut place = Place::new();
    for (name, mode) in [("private", 0o600), ("group", 0o640), ("public", 0o644)] {
        let path = place.root.join(name);
        fs::write(&path, format!("{name}-key")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let folder = place.root.join("closed");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("inner"), "inner-key").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    // A program that makes anybody root, where the file system lets it.
    let lift = place.root.join("lift");
    fs::copy("/usr/bin/cat", &lift).unwrap();
    fs::set_permissions(&lift, fs::Permissions::from_mode(0o6755)).unwrap();
    let script = format!(
        "cd {}; cat private; cat group; cat closed/inner; ./lift private; cat /proc/1/root/{0}/private; cat public; \
         grep -v nosuid /proc/self/mountinfo; awk '/^Uid|^Gid|^Groups/ {{ print }}' /proc/self/status",
        place.root.display()
    );
    for id in ["with", "without"] {
        if id == "without" {
            place.runtime = place.runtime.clone().without_user_namespaces();
        }
        place.started(id, &["sleep", "1000"]);
        let beside = place.exec(id, &["/bin/sh", "-c", &script], "").await.1;
        let (_, first) = place.output(&sh(&format!("{id}-first"), &format!("({script}) 2>&-")));
        for said in [beside, first] {
            let (key, user) = said.split_once('\n').unwrap();
            assert!(key.starts_with("public-keyUid:"), "{id}: {said}");
            assert!(user.ends_with("Groups:\t \n"), "{id}: {said}");
            let root = key.split_whitespace().skip(1).all(|n| n == "0");
            assert_eq!(root, id == "with", "{id}: {said}");
        }
    }
}

/// What was asked for is there without a user namespace too, for process 1 and for commands beside it.
#[tokio::test]
async fn capabilities_are_kept_by_a_user_that_is_not_root() {
    let mut place = Place::new();
    place.runtime = place.runtime.clone().without_user_namespaces();
    let mut config = container("c", &["sleep", "1000"]);
    config.capabilities = vec!["NET_RAW".to_owned()];
    place.runtime.create(&config).unwrap();
    place.runtime.start("c").unwrap();
    for of in ["1", "self"] {
        let status = format!("/proc/{of}/status");
        let (_, said, _) = place.exec("c", &["grep", "Cap", &status], "").await;
        assert_eq!(said.matches("0000000000002000").count(), 5, "{of}: {said}");
    }
    assert_eq!(
        place.exec("c", &["python3", "-c", PACKET], "").await.1,
        "raw\n"
    );
    let write = "for d in /run /var /var/tmp /root /home /tmp /dev/shm; do echo x > $d/new || exit 1; done; echo x > /dev/stderr";
    let (code, _, err) = place.exec("c", &["/bin/sh", "-c", write], "").await;
    assert_eq!((code, err.as_str()), (0, "x\n"));
}

/// What a folder holds, with its modes; links are not followed.
fn modes(at: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let kind = fs::symlink_metadata(at).unwrap();
    found.push((at.to_owned(), kind.permissions().mode() & 0o7777));
    if kind.is_dir() {
        for entry in fs::read_dir(at).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn what_the_runtime_keeps_is_for_root_whatever_the_umask() {
    let mut place = Place::new();
    let shim = place.config.weft_exe.clone();
    for umask in ["000", "077"] {
        let exe = place.root.join(format!("shim-{umask}"));
        let text = format!("#!/bin/sh\numask {umask}\nexec {} \"$@\"\n", shim.display());
        fs::write(&exe, text).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        place.config.weft_exe = exe;
        place.config.state_dir = place.root.join(format!("deep/state-{umask}"));
        place.config.run_dir = place.root.join(format!("deep/run-{umask}"));
        place.runtime = Runtime::open(place.config.clone()).unwrap();
        let id = format!("c{umask}");
        place.started(&id, &["sleep", "1000"]);
        let mut found = Vec::new();
        modes(&place.root.join("deep"), &mut found);
        for name in [
            "log",
            "config.json",
            "state.json",
            "shim.pid",
            "shim.log",
            "shim.sock",
        ] {
            assert!(
                found.iter().any(|(p, _)| p.ends_with(name)),
                "{name}: {found:?}"
            );
        }
        found.retain(|(path, mode)| *mode != if path.is_dir() { 0o700 } else { 0o600 });
        assert!(found.is_empty(), "{found:?}");
        // And what the container sees is for its user to use.
        let script = "ls / /run /var /etc /dev/shm > /tmp/x && touch /run/lock/x && umask";
        let (code, said) = place.output(&sh(&format!("{id}-user"), script));
        assert_eq!((code, said.as_str()), (0, "0022\n"), "{umask}");
        for one in place.runtime.list().unwrap() {
            place.runtime.delete(&one.id).unwrap();
        }
    }
}

#[test]
fn weft_is_there_and_the_environment_is_small() {
    let place = Place::new();
    let (code, log) = place.output(&container("c", &["/.weft"]));
    assert_eq!((code, log.as_str()), (2, "usage: shim shim --dir DIR\n"));
    let mut config = container("c", &["env"]);
    config.env = BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]);
    let (_, log) = place.output(&config);
    let mut lines: Vec<&str> = log.lines().map(|l| l.split_once('=').unwrap().0).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["COLOUR", "HOME", "HOSTNAME", "PATH"], "{log}");
}

#[test]
fn nothing_of_the_shim_is_inherited() {
    let place = Place::new();
    // The fourth is the folder that `ls` reads.
    let (_, fds) = place.output(&container("c", &["ls", "/proc/self/fd"]));
    assert_eq!(fds, "0\n1\n2\n3\n");
    let (_, signals) = place.output(&container(
        "c",
        &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"],
    ));
    for line in signals.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // 32 and 33 are the C library's own, and it lets nobody change them.
        assert_eq!(mask & !(3 << 31), 0, "{line}");
    }
    let (_, limits) = place.output(&container("c", &["/bin/sh", "-c", "ulimit -Sn; ulimit -c"]));
    assert_eq!(limits, "1024\n0\n");
}

const PACKET: &str =
    "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3); print('raw')";

#[tokio::test]
async fn net_raw_is_there_when_asked_for_only() {
    let place = Place::new();
    let python = ["python3", "-c", PACKET];
    let (code, log) = place.output(&container("without", &python));
    assert!(
        code != 0 && log.contains("Operation not permitted"),
        "{log}"
    );
    let mut config = container("with", &["sleep", "1000"]);
    config.capabilities = vec!["NET_RAW".to_owned()];
    place.runtime.create(&config).unwrap();
    place.runtime.start("with").unwrap();
    assert_eq!(place.exec("with", &python, "").await.1, "raw\n");
    let (_, status, _) = place
        .exec("with", &["grep", "Cap", "/proc/self/status"], "")
        .await;
    assert_eq!(status.matches("0000000000002000").count(), 5, "{status}");
}

#[test]
fn any_group_may_ping() {
    let place = Place::new();
    let said = say(&place, "cat /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["0", "65535"]);
}

#[test]
fn limits_are_held_by_the_kernel() {
    let place = Place::new();
    let mut config = container("c", &["sleep", "1000"]);
    config.resources = Resources {
        cpus: Some(0.5),
        memory: Some(64 << 20),
        pids: Some(10),
    };
    place.runtime.create(&config).unwrap();
    place.runtime.start("c").unwrap();
    let read = |file: &str| {
        let found = place
            .cgroups()
            .into_iter()
            .map(|d| d.join("c").join(file))
            .find(|p| p.exists());
        found.map(|p| fs::read_to_string(p).unwrap().trim().to_owned())
    };
    let either = |a: &str, b: &str| read(a).or_else(|| read(b));
    assert_eq!(
        either("memory.max", "memory.limit_in_bytes").as_deref(),
        Some("67108864")
    );
    assert_eq!(read("pids.max").as_deref(), Some("10"));
    let cpu = either("cpu.max", "cpu.cfs_quota_us").unwrap();
    assert!(cpu.starts_with("50000"), "{cpu}");
    place.runtime.delete("c").unwrap();

    let mut bomb = sh(
        "c",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo all",
    );
    bomb.resources.pids = Some(8);
    let (_, log) = place.output(&bomb);
    assert!(log.to_lowercase().contains("fork"), "{log}");
    let mut hog = container("c", &["python3", "-c", "print(len(bytearray(200 << 20)))"]);
    hog.resources.memory = Some(64 << 20);
    assert_eq!(
        place.output(&hog).0,
        137,
        "the kernel did not stop it at its limit"
    );
}

#[test]
fn what_ignores_everything_dies_with_its_shim() {
    let place = Place::new();
    // It takes back its wish to be killed with the shim; the runtime ends it by its cgroup.
    let script = "import ctypes, signal, time\nctypes.CDLL(None).prctl(1, 0)\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(1000)";
    let pid = place.started("c", &["python3", "-c", script]);
    wait_until("it is up", || {
        fs::read(place.runtime.logs_path("c")).is_ok_and(|l| l == b"up\n")
    });
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(place.shim_pid("c")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    wait_until("the runtime sees it", || {
        place.state("c") == Some(State::Exited { code: 137 })
    });
    wait_until("it is gone", || !alive(pid));
    assert_eq!(
        place
            .runtime
            .wait_exit("c", Duration::from_secs(1))
            .unwrap(),
        137
    );
}
