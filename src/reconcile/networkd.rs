//! What networkd knows of a link on whose account something failed: what `up` says when it has failed, and never before.
//!
//! No bus, and nothing that can hang: networkd's own files, its processes, and the journal with a deadline.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    desired::NETWORKD,
    doctor::{Facts, Finding, Link, NetworkdFile, Role, Unit, settings, view_of_networkd},
    model::LinkName,
    sys::{
        fs, journal,
        netlink::{self, KernelLink, Socket},
        networkd::{self, File},
    },
};

/// How long the journal may take; what failed has waited long enough.
const JOURNAL: Duration = Duration::from_secs(2);
const GROUP: &str = "/system.slice/systemd-networkd.service";

/// Gives networkd's view of a link of the host, and what to do, as notes and hints of an error.
#[must_use]
pub fn view(name: &LinkName, is_bridge: bool) -> Vec<String> {
    let link = Socket::open().and_then(|mut socket| netlink::link_by_name(&mut socket, name.as_str())).ok().flatten();
    let files = networkd::files().unwrap_or_default();
    let ours = files.iter().filter(|file| is_about(file, name));
    let netdev = files.iter().find(|file| is_netdev_of(file, name));
    let wanted_file =
        ours.clone().find(|file| file.path.extension().is_some_and(|suffix| suffix == "network")).map(|file| file.path.clone());
    let state =
        link.as_ref().and_then(|link| networkd::link_state(link.index)).filter(|state| state.state != "unmanaged" || wanted_file.is_some());
    let is_networkds = netdev.is_some() || wanted_file.is_some() || state.is_some();
    let findings = if is_networkds {
        let active_state = if fs::control_group_processes(GROUP).is_empty() { "inactive" } else { "active" }.to_owned();
        let role = if is_bridge { Role::Bridge } else { Role::HostEnd };
        view_of_networkd(&Facts {
            units: BTreeMap::from([("systemd-networkd.service".to_owned(), Unit { active_state, ..Unit::default() })]),
            links: BTreeMap::from([(name.to_string(), facts_of(link.as_ref(), role, state.as_ref(), wanted_file.clone()))]),
            files: files.iter().map(|file| look_at(file, name)).collect(),
            ..Facts::default()
        })
    } else {
        Vec::new()
    };

    let (mut notes, mut hints) = (Vec::new(), Vec::new());
    for Finding { found, remedy, .. } in &findings {
        notes.push(found.clone());
        hints.push(remedy.clone());
    }
    match (&link, &netdev, &state) {
        _ if !findings.is_empty() => {}
        (None, Some(file), _) => notes.push(format!("networkd is to make it, by {}", file.path.display())),
        (None, None, _) if is_bridge => {
            notes.push("no .netdev file of networkd's makes it".to_owned());
            hints.push(format!("add [bridge.{name}] to the configuration and run `netns-networkd sync`, or start who makes it"));
        }
        (None, None, _) => hints.push("`ip -br link` shows what links are called".to_owned()),
        (Some(_), _, Some(state)) => {
            let with = state.file.as_ref().map_or_else(|| "no .network file".to_owned(), |file| file.display().to_string());
            notes.push(format!("networkd has '{name}' as '{}', with {with}", state.state));
        }
        (Some(link), _, None) if !link.up => {
            notes.push("networkd leaves it alone".to_owned());
            hints.push(format!("`ip link set dev {name} up`, and have who configures it do that at boot"));
        }
        (Some(_), _, None) => {}
    }
    let file = netdev.map(|file| &file.path).or(wanted_file.as_ref()).map(|path| path.display().to_string()).unwrap_or_default();
    let said = journal::of_networkd(name.as_str(), &file, JOURNAL).unwrap_or_default();
    notes.extend(said.into_iter().map(|line| format!("networkd said: {line}")));
    if hints.is_empty() {
        hints.push(format!("`networkctl status {name}` shows more of what networkd makes of it"));
    }
    let lines = |word: &str, lines: Vec<String>| lines.into_iter().map(|line| format!("{word}: {line}")).collect::<Vec<_>>();
    [lines("note", notes), lines("hint", hints)].concat()
}

/// Tells whether a file is one of ours for a link, or a drop-in of it.
fn is_about(file: &File, name: &LinkName) -> bool {
    let is_its = |part: &str| {
        let stem = part.strip_suffix(".d").unwrap_or(part).rsplit_once('.').map_or("", |(stem, _)| stem);
        stem.strip_prefix("10-netns-networkd-").and_then(|rest| rest.split_once('-')).is_some_and(|(_, link)| link == name.as_str())
    };
    file.path.strip_prefix(NETWORKD).is_ok_and(|path| path.iter().filter_map(|part| part.to_str()).any(is_its))
}

fn is_netdev_of(file: &File, name: &LinkName) -> bool {
    let is_name = |text: &str| settings(text).any(|s| s.section == "NetDev" && s.key == "Name" && s.value == name.as_str());
    !file.masked && file.path.extension().is_some_and(|suffix| suffix == "netdev") && (is_name(&file.text) || is_about(file, name))
}

fn look_at(file: &File, name: &LinkName) -> NetworkdFile {
    let File { path, masked, unreadable, text } = file.clone();
    let ours = is_about(file, name);
    // of the others it does not matter here
    NetworkdFile { path, ours, masked, unreadable: unreadable.filter(|_| ours), text }
}

fn facts_of(link: Option<&KernelLink>, role: Role, state: Option<&networkd::LinkState>, wanted_file: Option<PathBuf>) -> Link {
    Link {
        there: link.is_some(),
        role,
        wanted_file,
        file: state.and_then(|state| state.file.clone()),
        state: state.map(|state| state.state.clone()),
        ..Link::default()
    }
}
