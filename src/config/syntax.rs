//! Syntax errors: the TOML parser's words, as faults.

use std::{collections::BTreeSet, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{
    fault::Draft,
    text::{BadByte, Spot, Text, quoted, visible},
};

/// Errors shown of one file; what comes after so many is mostly caused by them.
const MOST: usize = 20;

/// Turns the parser's errors into faults: the first of each line, for one slip makes several.
pub(super) fn drafts(file: usize, text: &Text, root: &DeTable<'_>, errors: &[Error]) -> Vec<Draft> {
    let unclosed = errors.iter().filter(|e| e.message().starts_with("unclosed array") || e.message().starts_with("unclosed inline"));
    let opening = unclosed.filter_map(Error::span).filter_map(|end| opening(text.as_str(), root, end.start)).min();
    let mut errors: Vec<(Range<usize>, &Error)> = errors.iter().map(|e| (e.span().unwrap_or_default(), e)).collect();
    errors.sort_by_key(|(span, _)| (span.start, span.end));
    // the rest of the file was read as a part of what is not closed
    errors.retain(|(span, _)| opening.is_none_or(|opening| span.start < opening));
    let mut lines = BTreeSet::new();
    errors.retain(|(span, error)| lines.insert(text.line(span.start)) || is_bare_text(error));
    let mut drafts: Vec<Draft> = errors.into_iter().take(MOST).map(|(span, e)| draft(file, text.as_str(), root, span, e)).collect();
    drafts.extend(opening.map(|start| {
        let (what, end) = if text.as_str()[start..].starts_with('[') { ("array", ']') } else { ("table", '}') };
        Draft::new(Spot { file, start, end: start + 1 }, format!("syntax error: {what} is not closed"))
            .help(format!("add '{end}' where it ends"))
    }));
    drafts
}

/// Finds where the array or inline table begins that is still open at an offset.
fn opening(text: &str, root: &DeTable<'_>, offset: usize) -> Option<usize> {
    let mut open = Vec::new();
    reaching(root.values(), offset, &mut |value, span| {
        let pair = match value {
            DeValue::Array(_) => ('[', ']'),
            DeValue::Table(_) => ('{', '}'),
            _ => return,
        };
        if let Some(inside) = text.get(span.clone()).and_then(|t| t.strip_prefix(pair.0)) {
            open.push((inside.ends_with(pair.1), span.start));
        }
    });
    // one that ends with its own bracket may be the last whole part of another
    open.iter().rfind(|(ends, _)| !ends).or(open.first()).map(|(_, start)| *start)
}

/// Visits the values that reach to an offset, the outer ones first.
fn reaching<'t>(values: impl Iterator<Item = &'t Spanned<DeValue<'t>>>, offset: usize, visit: &mut dyn FnMut(&DeValue<'t>, Range<usize>)) {
    for value in values {
        if (value.span().start..=value.span().end).contains(&offset) {
            visit(value.get_ref(), value.span());
        }
        match value.get_ref() {
            DeValue::Table(table) => reaching(table.values(), offset, visit),
            DeValue::Array(array) => reaching(array.iter(), offset, visit),
            _ => {}
        }
    }
}

/// Tells errors about words, addresses and numbers that should be quoted.
fn is_bare_text(error: &Error) -> bool {
    let starts = ["invalid float", "invalid integer", "invalid time", "invalid date", "invalid boolean", "string values must"];
    starts.iter().any(|start| error.message().starts_with(start))
}

/// Makes a fault of a file that is not text as TOML has it.
pub(super) fn not_utf8(file: usize, path: &str, bad: &BadByte) -> Draft {
    let at = Spot { file, start: bad.range.start, end: bad.range.end };
    Draft::new(at, format!("file is not UTF-8: byte 0x{:02x} does not fit here", bad.byte)).allowed("TOML is UTF-8 text").help(
        match bad.byte {
            // the marks that UTF-16 files begin with
            0xfe | 0xff if bad.range.start == 0 => format!("it looks like UTF-16: iconv -f utf-16 -t utf-8 {path}"),
            _ => format!("if it is Latin-1: iconv -f latin1 -t utf-8 {path}"),
        },
    )
}

fn draft(file: usize, text: &str, root: &DeTable<'_>, span: Range<usize>, error: &Error) -> Draft {
    let at = Spot { file, start: span.start, end: span.end };
    let (message, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    if message == "duplicate key" {
        return duplicate(at, text, root);
    }
    if is_bare_text(error) {
        return bare_text(at, text);
    }
    if message.starts_with("invalid") && message.ends_with("string") {
        return string(at, text, root);
    }
    let draft = Draft::new(at, format!("syntax error: {}", message.replace('`', "'")));
    if matches!(expected, "" | "nothing") { draft } else { draft.allowed(expected.replace('`', "'")) }
}

fn duplicate(at: Spot, text: &str, root: &DeTable<'_>) -> Draft {
    let message = match header(text, at.start) {
        Some((_, header)) => {
            format!("table {}{} stands twice in one file", visible(header), if header.starts_with("[[") { "]]" } else { "]" })
        }
        None => format!("key {} stands twice in one table", quoted(text.get(at.start..at.end).unwrap_or_default())),
    };
    let draft = Draft::new(at, message).help("make one of the two");
    match earlier(text, root, &(at.start..at.end)) {
        Some(first) => draft.other(Spot { start: first.start, end: first.end, ..at }, "first here"),
        None => draft,
    }
}

fn bare_text(at: Spot, text: &str) -> Draft {
    let token = token(text, &(at.start..at.end));
    let at = Spot { start: token.start, end: token.end, ..at };
    let value = text.get(token).unwrap_or_default();
    Draft::new(at, format!("syntax error: {} is not quoted", quoted(value))).help(match value.to_lowercase().as_str() {
        "yes" | "on" | "true" => "write true",
        "no" | "off" | "false" => "write false",
        word if word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains(['.', ':', '/']) => {
            "a number has digits only; put text between double quotes"
        }
        _ => "put text between double quotes",
    })
}

fn string(at: Spot, text: &str, root: &DeTable<'_>) -> Draft {
    let next = text.get(at.start..).and_then(|rest| rest.chars().next());
    if let Some(bad) = next.filter(|c| c.is_control() && !matches!(c, '\n' | '\r')) {
        return Draft::new(at, format!("syntax error: control character {bad:?} in a string")).help("remove it");
    }
    let mut start = at.start;
    reaching(root.values(), at.start, &mut |value, span| {
        if matches!(value, DeValue::String(_)) {
            start = span.start;
        }
    });
    Draft::new(Spot { start, ..at }, "syntax error: string is not closed").help("add the quote where it ends")
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

/// Finds the line's beginning and the table's header on it, without its last bracket: `[namespace.mail`.
fn header(text: &str, offset: usize) -> Option<(usize, &str)> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(start..)?.lines().next()?;
    line.starts_with('[').then(|| (start, line.split(']').next().unwrap_or(line)))
}

/// Finds where a key or table that stands twice stands first; the parser keeps that to itself.
fn earlier(text: &str, root: &DeTable<'_>, second: &Range<usize>) -> Option<Range<usize>> {
    if let Some((start, header)) = header(text, second.start) {
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
