//! What holds whatever the input: proptest over the model, the diff and the derived names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use libtest_mimic::Trial;
use netns_networkd::derive::{self, End};
use netns_networkd::diff::{Change, NetnsChange, diff, diff_netns, link_settings};
use netns_networkd::model::{
    Address, Dad, File, HostEnd, HostLink, Kind, Link, LinkName, Mac, Netns, NetnsName, Place, PortVlans, Provenance, Route, Scope, State,
    Unit, UnitName,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config as Limits, RngAlgorithm, TestRng, TestRunner};

use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        no_diff_to_itself,
        a_netns_has_no_diff_to_itself,
        a_diff_applied_gives_the_desired_netns,
        a_new_netns_has_its_addresses_in_order,
        the_first_address_is_preferred_after_a_change,
        a_diff_applied_gives_the_desired_state,
        a_diff_is_the_same_each_time,
        what_stays_is_not_touched,
        a_record_comes_back,
        host_names_are_short_valid_and_distinct,
        macs_are_local_unicast_and_distinct,
        macs_print_and_parse,
        names_are_what_the_kernel_takes,
    ]
}

/// Runs a law on `cases` random inputs; the same ones in every run, so that a failure is one on every machine.
#[track_caller]
pub fn law<S: Strategy>(cases: u32, input: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let limits = Limits { cases, failure_persistence: None, ..Limits::default() };
    let mut runner = TestRunner::new_with_rng(limits, TestRng::deterministic_rng(RngAlgorithm::default()));
    let result = runner.run(&input, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

pub fn link_name() -> impl Strategy<Value = LinkName> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,14}".prop_filter_map("a link's name", |name| LinkName::parse_ours(&name).ok())
}

pub fn netns_name() -> impl Strategy<Value = NetnsName> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,14}".prop_filter_map("a namespace's name", |name| NetnsName::parse(&name).ok())
}

pub fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(|[a, b, c, d, e, f]| Mac([(a & 0xfe) | 0x02, b, c, d, e, f]))
}

pub fn ip_of(ipv6: bool) -> BoxedStrategy<IpAddr> {
    if ipv6 {
        any::<u128>().prop_map(|n| IpAddr::V6(Ipv6Addr::from(n))).boxed()
    } else {
        any::<u32>().prop_map(|n| IpAddr::V4(Ipv4Addr::from(n))).boxed()
    }
}

pub fn net_of(ipv6: bool) -> BoxedStrategy<IpNet> {
    let longest: u8 = if ipv6 { 128 } else { 32 };
    (ip_of(ipv6), 0..=longest).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap()).boxed()
}

pub fn route() -> impl Strategy<Value = Route> {
    let length = |ipv6: bool| prop_oneof![Just(0_u8), 1..=(if ipv6 { 128_u8 } else { 32 })];
    any::<bool>().prop_flat_map(move |ipv6| {
        let to = (ip_of(ipv6), length(ipv6)).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc());
        (to, option::of(ip_of(ipv6)), option::of(ip_of(ipv6)), option::of(any::<u32>()), any::<bool>())
            .prop_map(|(to, via, source, metric, on_link)| Route { via, source, metric, on_link, ..Route::new(to) })
    })
}

