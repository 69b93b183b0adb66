//! What can be missing on a host: each a clear error, nothing lost, running services unharmed.

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::common::{Lab, Output, Shell, Suite, diff};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        a_failure_goes_with_its_namespace,
        missing_bridge_is_waited_for_and_named,
        bridge_may_come_late,
        networkd_stopped,
        bus_away,
        no_root,
        etc_read_only,
        disk_full,
        duplicate_ipv6_address,
        duplicate_with_the_bridges_own_address,
        foreign_bridge_is_used_as_it_is,
        table_for_a_bridge_of_somebody_else_is_refused,
        uplink_with_addresses_is_refused,
        uplink_with_leases_is_refused,
        uplink_joins_its_bridge,
        physical_link_in_use_is_refused,
        broken_record_is_an_error,
        name_in_run_netns_is_taken,
        host_end_name_is_taken,
        unit_that_does_not_exist_is_reported,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.50.0.1/24", "fd32::1/64"]
[namespace.one]
services = ["t-one"]
interface.eth0 = { bridge = "br0", addresses = ["10.50.0.2/24", "fd32::2/64"], gateways = ["10.50.0.1", "fd32::1"] }
[namespace.two]
services = ["t-two"]
interface.eth0 = { bridge = "br0", addresses = ["10.50.0.3/24", "fd32::3/64"] }
"#;

/// A host on which t-one runs in its namespace and t-two does not.
fn running(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000"), ("t-two.service", "8000")]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab.start(&["t-one"]);
    lab
}

#[track_caller]
fn assert_unharmed(lab: &Lab) {
    lab.assert_active(&["t-one", "netns@one"]);
    lab.assert_answers("10.50.0.2", "8000");
    lab.assert_answers("fd32::2", "8000");
}

/// Asserts that a sync failed with these words and has changed nothing.
#[track_caller]
fn assert_refuses(lab: &Lab, before: &str, output: Output, stderr: &str) {
    let output = output.fails(1);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", stderr));
    assert_unchanged(lab, before, "sync failed");
}

#[track_caller]
fn assert_unchanged(lab: &Lab, before: &str, what: &str) {
    let (before, now) = (without_times(before), without_times(&lab.fingerprint()));
    assert!(before == now, "{what}, and something has changed:\n{}", diff(&before, &now));
}

/// Leaves out what a failed run may do: a temporary file comes and goes in a folder.
fn without_times(fingerprint: &str) -> String {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [path, "d", inode, mode, _, _] => format!("{path} d {inode} {mode}\n"),
        // written before the files, and put back
        [path @ "var/lib/netns-networkd/manifest.toml", "f", _, mode, _, _] => format!("{path} f {mode}\n"),
        _ => format!("{line}\n"),
    };
    fingerprint.lines().map(line).collect()
}

/// Asserts that a start failed and left nothing of a namespace; returns what its unit said.
#[track_caller]
fn assert_fails_to_start(lab: &Lab, unit: &str, netns: &str) -> String {
    let said = lab.journal_of("netns-networkd", || drop(lab.run(&["systemctl", "start", unit]).fails(1)));
    assert_eq!(lab.property(&format!("netns@{netns}"), "ActiveState"), "failed");
    let left = lab.sh(&format!(
        "ls -d /run/netns/{netns} /run/netns-networkd/netns/{netns}.json; ip -br link show type veth | grep ^{netns}- || true"
    ));
    assert_eq!(left.stdout, "", "left behind");
    lab.systemctl(&["reset-failed"]);
    said
}

/// What nobody can start any more is not to be among the failed units of the host.
fn a_failure_goes_with_its_namespace(suite: Suite) {
    let lab = running(suite);
    lab.config(&(CONFIG.to_owned() + "[namespace.three]\nservices = [\"t-three\"]\n"));
    let _ = lab.sync(&[]).ok();
    let _ = lab.sh("echo x >/var/lib/netns-networkd/netns/three.json; systemctl start netns@three").fails(1);
    assert_eq!(lab.property("netns@three", "ActiveState"), "failed");
    lab.config(CONFIG);
    let _ = lab.sync(&["--force"]).ok();
    assert_eq!(lab.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]), "");
    lab.sync_nothing();
}

fn missing_bridge_is_waited_for_and_named(suite: Suite) {
    let lab = running(suite);
    lab.config(&CONFIG.replace("[namespace.two]", "[namespace.three]\nservices = [\"t-three\"]\ninterface.eth0 = { bridge = \"br-none\", addresses = [\"10.51.0.2/24\"] }\n[namespace.two]"));
    lab.services(&[("t-three.service", "8003")]);
    let output = lab.sync(&[]).ok();
    let warning = "warning: bridge 'br-none' does not exist and no [bridge.br-none] makes it: the namespaces on it cannot start until somebody else does\n";
    assert_eq!(output.stderr, warning);
    let start = Instant::now();
    let said = assert_fails_to_start(&lab, "t-three", "three");
    assert!((14..20).contains(&start.elapsed().as_secs()), "it took {:?}", start.elapsed());
    let wanted = "error: failed to bring up netns 'three' of /etc/netns-networkd/test.toml:9: bridge 'br-none' does not exist, after waiting 15 s for it\n  \
                  note: no .netdev file of networkd's makes it\n  \
                  hint: add [bridge.br-none] to the configuration and run `netns-networkd sync`, or start who makes it\n";
    assert_eq!(said, wanted);
    assert_unharmed(&lab);
    lab.start(&["t-two"]);
}

