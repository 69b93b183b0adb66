//! What is not changed live, on booted hosts: it waits, whom it will concern is said before, and `--restart` does it for all of them;
//! and services that lose what binds them to their namespace keep it.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        another_host_name_and_kind_wait_for_a_restart,
        every_unit_of_a_namespace_is_restarted_with_it,
        many_units_are_waited_for,
        a_socket_and_its_running_service_move_together,
        what_depends_on_a_service_is_named_and_restarted,
        one_that_does_not_start_again_is_reported,
        a_namespace_that_cannot_come_up_stops_no_service,
        a_renamed_unit_keeps_its_namespace,
        one_without_sockets_gets_its_links_back,
        networkd_lets_go_of_what_goes,
        a_masked_unit_keeps_its_namespace,
        one_that_is_listed_by_an_alias_is_restarted,
        a_renamed_namespace_takes_its_services_along,
        what_one_is_to_have_and_another_keeps_is_refused,
        one_unit_by_two_names_is_in_one_namespace,
        an_alias_and_a_drop_in_go,
        a_namespace_that_is_left_goes,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

fn config(services: &str, interfaces: &str) -> String {
    format!("[bridge.br0]\naddresses = [\"10.63.0.1/24\"]\n[namespace.box]\nservices = [{services}]\n{interfaces}\n")
}

const ETH0: &str = r#"interface.eth0 = { bridge = "br0", addresses = ["10.63.0.2/24"] }"#;

/// Units that are bound by hand.
const BOUND: &str = "BindsTo=netns@box.service\nAfter=netns@box.service\n";
const INSIDE: &str = "NetworkNamespacePath=/run/netns/box\n";

/// Writes a unit with more settings of `[Unit]`, and of its own section.
#[track_caller]
fn unit(lab: &Lab, name: &str, of_unit: &str, own: &str) {
    let section = if name.ends_with(".socket") { "Socket" } else { "Service\nTimeoutStopSec=5" };
    let section = section.replacen('\n', "]\n", 1) + if section.contains('\n') { "" } else { "]" };
    lab.write_file(&format!("/etc/systemd/system/{name}"), &format!("[Unit]\nStartLimitIntervalSec=0\n{of_unit}[{section}\n{own}"));
}

fn talk(arguments: &str) -> String {
    format!("Type=notify\nExecStart=/usr/bin/python3 /usr/local/lib/talk.py {arguments}\n")
}

/// When units became active, those with processes with their PID: another one after each restart. Nothing for those that do not run.
#[track_caller]
fn runs(lab: &Lab) -> BTreeMap<String, String> {
    let shown = lab.systemctl(&["show", "-p", "Id,ActiveState,ActiveEnterTimestampMonotonic,MainPID", "t-*"]);
    let units = shown.split("\n\n").filter(|unit| unit.lines().any(|line| line == "ActiveState=active"));
    units.map(|unit| (unit.lines().find_map(|line| line.strip_prefix("Id=")).unwrap().to_owned(), unit.trim().to_owned())).collect()
}

/// Asserts that these units have been restarted, and the others not.
#[track_caller]
fn assert_restarted(lab: &Lab, before: &BTreeMap<String, String>, units: &[&str]) {
    let now = runs(lab);
    assert_eq!(before.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>(), "all that ran runs again, and nothing else");
    let restarted: Vec<&str> = now.iter().filter(|(unit, when)| before[*unit] != **when).map(|(unit, _)| unit.as_str()).collect();
    assert_eq!(restarted, units);
}

/// All that makes systemd forget what its files do not say.
#[track_caller]
fn reload(lab: &Lab) {
    for command in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
        lab.systemctl(&[command]);
    }
}

