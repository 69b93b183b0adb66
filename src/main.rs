//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use netns_networkd::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::run(Cli::parse())
}
