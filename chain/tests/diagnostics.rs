//! Every mistake in a chain file is reported with its exact place, and all of them in one go.

use weft_chain::file::parse;
use weft_chain::policy::{Mode, OnFailure, Probe, Select};

const GOOD: &str = r#"format = 1
[chain]
name = "web-guard"
tenant = "red"
symmetric = true
[[match]]
from = { network = "front", labels = { role = "client" } }
to = { network = "red/front", labels = { role = "web" } }
traffic = ["tcp/80", "tcp/8000-8100", "icmp"]
[[hop]]
name = "firewall"
select = { role = "fw" }
mode = "inline"
interfaces = ["in0", "out0"]
on_failure = "bypass"
health = { tcp = 8080, interval = "100ms", failures = 3 }
[[hop]]
name = "ids"
select = { role = "ids" }
mode = "tap"
interfaces = ["mon0"]
"#;

/// `line:column message [label] (help)` of every mistake in `text`.
fn mistakes(text: &str) -> Vec<String> {
    let found = parse("web-guard.toml", text).expect_err("has mistakes");
    let line = |d: &weft_chain::Diagnostic| {
        let help = d.help.as_deref().unwrap_or("-");
        format!(
            "{}:{} {} [{}] ({help})",
            d.line, d.column, d.message, d.label
        )
    };
    found.iter().map(line).collect()
}

/// The mistakes of the good file with one text replaced.
fn with(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "{old}");
    mistakes(&GOOD.replacen(old, new, 1))
}

#[test]
fn the_design_example_is_read() {
    let file = parse("web-guard.toml", GOOD).expect("good");
    assert_eq!(file.chain.name.as_str(), "web-guard");
    assert!(file.chain.symmetric);
    assert_eq!(file.matches[0].traffic.len(), 3);
    assert!(matches!(&file.matches[0].to.select, Select::Labels(l) if l["role"] == "web"));
    assert_eq!(file.hops[0].on_failure, OnFailure::Bypass);
    let health = file.hops[0].health.as_ref().expect("health");
    assert_eq!(
        (health.probe.clone(), health.interval_ms),
        (Probe::Tcp(8080), 100)
    );
    assert_eq!(file.hops[1].mode, Mode::Tap);
    let text = serde_json::to_string(&file.policy).expect("json");
    let back: weft_chain::Policy = serde_json::from_str(&text).expect("json");
    assert_eq!(back, file.policy);
}

#[test]
fn each_mistake_has_its_place() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "symmetric = true",
            "symetric = true",
            "5:1 unknown key `symetric` in [chain] [unknown key] (did you mean `symmetric`?)",
        ),
        (
            "symmetric = true",
            "symmetric = \"yes\"",
            "5:13 `symmetric` is a string, not true or false [not true or false] (-)",
        ),
        (
            "format = 1",
            "format = 2",
            "1:10 unknown file format [not read by this version] (this weft reads format 1; a newer weft may read yours)",
        ),
        (
            "tenant = \"red\"",
            "tenant = \"Red\"",
            "4:10 tenant name \"Red\" is not valid: use 1 to 63 of a-z, 0-9 and '-', not first or last [not a valid tenant name] (use 1 to 63 of a-z, 0-9 and '-', not first or last)",
        ),
        (
            "\"tcp/80\", ",
            "\"tcp/http\", ",
            "9:12 \"tcp/http\" is not traffic: \"http\" is not a port, 1 to 65535 [not a valid traffic] (write it as tcp/80, udp/53, tcp/8000-8100, tcp, udp, icmp or any)",
        ),
        (
            "mode = \"inline\"",
            "mode = \"inlin\"",
            "13:8 unknown mode \"inlin\" [not inline, routed or tap] (did you mean \"inline\"?)",
        ),
        (
            "\"in0\", \"out0\"",
            "\"in0\"",
            "14:14 1 interfaces for a hop of mode inline [inline needs 2] (name the one where packets enter and the one where they leave: interfaces = [\"in0\", \"out0\"])",
        ),
        (
            "\"in0\", \"out0\"",
            "\"in0\", \"in0\"",
            "14:22 interface in0 is there twice [second time] (a hop's interfaces are different ones)",
        ),
        (
            "name = \"ids\"",
            "name = \"firewall\"",
            "18:8 hop \"firewall\" is there twice [second time] (give it another name)",
        ),
        (
            "on_failure = \"bypass\"",
            "on_failure = 3",
            "15:14 on_failure is a number, not a string [not a string] (-)",
        ),
        (
            "interval = \"100ms\"",
            "interval = \"fast\"",
            "16:35 \"fast\" is not an interval [not an interval] (write 100ms, 2s or 1m; 10ms to 1h)",
        ),
        (
            "\"red/front\"",
            "\"blue/front\"",
            "8:18 network blue/front is another tenant's: the chain is red's [another tenant] (a chain selects in networks of its own tenant only)",
        ),
        (
            "labels = { role = \"web\" }",
            "cidr = \"10.1.0.5/16\"",
            "8:38 10.1.0.5/16 has bits beyond its prefix [not a range's first address] (write 10.1.0.0/16)",
        ),
        (
            "labels = { role = \"web\" }",
            "cidr = \"10.1.0.0/16\", endpoint = \"a\"",
            "8:53 `to` selects by cidr and endpoint at once [one too many] (keep one of labels, cidr, endpoint and external)",
        ),
        (
            "select = { role = \"fw\" }",
            "select = { }",
            "12:10 `select` names no label [empty] (write { role = \"web\" })",
        ),
        (
            "tcp = 8080, interval",
            "tcp = 80800, interval",
            "16:18 port 80800 is not possible [not 1 to 65535] (-)",
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(with(old, new), [*expected], "{new}");
    }
}

