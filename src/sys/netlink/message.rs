//! Changes in a namespace -> netlink messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    os::fd::RawFd,
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use rtnetlink::{
    AddressMessageBuilder, LinkDummy, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkWireguard,
    RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo},
        link::{InfoData, InfoKind, InfoVeth, IpVlanMode, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode, Prop},
        neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter},
        route::{RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use rustix::io::Errno;

use super::{Batch, KernelLink, LOOPBACK, PROTOCOL, Socket, link_by_index, link_by_name, port};
use crate::{
    diff::NetnsChange,
    model::{self, Address, Dad, Fwmark, HostEnd, Kind, Link, LinkName, Mac, Route, Rule, Scope},
};

/// `INFINITY_LIFE_TIME` of the kernel: valid for ever.
const FOREVER: u32 = u32::MAX;

/// The namespace whose socket a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Inside,
    Host,
}

/// One netlink request.
#[derive(Debug)]
pub struct Request {
    pub side: Side,
    pub message: RouteNetlinkMessage,
    pub flags: u16,
}

/// What the messages need to know beside the change: numbers that only the running kernel has.
#[derive(Debug)]
pub struct Numbers {
    /// The host's network namespace, open until the kernel has answered.
    pub host_netns: RawFd,
    /// The namespace itself, open until the kernel has answered; -1 where no change needs it.
    pub inner_netns: RawFd,
    /// Indexes of the bridges and parents, on the host.
    pub on_host: BTreeMap<LinkName, u32>,
    /// Addresses that physical links have by themselves.
    pub hardware: BTreeMap<LinkName, Mac>,
    /// Indexes of the links inside.
    pub links: BTreeMap<LinkName, u32>,
    /// Indexes for new links that are made from the host: free on both sides.
    pub spare: BTreeMap<LinkName, u32>,
    /// Indexes of the host ends that have to be called by index.
    pub host_ends: BTreeMap<LinkName, u32>,
    /// Links whose duplicate detection is shortened while they are made.
    pub fast_dad: BTreeSet<LinkName>,
}

impl Numbers {
    /// Gives the index of a link inside.
    pub fn link(&self, name: &LinkName) -> Result<u32> {
        if *name == LinkName::loopback() {
            return Ok(LOOPBACK);
        }
        self.links.get(name).copied().with_context(|| format!("link '{name}' has gone meanwhile"))
    }

    fn host_end(&self, name: &LinkName) -> Result<u32> {
        self.host_ends.get(name).copied().with_context(|| format!("host end '{name}' has gone meanwhile"))
    }

    fn output(&self, name: Option<&LinkName>) -> Result<Option<u32>> {
        name.map(|name| self.link(name)).transpose()
    }

    fn on_host(&self, name: &LinkName) -> Result<u32> {
        self.on_host.get(name).copied().with_context(|| format!("link '{name}' of the host has gone meanwhile"))
    }
}

fn inside(message: RouteNetlinkMessage, flags: u16) -> Request {
    Request { side: Side::Inside, message, flags }
}

fn host(message: RouteNetlinkMessage) -> Request {
    Request { side: Side::Host, message, flags: 0 }
}

/// Sets the loopback link up, which every namespace needs before its own addresses can be reached from inside.
#[must_use]
pub fn loopback_up() -> Request {
    inside(RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(LOOPBACK).up().build()), 0)
}

/// Sets how long a link waits for an answer of an IPv6 neighbour, duplicate detection included: `retrans_time_ms`, milliseconds.
#[must_use]
pub fn neighbour_timer(index: u32, milliseconds: u64) -> Request {
    let mut message = NeighbourTableMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.attributes = vec![
        NeighbourTableAttribute::Name("ndisc_cache".to_owned()),
        NeighbourTableAttribute::Parms(vec![NeighbourTableParameter::Ifindex(index), NeighbourTableParameter::RetransTime(milliseconds)]),
    ];
    inside(RouteNetlinkMessage::SetNeighbourTable(message), 0)
}

