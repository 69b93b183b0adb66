//! `sync`: the host made to match the configuration, and looked at again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::{self, ManuallyDrop},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use super::{dhcp, host, netns, rollback, status::unknown_name};
use crate::{
    config::Config,
    derive::sha256,
    desired::{self, is_drop_in_of, networkd_path},
    diff::{Change, NetnsChange, diff, gives, takes, takes_the_same},
    error::Refused,
    model::{File, HostLink, LinkName, Netns, NetnsName, Place, Provenance, Seen, State, Unit, UnitName},
    plan::{Move, Pending, Plan, Reload, Request, Restart, Step, Why, plan},
    sys::{
        bus::{Bus, LoadedUnit, Memory},
        fs::{self, Found, Lock, Root},
        manifest::Manifest,
        netlink::{GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS, GROUP_LINK, Monitor},
        occupants::{Occupants, occupants},
        terminal::Waiting,
    },
};

/// How long networkd may take to do what its files say after a reload. Its answer to the reload is no sign that it has.
const NETWORKD_WAIT: Duration = Duration::from_secs(10);
/// How long where it says that it is still at it.
const NETWORKD_BUSY_WAIT: Duration = Duration::from_secs(60);
/// How long a DHCP server may take; what services wait for when they start is longer.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// How often to look again and do what has become possible: a second look finds what the first one made way for.
const ROUNDS: usize = 4;
pub(super) const LOCK: &str = "/var/lib/netns-networkd/lock";

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub root: Root,
    /// Only these namespaces; all if empty.
    pub names: Vec<NetnsName>,
    pub restart: bool,
    pub force: bool,
    pub dry_run: bool,
    /// All goes back unless somebody confirms it within this time.
    pub confirm: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The plan of the first look: what a dry run would do.
    pub plan: Plan,
    /// What still waits in the end.
    pub pending: Vec<Pending>,
    /// What was applied and does not show, each with what is known of the cause.
    pub unverified: Vec<String>,
    /// It was done, and goes back unless somebody confirms it.
    pub waits: bool,
}

/// What happens on the way.
#[derive(Debug)]
pub enum Event {
    /// Something was changed.
    Done(String),
    /// Something that a person should look at; nothing failed.
    Warning(String),
}

/// Makes the host match its configuration; tells of each change on the way.
pub fn sync(options: &Options, tell: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let root = &options.root;
    let read = || -> Result<_> {
        let config = host::read_config(root)?;
        match options.names.iter().find(|name| !config.namespaces.contains_key(name)) {
            Some(unknown) => Err(Refused(vec![unknown_name(unknown, config.namespaces.keys())]).into()),
            None => Ok(config),
        }
    };
    let mut config = read()?;
    if !options.dry_run && root.is_host() && !fs::is_root() {
        return Err(anyhow!("sync changes files below /etc and the network, which only root can do"))
            .context("hint: run it as root, or look at `netns-networkd sync --dry-run`");
    }
    let lock = if options.dry_run { None } else { Some(Lock::wait(&root.at(LOCK))?) };
    if lock.as_ref().is_some_and(|lock| lock.waited) {
        // of two that wait, either may be the last, and what stands there then is what counts
        config = read()?;
    }
    if !options.dry_run && root.is_host() {
        rollback::refuse_while_waiting()?;
    }
    let mut run = Run::new(options, &config, Manifest::read(root)?, tell);
    let outcome = run.go();
    // to free them piece by piece takes a twentieth of a run; the program's end does it at once
    mem::forget((run.known, run.manifest, config));
    outcome
}

