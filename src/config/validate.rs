//! What holds across tables: nothing is there twice, no name means two things.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
};

use super::{
    fault::Draft,
    fragment::{BridgeTable, HostName, InterfaceTable, IpTable, NamespaceTable, Tables},
    keys, routes,
    text::{Placed, Spot, quoted},
    value::is_link_local,
};
use crate::{
    derive,
    model::{LinkName, Mac, NetnsName, UnitName},
};

/// Ports that a bridge of the kernel can have: `BR_MAX_PORTS` is 1 << 10, number 0 is not used.
const MOST_PORTS: usize = 1023;
/// Resolvers that the C library asks (`MAXNS` in resolv.h).
const MOST_RESOLVERS: usize = 3;
/// Smallest MTU with which the kernel runs IPv6 on a link (RFC 8200, section 5).
const IPV6_MTU: u32 = 1280;
/// What to do about two of a kind in one list.
const ONCE: &str = "name it once";

/// Checks all tables. Every list is in the order of files and places, so that the second of a pair is the faulty one.
pub(super) fn check(tables: &mut Tables, drafts: &mut Vec<Draft>) {
    tables.namespaces.sort_by_key(|table| table.at);
    tables.interfaces.sort_by_key(|table| table.at);
    tables.bridges.sort_by_key(|table| table.at);
    tables_once(tables, drafts);
    let Tables { namespaces, interfaces, bridges, .. } = &*tables;
    for namespace in namespaces {
        lists(namespace, drafts);
    }
    services(namespaces, drafts);
    for bridge in bridges {
        resolvers(&bridge.dns, drafts);
        mtu(&bridge.ip, false, drafts);
    }
    for interface in interfaces {
        bridge(interface, drafts);
        mtu(&interface.ip, interface.accept_ra, drafts);
    }
    addresses(interfaces, bridges, drafts);
    macs(interfaces, bridges, drafts);
    uplinks(interfaces, bridges, drafts);
    host_names(interfaces, bridges, drafts);
    ports(interfaces, bridges, drafts);
    routes::check(tables, drafts);
}

/// Notes every value that was there before, and returns the places of each such pair; the message is made of the value.
fn once<K: Hash + Eq>(
    values: impl IntoIterator<Item = (K, Spot)>,
    drafts: &mut Vec<Draft>,
    help: &str,
    message: impl Fn(&K) -> String,
) -> Vec<(Spot, Spot)> {
    let mut first: HashMap<K, Spot> = HashMap::new();
    let mut pairs = Vec::new();
    for (value, at) in values {
        if let Some(first) = first.get(&value) {
            drafts.push(Draft::new(at, message(&value)).other(*first, "first here").help(help));
            pairs.push((*first, at));
        } else {
            first.insert(value, at);
        }
    }
    pairs
}

/// TOML itself sees to it that a table stands once in a file; this does for all files.
fn tables_once(tables: &mut Tables, drafts: &mut Vec<Draft>) {
    const JOIN: &str = "join the two in one file";
    let Tables { namespaces, interfaces, bridges, incomplete: _ } = tables;
    let pairs = [
        once(namespaces.iter().map(|t| (&t.name, t.at)), drafts, JOIN, |name| format!("table [namespace.{name}] stands in two files")),
        once(interfaces.iter().map(|t| ((&t.netns, &t.name), t.at)), drafts, JOIN, |(netns, name)| {
            format!("table [namespace.{netns}.interface.{name}] stands in two files")
        }),
        once(bridges.iter().map(|t| (&t.name, t.at)), drafts, JOIN, |name| format!("table [bridge.{name}] stands in two files")),
    ]
    .concat();
    // each half would be found to clash with the other, or to lack what the other has
    let second = |at: Spot| pairs.iter().any(|pair| pair.1 == at);
    namespaces.retain(|t| !second(t.at));
    interfaces.retain(|t| !second(t.at));
    bridges.retain(|t| !second(t.at));
    let half = |at: Spot| pairs.iter().any(|pair| pair.0 == at);
    for table in interfaces.iter_mut().filter(|t| half(t.at)) {
        table.lacks_bridge = false;
        table.ip.addresses.complete = false;
    }
    for table in bridges.iter_mut().filter(|t| half(t.at)) {
        table.ip.addresses.complete = false;
    }
}

