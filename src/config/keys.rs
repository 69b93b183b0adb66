//! The keys of every table, and what each takes.

/// What one kind of table may hold.
#[derive(Debug)]
pub struct Keys {
    /// Key, and what it takes.
    pub known: &'static [(&'static str, &'static str)],
}

impl Keys {
    /// Says what a key takes.
    #[must_use]
    pub fn form(&self, key: &str) -> &'static str {
        self.known.iter().find(|(name, _)| *name == key).map_or("", |(_, form)| form)
    }

    /// Lists the keys for a message.
    #[must_use]
    pub fn names(&self) -> String {
        self.known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

const ADDRESSES: &str = r#"an array of addresses with prefix length: ["192.0.2.10/24", "2001:db8:1::10/64"]"#;
const GATEWAYS: &str = r#"an array of gateways: ["192.0.2.1", { via = "2001:db8:1::1", metric = 100 }]"#;
const ROUTES: &str = r#"an array of routes: [{ to = "198.51.100.0/24", via = "192.0.2.254" }]"#;
const DNS: &str = r#"an array of resolver addresses: ["192.0.2.53", "2001:db8:1::53"]"#;
const MAC: &str = r#"six pairs of hexadecimal digits: "02:00:5e:10:00:01""#;
const MTU: &str = "a number of bytes from 68 to 65535, at least 1280 where there is IPv6: 1500";
const ADDRESS: &str = r#"an IP address without prefix length: "192.0.2.1""#;
const METRIC: &str = "a number from 0 to 4294967295, the lower the better: 100";
const SWITCH: &str = "true or false";
const PREFIX: &str = r#"a prefix or an address: "198.51.100.0/24", "2001:db8:1::10""#;
const ROUTING_TABLE: &str = r#"a number from 1 to 4294967295, "main", "default" or "local": 100"#;
const SCOPE: &str = r#""global", "link" or "host""#;
const ROUTE_TYPE: &str = r#""unicast", "blackhole", "unreachable" or "prohibit""#;
const KEY_FILE: &str = r#"an absolute path, or the name of a systemd credential: "/etc/wireguard/mail.key", "mail.key""#;
pub(super) const OUR_LINK: &str =
    "1 to 15 letters, digits, '.', '_' and '-', not beginning with ve- vb- vz- vt- ns- (systemd's own files match these)";
const ANY_LINK: &str = "the name of a link on the host, at most 15 bytes: \"br-lan\"";

/// A file as a whole.
pub static FRAGMENT: Keys = Keys { known: &[("namespace", "tables [namespace.NAME]"), ("bridge", "tables [bridge.NAME]")] };

/// `[namespace.NAME]`
pub static NAMESPACE: Keys = Keys {
    known: &[
        ("description", "text on one line"),
        ("services", r#"an array of units: ["postfix.service", "dovecot.service"]"#),
        ("dns", DNS),
        ("dns-search", r#"an array of domain names: ["example.org"]"#),
        ("dns-options", r#"an array of options of resolv.conf(5): ["edns0", "timeout:2"]"#),
        ("ipv6", SWITCH),
        ("sysctl", r#"a table of kernel parameters: { "net.ipv4.ip_forward" = 1 }"#),
        ("nftables", r#"an absolute path: "/etc/netns-networkd/mail.nft""#),
        ("loopback-addresses", r#"an array of addresses: ["198.51.100.53", "2001:db8:53::53/128"]"#),
        ("rules", r#"an array of rules: [{ from = "192.0.2.10", table = 100 }]"#),
        ("interface", "tables [namespace.NAME.interface.NAME]"),
    ],
};

/// `[namespace.NAME.interface.NAME]`
pub static INTERFACE: Keys = Keys {
    known: &[
        ("kind", r#""veth", "macvlan", "ipvlan", "physical", "dummy" or "wireguard""#),
        ("bridge", ANY_LINK),
        ("parent", r#"the name of a link on the host, at most 15 bytes: "eno1""#),
        ("host-name", OUR_LINK),
        ("host-addresses", r#"an array of addresses with prefix length: ["192.0.2.0/31", "2001:db8:1::/127"]"#),
        ("mac", MAC),
        ("host-mac", MAC),
        ("mtu", MTU),
        ("addresses", ADDRESSES),
        ("gateways", GATEWAYS),
        ("routes", ROUTES),
        ("dad", r#""wait", "rfc", "optimistic" or "off""#),
        ("accept-ra", SWITCH),
        ("dhcp", r#""no", "ipv4", "ipv6" or "yes""#),
        ("announce", SWITCH),
        ("private-key-file", KEY_FILE),
        ("listen-port", "a UDP port from 1 to 65535: 51820"),
        ("fwmark", r#"a number from 1 to 4294967295: 16, 0x10 or "0x10""#),
        ("peers", r#"an array of peers: [{ public-key = "…", endpoint = "192.0.2.1:51820", allowed-ips = ["0.0.0.0/0"] }]"#),
        ("vlan", VLAN),
        ("vlans", r#"an array of VLAN numbers from 1 to 4094 and ranges of them: [10, "100-199"]"#),
        ("isolated", SWITCH),
        ("hairpin", SWITCH),
        ("learning", SWITCH),
        ("neighbor-suppression", SWITCH),
        ("fast-leave", SWITCH),
        ("cost", "a number from 1 to 65535, the lower the better: 100"),
        ("priority", "a number from 0 to 63, the lower the better: 32"),
    ],
};

/// Keys of an interface that set up the bridge port that its host end is.
pub(super) const PORT: [&str; 9] =
    ["vlan", "vlans", "isolated", "hairpin", "learning", "neighbor-suppression", "fast-leave", "cost", "priority"];

/// Keys that only some kinds of interfaces take, and which these are.
pub(super) const OF_KINDS: [(&[&str], &[&str]); 6] = [
    (&["bridge", "host-name", "host-addresses", "host-mac"], &["veth"]),
    (&PORT, &["veth"]),
    (&["parent"], &["macvlan", "ipvlan", "physical"]),
    (&["mac"], &["veth", "macvlan", "physical", "dummy"]),
    (&["accept-ra", "dhcp"], &["veth", "macvlan", "ipvlan", "physical"]),
    (&["private-key-file", "listen-port", "fwmark", "peers"], &["wireguard"]),
];

/// `[bridge.NAME]`
pub static BRIDGE: Keys = Keys {
    known: &[
        ("uplinks", r#"an array of links: ["eno1", { vlan = 20, parent = "eno2" }]"#),
        ("addresses", ADDRESSES),
        ("gateways", GATEWAYS),
        ("routes", ROUTES),
        ("dns", DNS),
        ("mac", MAC),
        ("mtu", MTU),
        ("stp", SWITCH),
        ("vlan-filtering", SWITCH),
        ("default-pvid", r#"a VLAN number from 1 to 4094, or "none": 1"#),
    ],
};

/// An entry of `addresses` or `loopback-addresses` that is a table.
pub static ADDRESS_ENTRY: Keys = Keys {
    known: &[
        ("address", r#"an address with prefix length: "192.0.2.10/24""#),
        ("peer", ADDRESS),
        ("scope", SCOPE),
        ("label", "the interface's name, or it with ':' and more behind, at most 15 bytes: \"eth0:mail\""),
        ("deprecated", SWITCH),
        ("no-prefix-route", SWITCH),
    ],
};

/// An entry of `gateways` that is a table.
pub static GATEWAY_ENTRY: Keys = Keys { known: &[("via", ADDRESS), ("on-link", SWITCH), ("source", ADDRESS), ("metric", METRIC)] };

/// An entry of `routes`.
pub static ROUTE_ENTRY: Keys = Keys {
    known: &[
        ("to", r#"a prefix, an address or "default": "198.51.100.0/24", "2000::/3""#),
        ("via", ADDRESS),
        ("source", ADDRESS),
        ("metric", METRIC),
        ("table", ROUTING_TABLE),
        ("scope", SCOPE),
        ("mtu", "a number of bytes from 68 to 65520, at least 1280 for IPv6: 1400"),
        ("on-link", SWITCH),
        ("type", ROUTE_TYPE),
    ],
};

/// An entry of `rules`.
pub static RULE_ENTRY: Keys = Keys {
    known: &[
        ("from", PREFIX),
        ("to", PREFIX),
        ("iif", "an interface of the namespace, or \"lo\" for its own packets"),
        ("fwmark", r#"a number from 0 to 4294967295, or it with a mask in a string: 16, "0x10/0xff""#),
        ("table", ROUTING_TABLE),
        ("priority", "a number from 1 to 4294967295, the lower the earlier: 100"),
        ("type", ROUTE_TYPE),
    ],
};

/// An entry of `uplinks` that is a table.
pub static UPLINK_ENTRY: Keys = Keys { known: &[("vlan", VLAN), ("parent", ANY_LINK)] };

const VLAN: &str = "a VLAN number from 1 to 4094: 20";

/// An entry of `peers`.
pub static PEER_ENTRY: Keys = Keys {
    known: &[
        ("public-key", "44 characters of base64, as `wg pubkey` prints them"),
        ("preshared-key-file", KEY_FILE),
        ("endpoint", r#"an IP address and a port: "192.0.2.1:51820", "[2001:db8::1]:51820""#),
        ("allowed-ips", r#"an array of prefixes or addresses: ["0.0.0.0/0", "2001:db8:1::10"]"#),
        ("keepalive", "a number of seconds from 1 to 65535: 25"),
    ],
};

/// Finds the word that was probably meant.
pub fn suggest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // a distance of a third: 'dns' for 'dnss', 'addresses' for 'adreses', but not 'mac' for 'via'
    let most = (word.chars().count() / 3).max(1);
    words.into_iter().map(|w| (distance(word, w), w)).filter(|(d, _)| *d <= most).min_by_key(|(d, _)| *d).map(|(_, w)| w)
}

/// Finds the name that was probably meant: `eth0` is no misspelt `eth1`.
pub(super) fn suggest_name<'w>(name: &str, names: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let letters = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    suggest(name, names.into_iter().filter(|other| letters(other) != letters(name)))
}

/// Counts the letters to insert, remove, change, or swap with their neighbour to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near() {
        let keys = || INTERFACE.known.iter().map(|(name, _)| *name);
        assert_eq!(suggest("addreses", keys()), Some("addresses"));
        assert_eq!(suggest("mut", keys()), Some("mtu"));
        assert_eq!(suggest("host_name", keys()), Some("host-name"));
        assert_eq!(suggest("gateway", keys()), Some("gateways"));
        assert_eq!(suggest("colour", keys()), None);
        assert_eq!(suggest("", keys()), None);
    }
}
