//! Bridges that keep VLANs apart, on Debian's own kernel and with each systemd: up to 255 it takes no VLAN from a port.
//!
//! `ens4` becomes an uplink; `ens5`, on the same wire, is the switch at its other end, in a namespace `out`.

use std::{collections::BTreeSet, time::Duration};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::{Shell, Suite, Vm, VmHost};
use crate::{skip, suite_trials};

pub fn trials() -> Vec<Trial> {
    suite_trials![keep_ports_apart_and_change_live, on_a_bridge_of_somebody_else, uplinks_deleted_or_taken_by_hand]
}

const SECONDS: Duration = Duration::from_secs(30);

/// All of one subnet, so that only VLANs keep them apart.
const CONFIG: &str = r#"
[bridge.br-lan]
uplinks        = ["ens4"]
addresses      = ["10.60.0.1/24"]
vlan-filtering = true

[bridge.br-top]
uplinks   = [{ vlan = 40, parent = "br-lan" }]
addresses = ["10.60.40.1/24"]

[namespace.one]
interface.eth0 = { bridge = "br-lan", vlan = 10, addresses = ["10.60.0.11/24", "fd3c::11/64"] }
[namespace.too]
interface.eth0 = { bridge = "br-lan", vlan = 10, addresses = ["10.60.0.12/24", "fd3c::12/64"] }
[namespace.two]
interface.eth0 = { bridge = "br-lan", vlan = 20, addresses = ["10.60.0.13/24", "fd3c::13/64"] }
[namespace.trunk]
interface.eth0 = { bridge = "br-lan", vlans = [20, "100-102"], addresses = ["10.60.0.14/24"] }
[namespace.guest]
interface.eth0 = { bridge = "br-lan", addresses = ["10.60.0.15/24"] }
"#;

const NAMES: [&str; 5] = ["one", "too", "two", "trunk", "guest"];

/// Brings up a configuration and the switch outside.
#[track_caller]
fn set_up(vm: &VmHost, config: &str) {
    vm.write_file("/etc/netns-networkd/vlan.toml", config);
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_settled(vm);
    let _ = vm
        .sh(&format!(
            "for name in {}; do systemctl start netns-hold@$name; done
             ip netns add out; ip link set ens5 netns out; ip -n out link set ens5 up; ip -n out addr add 10.60.0.99/24 dev ens5
             for id in 10 20 40; do
                 ip -n out link add link ens5 name v$id type vlan id $id; ip netns add out$id; ip -n out link set v$id netns out$id up
             done
             ip -n out10 addr add 10.60.0.98/24 dev v10; ip -n out20 addr add 10.60.0.97/24 dev v20; ip -n out40 addr add 10.60.40.2/24 dev v40
             ip -n trunk link add link eth0 name v20 type vlan id 20; ip netns add in20; ip -n trunk link set v20 netns in20 up
             ip -n in20 addr add 10.60.0.20/24 dev v20",
            NAMES.join(" ")
        ))
        .ok();
}

#[track_caller]
fn take_down(vm: &VmHost) {
    let _ = vm
        .sh(&format!(
            "for name in {}; do systemctl stop netns-hold@$name; done; ip -n out link set ens5 netns 1; for name in out10 out20 out40 in20 out; do ip netns del $name; done
             rm /etc/netns-networkd/vlan.toml",
            NAMES.join(" ")
        ))
        .ok();
    let _ = vm.wait_until("nothing is left inside", SECONDS, "! ls /run/netns/* && test -e /sys/class/net/ens5");
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_settled(vm);
    let _ = vm.sh("ip link show br-lan || ip link show br-top").fails(1);
    let _ = vm.sh("ip link set ens4 down").ok();
}

/// Asserts that nothing is left to do.
#[track_caller]
fn assert_settled(vm: &VmHost) {
    let output = vm.run(&["netns-networkd", "sync"]).ok();
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "sync should have nothing to do or say\n{output}");
}

