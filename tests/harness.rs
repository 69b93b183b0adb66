//! The harness itself: what every other test takes for granted.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Case, Host, REPO, Sandbox, Shell, Suite, cases, diff, in_ci, note_skip, panic_text, run};
use crate::{suite_trials, trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![
        sandbox_isolates,
        sandbox_ends_with_all_that_runs_in_it,
        transcript_tells_all,
        wait_until_shows_what_it_saw,
        command_is_cut_off_from_the_background,
        case_shows_a_diff,
        cases_need_cases,
        skip_fails_in_ci,
        guard_stops_hosts_of_a_killed_runner,
    ];
    trials.extend(suite_trials![
        host_is_up_and_networkd_runs,
        host_is_clean,
        host_runs_commands_and_keeps_files,
        hosts_do_not_share_a_cgroup,
        product_installs,
    ]);
    trials
}

fn host_is_up_and_networkd_runs(suite: Suite) {
    let host = Host::shared(suite);
    let _shared = host.share();
    assert_eq!(host.run(&["systemctl", "is-system-running"]).ok().stdout, "running\n");
    assert_eq!(host.run(&["systemctl", "is-active", "systemd-networkd", "dbus"]).ok().stdout, "active\nactive\n");
    assert_eq!(host.run(&["hostname"]).ok().stdout, format!("{}\n", host.name));
    let version = host.run(&["systemctl", "--version"]).ok().stdout;
    let wanted = match suite {
        Suite::Bookworm => "systemd 252 ",
        Suite::Trixie => "systemd 257 ",
        Suite::Sid => "systemd ",
    };
    assert!(version.starts_with(wanted), "{version}");
    let _ = host.wait_until("the uplink is configured", Duration::from_secs(10), "networkctl status eno1 | grep -F '(configured)'");
    // nginx and others pull this in; without an uplink it takes two minutes
    let _ = host.run(&["timeout", "10", "systemctl", "start", "network-online.target"]).ok();
}

fn host_is_clean(suite: Suite) {
    let host = Host::shared(suite);
    let _alone = host.lock();
    let _ = host.run(&["systemctl", "is-active", "nginx", "lighttpd"]).fails(3);
    assert_eq!(host.sh("ls /etc/systemd/network").ok().stdout, "");
    assert_eq!(host.sh("ls -d /sys/class/net/* | xargs -n1 basename").ok().stdout, "eno1\nlan\nlo\n", "only its own links");
    assert_eq!(host.sh("ip route show default; ip -6 route show default").ok().stdout, "");
}

fn host_runs_commands_and_keeps_files(suite: Suite) {
    let host = Host::shared(suite);
    let _shared = host.share();
    assert_eq!(host.sh("exit 7").code, 7);
    assert_eq!(host.sh("false; true").code, 1, "a script ends at the first command that fails");
    assert_eq!(host.feed("in", &["cat"]).ok().stdout, "in");
    assert_eq!(host.run(&["printf", "%s|", "two words", "$x"]).ok().stdout, "two words|$x|");
    let environment = host.run(&["env"]).ok().stdout;
    assert!(!environment.contains("CARGO"), "the machine's environment leaks into the host:\n{environment}");
    for path in ["/etc/harness/file", "/run/harness/file"] {
        host.write_file(path, "line\nno newline");
        assert_eq!(host.read_file(path), "line\nno newline");
        assert!(!Path::new(path).exists(), "{path} is on the machine");
    }
    assert_eq!(fs::read_to_string(format!("{}/etc/harness/file", host.root())).unwrap(), "line\nno newline");
}

/// In one cgroup each systemd would take the other's services for its own leftovers, and kill them.
fn hosts_do_not_share_a_cgroup(suite: Suite) {
    let cgroup = |host: &Host| {
        let pid = fs::read_to_string(format!("/run/netns-networkd-tests/{}/init", host.name)).unwrap();
        fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap().lines().last().unwrap().to_owned()
    };
    let first = Host::shared(suite);
    let second = Host::fresh(suite, "harness");
    assert_ne!(cgroup(first), cgroup(&second));
    assert_ne!(first.read_file("/etc/machine-id"), second.read_file("/etc/machine-id"));

    let root = second.root();
    drop(second);
    assert!(!Path::new(&root).exists(), "{root} is left behind");
    assert_eq!(first.run(&["systemctl", "is-system-running"]).ok().stdout, "running\n");
}

fn product_installs(suite: Suite) {
    let host = Host::shared(suite);
    let _shared = host.share();
    host.install_product();
    let _ = host.run(&["/usr/bin/netns-networkd", "--version"]).ok();
    let _ = host.sh("ls /usr/lib/systemd/system/netns@.service /usr/share/doc/netns-networkd").ok();
    assert_eq!(host.run(&["systemctl", "show", "-P", "LoadState", "netns@x.service"]).ok().stdout, "loaded\n");
}

