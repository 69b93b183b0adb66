//! What was observed in, a report out: whose each difference is, what is an orphan, and what is known of each namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{SourceFile, parse},
    desired::{self, desired, record_path},
    diff::diff,
    model::{
        Address, File, LinkName, Maker, Netns, NetnsName, Place, Provenance, Seen, SeenAddress, SeenLink, SeenRoute, State, Unit, UnitName,
    },
    plan::{Kept, Pending, Plan, Reload, Request, plan},
    report::{
        AddressState, Configuration, ConfigurationState, Document, Facts, LinkState, NetnsFacts, NetnsState, Origin, Orphan, OrphanKind,
        Report, UnitFacts,
    },
};

use crate::common::schema;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        nothing_differs_where_all_is_as_configured,
        each_difference_has_its_place,
        what_the_configuration_changes_is_no_edit,
        what_nobody_names_is_an_orphan,
        states_of_a_namespace,
        addresses_say_where_they_come_from,
        units_say_what_binds_them,
        names_narrow_the_report,
        bridges_have_their_ports,
        what_was_not_seen_is_unknown,
    ]
}

const CONFIG: &str = r#"
[bridge.br0]
uplinks = ["eno1"]
addresses = ["192.0.2.2/24"]
[bridge.br1]
[namespace.web]
description = "100 % web"
services = ["nginx", "php@"]
dns = ["192.0.2.53"]
interface.eth0 = { bridge = "br0", addresses = ["192.0.2.10/24", "2001:db8:1::10/64"], gateways = ["192.0.2.1"] }
[namespace.sql]
services = ["mysql"]
interface.eth0 = { bridge = "br1", addresses = ["192.0.2.11/24"] }
"#;

/// A host on which `web` runs and `sql` does not.
struct Scene {
    desired: State,
    observed: State,
    written: BTreeSet<PathBuf>,
    goals: BTreeMap<NetnsName, Netns>,
    seen: Option<Seen>,
    web: NetnsFacts<'static>,
    host: Vec<SeenLink>,
    retired: Vec<NetnsName>,
    strays: Vec<Orphan>,
    kept: Vec<Kept>,
    unfinished: bool,
    units: BTreeMap<String, UnitFacts>,
    configuration: ConfigurationState,
}

fn netns(name: &str) -> NetnsName {
    NetnsName::parse(name).unwrap()
}

fn link(name: &str) -> LinkName {
    LinkName::parse(name).unwrap()
}

fn unit(name: &str) -> UnitName {
    UnitName::parse(name).unwrap()
}

fn seen_link(name: &str, kind: &str) -> SeenLink {
    SeenLink { name: name.to_owned(), kind: Some(kind.to_owned()), up: true, carrier: true, mtu: 1500, ..SeenLink::default() }
}

fn port(name: &str, kind: &str, bridge: &str) -> SeenLink {
    SeenLink { master: Some(bridge.to_owned()), forwards: Some(true), ..seen_link(name, kind) }
}

fn address(text: &str, maker: Maker) -> SeenAddress {
    let address = Address::new(text.parse().unwrap());
    SeenAddress { address, tentative: false, duplicate: false, for_a_time: false, maker }
}