/// Asserts that each reaches the address that it is with, and what none of them may.
#[track_caller]
fn assert_reach(vm: &VmHost, reached: &[(&str, &str)], apart: &[(&str, &str)]) {
    let pings = |pairs: &[(&str, &str)]| -> String {
        let ping = |(from, to)| format!("{{ ip netns exec {from} ping -n -q -c 1 -W 1 {to} >&2 && echo {from} {to}; }} &\n");
        pairs.iter().copied().map(ping).collect()
    };
    let all = reached.iter().map(|(from, to)| format!("{from} {to}\n")).collect::<Vec<_>>().concat();
    // the kernel remembers for a moment that a neighbour did not answer
    let script = format!("{{ {}wait; }} | sort | diff - <(sort <<'END'\n{all}END\n)", pings(reached));
    let _ = vm.wait_until("all are reached", SECONDS, &script);
    assert_eq!(vm.sh(&format!("{}wait", pings(apart))).ok().stdout, "", "kept apart");
}

/// The VLANs of a port as `bridge vlan` has them: `1P 10 20`.
#[track_caller]
fn vlans(vm: &VmHost, port: &str) -> String {
    let all: Value = serde_json::from_str(&vm.run(&["bridge", "-j", "vlan", "show", "dev", port]).ok().stdout).unwrap();
    let words = all[0]["vlans"].as_array().into_iter().flatten().map(|vlan| {
        let flags: Vec<&str> = vlan["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let flags = match flags.as_slice() {
            [] => "",
            ["PVID", "Egress Untagged"] => "P",
            other => panic!("{port}: {other:?}"),
        };
        format!("{}{flags}", vlan["vlan"])
    });
    words.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_vlans(vm: &VmHost, wanted: &[(&str, &str)]) {
    let now: Vec<(&str, String)> = wanted.iter().map(|(port, _)| (*port, vlans(vm, port))).collect();
    let wanted: Vec<(&str, String)> = wanted.iter().map(|(port, vlans)| (*port, (*vlans).to_owned())).collect();
    assert_eq!(now, wanted);
}

/// Pings over the bridge while something changes, and asserts that at most so many are lost.
#[track_caller]
fn while_pinging(vm: &VmHost, netns: &str, to: &str, lost: u32, work: impl FnOnce()) {
    let to_file = format!("/run/pings-{netns}");
    // the first of all waits for a neighbour
    let start = format!(
        "ip netns exec {netns} ping -n -q -c 1 -W 2 {to} >/dev/null
         ip netns exec {netns} stdbuf -oL ping -n -D -i 0.1 {to} >{to_file} 2>&1 & echo $! >{to_file}.pid"
    );
    let _ = vm.sh(&start).ok();
    work();
    // what is under way at the end is not lost: three answers are waited for after the work
    let end = format!(
        "from=$(wc -l <{to_file}); until (($(wc -l <{to_file}) > from + 3)); do ((SECONDS < 10)) || exit 1; sleep 0.05; done
         pid=$(cat {to_file}.pid); kill -INT $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done; cat {to_file}"
    );
    let said = vm.sh(&end).ok().stdout;
    let answered = said.lines().filter(|line| line.contains(" bytes from "));
    let answered: BTreeSet<u32> = answered.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()).collect();
    let last = answered.last().copied().unwrap_or_default();
    assert!(last > 5 && last - u32::try_from(answered.len()).unwrap() <= lost, "{netns} to {to}:\n{said}");
}

