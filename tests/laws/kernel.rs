//! What the kernel does with each change, as far as it would refuse it. How it treats routes was measured (tests/netns.rs).

use std::collections::{BTreeMap, BTreeSet};

use netns_networkd::diff::{NetnsChange, link_settings};
use netns_networkd::model::{Address, Dad, HostEnd, Kind, Link, LinkName, Netns, Port, PortVlans, Route, RouteKey, RouteType, Wireguard};

/// A namespace and what is on the host for it; addresses in the order in which the kernel prefers them.
pub struct Kernel(pub Netns);

/// A new bridge port.
fn new_port() -> Port {
    Port {
        isolated: Some(false),
        hairpin: Some(false),
        learning: Some(true),
        neighbor_suppression: Some(false),
        fast_leave: Some(false),
        cost: Some(2),
        priority: Some(32),
        vlans: Some(PortVlans { untagged: Some(1), tagged: BTreeSet::new() }),
    }
}

/// Every route, and the link that it goes out by.
pub fn routes(netns: &Netns) -> impl Iterator<Item = (Option<&LinkName>, &Route)> {
    let on_links = netns.links.iter().flat_map(|(name, link)| link.routes.iter().map(move |route| (Some(name), route)));
    netns.routes.iter().map(|route| (None, route)).chain(on_links)
}

impl Kernel {
    fn link(&mut self, name: &LinkName) -> &mut Link {
        assert!(!self.0.drift.renamed.contains_key(name), "link '{name}' has another name");
        self.0.links.get_mut(name).unwrap_or_else(|| panic!("link '{name}' does not exist"))
    }

    fn end(&mut self, name: &LinkName) -> &mut HostEnd {
        assert!(!self.0.drift.renamed_ends.contains_key(name), "host end '{name}' has another name");
        let ends = self.0.links.values_mut().filter_map(|link| if let Kind::Veth(end) = &mut link.kind { Some(end) } else { None });
        ends.into_iter().find(|end| end.name == *name).unwrap_or_else(|| panic!("host end '{name}' does not exist"))
    }

    fn port(&mut self, name: &LinkName) -> &mut Port {
        let end = self.end(name);
        assert!(end.bridge.is_some(), "'{name}' is no bridge port: EOPNOTSUPP");
        &mut end.port
    }

    fn addresses(&mut self, link: &LinkName) -> &mut Vec<Address> {
        if *link == LinkName::loopback() { &mut self.0.loopback_addresses } else { &mut self.link(link).addresses }
    }

    fn routes(&mut self, link: Option<&LinkName>) -> &mut Vec<Route> {
        match link {
            Some(link) => &mut self.link(link).routes,
            None => &mut self.0.routes,
        }
    }

    /// The one route of a key in a table, wherever it goes.
    fn take_route(&mut self, key: RouteKey) -> Option<(Option<LinkName>, Route)> {
        let (link, route) = routes(&self.0).find(|(_, route)| route.key() == key).map(|(link, route)| (link.cloned(), route.clone()))?;
        self.routes(link.as_ref()).retain(|route| route.key() != key);
        Some((link, route))
    }

    fn add_link(&mut self, change: &NetnsChange, name: &LinkName, link: &Link) {
        assert!(link.addresses.is_empty() && link.routes.is_empty(), "{change}: a new link has none");
        let mut link = Link { up: false, ..link.clone() };
        let is_macvlan = matches!(link.kind, Kind::Macvlan { .. });
        for other in self.0.links.values() {
            let shared = link.kind.parent().filter(|parent| other.kind.parent() == Some(*parent));
            let both_macvlan = is_macvlan && matches!(other.kind, Kind::Macvlan { .. });
            assert!(both_macvlan || shared.is_none(), "{change}: EBUSY, or the link has been moved");
            let names = (link.kind.host_end().map(|end| &end.name), other.kind.host_end().map(|end| &end.name));
            assert!(names.0.is_none() || names.0 != names.1, "{change}: the host end exists");
        }
        match &mut link.kind {
            Kind::Veth(end) => {
                end.addresses = BTreeSet::new();
                end.port = if end.bridge.is_some() { new_port() } else { Port::default() };
            }
            Kind::Wireguard(wireguard) => *wireguard = Wireguard::default(),
            Kind::Macvlan { .. } | Kind::Ipvlan { .. } | Kind::Physical { .. } | Kind::Dummy => {}
        }
        self.0.sysctl.extend(link_settings(name, Dad::Wait, false).map(|(key, value)| (key, value.to_owned())));
        assert!(self.0.links.insert(name.clone(), link).is_none(), "{change}: it exists");
    }

