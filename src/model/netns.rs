//! A network namespace and the links in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Address, Dad, LinkName, Mac, Route, Rule, Wireguard};

/// What is in one network namespace. It is also the record that `sync` stores and `up` reads.
///
/// A value of `None` means: nothing is asked for. What is observed has no `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Netns {
    /// Where in the configuration this comes from, for messages: `/etc/netns-networkd/mail.toml:1`. Never left out, so that an
    /// empty record is no record.
    pub source: String,
    /// The same of the interfaces, by link.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<LinkName, String>,
    /// Kernel parameters below `/proc/sys`, with dots: `net.ipv6.conf.default.accept_ra = "0"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Of what is applied: the values that parameters had before they were set, but for those that every namespace sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl_before: BTreeMap<String, String>,
    /// The firewall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<Ruleset>,
    /// Addresses of the loopback link beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loopback_addresses: Vec<Address>,
    /// Routes without a link: those that refuse packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub rules: BTreeSet<Rule>,
    /// The links by their names inside, loopback left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<LinkName, Link>,
    /// Of what is observed alone.
    #[serde(skip)]
    pub drift: Drift,
}

/// What every namespace has and nobody can ask for, where it is not so: somebody has changed it by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// It has no name in `/run/netns`, or a file of that name is none.
    pub is_nameless: bool,
    pub loopback_is_down: bool,
    /// The kernel's own rules that are missing.
    pub lost_rules: BTreeSet<Rule>,
    /// Links that have another name, which is behind their own.
    pub renamed: BTreeMap<LinkName, LinkName>,
    /// Host ends that have.
    pub renamed_ends: BTreeMap<LinkName, LinkName>,
}

/// The link that a failure is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Inside(LinkName),
    /// A bridge, a parent, a host end.
    OnHost(LinkName),
}

/// What `up` needs a link on the host to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A bridge that is up.
    Bridge,
    /// Up.
    Up,
    /// Just there.
    There,
}

impl Netns {
    /// Gives the place in the configuration that a link comes from: one inside, or one on the host by the interface that needs it.
    #[must_use]
    pub fn place_of(&self, subject: &Subject) -> &str {
        let on_host = |link: &Link, name: &LinkName| {
            let end = link.kind.host_end().map(|end| &end.name);
            [end, link.kind.bridge(), link.kind.parent()].contains(&Some(name))
        };
        let link = match subject {
            Subject::Inside(name) => Some(name),
            Subject::OnHost(name) => self.links.iter().find(|(_, link)| on_host(link, name)).map(|(name, _)| name),
        };
        link.and_then(|link| self.places.get(link)).unwrap_or(&self.source)
    }

    /// Lists the links on the host that the namespace needs.
    #[must_use]
    pub fn needs(&self) -> BTreeMap<LinkName, Need> {
        let need = |link: &Link| match &link.kind {
            Kind::Veth(end) => end.bridge.clone().map(|bridge| (bridge, Need::Bridge)),
            Kind::Macvlan { parent } | Kind::Ipvlan { parent } => Some((parent.clone(), Need::Up)),
            Kind::Physical { parent } => Some((parent.clone(), Need::There)),
            Kind::Dummy | Kind::Wireguard(_) => None,
        };
        self.links.values().filter_map(need).collect()
    }
}

/// An nftables ruleset: `sync` keeps a copy of the file beside the record, and `up` loads that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ruleset {
    /// SHA-256 of the text, in hexadecimal digits.
    pub sha256: String,
}

/// A link inside: a veth pair, or a link of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    /// It is up, and its host end too. Always desired, so it is not in the record.
    #[serde(skip, default = "yes")]
    pub up: bool,
    /// Ethernet address of the link inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Of both ends, in bytes; the bridge's or parent's when not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    #[serde(default)]
    pub dad: Dad,
    /// Takes addresses and routes from router advertisements.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_ra: bool,
    /// Tells neighbours of the addresses when they come up.
    #[serde(default = "yes")]
    pub announce: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Routes out of this link, the gateways among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    pub kind: Kind,
}

fn yes() -> bool {
    true
}

/// What kind of link it is, with what only that kind has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pair: one end inside, the other on the host.
    Veth(HostEnd),
    /// A link on top of a host's link, with a MAC address of its own.
    Macvlan { parent: LinkName },
    /// A link on top of a host's link, with the same MAC address.
    Ipvlan { parent: LinkName },
    /// A link of the host, moved in and given back.
    Physical { parent: LinkName },
    /// A link that leads nowhere.
    Dummy,
    /// A WireGuard tunnel, whose own packets go by the host's network.
    Wireguard(Wireguard),
}

