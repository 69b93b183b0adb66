//! `sync` and `sync --dry-run`: what changes, in words.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use similar::TextDiff;

use super::{Context, teller::Teller};
use crate::{
    cli,
    diff::Change,
    plan::Step,
    reconcile::{
        rollback,
        sync::{Options, Outcome, file_texts, sync},
    },
    sys::terminal,
};

pub fn run(context: &Context, args: cli::Sync) -> Result<ExitCode> {
    let cli::Sync { names, dry_run, restart, force, confirm } = args;
    let confirm = confirm.map(Duration::from_secs);
    let options = Options { root: context.root.clone(), names, restart, force, dry_run, confirm };
    if confirm.is_some() {
        if !context.root.is_host() {
            bail!("--confirm is for the running host: an image can be made again");
        }
        terminal::on_interrupt(|| {
            if rollback::is_ours() {
                complain!("\ninterrupted: everything goes back");
                // when this run has let go of the lock
                let _ = rollback::start();
            } else {
                complain!("\ninterrupted: nothing was changed");
            }
            super::rollback::INTERRUPTED
        });
    }
    let mut teller = Teller::new(context);
    let outcome = match sync(&options, &mut |event| teller.hear(event)) {
        Ok(outcome) => outcome,
        Err(error) => {
            if rollback::is_ours() && !context.json {
                complain!("what was changed goes back in time, or at once with `netns-networkd rollback`");
            }
            return teller.fail(error, dry_run, confirm);
        }
    };
    if dry_run && !context.json {
        show_plan(context, &outcome);
    }
    let code = teller.end(&outcome, dry_run, confirm);
    match confirm.filter(|_| outcome.waits && !context.json) {
        Some(limit) => super::rollback::ask(context, limit, code),
        None => Ok(code),
    }
}

/// Prints the diff of every file, then the actions.
fn show_plan(context: &Context, outcome: &Outcome) {
    for change in &outcome.plan.changes {
        if let Some((path, before, after)) = file_texts(change) {
            let (old, new) = (if before.is_empty() { "/dev/null".into() } else { path.display().to_string() }, path.display().to_string());
            let new = if after.is_empty() { "/dev/null".to_owned() } else { new };
            let diff = TextDiff::from_lines(before, after).unified_diff().header(&old, &new).to_string();
            for line in diff.lines() {
                say!("{}", paint(line, context.color.0));
            }
        }
    }
    let files = |step: &&Step| !matches!(step, Step::WriteFile { .. } | Step::RemoveFile { .. });
    for step in outcome.plan.steps.iter().filter(files) {
        if let Step::Restart(restarts) = step {
            for restart in restarts {
                say!("would restart {}\n  {}", restart.why.unit(), restart.why);
                restart.along().iter().for_each(|along| say!("  {along}"));
            }
            continue;
        }
        say!("would {step}");
        if let Step::Converge(netns) = step {
            let users: Vec<&str> = outcome.plan.users.get(netns).into_iter().flatten().map(String::as_str).collect();
            if !users.is_empty() {
                say!("  used by: {}", users.join(", "));
            }
        }
        for change in &outcome.plan.changes {
            match (step, change) {
                (Step::Converge(netns), Change::Netns { name, change }) if name == netns => say!("  {change}"),
                (Step::SetLink(link), Change::HostLink { name, .. }) if name == link => say!("  {change}"),
                _ => {}
            }
        }
    }
}

fn paint(line: &str, color: bool) -> String {
    let code = match line.as_bytes().first() {
        Some(b'+') => "32",
        Some(b'-') => "31",
        Some(b'@') => "36",
        _ => return line.to_owned(),
    };
    if color { format!("\x1b[{code}m{line}\x1b[0m") } else { line.to_owned() }
}
