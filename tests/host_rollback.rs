//! What `sync --confirm` gives back: everything, whoever gave it to the host, and whatever happens meanwhile.

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::host_confirm::{AFTER, BEFORE, LIMIT, assert_same, lab, picture, wait_gone_back};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        what_an_uplink_had_from_others_comes_back,
        an_uplink_leaves_the_bridge_again,
        an_admin_who_is_cut_off_is_let_in_again,
        after_a_reboot_all_is_as_before_the_change,
        a_killed_rollback_is_taken_up_again,
        a_change_of_one_namespace_goes_back_to_what_was_there,
    ]
}

/// Everything about links of the host: state, bridges, parameters, addresses, routes.
#[track_caller]
fn links(lab: &Lab, names: &str) -> String {
    lab.sh(&format!(
        "for name in {names}; do
             ip -br link show $name; ip -o link show $name | grep -oE 'mtu [0-9]*|master [^ ]*'; grep -r . /sys/class/net/$name/brport/path_cost || true
             ip -o addr show $name | sed 's/^[0-9]*: //; s/ tentative//; s/[0-9]*sec/N/g' | sort
             ip -6 route show table all dev $name type unicast | sed 's/ expires [0-9]*sec/ expires/' | sort
             grep -r . /proc/sys/net/ipv[46]/conf/$name 2>/dev/null | sort || true
         done; ip -4 route show table all | sort"
    ))
    .ok()
    .stdout
}

