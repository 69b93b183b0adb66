//! Kernel parameters of the network namespace of the calling thread: `/proc/sys/net` shows each thread its own.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};

use super::fault::{self, fs};

const ROOT: &str = "/proc/sys/";

/// A dot in a key is a `/` in the path, and a `/` in a key a dot, as in sysctl(8): `net.ipv4.conf.eno1/20.arp_notify`.
fn path(key: &str) -> PathBuf {
    let mut path = String::with_capacity(ROOT.len() + key.len());
    path.push_str(ROOT);
    path.extend(key.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }));
    path.into()
}

/// Reads a parameter; none if this kernel has no such parameter. White space between values is single, as one would write it.
pub fn read(key: &str) -> Result<Option<String>> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" "))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("failed to read {key}")),
    }
}

/// Gives the parameter whose value a parameter of a new link begins with.
#[must_use]
pub fn default_of(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts[..] {
        [net, family, table, _, ref rest @ ..] if !rest.is_empty() => Some([&[net, family, table, "default"], rest].concat().join(".")),
        _ => None,
    }
}

/// Reads the parameters of a link, those left out that nobody has set and the kernel does not show.
pub fn of_link(link: &str) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        for entry in super::fs::list(&PathBuf::from(format!("/proc/sys/net/{family}/conf/{link}")))? {
            let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // a dot in a link's name is a slash in a key
            let key = format!("net.{family}.conf.{}.{name}", link.replace('.', "/"));
            values.extend(read(&key).ok().flatten().map(|value| (key, value)));
        }
    }
    Ok(values)
}

/// Tells whether a parameter is IPv6's on a kernel without IPv6 (`ipv6.disable=1`): then it holds whatever is wanted.
#[must_use]
pub fn is_void(key: &str) -> bool {
    key.starts_with("net.ipv6.") && fs::metadata("/proc/sys/net/ipv6/conf").is_err()
}

/// Sets a parameter.
pub fn write(key: &str, value: &str) -> Result<()> {
    // the kernel finds it sooner where it need not be ready to make a file
    let path = path(key);
    let write = || -> io::Result<()> { fs::OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes()) };
    match fault::change(format_args!("write {}", path.display()), write) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && is_void(key) => Ok(()),
        other => other.with_context(|| format!("failed to set {key} to {value}")),
    }
}