/// Two services of one subnet in different VLANs do not hear each other; a trunk and the uplink have the tags. Each change of VLANs is
/// made live, and what nobody changes goes on.
fn keep_ports_apart_and_change_live(suite: Suite) {
    let vm = &match Vm::host(suite) {
        Ok(vm) => vm,
        Err(why) => skip!("{why}"),
    };
    let sync = |config: &str| {
        vm.write_file("/etc/netns-networkd/vlan.toml", config);
        let _ = vm.run(&["netns-networkd", "sync"]).ok();
        assert_settled(vm);
    };
    // a bridge that has never kept them apart: systemd 257 takes the kernel's own VLAN from all ports before it gives them theirs
    let plain = CONFIG.replace("vlan-filtering = true", "").replace("vlan = 10, ", "").replace("vlan = 20, ", "");
    let plain = plain.replace("vlans = [20, \"100-102\"], ", "");
    set_up(vm, &plain);
    assert_vlans(vm, &[("guest-eth0", "1P"), ("ens4", "1P")]);
    assert_reach(vm, &[("one", "10.60.0.13")], &[]);
    while_pinging(vm, "guest", "10.60.0.99", 5, || sync(CONFIG));

    let look = || {
        assert_vlans(
            vm,
            &[
                ("ens4", "1P 10 20 40 100 101 102"),
                ("br-lan", "1P 40"),
                ("one-eth0", "10P"),
                ("two-eth0", "20P"),
                ("trunk-eth0", "1P 20 100 101 102"),
                ("guest-eth0", "1P"),
            ],
        );
        assert_reach(
            vm,
            &[
                ("one", "10.60.0.12"),
                ("one", "fd3c::12"),
                ("one", "10.60.0.98"),
                ("two", "10.60.0.97"),
                ("two", "10.60.0.20"),
                ("guest", "10.60.0.1"),
                ("guest", "10.60.0.14"),
                ("guest", "10.60.0.99"),
                ("out40", "10.60.40.1"),
            ],
            &[("one", "10.60.0.13"), ("one", "fd3c::13"), ("one", "10.60.0.1"), ("one", "10.60.0.99"), ("guest", "10.60.0.98")],
        );
    };
    look();
    while_pinging(vm, "guest", "10.60.0.99", 0, || {
        let _ = vm.sh("networkctl reload; networkctl reconfigure ens4 br-lan one-eth0 trunk-eth0 guest-eth0").ok();
        let _ = vm.run(&["systemctl", "restart", "systemd-networkd"]).ok();
        let _ = vm.wait_until("networkd has settled", SECONDS, "! networkctl --no-legend list | grep -E 'configuring|pending|initialized'");
    });
    look();
    assert_settled(vm);

    while_pinging(vm, "guest", "10.60.0.99", 0, || {
        while_pinging(vm, "one", "10.60.0.98", 0, || sync(&CONFIG.replace("vlan = 20", "vlan = 30")));
        assert_vlans(vm, &[("two-eth0", "30P"), ("trunk-eth0", "1P 20 100 101 102")]);
        assert!(format!(" {} ", vlans(vm, "ens4")).contains(" 30 "), "{}", vlans(vm, "ens4"));
    });
    assert_reach(vm, &[], &[("two", "10.60.0.97")]);
    // by hand
    let _ = vm.sh("bridge vlan add dev one-eth0 vid 20; bridge vlan del dev one-eth0 vid 10; bridge vlan del dev br-lan vid 40 self").ok();
    sync(CONFIG);
    assert_vlans(vm, &[("one-eth0", "10P"), ("two-eth0", "20P"), ("br-lan", "1P 40")]);

    sync(&CONFIG.replace("= true\n", "= true\ndefault-pvid = 5\n"));
    assert_vlans(vm, &[("br-lan", "5P 40"), ("guest-eth0", "5P"), ("trunk-eth0", "5P 20 100 101 102"), ("one-eth0", "10P")]);
    let uplink = vlans(vm, "ens4");
    assert!(uplink.starts_with("5P 10 20"), "nothing of the former one: {uplink}");
    assert_reach(vm, &[("guest", "10.60.0.99")], &[]);
    sync(&CONFIG.replace("= true\n", "= true\ndefault-pvid = \"none\"\n"));
    assert_vlans(vm, &[("br-lan", "40"), ("guest-eth0", ""), ("trunk-eth0", "20 100 101 102"), ("one-eth0", "10P")]);
    assert_reach(vm, &[], &[("guest", "10.60.0.1")]);

    // off, and on again
    sync(&plain);
    assert_reach(vm, &[("one", "10.60.0.13")], &[]);
    sync(CONFIG);
    assert_reach(vm, &[("one", "10.60.0.98")], &[("one", "10.60.0.13")]);
    take_down(vm);
}

