//! Kernel parameters of the network namespace of the calling thread: `/proc/sys/net` shows each thread its own.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, Result};

/// A dot in a key is a `/` in the path, and a `/` in a key a dot, as in sysctl(8): `net.ipv4.conf.eno1/20.arp_notify`.
fn path(key: &str) -> PathBuf {
    let path: String = key
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    PathBuf::from("/proc/sys").join(path)
}

/// Reads a parameter; none if this kernel has no such parameter. White space between values is single, as one would write it.
pub fn read(key: &str) -> Result<Option<String>> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" "))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("failed to read {key}")),
    }
}

/// Sets a parameter.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key), value).with_context(|| format!("failed to set {key} to {value}"))
}
