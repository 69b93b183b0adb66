//! The terminal, if there is one.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdin, stdout},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::ColorChoice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::signal::unix::{SignalKind, signal};

/// Tells whether standard output and standard error take colours. `NO_COLOR` (no-color.org) counts for `auto`.
#[must_use]
pub fn colors(choice: ColorChoice) -> (bool, bool) {
    match choice {
        ColorChoice::Always => (true, true),
        ColorChoice::Never => (false, false),
        ColorChoice::Auto => {
            let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            (wanted && stdout().is_terminal(), wanted && stderr().is_terminal())
        }
    }
}

/// Prints a line. That nobody reads it (`| head`, a lost connection) is no reason to leave work half done, as `println!` would.
pub fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{}", harmless(&line.to_string()));
}

/// Prints a line on standard error: see [`say`].
pub fn complain(line: impl Display) {
    let _ = writeln!(stderr(), "{}", harmless(&line.to_string()));
}

/// Takes from a text what a terminal would act on, but for new lines, tabs and colours: names in it may be those that others gave.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(is_harmless) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let color = rest.strip_prefix("\x1b[").map(|code| code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
        if let Some(after) = color.and_then(|code| code.strip_prefix('m')) {
            shown.push_str(&rest[..rest.len() - after.len()]);
            rest = after;
        } else {
            shown.push(if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER });
            rest = &rest[c.len_utf8()..];
        }
    }
    shown.into()
}

/// Gives the columns of the terminal that standard output is; none if it is none.
#[must_use]
pub fn width() -> Option<usize> {
    let number = |text: std::ffi::OsString| text.to_str()?.parse().ok().filter(|columns| *columns > 0);
    stdout().is_terminal().then(|| std::env::var_os("COLUMNS").and_then(number).or_else(|| columns(stdout())).unwrap_or(80))
}

/// Tells whether the locale says that more than ASCII can be shown.
#[must_use]
pub fn is_unicode() -> bool {
    // setlocale(3): the first of these that is set
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let locale = locale.map(|value| value.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// What was asked for could not be printed.
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Prints to standard output. A reader that has gone has seen enough.
pub fn print(text: &str) {
    let mut out = stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        IS_LOST.store(true, Ordering::Relaxed);
        complain(format_args!("error: failed to write to standard output: {error}"));
    }
}

/// Tells whether something of what [`print`] was given could not be written.
#[must_use]
pub fn is_output_lost() -> bool {
    IS_LOST.load(Ordering::Relaxed)
}

/// A line on standard error that says what is waited for, and for how long; written anew each second, and gone when this is. Only on a
/// terminal, and only if it takes long enough for a person to wonder.
#[derive(Debug)]
pub struct Waiting(Option<(Sender<String>, JoinHandle<()>)>);

/// What is over sooner needs no line.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_secs(1);

impl Waiting {
    /// Begins to wait, for `limit` if there is one.
    #[must_use]
    pub fn new(what: impl Into<String>, limit: impl Into<Option<Duration>>) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if !stderr().is_terminal() || is_dumb {
            return Self(None);
        }
        let (sender, words) = mpsc::channel();
        let (mut what, start) = (what.into(), Instant::now());
        let of = limit.into().map(|limit| format!(" of {} s", limit.as_secs())).unwrap_or_default();
        let thread = thread::spawn(move || {
            let (mut next, mut is_shown) = (start + PATIENCE, false);
            loop {
                match words.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(now) => what = now,
                    Err(RecvTimeoutError::Timeout) => {
                        let line = format!("waiting: {what} ({} s{of})", start.elapsed().as_secs());
                        show(&fit(&line, columns(stderr()).unwrap_or(80)));
                        (next, is_shown) = (Instant::now() + TICK, true);
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if is_shown {
                clear_line();
            }
        });
        Self(Some((sender, thread)))
    }

    /// Says that something else is waited for now.
    pub fn is_for(&self, what: impl Into<String>) {
        if let Some((sender, _)) = &self.0 {
            let _ = sender.send(what.into());
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            // the line is gone before anything else is written
            let _ = thread.join();
        }
    }
}

/// Takes away what was shown last.
pub fn clear_line() {
    show("");
}

/// Writes a line over the one that is there.
fn show(line: &str) {
    let mut err = stderr().lock();
    let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
}

/// Cuts a line to what fits: one that is broken could not be written over.
fn fit(line: &str, columns: usize) -> String {
    // control characters would move the cursor
    let visible = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(columns.saturating_sub(1)).collect()
}

fn columns(terminal: impl std::os::fd::AsFd) -> Option<usize> {
    rustix::termios::tcgetwinsize(terminal).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Tells whether somebody can be asked something.
#[must_use]
pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// What somebody answered to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    /// Nothing in time.
    None,
}

/// Asks a question on standard error, over the line where the last one is, and waits for the answer.
pub fn ask(question: &str, limit: Duration) -> Result<Answer> {
    show(question);
    let timeout = Timespec { tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: limit.subsec_nanos().into() };
    match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Answer::None),
        other => other.context("failed to wait for an answer")?,
    };
    let mut line = String::new();
    stdin().read_line(&mut line).context("failed to read the answer")?;
    Ok(if matches!(line.trim(), "y" | "Y" | "yes") { Answer::Yes } else { Answer::No })
}

/// Does something at Ctrl-C (SIGINT), and ends the program with the exit code that it gives.
pub fn on_interrupt(work: impl FnOnce() -> u8 + Send + 'static) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async move {
            let Ok(mut interrupts) = signal(SignalKind::interrupt()) else { return };
            let _ = ready.send(());
            if interrupts.recv().await.is_some() {
                std::process::exit(work().into());
            }
        });
    });
    // until then it would end the program without a word; a thread that cannot do it lets go of the channel
    let _ = is_ready.recv();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_reach_the_terminal() {
        assert_eq!(harmless("a\nb é"), "a\nb é");
        assert_eq!(harmless("\x1b[1;31merror\x1b[0m: x"), "\x1b[1;31merror\x1b[0m: x");
        assert_eq!(harmless("\x1b]0;x\x07 \x1b[2J\r\u{9b}1A\t\x1b[1"), "�]0;x� �[2J��1A\t�[1");
    }

    #[test]
    fn a_line_that_is_written_over_fits() {
        assert_eq!(fit("waiting: x", 80), "waiting: x");
        assert_eq!(fit("wait\nfor é", 10), "wait for ");
        assert_eq!(fit("x", 0), "");
    }
}
