//! Leases: what dhcpcd reports, taken over; and the wait until a namespace has what it needs.
//!
//! dhcpcd sets addresses and routes itself. One file for each link and protocol says what it has learned.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    desired::{self, RESOLV_CONF},
    lease::{self, Event, Lease},
    model::NetnsName,
    render,
    sys::{
        bus::{self, Wait},
        fs,
        terminal::Waiting,
    },
};

/// The client, as Debian's package dhcpcd-base has it.
pub const CLIENT: &str = "/usr/sbin/dhcpcd";
/// How long the services of a namespace wait for its leases.
const LEASE_WAIT: Duration = Duration::from_secs(60);
const SUFFIX: &str = ".lease.toml";

/// What to do where there is no client.
pub const NO_CLIENT: &str = "hint: install dhcpcd: `apt install dhcpcd-base`";

/// The folder of what the client of a namespace has learned; it comes and goes with the client.
fn directory(name: &NetnsName) -> PathBuf {
    format!("/run/netns-networkd/dhcp/{name}").into()
}

/// Reads what is known, in the order in which resolvers are asked: by link, then protocol.
fn leases(name: &NetnsName) -> Result<BTreeMap<String, Lease>> {
    let mut leases = BTreeMap::new();
    for entry in fs::list(&directory(name))? {
        let file = entry.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(key) = file.strip_suffix(SUFFIX).filter(|key| !key.starts_with('.')) else { continue };
        // it may have gone meanwhile
        let Some(text) = fs::read_text(&entry.path)? else { continue };
        let lease = toml::from_str(&text).with_context(|| format!("{} is broken", entry.path.display()))?;
        leases.insert(key.to_owned(), lease);
    }
    Ok(leases)
}

/// Takes over what dhcpcd reports to its script, by the environment.
pub fn event(name: &NetnsName, env: &BTreeMap<String, String>) -> Result<()> {
    let Some(event) = lease::read_event(env) else { return Ok(()) };
    let before = leases(name)?;
    let path = |key: &str| directory(name).join(format!("{key}{SUFFIX}"));
    let routes_may_differ = match &event {
        Event::Learned { name: key, lease, renewed } => {
            let text = toml::to_string(lease).context("failed to write down a lease")?;
            fs::write_volatile(&path(key), &text)?;
            !renewed || before.get(key) != Some(lease)
        }
        Event::Lost { name: key } => {
            fs::remove_volatile(&path(key))?;
            false
        }
    };
    write_resolv_conf(name)?;
    if routes_may_differ {
        put_back_routes(name, Wait::Queued)?;
    }
    Ok(())
}

/// dhcpcd takes routes to the destinations of its own for its own, and replaces them: those of the configuration are put back, by
/// `up --live` in the unit of the namespace, which is in the host's network and has the credentials.
fn put_back_routes(name: &NetnsName, wait: Wait) -> Result<()> {
    bus::reload_unit(&format!("netns@{name}.service"), wait)
}

/// Writes what the leases say of DNS to `/etc/netns/NAME/resolv.conf`, unless somebody else's file is there.
pub fn write_resolv_conf(name: &NetnsName) -> Result<()> {
    let path = desired::etc_path(name, RESOLV_CONF);
    let before = fs::read_text(&path)?;
    let leases = leases(name)?;
    if leases.is_empty() || before.as_deref().is_some_and(|text| !lease::is_from_leases(text)) || fs::is_special(&path) {
        return Ok(());
    }
    let text = lease::resolv_conf(leases.values());
    if before.as_ref() == Some(&text) { Ok(()) } else { fs::write_in_place(&path, &text) }
}

/// Tells whether there is a `resolv.conf` that was made from leases.
pub fn has_resolv_conf(name: &NetnsName) -> Result<bool> {
    let path = desired::etc_path(name, RESOLV_CONF);
    Ok(!fs::is_special(&path) && fs::read_text(&path)?.is_some_and(|text| lease::is_from_leases(&text)))
}

/// Removes the `resolv.conf` that was made from leases.
pub fn remove_resolv_conf(name: &NetnsName) -> Result<()> {
    if !has_resolv_conf(name)? {
        return Ok(());
    }
    let path = desired::etc_path(name, RESOLV_CONF);
    fs::remove(&path)?;
    fs::remove_empty_directory(path.parent().unwrap_or(Path::new("/")))
}

/// Lists the addresses by DHCP that a namespace does not have.
pub fn missing(name: &NetnsName) -> Result<Vec<String>> {
    let Some(settings) = fs::read_text(&desired::dhcp_path(name))? else { return Ok(Vec::new()) };
    let leases = leases(name)?;
    let has = |link: &str, protocols: &[&str]| {
        protocols.iter().any(|protocol| leases.get(&format!("{link}.{protocol}")).is_some_and(|lease| lease.address))
    };
    let wants = render::dhcpcd_wants(&settings).into_iter();
    let missing = wants.filter(|(link, ipv4)| !has(link, if *ipv4 { &["dhcp"] } else { &["dhcp6", "ra"] }));
    Ok(missing.map(|(link, ipv4)| format!("link '{link}' has no address by {}", if ipv4 { "DHCP" } else { "DHCPv6" })).collect())
}

/// Waits for the leases of a namespace, for `limit`; gives what is missing then.
pub fn wait_for_leases(name: &NetnsName, limit: Duration) -> Result<Vec<String>> {
    let directory = directory(name);
    fs::create_directory(&directory)?;
    let shown = Waiting::new("leases", limit);
    fs::wait_for(&directory, Instant::now() + limit, || {
        let missing = missing(name)?;
        missing.iter().take(1).for_each(|what| shown.is_for(what));
        Ok(missing.is_empty())
    })?;
    missing(name)
}

/// What to do where none comes.
#[must_use]
pub fn look_at_client(name: &NetnsName) -> String {
    format!("does a server answer on that network? `journalctl -b -u netns-dhcp@{name}` shows what was asked")
}

/// Waits until a namespace has all addresses that it is to get by DHCP, and everything else of its own.
pub fn online(name: &NetnsName) -> Result<()> {
    if !fs::exists(&desired::dhcp_path(name)) {
        let record = desired::record_path(name);
        return if fs::exists(&record) { Ok(()) } else { Err(super::netns::unknown(name, &record)) };
    }
    if !fs::exists(Path::new(CLIENT)) {
        return Err(anyhow!("netns '{name}' gets addresses by DHCP, and there is no {CLIENT}")).context(NO_CLIENT);
    }
    if let Some(missing) = wait_for_leases(name, LEASE_WAIT)?.first() {
        return Err(anyhow!("netns '{name}': {missing}, after waiting {} s for it", LEASE_WAIT.as_secs()))
            .context(format!("hint: {}", look_at_client(name)));
    }
    put_back_routes(name, Wait::Done)
}
