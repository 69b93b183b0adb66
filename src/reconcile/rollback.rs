//! `sync --confirm`: what the host was, kept until somebody says that what it has become may stay.
//!
//! A rollback is a sync, with what was observed before as what is desired: the same diff, the same order, the same care for running
//! services. What it cannot write by itself, it puts back afterwards: files of others that `--force` replaced, modes and owners.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::sync::{Event, LOCK, Options, Outcome, Run, Situation};
use crate::{
    config::Config,
    desired::{NETWORKD, SYSTEMD, networkd_path},
    error::Refused,
    model::{LinkName, State, UnitName},
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
const SERVICE: &str = "netns-networkd-rollback.service";
const TIMER: &str = "netns-networkd-rollback.timer";
/// A host that is cut off is restarted by its power switch, and a timer does not outlive that.
const AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/netns-networkd-rollback.service";

/// The host before a change.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    /// Services were restarted into their new places, so they go back by a restart.
    restart: bool,
    /// The names of copies of the files that the change replaces or removes.
    copies: BTreeMap<PathBuf, String>,
    manifest: Manifest,
    state: State,
}

impl Run<'_> {
    /// Keeps what is needed to go back, and starts the timer that does; before anything is changed. The snapshot comes last: with it,
    /// changes wait, and the timer runs.
    pub(super) fn prepare_rollback(&mut self, plan: &Plan, situation: &Situation, limit: Duration) -> Result<()> {
        let prepared = self.keep_host(plan, situation, limit);
        prepared.inspect_err(|_| drop(end())).context("hint: nothing was changed")
    }

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
        let mut state = situation.observed.clone();
        // what nobody has touched yet is no business of ours
        let ours = |kind, link: &LinkName| self.manifest.files.contains_key(&networkd_path(kind, link, "network"));
        state.links.retain(|link, _| ours("bridge", link) || ours("uplink", link));
        let snapshot = Snapshot { restart: self.options.restart, copies, manifest: self.manifest.clone(), state };
        let text = toml::to_string(&snapshot).context("failed to write down what the host is like")?;
        fs::link(&format!("/usr/lib/systemd/system/{SERVICE}"), Path::new(AT_BOOT))?;
        self.bus()?.start_timer(TIMER, "Takes changes back that nobody confirms", limit)?;
        fs::write(Path::new(SNAPSHOT), &text)
    }
}

/// Counts the time anew: when all is done, somebody can begin to look at it.
pub fn restart_timer(bus: &Bus) -> Result<()> {
    bus.start_again(TIMER)
}

/// Has the changes taken back by the service, which waits for whoever is still at work.
pub fn start() -> Result<()> {
    if is_waiting() { bus::start_unit(SERVICE, Wait::Queued) } else { Ok(()) }
}

/// Tells whether changes wait to be confirmed.
#[must_use]
pub fn is_waiting() -> bool {
    fs::exists(Path::new(SNAPSHOT))
}

/// Says why nothing else may be changed meanwhile.
pub fn refuse_while_waiting() -> Result<()> {
    if !is_waiting() {
        return Ok(());
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
    end()
}

fn nothing_waits() -> anyhow::Error {
    anyhow!("no changes wait to be confirmed").context(format!("hint: `journalctl -u {SERVICE}` shows whether they were taken back"))
}

/// Takes the changes back that wait.
pub fn rollback(tell: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let root = Root::new("/");
    let _lock = Lock::wait(Path::new(LOCK))?;
    let Some(text) = fs::read_text(Path::new(SNAPSHOT))? else { return Err(nothing_waits()) };
    let Snapshot { restart, copies, manifest: before, state } = toml::from_str(&text).with_context(|| format!("{SNAPSHOT} is broken"))?;
    let options = Options { root: root.clone(), names: Vec::new(), restart, force: false, dry_run: false, confirm: None };
    let config = Config::default();
    let mut run = Run::new(&options, &config, Manifest::read(&root)?, tell);
    run.target = Some(state);
    let outcome = run.go().context("failed to take the changes back")?;

    let copies = copies.into_iter().map(|(path, name)| (path, Path::new(FOLDER).join(name)));
    let copies: Vec<_> = copies.filter(|(path, copy)| !fs::same(copy, path)).collect();
    if !copies.is_empty() {
        // if this is cut off, the next one has to reload both
        run.manifest.unfinished = true;
        run.manifest.write(&root)?;
    }
    for (path, copy) in &copies {
        fs::copy(copy, path)?;
        (run.tell)(Event::Done(format!("put back file {}", path.display())));
    }
    let any_in = |directory: &str| copies.iter().any(|(path, _)| path.starts_with(directory));
    if any_in(NETWORKD) {
        run.bus()?.reload_networkd()?;
    }
    if any_in(SYSTEMD) {
        run.bus()?.reload_systemd()?;
    }
    before.write(&root)?;
    end()?;
    Ok(outcome)
}

/// Lists what was left of changes that do not wait any more.
pub fn strays() -> Result<Vec<PathBuf>> {
    if is_waiting() {
        return Ok(Vec::new());
    }
    Ok([FOLDER, AT_BOOT].map(PathBuf::from).into_iter().filter(|path| fs::exists(path)).collect())
}

fn end() -> Result<()> {
    // first: without it the rest means nothing
    fs::remove(Path::new(SNAPSHOT))?;
    fs::remove_directory(Path::new(FOLDER))?;
    match Bus::connect().and_then(|bus| bus.stop(TIMER)) {
        Ok(()) => fs::remove(Path::new(AT_BOOT)),
        // it starts nothing, and the link makes the next run try again
        Err(_) => Ok(()),
    }
}

/// Removes what a run left that was cut off before changes waited, or after.
pub fn remove_leftovers() -> Result<()> {
    if strays()?.is_empty() { Ok(()) } else { end() }
}
