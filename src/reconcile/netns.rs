//! `up` and `down`: one namespace made to be as its record says, and taken away again.
//!
//! netlink and files below `/run` only: no D-Bus, no subprocess, nothing that grows with the number of namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail};

use super::{dhcp, networkd};
use crate::{
    desired::{self, HostFacts},
    diff::{NetnsChange, diff_netns, takes_the_same},
    error::{About, Failures, OfNetns},
    model::{Address, CREDENTIALS, HostEnd, Kind, Link, LinkName, Mac, Need, Netns, NetnsName, Subject},
    sys::{
        fs::{self, Lock, Root},
        inside::{self, Host, Netspace},
        netlink::{self, KernelLink, Socket},
        netns::{self, Found, Lost, Named},
        nftables,
        observe::{self, Observed},
        occupants::{self, Occupants, occupants, occupants_of},
        sysctl,
    },
};

/// What `up` has made, or was about to make when it was killed: whose a namespace and a host end are.
fn applied_path(name: &NetnsName) -> PathBuf {
    format!("/run/netns-networkd/netns/{name}.json").into()
}

fn lock_path(name: &NetnsName) -> PathBuf {
    format!("/run/netns-networkd/netns/{name}.lock").into()
}

fn lock(name: &NetnsName) -> Result<(Lock, PathBuf)> {
    let path = lock_path(name);
    let lock = Lock::wait(&path)?;
    // of a run that was killed
    fs::remove_leftover(&applied_path(name)).inspect_err(|_| drop(fs::remove(&path)))?;
    Ok((lock, path))
}

fn read_netns(path: &Path) -> Result<Option<Netns>> {
    let Some(text) = fs::read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is broken", path.display()))
}

/// Reads what `up` applied last; none if the namespace is not up.
pub fn read_applied(name: &NetnsName) -> Result<Option<Netns>> {
    read_netns(&applied_path(name))
}

/// Reads what `up` makes of a namespace; none where there is no record.
pub fn read_record(name: &NetnsName) -> Result<Option<Netns>> {
    read_netns(&desired::record_path(name))
}

fn write_applied(name: &NetnsName, netns: &Netns) -> Result<()> {
    let text = desired::record(netns).context("failed to write down what is applied")?;
    fs::write_volatile(&applied_path(name), &text)
}

/// Waits until a namespace is down, or for `limit`.
pub fn wait_until_down(name: &NetnsName, limit: Duration) -> Result<()> {
    fs::wait_until_gone(&applied_path(name), limit)
}

/// How often a namespace is looked at before what is still missing is an error.
const LOOKS: usize = 4;

/// How far changes to a namespace that exists may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nothing that cuts off a service which uses the namespace.
    Live,
    /// Everything.
    Whole,
}

/// Makes a namespace as its record says; a second time, this changes nothing. What a failed first time made is undone.
pub fn up(name: &NetnsName, reach: Reach) -> Result<Vec<NetnsChange>> {
    let record = desired::record_path(name);
    let netns = read_netns(&record)
        .context("hint: `netns-networkd sync --force` writes it again")
        .with_context(|| format!("failed to bring up netns '{name}'"))?;
    let Some(netns) = netns else {
        return Err(unknown(name, &record));
    };
    let wanted = netns.clone();
    let up = || match netns::find(name)? {
        Found::Netns(fd) => {
            if read_applied(name)?.is_none() {
                return Err(anyhow!("{} exists and was not made by netns-networkd", netns::path(name).display()))
                    .context(format!("hint: if nothing needs it, remove it with `ip netns delete {name}`, then start the service again"));
            }
            converge_locked(name, netns, &fd, reach)
        }
        Found::Nothing | Found::Stale => create(name, netns),
    };
    let locked = || {
        let (_lock, lock_path) = lock(name)?;
        up().inspect_err(|_| {
            // nothing is left of it, so nothing is to be locked
            if !fs::exists(&applied_path(name)) {
                let _ = fs::remove(&lock_path);
            }
        })
    };
    locked().map_err(|error| explained("bring up", name, &wanted, error))
}

/// Says that there is no such namespace.
#[must_use]
pub fn unknown(name: &NetnsName, record: &Path) -> anyhow::Error {
    anyhow!("no netns '{name}' is known: there is no record {}", record.display())
        .context(format!("hint: add [namespace.{name}] to a file in /etc/netns-networkd and run `netns-networkd sync`"))
}

