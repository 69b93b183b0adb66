//! systemd.netdev(5) and systemd.network(5) files.

use ipnet::IpNet;

use super::{UnitFile, yes_no};
use crate::{
    config::{Bridge, Uplink},
    model::{HostEnd, LinkName, Port, PortVlans, Route, RouteType, ranges},
};

/// `.netdev` of a bridge. networkd makes the MAC address from the machine-id where none is given (`MACAddress=` of
/// systemd.netdev(5)); without a MAC of its own a bridge would change it with its ports. An MTU does not belong here: the kernel lets
/// one that a bridge is made with fall to the smallest of its ports (`br_mtu_auto_adjust`), and keeps the one that `.network` sets.
#[must_use]
pub fn bridge_netdev(name: &LinkName, bridge: &Bridge) -> String {
    let Bridge { source, uplinks: _, addresses: _, routes: _, dns: _, mac, mtu: _, stp, vlan_filtering, default_pvid: _ } = bridge;
    let mut netdev = vec![("Name", name.to_string()), ("Kind", "bridge".to_owned())];
    netdev.extend(mac.map(|mac| ("MACAddress", mac.to_string())));
    let mut settings: Vec<_> = stp.map(|stp| ("STP", yes_no(stp))).into_iter().collect();
    if *vlan_filtering == Some(true) {
        // No VLAN that nobody has named: up to systemd 255, networkd takes none from a port. Each port's file names its own.
        settings.extend([("VLANFiltering", yes_no(true)), ("DefaultPVID", "none".to_owned())]);
    }
    UnitFile::default().section("NetDev", netdev).section("Bridge", settings).text(source)
}

/// Names the VLANs of a port: `[BridgeVLAN]`, a section for each range.
fn vlan_sections(file: UnitFile, vlans: Option<&PortVlans>) -> UnitFile {
    let Some(PortVlans { untagged, tagged }) = vlans else { return file };
    let untagged = untagged.filter(|id| *id != 0).into_iter().flat_map(|id| [("PVID", id.to_string()), ("EgressUntagged", id.to_string())]);
    let file = file.section("BridgeVLAN", untagged);
    ranges(tagged).fold(file, |file, (first, last)| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        file.section("BridgeVLAN", [("VLAN", range)])
    })
}

/// `.network` of a bridge: its addresses on the host, if any, and the VLAN links on it. `ports` are the VLANs that it has itself,
/// where it keeps VLANs apart.
#[must_use]
pub fn bridge_network(name: &LinkName, bridge: &Bridge, vlans: &[&LinkName], ports: Option<&PortVlans>) -> String {
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
    let file = routes.iter().fold(file, |file, route| file.section("Route", route_settings(route)));
    vlan_sections(file, ports).text(source)
}

fn route_settings(route: &Route) -> Vec<(&'static str, String)> {
    let Route { to, kind, via, source, metric, table, scope, mtu, on_link } = route;
    let mut settings = Vec::new();
    settings.extend(via.map(|via| ("Gateway", via.to_string())));
    if !route.is_default() || via.is_none() {
        settings.push(("Destination", to.to_string()));
    }
    settings.extend(source.map(|source| ("PreferredSource", source.to_string())));
    settings.extend(metric.map(|metric| ("Metric", metric.to_string())));
    settings.extend(table.map(|table| ("Table", table.to_string())));
    settings.extend(scope.map(|scope| ("Scope", scope.as_str().to_owned())));
    settings.extend(mtu.map(|mtu| ("MTUBytes", mtu.to_string())));
    if *kind != RouteType::Unicast {
        settings.push(("Type", kind.as_str().to_owned()));
    }
    if *on_link {
        settings.push(("GatewayOnLink", yes_no(true)));
    }
    settings
}

/// What every bridge port has: no addresses of its own, and nobody waits for it.
fn port<'a>(name: &LinkName, kind: Option<&str>, network: impl IntoIterator<Item = (&'a str, String)>) -> UnitFile {
    let mut matches = vec![("Name", name.to_string())];
    matches.extend(kind.map(|kind| ("Kind", kind.to_owned())));
    let quiet = [("LinkLocalAddressing", yes_no(false)), ("IPv6AcceptRA", yes_no(false))];
    // by default networkd listens for LLDP, and lets go of each socket for that at each reload: 12 ms for every port that is up
    let silent = kind.map(|_| ("LLDP", yes_no(false)));
    UnitFile::default()
        .section("Match", matches)
        .section("Link", [("RequiredForOnline", yes_no(false))])
        .section("Network", network.into_iter().chain(quiet).chain(silent))
}

