//! Programs of the distribution in machines: on the node, in a container of its root, and in a shell. Needs
//! `qemu-system-x86_64`, mkfs.ext4, and once the distribution's packages.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::lab::{Lab, text, weft};

const LAB: &str = r#"
[lab]
name = "packages"

[[node]]
name = "n1"
packages = ["busybox-static"]

[[network]]
name = "red/front"
cidr = "10.10.0.0/16"

[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]
"#;

#[test]
fn a_machine_has_the_programs_of_its_packages_and_they_a_shell() {
    let lab = Lab::up_on("qemu", LAB);
    let kernel = lab.must("n1", &["busybox", "uname", "-r"]);
    assert!(
        kernel.contains("cloud"),
        "the machine's, not ours: {kernel}"
    );
    let page = [
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1/hostname",
    ];
    assert_eq!(lab.must("red/a", &page).trim(), "a");

    for (target, name) in [("n1", "n1"), ("red/a", "a")] {
        let mut shell = Command::new(weft())
            .args(["lab", "shell", &lab.name, target])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start weft lab shell");
        let mut typed = shell.stdin.take().expect("its input");
        typed.write_all(b"hostname; exit 7\n").expect("it reads");
        drop(typed);
        let output = shell.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(7), "{target}: {}", text(&output));
        assert_eq!(text(&output).trim(), name, "{target}");
    }
    lab.down();
}
