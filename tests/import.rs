//! The files of a host in, the configuration and the rest of `import` out. Each folder under tests/cases/import is a case: `root` in it
//! is the host.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{SourceFile, parse},
    import::{CONFIG, Files, Import, import},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config as Limits, TestRunner},
};

use crate::common::{BIN, Case, Output, REPO, cases, run, schema};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![damaged_hosts_never_panic, every_line_is_in_the_file_or_named, nothing_is_replaced_and_no_fault_is_written];
    trials.extend(cases("import", a_host_gives));
    trials
}

fn tree(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree(&path, root, files);
        } else {
            let name = format!("/{}", path.strip_prefix(root).unwrap().display());
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

fn host(case: &Case) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    tree(&case.path("root"), &case.path("root"), &mut files);
    files
}

fn a_host_gives(case: &Case) {
    let Import { namespaces, bridges, drop_ins, state: _, notes, steps, names: _, wanted: _ } = import(&Files::new(host(case)), CONFIG);
    let mut text = format!("== imported.toml\n{namespaces}");
    let mut files = vec![SourceFile { path: "imported.toml".to_owned(), bytes: namespaces.into_bytes() }];
    if let Some(bridges) = bridges {
        write!(text, "== bridges.toml\n{bridges}").unwrap();
        files.push(SourceFile { path: "bridges.toml".to_owned(), bytes: bridges.into_bytes() });
    }
    if let Err(faults) = parse(&files) {
        write!(text, "== faults\n{faults}\n").unwrap();
    }
    for (unit, drop_in) in drop_ins {
        write!(text, "== {unit}\n{drop_in}").unwrap();
    }
    writeln!(text, "== {} lines left out", notes.len()).unwrap();
    for step in steps {
        writeln!(text, "== {}", step.text.split_inclusive(['.', ':']).next().unwrap_or_default()).unwrap();
        step.commands.iter().for_each(|command| writeln!(text, "{command}").unwrap());
    }
    case.expect("expected.txt", &text);
}

fn all_cases() -> Vec<BTreeMap<String, String>> {
    let folder = Path::new(REPO).join("tests/cases/import");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    cases.map(|dir| host(&Case { name: String::new(), dir })).collect()
}

/// Nothing is dropped in silence: each line that says something stands behind a value, or among what is left out.
fn every_line_is_in_the_file_or_named() {
    // opens a block, says when something comes up, or what the configuration has anyway
    let quiet = [
        "auto",
        "allow-",
        "source",
        "iface",
        "netmask",
        "set -",
        "echo",
        "#",
        "vlan-raw-device",
        "vlan-id",
        "metric",
        "scope",
        "preferred-lifetime",
        "pointopoint",
        "dad-attempts",
        "}",
    ];
    let of_netns = ["/etc/network/interfaces", "/etc/network/services/", "/etc/network/namespaces/"];
    let mut looked = 0;
    for files in all_cases() {
        let import = import(&Files::new(files.clone()), CONFIG);
        let all = format!("{}\n{}", import.namespaces, import.bridges.unwrap_or_default());
        // links that stay with ifupdown are named once, by their stanza
        let stays: Vec<String> =
            import.notes.iter().filter(|note| note.why == "stays with ifupdown").map(|note| note.from.to_string()).collect();
        for (path, text) in files.iter().filter(|(path, _)| of_netns.iter().any(|folder| path.starts_with(folder))) {
            let mut quiet_block = false;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                let place = format!("{path}:{number}");
                if line.starts_with("iface") {
                    quiet_block = stays.contains(&place) || line.ends_with("loopback");
                }
                let alone = line.split(['=', ' ']).next().is_some_and(|name| !name.is_empty() && line.starts_with(&format!("{name}=")));
                let says = !line.is_empty() && !alone && !quiet_block && !quiet.iter().any(|word| line.starts_with(word));
                let links = ["ifup ", "nsenter", " up", "link set", "lo up", "netns add"].iter().any(|word| line.contains(word));
                let continued = number > 1 && text.lines().nth(number - 2).is_some_and(|before| before.ends_with('\\'));
                if says && !links && !continued {
                    looked += 1;
                    assert!(all.contains(&place), "{place} is nowhere: {line}\n{all}");
                }
            }
        }
    }
    assert!(looked > 60, "{looked}");
}