/// Removes an address.
#[must_use]
pub fn remove_address(index: u32, address: &Address) -> Request {
    inside(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0)
}

/// Gives the netlink requests for one change; none for a change that is not made over netlink.
pub fn requests(change: &NetnsChange, numbers: &Numbers) -> Result<Vec<Request>> {
    Ok(match change {
        NetnsChange::Add
        | NetnsChange::Remove
        | NetnsChange::Name
        | NetnsChange::SetSysctl { .. }
        | NetnsChange::SetRuleset { .. }
        | NetnsChange::SetWireguard { .. }
        | NetnsChange::RenameLink { .. }
        | NetnsChange::RenameHostEnd { .. } => Vec::new(),
        NetnsChange::AddLink { name, link } => add_link(name, link, numbers)?,
        NetnsChange::RemoveLink { name, kind } => match &**kind {
            Kind::Physical { parent } => give_back(name, parent, numbers)?,
            _ => vec![inside(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(numbers.link(name)?).build()), 0)],
        },
        NetnsChange::SetMac { name, mac } => vec![inside(set_mac(numbers.link(name)?, *mac), 0)],
        NetnsChange::SetHostMac { host_end, mac } => vec![host(set(by_name(host_end).address(mac.0.to_vec())))],
        NetnsChange::SetMtu { name, host_end, mtu } => {
            let inner = inside(set(LinkUnspec::new_with_index(numbers.link(name)?).mtu(*mtu)), 0);
            host_end.iter().map(|end| host(set(by_name(end).mtu(*mtu)))).chain([inner]).collect()
        }
        NetnsChange::SetUp { name, host_end } => {
            // a peer that is up at birth is refused (ENOTCONN, `veth_open`), so for a new link too this is a message of its own
            let peer = inside(set(LinkUnspec::new_with_index(numbers.link(name)?).up()), 0);
            host_end.iter().map(|end| host(set(by_name(end).up()))).chain([peer]).collect()
        }
        NetnsChange::SetBridge { host_end, bridge: Some(bridge) } => {
            vec![host(set(by_name(host_end).controller(numbers.on_host(bridge)?)))]
        }
        NetnsChange::SetBridge { host_end, bridge: None } => vec![host(set(by_name(host_end).nocontroller()))],
        NetnsChange::AddAddress { link, address, dad, replace } => {
            let flags = NLM_F_CREATE | if *replace { NLM_F_REPLACE } else { NLM_F_EXCL };
            vec![inside(RouteNetlinkMessage::NewAddress(new_address(numbers.link(link)?, address, *dad)), flags)]
        }
        NetnsChange::ReplaceAddress { link, before, after } => replace_address(numbers.link(link)?, before, after),
        NetnsChange::RemoveAddress { link, address } => {
            vec![remove_address(numbers.link(link)?, address)]
        }
        NetnsChange::SetRoute { link, route: wanted, replaces } => {
            let flags = if replaces.is_some() { NLM_F_REPLACE } else { NLM_F_EXCL };
            vec![inside(RouteNetlinkMessage::NewRoute(route(numbers.output(link.as_ref())?, wanted)?), NLM_F_CREATE | flags)]
        }
        NetnsChange::RemoveRoute { link, route: old } => {
            // without a metric, IPv6 would remove the best route to there, whatever its metric (`ip6_route_del`)
            vec![inside(RouteNetlinkMessage::DelRoute(route(numbers.output(link.as_ref())?, &old.canonical())?), 0)]
        }
        // with NLM_F_EXCL the kernel refuses a rule beside a narrower one of the same priority (`rule_exists`)
        NetnsChange::AddRule(new) => vec![inside(RouteNetlinkMessage::NewRule(rule(new)), NLM_F_CREATE)],
        NetnsChange::RemoveRule(old) => vec![inside(RouteNetlinkMessage::DelRule(rule(old)), 0)],
        NetnsChange::SetPort { host_end, port } => vec![host(port::set_port(host_end, port))],
        NetnsChange::SetVlans { host_end, before: _, after } => {
            port::set_vlans(numbers.host_end(host_end)?, false, after, port::VLANS).into_iter().map(host).collect()
        }
        NetnsChange::AddHostAddress { host_end, address } => {
            let message = host_address(numbers.host_end(host_end)?, *address);
            vec![Request { flags: NLM_F_CREATE | NLM_F_EXCL, ..host(RouteNetlinkMessage::NewAddress(message)) }]
        }
        NetnsChange::RemoveHostAddress { host_end, address } => {
            let message = address_message(numbers.host_end(host_end)?, &Address::new(*address));
            vec![host(RouteNetlinkMessage::DelAddress(message))]
        }
        // one by another link is not in the way (no NLM_F_EXCL)
        NetnsChange::AddHostRoute { host_end, to } => {
            let message = host_route(numbers.host_end(host_end)?, *to)?;
            vec![Request { flags: NLM_F_CREATE, ..host(RouteNetlinkMessage::NewRoute(message)) }]
        }
        NetnsChange::RemoveHostRoute { host_end, to } => {
            vec![host(RouteNetlinkMessage::DelRoute(host_route(numbers.host_end(host_end)?, *to)?))]
        }
    })
}

