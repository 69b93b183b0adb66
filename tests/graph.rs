//! A report in, pictures out. Each folder under tests/cases/graph is a case: `report.toml` is a report in which all is well unless
//! it says so ([`fill`]), or, without one, the case takes the report of tests/cases/show that has its name.

use std::fs;

use libtest_mimic::Trial;
use netns_networkd::{config::is_hidden, graph, model::LinkName, report::Report, show::Paper};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::common::{Case, REPO, cases};
use crate::laws::law;
use crate::show::without_colors;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![names_are_never_markup, boxes_and_wires_keep_apart];
    trials.extend(cases("graph", draws));
    trials
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
    let draw = |paper: Paper| graph::text(&report, paper);
    case.expect("expected.txt", &draw(TERMINAL));
    case.expect("ascii.txt", &draw(Paper { unicode: false, ..TERMINAL }));
    case.expect("expected.svg", &graph::svg(&report));
    case.expect("expected.dot", &graph::dot(&report));
    case.expect("expected.mmd", &graph::mermaid(&report));
    if case.name == "commands" {
        let text = format!("```console\n# netns-networkd graph\n{}```\n", draw(TERMINAL));
        assert!(fs::read_to_string(format!("{REPO}/docs/commands.md")).unwrap().contains(&text), "not in docs/commands.md:\n{text}");
    }
    if case.name == "documented" {
        let docs = Case { name: "docs".to_owned(), dir: format!("{REPO}/docs").into() };
        docs.expect("graph.svg", &graph::svg(&report));
    }
    assert_eq!(without_colors(&draw(Paper { color: true, ..TERMINAL })), draw(TERMINAL), "colours change nothing else");
    assert_eq!(draw(Paper { width: None, ..TERMINAL }), draw(TERMINAL), "a pipe is like a terminal of 80 columns");
    for width in [1, 20, 39, 40, 41, 47, 60, 79, 81, 100, 133, 180] {
        let text = draw(Paper { width: Some(width), ..TERMINAL });
        let long: Vec<&str> = text.lines().filter(|line| line.width() > width.max(40)).collect();
        assert!(long.is_empty(), "over {width} columns: {long:#?}");
        assert!(!text.lines().any(|line| line.ends_with(' ')), "{text}");
    }
    all_are_whole(&report);
}

/// What others have named: all that the writers' languages give a meaning to, and more.
fn names_are_never_markup() {
    let fragments = select(vec![
        "<script>",
        "</svg>",
        "</table>",
        "<!--",
        "-->",
        "]]>",
        "<![CDATA[",
        "&amp;",
        "&#0;",
        "&",
        "\"",
        "'",
        "`",
        "\\",
        "\\\"",
        "\\N",
        "#quot;",
        "%%{init: {}}%%",
        "%%",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "|",
        "--",
        "---",
        "-.-",
        ";",
        "\n",
        "\r",
        "\t",
        "\0",
        "\x1b[31m",
        "\u{9b}",
        "\u{202e}",
        "\u{fffe}",
        "\u{ffff}",
        "subgraph",
        "end",
        "click",
        "日本",
        "e\u{301}",
        " ",
        "  ",
        "é",
        "😀",
    ]);
    let text =
        vec(prop_oneof![fragments.prop_map(ToOwned::to_owned), any::<char>().prop_map(String::from)], 1..12).prop_map(|all| all.concat());
    let report = read(&Case { name: "documented".to_owned(), dir: format!("{REPO}/tests/cases/graph/documented").into() });
    law(64, vec(text, 8), |texts| {
        let mut report = report.clone();
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        let netns = &mut report.namespaces[0];
        netns.description = Some(next());
        netns.interfaces[0].name = next();
        netns.interfaces[0].addresses[0].label = Some(next());
        netns.interfaces[0].kind = Some(next());
        // a wire without a host end has its interface's name
        (netns.interfaces[0].host_end, netns.interfaces[0].parent) = (None, Some(LinkName::parse("eno9").unwrap()));
        netns.units[0].name = next();
        report.bridges[0].ports[0].name = next();
        report.bridges[1].ports[0].parent = Some(next());
        report.warnings = vec![next()];
        all_are_whole(&report);
    });
}

