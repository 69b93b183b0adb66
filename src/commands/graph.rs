//! `graph`: bridges, namespaces and services as a picture.

use std::process::ExitCode;

use anyhow::Result;

use super::{Context, paper, print_json, status::code};
use crate::{
    cli::{self, Format},
    graph,
    reconcile::status::status,
    report::Document,
    sys::terminal,
};

pub fn run(context: &Context, args: &cli::Graph) -> Result<ExitCode> {
    let report = status(&args.names)?;
    let code = code(report.ok);
    if context.json {
        // what it is made of
        print_json(&Document::new(report));
        return Ok(code);
    }
    terminal::print(&match args.format {
        Format::Text => graph::text(&report, paper(context)),
        Format::Svg => graph::svg(&report),
        Format::Dot => graph::dot(&report),
        Format::Mermaid => graph::mermaid(&report),
    });
    Ok(code)
}