/// A bridge of somebody else: ports get what is asked for, and the bridge's own choice where nothing is.
fn on_a_bridge_of_somebody_else(suite: Suite) {
    let vm = &match Vm::host(suite) {
        Ok(vm) => vm,
        Err(why) => skip!("{why}"),
    };
    let _ = vm
        .sh("ip link add br-own type bridge vlan_filtering 1 vlan_default_pvid 7; ip link set br-own up; ip link add other type dummy
             ip link set other master br-own; bridge vlan add dev other vid 99")
        .ok();
    vm.write_file(
        "/etc/netns-networkd/vlan.toml",
        r#"
        [namespace.one]
        interface.eth0 = { bridge = "br-own", vlan = 10 }
        interface.eth1 = { bridge = "br-own", vlans = [20, 21] }
        interface.eth2 = { bridge = "br-own" }
        "#,
    );
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    let _ = vm.run(&["systemctl", "start", "netns-hold@one"]).ok();
    let look = || {
        let own = [("br-own", "7P"), ("other", "7P 99"), ("one-eth0", "10P"), ("one-eth1", "7P 20 21"), ("one-eth2", "7P")];
        assert_vlans(vm, &own);
    };
    look();
    let _ = vm.sh("networkctl reload; networkctl reconfigure one-eth0 one-eth1 one-eth2; systemctl restart systemd-networkd").ok();
    let _ = vm.wait_until("networkd has settled", SECONDS, "! networkctl --no-legend list | grep -E 'configuring|pending|initialized'");
    look();
    assert_settled(vm);
    // a key that goes leaves the bridge's own choice
    let config = vm.read_file("/etc/netns-networkd/vlan.toml").replace(", vlan = 10", "").replace(", vlans = [20, 21]", "");
    vm.write_file("/etc/netns-networkd/vlan.toml", &config);
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_vlans(vm, &[("one-eth0", "7P"), ("one-eth1", "7P"), ("one-eth2", "7P"), ("other", "7P 99")]);
    assert_settled(vm);
    let _ = vm.sh("systemctl stop netns-hold@one; rm /etc/netns-networkd/vlan.toml").ok();
    let _ = vm.wait_until("nothing is left inside", SECONDS, "! ls /run/netns/*");
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    let _ = vm.sh("ip link del other; ip link del br-own").ok();
}

/// What networkd does not do by itself: make a VLAN link again that was deleted, and its parent's.
fn uplinks_deleted_or_taken_by_hand(suite: Suite) {
    let vm = &match Vm::host(suite) {
        Ok(vm) => vm,
        Err(why) => skip!("{why}"),
    };
    let config = "[bridge.br-lan]\nuplinks = [{ vlan = 40, parent = \"br-top\" }]\n[bridge.br-top]\nuplinks = [\"ens4\"]\n";
    vm.write_file("/etc/netns-networkd/vlan.toml", config);
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_settled(vm);
    let ports = "bridge link | sed -E 's/^[0-9]+: //; s/@[^:]*//; s/: .* master ([^ ]+) .*/ \\1/' | sort";
    let before = vm.sh(ports).ok().stdout;
    let again = "reload systemd-networkd\nmake systemd-networkd set up link 'br-top' again\n";
    for (by_hand, said) in [("ip link del br-top.40", again), ("ip link del br-top", "reload systemd-networkd\n")] {
        let _ = vm.sh(by_hand).ok();
        let output = vm.run(&["netns-networkd", "sync"]).ok();
        assert!(output.stdout.starts_with(said) && output.stderr.is_empty(), "{by_hand}: {output}");
        assert_settled(vm);
        assert_eq!(vm.sh(ports).ok().stdout, before, "{by_hand}");
    }
    let taker = "/etc/systemd/network/1-test-all.network";
    vm.write_file(taker, "[Match]\nName=br-top.40\n[Network]\nLinkLocalAddressing=no\n");
    let _ = vm.sh("networkctl reload").ok();
    let _ = vm.wait_until("networkd has taken it", SECONDS, "test -z \"$(bridge link show dev br-top.40)\"");
    let said = vm.run(&["netns-networkd", "sync"]).fails(4).stderr;
    let wanted = format!(
        "warning: not verified: link 'br-top.40': put it on bridge 'br-lan': networkd takes {taker} for link 'br-top.40', not \
         /etc/systemd/network/10-netns-networkd-uplink-br-top.40.network: rename that file so that it sorts later, or narrow its [Match]\n"
    );
    assert_eq!(said, wanted);
    let _ = vm.run(&["rm", taker]).ok();
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_settled(vm);
    assert_eq!(vm.sh(ports).ok().stdout, before);
    let _ = vm.run(&["rm", "/etc/netns-networkd/vlan.toml"]).ok();
    let _ = vm.run(&["netns-networkd", "sync"]).ok();
    assert_settled(vm);
    let _ = vm.sh("ip link set ens4 down").ok();
}
