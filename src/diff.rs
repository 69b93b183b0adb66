//! The one diff: [`State`] against [`State`] -> changes. `sync`, `up`, `--dry-run`, verification and `status` all read it.
//!
//! Pure. What to do about a change, and in which order, is `plan`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;

use crate::model::{
    Address, Dad, Drift, File, HostEnd, HostLink, Kind, Link, LinkName, Mac, Netns, NetnsName, Port, PortVlans, Route, RouteKey, Rule,
    Ruleset, State, Unit, UnitName, Wireguard, joined,
};

/// One difference between what is and what should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    WriteFile { path: PathBuf, before: Option<File>, after: String },
    RemoveFile { path: PathBuf, before: File },
    HostLink { name: LinkName, before: Option<HostLink>, after: Option<HostLink> },
    Unit { name: UnitName, before: Unit, after: Unit },
    Netns { name: NetnsName, change: NetnsChange },
    Client { name: NetnsName, before: Option<bool>, after: bool },
}

/// One difference in a namespace, exact enough to be sent to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsChange {
    Add,
    Remove,
    /// Gives the namespace its name in `/run/netns` again.
    Name,
    SetSysctl {
        key: String,
        value: String,
    },
    /// Replaces the tables of one ruleset by those of another, in one transaction.
    SetRuleset {
        before: Option<Ruleset>,
        after: Option<Ruleset>,
    },
    /// A link, its addresses and routes left out (they are changes of their own).
    AddLink {
        name: LinkName,
        link: Box<Link>,
    },
    /// A physical link goes back to the host.
    RemoveLink {
        name: LinkName,
        kind: Box<Kind>,
    },
    SetMac {
        name: LinkName,
        mac: Mac,
    },
    SetHostMac {
        host_end: LinkName,
        mac: Mac,
    },
    SetMtu {
        name: LinkName,
        host_end: Option<LinkName>,
        mtu: u32,
    },
    /// Both ends; a new pair's host end is up from the start.
    SetUp {
        name: LinkName,
        host_end: Option<LinkName>,
    },
    /// Gives a link its own name again.
    RenameLink {
        name: LinkName,
        called: LinkName,
    },
    RenameHostEnd {
        host_end: LinkName,
        called: LinkName,
    },
    SetBridge {
        host_end: LinkName,
        bridge: Option<LinkName>,
    },
    /// Settings of a bridge port, only those that change; not its VLANs.
    SetPort {
        host_end: LinkName,
        port: Box<Port>,
    },
    SetVlans {
        host_end: LinkName,
        before: PortVlans,
        after: PortVlans,
    },
    AddHostAddress {
        host_end: LinkName,
        address: IpNet,
    },
    RemoveHostAddress {
        host_end: LinkName,
        address: IpNet,
    },
    AddHostRoute {
        host_end: LinkName,
        to: IpNet,
    },
    RemoveHostRoute {
        host_end: LinkName,
        to: IpNet,
    },
    SetWireguard {
        name: LinkName,
        wireguard: Box<Wireguard>,
    },
    AddAddress {
        link: LinkName,
        address: Address,
        dad: Dad,
        /// It is there with another lifetime, which can be changed in place.
        replace: bool,
    },
    /// Takes an address away and puts it, or what it becomes, back without a moment in which it is not the namespace's.
    ReplaceAddress {
        link: LinkName,
        before: Address,
        after: Address,
    },
    RemoveAddress {
        link: LinkName,
        address: Address,
    },
    /// Without a link, it is a route that refuses packets. What it replaces may be on another link, or on none.
    SetRoute {
        link: Option<LinkName>,
        route: Route,
        replaces: Option<(Option<LinkName>, Route)>,
    },
    RemoveRoute {
        link: Option<LinkName>,
        route: Route,
    },
    AddRule(Rule),
    RemoveRule(Rule),
}