    pub fn apply(&mut self, change: &NetnsChange) {
        match change.clone() {
            NetnsChange::Add => {
                assert_eq!(self.0, Netns::default());
            }
            NetnsChange::Remove => self.0 = Netns::default(),
            NetnsChange::SetSysctl { key, value } => {
                assert_ne!(self.0.sysctl.insert(key, value.clone()), Some(value), "{change}: it has that value");
            }
            NetnsChange::SetRuleset { before, after } => {
                assert_ne!(before, after, "{change}: it is loaded");
                assert_eq!(self.0.ruleset, before, "{change}: ENOENT or EEXIST");
                self.0.ruleset = after;
            }
            NetnsChange::AddLink { name, link } => self.add_link(change, &name, &link),
            NetnsChange::RemoveLink { name, kind } => {
                assert_eq!(self.0.links.remove(&name).expect("it exists").kind, *kind);
            }
            NetnsChange::SetMac { name, mac } => self.link(&name).mac = Some(mac),
            NetnsChange::SetHostMac { host_end, mac } => self.end(&host_end).mac = Some(mac),
            NetnsChange::SetMtu { name, host_end, mtu } => {
                assert_eq!(self.link(&name).kind.host_end().map(|end| &end.name), host_end.as_ref());
                self.link(&name).mtu = Some(mtu);
            }
            NetnsChange::Name => self.0.drift.is_nameless = false,
            NetnsChange::RenameLink { name, called } => assert_eq!(self.0.drift.renamed.remove(&name), Some(called)),
            NetnsChange::RenameHostEnd { host_end, called } => assert_eq!(self.0.drift.renamed_ends.remove(&host_end), Some(called)),
            NetnsChange::SetUp { name, host_end: _ } if name == LinkName::loopback() => self.0.drift.loopback_is_down = false,
            NetnsChange::SetUp { name, host_end } => {
                assert!(host_end.is_none() || self.link(&name).kind.host_end().map(|end| &end.name) == host_end.as_ref());
                self.link(&name).up = true;
            }
            NetnsChange::SetBridge { host_end, bridge } => {
                let end = self.end(&host_end);
                end.port = if bridge.is_some() { new_port() } else { Port::default() };
                end.bridge = bridge;
            }
            NetnsChange::SetPort { host_end, port } => {
                // every field is named, so that a new one is not forgotten
                let Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans } = *port;
                assert_eq!(vlans, None, "{change}: a change of its own");
                let is = self.port(&host_end);
                *is = Port {
                    isolated: isolated.or(is.isolated),
                    hairpin: hairpin.or(is.hairpin),
                    learning: learning.or(is.learning),
                    neighbor_suppression: neighbor_suppression.or(is.neighbor_suppression),
                    fast_leave: fast_leave.or(is.fast_leave),
                    cost: cost.or(is.cost),
                    priority: priority.or(is.priority),
                    vlans: is.vlans.take(),
                };
            }
            NetnsChange::SetVlans { host_end, before, after } => {
                let port = self.port(&host_end);
                // of a new port nobody knows what its bridge gives it
                assert!(before == PortVlans::default() || Some(&before) == port.vlans.as_ref(), "{change}: {before:?}");
                port.vlans = Some(after);
            }
            NetnsChange::AddHostAddress { host_end, address } => {
                assert!(self.end(&host_end).addresses.insert(address), "{change}: EEXIST");
            }
            NetnsChange::RemoveHostAddress { host_end, address } => {
                assert!(self.end(&host_end).addresses.remove(&address), "{change}: EADDRNOTAVAIL");
            }
            NetnsChange::AddHostRoute { host_end, to } => assert!(self.end(&host_end).routes.insert(to), "{change}: EEXIST"),
            NetnsChange::RemoveHostRoute { host_end, to } => assert!(self.end(&host_end).routes.remove(&to), "{change}: ESRCH"),
            NetnsChange::SetWireguard { name, wireguard } => {
                let Kind::Wireguard(is) = &mut self.link(&name).kind else { panic!("{change}: EOPNOTSUPP") };
                assert_ne!(*is, *wireguard, "{change}: it has them");
                *is = *wireguard;
            }
            NetnsChange::AddAddress { link, address, dad: _, replace: true } => {
                let addresses = self.addresses(&link);
                let at =
                    addresses.iter().position(|a| a.address == address.address && a.canonical(&link).peer == address.canonical(&link).peer);
                let at = at.unwrap_or_else(|| panic!("{change}: nothing to change in {addresses:?}"));
                addresses[at] = address;
            }
            NetnsChange::AddAddress { link, address, dad: _, replace: false } => {
                let ipv6 = address.address.addr().is_ipv6();
                let addresses = self.addresses(&link);
                // of IPv4 the same address with another prefix length is another address
                let clash = |a: &Address| if ipv6 { a.address.addr() == address.address.addr() } else { a.address == address.address };
                assert!(!addresses.iter().any(clash), "{change}: EEXIST with {addresses:?}");
                if ipv6 { addresses.insert(0, address) } else { addresses.push(address) }
            }
            NetnsChange::ReplaceAddress { link, before, after } => {
                self.apply(&NetnsChange::RemoveAddress { link: link.clone(), address: before });
                self.apply(&NetnsChange::AddAddress { link, address: after, dad: Dad::Off, replace: false });
            }
            NetnsChange::RemoveAddress { link, address } => {
                let addresses = self.addresses(&link);
                let at = addresses.iter().position(|a| a.canonical(&link) == address.canonical(&link));
                addresses.remove(at.unwrap_or_else(|| panic!("{change}: EADDRNOTAVAIL in {addresses:?}")));
            }
            NetnsChange::SetRoute { link, route, replaces } => {
                assert_eq!(link.is_none(), route.kind != RouteType::Unicast, "{change}: EINVAL");
                let before = self.take_route(route.key());
                match &replaces {
                    None => assert_eq!(before, None, "{change}: EEXIST"),
                    // what is to be replaced may have gone with its link
                    Some((old_link, _)) if before.is_none() => {
                        assert!(old_link.as_ref().is_some_and(|old| !self.0.links.contains_key(old) || link.as_ref() != Some(old)));
                    }
                    Some(_) => assert_eq!(before, replaces, "{change}: it replaces another one"),
                }
                self.routes(link.as_ref()).push(route);
            }
            NetnsChange::RemoveRoute { link, route } => {
                let routes = self.routes(link.as_ref());
                let at = routes.iter().position(|r| r.canonical() == route.canonical());
                routes.remove(at.unwrap_or_else(|| panic!("{change}: ESRCH in {routes:?}")));
            }
            NetnsChange::AddRule(rule) if self.0.drift.lost_rules.remove(&rule) => {}
            NetnsChange::AddRule(rule) => assert!(self.0.rules.insert(rule), "{change}: there would be two"),
            NetnsChange::RemoveRule(rule) => assert!(self.0.rules.remove(&rule), "{change}: ENOENT"),
        }
    }
}

