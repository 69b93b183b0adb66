//! Netlink answers -> plain facts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope},
        link::{BridgePortState, InfoBridgePort, InfoData, InfoPortData, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage},
        nsid::{NsidAttribute, NsidMessage},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use rustix::io::Errno;

use super::{
    PROTOCOL, Socket,
    port::{self, BridgeState},
    socket::objects,
};
use crate::model::{self, Address, Fwmark, Mac, Maker, Port, PortVlans, Route, Rule, Scope};

/// A link as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelLink {
    pub index: u32,
    pub name: String,
    /// `veth`, `bridge`, …; none for a physical link.
    pub kind: Option<String>,
    pub mac: Option<Mac>,
    /// The address of the hardware, where there is any.
    pub hardware: Option<Mac>,
    pub mtu: u32,
    pub group: u32,
    /// Administratively up.
    pub up: bool,
    /// The other side of the cable, or of the pair, is up too.
    pub carrier: bool,
    /// Index of the bridge (or bond, VRF) it is a port of.
    pub master: Option<u32>,
    /// Index of the other end of a pair, or of the parent.
    pub peer: Option<u32>,
    /// The namespace that is in, if it is another one: the number that it has here.
    pub elsewhere: Option<i32>,
    /// As a bridge port it lets frames through.
    pub port: Option<PortState>,
    /// As a bridge port: its settings, but for its VLANs.
    pub settings: Port,
    pub bridge: Option<BridgeState>,
}

/// What a bridge does with the frames of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    Forwarding,
    /// Disabled, blocking, listening or learning.
    Not,
}

impl From<LinkMessage> for KernelLink {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let (up, carrier) = (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp));
        let mut link = Self { index: message.header.index, up, carrier, ..Self::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::PermAddress(bytes) => link.hardware = bytes.try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::Controller(index) if index != 0 => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(number) => link.elsewhere = Some(number),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                                link.port = port_state(&port);
                                link.settings = port::settings(&port);
                            }
                            LinkInfo::Data(InfoData::Bridge(bridge)) => link.bridge = Some(port::bridge_state(&bridge)),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

fn port_state(port: &[InfoBridgePort]) -> Option<PortState> {
    port.iter().find_map(|info| match info {
        InfoBridgePort::State(BridgePortState::Forwarding) => Some(PortState::Forwarding),
        InfoBridgePort::State(_) => Some(PortState::Not),
        _ => None,
    })
}

fn get_link(socket: &mut Socket, mut request: LinkMessage, what: &str) -> Result<Option<KernelLink>> {
    // nobody reads the counters of a link
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let failed = || format!("failed to look up {what}");
    match socket.get(RouteNetlinkMessage::GetLink(request)).with_context(failed)? {
        Ok(RouteNetlinkMessage::NewLink(message)) => Ok(Some(message.into())),
        Ok(_) => bail!("the kernel answered a question for {what} with something else"),
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(None),
        Err(refusal) => Err(refusal).with_context(failed),
    }
}

/// Looks a link up by name; none if there is no such link.
pub fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<KernelLink>> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get_link(socket, request, &format!("link '{name}'"))
}

/// Looks a link up by index; none if there is no such link.
pub fn link_by_index(socket: &mut Socket, index: u32) -> Result<Option<KernelLink>> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    get_link(socket, request, &format!("the link with index {index}"))
}

/// Tells whether a namespace still exists, by the number that it has for the socket's: the kernel knows it by that until it is freed,
/// and opens it for nobody as soon as nothing holds it (`get_net_ns_by_id`). This question does not wait for RTNL, which the kernel's
/// freeing of namespaces holds for milliseconds.
pub fn is_held(socket: &mut Socket, netns: i32) -> Result<bool> {
    let mut request = NsidMessage::default();
    request.attributes.push(NsidAttribute::Id(netns));
    let failed = "failed to ask whether the namespace is still held";
    match socket.get(RouteNetlinkMessage::GetNsId(request)).context(failed)? {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(false),
        Err(refusal) => Err(refusal).context(failed),
    }
}

