//! A configuration in, the complete tree of files out. Each folder under tests/cases/render is a case: `config.toml` is
//! /etc/netns-networkd/config.toml, `host-nsswitch.conf` the host's nsswitch.conf if there is one, `own/NAME/` what an admin has under /etc/netns/NAME; `expected` is the tree that
//! `sync` writes, `changes.txt` all that it looks after.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};
use ipnet::IpNet;
use libtest_mimic::Trial;
use netns_networkd::config::{Bridge, SourceFile, Uplink, parse};
use netns_networkd::desired::{Facts, desired};
use netns_networkd::diff::diff;
use netns_networkd::model::{
    HostEnd, LinkName, Mac, Netns, NetnsName, Port, PortVlans, Provenance, Route, RouteType, Scope, State, UnitName,
};
use netns_networkd::render;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::common::{Case, cases, trial};
use crate::laws::{ip_of, law, link_name, mac, net_of, netns_name, route};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        bridge_files_say_the_bridge,
        uplink_files_say_the_uplink,
        port_files_say_the_port,
        pair_files_say_the_pair,
        drop_ins_say_the_namespace,
        descriptions_come_back,
        resolv_conf_says_the_resolvers,
        nsswitch_keeps_all_but_hosts,
        source_names_cannot_write_lines,
    ];
    trials.extend(cases("render", renders));
    trials.push(trial("render::every_file_is_whole", every_file_is_whole));
    trials
}

fn tree(case: &Case) -> State {
    let files = [SourceFile { path: "/etc/netns-networkd/config.toml".to_owned(), bytes: case.read("config.toml").into_bytes() }];
    let config = parse(&files).unwrap_or_else(|faults| panic!("{}: {faults}", case.name));
    let mut facts = Facts { nsswitch: fs::read_to_string(case.path("host-nsswitch.conf")).ok(), ..Facts::default() };
    let encrypted = fs::read_to_string(case.path("host-encrypted-credentials")).unwrap_or_default();
    facts.encrypted = encrypted.lines().map(ToOwned::to_owned).collect();
    for netns in config.namespaces.keys() {
        let files = fs::read_dir(case.path(&format!("own/{netns}"))).into_iter().flatten();
        facts.etc.insert(netns.clone(), files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect());
    }
    desired(&config, &facts).unwrap()
}

fn renders(case: &Case) {
    let state = tree(case);
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    if updates {
        let _ = fs::remove_dir_all(case.path("expected"));
    }
    for (path, file) in &state.files {
        assert_eq!(file.provenance, Provenance::Ours);
        let place = format!("expected{}", path.display());
        if updates {
            fs::create_dir_all(case.path(&place).parent().unwrap()).unwrap();
        }
        case.expect(&place, &file.content);
    }
    let wanted = files_below(&case.path("expected"));
    let written: BTreeSet<PathBuf> = state.files.keys().cloned().collect();
    assert_eq!(wanted, written, "files expected, and files written");
    let changes = diff(&State::default(), &state).iter().fold(String::new(), |mut text, change| {
        writeln!(text, "{change}").unwrap();
        text
    });
    case.expect("changes.txt", &changes);
}

fn files_below(top: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![top.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(Path::new("/").join(path.strip_prefix(top).unwrap()));
            }
        }
    }
    found
}

/// What holds for each file of each case, whatever is in it.
fn every_file_is_whole() {
    let top = Path::new(crate::common::REPO).join("tests/cases/render");
    let mut seen = 0;
    for entry in fs::read_dir(top).unwrap() {
        let dir = entry.unwrap().path();
        let case = Case { name: dir.file_name().unwrap().to_str().unwrap().to_owned(), dir };
        for (path, file) in tree(&case).files {
            let at = format!("{}: {}", case.name, path.display());
            assert_no_control(&file.content, &at);
            assert!(file.content.ends_with('\n') && !file.content.ends_with("\n\n"), "{at}: ends in one newline");
            if path.extension().is_some_and(|e| e == "json") {
                continue; // the record is for `up`, no person reads it
            }
            seen += 1;
            assert!(file.content.starts_with("# Made by netns-networkd from /etc/netns-networkd/config.toml; "), "{at}: says its source");
            if path.starts_with("/etc/systemd") {
                let parsed = parse_unit(&file.content);
                assert_eq!(body(&file.content), written_again(&parsed), "{at}: parsed and written again");
            }
        }
    }
    assert!(seen > 20);
}