/// Changes a namespace that is up as far as its services can keep running; gives what was changed.
pub fn converge(name: &NetnsName, desired: Netns, reach: Reach) -> Result<Vec<NetnsChange>> {
    let (_lock, lock_path) = lock(name)?;
    let wanted = desired.clone();
    let converge = || match (netns::find(name)?, read_applied(name)?) {
        (Found::Netns(fd), _) => converge_locked(name, desired, &fd, reach),
        // its last service stopped meanwhile: nothing to change
        (Found::Nothing | Found::Stale, None) => fs::remove(&lock_path).map(|()| Vec::new()),
        (Found::Nothing | Found::Stale, Some(applied)) => match find_lost(&applied)? {
            Some(lost) => {
                netns::name(name, &lost.fd)?;
                let changes = converge_locked(name, desired, &lost.fd, reach)?;
                Ok(std::iter::once(NetnsChange::Name).chain(changes).collect())
            }
            None => create(name, desired),
        },
    };
    converge().map_err(|error| explained("change", name, &wanted, error))
}

/// Takes from a namespace that is up what another one is to have: that cannot come as long as it is here.
pub fn give_up(name: &NetnsName, gives: &[NetnsChange]) -> Result<Vec<NetnsChange>> {
    let (_lock, lock_path) = lock(name)?;
    let (Found::Netns(fd), Some(mut rest)) = (netns::find(name)?, read_applied(name)?) else {
        // it went down meanwhile, or lost its name
        return if fs::exists(&applied_path(name)) { Ok(Vec::new()) } else { fs::remove(&lock_path).map(|()| Vec::new()) };
    };
    for change in gives {
        match change {
            NetnsChange::RemoveLink { name, .. } => drop(rest.links.remove(name)),
            NetnsChange::RemoveAddress { link, address } => {
                let addresses = rest.links.get_mut(link).map(|link| &mut link.addresses);
                addresses.into_iter().for_each(|list| list.retain(|other| other.address.addr() != address.address.addr()));
            }
            _ => {}
        }
    }
    let wanted = rest.clone();
    converge_only(name, rest, &fd, Reach::Live, Some(gives)).map_err(|error| explained("change", name, &wanted, error))
}

/// What there is of a namespace that `up` has made.
pub enum Sight {
    Netns(Box<Netns>),
    /// Somebody has removed it.
    Lost,
    /// It was taken down meanwhile.
    Gone,
}

/// Looks into a namespace that is up. The desired state is filled in from the host.
pub fn observe(name: &NetnsName, desired: &mut Netns) -> Result<Sight> {
    // or a namespace would be seen that `up` or `down` is at work on
    let (_lock, lock_path) = lock(name)?;
    let applied = read_applied(name)?;
    match (find_there(name, applied.as_ref())?, applied) {
        (Some(there), applied) => {
            look_inside(name, desired, &there, &applied.unwrap_or_default()).map(|observed| Sight::Netns(Box::new(observed.netns)))
        }
        (None, Some(_)) => Ok(Sight::Lost),
        (None, None) => fs::remove(&lock_path).map(|()| Sight::Gone),
    }
}

/// A namespace that exists.
struct There {
    fd: OwnedFd,
    is_nameless: bool,
}

/// Finds a namespace by its name, or, if it has lost that, by what `up` made in it.
fn find_there(name: &NetnsName, applied: Option<&Netns>) -> Result<Option<There>> {
    Ok(match (netns::find(name)?, applied) {
        (Found::Netns(fd), _) => Some(There { fd, is_nameless: false }),
        (Found::Nothing | Found::Stale, Some(applied)) => find_lost(applied)?.map(|lost| There { fd: lost.fd, is_nameless: true }),
        (Found::Nothing | Found::Stale, None) => None,
    })
}

fn look_inside(name: &NetnsName, desired: &mut Netns, there: &There, applied: &Netns) -> Result<Observed> {
    let mut host = Host::open()?;
    resolve(name, desired, &mut host, &BTreeMap::new(), applied)?;
    let wanted = &*desired;
    let mut observed = netns::inside(&there.fd, || observe::observe(name, &mut host, &mut Socket::open()?, wanted, applied))?;
    observed.netns.drift.is_nameless = there.is_nameless;
    Ok(observed)
}

/// What a namespace is like at the moment.
#[derive(Debug, Default)]
pub struct Glance {
    /// What is in it; none if it does not exist.
    pub observed: Option<Observed>,
    /// `up` has made it.
    pub was_made: bool,
    /// `up` or `down` is at work on it, so it is not as it will be.
    pub busy: bool,
}

