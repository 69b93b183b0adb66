//! `check`: the configuration read and validated, nothing else.

use std::process::ExitCode;

use anyhow::Result;

use super::{Context, print_json};
use crate::{
    cli,
    config::Config,
    reconcile::host,
    report::{Check, Document},
    show::summary::count,
};

pub fn run(context: &Context, args: &cli::Check) -> Result<ExitCode> {
    let Config { namespaces, bridges } =
        if args.files.is_empty() { host::read_config(&context.root)? } else { host::read_files(&args.files)? };
    let (namespaces, bridges) = (namespaces.len(), bridges.len());
    if context.json {
        print_json(&Document::new(Check { namespaces, bridges }));
    } else if context.verbose {
        let namespaces = count(namespaces, "namespace", "namespaces");
        say!("{namespaces}, {}: no faults", count(bridges, "bridge", "bridges"));
    }
    Ok(ExitCode::SUCCESS)
}
