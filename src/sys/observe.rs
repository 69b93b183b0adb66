//! What is in a namespace, read from within.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use ipnet::IpNet;

use super::{
    host_end,
    inside::Host,
    netlink::{self, AddressState, KernelLink, LOOPBACK, PortState, RouteState, RuleState, Socket},
    nftables,
    sysctl::{self, Parameters},
    wireguard,
};
use crate::{
    diff::link_settings,
    model::{
        Address, Dad, HostEnd, Kind, Link, LinkName, Mac, Maker, Netns, NetnsName, Route, Rule, Seen, SeenAddress, SeenLink, SeenRoute,
    },
};

/// What is in a namespace.
#[derive(Debug, Default)]
pub struct Observed {
    pub netns: Netns,
    /// Indexes of the links.
    pub indexes: BTreeMap<LinkName, u32>,
    /// Addresses that physical links have by themselves.
    pub hardware: BTreeMap<LinkName, Mac>,
    pub loopback_up: bool,
    /// Host ends that a `down` which was cut off has marked for removal.
    pub marked: Vec<u32>,
    /// Wanted addresses, by the index of their link, that duplicate detection has refused. They are not in `netns`: nobody can use them.
    pub refused: Vec<(u32, Address)>,
    /// All that is there, whoever made it.
    pub seen: Seen,
}

/// Reads what is in the namespace of the calling thread: of links only those of `applied` and those wanted; of addresses, routes
/// and rules only those that this tool added, by their marks or by the record, and those wanted. The others belong to services and
/// admins.
pub fn observe(name: &NetnsName, host: &mut Host, inner: &mut Socket, wanted: &Netns, applied: &Netns) -> Result<Observed> {
    let mut observed = Observed::default();
    let netns = &mut observed.netns;
    let parameters = Parameters::default();
    for key in wanted.sysctl.keys() {
        let void = || sysctl::is_void(key).then(|| wanted.sysctl[key].clone());
        netns.sysctl.extend(parameters.read(key)?.or_else(void).map(|value| (key.clone(), value)));
    }
    netns.ruleset = nftables::loaded(name)?;
    let (mut names, mut ends) = (BTreeMap::new(), BTreeMap::new());
    let links = netlink::links(inner)?;
    observed.loopback_up = links.iter().any(|kernel| kernel.index == LOOPBACK && kernel.up);
    netns.drift.loopback_is_down = !observed.loopback_up;
    for (name, kernel, found) in own_links(host, &links, wanted, applied)? {
        if kernel.name != name.as_str() {
            netns.drift.renamed.extend(LinkName::parse(&kernel.name).ok().map(|called| (name.clone(), called)));
        }
        netns.drift.renamed_ends.extend(found.end_called.zip(found.kind.host_end()).map(|(called, end)| (end.name.clone(), called)));
        observed.marked.extend(found.host_end.filter(|_| found.marked));
        let wanted = wanted.links.get(&name);
        let kind = match (found.kind, wanted.and_then(|link| link.kind.wireguard())) {
            (Kind::Wireguard(_), Some(wanted)) => {
                let applied = applied.links.get(&name).and_then(|link| link.kind.wireguard());
                Kind::Wireguard(wireguard::observe(kernel.index, wanted, applied)?)
            }
            (kind, _) => kind,
        };
        for (key, _) in wanted.iter().flat_map(|w| link_settings(&name, w.dad, w.accept_ra)) {
            netns.sysctl.extend(parameters.read(&key)?.map(|value| (key, value)));
        }
        let link = Link {
            up: kernel.up && found.host_end_up,
            mac: kernel.mac,
            mtu: Some(if found.host_end_mtu.is_none_or(|mtu| mtu == kernel.mtu) { kernel.mtu } else { 0 }),
            dad: wanted.map_or(Dad::default(), |w| w.dad),
            accept_ra: wanted.is_some_and(|w| w.accept_ra),
            announce: wanted.is_some_and(|w| w.announce),
            addresses: Vec::new(),
            routes: Vec::new(),
            kind,
        };
        // of a link that was renamed, labels and the kernel's other words follow its name
        let called = netns.drift.renamed.get(&name).cloned();
        names.insert(kernel.index, (name.clone(), called.unwrap_or(name.clone())));
        ends.extend(found.host_end.map(|index| (name.clone(), index)));
        observed.indexes.insert(name.clone(), kernel.index);
        observed.hardware.extend(kernel.hardware.map(|mac| (name.clone(), mac)));
        netns.links.insert(name, link);
    }
    host_end::observe(&mut host.socket, &ends, netns, [wanted, applied])?;
    let addresses = netlink::addresses(inner)?;
    for state in &addresses {
        let lo = LinkName::loopback();
        let own = names.get(&state.index).map(|(name, called)| (name, called));
        let Some((name, called)) = own.or((state.index == LOOPBACK).then_some((&lo, &lo))) else { continue };
        let address = state.address.canonical(called);
        let of = |netns: &Netns| -> Vec<Address> {
            let list = if *name == lo { Some(&netns.loopback_addresses) } else { netns.links.get(name).map(|link| &link.addresses) };
            list.into_iter().flatten().map(|a| a.canonical(name)).collect()
        };
        // a kernel before 5.18 keeps no marks of addresses
        let ours = state.maker == Maker::Ours || of(applied).iter().any(|a| a.is_same(&address));
        // one that nobody wants any more is there to be removed, whatever is the matter with it
        if state.duplicate && ours && of(wanted).iter().any(|a| a.is_same(&address)) {
            observed.refused.push((state.index, address));
            continue;
        }
        if ours || of(wanted).contains(&address) {
            let to = if *name == lo { Some(&mut netns.loopback_addresses) } else { netns.links.get_mut(name).map(|l| &mut l.addresses) };
            to.into_iter().for_each(|list| list.push(address.clone()));
        }
    }
    let (routes, networks) = netlink::routes(inner)?;
    for state in &routes {
        let link = state.index.map(|index| names.get(&index).map(|(name, _)| name));
        let (wanted, to): (&[Route], _) = match link {
            None => (&wanted.routes, Some(&mut netns.routes)),
            Some(None) => continue,
            Some(Some(name)) => {
                let wanted = wanted.links.get(name).map(|link| link.routes.as_slice()).unwrap_or_default();
                (wanted, netns.links.get_mut(name).map(|link| &mut link.routes))
            }
        };
        if state.maker == Maker::Ours || wanted.iter().any(|route| route.canonical() == state.route.canonical()) {
            to.into_iter().for_each(|list| list.push(state.route.clone()));
        }
    }
    for (name, link) in netns.links.iter_mut().filter(|(_, link)| link.up) {
        let has_route = |net: IpNet| observed.indexes.get(name).is_some_and(|index| networks.contains(&(*index, net)));
        for address in &mut link.addresses {
            let net = address.address.trunc();
            // the kernel's route to the network was deleted: as good as an address that came without
            address.no_prefix_route |= address.peer.is_none() && net.prefix_len() < net.max_prefix_len() && !has_route(net);
        }
    }
    let rules = netlink::rules(inner)?;
    netns.drift.lost_rules = lost_rules(&rules);
    let rules = rules.into_iter().filter(|state| state.ours || wanted.rules.contains(&state.rule));
    netns.rules.extend(rules.map(|state| state.rule));
    observed.seen = seen(links, addresses, routes);
    Ok(observed)
}

