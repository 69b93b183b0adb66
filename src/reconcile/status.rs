//! `status` and `list`: what `sync` would look at, and what else there is to see, without waiting for anybody or changing anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    dhcp, host, netns, rollback,
    sync::{Event, Options, Run, Situation},
};
use crate::{
    config::{Config, Faults, keys},
    desired::{self, HostFacts, NETNS_ETC, NETWORKD, RECORDS, SYSTEMD, dhcp_path, record_of},
    error::{self, Refused, Usage},
    model::{HostLink, LinkName, Netns, NetnsName, Place, SeenLink, State, Unit, UnitName},
    render,
    report::{Configuration, ConfigurationState, Facts, NetnsFacts, Orphan, OrphanKind, Report, UnitFacts},
    sys::{
        bus::LoadedUnit,
        fs::{self, Root},
        manifest::Manifest,
        netlink::Socket,
        netns::{Found, find},
        observe,
    },
};

/// Looks at a host, or at some of its namespaces.
pub fn status(names: &[NetnsName]) -> Result<Report> {
    let root = Root::new("/");
    let (config, mut configuration) = match host::read_config(&root) {
        Ok(config) => (config, Configuration { state: ConfigurationState::Valid, error: None }),
        Err(error) => (Config::default(), unusable(&error)),
    };
    let nothing = Config::default();
    let options = Options { root: root.clone(), names: names.to_vec(), restart: false, force: false, dry_run: true, confirm: None };
    let mut warnings = Vec::new();
    let mut tell = |event| {
        if let Event::Warning(text) = event {
            warnings.push(text);
        }
    };
    let mut run = Run::new(&options, &config, Manifest::read(&root)?, &mut tell);
    run.only_looks = true;
    let mut wanted = None;
    if configuration.state == ConfigurationState::Valid {
        match run.want() {
            Ok(state) => wanted = Some(state),
            Err(error) => configuration = unusable(&error),
        }
    }
    let mut wanted = match wanted {
        Some(wanted) => wanted,
        None => {
            run.config = &nothing;
            run.target = Some(by_records(&root, &run.manifest)?);
            run.want()?
        }
    };
    check_names(names, &wanted.desired, &run.manifest)?;
    wanted.left_out.retain(|text| names.is_empty() || names.iter().any(|name| text.starts_with(&format!("{NETNS_ETC}/{name}/"))));

    let mut situation = run.observe(wanted)?;
    let host = observe::links(&mut Socket::open()?)?;
    resolve_resting(&mut situation, &host)?;
    let plan = run.plan(&situation, 0)?;
    let mut part = run.config.clone();
    part.namespaces.retain(|name, _| names.is_empty() || names.contains(name));
    run.config = &part;
    run.warn(&situation);

    let written: BTreeSet<PathBuf> = run.manifest.files.keys().cloned().collect();
    let applied = applied(&situation);
    let mut facts = Facts {
        configuration,
        observed: &situation.observed,
        desired: &situation.desired,
        plan: &plan,
        written: &written,
        netns: BTreeMap::new(),
        listed: &situation.listed,
        units: BTreeMap::new(),
        bridge_sources: config.bridges.iter().map(|(name, bridge)| (name.clone(), bridge.source.clone())).collect(),
        host: &host,
        strays: strays(&situation, &written, &applied, &host)?,
        networkd_running: None,
        warnings: Vec::new(),
        not_seen: Vec::new(),
    };
    facts.netns = known(&situation, &run).into_iter().map(|name| (name.clone(), of_netns(&name, &situation, &run, &applied))).collect();
    run.ask_systemd(&situation, &mut facts);
    facts.not_seen = mem::take(&mut run.unseen);
    drop(run);
    if facts.networkd_running == Some(false) {
        warnings.push(
            "systemd-networkd does not run: bridges and ports stay as they are, and none comes: `systemctl start systemd-networkd`"
                .to_owned(),
        );
    }
    facts.warnings = warnings;
    Ok(Report::new(facts, names))
}

/// Says why there is no configuration to compare with.
fn unusable(error: &anyhow::Error) -> Configuration {
    match error.downcast_ref::<Faults>() {
        Some(Faults(faults)) => {
            let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
            Configuration {
                state: ConfigurationState::Faulty,
                error: Some(format!("{count}: `netns-networkd check` shows what and where")),
            }
        }
        None => {
            let reasons = error.downcast_ref::<Refused>().map(|Refused(reasons)| reasons.join("\n"));
            Configuration { state: ConfigurationState::Unreadable, error: Some(reasons.unwrap_or_else(|| error::render(error))) }
        }
    }
}

/// What went wrong, without hints.
fn first_line(error: &anyhow::Error) -> String {
    error::render(error).lines().next().unwrap_or_default().to_owned()
}

