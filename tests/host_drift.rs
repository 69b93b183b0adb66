//! What is changed behind our back on booted hosts: `sync` mends what is ours, says each line, and no service notices more than it
//! has to.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        namespace_is_mended,
        host_ends_are_mended,
        links_that_have_left_are_made_anew,
        bridges_and_uplinks_are_mended,
        bridges_made_again_get_their_ports,
        bridge_of_somebody_else_made_again_gets_its_ports,
        catch_all_that_takes_a_port_is_named,
        catch_all_that_takes_an_uplink_is_named,
        edited_files_of_every_kind_are_kept,
        lost_manifest_is_found_again,
        namespace_without_its_name_gets_it_again,
        namespace_of_somebody_else_under_the_name,
        run_netns_that_is_private,
        mounts_of_the_unit_are_named,
        processes_that_keep_a_namespace_are_named,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
uplinks = ["t-up"]
addresses = ["10.80.0.1/24", "fd50::1/64"]
[bridge.br1]
[namespace.box]
services = ["t-svc"]
loopback-addresses = ["10.80.9.9"]
sysctl = { "net.ipv4.ip_forward" = 1 }
rules = [{ from = "10.80.7.0/24", table = 100 }]
[namespace.box.interface.eth0]
bridge = "br0"
addresses = ["10.80.0.2/24", "fd50::2/64"]
gateways = ["10.80.0.1", "fd50::1"]
[namespace.box.interface.eth1]
addresses = ["10.81.0.2/32"]
host-addresses = ["10.81.1.1/24"]
routes = [{ to = "10.84.0.0/16", via = "10.81.1.1", on-link = true }]
[namespace.box.interface.mv0]
kind = "macvlan"
parent = "br1"
addresses = ["10.82.0.2/24"]
"#;

/// A host with t-svc in netns 'box', and a station on the wire of its uplink.
fn running(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    let _ = lab
        .sh("ip netns add t-lan; ip link add t-up type veth peer name eth0 netns t-lan; ip link set t-up up
             ip -n t-lan addr add 10.80.0.9/24 dev eth0; ip -n t-lan addr add fd50::9/64 dev eth0 nodad; ip -n t-lan link set eth0 up")
        .ok();
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    assert_served(&lab, "at the start");
    lab
}

fn end(lab: &Lab) {
    lab.stop(&["t-svc"]);
    lab.config("");
    lab.sync_changes(&[]);
    let _ = lab.sh("ip link delete t-up; ip netns delete t-lan").ok();
}

/// Asserts that the station reaches the service by both families, and the service the station.
#[track_caller]
fn assert_served(lab: &Lab, what: &str) {
    let script = "for address in 10.80.0.2 fd50::2; do
            ip netns exec t-lan python3 /usr/local/lib/talk.py ask $address 8000 who | grep \" $address \"
        done
        for address in 10.80.0.9 fd50::9; do ip netns exec box ping -n -q -c 1 -W 2 $address; done";
    let output = lab.sh(script);
    assert!(output.code == 0, "{what}: {output}\n{}", lab.sh("ip -n box addr; ip -n box route; ip -n box -6 route; ip addr; bridge link"));
}

/// The service, its namespace and the links in it.
#[track_caller]
fn identity(lab: &Lab) -> String {
    lab.property("t-svc", "MainPID")
        + &lab.named_netns("box")
        + &lab
            .sh("ip -n box -o link show | cut -d: -f1,2 | sed 's/@.*//'; ip -o link show type veth | grep box- | cut -d: -f1,2")
            .ok()
            .stdout
}

/// Does something by hand, then asserts that `sync` says these lines, that all is well then, and that nothing is left to do.
#[track_caller]
fn assert_mended(lab: &Lab, by_hand: &str, said: &[&str]) {
    let pid = lab.property("t-svc", "MainPID");
    let _ = lab.sh(by_hand).ok();
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, "", "{by_hand}");
    for line in said {
        assert!(output.stdout.lines().any(|is| is == *line), "{by_hand}\nshould make it say: {line}\n{output}");
    }
    lab.sync_nothing();
    assert_eq!(lab.property("t-svc", "MainPID"), pid, "{by_hand}: the service runs on");
    assert_served(lab, by_hand);
}