impl Scene {
    fn new() -> Self {
        let file = SourceFile { path: "/etc/netns-networkd/a.toml".to_owned(), bytes: CONFIG.as_bytes().to_vec() };
        let mut desired = desired(&parse(&[file]).unwrap(), &desired::Facts::default()).unwrap();
        let goals = BTreeMap::from([(netns("sql"), desired.netns.remove(&netns("sql")).unwrap())]);
        desired.units.retain(|name, _| !name.is_template());
        let mysql = desired.units.get_mut(&unit("mysql")).unwrap();
        (mysql.runs_in, mysql.etc) = (None, BTreeSet::new());
        let web = &desired.netns[&netns("web")].links[&link("eth0")];
        let addresses = web.addresses.iter().map(|address| self::address(&address.to_string(), Maker::Ours)).collect();
        let routes = web.routes.iter().map(|route| SeenRoute { route: route.clone(), maker: Maker::Ours }).collect();
        let lo =
            SeenLink { addresses: vec![address("127.0.0.1/8", Maker::Kernel), address("::1/128", Maker::Kernel)], ..seen_link("lo", "") };
        let seen = Seen { links: vec![lo, SeenLink { addresses, routes, ..seen_link("eth0", "veth") }], routes: Vec::new() };
        let host = vec![
            SeenLink { addresses: vec![address("192.0.2.2/24", Maker::Other)], ..seen_link("br0", "bridge") },
            seen_link("br1", "bridge"),
            port("eno1", "", "br0"),
            port("web-eth0", "veth", "br0"),
            port("vnet0", "tun", "br0"),
        ];
        let web =
            NetnsFacts { configured: true, active_state: Some("active".to_owned()), there: true, ours: true, ..NetnsFacts::default() };
        Self {
            observed: desired.clone(),
            written: desired.files.keys().cloned().collect(),
            desired,
            goals,
            seen: Some(seen),
            web,
            host,
            retired: Vec::new(),
            strays: Vec::new(),
            kept: Vec::new(),
            unfinished: false,
            units: BTreeMap::new(),
            configuration: ConfigurationState::Valid,
        }
    }

    fn web(&mut self) -> &mut Netns {
        self.observed.netns.get_mut(&netns("web")).unwrap()
    }

    fn seen_addresses(&mut self) -> &mut Vec<SeenAddress> {
        &mut self.seen.as_mut().unwrap().links[1].addresses
    }

    fn report(&self, names: &[&str]) -> Report {
        let Self { desired, observed, written, goals, seen, web, host, retired, strays, kept, unfinished, units, configuration } = self;
        let mut plan: Plan = plan(
            diff(observed, desired),
            &Request { reload: if *unfinished { Reload::All } else { Reload::ForLinks }, ..Request::default() },
        );
        plan.pending.extend(retired.iter().map(|name| Pending::Retired { name: name.clone(), users: BTreeSet::new() }));
        plan.kept.extend(kept.iter().cloned());
        let listed = [("nginx", "web"), ("php@", "web"), ("mysql", "sql")].map(|(name, of)| (unit(name), netns(of)));
        let listed = BTreeMap::from(listed);
        let of_web = NetnsFacts {
            goal: desired.netns.get(&netns("web")),
            now: observed.netns.get(&netns("web")).filter(|_| seen.is_some()),
            seen: seen.as_ref(),
            description: web.description.clone(),
            active_state: web.active_state.clone(),
            dhcp: web.dhcp.clone(),
            bound: web.bound.clone(),
            no_lease: web.no_lease.clone(),
            ..*web
        };
        let of_sql = NetnsFacts { configured: true, goal: goals.get(&netns("sql")), ..NetnsFacts::default() };
        let mut known = BTreeMap::from([(netns("web"), of_web), (netns("sql"), of_sql)]);
        known.extend(retired.iter().map(|name| (name.clone(), NetnsFacts { there: true, ours: true, ..NetnsFacts::default() })));
        let facts = Facts {
            configuration: Configuration { state: *configuration, error: None },
            observed,
            desired,
            plan: &plan,
            written,
            netns: known,
            listed: &listed,
            units: units.clone(),
            bridge_sources: BTreeMap::new(),
            host,
            strays: strays.clone(),
            networkd_running: Some(true),
            warnings: Vec::new(),
            not_seen: Vec::new(),
        };
        let names: Vec<NetnsName> = names.iter().map(|name| netns(name)).collect();
        let report = Report::new(facts, &names);
        schema::conforms("status", &serde_json::to_string(&Document::new(report.clone())).unwrap());
        report
    }
}

/// Namespace, kind and words of each difference.
fn drift(report: &Report) -> Vec<String> {
    let word = |kind| serde_json::to_value(kind).unwrap().as_str().unwrap().to_owned();
    let netns = |name: &Option<NetnsName>| name.as_ref().map_or("-", NetnsName::as_str).to_owned();
    report.drift.iter().map(|drift| format!("{} {}: {}", netns(&drift.netns), word(drift.kind), drift.change)).collect()
}

