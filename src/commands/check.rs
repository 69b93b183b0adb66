//! `check`: the configuration read and validated, nothing else.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::{cli::Check, reconcile::host};

pub fn run(context: &Context, args: &Check) -> Result<ExitCode> {
    let config = if args.files.is_empty() { host::read_config(&context.root)? } else { host::read_files(&args.files)? };
    if context.verbose {
        say!("{} namespaces, {} bridges: no faults", config.namespaces.len(), config.bridges.len());
    }
    Ok(ExitCode::SUCCESS)
}
