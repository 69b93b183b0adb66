//! `doctor`: what breaks hosts with namespaces, found in facts. Pure: reconcile/doctor/ looks at the host, the checks here read
//! [`Facts`] and give [`Finding`]s, show/doctor.rs prints them.
//!
//! A check says nothing of what was not seen, and nothing on a host that is well.

mod facts;
mod kernel;
mod links;
mod managers;
mod netns;
mod networkd;
mod packets;
mod settings;
mod units;

use serde::{Deserialize, Serialize};

pub use facts::{
    Chain, Entry, Facts, Fill, Interface, Left, Link, Namespace, NetworkdFile, Role, RunNetns, Stanza, Status, Unit, UnitFile,
};
pub use settings::{Setting, denied_links, settings, stanzas, unmanaged_devices};

use crate::model::NetnsName;

/// What `doctor` says of a host. docs/schema/doctor.json describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Nothing was found.
    pub ok: bool,
    /// How many checks there are.
    pub checks: usize,
    pub findings: Vec<Finding>,
    pub not_seen: Vec<String>,
}

/// Something that is wrong, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the check; docs/commands.md has them all.
    pub check: String,
    pub severity: Severity,
    /// The namespace, if it is about one alone.
    pub netns: Option<NetnsName>,
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// The command or change that mends it.
    pub remedy: String,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something does not work.
    Fault,
    /// Something may stop to work: at the next boot, with the next change, under load.
    Risk,
}

/// A check: facts in, findings out.
type Check = fn(&Facts) -> Vec<Finding>;

/// Every check by its name, in the order of a person's search: who manages, namespaces, units, links, packets, kernel.
pub const CHECKS: [(&str, Check); 36] = [
    ("networkd-down", networkd::down),
    ("networkd-not-enabled", networkd::not_enabled),
    ("foreign-network-file", networkd::foreign_file),
    ("unmanaged-link", networkd::unmanaged),
    ("port-outside-its-bridge", networkd::outside),
    ("unreadable-file", networkd::unreadable),
    ("masked-file", networkd::masked),
    ("wait-online", networkd::wait_online),
    ("network-manager", managers::network_manager),
    ("ifupdown", managers::ifupdown),
    ("other-dhcp-client", managers::dhcp_clients),
    ("private-run-netns", netns::private_directory),
    ("hidden-netns", netns::hidden),
    ("lost-netns", netns::lost),
    ("foreign-netns", netns::foreign),
    ("stale-netns-file", netns::stale),
    ("leaked-netns", netns::leaked),
    ("left-processes", netns::left_processes),
    ("netns-limit", netns::limit),
    ("failed-unit", units::failed),
    ("replaced-unit", units::replaced),
    ("missing-after", units::missing_after),
    ("overridden-setting", units::overridden),
    ("unbound-service", units::unbound),
    ("loopback-resolver", units::resolver),
    ("uplink", links::uplink),
    ("bridge-mac", links::mac),
    ("mtu", links::mtu),
    ("spanning-tree", links::spanning_tree),
    ("duplicate-address", links::duplicates),
    ("bridge-firewall", packets::bridge_firewall),
    ("forwarding", packets::forwarding),
    ("reverse-path-filter", packets::reverse_path),
    ("full-table", packets::full_tables),
    ("kernel", kernel::features),
    ("status", kernel::status),
];

/// Runs every check: faults first, then in the order of the checks.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let named = |(name, check): &(&str, Check)| {
        let findings = check(facts).into_iter();
        findings.map(|finding| Finding { check: (*name).to_owned(), ..finding }).collect::<Vec<_>>()
    };
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(named).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Runs the checks of what networkd makes of links.
#[must_use]
pub fn view_of_networkd(facts: &Facts) -> Vec<Finding> {
    let checks: [Check; 5] = [networkd::down, networkd::masked, networkd::unreadable, networkd::foreign_file, networkd::unmanaged];
    checks.iter().flat_map(|check| check(facts)).collect()
}

impl Finding {
    fn new(severity: Severity, found: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check: String::new(), severity, netns: None, found: found.into(), why: why.into(), remedy: remedy.into() }
    }

    fn fault(found: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Fault, found, why, remedy)
    }

    fn risk(found: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Severity::Risk, found, why, remedy)
    }

    fn of(self, netns: &NetnsName) -> Self {
        Self { netns: Some(netns.clone()), ..self }
    }
}

/// `link 'a'`, `links 'a' and 'b'`, `links 'a', 'b', 'c' and 97 more`.
fn names<'a>(one: &str, many: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 6;
    let names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
    let word = if names.len() == 1 { one } else { many };
    let list = match names.as_slice() {
        [] => String::new(),
        [all @ .., last] if !all.is_empty() && names.len() <= SHOWN => format!("{} and {last}", all.join(", ")),
        [only] => only.clone(),
        _ => format!("{} and {} more", names[..SHOWN - 1].join(", "), names.len() - (SHOWN - 1)),
    };
    format!("{word} {list}")
}
