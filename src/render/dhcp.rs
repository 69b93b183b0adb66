//! dhcpcd.conf(5) of the client that runs in a namespace. docs/decisions/0012-dhcp.md says why each line is there.

use std::collections::BTreeMap;

use super::header;
use crate::{
    config::Dhcp,
    model::{LinkName, Netns},
};

/// Settings for all links.
const SETTINGS: &str = "\
duid ll
clientid
vendorclassid
require dhcp_server_identifier
option domain_name_servers, domain_name, domain_search, classless_static_routes
option dhcp6_name_servers, dhcp6_domain_search
slaac hwaddr
nodelay
noarp
noipv4ll
lastlease
timeout 0
";
/// The first metric of routes by DHCP: the configuration's own have a lower one, of IPv6 1024.
const METRIC: usize = 2000;

/// The configuration of dhcpcd for the links of a namespace that get addresses by DHCP.
#[must_use]
pub fn dhcpcd_conf(dhcp: &BTreeMap<LinkName, Dhcp>, netns: &Netns) -> String {
    let names: Vec<&str> = dhcp.keys().map(LinkName::as_str).collect();
    let mut text = format!("{}\nallowinterfaces {}\n{SETTINGS}", header(&netns.source), names.join(" "));
    for (number, (name, families)) in dhcp.iter().enumerate() {
        text += &format!("\ninterface {name}\nmetric {}\n", METRIC + number);
        text += match families {
            Dhcp::Ipv4 => "ipv4only\n",
            Dhcp::Ipv6 => "ipv6only\n",
            Dhcp::Both => "",
        };
        if *families != Dhcp::Ipv4 && !netns.links.get(name).is_some_and(|link| link.accept_ra) {
            text += "ipv6ra_noautoconf\n";
        }
    }
    text
}

/// Lists what such a configuration asks for: links, and whether IPv4 or IPv6.
#[must_use]
pub fn dhcpcd_wants(text: &str) -> Vec<(String, bool)> {
    let mut wants = Vec::new();
    for block in text.split("\ninterface ").skip(1) {
        let mut lines = block.lines();
        let name = lines.next().unwrap_or_default();
        let has = |setting| block.lines().any(|line| line == setting);
        wants.extend((!has("ipv6only")).then(|| (name.to_owned(), true)));
        wants.extend((!has("ipv4only")).then(|| (name.to_owned(), false)));
    }
    wants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_what_it_was_made_for() {
        let link = |name: &str| LinkName::parse(name).unwrap();
        let dhcp = BTreeMap::from([(link("eth0"), Dhcp::Ipv4), (link("eth1"), Dhcp::Ipv6), (link("eth2"), Dhcp::Both)]);
        let text = dhcpcd_conf(&dhcp, &Netns { source: "/etc/netns-networkd/a.toml:1".to_owned(), ..Netns::default() });
        let wants = [("eth0", true), ("eth1", false), ("eth2", true), ("eth2", false)];
        assert_eq!(dhcpcd_wants(&text), wants.map(|(name, ipv4)| (name.to_owned(), ipv4)));
    }
}
