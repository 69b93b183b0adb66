//! Config -> [`State`] with its files. Pure: what must be known of the host comes in as [`Facts`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::{
    config::{Bridge, Config, Dhcp, Namespace, Uplink},
    derive::{self, End},
    model::{
        CREDENTIALS, File, HostEnd, HostLink, Kind, LinkName, Mac, Netns, NetnsName, Place, Port, PortVlans, Provenance, Route, Ruleset,
        State, Unit, UnitName, Wireguard, is_credential,
    },
    render,
};

/// Where files that this tool writes go.
pub const NETWORKD: &str = "/etc/systemd/network";
pub const SYSTEMD: &str = "/etc/systemd/system";
pub const NETNS_ETC: &str = "/etc/netns";
/// The files there that `dns` makes.
pub const RESOLV_CONF: &str = "resolv.conf";
pub const NSSWITCH_CONF: &str = "nsswitch.conf";
/// Settings of the DHCP client of each namespace that has one, and its leases.
pub const DHCP: &str = "/var/lib/netns-networkd/dhcp";
/// One record for each namespace: what `up` reads.
pub const RECORDS: &str = "/var/lib/netns-networkd/netns";

/// What the desired state depends on beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The host's `/etc/nsswitch.conf`.
    pub nsswitch: Option<String>,
    /// Credentials that are stored encrypted.
    pub encrypted: BTreeSet<String>,
    /// Texts of the nftables rulesets.
    pub rulesets: BTreeMap<NetnsName, String>,
    /// What an admin has put under `/etc/netns/NAME` and can be bound over the host's, by its name under `/etc`.
    pub etc: BTreeMap<NetnsName, BTreeSet<String>>,
}

/// Kernel parameters that every namespace begins with. `default` is what links made later take over.
///
/// - `accept_ra`, `autoconf`: a new namespace takes addresses and routes from whoever sends router advertisements.
/// - `promote_secondaries`: without it, the first IPv4 address of a subnet takes the others with it when it goes.
/// - `arp_notify`, `ndisc_notify`: neighbours learn of an address at once, not when their caches time out.
/// - `router_solicitation_delay`: the longest random delay, in seconds, before a router is asked for, and before duplicate
///   detection asks. It is against many hosts booting at once; here one service starts.
/// - `ping_group_range`: "1 0" (nobody) in a new namespace; systemd gives the host this value, and ping needs it.
pub const SYSCTL: [(&str, &str); 7] = [
    ("net.ipv4.conf.default.arp_notify", "1"),
    ("net.ipv4.conf.default.promote_secondaries", "1"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.autoconf", "0"),
    ("net.ipv6.conf.default.ndisc_notify", "1"),
    ("net.ipv6.conf.default.router_solicitation_delay", "0"),
];

/// Gives the path of a namespace's record.
#[must_use]
pub fn record_path(name: &NetnsName) -> PathBuf {
    Path::new(RECORDS).join(format!("{name}.json"))
}

/// Writes down a namespace. As JSON: `up` reads it and writes it again at each start of a service, for which TOML takes twice as long.
pub fn record(netns: &Netns) -> Result<String> {
    Ok(serde_json::to_string_pretty(netns)? + "\n")
}

/// Gives the namespace whose record is at a path.
#[must_use]
pub fn record_of(path: &Path) -> Option<NetnsName> {
    NetnsName::parse(path.strip_prefix(RECORDS).ok()?.to_str()?.strip_suffix(".json")?).ok()
}

/// Gives the path of the settings of a namespace's DHCP client.
#[must_use]
pub fn dhcp_path(name: &NetnsName) -> PathBuf {
    Path::new(DHCP).join(format!("{name}.conf"))
}

/// Gives the path of the copy of a namespace's nftables ruleset that `up` loads.
#[must_use]
pub fn ruleset_path(name: &NetnsName) -> PathBuf {
    Path::new(RECORDS).join(format!("{name}.nft"))
}

/// Gives the path of what services of a namespace see as `/etc/FILE`.
#[must_use]
pub fn etc_path(name: &NetnsName, file: &str) -> PathBuf {
    Path::new(NETNS_ETC).join(name.as_str()).join(file)
}

/// Gives the path of a unit's drop-in.
#[must_use]
pub fn drop_in_path(unit: &UnitName) -> PathBuf {
    Path::new(SYSTEMD).join(format!("{unit}.d/50-netns-networkd.conf"))
}

/// Tells whether a file is the drop-in of a unit, or of the template that it is an instance of.
#[must_use]
pub fn is_drop_in_of(path: &Path, unit: &UnitName) -> bool {
    path == drop_in_path(unit) || unit.template().is_some_and(|template| path == drop_in_path(&template))
}

/// Gives the path of the networkd file of a kind and a link: early in the order of names, so that an admin's catch-all rarely
/// comes first.
#[must_use]
pub fn networkd_path(kind: &str, name: &LinkName, suffix: &str) -> PathBuf {
    Path::new(NETWORKD).join(format!("10-netns-networkd-{kind}-{name}.{suffix}"))
}

/// Gives the state that the configuration asks for, every namespace of it among `netns`.
pub fn desired(config: &Config, facts: &Facts) -> Result<State> {
    let mut state = State::default();
    for (name, bridge) in &config.bridges {
        add_bridge(&mut state, name, bridge, config);
    }
    for (name, namespace) in &config.namespaces {
        add_namespace(&mut state, name, namespace, config, facts)?;
    }
    Ok(state)
}

fn put(state: &mut State, path: PathBuf, content: String) {
    state.files.insert(path, File { content, provenance: Provenance::Ours });
}

/// Lists the VLAN links that the configuration puts on a link.
fn vlans_on<'a>(config: &'a Config, link: &LinkName) -> Vec<&'a LinkName> {
    let uplinks = config.bridges.values().flat_map(|bridge| &bridge.uplinks);
    uplinks
        .filter_map(|uplink| if let Uplink::Vlan { name, parent, .. } = uplink { (parent == link).then_some(name) } else { None })
        .collect()
}

