//! interfaces(5): text -> stanzas, each line with its place. What a stanza means is `stanza.rs`'s.

use std::collections::BTreeSet;

use super::{
    Files, Note, Origin,
    words::{lines, matches},
};

/// One `iface` stanza.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// As it stands: `eth0`, `eth0:1`, or a name that a mapping gives.
    pub name: String,
    pub family: String,
    pub method: String,
    pub from: Origin,
    pub options: Vec<Setting>,
    /// Last line that belongs to it.
    pub until: usize,
}

/// A line of a stanza: `address 192.0.2.1/24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub from: Origin,
}

/// What a file, and those that it sources, says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    pub stanzas: Vec<Stanza>,
    /// `auto` and `allow-…`: class, name, place.
    pub classes: Vec<(String, String, Origin)>,
    pub notes: Vec<Note>,
    /// Stanzas that others inherit.
    inherited: BTreeSet<String>,
    /// Files that were read; each counts once.
    pub files: BTreeSet<String>,
    /// `source` lines: what they name.
    pub sources: Vec<(String, Origin)>,
}

/// Options that may be given several times in a stanza.
const REPEATED: [&str; 6] = ["pre-up", "up", "post-up", "down", "pre-down", "post-down"];

/// Reads a file and what it sources; `wanted` gets the paths and patterns that are not among `files`.
pub fn read(files: &Files, path: &str) -> Interfaces {
    let mut found = Interfaces::default();
    read_file(files, path, &mut found);
    inherit(&mut found);
    found
}

impl Stanza {
    /// Gives the link of its name: that of `eth0:1` is eth0.
    pub fn link(&self) -> &str {
        self.name.split(':').next().unwrap_or(&self.name)
    }
}

impl Interfaces {
    /// Tells whether a stanza is there for others that inherit it: nothing brings it up by itself.
    pub fn is_template(&self, stanza: &Stanza) -> bool {
        self.inherited.contains(&stanza.name) && !self.comes_up(stanza)
    }

    /// Tells whether a stanza comes up by itself: `auto`, `allow-hotplug`.
    pub fn comes_up(&self, stanza: &Stanza) -> bool {
        self.classes.iter().any(|(_, name, _)| *name == stanza.name)
    }
}

/// Tells whether a text is one of interfaces(5), and not a script.
#[must_use]
pub fn is_interfaces(text: &str) -> bool {
    let first = lines(text, &['#'], "");
    let word = first.first().and_then(|line| line.text.split_whitespace().next()).unwrap_or_default();
    !text.starts_with("#!") && (["auto", "iface", "mapping", "source", "source-directory"].contains(&word) || word.starts_with("allow-"))
}

fn read_file(files: &Files, path: &str, found: &mut Interfaces) {
    let Some(text) = files.get(path).filter(|_| found.files.insert(path.to_owned())) else { return };
    let mut stanza: Option<Stanza> = None;
    let mut in_mapping = false;
    for line in lines(text, &['#'], "") {
        let from = Origin::new(path, line.number);
        let mut words = line.text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let rest = line.text.get(first.len()..).unwrap_or_default().trim();
        let opens = matches!(
            first,
            "iface" | "auto" | "mapping" | "source" | "source-directory" | "no-auto-down" | "no-scripts" | "rename" | "template"
        ) || first.starts_with("allow-");
        if !opens {
            match &mut stanza {
                Some(stanza) => option(stanza, first, rest, from, line.number, &mut found.notes),
                None if in_mapping => found.notes.push(Note::missed(from, &line.text, "a mapping chooses stanzas when the link comes up")),
                None => found.notes.push(Note::missed(from, &line.text, "not in a stanza")),
            }
            continue;
        }
        found.stanzas.extend(stanza.take());
        in_mapping = false;
        match first {
            "iface" => match (words.next(), words.next(), words.next()) {
                (Some(name), family, method) => {
                    let (family, method) = (family.unwrap_or_default().to_owned(), method.unwrap_or_default().to_owned());
                    let mut new =
                        Stanza { name: name.to_owned(), family, method, from: from.clone(), options: Vec::new(), until: line.number };
                    // `iface eth0 inet static inherits lan`
                    let more: Vec<&str> = line.text.split_whitespace().collect();
                    for (at, word) in more.iter().enumerate().filter(|(_, word)| **word == "inherits") {
                        let _ = word;
                        if let Some(parent) = more.get(at + 1) {
                            new.options.push(Setting { key: "inherits".to_owned(), value: (*parent).to_owned(), from: from.clone() });
                        }
                    }
                    stanza = Some(new);
                }
                _ => found.notes.push(Note::missed(from, &line.text, "a stanza has a name")),
            },
            "mapping" => {
                in_mapping = true;
                found.notes.push(Note::missed(from, &line.text, "a mapping chooses stanzas when the link comes up"));
            }
            "source" | "source-directory" => {
                for pattern in rest.split_whitespace() {
                    let pattern = absolute(path, pattern, first == "source-directory");
                    found.sources.push((pattern.clone(), from.clone()));
                    let plain = |path: &str| {
                        // interfaces(5): names in a directory have only these
                        let name = path.rsplit('/').next().unwrap_or_default();
                        first == "source" || name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
                    };
                    let matching = files.matching(&pattern).into_iter().filter(|path| plain(path)).collect::<Vec<_>>();
                    for inner in matching {
                        read_file(files, &inner, found);
                    }
                }
            }
            "rename" => found.notes.push(Note::missed(from, &line.text, "a rename is a .link file's (systemd.link(5))")),
            "no-auto-down" | "no-scripts" | "template" => found.notes.push(Note::needless(from, &line.text, "says how ifupdown works")),
            class => found.classes.extend(words.map(|name| (class.to_owned(), name.to_owned(), from.clone()))),
        }
    }
    found.stanzas.extend(stanza);
}

