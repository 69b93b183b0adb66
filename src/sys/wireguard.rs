//! WireGuard links: what the kernel has of them, and the messages that change it (linux/wireguard.h, over generic netlink). Keys
//! pass through here; none is kept, printed or logged.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd, WireguardMessage, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags,
};
use rtnetlink::packet_core::{DecodeError, Emitable, Nla, NlasIterator, ParseableParametrized};
use rustix::io::Errno;

use super::{
    key::{self, Key},
    netlink::{Batch, Socket, objects},
};
use crate::model::{Peer, PublicKey, Wireguard};

/// All peers of a message are in one attribute, whose length has 16 bits.
const PEERS_BYTES: usize = 32 * 1024;
/// A peer with more allowed addresses than these (40 bytes each at most) goes in parts.
const ALLOWED_IPS: usize = 512;

type Message = GenlMessage<Checked>;

/// A message that is looked at before netlink-packet-wireguard 0.5 reads it, which takes for granted that the length of a prefix has a
/// byte, and ends the program where it has none.
#[derive(Debug, Clone)]
struct Checked(WireguardMessage);

impl GenlFamily for Checked {
    fn family_name() -> &'static str {
        WireguardMessage::family_name()
    }

    fn version(&self) -> u8 {
        self.0.version()
    }

    fn command(&self) -> u8 {
        self.0.command()
    }
}

impl Emitable for Checked {
    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Checked {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        // WGDEVICE_A_PEERS, WGPEER_A_ALLOWEDIPS, WGALLOWEDIP_A_CIDR_MASK
        if has_empty(bytes, &[Some(8), None, Some(9), None, Some(3)]) {
            return Err("a prefix without a length".into());
        }
        WireguardMessage::parse_with_param(bytes, header).map(Self)
    }
}

/// Tells whether an attribute at the end of a path, which has the kind at each level, or none for any, has no value.
fn has_empty(bytes: &[u8], path: &[Option<u16>]) -> bool {
    let [kind, rest @ ..] = path else { return bytes.is_empty() };
    let of_kind = NlasIterator::new(bytes).map_while(Result::ok).filter(|nla| kind.is_none_or(|kind| kind == nla.kind()));
    of_kind.into_iter().any(|nla| has_empty(nla.value(), rest))
}

/// A WireGuard link as the kernel has it. It has secrets in it, so it is not `Debug`.
#[derive(Default)]
struct Device {
    private_key: Key,
    listen_port: u16,
    fwmark: u32,
    peers: Vec<KernelPeer>,
}

#[derive(Default)]
struct KernelPeer {
    public_key: Key,
    preshared_key: Key,
    endpoint: Option<SocketAddr>,
    allowed_ips: BTreeSet<IpNet>,
    keepalive: u16,
}

/// Observes a WireGuard link of the calling thread's namespace: what is `wanted` of it, as far as the kernel has it. A key is
/// compared to the one in the file.
pub fn observe(index: u32, wanted: &Wireguard, applied: Option<&Wireguard>) -> Result<Wireguard> {
    let failed = || format!("failed to look at the WireGuard link with index {index}");
    let mut socket = Socket::generic()?;
    let family = family(&mut socket)?;
    let request = message(family, WireguardCmd::GetDevice, vec![WireguardAttribute::IfIndex(index)]);
    let answers = socket.dump(&request).with_context(failed)?;
    let device = device(answers.into_iter().map(|answer: Message| answer.payload.0));
    // a file that cannot be read makes a difference; what is wrong with it is said where the key is set
    Ok(compare(&device, wanted, applied, |file| key::read(Path::new(file)).ok()))
}

