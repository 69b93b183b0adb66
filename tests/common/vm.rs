//! The virtual machine, for what a container on this machine's kernel cannot show; vm.sh does the work.

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::host::guard_host;
use super::{BIN, REPO, Shell, Suite, assert_root, host::NO_OTHER_CALLS, install, run};

const VM_SH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/vm.sh");

/// A booted Debian trixie with Debian's own kernel, udev, and the product. All tests share one; a test takes [`Vm::lock`].
pub struct Vm {
    name: String,
    used: Mutex<()>,
    /// Init of the guests that run.
    guests: Mutex<Vec<(Suite, String)>>,
}

/// Debian's kernel under the systemd of a release: the virtual machine itself, or a container in it. For one test.
pub struct VmHost {
    vm: &'static Vm,
    /// Init of the container.
    guest: Option<(Suite, String)>,
    _alone: MutexGuard<'static, ()>,
}

impl Vm {
    /// Returns the virtual machine, booted by the first that asks; why not, where this machine cannot run one.
    #[track_caller]
    pub fn shared() -> Result<&'static Self, String> {
        static VM: OnceLock<Result<Vm, String>> = OnceLock::new();
        static CAN: OnceLock<Result<(), String>> = OnceLock::new();
        let check = || {
            let output = run("", &[VM_SH, "check"]);
            if output.code == 0 { Ok(()) } else { Err(output.stderr.trim().to_owned()) }
        };
        CAN.get_or_init(check).clone()?;
        match VM.get_or_init(Self::boot) {
            Ok(vm) => Ok(vm),
            // it can and does not: no reason to skip
            Err(error) => panic!("{error}"),
        }
    }

    fn boot() -> Result<Self, String> {
        assert_root();
        let runner = std::process::id();
        let name = format!("vm-{runner}");
        let seed = std::env::temp_dir().join(format!("netns-networkd-vm-seed-{runner}"));
        let seed = seed.to_str().expect("UTF-8");
        let product = format!("{seed}/product");
        let prepare = format!("mkdir -p {seed}/usr/local/lib; cp tests/common/talk.py {seed}/usr/local/lib; strip -o {product} {BIN}");
        let _ = run("", &["sh", "-euc", &format!("cd {REPO}; {prepare}")]).ok();
        install(seed, &product);
        let _ = run("", &["rm", &product]).ok();
        let drop_in = format!("{seed}/usr/lib/systemd/system/netns@.service.d/test.conf");
        let _ = run("", &["install", "-Dm644", NO_OTHER_CALLS, &drop_in]).ok();
        guard_host(&name);
        let guests: Vec<_> = Suite::all().into_iter().filter(|suite| *suite != Suite::Trixie).map(Suite::name).collect();
        let booted = Command::new("timeout")
            .args(["1200", VM_SH, "boot", &name])
            .env("NETNS_TEST_OWNER", runner.to_string())
            .env("NETNS_TEST_SEED", seed)
            .env("NETNS_TEST_GUESTS", guests.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("start timeout(1)");
        let _ = run("", &["rm", "-r", seed]).ok();
        if !booted.success() {
            return Err(format!("cannot boot the virtual machine, {booted}: the reason is on standard error"));
        }
        Ok(Self { name, used: Mutex::new(()), guests: Mutex::default() })
    }

    /// Returns a host with the systemd of a release, for one test.
    #[track_caller]
    pub fn host(suite: Suite) -> Result<VmHost, String> {
        let vm = Self::shared()?;
        let mut host = VmHost { vm, guest: None, _alone: vm.lock() };
        if suite != Suite::Trixie {
            let mut guests = vm.guests.lock().unwrap_or_else(PoisonError::into_inner);
            let running = guests.iter().find(|(of, _)| *of == suite).cloned();
            host.guest = running.or_else(|| {
                let init = run("", &["timeout", "700", VM_SH, "guest", &vm.name, suite.name()]).ok().stdout;
                guests.push((suite, init.trim().to_owned()));
                guests.last().cloned()
            });
        }
        Ok(host)
    }

    /// Reboots it, and waits until it is up again.
    #[track_caller]
    pub fn reboot(&self) {
        let status = Command::new("timeout").args(["700", VM_SH, "reboot", &self.name]).stdin(Stdio::null()).status();
        assert!(status.expect("start timeout(1)").success(), "the virtual machine does not come up again: the reason is on standard error");
    }

    /// Keeps everyone else out: a test is about the whole host. What a test that failed has left is removed.
    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.used.lock().unwrap_or_else(|poisoned| {
            let _ = self.sh(CLEAN_UP);
            self.used.clear_poison();
            poisoned.into_inner()
        })
    }
}

impl Shell for VmHost {
    fn enter(&self) -> Vec<String> {
        let mut words = self.vm.enter();
        if let Some((_, init)) = &self.guest {
            let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            words.extend(
                ["nsenter", "-t", init, "-a", "--", "/usr/bin/env", "-i", path, "HOME=/root", "LANG=C.UTF-8"].map(ToOwned::to_owned),
            );
        }
        words
    }
}

impl Drop for VmHost {
    fn drop(&mut self) {
        // who knows what is on it: the next one boots another
        if let Some((suite, _)) = self.guest.take_if(|_| std::thread::panicking()) {
            self.vm.guests.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| *of != suite);
        }
    }
}

/// Goes on past errors.
const CLEAN_UP: &str = r"set +e
systemctl disable --now $(cd /etc/systemd/system; ls -d t-*); systemctl stop 'netns-hold@*' 't-*'
rm -rf /etc/netns-networkd /etc/systemd/system/t-* /etc/systemd/network/1-test*
systemctl daemon-reload; systemctl reset-failed; netns-networkd sync; networkctl reload
for netns in $(ls /run/netns); do ip netns delete $netns; done
udevadm settle
for link in $(ls /sys/class/net); do case $link in lo|ens[345]) ;; *) ip link delete $link ;; esac; done
for link in ens4 ens5; do ip link set $link nomaster down; done; nft flush ruleset";

impl Shell for Vm {
    fn enter(&self) -> Vec<String> {
        [VM_SH, "exec", &self.name].map(ToOwned::to_owned).to_vec()
    }
}