/// Looks at a namespace as [`observe`] does, but waits for nobody and leaves nothing behind.
pub fn glance(name: &NetnsName, desired: &mut Netns) -> Result<Glance> {
    let lock = Lock::glance(&lock_path(name))?;
    let busy = matches!(lock, fs::Glance::Busy);
    let applied = read_applied(name)?;
    let was_made = applied.is_some();
    let Some(there) = find_there(name, applied.as_ref())? else { return Ok(Glance { observed: None, was_made, busy }) };
    match look_inside(name, desired, &there, &applied.unwrap_or_default()) {
        // it may go while one looks
        Err(_) if busy => Ok(Glance { observed: None, was_made, busy }),
        other => other.map(|observed| Glance { observed: Some(observed), was_made, busy }),
    }
}

/// Finds the namespaces that are up and have lost their names, while processes are in them.
pub fn nameless(names: &[NetnsName]) -> Result<BTreeMap<NetnsName, Lost>> {
    let mut nameless = BTreeMap::new();
    for name in names {
        // what cannot be read is reported where it is needed
        if let (Ok(Found::Nothing | Found::Stale), Ok(Some(applied))) = (netns::find(name), read_applied(name)) {
            nameless.extend(find_lost(&applied)?.map(|lost| (name.clone(), lost)));
        }
    }
    Ok(nameless)
}

/// Gives namespaces that are up to compare those of processes with.
pub fn named(names: &[NetnsName]) -> Result<Named> {
    let mut named = Named::of(names);
    nameless(names)?.iter().for_each(|(name, lost)| named.add(name, lost));
    Ok(named)
}

/// Finds a namespace without a name, by the MAC addresses that were given to its links.
fn find_lost(applied: &Netns) -> Result<Option<Lost>> {
    let macs: BTreeSet<Mac> = applied.links.values().filter_map(|link| link.mac).collect();
    for lost in netns::lost()? {
        let links = netns::inside(&lost.fd, || netlink::links(&mut Socket::open()?));
        if links.is_ok_and(|links| links.iter().any(|link| link.mac.is_some_and(|mac| macs.contains(&mac)))) {
            return Ok(Some(lost));
        }
    }
    Ok(None)
}

fn resolve(name: &NetnsName, netns: &mut Netns, host: &mut Host, on_host: &BTreeMap<LinkName, KernelLink>, applied: &Netns) -> Result<()> {
    let Some(machine_id) = fs::machine_id(&Root::new("/"))? else {
        return Err(anyhow!("/etc/machine-id has no machine-id")).context("hint: `systemd-machine-id-setup` makes one");
    };
    let mut facts = BTreeMap::new();
    for needed in netns.needs().into_keys() {
        let link = match on_host.get(&needed) {
            Some(link) => Some(link.clone()),
            None => netlink::link_by_name(&mut host.socket, needed.as_str())?,
        };
        let default_pvid = |link: &KernelLink| link.bridge.as_ref().map_or(0, |state| state.default_pvid);
        facts.extend(link.map(|link| (needed, HostFacts { mac: link.mac, mtu: link.mtu, default_pvid: default_pvid(&link) })));
    }
    desired::resolve(name, netns, &machine_id, &facts, applied);
    Ok(())
}

/// The links that have to be on the host now: a physical one that is inside already has left it.
#[must_use]
pub fn needs(netns: &Netns, applied: &Netns) -> BTreeMap<LinkName, Need> {
    let mut needs = netns.needs();
    let moved = |link: &&Link| matches!(link.kind, Kind::Physical { .. });
    for parent in applied.links.values().filter(moved).filter_map(|link| link.kind.parent()) {
        needs.remove(parent);
    }
    needs
}

/// Says of a failure where in the configuration it comes from, and what networkd knows of the link of the host that it is about.
fn explained(doing: &str, name: &NetnsName, netns: &Netns, error: Error) -> Error {
    let subject = error.downcast_ref::<About>().map(|about| about.subject.clone());
    let place = subject.as_ref().map_or(netns.source.as_str(), |subject| netns.place_of(subject)).to_owned();
    let view = match &subject {
        Some(Subject::OnHost(link)) => networkd::view(link, netns.needs().get(link) == Some(&Need::Bridge)),
        _ => Vec::new(),
    };
    let error = view.into_iter().rev().fold(error, Error::context);
    error.context(OfNetns { what: format!("failed to {doing} netns '{name}'"), place })
}

