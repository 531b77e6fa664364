//! What each kind of step refuses, and how it is told in the report.

use super::*;

fn messages(steps: &str) -> Vec<String> {
    mistakes(steps).into_iter().map(|found| found.1).collect()
}

#[test]
fn steps_that_name_nothing_or_two_things_are_mistakes() {
    let found = messages(
        "[[step]]\nrun = { command = [\"x\"] }\n[[step]]\nkill = { agent = \"n1\", node = \"n1\" }\n[[step]]\npause = {}\n[[step]]\nkill = { node = \"n1\", signal = \"TERM\" }\n[[step]]\nkill = { agent = \"n7\" }\n[[step]]\nstart = { node = \"n1\" }\n",
    );
    assert_eq!(
        found,
        [
            "run: one of `node` or `container` is expected",
            "kill: one of `agent`, `node` or `container` is expected",
            "pause: one of `agent`, `node` or `container` is expected",
            "kill: a node gets no signal, it ends with all that runs on it",
            "there is no node n7",
            "node n1 is no virtual machine with a disk",
        ]
    );
}

#[test]
fn a_wait_is_for_a_state_that_there_is_or_for_a_time_alone() {
    let found = messages(
        "[[step]]\nwait = { node = \"n1\", state = \"running\" }\n[[step]]\nwait = { time = \"1s\" }\nwithin = \"2s\"\n[[step]]\nwait = { time = \"1s\", node = \"n1\" }\n",
    );
    assert_eq!(
        found,
        [
            "wait: \"running\" is not a state of it",
            "wait: a plain time has no deadline",
            "wait: either a time or a state",
        ]
    );
}

#[test]
fn a_stream_begins_whole_and_once_and_is_judged_after_it_began() {
    let found = messages(
        "[[step]]\ntraffic = { name = \"s\", lost = 0 }\n[[step]]\ntraffic = { name = \"s\", from = \"red/a\", to = \"red/a\", traffic = \"tcp/80\", duration = \"1s\" }\n[[step]]\ntraffic = { name = \"s\", from = \"red/a\", lost = 0 }\n[[step]]\ntraffic = { name = \"s\" }\n",
    );
    assert_eq!(
        found,
        [
            "there is no stream s",
            "traffic: a stream is of datagrams",
            "traffic: `to` is missing",
            "traffic: `traffic` is missing",
            "traffic: `duration` is missing",
            "traffic: stream s begins twice",
            "traffic: `lost` does not belong here",
            "traffic: nothing to begin and nothing to judge",
        ]
    );
}

#[test]
fn mistakes_in_an_applied_file_have_its_own_lines_and_its_names_are_known_later() {
    let folder = tempfile::tempdir().unwrap();
    let steps = "[[step]]\napply = { file = \"more.toml\" }\n[[step]]\nrun = { container = \"red/late\", command = [\"x\"] }\n";
    let read = |more: &str| {
        std::fs::write(folder.path().join("more.toml"), more).unwrap();
        LabFile::parse("lab.toml", &format!("{HEAD}{steps}"), folder.path(), None)
    };
    let late =
        "[[container]]\nname = \"red/late\"\nnetworks = [\"red/front\"]\ncommand = [\"x\"]\n";
    let lab = read(late).unwrap();
    assert_eq!(lab.steps[0].kind.to_string(), "more.toml is applied");
    assert_eq!(lab.steps[1].kind.to_string(), "on red/late: x");
    let found = read(&late.replace("command", "comand")).unwrap_err();
    let own = found.iter().find(|d| d.source.name == "more.toml").unwrap();
    assert_eq!(own.line, 4, "{found:?}");
    let found = LabFile::parse(
        "lab.toml",
        &format!("{HEAD}{steps}"),
        Path::new("/no"),
        None,
    );
    let found = found.unwrap_err();
    assert!(found[0].message.contains("apply: the file cannot be read"));
}

#[test]
fn a_family_is_of_a_container_and_not_of_an_address() {
    let found = messages(
        "[[step]]\nreach = { from = \"red/a\", to = \"10.10.0.9\", traffic = \"icmp\", family = \"ipv6\" }\n[[step]]\nreach = { from = \"red/a\", to = \"red/a\", traffic = \"icmp\", family = \"ipv6\" }\n",
    );
    assert_eq!(found, ["step: 10.10.0.9 has its own family"]);
}
