//! World -> TOML, each line with the place that it comes from.

use std::fmt::Write as _;

use super::{
    Files, Note, Origin,
    ip::text,
    world::{Address, Fact, Kind, Link, Netns, Route, World},
};
use crate::model::LinkName;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub namespaces: String,
    pub bridges: Option<String>,
    pub notes: Vec<Note>,
    pub names: Vec<String>,
    /// Bridges that were written.
    pub of_bridges: Vec<String>,
}

/// One table as it is written.
#[derive(Default)]
struct Table {
    header: String,
    from: Vec<Origin>,
    rows: Vec<Row>,
}

struct Row {
    key: String,
    /// Values and where each comes from; one that is no list has one.
    values: Vec<(String, String)>,
    is_list: bool,
}

impl Table {
    fn new(header: String, from: &[Origin]) -> Self {
        Self { header, from: from.to_vec(), rows: Vec::new() }
    }

    fn one(&mut self, key: &str, value: impl Into<String>, why: impl ToString) {
        self.rows.push(Row { key: key.to_owned(), values: vec![(value.into(), why.to_string())], is_list: false });
    }

    fn fact(&mut self, key: &str, fact: Option<&Fact<String>>, value: impl Fn(&str) -> String) {
        if let Some(fact) = fact {
            self.one(key, value(&fact.value), &fact.from);
        }
    }

    fn list(&mut self, key: &str, values: Vec<(String, String)>) {
        if !values.is_empty() {
            self.rows.push(Row { key: key.to_owned(), values, is_list: true });
        }
    }

    fn write(&self, to: &mut String) {
        let from: Vec<String> = self.from.iter().map(ToString::to_string).collect();
        if !from.is_empty() {
            let _ = writeln!(to, "# {}", comment(&from.join(", ")));
        }
        let _ = writeln!(to, "[{}]", self.header);
        let width = self.rows.iter().map(|row| row.key.chars().count()).max().unwrap_or_default();
        for Row { key, values, is_list } in &self.rows {
            match &values[..] {
                [(value, why)] => {
                    let value = if *is_list { format!("[{value}]") } else { value.clone() };
                    let _ = writeln!(to, "{key:width$} = {value}  # {}", comment(why));
                }
                values => {
                    let _ = writeln!(to, "{key:width$} = [");
                    for (value, why) in values {
                        let _ = writeln!(to, "    {value},  # {}", comment(why));
                    }
                    let _ = writeln!(to, "]");
                }
            }
        }
        to.push('\n');
    }
}

/// Makes a text fit for a comment: TOML forbids control characters there.
pub fn comment(text: &str) -> String {
    text.chars().map(|c| if crate::config::is_hidden(c) { ' ' } else { c }).collect()
}

/// Writes a name as a key.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare { name.to_owned() } else { quoted(name) }
}

/// Writes a string on one line: what a basic string of TOML takes.
fn quoted(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Writes numbers as they are, and anything else as a string, for the check to judge.
fn number(value: &str) -> String {
    value.parse::<u32>().map_or_else(|_| text(value), |number| number.to_string())
}

/// Writes everything. Notes that come up on the way are added to those that there are.
pub fn write(world: &World, files: &Files, notes: Vec<Note>) -> Written {
    let mut writer = Writer { world, files, notes };
    let mut written = Written::default();
    for (name, netns) in &world.netns {
        let tables = writer.namespace(name, netns);
        tables.iter().for_each(|table| table.write(&mut written.namespaces));
        written.names.push(name.clone());
    }
    let mut bridges = String::new();
    for link in world.links.iter().filter(|link| link.netns.is_none() && link.kind == Kind::Bridge) {
        if written.of_bridges.contains(&link.name) {
            writer.lost(link, "a second link of its name");
            continue;
        }
        writer.bridge(link).write(&mut bridges);
        written.of_bridges.push(link.name.clone());
    }
    for link in world
        .links
        .iter()
        .filter(|link| link.netns.is_none() && !world.is_host_end(link) && link.kind != Kind::Found && link.kind != Kind::Bridge)
    {
        // VLAN links are made by whoever has the uplink
        if matches!(link.kind, Kind::Veth { .. }) {
            writer.lost(link, "no end of this pair is in a namespace");
        }
    }
    let mut notes = writer.notes;
    notes.sort();
    notes.dedup();
    let head = "# Made by `netns-networkd import`; behind each line stands where it comes from.\n\n";
    written.bridges = (!bridges.is_empty()).then(|| format!("{head}{bridges}"));
    written.namespaces = format!("{head}{}{}", written.namespaces, left(&notes));
    written.notes = notes;
    written
}

/// Writes what is not in the tables as comments.
fn left(notes: &[Note]) -> String {
    let mut text = String::new();
    for (needless, title) in [(false, "Not in this file, for a person to look at:"), (true, "Not needed any more, or not this file's:")] {
        let mut notes = notes.iter().filter(|note| note.needless == needless).peekable();
        if notes.peek().is_some() {
            let _ = writeln!(text, "{}# {title}", if text.is_empty() { "" } else { "\n" });
        }
        for note in notes {
            let _ = writeln!(text, "#   {}: {}\n#       {}", comment(&note.from.to_string()), comment(&note.text), comment(&note.why));
        }
    }
    text
}

struct Writer<'w> {
    world: &'w World,
    files: &'w Files,
    notes: Vec<Note>,
}