fn create(name: &NetnsName, mut netns: Netns) -> Result<Vec<NetnsChange>> {
    let mut host = Host::open()?;
    // a run that was killed, or a namespace removed by hand, may have left host ends, and given links back under other names
    if let Some(left) = read_applied(name)? {
        remove_host_ends(name, &mut host, &left)?;
        rename_given_back(&mut host, &left)?;
        nftables::forget(name)?;
    }
    let on_host = host.links(&netns.needs())?;
    resolve(name, &mut netns, &mut host, &on_host, &Netns::default())?;
    write_applied(name, &netns)?;
    let changes = diff_netns(&Netns::default(), &netns);
    let home = host.netns.try_clone().context("failed to keep the host's network namespace open")?;
    let made = netns::create(name, home, || {
        if netns::is_seen_by_systemd(name) == Some(false) {
            return Err(anyhow!("systemd does not see {}: this program has mounts of its own", netns::path(name).display())).context(
                format!(
                    "hint: a drop-in of netns@{name}.service makes them (Private…=, Protect…=, BindPaths=): `systemctl cat netns@{name}`"
                ),
            );
        }
        if note_parameters(&mut netns)? {
            write_applied(name, &netns)?;
        }
        let mut inner = Socket::open()?;
        let observed = Observed::default();
        let space = Netspace { name, host: &mut host, inner: &mut inner, on_host: &on_host, observed: &observed };
        inside::apply(space, &changes, &netns)
    });
    if let Err(error) = made {
        let mut failures = Failures::default();
        failures.add(Err(error));
        failures.add(take_away(name, &mut host, Some(&netns)));
        failures.result()?;
    }
    Ok(std::iter::once(NetnsChange::Add).chain(changes).collect())
}

/// Notes the values of the parameters that are about to be set for the first time, so that they can be given back; tells whether
/// there are any. Must be called inside the namespace. What every namespace sets is never given back.
fn note_parameters(netns: &mut Netns) -> Result<bool> {
    let noted = netns.sysctl_before.len();
    for key in netns.sysctl.keys().filter(|key| desired::SYSCTL.iter().all(|(always, _)| always != key)) {
        if netns.sysctl_before.contains_key(key) {
            continue;
        }
        // a link that is not there yet begins with what it is about to find
        let found = match (sysctl::read(key)?, sysctl::default_of(key)) {
            (None, Some(default)) => netns.sysctl.get(&default).cloned().map_or_else(|| sysctl::read(&default), |value| Ok(Some(value)))?,
            (found, _) => found,
        };
        netns.sysctl_before.extend(found.map(|value| (key.clone(), value)));
    }
    Ok(netns.sysctl_before.len() > noted)
}

fn converge_locked(name: &NetnsName, record: Netns, fd: &OwnedFd, reach: Reach) -> Result<Vec<NetnsChange>> {
    converge_only(name, record, fd, reach, None)
}

