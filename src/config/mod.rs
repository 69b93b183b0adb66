//! The configuration: fragments (TOML files) -> [`Config`], with every fault of all files found in one run.
//!
//! Pure: the files' bytes come from `sys::fs`, nothing here opens, asks or writes.
//!
//! ```text
//! load      which files count (search path, masks)
//!   |       the caller reads them
//! fragment  one file -> tables, each key and value checked for itself (interface, wireguard, entry, rule, sysctl; read, value,
//!   |       keys, syntax)
//! validate  what holds across tables and files (links, routes, ipv6; rule, sysctl, wireguard)
//!   |
//! assemble  tables -> Config           fault  drafts -> Faults, shown with the source line (text)
//! ```

mod assemble;
mod entry;
mod fault;
mod fragment;
mod interface;
mod ipv6;
pub mod keys;
mod links;
pub mod load;
mod read;
mod routes;
mod rule;
mod syntax;
mod sysctl;
mod text;
mod validate;
mod value;
mod wireguard;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

pub use fault::{Fault, Faults, Place};
pub use text::is_hidden;

use crate::model::{LinkName, Mac, Netns, NetnsName, Route, UnitName};

/// One fragment as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// For messages: `/etc/netns-networkd/mail.toml`.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// Turns the fragments, in the order of [`load::select`], into the configuration, or says everything that is wrong with them.
///
/// # Errors
///
/// Every fault of every file; a caller shows them and exits with 2.
pub fn parse(files: &[SourceFile]) -> Result<Config, Faults> {
    let mut drafts = Vec::new();
    let mut tables = fragment::Tables::default();
    let mut texts = Vec::with_capacity(files.len());
    for (file, SourceFile { path, bytes }) in files.iter().enumerate() {
        let (text, valid) = text::Text::new(path, bytes);
        match valid {
            Ok(()) => fragment::read(file, &text, &mut tables, &mut drafts),
            Err(bad) => {
                tables.incomplete = true;
                drafts.push(syntax::not_utf8(file, path, &bad));
            }
        }
        texts.push(text);
    }
    validate::check(&mut tables, &mut drafts);
    if drafts.is_empty() { Ok(assemble::config(tables, &texts)) } else { Err(fault::finish(drafts, &texts)) }
}

/// The whole configuration, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub namespaces: BTreeMap<NetnsName, Namespace>,
    pub bridges: BTreeMap<LinkName, Bridge>,
}

/// `[namespace.NAME]` with its interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    pub description: Option<String>,
    pub services: BTreeSet<UnitName>,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// Path of an nftables ruleset.
    pub nftables: Option<String>,
    /// Interfaces that get addresses by DHCP, too.
    pub dhcp: BTreeMap<LinkName, Dhcp>,
    /// What is inside; gateways are default routes there, MACs and MTUs only where the configuration gives them.
    pub netns: Netns,
}

/// The families of DHCP that an interface uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp {
    Ipv4,
    Ipv6,
    Both,
}

/// `[bridge.NAME]`: a bridge that we tell networkd to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Where the table stands: `/etc/netns-networkd/mail.toml:1`.
    pub source: String,
    pub uplinks: Vec<Uplink>,
    pub addresses: Vec<IpNet>,
    /// Routes of the host by this bridge, its gateways among them.
    pub routes: Vec<Route>,
    pub dns: Vec<IpAddr>,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub stp: Option<bool>,
    pub vlan_filtering: Option<bool>,
    /// The VLAN of frames without a tag where a port says nothing else; 0 is none.
    pub default_pvid: Option<u16>,
}

/// A link that joins a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// A link that exists: `"eno1"`.
    Link(LinkName),
    /// A VLAN that networkd makes on one: `{ vlan = 20, parent = "eno1" }` is the link `eno1.20`.
    Vlan { name: LinkName, parent: LinkName, id: u16 },
}

impl Uplink {
    /// The link that becomes the bridge's port.
    #[must_use]
    pub fn name(&self) -> &LinkName {
        match self {
            Self::Link(name) | Self::Vlan { name, .. } => name,
        }
    }
}
