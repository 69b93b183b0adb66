//! A command -> what it would have made. `ip.rs` and `old_tools.rs` have the long ones.

use super::{
    Note, Origin,
    host::Host,
    old_tools,
    words::{Command, Vars, commands, lines},
    world::{Fact, Kind},
};

/// Where a command runs.
#[derive(Debug, Clone)]
pub struct At {
    /// None on the host.
    pub netns: Option<String>,
    pub from: Origin,
    pub vars: Vars,
    /// The link of the stanza that it stands in.
    pub about: Option<String>,
    /// That stanza is one of the host's own, which may stay with ifupdown.
    pub may_stay: bool,
    /// It undoes what others did.
    pub undo: bool,
    /// How many scripts may still call each other.
    pub depth: usize,
}

/// Why a command made nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    Missed(String),
    Needless(&'static str),
}

pub type Done = Result<(), Left>;

pub fn missed<T>(why: impl Into<String>) -> Result<T, Left> {
    Err(Left::Missed(why.into()))
}

/// Words that are taken one after the other.
pub struct Words<'w> {
    rest: &'w [String],
}

impl<'w> Words<'w> {
    pub fn new(rest: &'w [String]) -> Self {
        Self { rest }
    }

    pub fn next(&mut self) -> Option<&'w str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    pub fn peek(&self) -> Option<&'w str> {
        self.rest.first().map(String::as_str)
    }

    /// Takes what a word needs behind it.
    pub fn value(&mut self, of: &str) -> Result<&'w str, Left> {
        self.next().map_or_else(|| missed(format!("'{of}' has nothing behind it")), Ok)
    }

    pub fn rest(&self) -> &'w [String] {
        self.rest
    }
}

/// Longer values of variables are not kept.
const MOST_BYTES: usize = 4096;

/// What would only be of use on the host as it was: no effect, or one that a configuration has without being asked.
const QUIET: [&str; 24] = [
    "true", ":", "set", "exit", "echo", "printf", "sleep", "logger", "test", "[", "[[", "return", "shift", "wait", "cd", "umask", "grep",
    "export", "exec", "local", "readonly", "trap", "unset", "false",
];

