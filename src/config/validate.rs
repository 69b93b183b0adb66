//! What holds across tables: nothing is there twice.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    fault::Draft,
    fragment::{BridgeTable, IpTable, NamespaceTable, Tables},
    interface::{InterfaceTable, KindTable},
    ipv6, links, routes, rule, sysctl,
    text::{Placed, Spot, quoted},
    value::{IPV6_MTU, is_link_local},
    wireguard,
};
use crate::model::{Address, Mac, Scope, UnitName};
/// Resolvers that the C library asks (`MAXNS` in resolv.h).
const MOST_RESOLVERS: usize = 3;
/// What to do about two of a kind in one list.
const ONCE: &str = "name it once";

/// Checks all tables. Every list is in the order of files and places, so that the second of a pair is the faulty one.
pub(super) fn check(tables: &mut Tables, drafts: &mut Vec<Draft>) {
    tables.namespaces.sort_by_key(|table| table.at);
    tables.interfaces.sort_by_key(|table| table.at);
    tables.bridges.sort_by_key(|table| table.at);
    tables_once(tables, drafts);
    for table in &mut tables.interfaces {
        drafts.append(&mut table.if_whole);
    }
    let Tables { namespaces, interfaces, bridges, incomplete } = &*tables;
    let inside = by_netns(interfaces);
    for namespace in namespaces {
        lists(namespace, drafts);
        let own = inside.get(namespace.name.as_str()).map_or(&[][..], Vec::as_slice);
        sysctl::check(namespace, own, !incomplete, drafts);
        rule::check(namespace, own, !incomplete, drafts);
        ipv6::check(namespace, own, drafts);
        one_scope(&namespace.loopback_addresses.items, drafts);
    }
    services(namespaces, drafts);
    for bridge in bridges {
        resolvers(&bridge.dns, drafts);
        mtu(&bridge.ip, None, drafts);
    }
    for interface in interfaces {
        mtu(&interface.ip, Some(interface), drafts);
        one_scope(&interface.ip.addresses.items, drafts);
        dhcp(interface, drafts);
    }
    addresses(namespaces, interfaces, bridges, drafts);
    macs(interfaces, bridges, drafts);
    links::check(interfaces, bridges, drafts);
    wireguard::check(interfaces, drafts);
    routes::check(tables, drafts);
}

/// Gives the interfaces of each namespace, in their order.
pub(super) fn by_netns(interfaces: &[InterfaceTable]) -> BTreeMap<&str, Vec<&InterfaceTable>> {
    let mut by_netns: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for interface in interfaces {
        by_netns.entry(interface.netns.as_str()).or_default().push(interface);
    }
    by_netns
}

