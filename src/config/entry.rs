//! The entries of lists that may be tables: addresses, gateways, routes, uplinks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    fault::Draft,
    keys,
    read::{Reader, Table, Value},
    text::{Placed, Spot},
    value::{self, Destination, Refusal, family},
};
use crate::model::{Address, LinkName, Scope};

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
const SCOPES: [(&str, Scope); 3] = [("global", Scope::Global), ("link", Scope::Link), ("host", Scope::Host)];

pub(super) fn uplink(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<UplinkTable> {
    if !entry.is_table() {
        let name = reader.name(entry, "uplink name", LinkName::parse)?;
        return Some(UplinkTable { at: name.at, name: name.value, vlan: None });
    }
    let table = reader.table(entry, "an entry of 'uplinks'".to_owned(), &keys::UPLINK_ENTRY)?;
    let id = required(reader, entry, &table, "vlan").map(|v| reader.number(v, 1, 4094));
    let parent = required(reader, entry, &table, "parent").map(|v| reader.name(v, "link name", LinkName::parse));
    let (id, parent) = (id??, parent??);
    let name = format!("{}.{}", parent.value, id.value);
    let Ok(name) = LinkName::parse(&name) else {
        let message = format!("VLAN link '{name}' would have {} bytes in its name", name.len());
        let help = "give the parent a shorter name (systemd.link(5)), or make the VLAN by hand and name it as an uplink";
        reader.note(Draft::new(parent.at, message).allowed("at most 15 bytes for PARENT.VLAN").help(help));
        return None;
    };
    let id = u16::try_from(id.value).unwrap_or(0);
    Some(UplinkTable { at: entry.at, name, vlan: Some((parent.value, id)) })
}
/// Reads an address; `interface` is none on a bridge, whose addresses are networkd's and have no table form yet.
pub(super) fn address(reader: &mut Reader<'_>, interface: Option<&str>, entry: Value<'_, '_>) -> Option<Placed<Address>> {
    let Some(interface) = interface.filter(|_| entry.is_table()) else {
        let net = reader.parse(entry, |text| value::link_address(text, false))?;
        return Some(Placed { value: Address::new(net.value), at: net.at });
    };
    let faults = reader.drafts.len();
    let table = reader.table(entry, "an entry of 'addresses'".to_owned(), &keys::ADDRESS_ENTRY)?;
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

pub(super) fn gateway(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<RouteTable> {
    if !entry.is_table() {
        let via = reader.parse(entry, |text| value::host("gateway", text))?;
        let to = everywhere(via.value);
        return Some(RouteTable { at: via.at, to, via: Some(via), source: None, metric: None, on_link: false });
    }
    let faults = reader.drafts.len();
    let table = reader.table(entry, "an entry of 'gateways'".to_owned(), &keys::GATEWAY_ENTRY)?;
    let via = required(reader, entry, &table, "via").and_then(|v| reader.parse(v, |text| value::host("gateway", text)));
    let rest = next_hop(reader, &table);
    let via = via?;
    let route = RouteTable { at: via.at, to: everywhere(via.value), via: Some(via), ..rest };
    one_family(reader, &route);
    (reader.drafts.len() == faults).then_some(route)
}

pub(super) fn route(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<RouteTable> {
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
    let faults = reader.drafts.len();
    let table = reader.table(entry, "an entry of 'routes'".to_owned(), &keys::ROUTE_ENTRY)?;
    let to = required(reader, entry, &table, "to").and_then(|v| reader.parse(v, value::destination));
    let via = table.get("via").map(|v| reader.parse(v, |text| value::host("gateway", text)));
    let rest = next_hop(reader, &table);
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
fn next_hop(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> RouteTable {
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
    if value.is_none() && !table.misspells(key) {
        let draft = Draft::new(entry.at, format!("{} has no '{key}'", entry.what())).help(format!("add '{key}'"));
        reader.note(draft.missing());
    }
    value
}
fn everywhere(via: IpAddr) -> IpNet {
    match via {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}