fn option(stanza: &mut Stanza, key: &str, value: &str, from: Origin, line: usize, notes: &mut Vec<Note>) {
    stanza.until = line;
    // ifupdown takes both forms of its own and its neighbours' options
    let key = match key {
        "post-up" => "up".to_owned(),
        "pre-up" | "down" | "pre-down" | "post-down" => key.to_owned(),
        _ => key.replace('_', "-"),
    };
    if !REPEATED.contains(&key.as_str()) && stanza.options.iter().any(|other| other.key == key && other.from.file == from.file) {
        notes.push(Note::missed(from, &format!("{key} {value}"), "a second one of its kind in this stanza, which ifupdown refuses"));
        return;
    }
    stanza.options.push(Setting { key, value: value.to_owned(), from });
}

/// Puts what a stanza inherits before what it says itself, and leaves out what it says anew.
fn inherit(found: &mut Interfaces) {
    let all = found.stanzas.clone();
    for stanza in &mut found.stanzas {
        let mut parents = Vec::new();
        let mut seen = vec![stanza.name.clone()];
        let mut open: Vec<Setting> = stanza.options.extract_if(.., |option| option.key == "inherits").collect();
        while let Some(inherits) = open.pop() {
            if seen.contains(&inherits.value) {
                found.notes.push(Note::missed(inherits.from, &format!("inherits {}", inherits.value), "it inherits from itself"));
                continue;
            }
            seen.push(inherits.value.clone());
            found.inherited.insert(inherits.value.clone());
            let Some(parent) = all.iter().find(|other| other.name == inherits.value) else {
                found.notes.push(Note::missed(inherits.from, &format!("inherits {}", inherits.value), "there is no such stanza"));
                continue;
            };
            open.extend(parent.options.iter().filter(|option| option.key == "inherits").cloned());
            parents.extend(parent.options.iter().filter(|option| option.key != "inherits").cloned());
        }
        parents.retain(|option| REPEATED.contains(&option.key.as_str()) || !stanza.options.iter().any(|own| own.key == option.key));
        parents.append(&mut stanza.options);
        stanza.options = parents;
    }
}

/// Makes a pattern absolute: it is relative to the folder of the file that it stands in.
fn absolute(file: &str, pattern: &str, directory: bool) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if pattern.starts_with('/') { pattern.to_owned() } else { format!("{folder}/{pattern}") };
    let path = path.trim_end_matches('/').to_owned();
    if directory { path + "/*" } else { path }
}

impl Files {
    /// Lists the files that a pattern names, and takes note that it was asked for.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        self.want(pattern);
        self.paths().filter(|path| matches(pattern, path)).map(str::to_owned).collect()
    }
}