fn another_host_name_and_kind_wait_for_a_restart(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-box.service", "8000")]);
    let interfaces = |one: &str, two: &str| {
        let pair = r#"host-addresses = ["10.63.1.0/31", "fd3f::/127"], addresses = ["10.63.1.1/31", "fd3f::1/127"]"#;
        format!("interface.eth0 = {{ {one} {pair} }}\ninterface.eth1 = {{ {two} addresses = [\"10.63.0.2/24\"] }}")
    };
    let bridged = "bridge = \"br0\",";
    lab.config(&config("\"t-box\"", &interfaces("", bridged)));
    lab.sync_changes(&[]);
    lab.start(&["t-box"]);
    let answers = |what: &str| {
        let _ = lab
            .wait_until(&format!("it answers by the pair {what}"), SECONDS, "ping -n -c 1 -W 1 10.63.1.1; ping -n -c 1 -W 1 fd3f::1")
            .ok();
        lab.assert_answers("10.63.1.1", "8000");
        lab.assert_answers("fd3f::1", "8000");
    };
    answers("at first");
    let pending = |changes: &str| {
        format!(
            "pending: netns 'box' cannot be changed like this while it is up: {changes}: `netns-networkd sync --restart`; restarts with it: t-box.service\n"
        )
    };
    for (one, two, changes, by_br0) in [
        ("host-name = \"t-one\",", bridged, "remove link 'eth0' with host end 'box-eth0', add link 'eth0' with host end 't-one'", true),
        (
            "host-name = \"t-one\",",
            "kind = \"macvlan\", parent = \"eno1\",",
            "remove link 'eth1' with host end 'box-eth1', add link 'eth1' with kind macvlan on 'eno1'",
            false,
        ),
        (
            "",
            bridged,
            "remove link 'eth0' with host end 't-one', remove link 'eth1' with kind macvlan on 'eno1', add link 'eth0' with host end \
             'box-eth0', add link 'eth1' with host end 'box-eth1' on bridge 'br0'",
            true,
        ),
    ] {
        let before = runs(&lab);
        lab.config(&config("\"t-box\"", &interfaces(one, two)));
        let said = lab.sync(&[]).ok();
        assert!(said.stdout.ends_with(&pending(changes)) && said.stderr.is_empty(), "{said}");
        assert_eq!(lab.sync(&[]).ok().stdout, pending(changes), "again");
        // networkd has taken nothing from it
        for disturbance in ["networkctl reload", "systemctl restart systemd-networkd", "systemctl daemon-reload; systemctl daemon-reexec"] {
            let _ = lab.sh(disturbance).ok();
            answers(&format!("after {disturbance}"));
        }
        assert_eq!(runs(&lab), before);
        let fingerprint = lab.fingerprint();
        assert_eq!(lab.sync(&["--dry-run"]).fails(3).stdout, pending(changes));
        let dry = lab.sync(&["--dry-run", "--restart"]).fails(3).stdout;
        let wanted = format!(
            "would restart netns@box.service\n  netns 'box' cannot be changed like this while it is up: {changes}\n  restarts with it: t-box.service\n"
        );
        assert_eq!(dry, wanted);
        lab.assert_unchanged(&fingerprint);
        let said = lab.sync(&["--restart"]).ok();
        assert!(said.stdout.starts_with("restart netns@box.service\nrestart t-box.service\n") && said.stderr.is_empty(), "{said}");
        assert_restarted(&lab, &before, &["t-box.service"]);
        lab.sync_nothing();
        answers("after the restart");
        if by_br0 {
            lab.assert_answers("10.63.0.2", "8000");
        }
    }
}

fn every_unit_of_a_namespace_is_restarted_with_it(suite: Suite) {
    let lab = Lab::new(suite);
    let socket = |port: u16| format!("ListenStream=0.0.0.0:{port}\n");
    lab.services(&[("t-listed.service", "8000"), ("t-idle.service", "8001")]);
    unit(&lab, "t-hand.service", BOUND, &(talk("serve 8002") + INSIDE));
    unit(
        &lab,
        "t-exec.service",
        BOUND,
        "Type=notify\nNotifyAccess=all\nExecStart=/usr/sbin/ip netns exec box /usr/bin/python3 /usr/local/lib/talk.py serve 8003\n",
    );
    unit(&lab, "t-needs.service", "Requires=t-hand.service\nAfter=t-hand.service\n", &talk("serve 8004"));
    unit(&lab, "t-part.service", "PartOf=t-hand.service\n", &talk("serve 8005"));
    unit(&lab, "t-done.service", BOUND, &format!("Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n{INSIDE}"));
    // a socket and its service inside, a socket inside with a service outside, and the other way round
    unit(&lab, "t-in.socket", BOUND, &(socket(8006) + INSIDE));
    unit(&lab, "t-in.service", BOUND, &(talk("inherit") + INSIDE));
    unit(&lab, "t-out.socket", BOUND, &(socket(8007) + INSIDE));
    unit(&lab, "t-out.service", "", &talk("inherit"));
    unit(&lab, "t-host.socket", "", &socket(8008));
    unit(&lab, "t-host.service", BOUND, &(talk("inherit") + INSIDE));
    // not bound
    unit(&lab, "t-wants.service", "Wants=netns@box.service\nAfter=netns@box.service\n", &(talk("serve 8009") + INSIDE));
    unit(&lab, "t-other.service", "", &talk("serve 8010"));
    lab.systemctl(&["daemon-reload"]);
    lab.config(&config("\"t-listed\", \"t-idle\"", ETH0));
    lab.sync_changes(&[]);
    let all = "t-listed t-hand t-exec t-needs t-part t-done t-in.socket t-out.socket t-host.socket t-wants t-other";
    lab.start(&all.split(' ').collect::<Vec<_>>());
    let inside = lab.named_netns("box");
    let connect = || {
        for (address, port, is_inside) in [("10.63.0.2", "8006", true), ("10.63.0.2", "8007", false), ("10.63.0.1", "8008", true)] {
            assert_eq!(lab.who(address, port).netns == lab.named_netns("box"), is_inside, "port {port}");
        }
    };
    connect();
    let shell = lab.sh("setsid ip netns exec box sleep 1000 >/dev/null 2>&1 & echo $!").ok().stdout;
    let shell = shell.trim();
    let before = runs(&lab);

    lab.config(&config("\"t-listed\", \"t-idle\"", &ETH0.replace("{ ", "{ host-name = \"t-new\", ")));
    let with = "t-done.service, t-exec.service, t-hand.service, t-host.service, t-in.service, t-in.socket, t-listed.service, t-needs.service, \
                t-out.service, t-out.socket, t-part.service";
    let cut_off = format!("sleep (PID {shell}), t-wants.service");
    let dry = lab.sync(&["--dry-run", "--restart"]).fails(3).stdout;
    let wanted = format!("\n  restarts with it: {with}\n  cuts off: {cut_off}\n");
    assert!(dry.contains("\nwould restart netns@box.service\n") && dry.ends_with(&wanted), "{dry}");
    let dry = lab.sync(&["--dry-run"]).fails(3).stdout;
    assert!(dry.ends_with(&format!("; restarts with it: {with}; cuts off: {cut_off}\n")), "{dry}");
    assert_eq!(runs(&lab), before);

    let said = lab.sync(&["--restart"]).ok();
    let lines: Vec<String> = with.split(", ").map(|unit| format!("restart {unit}\n")).collect();
    assert!(said.stdout.contains(&format!("\nrestart netns@box.service\n{}", lines.concat())) && said.stderr.is_empty(), "{said}");
    assert_restarted(&lab, &before, &with.split(", ").collect::<Vec<_>>());
    lab.sync_nothing();
    connect();
    for (address, port) in [("10.63.0.2", "8000"), ("10.63.0.2", "8002"), ("10.63.0.2", "8003"), ("10.63.0.2", "8009")] {
        lab.assert_answers(address, port);
        assert_eq!(lab.who(address, port).netns, lab.named_netns("box"), "port {port}");
    }
    // what is not bound is not left on a link that is gone: the namespace stays for it, with new links
    assert_eq!(lab.named_netns("box"), inside);
    assert_eq!(lab.sh("ip -br link show master br0 | cut -d@ -f1").ok().stdout, "t-new\n");
    let _ = lab.sh(&format!("kill {shell}; systemctl stop t-out.socket t-in.socket t-host.socket")).ok();
}

