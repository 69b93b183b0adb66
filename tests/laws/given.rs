//! Random input of the laws. What is small is taken from few, so that two random namespaces share some and differ in some.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use netns_networkd::diff::link_settings;
use netns_networkd::model::{
    Address, Dad, Drift, Fwmark, HostEnd, Kind, Link, LinkName, Mac, Netns, NetnsName, Peer, Port, PortVlans, PublicKey, Route, RouteType,
    Rule, Ruleset, Scope, Wireguard,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

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

fn ip() -> impl Strategy<Value = IpAddr> {
    any::<bool>().prop_flat_map(ip_of)
}

fn net() -> impl Strategy<Value = IpNet> {
    any::<bool>().prop_flat_map(net_of)
}

fn scope() -> impl Strategy<Value = Scope> {
    select(vec![Scope::Global, Scope::Link, Scope::Host])
}

fn route_type() -> impl Strategy<Value = RouteType> {
    select(vec![RouteType::Unicast, RouteType::Blackhole, RouteType::Unreachable, RouteType::Prohibit])
}

pub fn route() -> impl Strategy<Value = Route> {
    let length = |ipv6: bool| prop_oneof![Just(0_u8), 1..=(if ipv6 { 128_u8 } else { 32 })];
    let number = || option::of(any::<u32>());
    any::<bool>().prop_flat_map(move |ipv6| {
        let to = (ip_of(ipv6), length(ipv6)).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc());
        let ways = (option::of(ip_of(ipv6)), option::of(ip_of(ipv6)), any::<bool>());
        (to, route_type(), ways, number(), number(), option::of(scope()), number()).prop_map(
            |(to, kind, (via, source, on_link), metric, table, scope, mtu)| Route {
                to,
                kind,
                via,
                source,
                metric,
                table,
                scope,
                mtu,
                on_link,
            },
        )
    })
}

/// Everything that a record can have, with values that no validation would let pass.
pub fn wild_netns() -> impl Strategy<Value = Netns> {
    let texts = || btree_map(any::<String>(), any::<String>(), 0..4);
    let ruleset = any::<String>().prop_map(|sha256| Ruleset { sha256 });
    let fwmark = (any::<u32>(), any::<u32>()).prop_map(|(mark, mask)| Fwmark { mark, mask });
    let selectors = (option::of(net()), option::of(net()), option::of(any::<String>()), option::of(fwmark));
    let rule = (any::<u32>(), any::<bool>(), selectors, option::of(any::<u32>()), route_type())
        .prop_map(|(priority, ipv6, (from, to, iif, fwmark), table, kind)| Rule { priority, ipv6, from, to, iif, fwmark, table, kind });
    let rules = btree_set(rule, 0..3);
    let links = btree_map(link_name(), wild_link(), 0..4);
    let addresses = vec(wild_address(), 0..3);
    let sources = (any::<String>(), btree_map(link_name(), any::<String>(), 0..4));
    (sources, (texts(), texts()), option::of(ruleset), addresses, vec(route(), 0..3), rules, links).prop_map(
        |((source, places), (sysctl, sysctl_before), ruleset, loopback_addresses, routes, rules, links)| Netns {
            source,
            places,
            sysctl,
            sysctl_before,
            ruleset,
            loopback_addresses,
            routes,
            rules,
            links,
            drift: Drift::default(),
        },
    )
}

fn wild_address() -> impl Strategy<Value = Address> {
    (net(), option::of(ip()), option::of(scope()), option::of(any::<String>()), any::<bool>(), any::<bool>()).prop_map(
        |(address, peer, scope, label, deprecated, no_prefix_route)| Address { address, peer, scope, label, deprecated, no_prefix_route },
    )
}

fn wild_link() -> impl Strategy<Value = Link> {
    let numbers = (option::of(mac()), option::of(any::<u32>()));
    let lists = (vec(wild_address(), 0..3), vec(route(), 0..3));
    // `up` is never in a record
    (numbers, dad(), any::<bool>(), any::<bool>(), lists, wild_kind()).prop_map(
        |((mac, mtu), dad, accept_ra, announce, (addresses, routes), kind)| Link {
            up: true,
            mac,
            mtu,
            dad,
            accept_ra,
            announce,
            addresses,
            routes,
            kind,
        },
    )
}

