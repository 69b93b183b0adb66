//! One fragment: TOML text to tables whose keys, types and values are checked each for itself.

use std::net::IpAddr;

use toml::de::DeTable;

use super::{
    entry::{self, RouteTable, UplinkTable},
    fault::Draft,
    interface::{self, InterfaceTable},
    keys,
    read::{List, Reader, Table, header_name},
    rule::{self, RuleTable},
    syntax,
    sysctl::{self, Parameter},
    text::{Placed, Spot, Text, quoted},
    value,
};
use crate::model::{Address, LinkName, Mac, NameError, NetnsName, UnitName};

/// The tables of all fragments. A table whose name is refused is here all the same, so that the rest of it gets checked.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub namespaces: Vec<NamespaceTable>,
    pub interfaces: Vec<InterfaceTable>,
    pub bridges: Vec<BridgeTable>,
    /// Some fragment could not be read: what is missing may be in it.
    pub incomplete: bool,
}

/// `[namespace.NAME]`
#[derive(Debug)]
pub(super) struct NamespaceTable {
    pub name: String,
    pub at: Spot,
    pub description: Option<String>,
    pub services: Vec<Placed<UnitName>>,
    pub dns: Vec<Placed<IpAddr>>,
    /// The list has an entry, if only a faulty one.
    pub has_dns: bool,
    pub dns_search: Vec<Placed<String>>,
    pub dns_options: Vec<Placed<String>>,
    /// Where IPv6 is switched off.
    pub no_ipv6: Option<Spot>,
    pub sysctl: Vec<Parameter>,
    pub nftables: Option<String>,
    pub loopback_addresses: List<Placed<Address>>,
    pub rules: Vec<RuleTable>,
}

/// `[bridge.NAME]`
#[derive(Debug)]
pub(super) struct BridgeTable {
    pub name: String,
    pub at: Spot,
    pub uplinks: Vec<UplinkTable>,
    pub ip: IpTable,
    pub dns: Vec<Placed<IpAddr>>,
    pub mac: Option<Placed<Mac>>,
    pub stp: Option<bool>,
    pub vlan_filtering: Option<bool>,
    /// 0 is none.
    pub default_pvid: Option<Placed<u32>>,
}

/// What interfaces and bridges have in common.
#[derive(Debug, Default)]
pub(super) struct IpTable {
    /// For messages: `interface 'eth0' of namespace 'mail'`.
    pub link: String,
    pub addresses: List<Placed<Address>>,
    pub gateways: List<RouteTable>,
    pub routes: List<RouteTable>,
    pub mtu: Option<Placed<u32>>,
}

/// Reads a fragment and adds its tables and faults.
pub(super) fn read(file: usize, text: &Text, tables: &mut Tables, drafts: &mut Vec<Draft>) {
    let (root, errors) = DeTable::parse_recoverable(text.as_str());
    let mut own = Tables::default();
    let mut found = Vec::new();
    read_root(&mut Reader { file, drafts: &mut found }, root.get_ref(), text, &mut own);
    if errors.is_empty() {
        drafts.append(&mut found);
        tables.namespaces.append(&mut own.namespaces);
        tables.interfaces.append(&mut own.interfaces);
        tables.bridges.append(&mut own.bridges);
        return;
    }
    // what the parser makes of the lines from a syntax error on is guesswork, so say nothing about them
    tables.incomplete = true;
    let mut syntax = syntax::drafts(file, text, root.get_ref(), &errors);
    let first = syntax.iter().map(|draft| text.line(draft.at.start)).min().unwrap_or(0);
    // a value that the parser made up has no place
    found.retain(|draft| !draft.missing && draft.at.start < draft.at.end && text.line(draft.at.start) < first);
    drafts.append(&mut found);
    drafts.append(&mut syntax);
}

fn read_root(reader: &mut Reader<'_>, root: &DeTable<'_>, text: &Text, tables: &mut Tables) {
    let root = reader.root(root, &keys::FRAGMENT);
    if let Some(names) = root.get("namespace").and_then(|value| reader.names(value)) {
        for (name, at, value) in names.named() {
            let table = format!("[namespace.{}]", header_name(name));
            check_name(reader, at, "namespace", name, NetnsName::parse);
            if let Some(table) = reader.named_table((at, value), table, &keys::NAMESPACE) {
                read_namespace(reader, name, &table, text, tables);
            }
        }
    }
    if let Some(names) = root.get("bridge").and_then(|value| reader.names(value)) {
        for (name, at, value) in names.named() {
            check_name(reader, at, "bridge", name, LinkName::parse_ours);
            if let Some(table) = reader.named_table((at, value), format!("[bridge.{}]", header_name(name)), &keys::BRIDGE) {
                let bridge = read_bridge(reader, name, &table);
                tables.bridges.push(bridge);
            }
        }
    }
}

