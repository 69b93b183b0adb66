//! A report in, pictures out. Each folder under tests/cases/graph is a case: `report.toml` is a report in which all is well unless
//! it says so ([`fill`]), or, without one, the case takes the report of tests/cases/show that has its name.

use libtest_mimic::Trial;
use netns_networkd::{graph, report::Report, show::Paper};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::common::{Case, REPO, cases};

pub fn trials() -> Vec<Trial> {
    cases("graph", draws)
}

const TERMINAL: Paper = Paper { width: Some(80), color: false, unicode: true };

fn read(case: &Case) -> Report {
    if !case.path("report.toml").exists() {
        return serde_json::from_str(&case.read(&format!("../../show/{}/report.json", case.name))).unwrap();
    }
    let mut value: Value = toml::from_str(&case.read("report.toml")).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    fill(&mut value, "report", false);
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// Fills in what a report of a host has on which all is as it should be: up, or, in a namespace that is down, at rest.
///
/// A text where a table should be is its name or address, and `times = N` makes N of a table, with `{n}` in its texts.
fn fill(value: &mut Value, kind: &str, at_rest: bool) {
    let there = if at_rest { "absent" } else { "up" };
    let template = match kind {
        "report" => json!({
            "ok": true, "configuration": {"state": "valid"}, "networkd_running": true, "bridges": [], "namespaces": [], "drift": [],
            "pending": [], "orphans": [], "warnings": [], "not_seen": [],
        }),
        "bridges" => json!({"configured": true, "state": "up", "carrier": true, "mtu": 1500, "addresses": [], "ports": []}),
        "ports" => json!({"role": "namespace", "member": true, "state": "up", "carrier": true, "forwarding": true}),
        "namespaces" => json!({
            "configured": true, "state": "up", "changed_since_sync": false, "seen": true, "units": [], "interfaces": [], "routes": [],
            "rules": [],
        }),
        "units" if at_rest => json!({"bound": "configuration", "load_state": "loaded", "active_state": "inactive", "pids": []}),
        "units" => json!({
            "bound": "configuration", "load_state": "loaded", "active_state": "active", "sub_state": "running", "pids": [],
        }),
        "interfaces" => json!({
            "configured": true, "kind": "veth", "state": there, "carrier": !at_rest, "dhcp": false, "addresses": [], "routes": [],
        }),
        "host_end" => json!({"state": there, "forwarding": true, "addresses": []}),
        "addresses" => json!({
            "state": if at_rest { "absent" } else { "usable" }, "origin": "configuration", "deprecated": false,
        }),
        "drift" => json!({"kind": "netns", "object": "", "left_alone": false}),
        _ => return,
    };
    if let Value::String(text) = value {
        *value = json!({ if kind == "addresses" { "address" } else { "name" }: text });
    }
    let Value::Object(object) = value else { panic!("{kind}: {value}") };
    let at_rest = at_rest || kind == "namespaces" && object.get("state").is_some_and(|state| state != "up");
    for (key, inner) in template.as_object().unwrap() {
        object.entry(key).or_insert_with(|| inner.clone());
    }
    for (key, inner) in object.iter_mut() {
        match inner {
            Value::Array(list) => {
                *list = list.iter().flat_map(times).collect();
                list.iter_mut().for_each(|inner| fill(inner, key, at_rest));
            }
            inner if key == "host_end" => fill(inner, key, at_rest),
            _ => {}
        }
    }
}

fn times(value: &Value) -> Vec<Value> {
    let number = |n: u64| serde_json::from_str(&value.to_string().replace("{n}", &format!("{n:02}"))).unwrap();
    let Some(times) = value.get("times").and_then(Value::as_u64) else { return vec![value.clone()] };
    (1..=times).map(number).collect()
}

fn draws(case: &Case) {
    let report = read(case);
    let text = graph::text(&report, TERMINAL);
    case.expect("expected.txt", &text);
    case.expect("ascii.txt", &graph::text(&report, Paper { unicode: false, ..TERMINAL }));
    case.expect("expected.svg", &graph::svg(&report));
    case.expect("expected.dot", &graph::dot(&report));
    case.expect("expected.mmd", &graph::mermaid(&report));
    if case.name == "documented" {
        let docs = Case { name: "docs".to_owned(), dir: format!("{REPO}/docs").into() };
        docs.expect("graph.svg", &graph::svg(&report));
    }
    for width in 40..200 {
        let text = graph::text(&report, Paper { width: Some(width), ..TERMINAL });
        let long: Vec<&str> = text.lines().filter(|line| line.width() > width).collect();
        assert!(long.is_empty(), "over {width} columns: {long:#?}");
    }
}
