//! The documents, held to the code: every key, command and exit code is documented, every documented key exists.

use std::{collections::BTreeSet, fs, process::Command};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{SourceFile, keys, parse},
    desired::{Facts, NETWORKD, desired},
};

use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        every_key_is_documented,
        every_key_names_its_test,
        the_example_is_valid,
        every_command_is_documented,
        examples_are_what_is_written,
        faults_are_in_debug_builds_alone,
    ]
}

/// The headings of docs/configuration.md, and whose keys the table below each has.
const SECTIONS: [(&str, &keys::Keys); 14] = [
    ("`[namespace.NAME]`", &keys::NAMESPACE),
    ("An entry of `rules`", &keys::RULE_ENTRY),
    ("`[namespace.NAME.interface.IF]`", &keys::INTERFACE),
    ("Pairs", &keys::INTERFACE),
    ("Bridge ports", &keys::INTERFACE),
    ("Links of the host", &keys::INTERFACE),
    ("Tunnels", &keys::INTERFACE),
    ("An entry of `peers`", &keys::PEER_ENTRY),
    ("An entry of `addresses`", &keys::ADDRESS_ENTRY),
    ("An entry of `gateways`", &keys::GATEWAY_ENTRY),
    ("An entry of `routes`", &keys::ROUTE_ENTRY),
    ("`[bridge.NAME]`", &keys::BRIDGE),
    ("An entry of `uplinks`", &keys::UPLINK_ENTRY),
    ("Which files", &keys::FRAGMENT),
];

fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The rows of docs/configuration.md that have a key: heading, keys, the other cells.
fn rows(text: &str) -> Vec<(&str, Vec<&str>, Vec<&str>)> {
    let mut heading = "";
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(new) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            heading = new;
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.trim_end_matches('|').split('|').map(str::trim);
            let keys = cells.next().unwrap().split(", ").map(|key| key.trim_matches('`')).collect();
            rows.push((heading, keys, cells.collect()));
        }
    }
    rows
}

/// Each kind of table has all of its keys below its headings, each once, and no others.
fn every_key_is_documented() {
    let text = document("docs/configuration.md");
    let rows = rows(&text);
    for (_, table) in SECTIONS {
        let is_its = |heading: &str| SECTIONS.iter().any(|(start, keys)| heading.starts_with(start) && std::ptr::eq(*keys, table));
        let mut written: Vec<&str> = rows.iter().filter(|(heading, ..)| is_its(heading)).flat_map(|(_, keys, _)| keys).copied().collect();
        // what holds tables has headings for them
        let is_value = |key: &&str| !matches!(*key, "interface" | "namespace" | "bridge") || !table.form(key).starts_with("tables");
        let mut known: Vec<&str> = table.known.iter().map(|(key, _)| *key).filter(is_value).collect();
        written.sort_unstable();
        known.sort_unstable();
        assert_eq!(written, known, "keys in docs/configuration.md and in the code");
    }
    let strange: Vec<_> = rows.iter().filter(|(heading, ..)| !SECTIONS.iter().any(|(start, _)| heading.starts_with(start))).collect();
    assert!(strange.is_empty(), "rows below headings that this test does not know: {strange:?}");
}

fn every_key_names_its_test() {
    let list = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    // host tests have the suite's name behind
    let trials: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).map(bare).collect();
    let text = document("docs/configuration.md");
    for (heading, keys, cells) in rows(&text) {
        let [_, _, tests] = cells[..] else { panic!("{keys:?} below {heading} has not four cells") };
        for test in tests.split(", ") {
            assert!(trials.contains(test.trim_matches('`')), "{keys:?} below {heading} names no test: {test:?}");
        }
        let in_kernel = |test: &str| ["config", "diff", "render"].iter().all(|pure| !test.starts_with(&format!("`{pure}::")));
        assert!(tests.split(", ").any(in_kernel), "{keys:?} below {heading} names no test that shows it at work");
    }
}

/// Takes the suite's name from a host test's.
fn bare(trial: &str) -> &str {
    ["::bookworm", "::trixie"].iter().find_map(|suite| trial.strip_suffix(suite)).unwrap_or(trial)
}

fn the_example_is_valid() {
    for name in ["docs/configuration.md", "docs/guides.md", "README.md"] {
        let text = document(name);
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{name} has no example");
        for block in blocks {
            let file = SourceFile { path: name.to_owned(), bytes: block.as_bytes().to_vec() };
            if let Err(faults) = parse(&[file]) {
                panic!("an example of {name} is wrong:\n{faults}");
            }
        }
    }
}

fn every_command_is_documented() {
    let help = Command::new(env!("CARGO_BIN_EXE_netns-networkd")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let text = document("docs/commands.md");
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        assert!(text.contains(&format!("| `{command}")), "docs/commands.md lacks {command}");
    }
    for code in 0..=4 {
        assert!(text.contains(&format!("\n| {code} | ")), "docs/commands.md lacks exit code {code}");
    }
}

/// The commented examples in networkd/ say what `sync` writes for this configuration, comments aside.
fn examples_are_what_is_written() {
    let text = r#"
[bridge.br-lan]
uplinks = ["eno1"]
addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]
gateways = ["192.0.2.1"]
dns = ["192.0.2.53"]
mac = "02:00:5e:00:00:02"
mtu = 1500
stp = false
[namespace.mail.interface.eth0]
bridge = "br-lan"
"#;
    let file = SourceFile { path: "a.toml".to_owned(), bytes: text.as_bytes().to_vec() };
    let state = desired(&parse(&[file]).unwrap(), &Facts::default()).unwrap();
    let settings =
        |text: &str| -> Vec<String> { text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect() };
    let written: Vec<_> = state.files.iter().filter(|(path, _)| path.starts_with(NETWORKD)).collect();
    assert_eq!(written.len(), 4);
    for (path, file) in written {
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = name.strip_prefix("10-netns-networkd-").unwrap().split('-').next().unwrap();
        let example = document(&format!("networkd/{kind}.{}.example", path.extension().unwrap().to_str().unwrap()));
        assert!(example.starts_with(&format!("# {name}:")), "{name}");
        assert_eq!(settings(&example), settings(&file.content), "{name}");
    }
}

/// What tests break calls with is in one file, which no build without debug assertions reads; `make test` lints such a build.
fn faults_are_in_debug_builds_alone() {
    let named =
        Command::new("grep").args(["-rlE", "NETNS_NETWORKD_FAULT|fault\\.rs", "src"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let mut named: Vec<_> = String::from_utf8(named.unwrap().stdout).unwrap().lines().map(str::to_owned).collect();
    named.sort();
    assert_eq!(named, ["src/sys/fault.rs", "src/sys/mod.rs", "src/sys/no_fault.rs"]);
    let choice = "#[cfg(debug_assertions)]\nmod fault;\n#[cfg(not(debug_assertions))]\n#[path = \"no_fault.rs\"]\nmod fault;\n";
    let rooms = document("src/sys/mod.rs");
    assert!(rooms.contains(choice) && rooms.matches("fault").count() == choice.matches("fault").count(), "{rooms}");
    let profiles = document("Cargo.toml");
    assert!(!profiles.contains("debug-assertions"), "{profiles}");
    let lint = "clippy --locked --target $(TUPLE) --config 'profile.dev.package.netns-networkd.debug-assertions=false' -- -D warnings";
    assert!(document("Makefile").contains(lint));
}
