//! What `status` and `list` say of a host. [`Report`] is their JSON as it stands: docs/schema/status.json describes it, and a field
//! that is there once keeps its name and meaning.
//!
//! Pure: `facts` has what was observed, `make` turns it into a report, `show/` turns that into text.

mod facts;
mod findings;
mod links;
mod list;
mod make;
mod outcome;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use facts::{Facts, NetnsFacts, UnitFacts};
pub use findings::{Drift, DriftKind, Orphan, OrphanKind, Waiting};
pub use list::{List, ListEntry};
pub use outcome::{
    Check, Document, Failure, Imported, ImportedFile, Left, Outcome, Place as ConfigurationPlace, Planned, PlannedFile, Reason,
    Step as ImportStep, waitings,
};

use crate::model::{LinkName, Mac, Netns, NetnsName, PortVlans, Route, RouteType, Scope};

/// The number of the format: it changes when a field changes its meaning or goes, not when one comes.
pub const FORMAT: u32 = 1;

/// A host: what is there, against what should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nothing needs a person: all that follows is as the configuration says.
    pub ok: bool,
    pub configuration: Configuration,
    /// None if it was not seen.
    pub networkd_running: Option<bool>,
    pub bridges: Vec<Bridge>,
    pub namespaces: Vec<Namespace>,
    /// What the next `sync` would change, but for orphans.
    pub drift: Vec<Drift>,
    pub pending: Vec<Waiting>,
    pub orphans: Vec<Orphan>,
    pub warnings: Vec<String>,
    pub not_seen: Vec<String>,
}

/// Whether there is a configuration to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub state: ConfigurationState,
    /// What is wrong with it.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationState {
    Valid,
    /// It does not pass `check`: what is there is compared with the records of the last `sync`.
    Faulty,
    /// It, or a file that it names, cannot be read: compared with the records, too.
    Unreadable,
}

/// A bridge: one of the configuration, or one that namespaces use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    pub name: LinkName,
    /// A table `[bridge.NAME]` makes it.
    pub configured: bool,
    /// Where that table is.
    pub source: Option<String>,
    pub state: LinkState,
    pub carrier: bool,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub stp: Option<bool>,
    pub vlan_filtering: Option<bool>,
    pub addresses: Vec<Address>,
    pub ports: Vec<BridgePort>,
}

/// A link that is a port of a bridge, or should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    pub name: String,
    pub role: Role,
    /// It is a port of the bridge.
    pub member: bool,
    pub state: LinkState,
    pub carrier: bool,
    pub forwarding: Option<bool>,
    /// The link that a VLAN link is on.
    pub parent: Option<String>,
    /// The namespace that a host end belongs to, and the interface there.
    pub netns: Option<NetnsName>,
    pub interface: Option<LinkName>,
    pub vlans: Option<Vlans>,
}

/// Why a link is a port of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Uplink,
    Namespace,
    /// Somebody else put it there.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    Up,
    Down,
    Absent,
    /// It was not seen.
    Unknown,
}

/// The VLANs of a bridge port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vlans {
    pub untagged: Option<u16>,
    pub tagged: Vec<u16>,
}

/// A network namespace: of the configuration, or one that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    pub name: NetnsName,
    /// The configuration names it.
    pub configured: bool,
    pub description: Option<String>,
    pub source: Option<String>,
    pub state: NetnsState,
    /// The configuration asks for something else than the last `sync` wrote down; none where that is not known.
    pub changed_since_sync: Option<bool>,
    /// What is inside was looked at.
    pub seen: bool,
    pub units: Vec<Unit>,
    pub interfaces: Vec<Interface>,
    /// Routes without an interface: those that refuse packets.
    pub routes: Vec<RouteEntry>,
    pub rules: Vec<RuleEntry>,
    pub nftables: Option<Firewall>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetnsState {
    Up,
    /// Not needed: no service of it runs.
    Down,
    ComingUp,
    GoingDown,
    /// `netns@NAME.service` failed.
    Failed,
    /// systemd has it as active, and it is not there.
    Lost,
    /// One that this tool has not made is in its place.
    Foreign,
}

