//! `sync --confirm`: what nobody confirms goes back, whatever becomes of the program and of its terminal.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, diff};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        what_nobody_confirms_goes_back,
        confirmed_changes_stay,
        a_restart_goes_back_by_a_restart,
        a_first_sync_goes_back_to_nothing,
        files_of_others_go_back_as_they_were,
        a_killed_sync_goes_back,
        ctrl_c_goes_back_at_once,
        a_person_at_a_terminal_is_asked,
        a_slow_sync_leaves_time_to_answer,
        only_one_change_waits,
        what_does_not_show_is_told,
        a_lost_connection_goes_back,
    ]
}

pub const LIMIT: Duration = Duration::from_secs(30);

pub const BEFORE: &str = r#"
[bridge.br0]
addresses = ["10.47.0.1/24"]
[bridge.br9]
[namespace.box]
services = ["t-box"]
interface.eth0 = { bridge = "br0", addresses = ["10.47.0.2/24"], gateways = ["10.47.0.1"] }
"#;

/// Addresses, a bridge that goes and one that comes, an interface, a namespace, a service that moves.
pub const AFTER: &str = r#"
[bridge.br0]
addresses = ["10.48.0.1/24"]
[bridge.br1]
addresses = ["10.49.0.1/24"]
[namespace.box]
services = ["t-box"]
interface.eth0 = { bridge = "br0", mtu = 1400, addresses = ["10.48.0.2/24"], gateways = ["10.48.0.1"] }
interface.eth1 = { bridge = "br1", addresses = ["10.49.0.2/24"] }
[namespace.new]
services = ["t-new"]
interface.eth0 = { bridge = "br1", addresses = ["10.49.0.3/24"] }
"#;

/// A lab with a service inside and one outside, both running; the second starts slowly once asked to.
pub fn lab(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.units(&[
        ("t-box.service", "serve 8000", ""),
        ("t-new.service", "serve 8001", "ExecStartPre=/bin/sh -c 'test ! -e /run/t-slow || sleep 5'"),
    ]);
    lab.config(BEFORE);
    lab.sync_changes(&[]);
    lab.start(&["t-box", "t-new"]);
    lab
}

/// All that a sync changes: files with mode and owner, links, what is inside, where services are.
#[track_caller]
pub fn picture(lab: &Lab) -> String {
    lab.sh("find /etc/systemd /etc/netns /var/lib/netns-networkd -not -path '*rollback*' -not -name lock \\( -type f -o -type l \\) \
             -exec stat -c '%n %a %u %g' {} + -exec sha256sum {} + 2>/dev/null | sort || true
         ip -br link | sed 's/@[^ ]*//; s/  */ /g' | sort; ip -o -4 addr | sed 's/^[0-9]*: //' | sort; ls /run/netns
         ip -n box -br link | sed 's/@[^ ]*//; s/  */ /g'; ip -n box -o -4 addr | sed 's/^[0-9]*: //' | sort; ip -n box route
         [[ /proc/$(systemctl show -P MainPID t-new)/ns/net -ef /proc/1/ns/net ]] && echo outside || echo inside")
        .ok()
        .stdout
}

#[track_caller]
pub fn assert_same(now: &str, before: &str) {
    assert!(now == before, "{}", diff(before, now));
}

#[track_caller]
pub fn wait_gone_back(lab: &Lab) {
    let _ = lab.wait_until(
        "changes have gone back",
        LIMIT,
        "[ ! -e /var/lib/netns-networkd/rollback ] && ! systemctl is-active -q netns-networkd-rollback.timer",
    );
    let _ = lab.sh("test ! -e /etc/systemd/system/multi-user.target.wants/netns-networkd-rollback.service").ok();
}

fn what_nobody_confirms_goes_back(suite: Suite) {
    let lab = lab(suite);
    let (before, pid) = (picture(&lab), lab.property("t-box", "MainPID"));
    lab.config(AFTER);
    let said = lab.sync(&["--restart", "--confirm", "3"]).ok();
    assert!(said.stdout.ends_with("waiting: everything goes back in 3 s unless `netns-networkd confirm` is run\n"), "{said}");
    lab.assert_answers("10.49.0.3", "8001");
    assert_eq!(lab.sh("stat -c %a /var/lib/netns-networkd/rollback").ok().stdout, "700\n");
    // nothing else is changed meanwhile
    let refused = "error: the changes of an earlier sync wait to be confirmed\n  hint: `netns-networkd confirm` keeps them, \
                   `netns-networkd rollback` takes them back\nerror: nothing was changed\n";
    assert_eq!(lab.sync(&[]).fails(2).stderr, refused);
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    lab.assert_answers("10.47.0.2", "8000");
    assert_eq!(lab.property("t-box", "MainPID"), pid, "no service was restarted that need not be");
    let journal = lab.journal(&["netns-networkd-rollback.service"]);
    assert!(journal.contains("all changes were taken back"), "{journal}");
    lab.config(BEFORE);
    lab.sync_nothing();
}

fn confirmed_changes_stay(suite: Suite) {
    let lab = lab(suite);
    lab.config(AFTER);
    let _ = lab.sync(&["--restart", "--confirm", "60"]).ok();
    let after = picture(&lab);
    let _ = lab.run(&["netns-networkd", "confirm"]).ok();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &after);
    lab.sync_nothing();
    let error = "error: no changes wait to be confirmed\n  hint: `journalctl -u netns-networkd-rollback.service` shows whether they were taken back\n";
    for command in ["confirm", "rollback"] {
        assert_eq!(lab.run(&["netns-networkd", command]).fails(1).stderr, error);
    }
    // nothing to do, nothing to confirm
    assert_eq!(lab.sync(&["--confirm", "5"]).ok().stdout, "");
    let _ = lab.sh("test ! -e /var/lib/netns-networkd/rollback").ok();
    // at once
    lab.config(BEFORE);
    let _ = lab.sync(&["--restart", "--confirm", "60"]).ok();
    let says = |what: &str| {
        let status = lab.run(&["netns-networkd", "status"]).stdout;
        assert!(status.contains("the changes of an earlier sync ") && status.contains(what), "{status}");
    };
    says("go back unless");
    lab.systemctl(&["stop", "netns-networkd-rollback.timer"]);
    says("somebody has stopped the timer");
    lab.write_file("/run/systemd/system/netns-networkd-rollback.service.d/t.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n");
    let _ = lab.sh("systemctl daemon-reload; systemctl start netns-networkd-rollback || true").ok();
    says("that fails: `journalctl -b -u netns-networkd-rollback` shows why");
    let _ = lab.sh("rm -r /run/systemd/system/netns-networkd-rollback.service.d; systemctl daemon-reload").ok();
    let _ = lab.run(&["netns-networkd", "rollback"]).ok();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &after);
    lab.config(AFTER);
    lab.sync_nothing();
}

