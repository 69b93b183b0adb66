//! Configurations as people publish them for network namespaces, in the form they take here; the names and the structure are theirs.

use libtest_mimic::Trial;

use crate::common::{HOST_PORT, Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![router_with_jumbo_frames_and_twenty_addresses, name_server_with_a_deprecated_address, mail_of_three_units_and_a_socket]
}

/// The addresses of the router towards the outside.
fn outside() -> Vec<String> {
    (11..=30).map(|last| format!("203.0.113.{last}")).collect()
}

fn router(outside: &[String]) -> String {
    let addresses: Vec<_> = outside.iter().map(|address| format!("\"{address}/24\"")).collect();
    r#"
[bridge.br-wan]
addresses = ["203.0.113.1/24"]
mtu = 8996
[bridge.br-lan]
mtu = 8996
[bridge.br-dmz]
mtu = 8996

[namespace.router]
services = ["t-router"]

[namespace.router.sysctl]
"net.ipv4.ip_forward" = 1
"net.ipv6.conf.all.forwarding" = true
"net.ipv4.conf.all.rp_filter" = "2"

[namespace.router.interface.wan]
bridge    = "br-wan"
mtu       = 8996
addresses = [OUTSIDE]
gateways  = ["203.0.113.1"]

[namespace.router.interface.lan]
bridge    = "br-lan"
mtu       = 8996
addresses = ["10.60.1.1/24", "fd3c:1::1/64"]

[namespace.router.interface.dmz]
bridge    = "br-dmz"
mtu       = 8996
addresses = ["10.60.2.1/24", "fd3c:2::1/64"]

[namespace.client]
services = ["t-client"]
interface.eth0 = { bridge = "br-lan", addresses = ["10.60.1.10/24", "fd3c:1::10/64"], gateways = ["10.60.1.1", "fd3c:1::1"] }

[namespace.server]
services = ["t-server"]
interface.eth0 = { bridge = "br-dmz", addresses = ["10.60.2.10/24", "fd3c:2::10/64"], gateways = ["10.60.2.1", "fd3c:2::1"] }
"#
    .replace("OUTSIDE", &addresses.join(", "))
}

