//! Changes -> steps in the order in which they are safe, and what is left for a person to do.
//!
//! Pure. The order: networkd's files and the records, networkd; then whatever keeps running services where they are while their
//! units change (a hold on each namespace concerned: a unit that gains `BindsTo=` to an inactive unit is stopped by
//! daemon-reload, and a namespace that loses its last unit is taken away under it); drop-ins, systemd; namespaces; restarts;
//! the end of the holds; links that are no longer wanted. What networkd does not change on its links comes after the namespaces.

use std::{
    collections::BTreeSet,
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
    Converge(NetnsName),
    StartClient(NetnsName),
    RestartClient(NetnsName),
    StopClient(NetnsName),
    Restart(UnitName),
    /// Sets what networkd does not change on a link that is there.
    SetLink(LinkName),
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
}

/// A process that is not where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    Unit {
        name: UnitName,
        unit: Unit,
        goal: Unit,
    },
    Netns {
        name: NetnsName,
        change: NetnsChange,
    },
    /// Out of the configuration, but its services still run.
    Retired {
        name: NetnsName,
    },
}

/// A file that is not ours to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub path: PathBuf,
    pub provenance: Provenance,
}

/// What the user asked for beyond the plain run, and what earlier runs left.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub restart: bool,
    pub force: bool,
    /// Namespaces that an earlier run holds.
    pub held: BTreeSet<NetnsName>,
    /// Reload both daemons in any case: an earlier run was cut off before it could.
    pub reload: bool,
}

fn is_in(path: &Path, directory: &str) -> bool {
    path.starts_with(directory)
}

/// Brings changes into order.
#[must_use]
pub fn plan(changes: Vec<Change>, request: &Request) -> Plan {
    let mut plan = Plan::default();
    let (mut files, mut drop_ins, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let (mut networkd, mut systemd) = (request.reload, request.reload);
    let mut hold = BTreeSet::new();
    // namespaces that must stay although no unit names them: a process of another binding is still inside
    let mut needed = BTreeSet::new();
    let mut converge = BTreeSet::new();
    let (mut clients, mut restarts) = (Vec::new(), Vec::new());
    let (mut uplinks, mut bridges) = (Vec::new(), Vec::new());

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
            Change::HostLink { name, before, after: Some(after) } => {
                networkd = true;
                if before.as_ref().is_some_and(|before| needs_us(before, after)) {
                    // a bridge begins to keep VLANs apart when its ports have theirs
                    if after.is_bridge { bridges.push(Step::SetLink(name.clone())) } else { uplinks.push(Step::SetLink(name.clone())) }
                }
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
                let moves = before.runs_in != goal.runs_in;
                if before.runs_in.is_some() && (moves || before.etc != goal.etc) {
                    if request.restart {
                        restarts.push(name.clone());
                    } else {
                        if let Some(Place::Netns(netns)) = before.runs_in.as_ref().filter(|_| moves) {
                            needed.insert(netns.clone());
                        }
                        plan.pending.push(Pending::Unit { name: name.clone(), unit: before.clone(), goal: goal.clone() });
                        if before.bound_to == goal.bound_to {
                            continue;
                        }
                    }
                }
            }
            Change::Netns { name, .. } => {
                converge.insert(name.clone());
            }
            Change::Client { name, before: Some(_), after: true } => clients.push(Step::RestartClient(name.clone())),
            Change::Client { name, after: true, .. } => clients.push(Step::StartClient(name.clone())),
            Change::Client { name, after: false, .. } => clients.push(Step::StopClient(name.clone())),
        }
        plan.changes.push(change);
    }

    plan.steps.extend(files);
    plan.steps.extend(networkd.then_some(Step::ReloadNetworkd));
    plan.steps.extend(hold.iter().cloned().map(Step::Hold));
    plan.steps.extend(drop_ins);
    plan.steps.extend(systemd.then_some(Step::ReloadSystemd));
    plan.steps.extend(converge.into_iter().map(Step::Converge));
    plan.steps.extend(uplinks);
    plan.steps.extend(bridges);
    plan.steps.extend(clients);
    plan.steps.extend(restarts.into_iter().map(Step::Restart));
    let held: BTreeSet<_> = hold.union(&request.held).cloned().collect();
    // After a run that was cut off, systemd may still have the old settings: which holds are needed shows in the next look.
    if !request.reload {
        plan.steps.extend(held.difference(&needed).cloned().map(Step::Release));
    }
    plan.steps.extend(after);
    plan
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
            Self::Converge(netns) => write!(f, "change netns '{netns}' while it runs"),
            Self::StartClient(netns) => write!(f, "start DHCP client of netns '{netns}'"),
            Self::RestartClient(netns) => write!(f, "restart DHCP client of netns '{netns}'"),
            Self::StopClient(netns) => write!(f, "stop DHCP client of netns '{netns}'"),
            Self::Restart(unit) => write!(f, "restart {unit}"),
            Self::SetLink(name) => write!(f, "set link '{name}' as configured"),
            Self::RemoveBridge(name) => write!(f, "remove bridge '{name}'"),
            Self::ReleasePort { name, bridge } => write!(f, "take link '{name}' from bridge '{bridge}'"),
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |place: &Option<Place>| match place {
            Some(Place::Host) => "on the host".to_owned(),
            Some(Place::Netns(netns)) => format!("in netns '{netns}'"),
            Some(Place::Other) => "where it was started".to_owned(),
            None => "nowhere".to_owned(),
        };
        match self {
            Self::Unit { name, unit, goal } if unit.runs_in == goal.runs_in => write!(
                f,
                "{name} does not see {} as it is now and will when it is restarted: `systemctl restart {name}` or `netns-networkd sync --restart`",
                unit.etc_changes(goal)
            ),
            Self::Unit { name, unit, goal } => write!(
                f,
                "{name} still runs {} and will run {} when it is restarted: `systemctl restart {name}` or `netns-networkd sync --restart`",
                place(&unit.runs_in),
                place(&goal.runs_in)
            ),
            Self::Netns { name, change } => {
                write!(f, "netns '{name}': {change}: this needs a restart of its services: `systemctl restart netns@{name}.service`")
            }
            Self::Retired { name } => {
                write!(f, "netns '{name}' is no longer in the configuration and goes with the next sync after its last unit has stopped")
            }
        }
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
