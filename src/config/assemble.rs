//! Checked tables to the [`Config`] that everything else works with.

use super::{
    Bridge, Config, Namespace, Uplink,
    entry::{RouteTable, UplinkTable},
    fragment::{BridgeTable, HostName, InterfaceTable, IpTable, NamespaceTable, Tables},
    text::{Placed, Text},
    validate::derived_host_name,
};
use crate::model::{HostEnd, Kind, Link, LinkName, NetnsName, Route};

/// Puts the tables together; there was no fault, so every name in them is good.
pub(super) fn config(tables: Tables, texts: &[Text]) -> Config {
    let mut config = Config::default();
    let Tables { namespaces, interfaces, bridges, incomplete: _ } = tables;
    for table in namespaces {
        let NamespaceTable { name, at, description, services, dns, has_dns: _, dns_search, dns_options } = table;
        let Ok(name) = NetnsName::parse(&name) else { continue };
        let namespace = config.namespaces.entry(name).or_default();
        namespace.description = description;
        namespace.services = values(services);
        namespace.dns = values(dns);
        namespace.dns_search = values(dns_search);
        namespace.dns_options = values(dns_options);
        namespace.netns.source = texts[at.file].origin(at);
    }
    for table in interfaces {
        let (Ok(netns), Ok(name)) = (NetnsName::parse(&table.netns), LinkName::parse_ours(&table.name)) else { continue };
        let namespace: &mut Namespace = config.namespaces.entry(netns).or_default();
        if namespace.netns.source.is_empty() {
            namespace.netns.source = texts[table.at.file].origin(table.at);
        }
        if let Some(link) = link(table) {
            namespace.netns.links.insert(name, link);
        }
    }
    for table in bridges {
        let BridgeTable { name, at, uplinks, ip, dns, mac, stp } = table;
        let Ok(name) = LinkName::parse_ours(&name) else { continue };
        let bridge = Bridge {
            source: texts[at.file].origin(at),
            uplinks: uplinks.into_iter().map(uplink).collect(),
            routes: routes(&ip),
            addresses: ip.addresses.items.into_iter().map(|address| address.value.address).collect(),
            dns: values(dns),
            mac: mac.map(|mac| mac.value),
            mtu: ip.mtu.map(|mtu| mtu.value),
            stp,
            ..Bridge::default()
        };
        config.bridges.insert(name, bridge);
    }
    config
}

fn link(table: InterfaceTable) -> Option<Link> {
    let derived = derived_host_name(&table);
    let InterfaceTable { netns: _, name: _, at: _, bridge, host_name, mac, host_mac, ip, .. } = &table;
    Some(Link {
        up: true,
        mac: mac.as_ref().map(|mac| mac.value),
        mtu: ip.mtu.as_ref().map(|mtu| mtu.value),
        dad: table.dad,
        accept_ra: table.accept_ra,
        announce: table.announce,
        routes: routes(ip),
        kind: Kind::Veth(HostEnd {
            mac: host_mac.as_ref().map(|mac| mac.value),
            bridge: bridge.as_ref().map(|bridge| bridge.value.clone()),
            ..HostEnd::new(match host_name {
                HostName::Given(name) => name.value.clone(),
                HostName::Refused | HostName::Derived => derived?,
            })
        }),
        addresses: values(table.ip.addresses.items),
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
fn routes(ip: &IpTable) -> Vec<Route> {
    ip.gateways.items.iter().chain(&ip.routes.items).map(RouteTable::route).collect()
}

fn values<T, C: FromIterator<T>>(placed: Vec<Placed<T>>) -> C {
    placed.into_iter().map(|placed| placed.value).collect()
}
