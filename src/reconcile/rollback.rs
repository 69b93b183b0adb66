//! `sync --confirm`: what the host was, kept until somebody says that what it has become may stay.
//!
//! A rollback is a sync, with what was observed before as what is desired: the same diff, the same order, the same care for running
//! services. What it cannot write by itself, it puts back afterwards: files of others that `--force` replaced, modes and owners;
//! addresses and routes that links had from others.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{
    former::{self, FormerLink},
    host,
    sync::{Event, LOCK, Options, Outcome, Run, Situation},
};
use crate::{
    config::Config,
    desired::networkd_path,
    error::Refused,
    model::{LinkName, Provenance, State, UnitName},
    plan::{Plan, Step},
    sys::{
        bus::{self, Bus, Wait},
        fs::{self, Lock, Root},
        manifest::Manifest,
    },
};

const FOLDER: &str = "/var/lib/netns-networkd/rollback";
/// There as long as changes wait.
const SNAPSHOT: &str = "/var/lib/netns-networkd/rollback/snapshot.toml";
pub const SERVICE: &str = "netns-networkd-rollback.service";
pub const TIMER: &str = "netns-networkd-rollback.timer";
/// A host that is cut off is restarted by its power switch, and a timer does not outlive that.
const AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/netns-networkd-rollback.service";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long services may take to start at boot before changes are taken back. Some wait for the network, which may be what is broken.
const BOOT_WAIT: Duration = Duration::from_secs(20);

/// This run has written the snapshot: what waits is its own.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// The host before a change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    /// Services were restarted into their new places, so they go back by a restart.
    restart: bool,
    /// The boot that it was written in.
    boot: String,
    /// The names of copies of the files that the change replaces or removes.
    copies: BTreeMap<PathBuf, String>,
    manifest: Manifest,
    state: State,
    links: BTreeMap<LinkName, FormerLink>,
}

impl Run<'_> {
    /// Keeps what is needed to go back, and starts the timer that does; before anything is changed.
    pub(super) fn prepare_rollback(&mut self, plan: &Plan, situation: &Situation, limit: Duration) -> Result<()> {
        let prepared = self.keep_host(plan, situation, limit);
        prepared.inspect_err(|_| drop(end())).context("hint: nothing was changed")
    }

    /// The snapshot comes last: where it is, the timer runs, and the next boot knows.
    fn keep_host(&mut self, plan: &Plan, situation: &Situation, limit: Duration) -> Result<()> {
        let service = UnitName::parse(SERVICE).map_err(|e| anyhow!(e))?;
        let loaded = self.bus()?.units(std::slice::from_ref(&service))?;
        if loaded.get(&service).is_none_or(|unit| unit.load_state != "loaded") {
            return Err(anyhow!("there is no {SERVICE}, which takes changes back")).context("hint: `make install` puts it in place");
        }
        // files of others may be readable by root alone
        fs::create_private_directory(Path::new(FOLDER))?;
        let mut copies = BTreeMap::new();
        for step in &plan.steps {
            let (Step::WriteFile { path, .. } | Step::RemoveFile { path }) = step else { continue };
            if fs::exists(path) {
                let name = copies.len().to_string();
                fs::copy(path, &Path::new(FOLDER).join(&name))?;
                copies.insert(path.clone(), name);
            }
        }
        let is_ours = |kind, link: &LinkName| self.manifest.files.contains_key(&networkd_path(kind, link, "network"));
        let links = former::keep(&situation.observed.links, |bridge| is_ours("bridge", bridge))?;
        let mut state = situation.observed.clone();
        // what nobody has touched yet is no business of networkd's
        state.links.retain(|link, _| is_ours("bridge", link) || is_ours("uplink", link));
        for (name, link) in &mut state.links {
            // set once, they would no longer follow the ports
            let wanted = situation.desired.links.get(name);
            link.mtu = link.mtu.filter(|_| wanted.is_some_and(|wanted| wanted.mtu.is_some()));
            link.mac = link.mac.filter(|_| wanted.is_some_and(|wanted| wanted.mac.is_some()));
        }
        let boot = fs::read_text(Path::new(BOOT))?.unwrap_or_default();
        let snapshot = Snapshot { restart: self.options.restart, boot, copies, manifest: self.manifest.clone(), state, links };
        let text = toml::to_string(&snapshot).context("failed to write down what the host is like")?;
        fs::link(&format!("/usr/lib/systemd/system/{SERVICE}"), Path::new(AT_BOOT))?;
        start_timer(self.bus()?, limit)?;
        IS_OURS.store(true, Ordering::Relaxed);
        fs::write(Path::new(SNAPSHOT), &text)
    }
}

/// Starts the timer, whatever an earlier run left of it.
fn start_timer(bus: &Bus, limit: Duration) -> Result<()> {
    let _ = bus.stop(TIMER);
    bus.start_timer(TIMER, "Takes changes back that nobody confirms", limit)
}

/// Counts the time anew: when all is done, somebody can begin to look at it. Where it was up before that, the service waits for
/// us to end.
pub fn restart_timer(bus: &Bus, limit: Duration) -> Result<()> {
    bus.start_again(TIMER).or_else(|_| start_timer(bus, limit))?;
    bus.give_up(SERVICE)
}

/// What becomes of changes that wait.
pub const WAITS: &str = "the changes of an earlier sync go back unless `netns-networkd confirm` keeps them";