/// Refuses names that nothing is known of.
fn check_names(names: &[NetnsName], desired: &State, manifest: &Manifest) -> Result<()> {
    let mut known: BTreeSet<NetnsName> = desired.netns.keys().cloned().collect();
    known.extend(manifest.files.keys().filter_map(|path| record_of(path)));
    known.extend(host::running_netns()?);
    known.extend(host::held_netns()?);
    let reasons: Vec<String> = names.iter().filter(|name| !known.contains(name)).map(|name| unknown_name(name, &known)).collect();
    if reasons.is_empty() { Ok(()) } else { Err(Usage(reasons).into()) }
}

/// Says that there is no such namespace, and which one was probably meant.
#[must_use]
pub fn unknown_name<'a>(name: &NetnsName, known: impl IntoIterator<Item = &'a NetnsName>) -> String {
    let text = format!("there is no [namespace.{name}] in the configuration");
    match keys::suggest(name.as_str(), known.into_iter().map(NetnsName::as_str)) {
        Some(near) => format!("{text}\n  hint: did you mean '{near}'?"),
        None => text,
    }
}

/// What the last `sync` left on the host, as what should be there.
fn by_records(root: &Root, manifest: &Manifest) -> Result<State> {
    let mut state = State::default();
    for path in manifest.files.keys() {
        let Some(file) = manifest.look_at(root, path)? else { continue };
        let line = |prefix: &str| file.content.lines().find_map(|line| Some(line.strip_prefix(prefix)?.to_owned()));
        let name_in = |top: &str, prefix: &str, suffix: &str| {
            path.strip_prefix(top).ok()?.to_str()?.strip_prefix(prefix)?.strip_suffix(suffix).map(str::to_owned)
        };
        let link = |kind: &str, suffix: &str| {
            name_in(NETWORKD, &format!("10-netns-networkd-{kind}-"), suffix).and_then(|n| LinkName::parse(&n).ok())
        };
        if let Some(name) = link("bridge", ".netdev") {
            let settings = manifest.look_at(root, &desired::networkd_path("bridge", &name, "network"))?.map(|file| file.content);
            let own = render::own_settings(&settings.into_iter().collect::<Vec<_>>());
            let addresses = own.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            state.links.insert(name, HostLink { is_bridge: true, up: true, addresses, ..HostLink::default() });
        }
        if let (Some(name), Some(bridge)) = (link("uplink", ".network"), line("Bridge=").and_then(|name| LinkName::parse(&name).ok())) {
            state.links.insert(name, HostLink { up: true, master: Some(bridge), ..HostLink::default() });
        }
        let unit = name_in(SYSTEMD, "", ".d/50-netns-networkd.conf").and_then(|name| UnitName::parse(&name).ok());
        let netns = line("BindsTo=netns@").and_then(|rest| NetnsName::parse(rest.strip_suffix(".service")?).ok());
        if let (Some(unit), Some(netns)) = (unit, netns) {
            let bound = |line: &str| Some(line.strip_prefix("BindReadOnlyPaths=")?.rsplit_once(":/etc/")?.1.to_owned());
            let etc = file.content.lines().filter_map(bound).collect();
            state.units.insert(unit, Unit { bound_to: Some(netns.clone()), runs_in: Some(Place::Netns(netns)), etc });
        }
        state.files.insert(path.clone(), file);
    }
    Ok(state)
}

/// Fills in what namespaces that do not run would have, their MAC addresses above all; those that only a record names, too.
fn resolve_resting(situation: &mut Situation, host: &[SeenLink]) -> Result<()> {
    for name in situation.observed.files.keys().filter_map(|path| record_of(path)) {
        if !situation.desired.netns.contains_key(&name) && !situation.goals.contains_key(&name) {
            situation.goals.extend(netns::read_record(&name).ok().flatten().map(|record| (name, record)));
        }
    }
    let Some(machine_id) = fs::machine_id(&Root::new("/"))? else { return Ok(()) };
    let facts = |link: &SeenLink| Some((LinkName::parse(&link.name).ok()?, HostFacts { mac: link.mac, mtu: link.mtu, default_pvid: 0 }));
    let on_host = host.iter().filter_map(facts).collect();
    for (name, netns) in &mut situation.goals {
        desired::resolve(name, netns, &machine_id, &on_host, &Netns::default());
    }
    Ok(())
}

/// Reads what `up` has made, of the namespaces that cannot be looked into or have gone.
fn applied(situation: &Situation) -> BTreeMap<NetnsName, Netns> {
    let unseen = situation.running.iter().filter(|name| !situation.seen.contains_key(name));
    unseen.filter_map(|name| Some((name.clone(), netns::read_applied(name).ok()??))).collect()
}

