//! D-Bus: systemd's manager and networkd's. Connected when needed; every call has a deadline.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use tokio::{runtime::Runtime, task::JoinHandle};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, fdo, proxy};

use super::{fault, terminal::Waiting};
use crate::model::{LinkName, NetnsName, UnitName};
pub use memory::Memory;
use memory::{Known, Stamp};

mod memory;
mod restart;

/// For a question: both daemons answer at once, but may be busy loading units.
const ANSWER: Duration = Duration::from_secs(25);
/// For a reload or a job: `DefaultTimeoutStartSec=` is 90 s.
const JOB: Duration = Duration::from_secs(120);
/// How long to repeat a networkd reload that another one is in the way of.
const ALREADY_RELOADING: Duration = Duration::from_secs(20);

const NETWORKD: &str = "org.freedesktop.network1";

/// A unit as `ListUnitsByNames` gives it: name, description, load state, active state, sub state, followed unit, path, job.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A job as `ListJobs` gives it: number, unit, type, state, path, the unit's path.
type ListedJob = (u32, String, String, String, OwnedObjectPath, OwnedObjectPath);

/// org.freedesktop.systemd1(5).
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Systemd {
    /// `Reload()`: answers when the reload is over.
    fn reload(&self) -> zbus::Result<()>;
    /// `Subscribe()`: without it no signals are sent.
    fn subscribe(&self) -> zbus::Result<()>;
    /// `StartUnit(in s name, in s mode, out o job)`.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// `StopUnit(in s name, in s mode, out o job)`.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// `SetUnitProperties(in s name, in b runtime, in a(sv) properties)`.
    fn set_unit_properties(&self, name: &str, runtime: bool, properties: &[(&str, Variant<'_>)]) -> zbus::Result<()>;
    /// `EnqueueMarkedJobs(out ao jobs)`: restarts the units that are marked, systemd 248 and later.
    fn enqueue_marked_jobs(&self) -> zbus::Result<Vec<OwnedObjectPath>>;
    /// `ListJobs(out a(usssoo) jobs)`.
    fn list_jobs(&self) -> zbus::Result<Vec<ListedJob>>;
    /// `StartTransientUnit(in s name, in s mode, in a(sv) properties, in a(sa(sv)) aux, out o job)`: a unit without a file.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    /// `RestartUnit(in s name, in s mode, out o job)`: starts it if it does not run.
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// `ListUnitsByNames(in as names, out a(ssssssouso) units)`: loads those that are not loaded.
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    /// `RefUnit(in s name)`: keeps it loaded as long as this connection lasts.
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    /// `UnrefUnit(in s name)`.
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    /// `ResetFailedUnit(in s name)`.
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    /// `ListUnitsByPatterns(in as states, in as patterns, out a(ssssssouso) units)`: those that are loaded.
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
    /// `ListUnitFilesByPatterns(in as states, in as patterns, out a(ss) files)`: paths and states of those that have a file.
    fn list_unit_files_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<(String, String)>>;
    /// `JobRemoved(u id, o job, s unit, s result)`.
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

/// org.freedesktop.network1(5).
#[proxy(
    interface = "org.freedesktop.network1.Manager",
    default_service = "org.freedesktop.network1",
    default_path = "/org/freedesktop/network1"
)]
trait Networkd {
    /// `Reload()`.
    fn reload(&self) -> zbus::Result<()>;
    /// `GetLinkByName(in s name, out i ifindex, out o path)`.
    fn get_link_by_name(&self, name: &str) -> zbus::Result<(i32, OwnedObjectPath)>;
    /// `ReconfigureLink(in i ifindex)`.
    fn reconfigure_link(&self, index: i32) -> zbus::Result<()>;
}

/// One link of networkd.
#[proxy(interface = "org.freedesktop.network1.Link", default_service = "org.freedesktop.network1")]
trait NetworkdLink {
    /// `Describe(out s json)`, networkd 249 and later.
    fn describe(&self) -> zbus::Result<String>;
}

/// A unit as systemd has it loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedUnit {
    /// Its own name, where it was asked for by an alias.
    pub id: String,
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `activating`, `failed`, …
    pub active_state: String,
    /// `running`, `exited`, `auto-restart`, …
    pub sub_state: String,
    /// It runs, or is about to, or is stopping.
    pub running: bool,
    pub binds_to: Vec<String>,
    pub after: Vec<String>,
    pub before: Vec<String>,
    pub triggered_by: Vec<String>,
    pub joins_namespace_of: Vec<String>,
    pub network_namespace_path: String,
    pub main_pid: Option<u32>,
    /// Path of its control group, below the cgroup file system.
    pub control_group: String,
    /// When it last became active, microseconds since 1970.
    pub active_since: u64,
    pub socket: Option<LoadedSocket>,
}

/// The unit that makes a namespace, `netns@NAME.service`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetnsUnit {
    /// `active`, `activating`, `failed`, …
    pub active_state: String,
    /// The units that are bound to it, or require it.
    pub bound_by: Vec<String>,
}

