//! This process, moved into a namespace for good, with the namespace's files under `/etc`: what `exec` does before it becomes the
//! command.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive, mount_change, move_mount, open_tree,
    },
    thread::{LinkNameSpaceType, UnshareFlags},
};

use super::netns;

/// Where systemd-resolved has its sockets, and what the host's `resolv.conf` may be a link to.
const RESOLVED: &str = "/run/systemd/resolve";
/// Where the name service cache has its socket.
const NSCD: &str = "/run/nscd";

/// Moves this process into a namespace, and into a mount namespace of its own where the entries of `etc` are in place of those of
/// `/etc` and `/sys` is that of the namespace, as with `ip netns exec`. Gives what could not be bound, and why.
///
/// With a `resolv.conf`, the host's resolvers are hidden, as they are from services.
pub fn enter(netns: &OwnedFd, etc: &[PathBuf]) -> Result<Vec<String>> {
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .context("failed to enter the network namespace")?;
    netns::unshare(UnshareFlags::NEWNS).context("failed to make a mount namespace")?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).context("failed to keep mounts to this command")?;
    let mut left_out: Vec<String> = own_sys().err().map(|e| format!("/sys shows the host's links: {e:#}")).into_iter().collect();
    if etc.iter().any(|entry| entry.ends_with("resolv.conf")) {
        for folder in [RESOLVED, NSCD].into_iter().filter(|folder| Path::new(folder).is_dir()) {
            mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, c"mode=0755")
                .with_context(|| format!("failed to hide {folder}"))?;
        }
    }
    for source in etc {
        let target = Path::new("/etc").join(source.file_name().unwrap_or_default());
        let bind = || -> io::Result<()> {
            if target.ends_with("resolv.conf") {
                make_resolv_conf(&target)?;
            }
            Ok(mount_bind_recursive(source, &target)?)
        };
        left_out.extend(bind().err().map(|e| format!("{} is not seen as {}: {e}", source.display(), target.display())));
    }
    Ok(left_out)
}

/// Makes an empty file where `/etc/resolv.conf` leads to, if there is none: systemd does the same for services.
fn make_resolv_conf(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if let Ok(link) = fs::read_link(path) {
        // a relative link starts from /etc
        let target = Path::new("/etc").join(link);
        fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// Mounts a new `/sys`, which shows the links of the network namespace of whoever mounts it, with what is mounted below the old
/// one (control groups, above all).
fn own_sys() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read /proc/self/mountinfo")?;
    // in a container, parts of the old one may be mounted on their own; those are what is replaced
    let is_old = |line: &str| line.rsplit_once(" - ").is_some_and(|(_, kind)| kind.starts_with("sysfs "));
    let below = |line: &str| line.split(' ').nth(4).filter(|path| path.starts_with("/sys/") && !is_old(line)).map(PathBuf::from);
    let mut kept: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for path in mounts.lines().filter_map(below) {
        let within = kept.iter().any(|(kept, _)| path.starts_with(kept));
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        // one that is hidden by another cannot be kept
        if let Some(tree) = open_tree(rustix::fs::CWD, &path, flags).ok().filter(|_| !within) {
            kept.push((path, tree));
        }
    }
    mount("sysfs", "/sys", "sysfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None).context("failed to mount it")?;
    for (path, tree) in kept {
        // a folder of a link of the host is not in the new one
        let _ = move_mount(tree.as_fd(), "", rustix::fs::CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    }
    Ok(())
}

/// Becomes a command; comes back only if that fails, with the exit code that shells give then.
#[must_use]
pub fn become_command(command: &[String]) -> (anyhow::Error, u8) {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    (anyhow::Error::new(error).context(format!("failed to run {}", command[0])), code)
}
