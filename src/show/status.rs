//! `status`: first what is wrong and what mends it, then bridges and namespaces as they are.

use super::{
    paper::{Cell, Paper, Text, Tone, commas, word, words},
    summary::{count, sign, summary},
};
use crate::report::{
    Address, AddressState, Binding, Bridge, BridgePort, Firewall, Interface, LinkState, ListEntry, Namespace, NetnsState, Origin,
    OrphanKind, Place, Presence, Report, Role, RouteEntry, Unit, Vlans,
};

/// Below so many columns, labels stand above what they are about.
const NARROW: usize = 60;
/// So many ports of namespaces are named one by one.
const PORTS: usize = 12;
/// So many processes of a unit are.
const PIDS: usize = 8;

/// Writes a report.
#[must_use]
pub fn status(report: &Report, paper: Paper) -> String {
    let mut text = Text::new(paper);
    summary(report, &mut text);
    for bridge in &report.bridges {
        text.blank_line();
        show_bridge(bridge, report, &mut text);
    }
    for (netns, short) in report.namespaces.iter().zip(report.list().namespaces) {
        text.blank_line();
        show_netns(netns, &short, &mut text);
    }
    text.finish()
}

/// The state of a namespace with all that a person should know of it, and how bad that is.
pub(crate) fn netns_state(netns: &ListEntry) -> (Tone, Cell) {
    let state = match netns.state {
        NetnsState::Up => Tone::Good,
        NetnsState::Down => Tone::Faint,
        NetnsState::ComingUp | NetnsState::GoingDown => Tone::Warn,
        NetnsState::Failed | NetnsState::Lost | NetnsState::Foreign => Tone::Bad,
    };
    let mut notes = Vec::new();
    notes.extend((!netns.configured).then(|| "not in the configuration".to_owned()));
    notes.extend((netns.differences > 0).then(|| count(netns.differences, "difference", "differences")));
    notes.extend((netns.changed_since_sync == Some(true)).then(|| "changed since the last sync".to_owned()));
    notes.extend((netns.pending > 0 && netns.configured).then(|| format!("{} pending", netns.pending)));
    let tone = if notes.is_empty() || state == Tone::Bad { state } else { Tone::Warn };
    let notes = notes.iter().map(|note| words(Tone::Warn, note));
    (tone, commas(std::iter::once(words(state, netns.state.as_str())).chain(notes)))
}

/// Rows below a label.
type Block = (String, Vec<Vec<Vec<Cell>>>);

fn show_blocks(blocks: &[Block], text: &mut Text) {
    let narrow = text.paper().width.is_some_and(|width| width < NARROW);
    let blocks = || blocks.iter().filter(|(_, tables)| tables.iter().any(|rows| !rows.is_empty()));
    let widest = blocks().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, tables) in blocks() {
        if narrow {
            text.paragraph(2, 0, &word(Tone::Strong, label));
        }
        let mut label = if narrow { None } else { Some(label) };
        for rows in tables.iter().filter(|rows| !rows.is_empty()) {
            if let Some(label) = label.take() {
                text.label(2, &word(Tone::Strong, label));
            }
            text.table(if narrow { 4 } else { widest + 4 }, rows);
        }
    }
}

/// The first line of what is there, after its sign.
pub(crate) fn heading(tone: Tone, kind: &str, name: &str, facts: Cell, paper: Paper) -> Cell {
    [sign(tone, paper), words(Tone::Plain, kind), word(Tone::Strong, &format!("{name}:")), facts].concat()
}

/// What there is to know of a bridge, and how bad it is; `brief` leaves out what is as everywhere.
pub(crate) fn bridge_facts(bridge: &Bridge, report: &Report, brief: bool) -> (Tone, Cell) {
    let Bridge { name, configured, source: _, state, carrier, mac, mtu, stp, vlan_filtering, addresses: _, ports } = bridge;
    let tone = match state {
        LinkState::Up => Tone::Good,
        _ => Tone::Bad,
    };
    let is_left = report.orphans.iter().any(|orphan| orphan.kind == OrphanKind::Bridge && orphan.name == name.as_str());
    let lacks_carrier = *state == LinkState::Up && !carrier && !ports.is_empty();
    let facts = [
        link_state(*state),
        if lacks_carrier { words(Tone::Warn, "no carrier") } else { Cell::new() },
        match (configured, state) {
            _ if is_left => words(Tone::Warn, "not in the configuration"),
            (true, _) => Cell::new(),
            (false, LinkState::Absent) => words(Tone::Plain, &format!("no [bridge.{name}] makes it")),
            (false, _) => words(Tone::Plain, "made by somebody else"),
        },
        mtu.map(|mtu| words(Tone::Plain, &format!("MTU {mtu}"))).unwrap_or_default(),
        mac.filter(|_| !brief).map(|mac| word(Tone::Plain, &mac.to_string())).unwrap_or_default(),
        if *stp == Some(true) { words(Tone::Plain, "spanning tree") } else { Cell::new() },
        if *vlan_filtering == Some(true) { words(Tone::Plain, "VLANs apart") } else { Cell::new() },
    ];
    (tone, commas(facts))
}

