//! What a person is told: of a start that failed, in one entry of the journal; of what takes long, on a terminal and nowhere else.

use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![a_failed_start_is_one_entry_with_fields, networkds_view_is_in_it, long_work_shows_on_a_terminal]
}

/// Takes a line away.
const CLEAR: &str = "\r\x1b[K";
const SECONDS: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[namespace.one]
services = ["t-one"]

[namespace.one.interface.eth0]
bridge = "br0"
addresses = ["10.62.0.2/24"]
"#;

fn a_failed_start_is_one_entry_with_fields(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    lab.config(&format!("[bridge.br0]\n{CONFIG}"));
    lab.sync_changes(&[]);
    let _ = lab.run(&["ip", "link", "add", "one-eth0", "type", "veth", "peer", "name", "t-theirs"]).ok();
    let entries = lab.entries_of("netns-networkd", || drop(lab.run(&["systemctl", "start", "t-one"]).fails(1)));
    let [entry] = &entries[..] else { panic!("not one entry: {entries:#?}") };
    let field = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("no {name}: {entry:#}"));
    assert_eq!(field("PRIORITY"), "3");
    assert_eq!(field("NETNS"), "one");
    // of the interface, which is to blame, not of the namespace
    assert_eq!((field("CONFIG_FILE"), field("CONFIG_LINE")), ("/etc/netns-networkd/test.toml", "6"));
    assert_eq!(field("MESSAGE_ID").len(), 32);
    assert_eq!(field("OBJECT_SYSTEMD_UNIT"), "netns@one.service");
    let said = field("MESSAGE");
    let start = "error: failed to bring up netns 'one' of /etc/netns-networkd/test.toml:6: failed to add link 'eth0' with host end 'one-eth0' on bridge 'br0': kernel: ";
    assert!(said.starts_with(start), "{said}");
    // and that is where a person looks
    let shown = lab.journal(&["netns@one"]);
    assert!(shown.contains(said), "{shown}");
    let status = lab.run(&["systemctl", "status", "--no-pager", "--full", "netns@one"]).fails(3).stdout;
    assert!(status.contains("error: failed to bring up netns 'one' of /etc/netns-networkd/test.toml:6: "), "{status}");
    let found = lab.run(&["journalctl", "--boot", "--output=cat", &format!("MESSAGE_ID={}", field("MESSAGE_ID")), "NETNS=one"]).ok().stdout;
    assert_eq!(found, format!("{said}\n"));

    // without the journal's socket it is said all the same
    lab.write_file(
        "/run/systemd/system/netns@.service.d/t.conf",
        "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_NETLINK\n",
    );
    let _ = lab.run(&["systemctl", "daemon-reload"]).ok();
    let plain = lab.journal_of("netns-networkd", || drop(lab.run(&["systemctl", "start", "t-one"]).fails(1)));
    assert_eq!(plain, format!("{said}\n"));
    let _ =
        lab.sh("rm -r /run/systemd/system/netns@.service.d; systemctl daemon-reload; ip link delete one-eth0; systemctl reset-failed").ok();
}

/// Where networkd has not made a bridge, its reasons are in the entry: three at once, for each waits 15 s.
fn networkds_view_is_in_it(suite: Suite) {
    let lab = Lab::new(suite);
    let names = ["one", "two", "three"];
    let mut config = String::new();
    for (number, name) in names.iter().enumerate() {
        let of =
            |text: &str| text.replace("one", name).replace("br0", &format!("br{number}")).replace("10.62.0.", &format!("10.62.{number}."));
        config += &format!("[bridge.br{number}]\n{}", of(CONFIG));
        lab.services(&[(&format!("t-{name}.service"), "8000")]);
    }
    lab.config(&config);
    lab.sync_changes(&[]);
    let netdev = |number: usize| format!("/etc/systemd/network/10-netns-networkd-bridge-br{number}.netdev");
    let _ = lab
        .sh(&format!(
            "cp -a /etc/systemd/network /run/t-network; chmod 600 {}; ln -sf /dev/null {}; sed -i s/Kind=bridge/Kind=brigde/ {}
             for link in br0 br1 br2; do ip link delete $link; done; systemctl restart systemd-networkd",
            netdev(0),
            netdev(1),
            netdev(2)
        ))
        .ok();
    let said = lab.journal_of("netns-networkd", || {
        thread::scope(|scope| {
            for name in names {
                let lab = &lab;
                scope.spawn(move || drop(lab.run(&["systemctl", "start", &format!("t-{name}")]).fails(1)));
            }
        });
    });
    let failed = |number: usize, line: usize| {
        format!(
            "error: failed to bring up netns '{}' of /etc/netns-networkd/test.toml:{line}: bridge 'br{number}' does not exist, after waiting 15 s for it\n",
            names[number]
        )
    };
    let (unreadable, masked, wrong) = (netdev(0), netdev(1), netdev(2));
    let parts = [
        failed(0, 6) + &format!("  note: networkd, which runs as user systemd-network, cannot read {unreadable}: its mode is 0600\n"),
        format!("  hint: `chmod 644 {unreadable}`, then `networkctl reload`\n"),
        failed(1, 14)
            + &format!(
                "  note: {masked} is masked: it is empty, or a link to /dev/null\n  hint: `rm {masked}`, then `netns-networkd sync`\n"
            ),
        failed(2, 22) + &format!("  note: networkd is to make it, by {wrong}\n  note: networkd said: {wrong}:"),
    ];
    for part in parts {
        assert!(said.contains(&part), "{said}\nlacks\n{part}");
    }
    assert!(said.contains("  hint: `networkctl status br2` shows more of what networkd makes of it\n"), "{said}");
    let _ = lab.sh("cp -a --remove-destination /run/t-network/. /etc/systemd/network; rm -r /run/t-network; networkctl reload; systemctl reset-failed").ok();
    let _ = lab.wait_until("the bridges are there again", SECONDS, "ip link show br0; ip link show br1; ip link show br2").ok();
    lab.start(&["t-one", "t-two", "t-three"]);
}

