//! What commands and stanzas would have made: links with their addresses and routes, each fact with its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Origin;

/// Something that was said, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    pub value: T,
    pub from: Origin,
}

/// Everything that is there.
#[derive(Debug, Default)]
pub struct World {
    pub netns: BTreeMap<String, Netns>,
    pub links: Vec<Link>,
    /// Names of the host's stanzas that ran in a namespace.
    pub inside: BTreeSet<String>,
    /// Names of the host's stanzas.
    pub stanzas: BTreeSet<String>,
    /// The namespace whose own file runs on the host.
    pub home: Option<String>,
    /// Commands that put keys into files of their own.
    pub keys: Vec<String>,
}

/// A namespace.
#[derive(Debug, Default)]
pub struct Netns {
    /// Where it is made.
    pub from: Vec<Origin>,
    pub services: Vec<Fact<String>>,
    /// Units beside netns@ that make it.
    pub makers: Vec<String>,
    pub dns: Vec<Fact<IpAddr>>,
    pub dns_search: Vec<Fact<String>>,
    pub no_ipv6: Option<Origin>,
    pub sysctl: BTreeMap<String, Fact<String>>,
    pub nftables: Option<Fact<String>>,
    pub loopback: Vec<Fact<Address>>,
    pub rules: Vec<Fact<String>>,
    /// Routes that name no link.
    pub routes: Vec<Fact<Route>>,
}

/// What a link is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing made it that was read: a network card, or somebody else's.
    #[default]
    Found,
    Veth {
        peer: usize,
    },
    Bridge,
    Vlan {
        id: String,
    },
    Macvlan,
    Ipvlan,
    Dummy,
    Wireguard,
}

/// A link, in a namespace or on the host.
#[derive(Debug, Default)]
pub struct Link {
    pub name: String,
    /// None on the host.
    pub netns: Option<String>,
    pub kind: Kind,
    /// Its name on the host, of one that was there and moved.
    pub moved: Option<String>,
    pub parent: Option<String>,
    pub from: Vec<Origin>,
    pub mac: Option<Fact<String>>,
    pub mtu: Option<Fact<String>>,
    pub addresses: Vec<Fact<Address>>,
    pub routes: Vec<Fact<Route>>,
    /// The bridge.
    pub master: Option<Fact<String>>,
    pub dns: Vec<Fact<IpAddr>>,
    pub dad_off: Option<Origin>,
    pub accept_ra: Option<Origin>,
    pub dhcp: [Option<Origin>; 2],
    /// Keys of a bridge port, or of a bridge, or of a tunnel, as the configuration has them, with values in its form.
    pub keys: BTreeMap<&'static str, Fact<String>>,
    /// Of a tunnel; inline tables.
    pub peers: Vec<Fact<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub len: u8,
    pub peer: Option<IpAddr>,
    pub scope: Option<String>,
    pub label: Option<String>,
    pub deprecated: bool,
    pub no_prefix_route: bool,
}

impl Address {
    pub fn new(ip: IpAddr, len: Option<u8>) -> Self {
        let len = len.unwrap_or(if ip.is_ipv4() { 32 } else { 128 });
        Self { ip, len, peer: None, scope: None, label: None, deprecated: false, no_prefix_route: false }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// None for the default route.
    pub to: Option<String>,
    pub is_ipv6: bool,
    pub via: Option<IpAddr>,
    pub source: Option<String>,
    pub metric: Option<String>,
    pub table: Option<String>,
    pub scope: Option<String>,
    pub mtu: Option<String>,
    pub on_link: bool,
    pub kind: Option<String>,
}

/// Puts a list's entry in its place, or another source of the same.
pub fn add<T: PartialEq>(list: &mut Vec<Fact<T>>, value: T, from: Origin) {
    if !list.iter().any(|other| other.value == value) {
        list.push(Fact { value, from });
    }
}

impl Link {
    /// Lists where something was said of it, besides what made it and the bridge that it is on.
    pub fn said(&self) -> impl Iterator<Item = &Origin> {
        let Self {
            name: _,
            netns: _,
            kind: _,
            moved: _,
            parent: _,
            from: _,
            mac,
            mtu,
            addresses,
            routes,
            master: _,
            dns,
            dad_off,
            accept_ra,
            dhcp,
            keys,
            peers,
        } = self;
        let values = mac.iter().chain(mtu).chain(keys.values()).chain(peers).map(|fact| &fact.from);
        let addresses = addresses.iter().map(|fact| &fact.from);
        let routes = routes.iter().map(|fact| &fact.from);
        let dns = dns.iter().map(|fact| &fact.from);
        values.chain(addresses).chain(routes).chain(dns).chain(dad_off).chain(accept_ra).chain(dhcp.iter().flatten())
    }
}

impl World {
    pub fn netns(&mut self, name: &str) -> &mut Netns {
        self.netns.entry(name.to_owned()).or_default()
    }

