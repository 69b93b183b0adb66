//! [`Facts`] -> [`Report`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    Binding, ConfigurationState, Drift, DriftKind, Facts, Firewall, Namespace, NetnsFacts, NetnsState, Orphan, OrphanKind, Place, Presence,
    Report, RuleEntry, Unit, UnitFacts, Waiting, host_ends,
    links::{OnHost, bridges, interfaces, routes},
};
use crate::{
    desired::{DHCP, NETNS_ETC, NETWORKD, RECORDS, SYSTEMD, record_of},
    diff::Change,
    model::{self, LinkName, NetnsName, UnitName},
    plan::{Move, Pending, Restart, Step, Why},
};

impl Report {
    /// Makes a report of what was seen: of some namespaces and their bridges, or, without names, of the whole host.
    #[must_use]
    pub fn new(facts: Facts, names: &[NetnsName]) -> Self {
        let shown = |name: &NetnsName| names.is_empty() || names.contains(name);
        let netns_of = Owners::new(&facts);
        let on_host: OnHost = facts.host.iter().map(|link| (link.name.as_str(), link)).collect();
        let used = |netns: &NetnsFacts| -> BTreeSet<LinkName> {
            [netns.goal, netns.now]
                .into_iter()
                .flatten()
                .flat_map(|netns| netns.links.values())
                .filter_map(|l| l.kind.bridge().cloned())
                .collect()
        };
        let used: BTreeSet<LinkName> = facts.netns.iter().filter(|(name, _)| shown(name)).flat_map(|(_, netns)| used(netns)).collect();
        let (drift, orphans) = differences(&facts, &netns_of);
        let changed = changed(&facts, &netns_of);
        let mut units = units(&facts);

        let namespaces = facts.netns.iter().filter(|(name, _)| shown(name)).map(|(name, netns)| Namespace {
            name: name.clone(),
            configured: netns.configured,
            description: netns.description.clone(),
            source: netns.goal.or(netns.now).map(|netns| netns.source.clone()),
            state: state(netns),
            changed_since_sync: (netns.configured && facts.configuration.state == ConfigurationState::Valid)
                .then(|| changed.contains(name)),
            seen: netns.seen.is_some(),
            units: units.remove(name).unwrap_or_default(),
            interfaces: interfaces(netns, &on_host),
            routes: routes(
                netns,
                netns.goal.map(|goal| goal.routes.as_slice()).unwrap_or_default(),
                netns.seen.map(|s| s.routes.as_slice()),
            ),
            rules: rules(netns),
            nftables: firewall(netns),
        });
        let namespaces: Vec<Namespace> = namespaces.collect();
        let mut bridges = bridges(&facts, &netns_of.ends, &used);
        let about_used = |link: Option<&LinkName>| link.is_some_and(|link| used.contains(link));
        let mut drift = drift;
        let mut orphans = orphans;
        let mut pending: Vec<Waiting> = facts.plan.pending.iter().map(waiting).collect();
        if !names.is_empty() {
            bridges.retain(|bridge| used.contains(&bridge.name));
            drift.retain(|(drift, bridge)| {
                drift.netns.as_ref().is_some_and(shown) || (drift.netns.is_none() && about_used(bridge.as_ref()))
            });
            orphans.retain(|orphan| orphan.netns.as_ref().is_some_and(shown));
            pending.retain(|waiting| waiting.netns.as_ref().is_some_and(shown));
        }
        let drift: Vec<Drift> = drift.into_iter().map(|(drift, _)| drift).collect();
        let wrong = facts.configuration.state != ConfigurationState::Valid || namespaces.iter().any(|netns| netns.state.is_wrong());
        Self {
            ok: !wrong && drift.is_empty() && pending.is_empty() && orphans.is_empty(),
            configuration: facts.configuration,
            networkd_running: facts.networkd_running,
            bridges,
            namespaces,
            drift,
            pending,
            orphans,
            warnings: facts.warnings,
            not_seen: facts.not_seen,
        }
    }
}

/// Which namespace files, host ends and units are of.
struct Owners<'a> {
    /// Host end -> namespace, interface.
    ends: BTreeMap<LinkName, (NetnsName, LinkName)>,
    units: &'a BTreeMap<UnitName, NetnsName>,
}

