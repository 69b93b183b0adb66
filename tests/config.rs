//! Fragments in, the configuration or the whole fault report out. Each folder under tests/cases/config is a case: `*.toml` in it
//! stand in /etc/netns-networkd, those in its `etc`, `run` and `usr` in the folders of the search path.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use netns_networkd::config::load::{Candidate, SEARCH_PATH, select};
use netns_networkd::config::{self, SourceFile, Uplink, keys, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Limits, TestRunner};

use crate::common::{Case, REPO, cases};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        arbitrary_bytes_never_panic,
        damaged_fragments_never_panic,
        every_key_is_in_the_full_case,
        colours_only_on_request,
        a_bridge_has_at_most_1023_ports
    ];
    trials.extend(cases("config", fragments_give));
    trials
}

fn fragments_give(case: &Case) {
    let result = match parse(&read(case)) {
        Ok(config) => show(config),
        Err(faults) => format!("{faults}\n"),
    };
    case.expect("expected.txt", &result);
}

/// Writes a configuration out; every field is named, so that a new one is not forgotten.
fn show(config: config::Config) -> String {
    let config::Config { namespaces, bridges } = config;
    let mut text = String::new();
    for (name, namespace) in namespaces {
        let config::Namespace { description, services, dns, dns_search, dns_options, nftables, dhcp, netns } = namespace;
        writeln!(text, "namespace {name}").unwrap();
        writeln!(text, "description {description:?}").unwrap();
        writeln!(text, "services {:?}", services.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        writeln!(text, "dns {dns:?}\ndns-search {dns_search:?}\ndns-options {dns_options:?}").unwrap();
        nftables.into_iter().for_each(|path| writeln!(text, "nftables {path}").unwrap());
        dhcp.into_iter().for_each(|(link, dhcp)| writeln!(text, "dhcp on {link}: {dhcp:?}").unwrap());
        assert!(netns.links.values().all(|link| link.up), "up is not in the record");
        writeln!(text, "{}", toml::to_string(&netns).unwrap()).unwrap();
    }
    for (name, bridge) in bridges {
        let config::Bridge { source, uplinks, addresses, routes, dns, mac, mtu, stp, vlan_filtering, default_pvid } = bridge;
        writeln!(text, "bridge {name}\nsource {source}").unwrap();
        for uplink in uplinks {
            match uplink {
                Uplink::Link(name) => writeln!(text, "uplink {name}").unwrap(),
                Uplink::Vlan { name, parent, id } => writeln!(text, "uplink {name}, VLAN {id} of {parent}").unwrap(),
            }
        }
        writeln!(text, "addresses {addresses:?}").unwrap();
        for route in routes {
            writeln!(text, "route {route}").unwrap();
        }
        writeln!(text, "dns {dns:?}\nmac {mac:?}\nmtu {mtu:?}\nstp {stp:?}").unwrap();
        vlan_filtering.into_iter().for_each(|on| writeln!(text, "vlan-filtering {on}").unwrap());
        default_pvid.into_iter().for_each(|id| writeln!(text, "default-pvid {id}").unwrap());
    }
    text
}

/// Reads the case's files as `sys::fs` reads those of a host.
fn read(case: &Case) -> Vec<SourceFile> {
    let mut candidates = Vec::new();
    for folder in ["", "etc", "run", "usr"] {
        let Ok(entries) = fs::read_dir(case.path(folder)) else { continue };
        candidates.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| !path.is_dir()).map(|path| {
            let masked = fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"));
            Candidate { path, masked }
        }));
    }
    let shown = |path: &Path| {
        let folder = match path.parent().unwrap().strip_prefix(&case.dir).unwrap().to_str().unwrap() {
            "run" => SEARCH_PATH[1],
            "usr" => SEARCH_PATH[2],
            _ => SEARCH_PATH[0],
        };
        format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap())
    };
    select(candidates).iter().map(|path| SourceFile { path: shown(path), bytes: fs::read(path).unwrap() }).collect()
}

const FULL: &str = "good-every-key";

fn full() -> Vec<SourceFile> {
    read(&Case { name: FULL.to_owned(), dir: Path::new(REPO).join("tests/cases/config").join(FULL) })
}

