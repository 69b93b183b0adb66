//! Syntax errors: the TOML parser's words, as faults.

use std::{collections::BTreeSet, ops::Range};

use toml::de::{DeTable, DeValue, Error};

use super::{
    fault::Draft,
    text::{BadByte, Spot, Text, quoted},
};

/// Errors shown of one file; what comes after so many is mostly caused by them.
const MOST: usize = 20;

/// Turns the parser's errors into faults, the first of each line.
pub(super) fn drafts(file: usize, text: &Text, root: &DeTable<'_>, errors: &[Error]) -> Vec<Draft> {
    let mut errors: Vec<(Range<usize>, &Error)> = errors.iter().map(|e| (e.span().unwrap_or_default(), e)).collect();
    errors.sort_by_key(|(span, _)| (span.start, span.end));
    let mut lines = BTreeSet::new();
    errors.retain(|(span, _)| lines.insert(text.line(span.start)));
    errors.into_iter().take(MOST).map(|(span, error)| draft(file, text.as_str(), root, span, error)).collect()
}

/// Makes a fault of a file that is not text as TOML has it.
pub(super) fn not_utf8(file: usize, path: &str, bad: &BadByte) -> Draft {
    let at = Spot { file, start: bad.range.start, end: bad.range.end };
    Draft::new(at, format!("file is not UTF-8: byte 0x{:02x} does not fit here", bad.byte))
        .allowed("TOML is UTF-8 text")
        .help(format!("if it is Latin-1: iconv -f latin1 -t utf-8 {path}"))
}

fn draft(file: usize, text: &str, root: &DeTable<'_>, span: Range<usize>, error: &Error) -> Draft {
    let at = Spot { file, start: span.start, end: span.end };
    let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    if message == "duplicate key" {
        let name = text.get(span.clone()).unwrap_or_default();
        let draft = Draft::new(at, format!("{} is here for the second time", quoted(name))).help("join the two");
        return match earlier(text, root, &span) {
            Some(first) => draft.other(Spot { file, start: first.start, end: first.end }, "first here"),
            None => draft,
        };
    }
    if message.starts_with("invalid float") || message.starts_with("invalid integer") || message.starts_with("string values must") {
        let token = token(text, &span);
        let at = Spot { file, start: token.start, end: token.end };
        let value = text.get(token).unwrap_or_default();
        let draft = Draft::new(at, format!("syntax error: text without quotes: {}", quoted(value)));
        return draft.help("put the text between double quotes");
    }
    let draft = Draft::new(at, format!("syntax error: {message}"));
    if matches!(expected, "" | "nothing") { draft } else { draft.allowed(expected) }
}

/// Widens a place to the whole word around it.
fn token(text: &str, span: &Range<usize>) -> Range<usize> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '=' | ',' | '[' | ']' | '{' | '}' | '#' | '"' | '\'');
    let start = text
        .get(..span.start)
        .and_then(|before| before.rfind(ends))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let end = text.get(span.end..).and_then(|after| after.find(ends)).map_or(text.len(), |at| span.end + at);
    start..end
}

/// Finds where a key or table that stands twice stands first; the parser keeps that to itself.
fn earlier(text: &str, root: &DeTable<'_>, second: &Range<usize>) -> Option<Range<usize>> {
    let header = |offset: usize| {
        let start = text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..)?.lines().next()?;
        let header = line.trim_start().starts_with('[').then(|| line.split(']').next().unwrap_or(line))?;
        Some((start, header))
    };
    if let Some((start, header)) = header(second.start) {
        let name = second.start - start..second.end - start;
        let first = text.get(..start)?.match_indices(header).map(|(at, _)| at);
        // a header of the same spelling, on a line of its own
        let at = first.filter(|at| (*at == 0 || text[..*at].ends_with('\n')) && text[at + header.len()..].starts_with(']')).last()?;
        return Some(at + name.start..at + name.end);
    }
    let mut best = None;
    nearest(root, text.get(second.clone())?, second.start, &mut best);
    best
}

/// Looks for the last key of this name before an offset.
fn nearest(table: &DeTable<'_>, name: &str, before: usize, best: &mut Option<Range<usize>>) {
    for (key, value) in table {
        let span = key.span();
        let better = best.as_ref().is_none_or(|b| b.start < span.start);
        if key.get_ref() == name && span.start < before && better {
            *best = Some(span);
        }
        match value.get_ref() {
            DeValue::Table(table) => nearest(table, name, before, best),
            DeValue::Array(array) => {
                for table in array.iter().filter_map(|v| v.get_ref().as_table()) {
                    nearest(table, name, before, best);
                }
            }
            _ => {}
        }
    }
}