impl<'a> Owners<'a> {
    fn new(facts: &Facts<'a>) -> Self {
        let mut ends = BTreeMap::new();
        for (name, netns) in &facts.netns {
            for netns in [netns.goal, netns.now].into_iter().flatten() {
                ends.extend(host_ends(netns).map(|(end, link)| (end.clone(), (name.clone(), link.clone()))));
            }
        }
        Self { ends, units: facts.listed }
    }

    /// Gives the namespace that a file of ours is for; none for those of the host's own links.
    fn of_file(&self, path: &Path, content: &str) -> Option<NetnsName> {
        let parse = |name: &str| NetnsName::parse(name).ok();
        let first = |top: &str| path.strip_prefix(top).ok()?.components().next()?.as_os_str().to_str();
        if let Some(name) = first(RECORDS) {
            return parse(name.rsplit_once('.')?.0);
        }
        if let Some(name) = first(DHCP) {
            return parse(name.strip_suffix(".conf")?);
        }
        if let Some(name) = first(NETNS_ETC) {
            return parse(name);
        }
        if let Some(name) = first(NETWORKD) {
            let end = name.strip_prefix("10-netns-networkd-port-")?.strip_suffix(".network")?;
            return self.ends.get(&LinkName::parse(end).ok()?).map(|(netns, _)| netns.clone());
        }
        let unit = first(SYSTEMD)?.strip_suffix(".d")?;
        if let Some(name) = unit.strip_prefix("netns@").and_then(|rest| rest.strip_suffix(".service")) {
            return parse(name);
        }
        let listed = UnitName::parse(unit).ok().and_then(|unit| self.units.get(&unit).cloned());
        listed.or_else(|| {
            let line = content.lines().find_map(|line| line.strip_prefix("BindsTo=netns@"))?;
            parse(line.strip_suffix(".service")?)
        })
    }

    fn of_change(&self, change: &Change) -> Option<NetnsName> {
        match change {
            Change::WriteFile { path, after, .. } => self.of_file(path, after),
            Change::RemoveFile { path, before } => self.of_file(path, &before.content),
            Change::HostLink { .. } => None,
            Change::Unit { before, after, .. } => after.bound_to.clone().or_else(|| before.bound_to.clone()),
            Change::Netns { name, .. } | Change::Client { name, .. } => Some(name.clone()),
        }
    }
}

