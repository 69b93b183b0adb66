//! `list`: a line for each namespace.

use std::process::ExitCode;

use anyhow::Result;

use super::{Context, print_json, status::code};
use crate::{reconcile::status::status, report::Document};

pub fn run(context: &Context) -> Result<ExitCode> {
    let report = status(&[])?;
    let code = code(&report);
    print_json(&Document::new(report));
    let _ = context;
    Ok(code)
}
