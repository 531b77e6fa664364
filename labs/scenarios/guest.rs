//! A virtual machine by itself: commands with their streams, files, and its end. Needs `qemu-system-x86_64`.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use weft_labs::machine::{Kernel, Machine, Spec};

use crate::lab::{machine as machine_is_ours, text, wait_until, weft};
use crate::machine;

/// More than a session may have on its way at once.
const LARGE: usize = 3 << 20;

#[test]
fn commands_and_files_go_in_and_out_and_nothing_outlives_the_keeper() {
    let _ours = machine_is_ours();
    let folder = tempfile::tempdir().expect("a folder for the machine");
    let kernel = Kernel::find("auto", &|_| {}).unwrap_or_else(|e| panic!("{e}"));
    let spec = Spec::new("guest", folder.path(), &weft(), kernel).expect("a machine");
    let guest = Machine::boot(&spec).unwrap_or_else(|e| panic!("{e}"));

    let output = guest.run(&["weft", "no-such-word"]).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let output = guest.run(&["no-such-program"]).unwrap();
    assert_eq!(output.status.code(), Some(127), "{}", text(&output));

    // A program of this machine finds the same libraries inside.
    let cat = std::fs::canonicalize("/bin/cat").expect("cat");
    guest
        .copy_in(&cat, "/opt/cat", 0o755)
        .unwrap_or_else(|e| panic!("{e}"));
    let bytes: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
    let mut child = guest
        .command(&["/opt/cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a command inside");
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().unwrap().expect("all was taken");
    assert!(output.stdout == bytes, "what went in came out again");

    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::write(&there, &bytes).unwrap();
    guest
        .copy_in(&there, "/opt/deep/file", 0o600)
        .unwrap_or_else(|e| panic!("{e}"));
    guest
        .copy_out("/opt/deep/file", &back)
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(
        std::fs::read(&back).unwrap() == bytes,
        "the file came back as it was"
    );

    // A client that is killed takes its command along, and nobody else is held up by one that reads nothing.
    let mut deaf = guest
        .command(&["/opt/cat", "/dev/zero"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = guest.run(&["/opt/cat", "/proc/uptime"]).unwrap();
    assert!(output.status.success(), "{}", text(&output));
    deaf.kill().unwrap();
    deaf.wait().unwrap();

    let of_the_machine = || {
        let all = machine::processes().into_iter();
        all.filter(|process| process.args.contains(&spec.id))
            .collect::<Vec<_>>()
    };
    let keeper = of_the_machine()
        .into_iter()
        .find(|process| process.args.iter().any(|arg| arg == "keep"))
        .expect("the keeper");
    assert_eq!(of_the_machine().len(), 2, "the keeper and QEMU");
    machine::signal(keeper.pid, "KILL");
    wait_until("QEMU ends with its keeper", Duration::from_secs(5), || {
        of_the_machine().is_empty().then_some(())
    });
}