/// Makes of what differs all changes, or only these, and waits for nothing.
fn converge_only(name: &NetnsName, record: Netns, fd: &OwnedFd, reach: Reach, only: Option<&[NetnsChange]>) -> Result<Vec<NetnsChange>> {
    let mut host = Host::open()?;
    let before = read_applied(name)?.unwrap_or_default();
    let mut on_host = host.links(&needs(&record, &before))?;
    for parent in record.needs().into_keys() {
        // a run that was killed may not have moved it
        if let Some(link) = netlink::link_by_name(&mut host.socket, parent.as_str())?.filter(|_| !on_host.contains_key(&parent)) {
            on_host.insert(parent, link);
        }
    }
    let mut netns = record.clone();
    resolve(name, &mut netns, &mut host, &on_host, &before)?;
    let mut all = Vec::new();
    // removing an address takes routes with it that stay; a second look puts them back
    for look in 1..=LOOKS {
        let changes = netns::inside(fd, || {
            note_parameters(&mut netns)?;
            let mut inner = Socket::open()?;
            let observed = observe::observe(name, &mut host, &mut inner, &netns, &before)?;
            let (mut changes, stuck) = match reach {
                Reach::Whole => (diff_netns(&observed.netns, &netns), Vec::new()),
                Reach::Live => live(diff_netns(&observed.netns, &netns)),
            };
            changes.retain(|change| only.is_none_or(|only| only.iter().any(|give| takes_the_same(give, change))));
            if let Some(change) = changes.first().filter(|_| look == LOOKS) {
                return Err(anyhow!("failed to {change}: it was done, and does not show")).context(format!(
                    "hint: something else is in the way, or undoes it: look at `ip -n {name} address` and `ip -n {name} route`"
                ));
            }
            let mut wanted = netns.clone();
            wanted.links.retain(|link, _| !stuck.iter().any(|change| change.link() == Some(link)));
            let mut applied = netns.clone();
            // until a link is gone, it is ours
            for (link_name, link) in &observed.netns.links {
                if wanted.links.get(link_name).is_none_or(|after| !after.kind.is_same_link(&link.kind)) {
                    applied.links.insert(link_name.clone(), link.clone());
                }
            }
            // so are addresses
            let add = |list: &mut Vec<Address>, observed: &[Address]| {
                let more: Vec<_> = observed.iter().filter(|a| !list.iter().any(|known| known.is_same(a))).cloned().collect();
                list.extend(more);
            };
            add(&mut applied.loopback_addresses, &observed.netns.loopback_addresses);
            for (link_name, link) in &mut applied.links {
                add(&mut link.addresses, observed.netns.links.get(link_name).map_or(&[], |link| link.addresses.as_slice()));
            }
            // until its peers are set, those that it had are ours to remove, and their endpoints the ones that count
            for change in &changes {
                if let NetnsChange::SetWireguard { name, .. } = change
                    && let (Some(link), Some(before)) = (applied.links.get_mut(name), before.links.get(name))
                {
                    link.kind = before.kind.clone();
                }
            }
            for (link_name, link) in applied.links.iter_mut().filter(|_| !changes.is_empty()) {
                // until it is gone, what host ends were given is ours: it has no mark
                let was = before.links.get(link_name).and_then(|link| link.kind.host_end());
                if let (Some(end), Some(was)) = (link.kind.host_end_mut(), was) {
                    end.addresses.extend(&was.addresses);
                    end.routes.extend(&was.routes);
                }
            }
            if changes.is_empty() {
                // given back
                applied.sysctl_before.retain(|key, _| record.sysctl.contains_key(key));
                applied.sysctl.retain(|key, _| record.sysctl.contains_key(key));
            }
            write_applied(name, &applied)?;
            clear_the_way(name, &mut host, &changes, &observed.netns, &before, &mut on_host)?;
            let space = Netspace { name, host: &mut host, inner: &mut inner, on_host: &on_host, observed: &observed };
            let awaited = if only.is_some() { Netns::default() } else { wanted };
            inside::apply(space, &changes, &awaited)?;
            Ok(changes)
        })?;
        if changes.is_empty() {
            break;
        }
        all.extend(changes);
    }
    Ok(all)
}

/// Links that are to be made although the last run has made them were moved out by hand: pairs leave a host end behind, which is in
/// the way; links of the host are there again, under other names.
fn clear_the_way(
    name: &NetnsName,
    host: &mut Host,
    changes: &[NetnsChange],
    inside: &Netns,
    applied: &Netns,
    on_host: &mut BTreeMap<LinkName, KernelLink>,
) -> Result<()> {
    let is_inside = |end: &LinkName| inside.links.values().any(|link| link.kind.host_end().is_some_and(|own| own.name == *end));
    let mut left = Vec::new();
    for change in changes {
        let NetnsChange::AddLink { link, .. } = change else { continue };
        match &link.kind {
            Kind::Veth(end) if !is_inside(&end.name) => {
                let found = netlink::link_by_name(&mut host.socket, end.name.as_str())?;
                left.extend(found.filter(|found| found.kind.as_deref() == Some("veth") && found.mac == end.mac).map(|found| found.index));
            }
            Kind::Physical { parent } if !on_host.contains_key(parent) => {
                rename_given_back(host, applied)?;
                on_host.extend(netlink::link_by_name(&mut host.socket, parent.as_str())?.map(|link| (parent.clone(), link)));
            }
            _ => {}
        }
    }
    if !left.is_empty() && find_lost(applied)?.is_some() {
        return Err(anyhow!("{} is another namespace than the one that its processes are in", netns::path(name).display()))
            .context(format!("hint: if nothing needs it, remove it with `ip netns delete {name}`, then run sync again"));
    }
    netlink::remove_links(&mut host.socket, &left).context("failed to remove host ends of links that have left")
}

