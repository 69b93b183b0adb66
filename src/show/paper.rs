//! Words, cells and rows -> lines of a width, with or without colours.

use unicode_width::UnicodeWidthStr;

use crate::config::is_hidden;

/// What text is printed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paper {
    /// Columns of the terminal; none where lines may be of any length.
    pub width: Option<usize>,
    pub color: bool,
    /// It shows more than ASCII.
    pub unicode: bool,
}

/// What a word is to be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Strong,
    Good,
    Warn,
    Bad,
    Faint,
}

impl Tone {
    /// The parameters of the escape sequence that begins it (ECMA-48, SGR); none for what is as all is.
    pub fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Faint => "2",
        }
    }
}

/// Something that stays together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub tone: Tone,
    pub text: String,
}

/// Words that follow each other.
pub type Cell = Vec<Word>;

/// Parts a text into words.
pub fn words(tone: Tone, text: &str) -> Cell {
    text.split(' ').filter(|part| !part.is_empty()).flat_map(|part| word(tone, part)).collect()
}

/// A text that is one word although it has spaces.
pub fn word(tone: Tone, text: &str) -> Cell {
    // what others have named may hold anything
    let visible = |c: char| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    vec![Word { tone, text: text.chars().map(visible).collect() }]
}

/// Joins cells to one, with commas.
pub fn commas(parts: impl IntoIterator<Item = Cell>) -> Cell {
    let mut all: Cell = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        if let Some(last) = all.last_mut() {
            last.text.push(',');
        }
        all.extend(part);
    }
    all
}

pub fn width(words: &[Word]) -> usize {
    words.iter().map(|word| word.text.width() + 1).sum::<usize>().saturating_sub(1)
}

/// The space between two columns.
const GAP: usize = 2;
/// What is not in columns has at least so much room beside them.
const ROOM: usize = 20;

/// Text as it grows.
#[derive(Debug)]
pub struct Text {
    paper: Paper,
    written: String,
    column: usize,
}

impl Text {
    pub fn new(paper: Paper) -> Self {
        Self { paper, written: String::new(), column: 0 }
    }

    pub fn paper(&self) -> Paper {
        self.paper
    }

    pub fn finish(self) -> String {
        self.written
    }

    pub fn blank_line(&mut self) {
        self.written.push('\n');
    }

    /// Writes a paragraph: from the second line on with `hang` spaces more.
    pub fn paragraph(&mut self, indent: usize, hang: usize, words: &[Word]) {
        self.pad_to(indent);
        self.flow(indent + hang, words);
        self.end_line();
    }

    /// Writes the beginning of a line.
    pub fn label(&mut self, indent: usize, words: &[Word]) {
        self.pad_to(indent);
        self.flow(indent, words);
    }

    /// Writes rows in columns, as many as leave enough room for the rest; the cells of the rest follow each other, in more lines
    /// where need be.
    pub fn table(&mut self, indent: usize, rows: &[Vec<Cell>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let start = |column: usize| indent + widths[..column].iter().filter(|w| **w > 0).map(|w| w + GAP).sum::<usize>();
        let fits = |column: &usize| {
            let rest = || rows.iter().filter_map(|row| row.get(*column..));
            let longest = rest().flatten().flatten().map(|word| word.text.width()).max().unwrap_or(0);
            let all = rest().map(|cells| cells.iter().map(|cell| width(cell) + GAP).sum::<usize>().saturating_sub(GAP)).max().unwrap_or(0);
            self.paper.width.is_none_or(|width| start(*column) + longest.max(all.min(ROOM)) <= width)
        };
        let aligned = (0..columns).rev().find(fits).unwrap_or(0);
        for row in rows {
            self.pad_to(indent);
            let (head, rest) = row.split_at(aligned.min(row.len()));
            for (column, cell) in head.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                self.pad_to(start(column));
                self.flow(0, cell);
            }
            let hang = if aligned == 0 { indent + GAP } else { start(aligned) };
            for (number, cell) in rest.iter().filter(|cell| !cell.is_empty()).enumerate() {
                let room = self.paper.width.unwrap_or(usize::MAX).saturating_sub(self.column);
                let gap = GAP * usize::from(number > 0);
                if number == 0 {
                    self.pad_to(start(aligned));
                } else if cell.first().is_some_and(|word| word.text.width() + gap > room) {
                    self.end_line();
                    self.pad_to(hang);
                } else {
                    self.pad_to(self.column + gap);
                }
                self.flow(hang, cell);
            }
            self.end_line();
        }
    }

    /// Writes words from where the line is, and goes on in new lines that begin at `start`.
    fn flow(&mut self, start: usize, words: &[Word]) {
        let mut open = "";
        for (number, word) in words.iter().enumerate() {
            let width = word.text.width();
            let code = if self.paper.color { word.tone.code() } else { "" };
            if number > 0 {
                let goes_on = self.paper.width.is_none_or(|limit| self.column + 1 + width <= limit);
                if code != open || !goes_on {
                    self.end_color(&mut open);
                }
                if goes_on {
                    self.pad_to(self.column + 1);
                } else {
                    self.end_line();
                    self.pad_to(start);
                }
            }
            if code != open {
                self.written += &format!("\x1b[{code}m");
                open = code;
            }
            self.written += &word.text;
            self.column += width;
        }
        self.end_color(&mut open);
    }

    fn end_color(&mut self, open: &mut &str) {
        if !open.is_empty() {
            self.written += "\x1b[0m";
            *open = "";
        }
    }

    fn pad_to(&mut self, column: usize) {
        let missing = column.saturating_sub(self.column);
        self.written.extend(std::iter::repeat_n(' ', missing));
        self.column += missing;
    }

    fn end_line(&mut self) {
        let kept = self.written.trim_end_matches(' ').len();
        self.written.truncate(kept);
        self.written.push('\n');
        self.column = 0;
    }
}