fn router_with_jumbo_frames_and_twenty_addresses(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-router.service", "8000"), ("t-client.service", "8000"), ("t-server.service", "8000")]);
    lab.config(&router(&outside()));
    lab.sync_changes(&[]);
    // the order in which they start plays no part
    lab.start(&["t-server", "t-client", "t-router"]);
    for link in ["router wan", "router lan", "router dmz", "client eth0", "server eth0"] {
        let (netns, link) = link.split_once(' ').unwrap();
        let text = lab.run(&["ip", "-n", netns, "link", "show", link]).ok().stdout;
        assert!(text.contains(" mtu 8996 ") && text.contains("state UP"), "{text}");
    }
    let sysctl = "ip netns exec router sysctl -n net.ipv4.ip_forward net.ipv6.conf.lan.forwarding net.ipv4.conf.all.rp_filter; sysctl -n net.ipv4.ip_forward";
    assert_eq!(lab.sh(sysctl).ok().stdout, "1\n1\n2\n0\n", "in the router alone");

    let pids = || ["t-router", "t-client", "t-server"].map(|unit| lab.property(unit, "MainPID"));
    let before = pids();
    let works = |outside: &[String]| {
        for address in outside {
            assert_eq!(&lab.who(address, "8000").own, address);
        }
        assert_eq!(lab.source_of(&outside[0], "8000", "203.0.113.1"), outside[0], "the first is where its own packets come from");
        // through the router, both families, nothing in between changes an address; whole packets of the size of the links
        let through = lab.sh("ask() { ip netns exec $1 python3 /usr/local/lib/talk.py ask $2 8000 who | cut -d' ' -f1,2; }
             ask client 10.60.2.10; ask client fd3c:2::10; ask server 10.60.1.10
             ip netns exec client ping -n -q -c 2 -i 0.1 -W 2 -M do -s 8968 10.60.2.10 | grep -o '[0-9]* received'
             ip netns exec client ping -n -q -c 2 -i 0.1 -W 2 -M do -s 8948 fd3c:2::10 | grep -o '[0-9]* received'
             ip netns exec client ping -n -c 1 -W 2 -M do -t 1 10.60.2.10 | grep -o '10.60.1.1 .*exceeded'");
        let wanted = "10.60.1.10 10.60.2.10\nfd3c:1::10 fd3c:2::10\n10.60.2.10 10.60.1.10\n2 received\n2 received\n\
                      10.60.1.1 icmp_seq=1 Time to live exceeded\n";
        assert_eq!(through.stdout, wanted, "{through}");
    };
    works(&outside());
    // another first one, one less, one more, live
    let mut other = outside();
    other.rotate_left(1);
    "203.0.113.99".clone_into(&mut other[19]);
    lab.config(&router(&other));
    lab.sync_changes(&[]);
    works(&other);
    assert_eq!(lab.run(&["ping", "-n", "-c", "1", "-W", "1", "203.0.113.11"]).code, 1, "removed");
    assert_eq!(pids(), before);
    // restarted, the router is what it was
    lab.systemctl(&["restart", "netns@router.service"]);
    lab.start(&["t-router"]);
    works(&other);
}

fn name_server_with_a_deprecated_address(suite: Suite) {
    let lab = Lab::new(suite);
    let addresses = ["10.61.0.53", "fd3d::53", "fd3d::35"];
    lab.units(&[
        ("t-nsd.service", "dns 10.61.0.53,fd3d::53,fd3d::35", ""),
        ("t-transfer.service", "serve 8000", ""),
        ("t-client.service", "serve 8000", ""),
    ]);
    let config = |resolver: &str| {
        r#"
        [bridge.br0]
        addresses = ["10.61.0.1/24", "fd3d::1/64"]

        [namespace.ns1]
        description = "ns1.example.org"
        services    = ["t-nsd", "t-transfer"]

        [namespace.ns1.interface.eth0]
        bridge    = "br0"
        addresses = ["10.61.0.53/24", { address = "fd3d::35/64", deprecated = true }, "fd3d::53/64"]
        gateways  = ["10.61.0.1", "fd3d::1"]

        [namespace.client]
        services = ["t-client"]
        dns = ["RESOLVER"]
        interface.eth0 = { bridge = "br0", addresses = ["10.61.0.10/24", "fd3d::10/64"] }
        "#
        .replace("RESOLVER", resolver)
    };
    lab.config(&config(addresses[0]));
    lab.sync_changes(&[]);
    for round in 1..=2 {
        lab.start(&["t-nsd", "t-transfer", "t-client"]);
        for resolver in addresses {
            lab.config(&config(resolver));
            let _ = lab.sync(&[]).ok();
            // glibc takes no answer from another address than the one it asked; it is the address of who asks, or this one
            assert_eq!(lab.ask("10.61.0.10", "8000", "resolve www.example.com"), client(resolver), "of {resolver}, round {round}");
            assert_eq!(lab.who(resolver, "8000").own, resolver);
        }
        for (to, source) in [("10.61.0.1", "10.61.0.53"), ("fd3d::1", "fd3d::53"), ("2001:db8:ffff::2", "fd3d::53")] {
            assert_eq!(lab.source_of("10.61.0.53", "8000", to), source, "what it asks {to}, round {round}");
        }
        let answer = lab.ask("fd3d::53", "8000", &format!("from fd3d::35 ask fd3d::1 {HOST_PORT} who"));
        assert!(answer.starts_with("fd3d::35 "), "for a program that chooses it, {answer}");
        let shown = lab.sh("ip -n ns1 -6 -o addr show dev eth0 deprecated").ok().stdout;
        assert!(shown.lines().count() == 1 && shown.contains(" fd3d::35/64 "), "{shown}");
        lab.stop(&["t-nsd", "t-transfer", "t-client"]);
    }
    // the old one goes, for good
    lab.start(&["t-transfer"]);
    let text = config(addresses[0]).replace("{ address = \"fd3d::35/64\", deprecated = true }, ", "");
    lab.config(&text);
    let said = lab.sync_changes(&[]);
    assert!(said.contains("remove address fd3d::35/64 deprecated from link 'eth0' in netns 'ns1'\n"), "{said}");
    assert_eq!(lab.source_of("10.61.0.53", "8000", "fd3d::1"), "fd3d::53");
}

/// What the name server answers a client that asks it at an address.
fn client(resolver: &str) -> String {
    if resolver.contains(':') { "192.0.2.1\n" } else { "10.61.0.10\n" }.to_owned()
}

fn mail_of_three_units_and_a_socket(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[
        // Debian's postfix runs as postfix@-.service
        ("t-postfix@.service", "serve 2525", "PrivateTmp=yes\nProtectSystem=full"),
        ("t-rspamd.service", "serve 11332 127.0.0.1", "DynamicUser=yes\nNoNewPrivileges=yes\nProtectSystem=strict"),
        ("t-dovecot.service", "inherit", "PrivateTmp=yes\nProtectHome=no"),
    ]);
    lab.write_file(
        "/etc/systemd/system/t-dovecot.socket",
        "[Socket]\nListenStream=0.0.0.0:1430\nListenStream=[::]:1430\nBindIPv6Only=ipv6-only\n[Install]\nWantedBy=sockets.target\n",
    );
    lab.systemctl(&["daemon-reload"]);
    lab.config(
        r#"
        [bridge.br-lan]
        addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]

        [namespace.mail]
        description = "mail.example.org"
        services    = ["t-postfix@-.service", "t-dovecot.service", "t-dovecot.socket", "t-rspamd"]
        dns         = ["192.0.2.2"]

        [namespace.mail.interface.eth0]
        bridge    = "br-lan"
        mac       = "02:00:5e:00:00:10"
        addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
        gateways  = ["192.0.2.2", "2001:db8:1::2"]
        "#,
    );
    lab.sync_changes(&[]);
    let units = ["t-postfix@-.service", "t-rspamd.service", "t-dovecot.socket"];
    lab.start(&units);
    let netns = lab.named_netns("mail");
    for address in ["192.0.2.10", "2001:db8:1::10"] {
        for port in ["2525", "1430"] {
            let who = lab.who(address, port);
            assert_eq!((who.own.as_str(), &who.netns), (address, &netns), "port {port}");
        }
    }
    // among themselves over localhost, which is theirs alone
    assert!(lab.ask("192.0.2.10", "2525", "ask 127.0.0.1 11332 who").starts_with("127.0.0.1 127.0.0.1 "));
    assert!(lab.ask("192.0.2.10", "1430", "ask ::1 2525 who").starts_with("::1 ::1 "));
    for port in ["2525", "1430", "11332"] {
        assert_eq!(lab.answer("127.0.0.1", HOST_PORT, &format!("ask 127.0.0.1 {port} who")), "failed: [Errno 111] Connection refused\n");
    }
    for (to, source) in [("192.0.2.2", "192.0.2.10"), ("2001:db8:1::2", "2001:db8:1::10")] {
        assert_eq!(lab.source_of("192.0.2.10", "2525", to), source, "what they send");
    }
    lab.sync_nothing();
    // one goes after the other; the namespace, when nobody is left, the socket included
    for unit in ["t-postfix@-.service", "t-dovecot.service", "t-rspamd.service"] {
        lab.stop(&[unit]);
        assert_eq!(lab.named_netns("mail"), netns, "{unit}");
    }
    assert_eq!(lab.who("192.0.2.10", "1430").netns, netns, "the socket starts its service again");
    lab.systemctl(&["stop", "t-dovecot.socket"]);
    lab.stop(&["t-dovecot.service"]);
    assert_eq!(lab.sh("ls /run/netns; ip -br link show master br-lan").ok().stdout, "");
    // an update of one of them
    lab.start(&units);
    let pid = lab.property("t-rspamd", "MainPID");
    lab.systemctl(&["restart", "t-postfix@-.service"]);
    assert_eq!(lab.property("t-rspamd", "MainPID"), pid);
    lab.assert_answers("2001:db8:1::10", "2525");
}
