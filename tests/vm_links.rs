//! Kinds of links, and a card that looks like hardware, on Debian's own kernel.

use std::sync::MutexGuard;

use libtest_mimic::Trial;

use crate::common::{Shell, Vm};
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![kinds_on_the_hosts_links, physical_comes_back]
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
        let _ = self.sh("set +e; systemctl stop 'netns-hold@*'; rm -f /etc/netns-networkd/*.toml; netns-networkd sync
             ip link set ens4 down; ip link set ens5 down");
    }
}

fn kinds_on_the_hosts_links() {
    let links = match Links::new() {
        Ok(links) => links,
        Err(why) => skip!("{why}"),
    };
    let look = || links.sh("ip -br link | awk '{ print $1, $3 }'").ok().stdout;
    let before = look();
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
    let kinds = links.sh("for n in iv mv; do ip -n $n -d -j link | python3 -c 'import json,sys; print(sorted((l[\"ifname\"],l[\"linkinfo\"][\"info_kind\"]) for l in json.load(sys.stdin) if l.get(\"linkinfo\")))'; done").ok();
    assert_eq!(kinds.stdout, "[('eth0', 'ipvlan')]\n[('eth0', 'macvlan'), ('eth1', 'dummy')]\n");
    assert_eq!(links.sh("ip netns exec iv cat /sys/class/net/eth0/address").ok().stdout, "52:54:00:00:00:04\n", "the parent's");
    links.assert_ping("iv", "192.0.2.2", true);
    links.assert_ping("mv", "2001:db8:1::1", true);
    links.assert_ping("mv", "203.0.113.1", true);
    let _ = links
        .sh("systemctl stop 'netns-hold@*'; until [ -z \"$(ls /run/netns)\" ]; do sleep 0.1; done; ip link del eth0; ip link del eth1")
        .ok();
    assert_eq!(look(), before, "nothing is left");
}

fn physical_comes_back() {
    let links = match Links::new() {
        Ok(links) => links,
        Err(why) => skip!("{why}"),
    };
    // by its own name: ip(8) takes alternative ones, too
    let mac = |netns: &str, link: &str| {
        links.sh(&format!("ip {netns} -o link | grep -o \" {link}: .* link/ether [^ ]*\" | sed 's/.* //'")).ok().stdout
    };
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
    assert_eq!(mac("-n ph", "eth0"), "02:00:5e:10:00:05\n");
    assert_eq!(links.sh("ip link show ens5").code, 1);
    links.assert_ping("iv", "192.0.2.3", true);
    let back = "until test -e /sys/class/net/ens5; do sleep 0.1; done; udevadm settle; test -e /sys/class/net/ens5";
    let _ = links.sh(&format!("systemctl stop netns-hold@ph; {back}")).ok();
    assert_eq!(mac("", "ens5"), own, "under its own name, with the address of the hardware");

    // the namespace is deleted under us: the kernel gives the card back under the name that it had inside, or udev renames it
    let _ = links.sh("systemctl start netns-hold@ph; ip netns delete ph; udevadm settle").ok();
    let _ = links.sh("systemctl restart netns@ph || systemctl start netns-hold@ph; systemctl is-active netns@ph").ok();
    links.assert_ping("iv", "192.0.2.3", true);
    let _ = links.sh(&format!("systemctl stop netns-hold@ph; {back}")).ok();
    assert_eq!(mac("", "ens5"), own);

    // a name that udev has given it beside its own
    let config = links.read_file("/etc/netns-networkd/test.toml").replace("\"ens5\"", "\"enp0s5\"");
    links.write_file("/etc/netns-networkd/test.toml", &config);
    let refused = links.run(&["netns-networkd", "sync"]).fails(2);
    let error =
        "'enp0s5' is only another name of link 'ens5', and the kernel gives a link back by its own\n  hint: write parent = \"ens5\"\n";
    assert!(refused.stderr.contains(error), "{refused}");
}
