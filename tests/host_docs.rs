//! What somebody learns the tool by, on a host: man pages, completion, the examples of the documents.

use std::{collections::BTreeSet, fs, time::Duration};

use libtest_mimic::Trial;
use netns_networkd::{
    config::{Config, SourceFile, Uplink, parse},
    model::Kind,
};

use crate::common::{Lab, REPO, Shell, Suite, Vm, talk_unit};
use crate::{skip, suite_trials, trials};

pub fn trials() -> Vec<Trial> {
    suite_trials![names_are_completed, examples_run]
}

pub fn vm_trials() -> Vec<Trial> {
    trials![vm_examples_run]
}

const SECONDS: Duration = Duration::from_secs(60);

/// A configuration in a document, with the files that it names.
struct Example {
    /// The document, and how many it has before this one.
    name: String,
    text: String,
    config: Config,
    rulesets: Vec<(String, String)>,
}

impl Example {
    fn all() -> Vec<Self> {
        let documents = ["README.md", "docs/guides.md", "docs/configuration.md"];
        let all: Vec<Self> = documents.into_iter().flat_map(Self::of).collect();
        assert!(all.len() > 15, "{} examples", all.len());
        all
    }

    /// Those of one document. Services are called `t-…` in them, links of the host `x-…`: the test host has others of these names.
    fn of(document: &str) -> Vec<Self> {
        let markdown = fs::read_to_string(format!("{REPO}/{document}")).unwrap();
        let read = |text: &str| parse(&[SourceFile { path: document.to_owned(), bytes: text.as_bytes().to_vec() }]).unwrap();
        let blocks = markdown.split("```toml\n").skip(1).enumerate();
        let example = |(number, rest): (usize, &str)| {
            let (mut text, after) = rest.split_once("```").map(|(text, after)| (text.to_owned(), after)).unwrap();
            let config = read(&text);
            for service in config.namespaces.values().flat_map(|namespace| &namespace.services) {
                for name in [service.as_str(), service.as_str().trim_end_matches(".service")] {
                    text = text.replace(&format!("\"{name}\""), &format!("\"t-{service}\""));
                }
            }
            for link in text.match_indices("\"eno").map(|(at, _)| text[at + 1..at + 5].to_owned()).collect::<BTreeSet<_>>() {
                text = text.replace(&format!("\"{link}\""), &format!("\"x-{link}\""));
            }
            let rulesets = config.namespaces.values().filter_map(|namespace| namespace.nftables.clone()).map(|path| {
                let ruleset = after.split_once(&format!("`{path}`:\n\n```\n")).and_then(|(_, rest)| rest.split_once("```"));
                (path, ruleset.expect("the ruleset follows").0.to_owned())
            });
            let rulesets = rulesets.collect();
            Self { name: format!("{document}, example {}", number + 1), config: read(&text), text, rulesets }
        };
        blocks.map(example).collect()
    }

    /// Tells whether it needs what this machine's kernel has not.
    fn needs_vm(&self) -> bool {
        ["vlan", "wireguard"].iter().any(|word| self.text.contains(word))
    }

    /// The links of the host that it stands on, and bridges that somebody else makes.
    fn outside(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let cards = self.text.match_indices("\"x-eno").map(|(at, _)| self.text[at + 1..at + 7].to_owned()).collect();
        let ends = self.config.namespaces.values().flat_map(|namespace| namespace.netns.links.values());
        let bridges = ends.filter_map(|link| link.kind.host_end().and_then(|end| end.bridge.clone()));
        let bridges = bridges.filter(|bridge| !self.config.bridges.contains_key(bridge)).map(|bridge| bridge.to_string());
        (cards, bridges.collect())
    }

    /// Where its keys are.
    fn keys(&self) -> Vec<String> {
        let files = self.text.split("-key-file = \"").skip(1).filter_map(|rest| rest.split('"').next());
        files.map(|file| if file.starts_with('/') { file.to_owned() } else { format!("/etc/credstore/{file}") }).collect()
    }

