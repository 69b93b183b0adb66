//! A layout as SVG: one file, no scripts, fonts of the reader's system, light or dark as the reader likes it.
//!
//! Presentation is in classes, below one of our own: pasted into a page, it changes nothing else there.

use super::{
    layout::{Frame, Kind, Layout, Segment, WIDE, columns_for, layout},
    picture::{Picture, Wire},
};
use crate::{
    config::is_hidden,
    show::paper::{Cell, Tone, Word},
};

/// The size of a cell in pixels. Of a font of 13 px, the widest fixed ones in use take 8.03 px for a character.
const CELL: (usize, usize) = (8, 20);
const MARGIN: usize = 16;
/// How many times as wide as high a picture should be.
const SHAPE: f64 = 1.4;
/// More columns are on no screen at once: rather more rows.
const WIDEST: usize = 170;
/// What is written above and below has so many columns at least.
const COLUMNS: usize = 64;
/// Buses are told apart by so many colours.
const COLORS: usize = 4;

const STYLE: &str = include_str!("svg.css");

/// Draws, with as many boxes side by side as give the picture its shape.
pub(super) fn draw(picture: &Picture) -> String {
    let widths = (1..).map(|side_by_side| columns_for(picture, side_by_side)).take_while(|columns| *columns <= WIDEST);
    let layouts = std::iter::once(COLUMNS).chain(widths).map(|columns| layout(picture, columns.max(COLUMNS), WIDE));
    #[allow(clippy::cast_precision_loss, reason = "of some thousand pixels")]
    let distance = |layout: &Layout| ((layout.width * CELL.0) as f64 / (layout.height * CELL.1).max(1) as f64 / SHAPE).ln().abs();
    let best = layouts.min_by(|a, b| distance(a).total_cmp(&distance(b)));
    best.map(|layout| write(picture, &layout)).unwrap_or_default()
}

fn write(picture: &Picture, layout: &Layout) -> String {
    let (width, height) = (layout.width * CELL.0 + 2 * MARGIN, layout.height * CELL.1 + 2 * MARGIN);
    let headline = text_of(&picture.headline[1..]);
    let about = "Bridges with their uplinks are above the network namespaces that are on them. A wire is a port: it leads from a bridge \
                 to the interface in a namespace that is named where it ends.";
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"netns-graph\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"graphics-document document\" aria-labelledby=\"netns-graph-title\" \
         aria-describedby=\"netns-graph-about\">\n<title id=\"netns-graph-title\">Network namespaces: {}</title>\n\
         <desc id=\"netns-graph-about\">{about}</desc>\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n<g transform=\"translate({MARGIN} {MARGIN})\">\n",
        escape(&headline)
    );
    svg += "<g aria-hidden=\"true\">\n";
    layout.wires.iter().for_each(|segment| svg += &wire(segment));
    svg += "</g>\n";
    layout.frames.iter().for_each(|frame| svg += &boxed(frame));
    // the ends of wires lie on the boxes
    svg += "<g aria-hidden=\"true\">\n";
    layout.wires.iter().filter(|segment| segment.is_tap).for_each(|segment| svg += &ends(segment));
    svg += "</g>\n";
    layout.texts.iter().for_each(|(x, y, words)| svg += &text(*x, *y, words));
    svg + "</g>\n</svg>\n"
}

/// The middle of a cell.
fn middle((x, y): (usize, usize)) -> (usize, usize) {
    (x * CELL.0 + CELL.0 / 2, y * CELL.1 + CELL.1 / 2)
}

fn wire(segment: &Segment) -> String {
    let ((x1, y1), (x2, y2)) = (middle(segment.from), middle(segment.to));
    format!("<path class=\"wire {}\" d=\"M{x1} {y1}L{x2} {y2}\"/>\n", color(segment))
}

fn color(segment: &Segment) -> String {
    match segment.wire {
        Wire::Whole => format!("bus{}", segment.bus % COLORS),
        Wire::AtRest => format!("bus{} rest", segment.bus % COLORS),
        Wire::Broken => "broken".to_owned(),
    }
}

/// Where a wire leaves its lane, the port that it ends at, and a cross if it is broken.
fn ends(segment: &Segment) -> String {
    let ((x1, y1), (x2, y2)) = (middle(segment.from), middle(segment.to));
    let color = color(segment);
    let mut ends = format!("<circle class=\"joint bus{}\" cx=\"{x1}\" cy=\"{y1}\" r=\"3\"/>\n", segment.bus % COLORS);
    ends += &format!("<rect class=\"port {color}\" x=\"{}\" y=\"{}\" width=\"8\" height=\"8\" rx=\"2\"/>\n", x2 - 4, y2 - 4);
    if segment.wire == Wire::Broken {
        ends += &format!("<path class=\"wire cross\" d=\"M{} {}l6 6m0 -6l-6 6\"/>\n", x2 - 13, y2 - 3);
    }
    ends
}

fn boxed(frame: &Frame) -> String {
    let ((left, top), (right, bottom)) = (middle((frame.x, frame.y)), middle((frame.x + frame.width - 1, frame.y + frame.height() - 1)));
    let kind = match frame.kind {
        Kind::Uplink => "uplink".to_owned(),
        Kind::Netns => "netns".to_owned(),
        Kind::Bus(number) => format!("bus bus{}", number % COLORS),
    };
    let state = match frame.tone {
        Tone::Warn => " warn",
        Tone::Bad => " bad",
        _ if frame.wire == Wire::AtRest => " rest",
        _ => "",
    };
    let mut svg = format!(
        "<g role=\"graphics-object group\" aria-label=\"{0}\">\n<title>{0}</title>\n\
         <rect class=\"box {kind}{state}\" x=\"{left}\" y=\"{top}\" width=\"{1}\" height=\"{2}\" rx=\"6\"/>\n",
        escape(&frame.title),
        right - left,
        bottom - top
    );
    if frame.kind == Kind::Netns || matches!(frame.tone, Tone::Warn | Tone::Bad) {
        svg += &format!("<path class=\"edge {}\" d=\"M{} {}V{}\"/>\n", class(frame.tone), left + 1, top + 8, bottom - 8);
    }
    for (n, row) in frame.rows.iter().enumerate() {
        svg += &text(frame.x + 2 + row.indent, frame.y + 1 + n, &row.words);
    }
    svg + "</g>\n"
}

/// A line of text: words of one tone together.
fn text(x: usize, y: usize, words: &Cell) -> String {
    let (x, y) = (x * CELL.0, y * CELL.1 + CELL.1 / 2);
    let mut text = format!("<text x=\"{x}\" y=\"{y}\">");
    let parts: Vec<String> = words
        .chunk_by(|a, b| a.tone == b.tone)
        .map(|part| match part[0].tone {
            Tone::Plain => escape(&text_of(part)),
            tone => format!("<tspan class=\"{}\">{}</tspan>", class(tone), escape(&text_of(part))),
        })
        .collect();
    text += &parts.join(" ");
    text + "</text>\n"
}

fn text_of(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Strong => "strong",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
        Tone::Faint => "faint",
    }
}

/// Keeps text from being markup, and to the characters of XML 1.0 (section 2.2).
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, c| {
        match c {
            '&' => all += "&amp;",
            '<' => all += "&lt;",
            '>' => all += "&gt;",
            '"' => all += "&quot;",
            '\'' => all += "&#39;",
            c if is_hidden(c) || matches!(c, '\u{fffe}' | '\u{ffff}') => all.push(char::REPLACEMENT_CHARACTER),
            c => all.push(c),
        }
        all
    })
}
