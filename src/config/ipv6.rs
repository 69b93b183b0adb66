//! `ipv6 = false`: nothing else in the namespace may want IPv6.

use std::net::IpAddr;

use super::{
    fault::Draft,
    fragment::NamespaceTable,
    interface::{InterfaceTable, KindTable},
    text::Spot,
};

pub(super) fn check(namespace: &NamespaceTable, interfaces: &[&InterfaceTable], drafts: &mut Vec<Draft>) {
    let Some(off) = namespace.no_ipv6 else { return };
    let mut note = |at: Spot, what: &str| {
        let draft = Draft::new(at, format!("{what} in a namespace without IPv6"));
        drafts.push(draft.other(off, "IPv6 is off").help("leave one of the two out"));
    };
    let mut if_v6 = |ip: IpAddr, at, what| {
        if ip.is_ipv6() {
            note(at, what);
        }
    };
    for address in &namespace.loopback_addresses.items {
        if_v6(address.value.address.addr(), address.at, "IPv6 address");
    }
    for interface in interfaces {
        for address in &interface.ip.addresses.items {
            if_v6(address.value.address.addr(), address.at, "IPv6 address");
        }
        for gateway in &interface.ip.gateways.items {
            if_v6(gateway.to.addr(), gateway.at, "IPv6 gateway");
        }
        for route in &interface.ip.routes.items {
            if_v6(route.to.addr(), route.at, "IPv6 route");
        }
        if let Some(KindTable::Wireguard(tunnel)) = &interface.kind {
            for net in tunnel.allowed_ips() {
                if_v6(net.value.addr(), net.at, "IPv6 in allowed-ips");
            }
        }
    }
    for at in namespace.rules.iter().filter_map(|rule| rule.ipv6_only) {
        note(at, "IPv6 rule");
    }
    for interface in interfaces {
        if let Some(at) = interface.accept_ra {
            note(at, "accept-ra = true");
        }
        if let Some(dhcp) = interface.dhcp.as_ref().filter(|_| interface.has_dhcp(false)) {
            note(dhcp.at, "DHCPv6");
        }
    }
}
