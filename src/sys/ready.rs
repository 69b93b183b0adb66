//! When a namespace is ready: its addresses can be used, and its host ends forward in their bridges.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use ipnet::IpNet;

use super::{
    inside::Host,
    netlink::{self, GROUP_IPV6_ADDRESS, GROUP_IPV6_ROUTE, GROUP_LINK, Monitor, Numbers, PortState, Socket},
    terminal::Waiting,
};
use crate::{
    error::About,
    model::{Dad, LinkName, Netns, Subject},
};

/// How long `up` waits until addresses are usable and ports forward: with spanning tree a port listens and learns for twice the
/// forward delay, 30 s, before it forwards.
pub const READY_WAIT: Duration = Duration::from_secs(40);

/// What must be usable before `up` returns.
#[derive(Debug, Default)]
pub struct List {
    /// IPv6 addresses by link index; IPv4 has no duplicate detection in the kernel.
    addresses: Vec<(u32, LinkName, IpNet)>,
    /// Host ends that are bridge ports.
    ports: Vec<(LinkName, LinkName)>,
}

/// Lists what a namespace needs before its services can start.
#[must_use]
pub fn list(desired: &Netns, numbers: &Numbers) -> List {
    let mut list = List::default();
    for (name, link) in &desired.links {
        let port = link.kind.host_end().and_then(|end| Some((end.name.clone(), end.bridge.clone()?)));
        list.ports.extend(port);
        let waits = matches!(link.dad, Dad::Wait | Dad::Rfc);
        if let Some(index) = numbers.links.get(name).filter(|_| waits) {
            let ipv6 = link.addresses.iter().map(|a| a.address).filter(|a| a.addr().is_ipv6());
            list.addresses.extend(ipv6.map(|address| (*index, name.clone(), address)));
        }
    }
    list
}

/// Waits until packets to an IPv6 address of a link are taken.
pub fn wait_until_taken(inner: &mut Socket, index: u32, ip: Ipv6Addr) -> Result<()> {
    let deadline = Instant::now() + READY_WAIT;
    let monitor = Monitor::open(&[GROUP_IPV6_ROUTE])?;
    while !netlink::is_taken(inner, index, ip)? {
        if !Monitor::wait(&[&monitor], deadline)? {
            bail!("address {ip} is not usable, after waiting {} s for it", READY_WAIT.as_secs());
        }
    }
    Ok(())
}

/// Waits until everything on the list is usable.
pub fn wait(host: &mut Host, inner: &mut Socket, list: &List) -> Result<()> {
    if list.addresses.is_empty() && list.ports.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + READY_WAIT;
    let mut monitors: Option<(Monitor, Monitor, Waiting)> = None;
    loop {
        let Some((subject, waiting)) = not_ready(host, inner, list)? else { return Ok(()) };
        // subscribe first and look once more, or what happens in between is missed
        let Some((here, there, shown)) = &monitors else {
            let there = super::netns::inside(&host.netns, || Monitor::open(&[GROUP_LINK]))?;
            monitors = Some((Monitor::open(&[GROUP_IPV6_ADDRESS])?, there, Waiting::new(&waiting, READY_WAIT)));
            continue;
        };
        shown.is_for(&waiting);
        if !Monitor::wait(&[here, there], deadline)? {
            return Err(About::link(subject, anyhow!("{waiting}, after waiting {} s for it", READY_WAIT.as_secs())));
        }
    }
}

/// Names the first thing that is not usable yet; none if all are. A duplicate address is an error at once.
fn not_ready(host: &mut Host, inner: &mut Socket, list: &List) -> Result<Option<(Subject, String)>> {
    for (port, bridge) in &list.ports {
        let subject = Subject::OnHost(port.clone());
        let Some(link) = netlink::link_by_name(&mut host.socket, port.as_str())? else {
            return Err(About::link(subject, anyhow!("host end '{port}' has gone")));
        };
        match link.port {
            Some(PortState::Forwarding) => {}
            Some(PortState::Not) => return Ok(Some((subject, format!("host end '{port}' does not forward frames in bridge '{bridge}'")))),
            None => return Ok(Some((subject, format!("host end '{port}' is not a port of bridge '{bridge}'")))),
        }
    }
    if list.addresses.is_empty() {
        return Ok(None);
    }
    let states = netlink::addresses(inner)?;
    for (index, link, address) in &list.addresses {
        let subject = Subject::Inside(link.clone());
        let Some(state) = states.iter().find(|s| s.index == *index && s.address.address == *address) else {
            return Err(About::link(subject, anyhow!("address {address} has gone from link '{link}'")));
        };
        if state.duplicate {
            let error = anyhow!("address {address} of link '{link}' is used by somebody else on its network (duplicate address detection)");
            let hint =
                format!("hint: `ip -6 neigh show {}` on another host of that network shows the MAC address of who has it", address.addr());
            return Err(About::link(subject, error.context(hint)));
        }
        if state.tentative {
            return Ok(Some((subject, format!("address {address} of link '{link}' is still being checked for duplicates"))));
        }
    }
    Ok(None)
}