/// Every namespace of the configuration, of the records, and that is there.
fn known(situation: &Situation, run: &Run) -> BTreeSet<NetnsName> {
    let mut names: BTreeSet<NetnsName> = run.known.keys().chain(&situation.running).chain(&situation.held).cloned().collect();
    names.extend(situation.observed.files.keys().filter_map(|path| record_of(path)));
    names
}

fn of_netns<'a>(name: &NetnsName, situation: &'a Situation, run: &Run, applied: &'a BTreeMap<NetnsName, Netns>) -> NetnsFacts<'a> {
    let there = matches!(find(name), Ok(Found::Netns(_)));
    let (observed, desired) = (&situation.observed, &situation.desired);
    let file = |path: &Path| desired.files.get(path).or_else(|| observed.files.get(path)).map(|file| file.content.as_str());
    let settings = file(&Path::new(SYSTEMD).join(format!("netns@{name}.service.d/50-netns-networkd.conf"))).unwrap_or_default();
    let described = format!("Description=Network namespace {name}: ");
    let seen = situation.seen.get(name);
    NetnsFacts {
        configured: run.known.contains_key(name),
        description: settings.lines().find_map(|line| line.strip_prefix(&described)).map(|text| text.replace("%%", "%")),
        goal: applied
            .get(name)
            .filter(|_| there && seen.is_none())
            .or_else(|| desired.netns.get(name))
            .or_else(|| situation.goals.get(name)),
        now: observed.netns.get(name).or_else(|| situation.apart.get(name)),
        seen,
        active_state: None,
        there,
        ours: situation.running.contains(name),
        busy: situation.busy.contains(name),
        no_lease: if observed.clients.contains_key(name) { no_lease(name) } else { Vec::new() },
        dhcp: file(&dhcp_path(name)).map(render::dhcpcd_wants).into_iter().flatten().map(|(link, _)| link).collect(),
        bound: Vec::new(),
    }
}

/// Lists the addresses that a client that runs has not got; nothing where that cannot be told.
fn no_lease(name: &NetnsName) -> Vec<String> {
    let missing = dhcp::missing(name).unwrap_or_default().into_iter();
    missing.map(|missing| format!("{missing}: {}", dhcp::look_at_client(name))).collect()
}

/// Finds what is ours and in no record of ours: what was left when a manifest was lost, or a run was killed.
fn strays(
    situation: &Situation,
    written: &BTreeSet<PathBuf>,
    applied: &BTreeMap<NetnsName, Netns>,
    host: &[SeenLink],
) -> Result<Vec<Orphan>> {
    let mut strays = Vec::new();
    for entry in fs::list(Path::new(RECORDS))? {
        let is_known = written.contains(&entry.path) || situation.desired.files.contains_key(&entry.path);
        if let Some(netns) = record_of(&entry.path).filter(|_| !is_known) {
            let path = entry.path.display().to_string();
            strays.push(Orphan { kind: OrphanKind::Record, remedy: format!("`rm {path}`"), name: path, netns: Some(netns) });
        }
    }
    for (netns, applied) in applied {
        if matches!(find(netns), Ok(Found::Netns(_))) || situation.busy.contains(netns) {
            continue;
        }
        let ends = applied.links.values().filter_map(|link| link.kind.host_end());
        for end in ends.filter(|end| host.iter().any(|link| link.name == end.name.as_str() && link.mac == end.mac)) {
            let remedy = format!("`netns-networkd down {netns}` removes it");
            strays.push(Orphan { kind: OrphanKind::HostEnd, name: end.name.to_string(), netns: Some(netns.clone()), remedy });
        }
    }
    Ok(strays)
}