fn namespace_is_mended(suite: Suite) {
    let lab = running(suite);
    let before = identity(&lab);
    let eth0 = [
        "add address fd50::2/64 to link 'eth0' in netns 'box'",
        "add route IPv4 default via 10.80.0.1 to link 'eth0' in netns 'box'",
        "add route IPv6 default via fd50::1 to link 'eth0' in netns 'box'",
    ];
    for (by_hand, said) in [
        ("ip -n box link set lo down", &["set link 'lo' up in netns 'box'"][..]),
        ("ip -n box addr del 10.80.9.9/32 dev lo", &["add address 10.80.9.9/32 to link 'lo' in netns 'box'"]),
        ("ip -n box addr flush dev eth0 scope global", &["add address 10.80.0.2/24 to link 'eth0' in netns 'box'", eth0[0], eth0[1]]),
        // those of the kernel to the networks of the addresses, too
        (
            "ip -n box route flush table main; ip -n box -6 route flush table main",
            &[
                "replace address 10.80.0.2/24 no-prefix-route by 10.80.0.2/24 on link 'eth0' in netns 'box'",
                "replace address 10.82.0.2/24 no-prefix-route by 10.82.0.2/24 on link 'mv0' in netns 'box'",
                "replace address fd50::2/64 no-prefix-route by fd50::2/64 on link 'eth0' in netns 'box'",
                eth0[1],
                eth0[2],
                "add route 10.84.0.0/16 via 10.81.1.1 on-link to link 'eth1' in netns 'box'",
            ],
        ),
        (
            "ip -n box rule flush; ip -n box -6 rule flush",
            &[
                "add rule IPv4 32766: from all table 254 in netns 'box'",
                "add rule IPv6 32766: from all table 254 in netns 'box'",
                "add rule IPv4 32767: from all table 253 in netns 'box'",
                "add rule IPv4 10000: from 10.80.7.0/24 table 100 in netns 'box'",
            ],
        ),
        (
            "ip netns exec box sysctl -qw net.ipv4.ip_forward=0 net.ipv4.ping_group_range='1 0' net.ipv6.conf.eth0.accept_ra=1",
            &[
                "set net.ipv4.ip_forward to 1 in netns 'box'",
                "set net.ipv4.ping_group_range to 0 2147483647 in netns 'box'",
                "set net.ipv6.conf.eth0.accept_ra to 0 in netns 'box'",
            ],
        ),
        ("ip -n box link set eth0 down", &["set link 'eth0' and host end 'box-eth0' up in netns 'box'", eth0[0], eth0[1], eth0[2]]),
        ("ip -n box link set mv0 mtu 1400; ip -n box link set mv0 down", &["set link 'mv0' up in netns 'box'"]),
        (
            "ip -n box link set eth0 down; ip -n box link set eth0 name foo",
            &["rename link 'foo' to 'eth0' in netns 'box'", eth0[0], eth0[2]],
        ),
        // from Linux 6.2 on a link is renamed while it is up, and loses nothing by that
        ("ip -n box link set mv0 down; ip -n box link set mv0 name foo", &["rename link 'foo' to 'mv0' in netns 'box'"]),
    ] {
        assert_mended(&lab, by_hand, said);
        assert_eq!(identity(&lab), before, "{by_hand}: the links are the same");
    }
    // a kernel's rule that was put elsewhere is no lost one
    let _ = lab.sh("ip -n box rule add priority 500 table main; ip -n box rule del priority 32766").ok();
    lab.sync_nothing();
    let _ = lab.sh("ip -n box rule del priority 500").ok();
    assert_mended(&lab, "true", &["add rule IPv4 32766: from all table 254 in netns 'box'"]);
    assert_eq!(lab.sh("ip -n box rule show priority 32766; ip -n box rule | wc -l").ok().stdout, "32766:\tfrom all lookup main\n4\n");
    end(&lab);
}

