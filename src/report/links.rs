//! Interfaces, host ends and bridges of a report.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Address, AddressState, Bridge, BridgePort, HostEnd, Interface, LinkState, NetnsFacts, Origin, Presence, Role, RouteEntry, facts::Facts,
};
use crate::model::{self, HostLink, Link, LinkName, Maker, NetnsName, Route, SeenAddress, SeenLink, SeenRoute};

/// The links of the host by name.
pub(super) type OnHost<'a> = BTreeMap<&'a str, &'a SeenLink>;

/// Lists all links of a namespace: those of the configuration, those that are still there, and those of others.
pub(super) fn interfaces(facts: &NetnsFacts, on_host: &OnHost) -> Vec<Interface> {
    let of = |netns: Option<&model::Netns>| netns.map(|netns| netns.links.clone()).unwrap_or_default();
    let (goals, now) = (of(facts.goal), of(facts.now));
    let seen: BTreeMap<&str, &SeenLink> =
        facts.seen.iter().flat_map(|seen| &seen.links).filter(|link| link.name != "lo").map(|link| (link.name.as_str(), link)).collect();
    let mut names: BTreeSet<&str> = goals.keys().chain(now.keys()).map(LinkName::as_str).collect();
    names.extend(seen.keys());
    let mut list: Vec<Interface> = Vec::new();
    list.extend(loopback(facts));
    for name in names {
        let of = |links: &BTreeMap<LinkName, Link>| LinkName::parse(name).ok().and_then(|name| links.get(&name).cloned());
        list.push(interface(facts, name, of(&goals).as_ref(), of(&now).as_ref(), seen.get(name).copied(), on_host));
    }
    list
}

/// The loopback link, where there is something to say of it.
fn loopback(facts: &NetnsFacts) -> Option<Interface> {
    let seen = facts.seen.and_then(|seen| seen.links.iter().find(|link| link.name == "lo"));
    let goal = facts.goal.map(|goal| goal.loopback_addresses.as_slice()).unwrap_or_default();
    let addresses: Vec<Address> = addresses(facts, &LinkName::loopback(), goal, seen)
        .into_iter()
        .filter(|address| !address.address.addr().is_loopback() || address.origin == Origin::Configuration)
        .collect();
    let state = link_state(facts, seen);
    (!addresses.is_empty() || state == LinkState::Down).then(|| Interface {
        name: "lo".to_owned(),
        configured: true,
        kind: Some("loopback".to_owned()),
        state,
        carrier: seen.is_some_and(|link| link.carrier),
        mac: None,
        mtu: seen.map(|link| link.mtu),
        dhcp: false,
        host_end: None,
        bridge: None,
        parent: None,
        addresses,
        routes: routes(facts, &[], seen.map(|link| link.routes.as_slice())),
    })
}

fn link_state(facts: &NetnsFacts, seen: Option<&SeenLink>) -> LinkState {
    match seen {
        Some(link) if link.up => LinkState::Up,
        Some(_) => LinkState::Down,
        None if facts.there && facts.seen.is_none() => LinkState::Unknown,
        None => LinkState::Absent,
    }
}

fn interface(
    facts: &NetnsFacts,
    name: &str,
    goal: Option<&Link>,
    now: Option<&Link>,
    seen: Option<&SeenLink>,
    on_host: &OnHost,
) -> Interface {
    let ours = now.or(goal);
    let kind = ours.map(|link| link.kind.as_str().to_owned()).or_else(|| seen?.kind.clone());
    let end = ours.and_then(|link| link.kind.host_end());
    let end_seen = end.and_then(|end| on_host.get(end.name.as_str()).copied());
    let host_end = end.map(|end| HostEnd {
        name: end.name.clone(),
        state: end_seen.map_or(LinkState::Absent, |link| if link.up { LinkState::Up } else { LinkState::Down }),
        mac: end_seen.and_then(|link| link.mac).or(end.mac),
        forwarding: end_seen.and_then(|link| link.forwards),
        isolated: end_seen.and_then(|link| link.port.isolated),
        vlans: end_seen.and_then(|link| link.port.vlans.as_ref()).map(Into::into),
        addresses: end_addresses(end, end_seen),
    });
    let master = end_seen.and_then(|link| link.master.as_deref()).and_then(|name| LinkName::parse(name).ok());
    let bridge = master.or_else(|| [goal, now].into_iter().flatten().find_map(|link| link.kind.host_end()?.bridge.clone()));
    // an IPv6 address of a link of others keeps its label; a name that is none of ours has no canonical form
    let own_name = LinkName::parse(name).unwrap_or_else(|_| LinkName::loopback());
    Interface {
        name: name.to_owned(),
        configured: goal.is_some(),
        kind,
        state: link_state(facts, seen),
        carrier: seen.is_some_and(|link| link.carrier),
        mac: seen.map_or_else(|| ours.and_then(|link| link.mac), |link| link.mac),
        mtu: seen.map_or_else(|| ours.and_then(|link| link.mtu), |link| Some(link.mtu)),
        dhcp: facts.dhcp.contains(name),
        host_end,
        bridge,
        parent: ours.and_then(|link| link.kind.parent().cloned()),
        addresses: addresses(facts, &own_name, goal.map(|link| link.addresses.as_slice()).unwrap_or_default(), seen),
        routes: routes(facts, goal.map(|link| link.routes.as_slice()).unwrap_or_default(), seen.map(|link| link.routes.as_slice())),
    }
}