impl Host<'_> {
    /// Runs a line.
    pub fn line(&mut self, at: &At, text: &str) {
        for command in commands(text, &at.vars) {
            self.command(at, &command, text);
        }
    }

    /// Runs a command, and takes note if it makes nothing. `text` is its line.
    pub fn command(&mut self, at: &At, command: &Command, text: &str) {
        self.says(at);
        let done = match &command.unknown {
            _ if self.is_endless() => missed("scripts run without an end"),
            _ if at.undo => undo(&command.words),
            Some(what) if !command.words.first().is_some_and(|word| QUIET.contains(&word.as_str())) => {
                missed(format!("what {what} is shows when it runs only"))
            }
            _ => self.run(at, command),
        };
        match done {
            Ok(()) => {}
            Err(Left::Missed(why)) => self.note(at, Note::missed(at.from.clone(), text, why)),
            Err(Left::Needless(why)) => self.note(at, Note::needless(at.from.clone(), text, why)),
        }
    }

    fn run(&mut self, at: &At, command: &Command) -> Done {
        if let Some(key) = command.to.as_deref().and_then(|path| path.strip_prefix("/proc/sys/"))
            && let [_, value] = &command.words[..]
        {
            return self.sysctl(at, key, value);
        }
        self.words(at, &command.words)
    }

    /// Runs the words of a command.
    pub fn words(&mut self, at: &At, words: &[String]) -> Done {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        let program = first.rsplit('/').next().unwrap_or_default();
        let mut args = Words::new(rest);
        match program {
            "exec" | "sudo" | "command" | "nice" | "then" | "do" | "else" | "!" | "{" if !rest.is_empty() => self.words(at, rest),
            _ if QUIET.contains(&program) => Ok(()),
            "env" => {
                let at_command = rest.iter().position(|word| !word.contains('=') && !word.starts_with('-'));
                at_command.and_then(|start| rest.get(start..)).map_or(Ok(()), |rest| self.words(at, rest))
            }
            "timeout" => rest.get(1..).map_or(Ok(()), |rest| self.words(at, rest)),
            "sh" | "bash" | "dash" | "." | "source" => self.shell(at, rest),
            "ip" => self.ip(at, rest),
            "brctl" => old_tools::brctl(self, at, &mut args),
            "bridge" => old_tools::bridge(self, at, &mut args),
            "ifconfig" => old_tools::ifconfig(self, at, &mut args),
            "route" => old_tools::route(self, at, &mut args),
            "sysctl" => self.sysctls(at, rest),
            "wg" => old_tools::wg(self, at, &mut args),
            "ifup" => self.ifup(at, rest),
            "nsenter" => self.nsenter(at, rest),
            "nft" => match (&at.netns, rest) {
                (Some(netns), [option, file]) if matches!(option.as_str(), "-f" | "--file") => {
                    self.world.netns(netns).nftables = Some(Fact { value: file.clone(), from: at.from.clone() });
                    Ok(())
                }
                (Some(_), _) => missed("a firewall is a ruleset of nft(8) in a file: `nftables = \"/…\"`"),
                (None, _) => missed("this is the host's firewall"),
            },
            "iptables" | "ip6tables" | "iptables-restore" | "ip6tables-restore" => {
                missed("a firewall is a ruleset of nft(8) in a file, `nftables = \"/…\"`: iptables-translate(8) makes one")
            }
            "dhclient" | "dhcpcd" | "udhcpc" => self.dhcp(at, rest),
            "ifdown" => Err(Left::Needless("namespaces take what is in them along")),
            "modprobe" => Err(Left::Needless("the kernel loads what is asked for")),
            "mount" | "umount" | "mkdir" | "rm" | "touch" if rest.iter().any(|word| word.contains("/run/netns")) => {
                Err(Left::Needless("netns@ makes the namespace, and its file"))
            }
            "fi" | "done" | "esac" | "}" => Ok(()),
            "if" | "elif" | "while" | "until" | "for" | "case" => {
                missed("conditions are not looked at: what follows is taken as if it ran once")
            }
            _ if first.starts_with('/') && self.files.get(first).is_some() => self.script(at, first, rest),
            _ if program.ends_with("()") => missed("functions are not called"),
            _ => missed(format!("import does not know '{program}'")),
        }
    }

    fn shell(&mut self, at: &At, rest: &[String]) -> Done {
        let mut words = rest.iter().skip_while(|word| word.starts_with('-') && !word.ends_with('c') || word.starts_with("--"));
        match words.next() {
            Some(option) if option.starts_with('-') => {
                if let Some(text) = words.next() {
                    self.line(at, text);
                }
                Ok(())
            }
            Some(path) => {
                let arguments: Vec<String> = words.cloned().collect();
                self.script(at, path, &arguments)
            }
            None => Ok(()),
        }
    }

    /// Runs a script: its lines one after the other, whatever conditions say.
    pub fn script(&mut self, at: &At, path: &str, arguments: &[String]) -> Done {
        let Some(depth) = at.depth.checked_sub(1) else { return missed("scripts call each other too deeply") };
        let Some(text) = self.files.get(path).map(str::to_owned) else { return missed(format!("there is no file {path} to read")) };
        self.scripts.insert(path.to_owned());
        let mut inner = At { depth, ..at.clone() };
        inner.vars.extend((1..).zip(arguments).map(|(n, word): (usize, _)| (n.to_string(), word.clone())));
        inner.vars.insert("0".to_owned(), path.to_owned());
        for line in lines(&text, &['#'], "") {
            inner.from = Origin::new(path, line.number);
            for mut command in commands(&line.text, &inner.vars) {
                // a branch of `case`
                command.words.retain(|word| !word.ends_with(')') || word.contains('('));
                let assigned = command.words.iter().take_while(|word| assignment(word).is_some()).count();
                let only = assigned == command.words.len() || command.words.first().is_some_and(|word| word == "export" || word == "local");
                for (name, value) in command.words.iter().filter_map(|word| assignment(word)).filter(|_| only) {
                    // one that grows with each line is no address
                    if command.unknown.is_none() && value.len() <= MOST_BYTES {
                        inner.vars.insert(name.to_owned(), value.to_owned());
                    } else {
                        inner.vars.remove(name);
                    }
                }
                if only {
                    if let Some(what) = command.unknown.as_ref().filter(|_| assigned > 0) {
                        self.note(&inner, Note::missed(inner.from.clone(), &line.text, format!("what {what} is shows when it runs only")));
                    }
                    continue;
                }
                command.words.drain(..assigned);
                self.command(&inner, &command, &line.text);
            }
        }
        Ok(())
    }

    fn nsenter(&mut self, at: &At, rest: &[String]) -> Done {
        let mut inner = at.clone();
        let mut words = Words::new(rest);
        let mut host = false;
        while let Some(word) = words.peek().filter(|word| word.starts_with('-')) {
            words.next();
            match word {
                "-t" | "--target" => host = words.value(word)? == "1",
                "--target=1" | "-t1" => host = true,
                "-n" | "--net" if host => inner.netns = None,
                _ => match word.strip_prefix("--net=").or(word.strip_prefix("-n")).and_then(|path| path.rsplit_once("netns/")) {
                    Some((_, name)) => inner.netns = Some(name.to_owned()),
                    None if word == "--" => break,
                    None => return missed(format!("nsenter's '{word}' is not known")),
                },
            }
        }
        self.words(&inner, words.rest())
    }

    fn dhcp(&mut self, at: &At, rest: &[String]) -> Done {
        let six = rest.iter().any(|word| word == "-6");
        // `-i eth0` of udhcpc; other options have what belongs to them before the link
        let Some(name) = rest.last().filter(|word| !word.starts_with('-')).filter(|_| at.netns.is_some()) else {
            return missed("DHCP is for the host");
        };
        let link = self.world.link(at.netns.as_deref(), name, &at.from);
        self.world.links[link].dhcp[usize::from(six)] = Some(at.from.clone());
        Ok(())
    }

    fn sysctls(&mut self, at: &At, rest: &[String]) -> Done {
        let words: Vec<&String> = rest.iter().filter(|word| !word.starts_with('-')).collect();
        if rest.iter().any(|word| matches!(word.as_str(), "-p" | "--load" | "--system")) {
            return missed("parameters from a file go into `sysctl = { … }`");
        }
        // `sysctl -w a=b c=d`, `sysctl -w a b`
        match &words[..] {
            [key, value] if !key.contains('=') && !value.contains('=') => self.sysctl(at, key, value),
            words => words
                .iter()
                .try_for_each(|word| word.split_once('=').map_or(Ok(()), |(key, value)| self.sysctl(at, key.trim(), value.trim()))),
        }
    }

    /// Sets a kernel parameter, named with dots or slashes.
    pub fn sysctl(&mut self, at: &At, key: &str, value: &str) -> Done {
        let swap = |c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        };
        let slashes = key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot));
        let key: String = if slashes { key.chars().map(swap).collect() } else { key.to_owned() };
        let Some(netns) = &at.netns else { return missed("this is the host's: /etc/sysctl.d") };
        if !key.starts_with("net.") {
            return missed("only what begins with net. is a namespace's own");
        }
        let fact = Fact { value: value.to_owned(), from: at.from.clone() };
        let netns = self.world.netns(netns);
        match (key.as_str(), value) {
            ("net.ipv6.conf.all.disable_ipv6", "1") => netns.no_ipv6 = Some(at.from.clone()),
            ("net.ipv6.conf.all.disable_ipv6" | "net.ipv6.conf.default.disable_ipv6", "0") => {
                return Err(Left::Needless("a namespace has IPv6 unless `ipv6 = false`"));
            }
            ("net.ipv6.conf.default.disable_ipv6", _) => return missed("a namespace has IPv6 or not: `ipv6 = false`"),
            _ => drop(netns.sysctl.insert(key, fact)),
        }
        Ok(())
    }

    /// Makes a link a port of a bridge.
    pub fn enslave(&mut self, at: &At, link: &str, bridge: &str) {
        let link = self.world.link(at.netns.as_deref(), link, &at.from);
        if self.world.links[link].master.as_ref().is_some_and(|master| master.value == bridge) {
            self.note(at, Note::needless(at.from.clone(), &format!("{} joins {bridge}", self.world.links[link].name), "said already"));
            return;
        }
        self.world.links[link].master = Some(Fact { value: bridge.to_owned(), from: at.from.clone() });
    }

    /// Makes a bridge.
    pub fn bridge(&mut self, at: &At, name: &str) -> usize {
        self.world.make(at.netns.as_deref(), name, Kind::Bridge, &at.from)
    }

    /// Sets a key that the configuration has for a port or a bridge.
    pub fn key(&mut self, at: &At, link: &str, key: &'static str, value: String) {
        let link = self.world.link(at.netns.as_deref(), link, &at.from);
        self.world.links[link].keys.insert(key, Fact { value, from: at.from.clone() });
    }
}

