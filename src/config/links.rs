//! Links of the host that the configuration names: none means two things, and each can be what it is taken for.

use std::collections::BTreeMap;

use super::{
    fault::Draft,
    fragment::BridgeTable,
    interface::{HostName, InterfaceTable},
    text::{Spot, quoted},
};
use crate::{
    derive,
    model::{LinkName, NetnsName},
};

/// Ports that a bridge of the kernel can have: `BR_MAX_PORTS` is 1 << 10, number 0 is not used.
const MOST_PORTS: usize = 1023;

pub(super) fn check(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    uplinks(interfaces, bridges, drafts);
    host_names(interfaces, bridges, drafts);
    ports(interfaces, bridges, drafts);
    vlans(interfaces, bridges, drafts);
    parents(interfaces, bridges, drafts);
}

/// The links that are bridges, ours or named by an interface, by their names.
fn known_bridges<'t>(interfaces: &'t [InterfaceTable], bridges: &'t [BridgeTable]) -> BTreeMap<&'t str, Spot> {
    let named = interfaces.iter().filter_map(InterfaceTable::bridge).rev().map(|b| (b.value.as_str(), b.at));
    named.chain(bridges.iter().map(|table| (table.name.as_str(), table.at))).collect()
}

fn uplinks(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let known = known_bridges(interfaces, bridges);
    let mut first: BTreeMap<&LinkName, (&str, Spot)> = BTreeMap::new();
    for (bridge, uplink) in bridges.iter().flat_map(|table| table.uplinks.iter().map(move |uplink| (table, uplink))) {
        if let Some(at) = known.get(uplink.name.as_str()) {
            let help = "join bridges by a VLAN on one of them ({ vlan = 20, parent = \"br-lan\" }) or put the ports into one";
            drafts.push(
                Draft::new(uplink.at, format!("uplink '{}' is a bridge, and a bridge cannot be a port of another", uplink.name))
                    .other(*at, "the bridge")
                    .help(help),
            );
        }
        if let Some((parent, _)) = uplink.vlan.as_ref().filter(|(parent, _)| parent.as_str() == bridge.name) {
            let message = format!("VLAN link '{}' of bridge '{parent}' cannot be a port of the same bridge", uplink.name);
            drafts.push(Draft::new(uplink.at, message).help("name the physical link as the parent"));
        }
        let Some((other, at)) = first.get(&uplink.name) else {
            first.insert(&uplink.name, (&bridge.name, uplink.at));
            continue;
        };
        let message = if *other == bridge.name {
            format!("uplink '{}' is listed twice", uplink.name)
        } else {
            format!("uplink '{}' is in two bridges, {} and {}", uplink.name, quoted(other), quoted(&bridge.name))
        };
        drafts.push(Draft::new(uplink.at, message).other(*at, "first here").help("a link is a port of one bridge"));
    }
}

fn host_names(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let known = known_bridges(interfaces, bridges);
    let mut ports: BTreeMap<&str, Spot> = BTreeMap::new();
    for uplink in bridges.iter().flat_map(|table| &table.uplinks) {
        ports.entry(uplink.name.as_str()).or_insert(uplink.at);
        if let Some((parent, _)) = &uplink.vlan {
            ports.entry(parent.as_str()).or_insert(uplink.at);
        }
    }
    // names that are given go first, so that a clash is shown at the one that can be changed
    let given = interfaces.iter().filter_map(|table| match &table.pair()?.host_name {
        HostName::Given(name) => Some((name.value.clone(), name.at, table, true)),
        HostName::Refused | HostName::Derived => None,
    });
    let derived = interfaces.iter().filter_map(|table| Some((derived_host_name(table)?, table.at, table, false)));
    let mut first: BTreeMap<LinkName, (Spot, bool)> = BTreeMap::new();
    for (name, at, table, is_given) in given.chain(derived) {
        let subject = if is_given {
            format!("host-name '{name}'")
        } else {
            format!("host-name '{name}', derived for interface {} of namespace {},", quoted(&table.name), quoted(&table.netns))
        };
        let help = if is_given { "choose another host-name" } else { "give this interface a host-name" };
        let link = known.get(name.as_str()).map(|at| (at, "bridge")).or_else(|| ports.get(name.as_str()).map(|at| (at, "uplink")));
        if let Some((link, what)) = link {
            drafts.push(
                Draft::new(at, format!("{subject} is the name of a{} {what}", if what == "uplink" { "n" } else { "" }))
                    .other(*link, format!("the {what}"))
                    .help(help),
            );
            continue;
        }
        match first.get(&name) {
            Some((other, true)) if is_given => {
                drafts.push(Draft::new(at, format!("{subject} is used twice")).other(*other, "first here").help(help));
            }
            Some((other, _)) => drafts.push(
                Draft::new(*other, format!("host-name '{name}' is used twice"))
                    .other(at, "this interface gets it too, derived from its names")
                    .help("choose another host-name"),
            ),
            None => {
                first.insert(name, (at, is_given));
            }
        }
    }
}

/// The host end's name where the table leaves it out and its own names are good.
pub(super) fn derived_host_name(table: &InterfaceTable) -> Option<LinkName> {
    if !matches!(table.pair()?.host_name, HostName::Derived) {
        return None;
    }
    Some(derive::host_name(&NetnsName::parse(&table.netns).ok()?, &LinkName::parse_ours(&table.name).ok()?))
}