/// Those of a point-to-point pair, and others that somebody has put there.
fn end_addresses(end: &model::HostEnd, seen: Option<&SeenLink>) -> Vec<Address> {
    let seen_ones = seen.iter().flat_map(|link| &link.addresses);
    let mut list: Vec<Address> =
        seen_ones.map(|address| entry(address, &end.name, end.addresses.contains(&address.address.address), false)).collect();
    let absent = end.addresses.iter().filter(|net| !list.iter().any(|address| address.address == **net)).copied();
    let absent: Vec<Address> = absent.map(|net| missing(&model::Address::new(net), AddressState::Absent)).collect();
    list.extend(absent);
    list
}

/// The addresses of a link inside: first the configuration's, in its order, then the others.
fn addresses(facts: &NetnsFacts, link: &LinkName, goal: &[model::Address], seen: Option<&SeenLink>) -> Vec<Address> {
    let same = |a: &model::Address, b: &model::Address| {
        let (a, b) = (a.canonical(link), b.canonical(link));
        a.address == b.address && a.peer == b.peer
    };
    let there: Vec<&SeenAddress> = seen.iter().flat_map(|link| &link.addresses).collect();
    let dhcp = facts.dhcp.contains(link.as_str());
    let unseen = if facts.there && facts.seen.is_none() { AddressState::Unknown } else { AddressState::Absent };
    let of_goal = goal.iter().map(|wanted| match there.iter().find(|seen| same(&seen.address, wanted)) {
        Some(seen) => entry(seen, link, true, dhcp),
        None => missing(wanted, unseen),
    });
    let others = there.iter().filter(|seen| !goal.iter().any(|wanted| same(&seen.address, wanted)));
    of_goal.chain(others.map(|seen| entry(seen, link, false, dhcp))).collect()
}

fn missing(address: &model::Address, state: AddressState) -> Address {
    let model::Address { address, peer, scope, label, deprecated, no_prefix_route: _ } = address.clone();
    Address { address, state, origin: Origin::Configuration, deprecated, peer, scope, label }
}

fn entry(seen: &SeenAddress, link: &LinkName, wanted: bool, dhcp: bool) -> Address {
    let SeenAddress { address, tentative, duplicate, for_a_time, maker } = seen;
    let address = address.canonical(link);
    let net = address.address;
    let is_link_local = matches!(net, ipnet::IpNet::V6(net) if net.addr().is_unicast_link_local());
    let origin = match maker {
        _ if wanted => Origin::Configuration,
        Maker::Ours => Origin::Configuration,
        Maker::Router => Origin::RouterAdvertisement,
        // kernels before 5.18 do not say
        Maker::Kernel | Maker::Other if is_link_local && !for_a_time => Origin::LinkLocal,
        _ if dhcp && *for_a_time => Origin::Dhcp,
        _ => Origin::Other,
    };
    let state = match (duplicate, tentative) {
        (true, _) => AddressState::Duplicate,
        (false, true) => AddressState::Tentative,
        (false, false) => AddressState::Usable,
    };
    let model::Address { peer, scope, label, deprecated, .. } = address;
    Address { address: net, state, origin, deprecated, peer, scope, label }
}

/// Routes: first the configuration's, in its order, then the others. `seen` is none where nobody looked, or nothing is.
pub(super) fn routes(facts: &NetnsFacts, goal: &[Route], seen: Option<&[SeenRoute]>) -> Vec<RouteEntry> {
    let there = seen.unwrap_or_default();
    let unseen = if facts.there && facts.seen.is_none() { Presence::Unknown } else { Presence::Absent };
    let is = |seen: &SeenRoute, wanted: &Route| seen.route.canonical() == wanted.canonical();
    let of_goal = goal.iter().map(|wanted| match there.iter().find(|seen| is(seen, wanted)) {
        Some(seen) => RouteEntry::new(&seen.route, Presence::Present, Origin::Configuration),
        None => RouteEntry::new(wanted, unseen, Origin::Configuration),
    });
    let others = there.iter().filter(|seen| !goal.iter().any(|wanted| is(seen, wanted)));
    let others = others.map(|seen| {
        let origin = match seen.maker {
            Maker::Ours => Origin::Configuration,
            Maker::Router => Origin::RouterAdvertisement,
            Maker::Dhcp => Origin::Dhcp,
            Maker::Kernel | Maker::Admin | Maker::Other => Origin::Other,
        };
        RouteEntry::new(&seen.route, Presence::Present, origin)
    });
    of_goal.chain(others).collect()
}

