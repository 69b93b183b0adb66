//! Arguments in, exit code out.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
use {
    spinning_top::RawSpinlock,
    std::alloc::System,
    talc::{TalcLock, source::GlobalAllocSource},
};

use clap::Parser;
use netns_networkd::{cli::Cli, commands};

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: TalcLock<RawSpinlock, GlobalAllocSource<System>> = TalcLock::new(GlobalAllocSource::with_block_size(System, 128 * 1024));

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