/// Sets the MAC address that the link has already: the kernel then tells all neighbours of the link's addresses (gratuitous ARP
/// and unsolicited neighbour advertisement on `NETDEV_CHANGEADDR`, with `arp_notify` and `ndisc_notify`), which ends stale caches.
#[must_use]
pub fn set_mac(index: u32, mac: Mac) -> RouteNetlinkMessage {
    set(LinkUnspec::new_with_index(index).address(mac.0.to_vec()))
}

/// Finds an index that no link has on either side.
pub fn spare_index(host: &mut Socket, inner: &mut Socket, from: u32) -> Result<u32> {
    let mut index = from;
    while link_by_index(host, index)?.is_some() || link_by_index(inner, index)?.is_some() {
        index += 1;
    }
    Ok(index)
}

/// Groups of links that are about to be removed.
const MARK: u32 = 0x6e6e_0000;

/// Tells whether a run that was cut off was about to remove a link.
#[must_use]
pub fn is_marked(link: &KernelLink) -> bool {
    link.group & 0xffff_0000 == MARK
}

/// Takes that mark away.
#[must_use]
pub fn unmark(index: u32) -> Request {
    host(set(LinkUnspec::new_with_index(index).link_group(0)))
}

/// Removes links; what has gone meanwhile is no error. Several go in one group and one message, which waits for one RCU grace
/// period, not one for each (50 pairs: 47 ms instead of 1,332).
pub fn remove_links(socket: &mut Socket, indexes: &[u32]) -> Result<()> {
    // a group that nobody else uses at this moment
    let group = MARK | (rustix::process::getpid().as_raw_pid().cast_unsigned() & 0xffff);
    let mut batch = Batch::default();
    match indexes {
        [] => return Ok(()),
        [one] => batch.push((), RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(*one).build()), 0),
        several => {
            for index in several {
                batch.push((), set(LinkUnspec::new_with_index(*index).link_group(group)), 0);
            }
            let all = LinkMessageBuilder::<LinkUnspec>::default().link_group(group).build();
            batch.push((), RouteNetlinkMessage::DelLink(all), 0);
        }
    }
    match socket.request(batch)?.into_iter().find(|((), refusal)| refusal.errno != Errno::NODEV) {
        Some(((), refusal)) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Frees the names of host ends whose namespace is about to go, and their bridges of them: they go with it, later, in the kernel's own
/// time. To delete one takes it some 15 ms of waiting for RCU; this takes none.
pub fn put_aside(socket: &mut Socket, indexes: &[u32]) -> Result<()> {
    let one = |index: &u32| LinkUnspec::new_with_index(*index);
    let named = |index: &u32| one(index).name(format!("gone-{index}"));
    // The name comes first, and networkd has nothing to do with what follows: it would put a port back. Before Linux 6.2 a link that is
    // up cannot be renamed.
    let at_once = |index: &u32| vec![set(named(index).nocontroller().down())];
    let step_by_step = |index: &u32| vec![set(one(index).down()), set(named(index)), set(one(index).nocontroller())];
    for messages in [&at_once as &dyn Fn(&u32) -> Vec<RouteNetlinkMessage>, &step_by_step] {
        let mut batch = Batch::default();
        indexes.iter().flat_map(messages).for_each(|message| batch.push((), message, 0));
        match socket.request(batch)?.into_iter().find(|((), refusal)| refusal.errno != Errno::NODEV) {
            Some(((), refusal)) if refusal.errno == Errno::BUSY => {}
            Some(((), refusal)) => return Err(refusal.into()),
            None => return Ok(()),
        }
    }
    bail!("the kernel does not rename a link")
}

/// Takes a link of the host from a bridge; what is no port of it (any more) stays as it is.
pub fn release_port(socket: &mut Socket, name: &LinkName, bridge: &LinkName) -> Result<()> {
    let master = link_by_name(socket, name.as_str())?.and_then(|link| link.master);
    let master = master.map(|index| link_by_index(socket, index)).transpose()?.flatten();
    if master.is_none_or(|master| master.name != bridge.as_str()) {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.push((), set(by_name(name).nocontroller()), 0);
    match socket.request(batch)?.into_iter().next() {
        Some(((), refusal)) => Err(refusal).with_context(|| format!("failed to take link '{name}' from bridge '{bridge}'")),
        None => Ok(()),
    }
}

/// Gives a link of the host another name, and its own MAC address.
pub fn rename(socket: &mut Socket, link: &KernelLink, name: &LinkName) -> Result<()> {
    let one = || LinkUnspec::new_with_index(link.index);
    let mut batch = Batch::default();
    batch.push(Some(()), set(one().down()), 0);
    if let Some(mac) = link.hardware {
        batch.push(Some(()), set_mac(link.index, mac), 0);
    }
    // where udev could not rename it, the name is an alternative one by now
    let other = one().append_extra_attribute(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_string())])).build();
    batch.push(None, RouteNetlinkMessage::DelLinkProp(other), 0);
    batch.push(Some(()), set(one().name(name.as_str())), 0);
    match socket.request(batch)?.into_iter().find(|(counts, _)| counts.is_some()) {
        Some((_, refusal)) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Gives a link the name again that it had. From Linux 6.2 on this is done while it is up; before, it is down for a moment.
pub fn rename_back(socket: &mut Socket, index: u32, name: &LinkName) -> Result<()> {
    let one = || LinkUnspec::new_with_index(index);
    let rename = || set(one().name(name.as_str()));
    for messages in [vec![rename()], vec![set(one().down()), rename(), set(one().up())]] {
        let mut batch = Batch::default();
        messages.into_iter().for_each(|message| batch.push((), message, 0));
        match socket.request(batch)?.into_iter().next() {
            Some(((), refusal)) if refusal.errno == Errno::BUSY => {}
            Some(((), refusal)) => return Err(refusal.into()),
            None => return Ok(()),
        }
    }
    bail!("the kernel does not rename a link that is up")
}

/// Makes links of these names that lead nowhere, for trying things out in a throw-away namespace.
pub fn add_placeholders(socket: &mut Socket, names: &[&LinkName]) -> Result<()> {
    const FAILED: &str = "failed to make links in a throw-away namespace";
    let mut batch = Batch::default();
    for (n, name) in names.iter().enumerate() {
        let pair = LinkMessageBuilder::<LinkVeth>::new(name.as_str(), &format!("placeholder{n}"));
        batch.push((), RouteNetlinkMessage::NewLink(pair.build()), NLM_F_CREATE | NLM_F_EXCL);
    }
    match socket.request(batch).context(FAILED)?.into_iter().next() {
        Some(((), refusal)) => Err(refusal).context(FAILED),
        None => Ok(()),
    }
}

/// Tells whether the kernel knows a kind of link, in a throw-away namespace: of one that it does not know it says so before anything
/// else.
pub fn knows_kind(kind: &str) -> Result<bool> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName("tried".to_owned()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]));
    let mut batch = Batch::default();
    batch.push((), RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
    let refusal = Socket::open()?.request(batch)?.into_iter().next();
    Ok(refusal.is_none_or(|((), refusal)| refusal.errno != Errno::OPNOTSUPP))
}

