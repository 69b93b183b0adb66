//! What systemd made of the files of units, remembered: to ask it for a unit that is not loaded has it read all files of that unit,
//! which takes it longer than everything else that a run with nothing to do does (docs/decisions/0023).
//!
//! What is remembered counts for units that are not loaded only, and only as long as systemd has not reloaded and no file of any unit has
//! come, gone or changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LoadedSocket, LoadedUnit};
use crate::{
    model::UnitName,
    sys::{fault, fs as files},
};

/// Where it is: gone with the next boot, and beside our folder, which shows what a run has changed.
const PATH: &str = "/run/netns-networkd.units.json";

/// What is known of units that are not loaded.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The files of all units when systemd was asked.
    stamp: String,
    pub(super) units: BTreeMap<String, Known>,
}

/// What the files of a unit make of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) id: String,
    load_state: String,
    binds_to: Vec<String>,
    after: Vec<String>,
    before: Vec<String>,
    triggered_by: Vec<String>,
    joins_namespace_of: Vec<String>,
    network_namespace_path: String,
    socket: Option<(Vec<String>, bool, Vec<String>, bool)>,
}

impl Known {
    pub(super) fn of(unit: LoadedUnit) -> Self {
        let LoadedUnit {
            id, load_state, binds_to, after, before, triggered_by, joins_namespace_of, network_namespace_path, socket, ..
        } = unit;
        let socket = socket.map(|LoadedSocket { listen, accept, triggers, enabled }| (listen, accept, triggers, enabled));
        Self { id, load_state, binds_to, after, before, triggered_by, joins_namespace_of, network_namespace_path, socket }
    }

    /// Gives the unit as systemd would if it were asked: one that is not loaded neither runs nor has failed.
    pub(super) fn unit(&self) -> LoadedUnit {
        let Self { id, load_state, binds_to, after, before, triggered_by, joins_namespace_of, network_namespace_path, socket } =
            self.clone();
        LoadedUnit {
            id,
            load_state,
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            binds_to,
            after,
            before,
            triggered_by,
            joins_namespace_of,
            network_namespace_path,
            socket: socket.map(|(listen, accept, triggers, enabled)| LoadedSocket { listen, accept, triggers, enabled }),
            ..LoadedUnit::default()
        }
    }
}

impl Memory {
    /// Reads what is still true; nothing if that cannot be told.
    pub(super) fn read(stamp: Stamp) -> Self {
        let memory: Option<Self> = files::read_text(Path::new(PATH)).ok().flatten().and_then(|text| serde_json::from_str(&text).ok());
        memory.filter(|memory| memory.stamp == stamp.hash).unwrap_or_else(|| Self { stamp: stamp.hash, units: BTreeMap::new() })
    }

    /// Writes it down; without it the next run asks again.
    pub fn write(&self) {
        if let Ok(text) = serde_json::to_string(self) {
            let _ = files::write_volatile(Path::new(PATH), &text);
        }
    }
}

/// What tells one state of the files of all units from another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    hash: String,
}

/// What systemd itself writes when it reloads, which changes the stamp anyway.
const GENERATED: [&str; 3] = ["/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late"];
/// Settings of units without files: sessions, `systemd-run`.
const TRANSIENT: &str = "/run/systemd/transient";
/// The kernel's clock of files goes in steps of up to 10 ms: of two changes within one, the second cannot be seen.
const STEP: Duration = Duration::from_millis(20);

