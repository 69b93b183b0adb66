//! Addresses by DHCP on booted hosts, from a server on the bridge: dnsmasq in a namespace of its own.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{HOST_PORT, Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        lease_is_there_before_the_service_starts,
        two_namespaces_with_links_of_the_same_name,
        router_advertisements_give_addresses_where_asked,
        configured_addresses_and_routes_stay_beside_leases,
        a_server_that_is_down_fails_the_start,
        a_client_that_is_not_installed_is_named,
        a_change_to_dhcp_without_a_server_is_said,
        a_socket_does_not_wait_for_a_lease,
        changes_reach_running_services,
        clients_and_leases_go_back_too,
        a_unit_bound_by_hand_waits_for_leases,
    ]
}

const PORT: &str = "2525";

const BRIDGE: &str = r#"
[bridge.br-lan]
addresses = ["10.10.1.1/24"]
"#;

/// A lab with a bridge and a DHCP server on it, which is `t-dhcpd.service`.
struct Lan(Lab);

impl std::ops::Deref for Lan {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.sh("systemctl stop t-dhcpd; ip link delete lan-dhcpd; ip netns delete dhcpd; rm -r /run/dhcpd").ok();
        }
    }
}

impl Lan {
    #[track_caller]
    fn new(suite: Suite, namespaces: &str) -> Self {
        let lan = Self(Lab::new(suite));
        lan.configure(namespaces);
        lan.services(&[("t-a.service", PORT), ("t-b.service", PORT)]);
        lan.sync_changes(&[]);
        let _ = lan
            .sh("mkdir /run/dhcpd
                 ip netns add dhcpd
                 ip link add lan-dhcpd type veth peer name eth0 netns dhcpd
                 ip link set lan-dhcpd master br-lan up
                 ip -n dhcpd addr add 10.10.1.2/24 dev eth0
                 ip -n dhcpd addr add fd00:10:1::2/64 dev eth0 nodad
                 ip -n dhcpd link set eth0 up")
            .ok();
        lan.serve("10.10.1.2");
        lan.start(&["t-dhcpd.service"]);
        lan
    }

    #[track_caller]
    fn configure(&self, namespaces: &str) {
        self.config(&format!("{BRIDGE}{namespaces}"));
    }

    /// Writes the unit of the server, which names this resolver.
    #[track_caller]
    fn serve(&self, resolver: &str) {
        self.write_file(
            "/etc/systemd/system/t-dhcpd.service",
            &format!(
                "[Service]\nType=forking\nPIDFile=/run/dhcpd/pid\nNetworkNamespacePath=/run/netns/dhcpd\nExecStart=/usr/sbin/dnsmasq \
                 --conf-file=/dev/null --no-resolv --no-hosts --log-dhcp --log-facility=/run/dhcpd/log --pid-file=/run/dhcpd/pid \
                 --dhcp-leasefile=/run/dhcpd/leases --user=root --interface=eth0 --bind-interfaces --dhcp-authoritative --no-ping \
                 --dhcp-range=10.10.1.100,10.10.1.120,255.255.255.0,1h --dhcp-option=option:router,10.10.1.1 \
                 --dhcp-option=option:dns-server,{resolver} --dhcp-option=option:domain-search,lan.test,example.test \
                 --dhcp-range=fd00:10:1::100,fd00:10:1::120,64,1h --enable-ra --dhcp-option=option6:dns-server,[fd00:10:1::2] \
                 --address=/who.test/10.10.1.77\n"
            ),
        );
        self.systemctl(&["daemon-reload"]);
    }

    /// Counts the lines of the server's log with a message.
    #[track_caller]
    fn served(&self, message: &str) -> usize {
        self.read_file("/run/dhcpd/log").lines().filter(|line| line.contains(&format!(" {message}("))).count()
    }

    /// Returns the addresses that links of a namespace have by DHCP.
    #[track_caller]
    fn leased(&self, netns: &str) -> Vec<String> {
        let list = self.sh(&format!("ip -n {netns} -o addr show dynamic scope global")).ok().stdout;
        let address = |line: &str| line.split_whitespace().nth(3).map(|net| net.split('/').next().unwrap_or_default().to_owned());
        list.lines().filter_map(address).collect()
    }

    #[track_caller]
    fn lease(&self, netns: &str, prefix: &str) -> String {
        let leased = self.leased(netns);
        leased.iter().find(|ip| ip.starts_with(prefix)).unwrap_or_else(|| panic!("{netns} has no lease in {prefix}: {leased:?}")).clone()
    }

    #[track_caller]
    fn pid(&self, unit: &str) -> String {
        self.property(unit, "MainPID")
    }

    /// Asserts that nothing is left to do. When dhcpcd starts it takes routes of others for its own; they are put back without a sync.
    #[track_caller]
    fn sync_nothing(&self) {
        let _ = self.wait_until("routes are back", Duration::from_secs(10), "netns-networkd sync --dry-run");
        self.0.sync_nothing();
    }

    /// Asserts that nothing of a namespace is left but what makes it get the same lease again.
    #[track_caller]
    fn assert_gone(&self, name: &str) {
        self.wait_gone();
        let left = format!(
            "set +e; systemctl list-units --plain --no-legend --state=active,activating,deactivating 'netns*@{name}.service'; ls -d /run/netns/{name} /run/netns-networkd/dhcp/{name}
             ls /etc/netns/{name}/resolv.conf; grep -sl dhcpcd /proc/[0-9]*/comm; grep -e dhcpcd -e /netns/{name} /proc/self/mountinfo; true"
        );
        let _ = self.wait_until("nothing is left", Duration::from_secs(20), &format!("left=$({left}); echo \"$left\"; [[ -z $left ]]"));
    }
}

fn lease_is_there_before_the_service_starts(suite: Suite) {
    let lan =
        Lan::new(suite, "[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv4\"\n");
    let ask = format!("/usr/bin/python3 /usr/local/lib/talk.py ask 10.10.1.1 {HOST_PORT} who");
    let settings = format!("ExecStartPre=/bin/sh -c '{ask} >/run/t-first; cat /etc/resolv.conf >/run/t-resolv'");
    lan.units(&[("t-a.service", &format!("serve {PORT}"), &settings)]);
    let host = "cat /etc/resolv.conf /etc/hostname; hostname; ip -o addr show dev eno1 scope global; ip -4 route; find /var/lib/dhcpcd /run/dhcpcd -mindepth 1 2>/dev/null || true";
    let before = lan.sh(host).ok().stdout;

    lan.start(&["t-a.service"]);
    let address = lan.lease("mail", "10.10.1.1");
    assert!(lan.read_file("/run/t-first").starts_with(&format!("{address} 10.10.1.1 ")), "a connection before ExecStart=");
    let resolv = "# Made by netns-networkd from what DHCP gave; `dns` in the configuration is used instead.\n\
                  nameserver 10.10.1.2\nsearch lan.test example.test\n";
    assert_eq!(lan.read_file("/run/t-resolv"), resolv);
    let shown = lan.sh("netns-networkd status mail || true").ok().stdout;
    for (what, note) in
        [(format!("{address}/24").as_str(), "by DHCP"), ("default via 10.10.1.1", "by DHCP"), ("netns-dhcp@mail", "(running)")]
    {
        assert!(shown.lines().any(|line| line.contains(what) && line.contains(note)), "{what} {note} is not in\n{shown}");
    }
    lan.assert_answers(&address, PORT);
    assert_eq!(lan.ask(&address, PORT, "resolve who.test"), "10.10.1.77\n");
    assert_eq!(lan.ask(&address, PORT, "cat /etc/resolv.conf"), resolv);
    let route = lan.run(&["ip", "-n", "mail", "route", "show", "default"]).ok().stdout;
    assert!(route.starts_with("default via 10.10.1.1 dev eth0 proto dhcp "), "{route}");
    assert_eq!(lan.sh("ip -n mail -6 -o addr show scope global").ok().stdout, "", "no IPv6 was asked for");
    lan.sync_nothing();

    let (client, asked) = (lan.pid("netns-dhcp@mail.service"), lan.served("DHCPDISCOVER"));
    assert_eq!(asked, 1);
    lan.systemctl(&["restart", "t-a.service"]);
    lan.assert_answers(&address, PORT);
    assert_eq!(lan.pid("netns-dhcp@mail.service"), client, "the client does not notice a restart of the service");
    assert_eq!((lan.served("DHCPDISCOVER"), lan.served("DHCPRELEASE"), lan.served("DHCPREQUEST")), (1, 0, 1));
    // what knows the client by its MAC address gives it a fixed one
    let mac = lan.sh("cat /run/dhcpd/leases").ok().stdout;
    let own = lan.sh("ip netns exec mail cat /sys/class/net/eth0/address").ok().stdout;
    assert!(mac.contains(&format!("{} {address} * 01:{}\n", own.trim(), own.trim())), "no host name, the MAC as identifier: {mac}");

    lan.stop(&["t-a.service"]);
    lan.assert_gone("mail");
    lan.start(&["t-a.service"]);
    assert_eq!(lan.leased("mail"), [address.as_str()], "the same lease");
    assert_eq!((lan.served("DHCPDISCOVER"), lan.served("DHCPRELEASE")), (1, 0), "it was asked for by name");
    assert_eq!(lan.sh(host).ok().stdout, before, "the host's own");
    lan.stop(&["t-a.service"]);
}

fn two_namespaces_with_links_of_the_same_name(suite: Suite) {
    let lan = Lan::new(
        suite,
        "[namespace.a]\nservices = [\"t-a\"]\n[namespace.a.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"yes\"\n\
         [namespace.b]\nservices = [\"t-b\"]\n[namespace.b.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv6\"\n",
    );
    lan.start(&["t-a.service", "t-b.service"]);
    let (a4, a6, b6) = (lan.lease("a", "10.10.1.1"), lan.lease("a", "fd00:10:1::1"), lan.lease("b", "fd00:10:1::1"));
    assert_ne!(a6, b6);
    assert_eq!((lan.leased("a").len(), lan.leased("b").len()), (2, 1), "no address of the host's own making (SLAAC)");
    // the host has no IPv6 on the bridge, the server has
    let ping = |netns: &str, to: &str| lan.run(&["ip", "netns", "exec", netns, "ping", "-n", "-c", "1", "-W", "2", to]).ok();
    let _ = (ping("dhcpd", &a4), ping("dhcpd", &a6), ping("dhcpd", &b6));
    for netns in ["a", "b"] {
        let route = lan.sh(&format!("ip -n {netns} -6 route show default")).ok().stdout;
        assert!(route.starts_with("default via fe80::") && route.contains(" dev eth0 proto ra "), "{route}");
    }
    // DNS from the leases of each family, for the service
    let (four, six) = ("nameserver 10.10.1.2\n", "nameserver fd00:10:1::2\n");
    for (to, resolvers, not) in [(&a6, vec![four, six], "none"), (&b6, vec![six], four)] {
        let ask = |words: &str| lan.sh(&format!("ip netns exec dhcpd python3 /usr/local/lib/talk.py ask {to} {PORT} {words}")).ok().stdout;
        let resolv = ask("cat /etc/resolv.conf");
        assert!(resolvers.iter().all(|one| resolv.contains(one)) && !resolv.contains(not), "{resolv}");
        assert_eq!(ask("resolve who.test"), "10.10.1.77\n");
    }
    lan.sync_nothing();
    let clients = || ["a", "b"].map(|netns| (lan.pid(&format!("netns-dhcp@{netns}.service")), lan.leased(netns)));
    let before = clients();
    lan.systemctl(&["restart", "t-a.service", "t-b.service"]);
    assert_eq!(clients(), before, "the clients do not notice a restart of the services");
    lan.stop(&["t-a.service"]);
    lan.wait_gone();
    let _ = ping("dhcpd", &b6);
    lan.stop(&["t-b.service"]);
    lan.assert_gone("b");
    lan.start(&["t-b.service"]);
    assert_eq!(lan.leased("b"), [b6.as_str()]);
    lan.stop(&["t-b.service"]);
}

/// With `accept-ra`, dhcpcd takes addresses from router advertisements; a network that has no `DHCPv6` is then enough.
fn router_advertisements_give_addresses_where_asked(suite: Suite) {
    let netns = "[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv6\"\n";
    let lan = Lan::new(suite, &format!("{netns}accept-ra = true\n"));
    let _ = lan.sh("sed -i 's/fd00:10:1::100,fd00:10:1::120,64/fd00:10:1::,ra-only,64/' /etc/systemd/system/t-dhcpd.service").ok();
    let _ = lan.sh("systemctl daemon-reload; systemctl restart t-dhcpd").ok();
    lan.start(&["t-a.service"]);
    let address = lan.lease("mail", "fd00:10:1:0:");
    assert_eq!(lan.leased("mail").len(), 1);
    let _ = lan.run(&["ip", "netns", "exec", "dhcpd", "ping", "-n", "-c", "1", "-W", "2", &address]).ok();
    let kernel = lan.sh("ip netns exec mail sysctl -n net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth0.autoconf").ok().stdout;
    assert_eq!(kernel, "0\n0\n", "not both");
    lan.sync_nothing();
    lan.stop(&["t-a.service"]);
    lan.assert_gone("mail");
}

const STATIC: &str = r#"
[namespace.mail]
services = ["t-a"]
[namespace.mail.interface.eth0]
bridge    = "br-lan"
addresses = ["10.10.1.50/24", "fd00:10:1::50/64"]
gateways  = ["fd00:10:1::1"]
routes    = [{ to = "default", via = "10.10.1.3", metric = 20000 }, { to = "10.99.0.0/16", via = "10.10.1.3" }]
dhcp      = "yes"
"#;

fn configured_addresses_and_routes_stay_beside_leases(suite: Suite) {
    let lan = Lan::new(suite, STATIC);
    lan.start(&["t-a.service"]);
    let service = lan.pid("t-a.service");
    let routes = || {
        let text = lan.sh("ip -n mail route; ip -n mail -6 route show default; ip -n mail -6 route show fd00:10:1::/64").ok().stdout;
        let mut lines: Vec<String> = text.lines().map(|line| line.replace(" pref medium", "").trim().to_owned()).collect();
        lines.retain(|line| line.contains(" proto 78"));
        lines.sort();
        lines
    };
    let ours = [
        "10.10.1.0/24 dev eth0 proto 78 scope link src 10.10.1.50",
        "10.99.0.0/16 via 10.10.1.3 dev eth0 proto 78",
        "default via 10.10.1.3 dev eth0 proto 78 metric 20000",
        "default via fd00:10:1::1 dev eth0 proto 78 metric 1024",
        "fd00:10:1::/64 dev eth0 proto 78 metric 256",
    ];
    let check = || {
        assert_eq!(routes(), ours, "when the service starts, and after");
        let (four, six) = (lan.lease("mail", "10.10.1.1"), lan.lease("mail", "fd00:10:1::1"));
        lan.assert_answers("10.10.1.50", PORT);
        lan.assert_answers(&four, PORT);
        assert_eq!(lan.source_of("10.10.1.50", PORT, "10.10.1.1"), "10.10.1.50", "configured addresses come first");
        let get = lan.sh("ip -n mail route get 8.8.8.8").ok().stdout;
        assert!(get.contains(&format!("via 10.10.1.1 dev eth0 src {four} ")), "the gateway of the lease: {get}");
        lan.sync_nothing();
        (four, six)
    };
    let leases = check();

    // dhcpcd takes routes of others for its own when it starts: they are put back
    let client = lan.pid("netns-dhcp@mail.service");
    let _ = lan.run(&["kill", "-KILL", &client]).ok();
    let back = format!(
        "pid=$(systemctl show -P MainPID netns-dhcp@mail.service); [ $pid != 0 ] && [ $pid != {client} ]
         [ $(ls /run/netns-networkd/dhcp/mail/*.lease.toml | wc -l) = 3 ]; ip -n mail route show proto 78 | grep -q '^10.10.1.0/24'
         journalctl -b -o cat -u netns-dhcp@mail | sed '1,/code=killed/d' | grep -q 'lease of'; ! ip -n mail -6 addr | grep -q tentative"
    );
    let _ = lan.wait_until("the client is back", Duration::from_secs(20), &back);
    let _ = lan.wait_until("routes are back", Duration::from_secs(10), &format!("[ $(ip -n mail route show proto 78 | wc -l) = {} ]", 3));
    assert_eq!(check(), leases, "the leases that it had");
    lan.systemctl(&["restart", "netns-dhcp@mail.service"]);
    let both = "[ $(ip -n mail -o addr show dynamic scope global -tentative | wc -l) = 2 ]
                [ $(ip -n mail route show proto 78 | wc -l) = 3 ]; [ $(ip -n mail -6 route show proto 78 | wc -l) = 2 ]";
    let _ = lan.wait_until("leases are back", Duration::from_secs(20), both);
    assert_eq!(check(), leases);
    assert_eq!(lan.pid("t-a.service"), service, "none of this touches the service");
    lan.stop(&["t-a.service"]);
    lan.assert_gone("mail");
}

fn a_server_that_is_down_fails_the_start(suite: Suite) {
    let lan =
        Lan::new(suite, "[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv4\"\n");
    lan.systemctl(&["stop", "t-dhcpd.service"]);
    let start = std::time::Instant::now();
    let failed = lan.run(&["systemctl", "start", "t-a.service"]).fails(1);
    assert!(failed.stderr.contains("A dependency job for t-a.service failed"), "{failed}");
    assert!((58..80).contains(&start.elapsed().as_secs()), "it should wait 60 s: {:?}", start.elapsed());
    let journal = lan.journal(&["netns-online@mail.service"]);
    let error = "error: netns 'mail': link 'eth0' has no address by DHCP, after waiting 60 s for it\n  \
                 hint: does a server answer on that network? `journalctl -b -u netns-dhcp@mail` shows what was asked\n";
    assert!(journal.contains(error), "{journal}");
    lan.assert_gone("mail");

    lan.systemctl(&["start", "t-dhcpd.service"]);
    lan.start(&["t-a.service"]);
    let address = lan.lease("mail", "10.10.1.1");
    lan.assert_answers(&address, PORT);
    lan.stop(&["t-a.service"]);

    // a lease that is still valid is used without its server, as RFC 2131 (3.2) has it
    lan.systemctl(&["stop", "t-dhcpd.service"]);
    lan.start(&["t-a.service"]);
    assert_eq!(lan.leased("mail"), [address.as_str()]);
    lan.assert_answers(&address, PORT);
    lan.stop(&["t-a.service"]);
    lan.systemctl(&["reset-failed"]);
}

/// A running service loses the addresses that it had, and is told so.
fn a_change_to_dhcp_without_a_server_is_said(suite: Suite) {
    let table =
        |how: &str| format!("[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\n{how}\n");
    let lan = Lan::new(suite, &table("addresses = [\"10.10.1.50/24\"]"));
    lan.systemctl(&["stop", "t-dhcpd.service"]);
    lan.start(&["t-a.service"]);
    lan.configure(&table("dhcp = \"ipv4\""));
    let said = lan.sync(&[]).fails(4);
    let missing = "netns 'mail': link 'eth0' has no address by DHCP after 10 s: does a server answer on that network? \
                   `journalctl -b -u netns-dhcp@mail` shows what was asked\n";
    assert_eq!(said.stderr, format!("warning: {missing}"));
    let shown = || lan.run(&["netns-networkd", "status"]);
    let status = shown().fails(3).stdout;
    assert!(status.contains("1 address by DHCP missing:\n    mail  link 'eth0' has no address by DHCP: does a server answer"), "{status}");
    let list = lan.run(&["netns-networkd", "list", "--json"]);
    assert!(list.stdout.contains("\"differences\": 1"), "{list}");
    lan.systemctl(&["start", "t-dhcpd.service"]);
    let _ = lan.wait_until("the lease is there", Duration::from_secs(70), "ip -n mail addr | grep -q ' 10.10.1.1'");
    let _ = lan.sync(&["--restart"]).ok();
    let status = shown().ok().stdout;
    assert!(!status.contains("DHCP missing"), "{status}");
    lan.stop(&["t-a.service"]);
}

/// Everything at boot waits for sockets.
fn a_socket_does_not_wait_for_a_lease(suite: Suite) {
    let table = "[namespace.mail]\nservices = [\"t-in.socket\", \"t-in.service\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv4\"\n";
    let lan = Lan::new(suite, "");
    lan.systemctl(&["stop", "t-dhcpd.service"]);
    lan.write_file("/etc/systemd/system/t-in.socket", "[Socket]\nListenStream=8000\n");
    lan.write_file("/etc/systemd/system/t-in.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    lan.systemctl(&["daemon-reload"]);
    lan.configure(table);
    let _ = lan.sync(&[]).ok();
    let start = std::time::Instant::now();
    lan.systemctl(&["start", "t-in.socket"]);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert_eq!(lan.leased("mail"), Vec::<String>::new());
    // its service does
    lan.systemctl(&["start", "--no-block", "t-in.service"]);
    let _ =
        lan.wait_until("the service waits", Duration::from_secs(10), "[ $(systemctl show -P ActiveState netns-online@mail) = activating ]");
    lan.systemctl(&["start", "t-dhcpd.service"]);
    let _ = lan.wait_until("the service has started", Duration::from_secs(60), "systemctl is-active t-in.service");
    let _ = lan.lease("mail", "10.10.1.1");
    lan.systemctl(&["stop", "t-in.socket", "t-in.service"]);
    let _ = lan.sh("rm /etc/systemd/system/t-in.{socket,service}; systemctl daemon-reload").ok();
}

fn a_client_that_is_not_installed_is_named(suite: Suite) {
    let netns =
        |dhcp| format!("[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"{dhcp}\"\n");
    let lan = Lan::new(suite, &netns("no"));
    let _ = lan.sh("mv /usr/sbin/dhcpcd /usr/sbin/dhcpcd-away").ok();
    lan.configure(&netns("ipv4"));
    let before = lan.fingerprint();
    for arguments in [&[] as &[&str], &["--dry-run"]] {
        let refused = lan.sync(arguments).fails(2);
        assert_eq!(
            refused.stderr,
            "error: /etc/netns-networkd/test.toml:4: netns 'mail' gets addresses by DHCP, and there is no /usr/sbin/dhcpcd\n  \
             hint: install dhcpcd: `apt install dhcpcd-base`\nerror: nothing was changed\n"
        );
    }
    lan.assert_unchanged(&before);

    let _ = lan.sh("mv /usr/sbin/dhcpcd-away /usr/sbin/dhcpcd").ok();
    lan.sync_changes(&[]);
    let _ = lan.sh("mv /usr/sbin/dhcpcd /usr/sbin/dhcpcd-away").ok();
    let _ = lan.run(&["systemctl", "start", "t-a.service"]).fails(1);
    let journal = lan.journal(&["netns-online@mail.service"]);
    let error = "error: netns 'mail' gets addresses by DHCP, and there is no /usr/sbin/dhcpcd\n  \
                 hint: install dhcpcd: `apt install dhcpcd-base`\n";
    assert!(journal.contains(error), "{journal}");
    lan.assert_gone("mail");
    let _ = lan.sh("mv /usr/sbin/dhcpcd-away /usr/sbin/dhcpcd; systemctl reset-failed").ok();
}

/// `sync --confirm` that nobody confirms, with and without the client before it.
fn clients_and_leases_go_back_too(suite: Suite) {
    let netns = |more: &str| {
        format!(
            "[namespace.mail]\nservices = [\"t-a\"]\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\n\
             addresses = [\"10.10.1.50/24\"]\n{more}\n"
        )
    };
    let (with, without) = (netns("dhcp = \"ipv4\""), netns(""));
    let lan = Lan::new(suite, &with);
    lan.start(&["t-a.service"]);
    let look = "ip -n mail -o -4 addr show dev eth0 | awk '{ print $4 }'; ip -n mail route; cat /etc/netns/mail/resolv.conf 2>/dev/null || true; \
                systemctl is-active netns-dhcp@mail || true; cat /proc/$(systemctl show -P MainPID t-a)/root/etc/resolv.conf";
    for (before, after) in [(&with, &without), (&without, &with)] {
        lan.configure(before);
        let _ = lan.sync(&["--restart"]).ok();
        let pid = lan.pid("t-a.service");
        let was = lan.sh(look).ok().stdout;
        lan.configure(after);
        let _ = lan.sync(&["--confirm", "600"]).ok();
        let _ = lan.wait_until("the change shows", Duration::from_secs(10), &format!("[[ $({look}) != '{}' ]]", was.trim_end()));
        let _ = lan.run(&["netns-networkd", "rollback"]).ok();
        let _ = lan.wait_until("all is as it was", Duration::from_secs(10), &format!("diff <({look}) - <<'END'\n{was}END"));
        lan.configure(before);
        lan.sync_nothing();
        assert_eq!(lan.pid("t-a.service"), pid);
    }
}

fn changes_reach_running_services(suite: Suite) {
    let netns = |more: &str| {
        format!(
            "[namespace.mail]\nservices = [\"t-a\"]\n{}\n[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\naddresses = [\"10.10.1.50/24\"]\n{}\n",
            more.split('|').next().unwrap_or_default(),
            more.split('|').nth(1).unwrap_or_default()
        )
    };
    let lan = Lan::new(suite, "");
    // a service that runs on the host is taken over where it is
    lan.start(&["t-a.service"]);
    let pid = lan.pid("t-a.service");
    lan.configure(&netns("|dhcp = \"ipv4\""));
    let output = lan.sync(&[]).fails(0);
    assert!(output.stdout.contains("pending: t-a.service still runs on the host"), "{output}");
    assert!(output.stdout.contains("start DHCP client of netns 'mail'"), "{output}");
    assert_eq!(lan.pid("t-a.service"), pid);
    lan.sync_changes(&["--restart"]);
    let address = lan.lease("mail", "10.10.1.1");
    lan.assert_answers(&address, PORT);
    // a restart of the namespace is one of its client, too
    for more in ["host-name = \"t-lan\"", ""] {
        let pid = lan.pid("t-a.service");
        lan.configure(&netns(&format!("|dhcp = \"ipv4\"\n{more}")));
        let output = lan.sync(&["--restart"]).ok();
        assert!(output.stdout.contains("restart netns@mail.service\nrestart t-a.service\n") && output.stderr.is_empty(), "{output}");
        assert_ne!(lan.pid("t-a.service"), pid);
        assert_eq!(lan.lease("mail", "10.10.1.1"), address);
        lan.assert_answers(&address, PORT);
        lan.sync_nothing();
    }
    let pid = lan.pid("t-a.service");

    // DNS: in the same file, so that the service sees it
    lan.serve("10.10.1.3");
    lan.systemctl(&["restart", "t-dhcpd.service"]);
    lan.systemctl(&["restart", "netns-dhcp@mail.service"]);
    let sees = |what: &str| format!("python3 /usr/local/lib/talk.py ask 10.10.1.50 {PORT} cat /etc/resolv.conf | grep -qx '{what}'");
    let _ = lan.wait_until("the new resolver shows", Duration::from_secs(10), &sees("nameserver 10.10.1.3"));
    lan.sync_nothing();
    lan.configure(&netns("dns = [\"192.0.2.53\"]|dhcp = \"ipv4\""));
    lan.sync_changes(&[]);
    let _ = lan.sh(&sees("nameserver 192.0.2.53")).ok();
    lan.systemctl(&["restart", "netns-dhcp@mail.service"]);
    let _ = lan.wait_until("the lease is back", Duration::from_secs(10), &format!("ip -n mail addr | grep -q ' {address}/'"));
    let _ = lan.sh(&sees("nameserver 192.0.2.53")).ok();

    // families
    lan.configure(&netns("dns = [\"192.0.2.53\"]|dhcp = \"yes\""));
    let output = lan.sync(&[]).ok();
    assert!(output.stdout.contains("restart DHCP client of netns 'mail'"), "{output}");
    let both = "[ $(ip -n mail -o addr show dynamic scope global | wc -l) = 2 ]";
    let _ = lan.wait_until("both families", Duration::from_secs(10), both);
    // dhcpcd takes it at each lease; netns@ is reloaded then
    let route = "ip -n mail route | grep '^10.10.1.0/24 .*src 10.10.1.50'";
    let _ = lan.wait_until("the route that dhcpcd took is back by itself", Duration::from_secs(10), route);
    let _ = lan.wait_until("no reload is under way", Duration::from_secs(10), "[ $(systemctl show -P ActiveState netns@mail) = active ]");
    lan.sync_nothing();

    // none
    lan.configure(&netns("dns = [\"192.0.2.53\"]|"));
    let output = lan.sync_changes(&[]);
    assert!(output.contains("stop DHCP client of netns 'mail'"), "{output}");
    assert_eq!(lan.leased("mail"), Vec::<String>::new());
    assert_eq!(lan.sh("ls /var/lib/netns-networkd/dhcp").ok().stdout, "", "no lease is kept");
    lan.assert_answers("10.10.1.50", PORT);
    let route = lan.sh("ip -n mail route").ok().stdout;
    assert_eq!(route.trim_end(), "10.10.1.0/24 dev eth0 proto kernel scope link src 10.10.1.50");

    // and again, with the DNS of the lease: the service has another file until it is restarted
    lan.configure(&netns("|dhcp = \"ipv4\""));
    let output = lan.sync(&[]).ok();
    assert!(output.stdout.contains("start DHCP client of netns 'mail'"), "{output}");
    let _ = lan.wait_until("the lease is back", Duration::from_secs(10), "grep -qx 'nameserver 10.10.1.3' /etc/netns/mail/resolv.conf");
    assert_eq!(lan.pid("t-a.service"), pid, "all this time");
    let output = lan.sync(&[]).ok();
    assert!(output.stdout.contains("pending: t-a.service does not see /etc/resolv.conf as it is now"), "{output}");
    let _ = lan.sync(&["--restart"]).ok();
    let _ = lan.sh(&sees("nameserver 10.10.1.3")).ok();
    lan.sync_nothing();

    // out of the configuration while it runs: it goes with its service
    lan.configure("");
    let _ = lan.sync(&[]).ok();
    lan.assert_answers("10.10.1.50", PORT);
    assert!(!lan.leased("mail").is_empty());
    lan.stop(&["t-a.service"]);
    let _ = lan.sync(&[]).ok();
    lan.assert_gone("mail");
    assert_eq!(lan.sh("ls /var/lib/netns-networkd/dhcp").ok().stdout, "");
}

fn a_unit_bound_by_hand_waits_for_leases(suite: Suite) {
    let lan = Lan::new(suite, "[namespace.mail.interface.eth0]\nbridge = \"br-lan\"\ndhcp = \"ipv4\"\n[namespace.mail]\n");
    let example = lan.read_file("/usr/share/doc/netns-networkd/units/by-hand.conf.example").replace("\n#Requires", "\nRequires");
    lan.write_file("/etc/systemd/system/t-a.service.d/by-hand.conf", &example.replace("\n#After", "\nAfter"));
    let ask = format!("ExecStartPre=/usr/bin/python3 /usr/local/lib/talk.py ask 10.10.1.1 {HOST_PORT} who");
    lan.units(&[("t-a.service", &format!("serve {PORT}"), &ask)]);
    lan.start(&["t-a.service"]);
    lan.assert_answers(&lan.lease("mail", "10.10.1.1"), PORT);
    lan.stop(&["t-a.service"]);
    lan.assert_gone("mail");

    // a hold has its client, too, and does not wait for it
    lan.start(&["netns-hold@mail.service"]);
    let _ = lan.wait_until("a lease", Duration::from_secs(10), "ip -n mail addr | grep -q 'inet 10.10.1.1'");
    lan.systemctl(&["stop", "netns-hold@mail.service"]);
    lan.assert_gone("mail");
    let _ = lan.sh("rm -r /etc/systemd/system/t-a.service.d; systemctl daemon-reload").ok();
}
