//! `doctor` on hosts that are broken in one way after the other: it names what was done, says nothing where all is well, and what it
//! says mends it.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::{Lab, Shell, Suite, schema, talk_unit};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        nothing_on_a_healthy_host,
        networkd_and_its_files,
        other_managers,
        namespaces_and_what_is_left_of_them,
        where_namespaces_are_mounted,
        units,
        bridges_and_uplinks,
        what_drops_packets,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
uplinks   = ["t-up"]
addresses = ["10.60.0.1/24", "fd40::1/64"]
[namespace.one]
services = ["t-one"]
interface.eth0 = { bridge = "br0", addresses = ["10.60.0.2/24", "fd40::2/64"], gateways = ["10.60.0.1", "fd40::1"] }
[namespace.two]
services = ["t-two"]
interface.eth0 = { bridge = "br0", addresses = ["10.60.0.3/24", "fd40::3/64"] }
[namespace.pair]
services = ["t-pair"]
interface.eth0 = { host-addresses = ["10.60.1.0/31"], addresses = ["10.60.1.1/31"] }
"#;

/// A host with an uplink, on which t-one and t-pair run, and t-two does not.
struct Patient(Lab);

impl Patient {
    #[track_caller]
    fn new(suite: Suite) -> Self {
        let lab = Lab::new(suite);
        lab.services(&[("t-one.service", "8000"), ("t-two.service", "8000"), ("t-pair.service", "8000")]);
        let _ = lab.sh("ip netns add t-lan; ip link add t-up type veth peer name eth0 netns t-lan; ip -n t-lan link set eth0 up").ok();
        lab.config(CONFIG);
        lab.sync_changes(&[]);
        lab.start(&["t-one", "t-pair"]);
        let patient = Self(lab);
        patient.assert_well();
        patient
    }

    /// Asserts that there is nothing to say; networkd may still be at work on what has just been mended.
    #[track_caller]
    fn assert_well(&self) {
        let output = self.wait_until("the doctor finds nothing", SECONDS, "netns-networkd --json doctor");
        assert_eq!(schema::conforms("doctor", &output.stdout)["findings"], Value::Array(Vec::new()), "{output}");
    }

    /// Returns what is found, at least one thing.
    #[track_caller]
    fn findings(&self) -> Vec<Value> {
        let output = self.run(&["netns-networkd", "--json", "doctor"]).fails(3);
        schema::conforms("doctor", &output.stdout)["findings"].as_array().unwrap().clone()
    }

    /// Asserts that a check finds something, in words among which are these; returns its remedies.
    #[track_caller]
    fn finds(&self, check: &str, words: &str) -> String {
        remedies(&self.findings(), check, words)
    }

    /// Breaks the host, asserts that this is found and that it is all that is, and does what the doctor says.
    #[track_caller]
    fn heals(&self, what: &str, check: &str, words: &str) {
        let commands = commands(&self.breaks(what, check, words));
        assert!(!commands.is_empty(), "the remedy of '{check}' has no command");
        let _ = self.sh(&commands).ok();
        self.assert_well();
    }

    /// Breaks the host, and asserts that this is found and that it is all that is; returns the remedies.
    #[track_caller]
    fn breaks(&self, what: &str, check: &str, words: &str) -> String {
        let _ = self.sh(what).ok();
        let found = self.findings();
        // differences go with many of them
        let others: Vec<&Value> = found.iter().filter(|finding| finding["check"] != check && finding["check"] != "status").collect();
        assert!(others.is_empty(), "after {what}: {others:#?}");
        remedies(&found, check, words)
    }

    /// Undoes by hand what was broken.
    #[track_caller]
    fn undo(&self, how: &str) {
        let _ = self.sh(how).ok();
        self.assert_well();
    }
}

impl std::ops::Deref for Patient {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.sh("ip link delete t-up; ip netns delete t-lan").ok();
        }
    }
}