fn check_name<T>(reader: &mut Reader<'_>, at: Spot, what: &str, name: &str, parse: fn(&str) -> Result<T, NameError>) {
    if let Err(e) = parse(name) {
        let allowed = if what == "namespace" { "1 to 15 letters, digits, '.', '_' and '-'" } else { keys::OUR_LINK };
        reader.note(Draft::new(at, format!("invalid {what} name {}: {e}", quoted(name))).allowed(allowed));
    }
}

fn read_namespace(reader: &mut Reader<'_>, name: &str, table: &Table<'_, '_>, text: &Text, tables: &mut Tables) {
    // [namespace.mail.interface.eth0] alone implies [namespace.mail], which may stand in another file
    let own_line = text.as_str()[table.at.start..].starts_with(['[', '{']);
    if own_line || table.has_besides("interface") {
        let description = table.get("description").and_then(|v| reader.parse(v, |t| value::line("description", t)));
        let dns = reader.list(table.get("dns"), |r, v| r.parse(v, value::namespace_resolver));
        let has_dns = table.get("dns").is_some() && !(dns.complete && dns.items.is_empty());
        let mut sysctl = Vec::new();
        if let Some(parameters) = table.get("sysctl") {
            sysctl::read(reader, parameters, "", &mut sysctl);
        }
        let mut positions = 0..;
        tables.namespaces.push(NamespaceTable {
            name: name.to_owned(),
            at: table.at,
            description: description.map(|d| d.value),
            services: reader.list(table.get("services"), |r, v| r.name(v, "unit", UnitName::parse)).items,
            dns: dns.items,
            has_dns,
            dns_search: reader.list(table.get("dns-search"), |r, v| r.parse(v, value::domain)).items,
            dns_options: reader.list(table.get("dns-options"), |r, v| r.parse(v, value::resolver_option)).items,
            no_ipv6: table.get("ipv6").and_then(|v| (!reader.boolean(v)?).then_some(v.at)),
            sysctl,
            nftables: table.get("nftables").and_then(|v| reader.parse(v, |t| value::path("'nftables'", t))).map(|path| path.value),
            loopback_addresses: reader.list(table.get("loopback-addresses"), |r, v| entry::address(r, Some(entry::LOOPBACK), v)),
            rules: reader.list(table.get("rules"), |r, v| rule::read(r, v, positions.next().unwrap_or_default())).items,
        });
    }
    let Some(names) = table.get("interface").and_then(|value| reader.names(value)) else { return };
    for (interface, at, value) in names.named() {
        check_name(reader, at, "interface", interface, LinkName::parse_ours);
        let title = format!("[namespace.{}.interface.{}]", header_name(name), header_name(interface));
        if let Some(table) = reader.named_table((at, value), title, &keys::INTERFACE) {
            let interface = interface::read(reader, name, interface, &table);
            tables.interfaces.push(interface);
        }
    }
}

fn read_bridge(reader: &mut Reader<'_>, name: &str, table: &Table<'_, '_>) -> BridgeTable {
    BridgeTable {
        name: name.to_owned(),
        at: table.at,
        uplinks: reader.list(table.get("uplinks"), entry::uplink).items,
        ip: read_ip(reader, format!("bridge {}", quoted(name)), None, table),
        dns: reader.list(table.get("dns"), |r, v| r.parse(v, value::host_resolver)).items,
        mac: read_mac(reader, table, "mac"),
        stp: table.get("stp").and_then(|v| reader.boolean(v)),
        vlan_filtering: table.get("vlan-filtering").and_then(|v| reader.boolean(v)),
        default_pvid: table.get("default-pvid").and_then(|v| reader.number_or_word(v, (1, 4094), &[("none", 0)])),
    }
}

pub(super) fn read_mac(reader: &mut Reader<'_>, table: &Table<'_, '_>, key: &str) -> Option<Placed<Mac>> {
    table.get(key).and_then(|v| reader.name(v, "MAC address", str::parse::<Mac>))
}

pub(super) fn read_ip(reader: &mut Reader<'_>, link: String, interface: Option<&str>, table: &Table<'_, '_>) -> IpTable {
    let mut ip = IpTable {
        link,
        addresses: reader.list(table.get("addresses"), |r, v| entry::address(r, interface, v)),
        gateways: reader.list(table.get("gateways"), entry::gateway),
        routes: reader.list(table.get("routes"), entry::route),
        mtu: table.get("mtu").and_then(|v| reader.number(v, 68, 65535)),
    };
    ip.addresses.complete &= !table.misspells("addresses");
    ip.routes.complete &= !table.misspells("routes");
    ip
}
