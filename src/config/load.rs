//! Which files count: the search path, with systemd's rules.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// The folders of the configuration, below `--root`; an earlier one goes before a later one.
pub const SEARCH_PATH: [&str; 3] = ["/etc/netns-networkd", "/run/netns-networkd", "/usr/lib/netns-networkd"];

/// A file found in one of the folders: a regular file, or a link to one or to `/dev/null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub path: PathBuf,
    /// It is a link to `/dev/null`: neither it nor the file it hides counts.
    pub masked: bool,
}

/// Tells which files are read, in which order: those named `*.toml` and not hidden, by name whatever their folder; of several
/// with one name the first given counts, so give the folders in the order of [`SEARCH_PATH`].
pub fn select(candidates: impl IntoIterator<Item = Candidate>) -> Vec<PathBuf> {
    let mut by_name: BTreeMap<OsString, Candidate> = BTreeMap::new();
    for candidate in candidates {
        if let Some(name) = candidate.path.file_name().filter(|name| is_fragment(name)) {
            by_name.entry(name.to_owned()).or_insert(candidate);
        }
    }
    by_name.into_values().filter(|c| !c.masked).map(|c| c.path).collect()
}

/// Tells whether a file of this name is a fragment: `mail.toml`, but not `.mail.toml` or `mail.toml~`.
fn is_fragment(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(candidates: &[(&str, bool)]) -> Vec<String> {
        let candidates = candidates.iter().map(|(path, masked)| Candidate { path: path.into(), masked: *masked });
        select(candidates).into_iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn an_earlier_folder_hides_and_masks() {
        assert_eq!(
            picked(&[
                ("/etc/n/20-b.toml", false),
                ("/etc/n/30-c.toml", true),
                ("/run/n/20-b.toml", false),
                ("/usr/n/10-a.toml", false),
                ("/usr/n/30-c.toml", false),
            ]),
            ["/usr/n/10-a.toml", "/etc/n/20-b.toml"]
        );
        // the mask itself is hidden by a file of the same name in an earlier folder
        assert_eq!(picked(&[("/etc/n/a.toml", false), ("/run/n/a.toml", true)]), ["/etc/n/a.toml"]);
    }

    #[test]
    fn only_toml_files_that_are_not_hidden() {
        assert_eq!(
            picked(&[("/n/.a.toml", false), ("/n/.toml", false), ("/n/a.toml~", false), ("/n/a.conf", false), ("/n/README", false)]),
            [""; 0]
        );
    }
}