/// What a unit's files make of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// `enabled`, `disabled`, `masked`, …
    pub state: String,
    /// The unit's file and its drop-ins, in the order in which they count.
    pub paths: Vec<String>,
    pub binds_to: Vec<String>,
    pub after: Vec<String>,
    pub network_namespace_path: String,
}

/// What only a socket unit has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedSocket {
    /// `0.0.0.0:80`, `/run/a.sock`, `@abstract`.
    pub listen: Vec<String>,
    /// It starts a service for each connection.
    pub accept: bool,
    /// The services that it starts; none with `accept`.
    pub triggers: Vec<String>,
    /// It is started at boot.
    pub enabled: bool,
}

/// The system bus.
pub struct Bus {
    runtime: Runtime,
    connection: Connection,
}

impl Bus {
    /// Connects to the system bus.
    pub fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the D-Bus runtime")?;
        let connection = runtime
            .block_on(fault::answer(false, "connect to the system bus", ANSWER, Connection::system()))
            .map_err(|_| anyhow!("no answer within {} s", ANSWER.as_secs()))
            .and_then(|connected| connected.map_err(anyhow::Error::from))
            .context("failed to connect to the system bus")
            .context("hint: `systemctl status dbus.socket` shows the bus's state")?;
        Ok(Self { runtime, connection })
    }

    fn call<T>(&self, limit: Duration, what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T> {
        self.answer(true, limit, what, call)
    }

    fn ask<T>(&self, what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T> {
        self.answer(false, ANSWER, what, call)
    }

    fn answer<T>(&self, changes: bool, limit: Duration, what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T> {
        let shown = Waiting::new(what, limit);
        let answer = self.runtime.block_on(fault::answer(changes, what, limit, call));
        drop(shown);
        match answer {
            Ok(answer) => answer.with_context(|| format!("failed to {what}")),
            Err(_) => bail!("failed to {what}: no answer within {} s", limit.as_secs()),
        }
    }

    /// Tells whether networkd is on the bus.
    pub fn networkd_runs(&self) -> Result<bool> {
        self.ask("ask the bus for systemd-networkd", async {
            let bus = fdo::DBusProxy::new(&self.connection).await?;
            Ok(bus.name_has_owner(NETWORKD.try_into()?).await?)
        })
    }

    /// Makes networkd read its files again. A reload that is under way already (networkd 256 and later refuse a second one) is
    /// waited for and repeated, because it may have read the old files.
    pub fn reload_networkd(&self) -> Result<()> {
        self.call(JOB, "reload systemd-networkd", async {
            let networkd = NetworkdProxy::new(&self.connection).await?;
            let deadline = tokio::time::Instant::now() + ALREADY_RELOADING;
            loop {
                match networkd.reload().await {
                    Err(zbus::Error::MethodError(name, ..))
                        if name.as_str() == "org.freedesktop.network1.AlreadyReloading" && tokio::time::Instant::now() < deadline =>
                    {
                        // networkd sends no signal when a reload is over, so this is asked again
                        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(50)).await;
                    }
                    other => return other,
                }
            }
        })
    }

    /// Makes networkd set a link up again from its files.
    pub fn reconfigure_link(&self, name: &LinkName, index: u32) -> Result<()> {
        self.call(ANSWER, &format!("make systemd-networkd set up link '{name}' again"), async {
            NetworkdProxy::new(&self.connection).await?.reconfigure_link(index.cast_signed()).await
        })
    }

    /// Gives networkd's own view of a link: its description as JSON.
    pub fn describe_link(&self, name: &str) -> Result<String> {
        self.ask(&format!("ask systemd-networkd for link '{name}'"), async {
            let (_, path) = NetworkdProxy::new(&self.connection).await?.get_link_by_name(name).await?;
            NetworkdLinkProxy::builder(&self.connection).path(path).build().await?.describe().await
        })
    }

    /// Makes systemd read its units again.
    pub fn reload_systemd(&self) -> Result<()> {
        self.call(JOB, "reload systemd", async { SystemdProxy::new(&self.connection).await?.reload().await })
    }

    /// Starts a unit and waits until it has started.
    pub fn start(&self, unit: &str) -> Result<()> {
        self.job(unit, "start", Verb::Start)
    }

    /// Stops a unit and waits until it has stopped.
    pub fn stop(&self, unit: &str) -> Result<()> {
        self.job(unit, "stop", Verb::Stop)
    }

    /// Stops a unit that has come to nothing yet, and leaves no trace of it among the failed ones.
    pub fn give_up(&self, unit: &str) -> Result<()> {
        self.stop(unit)?;
        self.forget_failure(unit);
        Ok(())
    }

    /// Takes a unit out of the failed ones.
    pub fn forget_failure(&self, unit: &str) {
        // one that is no longer loaded has no failure
        let _ = self.call(ANSWER, &format!("forget the failure of {unit}"), async {
            SystemdProxy::new(&self.connection).await?.reset_failed_unit(unit).await
        });
    }

    /// Starts a unit, or starts it again, and waits until it has started.
    pub fn start_again(&self, unit: &str) -> Result<()> {
        self.job(unit, "start", Verb::Restart)
    }

    /// Starts a timer without a file, which starts the service of its name.
    pub fn start_timer(&self, timer: &str, description: &str, after: Duration) -> Result<()> {
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let properties = [
            ("Description", Variant::from(description)),
            ("TimersMonotonic", Variant::from(vec![("OnActiveSec", after)])),
            ("AccuracyUSec", Variant::from(100_000_u64)),
            ("RemainAfterElapse", Variant::from(false)),
        ];
        self.call(ANSWER, &format!("start {timer}"), async {
            SystemdProxy::new(&self.connection).await?.start_transient_unit(timer, "replace", &properties, &[]).await
        })?;
        Ok(())
    }

    /// Moves this process into a scope of its own, `PREFIX-PID.scope`, which needs another unit, and waits until that has started.
    pub fn start_scope(&self, prefix: &str, description: &str, needs: &str) -> Result<()> {
        let scope = format!("{prefix}-{}.scope", std::process::id());
        let properties = [
            ("Description", Variant::from(description)),
            ("PIDs", Variant::from(vec![std::process::id()])),
            ("BindsTo", Variant::from(vec![needs])),
            ("After", Variant::from(vec![needs])),
            // an interactive shell ignores SIGTERM
            ("SendSIGHUP", Variant::from(true)),
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        self.job(&scope, "start", Verb::StartScope(&properties))
    }

    fn job(&self, unit: &str, what: &str, verb: Verb<'_>) -> Result<()> {
        let result = self.call(JOB, &format!("{what} {unit}"), async {
            let systemd = SystemdProxy::new(&self.connection).await?;
            subscribe(&systemd).await?;
            let mut removed = systemd.receive_job_removed().await?;
            let queued = match verb {
                Verb::Start => systemd.start_unit(unit, "replace").await,
                Verb::Stop => systemd.stop_unit(unit, "replace").await,
                Verb::Restart => systemd.restart_unit(unit, "replace").await,
                Verb::StartScope(properties) => systemd.start_transient_unit(unit, "replace", properties, &[]).await,
            };
            let job = match queued {
                // a transient unit that has ended
                Err(zbus::Error::MethodError(name, ..)) if what == "stop" && name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => {
                    return Ok("skipped".to_owned());
                }
                other => other?,
            };
            fault::change(format_args!("job {unit}"), || std::io::Result::Ok(()))?;
            while let Some(signal) = next(&mut removed).await {
                let args = signal.args()?;
                if args.job == job {
                    return Ok(args.result.clone());
                }
            }
            Ok("lost".to_owned())
        })?;
        check(unit, what, &result)
    }

    /// Waits until systemd has no more to do with units, or for `limit`: at boot many are still to be started.
    pub fn wait_for_jobs(&self, units: &[UnitName], limit: Duration) -> Result<()> {
        let names: Vec<&str> = units.iter().filter(|n| !n.is_template()).map(UnitName::as_str).collect();
        if names.is_empty() {
            return Ok(());
        }
        let idle = async {
            let systemd = SystemdProxy::new(&self.connection).await?;
            subscribe(&systemd).await?;
            let mut removed = systemd.receive_job_removed().await?;
            while systemd.list_units_by_names(&names).await?.iter().any(|(.., job, _, _)| *job != 0) {
                if next(&mut removed).await.is_none() {
                    break;
                }
            }
            Ok(())
        };
        let waited = self.runtime.block_on(fault::answer(false, "wait for units to start", limit, idle));
        waited.unwrap_or(Ok(())).context("failed to wait for units to start")
    }

    /// Lists the instances of a template that systemd has loaded.
    pub fn instances(&self, template: &UnitName) -> Result<Vec<UnitName>> {
        let pattern = template.as_str().replace("@.", "@*.");
        let listed = self.ask(&format!("list the instances of {template}"), async {
            SystemdProxy::new(&self.connection).await?.list_units_by_patterns(&[], &[&pattern]).await
        })?;
        Ok(listed.iter().filter_map(|unit| UnitName::parse(&unit.0).ok()).filter(|unit| !unit.is_template()).collect())
    }

    /// Gives the load state, active state and sub state of units, in the order of the question.
    pub fn states(&self, names: &[String]) -> Result<Vec<(String, String, String)>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listed = self.ask("list units", async { SystemdProxy::new(&self.connection).await?.list_units_by_names(&names).await })?;
        Ok(listed.into_iter().map(|(_, _, load, active, sub, ..)| (load, active, sub)).collect())
    }

    /// Gives the state of the units that make namespaces.
    pub fn netns_units(&self, names: &[NetnsName]) -> Result<HashMap<NetnsName, NetnsUnit>> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        // one that is not loaded does not run, and nobody that is loaded is bound to it
        let listed = self.ask("list units", async {
            SystemdProxy::new(&self.connection).await?.list_units_by_patterns(&[], &["netns@*.service"]).await
        })?;
        let inactive = NetnsUnit { active_state: "inactive".to_owned(), ..NetnsUnit::default() };
        let mut found: HashMap<NetnsName, NetnsUnit> = names.iter().map(|name| (name.clone(), inactive.clone())).collect();
        let name_of = |unit: &ListedUnit| NetnsName::parse(unit.0.strip_prefix("netns@")?.strip_suffix(".service")?).ok();
        let loaded = listed.into_iter().filter_map(|unit| Some((name_of(&unit)?, unit)));
        let loaded: Vec<_> = loaded.filter(|(name, _)| found.contains_key(name)).collect();
        for some in loaded.chunks(AT_ONCE) {
            let reading: Vec<_> =
                some.iter().map(|(_, (.., path, _, _, _))| self.runtime.spawn(bound_by(self.connection.clone(), path.clone()))).collect();
            let read = self.ask("read the properties of units", all(reading))?;
            for ((name, (_, _, _, active_state, ..)), bound_by) in some.iter().zip(read) {
                found.insert(name.clone(), NetnsUnit { active_state: active_state.clone(), bound_by });
            }
        }
        Ok(found)
    }

    /// Gives what the files of units make of them, in the order of the question.
    pub fn unit_files(&self, names: &[String]) -> Result<Vec<UnitFiles>> {
        let mut all = Vec::new();
        for some in names.chunks(AT_ONCE) {
            let units: Vec<&str> = some.iter().map(String::as_str).collect();
            let listed = self.ask("list units", async { SystemdProxy::new(&self.connection).await?.list_units_by_names(&units).await })?;
            let reading = some.iter().zip(listed).map(|(name, (.., path, _, _, _))| {
                self.runtime.spawn(read_files(self.connection.clone(), path, name.ends_with(".socket")))
            });
            all.extend(self.ask("read the properties of units", self::all(reading.collect()))?);
        }
        Ok(all)
    }

    /// Asks NetworkManager which links it manages.
    pub fn managed_by_network_manager(&self) -> Result<BTreeMap<String, bool>> {
        let objects = self.ask("ask NetworkManager for its devices", async {
            let builder = fdo::ObjectManagerProxy::builder(&self.connection).destination("org.freedesktop.NetworkManager");
            builder.path("/org/freedesktop").build().await?.get_managed_objects().await.map_err(zbus::Error::from)
        })?;
        let mut devices = BTreeMap::new();
        for properties in objects.values().filter_map(|interfaces| interfaces.get("org.freedesktop.NetworkManager.Device")) {
            let name = properties.get("Interface").and_then(|value| String::try_from(value.clone()).ok());
            let managed = properties.get("Managed").and_then(|value| bool::try_from(value.clone()).ok());
            devices.extend(name.zip(managed));
        }
        Ok(devices)
    }

    /// Gives the state of units, loading them where need be; templates, which are never loaded, are left out.
    pub fn units(&self, names: &[UnitName]) -> Result<HashMap<UnitName, LoadedUnit>> {
        if names.iter().all(UnitName::is_template) {
            return Ok(HashMap::new());
        }
        let loaded = self.loaded()?;
        Ok(self.read_units(names.iter().filter(|name| !name.is_template()), &loaded)?.into_iter().collect())
    }

    /// Gives the state of units as [`Bus::units`] does, of those that are not loaded as it was when somebody last asked, if systemd
    /// has not reloaded and no file of any unit has changed since. With it comes what is worth remembering now.
    pub fn units_again(&self, names: &[UnitName]) -> Result<(HashMap<UnitName, LoadedUnit>, Option<Memory>)> {
        let Some(stamp) = self.stamp(names) else { return Ok((self.units(names)?, None)) };
        let mut memory = Memory::read(stamp);
        let loaded = self.loaded()?;
        let (mut units, mut unknown) = (HashMap::new(), Vec::new());
        for name in names.iter().filter(|name| !name.is_template()) {
            match memory.units.get(name.as_str()).filter(|known| ![name.as_str(), known.id.as_str()].iter().any(|id| loaded.contains(*id)))
            {
                Some(known) => drop(units.insert(name.clone(), known.unit())),
                None => unknown.push(name),
            }
        }
        let mut news = false;
        for (name, unit) in self.read_units(unknown.into_iter(), &loaded)? {
            if !loaded.contains(&unit.id) && !unit.running {
                memory.units.insert(name.to_string(), Known::of(unit.clone()));
                news = true;
            }
            units.insert(name, unit);
        }
        Ok((units, news.then_some(memory)))
    }

    /// Looks at what systemd makes units of; none if it cannot be told from what it has made of them.
    fn stamp(&self, names: &[UnitName]) -> Option<Stamp> {
        let asked = self.ask("ask systemd where it has units from", async {
            let manager = fdo::PropertiesProxy::builder(&self.connection).destination("org.freedesktop.systemd1");
            let manager = Properties(manager.path("/org/freedesktop/systemd1").build().await?);
            let folders: Vec<String> = manager.list(MANAGER, "UnitPath").await?;
            let reloaded: Option<u64> = manager.value(MANAGER, "UnitsLoadTimestamp").await?;
            let booted: Option<u64> = manager.value(MANAGER, "UnitsLoadStartTimestamp").await?;
            Ok((folders, reloaded, booted))
        });
        let (folders, reloaded, booted) = asked.ok()?;
        // 0 until the first reload; an older systemd does not know
        let loaded = Duration::from_micros(reloaded?.max(booted?));
        let folders: Vec<PathBuf> = folders.into_iter().map(PathBuf::from).collect();
        (!folders.is_empty()).then(|| Stamp::of(&folders, loaded, names)).flatten()
    }

    /// Lists the sockets that there are, with a file or without: to ask for one that there is not takes systemd as long as to load one.
    pub fn sockets(&self) -> Result<BTreeSet<String>> {
        let pattern = ["*.socket"];
        let (files, loaded) = self.ask("list sockets", async {
            let systemd = SystemdProxy::new(&self.connection).await?;
            Ok((systemd.list_unit_files_by_patterns(&[], &pattern).await?, systemd.list_units_by_patterns(&[], &pattern).await?))
        })?;
        let files = files.into_iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.1.to_owned()));
        Ok(files.chain(loaded.into_iter().map(|unit| unit.0)).collect())
    }

    /// Lists the units that are loaded, by their own names.
    fn loaded(&self) -> Result<BTreeSet<String>> {
        let listed = self.ask("list units", async { SystemdProxy::new(&self.connection).await?.list_units_by_patterns(&[], &[]).await })?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    /// Reads units, by the names that they are asked for by.
    fn read_units<'a>(&self, names: impl Iterator<Item = &'a UnitName>, loaded: &BTreeSet<String>) -> Result<Vec<(UnitName, LoadedUnit)>> {
        let names: Vec<&str> = names.map(UnitName::as_str).collect();
        let mut units = Vec::new();
        for some in names.chunks(AT_ONCE) {
            // or systemd reads the files again for each question: what nobody needs it forgets at once
            let others = some.iter().filter(|name| !loaded.contains(**name));
            let keep =
                |keep| others.clone().map(move |name| self.runtime.spawn(keep_loaded(self.connection.clone(), (*name).to_owned(), keep)));
            self.ask("keep units loaded", all(keep(true).collect()))?;
            let listed = self.ask("list units", async { SystemdProxy::new(&self.connection).await?.list_units_by_names(some).await })?;
            // systemd answers in the order of the question, with an alias under its canonical name
            let reading: Vec<_> = some
                .iter()
                .zip(listed)
                .filter_map(|(name, (id, _, load_state, active_state, sub_state, _, path, ..))| {
                    let running = active_state != "inactive" && active_state != "failed";
                    let unit = LoadedUnit { id, load_state, active_state, sub_state, running, ..LoadedUnit::default() };
                    Some(self.runtime.spawn(read_unit(self.connection.clone(), path, UnitName::parse(name).ok()?, unit)))
                })
                .collect();
            units.extend(self.ask("read the properties of units", all(reading))?);
            // the more it has loaded the longer each takes
            self.ask("let units go", all(keep(false).collect()))?;
        }
        Ok(units)
    }
}

