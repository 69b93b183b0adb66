//! What drops packets on their way, and what limits how many there can be.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net};

use super::{Chain, Facts, Fill, Finding, Interface, Namespace, Role, names};
use crate::model::NetnsName;

const FAMILIES: [(&str, &str, &str); 2] = [("IPv4", "ip", "iptables"), ("IPv6", "ip6", "ip6tables")];

/// Chains that frames pass on a bridge: those of the family `bridge` always, those of IP where `br_netfilter` sends frames there.
pub(super) fn bridge_firewall(facts: &Facts) -> Vec<Finding> {
    let bridges = || facts.links.iter().filter(|(_, link)| link.there && matches!(link.role, Role::Bridge | Role::ForeignBridge));
    let mut findings = Vec::new();
    for Chain { family, name, rules } in &facts.chains {
        // a rule that names the bridge, or asks whether a packet is bridged, is an admin's answer to this
        let is_let_through = |bridge: &str| is_named(rules, bridge) || rules.contains("physdev") || rules.contains("ibrname");
        let passes = |calls: [bool; 2]| match family.as_str() {
            "bridge" => true,
            "ip" => calls[0],
            "ip6" => calls[1],
            _ => calls[0] || calls[1],
        };
        let hit: Vec<&str> =
            bridges().filter(|(bridge, link)| passes(link.nf_call) && !is_let_through(bridge)).map(|(bridge, _)| bridge.as_str()).collect();
        if hit.is_empty() {
            continue;
        }
        let of_frames = family == "bridge";
        let found = if of_frames {
            format!("{name} drops frames on {} that no rule accepts", names("bridge", "bridges", hit.iter().copied()))
        } else {
            format!(
                "the kernel sends frames on {} through the firewall (br_netfilter), and {name} drops what no rule accepts",
                names("bridge", "bridges", hit.iter().copied())
            )
        };
        let off: Vec<String> = FAMILIES
            .iter()
            .filter(|(_, of, _)| family == of || family == "inet")
            .map(|(.., tool)| format!("net.bridge.bridge-nf-call-{tool}=0"))
            .collect();
        let rule = match (family.as_str(), is_iptables(name)) {
            ("ip6", true) => format!("`ip6tables -I FORWARD -i {0} -o {0} -j ACCEPT`", hit[0]),
            (_, true) => format!("`iptables -I FORWARD -i {0} -o {0} -j ACCEPT` (with Docker: in DOCKER-USER)", hit[0]),
            _ => format!("a rule `iifname \"{0}\" oifname \"{0}\" accept` in that chain", hit[0]),
        };
        let remedy = if of_frames {
            format!("accept them in that chain, for instance `meta ibrname \"{}\" accept`", hit[0])
        } else {
            format!(
                "let bridges be bridges: `sysctl -w {}`, and the same in a file in /etc/sysctl.d; or accept them: {rule}",
                off.join(" ")
            )
        };
        findings.push(Finding::fault(
            found,
            "services reach the host, and nobody else: what goes from one port of the bridge to another is dropped without a word",
            remedy,
        ));
    }
    findings
}

/// Tells whether a chain is one that iptables(8) makes, in either of its two ways.
fn is_iptables(chain: &str) -> bool {
    chain.starts_with("chain FORWARD ")
}

/// Pairs without a bridge whose namespaces use the host as their router.
fn routed(facts: &Facts) -> impl Iterator<Item = (&NetnsName, &Interface)> {
    let is_routed = |interface: &&Interface| interface.host_end.is_some() && interface.bridge.is_none();
    facts
        .namespaces
        .iter()
        .flat_map(move |(name, netns)| netns.interfaces.values().filter(is_routed).map(move |interface| (name, interface)))
}

pub(super) fn forwarding(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, key) in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].into_iter().enumerate() {
        let (family, table, tool) = FAMILIES[number];
        let users: BTreeSet<&NetnsName> = routed(facts).filter(|(_, interface)| interface.gateways[number]).map(|(name, _)| name).collect();
        if users.is_empty() {
            continue;
        }
        let whom = names("netns", "the namespaces", users.iter().map(|name| name.as_str()));
        if facts.parameters.get(key).is_some_and(|value| value == "0") {
            findings.push(Finding::fault(
                format!("{whom} has the host for a router by {family}, and {key} is 0"),
                "the host forwards no packets: from inside only the host itself is reached",
                format!("`sysctl -w {key}=1`, and the same in a file in /etc/sysctl.d"),
            ));
        }
        for chain in facts.chains.iter().filter(|chain| chain.family == table || chain.family == "inet") {
            let is_let_through = |interface: &Interface| {
                let by_address =
                    |net: &IpNet| chain.rules.contains(&net.trunc().to_string()) || chain.rules.contains(&net.addr().to_string());
                interface.addresses.iter().any(by_address) || interface.host_end.iter().any(|end| is_named(&chain.rules, end))
            };
            let dropped =
                routed(facts).filter(|(_, i)| i.gateways[number] && !is_let_through(i)).filter_map(|(_, i)| i.host_end.as_deref());
            let dropped: Vec<&str> = dropped.collect();
            let Some(end) = dropped.first() else { continue };
            findings.push(Finding::risk(
                format!(
                    "{} drops {family} packets that no rule accepts, and no rule of it names {}, or an address behind it",
                    chain.name,
                    names("host end", "host ends", dropped.iter().copied())
                ),
                "the host is the router of these namespaces: what they send to others, and the answers, pass this chain",
                if is_iptables(&chain.name) {
                    format!(
                        "accept both ways, for instance `{tool} -I FORWARD -i {end} -j ACCEPT` and `{tool} -I FORWARD -o {end} -j ACCEPT` \
                         (with Docker: in DOCKER-USER)"
                    )
                } else {
                    format!("accept both ways in that chain, for instance `iifname \"{end}\" accept` and `oifname \"{end}\" accept`")
                },
            ));
        }
    }
    findings
}

