//! `sync`: the host made to match the configuration, and looked at again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use super::{host, netns};
use crate::{
    config::{Config, Uplink},
    desired::{self, NETNS_ETC, SYSTEMD, is_drop_in_of, networkd_path},
    diff::{Change, diff},
    model::{File, LinkName, NetnsName, Place, State, Unit, UnitName},
    plan::{Pending, Plan, Request, Step, plan},
    render,
    sys::{
        bus::{Bus, LoadedUnit},
        fs::{self, Lock, Root, Staged},
        manifest::{self, Manifest},
        netlink::{GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS, GROUP_LINK, Monitor},
    },
};

/// How long networkd may take to do what its files say after a reload. Its answer to the reload is no sign that it has.
const NETWORKD_WAIT: Duration = Duration::from_secs(10);
/// How long systemd may take to stop a namespace that nobody needs any more.
const UNNEEDED_WAIT: Duration = Duration::from_secs(5);
/// How often to look again and do what has become possible: a second look finds what the first one made way for.
const ROUNDS: usize = 3;
const LOCK: &str = "/var/lib/netns-networkd/lock";

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: Root,
    /// Only these namespaces; all if empty.
    pub names: Vec<NetnsName>,
    pub restart: bool,
    pub force: bool,
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The plan of the first look: what a dry run would do.
    pub plan: Plan,
    pub pending: Vec<String>,
    /// What was applied and does not show, each with what is known of the cause.
    pub unverified: Vec<String>,
}

/// What happens on the way.
#[derive(Debug)]
pub enum Event {
    /// Something was changed.
    Done(String),
    /// Something that a person should look at; nothing failed.
    Warning(String),
}

/// Reasons not to begin, found on the host: the configuration asks for what would do harm there.
#[derive(Debug)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nerror: nothing was changed", self.0.join("\nerror: "))
    }
}

impl std::error::Error for Refused {}

/// Makes the host match its configuration; tells of each change on the way.
pub fn sync(options: &Options, tell: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let root = &options.root;
    let config = host::read_config(root)?;
    if let Some(unknown) = options.names.iter().find(|name| !config.namespaces.contains_key(name)) {
        return Err(Refused(vec![format!("there is no [namespace.{unknown}] in the configuration")]).into());
    }
    if !options.dry_run && root.is_host() && !fs::is_root() {
        return Err(anyhow!("sync changes files below /etc and the network, which only root can do"))
            .context("hint: run it as root, or look at `netns-networkd sync --dry-run`");
    }
    let _lock = if options.dry_run { None } else { Some(Lock::wait(&root.at(LOCK))?) };
    let mut run = Run { options, config: &config, bus: None, manifest: Manifest::read(root)?, tell };
    run.go()
}

struct Run<'a> {
    options: &'a Options,
    config: &'a Config,
    bus: Option<Bus>,
    manifest: Manifest,
    tell: &'a mut dyn FnMut(Event),
}

/// Both sides of the diff, and what else was seen.
struct Situation {
    observed: State,
    desired: State,
    loaded: HashMap<UnitName, LoadedUnit>,
    retired: Vec<NetnsName>,
    held: BTreeSet<NetnsName>,
}

