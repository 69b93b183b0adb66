//! `doctor`: what is wrong with the host, why it matters, and what mends it.

use std::process::ExitCode;

use anyhow::Result;

use super::{Context, paper, print_json, status::code};
use crate::{reconcile::doctor::diagnose, report::Document, show, sys::terminal};

pub fn run(context: &Context) -> Result<ExitCode> {
    let diagnosis = diagnose()?;
    let code = code(diagnosis.ok);
    if context.json {
        print_json(&Document::new(diagnosis));
    } else {
        terminal::print(&show::doctor(&diagnosis, paper(context)));
    }
    Ok(code)
}
