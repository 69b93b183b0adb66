//! A network namespace and the links in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Address, Dad, LinkName, Mac, Route};

/// What is in one network namespace. It is also the record that `sync` stores and `up` reads.
///
/// A value of `None` means: nothing is asked for. What is observed has no `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Netns {
    /// Where in the configuration this comes from, for messages: `/etc/netns-networkd/mail.toml:1`. Never left out, so that an
    /// empty record is no record.
    pub source: String,
    /// Kernel parameters below `/proc/sys`, with dots: `net.ipv6.conf.default.accept_ra = "0"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// The links by their names inside, loopback left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<LinkName, Link>,
}

/// A veth pair: the end inside, and the end on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    /// Both ends are up. Always desired, so it is not in the record.
    #[serde(skip, default = "yes")]
    pub up: bool,
    /// Ethernet address of the end inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Of both ends, in bytes; the bridge's when not asked for.
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
    pub host_end: HostEnd,
}

fn yes() -> bool {
    true
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
}
