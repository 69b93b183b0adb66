//! Faults on purpose on booted hosts (docs/decisions/0016): `sync`, `rollback` and `confirm` are killed, and fail, wherever they can,
//! and a bus answers late or never. What is left is then mended by the next run, and services that run notice nothing.
//!
//! All is done every so often, most often on trixie: `NETNS_TEST_FAULTS=all` has all of it.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, has_no_faults};
use crate::faults::{assert_right, errors, every, kills};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        killed_at_changes_of_sync,
        killed_at_changes_of_a_first_sync,
        killed_at_changes_of_restarts,
        errors_of_sync,
        killed_at_changes_of_rollback,
        killed_at_changes_of_confirm,
        errors_of_rollback,
        bus_that_answers_late,
        bus_that_never_answers,
    ]
}

const ONE: &str = r#"
[bridge.br0]
addresses = ["10.58.0.1/24", "fd3a::1/64"]
[namespace.web]
description = "the web"
services = ["t-web"]
dns = ["10.58.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.58.0.2/24", "fd3a::2/64"], gateways = ["10.58.0.1", "fd3a::1"] }
"#;

/// What differs: an address in a namespace that runs; a bridge and a namespace; a service that moves.
const MORE: &str = r#"
[bridge.br1]
addresses = ["10.58.1.1/24"]
[namespace.sql]
services = ["t-sql"]
dns = ["10.58.1.1"]
interface.eth0 = { bridge = "br1", addresses = ["10.58.1.2/24"] }
"#;

/// Every so many calls; all of them if that is asked for.
fn stride(suite: Suite, trixie: usize, others: usize) -> usize {
    every(if suite == Suite::Trixie { trixie } else { others })
}

/// What all rounds have: `pids` are the services that nobody may restart.
const ROUNDS: &str = r#"
    pids='t-web t-sql'
    configure() { cp /run/t-$1.toml /etc/netns-networkd/test.toml; }
    sync() { netns-networkd sync "$@" 2>&1 || echo "sync $* fails with $?"; }
    fails() { grep fails || true; }
    mine() { # somebody else's file, which is in the way
        local unit=/etc/systemd/system/t-sql.service.d; mkdir -p $unit
        echo '# mine' >$unit/50-netns-networkd.conf; chmod 640 $unit/50-netns-networkd.conf; systemctl daemon-reload
    }
    picture() { # all that is ours, and whom nobody may disturb
        # what `down` has put aside goes by itself, in a moment
        for n in {1..500}; do if ! compgen -G '/sys/class/net/gone-*' >/dev/null; then break; fi; read -t 0.02 <> <(:) || true; done
        { set +e; find /etc/systemd /etc/netns /var/lib/netns-networkd -not -name lock -not -name manifest.toml \( -type f -o -type l \) -exec stat -c '%n %a %u %g' {} + -exec sha256sum {} +
          # a run that was cut off may leave a file listed that has gone
          sed 's/"//g' /var/lib/netns-networkd/manifest.toml | while read -r path hashes; do [[ ! -e $path ]] || echo "listed $path $hashes"; done
          grep unfinished /var/lib/netns-networkd/manifest.toml
          ls -A /etc/netns /etc/systemd/network /etc/systemd/system /var/lib/netns-networkd /run/netns-networkd/netns /run/netns-networkd/held /run/netns
          ls /sys/class/net; ip -o -4 addr; ip -n web -br link | cut -d' ' -f1; ip -n web -o -4 addr
          systemctl is-active t-web t-sql netns-networkd-rollback.timer; systemctl list-units --plain --no-legend 'netns-hold@*'
          for unit in $pids; do systemctl show -p Id -p MainPID -p NeedDaemonReload $unit; done
          [[ /proc/$(systemctl show -P MainPID t-sql)/ns/net -ef /proc/1/ns/net ]] && echo 't-sql is on the host'; true
        } 2>&1 | sed -E 's/@[^ ]*//; s/  +/ /g; s/^[0-9]+: //; s/ *valid_lft.*//; /No such file/d' | sort
    }
    keep() { picture >/run/t-picture-$1; }
    is() { diff /run/t-picture-$1 <(picture) || echo "that is not '$1'"; } # says how the host differs from it
    settled() { local more; more=$(sync "$@" | grep -vE '^pending: |is left alone' || true); [[ ! $more ]] || echo "there is more to do: $more"; }
