//! Links of the host as they were before a change. networkd knows what its files say; what ifupdown, an admin or a router gave a
//! link, it takes away when the link becomes a port, and does not put back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{host, sync::Event};
use crate::{
    desired::networkd_path,
    model::{HostLink, LinkName, Port},
    sys::{
        bus::Bus,
        netlink::{self, GROUP_IPV6_ADDRESS, GROUP_LINK, Kept, Monitor, Socket},
        sysctl,
    },
};

/// How long networkd may be at work on a link whose file has gone. As long as for everything else that it does after a reload.
const NETWORKD_WAIT: Duration = Duration::from_secs(10);
/// How long addresses may take to be usable, which routes wait for: duplicate detection takes up to 2 s.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);
/// How often to ask networkd, which sends no netlink message when it lets go.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a link was beside what the diff knows of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerLink {
    index: u32,
    up: bool,
    /// The bridge that it was a port of, where that is somebody else's, and its settings there.
    bridge: Option<LinkName>,
    port: Port,
    parameters: BTreeMap<String, String>,
    kept: Vec<Kept>,
}

/// Looks at links before they are changed; `is_ours` tells of bridges.
pub fn keep(links: &BTreeMap<LinkName, HostLink>, is_ours: impl Fn(&LinkName) -> bool) -> Result<BTreeMap<LinkName, FormerLink>> {
    let mut socket = Socket::open()?;
    let mut former = BTreeMap::new();
    for (name, link) in links {
        let Some(found) = netlink::link_by_name(&mut socket, name.as_str())? else { continue };
        let link = FormerLink {
            index: found.index,
            up: found.up,
            bridge: link.master.clone().filter(|bridge| !is_ours(bridge)),
            port: Port { vlans: link.vlans.clone(), ..found.settings },
            parameters: sysctl::of_link(name.as_str())?,
            kept: netlink::keep(&mut socket, found.index)?,
        };
        former.insert(name.clone(), link);
    }
    Ok(former)
}

/// Puts back what is missing of links, when networkd has done its part. Gives what cannot be put back, and why.
pub fn put_back(bus: &Bus, former: &BTreeMap<LinkName, FormerLink>, tell: &mut dyn FnMut(Event)) -> Result<Vec<String>> {
    wait_for_networkd(bus, former)?;
    let mut failed = Vec::new();
    let mut try_to = |result: Result<()>, done: String, tell: &mut dyn FnMut(Event)| match result {
        Ok(()) => tell(Event::Done(done)),
        Err(error) => failed.push(crate::error::render(&error)),
    };
    let mut socket = Socket::open()?;
    for (name, link) in former {
        let Some(found) = netlink::link_by_name(&mut socket, name.as_str())? else { continue };
        if let Some(bridge) = &link.bridge {
            let master = found.master.map(|index| netlink::link_by_index(&mut socket, index)).transpose()?.flatten();
            if master.is_none_or(|master| master.name != bridge.as_str()) {
                let result = netlink::put_on_bridge(&mut socket, name, bridge, &link.port);
                try_to(result, format!("put link '{name}' on bridge '{bridge}' again"), tell);
            }
        }
        let now = sysctl::of_link(name.as_str())?;
        // before addresses: an IPv6 address needs IPv6
        for (key, value) in link.parameters.iter().filter(|(key, value)| now.get(*key) != Some(*value)) {
            try_to(sysctl::write(key, value), format!("set {key} to {value}"), tell);
        }
        if found.up && !link.up && found.master.is_none() {
            try_to(netlink::set_down(&mut socket, name), format!("set link '{name}' down"), tell);
        }
    }
    failed.extend(put_back_addresses(&mut socket, former, tell)?);
    Ok(failed)
}

/// Routes may need others, or an address that is still being checked: what the kernel refuses is tried again when something changes.
fn put_back_addresses(socket: &mut Socket, former: &BTreeMap<LinkName, FormerLink>, tell: &mut dyn FnMut(Event)) -> Result<Vec<String>> {
    let deadline = Instant::now() + ADDRESS_WAIT;
    let monitor = Monitor::open(&[GROUP_LINK, GROUP_IPV6_ADDRESS])?;
    loop {
        let (mut progress, mut failed) = (false, Vec::new());
        for (name, link) in former {
            let Some(found) = netlink::link_by_name(socket, name.as_str())? else { continue };
            let (done, refused) = netlink::give_back(socket, &found, link.index, &link.kept)?;
            progress |= !done.is_empty();
            done.into_iter().for_each(|line| tell(Event::Done(line)));
            failed.extend(refused);
        }
        if failed.is_empty() || (!progress && !Monitor::wait(&[&monitor], deadline)?) {
            return Ok(failed);
        }
    }
}

/// Waits until networkd has let go of links whose files have gone, and has set up those for which it has another.
fn wait_for_networkd(bus: &Bus, former: &BTreeMap<LinkName, FormerLink>) -> Result<()> {
    let deadline = Instant::now() + NETWORKD_WAIT;
    let monitor = Monitor::open(&[GROUP_LINK])?;
    let is_busy = |name: &LinkName| {
        let gone = |file: std::path::PathBuf| !crate::sys::fs::exists(&file) && file == networkd_path("uplink", name, "network");
        host::is_configuring(bus, name) || host::network_file(bus, name).is_some_and(gone)
    };
    while former.keys().any(is_busy) && Instant::now() < deadline {
        Monitor::wait(&[&monitor], Instant::now() + LOOK_AGAIN)?;
    }
    Ok(())
}
