//! Kinds of links, VLANs and a card of real hardware, on Debian's own kernel.

use std::sync::MutexGuard;

use libtest_mimic::Trial;

use crate::common::{Shell, Vm};
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![kinds_on_the_hosts_links, physical_comes_back, vlans_are_kept_apart]
}

/// The virtual machine for one test, with ens4 and ens5 up, on one wire and nobody's; what a test leaves goes with it.
struct Links {
    vm: &'static Vm,
    _alone: MutexGuard<'static, ()>,
}

impl Links {
    #[track_caller]
    fn new() -> Result<Self, String> {
        let vm = Vm::shared()?;
        let links = Self { _alone: vm.lock(), vm };
        let _ = links.sh("mkdir -p /etc/netns-networkd; ip link set ens4 up; ip link set ens5 up").ok();
        Ok(links)
    }

    /// Syncs a configuration and keeps its namespaces up.
    #[track_caller]
    fn start(&self, config: &str, names: &[&str]) {
        self.write_file("/etc/netns-networkd/test.toml", config);
        let _ = self.sh("netns-networkd sync; test -z \"$(netns-networkd sync)\"").ok();
        for name in names {
            let output = self.run(&["systemctl", "start", &format!("netns-hold@{name}")]);
            assert!(output.code == 0, "{output}\n{}", self.sh(&format!("journalctl -b -u netns@{name} -o cat")).stdout);
        }
        let _ = self.sh("test -z \"$(netns-networkd sync)\"").ok();
    }

    #[track_caller]
    fn assert_ping(&self, netns: &str, to: &str, reaches: bool) {
        let output = self.run(&["ip", "netns", "exec", netns, "ping", "-c1", "-W3", to]);
        assert!((output.code == 0) == reaches, "{output}");
    }
}