"#;

/// A lab with both services running, and the configurations `none`, `one` and `two`.
#[track_caller]
fn lab(suite: Suite, prepare: &str) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-sql.service", "8001")]);
    let two = ONE.replace("10.58.0.2/24\", ", "10.58.0.2/24\", \"10.58.0.22/24\", ") + MORE;
    for (name, text) in [("none", ""), ("one", ONE), ("two", &two)] {
        lab.write_file(&format!("/run/t-{name}.toml"), text);
    }
    let _ = lab.sh(&format!("mkdir -p /etc/netns-networkd /run/netns-networkd/held; {ROUNDS} configure one; netns-networkd sync")).ok();
    lab.start(&["t-web", "t-sql"]);
    let _ = lab.sh(&format!("{ROUNDS}{prepare}")).ok();
    lab
}

/// Each change of one configuration to the other, and back.
fn there_and_back(one: &str, two: &str, options: &str) -> String {
    format!(
        "{ROUNDS} round() {{
            for next in {two} {one}; do
                configure $next; fault $1 sync {options}
                report \"$(sync {options} | fails; settled {options}; is $next)\"
            done
        }}"
    )
}

fn killed_at_changes_of_sync(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, "configure two; sync; sync; keep two; configure one; sync; sync; keep one");
    assert_right(&kills(&lab, &there_and_back("one", "two", ""), (1, stride(suite, 2, 6))), 20);
    lab.assert_answers("10.58.0.2", "8000");
}

/// And of the removal of all.
fn killed_at_changes_of_a_first_sync(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, "");
    lab.stop(&["t-web", "t-sql"]);
    let _ = lab.sh(&format!("{ROUNDS} sync; keep one; configure none; sync; sync; keep none")).ok();
    assert_right(&kills(&lab, &there_and_back("none", "one", ""), (1, stride(suite, 8, 16))), 8);
}

fn killed_at_changes_of_restarts(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let prepare = "pids=t-web; configure two; sync --restart; sync; keep two; configure one; sync --restart; sync; keep one";
    let lab = lab(suite, prepare);
    let script = there_and_back("one", "two", "--restart").replace("pids='t-web t-sql'", "pids=t-web");
    assert_right(&kills(&lab, &script, (1, stride(suite, 6, 16))), 8);
}

fn errors_of_sync(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, "configure two; sync; sync; keep two; configure one; sync; sync; keep one");
    let script = format!(
        "{ROUNDS}
        before() {{ configure one; sync | fails; configure two; }}
        calls() {{ before; list sync; }}
        unchanged() {{ configure one; settled; is one; configure two; }}
        round() {{
            before; fault $1 sync
            report \"$([[ $said != *'nothing was changed'* ]] || unchanged; ((code)) && sync | fails; settled; is two)\"
        }}"
    );
    assert_right(&errors(&lab, &script, (stride(suite, 4, 6), stride(suite, 80, 120)), ""), 10);
}

/// All that `--force` replaces, and what is there while changes wait.
const CONFIRM: &str = r"
    begin() { configure two; sync --restart --force --confirm 600 | fails; }
    goes_back() { # after whatever happened
        if [[ -e /var/lib/netns-networkd/rollback/snapshot.toml ]]; then
            systemctl is-active -q netns-networkd-rollback.timer || echo 'it waits, and no timer runs'
            netns-networkd rollback >/run/t-said 2>&1 || { echo 'rollback fails'; cat /run/t-said; }
        fi
        configure one; settled; is mine
    }
";
const MINE: &str = "pids=t-web; mine; sync; keep mine";

