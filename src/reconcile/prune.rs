//! `prune`: what is ours and belongs to no configuration and no unit that runs.
//!
//! Files of the manifest and bridges are what `sync` would remove, less what is in use. The rest is what runs left that were
//! killed, or failed: it is in no manifest, and only its place or its marks tell that it is ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};

use super::{
    dhcp, host, netns, rollback,
    sync::{Event, LOCK, Options, Run, Situation},
};
use crate::{
    desired::{DHCP, NETNS_ETC, NETWORKD, RECORDS, RESOLV_CONF, SYSTEMD, dhcp_path, etc_path, is_drop_in_of},
    diff::{Change, diff},
    error::Failures,
    model::{LinkName, NetnsName},
    plan::{Plan, Request, Step, plan},
    sys::{
        fs::{self, Lock, Root},
        manifest::Manifest,
        netns::{Found, find, path},
        occupants::{Occupants, occupants},
    },
};

/// Where `up` and `down` keep what they know of each namespace.
const APPLIED: &str = "/run/netns-networkd/netns";
/// Where the DHCP clients do.
const CLIENTS: &str = "/run/netns-networkd/dhcp";

/// Removes what is nobody's; tells of each thing, and of what stays because it is in use. Gives whether there was anything.
pub fn prune(dry_run: bool, tell: &mut dyn FnMut(Event)) -> Result<bool> {
    let root = Root::new("/");
    let mut config = host::read_config(&root)?;
    if !fs::is_root() {
        return Err(anyhow!("prune has to see everybody's processes, which only root can do"));
    }
    let lock = if dry_run { None } else { Some(Lock::wait(Path::new(LOCK))?) };
    if lock.as_ref().is_some_and(|lock| lock.waited) {
        config = host::read_config(&root)?;
    }
    if rollback::is_waiting() {
        rollback::refuse_while_waiting()?;
    }
    let manifest = Manifest::read(&root)?;
    if manifest.unfinished {
        return Err(anyhow!("the last sync was cut off: systemd may not know yet what is in use"))
            .context("hint: run `netns-networkd sync` first");
    }
    let options = Options { root, names: Vec::new(), restart: false, force: false, dry_run, confirm: None };
    let mut prune =
        Prune { run: Run::new(&options, &config, manifest, tell), ends: BTreeSet::new(), found: false, failures: Failures::default() };
    prune.go()?;
    let Prune { found, failures, .. } = prune;
    failures.result()?;
    Ok(found)
}

struct Prune<'a> {
    run: Run<'a>,
    /// Host ends that go.
    ends: BTreeSet<LinkName>,
    found: bool,
    failures: Failures,
}

/// The namespaces of which there is anything.
struct Known {
    all: BTreeSet<NetnsName>,
    /// Their unit runs, or processes are in them.
    in_use: BTreeSet<NetnsName>,
    /// `up` has made them, and they are not in use.
    leaked: BTreeSet<NetnsName>,
}

