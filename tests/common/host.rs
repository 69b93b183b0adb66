//! Booted Debian systems in containers; host.sh does the work, this keeps count of them.

use std::fmt;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{BIN, Shell, assert_root, install, package, run};

const HOST_SH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/host.sh");

/// A Debian release, by the version of systemd that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// systemd 252
    Bookworm,
    /// systemd 257
    Trixie,
    /// Whatever is newest, when asked for: it changes by the day.
    Sid,
}

impl Suite {
    /// Returns the suites to test on: those in `NETNS_TEST_SUITES`, or the two stable ones.
    pub fn all() -> Vec<Self> {
        let wanted = std::env::var("NETNS_TEST_SUITES").unwrap_or_else(|_| "bookworm trixie".to_owned());
        let known = [Self::Bookworm, Self::Trixie, Self::Sid];
        wanted
            .split_whitespace()
            .map(|name| *known.iter().find(|suite| suite.name() == name).unwrap_or_else(|| panic!("NETNS_TEST_SUITES: no suite '{name}'")))
            .collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A booted host with systemd and systemd-networkd, and an uplink `eno1` without a default route.
pub struct Host {
    pub name: String,
    tests: RwLock<()>,
    installed: OnceLock<()>,
}

impl Host {
    /// Returns the host that tests of a suite share, booted by the first that asks.
    ///
    /// A test on it takes [`Host::share`] and names of its own, or [`Host::lock`].
    #[track_caller]
    pub fn shared(suite: Suite) -> &'static Self {
        static HOSTS: [OnceLock<Result<Host, String>>; 3] = [const { OnceLock::new() }; 3];
        // A boot that failed is not tried again for every other test.
        match HOSTS[suite as usize].get_or_init(|| Self::boot(suite, suite.name(), "")) {
            Ok(host) => host,
            Err(error) => panic!("{error}"),
        }
    }

    /// Boots a host for one test; it is gone when the value is dropped.
    #[track_caller]
    pub fn fresh(suite: Suite, name: &str) -> FreshHost {
        FreshHost(Self::boot(suite, name, "").unwrap_or_else(|error| panic!("{error}")))
    }

    /// Boots a host for one test with the files of a folder laid over its root: its first boot sees them.
    #[track_caller]
    pub fn seeded(suite: Suite, name: &str, seed: &str) -> FreshHost {
        FreshHost(Self::boot(suite, name, seed).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Boots a host that keeps its files in a folder of the machine's, for who measures what a disk takes.
    #[allow(dead_code)] // by tests/bench
    #[track_caller]
    pub fn on_disk(suite: Suite, name: &str, folder: &str) -> FreshHost {
        FreshHost(Self::boot_with(suite, name, &[("NETNS_TEST_DISK", folder)]).unwrap_or_else(|error| panic!("{error}")))
    }

    fn boot(suite: Suite, name: &str, seed: &str) -> Result<Self, String> {
        Self::boot_with(suite, name, &[("NETNS_TEST_SEED", seed)])
    }

    fn boot_with(suite: Suite, name: &str, how: &[(&str, &str)]) -> Result<Self, String> {
        assert_root();
        let runner = std::process::id();
        let name = format!("{name}-{runner}"); // two test runs at once are fine
        guard_host(&name);
        // Its messages go to the terminal: the first run builds root file systems, and a person waits for that.
        let booted = Command::new("timeout")
            .args(["600", HOST_SH, "boot", &name, suite.name()])
            .env("NETNS_TEST_OWNER", runner.to_string())
            .envs(how.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("start timeout(1)");
        if !booted.success() {
            return Err(format!("cannot boot host {name} ({suite}), {booted}: the reason is on standard error"));
        }
        Ok(Self { name, tests: RwLock::new(()), installed: OnceLock::new() })
    }

    /// Restarts it: what is not on its disk is gone, and so are links that nobody makes at boot.
    #[track_caller]
    pub fn reboot(&self) {
        let _ = run("", &[HOST_SH, "reboot", &self.name]).ok();
    }

    /// Keeps [`Host::lock`] out while a test runs that disturbs no other.
    pub fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.tests.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everyone else out while a test runs that disturbs others: stops networkd, fills the disk.
    pub fn lock(&self) -> RwLockWriteGuard<'_, ()> {
        self.tests.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the host's root file system, as the machine sees it (without its /run and /tmp).
    pub fn root(&self) -> String {
        format!("/run/netns-networkd-tests/{}/root", self.name)
    }

    /// Installs the product the way a user does, once.
    #[track_caller]
    pub fn install_product(&self) {
        self.installed.get_or_init(|| {
            if let Some(package) = package() {
                let _ = run("", &["cp", &package, &format!("{}/var/tmp/product.deb", self.root())]).ok();
                // the root file system leaves documents out, which tests read
                let _ = self.run(&["dpkg", "--path-include=/usr/share/*", "--install", "/var/tmp/product.deb"]).ok();
                assert_eq!(self.run(&["dpkg", "--verify", "netns-networkd"]).ok().stdout, "", "what is there is the package's");
            } else {
                install(&self.root(), BIN);
            }
            let drop_in = format!("{}/usr/lib/systemd/system/netns@.service.d/test.conf", self.root());
            let _ = run("", &["install", "-Dm644", NO_OTHER_CALLS, &drop_in]).ok();
            let _ = self.run(&["systemctl", "daemon-reload"]).ok();
        });
    }
}

/// What `up` and `down` ask of the kernel that netns@.service does not allow them is their end here, not just an error that they may
/// take no notice of: so every test that starts a namespace tests that list.
pub const NO_OTHER_CALLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/no-other-calls.conf");

impl Shell for Host {
    fn enter(&self) -> Vec<String> {
        [HOST_SH, "exec", &self.name].map(ToOwned::to_owned).to_vec()
    }
}

/// A [`Host`] of one test.
pub struct FreshHost(Host);

impl std::ops::Deref for FreshHost {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for FreshHost {
    fn drop(&mut self) {
        let output = run("", &[HOST_SH, "stop", &self.name]);
        if output.code != 0 {
            eprintln!("{output}");
        }
    }
}

/// `host.sh guard`: stops our hosts when its standard input ends, so also when we are killed.
static GUARD: Mutex<Option<Child>> = Mutex::new(None);

pub(super) fn guard_host(name: &str) {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let child = guard.get_or_insert_with(|| {
        // setsid: a Ctrl-C in the terminal is not for it
        Command::new("setsid").args([HOST_SH, "guard"]).stdin(Stdio::piped()).spawn().expect("start host.sh guard")
    });
    writeln!(child.stdin.as_mut().expect("stdin is piped"), "{name}").expect("host.sh guard reads until we end");
}

/// Stops every host of this run; the runner calls it last.
pub fn stop_all_hosts() {
    if let Some(mut child) = GUARD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // closes its stdin first
        child.wait().expect("wait for host.sh guard");
    }
}
