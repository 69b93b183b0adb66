//! Changes -> steps in the order in which they are safe, and what is left for a person to do.
//!
//! Pure. The order: networkd's files and the records, networkd; then whatever keeps running services where they are while their
//! units change (a hold on each namespace concerned: a unit that gains `BindsTo=` to an inactive unit is stopped by
//! daemon-reload, and a namespace that loses its last unit is taken away under it); drop-ins, systemd; namespaces; restarts;
//! the end of the holds; links that are no longer wanted. What networkd does not change on its links comes after the namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    desired::{NETWORKD, SYSTEMD, is_drop_in_of, networkd_path},
    diff::{Change, NetnsChange},
    model::{HostLink, LinkName, NetnsName, Place, Provenance, Unit, UnitName},
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    WriteFile {
        path: PathBuf,
        content: String,
    },
    RemoveFile {
        path: PathBuf,
    },
    ReloadNetworkd,
    ReloadSystemd,
    Hold(NetnsName),
    Release(NetnsName),
    /// Takes from a namespace what another one is to have: `gives`.
    GiveUp(NetnsName, Vec<NetnsChange>),
    Converge(NetnsName),
    StartClient(NetnsName),
    RestartClient(NetnsName),
    StopClient(NetnsName),
    /// All at once, in the order that systemd gives them.
    Restart(Vec<Restart>),
    /// Sets what networkd does not change on a link that is there.
    SetLink(LinkName),
    /// Makes networkd set up a link again whose file has not changed: it does not look after what it has configured.
    Reconfigure(LinkName),
    RemoveBridge(LinkName),
    /// networkd leaves a port that no file names any more where it is.
    ReleasePort {
        name: LinkName,
        bridge: LinkName,
    },
}

/// What is to be done, and what is not done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The changes that the steps make: one line each for the user.
    pub changes: Vec<Change>,
    /// What waits for a restart that nobody has asked for.
    pub pending: Vec<Pending>,
    /// Files that are left alone because somebody else changed or made them.
    pub kept: Vec<Kept>,
    /// Who is in the namespaces that change while they are up; who makes a plan does not know them.
    pub users: BTreeMap<NetnsName, BTreeSet<String>>,
}

/// What shows only after a restart. Either it is done, or it is pending.
///
/// Whom it concerns, who makes a plan does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    pub why: Why,
    /// The running units that systemd restarts with it.
    pub with: BTreeSet<String>,
    /// What is in a namespace and is not restarted with it: it loses its network, for a moment or for good.
    pub cut_off: BTreeSet<String>,
}

impl Restart {
    fn new(why: Why) -> Self {
        Self { why, with: BTreeSet::new(), cut_off: BTreeSet::new() }
    }

    /// Says whom it concerns, in words that begin with what happens to them.
    #[must_use]
    pub fn along(&self) -> Vec<String> {
        let list = |units: &BTreeSet<String>| units.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let with = (!self.with.is_empty()).then(|| format!("restarts with it: {}", list(&self.with)));
        let cut_off = (!self.cut_off.is_empty()).then(|| format!("cuts off: {}", list(&self.cut_off)));
        with.into_iter().chain(cut_off).collect()
    }
}

/// What a restart is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A unit is not where it should be, or does not see what it should.
    Unit { name: UnitName, unit: Unit, goal: Unit },
    /// A namespace has links that cannot be changed while it is up.
    Netns { name: NetnsName, changes: Vec<NetnsChange> },
}

impl Why {
    /// The unit to restart.
    #[must_use]
    pub fn unit(&self) -> String {
        match self {
            Self::Unit { name, .. } => name.to_string(),
            Self::Netns { name, .. } => format!("netns@{name}.service"),
        }
    }
}

/// What waits for somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    Restart(Restart),
    /// It runs in a namespace that nothing binds it to, and no restart would change that.
    Stray {
        name: UnitName,
        netns: NetnsName,
    },
    /// Out of the configuration, but units still need it.
    Retired {
        name: NetnsName,
        users: BTreeSet<String>,
    },
    Move(Move),
}