fn host_ends_are_mended(suite: Suite) {
    let lab = running(suite);
    let before = identity(&lab);
    let mac = lab.sh("cat /sys/class/net/box-eth0/address").ok().stdout;
    let mac = format!("set MAC address of host end 'box-eth0' to {} in netns 'box'", mac.trim());
    for (by_hand, said) in [
        ("ip link set box-eth0 down", "set link 'eth0' and host end 'box-eth0' up in netns 'box'"),
        ("ip link set box-eth0 mtu 1400", "set MTU of link 'eth0' and host end 'box-eth0' to 1500 in netns 'box'"),
        ("ip link set box-eth0 address 02:00:00:00:00:77", mac.as_str()),
        ("ip link set box-eth0 down; ip link set box-eth0 name stray", "rename host end 'stray' to 'box-eth0' in netns 'box'"),
        ("ip link set box-eth1 down; ip link set box-eth1 name stray", "rename host end 'stray' to 'box-eth1' in netns 'box'"),
        ("ip addr del 10.81.1.1/24 dev box-eth1", "add address 10.81.1.1/24 to host end 'box-eth1' in netns 'box'"),
        ("ip route del 10.81.0.2 dev box-eth1", "add route 10.81.0.2/32 to host end 'box-eth1' in netns 'box'"),
    ] {
        assert_mended(&lab, by_hand, &[said]);
        assert_eq!(identity(&lab), before, "{by_hand}: the links are the same");
    }
    // networkd puts a port back by itself, as long as it runs
    let on_bridge = "bridge link show dev box-eth0 | grep 'master br0 state forwarding'";
    for by_hand in ["ip link set box-eth0 nomaster", "ip link set box-eth0 master br1"] {
        let _ = lab.sh(by_hand).ok();
        let _ = lab.sync(&[]).ok();
        let _ = lab.wait_until("networkd, or sync, has put it back", SECONDS, on_bridge);
    }
    let _ = lab.sh("systemctl stop systemd-networkd.socket systemd-networkd").ok();
    for by_hand in ["ip link set box-eth0 nomaster", "ip link set box-eth0 master br1"] {
        assert_mended(&lab, by_hand, &["put host end 'box-eth0' on bridge 'br0' in netns 'box'"]);
    }
    assert_eq!(lab.run(&["systemctl", "is-active", "systemd-networkd"]).stdout, "inactive\n", "sync has not started it");
    let _ = lab.sh("systemctl start systemd-networkd.socket systemd-networkd").ok();
    assert_eq!(identity(&lab), before);
    // renamed, it goes with its namespace all the same
    let _ = lab.sh("ip link set box-eth0 down; ip link set box-eth0 name stray").ok();
    lab.stop(&["t-svc"]);
    assert_eq!(lab.sh("ls /sys/class/net | grep -E 'box-|stray' || true").ok().stdout, "");
    end(&lab);
}

fn links_that_have_left_are_made_anew(suite: Suite) {
    let lab = running(suite);
    let eth0 =
        ["add link 'eth0' with host end 'box-eth0' on bridge 'br0' in netns 'box'", "add address fd50::2/64 to link 'eth0' in netns 'box'"];
    let eth1 =
        ["add link 'eth1' with host end 'box-eth1' in netns 'box'", "add address 10.81.1.1/24 to host end 'box-eth1' in netns 'box'"];
    let mv0 = ["add link 'mv0' with kind macvlan on 'br1' in netns 'box'", "set link 'mv0' up in netns 'box'"];
    for (by_hand, said) in [
        ("ip -n box link del eth0", &eth0),
        ("ip link del box-eth0", &eth0),
        ("ip -n box link set eth0 netns t-lan name other", &eth0),
        ("ip -n box link set eth1 netns 1", &eth1),
        ("ip -n box link del mv0", &mv0),
        // the kernel takes what stands on a link with it
        ("ip link del br1", &mv0),
    ] {
        assert_mended(&lab, by_hand, said);
    }
    assert_eq!(
        lab.sh("ip -n t-lan -br link | wc -l; ls /sys/class/net | grep -c eth1").ok().stdout,
        "2\n1\n",
        "nothing is left where they went"
    );
    end(&lab);
}

fn bridges_and_uplinks_are_mended(suite: Suite) {
    let lab = running(suite);
    let before = identity(&lab);
    for (by_hand, said) in [
        ("ip link set br0 down", "link 'br0': set it up, add address fd50::1/64"),
        ("ip addr del 10.80.0.1/24 dev br0", "link 'br0': add address 10.80.0.1/24"),
        ("ip addr flush dev br0", "link 'br0': add address 10.80.0.1/24, add address fd50::1/64"),
        ("ip link set t-up down", "link 't-up': set it up"),
    ] {
        assert_mended(&lab, by_hand, &["reload systemd-networkd", said]);
        assert_eq!(identity(&lab), before, "{by_hand}: the links are the same");
    }
    // networkd 252 puts it back by itself, 257 does so sometimes
    let _ = lab.sh("ip link set t-up nomaster").ok();
    let _ = lab.sync(&[]).ok();
    assert_mended(&lab, "true", &[]);
    // the namespace waits for a bridge that is down
    assert_mended(
        &lab,
        "ip link set br0 down; ip -n box addr del 10.80.0.2/24 dev eth0",
        &["link 'br0': set it up, add address fd50::1/64", "add address 10.80.0.2/24 to link 'eth0' in netns 'box'"],
    );
    end(&lab);
}

