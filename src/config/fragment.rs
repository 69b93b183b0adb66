//! One fragment: TOML text to tables whose keys, types and values are checked each for itself.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeTable;

use super::{
    fault::Draft,
    keys,
    read::{List, Reader, Table, Value},
    syntax,
    text::{Placed, Spot, Text, quoted},
    value::{self, Destination, Refusal},
};
use crate::model::{Address, Dad, LinkName, Mac, NetnsName, Scope, UnitName};

/// The tables of all fragments. A table whose name is refused is here all the same, so that the rest of it gets checked.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub namespaces: Vec<NamespaceTable>,
    pub interfaces: Vec<InterfaceTable>,
    pub bridges: Vec<BridgeTable>,
    /// Some fragment could not be read: what is missing may be in it.
    pub incomplete: bool,
}

/// `[namespace.NAME]`
#[derive(Debug)]
pub(super) struct NamespaceTable {
    pub name: String,
    pub at: Spot,
    pub description: Option<String>,
    pub services: Vec<Placed<UnitName>>,
    pub dns: Vec<Placed<IpAddr>>,
    pub dns_search: Vec<Placed<String>>,
    pub dns_options: Vec<Placed<String>>,
}

/// `[namespace.NETNS.interface.NAME]`
#[derive(Debug)]
pub(super) struct InterfaceTable {
    pub netns: String,
    pub name: String,
    pub at: Spot,
    pub bridge: Option<Placed<LinkName>>,
    pub host_name: Option<Placed<LinkName>>,
    /// A host-name is given but refused, so none must be derived.
    pub host_name_refused: bool,
    pub mac: Option<Placed<Mac>>,
    pub host_mac: Option<Placed<Mac>>,
    pub ip: IpTable,
    pub dad: Dad,
    pub accept_ra: bool,
    pub announce: bool,
}

/// `[bridge.NAME]`
#[derive(Debug)]
pub(super) struct BridgeTable {
    pub name: String,
    pub at: Spot,
    pub uplinks: Vec<UplinkTable>,
    pub ip: IpTable,
    pub dns: Vec<Placed<IpAddr>>,
    pub mac: Option<Placed<Mac>>,
    pub stp: Option<bool>,
}

/// What interfaces and bridges have in common.
#[derive(Debug, Default)]
pub(super) struct IpTable {
    pub addresses: List<Placed<Address>>,
    pub gateways: List<RouteTable>,
    pub routes: List<RouteTable>,
    pub mtu: Option<Placed<u32>>,
}

/// A gateway or route.
#[derive(Debug, Clone)]
pub(super) struct RouteTable {
    pub at: Spot,
    pub to: IpNet,
    pub via: Option<Placed<IpAddr>>,
    pub source: Option<Placed<IpAddr>>,
    pub metric: Option<u32>,
    pub on_link: bool,
}

/// An entry of `uplinks`: a link, or a VLAN on one.
#[derive(Debug, Clone)]
pub(super) struct UplinkTable {
    pub at: Spot,
    /// The link that joins the bridge.
    pub name: LinkName,
    pub vlan: Option<(LinkName, u16)>,
}

/// Reads a fragment and adds its tables and faults.
pub(super) fn read(file: usize, text: &Text, tables: &mut Tables, drafts: &mut Vec<Draft>) {
    let (root, errors) = DeTable::parse_recoverable(text.as_str());
    let mut own = Tables::default();
    let mut found = Vec::new();
    read_root(&mut Reader { file, drafts: &mut found }, root.get_ref(), text, &mut own);
    if errors.is_empty() {
        drafts.append(&mut found);
        tables.namespaces.append(&mut own.namespaces);
        tables.interfaces.append(&mut own.interfaces);
        tables.bridges.append(&mut own.bridges);
        return;
    }
    // what the parser makes of the lines from a syntax error on is guesswork, so say nothing about them
    tables.incomplete = true;
    let mut syntax = syntax::drafts(file, text, root.get_ref(), &errors);
    let first = syntax.iter().map(|draft| text.line(draft.at.start)).min().unwrap_or(0);
    found.retain(|draft| !draft.missing && text.line(draft.at.start) < first);
    drafts.append(&mut found);
    drafts.append(&mut syntax);
}