/// What a unit uses in its namespace goes to other ones, which cannot have it as long as the unit runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub unit: String,
    pub from: NetnsName,
    pub to: BTreeSet<NetnsName>,
    pub what: Vec<NetnsChange>,
    /// A restart would not take the unit along.
    pub stays: bool,
}

impl Pending {
    /// The unit that waits.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::Restart(Restart { why: Why::Unit { name, .. }, .. }) | Self::Stray { name, .. } => Some(name),
            Self::Restart(_) | Self::Retired { .. } | Self::Move(_) => None,
        }
    }
}

/// A file that is not ours to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub path: PathBuf,
    pub provenance: Provenance,
}

/// Whether daemons read their files again where no file has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reload {
    /// networkd, for links that are not as its files say.
    #[default]
    ForLinks,
    /// None of them: this is a look after the first, and they have done what they do.
    No,
    /// Both: an earlier run was cut off before it could.
    All,
}

/// What the user asked for beyond the plain run, and what earlier runs left.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub restart: bool,
    pub force: bool,
    /// Namespaces that an earlier run holds.
    pub held: BTreeSet<NetnsName>,
    /// Those of them that are not ended in any case: where not all units are looked at, nobody knows whether they are needed.
    pub keep: BTreeSet<NetnsName>,
    /// Namespaces that are there although systemd has stopped them.
    pub left: BTreeSet<NetnsName>,
    /// What cannot be changed while namespaces are up.
    pub stuck: BTreeMap<NetnsName, Vec<NetnsChange>>,
    /// What the daemons are told beside what is new to them.
    pub reload: Reload,
    /// The links of ours that VLAN links of ours are on.
    pub parents: BTreeMap<LinkName, LinkName>,
    /// What namespaces have that others are to have: `gives`.
    pub gives: BTreeMap<NetnsName, Vec<NetnsChange>>,
}

fn is_in(path: &Path, directory: &str) -> bool {
    path.starts_with(directory)
}