impl Prune<'_> {
    fn go(&mut self) -> Result<()> {
        let known = self.known()?;
        for name in &known.leaked {
            let applied = netns::read_applied(name).ok().flatten().unwrap_or_default();
            self.ends.extend(applied.links.values().filter_map(|link| link.kind.host_end()).map(|end| end.name.clone()));
            self.remove(format!("remove network namespace '{name}'"), || netns::down(name).map(drop));
        }
        for name in known.all.difference(&known.in_use).filter(|name| !known.leaked.contains(name)) {
            self.host_ends_of(name)?;
            self.volatile_files_of(name)?;
        }
        self.run.gone = Some(known.all.difference(&known.in_use).cloned().collect());
        let situation = self.run.look()?;
        let plan = self.plan(&situation, &known)?;
        plan.kept.iter().for_each(|kept| self.warn(kept.to_string()));
        self.found |= !plan.steps.is_empty();
        if self.run.options.dry_run {
            for step in &plan.steps {
                let line = if let Step::RemoveFile { path } = step { format!("remove file {}", path.display()) } else { step.to_string() };
                (self.run.tell)(Event::Done(format!("would {line}")));
            }
        } else if !plan.steps.is_empty() {
            self.run.apply(&plan, &situation)?;
        }
        let files: BTreeSet<PathBuf> = situation.desired.files.into_keys().chain(self.run.manifest.files.keys().cloned()).collect();
        for path in strays(&known, &files)? {
            self.remove_path(&path);
        }
        Ok(())
    }

    fn warn(&mut self, text: String) {
        (self.run.tell)(Event::Warning(text));
    }

    /// Removes one thing, or says that it would; goes on past errors.
    fn remove(&mut self, what: String, remove: impl FnOnce() -> Result<()>) {
        self.found = true;
        if self.run.options.dry_run {
            return (self.run.tell)(Event::Done(format!("would {what}")));
        }
        match remove() {
            Ok(()) => (self.run.tell)(Event::Done(what)),
            Err(error) => self.failures.add(Err(error)),
        }
    }

    fn remove_path(&mut self, path: &Path) {
        if fs::is_folder(path) {
            self.remove(format!("remove folder {}", path.display()), || fs::remove_directory(path));
        } else {
            self.remove(format!("remove file {}", path.display()), || fs::remove(path));
        }
    }

    fn known(&mut self) -> Result<Known> {
        let made = host::running_netns()?;
        let mut all: BTreeSet<NetnsName> = self.run.config.namespaces.keys().chain(&made).cloned().chain(host::held_netns()?).collect();
        for (folder, suffixes) in [(RECORDS, [".json", ".nft"]), (APPLIED, [".lock", ".nft"]), (DHCP, [".conf", ""]), (CLIENTS, [""; 2])] {
            all.extend(fs::list(Path::new(folder))?.iter().filter_map(|entry| named(&entry.path, &suffixes)));
        }
        let unit = |name: &NetnsName| format!("netns@{name}.service");
        let bus = self.run.bus()?;
        let mut run = bus.running(&all.iter().map(unit).collect::<Vec<_>>())?;
        for unit in bus.without_file(&run.iter().cloned().collect::<Vec<_>>())? {
            // it is not stopped when nobody needs it any more
            if bus.needed_by(&unit)?.is_empty() {
                run.remove(&unit);
            }
        }
        let mut in_use: BTreeSet<NetnsName> = all.iter().filter(|name| run.contains(&unit(name))).cloned().collect();
        let (inside, nameless) = (occupants(&made)?, netns::nameless(&made)?);
        for name in made.iter().filter(|name| inside.contains_key(name) || nameless.contains_key(name)) {
            if in_use.insert(name.clone()) {
                let who = inside.get(name).map(Occupants::list).unwrap_or_default();
                self.warn(format!("netns '{name}' is needed by no unit and stays, for processes are in it{who}"));
            }
        }
        let leaked = made.into_iter().filter(|name| !in_use.contains(name)).collect();
        Ok(Known { all, in_use, leaked })
    }

    /// Removes host ends of a namespace that nothing else is left of.
    fn host_ends_of(&mut self, name: &NetnsName) -> Result<()> {
        // of a broken record nobody can tell
        let Ok(Some(record)) = netns::read_record(name) else { return Ok(()) };
        for (end, index) in netns::stray_host_ends(name, record)? {
            self.ends.insert(end.clone());
            self.remove(format!("remove host end '{end}' of netns '{name}'"), || netns::remove_host_end(&end, index));
        }
        Ok(())
    }

    /// Removes what `up`, `down` and the DHCP client left of a namespace that is not there.
    fn volatile_files_of(&mut self, name: &NetnsName) -> Result<()> {
        let at = |suffix: &str| Path::new(APPLIED).join(format!("{name}{suffix}"));
        let mut left = vec![at(".nft"), fs::temporary(&at(".json"))?, at(".lock")];
        left.retain(|path| fs::exists(path));
        // who has the lock is at work on it
        let lock = Lock::try_take(&at(".lock"))?;
        if lock.is_some() || !fs::exists(&at(".lock")) {
            left.iter().for_each(|path| self.remove_path(path));
        }
        if matches!(find(name)?, Found::Stale) {
            self.remove_path(&path(name));
        }
        if dhcp::has_resolv_conf(name)? {
            let path = etc_path(name, RESOLV_CONF);
            self.remove(format!("remove file {}", path.display()), || dhcp::remove_resolv_conf(name));
        }
        Ok(())
    }

    /// Plans what `sync` would remove, less what is in use.
    fn plan(&mut self, situation: &Situation, known: &Known) -> Result<Plan> {
        let changes = diff(&situation.observed, &situation.desired);
        let mut ports = BTreeMap::new();
        for change in &changes {
            if let Change::HostLink { name, after: None, .. } = change {
                let mut others = netns::ports(name)?;
                others.retain(|port| !LinkName::parse(port).is_ok_and(|port| self.ends.contains(&port)));
                ports.extend(Some((name.clone(), others)).filter(|(_, others)| !others.is_empty()));
            }
        }
        for (bridge, ports) in &ports {
            let ports = ports.join(", ");
            self.warn(format!(
                "bridge '{bridge}' is no longer in the configuration and stays for `netns-networkd sync`: it has ports ({ports})"
            ));
        }
        let ends = &self.ends;
        let goes = |change: &&Change| match change {
            Change::HostLink { name, after: None, .. } => !ports.contains_key(name),
            Change::RemoveFile { path, .. } => match need(path, situation) {
                Some(Need::Netns(name)) => !known.in_use.contains(&name),
                Some(Need::Unit { runs }) => !runs,
                Some(Need::Bridge(name)) => !ports.contains_key(&name),
                Some(Need::Link(name)) => ends.contains(&name) || host::links([name]).is_ok_and(|links| links.is_empty()),
                None => false,
            },
            _ => false,
        };
        let request = Request::default();
        let leftover = changes.iter().filter(goes).cloned().collect();
        // units that wait for a restart are not forgotten
        let units = changes.iter().filter(|change| matches!(change, Change::Unit { .. })).cloned().collect();
        Ok(Plan { pending: plan(units, &request).pending, ..plan(leftover, &request) })
    }
}