#[track_caller]
fn assert_no_control(text: &str, at: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{at}: control character in {text:?}");
}

/// Sections and settings in order, repeated ones repeated.
type Parsed = Vec<(String, Vec<(String, String)>)>;

fn parse_unit(text: &str) -> Parsed {
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let ini = Ini::load_from_str_opt(text, options).unwrap();
    let mut sections = Vec::new();
    for (name, settings) in &ini {
        match name {
            Some(name) => sections.push((name.to_owned(), settings.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())),
            None => assert!(settings.is_empty(), "settings before the first section"),
        }
    }
    sections
}

fn body(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with('#') && *line != "\n").collect()
}

fn written_again(parsed: &Parsed) -> String {
    let mut text = String::new();
    for (name, settings) in parsed {
        writeln!(text, "[{name}]").unwrap();
        for (key, value) in settings {
            writeln!(text, "{key}={value}").unwrap();
        }
    }
    text
}

/// Takes settings out of a parsed file one by one, so that what is left over is seen.
struct Settings(Parsed);

impl Settings {
    fn of(text: &str) -> Self {
        assert_no_control(text, "file");
        Self(parse_unit(text))
    }

    fn all(&mut self, section: &str, key: &str) -> Vec<String> {
        let mut values = Vec::new();
        for (name, settings) in &mut self.0 {
            if name == section {
                values.extend(settings.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()));
                settings.retain(|(k, _)| k != key);
            }
        }
        values
    }

    #[track_caller]
    fn one(&mut self, section: &str, key: &str) -> Option<String> {
        let mut values = self.all(section, key);
        assert!(values.len() <= 1, "{key}= more than once in [{section}]: {values:?}");
        values.pop()
    }

    /// The sections of one name, each with its settings.
    fn sections(&mut self, name: &str) -> Vec<Settings> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(n, _)| n == name);
        self.0 = left;
        let taken: Parsed = taken;
        taken.into_iter().map(|section| Settings(vec![section])).collect()
    }

    #[track_caller]
    fn assert_empty(self) {
        let left: Parsed = self.0.into_iter().filter(|(_, settings)| !settings.is_empty()).collect();
        assert_eq!(left, Parsed::new(), "settings that nobody asked for");
    }
}

fn is_yes(value: Option<String>) -> Option<bool> {
    value.map(|v| match v.as_str() {
        "yes" => true,
        "no" => false,
        other => panic!("{other:?} is neither yes nor no"),
    })
}

fn parse_route(mut section: Settings) -> Route {
    let via: Option<IpAddr> = section.one("Route", "Gateway").map(|v| v.parse().unwrap());
    // systemd.network(5): no Destination= is the default route of the gateway's family
    let everywhere: IpNet = if via.is_some_and(|ip| ip.is_ipv6()) { "::/0" } else { "0.0.0.0/0" }.parse().unwrap();
    let route = Route {
        to: section.one("Route", "Destination").map_or(everywhere, |v| v.parse().unwrap()),
        via,
        source: section.one("Route", "PreferredSource").map(|v| v.parse().unwrap()),
        metric: section.one("Route", "Metric").map(|v| v.parse().unwrap()),
        on_link: is_yes(section.one("Route", "GatewayOnLink")).unwrap_or(false),
        table: section.one("Route", "Table").map(|v| v.parse().unwrap()),
        mtu: section.one("Route", "MTUBytes").map(|v| v.parse().unwrap()),
        scope: section
            .one("Route", "Scope")
            .map(|v| [Scope::Global, Scope::Link, Scope::Host].into_iter().find(|s| s.as_str() == v).unwrap()),
        kind: section.one("Route", "Type").map_or(RouteType::Unicast, |v| {
            [RouteType::Blackhole, RouteType::Unreachable, RouteType::Prohibit].into_iter().find(|kind| kind.as_str() == v).unwrap()
        }),
    };
    section.assert_empty();
    route
}