fn by_name(name: &LinkName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name.as_str())
}

fn set(builder: LinkMessageBuilder<LinkUnspec>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(builder.build())
}

/// A link that has nothing on the host is made by the socket inside. One that stands on the host's network is made by the host's
/// socket and born inside: the kernel looks up its parent, and opens WireGuard's UDP socket, in the namespace of the socket. Before
/// Linux 6.15 it looks up the new link's name there, too, and refuses one that the host has, unless the message has an index.
fn add_link(name: &LinkName, link: &Link, numbers: &Numbers) -> Result<Vec<Request>> {
    const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
    let here = |message| Ok(vec![inside(RouteNetlinkMessage::NewLink(message), NEW)]);
    let from_host = |mut message: LinkMessage| {
        message.header.index = numbers.spare.get(name).copied().unwrap_or_default();
        Ok(vec![Request { side: Side::Host, message: RouteNetlinkMessage::NewLink(message), flags: NEW }])
    };
    match &link.kind {
        Kind::Veth(end) => here(veth(name, link, end, numbers)?),
        Kind::Dummy => here(own(LinkDummy::new(name.as_str()), link).build()),
        Kind::Macvlan { parent } => {
            let index = numbers.on_host(parent)?;
            let new = LinkMacVlan::new(name.as_str(), index, MacVlanMode::Bridge).setns_by_fd(numbers.inner_netns);
            from_host(own(new, link).build())
        }
        Kind::Ipvlan { parent } => {
            let index = numbers.on_host(parent)?;
            let new = LinkIpVlan::new(name.as_str(), index, IpVlanMode::L2).setns_by_fd(numbers.inner_netns);
            from_host(own(new, link).build())
        }
        Kind::Wireguard(_) => from_host(own(LinkWireguard::new(name.as_str()).setns_by_fd(numbers.inner_netns), link).build()),
        Kind::Physical { parent } => {
            // it arrives down and without addresses, and only then its MAC address can be changed
            let moved = LinkUnspec::new_with_index(numbers.on_host(parent)?).name(name.as_str()).setns_by_fd(numbers.inner_netns);
            let settings = own(by_name(name), link).build();
            Ok(vec![host(set(moved)), inside(RouteNetlinkMessage::SetLink(settings), 0)])
        }
    }
}

