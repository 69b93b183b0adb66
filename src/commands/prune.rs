//! `prune`: a line for each thing that goes.

use std::process::ExitCode;

use anyhow::Result;

use super::{CHANGES, Context, warning};
use crate::{
    cli::Prune,
    reconcile::{prune::prune, sync::Event},
};

pub fn run(context: &Context, args: &Prune) -> Result<ExitCode> {
    let found = prune(args.dry_run, &mut |event| match event {
        Event::Done(line) => println!("{line}"),
        Event::Warning(text) => eprintln!("{}: {text}", warning(context)),
    })?;
    Ok(if args.dry_run && found { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}