/// One run of `sync`; `checks` and `apply` have the rest of its methods.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) config: &'a Config,
    bus: Option<Bus>,
    /// What the last look has learned of units.
    memory: Option<Memory>,
    pub(super) manifest: Manifest,
    pub(super) tell: &'a mut dyn FnMut(Event),
    /// What the host was, to go back to instead of the configuration.
    pub(super) target: Option<State>,
    /// The namespaces that are to stay.
    pub(super) known: BTreeMap<NetnsName, Netns>,
    /// The namespaces in which nothing is changed now.
    waiting: BTreeSet<NetnsName>,
    /// For `prune`: these namespaces are as good as gone, and what is in the others does not matter.
    pub(super) gone: Option<BTreeSet<NetnsName>>,
    /// For `status`: waits for nobody, and goes on without what it cannot see.
    pub(super) only_looks: bool,
    pub(super) no_bus: bool,
    /// What that was.
    pub(super) unseen: Vec<String>,
    pub(super) done: Done,
    /// Some of it has been told.
    said: bool,
}

/// What a run has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Done {
    /// Everything is as it was.
    Nothing,
    /// It has begun to change things.
    Something,
    /// Among them what `--restart` is for.
    Restarts,
}

/// What should be, and what was read on the way.
pub(super) struct Wanted {
    pub(super) desired: State,
    /// What an admin has put under /etc/netns in vain, and why.
    pub(super) left_out: Vec<String>,
    /// What stands where the manifest has files, if that was read.
    read: Vec<Found>,
}

/// Both sides of the diff, and what else was seen.
#[derive(Default)]
pub(super) struct Situation {
    pub(super) observed: State,
    pub(super) desired: State,
    pub(super) loaded: HashMap<UnitName, LoadedUnit>,
    /// What an admin has put under /etc/netns in vain, and why.
    pub(super) left_out: Vec<String>,
    pub(super) running: Vec<NetnsName>,
    pub(super) retired: Vec<NetnsName>,
    pub(super) held: BTreeSet<NetnsName>,
    /// Namespaces that are there, although systemd has stopped them and nobody is in them.
    pub(super) left: BTreeSet<NetnsName>,
    occupants: BTreeMap<NetnsName, Occupants>,
    /// The namespace that each unit of the configuration is to run in, templates among them. For `status`, as all that follows.
    pub(super) listed: BTreeMap<UnitName, NetnsName>,
    /// What is to be in namespaces that are not compared, most of them because they do not run.
    pub(super) goals: BTreeMap<NetnsName, Netns>,
    /// What is in namespaces that are not compared because somebody is at work on them, or nobody wants them.
    pub(super) apart: BTreeMap<NetnsName, Netns>,
    pub(super) busy: BTreeSet<NetnsName>,
    /// All that is in the namespaces that were looked into.
    pub(super) seen: BTreeMap<NetnsName, Seen>,
}

impl<'a> Run<'a> {
    pub(super) fn new(options: &'a Options, config: &'a Config, manifest: Manifest, tell: &'a mut dyn FnMut(Event)) -> Self {
        Self {
            options,
            config,
            bus: None,
            memory: None,
            manifest,
            tell,
            target: None,
            known: BTreeMap::new(),
            waiting: BTreeSet::new(),
            gone: None,
            only_looks: false,
            no_bus: false,
            unseen: Vec::new(),
            done: Done::Nothing,
            said: false,
        }
    }

    pub(super) fn go(&mut self) -> Result<Outcome> {
        let outcome = self.rounds();
        match (self.done > Done::Nothing, &self.target, self.options.confirm) {
            (true, Some(_), _) => outcome.context("hint: `netns-networkd rollback` takes the rest back"),
            (true, None, None) if self.said => outcome.context("hint: what is said to be done stays; `netns-networkd sync` does the rest"),
            // the one who waits for an answer says what becomes of it
            (true, None, _) | (false, ..) => outcome,
        }
    }

    /// Tells of something that was changed.
    pub(super) fn say(&mut self, line: String) {
        self.said = true;
        (self.tell)(Event::Done(line));
    }

