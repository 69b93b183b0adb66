//! Files: below a root that is `/` or an image, written so that a reader never sees half a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    fault::{
        self,
        fs::{self, File, OpenOptions, Permissions},
    },
    terminal::Waiting,
};

/// Where the host's files are: `/`, or the folder of an image (`--root`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// Takes a folder; `/` is the running host.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Tells whether this is the running host and not an image.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Gives the path of a file of an image as it will be when the image runs.
    #[must_use]
    pub fn inside(&self, path: &str) -> String {
        match self.0.to_str().and_then(|root| path.strip_prefix(root.trim_end_matches('/'))) {
            Some(rest) if rest.starts_with('/') => rest.to_owned(),
            _ => path.to_owned(),
        }
    }

    /// Gives the place of a file of the host. Links in its folders lead, in an image, to where they will when that runs: an image is
    /// not to have root write, or read, anything outside of it.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.place(path.as_ref(), false)
    }

    /// Gives the place of a file of the host, as [`Self::at`], where what stands there may be a link, too.
    #[must_use]
    pub fn target(&self, path: impl AsRef<Path>) -> PathBuf {
        self.place(path.as_ref(), true)
    }

    fn place(&self, path: &Path, follow: bool) -> PathBuf {
        // as many as the kernel follows (MAXSYMLINKS, path_resolution(7))
        const LINKS: usize = 40;
        if self.is_host() {
            return self.0.join(path);
        }
        let parts = |path: &Path| path.components().rev().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
        let (mut at, mut left, mut links) = (self.0.clone(), parts(path), 0);
        while let Some(part) = left.pop() {
            if part == "/" {
                at.clone_from(&self.0);
            } else if part == ".." {
                // above the root is the root
                let _ = at != self.0 && at.pop();
            } else if let Ok(target) = fs::read_link(at.join(&part))
                && (follow || !left.is_empty())
            {
                links += 1;
                if links > LINKS {
                    // what no call takes for a path
                    return at.join("\0");
                }
                left.extend(parts(&target));
            } else {
                at.push(part);
            }
        }
        at
    }
}

/// Reads a file as text; none if there is none. Bytes that are no UTF-8 are replaced, which makes the text differ from any of ours.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    Ok(read_bytes(path)?.map(text_of))
}

/// Reads a file; none if there is none.
pub fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("failed to read {}", path.display())),
    }
}

/// Reads a plain file, or one that a link leads to, as text; none if there is none, or something else, or more than `limit` bytes.
pub fn read_small_text(path: &Path, limit: u64) -> Result<Option<String>> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= limit => read_text(path),
        _ => Ok(None),
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A plain file, as [`read_text`] gives it.
    Text(String),
    /// Something else: a link, above all (`/dev/null` masks a file).
    Special,
}

/// Reads what stands at a path if that is a plain file, in fewer calls than it takes to ask first.
pub fn read_plain(path: &Path) -> Result<Found> {
    use rustix::fs::OFlags;
    let open = || OpenOptions::new().read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()).open(path);
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = match open() {
            Err(e) if [Errno::LOOP, Errno::NXIO].map(|errno| Some(errno.raw_os_error())).contains(&e.raw_os_error()) => return Ok(None),
            other => other?,
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Ok(None);
        }
        // the end shows in the byte after it
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).map_or(0, |length| length + 1));
        file.take(u64::MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    match fault::look(format_args!("read {}", path.display()), read) {
        Ok(Some(bytes)) => Ok(Found::Text(text_of(bytes))),
        Ok(None) => Ok(Found::Special),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Found::Nothing),
        Err(e) => Err(e).with_context(|| format!("failed to read {}", path.display())),
    }
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Tells whether something other than a plain file stands at a path (a link, above all: `/dev/null` masks a file).
#[must_use]
pub fn is_special(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| !m.is_file())
}

/// Tells whether a link, to a file that need not exist, or anything else stands at a path. What the disk cannot tell does: to take it
/// for gone would lose it.
#[must_use]
pub fn exists(path: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    fs::symlink_metadata(path).err().is_none_or(|e| !matches!(e.kind(), NotFound | NotADirectory | PermissionDenied))
}

/// An entry of a folder, as the search path of the configuration needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: PathBuf,
    /// The path with all links followed; none for a dangling link.
    pub target: Option<PathBuf>,
}

/// Lists a folder in name order; nothing where there is no such folder.
pub fn list(directory: &Path) -> Result<Vec<Entry>> {
    let failed = || format!("failed to list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(failed),
    };
    let mut list = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
        let target = fs::canonicalize(&path).ok();
        list.push(Entry { path, target });
    }
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}