/// Lists the links of the socket's namespace, loopback included.
pub fn links(socket: &mut Socket) -> Result<Vec<KernelLink>> {
    let objects = socket.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default())).context("failed to list links")?;
    Ok(objects
        .into_iter()
        .filter_map(|object| match object {
            RouteNetlinkMessage::NewLink(message) => Some(message.into()),
            _ => None,
        })
        .collect())
}

/// An address of a link, and what the kernel says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressState {
    /// Index of the link.
    pub index: u32,
    /// As the kernel shows it; the label also where it is the link's name.
    pub address: Address,
    /// Duplicate detection has not ended, or has found a duplicate.
    pub tentative: bool,
    /// Somebody else has the address.
    pub duplicate: bool,
    /// It ends by itself.
    pub for_a_time: bool,
    pub maker: Maker,
}

impl AddressState {
    pub(super) fn from_message(message: AddressMessage) -> Option<Self> {
        let (mut local, mut other, mut label, mut flags, mut maker) = (None, None, None, AddressFlags::empty(), Maker::Other);
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(ip),
                AddressAttribute::Address(ip) => other = Some(ip),
                AddressAttribute::Label(text) => label = Some(text),
                AddressAttribute::Flags(bits) => flags = bits,
                AddressAttribute::Protocol(protocol) => {
                    maker = match protocol {
                        AddressProtocol::Other(PROTOCOL) => Maker::Ours,
                        AddressProtocol::Loopback | AddressProtocol::LinkLocal => Maker::Kernel,
                        AddressProtocol::RouterAnnouncement => Maker::Router,
                        _ => Maker::Other,
                    };
                }
                _ => {}
            }
        }
        // IPv6 has IFA_LOCAL only where there is a peer
        let ip = local.or(other)?;
        let scope = match message.header.scope {
            AddressScope::Link => Some(Scope::Link),
            AddressScope::Host => Some(Scope::Host),
            _ => None,
        };
        let address = Address {
            address: IpNet::new(ip, message.header.prefix_len).ok()?,
            peer: other,
            scope,
            label,
            deprecated: flags.contains(AddressFlags::Deprecated),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
        };
        Some(Self {
            index: message.header.index,
            address,
            // an optimistic address is usable while it is tentative (RFC 4429)
            tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
            duplicate: flags.contains(AddressFlags::Dadfailed),
            for_a_time: !flags.contains(AddressFlags::Permanent),
            maker,
        })
    }
}

/// Lists the addresses of all links of the socket's namespace.
pub fn addresses(socket: &mut Socket) -> Result<Vec<AddressState>> {
    let objects = socket.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default())).context("failed to list addresses")?;
    Ok(objects
        .into_iter()
        .filter_map(|object| match object {
            RouteNetlinkMessage::NewAddress(message) => AddressState::from_message(message),
            _ => None,
        })
        .collect())
}

/// The table of the host's own addresses, which the kernel keeps.
const LOCAL_TABLE: u32 = 255;

/// A route of any table but `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteState {
    /// Index of the link it goes out by; none if it refuses packets.
    pub index: Option<u32>,
    pub route: Route,
    pub maker: Maker,
}