/// The remedies of what a check found, in words among which are these; at least one.
#[track_caller]
fn remedies(found: &[Value], check: &str, words: &str) -> String {
    let of_check = found.iter().filter(|finding| finding["check"] == check && finding["found"].as_str().unwrap().contains(words));
    let remedies: String = of_check.map(|finding| finding["remedy"].as_str().unwrap().to_owned() + "\n").collect();
    assert!(!remedies.is_empty(), "'{check}' does not find '{words}': {found:#?}");
    remedies
}

/// The commands of a remedy: what is between backquotes and begins with a program's name.
fn commands(remedy: &str) -> String {
    const PROGRAMS: [&str; 8] = ["systemctl", "ip", "rm", "mv", "chmod", "networkctl", "netns-networkd", "sysctl"];
    let quoted = remedy.split('`').skip(1).step_by(2);
    let is_command = |text: &&str| PROGRAMS.iter().any(|program| text.starts_with(&format!("{program} ")));
    // one asks who uses a namespace
    quoted.filter(is_command).filter(|text| !text.starts_with("ip netns pids ")).map(|command| command.to_owned() + "\n").collect()
}

fn nothing_on_a_healthy_host(suite: Suite) {
    let patient = Patient::new(suite);
    let before = patient.fingerprint();
    let output = patient.run(&["netns-networkd", "doctor"]).ok();
    assert!(output.stdout.contains("nothing found by ") && output.stderr.is_empty(), "{output}");
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    patient.assert_unchanged(&before);

    // without root
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "netns-networkd", "--json", "doctor"];
    let output = patient.run(&user).ok();
    let report = schema::conforms("doctor", &output.stdout);
    assert!(report["not_seen"][0].as_str().unwrap().starts_with("without root: "), "{output}");
    assert_eq!(report["findings"], Value::Array(Vec::new()), "{output}");
    let _ = patient.sh("chmod 600 /etc/systemd/network/10-netns-networkd-bridge-br0.netdev").ok();
    let output = patient.run(&user).fails(3);
    assert!(output.stdout.contains("its mode is 0600"), "what others may see is seen\n{output}");
    let _ = patient.sh("chmod 644 /etc/systemd/network/10-netns-networkd-bridge-br0.netdev").ok();

    // without a bus it goes on
    let socket = "/run/dbus/system_bus_socket";
    let output =
        patient.sh(&format!("mv {socket} {socket}-away; trap 'mv {socket}-away {socket}' EXIT; netns-networkd --json doctor")).ok();
    let report = schema::conforms("doctor", &output.stdout);
    assert!(report["not_seen"].to_string().contains("failed to connect to the system bus"), "{output}");

    let output = patient.sh("ip netns exec one netns-networkd doctor").fails(1);
    assert!(output.stderr.starts_with("error: this shell is in a network namespace"), "{output}");

    // what status has to say
    patient.config(&CONFIG.replace("\"10.60.0.3/24\", ", ""));
    assert_eq!(patient.finds("status", "1 difference").matches("netns-networkd status").count(), 1);
    patient.config("[namespace.mail]\nbad = 1\n");
    let _ = patient.finds("status", "the configuration cannot be used: 1 fault");
    patient.config(CONFIG);
    patient.assert_well();
}

