//! `exec`: this process becomes a command inside a namespace. So its exit code, signals, terminal and input are the command's.

use std::process::ExitCode;

use anyhow::Result;

use super::Context;
use crate::{
    cli, error,
    reconcile::exec,
    sys::{enter, fs},
};

pub fn run(context: &Context, args: cli::Exec) -> Result<ExitCode> {
    let cli::Exec { name, mut command } = args;
    for warning in exec::enter(&name)? {
        complain!("{}: {warning}", context.warning());
    }
    if command.is_empty() {
        command.push(fs::environment().remove("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".to_owned()));
    }
    let (error, code) = enter::become_command(&command);
    complain!("{}: {}", context.error(), error::render(&error));
    Ok(ExitCode::from(code))
}