/// ifupdown, dhclient and router advertisements leave such links, and networkd takes from them what its file does not have.
fn what_an_uplink_had_from_others_comes_back(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab
        .sh("ip link add up0 type veth peer wire0; ip link add up1 type veth peer wire1; ip link add br-old type bridge
             sysctl -qw net.ipv6.conf.up0.accept_ra=2 net.ipv4.conf.up0.rp_filter=2
             for link in wire0 wire1 up0 up1 br-old; do ip link set $link up; done
             ip addr add 10.50.0.2/24 dev up0; ip addr add 10.50.0.3/24 dev up0 valid_lft 5000 preferred_lft 4000
             ip addr add fd50::2/64 dev up0; ip addr add fd50::3/64 dev up0 valid_lft 5000 preferred_lft 0
             ip route add default via 10.50.0.1 metric 50; ip -6 route add default via fd50::1 metric 50
             ip route add 10.51.0.0/16 via 10.50.0.9 src 10.50.0.3 mtu 1300; ip route add 10.52.0.0/16 via 10.51.0.1 onlink dev up0 table 52
             ip route add 10.53.0.0/16 nexthop via 10.50.0.7 nexthop via 10.50.0.8 weight 2
             ip -6 route add fd51::/64 via fd50::9 expires 4000; ip route add 10.54.0.0/16 dev up0 proto dhcp
             ip link set up1 master br-old; bridge link set dev up1 cost 77
             # and what networkd gave to one, with more from an admin
             ip addr add 198.51.100.77/24 dev eno1; ip route add 10.55.0.0/16 via 198.51.100.9")
        .ok();
    let usable = "[[ -z $(ip addr show tentative dev up0; ip addr show tentative dev eno1) ]]";
    let _ = lab.wait_until("addresses are usable", LIMIT, usable);
    let names = "up0 up1 eno1 br-old";
    let before = links(&lab, names);
    // as `sync` says that it should be, or it would refuse
    let drop_ins = "/etc/systemd/network/10-netns-networkd-bridge-br-a.network.d";
    lab.write_file(&format!("{drop_ins}/uplink.conf"), "[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n");
    lab.config(
        r#"
        [bridge.br-a]
        uplinks = ["up0"]
        addresses = ["10.50.0.2/24", "10.50.0.3/24", "fd50::2/64", "fd50::3/64"]
        gateways = [{ via = "10.50.0.1", metric = 50 }, { via = "fd50::1", metric = 50 }]
        routes = [
            { to = "10.51.0.0/16", via = "10.50.0.9", source = "10.50.0.3" },
            { to = "10.52.0.0/16", via = "10.51.0.1", table = 52, on-link = true },
            { to = "fd51::/64", via = "fd50::9" },
        ]
        [bridge.br-b]
        uplinks = ["up1"]
        [bridge.br-c]
        uplinks = ["eno1"]
        addresses = ["198.51.100.2/24", "2001:db8:ffff::2/64", "198.51.100.77/24"]
        routes = [{ to = "10.55.0.0/16", via = "198.51.100.9" }]
        "#,
    );
    let _ = lab.sync(&["--confirm", "1"]).ok();
    wait_gone_back(&lab);
    let journal = lab.journal(&["netns-networkd-rollback.service"]);
    let _ = lab.wait_until("addresses are usable", LIMIT, usable);
    assert_same(&links(&lab, names), &before);
    assert!(!journal.contains("warning"), "{journal}");
    let _ = lab
        .sh(&format!(
            "ip link delete up0; ip link delete up1; ip link delete br-old; ip addr delete 198.51.100.77/24 dev eno1
                    rm -r {drop_ins}"
        ))
        .ok();
}

/// networkd leaves a link in its bridge when the file of the link goes: also where a plain `sync` drops an uplink.
fn an_uplink_leaves_the_bridge_again(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab.sh("ip link add up0 type veth peer wire0; ip link set wire0 up").ok();
    let ports = || lab.sh("ip -br link show master br0 | sed 's/@.*//'").ok().stdout;
    let config = |uplinks: &str| lab.config(&format!("[bridge.br0]\nuplinks = [{uplinks}]\naddresses = [\"10.50.0.2/24\"]\n"));
    config("");
    lab.sync_changes(&[]);
    let before = links(&lab, "up0 br0");
    config("\"up0\"");
    let _ = lab.sync(&["--confirm", "1"]).ok();
    assert_eq!(ports(), "up0\n");
    wait_gone_back(&lab);
    assert_eq!(ports(), "");
    assert_same(&links(&lab, "up0 br0"), &before);
    // and without a rollback
    lab.sync_changes(&[]);
    assert_eq!(ports(), "up0\n");
    config("");
    assert!(lab.sync_changes(&[]).contains("take link 'up0' from bridge 'br0'\n"));
    assert_eq!(ports(), "");
    let _ = lab.sh("ip link delete up0").ok();
}

/// The bridge's address moves, and with it the way in.
fn an_admin_who_is_cut_off_is_let_in_again(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab
        .sh("ip netns add admin; ip link add up0 type veth peer eth0 netns admin
             ip -n admin addr add 10.50.0.9/24 dev eth0; ip -n admin link set eth0 up; ip -n admin route add default via 10.50.0.2")
        .ok();
    let config = |address: &str| {
        lab.config(&format!("[bridge.br0]\nuplinks = [\"up0\"]\naddresses = [\"{address}\"]\ngateways = [\"10.50.0.9\"]\n"));
    };
    config("10.50.0.2/24");
    lab.sync_changes(&[]);
    let reach = "ip netns exec admin ping -q -c1 -W1 10.50.0.2";
    let _ = lab.wait_until("the admin is in", LIMIT, reach);
    let before = links(&lab, "up0 br0");
    config("10.50.0.3/24");
    let said = lab.sync(&["--confirm", "2"]);
    let _ = lab.sh(&format!("! {reach}")).ok();
    wait_gone_back(&lab);
    let _ = lab.sh(reach).ok();
    assert_same(&links(&lab, "up0 br0"), &before);
    assert_eq!(said.code, 0, "{said}");
    let _ = lab.sh("ip netns delete admin").ok();
    let _ = lab.wait_until("the uplink has gone with it", LIMIT, "! ip link show up0 2>/dev/null");
}

/// The boot starts services where the files send them, before it takes the files back.
fn after_a_reboot_all_is_as_before_the_change(suite: Suite) {
    let lab = lab(suite);
    lab.systemctl(&["enable", "-q", "t-box", "t-new"]);
    // an interface has another number after a boot, and that changes nothing here
    let before = picture(&lab);
    lab.config(AFTER);
    let _ = lab.sync(&["--confirm", "600"]).ok();
    lab.reboot();
    wait_gone_back(&lab);
    lab.assert_active(&["t-box", "t-new"]);
    assert_same(&picture(&lab), &before);
    lab.assert_answers("10.47.0.2", "8000");
    lab.config(BEFORE);
    lab.sync_nothing();
}

/// Killed ever later, until one is through: the last one leaves what the first would have left.
fn a_killed_rollback_is_taken_up_again(suite: Suite) {
    let lab = lab(suite);
    let before = picture(&lab);
    lab.config(AFTER);
    let _ = lab.sync(&["--restart", "--confirm", "600"]).ok();
    let rounds = lab
        .sh("for ((limit = 10; ; limit = limit * 5 / 4 + 10)); do
                 echo $limit; timeout -s KILL $((limit / 1000)).$(printf %03d $((limit % 1000))) netns-networkd rollback >/run/t-said 2>&1 && break
                 [[ -e /var/lib/netns-networkd/rollback/snapshot.toml ]] || break
             done 2>/dev/null | wc -l")
        .ok();
    assert!(rounds.stdout.trim().parse::<u32>().unwrap() > 3, "{rounds}");
    assert_same(&picture(&lab), &before);
    lab.config(BEFORE);
    // one that was killed when all was done leaves its timer, which does nothing
    lab.sync_nothing();
    let _ = lab.sh("systemctl stop netns-networkd-rollback.timer 2>/dev/null || true").ok();
    wait_gone_back(&lab);
    // the service starts it again
    lab.config(AFTER);
    let _ = lab.sh("touch /run/t-slow").ok();
    let _ = lab.sync(&["--restart", "--confirm", "1"]).ok();
    let _ = lab.wait_until("it is at work", LIMIT, "[[ $(systemctl show -P ActiveState t-new) = activating ]]");
    let _ = lab.sh("systemctl kill -s KILL netns-networkd-rollback; rm /run/t-slow").ok();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    lab.config(BEFORE);
    lab.sync_nothing();
}

/// Drift, what services and admins added, and what is not of that namespace are as they were, too.
fn a_change_of_one_namespace_goes_back_to_what_was_there(suite: Suite) {
    let lab = lab(suite);
    let ruleset =
        |port| format!("table inet own {{\n chain input {{\n  type filter hook input priority 0;\n  tcp dport {port} drop\n }}\n}}\n");
    lab.write_file("/etc/t-one.nft", &ruleset(81));
    lab.write_file("/etc/t-two.nft", &ruleset(82));
    let config = |rest: &str| {
        lab.config(&format!("[bridge.br0]\naddresses = [\"10.47.0.1/24\"]\n[bridge.br9]\n[namespace.box]\nservices = [\"t-box\"]\n{rest}"));
    };
    config(
        r#"
        dns = ["10.47.0.1"]
        nftables = "/etc/t-one.nft"
        sysctl = { "net.ipv4.ip_forward" = 1 }
        loopback-addresses = ["10.9.9.9/32"]
        rules = [{ from = "10.46.0.0/24", table = 100, priority = 1000 }]
        interface.eth0 = { bridge = "br0", addresses = ["10.47.0.2/24", "fd47::2/64"], gateways = ["10.47.0.1"] }
        interface.eth1 = { bridge = "br9", addresses = ["10.46.0.2/24"], routes = [{ to = "10.45.0.0/16", via = "10.46.0.1" }] }
        "#,
    );
    lab.sync_changes(&["--restart"]);
    lab.start(&["t-box"]);
    let _ = lab
        .sh("ip -n box addr delete 10.47.0.2/24 dev eth0; ip -n box addr add 10.47.0.22/24 dev eth0; ip -n box addr add 10.8.8.8/32 dev lo
             ip -n box route add 10.44.0.0/16 via 10.47.0.9; ip addr add 10.47.0.7/24 dev br0")
        .ok();
    let look = || {
        picture(&lab)
            + &lab
                .sh("ip -n box -o -6 addr | sed 's/^[0-9]*: //; s/ tentative//' | sort; ip -n box -4 route show table all | sort
                     ip -n box -6 route | sort; ip -n box rule
                     ip netns exec box nft list ruleset; { ip netns exec box sysctl -a 2>/dev/null || true; } | grep -E '^net.ipv[46].(ip_|conf)' | sort
                     cat /proc/$(systemctl show -P MainPID t-box)/root/etc/resolv.conf; cat /sys/class/net/br0/mtu
                     stat -Lc %i /run/netns/box; systemctl show -P MainPID t-box; ip -n box -o link show eth0 | cut -d: -f1")
                .ok()
                .stdout
    };
    let before = look();
    config(
        r#"
        nftables = "/etc/t-two.nft"
        sysctl = { "net.ipv4.ip_no_pmtu_disc" = 1 }
        interface.eth0 = { bridge = "br0", mtu = 1400, isolated = true, addresses = ["10.47.0.3/24", "fd47::3/64"], gateways = ["10.47.0.1"] }
        interface.eth2 = { bridge = "br9", addresses = ["10.43.0.2/24"], routes = [{ to = "10.45.0.0/16", via = "10.43.0.1" }] }
        [bridge.br8]
        "#,
    );
    let _ = lab.sync(&["box", "--confirm", "1"]).ok();
    assert_ne!(look(), before);
    wait_gone_back(&lab);
    assert_same(&look(), &before);
    // what nobody asked for is not set, or it would no longer follow the ports
    let journal = lab.journal(&["netns-networkd-rollback.service"]);
    assert!(!journal.contains("link 'br0': set its MTU"), "{journal}");
    let _ = lab.sh("rm /etc/t-one.nft /etc/t-two.nft; ip -n box addr delete 10.8.8.8/32 dev lo").ok();
    lab.config(BEFORE);
    let _ = lab.sync(&[]).ok();
}
