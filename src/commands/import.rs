//! `import`: what was written, what was left out, what to do then.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;

use super::{CHANGES, Context, print_json};
use crate::{
    cli,
    config::is_hidden,
    import::Note,
    reconcile::import::{Options, Outcome, import},
    report::{Document, ImportStep, Imported, ImportedFile, Left},
    sys::{fs::Root, terminal},
};

pub fn run(context: &Context, args: cli::Import) -> Result<ExitCode> {
    let cli::Import { from, output, dry_run, force } = args;
    let root = context.root.clone();
    let options = Options { from: from.map_or_else(|| root.clone(), Root::new), output, root, dry_run, force };
    let mut outcome = import(&options)?;
    let fault = outcome.fault.take();
    if context.json && fault.is_none() {
        print_json(&Document::new(document(&outcome, dry_run)));
    } else if !context.json {
        terminal::print(&text(&outcome, dry_run));
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    let all = outcome.import.notes.iter().all(|note| note.needless);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

fn document(outcome: &Outcome, dry_run: bool) -> Imported {
    let Outcome { import, files, fault: _ } = outcome;
    let left = |note: &Note| Left {
        file: note.from.file.to_string(),
        line: note.from.line,
        text: note.text.clone(),
        why: note.why.clone(),
        needless: note.needless,
    };
    Imported {
        dry_run,
        namespaces: import.names.clone(),
        files: files.iter().map(|(path, text)| ImportedFile { path: path.display().to_string(), content: text.clone() }).collect(),
        left: import.notes.iter().map(left).collect(),
        steps: import.steps.iter().map(|step| ImportStep { text: step.text.clone(), commands: step.commands.clone() }).collect(),
    }
}

fn text(outcome: &Outcome, dry_run: bool) -> String {
    let Outcome { import, files, fault: _ } = outcome;
    let mut text = String::new();
    for (path, content) in files {
        let path = path.display();
        let _ = if dry_run { writeln!(text, "# {path}\n{}", shown(content)) } else { writeln!(text, "write {path}") };
    }
    let (needless, missed): (Vec<&Note>, Vec<&Note>) = import.notes.iter().partition(|note| note.needless);
    for (notes, title) in [(missed, "Not in the configuration; look at each:"), (needless, "Not needed any more, or as it was:")] {
        if !notes.is_empty() {
            let _ = writeln!(text, "\n{title}");
        }
        for Note { from, text: line, why, .. } in notes {
            let _ = writeln!(text, "  {from}: {}\n      {why}", shown(line));
        }
    }
    if !import.steps.is_empty() {
        let _ = writeln!(text, "\nTo change over, in this order:");
    }
    for (number, ImportStep { text: what, commands }) in (1..).zip(document(outcome, dry_run).steps) {
        let _ = writeln!(text, "{number}. {what}");
        for command in commands {
            let _ = writeln!(text, "     {}", shown(&command));
        }
    }
    text
}

/// Takes out what a terminal would act on.
fn shown(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\n' { ' ' } else { c }).collect()
}