fn lists(namespace: &NamespaceTable, drafts: &mut Vec<Draft>) {
    let NamespaceTable { dns, has_dns, dns_search, dns_options, .. } = namespace;
    // a resolv.conf without a resolver means one on the loopback link, and inside that is nobody
    for (key, first) in [("dns-search", dns_search), ("dns-options", dns_options)] {
        if let Some(first) = first.first().filter(|_| !has_dns) {
            let help = "name the resolvers, or leave it out: without 'dns' the namespace has the host's resolv.conf as it is";
            drafts.push(Draft::new(first.at, format!("'{key}' without 'dns' in [namespace.{}]", namespace.name)).help(help));
        }
    }
    resolvers(dns, drafts);
    once(dns_search.iter().map(|d| (d.value.to_lowercase(), d.at)), drafts, ONCE, |d| format!("search domain '{d}' is listed twice"));
    let name = |option: &Placed<String>| option.value.split(':').next().unwrap_or_default().to_owned();
    once(dns_options.iter().map(|o| (name(o), o.at)), drafts, ONCE, |o| format!("resolver option '{o}' is listed twice"));
    if let Some(fourth) = dns.get(MOST_RESOLVERS) {
        drafts.push(
            Draft::new(fourth.at, format!("resolver '{}' would never be asked", fourth.value))
                .allowed(format!("at most {MOST_RESOLVERS} resolvers: the C library reads no more from resolv.conf")),
        );
    }
}

fn resolvers(dns: &[Placed<IpAddr>], drafts: &mut Vec<Draft>) {
    once(dns.iter().map(|dns| (dns.value, dns.at)), drafts, ONCE, |ip| format!("resolver '{ip}' is listed twice"));
}

fn services(namespaces: &[NamespaceTable], drafts: &mut Vec<Draft>) {
    let mut first: BTreeMap<&UnitName, (&NamespaceTable, Spot)> = BTreeMap::new();
    let all = || namespaces.iter().flat_map(|table| table.services.iter().map(move |unit| (table, unit)));
    for (table, unit) in all() {
        let Some((other, at)) = first.get(&unit.value) else {
            first.insert(&unit.value, (table, unit.at));
            continue;
        };
        drafts.push(if other.name == table.name {
            Draft::new(unit.at, format!("unit '{}' is listed twice", unit.value)).other(*at, "first here").help(ONCE)
        } else {
            Draft::new(unit.at, format!("unit '{}' is in two namespaces, {} and {}", unit.value, quoted(&other.name), quoted(&table.name)))
                .other(*at, "first here")
                .help("leave it in one; a service has one network namespace")
        });
    }
    // systemd reads the drop-ins of foo@.service for foo@a.service too, so that it would be bound to both
    for (table, unit) in all() {
        let Some((stem, rest)) = unit.value.as_str().split_once('@').filter(|_| !unit.value.is_template()) else { continue };
        let Some(suffix) = rest.rsplit_once('.').map(|(_, suffix)| suffix) else { continue };
        let Ok(template) = UnitName::parse(&format!("{stem}@.{suffix}")) else { continue };
        if let Some((other, at)) = first.get(&template).filter(|(other, _)| other.name != table.name) {
            let message = format!("unit '{}' is in another namespace than its template '{template}'", unit.value);
            drafts.push(
                Draft::new(unit.at, message)
                    .other(*at, format!("the template is in {}", quoted(&other.name)))
                    .help("systemd gives an instance the settings of its template too; list the instances instead of the template"),
            );
        }
    }
}