fn bridge() -> impl Strategy<Value = Bridge> {
    let uplinks = vec(link_name().prop_map(Uplink::Link), 0..3);
    let addresses = vec(any::<bool>().prop_flat_map(net_of), 0..4);
    let dns = vec(any::<bool>().prop_flat_map(ip_of), 0..3);
    let settings = (option::of(mac()), option::of(68..=65535_u32), option::of(any::<bool>()), option::of(Just(true)));
    (uplinks, addresses, vec(route(), 0..5), dns, settings).prop_map(|(uplinks, addresses, routes, dns, (mac, mtu, stp, filtering))| {
        Bridge {
            source: "/etc/netns-networkd/a.toml:7".to_owned(),
            uplinks,
            addresses,
            routes,
            dns,
            mac,
            mtu,
            stp,
            vlan_filtering: filtering,
            ..Bridge::default()
        }
    })
}

fn port_vlans() -> impl Strategy<Value = PortVlans> {
    let few = btree_set(prop_oneof![1..=8_u16, 4090..=4094_u16], 0..6);
    (option::of(0..=8_u16), few).prop_map(|(untagged, mut tagged)| {
        tagged.retain(|id| Some(*id) != untagged);
        PortVlans { untagged, tagged }
    })
}

/// As networkd reads `[BridgeVLAN]`.
fn parse_vlans(file: &mut Settings) -> PortVlans {
    let (mut pvid, mut untagged, mut tagged) = (None, None, BTreeSet::new());
    for mut section in file.sections("BridgeVLAN") {
        let mut number = |key: &str| section.one("BridgeVLAN", key).map(|v| v.parse::<u16>().unwrap());
        pvid = number("PVID").or(pvid);
        untagged = number("EgressUntagged").or(untagged);
        if let Some(range) = section.one("BridgeVLAN", "VLAN") {
            let (first, last) = range.split_once('-').unwrap_or((&range, &range));
            tagged.extend(first.parse::<u16>().unwrap()..=last.parse().unwrap());
        }
        section.assert_empty();
    }
    assert_eq!(pvid, untagged, "frames without a tag go and come by one VLAN");
    assert_ne!(pvid, Some(0), "0 is no VLAN");
    PortVlans { untagged: pvid, tagged }
}

fn named(vlans: Option<&PortVlans>) -> PortVlans {
    let vlans = vlans.cloned().unwrap_or_default();
    PortVlans { untagged: vlans.untagged.filter(|id| *id != 0), ..vlans }
}