/// More than systemd's answers can wait behind: nobody may ask it anything without listening to what it tells.
fn many_units_are_waited_for(suite: Suite) {
    let lab = Lab::new(suite);
    unit(&lab, "t-many@.service", BOUND, "Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n");
    lab.systemctl(&["daemon-reload"]);
    lab.config(&config("", ETH0));
    lab.sync_changes(&[]);
    let _ = lab.sh("systemctl start t-many@{1..120}").ok();
    let before = runs(&lab);
    lab.config(&config("", &ETH0.replace("{ ", "{ host-name = \"t-new\", ")));
    let said = lab.sync(&["--restart"]).ok();
    assert_eq!(said.stdout.lines().filter(|line| line.starts_with("restart t-many@")).count(), 120, "{said}");
    assert_restarted(&lab, &before, &before.keys().map(String::as_str).collect::<Vec<_>>());
}

/// One after the other, the service starts with the old socket, and systemd refuses to start the new one.
fn a_socket_and_its_running_service_move_together(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-sock.service", "inherit", "")]);
    unit(&lab, "t-sock.socket", "", "ListenStream=0.0.0.0:8001\n");
    lab.systemctl(&["daemon-reload"]);
    lab.start(&["t-sock.socket"]);
    let two = |first: &str, second: &str| {
        config(first, ETH0)
            + &format!("[namespace.two]\nservices = [{second}]\ninterface.eth0 = {{ bridge = \"br0\", addresses = [\"10.63.0.3/24\"] }}\n")
    };
    let both = "\"t-sock.service\", \"t-sock.socket\"";
    lab.config(&two("", ""));
    lab.sync_changes(&[]);
    let mut pid = lab.who("127.0.0.1", "8001").pid;
    for (config, address, netns) in [
        (two(both, ""), "10.63.0.2", "box"),
        (two("", both), "10.63.0.3", "two"),
        (two(both, ""), "10.63.0.2", "box"),
        (two("", ""), "127.0.0.1", ""),
    ] {
        lab.config(&config);
        let dry = lab.sync(&["--dry-run", "--restart"]).fails(3).stdout;
        for line in
            ["would restart t-sock.service\n  t-sock.service still runs ", "would restart t-sock.socket\n  t-sock.socket still runs "]
        {
            assert!(dry.contains(line), "{dry}");
        }
        let said = lab.sync(&["--restart"]).ok();
        assert!(said.stdout.contains("restart t-sock.service\nrestart t-sock.socket\n") && said.stderr.is_empty(), "{said}");
        // it runs already, before anybody connects
        lab.assert_active(&["t-sock.socket", "t-sock.service"]);
        let new = lab.who(address, "8001");
        let wanted = if netns.is_empty() { lab.host_netns() } else { lab.named_netns(netns) };
        assert!(new.netns == wanted && new.pid != pid, "{new:?}, was {pid}");
        pid = new.pid;
        lab.sync_nothing();
    }
    // a socket alone takes its running service along
    lab.config(&two("\"t-sock.socket\"", ""));
    let dry = lab.sync(&["--dry-run", "--restart"]).fails(3).stdout;
    assert!(dry.contains("would restart t-sock.socket\n  t-sock.socket still runs on the host and will run in netns 'box' when it is restarted\n  restarts with it: t-sock.service\n"), "{dry}");
    let _ = lab.sync(&["--restart"]).ok();
    assert_eq!(lab.who("10.63.0.2", "8001").netns, lab.host_netns());
    let _ = lab.sh("systemctl stop t-sock.socket t-sock.service").ok();
}

