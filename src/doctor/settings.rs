//! Texts of other programs' files, as far as checks need them.

use super::Stanza;

/// A line of a file of systemd's, networkd's or NetworkManager's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// From 1.
    pub line: usize,
    pub section: &'a str,
    pub key: &'a str,
    pub value: &'a str,
}

/// Lists the settings of a text, comments left out. Where a line goes on in the next one, only its beginning counts.
pub fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let mut section = "";
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        Some(Setting { line: number, section, key: key.trim(), value: value.trim() })
    })
}

/// Tells whether a `.network` file is for a pair's host end of this name, as far as that can be told without the link: a file that
/// asks for more than name and kind is taken to be for others.
pub(super) fn matches(text: &str, name: &str) -> bool {
    let mut conditions = settings(text).filter(|setting| setting.section == "Match" && !setting.value.is_empty()).peekable();
    conditions.peek().is_some()
        && conditions.all(|Setting { key, value, .. }| match key {
            "Name" | "OriginalName" => is_one_of(value, name),
            "Type" => is_one_of(value, "ether"),
            "Kind" | "Driver" => is_one_of(value, "veth"),
            _ => false,
        })
}

/// Matches a list of systemd's: patterns with spaces between them, all of them the other way round after a `!`.
fn is_one_of(patterns: &str, name: &str) -> bool {
    let (patterns, inverted) = patterns.strip_prefix('!').map_or((patterns, false), |rest| (rest, true));
    patterns.split_whitespace().any(|pattern| glob(pattern, name)) != inverted
}

/// Matches a pattern of fnmatch(3): `*`, `?` and `[…]`.
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
            ['?', rest @ ..] => !name.is_empty() && matches(rest, &name[1..]),
            ['[', rest @ ..] if rest.iter().skip(1).any(|c| *c == ']') => {
                let end = 1 + rest.iter().skip(1).position(|c| *c == ']').unwrap_or_default();
                let (inverted, set) = match &rest[..end] {
                    ['!' | '^', set @ ..] => (true, set),
                    set => (false, set),
                };
                let Some(c) = name.first() else { return false };
                let range = |w: &[char]| w.len() == 3 && w[1] == '-' && (w[0]..=w[2]).contains(c);
                let found = set.contains(c) || set.windows(3).any(range);
                found != inverted && matches(&rest[end + 1..], &name[1..])
            }
            [literal, rest @ ..] => name.first() == Some(literal) && matches(rest, &name[1..]),
        }
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    matches(&chars(pattern), &chars(name))
}

/// Lists the links that a file of ifupdown's configures (interfaces(5)).
#[must_use]
pub fn stanzas(file: &str, text: &str) -> Vec<Stanza> {
    let stanza = |(line, number): (&str, usize)| {
        let mut words = line.split_whitespace();
        let link = words.next().filter(|word| *word == "iface").and_then(|_| words.next())?;
        // eth0:1 is an address of eth0
        let link = link.split(':').next().unwrap_or(link).to_owned();
        Some(Stanza { file: file.to_owned(), line: number, link })
    };
    text.lines().zip(1..).filter_map(stanza).collect()
}

/// Lists the patterns of links that a file of NetworkManager's keeps it from (NetworkManager.conf(5)): those of names, `*` for all.
#[must_use]
pub fn unmanaged_devices(text: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    let mut matched: (&str, Vec<String>) = ("", Vec::new());
    for Setting { section, key, value, .. } in settings(text) {
        let devices = || value.split([';', ',']).map(str::trim).filter_map(device).collect::<Vec<_>>();
        match key.trim_end_matches('+') {
            "unmanaged-devices" if section == "keyfile" => patterns.extend(devices()),
            // [device-NAME] match-device=interface-name:mail-*, managed=0
            "match-device" => matched = (section, devices()),
            "managed" if section.starts_with("device") && matches!(value, "0" | "false" | "no") => {
                patterns.extend(if matched.0 == section { matched.1.clone() } else { vec!["*".to_owned()] });
            }
            _ => {}
        }
    }
    patterns
}

fn device(spec: &str) -> Option<String> {
    match spec.split_once(':') {
        Some(("interface-name", name)) => Some(name.trim_start_matches('=').to_owned()),
        Some(("type" | "driver", kind @ ("veth" | "bridge"))) => Some(format!("type:{kind}")),
        None if spec == "*" => Some(spec.to_owned()),
        _ => None,
    }
}

/// Lists what dhcpcd is kept from on the host (dhcpcd.conf(5)): patterns of `denyinterfaces`, and `*` for an `allowinterfaces`, which
/// leaves out all others.
#[must_use]
pub fn denied_links(text: &str) -> Vec<String> {
    let words = |line: &str, key: &str| -> Vec<String> {
        line.trim()
            .strip_prefix(key)
            .map(|rest| rest.split([' ', '\t', ',']).filter(|w| !w.is_empty()).map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let line = |line| if words(line, "allowinterfaces ").is_empty() { words(line, "denyinterfaces ") } else { vec!["*".to_owned()] };
    text.lines().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_file_is_for_the_links_that_it_names() {
        for (text, yes) in [
            ("[Match]\nName=*\n", true),
            ("[Match]\nName=en* mail-*\n[Network]\nDHCP=yes\n", true),
            ("[Match]\nName=!en* lo\n", true),
            ("[Match]\nName=!mail-*\n", false),
            ("[Match]\nType=ether\n", true),
            ("[Match]\nKind=veth\nName=mail-eth[0-9]\n", true),
            ("[Match]\nKind=!veth\n", false),
            ("[Match]\nName=mail-eth?\nMACAddress=02:00:00:00:00:01\n", false),
            ("[Match]\nName=en*\n", false),
            ("[Match]\n", false),
            ("[Network]\nName=*\n", false),
            ("# [Match]\n[Match]\n#Name=*\n; Name=*\nName=[!e]*", true),
        ] {
            assert_eq!(matches(text, "mail-eth0"), yes, "{text}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, name, yes) in [
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("*", "", true),
            ("?", "", false),
            ("[ab]1", "b1", true),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[", "[", true),
            ("[]a]", "]", true),
        ] {
            assert_eq!(glob(pattern, name), yes, "{pattern} {name}");
        }
    }

    #[test]
    fn files_of_other_managers() {
        let text = "auto lo\niface lo inet loopback\n# iface no inet dhcp\n  iface eno1:0 inet static\n    address 192.0.2.1\n";
        let of = |line, link: &str| Stanza { file: "i".to_owned(), line, link: link.to_owned() };
        assert_eq!(stanzas("i", text), [of(2, "lo"), of(4, "eno1")]);
        let text = "[main]\nplugins=keyfile\n[keyfile]\nunmanaged-devices=interface-name:mail-*;mac:02:00:00:00:00:01;type:bridge\n\
                    [device-x]\nmatch-device=interface-name:=br0\nmanaged=0\n[device-y]\nmatch-device=interface-name:eno1\nmanaged=1\n";
        assert_eq!(unmanaged_devices(text), ["mail-*", "type:bridge", "br0"]);
        assert_eq!(unmanaged_devices("[device]\nmanaged=false\n[keyfile]\nunmanaged-devices+=*\n"), ["*", "*"]);
        assert_eq!(denied_links("hostname\ndenyinterfaces veth* br0\n#denyinterfaces x\n"), ["veth*", "br0"]);
        assert_eq!(denied_links("allowinterfaces eno1\n"), ["*"]);
    }
}
