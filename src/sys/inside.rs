//! One namespace from within: what is there, making changes, waiting until it is usable.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::{
    host_end,
    netlink::{self, Batch, GROUP_LINK, KernelLink, LOOPBACK, Monitor, Numbers, Request, Side, Socket},
    ready, sysctl,
};
use crate::{
    diff::{NetnsChange, link_settings},
    model::{Address, Dad, HostEnd, Kind, Link, LinkName, Netns, Route},
};

/// How long `up` waits for a bridge that networkd or somebody else is still to make.
pub const BRIDGE_WAIT: Duration = Duration::from_secs(15);

/// How long duplicate detection waits for an answer with `dad = "wait"`, in milliseconds. The random delay before it is off in
/// every namespace (`router_solicitation_delay`, see `desired`).
const FAST_DAD_MS: u64 = 100;
/// The kernel's own value (`ND_RETRANS_TIMER`), in milliseconds.
const RFC_DAD_MS: u64 = 1000;

/// The host's side: its socket, its namespace.
#[derive(Debug)]
pub struct Host {
    pub socket: Socket,
    pub netns: OwnedFd,
}

impl Host {
    /// Opens the host's side; must be called outside of every namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open()?, netns: super::netns::host()? })
    }

    /// Waits until all the bridges exist and are up, and gives their links.
    pub fn bridges(&mut self, names: &BTreeSet<LinkName>) -> Result<BTreeMap<LinkName, KernelLink>> {
        let deadline = Instant::now() + BRIDGE_WAIT;
        let mut monitor = None;
        loop {
            let mut found = BTreeMap::new();
            let mut missing = None;
            for name in names {
                match netlink::link_by_name(&mut self.socket, name.as_str())? {
                    Some(link) if link.kind.as_deref() != Some("bridge") => bail!("link '{name}' is not a bridge"),
                    Some(link) if link.up => {
                        found.insert(name.clone(), link);
                    }
                    Some(_) => missing = missing.or(Some((name, "is down"))),
                    None => missing = missing.or(Some((name, "does not exist"))),
                }
            }
            let Some((name, why)) = missing else { return Ok(found) };
            // subscribe first and look once more, or what happens in between is missed
            let Some(monitor) = &monitor else {
                monitor = Some(Monitor::open(&[GROUP_LINK])?);
                continue;
            };
            if !Monitor::wait(&[monitor], deadline)? {
                bail!("bridge '{name}' {why}, after waiting {} s for it", BRIDGE_WAIT.as_secs());
            }
        }
    }
}

/// What is in a namespace.
#[derive(Debug, Default)]
pub struct Observed {
    pub netns: Netns,
    /// Indexes of the links.
    pub indexes: BTreeMap<LinkName, u32>,
    pub loopback_up: bool,
    /// Addresses, by the index of their link, that duplicate detection has refused. They are not in `netns`: nobody can use them.
    pub refused: Vec<(u32, Address)>,
}

