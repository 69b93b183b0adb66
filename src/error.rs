//! How errors are collected and printed.

use std::fmt;

use anyhow::Error;

use crate::model::Subject;

/// Where a cause in a chain begins with this, it is not a cause but what to do next.
const HINT: &str = "hint: ";
/// And with this, what else is known of it.
const NOTE: &str = "note: ";

/// Gives an error as one line with all its causes, and what is known and what to do on lines of their own.
#[must_use]
pub fn render(error: &Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let (mut notes, mut hints): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for cause in error.chain().map(ToString::to_string) {
        match (cause.starts_with(NOTE), cause.starts_with(HINT)) {
            (true, _) => notes.push(cause),
            (_, true) => hints.push(cause),
            // some libraries repeat the cause's text in their own
            _ if causes.last().is_none_or(|last| !last.contains(&cause)) => causes.push(cause),
            _ => {}
        }
    }
    let mut text = causes.join(": ");
    for line in notes.into_iter().chain(hints) {
        text += &format!("\n  {line}");
    }
    text
}

/// An error and the link that it is about; it has no text of its own.
#[derive(Debug)]
pub struct About {
    pub subject: Subject,
    error: Error,
}

impl About {
    /// Says what an error is about.
    #[must_use]
    pub fn link(subject: Subject, error: Error) -> Error {
        Self { subject, error }.into()
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for About {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// What failed of a namespace, with the place in the configuration that it comes from.
#[derive(Debug)]
pub struct OfNetns {
    pub what: String,
    /// `/etc/netns-networkd/mail.toml:3`; may be empty.
    pub place: String,
}

impl fmt::Display for OfNetns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        // what a rollback goes back to comes from no file
        if self.place.is_empty() { Ok(()) } else { write!(f, " of {}", self.place) }
    }
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
    use crate::model::LinkName;

    #[test]
    fn what_an_error_is_about_is_found_and_not_said() {
        let link = LinkName::parse("a").unwrap();
        let error = Err::<(), _>(anyhow!("No such device")).context("failed to look").unwrap_err();
        let error = About::link(Subject::OnHost(link.clone()), error).context("note: it is away").context("failed to begin");
        assert_eq!(render(&error), "failed to begin: failed to look: No such device\n  note: it is away");
        assert_eq!(error.downcast_ref::<About>().unwrap().subject, Subject::OnHost(link));
    }

    #[test]
    fn hints_come_after_the_causes() {
        let error =
            Err::<(), _>(anyhow!("kernel: No such device")).context("hint: make one").context("failed to add link 'a'").unwrap_err();
        assert_eq!(render(&error), "failed to add link 'a': kernel: No such device\n  hint: make one");
    }
}