impl Writer<'_> {
    fn missed(&mut self, from: &Origin, why: &str) {
        self.notes.push(Note::missed(from.clone(), &self.files.line(from), why));
    }

    /// Takes note of everything that was said of a link.
    fn lost(&mut self, link: &Link, why: &str) {
        let master = link.master.iter().map(|fact| &fact.from);
        link.from.iter().chain(master).chain(link.said()).for_each(|from| self.missed(from, why));
    }

    fn namespace(&mut self, name: &str, netns: &Netns) -> Vec<Table> {
        let Netns { from, services, makers: _, dns, dns_search, no_ipv6, sysctl, nftables, loopback, rules, routes } = netns;
        let mut table = Table::new(format!("namespace.{}", key(name)), from);
        table.list("services", services.iter().map(|fact| (quoted(&fact.value), fact.from.to_string())).collect());
        table.list("dns", dns.iter().map(|fact| (format!("\"{}\"", fact.value), fact.from.to_string())).collect());
        if dns.is_empty() {
            dns_search.iter().for_each(|fact| self.missed(&fact.from, "search domains are there with resolvers only"));
        } else {
            table.list("dns-search", dns_search.iter().map(|fact| (quoted(&fact.value), fact.from.to_string())).collect());
        }
        if let Some(from) = no_ipv6 {
            table.one("ipv6", "false", from);
        }
        if let Some(fact) = nftables {
            table.one("nftables", quoted(&fact.value), &fact.from);
        }
        table.list("loopback-addresses", loopback.iter().map(|fact| (address(&fact.value), fact.from.to_string())).collect());
        table.list("rules", rules.iter().map(|fact| (fact.value.clone(), fact.from.to_string())).collect());
        let mut tables = vec![table];
        if !sysctl.is_empty() {
            let mut table = Table::new(format!("namespace.{}.sysctl", key(name)), &[]);
            for (parameter, fact) in sysctl {
                table.one(&quoted(parameter), quoted(&fact.value), &fact.from);
            }
            tables.push(table);
        }
        let links = self.world.links.iter().filter(|link| link.netns.as_deref() == Some(name));
        let (lo, links): (Vec<&Link>, Vec<&Link>) = links.partition(|link| link.name == "lo");
        lo.iter().for_each(|lo| self.lost(lo, "lo has addresses only"));
        let owners: Vec<usize> = routes.iter().map(|route| owner(&links, &route.value)).collect();
        if links.is_empty() {
            routes.iter().for_each(|route| self.missed(&route.from, "there is no link that it could be on"));
        }
        let has_way_out = |link: &Link, at: usize| {
            let own = link.routes.iter().chain(routes.iter().zip(&owners).filter(|(_, owner)| **owner == at).map(|(route, _)| route));
            own.filter(|route| route.value.is_ipv6).any(|route| route.value.via.is_some())
        };
        let any_way_out = links.iter().enumerate().any(|(at, link)| has_way_out(link, at));
        for (at, link) in links.iter().enumerate() {
            if links.iter().take(at).any(|other| other.name == link.name) {
                self.lost(link, "a second link of its name");
                continue;
            }
            let more: Vec<&Fact<Route>> = routes.iter().zip(&owners).filter(|(_, owner)| **owner == at).map(|(route, _)| route).collect();
            match self.interface(name, link, &more, any_way_out || no_ipv6.is_some()) {
                Some(table) => tables.push(table),
                None => more.iter().for_each(|route| self.missed(&route.from, &format!("its link, '{}', is not in the file", link.name))),
            }
        }
        tables
    }

    fn interface(&mut self, netns: &str, link: &Link, more: &[&Fact<Route>], has_way_out: bool) -> Option<Table> {
        let mut table = Table::new(format!("namespace.{}.interface.{}", key(netns), key(&link.name)), &link.from);
        let host_end = self.world.host_end(link);
        let kind = match link.kind {
            Kind::Veth { .. } if host_end.is_some() => None,
            Kind::Veth { .. } => {
                self.lost(link, "the other end of a pair is on the host");
                return None;
            }
            Kind::Macvlan => Some("macvlan"),
            Kind::Ipvlan => Some("ipvlan"),
            Kind::Dummy => Some("dummy"),
            Kind::Wireguard => Some("wireguard"),
            Kind::Found if link.moved.is_some() => Some("physical"),
            Kind::Found => {
                self.lost(link, "nothing that was read makes this link");
                return None;
            }
            Kind::Bridge | Kind::Vlan { .. } => {
                self.lost(link, "the configuration has no bridges and VLAN links inside a namespace");
                return None;
            }
        };
        let origin = link.from.first().map(ToString::to_string).unwrap_or_default();
        if let Some(kind) = kind {
            table.one("kind", format!("\"{kind}\""), &origin);
        }
        if let Some(parent) = link.moved.as_ref().filter(|_| link.kind == Kind::Found).or(link.parent.as_ref()) {
            table.one("parent", quoted(parent), &origin);
        }
        if let Some(host_end) = host_end {
            self.host_end(&mut table, host_end, &origin);
        }
        if let Some(mac) = &link.mac {
            match link.kind {
                Kind::Ipvlan | Kind::Wireguard => self.missed(&mac.from, "a link of this kind has no MAC address of its own"),
                _ => table.one("mac", quoted(&mac.value), &mac.from),
            }
        }
        let of_host_end = host_end.and_then(|end| end.mtu.as_ref());
        match (&link.mtu, of_host_end) {
            // one that is alone would become the bridge's, for all its ports
            (Some(one), other) | (None, other @ Some(one))
                if host_end.is_some() && other.is_none_or(|other| other.value != one.value) || link.mtu.is_none() =>
            {
                self.missed(&one.from, "both ends of a pair have one MTU, and a bridge takes the smallest of its ports: `mtu` of the interface, if that is meant, or of its routes");
            }
            (mtu, _) => table.fact("mtu", mtu.as_ref(), number),
        }
        // the kernel takes the IPv6 address that was added last for new connections, the configuration the first
        let (four, six): (Vec<_>, Vec<_>) = link.addresses.iter().partition(|fact| fact.value.ip.is_ipv4());
        let has_six = !six.is_empty();
        table.list(
            "addresses",
            four.into_iter().chain(six.into_iter().rev()).map(|fact| (address(&fact.value), fact.from.to_string())).collect(),
        );
        Self::routes(&mut table, link.routes.iter().chain(more.iter().copied()));
        if let Some(from) = &link.dad_off {
            table.one("dad", "\"off\"", from);
        }
        match link.dhcp.each_ref().map(Option::as_ref) {
            [Some(four), Some(six)] => table.one("dhcp", "\"yes\"", format!("{four}, {six}")),
            [Some(four), None] => table.one("dhcp", "\"ipv4\"", four),
            [None, Some(six)] => table.one("dhcp", "\"ipv6\"", six),
            [None, None] => {}
        }
        match &link.accept_ra {
            Some(from) => table.one("accept-ra", "true", from),
            // a namespace by hand hears router advertisements: where no other way out is named, that was it
            None if has_six && !has_way_out && !matches!(link.kind, Kind::Dummy | Kind::Wireguard) => {
                table.one("accept-ra", "true", "as it was: no IPv6 gateway is named, so it can only have come from router advertisements");
            }
            None => {}
        }
        if link.kind == Kind::Wireguard {
            for (key, fact) in &link.keys {
                table.one(key, &fact.value, &fact.from);
            }
            table.list("peers", link.peers.iter().map(|fact| (fact.value.clone(), fact.from.to_string())).collect());
        } else {
            let facts = link.keys.values().chain(&link.peers);
            facts.for_each(|fact| self.missed(&fact.from, "the configuration has this of host ends and tunnels"));
        }
        if let Some(master) = &link.master {
            self.missed(&master.from, "the configuration has no bridges inside a namespace");
        }
        Some(table)
    }

    fn host_end(&mut self, table: &mut Table, host_end: &Link, origin: &str) {
        match &host_end.master {
            Some(bridge) => {
                table.one("bridge", quoted(&bridge.value), &bridge.from);
                for (key, fact) in &host_end.keys {
                    table.one(key, &fact.value, &fact.from);
                }
                host_end
                    .addresses
                    .iter()
                    .for_each(|fact| self.missed(&fact.from, "a port of a bridge has no addresses: they are the bridge's"));
            }
            None => {
                host_end.keys.values().for_each(|fact| self.missed(&fact.from, "this host end is on no bridge"));
                table.list("host-addresses", host_end.addresses.iter().map(|fact| (address(&fact.value), fact.from.to_string())).collect());
            }
        }
        host_end.routes.iter().for_each(|fact| self.missed(&fact.from, "the configuration has no routes of the host by a pair"));
        let others = host_end.dns.iter().map(|fact| &fact.from).chain(&host_end.dad_off).chain(&host_end.accept_ra);
        let others = others.chain(host_end.dhcp.iter().flatten()).chain(host_end.peers.iter().map(|fact| &fact.from));
        others.for_each(|from| self.missed(from, "the configuration has nothing for it on a host end"));
        match LinkName::parse_ours(&host_end.name) {
            Ok(_) => table.one("host-name", quoted(&host_end.name), origin),
            Err(why) => {
                if let Some(from) = host_end.from.first() {
                    self.missed(from, &format!("the host end gets another name than '{}': {why}", host_end.name));
                }
            }
        }
        if let Some(mac) = &host_end.mac {
            table.one("host-mac", quoted(&mac.value), &mac.from);
        }
    }

    /// Writes gateways and routes: the first plain default route of each family is a gateway.
    fn routes<'r>(table: &mut Table, routes: impl Iterator<Item = &'r Fact<Route>>) {
        let (mut gateways, mut others, mut has) = (Vec::new(), Vec::new(), [false; 2]);
        for Fact { value: route, from } in routes {
            let Route { to, is_ipv6, via, source, metric, table, scope, mtu, on_link, kind } = route;
            let family = usize::from(*is_ipv6);
            let plain = to.is_none()
                && table.as_deref().is_none_or(|table| table == "\"main\"")
                && scope.is_none()
                && mtu.is_none()
                && kind.is_none();
            let mut keys = Vec::new();
            let mut add = |key: &str, value: Option<String>| keys.extend(value.map(|value| format!("{key} = {value}")));
            let via_text = via.map(|via| format!("\"{via}\""));
            if let Some(via) = via_text.clone().filter(|_| plain && !has[family]) {
                has[family] = true;
                if source.is_none() && metric.is_none() && !on_link {
                    gateways.push((via, from.to_string()));
                    continue;
                }
                add("via", Some(via));
                add("source", source.as_deref().map(quoted));
                add("metric", metric.clone());
                add("on-link", on_link.then(|| "true".to_owned()));
                gateways.push((format!("{{ {} }}", keys.join(", ")), from.to_string()));
                continue;
            }
            let default = if *is_ipv6 { "::/0" } else { "0.0.0.0/0" };
            add("to", Some(quoted(to.as_deref().unwrap_or(default))));
            add("via", via_text);
            add("source", source.as_deref().map(quoted));
            add("metric", metric.clone());
            add("table", table.clone().filter(|table| table != "\"main\""));
            add("scope", scope.as_deref().map(quoted));
            add("mtu", mtu.clone());
            add("on-link", on_link.then(|| "true".to_owned()));
            add("type", kind.as_deref().map(quoted));
            others.push((format!("{{ {} }}", keys.join(", ")), from.to_string()));
        }
        table.list("gateways", gateways);
        table.list("routes", others);
    }

    fn bridge(&mut self, link: &Link) -> Table {
        let mut table = Table::new(format!("bridge.{}", key(&link.name)), &link.from);
        let ports = self.world.links.iter().filter(|port| port.netns.is_none() && !self.world.is_host_end(port));
        let ports = ports.filter_map(|port| Some((port, port.master.as_ref().filter(|master| master.value == link.name)?)));
        let uplink = |port: &Link| match (&port.kind, &port.parent) {
            (Kind::Vlan { id }, Some(parent)) if port.name == format!("{parent}.{id}") => {
                format!("{{ vlan = {}, parent = {} }}", number(id), quoted(parent))
            }
            _ => quoted(&port.name),
        };
        table.list("uplinks", ports.map(|(port, master)| (uplink(port), master.from.to_string())).collect());
        table.list(
            "addresses",
            link.addresses.iter().map(|fact| (format!("\"{}/{}\"", fact.value.ip, fact.value.len), fact.from.to_string())).collect(),
        );
        Self::routes(&mut table, link.routes.iter());
        table.list("dns", link.dns.iter().map(|fact| (format!("\"{}\"", fact.value), fact.from.to_string())).collect());
        let live = format!("/sys/class/net/{}/address", link.name);
        match (&link.mac, self.files.get(&live)) {
            (Some(mac), _) => table.one("mac", quoted(&mac.value), &mac.from),
            (None, Some(mac)) => table.one("mac", quoted(mac.trim()), format!("as it is now ({live})")),
            (None, None) => {}
        }
        table.fact("mtu", link.mtu.as_ref(), number);
        for (key, fact) in &link.keys {
            table.one(key, &fact.value, &fact.from);
        }
        if let Some(from) = &link.dad_off {
            self.missed(from, "a bridge checks its addresses for duplicates");
        }
        if let Some(master) = &link.master {
            self.missed(&master.from, "a bridge is no port of another one");
        }
        for from in link.dhcp.iter().flatten().chain(&link.accept_ra) {
            self.missed(
                from,
                "a bridge asks by DHCP, or hears routers, where a drop-in for networkd says so (docs/configuration.md, What an uplink has)",
            );
        }
        table
    }
}

/// Finds the link that a route without one is on: the kernel takes that whose network the gateway is in.
fn owner(links: &[&Link], route: &Route) -> usize {
    let covers = |link: &&Link| {
        link.addresses.iter().any(|fact| {
            let Address { ip, len, peer, .. } = fact.value;
            route.via.is_some_and(|via| ipnet::IpNet::new(ip, len).is_ok_and(|net| net.contains(&via)) || peer == Some(via))
        })
    };
    links.iter().position(covers).unwrap_or(0)
}

fn address(address: &Address) -> String {
    let Address { ip, len, peer, scope, label, deprecated, no_prefix_route } = address;
    let mut keys = Vec::new();
    keys.extend(peer.map(|peer| format!("peer = \"{peer}\"")));
    keys.extend(scope.as_deref().map(|scope| format!("scope = {}", quoted(scope))));
    keys.extend(label.as_deref().map(|label| format!("label = {}", quoted(label))));
    keys.extend(deprecated.then(|| "deprecated = true".to_owned()));
    keys.extend(no_prefix_route.then(|| "no-prefix-route = true".to_owned()));
    if keys.is_empty() { format!("\"{ip}/{len}\"") } else { format!("{{ address = \"{ip}/{len}\", {} }}", keys.join(", ")) }
}
