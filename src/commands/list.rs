//! `list`: a line for each namespace.

use std::process::ExitCode;

use anyhow::Result;

use super::{Context, paper, print_json, status::code};
use crate::{reconcile::status::status, report::Document, show, sys::terminal};

pub fn run(context: &Context) -> Result<ExitCode> {
    let list = status(&[])?.list();
    let code = code(list.ok);
    if context.json {
        print_json(&Document::new(list));
    } else {
        terminal::print(&show::list(&list, paper(context)));
        if !list.ok {
            complain!("{}: not all is as configured: `netns-networkd status` shows what", context.warning());
        }
    }
    Ok(code)
}
