//! Several units restarted at once, and whom that takes along.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::{Pin, pin},
    task::Poll,
};

use anyhow::{Result, anyhow};
use futures_core::Stream as _;
use zbus::{OwnedObjectPath, OwnedVariant, Variant, fdo};

use super::{Bus, JOB, JobRemoved, JobRemovedStream, SystemdProxy, check, next, subscribe};
use crate::sys::fault;

/// The units on whose account systemd restarts another one with them (`UNIT_ATOM_PROPAGATE_STOP`).
const TAKE_ALONG: [&str; 5] = ["BoundBy", "RequiredBy", "RequisiteOf", "ConsistsOf", "PropagatesStopTo"];
/// The units on whose account one with `StopWhenUnneeded=` stays (`UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED`).
const NEED: [&str; 5] = ["BoundBy", "RequiredBy", "RequisiteOf", "WantedBy", "UpheldBy"];

/// Units that run.
#[derive(Debug, Default)]
struct Along {
    /// Those that were asked for, by the names that systemd gives them: one may have been named by an alias.
    named: BTreeSet<String>,
    all: BTreeSet<String>,
    /// Services of sockets among them, which systemd does not restart with the socket; and a socket whose service runs, it does
    /// not start.
    by_socket: BTreeSet<String>,
}

/// Jobs that have ended: their numbers, and their results by unit.
struct Jobs {
    removed: JobRemovedStream,
    ended: BTreeSet<u32>,
    results: BTreeMap<String, String>,
}

impl Jobs {
    /// Takes note of what ends while systemd is asked something. Nobody else reads the signals, and past some dozens of them
    /// the answer would not come through.
    async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        std::future::poll_fn(|cx| {
            while let Poll::Ready(Some(signal)) = Pin::new(&mut self.removed).poll_next(cx) {
                self.note(&signal);
            }
            call.as_mut().poll(cx)
        })
        .await
    }

    fn note(&mut self, signal: &JobRemoved) {
        if let Ok(args) = signal.args() {
            self.ended.insert(args.id);
            self.results.insert(args.unit.clone(), args.result.clone());
        }
    }
}

impl Bus {
    /// Lists the running units that are restarted when some are: those themselves, and what depends on them.
    pub fn restarted_with(&self, units: &[String]) -> Result<BTreeSet<String>> {
        Ok(self.along(units)?.all)
    }

    /// Lists the units on whose account a unit does not stop as unneeded: those of them that run.
    pub fn needed_by(&self, unit: &str) -> Result<BTreeSet<String>> {
        self.ask(&format!("ask for the units that need {unit}"), async {
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
        Ok(self.ask("list units", self.list_running(units))?.into_keys().collect())
    }

    /// Lists those of some units that run although their file has gone: systemd does with them no more than it is told.
    pub fn without_file(&self, units: &[String]) -> Result<BTreeSet<String>> {
        let names: Vec<&str> = units.iter().map(String::as_str).collect();
        let list = async { SystemdProxy::new(&self.connection).await?.list_units_by_names(&names).await };
        let listed = if names.is_empty() { Vec::new() } else { self.ask("list units", list)? };
        Ok(listed.into_iter().filter(|unit| unit.2 != "loaded").map(|unit| unit.0).collect())
    }

    /// Restarts those of some units that run, and what depends on them, waits until all have started again, and says of each whether
    /// it has.
    ///
    /// In one call (they are marked first), so that systemd has the jobs of all before the first begins. One after the other, a
    /// service would start before its socket has moved, and then the socket would not start at all.
    pub fn restart(&self, units: &[String]) -> Result<Vec<(String, Result<()>)>> {
        let Along { named, all, by_socket } = self.along(units)?;
        let marked: BTreeSet<&String> = named.iter().chain(&by_socket).collect();
        let what = format!("restart {}", marked.iter().map(|unit| unit.as_str()).collect::<Vec<_>>().join(" "));
        let (queued, results, running) = self.call(JOB, &what, async {
            let systemd = SystemdProxy::new(&self.connection).await?;
            subscribe(&systemd).await?;
            let mut jobs = Jobs { removed: systemd.receive_job_removed().await?, ended: BTreeSet::new(), results: BTreeMap::new() };
            for unit in &marked {
                let properties = [("Markers", Variant::from(vec!["needs-restart"]))];
                jobs.during(systemd.set_unit_properties(unit, true, &properties)).await?;
                fault::change(format_args!("mark {unit}"), || std::io::Result::Ok(()))?;
            }
            let queued = jobs.during(systemd.enqueue_marked_jobs()).await;
            fault::change(format_args!("jobs of all"), || std::io::Result::Ok(()))?;
            // what a restart takes along has its jobs from the beginning
            let listed = jobs.during(systemd.list_jobs()).await?;
            let concerned: Vec<u32> = listed.iter().filter(|job| all.contains(&job.1)).map(|job| job.0).collect();
            while !concerned.iter().all(|id| jobs.ended.contains(id)) {
                let Some(signal) = next(&mut jobs.removed).await else { break };
                jobs.note(&signal);
            }
            let running = jobs.during(self.list_running(&all.iter().cloned().collect::<Vec<_>>())).await?;
            Ok((queued, jobs.results, running))
        })?;
        let outcome = |unit: &String| match results.get(unit) {
            Some(result) => check(unit, "restart", result),
            None if running.contains_key(unit) => Ok(()),
            None => check(unit, "restart", "stopped"),
        };
        let mut outcomes: Vec<_> = all.iter().map(|unit| (unit.clone(), outcome(unit))).collect();
        outcomes.extend(queued.err().map(|error| (what.clone(), Err(anyhow!(error).context(format!("failed to {what}"))))));
        Ok(outcomes)
    }

    fn along(&self, units: &[String]) -> Result<Along> {
        self.ask(&format!("ask for the units that depend on {}", units.join(" ")), async {
            let mut along = Along::default();
            let mut news = units.to_vec();
            while !news.is_empty() {
                let mut found = BTreeSet::new();
                let listed = self.list_running(&news).await?;
                if along.named.is_empty() {
                    along.named.extend(listed.keys().cloned());
                }
                // what is in a scope somebody has started: systemd cannot start it again
                for (unit, path) in listed.into_iter().filter(|(unit, _)| unit.rsplit('.').next() != Some("scope")) {
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
