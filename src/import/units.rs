//! Units with their drop-ins: which run in a namespace, and how they are told to.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Files, Origin,
    words::{Vars, commands, lines},
};

/// A unit as systemd puts it together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    /// In the order in which they count.
    pub settings: Vec<Setting>,
    /// Files that it consists of.
    pub files: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub section: String,
    pub key: String,
    pub value: String,
    pub from: Origin,
}

/// A unit that runs in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub name: String,
    pub netns: String,
    pub from: Origin,
    /// Settings that begin with `ip netns exec`: key, all its values without that.
    pub plain: BTreeMap<String, Vec<String>>,
    pub files: Vec<String>,
}

/// Where units are, the first counts most (systemd.unit(5)).
pub const FOLDERS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Templates that make namespaces: of the hack and this tool, of systemd-named-netns, of wg-netns.
const MAKERS: [&str; 6] = ["netns@", "netns-bridge@", "netns-nat@", "netns-tunnel@", "netns-mvbr@", "wg-netns@"];

/// What this tool writes for a unit, which is not how it was before.
const OURS: &str = "50-netns-networkd.conf";

/// Reads all units that are known.
#[must_use]
pub fn read(files: &Files) -> BTreeMap<String, Unit> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for suffix in ["service", "socket"] {
        let here = files.matching(&format!("{}/*.{suffix}", FOLDERS[0]));
        names.extend(here.iter().filter_map(|path| path.rsplit('/').next()).map(str::to_owned));
        for folder in FOLDERS {
            let drop_ins = files.matching(&format!("{folder}/*.{suffix}.d/*.conf")).into_iter().filter(|path| !path.ends_with(OURS));
            names.extend(drop_ins.filter_map(|path| path.rsplit('/').nth(1)?.strip_suffix(".d").map(str::to_owned)));
        }
    }
    names.into_iter().map(|name| (name.clone(), unit(files, &name))).collect()
}

/// Reads one unit.
pub fn unit(files: &Files, name: &str) -> Unit {
    let mut unit = Unit { name: name.to_owned(), ..Unit::default() };
    let main = FOLDERS.iter().map(|folder| format!("{folder}/{name}")).find(|path| files.get(path).is_some());
    let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
    for folder in FOLDERS {
        for path in files.matching(&format!("{folder}/{name}.d/*.conf")).into_iter().filter(|path| !path.ends_with(OURS)) {
            drop_ins.entry(path.rsplit('/').next().unwrap_or_default().to_owned()).or_insert(path);
        }
    }
    for path in main.into_iter().chain(drop_ins.into_values()) {
        unit.settings.extend(files.get(&path).map(|text| parse(&path, text)).unwrap_or_default());
        unit.files.push(path);
    }
    unit
}

/// Reads one file (systemd.syntax(7)).
pub fn parse(path: &str, text: &str) -> Vec<Setting> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in lines(text, &['#', ';'], " ") {
        if let Some(name) = line.text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.text.split_once('=') {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            settings.push(Setting { section: section.clone(), key, value, from: Origin::new(path, line.number) });
        }
    }
    settings
}

impl Unit {
    /// Gives the settings of a key that count: an empty one takes back those before.
    pub fn values(&self, key: &str) -> Vec<&Setting> {
        let mut values: Vec<&Setting> = Vec::new();
        for setting in self.settings.iter().filter(|setting| setting.key == key) {
            if setting.value.is_empty() { values.clear() } else { values.push(setting) }
        }
        values
    }

    /// Tells in which namespace it runs, if in any.
    pub fn bound(&self) -> Option<Bound> {
        let bound = |setting: &Setting| {
            setting.value.split_whitespace().find_map(|unit| {
                let name = MAKERS.iter().find_map(|maker| unit.strip_prefix(maker))?.strip_suffix(".service")?;
                Some((name.to_owned(), setting.from.clone()))
            })
        };
        let path = |setting: &Setting| {
            let name = ["/run/netns/", "/var/run/netns/"].iter().find_map(|folder| setting.value.strip_prefix(folder))?;
            Some((name.to_owned(), setting.from.clone()))
        };
        let keys: BTreeSet<&str> = self.settings.iter().map(|setting| setting.key.as_str()).filter(|key| key.starts_with("Exec")).collect();
        let mut plain = BTreeMap::new();
        let mut inside = None;
        for key in keys {
            let values = self.values(key);
            let taken: Vec<_> = values.iter().map(|setting| without_prefix(&setting.value)).collect();
            for (setting, taken) in values.iter().zip(&taken) {
                if let Some((netns, _)) = taken {
                    // what starts it says most
                    if inside.is_none() || key == "ExecStart" {
                        inside = Some((netns.clone(), setting.from.clone()));
                    }
                }
            }
            if taken.iter().any(Option::is_some) {
                let rest = values.iter().zip(taken).map(|(setting, taken)| taken.map_or_else(|| setting.value.clone(), |(_, rest)| rest));
                plain.insert(key.to_owned(), rest.collect());
            }
        }
        let of = |keys: &[&str]| keys.iter().flat_map(|key| self.values(key)).find_map(bound);
        let (netns, from) = inside
            .or_else(|| self.values("NetworkNamespacePath").last().copied().and_then(path))
            .or_else(|| of(&["BindsTo", "Requires", "JoinsNamespaceOf"]))?;
        Some(Bound { name: self.name.clone(), netns, from, plain, files: self.files.clone() })
    }
}

/// Takes what puts a command into a namespace from its front: the namespace, the rest.
fn without_prefix(command: &str) -> Option<(String, String)> {
    let special = command.len() - command.trim_start_matches(['@', '-', ':', '+', '!']).len();
    let (special, command) = command.split_at_checked(special)?;
    let mut rest = command;
    let mut next = || {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        (!word.is_empty()).then(|| word.to_owned())
    };
    let mut program = next()?;
    if program.ends_with("/env") {
        program = next()?;
    }
    let netns = match program.rsplit('/').next()? {
        "ip" if next()? == "netns" && ["exec", "e", "ex"].contains(&next()?.as_str()) => next()?,
        "chnetns" => next()?,
        "nsenter" => {
            let option = next()?;
            let name = option.strip_prefix("--net=").or(option.strip_prefix("-n"))?;
            name.rsplit_once("netns/").map(|(_, name)| name.to_owned())?
        }
        _ => return None,
    };
    let rest = rest.trim();
    let rest = rest.strip_prefix("-- ").unwrap_or(rest).trim();
    (!rest.is_empty()).then(|| (netns, format!("{special}{rest}")))
}

impl Bound {
    /// Writes the drop-in that takes the prefix out, if there is one.
    pub fn drop_in(&self) -> Option<String> {
        if self.plain.is_empty() {
            return None;
        }
        let mut text = format!(
            "# Made by `netns-networkd import`: without `ip netns exec {}`, for NetworkNamespacePath= of netns-networkd does that.\n[Service]\n",
            self.netns
        );
        for (key, values) in &self.plain {
            // an empty one clears what the unit says
            text += &format!("{key}=\n");
            values.iter().for_each(|value| text += &format!("{key}={value}\n"));
        }
        Some(text)
    }
}

/// Cuts the commands of an `Exec…=` for an instance, as far as that can be told.
pub fn exec_words(value: &str, instance: &str) -> Vec<super::words::Command> {
    let value = value.trim_start_matches(['@', '-', ':', '+', '!']);
    let value = value.replace("%i", instance).replace("%I", instance).replace("%%", "%");
    commands(&value, &Vars::new())
}