/// Reads all links of the socket's namespace with their addresses. Routes are left out: a router may have a million.
pub fn links(socket: &mut Socket) -> Result<Vec<SeenLink>> {
    let links = netlink::links(socket)?;
    let keeps_vlans_apart = links.iter().any(|link| link.bridge.as_ref().is_some_and(|bridge| bridge.vlan_filtering));
    let mut vlans = if keeps_vlans_apart { netlink::vlans(socket)? } else { BTreeMap::new() };
    let indexes: Vec<u32> = links.iter().map(|link| link.index).collect();
    let mut seen = seen(links, netlink::addresses(socket)?, Vec::new()).links;
    for (link, index) in seen.iter_mut().zip(indexes) {
        link.port.vlans = vlans.remove(&index);
    }
    Ok(seen)
}

/// Puts addresses and routes to their links.
fn seen(links: Vec<KernelLink>, addresses: Vec<AddressState>, routes: Vec<RouteState>) -> Seen {
    let places: BTreeMap<u32, usize> = links.iter().enumerate().map(|(place, link)| (link.index, place)).collect();
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    let name = |index: u32| places.get(&index).map(|place| names[*place].clone());
    let link = |kernel: KernelLink| SeenLink {
        master: kernel.master.and_then(name),
        parent: kernel.peer.filter(|_| kernel.elsewhere.is_none()).and_then(name),
        name: kernel.name,
        kind: kernel.kind,
        up: kernel.up,
        carrier: kernel.carrier,
        mac: kernel.mac,
        mtu: kernel.mtu,
        forwards: kernel.port.map(|state| state == PortState::Forwarding),
        port: kernel.settings,
        addresses: Vec::new(),
        routes: Vec::new(),
    };
    let mut seen = Seen { links: links.into_iter().map(link).collect(), routes: Vec::new() };
    for AddressState { index, address, tentative, duplicate, for_a_time, maker } in addresses {
        if let Some(place) = places.get(&index) {
            seen.links[*place].addresses.push(SeenAddress { address, tentative, duplicate, for_a_time, maker });
        }
    }
    for RouteState { index, route, maker } in routes {
        let to = match index {
            Some(index) => places.get(&index).map(|place| &mut seen.links[*place].routes),
            None => Some(&mut seen.routes),
        };
        to.into_iter().for_each(|list| list.push(SeenRoute { route: route.clone(), maker }));
    }
    seen
}

/// Lists the kernel's own rules that are missing: nothing else sends all packets to their tables. A kernel without a family has
/// not even that family's rule for the table `local`, which is always there.
fn lost_rules(rules: &[RuleState]) -> BTreeSet<Rule> {
    let has = |ipv6| rules.iter().any(|state| state.rule.ipv6 == ipv6);
    let leads = |lost: &Rule| rules.iter().any(|state| Rule { priority: lost.priority, ..state.rule.clone() } == *lost);
    [false, true].into_iter().filter(|ipv6| has(*ipv6)).flat_map(Rule::of_the_kernel).filter(|rule| !leads(rule)).collect()
}

