//! What networkd shows without a bus: the state of each link, and the files that it reads.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::fs::{list, read_text};

/// networkd's folders, an earlier one before a later one (systemd.network(5)).
pub const SEARCH_PATH: [&str; 4] =
    ["/etc/systemd/network", "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network"];

/// networkd's view of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// `configured`, `configuring`, `unmanaged`, …
    pub state: String,
    /// The `.network` file that it takes.
    pub file: Option<PathBuf>,
    /// `network-online.target` waits for it.
    pub required: Option<bool>,
}

/// Reads networkd's view of a link; none where it has none. The files are those of sd-network(3), which has no other way either, and
/// their form is its private matter: they are for explaining and nothing else. They stay when networkd stops.
#[must_use]
pub fn link_state(index: u32) -> Option<LinkState> {
    parse(&fs::read_to_string(format!("/run/systemd/netif/links/{index}")).ok()?)
}

fn parse(text: &str) -> Option<LinkState> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|value| value.trim_matches('"'));
    Some(LinkState {
        state: value("ADMIN_STATE")?.to_owned(),
        file: value("NETWORK_FILE").filter(|path| !path.is_empty()).map(PathBuf::from),
        required: value("REQUIRED_FOR_ONLINE").map(|value| value == "yes"),
    })
}

/// A file that networkd reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    /// It is empty, or a link to /dev/null.
    pub masked: bool,
    /// Why networkd cannot read it.
    pub unreadable: Option<String>,
    pub text: String,
}

/// Lists the `.network` and `.netdev` files in networkd's order, which is that of their names, and their drop-ins behind each.
pub fn files() -> Result<Vec<File>> {
    let reader = Reader::new()?;
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut drop_ins: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for folder in SEARCH_PATH {
        for entry in list(Path::new(folder))? {
            let Some(name) = entry.path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else { continue };
            let is_file = |name: &str| name.ends_with(".network") || name.ends_with(".netdev");
            if is_file(name) {
                by_name.entry(name.to_owned()).or_insert(entry.path.clone());
            } else if let Some(of) = name.strip_suffix(".d").filter(|of| is_file(of)) {
                for file in list(&entry.path)? {
                    let is_conf = file.path.extension().is_some_and(|suffix| suffix == "conf");
                    if let Some(name) = file.path.file_name().and_then(|name| name.to_str()).filter(|_| is_conf) {
                        drop_ins.entry(of.to_owned()).or_default().entry(name.to_owned()).or_insert(file.path.clone());
                    }
                }
            }
        }
    }
    let mut files = Vec::new();
    for (name, path) in by_name {
        files.push(reader.look_at(path));
        files.extend(drop_ins.remove(&name).into_iter().flatten().map(|(_, path)| reader.look_at(path)));
    }
    Ok(files)
}

/// The user that networkd is when it reads its files.
struct Reader {
    user: Option<u32>,
    groups: Vec<u32>,
}

impl Reader {
    fn new() -> Result<Self> {
        const NAME: &str = "systemd-network";
        let field = |text: &str, number: usize| text.split(':').nth(number).and_then(|id| id.parse().ok());
        let find = |text: &str| text.lines().find(|line| line.split(':').next() == Some(NAME)).map(str::to_owned);
        let user = find(&read_text(Path::new("/etc/passwd"))?.unwrap_or_default());
        let groups = read_text(Path::new("/etc/group"))?.unwrap_or_default();
        let member = |line: &&str| line.rsplit(':').next().is_some_and(|users| users.split(',').any(|user| user == NAME));
        let mut all: Vec<u32> = groups.lines().filter(member).filter_map(|line| field(line, 2)).collect();
        all.extend(user.as_deref().and_then(|line| field(line, 3)));
        Ok(Self { user: user.as_deref().and_then(|line| field(line, 2)), groups: all })
    }

    fn look_at(&self, path: PathBuf) -> File {
        let masked = match fs::canonicalize(&path) {
            Ok(target) => target == Path::new("/dev/null"),
            Err(_) => false,
        };
        let text = fs::read_to_string(&path).ok();
        let is_empty = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == 0);
        File {
            masked: masked || is_empty,
            unreadable: if masked { None } else { self.why_not(&path) },
            text: text.unwrap_or_default(),
            path,
        }
    }

    /// Says why this user cannot read a file; none where nothing speaks against it, or where there is no such user.
    fn why_not(&self, path: &Path) -> Option<String> {
        let user = self.user?;
        let may = |found: &fs::Metadata, bit: u32| {
            let shift = if found.uid() == user {
                6
            } else if self.groups.contains(&found.gid()) {
                3
            } else {
                0
            };
            found.mode() >> shift & bit != 0
        };
        for folder in path.ancestors().skip(1) {
            if let Ok(found) = fs::metadata(folder).map(|found| (may(&found, 1), found.mode() & 0o7777)) {
                let (can, mode) = found;
                if !can {
                    return Some(format!("its folder {} has mode {mode:04o}", folder.display()));
                }
            }
        }
        match fs::metadata(path) {
            Ok(found) if may(&found, 4) => None,
            Ok(found) => Some(format!("its mode is {:04o}", found.mode() & 0o7777)),
            Err(e) => Some(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_both_releases() {
        let text = "# This is private data. Do not parse.\nADMIN_STATE=configured\nOPER_STATE=routable\nREQUIRED_FOR_ONLINE=yes\n\
                    NETWORK_FILE=/etc/systemd/network/a.network\nNETWORK_FILE_DROPINS=\"\"\nDNS=\n";
        let state = parse(text).unwrap();
        assert_eq!((state.state.as_str(), state.required), ("configured", Some(true)));
        assert_eq!(state.file, Some("/etc/systemd/network/a.network".into()));
        assert_eq!(parse("ADMIN_STATE=unmanaged\n"), Some(LinkState { state: "unmanaged".to_owned(), ..LinkState::default() }));
        assert_eq!(parse("something else\n"), None);
    }
}
