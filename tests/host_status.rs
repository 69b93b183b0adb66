//! `status` and `list` on booted hosts: they show what is there and what differs, in whatever state the host is, and change nothing.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netns_networkd::report::{AddressState, LinkState, NetnsState, Report};

use crate::common::{Lab, Output, Shell, Suite, diff, schema};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        status_shows_what_is_there_and_changes_nothing,
        drift_of_each_kind_is_shown_until_sync,
        what_waits_and_what_is_left_is_shown,
        a_faulty_configuration_hides_nothing,
        what_cannot_be_seen_is_said,
        a_namespace_that_comes_up_keeps_nobody_waiting,
        a_namespace_that_is_changed_is_not_compared,
        terminals_get_colours_and_their_width,
        json_of_each_command_is_as_its_schema_says,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.40.0.1/24", "fd40::1/64"]

[namespace.web]
description = "the web"
services = ["t-web"]
dns = ["10.40.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.40.0.2/24", "fd40::2/64"], gateways = ["10.40.0.1", "fd40::1"] }

[namespace.idle]
services = ["t-idle"]
interface.eth0 = { bridge = "br0", mac = "02:00:5e:00:00:07", addresses = ["10.40.0.3/24"] }
"#;
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A host with two namespaces, one of which runs.
fn web(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-idle.service", "8001")]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab.start(&["t-web"]);
    let settled = "networkctl --no-legend list web-eth0 | grep ' configured'; ! ip address show br0 | grep tentative";
    let _ = lab.wait_until("networkd has settled", SECONDS, settled);
    lab
}

fn status(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(&[&["netns-networkd", "status"], arguments].concat())
}

/// Returns what `status --json` says, with this exit code.
#[track_caller]
fn report(lab: &Lab, code: i32, arguments: &[&str]) -> Report {
    let output = status(lab, &[&["--json"], arguments].concat()).fails(code);
    assert_eq!(output.stderr, "");
    schema::conforms("status", &output.stdout);
    let report: Report = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report.ok, code == 0, "{output}");
    report
}

fn drift(report: &Report) -> Vec<&str> {
    report.drift.iter().map(|drift| drift.change.as_str()).collect()
}

/// Takes out what differs from host to host.
fn without_numbers(lab: &Lab, text: &str) -> String {
    let mac =
        |link: &str, netns: &str| lab.sh(&format!("ip {netns} -br link show {link} | awk '{{ print $3 }}'")).ok().stdout.trim().to_owned();
    let link_local = |link: &str, netns: &str| {
        lab.sh(&format!("ip {netns} -6 -br addr show {link} scope link | awk '{{ print $3 }}'")).ok().stdout.trim().to_owned()
    };
    let pid = lab.property("t-web", "MainPID");
    text.replace(&mac("br0", ""), "MAC-OF-BR0")
        .replace(&mac("eth0", "-n web"), "MAC-OF-ETH0")
        .replace(&link_local("br0", ""), "fe80::br0")
        .replace(&link_local("eth0", "-n web"), "fe80::eth0")
        .replace(&format!("PID {pid}"), "PID 1")
}