/// Parts the changes that a running service does not notice from those that would cut it off: a link that has to be made anew, and
/// a key in a credential that systemd gives to the namespace's unit when that starts.
#[must_use]
pub fn live(changes: Vec<NetnsChange>) -> (Vec<NetnsChange>, Vec<NetnsChange>) {
    let added: Vec<_> =
        changes.iter().filter_map(|c| if let NetnsChange::AddLink { name, .. } = c { Some(name.clone()) } else { None }).collect();
    let removed: Vec<_> =
        changes.iter().filter_map(|c| if let NetnsChange::RemoveLink { name, .. } = c { Some(name.clone()) } else { None }).collect();
    let anew = |link: &LinkName| added.contains(link) && removed.contains(link);
    let new_ends: Vec<LinkName> = changes
        .iter()
        .filter_map(|c| if let NetnsChange::AddLink { name, link } = c { link.kind.host_end().filter(|_| anew(name)) } else { None })
        .map(|end| end.name.clone())
        .collect();
    let of_new_end = |change: &NetnsChange| change.host_end().is_some_and(|end| new_ends.contains(end));
    changes.into_iter().partition(|change| !lacks_credential(change) && !change.link().is_some_and(anew) && !of_new_end(change))
}

fn lacks_credential(change: &NetnsChange) -> bool {
    let NetnsChange::SetWireguard { wireguard, .. } = change else { return false };
    wireguard.key_files().map(Path::new).any(|file| file.starts_with(CREDENTIALS) && !fs::exists(file))
}

/// Takes a namespace away, host ends first, then the namespace; goes on past errors and reports them all.
///
/// Not from under a service: systemd forgets at a reload what bound one whose file was renamed, masked or changed meanwhile, and
/// then the namespace seems not to be needed. Any other process goes without its links; gives a warning that names them.
pub fn down(name: &NetnsName) -> Result<Option<String>> {
    take_down(name).with_context(|| format!("failed to take down netns '{name}'"))
}

fn take_down(name: &NetnsName) -> Result<Option<String>> {
    let (_lock, lock_path) = lock(name)?;
    let applied = read_applied(name);
    if let Ok(Some(applied)) = &applied
        && let Some(Gone { warning }) = take_away_at_once(name, applied)?
    {
        return fs::remove(&lock_path).map(|()| warning);
    }
    let occupants = occupants(std::slice::from_ref(name))?.remove(name).unwrap_or_default();
    if !occupants.services.is_empty() {
        return Err(in_use(&occupants));
    }
    let mut failures = Failures::default();
    let applied = match applied {
        Ok(None) => {
            let found = netns::find(name)?;
            fs::remove(&lock_path)?;
            if matches!(found, Found::Netns(_)) {
                bail!("{} exists and was not made by netns-networkd", netns::path(name).display());
            }
            return Ok(None);
        }
        Ok(applied) => applied,
        // to be read another time
        Err(error) if error.downcast_ref::<std::io::Error>().is_some() => return Err(error),
        Err(broken) => {
            failures.add(Err(broken));
            None
        }
    };
    failures.add(Host::open().and_then(|mut host| take_away(name, &mut host, applied.as_ref())));
    if failures.is_empty() {
        failures.add(fs::remove(&lock_path));
    }
    failures.result()?;
    Ok(kept(name, &occupants))
}

fn in_use(occupants: &Occupants) -> Error {
    let services: Vec<String> = occupants.services.iter().map(|(unit, pid)| format!("{unit} (PID {pid})")).collect();
    anyhow!("{} runs in it", services.join(", "))
        .context("hint: stop that first; where systemd has lost what binds it there, `netns-networkd sync` keeps the namespace until then")
}

fn kept(name: &NetnsName, occupants: &Occupants) -> Option<String> {
    let how = if occupants.holders.is_empty() { "are in it" } else { "have it open" };
    let list = occupants.list();
    let kept = || format!("netns '{name}' is down, but the kernel keeps it, without its links, as long as processes {how}{list}");
    (!occupants.is_empty()).then(kept)
}

/// A namespace that was taken away at once.
struct Gone {
    warning: Option<String>,
}

