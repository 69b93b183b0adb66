//! Other programs that configure the same links.

use std::collections::BTreeMap;

use super::{Facts, Finding, Link, Role, Stanza, names, settings::glob};

/// Those that are networkd's or this tool's, there or to come.
fn ours(facts: &Facts) -> impl Iterator<Item = (&String, &Link)> {
    facts.links.iter().filter(|(_, link)| matches!(link.role, Role::Bridge | Role::Uplink | Role::HostEnd))
}

fn is_active(facts: &Facts, unit: &str) -> bool {
    facts.units.get(unit).is_some_and(|unit| ["active", "activating", "reloading"].contains(&unit.active_state.as_str()))
}

/// Tells whether one of the patterns is for a link: of names, or `type:veth`.
fn is_covered(patterns: &[String], name: &str, link: &Link) -> bool {
    let kind = link.kind.as_deref().unwrap_or("ethernet");
    patterns.iter().any(|pattern| match pattern.strip_prefix("type:") {
        Some(of) => of == kind,
        None => glob(pattern, name),
    })
}

pub(super) fn network_manager(facts: &Facts) -> Vec<Finding> {
    if !is_active(facts, "NetworkManager.service") {
        return Vec::new();
    }
    let held = ours(facts).filter(|(name, link)| match facts.managed_by_network_manager.as_ref().and_then(|all| all.get(*name)) {
        Some(is_managed) => *is_managed,
        None => !is_covered(&facts.unmanaged_devices, name, link),
    });
    let held: Vec<&str> = held.map(|(name, _)| name.as_str()).collect();
    if held.is_empty() {
        return Vec::new();
    }
    let says = facts.managed_by_network_manager.as_ref().is_some_and(|all| held.iter().any(|name| all.contains_key(*name)));
    let found = format!(
        "NetworkManager {} {}",
        if says { "manages" } else { "runs, and nothing keeps it from" },
        names("link", "links", held.iter().copied())
    );
    let why =
        "two programs that configure one link undo each other's work: addresses by DHCP on a host end, a port taken out of its bridge";
    let remedy = format!(
        "put into /etc/NetworkManager/conf.d/netns-networkd.conf: `[keyfile]` and `unmanaged-devices=interface-name:{}`; then \
         `systemctl reload NetworkManager`",
        patterns(&held, facts).join(";interface-name:")
    );
    vec![Finding::risk(found, why, remedy)]
}

/// Patterns for links: all host ends of a namespace in one, where their names begin with its.
fn patterns(links: &[&str], facts: &Facts) -> Vec<String> {
    let pattern = |name: &&str| {
        let netns = facts.links.get(*name).and_then(|link| link.netns.as_ref()).map(ToString::to_string);
        netns.filter(|netns| name.starts_with(&format!("{netns}-"))).map_or_else(|| (*name).to_owned(), |netns| format!("{netns}-*"))
    };
    let mut patterns: Vec<String> = links.iter().map(pattern).collect();
    patterns.dedup();
    patterns
}

pub(super) fn ifupdown(facts: &Facts) -> Vec<Finding> {
    let mut by_link: BTreeMap<&str, Vec<&Stanza>> = BTreeMap::new();
    for stanza in facts.stanzas.iter().filter(|stanza| ours(facts).any(|(name, _)| *name == stanza.link)) {
        by_link.entry(&stanza.link).or_default().push(stanza);
    }
    let finding = |(link, stanzas): (&str, Vec<&Stanza>)| {
        let places: Vec<String> = stanzas.iter().map(|stanza| format!("{}:{}", stanza.file, stanza.line)).collect();
        Finding::risk(
            format!("ifupdown configures link '{link}', too ({})", places.join(", ")),
            "at boot, and with each ifup and ifdown, it gives the link addresses of its own or takes it down, past networkd",
            format!(
                "take the stanzas of '{link}' out of {}; what it should have belongs into [bridge.NAME] of the configuration",
                stanzas[0].file
            ),
        )
    };
    by_link.into_iter().map(finding).collect()
}

/// Clients that take every link they see.
pub(super) fn dhcp_clients(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let why = "it gives addresses and routes to host ends and bridges that have no use for them, among them 169.254.0.0/16";
    if is_active(facts, "dhcpcd.service")
        && let Some(denied) = &facts.dhcpcd_links
    {
        let seen: Vec<&str> = ours(facts).filter(|(name, link)| !is_covered(denied, name, link)).map(|(name, _)| name.as_str()).collect();
        if !seen.is_empty() {
            findings.push(Finding::risk(
                format!("dhcpcd runs on the host, and nothing keeps it from {}", names("link", "links", seen.iter().copied())),
                why,
                format!("put `denyinterfaces {}` into /etc/dhcpcd.conf, then `systemctl restart dhcpcd`", patterns(&seen, facts).join(" ")),
            ));
        }
    }
    if is_active(facts, "connman.service") {
        let seen: Vec<&str> = ours(facts).map(|(name, _)| name.as_str()).collect();
        if !seen.is_empty() {
            findings.push(Finding::risk(
                "ConnMan runs on the host".to_owned(),
                why,
                format!(
                    "`systemctl disable --now connman`, or name {} in NetworkInterfaceBlacklist= of /etc/connman/main.conf",
                    seen.join(", ")
                ),
            ));
        }
    }
    findings
}