fn status_shows_what_is_there_and_changes_nothing(suite: Suite) {
    let lab = web(suite);
    let before = lab.fingerprint();
    let shown = status(&lab, &[]).ok();
    let wanted = "\
● as configured: 2 namespaces, 1 up, 1 down

● bridge br0: up, MTU 1500, MAC-OF-BR0
  addresses  10.40.0.1/24
             fd40::1/64
             fe80::br0  link-local
  ports      web-eth0  eth0 of web

○ netns idle: down
  /etc/netns-networkd/test.toml:11
  units  t-idle.service  inactive
  eth0   idle-eth0 on br0, MTU 1500, 02:00:5e:00:00:07
         10.40.0.3/24

● netns web: up
  the web
  /etc/netns-networkd/test.toml:5
  units  t-web.service  active (running)  PID 1
  eth0   up, web-eth0 on br0, MTU 1500, MAC-OF-ETH0
         10.40.0.2/24
         fd40::2/64
         fe80::eth0  link-local
         default via 10.40.0.1
         default via fd40::1
";
    // columns are as wide as what is in them
    let squeezed =
        |text: &str| text.lines().map(|line| line.split("  ").filter(|w| !w.is_empty()).collect::<Vec<_>>().join("  ") + "\n").collect();
    let (shown_words, wanted_words): (String, String) = (squeezed(&without_numbers(&lab, &shown.stdout)), squeezed(wanted));
    assert!(shown_words == wanted_words && shown.stderr.is_empty(), "{}{}", diff(&wanted_words, &shown_words), shown.stderr);
    assert_eq!(
        lab.run(&["netns-networkd", "list"]).ok().stdout,
        "idle  down  0 of 1 units  br0  10.40.0.3/24\nweb   up    1 of 1 units  br0  10.40.0.2/24 fd40::2/64\n"
    );
    let one = status(&lab, &["idle"]).ok().stdout;
    assert!(one.contains("netns idle:") && one.contains("bridge br0:") && !one.contains("netns web"), "{one}");
    let unknown = status(&lab, &["wep"]).fails(2);
    assert_eq!(unknown.stderr, "error: there is no [namespace.wep] in the configuration\n  hint: did you mean 'web'?\n");
    for command in ["status", "list", "status --json", "status web", "list --json"] {
        let command: Vec<&str> = std::iter::once("netns-networkd").chain(command.split(' ')).collect();
        let _ = lab.run(&command).ok();
        let _ = lab.run(&[&NOBODY, command.as_slice()].concat()).ok();
    }
    lab.assert_unchanged(&before);
    // what an admin binds by hand, and what keeps a namespace up, are units of it too
    lab.units(&[(
        "t-hand.service",
        "serve 8002",
        "NetworkNamespacePath=/run/netns/web\n[Unit]\nBindsTo=netns@web.service\nAfter=netns@web.service",
    )]);
    lab.start(&["t-hand", "netns-hold@web"]);
    let shown = status(&lab, &["web"]).ok().stdout;
    let pid = lab.property("t-hand", "MainPID");
    for line in
        [&format!("t-hand.service          active (running)  bound by hand, PID {pid}\n"), "netns-hold@web.service  active (exited)\n"]
    {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    lab.systemctl(&["stop", "t-hand", "netns-hold@web"]);
    let _ = lab.sh("setsid netns-networkd exec web -- sleep 60 >/dev/null 2>&1 & echo $! >/run/t-pid; disown").ok();
    let _ = lab.wait_until("exec is shown", SECONDS, "netns-networkd status web | grep 'netns-exec-web-[0-9]*\\.scope *active (running)'");
    let _ = lab.sh("kill $(cat /run/t-pid); rm /run/t-pid").ok();
}

fn drift_of_each_kind_is_shown_until_sync(suite: Suite) {
    let lab = web(suite);
    let breaks = [
        (
            "rm /etc/systemd/system/t-idle.service.d/50-netns-networkd.conf",
            "add file /etc/systemd/system/t-idle.service.d/50-netns-networkd.conf",
        ),
        ("rm /var/lib/netns-networkd/netns/web.json", "add file /var/lib/netns-networkd/netns/web.json"),
        ("ip address del 10.40.0.1/24 dev br0", "link 'br0': add address 10.40.0.1/24"),
        ("ip -n web route del default via 10.40.0.1", "add route IPv4 default via 10.40.0.1 to link 'eth0' in netns 'web'"),
        ("ip -n web address del 10.40.0.2/24 dev eth0", "add address 10.40.0.2/24 to link 'eth0' in netns 'web'"),
        ("ip -n web link set eth0 mtu 1400", "set MTU of link 'eth0' and host end 'web-eth0' to 1500 in netns 'web'"),
        ("ip netns exec web sysctl -qw net.ipv4.conf.default.arp_notify=0", "set net.ipv4.conf.default.arp_notify to 1 in netns 'web'"),
        ("ip -n web link set eth0 down", "set link 'eth0' and host end 'web-eth0' up in netns 'web'"),
        (
            "mkdir -p /run/systemd/system/t-idle.service.d; cd /run/systemd/system/t-idle.service.d
             printf '[Service]\\nNetworkNamespacePath=/proc/1/ns/net\\n' >60-other.conf; systemctl daemon-reload",
            "bind t-idle.service to netns 'idle'",
        ),
    ];
    for (break_it, _) in breaks {
        let _ = lab.sh(break_it).ok();
    }
    let found = report(&lab, 3, &[]);
    let text = status(&lab, &[]).fails(3).stdout;
    assert!(text.starts_with("! "), "{text}");
    for (_, change) in breaks {
        assert!(drift(&found).contains(&change), "{change} is not in {:#?}", found.drift);
        let words = change.strip_suffix(" in netns 'web'").unwrap_or(change);
        assert!(text.contains(words), "{change}\n{text}");
    }
    assert!(found.namespaces.iter().all(|netns| netns.changed_since_sync == Some(false)), "{found:#?}");
    let eth0 = &found.namespaces[1].interfaces[0];
    assert_eq!((eth0.state, eth0.addresses[0].state), (LinkState::Down, AddressState::Absent), "{eth0:#?}");
    let list = lab.run(&["netns-networkd", "list"]).fails(3);
    assert!(list.stdout.starts_with("idle  down, 2 differences  0 of 1 units"), "{list}");
    assert_eq!(list.stderr, "warning: not all is as configured: `netns-networkd status` shows what\n");
    // networkd does not look after the addresses of a link whose file has not changed
    let _ = lab.sh("rm -r /run/systemd/system/t-idle.service.d; systemctl daemon-reload; networkctl reconfigure br0").ok();
    let has_address = "ip address show br0 | grep -F 10.40.0.1/24; ! ip address show br0 | grep tentative";
    let _ = lab.wait_until("the bridge has its address", SECONDS, has_address);
    let _ = lab.sync(&[]).ok();
    assert_eq!(drift(&report(&lab, 0, &[])), [""; 0]);
    // a file that somebody edited is drift, too, and is not mended
    let _ = lab.sh("echo '# by hand' >>/etc/netns/web/resolv.conf").ok();
    let found = report(&lab, 3, &[]);
    assert!(found.drift.len() == 1 && found.drift[0].left_alone && found.drift[0].change.contains("was changed by hand"), "{found:#?}");
    let _ = lab.sync(&["--force"]).ok();
    // the configuration changed: the record, a service, and nothing of the other one
    lab.config(&CONFIG.replace("10.40.0.2/24", "10.40.0.22/24"));
    let found = report(&lab, 3, &[]);
    let changed: Vec<_> = found.namespaces.iter().map(|netns| (netns.name.as_str(), netns.changed_since_sync)).collect();
    assert_eq!(changed, [("idle", Some(false)), ("web", Some(true))]);
    let addresses: Vec<_> = found.namespaces[1].interfaces[0].addresses.iter().map(|a| (a.address.to_string(), a.state)).collect();
    assert_eq!(addresses[0], ("10.40.0.22/24".to_owned(), AddressState::Absent));
    assert!(addresses.contains(&("10.40.0.2/24".to_owned(), AddressState::Usable)), "{addresses:?}");
    assert_eq!(report(&lab, 0, &["idle"]).namespaces.len(), 1, "the other one is as it should be");
    // what a service adds is no drift
    lab.config(CONFIG);
    let _ = lab.sh("ip -n web address add 10.40.0.77/24 dev eth0; ip -n web link add mine type veth").ok();
    let text = status(&lab, &[]).ok().stdout;
    assert!(
        text.contains("10.40.0.77/24") && text.contains("of others\n") && text.contains("down, not of the configuration, veth"),
        "{text}"
    );
    let _ = lab.run(&["ip", "-n", "web", "link", "delete", "mine"]).ok();
}

fn what_waits_and_what_is_left_is_shown(suite: Suite) {
    let lab = web(suite);
    // a service that runs is adopted, another one's namespace goes
    lab.services(&[("t-new.service", "8003")]);
    lab.start(&["t-new"]);
    let moved = CONFIG.replace("\"t-idle\"", "\"t-idle\", \"t-new\"");
    lab.config(&moved);
    let _ = lab.sync(&[]).ok();
    let found = report(&lab, 3, &[]);
    assert_eq!(drift(&found), [""; 0]);
    let waits = &found.pending[0];
    assert_eq!((waits.netns.as_ref().unwrap().as_str(), waits.unit.as_ref().unwrap().as_str()), ("idle", "t-new.service"));
    let text = status(&lab, &["idle"]).fails(3).stdout;
    assert!(text.starts_with("! 1 restart is pending:\n    idle  t-new.service still runs on the host"), "{text}");
    assert!(text.contains("t-new.service   active (running)  on the host, PID "), "{text}");
    lab.systemctl(&["restart", "t-new"]);
    let _ = lab.sync(&[]).ok();
    let _ = report(&lab, 0, &[]);

    let (without_web, idle) = (moved.find("[namespace.web]").unwrap(), moved.find("[namespace.idle]").unwrap());
    lab.config(&format!("{}{}", &moved[..without_web], &moved[idle..]));
    for _ in 0..2 {
        let found = report(&lab, 3, &[]);
        let web = found.namespaces.iter().find(|netns| netns.name.as_str() == "web").unwrap();
        assert_eq!((web.state, web.configured, web.seen), (NetnsState::Up, false, true));
        assert!(found.orphans.iter().any(|orphan| orphan.name == "web"), "{found:#?}");
        let text = status(&lab, &["web"]).fails(3).stdout;
        assert!(text.contains("left over:\n    namespace  web") && text.contains("netns web: up, not in the configuration"), "{text}");
        assert!(text.contains("10.40.0.2/24") && text.contains("active (running)"), "what is there is shown\n{text}");
        // before the next sync and after it
        let _ = lab.sync(&[]).ok();
    }
    lab.stop(&["t-web"]);
    let _ = lab.wait_until("sync has ended its hold and removed what is left", SECONDS, "! netns-networkd sync | grep .");
    let _ = report(&lab, 0, &[]);
    lab.stop(&["t-new"]);
    lab.config(&moved[..without_web]);
    let found = report(&lab, 3, &[]);
    let record = "/var/lib/netns-networkd/netns/idle.json";
    assert!(found.orphans.iter().any(|orphan| orphan.name == record), "{found:#?}");
    let text = status(&lab, &["idle"]).fails(3).stdout;
    assert!(text.contains("! netns idle: down, not in the configuration") && text.contains("10.40.0.3/24"), "by its record\n{text}");
    lab.sync_changes(&[]);
    let _ = report(&lab, 0, &[]);
    assert_eq!(status(&lab, &["idle"]).fails(2).stderr, "error: there is no [namespace.idle] in the configuration\n");

    // a namespace that somebody took away, and one that somebody made
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab.start(&["t-web"]);
    let _ = lab.run(&["ip", "netns", "delete", "web"]).ok();
    let text = status(&lab, &["web"]).fails(3).stdout;
    assert!(text.starts_with("× 1 namespace is wrong:\n    web  systemd has it as up, but it has gone:"), "{text}");
    lab.systemctl(&["restart", "netns@web"]);
    let _ = lab.wait_until("the service is back", SECONDS, "systemctl is-active t-web");
    let _ = report(&lab, 0, &["web"]);
    let _ = lab.run(&["ip", "netns", "add", "idle"]).ok();
    assert_eq!(report(&lab, 3, &["idle"]).namespaces[0].state, NetnsState::Foreign);
    let _ = lab.run(&["ip", "netns", "delete", "idle"]).ok();
}

fn a_faulty_configuration_hides_nothing(suite: Suite) {
    let lab = web(suite);
    let _ = lab.run(&["ip", "-n", "web", "link", "set", "eth0", "mtu", "1400"]).ok();
    lab.config(&CONFIG.replace("addresses =", "adresses ="));
    let text = status(&lab, &[]).fails(3).stdout;
    let head = "× the configuration has 3 faults: `netns-networkd check` shows what and where; what is there is compared with the records of \
                the last sync\n! 1 difference from the records; to mend them:\n    web  set MTU of link 'eth0' and host end 'web-eth0' to 1500\n";
    assert!(text.starts_with(head), "{}", diff(head, &text));
    for line in [
        "● bridge br0: up",
        "  10.40.0.1/24\n",
        "○ netns idle: down\n",
        "! netns web: up, 1 difference\n",
        "t-web.service  active (running)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(report(&lab, 3, &["idle"]).namespaces[0].changed_since_sync, None);
    let _ = lab.run(&["ip", "-n", "web", "link", "set", "eth0", "mtu", "1500"]).ok();
    // a file that only the look at the host misses
    lab.config(&CONFIG.replace("dns =", "nftables = \"/etc/nosuch.nft\"\ndns ="));
    let text = status(&lab, &[]).fails(3).stdout;
    let head = "× the configuration cannot be used; what is there is compared with the records of the last sync:\n    \
                /etc/netns-networkd/test.toml:5: there is no nftables ruleset /etc/nosuch.nft\n";
    assert!(text.starts_with(head), "{}", diff(head, &text));
    lab.config(CONFIG);
    let _ = lab.sync(&[]).ok();
    let _ = report(&lab, 0, &[]);
}

fn what_cannot_be_seen_is_said(suite: Suite) {
    let lab = web(suite);
    let as_nobody = |words: &[&str]| lab.run(&[&NOBODY, words].concat());
    let text = as_nobody(&["netns-networkd", "status"]).ok().stdout;
    let head = "● as configured: 2 namespaces, 1 up, 1 down\n○ not seen:\n    without root: what is inside running namespaces";
    assert!(text.starts_with(head), "{}", diff(head, &text));
    for line in ["eth0   not seen, web-eth0 on br0, MTU 1500", "10.40.0.2/24  not seen\n", "t-web.service  active (running)  PID "] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // the host's own side is compared all the same
    let _ = lab.run(&["ip", "link", "set", "web-eth0", "down"]).ok();
    let _ = lab.run(&["ip", "address", "del", "10.40.0.1/24", "dev", "br0"]).ok();
    let output = as_nobody(&["netns-networkd", "status", "--json"]).fails(3);
    schema::conforms("status", &output.stdout);
    let found: Report = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(drift(&found), ["link 'br0': add address 10.40.0.1/24"]);
    let web = &found.namespaces[1];
    assert_eq!((web.seen, web.interfaces[0].host_end.as_ref().unwrap().state), (false, LinkState::Down));
    assert_eq!(web.units[0].runs_in, None);
    let _ = lab.sh("ip link set web-eth0 up; networkctl reconfigure br0").ok();
    let _ = lab.wait_until("the bridge has its address", SECONDS, "ip address show br0 | grep -F 10.40.0.1/24");
    let _ = report(&lab, 0, &[]);

    lab.systemctl(&["stop", "systemd-networkd.socket", "systemd-networkd"]);
    let text = status(&lab, &[]).ok().stdout;
    assert!(text.contains("! 1 warning:\n    systemd-networkd does not run:") && text.contains("netns web: up"), "{text}");
    lab.systemctl(&["start", "systemd-networkd"]);

    // the host's own commands go to systemd without a bus
    lab.systemctl(&["stop", "dbus.socket", "dbus"]);
    let output = status(&lab, &[]);
    let list = lab.run(&["netns-networkd", "list"]);
    let nothing_waits = status(&lab, &["--json"]);
    // networkd does not come back to a new bus by itself soon enough
    lab.systemctl(&["start", "dbus.socket"]);
    lab.systemctl(&["restart", "systemd-networkd"]);
    let text = output.ok().stdout;
    assert!(text.contains("○ not seen:\n    units and systemd-networkd: failed to connect to the system bus"), "{text}");
    assert!(text.contains("netns web: up") && text.contains("10.40.0.2/24\n") && text.contains("t-web.service  not seen\n"), "{text}");
    assert_eq!(list.ok().stdout.lines().next(), Some("idle  down  units not seen  br0  10.40.0.3/24"));
    schema::conforms("status", &nothing_waits.ok().stdout);
    let _ = lab.wait_until("networkd is on the bus", SECONDS, "networkctl --no-legend list web-eth0 | grep ' configured'");
}

fn a_namespace_that_comes_up_keeps_nobody_waiting(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000")]);
    lab.config("[namespace.web]\nservices = [\"t-web\"]\ninterface.eth0 = { bridge = \"t-late\", addresses = [\"10.41.0.2/24\"] }\n");
    let _ = lab.sync(&[]).ok();
    lab.systemctl(&["start", "--no-block", "t-web"]);
    let _ = lab.wait_until("up waits for its bridge", SECONDS, "test -e /run/netns-networkd/netns/web.lock");
    let start = Instant::now();
    let found = report(&lab, 0, &[]);
    assert!(start.elapsed() < Duration::from_secs(8), "it waited for `up`, which waits for 15 s: {:?}", start.elapsed());
    assert_eq!(found.namespaces[0].state, NetnsState::ComingUp, "{found:#?}");
    let text = status(&lab, &[]).ok().stdout;
    assert!(text.contains("! netns web: coming up\n") && text.contains("bridge 't-late' does not exist"), "{text}");
    // and `up` does not wait for those who look
    let _ = lab.sh("ip link add t-late type bridge; ip link set t-late up").ok();
    let _ = lab.wait_until("the service runs", SECONDS, "netns-networkd status >/dev/null; systemctl is-active t-web");
    let _ = report(&lab, 0, &[]);
    lab.stop(&["t-web"]);
    let _ = lab.run(&["ip", "link", "delete", "t-late"]).ok();
    // one that has failed
    lab.systemctl(&["start", "--no-block", "t-web"]);
    let _ = lab.wait_until("up waits for its bridge", SECONDS, "test -e /run/netns-networkd/netns/web.lock");
    let _ = lab.sh("systemctl kill --signal=KILL netns@web").ok();
    let _ = lab.wait_until("it has failed", SECONDS, "systemctl is-failed netns@web");
    let text = status(&lab, &[]).fails(3).stdout;
    assert!(text.starts_with("× 1 namespace is wrong:\n    web  failed to come up: `journalctl -b -u netns@web` shows why\n"), "{text}");
}

fn a_namespace_that_is_changed_is_not_compared(suite: Suite) {
    let lab = web(suite);
    let _ = lab.run(&["ip", "-n", "web", "link", "set", "eth0", "mtu", "1400"]).ok();
    let _ = report(&lab, 3, &[]);
    let lock = "/run/netns-networkd/netns/web.lock";
    let _ =
        lab.sh(&format!("setsid flock {lock} bash -c 'touch /run/t-locked; sleep 60' >/dev/null 2>&1 & echo $! >/run/t-pid; disown")).ok();
    let _ = lab.wait_until("somebody is at work", SECONDS, "test -e /run/t-locked");
    let start = Instant::now();
    let found = report(&lab, 0, &[]);
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for the lock: {:?}", start.elapsed());
    let web = &found.namespaces[1];
    assert_eq!((web.state, web.seen, web.interfaces[0].mtu), (NetnsState::Up, true, Some(1400)));
    assert_eq!(found.not_seen, ["netns 'web' is being changed at the moment: it is shown, and not compared"]);
    let _ = lab.sh("kill -- -$(cat /run/t-pid); rm /run/t-pid /run/t-locked").ok();
    let _ = lab.wait_until("it is compared again", SECONDS, "! netns-networkd status >/dev/null");
    let _ = lab.sync(&[]).ok();
    let _ = report(&lab, 0, &[]);
}

/// Runs a command on a terminal of some columns; returns what it shows.
#[track_caller]
fn on_terminal(lab: &Lab, columns: u32, command: &str, code: i32) -> String {
    let script = format!("script -qec 'stty cols {columns}; {command}' /dev/null");
    lab.run(&["bash", "-c", &script]).fails(code).stdout.replace("\r\n", "\n")
}

fn terminals_get_colours_and_their_width(suite: Suite) {
    let lab = web(suite);
    let _ = lab.run(&["ip", "-n", "web", "address", "del", "10.40.0.2/24", "dev", "eth0"]).ok();
    let pipe = status(&lab, &[]).fails(3).stdout;
    assert!(!pipe.contains('\x1b'), "{pipe}");
    let plain: Vec<&str> = pipe.split_whitespace().collect();
    for columns in [40, 80] {
        for command in ["status", "list"] {
            let shown = on_terminal(&lab, columns, &format!("netns-networkd {command}"), 3);
            assert!(shown.contains("\x1b[33m"), "no colours on a terminal: {shown}");
            let shown = on_terminal(&lab, columns, &format!("NO_COLOR=1 netns-networkd {command} 2>/dev/null"), 3);
            assert!(!shown.contains('\x1b'), "NO_COLOR: {shown}");
            assert!(shown.lines().all(|line| line.chars().count() <= columns as usize), "over {columns} columns:\n{shown}");
            if command == "status" {
                assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), plain, "nothing is cut at {columns} columns");
            }
        }
    }
    let shown = on_terminal(&lab, 80, "netns-networkd --color never status", 3);
    assert!(!shown.contains('\x1b'), "{shown}");
    let shown = lab.run(&["netns-networkd", "--color", "always", "status"]).fails(3).stdout;
    assert!(shown.contains("\x1b[33m"), "{shown}");
    let shown = lab.run(&["env", "LC_ALL=C", "netns-networkd", "status"]).fails(3).stdout;
    assert!(shown.is_ascii() && shown.contains("\n* bridge br0: up"), "{shown}");
    // a reader that has seen enough is no error
    let _ = lab.sh("set +o pipefail; netns-networkd status | head -n 1").ok();
    let _ = lab.sync(&[]).ok();
}