/// Brings changes into order.
#[must_use]
pub fn plan(changes: Vec<Change>, request: &Request) -> Plan {
    let mut plan = Plan::default();
    let (mut files, mut drop_ins, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let (mut networkd, mut systemd) = (request.reload == Reload::All, request.reload == Reload::All);
    let mut hold = request.left.clone();
    // namespaces that must stay although no unit names them: a process of another binding is still inside
    let mut needed = BTreeSet::new();
    let mut converge = BTreeSet::new();
    let (mut clients, mut restarts) = (Vec::new(), Vec::new());
    let (mut uplinks, mut bridges, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut written = BTreeSet::new();
    let new_bridges: BTreeSet<LinkName> = changes.iter().filter_map(new_bridge).cloned().collect();

    for change in changes {
        match &change {
            Change::WriteFile { path, before, after } => {
                if let Some(before) = before.as_ref().filter(|b| b.provenance != Provenance::Ours && !request.force) {
                    plan.kept.push(Kept { path: path.clone(), provenance: before.provenance });
                    continue;
                }
                let drop_in = is_in(path, SYSTEMD);
                networkd |= is_in(path, NETWORKD);
                systemd |= drop_in;
                written.insert(path.clone());
                let step = Step::WriteFile { path: path.clone(), content: after.clone() };
                if drop_in { drop_ins.push(step) } else { files.push(step) }
            }
            Change::RemoveFile { path, before } => {
                if before.provenance != Provenance::Ours && !request.force {
                    plan.kept.push(Kept { path: path.clone(), provenance: before.provenance });
                    continue;
                }
                let drop_in = is_in(path, SYSTEMD);
                networkd |= is_in(path, NETWORKD);
                systemd |= drop_in;
                let step = Step::RemoveFile { path: path.clone() };
                if drop_in { drop_ins.push(step) } else { files.push(step) }
            }
            Change::HostLink { name, before: Some(HostLink { is_bridge: false, master, .. }), after: None } => {
                // a file that is left alone keeps its link as it is
                let file = networkd_path("uplink", name, "network");
                let Some(bridge) = master.clone().filter(|_| plan.kept.iter().all(|kept| kept.path != file)) else { continue };
                after.push(Step::ReleasePort { name: name.clone(), bridge });
            }
            Change::HostLink { name, after: None, .. } => after.push(Step::RemoveBridge(name.clone())),
            // networkd makes it; a link that is not there at all comes when its hardware does
            Change::HostLink { name, before: None, .. } => {
                networkd |= request.reload != Reload::No;
                // what stands on another link networkd makes when it sets that up
                let parent = request.parents.get(name).filter(|parent| !new_bridges.contains(*parent));
                let parent = parent.filter(|_| !written.contains(&networkd_path("vlan", name, "netdev")));
                again.extend(parent.map(|parent| Step::Reconfigure(parent.clone())));
            }
            Change::HostLink { name, before: Some(before), after: Some(after) } => {
                networkd |= request.reload != Reload::No;
                let kind = if after.is_bridge { "bridge" } else { "uplink" };
                // what networkd reads anew it sets up as a whole; what joins a bridge that is to be made has to wait for that
                let is_lost = !written.contains(&networkd_path(kind, name, "network"))
                    && !after.master.as_ref().is_some_and(|bridge| new_bridges.contains(bridge))
                    && has_lost(before, after);
                // a bridge begins to keep VLANs apart when its ports have theirs
                let steps = if after.is_bridge { &mut bridges } else { &mut uplinks };
                again.extend((is_lost && after.is_bridge).then(|| Step::Reconfigure(name.clone())));
                steps.extend((needs_us(before, after) || (is_lost && !after.is_bridge)).then(|| Step::SetLink(name.clone())));
            }
            // a file that is left alone keeps its unit as it is
            Change::Unit { name, .. } if plan.kept.iter().any(|kept| is_drop_in_of(&kept.path, name)) => continue,
            Change::Unit { name, before, after: goal } => {
                let bindings = [before.bound_to.clone(), goal.bound_to.clone()];
                if before.bound_to != goal.bound_to {
                    systemd = true;
                    if before.runs_in.is_some() {
                        hold.extend(bindings.into_iter().flatten());
                    }
                }
                let inside = if let Some(Place::Netns(netns)) = &before.runs_in { Some(netns) } else { None };
                let moves = before.runs_in != goal.runs_in;
                if let (Some(netns), None) = (inside, &goal.runs_in) {
                    hold.extend(Some(netns).filter(|netns| !request.held.contains(*netns)).cloned());
                    needed.insert(netns.clone());
                    plan.pending.push(Pending::Stray { name: name.clone(), netns: netns.clone() });
                    continue;
                }
                if before.runs_in.is_some() && (moves || before.etc != goal.etc) {
                    let why = Why::Unit { name: name.clone(), unit: before.clone(), goal: goal.clone() };
                    let restart = Restart::new(why);
                    if request.restart {
                        restarts.push(restart);
                    } else {
                        needed.extend(inside.filter(|_| moves).cloned());
                        plan.pending.push(Pending::Restart(restart));
                        if before.bound_to == goal.bound_to {
                            continue;
                        }
                    }
                }
            }
            // a restart makes all of it anew
            Change::Netns { name, .. } if request.restart && request.stuck.contains_key(name) => {}
            Change::Netns { name, .. } => {
                converge.insert(name.clone());
            }
            Change::Client { name, before: Some(_), after: true } => clients.push(Step::RestartClient(name.clone())),
            Change::Client { name, after: true, .. } => clients.push(Step::StartClient(name.clone())),
            Change::Client { name, after: false, .. } => clients.push(Step::StopClient(name.clone())),
        }
        plan.changes.push(change);
    }

    for (name, changes) in &request.stuck {
        let restart = Restart::new(Why::Netns { name: name.clone(), changes: changes.clone() });
        if request.restart { restarts.push(restart) } else { plan.pending.push(Pending::Restart(restart)) }
    }

    plan.steps.extend(files);
    plan.steps.extend(networkd.then_some(Step::ReloadNetworkd));
    // namespaces wait for bridges that are down
    again.dedup();
    plan.steps.extend(again);
    // before anything comes up that wants it
    plan.steps.extend(request.gives.iter().map(|(name, changes)| Step::GiveUp(name.clone(), changes.clone())));
    // one that is held for as long as a process is in it needs no second hold
    let begin = hold.iter().filter(|name| !(needed.contains(*name) && request.held.contains(*name)));
    plan.steps.extend(begin.cloned().map(Step::Hold));
    plan.steps.extend(drop_ins);
    plan.steps.extend(systemd.then_some(Step::ReloadSystemd));
    plan.steps.extend(converge.into_iter().map(Step::Converge));
    plan.steps.extend(uplinks);
    plan.steps.extend(bridges);
    plan.steps.extend(clients);
    plan.steps.extend(Some(restarts).filter(|restarts| !restarts.is_empty()).map(Step::Restart));
    needed.extend(request.keep.iter().cloned());
    let held: BTreeSet<_> = hold.union(&request.held).cloned().collect();
    // After a run that was cut off, systemd may still have the old settings: which holds are needed shows in the next look.
    if request.reload != Reload::All {
        plan.steps.extend(held.difference(&needed).cloned().map(Step::Release));
    }
    plan.steps.extend(after);
    plan
}

/// The bridge that a change makes.
fn new_bridge(change: &Change) -> Option<&LinkName> {
    match change {
        Change::HostLink { name, before: None, after: Some(after) } if after.is_bridge => Some(name),
        _ => None,
    }
}

/// Tells whether a link has lost what networkd once gave it.
fn has_lost(before: &HostLink, after: &HostLink) -> bool {
    let HostLink { is_bridge: _, up, master, mac: _, mtu: _, addresses, stp: _, vlan_filtering: _, vlans: _ } = after.clone();
    !before.has(&HostLink { up, master, addresses, ..HostLink::default() })
}

/// Tells whether a link differs in what networkd does not change on one that is there: up to systemd 256 the settings of a
/// `.netdev`, and up to 255 it takes no VLAN from a port. What joins its bridge only now is networkd's as a whole.
fn needs_us(before: &HostLink, after: &HostLink) -> bool {
    let HostLink { is_bridge, up, master, addresses, vlans, .. } = after.clone();
    let vlans = if before.master == master { before.vlans.clone() } else { vlans };
    !HostLink { is_bridge, up, master, addresses, vlans, ..before.clone() }.has(after)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteFile { path, .. } => write!(f, "write {}", path.display()),
            Self::RemoveFile { path } => write!(f, "remove {}", path.display()),
            Self::ReloadNetworkd => f.write_str("reload systemd-networkd"),
            Self::ReloadSystemd => f.write_str("reload systemd"),
            Self::Hold(netns) => write!(f, "hold netns '{netns}' while units change (start netns-hold@{netns}.service)"),
            Self::Release(netns) => write!(f, "end the hold on netns '{netns}' (stop netns-hold@{netns}.service)"),
            Self::GiveUp(netns, changes) => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "take from netns '{netns}' what another one gets: {}", changes.join(", "))
            }
            Self::Converge(netns) => write!(f, "change netns '{netns}' while it runs"),
            Self::StartClient(netns) => write!(f, "start DHCP client of netns '{netns}'"),
            Self::RestartClient(netns) => write!(f, "restart DHCP client of netns '{netns}'"),
            Self::StopClient(netns) => write!(f, "stop DHCP client of netns '{netns}'"),
            Self::Restart(restarts) => {
                let units: Vec<String> = restarts.iter().map(|restart| restart.why.unit()).collect();
                write!(f, "restart {}", units.join(" "))
            }
            Self::SetLink(name) => write!(f, "set link '{name}' as configured"),
            Self::Reconfigure(name) => write!(f, "make systemd-networkd set up link '{name}' again"),
            Self::RemoveBridge(name) => write!(f, "remove bridge '{name}'"),
            Self::ReleasePort { name, bridge } => write!(f, "take link '{name}' from bridge '{bridge}'"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |place: &Option<Place>| match place {
            Some(Place::Host) => "on the host".to_owned(),
            Some(Place::Netns(netns)) => format!("in netns '{netns}'"),
            Some(Place::Other) => "where it was started".to_owned(),
            None => "nowhere".to_owned(),
        };
        match self {
            Self::Unit { name, unit, goal } if unit.runs_in == goal.runs_in => {
                write!(f, "{name} does not see {} as it is now and will when it is restarted", unit.etc_changes(goal))
            }
            Self::Unit { name, unit, goal } => {
                let (now, then) = (place(&unit.runs_in), place(&goal.runs_in));
                write!(f, "{name} still runs {now} and will run {then} when it is restarted")
            }
            Self::Netns { name, changes } => {
                let is_cause = |change: &&NetnsChange| {
                    use NetnsChange::{AddLink, RemoveLink, SetWireguard};
                    matches!(change, RemoveLink { .. } | AddLink { .. } | SetWireguard { .. })
                };
                let causes: Vec<String> = changes.iter().filter(is_cause).map(ToString::to_string).collect();
                write!(f, "netns '{name}' cannot be changed like this while it is up: {}", causes.join(", "))
            }
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(restart) => {
                match &restart.why {
                    Why::Unit { name, .. } => {
                        write!(f, "{}: `systemctl restart {name}` or `netns-networkd sync --restart`", restart.why)?;
                    }
                    why @ Why::Netns { .. } => write!(f, "{why}: `netns-networkd sync --restart`")?,
                }
                restart.along().iter().try_for_each(|along| write!(f, "; {along}"))
            }
            Self::Stray { name, netns } => write!(
                f,
                "{name} runs in netns '{netns}', and nothing binds it to that: its unit was renamed, masked or changed, or never was \
                 bound. The namespace stays until `systemctl stop {name}`"
            ),
            Self::Retired { name, users } => {
                write!(f, "netns '{name}' is no longer in the configuration and goes with the next sync after its last unit has stopped")?;
                let users: Vec<&str> = users.iter().map(String::as_str).collect();
                if users.is_empty() { Ok(()) } else { write!(f, ": {}", users.join(", ")) }
            }
            Self::Move(Move { unit, from, to, what, stays }) => {
                let what: Vec<String> = what.iter().map(taken).collect();
                let to: Vec<String> = to.iter().map(|name| format!("netns '{name}'")).collect();
                let (what, to) = (what.join(", "), to.join(", "));
                write!(f, "{unit} runs in netns '{from}' with {what}, which {to} is to have: nothing of both is changed before ")?;
                if *stays {
                    write!(f, "`systemctl stop {unit}` and the next sync")
                } else {
                    f.write_str("`netns-networkd sync --restart`, which moves the unit along")
                }
            }
        }
    }
}

/// What another namespace gets.
fn taken(change: &NetnsChange) -> String {
    match change {
        NetnsChange::RemoveAddress { address, .. } => format!("address {}", address.address),
        NetnsChange::RemoveLink { name, .. } => format!("link '{name}'"),
        other => other.to_string(),
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.provenance {
            Provenance::Edited => "was changed by hand",
            Provenance::Ours | Provenance::Foreign => "was not made by netns-networkd",
        };
        write!(f, "{} {why} and is left alone: `netns-networkd sync --force` replaces it", self.path.display())
    }
}
