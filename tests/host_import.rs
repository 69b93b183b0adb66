//! Namespaces by Debian's ifupdown, scripts and edited units, as their admins would have written them, and the way from there: what
//! `import` makes of them, its steps done one by one, and the kernel asked before and after.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::common::{Host, Shell, Suite, TALK_PY, schema, talk_unit};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![a_host_with_ifupdown_changes_over]
}

const INTERFACES: &str = "
auto lo
iface lo inet loopback

# the host itself
auto br-lan
iface br-lan inet static
    address 192.0.2.2
    netmask 255.255.255.0
    gateway 192.0.2.1
    bridge_ports eno2
    bridge_stp off
    bridge_fd 0
    bridge_maxwait 0

iface br-lan inet6 static
    address 2001:db8:1::2
    netmask 64

auto br-dmz
iface br-dmz inet manual
    bridge_ports none
    bridge_stp off

source /etc/network/services/*
";

const NETNS_UNIT: &str = "
[Unit]
Description=Network namespace %i
StopWhenUnneeded=yes
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/network/namespaces/%i
ExecStop=/usr/sbin/ip netns delete %i
";

/// A namespace with these interfaces, as its template has it.
fn namespace(name: &str, interfaces: &[&str]) -> String {
    let mut text = format!("set -e\nip netns add {name}\nip netns exec {name} ip link set lo up\n");
    for interface in interfaces {
        text += &format!(
            "ip link add {interface} type veth peer name {interface}n\nip link set {interface}n netns {name}\n\
             ip link set {interface} up\n/usr/sbin/ifup {interface}\n"
        );
    }
    text
}

/// A stanza as its template has it: what is inside by commands, then the port.
fn stanza(netns: &str, interface: &str, family: &str, mac: &str, lines: &[&str], bridge: &str) -> String {
    let inside = format!("    up ip netns exec {netns}");
    let mac = if mac.is_empty() { String::new() } else { format!("{inside} ip link set {interface}n address {mac}\n") };
    let lines = lines.iter().fold(String::new(), |text, line| text + &format!("{inside} {line}\n"));
    format!(
        "iface {interface} {family} manual\n{mac}{inside} ip link set {interface}n up\n{lines}    up brctl addif {bridge} {interface} || true\n"
    )
}

/// Every file of the set-ups, but for the host's own.
fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut netns = |name: &str, interfaces: &[&str]| files.push((format!("namespaces/{name}"), namespace(name, interfaces)));
    netns("four", &["four0"]);
    netns("six", &["six0"]);
    netns("two", &["two0", "two1"]);
    netns("ways", &["ways0"]);
    netns("pair", &["pair0"]);
    // the stanza of this one runs inside, where ifupdown's own options can be used
    files.push((
        "namespaces/hard".to_owned(),
        "NS=hard\nip netns add $NS\nip -n $NS link set lo up\n\
         ip link add ${NS}0 type veth peer name eth0 netns $NS\nip link set dev ${NS}0 up\n\
         ip netns exec $NS /usr/sbin/ifup eth0\n"
            .to_owned(),
    ));
    let mut service = |name: &str, text: String| files.push((format!("services/{name}"), text));
    service(
        "four0",
        stanza(
            "four",
            "four0",
            "inet",
            "02:00:5e:10:00:04",
            &["ip addr add 192.0.2.14/24 dev four0n", "ip route add default via 192.0.2.1"],
            "br-lan",
        ),
    );
    service(
        "six0",
        stanza(
            "six",
            "six0",
            "inet6",
            "02:00:5e:10:00:06",
            &[
                "ip addr add 2001:db8:1::16/64 dev six0n",
                "ip addr add 2001:db8:1::116/64 dev six0n",
                "ip route add 2000::/3 via 2001:db8:1::1",
            ],
            "br-lan",
        ),
    );
    service(
        "two0",
        stanza(
            "two",
            "two0",
            "inet",
            "02:00:5e:10:00:20",
            &["ip addr add 192.0.2.20/24 dev two0n", "ip route add default via 192.0.2.1"],
            "br-lan",
        ) + &stanza(
            "two",
            "two0",
            "inet6",
            "",
            &["ip addr add 2001:db8:1::20/64 dev two0n", "ip route add 2000::/3 via 2001:db8:1::1"],
            "br-lan",
        ),
    );
    service("two1", stanza("two", "two1", "inet", "02:00:5e:10:00:21", &["ip addr add 203.0.113.20/24 dev two1n"], "br-dmz"));
    service(
        "ways0",
        stanza(
            "ways",
            "ways0",
            "inet",
            "02:00:5e:10:00:30",
            &[
                "ip addr add 192.0.2.30/24 dev ways0n",
                "ip addr add 192.0.2.31/24 dev ways0n",
                "ip route add default via 192.0.2.1 metric 50",
                "ip route add 198.51.100.0/24 via 192.0.2.254 src 192.0.2.31",
                "ip route add blackhole 10.0.0.0/8",
                "ip rule add from 192.0.2.31 table 100 priority 500",
                "ip route add default via 192.0.2.254 dev ways0n table 100",
                "sysctl -w net.ipv4.conf.all.arp_filter=1",
            ],
            "br-lan",
        ) + &stanza(
            "ways",
            "ways0",
            "inet6",
            "",
            &[
                "ip -6 addr add 2001:db8:1::30/64 dev ways0n",
                "ip -6 route add default via 2001:db8:1::1",
                "ip route add 2001:db8:9::/48 via 2001:db8:1::9",
            ],
            "br-lan",
        ),
    );
    service(
        "pair0",
        stanza(
            "pair",
            "pair0",
            "inet",
            "02:00:5e:10:00:50",
            &["ip addr add 192.0.2.50/24 dev pair0n", "ip route add default via 192.0.2.1"],
            "br-lan",
        ),
    );
    service(
        "eth0",
        "# inside netns hard\niface eth0 inet static\n    address 192.0.2.40\n    netmask 24\n    gateway 192.0.2.1\n    hwaddress ether 02:00:5e:10:00:40\n    \
         up nsenter -t 1 -n brctl addif br-lan hard0\n\n\
         iface eth0 inet6 static\n    address 2001:db8:1::40/64\n    gateway 2001:db8:1::1\n    dad-attempts 0\n"
            .to_owned(),
    );
    files
}

/// Units: name, namespace, port.
const UNITS: [(&str, &str, &str); 7] = [
    ("t-four", "four", "8000"),
    ("t-six", "six", "8000"),
    ("t-two", "two", "8000"),
    ("t-ways", "ways", "8000"),
    ("t-hard", "hard", "8000"),
    ("t-pair-a", "pair", "8000"),
    ("t-pair-b", "pair", "8001"),
];

/// What the kernel has: links, addresses, routes and rules of each namespace; ports and addresses of the bridges.
fn kernel(host: &Host) -> String {
    let text = host
        .sh("for n in four six two ways hard pair; do
                 echo $n; ip -n $n -j addr; echo routes; ip -n $n -j route show table all; ip -n $n -6 -j route show table all
                 echo rules; ip -n $n -j rule; ip netns exec $n sysctl net.ipv4.conf.all.arp_filter
             done
             for bridge in br-lan br-dmz; do
                 echo $bridge; cd /sys/class/net/$bridge/brif; grep . */state; ip -j addr show $bridge
             done
             echo host; ip -j route; ip -6 -j route show dev br-lan")
        .ok()
        .stdout;
    let line = |line: &str| {
        // a list of ip's; the order of addresses within a link counts, and is kept: it tells which is used
        let Ok(Value::Array(mut list)) = serde_json::from_str(line) else { return format!("{line}\n") };
        list.iter_mut().for_each(strip);
        let mut lines: Vec<String> =
            list.iter().filter(|entry| entry.as_object().is_some_and(|map| !map.is_empty())).map(|entry| format!("  {entry}\n")).collect();
        lines.sort();
        lines.concat()
    };
    text.lines().map(line).collect()
}

