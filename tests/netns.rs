//! `up` and `down` against the real kernel, in throw-away hosts: what a record says is what the kernel has, whatever was there
//! before, whoever disturbed it meanwhile, and wherever the run was killed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netns_networkd::config::{SourceFile, parse};
use netns_networkd::desired::{Facts, RECORDS, desired};
use serde_json::Value;

use crate::common::{Output, Sandbox, Shell, diff, soak_rounds};
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        up_gives_what_the_record_says,
        every_option_reaches_the_kernel,
        mtu_is_the_bridges_or_the_records,
        a_small_mtu_does_not_spread,
        mac_addresses_are_stable,
        up_twice_is_up_once,
        drift_is_mended,
        lo_is_mended,
        order_of_addresses_is_mended,
        what_others_added_stays,
        record_serves_where_addresses_have_no_marks,
        a_route_of_somebody_else_in_the_way,
        a_changed_record_changes_live,
        live_leaves_links_alone,
        kernel_without_ipv6,
        route_by_a_new_ipv6_address,
        whole_makes_links_anew,
        duplicate_address_fails,
        duplicate_address_added_live_fails,
        dad_off_and_optimistic_do_not_wait,
        dad_rfc_takes_its_time,
        dad_wait_is_quick_and_leaves_no_trace,
        router_advertisements_are_heard_on_request_only,
        bridge_that_comes_is_waited_for,
        bridge_that_comes_up_is_waited_for,
        bridge_that_does_not_come_is_an_error,
        what_is_not_a_bridge_is_an_error,
        spanning_tree_is_waited_for,
        host_name_of_somebody_else,
        bridge_port_of_somebody_else_survives_down,
        netns_of_somebody_else,
        stale_file_is_taken,
        odd_things_in_run_netns,
        no_record,
        broken_record,
        broken_state_file,
        no_machine_id,
        no_root,
        what_cannot_be_printed_is_an_error,
        refusals_carry_the_kernels_words,
        down_leaves_nothing,
        down_takes_only_what_is_ours,
        down_goes_on_past_errors,
        down_with_a_process_inside,
        down_names_who_has_the_namespace_open,
        netns_deleted_behind_our_back,
        host_end_deleted_behind_our_back,
        killed_at_random,
        many_at_once,
        up_and_down_at_once,
        rounds_leave_nothing_behind,
        ip_netns_and_we_get_along,
        ip_netns_add_at_once,
        neighbours_learn_the_new_mac,
        announce_false_is_quiet,
        big_batches,
        what_up_and_down_ask_of_the_kernel,
    ]
}

/// A throw-away host with the bridge br0, which has an address of each family, `192.0.2.1/24` and `2001:db8:1::1/64`.
pub struct Net(Sandbox);

impl Shell for Net {
    fn enter(&self) -> Vec<String> {
        self.0.enter()
    }
}

/// One interface as the README has it.
const MAIL: &str = r#"
[namespace.mail.interface.eth0]
bridge = "br0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways = ["192.0.2.1", "2001:db8:1::1"]
"#;

const RECORD: &str = "/var/lib/netns-networkd/netns/mail.json";

/// A record by hand: as TOML, that is shorter.
#[track_caller]
fn as_record(text: &str) -> String {
    serde_json::to_string_pretty(&text.parse::<toml::Table>().unwrap()).unwrap()
}
/// The named namespaces that are mounted, each once: in /run/netns and, by propagation, on what lies under it.
const MOUNTED: &str = "awk '$5 ~ \"^/run/netns/\" {print $5}' /proc/self/mountinfo | sort -u";
/// With an MTU that somebody set: otherwise it follows its ports'.
const BRIDGE: &str = "ip link add br0 address 02:00:00:00:00:b0 type bridge; ip link set br0 mtu 1400; ip link set br0 mtu 1500; ip addr add 192.0.2.1/24 dev br0; ip addr add 2001:db8:1::1/64 dev br0 nodad";

impl Net {
    #[track_caller]
    pub fn new() -> Self {
        let net = Self(Sandbox::new());
        // another port keeps the bridge's carrier, or its neighbours and routes go with the last namespace
        let port = "ip link add port0 type veth peer name port1; ip link set port1 addrgenmode none up; \
                    ip link set port0 addrgenmode none master br0 up";
        let _ = net.sh(&format!("{BRIDGE}; ip link set br0 up; {port}")).ok();
        net
    }

    /// A host with the bridge, and the records that `sync` would write for this configuration.
    #[track_caller]
    pub fn with(config: &str) -> Self {
        let net = Self::new();
        net.configure(config);
        net
    }

    #[track_caller]
    pub fn configure(&self, config: &str) {
        let files = [SourceFile { path: "/etc/netns-networkd/test.toml".to_owned(), bytes: config.as_bytes().to_vec() }];
        let config = parse(&files).unwrap_or_else(|faults| panic!("{faults}"));
        let mut facts = Facts::default();
        for (name, namespace) in &config.namespaces {
            facts.rulesets.extend(namespace.nftables.iter().map(|path| (name.clone(), self.read_file(path))));
        }
        let state = desired(&config, &facts).unwrap();
        for (path, file) in state.files.iter().filter(|(path, _)| path.starts_with(RECORDS)) {
            self.write_file(path.to_str().unwrap(), &file.content);
        }
    }

    pub fn up(&self, name: &str) -> Output {
        self.run(&["netns-networkd", "--verbose", "up", name])
    }

    pub fn down(&self, name: &str) -> Output {
        self.run(&["netns-networkd", "down", name])
    }

    /// What `ip -j` says of `what` in a namespace, or on the host for "".
    #[track_caller]
    pub fn ip(&self, netns: &str, what: &str) -> Vec<Value> {
        let inside = if netns.is_empty() { String::new() } else { format!("-n {netns}") };
        let text = self.sh(&format!("ip -j -d -N {inside} {what}")).ok().stdout;
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
    }

    #[track_caller]
    pub fn link(&self, netns: &str, name: &str) -> Value {
        self.ip(netns, &format!("link show {name}")).remove(0)
    }

    /// The addresses of a link, link-local ones of IPv6 left out, in the kernel's order, as `ip` would be told of them.
    #[track_caller]
    pub fn addresses(&self, netns: &str, link: &str) -> Vec<String> {
        let links = self.ip(netns, &format!("addr show dev {link}"));
        let infos = links[0]["addr_info"].as_array().unwrap();
        let shown = infos.iter().filter(|a| !text(&a["local"]).starts_with("fe80:")).map(|a| {
            let mut line = format!("{}/{}", text(&a["local"]), a["prefixlen"]);
            for key in ["broadcast", "address", "scope", "label"] {
                let usual = a[key].is_null() || (key == "scope" && a[key] == "0") || (key == "label" && text(&a[key]) == link);
                if !usual {
                    write!(line, " {key} {}", text(&a[key])).unwrap();
                }
            }
            for flag in ["deprecated", "noprefixroute", "tentative", "dadfailed", "optimistic", "nodad"] {
                if a[flag] == true {
                    write!(line, " {flag}").unwrap();
                }
            }
            line
        });
        shown.collect()
    }

    /// The routes of the main table that the kernel did not make itself, sorted.
    #[track_caller]
    pub fn routes(&self, netns: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for family in ["-4", "-6"] {
            for route in self.ip(netns, &format!("{family} route show")) {
                if route["protocol"] == "2" || route["protocol"] == "kernel" {
                    continue;
                }
                let mut line = format!("{family} {}", text(&route["dst"]));
                for key in ["gateway", "dev", "prefsrc", "metric", "protocol"] {
                    if !route[key].is_null() {
                        write!(line, " {key} {}", text(&route[key])).unwrap();
                    }
                }
                for flag in route["flags"].as_array().into_iter().flatten() {
                    write!(line, " {}", text(flag)).unwrap();
                }
                lines.push(line);
            }
        }
        lines.sort();
        lines
    }

    #[track_caller]
    pub fn sysctl(&self, netns: &str, key: &str) -> String {
        self.run(&["ip", "netns", "exec", netns, "sysctl", "-n", key]).ok().stdout.trim().replace('\t', " ")
    }

    /// Everything that `up` makes, in one text that two runs can be compared by; what only time changes is left out.
    #[track_caller]
    pub fn picture(&self) -> String {
        // what `down` has put aside goes by itself, in a moment
        let script = r#"
            for n in {1..500}; do if ! ip -o link | grep -q ': gone-[0-9]'; then break; fi; read -t 0.02 <> <(:) || true; done
            echo "netns: $(cd /run/netns 2>/dev/null && ls)"
            echo "state: $(cd /run/netns-networkd/netns 2>/dev/null && ls -A)"
            show() {
                $1 ip -o link | sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/ qdisc .*(mode|group)/ \1/; s/(netns|netnsid) [^ ]+//' | sort
                # the link-local address of a bridge follows its ports
                $1 ip -o addr | sed -E '/ fe80:/d; s/^[0-9]+: //; s/ +/ /g; s/valid_lft.*//' | sort -s -k1,1
                { $1 ip route; $1 ip -6 route; } | sed '/^fe80/d; /^multicast/d' | sort
            }
            show "" | grep -v '^br9: ' # carrier and MAC address come and go with its ports
            for name in $(cd /run/netns 2>/dev/null && ls); do
                echo "== $name"; show "ip netns exec $name"
                ip netns exec $name sh -c 'grep -H . /proc/sys/net/ipv6/conf/eth*/accept_ra /proc/sys/net/ipv6/neigh/eth*/retrans_time_ms \
                    /proc/sys/net/ipv4/conf/default/arp_notify /proc/sys/net/ipv4/ping_group_range' 2>/dev/null || true
            done"#;
        self.sh(script).ok().stdout
    }

    /// Nothing of any namespace is left: compares with a picture taken before.
    #[track_caller]
    pub fn assert_picture(&self, wanted: &str) {
        let got = self.picture();
        assert!(got == wanted, "{}", diff(wanted, &got));
        assert!(self.sh("test $(grep -c ' /run/netns ' /proc/self/mountinfo) -le 1").code == 0, "/run/netns is mounted over and over");
        let named = format!("diff <(ls -d /run/netns/* 2>/dev/null) <({MOUNTED})");
        assert_eq!(self.sh(&named).stdout, "", "files in /run/netns, and namespaces mounted there");
    }

    /// The error of a failed `up`, as a whole.
    #[track_caller]
    pub fn assert_up_fails(&self, name: &str, wanted: &str) {
        let output = self.up(name).fails(1);
        assert!(output.stderr == wanted, "{}", diff(wanted, &output.stderr));
        assert_eq!(output.stdout, "");
    }
}

