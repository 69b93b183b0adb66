//! The files of a host in, the configuration and the rest of `import` out. Each folder under tests/cases/import is a case: `root` in it
//! is the host.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{SourceFile, parse},
    import::{CONFIG, Files, Import, import},
    model::{Mac, Netns},
};
use proptest::{collection::btree_map, prelude::*, sample::subsequence};

use crate::common::{BIN, Case, Output, REPO, cases, run, schema};
use crate::laws::{law, link_name, netns_name};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials =
        trials![what_a_model_writes_is_the_model, every_line_is_in_the_file_or_named, nothing_is_replaced_and_no_fault_is_written];
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

/// The files of the host of each case.
pub fn all_cases() -> Vec<BTreeMap<String, String>> {
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
        "inherits",
        "bridge_ports none",
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
        let whole = ["stays with ifupdown", "others inherit it, and nothing brings it up by itself", "nothing that was read brings it up"];
        let stays: Vec<String> =
            import.notes.iter().filter(|note| whole.contains(&note.why.as_str())).map(|note| note.from.to_string()).collect();
        for (path, text) in files.iter().filter(|(path, _)| of_netns.iter().any(|folder| path.starts_with(folder))) {
            let mut quiet_block = false;
            for (number, line) in (1..).zip(text.lines()) {
                let line = line.trim();
                let place = format!("{path}:{number}");
                if line.starts_with("iface") {
                    quiet_block = stays.contains(&place);
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

/// A pair on a bridge, and in which of the ways that work its commands are spelt.
#[derive(Debug, Clone)]
struct Pair {
    bridge: u8,
    /// The last part of each address, in their order.
    addresses: [Vec<u8>; 2],
    gateways: [bool; 2],
    route: bool,
    spelling: (u8, bool, bool),
}

fn pair() -> impl Strategy<Value = Pair> {
    let parts = || subsequence((10..16_u8).collect::<Vec<_>>(), 1..4).prop_shuffle();
    let spelling = (0..3_u8, any::<bool>(), any::<bool>());
    (0..3_u8, (parts(), parts()), any::<[bool; 2]>(), any::<bool>(), spelling)
        .prop_map(|(bridge, (ipv4, ipv6), gateways, route, spelling)| Pair { bridge, addresses: [ipv4, ipv6], gateways, route, spelling })
}

impl Pair {
    fn address(at: usize, family: usize, part: u8) -> String {
        if family == 0 { format!("10.{at}.0.{part}/24") } else { format!("2001:db8:{at}::{part}/64") }
    }

    fn gateway(at: usize, family: usize) -> String {
        Self::address(at, family, 1).split('/').next().unwrap().to_owned()
    }

    fn mac(at: usize) -> Mac {
        Mac([2, 0, 0, 0, 0, u8::try_from(at).unwrap()])
    }

    /// The commands that make it. `at` is its number among all of the host.
    fn commands(&self, netns: &str, name: &str, at: usize) -> String {
        let mac = Self::mac(at);
        let Self { bridge, addresses, gateways, route, spelling: (made, by_netns_exec, by_brctl) } = self;
        let inside = if *by_netns_exec { format!("ip netns exec {netns} ip") } else { format!("/sbin/ip -n {netns}") };
        let mut text = match made {
            0 => format!("ip link add {netns}{at} type veth peer name {name} netns {netns}\n"),
            1 => format!("ip link add {netns}{at} type veth peer name t{at}\nip link set t{at} netns {netns} name {name}\n"),
            _ => format!(
                "ip link add name {netns}{at} type veth peer name t{at}\nip link set dev t{at} netns \"{netns}\"\n{inside} link set t{at} name {name}\n"
            ),
        };
        text += &format!("{inside} link set dev {name} address {mac} up\nip link set {netns}{at} up\n");
        text += &if *by_brctl {
            format!("brctl addif br{bridge} {netns}{at}\n")
        } else {
            format!("ip link set {netns}{at} master br{bridge}\n")
        };
        for family in [0, 1] {
            for part in &addresses[family] {
                text += &format!("{inside} addr add {} dev {name}\n", Self::address(at, family, *part));
            }
            let six = if family == 1 { " -6" } else { "" };
            if gateways[family] && at.is_multiple_of(2) {
                text += &format!("{inside}{six} route add default via {}\n", Self::gateway(at, family));
            }
            if *route {
                let to = ["198.51.100.0/24", "2001:db8:ff::/48"][family];
                text += &format!("{inside}{six} route add {to} via {} dev {name} metric {}\n", Self::gateway(at, family), at + 5);
            }
        }
        text
    }

    /// The table of the configuration.
    fn table(&self, netns: &str, name: &str, at: usize, accept_ra: bool) -> String {
        let mac = Self::mac(at);
        let Self { bridge, addresses: [ipv4, ipv6], gateways, route, spelling: _ } = self;
        // the kernel prefers the IPv6 address that was added last, and the configuration the first
        let addresses = ipv4.iter().map(|part| (0, part)).chain(ipv6.iter().rev().map(|part| (1, part)));
        let addresses: Vec<String> = addresses.map(|(family, part)| Self::address(at, family, *part)).collect();
        let by = [0, 1].into_iter().filter(|family| gateways[*family] && at.is_multiple_of(2));
        let by: Vec<String> = by.map(|family| Self::gateway(at, family)).collect();
        let to = |family: usize| {
            let to = ["198.51.100.0/24", "2001:db8:ff::/48"][family];
            format!("{{ to = \"{to}\", via = \"{}\", metric = {} }}", Self::gateway(at, family), at + 5)
        };
        let routes = if *route { format!("{}, {}", to(0), to(1)) } else { String::new() };
        format!(
            "[namespace.\"{netns}\".interface.\"{name}\"]\nbridge = \"br{bridge}\"\nhost-name = \"{netns}{at}\"\nmac = \"{mac}\"\n\
             addresses = {addresses:?}\ngateways = {by:?}\nroutes = [{routes}]\naccept-ra = {accept_ra}\n"
        )
    }
}

fn what_a_model_writes_is_the_model() {
    // room for a digit, and nothing that a host end cannot begin with
    let name = netns_name().prop_filter("a name", |name| name.as_str().len() < 12 && link_name_is_ours(name.as_str()));
    let pairs = btree_map(link_name().prop_filter("not a name on the way", |name| !name.as_str().starts_with('t')), pair(), 1..3);
    law(256, btree_map(name, pairs, 1..4), |model| {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/etc/network/namespaces/%i\n";
        files.insert("/etc/systemd/system/netns@.service".to_owned(), unit.to_owned());
        let mut tables = String::new();
        for (number, (netns, pairs)) in model.iter().enumerate() {
            let mut script = format!("#!/bin/sh\nset -e\nip netns add {netns}\nip -n {netns} link set lo up\n");
            tables += &format!("[namespace.\"{netns}\"]\nservices = [\"s-{netns}.service\"]\n");
            // without a gateway of IPv6 in its files, a host has it from router advertisements
            let accept_ra = !pairs.values().next().unwrap().gateways[1] && pairs.values().all(|pair| !pair.route);
            for (at, (name, pair)) in (2 * number..).zip(pairs) {
                script += &pair.commands(netns.as_str(), name.as_str(), at);
                tables += &pair.table(netns.as_str(), name.as_str(), at, accept_ra);
            }
            files.insert(format!("/etc/network/namespaces/{netns}"), script);
            let service =
                format!("[Unit]\nBindsTo=netns@{netns}.service\n[Service]\nNetworkNamespacePath=/run/netns/{netns}\nExecStart=/bin/a\n");
            files.insert(format!("/etc/systemd/system/s-{netns}.service"), service);
        }
        let import = import(&Files::new(files.clone()), CONFIG);
        let namespaces = |text: &str| {
            let parsed = parse(&[SourceFile { path: "a.toml".to_owned(), bytes: text.as_bytes().to_vec() }]);
            let mut namespaces = parsed.unwrap_or_else(|faults| panic!("{files:#?}\n{text}\n{faults}")).namespaces;
            // where each stands is another matter
            namespaces
                .values_mut()
                .for_each(|n| n.netns = Netns { source: String::new(), places: BTreeMap::new(), ..std::mem::take(&mut n.netns) });
            namespaces
        };
        assert_eq!(namespaces(&import.namespaces), namespaces(&tables), "{files:#?}\n{}", import.namespaces);
        assert!(import.notes.iter().all(|note| note.needless), "{:#?}", import.notes);
    });
}

fn link_name_is_ours(name: &str) -> bool {
    netns_networkd::model::LinkName::parse_ours(name).is_ok()
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
            "error: nothing to import below {from}: no namespaces in /etc/network, in units, in /etc/default/netns-* or in profiles of wg-netns\n"
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
