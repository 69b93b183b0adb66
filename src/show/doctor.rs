//! `doctor`: findings one below the other, each with why it matters and what mends it.

use super::paper::{Cell, Paper, Text, Tone, word, words};
use super::summary::{count, sign};
use crate::doctor::{Diagnosis, Finding, Severity};

/// Writes a diagnosis.
#[must_use]
pub fn doctor(diagnosis: &Diagnosis, paper: Paper) -> String {
    let mut text = Text::new(paper);
    let Diagnosis { ok, checks, findings, not_seen } = diagnosis;
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let parts = [(Severity::Fault, "fault", "faults"), (Severity::Risk, "risk", "risks")];
    let parts = parts.map(|(severity, one, many)| (number(severity), one, many)).into_iter().filter(|(n, ..)| *n > 0);
    let found: Vec<String> = parts.map(|(n, one, many)| count(n, one, many)).collect();
    let tone = if *ok { Tone::Good } else { tone(findings[0].severity) };
    let head = if *ok { format!("nothing found by {checks} checks") } else { format!("{} found by {checks} checks", found.join(", ")) };
    line(&mut text, tone, Tone::Strong, &head);
    for finding in findings {
        text.blank_line();
        show(finding, &mut text);
    }
    if !not_seen.is_empty() {
        text.blank_line();
        line(&mut text, Tone::Faint, Tone::Strong, "not seen:");
        not_seen.iter().for_each(|what| text.paragraph(4, 2, &words(Tone::Plain, what)));
    }
    text.finish()
}

fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Fault => Tone::Bad,
        Severity::Risk => Tone::Warn,
    }
}

fn line(text: &mut Text, tone: Tone, of: Tone, what: &str) {
    let line: Cell = sign(tone, text.paper()).into_iter().chain(words(of, what)).collect();
    text.paragraph(0, 2, &line);
}

fn show(finding: &Finding, text: &mut Text) {
    let Finding { check: _, severity, netns: _, found, why, remedy } = finding;
    let mut lines = found.lines();
    line(text, tone(*severity), Tone::Strong, lines.next().unwrap_or_default());
    // what a unit said, with its own hints
    lines.for_each(|more| text.paragraph(4, 2, &words(Tone::Plain, more)));
    let row = |label: &str, what: &str| vec![word(Tone::Faint, label), words(Tone::Plain, what)];
    text.table(4, &[row("why", why), row("mend", remedy)]);
}
