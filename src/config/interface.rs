//! `[namespace.NETNS.interface.NAME]`: what every interface has, what only its kind has, and which key is whose.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    Dhcp, entry,
    fault::Draft,
    fragment::{IpTable, read_ip, read_mac},
    keys,
    read::{List, Reader, Table, Value},
    text::{Placed, Spot, quoted},
    value::Refusal,
    wireguard::{self, TunnelTable},
};
use crate::model::{Dad, LinkName, Mac, Port, PortVlans};

/// One table.
#[derive(Debug)]
pub(super) struct InterfaceTable {
    pub netns: String,
    pub name: String,
    pub at: Spot,
    /// None if the word is no good.
    pub kind: Option<KindTable>,
    pub mac: Option<Placed<Mac>>,
    pub ip: IpTable,
    pub dad: Dad,
    /// Where it is asked for.
    pub accept_ra: Option<Spot>,
    pub dhcp: Option<Placed<Dhcp>>,
    pub announce: bool,
    /// Faults that it does not have if another file has more of it.
    pub if_whole: Vec<Draft>,
}

/// What only one kind of interface has.
#[derive(Debug)]
pub(super) enum KindTable {
    Veth(Box<PairTable>),
    Macvlan(Option<Placed<LinkName>>),
    Ipvlan(Option<Placed<LinkName>>),
    Physical(Option<Placed<LinkName>>),
    Dummy,
    Wireguard(Box<TunnelTable>),
}

/// The end of a veth pair on the host.
#[derive(Debug)]
pub(super) struct PairTable {
    pub bridge: Option<Placed<LinkName>>,
    pub host_name: HostName,
    pub host_mac: Option<Placed<Mac>>,
    pub host_addresses: List<Placed<IpNet>>,
    pub port: Port,
    /// The first of `vlan` and `vlans`.
    pub vlans: Option<Spot>,
}

/// An interface's `host-name`.
#[derive(Debug)]
pub(super) enum HostName {
    Given(Placed<LinkName>),
    /// The key is there, its value no good.
    Refused,
    /// Left out.
    Derived,
}

impl InterfaceTable {
    pub fn pair(&self) -> Option<&PairTable> {
        if let Some(KindTable::Veth(pair)) = &self.kind { Some(pair) } else { None }
    }

    pub fn bridge(&self) -> Option<&Placed<LinkName>> {
        self.pair()?.bridge.as_ref()
    }

    pub fn tunnel(&self) -> Option<&TunnelTable> {
        if let Some(KindTable::Wireguard(tunnel)) = &self.kind { Some(tunnel) } else { None }
    }

    /// Gives the addresses of the end on the host.
    pub fn host_addresses(&self) -> &[Placed<IpNet>] {
        self.pair().map_or(&[], |pair| &pair.host_addresses.items)
    }

    /// Gives the word for its kind and the link on the host that it stands on or is.
    pub fn parent(&self) -> Option<(&'static str, &Placed<LinkName>)> {
        let (word, parent) = match self.kind.as_ref()? {
            KindTable::Macvlan(parent) => ("macvlan", parent),
            KindTable::Ipvlan(parent) => ("ipvlan", parent),
            KindTable::Physical(parent) => ("physical", parent),
            KindTable::Veth(_) | KindTable::Dummy | KindTable::Wireguard(_) => return None,
        };
        Some((word, parent.as_ref()?))
    }