/// Reads what is in the namespace of the calling thread: of links only those of `applied` and those wanted; of addresses and routes
/// only those that this tool added and those wanted. The others belong to services and admins.
pub fn observe(host: &mut Host, inner: &mut Socket, wanted: &Netns, applied: &Netns) -> Result<Observed> {
    let mut netns = Netns::default();
    let mut loopback_up = false;
    for (key, value) in &wanted.sysctl {
        let void = || sysctl::is_void(key).then(|| value.clone());
        netns.sysctl.extend(sysctl::read(key)?.or_else(void).map(|value| (key.clone(), value)));
    }
    let (mut names, mut indexes, mut ends) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for kernel in netlink::links(inner)? {
        loopback_up |= kernel.name == "lo" && kernel.up;
        let (Some("veth"), Some(peer), true) = (kernel.kind.as_deref(), kernel.peer, kernel.elsewhere) else { continue };
        let Ok(name) = LinkName::parse(&kernel.name) else { continue };
        let Some(end) = netlink::link_by_index(&mut host.socket, peer)?.filter(|end| end.peer == Some(kernel.index)) else { continue };
        let Ok(end_name) = LinkName::parse(&end.name) else { continue };
        // a service or an admin may have made pairs of its own
        let is_of = |netns: &Netns| {
            let same = |host_end: &HostEnd, link: &Link| host_end.name == end_name || link.mac == kernel.mac || host_end.mac == end.mac;
            netns.links.get(&name).is_some_and(|link| link.kind.host_end().is_some_and(|host_end| same(host_end, link)))
        };
        if !is_of(wanted) && !is_of(applied) {
            continue;
        }
        let bridge = match end.master {
            Some(master) => netlink::link_by_index(&mut host.socket, master)?.and_then(|b| LinkName::parse(&b.name).ok()),
            None => None,
        };
        let wanted = wanted.links.get(&name);
        for (key, _) in wanted.iter().flat_map(|w| link_settings(&name, w.dad, w.accept_ra)) {
            netns.sysctl.extend(sysctl::read(&key)?.map(|value| (key, value)));
        }
        let link = Link {
            up: kernel.up && end.up,
            mac: kernel.mac,
            mtu: Some(if kernel.mtu == end.mtu { kernel.mtu } else { 0 }),
            dad: wanted.map_or(Dad::default(), |w| w.dad),
            accept_ra: wanted.is_some_and(|w| w.accept_ra),
            announce: wanted.is_some_and(|w| w.announce),
            addresses: Vec::new(),
            routes: Vec::new(),
            kind: Kind::Veth(HostEnd { mac: end.mac, bridge, port: end.settings, ..HostEnd::new(end_name) }),
        };
        names.insert(kernel.index, name.clone());
        ends.insert(name.clone(), end.index);
        indexes.insert(name.clone(), kernel.index);
        netns.links.insert(name, link);
    }
    host_end::observe(&mut host.socket, &ends, &mut netns, [wanted, applied])?;
    let mut refused = Vec::new();
    for state in netlink::addresses(inner)? {
        if state.index == LOOPBACK {
            let address = state.address.canonical(&LinkName::loopback());
            if state.ours || wanted.loopback_addresses.iter().any(|a| a.canonical(&LinkName::loopback()) == address) {
                netns.loopback_addresses.push(address);
            }
            continue;
        }
        let Some(name) = names.get(&state.index) else { continue };
        let address = state.address.canonical(name);
        if state.duplicate && state.ours {
            refused.push((state.index, address));
            continue;
        }
        let is_wanted = || wanted.links.get(name).is_some_and(|l| l.addresses.iter().any(|a| a.canonical(name) == address));
        if let Some(link) = netns.links.get_mut(name).filter(|_| state.ours || is_wanted()) {
            link.addresses.push(address);
        }
    }
    for state in netlink::routes(inner)? {
        let is_in = |routes: &[Route]| state.ours || routes.iter().any(|r| r.canonical() == state.route.canonical());
        match state.index {
            None if is_in(&wanted.routes) => netns.routes.push(state.route.clone()),
            None => {}
            Some(index) => {
                let Some(name) = names.get(&index) else { continue };
                let routes = wanted.links.get(name).map(|link| link.routes.as_slice()).unwrap_or_default();
                if let Some(link) = netns.links.get_mut(name).filter(|_| is_in(routes)) {
                    link.routes.push(state.route.clone());
                }
            }
        }
    }
    if !(wanted.rules.is_empty() && applied.rules.is_empty()) {
        let rules = netlink::rules(inner)?.into_iter().filter(|state| state.ours || wanted.rules.contains(&state.rule));
        netns.rules.extend(rules.map(|state| state.rule));
    }
    Ok(Observed { netns, indexes, loopback_up, refused })
}

