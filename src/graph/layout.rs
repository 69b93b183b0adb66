//! [`Picture`] -> [`Layout`]: where everything is, in cells of a character. For text and for SVG.
//!
//! ```text
//!  ┌──────────────────┐
//!  │ ● uplink eno1: up│
//!  └─┬────────────────┘
//! ┏━━┷━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓    a bus: as wide as the picture, with its namespaces below,
//! ┃ ● bridge br-lan: up                ┃    in as many columns as there is room for
//! ┗┯━━━━━━━━━━━━━━━━━┯━━━━━━━━━━━━━━━━━┛
//!  │ ┌─────────────┐ │ ┌─────────────┐
//!  │ │ ● netns mail│ │ │ ● netns web │       its lane goes on at the left to those that are on several buses:
//!  ├─┤ eth0        │ └─┤ eth0        │       so the next bus begins right of it, and no wire leads through a box
//!  │ └─────────────┘   └─────────────┘
//!  │ ┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
//!  │ ┃ ● bridge br-dmz: up            ┃
//! ```

use std::{collections::BTreeMap, ops::Range};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::picture::{Bus, Line, Node, Picture, Tap, Wire};
use crate::show::paper::{Cell, Tone, Word, width};

/// Columns from one lane to the next, and from the last one to a box.
const LANE: usize = 3;
/// Columns between two columns of boxes.
const GAP: usize = 1;
/// Border and space at both sides of the words in a box.
const SIDES: usize = 4;
/// The words in the boxes of namespaces go on in a second line beyond so many columns, unless one word alone is longer.
pub(super) const WIDE: usize = 46;
/// No box is narrower.
const LEAST: usize = 16;

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    pub frames: Vec<Frame>,
    pub wires: Vec<Segment>,
    /// Words outside of all boxes: column, row.
    pub texts: Vec<(usize, usize, Cell)>,
}

/// A box.
#[derive(Debug)]
pub(super) struct Frame {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub kind: Kind,
    pub title: String,
    pub tone: Tone,
    pub wire: Wire,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Uplink,
    /// Its place in [`Picture::buses`].
    Bus(usize),
    Netns,
}

/// A line of a box, as far as it has room.
#[derive(Debug)]
pub(super) struct Row {
    pub indent: usize,
    pub words: Cell,
    pub tap: Option<Tap>,
}

/// A straight piece of wire, with both of its ends; what it leads to has a joint there.
#[derive(Debug)]
pub(super) struct Segment {
    /// The bus that all of its pieces are of: they meet, those of others cross.
    pub bus: usize,
    pub from: (usize, usize),
    pub to: (usize, usize),
    pub wire: Wire,
    /// It comes from a lane and ends at a box.
    pub is_tap: bool,
}

impl Frame {
    pub fn height(&self) -> usize {
        self.rows.len() + 2
    }
}

/// Places a picture on so many columns. So many columns for the words in a box are enough to have more boxes side by side.
pub(super) fn layout(picture: &Picture, columns: usize, enough: usize) -> Layout {
    let mut layout = Layout::default();
    let headline = wrap(&[Line::prose(picture.headline.clone())], columns);
    let mut y = layout.write(headline, 0) + 1;
    let sizes = Sizes::new(picture, columns, enough);
    for buses in blocks(picture) {
        y = layout.block(picture, &buses, &sizes, y) + 1;
    }
    layout.width = layout.frames.iter().map(|frame| frame.x + frame.width).max().unwrap_or(0);
    for frame in layout.frames.iter_mut().filter(|frame| matches!(frame.kind, Kind::Bus(_))) {
        frame.width = layout.width - frame.x;
    }
    for note in &picture.notes {
        y = layout.write(wrap(&[Line::prose(note.clone())], columns), y);
    }
    let right = layout.texts.iter().map(|(x, _, words)| x + width(words)).max().unwrap_or(0);
    layout.width = layout.width.max(right);
    layout.height = if picture.notes.is_empty() { y - 1 } else { y };
    layout
}

/// Gives the columns that a picture takes with so many boxes side by side, all as wide as they like to be.
pub(super) fn columns_for(picture: &Picture, side_by_side: usize) -> usize {
    let lanes = blocks(picture).iter().map(Vec::len).max().unwrap_or(0);
    side_by_side * (LANE * lanes + natural(picture) + SIDES + GAP) - GAP
}