/// Makes a WireGuard link of the calling thread's namespace, which is as `before`, be as `after`. Sessions with peers that do not
/// change go on, and so do those whose endpoint or allowed addresses change.
pub fn set(index: u32, before: &Wireguard, after: &Wireguard) -> Result<()> {
    let messages = messages(index, before, after, |file| key::read(Path::new(file)))?;
    let mut socket = Socket::generic()?;
    let family = family(&mut socket)?;
    let mut batch = Batch::default();
    for attributes in messages {
        batch.push((), message(family, WireguardCmd::SetDevice, attributes), 0);
    }
    match socket.request(batch)?.into_iter().next() {
        Some(((), refusal)) if refusal.errno == Errno::ADDRINUSE => Err(refusal).context(PORT_IN_USE),
        Some(((), refusal)) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// A link opens its port on the host when it comes up.
pub const PORT_IN_USE: &str = "hint: `ss -ulnp` on the host shows which program has the port; another WireGuard link has no program";

fn message(family: u16, cmd: WireguardCmd, attributes: Vec<WireguardAttribute>) -> Message {
    let mut message = GenlMessage::from_payload(Checked(WireguardMessage { cmd, attributes }));
    message.set_resolved_family_id(family);
    message
}

/// Asks for the number that the kernel has given to WireGuard's messages; it loads the module for that.
fn family(socket: &mut Socket) -> Result<u16> {
    let nlas = vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())];
    let answer = socket.get(GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas }))?;
    let answer = match answer {
        Err(refusal) if refusal.errno == Errno::NOENT => bail!("this kernel has no WireGuard"),
        other => other.context("failed to ask the kernel for WireGuard")?,
    };
    let number = answer.payload.nlas.into_iter().find_map(|nla| if let GenlCtrlAttrs::FamilyId(id) = nla { Some(id) } else { None });
    number.context("the kernel gave no number for WireGuard")
}

/// Reads the bytes of one answer of the kernel about a link, and compares it with what is wanted; for who plays the kernel.
pub fn compare_answer(answer: &[u8], wanted: &Wireguard) -> Result<Wireguard> {
    let answers: Vec<Message> = objects(answer)?;
    Ok(compare(&device(answers.into_iter().map(|answer| answer.payload.0)), wanted, None, |_| None))
}

/// Puts together what a dump brought: a peer with many allowed addresses is continued in the next message.
fn device(messages: impl Iterator<Item = WireguardMessage>) -> Device {
    let mut device = Device::default();
    for attribute in messages.flat_map(|message| message.attributes) {
        match attribute {
            WireguardAttribute::PrivateKey(key) => device.private_key = key,
            WireguardAttribute::ListenPort(port) => device.listen_port = port,
            WireguardAttribute::Fwmark(mark) => device.fwmark = mark,
            WireguardAttribute::Peers(peers) => {
                for part in peers.into_iter().map(kernel_peer) {
                    match device.peers.last_mut().filter(|last| last.public_key == part.public_key) {
                        Some(last) => last.allowed_ips.extend(part.allowed_ips),
                        None => device.peers.push(part),
                    }
                }
            }
            _ => {}
        }
    }
    device
}

fn kernel_peer(attributes: WireguardPeer) -> KernelPeer {
    let mut peer = KernelPeer::default();
    for attribute in attributes.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(key) => peer.public_key = key,
            WireguardPeerAttribute::PresharedKey(key) => peer.preshared_key = key,
            WireguardPeerAttribute::Endpoint(endpoint) => peer.endpoint = Some(endpoint),
            WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = seconds,
            WireguardPeerAttribute::AllowedIps(ips) => peer.allowed_ips.extend(ips.into_iter().filter_map(|ip| {
                let address = ip.iter().find_map(|a| if let WireguardAllowedIpAttr::IpAddr(address) = a { Some(*address) } else { None });
                let length = ip.iter().find_map(|a| if let WireguardAllowedIpAttr::Cidr(length) = a { Some(*length) } else { None });
                IpNet::new(address?, length?).ok()
            })),
            _ => {}
        }
    }
    peer
}