/// What `apply` works on: both sides, and what they have.
#[derive(Debug)]
pub struct Netspace<'a> {
    pub host: &'a mut Host,
    pub inner: &'a mut Socket,
    pub bridges: &'a BTreeMap<LinkName, KernelLink>,
    /// What `observe` found; nothing in a namespace that has just been made.
    pub observed: &'a Observed,
}

/// Makes the changes, in order, and waits until all that is desired is usable. Runs inside the namespace.
pub fn apply(space: Netspace, changes: &[NetnsChange], desired: &Netns) -> Result<()> {
    let Netspace { host, inner, bridges, observed } = space;
    let mut numbers = Numbers {
        host_netns: host.netns.as_raw_fd(),
        bridges: bridges.iter().map(|(name, link)| (name.clone(), link.index)).collect(),
        links: observed.indexes.clone(),
        host_ends: BTreeMap::new(),
        fast_dad: fast_dad(changes),
    };
    // a run that was killed may have left the timer short
    for name in observed.indexes.keys() {
        let key = format!("net.ipv6.neigh.{}.retrans_time_ms", name.as_str().replace('.', "/"));
        if sysctl::read(&key)?.is_some_and(|now| now == FAST_DAD_MS.to_string()) {
            numbers.fast_dad.insert(name.clone());
        }
    }
    let mut queue = Queue { host, inner, batch: Batch::default(), side: Side::Inside };
    for (index, address) in &observed.refused {
        queue.push(None, netlink::remove_address(*index, address))?;
    }
    let made = make_changes(&mut queue, changes, desired, &mut numbers, observed.loopback_up);
    // a failed batch may have stopped anywhere; the timers go back in any case
    queue.batch = Batch::default();
    let restored = numbers
        .fast_dad
        .iter()
        .filter_map(|name| numbers.links.get(name))
        .try_for_each(|index| queue.push(None, netlink::neighbour_timer(*index, RFC_DAD_MS)));
    let restored = restored.and_then(|()| queue.flush());
    made.and(restored)
}

fn make_changes<'a>(
    queue: &mut Queue<'a>,
    changes: &'a [NetnsChange],
    desired: &Netns,
    numbers: &mut Numbers,
    loopback_up: bool,
) -> Result<()> {
    let is_add = |change: &&NetnsChange| matches!(change, NetnsChange::AddLink { .. });
    // All new links in one batch, behind what every link takes over and what is in their way. Only then are their indexes known:
    // the kernel takes an index for the peer only where the host end is given one too, and there others may take it first.
    let goes_before = |change: &&NetnsChange| matches!(change, NetnsChange::SetSysctl { .. } | NetnsChange::RemoveLink { .. });
    let head = changes.iter().take_while(goes_before).count();
    let (head, tail) = changes.split_at(head);
    for change in head {
        queue.make(change, numbers)?;
    }
    if !loopback_up {
        queue.push(None, netlink::loopback_up())?;
    }
    for change in tail.iter().filter(is_add) {
        queue.make(change, numbers)?;
    }
    if tail.iter().any(|change| is_add(&change)) {
        queue.flush()?;
    }
    for change in tail {
        if let NetnsChange::AddLink { name, .. } = change {
            let link = netlink::link_by_name(queue.inner, name.as_str())?.with_context(|| format!("link '{name}' has gone meanwhile"))?;
            numbers.links.insert(name.clone(), link.index);
        }
    }
    numbers.host_ends = netlink::host_ends(&mut queue.host.socket, changes)?;
    for index in numbers.fast_dad.iter().filter_map(|name| numbers.links.get(name)) {
        queue.push(None, netlink::neighbour_timer(*index, FAST_DAD_MS))?;
    }
    let (late, early): (Vec<_>, Vec<_>) = tail.iter().filter(|change| !is_add(change)).partition(|change| is_late(change));
    for change in &early {
        queue.make(change, numbers)?;
    }
    queue.flush()?;
    ready::wait(queue.host, queue.inner, &ready::list(desired, numbers))?;
    for change in &late {
        queue.make(change, numbers)?;
    }
    let news: BTreeSet<&LinkName> = changes.iter().filter_map(is_news).collect();
    for (name, link) in &desired.links {
        // the port forwards now, so neighbours hear it
        if let (true, true, Some(mac), Some(index)) = (news.contains(name), link.announce, link.mac, numbers.links.get(name)) {
            queue.push(None, Request { side: Side::Inside, message: netlink::set_mac(*index, mac), flags: 0 })?;
        }
    }
    queue.flush()
}