fn wild_kind() -> impl Strategy<Value = Kind> {
    let switch = || option::of(any::<bool>());
    let vlans = (option::of(any::<u16>()), btree_set(any::<u16>(), 0..4)).prop_map(|(untagged, tagged)| PortVlans { untagged, tagged });
    let switches = (switch(), switch(), switch(), switch(), switch());
    let port = (switches, option::of(any::<u32>()), option::of(any::<u16>()), option::of(vlans)).prop_map(
        |((isolated, hairpin, learning, neighbor_suppression, fast_leave), cost, priority, vlans)| Port {
            isolated,
            hairpin,
            learning,
            neighbor_suppression,
            fast_leave,
            cost,
            priority,
            vlans,
        },
    );
    let nets = || btree_set(net(), 0..3);
    let host_end = (link_name(), option::of(mac()), option::of(link_name()), nets(), nets(), port)
        .prop_map(|(name, mac, bridge, addresses, routes, port)| HostEnd { name, mac, bridge, addresses, routes, port });
    let text = || option::of(any::<String>());
    let endpoint = (ip(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port));
    let peer = (any::<[u8; 32]>(), text(), option::of(endpoint), vec(net(), 0..3), option::of(any::<u16>())).prop_map(
        |(key, preshared_key_file, endpoint, allowed_ips, keepalive)| Peer {
            public_key: PublicKey(key),
            preshared_key_file,
            endpoint,
            allowed_ips,
            keepalive,
        },
    );
    let wireguard = (any::<String>(), option::of(any::<u16>()), option::of(any::<u32>()), vec(peer, 0..3))
        .prop_map(|(private_key_file, listen_port, fwmark, peers)| Wireguard { private_key_file, listen_port, fwmark, peers });
    prop_oneof![
        3 => host_end.prop_map(Kind::Veth),
        1 => link_name().prop_map(|parent| Kind::Macvlan { parent }),
        1 => link_name().prop_map(|parent| Kind::Ipvlan { parent }),
        1 => link_name().prop_map(|parent| Kind::Physical { parent }),
        1 => Just(Kind::Dummy),
        2 => wireguard.prop_map(Kind::Wireguard),
    ]
}

fn dad() -> impl Strategy<Value = Dad> {
    select(vec![Dad::Wait, Dad::Rfc, Dad::Optimistic, Dad::Off])
}

pub fn named(name: &str) -> LinkName {
    LinkName::parse(name).unwrap()
}

/// A value that is always there when it is observed, and may be left open when it is desired.
fn maybe<T: Clone + std::fmt::Debug + 'static>(observed: bool, few: Vec<T>) -> BoxedStrategy<Option<T>> {
    let some = select(few).prop_map(Some);
    if observed { some.boxed() } else { prop_oneof![some, Just(None)].boxed() }
}

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
    let scope = prop_oneof![4 => Just(None), 1 => scope().prop_map(Some)];
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

fn addresses(most: usize) -> impl Strategy<Value = Vec<Address>> {
    vec(address(), 0..most).prop_map(|mut list| {
        let mut seen = BTreeSet::new();
        list.retain(|a| seen.insert(a.address.addr()));
        list
    })
}

/// A route, and which of the links it goes out by; 0 is none.
fn placed_route() -> impl Strategy<Value = (usize, Route)> {
    let refusal = select(vec![RouteType::Blackhole, RouteType::Unreachable, RouteType::Prohibit]);
    let key = (
        select(vec!["0.0.0.0/0", "::/0", "198.51.100.0/24", "10.8.0.0/16", "2000::/3", "2001:db8:7::/48"]),
        select(vec![None, None, Some(254_u32), Some(100)]),
        select(vec![None, None, Some(0_u32), Some(50), Some(1024)]),
    );
    let values = (
        select(vec![None, Some(1_u8), Some(2)]),
        select(vec![None, Some(1_u8)]),
        select(vec![None, None, Some(1400_u32)]),
        prop_oneof![4 => Just(None), 1 => scope().prop_map(Some)],
        prop::bool::weighted(0.2),
    );
    (0_usize..4, refusal, key, values).prop_map(|(place, refusal, (to, table, metric), (via, source, mtu, scope, on_link))| {
        let to: IpNet = to.parse().unwrap();
        let route = Route { table, metric, ..Route::new(to) };
        if place == 0 {
            return (place, Route { kind: refusal, ..route });
        }
        let ip = |n: u8| -> IpAddr {
            if to.addr().is_ipv4() {
                Ipv4Addr::new(192, 0, 2, n).into()
            } else {
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
            }
        };
        let scope = scope.filter(|_| to.addr().is_ipv4());
        (place, Route { via: via.map(ip), source: source.map(ip), mtu, scope, on_link, ..route })
    })
}

