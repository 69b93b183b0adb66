//! What holds whatever the input: proptest over the model, the diff and the derived names.

mod given;
mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;

use ipnet::IpNet;
use libtest_mimic::Trial;
use netns_networkd::derive::{self, End};
use netns_networkd::diff::{Change, NetnsChange, diff, diff_netns};
use netns_networkd::model::{
    Address, File, HostLink, Link, LinkName, Mac, Netns, NetnsName, Place, Port, PortVlans, Provenance, State, Unit, UnitName,
};
use netns_networkd::sys::manifest::Manifest;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as Limits, RngAlgorithm, TestRng, TestRunner};

use given::{drift, netns, wild_netns};
pub use given::{ip_of, link_name, mac, net_of, netns_name, route, rules};
use kernel::{Kernel, apply, assert_same, routes};

use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        no_diff_to_itself,
        a_netns_has_no_diff_to_itself,
        a_diff_applied_gives_the_desired_netns,
        what_was_done_by_hand_is_undone,
        a_new_netns_has_its_addresses_in_order,
        the_first_address_is_preferred_after_a_change,
        a_diff_applied_gives_the_desired_state,
        a_diff_is_the_same_each_time,
        what_stays_is_not_touched,
        there_is_no_moment_without_a_route_that_stays,
        changes_come_in_a_safe_order,
        a_record_comes_back,
        a_manifest_comes_back,
        host_names_are_short_valid_and_distinct,
        macs_are_local_unicast_and_distinct,
        macs_print_and_parse,
        names_are_what_the_kernel_takes,
    ]
}

/// The same random numbers in every run, so that a failure is one on every machine.
fn runner(cases: u32) -> TestRunner {
    let limits = Limits { cases, failure_persistence: None, ..Limits::default() };
    TestRunner::new_with_rng(limits, TestRng::deterministic_rng(RngAlgorithm::default()))
}

/// Gives random inputs for what is too slow to be made smaller when it fails.
pub fn samples<S: Strategy>(input: &S) -> impl Iterator<Item = S::Value> {
    let mut runner = runner(1);
    std::iter::from_fn(move || Some(input.new_tree(&mut runner).expect("an input").current()))
}

/// Runs a law on `cases` random inputs.
#[track_caller]
pub fn law<S: Strategy>(cases: u32, input: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let mut runner = runner(cases);
    let result = runner.run(&input, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
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

fn what_was_done_by_hand_is_undone() {
    let drifted = netns(true).prop_flat_map(|before| drift(&before).prop_map(move |drift| Netns { drift, ..before.clone() }));
    law(512, (drifted, netns(false)), |(before, after)| assert_same(&apply(&before, &diff_netns(&before, &after)), &after));
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
        let addresses = |netns: &Netns, link: &LinkName| -> Vec<Address> {
            let of_link = || netns.links.get(link).map(|link| link.addresses.clone()).unwrap_or_default();
            let list = if *link == LinkName::loopback() { netns.loopback_addresses.clone() } else { of_link() };
            list.iter().map(|address| address.canonical(link)).collect()
        };
        let end = |host_end: &LinkName| after.links.values().filter_map(|link| link.kind.host_end()).find(|end| end.name == *host_end);
        for (at, change) in changes.iter().enumerate() {
            let stays = match change {
                NetnsChange::RemoveLink { name, kind } => after.links.get(name).is_some_and(|l| l.kind.is_same_link(kind)),
                NetnsChange::RemoveAddress { link, address } => addresses(&after, link).contains(&address.canonical(link)),
                // only where the kernel would prefer another one otherwise
                NetnsChange::ReplaceAddress { link, before: old, after: new } if old == new => {
                    let others: Vec<_> = changes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, c)| c.clone()).collect();
                    preferred(&addresses(&apply(&before, &others), link)) == preferred(&addresses(&after, link))
                }
                NetnsChange::RemoveHostAddress { host_end, address } => end(host_end).is_some_and(|end| end.addresses.contains(address)),
                NetnsChange::RemoveRoute { route, .. } => routes(&after).any(|(_, r)| r.key() == route.key()),
                NetnsChange::SetRoute { link, route, replaces: Some((old_link, old)) } => {
                    link == old_link && route.canonical() == old.canonical()
                }
                NetnsChange::RemoveRule(rule) => after.rules.contains(rule),
                NetnsChange::AddRule(rule) => before.rules.contains(rule),
                NetnsChange::SetPort { host_end, port } => **port == Port::default() || end(host_end).is_none(),
                _ => false,
            };
            assert!(!stays, "{change}: it stays");
        }
    });
}