/// Numbers and strings alike, without quotes.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn up_gives_what_the_record_says() {
    let net = Net::new();
    let _ = net.sh("ip link add br1 mtu 1400 type bridge; ip link set br1 mtu 1400 up").ok();
    net.configure(
        r#"
[namespace.mail.interface.eth0]
bridge = "br0"
mac = "02:00:5e:10:00:02"
host-mac = "02:00:5e:10:00:03"
addresses = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8:1::10/64", "2001:db8:1::11/64"]
gateways = ["192.0.2.1", "2001:db8:1::1"]
routes = [
    { to = "198.51.100.0/24", via = "192.0.2.254", metric = 50, source = "192.0.2.11" },
    { to = "2000::/3", via = "2001:db8:1::1", source = "2001:db8:1::11" },
]
[namespace.mail.interface.dmz]
bridge = "br1"
addresses = ["203.0.113.5/28", "2001:db8:2::5/64"]
routes = [{ to = "10.8.0.0/16", via = "10.7.0.1", on-link = true }]
"#,
    );
    let start = Instant::now();
    let _ = net.up("mail").ok();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "up took {took:?}");

    assert_eq!(
        net.addresses("mail", "eth0"),
        ["192.0.2.10/24 broadcast 192.0.2.255", "192.0.2.11/24 broadcast 192.0.2.255", "2001:db8:1::10/64", "2001:db8:1::11/64",]
    );
    assert_eq!(net.addresses("mail", "dmz"), ["203.0.113.5/28 broadcast 203.0.113.15", "2001:db8:2::5/64"]);
    assert_eq!(net.addresses("mail", "lo"), ["127.0.0.1/8 scope 254", "::1/128 scope 254"]);
    assert_eq!(
        net.routes("mail"),
        [
            "-4 10.8.0.0/16 gateway 10.7.0.1 dev dmz protocol 78 onlink",
            "-4 198.51.100.0/24 gateway 192.0.2.254 dev eth0 prefsrc 192.0.2.11 metric 50 protocol 78",
            "-4 default gateway 192.0.2.1 dev eth0 protocol 78",
            "-6 2000::/3 gateway 2001:db8:1::1 dev eth0 prefsrc 2001:db8:1::11 metric 1024 protocol 78",
            "-6 default gateway 2001:db8:1::1 dev eth0 metric 1024 protocol 78",
        ]
    );
    let source = |to: &str| text(&net.ip("mail", &format!("route get {to}"))[0]["prefsrc"]);
    assert_eq!(source("192.0.2.1"), "192.0.2.10", "the first address is the source");
    assert_eq!(source("9.9.9.9"), "192.0.2.10");
    assert_eq!(source("198.51.100.1"), "192.0.2.11");
    assert_eq!(source("2001:db8:1::1"), "2001:db8:1::10");
    assert_eq!(source("2001:db8:ffff::1"), "2001:db8:1::11");

    let (inside, host) = (net.link("mail", "eth0"), net.link("", "mail-eth0"));
    assert_eq!((&inside["address"], &inside["mtu"]), (&"02:00:5e:10:00:02".into(), &1500.into()));
    assert_eq!((&host["address"], &host["mtu"], &host["master"]), (&"02:00:5e:10:00:03".into(), &1500.into(), &"br0".into()));
    assert_eq!(host["linkinfo"]["info_slave_data"]["state"], "forwarding");
    for link in [&inside, &host, &net.link("mail", "lo"), &net.link("mail", "dmz"), &net.link("", "mail-dmz")] {
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()), "{link}");
        assert!(link["flags"].as_array().unwrap().contains(&"LOWER_UP".into()), "{link}");
    }
    assert_eq!(net.link("mail", "dmz")["mtu"], 1400);
    assert_eq!(net.link("", "mail-dmz")["mtu"], 1400);
    assert_eq!(net.link("", "mail-dmz")["master"], "br1");
    assert_eq!(net.ip("mail", "link").len(), 3, "lo and two links, nothing else");

    for (key, value) in [
        ("net.ipv4.conf.eth0.arp_notify", "1"),
        ("net.ipv4.conf.eth0.promote_secondaries", "1"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
        ("net.ipv6.conf.eth0.accept_ra", "0"),
        ("net.ipv6.conf.dmz.accept_ra", "0"),
        ("net.ipv6.conf.eth0.autoconf", "0"),
        ("net.ipv6.conf.eth0.ndisc_notify", "1"),
        ("net.ipv6.neigh.eth0.retrans_time_ms", "1000"),
        ("net.ipv6.neigh.dmz.retrans_time_ms", "1000"),
    ] {
        assert_eq!(net.sysctl("mail", key), value, "{key}");
    }
    let _ =
        net.sh("ip netns exec mail ping -c1 -W2 192.0.2.1; ip netns exec mail ping -c1 -W2 2001:db8:1::1; ping -c1 -W2 192.0.2.11").ok();
}

/// And the second `up` sees each of them as it is, or it would remove and add it for ever.
fn every_option_reaches_the_kernel() {
    let net = Net::with(
        r#"
[namespace.mail.interface.eth0]
bridge = "br0"
addresses = [
    "192.0.2.10/24",
    { address = "192.0.2.11/24", scope = "global", label = "eth0:imap", deprecated = true },
    { address = "10.9.9.1/32", peer = "10.9.9.2", scope = "link", no-prefix-route = true },
    { address = "10.9.8.1/32", scope = "host" },
    { address = "10.9.7.1/31" },
    "2001:db8:1::10/64",
    { address = "2001:db8:1::11/128", deprecated = true },
    { address = "2001:db8:2::1/128", peer = "2001:db8:2::2", no-prefix-route = true },
    { address = "fe80::10/64" },
]
gateways = ["192.0.2.1", { via = "2001:db8:1::1", source = "2001:db8:1::10", metric = 100 }]
routes = [
    { to = "198.51.100.7", via = "192.0.2.254", source = "192.0.2.11", metric = 50 },
    { to = "10.8.0.0/16", via = "10.7.0.1", on-link = true },
    { to = "10.9.9.2", on-link = true },
    { to = "2000::/3", via = "2001:db8:1::1" },
    { to = "2001:db8:5::/48", via = "2001:db8:9::1", on-link = true },
    { to = "2001:db8:6::/48" },
    { to = "default", via = "fe80::1", metric = 2000 },
]
"#,
    );
    let _ = net.up("mail").ok();
    assert_eq!(
        net.addresses("mail", "eth0"),
        [
            // the kernel puts the narrower scope first
            "10.9.8.1/32 scope 254",
            "10.9.9.1/32 address 10.9.9.2 scope 253 noprefixroute",
            "192.0.2.10/24 broadcast 192.0.2.255",
            "10.9.7.1/31",
            "192.0.2.11/24 broadcast 192.0.2.255 label eth0:imap deprecated",
            "2001:db8:1::10/64",
            "2001:db8:1::11/128 deprecated",
            "2001:db8:2::1/128 address 2001:db8:2::2 noprefixroute",
        ]
    );
    assert!(net.sh("ip -n mail addr show dev eth0 | grep -c fe80::10/64").ok().stdout == "1\n");
    assert_eq!(
        net.routes("mail"),
        [
            "-4 10.8.0.0/16 gateway 10.7.0.1 dev eth0 protocol 78 onlink",
            "-4 10.9.9.2 dev eth0 protocol 78",
            "-4 198.51.100.7 gateway 192.0.2.254 dev eth0 prefsrc 192.0.2.11 metric 50 protocol 78",
            "-4 default gateway 192.0.2.1 dev eth0 protocol 78",
            "-6 2000::/3 gateway 2001:db8:1::1 dev eth0 metric 1024 protocol 78",
            "-6 2001:db8:5::/48 gateway 2001:db8:9::1 dev eth0 metric 1024 protocol 78 onlink",
            "-6 2001:db8:6::/48 dev eth0 metric 1024 protocol 78",
            "-6 default gateway 2001:db8:1::1 dev eth0 prefsrc 2001:db8:1::10 metric 100 protocol 78",
            "-6 default gateway fe80::1 dev eth0 metric 2000 protocol 78",
        ]
    );
    assert_eq!(net.up("mail").ok().stdout, "", "a second up changes nothing");
    let _ = net.down("mail").ok();
}

fn mtu_is_the_bridges_or_the_records() {
    let net = Net::new();
    let _ = net.sh("ip link set br0 mtu 9000").ok();
    let text =
        |mtu: &str| format!("[namespace.mail.interface.eth0]\nbridge = \"br0\"\n{mtu}\n[namespace.web.interface.eth0]\nbridge = \"br0\"");
    net.configure(&text(""));
    let mtus = |name: &str| (net.link(name, "eth0")["mtu"].clone(), net.link("", &format!("{name}-eth0"))["mtu"].clone());
    let _ = net.up("mail").ok();
    assert_eq!(mtus("mail"), (9000.into(), 9000.into()));
    net.configure(&text("mtu = 1400"));
    assert_eq!(net.up("mail").ok().stdout, "set MTU of link 'eth0' and host end 'mail-eth0' to 1400\n");
    assert_eq!(mtus("mail"), (1400.into(), 1400.into()));
    assert_eq!(net.link("", "br0")["mtu"], 9000, "the bridge keeps its own");
    let _ = net.up("web").ok();
    assert_eq!(mtus("web"), (9000.into(), 9000.into()));
    // without the key a link that runs is left as it is; the next one is made as the bridge is
    net.configure(&text(""));
    assert_eq!(net.up("mail").ok().stdout, "");
    assert_eq!(mtus("mail"), (1400.into(), 1400.into()));
    let _ = net.down("mail").ok();
    let _ = net.up("mail").ok();
    assert_eq!(mtus("mail"), (9000.into(), 9000.into()));
}

/// A bridge whose MTU nobody has set takes the smallest of its ports': what one namespace asks for is not the others' business.
fn a_small_mtu_does_not_spread() {
    let net = Net::new();
    let _ = net.sh("ip link add br1 type bridge; ip link set br1 up").ok();
    let text = "[namespace.small.interface.eth0]\nbridge = \"br1\"\nmtu = 1400\n[namespace.web.interface.eth0]\nbridge = \"br1\"\n";
    net.configure(text);
    let _ = net.up("web").ok();
    let _ = net.up("small").ok();
    assert_eq!(net.link("", "br1")["mtu"], 1400, "or this test is about nothing");
    assert_eq!(net.up("web").ok().stdout, "", "a second up changes nothing");
    assert_eq!(net.link("web", "eth0")["mtu"], 1500);
}

fn mac_addresses_are_stable() {
    let net = Net::with(MAIL);
    let macs = |net: &Net| (net.link("mail", "eth0")["address"].clone(), net.link("", "mail-eth0")["address"].clone());
    let _ = net.up("mail").ok();
    let first = macs(&net);
    assert_ne!(first.0, first.1);
    let _ = net.down("mail").ok();
    let _ = net.up("mail").ok();
    assert_eq!(macs(&net), first);
    let _ = net.down("mail").ok();
    net.write_file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let _ = net.up("mail").ok();
    let other = macs(&net);
    assert!(other.0 != first.0 && other.1 != first.1, "another host has others");
}

