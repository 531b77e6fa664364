//! A machine's power is cut while it writes: what it flushed is there, and who did not flush is caught.
//! Needs `qemu-system-x86_64`, and `mkfs.ext4` of e2fsprogs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use weft_labs::disk;
use weft_labs::machine::{Kernel, Machine, Spec};

use crate::lab::{Lab, machine as machine_is_ours, text, unique, weft};
use crate::standstill;

/// The test's program, inside.
const WRITER: &str = "/usr/bin/disk-writer";
/// How a writer makes its records safe, and whether it may lose some that it told.
const WAYS: [(&str, bool); 3] = [("fsync", false), ("none", true), ("range", true)];
/// Records that each writer tells before the power is cut.
const TOLD: u64 = 20;
/// Power cuts, unless WEFT_POWER_CUTS says otherwise.
const ROUNDS: u64 = 3;

#[test]
fn what_was_flushed_survives_power_cuts_and_who_did_not_flush_is_caught() {
    let _ours = machine_is_ours();
    let folder = tempfile::tempdir().expect("a folder for the machine");
    let rounds = std::env::var("WEFT_POWER_CUTS").ok();
    let rounds = rounds.map_or(ROUNDS, |text| {
        text.parse().expect("WEFT_POWER_CUTS: a number")
    });
    let kernel = Kernel::find("auto", &|_| {}).unwrap_or_else(|e| panic!("{e}"));
    let mut spec = Spec::new("power", folder.path(), &weft(), kernel).expect("a machine");
    spec.disk = Some("disk".to_owned());
    let disk = folder.path().join("disk");
    disk::make(&disk, 64).unwrap_or_else(|e| panic!("{e}"));
    disk::start(&weft(), &spec.id, &disk).unwrap_or_else(|e| panic!("{e}"));
    let _ends = Ends(spec.id.clone());

    let mut guest = Machine::boot(&spec).unwrap_or_else(|e| panic!("{e}"));
    let mut lost = [0; WAYS.len()];
    let mut rounds_with_loss = [0; WAYS.len()];
    for round in 1..=rounds {
        let writer = Path::new(env!("CARGO_BIN_EXE_disk-writer"));
        guest
            .copy_in(writer, WRITER, 0o755)
            .unwrap_or_else(|e| panic!("{e}"));
        write_until_told(&guest, round);
        let cut = disk::cut(&disk, round).unwrap_or_else(|e| panic!("{e}"));
        println!("round {round}: {cut:?}");
        guest = guest.boot_again().unwrap_or_else(|e| panic!("{e}"));
        guest
            .copy_in(writer, WRITER, 0o755)
            .unwrap_or_else(|e| panic!("{e}"));
        for (index, (way, may_lose)) in WAYS.iter().enumerate() {
            let missing = missing(&guest, way, round);
            assert!(
                *may_lose || missing == 0,
                "round {round}: {way} lost {missing} records"
            );
            lost[index] += missing;
            rounds_with_loss[index] += u64::from(missing > 0);
        }
    }
    println!(
        "{rounds} power cuts: lost {lost:?}, rounds with loss {rounds_with_loss:?} of {WAYS:?}"
    );
    for (index, (way, may_lose)) in WAYS.iter().enumerate() {
        assert_eq!(
            *may_lose,
            lost[index] > 0,
            "{way} lost {} records",
            lost[index]
        );
    }
}

#[test]
fn a_node_comes_back_from_its_disk_with_all_that_its_store_acknowledged() {
    let ours = machine_is_ours();
    let folder = tempfile::tempdir().expect("a folder for the file");
    let file = folder.path().join("power.toml");
    let name = unique("power");
    std::fs::write(&file, include_str!("topologies/power.toml")).expect("write the file");
    let output = Command::new(weft())
        .args(["lab", "run", file.to_str().unwrap(), "--name", &name])
        .arg("--keep")
        .output()
        .expect("run weft");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("5 of 5 steps passed"), "{said}");
    assert!(
        said.contains("sectors that were not flushed (seed 5)"),
        "{said}"
    );
    its_disk_is_as_it_was_when_it_is_restored(&Lab::adopt(ours, name, folder));
}

/// Of the lab of `power.toml`, whose node keeps its store on its disk.
fn its_disk_is_as_it_was_when_it_is_restored(lab: &Lab) {
    eprintln!("{}", standstill::must(&["snapshot", &lab.name, "--json"]));
    let create = [
        "weft",
        "network",
        "create",
        "red/after",
        "--cidr",
        "10.30.0.0/16",
    ];
    lab.must("n1", &create);
    crate::machine::signal(standstill::holder(lab, "n1"), "KILL");
    eprintln!("{}", standstill::must(&["restore", &lab.name, "--json"]));
    // What memory knows of the disk is forgotten (proc_sys_vm(5), drop_caches), and the store read again from there.
    let three = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&three, "3").expect("write a file");
    let three = three.path().to_str().unwrap();
    for words in [
        ["cp", &lab.name, three, "n1:/proc/sys/vm/drop_caches"].as_slice(),
        &["kill", &lab.name, "n1"],
        &["start", &lab.name, "n1"],
    ] {
        let output = standstill::command(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
    }
    lab.wait_ready("n1", 1);
    let late = lab.must("n1", &["weft", "network", "show", "red/late"]);
    assert!(late.contains("10.20.0.0/16"), "{late}");
    let after = lab.exec("n1", &["weft", "network", "show", "red/after"]);
    assert!(text(&after).contains("red/after"), "{}", text(&after));
    assert_eq!(after.status.code(), Some(3), "{}", text(&after));
    lab.must("n1", &create);
}

/// One way after the other, until each has told enough; then the machine ends while the last one still writes. Who
/// flushes the drive does so for all, so whom the cut is to catch comes last.
fn write_until_told(guest: &Machine, round: u64) {
    for (way, _) in WAYS {
        let file = format!("/var/lib/weft/{way}");
        let mut child = guest
            .command(&[WRITER, "write", way, &file, &round.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a writer");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let told = lines.map_while(Result::ok).take(TOLD as usize).count() as u64;
        if way == WAYS[WAYS.len() - 1].0 {
            guest.kill().unwrap_or_else(|e| panic!("{e}"));
        }
        // Ends what it runs inside, too.
        child.kill().expect("end a client");
        let output = child.wait_with_output().expect("reap a client");
        let said = text(&output);
        assert_eq!(told, TOLD, "the writer {way} ended early: {said}");
    }
}

fn missing(guest: &Machine, way: &str, round: u64) -> u64 {
    let file = format!("/var/lib/weft/{way}");
    let output = guest
        .run(&[
            WRITER,
            "check",
            &file,
            &round.to_string(),
            &TOLD.to_string(),
        ])
        .expect("check");
    assert!(output.status.success(), "{}", text(&output));
    text(&output).trim().parse().expect("a number")
}

/// Ends the disk's process, which is bound to nobody.
struct Ends(String);

impl Drop for Ends {
    fn drop(&mut self) {
        for process in crate::machine::processes() {
            if process.args.contains(&self.0) {
                crate::machine::signal(process.pid, "KILL");
            }
        }
    }
}