fn long_work_shows_on_a_terminal(suite: Suite) {
    let lab = Lab::new(suite);
    // what is written to a terminal, into a file: `script` makes one
    let begin = |command: &str| {
        let _ = lab
            .sh(&format!(
                "rm -f /run/t-said /run/t-code; code=0
                 TERM=xterm script -qfec '{command}' /run/t-said </dev/null >/dev/null 2>&1 || code=$?; echo $code >/run/t-code"
            ))
            .ok();
    };
    let shows = |text: &str| {
        let _ = lab.wait_until(text, SECONDS, &format!("grep -F \"{text}\" /run/t-said")).ok();
    };
    // the file of `script` has a line of its own at both ends
    let said = || lab.sh("sed '1d; $d' /run/t-said").ok().stdout;
    let code = || lab.read_file("/run/t-code").trim().to_owned();

    // a bridge that comes late
    lab.config(CONFIG);
    lab.services(&[("t-one.service", "8000")]);
    let _ = lab.sync(&[]).ok();
    thread::scope(|scope| {
        scope.spawn(|| begin("netns-networkd up one"));
        shows("waiting: bridge 'br0' does not exist (0 s of 15 s)");
        shows("waiting: bridge 'br0' does not exist (1 s of 15 s)");
        let _ = lab.run(&["ip", "link", "add", "br0", "up", "type", "bridge"]).ok();
    });
    assert_eq!(code(), "0");
    let text = said();
    assert!(text.trim_end_matches('\n').ends_with(CLEAR), "the line is gone in the end: {text:?}");
    let silent = lab.run(&["netns-networkd", "up", "one"]).ok();
    assert_eq!((silent.stdout.as_str(), silent.stderr.as_str()), ("", ""));
    let _ = lab.sh("netns-networkd down one; ip link delete br0").ok();

    // networkd that does not answer
    lab.config(&format!("[bridge.br0]\n{CONFIG}"));
    thread::scope(|scope| {
        let _ = lab.run(&["systemctl", "kill", "--signal=STOP", "systemd-networkd"]).ok();
        scope.spawn(|| begin("netns-networkd sync"));
        shows("waiting: reload systemd-networkd (1 s of 120 s)");
        let _ = lab.run(&["systemctl", "kill", "--signal=CONT", "systemd-networkd"]).ok();
    });
    assert_eq!(code(), "0");
    let text = said();
    let (before, after) = text.rsplit_once(CLEAR).unwrap_or_else(|| panic!("{text:?}"));
    assert!(
        before.contains("add file ") && after.starts_with("reload systemd-networkd\r\n"),
        "what is done is said after the line is gone: {text:?}"
    );
    lab.sync_nothing();

    // leases that do not come
    lab.config(&format!("[bridge.br0]\n{}dhcp = \"ipv4\"\n", CONFIG.replace("addresses = [\"10.62.0.2/24\"]\n", "")));
    let _ = lab.sync(&[]).ok();
    begin("timeout --foreground 2 netns-networkd online one");
    let text = said();
    assert!(text.contains("waiting: link 'eth0' has no address by DHCP (1 s of 60 s)"), "{text:?}");
}