/// A namespace that had to be restarted, with a unit that is bound by hand.
fn a_restart_goes_back_by_a_restart(suite: Suite) {
    let lab = lab(suite);
    lab.units(&[(
        "t-hand.service",
        "serve 8002",
        "NetworkNamespacePath=/run/netns/box\n[Unit]\nBindsTo=netns@box.service\nAfter=netns@box.service",
    )]);
    lab.start(&["t-hand"]);
    let before = picture(&lab);
    lab.config(&BEFORE.replace("interface.eth0 = { ", "interface.eth0 = { host-name = \"t-new\", "));
    let said = lab.sync(&["--restart", "--confirm", "2"]).ok();
    assert!(said.stdout.contains("\nrestart netns@box.service\nrestart t-box.service\nrestart t-hand.service\n"), "{said}");
    let _ = lab.run(&["ip", "link", "show", "t-new"]).ok();
    let pids = || (lab.property("t-box", "MainPID"), lab.property("t-hand", "MainPID"));
    let meanwhile = pids();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    assert!(pids().0 != meanwhile.0 && pids().1 != meanwhile.1);
    for port in ["8000", "8002"] {
        lab.assert_answers("10.47.0.2", port);
    }
    lab.config(BEFORE);
    lab.sync_nothing();
}

fn a_first_sync_goes_back_to_nothing(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-box.service", "serve 8000", "")]);
    lab.start(&["t-box"]);
    let look = || {
        lab.sh("find /etc/systemd /etc/netns /var/lib/netns-networkd -type f -not -name lock -not -name manifest.toml 2>/dev/null | sort || true; ip -br link | wc -l; ls /run/netns 2>/dev/null || true; readlink /proc/$(systemctl show -P MainPID t-box)/ns/net").ok().stdout
    };
    let before = look();
    lab.config(BEFORE);
    let _ = lab.sync(&["--restart", "--confirm", "1"]).ok();
    wait_gone_back(&lab);
    assert_eq!(look(), before);
    lab.assert_answers("127.0.0.1", "8000");
}