fn what_depends_on_a_service_is_named_and_restarted(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-sql.service", "8000"), ("t-apart.service", "8002")]);
    unit(&lab, "t-app.service", "Requires=t-sql.service\nAfter=t-sql.service\n", &talk("serve 8001"));
    lab.systemctl(&["daemon-reload"]);
    lab.start(&["t-sql", "t-app", "t-apart"]);
    let before = runs(&lab);
    lab.config(&config("\"t-sql\"", ETH0));
    let dry = lab.sync(&["--dry-run"]).fails(3).stdout;
    assert!(
        dry.ends_with("`systemctl restart t-sql.service` or `netns-networkd sync --restart`; restarts with it: t-app.service\n"),
        "{dry}"
    );
    let dry = lab.sync(&["--dry-run", "--restart"]).fails(3).stdout;
    let wanted = "would restart t-sql.service\n  t-sql.service still runs on the host and will run in netns 'box' when it is restarted\n  \
                  restarts with it: t-app.service\n";
    assert!(dry.contains(wanted), "{dry}");
    assert_eq!(runs(&lab), before);
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.ends_with("restart t-app.service\nrestart t-sql.service\n"), "{said}");
    assert_restarted(&lab, &before, &["t-app.service", "t-sql.service"]);
    assert_eq!((lab.netns_of("t-sql"), lab.netns_of("t-app")), (lab.named_netns("box"), lab.host_netns()));
    // who uses a namespace that changes live is said, too
    lab.config(&config("\"t-sql\"", &ETH0.replace("0.2/24", "0.3/24")));
    let dry = lab.sync(&["--dry-run"]).fails(3).stdout;
    assert!(dry.contains("\nwould change netns 'box' while it runs\n  used by: t-sql.service\n  add address 10.63.0.3/24"), "{dry}");
}

fn one_that_does_not_start_again_is_reported(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-good.service", "8000")]);
    unit(&lab, "t-bad.service", "", &format!("ExecStartPre=/bin/sh -c '! test -e /run/t-broken'\n{}", talk("serve 8001")));
    lab.systemctl(&["daemon-reload"]);
    lab.start(&["t-good", "t-bad"]);
    lab.config(&config("\"t-good\", \"t-bad\"", ETH0));
    let _ = lab.sh("touch /run/t-broken").ok();
    let said = lab.sync(&["--restart"]).fails(1);
    assert_eq!(
        said.stderr,
        "error: failed to restart t-bad.service: systemd says 'failed'\n  hint: what is said to be done stays; `netns-networkd sync` does the rest\n  \
         hint: `journalctl -b -u t-bad.service` shows why\n"
    );
    assert!(said.stdout.ends_with("\nrestart t-good.service\n"), "{said}");
    assert_eq!(lab.netns_of("t-good"), lab.named_netns("box"), "the other one is where it should be");
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    let _ = lab.sh("rm /run/t-broken; systemctl start t-bad").ok();
    lab.assert_answers("10.63.0.2", "8001");
}

fn a_namespace_that_cannot_come_up_stops_no_service(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.start(&["t-svc"]);
    let before = (runs(&lab), lab.host_netns());
    // somebody else's namespace has its name
    let _ = lab.run(&["ip", "netns", "add", "box"]).ok();
    lab.config(&config("\"t-svc\"", ETH0));
    for arguments in [&[][..], &["--restart"]] {
        let said = lab.sync(arguments).fails(1);
        assert!(said.stderr.starts_with("error: failed to start netns-hold@box.service: systemd says 'dependency'\n"), "{said}");
        reload(&lab);
        assert_eq!((runs(&lab), lab.netns_of("t-svc")), before);
    }
    let _ = lab.run(&["ip", "netns", "delete", "box"]).ok();
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.ends_with("restart t-svc.service\n"), "{said}");
    lab.assert_answers("10.63.0.2", "8000");
    lab.sync_nothing();
}

fn stray(unit: &str) -> String {
    format!(
        "pending: {unit} runs in netns 'box', and nothing binds it to that: its unit was renamed, masked or changed, or never was \
         bound. The namespace stays until `systemctl stop {unit}`\n"
    )
}

