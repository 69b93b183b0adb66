//! Firewalls of the host, read only: chains on the way of forwarded packets that drop what no rule accepts.

use std::{fs, time::Duration};

use serde::Deserialize;

use super::program;

/// Family, name and rules of a chain.
pub type Chain = (String, String, String);

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    chain: Option<NftChain>,
}

#[derive(Deserialize)]
struct NftChain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// Lists base chains of the hook `forward` whose policy is to drop, of nftables and of the older iptables; and says what could not be
/// looked at.
#[must_use]
pub fn forward_chains(limit: Duration) -> (Vec<Chain>, Vec<String>) {
    let mut not_seen = Vec::new();
    let mut chains = match program::read("nft", &["-j", "list", "chains"], limit) {
        Ok(text) => of_nft(&text, |family, table, chain| {
            let list = |chain: &str| program::read("nft", &["list", "chain", family, table, chain], limit).unwrap_or_default();
            // where Docker has admins put theirs
            let more = if table == "filter" { list("DOCKER-USER") } else { String::new() };
            list(chain) + &more
        }),
        Err(error) => {
            not_seen.push(format!("nftables: {error:#}"));
            Vec::new()
        }
    };
    for (family, tool) in [("ip", "iptables"), ("ip6", "ip6tables")] {
        // there only with the older kind, which nft does not show
        let tables = fs::read_to_string(format!("/proc/net/{family}_tables_names")).unwrap_or_default();
        if tables.lines().any(|table| table == "filter") {
            match program::read(&format!("{tool}-legacy"), &["-S"], limit) {
                Ok(text) => chains.extend(of_iptables(family, tool, &text)),
                Err(error) => not_seen.push(format!("{tool}: {error:#}")),
            }
        }
    }
    (chains, not_seen)
}

fn of_nft(text: &str, rules: impl Fn(&str, &str, &str) -> String) -> Vec<Chain> {
    let listing: Listing = serde_json::from_str(text).unwrap_or(Listing { nftables: Vec::new() });
    let chains = listing.nftables.into_iter().filter_map(|object| object.chain);
    let drops = |chain: &NftChain| chain.hook.as_deref() == Some("forward") && chain.policy.as_deref() == Some("drop");
    chains
        .filter(drops)
        .map(|NftChain { family, table, name, .. }| {
            let rules = rules(&family, &table, &name);
            let name = format!("chain {name} of the nftables table {family} {table}");
            (family, name, rules)
        })
        .collect()
}

fn of_iptables(family: &str, tool: &str, text: &str) -> Option<Chain> {
    let drops = text.lines().any(|line| matches!(line, "-P FORWARD DROP"));
    let rules = text.lines().filter(|line| line.starts_with("-A FORWARD ") || line.starts_with("-A DOCKER-USER "));
    drops.then(|| (family.to_owned(), format!("chain FORWARD of {tool}"), rules.collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 2, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"chain": {"family": "inet", "table": "x", "name": "f", "handle": 3, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER", "handle": 4}}]}"#;
        let chain = |family: &str, name: &str, rules: &str| (family.to_owned(), name.to_owned(), rules.to_owned());
        let found = of_nft(text, |family, table, name| format!("{family} {table} {name}"));
        assert_eq!(found, [chain("ip", "chain FORWARD of the nftables table ip filter", "ip filter FORWARD")]);
        assert_eq!(of_nft("", |_, _, _| String::new()), []);

        let text = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A INPUT -i x -j DROP\n-A DOCKER-USER -i br0 -j ACCEPT\n";
        let rules = "-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -i br0 -j ACCEPT";
        assert_eq!(of_iptables("ip", "iptables", text), Some(chain("ip", "chain FORWARD of iptables", rules)));
        assert_eq!(of_iptables("ip", "iptables", "-P FORWARD ACCEPT\n"), None);
    }
}
