//! Units: those that make namespaces, and those that run in them.

use std::net::IpAddr;

use super::{Facts, Finding, Unit, names, settings::settings};
use crate::model::NetnsName;

/// How a mask goes; one that was made at run time takes its own way.
pub(super) fn unmask(file_state: &str) -> &'static str {
    if file_state == "masked-runtime" { "systemctl unmask --runtime" } else { "systemctl unmask" }
}

/// The namespace that a unit of ours makes, or does something for.
fn netns_of(unit: &str) -> Option<NetnsName> {
    let (kind, instance) = unit.strip_suffix(".service")?.split_once('@')?;
    if kind.starts_with("netns") { NetnsName::parse(instance).ok() } else { None }
}

pub(super) fn failed(facts: &Facts) -> Vec<Finding> {
    let failed = facts.units.iter().filter(|(_, unit)| unit.active_state == "failed");
    let finding = |(name, unit): (&String, &Unit)| {
        // those of the host's own have checks of their own
        let ours = netns_of(name);
        let netns = unit.netns.clone().or_else(|| ours.clone())?;
        let words = if unit.words.is_empty() { String::new() } else { format!(": {}", unit.words.join("\n")) };
        let why = match name.split_once('@').map(|(kind, _)| kind) {
            Some("netns") => "the services of the namespace do not start: systemd gives them up with the result 'dependency'",
            Some("netns-online") => "services that wait for the namespace's addresses by DHCP do not start",
            Some("netns-dhcp") => "the namespace gets no addresses by DHCP, and loses those that it has when they end",
            _ => "the service does not run",
        };
        let remedy = if ours.is_some() {
            format!("mend what it says, then start a service of the namespace; `journalctl -b -u {name}` has all of it")
        } else {
            format!("`journalctl -b -u {name}` shows why; then `systemctl start {name}`")
        };
        Some(Finding::fault(format!("{name} failed{words}"), why, remedy).of(&netns))
    };
    failed.filter_map(finding).collect()
}

