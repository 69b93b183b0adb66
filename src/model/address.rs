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
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, peer, scope, label, deprecated, no_prefix_route } = self;
        write!(f, "{address}")?;
        if let Some(peer) = peer {
            write!(f, " peer {peer}")?;
        }
        if let Some(scope) = scope {
            write!(f, " scope {}", format!("{scope:?}").to_lowercase())?;
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

/// A route out of a link: `ip route add TO via VIA dev LINK src SOURCE metric METRIC`; a gateway is the route to everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Destination, host bits zero; `0.0.0.0/0` or `::/0` is the default route.
    pub to: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Priority, lower is better; none is the kernel's: 0 for IPv4, 1024 for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The gateway is on this link although no address covers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_link: bool,
}

impl Route {
    /// Tells whether this is a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.to.prefix_len() == 0
    }

    /// Gives the form in which the kernel would show this route, so that equal means equal.
    #[must_use]
    pub fn canonical(&self) -> Self {
        Self { metric: Some(self.effective_metric()), ..self.clone() }
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
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, via, source, metric, on_link } = self;
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
        if *on_link {
            f.write_str(" on-link")?;
        }
        Ok(())
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