fn orphans(report: &Report) -> Vec<String> {
    let netns = |name: &Option<NetnsName>| name.as_ref().map_or("-", NetnsName::as_str).to_owned();
    report.orphans.iter().map(|orphan| format!("{} {:?} {}", netns(&orphan.netns), orphan.kind, orphan.name)).collect()
}

fn nothing_differs_where_all_is_as_configured() {
    let report = Scene::new().report(&[]);
    assert!(report.ok, "{report:#?}");
    let [sql, web] = &report.namespaces[..] else { panic!("{report:#?}") };
    assert_eq!((sql.state, web.state), (NetnsState::Down, NetnsState::Up));
    assert_eq!((sql.changed_since_sync, web.changed_since_sync), (Some(false), Some(false)));
    let [eth0] = &web.interfaces[..] else { panic!("{web:#?}") };
    assert!(eth0.addresses.iter().all(|a| a.state == AddressState::Usable && a.origin == Origin::Configuration), "{eth0:#?}");
    assert_eq!(eth0.bridge, Some(link("br0")));
    assert_eq!((sql.interfaces[0].state, sql.interfaces[0].addresses[0].state), (LinkState::Absent, AddressState::Absent));
}

fn each_difference_has_its_place() {
    type Break = fn(&mut Scene);
    let old = |content: &str| File { content: content.to_owned(), provenance: Provenance::Ours };
    let breaks: [(Break, &str); 15] = [
        (|s| drop(s.observed.files.remove(&record_path(&netns("sql")))), "sql file: add file /var/lib/netns-networkd/netns/sql.json"),
        (
            |s| drop(s.observed.files.remove(&desired::etc_path(&netns("web"), "resolv.conf"))),
            "web file: add file /etc/netns/web/resolv.conf",
        ),
        (
            |s| drop(s.observed.files.remove(&desired::networkd_path("port", &link("web-eth0"), "network"))),
            "web file: add file /etc/systemd/network/10-netns-networkd-port-web-eth0.network",
        ),
        (
            |s| drop(s.observed.files.remove(&desired::networkd_path("port", &link("sql-eth0"), "network"))),
            "sql file: add file /etc/systemd/network/10-netns-networkd-port-sql-eth0.network",
        ),
        (
            |s| drop(s.observed.files.remove(&desired::networkd_path("bridge", &link("br0"), "netdev"))),
            "- file: add file /etc/systemd/network/10-netns-networkd-bridge-br0.netdev",
        ),
        (
            |s| drop(s.observed.files.remove(&desired::drop_in_path(&unit("php@")))),
            "web file: add file /etc/systemd/system/php@.service.d/50-netns-networkd.conf",
        ),
        (
            |s| drop(s.observed.files.remove(&PathBuf::from("/etc/systemd/system/netns@web.service.d/50-netns-networkd.conf"))),
            "web file: add file /etc/systemd/system/netns@web.service.d/50-netns-networkd.conf",
        ),
        (|s| s.observed.links.get_mut(&link("br0")).unwrap().addresses.clear(), "- link: link 'br0': add address 192.0.2.2/24"),
        (|s| drop(s.observed.links.remove(&link("eno1"))), "- link: add link 'eno1' to bridge 'br0'"),
        (|s| s.observed.units.get_mut(&unit("mysql")).unwrap().bound_to = None, "sql unit: bind mysql.service to netns 'sql'"),
        (
            |s| drop(s.web().links.get_mut(&link("eth0")).unwrap().addresses.remove(0)),
            "web netns: add address 192.0.2.10/24 to link 'eth0' in netns 'web'",
        ),
        (|s| s.desired.clients.extend([(netns("web"), true)]), "web dhcp-client: start DHCP client of netns 'web'"),
        (|s| s.web.no_lease.push("link 'eth0' has no address by DHCP".to_owned()), "web lease: link 'eth0' has no address by DHCP"),
        (|s| s.unfinished = true, "- sync: reload systemd-networkd\n- sync: reload systemd"),
        (
            |s| s.kept.push(Kept { path: desired::etc_path(&netns("web"), "resolv.conf"), provenance: Provenance::Edited }),
            "web file: /etc/netns/web/resolv.conf was changed by hand and is left alone: `netns-networkd sync --force` replaces it",
        ),
    ];
    for (break_it, wanted) in breaks {
        let mut scene = Scene::new();
        break_it(&mut scene);
        let report = scene.report(&[]);
        assert_eq!(drift(&report).join("\n"), wanted);
        assert!(!report.ok && report.orphans.is_empty() && report.pending.is_empty(), "{wanted}: {report:#?}");
    }
    // a file that only its text tells the namespace of
    let mut scene = Scene::new();
    let path = desired::drop_in_path(&unit("old"));
    scene.observed.files.insert(path.clone(), old("[Unit]\nBindsTo=netns@web.service\n"));
    assert_eq!(drift(&scene.report(&[])), [format!("web file: remove file {}", path.display())]);
}