/// Gives the VLAN of frames without a tag on a bridge that keeps VLANs apart, 0 for none.
fn default_pvid(bridge: &Bridge) -> Option<u16> {
    // 1 is the kernel's own choice
    (bridge.vlan_filtering == Some(true)).then(|| bridge.default_pvid.unwrap_or(1))
}

/// The VLANs of a bridge that keeps them apart: those of the host's own port, which is the bridge itself, and those of its uplinks,
/// which have all that its ports and the VLAN links on it need.
fn bridge_vlans(config: &Config, name: &LinkName, bridge: &Bridge) -> Option<(PortVlans, PortVlans)> {
    let pvid = default_pvid(bridge)?;
    let uplinks = config.bridges.values().flat_map(|bridge| &bridge.uplinks);
    let links: BTreeSet<u16> = uplinks
        .filter_map(|uplink| if let Uplink::Vlan { parent, id, .. } = uplink { (parent == name).then_some(*id) } else { None })
        .collect();
    let ends = config.namespaces.values().flat_map(|n| n.netns.links.values()).filter_map(|link| link.kind.host_end());
    let ports = ends.filter(|end| end.bridge.as_ref() == Some(name)).filter_map(|end| end.port.vlans.as_ref());
    let of_ports = ports.flat_map(|vlans| vlans.tagged.iter().chain(&vlans.untagged)).copied().filter(|id| *id != 0);
    let all: BTreeSet<u16> = of_ports.chain(links.iter().copied()).collect();
    let but_pvid = |ids: BTreeSet<u16>| PortVlans { untagged: Some(pvid), tagged: ids.into_iter().filter(|id| *id != pvid).collect() };
    Some((but_pvid(links), but_pvid(all)))
}