/// The changes of the plan in two parts: what differs, with the bridge that it is about, and what nobody wants any more.
fn differences(facts: &Facts, owners: &Owners) -> (Vec<(Drift, Option<LinkName>)>, Vec<Orphan>) {
    let wanted = |netns: &NetnsName| facts.netns.get(netns).is_some_and(|netns| netns.configured);
    let (mut drift, mut orphans) = (Vec::new(), Vec::new());
    for pending in &facts.plan.pending {
        if let Pending::Retired { name, .. } = pending {
            let remedy = "goes with the next sync after its last unit has stopped".to_owned();
            orphans.push(Orphan { kind: OrphanKind::Namespace, name: name.to_string(), netns: Some(name.clone()), remedy });
        }
    }
    let goes = "`netns-networkd sync` removes it";
    for change in &facts.plan.changes {
        let netns = owners.of_change(change);
        let orphan = |kind, name: String| Orphan { kind, name, netns: netns.clone(), remedy: goes.to_owned() };
        let (kind, object) = match change {
            Change::RemoveFile { path, .. } if !netns.as_ref().is_some_and(wanted) => {
                let kind = if record_of(path).is_some() { OrphanKind::Record } else { OrphanKind::File };
                orphans.push(orphan(kind, path.display().to_string()));
                continue;
            }
            Change::HostLink { name, after: None, .. } => {
                orphans.push(orphan(OrphanKind::Bridge, name.to_string()));
                continue;
            }
            Change::WriteFile { path, .. } | Change::RemoveFile { path, .. } => (DriftKind::File, path.display().to_string()),
            Change::HostLink { name, .. } => (DriftKind::Link, name.to_string()),
            Change::Unit { name, .. } => (DriftKind::Unit, name.to_string()),
            Change::Netns { name, .. } => (DriftKind::Netns, name.to_string()),
            Change::Client { name, .. } => (DriftKind::DhcpClient, name.to_string()),
        };
        drift.push((Drift { kind, netns, object, change: change.to_string(), left_alone: false }, bridge_of(facts, change)));
    }
    for kept in &facts.plan.kept {
        let content = facts.desired.files.get(&kept.path).map(|file| file.content.as_str()).unwrap_or_default();
        let (netns, object) = (owners.of_file(&kept.path, content), kept.path.display().to_string());
        drift.push((Drift { kind: DriftKind::File, netns, object, change: kept.to_string(), left_alone: true }, None));
    }
    for (name, netns) in &facts.netns {
        let lease = |text: &String| Drift {
            kind: DriftKind::Lease,
            netns: Some(name.clone()),
            object: name.to_string(),
            change: text.clone(),
            left_alone: true,
        };
        drift.extend(netns.no_lease.iter().map(|text| (lease(text), None)));
    }
    // what an earlier run was cut off from, and what it holds
    for step in &facts.plan.steps {
        let (netns, object) = match step {
            Step::Release(netns) => (Some(netns.clone()), netns.to_string()),
            Step::ReloadNetworkd | Step::ReloadSystemd if facts.plan.changes.is_empty() => (None, "sync".to_owned()),
            _ => continue,
        };
        let is_listed = matches!(step, Step::Release(netns) if drift.iter().any(|(drift, _)| drift.netns.as_ref() == Some(netns)));
        if !is_listed {
            drift.push((Drift { kind: DriftKind::Sync, netns, object, change: step.to_string(), left_alone: false }, None));
        }
    }
    // what comes up again takes its old host ends away
    let comes_again = |orphan: &Orphan| {
        let netns = orphan.netns.as_ref().and_then(|netns| facts.netns.get(netns));
        orphan.kind == OrphanKind::HostEnd && netns.is_some_and(|netns| state(netns) == NetnsState::Lost)
    };
    orphans.extend(facts.strays.iter().filter(|orphan| !comes_again(orphan)).cloned());
    orphans.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    (drift, orphans)
}

/// The bridge that a change is about, if it is about one.
fn bridge_of(facts: &Facts, change: &Change) -> Option<LinkName> {
    let link = match change {
        Change::HostLink { name, .. } => name.clone(),
        Change::WriteFile { path, .. } | Change::RemoveFile { path, .. } => {
            let name = path.strip_prefix(NETWORKD).ok()?.to_str()?.strip_prefix("10-netns-networkd-")?;
            LinkName::parse(name.split_once('-')?.1.rsplit_once('.')?.0).ok()?
        }
        Change::Unit { .. } | Change::Netns { .. } | Change::Client { .. } => return None,
    };
    let master = |state: &model::State| state.links.get(&link)?.master.clone();
    master(facts.desired).or_else(|| master(facts.observed)).or(Some(link))
}

/// The namespaces whose files the next sync writes anew, although nobody has changed them by hand.
fn changed(facts: &Facts, owners: &Owners) -> BTreeSet<NetnsName> {
    let by_configuration = |change: &&Change| match change {
        // one that has gone from its place was written
        Change::WriteFile { path, before: None, .. } => !facts.written.contains(path),
        // those that somebody has edited are left alone
        Change::WriteFile { .. } | Change::RemoveFile { .. } => true,
        _ => false,
    };
    facts.plan.changes.iter().filter(by_configuration).filter_map(|change| owners.of_change(change)).collect()
}

fn state(netns: &NetnsFacts) -> NetnsState {
    match netns.active_state.as_deref() {
        _ if netns.there && !netns.ours => NetnsState::Foreign,
        Some("activating") => NetnsState::ComingUp,
        Some("deactivating") => NetnsState::GoingDown,
        Some("failed") if !netns.there => NetnsState::Failed,
        // without a bus, or by hand
        _ if netns.busy && !netns.there => NetnsState::ComingUp,
        _ if netns.there => NetnsState::Up,
        Some("active" | "reloading") => NetnsState::Lost,
        _ => NetnsState::Down,
    }
}