fn up_twice_is_up_once() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let before = (net.picture(), net.link("mail", "eth0")["ifindex"].clone(), net.link("", "mail-eth0")["ifindex"].clone());
    let settled = "! { ip -o addr; ip -n mail -o addr; } | grep tentative";
    let _ = net.wait_until("link-local addresses are there, on the host too", Duration::from_secs(5), settled);
    // the monitors end with what they have seen at a mark of ours, which both write themselves when they are listening
    let script = r#"
        listen() { # FILE COMMAND...
            local file=$1; shift
            "$@" monitor link address route >$file & pids="${pids-} $!"
        }
        mark() { # ADDRESS: until both have seen it
            for inside in "" "-n mail"; do
                until grep -q "$1" /run/seen"${inside:+-inside}"; do
                    ip $inside addr add $1/32 dev lo; ip $inside addr del $1/32 dev lo
                done
            done
        }
        listen /run/seen ip; listen /run/seen-inside ip -n mail
        mark 127.7.7.1
        for i in 1 2 3; do netns-networkd -v up mail; netns-networkd -v up --live mail; done
        mark 127.7.7.2
        kill $pids
        sed '0,/127.7.7.2/!d; /127.7.7./d' /run/seen /run/seen-inside | grep -v 'valid_lft'"#;
    let seen = net.sh(script);
    assert_eq!((seen.stdout.as_str(), seen.code), ("", 1), "{seen}");
    assert_eq!((net.picture(), net.link("mail", "eth0")["ifindex"].clone(), net.link("", "mail-eth0")["ifindex"].clone()), before);
}

fn drift_is_mended() {
    let net = Net::with(MAIL);
    let _ = net.sh("ip link add br9 type bridge; ip link set br9 up").ok();
    let _ = net.up("mail").ok();
    let index = net.link("mail", "eth0")["ifindex"].clone();
    let wanted = net.picture();
    let address = "add address 192.0.2.10/24 to link 'eth0'\n";
    let route = |family: &str, via: &str| format!("add route {family} default via {via} to link 'eth0'\n");
    let mac = |end: &str| text(&net.link(if end.is_empty() { "mail" } else { "" }, if end.is_empty() { "eth0" } else { end })["address"]);
    let set_up = "set link 'eth0' and host end 'mail-eth0' up\n".to_owned();
    for (drift, said) in [
        ("ip -n mail addr del 192.0.2.10/24 dev eth0", format!("{address}{}", route("IPv4", "192.0.2.1"))),
        ("ip -n mail addr del 2001:db8:1::10/64 dev eth0", "add address 2001:db8:1::10/64 to link 'eth0'\n".to_owned()),
        ("ip -n mail route del default", route("IPv4", "192.0.2.1")),
        ("ip -n mail -6 route del default", route("IPv6", "2001:db8:1::1")),
        ("ip link set mail-eth0 nomaster", "put host end 'mail-eth0' on bridge 'br0'\n".to_owned()),
        ("ip link set mail-eth0 master br9", "put host end 'mail-eth0' on bridge 'br0'\n".to_owned()),
        ("ip link set mail-eth0 mtu 1400", "set MTU of link 'eth0' and host end 'mail-eth0' to 1500\n".to_owned()),
        ("ip -n mail link set eth0 mtu 1400", "set MTU of link 'eth0' and host end 'mail-eth0' to 1500\n".to_owned()),
        ("ip link set mail-eth0 address 02:00:00:00:00:77", format!("set MAC address of host end 'mail-eth0' to {}\n", mac("mail-eth0"))),
        ("ip -n mail link set eth0 address 02:00:00:00:00:78", format!("set MAC address of link 'eth0' to {}\n", mac(""))),
        ("ip link set mail-eth0 down", set_up.clone()),
        // loses the IPv6 addresses and all routes too
        (
            "ip -n mail link set eth0 down",
            format!(
                "{set_up}add address 2001:db8:1::10/64 to link 'eth0'\n{}{}",
                route("IPv4", "192.0.2.1"),
                route("IPv6", "2001:db8:1::1")
            ),
        ),
        (
            "ip netns exec mail sysctl -qw net.ipv4.ping_group_range='1 0' net.ipv6.conf.eth0.accept_ra=1",
            "set net.ipv4.ping_group_range to 0 2147483647\nset net.ipv6.conf.eth0.accept_ra to 0\n".to_owned(),
        ),
        // a prefix of it, ours by its protocol
        (
            "ip -n mail route replace default via 192.0.2.77 proto 78",
            "replace route IPv4 default via 192.0.2.77 metric 0 by IPv4 default via 192.0.2.1 on link 'eth0'\n".to_owned(),
        ),
    ] {
        let _ = net.sh(drift).ok();
        let mended = net.up("mail").ok();
        let plain = |text: &str| text.replace(" metric 0", "");
        assert!(plain(&mended.stdout) == plain(&said), "{drift}\n{}", diff(&said, &mended.stdout));
        net.assert_picture(&wanted);
        assert_eq!(net.link("mail", "eth0")["ifindex"], index, "{drift}");
        let _ = net.sh("ip netns exec mail ping -c1 -W2 192.0.2.1; ip netns exec mail ping -c1 -W2 2001:db8:1::1").ok();
    }
}

fn lo_is_mended() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let wanted = net.picture();
    let _ = net.sh("ip -n mail link set lo down").ok();
    let _ = net.up("mail").ok();
    net.assert_picture(&wanted);
    let _ = net.sh("ip netns exec mail ping -c1 -W2 127.0.0.1; ip netns exec mail ping -c1 -W2 ::1").ok();
}

