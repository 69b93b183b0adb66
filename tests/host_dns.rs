//! Names and files: services of every kind resolve through their namespace, and see what is under `/etc/netns/NAME`.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, program, run, talk_unit};
use crate::{skip, suite_trials, trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = suite_trials![
        services_of_every_kind_ask_their_own_resolver,
        a_change_of_resolvers_shows_at_once,
        resolvers_that_come_or_go_wait_for_a_restart,
        resolv_conf_of_the_host_is_replaced,
        nsswitch_conf_of_the_host_is_missing,
        own_files_are_seen_as_with_ip_netns_exec,
        own_files_that_cannot_be_seen_are_named,
        own_files_come_and_go,
        own_resolv_conf_without_dns,
        own_resolv_conf_beside_dns,
    ];
    trials.extend(trials![own_files_of_an_image, killed_while_it_writes_in_place]);
    trials
}

const SECONDS: Duration = Duration::from_secs(10);

/// On bridge br0 there is `t-dns`, which gives every name the address of who asks: questions of the namespace have 10.41.0.2.
const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.41.0.1/24", "10.41.0.3/24", "fd29::1/64"]
[namespace.box]
services = SERVICES
dns = ["10.41.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.41.0.2/24", "fd29::2/64"], gateways = ["10.41.0.1"] }
"#;

fn config(services: &[&str], dns: &str) -> String {
    CONFIG.replace("SERVICES", &format!("{services:?}")).replace("dns = [\"10.41.0.1\"]", dns)
}

const DNS: &str = "dns = [\"10.41.0.1\"]";

fn with_server(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.units(&[("t-dns.service", "dns 10.41.0.1", "")]);
    lab
}

/// Returns the unit of a service that is given by its settings alone.
fn unit(settings: &str) -> String {
    format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\n{settings}\n")
}

const TALK: &str = "/usr/bin/python3 /usr/local/lib/talk.py";