fn add_bridge(state: &mut State, name: &LinkName, bridge: &Bridge, config: &Config) {
    put(state, networkd_path("bridge", name, "netdev"), render::bridge_netdev(name, bridge));
    let (own_vlans, uplink_vlans) = bridge_vlans(config, name, bridge).unzip();
    let text = render::bridge_network(name, bridge, &vlans_on(config, name), own_vlans.as_ref());
    put(state, networkd_path("bridge", name, "network"), text);
    for uplink in &bridge.uplinks {
        if let Uplink::Vlan { name, id, .. } = uplink {
            put(state, networkd_path("vlan", name, "netdev"), render::vlan_netdev(name, *id, &bridge.source));
        }
        let text = render::uplink_network(uplink, name, &vlans_on(config, uplink.name()), uplink_vlans.as_ref(), &bridge.source);
        put(state, networkd_path("uplink", uplink.name(), "network"), text);
        let link = HostLink { up: true, master: Some(name.clone()), vlans: uplink_vlans.clone(), ..HostLink::default() };
        state.links.insert(uplink.name().clone(), link);
    }
    let link = HostLink {
        is_bridge: true,
        up: true,
        mac: bridge.mac,
        mtu: bridge.mtu,
        addresses: bridge.addresses.iter().copied().collect(),
        // what nobody asks for is off, also where it was on
        stp: Some(bridge.stp.unwrap_or(false)),
        vlan_filtering: Some(bridge.vlan_filtering.unwrap_or(false)),
        vlans: own_vlans,
        ..HostLink::default()
    };
    state.links.insert(name.clone(), link);
}

