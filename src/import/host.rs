//! Whose turn it is: stanzas, scripts and units of a host, in the order in which they would run.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Files, Note, Origin,
    commands::{At, Done, missed},
    interfaces::{self, Interfaces, Stanza},
    named_netns,
    units::{self, Bound, Unit, exec_words},
    wg_netns,
    words::Vars,
    world::{Kind, World, add},
};
use crate::model::UnitName;

pub const INTERFACES: &str = "/etc/network/interfaces";
pub const NAMESPACES: &str = "/etc/network/namespaces";
/// The template that makes namespaces, of whoever has made the set-up.
pub const NETNS_UNIT: &str = "netns@.service";

/// How many scripts may call each other.
const DEPTH: usize = 8;

/// How many commands are followed: scripts that call themselves twice would never end.
const MOST_COMMANDS: usize = 100_000;

/// A host as its files would make it.
#[derive(Debug)]
pub struct Host<'f> {
    pub files: &'f Files,
    pub world: World,
    pub notes: Vec<Note>,
    pub units: Vec<Bound>,
    /// Routing tables by name.
    pub tables: BTreeMap<String, u32>,
    /// Notes on stanzas of links of the host: they are of no interest where the link stays with ifupdown.
    about: Vec<(String, Note)>,
    pub interfaces: Interfaces,
    /// What was taken note of already.
    noted: BTreeSet<Note>,
    /// Commands that were followed.
    count: usize,
    /// Stanzas that have run, by their place.
    ran: BTreeSet<Origin>,
    /// Scripts, and files of stanzas, that have run.
    pub scripts: BTreeSet<String>,
}

impl<'f> Host<'f> {
    pub fn new(files: &'f Files) -> Self {
        let interfaces = interfaces::read(files, INTERFACES);
        let notes = interfaces.notes.clone();
        Self {
            files,
            world: World::default(),
            notes,
            units: Vec::new(),
            tables: tables(files),
            about: Vec::new(),
            interfaces,
            noted: BTreeSet::new(),
            count: 0,
            ran: BTreeSet::new(),
            scripts: BTreeSet::new(),
        }
    }

    /// Reads everything there is.
    pub fn read(&mut self) {
        let units = units::read(self.files);
        self.bound(&units);
        let scripts = self.files.matching(&format!("{NAMESPACES}/*"));
        let mut names: BTreeSet<String> = scripts.iter().filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect();
        names.extend(self.units.iter().map(|unit| unit.netns.clone()));
        // that of this tool has nothing to say
        let maker =
            units.get(NETNS_UNIT).filter(|unit| !unit.values("ExecStart").iter().any(|setting| setting.value.contains("netns-networkd")));
        for name in &names {
            self.namespace(name, maker);
        }
        named_netns::read(self);
        wg_netns::read(self);
        for stanza in self.interfaces.stanzas.clone() {
            if !self.ran.contains(&stanza.from) {
                let at = at(None, &stanza.from);
                self.run_stanza(&at, &stanza, &stanza.name);
            }
        }
        for unit in &self.units {
            let netns = self.world.netns(&unit.netns);
            add(&mut netns.services, unit.name.clone(), unit.from.clone());
        }
        self.settle();
    }

    /// Counts a command; tells whether it is one too many.
    pub fn is_endless(&mut self) -> bool {
        self.count += 1;
        self.count > MOST_COMMANDS
    }

    /// Takes note of a line that made nothing, unless the same was said already.
    pub fn note(&mut self, at: &At, note: Note) {
        if !self.noted.insert(note.clone()) {
            return;
        }
        match &at.about {
            Some(link) if at.netns.is_none() => self.about.push((link.clone(), note)),
            _ => self.notes.push(note),
        }
    }

    fn bound(&mut self, units: &BTreeMap<String, Unit>) {
        for unit in units.values() {
            // what makes namespaces is in none of them
            let infrastructure = ["netns@", "netns-", "wg-netns@", "systemd-netns"].iter().any(|start| unit.name.starts_with(start));
            let Some(bound) = unit.bound().filter(|_| !infrastructure) else { continue };
            if bound.netns.contains('%') {
                self.notes.push(Note::missed(
                    bound.from,
                    &bound.name,
                    "a template that is bound to a namespace of its instance's name: list its instances under `services`",
                ));
            } else if let Err(why) = UnitName::parse(&bound.name) {
                self.notes.push(Note::missed(bound.from, &bound.name, why.to_string()));
            } else {
                self.units.push(bound);
            }
        }
    }

    /// Runs what makes a namespace: the template's commands, and the file of its name.
    fn namespace(&mut self, name: &str, maker: Option<&Unit>) {
        let path = format!("{NAMESPACES}/{name}");
        for setting in maker.iter().flat_map(|unit| ["ExecStartPre", "ExecStart", "ExecStartPost"].map(|key| unit.values(key))).flatten() {
            let at = At { vars: Vars::from([("1".to_owned(), name.to_owned())]), ..at(None, &setting.from) };
            for command in exec_words(&setting.value, name) {
                self.command(&at, &command, &format!("{}={}", setting.key, setting.value));
            }
        }
        let Some(text) = self.files.get(&path).map(str::to_owned).filter(|_| !self.scripts.contains(&path)) else { return };
        let at = at(None, &Origin::new(&path, 1));
        if interfaces::is_interfaces(&text) {
            self.file(&at, &path, None);
        } else {
            let _ = self.script(&at, &path, &[]);
        }
    }