impl Run<'_> {
    /// Tells whether the bus is there; where a run only looks, it goes on without.
    pub(super) fn has_bus(&mut self) -> bool {
        if !self.only_looks {
            return true;
        }
        if self.no_bus {
            return false;
        }
        if let Err(error) = self.bus() {
            self.no_bus = true;
            self.unseen.push(format!("units and systemd-networkd: {}", first_line(&error)));
        }
        !self.no_bus
    }

    /// Looks into namespaces that run, each once.
    pub(super) fn glance_inside(&mut self, inside: &[NetnsName], situation: &mut Situation) {
        situation.goals = mem::take(&mut situation.desired.netns);
        let names = &self.options.names;
        for name in inside.iter().filter(|name| names.is_empty() || names.contains(name)) {
            let wanted = situation.goals.remove(name);
            let is_wanted = wanted.is_some();
            let Some(mut wanted) = wanted.or_else(|| netns::read_applied(name).ok().flatten()) else { continue };
            match netns::glance(name, &mut wanted) {
                Ok(glance) => {
                    if glance.busy {
                        situation.busy.insert(name.clone());
                        self.unseen.push(format!("netns '{name}' is being changed at the moment: it is shown, and not compared"));
                    }
                    if let Some(observed) = glance.observed {
                        situation.seen.insert(name.clone(), observed.seen);
                        if is_wanted && !glance.busy && !situation.left.contains(name) {
                            situation.observed.netns.insert(name.clone(), observed.netns);
                            situation.desired.netns.insert(name.clone(), wanted);
                            continue;
                        }
                        situation.apart.insert(name.clone(), observed.netns);
                    } else if is_wanted && glance.was_made && !glance.busy {
                        // somebody has removed it
                        situation.desired.netns.insert(name.clone(), wanted);
                        continue;
                    }
                }
                Err(error) => self.unseen.push(format!("what is inside netns '{name}': {}", first_line(&error))),
            }
            situation.goals.insert(name.clone(), wanted);
        }
        if !fs::is_root() && !situation.running.is_empty() {
            self.unseen.push(
                "without root: what is inside running namespaces, and where processes are; neither is compared, and what is pending is a \
                 guess from settings and times"
                    .to_owned(),
            );
        }
    }

    /// Adds what systemd says of the units that make namespaces, of those that are bound to them, and of the listed ones.
    fn ask_systemd(&mut self, situation: &Situation, facts: &mut Facts) {
        if !self.has_bus() {
            if rollback::is_waiting() {
                (self.tell)(Event::Warning(rollback::WAITS.to_owned()));
            }
            return;
        }
        if let Err(error) = self.try_ask_systemd(situation, facts) {
            self.unseen.push(format!("units: {}", first_line(&error)));
        }
    }

    fn try_ask_systemd(&mut self, situation: &Situation, facts: &mut Facts) -> Result<()> {
        let wanted = &self.options.names;
        let names: Vec<NetnsName> = facts.netns.keys().filter(|name| wanted.is_empty() || wanted.contains(name)).cloned().collect();
        let bus = self.bus()?;
        let asked = ["systemd-networkd.service", rollback::SERVICE, rollback::TIMER].map(str::to_owned);
        let mut states = bus.states(&asked)?.into_iter().map(|(_, active, sub)| (active, sub));
        facts.networkd_running = states.next().map(|(active, _)| active == "active");
        let (service, timer) = (states.next().unwrap_or_default(), states.next().unwrap_or_default());
        if rollback::is_waiting() {
            (self.tell)(Event::Warning(rollback::outlook(&service, &timer.0).to_owned()));
        }
        let bus = self.bus()?;
        let mut bound = BTreeSet::new();
        for (name, unit) in bus.netns_units(&names)? {
            let Some(netns) = facts.netns.get_mut(&name) else { continue };
            netns.active_state = Some(unit.active_state);
            let is_listed = |unit: &UnitName| situation.listed.contains_key(unit) || situation.desired.units.contains_key(unit);
            let listed = |unit: &String| UnitName::parse(unit).is_ok_and(|unit| is_listed(&unit));
            // a wait for leases is over when it has started
            netns.bound = unit.bound_by.into_iter().filter(|unit| !listed(unit) && !unit.starts_with("netns-online@")).collect();
            netns.bound.extend((!netns.dhcp.is_empty()).then(|| format!("netns-dhcp@{name}.service")));
            bound.extend(netns.bound.iter().cloned());
        }
        // holds are no units that may run in a namespace
        let (others, holds): (Vec<String>, Vec<String>) = bound.into_iter().partition(|unit| UnitName::parse(unit).is_ok());
        for (name, (load_state, active_state, sub_state)) in holds.iter().zip(bus.states(&holds)?) {
            facts.units.insert(name.clone(), UnitFacts { load_state, active_state, sub_state, ..UnitFacts::default() });
        }
        let others: Vec<UnitName> = others.iter().filter_map(|unit| UnitName::parse(unit).ok()).collect();
        let others = bus.units(&others)?;
        let named = netns::named(&situation.running)?;
        for (name, unit) in situation.loaded.iter().chain(&others) {
            let pids = if unit.running { fs::control_group_processes(&unit.control_group) } else { Vec::new() };
            let place = pids.iter().find_map(|pid| named.place_of(*pid));
            let place_seen = pids.is_empty() || place.is_some();
            let runs_in = place.filter(|_| others.contains_key(name));
            let LoadedUnit { load_state, active_state, sub_state, main_pid, .. } = unit.clone();
            facts.units.insert(name.to_string(), UnitFacts { load_state, active_state, sub_state, main_pid, pids, runs_in, place_seen });
        }
        // what has stopped may still be loaded
        for netns in facts.netns.values_mut() {
            netns.bound.retain(|unit| facts.units.get(unit).is_some_and(|unit| unit.active_state != "inactive"));
        }
        Ok(())
    }
}
