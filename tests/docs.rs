//! The documents, held to the code: every key, command and exit code is documented, every documented key exists.

use std::{collections::BTreeSet, fs, process::Command};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{SourceFile, keys, parse},
    desired::{Facts, NETWORKD, desired},
    doctor::CHECKS,
};

use crate::{common::schema, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        every_key_is_documented,
        every_key_names_its_test,
        promises_name_their_tests,
        every_key_has_an_example,
        the_example_is_valid,
        every_command_is_documented,
        man_pages_are_made_from_the_documents,
        examples_are_what_is_written,
        every_json_field_is_described,
        every_check_is_documented,
        faults_are_in_debug_builds_alone,
        crates_are_those_of_the_list,
        unsafe_is_argued,
        releases_are_those_that_are_tested,
    ]
}

#[path = "../docs/man.rs"]
mod man;

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

pub fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The rows of docs/configuration.md that have a key: heading, keys, the other cells.
pub fn rows(text: &str) -> Vec<(&str, Vec<&str>, Vec<&str>)> {
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

fn man_pages_are_made_from_the_documents() {
    for (name, text) in man::pages(env!("CARGO_MANIFEST_DIR")) {
        let there = document(&format!("docs/man/{name}"));
        assert!(there == text, "docs/man/{name} is old: run `make man`\n{}", crate::common::diff(&there, &text));
        // what troff would complain of; a word longer than a line is none of it
        let output = crate::common::run("", &["man", "--warnings=all", "-l", "-Tutf8", "-Z", &format!("docs/man/{name}")]);
        let faults = output.stderr.lines().filter(|line| !line.ends_with("can't break line")).count();
        assert!(output.code == 0 && faults == 0, "{output}");
    }
}

/// The names of all trials, without the suite's that host tests have behind.
fn trial_names() -> BTreeSet<String> {
    let list = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(|name| bare(name).to_owned()).collect()
}

/// What is promised, of running hosts and of security, is held by tests that are there.
fn promises_name_their_tests() {
    let (trials, reference, promises) = (trial_names(), document("docs/configuration.md"), document("docs/promises.md"));
    let security = document("docs/security.md");
    let live = reference.split("\n## What changes live\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for (text, at_least) in [(live, 6), (promises.as_str(), 30), (security.as_str(), 20)] {
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| test |")).collect();
        assert!(rows.len() >= at_least, "{rows:?}");
        for row in rows {
            let mut named = row.split('`').filter(|word| word.contains("::")).peekable();
            assert!(named.peek().is_some(), "no test: {row}");
            named.for_each(|name| assert!(trials.contains(name), "no such test: {name}"));
        }
    }
    for document_ in ["docs/package.md", "docs/crates.md"] {
        let text = document(document_);
        let named = text.split('`').filter(|word| word.contains("::") && !word.contains("rustix::"));
        named.for_each(|name| assert!(trials.contains(name), "{document_} names no test: {name}"));
    }
}

fn every_key_names_its_test() {
    let trials = trial_names();
    let text = document("docs/configuration.md");
    for (heading, keys, cells) in rows(&text) {
        let [_, _, tests] = cells[..] else { panic!("{keys:?} below {heading} has not four cells") };
        for test in tests.split(", ") {
            assert!(trials.contains(test.trim_matches('`')), "{keys:?} below {heading} names no test: {test:?}");
        }
        let is_booted = |test: &str| test.starts_with("`host_") || test.starts_with("`vm_");
        assert!(tests.split(", ").any(is_booted), "{keys:?} below {heading} names no test on a booted system");
    }
}

/// The kind of table that the keys below a heading are of: `namespace`, `interface`, `bridge`, or the array that has such entries.
pub fn table_of(heading: &str) -> &str {
    match heading {
        "`[namespace.NAME]`" => "namespace",
        "`[bridge.NAME]`" => "bridge",
        _ => heading.strip_prefix("An entry of `").map_or("interface", |list| list.trim_end_matches('`')),
    }
}

/// In the reference itself, where one looks for it.
fn every_key_has_an_example() {
    let text = document("docs/configuration.md");
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for block in blocks(&text) {
        keys_in("", &block.parse().unwrap(), &mut shown);
    }
    let keys =
        rows(&text).into_iter().flat_map(|(heading, keys, _)| keys.into_iter().map(move |key| format!("{}.{key}", table_of(heading))));
    let without: Vec<String> = keys.filter(|key| !shown.contains(key)).collect();
    assert!(without.is_empty(), "no example in docs/configuration.md has {without:?}");
}

/// Lists the keys of a table and of those in it, as `rules.from`. `kind` says which it is: tables of tables are named in them.
fn keys_in(kind: &str, table: &toml::Table, shown: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(named) if ["namespace", "bridge", "interface"].contains(&key.as_str()) => {
                named.values().filter_map(toml::Value::as_table).for_each(|table| keys_in(key, table, shown));
            }
            value => {
                shown.insert(format!("{kind}.{key}"));
                // its entries may have another name than it has
                let entry = key.strip_prefix("loopback-").unwrap_or(key);
                value.as_array().into_iter().flatten().filter_map(toml::Value::as_table).for_each(|table| keys_in(entry, table, shown));
            }
        }
    }
}

fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// Takes the suite's name from a host test's.
fn bare(trial: &str) -> &str {
    ["::bookworm", "::trixie", "::sid"].iter().find_map(|suite| trial.strip_suffix(suite)).unwrap_or(trial)
}

fn the_example_is_valid() {
    for name in ["docs/configuration.md", "docs/guides.md", "README.md"] {
        let text = document(name);
        assert!(blocks(&text).next().is_some(), "{name} has no example");
        for block in blocks(&text) {
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

/// Whoever reads a schema finds what each field means, and a word of each command in docs/commands.md finds its schema.
fn every_json_field_is_described() {
    let text = document("docs/commands.md");
    for name in ["status", "list", "doctor", "check", "sync", "import", "error"] {
        schema::walk(&schema::schema(name), "$", &mut |path, schema| {
            for (field, inner) in schema.get("properties").and_then(|p| p.as_object()).into_iter().flatten() {
                assert!(inner.get("description").is_some(), "docs/schema/{name}.json: {path}.{field} has no description");
            }
        });
        assert!(text.contains(&format!("schema/{name}.json")), "docs/commands.md does not name schema/{name}.json");
    }
}

/// Each check of `doctor` has its row in the reference and one by symptom, which has words that it says.
fn every_check_is_documented() {
    let (reference, symptoms) = (document("docs/commands.md"), document("docs/troubleshooting.md"));
    let said = |check: &str| -> String {
        let folders = fs::read_dir(format!("{}/tests/cases/doctor", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let folders = folders.map(|entry| entry.unwrap().path()).filter(|path| path.file_stem().unwrap().to_str() == Some(check));
        folders.map(|path| fs::read_to_string(path.join("expected.txt")).unwrap()).collect()
    };
    let words = |row: &str| {
        row.split(" | ")
            .nth(1)
            .and_then(|cell| cell.strip_prefix('`')?.split_once("`: "))
            .map(|(check, words)| (check.to_owned(), words.to_owned()))
    };
    let rows: Vec<(String, String)> = symptoms.lines().filter_map(words).collect();
    for (check, _) in CHECKS {
        assert!(reference.contains(&format!("\n| `{check}` | ")), "docs/commands.md has no row of {check}");
        assert!(rows.iter().any(|(of, _)| of == check), "docs/troubleshooting.md has no row of {check}");
    }
    for (check, words) in rows {
        // in this order, with something between them
        let said = said(&check);
        let in_one_line =
            |line: &str| words.split('…').try_fold(line, |rest, part| rest.split_once(part.trim()).map(|(_, rest)| rest)).is_some();
        assert!(said.lines().any(in_one_line), "docs/troubleshooting.md has words that {check} does not say: {words}\n{said}");
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

/// No crate comes into the binary without a word in docs/crates.md, none under a licence or from a place that deny.toml does not allow.
fn crates_are_those_of_the_list() {
    let list =
        crate::common::run("", &["env", &format!("CARGO={}", env!("CARGO")), concat!(env!("CARGO_MANIFEST_DIR"), "/deb/crates")]).ok();
    let mut linked = BTreeSet::new();
    let rules: toml::Table = document("deny.toml").parse().unwrap();
    let strings = |table: &str, key: &str| -> BTreeSet<String> {
        rules[table][key].as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let allowed = strings("licenses", "allow");
    for line in list.stdout.lines() {
        let [name, _, licence] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // of these expressions each part of an AND has its choices
        let may = licence.split(" AND ").all(|part| {
            let mut choices = part.trim_matches(['(', ')']).split(" OR ").flat_map(|choice| choice.split('/'));
            choices.any(|choice| allowed.contains(choice))
        });
        assert!(may, "{name} is under {licence}, which deny.toml does not allow");
        linked.insert(name.to_owned());
    }
    let text = document("docs/crates.md");
    let rows: Vec<&str> = text.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| `")).collect();
    let named: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| {
            let mut cells = row.split(" | ");
            let own = cells.next().unwrap();
            own.split('`')
                .chain(cells.nth(1).unwrap_or_default().split('`'))
                .filter(|word| !word.contains(['|', ',', ' ']) && !word.is_empty())
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(named, linked, "docs/crates.md and what the program is linked from");
    let count = format!("\n{} crates: {} that this code names", linked.len(), rows.len());
    assert!(text.contains(&count), "docs/crates.md does not say:{count}");

    let sources = strings("sources", "allow-registry");
    let lock = document("Cargo.lock");
    for source in lock.lines().filter_map(|line| line.strip_prefix("source = \"")) {
        let registry = source.trim_end_matches('"').strip_prefix("registry+").unwrap_or(source);
        assert!(sources.contains(registry), "Cargo.lock has a crate from {source}");
    }
}

/// Unsafe code is denied, and each exception is argued where it is and in docs/crates.md.
fn unsafe_is_argued() {
    assert!(document("Cargo.toml").contains("unsafe_code = \"deny\""));
    let found = crate::common::run(
        "",
        &["grep", "-rnE", "unsafe (\\{|fn|impl|extern)|allow\\(unsafe_code", concat!(env!("CARGO_MANIFEST_DIR"), "/src")],
    );
    let mut places: Vec<&str> = found.stdout.lines().filter_map(|line| line.split("/src/").nth(1)?.split(':').next()).collect();
    assert_eq!(places.len(), 2, "a permission and its block: {found}");
    places.dedup();
    let text = document("docs/crates.md");
    let rows = text.split("\n## unsafe\n").nth(1).unwrap().lines().filter(|line| line.starts_with("| src/"));
    let argued: Vec<&str> = rows.map(|row| row.split([' ', ',']).nth(1).unwrap().trim_start_matches("src/")).collect();
    assert_eq!(argued, places);
    assert!(document("src/sys/netns.rs").contains("// SAFETY: "));
}

/// The table of releases has those that there are hosts of, and the oldest compiler is the one that Cargo.toml says.
fn releases_are_those_that_are_tested() {
    let text = document("docs/package.md");
    for suite in ["bookworm", "trixie", "sid"] {
        assert!(text.lines().any(|line| line.starts_with("| Debian ") && line.contains(suite)), "docs/package.md has no row of {suite}");
    }
    let manifest: toml::Table = document("Cargo.toml").parse().unwrap();
    let rust = manifest["package"]["rust-version"].as_str().unwrap();
    for document_ in ["README.md", "docs/package.md"] {
        assert!(document(document_).contains(&format!("Rust {rust}")), "{document_} does not say Rust {rust}");
    }
    // what is new is below a heading that says so, and each version has its day
    let changes = document("CHANGELOG.md");
    let versions: Vec<&str> = changes.lines().filter_map(|line| line.strip_prefix("## [")).collect();
    assert_eq!(versions.first(), Some(&"Unreleased]"), "{versions:?}");
    for version in &versions[1..] {
        assert!(version.split_once("] - ").is_some_and(|(_, day)| day.len() == 10), "CHANGELOG.md: {version}");
    }
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for heading in changes.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&heading), "CHANGELOG.md: {heading} is no kind of Keep a Changelog's");
    }
}
