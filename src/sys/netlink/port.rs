//! Ports of bridges: their settings and VLANs -> messages, and back. Bridges themselves, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use anyhow::{Context, Result, bail};
use rtnetlink::{
    LinkUnspec,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{
            AfSpecBridge, BridgeFlag, BridgeStpState, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData, InfoKind,
            InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
        },
    },
};

use super::{Batch, KernelLink, Socket, link_by_name, links};
use crate::{
    diff::NetnsChange,
    model::{HostLink, LinkName, Port, PortVlans, ranges},
};

/// The VLANs that there are; 0 and 4095 are reserved (`VLAN_VID_MASK`).
pub(super) const VLANS: RangeInclusive<u16> = 1..=4094;

/// A bridge, seen as the bridge itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeState {
    pub stp: bool,
    pub vlan_filtering: bool,
    /// The VLAN that a new port has, untagged; 0 is none.
    pub default_pvid: u16,
}

pub(super) fn bridge_state(infos: &[InfoBridge]) -> BridgeState {
    let mut state = BridgeState::default();
    for info in infos {
        match info {
            InfoBridge::StpState(stp) => state.stp = *stp != BridgeStpState::Disabled,
            InfoBridge::VlanFiltering(on) => state.vlan_filtering = *on,
            InfoBridge::VlanDefaultPvid(id) => state.default_pvid = *id,
            _ => {}
        }
    }
    state
}

/// Reads the settings of a port; its VLANs are not among them (see [`vlans`]).
pub(super) fn settings(infos: &[InfoBridgePort]) -> Port {
    let mut port = Port::default();
    for info in infos {
        match info {
            InfoBridgePort::Isolated(on) => port.isolated = Some(*on),
            InfoBridgePort::HairpinMode(on) => port.hairpin = Some(*on),
            InfoBridgePort::Learning(on) => port.learning = Some(*on),
            InfoBridgePort::NeighSupress(on) => port.neighbor_suppression = Some(*on),
            InfoBridgePort::FastLeave(on) => port.fast_leave = Some(*on),
            InfoBridgePort::Cost(cost) => port.cost = Some(*cost),
            InfoBridgePort::Priority(priority) => port.priority = Some(*priority),
            _ => {}
        }
    }
    port
}

/// Sets a port as it is asked for. Only `RTM_NEWLINK` takes the settings (`rtnl_changelink` calls `slave_changelink`);
/// without `NLM_F_CREATE` it makes nothing.
pub(super) fn set_port(name: &LinkName, port: &Port) -> RouteNetlinkMessage {
    let Port { isolated, hairpin, learning, neighbor_suppression, fast_leave, cost, priority, vlans: _ } = port;
    let infos = [
        isolated.map(InfoBridgePort::Isolated),
        hairpin.map(InfoBridgePort::HairpinMode),
        learning.map(InfoBridgePort::Learning),
        neighbor_suppression.map(InfoBridgePort::NeighSupress),
        fast_leave.map(InfoBridgePort::FastLeave),
        cost.map(InfoBridgePort::Cost),
        priority.map(InfoBridgePort::Priority),
    ];
    let data = InfoPortData::BridgePort(infos.into_iter().flatten().collect());
    change(name, vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)])
}

fn change(name: &LinkName, infos: Vec<LinkInfo>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_string()), LinkAttribute::LinkInfo(infos)];
    RouteNetlinkMessage::NewLink(message)
}

/// Gives a port, or the bridge itself, the VLANs that are asked for and takes it out of those in `others` that are not. First the
/// new ones, so that those that stay are never missing; the kernel does not mind the removal of what is not there
/// (`br_vlan_info`).
pub(super) fn set_vlans(index: u32, is_bridge: bool, vlans: &PortVlans, others: RangeInclusive<u16>) -> Vec<RouteNetlinkMessage> {
    let untagged = vlans.untagged.filter(|id| VLANS.contains(id));
    let is_wanted = |id: &u16| untagged == Some(*id) || vlans.tagged.contains(id);
    let gone: BTreeSet<u16> = others.filter(|id| VLANS.contains(id) && !is_wanted(id)).collect();
    let of_port = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
    let mut wanted: Vec<_> = untagged.map(|vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags: of_port, vid })).into_iter().collect();
    let tagged: BTreeSet<u16> = vlans.tagged.iter().copied().filter(|id| untagged != Some(*id)).collect();
    wanted.extend(vlan_infos(&tagged));
    let message = |mut infos: Vec<AfSpecBridge>| {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = index;
        infos.extend(is_bridge.then_some(AfSpecBridge::Flags(BridgeFlag::LowerDev)));
        message.attributes = vec![LinkAttribute::AfSpecBridge(infos)];
        message
    };
    let add = (!wanted.is_empty()).then(|| RouteNetlinkMessage::SetLink(message(wanted)));
    let remove = (!gone.is_empty()).then(|| RouteNetlinkMessage::DelLink(message(vlan_infos(&gone).collect())));
    add.into_iter().chain(remove).collect()
}