/// `.network` of an uplink: it joins its bridge, and carries the VLAN links on it. `ports` are its VLANs as a bridge port.
#[must_use]
pub fn uplink_network(uplink: &Uplink, bridge: &LinkName, vlans: &[&LinkName], ports: Option<&PortVlans>, source: &str) -> String {
    let vlans = vlans.iter().map(|vlan| ("VLAN", vlan.to_string()));
    let file = port(uplink.name(), None, std::iter::once(("Bridge", bridge.to_string())).chain(vlans));
    vlan_sections(file, ports).text(source)
}

/// `.netdev` of a VLAN link. networkd makes it once the `.network` of its parent has `VLAN=` with its name.
#[must_use]
pub fn vlan_netdev(name: &LinkName, id: u16, source: &str) -> String {
    UnitFile::default()
        .section("NetDev", [("Name", name.to_string()), ("Kind", "vlan".to_owned())])
        .section("VLAN", [("Id", id.to_string())])
        .text(source)
}

/// `Kind=` keeps a file from a link of the same name that is not ours.
const PAIR: Option<&str> = Some("veth");

/// `.network` of a host end in a bridge that networkd has from us. `up` makes it as a port of that bridge, with all settings; this
/// tells networkd to leave it so.
#[must_use]
pub fn port_network(end: &HostEnd, bridge: &LinkName, source: &str) -> String {
    let Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans } = &end.port;
    let switches = [
        ("Isolated", isolated),
        ("HairPin", hairpin),
        ("Learning", learning),
        ("NeighborSuppression", neighbor_suppression),
        ("FastLeave", fast_leave),
    ];
    let switches = switches.into_iter().filter_map(|(name, on)| Some((name, yes_no((*on)?))));
    let numbers = [("Cost", *cost), ("Priority", priority.map(u32::from))];
    let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())));
    let file = port(&end.name, PAIR, [("Bridge", bridge.to_string())]).section("Bridge", switches.chain(numbers));
    vlan_sections(file, vlans.as_ref()).text(source)
}

/// `.network` of a host end in a bridge of somebody else. networkd takes `Bridge=` only of a bridge whose `.netdev` it has, and
/// without `KeepMaster=` its first reconfigure detaches the port. It would set what `[Bridge]` says only then, too: `up` does it.
#[must_use]
pub fn foreign_port_network(host_end: &LinkName, source: &str) -> String {
    port(host_end, PAIR, [("KeepMaster", yes_no(true))]).text(source)
}

/// `.network` of the host end of a pair without a bridge. `up` gives it the same addresses and routes, so that they are there without
/// networkd; an IPv6 address would wait for duplicate detection, and there is nobody but the namespace.
#[must_use]
pub fn pair_network(end: &HostEnd, source: &str) -> String {
    let has_ipv6 = end.addresses.iter().chain(&end.routes).any(|net| net.addr().is_ipv6());
    let network = [
        ("ConfigureWithoutCarrier", yes_no(true)),
        ("LinkLocalAddressing", if has_ipv6 { "ipv6" } else { "no" }.to_owned()),
        ("IPv6AcceptRA", yes_no(false)),
        ("LLDP", yes_no(false)),
    ];
    let file = UnitFile::default()
        .section("Match", [("Name", end.name.to_string()), ("Kind", "veth".to_owned())])
        .section("Link", [("RequiredForOnline", yes_no(false))])
        .section("Network", network);
    let address = |file: UnitFile, a: &IpNet| {
        let unchecked = a.addr().is_ipv6().then(|| ("DuplicateAddressDetection", "none".to_owned()));
        file.section("Address", std::iter::once(("Address", a.to_string())).chain(unchecked))
    };
    let file = end.addresses.iter().fold(file, address);
    end.routes.iter().fold(file, |file, to| file.section("Route", [("Destination", to.to_string())])).text(source)
}