/// The namespace that a file is named after.
fn named(path: &Path, suffixes: &[&str]) -> Option<NetnsName> {
    let file = path.file_name()?.to_str()?;
    suffixes.iter().find_map(|suffix| file.strip_suffix(suffix)).and_then(|name| NetnsName::parse(name).ok())
}

/// Who needs a file that the configuration does not ask for.
enum Need {
    Netns(NetnsName),
    Unit { runs: bool },
    Bridge(LinkName),
    Link(LinkName),
}

fn need(path: &Path, situation: &Situation) -> Option<Need> {
    if let Ok(file) = path.strip_prefix(NETWORKD) {
        let (kind, rest) = file.to_str()?.strip_prefix("10-netns-networkd-")?.split_once('-')?;
        let link = LinkName::parse(rest.rsplit_once('.')?.0).ok()?;
        return Some(if kind == "bridge" { Need::Bridge(link) } else { Need::Link(link) });
    }
    let folder = path.parent()?;
    if folder.starts_with(SYSTEMD) {
        let of_netns = folder.file_name()?.to_str()?.strip_prefix("netns@").and_then(|unit| unit.strip_suffix(".service.d"));
        let runs = situation.loaded.iter().any(|(name, unit)| unit.running && is_drop_in_of(path, name));
        return of_netns.map_or(Some(Need::Unit { runs }), |name| NetnsName::parse(name).ok().map(Need::Netns));
    }
    if folder.starts_with(NETNS_ETC) {
        return named(folder, &[""]).map(Need::Netns);
    }
    named(path, &[".json", ".nft", ".conf"]).map(Need::Netns)
}

/// Lists what lies in the places of this tool alone and belongs to nothing, and files that were not renamed into their place.
/// `files` are wanted, or in the manifest.
fn strays(known: &Known, files: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let paths = |folder: &str| -> Result<Vec<PathBuf>> { Ok(fs::list(Path::new(folder))?.into_iter().map(|entry| entry.path).collect()) };
    let unused = |path: &Path, suffixes: &[&str]| named(path, suffixes).filter(|name| !known.in_use.contains(name));
    let mut strays = rollback::strays()?;

    let is_known = |path: &Path| files.contains(path);
    strays.extend(paths(RECORDS)?.into_iter().filter(|path| unused(path, &[".json", ".nft"]).is_some() && !is_known(path)));
    // leases stay as long as there are settings
    strays.extend(paths(DHCP)?.into_iter().filter(|path| unused(path, &[".conf", ""]).is_some_and(|name| !is_known(&dhcp_path(&name)))));
    for folder in [CLIENTS, host::HELD] {
        strays.extend(paths(folder)?.into_iter().filter(|path| unused(path, &[""]).is_some()));
    }

    let mut folders: Vec<PathBuf> = [NETWORKD, "/var/lib/netns-networkd", RECORDS, DHCP, host::PLACES].map(PathBuf::from).into();
    folders.extend(paths(SYSTEMD)?.into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "d")));
    // a client that runs may be writing there
    folders.extend(paths(NETNS_ETC)?.into_iter().filter(|path| unused(path, &[""]).is_some()));
    for folder in folders.iter().filter(|folder| fs::is_folder(folder)) {
        strays.extend(fs::list(folder)?.into_iter().map(|entry| entry.path).filter(|path| fs::is_temporary(path)));
    }
    Ok(strays)
}
