//! What runs that change something say: line by line as it happens, or in one document at the end.

use std::{process::ExitCode, time::Duration};

use anyhow::{Error, Result};

use super::{CHANGES, Context, UNVERIFIED, code_of, print_json};
use crate::{
    reconcile::{
        rollback,
        sync::{Event, Outcome},
    },
    report::{self, Document, Failure, Planned, waitings},
};

pub struct Teller<'a> {
    context: &'a Context,
    /// For the document.
    heard: report::Outcome,
}

impl<'a> Teller<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, heard: report::Outcome::default() }
    }

    /// Takes note of what happens.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Done(line) if self.context.json => self.heard.changes.push(line),
            Event::Done(line) => say!("{line}"),
            Event::Warning(text) if self.context.json => self.heard.warnings.push(text),
            Event::Warning(text) => complain!("{}: {text}", self.context.warning()),
        }
    }

    /// Says what came of it.
    pub fn end(self, outcome: &Outcome, dry_run: bool, confirm: Option<Duration>) -> ExitCode {
        let Self { context, mut heard } = self;
        if context.json {
            if dry_run {
                heard.changes = outcome.plan.changes.iter().map(ToString::to_string).collect();
                heard.plan = Some(Planned::new(&outcome.plan));
            }
            let goes_back_after = confirm.filter(|_| outcome.waits).map(|limit| limit.as_secs());
            let (pending, unverified) = (waitings(&outcome.pending), outcome.unverified.clone());
            print_json(&Document::new(report::Outcome { dry_run, pending, unverified, goes_back_after, ..heard }));
        } else {
            outcome.pending.iter().for_each(|pending| say!("pending: {pending}"));
            outcome.unverified.iter().for_each(|text| complain!("{}: {text}", context.warning()));
        }
        if dry_run && !(outcome.plan.steps.is_empty() && outcome.pending.is_empty()) {
            ExitCode::from(CHANGES)
        } else if !outcome.unverified.is_empty() {
            ExitCode::from(UNVERIFIED)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Says what was heard, where that is all.
    pub fn over(self, dry_run: bool) {
        if self.context.json {
            print_json(&Document::new(report::Outcome { dry_run, ..self.heard }));
        }
    }

    /// Says why it failed, and, in JSON, what had been done by then.
    pub fn fail(self, error: Error, dry_run: bool, confirm: Option<Duration>) -> Result<ExitCode> {
        if !self.context.json {
            return Err(error);
        }
        let goes_back_after = confirm.filter(|_| rollback::is_waiting()).map(|limit| limit.as_secs());
        let body = report::Outcome { dry_run, goes_back_after, ..self.heard };
        print_json(&Document { error: Some(Failure::new(&error)), ..Document::new(body) });
        Ok(ExitCode::from(code_of(&error)))
    }
}
