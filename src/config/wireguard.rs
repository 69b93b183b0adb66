//! Interfaces of the kind wireguard: their keys, and what must not be there twice.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{
    entry::required,
    fault::Draft,
    fragment::IpTable,
    interface::InterfaceTable,
    keys,
    read::{Reader, Table, Value},
    rule,
    text::{Placed, Spot, quoted},
    validate::once,
    value::{self, Parsed, Refusal, is_link_local},
};
use crate::model::{Peer, PublicKey, Wireguard, decode_key};

/// A tunnel.
#[derive(Debug)]
pub(super) struct TunnelTable {
    private_key_file: Option<String>,
    listen_port: Option<Placed<u16>>,
    fwmark: Option<u32>,
    peers: Vec<PeerTable>,
}

/// An entry of `peers`.
#[derive(Debug)]
struct PeerTable {
    public_key: Placed<PublicKey>,
    preshared_key_file: Option<String>,
    endpoint: Option<SocketAddr>,
    allowed_ips: Vec<Placed<IpNet>>,
    keepalive: Option<u16>,
}

impl TunnelTable {
    pub fn allowed_ips(&self) -> impl Iterator<Item = &Placed<IpNet>> {
        self.peers.iter().flat_map(|peer| &peer.allowed_ips)
    }

    pub fn finish(self) -> Option<Wireguard> {
        let Self { private_key_file, listen_port, fwmark, peers } = self;
        let peer = |peer: PeerTable| {
            let PeerTable { public_key, preshared_key_file, endpoint, allowed_ips, keepalive } = peer;
            let allowed_ips = allowed_ips.into_iter().map(|net| net.value).collect();
            Peer { public_key: public_key.value, preshared_key_file, endpoint, allowed_ips, keepalive }
        };
        Some(Wireguard {
            private_key_file: private_key_file?,
            listen_port: listen_port.map(|port| port.value),
            fwmark,
            peers: peers.into_iter().map(peer).collect(),
        })
    }
}

pub(super) fn read(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> TunnelTable {
    TunnelTable {
        private_key_file: table.get("private-key-file").and_then(|v| secret(reader, v, "private-key-file")),
        listen_port: table.get("listen-port").and_then(|v| small(reader, v)),
        fwmark: table.get("fwmark").and_then(|v| fwmark(reader, v)),
        peers: reader.list(table.get("peers"), peer).items,
    }
}

fn peer(reader: &mut Reader<'_>, entry: Value<'_, '_>) -> Option<PeerTable> {
    let table = reader.table(entry, "an entry of 'peers'".to_owned(), &keys::PEER_ENTRY)?;
    let public_key = required(reader, entry, &table, "public-key").and_then(|v| {
        // not by `name`, which shows the text: it may be the private key
        let key = decode_key(reader.string(v)?).map(PublicKey);
        let refusal = |e| Refusal::new(format!("'public-key' is no key: {e}"));
        key.map(|value| Placed { value, at: v.at }).map_err(|e| reader.refuse(v, refusal(e))).ok()
    });
    let preshared_key_file = table.get("preshared-key-file").and_then(|v| secret(reader, v, "preshared-key-file"));
    let endpoint = table.get("endpoint").and_then(|v| reader.parse(v, endpoint)).map(|endpoint| endpoint.value);
    let allowed_ips = reader.list(table.get("allowed-ips"), |r, v| r.parse(v, |text| value::prefix("allowed IP", text))).items;
    let keepalive = table.get("keepalive").and_then(|v| small(reader, v)).map(|seconds| seconds.value);
    Some(PeerTable { public_key: public_key?, preshared_key_file, endpoint, allowed_ips, keepalive })
}

fn small(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<Placed<u16>> {
    let number = reader.number(value, 1, u16::MAX.into())?;
    Some(Placed { value: u16::try_from(number.value).ok()?, at: number.at })
}

/// Reads the mark of the tunnel's own packets. The kernel takes 0 for no mark.
fn fwmark(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<u32> {
    if !value.is_string() {
        return reader.number(value, 1, u32::MAX).map(|mark| mark.value);
    }
    let parse = |text: &str| {
        let mark = rule::number(text).filter(|mark| *mark > 0);
        mark.ok_or_else(|| Refusal::new(format!("fwmark {} is no number from 1 on", quoted(text))))
    };
    reader.parse(value, parse).map(|mark| mark.value)
}

/// Reads where a secret is. A fault with a secret itself does not show it: the report may end up in a log.
fn secret(reader: &mut Reader<'_>, value: Value<'_, '_>, key: &str) -> Option<String> {
    if decode_key(reader.string(value)?).is_ok() {
        let message = format!("'{key}' takes the place of a key, not the key itself");
        let help = "put the key into a file that only root can read, and name that; a private key in here wants to be replaced";
        reader.note(Draft::new(value.at, message).allowed(keys::INTERFACE.form("private-key-file")).help(help).secret());
        return None;
    }
    reader.parse(value, |text| value::secret(&format!("'{key}'"), text)).map(|secret| secret.value)
}

/// Takes the address and port that a peer is reached at, from the host.
fn endpoint(text: &str) -> Parsed<SocketAddr> {
    let refuse = |why: &str| Refusal::new(format!("endpoint {} {why}", quoted(text)));
    let Ok(endpoint) = text.parse::<SocketAddr>() else {
        let Some((host, port)) = text.rsplit_once(':') else { return Err(refuse("has no port")) };
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Err(refuse("has no port").help(format!("write \"{}\"", SocketAddr::new(ip, 51820))));
        }
        if port.parse::<u16>().is_err() {
            return Err(refuse("has no valid port"));
        }
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
            return Err(refuse("has an IPv6 address without brackets").help(format!("write \"[{host}]:{port}\"")));
        }
        if !host.is_empty() && host.chars().any(|c| c.is_ascii_alphabetic()) && !host.contains(['[', ']', ':']) {
            return Err(
                refuse("has a host name, and the tunnel is set up without a resolver").help("write the address that the name stands for")
            );
        }
        return Err(refuse("has no valid IP address"));
    };
    let ip = endpoint.ip();
    if endpoint.port() == 0 {
        return Err(refuse("has no valid port"));
    }
    // a loopback address is good: the tunnel's packets go by the host's network, where a wrapper may listen
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        return Err(refuse("is no host's address"));
    }
    if ip.is_ipv6() && is_link_local(ip) {
        return Err(refuse("has a link-local address, which needs a link to go with it").help("name the peer by another of its addresses"));
    }
    Ok(endpoint)
}

