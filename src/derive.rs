//! Names and MAC addresses that the configuration leaves out: derived, so that they are the same after every restart; and hashes.

use sha2::{Digest, Sha256};

use crate::model::{LinkName, Mac, NetnsName, RESERVED_PREFIXES};

/// The two ends of a veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Inside,
    Host,
}

/// Derives the host end's name: `mail-eth0` where that is short enough and cannot be taken for another pair's, else six bytes of
/// the namespace's name and eight hexadecimal digits of a hash.
#[must_use]
pub fn host_name(netns: &NetnsName, link: &LinkName) -> LinkName {
    let plain = format!("{netns}-{link}");
    // `a-b` + `c` and `a` + `b-c` would be one name, so a namespace with a dash gets the hash
    let ambiguous = netns.as_str().contains('-') || RESERVED_PREFIXES.iter().any(|p| plain.starts_with(p));
    let name = if plain.len() <= 15 && !ambiguous {
        plain
    } else {
        let [a, b, c, d, ..] = hash(&["host-name", netns.as_str(), link.as_str()]);
        // '_' keeps this form apart from the plain one and from every reserved prefix
        let stem: String = netns.as_str().chars().take(6).map(|ch| if ch == '-' { '_' } else { ch }).collect();
        format!("{stem}_{a:02x}{b:02x}{c:02x}{d:02x}")
    };
    LinkName::parse_ours(&name).expect("built of checked names, at most 15 bytes, outside the reserved prefixes")
}

/// Derives the MAC address of one end from the host's machine-id: stable, locally administered, unicast. The machine-id itself
/// cannot be read back from it, as machine-id(5) asks.
#[must_use]
pub fn mac(machine_id: &str, netns: &NetnsName, link: &LinkName, end: End) -> Mac {
    let side = match end {
        End::Inside => "inside",
        End::Host => "host",
    };
    let [a, b, c, d, e, f, ..] = hash(&["mac", machine_id, netns.as_str(), link.as_str(), side]);
    Mac([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// The SHA-256 of a text, in hexadecimal digits.
#[must_use]
pub fn sha256(text: &str) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    Sha256::digest(text).into_iter().flat_map(digits).collect()
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut sha = Sha256::new_with_prefix("netns-networkd");
    for part in parts {
        // NUL is in no name: ["ab", "c"] and ["a", "bc"] stay different
        sha.update([0]);
        sha.update(part);
    }
    sha.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(netns: &str, link: &str) -> String {
        host_name(&NetnsName::parse(netns).unwrap(), &LinkName::parse(link).unwrap()).to_string()
    }

    #[test]
    fn host_names_are_readable_short_and_never_reserved() {
        assert_eq!(name("mail", "eth0"), "mail-eth0");
        assert_eq!(name("a", "b-c"), "a-b-c");
        // these are part of the contract: a change here renames links on running hosts
        assert_eq!(name("a-b", "c"), "a_b_a91aea70");
        assert_eq!(name("ve", "eth0").len(), 11);
        assert_eq!(name("averylongname15", "averylonglink15").len(), 15);
        assert!(name("ns", "x").starts_with("ns_"));
    }

    #[test]
    fn macs_are_local_unicast_and_differ_by_end_and_host() {
        let netns = NetnsName::parse("mail").unwrap();
        let link = LinkName::parse("eth0").unwrap();
        let inside = mac("0123", &netns, &link, End::Inside);
        assert_eq!(inside.0[0] & 0x03, 0x02);
        assert_eq!(inside, mac("0123", &netns, &link, End::Inside));
        assert_ne!(inside, mac("0123", &netns, &link, End::Host));
        assert_ne!(inside, mac("4567", &netns, &link, End::Inside));
    }
}
