//! Drop-ins for units (systemd.unit(5)).

use std::collections::BTreeMap;

use super::{UnitFile, header};
use crate::model::{NetnsName, Provenance, UnitName};

/// The drop-in of a unit that runs in a namespace. `etc` is what of `/etc/netns/NAME` it sees in place of the host's `/etc`.
///
/// `BindsTo=` and `After=` only together: without `After=` the service would start before its namespace. The files are bound
/// because `NetworkNamespacePath=` does not do that (systemd#28694): ours must be there, those of an admin (`-`) may go.
///
/// With `dhcp` a service starts when the leases are there. `Requires=` lets it go on if `netns-online@` fails or stops later by itself.
/// A socket does not wait: all of the boot waits for sockets, and its service has the same drop-in.
///
/// With a `resolv.conf` of its own, a service must not reach the host's resolvers past it, which it could through sockets in the
/// file system: those of the name service cache and of systemd-resolved are hidden. Where the host's `resolv.conf` is a link to
/// resolved's, the folder of the service's own is what its file is bound into: a file that is bound over another is gone as soon
/// as that other one is replaced (`detach_mounts` in the kernel), and resolved replaces its own.
#[must_use]
pub fn unit_drop_in(unit: &UnitName, netns: &NetnsName, etc: &BTreeMap<String, Provenance>, dhcp: bool, source: &str) -> String {
    let netns_unit = format!("netns@{netns}.service");
    let online_unit = format!("netns-online@{netns}.service");
    let mut order = vec![("BindsTo", netns_unit.clone()), ("After", netns_unit)];
    if dhcp && !unit.is_socket() {
        order.extend([("Requires", online_unit.clone()), ("After", online_unit)]);
    }
    let mut settings = vec![("NetworkNamespacePath", format!("/run/netns/{netns}"))];
    if !unit.is_socket() {
        for (file, whose) in etc {
            let may_go = if *whose == Provenance::Ours { "" } else { "-" };
            settings.push(("BindReadOnlyPaths", format!("{may_go}/etc/netns/{netns}/{file}:/etc/{file}")));
        }
        if etc.contains_key("resolv.conf") {
            settings.push(("TemporaryFileSystem", "/run/systemd/resolve:ro".to_owned()));
            settings.push(("InaccessiblePaths", "-/run/nscd".to_owned()));
        }
    }
    UnitFile::default().section("Unit", order).section(if unit.is_socket() { "Socket" } else { "Service" }, settings).text(source)
}

/// The drop-in of `netns@NAME.service`: the namespace's description, its DHCP client, and the credentials that its WireGuard keys
/// are in, by name, each with whether it is stored encrypted: 252 looks for the one kind only under the one setting, for the other
/// under the other.
#[must_use]
pub fn netns_drop_in(netns: &NetnsName, description: Option<&str>, dhcp: bool, credentials: &BTreeMap<&str, bool>, source: &str) -> String {
    // `%` begins a specifier
    let literal = |text: &str| text.replace('%', "%%");
    let mut text = header(source);
    if description.is_some() || dhcp {
        text += "\n[Unit]\n";
    }
    if let Some(description) = description {
        text += &format!("Description=Network namespace {netns}: {}\n", literal(description));
    }
    if dhcp {
        text += &format!("Wants=netns-dhcp@{netns}.service\n");
    }
    if !credentials.is_empty() {
        text += "\n[Service]\n";
    }
    for (name, encrypted) in credentials {
        text += &format!("LoadCredential{}={}\n", if *encrypted { "Encrypted" } else { "" }, literal(name));
    }
    text
}
