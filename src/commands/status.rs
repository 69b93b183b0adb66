//! `status`: everything, what is wrong first.

use std::process::ExitCode;

use anyhow::Result;

use super::{CHANGES, Context, print_json};
use crate::{
    cli,
    reconcile::status::status,
    report::{Document, Report},
};

pub fn run(context: &Context, args: &cli::Status) -> Result<ExitCode> {
    let report = status(&args.names)?;
    let code = code(&report);
    print_json(&Document::new(report));
    let _ = context;
    Ok(code)
}

/// Gives the exit code of a report.
pub fn code(report: &Report) -> ExitCode {
    if report.ok { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) }
}