/// Takes away what nobody uses, as is the rule: host ends are put aside, and the kernel frees them with the namespace. None, and nothing
/// done that the other way does not take further, where something may be inside or more than plain pairs was made.
///
/// To look through all processes would take longer than all the rest. Who has no socket inside does not notice what happens to its
/// links, so they go first; if then something still holds the namespace, and a service it is, everything is put back.
fn take_away_at_once(name: &NetnsName, applied: &Netns) -> Result<Option<Gone>> {
    let is_plain = |end: &HostEnd| end.addresses.is_empty() && end.routes.is_empty();
    if !applied.links.values().all(|link| link.kind.host_end().is_some_and(is_plain)) {
        return Ok(None);
    }
    let Found::Netns(fd) = netns::find(name)? else { return Ok(None) };
    let mut host = Host::open()?;
    if netns::has_sockets(&fd, &host.netns)? {
        return Ok(None);
    }
    let Some(identity) = netns::identity(&netns::path(name)) else { return Ok(None) };
    let (mut ends, mut number) = (Vec::new(), None);
    for end in applied.links.values().filter_map(|link| link.kind.host_end()) {
        let found = netlink::link_by_name(&mut host.socket, end.name.as_str())?.filter(|found| is_host_end(found, end));
        let Some((index, netns)) = found.and_then(|found| Some((found.index, found.elsewhere?))) else { return Ok(None) };
        ends.push(index);
        number = Some(netns);
    }
    let Some(number) = number else { return Ok(None) };
    if netlink::put_aside(&mut host.socket, &ends).is_err() {
        return Ok(None);
    }
    drop(fd);
    netns::remove(name)?;
    let mut warning = None;
    if netlink::is_held(&mut host.socket, number)? {
        let mut occupants = occupants_of(&BTreeMap::from([(identity, name)]))?.remove(name).unwrap_or_default();
        if let Some(pid) = occupants.services.values().next() {
            let fd = netns::of_process(*pid)?;
            netns::name(name, &fd)?;
            converge_locked(name, applied.clone(), &fd, Reach::Whole)?;
            return Err(in_use(&occupants));
        }
        // what a process keeps would keep these, too
        netlink::remove_links(&mut host.socket, &ends).context("failed to remove host ends")?;
        if occupants.is_empty() && netlink::is_held(&mut host.socket, number)? {
            occupants.holders = occupants::holders(identity);
        }
        warning = kept(name, &occupants);
    }
    forget(name)?;
    Ok(Some(Gone { warning }))
}

/// Forgets what was applied.
fn forget(name: &NetnsName) -> Result<()> {
    dhcp::remove_resolv_conf(name)?;
    nftables::forget(name)?;
    fs::remove(&applied_path(name))
}

/// Takes away what was applied; it stays known until nothing of it is left.
fn take_away(name: &NetnsName, host: &mut Host, applied: Option<&Netns>) -> Result<()> {
    let mut failures = Failures::default();
    let emptied = applied.map_or(Ok(()), |applied| remove_links_inside(name, host, applied));
    // without its name, nobody could find what is left in it
    let removes = emptied.is_ok();
    failures.add(emptied);
    if let Some(applied) = applied {
        failures.add(remove_host_ends(name, host, applied));
    }
    if removes {
        failures.add(netns::remove(name));
    }
    if let Some(applied) = applied {
        failures.add(rename_given_back(host, applied));
    }
    failures.add(dhcp::remove_resolv_conf(name));
    if failures.is_empty() {
        failures.add(nftables::forget(name).and_then(|()| fs::remove(&applied_path(name))));
    }
    failures.result()
}

/// Removes the links that have no host end before the namespace goes, which frees them only later: a tunnel keeps its UDP port on
/// the host until then. Physical links go back to the host.
fn remove_links_inside(name: &NetnsName, host: &mut Host, applied: &Netns) -> Result<()> {
    if applied.links.values().all(|link| link.kind.host_end().is_some()) {
        return Ok(());
    }
    let Found::Netns(fd) = netns::find(name)? else { return Ok(()) };
    netns::inside(&fd, || {
        let mut inner = Socket::open()?;
        let observed = observe::observe(name, host, &mut inner, &Netns::default(), applied)?;
        let links = observed.netns.links.iter().filter(|(_, link)| link.kind.host_end().is_none());
        let changes: Vec<_> =
            links.map(|(name, link)| NetnsChange::RemoveLink { name: name.clone(), kind: Box::new(link.kind.clone()) }).collect();
        let on_host = BTreeMap::new();
        let space = Netspace { name, host, inner: &mut inner, on_host: &on_host, observed: &observed };
        inside::apply(space, &changes, &Netns::default())
    })
}

/// Gives physical links their names on the host again: from a namespace that was deleted, the kernel returns them under the names
/// that they had inside.
fn rename_given_back(host: &mut Host, applied: &Netns) -> Result<()> {
    for link in applied.links.values() {
        let (Kind::Physical { parent }, Some(mac)) = (&link.kind, link.mac) else { continue };
        // not just as an alternative name, which udev may have made of it meanwhile
        if netlink::link_by_name(&mut host.socket, parent.as_str())?.is_some_and(|found| found.name == parent.as_str()) {
            continue;
        }
        let all = netlink::links(&mut host.socket)?;
        if let Some(found) = all.iter().find(|found| found.mac == Some(mac) && found.kind.is_none()) {
            netlink::rename(&mut host.socket, found, parent).with_context(|| format!("failed to give '{parent}' its name again"))?;
        }
    }
    Ok(())
}

