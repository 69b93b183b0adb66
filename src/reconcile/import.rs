//! `import`: the files of a host read, and the result checked and written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Error, Result, bail};

use super::host;
use crate::{
    config::{self, SourceFile},
    import::{CONFIG, Files, Import, import as convert, matches},
    sys::fs::{self, Root},
};

/// Files that are longer are no configuration.
const MOST_BYTES: u64 = 1 << 20;

/// Rounds in which files name further files.
const ROUNDS: usize = 10;

#[derive(Debug)]
pub struct Options {
    /// The host that is read.
    pub from: Root,
    /// None for the folder of the configuration below `root`.
    pub output: Option<PathBuf>,
    pub root: Root,
    pub dry_run: bool,
    pub force: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub import: Import,
    /// In the order in which they are to be read.
    pub files: Vec<(PathBuf, String)>,
    /// Of a dry run: why nothing would be written.
    pub fault: Option<Error>,
}

/// Reads a host, and writes what it comes to unless there is a fault in it, or something in the way.
pub fn import(options: &Options) -> Result<Outcome> {
    let folder = options.output.clone().unwrap_or_else(|| options.root.at(CONFIG));
    // in the commands that are to be run there, an image is the host
    let shown = options.root.inside(&folder.display().to_string());
    let import = read(&options.from, &shown)?;
    if import.names.is_empty() && import.bridges.is_none() {
        let from = if options.from.is_host() { String::new() } else { format!(" below {}", options.from.at("/").display()) };
        bail!("nothing to import{from}: no namespaces in /etc/network, in units, in /etc/default/netns-* or in profiles of wg-netns");
    }
    let mut files = vec![(folder.join("imported.toml"), import.namespaces.clone())];
    let beside = folder.join("imported");
    files.extend(import.bridges.clone().map(|text| (beside.join("bridges.toml"), text)));
    files.extend(import.drop_ins.iter().map(|(unit, text)| (beside.join(format!("{unit}.conf")), text.clone())));
    files.push((beside.join("state.sh"), import.state.clone()));
    let mut outcome = Outcome { import, files, fault: None };
    match check(options, &folder, &outcome) {
        fault if options.dry_run => {
            outcome.fault = fault.err();
            return Ok(outcome);
        }
        checked => checked?,
    }
    let in_the_way: Vec<String> =
        outcome.files.iter().filter(|(path, text)| differs(path, text)).map(|(path, _)| path.display().to_string()).collect();
    if !in_the_way.is_empty() && !options.force {
        bail!(
            "nothing was written: {} would be replaced\n  hint: look at `netns-networkd import --dry-run`; --force replaces",
            in_the_way.join(", ")
        );
    }
    for (path, text) in &outcome.files {
        fs::write(path, text)?;
    }
    Ok(outcome)
}

fn differs(path: &Path, text: &str) -> bool {
    fs::exists(path) && fs::read_text(path).ok().flatten().as_deref() != Some(text)
}

/// Checks the result as `check` would: with the other files of the configuration, now and when the bridges have moved.
fn check(options: &Options, folder: &Path, outcome: &Outcome) -> Result<()> {
    let main = folder.join("imported.toml");
    let mut files = Vec::new();
    if folder == options.root.at(CONFIG) {
        for path in host::config_files(&options.root)?.into_iter().filter(|path| *path != main) {
            files.push(host::source_file(&path)?);
        }
    }
    let tables = outcome.files.iter().filter(|(path, _)| path.extension().is_some_and(|suffix| suffix == "toml"));
    for (path, text) in tables {
        files.push(SourceFile { path: path.display().to_string(), bytes: text.clone().into_bytes() });
        config::parse(&files)?;
    }
    Ok(())
}

/// Reads what is asked for until nothing else is.
fn read(root: &Root, folder: &str) -> Result<Import> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut asked = std::collections::BTreeSet::new();
    let mut import = Import::default();
    for _ in 0..ROUNDS {
        import = convert(&Files::new(texts.clone()), folder);
        let new: Vec<String> = import.wanted.difference(&asked).cloned().collect();
        if new.is_empty() {
            break;
        }
        for pattern in new {
            for path in find(root, &pattern)? {
                if let Some(text) = fs::read_small_text(&root.target(&path), MOST_BYTES)? {
                    texts.insert(path, text);
                }
            }
            asked.insert(pattern);
        }
    }
    Ok(import)
}

/// Lists the paths that a pattern names, as they are on the host.
fn find(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').skip(1) {
        let mut next = Vec::new();
        for folder in found {
            if !part.contains(['*', '?', '[']) {
                next.push(format!("{folder}/{part}"));
                continue;
            }
            for entry in fs::list_if_directory(&root.at(format!("{folder}/")))? {
                let Some(name) = entry.path.file_name().and_then(|name| name.to_str()) else { continue };
                // another name of a unit is a link, which is none of its own
                let is_alias = folder.ends_with("/systemd/system") && fs::is_link(&entry.path);
                if matches(part, name) && !is_alias {
                    next.push(format!("{folder}/{name}"));
                }
            }
        }
        found = next;
    }
    Ok(found)
}