/// Tells whether rules name a link, or a pattern (`mail-+`, `"mail-*"`) that it matches.
fn is_named(rules: &str, link: &str) -> bool {
    let words = rules.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '{' | '}'));
    words.map(|word| (word.trim_end_matches(['*', '+']), word)).any(|(stem, word)| word == link || (stem != word && link.starts_with(stem)))
}

/// The IPv4 networks that an interface has addresses in, each once.
fn networks(interface: &Interface) -> Vec<Ipv4Net> {
    let networks: BTreeSet<Ipv4Net> =
        interface.addresses.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None }).collect();
    networks.into_iter().collect()
}

/// Namespaces with two ways out that drop what does not come in by the way of the answer.
pub(super) fn reverse_path(facts: &Facts) -> Vec<Finding> {
    let strict = |netns: &Namespace, link: &str| {
        // the kernel takes the larger of the two (`IN_DEV_RPFILTER`); 1 is strict, 2 is loose
        let value = |of: &str| {
            netns
                .parameters
                .get(&format!("net.ipv4.conf.{}.rp_filter", of.replace('.', "/")))
                .and_then(|v| v.parse::<u8>().ok())
                .unwrap_or(0)
        };
        value("all").max(value(link)) == 1
    };
    let mut findings = Vec::new();
    for (name, netns) in facts.namespaces.iter().filter(|(_, netns)| netns.there) {
        let ways: BTreeMap<&String, (&Interface, Vec<Ipv4Net>)> =
            netns.interfaces.iter().map(|(link, i)| (link, (i, networks(i)))).filter(|(_, (_, networks))| !networks.is_empty()).collect();
        let strict: Vec<&str> = ways.keys().map(|link| link.as_str()).filter(|link| strict(netns, link)).collect();
        let gateways = ways.values().filter(|(i, _)| i.gateways[0]).count();
        let all: Vec<Ipv4Net> = ways.values().flat_map(|(_, networks)| networks).copied().collect();
        let overlaps =
            |net: &Ipv4Net| all.iter().filter(|other| other.contains(&net.network()) || net.contains(&other.network())).count() > 1;
        let several = ways.len() > 1 && (gateways > 1 || all.iter().any(overlaps));
        if strict.is_empty() || !(netns.marks || several) {
            continue;
        }
        findings.push(
            Finding::risk(
                format!(
                    "netns '{name}' has {}, and filters strictly by reverse path on {}",
                    if several { "two ways out by IPv4" } else { "rules by mark or incoming link" },
                    names("link", "links", strict)
                ),
                "a packet that comes in by another link than its answer would go out by is dropped without a word",
                format!("`sysctl = {{ \"net.ipv4.conf.all.rp_filter\" = \"2\" }}` in [namespace.{name}], then `netns-networkd sync`"),
            )
            .of(name),
        );
    }
    findings
}

/// Tables of the kernel that are nearly full: from 9 of 10 on.
pub(super) fn full_tables(facts: &Facts) -> Vec<Finding> {
    let full = facts.tables.iter().filter(|table| table.limit > 0 && table.used * 10 >= table.limit * 9);
    let finding = |Fill { netns, parameter, used, limit }: &Fill| {
        let (what, why) = if parameter.contains("conntrack") {
            ("connections that are tracked", "when the table is full, the kernel drops new connections")
        } else {
            (
                "neighbours",
                "all namespaces share the table; when it is full, addresses that answered a moment ago are \"No buffer space available\" or unreachable",
            )
        };
        let of = netns.as_ref().map(|netns| format!(" of netns '{netns}'")).unwrap_or_default();
        let finding = Finding::fault(
            format!("the kernel's table of {what}{of} is nearly full: {used} of {limit} ({parameter})"),
            why,
            format!("`sysctl -w {parameter}={}` on the host, and the same in a file in /etc/sysctl.d", limit * 4),
        );
        match netns {
            Some(netns) => finding.of(netns),
            None => finding,
        }
    };
    full.map(finding).collect()
}