/// Lists a folder; nothing where there is none, or a file.
pub fn list_if_directory(path: &Path) -> Result<Vec<Entry>> {
    if is_directory(path) == Some(true) { list(path) } else { Ok(Vec::new()) }
}

/// Tells whether a link stands at a path.
#[must_use]
pub fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// The environment of this process, as far as it is text.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Tells whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Reads the machine-id; none in an image that has not booted yet.
pub fn machine_id(root: &Root) -> Result<Option<String>> {
    let text = read_text(&root.target("/etc/machine-id"))?.unwrap_or_default();
    let id = text.trim();
    Ok((id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned()))
}

/// Tells whether a folder is at a path, links followed; none where nothing is.
#[must_use]
pub fn is_directory(path: &Path) -> Option<bool> {
    fs::metadata(path).ok().map(|m| m.is_dir())
}

/// Tells whether a folder itself is at a path, and no link to one.
#[must_use]
pub fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// When a file, or a link to it, was last put in its place or changed there, in microseconds since 1970; none where there is no
/// file. A file that is moved over another keeps its time of modification, so this is the other time.
#[must_use]
pub fn replaced(path: &Path) -> Option<u64> {
    let both = [fs::symlink_metadata(path), fs::metadata(path)];
    both.iter().flatten().filter_map(|m| u64::try_from(m.ctime() * 1_000_000 + m.ctime_nsec() / 1000).ok()).max()
}

/// Tells whether a process has changed its root directory; none if it cannot be looked at. The root of a mount namespace of its
/// own is not meant.
#[must_use]
pub fn has_root_of_its_own(pid: u32) -> Option<bool> {
    fs::read_link(format!("/proc/{pid}/root")).ok().map(|root| root != Path::new("/"))
}

/// Tells whether a process is still systemd's own, on its way to the program of a service: it may be in no namespace of its yet.
#[must_use]
pub fn is_starting(pid: u32) -> bool {
    let exe = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = exe(&pid.to_string());
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with('(') || own.is_some_and(|own| own.ends_with("systemd-executor") || Some(own) == exe("1"))
}

/// Tells whether a process sees at a path what `source` is here, the same file or folder or the same text; none if it cannot be
/// looked at. Links are followed as the process does.
#[must_use]
pub fn sees(pid: u32, path: &Path, source: &Path) -> Option<bool> {
    use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
    let wanted = match fs::metadata(source) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(false),
        other => other.ok()?,
    };
    let root = open(format!("/proc/{pid}/root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // not to wait for a pipe
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Some(false),
        Err(_) => return None,
    };
    let found = file.metadata().ok()?;
    let same_bytes = || -> io::Result<bool> {
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        Ok(bytes == fs::read(source)?)
    };
    let plain = found.is_file() && wanted.is_file();
    Some((found.dev(), found.ino()) == (wanted.dev(), wanted.ino()) || (plain && same_bytes().ok()?))
}

/// Lists the names of what a process has mounted from a folder, by its path or the end of it (`proc_pid_mountinfo(5)`: the fourth
/// field, from the root of the file system). A file that is removed there stays mounted.
#[must_use]
pub fn mounted_from(pid: u32, directory: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let name = |line: &str| {
        let (_, name) = line.split(' ').nth(3)?.split_once(directory)?;
        Some(name.strip_suffix("//deleted").unwrap_or(name).to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// When a file was last changed, in microseconds since 1970; none where there is no file.
#[must_use]
pub fn modified(path: &Path) -> Option<u64> {
    let time = fs::metadata(path).ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(time.as_micros()).ok()
}

/// Lists the processes of a control group; nothing if it cannot be read. Where cgroup v1 is mounted too, the units' groups are
/// below one of two other folders.
#[must_use]
pub fn control_group_processes(group: &str) -> Vec<u32> {
    if group.is_empty() {
        return Vec::new();
    }
    let text = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]
        .iter()
        .find_map(|top| fs::read_to_string(format!("{top}{group}/cgroup.procs")).ok());
    text.unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Waits until there is no file at a path, or for `limit`.
pub fn wait_until_gone(path: &Path, limit: Duration) -> Result<()> {
    wait_for(path.parent().unwrap_or(Path::new("/")), Instant::now() + limit, || Ok(!exists(path)))
}

/// Waits until `done`, which is asked again whenever files of a folder come, go or are replaced; or until the deadline.
pub fn wait_for(directory: &Path, deadline: Instant, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::inotify::{self, CreateFlags, WatchFlags},
    };
    let failed = || format!("failed to watch {}", directory.display());
    let watch = fault::look(format_args!("watch {}", directory.display()), || inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK));
    let watch = watch.with_context(failed)?;
    let events = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, directory, events).with_context(failed)?;
    let mut sink = [0; 4096];
    while !done()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).with_context(failed),
        }
        while rustix::io::read(&watch, &mut sink).is_ok_and(|n| n > 0) {}
    }
    Ok(())
}