/// An address out of few, so that two random lists share some.
fn address() -> impl Strategy<Value = Address> {
    let few = [
        "192.0.2.1/24",
        "192.0.2.2/24",
        "192.0.2.2/25",
        "192.0.2.3/24",
        "10.9.9.1/32",
        "198.51.100.1/16",
        "2001:db8::1/64",
        "2001:db8::2/64",
        "2001:db8::2/128",
        "2001:db8::3/64",
        "2001:db8:1::1/64",
    ];
    let scope = prop_oneof![4 => Just(None), 1 => select(vec![Scope::Global, Scope::Link, Scope::Host]).prop_map(Some)];
    let label = prop_oneof![4 => Just(None), 1 => select(vec!["eth0", "eth0:a", "eth1"]).prop_map(|l| Some(l.to_owned()))];
    let peer = prop_oneof![4 => Just(false), 1 => Just(true)];
    (select(few.to_vec()), scope, label, peer, prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(
        |(net, scope, label, peer, deprecated, no_prefix_route)| {
            let address: IpNet = net.parse().unwrap();
            let ipv4 = address.addr().is_ipv4();
            let other: IpAddr = if ipv4 { "10.9.9.9" } else { "2001:db8::9" }.parse().unwrap();
            let (scope, label) = if ipv4 { (scope, label) } else { (None, None) };
            Address { address, peer: peer.then_some(other), scope, label, deprecated, no_prefix_route }
        },
    )
}

fn link_routes() -> impl Strategy<Value = Vec<Route>> {
    let route = (
        select(vec!["0.0.0.0/0", "::/0", "198.51.100.0/24", "10.8.0.0/16", "2000::/3", "2001:db8:7::/48"]),
        select(vec![None, Some(1_u8), Some(2)]),
        select(vec![None, Some(1_u8)]),
        select(vec![None, Some(0_u32), Some(50), Some(1024)]),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(to, via, source, metric, on_link)| {
            let to: IpNet = to.parse().unwrap();
            let ip = |n: u8| -> IpAddr {
                if to.addr().is_ipv4() {
                    Ipv4Addr::new(192, 0, 2, n).into()
                } else {
                    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
                }
            };
            Route { via: via.map(ip), source: source.map(ip), metric, on_link, ..Route::new(to) }
        });
    vec(route, 0..6).prop_map(|mut routes| {
        let mut seen = BTreeSet::new();
        routes.retain(|r| seen.insert((r.to, r.effective_metric())));
        routes
    })
}

/// `observed` has no `None`; the host end's name is one of few and may be another link's, which the caller mends.
fn link(observed: bool) -> impl Strategy<Value = Link> {
    let maybe = move |weight: f64| if observed { 0.999_999_999 } else { weight };
    let macs = || select(vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])]);
    let bridge = option::of(select(vec!["br0", "br1"])).prop_map(|b| b.map(|b| LinkName::parse(b).unwrap()));
    let ends = (
        option::weighted(maybe(0.5), macs()),
        option::weighted(maybe(0.5), macs()),
        option::weighted(maybe(0.5), select(vec![1500_u32, 9000])),
        bridge,
    );
    let dad = select(vec![Dad::Wait, Dad::Rfc, Dad::Optimistic, Dad::Off]);
    let addresses = vec(address(), 0..6).prop_map(|mut list| {
        let mut seen = BTreeSet::new();
        list.retain(|a| seen.insert(a.address.addr()));
        list
    });
    let up = if observed { any::<bool>().boxed() } else { Just(true).boxed() };
    (ends, dad, any::<bool>(), any::<bool>(), addresses, link_routes(), up).prop_map(
        |((mac, host_mac, mtu, bridge), dad, accept_ra, announce, addresses, routes, up)| Link {
            up,
            mac,
            mtu,
            dad,
            accept_ra,
            announce,
            addresses,
            routes,
            kind: Kind::Veth(HostEnd { mac: host_mac, bridge, ..HostEnd::new(LinkName::parse("h0").unwrap()) }),
        },
    )
}

fn host_end(link: &Link) -> &HostEnd {
    link.kind.host_end().expect("a pair")
}

fn host_end_mut(link: &mut Link) -> &mut HostEnd {
    if let Kind::Veth(end) = &mut link.kind { end } else { panic!("a pair") }
}

fn netns(observed: bool) -> impl Strategy<Value = Netns> {
    let sysctl = btree_map(select(vec!["net.a", "net.b", "net.c"]), select(vec!["0", "1"]), 0..4);
    let names = subsequence(vec!["eth0", "eth1", "wan"], 0..=3);
    let host_names = Just(vec!["h0", "h1", "h2", "h3"]).prop_shuffle();
    (sysctl, names, host_names, vec(link(observed), 3)).prop_map(move |(sysctl, names, host_names, links)| {
        let links: BTreeMap<LinkName, Link> = names
            .into_iter()
            .zip(host_names)
            .zip(links)
            .map(|((name, host_name), mut link)| {
                host_end_mut(&mut link).name = LinkName::parse(host_name).unwrap();
                (LinkName::parse(name).unwrap(), link)
            })
            .collect();
        let mut sysctl: BTreeMap<String, String> = sysctl.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        if observed {
            for (name, link) in &links {
                sysctl.extend(link_settings(name, link.dad, link.accept_ra).map(|(key, value)| (key, value.to_owned())));
            }
        }
        Netns { source: "/etc/netns-networkd/a.toml:1".to_owned(), sysctl, links, ..Netns::default() }
    })
}