fn read_root(reader: &mut Reader<'_>, root: &DeTable<'_>, text: &Text, tables: &mut Tables) {
    let root = reader.root(root, &keys::FRAGMENT);
    if let Some(names) = root.get("namespace").and_then(|value| reader.names(value)) {
        for (name, at, value) in names.named() {
            let table = format!("[namespace.{}]", key(name));
            check_name(reader, at, "namespace", NetnsName::parse(name).map(drop));
            if let Some(table) = reader.named_table((at, value), table, &keys::NAMESPACE) {
                read_namespace(reader, name, &table, text, tables);
            }
        }
    }
    if let Some(names) = root.get("bridge").and_then(|value| reader.names(value)) {
        for (name, at, value) in names.named() {
            check_name(reader, at, "bridge", LinkName::parse_ours(name).map(drop));
            if let Some(table) = reader.named_table((at, value), format!("[bridge.{}]", key(name)), &keys::BRIDGE) {
                let bridge = read_bridge(reader, name, &table);
                tables.bridges.push(bridge);
            }
        }
    }
}

fn check_name<E: std::fmt::Display>(reader: &mut Reader<'_>, at: Spot, what: &str, result: Result<(), E>) {
    if let Err(e) = result {
        let allowed = if what == "namespace" { "1 to 15 letters, digits, '.', '_' and '-'" } else { keys::INTERFACE.form("host-name") };
        reader.note(Draft::new(at, format!("invalid {what} name: {e}")).allowed(allowed));
    }
}

/// Writes a name as it would stand in a table's header.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare && name.len() <= 60 { name.to_owned() } else { quoted(name).replace('\'', "\"") }
}

fn read_namespace(reader: &mut Reader<'_>, name: &str, table: &Table<'_, '_>, text: &Text, tables: &mut Tables) {
    // [namespace.mail.interface.eth0] alone implies [namespace.mail], which may stand in another file
    let own_line = text.as_str()[table.at.start..].starts_with(['[', '{']);
    if own_line || table.has_besides("interface") {
        let description = table.get("description").and_then(|v| reader.parse(v, |t| value::line("description", t)));
        tables.namespaces.push(NamespaceTable {
            name: name.to_owned(),
            at: table.at,
            description: description.map(|d| d.value),
            services: reader.list(table.get("services"), |r, v| r.name(v, "unit", UnitName::parse)).items,
            dns: reader.list(table.get("dns"), |r, v| r.parse(v, value::resolver)).items,
            dns_search: reader.list(table.get("dns-search"), |r, v| r.parse(v, value::domain)).items,
            dns_options: reader.list(table.get("dns-options"), |r, v| r.parse(v, value::resolver_option)).items,
        });
    }
    let Some(names) = table.get("interface").and_then(|value| reader.names(value)) else { return };
    for (interface, at, value) in names.named() {
        check_name(reader, at, "interface", LinkName::parse_ours(interface).map(drop));
        let title = format!("[namespace.{}.interface.{}]", key(name), key(interface));
        if let Some(table) = reader.named_table((at, value), title, &keys::INTERFACE) {
            let interface = read_interface(reader, name, interface, &table);
            tables.interfaces.push(interface);
        }
    }
}

fn read_interface(reader: &mut Reader<'_>, netns: &str, name: &str, table: &Table<'_, '_>) -> InterfaceTable {
    let is_veth = table.get("kind").is_none_or(|value| read_kind(reader, value));
    let bridge = table.get("bridge").map(|v| reader.name(v, "bridge name", LinkName::parse));
    if bridge.is_none() && is_veth {
        let message = format!("interface '{}' has no 'bridge'", super::text::visible(name));
        reader.note(
            Draft::new(table.at, message)
                .allowed(keys::INTERFACE.form("bridge"))
                .help("name the bridge it joins; without one it is point-to-point, which this version does not support yet")
                .missing(),
        );
    }
    let host_name = table.get("host-name").map(|v| reader.name(v, "host-name", LinkName::parse_ours));
    InterfaceTable {
        netns: netns.to_owned(),
        name: name.to_owned(),
        at: table.at,
        bridge: bridge.flatten(),
        host_name_refused: matches!(host_name, Some(None)),
        host_name: host_name.flatten(),
        mac: read_mac(reader, table, "mac"),
        host_mac: read_mac(reader, table, "host-mac"),
        ip: read_ip(reader, Some(name), table),
        dad: table.get("dad").and_then(|v| reader.choice(v, &DADS)).unwrap_or_default(),
        accept_ra: table.get("accept-ra").and_then(|v| reader.boolean(v)).unwrap_or(false),
        announce: table.get("announce").and_then(|v| reader.boolean(v)).unwrap_or(true),
    }
}

const DADS: [(&str, Dad); 4] = [("wait", Dad::Wait), ("rfc", Dad::Rfc), ("optimistic", Dad::Optimistic), ("off", Dad::Off)];
const SCOPES: [(&str, Scope); 3] = [("global", Scope::Global), ("link", Scope::Link), ("host", Scope::Host)];

