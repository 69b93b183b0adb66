//! Whom changes concern: services in namespaces that nothing binds them to, and units that a restart takes along.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;

use super::{netns, sync::Run};
use crate::{
    model::{NetnsName, Place, State, Unit, UnitName},
    plan::{Pending, Plan, Restart, Step, Why},
    sys::{
        bus::LoadedUnit,
        occupants::{Occupant, Occupants, is_own},
    },
};

impl Run<'_> {
    /// Finds the services that run in namespaces and keep none up, for systemd has lost what bound them. There is no place that a
    /// restart would put them in.
    pub(super) fn find_strays(
        &mut self,
        occupants: &BTreeMap<NetnsName, Occupants>,
        loaded: &HashMap<UnitName, LoadedUnit>,
        observed: &mut State,
        desired: &mut State,
    ) -> Result<()> {
        for (netns, occupants) in occupants {
            let unit = format!("netns@{netns}.service");
            let mut needed_by = None;
            for name in occupants.services.keys().filter_map(|service| UnitName::parse(service).ok()) {
                let Some(service) = loaded.get(&name).filter(|_| desired.units.get(&name).is_none_or(|unit| unit.bound_to.is_none()))
                else {
                    continue;
                };
                if service.load_state == "loaded" {
                    // it may need it in another way
                    let needed_by = match &mut needed_by {
                        Some(units) => units,
                        None => needed_by.insert(self.bus()?.needed_by(&unit)?),
                    };
                    if service.binds_to.contains(&unit) || needed_by.contains(name.as_str()) || desired.units.contains_key(&name) {
                        continue;
                    }
                }
                let stray = Unit { runs_in: Some(Place::Netns(netns.clone())), ..Unit::default() };
                desired.units.insert(name.clone(), Unit { runs_in: None, ..stray.clone() });
                observed.units.insert(name, stray);
            }
        }
        Ok(())
    }

    /// Lists the namespaces that are left although systemd has stopped them, with nobody in them.
    pub(super) fn left(&mut self, running: &[NetnsName], occupants: &BTreeMap<NetnsName, Occupants>) -> Result<BTreeSet<NetnsName>> {
        let mut left: BTreeSet<NetnsName> = running.iter().filter(|name| !occupants.contains_key(name)).cloned().collect();
        if !left.is_empty() {
            let unit = |name: &NetnsName| format!("netns@{name}.service");
            let run = self.bus()?.running(&left.iter().map(unit).collect::<Vec<_>>())?;
            left.retain(|name| !run.contains(&unit(name)));
        }
        // or systemd has just stopped it, and nothing is left
        let mut there = BTreeSet::new();
        for name in left {
            if netns::read_applied(&name)?.is_some() {
                there.insert(name);
            }
        }
        Ok(there)
    }

    /// Fills in whom changes, restarts and waits concern.
    pub(super) fn name_users(&mut self, plan: &mut Plan, occupants: &BTreeMap<NetnsName, Occupants>) -> Result<()> {
        let inside = |name: &NetnsName| -> BTreeSet<String> {
            let Some(Occupants { services, others, holders: _ }) = occupants.get(name) else { return BTreeSet::new() };
            let others = others.iter().map(|(pid, Occupant { command, .. })| format!("{command} (PID {pid})"));
            services.keys().cloned().chain(others).collect()
        };
        for step in &plan.steps {
            if let Step::Converge(name) = step {
                plan.users.insert(name.clone(), inside(name));
            }
        }
        if !self.has_bus() {
            return Ok(());
        }
        let done = plan.steps.iter_mut().filter_map(|step| if let Step::Restart(restarts) = step { Some(restarts) } else { None });
        let waiting =
            plan.pending.iter_mut().filter_map(|pending| if let Pending::Restart(restart) = pending { Some(restart) } else { None });
        for Restart { why, with, cut_off } in done.flatten().chain(waiting) {
            let unit = why.unit();
            let mut all = self.bus()?.restarted_with(std::slice::from_ref(&unit))?;
            if let Why::Netns { name, .. } = why {
                cut_off.extend(inside(name).difference(&all).cloned());
            }
            all.retain(|other| *other != unit && !is_own(other));
            *with = all;
        }
        for pending in &mut plan.pending {
            if let Pending::Retired { name, users } = pending {
                users.extend(self.bus()?.needed_by(&format!("netns@{name}.service"))?.into_iter().filter(|unit| !is_own(unit)));
                users.extend(inside(name));
            }
        }
        Ok(())
    }
}
