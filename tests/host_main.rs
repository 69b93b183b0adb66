//! The main job on booted hosts: namespaces that come and go with their services, and addresses that are theirs.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{HOST_PORT, Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        two_services_share_a_namespace,
        twenty_fast_rounds,
        two_ipv6_only_namespaces_on_one_bridge,
        first_address_is_the_source,
        restart_and_crash_keep_the_namespace,
        namespace_is_bare_of_what_nobody_asked_for,
        bridge_without_addresses_is_a_wire,
        up_twice_is_up_once,
        what_a_service_added_is_left_alone,
        a_neighbour_with_a_stale_cache_reaches_the_service,
    ]
}

/// The set-up that people build by hand: two bridges, a service pair, both families, fixed MACs.
const HACK: &str = r#"
[bridge.br-lan]
addresses = ["10.10.1.1/24", "fd00:10:1::1/64"]

[bridge.br-dmz]
addresses = ["10.10.2.1/24", "fd00:10:2::1/64"]

[namespace.mail]
services = ["t-smtp", "t-imap.service"]

[namespace.mail.interface.eth0]
bridge    = "br-lan"
mac       = "02:00:00:00:01:10"
host-mac  = "02:00:00:00:01:11"
addresses = ["10.10.1.10/24", "10.10.1.11/24", "fd00:10:1::10/64", "fd00:10:1::11/64"]
gateways  = ["10.10.1.1", "fd00:10:1::1"]

[namespace.mail.interface.eth1]
bridge    = "br-dmz"
host-name = "mail-dmz"
mac       = "02:00:00:00:02:10"
addresses = ["10.10.2.10/24", "fd00:10:2::10/64"]
routes    = [{ to = "10.99.0.0/16", via = "10.10.2.1" }, { to = "2000::/3", via = "fd00:10:2::1" }]
"#;

const SMTP: &str = "2525";
const IMAP: &str = "1430";

fn hack(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-smtp.service", SMTP), ("t-imap.service", IMAP)]);
    lab.config(HACK);
    lab.sync_changes(&[]);
    lab
}

