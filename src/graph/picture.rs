//! [`Report`] -> [`Picture`]: which boxes there are, what is written in them, and which wires lead where.

use crate::{
    model::NetnsName,
    report::{Bridge, ConfigurationState, Drift, Interface, LinkState, Namespace, Origin, Report, Role},
    show::{
        paper::{Cell, Paper, Tone, commas, word, words},
        status::{
            address_row, bridge_address, bridge_facts, end_trouble, heading, interface_facts, is_at_rest, netns_state, port_trouble,
            unit_row, vlans,
        },
        summary::{as_configured, count, orphan_kind, sign},
    },
};

/// So many addresses of an interface, units of a namespace and ports of others are written down; of more, those that are as they
/// should be are counted.
const NAMED: usize = 8;
/// So many differences of a namespace or a bridge are written down.
const DIFFERENCES: usize = 3;
/// A description may be so long, in characters.
const DESCRIPTION: usize = 100;

/// What is to be drawn.
#[derive(Debug)]
pub(super) struct Picture {
    /// Whether all is as configured.
    pub headline: Cell,
    pub buses: Vec<Bus>,
    pub namespaces: Vec<Node>,
    /// What is about nothing that has a box.
    pub notes: Vec<Cell>,
}

/// What wires lead to: a bridge, a link of the host that others stand on, or the host itself.
#[derive(Debug)]
pub(super) struct Bus {
    pub node: Node,
    pub uplinks: Vec<Node>,
}

/// A box.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is, in plain words.
    pub title: String,
    pub tone: Tone,
    /// The wire of an uplink to its bus; of a namespace, whether it is there.
    pub wire: Wire,
    pub lines: Vec<Line>,
}

/// A line of a box.
#[derive(Debug)]
pub(super) struct Line {
    pub indent: usize,
    pub words: Cell,
    /// Of an interface: its wire.
    pub tap: Option<Tap>,
    /// A sentence: the box need not be as wide as it is long.
    pub is_prose: bool,
}

/// Where a wire of a namespace leads to.
#[derive(Debug, Clone)]
pub(super) struct Tap {
    /// An index of [`Picture::buses`].
    pub bus: usize,
    /// The bridge port, or the name inside where the host has none.
    pub port: String,
    pub wire: Wire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Whole,
    /// Not there as long as its namespace is not.
    AtRest,
    /// Nothing goes through it, and something should.
    Broken,
}

impl Line {
    fn new(indent: usize, words: Cell) -> Self {
        Self { indent, words, tap: None, is_prose: false }
    }

    pub fn prose(words: Cell) -> Self {
        Self { indent: 0, words, tap: None, is_prose: true }
    }
}

impl Picture {
    pub fn new(report: &Report, paper: Paper) -> Self {
        let mut buses: Vec<Bus> = report.bridges.iter().map(|bridge| of_bridge(bridge, report, paper)).collect();
        let states = report.list().namespaces;
        let namespaces = report.namespaces.iter().zip(&states).map(|(netns, short)| {
            let (tone, state) = netns_state(short);
            of_netns(netns, heading(tone, "netns", netns.name.as_str(), state, paper), tone, report, paper, &mut buses)
        });
        let namespaces = namespaces.collect();
        Self { headline: headline(report, paper), buses, namespaces, notes: notes(report, paper) }
    }
}

fn plain(text: &str) -> Cell {
    words(Tone::Plain, text)
}

fn headline(report: &Report, paper: Paper) -> Cell {
    if report.ok {
        return [sign(Tone::Good, paper), plain(&as_configured(report))].concat();
    }
    let wrong = report.namespaces.iter().filter(|netns| netns.state.is_wrong()).count();
    let bad_configuration = report.configuration.state != ConfigurationState::Valid;
    let parts = [
        (wrong, Tone::Bad, "namespace is wrong", "namespaces are wrong"),
        (report.drift.len(), Tone::Warn, "difference", "differences"),
        (report.pending.len(), Tone::Warn, "restart is pending", "restarts are pending"),
        (report.orphans.len(), Tone::Warn, "thing is left over", "things are left over"),
    ];
    let parts = parts.into_iter().filter(|(n, ..)| *n > 0).map(|(n, tone, one, many)| words(tone, &count(n, one, many)));
    let first = if bad_configuration { words(Tone::Bad, "the configuration cannot be used") } else { Cell::new() };
    let tone = if bad_configuration || wrong > 0 { Tone::Bad } else { Tone::Warn };
    let mut text = [sign(tone, paper), commas(std::iter::once(first).chain(parts))].concat();
    if let Some(last) = text.last_mut() {
        last.text.push(':');
    }
    [text, plain("`netns-networkd status` shows what to do")].concat()
}