    fn rounds(&mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut tried = Vec::new();
        for round in 0..ROUNDS {
            // not freed, as at the end of `sync`
            let situation = ManuallyDrop::new(self.look()?);
            if round == 0 && self.target.is_none() {
                self.refuse(&situation)?;
            }
            let plan = self.plan(&situation, round)?;
            outcome.pending.clone_from(&plan.pending);
            let is_tried = |step: &Step| matches!(step, Step::Reconfigure(_)) && tried.contains(step);
            if round > 0 && (plan.steps.iter().all(is_tried) || round + 1 == ROUNDS) {
                outcome.unverified = plan.changes.iter().map(|change| self.unverified(change, &situation)).collect();
                break;
            }
            if round == 0 {
                // where there is nothing to do, there is nothing to say: these were said when it was done
                if self.target.is_none() && (self.options.dry_run || !plan.steps.is_empty()) {
                    self.warn(&situation);
                    self.warn_of_takers(&plan, &situation);
                }
                for kept in &plan.kept {
                    (self.tell)(Event::Warning(kept.to_string()));
                }
                outcome.plan = plan.clone();
            }
            if round == 0 && !self.options.dry_run {
                self.adopt_files(&situation)?;
            }
            // a run that was cut off may have left no more than its temporary files
            if self.options.dry_run || (plan.steps.is_empty() && !self.manifest.unfinished) {
                break;
            }
            if let Some(limit) = self.options.confirm.filter(|_| round == 0 && !plan.steps.is_empty()) {
                self.prepare_rollback(&plan, &situation, limit)?;
                outcome.waits = true;
            }
            self.apply(&plan, &situation)?;
            if plan.steps.iter().any(|step| matches!(step, Step::Restart(_))) {
                self.done = Done::Restarts;
            }
            let is_of_networkd = |step: &Step| matches!(step, Step::ReloadNetworkd | Step::Reconfigure(_));
            if plan.steps.iter().any(is_of_networkd) && self.options.root.is_host() {
                let to_come = self.vlans_to_come();
                let links = waits_for(&plan, &situation.desired, &to_come);
                wait_for_links(self.bus()?, &links, &to_come)?;
            }
            tried.extend(plan.steps);
        }
        // what goes back to a server that is reached by an uplink waits for that, which comes back later
        if self.options.root.is_host() && self.target.is_none() {
            outcome.unverified.extend(missing_leases(&tried)?);
        }
        if let Some(limit) = self.options.confirm.filter(|_| outcome.waits) {
            rollback::restart_timer(self.bus()?, limit)?;
        }
        if let Some(memory) = self.memory.take().filter(|_| !self.options.dry_run) {
            memory.write();
        }
        Ok(outcome)
    }

    /// Makes a plan of what differs, and lists all that waits, and whom it concerns.
    pub(super) fn plan(&mut self, situation: &Situation, round: usize) -> Result<Plan> {
        self.waiting.clear();
        let whole = self.plan_part(situation, round)?;
        let mut moves = if self.target.is_none() { moves_that_wait(&whole, situation) } else { Vec::new() };
        if moves.is_empty() {
            return Ok(whole);
        }
        for Move { from, to, what, .. } in &mut moves {
            let takers = self.known.iter().filter(|(name, netns)| *name != from && what.iter().any(|give| takes(netns, give)));
            to.extend(takers.map(|(name, _)| name.clone()));
        }
        self.waiting = self.with_takers(moves.iter().map(|one| one.from.clone()).collect(), &whole);
        let mut plan = self.plan_part(situation, round)?;
        // a restart alone would not do it
        plan.pending
            .retain(|pending| !matches!(pending, Pending::Restart(restart) if moves.iter().any(|one| one.unit == restart.why.unit())));
        plan.pending.extend(moves.into_iter().map(Pending::Move));
        Ok(plan)
    }

    /// Adds the namespaces that get something of these, and so on: what one keeps, another one cannot have.
    fn with_takers(&self, mut names: BTreeSet<NetnsName>, plan: &Plan) -> BTreeSet<NetnsName> {
        let mut fewer = 0;
        while fewer < names.len() {
            fewer = names.len();
            for step in &plan.steps {
                let Step::GiveUp(from, gives) = step else { continue };
                if names.contains(from) {
                    let takers = self.known.iter().filter(|(_, netns)| gives.iter().any(|give| takes(netns, give)));
                    names.extend(takers.map(|(name, _)| name.clone()));
                }
            }
        }
        names
    }