fn two_services_share_a_namespace(suite: Suite) {
    let lab = hack(suite);
    assert_eq!(lab.sh("ip netns list").ok().stdout, "", "the namespace comes with its first service");
    assert_eq!(lab.property("netns@mail.service", "ActiveState"), "inactive");

    lab.start(&["t-smtp.service"]);
    let netns = lab.named_netns("mail");
    assert_eq!(lab.netns_of("t-smtp.service"), netns);
    assert_ne!(lab.host_netns(), netns);
    lab.start(&["t-imap.service"]);
    assert_eq!(lab.netns_of("t-imap.service"), netns, "both in one namespace");

    for (name, mac) in [("eth0", "02:00:00:00:01:10"), ("eth1", "02:00:00:00:02:10")] {
        let link = lab.run(&["ip", "-n", "mail", "link", "show", name]).ok().stdout;
        assert!(link.contains(&format!("link/ether {mac} ")) && link.contains("state UP"), "{link}");
    }
    let ends = lab.sh("ip -br link show master br-lan; ip -br link show master br-dmz").ok().stdout;
    let ends: Vec<Vec<&str>> = ends.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(ends.len() == 2 && ends[0][0].starts_with("mail-eth0@") && ends[1][0].starts_with("mail-dmz@"), "{ends:?}");
    assert_eq!(ends[0][1..3], ["UP", "02:00:00:00:01:11"]);
    for port in ["mail-eth0", "mail-dmz"] {
        let state = lab.run(&["bridge", "link", "show", "dev", port]).ok().stdout;
        assert!(state.contains("state forwarding"), "{state}");
        let _ = lab.wait_until(
            "networkd has taken over the port",
            Duration::from_secs(10),
            &format!("networkctl --no-legend list {port} | grep -E 'enslaved +configured'"),
        );
    }

    for service in [SMTP, IMAP] {
        for address in ["10.10.1.10", "10.10.1.11", "fd00:10:1::10", "fd00:10:1::11", "10.10.2.10", "fd00:10:2::10"] {
            lab.assert_answers(address, service);
            assert_eq!(lab.who(address, service).netns, netns);
        }
        // what the service sends, by the network it goes to
        for (to, source) in
            [("10.10.1.1", "10.10.1.10"), ("fd00:10:1::1", "fd00:10:1::10"), ("10.10.2.1", "10.10.2.10"), ("fd00:10:2::1", "fd00:10:2::10")]
        {
            assert_eq!(lab.source_of("10.10.1.10", service, to), source, "what goes to {to}");
        }
        // every address, where the service chooses it
        for (to, source) in [("10.10.1.1", "10.10.1.11"), ("fd00:10:1::1", "fd00:10:1::11"), ("fd00:10:1::1", "fd00:10:1::10")] {
            let answer = lab.ask("10.10.1.10", service, &format!("from {source} ask {to} {HOST_PORT} who"));
            assert!(answer.starts_with(&format!("{source} ")), "{answer}");
        }
    }
    let neighbours = lab.sh("ip neigh show dev br-lan; ip neigh show dev br-dmz").ok().stdout;
    for (address, mac) in [("10.10.1.11", "02:00:00:00:01:10"), ("fd00:10:2::10", "02:00:00:00:02:10")] {
        assert!(neighbours.contains(&format!("{address} lladdr {mac} ")), "{neighbours}");
    }

    for (to, route) in [
        ("8.8.8.8", "via 10.10.1.1 dev eth0 src 10.10.1.10"),
        ("10.99.3.4", "via 10.10.2.1 dev eth1 src 10.10.2.10"),
        ("2001:4860::8", "via fd00:10:2::1 dev eth1"),
        ("2001:4860::8", "src fd00:10:2::10"),
        ("fd99::1", "via fd00:10:1::1 dev eth0"),
        ("fd99::1", "src fd00:10:1::10"),
    ] {
        let got = lab.run(&["ip", "-n", "mail", "route", "get", to]).ok().stdout;
        assert!(got.contains(&format!("{route} ")), "{got}");
    }
    // the host's own address beyond the gateways is reached through them
    assert_eq!(lab.source_of("10.10.1.10", SMTP, "198.51.100.2"), "10.10.1.10");
    assert_eq!(lab.source_of("10.10.1.10", SMTP, "2001:db8:ffff::2"), "fd00:10:2::10");

    lab.stop(&["t-smtp.service"]);
    assert_eq!(lab.named_netns("mail"), netns, "the other service still needs it");
    lab.assert_answers("fd00:10:2::10", IMAP);
    lab.stop(&["t-imap.service"]);
    assert_gone(&lab, "mail");
    assert_eq!(lab.sh("ip -br link show master br-lan; ip -br link show master br-dmz").ok().stdout, "");
    lab.sync_nothing();

    let first = netns;
    lab.start(&["t-imap.service"]);
    lab.assert_answers("10.10.1.10", IMAP);
    assert_eq!(lab.netns_of("t-imap.service"), lab.named_netns("mail"), "first was {first}");
    assert!(lab.run(&["ip", "-n", "mail", "link", "show", "eth0"]).ok().stdout.contains("02:00:00:00:01:10"), "the same MAC as before");
}

/// Asserts that a namespace has left nothing on the host.
#[track_caller]
fn assert_gone(lab: &Lab, name: &str) {
    assert_eq!(lab.property(&format!("netns@{name}.service"), "ActiveState"), "inactive");
    let left = lab.sh(&format!("ls -A /run/netns /run/netns-networkd/netns; ip -br link show type veth | grep {name} || true")).ok().stdout;
    assert_eq!(left, "/run/netns:\n\n/run/netns-networkd/netns:\n");
}