/// networkd 252 never makes the ports of a bridge that it has made again its ports again, and no networkd those of one that
/// somebody else has made again.
fn bridges_made_again_get_their_ports(suite: Suite) {
    let lab = running(suite);
    let before = identity(&lab);
    for by_hand in [
        "ip link del br0",
        "ip link del br0; ip link add br0 type bridge",
        "ip link del br0; ip link add br0 up type bridge; ip addr replace 10.80.0.1/24 dev br0",
    ] {
        assert_mended(&lab, by_hand, &["reload systemd-networkd"]);
        assert_eq!(identity(&lab), before, "{by_hand}: the links are the same");
        let ports =
            lab.sh("ip -br link show master br0 | sed 's/@.*//' | sort | xargs; ip -o addr show br0 scope global | wc -l").ok().stdout;
        assert_eq!(ports, "box-eth0 t-up\n2\n", "{by_hand}");
        // what networkd has to say later does not undo it
        let _ = lab.sh("networkctl reload").ok();
        lab.sync_nothing();
    }
    lab.stop(&["t-svc"]);
    lab.start(&["t-svc"]);
    assert_served(&lab, "after a restart");
    end(&lab);
}

fn bridge_of_somebody_else_made_again_gets_its_ports(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    let make = "ip link add t-virbr up type bridge; ip addr add 10.83.0.1/24 dev t-virbr; ip addr add fd53::1/64 dev t-virbr nodad";
    let _ = lab.sh(make).ok();
    lab.config(
        "[namespace.box]\nservices = [\"t-svc\"]\ninterface.eth0 = { bridge = \"t-virbr\", addresses = [\"10.83.0.2/24\", \"fd53::2/64\"] }\n",
    );
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    let before = identity(&lab);
    let _ = lab.sh(&format!("ip link del t-virbr; {make}")).ok();
    assert_eq!(lab.sync_changes(&[]), "put host end 'box-eth0' on bridge 't-virbr' in netns 'box'\n");
    assert_eq!(identity(&lab), before);
    lab.assert_answers("10.83.0.2", "8000");
    lab.assert_answers("fd53::2", "8000");
    // and networkd leaves it there
    let _ = lab.sh("networkctl reconfigure box-eth0; networkctl reload").ok();
    let _ = lab.wait_until("networkd has the port", SECONDS, "networkctl --no-legend list box-eth0 | grep -E 'enslaved +configured'");
    lab.sync_nothing();
    // as long as there is none, sync says so, and the service runs on
    let _ = lab.sh("ip link del t-virbr").ok();
    let output = lab.sync(&[]).fails(1);
    assert!(output.stderr.contains("bridge 't-virbr' does not exist, after waiting 15 s for it"), "{output}");
    assert_eq!(identity(&lab), before);
    let _ = lab.sh(make).ok();
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    lab.assert_answers("10.83.0.2", "8000");
    lab.stop(&["t-svc"]);
    let _ = lab.run(&["ip", "link", "del", "t-virbr"]).ok();
}

const TAKER: &str = "/etc/systemd/network/05-all.network";

fn take(lab: &Lab, names: &str, until: &str) {
    lab.write_file(TAKER, &format!("[Match]\nName={names}\n[Network]\nLinkLocalAddressing=no\n"));
    let _ = lab.sh("networkctl reload").ok();
    let _ = lab.wait_until("networkd has taken it", SECONDS, until);
}

fn catch_all_that_takes_a_port_is_named(suite: Suite) {
    let lab = running(suite);
    let pid = lab.property("t-svc", "MainPID");
    let port = "networkctl --no-legend list box-eth0 | grep -E 'enslaved +configured'";
    let _ = lab.wait_until("networkd has the port", SECONDS, port);
    take(&lab, "box-*", "test -z \"$(bridge link show dev box-eth0)\"");
    let warning = |link: &str| {
        format!(
            "warning: networkd takes {TAKER} for link '{link}', not /etc/systemd/network/10-netns-networkd-port-{link}.network: \
             rename that file so that it sorts later, or narrow its [Match]\n"
        )
    };
    let dry = lab.sync(&["--dry-run"]).fails(3);
    assert!(dry.stderr.contains(&warning("box-eth0")), "{dry}");
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, warning("box-eth0") + &warning("box-eth1"));
    assert!(output.stdout.contains("put host end 'box-eth0' on bridge 'br0' in netns 'box'\n"), "{output}");
    lab.sync_nothing();
    assert_served(&lab, "with a file of somebody else");
    let _ = lab.sh(&format!("rm {TAKER}; networkctl reload")).ok();
    let _ = lab.wait_until("networkd has the port again", SECONDS, port);
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    assert_eq!(lab.property("t-svc", "MainPID"), pid);
    assert_served(&lab, "without it");
    end(&lab);
}