/// What the kernel has, in the words of the configuration where it is the same. Peers that somebody else has added are left out.
fn compare(device: &Device, wanted: &Wireguard, applied: Option<&Wireguard>, key: impl Fn(&str) -> Option<Key>) -> Wireguard {
    let Wireguard { private_key_file, listen_port, fwmark, peers } = wanted;
    let same_key = key(private_key_file) == Some(device.private_key);
    let of = |peers: &'_ [Peer], key: &PublicKey| peers.iter().find(|peer| peer.public_key == *key).cloned();
    let applied = applied.map(|applied| applied.peers.as_slice()).unwrap_or_default();
    let there = |peer: &Peer| device.peers.iter().find(|found| found.public_key == peer.public_key.0);
    let kept = peers.iter().filter_map(|peer| Some(compare_peer(there(peer)?, peer, of(applied, &peer.public_key).as_ref(), &key)));
    let gone = applied.iter().filter(|peer| of(peers, &peer.public_key).is_none() && there(peer).is_some()).cloned();
    Wireguard {
        private_key_file: if same_key { private_key_file.clone() } else { String::new() },
        // none is any, and none that is random
        listen_port: listen_port.map(|_| device.listen_port),
        fwmark: if fwmark.unwrap_or(0) == device.fwmark { *fwmark } else { Some(device.fwmark) },
        peers: kept.chain(gone).collect(),
    }
}

fn compare_peer(found: &KernelPeer, wanted: &Peer, applied: Option<&Peer>, key: impl Fn(&str) -> Option<Key>) -> Peer {
    let Peer { public_key, preshared_key_file, endpoint, allowed_ips, keepalive } = wanted;
    let same_key = preshared_key_file.as_ref().map_or(Some(Key::default()), |file| key(file)) == Some(found.preshared_key);
    // a peer roams, and its endpoint with it: only one that the configuration has changed since is a difference
    let same_endpoint = endpoint.is_none() || found.endpoint == *endpoint || applied.is_some_and(|applied| applied.endpoint == *endpoint);
    let same_ips = allowed_ips.iter().map(IpNet::trunc).collect::<BTreeSet<_>>() == found.allowed_ips;
    Peer {
        public_key: *public_key,
        preshared_key_file: if same_key { preshared_key_file.clone() } else { Some(String::new()) },
        endpoint: if same_endpoint { *endpoint } else { found.endpoint },
        allowed_ips: if same_ips { allowed_ips.clone() } else { found.allowed_ips.iter().copied().collect() },
        keepalive: if keepalive.unwrap_or(0) == found.keepalive { *keepalive } else { Some(found.keepalive) },
    }
}

/// The messages that make one of the other, each a list of attributes: the link itself, then peers that go, then those that come
/// or change, with no more than what changes of them.
fn messages(index: u32, before: &Wireguard, after: &Wireguard, key: impl Fn(&str) -> Result<Key>) -> Result<Vec<Vec<WireguardAttribute>>> {
    let Wireguard { private_key_file, listen_port, fwmark, peers } = after;
    let this = || WireguardAttribute::IfIndex(index);
    let mut link = vec![this()];
    if before.private_key_file != *private_key_file {
        link.push(WireguardAttribute::PrivateKey(key(private_key_file)?));
    }
    link.extend(listen_port.filter(|port| before.listen_port != Some(*port)).map(WireguardAttribute::ListenPort));
    if before.fwmark != *fwmark {
        link.push(WireguardAttribute::Fwmark(fwmark.unwrap_or(0)));
    }
    let mut parts = Vec::new();
    for gone in before.peers.iter().filter(|old| peers.iter().all(|peer| peer.public_key != old.public_key)) {
        let remove = WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe);
        parts.push(vec![WireguardPeerAttribute::PublicKey(gone.public_key.0), remove]);
    }
    for peer in peers {
        let old = before.peers.iter().find(|old| old.public_key == peer.public_key);
        if old != Some(peer) {
            parts.extend(peer_parts(old, peer, &key)?);
        }
    }
    let mut messages = vec![link];
    let mut room = 0;
    for part in parts.into_iter().map(WireguardPeer) {
        let length = 4 + part.value_len();
        match messages.last_mut().and_then(|message| message.last_mut()) {
            Some(WireguardAttribute::Peers(peers)) if length <= room => peers.push(part),
            _ => {
                room = PEERS_BYTES;
                messages.push(vec![this(), WireguardAttribute::Peers(vec![part])]);
            }
        }
        room = room.saturating_sub(length);
    }
    Ok(messages)
}