/// What the kernel does with each change, as far as it would refuse it; addresses in the order in which it prefers them.
struct Kernel(Netns);

impl Kernel {
    fn link(&mut self, name: &LinkName) -> &mut Link {
        self.0.links.get_mut(name).unwrap_or_else(|| panic!("link '{name}' does not exist"))
    }

    fn end(&mut self, name: &LinkName) -> &mut HostEnd {
        let found = self.0.links.values_mut().map(host_end_mut).find(|end| end.name == *name);
        found.unwrap_or_else(|| panic!("host end '{name}' does not exist"))
    }

    fn apply(&mut self, change: &NetnsChange) {
        match change.clone() {
            NetnsChange::Add => {
                assert_eq!(self.0, Netns::default());
            }
            NetnsChange::Remove => self.0 = Netns::default(),
            NetnsChange::SetSysctl { key, value } => {
                assert_ne!(self.0.sysctl.insert(key, value.clone()), Some(value), "{change}: it has that value");
            }
            NetnsChange::AddLink { name, link } => {
                let taken = self.0.links.values().any(|l| host_end(l).name == host_end(&link).name);
                assert!(!taken, "{change}: the host end exists");
                assert!(link.addresses.is_empty() && link.routes.is_empty(), "{change}: a new link has none");
                self.0.sysctl.extend(link_settings(&name, Dad::Wait, false).map(|(key, value)| (key, value.to_owned())));
                assert!(self.0.links.insert(name, Link { up: false, ..*link }).is_none(), "{change}: it exists");
            }
            NetnsChange::RemoveLink { name, kind } => {
                assert_eq!(self.0.links.remove(&name).expect("it exists").kind, *kind);
            }
            NetnsChange::SetMac { name, mac } => self.link(&name).mac = Some(mac),
            NetnsChange::SetHostMac { host_end, mac } => self.end(&host_end).mac = Some(mac),
            NetnsChange::SetMtu { name, host_end, mtu } => {
                assert_eq!(Some(&super::laws::host_end(self.link(&name)).name), host_end.as_ref());
                self.link(&name).mtu = Some(mtu);
            }
            NetnsChange::SetUp { name, host_end } => {
                assert!(host_end.is_none_or(|end| super::laws::host_end(self.link(&name)).name == end));
                self.link(&name).up = true;
            }
            NetnsChange::SetBridge { host_end, bridge } => self.end(&host_end).bridge = bridge,
            NetnsChange::AddAddress { link, address, dad: _, replace: true } => {
                let addresses = &mut self.link(&link).addresses;
                let at =
                    addresses.iter().position(|a| a.address == address.address && a.canonical(&link).peer == address.canonical(&link).peer);
                let at = at.unwrap_or_else(|| panic!("{change}: nothing to change in {addresses:?}"));
                addresses[at] = address;
            }
            NetnsChange::AddAddress { link, address, dad: _, replace: false } => {
                let ipv6 = address.address.addr().is_ipv6();
                let addresses = &mut self.link(&link).addresses;
                // of IPv4 the same address with another prefix length is another address
                let clash = |a: &Address| if ipv6 { a.address.addr() == address.address.addr() } else { a.address == address.address };
                assert!(!addresses.iter().any(clash), "{change}: EEXIST with {addresses:?}");
                if ipv6 { addresses.insert(0, address) } else { addresses.push(address) }
            }
            NetnsChange::RemoveAddress { link, address } => {
                let addresses = &mut self.link(&link).addresses;
                let at = addresses.iter().position(|a| a.canonical(&link) == address.canonical(&link));
                addresses.remove(at.unwrap_or_else(|| panic!("{change}: EADDRNOTAVAIL in {addresses:?}")));
            }
            NetnsChange::SetRoute { link, route, replaces } => {
                let routes = &mut self.link(&link.unwrap()).routes;
                let key = |r: &Route| (r.to, r.effective_metric());
                let at = routes.iter().position(|r| key(r) == key(&route));
                let before = at.map(|at| routes.remove(at));
                assert_eq!(before, replaces, "{change}: EEXIST, or nothing to replace");
                routes.push(route);
            }
            NetnsChange::RemoveRoute { link, route } => {
                let routes = &mut self.link(&link.unwrap()).routes;
                let at = routes.iter().position(|r| r.canonical() == route.canonical());
                routes.remove(at.unwrap_or_else(|| panic!("{change}: ESRCH in {routes:?}")));
            }
            other => panic!("{other}: no law for it"),
        }
    }
}