/// Waits for a lock on a file or folder, which holds until that is closed; `meanwhile` says what for. Tells whether somebody had it.
pub fn lock(file: &File, meanwhile: &str) -> io::Result<bool> {
    let mut shown = None;
    loop {
        let how = if shown.is_none() { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::LockExclusive };
        match fault::look(format_args!("flock"), || flock(file, how)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::WOULDBLOCK) if shown.is_none() => shown = Some(Waiting::new(meanwhile, None)),
            other => return Ok(other.map(|()| shown.is_some())?),
        }
    }
}

/// A lock that holds until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    /// Somebody else had it first.
    pub waited: bool,
}

impl Lock {
    /// Waits for a lock. The file may be removed by whoever holds the lock; who waited then takes the new one.
    pub fn wait(path: &Path) -> Result<Self> {
        let failed = || format!("failed to lock {}", path.display());
        create_directory(path.parent().unwrap_or(Path::new("/")))?;
        let mut waited = false;
        loop {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).mode(0o600);
            let file = fault::change(format_args!("open {}", path.display()), || options.open(path)).with_context(failed)?;
            waited |= lock(&file, "another netns-networkd is at work").with_context(failed)?;
            let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            let locked = file.metadata().with_context(failed)?;
            match fs::metadata(path) {
                Ok(now) if same(&locked, &now) => return Ok(Self { _file: file, waited }),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).with_context(failed),
                // removed, or made anew, by who had the lock
                _ => {}
            }
        }
    }
}

/// What there is to see of a lock without waiting for it.
#[derive(Debug)]
pub enum Glance {
    /// Nobody else holds it, and nobody changes what it is for as long as this is kept.
    Quiet(Option<File>),
    /// Somebody holds it.
    Busy,
}

impl Lock {
    /// Looks whether somebody holds a lock, and keeps others from it while it looks on: shared with whoever else only looks. It
    /// makes no file where there is none.
    pub fn glance(path: &Path) -> Result<Glance> {
        let failed = || format!("failed to look at the lock {}", path.display());
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Glance::Quiet(None)),
            other => other.with_context(failed)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Glance::Quiet(Some(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Glance::Busy),
            Err(e) => Err(e).with_context(failed),
        }
    }

    /// Takes a lock that nobody has; none if somebody does, or there is no such file.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let failed = || format!("failed to lock {}", path.display());
        let file = match OpenOptions::new().write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(failed)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            other => other.map(|()| Some(Self { _file: file, waited: false })).with_context(failed),
        }
    }
}

/// Makes a folder with its parents, readable by all as networkd needs it.
pub fn create_directory(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    make_directory(path, 0o755)?;
    // the umask may have taken bits away
    missing.into_iter().try_for_each(|made| {
        fs::set_permissions(made, Permissions::from_mode(0o755))
            .with_context(|| format!("failed to make directory {} readable", made.display()))
    })
}

/// Makes a folder with its parents, of a mode that no umask makes wider: whoever runs this by hand may have any.
fn make_directory(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    fault::change(format_args!("create_dir_all {}", path.display()), make)
        .with_context(|| format!("failed to create directory {}", path.display()))
}

/// Makes a folder that only root can look into.
pub fn create_private_directory(path: &Path) -> Result<()> {
    create_directory(path.parent().unwrap_or(Path::new("/")))?;
    make_directory(path, 0o700)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).with_context(|| format!("failed to create directory {}", path.display()))
}

/// Removes a file; nothing to do where there is none.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).with_context(|| format!("failed to remove {}", path.display())),
        _ => Ok(()),
    }
}

