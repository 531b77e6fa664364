//! Lab files: what is read, and what each mistake says and where.

use std::path::Path;
use std::time::Duration;

use super::*;

mod links;
mod schema;
mod steps;

const HEAD: &str = r#"[lab]
name = "small"
[[node]]
name = "n"
count = 2
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[container]]
name = "red/a"
node = "n1"
networks = ["red/front"]
command = ["x"]
"#;

fn read(text: &str) -> Result<LabFile, Vec<Diagnostic>> {
    LabFile::parse("lab.toml", text, Path::new("/nonexistent"), None)
}

fn mistakes(tail: &str) -> Vec<(usize, String, String)> {
    read(&format!("{HEAD}{tail}"))
        .expect_err("there are mistakes")
        .into_iter()
        .map(|d| {
            (
                d.line - HEAD.lines().count(),
                d.message,
                d.help.unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn a_lab_is_read_with_counted_nodes_links_and_steps() {
    let lab = read(&format!(
        "{HEAD}[[link]]\nbetween = [\"n1\", \"n2\"]\n[[step]]\nreach = {{ from = \"red/a\", to = \"10.10.0.9\", traffic = \"icmp\" }}\nwithin = \"500ms\"\n"
    ))
    .unwrap();
    let nodes: Vec<&str> = lab.nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(nodes, ["n1", "n2"]);
    assert_eq!(lab.links.len(), 1);
    assert_eq!(lab.steps[0].within, Duration::from_millis(500));
    assert_eq!(
        lab.steps[0].kind.to_string(),
        "red/a reaches 10.10.0.9 on icmp"
    );
}

#[test]
fn a_network_is_not_isolated_from_itself() {
    let found = mistakes("[[step]]\nisolated = [\"red/front\", \"red/front\"]\n");
    let messages: Vec<&str> = found.iter().map(|m| m.1.as_str()).collect();
    assert_eq!(messages, ["red/front cannot be isolated from itself"]);
}

#[test]
fn references_that_lead_nowhere_are_found_with_a_suggestion() {
    let found = mistakes(
        "[[step]]\nreach = { from = \"red/b\", to = \"red/a\", traffic = \"tcp/80\", via = [\"fw\"] }\n[[step]]\nisolated = [\"red/front\", \"red/frond\"]\n[[step]]\nrun = { node = \"n3\", command = [\"true\"] }\n[[step]]\nlink = { between = [\"n1\", \"n2\"], state = \"down\" }\n",
    );
    let messages: Vec<&str> = found.iter().map(|m| m.1.as_str()).collect();
    assert_eq!(
        messages,
        [
            "there is no container red/b",
            "there is no hop fw",
            "there is no network red/frond",
            "there is no node n3",
            "there is no link between n1 and n2",
        ]
    );
    assert_eq!(found[0].2, "did you mean red/a?");
    let lines: Vec<usize> = found.iter().map(|m| m.0).collect();
    assert_eq!(lines, [2, 2, 4, 6, 8]);
}

#[test]
fn bad_traffic_unknown_keys_and_two_kinds_in_one_step_are_mistakes() {
    let found = mistakes(
        "[[step]]\nreach = { from = \"red/a\", to = \"10.10.0.9\", traffic = \"tcp/0\" }\n[[step]]\nraech = 1\n[[step]]\nreach = { from = \"red/a\", to = \"10.10.0.9\", traffic = \"icmp\", by = \"fw\" }\nwithin = \"soon\"\n[[step]]\nisolated = [\"red/front\", \"red/front\"]\nlink = { between = [\"n1\", \"n2\"], state = \"up\" }\n",
    );
    let all = format!("{found:#?}");
    for words in [
        "not a port",
        "unknown key `raech`",
        "did you mean `reach`",
        "exactly one thing",
        "not a duration",
    ] {
        assert!(all.contains(words), "{words}: {all}");
    }
}

#[test]
fn another_backend_is_refused_with_its_place() {
    let text = HEAD.replace("name = \"small\"", "name = \"small\"\nbackend = \"xen\"");
    let found = read(&text).unwrap_err();
    assert_eq!((found[0].line, found[0].column), (3, 11));
    assert!(found[0].message.contains("there is no backend"));
    let found = LabFile::parse("lab.toml", HEAD, Path::new("."), Some("xen")).unwrap_err();
    assert_eq!(found[0].line, 2);
}

#[test]
fn only_a_machine_with_a_disk_loses_power_and_boots_again() {
    let steps = "[[step]]\nkill = { node = \"n1\", power = true }\n[[step]]\nstart = { node = \"n1\" }\n[[step]]\nkill = { agent = \"n1\", power = true }\n";
    let read =
        |text: &str, backend| LabFile::parse("lab.toml", text, Path::new("."), Some(backend));
    let without = format!("{HEAD}{steps}").replace("[\"x\"]", "[\"/.weft\"]");
    let with = without.replace("count = 2", "count = 2\ndisk = \"1G\"");
    for (text, backend, expected) in [
        (&without, "qemu", 3),
        (&with, "netns", 3),
        (&with, "qemu", 1),
    ] {
        let found = read(text, backend).unwrap_err();
        assert_eq!(found.len(), expected, "{backend}: {found:?}");
        let says = |d: &Diagnostic| d.message.contains("is no virtual machine with a disk");
        assert!(found.iter().all(says), "{found:?}");
    }
    let small = with.replace("1G", "1M");
    assert!(
        read(&small, "qemu").unwrap_err()[0]
            .message
            .contains("no size of a disk")
    );
}

#[test]
fn what_a_backend_cannot_do_is_refused_with_its_place() {
    let step = "[[step]]\nrun = { node = \"n1\", command = [\"ping\"] }\n";
    let text = format!("{HEAD}{step}").replace("count = 2", "count = 2\nmemory = \"1G\"");
    let found = LabFile::parse("lab.toml", &text, Path::new("."), Some("qemu")).unwrap_err();
    let places: Vec<(usize, usize)> = found.iter().map(|d| (d.line, d.column)).collect();
    assert_eq!(places, [(14, 12), (16, 33)]);
    assert!(found.iter().all(|d| d.message.contains("no program")));

    let text = text
        .replace("[\"x\"]", "[\"/.weft\"]")
        .replace("ping", "weft");
    let lab = LabFile::parse("lab.toml", &text, Path::new("."), Some("qemu")).unwrap();
    assert_eq!((lab.backend, lab.machines.len()), (Backend::Qemu, 2));
    assert_eq!(lab.machines[1].memory_mib, 1024);
    assert_eq!(lab.machines[1].kernel, "auto");

    let text = HEAD.replace(
        "count = 2",
        "count = 2\nkernel = \"/boot/vmlinuz\"\nmemory = \"4k\"",
    );
    let found = read(&text).unwrap_err();
    assert_eq!((found[0].line, found[0].column), (6, 10));
    assert!(found[0].message.contains("this machine's kernel"));
    assert_eq!((found[1].line, found[1].column), (7, 10));
}

#[test]
fn names_given_twice_and_containers_on_no_node_are_mistakes() {
    let found = mistakes(
        "[[node]]\nname = \"n1\"\n[[container]]\nname = \"red/b\"\nnode = \"n9\"\ncommand = [\"x\"]\n",
    );
    let messages: Vec<&str> = found.iter().map(|m| m.1.as_str()).collect();
    assert_eq!(messages, ["node n1 is there twice", "there is no node n9"]);
}

#[test]
fn a_file_without_a_lab_is_a_mistake_that_says_so() {
    let found = read("[[network]]\nname = \"red/front\"\ncidr = \"10.0.0.0/8\"\n").unwrap_err();
    assert!(found[0].message.contains("no [lab] table"));
}

#[test]
fn twelve_different_mistakes_are_twelve_errors_with_their_places_in_one_go() {
    let text = include_str!("tests/twelve.toml");
    // A relative folder, so that the messages name no machine's paths.
    let folder = Path::new("beside");
    let found = LabFile::parse("twelve.toml", text, folder, None).unwrap_err();
    let said: Vec<String> = found
        .iter()
        .map(|d| {
            let help = d.help.as_deref().unwrap_or_default();
            format!("{}:{}: {}\n    {help}\n", d.line, d.column, d.message)
        })
        .collect();
    assert_eq!(said.len(), 12, "{}", said.concat());
    assert_eq!(said.concat(), include_str!("tests/twelve.txt"));
}

#[test]
fn steps_are_chosen_by_number_or_by_words_of_their_title() {
    let steps = "[[step]]\nwait = { node = \"n1\" }\n[[step]]\nwait = { node = \"n2\" }\n[[step]]\nrun = { node = \"n1\", command = [\"ls\"] }\n";
    let chosen = |words: &[&str]| {
        let mut lab = read(&format!("{HEAD}{steps}")).unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        lab.keep_only(&words)
            .map(|()| lab.steps.iter().map(|step| step.number).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&[]).unwrap(), [1, 2, 3]);
    assert_eq!(chosen(&["2"]).unwrap(), [2]);
    assert_eq!(chosen(&["is ready", "3"]).unwrap(), [1, 2, 3]);
    assert_eq!(chosen(&["n1: ls"]).unwrap(), [3]);
    let error = chosen(&["1", "nothing"]).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("2 node n2 is ready"), "{error}");
}

#[test]
fn a_store_of_etcd_is_for_namespaces_and_refused_on_machines_with_its_place() {
    let text = HEAD.replace("name = \"small\"", "name = \"small\"\nstore = \"etcd\"");
    assert!(read(&text).unwrap().etcd);
    assert!(!read(HEAD).unwrap().etcd);
    let found = LabFile::parse("lab.toml", &text, Path::new("."), Some("qemu")).unwrap_err();
    let place = found.iter().find(|d| d.message.contains("no etcd"));
    assert_eq!(place.map(|d| (d.line, d.column)), Some((3, 9)), "{found:?}");
}

#[test]
fn packages_are_for_machines_and_with_them_programs_are() {
    let with = HEAD.replace("count = 2", "count = 2\npackages = [\"iproute2\", \"g++\"]");
    let read =
        |text: &str, backend| LabFile::parse("lab.toml", text, Path::new("."), Some(backend));
    let found = read(&with, "netns").unwrap_err();
    assert_eq!(
        (found.len(), found[0].line, found[0].column),
        (1, 6, 12),
        "{found:?}"
    );
    assert!(found[0].message.contains("this machine's own programs"));

    let lab = read(&with, "qemu").unwrap();
    assert_eq!(lab.machines[1].packages, ["g++", "iproute2"]);
    let without = read(HEAD, "qemu").unwrap_err();
    assert!(
        without[0].message.contains("without `packages`"),
        "{without:?}"
    );

    let bad = with.replace("iproute2", "usrmerge-").replace("g++", "-o");
    let found = read(&bad, "qemu").unwrap_err();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].line, found[0].column), (6, 13), "{found:?}");
}

#[test]
fn a_program_is_there_only_where_the_node_has_packages() {
    let two = "[[node]]\nname = \"m\"\npackages = [\"busybox-static\"]\n";
    let step = |node: &str| {
        format!("{HEAD}{two}[[step]]\nrun = {{ node = \"{node}\", command = [\"busybox\"] }}\n")
            .replace("[\"x\"]", "[\"/.weft\"]")
    };
    let read = |text: &str| LabFile::parse("lab.toml", text, Path::new("."), Some("qemu"));
    assert!(read(&step("m")).is_ok());
    assert_eq!(read(&step("n1")).unwrap_err().len(), 1);
    // One that may run anywhere would miss its program on n1.
    let anywhere = step("m")
        .replace("node = \"n1\"\n", "")
        .replace("[\"/.weft\"]", "[\"busybox\"]");
    assert_eq!(read(&anywhere).unwrap_err().len(), 1);
}