impl Run<'_> {
    fn go(&mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for round in 0..ROUNDS {
            let situation = self.look()?;
            if round == 0 {
                self.refuse(&situation)?;
                self.warn(&situation);
            }
            let request = Request {
                restart: self.options.restart && round == 0,
                force: self.options.force,
                held: situation.held.clone(),
                reload: self.manifest.unfinished && self.options.root.is_host(),
            };
            let mut changes = diff(&situation.observed, &situation.desired);
            self.narrow(&mut changes, &situation.desired)?;
            let stuck = hold_back(&mut changes);
            let plan = plan(changes, &request);
            outcome.pending = plan.pending.iter().chain(&stuck).map(ToString::to_string).collect();
            outcome.pending.extend(situation.retired.iter().map(|name| Pending::Retired { name: name.clone() }.to_string()));
            let waits_for_networkd = plan.steps.iter().all(|s| *s == Step::ReloadNetworkd);
            if round > 0 && (plan.steps.is_empty() || waits_for_networkd || round + 1 == ROUNDS) {
                outcome.unverified = plan.changes.iter().map(|change| self.unverified(change, &situation)).collect();
                break;
            }
            if round == 0 {
                for kept in &plan.kept {
                    (self.tell)(Event::Warning(kept.to_string()));
                }
                outcome.plan = plan.clone();
            }
            if self.options.dry_run || plan.steps.is_empty() {
                break;
            }
            self.apply(&plan, &situation)?;
            if plan.steps.contains(&Step::ReloadNetworkd) {
                wait_for_links(&situation.desired)?;
            }
        }
        Ok(outcome)
    }

    fn bus(&mut self) -> Result<&Bus> {
        let bus = match self.bus.take() {
            Some(bus) => bus,
            None => Bus::connect()?,
        };
        Ok(self.bus.insert(bus))
    }

    /// Observes everything that the configuration or the manifest is about.
    fn look(&mut self) -> Result<Situation> {
        let root = &self.options.root;
        let mut desired = desired::desired(self.config, &host::facts(root)?)?;
        let mut observed = State::default();
        if !root.is_host() {
            // an image has files; the rest comes to be when it boots
            observed.files = host::files(root, &desired, &self.manifest)?;
            desired = State { files: desired.files, ..State::default() };
            return Ok(Situation { observed, desired, loaded: HashMap::new(), retired: Vec::new(), held: BTreeSet::new() });
        }
        let mut running = host::running_netns()?;
        let retired: Vec<_> = running.iter().filter(|name| !self.config.namespaces.contains_key(name)).cloned().collect();
        for name in &retired {
            self.keep_files(name, &mut desired)?;
        }
        observed.files = host::files(root, &desired, &self.manifest)?;
        let former_bridges = host::former_bridges(&self.manifest, &desired);
        observed.links = host::links(desired.links.keys().cloned().chain(former_bridges))?;

        let mut former_units = host::former_units(&self.manifest, &desired);
        self.expand_templates(&mut desired, &mut former_units)?;
        let names: Vec<UnitName> = desired.units.keys().chain(&former_units).cloned().collect();
        let loaded = if names.is_empty() { HashMap::new() } else { self.bus()?.units(&names)? };
        observed.units = host::units(&loaded, &self.options.root, &running);
        align_units(&mut observed, &mut desired, &loaded, &former_units);
        if !fs::is_root() && !running.is_empty() {
            // only a dry run gets here
            (self.tell)(Event::Warning("without root, what is inside running namespaces is not compared".to_owned()));
            running.clear();
        }
        observed.netns = host::netns(&mut desired, &running)?.netns;
        Ok(Situation { observed, desired, loaded, retired, held: host::held_netns()? })
    }

    /// Puts the instances that systemd has of templates in their place: a template itself is never loaded. An instance that is
    /// listed itself, or whose template is listed now, is not a former one.
    fn expand_templates(&mut self, desired: &mut State, former: &mut Vec<UnitName>) -> Result<()> {
        let templates: Vec<UnitName> = desired.units.keys().chain(former.iter()).filter(|unit| unit.is_template()).cloned().collect();
        for template in templates {
            let instances = self.bus()?.instances(&template)?;
            match desired.units.remove(&template) {
                Some(unit) => instances.into_iter().for_each(|instance| {
                    desired.units.entry(instance).or_insert_with(|| unit.clone());
                }),
                None => former.extend(instances),
            }
        }
        former.retain(|unit| !unit.is_template() && !desired.units.contains_key(unit));
        Ok(())
    }

    /// Keeps the files of a namespace that runs although the configuration no longer names it, and of its bridges: its services
    /// still need them.
    fn keep_files(&self, name: &NetnsName, desired: &mut State) -> Result<()> {
        let mut paths = vec![desired::record_path(name), Path::new(SYSTEMD).join(format!("netns@{name}.service.d/50-netns-networkd.conf"))];
        let applied = netns::read_applied(name)?.unwrap_or_default();
        paths.extend(applied.links.values().map(|link| networkd_path("port", &link.host_end.name, "network")));
        for bridge in desired::bridges(&applied) {
            paths.extend(["netdev", "network"].map(|suffix| networkd_path("bridge", &bridge, suffix)));
            paths.extend(host::uplink_files(&self.options.root, &self.manifest, &bridge)?);
        }
        let etc = Path::new(NETNS_ETC).join(name.as_str());
        paths.extend(self.manifest.files.keys().filter(|path| path.starts_with(&etc)).cloned());
        for path in paths.into_iter().filter(|path| self.manifest.files.contains_key(path)) {
            if let Some(file) = self.manifest.look_at(&self.options.root, &path)? {
                desired.files.entry(path).or_insert(file);
            }
        }
        Ok(())
    }

    /// Leaves only the changes of the namespaces that were asked for.
    fn narrow(&self, changes: &mut Vec<Change>, desired: &State) -> Result<()> {
        let names = &self.options.names;
        if names.is_empty() {
            return Ok(());
        }
        let mut part = self.config.clone();
        part.namespaces.retain(|name, _| names.contains(name));
        let part = desired::desired(&part, &host::facts(&self.options.root)?)?;
        changes.retain(|change| match change {
            Change::WriteFile { path, .. } => part.files.contains_key(path),
            Change::RemoveFile { .. } | Change::HostLink { after: None, .. } => false,
            Change::HostLink { name, .. } => part.links.contains_key(name) && desired.links.contains_key(name),
            Change::Unit { name, .. } => part.units.contains_key(name),
            Change::Netns { name, .. } => names.contains(name),
        });
        Ok(())
    }

    /// Finds what would do harm on this host, before anything is changed.
    fn refuse(&mut self, situation: &Situation) -> Result<()> {
        let mut reasons = Vec::new();
        for (name, bridge) in &self.config.bridges {
            let source = &bridge.source;
            let ours = self.manifest.files.contains_key(&networkd_path("bridge", name, "netdev"));
            if let Some(link) = situation.observed.links.get(name).filter(|_| !ours) {
                let what = if link.is_bridge { "bridge" } else { "link" };
                reasons.push(format!(
                    "{source}: {what} '{name}' exists already and was not made by netns-networkd\n  hint: to use the bridge as it is, remove \
                     [bridge.{name}]; to have it made from here, remove it where it is configured now, then delete it (`ip link delete {name}`)"
                ));
            }
            for uplink in &bridge.uplinks {
                let Some(link) = situation.observed.links.get(uplink.name()).filter(|link| link.master.as_ref() != Some(name)) else {
                    continue;
                };
                let given: BTreeSet<String> = bridge.addresses.iter().map(ToString::to_string).collect();
                let mut own: BTreeSet<String> = link.addresses.iter().filter(|a| !is_link_local(a)).map(ToString::to_string).collect();
                // without a carrier it has none now, but its file will give it some
                own.extend(self.file_of_somebody_else(uplink.name())?);
                let lost: Vec<&String> = own.difference(&given).collect();
                if !lost.is_empty() {
                    let join = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
                    let all = given.iter().chain(lost.iter().copied().filter(|a| !a.starts_with("DHCP="))).map(|a| format!("\"{a}\""));
                    reasons.push(format!(
                        "{source}: uplink '{}' has addresses of its own ({}); as a port of '{name}' it would lose them, and this host \
                         its network\n  hint: give them to the bridge, with the gateways: in [bridge.{name}], addresses = [{}]",
                        uplink.name(),
                        join(&mut lost.iter().map(ToString::to_string)),
                        join(&mut all.into_iter())
                    ));
                }
            }
        }
        for (name, unit) in &situation.loaded {
            let joined: Vec<_> = unit.joins_namespace_of.iter().filter(|other| *other != name.as_str()).cloned().collect();
            if !joined.is_empty() && situation.desired.units.contains_key(name) {
                reasons.push(format!(
                    "{name} has JoinsNamespaceOf={}, which wins over the namespace it is to run in\n  hint: `systemctl cat {name}` shows where",
                    joined.join(" ")
                ));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(Refused(reasons).into()) }
    }

    /// Reads what the `.network` file that a link has now gives it; nothing if that file is ours.
    fn file_of_somebody_else(&mut self, link: &LinkName) -> Result<Vec<String>> {
        let Some(path) = host::network_file(self.bus()?, link) else { return Ok(Vec::new()) };
        if self.manifest.files.contains_key(&path) {
            return Ok(Vec::new());
        }
        Ok(render::own_addressing(&fs::read_text(&path)?.unwrap_or_default()))
    }

    fn warn(&mut self, situation: &Situation) {
        let mut warnings = Vec::new();
        for (name, unit) in &situation.loaded {
            let listed = |unit: &UnitName| self.config.namespaces.iter().find(|(_, n)| n.services.contains(unit));
            let wanted = listed(name).or_else(|| listed(&name.template()?));
            let Some((netns, _)) = wanted else { continue };
            if unit.load_state != "loaded" {
                warnings.push(format!("{name} of netns '{netns}' is {}: its drop-in waits for it", unit.load_state));
            }
            for socket in &unit.triggered_by {
                let listed = self.config.namespaces.values().any(|n| n.services.iter().any(|s| s.as_str() == socket));
                if socket.ends_with(".socket") && !listed {
                    warnings.push(format!(
                        "{socket} starts {name} and listens on the host, outside netns '{netns}': list it under `services` too if it should listen inside"
                    ));
                }
            }
        }
        let known: BTreeSet<_> = self.config.bridges.keys().cloned().collect();
        let needed: BTreeSet<LinkName> = self.config.namespaces.values().flat_map(|n| desired::bridges(&n.netns)).collect();
        let foreign: Vec<LinkName> = needed.difference(&known).cloned().collect();
        let found = if self.options.root.is_host() { host::links(foreign.clone()).ok() } else { None };
        for bridge in foreign {
            if found.as_ref().is_some_and(|found| !found.contains_key(&bridge)) {
                warnings.push(format!(
                    "bridge '{bridge}' does not exist and no [bridge.{bridge}] makes it: the namespaces on it cannot start until somebody else does"
                ));
            }
        }
        warnings.sort();
        warnings.into_iter().for_each(|text| (self.tell)(Event::Warning(text)));
    }

    /// Executes a plan. Until the first file is renamed into place, a failure leaves everything as it was.
    fn apply(&mut self, plan: &Plan, situation: &Situation) -> Result<()> {
        let root = self.options.root.clone();
        let live = root.is_host();
        let needs_bus =
            |step: &Step| !matches!(step, Step::WriteFile { .. } | Step::RemoveFile { .. } | Step::Converge(_) | Step::RemoveBridge(_));
        if live && plan.steps.iter().any(needs_bus) {
            let networkd = plan.steps.contains(&Step::ReloadNetworkd);
            let bus = self.bus().context("hint: nothing was changed")?;
            if networkd && !bus.networkd_runs()? {
                return Err(anyhow!("systemd-networkd does not run, and this change needs it; nothing was changed"))
                    .context("hint: `systemctl enable --now systemd-networkd`, then run sync again");
            }
        }

        let before = self.manifest.clone();
        let mut staged = Staged::default();
        let prepare = |run: &mut Self, staged: &mut Staged| -> Result<()> {
            if before.unfinished {
                // a run was cut off
                run.manifest.files.keys().try_for_each(|path| fs::remove_leftover(&root.at(path)))?;
            }
            for step in &plan.steps {
                if let Step::WriteFile { path, content } = step {
                    run.manifest.files.entry(path.clone()).or_default().insert(manifest::hash(content));
                }
            }
            run.manifest.unfinished = true;
            run.manifest.write(&root)?;
            for step in &plan.steps {
                if let Step::WriteFile { path, content } = step {
                    staged.add(&root.at(path), content)?;
                }
            }
            Ok(())
        };
        if let Err(error) = prepare(self, &mut staged) {
            drop(staged);
            // what cannot be written now was not written above either; an unfinished manifest does no harm
            let _ = before.write(&root);
            self.manifest = before;
            return Err(error).context("hint: nothing was changed");
        }

        let describe: BTreeMap<&PathBuf, &Change> = plan
            .changes
            .iter()
            .filter_map(|c| if let Change::WriteFile { path, .. } | Change::RemoveFile { path, .. } = c { Some((path, c)) } else { None })
            .collect();
        for step in &plan.steps {
            match step {
                Step::WriteFile { path, .. } => staged.commit(&root.at(path))?,
                Step::RemoveFile { path } => remove_file(&root, path)?,
                _ if !live => continue,
                Step::Converge(name) => {
                    self.converge(name, situation)?;
                    continue;
                }
                _ => self.command(step, &mut staged)?,
            }
            let line = match step {
                Step::WriteFile { path, .. } | Step::RemoveFile { path } => describe.get(path).map(ToString::to_string),
                Step::Hold(_) | Step::Release(_) => None,
                other => Some(other.to_string()),
            };
            line.into_iter().for_each(|line| (self.tell)(Event::Done(line)));
        }
        staged.finish()?;
        self.finish_manifest(plan, situation)
    }

    /// Does a step that goes to one of the daemons.
    fn command(&mut self, step: &Step, staged: &mut Staged) -> Result<()> {
        let marker = |name: &NetnsName| Path::new(host::HELD).join(name.as_str());
        match step {
            Step::ReloadNetworkd => {
                staged.finish()?;
                self.bus()?.reload_networkd()
            }
            Step::ReloadSystemd => {
                staged.finish()?;
                self.bus()?.reload_systemd()
            }
            Step::Hold(name) => {
                fs::write_volatile(&marker(name), "")?;
                self.bus()?.start(&format!("netns-hold@{name}.service"))
            }
            Step::Release(name) => {
                self.bus()?.stop(&format!("netns-hold@{name}.service"))?;
                fs::remove(&marker(name))?;
                if !self.config.namespaces.contains_key(name) {
                    // systemd stops what nobody needs only after it has answered; then the rest of it can be removed
                    netns::wait_until_down(name, UNNEEDED_WAIT)?;
                }
                Ok(())
            }
            Step::Restart(unit) => self.bus()?.restart(unit.as_str()),
            Step::RemoveBridge(name) => {
                let ours = |port: &LinkName| self.manifest.files.contains_key(&networkd_path("uplink", port, "network"));
                let others = netns::remove_bridge(name, ours)?;
                if !others.is_empty() {
                    let text =
                        format!("bridge '{name}' is no longer in the configuration, but stays: it has ports ({})", others.join(", "));
                    (self.tell)(Event::Warning(text));
                }
                Ok(())
            }
            Step::WriteFile { .. } | Step::RemoveFile { .. } | Step::Converge(_) => Ok(()),
        }
    }

    fn converge(&mut self, name: &NetnsName, situation: &Situation) -> Result<()> {
        let Some(wanted) = situation.desired.netns.get(name) else { return Ok(()) };
        for change in netns::converge(name, wanted.clone(), netns::Reach::Live)? {
            (self.tell)(Event::Done(Change::Netns { name: name.clone(), change }.to_string()));
        }
        Ok(())
    }

    fn finish_manifest(&mut self, plan: &Plan, situation: &Situation) -> Result<()> {
        for step in &plan.steps {
            match step {
                Step::WriteFile { path, content } => {
                    self.manifest.files.insert(path.clone(), BTreeSet::from([manifest::hash(content)]));
                }
                Step::RemoveFile { path } => {
                    // a drop-in whose unit still runs in its old place stays listed, so that the next run knows of it
                    let waits = plan.pending.iter().any(|p| matches!(p, Pending::Unit { name, .. } if is_drop_in_of(path, name)));
                    if !waits {
                        self.manifest.files.remove(path);
                    }
                }
                _ => {}
            }
        }
        let pending: Vec<_> =
            plan.pending.iter().filter_map(|p| if let Pending::Unit { name, .. } = p { Some(name) } else { None }).collect();
        let root = &self.options.root;
        self.manifest.files.retain(|path, _| {
            let kept = situation.desired.files.contains_key(path)
                || fs::exists(&root.at(path))
                || pending.iter().any(|name| is_drop_in_of(path, name));
            if !kept {
                // a run that was killed may have made the folder and not the file
                remove_own_directory(root, path);
            }
            kept
        });
        self.manifest.unfinished = false;
        self.manifest.write(root)
    }

    /// Says what is missing for a VLAN link whose parent somebody else configures: networkd makes it for the parent's own file.
    fn how_to_stack(&mut self, name: &LinkName) -> String {
        let uplinks = self.config.bridges.values().flat_map(|bridge| &bridge.uplinks);
        let parent = uplinks.filter(|uplink| uplink.name() == name).find_map(|uplink| match uplink {
            Uplink::Vlan { parent, .. } => Some(parent.clone()),
            Uplink::Link(_) => None,
        });
        let Some(parent) = parent else { return String::new() };
        let file = self.bus().ok().and_then(|bus| host::network_file(bus, &parent));
        let file = file.map_or_else(|| format!("a .network file for '{parent}'"), |file| file.display().to_string());
        format!("\n  hint: put `VLAN={name}` into [Network] of {file}, then `networkctl reload`")
    }

    /// Says what was applied and does not show, with networkd's own view where it is networkd's to do.
    fn unverified(&mut self, change: &Change, situation: &Situation) -> String {
        let text = format!("not verified: {change}");
        match change {
            Change::HostLink { name, before, after: Some(after) } => {
                if before.is_none() && !after.is_bridge {
                    return format!("{text}: there is no link '{name}' on this host{}", self.how_to_stack(name));
                }
                let kind = if after.is_bridge { "bridge" } else { "uplink" };
                let file = networkd_path(kind, name, "network");
                let why = self.bus().ok().and_then(|bus| host::explain_link(bus, name, &file));
                why.map_or(text.clone(), |why| format!("{text}: {why}"))
            }
            Change::Unit { name, .. } => {
                let path = situation.loaded.get(name).map(|unit| unit.network_namespace_path.as_str()).unwrap_or_default();
                format!("{text}: its effective NetworkNamespacePath= is '{path}'; `systemctl cat {name}` shows which file comes last")
            }
            _ => text,
        }
    }
}