fn killed_at_changes_of_rollback(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, MINE);
    let script = format!("{ROUNDS}{CONFIRM} pids=t-web; round() {{ begin; fault $1 rollback; report \"$(goes_back)\"; }}");
    let list = format!("{}{script}; begin; list rollback; grep -vcE '^(look|question) ' /run/list", crate::faults::FAULTS);
    let changes: usize = lab.sh(&list).ok().stdout.trim().parse().unwrap();
    assert_right(&kills(&lab, &script, (1, stride(suite, 7, 14))), 4);
    // what no other sync does
    assert_right(&kills(&lab, &script, (changes - 18, stride(suite, 2, 5))), 4);
    let _ = lab.run(&["rm", "-r", "/etc/systemd/system/t-sql.service.d"]).ok();
}

fn killed_at_changes_of_confirm(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, MINE);
    let script = format!(
        "{ROUNDS}{CONFIRM} pids=t-web
        round() {{ configure two; fault $1 sync --restart --force --confirm 600; report \"$(goes_back)\"; }}"
    );
    assert_right(&kills(&lab, &script, (1, stride(suite, 4, 9))), 4);
    let script = format!(
        "{ROUNDS}{CONFIRM}
        confirmed() {{ # or not, then it is still known
            [[ ! -e /var/lib/netns-networkd/rollback/snapshot.toml ]] || netns-networkd confirm
            settled; systemctl is-active netns-networkd-rollback.timer; ls /etc/systemd/system/multi-user.target.wants | grep rollback
            ls /var/lib/netns-networkd | grep rollback
        }}
        round() {{ begin; fault $1 confirm; report \"$(confirmed | grep -v inactive)\"; configure one; sync --restart | fails; mine; }}"
    );
    assert_right(&kills(&lab, &script, (1, stride(suite, 1, 3))), 3);
    let _ = lab.run(&["rm", "-r", "/etc/systemd/system/t-sql.service.d"]).ok();
}

fn errors_of_rollback(suite: Suite) {
    if has_no_faults() {
        return;
    }
    let lab = lab(suite, MINE);
    let script = format!(
        "{ROUNDS}{CONFIRM} pids=t-web; calls() {{ begin; list rollback; }}
        round() {{ begin; fault $1 rollback; report \"$(goes_back)\"; }}"
    );
    assert_right(&errors(&lab, &script, (stride(suite, 6, 15), stride(suite, 100, 250)), ""), 4);
    let _ = lab.run(&["rm", "-r", "/etc/systemd/system/t-sql.service.d"]).ok();
}

/// Stops the bus for as long as a command runs, or for some seconds of it.
#[track_caller]
fn without_answers(lab: &Lab, seconds: &str, command: &str) -> (crate::common::Output, Duration) {
    let start = Instant::now();
    let output = lab.sh(&format!(
        "bus=$(systemctl show -P MainPID dbus); kill -STOP $bus; trap 'kill -CONT $bus' EXIT
         (sleep {seconds}; kill -CONT $bus) >/dev/null & {command}"
    ));
    (output, start.elapsed())
}

fn bus_that_answers_late(suite: Suite) {
    let lab = lab(suite, "configure two");
    let (output, took) = without_answers(&lab, "5", "netns-networkd sync");
    assert!(output.code == 0 && output.stderr.is_empty(), "{output}");
    assert!((5..25).contains(&took.as_secs()), "{took:?}");
    lab.assert_answers("10.58.0.22", "8000");
    let _ = lab.sh("ip link show br1").ok();
}

fn bus_that_never_answers(suite: Suite) {
    let lab = lab(suite, "keep one; configure two");
    let (output, took) = without_answers(&lab, "100", "netns-networkd sync");
    let wanted =
        "error: failed to connect to the system bus: no answer within 25 s\n  hint: `systemctl status dbus.socket` shows the bus's state\n";
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (1, "", wanted));
    assert!(took < Duration::from_secs(35), "{took:?}");
    assert_eq!(lab.sh(&format!("{ROUNDS} is one || true")).ok().stdout, "", "nothing was changed");
    // which no namespace needs
    let (output, took) = without_answers(&lab, "100", "netns-networkd up web; netns-networkd up --live web");
    assert!(output.code == 0 && took < Duration::from_secs(5), "{took:?} {output}");
    let _ = lab.sync(&[]).ok();
    lab.assert_answers("10.58.0.22", "8000");
}