/// The first address of a family is the source of what services send; after mending, too.
fn order_of_addresses_is_mended() {
    let net = Net::with(&MAIL.replace(r#""192.0.2.10/24", "#, r#""192.0.2.10/24", "192.0.2.11/24", "2001:db8:1::11/64", "#));
    let _ = net.up("mail").ok();
    let source = |to: &str| text(&net.ip("mail", &format!("route get {to}"))[0]["prefsrc"]);
    assert_eq!((source("192.0.2.1"), source("2001:db8:1::1")), ("192.0.2.10".to_owned(), "2001:db8:1::11".to_owned()));
    let _ = net.sh("ip -n mail addr del 2001:db8:1::10/64 dev eth0").ok();
    let _ = net.up("mail").ok();
    assert_eq!(source("2001:db8:1::1"), "2001:db8:1::11", "the second one that comes back does not become the source");
    let _ = net.sh("ip -n mail addr del 192.0.2.10/24 dev eth0").ok();
    let _ = net.up("mail").ok();
    assert_eq!((source("192.0.2.1"), source("2001:db8:1::1")), ("192.0.2.10".to_owned(), "2001:db8:1::11".to_owned()));
}

fn what_others_added_stays() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let script = r"
        ip -n mail addr add 192.0.2.99/24 dev eth0
        ip -n mail addr add 2001:db8:1::99/64 dev eth0 nodad
        ip -n mail addr add 10.1.1.1/32 dev lo
        ip -n mail route add 10.99.0.0/16 via 192.0.2.98
        ip -n mail -6 route add 2001:db8:99::/48 via 2001:db8:1::98
        ip -n mail route add 10.98.0.0/16 via 192.0.2.1 table 100
        ip -n mail rule add from 10.98.0.0/16 table 100
        ip -n mail link add tun0 type bridge
        ip link add admin0 type veth peer name admin1 netns mail
        ip -n mail link add inner0 type veth peer name inner1";
    let _ = net.sh(script).ok();
    let before = (net.picture(), net.ip("mail", "rule"));
    assert_eq!(net.up("mail").ok().stdout, "", "nothing of ours has changed");
    assert_eq!((net.picture(), net.ip("mail", "rule")), before);
    // neither while something is mended
    let _ = net.sh("ip -n mail addr del 2001:db8:1::10/64 dev eth0; ip -n mail route del default").ok();
    let _ = net.up("mail").ok();
    let got = net.picture();
    let missing: Vec<&str> = before.0.lines().filter(|line| !got.contains(line)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    // and new links of ours fit in beside the others
    net.configure(&format!("{MAIL}\n[namespace.mail.interface.eth1]\nbridge = \"br0\"\naddresses = [\"192.0.2.12/24\"]"));
    let _ = net.up("mail").ok();
    assert_eq!(net.addresses("mail", "eth1"), ["192.0.2.12/24 broadcast 192.0.2.255"]);
    let got = net.picture();
    let missing: Vec<&str> = before.0.lines().filter(|line| !got.contains(line)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Before Linux 5.18 addresses have no protocol: what `up` wrote down tells then, and goes on doing so until they are gone.
fn record_serves_where_addresses_have_no_marks() {
    let config = |addresses: &str, more: &str| {
        let on_lo = addresses.replace("/24", "/32").replace("/64", "/128").replace("192.0.2.", "10.9.9.").replace(":1::", ":9::");
        let eth0 = format!("[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [{addresses}{more}]\n");
        format!("[namespace.mail]\nloopback-addresses = [{on_lo}]\n{eth0}")
    };
    let both = |last: &[u8]| last.iter().map(|n| format!("\"192.0.2.{n}/24\", \"2001:db8:1::{n}/64\"")).collect::<Vec<_>>().join(", ");
    let net = Net::with(&config(&both(&[11, 12, 13]), ""));
    let _ = net.up("mail").ok();
    // the same again, without their marks, and those of somebody else
    let strip = r"
        for link in lo eth0; do
            # in the order in which they were added
            for address in $(ip -n mail -o -4 addr show dev $link scope global | awk '{ print $4 }') \
                           $(ip -n mail -o -6 addr show dev $link scope global | awk '{ print $4 }' | tac); do
                ip -n mail addr del $address dev $link; ip -n mail addr add $address dev $link $([[ $address = *:* ]] && echo nodad)
            done
            ip -n mail addr add 192.0.2.99/24 dev $link; ip -n mail addr add 2001:db8:1::99/64 dev $link nodad
        done
        ! ip -n mail addr show | grep -w proto | grep -v kernel";
    let _ = net.sh(strip).ok();
    assert_eq!(net.up("mail").ok().stdout, "", "all is there");
    let left = || {
        let shown = net.sh("ip -n mail -o addr show scope global | awk '{ print $2, $4 }' | grep -v '99/'").ok().stdout;
        let mut lines: Vec<&str> = shown.lines().collect();
        lines.sort_unstable();
        lines.join("; ")
    };
    // one that fails before anything goes: the bridge has that address
    net.configure(&config(&both(&[12, 13]), ", \"2001:db8:1::1/64\""));
    let _ = net.up("mail").fails(1);
    net.configure(&config(&both(&[13]), ""));
    let _ = net.up("mail").ok();
    assert_eq!(left(), "eth0 192.0.2.13/24; eth0 2001:db8:1::13/64; lo 10.9.9.13/32; lo 2001:db8:9::13/128");
    let strangers = net.sh("ip -n mail -o addr show | grep -c '99/'").ok().stdout;
    assert_eq!(strangers, "4\n", "those of somebody else stay");
    let _ = net.sh("! grep -E '1[12]/' /run/netns-networkd/netns/mail.json").ok();
}

/// Taking it for ours would be a lie: the default route that is wanted is not there.
fn a_route_of_somebody_else_in_the_way() {
    for (family, via, other, to) in
        [("-4", "192.0.2.1", "192.0.2.77", "9.9.9.9"), ("-6", "2001:db8:1::1", "2001:db8:1::77", "2001:db8:f::1")]
    {
        let net = Net::with(MAIL);
        let _ = net.up("mail").ok();
        let _ = net.sh(&format!("ip -n mail {family} route del default; ip -n mail {family} route add default via {other} dev eth0")).ok();
        let output = net.up("mail");
        let gateway = text(&net.ip("mail", &format!("route get {to}"))[0]["gateway"]);
        assert!(gateway == via || output.code == 1, "up says that all is well, but the way out is by {gateway}\n{output}");
    }
}

fn a_changed_record_changes_live() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let index = net.link("mail", "eth0")["ifindex"].clone();
    let _ = net.sh("ip -n mail route add 10.99.0.0/16 via 192.0.2.1").ok();
    let changed = r#"
[namespace.mail.interface.eth0]
bridge = "br0"
mac = "02:00:5e:10:00:02"
addresses = ["192.0.2.20/24", "192.0.2.10/25", "2001:db8:1::10/56"]
gateways = ["192.0.2.1", { via = "2001:db8:1::2", metric = 7 }]
"#;
    net.configure(changed);
    let _ = net.up("mail").ok();
    let mut got = net.addresses("mail", "eth0");
    got.sort(); // order_of_addresses_is_mended looks at the order
    assert_eq!(got, ["192.0.2.10/25 broadcast 192.0.2.127", "192.0.2.20/24 broadcast 192.0.2.255", "2001:db8:1::10/56 nodad"]);
    assert_eq!(
        net.routes("mail"),
        [
            "-4 10.99.0.0/16 gateway 192.0.2.1 dev eth0 protocol 3",
            "-4 default gateway 192.0.2.1 dev eth0 protocol 78",
            "-6 default gateway 2001:db8:1::2 dev eth0 metric 7 protocol 78",
        ]
    );
    assert_eq!(net.link("mail", "eth0")["ifindex"], index);
    assert_eq!(net.link("mail", "eth0")["address"], "02:00:5e:10:00:02");
    assert_eq!(net.up("mail").ok().stdout, "");

    // the only IPv4 address gets another prefix length: the routes that others added stay
    net.configure(&changed.replace(r#""192.0.2.20/24", "#, ""));
    let _ = net.up("mail").ok();
    net.configure(&changed.replace(r#""192.0.2.20/24", "192.0.2.10/25", "#, r#""192.0.2.10/24", "#));
    let _ = net.up("mail").ok();
    assert_eq!(net.addresses("mail", "eth0"), ["192.0.2.10/24 broadcast 192.0.2.255", "2001:db8:1::10/56 nodad"]);
    assert_eq!(net.routes("mail")[0], "-4 10.99.0.0/16 gateway 192.0.2.1 dev eth0 protocol 3");
    assert_eq!(net.up("mail").ok().stdout, "");
}

fn live_leaves_links_alone() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let index = net.link("mail", "eth0")["ifindex"].clone();
    net.configure(&MAIL.replace("bridge = \"br0\"", "bridge = \"br0\"\nhost-name = \"mail0\"").replace("192.0.2.10", "192.0.2.20"));
    let live = net.run(&["netns-networkd", "-v", "up", "--live", "mail"]).ok();
    assert_eq!(live.stdout, "", "this link cannot be changed while a service uses it");
    assert_eq!(net.link("mail", "eth0")["ifindex"], index);
    assert_eq!(net.link("", "mail-eth0")["master"], "br0");
    // what can be changed is
    net.configure(&MAIL.replace("192.0.2.10", "192.0.2.20"));
    let live = net.run(&["netns-networkd", "-v", "up", "--live", "mail"]).ok();
    assert_eq!(live.stdout, "add address 192.0.2.20/24 to link 'eth0'\nremove address 192.0.2.10/24 from link 'eth0'\n");
    assert_eq!(net.routes("mail").len(), 2, "the default routes stay");
    // and down knows both names
    net.configure(&MAIL.replace("bridge = \"br0\"", "bridge = \"br0\"\nhost-name = \"mail0\""));
    let _ = net.run(&["netns-networkd", "up", "--live", "mail"]).ok();
    let _ = net.sh("ip netns exec mail sleep 1000 & until pgrep -x sleep; do :; done").ok();
    let _ = net.down("mail").ok();
    let _ = net.sh("ip link show mail-eth0 || ip link show mail0").fails(1);
}

/// A route is refused while its IPv6 source is checked for duplicates, also on a link that has been there; and the check is short.
fn route_by_a_new_ipv6_address() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let routes = "routes = [{ to = \"2001:db8:7::/48\", via = \"2001:db8:1::1\", source = \"2001:db8:1::77\" }]";
    let more = MAIL.replace("/64\"]", "/64\", \"2001:db8:1::77/64\"]").replace("bridge = \"br0\"", &format!("bridge = \"br0\"\n{routes}"));
    assert!(more.contains("::77/64"), "{more}");
    net.configure(&more);
    let begin = std::time::Instant::now();
    let _ = net.run(&["netns-networkd", "up", "--live", "mail"]).ok();
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(900), "took {took:?}: the kernel's own timers are 1 s");
    let wanted = "-6 2001:db8:7::/48 gateway 2001:db8:1::1 dev eth0 prefsrc 2001:db8:1::77 metric 1024 protocol 78";
    assert!(net.routes("mail").iter().any(|route| route == wanted), "{:?}", net.routes("mail"));
}

/// As with `ipv6.disable=1`: there is no parameter of IPv6. (The kernel of the test has IPv6; its parameters are hidden by plain files
/// in place of those of IPv4. Over `net` as a whole, because each namespace has an `ipv6` of its own there.)
fn kernel_without_ipv6() {
    let net = Net::with("[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.10/24\"]\ngateways = [\"192.0.2.1\"]\n");
    let _ = net.sh("mount -t tmpfs tmpfs /proc/sys/net; mkdir -p /proc/sys/net/ipv4/conf/default; touch /proc/sys/net/ipv4/{ping_group_range,conf/default/{arp_notify,promote_secondaries}}").ok();
    let _ = net.up("mail").ok();
    let _ = net.sh("ping -c1 -W1 192.0.2.10").ok();
    assert_eq!(net.run(&["netns-networkd", "-v", "up", "mail"]).ok().stdout, "", "a second up changes nothing");
    let _ = net.down("mail").ok();
    assert_eq!(net.sh("cat /proc/sys/net/ipv4/conf/default/arp_notify; ls /proc/sys/net").ok().stdout, "1ipv4\n");
    let _ = net.sh("umount /proc/sys/net").ok();
}

fn whole_makes_links_anew() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    net.configure(
        &(MAIL.replace("bridge = \"br0\"", "bridge = \"br0\"\nhost-name = \"mail0\"")
            + "[namespace.mail.interface.eth1]\nbridge = \"br0\"\naddresses = [\"192.0.2.12/24\"]"),
    );
    let _ = net.up("mail").ok();
    let _ = net.sh("! ip link show mail-eth0").ok();
    assert_eq!(net.link("", "mail0")["master"], "br0");
    assert_eq!(net.addresses("mail", "eth0"), ["192.0.2.10/24 broadcast 192.0.2.255", "2001:db8:1::10/64"]);
    assert_eq!(net.routes("mail").len(), 2);
    net.configure(MAIL);
    let _ = net.up("mail").ok();
    let _ = net.sh("ip link show mail0 || ip link show mail-eth1 || ip -n mail link show eth1").fails(1);
    assert_eq!(net.up("mail").ok().stdout, "");
}

fn duplicate_address_fails() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let _ = net.sh("ip addr add 2001:db8:1::10/64 dev br0 nodad").ok();
    let start = Instant::now();
    net.assert_up_fails(
        "mail",
        "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: address 2001:db8:1::10/64 of link 'eth0' is used by \
         somebody else on its network (duplicate address detection)\n  hint: `ip -6 neigh show 2001:db8:1::10` on another host of that network shows the MAC \
         address of who has it\n",
    );
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "the duplicate was found after {took:?}");
    let _ = net.sh("ip addr del 2001:db8:1::10/64 dev br0").ok();
    net.assert_picture(&before);
    let _ = net.up("mail").ok();
}

fn duplicate_address_added_live_fails() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let _ = net.sh("ip addr add 2001:db8:1::20/64 dev br0 nodad").ok();
    net.configure(&MAIL.replace("\"2001:db8:1::10/64\"", "\"2001:db8:1::10/64\", \"2001:db8:1::20/64\""));
    for _ in 0..2 {
        net.assert_up_fails(
            "mail",
            "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: address 2001:db8:1::20/64 of link 'eth0' is used \
             by somebody else on its network (duplicate address detection)\n  hint: `ip -6 neigh show 2001:db8:1::20` on another host of that network shows the MAC \
         address of who has it\n",
        );
    }
    assert_eq!(net.addresses("mail", "eth0")[0], "192.0.2.10/24 broadcast 192.0.2.255", "the service keeps what it had");
    assert_eq!(net.sysctl("mail", "net.ipv6.neigh.eth0.retrans_time_ms"), "1000");
    // the other host gives it up: the next run takes it
    let _ = net.sh("ip addr del 2001:db8:1::20/64 dev br0").ok();
    let _ = net.up("mail").ok();
    assert!(net.addresses("mail", "eth0").contains(&"2001:db8:1::20/64".to_owned()), "{:?}", net.addresses("mail", "eth0"));
}

fn dad(kind: &str) -> String {
    MAIL.replace("bridge = \"br0\"", &format!("bridge = \"br0\"\ndad = \"{kind}\""))
}

fn dad_off_and_optimistic_do_not_wait() {
    let net = Net::with(&dad("off"));
    // nobody is asked, so a duplicate is not found
    let _ = net.sh("ip addr add 2001:db8:1::10/64 dev br0 nodad").ok();
    let _ = net.up("mail").ok();
    assert_eq!(net.addresses("mail", "eth0")[1], "2001:db8:1::10/64 nodad");
    assert_eq!(net.up("mail").ok().stdout, "");
    let _ = net.sh("netns-networkd down mail; ip addr del 2001:db8:1::10/64 dev br0").ok();

    net.configure(&dad("optimistic"));
    let shown =
        net.sh("netns-networkd up mail; ip -n mail -j addr show dev eth0; ip netns exec mail ping -c1 -W4 -I 2001:db8:1::10 2001:db8:1::1");
    let shown = shown.ok();
    assert!(shown.stdout.contains("\"optimistic\":true"), "usable while it is checked: {shown}");
    assert_eq!(net.sysctl("mail", "net.ipv6.conf.eth0.optimistic_dad"), "1");
    let _ = net.wait_until("the check has ended", Duration::from_secs(5), "! ip -n mail addr show dev eth0 | grep tentative");
    assert_eq!(net.addresses("mail", "eth0")[1], "2001:db8:1::10/64");
    assert_eq!(net.up("mail").ok().stdout, "");
}

fn dad_rfc_takes_its_time() {
    let net = Net::with(&dad("rfc"));
    let start = Instant::now();
    let _ = net.up("mail").ok();
    let took = start.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "RFC 4862 says 1-2 s, not {took:?}");
    assert_eq!(net.addresses("mail", "eth0")[1], "2001:db8:1::10/64");
    assert_eq!(net.sysctl("mail", "net.ipv6.neigh.eth0.retrans_time_ms"), "1000");
    assert_eq!(net.up("mail").ok().stdout, "");
}

