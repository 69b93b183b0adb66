//! Gateways and routes: the kernel refuses one whose gateway is not on the link, and two to one place with one metric.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    entry::RouteTable,
    fault::Draft,
    fragment::{IpTable, Tables},
    interface::InterfaceTable,
    read::List,
    text::{Placed, Spot, listed, quoted},
    validate::by_netns,
    value::{family, is_link_local},
};
use crate::model::{Address, MAIN_TABLE, Route, RouteKey, RouteType};

impl RouteTable {
    pub fn route(&self) -> Route {
        let Self { at: _, to, via, source, metric, on_link, kind, table, scope, mtu } = self;
        Route {
            via: via.as_ref().map(|via| via.value),
            source: source.as_ref().map(|source| source.value),
            metric: *metric,
            kind: *kind,
            table: *table,
            scope: *scope,
            mtu: *mtu,
            // without a gateway every route is on the link, and the kernel refuses to hear it twice (EINVAL)
            on_link: *on_link && via.is_some(),
            ..Route::new(*to)
        }
    }
}

pub(super) fn check(tables: &Tables, drafts: &mut Vec<Draft>) {
    // a tunnel has no gateways, which is said where it is read
    let inside = tables.interfaces.iter().filter(|table| table.tunnel().is_none());
    let inside = inside.map(|table| (&table.ip, table.pair().map(|pair| &pair.host_addresses)));
    for (ip, host) in inside.chain(tables.bridges.iter().map(|table| (&table.ip, None))) {
        one_gateway(ip, drafts);
        // where an address or route was refused, the gateway may be in what it would have covered
        let told = ip.addresses.complete && ip.routes.complete && host.is_none_or(|host| host.complete);
        reachable(ip, host.map_or(&[], |host| &host.items), told, drafts);
    }
    let loopbacks: BTreeMap<&str, _> = tables.namespaces.iter().map(|table| (table.name.as_str(), &table.loopback_addresses)).collect();
    for (name, interfaces) in by_netns(&tables.interfaces) {
        distinct(&format!("in namespace {}", quoted(name)), interfaces.iter().map(|t| &t.ip), drafts);
        if !tables.incomplete {
            sources(name, &interfaces, loopbacks.get(name).copied(), drafts);
        }
    }
    distinct("on the host", tables.bridges.iter().map(|t| &t.ip), drafts);
}

fn all(ip: &IpTable) -> impl Iterator<Item = &RouteTable> {
    ip.gateways.items.iter().chain(&ip.routes.items)
}

fn one_gateway(ip: &IpTable, drafts: &mut Vec<Draft>) {
    for v4 in [true, false] {
        let mut gateways = ip.gateways.items.iter().filter(|route| route.to.addr().is_ipv4() == v4);
        let Some(first) = gateways.next() else { continue };
        for second in gateways {
            drafts.push(
                Draft::new(second.at, format!("second {} gateway in {}", family(second.to.addr()), ip.link))
                    .other(first.at, "the first")
                    .allowed("at most one gateway for each family")
                    .help("write a spare one as a route: routes = [{ to = \"default\", via = \"192.0.2.2\", metric = 200 }]"),
            );
        }
    }
}

/// The networks that a link's addresses make its neighbours. An address without its prefix route makes none.
fn neighbours(ip: &IpTable) -> Vec<IpNet> {
    let addresses = ip.addresses.items.iter().map(|address| &address.value).filter(|address| !address.no_prefix_route);
    addresses.filter_map(|a| IpNet::new(a.peer.unwrap_or(a.address.addr()), a.address.prefix_len()).ok()).collect()
}

/// Tells whether a gateway is the host's end of a pair that no address covers: it is on the link, and the kernel has to be told.
/// Of link-local addresses it knows.
pub(super) fn is_host_end(ip: &IpTable, host: &[Placed<IpNet>], via: IpAddr) -> bool {
    let covered = || (via.is_ipv6() && is_link_local(via)) || neighbours(ip).iter().any(|net| net.contains(&via));
    host.iter().any(|address| address.value.addr() == via) && !covered()
}

