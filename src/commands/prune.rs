//! `prune`: a line for each thing that goes.

use std::process::ExitCode;

use anyhow::Result;

use super::{CHANGES, Context, teller::Teller};
use crate::{cli::Prune, reconcile::prune::prune};

pub fn run(context: &Context, args: &Prune) -> Result<ExitCode> {
    let mut teller = Teller::new(context);
    let found = match prune(args.dry_run, &mut |event| teller.hear(event)) {
        Ok(found) => found,
        Err(error) => return teller.fail(error, args.dry_run, None),
    };
    teller.over(args.dry_run);
    Ok(if args.dry_run && found { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}