/// An address of a bridge, as [`address_row`] has it.
pub(crate) fn bridge_address(address: &Address, bridge: &Bridge) -> Vec<Cell> {
    match address.state {
        // without a carrier there is nobody to ask, so duplicate detection does not end
        AddressState::Tentative if !bridge.carrier => address_row(&Address { state: AddressState::Usable, ..address.clone() }, false),
        _ => address_row(address, false),
    }
}

fn show_bridge(bridge: &Bridge, report: &Report, text: &mut Text) {
    let Bridge { name, addresses, ports, .. } = bridge;
    let (tone, facts) = bridge_facts(bridge, report, false);
    text.paragraph(0, 2, &heading(tone, "bridge", name.as_str(), facts, text.paper()));
    let (of_netns, others): (Vec<&BridgePort>, Vec<&BridgePort>) = ports.iter().partition(|port| port.role == Role::Namespace);
    let (uplinks, others): (Vec<&BridgePort>, Vec<&BridgePort>) = others.into_iter().partition(|port| port.role == Role::Uplink);
    let quiet = |port: &&&BridgePort| of_netns.len() > PORTS && port_trouble(port).is_empty();
    let quiet_ones = of_netns.iter().filter(quiet).count();
    let mut rows: Vec<Vec<Cell>> = of_netns.iter().filter(|port| !quiet(port)).map(|port| port_row(port)).collect();
    if quiet_ones > 0 {
        rows.push(vec![words(Tone::Plain, &count(quiet_ones, "port of a namespace", "ports of namespaces"))]);
    }
    rows.extend(others.iter().map(|port| port_row(port)));
    let blocks = [
        ("addresses".to_owned(), vec![addresses.iter().map(|address| bridge_address(address, bridge)).collect()]),
        ("uplinks".to_owned(), vec![uplinks.iter().map(|port| port_row(port)).collect()]),
        ("ports".to_owned(), vec![rows]),
    ];
    show_blocks(&blocks, text);
}

pub(crate) fn port_trouble(port: &BridgePort) -> Cell {
    match port {
        BridgePort { state: LinkState::Absent, .. } => words(Tone::Bad, "does not exist"),
        BridgePort { member: false, .. } => words(Tone::Bad, "not a port of the bridge"),
        BridgePort { state: LinkState::Down, .. } => words(Tone::Bad, "down"),
        BridgePort { carrier: false, .. } => words(Tone::Bad, "no carrier"),
        BridgePort { forwarding: Some(false), .. } => words(Tone::Bad, "does not forward"),
        _ => Cell::new(),
    }
}

fn port_row(port: &BridgePort) -> Vec<Cell> {
    let trouble = port_trouble(port);
    let of = match (&port.netns, &port.interface) {
        (Some(netns), Some(interface)) => words(Tone::Plain, &format!("{interface} of {netns}")),
        _ if port.role == Role::Other => words(Tone::Plain, "of others"),
        _ => Cell::new(),
    };
    let parent = port.parent.as_ref().map(|parent| words(Tone::Plain, &format!("on {parent}"))).unwrap_or_default();
    let fine = if trouble.is_empty() && port.role == Role::Uplink { words(Tone::Good, "up") } else { Cell::new() };
    vec![word(Tone::Plain, &port.name), commas([of, parent, fine, trouble, vlans(port.vlans.as_ref())])]
}

pub(crate) fn vlans(vlans: Option<&Vlans>) -> Cell {
    let Some(Vlans { untagged, tagged }) = vlans else { return Cell::new() };
    let ids = tagged.iter().copied().collect();
    let ranges = crate::model::ranges(&ids).map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let untagged = untagged.map(|id| format!("{id} untagged"));
    let all: Vec<String> = untagged.into_iter().chain(ranges).collect();
    if all.is_empty() { Cell::new() } else { words(Tone::Plain, &format!("VLANs {}", all.join(" "))) }
}

fn link_state(state: LinkState) -> Cell {
    match state {
        LinkState::Up => words(Tone::Good, "up"),
        LinkState::Down => words(Tone::Bad, "down"),
        LinkState::Absent => words(Tone::Bad, "does not exist"),
        LinkState::Unknown => words(Tone::Faint, "not seen"),
    }
}

/// Where there is no namespace, nothing that should be in it is at fault.
pub(crate) fn is_at_rest(netns: &Namespace) -> bool {
    match netns.state {
        NetnsState::Up => false,
        NetnsState::ComingUp | NetnsState::GoingDown => !netns.seen,
        NetnsState::Down | NetnsState::Failed | NetnsState::Lost | NetnsState::Foreign => true,
    }
}

