//! What systemd made of the files of units, remembered: to ask it for a unit that is not loaded has it read all files of that unit,
//! which takes it longer than everything else that a run with nothing to do does (docs/decisions/0023).
//!
//! What is remembered counts for units that are not loaded only, and only as long as no file of any unit has come, gone or changed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LoadedSocket, LoadedUnit};
use crate::{
    model::UnitName,
    sys::{fault, fs as files},
};

/// Where it is: gone with the next boot.
const PATH: &str = "/run/netns-networkd/units.json";

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
    /// Its own name, where it was asked for by an alias.
    pub(super) id: String,
    load_state: String,
    binds_to: Vec<String>,
    after: Vec<String>,
    triggered_by: Vec<String>,
    joins_namespace_of: Vec<String>,
    network_namespace_path: String,
    socket: Option<(Vec<String>, bool, Vec<String>, bool)>,
}

impl Known {
    pub(super) fn of(id: String, unit: LoadedUnit) -> Self {
        let LoadedUnit { load_state, binds_to, after, triggered_by, joins_namespace_of, network_namespace_path, socket, .. } = unit;
        let socket = socket.map(|LoadedSocket { listen, accept, triggers, enabled }| (listen, accept, triggers, enabled));
        Self { id, load_state, binds_to, after, triggered_by, joins_namespace_of, network_namespace_path, socket }
    }

    /// Gives the unit as systemd would if it were asked: one that is not loaded neither runs nor has failed.
    pub(super) fn unit(&self) -> LoadedUnit {
        let Self { id: _, load_state, binds_to, after, triggered_by, joins_namespace_of, network_namespace_path, socket } = self.clone();
        LoadedUnit {
            load_state,
            active_state: "inactive".to_owned(),
            sub_state: "dead".to_owned(),
            binds_to,
            after,
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

/// Folders that generators write anew at each reload of systemd, with the same content.
const GENERATED: &str = "/run/systemd/generator";
/// Settings of units without files: sessions, `systemd-run`.
const TRANSIENT: &str = "/run/systemd/transient";

impl Stamp {
    /// Looks at all folders that systemd reads units from. None if a folder cannot be read, or if something in it is younger than
    /// `loaded`, when systemd last began to read units (microseconds since 1970): what it has loaded may then be older than what is
    /// there.
    pub(super) fn of(folders: &[PathBuf], loaded: u64, names: &[UnitName]) -> Option<Self> {
        let mut hash = Sha256::new();
        let looked = fault::look(format_args!("read the folders of units"), || {
            folders.iter().try_for_each(|folder| look_at(&mut hash, folder, loaded, names, true))
        });
        looked.ok()?;
        Some(Self { hash: hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")) })
    }
}

fn look_at(hash: &mut Sha256, folder: &Path, loaded: u64, names: &[UnitName], is_top: bool) -> std::io::Result<()> {
    let generated = folder.starts_with("/run/systemd") && folder.to_string_lossy().starts_with(GENERATED);
    let mut entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>()?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if folder == Path::new(TRANSIENT) {
        let is_asked_for = |name: &str| names.iter().any(|unit| unit.as_str() == name.strip_suffix(".d").unwrap_or(name));
        entries.retain(|entry| entry.file_name().to_str().is_none_or(is_asked_for));
    }
    entries.sort_by_key(fs::DirEntry::file_name);
    hash.update(folder.as_os_str().as_encoded_bytes());
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type()?;
        hash.update([0]);
        hash.update(entry.file_name().as_encoded_bytes());
        if kind.is_symlink() {
            add(hash, &fs::symlink_metadata(&path)?, loaded, generated)?;
            hash.update(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
        }
        // a link to nothing is what it says
        let Some(found) = fs::metadata(&path).map(Some).or_else(|e| if kind.is_symlink() { Ok(None) } else { Err(e) })? else { continue };
        if found.is_dir() {
            // drop-ins, and links that others want it; systemd looks no deeper
            if is_top {
                look_at(hash, &path, loaded, names, false)?;
            }
        } else if generated {
            hash.update(fs::read(&path)?);
        } else if found.is_file() {
            // not /dev/null, which is as old as the boot: the link says that
            add(hash, &found, loaded, false)?;
        }
    }
    Ok(())
}

fn add(hash: &mut Sha256, found: &fs::Metadata, loaded: u64, generated: bool) -> std::io::Result<()> {
    if generated {
        return Ok(());
    }
    let micros = found.ctime() * 1_000_000 + found.ctime_nsec() / 1000;
    if u64::try_from(micros).is_ok_and(|changed| changed >= loaded) {
        return Err(std::io::ErrorKind::Other.into());
    }
    for number in [found.ino(), found.size(), found.ctime().cast_unsigned(), found.ctime_nsec().cast_unsigned()] {
        hash.update(number.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    type Step<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;

    fn stamp(folder: &Path) -> Option<Stamp> {
        Stamp::of(&[folder.to_owned()], u64::MAX, &[])
    }

    /// Whatever makes systemd take another setting shows: a file, a drop-in, a link, a mask, an edit in place, and its way back.
    #[test]
    fn every_change_of_a_unit_s_files_changes_the_stamp() {
        let folder = std::env::temp_dir().join(format!("netns-networkd-stamp-{}", std::process::id()));
        fs::create_dir_all(folder.join("a.service.d")).unwrap();
        fs::write(folder.join("a.service"), "[Service]\n").unwrap();
        fs::write(folder.join("a.service.d/1.conf"), "[Unit]\n").unwrap();
        let mut seen = vec![stamp(&folder).unwrap()];
        assert_eq!(stamp(&folder).unwrap(), seen[0]);
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
            let now = stamp(&folder).unwrap();
            // what was removed without a trace may be as before it came
            assert!(!seen.contains(&now) || n == 3, "step {n}");
            seen.push(now);
        }
        // younger than what systemd has read
        assert_eq!(Stamp::of(std::slice::from_ref(&folder), 1, &[]), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_remembered_is_forgotten_with_the_stamp() {
        let unit = LoadedUnit { load_state: "loaded".to_owned(), binds_to: vec!["netns@a.service".to_owned()], ..LoadedUnit::default() };
        let back = Known::of("a.service".to_owned(), unit.clone()).unit();
        assert_eq!(back, LoadedUnit { active_state: "inactive".to_owned(), sub_state: "dead".to_owned(), ..unit });
    }
}
