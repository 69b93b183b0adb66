//! What a link loses when it becomes a port of a bridge, and what to write so that the bridge has it instead.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::Result;
use ipnet::IpNet;

use super::{host, sync::Run};
use crate::{
    config::Bridge,
    desired::networkd_path,
    model::{HostLink, LinkName, Route},
    render,
};

impl Run<'_> {
    /// Says what of its network an uplink would lose, and this host with it; nothing if the bridge gets all of it.
    pub(super) fn network_of_uplink(
        &mut self,
        name: &LinkName,
        bridge: &Bridge,
        uplink: &LinkName,
        link: &HostLink,
    ) -> Result<Option<String>> {
        let kernel = host::addressing(uplink)?;
        // without a carrier it has nothing now, but its file will give it some
        let file = self.file_of_somebody_else(uplink)?;
        let network = networkd_path("bridge", name, "network");
        let admin = render::own_settings(&host::drop_ins(&self.options.root, &network)?);

        let given: BTreeSet<String> = bridge.addresses.iter().map(ToString::to_string).chain(admin.addresses).collect();
        let own: BTreeSet<String> = kernel.addresses.iter().map(ToString::to_string).chain(file.addresses).collect();
        let addresses: Vec<&String> = own.difference(&given).collect();

        let mut routes = kernel.routes;
        let seen: BTreeSet<IpAddr> = routes.iter().filter_map(|route| route.via).collect();
        let unseen = file.gateways.iter().filter_map(|via| via.parse().ok()).filter(|via| !seen.contains(via));
        routes.extend(unseen.map(default_route));
        routes.sort_by_key(Route::effective_metric);
        // a gateway in place of another is a decision, none at all a mistake
        let mut given: Vec<Route> = bridge.routes.clone();
        given.extend(admin.gateways.iter().filter_map(|via| via.parse().ok()).map(default_route));
        let (mut gateways, mut others) = (Vec::new(), Vec::new());
        for route in &routes {
            let same =
                |given: &&Route| given.to == route.to && given.table == route.table && (route.is_default() || given.via == route.via);
            match given.iter().find(same) {
                Some(_) => {}
                None if route.is_default() && route.table.is_none() && route.via.is_some() => {
                    gateways.push(entry("via", route.via, route));
                    given.push(route.clone());
                }
                None => others.push(entry("to", Some(route.to), route)),
            }
        }

        let learns = |v4: bool| kernel.learned.iter().any(|net| net.addr().is_ipv4() == v4);
        let dhcp = file.dhcp.or(learns(true).then(|| "ipv4".to_owned())).filter(|_| admin.dhcp.is_none());
        let accept_ra = learns(false) && !admin.accept_ra;
        if addresses.is_empty() && gateways.is_empty() && others.is_empty() && dhcp.is_none() && !accept_ra {
            return Ok(None);
        }

        let mut lost: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        lost.extend(gateways.iter().map(|gateway| format!("gateway {}", gateway.replace('"', ""))));
        lost.extend(others.iter().map(|route| format!("route {}", route.replace('"', ""))));
        lost.extend(dhcp.iter().map(|dhcp| format!("DHCP={dhcp}")));
        lost.extend(accept_ra.then(|| "IPv6AcceptRA=yes".to_owned()));
        let mut text = format!(
            "{}: uplink '{uplink}' has a network of its own ({}); as a port of '{name}' it would lose it, and so would this host",
            bridge.source,
            lost.join(", ")
        );

        let quoted = |item: &String| format!("\"{item}\"");
        let mut keys = Vec::new();
        if !addresses.is_empty() {
            let of_bridge = bridge.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
            keys.push(list("addresses", of_bridge.iter().chain(addresses).map(quoted).collect()));
        }
        let (default, further): (Vec<&Route>, Vec<&Route>) =
            bridge.routes.iter().partition(|route| route.is_default() && route.via.is_some());
        if !gateways.is_empty() {
            let of_bridge = default.iter().map(|route| entry("via", route.via, route));
            keys.push(list("gateways", of_bridge.chain(gateways).collect()));
        }
        if !others.is_empty() {
            keys.push(list("routes", further.iter().map(|route| entry("to", Some(route.to), route)).chain(others).collect()));
        }
        let mut dns: Vec<String> = bridge.dns.iter().map(ToString::to_string).collect();
        let of_bridge = dns.len();
        dns.extend(file.dns.into_iter().filter(|ip| !bridge.dns.iter().any(|own| own.to_string() == *ip)));
        if dns.len() > of_bridge {
            keys.push(list("dns", dns.iter().map(quoted).collect()));
        }
        // for a reservation
        let mac = link.mac.filter(|_| bridge.mac.is_none() && (dhcp.is_some() || accept_ra));
        keys.extend(mac.map(|mac| format!("mac = \"{mac}\"")));
        if !keys.is_empty() {
            write!(text, "\n  hint: give it to the bridge: in [bridge.{name}], write\n    {}", keys.join("\n    "))?;
        }
        if dhcp.is_some() || accept_ra {
            text += &drop_in(&network, dhcp.as_deref(), accept_ra);
        }
        if host::network_file(self.bus()?, uplink).is_none() {
            // not by networkd, which has files of somebody else give way to ours
            write!(
                text,
                "\n  hint: take it from where '{uplink}' is configured (/etc/network/interfaces, NetworkManager), or the next boot gives it back"
            )?;
        }
        Ok(Some(text))
    }
}

fn list(key: &str, items: Vec<String>) -> String {
    format!("{key} = [{}]", items.join(", "))
}

fn default_route(via: IpAddr) -> Route {
    let any: IpAddr = if via.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Route { via: Some(via), ..Route::new(IpNet::new_assert(any, 0)) }
}

/// Writes a route as an entry of `gateways` or `routes`, which begins with a key of its own.
fn entry(key: &str, value: Option<impl ToString>, route: &Route) -> String {
    let Route { to: _, kind: _, via, source, metric, table, scope: _, mtu: _, on_link } = route;
    let text = |key: &str, value: String| format!("{key} = \"{value}\"");
    let mut keys: Vec<String> = value.map(|value| text(key, value.to_string())).into_iter().collect();
    keys.extend(via.filter(|_| key == "to").map(|via| text("via", via.to_string())));
    keys.extend(source.map(|source| text("source", source.to_string())));
    keys.extend(metric.map(|metric| format!("metric = {metric}")));
    keys.extend(table.map(|table| format!("table = {table}")));
    keys.extend(on_link.then(|| "on-link = true".to_owned()));
    match keys.as_slice() {
        [one] if key == "via" => one.trim_start_matches("via = ").to_owned(),
        keys => format!("{{ {} }}", keys.join(", ")),
    }
}

/// Says how a bridge asks by DHCP or hears router advertisements: that is networkd's own.
fn drop_in(network: &Path, dhcp: Option<&str>, accept_ra: bool) -> String {
    let mut text = format!(
        "\n  hint: the bridge asks in its place when you write {}.d/uplink.conf:\n    [Link]\n    RequiredForOnline=yes\n    [Network]",
        network.display()
    );
    for setting in dhcp.map(|dhcp| format!("DHCP={dhcp}")).into_iter().chain(accept_ra.then(|| "IPv6AcceptRA=yes".to_owned())) {
        text += &format!("\n    {setting}");
    }
    if accept_ra || dhcp != Some("ipv4") {
        text += "\n    LinkLocalAddressing=ipv6";
    }
    text
}