fn networkd_and_its_files(suite: Suite) {
    let patient = Patient::new(suite);
    let networkd = "systemd-networkd.socket systemd-networkd.service";
    patient.heals(&format!("systemctl stop {networkd}"), "networkd-down", "systemd-networkd does not run: it is inactive");
    patient.heals("systemctl disable systemd-networkd", "networkd-not-enabled", "systemd-networkd runs, and is disabled");
    // not enabled, so it is started by hand
    let mask = format!("systemctl stop {networkd}; systemctl mask --runtime systemd-networkd.service");
    patient.breaks(&mask, "networkd-down", "systemd-networkd does not run: it is masked");
    patient.undo(&format!("systemctl unmask --runtime systemd-networkd.service; systemctl start {networkd}"));

    // not before the next reload does it take the ports, and leaves alone those that come
    let catch_all = "printf '[Match]\\nName=!eno1 !lan\\n[Network]\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/05-t-all.network";
    let port = "two-eth0";
    patient.breaks(
        &catch_all.replace("!eno1 !lan", port),
        "foreign-network-file",
        &format!("networkd would take /etc/systemd/network/05-t-all.network for link '{port}'"),
    );
    patient.undo("rm /etc/systemd/network/05-t-all.network");
    let _ = patient.sh(&catch_all.replace("!eno1 !lan", "one-eth0")).ok();
    let _ = patient.sh("networkctl reload; networkctl reconfigure one-eth0").ok();
    let takes = "(netns-networkd doctor || true) | grep 'networkd takes /etc/systemd/network/05-t-all.network for link .one-eth0.'";
    let _ = patient.wait_until("networkd takes the other file", SECONDS, takes);
    let remedy = patient.finds("foreign-network-file", "networkd takes /etc/systemd/network/05-t-all.network for link 'one-eth0'");
    let _ = patient.sh(&commands(&remedy)).ok();
    patient.undo("rm /etc/systemd/network/90-t-all.network");

    let file = "/etc/systemd/network/10-netns-networkd-port-one-eth0.network";
    patient.heals(&format!("chmod 600 {file}"), "unreadable-file", &format!("cannot read {file}: its mode is 0600"));
    patient.heals("chmod 700 /etc/systemd/network", "unreadable-file", "its folder /etc/systemd/network has mode 0700");
    patient.heals(&format!("ln -sf /dev/null {file}"), "masked-file", &format!("{file} is masked"));
    let _ = patient.sh(&format!("mkdir {file}.d; printf '[Link]\\nUnmanaged=yes\\n' >{file}.d/t.conf; networkctl reload")).ok();
    let unmanaged = "(netns-networkd doctor || true) | grep 'networkd leaves link .one-eth0. alone'";
    let _ = patient.wait_until("networkd leaves it alone", SECONDS, unmanaged);
    assert!(
        patient
            .finds("unmanaged-link", &format!("networkd leaves link 'one-eth0' alone: {file}.d/t.conf:2 says so"))
            .contains("`Unmanaged=`")
    );
    patient.undo(&format!("rm -r {file}.d; networkctl reload; networkctl reconfigure one-eth0"));
    // networkd would put it back at once
    let leaves = "systemctl kill --signal=STOP systemd-networkd; ip link set one-eth0 nomaster";
    patient.breaks(leaves, "port-outside-its-bridge", "link 'one-eth0' is not a port of bridge 'br0' but of none");
    patient.undo("systemctl kill --signal=CONT systemd-networkd; netns-networkd sync");

    let unit = "/run/systemd/system/systemd-networkd-wait-online.service.d";
    let fails = format!(
        "mkdir -p {unit}; printf '[Service]\\nExecStart=\\nExecStart=false\\n' >{unit}/t.conf; systemctl daemon-reload; ! systemctl restart systemd-networkd-wait-online"
    );
    patient.breaks(&fails, "wait-online", "systemd-networkd-wait-online failed");
    patient.undo(&format!("rm -r {unit}; systemctl daemon-reload; systemctl restart systemd-networkd-wait-online"));
}