fn apply(before: &Netns, changes: &[NetnsChange]) -> Netns {
    let mut kernel = Kernel(before.clone());
    for change in changes {
        kernel.apply(change);
    }
    kernel.0
}

/// Both as the kernel would show them, what `wanted` leaves open taken from `got`.
#[track_caller]
fn assert_same(got: &Netns, wanted: &Netns) {
    assert_eq!(got.links.keys().collect::<Vec<_>>(), wanted.links.keys().collect::<Vec<_>>());
    for (key, value) in &wanted.sysctl {
        assert_eq!(got.sysctl.get(key), Some(value), "{key}");
    }
    for (name, link) in &wanted.links {
        let is = &got.links[name];
        // every field is named, so that a new one is not forgotten
        let Link { up, mac, mtu, dad, accept_ra, announce: _, addresses, routes, kind: _ } = link;
        for (key, value) in link_settings(name, *dad, *accept_ra) {
            assert_eq!(got.sysctl.get(&key).map(String::as_str), Some(value), "{key}");
        }
        let (end, is_end) = (host_end(link), host_end(is));
        let HostEnd { name: host_name, mac: host_mac, bridge, addresses: _, routes: _, port: _ } = end;
        assert_eq!(is.up, *up);
        assert_eq!(is.mac, mac.or(is.mac));
        assert_eq!(is.mtu, mtu.or(is.mtu));
        assert_eq!(is_end.name, *host_name);
        assert_eq!(is_end.mac, host_mac.or(is_end.mac));
        assert_eq!(is_end.bridge, *bridge);
        let set = |list: &[Address]| list.iter().map(|a| a.canonical(name)).collect::<BTreeSet<_>>();
        assert_eq!(set(&is.addresses), set(addresses));
        assert_eq!(is.addresses.len(), addresses.len());
        let set = |list: &[Route]| list.iter().map(Route::canonical).collect::<BTreeSet<_>>();
        assert_eq!(set(&is.routes), set(routes));
        assert_eq!(is.routes.len(), routes.len());
    }
}

fn a_netns_has_no_diff_to_itself() {
    law(512, netns(true), |netns| assert_eq!(diff_netns(&netns, &netns), Vec::new()));
}

fn a_diff_applied_gives_the_desired_netns() {
    law(800, (netns(true), netns(false)), |(before, after)| {
        let changes = diff_netns(&before, &after);
        let got = apply(&before, &changes);
        assert_same(&got, &after);
        assert_eq!(diff_netns(&got, &after), Vec::new(), "a second run changes nothing");
    });
}

fn a_new_netns_has_its_addresses_in_order() {
    law(512, netns(false), |wanted| {
        let got = apply(&Netns::default(), &diff_netns(&Netns::default(), &wanted));
        assert_same(&got, &wanted);
        for (name, link) in &wanted.links {
            for ipv6 in [false, true] {
                let order = |link: &Link| -> Vec<IpNet> {
                    link.addresses.iter().map(|a| a.address).filter(|a| a.addr().is_ipv6() == ipv6).collect()
                };
                assert_eq!(order(&got.links[name]), order(link), "the first one is the default source");
            }
        }
    });
}

