//! What is known of a host. What was not seen is none or empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::model::NetnsName;

/// A host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Facts {
    /// Those that matter here, by name: networkd, other programs that configure links, `netns@…`, and what runs in namespaces.
    pub units: BTreeMap<String, Unit>,
    /// Of the host.
    pub links: BTreeMap<String, Link>,
    /// `.network` and `.netdev` files, in networkd's order; one that another hides is left out.
    pub files: Vec<NetworkdFile>,
    pub namespaces: BTreeMap<NetnsName, Namespace>,
    pub run_netns: RunNetns,
    /// Kernel parameters of the host.
    pub parameters: BTreeMap<String, String>,
    /// Base chains on the way of forwarded packets that drop what no rule of theirs accepts.
    pub chains: Vec<Chain>,
    /// What /etc/network/interfaces configures, where ifupdown is installed.
    pub stanzas: Vec<Stanza>,
    /// Whether NetworkManager looks after a device, as it says itself.
    pub managed_by_network_manager: Option<BTreeMap<String, bool>>,
    /// Patterns of what NetworkManager's files keep it from.
    pub unmanaged_devices: Vec<String>,
    /// Patterns of what dhcpcd's settings on the host keep it from, or keep it to.
    pub dhcpcd_links: Option<Vec<String>>,
    /// Processes in namespaces that were ours and have no name any more.
    pub left: Vec<Left>,
    /// Kernel tables and how full they are.
    pub tables: Vec<Fill>,
    /// Kinds of links that were looked for in the kernel, and whether it has them.
    pub kinds: BTreeMap<String, bool>,
    /// Whether this kernel has IPv6.
    pub ipv6: Option<bool>,
    /// The host's `/etc/resolv.conf`.
    pub resolv_conf: Option<String>,
    pub status: Status,
}

/// A unit, as systemd has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `failed`, …
    pub active_state: String,
    /// `enabled`, `disabled`, `masked`, …
    pub file_state: String,
    /// The namespace that it is to run in.
    pub netns: Option<NetnsName>,
    /// It is bound to that by a setting of an admin, not by `services`.
    pub by_hand: bool,
    pub binds_to: Vec<String>,
    pub after: Vec<String>,
    pub network_namespace_path: String,
    /// Its file and its drop-ins, in the order in which they count; a later setting wins.
    pub files: Vec<UnitFile>,
    /// What it said last, of one that failed.
    pub words: Vec<String>,
}

/// A file of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnitFile {
    pub path: String,
    pub text: String,
}

/// What a link of the host is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A bridge with a table in the configuration.
    Bridge,
    /// A bridge of somebody else that namespaces use.
    ForeignBridge,
    Uplink,
    /// The end of a namespace's pair.
    HostEnd,
    #[default]
    Other,
}

/// A link of the host, there or to come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each was seen by itself")]
pub struct Link {
    pub there: bool,
    pub role: Role,
    /// `veth`, `bridge`, …; none for hardware.
    pub kind: Option<String>,
    pub up: bool,
    pub carrier: bool,
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// The bridge that it should be a port of.
    pub wanted_bridge: Option<String>,
    pub netns: Option<NetnsName>,
    /// The `.network` file that was written for it.
    pub wanted_file: Option<PathBuf>,
    /// The `.network` file that networkd takes for it.
    pub file: Option<PathBuf>,
    /// networkd's word: `configured`, `configuring`, `unmanaged`, …
    pub state: Option<String>,
    /// `network-online.target` waits for it.
    pub required: Option<bool>,
    /// Of a bridge: its MAC address was set, and does not change with its ports.
    pub mac_is_set: Option<bool>,
    pub mac: Option<String>,
    /// A station of a Wi-Fi network.
    pub wireless: bool,
    /// Of a bridge: seconds in each of spanning tree's two waits; none where that is off.
    pub forward_delay: Option<u32>,
    /// Of a bridge: its frames go through iptables, ip6tables.
    pub nf_call: [bool; 2],
    /// Of a bridge: the kernel can keep VLANs apart.
    pub vlan_aware: Option<bool>,
    /// Addresses that somebody else has, too.
    pub duplicates: Vec<IpNet>,
}

/// A file of networkd's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkdFile {
    pub path: PathBuf,
    /// This tool wrote it, or would.
    pub ours: bool,
    /// It is a link to /dev/null, or empty.
    pub masked: bool,
    /// Why networkd's user cannot read it.
    pub unreadable: Option<String>,
    pub text: String,
}

/// A namespace: of the configuration, or one that is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each was seen by itself")]
pub struct Namespace {
    pub configured: bool,
    /// A namespace of the name is in /run/netns.
    pub there: bool,
    /// This tool has made it.
    pub ours: bool,
    /// `up` or `down` is at work on it.
    pub busy: bool,
    /// It has services.
    pub services: bool,
    /// Its services have a resolv.conf of their own.
    pub own_resolv_conf: bool,
    pub interfaces: BTreeMap<String, Interface>,
    /// Parameters inside.
    pub parameters: BTreeMap<String, String>,
    /// It has routing rules by firewall mark or incoming link.
    pub marks: bool,
    /// Services that have processes inside without being bound to it.
    pub unbound: BTreeSet<String>,
}

/// A link inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Interface {
    pub kind: String,
    pub mtu: Option<u32>,
    pub host_end: Option<String>,
    pub bridge: Option<String>,
    pub addresses: BTreeSet<IpNet>,
    /// It has a default route by IPv4, by IPv6.
    pub gateways: [bool; 2],
    pub duplicates: Vec<IpNet>,
}

/// /run/netns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunNetns {
    /// What is mounted there shows in other mount namespaces; none where nothing is.
    pub shared: Option<bool>,
    /// What is there, by name.
    pub entries: BTreeMap<String, Entry>,
}

/// An entry of /run/netns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    pub is_netns: bool,
    /// Nobody's: neither a process nor a link but `lo` is in it. None if that was not seen.
    pub is_empty: Option<bool>,
}

/// A chain that drops by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Chain {
    /// `ip`, `ip6`, `inet`, `bridge`.
    pub family: String,
    /// `table ip filter, chain FORWARD`.
    pub name: String,
    /// Its rules, with those of chains that admins are told to use.
    pub rules: String,
}

/// A stanza of ifupdown's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Stanza {
    pub file: String,
    pub line: usize,
    pub link: String,
}

/// A process in a namespace that has lost its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Left {
    pub pid: u32,
    pub command: String,
    pub unit: Option<String>,
    /// What the namespace was called.
    pub netns: Option<NetnsName>,
}

/// A table of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fill {
    /// Of which namespace; none for the host's own.
    pub netns: Option<NetnsName>,
    /// The parameter that limits it.
    pub parameter: String,
    pub used: u64,
    pub limit: u64,
}

/// What `status` has to say beside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Status {
    pub differences: usize,
    pub pending: usize,
    pub warnings: usize,
    /// What is wrong with the configuration.
    pub configuration: Option<String>,
    /// Why there is no status.
    pub failure: Option<String>,
}