/// What changes of one peer; in parts where it is long.
fn peer_parts(old: Option<&Peer>, peer: &Peer, key: impl Fn(&str) -> Result<Key>) -> Result<Vec<Vec<WireguardPeerAttribute>>> {
    let Peer { public_key, preshared_key_file, endpoint, allowed_ips, keepalive } = peer;
    let this = || WireguardPeerAttribute::PublicKey(public_key.0);
    let mut part = vec![this()];
    if old.and_then(|old| old.preshared_key_file.as_ref()) != preshared_key_file.as_ref() {
        // zeros are none
        let secret = preshared_key_file.as_ref().map_or(Ok(Key::default()), |file| key(file))?;
        part.push(WireguardPeerAttribute::PresharedKey(secret));
    }
    part.extend(endpoint.filter(|endpoint| old.and_then(|old| old.endpoint) != Some(*endpoint)).map(WireguardPeerAttribute::Endpoint));
    if old.and_then(|old| old.keepalive) != *keepalive {
        part.push(WireguardPeerAttribute::PersistentKeepalive(keepalive.unwrap_or(0)));
    }
    let (had, wanted): (BTreeSet<_>, BTreeSet<_>) =
        (old.iter().flat_map(|old| &old.allowed_ips).map(IpNet::trunc).collect(), allowed_ips.iter().map(IpNet::trunc).collect());
    // to take one away, kernels before 6.16 need all that stay: those are away for a moment
    let new: Vec<IpNet> = if had.is_subset(&wanted) {
        wanted.difference(&had).copied().collect()
    } else {
        part.push(WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps));
        wanted.into_iter().collect()
    };
    let mut chunks = new.chunks(ALLOWED_IPS).map(|ips| WireguardPeerAttribute::AllowedIps(ips.iter().map(allowed_ip).collect()));
    part.extend(chunks.next());
    Ok(std::iter::once(part).chain(chunks.map(|ips| vec![this(), ips])).collect())
}

