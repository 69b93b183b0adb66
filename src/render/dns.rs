//! What services of a namespace see of DNS: resolv.conf(5) and nsswitch.conf(5).

use std::net::IpAddr;

use super::header;

/// `resolv.conf` of a namespace.
#[must_use]
pub fn resolv_conf(dns: &[IpAddr], search: &[String], options: &[String], source: &str) -> String {
    let mut text = header(source) + "\n";
    for ip in dns {
        text += &format!("nameserver {ip}\n");
    }
    if !search.is_empty() {
        text += &format!("search {}\n", search.join(" "));
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
}

/// `nsswitch.conf` of a namespace: the host's, but host names come from files and DNS alone. `resolve`, `mdns` and the others
/// ask a daemon of the host over a socket in the file system, which would answer from the host's network.
#[must_use]
pub fn nsswitch_conf(host: Option<&str>, source: &str) -> String {
    const HOSTS: &str = "hosts: files dns";
    let mut text = header(source) + "\n";
    let mut done = false;
    for line in host.unwrap_or_default().lines() {
        if line.trim_start().starts_with("hosts:") {
            text += HOSTS;
            done = true;
        } else {
            text += line;
        }
        text.push('\n');
    }
    if !done {
        text += HOSTS;
        text.push('\n');
    }
    text
}
