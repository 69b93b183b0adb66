//! Set-ups of Jamesits/systemd-named-netns: `/etc/default/netns-NAME`, what its units and `netnsinit` would have done with it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Note, Origin,
    commands::Left,
    host::{Host, at},
    words::{Vars, commands, lines},
    world::Fact,
};

const FOLDER: &str = "/etc/default/netns";
const KINDS: [&str; 4] = ["bridge", "nat", "tunnel", "mvbr"];

type Settings = BTreeMap<String, Fact<String>>;

pub fn read(host: &mut Host<'_>) {
    let of_kinds =
        |name: &str| KINDS.contains(&name) || KINDS.iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')));
    let mut names: BTreeMap<String, Option<&str>> = BTreeMap::new();
    let files = host.files.matching(&format!("{FOLDER}-*"));
    for name in files.iter().filter_map(|path| path.strip_prefix(FOLDER)?.strip_prefix('-')).filter(|name| !of_kinds(name)) {
        names.entry(name.to_owned()).or_default();
    }
    for kind in KINDS {
        // what is enabled, and what has a file of its own
        let enabled = host.files.matching(&format!("/etc/systemd/system/*.wants/netns-{kind}@*.service"));
        let enabled = enabled.iter().filter_map(|path| path.rsplit_once('@')?.1.strip_suffix(".service"));
        let own = files.iter().filter_map(|path| path.strip_prefix(&format!("{FOLDER}-{kind}-")));
        for name in enabled.chain(own).map(str::to_owned).collect::<BTreeSet<_>>() {
            names.insert(name, Some(kind));
        }
    }
    for (name, kind) in names {
        namespace(host, &name, kind);
    }
}

/// Reads a file of shell variables; a later one wins.
fn settings(host: &Host<'_>, path: &str, settings: &mut Settings) {
    let Some(text) = host.files.get(path) else { return };
    for line in lines(text, &['#'], "") {
        for command in commands(&line.text, &Vars::new()) {
            for (key, value) in command.words.iter().filter_map(|word| word.split_once('=')) {
                settings.insert(key.to_owned(), Fact { value: value.to_owned(), from: Origin::new(path, line.number) });
            }
        }
    }
}

fn namespace(host: &mut Host<'_>, name: &str, kind: Option<&str>) {
    let mut found = Settings::new();
    settings(host, FOLDER, &mut found);
    if let Some(kind) = kind {
        settings(host, &format!("{FOLDER}-{kind}"), &mut found);
    }
    settings(host, &format!("{FOLDER}-{name}"), &mut found);
    let kind = match kind {
        Some(kind) => kind,
        None if found.contains_key("MACVLAN_BRIDGE") => "mvbr",
        None if found.contains_key("BRIDGE") => "bridge",
        None => "nat",
    };
    settings(host, &format!("{FOLDER}-{kind}-{name}"), &mut found);
    let Some(first) = found.values().map(|fact| fact.from.clone()).max() else { return };
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut take = |keys: &[&'static str]| {
        used.extend(keys);
        keys.iter().find_map(|key| found.get(*key)).filter(|fact| !fact.value.is_empty()).cloned()
    };
    let (inside, outside) = if kind == "mvbr" { ("mv0".to_owned(), String::new()) } else { (format!("vn-{name}1"), format!("vn-{name}0")) };
    let plain = |fact: &Fact<String>| Fact { value: fact.value.split('/').next().unwrap_or_default().to_owned(), from: fact.from.clone() };
    let len = take(&["CIDR"]).map(|fact| format!("/{}", fact.value));
    let with_len = |fact: Fact<String>| match &len {
        Some(len) if !fact.value.contains('/') => Fact { value: format!("{}{len}", fact.value), from: fact.from },
        _ => fact,
    };
    let (bridge, parent) = (take(&["BRIDGE"]), take(&["MACVLAN_BRIDGE"]));
    let on_host = take(&["IPADDR_OUTSIDE", "GATEWAY_IP"]).map(with_len);
    let mac = take(&["MACADDR"]);
    let own = take(&["IPADDR", "CLIENT_IP"]).map(with_len);
    let gateway = take(&["GATEWAY"]).or_else(|| on_host.clone().filter(|_| kind == "nat"));
    let dhcp = take(&["DHCPV4"]).filter(|fact| fact.value == "1");

    let mut run = |netns: Option<&str>, from: &Origin, words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if let Err(Left::Missed(why)) = host.words(&at(netns, from), &words) {
            host.notes.push(Note::missed(from.clone(), &words.join(" "), why));
        }
    };
    run(None, &first, &["ip", "netns", "add", name]);
    match kind {
        "mvbr" => {
            if let Some(parent) = &parent {
                run(
                    None,
                    &parent.from,
                    &["ip", "link", "add", "link", &parent.value, &inside, "netns", name, "type", "macvlan", "mode", "bridge"],
                );
            }
        }
        _ => run(None, &first, &["ip", "link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", name]),
    }
    if let Some(bridge) = bridge.filter(|_| kind == "bridge") {
        run(None, &bridge.from, &["ip", "link", "set", &outside, "master", &bridge.value]);
    }
    if let Some(address) = on_host.filter(|_| kind == "nat" || kind == "tunnel") {
        run(None, &address.from, &["ip", "addr", "add", &address.value, "dev", &outside]);
    }
    if let Some(mac) = mac {
        run(Some(name), &mac.from, &["ip", "link", "set", &inside, "address", &mac.value]);
    }
    match dhcp {
        Some(dhcp) => run(Some(name), &dhcp.from, &["dhclient", &inside]),
        None => {
            if let Some(address) = own {
                run(Some(name), &address.from, &["ip", "addr", "add", &address.value, "dev", &inside]);
            }
            if let Some(gateway) = gateway.as_ref().map(plain) {
                run(Some(name), &gateway.from, &["ip", "route", "add", "default", "via", &gateway.value, "dev", &inside]);
            }
        }
    }
    for (key, Fact { value, from }) in found.iter().filter(|(key, _)| !used.contains(key.as_str())) {
        host.notes.push(Note::missed(from.clone(), &format!("{key}={value}"), "the configuration has nothing for it"));
    }
    if kind == "nat" {
        let note = Note::missed(
            first,
            &format!("netns-nat@{name}.service"),
            "forwarding and masquerading are the host's: its sysctl.d and its firewall",
        );
        host.notes.push(note);
    }
    host.world.netns(name).makers.push(format!("netns-{kind}@{name}.service"));
}