fn bridge_files_say_the_bridge() {
    law(256, (link_name(), bridge(), vec(link_name(), 0..3), option::of(port_vlans())), |(name, wanted, vlans, ports)| {
        let vlans: Vec<&LinkName> = vlans.iter().collect();
        let mut netdev = Settings::of(&render::bridge_netdev(&name, &wanted));
        assert_eq!(netdev.one("NetDev", "Name"), Some(name.to_string()));
        assert_eq!(netdev.one("NetDev", "Kind").as_deref(), Some("bridge"));

        let mut network = Settings::of(&render::bridge_network(&name, &wanted, &vlans, ports.as_ref()));
        assert_eq!(network.one("Match", "Name"), Some(name.to_string()));
        assert_eq!(network.one("Network", "ConfigureWithoutCarrier").as_deref(), Some("yes"));
        assert_eq!(network.one("Network", "IPv6AcceptRA").as_deref(), Some("no"));
        let mtu = network.one("Link", "MTUBytes");
        let has_ipv6 = wanted.addresses.iter().any(|a| a.addr().is_ipv6());
        assert_eq!(network.one("Network", "LinkLocalAddressing").as_deref(), Some(if has_ipv6 { "ipv6" } else { "no" }));
        let reached = !wanted.uplinks.is_empty() && !wanted.addresses.is_empty();
        assert_eq!(is_yes(network.one("Link", "RequiredForOnline")), Some(reached));

        let mut addresses: Vec<IpNet> = network.all("Network", "Address").iter().map(|v| v.parse().unwrap()).collect();
        let unchecked = network.sections("Address").into_iter().map(|mut section| {
            assert_eq!(section.one("Address", "DuplicateAddressDetection").as_deref(), Some("none"));
            let address: IpNet = section.one("Address", "Address").unwrap().parse().unwrap();
            section.assert_empty();
            address
        });
        let unchecked: Vec<IpNet> = unchecked.collect();
        let alone = wanted.uplinks.is_empty();
        assert!(unchecked.iter().all(|a| a.addr().is_ipv6() && alone), "somebody else on the uplink's network may have it");
        assert!(!alone || addresses.iter().all(|a| a.addr().is_ipv4()), "would be checked only when the first service starts");
        addresses.extend(unchecked);
        let mut wanted = wanted;
        wanted.addresses.sort_by_key(|a| alone && a.addr().is_ipv6()); // a stable sort: the order within a family counts
        let said = Bridge {
            source: wanted.source.clone(),
            uplinks: wanted.uplinks.clone(), // in files of their own
            addresses,
            routes: network.sections("Route").into_iter().map(parse_route).collect(),
            dns: network.all("Network", "DNS").iter().map(|v| v.parse().unwrap()).collect(),
            mac: netdev.one("NetDev", "MACAddress").map(|v| v.parse::<Mac>().unwrap()),
            mtu: mtu.map(|v| v.parse().unwrap()),
            stp: is_yes(netdev.one("Bridge", "STP")),
            vlan_filtering: is_yes(netdev.one("Bridge", "VLANFiltering")),
            ..Bridge::default()
        };
        assert_eq!(said, wanted, "{}", render::bridge_network(&name, &wanted, &vlans, ports.as_ref()));
        assert_eq!(network.all("Network", "VLAN"), vlans.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(parse_vlans(&mut network), named(ports.as_ref()));
        // or networkd up to 255 leaves VLAN 1 on every port
        assert_eq!(netdev.one("Bridge", "DefaultPVID"), wanted.vlan_filtering.map(|_| "none".to_owned()));
        netdev.assert_empty();
        network.assert_empty();
    });
}

fn assert_port(file: Settings, name: &LinkName, kind: Option<&str>, settings: &[(&str, String)]) {
    let mut file = file;
    assert_eq!(file.one("Match", "Name"), Some(name.to_string()));
    assert_eq!(file.one("Match", "Kind").as_deref(), kind);
    assert_eq!(file.one("Link", "RequiredForOnline").as_deref(), Some("no"));
    assert_eq!(file.one("Network", "LinkLocalAddressing").as_deref(), Some("no"));
    assert_eq!(file.one("Network", "IPv6AcceptRA").as_deref(), Some("no"));
    // an uplink may have neighbours that tell what they are
    assert_eq!(file.one("Network", "LLDP").as_deref(), kind.map(|_| "no"));
    let keys: BTreeSet<&str> = settings.iter().map(|(key, _)| *key).collect();
    let said: Vec<_> = keys.iter().flat_map(|key| file.all("Network", key).into_iter().map(|value| (*key, value))).collect();
    assert_eq!(said, settings);
    file.assert_empty();
}

fn uplink_files_say_the_uplink() {
    let input = (link_name(), link_name(), 1..=4094_u16, vec(link_name(), 0..3), option::of(port_vlans()));
    law(256, input, |(name, bridge, id, vlans, ports)| {
        let said: Vec<_> = std::iter::once(("Bridge", bridge.to_string())).chain(vlans.iter().map(|v| ("VLAN", v.to_string()))).collect();
        let vlans: Vec<&LinkName> = vlans.iter().collect();
        for uplink in [Uplink::Link(name.clone()), Uplink::Vlan { name: name.clone(), parent: bridge.clone(), id }] {
            let mut file = Settings::of(&render::uplink_network(&uplink, &bridge, &vlans, ports.as_ref(), "a.toml:1"));
            assert_eq!(parse_vlans(&mut file), named(ports.as_ref()));
            assert_port(file, &name, None, &said);
        }
        let mut netdev = Settings::of(&render::vlan_netdev(&name, id, "a.toml:1"));
        assert_eq!(netdev.one("NetDev", "Name"), Some(name.to_string()));
        assert_eq!(netdev.one("NetDev", "Kind").as_deref(), Some("vlan"));
        assert_eq!(netdev.one("VLAN", "Id"), Some(id.to_string()));
        netdev.assert_empty();
    });
}

fn port() -> impl Strategy<Value = Port> {
    let switch = || option::of(any::<bool>());
    let switches = (switch(), switch(), switch(), switch(), switch());
    (switches, option::of(1..=65535_u32), option::of(0..=63_u16), option::of(port_vlans())).prop_map(|(switches, cost, priority, vlans)| {
        let (isolated, hairpin, learning, neighbor_suppression, fast_leave) = switches;
        Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans }
    })
}

