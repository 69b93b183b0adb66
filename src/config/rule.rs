//! `rules`: which routing table a packet's route is looked up in.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{
    entry::{TYPES, required, routing_table},
    fault::Draft,
    fragment::NamespaceTable,
    interface::InterfaceTable,
    keys,
    read::{Reader, Table, Value},
    text::{Placed, Spot, listed, quoted},
    value::{self, Parsed, Refusal, family},
};
use crate::model::{Fwmark, RouteType, Rule};

/// The priority of the first rule that does not give its own: between the kernel's for `local` (0) and `main` (32766).
const FIRST_PRIORITY: u32 = 10_000;

/// An entry of `rules`.
#[derive(Debug, Clone)]
pub(super) struct RuleTable {
    pub at: Spot,
    /// What it says in each family that it is for.
    ipv4: Option<Rule>,
    ipv6: Option<Rule>,
    iif: Option<Placed<String>>,
    /// Where it says that it is for IPv6 alone, if it does.
    pub ipv6_only: Option<Spot>,
}

impl RuleTable {
    /// Gives the rule of each family; IPv6's is left out where there is no IPv6.
    pub fn rules(&self, ipv6: bool) -> impl Iterator<Item = &Rule> {
        self.ipv4.iter().chain(self.ipv6.iter().filter(move |_| ipv6))
    }
}

/// Reads the entry at a position of the list, counted from 0.
pub(super) fn read(reader: &mut Reader<'_>, entry: Value<'_, '_>, position: u32) -> Option<RuleTable> {
    let faults = reader.drafts.len();
    let table = reader.table(entry, "an entry of 'rules'".to_owned(), &keys::RULE_ENTRY)?;
    let mut net = |key| table.get(key).and_then(|v| reader.parse(v, |text| value::prefix(&format!("'{key}'"), text)));
    let (from, to) = (net("from"), net("to"));
    let iif = table.get("iif").and_then(|v| reader.string(v).map(|name| Placed { value: name.to_owned(), at: v.at }));
    let fwmark = table.get("fwmark").and_then(|v| read_fwmark(reader, v));
    let priority = table.get("priority").and_then(|v| reader.number(v, 1, u32::MAX));
    let kind = table.get("type").map_or(Some(RouteType::Unicast), |v| reader.choice(v, &TYPES));
    let lookup = read_lookup(reader, entry, &table, kind);
    if let (Some(from), Some(to)) = (&from, &to)
        && from.value.addr().is_ipv4() != to.value.addr().is_ipv4()
    {
        let name = |net: &Placed<IpNet>| family(net.value.addr());
        let draft = Draft::new(to.at, format!("'to' is {}, 'from' is {}", name(to), name(from)));
        reader.note(draft.other(from.at, "'from'").help("write a rule for each family"));
    }
    if reader.drafts.len() > faults {
        return None;
    }
    // a prefix of everything says which family, and no more: that is how the kernel shows it too
    let narrow = |net: &Option<Placed<IpNet>>| net.as_ref().map(|net| net.value).filter(|net| net.prefix_len() > 0);
    let rule = |ipv6| Rule {
        priority: priority.as_ref().map_or(FIRST_PRIORITY + position, |priority| priority.value),
        ipv6,
        from: narrow(&from),
        to: narrow(&to),
        iif: iif.as_ref().map(|iif| iif.value.clone()),
        fwmark,
        table: lookup,
        kind: kind.unwrap_or_default(),
    };
    let named = from.as_ref().or(to.as_ref());
    let is_for = |v4: bool| named.is_none_or(|net| net.value.addr().is_ipv4() == v4);
    Some(RuleTable {
        at: entry.at,
        ipv4: is_for(true).then(|| rule(false)),
        ipv6: is_for(false).then(|| rule(true)),
        ipv6_only: named.filter(|net| net.value.addr().is_ipv6()).map(|net| net.at),
        iif,
    })
}

