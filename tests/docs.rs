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
        every_documented_key_exists,
        the_example_is_valid,
        every_command_is_documented,
        examples_are_what_is_written
    ]
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