pub fn rules() -> impl Strategy<Value = BTreeSet<Rule>> {
    let nets = |ipv6: bool| if ipv6 { vec!["2001:db8:a::/48", "2001:db8:b::/48"] } else { vec!["10.11.0.0/16", "10.12.0.0/16"] };
    let net = move |ipv6: bool| option::of(select(nets(ipv6)).prop_map(|net| net.parse().unwrap()));
    let rule = any::<bool>().prop_flat_map(move |ipv6| {
        let mark = select(vec![Fwmark { mark: 1, mask: u32::MAX }, Fwmark { mark: 1, mask: 0xff }]);
        let iif = option::of(select(vec!["lo", "eth0"]).prop_map(ToOwned::to_owned));
        (select(vec![10_u32, 20, 30]), net(ipv6), net(ipv6), iif, option::of(mark), select(vec![100_u32, 254]), route_type()).prop_map(
            move |(priority, from, to, iif, fwmark, table, kind)| {
                let table = (kind == RouteType::Unicast).then_some(table);
                Rule { priority, ipv6, from, to, iif, fwmark, table, kind }
            },
        )
    });
    // one of a priority: where two differ only in that one is narrower, the kernel removes whichever comes first
    vec(rule, 0..5).prop_map(|rules| {
        rules.into_iter().map(|rule| ((rule.priority, rule.ipv6), rule)).collect::<BTreeMap<_, _>>().into_values().collect()
    })
}

fn port(observed: bool) -> impl Strategy<Value = Port> {
    let switch = move || maybe(observed, vec![false, true]);
    let vlans = ["1", "20", "20 30", "30"].map(|ids| {
        let mut ids = ids.split(' ').map(|id| id.parse().unwrap());
        PortVlans { untagged: ids.next(), tagged: ids.collect() }
    });
    let vlans = [vlans.to_vec(), vec![PortVlans::default(), PortVlans { untagged: None, tagged: [20, 21].into() }]].concat();
    let switches = (switch(), switch(), switch(), switch(), switch());
    (switches, maybe(observed, vec![2_u32, 100]), maybe(observed, vec![32_u16, 10]), maybe(observed, vlans)).prop_map(
        |((isolated, hairpin, learning, neighbor_suppression, fast_leave), cost, priority, vlans)| Port {
            isolated,
            hairpin,
            learning,
            neighbor_suppression,
            fast_leave,
            cost,
            priority,
            vlans,
        },
    )
}

fn wireguard() -> impl Strategy<Value = Wireguard> {
    let peer = (select(vec![1_u8, 2]), option::of(Just("/etc/psk".to_owned())), option::of(select(vec![25_u16]))).prop_map(
        |(key, preshared_key_file, keepalive)| Peer {
            public_key: PublicKey([key; 32]),
            preshared_key_file,
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap()],
            keepalive,
        },
    );
    let file = select(vec!["/etc/a.key", "/etc/b.key"]).prop_map(ToOwned::to_owned);
    (file, option::of(Just(51820_u16)), option::of(Just(7_u32)), vec(peer, 0..3))
        .prop_map(|(private_key_file, listen_port, fwmark, peers)| Wireguard { private_key_file, listen_port, fwmark, peers })
}

/// `name` is of the host end, `parent` of the link below.
fn kind(observed: bool, name: LinkName, parent: LinkName) -> impl Strategy<Value = Kind> {
    let macs = maybe(observed, vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])]);
    let bridge = option::weighted(0.7, select(vec!["br0", "br1"])).prop_map(|b| b.map(named));
    let nets = btree_set(select(vec!["10.0.0.1/31", "10.0.0.3/31", "2001:db8::a/127"]).prop_map(|a| a.parse().unwrap()), 0..3);
    let host_end = (macs, bridge, nets, port(observed)).prop_map(move |(mac, bridge, addresses, port)| {
        let bare = HostEnd { mac, bridge, ..HostEnd::new(name.clone()) };
        if bare.bridge.is_some() { HostEnd { port, ..bare } } else { HostEnd { addresses, ..bare } }
    });
    prop_oneof![
        5 => host_end.prop_map(Kind::Veth),
        1 => Just(Kind::Macvlan { parent: parent.clone() }),
        1 => Just(Kind::Ipvlan { parent: parent.clone() }),
        1 => Just(Kind::Physical { parent }),
        1 => Just(Kind::Dummy),
        2 => wireguard().prop_map(Kind::Wireguard),
    ]
}

