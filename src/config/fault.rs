//! Faults of the configuration, and how they are shown.
//!
//! ```text
//! error: unknown key 'addreses' in [namespace.mail.interface.eth0]
//!   --> /etc/netns-networkd/mail.toml:6:1
//!    |
//!  6 | addreses = ["192.0.2.10/24"]
//!    | ^^^^^^^^
//!    |
//!    = allowed: accept-ra, addresses, announce, …
//!    = help: did you mean 'addresses'?
//! ```

use std::{collections::BTreeSet, fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Element, Level, Renderer, Snippet};

use super::text::{Spot, Text, visible};

/// A place in a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line without its end; a character that a terminal would act on is replaced by a visible one.
    pub source: String,
    /// The bytes of `source` that are meant.
    pub span: Range<usize>,
}

/// One mistake in the configuration. No text in it has a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub message: String,
    /// What could stand there.
    pub allowed: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The other place of a conflict, and what it is to this one.
    pub other: Option<(Place, String)>,
}

/// Every mistake of one run, in the order of files and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Shows all faults and counts them in a last line; `color` adds terminal styles.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut shown: String = self.0.iter().map(|fault| fault.render(&renderer) + "\n\n").collect();
        let files: BTreeSet<_> = self.0.iter().map(|fault| &fault.place.file).collect();
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let summary = format!("{} in {}; nothing was changed", count(self.0.len(), "fault"), count(files.len(), "file"));
        shown += &renderer.render(&[Level::ERROR.primary_title(summary).elements(None::<Element<'_>>)]);
        shown
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

impl Fault {
    fn render(&self, renderer: &Renderer) -> String {
        let Self { place, message, allowed, help, other } = self;
        let snippet = |place: &Place| Snippet::source(place.source.clone()).path(place.file.clone()).line_start(place.line);
        let mut first = snippet(place).annotation(AnnotationKind::Primary.span(place.span.clone()));
        let mut second = None;
        if let Some((other, label)) = other {
            let annotation = AnnotationKind::Context.span(other.span.clone()).label(label.as_str());
            if (&other.file, other.line) == (&place.file, place.line) && other.span.end <= place.source.len() {
                first = first.annotation(annotation);
            } else {
                second = Some(snippet(other).annotation(annotation));
            }
        }
        let report = Level::ERROR
            .primary_title(message.as_str())
            .element(first)
            .elements(second)
            .elements(allowed.as_deref().map(|text| Level::NOTE.with_name("allowed").message(text)))
            .elements(help.as_deref().map(|text| Level::HELP.message(text)));
        renderer.render(&[report])
    }
}

/// A fault that is not yet looked up in the text.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub at: Spot,
    message: String,
    allowed: Option<String>,
    help: Option<String>,
    other: Option<(Spot, String)>,
    /// Something is missing: not worth a word where a syntax error has hidden part of the file.
    pub missing: bool,
    /// What is there is nobody's business.
    secret: bool,
}

impl Draft {
    pub fn new(at: Spot, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), allowed: None, help: None, other: None, missing: false, secret: false }
    }

    pub fn allowed(self, text: impl Into<String>) -> Self {
        Self { allowed: Some(text.into()), ..self }
    }

    pub fn help(self, text: impl Into<String>) -> Self {
        Self { help: Some(text.into()), ..self }
    }

    pub fn other(self, at: Spot, label: impl Into<String>) -> Self {
        Self { other: Some((at, label.into())), ..self }
    }

    pub fn missing(self) -> Self {
        Self { missing: true, ..self }
    }

    pub fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    fn resolve(self, texts: &[Text]) -> Fault {
        let Self { at, message, allowed, help, other, missing: _, secret } = self;
        let place = |spot: Spot| texts[spot.file].place(spot.start..spot.end);
        let mut at = place(at);
        if secret {
            at.source.truncate(at.span.end);
            at.source.replace_range(at.span.clone(), &"*".repeat(at.span.len()));
        }
        Fault {
            place: at,
            message: visible(&message),
            allowed: allowed.as_deref().map(visible),
            help: help.as_deref().map(visible),
            other: other.map(|(at, label)| (place(at), visible(&label))),
        }
    }
}

/// Looks the faults up in the fragments and sorts them.
pub(super) fn finish(mut drafts: Vec<Draft>, texts: &[Text]) -> Faults {
    drafts.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
    Faults(drafts.into_iter().map(|draft| draft.resolve(texts)).collect())
}