/// MAC address and MTU of a link that is no pair.
fn own<T>(mut builder: LinkMessageBuilder<T>, link: &Link) -> LinkMessageBuilder<T> {
    if let Some(mac) = link.mac {
        builder = builder.address(mac.0.to_vec());
    }
    if let Some(mtu) = link.mtu {
        builder = builder.mtu(mtu);
    }
    builder
}

/// Gives a physical link back to the host, under its name there and with the MAC address of the hardware.
fn give_back(name: &LinkName, parent: &LinkName, numbers: &Numbers) -> Result<Vec<Request>> {
    let index = numbers.link(name)?;
    let down = inside(set(LinkUnspec::new_with_index(index).down()), 0);
    let mac = numbers.hardware.get(name).map(|mac| inside(set_mac(index, *mac), 0));
    let moved = inside(set(LinkUnspec::new_with_index(index).name(parent.as_str()).setns_by_fd(numbers.host_netns)), 0);
    Ok(std::iter::once(down).chain(mac).chain([moved]).collect())
}

/// Both ends in one message, as [`Link`] says: names, MACs, MTUs; the host end is born on the host, up and in its bridge, the
/// peer in the namespace of the socket. A MAC set later would race with udev's `MACAddressPolicy=` (systemd#21185).
fn veth(name: &LinkName, link: &Link, host_end: &HostEnd, numbers: &Numbers) -> Result<LinkMessage> {
    // one queue each: veth makes one for every CPU otherwise, and waits for RCU to shrink them
    let queues = |b: LinkMessageBuilder<LinkUnspec>| {
        b.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
    };
    let mut peer = queues(LinkUnspec::new_with_name(name.as_str()));
    let mut end = LinkMessageBuilder::<LinkVeth>::new(host_end.name.as_str(), name.as_str())
        .setns_by_fd(numbers.host_netns)
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
        .up();
    if let Some(mac) = link.mac {
        peer = peer.address(mac.0.to_vec());
    }
    if let Some(mac) = host_end.mac {
        end = end.address(mac.0.to_vec());
    }
    if let Some(mtu) = link.mtu {
        peer = peer.mtu(mtu);
        end = end.mtu(mtu);
    }
    if let Some(bridge) = &host_end.bridge {
        end = end.controller(numbers.on_host(bridge)?);
    }
    Ok(end.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build())
}

