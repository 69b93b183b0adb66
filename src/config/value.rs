//! Text values: addresses, prefixes, resolvers, domain names. Each is taken or refused with a reason.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    keys,
    text::{listed, quoted, visible},
};

/// Smallest MTU of IPv6 (RFC 8200, section 5); the kernel does not run it on a link with less.
pub(super) const IPV6_MTU: u32 = 1280;

/// Why a value is refused, and what to write instead.
#[derive(Debug)]
pub(super) struct Refusal {
    pub message: String,
    pub allowed: Option<String>,
    pub help: Option<String>,
}

impl Refusal {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), allowed: None, help: None }
    }

    pub fn help(self, text: impl Into<String>) -> Self {
        Self { help: Some(text.into()), ..self }
    }

    pub fn allowed(self, text: impl Into<String>) -> Self {
        Self { allowed: Some(text.into()), ..self }
    }
}

pub(super) type Parsed<T> = Result<T, Refusal>;

/// Takes an IP address that a host can have; `what` is its part in the configuration: `gateway`.
pub(super) fn host(what: &str, text: &str) -> Parsed<IpAddr> {
    if let Some((address, _)) = text.split_once('/') {
        return Err(Refusal::new(format!("{what} {} has a prefix length, which belongs to addresses only", quoted(text)))
            .help(format!("write \"{}\"", visible(address))));
    }
    let ip = ip(what, text, "")?;
    unicast(what, ip)?;
    Ok(ip)
}

/// Takes an address with its prefix length, as a link has it. With a peer the prefix is the peer's.
pub(super) fn link_address(text: &str, has_peer: bool) -> Parsed<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        let ip = host("address", text)?;
        let usual = if ip.is_ipv4() { 24 } else { 64 };
        return Err(Refusal::new(format!("address '{ip}' has no prefix length")).help(format!(
            "add the prefix length of its network: \"{ip}/{usual}\", or \"{ip}/{}\" if it is alone",
            if ip.is_ipv4() { 32 } else { 128 }
        )));
    };
    let ip = ip("address", address, &format!("/{length}"))?;
    unicast("address", ip)?;
    let net = prefix_length("address", text, ip, length, 1)?;
    if net.prefix_len() == 0 {
        return Err(Refusal::new(format!("address {} makes every address a neighbour", quoted(text)))
            .help("give it the prefix length of its network; a gateway leads to the rest"));
    }
    if !has_peer {
        not_the_network(net)?;
    }
    Ok(net)
}

/// Takes an address of the loopback link, which is alone unless it says otherwise.
pub(super) fn loopback_address(text: &str, has_peer: bool) -> Parsed<IpNet> {
    if text.contains('/') { link_address(text, has_peer) } else { host("address", text).map(IpNet::from) }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// Everywhere, in the family of the gateway.
    Default,
    Net(IpNet),
}

/// Takes the destination of a route: a prefix, an address alone, or `default`.
pub(super) fn destination(text: &str) -> Parsed<Destination> {
    if text == "default" { Ok(Destination::Default) } else { prefix("destination", text).map(Destination::Net) }
}

/// Takes a prefix, or an address alone.
pub(super) fn prefix(what: &str, text: &str) -> Parsed<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return ip(what, text, "").map(IpNet::from);
    };
    let net = prefix_length(what, text, ip(what, address, &format!("/{length}"))?, length, 0)?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Refusal::new(format!("{what} {} has bits set behind its prefix length", quoted(text))).help(format!(
        "write \"{}\" for the network, or \"{}\" for the one address",
        net.trunc(),
        net.addr()
    )))
}

/// Takes a resolver that programs inside a namespace ask.
pub(super) fn namespace_resolver(text: &str) -> Parsed<IpAddr> {
    // checked before `host`, which would refuse it for a reason that helps less
    if let Ok(ip) = text.parse::<IpAddr>() {
        if ip.is_loopback() {
            let why = if is_resolved(ip) { "systemd-resolved's on the host" } else { "a loopback address" };
            return Err(Refusal::new(format!("resolver '{ip}' is {why}, which nothing inside a namespace can reach"))
                .help("name the resolver of the network; on the host, 'resolvectl dns' shows it"));
        }
        if ip.is_ipv6() && is_link_local(ip) {
            return Err(Refusal::new(format!("resolver '{ip}' is a link-local address, which needs a link to go with it"))
                .help("name the resolver by another of its addresses"));
        }
    }
    host("resolver", text)
}

/// Takes a resolver that systemd-resolved asks by a bridge. It may run on the host itself.
pub(super) fn host_resolver(text: &str) -> Parsed<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(ip) if is_resolved(ip) => Err(Refusal::new(format!("resolver '{ip}' is systemd-resolved itself, which would ask in a circle"))
            .help("name the resolver of the network")),
        Ok(ip) if ip.is_loopback() => Ok(ip),
        _ => host("resolver", text),
    }
}

