//! How errors are collected and printed.

use std::fmt;

use anyhow::Error;

/// Where a cause in a chain begins with this, it is not a cause but what to do next.
const HINT: &str = "hint: ";

/// Gives an error as one line with all its causes, and its hints on lines of their own.
#[must_use]
pub fn render(error: &Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        match cause.strip_prefix(HINT) {
            Some(hint) => hints.push(hint.to_owned()),
            // some libraries repeat the cause's text in their own
            None if causes.last().is_none_or(|last| !last.contains(&cause)) => causes.push(cause),
            None => {}
        }
    }
    let mut text = causes.join(": ");
    for hint in hints {
        text += &format!("\n  hint: {hint}");
    }
    text
}

/// Reasons not to begin, found on the host: the configuration asks for what would do harm there.
#[derive(Debug)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nerror: nothing was changed", self.0.join("\nerror: "))
    }
}

impl std::error::Error for Refused {}

/// Words on the command line that mean nothing on this host.
#[derive(Debug)]
pub struct Usage(pub Vec<String>);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\nerror: "))
    }
}

impl std::error::Error for Usage {}

/// Several failures of one run: what goes on past errors reports them all.
#[derive(Debug, Default)]
pub struct Failures(Vec<Error>);

impl Failures {
    /// Takes note of an error, if it is one.
    pub fn add(&mut self, result: Result<(), Error>) {
        self.0.extend(result.err());
    }

    /// Tells whether all went well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives one error for all of them.
    pub fn result(mut self) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => Err(self.into()),
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(render).collect();
        f.write_str(&lines.join("\nerror: "))
    }
}

impl std::error::Error for Failures {}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn hints_come_after_the_causes() {
        let error =
            Err::<(), _>(anyhow!("kernel: No such device")).context("hint: make one").context("failed to add link 'a'").unwrap_err();
        assert_eq!(render(&error), "failed to add link 'a': kernel: No such device\n  hint: make one");
    }
}
