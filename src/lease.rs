//! What a DHCP client learns and what becomes of it: its report -> [`Lease`] -> `resolv.conf`.
//!
//! Pure. All of it comes from the network: nothing is taken over that is not an address or a domain name.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

/// The first line of a `resolv.conf` that is made from leases: whose the file is.
const HEADER: &str = "# Made by netns-networkd from what DHCP gave; `dns` in the configuration is used instead.";
/// resolv.conf(5): what the resolver library looks at.
const RESOLVERS: usize = 3;

/// What one protocol has given one link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// It comes with an address that can be used.
    pub address: bool,
    pub routers: Vec<String>,
    pub resolvers: Vec<String>,
    pub search: Vec<String>,
}

/// What a report of dhcpcd says, with the name of the protocol by which it learned of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `renewed`: of something that was there before, and may be as it was.
    Learned {
        name: String,
        lease: Lease,
        renewed: bool,
    },
    Lost {
        name: String,
    },
}

/// Reads the environment that dhcpcd gives its script (dhcpcd-run-hooks(8)); none if it is about something else.
#[must_use]
pub fn read_event(env: &BTreeMap<String, String>) -> Option<Event> {
    let get = |key: &str| env.get(key).map_or("", String::as_str);
    let (link, protocol, reason) = (get("interface"), get("protocol"), get("reason"));
    let name = format!("{link}.{protocol}");
    let is = |key| get(key) == "true";
    let lease = match protocol {
        _ if link.is_empty() || link.contains('/') => return None,
        "dhcp" => {
            let search = if get("new_domain_search").is_empty() { "new_domain_name" } else { "new_domain_search" };
            let given = Given::new(link).routers(get("new_routers")).resolvers(get("new_domain_name_servers")).search(get(search));
            Lease { address: true, ..given.0 }
        }
        "dhcp6" => {
            let given = Given::new(link).resolvers(get("new_dhcp6_name_servers")).search(get("new_dhcp6_domain_search"));
            Lease { address: true, ..given.0 }
        }
        "ra" => read_advertisements(link, get),
        _ => return None,
    };
    if is("if_up") || reason == "ROUTERADVERT" {
        Some(Event::Learned { name, lease, renewed: matches!(reason, "RENEW" | "RENEW6" | "ROUTERADVERT") })
    } else {
        is("if_down").then_some(Event::Lost { name })
    }
}

/// Router advertisements, numbered from 1, with their options, numbered from 1.
fn read_advertisements<'a>(link: &str, get: impl Fn(&str) -> &'a str) -> Lease {
    let mut given = Given::new(link);
    let (mut managed, mut addresses) = (false, false);
    for router in (1..).take_while(|n| !get(&format!("nd{n}_from")).is_empty()) {
        let option = |name: &str| get(&format!("nd{router}_{name}"));
        let options = |prefix: &'static str, suffix: &'static str| {
            (1..).map(move |n| option(&format!("{prefix}{n}{suffix}"))).take_while(|value| !value.is_empty())
        };
        managed |= option("flags").contains('M');
        addresses |= options("addr", "").next().is_some();
        given = given.routers(option("from"));
        given = options("rdnss", "_servers").fold(given, Given::resolvers);
        given = options("dnssl", "_search").fold(given, Given::search);
    }
    // where a router says that addresses are managed, one by DHCPv6 is to come
    Lease { address: addresses && !managed, ..given.0 }
}

/// A lease while it is read.
struct Given<'a>(Lease, &'a str);

impl<'a> Given<'a> {
    fn new(link: &'a str) -> Self {
        Self(Lease::default(), link)
    }

    fn routers(mut self, words: &str) -> Self {
        self.0.routers.extend(words.split_whitespace().map(ToOwned::to_owned));
        self
    }

    fn resolvers(mut self, words: &str) -> Self {
        let on_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(ip));
        for ip in words.split_whitespace().filter_map(|word| word.parse::<IpAddr>().ok()) {
            self.0.resolvers.push(if on_link(&ip) { format!("{ip}%{}", self.1) } else { ip.to_string() });
        }
        self
    }

    fn search(mut self, words: &str) -> Self {
        self.0.search.extend(words.split_whitespace().filter(|word| is_domain(word)).map(ToOwned::to_owned));
        self
    }
}

/// RFC 1035, and the underscore that some use.
fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Gives the `resolv.conf` of all leases together, in their order.
#[must_use]
pub fn resolv_conf<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> String {
    let (mut resolvers, mut search): (Vec<&str>, Vec<&str>) = Default::default();
    for lease in leases {
        for (all, more) in [(&mut resolvers, &lease.resolvers), (&mut search, &lease.search)] {
            for item in more {
                if !all.contains(&item.as_str()) {
                    all.push(item);
                }
            }
        }
    }
    let mut text = format!("{HEADER}\n");
    for ip in resolvers.iter().take(RESOLVERS) {
        text += &format!("nameserver {ip}\n");
    }
    if !search.is_empty() {
        text += &format!("search {}\n", search.join(" "));
    }
    text
}

