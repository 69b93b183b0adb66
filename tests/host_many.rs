//! Many at once and many times: nothing fails, and nothing is left behind, neither by us nor by systemd and networkd because of us.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, diff, soak_rounds};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![a_hundred_services_start_at_once, rounds_leave_nothing_behind]
}

/// Without `NETNS_TEST_SOAK`: systemd stops what is not needed at most 16 times in 10 s, and more would wait for that.
const ROUNDS: u32 = 12;

/// Counts what there must be as much of afterwards: network namespaces of processes and open files, mounts of namespaces in every
/// mount namespace, links, files, groups of processes, units; then the open files and netlink sockets of the daemons.
const CENSUS: &str = r#"
    cd /proc
    echo "namespaces $(readlink [0-9]*/task/[0-9]*/ns/net 2>/dev/null | sort -u | wc -l)"
    echo "held open $(find [0-9]*/fd -lname 'net:*' 2>/dev/null | wc -l)"
    echo "mounts of namespaces $(cat [0-9]*/mountinfo 2>/dev/null | grep -c ' - nsfs ' || true)"
    echo "mounts $(wc -l <self/mountinfo), at /run/netns $(grep -c ' /run/netns ' self/mountinfo || true)"
    ip -br link | sed 's/@.*//; s/ .*//' | sort | xargs echo links
    find /run/netns /run/netns-networkd ! -type d | sort | xargs echo files
    find /sys/fs/cgroup -type d \( -name 'netns*.service' -o -name 't-*.service' \) | xargs -rn1 basename | sort | xargs echo groups
    systemctl list-units --all --plain --no-legend 'netns*' 't-*' run-netns-* | cut -d' ' -f1 | xargs echo units
    for name in systemd systemd-network; do
        echo "$name has $(ls $(pgrep -ox $name)/fd | wc -l) open files"
    done
    echo "netlink sockets $(grep -vc "$(pgrep -ox systemd-journal) " net/netlink)"
"#;

/// Counts what there is when nothing is going any more: systemd forgets a mount some time after it has gone.
#[track_caller]
fn census(lab: &Lab) -> String {
    let quiet = "[[ -z $(systemctl list-units --all --plain --no-legend 'netns@*' 't-many*' 'run-netns-*') ]]";
    let _ = lab.wait_until("all units have gone", Duration::from_secs(30), quiet);
    // a connection to systemd takes its time to go, too
    let script = format!("census() {{ {CENSUS}\n}}\nfirst=$(census); read -t 0.5 <> <(:) || true; [[ $first = $(census) ]]");
    let _ = lab.wait_until("nothing comes or goes", Duration::from_secs(30), &script);
    lab.sh(CENSUS).ok().stdout
}

/// Waits until all is as it was: namespaces take their time to go.
#[track_caller]
fn assert_same(lab: &Lab, before: &str) {
    let script = format!("census() {{ {CENSUS}\n}}\n[[ $(census) = '{}' ]]", before.trim_end());
    let start = std::time::Instant::now();
    while lab.sh(&script).code != 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "left behind:\n{}", diff(before, &lab.sh(CENSUS).ok().stdout));
    }
}

