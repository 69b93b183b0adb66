//! `up`, `down` and a restart in a throw-away host, beside the floor and beside what people use today.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path, process::Command, thread::sleep, time::Duration};

use netns_networkd::{
    config::{SourceFile, parse},
    desired::{Facts, RECORDS, desired},
};

use crate::{
    Options,
    clock::{Clock, build_floor},
    common::{Sandbox, Shell},
    report::{FLOOR, Measure, Report, Row},
};

/// After `down` the kernel cleans up for about 30 ms, and the next new namespace waits for that.
const SETTLE: Duration = Duration::from_millis(80);
/// The least that the kernel needs for what the product keeps besides.
pub const KEEPING: &str = "floor, keeping our promises";
/// The product, in a table.
pub const OURS: &str = "netns-networkd";
/// The same, where neighbours are told nothing: what is told reaches every namespace on the bridge.
pub const OURS_QUIET: &str = "netns-networkd, announce = false";

/// What is made: one interface with an IPv4 and an IPv6 address and two default routes, or three of them with four addresses and six
/// routes each. No duplicate address detection, which nobody else waits for.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    W1,
    W2,
}

struct Interface {
    name: String,
    host_end: String,
    mac: String,
    addresses: Vec<String>,
    routes: Vec<(String, String)>,
}

impl Work {
    const ALL: [Self; 2] = [Self::W1, Self::W2];

    fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W2 => "W2",
        }
    }

    fn netns(self) -> &'static str {
        match self {
            Self::W1 => "one",
            Self::W2 => "two",
        }
    }

    fn interfaces(self) -> Vec<Interface> {
        // the one's own, so that both can stand in one configuration
        self.interfaces_of(self.netns(), if self == Self::W1 { 10 } else { 20 })
    }

    fn interfaces_of(self, netns: &str, own: u32) -> Vec<Interface> {
        let count = if self == Self::W1 { 1 } else { 3 };
        let interface = |n: u32| {
            let (v4, v6) = (|last: u32| format!("10.9.{n}.{last}"), |last: u32| format!("fd09:{n}::{last:x}"));
            let mut addresses = vec![format!("{}/24", v4(own)), format!("{}/64", v6(own))];
            let mut routes = Vec::new();
            if n == 0 {
                routes.extend([("0.0.0.0/0".to_owned(), v4(1)), ("::/0".to_owned(), v6(1))]);
            }
            if self == Self::W2 {
                addresses.extend([format!("{}/24", v4(own + 1)), format!("{}/64", v6(own + 1))]);
                for more in if n == 0 { 1..3 } else { 0..3 } {
                    routes.extend([(format!("10.{}.{more}.0/24", 20 + n), v4(1)), (format!("fd0a:{n}:{more}::/48"), v6(1))]);
                }
            }
            let host_end = format!("{netns}-eth{n}");
            Interface { name: format!("eth{n}"), host_end, mac: format!("02:09:00:00:{own:02x}:{n:02x}"), addresses, routes }
        };
        (0..count).map(interface).collect()
    }

    /// Our namespace that tells its neighbours nothing.
    fn quiet(self) -> &'static str {
        match self {
            Self::W1 => "quiet-one",
            Self::W2 => "quiet-two",
        }
    }

    fn config(self) -> String {
        let quiet = self.interfaces_of(self.quiet(), if self == Self::W1 { 30 } else { 40 });
        Self::config_of(self.netns(), true, self.interfaces()) + &Self::config_of(self.quiet(), false, quiet)
    }

    fn config_of(netns: &str, announce: bool, interfaces: Vec<Interface>) -> String {
        let mut text = String::new();
        for interface in interfaces {
            let Interface { name, host_end, mac, addresses, routes } = interface;
            let routes: Vec<String> = routes.iter().map(|(to, via)| format!("{{ to = \"{to}\", via = \"{via}\" }}")).collect();
            let _ = writeln!(
                text,
                "[namespace.{}.interface.{name}]\nbridge = \"br0\"\ndad = \"off\"\nannounce = {announce}\nhost-name = \"{host_end}\"\nmac = \"{mac}\"\naddresses = {addresses:?}\nroutes = [{}]",
                netns,
                routes.join(", ")
            );
        }
        text
    }
}

