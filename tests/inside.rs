//! Each key of what is inside a namespace, against the real kernel: it is there, a second `up` changes nothing, and it goes live.

use libtest_mimic::Trial;

use crate::common::Shell;
use crate::netns::{Net, text};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        loopback_addresses,
        routes_of_every_type,
        rules_choose_tables,
        ipv6_false,
        sysctl_is_set_and_given_back,
        nftables_is_loaded_before_links_are_up,
        nftables_changes_live,
        nftables_after_a_killed_run,
        nftables_that_does_not_load,
        macvlan,
        macvlan_and_the_hosts_names,
        parent_is_waited_for,
        physical_is_moved_in_and_given_back,
        physical_after_a_killed_run,
        every_kind_goes_with_down,
        kinds_change_only_with_a_restart,
        address_tables,
    ]
}

/// Says that a second `up` finds nothing to do.
#[track_caller]
fn assert_settled(net: &Net) {
    let output = net.up("mail").ok();
    assert_eq!(output.stdout, "", "a second up changes nothing");
}

fn interface(rest: &str) -> String {
    format!("[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.10/24\", \"2001:db8:1::10/64\"]\n{rest}\n")
}

fn loopback_addresses() {
    let config = |list: &str| format!("[namespace.mail]\nloopback-addresses = [{list}]\n{}", interface(""));
    let net = Net::with(&config(r#""10.9.9.1", "2001:db8:9::1/128", { address = "10.9.9.2/32", scope = "host" }"#));
    let before = net.picture();
    let _ = net.up("mail").ok();
    assert_settled(&net);
    let ours = |net: &Net| {
        net.addresses("mail", "lo").into_iter().filter(|a| !a.starts_with("127.") && !a.starts_with("::1/")).collect::<Vec<_>>()
    };
    assert_eq!(
        ours(&net),
        ["10.9.9.2/32 scope 254", "10.9.9.1/32", "2001:db8:9::1/128 nodad"],
        "the kernel has those of a narrower scope first"
    );
    let _ = net.sh("ip netns exec mail ping -c1 -W2 10.9.9.1; ip netns exec mail ping -c1 -W2 2001:db8:9::1").ok();
    // one of somebody else stays, one that is no longer wanted goes
    let _ = net.sh("ip -n mail addr add 10.9.9.99/32 dev lo").ok();
    net.configure(&config(r#""2001:db8:9::1/128""#));
    assert_eq!(
        net.up("mail").ok().stdout,
        "remove address 10.9.9.1/32 from link 'lo'\nremove address 10.9.9.2/32 scope host from link 'lo'\n"
    );
    assert_eq!(ours(&net), ["10.9.9.99/32", "2001:db8:9::1/128 nodad"]);
    assert_settled(&net);
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

/// All routes of ours, of all tables, as `ip` shows them.
#[track_caller]
fn all_routes(net: &Net) -> String {
    net.sh("{ ip -n mail -4 route show table all proto 78; ip -n mail -6 route show table all proto 78; } | sed 's/ *$//; s/ pref medium//' | sort")
        .ok()
        .stdout
}

fn routes_of_every_type() {
    let config = |routes: &str| interface(&format!("gateways = [\"192.0.2.1\", \"2001:db8:1::1\"]\nroutes = [{routes}]"));
    let net = Net::with(&config(
        r#"{ to = "10.1.0.0/16", via = "192.0.2.254", mtu = 1400 }, { to = "10.2.0.0/16", scope = "host" },
        { to = "10.3.0.0/16" }, { to = "default", via = "192.0.2.254", table = 100 }, { to = "10.4.0.0/16", type = "blackhole" },
        { to = "10.5.0.0/16", type = "unreachable", table = 1000, metric = 7 }, { to = "10.6.0.0/16", type = "prohibit" },
        { to = "2001:db8:5::/48", via = "2001:db8:1::fe", mtu = 1300, table = 100 }, { to = "2001:db8:6::/48", type = "blackhole" },
        { to = "2001:db8:7::/48", type = "unreachable" }, { to = "2001:db8:8::/48", type = "prohibit", metric = 9 }"#,
    ));
    let before = net.picture();
    let _ = net.up("mail").ok();
    assert_eq!(
        all_routes(&net),
        "10.1.0.0/16 via 192.0.2.254 dev eth0 mtu 1400\n10.2.0.0/16 dev eth0 scope host\n10.3.0.0/16 dev eth0 scope link\n\
         2001:db8:5::/48 via 2001:db8:1::fe dev eth0 table 100 metric 1024 mtu 1300\nblackhole 10.4.0.0/16\n\
         blackhole 2001:db8:6::/48 dev lo metric 1024\ndefault via 192.0.2.1 dev eth0\ndefault via 192.0.2.254 dev eth0 table 100\n\
         default via 2001:db8:1::1 dev eth0 metric 1024\nprohibit 10.6.0.0/16\nprohibit 2001:db8:8::/48 dev lo metric 9\n\
         unreachable 10.5.0.0/16 table 1000 metric 7\nunreachable 2001:db8:7::/48 dev lo metric 1024\n"
    );
    assert_settled(&net);
    for (to, why) in [
        ("10.4.0.1", "Invalid argument"),
        ("10.6.0.1", "Permission denied"),
        ("2001:db8:6::1", "Invalid argument"),
        ("2001:db8:7::1", "No route to host"),
        ("2001:db8:8::1", "Permission denied"),
    ] {
        let output = net.sh(&format!("ip -n mail route get {to}"));
        assert!(output.stderr.contains(why), "{output}");
    }

    // live: what changes is replaced, what goes is removed, what others made stays
    let _ = net.sh("ip -n mail route add blackhole 10.99.0.0/16").ok();
    net.configure(&config(
        r#"{ to = "10.1.0.0/16", via = "192.0.2.254", mtu = 1300 }, { to = "10.4.0.0/16", via = "192.0.2.254" },
        { to = "10.6.0.0/16", type = "blackhole" }, { to = "2001:db8:6::/48", via = "2001:db8:1::fe" }"#,
    ));
    let _ = net.up("mail").ok();
    assert_eq!(
        all_routes(&net),
        "10.1.0.0/16 via 192.0.2.254 dev eth0 mtu 1300\n10.4.0.0/16 via 192.0.2.254 dev eth0\n2001:db8:6::/48 via 2001:db8:1::fe dev eth0 metric 1024\n\
         blackhole 10.6.0.0/16\ndefault via 192.0.2.1 dev eth0\ndefault via 2001:db8:1::1 dev eth0 metric 1024\n"
    );
    assert!(net.sh("ip -n mail route").stdout.contains("blackhole 10.99.0.0/16"));
    assert_settled(&net);
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn rules_choose_tables() {
    let config = |rules: &str| {
        let routes =
            r#"routes = [{ to = "default", via = "192.0.2.1", table = 100 }, { to = "0.0.0.0/0", type = "unreachable", table = 200 }]"#;
        format!("[namespace.mail]\nrules = [{rules}]\n{}", interface(routes))
    };
    let net = Net::with(&config(
        r#"{ from = "192.0.2.10", table = 100 }, { to = "198.51.100.0/24", type = "prohibit" }, { iif = "eth0", table = 200, priority = 99 },
        { fwmark = "0x10/0xff", table = 200 }, { from = "2001:db8:1::/64", table = "main" }"#,
    ));
    let before = net.picture();
    let _ = net.up("mail").ok();
    assert_settled(&net);
    let rules = |net: &Net| {
        let text = net.sh("ip -n mail -4 rule | grep 'proto 78' || true; echo; ip -n mail -6 rule | grep 'proto 78' || true").ok().stdout;
        text.replace('\t', " ").replace(" proto 78", "")
    };
    assert_eq!(
        rules(&net),
        "99: from all iif eth0 lookup 200\n10000: from 192.0.2.10 lookup 100\n10001: from all to 198.51.100.0/24 prohibit\n\
         10003: from all fwmark 0x10/0xff lookup 200\n\n99: from all iif eth0 lookup 200\n10003: from all fwmark 0x10/0xff lookup 200\n\
         10004: from 2001:db8:1::/64 lookup main\n"
    );
    // the main table has no default route: only the rule leads out
    let route = net.sh("ip -n mail route get 9.9.9.9 from 192.0.2.10").ok().stdout;
    assert!(route.contains("via 192.0.2.1") && route.contains("table 100"), "{route}");
    assert!(net.sh("ip -n mail route get 9.9.9.9 mark 0x10 2>&1").stdout.contains("No route"), "the mark leads to table 200");

    let _ = net.sh("ip -n mail rule add from 203.0.113.0/24 table 300 priority 5").ok();
    net.configure(&config(r#"{ from = "192.0.2.10", table = 100 }, { from = "192.0.2.11", table = 100 }"#));
    let _ = net.up("mail").ok();
    assert_eq!(rules(&net), "10000: from 192.0.2.10 lookup 100\n10001: from 192.0.2.11 lookup 100\n\n");
    assert!(net.sh("ip -n mail rule").stdout.contains("from 203.0.113.0/24"), "somebody else's rule");
    assert_settled(&net);
    net.configure(&config(""));
    let _ = net.up("mail").ok();
    assert_eq!(rules(&net), "\n");
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn ipv6_false() {
    let v4 = "[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [\"192.0.2.10/24\"]\n";
    let off = format!("[namespace.mail]\nipv6 = false\n{v4}");
    let net = Net::with(&off);
    let before = net.picture();
    let _ = net.up("mail").ok();
    assert_settled(&net);
    assert_eq!(net.sh("ip -n mail -6 addr").ok().stdout, "", "not even link-local ones");
    assert_eq!(net.sysctl("mail", "net.ipv6.conf.eth0.disable_ipv6"), "1");
    // live, and back
    net.configure(&interface(""));
    let _ = net.up("mail").ok();
    assert_eq!(net.addresses("mail", "eth0"), ["192.0.2.10/24 broadcast 192.0.2.255", "2001:db8:1::10/64"]);
    let _ = net.sh("ip netns exec mail ping -c1 -W2 2001:db8:1::1").ok();
    assert_settled(&net);
    net.configure(&off);
    let _ = net.up("mail").ok();
    assert_eq!(net.sh("ip -n mail -6 addr").ok().stdout, "");
    assert_settled(&net);
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn sysctl_is_set_and_given_back() {
    let config = |list: &str| format!("[namespace.mail]\nsysctl = {{ {list} }}\n{}", interface(""));
    let net = Net::with(&config(
        r#""net.ipv4.ip_forward" = 1, "net.ipv4.conf.eth0.rp_filter" = "2", "net.ipv4.conf.default.arp_notify" = false, "net.ipv4.tcp_rmem" = "4096 20000 30000""#,
    ));
    let _ = net.up("mail").ok();
    assert_settled(&net);
    let values = |net: &Net| {
        ["ip_forward", "conf.eth0.rp_filter", "conf.eth0.arp_notify", "tcp_rmem"].map(|key| net.sysctl("mail", &format!("net.ipv4.{key}")))
    };
    assert_eq!(values(&net), ["1", "2", "0", "4096 20000 30000"]);
    net.configure(&config(r#""net.ipv4.conf.eth0.rp_filter" = "1""#));
    let _ = net.up("mail").ok();
    assert_settled(&net);
    let fresh = net.sh("unshare -n sysctl -n net.ipv4.tcp_rmem").ok().stdout.trim().replace('\t', " ");
    assert_eq!(values(&net), ["0", "1", "0", &fresh], "a parameter of the link itself is the link's");
    assert_eq!(net.sysctl("mail", "net.ipv4.conf.default.arp_notify"), "1", "what every namespace has");
    // an admin's own change afterwards is his
    let _ = net.sh("ip netns exec mail sysctl -q net.ipv4.ip_forward=1").ok();
    assert_settled(&net);
    net.configure(&config(r#""net.ipv4.no_such_thing" = "1""#));
    let output = net.up("mail").fails(1);
    assert!(output.stderr.contains("failed to set net.ipv4.no_such_thing to 1: No such file or directory"), "{output}");
}

const RULESET: &str =
    "table inet filter {\n chain input { type filter hook input priority 0; policy drop; iif \"eth0\" tcp dport 25 accept; }\n}\n";

fn nftables(net: &Net, ruleset: &str) {
    net.write_file("/etc/mail.nft", ruleset);
    net.configure(&format!("[namespace.mail]\nnftables = \"/etc/mail.nft\"\n{}", interface("")));
}

fn nftables_is_loaded_before_links_are_up() {
    let net = Net::new();
    let before = net.picture();
    nftables(&net, RULESET);
    // frames that arrive from the first moment on: none may get through
    let _ = net.sh("ip link add probe0 type veth peer name probe1 && ip link set probe1 up && ip link set probe0 master br0 up").ok();
    let flood = "timeout 20 ping -f -q -i 0.0002 192.0.2.10 >/dev/null 2>&1 & echo $!";
    let _ = net.sh(&format!("ip neigh add 192.0.2.10 lladdr 02:00:5e:10:00:02 dev br0; {flood} >/run/flood")).ok();
    let output = net.up("mail").ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    let at = |line: &str| lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("{line}\n{output}"));
    assert!(at("load nftables ruleset") < at("set link 'eth0' up"));
    let _ = net.sh("kill $(cat /run/flood)").ok();
    assert_eq!(net.sh("ping -c1 -W1 192.0.2.10").code, 1, "the policy is drop");
    assert_eq!(net.sh("ip netns exec mail nft list tables").ok().stdout, "table inet filter\n");
    assert_settled(&net);
    let _ = net.sh("ip link del probe0; ip neigh del 192.0.2.10 dev br0").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn nftables_changes_live() {
    let net = Net::new();
    nftables(&net, RULESET);
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail nft 'add table ip banned; add chain ip banned x'").ok();
    nftables(&net, "table inet filter { chain input { type filter hook input priority 0; policy accept; };\n}\ntable ip nat {\n}\n");
    assert_eq!(net.up("mail").ok().stdout, "replace nftables ruleset\n");
    let tables = |net: &Net| net.sh("ip netns exec mail nft list tables | sort").ok().stdout;
    assert_eq!(tables(&net), "table inet filter\ntable ip banned\ntable ip nat\n", "that of the service stays");
    let _ = net.sh("ping -c1 -W1 192.0.2.10").ok();
    assert_settled(&net);
    net.configure(&interface(""));
    assert_eq!(net.up("mail").ok().stdout, "remove nftables ruleset\n");
    assert_eq!(tables(&net), "table ip banned\n");
    assert_settled(&net);
    nftables(&net, RULESET);
    assert_eq!(net.up("mail").ok().stdout, "load nftables ruleset\n");
    assert_eq!(tables(&net), "table inet filter\ntable ip banned\n");
}

/// Between nft's work and the note of it.
fn nftables_after_a_killed_run() {
    let net = Net::new();
    nftables(&net, RULESET);
    let _ = net.up("mail").ok();
    let _ = net.sh("rm /run/netns-networkd/netns/mail.nft").ok();
    let _ = net.up("mail").ok();
    let rules = net.sh("ip netns exec mail nft list ruleset").ok().stdout;
    assert_eq!(rules.matches("dport 25").count(), 1, "not twice\n{rules}");
    assert_settled(&net);
    // and a namespace that was deleted has nothing of it
    let _ = net.sh("ip netns delete mail").ok();
    assert!(net.up("mail").ok().stdout.contains("load nftables ruleset"));
    assert!(net.sh("ip netns exec mail nft list ruleset").ok().stdout.contains("dport 25"));
}

fn nftables_that_does_not_load() {
    let net = Net::new();
    let before = net.picture();
    nftables(&net, "table inet filter { chain input { nonsense } }\n");
    let output = net.up("mail").fails(1);
    assert!(
        output.stderr.contains("failed to load nftables ruleset: nft refuses the ruleset:\n/var/lib/netns-networkd/netns/mail.nft:3:"),
        "{output}"
    );
    net.assert_picture(&before);
    let _ = net.sh("echo >>/var/lib/netns-networkd/netns/mail.nft").ok();
    let output = net.up("mail").fails(1);
    assert!(output.stderr.contains("is not what the last sync wrote\n  hint: `netns-networkd sync --force` writes it again"), "{output}");
    net.assert_picture(&before);
}

/// A link of the host with a peer that is the wire.
const WIRE: &str =
    "ip link add lan0 type veth peer name wire; ip link set lan0 up; ip link set wire up; ip addr add 198.51.100.1/24 dev wire";

fn macvlan() {
    let net = Net::new();
    let _ = net.sh(WIRE).ok();
    let before = net.picture();
    let config = |name: &str, n: u8| {
        format!(
            "[namespace.{name}.interface.eth0]\nkind = \"macvlan\"\nparent = \"lan0\"\naddresses = [\"198.51.100.{n}/24\", \"2001:db8:2::{n}/64\"]\n\
             mac = \"02:00:5e:10:00:{n}\"\n"
        )
    };
    net.configure(&format!("{}{}", config("mail", 10), config("web", 11)));
    let _ = net.up("mail").ok();
    let _ = net.up("web").ok();
    assert_settled(&net);
    let link = net.link("mail", "eth0");
    assert_eq!((text(&link["linkinfo"]["info_kind"]), text(&link["linkinfo"]["info_data"]["mode"])), ("macvlan".into(), "bridge".into()));
    assert_eq!(text(&link["address"]), "02:00:5e:10:00:10");
    let _ = net.sh("ping -c1 -W2 -I wire 198.51.100.10; ip netns exec web ping -c1 -W2 198.51.100.10; ip netns exec web ping -c1 -W2 2001:db8:2::10").ok();
    // live
    net.configure(&format!("{}{}", config("mail", 10).replace("::10", "::12").replace("mac =", "mtu = 1400\nmac ="), config("web", 11)));
    let index = text(&net.link("mail", "eth0")["ifindex"]);
    assert_eq!(
        net.up("mail").ok().stdout,
        "set MTU of link 'eth0' to 1400\nadd address 2001:db8:2::12/64 to link 'eth0'\nremove address 2001:db8:2::10/64 from link 'eth0'\n"
    );
    assert_eq!(text(&net.link("mail", "eth0")["ifindex"]), index);
    let _ = net.down("mail").ok();
    let _ = net.down("web").ok();
    net.assert_picture(&before);
}

fn macvlan_and_the_hosts_names() {
    let net = Net::new();
    // the host has a link of the same name, and its parent has the name too
    let _ = net.sh("ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up").ok();
    let before = net.picture();
    net.configure("[namespace.mail.interface.eth0]\nkind = \"macvlan\"\nparent = \"eth0\"\naddresses = [\"198.51.100.10/24\"]\n");
    let _ = net.up("mail").ok();
    assert_settled(&net);
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn parent_is_waited_for() {
    let net = Net::new();
    net.configure("[namespace.mail.interface.eth0]\nkind = \"macvlan\"\nparent = \"lan0\"\naddresses = [\"198.51.100.10/24\"]\n");
    let _ = net.sh(&format!("(sleep 0.5; {WIRE}) >/dev/null 2>&1 &")).ok();
    let _ = net.up("mail").ok();
    let _ = net.down("mail").ok();
    let _ = net.sh("ip link set lan0 down").ok();
    let before = net.picture();
    let output = net.up("mail").fails(1);
    assert!(
        output.stderr.contains(
            "link 'lan0' is down, after waiting 15 s for it\n  note: networkd leaves it alone\n  hint: `ip link set dev lan0 up`"
        ),
        "{output}"
    );
    net.assert_picture(&before);
}

const PHYSICAL: &str = "[namespace.mail.interface.eth0]\nkind = \"physical\"\nparent = \"lan0\"\naddresses = [\"198.51.100.10/24\"]\n";

fn physical_is_moved_in_and_given_back() {
    let net = Net::with(PHYSICAL);
    let _ = net.sh(&format!("{WIRE}; ip link set lan0 down")).ok();
    let before = net.picture();
    let mac = text(&net.link("", "lan0")["address"]);
    assert_eq!(
        net.up("mail").ok().stdout.lines().filter(|l| l.contains("link")).collect::<Vec<_>>().join("\n"),
        "move the host's link 'lan0' in as 'eth0'\nset link 'eth0' up\nadd address 198.51.100.10/24 to link 'eth0'"
    );
    assert_settled(&net);
    assert_eq!(text(&net.link("mail", "eth0")["address"]), mac, "it keeps its own address");
    assert_eq!(net.sh("ip link show lan0").code, 1);
    let _ = net.sh("ping -c1 -W2 -I wire 198.51.100.10").ok();
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
    // and once more, with a process that keeps the namespace
    let _ = net.up("mail").ok();
    let _ = net.sh("ip netns exec mail sleep 20 >/dev/null 2>&1 & echo $! >/run/sleeper; sleep 0.1").ok();
    let _ = net.down("mail").ok();
    assert_eq!(text(&net.link("", "lan0")["address"]), mac);
    let _ = net.sh("kill $(cat /run/sleeper)").ok();
    // out of the configuration while it runs: given back live
    let _ = net.up("mail").ok();
    net.configure(&interface(""));
    let output = net.up("mail").ok();
    assert!(output.stdout.starts_with("give link 'eth0' back to the host as 'lan0'\n"), "{output}");
    assert_eq!(text(&net.link("", "lan0")["address"]), mac);
}

fn physical_after_a_killed_run() {
    let net = Net::with(PHYSICAL);
    let _ = net.sh(&format!("{WIRE}; ip link set lan0 down")).ok();
    if net.sh("strace -f -o /dev/null true").code != 0 {
        crate::skip!("strace is missing, so no run is killed: apt-get install strace");
    }
    let before = net.picture();
    for call in 1..40 {
        // at each request that is sent, before and after it is worked off
        let killed = net.sh(&format!("strace -f -o /dev/null -e inject=sendto:signal=KILL:when={call} netns-networkd up mail"));
        let done = killed.code == 0;
        let _ = net.up("mail").ok();
        assert_settled(&net);
        let _ = net.sh(&format!("strace -f -o /dev/null -e inject=sendto:signal=KILL:when={call} netns-networkd down mail || true"));
        let _ = net.down("mail").ok();
        net.assert_picture(&before);
        if done {
            assert!(call > 3, "nothing was killed");
            return;
        }
    }
    panic!("up sends more than 40 times");
}

fn every_kind_goes_with_down() {
    let net = Net::with(&format!("{}\n[namespace.mail.interface.mv0]\nkind = \"macvlan\"\nparent = \"lan0\"\n", interface("")));
    let _ = net.sh(WIRE).ok();
    let before = net.picture();
    for _ in 0..5 {
        let _ = net.up("mail").ok();
        let _ = net.sh("ip netns exec mail sleep 3 >/dev/null 2>&1 & sleep 0.05").ok();
        let _ = net.down("mail").ok();
        // the process pins the namespace, and no link of ours is in it
        net.assert_picture(&before);
    }
}

fn kinds_change_only_with_a_restart() {
    let net = Net::with(&interface(""));
    let _ = net.sh(WIRE).ok();
    let _ = net.up("mail").ok();
    net.configure("[namespace.mail.interface.eth0]\nkind = \"macvlan\"\nparent = \"lan0\"\naddresses = [\"198.51.100.10/24\"]\n");
    let live = net.run(&["netns-networkd", "--verbose", "up", "--live", "mail"]).ok();
    assert_eq!(live.stdout, "", "a running service keeps its link");
    let output = net.up("mail").ok();
    assert!(
        output.stdout.starts_with("remove link 'eth0' with host end 'mail-eth0'\nadd link 'eth0' with kind macvlan on 'lan0'\n"),
        "{output}"
    );
    assert_settled(&net);
    assert_eq!(net.sh("ip link show mail-eth0").code, 1);
    // to a link of the host, and back
    net.configure(PHYSICAL);
    let output = net.up("mail").ok();
    assert!(output.stdout.contains("remove link 'eth0' with kind macvlan on 'lan0'\n"), "{output}");
    assert!(output.stdout.contains("move the host's link 'lan0' in as 'eth0'\n"), "{output}");
    assert_settled(&net);
    net.configure(&interface("isolated = true\nhost-name = \"other\""));
    let live = net.run(&["netns-networkd", "--verbose", "up", "--live", "mail"]).ok();
    assert_eq!(live.stdout, "", "nothing of the new pair");
    let output = net.up("mail").ok();
    assert!(output.stdout.contains("give link 'eth0' back to the host as 'lan0'\n"), "{output}");
    assert_settled(&net);
    net.configure(&interface("isolated = true\nhost-name = \"third\""));
    let live = net.run(&["netns-networkd", "--verbose", "up", "--live", "mail"]).ok();
    assert_eq!(live.stdout, "", "no port settings of a host end that is not there");
}

fn address_tables() {
    let net = Net::with(
        r#"
[namespace.mail.interface.eth0]
bridge = "br0"
addresses = [
    "192.0.2.10/24",
    { address = "192.0.2.12/32", peer = "192.0.2.200" },
    { address = "10.0.0.1/24", scope = "link", label = "eth0:old", no-prefix-route = true },
    { address = "2001:db8:1::10/64", deprecated = true },
    "2001:db8:1::11/64",
]
"#,
    );
    let _ = net.up("mail").ok();
    assert_settled(&net);
    assert_eq!(
        net.addresses("mail", "eth0"),
        [
            "10.0.0.1/24 broadcast 10.0.0.255 scope 253 label eth0:old noprefixroute",
            "192.0.2.10/24 broadcast 192.0.2.255",
            "192.0.2.12/32 address 192.0.2.200",
            "2001:db8:1::10/64 deprecated",
            "2001:db8:1::11/64",
        ]
    );
}
