//! The documents of `--json`: what a command says, and why it failed. One document a run, the same fields at the top of each.

use serde::{Deserialize, Serialize};

use super::{FORMAT, Waiting, make::waiting};
use crate::{
    config::{self, Faults},
    diff::Change,
    error::{self, Refused},
    plan::{self, Pending, Plan},
};

/// One document.
#[derive(Debug, Clone, Serialize)]
pub struct Document<T> {
    pub version: u32,
    /// None if the command did what it was asked to.
    pub error: Option<Failure>,
    /// What the command has to say; none where it did not get so far.
    #[serde(flatten)]
    pub body: Option<T>,
}

impl<T> Document<T> {
    /// Wraps what a command has to say.
    pub fn new(body: T) -> Self {
        Self { version: FORMAT, error: None, body: Some(body) }
    }
}

impl Document<()> {
    /// Says why a command failed.
    #[must_use]
    pub fn failure(error: Failure) -> Self {
        Self { version: FORMAT, error: Some(error), body: None }
    }
}

/// Why a command failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub reasons: Vec<Reason>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub message: String,
    /// What else is known of it: networkd's view, where it is networkd's to do.
    pub notes: Vec<String>,
    /// What to do about it.
    pub hints: Vec<String>,
    /// What could stand there in the configuration.
    pub allowed: Option<String>,
    /// Where in the configuration it is.
    pub place: Option<Place>,
    /// The other place of a conflict.
    pub other_place: Option<Place>,
}

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line.
    pub text: String,
}

impl From<&config::Place> for Place {
    fn from(place: &config::Place) -> Self {
        let config::Place { file, line, column, source, span: _ } = place.clone();
        Self { file, line, column, text: source }
    }
}

impl Failure {
    /// Takes an error apart.
    #[must_use]
    pub fn new(error: &anyhow::Error) -> Self {
        if let Some(Faults(faults)) = error.downcast_ref::<Faults>() {
            let reason = |fault: &config::Fault| Reason {
                message: fault.message.clone(),
                notes: Vec::new(),
                hints: fault.help.iter().cloned().collect(),
                allowed: fault.allowed.clone(),
                place: Some((&fault.place).into()),
                other_place: fault.other.as_ref().map(|(place, _)| place.into()),
            };
            return Self { reasons: faults.iter().map(reason).collect() };
        }
        if let Some(Refused(reasons)) = error.downcast_ref::<Refused>() {
            return Self { reasons: reasons.iter().map(|text| Reason::of_text(text)).collect() };
        }
        // several failures are one text, each in the form of `error::render`
        Self { reasons: error::render(error).split("\nerror: ").map(Reason::of_text).collect() }
    }
}

impl Reason {
    /// Takes a text apart: a message, then notes and hints on lines of their own.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut hints = text.split("\n  hint: ");
        let mut notes = hints.next().unwrap_or_default().split("\n  note: ").map(str::to_owned);
        let message = notes.next().unwrap_or_default();
        let (notes, hints) = (notes.collect(), hints.map(str::to_owned).collect());
        Self { message, notes, hints, allowed: None, place: None, other_place: None }
    }
}

/// What `check` says where there are no faults; these are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub namespaces: usize,
    pub bridges: usize,
}

/// What `import` made of a host's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub dry_run: bool,
    pub namespaces: Vec<String>,
    pub files: Vec<ImportedFile>,
    pub left: Vec<Left>,
    pub steps: Vec<Step>,
}

/// A file that `import` writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedFile {
    pub path: String,
    pub content: String,
}

/// A line that is not in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub text: String,
    pub why: String,
    /// It is not needed any more, or stays where it is; otherwise a person has to look at it.
    pub needless: bool,
}

/// A thing to do on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub text: String,
    /// Commands of a shell.
    pub commands: Vec<String>,
}

/// What `sync`, and any other command that changes something, did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub dry_run: bool,
    /// What was done, or, of a dry run, would be: the lines that are printed otherwise.
    pub changes: Vec<String>,
    /// Of a dry run: how.
    pub plan: Option<Planned>,
    pub pending: Vec<Waiting>,
    /// What was done and does not show.
    pub unverified: Vec<String>,
    pub warnings: Vec<String>,
    /// Seconds until all goes back unless it is confirmed.
    pub goes_back_after: Option<u64>,
}

/// What a dry run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// In order.
    pub steps: Vec<String>,
    pub files: Vec<PlannedFile>,
}

/// A file that would be written or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    pub path: String,
    /// Its text; none if there is no such file.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Planned {
    /// Writes a plan down.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let file = |change: &Change| {
            let (path, before, after) = match change {
                Change::WriteFile { path, before, after } => (path, before.as_ref().map(|file| &file.content), Some(after)),
                Change::RemoveFile { path, before } => (path, Some(&before.content), None),
                _ => return None,
            };
            Some(PlannedFile { path: path.display().to_string(), before: before.cloned(), after: after.cloned() })
        };
        Self { steps: plan.steps.iter().map(plan::Step::to_string).collect(), files: plan.changes.iter().filter_map(file).collect() }
    }
}

/// Lists what waits.
#[must_use]
pub fn waitings(pending: &[Pending]) -> Vec<Waiting> {
    pending.iter().map(waiting).collect()
}