/// How wide the words in the boxes of namespaces are: all alike.
struct Sizes {
    columns: usize,
    inner: usize,
}

impl Sizes {
    fn new(picture: &Picture, columns: usize, enough: usize) -> Self {
        let natural = natural(picture);
        let longest = words_of(picture, |words| words.iter().map(|word| word.text.width()).max().unwrap_or(0));
        let least = natural.min(enough.max(longest));
        // the most room is where there is one lane
        let beside = |lanes: usize| LANE * lanes + SIDES + GAP;
        let blocks = blocks(picture);
        let together = blocks.iter().flat_map(|block| block.chunks(1).chain([block.as_slice()])).map(|buses| on(picture, buses).len());
        let side_by_side = ((columns + GAP) / (beside(1) + least)).clamp(1, together.max().unwrap_or(0).max(1));
        let most_lanes = blocks.iter().map(Vec::len).max().unwrap_or(0);
        let room = |lanes: usize| ((columns + GAP) / side_by_side).saturating_sub(beside(lanes));
        let inner = if side_by_side > 1 { room(1) } else { room(most_lanes) };
        Self { columns, inner: inner.clamp(LEAST, natural.max(LEAST)) }
    }

    /// Gives how many boxes with so many lanes have room right of `base`.
    fn side_by_side(&self, base: usize, lanes: usize) -> usize {
        ((self.columns + GAP).saturating_sub(base) / (LANE * lanes + self.inner + SIDES + GAP)).max(1)
    }
}

/// Gives how wide the words in the boxes of namespaces like to be.
fn natural(picture: &Picture) -> usize {
    words_of(picture, width).min(WIDE)
}

/// The most that any line of a namespace has of something, with what it is indented by.
fn words_of(picture: &Picture, of: impl Fn(&[Word]) -> usize) -> usize {
    let lines = picture.namespaces.iter().flat_map(|node| &node.lines).filter(|line| !line.is_prose);
    lines.map(|line| line.indent + of(&line.words)).max().unwrap_or(0)
}

/// Parts the buses: those that namespaces join are together. Namespaces that are on none come last.
fn blocks(picture: &Picture) -> Vec<Vec<usize>> {
    let mut block_of: Vec<usize> = (0..picture.buses.len()).collect();
    for buses in picture.namespaces.iter().map(buses_of) {
        for pair in buses.windows(2) {
            let (a, b) = (block_of[pair[0]], block_of[pair[1]]);
            block_of.iter_mut().filter(|block| **block == a.max(b)).for_each(|block| *block = a.min(b));
        }
    }
    let mut blocks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    block_of.iter().enumerate().for_each(|(bus, block)| blocks.entry(*block).or_default().push(bus));
    let alone = picture.namespaces.iter().any(|node| buses_of(node).is_empty());
    blocks.into_values().chain(alone.then(Vec::new)).collect()
}

/// The namespaces that are together below buses: on the only one, on several, or on none.
fn on<'a>(picture: &'a Picture, buses: &[usize]) -> Vec<&'a Node> {
    let belongs = |node: &&Node| match (buses_of(node).as_slice(), buses) {
        (own, [] | [_]) => own == buses,
        (own, all) => own.len() > 1 && own.iter().all(|bus| all.contains(bus)),
    };
    picture.namespaces.iter().filter(belongs).collect()
}

/// The buses of a namespace, each once, in order.
fn buses_of(node: &Node) -> Vec<usize> {
    let mut buses: Vec<usize> = node.lines.iter().filter_map(|line| Some(line.tap.as_ref()?.bus)).collect();
    buses.sort_unstable();
    buses.dedup();
    buses
}

/// The lane of a bus, from where it begins to where it has led to so far.
struct Lane {
    bus: usize,
    x: usize,
    from: usize,
    to: usize,
    is_there: bool,
}

impl Lane {
    fn reach(&mut self, y: usize, wire: Wire) {
        self.to = self.to.max(y);
        self.is_there |= wire != Wire::AtRest;
    }