/// Lists what must change for `observed` to become `desired`.
#[must_use]
pub fn diff(observed: &State, desired: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut files_gone = Vec::new();
    for (path, before, after) in joined(&observed.files, &desired.files) {
        match (before, after) {
            (_, Some(after)) if before.is_none_or(|b| b.content != after.content) => {
                changes.push(Change::WriteFile { path: path.clone(), before: before.cloned(), after: after.content.clone() });
            }
            (Some(before), None) => files_gone.push(Change::RemoveFile { path: path.clone(), before: before.clone() }),
            _ => {}
        }
    }
    changes.append(&mut files_gone);
    for (name, after) in &desired.links {
        let before = observed.links.get(name);
        if before.is_none_or(|b| !b.has(after)) {
            changes.push(Change::HostLink { name: name.clone(), before: before.cloned(), after: Some(after.clone()) });
        }
    }
    for (name, before) in &observed.links {
        if !desired.links.contains_key(name) {
            changes.push(Change::HostLink { name: name.clone(), before: Some(before.clone()), after: None });
        }
    }
    for (name, after) in &desired.units {
        let before = observed.units.get(name).cloned().unwrap_or_default();
        if before != *after {
            changes.push(Change::Unit { name: name.clone(), before, after: after.clone() });
        }
    }
    for (name, before) in &observed.units {
        if !desired.units.contains_key(name) && *before != Unit::default() {
            changes.push(Change::Unit { name: name.clone(), before: before.clone(), after: Unit::default() });
        }
    }
    for (name, after) in &desired.clients {
        let before = observed.clients.get(name).copied();
        if before != Some(*after) {
            changes.push(Change::Client { name: name.clone(), before, after: true });
        }
    }
    for (name, before) in &observed.clients {
        if !desired.clients.contains_key(name) {
            changes.push(Change::Client { name: name.clone(), before: Some(*before), after: false });
        }
    }
    for (name, after) in &desired.netns {
        let in_netns = |change| Change::Netns { name: name.clone(), change };
        match observed.netns.get(name) {
            Some(before) => changes.extend(diff_netns(before, after).into_iter().map(in_netns)),
            None => {
                changes.push(in_netns(NetnsChange::Add));
                changes.extend(diff_netns(&Netns::default(), after).into_iter().map(in_netns));
            }
        }
    }
    for name in observed.netns.keys().filter(|name| !desired.netns.contains_key(name)) {
        changes.push(Change::Netns { name: name.clone(), change: NetnsChange::Remove });
    }
    changes
}

/// Lists what a namespace has that another one is to have and that cannot be in both: an address would be a duplicate, the name of a
/// host end or a physical link is taken. Loopback addresses may be in several.
#[must_use]
pub fn gives(name: &NetnsName, has: &Netns, wanted: &BTreeMap<NetnsName, Netns>) -> Vec<NetnsChange> {
    let stays = |address: &Address| wanted.get(name).is_some_and(|netns| has_address(netns, address));
    let is_taken = |give: &NetnsChange| wanted.iter().any(|(other, netns)| other != name && takes(netns, give));
    let mut gives = Vec::new();
    for (name, link) in &has.links {
        let whole = NetnsChange::RemoveLink { name: name.clone(), kind: Box::new(link.kind.clone()) };
        if is_taken(&whole) {
            gives.push(whole);
            continue;
        }
        let addresses = link.addresses.iter().filter(|address| !stays(address));
        let addresses = addresses.map(|address| NetnsChange::RemoveAddress { link: name.clone(), address: address.clone() });
        gives.extend(addresses.filter(is_taken));
    }
    gives
}

/// Tells whether a namespace is to have what is taken from another one.
#[must_use]
pub fn takes(netns: &Netns, give: &NetnsChange) -> bool {
    match give {
        NetnsChange::RemoveAddress { address, .. } => has_address(netns, address),
        NetnsChange::RemoveLink { kind, .. } => netns.links.values().any(|link| match (&link.kind, &**kind) {
            (Kind::Veth(end), Kind::Veth(other)) => end.name == other.name,
            (Kind::Physical { parent }, Kind::Physical { parent: other }) => parent == other,
            _ => false,
        }),
        _ => false,
    }
}

fn has_address(netns: &Netns, address: &Address) -> bool {
    netns.links.values().flat_map(|link| &link.addresses).any(|other| other.address.addr() == address.address.addr())
}

/// Tells whether two changes take away the same; how an address is written does not matter.
#[must_use]
pub fn takes_the_same(one: &NetnsChange, other: &NetnsChange) -> bool {
    use NetnsChange::{RemoveAddress, RemoveLink};
    match (one, other) {
        // what it was made with and what is seen of it may differ
        (RemoveLink { name, .. }, RemoveLink { name: other, .. }) => name == other,
        (RemoveAddress { link, address }, RemoveAddress { link: other_link, address: other }) => {
            link == other_link && address.address.addr() == other.address.addr()
        }
        _ => one == other,
    }
}

