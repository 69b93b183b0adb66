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

/// Gives the columns of the terminal that standard output is; none if it is none.
#[must_use]
pub fn width() -> Option<usize> {
    let number = |text: std::ffi::OsString| text.to_str()?.parse().ok().filter(|columns| *columns > 0);
    let size = || rustix::termios::tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    stdout().is_terminal().then(|| std::env::var_os("COLUMNS").and_then(number).or_else(size).unwrap_or(80))
}

/// Tells whether the locale says that more than ASCII can be shown.
#[must_use]
pub fn is_unicode() -> bool {
    // setlocale(3): the first of these that is set
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let locale = locale.map(|value| value.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Prints to standard output. A reader that has gone has seen enough.
pub fn print(text: &str) {
    let mut out = stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(format_args!("error: failed to write to standard output: {error}"));
    }
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