/// The message that names an address: enough to remove it.
fn address_message(index: u32, address: &Address) -> AddressMessage {
    let length = address.address.prefix_len();
    let mut message = match address.address.addr() {
        IpAddr::V4(ip) => AddressMessageBuilder::<std::net::Ipv4Addr>::new().address(ip, length).index(index).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new().address(ip, length).index(index).build(),
    };
    if let Some(peer) = address.peer {
        // with a peer, IFA_ADDRESS is the other end and there is no broadcast
        message.attributes.retain(|a| !matches!(a, AddressAttribute::Address(_) | AddressAttribute::Broadcast(_)));
        message.attributes.push(AddressAttribute::Address(peer));
    }
    message
}

/// An address of a host end. Without duplicate detection: there is nobody but the namespace, and it would wait for the peer. Without
/// our mark: networkd, which has the address from its `.network` file, adds it once more without one.
fn host_address(index: u32, address: IpNet) -> AddressMessage {
    let mut message = address_message(index, &Address::new(address));
    if address.addr().is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

/// A route of the host to what is behind a host end; as networkd makes it, which has it from its `.network` file.
fn host_route(index: u32, to: IpNet) -> Result<RouteMessage> {
    let mut message = route(Some(index), &Route::new(to))?;
    message.header.protocol = RouteProtocol::Static;
    Ok(message)
}

/// While the one is away and the other not there yet, the same address is elsewhere: packets to it are taken, and routes with this
/// source, which the kernel removes with it, stay. IPv4 has it as a host address on the same link, so that the link is never without
/// an address, which would cost it all routes; IPv6 knows addresses of one link by nothing else and has it on the loopback link.
///
/// It has been checked for duplicates there already.
fn replace_address(index: u32, before: &Address, after: &Address) -> Vec<Request> {
    let host = IpNet::from(after.address.addr());
    let on_link = host.addr().is_ipv4() && host != before.address && host != after.address;
    let (place, parked) = (if on_link { index } else { LOOPBACK }, Address { no_prefix_route: true, ..Address::new(host) });
    let add = |index, address| inside(RouteNetlinkMessage::NewAddress(new_address(index, address, Dad::Off)), NLM_F_CREATE | NLM_F_EXCL);
    let mut requests = vec![remove_address(index, before), add(index, after)];
    // an address of the loopback link has no other place
    if on_link || index != LOOPBACK {
        requests.insert(0, add(place, &parked));
        requests.push(remove_address(place, &parked));
    }
    requests
}

/// Gives the IPv6 address that a request adds, which is usable only some time after it, with the index of its link.
#[must_use]
pub fn added_ipv6(request: &Request) -> Option<(u32, Ipv6Addr)> {
    let RouteNetlinkMessage::NewAddress(message) = &request.message else { return None };
    let local = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(IpAddr::V6(ip)) => Some(*ip),
        _ => None,
    };
    Some((message.header.index, message.attributes.iter().find_map(local)?))
}