    fn plan_part(&mut self, situation: &Situation, round: usize) -> Result<Plan> {
        let mut changes = diff(&situation.observed, &situation.desired);
        self.narrow(&mut changes, &situation.desired)?;
        // which holds are needed, and what is left over, shows only when all units are looked at
        let partial = self.is_partial();
        let request = Request {
            // once: a run that was cut off may have left systemd with old settings, which the first round reads anew
            restart: self.options.restart && self.done < Done::Restarts,
            force: self.options.force,
            held: situation.held.clone(),
            keep: if partial { situation.held.clone() } else { BTreeSet::new() },
            left: if partial { BTreeSet::new() } else { situation.left.clone() },
            stuck: hold_back(&mut changes),
            reload: match round {
                _ if self.manifest.unfinished && self.options.root.is_host() => Reload::All,
                0 => Reload::ForLinks,
                _ => Reload::No,
            },
            parents: self.own_vlans(),
            gives: self.gives(&changes, situation)?,
        };
        let mut plan = plan(changes, &request);
        plan.pending.extend(situation.retired.iter().map(|name| Pending::Retired { name: name.clone(), users: BTreeSet::new() }));
        self.name_users(&mut plan, &situation.occupants)?;
        Ok(plan)
    }

    /// Lists what namespaces have that others get in this run: as long as it is there, it cannot come.
    fn gives(&self, changes: &[Change], situation: &Situation) -> Result<BTreeMap<NetnsName, Vec<NetnsChange>>> {
        let mut all = BTreeMap::new();
        if !self.options.root.is_host() {
            return Ok(all);
        }
        for (name, has) in &situation.observed.netns {
            let planned: Vec<_> = changes
                .iter()
                .filter_map(|c| if let Change::Netns { name: of, change } = c { (of == name).then_some(change) } else { None })
                .collect();
            if planned.is_empty() {
                continue;
            }
            // what waits for a restart stays; the addresses of a link go with it
            let goes = |give: &NetnsChange| {
                let with_link = |link: &LinkName| planned.iter().any(|c| matches!(c, NetnsChange::RemoveLink { name, .. } if name == link));
                planned.iter().any(|change| takes_the_same(change, give))
                    || matches!(give, NetnsChange::RemoveAddress { link, .. } if with_link(link))
            };
            all.insert(name.clone(), gives(name, has, &self.known).into_iter().filter(goes).collect());
        }
        // those that run, and those that are brought up for a running unit
        let mut come: BTreeSet<&NetnsName> = situation.running.iter().collect();
        for change in changes {
            if let Change::Unit { before, after, .. } = change
                && before.runs_in.is_some()
            {
                come.extend(&after.bound_to);
            }
        }
        let is_wanted = |name: &&NetnsName| come.contains(*name);
        let mut wanted = BTreeMap::new();
        for name in &situation.retired {
            if wanted.is_empty() {
                wanted = self.known.keys().filter(is_wanted).map(|name| (name.clone(), self.known[name].clone())).collect();
            }
            if let Some(has) = netns::read_applied(name)? {
                all.insert(name.clone(), gives(name, &has, &wanted));
            }
        }
        all.retain(|_, gives| !gives.is_empty());
        Ok(all)
    }