/// Has systemd keep a unit for as long as this connection lasts, or no longer. Who may not ask for that goes on without.
async fn keep_loaded(connection: Connection, name: String, keep: bool) -> zbus::Result<()> {
    let systemd = SystemdProxy::new(&connection).await?;
    match if keep { systemd.ref_unit(&name).await } else { systemd.unref_unit(&name).await } {
        Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_)) => Ok(()),
        other => other,
    }
}

/// How long to wait for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until systemd has taken note of it.
    Queued,
    Done,
}

/// Makes a unit reload. By systemctl(1), which needs no bus: at boot that may wait for sockets that wait for their namespace.
pub fn reload_unit(unit: &str, wait: Wait) -> Result<()> {
    systemctl("reload", unit, wait)
}

/// Starts a unit, by systemctl(1).
pub fn start_unit(unit: &str, wait: Wait) -> Result<()> {
    systemctl("start", unit, wait)
}

fn systemctl(verb: &str, unit: &str, wait: Wait) -> Result<()> {
    let mut command = Command::new("systemctl");
    let command = command.args((wait == Wait::Queued).then_some("--no-block")).args([verb, unit]);
    let status = fault::change(format_args!("systemctl {verb} {unit}"), || command.status()).context("failed to run systemctl")?;
    if status.success() { Ok(()) } else { bail!("failed to {verb} {unit}: systemctl ended with {status}") }
}

