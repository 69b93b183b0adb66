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
    /// What was taken note of already, with the link that it is about.
    noted: BTreeSet<(Option<String>, Note)>,
    /// Places that ran on the host, with the link of the host's own stanza that they ran for.
    said: BTreeSet<(Origin, Option<String>)>,
    /// Stanzas of files of their own that nothing has brought up where the others did.
    skipped: BTreeMap<Origin, String>,
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
        Self { notes: interfaces.notes.clone(), interfaces, tables: tables(files), ..Self::bare(files) }
    }

    /// A host on which nothing has run.
    fn bare(files: &'f Files) -> Self {
        Self {
            files,
            world: World::default(),
            notes: Vec::new(),
            units: Vec::new(),
            tables: BTreeMap::new(),
            about: Vec::new(),
            interfaces: Interfaces::default(),
            noted: BTreeSet::new(),
            said: BTreeSet::new(),
            skipped: BTreeMap::new(),
            count: 0,
            ran: BTreeSet::new(),
            scripts: BTreeSet::new(),
        }
    }

    /// Reads everything there is.
    pub fn read(&mut self) {
        let units = units::read(self.files);
        self.bound(&units);
        self.world.stanzas =
            self.interfaces.stanzas.iter().filter(|stanza| self.may_stay(stanza)).map(|stanza| stanza.link().to_owned()).collect();
        let scripts = self.files.matching(&format!("{NAMESPACES}/*"));
        let mut names: BTreeSet<String> = scripts.iter().filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect();
        names.extend(self.units.iter().map(|unit| unit.netns.clone()));
        let maker = units::unit(self.files, NETNS_UNIT);
        // that of this tool has nothing to say
        let is_ours = maker.values("ExecStart").iter().any(|setting| setting.value.contains("netns-networkd"));
        for name in &names {
            self.namespace(name, Some(&maker).filter(|_| !is_ours));
        }
        named_netns::read(self);
        wg_netns::read(self);
        for stanza in self.interfaces.stanzas.clone() {
            if !self.ran.contains(&stanza.from) && !of_netns(&stanza.from) && !self.is_template(&stanza) {
                let at = at(None, &stanza.from);
                self.run_stanza(&at, &stanza, &stanza.name);
            }
        }
        // what is left does not say how it gets inside: its name does
        for name in &names {
            let path = format!("{NAMESPACES}/{name}");
            self.file_of(Some(name), &path);
            if let Some(netns) = self.world.netns.get_mut(name).filter(|netns| netns.from.is_empty() && self.scripts.contains(&path)) {
                netns.from.push(Origin::new(&path, 1));
            }
        }
        // what nothing else makes was moved already, or is this tool's from the start
        let made = |name: &str| {
            let has_link = self.world.links.iter().any(|link| link.netns.as_deref() == Some(name));
            has_link || self.world.netns.get(name).is_some_and(|netns| !netns.from.is_empty())
        };
        self.units.retain(|unit| !is_ours || made(&unit.netns));
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
        let about = at.about.clone().filter(|_| at.may_stay && at.netns.is_none());
        if !self.noted.insert((about.clone(), note.clone())) {
            return;
        }
        match about {
            Some(link) => self.about.push((link, note)),
            None => self.notes.push(note),
        }
    }

    /// Takes note of what runs on the host, to know afterwards what becomes of the links that it speaks of.
    pub fn says(&mut self, at: &At) {
        if at.netns.is_none() {
            self.said.insert((at.from.clone(), at.about.clone().filter(|_| at.may_stay)));
        }
    }

    /// Tells whether a stanza is one of the host's own.
    pub fn may_stay(&self, stanza: &Stanza) -> bool {
        self.interfaces.files.contains(&*stanza.from.file) && !of_netns(&stanza.from)
    }

    /// Tells whether a stanza of the host is only there for those that inherit it: there is no such link, either.
    fn is_template(&self, stanza: &Stanza) -> bool {
        self.interfaces.is_template(stanza) && self.files.get(&format!("/sys/class/net/{}/address", stanza.name)).is_none()
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
        if !self.scripts.contains(&path) && self.enters(&path) {
            self.world.home = Some(name.to_owned());
            self.file_of(None, &path);
            self.world.home = None;
        }
    }

    /// Runs a file of /etc/network/namespaces, of stanzas or commands, unless something that was read has run it.
    fn file_of(&mut self, netns: Option<&str>, path: &str) {
        let Some(text) = self.files.get(path).filter(|_| !self.scripts.contains(path)) else { return };
        let at = at(netns, &Origin::new(path, 1));
        if interfaces::is_interfaces(text) {
            self.file(&at, path, None);
        } else {
            let _ = self.script(&at, path, &[]);
        }
    }

    /// Tells whether a file has to do with namespaces when it runs on the host: whoever runs it does so there. It is tried out.
    fn enters(&mut self, path: &str) -> bool {
        let interfaces = std::mem::take(&mut self.interfaces);
        let mut trial = Self { interfaces, tables: self.tables.clone(), count: self.count, ..Self::bare(self.files) };
        trial.file_of(None, path);
        self.count = trial.count;
        self.interfaces = trial.interfaces;
        !trial.world.netns.is_empty()
    }

    /// Runs the stanzas of a file of its own: those of a name, or all that come up by themselves; all where none does.
    fn file(&mut self, at: &At, path: &str, name: Option<&str>) {
        self.scripts.insert(path.to_owned());
        let found = interfaces::read(self.files, path);
        for note in &found.notes {
            self.note(at, note.clone());
        }
        let any = found.stanzas.iter().any(|stanza| stanza.method != "loopback" && found.comes_up(stanza));
        for stanza in &found.stanzas {
            // one that has run inside, by another's `ifup`, is not the host's
            let ran = at.netns.is_none() && self.ran.contains(&stanza.from);
            let comes_up = found.comes_up(stanza) || !any && !ran && !found.is_template(stanza);
            if name.map_or(comes_up, |name| stanza.name == name) {
                let at = At { about: None, ..at.clone() };
                self.run_stanza(&at, stanza, &stanza.name);
            } else if !found.is_template(stanza) {
                self.skipped.insert(stanza.from.clone(), header(stanza));
            }
        }
    }

    fn run_stanza(&mut self, at: &At, stanza: &Stanza, link: &str) {
        let Some(depth) = at.depth.checked_sub(1) else { return };
        self.ran.insert(stanza.from.clone());
        if at.netns.is_some() && self.may_stay(stanza) {
            self.world.inside.insert(stanza.link().to_owned());
        }
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

    /// Sorts notes by what they are about: links that stay as they are need none, but are named. What was said of other links of the host
    /// is in no file, and named, too.
    fn settle(&mut self) {
        let host_link = |name: &str| self.world.find(None, name).map(|link| &self.world.links[link]);
        // moved into a namespace, or only a name for commands, where there is no such link
        let stays = |name: &str| {
            self.world.stanzas.contains(name)
                && host_link(name).is_some_and(|link| link.kind != Kind::Bridge && !self.world.is_host_end(link))
        };
        let is_port = |name: &str| host_link(name).is_some_and(|link| link.master.is_some());
        let mut notes: Vec<Note> =
            self.about.iter().filter(|(link, _)| !stays(link) || is_port(link)).map(|(_, note)| note.clone()).collect();
        let quiet = |stanza: &Stanza| stanza.method == "loopback" && stanza.options.is_empty();
        for stanza in self.interfaces.stanzas.iter().filter(|stanza| !quiet(stanza) && self.may_stay(stanza)) {
            if stays(stanza.link()) {
                notes.push(Note::needless(stanza.from.clone(), &header(stanza), "stays with ifupdown"));
            } else if self.is_template(stanza) && !self.ran.contains(&stanza.from) {
                notes.push(Note::needless(stanza.from.clone(), &header(stanza), "others inherit it, and nothing brings it up by itself"));
            }
        }
        for (from, header) in self.skipped.iter().filter(|(from, _)| !self.ran.contains(from)) {
            notes.push(Note::missed(from.clone(), header, "nothing that was read brings it up"));
        }
        let says = |from: &Origin| {
            let all = self.said.range((from.clone(), None)..).take_while(|(place, _)| place == from).map(|(_, stanza)| stanza.as_deref());
            all.collect::<Vec<_>>()
        };
        for link in self.world.links.iter().filter(|link| link.netns.is_some() || self.world.is_host_end(link)) {
            for from in link.from.iter().chain(link.said()).chain(link.master.iter().map(|fact| &fact.from)) {
                if says(from).into_iter().flatten().any(|stanza| self.world.stanzas.contains(stanza) && !self.world.is_taken(stanza)) {
                    let why = "it is in the file, and in a stanza that stays with ifupdown: take it out there";
                    notes.push(Note::missed(from.clone(), &self.files.line(from), why));
                }
            }
        }
        for link in self.world.links.iter().filter(|link| link.netns.is_none()) {
            // pairs, and bridges, are written
            if matches!(link.kind, Kind::Bridge | Kind::Veth { .. }) || self.world.is_host_end(link) {
                continue;
            }
            let is_uplink = link.master.as_ref().and_then(|bridge| host_link(&bridge.value)).is_some_and(|link| link.kind == Kind::Bridge);
            let made = link.from.iter().filter(|_| link.kind != Kind::Found);
            let master = link.master.iter().map(|fact| &fact.from).filter(|_| !is_uplink);
            for from in made.chain(master).chain(link.said()) {
                let by = says(from);
                if by.is_empty() || !by.into_iter().all(|stanza| stanza.is_some_and(stays)) {
                    let why = format!("this is of link '{}' of the host, which no namespace has", link.name);
                    notes.push(Note::missed(from.clone(), &self.files.line(from), why));
                }
            }
        }
        self.notes.append(&mut notes);
        self.notes.sort_by(|a, b| a.from.cmp(&b.from));
        self.notes.dedup();
    }
}

fn header(stanza: &Stanza) -> String {
    format!("iface {} {} {}", stanza.name, stanza.family, stanza.method)
}

/// Tells whether a place is in a file of a namespace.
fn of_netns(from: &Origin) -> bool {
    from.file.strip_prefix(NAMESPACES).is_some_and(|rest| rest.starts_with('/'))
}

/// A place on the host.
pub fn at(netns: Option<&str>, from: &Origin) -> At {
    At { netns: netns.map(str::to_owned), from: from.clone(), vars: Vars::new(), about: None, may_stay: false, undo: false, depth: DEPTH }
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
