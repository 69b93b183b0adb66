//! The text of a fragment with its places, and text made fit for a terminal.

use std::{fmt::Write as _, ops::Range};

use super::fault::Place;

/// A range of bytes in one of the fragments; sorts by file, then by place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Index of the fragment in the order in which they are read.
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub value: T,
    pub at: Spot,
}

/// A fragment's text, cut into lines.
#[derive(Debug)]
pub(super) struct Text {
    path: String,
    content: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// Bytes of a line shown after the fault; what is before it stays, so that the column is right.
const TAIL_BYTES: usize = 400;
/// Longest underline; a longer one would push the line's beginning out of sight.
const UNDERLINE_BYTES: usize = 100;

impl Text {
    /// Takes a fragment's bytes; `Err` has the text all the same, and where the first byte is that is not UTF-8.
    pub fn new(path: &str, bytes: &[u8]) -> (Self, Result<(), BadByte>) {
        // editors on other systems begin a file with a byte order mark; TOML ignores it, and no editor counts it as a column
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let content = String::from_utf8_lossy(bytes).into_owned();
        let valid = std::str::from_utf8(bytes).map(drop).map_err(|e| {
            // up to there nothing was replaced, so the offset holds in the text too
            let start = e.valid_up_to();
            BadByte { byte: bytes[start], range: start..start + char::REPLACEMENT_CHARACTER.len_utf8() }
        });
        let lines = std::iter::once(0).chain(content.match_indices('\n').map(|(at, _)| at + 1)).collect();
        (Self { path: path.to_owned(), content, lines }, valid)
    }

    pub fn as_str(&self) -> &str {
        &self.content
    }

    /// Tells the line a byte is on, from 0.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Tells file and line as `mail.toml:3`.
    pub fn origin(&self, spot: Spot) -> String {
        format!("{}:{}", visible(&self.path), self.line(spot.start) + 1)
    }

    /// Finds file, line, column and source line of a range of bytes.
    pub fn place(&self, range: Range<usize>) -> Place {
        let start = floor(&self.content, range.start.min(self.content.len()));
        let end = range.end.clamp(start, self.content.len());
        let end = (end..=self.content.len()).find(|at| self.content.is_char_boundary(*at)).unwrap_or(end);
        let line = self.line(start);
        let from = self.lines[line];
        let to = self.lines.get(line + 1).map_or(self.content.len(), |next| next - 1);
        let source = self.content[from..to].strip_suffix('\r').unwrap_or(&self.content[from..to]);

        let start = (start - from).min(source.len());
        let end = (end - from).clamp(start, source.len());
        let end = floor(source, end.min(start + UNDERLINE_BYTES)).max(start);
        let source = &source[..floor(source, end + TAIL_BYTES).max(end)];
        // one character stands for one, so columns stay; their lengths in bytes differ
        let shown = |part: &str| part.chars().map(|c| if c == '\t' { c } else { stand_in(c) }).collect::<String>();
        let (before, marked) = (shown(&source[..start]), shown(&source[start..end]));
        Place {
            file: visible(&self.path),
            line: line + 1,
            column: source[..start].chars().count() + 1,
            span: before.len()..before.len() + marked.len(),
            source: before + &marked + &shown(&source[end..]),
        }
    }
}

/// Finds the last character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The first byte of a file that is not UTF-8.
#[derive(Debug)]
pub(super) struct BadByte {
    pub byte: u8,
    pub range: Range<usize>,
}

/// Tells characters that a terminal would act on or not show: control characters, and marks that turn or join the text.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Gives the one character that is shown for a hidden one.
fn stand_in(c: char) -> char {
    match c {
        // the control pictures of Unicode follow the order of the control characters
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        _ if is_hidden(c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// Writes hidden characters as escapes, for messages: `a\nb`.
pub(super) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_hidden(c) {
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Quotes a piece of a fragment for a message, cut where it is too long to read.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("'{}…'", visible(&text[..cut])),
        None => format!("'{}'", visible(text)),
    }
}

/// Joins words for a sentence: `a, b and c`.
pub(super) fn listed<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, range: Range<usize>) -> (usize, usize, String, Range<usize>) {
        let Place { line, column, source, span, .. } = Text::new("f", text.as_bytes()).0.place(range);
        (line, column, source, span)
    }

    #[test]
    fn places_count_characters_from_one() {
        assert_eq!(place("a = 1\r\nb = 2\r\n", 7..8), (2, 1, "b = 2".into(), 0..1));
        assert_eq!(place("é = ö", 6..8), (1, 5, "é = ö".into(), 5..7));
        assert_eq!(place("\u{feff}a", 0..1), (1, 1, "a".into(), 0..1));
        assert_eq!(place("\tx", 1..2), (1, 2, "\tx".into(), 1..2));
    }

    #[test]
    fn places_at_and_past_the_end() {
        assert_eq!(place("", 0..0), (1, 1, String::new(), 0..0));
        assert_eq!(place("", 5..9), (1, 1, String::new(), 0..0));
        assert_eq!(place("a\n", 2..2), (2, 1, String::new(), 0..0));
        assert_eq!(place("a = \"\"\"\nb\n", 4..10), (1, 5, "a = \"\"\"".into(), 4..7));
        // a range that begins inside a character or on the line's end
        assert_eq!(place("é", 1..1).1, 1);
        assert_eq!(place("a\r\nb", 1..3), (1, 2, "a".into(), 1..1));
    }

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(place("a\0\u{9b}b\u{202e}", 1..4), (1, 2, "a\u{2400}\u{fffd}b\u{fffd}".into(), 1..7));
        assert_eq!(quoted("a\n\u{1b}[1m"), r"'a\n\u{1b}[1m'");
        assert_eq!(quoted(&"é".repeat(61)).chars().count(), 63);
    }

    #[test]
    fn a_long_line_keeps_its_columns() {
        let (_, column, source, _) = place(&("x".repeat(5000) + "ö" + &"y".repeat(5000)), 5000..10_002);
        assert_eq!((column, source.len()), (5001, 5000 + UNDERLINE_BYTES + TAIL_BYTES));
    }
}
