//! What the kernel shows in `/proc` and `/sys` beside what netlink tells.

use std::{fs, path::Path};

use anyhow::Result;

use super::netlink;

/// Reads an attribute of a link of the host (sysfs-class-net); none where there is none.
#[must_use]
pub fn link_attribute(link: &str, attribute: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/class/net/{link}/{attribute}")).ok().map(|text| text.trim().to_owned())
}

/// Tells whether a link of the host has a folder or file in sysfs.
#[must_use]
pub fn has_link_attribute(link: &str, attribute: &str) -> bool {
    fs::metadata(format!("/sys/class/net/{link}/{attribute}")).is_ok()
}

/// Tells whether what is mounted on a path is shared with other mount namespaces; none where nothing is mounted
/// (`proc_pid_mountinfo(5)`).
#[must_use]
pub fn is_shared_mount(path: &str) -> Option<bool> {
    // the last one is on top
    fs::read_to_string("/proc/self/mountinfo").ok()?.lines().rev().find_map(|line| shared(line, path))
}

fn shared(line: &str, path: &str) -> Option<bool> {
    let fields: Vec<&str> = line.split(' ').collect();
    let end = fields.iter().position(|field| *field == "-")?;
    (*fields.get(4)? == path).then(|| fields.get(6..end).is_some_and(|optional| optional.iter().any(|field| field.starts_with("shared:"))))
}

/// Tells whether this process sees what process 1 sees, network or mounts (`net`, `mnt`); none if it may not look.
#[must_use]
pub fn shares_with_init(namespace: &str) -> Option<bool> {
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).ok();
    Some(link("self")? == link("1")?)
}

/// Counts the neighbours that all namespaces together have, by IPv4 (`arp_cache`) or IPv6 (`ndisc_cache`).
#[must_use]
pub fn neighbours(table: &str) -> Option<u64> {
    // one line for each processor, the first number of each is that of all
    let text = fs::read_to_string(format!("/proc/net/stat/{table}")).ok()?;
    u64::from_str_radix(text.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

/// Tells whether the kernel can make links of a kind; none if that cannot be told without root. It loads no module: one that could be
/// loaded is as good as one that is.
pub fn has_kind(kind: &str, is_root: bool) -> Result<Option<bool>> {
    let module = if kind == "vlan" { "8021q" } else { kind };
    if fs::metadata(format!("/sys/module/{module}")).is_ok() || is_in_modules(module) {
        return Ok(Some(true));
    }
    if !is_root {
        return Ok(None);
    }
    // what has no module is in the kernel itself or nowhere
    super::netns::scratch(&[], || netlink::knows_kind(kind)).map(Some)
}

/// Looks into the lists of modules that depmod(8) makes.
fn is_in_modules(module: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let folder = Path::new("/lib/modules").join(release.trim());
    let file = format!("/{module}.ko");
    let names = |list: &str| fs::read_to_string(folder.join(list)).is_ok_and(|text| text.contains(&file));
    names("modules.builtin") || names("modules.dep")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_shared_or_not() {
        let line = "36 35 98:0 / /run/netns rw,nosuid shared:12 master:1 - tmpfs tmpfs rw";
        assert_eq!(shared(line, "/run/netns"), Some(true));
        assert_eq!(shared(&line.replace("shared:12 ", ""), "/run/netns"), Some(false));
        assert_eq!(shared(line, "/run"), None);
        assert_eq!(shared("", "/run"), None);
    }
}