/// A route that one takes over from another, on whatever link, is replaced in one message.
fn there_is_no_moment_without_a_route_that_stays() {
    law(800, (netns(true), netns(false)), |(before, after)| {
        let changes = diff_netns(&before, &after);
        let mut kernel = Kernel(before.clone());
        let mut keys: BTreeSet<_> = routes(&before).map(|(_, route)| route.key()).collect();
        keys.retain(|key| routes(&after).any(|(_, route)| route.key() == *key));
        for change in &changes {
            if let NetnsChange::RemoveLink { name, .. } = change {
                // one that has to make way takes its routes with it
                let makes_way = |c: &NetnsChange| matches!(c, NetnsChange::AddLink { .. } | NetnsChange::AddAddress { .. });
                if changes.iter().skip_while(|c| *c != change).any(makes_way) {
                    keys.retain(|key| kernel.0.links[name].routes.iter().all(|route| route.key() != *key));
                }
            }
            kernel.apply(change);
            for key in &keys {
                assert!(routes(&kernel.0).any(|(_, route)| route.key() == *key), "{change}: no route {key:?} after it");
            }
        }
    });
}

/// The firewall stands before anything can come in, a rule leads to a table that is filled, and settings of a new link are made
/// before it is up.
fn changes_come_in_a_safe_order() {
    law(800, (netns(true), netns(false)), |(before, after)| {
        let changes = diff_netns(&before, &after);
        let mut kernel = Kernel(before.clone());
        for (at, change) in changes.iter().enumerate() {
            let later = &changes[at + 1..];
            match change {
                NetnsChange::AddLink { .. } => assert_eq!(kernel.0.ruleset, after.ruleset, "{change}: without its firewall"),
                NetnsChange::SetUp { name, .. } => {
                    assert_eq!(kernel.0.ruleset, after.ruleset, "{change}: without its firewall");
                    let host_end = |c: &NetnsChange| match c {
                        NetnsChange::SetPort { host_end, .. }
                        | NetnsChange::SetVlans { host_end, .. }
                        | NetnsChange::SetBridge { host_end, .. } => Some(host_end.clone()),
                        _ => None,
                    };
                    let is_of = |c: &NetnsChange| match c {
                        NetnsChange::SetWireguard { name: of, .. } | NetnsChange::SetMac { name: of, .. } => of == name,
                        _ => host_end(c).is_some_and(|end| after.links[name].kind.host_end().is_some_and(|own| own.name == end)),
                    };
                    assert!(!later.iter().any(is_of), "{change}: it is not finished");
                }
                NetnsChange::AddRule(rule) => {
                    let fills = |c: &NetnsChange| matches!(c, NetnsChange::SetRoute { route, .. } if Some(route.key().0) == rule.table);
                    assert!(!later.iter().any(fills), "{change}: its table is not filled");
                }
                NetnsChange::RemoveRoute { route, .. } => {
                    let of_table = |c: &NetnsChange| matches!(c, NetnsChange::RemoveRule(rule) if rule.table == Some(route.key().0));
                    assert!(!later.iter().any(of_table), "{change}: a rule leads there");
                }
                NetnsChange::AddAddress { link, address, .. } => {
                    // duplicate detection would find it on the other link
                    let ip = address.address.addr();
                    let has = |netns: &Netns, link: &LinkName| {
                        netns.links.get(link).is_some_and(|link| link.addresses.iter().any(|address| address.address.addr() == ip))
                    };
                    let others = kernel.0.links.keys().filter(|other| *other != link);
                    let in_the_way = |other: &LinkName| ip.is_ipv6() && has(&kernel.0, other) && !has(&after, other);
                    assert!(!others.into_iter().any(in_the_way), "{change}: it has not left its old link");
                }
                _ => {}
            }
            kernel.apply(change);
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
    let binding = (option::of(ns()), option::of(place)).prop_map(|(bound_to, runs_in)| Unit { bound_to, runs_in, ..Unit::default() });
    (
        btree_map(path, file, 0..3),
        btree_map(link, host_link(), 0..3),
        btree_map(unit, binding, 0..3),
        btree_map(ns(), netns(observed), 0..3),
        // what is desired always has its settings
        btree_map(ns(), any::<bool>().prop_map(move |read| read || !observed), 0..3),
    )
        .prop_map(|(files, links, units, netns, clients)| State { files, links, units, netns, clients })
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
                Change::Client { name, before, after: true } => assert_eq!(got.clients.insert(name, true), before),
                Change::Client { name, before, after: false } => assert_eq!(got.clients.remove(&name), before),
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
    law(512, wild_netns(), |netns| {
        let text = serde_json::to_string(&netns).unwrap();
        assert_eq!(serde_json::from_str::<Netns>(&text).unwrap(), netns, "{text}");
    });
}

fn a_manifest_comes_back() {
    let path = any::<String>().prop_map(|name| PathBuf::from(format!("/{name}")));
    law(256, (any::<bool>(), btree_map(path, btree_set(any::<String>(), 0..3), 0..4)), |(unfinished, files)| {
        let manifest = Manifest { unfinished, files };
        assert_eq!(Manifest::parse(&manifest.text().unwrap()).unwrap(), manifest);
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