fn dad_wait_is_quick_and_leaves_no_trace() {
    let net = Net::with(MAIL);
    let start = Instant::now();
    let _ = net.up("mail").ok();
    let took = start.elapsed();
    assert!(took < Duration::from_millis(700), "0.1 s is enough, not {took:?}");
    assert_eq!(net.addresses("mail", "eth0")[1], "2001:db8:1::10/64", "not tentative");
    assert_eq!(net.sysctl("mail", "net.ipv6.neigh.eth0.retrans_time_ms"), "1000");
    // the address can be used at once
    let _ = net.sh("ip netns exec mail ping -c1 -W1 -I 2001:db8:1::10 2001:db8:1::1").ok();
}

/// A router that advertises `2001:db8:7::/64` and itself, to every node on br0.
const ADVERTISE: &str = r#"perl -MSocket=:DEFAULT,inet_pton,pack_sockaddr_in6 -e '
    socket(my $s, 10, SOCK_RAW, 58) or die $!;
    my $index = `cat /sys/class/net/br0/ifindex`;
    setsockopt($s, 41, 18, pack("i", 255)) or die $!;       # IPV6_MULTICAST_HOPS
    setsockopt($s, 41, 17, pack("i", $index)) or die $!;    # IPV6_MULTICAST_IF
    my $prefix = pack("CCCCNNN", 3, 4, 64, 0xc0, 86400, 14400, 0) . inet_pton(10, "2001:db8:7::");
    my $ra = pack("CCnCCnNN", 134, 0, 0, 64, 0, 1800, 0, 0) . $prefix;
    send($s, $ra, 0, pack_sockaddr_in6(0, inet_pton(10, "ff02::1"), $index)) or die $!;'"#;

fn router_advertisements_are_heard_on_request_only() {
    let net = Net::with(&(MAIL.to_owned() + "[namespace.web.interface.eth0]\nbridge = \"br0\"\naccept-ra = true"));
    let _ = net.up("mail").ok();
    let _ = net.up("web").ok();
    assert_eq!(net.sysctl("mail", "net.ipv6.conf.eth0.accept_ra"), "0");
    assert_eq!(net.sysctl("web", "net.ipv6.conf.eth0.accept_ra"), "1");
    let heard = format!("{ADVERTISE}; ip -n web -6 addr show dev eth0 | grep 2001:db8:7:; ip -n web -6 route | grep '^default'");
    let _ = net.wait_until("web has an address by SLAAC, and a route", Duration::from_secs(10), &heard);
    assert_eq!(net.addresses("mail", "eth0").len(), 2, "both heard the same advertisements");
    assert_eq!(net.routes("mail").len(), 2);
    assert_eq!(net.up("web").ok().stdout, "", "what the router gave is left alone");
    assert!(net.addresses("web", "eth0")[0].starts_with("2001:db8:7:"), "{:?}", net.addresses("web", "eth0"));
}

/// Until the `up` in the background sleeps, which it does only to wait for a bridge; that it does is seen in its poll(2).
const UNTIL_IT_WAITS: &str = "until [[ $(cat /proc/$up/wchan 2>/dev/null) = *poll* || $(cut -d' ' -f1 /proc/$up/syscall 2>/dev/null) = @(7|271) ]]; do kill -0 $up; done";

fn bridge_that_comes_is_waited_for() {
    let net = Net(Sandbox::new());
    net.configure(MAIL);
    let script = format!(
        r"netns-networkd up mail & up=$!
           {UNTIL_IT_WAITS}
           test ! -e /run/netns/mail
           {BRIDGE}; ip link set br0 up
           wait $up"
    );
    let _ = net.sh(&script).ok();
    assert_eq!(net.addresses("mail", "eth0").len(), 2);
}

fn bridge_that_comes_up_is_waited_for() {
    let net = Net(Sandbox::new());
    net.configure(MAIL);
    let script = format!(
        r"{BRIDGE}; netns-networkd up mail & up=$!
           {UNTIL_IT_WAITS}
           ip link set br0 up
           wait $up"
    );
    let _ = net.sh(&script).ok();
    assert_eq!(net.addresses("mail", "eth0").len(), 2);
}

fn bridge_that_does_not_come_is_an_error() {
    let net = Net(Sandbox::new());
    net.configure(MAIL);
    let before = net.picture();
    let hint = "note: no .netdev file of networkd's makes it\n  hint: add [bridge.br0] to the configuration and run `netns-networkd sync`, or \
                start who makes it";
    net.assert_up_fails(
        "mail",
        &format!(
            "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: bridge 'br0' does not exist, after waiting 15 s for it\n  {hint}\n"
        ),
    );
    net.assert_picture(&before);
    let _ = net.sh(BRIDGE).ok();
    let before = net.picture();
    let hint = "note: networkd leaves it alone\n  hint: `ip link set dev br0 up`, and have who configures it do that at boot";
    net.assert_up_fails(
        "mail",
        &format!("error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: bridge 'br0' is down, after waiting 15 s for it\n  {hint}\n"),
    );
    net.assert_picture(&before);
}

fn what_is_not_a_bridge_is_an_error() {
    let net = Net(Sandbox::new());
    net.configure(MAIL);
    let _ = net.sh("ip link add br0 type veth peer name br0peer; ip link set br0 up").ok();
    let before = net.picture();
    let start = Instant::now();
    let output = net.up("mail").fails(1);
    assert!(start.elapsed() < Duration::from_secs(2), "waiting does not make it one");
    let wanted = "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: link 'br0' is not a bridge\n";
    assert!(output.stderr.starts_with(wanted), "{output}");
    net.assert_picture(&before);
}

fn spanning_tree_is_waited_for() {
    let net = Net::with(MAIL);
    let _ = net.sh("ip link set br0 type bridge forward_delay 200 stp_state 1").ok();
    let start = Instant::now();
    let _ = net.up("mail").ok();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(3), "listening and learning take twice the forward delay, not {took:?}");
    assert_eq!(net.link("", "mail-eth0")["linkinfo"]["info_slave_data"]["state"], "forwarding");
    let _ = net.sh("ip netns exec mail ping -c1 -W2 192.0.2.1").ok();
}

fn host_name_of_somebody_else() {
    let net = Net::with(MAIL);
    for foreign in ["type veth peer name other", "type bridge"] {
        let _ = net.sh(&format!("ip link add mail-eth0 {foreign}; ip link set mail-eth0 alias foreign")).ok();
        let before = (net.picture(), net.link("", "mail-eth0"));
        let output = net.up("mail").fails(1);
        let wanted = "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: failed to add link 'eth0' with host end \
                      'mail-eth0' on bridge 'br0': kernel: File exists (os error 17)\n";
        assert!(output.stderr.starts_with(wanted), "{output}");
        net.assert_picture(&before.0);
        assert_eq!(net.link("", "mail-eth0"), before.1, "the foreign link is as it was");
        let _ = net.down("mail").ok();
        assert_eq!(net.link("", "mail-eth0"), before.1, "down leaves it too");
        let _ = net.sh("ip link del mail-eth0").ok();
    }
    let _ = net.up("mail").ok();
}

/// The name of our host end, but not our pair: somebody made it while the namespace was away.
fn bridge_port_of_somebody_else_survives_down() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let _ = net.sh("ip link del mail-eth0; ip link add mail-eth0 type veth peer name other; ip link set mail-eth0 master br0 up").ok();
    let _ = net.down("mail").ok();
    assert_eq!(net.link("", "mail-eth0")["master"], "br0");
}

fn netns_of_somebody_else() {
    let net = Net::with(MAIL);
    let _ = net.sh("ip netns add mail; ip -n mail link set lo up; ip -n mail addr add 10.1.1.1/32 dev lo").ok();
    let before = net.picture();
    net.assert_up_fails(
        "mail",
        "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: /run/netns/mail exists and was not made by netns-networkd\n  \
         hint: if nothing needs it, remove it with `ip netns delete mail`, then start the service again\n",
    );
    let output = net.down("mail").fails(1);
    assert_eq!(output.stderr, "error: failed to take down netns 'mail': /run/netns/mail exists and was not made by netns-networkd\n");
    net.assert_picture(&before);
    let _ = net.sh("ip netns del mail").ok();
    let _ = net.up("mail").ok();
}

fn stale_file_is_taken() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let _ = net.sh("mkdir -p /run/netns; echo old >/run/netns/mail; chmod 0 /run/netns/mail").ok();
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail true").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    // and down takes one away
    let _ = net.sh("touch /run/netns/mail").ok();
    let _ = net.down("mail").ok();
    let _ = net.up("mail").ok();
}

/// Whatever stands there: an error or a namespace, never a file of somebody else destroyed.
fn odd_things_in_run_netns() {
    let net = Net::with(MAIL);
    let _ = net.sh("mkdir -p /run/netns; echo precious >/run/precious; ln -s ../precious /run/netns/mail").ok();
    let output = net.up("mail").fails(1);
    assert!(output.stderr.contains("/run/netns/mail"), "{output}");
    assert_eq!(net.read_file("/run/precious"), "precious\n");
    let _ = net.sh("rm /run/netns/mail; mkdir /run/netns/mail").ok();
    let output = net.up("mail").fails(1);
    assert!(output.stderr.contains("/run/netns/mail"), "{output}");
    let _ = net.sh("! ip link show mail-eth0; rmdir /run/netns/mail").ok();
    let _ = net.up("mail").ok();
}

fn no_record() {
    let net = Net::new();
    let before = net.picture();
    net.assert_up_fails(
        "mail",
        "error: no netns 'mail' is known: there is no record /var/lib/netns-networkd/netns/mail.json\n  \
         hint: add [namespace.mail] to a file in /etc/netns-networkd and run `netns-networkd sync`\n",
    );
    net.assert_picture(&before);
    assert!(net.run(&["netns-networkd", "online", "mail"]).fails(1).stderr.starts_with("error: no netns 'mail' is known: "));
    let _ = net.run(&["netns-networkd", "up", "../mail"]).fails(2);
    let _ = net.run(&["netns-networkd", "up", "a-name-too-long-"]).fails(2);
}

fn broken_record() {
    let net = Net::new();
    let before = net.picture();
    let broken = [
        ("[links.eth0]\nnonsense = 1\nkind = { veth = { name = \"x\" } }\n", "unknown field `nonsense`"),
        ("[links.eth0]\n", "missing field `kind`"),
        ("[links.eth0]\nmac = \"01:00:00:00:00:00\"\nkind = { veth = { name = \"x\" } }\n", "multicast"),
        ("[links.\"a/b\"]\nkind = { veth = { name = \"x\" } }\n", "a link name has only"),
    ];
    let cut_off = ("{\n  \"source\":".to_owned(), "EOF while parsing a value at line 2 column 11");
    for (record, why) in broken.map(|(record, why)| (as_record(record), why)).into_iter().chain([cut_off]) {
        net.write_file(RECORD, &record);
        let output = net.up("mail").fails(1);
        assert!(output.stderr.starts_with(&format!("error: failed to bring up netns 'mail': {RECORD} is broken: ")), "{output}");
        assert!(output.stderr.contains(why), "{why}: {output}");
        assert!(output.stderr.ends_with("\n  hint: `netns-networkd sync --force` writes it again\n"), "{output}");
        net.assert_picture(&before);
    }
}

