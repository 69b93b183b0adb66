//! What stays outside of a namespace, on booted hosts: settings of bridge ports and of bridges, and pairs without a bridge. It holds
//! before networkd has looked, and networkd leaves it so.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        isolated_ports_reach_all_but_each_other,
        port_settings_hold,
        port_settings_hold_on_a_bridge_of_somebody_else,
        bridge_settings_change_live,
        mtu_of_a_bridge_is_not_its_ports,
        pair_without_a_bridge,
        pair_comes_up_without_networkd,
        pair_changes_live,
        pair_behind_an_address_of_the_host,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

/// Asserts that a service reaches another's address, or does not.
#[track_caller]
fn assert_reaches(lab: &Lab, netns: &str, to: &str, reaches: bool) {
    let ping = format!("ip netns exec {netns} ping -n -c 1 -W 1 {to}");
    if reaches {
        // the kernel remembers for a moment that a neighbour did not answer
        let _ = lab.wait_until(&format!("{netns} reaches {to}"), SECONDS, &ping);
    } else {
        let _ = lab.sh(&ping).fails(1);
    }
}

fn isolated_ports_reach_all_but_each_other(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000"), ("t-two.service", "8000"), ("t-open.service", "8000")]);
    lab.config(
        r#"
        [bridge.br0]
        addresses = ["10.50.0.1/24", "fd32::1/64"]
        [namespace.one]
        services = ["t-one"]
        interface.eth0 = { bridge = "br0", isolated = true, addresses = ["10.50.0.11/24", "fd32::11/64"] }
        [namespace.two]
        services = ["t-two"]
        interface.eth0 = { bridge = "br0", isolated = true, addresses = ["10.50.0.12/24", "fd32::12/64"] }
        [namespace.open]
        services = ["t-open"]
        interface.eth0 = { bridge = "br0", addresses = ["10.50.0.13/24", "fd32::13/64"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-one", "t-two", "t-open"]);
    let all = |isolated: bool| {
        for (two, open, host) in [("10.50.0.12", "10.50.0.13", "10.50.0.1"), ("fd32::12", "fd32::13", "fd32::1")] {
            assert_reaches(&lab, "one", two, !isolated);
            assert_reaches(&lab, "one", open, true);
            assert_reaches(&lab, "one", host, true);
        }
        lab.assert_answers("10.50.0.11", "8000");
        lab.assert_answers("fd32::12", "8000");
    };
    all(true);
    disturb(&lab, &["one-eth0", "two-eth0", "open-eth0"], || all(true));
    // from the first moment: a port forwards when its settings are made
    lab.systemctl(&["stop", "systemd-networkd.socket", "systemd-networkd.service"]);
    lab.systemctl(&["restart", "netns@one", "netns@two"]);
    lab.start(&["t-one", "t-two"]);
    all(true);
    lab.systemctl(&["start", "systemd-networkd"]);
    settle(&lab, &["one-eth0", "two-eth0", "open-eth0"]);
    all(true);
    let config = lab.read_file("/etc/netns-networkd/test.toml");
    lab.config(&config.replacen("isolated = true, ", "", 1));
    lab.sync_changes(&[]);
    all(false);
}

/// Waits until networkd has taken over host ends.
#[track_caller]
fn settle(lab: &Lab, ports: &[&str]) {
    for port in ports {
        let script = format!("networkctl --no-legend list {port} | grep -E ' configured'");
        let _ = lab.wait_until("networkd has settled", SECONDS, &script);
    }
}

/// Lets networkd do all that it can to links, and looks each time.
#[track_caller]
fn disturb(lab: &Lab, ports: &[&str], look: impl Fn()) {
    let scripts = [
        "networkctl reload".to_owned(),
        "touch /etc/systemd/network/10-netns-networkd-*; networkctl reload".to_owned(),
        format!("networkctl reconfigure {}", ports.join(" ")),
        "systemctl restart systemd-networkd".to_owned(),
    ];
    settle(lab, ports);
    for script in scripts {
        let _ = lab.sh(&script).ok();
        settle(lab, ports);
        look();
    }
}

/// What `bridge -d link` says of a port, and its index.
#[track_caller]
fn port(lab: &Lab, name: &str) -> Value {
    let all: Value = serde_json::from_str(&lab.run(&["bridge", "-j", "-d", "link", "show", "dev", name]).ok().stdout).unwrap();
    let keys = ["ifindex", "isolated", "hairpin", "learning", "neigh_suppress", "fastleave", "cost", "priority"];
    keys.iter().map(|key| ((*key).to_owned(), all[0][*key].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[track_caller]
fn with(mut port: Value, changes: &[(&str, Value)]) -> Value {
    for (key, value) in changes {
        port[*key] = value.clone();
    }
    port
}

const SETTINGS: &str =
    "isolated = true, hairpin = true, learning = false, neighbor-suppression = true, fast-leave = true, cost = 77, priority = 5,";

fn set(port: Value) -> Value {
    let on = |key| (key, json!(true));
    let changes = [on("isolated"), on("hairpin"), ("learning", json!(false)), on("neigh_suppress"), on("fastleave"), ("cost", json!(77))];
    with(with(port, &changes), &[("priority", json!(5))])
}

/// Brings up a namespace with all settings on its port, lets networkd at it, then changes and removes settings while it runs.
fn settings_hold(lab: &Lab, bridge: &str) {
    lab.services(&[("t-set.service", "8000")]);
    let config = |settings: &str| {
        format!(
            r#"{bridge}
            [namespace.set]
            services = ["t-set"]
            interface.eth0 = {{ bridge = "br0", {settings} addresses = ["10.51.0.2/24"] }}
            "#
        )
    };
    lab.config(&config(""));
    lab.sync_changes(&[]);
    lab.start(&["t-set"]);
    let (plain, pid) = (port(lab, "set-eth0"), lab.property("t-set", "MainPID"));
    let kernel = json!({"isolated": false, "hairpin": false, "learning": true, "neigh_suppress": false, "fastleave": false, "cost": 2, "priority": 32});
    assert_eq!(plain, with(kernel, &[("ifindex", plain["ifindex"].clone())]));

    lab.config(&config(SETTINGS));
    lab.sync_changes(&[]);
    assert_eq!(port(lab, "set-eth0"), set(plain.clone()), "live");
    disturb(lab, &["set-eth0"], || assert_eq!(port(lab, "set-eth0"), set(plain.clone())));
    // somebody changes them by hand
    let _ = lab.sh("bridge link set dev set-eth0 isolated off learning on cost 9").ok();
    let said = lab.sync_changes(&[]);
    assert_eq!(said, "set port 'set-eth0': isolated on, learning off, cost 77 in netns 'set'\n");

    lab.config(&config("isolated = false, cost = 78, learning = false,"));
    lab.sync_changes(&[]);
    let some = with(plain.clone(), &[("cost", json!(78)), ("learning", json!(false))]);
    assert_eq!(port(lab, "set-eth0"), some, "settings that nobody asks for are the kernel's own");
    lab.config(&config(""));
    lab.sync_changes(&[]);
    assert_eq!(port(lab, "set-eth0"), plain);
    disturb(lab, &["set-eth0"], || assert_eq!(port(lab, "set-eth0"), plain));
    assert_eq!(lab.property("t-set", "MainPID"), pid, "nothing of it stopped the service");
    lab.assert_answers("10.51.0.2", "8000");

    lab.config(&config(SETTINGS));
    lab.sync_changes(&[]);
    lab.systemctl(&["restart", "netns@set"]);
    let anew = port(lab, "set-eth0");
    assert_eq!(anew, with(set(plain), &[("ifindex", anew["ifindex"].clone())]), "made with its settings");
    lab.sync_nothing();
}

fn port_settings_hold(suite: Suite) {
    settings_hold(&Lab::new(suite), "[bridge.br0]\naddresses = [\"10.51.0.1/24\"]");
}

fn port_settings_hold_on_a_bridge_of_somebody_else(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab.sh("ip link add br0 address 02:00:00:00:51:01 type bridge; ip addr add 10.51.0.1/24 dev br0; ip link set br0 up").ok();
    // but for what changes with its ports, which come and go
    let look = "ip -d link show br0 | sed -E 's/ [a-z_]*_timer +[0-9.]*//g; s/state [A-Z]*//; s/<[A-Z,_-]*>//; s/ (fdb_n_learned|topology_change[a-z_]*) [0-9]*//g; s/qlen.*//; s/numtxqueues.*//'
                ip -4 -o addr show br0 | cut -d' ' -f7";
    let before = lab.sh(look).ok().stdout;
    settings_hold(&lab, "");
    assert_eq!(lab.sh(look).ok().stdout, before, "the bridge itself is not touched");
    let file = lab.read_file("/etc/systemd/network/10-netns-networkd-port-set-eth0.network");
    assert!(file.contains("KeepMaster=yes") && !file.contains("[Bridge]"), "{file}");
    lab.stop(&["t-set"]);
    let _ = lab.run(&["ip", "link", "delete", "br0"]).ok();
}

/// Also where networkd does not change them on a bridge that is there (up to systemd 256).
fn bridge_settings_change_live(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-br.service", "8000")]);
    let config = |settings: &str| {
        format!(
            r#"
            [bridge.br0]
            addresses = ["10.52.0.1/24"]
            {settings}
            [namespace.br]
            services = ["t-br"]
            interface.eth0 = {{ bridge = "br0", mtu = 1280, addresses = ["10.52.0.2/24"] }}
            "#
        )
    };
    lab.config(&config(""));
    lab.sync_changes(&[]);
    lab.start(&["t-br"]);
    let look = || {
        let all: Value = serde_json::from_str(&lab.run(&["ip", "-j", "-d", "link", "show", "br0"]).ok().stdout).unwrap();
        let link = &all[0];
        json!([link["ifindex"], link["address"], link["mtu"], link["linkinfo"]["info_data"]["stp_state"]])
    };
    let (before, pid) = (look(), lab.property("t-br", "MainPID"));
    assert_eq!(before[3], 0);
    let steps = [
        ("stp = true", json!([before[0], before[1], before[2], 1])),
        ("mac = \"02:00:00:00:52:01\"", json!([before[0], "02:00:00:00:52:01", before[2], 0])),
        ("mac = \"02:00:00:00:52:02\"\nmtu = 1300\nstp = true", json!([before[0], "02:00:00:00:52:02", 1300, 1])),
        ("mac = \"02:00:00:00:52:02\"\nmtu = 1400\nstp = false", json!([before[0], "02:00:00:00:52:02", 1400, 0])),
    ];
    for (settings, wanted) in &steps {
        lab.config(&config(settings));
        lab.sync_changes(&[]);
        assert_eq!(look(), *wanted, "with {settings}");
        // a port that was there goes on as it was: spanning tree is asked for by whoever comes
        lab.assert_answers("10.52.0.2", "8000");
    }
    let last = steps[3].0;
    lab.config(&config(&format!(
        "{last}\ndns = [\"10.52.0.53\"]\ngateways = [{{ via = \"10.52.0.254\", metric = 4000 }}]\n\
         routes = [{{ to = \"203.0.113.0/24\", via = \"10.52.0.253\", source = \"10.52.0.1\" }}]"
    )));
    lab.sync_changes(&[]);
    let own = "ip route show dev br0 proto static; networkctl status br0 | grep -o 'DNS: .*' || true";
    let shown = "default via 10.52.0.254 metric 4000 \n203.0.113.0/24 via 10.52.0.253 src 10.52.0.1 \nDNS: 10.52.0.53\n";
    assert_eq!(lab.sh(own).ok().stdout, shown);
    lab.config(&config(last));
    lab.sync_changes(&[]);
    assert_eq!(lab.sh(own).ok().stdout, "");

    let _ = lab.run(&["systemctl", "restart", "systemd-networkd"]).ok();
    settle(&lab, &["br0"]);
    assert_eq!(look(), json!([before[0], "02:00:00:00:52:02", 1400, 0]));
    // by hand
    let _ = lab.sh("ip link set br0 type bridge stp_state 1").ok();
    let said = lab.sync_changes(&[]);
    assert!(said.ends_with("link 'br0': turn spanning tree off\n"), "{said}");
    assert_eq!(lab.property("t-br", "MainPID"), pid);
    lab.sync_nothing();
}

/// The kernel gives a bridge the smallest MTU of its ports, unless somebody has set one on it; also at boot, when nobody syncs.
fn mtu_of_a_bridge_is_not_its_ports(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab.sh("ip link add t-up type veth peer name t-far; ip link set t-up up; ip link set t-far up").ok();
    lab.config("[bridge.br0]\nuplinks = [\"t-up\"]\nmtu = 1400\n[bridge.br1]\nuplinks = [\"t-far\"]\nmtu = 9000\n");
    let start = Instant::now();
    lab.sync_changes(&[]);
    assert!(start.elapsed() < SECONDS, "networkd did it without us: {:?}", start.elapsed());
    let mtus = || lab.sh("for bridge in br0 br1; do ip link show $bridge | grep -o 'mtu [0-9]*'; done").ok().stdout;
    assert_eq!(mtus(), "mtu 1400\nmtu 9000\n");
    let boot = "systemctl stop systemd-networkd.socket systemd-networkd.service; ip link delete br0; ip link delete br1
                systemctl start systemd-networkd.socket systemd-networkd.service";
    let _ = lab.sh(boot).ok();
    settle(&lab, &["br0", "br1", "t-up", "t-far"]);
    assert_eq!(mtus(), "mtu 1400\nmtu 9000\n");
    lab.sync_nothing();
    lab.config("");
    let _ = lab.sync(&[]).ok();
    let _ = lab.sh("ip link delete t-up").ok();
}

const PAIR: &str = r#"
[namespace.pair]
services = ["t-pair"]
interface.eth0 = { host-addresses = ["10.53.0.0/31", "fd35::/127"], addresses = ["10.53.0.1/31", "fd35::1/127"], gateways = ["10.53.0.0", "fd35::"] }
interface.eth1 = { host-addresses = ["10.53.1.1/30"], addresses = ["10.53.1.2/30"] }
"#;

fn pair(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-pair.service", "8000")]);
    lab.config(PAIR);
    lab.sync_changes(&[]);
    lab
}

/// Asserts that service and host reach each other by every pair.
#[track_caller]
fn assert_pairs(lab: &Lab) {
    for (host, service) in [("10.53.0.0", "10.53.0.1"), ("fd35::", "fd35::1"), ("10.53.1.1", "10.53.1.2")] {
        lab.assert_answers(service, "8000");
        assert_eq!(lab.source_of(service, "8000", host), service);
        assert_eq!(lab.who(service, "8000").peer, host);
    }
}

fn pair_without_a_bridge(suite: Suite) {
    let lab = pair(suite);
    for _ in 0..2 {
        lab.start(&["t-pair"]);
        assert_pairs(&lab);
        disturb(&lab, &["pair-eth0", "pair-eth1"], || assert_pairs(&lab));
        lab.sync_nothing();
        assert!(!lab.sh("networkctl list").ok().stdout.contains("failed"));
        // the way to the rest goes by the host, which is no router unless its admin says so
        assert_eq!(lab.source_of("10.53.0.1", "8000", "198.51.100.2"), "10.53.0.1");
        assert_eq!(lab.source_of("10.53.0.1", "8000", "2001:db8:ffff::2"), "fd35::1");
        lab.stop(&["t-pair"]);
        assert_eq!(lab.sh("ip -br addr | grep -E '10.53|fd35' || true").ok().stdout, "", "nothing is left");
    }
}

fn pair_comes_up_without_networkd(suite: Suite) {
    let lab = pair(suite);
    lab.systemctl(&["stop", "systemd-networkd.socket", "systemd-networkd.service"]);
    lab.systemctl(&["mask", "--runtime", "systemd-networkd.service"]);
    lab.start(&["t-pair"]);
    assert_pairs(&lab);
    lab.systemctl(&["unmask", "--runtime", "systemd-networkd.service"]);
    // no moment without its addresses when networkd comes
    let _ = lab.sh("ip monitor address route >/run/monitor & monitor=$!
         systemctl start systemd-networkd.socket systemd-networkd.service
         for port in pair-eth0 pair-eth1; do until networkctl --no-legend list $port | grep -q ' configured'; do sleep 0.05; done; done
         kill $monitor");
    assert_pairs(&lab);
    let said = lab.read_file("/run/monitor");
    // the link-local one of a pair without IPv6 goes: nobody asked for it
    let ours = |line: &str| line.contains("10.53.") || line.contains("fd35:");
    assert!(!said.lines().any(|line| line.starts_with("Deleted") && ours(line)), "{said}");
    lab.sync_nothing();
}

fn pair_changes_live(suite: Suite) {
    let lab = pair(suite);
    lab.start(&["t-pair"]);
    let look = || (lab.property("t-pair", "MainPID"), lab.sh("cat /sys/class/net/pair-eth0/ifindex").ok().stdout);
    let before = look();
    // somebody else's stays
    let _ = lab.run(&["ip", "addr", "add", "10.53.9.1/32", "dev", "pair-eth1"]).ok();
    lab.config(
        &PAIR
            .replace("\"10.53.1.1/30\"", "\"10.53.1.5/30\", \"fd35:1::1/64\"")
            .replace("\"10.53.1.2/30\"", "\"10.53.1.6/30\", \"fd35:1::2/64\""),
    );
    lab.sync_changes(&[]);
    assert_eq!(look(), before, "the same pair, the same process");
    for address in ["10.53.0.1", "fd35::1", "10.53.1.6", "fd35:1::2"] {
        lab.assert_answers(address, "8000");
    }
    let host = lab.sh("ip -br -4 addr show pair-eth1").ok().stdout;
    assert!(host.contains("10.53.1.5/30") && !host.contains("10.53.1.1/30"), "{host}");
    lab.config(PAIR);
    lab.sync_changes(&[]);
    assert_eq!(look(), before);
    assert_pairs(&lab);
    // what goes by hand comes back
    let _ = lab.run(&["ip", "addr", "del", "10.53.1.1/30", "dev", "pair-eth1"]).ok();
    assert_eq!(lab.sync_changes(&[]), "add address 10.53.1.1/30 to host end 'pair-eth1' in netns 'pair'\n");
    assert_pairs(&lab);
}

/// Unnumbered: the service has an address that no prefix of the host's covers, and the host's as its gateway.
fn pair_behind_an_address_of_the_host(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-pub.service", "8000")]);
    let config = |more: &str| {
        format!(
            r#"
            [namespace.pub]
            services = ["t-pub"]
            [namespace.pub.interface.eth0]
            host-addresses = ["10.54.0.1/32", "fd36::1/128"]
            addresses = ["203.0.113.7/32", "2001:db8:7::7/128"{more}]
            gateways = [{{ via = "10.54.0.1", on-link = true }}, {{ via = "fd36::1", on-link = true }}]
            "#
        )
    };
    lab.config(&config(""));
    lab.sync_changes(&[]);
    lab.start(&["t-pub"]);
    let look = || {
        for (host, service) in [("10.54.0.1", "203.0.113.7"), ("fd36::1", "2001:db8:7::7")] {
            lab.assert_answers(service, "8000");
            assert_eq!(lab.source_of(service, "8000", host), service);
            assert_eq!(lab.who(service, "8000").peer, host);
        }
    };
    look();
    disturb(&lab, &["pub-eth0"], look);
    lab.config(&config(", \"203.0.113.8/32\""));
    lab.sync_changes(&[]);
    lab.assert_answers("203.0.113.8", "8000");
    lab.config(&config(""));
    lab.sync_changes(&[]);
    look();
    assert_eq!(lab.sh("ip route show 203.0.113.8").ok().stdout, "", "the route to it went with it");
    let _ = lab.run(&["ip", "route", "del", "203.0.113.7/32", "dev", "pub-eth0"]).ok();
    assert_eq!(lab.sync_changes(&[]), "add route 203.0.113.7/32 to host end 'pub-eth0' in netns 'pub'\n");
    lab.systemctl(&["stop", "systemd-networkd.socket", "systemd-networkd.service"]);
    lab.systemctl(&["restart", "netns@pub"]);
    lab.start(&["t-pub"]);
    look();
    lab.systemctl(&["start", "systemd-networkd"]);
}
