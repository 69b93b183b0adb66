//! Named network namespaces as iproute2 makes them: a file in `/run/netns` with the namespace mounted on it.
//!
//! Work inside is done on a thread of its own, so that no thread that anything else runs on changes its namespace; but for `up` and
//! `down`, which have one thread, and for which another would be a fifth of the time: that one goes in and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
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

/// Looks at the path of a named namespace.
pub fn find(name: &NetnsName) -> Result<Found> {
    find_at(&path(name))
}

/// Looks at a path. A file there proves nothing; only nsfs does (`NSFS_MAGIC`, statfs(2)).
pub fn find_at(path: &Path) -> Result<Found> {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    let open = || OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path);
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

/// Opens the network namespace of a process.
pub fn of_process(pid: u32) -> Result<OwnedFd> {
    open(&format!("/proc/{pid}/ns/net")).with_context(|| format!("failed to open the network namespace of process {pid}"))
}

fn open(netns: &str) -> io::Result<OwnedFd> {
    Ok(fault::look(format_args!("open {netns}"), || File::open(netns))?.into())
}

/// Runs `work` on a thread inside a namespace.
pub fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        enter(netns)?;
        work()
    })
}

/// Makes a named namespace and runs `work` inside it, on the calling thread, which comes from `home`.
pub fn create<T>(name: &NetnsName, home: OwnedFd, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let path = path(name);
    let _back = Return(home);
    let lock = shared_directory()?;
    make_file(&path)?;
    unshare_network()
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
}

/// Brings the calling thread back to where it was.
struct Return(OwnedFd);

impl Return {
    fn to(home: &OwnedFd) -> Result<Self> {
        home.try_clone().map(Self).context("failed to keep the network namespace open")
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        let back = || rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network));
        if let Err(error) = fault::look(format_args!("setns"), back).or_else(|_| back()) {
            // what comes next would be done to the wrong host
            super::terminal::complain(format_args!("error: failed to leave the network namespace: {error}"));
            std::process::abort();
        }
    }
}

/// Tells whether any process has a socket in a namespace, or the kernel still has one of a process that has ended; if that cannot be
/// told, one has. The calling thread comes from `home`.
pub fn has_sockets(netns: &OwnedFd, home: &OwnedFd) -> Result<bool> {
    let _back = Return::to(home)?;
    enter(netns)?;
    // the first line: `sockets: used 3`; sockets of the kernel's own do not count
    let mut line = [0; 16];
    let read = || File::open("/proc/thread-self/net/sockstat")?.read_exact(&mut line);
    let read = fault::look(format_args!("read sockstat"), read);
    Ok(read.is_err() || line != *b"sockets: used 0\n")
}

fn enter(netns: &OwnedFd) -> Result<()> {
    let enter = || rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network));
    fault::look(format_args!("setns"), enter).context("failed to enter the network namespace")
}

/// Makes the file to mount a namespace on. A stale one is as good as a new one.
fn make_file(path: &Path) -> Result<()> {
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
    match fault::change(format_args!("create {}", path.display()), create) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e).with_context(|| format!("failed to create {}", path.display())),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread inside a namespace without a name, which goes with it. Links of the names given are in it.
pub fn scratch<T: Send>(links: &[&LinkName], work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        unshare_network()?;
        let mut socket = Socket::open()?;
        netlink::add_placeholders(&mut socket, links)?;
        work()
    })
}

/// Gives the calling thread a network namespace of its own.
fn unshare_network() -> Result<()> {
    unshare(UnshareFlags::NEWNET).context("failed to make a network namespace")
}

/// Gives the calling thread namespaces of its own.
pub(super) fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    debug_assert!((UnshareFlags::NEWNET | UnshareFlags::NEWNS).contains(namespaces));
    // SAFETY: these change this thread's namespaces alone. What makes unshare(2) unsafe is CLONE_FILES, which would take file
    // descriptors from under other threads.
    #[allow(unsafe_code)]
    let unshare = || unsafe { rustix::thread::unshare_unsafe(namespaces) };
    fault::change(format_args!("unshare"), unshare)
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work).context("failed to start a thread")?;
        thread.join().unwrap_or_else(|_| Err(anyhow!("the thread inside the network namespace panicked")))
    })
}