/// Tells whether an interface is of the one kind that there is yet.
fn read_kind(reader: &mut Reader<'_>, value: Value<'_, '_>) -> bool {
    match reader.string(value) {
        Some(kind) if keys::LATER_KINDS.contains(&kind) => {
            let message = format!("interface kind '{kind}' is not supported by this version of netns-networkd");
            reader.refuse(value, Refusal { message, allowed: None, help: None });
            false
        }
        Some(_) => reader.choice(value, &[("veth", ())]).is_some(),
        None => false,
    }
}

fn read_bridge(reader: &mut Reader<'_>, name: &str, table: &Table<'_, '_>) -> BridgeTable {
    BridgeTable {
        name: name.to_owned(),
        at: table.at,
        uplinks: reader.list(table.get("uplinks"), read_uplink).items,
        ip: read_ip(reader, None, table),
        dns: reader.list(table.get("dns"), |r, v| r.parse(v, value::resolver)).items,
        mac: read_mac(reader, table, "mac"),
        stp: table.get("stp").and_then(|v| reader.boolean(v)),
    }
}

fn read_uplink(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<UplinkTable> {
    if !entry.is_table() {
        let name = reader.name(entry, "uplink name", LinkName::parse)?;
        return Some(UplinkTable { at: name.at, name: name.value, vlan: None });
    }
    let table = reader.table(entry, "an entry of 'uplinks'".to_owned(), &keys::UPLINK_ENTRY)?;
    let id = required(reader, entry, &table, "vlan").map(|v| reader.number(v, 1, 4094));
    let parent = required(reader, entry, &table, "parent").map(|v| reader.name(v, "link name", LinkName::parse));
    let (id, parent) = (id??, parent??);
    let name = format!("{}.{}", parent.value, id.value);
    match LinkName::parse(&name) {
        Ok(name) => {
            let id = u16::try_from(id.value).unwrap_or(0);
            Some(UplinkTable { at: entry.at, name, vlan: Some((parent.value, id)) })
        }
        Err(_) => {
            let message = format!("VLAN link '{name}' would have {} bytes in its name", name.len());
            let help = "give the parent a shorter name (systemd.link(5)), or make the VLAN by hand and name it as an uplink";
            reader.note(Draft::new(parent.at, message).allowed("at most 15 bytes for PARENT.VLAN").help(help));
            None
        }
    }
}

fn read_mac(reader: &mut Reader<'_>, table: &Table<'_, '_>, key: &str) -> Option<Placed<Mac>> {
    table.get(key).and_then(|v| reader.name(v, "MAC address", str::parse::<Mac>))
}

fn read_ip(reader: &mut Reader<'_>, interface: Option<&str>, table: &Table<'_, '_>) -> IpTable {
    IpTable {
        addresses: reader.list(table.get("addresses"), |r, v| read_address(r, interface, v)),
        gateways: reader.list(table.get("gateways"), read_gateway),
        routes: reader.list(table.get("routes"), read_route),
        mtu: table.get("mtu").and_then(|v| reader.number(v, 68, 65535)),
    }
}

/// Reads an address; `interface` is none on a bridge, whose addresses are networkd's and have no table form yet.
fn read_address(reader: &mut Reader<'_>, interface: Option<&str>, entry: Value<'_, '_>) -> Option<Placed<Address>> {
    let Some(interface) = interface.filter(|_| entry.is_table()) else {
        let net = reader.parse(entry, |text| value::link_address(text, false))?;
        return Some(Placed { value: Address::new(net.value), at: net.at });
    };
    let table = reader.table(entry, "an entry of 'addresses'".to_owned(), &keys::ADDRESS_ENTRY)?;
    let faults = reader.drafts.len();
    let peer = table.get("peer").and_then(|v| reader.parse(v, |text| value::host("peer", text)));
    let address = required(reader, entry, &table, "address")
        .and_then(|v| reader.parse(v, |text| value::link_address(text, table.get("peer").is_some())));
    let scope = table.get("scope").and_then(|v| reader.choice(v, &SCOPES));
    let label = table.get("label").and_then(|v| reader.parse(v, |text| value::label(interface, text)));
    let deprecated = table.get("deprecated").and_then(|v| reader.boolean(v)).unwrap_or(false);
    let no_prefix_route = table.get("no-prefix-route").and_then(|v| reader.boolean(v)).unwrap_or(false);

    let address = address?;
    if let Some(peer) = peer.as_ref().filter(|peer| peer.value.is_ipv4() != address.value.addr().is_ipv4()) {
        reader.note(
            Draft::new(peer.at, format!("peer '{}' is of another family than its address", peer.value)).other(address.at, "the address"),
        );
    }
    for only in ["scope", "label"] {
        if let Some(value) = table.get(only).filter(|_| address.value.addr().is_ipv6()) {
            let message = format!("'{only}' is for IPv4 addresses, this one is IPv6");
            reader.note(Draft::new(value.at, message).other(address.at, "the address").help("leave it out"));
        }
    }
    (reader.drafts.len() == faults).then(|| Placed {
        value: Address {
            address: address.value,
            peer: peer.map(|p| p.value),
            scope,
            label: label.map(|l| l.value),
            deprecated,
            no_prefix_route,
        },
        at: address.at,
    })
}

fn read_gateway(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<RouteTable> {
    if !entry.is_table() {
        let via = reader.parse(entry, |text| value::host("gateway", text))?;
        let to = everywhere(via.value);
        return Some(RouteTable { at: via.at, to, via: Some(via), source: None, metric: None, on_link: false });
    }
    let table = reader.table(entry, "an entry of 'gateways'".to_owned(), &keys::GATEWAY_ENTRY)?;
    let faults = reader.drafts.len();
    let via = required(reader, entry, &table, "via").and_then(|v| reader.parse(v, |text| value::host("gateway", text)));
    let rest = read_next_hop(reader, &table);
    let via = via?;
    let route = RouteTable { at: via.at, to: everywhere(via.value), via: Some(via), ..rest };
    one_family(reader, &route);
    (reader.drafts.len() == faults).then_some(route)
}

fn read_route(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<RouteTable> {
    if !entry.is_table() {
        reader.refuse(
            entry,
            Refusal {
                message: format!("{} takes tables", entry.what()),
                allowed: None,
                help: Some("write { to = \"198.51.100.0/24\", via = \"192.0.2.254\" } for each route".to_owned()),
            },
        );
        return None;
    }
    let table = reader.table(entry, "an entry of 'routes'".to_owned(), &keys::ROUTE_ENTRY)?;
    let faults = reader.drafts.len();
    let to = required(reader, entry, &table, "to").and_then(|v| reader.parse(v, value::destination));
    let via = table.get("via").map(|v| reader.parse(v, |text| value::host("gateway", text)));
    let rest = read_next_hop(reader, &table);
    let to = to?;
    let net = match (to.value, &via) {
        (Destination::Net(net), _) => net,
        (Destination::Default, Some(Some(via))) => everywhere(via.value),
        (Destination::Default, Some(None)) => return None,
        (Destination::Default, None) => {
            let draft = Draft::new(to.at, "'default' without 'via' may be IPv4 or IPv6").allowed(keys::ROUTE_ENTRY.form("to"));
            reader.note(draft.help("write \"0.0.0.0/0\" or \"::/0\""));
            return None;
        }
    };
    let route = RouteTable { at: to.at, to: net, via: via.flatten(), ..rest };
    one_family(reader, &route);
    (reader.drafts.len() == faults).then_some(route)
}

/// Reads what gateways and routes have in common; destination and gateway are still to be filled in.
fn read_next_hop(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> RouteTable {
    RouteTable {
        at: table.at,
        to: IpNet::default(),
        via: None,
        source: table.get("source").and_then(|v| reader.parse(v, |text| value::host("source", text))),
        metric: table.get("metric").and_then(|v| reader.number(v, 0, u32::MAX)).map(|m| m.value),
        on_link: table.get("on-link").and_then(|v| reader.boolean(v)).unwrap_or(false),
    }
}

fn one_family(reader: &mut Reader<'_>, route: &RouteTable) {
    let RouteTable { at, to, via, source, .. } = route;
    for (what, ip) in [("gateway", via), ("source", source)] {
        let Some(ip) = ip.as_ref().filter(|ip| ip.value.is_ipv4() != to.addr().is_ipv4()) else { continue };
        let draft = Draft::new(ip.at, format!("{what} '{}' is {}, the route is {}", ip.value, family(ip.value), family(to.addr())));
        reader.note(draft.other(*at, "the route").allowed(format!("an {} address", family(to.addr()))));
    }
}

/// Gets a key that must be there.
fn required<'t, 'i>(reader: &mut Reader<'_>, entry: Value<'t, 'i>, table: &'t Table<'t, 'i>, key: &'t str) -> Option<Value<'t, 'i>> {
    let value = table.get(key);
    if value.is_none() {
        let draft = Draft::new(entry.at, format!("an entry of {} has no '{key}'", entry.what())).help(format!("add '{key}'"));
        reader.note(draft.missing());
    }
    value
}

/// Names the family of an address.
pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn everywhere(via: IpAddr) -> IpNet {
    match via {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}