    fn segment(&self) -> Option<Segment> {
        let wire = if self.is_there { Wire::Whole } else { Wire::AtRest };
        (self.to > self.from).then_some(Segment { bus: self.bus, from: (self.x, self.from), to: (self.x, self.to), wire, is_tap: false })
    }
}

impl Layout {
    /// Places rows without a box; gives the row after them.
    fn write(&mut self, rows: Vec<Row>, y: usize) -> usize {
        let end = y + rows.len();
        self.texts.extend(rows.into_iter().enumerate().map(|(n, row)| (row.indent, y + n, row.words)));
        end
    }

    fn frame(&mut self, node: &Node, kind: Kind, (x, y): (usize, usize), rows: Vec<Row>, inner: usize) -> usize {
        let frame = Frame { x, y, width: inner + SIDES, kind, title: node.title.clone(), tone: node.tone, wire: node.wire, rows };
        let end = y + frame.height();
        self.frames.push(frame);
        end
    }

    /// Places buses with their namespaces; gives the row after them.
    fn block(&mut self, picture: &Picture, buses: &[usize], sizes: &Sizes, mut y: usize) -> usize {
        let mut lanes: Vec<Lane> = Vec::new();
        for (n, bus) in buses.iter().enumerate() {
            let x = LANE * n;
            y = self.bus(&picture.buses[*bus], *bus, x, sizes.columns, y);
            let mut lane = [Lane { bus: *bus, x: x + 1, from: y - 1, to: 0, is_there: false }];
            y = self.grid(picture, x, &mut lane, sizes, y);
            y += usize::from(n + 1 < buses.len());
            lanes.extend(lane);
        }
        if buses.len() != 1 {
            y = self.grid(picture, 0, &mut lanes, sizes, y);
        }
        self.wires.extend(lanes.iter().filter_map(Lane::segment));
        y
    }

    /// Places a bus below its uplinks.
    fn bus(&mut self, bus: &Bus, number: usize, x: usize, columns: usize, y: usize) -> usize {
        let room = columns.saturating_sub(x + SIDES).max(LEAST);
        let mut lines: Vec<&Line> = bus.node.lines.iter().collect();
        let (mut right, mut below, mut wires) = (x + 1, y, Vec::new());
        for uplink in &bus.uplinks {
            let rows = wrap(&uplink.lines, room);
            let inner = rows.iter().map(Row::width).max().unwrap_or(0);
            if right + inner + SIDES > columns && right > x + 1 {
                lines.extend(&uplink.lines);
                continue;
            }
            below = below.max(self.frame(uplink, Kind::Uplink, (right, y), rows, inner));
            wires.push((right + 2, uplink.wire));
            right += inner + SIDES + GAP;
        }
        // what is lower than its neighbours has a longer wire
        let ends: Vec<usize> = self.frames[self.frames.len() - wires.len()..].iter().map(|frame| frame.y + frame.height() - 1).collect();
        let wires = wires.into_iter().zip(ends);
        self.wires.extend(wires.map(|((x, wire), end)| Segment { bus: number, from: (x, end), to: (x, below), wire, is_tap: false }));
        let rows: Vec<Row> = lines.into_iter().flat_map(|line| wrap(std::slice::from_ref(line), room)).collect();
        let inner = rows.iter().map(Row::width).max().unwrap_or(0);
        self.frame(&bus.node, Kind::Bus(number), (x, below), rows, inner)
    }

