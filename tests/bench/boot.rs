//! The boot of a host with many services: all started by one command, each in a namespace of its own, until all answer. Beside the same
//! services with the `ip` commands that people put into a unit of their own, and beside the same services on the host itself.

use std::{fmt::Write, fs, path::Path};

use crate::{
    Options,
    common::Shell,
    host::{self, Booted, address, boot},
    netns::OURS,
    report::{Measure, Report, Row},
};

const SERVICES: u32 = 200;
const ROUNDS: u32 = 5;
const STARTED: &str = "200 services started, until all answer";

/// How services get their namespace.
struct Way {
    program: &'static str,
    /// Of its services: `t-svc1.service`.
    prefix: &'static str,
    /// The unit that makes a namespace, if one does.
    maker: Option<&'static str>,
}

const WAYS: [Way; 3] = [
    Way { program: OURS, prefix: "t-svc", maker: Some("netns@") },
    Way { program: "ip, one exec each", prefix: "t-hack", maker: Some("hack@") },
    Way { program: "no namespace", prefix: "t-bare", maker: None },
];

/// What people write: it knows of no other than this bridge, and waits for nothing.
const HACK: &str = r"[Unit]
StopWhenUnneeded=yes
DefaultDependencies=no
After=systemd-networkd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/hack %i
ExecStop=/usr/sbin/ip netns del %i
";
const HACK_SH: &str = r"#!/bin/sh -e
n=${1#n}
ip netns add $1
ip link add $1-eth0 master br0 type veth peer name eth0 netns $1
ip link set $1-eth0 up
ip -n $1 link set lo up
ip -n $1 link set eth0 up
ip -n $1 addr add 10.70.$((1 + n / 250)).$((1 + n % 250))/16 dev eth0
ip -n $1 addr add fd46::1:$(printf %x $n)/64 dev eth0
ip -n $1 route add default via 10.70.0.1
ip -n $1 -6 route add default via fd46::1
";

pub fn run(options: &Options, folder: &Path, report: &mut Report) {
    let mut booted = boot(options, folder, "boot");
    set_up(&booted);
    let mut starts: Vec<Row> = WAYS.iter().map(|way| Row::new(STARTED, way.program, SERVICES)).collect();
    let mut worst: Vec<Row> = WAYS.iter().map(|way| Row::new("the slowest single start of them", way.program, SERVICES)).collect();
    for round in 0..ROUNDS {
        for turn in 0..WAYS.len() {
            let at = (turn + round as usize) % WAYS.len();
            let way = &WAYS[at];
            starts[at].add(start(&mut booted, way));
            let slowest = slowest(&booted, way);
            worst[at].add(Measure { wall: slowest, cpu: 0.0, memory: None });
            stop(&booted, way);
        }
    }
    for row in &mut worst {
        row.cpu.clear();
    }
    report.rows.extend(starts.into_iter().chain(worst));
}

fn set_up(booted: &Booted) {
    let host = &booted.host;
    for way in &WAYS {
        let mut script = String::new();
        for n in 1..=SERVICES {
            let prefix = way.prefix;
            let _ = writeln!(
                script,
                "printf '[Service]\\nType=exec\\nExecStart=/usr/local/bin/helper listen {}\\n' >{prefix}{n}.service",
                8000 + n
            );
            if let Some(maker) = way.maker.filter(|maker| *maker != "netns@") {
                let _ = writeln!(
                    script,
                    "mkdir -p {prefix}{n}.service.d; printf '[Unit]\\nBindsTo={maker}n{n}.service\\nAfter={maker}n{n}.service\\n[Service]\\n\
                     NetworkNamespacePath=/run/netns/n{n}\\n' >{prefix}{n}.service.d/netns.conf"
                );
            }
        }
        host.write_file("/tmp/units.sh", &script);
        let _ = host.sh("cd /etc/systemd/system; . /tmp/units.sh").ok();
    }
    host.write_file("/etc/systemd/system/hack@.service", HACK);
    host.write_file("/usr/local/bin/hack", HACK_SH);
    let _ = host.sh("chmod +x /usr/local/bin/hack; mkdir -p /run/netns; systemctl daemon-reload").ok();
    host.write_file("/etc/netns-networkd/bench.toml", &host::configuration(SERVICES));
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    // what the first of all makes: the mount in /run/netns
    let _ = host.sh("systemctl start t-svc1 && systemctl stop t-svc1").ok();
}

/// Microseconds of CPU that all processes of the host have taken.
fn cpu(booted: &Booted) -> f64 {
    let group = fs::read_to_string(format!("/run/netns-networkd-tests/{}/cgroup", booted.host.name)).unwrap_or_default();
    // beside the first version of control groups the second is in a folder of its own
    let read = |base: &str| fs::read_to_string(format!("{base}{}/cpu.stat", group.trim())).ok();
    let stat = read("/sys/fs/cgroup/unified").or_else(|| read("/sys/fs/cgroup")).unwrap_or_default();
    stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok()).unwrap_or_default()
}

fn start(booted: &mut Booted, way: &Way) -> Measure {
    let target = |n: u32| match way.maker {
        Some(_) => format!("{}:{}", address(n), 8000 + n),
        None => format!("10.70.0.1:{}", 8000 + n),
    };
    let targets: Vec<String> = (1..=SERVICES).map(target).collect();
    let start = host::quiet(&format!("systemctl start {}{{1..{SERVICES}}}", way.prefix));
    let before = cpu(booted);
    let measured = booted.clock.time(&[start, host::quiet(&format!("/usr/local/bin/helper reach {}", targets.join(" ")))]);
    Measure { cpu: (cpu(booted) - before) / 1e3, memory: None, ..measured }
}

/// Milliseconds that the slowest unit took, from when systemd began with it: its namespace's and its own.
fn slowest(booted: &Booted, way: &Way) -> f64 {
    let mut units = format!("'{}*'", way.prefix);
    if let Some(maker) = way.maker {
        let _ = write!(units, " '{maker}*'");
    }
    let show = format!("systemctl show -p Id -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic {units}");
    let text = booted.host.sh(&show).ok().stdout;
    let number =
        |unit: &str, name: &str| -> f64 { unit.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or_default() };
    let took = |unit: &str| number(unit, "ActiveEnterTimestampMonotonic=") - number(unit, "InactiveExitTimestampMonotonic=");
    text.split("\n\n").map(took).fold(0.0, f64::max) / 1e3
}

fn stop(booted: &Booted, way: &Way) {
    let stop = match way.maker {
        Some(maker) => format!("systemctl stop '{}*' '{maker}*'", way.prefix),
        None => format!("systemctl stop '{}*'", way.prefix),
    };
    // ip-netns(8) mounts the folder on itself, and all others would have that
    let _ = booted
        .host
        .sh(&format!(
            "{stop}; until [[ -z $(ls /run/netns) ]]; do :; done; umount -q /run/netns || true; udevadm settle 2>/dev/null || true"
        ))
        .ok();
    // the kernel frees links and namespaces later
    let _ = booted.host.wait_until("no port is left", std::time::Duration::from_secs(30), "[[ -z $(ip -br link show master br0) ]]");
}