/// An error, never taken for empty; and `down` gets rid of it.
fn broken_state_file() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let _ = net.up("mail").ok();
    let path = "/run/netns-networkd/netns/mail.json";
    net.write_file(path, "[links.eth0\n");
    let output = net.up("mail").fails(1);
    assert!(output.stderr.starts_with("error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: "), "{output}");
    assert!(output.stderr.contains(&format!("{path} is broken: expected value at line 1 column 2")), "{output}");
    let output = net.down("mail").fails(1);
    assert!(output.stderr.contains(&format!("{path} is broken")), "{output}");
    let _ = net.wait_until("the pair has gone", Duration::from_secs(2), "! ip link show mail-eth0");
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    let _ = net.up("mail").ok();
}

fn no_machine_id() {
    let net = Net::with(MAIL);
    let before = net.picture();
    for content in ["", "uninitialized\n", "0123\n"] {
        net.write_file("/etc/machine-id", content);
        net.assert_up_fails(
            "mail",
            "error: failed to bring up netns 'mail' of /etc/netns-networkd/test.toml:2: /etc/machine-id has no machine-id\n  \
             hint: `systemd-machine-id-setup` makes one\n",
        );
        net.assert_picture(&before);
    }
    let _ = net.sh("rm /etc/machine-id").ok();
    let _ = net.up("mail").fails(1);
}

fn no_root() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let nobody = "cp $(command -v netns-networkd) /run/nn; setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs /run/nn";
    for verb in ["up", "down"] {
        let output = net.sh(&format!("{nobody} {verb} mail")).fails(1);
        let lines = output.stderr.lines().count();
        assert!(output.stderr.starts_with("error: ") && output.stderr.contains("Permission denied") && lines <= 2, "{output}");
        net.assert_picture(&before);
    }
    // a namespace that is up stays as it is
    let _ = net.up("mail").ok();
    let wanted = net.picture();
    let _ = net.sh(&format!("{nobody} down mail")).fails(1);
    net.assert_picture(&wanted);
}

/// But a reader that has seen enough is none.
fn what_cannot_be_printed_is_an_error() {
    let net = Net::with(MAIL);
    for command in ["--json check", "status", "graph"] {
        let output = net.sh(&format!("netns-networkd {command} >/dev/full")).fails(1);
        assert_eq!(output.stderr, "error: failed to write to standard output: No space left on device (os error 28)\n", "{command}");
    }
    let _ = net.sh("set -o pipefail; netns-networkd --json check | true").ok();
}

/// Records that no `sync` writes, so that the kernel is the first to refuse.
fn refusals_carry_the_kernels_words() {
    let net = Net::new();
    let before = net.picture();
    let record = |routes: &str, addresses: &str| {
        format!(
            "source = \"/etc/netns-networkd/mail.toml:1\"\n[links.eth0]\naddresses = [{{ address = \"192.0.2.10/24\" }}, {addresses}]\n\
             routes = [{routes}]\nkind = {{ veth = {{ name = \"mail-eth0\", bridge = \"br0\" }} }}\n"
        )
    };
    for (record, why) in [
        (
            record("{ to = \"0.0.0.0/0\", via = \"203.0.113.1\" }", ""),
            "failed to add route IPv4 default via 203.0.113.1 to link 'eth0': kernel: Nexthop has invalid gateway: Network is unreachable \
             (os error 101)",
        ),
        (
            record("{ to = \"::/0\", via = \"2001:db8:1::1\" }", ""),
            "failed to add route IPv6 default via 2001:db8:1::1 to link 'eth0': kernel: ",
        ),
        (
            record("{ to = \"10.0.0.0/8\", source = \"192.0.2.99\" }", ""),
            "failed to add route 10.0.0.0/8 source 192.0.2.99 to link 'eth0': kernel: Invalid prefsrc address: Invalid argument (os error 22)",
        ),
        (
            record("{ to = \"10.0.0.1/8\" }", ""),
            "failed to add route 10.0.0.1/8 to link 'eth0': kernel: Invalid prefix for given prefix length: Invalid argument (os error 22)",
        ),
        (
            record("", "{ address = \"ff02::1/64\" }"),
            "failed to add address ff02::1/64 to link 'eth0': kernel: Invalid argument (os error 22)",
        ),
        (
            record("", "{ address = \"192.0.2.11/24\", label = \"a-label-that-is-too-long\" }"),
            "failed to add address 192.0.2.11/24 label a-label-that-is-too-long to link 'eth0': kernel: ",
        ),
        (
            record("", "").replace("[links.eth0]", "[links.eth0]\nmtu = 10"),
            "failed to add link 'eth0' with host end 'mail-eth0' on bridge 'br0': kernel: ",
        ),
        (
            record("", "").replace("[links.eth0]", "[sysctl]\n\"net.no.such\" = \"1\"\n[links.eth0]"),
            "failed to set net.no.such to 1: No such file or directory (os error 2)",
        ),
        (
            record("", "").replace("[links.eth0]", "[sysctl]\n\"net.ipv4.ip_forward\" = \"many\"\n[links.eth0]"),
            "failed to set net.ipv4.ip_forward to many: Invalid argument (os error 22)",
        ),
    ] {
        net.write_file(RECORD, &as_record(&record));
        let output = net.up("mail").fails(1);
        let wanted = format!("error: failed to bring up netns 'mail' of /etc/netns-networkd/mail.toml:1: {why}");
        assert!(output.stderr.starts_with(&wanted), "wanted {wanted}\n{output}");
        net.assert_picture(&before);
    }
}

fn down_leaves_nothing() {
    let net =
        Net::with(&format!("{MAIL}[namespace.mail.interface.eth1]\nbridge = \"br0\"\n[namespace.mail.interface.eth2]\nbridge = \"br0\""));
    let before = net.picture();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    for _ in 0..3 {
        let _ = net.up("mail").ok();
        // host ends go at once, not when the kernel comes to it
        let _ = net.run(&["netns-networkd", "down", "mail"]).ok();
        let _ = net.sh("ip link show mail-eth0 || ip link show mail-eth1 || ip link show mail-eth2").fails(1);
        net.assert_picture(&before);
        let _ = net.down("mail").ok();
        net.assert_picture(&before);
    }
    let _ = net.sh("rm -r /var/lib/netns-networkd; netns-networkd down mail").ok();
    assert_eq!(net.sh("find /run/netns-networkd -type f").ok().stdout, "", "no file is left in /run");
}

fn down_takes_only_what_is_ours() {
    let net = Net::with(&format!("{MAIL}[namespace.web.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.20/24\"]"));
    let _ = net.sh("ip link add mail-eth1 type veth peer name other; ip link set mail-eth1 master br0 up; ip netns add foreign").ok();
    let _ = net.up("web").ok();
    let before = net.picture();
    let _ = net.up("mail").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    let _ = net.sh("ip netns exec web ping -c1 -W2 192.0.2.1").ok();
}

/// One thing that cannot be done, and all the others are: what was in its way is named.
fn down_goes_on_past_errors() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    // a namespace within another mount cannot be unlinked: EROFS
    let _ =
        net.sh("mount --bind /run/netns/mail /run/keep 2>/dev/null || { touch /run/keep; mount --bind /run/netns/mail /run/keep; }").ok();
    let _ = net.sh("mount -o remount,bind,ro /run/netns").ok();
    let output = net.down("mail").fails(1);
    let wanted = "error: failed to take down netns 'mail': failed to remove /run/netns/mail: Read-only file system (os error 30)\n";
    assert!(output.stderr == wanted, "{}", diff(wanted, &output.stderr));
    let _ = net.sh("! ip link show mail-eth0").ok();
    let _ = net.sh("mount -o remount,bind,rw /run/netns; netns-networkd down mail; test ! -e /run/netns/mail").ok();
    assert_eq!(net.sh("find /run/netns-networkd -type f").ok().stdout, "");
}

fn down_with_a_process_inside() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail sleep 1000 & until pgrep -x sleep; do :; done").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    // a new one under the same name, while the old one lives on without links
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail ping -c1 -W2 192.0.2.1; nsenter -t $(pgrep -x sleep) -n ip -o link | wc -l | grep -x 1").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    // also when its host end has another MAC address than we gave it
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail sleep 2000 & until pgrep -f 'sleep 2000'; do :; done").ok();
    let _ = net.sh("ip link set mail-eth0 address 02:00:00:00:00:77").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn netns_deleted_behind_our_back() {
    let net = Net::with(MAIL);
    let _ = net.up("mail").ok();
    let wanted = net.picture();
    for _ in 0..5 {
        // the host end's name is taken for a while after the namespace has gone
        let _ = net.sh("ip netns del mail; netns-networkd up mail").ok();
        net.assert_picture(&wanted);
    }
    // and for long if a process is inside
    let _ = net.sh("ip netns exec mail sleep 1000 & until pgrep -x sleep; do :; done; ip netns del mail; netns-networkd up mail").ok();
    net.assert_picture(&wanted);
    let _ = net.sh("ip netns del mail; netns-networkd down mail; ! ip link show mail-eth0").ok();
    let _ = net.sh("umount /run/netns; rm -rf /run/netns; netns-networkd up mail").ok();
    net.assert_picture(&wanted);
    // unmounted, its file left
    let _ = net.sh("umount /run/netns/mail; netns-networkd up mail").ok();
    net.assert_picture(&wanted);
}

fn host_end_deleted_behind_our_back() {
    let net = Net::with(&format!("{MAIL}[namespace.mail.interface.eth1]\nbridge = \"br0\"\naddresses = [\"192.0.2.12/24\"]"));
    let _ = net.up("mail").ok();
    let wanted = net.picture();
    let other = net.link("mail", "eth1")["ifindex"].clone();
    let _ = net.sh("ip link del mail-eth0").ok();
    let _ = net.up("mail").ok();
    net.assert_picture(&wanted);
    assert_eq!(net.link("mail", "eth1")["ifindex"], other, "the other link is not touched");
    // renamed: ours is made anew
    let _ = net.sh("ip link set mail-eth0 down; ip link set mail-eth0 name stray; netns-networkd up mail").ok();
    assert_eq!(net.link("", "mail-eth0")["master"], "br0");
    assert_eq!(net.addresses("mail", "eth0").len(), 2);
}

