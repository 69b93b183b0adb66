//! A layout in characters of a terminal.

use unicode_width::UnicodeWidthChar;

use super::{
    layout::{Kind, Layout, Segment},
    picture::Wire,
};
use crate::show::paper::{Cell, Paper, Tone};

/// Where a line leaves the middle of a cell.
const UP: usize = 1;
const DOWN: usize = 2;
const LEFT: usize = 4;
const RIGHT: usize = 8;

/// By the sum of its arms.
const LIGHT: [char; 16] = [' ', '│', '│', '│', '─', '┘', '┐', '┤', '─', '└', '┌', '├', '─', '┴', '┬', '┼'];

/// One character of the drawing.
#[derive(Clone)]
struct Spot {
    text: String,
    tone: Tone,
    arms: usize,
    /// The border of a bus.
    heavy: bool,
    /// The bus that a wire is of.
    bus: Option<usize>,
    /// Of a piece between two ends.
    wire: Wire,
}

struct Canvas {
    spots: Vec<Vec<Spot>>,
}

/// Draws; lines have no spaces at their ends.
pub(super) fn draw(layout: &Layout, paper: Paper) -> String {
    let empty = Spot { text: String::new(), tone: Tone::Plain, arms: 0, heavy: false, bus: None, wire: Wire::Whole };
    let mut canvas = Canvas { spots: vec![vec![empty; layout.width]; layout.height] };
    for frame in &layout.frames {
        let (left, right, top, bottom) = (frame.x, frame.x + frame.width - 1, frame.y, frame.y + frame.height() - 1);
        let tone = if matches!(frame.tone, Tone::Warn | Tone::Bad | Tone::Faint) { frame.tone } else { Tone::Plain };
        let heavy = matches!(frame.kind, Kind::Bus(_));
        for x in left..=right {
            let arms = if x == left {
                RIGHT
            } else if x == right {
                LEFT
            } else {
                LEFT | RIGHT
            };
            canvas.border(x, top, arms, tone, heavy);
            canvas.border(x, bottom, arms, tone, heavy);
        }
        for y in top..=bottom {
            let arms = if y == top {
                DOWN
            } else if y == bottom {
                UP
            } else {
                UP | DOWN
            };
            canvas.border(left, y, arms, tone, heavy);
            canvas.border(right, y, arms, tone, heavy);
        }
        for (n, row) in frame.rows.iter().enumerate() {
            canvas.write(left + 2 + row.indent, top + 1 + n, &row.words);
        }
    }
    layout.wires.iter().for_each(|segment| canvas.wire(segment));
    layout.texts.iter().for_each(|(x, y, words)| canvas.write(*x, *y, words));
    canvas.lines(paper)
}

impl Canvas {
    fn border(&mut self, x: usize, y: usize, arms: usize, tone: Tone, heavy: bool) {
        let spot = &mut self.spots[y][x];
        spot.arms |= arms;
        (spot.tone, spot.heavy) = (tone, heavy);
    }

    fn write(&mut self, mut x: usize, y: usize, words: &Cell) {
        for word in words {
            for c in word.text.chars() {
                let columns = c.width().unwrap_or(0);
                // what has no width of its own belongs to the character before it
                let at = if columns == 0 { x.saturating_sub(1) } else { x };
                if let Some(spot) = self.spots[y].get_mut(at) {
                    spot.text.push(c);
                    spot.tone = word.tone;
                }
                // the second half of a wide character has nothing of its own
                for half in self.spots[y].iter_mut().skip(x + 1).take(columns.saturating_sub(1)) {
                    half.text.push('\0');
                }
                x += columns;
            }
            x += 1;
        }
    }

    fn wire(&mut self, segment: &Segment) {
        let Segment { bus, from, to, wire, is_tap: _ } = segment;
        let is_flat = from.1 == to.1;
        let (back, on) = if is_flat { (LEFT, RIGHT) } else { (UP, DOWN) };
        let length = if is_flat { to.0 - from.0 } else { to.1 - from.1 };
        for n in 0..=length {
            let (x, y) = if is_flat { (from.0 + n, from.1) } else { (from.0, from.1 + n) };
            let spot = &mut self.spots[y][x];
            let arms = if n == 0 {
                on
            } else if n == length {
                back
            } else {
                back | on
            };
            // wires of two buses cross: the one that goes down is drawn
            if spot.bus.is_some_and(|other| other != *bus) {
                if is_flat {
                    continue;
                }
                spot.arms = 0;
            }
            (spot.bus, spot.wire) = (Some(*bus), *wire);
            spot.arms |= arms;
            // what is broken shows it once, beside the box
            let is_last = n + 1 == length;
            spot.wire = if *wire == Wire::Broken && !is_last { Wire::Whole } else { *wire };
            if *wire == Wire::Broken && is_last {
                spot.tone = Tone::Bad;
            }
        }
    }

    fn lines(&self, paper: Paper) -> String {
        let mut text = String::new();
        for row in &self.spots {
            let mut open = "";
            let is_empty = |spot: &&Spot| spot.text.is_empty() && spot.arms == 0;
            let end = row.len() - row.iter().rev().take_while(is_empty).count();
            for spot in row[..end].iter().filter(|spot| spot.text != "\0") {
                let is_space = spot.text.is_empty() && spot.arms == 0;
                let code = if paper.color && !is_space { spot.tone.code() } else { "" };
                if code != open {
                    text += if open.is_empty() { "" } else { "\x1b[0m" };
                    text += &if code.is_empty() { String::new() } else { format!("\x1b[{code}m") };
                    open = code;
                }
                if spot.text.is_empty() { text.push(spot.line(paper)) } else { text += &spot.text }
            }
            text += if open.is_empty() { "\n" } else { "\x1b[0m\n" };
        }
        text
    }
}

impl Spot {
    /// The character of a border or a wire.
    fn line(&self, paper: Paper) -> char {
        let is_flat = self.arms == LEFT | RIGHT;
        let is_upright = self.arms == UP | DOWN;
        match (self.wire, paper.unicode) {
            (Wire::Broken, true) if is_flat || is_upright => '×',
            (Wire::Broken, false) if is_flat || is_upright => 'x',
            (Wire::AtRest, true) if is_flat => '╌',
            (Wire::AtRest, true) if is_upright => '╎',
            (Wire::AtRest, false) if is_flat => '.',
            (Wire::AtRest, false) if is_upright => ':',
            (_, true) if self.heavy => match self.arms {
                6 => '┓',
                5 => '┛',
                10 => '┏',
                9 => '┗',
                3 => '┃',
                13 => '┷',
                14 => '┯',
                _ => '━',
            },
            (_, true) => LIGHT[self.arms & 15],
            (_, false) => match self.arms {
                0 => ' ',
                1..=3 => '|',
                4 | 8 | 12 if self.heavy => '=',
                4 | 8 | 12 => '-',
                _ => '+',
            },
        }
    }
}
