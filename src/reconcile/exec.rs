//! `exec`: a namespace brought up if need be, kept up by a scope of systemd's, and entered.
//!
//! A scope and not `netns-hold@`: it ends with the process that is in it, however that ends, and several at once do not end each
//! other's.

use anyhow::{Context, Result, anyhow};

use super::{host, netns, status::unknown_name};
use crate::{
    desired::etc_path,
    error::{self, Usage},
    model::NetnsName,
    sys::{
        bus::Bus,
        enter, fs,
        netns::{Found, find},
    },
};

/// Moves this process into a namespace for good; gives what a person should know.
pub fn enter(name: &NetnsName) -> Result<Vec<String>> {
    let failed = || format!("failed to enter netns '{name}'");
    if !fs::is_root() {
        return Err(anyhow!("only root can do this")).with_context(failed);
    }
    if netns::read_record(name)?.is_none() && netns::read_applied(name)?.is_none() {
        if !matches!(find(name)?, Found::Netns(_)) {
            return Err(Usage(vec![unknown_name(name, host::names().keys())]).into());
        }
        return Err(anyhow!("it was not made by netns-networkd"))
            .context(format!("hint: `ip netns exec {name}` enters it"))
            .with_context(failed);
    }
    let mut warnings = Vec::new();
    let unit = format!("netns@{name}.service");
    match Bus::connect() {
        Ok(bus) => {
            bus.start_scope(&format!("netns-exec-{name}"), &format!("Command in network namespace {name}"), &unit)
                .context(format!("hint: `journalctl -b -u {unit}` shows why it does not come up"))
                .with_context(failed)?;
        }
        // it may be up all the same
        Err(error) => warnings.push(format!("nothing keeps netns '{name}' up for this command: {}", error::render(&error))),
    }
    let Found::Netns(fd) = find(name)? else {
        return Err(anyhow!("it is not up")).context(format!("hint: `systemctl status {unit}`")).with_context(failed);
    };
    let entries = fs::list(&etc_path(name, ""))?.into_iter().map(|entry| entry.path);
    let visible: Vec<_> = entries.filter(|path| !path.file_name().is_some_and(|file| file.to_string_lossy().starts_with('.'))).collect();
    warnings.extend(enter::enter(&fd, &visible).with_context(failed)?);
    Ok(warnings)
}