/// Lists the changes within one namespace, in the order in which they can be made: what must be out of the way goes first, what
/// is new comes before what it replaces goes, so that a service is never without an address or a route that stays.
#[must_use]
pub fn diff_netns(observed: &Netns, desired: &Netns) -> Vec<NetnsChange> {
    let Netns { source: _, places: _, sysctl, sysctl_before: _, ruleset, loopback_addresses, routes: _, rules, links, drift: _ } = desired;
    let on_links = links.values().flat_map(|link| &link.addresses);
    let wanted = loopback_addresses.iter().chain(on_links).map(|address| address.address.addr()).collect();
    let mut phases = Phases { wanted, ..Phases::default() };
    diff_drift(&observed.drift, &mut phases);
    let is_new = |name: &LinkName| before(observed, desired, name).is_none();
    let of_new_link = |key: &str| links.keys().any(|name| is_new(name) && is_parameter_of(key, name));
    for (key, value) in sysctl {
        if observed.sysctl.get(key) != Some(value) && !of_new_link(key) {
            phases.first.push(NetnsChange::SetSysctl { key: key.clone(), value: value.clone() });
        }
    }
    let mut links_gone = Vec::new();
    for (name, link) in &observed.links {
        if is_new(name) {
            let remove = NetnsChange::RemoveLink { name: name.clone(), kind: Box::new(link.kind.clone()) };
            let mut new = links.iter().filter(|(name, _)| is_new(name));
            let address_moves = link.addresses.iter().any(|address| phases.wanted.contains(&address.address.addr()));
            let in_the_way = address_moves || new.any(|new| is_in_the_way((name, link), new));
            if in_the_way { phases.first.push(remove) } else { links_gone.push(remove) }
        }
    }
    if observed.ruleset != *ruleset {
        // before any link is set up
        phases.links.push(NetnsChange::SetRuleset { before: observed.ruleset.clone(), after: ruleset.clone() });
    }
    let canonical = |addresses: &[Address]| -> Vec<_> { addresses.iter().map(|a| a.canonical(&LinkName::loopback())).collect() };
    let (now, goal) = (canonical(&observed.loopback_addresses), canonical(loopback_addresses));
    diff_addresses(&LinkName::loopback(), &now, &goal, Dad::Off, &mut phases);
    for (name, after) in links {
        match before(observed, desired, name) {
            Some(before) => diff_link(name, before, after, (&observed.sysctl, sysctl), &mut phases),
            None => {
                let bare = Link { addresses: Vec::new(), routes: Vec::new(), ..after.clone() };
                phases.links.push(NetnsChange::AddLink { name: name.clone(), link: Box::new(bare.clone()) });
                // what a link is like before anything is said to it
                let new = Link { up: false, kind: as_made(&after.kind), ..bare };
                let parameters: BTreeMap<_, _> = link_settings(name, Dad::Wait, false).map(|(key, value)| (key, value.to_owned())).into();
                for (key, value) in sysctl.iter().filter(|(key, _)| is_parameter_of(key, name)) {
                    if parameters.get(key) != Some(value) {
                        phases.links.push(NetnsChange::SetSysctl { key: key.clone(), value: value.clone() });
                    }
                }
                diff_link(name, &new, after, (&parameters, sysctl), &mut phases);
            }
        }
    }
    let routes_gone = diff_routes(observed, desired, &mut phases);
    // a rule comes after the routes of its table and goes before them
    phases.add.extend(rules.difference(&observed.rules).cloned().map(NetnsChange::AddRule));
    let rules_gone = observed.rules.difference(rules).cloned().map(NetnsChange::RemoveRule).collect();
    let Phases { wanted: _, first, links, add, last } = phases;
    [first, links, add, rules_gone, routes_gone, last, links_gone].into_iter().flatten().collect()
}

/// Names first, for everything else calls links by them.
fn diff_drift(drift: &Drift, phases: &mut Phases) {
    let Drift { is_nameless, loopback_is_down, lost_rules, renamed, renamed_ends } = drift;
    phases.first.extend(is_nameless.then_some(NetnsChange::Name));
    let rename = |(name, called): (&LinkName, &LinkName)| NetnsChange::RenameLink { name: name.clone(), called: called.clone() };
    phases.first.extend(renamed.iter().map(rename));
    let rename = |(end, called): (&LinkName, &LinkName)| NetnsChange::RenameHostEnd { host_end: end.clone(), called: called.clone() };
    phases.first.extend(renamed_ends.iter().map(rename));
    if *loopback_is_down {
        phases.links.push(NetnsChange::SetUp { name: LinkName::loopback(), host_end: None });
    }
    // without them no gateway is reached
    phases.links.extend(lost_rules.iter().cloned().map(NetnsChange::AddRule));
}

/// Gives what a link was before; none if it is new, is made anew, or goes.
fn before<'a>(observed: &'a Netns, desired: &Netns, link: &LinkName) -> Option<&'a Link> {
    let after = desired.links.get(link)?;
    observed.links.get(link).filter(|before| before.kind.is_same_link(&after.kind))
}

/// Tells whether a link has to go before a new one can come: names, MAC addresses, parents and ports of tunnels cannot serve both.
/// Any other goes last, so that its routes can be replaced.
fn is_in_the_way((old_name, old): (&LinkName, &Link), (new_name, new): (&LinkName, &Link)) -> bool {
    let macs = |link: &Link| -> BTreeSet<Mac> { link.mac.into_iter().chain(link.kind.host_end().and_then(|end| end.mac)).collect() };
    old_name == new_name
        || !macs(old).is_disjoint(&macs(new))
        || match (&old.kind, &new.kind) {
            (Kind::Veth(old), Kind::Veth(new)) => old.name == new.name,
            (Kind::Wireguard(_), Kind::Wireguard(_)) => true,
            (old, new) => old.parent().is_some() && old.parent() == new.parent(),
        }
}