fn ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(ip.into()),
        RouteAddress::Inet6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl RouteState {
    /// None for what is no route of this model (a multicast or local one, one by several gateways), or was made by the kernel itself.
    pub(super) fn from_message(message: RouteMessage) -> Option<Self> {
        let header = &message.header;
        let unspecified: IpAddr = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let cloned = header.flags.contains(RouteFlags::Cloned);
        if header.protocol == RouteProtocol::Kernel || cloned {
            return None;
        }
        let kind = match header.kind {
            RouteType::Unicast => model::RouteType::Unicast,
            RouteType::BlackHole => model::RouteType::Blackhole,
            RouteType::Unreachable => model::RouteType::Unreachable,
            RouteType::Prohibit => model::RouteType::Prohibit,
            _ => return None,
        };
        let scope = match header.scope {
            _ if header.address_family == AddressFamily::Inet6 => None,
            RouteScope::Link => Some(Scope::Link),
            RouteScope::Host => Some(Scope::Host),
            _ => Some(Scope::Global),
        };
        let maker = match header.protocol {
            protocol if protocol == RouteProtocol::from(PROTOCOL) => Maker::Ours,
            RouteProtocol::Ra => Maker::Router,
            RouteProtocol::Dhcp => Maker::Dhcp,
            RouteProtocol::Static | RouteProtocol::Boot => Maker::Admin,
            _ => Maker::Other,
        };
        let on_link = header.flags.contains(RouteFlags::Onlink);
        let length = header.destination_prefix_length;
        let (mut to, mut via, mut source, mut metric, mut mtu, mut index) = (unspecified, None, None, None, None, None);
        let mut table = u32::from(header.table);
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => to = ip(address)?,
                RouteAttribute::Gateway(address) => via = ip(address),
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::Priority(priority) => metric = Some(priority),
                RouteAttribute::Oif(oif) => index = Some(oif),
                RouteAttribute::Table(number) => table = number,
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(n) = m { Some(*n) } else { None });
                }
                _ => {}
            }
        }
        if table == LOCAL_TABLE {
            return None;
        }
        let table = Some(table).filter(|table| *table != model::MAIN_TABLE);
        let mut route = Route { to: IpNet::new(to, length).ok()?, kind, via, source, metric, table, scope, mtu, on_link };
        // the kernel shows its own defaults, too
        if (Route { metric: None, ..route.clone() }).effective_metric() == route.effective_metric() {
            route.metric = None;
        }
        if (Route { scope: None, ..route.clone() }).effective_scope() == route.effective_scope() {
            route.scope = None;
        }
        // IPv6 shows the loopback link for what refuses packets
        let index = if kind == model::RouteType::Unicast { Some(index?) } else { None };
        Some(Self { index, route, maker })
    }
}

/// What one answer of the kernel says, whatever was asked; for who plays the kernel.
#[derive(Debug, Default)]
pub struct Facts {
    pub links: Vec<KernelLink>,
    pub addresses: Vec<AddressState>,
    pub routes: Vec<RouteState>,
    pub networks: Networks,
    pub rules: Vec<RuleState>,
    pub vlans: BTreeMap<u32, PortVlans>,
}

impl Facts {
    /// Reads the bytes of one answer.
    pub fn read(answer: &[u8]) -> Result<Self> {
        let objects: Vec<RouteNetlinkMessage> = objects(answer)?;
        let mut facts = Self { vlans: port::vlans_of(objects.clone()), ..Self::default() };
        for object in objects {
            match object {
                RouteNetlinkMessage::NewLink(message) => facts.links.push(message.into()),
                RouteNetlinkMessage::NewAddress(message) => facts.addresses.extend(AddressState::from_message(message)),
                RouteNetlinkMessage::NewRoute(message) => {
                    facts.networks.extend(network(&message));
                    facts.routes.extend(RouteState::from_message(message));
                }
                RouteNetlinkMessage::NewRule(message) => facts.rules.extend(RuleState::from_message(message)),
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// The networks that links have routes to, by the index of the link, whoever made these.
pub type Networks = BTreeSet<(u32, IpNet)>;

/// Lists the routes of the socket's namespace, those of the kernel itself left out, and all networks.
pub fn routes(socket: &mut Socket) -> Result<(Vec<RouteState>, Networks)> {
    // the builder's own defaults (protocol, scope, type) would filter the dump
    let mut request = RouteMessageBuilder::<IpAddr>::new().build();
    request.header.protocol = RouteProtocol::Unspec;
    request.header.scope = RouteScope::Universe;
    request.header.kind = RouteType::Unspec;
    let objects = socket.dump(&RouteNetlinkMessage::GetRoute(request)).context("failed to list routes")?;
    let (mut routes, mut networks) = (Vec::new(), BTreeSet::new());
    for object in objects {
        if let RouteNetlinkMessage::NewRoute(message) = object {
            networks.extend(network(&message));
            routes.extend(RouteState::from_message(message));
        }
    }
    Ok((routes, networks))
}

/// Gives the link and the destination of a route that the kernel has made, or somebody in its place.
fn network(message: &RouteMessage) -> Option<(u32, IpNet)> {
    let (mut to, mut index) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address.clone()),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    Some((index?, IpNet::new(to?, message.header.destination_prefix_length).ok()?))
}

/// Lists the routes out of one link.
pub fn routes_of(socket: &mut Socket, index: u32) -> Result<Vec<RouteState>> {
    let routes = route_messages_of(socket, index)?.into_iter().filter_map(RouteState::from_message);
    Ok(routes.filter(|state| state.index == Some(index)).collect())
}

/// Reads the routes out of one link. The kernel picks them: a router may have a million others.
pub(super) fn route_messages_of(socket: &mut Socket, index: u32) -> Result<Vec<RouteMessage>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.attributes.push(RouteAttribute::Oif(index));
        socket.set_filter(true);
        let objects = socket.dump(&RouteNetlinkMessage::GetRoute(request)).context("failed to list routes");
        socket.set_filter(false);
        all.extend(objects?.into_iter().filter_map(|object| match object {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        }));
    }
    // a kernel before 4.20 does not pick
    all.retain(|message| {
        message.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Oif(oif) => *oif == index,
            RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
            _ => false,
        })
    });
    Ok(all)
}