fn what_the_configuration_changes_is_no_edit() {
    let path = record_path(&netns("web"));
    let changed = |scene: &Scene| scene.report(&[]).namespaces[1].changed_since_sync;
    let with = |provenance| {
        let mut scene = Scene::new();
        scene.observed.files.insert(path.clone(), File { content: "source = \"\"".to_owned(), provenance });
        scene
    };
    assert_eq!(changed(&with(Provenance::Ours)), Some(true));
    // these are left alone
    assert_eq!(changed(&with(Provenance::Edited)), Some(false));
    assert!(with(Provenance::Edited).report(&[]).drift[0].left_alone);
    let mut gone = Scene::new();
    gone.observed.files.remove(&path);
    assert_eq!(changed(&gone), Some(false), "somebody has removed it");
    gone.written.remove(&path);
    assert_eq!(changed(&gone), Some(true), "it was never written");
    let mut faulty = with(Provenance::Ours);
    faulty.configuration = ConfigurationState::Faulty;
    let report = faulty.report(&[]);
    assert_eq!((report.namespaces[1].changed_since_sync, report.ok), (None, false));
}

fn what_nobody_names_is_an_orphan() {
    let ours = |content: &str| File { content: content.to_owned(), provenance: Provenance::Ours };
    let mut scene = Scene::new();
    scene.retired.push(netns("old"));
    scene.observed.files.insert(record_path(&netns("older")), ours("source = \"\""));
    scene.observed.files.insert(desired::drop_in_path(&unit("postfix")), ours("[Unit]\nBindsTo=netns@older.service\n"));
    scene.observed.links.insert(link("br9"), Scene::new().observed.links[&link("br1")].clone());
    let stray =
        |end: &str, of: &str| Orphan { kind: OrphanKind::HostEnd, name: end.to_owned(), netns: Some(netns(of)), remedy: String::new() };
    scene.strays.extend([stray("older-eth0", "older"), stray("web-eth1", "web")]);
    let report = scene.report(&[]);
    let wanted = [
        "old Namespace old",
        "older Record /var/lib/netns-networkd/netns/older.json",
        "- Bridge br9",
        "older HostEnd older-eth0",
        "web HostEnd web-eth1",
        "older File /etc/systemd/system/postfix.service.d/50-netns-networkd.conf",
    ];
    assert_eq!(orphans(&report), wanted);
    assert_eq!(drift(&report), [""; 0]);
    assert_eq!(report.pending.len(), 1);
    assert!(!report.ok);
    assert!(!report.namespaces.iter().find(|n| n.name == netns("old")).unwrap().configured);
    // what comes again takes its old host ends away
    scene.web.there = false;
    assert_eq!(scene.report(&["web"]).namespaces[0].state, NetnsState::Lost);
    assert!(!orphans(&scene.report(&[])).iter().any(|orphan| orphan.starts_with("web ")));
}

