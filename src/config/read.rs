//! Typed reading of TOML values by hand: serde would stop at the first fault.

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    fault::Draft,
    keys::{BRIDGE, INTERFACE, Keys, NAMESPACE, suggest},
    text::{Placed, Spot, quoted},
    value::Refusal,
};

/// Reads one fragment and notes its faults.
pub(super) struct Reader<'f> {
    pub file: usize,
    pub drafts: &'f mut Vec<Draft>,
}

/// A table, its keys checked.
pub(super) struct Table<'t, 'i> {
    entries: &'t DeTable<'i>,
    keys: &'static Keys,
    /// For messages: `[bridge.br-lan]`.
    name: String,
    /// Known keys that unknown ones were probably meant to be: that these are missing is said already.
    meant: Vec<&'static str>,
    pub at: Spot,
}

/// A value, with what it is for.
#[derive(Clone, Copy)]
pub(super) struct Value<'t, 'i> {
    inner: &'t Spanned<DeValue<'i>>,
    key: &'t str,
    table: &'t str,
    /// What may stand here, for messages.
    form: &'t str,
    is_entry: bool,
    pub at: Spot,
}

/// A list, and whether all of it could be read: what is missing from it must not cause a fault elsewhere.
#[derive(Debug)]
pub(super) struct List<T> {
    pub items: Vec<T>,
    pub complete: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), complete: true }
    }
}

impl<'t, 'i> Table<'t, 'i> {
    pub fn get(&'t self, key: &'t str) -> Option<Value<'t, 'i>> {
        let inner = self.entries.get(key)?;
        let at = Spot { file: self.at.file, start: inner.span().start, end: inner.span().end };
        Some(Value { inner, key, table: &self.name, form: self.keys.form(key), is_entry: false, at })
    }

    /// Finds a key itself, for a fault that is not in its value.
    pub fn key(&self, key: &str) -> Option<Spot> {
        self.entries.get_key_value(key).map(|(key, _)| key_spot(self.at.file, key))
    }

    /// Iterates over the entries whose names are of the user's choice: `[bridge.NAME]`.
    pub fn named(&self) -> impl Iterator<Item = (&'t str, Spot, &'t Spanned<DeValue<'i>>)> + use<'t, 'i> {
        let file = self.at.file;
        self.entries.iter().map(move |(key, value)| (key.get_ref().as_ref(), key_spot(file, key), value))
    }

    /// Tells whether the table seems to have this key in another spelling.
    pub fn misspells(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    pub fn has_besides(&self, key: &str) -> bool {
        self.entries.keys().any(|k| k.get_ref() != key)
    }
}

impl Value<'_, '_> {
    /// Names the value for a message: `'mtu' in [bridge.br-lan]`.
    pub fn what(&self) -> String {
        let entry = if self.is_entry { "an entry of " } else { "" };
        let table = if self.table.is_empty() { String::new() } else { format!(" in {}", self.table) };
        format!("{entry}'{}'{table}", self.key)
    }

    /// Gives the same value, for a fault in another place.
    pub fn pointing(self, at: Spot) -> Self {
        Self { at, ..self }
    }

    pub fn is_table(&self) -> bool {
        self.inner.get_ref().is_table()
    }

