//! ip(8).

use std::net::IpAddr;

use super::{
    commands::{At, Done, Left, Words, missed, switch},
    host::Host,
    world::{Address, Fact, Kind, Route, add},
};

/// Finds what an abbreviation means, as ip(8) does: the first that begins with it.
fn full<'w>(word: &str, all: &[&'w str]) -> Option<&'w str> {
    all.iter().find(|full| full.starts_with(word)).copied().filter(|_| !word.is_empty())
}

const OBJECTS: [&str; 12] =
    ["address", "addrlabel", "maddress", "route", "rule", "neighbour", "neighbor", "ntable", "link", "netns", "tunnel", "xfrm"];
const VERBS: [&str; 8] = ["add", "change", "replace", "append", "delete", "show", "list", "flush"];

/// Keys of a bridge port: ip(8)'s and bridge(8)'s name, ours.
pub const PORT_KEYS: [(&str, &str); 8] = [
    ("isolated", "isolated"),
    ("hairpin", "hairpin"),
    ("learning", "learning"),
    ("neigh_suppress", "neighbor-suppression"),
    ("fastleave", "fast-leave"),
    ("fast_leave", "fast-leave"),
    ("cost", "cost"),
    ("priority", "priority"),
];

impl Host<'_> {
    pub fn ip(&mut self, at: &At, rest: &[String]) -> Done {
        let mut at = at.clone();
        let mut words = Words::new(rest);
        let mut six = None;
        while let Some(option) = words.peek().filter(|word| word.starts_with('-')) {
            words.next();
            match option.trim_start_matches('-') {
                "n" | "netns" | "net" => at.netns = Some(words.value(option)?.to_owned()),
                "4" => six = Some(false),
                "6" => six = Some(true),
                "f" | "family" => six = Some(words.value(option)? == "inet6"),
                "b" | "batch" => return missed("a batch of ip is not read"),
                "a" | "all" => return missed("-all is for every namespace"),
                "force" | "o" | "oneline" | "d" | "details" | "s" | "stats" | "br" | "brief" | "c" | "color" | "j" | "json" | "p" => {}
                _ => return missed(format!("ip's '{option}' is not known")),
            }
        }
        let Some(object) = words.next() else { return Ok(()) };
        match full(object, &OBJECTS) {
            Some("netns") => self.ip_netns(&at, &mut words),
            Some("link") => self.ip_link(&at, &mut words),
            Some("address") => self.ip_address(&at, &mut words),
            Some("route") => self.ip_route(&at, &mut words, six),
            Some("rule") => self.ip_rule(&at, &mut words, six),
            _ => missed(format!("the configuration has nothing for 'ip {object}'")),
        }
    }

    fn ip_netns(&mut self, at: &At, words: &mut Words<'_>) -> Done {
        match full(words.next().unwrap_or("list"), &["add", "exec", "delete", "list", "set", "identify", "pids", "monitor", "attach"]) {
            Some("add") => {
                let name = words.value("add")?;
                let from = at.from.clone();
                self.world.netns(name).from.push(from);
                Ok(())
            }
            Some("exec") => {
                let netns = words.value("exec")?;
                self.world.netns(netns);
                let at = At { netns: Some(netns.to_owned()), ..at.clone() };
                self.words(&at, words.rest())
            }
            Some("delete") => Err(Left::Needless("namespaces go with their last service")),
            Some("list" | "identify" | "pids" | "monitor") => Ok(()),
            _ => missed("the configuration has nothing for it"),
        }
    }

    fn ip_link(&mut self, at: &At, words: &mut Words<'_>) -> Done {
        match full(words.next().unwrap_or("show"), &["add", "change", "replace", "delete", "show", "list", "set"]) {
            Some("add") => self.link_add(at, words),
            Some("set" | "change") => self.link_set(at, words),
            Some("delete") => Err(Left::Needless("links go with their namespace")),
            Some("show" | "list") => Ok(()),
            _ => missed("the configuration has nothing for it"),
        }
    }

    fn link_add(&mut self, at: &At, words: &mut Words<'_>) -> Done {
        let (mut name, mut parent, mut mac, mut mtu, mut netns) = (None, None, None, None, at.netns.clone());
        let kind = loop {
            let Some(word) = words.next() else { return missed("a link has a type") };
            match word {
                "type" => break words.value(word)?,
                "link" => parent = Some(words.value(word)?.to_owned()),
                "name" | "dev" => name = Some(words.value(word)?.to_owned()),
                "address" | "addr" => mac = Some(words.value(word)?.to_owned()),
                "mtu" => mtu = Some(words.value(word)?.to_owned()),
                "netns" => netns = namespace(words.value(word)?)?,
                "up" | "txqueuelen" | "txqlen" | "numtxqueues" | "numrxqueues" => {
                    if word != "up" {
                        words.value(word)?;
                    }
                }
                _ if name.is_none() => name = Some(word.to_owned()),
                _ => return missed(format!("'{word}' of a link is not known")),
            }
        };
        let Some(name) = name else { return missed("a link has a name") };
        let from = &at.from;
        let link = match kind {
            "veth" => {
                let link = self.world.make(netns.as_deref(), &name, Kind::Found, from);
                let (mut peer, mut of_peer, mut inside) = (None, [None, None], at.netns.clone());
                while let Some(word) = words.next() {
                    match word {
                        "peer" => {}
                        "name" => peer = Some(words.value(word)?.to_owned()),
                        "address" | "addr" => of_peer[0] = Some(words.value(word)?.to_owned()),
                        "mtu" => of_peer[1] = Some(words.value(word)?.to_owned()),
                        "netns" => inside = namespace(words.value(word)?)?,
                        _ if peer.is_none() => peer = Some(word.to_owned()),
                        _ => return missed(format!("'{word}' of a pair is not known")),
                    }
                }
                let Some(peer) = peer else { return missed("the other end has no name") };
                if peer == name && inside == netns {
                    return missed("both ends have one name");
                }
                let other = self.world.make(inside.as_deref(), &peer, Kind::Veth { peer: link }, from);
                self.world.links[link].kind = Kind::Veth { peer: other };
                let [mac, mtu] = of_peer.map(|value| value.map(|value| Fact { value, from: from.clone() }));
                let other = &mut self.world.links[other];
                (other.mac, other.mtu) = (mac.or(other.mac.take()), mtu.or(other.mtu.take()));
                link
            }
            "bridge" => {
                let link = self.world.make(netns.as_deref(), &name, Kind::Bridge, from);
                self.bridge_options(at, link, words)?;
                link
            }
            "vlan" => {
                let mut id = None;
                while let Some(word) = words.next() {
                    match word {
                        "id" => id = Some(words.value(word)?.to_owned()),
                        "protocol" | "proto" => drop(words.value(word)?),
                        _ => return missed(format!("'{word}' of a VLAN is not known")),
                    }
                }
                self.world.make(netns.as_deref(), &name, Kind::Vlan { id: id.unwrap_or_default() }, from)
            }
            "macvlan" | "ipvlan" => {
                let kind = if kind == "macvlan" { Kind::Macvlan } else { Kind::Ipvlan };
                let usual = if kind == Kind::Macvlan { "bridge" } else { "l2" };
                if let (Some("mode"), Some(mode)) = (words.next(), words.next())
                    && mode != usual
                {
                    return missed(format!("the configuration has mode {usual} only"));
                }
                self.world.make(netns.as_deref(), &name, kind, from)
            }
            "dummy" => self.world.make(netns.as_deref(), &name, Kind::Dummy, from),
            "wireguard" => self.world.make(netns.as_deref(), &name, Kind::Wireguard, from),
            _ => return missed(format!("the configuration has no links of type {kind}")),
        };
        let link = &mut self.world.links[link];
        link.parent = parent.or(link.parent.take());
        let fact = |value| Fact { value, from: from.clone() };
        (link.mac, link.mtu) = (mac.map(fact).or(link.mac.take()), mtu.map(fact).or(link.mtu.take()));
        Ok(())
    }

    fn bridge_options(&mut self, at: &At, link: usize, words: &mut Words<'_>) -> Done {
        while let Some(word) = words.next() {
            let value = words.value(word)?;
            let (key, value) = match word {
                "stp_state" | "stp" => ("stp", switch(value)?.to_string()),
                "vlan_filtering" => ("vlan-filtering", switch(value)?.to_string()),
                "vlan_default_pvid" => ("default-pvid", if value == "0" { "\"none\"".to_owned() } else { number(value)? }),
                // of no effect without spanning tree
                "forward_delay" => continue,
                _ => return missed(format!("the configuration has nothing for '{word}' of a bridge")),
            };
            self.world.links[link].keys.insert(key, Fact { value, from: at.from.clone() });
        }
        Ok(())
    }

    fn link_set(&mut self, at: &At, words: &mut Words<'_>) -> Done {
        let mut first = words.value("set")?;
        if first == "dev" {
            first = words.value(first)?;
        }
        let from = &at.from;
        let find = |host: &mut Self| host.world.link(at.netns.as_deref(), first, from);
        let mut name = first.to_owned();
        let mut index = None;
        while let Some(word) = words.next() {
            // lo is there, and comes up by itself
            if first == "lo" && matches!(word, "up") {
                if let Some(netns) = &at.netns {
                    self.world.netns(netns);
                }
                continue;
            }
            let link = *index.get_or_insert_with(|| find(self));
            let fact = |value: &str| Some(Fact { value: value.to_owned(), from: from.clone() });
            match word {
                "up" => {}
                "address" | "addr" => self.world.links[link].mac = fact(words.value(word)?),
                "mtu" => self.world.links[link].mtu = fact(words.value(word)?),
                "name" => {
                    words.value(word)?.clone_into(&mut name);
                    self.world.links[link].name.clone_from(&name);
                }
                "netns" => {
                    let netns = namespace(words.value(word)?)?;
                    if let Some(netns) = &netns {
                        self.world.netns(netns);
                    }
                    self.world.move_link(link, netns.as_deref(), first);
                }
                "master" => self.world.links[link].master = fact(words.value(word)?),
                "nomaster" => self.world.links[link].master = None,
                "down" => return Err(Left::Needless("links are up while their namespace is")),
                "arp" | "multicast" | "promisc" | "txqueuelen" | "txqlen" | "alias" | "allmulticast" => {
                    let value = words.value(word)?;
                    return missed(format!("the configuration has nothing for '{word} {value}'"));
                }
                "type" => match words.value(word)? {
                    "bridge_slave" => {
                        while let Some(word) = words.next() {
                            self.port_key(at, link, word, words.value(word)?)?;
                        }
                    }
                    "bridge" => self.bridge_options(at, link, words)?,
                    kind => return missed(format!("the configuration has nothing for 'type {kind}' here")),
                },
                _ => return missed(format!("the configuration has nothing for '{word}' of a link")),
            }
        }
        Ok(())
    }

    /// Sets a key of a bridge port by its name in ip(8) and bridge(8).
    pub fn port_key(&mut self, at: &At, link: usize, word: &str, value: &str) -> Done {
        let Some((_, key)) = PORT_KEYS.iter().find(|(name, _)| *name == word) else {
            return missed(format!("the configuration has nothing for '{word}' of a port"));
        };
        let value = if matches!(*key, "cost" | "priority") { number(value)? } else { switch(value)?.to_string() };
        self.world.links[link].keys.insert(key, Fact { value, from: at.from.clone() });
        Ok(())
    }

    fn ip_address(&mut self, at: &At, words: &mut Words<'_>) -> Done {
        match full(words.next().unwrap_or("show"), &VERBS) {
            Some("add" | "change" | "replace") => {}
            Some("show" | "list") => return Ok(()),
            Some("delete" | "flush") => return Err(Left::Needless("there are the addresses that are named, and no others")),
            _ => return missed("the configuration has nothing for it"),
        }
        let (mut address, mut dev, mut nodad) = (None, None, false);
        let mut more = Address::new(IpAddr::from([0, 0, 0, 0]), None);
        while let Some(word) = words.next() {
            match word {
                "dev" => dev = Some(words.value(word)?),
                "local" => address = Some(words.value(word)?),
                "broadcast" | "brd" | "anycast" | "valid_lft" | "proto" => drop(words.value(word)?),
                "peer" | "remote" => more.peer = Some(ip(words.value(word)?.split('/').next().unwrap_or_default())?),
                "label" => more.label = Some(words.value(word)?.to_owned()),
                "scope" => more.scope = Some(words.value(word)?.to_owned()).filter(|scope| scope != "global"),
                "metric" | "priority" => return missed("the configuration has no metric of an address"),
                "preferred_lft" => more.deprecated = words.value(word)? == "0",
                "nodad" => nodad = true,
                "noprefixroute" => more.no_prefix_route = true,
                "home" | "mngtmpaddr" | "optimistic" | "autojoin" => {
                    return missed(format!("the configuration has no '{word}' of an address"));
                }
                _ if address.is_none() => address = Some(word),
                _ => return missed(format!("'{word}' of an address is not known")),
            }
        }
        let (Some(address), Some(dev)) = (address, dev) else { return missed("an address and its link are not both there") };
        let new = prefix(address)?;
        self.address(at, dev, Address { ip: new.ip, len: new.len, ..more }, nodad);
        Ok(())
    }

    /// Gives a link an address.
    pub fn address(&mut self, at: &At, dev: &str, address: Address, nodad: bool) {
        match &at.netns {
            _ if dev == "lo" && address.ip.is_loopback() => return,
            Some(netns) if dev == "lo" => return add(&mut self.world.netns(netns).loopback, address, at.from.clone()),
            _ => {}
        }
        let link = self.world.link(at.netns.as_deref(), dev, &at.from);
        let link = &mut self.world.links[link];
        if nodad && address.ip.is_ipv6() {
            link.dad_off = Some(at.from.clone());
        }
        add(&mut link.addresses, address, at.from.clone());
    }

    fn ip_route(&mut self, at: &At, words: &mut Words<'_>, six: Option<bool>) -> Done {
        match full(words.next().unwrap_or("show"), &VERBS) {
            Some("add" | "change" | "replace" | "append") => {}
            Some("show" | "list") => return Ok(()),
            Some("delete" | "flush") => return Err(Left::Needless("there are the routes that are named, and no others")),
            _ => return missed("the configuration has nothing for it"),
        }
        let mut route = Route::default();
        let mut dev = None;
        let mut to = None;
        while let Some(word) = words.next() {
            match word {
                "via" => {
                    let mut value = words.value(word)?;
                    if matches!(value, "inet" | "inet6") {
                        value = words.value(word)?;
                    }
                    route.via = Some(ip(value)?);
                }
                "dev" => dev = Some(words.value(word)?),
                "src" => route.source = Some(words.value(word)?.to_owned()),
                "metric" | "priority" | "preference" | "pref" => route.metric = Some(number(words.value(word)?)?),
                "table" => route.table = Some(self.table(words.value(word)?)?),
                "scope" => route.scope = Some(words.value(word)?.to_owned()),
                "proto" | "protocol" => drop(words.value(word)?),
                "mtu" => {
                    let mut value = words.value(word)?;
                    if value == "lock" {
                        value = words.value(word)?;
                    }
                    route.mtu = Some(number(value)?);
                }
                "onlink" => route.on_link = true,
                "unicast" | "to" => {}
                "blackhole" | "unreachable" | "prohibit" => route.kind = Some(word.to_owned()),
                _ if to.is_none() => to = Some(word),
                _ => return missed(format!("the configuration has no '{word}' of a route")),
            }
        }
        let to = match to {
            None => return missed("a route leads somewhere"),
            Some("default" | "all") => None,
            Some(to) => Some(destination(to)?),
        };
        route.is_ipv6 = route.via.map(|via| via.is_ipv6()).or(to.as_ref().map(|to| to.contains(':'))).or(six).unwrap_or(false);
        if let Some(six) = six.filter(|_| to.is_none() && route.via.is_none()) {
            route.is_ipv6 = six;
        }
        // the same as without
        if matches!(route.scope.as_deref(), Some("global" | "universe")) && route.via.is_some()
            || route.scope.as_deref() == Some("link") && route.via.is_none()
        {
            route.scope = None;
        }
        route.to = to.filter(|to| to != "0.0.0.0/0" && to != "::/0");
        self.route(at, dev, route)
    }

    /// Adds a route, to a link or to whatever link its gateway is on.
    pub fn route(&mut self, at: &At, dev: Option<&str>, route: Route) -> Done {
        match (dev, &at.netns) {
            (Some("lo"), Some(_)) => return missed("the configuration has no routes on lo"),
            (Some(dev), _) => {
                let link = self.world.link(at.netns.as_deref(), dev, &at.from);
                add(&mut self.world.links[link].routes, route, at.from.clone());
            }
            (None, Some(netns)) => add(&mut self.world.netns(netns).routes, route, at.from.clone()),
            (None, None) => {
                let Some(about) = at.about.clone() else { return missed("this is the host's") };
                let link = self.world.link(None, &about, &at.from);
                add(&mut self.world.links[link].routes, route, at.from.clone());
            }
        }
        Ok(())
    }

    fn ip_rule(&mut self, at: &At, words: &mut Words<'_>, six: Option<bool>) -> Done {
        match full(words.next().unwrap_or("show"), &VERBS) {
            Some("add") => {}
            Some("show" | "list") => return Ok(()),
            Some("delete" | "flush") => return Err(Left::Needless("there are the rules that are named, and no others")),
            _ => return missed("the configuration has nothing for it"),
        }
        let Some(netns) = at.netns.clone() else { return missed("this is the host's") };
        let (mut keys, mut any) = (Vec::new(), true);
        while let Some(word) = words.next() {
            match word {
                "from" | "to" => {
                    let value = words.value(word)?;
                    if value != "all" && value != "any" && value != "default" {
                        any = false;
                        keys.push(format!("{word} = {}", text(&destination(value)?)));
                    }
                }
                "iif" | "dev" => keys.push(format!("iif = {}", text(words.value(word)?))),
                "fwmark" => keys.push(format!("fwmark = {}", text(words.value(word)?))),
                "table" | "lookup" => keys.push(format!("table = {}", self.table(words.value(word)?)?)),
                "priority" | "pref" | "preference" | "order" => keys.push(format!("priority = {}", number(words.value(word)?)?)),
                "blackhole" | "unreachable" | "prohibit" => keys.push(format!("type = {}", text(word))),
                "type" => {}
                _ => return missed(format!("the configuration has no '{word}' of a rule")),
            }
        }
        add(&mut self.world.netns(&netns).rules, inline(&keys), at.from.clone());
        if any {
            return missed(format!(
                "it is there, for both families: a rule without an address is not for IPv{} alone",
                if six == Some(true) { 6 } else { 4 }
            ));
        }
        Ok(())
    }

    /// Gives a routing table as the configuration writes it: names of the host's own are numbers here.
    fn table(&self, name: &str) -> Result<String, Left> {
        if matches!(name, "main" | "default" | "local") {
            return Ok(text(name));
        }
        if let Ok(table) = name.parse::<u32>() {
            return Ok(table.to_string());
        }
        self.tables
            .get(name)
            .map_or_else(|| missed(format!("routing table '{name}' is not in /etc/iproute2/rt_tables")), |number| Ok(number.to_string()))
    }
}

