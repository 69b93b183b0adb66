//! What tests stand on: booted hosts, throw-away namespaces, data cases, commands with transcripts.
//!
//! Nothing here knows the product beyond the path of its binary and `make install`.

mod cases;
mod host;
mod lab;
mod sandbox;
pub mod schema;
mod vm;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use rustix::fs::{MemfdFlags, memfd_create};

pub use cases::{Case, case_list, cases, diff};
// the type is named by tests/bench only
#[allow(unused_imports)]
pub use host::FreshHost;
pub use host::{Host, Suite, stop_all_hosts};
pub use lab::{HOST_PORT, Lab, TALK_PY, talk_unit};
pub use sandbox::Sandbox;
pub use vm::{Vm, VmHost};

pub const REPO: &str = env!("CARGO_MANIFEST_DIR");
/// The product, as cargo built it for this test run.
pub const BIN: &str = env!("CARGO_BIN_EXE_netns-networkd");

/// A package that is tested in place of [`BIN`], on hosts, in virtual machines and in images: `make test-deb`.
pub fn package() -> Option<String> {
    std::env::var("NETNS_TEST_DEB").ok().filter(|path| !path.is_empty())
}

/// The path of the program that is tested, on this machine.
#[track_caller]
pub fn program() -> String {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    let unpacked = |package: String| {
        let path = format!("{BIN}-packaged");
        let unpack = "dpkg-deb --fsys-tarfile $0 | tar -xO ./usr/bin/netns-networkd >$1.new; chmod +x $1.new; mv $1.new $1";
        let _ = run("", &["bash", "-euo", "pipefail", "-c", unpack, &package, &path]).ok();
        path
    };
    PROGRAM.get_or_init(|| package().map_or_else(|| BIN.to_owned(), unpacked)).clone()
}

/// Tells whether the program that is tested is without faults on purpose, as all but debug builds are: then the test is skipped.
pub fn has_no_faults() -> bool {
    let packaged = package().is_some();
    if packaged {
        note_skip("a packaged program has no faults on purpose: `make test` does this with the debug build".to_owned());
    }
    packaged
}

/// Puts the product below a folder, as a user does for an image.
#[track_caller]
pub fn install(root: &str, bin: &str) {
    let _ = match package() {
        Some(package) => run("", &["dpkg-deb", "--extract", &package, root]),
        None => run("", &["make", "-s", "-C", REPO, "install", "PREFIX=/usr", &format!("DESTDIR={root}"), &format!("BIN={bin}")]),
    }
    .ok();
}

/// No command in a test may take longer, in seconds; past it the exit code is 124.
const COMMAND_SECONDS: u32 = 120;

/// Makes a trial of each function: `trials![parses]` in tests/units.rs is named `units::parses`.
#[macro_export]
macro_rules! trials {
    ($($test:ident),+ $(,)?) => {
        vec![$($crate::common::trial(concat!(module_path!(), "::", stringify!($test)), $test)),+]
    };
}

/// Makes a trial for each suite of each function, which takes a [`Suite`]: `units::starts::trixie` and so on.
#[macro_export]
macro_rules! suite_trials {
    ($($test:ident),+ $(,)?) => {{
        let mut trials = Vec::new();
        for suite in $crate::common::Suite::all() {
            $(trials.push($crate::common::trial(
                &format!("{}::{}::{suite}", module_path!(), stringify!($test)),
                move || $test(suite),
            ));)+
        }
        trials
    }};
}

/// Ends a test that cannot run here: loud where a person looks on, a failure in CI.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::common::note_skip(format!($($reason)+));
        return;
    }};
}

thread_local! {
    // libtest-mimic runs each trial on one thread, from start to end.
    static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
    static IN_TRIAL: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What [`skip!`] calls.
pub fn note_skip(reason: String) {
    assert!(!in_ci(), "skipped, which CI does not allow: {reason}");
    eprintln!("\n!!! SKIPPED: {reason}\n");
    SKIPPED.set(Some(reason));
}

pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Gives the rounds of a long run: a few, or as many as `NETNS_TEST_SOAK` has (`make soak`).
pub fn soak_rounds(few: u32) -> u32 {
    std::env::var("NETNS_TEST_SOAK").map_or(few, |rounds| rounds.parse().expect("NETNS_TEST_SOAK is a number of rounds"))
}

/// Names a test for the runner; `name` may start with the runner's own crate.
pub fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    let name = name.strip_prefix("suite::").unwrap_or(name);
    Trial::ignorable_test(name, || {
        IN_TRIAL.set(true);
        catch_unwind(AssertUnwindSafe(test)).map_err(|_| LAST_PANIC.take())?;
        Ok(SKIPPED.take().map_or(Completion::Completed, Completion::ignored_with))
    })
}