/// Tells whether packets to an IPv6 address of a link are taken: some time after it was added, also without duplicate detection,
/// for the kernel leaves that to a thread of its own (`addrconf_dad_work`).
pub fn is_taken(socket: &mut Socket, index: u32, ip: Ipv6Addr) -> Result<bool> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet6;
    request.header.kind = RouteType::Local;
    request.attributes.extend([RouteAttribute::Table(LOCAL_TABLE), RouteAttribute::Oif(index)]);
    socket.set_filter(true);
    let objects = socket.dump(&RouteNetlinkMessage::GetRoute(request)).context("failed to list local routes");
    socket.set_filter(false);
    let (oif, to) = (RouteAttribute::Oif(index), RouteAttribute::Destination(RouteAddress::Inet6(ip)));
    Ok(objects?.iter().any(|object| {
        matches!(object, RouteNetlinkMessage::NewRoute(route) if route.attributes.contains(&oif) && route.attributes.contains(&to))
    }))
}

/// A routing rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    pub rule: Rule,
    /// Added by this tool.
    pub ours: bool,
}

impl RuleState {
    /// None for what is no rule of this model.
    fn from_message(message: RuleMessage) -> Option<Self> {
        let header = &message.header;
        let kind = match header.action {
            RuleAction::ToTable => model::RouteType::Unicast,
            RuleAction::Blackhole => model::RouteType::Blackhole,
            RuleAction::Unreachable => model::RouteType::Unreachable,
            RuleAction::Prohibit => model::RouteType::Prohibit,
            _ => return None,
        };
        let ipv6 = header.family == AddressFamily::Inet6;
        let (mut from, mut to, mut iif, mut mark, mut mask, mut priority, mut ours) = (None, None, None, None, u32::MAX, 0, false);
        let mut table = u32::from(header.table);
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => from = Some(IpNet::new(ip, header.src_len).ok()?),
                RuleAttribute::Destination(ip) => to = Some(IpNet::new(ip, header.dst_len).ok()?),
                RuleAttribute::Iifname(name) => iif = Some(name),
                RuleAttribute::FwMark(number) => mark = Some(number),
                RuleAttribute::FwMask(number) => mask = number,
                RuleAttribute::Priority(number) => priority = number,
                RuleAttribute::Table(number) => table = number,
                RuleAttribute::Protocol(protocol) => ours = protocol == RouteProtocol::from(PROTOCOL),
                _ => {}
            }
        }
        let fwmark = mark.map(|mark| Fwmark { mark, mask });
        let table = Some(table).filter(|table| *table != 0 && kind == model::RouteType::Unicast);
        Some(Self { rule: Rule { priority, ipv6, from, to, iif, fwmark, table, kind }, ours })
    }
}

/// Lists the routing rules of the socket's namespace.
pub fn rules(socket: &mut Socket) -> Result<Vec<RuleState>> {
    let mut rules = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RuleMessage::default();
        request.header.family = family;
        let objects = socket.dump(&RouteNetlinkMessage::GetRule(request)).context("failed to list rules")?;
        rules.extend(objects.into_iter().filter_map(|object| match object {
            RouteNetlinkMessage::NewRule(message) => RuleState::from_message(message),
            _ => None,
        }));
    }
    Ok(rules)
}
