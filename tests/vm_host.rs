//! The host around namespaces, with Debian's own kernel, udev and boot: reboots, .link files, VLAN uplinks, fallback tunnels.

use std::sync::MutexGuard;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Shell, Vm, talk_unit};
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![everything_is_back_after_a_reboot, uplink_frames_are_tagged, fallback_tunnels_are_no_drift, doctor_knows_the_kernels_limits]
}

const SECONDS: Duration = Duration::from_secs(60);

/// The virtual machine for one test, which removes its own units; the rest goes with the value.
struct Machine {
    vm: &'static Vm,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    fn new() -> Result<Self, String> {
        let vm = Vm::shared()?;
        Ok(Self { _alone: vm.lock(), vm })
    }

    #[track_caller]
    fn config(&self, text: &str) {
        self.write_file("/etc/netns-networkd/test.toml", text);
    }

    #[track_caller]
    fn sync_nothing(&self) {
        let output = self.run(&["netns-networkd", "sync"]).ok();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "sync should have nothing to do or say\n{output}");
    }

    #[track_caller]
    fn start(&self, units: &[&str]) {
        let output = self.run(&[&["systemctl", "start"], units].concat());
        assert!(output.code == 0, "{output}\n{}", self.sh("journalctl -b -o cat -n 60").stdout);
    }

    #[track_caller]
    fn property(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "-P", property, unit]).ok().stdout.trim().to_owned()
    }

    /// Asks a server of `talk.py` at an address.
    #[track_caller]
    fn ask(&self, address: &str, port: &str, words: &[&str]) -> String {
        self.run(&[&["python3", "/usr/local/lib/talk.py", "ask", address, port], words].concat()).ok().stdout
    }
}

impl Shell for Machine {
    fn enter(&self) -> Vec<String> {
        self.vm.enter()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.sh(
            "systemctl stop 'netns-hold@*' 't-*'; rm -rf /etc/netns-networkd/*.toml /etc/systemd/network/1-test* /etc/systemd/system/t-*
             systemctl daemon-reload; netns-networkd sync; networkctl reload; for card in 4 5; do ip link set ens$card down; done",
        );
    }
}

const REBOOT: &str = r#"
[bridge.br-lan]
uplinks   = ["ens4"]
addresses = ["192.0.2.254/24", "2001:db8:1::fe/64"]

[namespace.web]
services = ["t-web", "t-late", "t-sock", "t-sock.socket"]
[namespace.web.interface.eth0]
bridge    = "br-lan"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
gateways  = ["192.0.2.254"]
[namespace.web.interface.eth1]
addresses      = ["198.18.0.1/31"]
host-addresses = ["198.18.0.0/31"]

[namespace.leased]
services       = ["t-leased"]
interface.eth0 = { bridge = "br-lan", dhcp = "ipv4" }
"#;

