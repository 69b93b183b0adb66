//! Profiles of dadevel/wg-netns: `/etc/wireguard/NAME.json`, or the same in YAML.

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    Note, Origin,
    changeover::quote,
    host::Host,
    ip::{inline, ip, prefix, text},
    world::{Fact, Kind, Route, add},
};

const FOLDER: &str = "/etc/wireguard";

pub fn read(host: &mut Host<'_>) {
    for suffix in ["json", "yaml", "yml"] {
        for path in host.files.matching(&format!("{FOLDER}/*.{suffix}")) {
            let Some(content) = host.files.get(&path).map(str::to_owned) else { continue };
            match if suffix == "json" { json(&content) } else { yaml(&content) } {
                Ok(Value::Object(profile)) => Profile { host, path: &path, content: &content, netns: String::new() }.read(&profile),
                Ok(_) => host.notes.push(Note::missed(Origin::new(&path, 1), &path, "this is no profile")),
                Err((line, why)) => host.notes.push(Note::missed(Origin::new(&path, line.max(1)), &path, why)),
            }
        }
    }
}

/// Reads a file; where it cannot be read, says in which line and why.
fn json(content: &str) -> Result<Value, (usize, String)> {
    serde_json::from_str(content).map_err(|why| (why.line(), format!("this is no JSON: {why}")))
}

fn yaml(content: &str) -> Result<Value, (usize, String)> {
    serde_saphyr::from_str(content).map_err(|why| {
        let line = why.location().and_then(|location| usize::try_from(location.line()).ok()).unwrap_or(1);
        // not in the reader's words: they may repeat a key that is in the file
        (line, "this is no YAML that can be read".to_owned())
    })
}

struct Profile<'p, 'h, 'f> {
    host: &'h mut Host<'f>,
    path: &'p str,
    content: &'p str,
    netns: String,
}