/// How many units are asked for at the same time: enough that systemd is never idle.
const AT_ONCE: usize = 64;

/// Waits for answers that were asked for at the same time.
async fn all<T>(reading: Vec<JoinHandle<zbus::Result<T>>>) -> zbus::Result<Vec<T>> {
    let mut read = Vec::new();
    for task in reading {
        read.push(task.await.map_err(|e| zbus::Error::Failure(e.to_string()))??);
    }
    Ok(read)
}

/// Lists the units that are bound to one.
async fn bound_by(connection: Connection, path: OwnedObjectPath) -> zbus::Result<Vec<String>> {
    let properties = Properties::of(&connection, path).await?;
    Ok([properties.list(UNIT, "BoundBy").await?, properties.list(UNIT, "RequiredBy").await?].concat())
}

/// The properties of one unit.
struct Properties(fdo::PropertiesProxy<'static>);

/// The interface of what every unit has.
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// That of systemd itself.
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

impl Properties {
    async fn of(connection: &Connection, path: OwnedObjectPath) -> zbus::Result<Self> {
        fdo::PropertiesProxy::builder(connection).destination("org.freedesktop.systemd1").path(path).build().await.map(Self)
    }

    /// Reads a property; none if a unit has no such thing: one that could not be loaded, or of an older systemd.
    async fn value<T: TryFrom<OwnedVariant>>(&self, interface: &str, property: &str) -> zbus::Result<Option<T>> {
        match self.0.get(interface.try_into()?, property).await {
            Ok(value) => Ok(value.try_into().ok()),
            Err(fdo::Error::UnknownProperty(_) | fdo::Error::UnknownInterface(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn list(&self, interface: &str, property: &str) -> zbus::Result<Vec<String>> {
        Ok(self.value(interface, property).await?.unwrap_or_default())
    }

    async fn text(&self, interface: &str, property: &str) -> zbus::Result<String> {
        Ok(self.value(interface, property).await?.unwrap_or_default())
    }
}

/// The interface of what only units of a type have.
fn interface_of(is_socket: bool) -> &'static str {
    if is_socket { "org.freedesktop.systemd1.Socket" } else { "org.freedesktop.systemd1.Service" }
}

/// Reads those properties of a unit that matter here. One by one: `GetAll` of a service takes 4 ms, for it also looks at the
/// control group.
async fn read_unit(
    connection: Connection,
    path: OwnedObjectPath,
    name: UnitName,
    mut unit: LoadedUnit,
) -> zbus::Result<(UnitName, LoadedUnit)> {
    let kind = interface_of(name.is_socket());
    let properties = Properties::of(&connection, path).await?;
    unit.binds_to = properties.list(UNIT, "BindsTo").await?;
    unit.after = properties.list(UNIT, "After").await?;
    unit.before = properties.list(UNIT, "Before").await?;
    unit.triggered_by = properties.list(UNIT, "TriggeredBy").await?;
    unit.joins_namespace_of = properties.list(UNIT, "JoinsNamespaceOf").await?;
    unit.network_namespace_path = properties.text(kind, "NetworkNamespacePath").await?;
    if name.is_socket() && unit.load_state == "loaded" {
        let listen: Vec<(String, String)> = properties.value(kind, "Listen").await?.unwrap_or_default();
        unit.socket = Some(LoadedSocket {
            listen: listen.into_iter().map(|(_, address)| address).collect(),
            accept: properties.value(kind, "Accept").await?.unwrap_or_default(),
            triggers: properties.list(UNIT, "Triggers").await?,
            enabled: properties.text(UNIT, "UnitFileState").await? == "enabled",
        });
    }
    if unit.running {
        unit.active_since = properties.value(UNIT, "ActiveEnterTimestamp").await?.unwrap_or_default();
        unit.control_group = properties.text(kind, "ControlGroup").await?;
        if !name.is_socket() {
            unit.main_pid = properties.value(kind, "MainPID").await?.filter(|pid| *pid != 0);
        }
    }
    Ok((name, unit))
}

async fn read_files(connection: Connection, path: OwnedObjectPath, is_socket: bool) -> zbus::Result<UnitFiles> {
    let properties = Properties::of(&connection, path).await?;
    let file = Some(properties.text(UNIT, "FragmentPath").await?).filter(|path| !path.is_empty());
    let drop_ins = properties.list(UNIT, "DropInPaths").await?;
    Ok(UnitFiles {
        state: properties.text(UNIT, "UnitFileState").await?,
        paths: file.into_iter().chain(drop_ins).collect(),
        binds_to: properties.list(UNIT, "BindsTo").await?,
        after: properties.list(UNIT, "After").await?,
        network_namespace_path: properties.text(interface_of(is_socket), "NetworkNamespacePath").await?,
    })
}

/// Asks for signals, which an earlier job of this run may have done.
async fn subscribe(systemd: &SystemdProxy<'_>) -> zbus::Result<()> {
    match systemd.subscribe().await {
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => Ok(()),
        other => other,
    }
}

/// Makes an error of a job's result, unless the job is done. `skipped`: the unit does not run, so there was nothing to stop.
fn check(unit: &str, what: &str, result: &str) -> Result<()> {
    if matches!(result, "done" | "skipped") {
        return Ok(());
    }
    Err(anyhow!("failed to {what} {unit}: systemd says '{result}'")).context(format!("hint: `journalctl -b -u {unit}` shows why"))
}

enum Verb<'a> {
    Start,
    Stop,
    Restart,
    StartScope(&'a [(&'a str, Variant<'a>)]),
}

/// The next item of a stream.
async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx)).await
}