fn bridge(interface: &InterfaceTable, drafts: &mut Vec<Draft>) {
    if interface.lacks_bridge {
        drafts.push(
            Draft::new(interface.at, format!("{} has no 'bridge'", interface.ip.link))
                .allowed(keys::INTERFACE.form("bridge"))
                .help("name the bridge it joins; without one it is point-to-point, which this version does not support yet"),
        );
    }
}

fn mtu(ip: &IpTable, accept_ra: bool, drafts: &mut Vec<Draft>) {
    let Some(mtu) = ip.mtu.as_ref().filter(|mtu| mtu.value < IPV6_MTU) else { return };
    let v6 = ip.addresses.items.iter().find(|address| address.value.address.addr().is_ipv6());
    let draft = Draft::new(mtu.at, format!("an MTU of {} switches IPv6 off on this link", mtu.value))
        .allowed(format!("{IPV6_MTU} and more where there is IPv6"));
    match v6 {
        Some(address) => drafts.push(draft.other(address.at, "an IPv6 address of this link")),
        None if accept_ra => drafts.push(draft.help("or leave out accept-ra = true")),
        None => {}
    }
}

fn addresses(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let inside = interfaces.iter().map(|table| (table.bridge.as_ref().map(|b| b.value.to_string()), &table.ip));
    let outside = bridges.iter().map(|table| (Some(table.name.clone()), &table.ip));
    let mut all: Vec<_> = inside
        .chain(outside)
        .flat_map(|(bridge, ip)| ip.addresses.items.iter().map(move |address| (bridge.clone(), address)))
        .map(|(bridge, Placed { value, at })| {
            let ip = value.address.addr();
            // a link-local address means another host on every bridge
            ((ip, bridge.filter(|_| is_link_local(ip))), *at)
        })
        .collect();
    all.sort_by_key(|(_, at)| *at);
    once(all, drafts, "give each interface an address of its own", |(ip, _)| format!("address '{ip}' is used twice"));
}

fn macs(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let mut all: Vec<(Mac, Spot)> = interfaces
        .iter()
        .flat_map(|table| [&table.mac, &table.host_mac])
        .chain(bridges.iter().map(|table| &table.mac))
        .flatten()
        .map(|mac| (mac.value, mac.at))
        .collect();
    all.sort_by_key(|(_, at)| *at);
    once(all, drafts, "change one, or leave it out: a stable one is derived", |mac| format!("MAC address '{mac}' is used twice"));
}

/// The links that are bridges, ours or named by an interface, by their names.
fn known_bridges<'t>(interfaces: &'t [InterfaceTable], bridges: &'t [BridgeTable]) -> BTreeMap<&'t str, Spot> {
    let named = interfaces.iter().filter_map(|table| table.bridge.as_ref()).rev().map(|b| (b.value.as_str(), b.at));
    named.chain(bridges.iter().map(|table| (table.name.as_str(), table.at))).collect()
}

fn uplinks(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let known = known_bridges(interfaces, bridges);
    let mut first: BTreeMap<&LinkName, (&str, Spot)> = BTreeMap::new();
    for (bridge, uplink) in bridges.iter().flat_map(|table| table.uplinks.iter().map(move |uplink| (table, uplink))) {
        if let Some(at) = known.get(uplink.name.as_str()) {
            let help = "join bridges by a VLAN on one of them ({ vlan = 20, parent = \"br-lan\" }) or put the ports into one";
            drafts.push(
                Draft::new(uplink.at, format!("uplink '{}' is a bridge, and a bridge cannot be a port of another", uplink.name))
                    .other(*at, "the bridge")
                    .help(help),
            );
        }
        if let Some((parent, _)) = uplink.vlan.as_ref().filter(|(parent, _)| parent.as_str() == bridge.name) {
            let message = format!("VLAN link '{}' of bridge '{parent}' cannot be a port of the same bridge", uplink.name);
            drafts.push(Draft::new(uplink.at, message).help("name the physical link as the parent"));
        }
        let Some((other, at)) = first.get(&uplink.name) else {
            first.insert(&uplink.name, (&bridge.name, uplink.at));
            continue;
        };
        let message = if *other == bridge.name {
            format!("uplink '{}' is listed twice", uplink.name)
        } else {
            format!("uplink '{}' is in two bridges, {} and {}", uplink.name, quoted(other), quoted(&bridge.name))
        };
        drafts.push(Draft::new(uplink.at, message).other(*at, "first here").help("a link is a port of one bridge"));
    }
}