/// Takes out the link-local addresses of bridges: the kernel makes one of whatever MAC address a bridge comes up with, of a bridge that
/// networkd makes it is the one that stays, and without addresses there is none.
fn without_bridges_own(text: &str) -> String {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut value) if value["ifname"].as_str().is_some_and(|name| name.starts_with("br-")) => {
            value["addr_info"].as_array_mut().into_iter().for_each(|list| list.retain(|address| address["scope"] != "link"));
            format!("{value}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(|text| line(text.trim())).collect()
}

/// Takes out what is another number each time, and who says that it has made a thing.
fn strip(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Object(map) => {
            // `ip addr add` gives an address no broadcast address unless told to, this tool does
            if map.contains_key("local") {
                map.remove("broadcast");
            }
            map.retain(|key, _| {
                !["ifindex", "link_index", "link_netnsid", "valid_life_time", "preferred_life_time", "protocol"].contains(&key.as_str())
            });
            map.values_mut().for_each(strip);
        }
        _ => {}
    }
}

fn a_host_with_ifupdown_changes_over(suite: Suite) {
    let host = &*Host::fresh(suite, &format!("import-{suite}"));
    host.write_file("/usr/local/lib/talk.py", TALK_PY);
    host.write_file("/etc/network/interfaces", INTERFACES);
    for (path, text) in files() {
        host.write_file(&format!("/etc/network/{path}"), &text);
    }
    host.write_file("/etc/systemd/system/netns@.service", NETNS_UNIT);
    for (unit, netns, port) in UNITS {
        let unit_text = talk_unit(&format!("serve {port}"), "");
        let text = match unit {
            // bound by hand, the way of systemd itself
            "t-pair-b" => unit_text.replace(
                "[Service]",
                &format!("BindsTo=netns@{netns}.service\nAfter=netns@{netns}.service\n[Service]\nNetworkNamespacePath=/run/netns/{netns}"),
            ),
            _ => unit_text
                .replace("[Service]", &format!("After=netns@{netns}.service\nBindsTo=netns@{netns}.service\n[Service]"))
                .replace("ExecStart=", &format!("ExecStart=/usr/sbin/ip netns exec {netns} ")),
        };
        host.write_file(&format!("/etc/systemd/system/{unit}.service"), &text);
    }
    // a cable with the network's router at its end
    let _ = host
        .sh("ip netns add far; ip link add eno2 type veth peer name wire netns far; ip link set eno2 up
             ip -n far link set wire up; ip -n far addr add 192.0.2.1/24 dev wire; ip -n far addr add 2001:db8:1::1/64 dev wire nodad
             DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i /usr/local/share/debs/*.deb && systemctl daemon-reload && systemctl restart networking.service")
        .ok();
    let units: Vec<String> = UNITS.iter().map(|(unit, ..)| format!("{unit}.service")).collect();
    let start = format!("systemctl start {0} || {{ journalctl -b --no-pager -n 80; exit 1; }}", units.join(" "));
    let _ = host.sh(&start).ok();
    let settled = |host: &Host| {
        let _ = host.wait_until(
            "no address is tentative",
            Duration::from_secs(15),
            "for n in four six two ways hard pair; do ! ip -n $n -6 addr | grep -q tentative || exit 1; done; ip -6 addr show dev br-lan -tentative | grep -q 2001:db8:1::2/",
        );
    };
    settled(host);
    let answers = |host: &Host| {
        for (address, port) in [
            ("192.0.2.14", 8000),
            ("2001:db8:1::116", 8000),
            ("192.0.2.20", 8000),
            ("2001:db8:1::20", 8000),
            ("192.0.2.30", 8000),
            ("192.0.2.40", 8000),
            ("192.0.2.50", 8000),
            ("192.0.2.50", 8001),
        ] {
            let answer = host.sh(&format!("ip netns exec far python3 /usr/local/lib/talk.py ask {address} {port} who")).ok().stdout;
            assert!(answer.contains(address), "{address} port {port}: {answer}");
        }
    };
    answers(host);
    let before = kernel(host);
    assert!(before.contains("2000::/3") && before.contains("02:00:5e:10:00:40"), "{before}");

    host.install_product();
    let document = host.run(&["netns-networkd", "import", "--json"]).ok().stdout;
    let document = schema::conforms("import", &document);
    let left: Vec<&str> = document["left"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|note| note["needless"] == false)
        .map(|note| note["text"].as_str().unwrap())
        .collect();
    assert_eq!(left, Vec::<&str>::new());
    let steps = document["steps"].as_array().unwrap().clone();
    let (later, steps) = steps.split_last().unwrap();
    let run = |step: &Value| {
        for command in step["commands"].as_array().unwrap() {
            let command = command.as_str().unwrap();
            let output = host.sh(command);
            assert!(output.code == 0, "{output}\n{}", host.sh("ip -br addr; bridge link; journalctl -b --no-pager -n 25").stdout);
            if command.contains("diff") {
                assert_eq!(output.stdout, "", "{command}");
            }
            let ping = "ip netns exec far ping -n -q -c 1 -W 1 192.0.2.2";
            if command.contains("ip link delete") {
                let _ = host.wait_until("the host has its network again", Duration::from_secs(15), ping);
            } else {
                assert!(
                    host.sh(ping).code == 0,
                    "the host has lost its network with `{command}`\n{output}\n{}",
                    host.sh("ip addr; ip route; networkctl").stdout
                );
            }
        }
    };
    steps.iter().for_each(run);
    settled(host);
    let same = |when: &str, before: &str, now: String| {
        assert!(before == now, "{when}, the kernel has something else:\n{}", crate::common::diff(before, &now));
    };
    same("after the change-over", &before, kernel(host));
    answers(host);
    let exec = host.run(&["systemctl", "show", "-P", "ExecStart", "t-four.service"]).ok().stdout;
    assert!(!exec.contains("netns exec"), "{exec}");
    // what is left to ifupdown still comes up, and nothing else is asked of it
    let _ = host.sh("ifup -a --no-act && ! ifquery --list --all | grep -E 'four|six|two|ways|hard|pair|eth0'").ok();

    run(later);
    settled(host);
    same("with networkd's bridges", &without_bridges_own(&before), without_bridges_own(&kernel(host)));
    answers(host);
    let output = host.run(&["netns-networkd", "sync"]).ok();
    assert_eq!(output.stdout, "", "{output}");
    let _ = host.sh("ifup -a --no-act && ! ifquery --list --all | grep br-").ok();
}
