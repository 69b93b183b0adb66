//! `graph`: a report as a picture, in text, SVG, dot and Mermaid. Pure: a report in, text out.
//!
//! ```text
//! Report -- picture.rs --> Picture -- layout.rs --> Layout --> text.rs, svg.rs
//!           (words)           |       (places)
//!                             +--> dot.rs, mermaid.rs: what reads these finds the places
//! ```
//!
//! The words are those of `status` (show/), so that both say the same. What others have named may hold anything: each of the four
//! writers has its own way to keep a name a name.

mod dot;
mod layout;
mod mermaid;
mod picture;
mod svg;
mod text;

use crate::{report::Report, show::Paper};
use picture::Picture;

/// Columns where there is no terminal that has some.
const COLUMNS: usize = 80;
/// So many columns for the words in a box are enough to have more boxes side by side on a terminal.
const NARROW: usize = 32;

/// Draws with characters; no line is longer than the paper is wide, down to 40 columns.
#[must_use]
pub fn text(report: &Report, paper: Paper) -> String {
    let picture = Picture::new(report, paper);
    text::draw(&layout::layout(&picture, paper.width.unwrap_or(COLUMNS), NARROW), paper)
}

/// Draws a page that a browser shows.
#[must_use]
pub fn svg(report: &Report) -> String {
    svg::draw(&Picture::new(report, PLAIN))
}

/// Writes a graph for Graphviz.
#[must_use]
pub fn dot(report: &Report) -> String {
    dot::draw(&Picture::new(report, PLAIN))
}

/// Writes a flowchart for Mermaid.
#[must_use]
pub fn mermaid(report: &Report) -> String {
    mermaid::draw(&Picture::new(report, PLAIN))
}

const PLAIN: Paper = Paper { width: None, color: false, unicode: true };