fn bridge_may_come_late(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    lab.config("[namespace.one]\nservices = [\"t-one\"]\ninterface.eth0 = { bridge = \"br-late\", addresses = [\"10.52.0.2/24\", \"fd34::2/64\"] }\n");
    let _ = lab.sync(&[]).ok();
    for up_at_once in [true, false] {
        thread::scope(|scope| {
            let start = scope.spawn(|| lab.run(&["systemctl", "start", "t-one"]));
            // nothing tells of waiting: that it is there after a while is all that shows
            let waits = "[[ $(systemctl is-active netns@one) = activating ]]";
            let _ =
                lab.wait_until("up waits for 2 s", SECONDS, &format!("{waits}; [[ $(ps -o etimes= -C netns-networkd) -ge 2 ]]; {waits}"));
            assert!(!start.is_finished());
            if up_at_once {
                let _ = lab.run(&["ip", "link", "add", "br-late", "up", "type", "bridge"]).ok();
            } else {
                let _ = lab.run(&["ip", "link", "add", "br-late", "type", "bridge"]).ok();
                let _ = lab.wait_until("it is there", SECONDS, &format!("ip link show br-late | grep 'state DOWN'; {waits}"));
                let _ = lab.run(&["ip", "link", "set", "br-late", "up"]).ok();
            }
            let _ = start.join().unwrap().ok();
        });
        let _ = lab.sh("ip addr add 10.52.0.1/24 dev br-late; ip addr add fd34::1/64 dev br-late nodad").ok();
        lab.assert_answers("10.52.0.2", "8000");
        lab.assert_answers("fd34::2", "8000");
        lab.stop(&["t-one"]);
        let _ = lab.run(&["ip", "link", "delete", "br-late"]).ok();
    }
}

fn networkd_stopped(suite: Suite) {
    let lab = running(suite);
    let _ = lab.sh("systemctl stop systemd-networkd.socket systemd-networkd.service").ok();
    // masked at run time, or any start of netns@ starts it again by its Wants=
    let _ = lab.sh("systemctl mask --runtime systemd-networkd.service; ! systemctl is-active systemd-networkd").ok();
    lab.sync_nothing();
    lab.start(&["t-two"]);
    lab.assert_answers("10.50.0.3", "8000");
    lab.assert_answers("fd32::3", "8000");
    lab.stop(&["t-two"]);
    lab.config(&format!("{CONFIG}[bridge.br1]\n"));
    let before = lab.fingerprint();
    for _ in 0..2 {
        let said = "error: systemd-networkd does not run, and this change needs it; nothing was changed\n  \
                    hint: `systemctl enable --now systemd-networkd`, then run sync again\n";
        assert_refuses(&lab, &before, lab.sync(&[]), said);
    }
    let _ = lab.sync(&["--dry-run"]).fails(3);
    assert_unharmed(&lab);
    // what does not need networkd is done
    lab.config(&CONFIG.replace("\"10.50.0.2/24\", ", "\"10.50.0.2/24\", \"10.50.0.22/24\", "));
    lab.sync_changes(&[]);
    lab.assert_answers("10.50.0.22", "8000");

    let _ = lab
        .sh("systemctl unmask --runtime systemd-networkd.service; systemctl start systemd-networkd.socket systemd-networkd.service")
        .ok();
    lab.config(&format!("{CONFIG}[bridge.br1]\n"));
    lab.sync_changes(&[]);
    let _ = lab.run(&["ip", "link", "show", "br1"]).ok();
    assert_unharmed(&lab);
}

/// The system bus is a socket in the file system: hidden from us, it is away, and everything else goes on.
fn bus_away(suite: Suite) {
    let lab = running(suite);
    lab.config(&format!("{CONFIG}[bridge.br1]\n"));
    let before = lab.fingerprint();
    let socket = "/run/dbus/system_bus_socket";
    let without_bus = |command: &str| lab.sh(&format!("mv {socket} {socket}-away; trap 'mv {socket}-away {socket}' EXIT; {command}"));
    for arguments in ["", " --restart", " --force"] {
        let output = without_bus(&format!("netns-networkd sync{arguments}"));
        let said = output.stderr.clone();
        assert!(said.starts_with("error: failed to connect to the system bus: "), "{output}");
        assert!(said.ends_with("\n  hint: `systemctl status dbus.socket` shows the bus's state\n"), "{output}");
        assert_refuses(&lab, &before, output, &said);
    }
    // up and down need no bus
    let _ = without_bus("netns-networkd up two").ok();
    let _ = lab.sh("ping -n -c 1 -W 2 10.50.0.3; ping -n -c 1 -W 2 fd32::3").ok();
    let _ = without_bus("netns-networkd down two").ok();
    let _ = without_bus("netns-networkd check").ok();
    assert_unharmed(&lab);
    lab.sync_changes(&[]);
}

