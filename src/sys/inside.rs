//! One namespace from within: making changes, waiting until it is usable.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow};
use rustix::io::Errno;

use super::{
    netlink::{self, Batch, GROUP_LINK, KernelLink, Monitor, Numbers, Request, Side, Socket},
    nftables,
    observe::Observed,
    ready,
    sysctl::Parameters,
    terminal::Waiting,
    wireguard,
};
use crate::{
    diff::NetnsChange,
    error::About,
    model::{Dad, Kind, LinkName, Need, Netns, NetnsName, Subject},
};

/// How long `up` waits for a bridge or parent that networkd or somebody else is still to make.
pub const LINK_WAIT: Duration = Duration::from_secs(15);

/// How long duplicate detection waits for an answer with `dad = "wait"`, in milliseconds. The random delay before it is off in
/// every namespace (`router_solicitation_delay`, see `desired`).
const FAST_DAD_MS: u64 = 100;
/// Where the search for an index begins that a link which is made from the host can have.
const FIRST_SPARE: u32 = 1000;
/// A macvlan goes with its namespace, and that only with the last process inside.
const MAC_IN_USE: &str =
    "hint: a macvlan with the same MAC address is on that link already, perhaps in a namespace that a process still keeps: `lsns -t net`";
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

    /// Waits until the links that are needed on the host are there, and gives them.
    pub fn links(&mut self, needs: &BTreeMap<LinkName, Need>) -> Result<BTreeMap<LinkName, KernelLink>> {
        let deadline = Instant::now() + LINK_WAIT;
        let mut monitor = None;
        loop {
            let mut found = BTreeMap::new();
            let mut missing = None;
            for (name, need) in needs {
                let about = |error: Error| Err(About::link(Subject::OnHost(name.clone()), error));
                match netlink::link_by_name(&mut self.socket, name.as_str())? {
                    Some(link) if *need == Need::Bridge && link.kind.as_deref() != Some("bridge") => {
                        return about(anyhow!("link '{name}' is not a bridge"));
                    }
                    Some(link) if *need == Need::There && link.name != name.as_str() => {
                        return about(anyhow!("{}", other_name(name, &link.name)));
                    }
                    Some(link) if link.up || *need == Need::There => {
                        found.insert(name.clone(), link);
                    }
                    Some(_) => missing = missing.or(Some((name, need, "is down"))),
                    None => missing = missing.or(Some((name, need, "does not exist"))),
                }
            }
            let Some((name, need, why)) = missing else { return Ok(found) };
            // subscribe first and look once more, or what happens in between is missed
            let what = if *need == Need::Bridge { "bridge" } else { "link" };
            let Some((monitor, _waiting)) = &monitor else {
                monitor = Some((Monitor::open(&[GROUP_LINK])?, Waiting::new(format!("{what} '{name}' {why}"), LINK_WAIT)));
                continue;
            };
            if !Monitor::wait(&[monitor], deadline)? {
                let error = anyhow!("{what} '{name}' {why}, after waiting {} s for it", LINK_WAIT.as_secs());
                return Err(About::link(Subject::OnHost(name.clone()), error));
            }
        }
    }
}

/// Says why a link cannot be given away by an alternative name.
#[must_use]
pub fn other_name(name: &LinkName, own: &str) -> String {
    format!("'{name}' is only another name of link '{own}', and the kernel gives a link back by its own\n  hint: write parent = \"{own}\"")
}

/// What `apply` works on: both sides, and what they have.
#[derive(Debug)]
pub struct Netspace<'a> {
    pub name: &'a NetnsName,
    pub host: &'a mut Host,
    pub inner: &'a mut Socket,
    /// Bridges and parents.
    pub on_host: &'a BTreeMap<LinkName, KernelLink>,
    /// What `observe` found; nothing in a namespace that has just been made.
    pub observed: &'a Observed,
}

