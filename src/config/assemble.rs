//! Checked tables to the [`Config`] that everything else works with.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    Bridge, Config, Namespace, Uplink,
    entry::{RouteTable, UplinkTable},
    fragment::{BridgeTable, IpTable, NamespaceTable, Tables},
    interface::{HostName, InterfaceTable, KindTable, PairTable},
    links::derived_host_name,
    routes::is_host_end,
    sysctl::{NO_IPV6, Parameter},
    text::{Placed, Text},
};
use crate::model::{HostEnd, Kind, Link, LinkName, NetnsName, Route, RouteType};

/// Puts the tables together; there was no fault, so every name in them is good.
pub(super) fn config(tables: Tables, texts: &[Text]) -> Config {
    let mut config = Config::default();
    let Tables { namespaces, interfaces, bridges, incomplete: _ } = tables;
    for table in namespaces {
        let NamespaceTable { name, at, description, services, dns, has_dns: _, dns_search, dns_options, .. } = table;
        let NamespaceTable { no_ipv6, sysctl, nftables, loopback_addresses, rules, .. } = table;
        let Ok(name) = NetnsName::parse(&name) else { continue };
        let namespace = config.namespaces.entry(name).or_default();
        namespace.description = description;
        namespace.services = values(services);
        namespace.dns = values(dns);
        namespace.dns_search = values(dns_search);
        namespace.dns_options = values(dns_options);
        namespace.nftables = nftables;
        let netns = &mut namespace.netns;
        netns.source = texts[at.file].origin(at);
        netns.sysctl = sysctl.into_iter().map(|Parameter { key, value }| (key.value, value)).collect();
        netns.sysctl.extend(NO_IPV6.iter().filter(|_| no_ipv6.is_some()).map(|key| ((*key).to_owned(), "1".to_owned())));
        netns.loopback_addresses = values(loopback_addresses.items);
        netns.rules = rules.iter().flat_map(|table| table.rules(no_ipv6.is_none())).cloned().collect();
    }
    for table in interfaces {
        let (Ok(netns), Ok(name)) = (NetnsName::parse(&table.netns), LinkName::parse_ours(&table.name)) else { continue };
        let namespace: &mut Namespace = config.namespaces.entry(netns).or_default();
        if namespace.netns.source.is_empty() {
            namespace.netns.source = texts[table.at.file].origin(table.at);
        }
        namespace.netns.places.insert(name.clone(), texts[table.at.file].origin(table.at));
        namespace.dhcp.extend(table.dhcp.as_ref().map(|dhcp| (name.clone(), dhcp.value)));
        if let Some((link, refusing)) = link(table) {
            namespace.netns.links.insert(name, link);
            namespace.netns.routes.extend(refusing);
        }
    }
    for table in bridges {
        let BridgeTable { name, at, uplinks, ip, dns, mac, stp, vlan_filtering, default_pvid } = table;
        let Ok(name) = LinkName::parse_ours(&name) else { continue };
        let bridge = Bridge {
            source: texts[at.file].origin(at),
            uplinks: uplinks.into_iter().map(uplink).collect(),
            routes: routes(&ip, &[]),
            addresses: ip.addresses.items.into_iter().map(|address| address.value.address).collect(),
            dns: values(dns),
            mac: mac.map(|mac| mac.value),
            mtu: ip.mtu.map(|mtu| mtu.value),
            stp,
            vlan_filtering,
            default_pvid: default_pvid.and_then(|id| u16::try_from(id.value).ok()),
        };
        config.bridges.insert(name, bridge);
    }
    config
}

/// Gives the link, and the routes that its table has but that are no link's.
fn link(table: InterfaceTable) -> Option<(Link, Vec<Route>)> {
    let derived = derived_host_name(&table);
    let routes = routes(&table.ip, table.host_addresses());
    let (routes, refusing) = routes.into_iter().partition(|route| route.kind == RouteType::Unicast);
    let InterfaceTable { netns: _, name: _, at: _, kind, mac, ip, dad, accept_ra, dhcp: _, announce, if_whole: _ } = table;
    let parent = |parent: Option<Placed<LinkName>>| parent.map(|parent| parent.value);
    let kind = match kind? {
        KindTable::Veth(pair) => Kind::Veth(host_end(*pair, derived)?),
        KindTable::Macvlan(on) => Kind::Macvlan { parent: parent(on)? },
        KindTable::Ipvlan(on) => Kind::Ipvlan { parent: parent(on)? },
        KindTable::Physical(on) => Kind::Physical { parent: parent(on)? },
        KindTable::Dummy => Kind::Dummy,
        KindTable::Wireguard(tunnel) => Kind::Wireguard(tunnel.finish()?),
    };
    let link = Link {
        up: true,
        mac: mac.map(|mac| mac.value),
        mtu: ip.mtu.map(|mtu| mtu.value),
        dad,
        accept_ra: accept_ra.is_some(),
        announce,
        addresses: values(ip.addresses.items),
        routes,
        kind,
    };
    Some((link, refusing))
}

fn host_end(pair: PairTable, derived: Option<LinkName>) -> Option<HostEnd> {
    let PairTable { bridge, host_name, host_mac, host_addresses, port, vlans: _ } = pair;
    Some(HostEnd {
        name: match host_name {
            HostName::Given(name) => name.value,
            HostName::Refused | HostName::Derived => derived?,
        },
        mac: host_mac.map(|mac| mac.value),
        bridge: bridge.map(|bridge| bridge.value),
        addresses: values(host_addresses.items),
        // what the host needs is seen with the addresses inside
        routes: BTreeSet::new(),
        port,
    })
}

fn uplink(table: UplinkTable) -> Uplink {
    let UplinkTable { at: _, name, vlan } = table;
    match vlan {
        Some((parent, id)) => Uplink::Vlan { name, parent, id },
        None => Uplink::Link(name),
    }
}

/// Gateways first, then routes, each in the order given.
fn routes(ip: &IpTable, host: &[Placed<IpNet>]) -> Vec<Route> {
    let mut routes: Vec<Route> = ip.gateways.items.iter().chain(&ip.routes.items).map(RouteTable::route).collect();
    for route in &mut routes {
        route.on_link |= route.via.is_some_and(|via| is_host_end(ip, host, via));
    }
    routes
}

fn values<T, C: FromIterator<T>>(placed: Vec<Placed<T>>) -> C {
    placed.into_iter().map(|placed| placed.value).collect()
}
