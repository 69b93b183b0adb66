//! A namespace that is changed while it is up, against the real kernel: it ends as one that is new, and is never worse on the way.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use libtest_mimic::Trial;
use netns_networkd::desired::SYSCTL;
use netns_networkd::model::{Address, Dad, HostEnd, Kind, Link, LinkName, Netns, Route, RouteType, Rule};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::common::{Output, Sandbox, Shell, diff};
use crate::laws::{rules, samples};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a_change_ends_where_a_start_begins,
        a_route_moves_without_a_gap,
        one_route_of_several_metrics_goes,
        rules_of_one_priority,
        an_address_moves_to_another_link,
        an_address_goes_when_the_new_one_is_usable,
    ]
}

/// Two bridges and a link that others can stand on.
#[track_caller]
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let script = "for br in br0 br1; do
            ip link add $br type bridge; ip link set $br mtu 1400; ip link set $br mtu 1500; ip link set $br up
        done
        ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up";
    let _ = sandbox.sh(script).ok();
    sandbox
}

#[track_caller]
fn record(sandbox: &Sandbox, netns: &Netns) {
    sandbox.write_file("/var/lib/netns-networkd/netns/mail.json", &serde_json::to_string(netns).unwrap());
}

#[track_caller]
fn up(sandbox: &Sandbox, netns: &Netns) -> Output {
    record(sandbox, netns);
    sandbox.run(&["netns-networkd", "--verbose", "up", "mail"]).ok()
}

/// A namespace out of a record's own words.
#[track_caller]
fn netns(text: &str) -> Netns {
    let mut netns: Netns = toml::from_str(&format!("source = 'test'\n{text}")).unwrap();
    netns.sysctl = SYSCTL.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    netns
}

/// Two links, each with an address of each family, and these routes.
fn two_links(of_eth0: &str, of_eth1: &str) -> String {
    let link = |n: u8, routes: &str| {
        format!(
            "[links.eth{n}]\ndad = 'off'\nkind = {{ veth = {{ name = 'h{n}', bridge = 'br{n}' }} }}\nroutes = [{routes}]\n\
             addresses = [{{ address = '10.{n}.0.1/24' }}, {{ address = '2001:db8:{n}::1/64' }}]\n"
        )
    };
    link(0, of_eth0) + &link(1, of_eth1)
}

const DEFAULTS_OF_ETH0: &str = "{ to = '0.0.0.0/0', via = '10.0.0.254' }, { to = '::/0', via = '2001:db8::fe' }";
const DEFAULTS_OF_ETH1: &str = "{ to = '0.0.0.0/0', via = '10.1.0.254' }, { to = '::/0', via = '2001:db8:1::fe' }";