/// The first one of IPv6 that is not deprecated, and of IPv4 the first in each subnet: what the kernel takes as the source.
fn preferred(addresses: &[Address]) -> (Option<IpNet>, BTreeMap<IpNet, IpNet>) {
    let ipv6 = addresses.iter().find(|a| a.address.addr().is_ipv6() && !a.deprecated).map(|a| a.address);
    let mut ipv4 = BTreeMap::new();
    for address in addresses.iter().map(|a| a.address).filter(|a| a.addr().is_ipv4()) {
        ipv4.entry(address.trunc()).or_insert(address);
    }
    (ipv6, ipv4)
}

fn the_first_address_is_preferred_after_a_change() {
    law(800, (netns(true), netns(false)), |(before, after)| {
        let got = apply(&before, &diff_netns(&before, &after));
        for (name, link) in &after.links {
            let (is, wanted) = (&got.links[name].addresses, &link.addresses);
            assert_eq!(preferred(is), preferred(wanted), "{name} has {is:?}, wanted {wanted:?}");
        }
    });
}

fn what_stays_is_not_touched() {
    law(800, (netns(true), netns(false)), |(before, after)| {
        let changes = diff_netns(&before, &after);
        for (at, change) in changes.iter().enumerate() {
            let stays = match change {
                NetnsChange::RemoveLink { name, kind } => after.links.get(name).is_some_and(|l| l.kind.is_same_link(kind)),
                NetnsChange::RemoveAddress { link, address } => {
                    // taken away and put back at once, so that the kernel prefers another one
                    let returns =
                        |c: &NetnsChange| matches!(c, NetnsChange::AddAddress { link: l, address: a, .. } if l == link && a == address);
                    let is_wanted = |l: &Link| l.addresses.iter().any(|a| a.canonical(link) == address.canonical(link));
                    after.links.get(link).is_some_and(is_wanted) && !changes.get(at + 1).is_some_and(returns)
                }
                NetnsChange::RemoveRoute { link, route } => {
                    let key = |r: &Route| (r.to, r.effective_metric());
                    after.links.get(link.as_ref().unwrap()).is_some_and(|l| l.routes.iter().any(|r| key(r) == key(route)))
                }
                _ => false,
            };
            assert!(!stays, "{change}: it stays");
        }
    });
}

fn a_diff_is_the_same_each_time() {
    law(256, (state(true), state(false)), |(before, after)| assert_eq!(diff(&before, &after), diff(&before, &after)));
}

