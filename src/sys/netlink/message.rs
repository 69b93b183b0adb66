//! Changes in a namespace -> netlink messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::RawFd,
};

use anyhow::{Context, Result};
use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo},
        link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
        neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter},
        route::{RouteMessage, RouteProtocol, RouteScope},
    },
};
use rustix::io::Errno;

use super::{Batch, PROTOCOL, Socket};
use crate::{
    diff::NetnsChange,
    model::{Address, Dad, Link, LinkName, Mac, Route, Scope},
};

/// `INFINITY_LIFE_TIME` of the kernel: valid for ever.
const FOREVER: u32 = u32::MAX;
/// The loopback link has index 1 in every namespace.
const LOOPBACK: u32 = 1;

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
    /// Indexes of the bridges, on the host.
    pub bridges: BTreeMap<LinkName, u32>,
    /// Indexes of the links inside.
    pub links: BTreeMap<LinkName, u32>,
    /// Links whose duplicate detection is shortened while they are made.
    pub fast_dad: BTreeSet<LinkName>,
}

impl Numbers {
    fn link(&self, name: &LinkName) -> Result<u32> {
        self.links.get(name).copied().with_context(|| format!("link '{name}' has gone meanwhile"))
    }

    fn bridge(&self, name: &LinkName) -> Result<u32> {
        self.bridges.get(name).copied().with_context(|| format!("bridge '{name}' has gone meanwhile"))
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
        NetnsChange::Add | NetnsChange::Remove | NetnsChange::SetSysctl { .. } => Vec::new(),
        NetnsChange::AddLink { name, link } => {
            vec![inside(RouteNetlinkMessage::NewLink(veth(name, link, numbers)?), NLM_F_CREATE | NLM_F_EXCL)]
        }
        NetnsChange::RemoveLink { name, .. } => {
            vec![inside(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(numbers.link(name)?).build()), 0)]
        }
        NetnsChange::SetMac { name, mac } => vec![inside(set_mac(numbers.link(name)?, *mac), 0)],
        NetnsChange::SetHostMac { host_end, mac } => vec![host(set(by_name(host_end).address(mac.0.to_vec())))],
        NetnsChange::SetMtu { name, host_end, mtu } => {
            vec![host(set(by_name(host_end).mtu(*mtu))), inside(set(LinkUnspec::new_with_index(numbers.link(name)?).mtu(*mtu)), 0)]
        }
        NetnsChange::SetUp { name, host_end } => {
            // a peer that is up at birth is refused (ENOTCONN, `veth_open`), so for a new link too this is a message of its own
            let peer = inside(set(LinkUnspec::new_with_index(numbers.link(name)?).up()), 0);
            host_end.iter().map(|end| host(set(by_name(end).up()))).chain([peer]).collect()
        }
        NetnsChange::SetBridge { host_end, bridge: Some(bridge) } => {
            vec![host(set(by_name(host_end).controller(numbers.bridge(bridge)?)))]
        }
        NetnsChange::SetBridge { host_end, bridge: None } => vec![host(set(by_name(host_end).nocontroller()))],
        NetnsChange::AddAddress { link, address, dad, replace } => {
            let flags = NLM_F_CREATE | if *replace { NLM_F_REPLACE } else { NLM_F_EXCL };
            vec![inside(RouteNetlinkMessage::NewAddress(new_address(numbers.link(link)?, address, *dad)), flags)]
        }
        NetnsChange::RemoveAddress { link, address } => {
            vec![remove_address(numbers.link(link)?, address)]
        }
        NetnsChange::SetRoute { link, route: wanted, replaces } => {
            let flags = if replaces.is_some() { NLM_F_REPLACE } else { NLM_F_EXCL };
            vec![inside(RouteNetlinkMessage::NewRoute(route(numbers.link(link)?, wanted)?), NLM_F_CREATE | flags)]
        }
        NetnsChange::RemoveRoute { link, route: old } => {
            vec![inside(RouteNetlinkMessage::DelRoute(route(numbers.link(link)?, old)?), 0)]
        }
    })
}

/// Sets the MAC address that the link has already: the kernel then tells all neighbours of the link's addresses (gratuitous ARP
/// and unsolicited neighbour advertisement on `NETDEV_CHANGEADDR`, with `arp_notify` and `ndisc_notify`), which ends stale caches.
#[must_use]
pub fn set_mac(index: u32, mac: Mac) -> RouteNetlinkMessage {
    set(LinkUnspec::new_with_index(index).address(mac.0.to_vec()))
}

/// Removes links; what has gone meanwhile is no error. Several go in one group and one message, which waits for one RCU grace
/// period, not one for each (50 pairs: 47 ms instead of 1,332).
pub fn remove_links(socket: &mut Socket, indexes: &[u32]) -> Result<()> {
    // a group that nobody else uses at this moment
    let group = 0x6e6e_0000 | (rustix::process::getpid().as_raw_pid().cast_unsigned() & 0xffff);
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

fn by_name(name: &LinkName) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_name(name.as_str())
}

fn set(builder: LinkMessageBuilder<LinkUnspec>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(builder.build())
}

/// Both ends in one message, as [`Link`] says: names, MACs, MTUs; the host end is born on the host, up and in its bridge, the
/// peer in the namespace of the socket. A MAC set later would race with udev's `MACAddressPolicy=` (systemd#21185).
fn veth(name: &LinkName, link: &Link, numbers: &Numbers) -> Result<LinkMessage> {
    // one queue each: veth makes one for every CPU otherwise, and waits for RCU to shrink them
    let queues = |b: LinkMessageBuilder<LinkUnspec>| {
        b.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
    };
    let mut peer = queues(LinkUnspec::new_with_name(name.as_str()));
    let mut end = LinkMessageBuilder::<LinkVeth>::new(link.host_end.name.as_str(), name.as_str())
        .setns_by_fd(numbers.host_netns)
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
        .up();
    if let Some(mac) = link.mac {
        peer = peer.address(mac.0.to_vec());
    }
    if let Some(mac) = link.host_end.mac {
        end = end.address(mac.0.to_vec());
    }
    if let Some(mtu) = link.mtu {
        peer = peer.mtu(mtu);
        end = end.mtu(mtu);
    }
    if let Some(bridge) = &link.host_end.bridge {
        end = end.controller(numbers.bridge(bridge)?);
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

fn route(index: u32, route: &Route) -> Result<RouteMessage> {
    let Route { to, via, source, metric, on_link } = route;
    let mixed = || format!("route {route} mixes address families");
    let mut builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index).protocol(RouteProtocol::from(PROTOCOL));
    builder = builder.destination_prefix(to.addr(), to.prefix_len()).with_context(mixed)?;
    if let Some(via) = via {
        builder = builder.gateway(*via).with_context(mixed)?;
    } else if to.addr().is_ipv4() {
        // ip(8) does the same: without a gateway the destination is on the link
        builder = builder.scope(RouteScope::Link);
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
    Ok(builder.build())
}