fn everything_is_back_after_a_reboot() {
    let host = match Machine::new() {
        Ok(host) => host,
        Err(why) => skip!("{why}"),
    };
    for (name, arguments, after) in [
        ("t-web", "serve 2525", ""),
        ("t-late", "serve 2526", "[Unit]\nWants=network-online.target\nAfter=network-online.target\n"),
        ("t-leased", "serve 2527", ""),
        ("t-sock", "inherit", ""),
    ] {
        host.write_file(&format!("/etc/systemd/system/{name}.service"), &(after.to_owned() + &talk_unit(arguments, "")));
    }
    host.write_file(
        "/etc/systemd/system/t-sock.socket",
        "[Socket]\nListenStream=192.0.2.1:2528\nListenStream=127.0.0.1:2528\n[Install]\nWantedBy=sockets.target\n",
    );
    host.write_file(
        "/etc/systemd/system/t-dhcpd.service",
        "[Service]\nExecStart=/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --port=0 --user=root \
         --pid-file= --interface=br-lan --bind-dynamic --dhcp-leasefile=/var/lib/t-leases --dhcp-authoritative --no-ping \
         --dhcp-range=192.0.2.100,192.0.2.200,255.255.255.0,1h\n[Install]\nWantedBy=multi-user.target\n",
    );
    host.config(REBOOT);
    let _ = host.sh("systemctl daemon-reload; systemctl enable --now t-dhcpd; netns-networkd sync").ok();
    let units = ["t-web.service", "t-late.service", "t-leased.service", "t-sock.socket"];
    let _ = host.run(&[&["systemctl", "enable", "t-sock.service"], &units[..]].concat()).ok();
    host.start(&units);
    // all but numbers of links and lifetimes
    let look = || {
        let links = r"for netns in web leased; do ip -n $netns -br link; ip -n $netns -br addr; ip -n $netns route; ip -n $netns -6 route; done
                       ip -br link | grep -e ^br-lan -e ^web -e ^leased; ip -br addr show dev web-eth1; bridge link";
        let _ = host.wait_until("DAD is over", SECONDS, "! ip addr | grep tentative");
        host.sh(&format!("{{ {links}; }} | sed 's/@[^ ]*//; s/^[0-9]*: //; s/  */ /g' | sort")).ok().stdout
    };
    let before = look();
    assert!(before.contains("web-eth1") && before.contains("192.0.2.1/24"), "{before}");

    // udev would give new addresses to links whose address nobody gave them
    host.write_file("/etc/systemd/network/1-test.link", "[Match]\nKind=veth bridge\n[Link]\nMACAddressPolicy=random\n");
    host.vm.reboot();

    let journal = host.sh("journalctl -b -o cat").ok().stdout;
    for word in ["ordering cycle", "deleted to break", "Dependency failed", "A start job for unit"] {
        let found: Vec<_> = journal.lines().filter(|line| line.contains(word)).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
    assert_eq!(host.run(&["systemctl", "--failed", "--no-legend", "--plain"]).ok().stdout, "");
    assert_eq!(look(), before);
    for (unit, netns) in [("t-web", "web"), ("t-late", "web"), ("t-leased", "leased")] {
        let pid = host.property(&format!("{unit}.service"), "MainPID");
        let _ = host.sh(&format!("[[ /run/netns/{netns} -ef /proc/{pid}/ns/net ]]")).ok();
    }
    for port in ["2525", "2526", "2528"] {
        let answer = host.ask("192.0.2.1", port, &["who"]);
        assert!(answer.starts_with("192.0.2.254 192.0.2.1 "), "{port}: {answer}");
    }
    assert_eq!(host.ask("198.18.0.1", "2525", &["ask", "127.0.0.1", "2528", "cat", "/proc/sys/net/ipv4/ip_forward"]), "0\n");

    // networkd has what it waits for at once, and nobody waited for the target who did not ask to
    let time = |unit: &str, property: &str| host.property(unit, &format!("{property}TimestampMonotonic")).parse::<u64>().expect("µs");
    let wait = "systemd-networkd-wait-online.service";
    let waited = time(wait, "ActiveEnter") - time("systemd-networkd.service", "ActiveEnter");
    assert!(host.property(wait, "Result") == "success" && waited < 30_000_000, "waited {waited} µs for the host's network");
    let path = host.sh("systemctl list-dependencies --after --plain netns@web.service").ok().stdout;
    assert!(!path.contains("network-online.target") && !path.contains("multi-user.target"), "{path}");
    let _ = host.run(&["systemctl", "is-active", "network-online.target"]).ok();

    host.sync_nothing();
    let _ = host.run(&["netns-networkd", "doctor"]).ok();
    let _ = host.sh("systemctl disable --now t-web t-late t-leased t-sock.socket t-sock.service t-dhcpd").ok();
    let _ = host.wait_until("nothing is left inside", SECONDS, "! ls /run/netns/*");
}

/// A VLAN of an uplink that somebody else configures: they are told what to add, and frames are tagged on the wire.
fn uplink_frames_are_tagged() {
    let host = match Machine::new() {
        Ok(host) => host,
        Err(why) => skip!("{why}"),
    };
    let _ = host.sh("modprobe -r 8021q 2>/dev/null || true").ok();
    host.write_file("/etc/systemd/network/1-test-ens4.network", "[Match]\nName=ens4\n[Network]\nLinkLocalAddressing=no\n");
    let _ = host.sh("networkctl reload").ok();
    host.config(
        r#"
[bridge.br-tag]
uplinks   = [{ vlan = 40, parent = "ens4" }]
addresses = ["10.60.40.1/24"]
[namespace.one]
interface.eth0 = { bridge = "br-tag", addresses = ["10.60.40.11/24", "fd3c::11/64"] }
"#,
    );
    let said = host.run(&["netns-networkd", "sync"]).fails(4).stderr;
    let hint = "hint: put `VLAN=ens4.40` into [Network] of /etc/systemd/network/1-test-ens4.network, then `networkctl reload`";
    assert!(said.contains(hint), "{said}");
    let _ = host.sh("echo VLAN=ens4.40 >>/etc/systemd/network/1-test-ens4.network; networkctl reload").ok();
    let _ = host.wait_until("the link is there", SECONDS, "ip link show ens4.40");
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    host.sync_nothing();
    host.start(&["netns-hold@one"]);

    let far = "ip netns add out; ip link set ens5 netns out; ip -n out link set ens5 up; ip -n out addr add 10.60.40.99/24 dev ens5
               ip -n out link add link ens5 name v40 type vlan id 40; ip netns add out40; ip -n out link set v40 netns out40
               ip -n out40 link set v40 up; ip -n out40 addr add 10.60.40.2/24 dev v40; ip -n out40 addr add fd3c::2/64 dev v40";
    let _ = host.sh(far).ok();
    for to in ["10.60.40.11", "fd3c::11", "10.60.40.1"] {
        let _ = host.wait_until(&format!("{to} answers"), SECONDS, &format!("ip netns exec out40 ping -n -c 1 -W 1 {to}"));
    }
    let _ = host.sh("ip netns exec out ping -n -c 2 -W 1 10.60.40.11").fails(1);
    host.sync_nothing();

    // taken out: their link stays theirs, ours goes
    let _ = host.sh("systemctl stop netns-hold@one; ip netns delete out40; ip netns delete out").ok();
    let _ = host.wait_until("the card is back", SECONDS, "! ls /run/netns/* && ip link show ens5");
    host.config("");
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    host.sync_nothing();
    let _ = host.sh("ip link show br-tag || ls /etc/systemd/network/10-netns-networkd-*").fails(2);
    let _ = host.sh("ip link delete ens4.40 2>/dev/null || true").ok();
}

/// What a container does not see: limits that all namespaces of a machine share, and modules.
fn doctor_knows_the_kernels_limits() {
    let host = match Machine::new() {
        Ok(host) => host,
        Err(why) => skip!("{why}"),
    };
    host.config(
        "[bridge.br-lan]\nvlan-filtering = true\n[namespace.one]\ninterface.eth0 = { bridge = \"br-lan\", addresses = [\"192.0.2.1/24\"] }\n\
         interface.eth1 = { kind = \"dummy\" }\n",
    );
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    host.start(&["netns-hold@one"]);
    let _ = host.run(&["netns-networkd", "doctor"]).ok();
    for (parameter, found) in [
        ("net.ipv4.neigh.default.gc_thresh3", "the kernel's table of neighbours is nearly full: "),
        ("user.max_net_namespaces", "user.max_net_namespaces is 1, and the configuration has 1 namespaces"),
    ] {
        let before = host.run(&["sysctl", "-n", parameter]).ok().stdout;
        // somebody has to be a neighbour
        let neighbour = "ip neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev br-lan";
        let _ = host.sh(&format!("{neighbour}; sysctl -qw {parameter}=1")).ok();
        let output = host.run(&["netns-networkd", "doctor"]).fails(3);
        assert!(output.stdout.contains(found) && output.stdout.contains(&format!("`sysctl -w {parameter}=")), "{output}");
        let _ = host.run(&["sysctl", "-qw", &format!("{parameter}={}", before.trim())]).ok();
    }
    let _ = host.run(&["netns-networkd", "doctor"]).ok();
}

/// A kernel that knows tunnels has a link of each kind in every new namespace.
fn fallback_tunnels_are_no_drift() {
    let host = match Machine::new() {
        Ok(host) => host,
        Err(why) => skip!("{why}"),
    };
    let _ = host.sh("modprobe -a sit ipip ip6_tunnel ip_gre").ok();
    let config =
        "[bridge.br-lan]\n[namespace.one]\ninterface.eth0 = { bridge = \"br-lan\", addresses = [\"192.0.2.1/24\", \"fd3c::1/64\"] }\n";
    host.config(config);
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    host.start(&["netns-hold@one"]);
    let links = host.sh("ip -n one -br link | sed 's/[@ ].*//' | sort | xargs").ok().stdout;
    for link in ["eth0", "gre0", "ip6tnl0", "lo", "sit0", "tunl0"] {
        assert!(links.split_whitespace().any(|found| found == link), "{links}");
    }
    host.sync_nothing();
    host.config(&config.replace("192.0.2.1/24", "192.0.2.2/24"));
    let _ = host.run(&["netns-networkd", "sync"]).ok();
    host.sync_nothing();
    assert_eq!(host.sh("ip -n one -br link | sed 's/[@ ].*//' | sort | xargs").ok().stdout, links, "they are left as they are");
    let _ = host.run(&["netns-networkd", "up", "one"]).ok();
    host.sync_nothing();
    let _ = host.sh("systemctl stop netns-hold@one").ok();
    let _ = host.wait_until("nothing is left inside", SECONDS, "! ls /run/netns/*");
    let _ = host.sh("modprobe -r -a ip_gre ip6_tunnel ipip sit").ok();
}