pub fn apply(before: &Netns, changes: &[NetnsChange]) -> Netns {
    let mut kernel = Kernel(before.clone());
    for change in changes {
        kernel.apply(change);
    }
    kernel.0
}

/// Both as the kernel would show them, what `wanted` leaves open taken from `got`. Every field is named, so that a new one is not
/// forgotten.
#[track_caller]
pub fn assert_same(got: &Netns, wanted: &Netns) {
    let Netns { source: _, places: _, sysctl, sysctl_before: _, ruleset, loopback_addresses, routes: _, rules, links, drift } = wanted;
    assert_eq!(got.links.keys().collect::<Vec<_>>(), links.keys().collect::<Vec<_>>());
    for (key, value) in sysctl {
        assert_eq!(got.sysctl.get(key), Some(value), "{key}");
    }
    assert_eq!(got.ruleset, *ruleset);
    assert_eq!(got.rules, *rules);
    assert_eq!(got.drift, *drift);
    assert_same_addresses(&LinkName::loopback(), &got.loopback_addresses, loopback_addresses);
    let by_key = |netns| -> BTreeMap<_, _> { routes(netns).map(|(link, route)| (route.key(), (link, route.canonical()))).collect() };
    assert_eq!(by_key(got), by_key(wanted));
    assert_eq!(routes(got).count(), routes(wanted).count());
    for (name, link) in links {
        assert_same_link(name, &got.links[name], link, &got.sysctl);
    }
}

#[track_caller]
fn assert_same_addresses(link: &LinkName, got: &[Address], wanted: &[Address]) {
    let set = |list: &[Address]| list.iter().map(|a| a.canonical(link)).collect::<BTreeSet<_>>();
    assert_eq!(set(got), set(wanted));
    assert_eq!(got.len(), wanted.len());
}

#[track_caller]
fn assert_same_link(name: &LinkName, is: &Link, wanted: &Link, parameters: &BTreeMap<String, String>) {
    let Link { up, mac, mtu, dad, accept_ra, announce: _, addresses, routes: _, kind } = wanted;
    for (key, value) in link_settings(name, *dad, *accept_ra) {
        assert_eq!(parameters.get(&key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(is.up, *up);
    assert_eq!(is.mac, mac.or(is.mac));
    assert_eq!(is.mtu, mtu.or(is.mtu));
    assert_same_addresses(name, &is.addresses, addresses);
    let (Kind::Veth(is_end), Kind::Veth(end)) = (&is.kind, kind) else { return assert_eq!(is.kind, *kind) };
    let HostEnd { name: host_name, mac: host_mac, bridge, addresses, routes, port } = end;
    assert_eq!(is_end.name, *host_name);
    assert_eq!(is_end.mac, host_mac.or(is_end.mac));
    assert_eq!(is_end.bridge, *bridge);
    assert_eq!(is_end.addresses, *addresses);
    assert_eq!(is_end.routes, *routes);
    let Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans } = port;
    let is_port = &is_end.port;
    assert_eq!(is_port.isolated, isolated.or(is_port.isolated));
    assert_eq!(is_port.hairpin, hairpin.or(is_port.hairpin));
    assert_eq!(is_port.learning, learning.or(is_port.learning));
    assert_eq!(is_port.neighbor_suppression, neighbor_suppression.or(is_port.neighbor_suppression));
    assert_eq!(is_port.fast_leave, fast_leave.or(is_port.fast_leave));
    assert_eq!(is_port.cost, cost.or(is_port.cost));
    assert_eq!(is_port.priority, priority.or(is_port.priority));
    assert_eq!(is_port.vlans, vlans.clone().or(is_port.vlans.clone()));
}