fn link(observed: bool, name: LinkName, parent: LinkName) -> impl Strategy<Value = Link> {
    let mac = maybe(observed, vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])]);
    let up = if observed { any::<bool>().boxed() } else { Just(true).boxed() };
    let mtu = maybe(observed, vec![1500_u32, 9000]);
    (kind(observed, name, parent), mac, mtu, dad(), any::<bool>(), any::<bool>(), addresses(6), up).prop_map(
        |(kind, mac, mtu, dad, accept_ra, announce, addresses, up)| {
            let mac = mac.filter(|_| !matches!(kind, Kind::Ipvlan { .. } | Kind::Wireguard(_)));
            Link { up, mac, mtu, dad, accept_ra, announce, addresses, routes: Vec::new(), kind }
        },
    )
}

/// `observed` has no `None`.
pub fn netns(observed: bool) -> impl Strategy<Value = Netns> {
    let sysctl = btree_map(select(vec!["net.a", "net.b", "net.c"]), select(vec!["0", "1"]), 0..4);
    let host_names = Just(vec!["h0", "h1", "h2", "h3"]).prop_shuffle();
    let parents = Just(vec!["eno1", "eno2", "eno3", "eno4"]).prop_shuffle();
    let links =
        (subsequence(vec!["eth0", "eth1", "wan"], 0..=3), host_names, parents).prop_flat_map(move |(names, host_names, parents)| {
            let links = names.into_iter().zip(host_names).zip(parents);
            links
                .map(|((name, host_name), parent)| (Just(named(name)), link(observed, named(host_name), named(parent))))
                .collect::<Vec<_>>()
        });
    let ruleset = option::of(select(vec!["a", "b"]).prop_map(|name| Ruleset { sha256: name.repeat(64) }));
    (sysctl, links, ruleset, addresses(4), rules(), vec(placed_route(), 0..12)).prop_map(
        move |(sysctl, links, ruleset, loopback_addresses, rules, placed)| {
            let mut links: BTreeMap<LinkName, Link> = links.into_iter().collect();
            let mut sysctl: BTreeMap<String, String> = sysctl.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            if observed {
                for (name, link) in &links {
                    sysctl.extend(link_settings(name, link.dad, link.accept_ra).map(|(key, value)| (key, value.to_owned())));
                }
            }
            let (mut routes, mut keys) = (Vec::new(), BTreeSet::new());
            for (place, route) in placed {
                let on_link = place.checked_sub(1).map(|at| links.values_mut().nth(at));
                let list = match on_link {
                    Some(None) => continue,
                    Some(Some(link)) => &mut link.routes,
                    None => &mut routes,
                };
                if keys.insert(route.key()) {
                    list.push(route);
                }
            }
            let source = "/etc/netns-networkd/a.toml:1".to_owned();
            let places = links.keys().map(|link| (link.clone(), source.clone())).collect();
            Netns {
                source,
                places,
                sysctl,
                sysctl_before: BTreeMap::new(),
                ruleset,
                loopback_addresses,
                routes,
                rules,
                links,
                drift: Drift::default(),
            }
        },
    )
}

/// What somebody did to a namespace by hand that nobody can ask for.
pub fn drift(netns: &Netns) -> impl Strategy<Value = Drift> + use<> {
    let links: Vec<LinkName> = netns.links.keys().cloned().collect();
    let ends: Vec<LinkName> = netns.links.values().filter_map(|link| link.kind.host_end()).map(|end| end.name.clone()).collect();
    let some = |names: Vec<LinkName>| {
        let called = |(place, name)| (name, LinkName::parse(&format!("stray{place}")).unwrap());
        let count = names.len();
        subsequence(names, 0..=count).prop_map(move |names| names.into_iter().enumerate().map(called).collect())
    };
    let rules: Vec<Rule> = [false, true].into_iter().flat_map(Rule::of_the_kernel).collect();
    (any::<bool>(), any::<bool>(), subsequence(rules, 0..=3), some(links), some(ends)).prop_map(
        |(is_nameless, loopback_is_down, lost_rules, renamed, renamed_ends)| Drift {
            is_nameless,
            loopback_is_down,
            lost_rules: lost_rules.into_iter().collect(),
            renamed,
            renamed_ends,
        },
    )
}
