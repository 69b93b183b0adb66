//! Links: those of the host that matter, and what the report says of those inside.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::Look;
use crate::{
    desired::networkd_path,
    doctor::{Interface, Link, Role},
    model::{LinkName, Netns},
    report::{self, AddressState, Report},
    sys::{
        kernel,
        netlink::{self, KernelLink, Socket},
        networkd, sysctl,
    },
};

impl Look {
    /// The links of the host that matter: bridges, their ports, and what should be one of them.
    pub(super) fn links(&mut self, report: Option<&Report>) -> Result<()> {
        let mut socket = Socket::open()?;
        let kernel_links = netlink::links(&mut socket)?;
        let names: HashMap<u32, &str> = kernel_links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let mut links: BTreeMap<String, Link> = kernel_links.iter().map(|link| (link.name.clone(), see(link, &names))).collect();
        for state in netlink::addresses(&mut socket)?.into_iter().filter(|state| state.duplicate) {
            if let Some(link) = names.get(&state.index).and_then(|name| links.get_mut(*name)) {
                link.duplicates.push(state.address.address);
            }
        }
        let written = |kind: &str, name: &LinkName| {
            let path = networkd_path(kind, name, "network");
            self.manifest.files.contains_key(&path).then_some(path)
        };
        for (netns, record) in &self.records {
            for end in record.links.values().filter_map(|link| link.kind.host_end()) {
                let link = links.entry(end.name.to_string()).or_default();
                link.role = Role::HostEnd;
                link.netns = Some(netns.clone());
                link.wanted_bridge = end.bridge.as_ref().map(ToString::to_string);
                link.wanted_file = written("port", &end.name);
                link.kind.get_or_insert_with(|| "veth".to_owned());
            }
        }
        for bridge in report.iter().flat_map(|report| &report.bridges) {
            let link = links.entry(bridge.name.to_string()).or_default();
            link.role = if bridge.configured { Role::Bridge } else { Role::ForeignBridge };
            link.wanted_file = written("bridge", &bridge.name);
            for port in bridge.ports.iter().filter(|port| port.role == report::Role::Uplink) {
                let link = links.entry(port.name.clone()).or_default();
                link.role = Role::Uplink;
                link.wanted_bridge = Some(bridge.name.to_string());
                link.wanted_file = LinkName::parse(&port.name).ok().and_then(|name| written("uplink", &name));
            }
        }
        links.retain(|_, link| link.role != Role::Other || link.bridge.is_some() || link.required.is_some());
        self.facts.links = links;
        Ok(())
    }
}

/// What the report says of a link inside, and the record of its bridge: it may not be a port of that at the moment.
pub(super) fn interface(link: &report::Interface, record: Option<&Netns>) -> Interface {
    let is_default = |ipv4: bool| {
        link.routes.iter().any(|route| route.to.prefix_len() == 0 && route.table.is_none() && route.to.addr().is_ipv4() == ipv4)
    };
    let end = link.host_end.as_ref();
    let recorded = record.and_then(|record| record.links.get(&LinkName::parse(&link.name).ok()?));
    let bridge = recorded.map_or(link.bridge.as_ref(), |recorded| recorded.kind.bridge());
    Interface {
        kind: link.kind.clone().unwrap_or_default(),
        mtu: link.mtu.filter(|_| link.state != report::LinkState::Absent),
        host_end: end.map(|end| end.name.to_string()),
        bridge: bridge.map(ToString::to_string),
        addresses: link.addresses.iter().map(|address| address.address).collect(),
        gateways: [is_default(true), is_default(false)],
        duplicates: link.addresses.iter().filter(|a| a.state == AddressState::Duplicate).map(|a| a.address).collect(),
    }
}

/// A link of the host, as the kernel and networkd show it.
fn see(link: &KernelLink, names: &HashMap<u32, &str>) -> Link {
    let KernelLink { index, name, kind, mac, mtu, up, carrier, master, bridge, .. } = link;
    let attribute = |attribute: &str| kernel::link_attribute(name, attribute);
    let is_bridge = kind.as_deref() == Some("bridge");
    let calls = |tool: &str| {
        let of_all = sysctl::read(&format!("net.bridge.bridge-nf-call-{tool}")).ok().flatten();
        is_bridge && [of_all, attribute(&format!("bridge/nf_call_{tool}"))].iter().flatten().any(|value| value == "1")
    };
    let state = networkd::link_state(*index).unwrap_or_default();
    Link {
        there: true,
        kind: kind.clone(),
        up: *up,
        carrier: *carrier,
        mtu: *mtu,
        bridge: master.and_then(|index| names.get(&index)).map(|name| (*name).to_owned()),
        file: state.file,
        state: Some(state.state).filter(|state| !state.is_empty()),
        required: state.required,
        // NET_ADDR_SET: what somebody has set does not follow the ports (`br_stp_recalculate_bridge_id`)
        mac_is_set: if is_bridge { attribute("addr_assign_type").map(|kind| kind == "3") } else { None },
        mac: mac.map(|mac| mac.to_string()),
        wireless: kernel::has_link_attribute(name, "phy80211") || kernel::has_link_attribute(name, "wireless"),
        forward_delay: bridge
            .as_ref()
            .filter(|bridge| bridge.stp)
            // in hundredths of a second
            .and_then(|_| attribute("bridge/forward_delay")?.parse::<u32>().ok())
            .map(|delay| delay.div_ceil(100)),
        nf_call: if is_bridge { [calls("iptables"), calls("ip6tables")] } else { [false; 2] },
        ..Link::default()
    }
}
