//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use netns_networkd::{cli::Cli, commands};

fn main() -> ExitCode {
    if let Some(cli) = Cli::of_unit(std::env::args_os().skip(1)) {
        return commands::run(cli);
    }
    commands::completions::answer();
    match Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => commands::misused(&error, std::env::args_os().any(|argument| argument == "--json")),
    }
}