/// Finds the links that are ours: each by its name, or by what else is its own where it has been given another name.
fn own_links<'a>(
    host: &mut Host,
    links: &'a [KernelLink],
    wanted: &Netns,
    applied: &Netns,
) -> Result<Vec<(LinkName, &'a KernelLink, Found)>> {
    let mut own: Vec<(LinkName, &KernelLink, Found)> = Vec::new();
    let candidates = |name: &LinkName| -> Vec<&Link> { [applied, wanted].iter().filter_map(|netns| netns.links.get(name)).collect() };
    let mut others = Vec::new();
    for kernel in links {
        let Ok(name) = LinkName::parse(&kernel.name) else { continue };
        match find(host, kernel, &candidates(&name))? {
            Some(found) => own.push((name, kernel, found)),
            None => others.push(kernel),
        }
    }
    let names: BTreeSet<&LinkName> = applied.links.keys().chain(wanted.links.keys()).collect();
    for name in names {
        if own.iter().any(|(other, ..)| other == name) {
            continue;
        }
        for kernel in &others {
            // what it has beside its name must be its own: an address that nobody else has, but for links on top of it
            let stands_here = kernel.bridge.is_some() || (kernel.peer.is_some() && kernel.elsewhere.is_none());
            let mut candidates = candidates(name);
            candidates.retain(|link| link.mac.is_some() && link.mac == kernel.mac && !stands_here);
            if let Some(found) = find(host, kernel, &candidates)? {
                own.push((name.clone(), kernel, found));
                break;
            }
        }
    }
    Ok(own)
}

/// A link that is ours.
struct Found {
    kind: Kind,
    /// Index of the host end.
    host_end: Option<u32>,
    host_end_up: bool,
    host_end_mtu: Option<u32>,
    /// The name of the host end, where that is not its own.
    end_called: Option<LinkName>,
    marked: bool,
}

/// Tells whether a link inside is one of the candidates; a service or an admin may have made links of their own.
fn find(host: &mut Host, kernel: &KernelLink, candidates: &[&Link]) -> Result<Option<Found>> {
    let alone =
        |kind: &Kind| Found { kind: kind.clone(), host_end: None, host_end_up: true, host_end_mtu: None, end_called: None, marked: false };
    for candidate in candidates {
        let kind = &candidate.kind;
        let is_kind = kernel.kind.as_deref() == Some(kind.as_str());
        let found = match kind {
            Kind::Veth(_) if is_kind => find_pair(host, kernel, candidates)?,
            Kind::Macvlan { parent } | Kind::Ipvlan { parent } if is_kind && kernel.elsewhere.is_some() => {
                let below = kernel.peer.map(|index| netlink::link_by_index(&mut host.socket, index)).transpose()?.flatten();
                below.filter(|below| below.name == parent.as_str()).map(|_| alone(kind))
            }
            Kind::Dummy | Kind::Wireguard(_) if is_kind => Some(alone(kind)),
            // whatever it is, it came from the host: hardware, or with the address that it had there
            Kind::Physical { .. } if kernel.hardware.is_some() || kernel.mac == candidate.mac => Some(alone(kind)),
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn find_pair(host: &mut Host, kernel: &KernelLink, candidates: &[&Link]) -> Result<Option<Found>> {
    let Some(peer) = kernel.peer.filter(|_| kernel.elsewhere.is_some()) else { return Ok(None) };
    let end = netlink::link_by_index(&mut host.socket, peer)?.filter(|end| end.peer == Some(kernel.index));
    let Some((end, Ok(name))) = end.map(|end| (end.clone(), LinkName::parse(&end.name))) else { return Ok(None) };
    let same = |link: &&Link| {
        let is_end = |host_end: &HostEnd| host_end.name == name || link.mac == kernel.mac || host_end.mac == end.mac;
        link.kind.host_end().is_some_and(is_end)
    };
    if !candidates.iter().any(same) {
        return Ok(None);
    }
    // the last `up` gave it this name, or the next one is to
    let mut own_names = candidates.iter().filter_map(|link| link.kind.host_end()).map(|end| &end.name);
    let own_name = if own_names.clone().any(|own| *own == name) { None } else { own_names.next() };
    let bridge = match end.master {
        Some(master) => netlink::link_by_index(&mut host.socket, master)?.and_then(|b| LinkName::parse(&b.name).ok()),
        None => None,
    };
    let marked = netlink::is_marked(&end);
    let end_called = own_name.map(|_| name.clone());
    let kind = Kind::Veth(HostEnd { mac: end.mac, bridge, port: end.settings, ..HostEnd::new(own_name.cloned().unwrap_or(name)) });
    Ok(Some(Found { kind, host_end: Some(end.index), host_end_up: end.up, host_end_mtu: Some(end.mtu), end_called, marked }))
}
