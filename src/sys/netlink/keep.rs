//! Addresses and routes of the host's links, kept in the words in which the kernel shows them and given back in the same: what
//! `ip address save` and `ip route restore` do.

use anyhow::{Context, Result, bail};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        route::{RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol},
    },
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    Batch, KernelLink, Socket,
    read::{self, AddressState, RouteState},
};

/// One address or route of a link: the type of the kernel's message (`RTM_NEW…`), and what follows its header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kept(u16, Vec<u8>);

impl Kept {
    fn new(message: &RouteNetlinkMessage) -> Self {
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Self(message.message_type(), bytes)
    }

    fn message(&self) -> Result<RouteNetlinkMessage> {
        let mut header = NetlinkHeader::default();
        header.message_type = self.0;
        RouteNetlinkMessage::deserialize(&header, &self.1).context("failed to read an address or a route that was kept")
    }
}

/// The routing daemons of `/etc/iproute2/rt_protos`: a router may have a million routes of theirs, and they look after them.
const DAEMONS: [u8; 14] = [10, 11, 12, 13, 14, 15, 17, 18, 42, 186, 187, 188, 189, 192];

/// Keeps the addresses of a link, and the routes out of it, but for those that the kernel or a routing daemon makes by itself.
pub fn keep(socket: &mut Socket, index: u32) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for object in socket.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default())).context("failed to list addresses")? {
        if matches!(&object, RouteNetlinkMessage::NewAddress(message) if message.header.index == index && !comes_and_goes(message)) {
            kept.push(Kept::new(&object));
        }
    }
    for message in read::route_messages_of(socket, index)? {
        let protocol = u8::from(message.header.protocol);
        let by_itself = message.header.protocol == RouteProtocol::Kernel || DAEMONS.contains(&protocol);
        if !by_itself && !message.header.flags.contains(RouteFlags::Cloned) {
            kept.push(Kept::new(&RouteNetlinkMessage::NewRoute(again(message, index, index))));
        }
    }
    Ok(kept)
}

/// Tells whether an address is a duplicate, or a temporary one of IPv6 (RFC 8981), which are made anew.
fn comes_and_goes(message: &AddressMessage) -> bool {
    let flags = message.attributes.iter().find_map(|a| if let AddressAttribute::Flags(flags) = a { Some(*flags) } else { None });
    let flags = flags.unwrap_or(AddressFlags::empty());
    let temporary = message.header.family == AddressFamily::Inet6 && flags.contains(AddressFlags::Secondary);
    temporary || flags.contains(AddressFlags::Dadfailed)
}

/// Makes a request of what the kernel has shown: without what it says of the state of things, which it does not take back
/// (`fib_create_info`), and with the link's index as it is now.
fn again(mut message: RouteMessage, from: u32, to: u32) -> RouteMessage {
    message.header.flags &= RouteFlags::Onlink;
    let mut expires = None;
    message.attributes.retain_mut(|attribute| {
        match attribute {
            RouteAttribute::CacheInfo(info) => {
                // in hundredths of a second (USER_HZ); 0 is never, and what is negative has expired
                expires = i32::try_from(info.expires).ok().map(|n| n.unsigned_abs() / 100).filter(|seconds| *seconds > 0);
                return false;
            }
            RouteAttribute::Oif(index) if *index == from => *index = to,
            RouteAttribute::MultiPath(hops) => hops.iter_mut().for_each(|hop| {
                hop.flags &= RouteNextHopFlags::Onlink;
                if hop.interface_index == from {
                    hop.interface_index = to;
                }
            }),
            _ => {}
        }
        true
    });
    message.attributes.extend(expires.map(RouteAttribute::Expires));
    message
}

/// Gives back what is missing of what was kept of a link, which had index `from` then. Says what was put back, and what the kernel
/// refused.
pub fn give_back(socket: &mut Socket, link: &KernelLink, from: u32, kept: &[Kept]) -> Result<(Vec<String>, Vec<String>)> {
    let to = link.index;
    let mut batch = Batch::default();
    let mut words = Vec::new();
    for (n, one) in kept.iter().enumerate() {
        let (message, what) = match one.message()? {
            RouteNetlinkMessage::NewAddress(mut message) => {
                message.header.index = to;
                let what = AddressState::from_message(message.clone()).map(|state| format!("address {}", state.address.address));
                (RouteNetlinkMessage::NewAddress(message), what.unwrap_or_else(|| "an address".to_owned()))
            }
            RouteNetlinkMessage::NewRoute(message) => {
                let what = RouteState::from_message(message.clone()).map(|state| format!("route {}", state.route));
                (RouteNetlinkMessage::NewRoute(again(message, from, to)), what.unwrap_or_else(|| "a route".to_owned()))
            }
            _ => bail!("what was kept is neither address nor route"),
        };
        batch.push(n, message, NLM_F_CREATE | NLM_F_EXCL);
        words.push(Some(what));
    }
    let mut refused = Vec::new();
    let failed = || format!("failed to put back addresses and routes of link '{}'", link.name);
    for (n, refusal) in socket.request(batch).with_context(failed)? {
        let what = words[n].take().filter(|_| refusal.errno != Errno::EXIST);
        refused.extend(what.map(|what| format!("failed to put back {what} of link '{}': {refusal}", link.name)));
    }
    Ok((words.into_iter().flatten().map(|what| format!("put back {what} of link '{}'", link.name)).collect(), refused))
}
