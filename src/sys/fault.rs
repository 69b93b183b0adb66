//! Faults on purpose: tests have this program end right after one of its calls to the kernel or the bus, or have that call fail.
//!
//! In debug builds only: `no_fault.rs` takes this place in all others, and does nothing. Calls are counted from 1, in their order, in
//! this process alone. docs/decisions/0016 has what is done with it.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Signal, getpid, kill_process},
};

/// `kill:N` ends the program right after the Nth call that changes something; `error:N:ERRNO` has the Nth of all calls fail, not
/// done; `disturb:N` marks the first N dumps as disturbed by others (`NLM_F_DUMP_INTR`).
const VARIABLE: &str = "NETNS_NETWORKD_FAULT";
/// A file that each call is added to, as a line: what kind it is of, and what it does.
const LOG: &str = "NETNS_NETWORKD_FAULT_LOG";

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill(u32),
    Error(u32, Errno),
    Disturb(u32),
}

static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
    let text = std::env::var(VARIABLE).ok()?;
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str| text.parse().ok();
    let fault = match parts[..] {
        ["kill", n] => number(n).map(Fault::Kill),
        ["error", n, errno] => number(n).zip(errno.parse().ok()).map(|(n, errno)| Fault::Error(n, Errno::from_raw_os_error(errno))),
        ["disturb", n] => number(n).map(Fault::Disturb),
        _ => None,
    };
    Some(fault.unwrap_or_else(|| panic!("{VARIABLE}={text} is no fault")))
});

static CALLS: AtomicU32 = AtomicU32::new(0);
static CHANGES: AtomicU32 = AtomicU32::new(0);
static DUMPS: AtomicU32 = AtomicU32::new(0);

/// What becomes of a call.
enum Fate {
    Done,
    Last,
    Fails(Errno),
}

/// Counts a call.
fn fate(kind: &str, what: fmt::Arguments<'_>) -> Fate {
    let next = |counter: &AtomicU32| counter.fetch_add(1, Ordering::Relaxed) + 1;
    let (call, change) = (next(&CALLS), if matches!(kind, "look" | "question") { 0 } else { next(&CHANGES) });
    if let Some(log) = std::env::var_os(LOG) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        log.and_then(|mut log| log.write_all(format!("{kind} {what}\n").as_bytes())).expect(LOG);
    }
    match *FAULT {
        Some(Fault::Kill(n)) if n == change => Fate::Last,
        Some(Fault::Error(n, errno)) if n == call => Fate::Fails(errno),
        _ => Fate::Done,
    }
}

fn end() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park();
    }
}

fn call<T, E: From<Errno>>(kind: &str, what: fmt::Arguments<'_>, call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    match fate(kind, what) {
        Fate::Done => call(),
        Fate::Last => {
            let _ = call();
            end()
        }
        Fate::Fails(errno) => Err(errno.into()),
    }
}

/// A call that changes nothing.
pub fn look<T, E: From<Errno>>(what: fmt::Arguments<'_>, look: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    call("look", what, look)
}

/// A call that changes something.
pub fn change<T, E: From<Errno>>(what: fmt::Arguments<'_>, change: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    call("change", what, change)
}

/// A question to the kernel, which may refuse it.
pub fn question<T, E: From<Errno>>(what: fmt::Arguments<'_>, question: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    call("question", what, question)
}

/// Sends netlink messages; gives the sequence number of the one that the kernel is to have refused. It has got one that does
/// nothing in its place.
pub fn batch<E>(bytes: &mut [u8], send: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<Option<(u32, Errno)>, E> {
    const NLMSG_NOOP: u16 = 1;
    let mut refused = None;
    let mut at = 0;
    while let Some(&[l0, l1, l2, l3, t0, t1, _, _, s0, s1, s2, s3]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let next = at + (u32::from_ne_bytes([l0, l1, l2, l3]) as usize).next_multiple_of(4);
        match fate("message", format_args!("of type {}", u16::from_ne_bytes([t0, t1]))) {
            Fate::Done => {}
            Fate::Last => {
                let _ = send(&bytes[..next]);
                end()
            }
            Fate::Fails(errno) => {
                bytes[at + 4..at + 6].copy_from_slice(&NLMSG_NOOP.to_ne_bytes());
                refused = Some((u32::from_ne_bytes([s0, s1, s2, s3]), errno));
            }
        }
        at = next;
    }
    send(bytes)?;
    Ok(refused)
}

/// Tells whether a dump is one that others disturbed.
pub fn disturbs() -> bool {
    let number = DUMPS.fetch_add(1, Ordering::Relaxed) + 1;
    matches!(*FAULT, Some(Fault::Disturb(n)) if number <= n)
}

/// Waits for the bus to answer a question, or to have done something. What fails with `ETIMEDOUT` is done, and the answer to it does
/// not come.
pub async fn answer<T>(
    changes: bool,
    what: &str,
    limit: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<zbus::Result<T>, tokio::time::error::Elapsed> {
    match fate(if changes { "bus" } else { "question" }, format_args!("{what}")) {
        Fate::Done => tokio::time::timeout(limit, call).await,
        Fate::Last => {
            let _ = call.await;
            end()
        }
        Fate::Fails(Errno::TIMEDOUT) => {
            let _ = call.await;
            tokio::time::timeout(Duration::ZERO, std::future::pending()).await
        }
        Fate::Fails(errno) => Ok(Err(io::Error::from(errno).into())),
    }
}

/// `std::fs`, counted.
pub mod fs {
    use super::{Path, io};

    pub use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, ReadDir};

    macro_rules! counted {
        ($($kind:ident $name:ident($path:ident $(, $more:ident: $type:ty)*) -> $output:ty;)+) => {$(
            pub fn $name($path: impl AsRef<Path> $(, $more: $type)*) -> io::Result<$output> {
                let path = $path.as_ref();
                super::$kind(format_args!("{} {}", stringify!($name), path.display()), || std::fs::$name(path $(, $more)*))
            }
        )+};
    }

    counted! {
        look read(path) -> Vec<u8>;
        look read_to_string(path) -> String;
        look read_dir(path) -> ReadDir;
        look read_link(path) -> std::path::PathBuf;
        look metadata(path) -> Metadata;
        look symlink_metadata(path) -> Metadata;
        look canonicalize(path) -> std::path::PathBuf;
        change copy(path, to: impl AsRef<Path>) -> u64;
        change rename(path, to: impl AsRef<Path>) -> ();
        change remove_file(path) -> ();
        change remove_dir(path) -> ();
        change set_permissions(path, permissions: Permissions) -> ();
    }
}