/// Asserts that each picture is what it should be whatever is written in it, and that it is written in it.
#[track_caller]
fn all_are_whole(report: &Report) {
    let described = report.namespaces.first().and_then(|netns| netns.description.as_deref()).unwrap_or_default();
    // only the start of a long one is drawn; where lines are broken, spaces go
    let described: String =
        described.chars().take(100).map(|c| if is_hidden(c) || "\u{fffe}\u{ffff}".contains(c) { '\u{fffd}' } else { c }).collect();
    let described = squeezed(&described);

    let svg = graph::svg(report);
    let known = ["svg", "title", "desc", "style", "rect", "g", "path", "text", "tspan", "circle"];
    let (elements, texts) = parsed(&svg);
    assert!(elements.iter().all(|element| known.contains(&element.as_str())), "{elements:?}");
    assert!(squeezed(&texts).contains(&described), "{described} is not in {texts}");
    assert!(!svg.contains("href") && !svg.contains("@import") && !svg.contains("url("), "it needs nothing else");

    nothing_covers_anything(&svg);

    let dot = graph::dot(report);
    // Graphviz takes a backslash with a letter for something else
    assert!(!dot.replace("\\\\", "").contains('\\'), "{dot}");
    let dot = dot.replace("\\\\", "\\");
    let mut texts = String::new();
    for line in dot.lines() {
        let mut rest = line.to_owned();
        if let Some((before, label)) = line.split_once("label=<") {
            let label = label.strip_suffix(">]").unwrap_or_else(|| panic!("{line}"));
            let (elements, text) = parsed(&format!("<x>{label}</x>"));
            let known = ["x", "table", "tr", "td", "b", "font", "br"];
            assert!(elements.iter().all(|element| known.contains(&element.as_str())), "{line}");
            texts += &text;
            before.clone_into(&mut rest);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " \"_-=,#[]{}:.".contains(c);
        assert!(rest.chars().all(is_plain), "{line}");
    }
    assert!(squeezed(&texts).contains(&described), "{described} is not in {dot}");

    let chart = graph::mermaid(report);
    for line in chart.lines().skip(1).filter(|line| !line.starts_with("  classDef")) {
        let parts: Vec<&str> = line.split('"').collect();
        let marked = parts.get(1).unwrap_or(&"").replace("<br/>", "").replace("&nbsp;", "");
        let is_word = |c: char| c.is_alphanumeric() || " ./:-_@,()#;".contains(c);
        assert!(parts.len() % 2 == 1 && parts.len() <= 3 && marked.chars().all(is_word), "{line}");
    }
    assert!(!chart.contains("#27;") && !chart.contains("#8238;"), "{chart}");
    let hidden = |text: &str| text.chars().any(|c| c != '\n' && is_hidden(c));
    for drawn in [svg, dot, chart, graph::text(report, TERMINAL), graph::text(report, Paper { unicode: false, ..TERMINAL })] {
        assert!(!hidden(&drawn), "{drawn:?}");
    }
}

/// Asserts that boxes are apart, that wires lead around them, and that all is on the page.
#[track_caller]
fn nothing_covers_anything(svg: &str) {
    let document = roxmltree::Document::parse(svg).unwrap();
    let number = |node: &roxmltree::Node, name: &str| -> i32 { node.attribute(name).unwrap().parse().unwrap() };
    let (mut boxes, mut wires, mut joints) = (Vec::new(), Vec::new(), Vec::new());
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let class = node.attribute("class").unwrap_or_default();
        if class.starts_with("box ") {
            let (x, y) = (number(&node, "x"), number(&node, "y"));
            boxes.push((x, y, x + number(&node, "width"), y + number(&node, "height")));
        } else if class.starts_with("joint ") {
            joints.push((number(&node, "cx"), number(&node, "cy")));
        } else if class.starts_with("wire bus") || class == "wire broken" {
            let ends: Vec<i32> = node.attribute("d").unwrap()[1..].split([' ', 'L']).map(|n| n.parse().unwrap()).collect();
            wires.push((ends[0], ends[1], ends[2], ends[3]));
        }
    }
    let overlap = |a: &(i32, i32, i32, i32), b: &(i32, i32, i32, i32)| a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3;
    for (n, one) in boxes.iter().enumerate() {
        assert!(!boxes[n + 1..].iter().any(|other| overlap(one, other)), "boxes overlap: {svg}");
        // a wire ends at a border
        let inside = (one.0 + 1, one.1 + 1, one.2 - 1, one.3 - 1);
        let thick = |wire: &(i32, i32, i32, i32)| (wire.0, wire.1, wire.2 + 1, wire.3 + 1);
        assert!(!wires.iter().any(|wire| overlap(&inside, &thick(wire))), "a wire leads through a box: {svg}");
    }
    let begins = |(x, y): &(i32, i32)| wires.iter().any(|wire| wire.0 == *x && wire.2 == *x && wire.1 < *y && *y <= wire.3);
    assert!(joints.iter().all(begins), "a wire comes from nowhere: {svg}");
    let page = document.root_element();
    let (right, bottom) = (number(&page, "width") - 32, number(&page, "height") - 32);
    assert!(boxes.iter().all(|one| one.0 >= 0 && one.2 <= right && one.3 <= bottom), "not on the page: {svg}");
}