    /// Runs the stanzas of a file of its own: those of a name, or all that come up by themselves; all where none does.
    fn file(&mut self, at: &At, path: &str, name: Option<&str>) {
        self.scripts.insert(path.to_owned());
        let found = interfaces::read(self.files, path);
        for note in found.notes {
            self.note(at, note);
        }
        let auto = |stanza: &Stanza| found.classes.iter().any(|(_, name, _)| *name == stanza.name);
        let any = found.stanzas.iter().any(auto);
        for stanza in &found.stanzas {
            if name.map_or_else(|| auto(stanza) || !any, |name| stanza.name == name) {
                let at = At { about: None, ..at.clone() };
                self.run_stanza(&at, stanza, &stanza.name);
            }
        }
    }

    fn run_stanza(&mut self, at: &At, stanza: &Stanza, link: &str) {
        let Some(depth) = at.depth.checked_sub(1) else { return };
        self.ran.insert(stanza.from.clone());
        self.stanza(&At { depth, ..at.clone() }, stanza, link);
    }

    /// `ifup`: with a file of its own, or the stanzas of the host, run where the command runs.
    pub fn ifup(&mut self, at: &At, rest: &[String]) -> Done {
        let (mut names, mut path, mut all) = (Vec::new(), None, false);
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-i" | "--interfaces" => path = words.next().cloned(),
                "-a" | "--all" => all = true,
                "--allow" | "-X" | "--exclude" | "--state-dir" => drop(words.next()),
                word => match word.strip_prefix("--interfaces=").or(word.strip_prefix("-i").filter(|path| path.starts_with('/'))) {
                    Some(file) => path = Some(file.to_owned()),
                    None if !word.starts_with('-') => names.push(word.to_owned()),
                    None => {}
                },
            }
        }
        if let Some(path) = path {
            if self.files.get(&path).is_none() {
                return missed(format!("there is no file {path} to read"));
            }
            if all || names.is_empty() {
                self.file(at, &path, None);
            }
            names.iter().for_each(|name| self.file(at, &path, Some(name)));
            return Ok(());
        }
        for name in names {
            // `ifup eth0=home`
            let (link, name) = name.split_once('=').unwrap_or((&name, &name));
            let stanzas: Vec<Stanza> = self.interfaces.stanzas.iter().filter(|stanza| stanza.name == name).cloned().collect();
            if stanzas.is_empty() {
                return missed(format!("there is no stanza '{name}' to read"));
            }
            for stanza in &stanzas {
                self.run_stanza(at, stanza, link);
            }
        }
        Ok(())
    }

    /// Sorts notes by what they are about: links that stay as they are need none, but are named.
    fn settle(&mut self) {
        let is_port = |name: &str| self.world.find(None, name).is_some_and(|link| self.world.links[link].master.is_some());
        let has_stanza = |name: &str| self.interfaces.stanzas.iter().any(|stanza| stanza.name == name);
        let stays = |name: &str| match self.world.find(None, name).map(|link| &self.world.links[link]) {
            // stanzas of a namespace's own file are only names for commands
            _ if is_port(name) || !has_stanza(name) => false,
            Some(link) => link.kind != Kind::Bridge && !self.world.is_host_end(link),
            // moved into a namespace, or only a name for commands
            None => false,
        };
        let mut notes: Vec<Note> = self.about.iter().filter(|(link, _)| !stays(link)).map(|(_, note)| note.clone()).collect();
        for stanza in self.interfaces.stanzas.iter().filter(|stanza| stanza.method != "loopback" && stays(&stanza.name)) {
            let header = format!("iface {} {} {}", stanza.name, stanza.family, stanza.method);
            notes.push(Note::needless(stanza.from.clone(), &header, "stays with ifupdown"));
        }
        self.notes.append(&mut notes);
        self.notes.sort_by(|a, b| a.from.cmp(&b.from));
        self.notes.dedup();
    }
}

/// A place on the host.
pub fn at(netns: Option<&str>, from: &Origin) -> At {
    At { netns: netns.map(str::to_owned), from: from.clone(), vars: Vars::new(), about: None, undo: false, depth: DEPTH }
}

/// Reads the names of routing tables.
fn tables(files: &Files) -> BTreeMap<String, u32> {
    let mut tables = BTreeMap::new();
    for path in ["/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables"]
        .into_iter()
        .map(str::to_owned)
        .chain(files.matching("/etc/iproute2/rt_tables.d/*.conf"))
    {
        for line in files.get(&path).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            if let (Some(Ok(number)), Some(name)) = (words.next().map(str::parse), words.next()) {
                tables.insert(name.to_owned(), number);
            }
        }
    }
    tables
}
