//! What the kernel shows of links beyond what is compared: also those of others, and in which state each address is.

use serde::{Deserialize, Serialize};

use super::{Address, Mac, Port, Route};

/// Everything that was seen in one network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub links: Vec<SeenLink>,
    /// Routes without a link: those that refuse packets.
    pub routes: Vec<SeenRoute>,
}

/// A link, whoever made it. Names are the kernel's: what others make may be called anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLink {
    pub name: String,
    /// `veth`, `bridge`, …; none for hardware.
    pub kind: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// The other side of the cable, or of the pair, is up too.
    pub carrier: bool,
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// As a bridge port: lets frames through.
    pub forwards: Option<bool>,
    /// As a bridge port: its settings, with its VLANs where its bridge keeps them apart.
    pub port: Port,
    /// The link in the same namespace that it stands on.
    pub parent: Option<String>,
    pub addresses: Vec<SeenAddress>,
    pub routes: Vec<SeenRoute>,
}

/// An address and what the kernel says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAddress {
    pub address: Address,
    /// Duplicate detection has not ended.
    pub tentative: bool,
    /// Somebody else has it.
    pub duplicate: bool,
    /// It ends by itself, unless somebody gives it more time.
    pub for_a_time: bool,
    pub maker: Maker,
}

/// A route and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRoute {
    pub route: Route,
    pub maker: Maker,
}

/// Who added an address or a route, as far as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// This tool, by its mark (`PROTOCOL` in sys/netlink).
    Ours,
    /// The kernel by itself: loopback and link-local addresses.
    Kernel,
    /// A router advertisement.
    Router,
    /// A DHCP client.
    Dhcp,
    /// Somebody configured it: `ip route`, networkd.
    Admin,
    /// Nobody that the kernel knows of: a service, a routing daemon.
    Other,
}
