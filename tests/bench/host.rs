//! `sync`, `status` and `list` on a booted host with many namespaces in its configuration, and what of it the daemons take.
//!
//! The host's files are on a disk, or fsync(2) would cost nothing.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Options,
    clock::{Clock, build_floor},
    common::{FreshHost, Host, REPO, Shell, Suite},
    netns::OURS,
    report::{Report, Row},
};

const NETWORKD: &str = "systemd-networkd";
const SYSTEMD: &str = "systemd";
/// The numbers of namespaces; all of them up only where that takes seconds.
const SIZES: [u32; 3] = [10, 100, 1000];
const UP_AT_MOST: u32 = 100;
/// Of what takes seconds.
const FEW: u32 = 3;

pub fn run(options: &Options, folder: &Path, report: &mut Report) {
    for size in SIZES {
        measure(options, folder, report, size);
    }
}

/// A host of its own, with its files on a disk, the product, and the clock.
pub struct Booted {
    pub clock: Clock,
    pub host: FreshHost,
    // after the host, which stands on it
    _disk: Disk,
}

/// A folder for a host's files.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Boots a trixie host with the product as it is packaged.
pub fn boot(options: &Options, folder: &Path, name: &str) -> Booted {
    let disk = Disk(folder.join(format!("host-{name}")));
    let _ = fs::remove_dir_all(&disk.0);
    fs::create_dir_all(&disk.0).expect("make a folder for the host's files");
    let host = Host::on_disk(Suite::Trixie, &format!("bench-{name}"), &disk.0.to_string_lossy());
    let root = host.root();
    let install = Command::new("make")
        .args(["-s", "-C", REPO, "install", "PREFIX=/usr", &format!("DESTDIR={root}"), &format!("BIN={}", options.bin.display())])
        .status();
    assert!(install.expect("start make").success(), "make install");
    fs::copy(build_floor(folder), Path::new(&root).join("usr/local/bin/floor")).expect("copy the clock into the host");
    let helper = format!("{root}/usr/local/bin/helper");
    let built = Command::new("gcc").args(["-O2", "-Wall", "-static", "tests/bench/helper.c", "-o", &helper]).current_dir(REPO).status();
    assert!(built.expect("start gcc").success(), "gcc cannot compile tests/bench/helper.c");
    let clock = Clock::start(&*host, Path::new("/usr/local/bin/floor"));
    Booted { clock, host, _disk: disk }
}

/// The configuration of namespaces from 1 on: one interface, both families, both gateways, one service each.
pub fn configuration(size: u32) -> String {
    let mut text = "[bridge.br0]\naddresses = [\"10.70.0.1/16\", \"fd46::1/64\"]\n".to_owned();
    for n in 1..=size {
        let _ = write!(
            text,
            "[namespace.n{n}]\nservices = [\"t-svc{n}.service\"]\ninterface.eth0 = {{ bridge = \"br0\", addresses = [\"{}/16\", \
             \"fd46::1:{n:x}/64\"], gateways = [\"10.70.0.1\", \"fd46::1\"] }}\n",
            address(n)
        );
    }
    text
}

/// The IPv4 address of a namespace.
pub fn address(n: u32) -> String {
    format!("10.70.{}.{}", 1 + n / 250, 1 + n % 250)
}

/// A command for the clock, whose own words are on standard output. The shell becomes the command.
pub fn quiet(line: &str) -> Vec<String> {
    vec!["/bin/bash".to_owned(), "-c".to_owned(), format!("exec {line} >/dev/null 2>&1")]
}

fn measure(options: &Options, folder: &Path, report: &mut Report, size: u32) {
    let Booted { clock, host, .. } = &mut boot(options, folder, &size.to_string());
    let units = format!(
        "for n in {{1..{size}}}; do printf '[Service]\\nType=exec\\nExecStart=/usr/local/bin/helper listen %d\\n' $((8000 + n)) \
         >/etc/systemd/system/t-svc$n.service; done; systemctl daemon-reload"
    );
    let _ = host.sh(&units).ok();
    let config = "/etc/netns-networkd/bench.toml";
    let mut row = |job: &str, program: &str, rounds: u32, line: &str, before: &mut dyn FnMut(u32)| {
        let mut row = Row::new(job, program, size);
        for round in 0..rounds {
            before(round);
            row.add(clock.time(&[quiet(line)]));
        }
        report.rows.push(row);
    };
    let nothing = &mut |_| ();
    // what a host has that has never had it
    row("first `sync`", OURS, 1, "netns-networkd sync", &mut |_| host.write_file(config, &configuration(size)));
    let rounds = options.rounds.max(5);
    row("`sync`, nothing to do", OURS, rounds, "netns-networkd sync", nothing);
    row("`sync`, one namespace changed", OURS, FEW, "netns-networkd sync", &mut |round| {
        let other = format!("10.70.200.{}/16", 1 + round);
        host.write_file(config, &configuration(size).replacen(&format!("{}/16", address(1)), &other, 1));
    });
    row("reload, nothing changed", NETWORKD, rounds.min(10), "networkctl reload", nothing);
    row("reload, nothing changed", SYSTEMD, rounds.min(10), "systemctl daemon-reload", nothing);
    // after a reload systemd is asked again; that is part of the next run
    row("`sync`, nothing to do, systemd reloaded", OURS, FEW, "netns-networkd sync", &mut |_| {
        let _ = host.run(&["systemctl", "daemon-reload"]).ok();
    });
    row("`list`, none up", OURS, rounds, "netns-networkd list", nothing);
    row("`status`, none up", OURS, rounds, "netns-networkd status", nothing);
    if size <= UP_AT_MOST {
        let _ = host.sh(&format!("systemctl start t-svc{{1..{size}}}")).ok();
        row("`sync`, nothing to do, all up", OURS, rounds, "netns-networkd sync", nothing);
        row("`list`, all up", OURS, rounds, "netns-networkd list", nothing);
        row("`status`, all up", OURS, rounds, "netns-networkd status", nothing);
        row("reload, nothing changed, all up", NETWORKD, rounds.min(10), "networkctl reload", nothing);
    }
}