fn catch_all_that_takes_an_uplink_is_named(suite: Suite) {
    let lab = running(suite);
    take(&lab, "t-up", "test -z \"$(bridge link show dev t-up)\"");
    let warning = format!(
        "warning: not verified: link 't-up': put it on bridge 'br0': networkd takes {TAKER} for link 't-up', not \
         /etc/systemd/network/10-netns-networkd-uplink-t-up.network: rename that file so that it sorts later, or narrow its [Match]\n"
    );
    for _ in 0..2 {
        let output = lab.sync(&[]).fails(4);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("reload systemd-networkd\n", warning.as_str()));
    }
    let _ = lab.sh(&format!("rm {TAKER}")).ok();
    assert_mended(&lab, "true", &["reload systemd-networkd"]);
    end(&lab);
}

/// A namespace that has every kind of file.
const FILES: &str = r#"
[bridge.br0]
uplinks = ["t-up"]
[namespace.box]
description = "a box"
services = ["t-svc"]
dns = ["10.80.0.1"]
nftables = "/etc/t-rules.nft"
interface.eth0 = { bridge = "br0", addresses = ["10.80.0.2/24"], dhcp = "ipv6" }
"#;

fn edited_files_of_every_kind_are_kept(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.write_file("/etc/t-rules.nft", "table inet t-rules { }\n");
    let _ = lab.sh("ip link add t-up type veth peer name t-wire; ip link set t-wire up").ok();
    lab.config(FILES);
    lab.sync_changes(&[]);
    let files = lab.sh("grep -o '^\"/[^\"]*\"' /var/lib/netns-networkd/manifest.toml | tr -d '\"'").ok().stdout;
    let files: Vec<&str> = files.lines().collect();
    let kinds = [
        "/bridge-br0.netdev",
        "/bridge-br0.network",
        "/uplink-t-up.network",
        "/port-box-eth0.network",
        "/netns@box.service.d",
        "/t-svc.service.d",
        "/box/resolv.conf",
        "/box/nsswitch.conf",
        "/netns/box.json",
        "/netns/box.nft",
        "/dhcp/box.conf",
    ];
    let is_kind = |kind: &&str| files.iter().any(|file| file.replace("10-netns-networkd-", "").contains(*kind));
    assert!(files.len() == kinds.len() && kinds.iter().all(is_kind), "{files:?}");
    let original: Vec<String> = files.iter().map(|file| lab.read_file(file)).collect();
    let _ = lab.sh(&format!("for file in {}; do echo '# by hand' >>$file; done", files.join(" "))).ok();
    let before = lab.fingerprint();
    for _ in 0..2 {
        let output = lab.sync(&[]).ok();
        assert_eq!(output.stdout, "");
        let kept =
            |file: &&str| format!("warning: {file} was changed by hand and is left alone: `netns-networkd sync --force` replaces it");
        let mut kept: Vec<String> = files.iter().map(kept).collect();
        let mut said: Vec<&str> = output.stderr.lines().collect();
        kept.sort();
        said.sort_unstable();
        assert_eq!(said, kept);
    }
    lab.assert_unchanged(&before);
    let output = lab.sync(&["--force"]).ok();
    assert_eq!(output.stderr, "");
    for (file, original) in files.iter().zip(&original) {
        assert!(output.stdout.contains(&format!("change file {file}\n")), "{output}");
        assert_eq!(lab.read_file(file), *original);
    }
    lab.sync_nothing();
    lab.config("");
    lab.sync_changes(&[]);
    let _ = lab.sh("ip link delete t-up; rm /etc/t-rules.nft").ok();
}

