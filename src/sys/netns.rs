//! Named network namespaces as iproute2 makes them: a file in `/run/netns` with the namespace mounted on it.
//!
//! No thread that anything else runs on ever changes its namespace: work inside is done on a thread of its own.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use rustix::{
    fs::fstatfs,
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount},
    thread::{LinkNameSpaceType, UnshareFlags},
};

use super::{
    fault::{
        self,
        fs::{self, File, OpenOptions},
    },
    netlink::{self, Socket},
};
use crate::model::{LinkName, NetnsName, Place};

/// Where named namespaces are, for `ip netns` and `NetworkNamespacePath=` alike.
pub const DIRECTORY: &str = "/run/netns";

/// Gives the path of a named namespace.
#[must_use]
pub fn path(name: &NetnsName) -> PathBuf {
    Path::new(DIRECTORY).join(name.as_str())
}

/// What stands at the path of a named namespace.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// A plain file: what a namespace was mounted on, once, or a mount that is hidden from this mount namespace.
    Stale,
    Netns(OwnedFd),
}

/// Looks at the path of a named namespace. A file there proves nothing; only nsfs does (`NSFS_MAGIC`, statfs(2)).
pub fn find(name: &NetnsName) -> Result<Found> {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let path = path(name);
    let open = || OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
    let file = match fault::look(format_args!("open {}", path.display()), open) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(e).with_context(|| format!("failed to open {}", path.display())),
    };
    let statfs = fault::look(format_args!("statfs {}", path.display()), || fstatfs(&file))
        .with_context(|| format!("failed to look at {}", path.display()))?;
    Ok(if u64::try_from(statfs.f_type) == Ok(NSFS_MAGIC) { Found::Netns(file.into()) } else { Found::Stale })
}

/// Opens the network namespace of this process.
pub fn host() -> Result<OwnedFd> {
    open("/proc/self/ns/net").context("failed to open the host's network namespace")
}

/// Opens the network namespace of the calling thread.
pub fn current() -> Result<OwnedFd> {
    open("/proc/thread-self/ns/net").context("failed to open the network namespace")
}

fn open(netns: &str) -> io::Result<OwnedFd> {
    Ok(fault::look(format_args!("open {netns}"), || File::open(netns))?.into())
}

/// Runs `work` on a thread inside a namespace.
pub fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        let enter = || rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network));
        fault::look(format_args!("setns"), enter).context("failed to enter the network namespace")?;
        work()
    })
}

/// Makes a named namespace and runs `work` on a thread inside it.
pub fn create<T: Send>(name: &NetnsName, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = path(name);
    on_thread(|| {
        let lock = shared_directory()?;
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        match fault::change(format_args!("create {}", path.display()), create) {
            Ok(_) => {}
            // a stale file is as good as a new one to mount on
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("failed to create {}", path.display())),
        }
        unshare()
            .and_then(|()| {
                let mount = || mount_bind("/proc/thread-self/ns/net", &path);
                fault::change(format_args!("mount {}", path.display()), mount)
                    .with_context(|| format!("failed to mount the netns on {}", path.display()))
            })
            .inspect_err(|_| {
                let _ = fs::remove_file(&path);
            })?;
        drop(lock);
        work()
    })
}

/// Runs `work` on a thread inside a namespace without a name, which goes with it. Links of the names given are in it.
pub fn scratch<T: Send>(links: &[&LinkName], work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        unshare()?;
        let mut socket = Socket::open()?;
        netlink::add_placeholders(&mut socket, links)?;
        work()
    })
}

/// Gives the calling thread a network namespace of its own.
fn unshare() -> Result<()> {
    // SAFETY: CLONE_NEWNET changes this thread's network namespace alone. What makes unshare(2) unsafe is CLONE_FILES, which would
    // take file descriptors from under other threads.
    #[allow(unsafe_code)]
    let unshare = || unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    fault::change(format_args!("unshare"), unshare).context("failed to make a network namespace")
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work).context("failed to start a thread")?;
        thread.join().unwrap_or_else(|_| Err(anyhow!("the thread inside the network namespace panicked")))
    })
}

/// Makes `/run/netns` a shared mount, as iproute2 does and under the lock that iproute2 takes (Debian bug 949235: two at once
/// would stack mounts), so that what is mounted there shows in all mount namespaces. The lock holds until the file is dropped.
fn shared_directory() -> Result<File> {
    let failed = |what: &str| format!("failed to {what} {DIRECTORY}");
    let create = || fs::DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY);
    fault::change(format_args!("mkdir {DIRECTORY}"), create).with_context(|| failed("create"))?;
    let directory = fault::look(format_args!("open {DIRECTORY}"), || File::open(DIRECTORY)).with_context(|| failed("open"))?;
    super::fs::lock(&directory).with_context(|| failed("lock"))?;
    let share = || mount_change(DIRECTORY, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    let share = || fault::change(format_args!("share {DIRECTORY}"), share);
    match share() {
        Ok(()) => {}
        // not a mount point yet
        Err(Errno::INVAL) => {
            let mount = || mount_bind_recursive(DIRECTORY, DIRECTORY);
            fault::change(format_args!("mount {DIRECTORY}"), mount).with_context(|| failed("mount"))?;
            share().with_context(|| failed("share"))?;
        }
        Err(e) => return Err(e).with_context(|| failed("share")),
    }
    Ok(directory)
}

/// Takes the name from a namespace: unmounts and removes its file. The kernel frees the namespace when its last process and
/// socket are gone.
pub fn remove(name: &NetnsName) -> Result<()> {
    let path = path(name);
    let unmount = || unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    match fault::change(format_args!("unmount {}", path.display()), unmount) {
        // not mounted, or nothing there
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(e) => return Err(e).with_context(|| format!("failed to unmount {}", path.display())),
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).with_context(|| format!("failed to remove {}", path.display())),
        _ => Ok(()),
    }
}

/// Tells in which namespace a process is, comparing it to the host's and to the named ones given. None when it is gone.
#[must_use]
pub fn place_of(pid: u32, names: &[NetnsName]) -> Option<Place> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let of_process = identity(Path::new(&format!("/proc/{pid}/ns/net")))?;
    if Some(of_process) == identity(Path::new("/proc/self/ns/net")) {
        return Some(Place::Host);
    }
    let named = names.iter().find(|name| identity(&path(name)) == Some(of_process));
    Some(named.map_or(Place::Other, |name| Place::Netns(name.clone())))
}
