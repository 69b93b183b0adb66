//! Names, processes, links and files of others that mean harm: nothing of them is acted on, and nothing is kept from being seen or taken
//! down (docs/security.md).

use std::{fs, os::unix::fs::symlink, path::Path};

use libtest_mimic::Trial;

use crate::common::{BIN, Output, Shell, run};
use crate::netns::Net;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        names_given_inside_do_no_harm,
        processes_are_named_on_one_line,
        names_on_the_command_line,
        what_is_made_is_roots_alone_to_change,
        links_of_an_image_stay_in_it
    ]
}

const CONFIG: &str = r#"
[namespace.mail.interface.eth0]
bridge = "br0"
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
"#;

/// What a terminal would act on is in neither output.
#[track_caller]
fn assert_harmless(output: &Output) {
    let bad = |text: &str| text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!((bad(&output.stdout), bad(&output.stderr)), (None, None), "{output}");
}

/// A service with `CAP_NET_ADMIN` in its namespace may give links there any name, alias and label.
fn names_given_inside_do_no_harm() {
    let net = Net::with(CONFIG);
    net.write_file("/etc/netns-networkd/test.toml", CONFIG);
    let before = net.picture();
    let _ = net.up("mail").ok();
    let _ = net
        .sh(r#"ip -n mail link set eth0 alias $'a\e[2J\n[namespace.x]\nservices = ["\377"]'
        ip -n mail link property add dev eth0 altname $'alt\e[31m\377'
        ip -n mail link property add dev eth0 altname eth9
        ip -n mail link add $'\377\376\e[31m' type bridge
        ip -n mail link add $'\e]0;x\a\302\233' type veth peer name $'\342\200\256eth0\177'
        ip -n mail link set $'\e]0;x\a\302\233' up
        ip -n mail address add 192.0.2.77/32 dev eth0 label $'eth0:\377\e['
        ip -n mail address add 192.0.2.78/32 dev $'\e]0;x\a\302\233'
        ip -n mail rule add iif $'\377\e[1m' table 7
        ip -n mail rule add oif $'\376' table 7"#)
        .ok();
    // it is as recorded
    assert_eq!(net.up("mail").ok().stdout, "");
    let _ = net.run(&["netns-networkd", "up", "--live", "mail"]).ok();
    let mut shown = String::new();
    for command in ["status", "list", "doctor", "graph", "graph --format svg", "graph --format dot", "graph --format mermaid"] {
        for how in ["", " --json", " --color always"] {
            if how == " --json" && command.contains("--format") {
                continue;
            }
            let mut output = net.sh(&format!("netns-networkd {command}{how}"));
            for color in ["0", "1", "2", "32", "33", "1;31", "1;33"].map(|code| format!("\x1b[{code}m")) {
                output.stdout = output.stdout.replace(&color, "");
                output.stderr = output.stderr.replace(&color, "");
            }
            assert_harmless(&output);
            assert!(!output.stdout.contains("cannot be read"), "{output}");
            shown += &output.stdout;
        }
    }
    assert!(shown.contains("192.0.2.78"), "what is inside is shown:\n{shown}");
    let _ = net.down("mail").ok();
    net.assert_picture(&before);
}

fn processes_are_named_on_one_line() {
    let net = Net::with(CONFIG);
    let _ = net.up("mail").ok();
    let script = r#"ip netns exec mail perl -e '$| = 1; $0 = "x\e[2J\nerr: y"; print "ready"; sleep' >/run/ready &
        until [ -s /run/ready ]; do :; done; netns-networkd down mail"#;
    let output = net.sh(script).ok();
    assert_harmless(&output);
    assert!(output.stderr.contains(": x?[2J?err: y (PID ") && output.stderr.lines().count() == 1, "{output}");
}

/// As netns@.service has them from `%i`: whoever may start units chooses that.
fn names_on_the_command_line() {
    let net = Net::with(CONFIG);
    net.write_file("/etc/victim.toml", "mine\n");
    let before = net.sh("ls -lR /run /etc /var/lib/netns-networkd | sha256sum; cat /etc/victim.toml").stdout;
    for name in
        ["..", ".", "../../etc/victim", "a/b", "/etc/victim", "-x", "--live", "a\\x2fb", "%i", "a b", "a\nb", "", "sixteen-bytes-ab", "é"]
    {
        for command in ["up", "down", "online", "dhcp-event"] {
            let output = net.run(&["netns-networkd", command, name]);
            assert_eq!(output.code, 2, "{output}");
            // as the units do
            let output = net.run(&["netns-networkd", command, "--", name]);
            assert_eq!(output.code, 2, "{output}");
        }
    }
    for name in ["-h", "--help"] {
        for command in ["up", "down", "online"] {
            assert_eq!(net.run(&["netns-networkd", command, "--", name]).code, 2, "{command} {name}");
        }
    }
    assert_eq!(net.sh("ls -lR /run /etc /var/lib/netns-networkd | sha256sum; cat /etc/victim.toml").stdout, before);
}

/// Whatever umask somebody runs it by hand with.
fn what_is_made_is_roots_alone_to_change() {
    let net = Net::with(CONFIG);
    net.write_file("/etc/netns-networkd/test.toml", CONFIG);
    let script = r"umask 0; rm -rf /run/netns-networkd /run/netns; netns-networkd up mail
        mkdir -p /run/image/etc/netns-networkd; cp /etc/netns-networkd/test.toml /run/image/etc/netns-networkd; chmod -R go-w /run/image
        netns-networkd --root /run/image sync >/dev/null
        find /run/netns-networkd /run/image /run/netns -perm /022 -o -name '*lock' -not -perm 600
        find /run/netns-networkd /run/image -type f | wc -l";
    let made = net.sh(script).ok().stdout;
    assert_eq!(made.trim(), "7");
    // networkd is not root, and reads its files all the same
    let script = r"umask 077; rm -rf /run/image/etc/systemd /run/image/var; netns-networkd --root /run/image sync >/dev/null
        find /run/image/etc/systemd /run/image/var -type d -not -perm 755; ls -d /run/image/etc/systemd/network";
    assert_eq!(net.sh(script).ok().stdout, "/run/image/etc/systemd/network\n");
}

/// An image may come from anybody. Its links lead to where they will when it runs, and never out of it.
fn links_of_an_image_stay_in_it() {
    let folder = std::env::temp_dir().join(format!("netns-networkd-image-{}", std::process::id()));
    let (image, outside) = (folder.join("image"), folder.join("outside"));
    let secret = outside.join("secret");
    fs::create_dir_all(&outside).unwrap();
    fs::write(&secret, "secret = 1\n").unwrap();
    for made in ["etc/netns-networkd", "var", "usr/lib"] {
        fs::create_dir_all(image.join(made)).unwrap();
    }
    let config = "[namespace.mail]\nservices = [\"a.service\"]\ndns = [\"192.0.2.53\"]\n[namespace.mail.interface.eth0]\nhost-addresses = [\"192.0.2.0/31\"]\n";
    fs::write(image.join("usr/lib/mail.toml"), config).unwrap();
    let out = Path::new("../../../../../../../../../../").join(outside.strip_prefix("/").unwrap());
    symlink("/usr/lib/mail.toml", image.join("etc/netns-networkd/mail.toml")).unwrap();
    symlink(&outside, image.join("etc/systemd")).unwrap();
    symlink(&out, image.join("etc/netns")).unwrap();
    symlink(&out, image.join("var/lib")).unwrap();
    symlink(&secret, image.join("etc/nsswitch.conf")).unwrap();
    let sync = || run("", &[BIN, "--root", image.to_str().unwrap(), "sync"]);
    let written = sync().ok();
    assert!(written.stdout.contains("add file /etc/systemd/network/10-netns-networkd-port-mail-eth0.network"), "{written}");
    // where the links lead when the image is the root
    let place = image.join(outside.strip_prefix("/").unwrap());
    for file in ["network/10-netns-networkd-port-mail-eth0.network", "netns-networkd/manifest.toml", "mail/resolv.conf"] {
        assert!(place.join(file).is_file(), "{file}");
    }
    let rest = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(rest, ["secret"]);
    assert!(sync().ok().stdout.is_empty());

    // a file of the host that is no configuration is not read, let alone shown
    fs::remove_file(image.join("etc/netns-networkd/mail.toml")).unwrap();
    symlink(&secret, image.join("etc/netns-networkd/mail.toml")).unwrap();
    let failed = sync().fails(1);
    assert!(failed.stderr.contains("no such file") && !failed.stderr.contains("secret = 1"), "{failed}");
    // nor is one that links lead to for ever
    fs::remove_file(image.join("etc/systemd")).unwrap();
    symlink("systemd", image.join("etc/systemd")).unwrap();
    let _ = sync().fails(1);
    fs::remove_dir_all(folder).unwrap();
}