/// What a link has of its kind when it has just been made: names, MAC addresses and the bridge come in the one creating message.
fn as_made(kind: &Kind) -> Kind {
    match kind {
        Kind::Veth(end) => {
            Kind::Veth(HostEnd { addresses: BTreeSet::new(), routes: BTreeSet::new(), port: Port::default(), ..end.clone() })
        }
        Kind::Wireguard(_) => Kind::Wireguard(Wireguard::default()),
        other => other.clone(),
    }
}

/// Tells whether a kernel parameter is one of a link: it is there only as long as the link is.
fn is_parameter_of(key: &str, link: &LinkName) -> bool {
    let rest =
        ["net.ipv4.conf.", "net.ipv4.neigh.", "net.ipv6.conf.", "net.ipv6.neigh."].iter().find_map(|prefix| key.strip_prefix(prefix));
    let of_link = rest.and_then(|rest| rest.split_once('.')).map(|(name, _)| name);
    // a dot in a link's name is a slash in a key
    of_link.is_some_and(|name| name.chars().map(|c| if c == '/' { '.' } else { c }).eq(link.as_str().chars()))
}

#[derive(Default)]
struct Phases {
    /// Every address that some link is to have.
    wanted: BTreeSet<IpAddr>,
    first: Vec<NetnsChange>,
    links: Vec<NetnsChange>,
    add: Vec<NetnsChange>,
    last: Vec<NetnsChange>,
}

/// `parameters` are the kernel parameters that there are, `explicit` those that the namespace asks for itself.
fn diff_link(
    name: &LinkName,
    before: &Link,
    after: &Link,
    (parameters, explicit): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    phases: &mut Phases,
) {
    // announce is something that happens, not something that is
    let Link { up, mac, mtu, dad, accept_ra, announce: _, addresses, routes: _, kind } = after;
    // before the link is up, or the first router advertisement and the first duplicate detection go by the old values; a kernel
    // without IPv6 has no such parameters
    for (key, value) in link_settings(name, *dad, *accept_ra) {
        let asked_for = !explicit.contains_key(&key) && parameters.get(&key).is_some_and(|now| now != value);
        if asked_for {
            phases.links.push(NetnsChange::SetSysctl { key, value: value.to_owned() });
        }
    }
    if let Some(mac) = mac.filter(|m| before.mac != Some(*m)) {
        phases.links.push(NetnsChange::SetMac { name: name.clone(), mac });
    }
    let host_end = kind.host_end().map(|end| end.name.clone());
    if let Some(mtu) = mtu.filter(|m| before.mtu != Some(*m)) {
        phases.links.push(NetnsChange::SetMtu { name: name.clone(), host_end: host_end.clone(), mtu });
    }
    match (&before.kind, kind) {
        (Kind::Veth(before), Kind::Veth(after)) => diff_host_end(before, after, phases),
        (Kind::Wireguard(before), Kind::Wireguard(after)) if before != after => {
            phases.links.push(NetnsChange::SetWireguard { name: name.clone(), wireguard: Box::new(after.clone()) });
        }
        _ => {}
    }
    if *up && !before.up {
        let is_new = phases.links.iter().any(|c| matches!(c, NetnsChange::AddLink { name: new, .. } if new == name));
        phases.links.push(NetnsChange::SetUp { name: name.clone(), host_end: host_end.filter(|_| !is_new) });
    }

    let wanted: Vec<Address> = addresses.iter().map(|a| a.canonical(name)).collect();
    let present: Vec<Address> = before.addresses.iter().map(|a| a.canonical(name)).collect();
    diff_addresses(name, &present, &wanted, *dad, phases);
}