fn add_namespace(state: &mut State, name: &NetnsName, namespace: &Namespace, config: &Config, facts: &Facts) -> Result<()> {
    let Namespace { description, services, dns, dns_search, dns_options, nftables, dhcp, netns } = namespace;
    let source = &netns.source;
    let mut netns = netns.clone();
    for (key, value) in SYSCTL {
        netns.sysctl.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    for link in netns.links.iter().filter(|(_, link)| !link.announce).map(|(link, _)| link.as_str().replace('.', "/")) {
        // or the kernel does it: when an IPv6 address has been checked for duplicates, when the link comes up, and when its MAC changes
        for key in [format!("net.ipv4.conf.{link}.arp_notify"), format!("net.ipv6.conf.{link}.ndisc_notify")] {
            netns.sysctl.entry(key).or_insert_with(|| "0".to_owned());
        }
    }
    for link in netns.links.values_mut().filter(|link| link.mtu.is_none()) {
        link.mtu = link.kind.bridge().and_then(|bridge| config.bridges.get(bridge)?.mtu);
    }
    if let (Some(path), Some(text)) = (nftables, facts.rulesets.get(name)) {
        let text = render::ruleset(text, path);
        netns.ruleset = Some(Ruleset { sha256: derive::sha256(&text) });
        put(state, ruleset_path(name), text);
    }
    for link in netns.links.values_mut() {
        if let Kind::Veth(HostEnd { bridge: Some(bridge), port, .. }) = &mut link.kind
            && let Some(pvid) = config.bridges.get(bridge).and_then(default_pvid)
        {
            port.vlans.get_or_insert_default().untagged.get_or_insert(pvid);
        }
    }
    for link in netns.links.values_mut() {
        if let Kind::Veth(end @ HostEnd { bridge: None, .. }) = &mut link.kind {
            let ips = link.addresses.iter().map(|address| address.address.addr());
            end.routes = ips.filter(|ip| !end.addresses.iter().any(|net| net.contains(ip))).map(IpNet::from).collect();
        }
    }
    if !dhcp.is_empty() {
        put(state, dhcp_path(name), render::dhcpcd_conf(dhcp, &netns));
        share_links(&mut netns, dhcp);
    }
    let record = record(&netns).with_context(|| format!("failed to write down netns '{name}'"))?;
    put(state, record_path(name), record);

    for end in netns.links.values().filter_map(|link| link.kind.host_end()) {
        let text = match &end.bridge {
            Some(bridge) if config.bridges.contains_key(bridge) => render::port_network(end, bridge, source),
            Some(_) => render::foreign_port_network(&end.name, source),
            None => render::pair_network(end, source),
        };
        put(state, networkd_path("port", &end.name, "network"), text);
    }
    let tunnels = netns.links.values().filter_map(|link| link.kind.wireguard());
    let credentials: BTreeMap<&str, bool> =
        tunnels.flat_map(Wireguard::credentials).map(|name| (name.as_str(), facts.encrypted.contains(name))).collect();
    if description.is_some() || !credentials.is_empty() || !dhcp.is_empty() {
        let path = Path::new(SYSTEMD).join(format!("netns@{name}.service.d/50-netns-networkd.conf"));
        put(state, path, render::netns_drop_in(name, description.as_deref(), !dhcp.is_empty(), &credentials, source));
    }
    let has_dns = !dns.is_empty() || !dns_search.is_empty() || !dns_options.is_empty();
    let own = facts.etc.get(name).into_iter().flatten();
    let mut etc: BTreeMap<String, Provenance> = own.map(|file| (file.clone(), Provenance::Foreign)).collect();
    if has_dns {
        put(state, etc_path(name, RESOLV_CONF), render::resolv_conf(dns, dns_search, dns_options, source));
        etc.insert(RESOLV_CONF.to_owned(), Provenance::Ours);
    }
    if !dhcp.is_empty() {
        // made from the leases before services start, if nobody else has made one
        etc.entry(RESOLV_CONF.to_owned()).or_insert(Provenance::Ours);
    }
    // an admin's own resolv.conf is asked only if nothing else is asked before it
    if has_dns || (etc.contains_key(RESOLV_CONF) && !etc.contains_key(NSSWITCH_CONF)) {
        put(state, etc_path(name, NSSWITCH_CONF), render::nsswitch_conf(facts.nsswitch.as_deref(), source));
        etc.insert(NSSWITCH_CONF.to_owned(), Provenance::Ours);
    }
    for unit in services {
        put(state, drop_in_path(unit), render::unit_drop_in(unit, name, &etc, !dhcp.is_empty(), source));
        let etc = if unit.is_socket() { BTreeSet::new() } else { etc.keys().cloned().collect() };
        state.units.insert(unit.clone(), Unit { bound_to: Some(name.clone()), runs_in: Some(Place::Netns(name.clone())), etc });
    }
    state.netns.insert(name.clone(), netns);
    Ok(())
}

/// Makes a namespace's own part of links that dhcpcd sets addresses and routes of, too.
///
/// dhcpcd handles router advertisements itself; the kernel must not beside it. And it replaces routes out of its link to the
/// destinations of its own, whoever made them: the kernel's to the networks of addresses are not seen here when they are missing,
/// so they are made as routes of ours, which are put back.
fn share_links(netns: &mut Netns, dhcp: &BTreeMap<LinkName, Dhcp>) {
    for (name, families) in dhcp {
        let Some(link) = netns.links.get_mut(name) else { continue };
        link.accept_ra &= *families == Dhcp::Ipv4;
        for address in &mut link.addresses {
            let net = address.address.trunc();
            let is_v4 = net.addr().is_ipv4();
            let shared = if is_v4 { *families != Dhcp::Ipv6 } else { *families != Dhcp::Ipv4 };
            if !shared || address.no_prefix_route || address.peer.is_some() || net.prefix_len() == net.max_prefix_len() {
                continue;
            }
            address.no_prefix_route = true;
            // as the kernel makes them (IP6_RT_PRIO_ADDRCONF)
            let (source, metric) = if is_v4 { (Some(address.address.addr()), None) } else { (None, Some(256)) };
            let route = Route { source, metric, ..Route::new(net) };
            if !link.routes.iter().any(|other| other.key() == route.key()) {
                link.routes.push(route);
            }
        }
    }
}

/// What namespaces take over from a link on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// Of a bridge: the VLAN that the kernel gives a port by itself; 0 is none.
    pub default_pvid: u16,
}