fn no_root(suite: Suite) {
    let lab = running(suite);
    let user =
        |command: &[&str]| lab.run(&[&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "netns-networkd"], command].concat());
    let output = user(&["check"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    let output = user(&["check", "-v"]).ok();
    assert_eq!(output.stdout, "2 namespaces, 1 bridge: no faults\n");
    lab.config(&format!("{CONFIG}[bridge.br1]\n"));
    let before = lab.fingerprint();
    let said = "error: sync changes files below /etc and the network, which only root can do\n  \
                hint: run it as root, or look at `netns-networkd sync --dry-run`\n";
    assert_refuses(&lab, &before, user(&["sync"]), said);
    for verb in ["up", "down"] {
        for name in ["one", "two"] {
            let output = user(&[verb, name]).fails(1);
            let start = if verb == "up" { "error: failed to bring up netns '" } else { "error: failed to " };
            assert!(output.stderr.starts_with(start) && output.stderr.contains("ermission denied"), "{output}");
        }
    }
    assert_unchanged(&lab, &before, "sync failed");
    assert_unharmed(&lab);
}

fn etc_read_only(suite: Suite) {
    let lab = running(suite);
    lab.config(&format!("{}[bridge.br1]\n", CONFIG.replace("\"10.50.0.2/24\", ", "\"10.50.0.2/24\", \"10.50.0.22/24\", ")));
    let before = lab.fingerprint();
    let _ = lab.sh("mount --bind /etc /etc; mount -o remount,bind,ro /etc; ! touch /etc/t-file").ok();
    let said = "error: failed to write /etc/systemd/network/10-netns-networkd-bridge-br1.netdev: Read-only file system (os error 30)\n";
    for arguments in [&[][..], &["--restart"]] {
        let output = lab.sync(arguments).fails(1);
        assert!(output.stdout.is_empty() && output.stderr.starts_with(said), "{output}");
    }
    lab.start(&["t-two"]);
    lab.assert_answers("10.50.0.3", "8000");
    lab.stop(&["t-two"]);
    let _ = lab.run(&["umount", "/etc"]).ok();
    let ours = |text: &str| without_times(text).lines().filter(|l| !l.contains("run/netns")).collect::<Vec<_>>().join("\n");
    assert_eq!(ours(&before), ours(&lab.fingerprint()));
    assert_unharmed(&lab);
    lab.sync_changes(&[]);
    lab.assert_answers("10.50.0.22", "8000");
}

fn disk_full(suite: Suite) {
    let lab = running(suite);
    // fills the file system that a folder is on, but for what is there
    for folder in ["/etc/systemd/network", "/var/lib/netns-networkd", "/etc/systemd/system/netns@two.service.d"] {
        let changed = CONFIG
            .replace("\"10.50.0.2/24\", ", "\"10.50.0.2/24\", \"10.50.0.22/24\", ")
            .replace("[namespace.two]", "[bridge.br1]\n[namespace.two]\ndescription = \"two\"");
        lab.config(&changed);
        let _ = lab
            .sh(&format!(
                "made=; [[ -d {folder} ]] || {{ mkdir {folder}; made=yes; }}; mount -t tmpfs -o size=64k t-full /mnt; cp -a {folder}/. /mnt; umount /mnt
                 mkdir -p /run/t-full; mount -t tmpfs -o size=128k t-full /run/t-full; cp -a {folder}/. /run/t-full; mount --bind /run/t-full {folder}
                 head -c 1M /dev/zero >{folder}/t-filler 2>/dev/null || true; ! bash -c 'echo x >{folder}/t-x' 2>/dev/null; rm -f {folder}/t-x"
            ))
            .ok();
        let before = lab.fingerprint();
        for arguments in [&[][..], &["--restart", "--force"]] {
            let output = lab.sync(arguments).fails(1);
            let said = &output.stderr;
            assert!(
                output.stdout.is_empty()
                    && said.starts_with(&format!("error: failed to write {folder}"))
                    && said.contains(": No space left on device (os error 28)\n"),
                "{folder}\n{output}"
            );
        }
        assert_unchanged(&lab, &before, folder);
        assert_unharmed(&lab);
        lab.start(&["t-two"]);
        lab.assert_answers("fd32::3", "8000");
        lab.stop(&["t-two"]);
        let _ = lab.sh(&format!("umount {folder} /run/t-full; rmdir --ignore-fail-on-non-empty /run/t-full {folder}")).ok();
        lab.sync_changes(&[]);
        lab.assert_answers("10.50.0.22", "8000");
        lab.config(CONFIG);
        lab.sync_changes(&[]);
    }
    // /run full: up fails, cleanly, and works again
    let _ = lab.sh("mount -t tmpfs -o size=4k,nr_inodes=3 t-full /run/netns-networkd; cp /dev/null /run/netns-networkd/x; cp /dev/null /run/netns-networkd/y").ok();
    let output = lab.run(&["netns-networkd", "up", "two"]).fails(1);
    assert!(output.stderr.contains("No space left on device (os error 28)"), "{output}");
    assert_eq!(lab.sh("ls -d /run/netns/two; ip -br link show type veth | grep ^two- || true").stdout, "");
    let _ = lab.run(&["umount", "/run/netns-networkd"]).ok();
    assert_unharmed(&lab);
    lab.start(&["t-two"]);
}

fn duplicate_ipv6_address(suite: Suite) {
    let lab = running(suite);
    // a stranger on the bridge, with an address of ours
    let _ = lab
        .sh("ip netns add t-other; ip link add t-other up master br0 type veth peer name eth0 netns t-other
             ip -n t-other addr add fd32::3/64 dev eth0 nodad; ip -n t-other link set eth0 up")
        .ok();
    let said = assert_fails_to_start(&lab, "t-two", "two");
    let wanted = "error: failed to bring up netns 'two' of /etc/netns-networkd/test.toml:9: address fd32::3/64 of link 'eth0' is used by somebody else \
                  on its network (duplicate address detection)\n";
    assert!(said.starts_with(wanted), "{said}");
    assert_unharmed(&lab);
    // dad = "off" does not ask
    lab.config(&CONFIG.replace("\"fd32::3/64\"]", "\"fd32::3/64\"], dad = \"off\""));
    lab.sync_changes(&[]);
    lab.start(&["t-two"]);
    lab.stop(&["t-two"]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    let _ = lab.sh("ip link delete t-other; ip netns delete t-other").ok();
    lab.start(&["t-two"]);
    lab.assert_answers("fd32::3", "8000");
    // and live: the duplicate is refused, and the service keeps what it has
    let _ = lab
        .sh("ip netns add t-other; ip link add t-other up master br0 type veth peer name eth0 netns t-other
             ip -n t-other addr add fd32::33/64 dev eth0 nodad; ip -n t-other link set eth0 up")
        .ok();
    let pid = lab.property("t-two", "MainPID");
    let more = CONFIG.replace("\"fd32::3/64\"]", "\"fd32::3/64\", \"fd32::33/64\"]");
    lab.config(&more);
    let _ = lab.sync(&[]).fails(1);
    // taken out again, it goes
    lab.config(CONFIG);
    let said = lab.sync_changes(&[]);
    assert!(said.contains("remove address fd32::33/64 from link 'eth0' in netns 'two'\n"), "{said}");
    assert_eq!(lab.sh("ip -n two addr show to fd32::33").ok().stdout, "");
    lab.config(&more);
    let output = lab.sync(&[]).fails(1);
    assert!(
        output.stderr.contains("address fd32::33/64 of link 'eth0' is used by somebody else on its network (duplicate address detection)"),
        "{output}"
    );
    assert_eq!(lab.property("t-two", "MainPID"), pid);
    lab.assert_answers("fd32::3", "8000");
    lab.assert_answers("10.50.0.3", "8000");
    let _ = lab.sh("ip link delete t-other; ip netns delete t-other").ok();
    // once the stranger has gone, sync makes it right
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    lab.assert_answers("fd32::33", "8000");
}

fn duplicate_with_the_bridges_own_address(suite: Suite) {
    let lab = running(suite);
    let _ = lab.run(&["ip", "addr", "add", "fd32::3/64", "dev", "br0", "nodad"]).ok();
    let said = assert_fails_to_start(&lab, "t-two", "two");
    assert!(said.contains("address fd32::3/64 of link 'eth0' is used by somebody else"), "{said}");
    let _ = lab.run(&["ip", "addr", "del", "fd32::3/64", "dev", "br0"]).ok();
    lab.start(&["t-two"]);
    lab.assert_answers("fd32::3", "8000");
    assert_unharmed(&lab);
}

/// Somebody else's bridge: no `[bridge]` table, no .netdev of networkd.
fn foreign_bridge_is_used_as_it_is(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    let _ = lab
        .sh("ip link add t-virbr up mtu 1450 type bridge; ip addr add 10.53.0.1/24 dev t-virbr; ip addr add fd35::1/64 dev t-virbr nodad")
        .ok();
    lab.config("[namespace.one]\nservices = [\"t-one\"]\ninterface.eth0 = { bridge = \"t-virbr\", addresses = [\"10.53.0.2/24\", \"fd35::2/64\"] }\n");
    lab.sync_changes(&[]);
    let bridge = lab.sh("ip -d link show t-virbr | grep -v '_timer'; ip -br addr show t-virbr").ok().stdout.replace("NO-CARRIER,", "");
    lab.start(&["t-one"]);
    let mtu = lab.sh("ip -n one link show eth0; ip link show one-eth0").ok().stdout;
    assert_eq!(mtu.matches(" mtu 1450 ").count(), 2, "the bridge's: {mtu}");
    let port = "networkctl --no-legend list one-eth0 | grep -E 'enslaved +configured'";
    let _ = lab.wait_until("networkd has the port", SECONDS, port);
    let member = lab.run(&["bridge", "link", "show", "dev", "one-eth0"]).ok().stdout;
    assert!(member.contains("master t-virbr state forwarding"), "{member}");
    for command in [
        "networkctl reload",
        "networkctl reconfigure one-eth0",
        "systemctl restart systemd-networkd",
        "touch /etc/systemd/network/*one-eth0*; networkctl reload",
    ] {
        let _ = lab.sh(command).ok();
        let _ = lab.wait_until("networkd has the port", SECONDS, port);
        assert_eq!(lab.run(&["bridge", "link", "show", "dev", "one-eth0"]).ok().stdout, member, "after {command}");
        lab.assert_answers("10.53.0.2", "8000");
        lab.assert_answers("fd35::2", "8000");
    }
    lab.sync_nothing();
    let now = lab.sh("ip -d link show t-virbr | grep -v '_timer'; ip -br addr show t-virbr").ok().stdout;
    assert!(now.contains("t-virbr") && bridge.contains("10.53.0.1/24") && now.contains("fd35::1/64"), "{bridge}{now}");
    lab.stop(&["t-one"]);
    lab.config("");
    lab.sync_changes(&[]);
    let _ = lab.sh("ip addr show t-virbr | grep 10.53.0.1/24; ip link delete t-virbr").ok();
}

fn table_for_a_bridge_of_somebody_else_is_refused(suite: Suite) {
    let lab = running(suite);
    let _ = lab.sh("ip link add t-virbr type bridge; ip link add t-veth type veth peer name t-peer").ok();
    for (name, kind) in [("t-virbr", "bridge"), ("t-veth", "link")] {
        lab.config(&format!("{CONFIG}[bridge.{name}]\n[bridge.br1]\n"));
        let before = lab.fingerprint();
        let output = lab.sync(&[]).fails(2);
        let wanted = format!(
            "error: /etc/netns-networkd/test.toml:10: {kind} '{name}' exists already and was not made by netns-networkd\n  hint: to use the bridge as it \
             is, remove [bridge.{name}]; to have it made from here, remove it where it is configured now, then delete it (`ip link delete {name}`)\n\
             error: nothing was changed\n"
        );
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", wanted.as_str()));
        assert_unchanged(&lab, &before, "sync failed");
    }
    let _ = lab.sh("ip link delete t-virbr; ip link delete t-veth").ok();
    lab.config(&format!("{CONFIG}[bridge.t-virbr]\n"));
    lab.sync_changes(&[]);
    assert_unharmed(&lab);
}

/// What the message says to write is enough: the host keeps its addresses and its way out.
fn uplink_with_addresses_is_refused(suite: Suite) {
    let lab = running(suite);
    lab.write_file(
        "/etc/systemd/network/20-test-uplink.network.d/more.conf",
        "[Network]\nGateway=198.51.100.1\nDNS=198.51.100.53\n[Route]\nDestination=203.0.113.0/24\nGateway=198.51.100.254\nMetric=50\n",
    );
    let routes = "ip route show default; ip route show 203.0.113.0/24";
    let _ = lab.sh("ip addr add 198.51.100.1/24 dev lan; networkctl reload").ok();
    let _ = lab.wait_until("the uplink has its routes", Duration::from_secs(10), "ip route | grep 203.0.113.0/24").ok();
    let config = |keys: &str| format!("{CONFIG}[bridge.br1]\nuplinks = [\"eno1\"]\n{keys}");
    lab.config(&config("addresses = [\"198.51.100.2/24\"]\n"));
    let before = lab.fingerprint();
    let output = lab.sync(&[]).fails(2);
    let keys = "addresses = [\"198.51.100.2/24\", \"2001:db8:ffff::2/64\"]\n    gateways = [\"198.51.100.1\"]\n    \
                routes = [{ to = \"203.0.113.0/24\", via = \"198.51.100.254\", metric = 50 }]\n    dns = [\"198.51.100.53\"]\n";
    let wanted = format!(
        "error: /etc/netns-networkd/test.toml:10: uplink 'eno1' has a network of its own (2001:db8:ffff::2/64, gateway 198.51.100.1, route \
         {{ to = 203.0.113.0/24, via = 198.51.100.254, metric = 50 }}); as a port of 'br1' it would lose it, and so would this host\n  \
         hint: give it to the bridge: in [bridge.br1], write\n    {keys}error: nothing was changed\n"
    );
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", wanted.as_str()));
    assert_unchanged(&lab, &before, "sync failed");

    // without a carrier networkd takes its addresses away, and would put them back with it
    let none = "ip link set lan down; test -z \"$(ip -o addr show dev eno1 scope global)\"";
    let _ = lab.wait_until("the uplink has lost its addresses", Duration::from_secs(10), none).ok();
    let output = lab.sync(&[]).fails(2);
    let _ = lab.sh("ip link set lan up").ok();
    assert!(output.stderr.contains("(2001:db8:ffff::2/64, gateway 198.51.100.1)"), "its file says so: {output}");
    let _ = lab.wait_until("the uplink has its addresses again", Duration::from_secs(10), "ip route | grep 203.0.113.0/24").ok();
    assert_unharmed(&lab);

    lab.config(&config(keys));
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    let own =
        lab.sh(&format!("ip -br addr show br1 scope global; {routes}; ping -n -c 1 -W 2 198.51.100.1 | grep -o '1 received'")).ok().stdout;
    for text in [
        "198.51.100.2/24",
        "2001:db8:ffff::2/64",
        "default via 198.51.100.1 dev br1",
        "203.0.113.0/24 via 198.51.100.254 dev br1 proto static metric 50",
        "1 received",
    ] {
        assert!(own.contains(text), "{text}\n{own}");
    }
    // and back: its own file is its own again
    lab.config(CONFIG);
    let _ = lab.sync(&[]).ok();
    let back = "ip -br addr show eno1 | grep -F 198.51.100.2/24; ip route show default | grep 'dev eno1'";
    let _ = lab.wait_until("the uplink has its own network again", Duration::from_secs(10), back).ok();
    lab.sync_nothing();
    let _ = lab.sh("rm -r /etc/systemd/network/20-test-uplink.network.d; networkctl reload; ip addr del 198.51.100.1/24 dev lan").ok();
    let _ = lab.wait_until("as before", Duration::from_secs(10), "! ip route | grep -e default -e 203.0.113").ok();
    assert_unharmed(&lab);
}

/// By DHCP and router advertisements: the bridge takes them over with the drop-in that the message names.
fn uplink_with_leases_is_refused(suite: Suite) {
    let lab = Lab::new(suite);
    let _ = lab
        .sh("ip netns add t-lan; ip link add t-up type veth peer name eth0 netns t-lan
             ip -n t-lan addr add 10.55.0.1/24 dev eth0; ip -n t-lan addr add fd37::1/64 dev eth0 nodad; ip -n t-lan link set eth0 up")
        .ok();
    // by ifupdown or by hand: networkd does not know
    lab.config("[bridge.br0]\nuplinks = [\"t-up\"]\n");
    let _ = lab.sh("ip addr add 10.55.0.9/24 dev t-up; ip link set t-up up; ip route add default via 10.55.0.1").ok();
    let output = lab.sync(&[]).fails(2);
    let hints = "  hint: give it to the bridge: in [bridge.br0], write\n    addresses = [\"10.55.0.9/24\"]\n    gateways = [\"10.55.0.1\"]\n  \
                 hint: take it from where 't-up' is configured (/etc/network/interfaces, NetworkManager), or the next boot gives it back\n";
    assert!(output.stderr.contains(hints), "{output}");
    let _ = lab.sh("ip addr del 10.55.0.9/24 dev t-up").ok();
    lab.write_file("/etc/systemd/network/90-t-up.network", "[Match]\nName=t-up\n[Link]\nRequiredForOnline=no\n[Network]\nDHCP=ipv4\n");
    lab.write_file(
        "/etc/systemd/system/t-dhcpd.service",
        "[Service]\nNetworkNamespacePath=/run/netns/t-lan\nExecStart=/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv \
         --no-hosts --port=0 --user=root --pid-file= --interface=eth0 --bind-interfaces --dhcp-leasefile=/run/t-leases --dhcp-authoritative \
         --no-ping --dhcp-range=10.55.0.100,10.55.0.120,255.255.255.0,1h --dhcp-range=fd37::,ra-only,64,1h --enable-ra\n",
    );
    let _ = lab.sh("systemctl daemon-reload; networkctl reload").ok();
    lab.start(&["t-dhcpd"]);
    let leases =
        |link: &str| format!("ip -o addr show {link} dynamic | grep 'inet 10.55.0.1'; ip -o addr show {link} dynamic | grep 'inet6 fd37:'");
    let _ = lab.wait_until("the uplink has its leases", Duration::from_secs(20), &leases("t-up")).ok();
    lab.config("");
    lab.sync_nothing();
    lab.config("[bridge.br0]\nuplinks = [\"t-up\"]\n");
    let output = lab.sync(&[]).fails(2);
    let mac = lab.sh("cat /sys/class/net/t-up/address").ok().stdout;
    let (file, key) = ("/etc/systemd/network/10-netns-networkd-bridge-br0.network.d/uplink.conf", format!("mac = \"{}\"", mac.trim()));
    let settings = ["[Link]", "RequiredForOnline=yes", "[Network]", "DHCP=ipv4", "IPv6AcceptRA=yes", "LinkLocalAddressing=ipv6"];
    let wanted = format!(
        "error: /etc/netns-networkd/test.toml:1: uplink 't-up' has a network of its own (DHCP=ipv4, IPv6AcceptRA=yes); as a port of 'br0' it \
         would lose it, and so would this host\n  hint: give it to the bridge: in [bridge.br0], write\n    {key}\n  hint: the bridge asks in its \
         place when you write {file}:\n    {}\nerror: nothing was changed\n",
        settings.join("\n    ")
    );
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", wanted.as_str()));
    // routers come and go, so no fingerprint
    let _ = lab.sh("ls /etc/systemd/network/10-netns-networkd-* || ip link show br0").fails(1);

    lab.write_file(file, &settings.join("\n"));
    lab.config(&format!("[bridge.br0]\nuplinks = [\"t-up\"]\n{key}\n"));
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    let _ = lab.wait_until("the bridge has its leases", Duration::from_secs(20), &leases("br0")).ok();
    let _ = lab.sh("ip route show default | grep 'via 10.55.0.1 dev br0 proto dhcp'; ping -n -c 1 -W 2 10.55.0.1").ok();
    lab.sync_nothing();
    lab.systemctl(&["stop", "t-dhcpd"]);
    lab.config("");
    let _ = lab.sync(&[]).ok();
    let _ = lab
        .sh("ip link delete t-up; ip netns delete t-lan; rm -r /etc/systemd/network/*.d /etc/systemd/network/90-t-up.network /run/t-leases")
        .ok();
    let _ = lab.sh("networkctl reload").ok();
}

/// An uplink of no address joins; a station on its wire reaches the services by it.
fn uplink_joins_its_bridge(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    let _ = lab
        .sh("ip netns add t-lan; ip link add t-up type veth peer name eth0 netns t-lan
             ip -n t-lan addr add 10.54.0.9/24 dev eth0; ip -n t-lan addr add fd36::9/64 dev eth0 nodad; ip -n t-lan link set eth0 up")
        .ok();
    lab.config(
        "[bridge.br0]\nuplinks = [\"t-up\"]\naddresses = [\"10.54.0.1/24\", \"fd36::1/64\"]\n\
         [namespace.one]\nservices = [\"t-one\"]\ninterface.eth0 = { bridge = \"br0\", addresses = [\"10.54.0.2/24\", \"fd36::2/64\"] }\n",
    );
    lab.sync_changes(&[]);
    let member = lab.run(&["bridge", "link", "show", "dev", "t-up"]).ok().stdout;
    assert!(member.contains("master br0 state forwarding"), "{member}");
    lab.start(&["t-one"]);
    for address in ["10.54.0.2", "fd36::2"] {
        let answer = lab.sh(&format!("ip netns exec t-lan python3 /usr/local/lib/talk.py ask {address} 8000 who")).ok().stdout;
        assert!(answer.contains(&format!(" {address} ")), "{answer}");
    }
    lab.stop(&["t-one"]);
    let _ = lab.sh("ping -n -c 1 -W 2 10.54.0.9; ip netns exec t-lan ping -n -c 1 -W 2 10.54.0.1").ok();
    // taken out, it is no port any more, and else as it was; unless its file is an admin's by now
    let config = lab.read_file("/etc/netns-networkd/test.toml");
    let (file, port) = ("/etc/systemd/network/10-netns-networkd-uplink-t-up.network", "ip -br link show master br0 | grep t-up");
    let _ = lab.sh(&format!("echo '# mine' >>{file}")).ok();
    lab.config(&config.replace("\"t-up\"", ""));
    let said = lab.sync(&[]).ok();
    assert!(said.stderr.contains(&format!("{file} was changed by hand and is left alone")), "{said}");
    let _ = lab.sh(port).ok();
    let said = lab.sync_changes(&["--force"]);
    assert_eq!(said, format!("remove file {file}\nreload systemd-networkd\ntake link 't-up' from bridge 'br0'\n"));
    let _ = lab.sh(&format!("! {port}; ip -br link show up | grep t-up")).ok();
    lab.config(&config);
    lab.sync_changes(&[]);
    let _ = lab.sh(port).ok();
    lab.config("");
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    let _ = lab.sh("ip link show t-up; ip link delete t-up; ip netns delete t-lan").ok();
}

/// A link that the host is reached by, or that is a port already, is not moved into a namespace.
fn physical_link_in_use_is_refused(suite: Suite) {
    let lab = running(suite);
    let _ = lab.sh("ip link add t-br type bridge; ip link add t-up type veth peer name t-far; ip link set t-up master t-br").ok();
    let before = lab.fingerprint();
    for (parent, said) in [
        (
            "eno1",
            "has addresses of its own (198.51.100.2/24, 2001:db8:ffff::2/64); moved into a namespace it would take them from the host\n  hint: \
             take them from its .network file (`networkctl status eno1` names it), or choose kind = \"macvlan\"",
        ),
        (
            "t-up",
            "is a port of 't-br', which would lose it\n  hint: take it from there first, or make the interface a port, too: bridge = \"t-br\"",
        ),
    ] {
        lab.config(&format!("{CONFIG}[namespace.card.interface.eth0]\nkind = \"physical\"\nparent = \"{parent}\"\n"));
        let output = lab.sync(&[]).fails(2);
        let wanted = format!("error: /etc/netns-networkd/test.toml:10: link '{parent}' {said}\nerror: nothing was changed\n");
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", wanted.as_str()));
        assert_unchanged(&lab, &before, "sync failed");
    }
    let _ = lab.sh("ip link delete t-up; ip link delete t-br").ok();
    lab.config(CONFIG);
    lab.sync_nothing();
    assert_unharmed(&lab);
}

fn broken_record_is_an_error(suite: Suite) {
    let lab = running(suite);
    let record = "/var/lib/netns-networkd/netns/two.json";
    let text = lab.read_file(record);
    for broken in ["", "links = 5\n", "\u{1}\u{2}", &text[..text.len() / 2]] {
        lab.write_file(record, broken);
        let said = assert_fails_to_start(&lab, "t-two", "two");
        assert!(
            said.starts_with(&format!("error: failed to bring up netns 'two': {record} is broken"))
                && said.ends_with("  hint: `netns-networkd sync --force` writes it again\n"),
            "{broken:?}: {said}"
        );
    }
    let output = lab.sync(&["--force"]).ok();
    assert_eq!((output.stdout, output.stderr), (format!("change file {record}\n"), String::new()));
    lab.start(&["t-two"]);
    assert_unharmed(&lab);
    // of what is applied: down still takes away what it can
    lab.write_file("/run/netns-networkd/netns/two.json", "broken");
    lab.stop(&["t-two"]);
    assert_eq!(lab.sh("ls -d /run/netns/two").stdout, "");
    lab.systemctl(&["reset-failed"]);
    lab.start(&["t-two"]);
    lab.assert_answers("10.50.0.3", "8000");
    // the manifest
    let manifest = "/var/lib/netns-networkd/manifest.toml";
    let text = lab.read_file(manifest);
    lab.write_file(manifest, "broken");
    let before = lab.fingerprint();
    let output = lab.sync(&[]).fails(1);
    assert!(output.stderr.starts_with(&format!("error: {manifest} is broken")) && output.stderr.contains("hint: move it away"), "{output}");
    lab.assert_unchanged(&before);
    assert_unharmed(&lab);
    lab.write_file(manifest, &text);
    lab.sync_nothing();
}

fn name_in_run_netns_is_taken(suite: Suite) {
    let lab = running(suite);
    // by somebody's namespace: not ours to take
    let _ = lab.run(&["ip", "netns", "add", "two"]).ok();
    let theirs = lab.named_netns("two");
    let _ = lab.run(&["systemctl", "start", "t-two"]).fails(1);
    let said = lab.journal(&["netns@two"]);
    assert!(said.contains("/run/netns/two exists and was not made by netns-networkd\n  hint: if nothing needs it, remove it with `ip netns delete two`, then start the service again\n"), "{said}");
    assert_eq!(lab.named_netns("two"), theirs, "it is still there");
    let output = lab.run(&["netns-networkd", "down", "two"]).fails(1);
    assert_eq!(output.stderr, "error: failed to take down netns 'two': /run/netns/two exists and was not made by netns-networkd\n");
    assert_eq!(lab.named_netns("two"), theirs, "it is still there");
    let _ = lab.run(&["ip", "netns", "delete", "two"]).ok();
    // by a plain file, as a crash of `ip netns add` leaves it: not a namespace
    let _ = lab.sh("systemctl reset-failed; touch /run/netns/two").ok();
    lab.start(&["t-two"]);
    lab.assert_answers("10.50.0.3", "8000");
    lab.stop(&["t-two"]);
    assert_eq!(lab.sh("ls /run/netns").ok().stdout, "one\n");
    // deleted behind our back: the service keeps its namespace, and the next start makes a new one
    lab.start(&["t-two"]);
    let _ = lab.run(&["ip", "netns", "delete", "two"]).ok();
    lab.assert_answers("10.50.0.3", "8000");
    lab.stop(&["t-two"]);
    lab.start(&["t-two"]);
    lab.assert_answers("fd32::3", "8000");
    assert_unharmed(&lab);
}

fn host_end_name_is_taken(suite: Suite) {
    let lab = running(suite);
    let _ = lab.run(&["ip", "link", "add", "two-eth0", "type", "veth", "peer", "name", "t-theirs"]).ok();
    let said = assert_fails_with(&lab);
    assert!(
        said.contains("failed to add link 'eth0' with host end 'two-eth0' on bridge 'br0': kernel: ") && said.contains("exists"),
        "{said}"
    );
    let _ = lab.sh("ip link show two-eth0; ip link delete two-eth0").ok();
    lab.start(&["t-two"]);
    lab.assert_answers("fd32::3", "8000");
    assert_unharmed(&lab);
}

/// Like [`assert_fails_to_start`], but a link of the host end's name is somebody else's.
#[track_caller]
fn assert_fails_with(lab: &Lab) -> String {
    let _ = lab.run(&["systemctl", "start", "t-two"]).fails(1);
    assert_eq!(lab.sh("ls -d /run/netns/two /run/netns-networkd/netns/two.json").stdout, "", "left behind");
    let said = lab.journal(&["netns@two"]);
    lab.systemctl(&["reset-failed"]);
    said
}

fn unit_that_does_not_exist_is_reported(suite: Suite) {
    let lab = Lab::new(suite);
    lab.config(CONFIG);
    let output = lab.sync(&[]).ok();
    let warning = |one: &str| format!("warning: t-{one}.service of netns '{one}' is not-found: its drop-in waits for it\n");
    assert_eq!(output.stderr, warning("one") + &warning("two"));
    // said when it was done, not for ever
    lab.sync_nothing();
    lab.services(&[("t-one.service", "8000"), ("t-two.service", "8000")]);
    lab.start(&["t-one"]);
    assert_unharmed(&lab);
    lab.sync_nothing();
}