/// Notes every value that was there before, and returns the places of each such pair; the message is made of the value.
pub(super) fn once<K: Hash + Eq>(
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
        table.if_whole.clear();
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

fn mtu(ip: &IpTable, interface: Option<&InterfaceTable>, drafts: &mut Vec<Draft>) {
    let Some(mtu) = ip.mtu.as_ref().filter(|mtu| mtu.value < IPV6_MTU) else { return };
    let address = ip.addresses.items.iter().find(|address| address.value.address.addr().is_ipv6());
    let by_ra = interface.and_then(|table| table.accept_ra).map(|at| (at, "accept-ra = true"));
    let by_dhcp = interface.filter(|table| table.has_dhcp(false)).and_then(|table| table.dhcp.as_ref()).map(|dhcp| (dhcp.at, "DHCPv6"));
    if let Some((at, what)) = address.map(|address| (address.at, "an IPv6 address of this link")).or(by_ra).or(by_dhcp) {
        let draft = Draft::new(mtu.at, format!("an MTU of {} switches IPv6 off on this link", mtu.value));
        drafts.push(draft.other(at, what).allowed(format!("{IPV6_MTU} and more where there is IPv6")));
    }
}

/// Notes addresses of one subnet with different scopes, of which the kernel takes the first only (`__inet_insert_ifa`).
fn one_scope(addresses: &[Placed<Address>], drafts: &mut Vec<Draft>) {
    let mut first: HashMap<IpNet, (Scope, Spot)> = HashMap::new();
    for Placed { value: Address { address, peer, scope, .. }, at } in addresses {
        let Ok(net) = IpNet::new(peer.unwrap_or(address.addr()), address.prefix_len()) else { continue };
        let scope = scope.unwrap_or(Scope::Global);
        match first.get(&net.trunc()) {
            Some((other, spot)) if *other != scope => drafts.push(
                Draft::new(
                    *at,
                    format!("address '{address}' has the scope \"{}\" in a subnet of the scope \"{}\"", scope.as_str(), other.as_str()),
                )
                .other(*spot, "the first of the subnet")
                .help("give the addresses of a subnet one scope, or this one a prefix length of 32"),
            ),
            Some(_) => {}
            None => {
                first.insert(net.trunc(), (scope, *at));
            }
        }
    }
}

fn dhcp(interface: &InterfaceTable, drafts: &mut Vec<Draft>) {
    // DHCPv6 has no gateways: these are in router advertisements
    let Some(dhcp) = interface.dhcp.as_ref().filter(|_| interface.has_dhcp(true)) else { return };
    if let Some(gateway) = interface.ip.gateways.items.iter().find(|gateway| gateway.to.addr().is_ipv4()) {
        drafts.push(
            Draft::new(gateway.at, format!("{} gets its IPv4 gateway by DHCP", interface.ip.link)).other(dhcp.at, "DHCP").help(
                "leave it out, or DHCP; a spare one is a route: routes = [{ to = \"default\", via = \"192.0.2.1\", metric = 20000 }]",
            ),
        );
    }
}

/// Notes addresses that are there twice. A link-local one means another host on every segment: a bridge, a parent or a pair. What
/// no other namespace sees may be the same in several: anycast, or what a provider of tunnels gives to everybody.
fn addresses(namespaces: &[NamespaceTable], interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let plain = |address: &Placed<Address>| (address.value.address.addr(), address.at);
    let mut seen: Vec<((IpAddr, Option<String>), Spot)> = Vec::new();
    let mut netns: BTreeMap<&str, Vec<(IpAddr, Spot, bool)>> = BTreeMap::new();
    for table in interfaces {
        let InterfaceTable { netns: name, kind, ip, .. } = table;
        let hidden = matches!(kind, Some(KindTable::Dummy | KindTable::Wireguard(_)));
        netns.entry(name).or_default().extend(ip.addresses.items.iter().map(plain).map(|(ip, at)| (ip, at, hidden)));
        let segment = match (table.bridge(), table.parent()) {
            (Some(link), _) | (None, Some((_, link))) => link.value.to_string(),
            (None, None) => format!("{name}/{}", table.name),
        };
        let host = table.host_addresses().iter().map(|address| (address.value.addr(), address.at));
        let both = ip.addresses.items.iter().map(plain).chain(host).filter(|_| !hidden);
        seen.extend(both.map(|(ip, at)| ((ip, is_link_local(ip).then(|| segment.clone())), at)));
    }
    for BridgeTable { name, ip, .. } in bridges {
        seen.extend(ip.addresses.items.iter().map(plain).map(|(ip, at)| ((ip, is_link_local(ip).then(|| name.clone())), at)));
    }
    for NamespaceTable { name, loopback_addresses, .. } in namespaces {
        netns.entry(name).or_default().extend(loopback_addresses.items.iter().map(plain).map(|(ip, at)| (ip, at, true)));
    }
    let message = |ip: IpAddr| format!("address '{ip}' is used twice");
    seen.sort_by_key(|(_, at)| *at);
    once(seen, drafts, "give each interface an address of its own", |(ip, _)| message(*ip));
    for mut own in netns.into_values() {
        own.sort_by_key(|(_, at, _)| *at);
        let mut first: HashMap<IpAddr, (Spot, bool)> = HashMap::new();
        for (ip, at, hidden) in own {
            match first.get(&ip) {
                // two that are seen outside are noted already
                Some((other, other_hidden)) if hidden || *other_hidden => {
                    drafts.push(Draft::new(at, message(ip)).other(*other, "first here").help("name it once in a namespace"));
                }
                Some(_) => {}
                None => {
                    first.insert(ip, (at, hidden));
                }
            }
        }
    }
}

fn macs(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let mut all: Vec<(Mac, Spot)> = interfaces
        .iter()
        .flat_map(|table| [&table.mac, table.pair().map_or(&None, |pair| &pair.host_mac)])
        .chain(bridges.iter().map(|table| &table.mac))
        .flatten()
        .map(|mac| (mac.value, mac.at))
        .collect();
    all.sort_by_key(|(_, at)| *at);
    once(all, drafts, "change one, or leave it out: a stable one is derived", |mac| format!("MAC address '{mac}' is used twice"));
}