fn port_files_say_the_port() {
    law(256, (link_name(), link_name(), port()), |(name, bridge, port)| {
        let end = HostEnd { bridge: Some(bridge.clone()), port: port.clone(), ..HostEnd::new(name.clone()) };
        let mut file = Settings::of(&render::port_network(&end, &bridge, "a.toml:1"));
        let said = Port {
            isolated: is_yes(file.one("Bridge", "Isolated")),
            hairpin: is_yes(file.one("Bridge", "HairPin")),
            learning: is_yes(file.one("Bridge", "Learning")),
            neighbor_suppression: is_yes(file.one("Bridge", "NeighborSuppression")),
            fast_leave: is_yes(file.one("Bridge", "FastLeave")),
            cost: file.one("Bridge", "Cost").map(|v| v.parse().unwrap()),
            priority: file.one("Bridge", "Priority").map(|v| v.parse().unwrap()),
            vlans: port.vlans.as_ref().map(|_| parse_vlans(&mut file)),
        };
        assert_eq!(said, Port { vlans: port.vlans.as_ref().map(|vlans| named(Some(vlans))), ..port });
        assert_port(file, &name, Some("veth"), &[("Bridge", bridge.to_string())]);
        let foreign = Settings::of(&render::foreign_port_network(&name, "a.toml:1"));
        assert_port(foreign, &name, Some("veth"), &[("KeepMaster", "yes".to_owned())]);
    });
}

fn pair_files_say_the_pair() {
    let nets = || btree_set(any::<bool>().prop_flat_map(net_of), 0..4);
    law(256, (link_name(), nets(), nets()), |(name, addresses, routes)| {
        let routes: BTreeSet<IpNet> = routes.iter().map(IpNet::trunc).collect();
        let end = HostEnd { addresses: addresses.clone(), routes: routes.clone(), ..HostEnd::new(name.clone()) };
        let mut file = Settings::of(&render::pair_network(&end, "a.toml:1"));
        let said: BTreeSet<IpNet> = file
            .sections("Address")
            .into_iter()
            .map(|mut section| {
                let address: IpNet = section.one("Address", "Address").unwrap().parse().unwrap();
                // nobody but the namespace can have it, and it would wait for that
                assert_eq!(section.one("Address", "DuplicateAddressDetection").is_some(), address.addr().is_ipv6());
                section.assert_empty();
                address
            })
            .collect();
        assert_eq!(said, addresses);
        let to = file.sections("Route").into_iter().map(parse_route).map(|route| {
            assert_eq!(route, Route::new(route.to));
            route.to
        });
        assert_eq!(to.collect::<BTreeSet<IpNet>>(), routes);
        let link_local = if addresses.iter().chain(&routes).any(|a| a.addr().is_ipv6()) { "ipv6" } else { "no" };
        assert_eq!(file.one("Network", "LinkLocalAddressing").as_deref(), Some(link_local));
        assert_eq!(file.one("Network", "ConfigureWithoutCarrier").as_deref(), Some("yes"));
        assert_eq!(file.one("Network", "IPv6AcceptRA").as_deref(), Some("no"));
        assert_eq!(file.one("Network", "LLDP").as_deref(), Some("no"));
        assert_eq!(file.one("Link", "RequiredForOnline").as_deref(), Some("no"));
        assert_eq!(file.one("Match", "Name"), Some(name.to_string()));
        assert_eq!(file.one("Match", "Kind").as_deref(), Some("veth"));
        file.assert_empty();
    });
}

