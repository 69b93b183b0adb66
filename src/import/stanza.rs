//! A stanza of interfaces(5) -> what ifup would have made.

use super::{
    Note,
    commands::{At, Done, Left, missed, switch},
    host::Host,
    interfaces::{Setting, Stanza},
    ip::{ip, length, number, prefix, text},
    world::{Address, Fact, Kind, Route, add},
};

/// Options of bridge-utils that have no effect on a bridge without spanning tree, or say how ifup waits.
const QUIET_OF_BRIDGES: [&str; 7] =
    ["bridge-fd", "bridge-hello", "bridge-maxage", "bridge-maxwait", "bridge-waitport", "bridge-gcint", "bridge-ageing"];

impl Host<'_> {
    /// Brings a link up by its stanza.
    pub fn stanza(&mut self, at: &At, stanza: &Stanza, link: &str) {
        let (name, label) = match link.split_once(':') {
            Some((name, _)) => (name, Some(link)),
            None => (link, None),
        };
        let about = at.about.clone().or_else(|| at.netns.is_none().then(|| name.to_owned()));
        let may_stay = if at.about.is_some() { at.may_stay } else { self.may_stay(stanza) };
        let mut at = At { from: stanza.from.clone(), about, may_stay, ..at.clone() };
        self.says(&at);
        at.vars.extend(
            [("IFACE", link), ("LOGICAL", &stanza.name), ("ADDRFAM", &stanza.family), ("METHOD", &stanza.method), ("MODE", "start")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        at.vars.extend(
            stanza.options.iter().map(|option| (format!("IF_{}", option.key.to_uppercase().replace('-', "_")), option.value.clone())),
        );
        let run = |host: &mut Self, keys: &[&str], undo: bool| {
            for option in stanza.options.iter().filter(|option| keys.contains(&option.key.as_str())) {
                host.line(&At { from: option.from.clone(), undo, ..at.clone() }, &option.value);
            }
        };
        let header = format!("iface {link} {} {}", stanza.family, stanza.method);
        match stanza.method.as_str() {
            "loopback" | "static" | "manual" | "dhcp" | "auto" => {}
            method => self
                .note(&at, Note::missed(stanza.from.clone(), &header, format!("the configuration has nothing for the method '{method}'"))),
        }
        if !matches!(stanza.family.as_str(), "inet" | "inet6") {
            self.note(&at, Note::missed(stanza.from.clone(), &header, "neither inet nor inet6"));
        }
        self.kind(&at, stanza, name);
        run(self, &["pre-up"], false);
        self.options(&at, stanza, name, label);
        run(self, &["up"], false);
        run(self, &["down", "pre-down", "post-down"], true);
    }

    /// Finds out what a link is by its name and its options.
    fn kind(&mut self, at: &At, stanza: &Stanza, name: &str) {
        let option = |key: &str| stanza.options.iter().find(|option| option.key == key);
        let netns = at.netns.as_deref();
        let known = self.world.find(netns, name).is_some_and(|link| self.world.links[link].kind != Kind::Found);
        if known {
            return;
        }
        if option("bridge-ports").is_some() {
            self.world.make(netns, name, Kind::Bridge, &stanza.from);
            return;
        }
        let digits =
            |text: &str| (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())).then(|| text.trim_start_matches('0').to_owned());
        let by_name = name.rsplit_once('.').and_then(|(parent, id)| Some((parent.to_owned(), digits(id)?)));
        let raw = option("vlan-raw-device").map(|option| option.value.clone());
        let id = option("vlan-id")
            .map(|option| option.value.clone())
            .or_else(|| by_name.as_ref().map(|(_, id)| id.clone()))
            .or_else(|| digits(name.strip_prefix("vlan")?));
        if let (Some(parent), Some(id)) = (raw.or(by_name.map(|(parent, _)| parent)), id) {
            let link = self.world.make(netns, name, Kind::Vlan { id }, &stanza.from);
            self.world.links[link].parent = Some(parent);
        }
    }

    fn options(&mut self, at: &At, stanza: &Stanza, name: &str, label: Option<&str>) {
        let six = stanza.family == "inet6";
        let mut own = Own::default();
        for option in &stanza.options {
            let at = At { from: option.from.clone(), ..at.clone() };
            self.says(&at);
            match self.option(&at, stanza, name, option, &mut own) {
                Ok(()) => {}
                Err(Left::Missed(why)) => {
                    self.note(&at, Note::missed(option.from.clone(), &format!("{} {}", option.key, option.value), why));
                }
                Err(Left::Needless(why)) => {
                    self.note(&at, Note::needless(option.from.clone(), &format!("{} {}", option.key, option.value), why));
                }
            }
        }
        if let Some(Fact { value: mut address, from }) = own.address {
            if let Some(mask) = &own.netmask {
                match length(&mask.value, address.ip) {
                    Some(len) => address.len = len,
                    None => self.note(at, Note::missed(mask.from.clone(), &format!("netmask {}", mask.value), "this is no mask")),
                }
            } else if !own.has_length {
                address.len = if six { 64 } else { class(address.ip) };
            }
            (address.peer, address.scope, address.deprecated) = (own.peer, own.scope, own.deprecated);
            address.label = label.map(str::to_owned).filter(|_| !six);
            self.address(&At { from, ..at.clone() }, name, address, own.nodad);
        }
        if let Some(Fact { value: via, from }) = own.gateway {
            // ifupdown says `onlink` of every gateway
            let route = Route { is_ipv6: via.is_ipv6(), via: Some(via), metric: own.metric, on_link: true, ..Route::default() };
            // a link is named, so this goes well
            let _ = self.route(&At { from, ..at.clone() }, Some(name), route);
        }
        let dhcp = match (stanza.method.as_str(), six) {
            ("dhcp", six) => Some(usize::from(six)),
            _ => None,
        };
        if dhcp.is_some() || stanza.method == "auto" {
            let link = self.world.link(at.netns.as_deref(), name, &stanza.from);
            let link = &mut self.world.links[link];
            match dhcp {
                Some(family) => link.dhcp[family] = Some(stanza.from.clone()),
                None => link.accept_ra = Some(stanza.from.clone()),
            }
        }
    }

    fn option(&mut self, at: &At, stanza: &Stanza, name: &str, option: &Setting, own: &mut Own) -> Done {
        let value = option.value.as_str();
        let fact = |value: &str| Fact { value: value.to_owned(), from: option.from.clone() };
        let link = if name == "lo" { None } else { Some(self.world.link(at.netns.as_deref(), name, &stanza.from)) };
        match option.key.as_str() {
            "up" | "pre-up" | "down" | "pre-down" | "post-down" | "vlan-raw-device" | "vlan-id" | "broadcast" | "network" => Ok(()),
            "address" => {
                let address = prefix(value)?;
                own.has_length = value.contains('/');
                own.address = Some(Fact { value: address, from: option.from.clone() });
                Ok(())
            }
            "netmask" => {
                own.netmask = Some(fact(value));
                Ok(())
            }
            "gateway" => {
                own.gateway = Some(Fact { value: ip(value)?, from: option.from.clone() });
                Ok(())
            }
            "metric" => number(value).map(|metric| own.metric = Some(metric)),
            "pointopoint" | "endpoint" => ip(value).map(|peer| own.peer = Some(peer)),
            "scope" => {
                own.scope = Some(value.to_owned()).filter(|scope| scope != "global");
                Ok(())
            }
            "preferred-lifetime" => {
                own.deprecated = value == "0";
                Ok(())
            }
            "dad-attempts" => {
                own.nodad = value == "0";
                Ok(())
            }
            "hwaddress" | "bridge-hw" => match (value.split_whitespace().last(), link) {
                (Some(mac), Some(link)) if mac.contains(':') => {
                    self.world.links[link].mac = Some(fact(mac));
                    Ok(())
                }
                _ => missed("this is no MAC address"),
            },
            "mtu" => match link {
                Some(link) => {
                    self.world.links[link].mtu = Some(fact(value));
                    Ok(())
                }
                None => missed("lo has addresses only"),
            },
            "accept-ra" => {
                if let Some(link) = link.filter(|_| value != "0") {
                    self.world.links[link].accept_ra = Some(option.from.clone());
                }
                Ok(())
            }
            "autoconf" | "privext" if value == "0" => Ok(()),
            "dns-nameservers" | "dns-nameserver" | "dns-search" | "dns-domain" => self.dns(link, option),
            "bridge-ports" => match value.split_whitespace().next() {
                Some("none") | None => Ok(()),
                Some("regex" | "all") => missed("ports by a pattern: name them under `uplinks`"),
                Some(_) => {
                    value.split_whitespace().for_each(|port| self.enslave(at, port, name));
                    Ok(())
                }
            },
            "bridge-stp" => {
                self.key(at, name, "stp", switch(value)?.to_string());
                Ok(())
            }
            "bridge-vlan-aware" => {
                self.key(at, name, "vlan-filtering", switch(value)?.to_string());
                Ok(())
            }
            "bridge-pvid" | "bridge-access" => {
                self.key(at, name, "vlan", number(value)?);
                Ok(())
            }
            "bridge-vids" => {
                let vlans: Result<Vec<String>, Left> =
                    value.split_whitespace().map(|vid| if vid.contains('-') { Ok(text(vid)) } else { number(vid) }).collect();
                self.key(at, name, "vlans", format!("[{}]", vlans?.join(", ")));
                Ok(())
            }
            "bridge-pathcost" | "bridge-portprio" => match value.split_once(char::is_whitespace) {
                Some((port, number)) => {
                    let port = self.world.link(at.netns.as_deref(), port, &option.from);
                    self.port_key(at, port, if option.key == "bridge-pathcost" { "cost" } else { "priority" }, number.trim())
                }
                None => missed("it names a port and a number"),
            },
            key if QUIET_OF_BRIDGES.contains(&key) => Err(Left::Needless("of no effect without spanning tree, or only on how ifup waits")),
            key => missed(format!("the configuration has nothing for '{key}'")),
        }
    }

    fn dns(&mut self, link: Option<usize>, option: &Setting) -> Done {
        let Some(link) = link else { return missed("resolvers are of a namespace or a bridge") };
        let from = &option.from;
        let search = option.key == "dns-search" || option.key == "dns-domain";
        let netns = self.world.links[link].netns.clone();
        let is_bridge = self.world.links[link].kind == Kind::Bridge;
        for word in option.value.split_whitespace() {
            match &netns {
                Some(netns) if search => add(&mut self.world.netns(netns).dns_search, word.to_owned(), from.clone()),
                Some(netns) => add(&mut self.world.netns(netns).dns, ip(word)?, from.clone()),
                None if is_bridge && !search => add(&mut self.world.links[link].dns, ip(word)?, from.clone()),
                None => return missed("resolvers of the host: /etc/resolv.conf, or resolved.conf(5)"),
            }
        }
        Ok(())
    }
}

/// What the address of a stanza consists of.
#[derive(Default)]
struct Own {
    address: Option<Fact<Address>>,
    has_length: bool,
    netmask: Option<Fact<String>>,
    gateway: Option<Fact<std::net::IpAddr>>,
    metric: Option<String>,
    peer: Option<std::net::IpAddr>,
    scope: Option<String>,
    deprecated: bool,
    nodad: bool,
}

/// The prefix length of an IPv4 address that is given without one: that of its class, as ifupdown takes it.
fn class(ip: std::net::IpAddr) -> u8 {
    match ip {
        std::net::IpAddr::V4(ip) if ip.octets()[0] < 128 => 8,
        std::net::IpAddr::V4(ip) if ip.octets()[0] < 192 => 16,
        std::net::IpAddr::V4(_) => 24,
        std::net::IpAddr::V6(_) => 64,
    }
}
