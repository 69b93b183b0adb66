//! Drop-ins for units (systemd.unit(5)).

use std::collections::BTreeMap;

use super::{UnitFile, header};
use crate::model::{NetnsName, UnitName};

/// The drop-in of a unit that runs in a namespace.
///
/// `BindsTo=` and `After=` only together: without `After=` the service would start before its namespace. With `dns`, the files
/// of `/etc/netns/NAME` are bound over the host's, and the sockets of the host's name service cache are hidden:
/// `NetworkNamespacePath=` does not do that (systemd#28694), and a file-system socket leads out of a network namespace.
#[must_use]
pub fn unit_drop_in(unit: &UnitName, netns: &NetnsName, dns: bool, source: &str) -> String {
    let netns_unit = format!("netns@{netns}.service");
    let mut settings = vec![("NetworkNamespacePath", format!("/run/netns/{netns}"))];
    if dns && !unit.is_socket() {
        for file in ["resolv.conf", "nsswitch.conf"] {
            settings.push(("BindReadOnlyPaths", format!("/etc/netns/{netns}/{file}:/etc/{file}")));
        }
        settings.push(("InaccessiblePaths", "-/run/nscd".to_owned()));
    }
    UnitFile::default()
        .section("Unit", [("BindsTo", netns_unit.clone()), ("After", netns_unit)])
        .section(if unit.is_socket() { "Socket" } else { "Service" }, settings)
        .text(source)
}

/// The drop-in of `netns@NAME.service`: the namespace's description, and the credentials that its WireGuard keys are in, by name,
/// each with whether it is stored encrypted: 252 looks for the one kind only under the one setting, for the other under the other.
#[must_use]
pub fn netns_drop_in(netns: &NetnsName, description: Option<&str>, credentials: &BTreeMap<&str, bool>, source: &str) -> String {
    // `%` begins a specifier
    let literal = |text: &str| text.replace('%', "%%");
    let mut text = header(source);
    if let Some(description) = description {
        text += &format!("\n[Unit]\nDescription=Network namespace {netns}: {}\n", literal(description));
    }
    if !credentials.is_empty() {
        text += "\n[Service]\n";
    }
    for (name, encrypted) in credentials {
        text += &format!("LoadCredential{}={}\n", if *encrypted { "Encrypted" } else { "" }, literal(name));
    }
    text
}