/// Removes the host ends that are ours: pairs that carry the name and the MAC address that we gave them, or whose other end is in
/// the namespace, under the name or with the MAC address that we gave it.
fn remove_host_ends(name: &NetnsName, host: &mut Host, applied: &Netns) -> Result<()> {
    let (mut names, mut indexes, mut inside) = (Vec::new(), Vec::new(), None);
    for (link_name, link) in &applied.links {
        let Some(end) = link.kind.host_end() else { continue };
        let found = netlink::link_by_name(&mut host.socket, end.name.as_str())?;
        if let Some(found) = found.filter(|found| is_host_end(found, end)) {
            names.push(format!("'{}'", found.name));
            indexes.push(found.index);
            continue;
        }
        for inner in inside.get_or_insert_with(|| links_inside(name)) {
            let Some(peer) = inner.peer.filter(|_| inner.name == link_name.as_str() || inner.mac == link.mac) else { continue };
            let end = netlink::link_by_index(&mut host.socket, peer)?;
            if let Some(end) = end.filter(|end| end.kind.as_deref() == Some("veth") && end.peer == Some(inner.index)) {
                names.push(format!("'{}'", end.name));
                indexes.push(end.index);
            }
        }
    }
    let failed = || format!("failed to remove host ends {}", names.join(", "));
    netlink::remove_links(&mut host.socket, &indexes).with_context(failed)
}

/// Tells whether a link is the pair that we made: of the name, by which it was found, and with the MAC address that we gave it.
fn is_host_end(found: &KernelLink, end: &HostEnd) -> bool {
    found.kind.as_deref() == Some("veth") && found.mac == end.mac
}

/// Lists the links in a namespace that lead out of it; nothing where it cannot be entered.
fn links_inside(name: &NetnsName) -> Vec<KernelLink> {
    let Ok(Found::Netns(fd)) = netns::find(name) else { return Vec::new() };
    let mut links = netns::inside(&fd, || netlink::links(&mut Socket::open()?)).unwrap_or_default();
    links.retain(|link| link.elsewhere.is_some());
    links
}

/// Finds the host ends of a namespace that is not there, by the names and MAC addresses that they are given; none while processes
/// are in it without its name.
pub fn stray_host_ends(name: &NetnsName, mut record: Netns) -> Result<Vec<(LinkName, u32)>> {
    let mut host = Host::open()?;
    resolve(name, &mut record, &mut host, &BTreeMap::new(), &Netns::default())?;
    let mut ends = Vec::new();
    for end in record.links.values().filter_map(|link| link.kind.host_end()) {
        let found = netlink::link_by_name(&mut host.socket, end.name.as_str())?;
        let found = found.filter(|found| is_host_end(found, end));
        ends.extend(found.map(|found| (end.name.clone(), found.index)));
    }
    if !ends.is_empty() && find_lost(&record)?.is_some() {
        ends.clear();
    }
    Ok(ends)
}

/// Removes a host end.
pub fn remove_host_end(name: &LinkName, index: u32) -> Result<()> {
    netlink::remove_links(&mut Socket::open()?, &[index]).with_context(|| format!("failed to remove host end '{name}'"))
}

/// Lists the ports of a bridge.
pub fn ports(bridge: &LinkName) -> Result<Vec<String>> {
    let mut socket = Socket::open()?;
    let Some(bridge) = netlink::link_by_name(&mut socket, bridge.as_str())? else { return Ok(Vec::new()) };
    Ok(netlink::links(&mut socket)?.into_iter().filter(|link| link.master == Some(bridge.index)).map(|link| link.name).collect())
}

/// Removes a bridge whose table is gone from the configuration, for networkd never deletes a device. Gives the ports that are
/// not `ours` and keep it from being removed; none if it has gone.
pub fn remove_bridge(name: &LinkName, ours: impl Fn(&LinkName) -> bool) -> Result<Vec<String>> {
    let others: Vec<String> = ports(name)?.into_iter().filter(|port| !LinkName::parse(port).is_ok_and(|port| ours(&port))).collect();
    if !others.is_empty() {
        return Ok(others);
    }
    let mut socket = Socket::open()?;
    let Some(bridge) = netlink::link_by_name(&mut socket, name.as_str())? else { return Ok(Vec::new()) };
    netlink::remove_links(&mut socket, &[bridge.index]).with_context(|| format!("failed to remove bridge '{name}'"))?;
    Ok(Vec::new())
}
