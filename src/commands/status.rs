//! `status`: everything, what is wrong first.

use std::process::ExitCode;

use anyhow::Result;

use super::{CHANGES, Context, paper, print_json};
use crate::{cli, reconcile::status::status, report::Document, show, sys::terminal};

pub fn run(context: &Context, args: &cli::Status) -> Result<ExitCode> {
    let report = status(&args.names)?;
    let code = code(report.ok);
    if context.json {
        print_json(&Document::new(report));
    } else {
        terminal::print(&show::status(&report, paper(context)));
    }
    Ok(code)
}

/// Gives the exit code of a look at the host.
pub fn code(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) }
}