    /// Runs it as a user would: files, `sync`, the services; each is where it should be and answers at its addresses.
    fn run(&self, host: &dyn Shell) {
        let (cards, bridges) = self.outside();
        for bridge in &bridges {
            let _ = host.sh(&format!("ip link add {bridge} type bridge; ip link set {bridge} up")).ok();
        }
        for card in &cards {
            // unmanaged: nobody has configured this card
            let far = card.replace("x-", "y-");
            let on_it = |uplink: &&Uplink| matches!(uplink, Uplink::Vlan { parent, .. } if parent.as_str() == card);
            if let Some(vlan) = self.config.bridges.values().flat_map(|bridge| &bridge.uplinks).find(on_it) {
                // as the guide says
                let file = format!("[Match]\nName={card}\n[Network]\nVLAN={}\nLinkLocalAddressing=no\n", vlan.name());
                host.write_file(&format!("/etc/systemd/network/90-test-{card}.network"), &file);
            }
            host.write_file(
                &format!("/etc/systemd/network/90-test-{far}.network"),
                &format!("[Match]\nName={far}\n[Link]\nUnmanaged=yes\n"),
            );
            let _ = host
                .sh(&format!("networkctl reload; ip link add {card} type veth peer {far}; ip link set {card} up; ip link set {far} up"))
                .ok();
        }
        let has_dhcp = self.config.namespaces.values().any(|namespace| !namespace.dhcp.is_empty());
        if has_dhcp {
            let wire = bridges.first().or(cards.first()).expect("something that a server can be on");
            let end = if bridges.is_empty() { wire.replace("x-", "y-") } else { "y-dhcpd".to_owned() };
            let make = if bridges.is_empty() {
                "true".to_owned()
            } else {
                format!("ip link add x-dhcpd type veth peer {end}; ip link set x-dhcpd master {wire} up")
            };
            let _ = host
                .sh(&format!(
                    "ip netns add dhcpd; {make}; ip link set {end} netns dhcpd up; ip -n dhcpd addr add 10.10.1.2/24 dev {end}
                     ip -n dhcpd addr add fd00:10:1::2/64 dev {end} nodad
                     ip netns exec dhcpd dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --port=0 --user=root --interface={end} \
                         --pid-file=/run/t-dhcpd.pid --dhcp-leasefile=/run/t-leases --dhcp-authoritative --no-ping \
                         --dhcp-range=10.10.1.100,10.10.1.200,255.255.255.0,1h --enable-ra --dhcp-range=fd00:10:1::100,fd00:10:1::200,64,1h"
                ))
                .ok();
        }
        for (path, ruleset) in &self.rulesets {
            host.write_file(path, ruleset);
        }
        for path in self.keys() {
            let _ = host.sh(&format!("mkdir -p $(dirname {path}); umask 077; wg genkey >{path}")).ok();
        }
        let mut units = Vec::new();
        for (name, namespace) in &self.config.namespaces {
            for (number, service) in namespace.services.iter().enumerate() {
                let path = format!("/etc/systemd/system/{service}");
                let has_socket = service.socket().is_some_and(|socket| namespace.services.contains(&socket));
                if service.is_socket() {
                    host.write_file(&path, "[Socket]\nListenStream=8000\n");
                } else {
                    let arguments = if has_socket { "inherit".to_owned() } else { format!("serve {}", 8000 + number) };
                    host.write_file(&path, &talk_unit(&arguments, ""));
                }
                if !has_socket {
                    units.push(service.to_string());
                }
            }
            if namespace.services.is_empty() {
                units.push(format!("netns-hold@{name}.service"));
                units.extend((!namespace.dhcp.is_empty()).then(|| format!("netns-online@{name}.service")));
            }
        }
        host.write_file("/etc/netns-networkd/test.toml", &self.text);
        let _ = host.sh("systemctl daemon-reload; netns-networkd check").ok();
        let output = host.run(&["netns-networkd", "sync"]).ok();
        assert!(output.stderr.is_empty(), "{}: sync warns\n{output}", self.name);
        let each = |verb: &str| host.sh(&format!("for unit in {}; do systemctl {verb} $unit; done", units.join(" ")));
        let started = each("start");
        assert!(started.code == 0, "{}\n{started}\n{}", self.name, host.sh("journalctl -b -o cat -n 60 -u 'netns*' -u 't-*'").stdout);
        let output = host.run(&["netns-networkd", "sync"]).ok();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}: something is left to do\n{output}", self.name);
        for (name, namespace) in &self.config.namespaces {
            let services = namespace.services.iter().filter(|service| !service.is_socket());
            for service in services.filter(|service| units.contains(&service.to_string())) {
                let _ = host.sh(&format!("test /proc/$(systemctl show -P MainPID {service})/ns/net -ef /run/netns/{name}")).ok();
            }
            let addresses = namespace.netns.links.values().flat_map(|link| &link.addresses).chain(&namespace.netns.loopback_addresses);
            for address in addresses.map(|address| address.address.addr().to_string()) {
                let port = if namespace.services.is_empty() { "" } else { "8000" };
                let ask = format!("ip netns exec {name} python3 /usr/local/lib/talk.py ask {address} {port} who");
                let there = format!("ip -n {name} addr | grep -E ' {address}(/| peer )'");
                let output = host.sh(if port.is_empty() { &there } else { &ask }).ok();
                assert!(output.stdout.contains(&address), "{}: {output}", self.name);
            }
        }

