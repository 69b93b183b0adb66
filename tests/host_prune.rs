//! `prune` on booted hosts: what is nobody's goes, and nothing else does.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        namespaces_that_nobody_needs_go,
        what_is_in_use_stays,
        what_left_the_configuration_while_it_was_stopped_goes,
        host_ends_without_a_namespace_go,
        files_that_runs_have_left_go,
        prune_does_nothing_when_it_must_not,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const BOX: &str = "[namespace.box]\nservices = [\"t-svc\"]\ndns = [\"10.90.0.1\"]\n\
                   interface.eth0 = { bridge = \"br0\", addresses = [\"10.90.0.2/24\", \"fd5a::2/64\"] }\n";
const OTHER: &str = "[namespace.other]\nservices = [\"t-other\"]\ninterface.eth0 = { bridge = \"br0\", addresses = [\"10.90.0.3/24\"] }\n";
const BRIDGE: &str = "[bridge.br0]\naddresses = [\"10.90.0.1/24\", \"fd5a::1/64\"]\n";

/// t-svc does not run, t-other does in its namespace; a stranger's namespace and links are there, too.
fn lab(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    // what tests before this one have left on this host
    let _ = lab.run(&["netns-networkd", "prune"]).ok();
    lab.services(&[("t-svc.service", "8000"), ("t-other.service", "8000")]);
    lab.config(&format!("{BRIDGE}{BOX}{OTHER}"));
    lab.sync_changes(&[]);
    lab.start(&["t-other"]);
    let _ = lab
        .sh("ip netns add t-theirs; ip link add t-veth type veth peer name eth0 netns t-theirs; ip link add t-br type bridge
             ip link add box-eth1 master br0 type veth peer name t-peer")
        .ok();
    lab
}

/// Ends a test: nothing is left to prune, what is others' is there, and t-other has noticed nothing.
#[track_caller]
fn end(lab: &Lab) {
    assert_nothing(lab);
    lab.assert_answers("10.90.0.3", "8000");
    let _ = lab
        .sh("ip netns exec t-theirs ip link show eth0; ip link del t-veth; ip link del t-br; ip link del box-eth1; ip netns del t-theirs")
        .ok();
    // and all works as before
    lab.config(&format!("{BRIDGE}{BOX}{OTHER}"));
    let _ = lab.sync(&[]).ok();
    lab.start(&["t-svc"]);
    lab.assert_answers("fd5a::2", "8000");
    lab.sync_nothing();
    lab.stop(&["t-svc", "t-other"]);
}

#[track_caller]
fn prune(lab: &Lab, arguments: &[&str], code: i32) -> (String, String) {
    let output = lab.run(&[&["netns-networkd", "prune"], arguments].concat()).fails(code);
    (output.stdout, output.stderr)
}

/// Every file that could go, links and units. (What is in namespaces cannot be listed where a file of that name is none.)
#[track_caller]
fn snapshot(lab: &Lab) -> String {
    let script = "cd /; find etc/systemd/{network,system} etc/netns var/lib/netns-networkd run/netns run/netns-networkd -printf '%p %i %T@\\n' | sort
        ip -br link | sort; systemctl list-units --all --plain --no-legend 't-*' 'netns*'";
    lab.sh(script).ok().stdout
}

/// Asserts that there is nothing to prune, and that this changes nothing.
#[track_caller]
fn assert_nothing(lab: &Lab) {
    let before = snapshot(lab);
    for arguments in [&["--dry-run"][..], &[]] {
        assert_eq!(prune(lab, arguments, 0), (String::new(), String::new()));
    }
    assert_eq!(snapshot(lab), before);
}

/// Asserts that these lines go, first in a dry run, which changes nothing.
#[track_caller]
fn assert_prunes(lab: &Lab, lines: &[&str]) {
    let before = snapshot(lab);
    let text = |start: &str| lines.iter().map(|line| format!("{start}{line}\n")).collect::<Vec<_>>().concat();
    assert_eq!(prune(lab, &["--dry-run"], 3), (text("would "), String::new()));
    assert_eq!(snapshot(lab), before);
    assert_eq!(prune(lab, &[], 0), (text(""), String::new()));
    assert_nothing(lab);
}

#[track_caller]
fn assert_gone(lab: &Lab) {
    let left = lab.sh("ls /run/netns /run/netns-networkd/netns | grep box || true; ls -d /sys/class/net/box-eth0 2>/dev/null || true");
    assert_eq!(left.ok().stdout, "");
}

fn namespaces_that_nobody_needs_go(suite: Suite) {
    let lab = lab(suite);
    let goes = ["remove network namespace 'box'"];

    // `up` was killed: with spanning tree it waits until the port forwards
    let _ = lab.sh("ip link set br0 type bridge stp_state 1").ok();
    let _ = lab.sh("systemctl start --no-block t-svc").ok();
    let _ = lab.wait_until("up waits for its port", SECONDS, "ip -n box -o addr show dev eth0 | grep 10.90.0.2");
    let _ = lab.sh("systemctl kill -s STOP netns@box").ok();
    // who is at it needs it
    assert_eq!(prune(&lab, &[], 0), (String::new(), String::new()));
    let _ = lab.sh("systemctl kill -s KILL netns@box").ok();
    let _ = lab.wait_until("it has been killed", SECONDS, "systemctl is-failed netns@box && ls /run/netns/box");
    let _ = lab.sh("ip link set br0 type bridge stp_state 0").ok();
    assert_prunes(&lab, &goes);
    assert_gone(&lab);

    // `down` failed
    lab.start(&["t-svc"]);
    let _ = lab.sh("mount -o remount,bind,ro /run/netns").ok();
    lab.stop(&["t-svc"]);
    let _ = lab.wait_until("it has failed", SECONDS, "systemctl is-failed netns@box && ls /run/netns/box");
    let _ = lab.sh("mount -o remount,bind,rw /run/netns; systemctl reset-failed").ok();
    assert_prunes(&lab, &goes);
    assert_gone(&lab);

    // the file of its unit has gone, and with it whatever would stop it
    lab.start(&["t-svc"]);
    let unit = "/usr/lib/systemd/system/netns@.service";
    let _ = lab.sh(&format!("mv {unit} /var/tmp/t-unit; systemctl daemon-reload")).ok();
    assert_eq!(prune(&lab, &[], 0), (String::new(), String::new()), "t-svc runs in it");
    lab.systemctl(&["stop", "t-svc"]);
    assert_eq!(lab.property("netns@box", "ActiveState"), "active");
    assert_prunes(&lab, &goes);
    let _ = lab.sh(&format!("mv /var/tmp/t-unit {unit}; systemctl daemon-reload")).ok();
    lab.wait_gone();
    assert_gone(&lab);
    end(&lab);
}

fn what_is_in_use_stays(suite: Suite) {
    let lab = lab(suite);
    // of a unit, out of the configuration or not
    lab.config(BRIDGE);
    let before = snapshot(&lab);
    let wanted = "remove file /etc/netns/box/nsswitch.conf remove file /etc/netns/box/resolv.conf";
    let (said, _) = prune(&lab, &["--dry-run"], 3);
    assert!(
        !said.contains("other")
            && said.lines().take(2).map(|line| &line["would ".len()..]).eq(wanted.split_inclusive("nsswitch.conf ").map(str::trim)),
        "{said}"
    );
    assert_eq!(snapshot(&lab), before);
    lab.config(&format!("{BRIDGE}{BOX}{OTHER}"));

    // of a process, whoever started it
    let _ = lab.sh("netns-networkd up box; setsid nsenter --net=/run/netns/box sleep 3000 >/dev/null 2>&1 & disown").ok();
    let _ = lab.wait_until("it is inside", SECONDS, "test -n \"$(ip netns pids box)\"");
    let pid = lab.sh("ip netns pids box").ok().stdout;
    let warning = format!("warning: netns 'box' is needed by no unit and stays, for processes are in it: sleep (PID {})\n", pid.trim());
    let before = snapshot(&lab);
    assert_eq!(prune(&lab, &["--dry-run"], 0), (String::new(), warning.clone()));
    assert_eq!(prune(&lab, &[], 0), (String::new(), warning));
    assert_eq!(snapshot(&lab), before);
    // also when it has lost its name
    let _ = lab.sh("ip netns delete box").ok();
    assert_eq!(
        prune(&lab, &[], 0),
        (String::new(), "warning: netns 'box' is needed by no unit and stays, for processes are in it\n".to_owned())
    );
    let _ = lab.sh("nsenter -t $(pgrep -f '^sleep 3000') -n ping -n -c 1 -W 2 10.90.0.1; pkill -f '^sleep 3000'").ok();
    let _ = lab.wait_until("its pair has gone with it", SECONDS, "! ip link show box-eth0");
    assert_prunes(&lab, &["remove network namespace 'box'"]);

    // a bridge that somebody else's link is on
    lab.config("");
    let (said, warning) = prune(&lab, &["--dry-run"], 3);
    assert!(!said.contains("br0") && warning.is_empty(), "t-other needs it: {said}{warning}");
    lab.stop(&["t-other"]);
    let (said, warning) = prune(&lab, &[], 0);
    assert!(said.contains("port-other-eth0") && !said.contains("br0"), "{said}");
    assert_eq!(
        warning,
        "warning: bridge 'br0' is no longer in the configuration and stays for `netns-networkd sync`: it has ports (box-eth1)\n"
    );
    lab.config(&format!("{BRIDGE}{BOX}{OTHER}"));
    let _ = lab.sync(&[]).ok();
    lab.start(&["t-other"]);
    end(&lab);
}

fn what_left_the_configuration_while_it_was_stopped_goes(suite: Suite) {
    let lab = lab(suite);
    // it is there, too, for a run has left it
    let _ = lab.run(&["netns-networkd", "up", "box"]).ok();
    lab.config(&format!("{BRIDGE}{OTHER}[bridge.br1]\n"));
    assert_prunes(
        &lab,
        &[
            "remove network namespace 'box'",
            "remove file /etc/netns/box/nsswitch.conf",
            "remove file /etc/netns/box/resolv.conf",
            "remove file /etc/systemd/network/10-netns-networkd-port-box-eth0.network",
            "remove file /var/lib/netns-networkd/netns/box.json",
            "reload systemd-networkd",
            "remove file /etc/systemd/system/t-svc.service.d/50-netns-networkd.conf",
            "reload systemd",
        ],
    );
    assert_gone(&lab);
    // what the configuration asks for is for sync
    assert_eq!(lab.sh("ls /etc/systemd/network").ok().stdout.lines().count(), 3);
    assert!(lab.sync_changes(&[]).contains("add file /etc/systemd/network/10-netns-networkd-bridge-br1.netdev\n"));
    // a bridge that nobody uses
    lab.config(&format!("{BRIDGE}{OTHER}"));
    assert_prunes(
        &lab,
        &[
            "remove file /etc/systemd/network/10-netns-networkd-bridge-br1.netdev",
            "remove file /etc/systemd/network/10-netns-networkd-bridge-br1.network",
            "reload systemd-networkd",
            "remove bridge 'br1'",
        ],
    );
    lab.sync_nothing();
    // an edited file is somebody's
    let record = "/var/lib/netns-networkd/netns/other.json";
    lab.stop(&["t-other"]);
    let _ = lab.sh(&format!("echo '# by hand' >>{record}")).ok();
    lab.config(BRIDGE);
    let (said, warning) = prune(&lab, &[], 0);
    assert!(said.starts_with("remove file /etc/systemd/network/10-netns-networkd-port-other-eth0.network\n"), "{said}");
    assert_eq!(warning, format!("warning: {record} was changed by hand and is left alone: `netns-networkd sync --force` replaces it\n"));
    let _ = lab.run(&["rm", record]).ok();
    lab.config(&format!("{BRIDGE}{BOX}{OTHER}"));
    let _ = lab.sync(&[]).ok();
    lab.start(&["t-other"]);
    end(&lab);
}

/// Known by name and MAC address alone: nothing else is left of their namespace.
fn host_ends_without_a_namespace_go(suite: Suite) {
    let lab = lab(suite);
    let _ = lab.run(&["netns-networkd", "up", "box"]).ok();
    // moved where no namespace takes it away
    let _ = lab.sh("ip -n box link set eth0 netns t-theirs name moved; rm /run/netns-networkd/netns/box.*; ip netns delete box").ok();
    assert_prunes(&lab, &["remove host end 'box-eth0' of netns 'box'"]);
    assert_gone(&lab);
    // a stranger's of that name has another address
    let _ = lab.sh("ip link add box-eth0 type veth peer name t-other").ok();
    assert_nothing(&lab);
    let _ = lab.run(&["ip", "link", "del", "box-eth0"]).ok();
    // and who is in a namespace without a name needs it
    let _ = lab.sh("netns-networkd up box; setsid nsenter --net=/run/netns/box sleep 3000 >/dev/null 2>&1 & disown").ok();
    let _ = lab.wait_until("it is inside", SECONDS, "test -n \"$(ip netns pids box)\"");
    let _ = lab.sh("ip netns delete box; rm /run/netns-networkd/netns/box.*").ok();
    assert_nothing(&lab);
    let _ = lab.sh("nsenter -t $(pgrep -f '^sleep 3000') -n ping -n -c 1 -W 2 10.90.0.1; pkill -f '^sleep 3000'").ok();
    let _ = lab.wait_until("its pair has gone with it", SECONDS, "! ip link show box-eth0");
    end(&lab);
}

fn files_that_runs_have_left_go(suite: Suite) {
    let lab = lab(suite);
    let state = "/var/lib/netns-networkd";
    let files = [
        "/run/netns-networkd/netns/box.nft".to_owned(),
        "/run/netns-networkd/netns/.box.json.netns-networkd-new".to_owned(),
        "/run/netns-networkd/netns/box.lock".to_owned(),
        "/run/netns/box".to_owned(),
        "/etc/netns/old/resolv.conf".to_owned(),
        format!("{state}/netns/old.nft"),
        format!("{state}/netns/old.json"),
        format!("{state}/dhcp/old.conf"),
        "/run/netns-networkd/held/old".to_owned(),
        "/etc/systemd/network/.a.network.netns-networkd-new".to_owned(),
        format!("{state}/.manifest.toml.netns-networkd-new"),
        "/run/netns-networkd/places/.t-svc.service.netns-networkd-new".to_owned(),
        "/etc/systemd/system/t-svc.service.d/.50-netns-networkd.conf.netns-networkd-new".to_owned(),
        "/etc/netns/box/.resolv.conf.netns-networkd-new".to_owned(),
        "/etc/systemd/system/multi-user.target.wants/netns-networkd-rollback.service".to_owned(),
    ];
    let folders = [format!("{state}/rollback"), format!("{state}/dhcp/old"), "/run/netns-networkd/dhcp/old".to_owned()];
    let of_others =
        ["/etc/netns/old/hosts", "/etc/systemd/network/99-netns-networkd.network", "/etc/systemd/system/t-svc.service.d/override.conf"];
    let make = |list: &[String], what: &str| {
        list.iter().map(|path| format!("mkdir -p $(dirname {path}); {what} {path}\n")).collect::<Vec<_>>().concat()
    };
    let script = make(&files, "touch") + &make(&folders, "mkdir -p") + &make(&of_others.map(str::to_owned), "touch");
    let _ = lab.sh(&script).ok();
    let _ = lab.sh(&format!("touch {state}/rollback/0 {state}/dhcp/old/eth0.lease /run/netns-networkd/dhcp/old/eth0.dhcp.lease.toml")).ok();
    lab.write_file("/etc/netns/old/resolv.conf", &netns_networkd::lease::resolv_conf(std::iter::empty()));
    let before = snapshot(&lab);
    let (said, _) = prune(&lab, &["--dry-run"], 3);
    assert_eq!(snapshot(&lab), before);
    let mut got: Vec<&str> = said.lines().collect();
    got.sort_unstable();
    let files = files.iter().map(|path| format!("would remove file {path}"));
    let mut wanted: Vec<String> = files.chain(folders.iter().map(|path| format!("would remove folder {path}"))).collect();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    assert_eq!(prune(&lab, &[], 0).0, said.replace("would ", ""));
    assert_nothing(&lab);
    let _ = lab.sh("touch /run/netns/t-file").ok();
    assert_eq!(prune(&lab, &[], 0), (String::new(), String::new()));
    let _ = lab.sh(&format!("rm /run/netns/t-file; ls {others}; rm -r {others} /etc/netns/old", others = of_others.join(" "))).ok();
    lab.sync_nothing();
    end(&lab);
}

fn prune_does_nothing_when_it_must_not(suite: Suite) {
    let lab = lab(suite);
    let _ = lab.run(&["netns-networkd", "up", "box"]).ok();
    let refused = |before: &str, code: i32, wanted: &str| {
        for arguments in [&["--dry-run"][..], &[]] {
            let (said, error) = prune(&lab, arguments, code);
            assert!(said.is_empty() && error.contains(wanted), "{error}");
        }
        assert_eq!(snapshot(&lab), before);
    };
    // who does not know the configuration does not know what is nobody's
    let text = lab.read_file("/etc/netns-networkd/test.toml");
    lab.config("[namespace.box");
    refused(&snapshot(&lab), 2, "error: ");
    lab.config(&text);
    let _ = lab.sh("sed -i '1i unfinished = true' /var/lib/netns-networkd/manifest.toml").ok();
    refused(&snapshot(&lab), 1, "hint: run `netns-networkd sync` first");
    let _ = lab.sh("sed -i 1d /var/lib/netns-networkd/manifest.toml; mkdir /var/lib/netns-networkd/rollback").ok();
    lab.write_file("/var/lib/netns-networkd/rollback/snapshot.toml", "");
    refused(&snapshot(&lab), 2, "wait to be confirmed");
    let _ = lab.sh("rm -r /var/lib/netns-networkd/rollback").ok();
    let output = lab.run(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "netns-networkd", "prune"]).fails(1);
    assert_eq!(output.stderr, "error: prune has to see everybody's processes, which only root can do\n");
    // somebody is at work on it
    let held = lab.sh("exec 9>/run/netns-networkd/netns/other2.lock; flock 9; netns-networkd prune --dry-run").fails(3);
    assert_eq!(held.stdout, "would remove network namespace 'box'\n");
    let _ = lab.run(&["rm", "/run/netns-networkd/netns/other2.lock"]).ok();
    assert_prunes(&lab, &["remove network namespace 'box'"]);
    end(&lab);
}