/// Makes the changes, in order, and waits until all that is desired is usable. Runs inside the namespace.
pub fn apply<'a>(space: Netspace<'a>, changes: &'a [NetnsChange], desired: &'a Netns) -> Result<()> {
    let Netspace { name, host, inner, on_host, observed } = space;
    let inner_netns = changes.iter().any(needs_inner_netns).then(super::netns::current).transpose()?;
    let mut numbers = Numbers {
        host_netns: host.netns.as_raw_fd(),
        inner_netns: inner_netns.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        on_host: on_host.iter().map(|(name, link)| (name.clone(), link.index)).collect(),
        hardware: observed.hardware.clone(),
        links: observed.indexes.clone(),
        spare: BTreeMap::new(),
        host_ends: BTreeMap::new(),
        fast_dad: fast_dad(changes),
    };
    let parameters = Parameters::default();
    // a run that was killed may have left the timer short
    for name in observed.indexes.keys() {
        let key = format!("net.ipv6.neigh.{}.retrans_time_ms", name.as_str().replace('.', "/"));
        if parameters.read(&key)?.is_some_and(|now| now == FAST_DAD_MS.to_string()) {
            numbers.fast_dad.insert(name.clone());
        }
    }
    let new = !observed.loopback_up;
    let ruleset = Box::new(|| nftables::set(name, desired, new));
    let mut queue = Queue { host, inner, before: &observed.netns, ruleset, parameters, batch: Batch::default(), side: Side::Inside };
    for (index, address) in &observed.refused {
        queue.push(What::Other(format!("remove address {address}, which somebody else uses")), netlink::remove_address(*index, address))?;
    }
    for index in &observed.marked {
        queue.push(What::Other(format!("keep the host end with index {index}")), netlink::unmark(*index))?;
    }
    let made = make_changes(&mut queue, changes, desired, &mut numbers, observed.loopback_up);
    // a failed batch may have stopped anywhere; the timers go back in any case
    queue.batch = Batch::default();
    let restored = numbers
        .fast_dad
        .iter()
        .filter_map(|name| Some((name, numbers.links.get(name)?)))
        .try_for_each(|(name, index)| queue.push(What::neighbour_timer(name), netlink::neighbour_timer(*index, RFC_DAD_MS)));
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
    let goes_before = |change: &&NetnsChange| {
        use NetnsChange::{Name, RemoveLink, RenameHostEnd, RenameLink, SetSysctl};
        matches!(change, Name | RenameLink { .. } | RenameHostEnd { .. } | SetSysctl { .. } | RemoveLink { .. })
    };
    let head = changes.iter().take_while(goes_before).count();
    let (head, tail) = changes.split_at(head);
    for change in head {
        queue.make(change, numbers)?;
    }
    if !loopback_up {
        queue.push(What::Other("set link 'lo' up".to_owned()), netlink::loopback_up())?;
    }
    for change in tail.iter().filter(is_add) {
        if let NetnsChange::AddLink { name, link } = change
            && matches!(link.kind, Kind::Macvlan { .. } | Kind::Ipvlan { .. } | Kind::Wireguard(_))
        {
            // far from those that the kernel gives to the others of this batch
            let from = numbers.spare.values().max().map_or(FIRST_SPARE, |last| last + 1);
            numbers.spare.insert(name.clone(), netlink::spare_index(&mut queue.host.socket, queue.inner, from)?);
        }
        queue.make(change, numbers)?;
    }
    if tail.iter().any(|change| is_add(&change)) {
        queue.flush()?;
    }
    for change in tail {
        if let NetnsChange::AddLink { name, .. } = change {
            let index = queue.inner.index_of(name.as_str())?.with_context(|| format!("link '{name}' has gone meanwhile"))?;
            numbers.links.insert(name.clone(), index);
        }
    }
    numbers.host_ends = netlink::host_ends(&mut queue.host.socket, changes)?;
    for (name, index) in numbers.fast_dad.iter().filter_map(|name| Some((name, numbers.links.get(name)?))) {
        queue.push(What::neighbour_timer(name), netlink::neighbour_timer(*index, FAST_DAD_MS))?;
    }
    // what goes, goes when what replaces it is usable
    let removals = tail.iter().rev().take_while(|change| is_removal(change)).count();
    let late = tail.iter().position(is_late).unwrap_or(tail.len() - removals);
    let (early, late) = tail.split_at(late);
    for change in early.iter().filter(|change| !is_add(change)) {
        queue.make(change, numbers)?;
    }
    queue.flush()?;
    ready::wait(queue.host, queue.inner, &ready::list(desired, numbers))?;
    for change in late {
        queue.make(change, numbers)?;
    }
    let news: BTreeSet<&LinkName> = changes.iter().filter_map(is_news).collect();
    for (name, link) in &desired.links {
        // the port forwards now, so neighbours hear it
        if let (true, true, Some(mac), Some(index)) = (news.contains(name), link.announce, link.mac, numbers.links.get(name)) {
            let announce = What::Other(format!("announce link '{name}' to its neighbours"));
            queue.push(announce, Request { side: Side::Inside, message: netlink::set_mac(*index, mac), flags: 0 })?;
        }
    }
    queue.flush()
}

/// Tells whether a link comes from the host, which has to know where to.
fn needs_inner_netns(change: &NetnsChange) -> bool {
    matches!(change, NetnsChange::AddLink { link, .. } if link.kind.host_end().is_none())
}

/// The link of which neighbours should hear after a change.
fn is_news(change: &NetnsChange) -> Option<&LinkName> {
    match change {
        NetnsChange::AddLink { name, .. } | NetnsChange::SetUp { name, .. } | NetnsChange::SetMac { name, .. } => Some(name),
        NetnsChange::AddAddress { link, .. } => Some(link),
        NetnsChange::ReplaceAddress { link, before, after } if before != after => Some(link),
        _ => None,
    }
}

fn is_removal(change: &NetnsChange) -> bool {
    matches!(
        change,
        NetnsChange::RemoveLink { .. }
            | NetnsChange::RemoveAddress { .. }
            | NetnsChange::RemoveHostAddress { .. }
            | NetnsChange::RemoveRoute { .. }
            | NetnsChange::RemoveRule(_)
    )
}

/// A route whose source address is IPv6 is refused (EINVAL) while that address is tentative.
fn is_late(change: &NetnsChange) -> bool {
    matches!(change, NetnsChange::SetRoute { route, .. } if route.source.is_some_and(|ip| ip.is_ipv6()))
}

