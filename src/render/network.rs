//! systemd.netdev(5) and systemd.network(5) files.

use ipnet::IpNet;

use super::{UnitFile, yes_no};
use crate::{
    config::{Bridge, Uplink},
    model::{LinkName, Route},
};

/// `.netdev` of a bridge. networkd makes the MAC address from the machine-id where none is given (`MACAddress=` of
/// systemd.netdev(5)); without a MAC of its own a bridge would change it with its ports.
#[must_use]
pub fn bridge_netdev(name: &LinkName, bridge: &Bridge) -> String {
    let Bridge { source, uplinks: _, addresses: _, routes: _, dns: _, mac, mtu, stp, vlan_filtering: _, default_pvid: _ } = bridge;
    let mut netdev = vec![("Name", name.to_string()), ("Kind", "bridge".to_owned())];
    netdev.extend(mac.map(|mac| ("MACAddress", mac.to_string())));
    netdev.extend(mtu.map(|mtu| ("MTUBytes", mtu.to_string())));
    UnitFile::default().section("NetDev", netdev).section("Bridge", stp.map(|stp| ("STP", yes_no(stp)))).text(source)
}

/// `.network` of a bridge: its addresses on the host, if any, and the VLAN links on it.
#[must_use]
pub fn bridge_network(name: &LinkName, bridge: &Bridge, vlans: &[&LinkName]) -> String {
    let Bridge { source, uplinks, addresses, routes, dns, mac: _, mtu, stp: _, vlan_filtering: _, default_pvid: _ } = bridge;
    let has_ipv6 = addresses.iter().any(|a| a.addr().is_ipv6());
    // online waits for what the host is reached by, not for a bridge that has no carrier until the first service starts
    let required = !uplinks.is_empty() && !addresses.is_empty();
    let mut link = vec![("RequiredForOnline", yes_no(required))];
    link.extend(mtu.map(|mtu| ("MTUBytes", mtu.to_string())));
    let mut network = vec![
        // or the bridge is not set up before its first port, and loses its addresses with its last (systemd#11650)
        ("ConfigureWithoutCarrier", "yes".to_owned()),
        ("LinkLocalAddressing", if has_ipv6 { "ipv6" } else { "no" }.to_owned()),
        ("IPv6AcceptRA", "no".to_owned()),
    ];
    // Without an uplink, the bridge has no carrier until the first service starts, and its IPv6 addresses would be checked for
    // duplicates only then: for 1-2 s the host would reach its own services from some other address. Nobody but the
    // configuration's own namespaces, which are checked, could have them.
    let unchecked = |a: &IpNet| uplinks.is_empty() && a.addr().is_ipv6();
    network.extend(addresses.iter().filter(|a| !unchecked(a)).map(|a| ("Address", a.to_string())));
    network.extend(dns.iter().map(|ip| ("DNS", ip.to_string())));
    network.extend(vlans.iter().map(|vlan| ("VLAN", vlan.to_string())));
    let file = UnitFile::default().section("Match", [("Name", name.to_string())]).section("Link", link).section("Network", network);
    let file = addresses
        .iter()
        .filter(|a| unchecked(a))
        .fold(file, |file, a| file.section("Address", [("Address", a.to_string()), ("DuplicateAddressDetection", "none".to_owned())]));
    routes.iter().fold(file, |file, route| file.section("Route", route_settings(route))).text(source)
}

fn route_settings(route: &Route) -> Vec<(&'static str, String)> {
    let Route { to, kind: _, via, source, metric, table: _, scope: _, mtu: _, on_link } = route;
    let mut settings = Vec::new();
    settings.extend(via.map(|via| ("Gateway", via.to_string())));
    if !route.is_default() || via.is_none() {
        settings.push(("Destination", to.to_string()));
    }
    settings.extend(source.map(|source| ("PreferredSource", source.to_string())));
    settings.extend(metric.map(|metric| ("Metric", metric.to_string())));
    if *on_link {
        settings.push(("GatewayOnLink", yes_no(true)));
    }
    settings
}

/// What every bridge port has: no addresses of its own, and nobody waits for it.
fn port<'a>(name: &LinkName, kind: Option<&str>, network: impl IntoIterator<Item = (&'a str, String)>, source: &str) -> String {
    let mut matches = vec![("Name", name.to_string())];
    matches.extend(kind.map(|kind| ("Kind", kind.to_owned())));
    let quiet = [("LinkLocalAddressing", yes_no(false)), ("IPv6AcceptRA", yes_no(false))];
    UnitFile::default()
        .section("Match", matches)
        .section("Link", [("RequiredForOnline", yes_no(false))])
        .section("Network", network.into_iter().chain(quiet))
        .text(source)
}

/// `.network` of an uplink: it joins its bridge, and carries the VLAN links on it.
#[must_use]
pub fn uplink_network(uplink: &Uplink, bridge: &LinkName, vlans: &[&LinkName], source: &str) -> String {
    let vlans = vlans.iter().map(|vlan| ("VLAN", vlan.to_string()));
    port(uplink.name(), None, std::iter::once(("Bridge", bridge.to_string())).chain(vlans), source)
}

/// `.netdev` of a VLAN link. networkd makes it once the `.network` of its parent has `VLAN=` with its name.
#[must_use]
pub fn vlan_netdev(name: &LinkName, id: u16, source: &str) -> String {
    UnitFile::default()
        .section("NetDev", [("Name", name.to_string()), ("Kind", "vlan".to_owned())])
        .section("VLAN", [("Id", id.to_string())])
        .text(source)
}

/// `.network` of a host end. `up` makes it as a port of its bridge, and networkd is told to leave it there: by `Bridge=` where
/// networkd has the bridge from us, by `KeepMaster=` where the bridge is somebody else's (networkd takes `Bridge=` only of a
/// bridge whose .netdev it has; without `KeepMaster=` the first reconfigure detaches the port). `Kind=` keeps the file from a
/// link of the same name that is not ours.
#[must_use]
pub fn port_network(host_end: &LinkName, bridge: &LinkName, bridge_is_ours: bool, source: &str) -> String {
    let setting = if bridge_is_ours { ("Bridge", bridge.to_string()) } else { ("KeepMaster", yes_no(true)) };
    port(host_end, Some("veth"), [setting], source)
}