/// What a run that was killed leaves, `up` and `down` put right.
fn assert_survives(net: &Net, rounds: &str) {
    let script = format!(
        r#"
        picture() {{
            {{ ip netns exec mail ip -o link | sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/ link-netns.*//'
               ip netns exec mail ip -o addr | grep -v fe80: | sed -E 's/^[0-9]+: //; s/valid_lft.*//' | sort -s -k1,1
               ip netns exec mail ip route | sort; ip netns exec mail ip -6 route | grep -v ^fe80
               ip netns exec mail sh -c 'cd /proc/sys/net; grep -H . ipv6/conf/eth*/accept_ra ipv6/conf/eth0/router_solicitation_delay ipv6/neigh/eth*/retrans_time_ms ipv4/ping_group_range'
               ip -o link show master br0 | sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/link-netns.*//'
               ls -A /run/netns /run/netns-networkd/netns; grep -c ' /run/netns ' /proc/self/mountinfo; {MOUNTED}; }} 2>&1
        }}
        nothing() {{ # what was put aside goes by itself, in a moment
            for n in {{1..500}}; do if ! compgen -G '/sys/class/net/gone-*' >/dev/null; then break; fi; read -t 0.02 <> <(:) || true; done
            {{ ls -A /run/netns /run/netns-networkd/netns; ip -o link show master br0; ip -o link | cut -d: -f2; {MOUNTED}; }} 2>&1
        }}
        netns-networkd up mail; picture >/run/wanted; netns-networkd down mail; nothing >/run/nothing
        check() {{ # WHAT
            netns-networkd up mail 2>/run/error || {{ echo "$1: up failed: $(cat /run/error)"; exit 1; }}
            picture >/run/got
            diff /run/wanted /run/got || {{ echo "$1: up is not right"; exit 1; }}
        }}
        clean() {{ # WHAT
            netns-networkd down mail 2>/run/error || {{ echo "$1: down failed: $(cat /run/error)"; exit 1; }}
            nothing >/run/got
            diff /run/nothing /run/got || {{ echo "$1: down is not right"; exit 1; }}
        }}
        {rounds}"#
    );
    let _ = net.sh(&script).ok();
}

const KILLED: &str = r#"
[namespace.mail.interface.eth0]
bridge = "br0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways = ["192.0.2.1", "2001:db8:1::1"]

[namespace.mail.interface.eth1]
bridge = "br0"
dad = "off"
accept-ra = true
addresses = ["192.0.2.11/24"]
"#;

fn killed_at_random() {
    let net = Net::with(KILLED);
    let rounds = r#"
        for round in {1..50}; do
            netns-networkd up mail & up=$!
            # up takes about 0.13 s, most of it in one wait: half of the kills in its first 15 ms
            if ((round % 2)); then ms=$((RANDOM % 15)); else ms=$((RANDOM % 150)); fi
            read -t 0.$(printf %03d $ms) <> <(:) || true
            kill -9 $up 2>/dev/null || true; wait $up 2>/dev/null || true
            if ((round % 5)); then check "up killed after $ms ms"; fi
            clean "up killed after $ms ms"
        done"#;
    assert_survives(&net, rounds);
}

fn many_at_once() {
    let mut config = String::new();
    for n in 0..20 {
        write!(
            config,
            "[namespace.n{n}.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.1{n:02}/24\", \"2001:db8:1::1{n:02}/64\"]\n"
        )
        .unwrap();
    }
    let net = Net::with(&config);
    let before = net.picture();
    let all = |verb: &str| {
        format!("pids=; for n in {{0..19}}; do netns-networkd {verb} n$n & pids=\"$pids $!\"; done; for p in $pids; do wait $p; done")
    };
    for _ in 0..2 {
        let _ = net.sh(&all("up")).ok();
        assert_eq!(net.sh(&format!("ls /run/netns | wc -l; {MOUNTED} | wc -l")).ok().stdout, "20\n20\n");
        assert_eq!(net.sh("grep -c ' /run/netns ' /proc/self/mountinfo").ok().stdout, "1\n", "mounted once");
        let _ = net.sh("for n in {0..19}; do ip netns exec n$n ping -q -c1 -W2 192.0.2.1; done").ok();
        let _ = net.sh(&all("down")).ok();
        net.assert_picture(&before);
    }
}

/// Without `NETNS_TEST_SOAK`.
const FEW: u32 = 100;

/// Ten namespaces at a time, of pairs, two pairs each, and macvlan links: counts are afterwards what they were, in the kernel, too.
fn rounds_leave_nothing_behind() {
    let mut config = String::new();
    for n in 10..20 {
        write!(
            config,
            "[namespace.n{n}]\ninterface.eth0 = {{ bridge = \"br0\", addresses = [\"192.0.2.{n}/24\", \"2001:db8:1::{n}/64\"] }}\n"
        )
        .unwrap();
        match n % 4 {
            0 => writeln!(config, "interface.eth1 = {{ bridge = \"br0\", addresses = [\"192.0.2.1{n}/24\"], gateways = [\"192.0.2.1\"] }}")
                .unwrap(),
            1 => writeln!(config, "interface.eth1 = {{ kind = \"macvlan\", parent = \"port1\", addresses = [\"198.51.100.{n}/24\"] }}")
                .unwrap(),
            _ => {}
        }
    }
    let net = Net::with(&config);
    let before = net.picture();
    let count = || {
        let script = "find /run/netns-networkd -type f | wc -l; grep -c ' - nsfs ' /proc/self/mountinfo || true; grep -c ' /run/netns ' /proc/self/mountinfo; ls /sys/class/net | wc -l
                      { readlink /proc/[0-9]*/ns/net || true; } | sort -u | wc -l; grep -c . /proc/net/netlink";
        net.sh(script).ok().stdout
    };
    let rounds = |rounds: u32| {
        let script = format!(
            "pids=; for n in {{10..19}}; do
                 {{ for round in {{1..{rounds}}}; do netns-networkd up n$n; netns-networkd down n$n; done; }} & pids+=\" $!\"
             done; for pid in $pids; do wait $pid; done"
        );
        let _ = net.sh(&script).ok();
    };
    // of the whole machine, where other tests run: that shows only what many rounds leave
    let namespaces = || net.sh("awk '/^net_namespace/ { print $2 }' /proc/slabinfo").ok().stdout.trim().parse::<u32>().unwrap_or_default();
    rounds(1);
    // `down` does not wait until the kernel has freed them
    let _ = net.wait_until("old host ends are freed", Duration::from_secs(10), "! ls /sys/class/net | grep gone-");
    let (was, kernel) = (count(), namespaces());
    // of ten namespaces, and short enough for one command
    let tens = soak_rounds(FEW) / 10;
    (0..tens.div_ceil(20)).for_each(|nth| rounds((tens - nth * 20).min(20)));
    let _ = net.wait_until("old host ends are freed", Duration::from_secs(10), "! ls /sys/class/net | grep gone-");
    net.assert_picture(&before);
    assert_eq!(count(), was);
    if tens > FEW / 10 {
        let script = format!("[[ $(awk '/^net_namespace/ {{ print $2 }}' /proc/slabinfo) -lt {} ]]", kernel + tens * 10 / 2);
        let _ = net.wait_until("the kernel's namespaces have gone", Duration::from_secs(30), &script);
        println!("before and after {tens} rounds of ten namespaces: {kernel} and {} in the kernel\n{was}", namespaces());
    }
}

fn up_and_down_at_once() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let script = r"
        for round in {1..50}; do
            netns-networkd up mail & a=$!
            netns-networkd down mail & b=$!
            netns-networkd up mail & c=$!
            wait $a; wait $b; wait $c
            if [[ -e /run/netns/mail ]]; then
                [[ $(ip -n mail addr show dev eth0) = *192.0.2.10* ]]
            else
                ! ip link show mail-eth0 2>/dev/null
            fi
        done
        netns-networkd up mail; ip netns exec mail ping -q -c1 -W2 192.0.2.1; netns-networkd down mail";
    let _ = net.sh(script).ok();
    net.assert_picture(&before);
    assert_eq!(net.sh("find /run/netns-networkd -type f").ok().stdout, "");
    assert_eq!(net.sh("grep -c ' /run/netns ' /proc/self/mountinfo").ok().stdout, "1\n");
}

fn ip_netns_and_we_get_along() {
    let net = Net::with(MAIL);
    // ours first, then theirs
    let _ = net.up("mail").ok();
    assert_eq!(net.sh("grep ' /run/netns ' /proc/self/mountinfo | grep -c shared:").ok().stdout, "1\n");
    let _ = net.sh("ip netns add other; ip netns exec mail true; ip netns exec other true").ok();
    assert_eq!(net.sh("ip netns list | awk '{print $1}' | sort").ok().stdout, "mail\nother\n");
    // seen from a mount namespace made before, as a service's would be
    let script = r"
        unshare -m --propagation slave sh -c 'touch /run/ready; until test -e /run/go; do :; done; ip netns exec late true' & other=$!
        until test -e /run/ready; do :; done
        cp /var/lib/netns-networkd/netns/mail.json /var/lib/netns-networkd/netns/late.json
        sed -i 's/mail-eth0/late-eth0/; s/::10/::11/; s/2.10/2.11/' /var/lib/netns-networkd/netns/late.json
        netns-networkd up late; touch /run/go; wait $other; netns-networkd down late";
    let _ = net.sh(script).ok();
    let _ = net.sh("ip netns del other; ip netns del mail; netns-networkd down mail; netns-networkd up mail; ip netns del mail; netns-networkd down mail").ok();
    assert_eq!(net.sh("ls -A /run/netns").ok().stdout, "");
    // theirs first, then ours
    let net = Net::with(MAIL);
    let _ = net.sh("ip netns add other; netns-networkd up mail; ip netns exec mail ping -c1 -W2 192.0.2.1").ok();
    assert_eq!(net.sh("grep -c ' /run/netns ' /proc/self/mountinfo").ok().stdout, "1\n");
    let _ = net.sh("netns-networkd down mail; ip netns exec other true; ip netns del other").ok();
    assert_eq!(net.sh("ls -A /run/netns").ok().stdout, "");
}

/// Debian bug 949235: two that make /run/netns a mount point at once stack mounts, and hide each other's namespaces.
fn ip_netns_add_at_once() {
    let net = Net::with(MAIL);
    if net.sh("strace -f -o /dev/null true").code != 0 {
        skip!("strace is missing, so up cannot be held up where it would matter: apt-get install strace");
    }
    // ours is slow between its first look at the mount and what it does about it; iproute2's waits for the lock
    let script = r"
        strace -f -qq -o /run/calls -e trace=mount -e inject=mount:delay_exit=300000 netns-networkd up mail & up=$!
        until grep -q mount /run/calls 2>/dev/null; do kill -0 $up; done
        ip netns add a; wait $up; ip netns exec a true; ip netns exec mail true";
    let _ = net.sh(script).ok();
    assert_eq!(net.sh("grep -c ' /run/netns ' /proc/self/mountinfo").ok().stdout, "1\n");
}