fn allowed_ip(net: &IpNet) -> WireguardAllowedIp {
    let family = match net.addr() {
        IpAddr::V4(_) => WireguardAddressFamily::Ipv4,
        IpAddr::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.addr()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ])
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};

    use super::*;

    fn key(file: &str) -> Option<Key> {
        // `/1` has a key of ones
        Some([file.strip_prefix('/')?.parse().ok()?; 32])
    }

    fn key_or_error(file: &str) -> Result<Key> {
        key(file).context("no such key")
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn peer(public_key: u8, allowed_ips: &[&str]) -> Peer {
        Peer {
            public_key: PublicKey([public_key; 32]),
            preshared_key_file: None,
            endpoint: None,
            allowed_ips: allowed_ips.iter().map(|text| net(text)).collect(),
            keepalive: None,
        }
    }

    fn tunnel(peers: Vec<Peer>) -> Wireguard {
        Wireguard { private_key_file: "/1".to_owned(), listen_port: Some(51820), fwmark: None, peers }
    }

    /// The bytes of all messages behind the netlink header.
    fn bytes(before: &Wireguard, after: &Wireguard) -> Vec<Vec<u8>> {
        let emit = |attributes| {
            let inner = NetlinkPayload::InnerMessage(message(0x1c, WireguardCmd::SetDevice, attributes));
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), inner);
            message.finalize();
            assert_eq!(message.header.message_type, 0x1c);
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes.split_off(16)
        };
        messages(3, before, after, key_or_error).unwrap().into_iter().map(emit).collect()
    }

    /// An attribute as netlink(7) has it, in this machine's byte order.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    const NESTED: u16 = 0x8000;
    const SET_DEVICE: [u8; 4] = [1, 1, 0, 0];

    #[test]
    fn a_new_link_is_set_as_the_kernels_header_file_says() {
        let mut wanted = tunnel(vec![peer(7, &["10.0.0.0/24", "2001:db8::/32"])]);
        wanted.fwmark = Some(0x42);
        wanted.peers[0].preshared_key_file = Some("/2".to_owned());
        wanted.peers[0].endpoint = Some("192.0.2.1:51821".parse().unwrap());
        wanted.peers[0].keepalive = Some(25);
        let index = attribute(1, &3_u32.to_ne_bytes());
        let link = [
            SET_DEVICE.to_vec(),
            index.clone(),
            attribute(3, &[1; 32]),
            attribute(6, &51820_u16.to_ne_bytes()),
            attribute(7, &0x42_u32.to_ne_bytes()),
        ];
        let mut socket_address = 2_u16.to_ne_bytes().to_vec();
        socket_address.extend([0xca, 0x6d, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let ipv4 = [attribute(1, &2_u16.to_ne_bytes()), attribute(2, &[10, 0, 0, 0]), attribute(3, &[24])].concat();
        let ipv6 = [
            attribute(1, &10_u16.to_ne_bytes()),
            attribute(2, &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            attribute(3, &[32]),
        ]
        .concat();
        let peer = [
            attribute(1, &[7; 32]),
            attribute(2, &[2; 32]),
            attribute(4, &socket_address),
            attribute(5, &25_u16.to_ne_bytes()),
            attribute(9 | NESTED, &[attribute(NESTED, &ipv4), attribute(NESTED, &ipv6)].concat()),
        ]
        .concat();
        let peers = [SET_DEVICE.to_vec(), index, attribute(8 | NESTED, &attribute(NESTED, &peer))];
        assert_eq!(bytes(&Wireguard::default(), &wanted), [link.concat(), peers.concat()]);
    }

    #[test]
    fn only_what_differs_is_said_to_the_kernel() {
        let before = tunnel(vec![peer(7, &["10.0.0.0/24"]), peer(8, &["10.1.0.0/24"]), peer(9, &["10.2.0.0/24"])]);
        let mut after = before.clone();
        after.peers.remove(0);
        after.peers[1].keepalive = Some(5);
        after.peers.push(peer(10, &[]));
        let said = messages(3, &before, &after, key_or_error).unwrap();
        let link = vec![WireguardAttribute::IfIndex(3)];
        let of = |key: u8, more: &[WireguardPeerAttribute]| WireguardPeer([&[WireguardPeerAttribute::PublicKey([key; 32])], more].concat());
        let peers = vec![
            of(7, &[WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe)]),
            of(9, &[WireguardPeerAttribute::PersistentKeepalive(5)]),
            of(10, &[]),
        ];
        assert_eq!(said, [link.clone(), vec![WireguardAttribute::IfIndex(3), WireguardAttribute::Peers(peers)]]);
        assert_eq!(messages(3, &after, &after, |_| bail!("no key is needed")).unwrap(), [link]);
    }

    #[test]
    fn allowed_addresses_are_replaced_only_where_one_goes() {
        let part = |before: &[&str], after: &[&str]| peer_parts(Some(&peer(7, before)), &peer(7, after), key_or_error).unwrap();
        let this = || WireguardPeerAttribute::PublicKey([7; 32]);
        let ips = |nets: &[&str]| WireguardPeerAttribute::AllowedIps(nets.iter().map(|text| allowed_ip(&net(text))).collect());
        assert_eq!(part(&["10.0.0.0/24"], &["10.0.0.0/24", "10.1.0.9/24"]), [[this(), ips(&["10.1.0.0/24"])]]);
        let replace = || WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps);
        assert_eq!(part(&["10.0.0.0/24", "10.1.0.0/24"], &["10.0.0.0/24"]), [vec![this(), replace(), ips(&["10.0.0.0/24"])]]);
        assert_eq!(part(&["10.0.0.0/24"], &[]), [[this(), replace()]]);
    }

    #[test]
    fn many_peers_and_addresses_go_in_several_messages() {
        let many: Vec<String> = (0..3000).map(|n: u32| format!("2001:db8:{n:x}::/48")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut wanted = tunnel((1..=200).map(|n| peer(n, &["10.0.0.0/8"])).collect());
        wanted.peers.push(peer(250, &many));
        let said = bytes(&Wireguard::default(), &wanted);
        assert!(said.len() > 3 && said.iter().all(|message| message.len() < PEERS_BYTES + 64), "{} messages", said.len());
        // as the kernel would say it
        let attributes = messages(3, &Wireguard::default(), &wanted, key_or_error).unwrap();
        let kernel = device(attributes.into_iter().map(|attributes| WireguardMessage { cmd: WireguardCmd::GetDevice, attributes }));
        assert_eq!(kernel.peers.len(), 201);
        assert_eq!(compare(&kernel, &wanted, None, key), wanted);
    }

    fn kernel_with(peer: KernelPeer) -> Device {
        Device { private_key: [1; 32], listen_port: 51820, fwmark: 0, peers: vec![peer] }
    }

    #[test]
    fn a_peer_that_roams_is_no_difference_and_one_that_the_configuration_moves_is() {
        let endpoint = |text: &str| Some(text.parse().unwrap());
        let kernel = kernel_with(KernelPeer { public_key: [7; 32], endpoint: endpoint("203.0.113.9:4000"), ..KernelPeer::default() });
        let at = |endpoint| tunnel(vec![Peer { endpoint, ..peer(7, &[]) }]);
        let home = at(endpoint("192.0.2.1:51820"));
        assert_eq!(compare(&kernel, &home, Some(&home), key), home);
        let moved = at(endpoint("192.0.2.2:51820"));
        assert_eq!(compare(&kernel, &moved, Some(&home), key), at(endpoint("203.0.113.9:4000")));
        assert_eq!(compare(&kernel, &at(None), Some(&home), key), at(None));
    }

    #[test]
    fn other_keys_and_settings_are_differences_and_peers_of_others_are_none() {
        let found = || KernelPeer { public_key: [7; 32], allowed_ips: [net("10.0.0.0/24")].into(), ..KernelPeer::default() };
        let wanted = tunnel(vec![peer(7, &["10.0.0.1/24"])]);
        let mut kernel = kernel_with(found());
        kernel.peers.push(KernelPeer { public_key: [9; 32], ..KernelPeer::default() });
        assert_eq!(compare(&kernel, &wanted, None, key), wanted);
        // what was applied once goes when it is not wanted any more
        let applied = tunnel(vec![peer(7, &[]), peer(9, &[]), peer(10, &[])]);
        assert_eq!(compare(&kernel, &wanted, Some(&applied), key).peers, [wanted.peers[0].clone(), peer(9, &[])]);

        let changes: [fn(&mut Device); 7] = [
            |kernel| kernel.private_key = [2; 32],
            |kernel| kernel.listen_port = 1,
            |kernel| kernel.fwmark = 1,
            |kernel| kernel.peers[0].preshared_key = [2; 32],
            |kernel| kernel.peers[0].keepalive = 1,
            |kernel| kernel.peers[0].allowed_ips = [net("10.0.0.0/25")].into(),
            |kernel| kernel.peers.clear(),
        ];
        for change in changes {
            let mut kernel = kernel_with(found());
            change(&mut kernel);
            assert_ne!(compare(&kernel, &wanted, Some(&wanted), key), wanted);
        }
        let unreadable = Wireguard { private_key_file: "no key".to_owned(), ..wanted };
        assert_ne!(compare(&kernel, &unreadable, None, key), unreadable);
    }
}