    /// Takes files for ours again that are as we write them, where the manifest was lost.
    fn adopt_files(&mut self, situation: &Situation) -> Result<()> {
        let observed = &situation.observed.files;
        let foreign = observed.iter().filter(|(_, found)| found.provenance == Provenance::Foreign);
        let wanted = |path: &PathBuf, found: &File| situation.desired.files.get(path).is_some_and(|file| file.content == found.content);
        let ours: Vec<_> = foreign.filter(|(path, found)| wanted(path, found)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        self.manifest.files.extend(ours.into_iter().map(|(path, file)| (path.clone(), BTreeSet::from([sha256(&file.content)]))));
        self.manifest.write(&self.options.root)
    }

    pub(super) fn bus(&mut self) -> Result<&Bus> {
        let bus = match self.bus.take() {
            Some(bus) => bus,
            None => Bus::connect()?,
        };
        Ok(self.bus.insert(bus))
    }

    pub(super) fn look(&mut self) -> Result<Situation> {
        let wanted = self.want()?;
        self.observe(wanted)
    }

    /// Says what should be.
    pub(super) fn want(&self) -> Result<Wanted> {
        let root = &self.options.root;
        let ((desired, left_out), read) = host::read_meanwhile(root, &self.manifest, || {
            let (facts, left_out) = host::facts(root, &self.manifest, self.config)?;
            let desired = match &self.target {
                Some(target) => former(target)?,
                None => desired::desired(self.config, &facts)?,
            };
            Ok((desired, left_out))
        })?;
        Ok(Wanted { desired, left_out, read })
    }

    /// Observes everything that the configuration or the manifest is about.
    pub(super) fn observe(&mut self, wanted: Wanted) -> Result<Situation> {
        let Wanted { mut desired, left_out, read } = wanted;
        let root = &self.options.root;
        let mut observed = State::default();
        if !root.is_host() {
            self.known = std::mem::take(&mut desired.netns);
            // an image has files; the rest comes to be when it boots
            observed.files = host::files(root, &desired, &self.manifest, read)?;
            desired = State { files: desired.files, ..State::default() };
            return Ok(Situation { observed, desired, left_out, ..Situation::default() });
        }
        let (mut running, mut held) = (host::running_netns()?, host::held_netns()?);
        if let Some(gone) = &self.gone {
            running.retain(|name| !gone.contains(name));
            held.retain(|name| !gone.contains(name));
        }
        // one that a run held when it was cut off may be about to come up
        let there: BTreeSet<&NetnsName> = running.iter().chain(&held).collect();
        let retired: Vec<_> = there.into_iter().filter(|name| !desired.netns.contains_key(name)).cloned().collect();
        for name in &retired {
            self.keep_files(name, &mut desired)?;
        }
        for name in running.iter().filter(|name| !retired.contains(name)) {
            self.keep_files_of_old_links(name, &mut desired)?;
        }
        observed.files = host::files(root, &desired, &self.manifest, read)?;
        let former_links = host::former_links(&self.manifest, &desired);
        observed.links = host::links(desired.links.keys().cloned().chain(former_links))?;
        // a former uplink is ours to release only from a bridge that stays; with one that goes, so do its ports
        let of_ours = |link: &HostLink| link.is_bridge || link.master.as_ref().is_some_and(|bridge| desired.links.contains_key(bridge));
        observed.links.retain(|name, link| desired.links.contains_key(name) || of_ours(link));

        let mut former_units = host::former_units(&self.manifest, &desired);
        let has_bus = self.has_bus();
        let mut listed = if self.only_looks { listed(&desired) } else { BTreeMap::new() };
        if has_bus {
            self.expand_templates(&mut desired, &mut former_units)?;
        }
        if self.only_looks {
            listed.extend(self::listed(&desired));
            let wanted = &self.options.names;
            desired.units.retain(|_, unit| wanted.is_empty() || unit.bound_to.as_ref().is_some_and(|netns| wanted.contains(netns)));
        }
        let occupants = occupants(&running)?;
        let services = occupants.values().flat_map(|occupants| occupants.services.keys());
        let services = services.filter_map(|service| UnitName::parse(service).ok());
        let names: BTreeSet<UnitName> = desired.units.keys().chain(&former_units).cloned().chain(services).collect();
        let names: Vec<UnitName> = names.into_iter().collect();
        let (loaded, memory) = if names.is_empty() || !has_bus { (HashMap::new(), None) } else { self.bus()?.units_again(&names)? };
        self.memory = memory;
        observed.units = host::units(&loaded, &observed.files, &desired, &netns::named(&running)?);
        align_units(&mut observed, &mut desired, &loaded, &former_units);
        let mut left = BTreeSet::new();
        if has_bus {
            self.find_strays(&occupants, &loaded, &mut observed, &mut desired)?;
            left = self.left(&running, &occupants)?;
        }
        let mut inside = if fs::is_root() { running.clone() } else { Vec::new() };
        if inside.len() < running.len() && !self.only_looks {
            // only a dry run gets here
            (self.tell)(Event::Warning("without root, what is inside running namespaces is not compared".to_owned()));
        }
        if has_bus {
            self.look_at_clients(&inside, &mut observed, &mut desired)?;
        }
        // what is only left over is brought up and taken down
        inside.retain(|name| (!left.contains(name) || self.only_looks) && self.gone.is_none());
        let mut situation =
            Situation { observed, desired, loaded, left_out, running, retired, held, left, occupants, listed, ..Situation::default() };
        if self.only_looks {
            self.known.clone_from(&situation.desired.netns);
            self.glance_inside(&inside, &mut situation);
        } else {
            // most do not run: to copy them all takes a tenth of a run that has nothing to do
            self.known = std::mem::take(&mut situation.desired.netns);
            let compared = self.known.iter().filter(|(name, _)| inside.contains(name));
            situation.desired.netns = compared.map(|(name, netns)| (name.clone(), netns.clone())).collect();
            situation.observed.netns = host::netns(&mut situation.desired, &inside)?.netns;
        }
        Ok(situation)
    }

    /// Observes the DHCP clients of namespaces that run; each that has settings should run, and with these.
    fn look_at_clients(&mut self, running: &[NetnsName], observed: &mut State, desired: &mut State) -> Result<()> {
        let units = running.iter().filter_map(|name| Some((UnitName::parse(&format!("netns-dhcp@{name}.service")).ok()?, name)));
        let settings = |name: &NetnsName| desired::dhcp_path(name);
        let units: HashMap<UnitName, &NetnsName> = units
            .filter(|(_, name)| desired.files.contains_key(&settings(name)) || self.manifest.files.contains_key(&settings(name)))
            .collect();
        if units.is_empty() {
            return Ok(());
        }
        desired.clients =
            units.values().filter(|name| desired.files.contains_key(&settings(name))).map(|name| ((*name).clone(), true)).collect();
        for (unit, loaded) in self.bus()?.units(&units.keys().cloned().collect::<Vec<_>>())? {
            if let Some(name) = units.get(&unit).filter(|_| loaded.running) {
                let path = settings(name);
                let read = fs::modified(&path).is_some_and(|written| written <= loaded.active_since);
                let content = |file: &File| file.content.clone();
                let ours = observed.files.get(&path).filter(|file| file.provenance == Provenance::Ours).map(content);
                let changes = ours.is_some_and(|now| desired.files.get(&path).map(content) != Some(now));
                observed.clients.insert((*name).clone(), read && !changes);
            }
        }
        Ok(())
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

    /// Leaves only the changes of the namespaces that were asked for, and that do not wait. `status` shows all that differs.
    fn narrow(&self, changes: &mut Vec<Change>, desired: &State) -> Result<()> {
        if self.only_looks || !self.is_partial() {
            return Ok(());
        }
        let names = &self.options.names;
        let is_in = |name: &NetnsName| (names.is_empty() || names.contains(name)) && !self.waiting.contains(name);
        let mut part = self.config.clone();
        part.namespaces.retain(|name, _| is_in(name));
        let (facts, _) = host::facts(&self.options.root, &self.manifest, &part)?;
        let part = desired::desired(&part, &facts)?;
        changes.retain(|change| match change {
            Change::WriteFile { path, .. } => part.files.contains_key(path),
            Change::RemoveFile { .. } | Change::HostLink { after: None, .. } => false,
            Change::HostLink { name, .. } => part.links.contains_key(name) && desired.links.contains_key(name),
            Change::Unit { name, .. } => part.units.contains_key(name),
            Change::Netns { name, .. } | Change::Client { name, .. } => is_in(name),
        });
        Ok(())
    }

    fn is_partial(&self) -> bool {
        !(self.options.names.is_empty() && self.waiting.is_empty())
    }
}

/// Lists the units that use what goes to another namespace and that are not restarted: they would lose it, so both wait.
fn moves_that_wait(plan: &Plan, situation: &Situation) -> Vec<Move> {
    let names = |restart: &Restart| restart.with.iter().cloned().chain([restart.why.unit()]).collect::<Vec<_>>();
    let restarts = plan.steps.iter().filter_map(|step| if let Step::Restart(restarts) = step { Some(restarts) } else { None });
    let restarted: BTreeSet<String> = restarts.flatten().flat_map(names).collect();
    let would_be: Vec<&Restart> =
        plan.pending.iter().filter_map(|pending| if let Pending::Restart(restart) = pending { Some(restart) } else { None }).collect();
    let moves_out_of = |netns: &NetnsName, restart: &Restart| match &restart.why {
        Why::Unit { unit, goal, .. } => unit.runs_in == Some(Place::Netns(netns.clone())) && goal.runs_in != unit.runs_in,
        Why::Netns { .. } => false,
    };
    let mut waits = Vec::new();
    for step in &plan.steps {
        let Step::GiveUp(from, what) = step else { continue };
        let users: BTreeSet<String> = if situation.retired.contains(from) {
            situation.occupants.get(from).into_iter().flat_map(|occupants| occupants.services.keys()).cloned().collect()
        } else {
            would_be.iter().filter(|restart| moves_out_of(from, restart)).map(|restart| restart.why.unit()).collect()
        };
        waits.extend(users.difference(&restarted).map(|unit| Move {
            unit: unit.clone(),
            from: from.clone(),
            to: BTreeSet::new(),
            what: what.clone(),
            stays: !would_be.iter().any(|restart| names(restart).contains(unit)),
        }));
    }
    waits
}

/// Waits for what DHCP clients ask for that were started; lists what has not come.
fn missing_leases(steps: &[Step]) -> Result<Vec<String>> {
    let deadline = Instant::now() + LEASE_WAIT;
    let mut all = Vec::new();
    for step in steps {
        let (Step::StartClient(name) | Step::RestartClient(name)) = step else { continue };
        let missing = dhcp::wait_for_leases(name, deadline.saturating_duration_since(Instant::now()))?.into_iter();
        let text = |missing| format!("netns '{name}': {missing} after {} s: {}", LEASE_WAIT.as_secs(), dhcp::look_at_client(name));
        all.extend(missing.map(text));
    }
    Ok(all)
}

/// Makes what was observed once what is desired: namespaces that did not run then are as their records say.
fn former(observed: &State) -> Result<State> {
    let mut state = observed.clone();
    for (path, file) in &observed.files {
        if let Some(name) = desired::record_of(path) {
            let record = serde_json::from_str(&file.content).with_context(|| format!("the record {} was broken", path.display()))?;
            state.netns.entry(name).or_insert(record);
        }
    }
    Ok(state)
}

/// Gives the namespace that each unit is to run in.
fn listed(desired: &State) -> BTreeMap<UnitName, NetnsName> {
    desired.units.iter().filter_map(|(unit, goal)| Some((unit.clone(), goal.bound_to.clone()?))).collect()
}

/// Changes that a running service would not survive are not made live: they wait for a restart.
fn hold_back(changes: &mut Vec<Change>) -> BTreeMap<NetnsName, Vec<NetnsChange>> {
    let mut by_netns: BTreeMap<NetnsName, Vec<_>> = BTreeMap::new();
    for change in changes.extract_if(.., |change| matches!(change, Change::Netns { .. })) {
        if let Change::Netns { name, change } = change {
            by_netns.entry(name).or_default().push(change);
        }
    }
    let mut held_back = BTreeMap::new();
    for (name, list) in by_netns {
        let (live, stuck) = netns::live(list);
        changes.extend(live.into_iter().map(|change| Change::Netns { name: name.clone(), change }));
        if !stuck.is_empty() {
            held_back.insert(name, stuck);
        }
    }
    held_back
}

/// Makes both sides speak of the same units: those that systemd has, and only as far as they run.
fn align_units(observed: &mut State, desired: &mut State, loaded: &HashMap<UnitName, LoadedUnit>, former: &[UnitName]) {
    let is_loaded = |name: &UnitName| loaded.get(name).is_some_and(|unit| unit.load_state == "loaded");
    desired.units.retain(|name, _| is_loaded(name));
    for name in former.iter().filter(|name| is_loaded(name)) {
        let Some(unit) = observed.units.get(name) else { continue };
        let drop_in = observed.files.keys().any(|path| is_drop_in_of(path, name));
        let bound_to = if drop_in { None } else { unit.bound_to.clone() };
        let runs_in = match &bound_to {
            // bound by somebody else's file: no business of ours
            Some(_) => unit.runs_in.clone(),
            None => unit.runs_in.as_ref().map(|_| Place::Host),
        };
        desired.units.insert(name.clone(), Unit { bound_to, runs_in, etc: unit.etc.clone() });
    }
    observed.units.retain(|name, _| desired.units.contains_key(name));
    for (name, unit) in &mut desired.units {
        if observed.units.get(name).is_none_or(|now| now.runs_in.is_none()) {
            unit.runs_in = None;
            unit.etc.clear();
        }
    }
}

/// Picks the links that networkd is about to change: bridges, links that it makes, and uplinks whose file it has not read before.
/// What a bridge has lost that was made anew is found in the next look.
fn waits_for(plan: &Plan, desired: &State, to_come: &BTreeSet<LinkName>) -> BTreeMap<LinkName, HostLink> {
    let is_read = |name: &LinkName| {
        let file = networkd_path("uplink", name, "network");
        plan.steps.iter().any(|step| matches!(step, Step::WriteFile { path, .. } if *path == file))
    };
    let mut links = desired.links.clone();
    links.retain(|name, link| link.is_bridge || to_come.contains(name) || is_read(name));
    links
}

/// Waits until the links on the host are as networkd's files say, or for [`NETWORKD_WAIT`]; longer while networkd says that it
/// is still at work on one of them.
fn wait_for_links(bus: &Bus, links: &BTreeMap<LinkName, HostLink>, to_come: &BTreeSet<LinkName>) -> Result<()> {
    let start = Instant::now();
    let mut deadline = start + NETWORKD_WAIT;
    let monitor = Monitor::open(&[GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS])?;
    let shown = Waiting::new("systemd-networkd", NETWORKD_BUSY_WAIT);
    loop {
        let observed = State { links: host::links(links.keys().cloned())?, ..State::default() };
        let wanted = State { links: links.clone(), ..State::default() };
        let waits_for = diff(&observed, &wanted).into_iter().filter_map(|change| match change {
            // hardware
            Change::HostLink { name, before: None, after: Some(after) } if !after.is_bridge && !to_come.contains(&name) => None,
            Change::HostLink { name, .. } => Some(name),
            _ => None,
        });
        let waits_for: Vec<_> = waits_for.collect();
        let Some(first) = waits_for.first() else { return Ok(()) };
        shown.is_for(format!("systemd-networkd sets up link '{first}'"));
        if !Monitor::wait(&[&monitor], deadline)? {
            if start.elapsed() > NETWORKD_BUSY_WAIT || !waits_for.iter().any(|name| host::is_configuring(bus, name)) {
                return Ok(());
            }
            deadline += Duration::from_secs(1);
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