fn unit_name() -> impl Strategy<Value = UnitName> {
    "[a-zA-Z0-9_:.-]{1,20}(@([a-zA-Z0-9_:.-]{1,9})?)?\\.(service|socket)"
        .prop_filter_map("a unit's name", |name| UnitName::parse(&name).ok())
}

fn drop_ins_say_the_namespace() {
    let files = btree_map("hosts|resolv[.]conf|nsswitch[.]conf|[a-z][a-z+@_.-]{0,9}", any::<bool>(), 0..4);
    law(256, (unit_name(), netns_name(), files, any::<bool>()), |(unit, netns, files, dhcp)| {
        let whose = |ours| if ours { Provenance::Ours } else { Provenance::Foreign };
        let etc = files.iter().map(|(name, ours)| (name.clone(), whose(*ours))).collect();
        let mut file = Settings::of(&render::unit_drop_in(&unit, &netns, &etc, dhcp, "a.toml:1"));
        let netns_unit = format!("netns@{netns}.service");
        assert_eq!(file.one("Unit", "BindsTo").as_ref(), Some(&netns_unit));
        let online_unit = (dhcp && !unit.is_socket()).then(|| format!("netns-online@{netns}.service"));
        assert_eq!(file.one("Unit", "Requires"), online_unit);
        assert_eq!(file.all("Unit", "After"), [Some(netns_unit), online_unit].into_iter().flatten().collect::<Vec<_>>());
        let section = if unit.as_str().ends_with(".socket") { "Socket" } else { "Service" };
        assert_eq!(file.one(section, "NetworkNamespacePath"), Some(format!("/run/netns/{netns}")));
        let binds = file.all(section, "BindReadOnlyPaths");
        let hidden = (file.one(section, "InaccessiblePaths"), file.one(section, "TemporaryFileSystem"));
        let wanted = files.iter().map(|(name, ours)| format!("{}/etc/netns/{netns}/{name}:/etc/{name}", if *ours { "" } else { "-" }));
        assert_eq!(binds, if section == "Service" { wanted.collect() } else { Vec::new() });
        let hides = section == "Service" && files.contains_key("resolv.conf");
        let wanted = hides.then(|| ("-/run/nscd".to_owned(), "/run/systemd/resolve:ro".to_owned())).unzip();
        assert_eq!(hidden, wanted);
        file.assert_empty();
    });
}

/// As systemd reads it: specifiers resolved, no other meaning to any character.
fn descriptions_come_back() {
    let text = "([^\\p{C}\\s][^\\p{C}]{0,60})?[^\\p{C}\\s\\\\]";
    law(256, (netns_name(), text), |(netns, description)| {
        let mut file = Settings::of(&render::netns_drop_in(&netns, Some(&description), true, &[("50%.key", true)].into(), "a.toml:1"));
        assert_eq!(file.one("Unit", "Wants"), Some(format!("netns-dhcp@{netns}.service")));
        let said = file.one("Unit", "Description").unwrap();
        assert_eq!(file.one("Service", "LoadCredentialEncrypted").as_deref(), Some("50%%.key"));
        file.assert_empty();
        let mut resolved = String::new();
        let mut letters = said.chars();
        while let Some(letter) = letters.next() {
            resolved.push(letter);
            assert!(letter != '%' || letters.next() == Some('%'), "a specifier in {said}");
        }
        assert_eq!(resolved, format!("Network namespace {netns}: {description}"));
    });
}

