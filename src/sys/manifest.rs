//! The manifest: which files on this host are ours, and what we wrote into them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::fs::{self, Found, Root};
use crate::lease;
use crate::{
    derive::sha256,
    model::{File, Provenance},
};

/// Where the manifest is.
pub const PATH: &str = "/var/lib/netns-networkd/manifest.toml";

/// Files that we wrote: only these are ever changed or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A run has begun and not ended: networkd and systemd may not have read the files yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Path -> SHA-256 of the contents that we wrote: one, while a run is under way the old one and the new one.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, BTreeSet<String>>,
}

/// A text without blank lines at its end.
fn one_newline(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

impl Manifest {
    /// Reads the manifest; a broken one is an error, for without it our own files cannot be told from others.
    pub fn read(root: &Root) -> Result<Self> {
        let path = root.at(PATH);
        let Some(text) = fs::read_text(&path)? else { return Ok(Self::default()) };
        Self::parse(&text)
            .with_context(|| format!("{} is broken", path.display()))
            .context("hint: move it away and run `netns-networkd sync --force`, which takes all files of these names over")
    }

    /// Reads the text of a manifest.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Gives its text.
    pub fn text(&self) -> Result<String> {
        let text = toml::to_string(self).context("failed to write down the manifest")?;
        Ok(format!("# What netns-networkd has written. It changes and removes no other files.\n{text}"))
    }

    /// Writes the manifest.
    pub fn write(&self, root: &Root) -> Result<()> {
        fs::write(&root.at(PATH), &self.text()?)
    }

    /// Looks at a file of the host; none if there is none.
    pub fn look_at(&self, root: &Root, path: &Path) -> Result<Option<File>> {
        Ok(judge(fs::read_plain(&root.at(path))?, self.files.get(path), None))
    }
}

/// Tells whose a file of the host is, which may be listed in the manifest, and of which something may be wanted; none if there is none.
#[must_use]
pub fn judge(found: Found, listed: Option<&BTreeSet<String>>, wanted: Option<&File>) -> Option<File> {
    let content = match found {
        Found::Nothing => return None,
        Found::Text(text) => text,
        Found::Special => {
            // a link, most likely to /dev/null: somebody wants this file to have no effect
            let provenance = if listed.is_some() { Provenance::Edited } else { Provenance::Foreign };
            return Some(File { content: String::new(), provenance });
        }
    };
    let provenance = match listed {
        // then nobody asks what it was when it was written, and a hash of each file takes a while
        Some(_) if wanted.is_some_and(|wanted| wanted.content == content) => Provenance::Ours,
        // a run that was cut off while it wrote in place leaves blank lines (fs::Staged::commit_in_place)
        Some(hashes) if hashes.contains(&sha256(&content)) || hashes.contains(&sha256(&one_newline(&content))) => Provenance::Ours,
        // made from leases until the configuration said otherwise
        _ if lease::is_from_leases(&content) => Provenance::Ours,
        Some(_) => Provenance::Edited,
        None => Provenance::Foreign,
    };
    Some(File { content, provenance })
}