/// Reads where a link is moved to: a name, or a process of the host.
fn namespace(word: &str) -> Result<Option<String>, Left> {
    match word.parse::<u32>() {
        Ok(1) => Ok(None),
        Ok(_) => missed("a namespace of a process has no name"),
        Err(_) => Ok(Some(word.strip_prefix("/run/netns/").or(word.strip_prefix("/var/run/netns/")).unwrap_or(word).to_owned())),
    }
}

/// Writes a string as TOML does.
pub fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

/// Writes an inline table; what is said twice counts as it is said last.
pub fn inline(keys: &[String]) -> String {
    let name = |key: &String| key.split(' ').next().map(str::to_owned);
    let last = |at: usize| !keys.iter().skip(at + 1).any(|later| name(later) == keys.get(at).and_then(name));
    let keys: Vec<&str> = keys.iter().enumerate().filter(|(at, _)| last(*at)).map(|(_, key)| key.as_str()).collect();
    format!("{{ {} }}", keys.join(", "))
}

pub fn number(word: &str) -> Result<String, Left> {
    word.parse::<u32>().map_or_else(|_| missed(format!("'{word}' is no number")), |number| Ok(number.to_string()))
}

pub fn ip(word: &str) -> Result<IpAddr, Left> {
    word.parse().map_or_else(|_| missed(format!("'{word}' is no address")), Ok)
}