/// Tells the addresses on which systemd-resolved listens (`DNSStubListener=` in resolved.conf(5)).
fn is_resolved(ip: IpAddr) -> bool {
    ip == Ipv4Addr::new(127, 0, 0, 53) || ip == Ipv4Addr::new(127, 0, 0, 54)
}

/// Takes a domain name that is tried behind short names.
pub(super) fn domain(text: &str) -> Parsed<String> {
    let refuse = |why: &str| Err(Refusal::new(format!("search domain {} {why}", quoted(text))));
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return refuse("is empty");
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
        return refuse(&format!("has the character {bad:?}"))
            .map_err(|r| r.allowed("letters, digits, '-', '_' and '.'; other scripts in their xn-- form"));
    }
    // RFC 1035, 2.3.4
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return refuse("is no domain name").map_err(|r| r.allowed("parts of 1 to 63 characters between dots, 253 in all"));
    }
    Ok(text.to_owned())
}

/// The options of resolv.conf(5), glibc 2.41; true for those that take a number.
const RESOLVER_OPTIONS: [(&str, bool); 17] = [
    ("attempts", true),
    ("debug", false),
    ("edns0", false),
    ("inet6", false),
    ("ndots", true),
    ("no-aaaa", false),
    ("no-check-names", false),
    ("no-reload", false),
    ("no-tld-query", false),
    ("no_tld_query", false),
    ("rotate", false),
    ("single-request", false),
    ("single-request-reopen", false),
    ("strict-error", false),
    ("timeout", true),
    ("trust-ad", false),
    ("use-vc", false),
];

/// Takes an option of resolv.conf(5): the resolver itself skips one that it does not know without a word.
pub(super) fn resolver_option(text: &str) -> Parsed<String> {
    let (name, number) = text.split_once(':').map_or((text, None), |(name, number)| (name, Some(number)));
    let all = || RESOLVER_OPTIONS.iter().map(|(name, _)| *name);
    let Some((_, numbered)) = RESOLVER_OPTIONS.iter().find(|(known, _)| *known == name) else {
        let refusal = Refusal::new(format!("unknown resolver option {}", quoted(text))).allowed(all().collect::<Vec<_>>().join(", "));
        return Err(match keys::suggest(name, all()) {
            Some(near) => refusal.help(format!("did you mean '{near}'?")),
            None => refusal,
        });
    };
    match number {
        Some(n) if *numbered && !n.is_empty() && n.len() < 4 && n.bytes().all(|b| b.is_ascii_digit()) => Ok(text.to_owned()),
        None if !numbered => Ok(text.to_owned()),
        _ if *numbered => Err(Refusal::new(format!("resolver option '{name}' needs a number")).help(format!("write \"{name}:2\""))),
        _ => Err(Refusal::new(format!("resolver option '{name}' takes no number")).help(format!("write \"{name}\""))),
    }
}

/// Takes a line of text for a unit file or resolv.conf.
pub(super) fn line(what: &str, text: &str) -> Parsed<String> {
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return Err(Refusal::new(format!("{what} has the control character {bad:?}")).allowed("text on one line"));
    }
    if text.trim().is_empty() {
        return Err(Refusal::new(format!("{what} is empty")).help("leave the key out"));
    }
    // systemd.syntax(7): the next line would be taken for a part of this one
    if text.ends_with('\\') {
        return Err(Refusal::new(format!("{what} ends with '\\', which joins lines in a unit file")).allowed("text on one line"));
    }
    Ok(text.to_owned())
}

/// Takes the absolute path of a file on the host.
pub(super) fn path(what: &str, text: &str) -> Parsed<String> {
    let path = line(what, text)?;
    if !path.starts_with('/') {
        return Err(Refusal::new(format!("{what} {} is no absolute path", quoted(text))).help("begin it with '/'"));
    }
    if path.ends_with('/') {
        return Err(Refusal::new(format!("{what} {} is a directory", quoted(text))).help("name a file"));
    }
    Ok(path)
}

/// Takes the place of a secret: a file, or a credential, whose name has no '/' (systemd.exec(5), `LoadCredential=`).
pub(super) fn secret(what: &str, text: &str) -> Parsed<String> {
    // `credential_name_valid` in systemd: a file name that can also name a file descriptor
    let is_name = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if text.starts_with('/') || text.contains('/') {
        return path(what, text);
    }
    if text.is_empty() || text.len() > 255 || matches!(text, "." | "..") || !text.chars().all(is_name) {
        // not shown: whoever takes it for the key itself has a secret here
        return Err(Refusal::new(format!("{what} is neither an absolute path nor the name of a credential")));
    }
    Ok(text.to_owned())
}