/// The bridges of the configuration, those that namespaces use, and former ones of ours.
pub(super) fn bridges(facts: &Facts, ends: &BTreeMap<LinkName, (NetnsName, LinkName)>, used: &BTreeSet<LinkName>) -> Vec<Bridge> {
    let of_ours = |links: &BTreeMap<LinkName, HostLink>| -> BTreeSet<LinkName> {
        links.iter().filter(|(_, link)| link.is_bridge).map(|(name, _)| name.clone()).collect()
    };
    let configured = of_ours(&facts.desired.links);
    let mut names = configured.clone();
    names.extend(of_ours(&facts.observed.links));
    names.extend(used.iter().cloned());
    let on_host: OnHost = facts.host.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut ports: BTreeMap<&str, Vec<&SeenLink>> = BTreeMap::new();
    for link in facts.host {
        if let Some(master) = &link.master {
            ports.entry(master).or_default().push(link);
        }
    }
    let bridge = |name: &LinkName| {
        let seen = on_host.get(name.as_str()).copied();
        let ours = facts.observed.links.get(name);
        Bridge {
            name: name.clone(),
            configured: configured.contains(name),
            source: facts.bridge_sources.get(name).cloned(),
            state: state_on_host(seen),
            carrier: seen.is_some_and(|link| link.carrier),
            mac: seen.and_then(|link| link.mac),
            mtu: seen.map(|link| link.mtu),
            stp: ours.and_then(|link| link.stp),
            vlan_filtering: ours.and_then(|link| link.vlan_filtering),
            addresses: bridge_addresses(name, facts.desired.links.get(name), seen),
            ports: bridge_ports(facts, name, ports.get(name.as_str()).map(Vec::as_slice).unwrap_or_default(), &on_host, ends),
        }
    };
    names.iter().map(bridge).collect()
}

fn state_on_host(seen: Option<&SeenLink>) -> LinkState {
    seen.map_or(LinkState::Absent, |link| if link.up { LinkState::Up } else { LinkState::Down })
}

fn bridge_addresses(name: &LinkName, desired: Option<&HostLink>, seen: Option<&SeenLink>) -> Vec<Address> {
    let wanted: Vec<_> = desired.iter().flat_map(|link| &link.addresses).copied().collect();
    let there = seen.iter().flat_map(|link| &link.addresses);
    let mut list: Vec<Address> = there.map(|address| entry(address, name, wanted.contains(&address.address.address), false)).collect();
    let absent: Vec<_> = wanted.into_iter().filter(|net| !list.iter().any(|address| address.address == *net)).collect();
    list.extend(absent.into_iter().map(|net| missing(&model::Address::new(net), AddressState::Absent)));
    list
}

fn bridge_ports(
    facts: &Facts,
    bridge: &LinkName,
    members: &[&SeenLink],
    on_host: &OnHost,
    ends: &BTreeMap<LinkName, (NetnsName, LinkName)>,
) -> Vec<BridgePort> {
    let uplinks: Vec<&LinkName> =
        facts.desired.links.iter().filter(|(_, link)| link.master.as_ref() == Some(bridge)).map(|(name, _)| name).collect();
    let port = |name: &str, seen: Option<&SeenLink>, member: bool| {
        let end = LinkName::parse(name).ok().and_then(|name| ends.get(&name));
        let role = match end {
            _ if uplinks.iter().any(|uplink| uplink.as_str() == name) => Role::Uplink,
            Some(_) => Role::Namespace,
            None => Role::Other,
        };
        BridgePort {
            name: name.to_owned(),
            role,
            member,
            state: state_on_host(seen),
            carrier: seen.is_some_and(|link| link.carrier),
            forwarding: seen.filter(|_| member).and_then(|link| link.forwards),
            parent: seen.filter(|link| link.kind.as_deref() == Some("vlan")).and_then(|link| link.parent.clone()),
            netns: end.map(|(netns, _)| netns.clone()),
            interface: end.map(|(_, interface)| interface.clone()),
            vlans: seen.and_then(|link| link.port.vlans.as_ref()).map(Into::into),
        }
    };
    let strangers = uplinks.iter().filter(|uplink| !members.iter().any(|member| member.name == uplink.as_str()));
    let mut list: Vec<BridgePort> = strangers.map(|uplink| port(uplink.as_str(), on_host.get(uplink.as_str()).copied(), false)).collect();
    list.extend(members.iter().map(|member| port(&member.name, Some(member), true)));
    list.sort_by(|a, b| (a.role as u8, &a.name).cmp(&(b.role as u8, &b.name)));
    list
}
