//! brctl(8), bridge(8), ifconfig(8), route(8) and wg(8).

use super::{
    commands::{At, Done, Left, Words, missed, switch},
    host::Host,
    ip::{inline, ip, length, number, prefix, text},
    world::{Address, Fact, Kind, Route},
};

pub fn brctl(host: &mut Host<'_>, at: &At, words: &mut Words<'_>) -> Done {
    match words.next().unwrap_or("show") {
        "addbr" => {
            host.bridge(at, words.value("addbr")?);
            Ok(())
        }
        "addif" => {
            let bridge = words.value("addif")?;
            while let Some(link) = words.next() {
                host.enslave(at, link, bridge);
            }
            Ok(())
        }
        "delif" | "delbr" => Err(Left::Needless("ports go with their namespace")),
        "show" | "showmacs" | "showstp" => Ok(()),
        "stp" => {
            let bridge = words.value("stp")?;
            host.key(at, bridge, "stp", switch(words.value("stp")?)?.to_string());
            Ok(())
        }
        "setfd" | "sethello" | "setmaxage" => Err(Left::Needless("of no effect without spanning tree")),
        word @ ("hairpin" | "setpathcost" | "setportprio") => {
            words.value(word)?;
            let link = host.world.link(at.netns.as_deref(), words.value(word)?, &at.from);
            let key = match word {
                "hairpin" => "hairpin",
                "setpathcost" => "cost",
                _ => "priority",
            };
            host.port_key(at, link, key, words.value(word)?)
        }
        word => missed(format!("the configuration has nothing for 'brctl {word}'")),
    }
}

pub fn bridge(host: &mut Host<'_>, at: &At, words: &mut Words<'_>) -> Done {
    let (object, verb) = (words.next().unwrap_or_default(), words.next().unwrap_or("show"));
    if matches!(verb, "show" | "list") {
        return Ok(());
    }
    let (mut dev, mut keys) = (None, Vec::new());
    let (mut vid, mut untagged) = (None, false);
    while let Some(word) = words.next() {
        match (object, word) {
            (_, "dev") => dev = Some(words.value(word)?),
            ("link", _) => keys.push((word, words.value(word)?)),
            ("vlan", "vid") => vid = Some(words.value(word)?),
            ("vlan", "pvid" | "untagged") => untagged = true,
            ("vlan", "master" | "self") => {}
            _ => return missed(format!("the configuration has nothing for 'bridge {object} … {word}'")),
        }
    }
    let Some(dev) = dev else { return missed("there is no link") };
    let link = host.world.link(at.netns.as_deref(), dev, &at.from);
    match (object, verb, vid) {
        ("link", "set", _) => keys.into_iter().try_for_each(|(key, value)| host.port_key(at, link, key, value)),
        ("vlan", "add", Some(vid)) if untagged => {
            host.world.links[link].keys.insert("vlan", Fact { value: number(vid)?, from: at.from.clone() });
            Ok(())
        }
        ("vlan", "add", Some(vid)) => {
            let new = if vid.contains('-') { text(vid) } else { number(vid)? };
            let keys = &mut host.world.links[link].keys;
            let all = match keys.get("vlans") {
                Some(old) => format!("{}, {new}]", old.value.trim_end_matches(']')),
                None => format!("[{new}]"),
            };
            keys.insert("vlans", Fact { value: all, from: at.from.clone() });
            Ok(())
        }
        ("vlan", "del" | "delete", _) => Err(Left::Needless("a port with `vlan` or `vlans` is in these and no others")),
        _ => missed(format!("the configuration has nothing for 'bridge {object} {verb}'")),
    }
}

pub fn ifconfig(host: &mut Host<'_>, at: &At, words: &mut Words<'_>) -> Done {
    let Some(name) = words.next() else { return Ok(()) };
    let (dev, label) = match name.split_once(':') {
        Some((dev, _)) => (dev, Some(name.to_owned())),
        None => (name, None),
    };
    if dev == "lo" && words.rest().iter().all(|word| word == "up" || word.starts_with("127.")) {
        return Ok(());
    }
    let link = host.world.link(at.netns.as_deref(), dev, &at.from);
    let mut address: Option<Address> = None;
    let mut others = Vec::new();
    while let Some(word) = words.next() {
        let fact = |value: &str| Some(Fact { value: value.to_owned(), from: at.from.clone() });
        match word {
            "up" | "inet" => {}
            "down" => return Err(Left::Needless("links are up while their namespace is")),
            "netmask" => {
                let mask = words.value(word)?;
                let Some(address) = &mut address else { return missed("a mask has an address before it") };
                let Some(len) = length(mask, address.ip) else { return missed(format!("'{mask}' is no mask")) };
                address.len = len;
            }
            "broadcast" => drop(words.value(word)?),
            "pointopoint" | "dstaddr" => {
                let peer = ip(words.value(word)?)?;
                let Some(address) = &mut address else { return missed("a peer has an address before it") };
                address.peer = Some(peer);
            }
            "mtu" => host.world.links[link].mtu = fact(words.value(word)?),
            "hw" => {
                words.value(word)?;
                host.world.links[link].mac = fact(words.value(word)?);
            }
            "add" => others.push(prefix(words.value(word)?)?),
            "inet6" => {
                if words.peek() == Some("add") {
                    words.next();
                }
                others.push(prefix(words.value(word)?)?);
            }
            "del" | "0.0.0.0" => return Err(Left::Needless("there are the addresses that are named, and no others")),
            _ if address.is_none() => {
                let mut new = prefix(word)?;
                // without a mask it is that of the address's class
                if let (std::net::IpAddr::V4(ip), false) = (new.ip, word.contains('/')) {
                    new.len = match ip.octets()[0] {
                        0..128 => 8,
                        128..192 => 16,
                        _ => 24,
                    };
                }
                new.label.clone_from(&label);
                address = Some(new);
            }
            _ => return missed(format!("the configuration has nothing for '{word}' of ifconfig")),
        }
    }
    others.splice(0..0, address);
    others.into_iter().for_each(|address| host.address(at, dev, address, false));
    Ok(())
}