fn other_managers(suite: Suite) {
    let patient = Patient::new(suite);
    // none of them is installed: what matters here is a unit of the name that runs, and its files
    let fake = |name: &str| {
        format!(
            "printf '[Service]\\nExecStart=sleep infinity\\n' >/run/systemd/system/{name}.service; systemctl daemon-reload; systemctl start {name}"
        )
    };
    let stop = |name: &str| format!("systemctl stop {name}; rm /run/systemd/system/{name}.service; systemctl daemon-reload");
    let remedy = patient.breaks(
        &fake("NetworkManager"),
        "network-manager",
        "NetworkManager runs, and nothing keeps it from links 'br0', 'one-eth0',",
    );
    let words: Vec<&str> = remedy.split('`').collect();
    let (file, lines) = ("/etc/NetworkManager/conf.d/netns-networkd.conf", format!("{}\n{}\n", words[1], words[3]));
    assert!(remedy.contains(file), "{remedy}");
    patient.write_file(file, &lines);
    patient.assert_well();
    patient.undo(&format!("rm -r /etc/NetworkManager; {}", stop("NetworkManager")));

    let text = "auto lo\\niface lo inet loopback\\n\\nauto t-up\\niface t-up inet manual\\n";
    let interfaces = format!("mkdir -p /etc/network; printf '{text}' >/etc/network/interfaces; ln -s true /usr/sbin/ifup");
    patient.breaks(&interfaces, "ifupdown", "ifupdown configures link 't-up', too (/etc/network/interfaces:5)");
    patient.undo("rm -r /etc/network /usr/sbin/ifup");

    patient.write_file("/etc/dhcpcd.conf.t", "hostname\n");
    let _ = patient.sh("[ -e /etc/dhcpcd.conf ] && cp /etc/dhcpcd.conf /run/t-dhcpcd.conf; cp /etc/dhcpcd.conf.t /etc/dhcpcd.conf").ok();
    let remedy =
        patient.breaks(&fake("dhcpcd"), "other-dhcp-client", "dhcpcd runs on the host, and nothing keeps it from links 'br0', 'one-eth0',");
    let _ = patient.sh(&format!("echo '{}' >>/etc/dhcpcd.conf", remedy.split('`').nth(1).unwrap())).ok();
    patient.assert_well();
    patient.undo(&format!(
        "{}; rm /etc/dhcpcd.conf.t; [ -e /run/t-dhcpcd.conf ] && mv /run/t-dhcpcd.conf /etc/dhcpcd.conf || rm /etc/dhcpcd.conf",
        stop("dhcpcd")
    ));
}

fn namespaces_and_what_is_left_of_them(suite: Suite) {
    let patient = Patient::new(suite);
    patient.heals("touch /run/netns/t-old", "stale-netns-file", "/run/netns/t-old is a plain file, not a namespace");
    patient.heals("ip netns add t-empty", "leaked-netns", "/run/netns/t-empty is a namespace that nobody uses");
    patient.heals("netns-networkd up two", "leaked-netns", "netns 'two' is up, and netns@two.service, which would take it down, is not");
    patient.heals("ip netns add two", "foreign-netns", "/run/netns/two is a namespace that netns-networkd has not made");
    let pid = patient.property("t-one", "MainPID");
    patient.heals("ip netns delete one", "lost-netns", "netns@one.service is active, and /run/netns/one is no namespace: nothing is there");
    assert_eq!(patient.property("t-one", "MainPID"), pid, "the remedy restarts nothing");

    // a process that outlives its service, in a namespace that was taken down in good order
    let left = "ip netns exec one setsid sleep 1000 >/dev/null 2>&1 & sleep=$!
                until [[ $(readlink /proc/$sleep/exe) = */sleep ]]; do sleep 0.05; done
                systemctl stop t-one; while [[ -e /run/netns/one ]]; do sleep 0.05; done; echo $sleep";
    let pid = patient.sh(left).ok().stdout.trim().to_owned();
    patient.breaks("true", "left-processes", &format!("process {pid} (sleep)"));
    patient.undo(&format!("kill {pid}; systemctl start t-one"));
}