/// Draws up a bridge with its uplinks; those of its ports that are of namespaces are wires.
fn of_bridge(bridge: &Bridge, report: &Report, paper: Paper) -> Bus {
    let name = bridge.name.as_str();
    let (tone, facts) = bridge_facts(bridge, report, true);
    let mut lines = vec![Line::new(0, heading(tone, "bridge", name, facts, paper))];
    let addresses = bridge.addresses.iter().filter(|address| address.origin != Origin::LinkLocal);
    let addresses = commas(some(addresses.map(|address| bridge_address(address, bridge).concat()).collect()));
    lines.extend((!addresses.is_empty()).then(|| Line::new(2, addresses)));
    let of = |role: Role| bridge.ports.iter().filter(move |port| port.role == role);
    let others = some(of(Role::Other).map(|port| [word(Tone::Plain, &port.name), port_trouble(port)].concat()).collect());
    lines.extend((!others.is_empty()).then(|| Line::new(2, [plain("ports of others:"), commas(others)].concat())));
    let is_shown = |name: &NetnsName| report.namespaces.iter().any(|netns| netns.name == *name);
    let hidden = of(Role::Namespace).filter(|port| !port.netns.as_ref().is_some_and(is_shown)).count();
    if hidden > 0 {
        lines.push(Line::new(2, words(Tone::Faint, &count(hidden, "port of another namespace", "ports of other namespaces"))));
    }
    let drift: Vec<&Drift> = report.drift.iter().filter(|drift| is_of_bridge(drift, bridge)).collect();
    lines.extend(differences(&drift, report, paper));
    let uplinks = of(Role::Uplink).map(|port| {
        let trouble = port_trouble(port);
        let tone = if trouble.is_empty() { Tone::Good } else { Tone::Bad };
        let wire = if trouble.is_empty() { Wire::Whole } else { Wire::Broken };
        let parent = port.parent.as_ref().map(|parent| plain(&format!("on {parent}"))).unwrap_or_default();
        let state = if trouble.is_empty() { words(Tone::Good, "up") } else { trouble };
        let facts = commas([state, parent, vlans(port.vlans.as_ref())]);
        let lines = vec![Line::new(0, heading(tone, "uplink", &port.name, facts, paper))];
        Node { title: format!("uplink {}", port.name), tone, wire, lines }
    });
    let uplinks = uplinks.collect();
    Bus { node: Node { title: format!("bridge {name}"), tone, wire: Wire::Whole, lines }, uplinks }
}

fn is_of_bridge(drift: &Drift, bridge: &Bridge) -> bool {
    let uplinks = bridge.ports.iter().filter(|port| port.role == Role::Uplink).map(|port| port.name.as_str());
    drift.netns.is_none() && uplinks.chain([bridge.name.as_str()]).any(|link| link == drift.object)
}

/// Finds what an interface is wired to, if it is; draws it up if it has no box yet.
fn bus_of(interface: &Interface, buses: &mut Vec<Bus>) -> Option<usize> {
    let on = match (&interface.host_end, &interface.bridge, &interface.parent) {
        (Some(_), Some(link), _) | (None, _, Some(link)) => Some(link.as_str()),
        (Some(_), None, _) => None,
        (None, _, None) => return None,
    };
    let bridge = on.map(|link| format!("bridge {link}"));
    let title = on.map_or("the host".to_owned(), |link| format!("link {link}"));
    let is_it = |bus: &Bus| bus.node.title == title || bridge.as_ref() == Some(&bus.node.title);
    Some(buses.iter().position(is_it).unwrap_or_else(|| {
        let words = match on {
            Some(link) => [plain("link"), word(Tone::Strong, link), plain("of the host")].concat(),
            None => [words(Tone::Strong, "the host"), plain("itself")].concat(),
        };
        let node = Node { title, tone: Tone::Plain, wire: Wire::Whole, lines: vec![Line::new(0, words)] };
        buses.push(Bus { node, uplinks: Vec::new() });
        buses.len() - 1
    }))
}