/// Says what becomes of changes that wait, by the state of the service that takes them back, and of its timer.
#[must_use]
pub fn outlook((service, how): &(String, String), timer: &str) -> &'static str {
    match (service.as_str(), how.as_str()) {
        ("failed", _) | (_, "auto-restart") => {
            "the changes of an earlier sync are to go back, and that fails: `journalctl -b -u netns-networkd-rollback` shows why; \
             `netns-networkd rollback` tries again, `netns-networkd confirm` keeps them"
        }
        ("inactive", _) if timer != "active" => {
            "the changes of an earlier sync wait, and somebody has stopped the timer that takes them back: `netns-networkd rollback` does, \
             `netns-networkd confirm` keeps them"
        }
        _ => WAITS,
    }
}

/// Has changes taken back by the service, which waits for whoever is still at work.
pub fn start() -> Result<()> {
    bus::start_unit(SERVICE, Wait::Queued)
}

/// Tells whether changes wait to be confirmed.
#[must_use]
pub fn is_waiting() -> bool {
    fs::exists(Path::new(SNAPSHOT))
}

/// Tells whether changes of this run wait to be confirmed.
#[must_use]
pub fn is_ours() -> bool {
    IS_OURS.load(Ordering::Relaxed) && is_waiting()
}

/// Says why nothing else may be changed meanwhile. What a run left that was cut off before it changed anything goes.
pub fn refuse_while_waiting() -> Result<()> {
    if !is_waiting() {
        return if strays()?.is_empty() { Ok(()) } else { end().map(drop) };
    }
    let text = "the changes of an earlier sync wait to be confirmed\n  hint: `netns-networkd confirm` keeps them, `netns-networkd rollback` takes them back";
    Err(Refused(vec![text.to_owned()]).into())
}

/// Keeps the changes that wait.
pub fn confirm() -> Result<()> {
    let _lock = Lock::wait(Path::new(LOCK))?;
    if !is_waiting() {
        return Err(nothing_waits());
    }
    // its time may have come while we held the lock
    end()?.map_or(Ok(()), |bus| bus.give_up(SERVICE))
}

fn nothing_waits() -> anyhow::Error {
    anyhow!("no changes wait to be confirmed").context(format!("hint: `journalctl -u {SERVICE}` shows whether they were taken back"))
}

/// Takes the changes back that wait.
pub fn rollback(tell: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let _lock = Lock::wait(Path::new(LOCK))?;
    let Some(text) = fs::read_text(Path::new(SNAPSHOT))? else { return Err(nothing_waits()) };
    take_back(&text, tell).context("failed to take the changes back")
}

fn take_back(snapshot: &str, tell: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let root = Root::new("/");
    let Snapshot { restart, boot, copies, manifest: before, state, links } =
        toml::from_str(snapshot).with_context(|| format!("{SNAPSHOT} is broken"))?;
    let booted = fs::read_text(Path::new(BOOT))?.unwrap_or_default() != boot;
    let manifest = Manifest::read(&root)?;
    if booted {
        // A unit that starts while its settings change would be left in a namespace that goes.
        let units: Vec<UnitName> = state.units.keys().cloned().chain(host::former_units(&manifest, &state)).collect();
        Bus::connect()?.wait_for_jobs(&units, BOOT_WAIT)?;
    }
    // then whatever runs in a new place was started there by the boot
    let restart = restart || booted;
    let options = Options { root: root.clone(), names: Vec::new(), restart, force: false, dry_run: false, confirm: None };
    let config = Config::default();
    let mut run = Run::new(&options, &config, manifest, tell);
    // files of others first: nobody else may get to read them, not even for a moment
    let (foreign, own): (Vec<_>, Vec<_>) =
        copies.into_iter().partition(|(path, _)| state.files.get(path).is_none_or(|file| file.provenance != Provenance::Ours));
    if !foreign.is_empty() {
        put_back(&foreign, run.tell)?;
        // both daemons have to read them, also where a rollback was killed that had come this far
        run.manifest.unfinished = true;
    }
    run.target = Some(state);
    let mut outcome = run.go()?;

    // mode and owner, which networkd and systemd need not know of
    put_back(&own, run.tell)?;
    before.write(&root)?;
    outcome.unverified.extend(former::put_back(&Bus::connect()?, &links, run.tell)?);
    end()?;
    Ok(outcome)
}

fn put_back(copies: &[(PathBuf, String)], tell: &mut dyn FnMut(Event)) -> Result<()> {
    for (path, name) in copies {
        let copy = Path::new(FOLDER).join(name);
        if !fs::same(&copy, path) {
            fs::copy(&copy, path)?;
            tell(Event::Done(format!("put back file {}", path.display())));
        }
    }
    Ok(())
}

/// Lists what was left of changes that do not wait any more.
pub fn strays() -> Result<Vec<PathBuf>> {
    if is_waiting() {
        return Ok(Vec::new());
    }
    Ok([FOLDER, AT_BOOT].map(PathBuf::from).into_iter().filter(|path| fs::exists(path)).collect())
}

/// Gives the bus, if there is one.
fn end() -> Result<Option<Bus>> {
    // first: without it the rest means nothing
    fs::remove(Path::new(SNAPSHOT))?;
    fs::remove_directory(Path::new(FOLDER))?;
    // without a bus the timer starts nothing, and the link makes the next run try again
    let Ok(bus) = Bus::connect() else { return Ok(None) };
    if bus.stop(TIMER).is_ok() {
        fs::remove(Path::new(AT_BOOT))?;
    }
    Ok(Some(bus))
}