/// Any number of bridges, and namespaces that are on any of them.
fn boxes_and_wires_keep_apart() {
    let on = |bridges: usize| vec((0..bridges, 0_usize..4), 0..5);
    let hosts = (1_usize..7).prop_flat_map(move |bridges| (Just(bridges), vec(on(bridges), 0..14)));
    law(96, hosts, |(bridges, namespaces)| {
        let bridges: Vec<Value> =
            (0..bridges).map(|n| json!({"name": format!("br{n}"), "ports": [{"name": format!("eno{n}"), "role": "uplink"}]})).collect();
        let interface = |(n, (bridge, addresses)): (usize, &(usize, usize))| {
            let addresses: Vec<String> = (0..*addresses).map(|n| format!("2001:db8:{bridge}::{n}/64")).collect();
            json!({"name": format!("eth{n}"), "host_end": format!("p{n}"), "bridge": format!("br{bridge}"), "addresses": addresses})
        };
        let netns = |(n, interfaces): (usize, &Vec<(usize, usize)>)| json!({"name": format!("n{n}"), "interfaces": interfaces.iter().enumerate().map(interface).collect::<Vec<_>>()});
        let mut value = json!({"bridges": bridges, "namespaces": namespaces.iter().enumerate().map(netns).collect::<Vec<_>>()});
        fill(&mut value, "report", false);
        let report: Report = serde_json::from_value(value).unwrap();
        nothing_covers_anything(&graph::svg(&report));
        for width in [40, 80, 150] {
            let text = graph::text(&report, Paper { width: Some(width), ..TERMINAL });
            let ends = text.matches(['┤', '├']).count();
            assert!(text.lines().all(|line| line.width() <= width.max(48)), "{text}");
            assert!(ends >= namespaces.iter().flatten().count(), "a wire is missing: {text}");
        }
    });
}

/// The names of all elements, and all text.
#[track_caller]
fn parsed(xml: &str) -> (Vec<String>, String) {
    let document = roxmltree::Document::parse(xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
    let texts = document.descendants().filter(roxmltree::Node::is_text).filter_map(|node| node.text()).collect();
    (document.descendants().filter(roxmltree::Node::is_element).map(|node| node.tag_name().name().to_owned()).collect(), texts)
}

fn squeezed(text: &str) -> String {
    text.split([' ', '\n', '\u{a0}']).collect()
}
