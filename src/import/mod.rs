//! What makes namespaces on a host without this tool -> a configuration, with a comment at each line that says where it comes from.
//!
//! Pure: files come in as text, texts go out. Commands are not run; what they would make is noted down.
//!
//! ```text
//! interfaces  interfaces(5) -> stanzas          words     a line -> its commands
//! units       units with their drop-ins         named_netns, wg_netns   two other tools' files
//!   |
//! host        whose turn it is: stanzas, scripts, units
//! stanza, commands (ip, brctl, ifconfig, …)  -> world: links, addresses, routes, each with its place
//!   |
//! write       world -> TOML        changeover  what to do on the host, in order
//! ```

mod changeover;
mod commands;
mod host;
mod interfaces;
mod ip;
mod named_netns;
mod old_tools;
mod stanza;
mod units;
mod wg_netns;
mod words;
mod world;
mod write;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
};

pub use changeover::{CONFIG, Step};
pub use words::matches;

/// A file and a line in it, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub file: Rc<str>,
    pub line: usize,
}

impl Origin {
    fn new(file: &str, line: usize) -> Self {
        Self { file: file.into(), line }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A line that did not get into the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    pub from: Origin,
    pub text: String,
    pub why: String,
    /// It is not needed any more; otherwise it was not understood, or cannot be expressed.
    pub needless: bool,
}

impl Note {
    fn missed(from: Origin, text: &str, why: impl Into<String>) -> Self {
        Self { from, text: text.to_owned(), why: why.into(), needless: false }
    }

    fn needless(from: Origin, text: &str, why: impl Into<String>) -> Self {
        Self { needless: true, ..Self::missed(from, text, why) }
    }
}

/// The files of a host, by their path.
#[derive(Debug, Default)]
pub struct Files {
    texts: BTreeMap<String, String>,
    /// Paths, and patterns of a shell, that were asked for.
    wanted: RefCell<BTreeSet<String>>,
}

impl Files {
    /// Takes the files that are known by now; [`Import::wanted`] says which others would be of use.
    #[must_use]
    pub fn new(texts: BTreeMap<String, String>) -> Self {
        Self { texts, wanted: RefCell::default() }
    }

    fn want(&self, pattern: &str) {
        self.wanted.borrow_mut().insert(pattern.to_owned());
    }

    fn get(&self, path: &str) -> Option<&str> {
        self.want(path);
        self.texts.get(path).map(String::as_str)
    }

    /// Gives the line of a place.
    fn line(&self, from: &Origin) -> String {
        self.get(&from.file).and_then(|text| text.lines().nth(from.line.saturating_sub(1))).unwrap_or_default().trim().to_owned()
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }
}

/// What a host's files came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Import {
    /// The configuration of the namespaces.
    pub namespaces: String,
    /// The configuration of bridges that ifupdown has made up to now; for later.
    pub bridges: Option<String>,
    /// Drop-ins that take `ip netns exec` out of units: unit, text.
    pub drop_ins: BTreeMap<String, String>,
    /// A script that prints what the namespaces are like, to compare it before and after.
    pub state: String,
    /// What did not get in, in the order of files and lines.
    pub notes: Vec<Note>,
    /// How the host changes over.
    pub steps: Vec<Step>,
    /// Names of the namespaces.
    pub names: Vec<String>,
    /// Files that were asked for, also such as there are not; patterns of a shell among them.
    pub wanted: BTreeSet<String>,
}

/// Reads the files of a host. `folder` is where the result will be, for the commands that name it.
#[must_use]
pub fn import(files: &Files, folder: &str) -> Import {
    let mut host = host::Host::new(files);
    host.read();
    let host::Host { world, notes, units, interfaces, .. } = host;
    let written = write::write(&world, files, notes);
    let drop_ins = units.iter().filter_map(|unit| Some((unit.name.clone(), unit.drop_in()?))).collect();
    let steps = changeover::steps(&world, &interfaces, &units, &written, files, folder);
    let wanted = files.wanted.borrow().clone();
    let state = changeover::state_script(&world, &written);
    let write::Written { namespaces, bridges, notes, names, of_bridges: _ } = written;
    Import { namespaces, bridges, drop_ins, state, notes, steps, names, wanted }
}