/// What a request is for.
#[derive(Clone)]
enum What<'a> {
    Change(&'a NetnsChange),
    /// Part of no change that anybody asked for.
    Other(String),
}

impl What<'_> {
    fn neighbour_timer(link: &LinkName) -> Self {
        Self::Other(format!("set the neighbour timer of link '{link}'"))
    }
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => write!(f, "{change}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// Requests on their way: as many as possible go in one system call, in order, each to the socket of its side.
struct Queue<'a> {
    host: &'a mut Host,
    inner: &'a mut Socket,
    before: &'a Netns,
    ruleset: Box<dyn Fn() -> Result<()> + 'a>,
    parameters: Parameters,
    batch: Batch<What<'a>>,
    side: Side,
}

impl<'a> Queue<'a> {
    fn make(&mut self, change: &'a NetnsChange, numbers: &Numbers) -> Result<()> {
        let failed = |error| failed(change, error);
        if let NetnsChange::SetSysctl { key, value } = change {
            self.flush()?;
            return self.parameters.write(key, value);
        }
        if let NetnsChange::SetRuleset { .. } = change {
            self.flush()?;
            return (self.ruleset)().map_err(failed);
        }
        if let NetnsChange::SetWireguard { name, wireguard } = change {
            self.flush()?;
            let before = self.before.links.get(name).and_then(|link| link.kind.wireguard()).cloned().unwrap_or_default();
            return numbers.link(name).and_then(|index| wireguard::set(index, &before, wireguard)).map_err(failed);
        }
        if let NetnsChange::RenameLink { name, .. } = change {
            self.flush()?;
            return numbers.link(name).and_then(|index| netlink::rename_back(self.inner, index, name)).map_err(failed);
        }
        if let NetnsChange::RenameHostEnd { host_end, called } = change {
            self.flush()?;
            let socket = &mut self.host.socket;
            let found =
                netlink::link_by_name(socket, called.as_str())?.with_context(|| format!("host end '{called}' has gone meanwhile"))?;
            return netlink::rename_back(socket, found.index, host_end).map_err(failed);
        }
        for request in netlink::requests(change, numbers).map_err(failed)? {
            let taken = if let NetnsChange::ReplaceAddress { .. } = change { netlink::added_ipv6(&request) } else { None };
            self.push(What::Change(change), request)?;
            if let Some((index, ip)) = taken {
                self.flush()?;
                ready::wait_until_taken(self.inner, index, ip).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn push(&mut self, what: What<'a>, request: Request) -> Result<()> {
        if request.side != self.side {
            self.flush()?;
            self.side = request.side;
        }
        self.batch.push(what, request.message, request.flags);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Some(first) = batch.whats().next().cloned() else { return Ok(()) };
        let more = batch.whats().len() - 1;
        let unanswered =
            || if more == 0 { format!("failed to {first}") } else { format!("failed to {first}, sent with {more} more requests") };
        let socket = match self.side {
            Side::Inside => &mut *self.inner,
            Side::Host => &mut self.host.socket,
        };
        for (what, refusal) in socket.request(batch).with_context(unanswered)? {
            let What::Change(change) = what else { return Err(refusal).with_context(|| format!("failed to {what}")) };
            let unchanged = match change {
                // somebody (a service, the kernel) was faster
                NetnsChange::AddAddress { .. }
                | NetnsChange::AddHostAddress { .. }
                | NetnsChange::SetRoute { .. }
                | NetnsChange::AddHostRoute { .. }
                | NetnsChange::AddRule(_) => refusal.errno == Errno::EXIST,
                NetnsChange::ReplaceAddress { .. } => matches!(refusal.errno, Errno::EXIST | Errno::ADDRNOTAVAIL),
                NetnsChange::RemoveAddress { .. } | NetnsChange::RemoveHostAddress { .. } => refusal.errno == Errno::ADDRNOTAVAIL,
                NetnsChange::RemoveRoute { .. } | NetnsChange::RemoveHostRoute { .. } | NetnsChange::RemoveRule(_) => {
                    matches!(refusal.errno, Errno::SRCH | Errno::NOENT)
                }
                NetnsChange::RemoveLink { .. } => refusal.errno == Errno::NODEV,
                _ => false,
            };
            if !unchanged {
                let hint = match change {
                    _ if refusal.errno != Errno::ADDRINUSE => None,
                    NetnsChange::AddLink { link, .. } if matches!(link.kind, Kind::Macvlan { .. }) => Some(MAC_IN_USE),
                    _ => Some(wireguard::PORT_IN_USE),
                };
                let error = Error::from(refusal);
                return Err(failed(change, hint.into_iter().fold(error, Error::context)));
            }
        }
        Ok(())
    }
}

/// Says what failed, and which link that is about.
fn failed(change: &NetnsChange, error: Error) -> Error {
    let inside = change.link().cloned().map(Subject::Inside);
    let error = match inside.or_else(|| change.host_end().cloned().map(Subject::OnHost)) {
        Some(subject) => About::link(subject, error),
        None => error,
    };
    error.context(format!("failed to {change}"))
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
