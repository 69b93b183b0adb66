//! Bad input on booted hosts: exit code 2, the place, and nothing changed; the words themselves are cases/config.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        bad_input_changes_nothing,
        what_only_kernel_and_nft_can_check_changes_nothing,
        a_typo_after_a_good_sync_keeps_no_service_from_starting,
        all_faults_of_all_files_in_one_run,
    ]
}

const GOOD: &str = r#"
[bridge.br0]
addresses = ["10.20.0.1/24", "fd14::1/64"]

[namespace.web]
services = ["t-web"]
interface.eth0 = { bridge = "br0", mac = "02:00:00:00:14:02", addresses = ["10.20.0.2/24", "fd14::2/64"], gateways = ["10.20.0.1"] }
"#;

fn good(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-new.service", "8001")]);
    lab.write_file("/etc/netns-networkd/good.toml", GOOD);
    lab.sync_changes(&[]);
    lab.start(&["t-web"]);
    lab
}

/// The file's bytes as printf(1) takes them, what is said about them, and the place.
const BAD: &[(&str, &str, &str)] = &[
    (r#"[namespace.new]\nservice = ["t-new"]\n"#, "unknown key 'service' in [namespace.new]", "2:1"),
    (
        r#"[namespace.new.interface.eth0]\nbridge = "br0"\naddresses = ["10.20.0.300/24"]\n"#,
        "address '10.20.0.300' is no IPv4 address: 300 is over 255",
        "3:14",
    ),
    (
        r#"[namespace.new.interface.eth0]\nbridge = "br0"\naddresses = ["10.20.0.3/24"]\ngateways = ["10.21.0.1"]\n"#,
        "no address of interface 'eth0' of namespace 'new' covers gateway '10.21.0.1'",
        "4:13",
    ),
    (
        r#"[namespace.new.interface.abcdefghijklmnop]\nbridge = "br0"\n"#,
        "invalid interface name 'abcdefghijklmnop': a link name has at most 15 bytes, this one has 16",
        "1:26",
    ),
    (
        r#"[namespace.new.interface.eth0]\nbridge = "br0"\nhost-name = "ve-new"\n"#,
        "invalid host-name 've-new': names that begin with 've-' are configured by systemd's own .network files (reserved: ve- vb- vz- vt- ns-)",
        "3:13",
    ),
    (r#"[namespace.new.interface.eth0]\nbridge = "br0"\naddresses = ["fd14:0::2/64"]\n"#, "address 'fd14::2' is used twice", "3:14"),
    (
        r#"[namespace.new.interface.eth0]\nbridge = "br0"\nmac = "02:00:00:00:14:02"\n"#,
        "MAC address '02:00:00:00:14:02' is used twice",
        "3:7",
    ),
    (
        r#"[namespace."a\\nb"]\n"#,
        r"invalid namespace name 'a\nb': a namespace name has only letters, digits, '.', '_' and '-', not '\n'",
        "1:12",
    ),
    (
        r#"[namespace."a\\u0000b"]\n"#,
        r"invalid namespace name 'a\u{0}b': a namespace name has only letters, digits, '.', '_' and '-', not '\0'",
        "1:12",
    ),
    (
        r#"[namespace."a%%b"]\n"#,
        "invalid namespace name 'a%b': a namespace name has only letters, digits, '.', '_' and '-', not '%'",
        "1:12",
    ),
    (r#"[namespace.new]\ndescription = "a \377 b"\n"#, "file is not UTF-8: byte 0xff does not fit here", "2:18"),
    (r"[namespace.new\n", "syntax error: unclosed table", "1:15"),
    (r#"[namespace.new]\nservices = ["t-web.service"]\n"#, "unit 't-web.service' is in two namespaces, 'web' and 'new'", "2:13"),
];

fn bad_input_changes_nothing(suite: Suite) {
    let lab = good(suite);
    let before = lab.fingerprint();
    let mut wrong = Vec::new();
    for (bytes, message, place) in BAD {
        let _ = lab.sh(&format!("printf '{bytes}' >/etc/netns-networkd/new.toml")).ok();
        let wanted = format!("error: {message}\n --> /etc/netns-networkd/new.toml:{place}\n  |\n");
        for arguments in [&[][..], &["--dry-run"], &["--force", "--restart"], &["web"]] {
            let output = lab.sync(arguments).fails(2);
            assert_eq!(output.stdout, "", "{bytes}");
            let lines: Vec<_> = output.stderr.lines().collect();
            let caret = lines.iter().any(|line| line.trim_start().starts_with("| ") && line.contains('^'));
            let end = lines.last() == Some(&"error: 1 fault in 1 file; nothing was changed");
            if !(output.stderr.starts_with(&wanted) && caret && end) {
                wrong.push(format!("{bytes}\nexpected:\n{wanted}{output}"));
                break;
            }
        }
        lab.assert_unchanged(&before);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    lab.assert_answers("10.20.0.2", "8000");
    lab.assert_answers("fd14::2", "8000");
}

/// Parameters and rulesets are tried out before anything is changed, also where their namespace runs.
fn what_only_kernel_and_nft_can_check_changes_nothing(suite: Suite) {
    let lab = good(suite);
    lab.write_file("/etc/t-good.nft", "table inet t { chain c { type filter hook input priority 0; policy accept; } }\n");
    lab.write_file("/etc/t-bad.nft", "table inet t {\n  chain c { tcp dport smpt accept }\n}\n");
    let before = lab.fingerprint();
    for (key, wanted) in [
        ("nftables = \"/etc/t-bad.nft\"", "nft refuses the ruleset:\n/etc/t-bad.nft:2:"),
        ("nftables = \"/etc/t-none.nft\"", "there is no nftables ruleset /etc/t-none.nft"),
        ("sysctl = { \"net.ipv4.no_such_thing\" = 1 }", "failed to set net.ipv4.no_such_thing to 1: No such file or directory"),
        ("sysctl = { \"net.ipv4.ip_forward\" = \"many\" }", "failed to set net.ipv4.ip_forward to many: Invalid argument"),
        ("sysctl = { \"net.ipv4.conf.eth0.rp_filter\" = \"x\" }\nnftables = \"/etc/t-good.nft\"", "net.ipv4.conf.eth0.rp_filter to x"),
    ] {
        lab.write_file("/etc/netns-networkd/good.toml", &GOOD.replace("services = ", &format!("{key}\nservices = ")));
        for arguments in [&[][..], &["--dry-run"], &["--force", "--restart"]] {
            let output = lab.sync(arguments).fails(2);
            let said = output.stderr.starts_with("error: /etc/netns-networkd/good.toml:5: ") && output.stderr.contains(wanted);
            assert!(said && output.stderr.ends_with("error: nothing was changed\n") && output.stdout.is_empty(), "{key}: {output}");
        }
        lab.assert_unchanged(&before);
    }
    lab.assert_answers("10.20.0.2", "8000");
    let _ = lab.sh("rm /etc/t-good.nft /etc/t-bad.nft").ok();
}

fn a_typo_after_a_good_sync_keeps_no_service_from_starting(suite: Suite) {
    let lab = good(suite);
    lab.stop(&["t-web"]);
    for bad in ["[namespace.web]\nservices = [", "\u{0}", "[namespace.web]\nserwices = []\n"] {
        lab.write_file("/etc/netns-networkd/good.toml", bad);
        let before = lab.fingerprint();
        let _ = lab.sync(&[]).fails(2);
        lab.assert_unchanged(&before);
        lab.start(&["t-web"]);
        lab.assert_answers("10.20.0.2", "8000");
        lab.assert_answers("fd14::2", "8000");
        assert_eq!(lab.netns_of("t-web"), lab.named_netns("web"));
        lab.stop(&["t-web"]);
    }
    // nor does a configuration that is not there
    let _ = lab.sh("mv /etc/netns-networkd /etc/netns-networkd.away").ok();
    lab.start(&["t-web"]);
    lab.assert_answers("10.20.0.2", "8000");
    let _ = lab.sh("mv /etc/netns-networkd.away /etc/netns-networkd").ok();
}

fn all_faults_of_all_files_in_one_run(suite: Suite) {
    let lab = good(suite);
    let before = lab.fingerprint();
    lab.write_file("/etc/netns-networkd/a.toml", "[namespace.a]\nservces = []\ninterface.eth0 = { addresses = [\"10.0.0.0.1/8\"] }\n");
    lab.write_file("/run/netns-networkd/b.toml", "[bridge.\"a b\"]\n");
    let output = lab.sync(&[]).fails(2);
    for place in ["/etc/netns-networkd/a.toml:2:1", "/etc/netns-networkd/a.toml:3:33", "/run/netns-networkd/b.toml:1:9"] {
        assert!(output.stderr.contains(&format!(" --> {place}\n")), "{place} is missing\n{output}");
    }
    // what this very test wrote
    let _ = lab.sh("rm /etc/netns-networkd/a.toml /run/netns-networkd/b.toml").ok();
    let without = |text: &str| text.lines().filter(|line| !line.starts_with("run/netns-networkd d")).collect::<Vec<_>>().join("\n");
    assert_eq!(without(&before), without(&lab.fingerprint()));
    let _ = lab.wait_until("it answers", Duration::ZERO, "python3 /usr/local/lib/talk.py ask fd14::2 8000 who");
}