/// Memory of the daemons in KiB, and how many network namespaces the whole machine has; the latter includes those of other tests.
fn sizes(lab: &Lab) -> BTreeMap<String, i64> {
    let text = lab
        .sh("for name in systemd systemd-network dbus-daemon; do
                 echo $name $(awk '/^VmRSS/ { print $2 }' /proc/$(pgrep -ox $name)/status)
             done; awk '/^net_namespace/ { print $1, $2 }' /proc/slabinfo")
        .ok()
        .stdout;
    let number = |line: &str| line.split_once(' ').map(|(name, n)| (name.to_owned(), n.parse().unwrap_or_default()));
    text.lines().filter_map(number).collect()
}

const BRIDGES: &str = "[bridge.br0]\naddresses = [\"10.70.0.1/16\", \"fd46::1/64\"]\n[bridge.br1]\naddresses = [\"10.71.0.1/16\"]\n";

/// A namespace of one of three kinds: a pair, two pairs on two bridges, a pair and a macvlan link.
fn namespace(n: u32) -> String {
    let more = match n % 10 {
        0 => format!("interface.eth1 = {{ kind = \"macvlan\", parent = \"eno1\", addresses = [\"198.51.100.{}/24\"] }}\n", 100 + n / 10),
        5 => format!("interface.eth1 = {{ bridge = \"br1\", addresses = [\"10.71.1.{n}/16\"] }}\n"),
        _ => String::new(),
    };
    format!(
        "[namespace.n{n}]\nservices = [\"t-many@{n}.service\"]\n\
         interface.eth0 = {{ bridge = \"br0\", addresses = [\"10.70.1.{n}/16\", \"fd46::1:{n}/64\"], gateways = [\"10.70.0.1\", \"fd46::1\"] }}\n{more}"
    )
}

/// A lab with a namespace for each number; the service in it listens at its own IPv6 address, which must be usable by then.
fn lab(suite: Suite, numbers: &[u32]) -> Lab {
    let lab = Lab::new(suite);
    let unit = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=/usr/bin/nc -lk fd46::1:%i 8000\n";
    lab.write_file("/etc/systemd/system/t-many@.service", unit);
    lab.config(&numbers.iter().fold(BRIDGES.to_owned(), |mut text, n| {
        write!(text, "{}", namespace(*n)).unwrap();
        text
    }));
    lab.systemctl(&["daemon-reload"]);
    lab.sync_changes(&[]);
    lab
}

/// Each by a `systemctl` of its own.
fn a_hundred_services_start_at_once(suite: Suite) {
    let numbers: Vec<u32> = (1..=100).collect();
    let lab = lab(suite, &numbers);
    // what the first of all makes and leaves: /run/netns, a slice
    lab.start(&["t-many@1"]);
    lab.stop(&["t-many@1"]);
    let before = census(&lab);
    let start = "pids=; for n in {1..100}; do systemctl start t-many@$n & pids+=\" $!\"; done; for pid in $pids; do wait $pid; done";
    let output = lab.sh(start);
    assert!(output.code == 0, "{output}\n{}", lab.journal(&["netns@*", "t-many@*"]));
    let counts = lab.sh("ls /run/netns | wc -l; ls /run/netns-networkd/netns/*.json | wc -l; systemctl list-units --plain --no-legend --state=active 't-many@*' 'netns@*' | wc -l
                         bridge link show | grep -c 'master br0 state forwarding'; ip -br link show master br1 | wc -l; systemctl --failed --no-legend
                         grep -c ' /run/netns ' /proc/self/mountinfo");
    assert_eq!(counts.ok().stdout, "100\n100\n200\n100\n10\n1\n");
    // each listens where it should, and by both families the way there is open
    let _ = lab
        .sh("for n in {1..100}; do
                 until (: <>/dev/tcp/fd46::1:$n/8000) 2>/dev/null; do :; done
                 [[ /proc/$(systemctl show -P MainPID t-many@$n)/ns/net -ef /run/netns/n$n ]] || { echo $n is elsewhere >&2; exit 1; }
             done; for n in {1..100}; do ping -q -c1 -W5 10.70.1.$n >/dev/null & done; wait; ping -q -c1 -W2 198.51.100.2 >/dev/null
             [[ $(ip neigh show dev br0 nud reachable nud stale nud delay nud probe | grep -c '^10.70.1.') = 100 ]]")
        .ok();
    lab.systemctl(&["stop", "t-many@*"]);
    assert_same(&lab, &before);
    lab.sync_nothing();
}

/// All come and go, again and again.
fn rounds_leave_nothing_behind(suite: Suite) {
    let rounds = soak_rounds(ROUNDS);
    let lab = lab(suite, &[1, 5, 10]);
    // short enough for one command
    let go = |rounds: u32| {
        let mut left = rounds;
        while left > 0 {
            let some = left.min(40);
            let script = format!(
                "for round in {{1..{some}}}; do
                     systemctl start t-many@1 t-many@5 t-many@10
                     for n in 1 5 10; do until (: <>/dev/tcp/fd46::1:$n/8000) 2>/dev/null; do :; done; done
                     systemctl stop 't-many@*'; until [[ -z $(ls /run/netns) ]]; do :; done
                 done"
            );
            let output = lab.sh(&script);
            assert!(output.code == 0, "{left} rounds to go\n{output}\n{}", lab.journal(&["netns@*", "t-many@*"]));
            left -= some;
        }
    };
    go(3);
    let (before, small) = (census(&lab), sizes(&lab));
    go(rounds);
    assert_same(&lab, &before);
    let large = sizes(&lab);
    if rounds > ROUNDS {
        println!("{suite}, before and after {rounds} rounds:\n{before}");
    }
    let namespaces = i64::from(rounds) * 3;
    for (name, was) in &small {
        let (grown, limit) = if name == "net_namespace" { ("namespaces", namespaces / 2 + 500) } else { ("KiB", 1024) };
        let now = large.get(name).copied().unwrap_or_default();
        if rounds > ROUNDS {
            println!("{suite}: {name} had {was} {grown} before {rounds} rounds and has {now}");
        }
        assert!(now - was < limit, "{name} grew from {was} to {now} {grown} in {rounds} rounds");
    }
    lab.sync_nothing();
}
