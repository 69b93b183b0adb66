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

/// What a `.network` file of somebody else gives its link: the values of `Address=`, and of `DHCP=` if that is not `no`.
///
/// A file that cannot be read as systemd.syntax(7) gives nothing; networkd ignores such lines too.
#[must_use]
pub fn own_addressing(text: &str) -> Vec<String> {
    let options = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let Ok(file) = Ini::load_from_str_opt(text, options) else { return Vec::new() };
    let sections = |name| file.section_all(Some(name));
    let addresses = sections("Network").chain(sections("Address")).flat_map(|section| section.get_all("Address")).map(str::to_owned);
    let off = ["no", "false", "0", "off", "n", "f", ""];
    let dhcp = sections("Network").filter_map(|section| section.get_all("DHCP").next_back()).filter(|value| !off.contains(value));
    addresses.chain(dhcp.map(|value| format!("DHCP={value}"))).filter(|value| !value.is_empty()).collect()
}

/// `yes` and `no` of systemd.
fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addressing_reads_what_networkd_would() {
        let text = "# a\n[Match]\nName=eno1\n\n[Network]\nDHCP=ipv4\nAddress=192.0.2.2/24\nAddress=2001:db8::2/64\n[Address]\nAddress=192.0.2.3/24\n";
        assert_eq!(own_addressing(text), ["192.0.2.2/24", "2001:db8::2/64", "192.0.2.3/24", "DHCP=ipv4"]);
        assert_eq!(own_addressing("[Network]\nDHCP=no\nLinkLocalAddressing=no\n"), Vec::<String>::new());
        assert_eq!(own_addressing("[Network\nAddress"), Vec::<String>::new());
    }
}