    /// Places the namespaces that are on just these lanes, in columns of about the same height. The first column is beside the lanes
    /// themselves; to the others leads the bus, or, of several lanes, a rail of each.
    fn grid(&mut self, picture: &Picture, base: usize, lanes: &mut [Lane], sizes: &Sizes, mut y: usize) -> usize {
        let buses: Vec<usize> = lanes.iter().map(|lane| lane.bus).collect();
        let nodes = on(picture, &buses);
        if nodes.is_empty() {
            return y;
        }
        let (side_by_side, inner) = (sizes.side_by_side(base, lanes.len()), sizes.inner);
        let boxes: Vec<Vec<Row>> = nodes.iter().map(|node| wrap(&node.lines, inner)).collect();
        let columns = part(&boxes.iter().map(|rows| rows.len() + 2).collect::<Vec<_>>(), side_by_side);
        let rails = y;
        let has_rails = lanes.len() > 1 && columns.len() > 1;
        y += if has_rails { lanes.len() } else { 0 };
        let mut boxes = nodes.into_iter().zip(boxes);
        let mut end = y;
        for (column, range) in columns.into_iter().enumerate() {
            let left = base + column * (LANE * lanes.len() + inner + SIDES + GAP);
            let of_column = |(n, lane): (usize, &Lane)| Lane {
                bus: lane.bus,
                x: left + LANE * n + 1,
                from: if has_rails { rails + n } else { lane.from },
                to: 0,
                is_there: false,
            };
            let mut own: Vec<Lane> = lanes.iter().enumerate().map(of_column).collect();
            let mut below = y;
            for (node, rows) in boxes.by_ref().take(range.len()) {
                let x = left + LANE * lanes.len();
                for (n, tap) in rows.iter().enumerate().filter_map(|(n, row)| Some((n, row.tap.as_ref()?))) {
                    let at = below + 1 + n;
                    let Some(lane) = own.iter_mut().find(|lane| lane.bus == tap.bus) else { continue };
                    lane.reach(at, tap.wire);
                    self.wires.push(Segment { bus: tap.bus, from: (lane.x, at), to: (x, at), wire: tap.wire, is_tap: true });
                }
                below = self.frame(node, Kind::Netns, (x, below), rows, inner);
            }
            end = end.max(below);
            for (n, (own, lane)) in own.iter().zip(lanes.iter_mut()).enumerate().filter(|(_, (own, _))| own.to > 0) {
                let wire = if own.is_there { Wire::Whole } else { Wire::AtRest };
                if column == 0 {
                    lane.reach(own.to, wire);
                } else {
                    self.wires.extend(own.segment());
                    if has_rails {
                        lane.reach(rails + n, wire);
                        self.wires.push(Segment { bus: own.bus, from: (lane.x, rails + n), to: (own.x, rails + n), wire, is_tap: false });
                    }
                }
            }
        }
        end
    }
}

impl Row {
    fn width(&self) -> usize {
        self.indent + width(&self.words)
    }
}

/// Breaks lines at a width: what goes on does so below its words. A word that is longer is broken, too.
fn wrap(lines: &[Line], room: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for Line { indent, words, tap, is_prose: _ } in lines {
        let mut row = Row { indent: *indent, words: Vec::new(), tap: tap.clone() };
        let hang = (indent + 2).min(room.saturating_sub(1));
        for word in words {
            let mut rest = word.text.as_str();
            while !rest.is_empty() {
                let used = row.width() + usize::from(!row.words.is_empty());
                let fits = used + rest.width() <= room;
                if !fits && !row.words.is_empty() {
                    rows.push(std::mem::replace(&mut row, Row { indent: hang, words: Vec::new(), tap: None }));
                    continue;
                }
                let (start, more) = rest.split_at(if fits { rest.len() } else { fitting(rest, room.saturating_sub(row.indent)) });
                row.words.push(Word { tone: word.tone, text: start.to_owned() });
                rest = more;
            }
        }
        rows.push(row);
    }
    rows
}

/// How many bytes of a word fit; at least those of one character.
fn fitting(word: &str, room: usize) -> usize {
    let mut columns = 0;
    let mut fits = |c: char| {
        columns += c.width().unwrap_or(0);
        columns <= room
    };
    let end = word.char_indices().find(|(_, c)| !fits(*c)).map_or(word.len(), |(at, _)| at);
    if end == 0 { word.chars().next().map_or(0, char::len_utf8) } else { end }
}

/// Parts boxes, in their order, into columns of which the highest is as low as can be.
fn part(heights: &[usize], columns: usize) -> Vec<Range<usize>> {
    let fill = |limit: usize| {
        let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
        for (n, height) in heights.iter().enumerate() {
            if sum + height > limit {
                parts.push(start..n);
                (start, sum) = (n, 0);
            }
            sum += height;
        }
        parts.push(start..heights.len());
        parts
    };
    let (mut low, mut high) = (heights.iter().max().copied().unwrap_or(0), heights.iter().sum());
    while low < high {
        let middle = usize::midpoint(low, high);
        if fill(middle).len() <= columns { high = middle } else { low = middle + 1 }
    }
    fill(low)
}
