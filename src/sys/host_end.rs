//! What is on the host ends of a namespace's pairs: addresses, routes and VLANs.

use std::collections::BTreeMap;

use anyhow::Result;

use super::netlink::{self, Socket};
use crate::model::{HostEnd, Kind, LinkName, Netns, Route};

/// Fills in the addresses, routes and VLANs of host ends, by the names of the links inside and the indexes of the ends on the host; only
/// where one of `known` has some, for each takes a list of all of the host. Addresses and routes that are in none of `known` belong to others.
pub fn observe(host: &mut Socket, indexes: &BTreeMap<LinkName, u32>, netns: &mut Netns, known: [&Netns; 2]) -> Result<()> {
    let ends = |name: &LinkName| known.iter().filter_map(|netns| netns.links.get(name)?.kind.host_end()).collect::<Vec<&HostEnd>>();
    let any = |has: fn(&HostEnd) -> bool| indexes.keys().any(|name| ends(name).into_iter().any(has));
    let vlans = if any(|end| end.port.vlans.is_some()) { netlink::vlans(host)? } else { BTreeMap::new() };
    let addresses = if any(|end| !end.addresses.is_empty()) { netlink::addresses(host)? } else { Vec::new() };
    let has_routes = any(|end| !end.routes.is_empty());
    for (name, index) in indexes {
        let Some(Kind::Veth(end)) = netns.links.get_mut(name).map(|link| &mut link.kind) else { continue };
        end.port.vlans = vlans.get(index).cloned();
        let of_end = addresses.iter().filter(|state| state.index == *index).map(|state| state.address.address);
        end.addresses = of_end.filter(|address| ends(name).iter().any(|end| end.addresses.contains(address))).collect();
        if has_routes {
            let routes = netlink::routes_of(host, *index)?.into_iter().map(|state| state.route);
            let plain = routes.filter(|route| route.canonical() == Route::new(route.to).canonical()).map(|route| route.to);
            end.routes = plain.filter(|to| ends(name).iter().any(|end| end.routes.contains(to))).collect();
        }
    }
    Ok(())
}
