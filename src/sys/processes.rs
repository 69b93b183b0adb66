//! Processes and the network namespaces that they are in.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use anyhow::{Context, Result};

use super::netns::{Identity, identity};

/// A process outside of the host's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub netns: Identity,
    /// Its name, as ps(1) shows it.
    pub command: String,
    /// The unit that it belongs to, by its control group.
    pub unit: Option<String>,
}

/// Lists the processes that are in another network namespace than this one; those of others are left out without root.
pub fn elsewhere() -> Result<Vec<Process>> {
    let host = identity(Path::new("/proc/self/ns/net"));
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("failed to list processes")? {
        let name = entry.context("failed to list processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // it may go while one looks
        let Some(netns) = identity(Path::new(&format!("/proc/{pid}/ns/net"))).filter(|netns| Some(*netns) != host) else { continue };
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        all.push(Process { pid, netns, command: command_of(pid), unit: unit_of(&groups) });
    }
    Ok(all)
}

/// Gives the name of a process, on one line: a process calls itself whatever it likes.
pub(super) fn command_of(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(name.trim_ascii_end()).replace(char::is_control, "?")
}

/// Gives the unit that this process is of.
#[must_use]
pub fn own_unit() -> Option<String> {
    unit_of(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// Gives the unit of a control group: `0::/system.slice/postfix.service`, also where its processes are in groups below. Takes the text of
/// /proc/PID/cgroup.
pub(super) fn unit_of(groups: &str) -> Option<String> {
    // of the one hierarchy, or of systemd's own among several (cgroups(7)); the one may be without units then
    let of = |is_its: fn(&str) -> bool| groups.lines().filter(move |line| is_its(line));
    let is_unit = |part: &&str| part.rsplit_once('.').is_some_and(|(_, kind)| ["service", "scope", "socket"].contains(&kind));
    // a user's own manager runs in a service of the system, with units of its own below
    let unit = |line: &str| line.split('/').find(is_unit).map(str::to_owned);
    let unit = of(|line| line.starts_with("0::")).chain(of(|line| line.contains(":name=systemd:"))).find_map(unit)?;
    // systemd puts it before names that would be those of the kernel's own files
    Some(unit.strip_prefix('_').unwrap_or(&unit).to_owned())
}

/// Opens the network namespace of a process.
pub fn open_netns(pid: u32) -> Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/ns/net")).with_context(|| format!("failed to open the netns of process {pid}"))?.into())
}

/// Sorts processes by their namespaces.
#[must_use]
pub fn by_netns(processes: Vec<Process>) -> BTreeMap<Identity, Vec<Process>> {
    processes.into_iter().fold(BTreeMap::new(), |mut all: BTreeMap<_, Vec<_>>, process| {
        all.entry(process.netns).or_default().push(process);
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_control_groups() {
        for (groups, unit) in [
            ("0::/system.slice/postfix.service\n", Some("postfix.service")),
            ("1:name=systemd:/x.service\n0::/system.slice/system-a.slice/a@b.service/sub\n", Some("a@b.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n", Some("session-3.scope")),
            ("2:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n", Some("a.service")),
            ("0::/system.slice/dbus.socket\n", Some("dbus.socket")),
            ("0::/system.slice/_cpu.service\n", Some("cpu.service")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(groups).as_deref(), unit, "{groups}");
        }
    }
}
