//! Bridges, uplinks and what is on them.

use std::collections::BTreeMap;

use super::{Facts, Finding, Link, Role, names};
use crate::model::NetnsName;

/// A port waits twice for its bridge's forward delay; `up` waits no longer than this (sys/ready.rs), in seconds.
const READY_WAIT: u32 = 40;

fn bridges(facts: &Facts) -> impl Iterator<Item = (&String, &Link)> {
    facts.links.iter().filter(|(_, link)| link.there && matches!(link.role, Role::Bridge | Role::ForeignBridge))
}

pub(super) fn uplink(facts: &Facts) -> Vec<Finding> {
    let finding = |(name, link): (&String, &Link)| {
        let bridge = link.wanted_bridge.as_ref()?;
        let why = format!("what is on bridge '{bridge}' reaches only what else is on it, not the network outside");
        let (found, remedy) = match link {
            Link { wireless: true, .. } => (
                format!("uplink '{name}' of bridge '{bridge}' is a Wi-Fi link"),
                "use a wired uplink, or point-to-point pairs with routing: an access point takes frames from its stations' own addresses alone"
                    .to_owned(),
            ),
            Link { there: false, .. } => {
                (format!("uplink '{name}' of bridge '{bridge}' does not exist"), "`ip -br link` shows what the link is called now; correct `uplinks`, then sync".to_owned())
            }
            Link { up: false, .. } => (format!("uplink '{name}' of bridge '{bridge}' is down"), format!("`networkctl status {name}` shows why; `networkctl up {name}`")),
            Link { carrier: false, .. } => {
                (format!("uplink '{name}' of bridge '{bridge}' has no carrier"), "look at the cable, and at the port of the switch".to_owned())
            }
            _ => return None,
        };
        Some(Finding::fault(found, why, remedy))
    };
    facts.links.iter().filter(|(_, link)| link.role == Role::Uplink).filter_map(finding).collect()
}

/// Bridges whose address is that of the port with the lowest one.
pub(super) fn mac(facts: &Facts) -> Vec<Finding> {
    let moving = bridges(facts).filter(|(_, link)| link.mac_is_set == Some(false));
    let finding = |(name, link): (&String, &Link)| {
        let mac = link.mac.as_deref().unwrap_or("02:…");
        let foreign = link.role == Role::ForeignBridge;
        Finding::risk(
            format!("the MAC address of bridge '{name}' changes with its ports: nobody has set one"),
            "each time that a port with a lower address comes or goes, the host itself has another one, and neighbours lose it until they ask \
             again",
            if foreign {
                format!(
                    "`ip link set dev {name} address {mac}` keeps the present one until the bridge is made anew; for good, set it where the \
                     bridge is configured (networkd: MACAddress= in its .netdev, ifupdown: hwaddress, libvirt: <mac address=…/>)"
                )
            } else {
                format!("`mac = \"{mac}\"` in [bridge.{name}], then `netns-networkd sync`")
            },
        )
    };
    moving.map(finding).collect()
}

/// Ends that send larger frames than what comes after them takes: they are dropped without a word.
pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pairs = facts.namespaces.iter().flat_map(|(netns, namespace)| {
        namespace.interfaces.iter().filter_map(move |(name, i)| Some((netns, name, facts.links.get(i.host_end.as_ref()?)?, i.mtu?)))
    });
    for (netns, interface, host_end, inside) in pairs {
        if host_end.there && host_end.mtu != inside {
            findings.push(
                Finding::fault(
                    format!("link '{interface}' in netns '{netns}' has MTU {inside}, its host end {}", host_end.mtu),
                    "the end with the smaller one drops what the other one sends: small packets pass, large ones are lost",
                    format!("`netns-networkd sync` sets both; `mtu` of [namespace.{netns}.interface.{interface}] says to what"),
                )
                .of(netns),
            );
        }
    }
    for (bridge, _) in bridges(facts) {
        let ports = || facts.links.iter().filter(|(_, link)| link.there && link.bridge.as_ref() == Some(bridge));
        let narrow = ports().filter(|(_, link)| link.role == Role::Uplink || link.netns.is_none()).min_by_key(|(_, link)| link.mtu);
        let Some((narrow, smallest)) = narrow.map(|(name, link)| (name, link.mtu)) else { continue };
        let wide: BTreeMap<u32, Vec<&str>> =
            ports().filter(|(_, link)| link.netns.is_some() && link.mtu > smallest).fold(BTreeMap::new(), |mut all, (name, link)| {
                all.entry(link.mtu).or_insert_with(Vec::new).push(name);
                all
            });
        for (mtu, links) in wide {
            let have = if links.len() == 1 { "has" } else { "have" };
            findings.push(Finding::fault(
                format!("{} {have} MTU {mtu}, port '{narrow}' of the same bridge '{bridge}' {smallest}", names("host end", "host ends", links)),
                "a bridge does not split frames and tells nobody: connections open, and stop with the first large packet",
                format!("give '{narrow}' the larger MTU, or the namespaces the smaller one: `mtu = {smallest}` in [bridge.{bridge}] or in their interfaces, then sync"),
            ));
        }
    }
    findings
}

pub(super) fn spanning_tree(facts: &Facts) -> Vec<Finding> {
    let delayed = bridges(facts).filter_map(|(name, link)| Some((name, link.forward_delay?, link.role == Role::ForeignBridge)));
    let finding = |(name, delay, foreign): (&String, u32, bool)| {
        let wait = 2 * delay;
        let found = format!("bridge '{name}' has spanning tree on: a new port waits {wait} s before it forwards");
        let remedy = if foreign {
            format!(
                "where no loop can be, `ip link set dev {name} type bridge stp_state 0`, and the same where the bridge is configured; else a forward delay of 4 s"
            )
        } else {
            format!("where no loop can be, `stp = false` in [bridge.{name}], then `netns-networkd sync`")
        };
        if wait >= READY_WAIT {
            Finding::fault(found, format!("`up` waits {READY_WAIT} s for its port, so no namespace comes up on this bridge"), remedy)
        } else {
            Finding::risk(found, "every start of a namespace on this bridge takes so long", remedy)
        }
    };
    delayed.map(finding).collect()
}

pub(super) fn duplicates(facts: &Facts) -> Vec<Finding> {
    let inside = facts.namespaces.iter().flat_map(|(netns, namespace)| {
        namespace.interfaces.iter().flat_map(move |(name, i)| i.duplicates.iter().map(move |address| (Some(netns), name, address)))
    });
    let outside =
        facts.links.iter().flat_map(|(name, link)| link.duplicates.iter().map(move |address| (None::<&NetnsName>, name, address)));
    let finding = |(netns, name, address): (Option<&NetnsName>, &String, &ipnet::IpNet)| {
        let (inside, command) = netns.map_or((String::new(), format!("ip -6 neigh show {}", address.addr())), |netns| {
            (format!(" in netns '{netns}'"), format!("ip -6 neigh show {}", address.addr()))
        });
        let finding = Finding::fault(
            format!("address {address} of link '{name}'{inside} is used by somebody else on its network"),
            "the kernel has found that by duplicate detection and does not use the address: nobody can listen on it",
            format!(
                "find the other one (`{command}`, on another host of that network, shows its MAC address), take the address from it, then \
                 `netns-networkd sync`"
            ),
        );
        match netns {
            Some(netns) => finding.of(netns),
            None => finding,
        }
    };
    inside.chain(outside).map(finding).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn up_waits_as_long_as_is_said() {
        assert_eq!(crate::sys::ready::READY_WAIT.as_secs(), u64::from(super::READY_WAIT));
    }
}
