//! State -> the text of `.netdev`, `.network` and drop-in files. The only user of `ini`.
//!
//! What each line is for, and the versions of systemd that need it, stands at the function that writes it.

mod dhcp;
mod dns;
mod network;
mod unit;

pub use dhcp::{dhcpcd_conf, dhcpcd_wants};
pub use dns::{nsswitch_conf, resolv_conf};
pub use network::{bridge_netdev, bridge_network, foreign_port_network, pair_network, port_network, uplink_network, vlan_netdev};
pub use unit::{netns_drop_in, unit_drop_in};

use std::net::IpAddr;

use ini::{EscapePolicy, Ini, ParseOption, Properties, WriteOption};

/// A unit or network file: sections in order, some of them repeated, settings in order, some of them repeated.
#[derive(Default)]
struct UnitFile {
    ini: Ini,
}

impl UnitFile {
    fn section<'a>(mut self, name: &str, settings: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut properties = Properties::new();
        for (key, value) in settings {
            // a newline would begin a setting of its own; Config has refused it, so this is a bug if it happens
            assert!(!value.contains(char::is_control), "control character in {key}=");
            properties.append(key, value);
        }
        if !properties.is_empty() {
            match self.ini.entry(Some(name.to_owned())) {
                ini::SectionEntry::Vacant(entry) => {
                    entry.insert(properties);
                }
                ini::SectionEntry::Occupied(mut entry) => entry.append(properties),
            }
        }
        self
    }

    /// Gives the text. `source` is the file that it comes from, `file:line` or `file`.
    fn text(&self, source: &str) -> String {
        let options = WriteOption { escape_policy: EscapePolicy::Nothing, line_separator: ini::LineSeparator::CR, kv_separator: "=" };
        let mut bytes = Vec::new();
        // writing to memory does not fail
        let _ = self.ini.write_to_opt(&mut bytes, options);
        let body = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        format!("{}\n{body}\n", header(source))
    }
}

/// The first lines of every file: where it comes from. Without the line number, which would change with every edit above.
fn header(source: &str) -> String {
    // a file name may hold anything but NUL and '/'; a newline in it would begin a line of its own
    let file = source.rsplit_once(':').map_or(source, |(file, _)| file).replace(char::is_control, "?");
    format!(
        "# Made by netns-networkd from {file}; change it there and run `netns-networkd sync`.\n\
         # To add settings, use a drop-in: an edit here is kept and reported, and never updated again."
    )
}

/// The copy of an nftables ruleset that `up` loads.
#[must_use]
pub fn ruleset(text: &str, path: &str) -> String {
    format!("{}\n{text}", header(path))
}

/// What `.network` files and their drop-ins of somebody else give a link.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OwnSettings {
    pub addresses: Vec<String>,
    /// Of default routes.
    pub gateways: Vec<String>,
    pub dns: Vec<String>,
    /// `DHCP=`, if that is not `no`.
    pub dhcp: Option<String>,
    pub accept_ra: bool,
}

/// Reads a file and its drop-ins. A file that cannot be read as systemd.syntax(7) gives nothing; networkd ignores such lines too.
#[must_use]
pub fn own_settings(texts: &[String]) -> OwnSettings {
    let options = || ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let mut own = OwnSettings::default();
    for file in texts.iter().filter_map(|text| Ini::load_from_str_opt(text, options()).ok()) {
        let all = |section: &str, setting: &str| -> Vec<String> {
            let values = file.section_all(Some(section)).flat_map(|section| section.get_all(setting)).map(str::to_owned);
            values.filter(|value| !value.is_empty()).collect()
        };
        own.addresses.extend([all("Network", "Address"), all("Address", "Address")].concat());
        own.dns.extend(all("Network", "DNS").iter().flat_map(|value| value.split_whitespace()).map(str::to_owned));
        let is_default = |to: Option<&str>| to.is_none_or(|to| ["", "0.0.0.0/0", "::/0"].contains(&to));
        let routes = file.section_all(Some("Route")).filter(|route| is_default(route.get("Destination")));
        let gateways = routes.filter_map(|route| route.get("Gateway")).map(str::to_owned);
        // _dhcp4 and _ipv6ra come with a lease
        own.gateways.extend(all("Network", "Gateway").into_iter().chain(gateways).filter(|gateway| gateway.parse::<IpAddr>().is_ok()));
        let is_off = |value: &String| ["no", "false", "0", "off", "n", "f"].contains(&value.as_str());
        if let Some(dhcp) = all("Network", "DHCP").pop() {
            own.dhcp = Some(dhcp).filter(|value| !is_off(value));
        }
        if let Some(accept_ra) = all("Network", "IPv6AcceptRA").pop() {
            own.accept_ra = !is_off(&accept_ra);
        }
    }
    own
}

/// `yes` and `no` of systemd.
fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_are_what_networkd_reads() {
        let text = "# a\n[Match]\nName=eno1\n\n[Network]\nDHCP=ipv4\nAddress=192.0.2.2/24\nAddress=2001:db8::2/64\nGateway=_ipv6ra\n\
                    DNS=192.0.2.53 192.0.2.54\n[Address]\nAddress=192.0.2.3/24\n[Route]\nGateway=192.0.2.1\n[Route]\nGateway=192.0.2.9\n\
                    Destination=10.0.0.0/8\n";
        let strings = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut own = OwnSettings {
            addresses: strings("192.0.2.2/24 2001:db8::2/64 192.0.2.3/24"),
            gateways: strings("192.0.2.1"),
            dns: strings("192.0.2.53 192.0.2.54"),
            dhcp: Some("ipv4".to_owned()),
            accept_ra: false,
        };
        assert_eq!(own_settings(&[text.to_owned()]), own);
        let drop_in = "[Network]\nDHCP=no\nIPv6AcceptRA=yes\n";
        (own.dhcp, own.accept_ra) = (None, true);
        assert_eq!(own_settings(&[text.to_owned(), drop_in.to_owned()]), own);
        assert_eq!(own_settings(&["[Network\nAddress".to_owned()]), OwnSettings::default());
    }
}