/// Takes an address's label, which the kernel keeps in the space of a link name.
pub(super) fn label(interface: &str, text: &str) -> Parsed<String> {
    let refuse = |why: String| Err(Refusal::new(format!("label {} {why}", quoted(text))));
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | ':')) {
        return refuse(format!("has the character {bad:?}"));
    }
    if text.len() > 15 {
        return refuse(format!("has {} bytes", text.len()));
    }
    match text.strip_prefix(interface) {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => Ok(text.to_owned()),
        _ => refuse(format!("does not begin with the interface's name '{interface}'")),
    }
}

/// Tells IPv4 and IPv6 addresses that hold on one link only.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Names the family of an address.
pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Takes an address; `rest` is what stood behind it, for a hint that can be copied.
fn ip(what: &str, text: &str, rest: &str) -> Parsed<IpAddr> {
    let write = |plain: &str| format!("write \"{}\"", visible(&format!("{plain}{rest}")));
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip);
    }
    let refuse = |why: &str| Refusal::new(format!("{what} {} {why}", quoted(text)));
    if text.is_empty() {
        return Err(Refusal::new(format!("{what} is empty")));
    }
    if let Ok(ip) = text.trim().parse::<IpAddr>() {
        return Err(refuse("has blanks around it").help(write(&ip.to_string())));
    }
    if text.contains('%') {
        return Err(refuse("has a zone ('%'), which the interface already gives").help("leave out '%' and what follows"));
    }
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() == 4 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
        if let Some(big) = parts.iter().find(|part| part.parse::<u8>().is_err()) {
            return Err(refuse(&format!("is no IPv4 address: {} is over 255", quoted(big).trim_matches('\''))));
        }
        // inet_aton(3) and with it many programs read 010 as 8
        let plain = parts.iter().map(|part| part.parse::<u8>().unwrap_or(0).to_string()).collect::<Vec<_>>().join(".");
        return Err(refuse("has a leading zero, which some programs read as octal").help(write(&plain)));
    }
    Err(refuse("is no IP address"))
}

fn prefix_length(what: &str, text: &str, ip: IpAddr, length: &str, least: u8) -> Parsed<IpNet> {
    let (family, most) = if ip.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    let refuse = || {
        Refusal::new(format!("{what} {} has no valid prefix length", quoted(text)))
            .allowed(format!("'/' and a number from {least} to {most} behind an {family} address"))
    };
    if let Ok(mask) = length.parse::<Ipv4Addr>()
        && let Ok(bits) = ipnet::ipv4_mask_to_prefix(mask)
        && ip.is_ipv4()
    {
        return Err(refuse().help(format!("write \"{ip}/{bits}\" for the netmask {mask}")));
    }
    let plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|b| b.is_ascii_digit()));
    let bits = length.parse::<u8>().ok().filter(|_| plain).ok_or_else(refuse)?;
    IpNet::new(ip, bits).map_err(|_| refuse())
}

fn unicast(what: &str, ip: IpAddr) -> Parsed<()> {
    let why = match ip {
        _ if ip.is_unspecified() => "stands for no address",
        _ if ip.is_loopback() => "is a loopback address, which every namespace has on 'lo' already",
        _ if ip.is_multicast() => "is a multicast address, which no host has",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address, which no host has",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let v4 = v6.to_ipv4_mapped().map(|v4| v4.to_string()).unwrap_or_default();
            return Err(Refusal::new(format!("{what} '{ip}' is an IPv4 address in IPv6 form, which is never on the wire"))
                .help(format!("write the IPv4 address {v4} itself")));
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(format!("{what} '{ip}' {why}")).allowed("a unicast address"))
}

/// Refuses the addresses of a network that no host may have.
fn not_the_network(net: IpNet) -> Parsed<()> {
    let bits = if net.addr().is_ipv4() { 32 } else { 128 };
    // RFC 3021 and RFC 6164: in networks of two, both are hosts
    if net.prefix_len() >= bits - 1 {
        return Ok(());
    }
    let (first, last) = match net {
        IpNet::V4(v4) => (v4.hosts().next().map(IpAddr::V4), v4.hosts().last().map(IpAddr::V4)),
        IpNet::V6(v6) => (Some(IpAddr::V6((v6.network().to_bits() + 1).into())), Some(IpAddr::V6(v6.broadcast()))),
    };
    let range = listed(&[first, last].into_iter().flatten().map(|ip| format!("\"{ip}/{}\"", net.prefix_len())).collect::<Vec<_>>());
    let refuse = |is: &str| Err(Refusal::new(format!("address '{net}' is {is}, not a host's")).help(format!("take one between {range}")));
    if net.addr() == net.network() {
        return refuse(if bits == 32 { "the network itself" } else { "the network itself (its routers' anycast address)" });
    }
    if bits == 32 && net.addr() == net.broadcast() {
        return refuse("the broadcast address of its network");
    }
    Ok(())
}