fn resolv_conf_says_the_resolvers() {
    let word = "[a-z0-9_.:-]{1,20}";
    let input = (vec(any::<bool>().prop_flat_map(ip_of), 0..4), vec(word, 0..4), vec(word, 0..4));
    law(256, input, |(dns, search, options)| {
        let text = render::resolv_conf(&dns, &search, &options, "a.toml:1");
        assert_no_control(&text, "resolv.conf");
        let lines = |key: &str| -> Vec<String> {
            body(&text).lines().filter_map(|l| l.strip_prefix(&format!("{key} "))).map(ToOwned::to_owned).collect()
        };
        let words = |key: &str| -> Vec<String> {
            let lines = lines(key);
            assert!(lines.len() <= 1, "resolv.conf(5): the last '{key}' line wins: {lines:?}");
            lines.iter().flat_map(|l| l.split(' ').map(ToOwned::to_owned)).collect()
        };
        assert_eq!(lines("nameserver").iter().map(|l| l.parse().unwrap()).collect::<Vec<IpAddr>>(), dns);
        assert_eq!(words("search"), search);
        assert_eq!(words("options"), options);
        let known = dns.len() + usize::from(!search.is_empty()) + usize::from(!options.is_empty());
        assert_eq!(body(&text).lines().count(), known, "{text}");
    });
}

fn nsswitch_keeps_all_but_hosts() {
    let line = prop_oneof!["[a-z]{1,9}:  [a-z \\[\\]=!]{0,20}", "# [a-z :]{0,20}", "[ \t]{0,2}hosts:[a-z ]{0,20}", Just(String::new())];
    law(256, vec(line, 0..12), |lines| {
        let text = render::nsswitch_conf(Some(&lines.join("\n")), "a.toml:1");
        let is_hosts = |line: &&str| line.trim_start().starts_with("hosts:");
        let said: Vec<&str> = text.lines().filter(is_hosts).collect();
        assert!(!said.is_empty() && said.iter().all(|line| *line == "hosts: files dns"), "{text}");
        let others = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !is_hosts(line) && !line.is_empty());
            lines.filter(|line| !line.starts_with("# Made by") && !line.starts_with("# To add")).map(ToOwned::to_owned).collect()
        };
        assert_eq!(others(&text), others(&lines.join("\n")));
    });
}

/// A file name may hold anything but a slash and a NUL.
fn source_names_cannot_write_lines() {
    let evil = "/etc/netns-networkd/a\n[Service]\nExecStart=x.toml:3";
    let netns = NetnsName::parse("mail").unwrap();
    let bridge = LinkName::parse("br-lan").unwrap();
    let table = Bridge { source: evil.to_owned(), ..Bridge::default() };
    let mut texts = vec![
        render::bridge_netdev(&bridge, &table),
        render::bridge_network(&bridge, &table, &[], None),
        render::uplink_network(&Uplink::Link(bridge.clone()), &bridge, &[], None, evil),
        render::vlan_netdev(&bridge, 20, evil),
        render::port_network(&HostEnd::new(bridge.clone()), &bridge, evil),
        render::foreign_port_network(&bridge, evil),
        render::pair_network(&HostEnd::new(bridge.clone()), evil),
        render::unit_drop_in(&UnitName::parse("a.service").unwrap(), &netns, &BTreeMap::new(), true, evil),
        render::netns_drop_in(&netns, Some("text"), true, &[("a.key", false)].into(), evil),
        render::dhcpcd_conf(&BTreeMap::new(), &Netns { source: evil.to_owned(), ..Netns::default() }),
        render::resolv_conf(&["192.0.2.1".parse().unwrap()], &[], &[], evil),
        render::nsswitch_conf(None, evil),
    ];
    texts.retain(|text| body(text).contains("ExecStart"));
    assert!(texts.is_empty(), "a file's name becomes a setting:\n{}", texts.join("\n"));
}