fn reachable(ip: &IpTable, host: &[Placed<IpNet>], told: bool, drafts: &mut Vec<Draft>) {
    let nets = neighbours(ip);
    let own = |via: IpAddr| ip.addresses.items.iter().find(|address| address.value.address.addr() == via);
    for route in all(ip) {
        let Some(via) = &route.via else { continue };
        let gateway = via.value;
        if let Some(own) = own(gateway) {
            drafts.push(
                Draft::new(via.at, format!("gateway '{gateway}' is an address of {} itself", ip.link))
                    .other(own.at, "the address")
                    .help("name the router's address"),
            );
            continue;
        }
        // every link has fe80::/64 by itself
        if route.on_link || (gateway.is_ipv6() && is_link_local(gateway)) || is_host_end(ip, host, gateway) {
            continue;
        }
        if let Some(net) = nets.iter().find(|net| is_edge(**net, gateway)) {
            let message = format!("gateway '{gateway}' is the network or broadcast address of {}", net.trunc());
            drafts.push(Draft::new(via.at, message).allowed(format!("a host's address in {}", net.trunc())));
            continue;
        }
        // fib_check_nh looks into the route's own table, then does as for any packet
        let (table, other_table) = (route.route().key().0, |other: &RouteTable| other.route().key().0);
        let leads = |other: &RouteTable| other.via.is_none() && other.kind == RouteType::Unicast && other.to.contains(&gateway);
        let by_route = all(ip).any(|other| leads(other) && [table, MAIN_TABLE].contains(&other_table(other)));
        if told && !by_route && !nets.iter().any(|net| net.contains(&gateway)) {
            let same = |net: &&IpNet| family(net.addr()) == family(gateway);
            let nets: Vec<IpNet> = nets.iter().filter(same).map(IpNet::trunc).collect();
            let draft = Draft::new(via.at, format!("no address of {} covers gateway '{gateway}'", ip.link));
            let draft = if nets.is_empty() {
                draft.allowed(format!("a gateway in the network of one of its addresses; it has no {} network", family(gateway)))
            } else {
                draft.allowed(format!("a gateway in {}", listed(&nets)))
            };
            drafts.push(draft.help(format!("if it answers on this link all the same, write {{ via = \"{gateway}\", on-link = true }}")));
        }
    }
}

/// Tells whether the kernel takes an IPv4 address for the broadcast address of a network, new or old style.
fn is_edge(net: IpNet, ip: IpAddr) -> bool {
    ip.is_ipv4() && net.prefix_len() < 31 && net.contains(&ip) && (ip == net.network() || ip == net.broadcast())
}

/// Notes routes to one destination with one metric in one table: the kernel keeps one of them, or makes it a load balancer.
fn distinct<'t>(place: &str, tables: impl Iterator<Item = &'t IpTable>, drafts: &mut Vec<Draft>) {
    let mut first: HashMap<RouteKey, (Spot, usize)> = HashMap::new();
    for (link, table) in tables.enumerate() {
        let gateways = table.gateways.items.len();
        for (n, entry) in all(table).enumerate() {
            let route = entry.route();
            let key = route.key();
            let Some((other, other_link)) = first.get(&key) else {
                first.insert(key, (entry.at, link));
                continue;
            };
            // two in one `gateways` list are noted already
            if *other_link == link && n < gateways {
                continue;
            }
            let what =
                if route.is_default() { format!("{} default routes", family(route.to.addr())) } else { format!("routes to {}", route.to) };
            let table = if key.0 == MAIN_TABLE { String::new() } else { format!(" in table {}", key.0) };
            drafts.push(
                Draft::new(entry.at, format!("two {what} with metric {}{table} {place}", key.2))
                    .other(*other, "first here")
                    .help("give one a higher metric, so that it is the spare one, or leave it out"),
            );
        }
    }
}

fn sources(netns: &str, interfaces: &[&InterfaceTable], loopback: Option<&List<Placed<Address>>>, drafts: &mut Vec<Draft>) {
    let lists = || interfaces.iter().map(|table| &table.ip.addresses).chain(loopback);
    let complete = lists().all(|list| list.complete);
    let by_ra = interfaces.iter().any(|table| table.accept_ra.is_some());
    let own: Vec<IpAddr> = lists().flat_map(|list| &list.items).map(|address| address.value.address.addr()).collect();
    for source in interfaces.iter().flat_map(|table| all(&table.ip)).filter_map(|route| route.source.as_ref()) {
        let unknown = by_ra && source.value.is_ipv6();
        if complete && !unknown && !own.contains(&source.value) {
            let draft = Draft::new(source.at, format!("source '{}' is no address of namespace {}", source.value, quoted(netns)));
            let same: Vec<&IpAddr> = own.iter().filter(|ip| family(**ip) == family(source.value)).collect();
            let draft = if same.is_empty() { draft } else { draft.allowed(listed(&same)) };
            let by_dhcp = interfaces.iter().any(|table| table.has_dhcp(source.value.is_ipv4()));
            drafts.push(if by_dhcp { draft.help("one that DHCP gives is not there yet when the routes are made") } else { draft });
        }
    }
}
