//! `confirm` and `rollback`, and the question of `sync --confirm`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Context, FAILED, done, teller::Teller};
use crate::{
    reconcile::rollback,
    report::Outcome,
    sys::terminal::{self, Answer},
};

/// Of a program that was ended by SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

pub fn confirm(context: &Context) -> Result<ExitCode> {
    rollback::confirm()?;
    Ok(done(context, Outcome::default()))
}

pub fn rollback(context: &Context) -> Result<ExitCode> {
    let mut teller = Teller::new(context);
    let outcome = match rollback::rollback(&mut |event| teller.hear(event)) {
        Ok(outcome) => outcome,
        Err(error) => return teller.fail(error, false, None),
    };
    let code = teller.end(&outcome, false, None);
    if !context.json {
        say!("all changes were taken back; the configuration still asks for them: `netns-networkd sync --dry-run` shows them");
    }
    Ok(code)
}

/// Asks whether the changes may stay, where there is somebody to ask; says how to answer, where there is none. `code` is that of
/// the sync.
pub fn ask(context: &Context, limit: Duration, code: ExitCode) -> Result<ExitCode> {
    if !terminal::can_ask() {
        say!("waiting: everything goes back in {} s unless `netns-networkd confirm` is run", limit.as_secs());
        return Ok(code);
    }
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let question = format!("Keep these changes? They are taken back in {} s. [y/N] ", left.as_secs_f32().ceil());
        match terminal::ask(&question, left.min(Duration::from_secs(1)))? {
            Answer::Yes => return confirm(context).map(|_| code),
            Answer::No => return rollback(context).map(|_| ExitCode::from(FAILED)),
            Answer::None if !rollback::is_waiting() => {
                terminal::clear_line();
                complain!("answered by somebody else");
                return Ok(ExitCode::SUCCESS);
            }
            Answer::None if left.is_zero() => {
                terminal::clear_line();
                complain!("no answer: everything goes back");
                return Ok(ExitCode::from(FAILED));
            }
            Answer::None => {}
        }
    }
}