/// Tells whether a `resolv.conf` was made from leases.
#[must_use]
pub fn is_from_leases(text: &str) -> bool {
    text.starts_with(HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Option<Event> {
        let pair = |line: &str| line.trim().split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        read_event(&text.lines().filter_map(pair).collect())
    }

    fn learned(text: &str) -> (String, Lease, bool) {
        match event(text) {
            Some(Event::Learned { name, lease, renewed }) => (name, lease, renewed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_leases_of_both_families() {
        let (name, lease, renewed) = learned(
            "reason=BOUND\ninterface=eth0\nprotocol=dhcp\nif_up=true\nif_down=false\nnew_routers=192.0.2.1\n\
             new_domain_name_servers=192.0.2.53 192.0.2.54\nnew_domain_name=lan.test\nnew_domain_search=a.test b.test",
        );
        assert_eq!((name.as_str(), renewed, lease.address), ("eth0.dhcp", false, true));
        assert_eq!(lease.routers, ["192.0.2.1"]);
        assert_eq!(lease.resolvers, ["192.0.2.53", "192.0.2.54"]);
        assert_eq!(lease.search, ["a.test", "b.test"]);

        let (name, lease, renewed) = learned(
            "reason=RENEW6\ninterface=eth0\nprotocol=dhcp6\nif_up=true\nnew_dhcp6_name_servers=2001:db8::53 fe80::53\n\
             new_dhcp6_domain_search=lan6.test",
        );
        assert_eq!((name.as_str(), renewed, lease.address), ("eth0.dhcp6", true, true));
        assert_eq!(lease.resolvers, ["2001:db8::53", "fe80::53%eth0"]);

        let lease = |text: &str| learned(&format!("interface=eth0\nprotocol=ra\nreason=ROUTERADVERT\n{text}")).1;
        let both = lease(
            "nd1_from=fe80::1\nnd1_flags=O\nnd1_addr1=2001:db8::5/64\nnd1_rdnss1_servers=2001:db8::1 2001:db8::2\n\
             nd1_rdnss2_servers=2001:db8::3\nnd2_from=fe80::2\nnd2_dnssl1_search=ra.test",
        );
        assert_eq!(both.resolvers, ["2001:db8::1", "2001:db8::2", "2001:db8::3"]);
        assert_eq!((both.address, both.routers.len(), both.search), (true, 2, vec!["ra.test".to_owned()]));
        assert!(!lease("nd1_from=fe80::1\nnd1_flags=MO\nnd1_addr1=2001:db8::5/64").address, "an address by DHCPv6 is to come");
        assert!(!lease("nd1_from=fe80::1\nnd1_flags=O").address, "no address, or one that is still being checked");
    }

    #[test]
    fn takes_nothing_over_that_is_no_address_or_domain() {
        let (_, lease, _) = learned(
            "reason=BOUND\ninterface=eth0\nprotocol=dhcp\nif_up=true\nnew_domain_name_servers=192.0.2.53 $(reboot) 192.0.2.300\n\
             new_domain_search=good.test options;x -bad.test ..  under_score.test. a\\nb",
        );
        assert_eq!(lease.resolvers, ["192.0.2.53"]);
        assert_eq!(lease.search, ["good.test", "under_score.test."]);
    }

    #[test]
    fn tells_loss_from_what_it_is_not_about() {
        let lost = event("reason=EXPIRE\ninterface=eth0\nprotocol=dhcp\nif_up=false\nif_down=true");
        assert_eq!(lost, Some(Event::Lost { name: "eth0.dhcp".to_owned() }));
        assert_eq!(event("reason=NOCARRIER\ninterface=eth0\nprotocol=link\nif_up=false\nif_down=true"), None);
        assert_eq!(event("reason=BOUND\ninterface=../x\nprotocol=dhcp\nif_up=true"), None);
        assert_eq!(event("reason=PREINIT\ninterface=eth0\nprotocol=dhcp\nif_up=false\nif_down=false"), None);
    }

    #[test]
    fn joins_leases() {
        let lease = |resolvers: &[&str], search: &[&str]| Lease {
            resolvers: resolvers.iter().map(ToString::to_string).collect(),
            search: search.iter().map(ToString::to_string).collect(),
            ..Lease::default()
        };
        let text =
            resolv_conf(&[lease(&["192.0.2.1", "192.0.2.2"], &["a.test"]), lease(&["192.0.2.2", "::1", "::2"], &["a.test", "b.test"])]);
        assert!(is_from_leases(&text));
        assert_eq!(
            text.split_once('\n').map(|(_, rest)| rest),
            Some("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver ::1\nsearch a.test b.test\n")
        );
    }
}