fn sandbox_isolates() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.sh("ls /sys/class/net").ok().stdout, "lo\n");
    let _ = sandbox.sh("ip netns add harness-sandbox; ip -n harness-sandbox link set lo up; test -e /run/netns/harness-sandbox").ok();
    assert!(!Path::new("/run/netns/harness-sandbox").exists());
    for path in ["/etc/netns-networkd/harness", "/var/lib/netns-networkd/harness", "/run/harness"] {
        sandbox.write_file(path, "x");
        assert_eq!(sandbox.read_file(path), "x");
        assert!(!Path::new(path).exists(), "{path} is on the machine");
    }
    let _ = sandbox.sh("hostname harness-sandbox").ok();
    assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "harness-sandbox\n");
    let _ = sandbox.sh("type netns-networkd").ok();
    let _ = sandbox.sh("test ! -e /run/dbus; test ! -e /run/systemd").ok();
}

fn sandbox_ends_with_all_that_runs_in_it() {
    let sandbox = Sandbox::new();
    // this name is nowhere else
    let _ = sandbox.sh("cp /bin/sleep /run/harness-sleeper; setsid /run/harness-sleeper 1000 & disown").ok();
    let sleepers = || run("", &["pgrep", "-c", "-f", "^/run/harness-sleeper 1000"]).stdout;
    assert_eq!(sleepers(), "1\n");
    drop(sandbox);
    assert_eq!(sleepers(), "0\n");
}

fn transcript_tells_all() {
    let sandbox = Sandbox::new();
    let message = panic_message(|| drop(sandbox.sh("echo out\necho err >&2\nexit 3").ok()));
    let wanted = "expected exit code 0\n$ echo out\necho err >&2\nexit 3\n--- stdout\nout\n--- stderr\nerr\n--- exit code 3";
    assert!(message == wanted, "{}", diff(wanted, &message));
}

fn wait_until_shows_what_it_saw() {
    let sandbox = Sandbox::new();
    let _ = sandbox.wait_until("the second try works", Duration::from_secs(5), "test -e /run/tried || { touch /run/tried; false; }");
    let message = panic_message(|| {
        drop(sandbox.wait_until("pigs fly", Duration::from_millis(100), "echo pigs walk; false"));
    });
    assert_eq!(message, "not within 100ms: pigs fly\n$ echo pigs walk; false\n--- stdout\npigs walk\n--- exit code 1");
}

fn command_is_cut_off_from_the_background() {
    let sandbox = Sandbox::new();
    let start = std::time::Instant::now();
    assert_eq!(sandbox.sh("sleep 60 & echo done").ok().stdout, "done\n");
    assert!(start.elapsed() < Duration::from_secs(30), "a background child holds its parent's output open");
}

fn case_shows_a_diff() {
    let dir = std::env::temp_dir().join(format!("harness-case-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("expected"), "same\nold\n").unwrap();
    let case = Case { name: "diff".to_owned(), dir: dir.clone() };
    assert_eq!(case.name, "diff");
    case.expect("expected", "same\nold\n");
    let message = panic_message(|| case.expect("expected", "same\nnew\n"));
    let missing = panic_message(|| case.expect("other", "x"));
    fs::remove_dir_all(&dir).unwrap();
    assert!(message.ends_with("--- expected\n+++ actual\n@@ -1,2 +1,2 @@\n same\n-old\n+new\n"), "{message}");
    assert!(missing.contains("is missing"), "{missing}");
}

fn cases_need_cases() {
    let message = panic_message(|| drop(cases("no-such-kind", |_| ())));
    assert_eq!(message, format!("{REPO}/tests/cases/no-such-kind: No such file or directory (os error 2)"));
}

fn skip_fails_in_ci() {
    let skip = || note_skip("nothing: this tests the skip itself".to_owned());
    if in_ci() {
        assert!(panic_message(skip).starts_with("skipped, which CI does not allow: nothing"));
    } else {
        // on a thread of its own, or this very test would count as skipped
        std::thread::spawn(skip).join().expect("a person may skip");
    }
}

/// The pipe that `guard` reads ends with the runner, however that ends.
fn guard_stops_hosts_of_a_killed_runner() {
    let host_sh = format!("{REPO}/tests/common/host.sh");
    let host = Host::fresh(Suite::Trixie, "guarded");
    let mut guard = Command::new(host_sh).arg("guard").stdin(Stdio::piped()).spawn().unwrap();
    writeln!(guard.stdin.take().unwrap(), "{}", host.name).unwrap(); // and closes it
    assert!(guard.wait().unwrap().success());
    assert!(!Path::new(&host.root()).exists());
    let gone = host.run(&["true"]).fails(1);
    assert_eq!(gone.stderr, format!("host.sh: no host {}\n", host.name));
}

fn panic_message(test: impl FnOnce()) -> String {
    panic_text(&*catch_unwind(AssertUnwindSafe(test)).expect_err("this should have panicked")).to_owned()
}
