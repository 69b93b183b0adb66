//! Namespaces from within, and the processes in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};

use super::Look;
use crate::{
    derive::{self, End},
    desired,
    doctor::{Entry, Fill, Left},
    model::{Mac, Netns, NetnsName, UnitName},
    report::{Binding, Report},
    sys::{
        fs::{self, Root},
        kernel,
        netlink::{self, KernelLink, Socket},
        netns::{DIRECTORY, Found, find, find_at, identity, inside},
        processes::{self, Process},
        sysctl,
    },
};

impl Look {
    /// What only a look from within shows.
    pub(super) fn inside(&mut self) -> Result<()> {
        if !fs::is_root() {
            return Ok(());
        }
        for (name, netns) in self.facts.namespaces.iter_mut().filter(|(_, netns)| netns.there) {
            let Ok(Found::Netns(fd)) = find(name) else { continue };
            let links = netns.interfaces.keys().map(|link| link.replace('.', "/")).chain(["all".to_owned()]);
            let keys: Vec<String> = links.map(|link| format!("net.ipv4.conf.{link}.rp_filter")).collect();
            let (parameters, tracked) = inside(&fd, || {
                let mut found = BTreeMap::new();
                for key in keys {
                    found.extend(sysctl::read(&key)?.map(|value| (key, value)));
                }
                Ok((found, tracked()?))
            })
            .with_context(|| format!("failed to look into netns '{name}'"))?;
            netns.parameters = parameters;
            self.facts.tables.extend(tracked.map(|table| Fill { netns: Some(name.clone()), ..table }));
        }
        Ok(())
    }

    /// Who is in which namespace, and who is in one that has no name any more.
    pub(super) fn processes(&mut self, report: Option<&Report>) -> Result<()> {
        self.facts.run_netns.shared = kernel::is_shared_mount(DIRECTORY);
        let mut by_netns = if fs::is_root() { processes::by_netns(processes::elsewhere()?) } else { BTreeMap::new() };
        for entry in fs::list(Path::new(DIRECTORY))? {
            let Some(name) = entry.path.file_name().and_then(|name| name.to_str()) else { continue };
            let fd = if let Found::Netns(fd) = find_at(&entry.path)? { Some(fd) } else { None };
            let there = identity(&entry.path).and_then(|identity| by_netns.remove(&identity)).unwrap_or_default();
            let known = NetnsName::parse(name).ok().filter(|name| self.facts.namespaces.contains_key(name));
            let is_empty = match &fd {
                Some(fd) if known.is_none() && fs::is_root() => Some(there.is_empty() && is_bare(fd)?),
                _ => None,
            };
            self.facts.run_netns.entries.insert(name.to_owned(), Entry { is_netns: fd.is_some(), is_empty });
            if let Some(netns) = known.as_ref().and_then(|name| Some((report?, self.facts.namespaces.get_mut(name)?))) {
                netns.1.unbound = unbound(&there, netns.0, known.as_ref());
            }
        }
        self.facts.left = by_netns.into_values().flat_map(|processes| self.left(&processes).unwrap_or_default()).collect();
        Ok(())
    }

    /// The processes of a namespace without a name, if it was one of ours: those begin with parameters that no other has.
    fn left(&self, processes: &[Process]) -> Result<Vec<Left>> {
        let Some(first) = processes.first() else { return Ok(Vec::new()) };
        let fd = processes::open_netns(first.pid)?;
        let (is_ours, macs) = inside(&fd, || {
            // those that nobody else has a reason to set
            let rare = ["arp_notify", "ndisc_notify", "router_solicitation_delay"];
            let mut is_ours = true;
            for (key, value) in desired::SYSCTL.iter().filter(|(key, _)| rare.iter().any(|rare| key.ends_with(rare))) {
                is_ours &= sysctl::is_void(key) || sysctl::read(key)?.as_deref() == Some(*value);
            }
            Ok((is_ours, netlink::links(&mut Socket::open()?)?.into_iter().filter_map(|link| link.mac).collect::<Vec<Mac>>()))
        })?;
        if !is_ours {
            return Ok(Vec::new());
        }
        let of_unit = |unit: &String| self.facts.units.get(unit).and_then(|unit| unit.netns.clone());
        let netns = self.netns_with(&macs).or_else(|| processes.iter().find_map(|process| of_unit(process.unit.as_ref()?)));
        let left = |Process { pid, netns: _, command, unit }: &Process| Left {
            pid: *pid,
            command: command.clone(),
            unit: unit.clone(),
            netns: netns.clone(),
        };
        Ok(processes.iter().map(left).collect())
    }

    /// Gives the namespace whose links have one of these addresses.
    fn netns_with(&self, macs: &[Mac]) -> Option<NetnsName> {
        let machine_id = fs::machine_id(&Root::new("/")).ok()??;
        let is_its = |netns: &NetnsName, record: &Netns| {
            record
                .links
                .iter()
                .any(|(name, link)| macs.contains(&link.mac.unwrap_or_else(|| derive::mac(&machine_id, netns, name, End::Inside))))
        };
        self.records.iter().find(|(netns, record)| is_its(netns, record)).map(|(netns, _)| netns.clone())
    }
}

/// Counts the connections that are tracked in the namespace of the calling thread.
pub(super) fn tracked() -> Result<Option<Fill>> {
    const LIMIT: &str = "net.netfilter.nf_conntrack_max";
    let number = |key: &str| Ok::<_, anyhow::Error>(sysctl::read(key)?.and_then(|value| value.parse::<u64>().ok()));
    let (used, limit) = (number("net.netfilter.nf_conntrack_count")?, number(LIMIT)?);
    Ok(used.zip(limit).map(|(used, limit)| Fill { netns: None, parameter: LIMIT.to_owned(), used, limit }))
}

/// Tells whether nothing is in a namespace but what every one has.
fn is_bare(fd: &std::os::fd::OwnedFd) -> Result<bool> {
    // the kernel's modules for tunnels put one of theirs into each namespace, which is down
    const TUNNELS: [&str; 9] = ["ipip", "gre", "gretap", "erspan", "vti", "vti6", "sit", "ip6tnl", "ip6gre"];
    let is_fallback = |link: &KernelLink| !link.up && link.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind));
    inside(fd, || Ok(netlink::links(&mut Socket::open()?)?.iter().all(|link| link.name == "lo" || is_fallback(link))))
}

/// Services with processes in a namespace that are not bound to it.
fn unbound(processes: &[Process], report: &Report, name: Option<&NetnsName>) -> BTreeSet<String> {
    let bound: BTreeSet<&str> = report
        .namespaces
        .iter()
        .filter(|netns| Some(&netns.name) == name)
        .flat_map(|netns| &netns.units)
        .filter(|unit| unit.bound != Binding::Nothing)
        .map(|unit| unit.name.as_str())
        .collect();
    let is_bound = |unit: &str| {
        let template = UnitName::parse(unit).ok().and_then(|unit| unit.template());
        bound.contains(unit) || template.is_some_and(|template| bound.contains(template.as_str()))
    };
    let units = processes.iter().filter_map(|process| process.unit.as_deref());
    // `exec` and shells are in scopes; units of ours come and go with the namespace
    units.filter(|unit| unit.ends_with(".service") && !unit.starts_with("netns") && !is_bound(unit)).map(str::to_owned).collect()
}