/// Everything in the namespace, and its links on the host; numbers that only this kernel knows left out.
#[track_caller]
fn picture(sandbox: &Sandbox) -> String {
    let script = r#"
        links() { sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/ qdisc \w+//; s/ state \w+//; s/link-netns.*//' | sort; }
        ip -o link show type veth | sed -n /mail-/p | links
        echo "== inside"
        ip -n mail -o link | links
        # link-local addresses are the kernel's and come later
        ip -n mail -o addr | sed -E '/fe80:/d; s/^[0-9]+: //; s/ +/ /g; s/valid_lft.*//' | sort
        for family in -4 -6; do
            ip -n mail $family route show table all | sed '/fe80:/d' | sort
            ip -n mail $family rule
        done"#;
    sandbox.sh(script).ok().stdout
}

fn few(pattern: &str, numbers: std::ops::RangeInclusive<u8>) -> Vec<IpNet> {
    numbers.map(|n| pattern.replace('#', &n.to_string()).parse().unwrap()).collect()
}

/// A link and addresses of which some routes can be taken, and other addresses, which any link may have.
fn link(n: usize) -> impl Strategy<Value = Link> {
    let veth = select(vec!["br0", "br1"]).prop_map(move |bridge| {
        let end = HostEnd::new(LinkName::parse(&format!("mail-{n}")).unwrap());
        Kind::Veth(HostEnd { bridge: Some(LinkName::parse(bridge).unwrap()), ..end })
    });
    let kind = prop_oneof![3 => veth, 1 => Just(Kind::Macvlan { parent: LinkName::parse("up0").unwrap() })];
    let v4 = subsequence(few(&format!("10.{n}.0.#/24"), 1..=3), 1..=3).prop_shuffle();
    let v6 = subsequence(few(&format!("2001:db8:{n}::#/64"), 1..=3), 1..=3).prop_shuffle();
    (kind, v4, v6, prop::bool::weighted(0.2), select(vec![1400_u32, 1500])).prop_map(move |(kind, v4, v6, deprecated, mtu)| {
        let mut addresses: Vec<Address> = v4.into_iter().chain(v6).map(Address::new).collect();
        addresses[0].deprecated = deprecated;
        Link { up: true, mac: None, mtu: Some(mtu), dad: Dad::Off, accept_ra: false, announce: true, addresses, routes: Vec::new(), kind }
    })
}

/// A route of the link `place`, whose gateway it can reach; past the last link it is one without a link.
fn route() -> impl Strategy<Value = (usize, Route)> {
    let to = select(vec!["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8:ff::/48", "2000::/3"]);
    let numbers = (select(vec![None, Some(100_u32), Some(200)]), select(vec![None, Some(50_u32)]), select(vec![None, Some(1300_u32)]));
    let refusal = select(vec![RouteType::Blackhole, RouteType::Unreachable, RouteType::Prohibit]);
    (0..4_usize, to, numbers, any::<bool>(), refusal).prop_map(|(place, to, (table, metric, mtu), by_gateway, refusal)| {
        let to: IpNet = to.parse().unwrap();
        let route = Route { table, metric, ..Route::new(to) };
        if place == 3 {
            return (place, Route { kind: refusal, ..route });
        }
        let via = if to.addr().is_ipv4() { format!("10.{place}.0.254") } else { format!("2001:db8:{place}::fe") };
        (place, Route { via: by_gateway.then(|| via.parse().unwrap()), mtu, ..route })
    })
}

fn random_netns() -> impl Strategy<Value = Netns> {
    let names = subsequence(vec![0_usize, 1, 2], 1..=3);
    let roaming = |net: &'static str| (Just(net), option::of(0..4_usize));
    let roaming = (roaming("10.9.0.1/32"), roaming("2001:db8:9::1/128"));
    let routes = proptest::collection::vec((route(), any::<bool>()), 0..10);
    // while a rule refuses everything, the kernel takes no gateway: it asks the rules for the way there
    let is_narrow = |rule: &Rule| rule.table.is_some() || rule.from.is_some() || rule.to.is_some() || rule.fwmark.is_some();
    let rules = rules().prop_map(move |rules| rules.into_iter().filter(is_narrow).collect());
    (names, (link(0), link(1), link(2)), roaming, routes, rules).prop_map(|(names, links, roaming, placed, rules)| {
        let mut links = BTreeMap::from([(0, links.0), (1, links.1), (2, links.2)]);
        links.retain(|n, _| names.contains(n));
        let mut loopback_addresses = Vec::new();
        for (net, place) in [roaming.0, roaming.1] {
            let address = Address::new(net.parse().unwrap());
            match place {
                Some(3) => loopback_addresses.push(address),
                Some(place) => links.get_mut(&place).into_iter().for_each(|link| link.addresses.push(address.clone())),
                None => {}
            }
        }
        let (mut routes, mut keys) = (Vec::new(), BTreeSet::new());
        for ((place, mut route), by_source) in placed {
            if place != 3 && !links.contains_key(&place) || !keys.insert(route.key()) {
                continue;
            }
            let Some(link) = links.get_mut(&place) else {
                routes.push(route);
                continue;
            };
            let mut own = link.addresses.iter().map(|a| a.address.addr()).filter(|ip| ip.is_ipv4() == route.to.addr().is_ipv4());
            route.source = own.next_back().filter(|_| by_source);
            link.routes.push(route);
        }
        let links = links.into_iter().map(|(n, link)| (LinkName::parse(&format!("eth{n}")).unwrap(), link)).collect();
        Netns { loopback_addresses, routes, rules, links, ..netns("") }
    })
}

fn a_change_ends_where_a_start_begins() {
    let (changed, fresh) = (sandbox(), sandbox());
    let mut before = None;
    for wanted in samples(&random_netns()).take(25) {
        let output = up(&changed, &wanted);
        let again = changed.run(&["netns-networkd", "--verbose", "up", "mail"]).ok();
        assert_eq!(again.stdout, "", "a second run changes something, after\n{output}");
        let _ = fresh.run(&["netns-networkd", "down", "mail"]).ok();
        let _ = up(&fresh, &wanted);
        let (got, wanted_picture) = (picture(&changed), picture(&fresh));
        let difference = || format!("{}\n{output}\nbefore: {before:#?}\nafter: {wanted:#?}", diff(&wanted_picture, &got));
        assert!(got == wanted_picture, "{}", difference());
        before = Some(wanted);
    }
    let _ = changed.run(&["netns-networkd", "down", "mail"]).ok();
    let left = changed.sh("ip -o link show type veth | grep -v up[01] || true; ls /run/netns").ok();
    assert_eq!(left.stdout, "");
}

/// What the kernel says of its routes while `up` changes them, other families' and tables' changes too.
#[track_caller]
fn routes_seen(sandbox: &Sandbox, wanted: &Netns) -> String {
    record(sandbox, wanted);
    // as in netns::up_twice_is_up_once, marks of ours tell when the monitor listens, and when it has seen all
    let script = r#"
        : >/run/seen # not what the one before has left
        ip -n mail monitor route >/run/seen & pid=$!
        mark() {
            until grep -q "$1" /run/seen; do ip -n mail route add blackhole $1; ip -n mail route del blackhole $1; done
        }
        mark 127.7.7.1
        netns-networkd up mail
        mark 127.7.7.2
        kill $pid
        # what the kernel does for its own link-local addresses comes when their check is over
        sed '/127.7.7./d; /proto kernel/d; s/ pref medium//; s/ *$//' /run/seen"#;
    sandbox.sh(script).ok().stdout
}

fn a_route_moves_without_a_gap() {
    let sandbox = sandbox();
    let (eth0, eth1) = (netns(&two_links(DEFAULTS_OF_ETH0, "")), netns(&two_links("", DEFAULTS_OF_ETH1)));
    let refused = netns(&format!(
        "routes = [{{ to = '0.0.0.0/0', type = 'blackhole' }}, {{ to = '::/0', type = 'unreachable' }}]\n{}",
        two_links("", "")
    ));
    let _ = up(&sandbox, &eth0);
    let by_eth0 = "default via 10.0.0.254 dev eth0 proto 78\ndefault via 2001:db8::fe dev eth0 proto 78 metric 1024\n";
    let by_eth1 = "default via 10.1.0.254 dev eth1 proto 78\ndefault via 2001:db8:1::fe dev eth1 proto 78 metric 1024\n";
    let by_none = "blackhole default proto 78\nunreachable default dev lo proto 78 metric 1024\n";
    // no "Deleted": each replaces the other in one message
    for (to, wanted) in [(&eth1, by_eth1), (&eth0, by_eth0), (&refused, by_none), (&eth1, by_eth1), (&refused, by_none)] {
        assert_eq!(routes_seen(&sandbox, to), wanted);
    }
    // the link that had them goes only then
    let _ = up(&sandbox, &eth0);
    let mut alone = eth1.clone();
    alone.links.retain(|name, _| name.as_str() == "eth1");
    let seen = routes_seen(&sandbox, &alone);
    let defaults: String = seen.lines().filter(|line| line.contains("default")).collect::<Vec<_>>().join("\n") + "\n";
    assert_eq!(defaults, by_eth1, "{seen}");
}

fn one_route_of_several_metrics_goes() {
    let sandbox = sandbox();
    let several = |metrics: [&str; 2]| {
        let routes = metrics.iter().flat_map(|metric| {
            [("10.8.0.0/16", "10.0.0.254"), ("2000::/3", "2001:db8::fe")]
                .map(|(to, via)| format!("{{ to = '{to}', via = '{via}'{metric} }}"))
        });
        netns(&two_links(&routes.collect::<Vec<_>>().join(", "), ""))
    };
    let _ = up(&sandbox, &several(["", ", metric = 50"]));
    let mut one = several(["", ", metric = 50"]);
    one.links.values_mut().for_each(|link| link.routes.retain(|route| route.metric.is_some()));
    let seen = routes_seen(&sandbox, &one);
    let wanted = "Deleted 2000::/3 via 2001:db8::fe dev eth0 proto 78 metric 1024\nDeleted 10.8.0.0/16 via 10.0.0.254 dev eth0 proto 78\n";
    assert_eq!(seen, wanted);
}

/// To the kernel a rule with fewer selectors is one with more when it is to be added with `NLM_F_EXCL`.
fn rules_of_one_priority() {
    let sandbox = sandbox();
    let rules = |rules: &[&str]| {
        let rules: Vec<String> = rules.iter().map(|rule| format!("{{ priority = 10, ipv6 = false, table = 100{rule} }}")).collect();
        let rules = rules.join(", ");
        netns(&format!("rules = [{rules}]\n{}", two_links("", "")))
    };
    let all: [&[&str]; 4] =
        [&[", from = '10.1.0.0/16'"], &["", ", from = '10.1.0.0/16'"], &[""], &[", from = '10.1.0.0/16'", ", from = '10.2.0.0/16'"]];
    for wanted in all.iter().chain(all.iter().rev()) {
        let output = up(&sandbox, &rules(wanted));
        let shown = sandbox.sh("ip -n mail rule show | grep proto").ok().stdout;
        let mut lines: Vec<&str> = shown.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
        lines.sort_unstable();
        let from = |rule: &&str| rule.split('\'').nth(1).map_or("all".to_owned(), ToOwned::to_owned);
        let mut expected: Vec<String> = wanted.iter().map(|rule| format!("from {} lookup 100 proto 78", from(rule))).collect();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{output}");
        assert_eq!(up(&sandbox, &rules(wanted)).stdout, "");
    }
}

/// On the same bridge the old link would answer the new one's duplicate detection.
fn an_address_moves_to_another_link() {
    let sandbox = sandbox();
    let on = |n: u8| {
        let extra = |m: u8| if m == n { ", { address = '10.9.0.1/24' }, { address = '2001:db8:9::1/64' }" } else { "" };
        let link = |m: u8| {
            format!(
                "[links.eth{m}]\nkind = {{ veth = {{ name = 'h{m}', bridge = 'br0' }} }}\n\
                 addresses = [{{ address = '10.{m}.0.1/24' }}{}]\n",
                extra(m)
            )
        };
        netns(&(link(0) + &link(1)))
    };
    let _ = up(&sandbox, &on(0));
    for n in [1, 0, 1] {
        let output = up(&sandbox, &on(n));
        let shown = sandbox.sh("ip -n mail -o -6 addr show to 2001:db8:9::/64").ok().stdout;
        assert!(shown.contains(&format!("eth{n} ")) && !shown.contains("dadfailed") && !shown.contains("tentative"), "{shown}{output}");
    }
}

fn an_address_goes_when_the_new_one_is_usable() {
    let sandbox = sandbox();
    let with = |n: u8| {
        netns(&format!(
            "[links.eth0]\nkind = {{ veth = {{ name = 'h0', bridge = 'br0' }} }}\naddresses = [{{ address = '2001:db8::{n}/64' }}]\n"
        ))
    };
    let _ = up(&sandbox, &with(1));
    record(&sandbox, &with(2));
    let script = r#"
        ip -n mail monitor address >/run/seen & pid=$!
        mark() {
            until grep -q "$1" /run/seen; do ip -n mail addr add $1/32 dev lo; ip -n mail addr del $1/32 dev lo; done
        }
        mark 127.7.7.1
        netns-networkd up mail
        mark 127.7.7.2
        kill $pid
        grep -o '^Deleted\|2001:db8::[0-9]/64.*' /run/seen | sed 's/ *$//' | tr '\n' ';'"#;
    let seen = sandbox.sh(script).ok().stdout;
    let wanted = "2001:db8::2/64 scope global tentative;2001:db8::2/64 scope global;Deleted;2001:db8::1/64 scope global;";
    assert!(seen.contains(wanted), "{seen}");
}