        let _ = each("stop").ok();
        let _ = host.run(&["systemctl", "stop", "t-*"]).ok();
        let _ = host.wait_until("its namespaces have gone", SECONDS, "! ls /run/netns/* | grep -v dhcpd");
        let _ = host.sh("rm /etc/netns-networkd/test.toml; rm -f /etc/systemd/system/t-*.{service,socket}; systemctl daemon-reload").ok();
        let _ = host.run(&["netns-networkd", "sync"]).ok();
        if has_dhcp {
            let _ = host.sh("kill $(cat /run/t-dhcpd.pid); ip netns delete dhcpd; rm -f /run/t-dhcpd.pid /run/t-leases").ok();
        }
        let links = cards.iter().chain(&bridges).map(String::as_str).chain((has_dhcp && !bridges.is_empty()).then_some("x-dhcpd"));
        for link in links {
            // a card that a namespace had comes back when the kernel has taken that apart
            let _ = host.wait_until("it can be removed", SECONDS, &format!("ip link delete {link} || ! ip link show {link}"));
        }
        let _ = host.sh("rm -f /etc/systemd/network/90-test-*; networkctl reload").ok();
        for path in self.rulesets.iter().map(|(path, _)| path).chain(&self.keys()) {
            let _ = host.run(&["rm", path]).ok();
        }
    }
}

fn examples_run(suite: Suite) {
    let lab = Lab::new(suite);
    Example::all().iter().filter(|example| !example.needs_vm()).for_each(|example| example.run(&*lab));
}

/// Those that this machine's kernel cannot run.
fn vm_examples_run() {
    let vm = match Vm::shared() {
        Ok(vm) => vm,
        Err(why) => skip!("{why}"),
    };
    let _alone = vm.lock();
    let examples: Vec<Example> = Example::all().into_iter().filter(Example::needs_vm).collect();
    assert!(examples.len() > 2, "{}", examples.len());
    assert!(
        examples.iter().any(|example| example.config.namespaces.values().any(|n| n
            .netns
            .links
            .values()
            .any(|l| matches!(l.kind, Kind::Wireguard(_)))))
    );
    examples.iter().for_each(|example| example.run(vm));
}

/// Asks bash what it would complete a line to: it calls the function that our script registers, with the words and the last one.
#[track_caller]
fn complete(lab: &Lab, line: &str) -> String {
    let script = r#"source /usr/share/bash-completion/completions/netns-networkd
        read -ra COMP_WORDS <<<"$1"; [[ $1 != *' ' ]] || COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_TYPE=9
        function=$(complete -p netns-networkd | grep -o '_clap[a-z_]*')
        $function netns-networkd "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    lab.run(&["bash", "-c", script, "bash", line]).ok().stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn names_are_completed(suite: Suite) {
    let lab = Lab::new(suite);
    lab.config("[namespace.mail]\ndescription = \"letters\"\n[namespace.maps]\n[namespace.web]\n");
    lab.sync_changes(&[]);
    lab.config("[namespace.mail]\n[namespace.maps]\n[namespace.new]\n");
    assert_eq!(complete(&lab, "netns-networkd exec ma"), "mail maps");
    assert_eq!(complete(&lab, "netns-networkd sync mail n"), "new", "of the configuration, although no sync has recorded it");
    assert_eq!(complete(&lab, "netns-networkd status w"), "web", "of the last sync");
    assert_eq!(complete(&lab, "netns-networkd sync --dr"), "--dry-run");
    assert_eq!(complete(&lab, "netns-networkd stat"), "status");
    // a faulty configuration hides nothing that was recorded
    lab.config("[namespace.");
    assert_eq!(complete(&lab, "netns-networkd exec ma"), "mail maps");
    let scripts =
        "head -qn 1 /usr/share/zsh/vendor-completions/_netns-networkd; ls /usr/share/fish/vendor_completions.d /usr/share/man/man8";
    let shown = lab.sh(scripts).ok().stdout;
    assert_eq!(shown.lines().next(), Some("#compdef netns-networkd"), "{shown}");
    lab.config("");
}