fn states_of_a_namespace() {
    for (active_state, there, ours, busy, state) in [
        (Some("active"), true, true, false, NetnsState::Up),
        (Some("reloading"), true, true, true, NetnsState::Up),
        (Some("active"), false, true, false, NetnsState::Lost),
        (Some("activating"), false, false, true, NetnsState::ComingUp),
        (Some("activating"), true, true, true, NetnsState::ComingUp),
        (Some("deactivating"), true, true, true, NetnsState::GoingDown),
        (Some("failed"), false, false, false, NetnsState::Failed),
        (Some("inactive"), false, false, false, NetnsState::Down),
        (Some("inactive"), true, true, false, NetnsState::Up),
        (Some("failed"), true, false, false, NetnsState::Foreign),
        (None, true, true, false, NetnsState::Up),
        (None, true, false, false, NetnsState::Foreign),
        (None, false, false, false, NetnsState::Down),
        (None, false, true, true, NetnsState::ComingUp),
    ] {
        let mut scene = Scene::new();
        scene.web =
            NetnsFacts { configured: true, active_state: active_state.map(str::to_owned), there, ours, busy, ..NetnsFacts::default() };
        let report = scene.report(&["web"]);
        assert_eq!(report.namespaces[0].state, state, "{active_state:?}, there: {there}, ours: {ours}, busy: {busy}");
        assert_eq!(report.ok, !state.is_wrong());
    }
}

fn addresses_say_where_they_come_from() {
    let mut scene = Scene::new();
    scene.web.dhcp.insert("eth0".to_owned());
    let for_a_time = |text| SeenAddress { for_a_time: true, ..address(text, Maker::Other) };
    scene.seen_addresses().remove(0);
    scene.seen_addresses()[0].tentative = true;
    scene.seen_addresses().extend([
        address("fe80::1/64", Maker::Kernel),
        // kernels before 5.18 do not say whose it is
        address("fe80::2/64", Maker::Other),
        for_a_time("192.0.2.99/24"),
        SeenAddress { for_a_time: true, ..address("2001:db8:1::99/64", Maker::Router) },
        address("192.0.2.98/24", Maker::Other),
        SeenAddress { duplicate: true, ..address("2001:db8:1::98/64", Maker::Ours) },
    ]);
    let report = scene.report(&[]);
    let list: Vec<String> =
        report.namespaces[1].interfaces[0].addresses.iter().map(|a| format!("{} {:?} {:?}", a.address, a.state, a.origin)).collect();
    let wanted = [
        "192.0.2.10/24 Absent Configuration",
        "2001:db8:1::10/64 Tentative Configuration",
        "fe80::1/64 Usable LinkLocal",
        "fe80::2/64 Usable LinkLocal",
        "192.0.2.99/24 Usable Dhcp",
        "2001:db8:1::99/64 Usable RouterAdvertisement",
        "192.0.2.98/24 Usable Other",
        "2001:db8:1::98/64 Duplicate Configuration",
    ];
    assert_eq!(list, wanted);
    let listed = &report.list().namespaces[1].addresses;
    assert_eq!(listed.len(), 5, "without link-local ones, and without the one that is somebody else's: {listed:?}");
}