fn diff_host_end(before: &HostEnd, after: &HostEnd, phases: &mut Phases) {
    let HostEnd { name, mac, bridge, addresses, routes, port } = after;
    let host_end = || name.clone();
    if let Some(mac) = mac.filter(|m| before.mac != Some(*m)) {
        phases.links.push(NetnsChange::SetHostMac { host_end: host_end(), mac });
    }
    if before.bridge != *bridge {
        phases.links.push(NetnsChange::SetBridge { host_end: host_end(), bridge: bridge.clone() });
    }
    // a port that joins another bridge begins with that bridge's settings
    let now = if before.bridge == *bridge { before.port.clone() } else { Port::default() };
    let changed = Port {
        isolated: port.isolated.filter(|v| now.isolated != Some(*v)),
        hairpin: port.hairpin.filter(|v| now.hairpin != Some(*v)),
        learning: port.learning.filter(|v| now.learning != Some(*v)),
        neighbor_suppression: port.neighbor_suppression.filter(|v| now.neighbor_suppression != Some(*v)),
        fast_leave: port.fast_leave.filter(|v| now.fast_leave != Some(*v)),
        cost: port.cost.filter(|v| now.cost != Some(*v)),
        priority: port.priority.filter(|v| now.priority != Some(*v)),
        vlans: None,
    };
    if changed != Port::default() {
        phases.links.push(NetnsChange::SetPort { host_end: host_end(), port: Box::new(changed) });
    }
    if let Some(vlans) = port.vlans.as_ref().filter(|vlans| now.vlans.as_ref() != Some(*vlans)) {
        let before = now.vlans.unwrap_or_default();
        phases.links.push(NetnsChange::SetVlans { host_end: host_end(), before, after: vlans.clone() });
    }
    let add = |address: &IpNet| NetnsChange::AddHostAddress { host_end: host_end(), address: *address };
    let remove = |address: &IpNet| NetnsChange::RemoveHostAddress { host_end: host_end(), address: *address };
    phases.links.extend(addresses.difference(&before.addresses).map(add));
    phases.last.extend(before.addresses.difference(addresses).map(remove));
    let add = |to: &IpNet| NetnsChange::AddHostRoute { host_end: host_end(), to: *to };
    let remove = |to: &IpNet| NetnsChange::RemoveHostRoute { host_end: host_end(), to: *to };
    // when it is up
    phases.add.extend(routes.difference(&before.routes).map(add));
    phases.last.extend(before.routes.difference(routes).map(remove));
}

/// A route, and the link that it goes out by.
type Placed<'a> = (Option<&'a LinkName>, &'a Route);

fn routes_of(netns: &Netns) -> impl Iterator<Item = Placed<'_>> {
    let on_links = netns.links.iter().flat_map(|(name, link)| link.routes.iter().map(move |route| (Some(name), route)));
    netns.routes.iter().map(|route| (None, route)).chain(on_links)
}

/// Gives the removals. The kernel has one route of a key, wherever it goes: one that moves to another link, or becomes one that
/// refuses packets, is replaced in one message, without a moment in which there is none.
fn diff_routes(observed: &Netns, desired: &Netns, phases: &mut Phases) -> Vec<NetnsChange> {
    let by_key = |netns| -> BTreeMap<RouteKey, Placed> { routes_of(netns).map(|(link, route)| (route.key(), (link, route))).collect() };
    let (now, goal) = (by_key(observed), by_key(desired));
    let stays = |link: Option<&LinkName>| link.is_none_or(|link| before(observed, desired, link).is_some());
    // a route straight out of a link may be the one that reaches the gateway of another
    let (direct, by_gateway): (Vec<_>, Vec<_>) = routes_of(desired).partition(|(_, route)| route.via.is_none());
    for (link, route) in direct.into_iter().chain(by_gateway) {
        let old = now.get(&route.key());
        let is_there = |(old_link, old): &Placed| *old_link == link && old.canonical() == route.canonical() && stays(link);
        if !old.is_some_and(is_there) {
            // one of the link itself went with it, if the link is made anew
            let replaces = old.filter(|(old_link, _)| *old_link != link || stays(link));
            let replaces = replaces.map(|(link, route)| (link.cloned(), (*route).clone()));
            phases.add.push(NetnsChange::SetRoute { link: link.cloned(), route: route.clone(), replaces });
        }
    }
    // those of a link that goes need no words
    let gone = now.into_iter().rev().filter(|(key, (link, _))| !goal.contains_key(key) && stays(*link));
    gone.map(|(_, (link, route))| NetnsChange::RemoveRoute { link: link.cloned(), route: route.clone() }).collect()
}

