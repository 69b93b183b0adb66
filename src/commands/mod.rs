//! One file a verb: wiring and words, no work.

mod check;
mod rollback;
mod sync;

use std::process::ExitCode;

use anyhow::{Error, Result, anyhow, bail};

use crate::{
    cli::{Cli, Command},
    config::Faults,
    error,
    reconcile::{
        dhcp,
        netns::{self, Reach},
        sync::Refused,
    },
    sys::{
        fs::{self, Root},
        terminal,
    },
};

/// Exit codes, as the contract has them.
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const CHANGES: u8 = 3;
pub const UNVERIFIED: u8 = 4;

/// What every command knows.
struct Context {
    root: Root,
    verbose: bool,
    /// Standard output, and standard error, take colours.
    color: (bool, bool),
}

/// Runs a command; prints its errors.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let Cli { root, color, verbose, command } = cli;
    let context = Context { root: Root::new(root), verbose, color: terminal::colors(color) };
    match dispatch(&context, command) {
        Ok(code) => match terminal::unsaid() {
            Some(error) => report(&context, &anyhow!("failed to print what was done: {error}")),
            None => code,
        },
        Err(error) => report(&context, &error),
    }
}

fn dispatch(context: &Context, command: Command) -> Result<ExitCode> {
    if !context.root.is_host() && !matches!(command, Command::Check(_) | Command::Sync(_)) {
        bail!("only check and sync work on an image; this command is for the running host");
    }
    match command {
        Command::Check(args) => check::run(context, &args),
        Command::Sync(args) => sync::run(context, args),
        Command::Confirm => rollback::confirm(),
        Command::Rollback => rollback::rollback(context),
        Command::Up(args) => {
            let changes = netns::up(&args.name, if args.live { Reach::Live } else { Reach::Whole })?;
            if context.verbose {
                changes.iter().for_each(terminal::say);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Down(args) => netns::down(&args.name).map(|()| ExitCode::SUCCESS),
        Command::Online(args) => dhcp::online(&args.name).map(|()| ExitCode::SUCCESS),
        Command::DhcpEvent(args) => dhcp::event(&args.name, &fs::environment()).map(|()| ExitCode::SUCCESS),
    }
}

fn report(context: &Context, error: &Error) -> ExitCode {
    if let Some(faults) = error.downcast_ref::<Faults>() {
        terminal::warn(faults.render(context.color.1).trim_end());
        return ExitCode::from(USAGE);
    }
    let word = if context.color.1 { "\x1b[1;31merror\x1b[0m" } else { "error" };
    terminal::warn(format_args!("{word}: {}", error::render(error)));
    ExitCode::from(if error.downcast_ref::<Refused>().is_some() { USAGE } else { FAILED })
}
