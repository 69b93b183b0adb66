//! What `list` says: a line for each namespace. Its JSON is docs/schema/list.json.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AddressState, NetnsState, Origin, Report};
use crate::model::{LinkName, NetnsName};

/// All namespaces, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// As of [`Report`]: of the whole host.
    pub ok: bool,
    pub namespaces: Vec<ListEntry>,
}

/// A namespace in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    pub name: NetnsName,
    pub configured: bool,
    pub state: NetnsState,
    pub changed_since_sync: Option<bool>,
    /// How much of it differs.
    pub differences: usize,
    pub pending: usize,
    /// None where systemd could not be asked.
    pub units_running: Option<usize>,
    pub units: usize,
    /// The bridges and links of the host that its interfaces are on.
    pub on: Vec<LinkName>,
    /// Those that it has, or will have; link-local ones are left out.
    pub addresses: Vec<IpNet>,
}

impl Report {
    /// Makes the short form.
    #[must_use]
    pub fn list(&self) -> List {
        let namespaces = self.namespaces.iter().map(|netns| {
            let of = |name: Option<&NetnsName>| name == Some(&netns.name);
            let services = || netns.units.iter().filter(|unit| !unit.name.contains("@.") && !unit.name.starts_with("netns-"));
            let addresses = netns.interfaces.iter().flat_map(|interface| &interface.addresses);
            let shown = addresses.filter(|address| address.origin != Origin::LinkLocal && address.state != AddressState::Duplicate);
            ListEntry {
                name: netns.name.clone(),
                configured: netns.configured,
                state: netns.state,
                changed_since_sync: netns.changed_since_sync,
                differences: self.drift.iter().filter(|drift| of(drift.netns.as_ref())).count(),
                pending: self.pending.iter().filter(|waiting| of(waiting.netns.as_ref())).count(),
                units_running: services()
                    .map(|unit| unit.active_state.as_deref().map(|state| usize::from(state == "active" || state == "reloading")))
                    .sum(),
                units: services().count(),
                on: netns
                    .interfaces
                    .iter()
                    .flat_map(|i| i.bridge.iter().chain(&i.parent))
                    .cloned()
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                addresses: shown.map(|address| address.address).collect(),
            }
        });
        List { ok: self.ok, namespaces: namespaces.collect() }
    }
}