/// Parses, and shows the faults, which is where offsets become slices.
fn parse_and_show(files: &[SourceFile]) {
    if let Err(faults) = parse(files) {
        let shown = faults.render(true) + &faults.to_string();
        // the styles of `render` are the only escapes
        assert!(!faults.to_string().contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(!faults.0.is_empty());
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Limits { cases, failure_persistence: None, ..Limits::default() })
}

fn arbitrary_bytes_never_panic() {
    let tokens = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        prop::sample::select(&b"[]{}=\"'.,#\n\r\t\\ 0a"[..]).prop_map(|byte| vec![byte]),
        prop::sample::select(&["[namespace.a]\n", "[namespace.a.interface.b]\n", "addresses=[", "\"\"\"", "[[", "bridge", "é", "\r\n"][..])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    runner(2000)
        .run(&vec(tokens, 0..60), |parts| {
            parse_and_show(&[SourceFile { path: "/etc/netns-networkd/a\u{1b}.toml".to_owned(), bytes: parts.concat() }]);
            Ok(())
        })
        .unwrap();
}

fn damaged_fragments_never_panic() {
    let files = full();
    let edits = vec((any::<prop::sample::Index>(), 0..4_usize, vec(any::<u8>(), 0..4), any::<char>()), 1..6);
    runner(500)
        .run(&edits, |edits| {
            let mut damaged = files.clone();
            for (at, cut, insert, letter) in edits {
                for file in &mut damaged {
                    let start = at.index(file.bytes.len() + 1);
                    let end = (start + cut).min(file.bytes.len());
                    // half of the time what goes in is text, so that more than the check for UTF-8 is tried
                    let insert = if cut % 2 == 0 { letter.to_string().into_bytes() } else { insert.clone() };
                    file.bytes.splice(start..end, insert);
                }
            }
            parse_and_show(&damaged);
            Ok(())
        })
        .unwrap();
}

/// So that the case of that name stays worth its name, and every supported key is seen to work.
fn every_key_is_in_the_full_case() {
    let text: String = full().iter().map(|file| String::from_utf8_lossy(&file.bytes).into_owned()).collect();
    for table in [
        &keys::NAMESPACE,
        &keys::INTERFACE,
        &keys::BRIDGE,
        &keys::ADDRESS_ENTRY,
        &keys::GATEWAY_ENTRY,
        &keys::ROUTE_ENTRY,
        &keys::RULE_ENTRY,
        &keys::PEER_ENTRY,
        &keys::UPLINK_ENTRY,
    ] {
        for (key, _) in table.known {
            let forms = [format!("\n{key} ="), format!(" {key} ="), format!(".{key}."), format!(".{key}]")];
            assert!(forms.iter().any(|form| text.contains(form)), "{FULL} does not have '{key}'");
        }
    }
}

fn colours_only_on_request() {
    let faults = parse(&[SourceFile { path: "a.toml".to_owned(), bytes: b"x = 1".to_vec() }]).unwrap_err();
    assert!(faults.render(true).contains("\u{1b}["));
    assert!(!faults.render(false).contains('\u{1b}'));
    assert_eq!(faults.render(false), faults.to_string());
}

fn a_bridge_has_at_most_1023_ports() {
    let file = |interfaces: usize| {
        let mut text = "[bridge.br-lan]\nuplinks = [\"eno1\"]\n".to_owned();
        for n in 0..interfaces {
            writeln!(text, "[namespace.n{n}.interface.eth0]\nbridge = \"br-lan\"").unwrap();
        }
        [SourceFile { path: "many.toml".to_owned(), bytes: text.into_bytes() }]
    };
    assert_eq!(parse(&file(1022)).unwrap().namespaces.len(), 1022);
    let faults = parse(&file(1023)).unwrap_err();
    assert_eq!(faults.0.len(), 1, "{faults}");
    assert_eq!(faults.0[0].message, "bridge 'br-lan' would have 1024 ports");
    assert_eq!((faults.0[0].place.line, faults.0[0].place.column), (2 + 2 * 1023, 10));
}