pub fn route(host: &mut Host<'_>, at: &At, words: &mut Words<'_>) -> Done {
    let (mut dev, mut to, mut mask, mut is_host) = (None, None, None, false);
    let mut route = Route::default();
    let mut verb = None;
    while let Some(word) = words.next() {
        match word {
            "-A" | "--inet6" | "-6" => {
                if word == "-A" {
                    words.value(word)?;
                }
                route.is_ipv6 = true;
            }
            "-n" | "-4" | "-net" => {}
            "add" if verb.is_none() => verb = Some("add"),
            "del" => return Err(Left::Needless("there are the routes that are named, and no others")),
            "-host" => is_host = true,
            "netmask" => mask = Some(words.value(word)?),
            "gw" => route.via = Some(ip(words.value(word)?)?),
            "metric" => route.metric = Some(number(words.value(word)?)?),
            "dev" => dev = Some(words.value(word)?),
            _ if to.is_none() => to = Some(word),
            _ if dev.is_none() => dev = Some(word),
            _ => return missed(format!("'{word}' of route is not known")),
        }
    }
    if verb.is_none() {
        return Ok(());
    }
    let Some(to) = to else { return missed("a route leads somewhere") };
    if to != "default" {
        let mut address = prefix(to)?;
        if let Some(mask) = mask {
            let Some(len) = length(mask, address.ip) else { return missed(format!("'{mask}' is no mask")) };
            address.len = len;
        } else if !is_host && address.ip.is_ipv4() && !to.contains('/') && to.ends_with(".0") {
            return missed("a network has a mask");
        }
        route.is_ipv6 = address.ip.is_ipv6();
        let net = ipnet::IpNet::new(address.ip, address.len).map_or_else(|_| missed("no prefix"), Ok)?;
        route.to = Some(net.trunc().to_string()).filter(|to| to != "0.0.0.0/0" && to != "::/0");
    }
    // route(8) gives those of IPv6 another metric than the kernel does
    if route.is_ipv6 && route.metric.is_none() {
        route.metric = Some("1".to_owned());
    }
    host.route(at, dev, route)
}

/// `wg set`; keys themselves are never written down.
pub fn wg(host: &mut Host<'_>, at: &At, words: &mut Words<'_>) -> Done {
    match words.next() {
        Some("set") => {}
        None | Some("show" | "showconf") => return Ok(()),
        Some(_) => return missed("a file of wg(8) has keys in it, which the configuration keeps in files of their own"),
    }
    let name = words.value("set")?;
    let link = host.world.link(at.netns.as_deref(), name, &at.from);
    if host.world.links[link].kind == Kind::Found {
        host.world.links[link].kind = Kind::Wireguard;
    }
    let fact = |value| Fact { value, from: at.from.clone() };
    let mut peers: Vec<Vec<String>> = Vec::new();
    while let Some(word) = words.next() {
        let value = words.value(word)?;
        let key = match word {
            "private-key" => ("private-key-file", text(value)),
            "listen-port" => ("listen-port", number(value)?),
            "fwmark" => ("fwmark", text(value)),
            "peer" => {
                peers.push(vec![format!("public-key = {}", text(value))]);
                continue;
            }
            _ => {
                let Some(peer) = peers.last_mut() else { return missed(format!("'{word}' of wg is not known")) };
                peer.push(match word {
                    "preshared-key" => format!("preshared-key-file = {}", text(value)),
                    "endpoint" => format!("endpoint = {}", text(value)),
                    "allowed-ips" => {
                        format!("allowed-ips = [{}]", value.split(',').map(|ip| text(ip.trim())).collect::<Vec<_>>().join(", "))
                    }
                    "persistent-keepalive" => format!("keepalive = {}", number(value)?),
                    _ => return missed(format!("'{word}' of wg is not known")),
                });
                continue;
            }
        };
        host.world.links[link].keys.insert(key.0, fact(key.1));
    }
    host.world.links[link].peers.extend(peers.into_iter().map(|keys| fact(inline(&keys))));
    Ok(())
}
