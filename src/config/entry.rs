//! The entries of lists that may be tables: addresses, gateways, routes, uplinks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    fault::Draft,
    keys,
    read::{Reader, Table, Value},
    text::{Placed, Spot},
    value::{self, Destination, IPV6_MTU, Refusal, family},
};
use crate::model::{Address, LinkName, MAIN_TABLE, RouteType, Scope};

/// A gateway or route.
#[derive(Debug, Clone)]
pub(super) struct RouteTable {
    pub at: Spot,
    pub to: IpNet,
    pub via: Option<Placed<IpAddr>>,
    pub source: Option<Placed<IpAddr>>,
    pub metric: Option<u32>,
    pub on_link: bool,
    pub kind: RouteType,
    pub table: Option<u32>,
    pub scope: Option<Scope>,
    pub mtu: Option<u32>,
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
pub(super) const TYPES: [(&str, RouteType); 4] = [
    ("unicast", RouteType::Unicast),
    ("blackhole", RouteType::Blackhole),
    ("unreachable", RouteType::Unreachable),
    ("prohibit", RouteType::Prohibit),
];
/// The routing tables that have names without a file that gives them: the kernel's `RT_TABLE_MAIN` and its neighbours.
const TABLES: [(&str, u32); 3] = [("main", MAIN_TABLE), ("default", 253), ("local", 255)];
/// The largest MTU that a route keeps: `ip_metrics_convert` in the kernel cuts what is over it.
const ROUTE_MTU: u32 = 65520;

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

/// The interface that has the `loopback-addresses`.
pub(super) const LOOPBACK: &str = "lo";

/// Reads an address; `interface` is none on the host, where addresses are networkd's and have no table form.
pub(super) fn address(reader: &mut Reader<'_>, interface: Option<&str>, entry: Value<'_, '_>) -> Option<Placed<Address>> {
    let parse = if interface == Some(LOOPBACK) { value::loopback_address } else { value::link_address };
    let Some(interface) = interface.filter(|_| entry.is_table()) else {
        let net = reader.parse(entry, |text| parse(text, false))?;
        return Some(Placed { value: Address::new(net.value), at: net.at });
    };
    let faults = reader.drafts.len();
    let list = if interface == LOOPBACK { "loopback-addresses" } else { "addresses" };
    let table = reader.table(entry, format!("an entry of '{list}'"), &keys::ADDRESS_ENTRY)?;
    let peer = table.get("peer").and_then(|v| reader.parse(v, |text| value::host("peer", text)));
    let parse = if interface == LOOPBACK { value::loopback_address } else { value::link_address };
    let address = required(reader, entry, &table, "address").and_then(|v| reader.parse(v, |text| parse(text, table.get("peer").is_some())));
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
        let bare = RouteTable::new(via.at, everywhere(via.value));
        return Some(RouteTable { via: Some(via), ..bare });
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
    let route = RouteTable {
        at: to.at,
        to: net,
        via: via.flatten(),
        kind: table.get("type").and_then(|v| reader.choice(v, &TYPES)).unwrap_or_default(),
        table: table.get("table").and_then(|v| routing_table(reader, v)),
        scope: table.get("scope").and_then(|v| reader.choice(v, &SCOPES)),
        mtu: table.get("mtu").and_then(|v| reader.number(v, 68, ROUTE_MTU)).map(|mtu| mtu.value),
        ..rest
    };
    one_family(reader, &route);
    fits_its_type(reader, &table, &route);
    (reader.drafts.len() == faults).then_some(route)
}

/// Reads what gateways and routes have in common; destination and gateway are still to be filled in.
/// Notes keys that a route of this type or family does not have.
fn fits_its_type(reader: &mut Reader<'_>, table: &Table<'_, '_>, route: &RouteTable) {
    if route.kind != RouteType::Unicast {
        for key in ["via", "source", "on-link", "scope", "mtu"] {
            let Some(at) = table.key(key) else { continue };
            let message = format!("'{key}' is for routes that send packets on, this one has the type '{}'", route.kind.as_str());
            reader.note(Draft::new(at, message).other(route.at, "the route").help("leave it out"));
        }
        return;
    }
    if let Some(scope) = table.get("scope") {
        if route.to.addr().is_ipv6() {
            reader.note(
                Draft::new(scope.at, "'scope' is for IPv4 routes, this one is IPv6").other(route.at, "the route").help("leave it out"),
            );
        } else if let (Some(Scope::Link | Scope::Host), Some(via)) = (route.scope, &route.via) {
            // fib_check_nh: what is behind a gateway is farther than the link
            let draft = Draft::new(scope.at, "a route by a gateway has the scope \"global\"");
            reader.note(draft.other(via.at, "the gateway").help("leave one of the two out"));
        }
    }
    if let Some(mtu) = table.get("mtu")
        && route.to.addr().is_ipv6()
        && route.mtu.is_some_and(|mtu| mtu < IPV6_MTU)
    {
        let draft = Draft::new(mtu.at, "the MTU of an IPv6 route is too small").other(route.at, "the route");
        reader.note(draft.allowed(format!("{IPV6_MTU} to {ROUTE_MTU}")));
    }
}

/// Reads the number or name of a routing table.
pub(super) fn routing_table(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<u32> {
    reader.number_or_word(value, (1, u32::MAX), &TABLES).map(|table| table.value)
}

impl RouteTable {
    fn new(at: Spot, to: IpNet) -> Self {
        let kind = RouteType::Unicast;
        Self { at, to, via: None, source: None, metric: None, on_link: false, kind, table: None, scope: None, mtu: None }
    }
}

fn next_hop(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> RouteTable {
    RouteTable {
        source: table.get("source").and_then(|v| reader.parse(v, |text| value::host("source", text))),
        metric: table.get("metric").and_then(|v| reader.number(v, 0, u32::MAX)).map(|m| m.value),
        on_link: table.get("on-link").and_then(|v| reader.boolean(v)).unwrap_or(false),
        ..RouteTable::new(table.at, IpNet::default())
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
pub(super) fn required<'t, 'i>(
    reader: &mut Reader<'_>,
    entry: Value<'t, 'i>,
    table: &'t Table<'t, 'i>,
    key: &'t str,
) -> Option<Value<'t, 'i>> {
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