fn ports(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let mut ports: BTreeMap<&str, Vec<Spot>> = BTreeMap::new();
    for bridge in bridges {
        ports.entry(&bridge.name).or_default().extend(bridge.uplinks.iter().map(|uplink| uplink.at));
    }
    for bridge in interfaces.iter().filter_map(InterfaceTable::bridge) {
        ports.entry(bridge.value.as_str()).or_default().push(bridge.at);
    }
    for (bridge, mut spots) in ports {
        spots.sort_unstable();
        if let Some(at) = spots.get(MOST_PORTS) {
            drafts.push(
                Draft::new(*at, format!("bridge '{bridge}' would have {} ports", spots.len()))
                    .allowed(format!("at most {MOST_PORTS} ports, uplinks among them"))
                    .help("spread the namespaces over several bridges"),
            );
        }
    }
}

/// Notes VLANs of ports of bridges that look at no VLANs.
fn vlans(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let ports: Vec<_> = interfaces.iter().filter_map(|table| Some((table.bridge()?, table.pair()?.vlans?))).collect();
    for bridge in bridges.iter().filter(|bridge| bridge.vlan_filtering != Some(true)) {
        let help = format!("add vlan-filtering = true to [bridge.{}]", bridge.name);
        if let Some(pvid) = &bridge.default_pvid {
            drafts.push(Draft::new(pvid.at, "'default-pvid' without vlan-filtering = true means nothing").help(&help));
        }
        for (_, at) in ports.iter().filter(|(name, _)| name.value.as_str() == bridge.name) {
            let message = format!("VLANs of a port of bridge {}, which does not tell VLANs apart", quoted(&bridge.name));
            drafts.push(Draft::new(*at, message).other(bridge.at, "the bridge").help(&help));
        }
    }
}

/// What a link of the host is used for, as far as other uses go with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Bridge,
    Uplink,
    VlanParent,
    HostEnd,
    Parent(&'static str),
}

impl Use {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "a bridge",
            Self::Uplink => "an uplink of a bridge",
            Self::VlanParent => "the parent of a VLAN",
            Self::HostEnd => "the host end of an interface",
            Self::Parent("physical") => "moved into a namespace",
            Self::Parent("ipvlan") => "the parent of an ipvlan interface",
            Self::Parent(_) => "the parent of a macvlan interface",
        }
    }

    /// Says why a link cannot be the parent of an interface of a kind while it has this use.
    fn excludes(self, kind: &str) -> Option<&'static str> {
        match (kind, self) {
            // the host's end of a pair of ours comes and goes with its namespace
            (_, Self::HostEnd) => Some("name a link of the host itself"),
            // NETIF_F_NETNS_LOCAL
            ("physical", Self::Bridge) => Some("the kernel moves no bridge; make the interface a port of it: bridge = \"br-lan\""),
            ("physical", _) | (_, Self::Parent("physical")) => Some("a link that is moved in is the namespace's alone"),
            // netdev_rx_handler_register, which fails with EBUSY: one may look at a link's packets first
            (_, Self::Uplink) => Some("name the bridge as the parent, or make the interface a port of it"),
            ("macvlan", Self::Parent("ipvlan")) | ("ipvlan", Self::Parent("macvlan")) => {
                Some("the kernel puts macvlan or ipvlan links on a link, not both")
            }
            (_, Self::Bridge | Self::VlanParent | Self::Parent(_)) => None,
        }
    }
}

/// Notes parents that are something else too with which they cannot be parents.
fn parents(interfaces: &[InterfaceTable], bridges: &[BridgeTable], drafts: &mut Vec<Draft>) {
    let mut uses: BTreeMap<LinkName, Vec<(Use, Spot)>> = BTreeMap::new();
    let mut add = |name: &LinkName, what, at| uses.entry(name.clone()).or_default().push((what, at));
    for (name, at) in known_bridges(interfaces, bridges) {
        if let Ok(name) = LinkName::parse(name) {
            add(&name, Use::Bridge, at);
        }
    }
    for uplink in bridges.iter().flat_map(|table| &table.uplinks) {
        add(&uplink.name, Use::Uplink, uplink.at);
        if let Some((parent, _)) = &uplink.vlan {
            add(parent, Use::VlanParent, uplink.at);
        }
    }
    for table in interfaces {
        match &table.pair().map(|pair| &pair.host_name) {
            Some(HostName::Given(name)) => add(&name.value, Use::HostEnd, name.at),
            Some(HostName::Derived) => derived_host_name(table).iter().for_each(|name| add(name, Use::HostEnd, table.at)),
            Some(HostName::Refused) | None => {}
        }
        if let Some((kind, parent)) = table.parent() {
            add(&parent.value, Use::Parent(kind), parent.at);
        }
    }
    for (table, (kind, parent)) in interfaces.iter().filter_map(|table| Some((table, table.parent()?))) {
        let others = uses.get(&parent.value).into_iter().flatten();
        // of two parents that exclude each other, the second is the faulty one
        let clash = others
            .filter(|(what, at)| if matches!(what, Use::Parent(_)) { *at < parent.at } else { true })
            .find_map(|(what, at)| Some((what, at, what.excludes(kind)?)));
        if let Some((what, at, help)) = clash {
            let message = format!("link '{}' cannot be the parent of {}: it is {}", parent.value, table.ip.link, what.as_str());
            drafts.push(Draft::new(parent.at, message).other(*at, "there").help(help));
        }
    }
}