/// Asserts that a service runs on where it was, whatever is reloaded, and that each sync says so and does nothing.
#[track_caller]
fn assert_stray(lab: &Lab, there: &(String, String), pending: &str) {
    for arguments in [&[][..], &["--restart"], &["box"]] {
        let said = lab.sync(arguments).ok();
        // with names, only units of the configuration are looked at
        let is_all = said.stdout == pending || (*arguments == ["box"] && said.stdout.is_empty());
        assert!(is_all && said.stderr.is_empty(), "{said}");
        reload(lab);
        let who = lab.who("10.63.0.2", "8000");
        assert_eq!((who.pid, who.netns), *there);
        let _ = lab.run(&["ping", "-n", "-c", "1", "-W", "2", "10.63.0.2"]).ok();
    }
    assert_eq!(lab.sync(&["--dry-run"]).fails(3).stdout, pending);
}

#[track_caller]
fn assert_gone(lab: &Lab) {
    lab.wait_gone();
    lab.sync_nothing();
    assert_eq!(lab.sh("ls /run/netns; systemctl list-units --plain --no-legend 'netns*'; ip -br link show master br0").ok().stdout, "");
}

/// The file is moved, and systemd reloaded, before `sync` has a chance.
fn a_renamed_unit_keeps_its_namespace(suite: Suite) {
    let lab = Lab::new(suite);
    for by_hand in [false, true] {
        lab.services(&[("t-old.service", "8000")]);
        if by_hand {
            unit(&lab, "t-old.service", BOUND, &(talk("serve 8000") + INSIDE));
            lab.systemctl(&["daemon-reload"]);
        }
        lab.config(&config(if by_hand { "" } else { "\"t-old\"" }, ETH0));
        let _ = lab.sync(&[]).ok();
        lab.start(&["t-old"]);
        let who = lab.who("10.63.0.2", "8000");
        let there = (who.pid, who.netns);
        let _ = lab.sh("mv /etc/systemd/system/t-old.service /etc/systemd/system/t-new.service").ok();
        reload(&lab);
        assert_eq!(lab.who("10.63.0.2", "8000").pid, there.0, "before sync has looked");
        let why = lab.journal(&["netns@box"]);
        assert!(why.contains(&format!("failed to take down netns 'box': t-old.service (PID {}) runs in it", there.0)), "{why}");
        lab.config(&config(if by_hand { "" } else { "\"t-new\"" }, ETH0));
        let said = lab.sync(&[]).ok();
        assert!(said.stdout.ends_with(&stray("t-old.service")) && said.stderr.is_empty(), "{said}");
        assert_stray(&lab, &there, &stray("t-old.service"));
        // the new one is another unit
        lab.systemctl(&["stop", "t-old"]);
        lab.start(&["t-new"]);
        let who = lab.who("10.63.0.2", "8000");
        assert_eq!(who.netns, there.1, "the hold kept it");
        let _ = lab.sync(&[]).ok();
        lab.sync_nothing();
        lab.stop(&["t-new"]);
        assert_gone(&lab);
        let _ = lab.sh("rm /etc/systemd/system/t-new.service; systemctl daemon-reload").ok();
    }
}

/// `down` looks for processes only when the links are out of the way, if nobody inside has a socket to notice by.
fn one_without_sockets_gets_its_links_back(suite: Suite) {
    let lab = Lab::new(suite);
    unit(&lab, "t-quiet.service", BOUND, &format!("ExecStart=/usr/bin/sleep 3000\n{INSIDE}"));
    lab.systemctl(&["daemon-reload"]);
    let more = "interface.eth1 = { bridge = \"br0\", mtu = 1400, hairpin = true, addresses = [\"fd3f::2/64\"], gateways = [\"fd3f::1\"] }";
    lab.config(&config("", &format!("{ETH0}\n{more}")));
    lab.sync_changes(&[]);
    lab.start(&["t-quiet"]);
    let picture = || {
        let all = "ip -n box -o link show; ip -n box -o addr show; ip -n box route; ip -n box -6 route; bridge -d link show | grep -A1 box-eth; stat -Lc %i /run/netns/box
                   ip -o link show master br0";
        let all = lab.sh(all).ok().stdout;
        all.lines()
            .filter(|line| !line.contains("fe80"))
            .map(|line| line.split("valid_lft").next().unwrap_or_default().to_owned() + "\n")
            .collect::<String>()
    };
    let (before, pid) = (picture(), lab.property("t-quiet", "MainPID"));
    let _ = lab.sh("mv /etc/systemd/system/t-quiet.service /etc/systemd/system/t-new.service").ok();
    reload(&lab);
    let why = lab.journal(&["netns@box"]);
    assert!(why.contains(&format!("failed to take down netns 'box': t-quiet.service (PID {pid}) runs in it")), "{why}");
    assert_eq!(lab.property("t-quiet", "MainPID"), pid);
    let _ = lab.wait_until("it answers", SECONDS, "ping -n -c 1 -W 1 10.63.0.2").ok();
    assert_eq!(picture(), before);
    let _ = lab.sh("systemctl stop t-quiet; netns-networkd down box; rm /etc/systemd/system/t-new.service; systemctl daemon-reload; systemctl reset-failed").ok();
    assert_gone(&lab);
}