/// Reads `NAME=value`.
fn assignment(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Judges a command that undoes what another made: there is no need for it, unless it does more.
fn undo(words: &[String]) -> Done {
    let first = words.first().map_or("", |first| first.rsplit('/').next().unwrap_or_default());
    let has = |words_: &[&str]| words.iter().any(|word| words_.contains(&word.as_str()));
    let undoes = match first {
        "ip" => has(&["del", "delete", "d", "flush", "f", "down", "nomaster"]),
        "brctl" => has(&["delif", "delbr"]),
        "ifconfig" => has(&["down", "del", "0.0.0.0"]),
        "route" => has(&["del"]),
        "iptables" | "ip6tables" => has(&["-D", "-F", "-X"]),
        "ifdown" | "umount" | "rm" => true,
        _ => QUIET.contains(&first),
    };
    if undoes { Err(Left::Needless("namespaces take what is in them along")) } else { missed("nothing runs when a namespace goes down") }
}

/// Reads `on`, `yes`, `1` and their opposites.
pub fn switch(word: &str) -> Result<bool, Left> {
    match word {
        "on" | "yes" | "1" | "true" => Ok(true),
        "off" | "no" | "0" | "false" => Ok(false),
        _ => missed(format!("'{word}' is neither on nor off")),
    }
}