fn new_address(index: u32, address: &Address, dad: Dad) -> AddressMessage {
    let mut message = address_message(index, address);
    let Address { address: net, peer: _, scope, label, deprecated, no_prefix_route } = address;
    message.header.scope = match scope {
        None | Some(Scope::Global) => AddressScope::Universe,
        Some(Scope::Link) => AddressScope::Link,
        Some(Scope::Host) => AddressScope::Host,
    };
    let mut flags = AddressFlags::empty();
    if net.addr().is_ipv6() {
        match dad {
            Dad::Off => flags |= AddressFlags::Nodad,
            Dad::Optimistic => flags |= AddressFlags::Optimistic,
            Dad::Wait | Dad::Rfc => {}
        }
    }
    if *no_prefix_route {
        flags |= AddressFlags::Noprefixroute;
    }
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    if let Some(label) = label {
        message.attributes.push(AddressAttribute::Label(label.clone()));
    }
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_valid = FOREVER;
    lifetimes.ifa_preferred = if *deprecated { 0 } else { FOREVER };
    message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    message
}

fn route(index: Option<u32>, route: &Route) -> Result<RouteMessage> {
    let Route { to, kind, via, source, metric, table, scope: _, mtu, on_link } = route;
    let mixed = || format!("route {route} mixes address families");
    let mut builder = RouteMessageBuilder::<IpAddr>::new().protocol(RouteProtocol::from(PROTOCOL)).kind(match kind {
        model::RouteType::Unicast => RouteType::Unicast,
        model::RouteType::Blackhole => RouteType::BlackHole,
        model::RouteType::Unreachable => RouteType::Unreachable,
        model::RouteType::Prohibit => RouteType::Prohibit,
    });
    if let Some(index) = index {
        builder = builder.output_interface(index);
    }
    if let Some(table) = table {
        builder = builder.table_id(*table);
    }
    builder = builder.destination_prefix(to.addr(), to.prefix_len()).with_context(mixed)?;
    if let Some(via) = via {
        builder = builder.gateway(*via).with_context(mixed)?;
    }
    if let Some(scope) = route.effective_scope() {
        builder = builder.scope(match scope {
            Scope::Global => RouteScope::Universe,
            Scope::Link => RouteScope::Link,
            Scope::Host => RouteScope::Host,
        });
    }
    if let Some(source) = source {
        builder = builder.pref_source(*source).with_context(mixed)?;
    }
    if let Some(metric) = metric {
        builder = builder.priority(*metric);
    }
    if *on_link {
        builder = builder.onlink();
    }
    let mut message = builder.build();
    message.attributes.extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    Ok(message)
}

fn rule(rule: &Rule) -> RuleMessage {
    let Rule { priority, ipv6, from, to, iif, fwmark, table, kind } = rule;
    let mut message = RuleMessage::default();
    message.header.family = if *ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = match kind {
        model::RouteType::Unicast => RuleAction::ToTable,
        model::RouteType::Blackhole => RuleAction::Blackhole,
        model::RouteType::Unreachable => RuleAction::Unreachable,
        model::RouteType::Prohibit => RuleAction::Prohibit,
    };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(*priority));
    let owner = if Rule::of_the_kernel(*ipv6).any(|own| own == *rule) { RouteProtocol::Kernel } else { RouteProtocol::from(PROTOCOL) };
    attributes.push(RuleAttribute::Protocol(owner));
    attributes.extend(table.map(RuleAttribute::Table));
    attributes.extend(iif.clone().map(RuleAttribute::Iifname));
    if let Some(Fwmark { mark, mask }) = fwmark {
        attributes.extend([RuleAttribute::FwMark(*mark), RuleAttribute::FwMask(*mask)]);
    }
    if let Some(from) = from {
        message.header.src_len = from.prefix_len();
        message.attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = to {
        message.header.dst_len = to.prefix_len();
        message.attributes.push(RuleAttribute::Destination(to.addr()));
    }
    message
}