fn lost_manifest_is_found_again(suite: Suite) {
    let lab = running(suite);
    let manifest = "/var/lib/netns-networkd/manifest.toml";
    let text = lab.read_file(manifest);
    let _ = lab.run(&["rm", manifest]).ok();
    // a file that is as we write it is ours
    lab.sync_nothing();
    assert_eq!(lab.read_file(manifest), text);
    // another one may be anybody's
    let edited = "/etc/systemd/network/10-netns-networkd-bridge-br0.netdev";
    let original = lab.read_file(edited);
    let _ = lab.sh(&format!("rm {manifest}; echo '# by hand' >>{edited}")).ok();
    let output = lab.sync(&[]).fails(2);
    assert!(output.stderr.contains("bridge 'br0' exists already and was not made by netns-networkd"), "{output}");
    let output = lab.sync(&["--force"]).ok();
    assert_eq!((output.stdout, output.stderr), (format!("change file {edited}\nreload systemd-networkd\n"), String::new()));
    assert_eq!((lab.read_file(edited), lab.read_file(manifest)), (original, text));
    lab.sync_nothing();
    assert_served(&lab, "with a manifest");
    end(&lab);
}

fn namespace_without_its_name_gets_it_again(suite: Suite) {
    let lab = running(suite);
    for by_hand in [
        "ip netns delete box",
        // a file that is no namespace, while the unit is active
        "umount -l /run/netns/box; test -f /run/netns/box",
        "ip netns delete box; echo old >/run/netns/box",
    ] {
        let before = identity(&lab);
        let _ = lab.sh(by_hand).ok();
        // nothing that would restart the service
        let dry = lab.sync(&["--dry-run", "--restart"]).fails(3);
        assert_eq!(dry.stdout, "would change netns 'box' while it runs\n  give network namespace its name again\n", "{by_hand}");
        assert_mended(&lab, "true", &["give network namespace 'box' its name again"]);
        assert_eq!(identity(&lab), before, "{by_hand}");
        // systemd finds it for the next start of the service alone
        lab.systemctl(&["restart", "t-svc"]);
        assert_eq!(lab.netns_of("t-svc"), lab.named_netns("box"));
        assert_served(&lab, by_hand);
    }
    end(&lab);
}

/// Nobody's namespace is taken from under its name, and nobody's link from under a service.
fn namespace_of_somebody_else_under_the_name(suite: Suite) {
    let lab = running(suite);
    let inode = lab.named_netns("box");
    let pid = lab.property("t-svc", "MainPID");
    let _ = lab.sh("ip netns delete box; ip netns add box; ip -n box link set lo up").ok();
    let theirs = lab.named_netns("box");
    let output = lab.sync(&[]).fails(1);
    let wanted = "error: failed to change netns 'box' of /etc/netns-networkd/test.toml:6: /run/netns/box is another namespace than the one that its processes are in\n  \
                  hint: if nothing needs it, remove it with `ip netns delete box`, then run sync again\n";
    assert_eq!(output.stderr, wanted);
    assert_eq!((lab.named_netns("box"), lab.property("t-svc", "MainPID")), (theirs, pid.clone()));
    let _ = lab.sh("ip netns exec t-lan ping -n -q -c 1 -W 2 10.80.0.2; ip netns delete box").ok();
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    assert_eq!((lab.named_netns("box"), lab.property("t-svc", "MainPID")), (inode, pid));
    assert_served(&lab, "afterwards");
    // with nobody inside it is made anew
    lab.start(&["netns-hold@box"]);
    lab.systemctl(&["stop", "t-svc"]);
    let _ = lab.sh("ip netns delete box").ok();
    let said = lab.sync_changes(&[]);
    assert!(said.starts_with("add network namespace 'box'\n"), "{said}");
    lab.systemctl(&["start", "t-svc"]);
    assert_served(&lab, "made anew");
    lab.stop(&["netns-hold@box"]);
    end(&lab);
}