/// Removes a folder if it is empty; what others put there keeps it.
pub fn remove_empty_directory(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(e).with_context(|| format!("failed to remove directory {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes one file at once: see [`Staged`].
pub fn write(path: &Path, content: &str) -> Result<()> {
    let mut staged = Staged::default();
    staged.add(path, content)?;
    staged.commit(path)?;
    staged.finish()
}

/// Gives a file its new content in its place: see [`Staged::commit_in_place`].
pub fn write_in_place(path: &Path, content: &str) -> Result<()> {
    let mut staged = Staged::default();
    staged.add(path, content)?;
    staged.commit_in_place(path)?;
    staged.finish()
}

/// Removes a folder of plain files.
pub fn remove_directory(path: &Path) -> Result<()> {
    for entry in list(path)? {
        remove(&entry.path)?;
    }
    remove_empty_directory(path)
}

/// Copies a file with its mode and owner, or a link as a link, over whatever is there.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = |temporary: &Path| -> io::Result<()> {
        let found = fs::symlink_metadata(from)?;
        if found.is_symlink() {
            let target = fs::read_link(from)?;
            fault::change(format_args!("symlink {}", to.display()), || symlink(target, temporary))?;
        } else {
            fs::copy(from, temporary)?;
            sync(temporary)?;
        }
        fault::change(format_args!("lchown {}", temporary.display()), || lchown(temporary, Some(found.uid()), Some(found.gid())))?;
        fs::rename(temporary, to)?;
        sync_directory(to)
    };
    create_directory(to.parent().unwrap_or(Path::new("/")))?;
    let temporary = temporary(to)?;
    remove(&temporary)?;
    copy(&temporary).with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))
}

/// Makes the entry of a file in its folder durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    sync(path.parent().unwrap_or(Path::new("/")))
}

fn sync(path: &Path) -> io::Result<()> {
    fault::look(format_args!("sync {}", path.display()), || File::open(path).and_then(|file| file.sync_all()))
}

/// Tells whether two files, or links, have the same content, mode and owner.
#[must_use]
pub fn same(a: &Path, b: &Path) -> bool {
    let of = |path: &Path| {
        let found = fs::symlink_metadata(path).ok()?;
        let content =
            if found.is_symlink() { fs::read_link(path).ok()?.into_os_string().into_encoded_bytes() } else { fs::read(path).ok()? };
        Some((found.mode(), found.uid(), found.gid(), content))
    };
    of(a).is_some_and(|a| of(b) == Some(a))
}

/// Makes a link, over whatever is there.
pub fn link(target: &str, path: &Path) -> Result<()> {
    create_directory(path.parent().unwrap_or(Path::new("/")))?;
    remove(path)?;
    let link = || fault::change(format_args!("symlink {}", path.display()), || symlink(target, path)).and_then(|()| sync_directory(path));
    link().with_context(|| format!("failed to make the link {}", path.display()))
}

/// Writes a file below `/run`, where nothing outlives a crash of the machine: whole or not at all, without waiting for a disk.
pub fn write_volatile(path: &Path, content: &str) -> Result<()> {
    let temporary = temporary(path)?;
    let fill = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?.write_all(content.as_bytes());
    let fill = || fault::change(format_args!("write {}", temporary.display()), fill);
    // its folder is there, but for the first time
    let filled = match fill() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            create_directory(path.parent().unwrap_or(Path::new("/")))?;
            fill()
        }
        other => other,
    };
    let written = filled.and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| format!("failed to write {}", path.display()))
}

/// Removes a file that is written by [`write_volatile`], and what a run that was killed over it left.
pub fn remove_volatile(path: &Path) -> Result<()> {
    remove_leftover(path)?;
    remove(path)
}

/// Makes an empty file, if there is none.
pub fn mark(path: &Path) -> Result<()> {
    create_directory(path.parent().unwrap_or(Path::new("/")))?;
    let create = || OpenOptions::new().create(true).append(true).mode(0o644).open(path);
    fault::change(format_args!("create {}", path.display()), create).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(())
}

/// Files that are written in two steps: first all of them beside their targets, down to the disk; then each renamed over its
/// target. What fails for lack of space or rights fails in the first step, when nothing has changed yet.
#[derive(Debug, Default)]
pub struct Staged {
    waiting: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
    /// Folders that were made for files.
    made: Vec<PathBuf>,
}

/// The end of names of what is not in its place yet.
const NEW: &str = ".netns-networkd-new";

/// The name beside the target under which its new content waits. Always the same, so that a killed run leaves no second one.
pub fn temporary(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { bail!("{} has no file name", path.display()) };
    Ok(path.with_file_name(format!(".{name}{NEW}")))
}

/// Tells whether a path is one of [`temporary`].
#[must_use]
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.') && name.ends_with(NEW))
}

