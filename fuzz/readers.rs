//! Everything that reads what others wrote: one function each, which takes any bytes and must not panic, hang or give nonsense.
//!
//! The fuzz targets and `tests/fuzz.rs`, which has them read tests/corpus and damaged copies of it, call the same.

use std::collections::BTreeMap;

use netns_networkd::{
    config::{SourceFile, parse},
    import::{CONFIG, Files, import},
    lease,
    model::{Netns, Peer, PublicKey, Wireguard},
    render,
    sys::{manifest::Manifest, netlink::Facts, wireguard},
};

pub type Reader = fn(&[u8]);

/// Name, as its fuzz target and its folder in tests/corpus have it, and the reader.
pub const READERS: [(&str, Reader); 6] =
    [("config", config), ("import", import_host), ("lease", lease_event), ("netlink", netlink), ("records", records), ("units", units)];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// TOML of the configuration. All faults can be shown, and point into the text.
pub fn config(bytes: &[u8]) {
    if let Err(faults) = parse(&[SourceFile { path: "a.toml".to_owned(), bytes: bytes.to_vec() }]) {
        let _ = (faults.to_string(), faults.render(true));
    }
}

/// `import` on the files of any host: what it writes is TOML, which may have faults. A line `=== PATH` begins a file.
pub fn import_host(bytes: &[u8]) {
    let text = text(bytes);
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut path = "/etc/network/interfaces".to_owned();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("=== ") {
            Some(name) => name.trim_end().clone_into(&mut path),
            None => files.entry(path.clone()).or_default().push_str(line),
        }
    }
    let import = import(&Files::new(files), CONFIG);
    for text in std::iter::once(import.namespaces).chain(import.bridges) {
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
        config(text.as_bytes());
    }
}

/// What dhcpcd reports, which is what a server on the network says. No line of `resolv.conf` but ours comes of it.
pub fn lease_event(bytes: &[u8]) {
    let text = text(bytes);
    // variables end with NUL, so that values may have lines
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    let mut env: BTreeMap<String, String> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    // the kernel's own rule for names of links; dhcpcd has it from there
    if let Some(link) = env.get_mut("interface") {
        link.retain(|c| !c.is_whitespace() && c != '/');
    }
    let Some(event) = lease::read_event(&env) else { return };
    let lease::Event::Learned { lease, .. } = event else { return };
    let back: lease::Lease = toml::from_str(&toml::to_string(&lease).unwrap()).unwrap();
    assert_eq!(back, lease);
    for line in lease::resolv_conf([&lease]).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ours = match words[..] {
            ["nameserver", ip] => ip.split('%').next().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
            ["search", ..] => line.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-_".contains(&b)),
            _ => line.starts_with('#'),
        };
        assert!(ours, "{line:?}");
    }
}

/// Answers of a kernel that says anything. The first byte chooses what was asked.
pub fn netlink(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'w', answer)) => {
            let key = PublicKey([1; 32]);
            let peer = Peer { public_key: key, preshared_key_file: None, endpoint: None, allowed_ips: [].into(), keepalive: None };
            let wanted = Wireguard { private_key_file: "/k".to_owned(), listen_port: None, fwmark: None, peers: vec![peer] };
            let _ = wireguard::compare_answer(answer, &wanted);
        }
        Some((_, answer)) => {
            let _ = Facts::read(answer);
        }
        None => {}
    }
}

/// The manifest and the records of namespaces: what is read is written as it was.
pub fn records(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(manifest) = Manifest::parse(&text) {
        assert_eq!(Manifest::parse(&manifest.text().unwrap()).unwrap(), manifest);
    }
    if let Ok(netns) = serde_json::from_str::<Netns>(&text) {
        assert_eq!(serde_json::from_str::<Netns>(&serde_json::to_string(&netns).unwrap()).unwrap(), netns);
    }
}

/// Files of units and of networkd that others wrote: their settings, and their namespaces for `import`.
pub fn units(bytes: &[u8]) {
    let text = text(bytes);
    let _ = (render::own_settings(std::slice::from_ref(&text)), render::dhcpcd_wants(&text));
    let unit = |name: &str| (format!("/etc/systemd/system/{name}.service"), text.clone());
    let _ = import(&Files::new([unit("a"), unit("netns@a"), unit("netns@")].into()), CONFIG);
}
