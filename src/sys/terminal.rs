//! The terminal, if there is one.

use std::{
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdin, stdout},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ColorChoice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
    let _ = writeln!(stdout(), "{line}");
}

/// Prints a line on standard error: see [`say`].
pub fn complain(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Tells whether somebody can be asked something.
#[must_use]
pub fn can_ask() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// What somebody answered to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Yes,
    No,
    /// Nothing in time.
    None,
}

/// Asks a question, on the line where the last one is, and waits for the answer.
pub fn ask(question: &str, limit: Duration) -> Result<Answer> {
    write!(stdout(), "{question}").and_then(|()| stdout().flush()).context("failed to ask")?;
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
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            std::process::exit(work().into());
        }
    });
}