impl Staged {
    /// Writes the new content of `path` beside it, mode 0644: networkd reads its files as user systemd-network.
    pub fn add(&mut self, path: &Path, content: &str) -> Result<()> {
        let at = path.display();
        let failed = || format!("failed to write {at}");
        let missing: Vec<_> = path.ancestors().skip(1).take_while(|parent| !exists(parent)).map(Path::to_owned).collect();
        self.made.extend(missing.into_iter().rev());
        create_directory(path.parent().unwrap_or(Path::new("/")))?;
        let temporary = temporary(path)?;
        if exists(&temporary) {
            remove(&temporary)?;
        }
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary);
        let mut file = fault::change(format_args!("create {at}"), create).with_context(failed)?;
        self.waiting.insert(path.to_owned());
        // the umask may have taken bits away
        fault::look(format_args!("chmod {at}"), || file.set_permissions(Permissions::from_mode(0o644))).with_context(failed)?;
        fault::change(format_args!("fill {at}"), || file.write_all(content.as_bytes())).with_context(failed)?;
        fault::look(format_args!("sync {at}"), || file.sync_all()).with_context(failed)
    }

    /// Puts the new content of `path` in place.
    pub fn commit(&mut self, path: &Path) -> Result<()> {
        fs::rename(temporary(path)?, path).with_context(|| format!("failed to write {}", path.display()))?;
        self.waiting.remove(path);
        self.directories.extend(path.parent().map(Path::to_owned));
        Ok(())
    }

    /// Gives the file at `path` its new content in its place, if there is a plain file: who has it mounted, or open, goes on with
    /// the same file. A reader sees the old content or the new one, perhaps with blank lines after it, and so does the next run if
    /// this one is cut off: what is longer, the old text or the new one, is filled up with newlines first.
    pub fn commit_in_place(&mut self, path: &Path) -> Result<()> {
        if is_special(path) || !exists(path) {
            return self.commit(path);
        }
        let (at, temporary) = (path.display(), temporary(path)?);
        let write = || -> io::Result<bool> {
            let content = fs::read(&temporary)?;
            let file = match fault::look(format_args!("open {at}"), || OpenOptions::new().write(true).open(path)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            let (before, after) = (usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX), content.len());
            let blank = |from: usize, to: usize| vec![b'\n'; to.saturating_sub(from)];
            fault::change(format_args!("lengthen {at}"), || file.write_all_at(&blank(before, after), before as u64))?;
            fault::look(format_args!("sync {at}"), || file.sync_data())?;
            fault::change(format_args!("fill {at}"), || file.write_all_at(&[content, blank(after, before)].concat(), 0))?;
            fault::look(format_args!("sync {at}"), || file.sync_data())?;
            fault::change(format_args!("cut {at}"), || file.set_len(after as u64))?;
            fault::look(format_args!("sync {at}"), || file.sync_all()).map(|()| true)
        };
        if !write().with_context(|| format!("failed to write {at}"))? {
            return self.commit(path);
        }
        remove(&temporary)?;
        self.waiting.remove(path);
        self.directories.extend(path.parent().map(Path::to_owned));
        Ok(())
    }

    /// Makes the renames durable.
    pub fn finish(&mut self) -> Result<()> {
        for directory in std::mem::take(&mut self.directories) {
            sync(&directory).with_context(|| format!("failed to sync {}", directory.display()))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    /// What was not committed goes, with the folders that are empty then.
    fn drop(&mut self) {
        for path in &self.waiting {
            if let Ok(temporary) = temporary(path) {
                let _ = fs::remove_file(temporary);
            }
        }
        for directory in self.made.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Removes what a killed run left beside `path`.
pub fn remove_leftover(path: &Path) -> Result<()> {
    remove(&temporary(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_a_path() {
        let folder = std::env::temp_dir().join(format!("netns-networkd-fs-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        std::fs::write(at("text"), "a\n").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::fs::write(at("bytes"), b"a\xff").unwrap();
        symlink(at("text"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let found = |name: &str| read_plain(&at(name)).unwrap();
        assert_eq!(found("text"), Found::Text("a\n".to_owned()));
        assert_eq!(found("empty"), Found::Text(String::new()));
        assert_eq!(found("bytes"), Found::Text("a\u{fffd}".to_owned()));
        // a pipe that nobody writes to would be waited for
        for special in ["link", "dangling", "folder", "pipe", "socket"] {
            assert_eq!(found(special), Found::Special, "{special}");
        }
        assert_eq!((found("nothing"), found("text/below")), (Found::Nothing, Found::Nothing));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