impl NetnsState {
    /// The word in the text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::ComingUp => "coming up",
            Self::GoingDown => "going down",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Foreign => "foreign",
        }
    }

    /// Tells whether a person has to do something about it.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Failed | Self::Lost | Self::Foreign)
    }
}

/// A unit that runs in a namespace, or should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    pub bound: Binding,
    /// systemd's words; none if they were not seen, or if it is a template.
    pub load_state: Option<String>,
    pub active_state: Option<String>,
    pub sub_state: Option<String>,
    pub main_pid: Option<u32>,
    /// All its processes.
    pub pids: Vec<u32>,
    /// Where these are; none if it does not run.
    pub runs_in: Option<Place>,
}

/// By what a unit is bound to its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// `services` lists it.
    Configuration,
    /// An admin's own `BindsTo=`.
    Hand,
    /// It is one of this tool's: a hold, a DHCP client.
    Tool,
    /// It runs there, and systemd knows of nothing that keeps the namespace up for it.
    Nothing,
}

/// A network namespace as seen from a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum Place {
    Host,
    Netns(NetnsName),
    Other,
}

/// A link inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// The configuration names it.
    pub configured: bool,
    pub kind: Option<String>,
    pub state: LinkState,
    pub carrier: bool,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub dhcp: bool,
    pub host_end: Option<HostEnd>,
    /// The bridge that the host end is a port of, or is to be.
    pub bridge: Option<LinkName>,
    /// The link of the host that it stands on, or is.
    pub parent: Option<LinkName>,
    pub addresses: Vec<Address>,
    pub routes: Vec<RouteEntry>,
}

/// The end of a pair that is on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    pub name: LinkName,
    pub state: LinkState,
    pub mac: Option<Mac>,
    /// As a bridge port: lets frames through.
    pub forwarding: Option<bool>,
    pub isolated: Option<bool>,
    pub vlans: Option<Vlans>,
    pub addresses: Vec<Address>,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// With its prefix length.
    pub address: IpNet,
    pub state: AddressState,
    pub origin: Origin,
    pub deprecated: bool,
    pub peer: Option<IpAddr>,
    pub scope: Option<Scope>,
    pub label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressState {
    Usable,
    /// Being checked for duplicates.
    Tentative,
    /// Somebody else has it.
    Duplicate,
    Absent,
    Unknown,
}

/// Where an address or a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Configuration,
    Dhcp,
    RouterAdvertisement,
    LinkLocal,
    /// A service, an admin, networkd.
    Other,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEntry {
    pub to: IpNet,
    #[serde(rename = "type")]
    pub kind: RouteType,
    pub via: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub metric: Option<u32>,
    pub table: Option<u32>,
    pub scope: Option<Scope>,
    pub mtu: Option<u32>,
    pub on_link: bool,
    pub state: Presence,
    pub origin: Origin,
}

impl RouteEntry {
    fn new(route: &Route, state: Presence, origin: Origin) -> Self {
        let Route { to, kind, via, source, metric, table, scope, mtu, on_link } = route.clone();
        Self { to, kind, via, source, metric, table, scope, mtu, on_link, state, origin }
    }

    /// Gives the route itself.
    #[must_use]
    pub fn route(&self) -> Route {
        let Self { to, kind, via, source, metric, table, scope, mtu, on_link, state: _, origin: _ } = self.clone();
        Route { to, kind, via, source, metric, table, scope, mtu, on_link }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    Present,
    Absent,
    Unknown,
}

/// A routing rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEntry {
    /// `IPv4 100: from 192.0.2.10/32 table 100`
    pub rule: String,
    pub state: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firewall {
    Loaded,
    /// Another one than the configuration's.
    Different,
    Absent,
    Unknown,
}

impl From<&PortVlans> for Vlans {
    fn from(vlans: &PortVlans) -> Self {
        Self { untagged: vlans.untagged.filter(|id| *id != 0), tagged: vlans.tagged.iter().copied().collect() }
    }
}

/// Lists the host ends of a namespace's pairs, each with its interface.
fn host_ends(netns: &Netns) -> impl Iterator<Item = (&LinkName, &LinkName)> {
    netns.links.iter().filter_map(|(name, link)| Some((&link.kind.host_end()?.name, name)))
}