/// Keeps where and why a trial panicked for the runner's list of failures, instead of printing it among the others' lines.
pub fn keep_panics_of_trials() {
    let print = take_hook();
    set_hook(Box::new(move |info| {
        if !IN_TRIAL.get() {
            return print(info);
        }
        let place = info.location().map_or_else(String::new, |at| format!("{}:{}: ", at.file(), at.line()));
        LAST_PANIC.set(place + panic_text(info.payload()));
    }));
}

pub fn panic_text(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// What a command did; as text, its whole transcript.
#[must_use = "say what you expect: ok() or fails(code)"]
pub struct Output {
    command: String,
    pub stdout: String,
    pub stderr: String,
    /// The exit code, or 128 plus the signal that ended it.
    pub code: i32,
}

impl Output {
    /// Returns the output when the command succeeded, otherwise panics with the transcript.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.fails(0)
    }

    /// Returns the output when the exit code is `code`, otherwise panics with the transcript.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit code {code}\n{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        for (stream, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {stream}\n{}", text.trim_end())?;
            }
        }
        write!(f, "--- exit code {}{}", self.code, if self.code == 124 { " (timed out)" } else { "" })
    }
}

/// Something commands run in: a [`Host`] or a [`Sandbox`].
pub trait Shell {
    /// Returns the words that run a command inside.
    fn enter(&self) -> Vec<String>;

    /// Runs a command inside, with nothing on its standard input.
    fn run(&self, command: &[&str]) -> Output {
        self.feed("", command)
    }

    /// Runs a bash script inside; it ends at the first command that fails.
    fn sh(&self, script: &str) -> Output {
        Output { command: script.to_owned(), ..self.run(&["bash", "-euo", "pipefail", "-c", script]) }
    }

    /// Runs a command inside with `input` on its standard input.
    fn feed(&self, input: &str, command: &[&str]) -> Output {
        let mut words = self.enter();
        words.extend(command.iter().map(ToString::to_string));
        Output { command: command.join(" "), ..run(input, &words) }
    }

    /// Writes a file inside, and the folders it is in.
    #[track_caller]
    fn write_file(&self, path: &str, content: &str) {
        let _ = self.feed(content, &["sh", "-c", r#"mkdir -p "$(dirname "$0")" && cat >"$0""#, path]).ok();
    }

    #[track_caller]
    fn read_file(&self, path: &str) -> String {
        self.run(&["cat", path]).ok().stdout
    }

    /// Runs `script` until it succeeds and returns what it printed; panics with its last transcript after `limit`.
    ///
    /// The one place where tests wait: everywhere else they are told when something is done.
    #[track_caller]
    fn wait_until(&self, what: &str, limit: Duration, script: &str) -> Output {
        let start = Instant::now();
        loop {
            let output = self.sh(script);
            if output.code == 0 {
                return output;
            }
            assert!(start.elapsed() < limit, "not within {limit:?}: {what}\n{output}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// Runs a command on the machine itself, under the time limit.
///
/// Output goes to memory files, not pipes: a child left in the background cannot keep us waiting, nor can two full
/// pipes block each other.
pub fn run<S: AsRef<str>>(input: &str, words: &[S]) -> Output {
    let memory = || File::from(memfd_create("test-output", MemfdFlags::CLOEXEC).expect("memfd"));
    let (mut stdin, mut stdout, mut stderr) = (memory(), memory(), memory());
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).expect("write to a memfd");
    let status = Command::new("timeout")
        .args(["--kill-after=5", &COMMAND_SECONDS.to_string()])
        .args(words.iter().map(AsRef::as_ref))
        .stdin(stdin)
        .stdout(stdout.try_clone().expect("dup"))
        .stderr(stderr.try_clone().expect("dup"))
        .status()
        .expect("start timeout(1)");
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read a memfd");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Output {
        command: words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "),
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
    }
}

#[track_caller]
fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run the tests as root, for instance with sudo make test");
}
