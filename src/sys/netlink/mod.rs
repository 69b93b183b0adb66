//! Netlink: the only place that knows rtnetlink. One socket type for requests and dumps, one for events; messages are built in
//! `message`, read in `read`.

mod keep;
mod message;
mod port;
mod read;
mod socket;
mod text;

pub use keep::{Kept, give_back, keep};
pub use message::{
    Numbers, Request, Side, add_placeholders, added_ipv6, is_marked, knows_kind, loopback_up, neighbour_timer, put_aside, release_port,
    remove_address, remove_links, rename, rename_back, requests, set_mac, spare_index, unmark,
};
pub use port::{host_ends, put_on_bridge, set_down, set_host_link, vlans};
pub use read::{
    AddressState, Facts, KernelLink, PortState, RouteState, RuleState, addresses, is_held, is_taken, link_by_index, link_by_name, links,
    routes, routes_of, rules,
};
pub use socket::{Batch, Monitor, Refusal, Socket, objects};

/// `RTNLGRP_LINK`: links come, change and go.
pub const GROUP_LINK: u32 = 1;
/// `RTNLGRP_IPV4_IFADDR`: IPv4 addresses come and go.
pub const GROUP_IPV4_ADDRESS: u32 = 5;
/// `RTNLGRP_IPV6_IFADDR`: IPv6 addresses come, become usable and go.
pub const GROUP_IPV6_ADDRESS: u32 = 9;

/// `RTNLGRP_IPV6_ROUTE`: IPv6 routes come, change and go.
pub const GROUP_IPV6_ROUTE: u32 = 11;

/// Marks the routes (`RTA_PROTOCOL`) and addresses (`IFA_PROTO`) that this tool adds, so that what services and admins add is
/// left alone. 78 is unassigned in `/etc/iproute2/rt_protos`.
pub const PROTOCOL: u8 = 78;

/// The loopback link has index 1 in every namespace.
pub const LOOPBACK: u32 = 1;
