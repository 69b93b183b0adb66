//! systemd-networkd: does it run, does it read our files, and does it take them.

use std::{collections::BTreeMap, path::Path};

use super::{
    Facts, Finding, Link, NetworkdFile, Role, names,
    settings::{matches, settings},
    units::unmask,
};

const NETWORKD: &str = "systemd-networkd.service";

pub(super) fn down(facts: &Facts) -> Vec<Finding> {
    let Some(unit) = facts.units.get(NETWORKD).filter(|unit| !is_running(&unit.active_state)) else { return Vec::new() };
    let is_masked = unit.load_state == "masked";
    let state = if is_masked { "masked" } else { unit.active_state.as_str() };
    vec![Finding::fault(
        format!("systemd-networkd does not run: it is {state}"),
        "bridges and ports that are there stay, but none comes: a namespace does not start on a bridge that is missing, and `sync` can \
         change nothing of the host's network",
        if is_masked {
            format!("`{} systemd-networkd`, then `systemctl enable --now systemd-networkd`", unmask(&unit.file_state))
        } else if state == "failed" {
            "`journalctl -b -u systemd-networkd` shows why; then `systemctl start systemd-networkd`".to_owned()
        } else {
            "`systemctl enable --now systemd-networkd`".to_owned()
        },
    )]
}

fn is_running(state: &str) -> bool {
    ["active", "reloading", "activating"].contains(&state)
}

pub(super) fn not_enabled(facts: &Facts) -> Vec<Finding> {
    let is_off = |state: &str| ["disabled", "masked", "masked-runtime"].contains(&state);
    let unit = facts.units.get(NETWORKD).filter(|unit| is_running(&unit.active_state) && is_off(&unit.file_state));
    let finding = |state: &str| {
        Finding::risk(
            format!("systemd-networkd runs, and is {state}"),
            "after the next boot nobody makes the host's bridges and addresses until the first namespace starts it, or at all",
            if state == "disabled" {
                "`systemctl enable systemd-networkd`".to_owned()
            } else {
                format!("`{} systemd-networkd`, then `systemctl enable systemd-networkd`", unmask(state))
            },
        )
    };
    unit.map(|unit| finding(&unit.file_state)).into_iter().collect()
}

/// A file that is not ours and comes before ours: for links that are there by networkd's own word, for others by their names.
pub(super) fn foreign_file(facts: &Facts) -> Vec<Finding> {
    let mut by_file: BTreeMap<&Path, (Vec<&str>, bool)> = BTreeMap::new();
    for (name, link) in &facts.links {
        let Some(wanted) = &link.wanted_file else { continue };
        let taken = if link.there {
            link.file.as_deref().filter(|file| *file != wanted)
        } else if link.role == Role::HostEnd {
            would_take(&facts.files, wanted, name)
        } else {
            None
        };
        if let Some(file) = taken {
            let (links, there) = by_file.entry(file).or_default();
            links.push(name);
            *there |= link.there;
        }
    }
    let finding = |(file, (links, there)): (&Path, (Vec<&str>, bool))| {
        let (name, path) = (file.file_name().unwrap_or_default().to_string_lossy(), file.display());
        let sorts_before = name.as_ref() < "10-netns-networkd-";
        let links = names("link", "links", links);
        let found =
            format!("networkd {} {path} for {links}, not the file that was written for it", if there { "takes" } else { "would take" });
        let why =
            "only the first file that matches counts: what it does not say is not done, and a port without its Bridge= leaves the bridge";
        let remedy = if sorts_before {
            let later = format!("90-{}", name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-'));
            let folder = file.parent().unwrap_or(Path::new("/")).display();
            format!(
                "narrow its [Match], or let it come later: `mv {path} {folder}/{later}`; then `networkctl reload` and `netns-networkd sync`"
            )
        } else {
            "`networkctl reload`, and where that does not help, `networkctl reconfigure` with the link".to_owned()
        };
        if there { Finding::fault(found, why, remedy) } else { Finding::risk(found, why, remedy) }
    };
    by_file.into_iter().map(finding).collect()
}

fn would_take<'a>(files: &'a [NetworkdFile], wanted: &Path, name: &str) -> Option<&'a Path> {
    let before = files.iter().take_while(|file| file.path != wanted);
    let networks = before.filter(|file| file.path.extension().is_some_and(|suffix| suffix == "network"));
    networks.filter(|file| !file.masked && !file.ours).find(|file| matches(&file.text, name)).map(|file| file.path.as_path())
}