fn neighbours_learn_the_new_mac() {
    let with_mac = |mac: &str| MAIL.replace("bridge = \"br0\"", &format!("bridge = \"br0\"\nmac = \"02:00:00:00:00:{mac}\""));
    let net = Net::with(&with_mac("01"));
    let _ = net.up("mail").ok();
    let known = |address: &str, mac: &str| format!("ip neigh show {address} dev br0 | grep -F lladdr\\ 02:00:00:00:00:{mac}");
    let _ = net.sh("ping -c1 -W2 192.0.2.10; ping -c1 -W2 2001:db8:1::10").ok();
    let _ = net.sh(&known("192.0.2.10", "01")).ok();
    let _ = net.sh(&known("2001:db8:1::10", "01")).ok();
    let _ = net.down("mail").ok();
    net.configure(&with_mac("02"));
    let _ = net.up("mail").ok();
    let second = Duration::from_secs(1);
    let _ = net.wait_until("the host knows the new MAC address by ARP", second, &known("192.0.2.10", "02"));
    let _ = net.wait_until("the host knows the new MAC address by ND", second, &known("2001:db8:1::10", "02"));
    // an address that comes later
    let _ = net.sh("ip neigh replace 192.0.2.30 lladdr 02:00:00:00:00:09 dev br0; ip neigh replace 2001:db8:1::30 lladdr 02:00:00:00:00:09 dev br0 nud reachable; ip neigh replace 192.0.2.30 lladdr 02:00:00:00:00:09 dev br0 nud reachable").ok();
    net.configure(&with_mac("02").replace("\"192.0.2.10/24\",", "\"192.0.2.10/24\", \"192.0.2.30/24\", \"2001:db8:1::30/64\","));
    let _ = net.up("mail").ok();
    let _ = net.wait_until("the new IPv4 address is announced", second, &known("192.0.2.30", "02"));
    let _ = net.wait_until("the new IPv6 address is announced", second, &known("2001:db8:1::30", "02"));
}

fn announce_false_is_quiet() {
    let config = |announce: bool, mac: &str| {
        let keys = format!("bridge = \"br0\"\nannounce = {announce}\nmac = \"02:00:00:00:00:{mac}\"");
        MAIL.replace("bridge = \"br0\"", &keys).replace("::10/64\"", "::10/64\", \"2001:db8:1::11/64\"")
    };
    let net = Net::with(&config(false, "02"));
    let neighbours = ["192.0.2.10", "2001:db8:1::11"];
    let stale = neighbours.map(|to| format!("ip neigh replace {to} lladdr 02:00:00:00:00:01 dev br0 nud reachable\n")).concat();
    let known = || neighbours.map(|to| net.sh(&format!("ip neigh show {to} dev br0 | cut -d' ' -f3")).ok().stdout).concat();
    let _ = net.sh(&stale).ok();
    let _ = net.up("mail").ok();
    // what came in on this bridge before an answer to this ping has been seen
    let ping = "ip netns exec mail ping -c1 -W2 -I 2001:db8:1::10 2001:db8:1::1";
    let _ = net.sh(ping).ok();
    assert_eq!(known(), "02:00:00:00:00:01\n02:00:00:00:00:01\n");
    // neither when the MAC address changes
    net.configure(&config(false, "03"));
    let _ = net.up("mail").ok();
    let _ = net.sh(ping).ok();
    assert_eq!(known(), "02:00:00:00:00:01\n02:00:00:00:00:01\n");
    net.configure(&config(true, "04"));
    let _ = net.up("mail").ok();
    let _ = net.sh(ping).ok();
    assert_eq!(known(), "02:00:00:00:00:04\n02:00:00:00:00:04\n");
    assert_eq!(net.up("mail").ok().stdout, "", "a second up changes nothing");
}

fn big_batches() {
    let mut config =
        "[namespace.mail.interface.eth0]\nbridge = \"br0\"\ngateways = [\"192.0.2.1\"]\naddresses = [\n\"192.0.2.10/24\",\n".to_owned();
    for n in 0..200 {
        writeln!(config, "\"10.20.{n}.1/24\",").unwrap();
    }
    for n in 0..100 {
        writeln!(config, "\"2001:db8:1::a:{n:x}/64\",").unwrap();
    }
    config += "]\nroutes = [\n";
    for n in 0..100 {
        writeln!(
            config,
            "{{ to = \"10.30.{n}.0/24\", via = \"10.20.{n}.2\" }},\n{{ to = \"2001:db8:30:{n:x}::/64\", via = \"2001:db8:1::1\" }},"
        )
        .unwrap();
    }
    config += "]\n";
    let net = Net::with(&config);
    let before = net.picture();
    let start = Instant::now();
    let made = net.up("mail").ok();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(made.stdout.lines().filter(|l| l.starts_with("add address")).count(), 301);
    assert_eq!(net.addresses("mail", "eth0").len(), 301);
    assert!(net.addresses("mail", "eth0").iter().all(|a| !a.contains("tentative")));
    assert_eq!(net.routes("mail").len(), 201);
    assert_eq!(net.up("mail").ok().stdout, "");
    // all of them away, and back
    net.configure("[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.10/24\"]");
    let _ = net.up("mail").ok();
    assert_eq!(net.addresses("mail", "eth0"), ["192.0.2.10/24 broadcast 192.0.2.255"]);
    assert_eq!(net.routes("mail"), Vec::<String>::new());
    net.configure(&config);
    let _ = net.up("mail").ok();
    assert_eq!((net.addresses("mail", "eth0").len(), net.routes("mail").len()), (301, 201));
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    // one that the kernel refuses among them: its own words, not its neighbour's, and nothing is left
    let record = net.read_file(RECORD).replace("\"via\": \"10.20.77.2\"", "\"via\": \"10.99.77.2\"");
    net.write_file(RECORD, &record);
    let output = net.up("mail").fails(1);
    let wanted =
        "failed to add route 10.30.77.0/24 via 10.99.77.2 to link 'eth0': kernel: Nexthop has invalid gateway: Network is unreachable";
    assert!(output.stderr.contains(wanted), "{output}");
    net.assert_picture(&before);
    // so many that their refusals would not fit into the socket's buffer at once
    let mut routes = String::new();
    for n in 0..1000 {
        write!(routes, "{{ to = \"10.{}.{}.0/24\", via = \"203.0.113.1\" }},", 100 + n / 250, n % 250).unwrap();
    }
    let host_end = "kind = { veth = { name = \"mail-eth0\", bridge = \"br0\" } }";
    net.write_file(RECORD, &as_record(&format!("source = \"a.toml:1\"\n[links.eth0]\nroutes = [{routes}]\n{host_end}\n")));
    let output = net.up("mail").fails(1);
    let wanted =
        "failed to add route 10.100.0.0/24 via 203.0.113.1 to link 'eth0': kernel: Nexthop has invalid gateway: Network is unreachable";
    assert!(output.stderr.contains(wanted), "{output}");
    net.assert_picture(&before);
}

/// One process that is neither inside nor runs anything there can keep a namespace, too.
fn down_names_who_has_the_namespace_open() {
    let net = Net::with(MAIL);
    let before = net.picture();
    let _ = net.up("mail").ok();
    let _ = net.sh("sleep 1000 9</run/netns/mail & until pgrep -x sleep; do :; done").ok();
    let pid = net.sh("pgrep -x sleep").ok().stdout;
    let said = net.run(&["netns-networkd", "down", "mail"]).ok().stderr;
    let kept = "warning: netns 'mail' is down, but the kernel keeps it, without its links, as long as processes have it open: sleep (PID";
    assert_eq!(said, format!("{kept} {})\n", pid.trim()));
    assert_eq!(net.sh("ip -o link | grep -E 'mail|gone' || true").ok().stdout, "", "deleted, for nothing frees it soon");
    let _ = net.sh("kill $(pgrep -x sleep)").ok();
    net.assert_picture(&before);
}

/// The jobs of `make bench`, W1 and W2: what does not vary from run to run, and from machine to machine.
fn what_up_and_down_ask_of_the_kernel() {
    let second = |n: u32| {
        let more = (3..6).map(|to| {
            format!("{{ to = \"10.{n}.{to}.0/24\", via = \"10.{n}.0.1\" }}, {{ to = \"fd0a:{n}:{to}::/48\", via = \"fd0a:{n}::1\" }}")
        });
        format!(
            "[namespace.two.interface.eth{n}]\nbridge = \"br0\"\ndad = \"off\"\naddresses = [\"10.{n}.0.2/24\", \"10.{n}.0.3/24\", \"fd0a:{n}::2/64\", \"fd0a:{n}::3/64\"]\nroutes = [{}]\n",
            more.collect::<Vec<_>>().join(", ")
        )
    };
    let net = Net::with(&(dad("off") + &(0..3).map(second).collect::<String>()));
    if net.sh("strace -f -o /dev/null true").code != 0 {
        skip!("strace is missing, so the system calls of up are not counted: apt-get install strace");
    }
    let _ = net.sh("netns-networkd up mail; netns-networkd down mail").ok(); // /run/netns is a mount now, as on any host in use
    let calls = |command: &str| -> Vec<String> {
        let script = format!("strace -f -qq -o /run/calls netns-networkd {command} >/dev/null; grep -v ' --- SIG' /run/calls");
        net.sh(&script).ok().stdout.lines().map(str::to_owned).collect()
    };
    let messages = |command: &str| -> Vec<String> {
        let log = format!("NETNS_NETWORKD_FAULT_LOG=/run/log netns-networkd {command}; cat /run/log; rm /run/log");
        let log = net.sh(&log).ok().stdout;
        let is_message = |line: &&str| ["message ", "question get", "question dump"].iter().any(|kind| line.starts_with(kind));
        log.lines().filter(is_message).map(str::to_owned).collect()
    };
    let start = calls("--version").len();
    // system calls beyond those of any start, and netlink messages
    for (netns, of_up, of_down) in [("mail", (100, 11), (52, 3)), ("two", (110, 47), (58, 7))] {
        let (up, down) = (format!("up {netns}"), format!("down {netns}"));
        // the kernel has the last socket of `up` for a moment longer, and where there is one, `down` looks whose it is
        let quiet = || {
            let none = format!("ip netns exec {netns} grep -x 'sockets: used 0' /proc/net/sockstat");
            let _ = net.wait_until("nobody has a socket inside", Duration::from_secs(10), &none).ok();
        };
        let called_up = calls(&up);
        quiet();
        let called_down = calls(&down);
        for (command, called, (most_calls, most_messages)) in [(&up, called_up, of_up), (&down, called_down, of_down)] {
            if *command == down {
                quiet();
            }
            let (count, sent) = (called.len() - start, messages(command));
            println!("{command}: {count} system calls beyond the {start} of a start, {} messages", sent.len());
            let all = format!("{}\n{}", called.join("\n"), sent.join("\n"));
            assert!(count <= most_calls, "{command}: {count} system calls\n{all}");
            let sends = called.iter().filter(|call| call.contains("sendto(") || call.contains("sendmsg(")).count();
            assert!((1..=10).contains(&sends), "{command}: {sends} times requests were sent: they are to go in batches\n{all}");
            assert!(sent.len() <= most_messages, "{command}: {} netlink messages\n{all}", sent.len());
            for (never, promise, but) in
                [("execve(", "runs no other program", 1), ("connect(", "asks no bus", 0), ("getdents64(", "lists no folder", 0)]
            {
                assert_eq!(called.iter().filter(|call| call.contains(never)).count(), but, "{command} {promise}\n{all}");
            }
        }
    }
}
