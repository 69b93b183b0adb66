//! IP addresses of links, and routes.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::LinkName;

/// How far an address is valid (`scope` of `ip address`); only IPv4 has it, the kernel derives IPv6's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    Global,
    Link,
    Host,
}

impl Scope {
    /// The word in configuration and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Link => "link",
            Self::Host => "host",
        }
    }
}

/// An address of a link with its prefix length: `ip address add 192.0.2.10/24 dev eth0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Address {
    /// The address itself, host bits kept: `192.0.2.10/24`.
    pub address: IpNet,
    /// The other end of a point-to-point link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// IPv4 only: the label that old tools show (`eth0:mail`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Never the source of new connections unless a program asks for it (`preferred_lft 0`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    /// Adds no route for the address's own prefix (`noprefixroute`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_prefix_route: bool,
}

impl Address {
    /// Gives an address with everything else at its default.
    #[must_use]
    pub fn new(address: IpNet) -> Self {
        Self { address, peer: None, scope: None, label: None, deprecated: false, no_prefix_route: false }
    }
}

impl Address {
    /// Gives the form in which the kernel would show this address on `link`, so that equal means equal.
    #[must_use]
    pub fn canonical(&self, link: &LinkName) -> Self {
        let Self { address, peer, scope, label, deprecated, no_prefix_route } = self.clone();
        Self {
            address,
            peer: peer.filter(|p| *p != address.addr()),
            scope: scope.filter(|s| address.addr().is_ipv4() && *s != Scope::Global),
            label: label.filter(|l| l != link.as_str()),
            deprecated,
            no_prefix_route,
        }
    }

    /// Tells whether the kernel would take both for one: all else about an address can be changed. Both in the kernel's form.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.address == other.address && self.peer == other.peer
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, peer, scope, label, deprecated, no_prefix_route } = self;
        write!(f, "{address}")?;
        if let Some(peer) = peer {
            write!(f, " peer {peer}")?;
        }
        if let Some(scope) = scope {
            write!(f, " scope {}", scope.as_str())?;
        }
        if let Some(label) = label {
            write!(f, " label {label}")?;
        }
        if *deprecated {
            f.write_str(" deprecated")?;
        }
        if *no_prefix_route {
            f.write_str(" no-prefix-route")?;
        }
        Ok(())
    }
}

/// The routing table that is used where none is named.
pub const MAIN_TABLE: u32 = 254;

/// What happens to packets that a route or rule is about (`ip route add TYPE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteType {
    /// Sent on their way.
    #[default]
    Unicast,
    /// Dropped in silence.
    Blackhole,
    /// Refused: host unreachable.
    Unreachable,
    /// Refused: administratively prohibited.
    Prohibit,
}

impl RouteType {
    /// The word in configuration and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_unicast(&self) -> bool {
        *self == Self::Unicast
    }
}

/// A route: `ip route add TO via VIA dev LINK src SOURCE metric METRIC table TABLE`; a gateway is the route to everywhere. One
/// that refuses packets has no link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Destination, host bits zero; `0.0.0.0/0` or `::/0` is the default route.
    pub to: IpNet,
    #[serde(default, rename = "type", skip_serializing_if = "RouteType::is_unicast")]
    pub kind: RouteType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Priority, lower is better; none is the kernel's: 0 for IPv4, 1024 for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// None is the main table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// IPv4: how far the destination is; none is global with a gateway, else link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Bytes that packets by this route may have at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The gateway is on this link although no address covers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_link: bool,
}

/// What makes two routes one in the kernel's eyes: table, destination, metric.
pub type RouteKey = (u32, IpNet, u32);

impl Route {
    /// Gives a route with everything but the destination at its default.
    #[must_use]
    pub fn new(to: IpNet) -> Self {
        Self { to, kind: RouteType::Unicast, via: None, source: None, metric: None, table: None, scope: None, mtu: None, on_link: false }
    }

    /// Tells whether this is a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }

    /// Tells which routes cannot be there beside this one.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        (self.table.unwrap_or(MAIN_TABLE), self.to, self.effective_metric())
    }

    /// Gives the form in which the kernel would show this route, so that equal means equal.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self {
            metric: Some(self.effective_metric()),
            table: Some(self.table.unwrap_or(MAIN_TABLE)),
            scope: self.effective_scope(),
            ..self.clone()
        }
    }

    /// The metric that the kernel shows for this route: what is asked for, else its own default for the family
    /// (`IP6_RT_PRIO_USER` is 1024).
    #[must_use]
    pub fn effective_metric(&self) -> u32 {
        match (self.metric, self.to) {
            (Some(0) | None, IpNet::V6(_)) => 1024,
            (metric, _) => metric.unwrap_or(0),
        }
    }

    /// The scope of an IPv4 route: ip(8) has the same defaults. IPv6 has none.
    #[must_use]
    pub fn effective_scope(&self) -> Option<Scope> {
        let by_default = if self.via.is_some() || self.kind != RouteType::Unicast { Scope::Global } else { Scope::Link };
        self.to.addr().is_ipv4().then(|| self.scope.unwrap_or(by_default))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, kind, via, source, metric, table, scope, mtu, on_link } = self;
        if *kind != RouteType::Unicast {
            write!(f, "{} ", kind.as_str())?;
        }
        if self.is_default() {
            write!(f, "{} default", if to.addr().is_ipv4() { "IPv4" } else { "IPv6" })?;
        } else {
            write!(f, "{to}")?;
        }
        if let Some(via) = via {
            write!(f, " via {via}")?;
        }
        if let Some(source) = source {
            write!(f, " source {source}")?;
        }
        if let Some(metric) = metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(table) = table.filter(|table| *table != MAIN_TABLE) {
            write!(f, " table {table}")?;
        }
        if let Some(scope) = scope {
            write!(f, " scope {}", scope.as_str())?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        if *on_link {
            f.write_str(" on-link")?;
        }
        Ok(())
    }
}

/// A rule that chooses a routing table: `ip rule add from FROM iif IIF fwmark MARK table TABLE priority PRIORITY`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// First, for it is what rules are ordered by.
    pub priority: u32,
    /// Of IPv6; a rule for both families is two rules.
    pub ipv6: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpNet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpNet>,
    /// The link that the packet comes in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<Fwmark>,
    /// The table to look into; only where packets are to be sent on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    #[serde(default, rename = "type", skip_serializing_if = "RouteType::is_unicast")]
    pub kind: RouteType,
}

impl Rule {
    /// The rules that a new namespace has behind the one for the table `local`, which nobody can flush: for `main` and, of IPv4,
    /// `default` (`fib_default_rules_init`, `fib6_rules_net_init`).
    pub fn of_the_kernel(ipv6: bool) -> impl Iterator<Item = Self> {
        let tables = [(32766, MAIN_TABLE), (32767, 253)].into_iter().take(if ipv6 { 1 } else { 2 });
        tables.map(move |(priority, table)| Self {
            priority,
            ipv6,
            from: None,
            to: None,
            iif: None,
            fwmark: None,
            table: Some(table),
            kind: RouteType::Unicast,
        })
    }
}

/// A mark of packets, and which of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fwmark {
    pub mark: u32,
    pub mask: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, ipv6, from, to, iif, fwmark, table, kind } = self;
        write!(f, "{} {priority}:", if *ipv6 { "IPv6" } else { "IPv4" })?;
        match from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(to) = to {
            write!(f, " to {to}")?;
        }
        if let Some(iif) = iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(Fwmark { mark, mask }) = fwmark {
            write!(f, " fwmark {mark:#x}")?;
            if *mask != u32::MAX {
                write!(f, "/{mask:#x}")?;
            }
        }
        if *kind != RouteType::Unicast {
            write!(f, " {}", kind.as_str())?;
        }
        table.map_or(Ok(()), |table| write!(f, " table {table}"))
    }
}

/// How IPv6 addresses are checked for duplicates before they are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dad {
    /// Asks once and waits 0.1 s for an answer.
    #[default]
    Wait,
    /// Waits as long as RFC 4862 says: a random delay of up to 1 s, then 1 s.
    Rfc,
    /// Uses the address at once and gives it up when somebody answers (RFC 4429).
    Optimistic,
    /// Does not ask.
    Off,
}
