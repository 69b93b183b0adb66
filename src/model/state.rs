//! The state of a host, desired or observed.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{LinkName, Mac, Netns, NetnsName, PortVlans, UnitName};

/// Everything this tool looks after on one host. The same type is what should be and what is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// By absolute path on the host (below `--root`).
    pub files: BTreeMap<PathBuf, File>,
    /// Bridges and uplinks on the host. systemd-networkd owns them.
    pub links: BTreeMap<LinkName, HostLink>,
    /// Units that run in a namespace. systemd owns them.
    pub units: BTreeMap<UnitName, Unit>,
    /// Namespaces that exist. A namespace whose services are stopped does not.
    pub netns: BTreeMap<NetnsName, Netns>,
    /// DHCP clients that run, and whether they have read their settings as they are now.
    pub clients: BTreeMap<NetnsName, bool>,
}

/// Goes through two maps at once, in the order of their keys.
pub fn joined<'a, K: Ord, A, B>(
    one: &'a BTreeMap<K, A>,
    other: &'a BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, Option<&'a A>, Option<&'a B>)> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let a = if order.is_le() { one.next() } else { None };
        let b = if order.is_ge() { other.next() } else { None };
        let key = a.map(|(key, _)| key).or(b.map(|(key, _)| key))?;
        Some((key, a.map(|(_, value)| value), b.map(|(_, value)| value)))
    })
}

/// A file and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub content: String,
    pub provenance: Provenance,
}

/// Who wrote a file last, by the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Provenance {
    /// We did, and nobody has changed it since.
    Ours,
    /// We did, and somebody edited it.
    Edited,
    /// Somebody else did.
    Foreign,
}

/// A link on the host. Desired: what must hold at least (more addresses are nobody's fault).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLink {
    pub is_bridge: bool,
    pub up: bool,
    /// The bridge it is a port of.
    pub master: Option<LinkName>,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub addresses: BTreeSet<IpNet>,
    /// Of a bridge: spanning tree.
    pub stp: Option<bool>,
    /// Of a bridge: it keeps VLANs apart.
    pub vlan_filtering: Option<bool>,
    /// Of a bridge that keeps VLANs apart, as the port that the host itself is, and of its uplinks.
    pub vlans: Option<PortVlans>,
}

impl HostLink {
    /// Tells whether it has at least what is desired of it; networkd and admins may add to it.
    #[must_use]
    pub fn has(&self, desired: &Self) -> bool {
        let Self { is_bridge, up, master, mac, mtu, addresses, stp, vlan_filtering, vlans } = desired;
        (!is_bridge || self.is_bridge)
            && (!up || self.up)
            && (master.is_none() || self.master == *master)
            && (mac.is_none() || self.mac == *mac)
            && (mtu.is_none() || self.mtu == *mtu)
            && addresses.is_subset(&self.addresses)
            && (stp.is_none() || self.stp == *stp)
            && (vlan_filtering.is_none() || self.vlan_filtering == *vlan_filtering)
            && vlans.as_ref().is_none_or(|vlans| self.vlans.as_ref().is_some_and(|own| own.has(vlans)))
    }
}

/// A unit and its namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The namespace its settings name in all three places (`BindsTo=`, `After=`, `NetworkNamespacePath=`).
    pub bound_to: Option<NetnsName>,
    /// Where its processes are; none when it does not run.
    pub runs_in: Option<Place>,
    /// Entries of `/etc/netns/NAME` that its processes see in place of those of `/etc`; empty when it does not run.
    pub etc: BTreeSet<String>,
}

impl Unit {
    /// Names the files under `/etc` that processes would see differently: `/etc/hosts, /etc/resolv.conf`.
    #[must_use]
    pub fn etc_changes(&self, other: &Self) -> String {
        self.etc.symmetric_difference(&other.etc).map(|file| format!("/etc/{file}")).collect::<Vec<_>>().join(", ")
    }
}

/// A network namespace as seen from a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The host's own.
    Host,
    Netns(NetnsName),
    /// One that has no name any more, or none of ours.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_maps_side_by_side() {
        let all = |one: &[u8], other: &[u8]| -> Vec<(u8, bool, bool)> {
            let map = |keys: &[u8]| keys.iter().map(|key| (*key, *key)).collect::<BTreeMap<_, _>>();
            let (one, other) = (map(one), map(other));
            joined(&one, &other).map(|(key, a, b)| (*key, a.is_some(), b.is_some())).collect()
        };
        let (left, right, both) = (|key| (key, true, false), |key| (key, false, true), |key| (key, true, true));
        assert_eq!(all(&[1, 2, 5], &[2, 3, 4]), [left(1), both(2), right(3), right(4), left(5)]);
        assert_eq!(all(&[1], &[]), [left(1)]);
        assert_eq!(all(&[], &[1, 2]), [right(1), right(2)]);
        assert_eq!(all(&[], &[]), []);
    }
}