impl Stamp {
    /// Looks at all folders that systemd reads units from. None if a folder cannot be read, or if something in it is younger than
    /// `loaded`, when systemd last began to read units (since 1970): what it has loaded may then be older than what is there.
    pub(super) fn of(folders: &[PathBuf], loaded: Duration, names: &[UnitName]) -> Option<Self> {
        let settled = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(STEP)?;
        let names = names.iter().map(UnitName::as_str).collect();
        let mut look = Look { hash: Sha256::new(), older_than: loaded.min(settled), names };
        look.hash.update(loaded.as_micros().to_le_bytes());
        let folders = folders.iter().filter(|folder| GENERATED.iter().all(|generated| *folder != Path::new(generated)));
        fault::look(format_args!("read the folders of units"), || folders.into_iter().try_for_each(|folder| look.at(folder, true))).ok()?;
        Some(Self { hash: look.hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")) })
    }
}

struct Look<'a> {
    hash: Sha256,
    older_than: Duration,
    names: BTreeSet<&'a str>,
}

impl Look<'_> {
    fn at(&mut self, folder: &Path, is_top: bool) -> std::io::Result<()> {
        let mut entries = match fs::read_dir(folder) {
            Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>()?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if folder == Path::new(TRANSIENT) {
            let is_asked_for = |name: &str| self.names.contains(name.strip_suffix(".d").unwrap_or(name));
            entries.retain(|entry| entry.file_name().to_str().is_none_or(is_asked_for));
        }
        entries.sort_by_key(fs::DirEntry::file_name);
        self.hash.update(folder.as_os_str().as_encoded_bytes());
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type()?;
            self.hash.update([0]);
            self.hash.update(entry.file_name().as_encoded_bytes());
            if kind.is_symlink() {
                self.add(&fs::symlink_metadata(&path)?)?;
                self.hash.update(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
            }
            if kind.is_dir() {
                // drop-ins, and links that others want it; systemd looks no deeper
                if is_top {
                    self.at(&path, false)?;
                }
                continue;
            }
            // a link to nothing is what it says
            let found = match fs::metadata(&path) {
                Err(_) if kind.is_symlink() => continue,
                other => other?,
            };
            if found.is_file() {
                self.add(&found)?;
            } else if found.is_dir() && is_top {
                self.at(&path, false)?;
            }
            // /dev/null is as old as the boot: the link says that a unit is masked
        }
        Ok(())
    }

    fn add(&mut self, found: &fs::Metadata) -> std::io::Result<()> {
        let (seconds, nanoseconds) = (found.ctime(), found.ctime_nsec());
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok()).map(|(s, ns)| Duration::new(s, ns));
        if changed.is_none_or(|changed| changed >= self.older_than) {
            return Err(std::io::ErrorKind::Other.into());
        }
        for number in [found.ino(), found.size(), seconds.cast_unsigned(), nanoseconds.cast_unsigned()] {
            self.hash.update(number.to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Instant};

    use super::*;

    type Step<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;

    /// As soon as the last change is old enough.
    fn stamp(folder: &Path) -> Stamp {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match Stamp::of(&[folder.to_owned()], Duration::MAX, &[]) {
                Some(stamp) => return stamp,
                None => assert!(Instant::now() < deadline, "too young for 5 s"),
            }
        }
    }

    /// Whatever makes systemd take another setting shows: a file, a drop-in, a link, a mask, an edit in place, and its way back.
    #[test]
    fn every_change_of_a_unit_s_files_changes_the_stamp() {
        let folder = std::env::temp_dir().join(format!("netns-networkd-stamp-{}", std::process::id()));
        fs::create_dir_all(folder.join("a.service.d")).unwrap();
        fs::write(folder.join("a.service"), "[Service]\n").unwrap();
        fs::write(folder.join("a.service.d/1.conf"), "[Unit]\n").unwrap();
        let mut seen = vec![stamp(&folder)];
        assert_eq!(stamp(&folder), seen[0]);
        let steps: [Step; 6] = [
            &|folder| fs::write(folder.join("a.service"), "[Service]\nNice=1\n"),
            &|folder| fs::write(folder.join("a.service.d/1.conf"), "[Unit]\nAfter=b\n"),
            &|folder| fs::write(folder.join("a.service.d/2.conf"), ""),
            &|folder| fs::remove_file(folder.join("a.service.d/2.conf")),
            &|folder| std::os::unix::fs::symlink("/dev/null", folder.join("b.service")),
            &|folder| fs::rename(folder.join("a.service.d"), folder.join("service.d")),
        ];
        for (n, step) in steps.iter().enumerate() {
            step(&folder).unwrap();
            let now = stamp(&folder);
            // what was removed without a trace is as before it came
            assert_eq!(seen.contains(&now), n == 3, "step {n}");
            seen.push(now);
        }
        // younger than what systemd has read
        assert_eq!(Stamp::of(std::slice::from_ref(&folder), Duration::from_secs(1), &[]), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_remembered_is_forgotten_with_the_stamp() {
        let unit = LoadedUnit {
            id: "b.service".to_owned(),
            load_state: "loaded".to_owned(),
            binds_to: vec!["netns@a.service".to_owned()],
            ..LoadedUnit::default()
        };
        let back = Known::of(unit.clone()).unit();
        assert_eq!(back, LoadedUnit { active_state: "inactive".to_owned(), sub_state: "dead".to_owned(), ..unit });
    }
}