/// A program that makes and removes namespaces.
struct Program {
    name: &'static str,
    up: Vec<String>,
    down: Vec<String>,
    missing: Option<String>,
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// A script that stops at the first failure.
fn script(text: &str) -> Vec<String> {
    words(&["/bin/sh", "-e", "-c", &text.trim().replace(['\n', '\t'], "; ")])
}

fn floor_up(floor: &str, work: Work) -> Vec<String> {
    let mut command = words(&[floor, "up", work.netns()]);
    for interface in work.interfaces() {
        command.extend(words(&["if", &interface.host_end, "br0", &interface.name, &interface.mac]));
        interface.addresses.iter().for_each(|address| command.extend(words(&["a", address])));
        interface.routes.iter().for_each(|(to, via)| command.extend(words(&["r", to, via])));
    }
    command
}

/// What stands in ip(8)'s words: on the host, and inside.
fn ip_words(work: Work) -> (Vec<String>, Vec<String>) {
    let netns = work.netns();
    let (mut host, mut inside) = (vec![format!("netns add {netns}")], vec!["link set lo up".to_owned()]);
    for Interface { name, host_end, mac, addresses, routes } in work.interfaces() {
        host.push(format!("link add {host_end} type veth peer name {name} address {mac} netns {netns}"));
        host.push(format!("link set {host_end} master br0 up"));
        inside.push(format!("link set {name} up"));
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            inside.push(format!("address add {address} dev {name}{nodad}"));
        }
        for (to, via) in routes {
            inside.push(format!("route add {to} via {via} dev {name}"));
        }
    }
    (host, inside)
}

fn programs(work: Work, options: &Options, floor: &Path, folder: &Path) -> Vec<Program> {
    let (bin, floor) = (options.bin.to_str().expect("a path in UTF-8"), floor.to_str().expect("a path in UTF-8"));
    let netns = work.netns();
    let ends: Vec<String> = work.interfaces().into_iter().map(|interface| interface.host_end).collect();
    let with_ends = |verb: &str| words(&[floor, verb, netns]).into_iter().chain(ends.iter().cloned()).collect::<Vec<_>>();
    let program = |name, up, down| Program { name, up, down, missing: None };
    let keep = |command: &[String]| [&[floor.to_owned(), "keep".to_owned()], &command[1..]].concat();
    let (host, inside) = ip_words(work);
    let lines = |of: &[String]| of.iter().map(|line| format!("ip {line}")).collect::<Vec<_>>().join("\n");
    let inside_lines = inside.iter().map(|line| format!("ip -n {netns} {line}")).collect::<Vec<_>>().join("\n");
    let batch = |name: &str, of: &[String]| {
        let path = folder.join(format!("{name}-{}", work.name()));
        fs::write(&path, of.join("\n") + "\n").expect("write a batch");
        path.display().to_string()
    };
    let removal: Vec<String> = ends.iter().map(|end| format!("link delete {end}")).chain([format!("netns delete {netns}")]).collect();
    let mut all = vec![
        program(FLOOR, floor_up(floor, work), with_ends("rename")),
        program("floor, deleting", floor_up(floor, work), with_ends("down")),
        program(KEEPING, keep(&floor_up(floor, work)), keep(&with_ends("rename"))),
        program(OURS, words(&[bin, "up", netns]), words(&[bin, "down", netns])),
        program(OURS_QUIET, words(&[bin, "up", work.quiet()]), words(&[bin, "down", work.quiet()])),
        program(
            "ip -batch",
            script(&format!("ip -batch {}\nip -n {netns} -batch {}", batch("host", &host), batch("inside", &inside))),
            script(&format!("ip -batch {}", batch("removal", &removal))),
        ),
        program("ip commands", script(&format!("{}\n{inside_lines}", lines(&host))), script(&lines(&removal))),
    ];
    all.push(cni(work, folder));
    all.push(netavark(work, &options.netavark, folder));
    all
}

