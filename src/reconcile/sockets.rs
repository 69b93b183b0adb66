//! Sockets and the services that they start, one of them in a namespace and the other one not: legal, and seldom meant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;

use super::sync::{Run, Situation};
use crate::{
    config::Config,
    desired::drop_in_path,
    model::{NetnsName, UnitName},
    sys::bus::{LoadedSocket, LoadedUnit},
};

/// What says that a unit is meant to stay on the host; without it, the same is so by default.
const MEANT: &str = "`NetworkNamespacePath=/proc/1/ns/net` there says that this is meant";

impl Run<'_> {
    /// Warns of sockets and services that are separated.
    pub(super) fn separated(&mut self, situation: &Situation) -> Result<Vec<String>> {
        let config = self.config;
        let units: BTreeMap<&UnitName, &LoadedUnit> = situation.loaded.iter().collect();
        let listed = |unit: &UnitName| namespace_of(config, unit);
        let services =
            config.namespaces.values().flat_map(|netns| &netns.services).chain(units.keys().copied().filter(|u| listed(u).is_some()));
        // beside the socket of a service's own name, any other may start it; of those, systemd says which it has loaded
        let mut others: BTreeSet<UnitName> = services.filter_map(UnitName::socket).collect();
        for (name, unit) in units.iter().filter(|(name, _)| listed(name).is_some()) {
            others.extend(unit.triggered_by.iter().filter(|unit| unit.ends_with(".socket")).filter_map(|unit| UnitName::parse(unit).ok()));
            others.extend(unit.socket.iter().flat_map(|socket| socket.services(name)));
        }
        others.retain(|unit| listed(unit).is_none());
        if others.iter().any(UnitName::is_socket) {
            let there = self.bus()?.sockets()?;
            let is_there = |unit: &UnitName| there.contains(unit.as_str());
            others.retain(|unit| !unit.is_socket() || is_there(unit) || unit.template().is_some_and(|template| is_there(&template)));
        }
        let others: Vec<UnitName> = others.into_iter().collect();
        let others = if others.is_empty() { HashMap::new() } else { self.bus()?.units(&others)? };

        // a path of our own goes with our file
        let says_where = |name: &UnitName, unit: &LoadedUnit| {
            !unit.network_namespace_path.is_empty() && !self.manifest.files.contains_key(&drop_in_path(name))
        };

        let mut warnings = Vec::new();
        for (name, unit) in &others {
            let Some(socket) = &unit.socket else { continue };
            let addresses: Vec<&str> = socket.listen.iter().map(String::as_str).filter(|address| !address.starts_with('/')).collect();
            let on_host = !says_where(name, unit) && (unit.running || socket.enabled) && !addresses.is_empty();
            let started = socket.services(name).into_iter().find_map(|service| Some((listed(&service)?, service)));
            if let Some((netns, service)) = started.filter(|_| on_host) {
                warnings.push(format!(
                    "{name} listens on the host ({}) and starts {service} in netns '{netns}': list it under `services` too if it should \
                     listen inside; {MEANT}",
                    addresses.join(", ")
                ));
            }
        }
        for (name, unit) in &units {
            let (Some(netns), Some(socket)) = (listed(name), &unit.socket) else { continue };
            for service in socket.services(name).into_iter().filter(|service| listed(service).is_none()) {
                if others.get(&service).is_none_or(|unit| !says_where(&service, unit)) {
                    warnings.push(format!(
                        "{name} listens in netns '{netns}' and starts {service} on the host: list it under `services` too if it should run \
                         inside; {MEANT}"
                    ));
                }
            }
        }
        Ok(warnings)
    }
}

/// Gives the namespace that a unit, or its template, is listed for.
pub(super) fn namespace_of<'a>(config: &'a Config, unit: &UnitName) -> Option<&'a NetnsName> {
    let find = |unit: &UnitName| config.namespaces.iter().find(|(_, netns)| netns.services.contains(unit)).map(|(name, _)| name);
    find(unit).or_else(|| find(&unit.template()?))
}

impl LoadedSocket {
    /// Lists the services that a socket starts; with `Accept=yes` it starts one of a template for each connection.
    fn services(&self, name: &UnitName) -> Vec<UnitName> {
        if self.accept {
            name.accepted().into_iter().collect()
        } else {
            self.triggers.iter().filter_map(|t| UnitName::parse(t).ok()).collect()
        }
    }
}