/// Notes gateways: at the end of a tunnel there is no link on which one could be asked for.
pub(super) fn no_next_hops(ip: &IpTable, drafts: &mut Vec<Draft>) {
    for route in ip.gateways.items.iter().chain(ip.routes.items.iter().filter(|route| route.via.is_some())) {
        let at = route.via.as_ref().map_or(route.at, |via| via.at);
        let draft = Draft::new(at, format!("{} is a tunnel, on which there is no gateway: allowed-ips choose the peer", ip.link));
        drafts.push(draft.help(format!("write routes = [{{ to = \"{}\" }}]", route.to)));
    }
}

/// Checks all tunnels: their sockets are all on the host.
pub(super) fn check(interfaces: &[InterfaceTable], drafts: &mut Vec<Draft>) {
    let tunnels = || interfaces.iter().filter_map(InterfaceTable::tunnel);
    let ports = tunnels().filter_map(|tunnel| tunnel.listen_port.as_ref()).map(|port| (port.value, port.at));
    let help = "tunnels listen on the host, whatever their namespace: give each a port of its own";
    once(ports, drafts, help, |port| format!("listen-port {port} is used twice"));
    for tunnel in tunnels() {
        let peers = tunnel.peers.iter().map(|peer| (peer.public_key.value, peer.public_key.at));
        once(peers, drafts, "join the two, or leave one out", |key| format!("two peers with the public key {key}"));
        let mut first: HashMap<IpNet, (usize, Spot)> = HashMap::new();
        for (n, peer) in tunnel.peers.iter().enumerate() {
            for Placed { value: net, at } in &peer.allowed_ips {
                let Some((other, spot)) = first.get(net) else {
                    first.insert(*net, (n, *at));
                    continue;
                };
                let (message, help) = if *other == n {
                    (format!("allowed IP '{net}' is listed twice"), "name it once")
                } else {
                    (format!("allowed IP '{net}' is in two peers"), "leave it in one; the kernel would take it from the first")
                };
                drafts.push(Draft::new(*at, message).other(*spot, "first here").help(help));
            }
        }
    }
}