    /// Tells whether DHCP gives it addresses of a family.
    pub fn has_dhcp(&self, ipv4: bool) -> bool {
        self.dhcp.as_ref().is_some_and(|dhcp| match dhcp.value {
            Dhcp::Ipv4 => ipv4,
            Dhcp::Ipv6 => !ipv4,
            Dhcp::Both => true,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Veth,
    Macvlan,
    Ipvlan,
    Physical,
    Dummy,
    Wireguard,
}

const KINDS: [(&str, Word); 6] = [
    ("veth", Word::Veth),
    ("macvlan", Word::Macvlan),
    ("ipvlan", Word::Ipvlan),
    ("physical", Word::Physical),
    ("dummy", Word::Dummy),
    ("wireguard", Word::Wireguard),
];
const DADS: [(&str, Dad); 4] = [("wait", Dad::Wait), ("rfc", Dad::Rfc), ("optimistic", Dad::Optimistic), ("off", Dad::Off)];
const DHCPS: [(&str, Option<Dhcp>); 4] = [("no", None), ("ipv4", Some(Dhcp::Ipv4)), ("ipv6", Some(Dhcp::Ipv6)), ("yes", Some(Dhcp::Both))];

pub(super) fn read(reader: &mut Reader<'_>, netns: &str, name: &str, table: &Table<'_, '_>) -> InterfaceTable {
    let word = table.get("kind").map_or(Some(Word::Veth), |v| reader.choice(v, &KINDS));
    let ip = read_ip(reader, format!("interface {} of namespace {}", quoted(name), quoted(netns)), Some(name), table);
    let mut if_whole = Vec::new();
    let kind = word.map(|word| {
        foreign_keys(word, table, &mut if_whole);
        let parent = |reader: &mut Reader<'_>, if_whole: &mut Vec<Draft>| {
            if_whole.extend(lacks(table, &ip, "parent", "name the link of the host that it stands on, or is"));
            table.get("parent").and_then(|v| reader.name(v, "parent", LinkName::parse))
        };
        match word {
            Word::Veth => KindTable::Veth(Box::new(read_pair(reader, table, &mut if_whole))),
            Word::Macvlan => KindTable::Macvlan(parent(reader, &mut if_whole)),
            Word::Ipvlan => KindTable::Ipvlan(parent(reader, &mut if_whole)),
            Word::Physical => KindTable::Physical(parent(reader, &mut if_whole)),
            Word::Dummy => KindTable::Dummy,
            Word::Wireguard => {
                if_whole.extend(lacks(table, &ip, "private-key-file", "name the file or credential that has its private key"));
                wireguard::no_next_hops(&ip, &mut if_whole);
                KindTable::Wireguard(Box::new(wireguard::read(reader, table)))
            }
        }
    });
    let dhcp = table.get("dhcp").and_then(|v| Some(Placed { value: reader.choice(v, &DHCPS)??, at: v.at }));
    InterfaceTable {
        netns: netns.to_owned(),
        name: name.to_owned(),
        at: table.at,
        kind,
        mac: read_mac(reader, table, "mac"),
        ip,
        dad: table.get("dad").and_then(|v| reader.choice(v, &DADS)).unwrap_or_default(),
        accept_ra: table.get("accept-ra").and_then(|v| reader.boolean(v)?.then_some(v.at)),
        dhcp,
        announce: table.get("announce").and_then(|v| reader.boolean(v)).unwrap_or(true),
        if_whole,
    }
}

/// Makes a fault of a key that its kind must have.
fn lacks(table: &Table<'_, '_>, ip: &IpTable, key: &str, help: &str) -> Option<Draft> {
    let is_missing = table.key(key).is_none() && !table.misspells(key);
    is_missing.then(|| Draft::new(table.at, format!("{} has no '{key}'", ip.link)).allowed(keys::INTERFACE.form(key)).help(help))
}

/// Notes keys that are for interfaces of other kinds.
fn foreign_keys(word: Word, table: &Table<'_, '_>, drafts: &mut Vec<Draft>) {
    let Some((word, _)) = KINDS.iter().find(|(_, known)| *known == word) else { return };
    // where the key 'kind' itself is misspelt, there is no telling
    if table.misspells("kind") {
        return;
    }
    for (of_kinds, kinds) in keys::OF_KINDS.iter().filter(|(_, kinds)| !kinds.contains(word)) {
        for key in *of_kinds {
            let Some(at) = table.key(key) else { continue };
            let draft = Draft::new(at, format!("'{key}' is for interfaces of the kind {}, not for {word}", alternatives(kinds)));
            drafts.push(match (table.get("kind"), kinds) {
                (Some(kind), _) => draft.other(kind.at, "the kind"),
                (None, [kind]) => draft.help(format!("add kind = \"{kind}\"; without it the interface is a {word} pair")),
                (None, _) => draft.help(format!("add the kind; without it the interface is a {word} pair")),
            });
        }
    }
}

/// Joins words of which one counts: `macvlan, ipvlan or physical`.
fn alternatives(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn read_pair(reader: &mut Reader<'_>, table: &Table<'_, '_>, if_whole: &mut Vec<Draft>) -> PairTable {
    let host_name = table
        .get("host-name")
        .map_or(HostName::Derived, |v| reader.name(v, "host-name", LinkName::parse_ours).map_or(HostName::Refused, HostName::Given));
    let mut host_addresses = reader.list(table.get("host-addresses"), |r, v| {
        entry::address(r, None, v).map(|address| Placed { value: address.value.address, at: address.at })
    });
    host_addresses.complete &= !table.misspells("host-addresses");
    match (table.key("bridge"), table.key("host-addresses")) {
        (Some(bridge), Some(at)) => if_whole.push(
            Draft::new(at, "'host-addresses' is for point-to-point pairs, this one's host end is a port of a bridge")
                .other(bridge, "the bridge")
                .help("the host's addresses on a bridge go into [bridge.NAME]"),
        ),
        (None, _) if !table.misspells("bridge") => {
            for key in keys::PORT {
                let Some(at) = table.key(key) else { continue };
                let message = format!("'{key}' is a setting of a bridge port, and this interface is on no bridge");
                if_whole.push(Draft::new(at, message).help("name the bridge, or leave it out"));
            }
        }
        _ => {}
    }
    PairTable {
        bridge: table.get("bridge").and_then(|v| reader.name(v, "bridge name", LinkName::parse)),
        host_name,
        host_mac: read_mac(reader, table, "host-mac"),
        host_addresses,
        port: read_port(reader, table),
        vlans: ["vlan", "vlans"].iter().filter_map(|key| table.key(key)).min(),
    }
}

fn read_port(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> Port {
    let mut switch = |key| table.get(key).and_then(|v| reader.boolean(v));
    Port {
        isolated: switch("isolated"),
        hairpin: switch("hairpin"),
        learning: switch("learning"),
        neighbor_suppression: switch("neighbor-suppression"),
        fast_leave: switch("fast-leave"),
        cost: table.get("cost").and_then(|v| reader.number(v, 1, 65535)).map(|cost| cost.value),
        priority: table.get("priority").and_then(|v| reader.number(v, 0, 63)).and_then(|n| u16::try_from(n.value).ok()),
        vlans: read_vlans(reader, table),
    }
}

/// Reads `vlan` and `vlans`: no number may be there twice.
fn read_vlans(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> Option<PortVlans> {
    let untagged = table.get("vlan").map(|v| reader.number(v, 1, MOST_VLAN.into()));
    let ranges = table.get("vlans").map(|v| reader.list(Some(v), vlan_range).items);
    if untagged.is_none() && ranges.is_none() {
        return None;
    }
    let untagged = untagged.flatten().and_then(|vlan| Some(Placed { value: u16::try_from(vlan.value).ok()?, at: vlan.at }));
    let mut first: Vec<(u16, u16, Spot)> = untagged.iter().map(|vlan| (vlan.value, vlan.value, vlan.at)).collect();
    let mut tagged = BTreeSet::new();
    for Placed { value: (low, high), at } in ranges.unwrap_or_default() {
        if let Some((from, to, other)) = first.iter().find(|(from, to, _)| low <= *to && *from <= high) {
            let twice = low.max(*from);
            let is_untagged = untagged.as_ref().is_some_and(|vlan| vlan.at == *other);
            let draft = Draft::new(at, format!("VLAN {twice} is there twice")).other(*other, "first here");
            reader.note(draft.help(if is_untagged && from == to {
                "'vlan' is the one without a tag, 'vlans' are those with one; leave it in one of the two"
            } else {
                "leave one out"
            }));
        }
        first.push((low, high, at));
        tagged.extend(low..=high);
    }
    Some(PortVlans { untagged: untagged.map(|vlan| vlan.value), tagged })
}

/// The highest VLAN number: 4095 is reserved (IEEE 802.1Q).
const MOST_VLAN: u16 = 4094;

/// Reads an entry of `vlans`: first and last number.
fn vlan_range(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<Placed<(u16, u16)>> {
    if value.is_string() {
        return reader.parse(value, |text| {
            let number = |text: &str| text.parse::<u16>().ok().filter(|n| (1..=MOST_VLAN).contains(n) && !text.starts_with('+'));
            let range = text.split_once('-').and_then(|(low, high)| Some((number(low)?, number(high)?)));
            let refuse = |why: &str| Refusal::new(format!("{} {why}", quoted(text)));
            match range {
                Some((low, high)) if low > high => Err(refuse("ends before it begins").help(format!("write \"{high}-{low}\""))),
                Some(range) => Ok(range),
                None if number(text).is_some() => Err(refuse("is no range").help(format!("write {text} without quotes"))),
                None => Err(refuse("is no range of VLANs")),
            }
        });
    }
    let id = reader.number(value, 1, MOST_VLAN.into())?;
    let number = u16::try_from(id.value).ok()?;
    Some(Placed { value: (number, number), at: id.at })
}