fn show_netns(netns: &Namespace, short: &ListEntry, text: &mut Text) {
    let (tone, state) = netns_state(short);
    text.paragraph(0, 2, &heading(tone, "netns", netns.name.as_str(), state, text.paper()));
    let about = [netns.description.as_deref(), netns.source.as_deref()].into_iter().flatten();
    let about: Vec<Vec<Cell>> = about.map(|text| vec![words(Tone::Plain, text)]).collect();
    text.table(2, &about);
    let at_rest = is_at_rest(netns);
    let mut blocks = vec![("units".to_owned(), vec![netns.units.iter().map(|unit| unit_row(unit, netns, false)).collect()])];
    for interface in &netns.interfaces {
        let tables = vec![
            vec![vec![interface_facts(interface, at_rest, false)]],
            interface.addresses.iter().map(|address| address_row(address, at_rest)).collect(),
            interface.routes.iter().map(|route| route_row(route, at_rest)).collect(),
        ];
        blocks.push((interface.name.clone(), tables));
    }
    blocks.push(("routes".to_owned(), vec![netns.routes.iter().map(|route| route_row(route, at_rest)).collect()]));
    let rule = |rule: &crate::report::RuleEntry| vec![words(Tone::Plain, &rule.rule), presence(rule.state, at_rest)];
    blocks.push(("rules".to_owned(), vec![netns.rules.iter().map(rule).collect()]));
    let firewall = netns.nftables.map(|state| match state {
        Firewall::Loaded => words(Tone::Good, "loaded"),
        Firewall::Different => words(Tone::Bad, "not the one of the configuration"),
        Firewall::Absent if at_rest => words(Tone::Plain, "loaded with the namespace"),
        Firewall::Absent => words(Tone::Bad, "not loaded"),
        Firewall::Unknown => words(Tone::Faint, "not seen"),
    });
    blocks.push(("nftables".to_owned(), vec![firewall.into_iter().map(|cell| vec![cell]).collect()]));
    show_blocks(&blocks, text);
}