/// The link of which neighbours should hear after a change.
fn is_news(change: &NetnsChange) -> Option<&LinkName> {
    match change {
        NetnsChange::AddLink { name, .. } | NetnsChange::SetUp { name, .. } | NetnsChange::SetMac { name, .. } => Some(name),
        NetnsChange::AddAddress { link, .. } => Some(link),
        _ => None,
    }
}

/// A route whose source address is IPv6 is refused (EINVAL) while that address is tentative.
fn is_late(change: &NetnsChange) -> bool {
    matches!(change, NetnsChange::SetRoute { route, .. } if route.source.is_some_and(|ip| ip.is_ipv6()))
}

/// Requests on their way: as many as possible go in one system call, in order, each to the socket of its side.
struct Queue<'a> {
    host: &'a mut Host,
    inner: &'a mut Socket,
    batch: Batch<Option<&'a NetnsChange>>,
    side: Side,
}

impl<'a> Queue<'a> {
    fn make(&mut self, change: &'a NetnsChange, numbers: &Numbers) -> Result<()> {
        let failed = || format!("failed to {change}");
        if let NetnsChange::SetSysctl { key, value } = change {
            self.flush()?;
            return sysctl::write(key, value);
        }
        for request in netlink::requests(change, numbers).with_context(failed)? {
            self.push(Some(change), request)?;
        }
        Ok(())
    }

    fn push(&mut self, change: Option<&'a NetnsChange>, request: Request) -> Result<()> {
        if request.side != self.side {
            self.flush()?;
            self.side = request.side;
        }
        self.batch.push(change, request.message, request.flags);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let socket = match self.side {
            Side::Inside => &mut *self.inner,
            Side::Host => &mut self.host.socket,
        };
        for (change, refusal) in socket.request(batch)? {
            let unchanged = match change {
                // somebody (a service, the kernel) was faster
                Some(
                    NetnsChange::AddAddress { .. }
                    | NetnsChange::AddHostAddress { .. }
                    | NetnsChange::SetRoute { .. }
                    | NetnsChange::AddHostRoute { .. }
                    | NetnsChange::AddRule(_),
                ) => refusal.errno == Errno::EXIST,
                Some(NetnsChange::RemoveAddress { .. } | NetnsChange::RemoveHostAddress { .. }) => refusal.errno == Errno::ADDRNOTAVAIL,
                Some(NetnsChange::RemoveRoute { .. } | NetnsChange::RemoveHostRoute { .. } | NetnsChange::RemoveRule(_)) => {
                    matches!(refusal.errno, Errno::SRCH | Errno::NOENT)
                }
                Some(NetnsChange::RemoveLink { .. }) => refusal.errno == Errno::NODEV,
                _ => false,
            };
            if !unchanged {
                let what = change.map_or_else(|| "prepare the links".to_owned(), ToString::to_string);
                return Err(refusal).with_context(|| format!("failed to {what}"));
            }
        }
        Ok(())
    }
}

/// Lists the links whose duplicate detection is shortened for the addresses that they get now: 0.1 s instead of 1-2 s. The timer
/// also paces neighbour resolution, so it is put back afterwards.
fn fast_dad(changes: &[NetnsChange]) -> BTreeSet<LinkName> {
    let links = changes.iter().filter_map(|change| match change {
        NetnsChange::AddAddress { link, address, dad: Dad::Wait, replace: false } if address.address.addr().is_ipv6() => Some(link.clone()),
        _ => None,
    });
    links.collect()
}