#[test]
fn missing_parts_point_at_the_table() {
    assert_eq!(
        with("select = { role = \"fw\" }\n", ""),
        [
            "10:1 [[hop]] has no `select` [`select` is missing here] (add select = { role = \"fw\" })"
        ]
    );
    let found = mistakes("format = 1\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].starts_with("1:1 the file has no `chain`"),
        "{found:?}"
    );
    let found = with("[[hop]]\nname = \"firewall\"", "[hop]\nname = \"firewall\"");
    assert!(found[0].starts_with("17:"), "{found:?}");
}

#[test]
fn syntax_errors_have_a_place() {
    let found = mistakes("format = 1\n[chain\nname = \"x\"\n");
    assert!(found[0].starts_with("2:7 not TOML"), "{found:?}");
    let found = with("symmetric = true", "symmetric = true\nname = \"again\"");
    assert!(
        found[0].starts_with("6:1 not TOML: duplicate key"),
        "{found:?}"
    );
    assert!(found[0].ends_with("(keep one of the two)"), "{found:?}");
}

#[test]
fn all_mistakes_come_at_once_in_order() {
    let text = GOOD
        .replace("symmetric", "symetric")
        .replace("\"icmp\"", "\"imcp\"")
        .replace("\"tap\"", "\"tapp\"")
        .replace("select = { role = \"fw\" }", "selekt = { role = \"fw\" }");
    let found = mistakes(&text);
    let places: Vec<&str> = found.iter().filter_map(|m| m.split(' ').next()).collect();
    assert_eq!(
        places,
        ["5:1", "9:39", "10:1", "12:1", "20:8"],
        "{found:#?}"
    );
}

#[test]
fn a_report_prints_file_line_and_mark() {
    let found = parse("web-guard.toml", &GOOD.replace("symmetric", "symetric")).expect_err("bad");
    assert_eq!(
        found[0].to_string(),
        "web-guard.toml:5:1: unknown key `symetric` in [chain]"
    );
    let json = serde_json::to_string(&found).expect("json");
    let back: Vec<weft_chain::Diagnostic> = serde_json::from_str(&json).expect("json");
    let handler =
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    let mut out = String::new();
    handler.render_report(&mut out, &back[0]).expect("renders");
    assert!(out.contains("web-guard.toml:5:1"), "{out}");
    assert!(
        out.contains("unknown key") && out.contains("did you mean"),
        "{out}"
    );
}