fn where_namespaces_are_mounted(suite: Suite) {
    let patient = Patient::new(suite);
    // a namespace that is there when its folder becomes private cannot be removed afterwards
    patient.stop(&["t-one", "t-pair"]);
    let _ = patient.sh("ip -n t-lan link set eth0 netns 1 name t-wire; ip link set t-wire up; ip netns delete t-lan").ok();
    patient.breaks("mount --make-private /run/netns", "private-run-netns", "/run/netns is mounted, and not shared");
    patient.undo("mount --make-rshared /run/netns");
    let _ = patient.run(&["ip", "netns", "add", "t-lan"]).ok();
    let _ = patient.sh("ip link set t-wire netns t-lan name eth0; ip -n t-lan link set eth0 up").ok();

    // what hardens every service hides the mounts of netns@ too
    let folder = "/etc/systemd/system/service.d";
    let drop_in =
        format!("mkdir {folder}; printf '[Service]\\n# for all\\nPrivateTmp=yes\\n' >{folder}/10-t.conf; systemctl daemon-reload");
    patient.breaks(
        &drop_in,
        "hidden-netns",
        &format!("{folder}/10-t.conf:3: PrivateTmp=yes gives netns@.service a mount namespace of its own"),
    );
    let _ = patient.run(&["systemctl", "start", "t-two"]).fails(1);
    let said = patient.journal(&["netns@two"]);
    assert!(said.contains("systemd does not see /run/netns/two: this program has mounts of its own"), "{said}");
    // the remedy, for netns@ alone
    patient.write_file("/etc/systemd/system/netns@.service.d/50-local.conf", "[Service]\nPrivateTmp=no\n");
    let _ = patient.sh("systemctl daemon-reload; systemctl reset-failed; systemctl start t-two").ok();
    patient.assert_answers("10.60.0.3", "8000");
    patient.assert_well();
    patient.undo(&format!("rm -r {folder} /etc/systemd/system/netns@.service.d; systemctl daemon-reload"));
}

fn units(suite: Suite) {
    let patient = Patient::new(suite);
    // a start that fails, with its own words
    let fails = "ip link add two-eth0 type veth peer name t-theirs; ! systemctl start t-two";
    let words = "netns@two.service failed: failed to bring up netns 'two' of /etc/netns-networkd/test.toml:10: failed to add link 'eth0'";
    patient.breaks(fails, "failed-unit", words);
    patient.undo("ip link delete two-eth0; systemctl reset-failed");

    patient.heals("systemctl mask --runtime netns@.service", "replaced-unit", "netns@.service is masked");
    let copy = "cp /usr/lib/systemd/system/netns@.service /etc/systemd/system/; systemctl daemon-reload";
    patient.breaks(copy, "replaced-unit", "/etc/systemd/system/netns@.service is used in place of the installed netns@.service");
    patient.undo("rm /etc/systemd/system/netns@.service; systemctl daemon-reload");

    let bound = format!("BindsTo=netns@one.service\n{}NetworkNamespacePath=/run/netns/one\n", talk_unit("serve 8001", ""));
    let bound = bound.replacen("BindsTo", "[Unit]\nBindsTo", 1);
    patient.write_file("/etc/systemd/system/t-hand.service", &bound);
    let words = "t-hand.service has BindsTo=netns@one.service without After=netns@one.service";
    patient.breaks("systemctl daemon-reload; systemctl start t-hand", "missing-after", words);
    patient.write_file("/etc/systemd/system/t-hand.service", &bound.replacen("BindsTo", "After=netns@one.service\nBindsTo", 1));
    patient.undo("systemctl daemon-reload");
    patient.undo("systemctl stop t-hand; rm /etc/systemd/system/t-hand.service; systemctl daemon-reload");

    let exec = format!(
        "printf '[Service]\\nExecStart=ip netns exec one sleep infinity\\n' >/etc/systemd/system/t-loose.service; systemctl daemon-reload; systemctl start t-loose; {}",
        "until [[ $(readlink /proc/$(systemctl show -P MainPID t-loose)/exe) = */sleep ]]; do sleep 0.05; done"
    );
    patient.breaks(&exec, "unbound-service", "t-loose.service runs in netns 'one', and is not bound to it");
    patient.undo("systemctl stop t-loose; rm /etc/systemd/system/t-loose.service; systemctl daemon-reload");

    let drop_in = "/etc/systemd/system/t-two.service.d/90-t.conf";
    let words =
        format!("{drop_in}:2 says NetworkNamespacePath=/run/netns/one for t-two.service, after the drop-in that puts it into netns 'two'");
    patient.breaks(
        &format!("printf '[Service]\\nNetworkNamespacePath=/run/netns/one\\n' >{drop_in}; systemctl daemon-reload"),
        "overridden-setting",
        &words,
    );
    patient.undo(&format!("rm {drop_in}; systemctl daemon-reload"));

    let stub = "cp /etc/resolv.conf /run/t-resolv.conf; echo 'nameserver 127.0.0.53' >/etc/resolv.conf";
    patient.breaks(stub, "loopback-resolver", "services in the namespaces 'one', 'pair' and 'two' ask 127.0.0.53 for names");
    let dns = |netns: &str| format!("[namespace.{netns}]\ndns = [\"192.0.2.53\"]\n");
    patient.config(&["one", "two", "pair"].iter().fold(CONFIG.to_owned(), |text, n| text.replace(&format!("[namespace.{n}]\n"), &dns(n))));
    let _ = patient.sync(&["--restart"]).ok();
    patient.assert_well();
    let _ = patient.sh("cat /run/t-resolv.conf >/etc/resolv.conf; rm /run/t-resolv.conf").ok();
}

