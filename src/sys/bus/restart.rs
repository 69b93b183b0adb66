//! Several units restarted at once, and whom that takes along.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};
use zbus::{OwnedObjectPath, OwnedVariant, Variant, fdo};

use super::{ANSWER, Bus, JOB, SystemdProxy, check, next, subscribe};
use crate::error::Failures;

/// The units on whose account systemd restarts another one with them (`UNIT_ATOM_PROPAGATE_STOP`).
const TAKE_ALONG: [&str; 5] = ["BoundBy", "RequiredBy", "RequisiteOf", "ConsistsOf", "PropagatesStopTo"];
/// The units on whose account one with `StopWhenUnneeded=` stays (`UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED`).
const NEED: [&str; 5] = ["BoundBy", "RequiredBy", "RequisiteOf", "WantedBy", "UpheldBy"];

/// Units that run.
#[derive(Debug, Default)]
struct Along {
    all: BTreeSet<String>,
    /// Services of sockets among them, which systemd does not restart with the socket; and a socket whose service runs, it does
    /// not start.
    by_socket: BTreeSet<String>,
}

impl Bus {
    /// Lists the running units that are restarted when some are: those themselves, and what depends on them.
    pub fn restarted_with(&self, units: &[String]) -> Result<BTreeSet<String>> {
        Ok(self.along(units)?.all)
    }

    /// Lists the units on whose account a unit does not stop as unneeded: those of them that run.
    pub fn needed_by(&self, unit: &str) -> Result<BTreeSet<String>> {
        self.call(ANSWER, &format!("ask for the units that need {unit}"), async {
            let mut needed_by = BTreeSet::new();
            for (_, path) in self.list_running(&[unit.to_owned()]).await? {
                needed_by.extend(self.related(&path, &NEED).await?);
            }
            let listed = self.list_running(&needed_by.into_iter().collect::<Vec<_>>()).await?;
            Ok(listed.into_keys().collect())
        })
    }

    /// Lists those of some units that run.
    pub fn running(&self, units: &[String]) -> Result<BTreeSet<String>> {
        Ok(self.call(ANSWER, "list units", self.list_running(units))?.into_keys().collect())
    }

    /// Lists those of some units that run although their file has gone: systemd does with them no more than it is told.
    pub fn without_file(&self, units: &[String]) -> Result<BTreeSet<String>> {
        let names: Vec<&str> = units.iter().map(String::as_str).collect();
        let list = async { SystemdProxy::new(&self.connection).await?.list_units_by_names(&names).await };
        let listed = if names.is_empty() { Vec::new() } else { self.call(ANSWER, "list units", list)? };
        Ok(listed.into_iter().filter(|unit| unit.2 != "loaded").map(|unit| unit.0).collect())
    }

    /// Restarts those of some units that run, and what depends on them, and waits until all have started again.
    ///
    /// In one call (they are marked first), so that systemd has the jobs of all before the first begins. One after the other, a
    /// service would start before its socket has moved, and then the socket would not start at all.
    pub fn restart(&self, units: &[String]) -> Result<BTreeSet<String>> {
        let Along { all, by_socket } = self.along(units)?;
        let marked: Vec<&String> = units.iter().filter(|unit| all.contains(*unit)).chain(&by_socket).collect();
        let what = format!("restart {}", marked.iter().map(|unit| unit.as_str()).collect::<Vec<_>>().join(" "));
        let (queued, results, running) = self.call(JOB, &what, async {
            let systemd = SystemdProxy::new(&self.connection).await?;
            subscribe(&systemd).await?;
            let mut removed = systemd.receive_job_removed().await?;
            for unit in &marked {
                systemd.set_unit_properties(unit, true, &[("Markers", Variant::from(vec!["needs-restart"]))]).await?;
            }
            let queued = systemd.enqueue_marked_jobs().await;
            let mut results = BTreeMap::new();
            while systemd.list_jobs().await?.iter().any(|job| all.contains(&job.1)) {
                let Some(signal) = next(&mut removed).await else { break };
                let args = signal.args()?;
                results.insert(args.unit.clone(), args.result.clone());
            }
            let running = self.list_running(&all.iter().cloned().collect::<Vec<_>>()).await?;
            Ok((queued, results, running))
        })?;
        let mut failures = Failures::default();
        for unit in &all {
            match results.get(unit) {
                Some(result) => failures.add(check(unit, "restart", result)),
                None if running.contains_key(unit) => {}
                None => failures.add(check(unit, "restart", "stopped")),
            }
        }
        if let Err(error) = queued {
            failures.add(Err(anyhow!(error).context(format!("failed to {what}"))));
        }
        failures.result()?;
        Ok(all)
    }

    fn along(&self, units: &[String]) -> Result<Along> {
        self.call(ANSWER, &format!("ask for the units that depend on {}", units.join(" ")), async {
            let mut along = Along::default();
            let mut news = units.to_vec();
            while !news.is_empty() {
                let mut found = BTreeSet::new();
                for (unit, path) in self.list_running(&news).await? {
                    found.extend(self.related(&path, &TAKE_ALONG).await?);
                    if unit.ends_with(".socket") {
                        let services = self.related(&path, &["Triggers"]).await?;
                        let services: Vec<String> = services.into_iter().filter(|unit| unit.ends_with(".service")).collect();
                        along.by_socket.extend(self.list_running(&services).await?.into_keys());
                        found.extend(services);
                    }
                    along.all.insert(unit);
                }
                news = found.into_iter().filter(|unit| !along.all.contains(unit)).collect();
            }
            Ok(along)
        })
    }

    /// Gives those of some units that run, with their object paths.
    async fn list_running(&self, units: &[String]) -> zbus::Result<BTreeMap<String, OwnedObjectPath>> {
        if units.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: Vec<&str> = units.iter().map(String::as_str).collect();
        let listed = SystemdProxy::new(&self.connection).await?.list_units_by_names(&names).await?;
        let runs = |state: &str| !matches!(state, "inactive" | "failed");
        Ok(listed.into_iter().filter(|unit| runs(&unit.3)).map(|unit| (unit.0, unit.6)).collect())
    }

    /// Lists the units that some properties of a unit name.
    async fn related(&self, path: &OwnedObjectPath, properties: &[&str]) -> zbus::Result<Vec<String>> {
        let builder = fdo::PropertiesProxy::builder(&self.connection).destination("org.freedesktop.systemd1");
        let proxy = builder.path(path.as_ref()).build().await?;
        let mut units = Vec::new();
        for property in properties {
            match proxy.get("org.freedesktop.systemd1.Unit".try_into()?, property).await {
                Ok(value) => units.extend(list(value)),
                // of a later systemd
                Err(fdo::Error::UnknownProperty(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(units)
    }
}

fn list(value: OwnedVariant) -> Vec<String> {
    Vec::<String>::try_from(value).unwrap_or_default()
}