/// Reads an address with or without a prefix length.
pub fn prefix(word: &str) -> Result<Address, Left> {
    let (address, len) = word.split_once('/').map_or((word, None), |(address, len)| (address, Some(len)));
    let address = ip(address)?;
    let len = match len.map(|len| length(len, address)) {
        Some(None) => return missed(format!("'{word}' has no prefix length")),
        Some(len) => len,
        None => None,
    };
    Ok(Address::new(address, len))
}

/// Reads a prefix length: a number, or a mask with dots.
pub fn length(word: &str, of: IpAddr) -> Option<u8> {
    let most = if of.is_ipv4() { 32 } else { 128 };
    let len = match word.parse::<u8>() {
        Ok(len) => len,
        Err(_) => {
            let mask = u32::from(word.parse::<std::net::Ipv4Addr>().ok()?);
            u8::try_from(mask.leading_ones()).ok().filter(|_| mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0)?
        }
    };
    (len <= most).then_some(len)
}

/// Reads a destination, and sets what is behind its prefix to zero, as ip(8) does not.
fn destination(word: &str) -> Result<String, Left> {
    let Address { ip, len, .. } = prefix(word)?;
    let net = ipnet::IpNet::new(ip, len).map_or_else(|_| missed(format!("'{word}' is no prefix")), Ok)?;
    Ok(if word.contains('/') { net.trunc().to_string() } else { ip.to_string() })
}