fn host_link() -> impl Strategy<Value = HostLink> {
    let name = |names: &[&'static str]| select(names.to_vec()).prop_map(|n| LinkName::parse(n).unwrap());
    let mac = select(vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])]);
    let nets = btree_set(select(vec!["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]).prop_map(|a| a.parse().unwrap()), 0..3);
    let link =
        (any::<bool>(), any::<bool>(), option::of(name(&["br0", "br1"])), option::of(mac), option::of(select(vec![1500_u32, 9000])), nets);
    let ids = (option::of(0..3_u16), btree_set(1..4_u16, 0..3)).prop_map(|(untagged, tagged)| PortVlans { untagged, tagged });
    let settings = (option::of(any::<bool>()), option::of(any::<bool>()), option::of(ids));
    (link, settings).prop_map(|((is_bridge, up, master, mac, mtu, addresses), (stp, vlan_filtering, vlans))| HostLink {
        is_bridge,
        up,
        master,
        mac,
        mtu,
        addresses,
        stp,
        vlan_filtering,
        vlans,
    })
}

fn state(observed: bool) -> impl Strategy<Value = State> {
    let file = ("[ab]{0,2}", select(vec![Provenance::Ours, Provenance::Edited, Provenance::Foreign]))
        .prop_map(|(content, provenance)| File { content, provenance });
    let path = select(vec!["/etc/systemd/network/a", "/etc/systemd/system/a.d/b", "/etc/netns/a/c"]).prop_map(PathBuf::from);
    let link = select(vec!["br0", "eno1", "eno2"]).prop_map(|n| LinkName::parse(n).unwrap());
    let ns = || select(vec!["a", "b"]).prop_map(|n| NetnsName::parse(n).unwrap());
    let unit = select(vec!["x.service", "y.socket"]).prop_map(|n| UnitName::parse(n).unwrap());
    let place = prop_oneof![Just(Place::Host), Just(Place::Other), ns().prop_map(Place::Netns)];
    let binding = (option::of(ns()), option::of(place)).prop_map(|(bound_to, runs_in)| Unit { bound_to, runs_in });
    (
        btree_map(path, file, 0..3),
        btree_map(link, host_link(), 0..3),
        btree_map(unit, binding, 0..3),
        btree_map(ns(), netns(observed), 0..3),
    )
        .prop_map(|(files, links, units, netns)| State { files, links, units, netns })
}

fn no_diff_to_itself() {
    law(512, state(true), |state| assert_eq!(diff(&state, &state), Vec::new()));
}

fn a_diff_applied_gives_the_desired_state() {
    law(400, (state(true), state(false)), |(before, after)| {
        let mut got = before.clone();
        let mut inside: BTreeMap<NetnsName, Vec<NetnsChange>> = BTreeMap::new();
        for change in diff(&before, &after) {
            match change {
                Change::WriteFile { path, before, after } => {
                    let old = got.files.insert(path, File { content: after, provenance: Provenance::Ours });
                    assert_eq!(old, before);
                }
                Change::RemoveFile { path, before } => assert_eq!(got.files.remove(&path), Some(before)),
                Change::HostLink { name, before, after } => {
                    let old = match after {
                        Some(after) => got.links.insert(name, after),
                        None => got.links.remove(&name),
                    };
                    assert_eq!(old, before);
                }
                Change::Unit { name, before, after } => {
                    assert_eq!(got.units.insert(name, after).unwrap_or_default(), before);
                }
                Change::Netns { name, change: NetnsChange::Add } => {
                    assert!(got.netns.insert(name, Netns::default()).is_none(), "it exists");
                }
                Change::Netns { name, change: NetnsChange::Remove } => assert!(got.netns.remove(&name).is_some(), "it is not there"),
                Change::Netns { name, change } => inside.entry(name).or_default().push(change),
            }
        }
        for (name, changes) in inside {
            let netns = got.netns.get_mut(&name).expect("added before it is changed");
            *netns = apply(netns, &changes);
        }
        let contents = |state: &State| state.files.iter().map(|(p, f)| (p.clone(), f.content.clone())).collect::<Vec<_>>();
        assert_eq!(contents(&got), contents(&after));
        assert_eq!(got.links.keys().collect::<Vec<_>>(), after.links.keys().collect::<Vec<_>>());
        assert_eq!(got.netns.keys().collect::<Vec<_>>(), after.netns.keys().collect::<Vec<_>>());
        let bound = |state: &State| -> Vec<_> { state.units.clone().into_iter().filter(|(_, unit)| *unit != Unit::default()).collect() };
        assert_eq!(bound(&got), bound(&after));
        let left: Vec<String> = diff(&got, &after).iter().map(ToString::to_string).collect();
        assert_eq!(left, Vec::<String>::new(), "a second run changes nothing");
    });
}

fn a_record_comes_back() {
    let wild = || {
        let addresses = vec(
            (any::<bool>().prop_flat_map(net_of), option::of(any::<bool>().prop_flat_map(ip_of)), option::of(any::<String>()))
                .prop_map(|(address, peer, label)| Address { peer, label, deprecated: true, ..Address::new(address) }),
            0..3,
        );
        (link(false), addresses, vec(route(), 0..3), link_name(), option::of(mac())).prop_map(|(mut link, addresses, routes, name, mac)| {
            link.addresses.extend(addresses);
            link.routes.extend(routes);
            host_end_mut(&mut link).name = name;
            host_end_mut(&mut link).mac = mac;
            link
        })
    };
    let sysctl = btree_map(any::<String>(), any::<String>(), 0..4);
    law(512, (any::<String>(), sysctl, btree_map(link_name(), wild(), 0..4)), |(source, sysctl, links)| {
        let netns = Netns { source, sysctl, links, ..Netns::default() };
        let text = toml::to_string(&netns).unwrap();
        assert_eq!(toml::from_str::<Netns>(&text).unwrap(), netns, "{text}");
    });
}

/// Pairs of names: long ones, and short ones of few letters, which collide if anything does.
fn pairs() -> impl Strategy<Value = Vec<(NetnsName, LinkName)>> {
    let few = |pattern: &'static str| pattern;
    let short = (few("[an_][a._-]{0,3}"), few("[av_][a._-]{0,3}"));
    let long = ("[a-z]{6}[a._-]{6,9}", "[a-z]{1,3}[a._-]{9,12}");
    let reserved = (select(vec!["ve", "vb", "vz", "vt", "ns", "n", "v"]).prop_map(ToOwned::to_owned), "[es-][a-z-]{0,13}");
    let text = prop_oneof![short, long, reserved];
    vec(text.prop_filter_map("names", |(n, i)| Some((NetnsName::parse(&n).ok()?, LinkName::parse_ours(&i).ok()?))), 400)
}

fn host_names_are_short_valid_and_distinct() {
    let mut hashed = 0;
    let seen = std::cell::RefCell::new((BTreeMap::new(), &mut hashed));
    law(16, pairs(), |pairs| {
        let (names, hashed) = &mut *seen.borrow_mut();
        for (netns, link) in pairs {
            let name = derive::host_name(&netns, &link);
            assert!(name.as_str().len() <= 15, "{name}");
            let valid = LinkName::parse_ours(name.as_str()).unwrap_or_else(|why| panic!("'{netns}' and '{link}' give '{name}': {why}"));
            assert_eq!(valid, derive::host_name(&netns, &link), "the same each time");
            **hashed += usize::from(name.as_str() != format!("{netns}-{link}"));
            let pair = (netns, link);
            let other = names.insert(name.clone(), pair.clone());
            assert!(other.as_ref().is_none_or(|other| *other == pair), "{pair:?} and {other:?} both give '{name}'");
        }
    });
    let distinct = seen.into_inner().0.len();
    assert!(distinct > 2000 && hashed > 2000, "too few to mean anything: {distinct} names, {hashed} hashed");
}

fn macs_are_local_unicast_and_distinct() {
    let seen = std::cell::RefCell::new(BTreeMap::new());
    law(16, ("[0-9a-f]{32}", pairs()), |(machine_id, pairs)| {
        for (netns, link) in pairs {
            for end in [End::Inside, End::Host] {
                let mac = derive::mac(&machine_id, &netns, &link, end);
                assert_eq!(mac.0[0] & 0x03, 0x02, "{mac}: locally administered, unicast");
                assert_eq!(mac, derive::mac(&machine_id, &netns, &link, end), "the same each time");
                let owner = (machine_id.clone(), netns.clone(), link.clone(), end == End::Host);
                let other = seen.borrow_mut().insert(mac, owner.clone());
                assert!(other.as_ref().is_none_or(|other| *other == owner), "{owner:?} and {other:?} both give {mac}");
            }
        }
    });
    assert!(seen.borrow().len() > 5000);
}

fn macs_print_and_parse() {
    law(256, mac(), |mac| {
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert_eq!(mac.to_string().replace(':', "-").to_uppercase().parse::<Mac>().unwrap(), mac);
    });
}

fn names_are_what_the_kernel_takes() {
    law(2000, any::<String>(), |text| {
        let good = |name: &str| {
            (1..=15).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !name.starts_with(['-', '.'])
        };
        // half of the random texts shortened to letters that a name may have
        let words: String = text.chars().map(|c| char::from(b"a0.-_Z%/ "[c as usize % 9])).collect();
        for name in [text.as_str(), words.as_str()] {
            assert_eq!(NetnsName::parse(name).is_ok(), good(name), "{name:?}");
            let means_something = ["lo", "all", "default"].contains(&name) || name.bytes().all(|b| b.is_ascii_digit());
            assert_eq!(LinkName::parse(name).is_ok(), good(name) && !means_something, "{name:?}");
        }
    });
}