impl Shell for Links {
    fn enter(&self) -> Vec<String> {
        self.vm.enter()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let _ = self
            .sh("systemctl stop 'netns-hold@*'; ip netns delete far 2>/dev/null; rm -f /etc/netns-networkd/*.toml; netns-networkd sync
             ip link set ens4 down; ip link set ens5 down");
    }
}

fn kinds_on_the_hosts_links() {
    let links = match Links::new() {
        Ok(links) => links,
        Err(why) => skip!("{why}"),
    };
    let before = links.sh("ip -br link").ok().stdout;
    // the host has links of the names inside: kernels before 6.15 look for them on the host
    let _ = links.sh("ip link add eth0 type dummy; ip link add eth1 type dummy").ok();
    links.start(
        r#"
[namespace.iv.interface.eth0]
kind = "ipvlan"
parent = "ens4"
addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
[namespace.mv.interface.eth0]
kind = "macvlan"
parent = "ens5"
addresses = ["192.0.2.2/24", "2001:db8:1::2/64"]
[namespace.mv.interface.eth1]
kind = "dummy"
mtu = 9000
addresses = ["203.0.113.1/32"]
"#,
        &["iv", "mv"],
    );
    let kinds = links.sh("for n in iv mv; do ip -n $n -d -j link | python3 -c 'import json,sys; print([(l[\"ifname\"],l[\"linkinfo\"][\"info_kind\"]) for l in json.load(sys.stdin) if l.get(\"linkinfo\")])'; done").ok();
    assert_eq!(kinds.stdout, "[('eth0', 'ipvlan')]\n[('eth0', 'macvlan'), ('eth1', 'dummy')]\n");
    assert_eq!(links.sh("ip netns exec iv cat /sys/class/net/eth0/address").ok().stdout, "52:54:00:00:00:04\n", "the parent's");
    links.assert_ping("iv", "192.0.2.2", true);
    links.assert_ping("mv", "2001:db8:1::1", true);
    links.assert_ping("mv", "203.0.113.1", true);
    let _ = links
        .sh("systemctl stop 'netns-hold@*'; until [ -z \"$(ls /run/netns)\" ]; do sleep 0.1; done; ip link del eth0; ip link del eth1")
        .ok();
    assert_eq!(links.sh("ip -br link").ok().stdout, before, "nothing is left");
}

fn physical_comes_back() {
    let links = match Links::new() {
        Ok(links) => links,
        Err(why) => skip!("{why}"),
    };
    let mac = |netns: &str, link: &str| links.sh(&format!("ip {netns} -j link show {link} | grep -o '\"address\":\"[^\"]*'")).ok().stdout;
    let own = mac("", "ens5");
    links.start(
        r#"
[namespace.ph.interface.eth0]
kind = "physical"
parent = "ens5"
mac = "02:00:5e:10:00:05"
addresses = ["192.0.2.3/24"]
[namespace.iv.interface.eth0]
kind = "ipvlan"
parent = "ens4"
addresses = ["192.0.2.1/24"]
"#,
        &["ph", "iv"],
    );
    assert!(mac("-n ph", "eth0").contains("02:00:5e:10:00:05"));
    assert_eq!(links.sh("ip link show ens5").code, 1);
    links.assert_ping("iv", "192.0.2.3", true);
    let back = "until ip link show ens5 >/dev/null 2>&1; do sleep 0.1; done";
    let _ = links.sh(&format!("systemctl stop netns-hold@ph; {back}")).ok();
    assert_eq!(mac("", "ens5"), own, "under its own name, with the address of the hardware");

    // the namespace is deleted under us: the kernel gives the card back under the name that it had inside, or udev renames it
    let _ = links.sh("systemctl start netns-hold@ph; ip netns delete ph; udevadm settle").ok();
    let _ = links.sh("systemctl restart netns@ph || systemctl start netns-hold@ph; systemctl is-active netns@ph").ok();
    links.assert_ping("iv", "192.0.2.3", true);
    let _ = links.sh(&format!("systemctl stop netns-hold@ph; {back}")).ok();
    assert_eq!(mac("", "ens5"), own);
}

fn vlans_are_kept_apart() {
    let links = match Links::new() {
        Ok(links) => links,
        Err(why) => skip!("{why}"),
    };
    let interface = |name: &str, n: u8, keys: &str| {
        format!("[namespace.{name}.interface.eth0]\nbridge = \"br-v\"\naddresses = [\"192.0.2.{n}/24\"]\n{keys}\n")
    };
    let config = |c: &str| {
        [
            "[bridge.br-v]\nvlan-filtering = true\nuplinks = [\"ens4\"]\naddresses = [\"192.0.2.9/24\"]\n",
            &interface("a", 1, "vlan = 10"),
            &interface("b", 2, "vlan = 10"),
            &interface("c", 3, c),
            &interface("plain", 4, ""),
        ]
        .concat()
    };
    links.start(&config("vlan = 20\nvlans = [30, \"40-42\"]"), &["a", "b", "c", "plain"]);
    let check = |c_reaches_a: bool| {
        links.assert_ping("a", "192.0.2.2", true);
        links.assert_ping("c", "192.0.2.1", c_reaches_a);
        links.assert_ping("plain", "192.0.2.1", false);
        // the host itself is in the VLAN of what says nothing
        links.assert_ping("plain", "192.0.2.9", true);
        links.assert_ping("a", "192.0.2.9", false);
    };
    check(false);
    let vlans = |port: &str| {
        let script = format!(
            "bridge -j vlan show dev {port} | python3 -c 'import json,sys
for v in json.load(sys.stdin)[0][\"vlans\"]: print(v[\"vlan\"], v.get(\"vlanEnd\", \"\"), *v.get(\"flags\", []))' | sed 's/ *$//'"
        );
        links.sh(&script).ok().stdout
    };
    assert_eq!(vlans("c-eth0"), "20  PVID Egress Untagged\n30\n40 42\n");
    assert_eq!(vlans("plain-eth0"), "1  PVID Egress Untagged\n");
    assert_eq!(vlans("ens4"), "1  PVID Egress Untagged\n10\n20\n30\n40 42\n");
    // on the wire they have tags
    let _ = links.sh("ip netns add far; ip link add link ens5 name far10 type vlan id 10; ip link set far10 netns far; ip -n far addr add 192.0.2.8/24 dev far10; ip -n far link set far10 up").ok();
    links.assert_ping("far", "192.0.2.1", true);
    links.assert_ping("far", "192.0.2.3", false);
    // whatever networkd does
    for disturb in
        ["networkctl reload", "networkctl reconfigure a-eth0 c-eth0 plain-eth0 ens4", "systemctl restart systemd-networkd; sleep 3"]
    {
        let _ = links.sh(disturb).ok();
        check(false);
    }
    // live
    links.write_file("/etc/netns-networkd/test.toml", &config("vlan = 10"));
    let said = links.sh("netns-networkd sync").ok().stdout;
    assert!(said.contains("set VLANs of port 'c-eth0': 10 untagged"), "{said}");
    check(true);
    let _ = links.sh("test -z \"$(netns-networkd sync)\"").ok();
}