fn units_say_what_binds_them() {
    let mut scene = Scene::new();
    scene.web.bound = vec!["mine.service".to_owned(), "netns-hold@web.service".to_owned()];
    let running = |pids: &[u32], runs_in, place_seen| UnitFacts {
        load_state: "loaded".to_owned(),
        active_state: "active".to_owned(),
        sub_state: "running".to_owned(),
        main_pid: pids.first().copied(),
        pids: pids.to_vec(),
        runs_in,
        place_seen,
    };
    scene.units.insert("nginx.service".to_owned(), running(&[7, 8], None, true));
    scene.units.insert("mine.service".to_owned(), running(&[9], Some(Place::Host), true));
    let moved = Unit { runs_in: Some(Place::Netns(netns("web"))), ..scene.observed.units[&unit("mysql")].clone() };
    scene.observed.units.insert(unit("mysql"), moved.clone());
    scene.desired.units.insert(unit("mysql"), moved);
    let show = |report: &Report, index: usize| -> Vec<String> {
        let units = report.namespaces[index].units.iter();
        units.map(|unit| format!("{} {:?} {:?} {:?}", unit.name, unit.bound, unit.pids, unit.runs_in)).collect()
    };
    let wanted = [
        "mine.service Hand [9] Some(Host)",
        "mysql.service Configuration [] None",
        "netns-hold@web.service Tool [] None",
        "nginx.service Configuration [7, 8] Some(Netns(NetnsName(\"web\")))",
        "php@.service Configuration [] None",
    ];
    let report = scene.report(&[]);
    assert_eq!(show(&report, 1), wanted, "also one of another namespace that still runs here");
    assert_eq!(show(&report, 0), ["mysql.service Configuration [] None"]);
    // who may not look does not say
    scene.units.insert("nginx.service".to_owned(), running(&[7], None, false));
    assert_eq!(show(&scene.report(&[]), 1)[3], "nginx.service Configuration [7] None");
    let short = &report.list().namespaces[1];
    assert_eq!((short.units, short.units_running), (3, None), "neither the template nor the hold counts");
}

fn names_narrow_the_report() {
    let mut scene = Scene::new();
    scene.observed.links.get_mut(&link("br0")).unwrap().addresses.clear();
    scene.observed.links.get_mut(&link("br1")).unwrap().up = false;
    scene.observed.files.remove(&record_path(&netns("sql")));
    scene.retired.push(netns("old"));
    let all = scene.report(&[]);
    assert_eq!((all.namespaces.len(), all.bridges.len(), all.drift.len(), all.pending.len()), (3, 2, 3, 1));
    let web = scene.report(&["web"]);
    assert_eq!(drift(&web), ["- link: link 'br0': add address 192.0.2.2/24"], "of the bridge that it uses");
    assert_eq!((web.namespaces.len(), web.bridges.len(), web.pending.len(), web.orphans.len()), (1, 1, 0, 0));
    let old = scene.report(&["old"]);
    assert_eq!((drift(&old).len(), old.pending.len(), old.orphans.len(), old.ok), (0, 1, 1, false));
}

fn bridges_have_their_ports() {
    let mut scene = Scene::new();
    let show = |report: &Report| -> Vec<String> {
        let ports = report.bridges[0].ports.iter();
        let state = |port: &netns_networkd::report::BridgePort| format!("{:?} member: {}", port.state, port.member);
        ports.map(|port| format!("{} {:?} {} {:?}", port.name, port.role, state(port), port.interface)).collect()
    };
    let report = scene.report(&[]);
    let wanted = [
        "eno1 Uplink Up member: true None",
        "web-eth0 Namespace Up member: true Some(LinkName(\"eth0\"))",
        "vnet0 Other Up member: true None",
    ];
    assert_eq!(show(&report), wanted);
    assert_eq!(report.bridges[0].addresses[0].origin, Origin::Configuration);
    scene.host[2].master = None;
    scene.host[0].addresses.clear();
    let report = scene.report(&[]);
    assert_eq!(show(&report)[0], "eno1 Uplink Up member: false None");
    assert_eq!(report.bridges[0].addresses[0].state, AddressState::Absent);
    scene.host.remove(2);
    assert_eq!(show(&scene.report(&[]))[0], "eno1 Uplink Absent member: false None");
}

fn what_was_not_seen_is_unknown() {
    let mut scene = Scene::new();
    scene.seen = None;
    let report = scene.report(&[]);
    let web = &report.namespaces[1];
    let eth0 = &web.interfaces[0];
    assert!(!web.seen && report.ok);
    assert_eq!((eth0.state, eth0.addresses[0].state), (LinkState::Unknown, AddressState::Unknown));
    // its end on the host was
    let end = eth0.host_end.as_ref().unwrap();
    assert_eq!((end.state, end.forwarding), (LinkState::Up, Some(true)));
}