    pub fn is_string(&self) -> bool {
        self.inner.get_ref().is_str()
    }
}

fn key_spot(file: usize, key: &Spanned<DeString<'_>>) -> Spot {
    Spot { file, start: key.span().start, end: key.span().end }
}

impl Reader<'_> {
    pub fn note(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Notes why a value is refused.
    pub fn refuse(&mut self, value: Value<'_, '_>, refusal: Refusal) {
        let Refusal { message, allowed, help } = refusal;
        let draft = Draft::new(value.at, message).allowed(allowed.unwrap_or_else(|| value.form.to_owned()));
        self.note(match help {
            Some(help) => draft.help(help),
            None => draft,
        });
    }

    /// Opens the whole file, or a table in it whose keys are names.
    pub fn root<'t, 'i>(&mut self, entries: &'t DeTable<'i>, keys: &'static Keys) -> Table<'t, 'i> {
        let at = Spot { file: self.file, start: 0, end: 0 };
        self.check_keys(Table { entries, keys, name: String::new(), meant: Vec::new(), at })
    }

    /// Opens a table that holds tables by name: `[bridge]` around `[bridge.br-lan]`.
    pub fn names<'t, 'i>(&mut self, value: Value<'t, 'i>) -> Option<Table<'t, 'i>> {
        static NONE: Keys = Keys { known: &[] };
        let entries = self.entries(value)?;
        Some(Table { entries, keys: &NONE, name: String::new(), meant: Vec::new(), at: value.at })
    }

    /// Lists the entries of a table whose keys are of the user's choice; none if it is no table.
    pub fn entries_of<'t, 'i>(&mut self, value: Value<'t, 'i>) -> Vec<(&'t str, Spot, Value<'t, 'i>)> {
        let entry = |(key, inner): (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)| {
            let at = Spot { file: value.at.file, start: inner.span().start, end: inner.span().end };
            (key.get_ref().as_ref(), key_spot(value.at.file, key), Value { inner, key: key.get_ref(), at, ..value })
        };
        self.entries(value).into_iter().flatten().map(entry).collect()
    }

    /// Opens a table with known keys.
    pub fn table<'t, 'i>(&mut self, value: Value<'t, 'i>, name: String, keys: &'static Keys) -> Option<Table<'t, 'i>> {
        let entries = self.entries(value)?;
        Some(self.check_keys(Table { entries, keys, name, meant: Vec::new(), at: value.at }))
    }

    /// Opens a table whose name the user chose.
    pub fn named_table<'t, 'i>(
        &mut self,
        (at, inner): (Spot, &'t Spanned<DeValue<'i>>),
        name: String,
        keys: &'static Keys,
    ) -> Option<Table<'t, 'i>> {
        let DeValue::Table(entries) = inner.get_ref() else {
            let draft = Draft::new(at, format!("{name} is {}, not a table", kind(inner.get_ref())));
            self.note(draft.allowed(keys.names()).help(format!("begin the table with a line {name} and put its keys below")));
            return None;
        };
        let span = inner.span();
        // a table that only its sub-tables imply has no line of its own: point at its name in theirs
        let at = if span.is_empty() { at } else { Spot { start: span.start, end: span.end, ..at } };
        Some(self.check_keys(Table { entries, keys, name, meant: Vec::new(), at }))
    }

    fn entries<'t, 'i>(&mut self, value: Value<'t, 'i>) -> Option<&'t DeTable<'i>> {
        let DeValue::Table(entries) = value.inner.get_ref() else {
            self.mistyped(value, "a table");
            return None;
        };
        Some(entries)
    }

    fn check_keys<'t, 'i>(&mut self, mut table: Table<'t, 'i>) -> Table<'t, 'i> {
        for (key, value) in table.entries {
            let name = key.get_ref().as_ref();
            if table.keys.known.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let at = key_spot(self.file, key);
            let place = if table.name.is_empty() { String::new() } else { format!(" in {}", table.name) };
            let draft = Draft::new(at, format!("unknown key {}{place}", quoted(name))).allowed(table.keys.names());
            let near = suggest(name, table.keys.known.iter().map(|(known, _)| *known));
            table.meant.extend(near);
            let meant = near.map(|near| format!("did you mean '{near}'?"));
            self.note(match meant.or_else(|| misplaced(table.keys, &table.name, name, value.get_ref())) {
                Some(help) => draft.help(help),
                None => draft,
            });
        }
        table
    }

    fn mistyped(&mut self, value: Value<'_, '_>, wanted: &str) {
        let found = value.inner.get_ref();
        let draft = Draft::new(value.at, format!("{} takes {wanted}, not {}", value.what(), kind(found))).allowed(value.form);
        self.note(match found {
            DeValue::String(text) if wanted == "an array" => draft.help(format!("write [\"{}\"]", short(text))),
            DeValue::String(text) if matches!(text.as_ref(), "true" | "false") || text.parse::<u32>().is_ok() => {
                draft.help(format!("write {text} without quotes"))
            }
            DeValue::Array(array) if array.len() == 1 && wanted != "a table" => draft.help("leave out the brackets"),
            _ => draft,
        });
    }

    pub fn string<'t>(&mut self, value: Value<'t, '_>) -> Option<&'t str> {
        let DeValue::String(text) = value.inner.get_ref() else {
            self.mistyped(value, "a string");
            return None;
        };
        Some(text)
    }

    /// Reads a string and takes or refuses it.
    pub fn parse<T>(&mut self, value: Value<'_, '_>, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Option<Placed<T>> {
        match parse(self.string(value)?) {
            Ok(parsed) => Some(Placed { value: parsed, at: value.at }),
            Err(refusal) => {
                self.refuse(value, refusal);
                None
            }
        }
    }

    /// Reads a name; `what` says whose.
    pub fn name<T, E: std::fmt::Display>(
        &mut self,
        value: Value<'_, '_>,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Placed<T>> {
        self.parse(value, |text| {
            let refusal = |e: E| Refusal { message: format!("invalid {what} {}: {e}", quoted(text)), allowed: None, help: None };
            parse(text).map_err(refusal)
        })
    }

    pub fn boolean(&mut self, value: Value<'_, '_>) -> Option<bool> {
        let DeValue::Boolean(boolean) = value.inner.get_ref() else {
            self.mistyped(value, "true or false");
            return None;
        };
        Some(*boolean)
    }

    pub fn number(&mut self, value: Value<'_, '_>, from: u32, to: u32) -> Option<Placed<u32>> {
        let DeValue::Integer(integer) = value.inner.get_ref() else {
            self.mistyped(value, "a whole number");
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| (from..=to).contains(n));
        if number.is_none() {
            self.out_of_range(value, &integer.to_string());
        }
        number.map(|number| Placed { value: number, at: value.at })
    }

    fn out_of_range(&mut self, value: Value<'_, '_>, number: &str) {
        let message = format!("{} is {}, out of range", value.what(), short(number));
        self.note(Draft::new(value.at, message).allowed(value.form));
    }

    /// Reads a number for which there may be a word.
    pub fn number_or_word(&mut self, value: Value<'_, '_>, (from, to): (u32, u32), words: &[(&str, u32)]) -> Option<Placed<u32>> {
        match value.inner.get_ref() {
            DeValue::String(text) if text.parse::<u32>().is_err() => {
                self.choice(value, words).map(|number| Placed { value: number, at: value.at })
            }
            _ => self.number(value, from, to),
        }
    }

    /// Reads a kernel parameter as the text that is written to its file; true is 1.
    pub fn scalar(&mut self, value: Value<'_, '_>) -> Option<String> {
        match value.inner.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Boolean(on) => Some(u8::from(*on).to_string()),
            DeValue::Integer(integer) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
                if number.is_none() {
                    self.out_of_range(value, &integer.to_string());
                }
                number.map(|number| number.to_string())
            }
            _ => {
                self.mistyped(value, "a string, a whole number, or true or false");
                None
            }
        }
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy>(&mut self, value: Value<'_, '_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(value)?;
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let message = format!("{} cannot be {}", value.what(), quoted(text));
        let draft = Draft::new(value.at, message).allowed(value.form);
        self.note(match suggest(text, choices.iter().map(|(word, _)| *word)) {
            Some(near) => draft.help(format!("did you mean \"{near}\"?")),
            None => draft,
        });
        None
    }

    /// Reads an array, entry by entry.
    pub fn list<'t, 'i, T>(
        &mut self,
        value: Option<Value<'t, 'i>>,
        mut each: impl FnMut(&mut Self, Value<'t, 'i>) -> Option<T>,
    ) -> List<T> {
        let Some(value) = value else { return List::default() };
        let DeValue::Array(array) = value.inner.get_ref() else {
            self.mistyped(value, "an array");
            return List { items: Vec::new(), complete: false };
        };
        let entry = |inner: &'t Spanned<DeValue<'i>>| Value {
            inner,
            is_entry: true,
            form: value.form.strip_prefix("an array of ").unwrap_or(value.form),
            at: Spot { file: value.at.file, start: inner.span().start, end: inner.span().end },
            ..value
        };
        let items: Vec<T> = array.iter().filter_map(|inner| each(self, entry(inner))).collect();
        List { complete: items.len() == array.len(), items }
    }
}

/// Tells where a key belongs that is unknown in this kind of table.
fn misplaced(keys: &Keys, table: &str, name: &str, value: &DeValue<'_>) -> Option<String> {
    let has = |keys: &Keys, key: &str| keys.known.iter().any(|(known, _)| *known == key);
    let homes = [(&NAMESPACE, "[namespace.NAME]"), (&INTERFACE, "[namespace.NAME.interface.NAME]"), (&BRIDGE, "[bridge.NAME]")];
    if let Some((_, home)) = homes.into_iter().find(|(other, _)| !std::ptr::eq(*other, keys) && has(other, name)) {
        return Some(format!("'{name}' belongs in {home}"));
    }
    let inner = value.as_table()?;
    let table = table.strip_suffix(']')?;
    if std::ptr::eq(keys, &raw const NAMESPACE) && inner.keys().any(|key| has(&INTERFACE, key.get_ref())) {
        return Some(format!("write {table}.interface.{}] for an interface", header_name(name)));
    }
    let (parent, last) = table.rsplit_once('.')?;
    Some(format!("if the dot is part of the name, quote it: {parent}.\"{}.{}\"]", last.trim_matches('"'), short(name)))
}

/// Writes a name as it would stand in a table's header.
pub(super) fn header_name(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare && name.len() <= 60 { name.to_owned() } else { format!("\"{}\"", short(name)) }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn short(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}
