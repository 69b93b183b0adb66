//! The documents, held to the code: every key, command and exit code is documented, every documented key exists.

use std::{collections::BTreeSet, fs, process::Command};

use libtest_mimic::Trial;
use netns_networkd::config::{SourceFile, keys, parse};

use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![every_key_is_documented, every_documented_key_exists, the_example_is_valid, every_command_is_documented]
}

const TABLES: [&keys::Keys; 7] = [
    &keys::NAMESPACE,
    &keys::INTERFACE,
    &keys::BRIDGE,
    &keys::ADDRESS_ENTRY,
    &keys::GATEWAY_ENTRY,
    &keys::ROUTE_ENTRY,
    &keys::UPLINK_ENTRY,
];

fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn keys_of_code() -> BTreeSet<&'static str> {
    TABLES.iter().flat_map(|table| table.known).map(|(key, _)| *key).filter(|key| *key != "interface").collect()
}

/// The words in backquotes in the first column of the tables.
fn keys_of_document(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split_once(" |"));
    rows.flat_map(|(first, _)| first.split(", ")).map(|key| key.trim_matches('`').to_owned()).collect()
}

fn every_key_is_documented() {
    let text = document("docs/configuration.md");
    let missing: Vec<_> = keys_of_code().into_iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    assert_eq!(missing, Vec::<&str>::new(), "keys that docs/configuration.md lacks");
}

fn every_documented_key_exists() {
    let known = keys_of_code();
    let unknown: Vec<_> =
        keys_of_document(&document("docs/configuration.md")).into_iter().filter(|key| !known.contains(key.as_str())).collect();
    assert_eq!(unknown, Vec::<String>::new(), "keys that only docs/configuration.md knows");
}

fn the_example_is_valid() {
    for name in ["docs/configuration.md", "README.md"] {
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