/// Links that networkd does not look after although there is a file for them.
pub(super) fn unmanaged(facts: &Facts) -> Vec<Finding> {
    let can_be_read = |link: &Link| facts.files.iter().any(|file| Some(&file.path) == link.wanted_file.as_ref() && is_good(file));
    let mut findings = Vec::new();
    for (name, link) in facts.links.iter().filter(|(_, link)| link.there && can_be_read(link)) {
        let (Some(state), Some(wanted)) = (link.state.as_deref(), &link.wanted_file) else { continue };
        let (found, remedy) = match (state, says_unmanaged(facts, wanted)) {
            ("unmanaged", Some(place)) => (
                format!("networkd leaves link '{name}' alone: {place} says so"),
                "take `Unmanaged=` out there, then `networkctl reload`".to_owned(),
            ),
            ("unmanaged", None) => {
                (format!("networkd leaves link '{name}' alone, although there is {}", wanted.display()), "`networkctl reload`".to_owned())
            }
            ("failed", _) => (
                format!("networkd has failed to set up link '{name}'"),
                format!("`networkctl status {name}` shows why; then `networkctl reconfigure {name}`"),
            ),
            _ => continue,
        };
        findings.push(Finding::fault(found, "nothing of what the file asks for is done", remedy));
    }
    findings
}

/// Gives the place in a file of ours, or in a drop-in of it, that makes networkd leave the link alone.
fn says_unmanaged(facts: &Facts, wanted: &Path) -> Option<String> {
    let folder = format!("{}.d", wanted.display());
    let parts = facts.files.iter().filter(|file| file.path == wanted || file.path.starts_with(&folder));
    let lines = parts.flat_map(|file| settings(&file.text).map(move |setting| (file, setting)));
    let last = lines.filter(|(_, setting)| setting.section == "Link" && setting.key == "Unmanaged").last();
    last.filter(|(_, setting)| ["yes", "true", "1", "on"].contains(&setting.value))
        .map(|(file, setting)| format!("{}:{}", file.path.display(), setting.line))
}

fn is_good(file: &NetworkdFile) -> bool {
    !file.masked && file.unreadable.is_none()
}

/// Ports that are not in their bridge, although networkd has the right file.
pub(super) fn outside(facts: &Facts) -> Vec<Finding> {
    let mut by_bridge: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, link) in facts.links.iter().filter(|(_, link)| link.there && link.wanted_bridge != link.bridge) {
        let Some(bridge) = &link.wanted_bridge else { continue };
        let bridge_is_there = facts.links.get(bridge).is_some_and(|bridge| bridge.there);
        let is_taken = link.file.is_some() && link.file != link.wanted_file;
        if bridge_is_there && !is_taken {
            by_bridge.entry(bridge).or_default().push(name);
        }
    }
    let finding = |(bridge, links): (&str, Vec<&str>)| {
        let first = links[0];
        let now = facts.links.get(first).and_then(|link| link.bridge.as_ref());
        let is_configuring = facts.links.get(first).and_then(|link| link.state.as_deref()) == Some("configuring");
        let now = now.map_or_else(|| "of none".to_owned(), |now| format!("of '{now}'"));
        let stuck = if is_configuring { ", and networkd is still at it" } else { "" };
        let are = if links.len() == 1 { "is not a port" } else { "are not ports" };
        Finding::fault(
            format!("{} {are} of bridge '{bridge}' but {now}{stuck}", names("link", "links", links)),
            "what is behind it is cut off from the bridge",
            format!(
                "`netns-networkd sync` puts host ends back; for others `networkctl reconfigure {first}`, and where that does not help \
                 `systemctl restart systemd-networkd`, which bridges and ports survive"
            ),
        )
    };
    by_bridge.into_iter().map(finding).collect()
}

