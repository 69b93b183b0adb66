//! `completions`: what a shell reads to complete our arguments. It asks this program at each Tab, so that names are those of now.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{CommandFactory, ValueEnum};
use clap_complete::{
    ArgValueCandidates, CompletionCandidate,
    env::{CompleteEnv, Shells},
};

use crate::{
    cli::{Cli, Completions},
    reconcile::host,
    sys::terminal,
};

/// The environment variable by which a shell asks.
const ASKED: &str = "COMPLETE";
const PROGRAM: &str = "netns-networkd";

pub fn run(args: &Completions) -> Result<ExitCode> {
    let shell = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell).ok_or_else(|| anyhow!("nothing is known of shell {shell}"))?;
    let mut script = Vec::new();
    completer.write_registration(ASKED, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    terminal::print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell and ends the program, if it is one that asks.
pub fn answer() {
    CompleteEnv::with_factory(with_names).var(ASKED).complete();
}

/// Gives the command line with the names that its arguments can have now.
fn with_names() -> clap::Command {
    let add = |arg: clap::Arg| {
        let is_name = ["name", "names"].contains(&arg.get_id().as_str());
        if is_name { arg.add(ArgValueCandidates::new(namespaces)) } else { arg }
    };
    Cli::command().mut_subcommands(|command| command.mut_args(add))
}

fn namespaces() -> Vec<CompletionCandidate> {
    let candidates = host::names().into_iter();
    candidates.map(|(name, about)| CompletionCandidate::new(name.as_str()).help(about.map(Into::into))).collect()
}