fn run_netns_that_is_private(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.config("[bridge.br0]\naddresses = [\"10.80.0.1/24\"]\n[namespace.box]\nservices = [\"t-svc\"]\ninterface.eth0 = { bridge = \"br0\", addresses = [\"10.80.0.2/24\"] }\n");
    lab.sync_changes(&[]);
    let shared = "findmnt -n -o PROPAGATION /run/netns | tail -n 1";
    for by_hand in
        ["mount --make-private /run/netns", "umount /run/netns; mount --bind /run/netns /run/netns; mount --make-private /run/netns"]
    {
        let _ = lab.sh("mkdir -p /run/netns; mountpoint -q /run/netns || mount --bind /run/netns /run/netns").ok();
        let _ = lab.sh(by_hand).ok();
        assert_eq!(lab.sh(shared).ok().stdout, "private\n");
        lab.start(&["t-svc"]);
        assert_eq!(lab.sh(shared).ok().stdout, "shared\n");
        lab.assert_answers("10.80.0.2", "8000");
        assert_eq!(lab.netns_of("t-svc"), lab.named_netns("box"));
        lab.stop(&["t-svc"]);
        assert_eq!(lab.sh("ls /run/netns; grep -c ' /run/netns/' /proc/self/mountinfo || true").ok().stdout, "0\n");
    }
}

/// Private mounts of netns@ would hide the namespace from systemd, and the service would fail with `225/NETWORK_NAMESPACE`.
fn mounts_of_the_unit_are_named(suite: Suite) {
    let lab = running(suite);
    lab.stop(&["t-svc"]);
    lab.write_file("/etc/systemd/system/netns@box.service.d/t-private.conf", "[Service]\nPrivateTmp=yes\n");
    lab.systemctl(&["daemon-reload"]);
    let said = lab.journal_of("netns-networkd", || drop(lab.run(&["systemctl", "start", "t-svc"]).fails(1)));
    let wanted = "error: failed to bring up netns 'box' of /etc/netns-networkd/test.toml:6: systemd does not see /run/netns/box: this program has \
                  mounts of its own\n  hint: a drop-in of netns@box.service makes them (Private…=, Protect…=, BindPaths=): \
                  `systemctl cat netns@box`\n";
    assert_eq!(said, wanted);
    assert_eq!(lab.sh("ls /run/netns /run/netns-networkd/netns /sys/class/net | grep box || true").ok().stdout, "");
    let _ = lab.sh("rm -r /etc/systemd/system/netns@box.service.d; systemctl daemon-reload; systemctl reset-failed").ok();
    lab.start(&["t-svc"]);
    assert_served(&lab, "without private mounts");
    end(&lab);
}

/// What outlives its namespace is named when that goes, and is in nobody's way.
fn processes_that_keep_a_namespace_are_named(suite: Suite) {
    let lab = running(suite);
    let left = "[Unit]\nBindsTo=netns@box.service\nAfter=netns@box.service\n[Service]\nType=exec\nKillMode=none\n\
                NetworkNamespacePath=/run/netns/box\nExecStart=/usr/bin/sleep 1000\n";
    lab.write_file("/etc/systemd/system/t-left.service", left);
    lab.systemctl(&["daemon-reload"]);
    lab.start(&["t-left"]);
    let _ = lab.sh("systemd-run -q --scope --unit=t-shell nsenter --net=/run/netns/box sleep 2000 >/dev/null 2>&1 & disown").ok();
    let _ = lab.wait_until("both are inside", SECONDS, "[[ $(ip netns pids box | wc -l) = 3 ]] && pgrep -f '^sleep 2000'");
    let (left, shell) = (lab.property("t-left", "MainPID"), lab.sh("pgrep -f '^sleep 2000'").ok().stdout);
    let (inode, shell) = (lab.named_netns("box"), shell.trim());
    let said = lab.journal_of("netns-networkd", || lab.stop(&["t-svc", "t-left"]));
    let of_left = format!("sleep (PID {left}, of t-left.service)");
    let of_shell = format!("sleep (PID {shell}, of t-shell.scope)");
    let start = "warning: netns 'box' is down, but the kernel keeps it, without its links, as long as processes are in it: ";
    assert!([format!("{start}{of_left}, {of_shell}\n"), format!("{start}{of_shell}, {of_left}\n")].contains(&said), "{said}");
    assert_eq!(lab.property("netns@box", "Result"), "success");
    let there = lab.sh("ls /run/netns /run/netns-networkd/netns /sys/class/net | grep box || true; bridge link | grep box || true");
    assert_eq!(there.ok().stdout, "", "names and ports are free");
    // the next one has nothing to do with it
    lab.start(&["t-svc"]);
    assert_ne!(lab.named_netns("box"), inode);
    assert_served(&lab, "beside the old one");
    lab.sync_nothing();
    let _ = lab.sh(&format!("kill {left} {shell}")).ok();
    let said = lab.journal_of("netns-networkd", || lab.stop(&["t-svc"]));
    assert_eq!(said, "");
    end(&lab);
}