impl Kind {
    /// The word in the configuration; but for `physical` also the kernel's.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Physical { .. } => "physical",
            Self::Dummy => "dummy",
            Self::Wireguard(_) => "wireguard",
        }
    }

    /// The end on the host, if it is a pair.
    #[must_use]
    pub fn host_end(&self) -> Option<&HostEnd> {
        if let Self::Veth(end) = self { Some(end) } else { None }
    }

    pub fn host_end_mut(&mut self) -> Option<&mut HostEnd> {
        if let Self::Veth(end) = self { Some(end) } else { None }
    }

    /// The tunnel, if it is one.
    #[must_use]
    pub fn wireguard(&self) -> Option<&Wireguard> {
        if let Self::Wireguard(tunnel) = self { Some(tunnel) } else { None }
    }

    /// The bridge that the host end is a port of.
    #[must_use]
    pub fn bridge(&self) -> Option<&LinkName> {
        self.host_end()?.bridge.as_ref()
    }

    /// The link of the host that it stands on, or is.
    #[must_use]
    pub fn parent(&self) -> Option<&LinkName> {
        match self {
            Self::Macvlan { parent } | Self::Ipvlan { parent } | Self::Physical { parent } => Some(parent),
            Self::Veth(_) | Self::Dummy | Self::Wireguard(_) => None,
        }
    }

    /// Tells whether a link of this kind can become one of the other by changes alone; otherwise it is removed and made anew.
    #[must_use]
    pub fn is_same_link(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Veth(a), Self::Veth(b)) => a.name == b.name,
            (Self::Wireguard(_), Self::Wireguard(_)) => true,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Veth(HostEnd { name, bridge: Some(bridge), .. }) => write!(f, "host end '{name}' on bridge '{bridge}'"),
            Self::Veth(HostEnd { name, .. }) => write!(f, "host end '{name}'"),
            Self::Macvlan { parent } | Self::Ipvlan { parent } => write!(f, "kind {} on '{parent}'", self.as_str()),
            Self::Physical { parent } => write!(f, "the host's link '{parent}'"),
            Self::Dummy | Self::Wireguard(_) => write!(f, "kind {}", self.as_str()),
        }
    }
}

/// The end of a veth pair that stays on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostEnd {
    pub name: LinkName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The bridge it is a port of; without one the pair is point-to-point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<LinkName>,
    /// Of a point-to-point pair.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<IpNet>,
    /// Of a point-to-point pair: addresses inside that no prefix of `addresses` covers, so that the host needs a route to each.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub routes: BTreeSet<IpNet>,
    #[serde(default, skip_serializing_if = "Port::is_default")]
    pub port: Port,
}

impl HostEnd {
    /// Gives a host end with everything but its name at its default.
    #[must_use]
    pub fn new(name: LinkName) -> Self {
        Self { name, mac: None, bridge: None, addresses: BTreeSet::new(), routes: BTreeSet::new(), port: Port::default() }
    }
}

/// Settings of a bridge port; what is none stays as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Port {
    /// Reaches only ports that are not isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// Sends frames back out of the port that they came in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// Learns MAC addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// Answers ARP and neighbour solicitations for neighbours that the bridge knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbor_suppression: Option<bool>,
    /// Ends multicast at once when a member leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_leave: Option<bool>,
    /// Path cost of spanning tree, 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
    /// Priority of spanning tree, 0 to 63.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// VLANs of the port; none where nothing is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<PortVlans>,
}

impl Port {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The VLANs of a bridge port, all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortVlans {
    /// The VLAN of frames without a tag, in both directions; 0 is none of them. None is the bridge's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<u16>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tagged: BTreeSet<u16>,
}

impl PortVlans {
    /// Tells whether these are the VLANs that others ask for, or more.
    #[must_use]
    pub fn has(&self, others: &Self) -> bool {
        let Self { untagged, tagged } = others;
        (untagged.is_none() || self.untagged == *untagged) && tagged.is_subset(&self.tagged)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans } = self;
        let switch = |name: &str, value: &Option<bool>| value.map(|on| format!("{name} {}", if on { "on" } else { "off" }));
        let parts = [
            switch("isolated", isolated),
            switch("hairpin", hairpin),
            switch("learning", learning),
            switch("neighbor-suppression", neighbor_suppression),
            switch("fast-leave", fast_leave),
            cost.map(|n| format!("cost {n}")),
            priority.map(|n| format!("priority {n}")),
            vlans.as_ref().map(|vlans| format!("VLANs {vlans}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for PortVlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let untagged = self.untagged.filter(|id| *id != 0).map(|id| format!("{id} untagged"));
        let tagged = ranges(&self.tagged).map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
        let parts: Vec<String> = untagged.into_iter().chain(tagged).collect();
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(" "))
    }
}

/// Joins numbers that follow each other: first and last of each range.
pub fn ranges(numbers: &BTreeSet<u16>) -> impl Iterator<Item = (u16, u16)> {
    let mut numbers = numbers.iter().copied().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| *next == last + 1) {
            last = next;
        }
        Some((first, last))
    })
}