fn is_link_local(net: &ipnet::IpNet) -> bool {
    match net {
        ipnet::IpNet::V4(net) => net.addr().is_link_local(),
        ipnet::IpNet::V6(net) => net.addr().is_unicast_link_local(),
    }
}

fn remove_file(root: &Root, path: &Path) -> Result<()> {
    fs::remove(&root.at(path))?;
    remove_own_directory(root, path);
    Ok(())
}

/// Removes the folder of a file if it was made for files of ours alone and is empty.
fn remove_own_directory(root: &Root, path: &Path) {
    let own = path.starts_with(SYSTEMD) || path.starts_with(NETNS_ETC);
    if let Some(parent) = path.parent().filter(|_| own) {
        fs::remove_empty_directory(&root.at(parent));
    }
}

/// Changes that a running service would not survive are not made live: they wait for a restart.
fn hold_back(changes: &mut Vec<Change>) -> Vec<Pending> {
    let mut by_netns: BTreeMap<NetnsName, Vec<_>> = BTreeMap::new();
    for change in changes.extract_if(.., |change| matches!(change, Change::Netns { .. })) {
        if let Change::Netns { name, change } = change {
            by_netns.entry(name).or_default().push(change);
        }
    }
    let mut pending = Vec::new();
    for (name, list) in by_netns {
        let (live, stuck) = netns::live(list);
        changes.extend(live.into_iter().map(|change| Change::Netns { name: name.clone(), change }));
        pending.extend(stuck.into_iter().next().map(|change| Pending::Netns { name, change }));
    }
    pending
}