/// Edited, masked, with another mode and owner: `--force` replaces them, and they come back so.
fn files_of_others_go_back_as_they_were(suite: Suite) {
    let lab = lab(suite);
    let files = "/etc/systemd/network/10-netns-networkd-bridge-br0.network /etc/systemd/network/10-netns-networkd-port-box-eth0.network \
                 /etc/systemd/system/t-new.service.d/50-netns-networkd.conf";
    let _ = lab
        .sh(&format!(
            "set -- {files}; echo '# mine' >>$1; chmod 600 $1; chown 7:8 $1; ln -sf /dev/null $2
             mkdir -p ${{3%/*}}; echo '# mine, too' >$3; systemctl daemon-reload; networkctl reload"
        ))
        .ok();
    let before = picture(&lab);
    lab.config(AFTER);
    let _ = lab.sync(&["--restart", "--force", "--confirm", "1"]).ok();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    // never for all to read
    let journal = lab.journal(&["netns-networkd-rollback.service"]);
    let back = |file: &str| journal.contains(&format!("put back file {file}\n")) && !journal.contains(&format!("change file {file}\n"));
    assert!(files.split_whitespace().all(back), "{journal}");
    let _ = lab.sh(&format!("rm -f {files}; rmdir /etc/systemd/system/t-new.service.d; systemctl daemon-reload")).ok();
    lab.config(BEFORE);
    let _ = lab.sync(&[]).ok();
}

fn a_killed_sync_goes_back(suite: Suite) {
    let lab = lab(suite);
    let before = picture(&lab);
    lab.config(AFTER);
    let start = "touch /run/t-slow; netns-networkd sync --restart --confirm 3 >/dev/null 2>&1 & echo $! >/run/t-sync";
    let _ = lab.sh(start).ok();
    let restarting = "[[ $(systemctl show -P ActiveState t-new) = activating ]]";
    let _ = lab.wait_until("a service restarts", LIMIT, restarting);
    let _ = lab.sh("kill -KILL $(cat /run/t-sync); rm /run/t-slow").ok();
    wait_gone_back(&lab);
    let _ = lab.wait_until("the service is back", LIMIT, "systemctl is-active -q t-new");
    assert_same(&picture(&lab), &before);
    lab.config(BEFORE);
    lab.sync_nothing();
}

fn ctrl_c_goes_back_at_once(suite: Suite) {
    let lab = lab(suite);
    let before = picture(&lab);
    lab.config(AFTER);
    // bash has programs in the background ignore it
    let start = "touch /run/t-slow; setsid env --default-signal=INT netns-networkd sync --restart --confirm 600 >/run/t-said 2>&1 & echo $! >/run/t-sync";
    let _ = lab.sh(start).ok();
    let _ = lab.wait_until("a service restarts", LIMIT, "[[ $(systemctl show -P ActiveState t-new) = activating ]]");
    let _ = lab.sh("kill -INT $(cat /run/t-sync); rm /run/t-slow").ok();
    wait_gone_back(&lab);
    assert!(lab.read_file("/run/t-said").contains("interrupted: everything goes back"));
    let _ = lab.wait_until("the service is back", LIMIT, "systemctl is-active -q t-new");
    assert_same(&picture(&lab), &before);
    lab.config(BEFORE);
    lab.sync_nothing();
}

fn a_person_at_a_terminal_is_asked(suite: Suite) {
    let lab = lab(suite);
    let before = picture(&lab);
    let answer = |keys: &str| {
        let type_it = format!("(sleep 2; printf '{keys}'; sleep 2) | script -qec 'netns-networkd sync --restart --confirm 30' /dev/null");
        lab.sh(&type_it)
    };
    lab.config(AFTER);
    let said = answer("n\\n").fails(1);
    assert!(said.stdout.contains("Keep these changes? They are taken back in 30 s. [y/N] "), "{said}");
    assert!(said.stdout.contains("all changes were taken back"), "{said}");
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    let said = answer("\\003");
    assert!(said.stdout.contains("interrupted: everything goes back"), "{said}");
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    let _ = answer("y\\n").ok();
    wait_gone_back(&lab);
    assert_ne!(picture(&lab), before);
    lab.sync_nothing();
}

/// A restart that takes longer than the time to answer: that begins when all is done.
fn a_slow_sync_leaves_time_to_answer(suite: Suite) {
    let lab = lab(suite);
    lab.config(AFTER);
    let _ = lab.sh("touch /run/t-slow").ok();
    let _ = lab.sync(&["--restart", "--confirm", "2"]).ok();
    let _ = lab.sh("sleep 1; netns-networkd confirm; rm /run/t-slow").ok();
    assert_eq!(
        lab.sh(
            "for each in ActiveState NRestarts; do systemctl show -P $each netns-networkd-rollback; done; systemctl --failed --no-legend"
        )
        .ok()
        .stdout,
        "inactive\n0\n"
    );
    lab.sync_nothing();
}

/// Another one neither changes anything nor takes anything back, whatever becomes of it, and says only what is so.
fn only_one_change_waits(suite: Suite) {
    let lab = lab(suite);
    lab.config(AFTER);
    let _ = lab.sh("touch /run/t-slow; netns-networkd sync --restart --confirm 600 >/dev/null 2>&1 & echo $! >/run/t-sync").ok();
    let _ = lab.wait_until("a service restarts", LIMIT, "[[ $(systemctl show -P ActiveState t-new) = activating ]]");
    // it waits for the first one, and is not part of it
    let second = "setsid env --default-signal=INT netns-networkd sync --confirm 9 >/run/t-said 2>&1 & pid=$!; \
                  until [[ $(cut -d' ' -f1 /proc/$pid/syscall) = 73 ]]; do :; done; \
                  kill -INT $pid; wait $pid || [[ $? = 130 ]]; cat /run/t-said";
    assert_eq!(lab.sh(second).ok().stdout, "\ninterrupted: nothing was changed\n");
    let _ = lab.wait_until("the first one is done", LIMIT, "! kill -0 $(cat /run/t-sync) 2>/dev/null");
    let said = lab.sync(&["--confirm", "9"]).fails(2);
    assert!(said.stderr.ends_with("takes them back\nerror: nothing was changed\n"), "{said}");
    let _ = lab.sh("netns-networkd confirm; rm /run/t-slow").ok();
    lab.sync_nothing();
    // and what a run leaves that was killed before it changed anything is in nobody's way
    let leave = "mkdir -m 700 /var/lib/netns-networkd/rollback; touch /var/lib/netns-networkd/rollback/0
                 ln -s /usr/lib/systemd/system/netns-networkd-rollback.service /etc/systemd/system/multi-user.target.wants/
                 busctl -q call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit \
                     'ssa(sv)a(sa(sv))' netns-networkd-rollback.timer replace 1 TimersMonotonic 'a(st)' 1 OnActiveSec 600000000 0";
    let _ = lab.sh(leave).ok();
    lab.config(BEFORE);
    for answer in ["rollback", "confirm", "rollback", "confirm"] {
        let _ = lab.sync(&["--restart", "--confirm", "600"]).ok();
        let _ = lab.run(&["netns-networkd", answer]).ok();
        wait_gone_back(&lab);
        if answer == "confirm" {
            lab.config(AFTER);
        }
    }
    let _ = lab.sh(leave).ok();
    let _ = lab.sync(&[]).ok();
    wait_gone_back(&lab);
}

/// A script that goes on only if all is well must not be told so.
fn what_does_not_show_is_told(suite: Suite) {
    let lab = Lab::new(suite);
    let culprit = "/etc/systemd/network/05-all.network";
    lab.write_file(culprit, "[Match]\nName=br-*\n[Network]\nLinkLocalAddressing=no\n");
    lab.config("[bridge.br-a]\naddresses = [\"10.61.0.1/24\"]\n");
    let said = lab.sync(&["--confirm", "600"]).fails(4);
    assert!(said.stdout.contains("waiting: everything goes back"), "{said}");
    let _ = lab.sh(&format!("rm {culprit}; netns-networkd rollback")).ok();
    wait_gone_back(&lab);
    assert_eq!(lab.sh("ls /etc/systemd/network; ip -br link show br-a 2>/dev/null || true").ok().stdout, "");
    for seconds in ["0", "-1", "x", "86401"] {
        let _ = lab.sync(&[&format!("--confirm={seconds}")]).fails(2);
    }
}

/// The terminal goes with the connection, while the question is there.
fn a_lost_connection_goes_back(suite: Suite) {
    let lab = lab(suite);
    let before = picture(&lab);
    lab.config(AFTER);
    let sync = "mkfifo /run/t-keys; script -qefc 'netns-networkd sync --restart --confirm 3' /run/t-said </run/t-keys >/dev/null & exec 3>/run/t-keys
                until grep -q 'Keep these changes' /run/t-said; do :; done; kill -KILL $!; rm /run/t-keys /run/t-said";
    let _ = lab.sh(sync).ok();
    wait_gone_back(&lab);
    assert_same(&picture(&lab), &before);
    lab.config(BEFORE);
    lab.sync_nothing();
}
