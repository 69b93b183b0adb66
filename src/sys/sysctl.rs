//! Kernel parameters of the network namespace of the calling thread: `/proc/sys/net` shows each thread its own.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::PathBuf,
};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::fault::{self, fs};

const ROOT: &str = "/proc/sys/";

/// A dot in a key is a `/` in the path, and a `/` in a key a dot, as in sysctl(8): `net.ipv4.conf.eno1/20.arp_notify`.
fn path(key: &str) -> String {
    let mut path = String::with_capacity(ROOT.len() + key.len());
    path.push_str(ROOT);
    path.extend(key.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }));
    path
}

/// The folders of a namespace's parameters, each opened once: the kernel looks for one of them among those of all namespaces, which takes
/// it 55 µs with 1,000.
#[derive(Debug, Default)]
pub struct Parameters {
    ipv4: OnceCell<OwnedFd>,
    ipv6: OnceCell<OwnedFd>,
}

impl Parameters {
    /// Reads a parameter; none if this kernel has no such parameter. White space between values is single, as one would write it.
    pub fn read(&self, key: &str) -> Result<Option<String>> {
        read_by(key, |path| self.open(path, OFlags::RDONLY))
    }

    /// Sets a parameter.
    pub fn write(&self, key: &str, value: &str) -> Result<()> {
        write_by(key, value, |path| self.open(path, OFlags::WRONLY))
    }

    fn open(&self, path: &str, how: OFlags) -> io::Result<fs::File> {
        for (folder, cell) in [("/proc/sys/net/ipv4", &self.ipv4), ("/proc/sys/net/ipv6", &self.ipv6)] {
            let Some(rest) = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) else { continue };
            if cell.get().is_none() {
                let _ = cell.set(openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
            }
            let Some(folder) = cell.get() else { continue };
            return Ok(openat(folder, rest, how | OFlags::CLOEXEC, Mode::empty())?.into());
        }
        open(path, how)
    }
}

fn open(path: &str, how: OFlags) -> io::Result<fs::File> {
    Ok(openat(CWD, path, how | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Reads one parameter.
pub fn read(key: &str) -> Result<Option<String>> {
    read_by(key, |path| open(path, OFlags::RDONLY))
}

fn read_by(key: &str, open: impl Fn(&str) -> io::Result<fs::File>) -> Result<Option<String>> {
    let path = path(key);
    let read = || {
        let mut text = String::new();
        open(&path)?.read_to_string(&mut text).map(|_| text)
    };
    match fault::look(format_args!("read_to_string {path}"), read) {
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

/// Sets one parameter.
pub fn write(key: &str, value: &str) -> Result<()> {
    write_by(key, value, |path| open(path, OFlags::WRONLY))
}

fn write_by(key: &str, value: &str, open: impl Fn(&str) -> io::Result<fs::File>) -> Result<()> {
    // the kernel finds it sooner where it need not be ready to make a file
    let path = path(key);
    let write = || open(&path)?.write_all(value.as_bytes());
    match fault::change(format_args!("write {path}"), write) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && is_void(key) => Ok(()),
        other => other.with_context(|| format!("failed to set {key} to {value}")),
    }
}