fn damaged_hosts_never_panic() {
    let hosts = all_cases();
    let words = [
        "ip ",
        "netns ",
        "exec ",
        "link ",
        "add ",
        "type veth peer name ",
        "via ",
        "dev ",
        "-n ",
        "iface a inet static\n",
        "\\\n",
        "$(",
        "${x:-",
        "'",
        "\"",
        "source /etc/network/*\n",
        "%i",
        "/",
        "0",
        "[",
        "é",
        "ifup -i /etc/network/namespaces/a ",
    ];
    let insert = prop_oneof![any::<char>().prop_map(|c| c.to_string()), prop::sample::select(words.to_vec()).prop_map(str::to_owned)];
    let edits = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..9_usize, insert), 1..12);
    let cases = std::env::var("NETNS_FUZZ_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(400);
    TestRunner::new(Limits { cases, failure_persistence: None, ..Limits::default() })
        .run(&(any::<prop::sample::Index>(), edits), |(which, edits)| {
            let mut files = hosts[which.index(hosts.len())].clone();
            for (file, at, cut, insert) in edits {
                let path = files.keys().nth(file.index(files.len())).unwrap().clone();
                let mut text: Vec<char> = files[&path].chars().collect();
                let start = at.index(text.len() + 1);
                let end = (start + cut).min(text.len());
                text.splice(start..end, insert.chars());
                files.insert(path, text.into_iter().collect());
            }
            let import = import(&Files::new(files), CONFIG);
            // whatever was read, what is written is TOML; it may have faults, which the check names
            let parsed = import.namespaces.parse::<toml::Table>();
            assert!(parsed.is_ok(), "{}\n{}", parsed.unwrap_err(), import.namespaces);
            let _ = parse(&[SourceFile { path: "imported.toml".to_owned(), bytes: import.namespaces.into_bytes() }]);
            Ok(())
        })
        .unwrap();
}

fn nothing_is_replaced_and_no_fault_is_written() {
    let folder = std::env::temp_dir().join(format!("netns-networkd-import-{}", std::process::id()));
    let (from, output) = (folder.join("from"), folder.join("output"));
    let (from, output) = (from.to_str().unwrap(), output.to_str().unwrap());
    let case = format!("{REPO}/tests/cases/import/hack/root");
    let call = |more: &[&str]| -> Output { run("", &[&[BIN, "import", "--from", from, "--output", output], more].concat()) };
    let list = || run("", &["sh", "-c", &format!("cd {output} && find . -type f | sort | xargs sha256sum")]).stdout;
    fs::create_dir_all(from).unwrap();
    let nothing = call(&[]).fails(1);
    assert_eq!(
        nothing.stderr,
        format!(
            "error: nothing to import below {from}/: no namespaces in /etc/network, in units, in /etc/default/netns-* or in profiles of wg-netns\n"
        )
    );

    let _ = run("", &["cp", "-a", &format!("{case}/."), from]).ok();
    let shown = call(&["--dry-run"]).fails(3);
    assert!(shown.stdout.contains("[namespace.mail.interface.mail0ns]") && !Path::new(output).exists(), "{shown}");
    // ethtool is left out
    let written = call(&[]).fails(3);
    assert!(written.stdout.contains(&format!("write {output}/imported.toml\n")) && written.stdout.contains("ethtool"), "{written}");
    let first = list();
    assert_eq!(first.lines().count(), 4, "{first}");
    let _ = run("", &[BIN, "check", &format!("{output}/imported.toml"), &format!("{output}/imported/bridges.toml")]).ok();
    // the same again is no harm
    let _ = call(&[]).fails(3);
    let edited = format!("{output}/imported.toml");
    fs::write(&edited, "# mine\n").unwrap();
    let refused = call(&[]).fails(1);
    assert_eq!(
        refused.stderr,
        format!(
            "error: nothing was written: {edited} would be replaced\n  hint: look at `netns-networkd import --dry-run`; --force replaces\n"
        )
    );
    assert_eq!(fs::read_to_string(&edited).unwrap(), "# mine\n");
    let document = schema::conforms("import", &call(&["--force", "--json"]).fails(3).stdout);
    assert_eq!(
        (document["namespaces"][0].as_str(), document["left"].as_array().unwrap().iter().filter(|left| left["needless"] == false).count()),
        (Some("mail"), 1)
    );
    assert_eq!(list(), first);

    // a gateway that no address covers
    let service = format!("{from}/etc/network/services/mail0");
    let text = fs::read_to_string(&service).unwrap();
    fs::write(&service, text.replace("via 192.0.2.1", "via 10.0.0.1")).unwrap();
    let faulty = call(&["--force"]).fails(2);
    assert!(faulty.stderr.contains("10.0.0.1") && faulty.stderr.contains("/etc/network/services/mail0:5"), "{faulty}");
    assert_eq!(list(), first, "nothing was written");
    let faulty = call(&["--dry-run"]).fails(2);
    assert!(faulty.stdout.contains("10.0.0.1") && faulty.stderr.contains("10.0.0.1"), "{faulty}");
    fs::remove_dir_all(folder).unwrap();
}