/// A unit and its state; `brief` leaves out its processes.
pub(crate) fn unit_row(unit: &Unit, netns: &Namespace, brief: bool) -> Vec<Cell> {
    let Unit { name, bound, load_state, active_state, sub_state, main_pid: _, pids, runs_in } = unit;
    let state = match (load_state.as_deref(), active_state.as_deref(), sub_state.as_deref().unwrap_or_default()) {
        (Some(load), ..) if load != "loaded" => words(Tone::Warn, load),
        (_, Some("active"), sub) => words(Tone::Good, &format!("active ({sub})")),
        (_, Some("failed"), _) => words(Tone::Bad, "failed"),
        (_, Some("inactive"), _) => words(Tone::Faint, "inactive"),
        (_, Some(other), sub) => words(Tone::Warn, &format!("{other} ({sub})")),
        (_, None, _) if name.contains("@.") => words(Tone::Faint, "a template"),
        (_, None, _) => words(Tone::Faint, "not seen"),
    };
    let place = match runs_in {
        Some(Place::Netns(place)) if *place == netns.name => Cell::new(),
        Some(Place::Netns(place)) => words(Tone::Bad, &format!("in netns '{place}'")),
        Some(Place::Host) if *bound != Binding::Tool => words(Tone::Bad, "on the host"),
        Some(Place::Other) => words(Tone::Bad, "in another namespace"),
        Some(Place::Host) | None => Cell::new(),
    };
    let bound = match bound {
        Binding::Hand => words(Tone::Plain, "bound by hand"),
        Binding::Nothing => words(Tone::Bad, "bound to nothing"),
        Binding::Configuration | Binding::Tool => Cell::new(),
    };
    let listed = match pids[..] {
        _ if brief => Cell::new(),
        [] => Cell::new(),
        [pid] => word(Tone::Plain, &format!("PID {pid}")),
        _ => {
            let some: Vec<String> = pids.iter().take(PIDS).map(ToString::to_string).collect();
            let more = pids.len().saturating_sub(PIDS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            words(Tone::Plain, &format!("PIDs {}{more}", some.join(" ")))
        }
    };
    vec![word(Tone::Plain, name), state, commas([place, bound, listed])]
}

/// What is wrong with the host end of a pair.
pub(crate) fn end_trouble(interface: &Interface) -> Cell {
    let bad = |text: &str| words(Tone::Bad, text);
    let end = interface.host_end.as_ref().map(|end| (end.state, end.forwarding, &interface.bridge));
    match end {
        Some((LinkState::Absent, ..)) => bad("without its host end"),
        Some((LinkState::Down, ..)) => bad("host end down"),
        Some((LinkState::Up, None, Some(bridge))) => bad(&format!("not on {bridge}")),
        Some((_, Some(false), _)) => bad("does not forward"),
        _ => Cell::new(),
    }
}

/// What there is to know of an interface; `brief` leaves out what is as everywhere.
pub(crate) fn interface_facts(interface: &Interface, at_rest: bool, brief: bool) -> Cell {
    let Interface { name: _, configured, kind, state, carrier, mac, mtu, dhcp, host_end, bridge, parent, .. } = interface;
    let is_pair = host_end.is_some();
    let end = host_end.as_ref().map(|end| {
        let is_port = at_rest || end.state != LinkState::Up || end.forwarding.is_some();
        let on = bridge.as_ref().filter(|_| is_port).map(|bridge| format!(" on {bridge}")).unwrap_or_default();
        words(Tone::Plain, &format!("{}{on}", end.name))
    });
    let isolated = host_end.as_ref().is_some_and(|end| end.isolated == Some(true));
    let on_host = host_end.iter().flat_map(|end| &end.addresses).filter(|address| address.origin == Origin::Configuration);
    let on_host: Vec<String> = on_host.map(|address| address.address.to_string()).collect();
    let plain = |text: String| words(Tone::Plain, &text);
    commas([
        if at_rest || brief && *state == LinkState::Up { Cell::new() } else { link_state(*state) },
        if *state == LinkState::Up && !carrier { words(Tone::Bad, "no carrier") } else { Cell::new() },
        if *configured { Cell::new() } else { words(Tone::Warn, "not of the configuration") },
        kind.as_ref().filter(|_| !is_pair).map(|kind| plain(kind.clone())).unwrap_or_default(),
        end.unwrap_or_default(),
        if at_rest { Cell::new() } else { end_trouble(interface) },
        parent.as_ref().map(|parent| plain(format!("on {parent}"))).unwrap_or_default(),
        if isolated { words(Tone::Plain, "isolated") } else { Cell::new() },
        vlans(host_end.as_ref().and_then(|end| end.vlans.as_ref())),
        if on_host.is_empty() { Cell::new() } else { plain(format!("host has {}", on_host.join(" "))) },
        if *dhcp { words(Tone::Plain, "DHCP") } else { Cell::new() },
        mtu.filter(|_| !brief).map(|mtu| plain(format!("MTU {mtu}"))).unwrap_or_default(),
        mac.filter(|_| !brief).map(|mac| plain(mac.to_string())).unwrap_or_default(),
    ])
}

/// An address and what there is to know of it; of the configuration's own, only what is not as it should be.
pub(crate) fn address_row(address: &Address, at_rest: bool) -> Vec<Cell> {
    let Address { address, state, origin, deprecated, peer, scope: _, label } = address;
    let plain = |text: &str| words(Tone::Plain, text);
    let state = match state {
        AddressState::Usable => Cell::new(),
        AddressState::Tentative => words(Tone::Warn, "being checked for duplicates"),
        AddressState::Duplicate => words(Tone::Bad, "duplicate: somebody else has it"),
        AddressState::Absent if at_rest => Cell::new(),
        AddressState::Absent => words(Tone::Bad, "missing"),
        AddressState::Unknown => words(Tone::Faint, "not seen"),
    };
    let notes = commas([
        state,
        peer.map(|peer| plain(&format!("peer {peer}"))).unwrap_or_default(),
        if *deprecated { plain("deprecated") } else { Cell::new() },
        label.as_ref().map(|label| plain(&format!("label {label}"))).unwrap_or_default(),
        of_origin(*origin),
    ]);
    vec![word(Tone::Plain, &address.to_string()), notes]
}

fn of_origin(origin: Origin) -> Cell {
    match origin {
        Origin::Configuration => Cell::new(),
        Origin::Dhcp => words(Tone::Plain, "by DHCP"),
        Origin::RouterAdvertisement => words(Tone::Plain, "by router advertisement"),
        Origin::LinkLocal => words(Tone::Faint, "link-local"),
        Origin::Other => words(Tone::Plain, "of others"),
    }
}

fn route_row(route: &RouteEntry, at_rest: bool) -> Vec<Cell> {
    let text = route.route().to_string();
    // the gateway says which family it is of
    let text = if route.via.is_some() { text.replacen("IPv4 default", "default", 1).replacen("IPv6 default", "default", 1) } else { text };
    vec![words(Tone::Plain, &text), commas([presence(route.state, at_rest), of_origin(route.origin)])]
}

fn presence(presence: Presence, at_rest: bool) -> Cell {
    match presence {
        Presence::Present => Cell::new(),
        Presence::Absent if at_rest => Cell::new(),
        Presence::Absent => words(Tone::Bad, "missing"),
        Presence::Unknown => words(Tone::Faint, "not seen"),
    }
}