    pub fn find(&self, netns: Option<&str>, name: &str) -> Option<usize> {
        self.links.iter().position(|link| link.netns.as_deref() == netns && link.name == name)
    }

    /// Finds a link, or takes note that there is one. What the host had by this name and was moved into a namespace is meant, too, where it
    /// has none now; and in a namespace's own file, what that has and the host does not.
    pub fn link(&mut self, netns: Option<&str>, name: &str, from: &Origin) -> usize {
        let moved = || {
            let left = |link: &Link| netns.is_none() && link.netns.is_some() && link.moved.as_deref() == Some(name);
            let mut inside = (0..self.links.len()).filter(|at| left(&self.links[*at]));
            inside.next().filter(|_| inside.next().is_none())
        };
        let home = || self.home.as_deref().filter(|_| netns.is_none() && !self.stanzas.contains(name));
        match self.find(netns, name).or_else(moved).or_else(|| self.find(Some(home()?), name)) {
            Some(at) => at,
            None => self.link_here(netns, name, from),
        }
    }

    /// Makes a link; one of its name that was only spoken of is it.
    pub fn make(&mut self, netns: Option<&str>, name: &str, kind: Kind, from: &Origin) -> usize {
        let at = match self.find(netns, name) {
            Some(at) => at,
            None => self.link_here(netns, name, from),
        };
        self.links[at].kind = kind;
        at
    }

    fn link_here(&mut self, netns: Option<&str>, name: &str, from: &Origin) -> usize {
        // what is in no namespace that is written would be lost
        if let Some(netns) = netns {
            self.netns(netns);
        }
        let link = Link { name: name.to_owned(), netns: netns.map(str::to_owned), from: vec![from.clone()], ..Link::default() };
        self.links.push(link);
        self.links.len() - 1
    }

    /// Moves a link to a namespace or back; the kernel takes its addresses and routes. `name` is the one that it has before.
    pub fn move_link(&mut self, at: usize, netns: Option<&str>, name: &str) {
        let link = &mut self.links[at];
        if link.netns.as_deref() == netns {
            return;
        }
        if link.netns.is_none() {
            link.moved = Some(name.to_owned());
        }
        link.netns = netns.map(str::to_owned);
        (link.master, link.addresses, link.routes) = (None, Vec::new(), Vec::new());
    }

    /// Tells whether what the host calls by a name is a namespace's: a host end, a link that was moved, a stanza that ran inside. A link
    /// inside may have the name of one of the host's.
    pub fn is_taken(&self, name: &str) -> bool {
        let is_it = |link: &Link| match link.netns {
            Some(_) => link.moved.as_deref() == Some(name),
            None => link.name == name && self.is_host_end(link),
        };
        self.inside.contains(name) || self.links.iter().any(is_it)
    }

    /// The end on the host of a pair whose other end is inside.
    pub fn host_end(&self, link: &Link) -> Option<&Link> {
        match link.kind {
            Kind::Veth { peer } => self.links.get(peer).filter(|peer| peer.netns.is_none()),
            _ => None,
        }
    }

    /// Tells whether a link of the host belongs to a namespace: the host end of a pair.
    pub fn is_host_end(&self, link: &Link) -> bool {
        match link.kind {
            Kind::Veth { peer } => link.netns.is_none() && self.links.get(peer).is_some_and(|peer| peer.netns.is_some()),
            _ => false,
        }
    }
}