/// Neither as the port that it was nor as a link that a file for all of them is for.
fn networkd_lets_go_of_what_goes(suite: Suite) {
    let lab = Lab::new(suite);
    let all = "/etc/systemd/network/99-t-all.network";
    lab.write_file(all, "[Match]\nType=ether\n[Network]\nDHCP=yes\n");
    lab.services(&[("t-box.service", "8000")]);
    lab.config(&config("\"t-box\"", ETH0));
    lab.sync_changes(&[]);
    lab.start(&["t-box"]);
    let networkctl = "networkctl --no-legend list box-eth0 | grep configured";
    let _ = lab.wait_until("networkd is done with the port", SECONDS, networkctl).ok();
    let index = lab.sh("cat /sys/class/net/box-eth0/ifindex").ok().stdout;
    let said = lab.journal_of("systemd-networkd", || {
        lab.stop(&["t-box"]);
        let _ = lab.wait_until("it is freed", SECONDS, &format!("! ip -o link | grep -E '^{}:'", index.trim())).ok();
    });
    let about: Vec<&str> = said.lines().filter(|line| line.starts_with("box-eth0: ") || line.starts_with("gone-")).collect();
    // that it has gone when networkd comes to it, networkd 257 says as often as it is told of it
    assert!(!about.is_empty() && !about.iter().any(|line| line.contains("Configuring") || line.contains("annot")), "{said}");
    let _ = lab.sh(&format!("rm {all}; networkctl reload")).ok();
    assert_gone(&lab);
}

/// systemd 257 forgets what binds a unit when that is masked, 252 does not.
fn a_masked_unit_keeps_its_namespace(suite: Suite) {
    let lab = Lab::new(suite);
    let file = lab.sh("d=/usr/local/lib/systemd/system; mkdir -p $d; echo $d/t-mask.service").ok().stdout;
    let file = file.trim();
    lab.services(&[("t-mask.service", "8000")]);
    let _ = lab.sh(&format!("mv /etc/systemd/system/t-mask.service {file}; systemctl daemon-reload")).ok();
    lab.config(&config("\"t-mask\"", ETH0));
    lab.sync_changes(&[]);
    lab.start(&["t-mask"]);
    let who = lab.who("10.63.0.2", "8000");
    let there = (who.pid, who.netns);
    lab.systemctl(&["mask", "t-mask"]);
    reload(&lab);
    assert_eq!(lab.who("10.63.0.2", "8000").pid, there.0, "before sync has looked");
    let said = lab.sync(&[]).ok();
    assert_eq!(said.stdout, stray("t-mask.service"));
    assert_eq!(said.stderr, "warning: t-mask.service of netns 'box' is masked: its drop-in waits for it\n");
    assert_stray(&lab, &there, &stray("t-mask.service"));
    // released by the configuration meanwhile
    lab.config(&config("", ETH0));
    let _ = lab.sync(&[]).ok();
    assert_stray(&lab, &there, &stray("t-mask.service"));
    lab.config(&config("\"t-mask\"", ETH0));
    let _ = lab.sync(&[]).ok();
    // unmasked, all is as before
    lab.systemctl(&["unmask", "t-mask"]);
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    assert_eq!(lab.systemctl(&["list-units", "--plain", "--no-legend", "netns-hold@*"]), "");
    reload(&lab);
    assert_eq!(lab.who("10.63.0.2", "8000").pid, there.0);
    lab.systemctl(&["mask", "t-mask"]);
    let _ = lab.sync(&[]).ok();
    lab.systemctl(&["stop", "t-mask"]);
    let _ = lab.sync(&[]).ok();
    assert_gone(&lab);
    let _ = lab.sh(&format!("rm -f /etc/systemd/system/t-mask.service {file}; systemctl daemon-reload")).ok();
}

/// A unit that is listed by its alias has its drop-in there, and loses it with the alias; and one whose drop-in somebody removes.
fn an_alias_and_a_drop_in_go(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-real.service", "8000")]);
    let _ = lab.sh("ln -s t-real.service /etc/systemd/system/t-alias.service; systemctl daemon-reload").ok();
    lab.config(&config("\"t-alias\"", ETH0));
    lab.sync_changes(&[]);
    lab.start(&["t-real"]);
    let who = lab.who("10.63.0.2", "8000");
    let there = (who.pid, who.netns);
    let _ = lab.sh("rm /etc/systemd/system/t-alias.service").ok();
    reload(&lab);
    let said = lab.sync(&[]).ok();
    assert_eq!(said.stdout, stray("t-real.service"));
    assert_stray(&lab, &there, &stray("t-real.service"));
    // listed by its own name it is bound again, and nothing is to be restarted
    lab.config(&config("\"t-real\"", ETH0));
    let said = lab.sync(&[]).ok();
    assert!(said.stderr.is_empty() && !said.stdout.contains("pending"), "{said}");
    lab.sync_nothing();
    let look = || {
        reload(&lab);
        let who = lab.who("10.63.0.2", "8000");
        assert_eq!((who.pid, who.netns), there);
        assert_eq!(lab.systemctl(&["list-units", "--plain", "--no-legend", "netns-hold@*"]), "");
        lab.assert_active(&["netns@box"]);
    };
    look();
    let _ = lab.sh("rm /etc/systemd/system/t-real.service.d/50-netns-networkd.conf").ok();
    reload(&lab);
    assert_eq!(lab.property("netns@box", "ActiveState"), "failed");
    lab.sync_changes(&[]);
    look();
    lab.stop(&["t-real"]);
    assert_gone(&lab);
}

