//! nft(8): the one program that `up` runs, and only where a ruleset is asked for.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow};

use super::{fault, fs, netns};
use crate::{
    derive::sha256,
    desired::ruleset_path,
    model::{LinkName, Netns, NetnsName, Ruleset},
};

/// The text that is loaded: what a namespace has to give back before it gets another one.
fn loaded_path(name: &NetnsName) -> PathBuf {
    format!("/run/netns-networkd/netns/{name}.nft").into()
}

/// Tells what this tool has loaded into a namespace last.
pub fn loaded(name: &NetnsName) -> Result<Option<Ruleset>> {
    Ok(fs::read_text(&loaded_path(name))?.map(|text| Ruleset { sha256: sha256(&text) }))
}

/// Forgets what was loaded: the namespace has gone.
pub fn forget(name: &NetnsName) -> Result<()> {
    fs::remove_volatile(&loaded_path(name))
}

/// Makes the ruleset of the calling thread's namespace that of the record, in one transaction. Tables of others stay.
///
/// A namespace that is not `new` may have the tables of the old text, and those of the new one from a run that was killed.
pub fn set(name: &NetnsName, wanted: &Netns, new: bool) -> Result<()> {
    let committed = ruleset_path(name);
    let text = match &wanted.ruleset {
        Some(ruleset) => {
            let text = fs::read_text(&committed)?.filter(|text| sha256(text) == ruleset.sha256);
            Some(text.ok_or_else(|| {
                anyhow!("{} is not what the last sync wrote", committed.display())
                    .context("hint: `netns-networkd sync --force` writes it again")
            })?)
        }
        None => None,
    };
    let old = fs::read_text(&loaded_path(name))?;
    let mut script = String::new();
    if !new {
        let links: Vec<&LinkName> = wanted.links.keys().collect();
        let mut tables = BTreeSet::new();
        for text in [&old, &text].into_iter().flatten() {
            tables.extend(netns::scratch(&links, || tables_of(text))?);
        }
        // `add` first, for it may have gone
        script.extend(tables.iter().map(|table| format!("add {table}\ndelete {table}\n")));
    }
    let committed = committed.display().to_string();
    if script.is_empty() {
        run(&["-f", &committed], "")?;
    } else {
        script.extend(text.iter().map(|_| format!("include \"{committed}\"\n")));
        run(&["-f", "-"], &script)?;
    }
    match text {
        Some(text) => fs::write_volatile(&loaded_path(name), &text),
        None => forget(name),
    }
}

/// Loads a text into the calling thread's namespace, which must be a throw-away one, and lists its tables: `table inet filter`.
fn tables_of(text: &str) -> Result<BTreeSet<String>> {
    run(&["-f", "-"], text)?;
    Ok(run(&["list", "tables"], "")?.lines().map(str::to_owned).collect())
}

/// Checks a file in the calling thread's namespace, without loading it.
pub fn check(path: &Path) -> Result<()> {
    run(&["-c", "-f", &path.display().to_string()], "").map(drop)
}

fn run(arguments: &[&str], input: &str) -> Result<String> {
    let mut nft = Command::new("nft");
    nft.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match fault::change(format_args!("start nft"), || nft.spawn()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(anyhow!("failed to run nft: it is not installed")).context("hint: `apt install nftables`");
        }
        other => other.context("failed to run nft")?,
    };
    // nft reads all of its input before it writes
    let sent = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = fault::change(format_args!("wait for nft"), || child.wait_with_output()).context("failed to wait for nft")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("nft refuses the ruleset:\n{}", words.trim_end()));
    }
    sent.context("failed to send nft its input")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