fn services_of_every_kind_ask_their_own_resolver(suite: Suite) {
    let lab = with_server(suite);
    let strict = "DynamicUser=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\nReadOnlyPaths=/\n\
                  ProtectKernelTunables=yes\nProtectControlGroups=yes\nRestrictNamespaces=yes\nNoNewPrivileges=yes\n\
                  RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\nInaccessiblePaths=/etc/netns";
    let own_etc = "TemporaryFileSystem=/etc";
    let own_root = "RootDirectory=/var/tmp/t-root\nMountAPIVFS=yes\nBindReadOnlyPaths=/usr";
    let _ = lab.sh("cd /var/tmp; mkdir -p t-root/{usr,etc,var,tmp,run}; ln -s usr/bin usr/lib usr/lib64 t-root").ok();
    let kinds = [
        ("t-notify.service", "8000", talk_unit("serve 8000", "")),
        ("t-simple.service", "8001", unit(&format!("ExecStart={TALK} serve 8001"))),
        ("t-fork.service", "8002", unit(&format!("Type=forking\nExecStart=/bin/sh -c '{TALK} serve 8002 & exit 0'"))),
        ("t-dyn.service", "8003", talk_unit("serve 8003", "DynamicUser=yes")),
        ("t-strict.service", "8004", talk_unit("serve 8004", strict)),
        ("t-etc.service", "8005", talk_unit("serve 8005", own_etc)),
        ("t-root.service", "8006", talk_unit("serve 8006", own_root)),
        ("t-user.service", "8007", talk_unit("serve 8007", "User=nobody\nPrivateMounts=yes\nPrivateNetwork=no")),
        ("t-many@8.service", "8008", String::new()),
        ("t-sock.service", "8009", talk_unit("inherit", "DynamicUser=yes")),
    ];
    for (name, _, text) in kinds.iter().filter(|(.., text)| !text.is_empty()) {
        lab.write_file(&format!("/etc/systemd/system/{name}"), text);
    }
    lab.write_file("/etc/systemd/system/t-many@.service", &talk_unit("serve 800%i", ""));
    lab.write_file("/etc/systemd/system/t-sock.socket", "[Socket]\nListenStream=10.41.0.2:8009\n");
    let ask = "/usr/bin/python3 -c \"import socket; print(socket.getaddrinfo('www.example.com', None, socket.AF_INET)[0][4][0])\"";
    let once = format!("Type=oneshot\nExecStartPre={ask}\nExecStart={ask}\nExecStartPost={ask}\nStandardOutput=append:/run/t-once");
    lab.write_file("/etc/systemd/system/t-once.service", &unit(&once));
    let started: Vec<&str> = kinds.iter().map(|(name, ..)| if *name == "t-sock.service" { "t-sock.socket" } else { name }).collect();
    lab.config(&config(&[&started[..], &["t-sock.service", "t-once", "t-many@.service"]].concat(), DNS));

    // a name service that leads out of the namespace, as on a host with systemd-resolved; and one that answers, in /etc/hosts
    let _ = lab
        .sh("cp -a /etc/nsswitch.conf /etc/resolv.conf /var/tmp
             sed -i 's/^hosts:.*/hosts: mymachines resolve [!UNAVAIL=return] files dns/' /etc/nsswitch.conf
             mkdir -p /run/systemd/resolve; echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf")
        .ok();
    lab.sync_changes(&[]);
    lab.start(&["t-dns"]);
    for (what, script) in [
        ("a file", "rm /etc/resolv.conf; cp -a /var/tmp/resolv.conf /etc"),
        ("a link to resolved's", "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"),
        ("an absolute link", "mkdir -p /run/t-resolve; touch /run/t-resolve/a; ln -sf /run/t-resolve/a /etc/resolv.conf"),
        ("a dangling link", "ln -sf ../run/t-nowhere/a /etc/resolv.conf"),
        ("missing", "rm /etc/resolv.conf"),
    ] {
        let _ = lab.sh(script).ok();
        lab.start(&started);
        for (name, port, _) in &kinds {
            let resolve = format!("{TALK} ask 10.41.0.2 {port} resolve www.example.com");
            let output = lab.wait_until(name, SECONDS, &resolve);
            assert_eq!(output.stdout, "10.41.0.2\n", "{name}, the host's resolv.conf is {what}");
        }
        lab.systemctl(&["start", "t-once"]);
        assert_eq!(lab.sh("cat /run/t-once; rm /run/t-once").ok().stdout, "10.41.0.2\n".repeat(3), "the host's resolv.conf is {what}");
        // each of them is looked at again, for all that sync knows
        let _ = lab.sh("touch /etc/netns/box/*").ok();
        lab.sync_nothing();
        lab.systemctl(&["stop", "t-sock.socket"]);
        lab.stop(&kinds.each_ref().map(|(name, ..)| *name));
    }
    let _ = lab.sh("cd /var/tmp; rm -rf /etc/resolv.conf /run/t-resolve /run/t-nowhere t-root; mv -f nsswitch.conf resolv.conf /etc").ok();
}

fn a_change_of_resolvers_shows_at_once(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", ""), ("t-dyn.service", "serve 8001", "DynamicUser=yes\nProtectSystem=strict")]);
    lab.units(&[("t-other.service", "dns 10.41.0.3 192.0.2.99", "")]);
    lab.config(&config(&["t-svc", "t-dyn"], DNS));
    lab.sync_changes(&[]);
    lab.start(&["t-dns", "t-other", "t-svc", "t-dyn"]);
    let pids = || (lab.property("t-svc", "MainPID"), lab.property("t-dyn", "MainPID"));
    let before = pids();
    let resolved = |wanted: &str| {
        for port in ["8000", "8001"] {
            assert_eq!(lab.ask("10.41.0.2", port, "resolve www.example.com"), format!("{wanted}\n"));
        }
    };
    resolved("10.41.0.2");
    // shorter, longer, and back
    for (dns, answer, line) in [
        (
            "dns = [\"10.41.0.3\"]\ndns-search = [\"one.example.org\", \"two.example.org\"]",
            "192.0.2.99",
            "search one.example.org two.example.org\n",
        ),
        ("dns = [\"10.41.0.3\"]", "192.0.2.99", "nameserver 10.41.0.3\n"),
        ("dns = [\"10.41.0.1\", \"10.41.0.3\"]\ndns-options = [\"timeout:1\"]", "10.41.0.2", "options timeout:1\n"),
    ] {
        lab.config(&config(&["t-svc", "t-dyn"], dns));
        let said = lab.sync_changes(&[]);
        // the record notes the lines of the configuration, and some have moved
        let rest = said.replace("change file /var/lib/netns-networkd/netns/box.json\n", "");
        assert_eq!(rest, "change file /etc/netns/box/resolv.conf\n");
        resolved(answer);
        let shown = lab.ask("10.41.0.2", "8001", "cat /etc/resolv.conf");
        assert_eq!(shown, lab.read_file("/etc/netns/box/resolv.conf"));
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(pids(), before);
}

const UNSEEN: &str = "as it is now and will when it is restarted: `systemctl restart t-svc.service` or `netns-networkd sync --restart`";

fn resolvers_that_come_or_go_wait_for_a_restart(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    lab.config(&config(&["t-svc"], ""));
    lab.sync_changes(&[]);
    lab.start(&["t-dns", "t-svc"]);
    let host = lab.read_file("/etc/resolv.conf");
    let pending = format!("pending: t-svc.service does not see /etc/nsswitch.conf, /etc/resolv.conf {UNSEEN}\n");
    for (dns, line) in [(DNS, "add file"), ("", "remove file")] {
        let before = lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf");
        lab.config(&config(&["t-svc"], dns));
        let output = lab.sync(&["--dry-run"]).fails(3);
        assert!(output.stdout.contains(&pending), "{output}");
        let output = lab.sync(&[]).ok();
        assert!(output.stdout.contains(&format!("{line} /etc/netns/box/resolv.conf\n")) && output.stdout.ends_with(&pending), "{output}");
        assert_eq!(lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf"), before);
        assert_eq!(lab.sync(&[]).ok().stdout, pending, "as long as it is so");
        assert_eq!(lab.sync(&["--restart"]).ok().stdout, "restart t-svc.service\n");
        let wanted = if dns.is_empty() { &host } else { &lab.read_file("/etc/netns/box/resolv.conf") };
        assert_eq!(&lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf"), wanted);
        lab.sync_nothing();
    }
}

/// The kernel takes a bind mount away when the file under it is replaced, in any mount namespace: what resolved, dhclient and
/// editors do to the host's resolv.conf.
fn resolv_conf_of_the_host_is_replaced(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    lab.config(&config(&["t-svc"], DNS));
    lab.sync_changes(&[]);
    lab.start(&["t-dns"]);
    let own = || lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf") == lab.read_file("/etc/netns/box/resolv.conf");
    let _ = lab
        .sh("mv /etc/resolv.conf /var/tmp; mkdir -p /run/systemd/resolve /run/nscd; touch /run/nscd/socket
             echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf
             ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf")
        .ok();
    lab.start(&["t-svc"]);
    let _ = lab.sh("cd /run/systemd/resolve; echo nameserver 127.0.0.54 >new; mv new stub-resolv.conf; touch io.systemd.Resolve").ok();
    assert!(own(), "resolved's is replaced");
    for hidden in ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"] {
        assert!(lab.answer("10.41.0.2", "8000", &format!("cat {hidden}")).starts_with("failed: "), "{hidden}");
    }
    lab.sync_nothing();
    lab.stop(&["t-svc"]);

    let _ = lab.sh("rm /etc/resolv.conf /run/systemd/resolve/*; cp -a /var/tmp/resolv.conf /etc").ok();
    lab.start(&["t-svc"]);
    assert!(own());
    let _ = lab.sh("cp /etc/resolv.conf /etc/resolv.conf.new; mv /etc/resolv.conf.new /etc/resolv.conf").ok();
    assert!(!own(), "if the kernel keeps the mount, this page of the guide can go");
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stdout, format!("pending: t-svc.service does not see /etc/resolv.conf {UNSEEN}\n"));
    assert_eq!(lab.sync(&["--restart"]).ok().stdout, "restart t-svc.service\n");
    assert!(own());
    lab.sync_nothing();
    let _ = lab.sh("mv /var/tmp/resolv.conf /etc; rm -r /run/nscd").ok();
}

fn nsswitch_conf_of_the_host_is_missing(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    let _ = lab.sh("mv /etc/nsswitch.conf /var/tmp").ok();
    lab.config(&config(&["t-svc"], DNS));
    lab.sync_changes(&[]);
    lab.start(&["t-dns", "t-svc"]);
    assert_eq!(lab.ask("10.41.0.2", "8000", "resolve www.example.com"), "10.41.0.2\n");
    assert!(lab.ask("10.41.0.2", "8000", "cat /etc/nsswitch.conf").ends_with("\nhosts: files dns\n"));
    lab.sync_nothing();
    let _ = lab.sh("mv /var/tmp/nsswitch.conf /etc").ok();
}

fn own_files_are_seen_as_with_ip_netns_exec(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", ""), ("t-strict.service", "serve 8001", "DynamicUser=yes\nProtectSystem=strict")]);
    let _ = lab
        .sh("mkdir -p /etc/netns/box/t-folder /etc/t-folder; echo '192.0.2.7 own.test' >/etc/netns/box/hosts; echo inside >/etc/netns/box/t-folder/a
             echo outside >/etc/t-folder/b; echo linked >/srv/t-linked; ln -s /srv/t-linked /etc/netns/box/t-link; echo x >/etc/t-link
             echo y >/etc/t-c++_0@a; echo own >/etc/netns/box/t-c++_0@a")
        .ok();
    lab.config(&config(&["t-svc", "t-strict"], DNS));
    lab.sync_changes(&[]);
    lab.start(&["t-dns", "t-svc", "t-strict"]);
    for file in ["hosts", "resolv.conf", "nsswitch.conf", "t-folder/a", "t-link", "t-c++_0@a"] {
        let wanted = lab.sh(&format!("ip netns exec box cat /etc/{file} 2>/dev/null; cat /etc/netns/box/{file}")).ok().stdout;
        for port in ["8000", "8001"] {
            let text = lab.ask("10.41.0.2", port, &format!("cat /etc/{file}"));
            assert_eq!(text.repeat(2), wanted, "{file}");
        }
    }
    for port in ["8000", "8001"] {
        assert_eq!(lab.ask("10.41.0.2", port, "resolve own.test"), "192.0.2.7\n");
        assert_eq!(lab.ask("10.41.0.2", port, "resolve www.example.com"), "10.41.0.2\n");
        assert_eq!(lab.answer("10.41.0.2", port, "cat /etc/t-folder/b").split(' ').next(), Some("failed:"));
    }
    lab.sync_nothing();
    // they are the admin's: they stay when the namespace goes, and so does their folder
    lab.stop(&["t-svc", "t-strict"]);
    lab.config("");
    let _ = lab.sync(&[]).ok();
    assert_eq!(lab.sh("ls /etc/netns/box").ok().stdout, "hosts\nt-c++_0@a\nt-folder\nt-link\n");
    let _ = lab.sh("rm -r /etc/netns/box /etc/t-* /srv/t-linked").ok();
}

fn own_files_that_cannot_be_seen_are_named(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    let _ = lab
        .sh(r"mkdir -p /etc/netns/box/t-dir; cd /etc; touch t-dir 't a' 't%n' 't:a' t-link $'t\na' t-file t-file~
             cd /etc/netns/box; touch 't a' 't%n' 't:a' $'t\na' t-none .t-hidden t-file t-file~; ln -s nowhere t-link")
        .ok();
    lab.config(&config(&["t-svc"], DNS));
    let output = lab.sync(&[]).ok();
    let line = |file: &str, why: &str| format!("warning: /etc/netns/box/{file} is not seen by its services: {why}\n");
    let names = "names there have only letters, digits, '.', '_', '-', '+' and '@'";
    let wanted = [
        line(r"t\na", names),
        line("t a", names),
        line("t%n", names),
        line("t-dir", "/etc/t-dir is no folder, and this is one"),
        line("t-file~", names),
        line("t-link", "it is a link to nothing"),
        line("t-none", "there is no /etc/t-none that it could be seen in place of"),
        line("t:a", names),
    ];
    let mut lines: Vec<_> = output.stderr.lines().map(|line| format!("{line}\n")).collect();
    lines.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort();
    assert_eq!(lines, wanted);
    lab.start(&["t-dns", "t-svc"]);
    let mounts =
        lab.sh("grep -c '/netns/box/' /proc/$(systemctl show -P MainPID t-svc)/mountinfo; ls /etc/t-none /etc/.t-hidden || true").ok();
    assert_eq!(mounts.stdout, "3\n", "resolv.conf, nsswitch.conf and t-file");
    lab.sync_nothing();
    let _ = lab.sh("cd /etc; rm -rf t-* t[^a-z]* netns/box/t* netns/box/.t-hidden").ok();
}

fn own_files_come_and_go(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    lab.config(&config(&["t-svc"], ""));
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    let pid = lab.property("t-svc", "MainPID");
    let pending = format!("pending: t-svc.service does not see /etc/hosts {UNSEEN}\n");
    let host = lab.read_file("/etc/hosts");
    let seen = || lab.ask("10.41.0.2", "8000", "cat /etc/hosts");
    let drop_in = "change file /etc/systemd/system/t-svc.service.d/50-netns-networkd.conf\n";

    lab.write_file("/etc/netns/box/hosts", "192.0.2.7 one\n");
    let output = lab.sync(&[]).ok().stdout;
    assert!(output.contains(drop_in) && output.ends_with(&pending), "{output}");
    assert_eq!((seen(), lab.property("t-svc", "MainPID")), (host.clone(), pid));
    let _ = lab.sync(&["--restart"]).ok();
    assert_eq!(seen(), "192.0.2.7 one\n");
    lab.sync_nothing();
    // written in place, it shows; replaced, as most editors do, it does not until the next start
    lab.write_file("/etc/netns/box/hosts", "192.0.2.7 two\n");
    assert_eq!(seen(), "192.0.2.7 two\n");
    lab.sync_nothing();
    let _ = lab.sh("cd /etc/netns/box; echo '192.0.2.7 three' >.new; mv .new hosts").ok();
    assert_eq!(seen(), "192.0.2.7 two\n");
    assert_eq!(lab.sync(&[]).ok().stdout, pending);
    lab.systemctl(&["restart", "t-svc"]);
    assert_eq!(seen(), "192.0.2.7 three\n");
    lab.sync_nothing();
    // removed, it keeps nobody from starting, whether sync has seen it or not
    let _ = lab.sh("rm /etc/netns/box/hosts; systemctl restart t-svc").ok();
    assert_eq!(seen(), host);
    let output = lab.sync(&[]).ok().stdout;
    assert!(output.contains(drop_in) && !output.contains("pending"), "{output}");
    lab.sync_nothing();
    let _ = lab.sh("rmdir /etc/netns/box").ok();
}

fn own_resolv_conf_without_dns(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    let _ = lab
        .sh("cp -a /etc/nsswitch.conf /var/tmp; sed -i 's/^hosts:.*/hosts: resolve [!UNAVAIL=return] files dns/' /etc/nsswitch.conf")
        .ok();
    lab.write_file("/etc/netns/box/resolv.conf", "nameserver 10.41.0.1\n");
    lab.config(&config(&["t-svc"], ""));
    let output = lab.sync_changes(&[]);
    assert!(output.contains("add file /etc/netns/box/nsswitch.conf\n") && !output.contains("netns/box/resolv.conf"), "{output}");
    lab.start(&["t-dns", "t-svc"]);
    assert_eq!(lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf"), "nameserver 10.41.0.1\n");
    assert!(lab.ask("10.41.0.2", "8000", "cat /etc/nsswitch.conf").contains("\nhosts: files dns\n"));
    assert_eq!(lab.ask("10.41.0.2", "8000", "resolve www.example.com"), "10.41.0.2\n");
    // with an nsswitch.conf of the admin's own, there is nothing for us to add
    lab.write_file("/etc/netns/own/resolv.conf", "nameserver 10.41.0.1\n");
    lab.write_file("/etc/netns/own/nsswitch.conf", "hosts: dns\n");
    lab.units(&[("t-own.service", "serve 8001", "")]);
    lab.config(
        &(config(&["t-svc"], "")
            + "[namespace.own]\nservices = [\"t-own\"]\ninterface.eth0 = { bridge = \"br0\", addresses = [\"10.41.0.4/24\"] }\n"),
    );
    let output = lab.sync_changes(&[]);
    assert!(!output.contains("/etc/netns/own"), "{output}");
    lab.start(&["t-own"]);
    assert_eq!(lab.ask("10.41.0.4", "8001", "cat /etc/nsswitch.conf"), "hosts: dns\n");
    assert_eq!(lab.ask("10.41.0.4", "8001", "resolve www.example.com"), "10.41.0.4\n");
    // its own resolv.conf gone, our nsswitch.conf goes as well
    let _ = lab.sh("rm /etc/netns/box/resolv.conf").ok();
    let output = lab.sync(&["--restart"]).ok().stdout;
    assert!(output.contains("remove file /etc/netns/box/nsswitch.conf\n"), "{output}");
    lab.sync_nothing();
    let _ = lab.sh("rm -r /etc/netns/own; mv /var/tmp/nsswitch.conf /etc").ok();
}

fn own_resolv_conf_beside_dns(suite: Suite) {
    let lab = with_server(suite);
    lab.units(&[("t-svc.service", "serve 8000", "")]);
    lab.write_file("/etc/netns/box/resolv.conf", "nameserver 10.41.0.1\n");
    lab.config(&config(&["t-svc"], "dns = [\"10.41.0.3\"]"));
    let kept =
        "warning: /etc/netns/box/resolv.conf was not made by netns-networkd and is left alone: `netns-networkd sync --force` replaces it\n";
    assert_eq!(lab.sync(&[]).ok().stderr, kept);
    lab.start(&["t-svc"]);
    assert_eq!(lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf"), "nameserver 10.41.0.1\n");
    let _ = lab.sync(&["--force"]).ok();
    assert!(lab.ask("10.41.0.2", "8000", "cat /etc/resolv.conf").ends_with("\nnameserver 10.41.0.3\n"));
    lab.sync_nothing();
}

fn own_files_of_an_image() {
    let script = r#"
        top=$(mktemp -d); trap 'rm -r "$top"' EXIT; cd "$top"; mkdir -p etc/{netns-networkd,netns/box}
        printf '[namespace.box]\nservices = ["a", "a.socket"]\n' >etc/netns-networkd/a.toml
        touch etc/hosts etc/netns/box/{hosts,gai.conf,resolv.conf}
        "$BIN" --root "$top" sync 2>&1 >/dev/null | sed "s|$top||"
        grep -hE '^(BindR|Tempo|Inacc)' etc/systemd/system/a.service.d/* etc/systemd/system/a.socket.d/*; ls etc/netns/box"#;
    let output = run("", &["env", &format!("BIN={}", program()), "bash", "-euo", "pipefail", "-c", script]).ok();
    let wanted = "\
        warning: /etc/netns/box/gai.conf is not seen by its services: there is no /etc/gai.conf that it could be seen in place of\n\
        BindReadOnlyPaths=-/etc/netns/box/hosts:/etc/hosts\n\
        BindReadOnlyPaths=/etc/netns/box/nsswitch.conf:/etc/nsswitch.conf\n\
        BindReadOnlyPaths=-/etc/netns/box/resolv.conf:/etc/resolv.conf\n\
        TemporaryFileSystem=/run/systemd/resolve:ro\n\
        InaccessiblePaths=-/run/nscd\n\
        gai.conf\nhosts\nnsswitch.conf\nresolv.conf\n";
    assert_eq!(output.stdout, wanted, "what the host that runs the tests has plays no part");
}

/// `sync` on an image, killed at each system call that writes: what a reader sees is the old text or the new one, with blank lines
/// at most, and the next run does not take it for an edit.
fn killed_while_it_writes_in_place() {
    if run("", &["strace", "-f", "-o", "/dev/null", "true"]).code != 0 {
        skip!("strace is missing, so sync is not killed while it writes: apt-get install strace");
    }
    let script = r#"
        top=$(mktemp -d); trap 'rm -r "$top"' EXIT; mkdir -p "$top/etc/netns-networkd"; file=$top/etc/netns/box/resolv.conf
        config() { printf '[namespace.box]\ndns = ["192.0.2.53"%s]\n' "$1" >"$top/etc/netns-networkd/a.toml"; }
        trimmed() { sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' "$1"; }
        more=', "192.0.2.54", "192.0.2.55"'
        for text in '' "$more"; do config "$text"; "$BIN" --root "$top" sync >/dev/null; cp "$file" "$top/${text:+long}"old; done
        now=$more; killed=0; blank=0
        for call in pwrite64 fdatasync ftruncate fsync rename unlink; do
            for n in $(seq 20); do
                [[ -n $now ]] && now= || now=$more
                config "$now"
                if strace -f -qq -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$n "$BIN" --root "$top" sync >/dev/null 2>&1; then
                    break
                fi
                killed=$((killed + 1)); cmp -s "$file" "$top/old" || cmp -s "$file" "$top/longold" || blank=$((blank + 1))
                trimmed "$file" | cmp -s - "$top/old" || trimmed "$file" | cmp -s - "$top/longold" || { echo "$call $n:"; cat "$file"; exit 1; } >&2
                "$BIN" --root "$top" sync >"$top/out" 2>&1 || { cat "$top/out" >&2; exit 1; }
                ! grep -v '^change file' "$top/out" >&2
                cmp "$file" "$top/${now:+long}old" >&2
                [[ -z $("$BIN" --root "$top" sync 2>&1) && -z $(find "$top" -name '*netns-networkd-new') ]]
            done
        done
        echo $((killed > 12)) $((blank > 3))"#;
    let output = run("", &["env", &format!("BIN={}", program()), "bash", "-euo", "pipefail", "-c", script]);
    assert_eq!(output.ok().stdout, "1 1\n", "killed often enough, and between the old text and the new one");
}