/// Makes `/run/netns` a shared mount, as iproute2 does and under the lock that iproute2 takes (Debian bug 949235: two at once
/// would stack mounts), so that what is mounted there shows in all mount namespaces. The lock holds until the file is dropped.
///
/// To leave it unmounted would spare half of the mounts, but iproute2 7.3 mounts it in a peer group of its own on top of what is there,
/// and then nothing below can be removed (docs/decisions/0024).
fn shared_directory() -> Result<File> {
    let failed = |what: &str| format!("failed to {what} {DIRECTORY}");
    let open = || fault::look(format_args!("open {DIRECTORY}"), || File::open(DIRECTORY));
    let create = || fs::DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY);
    let directory = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fault::change(format_args!("mkdir {DIRECTORY}"), create).with_context(|| failed("create"))?;
            open()
        }
        other => other,
    };
    let directory = directory.with_context(|| failed("open"))?;
    super::fs::lock(&directory, "another program sets up /run/netns").with_context(|| failed("lock"))?;
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

/// The namespaces that have a name, to compare those of processes with.
#[derive(Debug, Default)]
pub struct Named {
    host: Option<Identity>,
    names: BTreeMap<Identity, NetnsName>,
}

impl Named {
    /// Looks at the host's own and at the named ones given.
    #[must_use]
    pub fn of<'a>(names: impl IntoIterator<Item = &'a NetnsName>) -> Self {
        let names = names.into_iter().filter_map(|name| Some((identity(&path(name))?, name.clone()))).collect();
        Self { host: identity(Path::new("/proc/self/ns/net")), names }
    }

    /// Takes the namespace of a process for one that has lost its name.
    pub fn add(&mut self, name: &NetnsName, lost: &Lost) {
        self.names.insert(lost.identity, name.clone());
    }

    /// Tells in which namespace a process is. None when it is gone, or somebody else's for whom this process may not look.
    #[must_use]
    pub fn place_of(&self, pid: u32) -> Option<Place> {
        let own = identity(Path::new(&format!("/proc/{pid}/ns/net")))?;
        if Some(own) == self.host {
            return Some(Place::Host);
        }
        Some(self.names.get(&own).map_or(Place::Other, |name| Place::Netns(name.clone())))
    }
}

/// What tells namespaces apart as long as they exist: device and inode.
pub type Identity = (u64, u64);

/// Gives the identity of a namespace by a file that stands for it.
#[must_use]
pub fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// A namespace that has no name, held by processes.
#[derive(Debug)]
pub struct Lost {
    pub fd: OwnedFd,
    identity: Identity,
}

/// Lists the namespaces that processes are in and that have no name in [`DIRECTORY`]. Processes that cannot be looked at are left
/// out.
pub fn lost() -> Result<Vec<Lost>> {
    let list = |directory: &str| fs::read_dir(directory).with_context(|| format!("failed to list {directory}"));
    let mut known: BTreeSet<_> = identity(Path::new("/proc/self/ns/net")).into_iter().collect();
    known.extend(list(DIRECTORY).into_iter().flatten().filter_map(|entry| identity(&entry.ok()?.path())));
    let mut lost = Vec::new();
    for entry in list("/proc")? {
        let Some(pid) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) else { continue };
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        if let Some(identity) = identity(&path).filter(|identity| !known.contains(identity)) {
            // it may have ended meanwhile
            let Ok(file) = File::open(&path) else { continue };
            known.insert(identity);
            lost.push(Lost { fd: file.into(), identity });
        }
    }
    Ok(lost)
}

/// Gives a namespace that has lost its name that name again.
pub fn name(name: &NetnsName, netns: &OwnedFd) -> Result<()> {
    let path = path(name);
    let _lock = shared_directory()?;
    make_file(&path)?;
    let fd = format!("/proc/self/fd/{}", netns.as_raw_fd());
    fault::change(format_args!("mount {}", path.display()), || mount_bind(&fd, &path))
        .with_context(|| format!("failed to mount the netns on {}", path.display()))
}

/// Tells whether systemd sees a namespace by its name, for services to start in it; none if that cannot be told.
#[must_use]
pub fn is_seen_by_systemd(name: &NetnsName) -> Option<bool> {
    let own = identity(&path(name))?;
    let init = Path::new("/proc/1/root");
    fs::metadata(init).ok()?;
    match fs::metadata(init.join(format!(".{}", path(name).display()))) {
        Ok(seen) => Some((seen.dev(), seen.ino()) == own),
        Err(e) => (e.kind() == io::ErrorKind::NotFound).then_some(false),
    }
}