fn bridges_and_uplinks(suite: Suite) {
    let patient = Patient::new(suite);
    patient.breaks("ip -n t-lan link set eth0 down", "uplink", "uplink 't-up' of bridge 'br0' has no carrier");
    patient.undo("ip -n t-lan link set eth0 up");
    let mtu = "ip link set t-up mtu 1400; ip -n t-lan link set eth0 mtu 1400";
    patient.breaks(mtu, "mtu", "host end 'one-eth0' has MTU 1500, port 't-up' of the same bridge 'br0' 1400");
    patient.undo("ip link set t-up mtu 1500; ip -n t-lan link set eth0 mtu 1500; ip link set br0 mtu 1500");
    patient.heals("ip -n one link set eth0 mtu 1300", "mtu", "link 'eth0' in netns 'one' has MTU 1300, its host end 1500");
    patient.breaks(
        "ip link set br0 type bridge forward_delay 200 stp_state 1",
        "spanning-tree",
        "bridge 'br0' has spanning tree on: a new port waits 4 s",
    );
    patient.undo("ip link set br0 type bridge forward_delay 1500 stp_state 0");

    // by somebody else, on the wire
    let stranger = "ip -n t-lan addr add fd40::77/64 dev eth0 nodad";
    let _ = patient.sh(&format!("{stranger}; ip -n one addr add fd40::77/64 dev eth0")).ok();
    let found = "ip -n one addr show dadfailed | grep -q fd40::77";
    let _ = patient.wait_until("the kernel has found the duplicate", SECONDS, found);
    let _ = patient.finds("duplicate-address", "address fd40::77/64 of link 'eth0' in netns 'one' is used by somebody else on its network");
    patient.undo("ip -n one addr delete fd40::77/64 dev eth0; ip -n t-lan addr delete fd40::77/64 dev eth0");

    // what this kernel has, and what it has not; it has no dummy links, unless somebody runs the tests elsewhere
    let wants = |kind: &str| format!("{CONFIG}[namespace.three]\ninterface.eth0 = {{ {kind} }}\n");
    patient.config(&wants("kind = \"macvlan\", parent = \"br0\""));
    let _ = patient.sync(&[]).ok();
    patient.assert_well();
    let has_dummies = patient.sh("ip link add t-dummy type dummy; ip link delete t-dummy").code == 0;
    patient.config(&wants("kind = \"dummy\""));
    let _ = patient.sync(&[]).ok();
    if has_dummies {
        patient.assert_well();
    } else {
        patient.breaks("true", "kernel", "this kernel does not have links of the kind dummy");
    }
    // a bridge of somebody who has set no address for it
    let _ = patient.sh("ip link add t-virbr up type bridge").ok();
    patient.config(&format!("{CONFIG}[namespace.three]\ninterface.eth0 = {{ bridge = \"t-virbr\", addresses = [\"10.61.0.2/24\"] }}\n"));
    let _ = patient.sync(&[]).ok();
    patient.heals("true", "bridge-mac", "the MAC address of bridge 't-virbr' changes with its ports");
    patient.config(CONFIG);
    let _ = patient.sync(&[]).ok();
    let _ = patient.sh("ip link delete t-virbr").ok();
}