fn twenty_fast_rounds(suite: Suite) {
    let lab = hack(suite);
    lab.start(&["t-smtp.service"]);
    let rounds = [
        // the whole namespace goes and comes, and the next round does not wait for it
        (20, "systemctl stop t-smtp t-imap; systemctl start t-smtp t-imap"),
        // one goes while the other comes
        (5, "systemctl stop t-smtp; systemctl start t-imap; systemctl stop t-imap; systemctl start t-smtp"),
        (10, "systemctl --no-block stop t-smtp t-imap; systemctl start t-smtp"),
        (5, "systemctl restart t-smtp t-imap"),
    ];
    for (count, round) in rounds {
        let output = lab.sh(&format!(
            "for i in $(seq {count}); do {round}
             for address in 10.10.1.10 fd00:10:1::11 fd00:10:2::10; do
                 python3 /usr/local/lib/talk.py ask $address {SMTP} who >/dev/null || {{ echo \"in round $i: $address\" >&2; exit 1; }}
             done; done"
        ));
        assert!(output.code == 0, "{output}\n{}", lab.journal(&["t-smtp", "t-imap", "netns@mail"]));
        assert_eq!(lab.netns_of("t-smtp.service"), lab.named_netns("mail"));
    }
    // systemd 262 says "Failed to read pids.max" where the machine has no such controller
    let complaints = lab
        .sh("journalctl --boot --output=cat --unit=netns@mail | grep -iE 'fail|error' | grep -v 'for control group .* ignoring' || true")
        .ok()
        .stdout;
    assert_eq!(complaints, "");
    lab.stop(&["t-smtp", "t-imap"]);
    assert_gone(&lab, "mail");
}

fn two_ipv6_only_namespaces_on_one_bridge(suite: Suite) {
    let lab = Lab::new(suite);
    // they listen at their addresses alone, so these must be usable when the services start
    lab.units(&[("t-one.service", "serve 8000 fd06::11", ""), ("t-two.service", "serve 8000 fd06::12 fd06::13", "")]);
    lab.config(
        r#"
        [bridge.br6]
        addresses = ["fd06::1/64"]
        [namespace.one]
        services = ["t-one"]
        interface.eth0 = { bridge = "br6", addresses = ["fd06::11/64"], gateways = ["fd06::1"] }
        [namespace.two]
        services = ["t-two"]
        interface.eth0 = { bridge = "br6", addresses = ["fd06::12/64", "fd06::13/64"], gateways = ["fd06::1"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-one", "t-two"]);
    for address in ["fd06::11", "fd06::12", "fd06::13"] {
        lab.assert_answers(address, "8000");
    }
    assert_eq!(lab.source_of("fd06::11", "8000", "fd06::1"), "fd06::11");
    assert_eq!(lab.source_of("fd06::12", "8000", "fd06::1"), "fd06::12");
    // each to the other, over the bridge
    assert!(lab.ask("fd06::11", "8000", "ask fd06::13 8000 who").starts_with("fd06::11 fd06::13 "));
    assert!(lab.ask("fd06::13", "8000", "ask fd06::11 8000 who").starts_with("fd06::12 fd06::11 "));
    assert_ne!(lab.netns_of("t-one"), lab.netns_of("t-two"));
    for name in ["one", "two"] {
        assert_eq!(lab.sh(&format!("ip -n {name} -4 -o addr show scope global; ip -n {name} -4 route")).ok().stdout, "");
    }
}

/// The kernel takes the IPv6 address that was added last, and an administrator expects the one written first.
fn first_address_is_the_source(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-src.service", "8000")]);
    lab.config(
        r#"
        [bridge.br0]
        addresses = ["10.11.0.1/24", "fd0b::1/64"]
        [namespace.src]
        services = ["t-src"]
        interface.eth0 = { bridge = "br0", addresses = [
            { address = "fd0b::99/64", deprecated = true },
            "10.11.0.30/24", "fd0b::30/64", "10.11.0.20/24", "fd0b::20/64", "10.11.0.10/24", "fd0b::10/64",
        ] }
        "#,
    );
    lab.sync_changes(&[]);
    for round in 1..=3 {
        lab.start(&["t-src"]);
        assert_eq!(lab.source_of("10.11.0.20", "8000", "10.11.0.1"), "10.11.0.30", "in round {round}");
        assert_eq!(lab.source_of("10.11.0.20", "8000", "fd0b::1"), "fd0b::30", "in round {round}");
        lab.assert_answers("fd0b::99", "8000");
        lab.stop(&["t-src"]);
    }
}

fn restart_and_crash_keep_the_namespace(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-one.service", "serve 8000", "Restart=always\nRestartSec=100ms")]);
    lab.config(
        r#"
        [bridge.br0]
        addresses = ["10.12.0.1/24"]
        [namespace.one]
        services = ["t-one"]
        interface.eth0 = { bridge = "br0", addresses = ["10.12.0.2/24"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-one"]);
    let state =
        || (lab.named_netns("one"), lab.property("netns@one", "ActiveEnterTimestampMonotonic"), lab.sh("ip -n one -o link").ok().stdout);
    let before = state();
    let mut pid = lab.property("t-one", "MainPID");
    for command in ["restart", "try-restart", "reload-or-restart"] {
        lab.systemctl(&[command, "t-one"]);
        assert_eq!(state(), before, "after systemctl {command}");
        let now = lab.who("10.12.0.2", "8000");
        assert_eq!(now.netns, before.0);
        assert_ne!(now.pid, pid, "systemctl {command} should restart it");
        pid = now.pid;
    }
    for _ in 0..3 {
        lab.systemctl(&["kill", "--signal=KILL", "t-one"]);
        let script = format!(
            "new=$(systemctl show -P MainPID t-one); test $new != {pid} -a $new != 0; systemctl is-active t-one
             python3 /usr/local/lib/talk.py ask 10.12.0.2 8000 who"
        );
        let _ = lab.wait_until("systemd has started it again", Duration::from_secs(10), &script);
        assert_eq!(state(), before, "after a crash");
        pid = lab.who("10.12.0.2", "8000").pid;
    }
    // its own namespace restarted by hand: a service goes with it, as BindsTo= says, and comes back in a new one
    lab.systemctl(&["restart", "netns@one"]);
    // systemctl has waited for the namespace alone
    lab.systemctl(&["start", "t-one"]);
    lab.assert_active(&["t-one", "netns@one"]);
    lab.assert_answers("10.12.0.2", "8000");
    assert_eq!(lab.netns_of("t-one"), lab.named_netns("one"));
}

/// No address, route or router that the configuration does not name; and what a service may expect of any host.
fn namespace_is_bare_of_what_nobody_asked_for(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-bare.service", "serve 8000", "DynamicUser=yes")]);
    lab.config(
        r#"
        [bridge.br0]
        addresses = ["10.13.0.1/24", "fd0d::1/64"]
        [namespace.bare]
        services = ["t-bare"]
        interface.eth0 = { bridge = "br0", mac = "02:00:00:00:0d:02", addresses = ["10.13.0.2/24", "fd0d::2/64"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-bare"]);
    let addresses = lab.sh("ip -n bare -o addr | awk '{ print $2, $4 }' | sort").ok().stdout;
    assert_eq!(addresses, "eth0 10.13.0.2/24\neth0 fd0d::2/64\neth0 fe80::ff:fe00:d02/64\nlo 127.0.0.1/8\nlo ::1/128\n");
    let defaults = lab.sh("ip -n bare route show default; ip -n bare -6 route show default").ok().stdout;
    assert_eq!(defaults, "");
    let sysctl = lab.sh(
        "ip netns exec bare sysctl -n net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth0.autoconf net.ipv4.conf.eth0.promote_secondaries \
         net.ipv4.ping_group_range",
    );
    assert_eq!(sysctl.ok().stdout.replace('\t', " "), "0\n0\n1\n0 2147483647\n");
    // the timer that duplicate detection shortens is the kernel's again
    assert_eq!(lab.sh("ip netns exec bare sysctl -n net.ipv6.neigh.eth0.retrans_time_ms").ok().stdout, "1000\n");
    // localhost is the namespace's own
    assert_eq!(lab.ask("10.13.0.2", "8000", "ask 127.0.0.1 8000 who").split(' ').next(), Some("127.0.0.1"));
    assert!(lab.ask("10.13.0.2", "8000", "ask ::1 8000 who").starts_with("::1 "));
    assert_eq!(
        lab.answer("10.13.0.2", "8000", "ask 127.0.0.1 9000 who"),
        "failed: [Errno 111] Connection refused\n",
        "not the host's localhost"
    );
}

/// A bridge that the host has no address on is a wire between services.
fn bridge_without_addresses_is_a_wire(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000"), ("t-two.service", "8000")]);
    lab.config(
        r#"
        bridge.br-wire = {}
        [bridge.br0]
        addresses = ["10.14.0.1/24"]
        [namespace.one]
        services = ["t-one"]
        interface.wire = { bridge = "br-wire", addresses = ["10.14.1.1/30", "fd0e::1/126"] }
        interface.eth0 = { bridge = "br0", addresses = ["10.14.0.2/24"] }
        [namespace.two]
        services = ["t-two"]
        interface.wire = { bridge = "br-wire", addresses = ["10.14.1.2/30", "fd0e::2/126"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-one", "t-two"]);
    assert!(lab.ask("10.14.0.2", "8000", "ask 10.14.1.2 8000 who").starts_with("10.14.1.1 10.14.1.2 "));
    assert!(lab.ask("10.14.0.2", "8000", "ask fd0e::2 8000 who").starts_with("fd0e::1 fd0e::2 "));
    assert_eq!(lab.sh("ip -o addr show dev br-wire").ok().stdout, "", "no address, not even a link-local one");
}

fn up_twice_is_up_once(suite: Suite) {
    let lab = hack(suite);
    lab.start(&["t-smtp"]);
    let before = lab.fingerprint();
    for _ in 0..2 {
        let output = lab.run(&["netns-networkd", "up", "mail"]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
        let verbose = lab.run(&["netns-networkd", "up", "-v", "mail"]).ok();
        assert_eq!((verbose.stdout.as_str(), verbose.stderr.as_str()), ("", ""));
    }
    lab.systemctl(&["reload", "netns@mail"]);
    // the record of what was applied is written anew, with the same words
    let without_times = |text: &str| text.lines().filter(|l| !l.starts_with("run/netns-networkd")).collect::<Vec<_>>().join("\n");
    let now = lab.fingerprint();
    assert!(without_times(&before) == without_times(&now), "{}", crate::common::diff(&before, &now));
    lab.stop(&["t-smtp"]);

    // without systemd, and with what is there already
    let _ = lab.run(&["netns-networkd", "up", "mail"]).ok();
    let _ = lab.run(&["netns-networkd", "up", "mail"]).ok();
    let _ = lab.sh("ip -n mail addr del 10.10.1.11/24 dev eth0; ip -n mail link set eth1 down").ok();
    let mended = lab.run(&["netns-networkd", "up", "-v", "mail"]).ok().stdout;
    assert!(mended.contains("10.10.1.11/24") && mended.contains("eth1"), "{mended}");
    for address in ["10.10.1.11", "10.10.2.10", "fd00:10:2::10", "fd00:10:1::10"] {
        let _ = lab.run(&["ping", "-n", "-c", "1", "-W", "2", address]).ok();
    }
    assert_eq!(lab.run(&["netns-networkd", "up", "-v", "mail"]).ok().stdout, "");
    for _ in 0..2 {
        let output = lab.run(&["netns-networkd", "down", "mail"]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    }
    assert_gone(&lab, "mail");
}

/// A service may make links and addresses of its own; `up` leaves them alone, and `down` takes them along.
fn what_a_service_added_is_left_alone(suite: Suite) {
    let lab = hack(suite);
    lab.start(&["t-smtp"]);
    let _ = lab
        .sh("ip -n mail addr add 10.10.1.77/24 dev eth0; ip -n mail route add 10.98.0.0/16 via 10.10.1.1
             ip -n mail link add t-br type bridge; ip -n mail link add t-a type veth peer name t-b
             ip -n mail addr add 10.97.0.1/24 dev t-a; ip -n mail link set t-a up")
        .ok();
    let _ = lab.run(&["netns-networkd", "up", "mail"]).ok();
    lab.sync_nothing();
    let _ = lab.sh("ip -n mail addr show dev eth0 | grep -F 10.10.1.77/24; ip -n mail route show 10.98.0.0/16 | grep .; ip -n mail link show t-br; ip -n mail addr show t-a | grep 10.97").ok();
    lab.stop(&["t-smtp"]);
    assert_gone(&lab, "mail");
}

/// Another host on the bridge, which has the service's addresses with somebody else's MAC address in its cache.
fn a_neighbour_with_a_stale_cache_reaches_the_service(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    let config = |announce: &str| {
        format!(
            "[bridge.br0]\nuplinks = [\"t-lan\"]\n[namespace.one]\nservices = [\"t-one\"]\n\
             interface.eth0 = {{ bridge = \"br0\", {announce} addresses = [\"10.15.0.2/24\", \"fd0f::2/64\"] }}\n"
        )
    };
    let _ = lab
        .sh("ip netns add t-lan; ip link add t-lan type veth peer name eth0 netns t-lan
             ip -n t-lan addr add 10.15.0.9/24 dev eth0; ip -n t-lan addr add fd0f::9/64 dev eth0 nodad; ip -n t-lan link set eth0 up")
        .ok();
    lab.config(&config(""));
    lab.sync_changes(&[]);
    let addresses = ["10.15.0.2", "fd0f::2"];
    let reached = |cache: &str| {
        let stale = |to| format!("ip -n t-lan neigh replace {to} lladdr 02:00:00:00:00:09 dev eth0 nud {cache}\n");
        // a connection whose first packet is lost takes a second longer
        let connect = |to| format!("ip netns exec t-lan timeout 1 bash -c '</dev/tcp/{to}/8000' 2>/dev/null && echo {to}\n");
        let script = [&addresses.map(stale)[..], &["systemctl start t-one\n".to_owned()], &addresses.map(connect)].concat().concat();
        let reached = lab.sh(&format!("set +e\n{script}true")).ok().stdout;
        lab.stop(&["t-one"]);
        reached
    };
    for cache in ["reachable", "stale"] {
        assert_eq!(reached(cache), "10.15.0.2\nfd0f::2\n", "{cache}");
    }
    // or this test is about nothing
    lab.config(&config("announce = false,"));
    lab.sync_changes(&[]);
    assert_eq!(reached("reachable"), "");
    lab.config("");
    let _ = lab.sync(&[]).ok();
    let _ = lab.sh("ip link delete t-lan; ip netns delete t-lan").ok();
}