/// Files that networkd, which is no longer root when it reads them, cannot read.
pub(super) fn unreadable(facts: &Facts) -> Vec<Finding> {
    let finding = |file: &NetworkdFile| {
        let (why, path) = (file.unreadable.as_ref()?, file.path.display());
        let found = format!("networkd, which runs as user systemd-network, cannot read {path}: {why}");
        let matters = "to networkd it is as if the file were not there: it leaves the link alone, and says so only in its log";
        let folder = file.path.parent().unwrap_or(Path::new("/")).display();
        let remedy = if why.starts_with("its folder") {
            format!("`chmod 755 {folder}`, then `networkctl reload`")
        } else {
            // WireGuard's keys are not for everybody
            let has_keys = file.text.contains("Key=");
            let chmod = if has_keys { format!("chgrp systemd-network {path}; chmod 640 {path}") } else { format!("chmod 644 {path}") };
            format!("`{chmod}`, then `networkctl reload`")
        };
        Some(if file.ours { Finding::fault(found, matters, remedy) } else { Finding::risk(found, matters, remedy) })
    };
    facts.files.iter().filter_map(finding).collect()
}

/// Files of ours that somebody has put out of action.
pub(super) fn masked(facts: &Facts) -> Vec<Finding> {
    let masked = facts.files.iter().filter(|file| file.ours && file.masked);
    let finding = |file: &NetworkdFile| {
        let path = file.path.display();
        Finding::fault(
            format!("{path} is masked: it is empty, or a link to /dev/null"),
            "networkd does nothing of what the configuration asks of this link",
            format!("`rm {path}`, then `netns-networkd sync`"),
        )
    };
    masked.map(finding).collect()
}

/// The unit that `network-online.target` waits for.
pub(super) fn wait_online(facts: &Facts) -> Vec<Finding> {
    const UNIT: &str = "systemd-networkd-wait-online.service";
    let Some(unit) = facts.units.get(UNIT) else { return Vec::new() };
    let managed = |link: &&Link| link.there && link.required.is_some() && link.state.as_deref() != Some("unmanaged");
    let is_enabled = unit.file_state.starts_with("enabled");
    let late: Vec<&str> = facts
        .links
        .iter()
        .filter(|(_, link)| managed(link) && link.required == Some(true) && link.state.as_deref() == Some("configuring"))
        .map(|(name, _)| name.as_str())
        .collect();
    let why = "network-online.target comes two minutes late at each boot, and with it every service that waits for it";
    if unit.active_state == "failed" {
        let (whom, first) = if late.is_empty() {
            (String::new(), "LINK")
        } else {
            (format!("; it waits for {}", names("link", "links", late.iter().copied())), late[0])
        };
        return vec![Finding::risk(
            format!("systemd-networkd-wait-online failed{whom}"),
            why,
            format!(
                "`networkctl` shows which links are not online; those that need not be get RequiredForOnline=no in [Link] of their \
                 .network file (`networkctl status {first}` names it)"
            ),
        )];
    }
    let managed: Vec<&Link> = facts.links.values().filter(managed).collect();
    // it takes no link for not yet (systemd#29388)
    if is_enabled && !managed.is_empty() && managed.iter().all(|link| link.required == Some(false)) {
        return vec![Finding::risk(
            "systemd-networkd-wait-online is enabled, and no link is required for being online".to_owned(),
            why,
            "take RequiredForOnline=no out of the .network file of the link that leads out, or `systemctl disable systemd-networkd-wait-online`",
        )];
    }
    Vec::new()
}