/// The addresses of one link, in the kernel's form.
fn diff_addresses(link: &LinkName, present: &[Address], wanted: &[Address], dad: Dad, phases: &mut Phases) {
    let is_v4 = |a: &Address| a.address.addr().is_ipv4();
    let add = |address: &Address, dad, replace| NetnsChange::AddAddress { link: link.clone(), address: address.clone(), dad, replace };
    let remove = |address: &Address| NetnsChange::RemoveAddress { link: link.clone(), address: address.clone() };
    let in_place = |a: &Address| present.iter().any(|p| p != a && Address { deprecated: a.deprecated, ..p.clone() } == *a);
    let (changed, added): (Vec<_>, Vec<_>) = wanted.iter().filter(|a| !present.contains(a)).partition(|a| in_place(a));
    let gone: Vec<_> =
        present.iter().filter(|p| !wanted.contains(p) && !changed.iter().any(|a| a.address == p.address && a.peer == p.peer)).collect();

    // The kernel knows an IPv6 address of a link by the address alone, an IPv4 address by its prefix length too.
    let takes_its_place = |a: &Address, b: &Address| if is_v4(a) { a.address == b.address } else { a.address.addr() == b.address.addr() };
    // Backwards: when the first IPv4 address of a subnet goes, the kernel makes another one the first, and best only once.
    for address in gone.iter().rev().filter(|old| !added.iter().any(|new| takes_its_place(old, new))) {
        // An IPv6 address that another link is to have goes first, or that link's duplicate detection finds it here. Anything else
        // goes last, because the last IPv4 address takes all routes of the link with it.
        let ip = address.address.addr();
        let phase = if ip.is_ipv6() && phases.wanted.contains(&ip) { &mut phases.first } else { &mut phases.last };
        phase.push(remove(address));
    }
    // The kernel prefers the IPv6 address added last and the IPv4 address added first; so that the first of the list is the
    // default source in both families, IPv6 addresses are added backwards.
    let (v4, v6): (Vec<&Address>, Vec<&Address>) = added.iter().copied().partition(|a| is_v4(a));
    let replace = |before: &Address, after: &Address| {
        let (before, after) = (before.clone(), after.clone());
        NetnsChange::ReplaceAddress { link: link.clone(), before, after }
    };
    phases.links.extend(v4.iter().chain(v6.iter().rev()).map(|new| match gone.iter().find(|old| takes_its_place(old, new)) {
        Some(old) => replace(old, new),
        None => add(new, dad, false),
    }));
    phases.links.extend(changed.iter().map(|address| add(address, dad, true)));

    // On a link that has been there, what is first in the list may not be what the kernel prefers. An address that is taken away
    // and put back is the last added again.
    let kept = present
        .iter()
        .filter(|p| !gone.contains(p))
        .map(|p| changed.iter().copied().find(|c| c.address == p.address && c.peer == p.peer).unwrap_or(p));
    let preferred: Vec<&Address> = v6.iter().copied().chain(kept).chain(v4.iter().copied()).collect();
    let again = out_of_order(&preferred, wanted);
    phases.links.extend(again.into_iter().map(|address| replace(address, address)));
}

/// Lists the addresses that have to be added once more, so that of each family the kernel prefers the one that is first in `wanted`.
/// `now` has them in the order of the kernel's preference: the last one added is before the others for IPv6, after them for IPv4.
fn out_of_order<'a>(now: &[&'a Address], wanted: &'a [Address]) -> Vec<&'a Address> {
    let is_v4 = |a: &Address| a.address.addr().is_ipv4();
    let mut again = Vec::new();
    let usable = |a: &&Address| !is_v4(a) && !a.deprecated;
    let first = wanted.iter().find(usable);
    if first.map(|a| a.address) != now.iter().copied().find(usable).map(|a| a.address) {
        again.extend(first);
    }
    // IPv4 chooses within the subnet that the other side is in
    let subnets: BTreeSet<IpNet> = wanted.iter().filter(|a| is_v4(a)).map(|a| a.address.trunc()).collect();
    for subnet in subnets {
        let inside = |a: &&Address| is_v4(a) && a.address.trunc() == subnet;
        let first = wanted.iter().find(inside).map(|a| a.address);
        again.extend(now.iter().copied().filter(inside).take_while(|a| Some(a.address) != first));
    }
    again
}