fn vlan_infos(ids: &BTreeSet<u16>) -> impl Iterator<Item = AfSpecBridge> {
    let info = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
    ranges(ids).flat_map(move |(first, last)| {
        if first == last {
            vec![info(first, BridgeVlanInfoFlags::empty())]
        } else {
            vec![info(first, BridgeVlanInfoFlags::RangeBegin), info(last, BridgeVlanInfoFlags::RangeEnd)]
        }
    })
}

/// Reads the VLANs of all bridge ports and bridges, by index. The kernel has no way to ask for one of them.
pub fn vlans(socket: &mut Socket) -> Result<BTreeMap<u32, PortVlans>> {
    let mut request = LinkMessage::default();
    request.header.interface_family = AddressFamily::Bridge;
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
    let objects = socket.dump(&RouteNetlinkMessage::GetLink(request)).context("failed to list VLANs of bridge ports")?;
    Ok(vlans_of(objects))
}

pub(super) fn vlans_of(objects: Vec<RouteNetlinkMessage>) -> BTreeMap<u32, PortVlans> {
    let mut all: BTreeMap<u32, PortVlans> = BTreeMap::new();
    for object in objects {
        let RouteNetlinkMessage::NewLink(message) = object else { continue };
        let vlans = all.entry(message.header.index).or_insert_with(|| PortVlans { untagged: Some(0), ..PortVlans::default() });
        let specs =
            message.attributes.into_iter().filter_map(|a| if let LinkAttribute::AfSpecBridge(specs) = a { Some(specs) } else { None });
        let mut begin = None;
        for spec in specs.flatten() {
            let AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) = spec else { continue };
            if flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                begin = Some(vid);
            } else if flags.contains(BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged) {
                vlans.untagged = Some(vid);
            } else {
                vlans.tagged.extend(begin.take().unwrap_or(vid)..=vid);
            }
        }
    }
    all
}

/// Looks up the indexes of host ends that changes name, where the kernel takes no names.
pub fn host_ends(socket: &mut Socket, changes: &[NetnsChange]) -> Result<BTreeMap<LinkName, u32>> {
    let mut indexes = BTreeMap::new();
    for change in changes {
        let (NetnsChange::SetVlans { host_end, .. }
        | NetnsChange::AddHostAddress { host_end, .. }
        | NetnsChange::RemoveHostAddress { host_end, .. }
        | NetnsChange::AddHostRoute { host_end, .. }
        | NetnsChange::RemoveHostRoute { host_end, .. }) = change
        else {
            continue;
        };
        if !indexes.contains_key(host_end) {
            indexes.extend(link_by_name(socket, host_end.as_str())?.map(|link| (host_end.clone(), link.index)));
        }
    }
    Ok(indexes)
}

/// Sets what is asked for of a bridge or an uplink and differs; a bridge's own state and addresses are left to networkd. Filtering
/// begins last, when the VLANs are in place.
pub fn set_host_link(socket: &mut Socket, name: &LinkName, before: &HostLink, after: &HostLink) -> Result<()> {
    let HostLink { is_bridge, up, master, mac, mtu, addresses: _, stp, vlan_filtering, vlans } = after;
    let Some(link) = link_by_name(socket, name.as_str())? else { return Ok(()) };
    let mut messages = Vec::new();
    let mut attributes: Vec<LinkAttribute> = Vec::new();
    attributes.extend(mac.filter(|_| before.mac != *mac).map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(mtu.filter(|_| before.mtu != *mtu).map(LinkAttribute::Mtu));
    let joins = match master.as_ref().filter(|_| before.master != *master) {
        Some(bridge) => link_by_name(socket, bridge.as_str())?.map(|bridge| bridge.index),
        None => None,
    };
    attributes.extend(joins.map(LinkAttribute::Controller));
    let comes_up = !is_bridge && *up && !before.up;
    if comes_up || !attributes.is_empty() {
        let mut message = if comes_up { LinkUnspec::new_with_index(link.index).up().build() } else { LinkMessage::default() };
        message.header.index = link.index;
        message.attributes = attributes;
        messages.push(RouteNetlinkMessage::SetLink(message));
    }
    let of_bridge = |info| change(name, vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(vec![info]))]);
    let stp_state = |on| if on { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    messages.extend(stp.filter(|_| before.stp != *stp).map(|on| of_bridge(InfoBridge::StpState(stp_state(on)))));
    if *is_bridge && *vlan_filtering == Some(true) && before.vlan_filtering != *vlan_filtering {
        // `DefaultPVID=none`, which networkd up to 256 sets only when it starts the next time. The kernel then takes the former
        // VLAN from ports that are to keep it, so they get it back in the same breath (`br_vlan_disable_default_pvid`).
        messages.push(of_bridge(InfoBridge::VlanDefaultPvid(0)));
        messages.extend(default_vlan_of_ports(socket, &link)?);
    }
    // what networkd has not made a port yet has no VLANs
    let takes_vlans = *is_bridge || link.master.is_some() || joins.is_some();
    if let Some(vlans) = vlans.as_ref().filter(|vlans| takes_vlans && !before.vlans.as_ref().is_some_and(|before| before.has(vlans))) {
        // An admin may add VLANs. But where nobody kept them apart, there is only the kernel's own choice; and what was untagged
        // goes, or it would leave without a tag still (networkd takes no VLAN from a port up to systemd 255).
        let others = before.vlans.as_ref().map_or(VLANS, |vlans| vlans.untagged.map_or(0..=0, |id| id..=id));
        messages.extend(set_vlans(link.index, *is_bridge, vlans, others));
    }
    messages.extend(vlan_filtering.filter(|_| before.vlan_filtering != *vlan_filtering).map(|on| of_bridge(InfoBridge::VlanFiltering(on))));
    request(socket, messages).with_context(|| format!("failed to set link '{name}' as configured"))
}