pub(super) fn waiting(pending: &Pending) -> Waiting {
    let netns = match pending {
        Pending::Restart(Restart { why: Why::Unit { unit, goal, .. }, .. }) => {
            let place = |unit: &model::Unit| if let Some(model::Place::Netns(netns)) = &unit.runs_in { Some(netns.clone()) } else { None };
            goal.bound_to.clone().or_else(|| place(goal)).or_else(|| place(unit)).or_else(|| unit.bound_to.clone())
        }
        Pending::Restart(Restart { why: Why::Netns { name, .. }, .. })
        | Pending::Stray { netns: name, .. }
        | Pending::Retired { name, .. } => Some(name.clone()),
        Pending::Move(Move { from, to, .. }) => Some(to.first().unwrap_or(from).clone()),
    };
    let unit = pending.unit().cloned();
    Waiting { netns, unit, text: pending.to_string() }
}

/// The units of each namespace: those that the configuration lists, those that still run there, those of others and our own.
fn units(facts: &Facts) -> BTreeMap<NetnsName, Vec<Unit>> {
    let mut by_netns: BTreeMap<NetnsName, BTreeMap<String, Binding>> = BTreeMap::new();
    let mut put = |netns: &NetnsName, unit: &str, bound: Binding| {
        by_netns.entry(netns.clone()).or_default().entry(unit.to_owned()).or_insert(bound);
    };
    for (unit, netns) in facts.listed {
        put(netns, unit.as_str(), Binding::Configuration);
    }
    let is_stray = |name: &UnitName| facts.plan.pending.iter().any(|p| matches!(p, Pending::Stray { name: stray, .. } if stray == name));
    for (name, unit) in &facts.observed.units {
        let inside = if let Some(model::Place::Netns(netns)) = &unit.runs_in { Some(netns) } else { None };
        let bound = if is_stray(name) { Binding::Nothing } else { Binding::Configuration };
        inside.into_iter().chain(&unit.bound_to).for_each(|netns| put(netns, name.as_str(), bound));
    }
    for (netns, facts) in &facts.netns {
        for unit in &facts.bound {
            put(netns, unit, if unit.starts_with("netns-") { Binding::Tool } else { Binding::Hand });
        }
    }
    let unit = |(name, bound): (String, Binding)| {
        let UnitFacts { load_state, active_state, sub_state, main_pid, pids, runs_in, place_seen } =
            facts.units.get(&name).cloned().unwrap_or_default();
        let observed = UnitName::parse(&name).ok().and_then(|name| facts.observed.units.get(&name)?.runs_in.clone());
        let runs_in = runs_in.or(observed.filter(|_| place_seen)).map(|place| match place {
            model::Place::Host => Place::Host,
            model::Place::Netns(netns) => Place::Netns(netns),
            model::Place::Other => Place::Other,
        });
        let word = |word: String| Some(word).filter(|word| !word.is_empty());
        let (load_state, active_state, sub_state) = (word(load_state), word(active_state), word(sub_state));
        Unit { name, bound, load_state, active_state, sub_state, main_pid, pids, runs_in }
    };
    by_netns.into_iter().map(|(netns, units)| (netns, units.into_iter().map(unit).collect())).collect()
}

fn rules(netns: &NetnsFacts) -> Vec<RuleEntry> {
    let of = |netns: Option<&model::Netns>| netns.map(|netns| netns.rules.clone()).unwrap_or_default();
    let (goal, now) = (of(netns.goal), of(netns.now));
    let state = |rule| match (netns.now.is_some(), now.contains(rule)) {
        (false, _) if netns.there => Presence::Unknown,
        (_, true) => Presence::Present,
        (_, false) => Presence::Absent,
    };
    goal.union(&now).map(|rule| RuleEntry { rule: rule.to_string(), state: state(rule) }).collect()
}

fn firewall(netns: &NetnsFacts) -> Option<Firewall> {
    let goal = netns.goal.and_then(|goal| goal.ruleset.as_ref());
    match (goal, netns.now) {
        (None, None) => None,
        (Some(_), None) if netns.there => Some(Firewall::Unknown),
        (Some(_), None) => Some(Firewall::Absent),
        (goal, Some(now)) => match (goal, &now.ruleset) {
            (None, None) => None,
            (Some(_), None) => Some(Firewall::Absent),
            (Some(goal), Some(now)) if goal == now => Some(Firewall::Loaded),
            (_, Some(_)) => Some(Firewall::Different),
        },
    }
}