fn of_netns(netns: &Namespace, heading: Cell, tone: Tone, report: &Report, paper: Paper, buses: &mut Vec<Bus>) -> Node {
    let at_rest = is_at_rest(netns);
    let mut lines = vec![Line::new(0, heading)];
    if let Some(text) = &netns.description {
        let is_long = text.chars().count() > DESCRIPTION;
        let end = if paper.unicode { "…" } else { "..." };
        let start: String = text.chars().take(DESCRIPTION).collect();
        lines.push(Line::prose(words(Tone::Faint, &if is_long { start + end } else { start })));
    }
    for interface in &netns.interfaces {
        let facts = interface_facts(interface, at_rest, true);
        let broken = interface.state != LinkState::Unknown && (interface.state != LinkState::Up || !interface.carrier);
        let wire = match at_rest {
            true => Wire::AtRest,
            false if broken || !end_trouble(interface).is_empty() => Wire::Broken,
            false => Wire::Whole,
        };
        let port = interface.host_end.as_ref().map_or(interface.name.as_str(), |end| end.name.as_str()).to_owned();
        let tap = bus_of(interface, buses).map(|bus| Tap { bus, port, wire });
        let colon = if facts.is_empty() { "" } else { ":" };
        let name = word(Tone::Strong, &format!("{}{colon}", interface.name));
        lines.push(Line { tap, ..Line::new(0, [name, facts].concat()) });
        let addresses = interface.addresses.iter().filter(|address| address.origin != Origin::LinkLocal);
        let addresses = some(addresses.map(|address| address_row(address, at_rest).concat()).collect());
        lines.extend(addresses.into_iter().map(|words| Line::new(2, words)));
    }
    let units = some(netns.units.iter().map(|unit| unit_row(unit, netns, true).concat()).collect());
    lines.extend(units.into_iter().map(|words| Line::new(0, words)));
    let drift: Vec<&Drift> = report.drift.iter().filter(|drift| drift.netns.as_ref() == Some(&netns.name)).collect();
    lines.extend(differences(&drift, report, paper));
    let pending = report.pending.iter().filter(|waiting| waiting.netns.as_ref() == Some(&netns.name));
    lines.extend(
        pending.map(|waiting| Line::prose([sign(Tone::Warn, paper), words(Tone::Warn, "pending:"), plain(&waiting.text)].concat())),
    );
    let wire = if at_rest { Wire::AtRest } else { Wire::Whole };
    Node { title: format!("netns {}", netns.name), tone, wire, lines }
}

/// Leaves out of a long list what is as it should be, and says how much that is.
fn some(all: Vec<Cell>) -> Vec<Cell> {
    let number = all.len();
    if number <= NAMED {
        return all;
    }
    let is_quiet = |words: &Cell| !words.iter().any(|word| matches!(word.tone, Tone::Warn | Tone::Bad));
    let mut room = (NAMED - 1).saturating_sub(all.iter().filter(|words| !is_quiet(words)).count());
    let stays = |words: &Cell| {
        let has_room = room > 0;
        room -= usize::from(has_room && is_quiet(words));
        has_room || !is_quiet(words)
    };
    let mut named: Vec<Cell> = all.into_iter().filter(stays).collect();
    let more = number - named.len();
    named.extend((more > 0).then(|| words(Tone::Faint, &format!("and {more} more"))));
    named
}

/// Says what `sync` would change.
fn differences(drift: &[&Drift], report: &Report, paper: Paper) -> Vec<Line> {
    let would = if report.configuration.state == ConfigurationState::Valid { "sync would:" } else { "by the records:" };
    let line = |drift: &&Drift| {
        let inside = drift.netns.as_ref().map(|netns| format!(" in netns '{netns}'")).unwrap_or_default();
        let change = drift.change.strip_suffix(&inside).unwrap_or(&drift.change);
        let would = if drift.left_alone { Cell::new() } else { words(Tone::Warn, would) };
        Line::prose([sign(Tone::Warn, paper), would, plain(change)].concat())
    };
    let shown = if drift.len() > DIFFERENCES { DIFFERENCES - 1 } else { drift.len() };
    let mut lines: Vec<Line> = drift.iter().take(shown).map(line).collect();
    let more = drift.len() - shown;
    lines.extend((more > 0).then(|| Line::new(2, words(Tone::Warn, &format!("and {more} more differences")))));
    lines
}

/// Says what is about nothing in the picture.
fn notes(report: &Report, paper: Paper) -> Vec<Cell> {
    let mut notes = Vec::new();
    let mut note = |tone: Tone, text: Cell| notes.push([sign(tone, paper), text].concat());
    if let Some(error) = &report.configuration.error {
        let of_faults = if report.configuration.state == ConfigurationState::Faulty { "the configuration has " } else { "" };
        note(Tone::Bad, plain(&format!("{of_faults}{}", error.replace('\n', " "))));
    }
    let has_box = |netns: Option<&NetnsName>| report.namespaces.iter().any(|shown| Some(&shown.name) == netns);
    let is_shown = |drift: &Drift| has_box(drift.netns.as_ref()) || report.bridges.iter().any(|bridge| is_of_bridge(drift, bridge));
    let elsewhere: Vec<&Drift> = report.drift.iter().filter(|drift| !is_shown(drift)).collect();
    notes.extend(differences(&elsewhere, report, paper).into_iter().map(|line| line.words));
    let mut note = |tone: Tone, text: Cell| notes.push([sign(tone, paper), text].concat());
    for waiting in report.pending.iter().filter(|waiting| !has_box(waiting.netns.as_ref())) {
        note(Tone::Warn, plain(&format!("pending: {}", waiting.text)));
    }
    for orphan in &report.orphans {
        note(Tone::Warn, plain(&format!("left over: {} {}: {}", orphan_kind(orphan.kind), orphan.name, orphan.remedy)));
    }
    report.warnings.iter().for_each(|text| note(Tone::Warn, plain(&format!("warning: {}", text.replace('\n', " ")))));
    report.not_seen.iter().for_each(|text| note(Tone::Faint, plain(&format!("not seen: {}", text.replace('\n', " ")))));
    notes
}
