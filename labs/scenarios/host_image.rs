//! A container of image `host` sees the machine's root, and none of its secrets.

use crate::lab::{Lab, PLAIN, text};

#[test]
fn a_container_reaches_no_socket_state_or_secret_of_the_machine() {
    let lab = Lab::up(PLAIN);
    // What a container can do at all, so that the refusals below mean something.
    lab.must(
        "red/a",
        &["sh", "-c", "test -r /etc/passwd && test -x /.weft"],
    );

    let shadow = lab.must("red/a", &["sh", "-c", "cat /etc/shadow | wc -c"]);
    assert_eq!(shadow.trim(), "0", "/etc/shadow is empty inside");
    let sockets = lab.must(
        "red/a",
        &["sh", "-c", "find /run /var/run -type s 2>/dev/null | wc -l"],
    );
    assert_eq!(sockets.trim(), "0", "no socket under /run");

    let state = lab.state("n1").to_string_lossy().into_owned();
    for path in [
        "/run/weft/weft.sock",
        "/run/weft",
        state.as_str(),
        "/var/lib/weft",
    ] {
        let output = lab.exec("red/a", &["ls", path]);
        assert!(
            !output.status.success(),
            "{path} is there: {}",
            text(&output)
        );
    }
    let output = lab.exec("red/a", &["touch", "/usr/made-by-a-container"]);
    assert!(!output.status.success(), "the root is read-only");
    let output = lab.exec("red/a", &["/.weft", "status"]);
    assert!(
        !output.status.success(),
        "no agent answers: {}",
        text(&output)
    );

    // How a command ends, or why it does not run, is told as a shell tells it.
    for (command, code) in [
        (&["sh", "-c", "exit 5"] as &[&str], 5),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-command"], 127),
        (&["/etc/passwd"], 126),
    ] {
        let output = lab.exec("red/a", command);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert_eq!(code == 126 || code == 127, text(&output).contains("help: "));
    }

    // Nor by way of another process's view of the file system, nor by a capability.
    let seen = lab.must("red/a", &["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]);
    assert!(
        seen.trim().parse::<u32>().is_ok_and(|n| n < 20),
        "only its own processes: {seen}"
    );
    let status = lab.must("red/a", &["cat", "/proc/self/status"]);
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    lab.down();
}
