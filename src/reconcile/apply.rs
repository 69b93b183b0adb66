//! The steps of a plan, done.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use super::{
    dhcp, host, netns,
    sync::{Done, Event, Run, Situation},
};
use crate::{
    derive::sha256,
    desired::{DHCP, NETNS_ETC, RESOLV_CONF, SYSTEMD, etc_path, is_drop_in_of, networkd_path, record_of},
    diff::{Change, NetnsChange},
    error::Failures,
    model::{LinkName, NetnsName, UnitName},
    plan::{Pending, Plan, Step},
    sys::{
        fs::{self, Root, Staged},
        netlink::{self, Socket},
        occupants::is_own,
    },
};

/// How long systemd may take to stop a namespace that nobody needs any more.
const UNNEEDED_WAIT: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Executes a plan. Until the first file is renamed into place, a failure leaves everything as it was.
    pub(super) fn apply(&mut self, plan: &Plan, situation: &Situation) -> Result<()> {
        let root = self.options.root.clone();
        let live = root.is_host();
        let needs_bus = |step: &Step| {
            let kernel =
                matches!(step, Step::GiveUp(..) | Step::Converge(_) | Step::SetLink(_) | Step::RemoveBridge(_) | Step::ReleasePort { .. });
            !kernel && !matches!(step, Step::WriteFile { .. } | Step::RemoveFile { .. })
        };
        if live && plan.steps.iter().any(needs_bus) {
            let networkd = plan.steps.contains(&Step::ReloadNetworkd);
            let unchanged = if self.done > Done::Nothing { "" } else { "; nothing was changed" };
            let bus = self.bus()?;
            if networkd && !bus.networkd_runs()? {
                return Err(anyhow!("systemd-networkd does not run, and this change needs it{unchanged}"))
                    .context("hint: `systemctl enable --now systemd-networkd`, then run sync again");
            }
        }

        let before = self.manifest.clone();
        let mut staged = Staged::default();
        let prepare = |run: &mut Self, staged: &mut Staged| -> Result<()> {
            if before.unfinished {
                // a run was cut off
                run.manifest.files.keys().try_for_each(|path| fs::remove_leftover(&root.at(path)))?;
            }
            for step in &plan.steps {
                if let Step::WriteFile { path, content } = step {
                    run.manifest.files.entry(path.clone()).or_default().insert(sha256(content));
                }
            }
            run.manifest.unfinished = true;
            run.manifest.write(&root)?;
            for step in &plan.steps {
                if let Step::WriteFile { path, content } = step {
                    staged.add(&root.at(path), content)?;
                }
            }
            Ok(())
        };
        if let Err(error) = prepare(self, &mut staged) {
            drop(staged);
            // what cannot be written now was not written above either; an unfinished manifest does no harm
            let _ = before.write(&root);
            self.manifest = before;
            return if self.done > Done::Nothing { Err(error) } else { Err(error).context("hint: nothing was changed") };
        }
        self.done = self.done.max(Done::Something);

        let describe: BTreeMap<&PathBuf, &Change> = plan
            .changes
            .iter()
            .filter_map(|c| if let Change::WriteFile { path, .. } | Change::RemoveFile { path, .. } = c { Some((path, c)) } else { None })
            .collect();
        for change in plan.changes.iter().filter(|_| live) {
            if let Change::Unit { name, before, after } = change
                && let Some(place) = before.runs_in.as_ref().filter(|_| name.is_socket() && before.bound_to != after.bound_to)
            {
                host::note_place(name, place)?;
            }
        }
        for step in &plan.steps {
            match step {
                // running services have these mounted
                Step::WriteFile { path, .. } if path.starts_with(NETNS_ETC) => staged.commit_in_place(&root.at(path))?,
                Step::WriteFile { path, .. } => staged.commit(&root.at(path))?,
                Step::RemoveFile { path } => remove_file(&root, path)?,
                _ if !live => continue,
                Step::GiveUp(name, gives) => {
                    self.say_of(name, netns::give_up(name, gives)?);
                    continue;
                }
                Step::Converge(name) => {
                    self.converge(name, situation)?;
                    continue;
                }
                Step::SetLink(name) => {
                    if let (Some(before), Some(after)) = (situation.observed.links.get(name), situation.desired.links.get(name)) {
                        if before.master != after.master && self.taken_by(name)?.is_some() {
                            // networkd would take it from the bridge again; it is named in the end
                            continue;
                        }
                        netlink::set_host_link(&mut Socket::open()?, name, before, after)?;
                    }
                }
                _ => self.command(step, &mut staged)?,
            }
            let line = match step {
                Step::WriteFile { path, .. } | Step::RemoveFile { path } => describe.get(path).map(ToString::to_string),
                Step::Hold(_) | Step::Release(_) | Step::Restart(_) => None,
                Step::SetLink(name) if plan.steps.contains(&Step::Reconfigure(name.clone())) => None,
                Step::SetLink(name) | Step::Reconfigure(name) => {
                    let of_link = |c: &&Change| matches!(c, Change::HostLink { name: changed, .. } if changed == name);
                    Some(plan.changes.iter().find(of_link).map_or_else(|| step.to_string(), ToString::to_string))
                }
                other => Some(other.to_string()),
            };
            line.into_iter().for_each(|line| self.say(line));
        }
        staged.finish()?;
        // nobody can start them any more
        let gone = plan.steps.iter().filter_map(|step| if let Step::RemoveFile { path } = step { record_of(path) } else { None });
        for name in gone.filter(|_| live) {
            let bus = self.bus()?;
            for unit in ["netns", "netns-online", "netns-dhcp", "netns-hold"] {
                bus.forget_failure(&format!("{unit}@{name}.service"));
            }
        }
        let by_dhcp = situation.desired.clients.keys().filter(|name| plan_is_about_dns(plan, name));
        by_dhcp.cloned().try_for_each(|name| dhcp::write_resolv_conf(&name))?;
        self.finish_manifest(plan, situation, before.unfinished)
    }

    /// Does a step that goes to one of the daemons.
    pub(super) fn command(&mut self, step: &Step, staged: &mut Staged) -> Result<()> {
        let marker = |name: &NetnsName| Path::new(host::HELD).join(name.as_str());
        match step {
            Step::ReloadNetworkd => {
                staged.finish()?;
                self.bus()?.reload_networkd()
            }
            Step::ReloadSystemd => {
                staged.finish()?;
                self.bus()?.reload_systemd()
            }
            Step::Reconfigure(name) => match netlink::link_by_name(&mut Socket::open()?, name.as_str())? {
                Some(link) => self.bus()?.reconfigure_link(name, link.index),
                None => Ok(()),
            },
            Step::Hold(name) => {
                fs::mark(&marker(name))?;
                self.bus()?.start(&format!("netns-hold@{name}.service"))
            }
            Step::Release(name) => {
                let (hold, retired) = (format!("netns-hold@{name}.service"), !self.known.contains_key(name));
                if retired {
                    // A run that was cut off may have begun to start it. Without its hold it would come up all the same, and find
                    // that its bridge has gone. If it cannot come up, there is nothing to wait for.
                    let _ = self.bus()?.start(&hold);
                }
                self.bus()?.stop(&hold)?;
                fs::remove(&marker(name))?;
                if retired {
                    // systemd stops what nobody needs only after it has answered; then the rest of it can be removed
                    netns::wait_until_down(name, UNNEEDED_WAIT)?;
                }
                Ok(())
            }
            Step::StartClient(name) | Step::RestartClient(name) => self.bus()?.start_again(&format!("netns-dhcp@{name}.service")),
            Step::StopClient(name) => {
                self.bus()?.stop(&format!("netns-dhcp@{name}.service"))?;
                dhcp::remove_resolv_conf(name)
            }
            Step::Restart(restarts) => {
                let units: Vec<String> = restarts.iter().map(|restart| restart.why.unit()).collect();
                let mut failures = Failures::default();
                for (unit, outcome) in self.bus()?.restart(&units)? {
                    if outcome.is_ok() && (!is_own(&unit) || units.contains(&unit)) {
                        self.say(format!("restart {unit}"));
                    }
                    failures.add(outcome);
                }
                failures.result()
            }
            Step::RemoveBridge(name) => {
                let ours = |port: &LinkName| self.manifest.files.contains_key(&networkd_path("uplink", port, "network"));
                let others = netns::remove_bridge(name, ours)?;
                if !others.is_empty() {
                    let text =
                        format!("bridge '{name}' is no longer in the configuration, but stays: it has ports ({})", others.join(", "));
                    (self.tell)(Event::Warning(text));
                }
                Ok(())
            }
            Step::ReleasePort { name, bridge } => netlink::release_port(&mut Socket::open()?, name, bridge),
            Step::WriteFile { .. } | Step::RemoveFile { .. } | Step::GiveUp(..) | Step::Converge(_) | Step::SetLink(_) => Ok(()),
        }
    }

    pub(super) fn converge(&mut self, name: &NetnsName, situation: &Situation) -> Result<()> {
        let Some(wanted) = situation.desired.netns.get(name) else { return Ok(()) };
        let changes = netns::converge(name, wanted.clone(), netns::Reach::Live)?;
        self.say_of(name, changes);
        Ok(())
    }

    fn say_of(&mut self, name: &NetnsName, changes: Vec<NetnsChange>) {
        changes.into_iter().for_each(|change| self.say(Change::Netns { name: name.clone(), change }.to_string()));
    }

    pub(super) fn finish_manifest(&mut self, plan: &Plan, situation: &Situation, was_cut_off: bool) -> Result<()> {
        let pending: Vec<&UnitName> = plan.pending.iter().filter_map(Pending::unit).collect();
        for step in &plan.steps {
            match step {
                Step::WriteFile { path, content } => {
                    self.manifest.files.insert(path.clone(), BTreeSet::from([sha256(content)]));
                }
                // a drop-in whose unit still runs in its old place stays listed, so that the next run knows of it
                Step::RemoveFile { path } if !pending.iter().any(|name| is_drop_in_of(path, name)) => {
                    self.manifest.files.remove(path);
                }
                _ => {}
            }
        }
        if self.options.root.is_host() {
            host::forget_places(&pending)?;
        }
        let root = &self.options.root;
        // after a run that was cut off, a unit whose drop-in has gone may still be where it put it: systemd has only now read that
        let running = |path: &Path| situation.observed.units.iter().any(|(name, unit)| unit.runs_in.is_some() && is_drop_in_of(path, name));
        // a run that was cut off had put the new one in place, or not
        for (path, hashes) in self.manifest.files.iter_mut().filter(|(_, hashes)| hashes.len() > 1) {
            let now = fs::read_text(&root.at(path))?.map(|text| sha256(&text));
            if let Some(now) = now.filter(|now| hashes.contains(now)) {
                *hashes = BTreeSet::from([now]);
            }
        }
        let mut gone = Vec::new();
        self.manifest.files.retain(|path, _| {
            if situation.desired.files.contains_key(path) || fs::exists(&root.at(path)) {
                return true;
            }
            gone.push(path.clone());
            pending.iter().any(|name| is_drop_in_of(path, name)) || (was_cut_off && running(path))
        });
        // a run that was cut off may have made the folder and not the file, or removed the file and not the folder
        gone.iter().try_for_each(|path| remove_own_directory(root, path))?;
        self.manifest.unfinished = false;
        self.manifest.write(root)
    }
}

/// Tells whether a `resolv.conf` was in the place of the leases' own.
fn plan_is_about_dns(plan: &Plan, name: &NetnsName) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::RemoveFile { path } if *path == etc_path(name, RESOLV_CONF)))
}

fn remove_file(root: &Root, path: &Path) -> Result<()> {
    fs::remove(&root.at(path))?;
    if path.starts_with(DHCP) {
        // the leases, which dhcpcd keeps beside its settings
        fs::remove_directory(&root.at(path.with_extension("")))?;
    }
    remove_own_directory(root, path)
}

/// Removes the folder of a file if it was made for files of ours alone and is empty.
fn remove_own_directory(root: &Root, path: &Path) -> Result<()> {
    let own = path.starts_with(SYSTEMD) || path.starts_with(NETNS_ETC);
    path.parent().filter(|_| own).map_or(Ok(()), |parent| fs::remove_empty_directory(&root.at(parent)))
}