/// A masked service that stops before anybody has looked leaves a namespace that no unit has.
fn a_namespace_that_is_left_goes(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-old.service", "8000")]);
    lab.config(&config("\"t-old\"", ETH0));
    lab.sync_changes(&[]);
    for in_configuration in [true, false] {
        lab.start(&["t-old"]);
        let _ = lab.sh("mv /etc/systemd/system/t-old.service /var/tmp/").ok();
        reload(&lab);
        lab.systemctl(&["stop", "t-old"]);
        assert_eq!(lab.sh("ls /run/netns; systemctl is-active netns@box || true").ok().stdout, "box\nfailed\n");
        // somebody's shell is reason enough to leave it
        let shell = lab.sh("setsid ip netns exec box sleep 1000 >/dev/null 2>&1 & echo $!").ok().stdout;
        let _ = lab.sync(&[]).ok();
        assert_eq!(lab.sh("ls /run/netns").ok().stdout, "box\n");
        let _ = lab.sh(&format!("kill {shell}")).ok();
        if !in_configuration {
            lab.config("[bridge.br0]\naddresses = [\"10.63.0.1/24\"]\n");
        }
        let _ = lab.sync(&[]).ok();
        lab.wait_gone();
        let _ = lab.sync(&[]).ok();
        assert_gone(&lab);
        let _ = lab.sh("mv /var/tmp/t-old.service /etc/systemd/system/; systemctl daemon-reload").ok();
    }
}

fn one_that_is_listed_by_an_alias_is_restarted(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-real.service", "8000")]);
    let _ = lab.sh("ln -s t-real.service /etc/systemd/system/t-alias.service; systemctl daemon-reload; systemctl start t-real").ok();
    let before = lab.property("t-real", "MainPID");
    lab.config(&config("\"t-alias\"", ETH0));
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.ends_with("\nrestart t-real.service\n") && said.stderr.is_empty(), "{said}");
    assert_ne!(lab.who("10.63.0.2", "8000").pid, before);
    lab.sync_nothing();
    lab.stop(&["t-real"]);
    let _ = lab.sh("rm /etc/systemd/system/t-alias.service").ok();
}

/// The new one cannot have the addresses as long as services use them in the old one: with both, neighbours would send to either.
fn a_renamed_namespace_takes_its_services_along(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    let eth0 = ETH0.replace("\"10.63.0.2/24\"", "\"10.63.0.2/24\", \"fd3f::2/64\"");
    let old = config("\"t-svc\"", &eth0).replace("10.63.0.1/24\"", "10.63.0.1/24\", \"fd3f::1/64\"");
    lab.config(&old);
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    let before = lab.who("10.63.0.2", "8000");
    let new = old.replace("namespace.box", "namespace.new");
    lab.config(&new);
    let pending = |unit: &str, from: &str, to: &str, before: &str| {
        format!(
            "pending: {unit}.service runs in netns '{from}' with address 10.63.0.2/24, address fd3f::2/64, which netns '{to}' is to have: \
             nothing of both is changed before `{before}\n"
        )
    };
    let moves = "netns-networkd sync --restart`, which moves the unit along";
    let said = lab.sync(&[]).ok();
    let retired = "pending: netns 'box' is no longer in the configuration and goes with the next sync after its last unit has stopped: t-svc.service\n";
    assert_eq!((said.stdout, said.stderr.as_str()), (retired.to_owned() + &pending("t-svc", "box", "new", moves), ""));
    let shown = lab.run(&["netns-networkd", "status"]).fails(3).stdout;
    assert!(shown.contains("which netns 'new' is to have") && !shown.contains("systemctl restart"), "{shown}");
    assert_eq!(lab.who("fd3f::2", "8000").pid, before.pid);
    // it may be restarted meanwhile
    lab.systemctl(&["restart", "t-svc"]);
    let before = lab.who("10.63.0.2", "8000");
    assert_eq!(lab.netns_of("t-svc"), lab.named_netns("box"));
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.contains("\nrestart t-svc.service\n") && said.stderr.is_empty(), "{said}");
    for address in ["10.63.0.2", "fd3f::2"] {
        assert_ne!(lab.who(address, "8000").pid, before.pid);
    }
    assert_eq!(lab.netns_of("t-svc"), lab.named_netns("new"));
    lab.sync_nothing();
    assert_eq!(lab.sh("ls /run/netns").ok().stdout, "new\n");
    // so it is where the old one stays
    let stays = old.replace("[namespace.box]", "[namespace.new]\nservices = [\"t-stay\"]\n[namespace.box]");
    lab.services(&[("t-stay.service", "8001")]);
    let both = new.replace("\"t-svc\"", "\"t-svc\", \"t-stay\"");
    lab.config(&both);
    lab.sync_changes(&[]);
    lab.start(&["t-stay"]);
    lab.config(&stays);
    let said = lab.sync(&[]).ok();
    assert!(said.stdout.ends_with(&pending("t-svc", "new", "box", moves)) && !said.stdout.contains("t-stay"), "{said}");
    lab.assert_answers("fd3f::2", "8000");
    let _ = lab.sync(&["--restart"]).ok();
    lab.assert_answers("fd3f::2", "8000");
    lab.sync_nothing();
    lab.stop(&["t-svc", "t-stay"]);
}

