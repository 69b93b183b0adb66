//! `make bench`: how long the product takes, beside the least that the kernel needs and beside what people use today.
//!
//! No test: it never fails by a time. Tables go to standard output, results and curves into the folder `target/speed`.
//!
//!     make bench BENCH='netns --rounds 50 --sizes 1,100'

// a benchmark is all effects, and its numbers are small
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types, clippy::cast_precision_loss)]

mod boot;
mod clock;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../common/mod.rs"]
mod common;
mod curve;
mod host;
mod netns;
mod order;
mod report;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use report::{FLOOR, Report, Row};

/// What to measure, and with what.
pub struct Options {
    /// The product, as it is packaged.
    pub bin: PathBuf,
    /// Rounds of each job.
    pub rounds: u32,
    /// The numbers of namespaces.
    pub sizes: Vec<u32>,
    /// The command that netavark is run by.
    pub netavark: String,
}

/// The programs in the curves.
const SHOWN: [&str; 4] = [FLOOR, netns::KEEPING, netns::OURS, netns::OURS_QUIET];

const USAGE: &str = "usage: [netns] [host] [boot] [--bin FILE] [--rounds N] [--sizes N,N] [--netavark COMMAND] [--order MAP]";

fn main() {
    let mut options = Options {
        bin: Path::new(common::REPO).join("target/release/netns-networkd"),
        rounds: 30,
        sizes: vec![1, 100, 500, 1000],
        netavark: "/usr/lib/podman/netavark".to_owned(),
    };
    let (mut parts, mut map) = (Vec::new(), None);
    let mut words = env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{USAGE}"));
        match word.as_str() {
            "--bin" => options.bin = value().into(),
            "--rounds" => options.rounds = value().parse().expect(USAGE),
            "--sizes" => options.sizes = value().split(',').map(|size| size.parse().expect(USAGE)).collect(),
            "--netavark" => options.netavark = value(),
            "--order" => map = Some(value()),
            "netns" | "host" | "boot" => parts.push(word),
            _ => panic!("{USAGE}"),
        }
    }
    options.bin = options.bin.canonicalize().unwrap_or_else(|error| panic!("{}: {error}: run make build first", options.bin.display()));
    if let Some(map) = map {
        return order::run(&options, Path::new(&map));
    }
    let folder = Path::new(common::REPO).join("target/speed");
    fs::create_dir_all(&folder).expect("create target/speed");
    let mut report = Report {
        date: output(&["date", "-u", "+%F %H:%M UTC"]),
        machine: format!("{}, {} CPUs ({})", output(&["uname", "-sr"]), output(&["nproc"]), cpu()),
        product: format!(
            "{}, {}",
            output(&[&options.bin.to_string_lossy(), "--version"]),
            output(&["git", "describe", "--always", "--dirty"])
        ),
        ..Report::default()
    };
    let all = parts.is_empty();
    if all || parts.iter().any(|part| part == "netns") {
        netns::run(&options, &folder, &mut report);
    }
    if all || parts.iter().any(|part| part == "host") {
        host::run(&options, &folder, &mut report);
    }
    if all || parts.iter().any(|part| part == "boot") {
        boot::run(&options, &folder, &mut report);
    }
    fs::write(folder.join("results.json"), serde_json::to_string_pretty(&report).expect("JSON")).expect("write the results");
    for job in ["up W1", "down W1", "restart W1"] {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.job == job && SHOWN.contains(&row.program.as_str())).collect();
        if rows.is_empty() {
            continue;
        }
        let caption = format!("Medians and quartiles, {}", report.date.split(' ').next().unwrap_or_default());
        fs::write(folder.join(format!("{}.svg", job.replace(' ', "-").to_lowercase())), curve::svg(job, &caption, &rows))
            .expect("write a curve");
    }
    let table = report.table();
    fs::write(folder.join("results.md"), &table).expect("write the results");
    println!("{table}");
    common::stop_all_hosts();
}

fn output(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()));
    name.unwrap_or_default()
}