fn what_drops_packets(suite: Suite) {
    let patient = Patient::new(suite);
    // br_netfilter is in this kernel, and on in every new network namespace, so on this host, too
    let chain = |table: &str| {
        format!("nft add table {table}; nft add chain {table} FORWARD '{{ type filter hook forward priority 0; policy drop; }}'")
    };
    let _ = patient.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1").ok();
    let drops = |of: &str| format!("and chain FORWARD of the nftables table {of} filter drops what no rule accepts");
    let remedy = patient.breaks(&chain("ip filter"), "bridge-firewall", &drops("ip"));
    // it is true
    let ping = "ip -n t-lan addr add 10.60.0.9/24 dev eth0; ip netns exec t-lan ping -n -c 1 -W 1 10.60.0.2";
    let _ = patient.sh(ping).fails(1);
    let _ = patient.sh(&commands(&remedy).replace("sysctl", "sysctl -q")).ok();
    patient.assert_well();
    let _ = patient.sh("ip netns exec t-lan ping -n -c 1 -W 2 10.60.0.2").ok();
    patient.breaks(&chain("ip6 filter"), "bridge-firewall", &drops("ip6"));
    patient.undo("nft add rule ip6 filter FORWARD iifname br0 oifname br0 accept");
    patient.undo("nft flush ruleset; sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    patient.breaks(
        &chain("bridge filter"),
        "bridge-firewall",
        "chain FORWARD of the nftables table bridge filter drops frames on bridge 'br0'",
    );
    patient.undo("nft flush ruleset");

    // the host as a router
    let routed = CONFIG.replace("addresses = [\"10.60.1.1/31\"]", "addresses = [\"10.60.1.1/31\"], gateways = [\"10.60.1.0\"]");
    let _ = patient.sh("sysctl -qw net.ipv4.ip_forward=0").ok();
    patient.config(&routed);
    let _ = patient.sync(&[]).ok();
    patient.heals("true", "forwarding", "netns 'pair' has the host for a router by IPv4, and net.ipv4.ip_forward is 0");
    let _ = patient.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0").ok();
    patient.breaks(&chain("ip filter"), "forwarding", "chain FORWARD of the nftables table ip filter drops IPv4 packets that no rule accepts, and no rule of it names host end 'pair-eth0'");
    patient.undo("nft add rule ip filter FORWARD iifname pair-eth0 accept; nft add rule ip filter FORWARD oifname pair-eth0 accept");
    patient.undo("nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0 net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1; sysctl -qw net.ipv4.ip_forward=1");

    // two ways out
    patient.config(&routed.replace(
        "[namespace.two]",
        "[namespace.one.interface.eth1]\nhost-addresses = [\"10.60.2.0/31\"]\naddresses = [\"10.60.2.1/31\"]\ngateways = [{ via = \"10.60.2.0\", metric = 10 }]\n[namespace.two]",
    ));
    let _ = patient.sync(&[]).ok();
    patient.assert_well();
    let strict = "ip netns exec one sysctl -qw net.ipv4.conf.eth0.rp_filter=1";
    patient.breaks(
        strict,
        "reverse-path-filter",
        "netns 'one' has two ways out by IPv4, and filters strictly by reverse path on link 'eth0'",
    );
    patient.undo("ip netns exec one sysctl -qw net.ipv4.conf.eth0.rp_filter=0");
    patient.config(CONFIG);
    let _ = patient.sync(&["--restart"]).ok();
    patient.undo("sysctl -qw net.ipv4.ip_forward=0");
}
