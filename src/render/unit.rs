//! Drop-ins for units (systemd.unit(5)).

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

/// The drop-in of `netns@NAME.service` that shows the namespace's description.
#[must_use]
pub fn netns_drop_in(netns: &NetnsName, description: &str, source: &str) -> String {
    // `%` begins a specifier
    let text = format!("Network namespace {netns}: {}", description.replace('%', "%%"));
    format!("{}\n[Unit]\nDescription={text}\n", header(source))
}