fn json_of_each_command_is_as_its_schema_says(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-idle.service", "8001")]);
    lab.start(&["t-idle"]);
    lab.config(CONFIG);
    let json = |command: &str, code: i32, name: &str| {
        let words: Vec<&str> = std::iter::once("netns-networkd").chain(command.split(' ')).collect();
        let output = lab.run(&words).fails(code);
        assert_eq!(output.stderr, "", "{output}");
        schema::conforms(name, &output.stdout)
    };
    let texts = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(json("check --json", 0, "check")["namespaces"], 2);
    let planned = json("sync --dry-run --json", 3, "sync");
    assert_eq!((&planned["dry_run"], &planned["plan"]["files"][0]["before"]), (&true.into(), &serde_json::Value::Null));
    let record = "add file /var/lib/netns-networkd/netns/web.json".to_owned();
    assert!(texts(&planned["changes"]).contains(&record), "{planned:#}");
    let done = json("--json sync", 0, "sync");
    assert!(texts(&done["changes"]).contains(&record) && texts(&done["changes"]).contains(&"reload systemd".to_owned()), "{done:#}");
    assert_eq!((&done["pending"][0]["unit"], &done["plan"]), (&"t-idle.service".into(), &serde_json::Value::Null));
    lab.systemctl(&["restart", "t-idle"]);
    let _ = json("sync --json", 0, "sync");
    assert_eq!(json("sync --json", 0, "sync")["changes"], serde_json::json!([]));
    assert_eq!(json("list --json", 0, "list")["namespaces"][0]["units_running"], 1);

    // what goes back says when; another sync is refused meanwhile, and the answer is a document too
    lab.config(&CONFIG.replace("the web", "the best"));
    assert_eq!(json("sync --confirm 600 --json", 0, "sync")["goes_back_after"], 600);
    let refused = json("sync --json", 2, "sync");
    assert_eq!(refused["error"]["reasons"][0]["message"], "the changes of an earlier sync wait to be confirmed");
    assert_eq!(refused["error"]["reasons"][0]["hints"].as_array().unwrap().len(), 1);
    assert_eq!(texts(&json("status --json", 0, "status")["warnings"]).len(), 1);
    let _ = json("rollback --json", 0, "sync");
    assert_eq!(json("confirm --json", 1, "error")["error"]["reasons"][0]["message"], "no changes wait to be confirmed");

    lab.config("[namespace.web]\nadresses = 1\n[namespace.web.interface.eth0]\nbridge = 7\n");
    for (command, name) in [("check --json", "error"), ("sync --json", "sync")] {
        let faults = json(command, 2, name);
        let reasons = faults["error"]["reasons"].as_array().unwrap();
        assert_eq!((reasons.len(), &reasons[0]["place"]["line"]), (2, &2.into()), "{faults:#}");
        assert_eq!(reasons[0]["place"]["file"], "/etc/netns-networkd/test.toml");
    }
    let unknown = json("status nosuch --json", 2, "error");
    assert_eq!(unknown["error"]["reasons"][0]["message"], "there is no [namespace.nosuch] in the configuration");
    let usage = json("statsu --json", 2, "error");
    assert_eq!(usage["error"]["reasons"][0]["message"], "unrecognized subcommand 'statsu'");
    assert_eq!(json("up nosuch --json", 1, "error")["error"]["reasons"].as_array().unwrap().len(), 1);
    let _ = json("down nosuch --json", 0, "sync");
    let _ = lab.sh("mv /var/lib/netns-networkd/manifest.toml /run/; echo broken >/var/lib/netns-networkd/manifest.toml").ok();
    assert!(json("status --json", 1, "error")["error"]["reasons"][0]["message"].as_str().unwrap().contains("manifest.toml is broken"));
    let _ = lab.sh("mv /run/manifest.toml /var/lib/netns-networkd/").ok();
    lab.config(CONFIG);
    lab.sync_nothing();
}