/// Reads the table to look into: where packets are sent on there must be one, else there cannot be.
fn read_lookup(reader: &mut Reader<'_>, entry: Value<'_, '_>, table: &Table<'_, '_>, kind: Option<RouteType>) -> Option<u32> {
    match kind {
        Some(RouteType::Unicast) => required(reader, entry, table, "table").and_then(|v| routing_table(reader, v)),
        Some(kind) => {
            if let Some(at) = table.key("table") {
                let message = format!("a rule of the type '{}' looks into no table", kind.as_str());
                reader.note(Draft::new(at, message).help("leave out 'table', or 'type'"));
            }
            None
        }
        None => table.get("table").and_then(|v| routing_table(reader, v)),
    }
}

fn read_fwmark(reader: &mut Reader<'_>, value: Value<'_, '_>) -> Option<Fwmark> {
    if value.is_string() {
        return reader.parse(value, fwmark).map(|fwmark| fwmark.value);
    }
    reader.number(value, 0, u32::MAX).map(|mark| Fwmark { mark: mark.value, mask: u32::MAX })
}

fn fwmark(text: &str) -> Parsed<Fwmark> {
    let (mark, mask) = text.split_once('/').map_or((text, None), |(mark, mask)| (mark, Some(mask)));
    let parsed = (number(mark), mask.map_or(Some(u32::MAX), number));
    let (Some(mark), Some(mask)) = parsed else { return Err(Refusal::new(format!("fwmark {} is no number", quoted(text)))) };
    if mask == 0 {
        return Err(Refusal::new(format!("fwmark {} has a mask of no bits, so that every packet has it", quoted(text)))
            .help("leave 'fwmark' out, or give the mask the bits that count"));
    }
    if mark & !mask != 0 {
        return Err(Refusal::new(format!("fwmark {} has bits outside of its mask", quoted(text)))
            .help(format!("write \"{:#x}/{mask:#x}\"", mark & mask)));
    }
    Ok(Fwmark { mark, mask })
}

/// Reads a number as iproute2 writes marks: `0x10`, or `16`.
pub(super) fn number(text: &str) -> Option<u32> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    // from_str_radix takes a sign too
    u32::from_str_radix(digits, radix).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Checks the rules of a namespace; `interfaces` are its own, and all of them if `complete`.
pub(super) fn check(namespace: &NamespaceTable, interfaces: &[&InterfaceTable], complete: bool, drafts: &mut Vec<Draft>) {
    let names: BTreeSet<&str> = interfaces.iter().map(|table| table.name.as_str()).collect();
    for iif in namespace.rules.iter().filter_map(|rule| rule.iif.as_ref()).filter(|_| complete) {
        if iif.value == "lo" || names.contains(iif.value.as_str()) {
            continue;
        }
        let draft = Draft::new(iif.at, format!("'iif' {} is no interface of namespace {}", quoted(&iif.value), quoted(&namespace.name)));
        let all: Vec<&str> = names.iter().copied().chain(["lo"]).collect();
        let draft = draft.allowed(listed(&all));
        drafts.push(match keys::suggest(&iif.value, all) {
            Some(near) => draft.help(format!("did you mean \"{near}\"?")),
            None => draft,
        });
    }
    let mut first: BTreeMap<Rule, Spot> = BTreeMap::new();
    for table in &namespace.rules {
        // whatever its priority, a second one finds nothing that the first has not found
        let bare: Vec<Rule> = table.rules(namespace.no_ipv6.is_none()).map(|rule| Rule { priority: 0, ..rule.clone() }).collect();
        match bare.iter().find_map(|rule| first.get(rule)) {
            Some(other) => drafts.push(Draft::new(table.at, "the same rule twice").other(*other, "first here").help("leave one out")),
            None => first.extend(bare.into_iter().map(|rule| (rule, table.at))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_iproute2_writes_them() {
        let read = |text: &str| fwmark(text).map_err(|refusal| refusal.message);
        assert_eq!(read("0x10/0xff").unwrap(), Fwmark { mark: 16, mask: 255 });
        assert_eq!(read("16").unwrap(), Fwmark { mark: 16, mask: u32::MAX });
        for bad in ["", "x", "0x", "+1", "-1", "0x+1", "1/", "/1", "1/2/3", "4294967296", "1 "] {
            assert_eq!(read(bad).unwrap_err(), format!("fwmark '{bad}' is no number"));
        }
    }
}