/// Debian's CNI plugins, called one after the other as a container runtime does.
fn cni(work: Work, folder: &Path) -> Program {
    const PLUGINS: &str = "/usr/lib/cni";
    let netns = work.netns();
    let (mut up, mut down) = (format!("ip netns add {netns}\n"), String::new());
    let call = |text: &mut String, command: &str, plugin: &str, interface: &str, file: &str| {
        let _ = writeln!(
            text,
            "CNI_COMMAND={command} CNI_CONTAINERID={netns} CNI_NETNS=/run/netns/{netns} CNI_IFNAME={interface} CNI_PATH={PLUGINS} {PLUGINS}/{plugin} <{file} >/dev/null"
        );
    };
    let loopback = folder.join("cni-lo").display().to_string();
    fs::write(&loopback, r#"{"cniVersion":"0.4.0","name":"lo","type":"loopback"}"#).expect("write CNI's configuration");
    call(&mut up, "ADD", "loopback", "lo", &loopback);
    for Interface { name, mac, addresses, routes, .. } in work.interfaces() {
        let addresses: Vec<String> = addresses.iter().map(|address| format!(r#"{{"address":"{address}"}}"#)).collect();
        let routes: Vec<String> = routes.iter().map(|(to, via)| format!(r#"{{"dst":"{to}","gw":"{via}"}}"#)).collect();
        let text = format!(
            r#"{{"cniVersion":"0.4.0","name":"bench-{name}","type":"bridge","bridge":"br0","args":{{"cni":{{"mac":"{mac}"}}}},"ipam":{{"type":"static","addresses":[{}],"routes":[{}]}}}}"#,
            addresses.join(","),
            routes.join(",")
        );
        let file = folder.join(format!("cni-{}-{name}", work.name())).display().to_string();
        fs::write(&file, text).expect("write CNI's configuration");
        call(&mut up, "ADD", "bridge", &name, &file);
        call(&mut down, "DEL", "bridge", &name, &file);
    }
    let _ = write!(down, "ip netns delete {netns}");
    let missing =
        (!Path::new(PLUGINS).join("bridge").exists()).then(|| "not installed: apt install containernetworking-plugins".to_owned());
    Program { name: "CNI plugins", up: script(&up), down: script(&down), missing }
}

/// What podman runs, without its firewall.
fn netavark(work: Work, command: &str, folder: &Path) -> Program {
    let netns = work.netns();
    let (mut options, mut networks) = (Vec::new(), Vec::new());
    for Interface { name, mac, addresses, routes, .. } in work.interfaces() {
        let plain: Vec<String> = addresses.iter().map(|address| format!("{:?}", address.split('/').next().unwrap_or_default())).collect();
        let mut subnets: Vec<String> = addresses.iter().map(|address| subnet(address)).collect();
        subnets.dedup();
        subnets.sort();
        subnets.dedup();
        let routes: Vec<String> = routes
            .iter()
            .filter(|(to, _)| !to.ends_with("/0"))
            .map(|(to, via)| format!(r#"{{"destination":"{to}","gateway":"{via}"}}"#))
            .collect();
        options.push(format!(r#""{name}":{{"interface_name":"{name}","static_mac":"{mac}","static_ips":[{}]}}"#, plain.join(",")));
        networks.push(format!(
            r#""{name}":{{"name":"{name}","id":"{name:0<64}","driver":"bridge","network_interface":"br0","subnets":[{}],"routes":[{}],"ipv6_enabled":true,"internal":false,"dns_enabled":false,"options":{{"mode":"unmanaged"}},"ipam_options":{{"driver":"host-local"}}}}"#,
            subnets.join(","),
            routes.join(",")
        ));
    }
    let text = format!(
        r#"{{"container_id":"{netns}","container_name":"{netns}","networks":{{{}}},"network_info":{{{}}}}}"#,
        options.join(","),
        networks.join(",")
    );
    let file = folder.join(format!("netavark-{}", work.name())).display().to_string();
    fs::write(&file, text).expect("write netavark's configuration");
    let call = |verb: &str| format!("NETAVARK_FW=none {command} --config /run/netavark {verb} /run/netns/{netns} <{file} >/dev/null");
    let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
    let version = Command::new(program)
        .args(arguments.split_whitespace())
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let missing = match version {
        Err(_) => Some("not installed: apt install netavark".to_owned()),
        // bookworm's
        Ok(old) if old.starts_with("netavark 1.4") => Some(format!("{old} cannot do without a firewall")),
        Ok(_) => None,
    };
    let up = script(&format!("ip netns add {netns}\n{}", call("setup")));
    let down = script(&format!("{}\nip netns delete {netns}", call("teardown")));
    Program { name: "netavark, no firewall", up, down, missing }
}

fn subnet(address: &str) -> String {
    let net: ipnet::IpNet = address.parse().expect("an address");
    let gateway = if address.contains(':') { net.network().to_string() + "1" } else { net.hosts().next().expect("a host").to_string() };
    format!(r#"{{"subnet":"{}","gateway":"{gateway}"}}"#, net.trunc())
}

/// A throw-away host with bridge br0 and the records that `sync` would write.
fn host() -> Sandbox {
    let host = Sandbox::new();
    let mut bridge = "ip link add br0 type bridge; ip link set br0 up; mkdir -p /run/netns; mount --bind /run/netns /run/netns; mount --make-shared /run/netns".to_owned();
    bridge += "; ip address add 10.9.0.1/24 dev br0; ip address add fd09:0::1/64 dev br0 nodad; ip link add port0 type veth peer name port1; ip link set port1 up; ip link set port0 master br0 up";
    let _ = host.sh(&bridge).ok();
    record(&host, &(Work::W1.config() + &Work::W2.config()));
    host
}

/// Writes the records of a configuration.
fn record(host: &Sandbox, text: &str) {
    let files = [SourceFile { path: "/etc/netns-networkd/bench.toml".to_owned(), bytes: text.as_bytes().to_vec() }];
    let config = parse(&files).unwrap_or_else(|faults| panic!("{faults}"));
    let state = desired(&config, &Facts::default()).expect("a desired state");
    for (path, file) in state.files.iter().filter(|(path, _)| path.starts_with(RECORDS)) {
        host.write_file(path.to_str().expect("a path in UTF-8"), &file.content);
    }
}

pub fn run(options: &Options, folder: &Path, report: &mut Report) {
    let floor = build_floor(folder);
    for &size in &options.sizes {
        let host = host();
        if size > 1 {
            let _ = host.run(&[floor.to_str().expect("UTF-8"), "many", "1", &(size - 1).to_string(), "up", "br0"]).ok();
        }
        let mut clock = Clock::start(&host, &floor);
        for work in Work::ALL {
            eprintln!("{} with {size} namespaces", work.name());
            let mut all = programs(work, options, &floor, folder);
            if size > 1 {
                all.retain(|program| [FLOOR, "floor, deleting", KEEPING, OURS, OURS_QUIET].contains(&program.name));
            }
            one(&mut clock, &all, work, size, options.rounds, report);
            if size == 1 {
                count_calls(&host, &all, work, report);
            }
        }
        if size > 1 {
            let _ = host.run(&[floor.to_str().expect("UTF-8"), "many", "1", &(size - 1).to_string(), "down", "br0"]);
        }
    }
}

/// All programs in turns, in an order that differs from round to round.
fn one(clock: &mut Clock, programs: &[Program], work: Work, size: u32, rounds: u32, report: &mut Report) {
    let jobs = ["up", "down", "restart"].map(|job| format!("{job} {}", work.name()));
    let mut rows: Vec<[Row; 3]> = programs
        .iter()
        .map(|program| [0, 1, 2].map(|n| Row { missing: program.missing.clone(), ..Row::new(&jobs[n], program.name, size) }))
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(size));
    // the first brings everything into memory
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..programs.len()).filter(|n| programs[*n].missing.is_none()).collect();
        random.shuffle(&mut order);
        for n in order {
            let Program { up, down, .. } = &programs[n];
            let mut took = Vec::new();
            for commands in [vec![up.clone()], vec![down.clone(), up.clone()], vec![down.clone()]] {
                took.push(clock.time(&commands));
                sleep(SETTLE);
            }
            let [up, restart, down]: [Measure; 3] = took.try_into().expect("three");
            if round > 0 {
                rows[n][0].add(up);
                rows[n][1].add(down);
                rows[n][2].add(restart);
            }
        }
    }
    for n in 0..3 {
        report.rows.extend(rows.iter().map(|row| row[n].clone()));
    }
}

/// Counts what strace(1) sees.
fn count_calls(host: &Sandbox, programs: &[Program], work: Work, report: &mut Report) {
    for program in programs.iter().filter(|program| program.missing.is_none()) {
        for (job, command) in [("up", &program.up), ("down", &program.down)] {
            let command: Vec<&str> =
                ["strace", "-f", "-qq", "-o", "/run/calls"].into_iter().chain(command.iter().map(String::as_str)).collect();
            let _ = host.run(&command).ok();
            let text = host.read_file("/run/calls");
            // a call that another process cut in two is two lines
            let calls = text.lines().filter(|line| line.contains('(') && !line.contains(" resumed>")).count();
            let execs = text.lines().filter(|line| line.contains("execve(")).count();
            let name = format!("{job} {}", work.name());
            for row in report.rows.iter_mut().filter(|row| row.job == name && row.program == program.name && row.namespaces == 1) {
                (row.system_calls, row.execs) = (u32::try_from(calls).ok(), u32::try_from(execs).ok());
            }
            sleep(SETTLE);
        }
    }
}

/// Enough for an order (xorshift64*).
struct Random(u64);

impl Random {
    fn shuffle(&mut self, items: &mut [usize]) {
        for n in (1..items.len()).rev() {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            items.swap(n, usize::try_from(bits).unwrap_or(0) % (n + 1));
        }
    }
}

/// The addresses of all instructions that `up` and `down` run, as valgrind(1) sees them, in the program's own numbers.
pub fn addresses_run(bin: &Path) -> BTreeSet<u64> {
    let host = host();
    let waits = Work::ALL.map(|work| work.config().replace("dad = \"off\"\n", "")).concat();
    let bin = bin.to_str().expect("a path in UTF-8");
    let mut addresses = BTreeSet::new();
    for text in [Work::W1.config() + &Work::W2.config(), waits] {
        record(&host, &text);
        for netns in Work::ALL.map(Work::netns) {
            for verb in ["up", "down"] {
                let tool =
                    ["valgrind", "-q", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--callgrind-out-file=/run/calls"];
                let _ = host.run(&[&tool[..], &[bin, verb, netns]].concat()).ok();
                let address = |line: &str| u64::from_str_radix(line.strip_prefix("0x")?.split(' ').next()?, 16).ok();
                addresses.extend(host.read_file("/run/calls").lines().filter_map(address));
                sleep(SETTLE);
            }
        }
    }
    addresses
}
