//! What the kernel lacks of what the configuration asks for; and what `status` has to say.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Finding, Role, names};
use crate::model::NetnsName;

pub(super) fn features(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wanted: BTreeMap<&str, BTreeSet<&NetnsName>> = BTreeMap::new();
    for (name, netns) in facts.namespaces.iter().filter(|(_, netns)| netns.configured) {
        for interface in netns.interfaces.values() {
            wanted.entry(&interface.kind).or_default().insert(name);
        }
    }
    for (kind, users) in wanted.into_iter().filter(|(kind, _)| facts.kinds.get(*kind) == Some(&false)) {
        let whom = names("netns", "namespaces", users.iter().map(|name| name.as_str()));
        findings.push(lacks(&format!("links of the kind {kind}"), &format!("{whom} cannot come up"), kind));
    }
    if facts.kinds.get("vlan") == Some(&false) {
        findings.push(lacks("VLAN links", "uplinks that are VLANs do not come to be, and their bridges lead nowhere", "8021q"));
    }
    let unaware = facts.links.iter().filter(|(_, link)| link.role == Role::Bridge && link.vlan_aware == Some(false));
    let unaware: Vec<&str> = unaware.map(|(name, _)| name.as_str()).collect();
    if !unaware.is_empty() {
        let why = format!(
            "`vlan-filtering`, `vlan` and `vlans` have no effect on {}: all ports see all frames",
            names("bridge", "bridges", unaware)
        );
        findings.push(Finding::fault(
            "this kernel's bridges cannot keep VLANs apart (CONFIG_BRIDGE_VLAN_FILTERING)",
            why,
            "run a kernel that can, as all of Debian's do; or use a bridge for each VLAN, with `uplinks = [{ vlan = …, parent = … }]`",
        ));
    }
    if facts.ipv6 == Some(false) {
        findings.push(Finding::fault(
            "this kernel has no IPv6, and the configuration has IPv6 addresses",
            "namespaces with IPv6 addresses do not come up",
            "take `ipv6.disable=1` from the kernel's command line (`cat /proc/cmdline`) and reboot; or take the addresses out",
        ));
    }
    findings
}

fn lacks(what: &str, why: &str, module: &str) -> Finding {
    Finding::fault(
        format!("this kernel does not have {what}"),
        why,
        format!(
            "`modprobe {module}` says whether it can be loaded; Debian's own kernels have it, some cloud and container kernels have not"
        ),
    )
}

pub(super) fn status(facts: &Facts) -> Vec<Finding> {
    let status = &facts.status;
    let mut findings = Vec::new();
    if let Some(failure) = &status.failure {
        findings.push(Finding::fault(
            format!("what should be here cannot be told: {failure}"),
            "`sync` and `status` fail for the same reason, and some of the checks had nothing to look at",
            "mend that first, then run doctor again",
        ));
    }
    if let Some(wrong) = &status.configuration {
        findings.push(Finding::risk(
            format!("the configuration cannot be used: {wrong}"),
            "namespaces still come up as the last sync wrote them down, and no change reaches them",
            "`netns-networkd check` shows every fault with its place",
        ));
    }
    let parts = [
        (status.differences, "difference", "differences"),
        (status.pending, "pending", "pending"),
        (status.warnings, "warning", "warnings"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many })).collect();
    if !parts.is_empty() {
        findings.push(Finding::risk(
            format!("the host is not in everything as the configuration says: {}", parts.join(", ")),
            "something was changed behind the tool's back, or in the configuration since the last sync",
            "`netns-networkd status` shows each with what mends it; `netns-networkd sync --dry-run` what a sync would do",
        ));
    }
    findings
}