fn host_names(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let known = known_bridges(interfaces, bridges);
    let mut ports: BTreeMap<&str, Spot> = BTreeMap::new();
    for uplink in bridges.iter().flat_map(|table| &table.uplinks) {
        ports.entry(uplink.name.as_str()).or_insert(uplink.at);
        if let Some((parent, _)) = &uplink.vlan {
            ports.entry(parent.as_str()).or_insert(uplink.at);
        }
    }
    // names that are given go first, so that a clash is shown at the one that can be changed
    let given = interfaces.iter().filter_map(|table| match &table.host_name {
        HostName::Given(name) => Some((name.value.clone(), name.at, table, true)),
        HostName::Refused | HostName::Derived => None,
    });
    let derived = interfaces.iter().filter_map(|table| Some((derived_host_name(table)?, table.at, table, false)));
    let mut first: BTreeMap<LinkName, (Spot, bool)> = BTreeMap::new();
    for (name, at, table, is_given) in given.chain(derived) {
        let subject = if is_given {
            format!("host-name '{name}'")
        } else {
            format!("host-name '{name}', derived for interface {} of namespace {},", quoted(&table.name), quoted(&table.netns))
        };
        let help = if is_given { "choose another host-name" } else { "give this interface a host-name" };
        let link = known.get(name.as_str()).map(|at| (at, "bridge")).or_else(|| ports.get(name.as_str()).map(|at| (at, "uplink")));
        if let Some((link, what)) = link {
            drafts.push(
                Draft::new(at, format!("{subject} is the name of a{} {what}", if what == "uplink" { "n" } else { "" }))
                    .other(*link, format!("the {what}"))
                    .help(help),
            );
            continue;
        }
        match first.get(&name) {
            Some((other, true)) if is_given => {
                drafts.push(Draft::new(at, format!("{subject} is used twice")).other(*other, "first here").help(help));
            }
            Some((other, _)) => drafts.push(
                Draft::new(*other, format!("host-name '{name}' is used twice"))
                    .other(at, "this interface gets it too, derived from its names")
                    .help("choose another host-name"),
            ),
            None => {
                first.insert(name, (at, is_given));
            }
        }
    }
}

/// The host end's name where the table leaves it out and its own names are good.
pub(super) fn derived_host_name(table: &InterfaceTable) -> Option<LinkName> {
    if !matches!(table.host_name, HostName::Derived) {
        return None;
    }
    Some(derive::host_name(&NetnsName::parse(&table.netns).ok()?, &LinkName::parse_ours(&table.name).ok()?))
}

fn ports(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let mut ports: BTreeMap<&str, Vec<Spot>> = BTreeMap::new();
    for bridge in bridges {
        ports.entry(&bridge.name).or_default().extend(bridge.uplinks.iter().map(|uplink| uplink.at));
    }
    for bridge in interfaces.iter().filter_map(|table| table.bridge.as_ref()) {
        ports.entry(bridge.value.as_str()).or_default().push(bridge.at);
    }
    for (bridge, mut spots) in ports {
        spots.sort_unstable();
        if let Some(at) = spots.get(MOST_PORTS) {
            drafts.push(
                Draft::new(*at, format!("bridge '{bridge}' would have {} ports", spots.len()))
                    .allowed(format!("at most {MOST_PORTS} ports, uplinks among them"))
                    .help("spread the namespaces over several bridges"),
            );
        }
    }
}
