//! `sysctl`: kernel parameters of a namespace.

use super::{
    fault::Draft,
    fragment::NamespaceTable,
    interface::InterfaceTable,
    keys,
    read::{Reader, Value},
    text::{Placed, listed, quoted},
    validate::once,
    value::{Parsed, Refusal},
};

/// A parameter and the text that is written to its file.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub key: Placed<String>,
    pub value: String,
}

/// The parameters that `ipv6 = false` sets, for the links that there are and for those to come.
pub(super) const NO_IPV6: [&str; 2] = ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"];

/// Reads the table. TOML makes tables of a key with dots that is not quoted; they are put together again.
pub(super) fn read(reader: &mut Reader<'_>, table: Value<'_, '_>, prefix: &str, found: &mut Vec<Parameter>) {
    for (name, at, value) in reader.entries_of(table) {
        let key = format!("{prefix}{name}");
        if value.is_table() {
            read(reader, value, &format!("{key}."), found);
            continue;
        }
        let text = reader.scalar(value).and_then(|text| {
            let checked = check_value(&key, &text);
            checked.map_err(|refusal| reader.refuse(value, refusal)).ok()
        });
        match check_key(&key) {
            Ok(()) => found.extend(text.map(|value| Parameter { key: Placed { value: key, at }, value })),
            Err(refusal) => reader.refuse(value.pointing(at), refusal),
        }
    }
}

/// Takes a key in the form of sysctl(8) that begins with a part and '.': a '.' is the path's '/', and a '/' a '.' in a name.
fn check_key(key: &str) -> Parsed<()> {
    let refuse = |why: String| Refusal::new(format!("kernel parameter {} {why}", quoted(key)));
    if let Some(bad) = key.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '/' | ':' | '-')) {
        return Err(refuse(format!("has the character {bad:?}")));
    }
    if !key.starts_with("net.") {
        let refusal = refuse("is not of the network: a namespace has none but those that begin with 'net.' to itself".to_owned());
        return Err(match key.strip_prefix("net/") {
            Some(rest) => refusal.help(format!("write '.' for '/' and '/' for '.': net.{}", swap(rest))),
            None => refusal.help("set it on the host, in a file of sysctl.d(5)"),
        });
    }
    if NO_IPV6.contains(&key) {
        return Err(refuse("is set by the key 'ipv6'".to_owned()).help("write ipv6 = false for 1, and nothing for 0"));
    }
    // what is below /proc/sys/net stays there
    if key.split('.').any(|part| matches!(part, "" | "/" | "//")) {
        return Err(refuse("has an empty part".to_owned()).allowed("parts between single dots; a '/' stands for a dot in a link's name"));
    }
    Ok(())
}

fn swap(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    key.chars().map(swap).collect()
}

/// Takes what the file can hold; blanks are made single, as the kernel's answer is read.
fn check_value(key: &str, text: &str) -> Parsed<String> {
    let refuse = |why: String| Err(Refusal::new(format!("the value of {} {why}", quoted(key))));
    if let Some(bad) = text.chars().find(|c| c.is_control()) {
        return refuse(format!("has the control character {bad:?}"));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() { refuse("is empty".to_owned()) } else { Ok(words.join(" ")) }
}

/// Checks the parameters of a namespace; `interfaces` are its own, and all of them if `complete`.
pub(super) fn check(namespace: &NamespaceTable, interfaces: &[&InterfaceTable], complete: bool, drafts: &mut Vec<Draft>) {
    let keys = namespace.sysctl.iter().map(|parameter| (parameter.key.value.as_str(), parameter.key.at));
    once(keys, drafts, "leave one out", |key| format!("kernel parameter '{key}' is set twice"));
    for Placed { value: key, at } in namespace.sysctl.iter().map(|parameter| &parameter.key) {
        let Some(link) = link(key).filter(|_| complete) else { continue };
        let names: Vec<&str> = interfaces.iter().map(|table| table.name.as_str()).collect();
        if matches!(link.as_str(), "all" | "default" | "lo") || names.contains(&link.as_str()) {
            continue;
        }
        let message = format!("kernel parameter '{key}' is of {}, which namespace {} has not", quoted(&link), quoted(&namespace.name));
        let all: Vec<&str> = names.into_iter().chain(["all", "default", "lo"]).collect();
        let draft = Draft::new(*at, message).allowed(format!("parameters of {}", listed(&all)));
        drafts.push(match keys::suggest(&link, all) {
            Some(near) => draft.help(format!("did you mean '{near}'?")),
            None => draft,
        });
    }
}

/// Gives the link that a parameter is of: `eth0` of `net.ipv4.conf.eth0.rp_filter`.
fn link(key: &str) -> Option<String> {
    let mut parts = key.split('.').skip(1);
    let (family, group, link) = (parts.next()?, parts.next()?, parts.next()?);
    (matches!(family, "ipv4" | "ipv6" | "mpls") && matches!(group, "conf" | "neigh")).then(|| swap(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_below_proc_sys_net() {
        for good in
            ["net.ipv4.ip_forward", "net.ipv4.conf.eth0/20.arp_notify", "net.core.somaxconn", "net.netfilter.nf_conntrack_log_invalid"]
        {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "net",
            "net.",
            "net./",
            "net.//.kernel",
            "net..kernel",
            ".net.x",
            "net.x.",
            "kernel.pid_max",
            "net/ipv4",
            "net.a b",
            "net.é",
        ] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_knows_its_link() {
        assert_eq!(link("net.ipv4.conf.eth0/20.arp_notify").as_deref(), Some("eth0.20"));
        assert_eq!(link("net.ipv4.ip_forward"), None);
        assert_eq!(link("net.netfilter.conf.eth0.x"), None);
    }
}
