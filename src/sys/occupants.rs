//! Who is in a namespace: its processes, and the services that these are, as the kernel shows them under `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

use super::{
    fault,
    netns::{self, Identity, identity},
    processes::{command_of, unit_of},
};
use crate::model::NetnsName;

/// Who is in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupants {
    /// Services that systemd runs, all of whose processes are inside, each with one of these. That leaves out what runs a command
    /// inside (cron, a monitoring agent), and what a service that has stopped has left.
    pub services: BTreeMap<String, u32>,
    /// Any other process: somebody's shell.
    pub others: BTreeMap<u32, Occupant>,
    /// Processes that are not inside and have the namespace open; looked for only where nobody is inside.
    pub holders: BTreeMap<u32, String>,
}

/// A process that is no service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    pub command: String,
    /// The unit that it is in, or that left it behind: a session, a service that has stopped.
    pub unit: Option<String>,
}

impl Occupants {
    /// Tells whether nobody is inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.others.is_empty() && self.holders.is_empty()
    }

    /// Names all that are inside: `: nginx.service (PID 7), bash (PID 8, of session-1.scope)`; empty if there are none.
    #[must_use]
    pub fn list(&self) -> String {
        let services = self.services.iter().map(|(unit, pid)| format!("{unit} (PID {pid})"));
        let others = self.others.iter().map(|(pid, Occupant { command, unit })| {
            let of = unit.as_ref().map_or_else(String::new, |unit| format!(", of {unit}"));
            format!("{command} (PID {pid}{of})")
        });
        let holders = self.holders.iter().map(|(pid, command)| format!("{command} (PID {pid})"));
        let all: Vec<String> = services.chain(others).chain(holders).collect();
        if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
    }
}

/// Lists who is in namespaces. Processes that cannot be looked at are left out: root sees all, others their own.
pub fn occupants(names: &[NetnsName]) -> Result<BTreeMap<NetnsName, Occupants>> {
    occupants_of(&names.iter().filter_map(|name| Some((identity(&netns::path(name))?, name))).collect())
}

/// Lists who is in namespaces that have no name any more.
pub fn occupants_of(wanted: &BTreeMap<Identity, &NetnsName>) -> Result<BTreeMap<NetnsName, Occupants>> {
    let unit_of = |pid: u32| unit_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?);
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    // of a process no more is known to fail than that it has ended
    for entry in fault::look(format_args!("read_dir /proc"), || fs::read_dir("/proc")).context("failed to list /proc")? {
        let Some(pid) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) else { continue };
        // or it has ended
        if let Some(netns) = identity(Path::new(&format!("/proc/{pid}/ns/net"))) {
            wanted.get(&netns).map_or_else(|| outside.push(pid), |name| inside.push((pid, *name)));
        }
    }
    let mut all: BTreeMap<NetnsName, Occupants> = BTreeMap::new();
    if inside.is_empty() {
        return Ok(all);
    }
    let elsewhere: BTreeSet<String> = outside.into_iter().filter_map(unit_of).collect();
    for (pid, name) in inside {
        let occupants = all.entry(name.clone()).or_default();
        match unit_of(pid).filter(|unit| unit.ends_with(".service") && is_active(unit)) {
            Some(unit) if is_own(&unit) => {}
            Some(unit) if !elsewhere.contains(&unit) => {
                occupants.services.entry(unit).or_insert(pid);
            }
            _ => {
                occupants.others.insert(pid, Occupant { command: command_of(pid), unit: unit_of(pid) });
            }
        }
    }
    Ok(all)
}

/// Lists the processes that have a namespace open as a file.
#[must_use]
pub fn holders(netns: Identity) -> BTreeMap<u32, String> {
    let mut holders = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // or it has ended
        let files = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if files.into_iter().any(|file| identity(&file.path()) == Some(netns)) {
            holders.insert(pid, command_of(pid));
        }
    }
    holders
}

/// Tells whether a unit is one of this tool's own, which go with their namespace.
#[must_use]
pub fn is_own(unit: &str) -> bool {
    ["netns@", "netns-hold@", "netns-dhcp@", "netns-online@"].iter().any(|own| unit.starts_with(own))
}

/// Tells whether systemd has a unit up: as long as it does, this link is there for the journal. Without a bus, as `down` needs it.
fn is_active(unit: &str) -> bool {
    fs::symlink_metadata(format!("/run/systemd/units/invocation:{unit}")).is_ok()
}