/// Makes both sides speak of the same units: those that systemd has, and only as far as they run.
fn align_units(observed: &mut State, desired: &mut State, loaded: &HashMap<UnitName, LoadedUnit>, former: &[UnitName]) {
    desired.units.retain(|name, _| loaded.get(name).is_some_and(|unit| unit.load_state == "loaded"));
    for name in former {
        let Some(unit) = observed.units.get(name) else { continue };
        let drop_in = observed.files.keys().any(|path| is_drop_in_of(path, name));
        let bound_to = if drop_in { None } else { unit.bound_to.clone() };
        let runs_in = match &bound_to {
            // bound by somebody else's file: no business of ours
            Some(_) => unit.runs_in.clone(),
            None => unit.runs_in.as_ref().map(|_| Place::Host),
        };
        desired.units.insert(name.clone(), Unit { bound_to, runs_in });
    }
    observed.units.retain(|name, _| desired.units.contains_key(name));
    for (name, unit) in &mut desired.units {
        if observed.units.get(name).is_none_or(|now| now.runs_in.is_none()) {
            unit.runs_in = None;
        }
    }
}

/// Waits until the links on the host are as networkd's files say, or for [`NETWORKD_WAIT`].
fn wait_for_links(desired: &State) -> Result<()> {
    let deadline = Instant::now() + NETWORKD_WAIT;
    let monitor = Monitor::open(&[GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS])?;
    loop {
        let observed = State { links: host::links(desired.links.keys().cloned())?, ..State::default() };
        let wanted = State { links: desired.links.clone(), ..State::default() };
        let missing_hardware =
            |change: &Change| matches!(change, Change::HostLink { before: None, after: Some(after), .. } if !after.is_bridge);
        if diff(&observed, &wanted).iter().all(missing_hardware) || !Monitor::wait(&[&monitor], deadline)? {
            return Ok(());
        }
    }
}

/// What a file changes from and to, for a diff.
#[must_use]
pub fn file_texts(change: &Change) -> Option<(&Path, &str, &str)> {
    match change {
        Change::WriteFile { path, before, after } => Some((path, before.as_ref().map_or("", |b: &File| b.content.as_str()), after)),
        Change::RemoveFile { path, before } => Some((path, &before.content, "")),
        _ => None,
    }
}