/// Only some namespaces are asked for: what another one has cannot come, and that is not to change. With it, it moves, and so does the
/// name of a host end with its service.
fn what_one_is_to_have_and_another_keeps_is_refused(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-two.service", "8001")]);
    let two = "[namespace.two]\nservices = [\"t-two\"]\n\
               interface.eth0 = { bridge = \"br0\", host-name = \"t-end\", addresses = [\"10.63.0.3/24\", \"10.63.0.4/24\"] }\n";
    lab.config(&(config("\"t-svc\"", ETH0) + two));
    lab.sync_changes(&[]);
    lab.start(&["t-svc", "t-two"]);
    let more = ETH0.replace("10.63.0.2/24\"", "10.63.0.2/24\", \"10.63.0.4/24\"");
    let fewer = two.replace(", \"10.63.0.4/24\"", "");
    lab.config(&(config("\"t-svc\"", &more) + &fewer));
    let refused = "error: /etc/netns-networkd/test.toml:3: netns 'box' is to have address 10.63.0.4/24, which netns 'two' has by now\n  \
                   hint: `netns-networkd sync box two` moves it\nerror: nothing was changed\n";
    let before = lab.fingerprint();
    for arguments in [&["box"][..], &["box", "--dry-run"], &["box", "--restart"]] {
        assert_eq!(lab.sync(arguments).fails(2).stderr, refused, "{arguments:?}");
    }
    lab.assert_unchanged(&before);
    // one that does not run would have it again when it starts
    lab.stop(&["t-two"]);
    lab.wait_gone();
    assert_eq!(lab.sync(&["box"]).fails(2).stderr, refused);
    lab.start(&["t-two"]);
    let _ = lab.sync(&["box", "two"]).ok();
    lab.sync_nothing();
    lab.assert_answers("10.63.0.4", "8000");
    // renamed
    let new = fewer.replace("namespace.two", "namespace.new");
    lab.config(&(config("\"t-svc\"", &more) + &new));
    let said = lab.sync(&["new", "--restart"]).ok();
    assert!(said.stdout.contains("\nrestart t-two.service\n") && said.stderr.is_empty(), "{said}");
    lab.assert_answers("10.63.0.3", "8001");
    let _ = lab.sync(&[]).ok();
    lab.config(&(config("\"t-svc\"", &more) + &fewer));
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.contains("\nrestart t-two.service\n") && said.stderr.is_empty(), "{said}");
    lab.assert_answers("10.63.0.3", "8001");
    lab.sync_nothing();
    lab.stop(&["t-svc", "t-two"]);
}

fn one_unit_by_two_names_is_in_one_namespace(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-real.service", "8000")]);
    let _ = lab.sh("ln -s t-real.service /etc/systemd/system/t-alias.service; systemctl daemon-reload").ok();
    lab.config(&config("", ETH0));
    lab.sync_changes(&[]);
    lab.config(&(config("\"t-alias\"", ETH0) + "[namespace.two]\nservices = [\"t-real\"]\n"));
    let before = lab.fingerprint();
    for arguments in [&["--dry-run"][..], &[], &["--restart", "--force"]] {
        assert_eq!(
            lab.sync(arguments).fails(2).stderr,
            "error: /etc/netns-networkd/test.toml:6: netns 'two' has t-real.service, which is t-alias.service of netns 'box' by another name\n  \
             hint: list the unit once; `systemctl show -P Names t-real.service` gives all its names\nerror: nothing was changed\n",
            "{arguments:?}"
        );
    }
    lab.assert_unchanged(&before);
    // in one namespace it may be listed twice
    lab.config(&config("\"t-alias\", \"t-real\"", ETH0));
    lab.sync_changes(&[]);
    lab.start(&["t-real"]);
    lab.assert_answers("10.63.0.2", "8000");
    lab.sync_nothing();
    lab.stop(&["t-real"]);
    let _ = lab.sh("rm /etc/systemd/system/t-alias.service").ok();
}