impl Profile<'_, '_, '_> {
    /// Finds the line that has a word first: neither JSON nor YAML tells where its values stand. A word in quotes may stand without, too.
    fn place(&self, word: &str) -> Origin {
        let bare = word.trim_matches('"');
        let is_bare = |line: &str| line.split(|c: char| c.is_whitespace() || ":,[]{}".contains(c)).any(|one| one == bare);
        let line = self.content.lines().position(|line| line.contains(word) || is_bare(line)).unwrap_or(0);
        Origin::new(self.path, line + 1)
    }

    fn missed(&mut self, key: &str, why: &str) {
        // a command, or a key, is not repeated here
        let note = Note::missed(self.place(&format!("\"{key}\"")), key, why);
        self.host.notes.push(note);
    }

    fn fact<T>(&self, value: T, word: &str) -> Fact<T> {
        Fact { value, from: self.place(word) }
    }

    fn read(mut self, profile: &Map<String, Value>) {
        let Some(name) = profile.get("name").and_then(Value::as_str) else { return self.missed("name", "a profile has a name") };
        name.clone_into(&mut self.netns);
        let from = self.place("\"name\"");
        let netns = self.host.world.netns(name);
        netns.from.push(from);
        netns.makers.push(format!("wg-netns@{name}.service"));
        for (key, value) in profile {
            match key.replace('_', "-").as_str() {
                "name" | "managed" => {}
                "dns-server" | "dns-servers" => {
                    for server in strings(value) {
                        match ip(&server) {
                            Ok(address) => {
                                let from = self.place(&server);
                                add(&mut self.host.world.netns(name).dns, address, from);
                            }
                            Err(_) => self.missed(key, "a resolver is an address"),
                        }
                    }
                }
                "interfaces" => {
                    for (number, interface) in value.as_array().into_iter().flatten().enumerate() {
                        if let Value::Object(interface) = interface {
                            self.interface(number, interface);
                        }
                    }
                }
                "pre-up" | "post-up" | "pre-down" | "post-down" => {
                    self.missed(key, "commands when a namespace comes and goes are units, bound to netns@");
                }
                _ => self.missed(key, "the configuration has nothing for it"),
            }
        }
    }

    fn interface(&mut self, number: usize, interface: &Map<String, Value>) {
        let Some(name) = interface.get("name").and_then(Value::as_str) else { return self.missed("interfaces", "an interface has a name") };
        let netns = self.netns.clone();
        let from = self.place(&format!("\"{name}\""));
        let link = self.host.world.make(Some(&netns), name, Kind::Wireguard, &from);
        // what it takes when it is not told
        let default = Value::from(1420);
        let mtu = interface.get("mtu").unwrap_or(&default);
        self.host.world.links[link].mtu = Some(self.fact(plain(mtu), "\"mtu\""));
        for (key, value) in interface {
            match key.replace('_', "-").as_str() {
                "name" | "mtu" | "public-key" => {}
                "address" => {
                    for address in strings(value) {
                        match prefix(&address) {
                            Ok(new) => {
                                let from = self.place(&address);
                                add(&mut self.host.world.links[link].addresses, new, from);
                            }
                            Err(_) => self.missed(key, "this is no address"),
                        }
                    }
                }
                "private-key" => {
                    let path = format!("{FOLDER}/{netns}-{name}.key");
                    let fact = self.fact(text(&path), &format!("\"{key}\""));
                    self.host.world.links[link].keys.insert("private-key-file", fact);
                    self.key_step(&format!("[\"interfaces\"][{number}][\"{key}\"]"), &path);
                }
                "listen-port" | "fwmark" => match whole(value) {
                    Some(0) => {}
                    Some(number) => {
                        let fact = self.fact(number.to_string(), &format!("\"{key}\""));
                        self.host.world.links[link].keys.insert(if key.starts_with('f') { "fwmark" } else { "listen-port" }, fact);
                    }
                    None => self.missed(key, "this is no number"),
                },
                "peers" => {
                    for (peer, value) in value.as_array().into_iter().flatten().enumerate() {
                        if let Value::Object(value) = value {
                            self.peer(link, name, (number, peer), value);
                        }
                    }
                }
                _ => self.missed(key, "the configuration has nothing for it"),
            }
        }
    }

    fn peer(&mut self, link: usize, name: &str, (interface, number): (usize, usize), peer: &Map<String, Value>) {
        let mut keys = Vec::new();
        let get = |key: &str| peer.get(key).or_else(|| peer.get(&key.replace('-', "_")));
        let public = get("public-key").map(plain).unwrap_or_default();
        keys.push(format!("public-key = {}", text(&public)));
        for (key, value) in peer {
            match key.replace('_', "-").as_str() {
                "name" | "public-key" | "routes" => {}
                "preshared-key" => {
                    let path = format!("{FOLDER}/{}-{name}-{number}.psk", self.netns);
                    keys.push(format!("preshared-key-file = {}", text(&path)));
                    self.key_step(&format!("[\"interfaces\"][{interface}][\"peers\"][{number}][\"{key}\"]"), &path);
                }
                "endpoint" if plain(value).parse::<std::net::SocketAddr>().is_ok() => {
                    keys.push(format!("endpoint = {}", text(&plain(value))));
                }
                "endpoint" => self.missed(key, "the configuration takes an address and a port: look the name up"),
                "persistent-keepalive" => match whole(value) {
                    Some(0) => {}
                    Some(seconds) => keys.push(format!("keepalive = {seconds}")),
                    None => self.missed(key, "this is no number"),
                },
                "allowed-ips" => {
                    keys.push(format!("allowed-ips = [{}]", strings(value).iter().map(|ip| text(ip)).collect::<Vec<_>>().join(", ")));
                }
                _ => self.missed(key, "the configuration has nothing for it"),
            }
        }
        let fact = self.fact(inline(&keys), &public);
        self.host.world.links[link].peers.push(fact);
        for network in get("routes").filter(|routes| !routes.is_null()).or_else(|| get("allowed-ips")).map(strings).unwrap_or_default() {
            let to = Some(network.clone()).filter(|to| to != "0.0.0.0/0" && to != "::/0");
            let route = Route { to, is_ipv6: network.contains(':'), ..Route::default() };
            let from = self.place(&network);
            add(&mut self.host.world.links[link].routes, route, from);
        }
    }

    /// Has a key taken out of the profile: it stands in a file of its own, never in the configuration. wg-netns is Python and reads its
    /// profiles with these modules, so they are there.
    fn key_step(&mut self, at: &str, path: &str) {
        let is_json = Path::new(self.path).extension().is_some_and(|suffix| suffix == "json");
        let (module, load) = if is_json { ("json", "json.load") } else { ("yaml", "yaml.safe_load") };
        let program = format!("import {module}, sys; print({load}(open(sys.argv[1])){at})");
        let command = format!("python3 -c {} {} | install -Dm600 /dev/stdin {}", quote(&program), quote(self.path), quote(path));
        self.host.world.keys.push(command);
    }
}

/// A string or a number as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number as wg(8) takes one, which may be a string: a mark is written in hexadecimal by most.
fn whole(value: &Value) -> Option<u32> {
    let text = plain(value);
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Null => Vec::new(),
        value => vec![plain(value)],
    }
}