/// The kernel parameters that `dad` and `accept-ra` of a link stand for. What every namespace sets for `default` makes a new link
/// have those of `Dad::Wait` and no router advertisements.
#[must_use]
pub fn link_settings(link: &LinkName, dad: Dad, accept_ra: bool) -> [(String, &'static str); 5] {
    // a dot in a link's name is a slash in a key (sysctl(8))
    let link = link.as_str().replace('.', "/");
    let switch = |on| if on { "1" } else { "0" };
    let optimistic = dad == Dad::Optimistic;
    [
        ("accept_ra", accept_ra),
        ("autoconf", accept_ra),
        ("optimistic_dad", optimistic),
        ("use_optimistic", optimistic),
        ("router_solicitation_delay", dad == Dad::Rfc),
    ]
    .map(|(key, on)| (format!("net.ipv6.conf.{link}.{key}"), switch(on)))
}

impl NetnsChange {
    /// The link inside that it adds, removes, or puts something on.
    #[must_use]
    pub fn link(&self) -> Option<&LinkName> {
        match self {
            Self::AddLink { name: link, .. }
            | Self::RemoveLink { name: link, .. }
            | Self::SetMac { name: link, .. }
            | Self::SetMtu { name: link, .. }
            | Self::SetUp { name: link, .. }
            | Self::SetWireguard { name: link, .. }
            | Self::AddAddress { link, .. }
            | Self::ReplaceAddress { link, .. }
            | Self::RemoveAddress { link, .. }
            | Self::SetRoute { link: Some(link), .. }
            | Self::RemoveRoute { link: Some(link), .. } => Some(link),
            _ => None,
        }
    }

    /// The host end that it is about.
    #[must_use]
    pub fn host_end(&self) -> Option<&LinkName> {
        match self {
            Self::SetHostMac { host_end, .. }
            | Self::SetBridge { host_end, .. }
            | Self::SetPort { host_end, .. }
            | Self::SetVlans { host_end, .. }
            | Self::AddHostAddress { host_end, .. }
            | Self::RemoveHostAddress { host_end, .. }
            | Self::AddHostRoute { host_end, .. }
            | Self::RemoveHostRoute { host_end, .. } => Some(host_end),
            _ => None,
        }
    }
}

impl fmt::Display for NetnsChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add => f.write_str("add network namespace"),
            Self::Remove => f.write_str("remove network namespace"),
            Self::Name => f.write_str("give network namespace its name again"),
            Self::SetSysctl { key, value } => write!(f, "set {key} to {value}"),
            Self::SetRuleset { before: None, after: Some(_) } => f.write_str("load nftables ruleset"),
            Self::SetRuleset { after: Some(_), .. } => f.write_str("replace nftables ruleset"),
            Self::SetRuleset { after: None, .. } => f.write_str("remove nftables ruleset"),
            Self::AddLink { name, link } => match &link.kind {
                Kind::Physical { parent } => write!(f, "move the host's link '{parent}' in as '{name}'"),
                kind => write!(f, "add link '{name}' with {kind}"),
            },
            Self::RemoveLink { name, kind } => match &**kind {
                Kind::Physical { parent } => write!(f, "give link '{name}' back to the host as '{parent}'"),
                Kind::Veth(HostEnd { name: host_end, .. }) => write!(f, "remove link '{name}' with host end '{host_end}'"),
                other => write!(f, "remove link '{name}' with {other}"),
            },
            Self::SetMac { name, mac } => write!(f, "set MAC address of link '{name}' to {mac}"),
            Self::SetHostMac { host_end, mac } => write!(f, "set MAC address of host end '{host_end}' to {mac}"),
            Self::SetMtu { name, host_end: Some(host_end), mtu } => {
                write!(f, "set MTU of link '{name}' and host end '{host_end}' to {mtu}")
            }
            Self::SetMtu { name, host_end: None, mtu } => write!(f, "set MTU of link '{name}' to {mtu}"),
            Self::SetUp { name, host_end: Some(host_end) } => write!(f, "set link '{name}' and host end '{host_end}' up"),
            Self::SetUp { name, host_end: None } => write!(f, "set link '{name}' up"),
            Self::RenameLink { name, called } => write!(f, "rename link '{called}' to '{name}'"),
            Self::RenameHostEnd { host_end, called } => write!(f, "rename host end '{called}' to '{host_end}'"),
            Self::SetBridge { host_end, bridge: Some(bridge) } => write!(f, "put host end '{host_end}' on bridge '{bridge}'"),
            Self::SetBridge { host_end, bridge: None } => write!(f, "take host end '{host_end}' from its bridge"),
            Self::SetPort { host_end, port } => write!(f, "set port '{host_end}': {port}"),
            Self::SetVlans { host_end, after, .. } => write!(f, "set VLANs of port '{host_end}': {after}"),
            Self::AddHostAddress { host_end, address } => write!(f, "add address {address} to host end '{host_end}'"),
            Self::RemoveHostAddress { host_end, address } => write!(f, "remove address {address} from host end '{host_end}'"),
            Self::AddHostRoute { host_end, to } => write!(f, "add route {to} to host end '{host_end}'"),
            Self::RemoveHostRoute { host_end, to } => write!(f, "remove route {to} from host end '{host_end}'"),
            Self::SetWireguard { name, .. } => write!(f, "set keys and peers of WireGuard link '{name}'"),
            Self::AddAddress { link, address, replace: true, .. } => write!(f, "change address {address} of link '{link}'"),
            Self::AddAddress { link, address, .. } => write!(f, "add address {address} to link '{link}'"),
            Self::ReplaceAddress { link, before, after } if before == after => {
                write!(f, "move address {after} of link '{link}' to its place among the others")
            }
            Self::ReplaceAddress { link, before, after } => write!(f, "replace address {before} by {after} on link '{link}'"),
            Self::RemoveAddress { link, address } => write!(f, "remove address {address} from link '{link}'"),
            Self::SetRoute { link: None, route, replaces: None } => write!(f, "add route {route}"),
            Self::SetRoute { link: Some(link), route, replaces: None } => write!(f, "add route {route} to link '{link}'"),
            Self::SetRoute { link, route, replaces: Some((old_link, old)) } => {
                write!(f, "replace route {old}")?;
                if let Some(old_link) = old_link.as_ref().filter(|_| old_link != link) {
                    write!(f, " on link '{old_link}'")?;
                }
                write!(f, " by {route}")?;
                link.as_ref().map_or(Ok(()), |link| write!(f, " on link '{link}'"))
            }
            Self::RemoveRoute { link: None, route } => write!(f, "remove route {route}"),
            Self::RemoveRoute { link: Some(link), route } => write!(f, "remove route {route} from link '{link}'"),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::RemoveRule(rule) => write!(f, "remove rule {rule}"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteFile { path, before: None, .. } => write!(f, "add file {}", path.display()),
            Self::WriteFile { path, before: Some(_), .. } => write!(f, "change file {}", path.display()),
            Self::RemoveFile { path, .. } => write!(f, "remove file {}", path.display()),
            Self::HostLink { name, before, after: Some(after) } => write_host_link(f, name, before.as_ref(), after),
            Self::HostLink { name, before: Some(HostLink { is_bridge: false, master: Some(bridge), .. }), after: None } => {
                write!(f, "take link '{name}' from bridge '{bridge}'")
            }
            Self::HostLink { name, after: None, .. } => write!(f, "remove link '{name}'"),
            Self::Unit { name, before, after } => write_unit(f, name, before, after),
            Self::Netns { name, change: change @ (NetnsChange::Add | NetnsChange::Remove) } => {
                write!(f, "{change} '{name}'")
            }
            Self::Netns { name, change: NetnsChange::Name } => write!(f, "give network namespace '{name}' its name again"),
            Self::Netns { name, change } => write!(f, "{change} in netns '{name}'"),
            Self::Client { name, before: None, .. } => write!(f, "start DHCP client of netns '{name}'"),
            Self::Client { name, after: true, .. } => write!(f, "restart DHCP client of netns '{name}'"),
            Self::Client { name, after: false, .. } => write!(f, "stop DHCP client of netns '{name}'"),
        }
    }
}