/// Makes a link a port of a bridge, with these settings.
pub fn put_on_bridge(socket: &mut Socket, link: &LinkName, bridge: &LinkName, port: &Port) -> Result<()> {
    let failed = || format!("failed to put link '{link}' on bridge '{bridge}'");
    let Some(found) = link_by_name(socket, bridge.as_str())? else { bail!("{}: there is none", failed()) };
    let mut messages = vec![with_attribute(link, LinkAttribute::Controller(found.index)), set_port(link, port)];
    if let (Some(port), Some(vlans)) = (link_by_name(socket, link.as_str())?, &port.vlans) {
        messages.extend(set_vlans(port.index, false, vlans, VLANS));
    }
    request(socket, messages).with_context(failed)
}

/// Sets a link down.
pub fn set_down(socket: &mut Socket, link: &LinkName) -> Result<()> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(link.to_string())];
    message.header.change_mask = LinkFlags::Up;
    request(socket, vec![RouteNetlinkMessage::SetLink(message)]).with_context(|| format!("failed to set link '{link}' down"))
}

fn with_attribute(link: &LinkName, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(link.to_string()), attribute];
    RouteNetlinkMessage::SetLink(message)
}

fn request(socket: &mut Socket, messages: Vec<RouteNetlinkMessage>) -> Result<()> {
    let mut batch = Batch::default();
    messages.into_iter().for_each(|message| batch.push((), message, 0));
    match socket.request(batch)?.into_iter().next() {
        Some(((), refusal)) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Gives ports of a bridge the VLAN that they have because it is the bridge's default.
fn default_vlan_of_ports(socket: &mut Socket, bridge: &KernelLink) -> Result<Vec<RouteNetlinkMessage>> {
    let default = bridge.bridge.as_ref().map(|state| state.default_pvid).filter(|id| *id != 0);
    let ports: BTreeSet<u32> = links(socket)?.into_iter().filter(|port| port.master == Some(bridge.index)).map(|port| port.index).collect();
    let have_it =
        vlans(socket)?.into_iter().filter(|(index, vlans)| ports.contains(index) && default.is_some() && vlans.untagged == default);
    let only = PortVlans { untagged: default, ..PortVlans::default() };
    Ok(have_it.flat_map(|(index, _)| set_vlans(index, false, &only, 0..=0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The VLANs of a request as `bridge vlan` has them: `+10P` for the one without tags, `+20-30`, `-1-9`.
    fn words(messages: Vec<RouteNetlinkMessage>) -> String {
        let mut words = Vec::new();
        for message in messages {
            let (sign, message) = match message {
                RouteNetlinkMessage::SetLink(message) => ('+', message),
                RouteNetlinkMessage::DelLink(message) => ('-', message),
                other => panic!("{other:?}"),
            };
            assert_eq!((message.header.interface_family, message.header.index), (AddressFamily::Bridge, 7));
            let [LinkAttribute::AfSpecBridge(specs)] = message.attributes.as_slice() else { panic!("{message:?}") };
            for spec in specs {
                words.push(match spec {
                    AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) => match flags.bits() {
                        0 => format!("{sign}{vid}"),
                        6 => format!("{sign}{vid}P"),
                        8 => format!("{sign}{vid}-"),
                        16 => format!("{vid}"),
                        other => panic!("flags {other}"),
                    },
                    AfSpecBridge::Flags(BridgeFlag::LowerDev) => "self".to_owned(),
                    other => panic!("{other:?}"),
                });
            }
        }
        words.join(" ")
    }

    #[test]
    fn a_port_gets_its_vlans_and_loses_all_others() {
        let vlans = |untagged, tagged: &[u16]| PortVlans { untagged, tagged: tagged.iter().copied().collect() };
        for (wanted, is_bridge, others, said) in [
            (vlans(Some(10), &[20, 21, 22, 10, 4094]), false, VLANS, "+10P +20- 22 +4094 -1- 9 -11- 19 -23- 4093"),
            (vlans(Some(0), &[2]), false, VLANS, "+2 -1 -3- 4094"),
            (vlans(None, &[]), false, VLANS, "-1- 4094"),
            (vlans(Some(5), &[]), true, 1..=1, "+5P self -1 self"),
            (vlans(Some(5), &[6]), true, 5..=5, "+5P +6 self"),
            (vlans(Some(5), &[]), true, 0..=0, "+5P self"),
        ] {
            assert_eq!(words(set_vlans(7, is_bridge, &wanted, others)), said);
        }
    }
}