/// Fills in what a record leaves open: MAC addresses from the machine-id, MTUs from the bridges (by name) or, for a link that has
/// been there, from what it was made with: a bridge's own MTU follows the smallest of its ports. A credential becomes the file in
/// which systemd gives it to the unit, and a physical link keeps its own address.
///
/// What was set and is no longer asked for goes back: port settings to the kernel's own values, parameters to those that they had
/// before.
pub fn resolve(name: &NetnsName, netns: &mut Netns, machine_id: &str, on_host: &BTreeMap<LinkName, HostFacts>, applied: &Netns) {
    netns.sysctl_before.clone_from(&applied.sysctl_before);
    for (key, value) in &applied.sysctl_before {
        netns.sysctl.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (link_name, link) in &mut netns.links {
        let before = applied.links.get(link_name).filter(|before| before.kind.is_same_link(&link.kind));
        if link.mac.is_none() {
            link.mac = match &link.kind {
                Kind::Veth(_) | Kind::Macvlan { .. } | Kind::Dummy => Some(derive::mac(machine_id, name, link_name, End::Inside)),
                // once it is inside, the host knows it no more
                Kind::Physical { parent } => on_host.get(parent).and_then(|facts| facts.mac).or_else(|| before?.mac),
                // the parent's address, and none at all
                Kind::Ipvlan { .. } | Kind::Wireguard(_) => None,
            };
        }
        let bridge = link.kind.bridge().and_then(|bridge| on_host.get(bridge)).copied();
        let before = before.filter(|before| before.kind.bridge() == link.kind.bridge());
        match &mut link.kind {
            Kind::Veth(end) => {
                end.mac.get_or_insert_with(|| derive::mac(machine_id, name, link_name, End::Host));
                if let Some(before) = before.and_then(|before| before.kind.host_end()) {
                    reset_port(&mut end.port, &before.port);
                }
                if let Some(vlans) = &mut end.port.vlans {
                    vlans.untagged.get_or_insert_with(|| bridge.map_or(0, |facts| facts.default_pvid));
                }
            }
            Kind::Wireguard(tunnel) => {
                let credentials = tunnel.key_files_mut().filter(|file| is_credential(file));
                credentials.for_each(|file| *file = format!("{CREDENTIALS}/netns@{name}.service/{file}"));
            }
            _ => {}
        }
        if link.mtu.is_none() {
            link.mtu = before.and_then(|before| before.mtu).or(bridge.map(|facts| facts.mtu));
        }
    }
}

/// Asks for the kernel's own value (`new_nbp` of its bridge) where there was another and none is asked for.
fn reset_port(port: &mut Port, before: &Port) {
    fn reset<T>(value: &mut Option<T>, before: Option<T>, default: T) {
        *value = value.take().or(before.map(|_| default));
    }
    let Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans } = before.clone();
    reset(&mut port.isolated, isolated, false);
    reset(&mut port.hairpin, hairpin, false);
    reset(&mut port.learning, learning, true);
    reset(&mut port.neighbor_suppression, neighbor_suppression, false);
    reset(&mut port.fast_leave, fast_leave, false);
    // of a link with 10 Gbit/s, as a veth says it is (`port_cost`)
    reset(&mut port.cost, cost, 2);
    // the middle of its range (`BR_PORT_BITS`)
    reset(&mut port.priority, priority, 32);
    reset(&mut port.vlans, vlans, PortVlans::default());
}

/// Lists the bridges that a namespace needs.
#[must_use]
pub fn bridges(netns: &Netns) -> BTreeSet<LinkName> {
    netns.links.values().filter_map(|link| link.kind.bridge().cloned()).collect()
}
