//! Site files: what is read, and what each mistake says and where.

use std::path::Path;

use super::*;

const CHAIN: &str = include_str!("../../topologies/web-guard.toml");

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// `line:column message` of each mistake.
fn mistakes(text: &str) -> Vec<String> {
    parse("site.toml", text, Path::new("/nonexistent"))
        .expect_err("there are mistakes")
        .iter()
        .map(|d| format!("{}:{} {}", d.line, d.column, d.message))
        .collect()
}

#[test]
fn a_site_is_read_with_its_chain_files_and_written_again() {
    let text = r#"
[[network]]
name = "red/front"
cidr = "10.10.0.0/16"
[[container]]
name = "red/a"
networks = ["red/front"]
command = ["sleep", "infinity"]
[[chain]]
file = "guard.toml"
"#;
    let dir = folder(&[("guard.toml", CHAIN)]);
    let site = parse("site.toml", text, dir.path()).unwrap();
    assert_eq!(site.networks.len(), 1);
    assert_eq!(site.containers[0].name.to_string(), "red/a");
    assert_eq!(site.chains[0].name, "red/web-guard");

    let files = site.to_files().unwrap();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    let again = folder(&files);
    let text = std::fs::read_to_string(again.path().join("site.toml")).unwrap();
    assert_eq!(parse("site.toml", &text, again.path()).unwrap(), site);
}

#[test]
fn all_mistakes_come_in_one_go_with_their_places() {
    let text = r#"[[network]]
name = "red/front"
cidr = "10.10.0.0/30"
[[network]]
name = "red/back"
cidr = "10.20.0.0/16"
colour = "red"
[[container]]
name = "red/a"
networks = ["red/fornt", { network = "red/front", adress = "10.10.0.7" }]
command = []
[[container]]
name = "red/a"
networks = ["blue/front"]
command = ["x"]
[[chain]]
file = "none.toml"
"#;
    let found = mistakes(text);
    let has = |place: &str, words: &str| {
        assert!(
            found
                .iter()
                .any(|m| m.starts_with(place) && m.contains(words)),
            "{place} {words}: {found:#?}"
        );
    };
    has("3:8 ", "too small");
    has("7:1 ", "unknown field `colour`");
    has("10:13 ", "there is no network red/fornt");
    has("10:51 ", "unknown field `adress`");
    has("11:11 ", "the command is empty");
    has("13:8 ", "there twice");
    has("14:13 ", "another tenant");
    has("17:8 ", "cannot be read");
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn a_typo_in_the_syntax_has_its_place() {
    let found = mistakes("[[network]]\nname = \"red/front\ncidr = \"10.0.0.0/8\"\n");
    assert!(found[0].starts_with("2:"), "{found:?}");
}

#[test]
fn a_lab_file_is_not_a_site() {
    let text = "[lab]\nname = \"x\"\n[[node]]\nname = \"n1\"\n";
    let found = parse("x.toml", text, Path::new(".")).unwrap_err();
    let help = found[0].help.clone().unwrap();
    assert!(help.contains("weft lab run x.toml"), "{help}");
}

#[test]
fn mistakes_of_a_chain_file_are_told_with_those_of_the_site() {
    let dir = folder(&[("bad.toml", "format = 1\n[chain\n")]);
    let found = parse("site.toml", "[[chain]]\nfile = \"bad.toml\"\n", dir.path()).unwrap_err();
    assert_eq!(found[0].source.name, "bad.toml");
    assert_eq!(found[0].line, 2);
}