/// `netns@.service` masked, or replaced by a file that comes before the installed one.
pub(super) fn replaced(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (_, unit) in facts.units.iter().filter(|(name, _)| name.starts_with("netns@")) {
        let file = unit.files.first().map(|file| file.path.as_str()).unwrap_or_default();
        let finding = match unit.load_state.as_str() {
            "masked" => Finding::fault(
                "netns@.service is masked",
                "no namespace is made, and no service that runs in one starts",
                format!("`{} netns@.service`", unmask(&unit.file_state)),
            ),
            "not-found" => Finding::fault(
                "netns@.service is not installed",
                "no namespace is made, and no service that runs in one starts",
                "install netns-networkd again, then `systemctl daemon-reload`",
            ),
            "bad-setting" | "error" => Finding::fault(
                format!("systemd cannot use netns@.service ({})", unit.load_state),
                "no namespace is made, and no service that runs in one starts",
                "`systemd-analyze verify netns@x.service` shows which line is wrong",
            ),
            "loaded" if file.ends_with(".service") && (file.starts_with("/etc/") || file.starts_with("/run/")) => Finding::risk(
                format!("{file} is used in place of the installed netns@.service"),
                "it stays as it is when netns-networkd is updated, and what the new version needs is not in it",
                format!("put what is yours into a drop-in (`systemctl edit netns@.service`), `rm {file}`, `systemctl daemon-reload`"),
            ),
            _ => continue,
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// Units that an admin has bound to a namespace, and that do not wait for it.
pub(super) fn missing_after(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, unit) in facts.units.iter().filter(|(_, unit)| unit.by_hand) {
        let bound = unit.binds_to.iter().filter(|other| other.starts_with("netns@") && !unit.after.contains(other));
        for other in bound {
            let netns = other.trim_start_matches("netns@").trim_end_matches(".service");
            let finding = Finding::fault(
                format!("{name} has BindsTo={other} without After={other}"),
                "it starts beside its namespace, not after it: sometimes in time, sometimes to fail with 225/NETWORK",
                format!("`systemctl edit {name}`: `After={other}` in [Unit]; or list it under `services` of [namespace.{netns}]"),
            );
            findings.push(NetnsName::parse(netns).map(|netns| finding.clone().of(&netns)).unwrap_or(finding));
        }
    }
    findings
}

/// Units that are listed, and whose settings somebody else's file takes back.
pub(super) fn overridden(facts: &Facts) -> Vec<Finding> {
    let finding = |(name, unit): (&String, &Unit)| {
        let netns = unit.netns.as_ref().filter(|_| !unit.by_hand && unit.load_state == "loaded")?;
        let (wanted, unit_of_netns) = (format!("/run/netns/{netns}"), format!("netns@{netns}.service"));
        let has_ours = unit.files.iter().any(|file| file.path.ends_with("/50-netns-networkd.conf"));
        if !has_ours || (unit.network_namespace_path == wanted && unit.binds_to.contains(&unit_of_netns)) {
            return None;
        }
        let lines = unit.files.iter().flat_map(|file| settings(&file.text).map(move |setting| (file, setting)));
        let last = lines.filter(|(_, setting)| setting.key == "NetworkNamespacePath").last();
        let culprit = last.filter(|(file, _)| !file.path.ends_with("/50-netns-networkd.conf"));
        let why = format!(
            "it starts {}, whatever the configuration says",
            if unit.network_namespace_path.is_empty() { "on the host" } else { "elsewhere" }
        );
        Some(
            match culprit {
                Some((file, setting)) => Finding::fault(
                    format!(
                        "{}:{} says NetworkNamespacePath={} for {name}, after the drop-in that puts it into netns '{netns}'",
                        file.path, setting.line, setting.value
                    ),
                    why,
                    format!("take the line out, `systemctl daemon-reload`, `systemctl restart {name}`; or take {name} out of `services`"),
                ),
                None => Finding::fault(
                    format!("systemd has {name} without the settings of its drop-in"),
                    why,
                    format!("`systemctl daemon-reload`, then `netns-networkd sync` and `systemctl restart {name}`"),
                ),
            }
            .of(netns),
        )
    };
    facts.units.iter().filter_map(finding).collect()
}

/// Services that are inside by some other way, and do not keep their namespace up.
pub(super) fn unbound(facts: &Facts) -> Vec<Finding> {
    let pairs = facts.namespaces.iter().flat_map(|(name, netns)| netns.unbound.iter().map(move |unit| (name, unit)));
    let finding = |(netns, unit): (&NetnsName, &String)| {
        Finding::risk(
            format!("{unit} runs in netns '{netns}', and is not bound to it"),
            "at boot it may start before there is a namespace; and when the last unit stops that is bound, the namespace cannot go",
            format!(
                "list it under `services` of [namespace.{netns}], or `systemctl edit {unit}`: `BindsTo=netns@{netns}.service` and \
                 `After=netns@{netns}.service` in [Unit]"
            ),
        )
        .of(netns)
    };
    pairs.map(finding).collect()
}

/// Namespaces whose services ask a resolver that listens on the host's loopback link.
pub(super) fn resolver(facts: &Facts) -> Vec<Finding> {
    let servers = facts
        .resolv_conf
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok());
    let servers: Vec<IpAddr> = servers.collect();
    let Some(server) = servers.first().filter(|_| servers.iter().all(IpAddr::is_loopback)) else { return Vec::new() };
    let asked = facts
        .namespaces
        .iter()
        .filter(|(_, netns)| netns.configured && netns.services && !netns.own_resolv_conf && !netns.interfaces.is_empty());
    let asked: Vec<&NetnsName> = asked.map(|(name, _)| name).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let finding = Finding::risk(
        format!(
            "services in {} ask {server} for names, as the host's /etc/resolv.conf says",
            names("netns", "the namespaces", asked.iter().map(|name| name.as_str()))
        ),
        "each namespace has a loopback link of its own, and on that nobody listens: names are not found",
        format!(
            "set `dns` of {} to a server that can be reached from inside, then `netns-networkd sync` and restart the services",
            match asked[..] {
                [netns] => format!("[namespace.{netns}]"),
                _ => "each".to_owned(),
            }
        ),
    );
    vec![if let [netns] = asked[..] { finding.of(netns) } else { finding }]
}