fn write_host_link(f: &mut fmt::Formatter<'_>, name: &LinkName, before: Option<&HostLink>, after: &HostLink) -> fmt::Result {
    let HostLink { is_bridge, up, master, mac, mtu, addresses, stp, vlan_filtering, vlans } = after;
    let Some(before) = before else {
        write!(f, "add {} '{name}'", if *is_bridge { "bridge" } else { "link" })?;
        return master.as_ref().map_or(Ok(()), |bridge| write!(f, " to bridge '{bridge}'"));
    };
    let mut parts = Vec::new();
    if *is_bridge && !before.is_bridge {
        parts.push("make it a bridge".to_owned());
    }
    if *up && !before.up {
        parts.push("set it up".to_owned());
    }
    if let Some(bridge) = master.as_ref().filter(|_| before.master != *master) {
        parts.push(format!("put it on bridge '{bridge}'"));
    }
    if let Some(mac) = mac.filter(|_| before.mac != *mac) {
        parts.push(format!("set its MAC address to {mac}"));
    }
    if let Some(mtu) = mtu.filter(|_| before.mtu != *mtu) {
        parts.push(format!("set its MTU to {mtu}"));
    }
    parts.extend(addresses.difference(&before.addresses).map(|a| format!("add address {a}")));
    let switch = |name: &str, on: bool| format!("turn {name} {}", if on { "on" } else { "off" });
    parts.extend(stp.filter(|_| before.stp != *stp).map(|on| switch("spanning tree", on)));
    parts.extend(vlan_filtering.filter(|_| before.vlan_filtering != *vlan_filtering).map(|on| switch("VLAN filtering", on)));
    if let Some(vlans) = vlans.as_ref().filter(|vlans| !before.vlans.as_ref().is_some_and(|before| before.has(vlans))) {
        parts.push(format!("set its VLANs: {vlans}"));
    }
    write!(f, "link '{name}': {}", parts.join(", "))
}

fn write_unit(f: &mut fmt::Formatter<'_>, name: &UnitName, before: &Unit, after: &Unit) -> fmt::Result {
    match (&before.bound_to, &after.bound_to) {
        (None, Some(netns)) => write!(f, "bind {name} to netns '{netns}'"),
        (Some(old), Some(netns)) if old != netns => write!(f, "bind {name} to netns '{netns}' instead of '{old}'"),
        (Some(netns), None) => write!(f, "release {name} from netns '{netns}'"),
        (Some(_), Some(_)) if before.runs_in == after.runs_in => {
            write!(f, "restart {name} so that it sees {} as it is now", before.etc_changes(after))
        }
        (_, Some(netns)) => write!(f, "restart {name} so that it runs in netns '{netns}'"),
        (None, None) => write!(f, "restart {name} so that it runs on the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_link() {
        let is_of = |key: &str, link: &str| is_parameter_of(key, &LinkName::parse(link).unwrap());
        assert!(is_of("net.ipv4.conf.eth0.arp_notify", "eth0") && is_of("net.ipv6.neigh.eth0/20.retrans_time_ms", "eth0.20"));
        for other in [
            "net.ipv4.conf.eth01.arp_notify",
            "net.ipv4.conf.eth.arp_notify",
            "net.ipv4.conf.eth0/20.arp_notify",
            "net.ipv4.eth0.x",
            "net.ipv4.conf.eth0",
        ] {
            assert!(!is_of(other, "eth0"), "{other}");
        }
    }
}
