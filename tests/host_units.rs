//! Our units and what else runs in namespaces: hand-written units, templates, sockets, DNS, networkd's own restarts.

use std::{path::Path, time::Duration};

use libtest_mimic::Trial;

use crate::common::{BIN, HOST_PORT, Lab, REPO, Shell, Suite, run};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        units_pass_systemd_analyze,
        up_and_down_may_do_little_else,
        units_named_like_an_option_fail,
        description_is_shown,
        simple_services_are_where_they_will_be,
        hand_written_units_need_no_services_key,
        hold_keeps_a_namespace_up,
        template_instances_share_the_drop_in,
        settings_that_sync_remembers_and_that_change_are_found,
        socket_unit_listens_inside,
        dns_is_the_namespaces_own,
        resolv_conf_of_the_host_may_be_anything,
        hardened_services_run_inside,
        networkd_restarts_and_reloads_lose_no_packet,
        installs_below_a_prefix,
    ]
}

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.40.0.1/24", "fd28::1/64"]
[namespace.box]
services = []
interface.eth0 = { bridge = "br0", addresses = ["10.40.0.2/24", "fd28::2/64"], gateways = ["10.40.0.1", "fd28::1"] }
"#;

fn with_services(services: &str) -> String {
    CONFIG.replace("services = []", services)
}

fn units_pass_systemd_analyze(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.units(&[("t-sock.service", "inherit", "")]);
    lab.write_file("/etc/systemd/system/t-sock.socket", "[Socket]\nListenStream=0.0.0.0:8001\n");
    lab.config(&with_services(
        "services = [\"t-svc\", \"t-sock.service\", \"t-sock.socket\"]\ndescription = \"100 % \\\"quoted\\\"\"\ndns = [\"10.40.0.1\"]",
    ));
    lab.sync_changes(&[]);
    let output = lab.run(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=no",
        "netns@box.service",
        "netns-hold@box.service",
        "netns-dhcp@box.service",
        "netns-online@box.service",
        "netns-networkd-rollback.service",
        "t-svc.service",
        "t-sock.socket",
    ]);
    assert!(output.code == 0 && output.stdout.is_empty() && output.stderr.is_empty(), "{output}");
    let installed = lab.sh("cd /usr/lib/systemd/system; ls -d netns*.service").ok().stdout;
    assert_eq!(
        installed,
        "netns-dhcp@.service\nnetns-hold@.service\nnetns-networkd-rollback.service\nnetns-online@.service\nnetns@.service\n"
    );
    assert_eq!(lab.property("netns@box", "Description"), "Network namespace box: 100 % \"quoted\"");
    let path = lab.systemctl(&["show", "-P", "Documentation", "netns@box"]);
    let _ = lab.run(&["ls", path.trim().trim_start_matches("file://")]).ok();
}

/// What `systemd-analyze security` says of netns@.service (docs/security.md), in tenths.
const EXPOSURE: u32 = 39;

fn up_and_down_may_do_little_else(suite: Suite) {
    let lab = Lab::new(suite);
    // as people write it, without this tool
    let by_hand = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=ip netns add %i\nExecStop=ip netns delete %i\n";
    lab.write_file("/etc/systemd/system/t-netns@.service", by_hand);
    lab.systemctl(&["daemon-reload"]);
    let exposure = |unit: &str| -> u32 {
        let text = lab.run(&["systemd-analyze", "security", "--no-pager", unit]).ok().stdout;
        let figure = text.rsplit_once(": ").and_then(|(_, figure)| figure.split(' ').next()).unwrap_or_default();
        figure.replace('.', "").parse().unwrap_or_else(|_| panic!("{text}"))
    };
    let (ours, by_hand) = (exposure("netns@box.service"), exposure("t-netns@box.service"));
    assert!(ours <= EXPOSURE && by_hand > 90, "{ours}, by hand {by_hand}");
    let page = std::fs::read_to_string(Path::new(REPO).join("docs/security.md")).unwrap();
    let figure = format!("{}.{}", EXPOSURE / 10, EXPOSURE % 10);
    assert!(page.contains(&format!("gives it {figure}")), "docs/security.md does not say {figure}");
    assert_eq!(lab.property("netns@box", "LimitCORE"), "0");
    // all tests run under this list; here it is seen that they would notice
    lab.write_file("/run/systemd/system/netns@.service.d/t.conf", "[Service]\nSystemCallFilter=~unshare\n");
    lab.systemctl(&["daemon-reload"]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    let _ = lab.run(&["systemctl", "start", "netns-hold@box"]).fails(1);
    assert_eq!(lab.property("netns@box", "ExecMainStatus"), "31", "SIGSYS");
    let _ = lab.sh("rm -r /run/systemd/system/netns@.service.d; systemctl daemon-reload; systemctl reset-failed").ok();
    let _ = lab.sh("netns-networkd down box").ok();
}

fn units_named_like_an_option_fail(suite: Suite) {
    let lab = Lab::new(suite);
    for name in ["--help", "-h", "--live"] {
        let unit = format!("netns@{name}");
        let _ = lab.run(&["systemctl", "start", &unit]).fails(1);
        assert_eq!(lab.property(&unit, "ExecMainStatus"), "2", "{unit}");
        lab.systemctl(&["reset-failed", &unit]);
    }
}

/// systemd calls a service of Type=simple started when it has forked, before the process is in its namespace.
fn simple_services_are_where_they_will_be(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-simple.service", "serve 8000", "Type=simple")]);
    lab.start(&["t-simple"]);
    for _ in 0..5 {
        for services in ["services = [\"t-simple\"]", "services = []"] {
            lab.config(&with_services(services));
            let said = lab.sync(&["--restart"]).ok();
            assert!(said.stdout.contains("restart t-simple.service") && !said.stdout.contains("pending"), "{said}");
        }
    }
}

fn description_is_shown(suite: Suite) {
    let lab = Lab::new(suite);
    let shown = || lab.systemctl(&["list-units", "--plain", "--no-legend", "netns@box.service"]);
    let described = |text: &str| with_services("").replace("[namespace.box]", &format!("[namespace.box]\ndescription = \"{text}\""));
    lab.config(&described("Mail: 100 % of it"));
    lab.sync_changes(&[]);
    lab.start(&["netns-hold@box"]);
    assert!(shown().ends_with(" Mail: 100 % of it\n"), "{}", shown());
    lab.config(&described("Mail and more"));
    lab.sync_changes(&[]);
    assert!(shown().ends_with(" Mail and more\n"), "{}", shown());
    lab.config(&with_services(""));
    lab.sync_changes(&[]);
    assert!(shown().ends_with(" Network namespace box\n"), "{}", shown());
    lab.stop(&["netns-hold@box"]);
}

fn hand_written_units_need_no_services_key(suite: Suite) {
    let lab = Lab::new(suite);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    let bound =
        "[Unit]\nStartLimitIntervalSec=0\nBindsTo=netns@box.service\nAfter=netns@box.service\n[Service]\nType=notify\nNotifyAccess=all\n";
    let talk = "/usr/bin/python3 /usr/local/lib/talk.py serve";
    lab.write_file("/etc/systemd/system/t-path.service", &format!("{bound}NetworkNamespacePath=/run/netns/box\nExecStart={talk} 8000\n"));
    lab.write_file("/etc/systemd/system/t-exec.service", &format!("{bound}ExecStart=/usr/sbin/ip netns exec box {talk} 8001\n"));
    lab.systemctl(&["daemon-reload"]);
    for (unit, port) in [("t-path", "8000"), ("t-exec", "8001")] {
        for round in 0..3 {
            lab.start(&[unit]);
            for address in ["10.40.0.2", "fd28::2"] {
                lab.assert_answers(address, port);
            }
            assert_eq!(lab.source_of("10.40.0.2", port, "fd28::1"), "fd28::2", "{unit}, round {round}");
            assert_eq!(lab.who("10.40.0.2", port).netns, lab.named_netns("box"));
            lab.stop(&[unit]);
            assert_eq!(lab.sh("ls /run/netns; ip -br link show master br0").ok().stdout, "", "{unit}, round {round}");
        }
    }
    lab.start(&["t-path", "t-exec"]);
    assert_eq!(lab.who("10.40.0.2", "8000").netns, lab.who("10.40.0.2", "8001").netns);
    lab.sync_nothing();
    // sync knows nothing of them, and leaves them in peace when it changes their namespace
    let pids = (lab.property("t-path", "MainPID"), lab.property("t-exec", "MainPID"));
    lab.config(&CONFIG.replace("\"10.40.0.2/24\", ", "\"10.40.0.2/24\", \"10.40.0.3/24\", "));
    lab.sync_changes(&[]);
    lab.assert_answers("10.40.0.3", "8000");
    assert_eq!(pids, (lab.property("t-path", "MainPID"), lab.property("t-exec", "MainPID")));
    // out of the configuration: nothing happens to what runs
    lab.config("[bridge.br0]\naddresses = [\"10.40.0.1/24\", \"fd28::1/64\"]\n");
    let output = lab.sync(&[]).ok();
    assert_eq!(
        output.stdout,
        "pending: netns 'box' is no longer in the configuration and goes with the next sync after its last unit has stopped: \
         t-exec.service, t-path.service\n"
    );
    lab.assert_answers("10.40.0.3", "8000");
    assert_eq!(pids, (lab.property("t-path", "MainPID"), lab.property("t-exec", "MainPID")));
    lab.stop(&["t-path", "t-exec"]);
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    // and then a bound unit says what is the matter
    let _ = lab.run(&["systemctl", "start", "t-path"]).fails(1);
    let why = lab.journal(&["netns@box"]);
    assert!(why.contains("error: no netns 'box' is known: there is no record /var/lib/netns-networkd/netns/box.json"), "{why}");
    assert!(why.contains("hint: add [namespace.box] to a file in /etc/netns-networkd and run `netns-networkd sync`"), "{why}");
}

fn hold_keeps_a_namespace_up(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.config(&with_services("services = [\"t-svc\"]"));
    lab.sync_changes(&[]);
    lab.start(&["netns-hold@box"]);
    let netns = lab.named_netns("box");
    let _ = lab.sh("ping -n -c 1 -W 2 10.40.0.2; ping -n -c 1 -W 2 fd28::2").ok();
    for _ in 0..3 {
        lab.start(&["t-svc"]);
        assert_eq!(lab.who("10.40.0.2", "8000").netns, netns);
        lab.systemctl(&["stop", "t-svc"]);
    }
    // a hold of the administrator's is not ended by a sync
    lab.config(&with_services("services = [\"t-svc\"]\ndescription = \"held\""));
    lab.sync_changes(&[]);
    lab.assert_active(&["netns-hold@box", "netns@box"]);
    assert_eq!(lab.named_netns("box"), netns);
    lab.stop(&["netns-hold@box"]);
    assert_eq!(lab.sh("ls /run/netns").ok().stdout, "");
}

fn template_instances_share_the_drop_in(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-tpl@.service", "serve 80%i", "")]);
    lab.config(&with_services("services = [\"t-tpl@.service\"]"));
    lab.sync_changes(&[]);
    lab.start(&["t-tpl@01", "t-tpl@02"]);
    let netns = lab.named_netns("box");
    for (unit, port) in [("t-tpl@01", "8001"), ("t-tpl@02", "8002")] {
        lab.assert_answers("fd28::2", port);
        assert_eq!(lab.netns_of(unit), netns);
    }
    lab.sync_nothing();
    lab.stop(&["t-tpl@01", "t-tpl@02"]);
    // one instance alone
    lab.config(&with_services("services = [\"t-tpl@02.service\"]"));
    lab.sync_changes(&[]);
    lab.start(&["t-tpl@01", "t-tpl@02"]);
    assert_eq!(lab.netns_of("t-tpl@01"), lab.host_netns());
    assert_eq!(lab.netns_of("t-tpl@02"), lab.named_netns("box"));
    lab.sync_nothing();

    lab.stop(&["t-tpl@02"]);

    // a running instance of a template that is adopted is told of, like any other service, and runs on
    let pid = lab.property("t-tpl@01", "MainPID");
    lab.config(&with_services("services = [\"t-tpl@.service\"]"));
    let output = lab.sync(&[]).ok();
    let pending = "pending: t-tpl@01.service still runs on the host and will run in netns 'box' when it is restarted";
    assert!(output.stdout.contains(pending), "{output}");
    assert_eq!(lab.property("t-tpl@01", "MainPID"), pid, "it runs on");
    let _ = lab.sync(&["--restart"]).ok();
    assert_eq!(lab.netns_of("t-tpl@01"), lab.named_netns("box"));
    lab.sync_nothing();
    // and released
    let pid = lab.property("t-tpl@01", "MainPID");
    lab.config(CONFIG);
    let output = lab.sync(&[]).ok();
    assert!(
        output.stdout.contains("pending: t-tpl@01.service still runs in netns 'box' and will run on the host when it is restarted"),
        "{output}"
    );
    assert_eq!(lab.property("t-tpl@01", "MainPID"), pid, "it runs on");
    lab.assert_answers("fd28::2", "8001");
    let _ = lab.sync(&["--restart"]).ok();
    assert_eq!(lab.netns_of("t-tpl@01"), lab.host_netns());
}

/// What systemd has not loaded is not asked for again, unless a file of a unit has changed.
fn settings_that_sync_remembers_and_that_change_are_found(suite: Suite) {
    let memory = "/run/netns-networkd.units.json";
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.config(&with_services("services = [\"t-svc\"]"));
    lab.sync_changes(&[]);
    let remembered = lab.read_file(memory);
    assert!(remembered.contains("t-svc.service"), "{remembered}");
    // a run with nothing to do remembers no more
    lab.sync_nothing();
    assert_eq!(lab.read_file(memory), remembered);
    // and believes it
    lab.write_file(memory, &remembered.replace("/run/netns/box", "/run/netns/other"));
    assert_eq!(lab.sync(&["--dry-run"]).fails(3).stdout, "would reload systemd\n");
    lab.write_file(memory, "{");
    lab.sync_nothing();

    let other = "/etc/systemd/system/t-svc.service.d/60-other.conf";
    for reload in [true, false] {
        lab.write_file(other, "[Service]\nNetworkNamespacePath=/proc/1/ns/net\n");
        if reload {
            lab.systemctl(&["daemon-reload"]);
        }
        let said = lab.sync(&[]).fails(4);
        assert!(said.stderr.contains("its effective NetworkNamespacePath= is '/proc/1/ns/net'"), "{said}");
        let _ = lab.run(&["rm", other]).ok();
        if reload {
            lab.systemctl(&["daemon-reload"]);
        }
        lab.sync_nothing();
    }
    // what runs is looked at, whatever is remembered
    lab.start(&["t-svc"]);
    lab.sync_nothing();
    lab.assert_answers("10.40.0.2", "8000");
    lab.stop(&["t-svc"]);
    lab.sync_nothing();
}

fn socket_unit_listens_inside(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-sock.service", "inherit", "")]);
    let socket = "[Socket]\nListenStream=0.0.0.0:8001\nListenStream=[fd28::2]:8001\n[Install]\nWantedBy=sockets.target\n";
    lab.write_file("/etc/systemd/system/t-sock.socket", socket);
    lab.systemctl(&["daemon-reload"]);
    lab.config(&with_services("services = [\"t-sock.socket\", \"t-sock.service\"]"));
    lab.sync_changes(&[]);
    for _ in 0..3 {
        lab.start(&["t-sock.socket"]);
        assert_eq!(lab.property("t-sock.service", "ActiveState"), "inactive", "it comes with the first connection");
        assert_eq!(lab.sh("ss -Hltn 'sport = :8001' | wc -l; ip netns exec box ss -Hltn 'sport = :8001' | wc -l").ok().stdout, "0\n2\n");
        for address in ["10.40.0.2", "fd28::2"] {
            lab.assert_answers(address, "8001");
        }
        assert_eq!(lab.netns_of("t-sock"), lab.named_netns("box"));
        lab.sync_nothing();
        lab.stop(&["t-sock.socket", "t-sock.service"]);
        assert_eq!(lab.sh("ls /run/netns").ok().stdout, "");
    }
    // as at boot: no ordering cycle takes the socket or the namespace out
    let cycle = lab.sh("systemd-analyze verify --man=no sockets.target t-sock.socket 2>&1 | grep -i cycle || true").ok().stdout;
    assert_eq!(cycle, "");
}

fn dns_is_the_namespaces_own(suite: Suite) {
    let lab = Lab::new(suite);
    // gives every name the address of who asks: so it shows that questions come from the namespace
    lab.units(&[
        ("t-dns.service", "dns 10.40.0.1", ""),
        ("t-svc.service", "serve 8000", ""),
        ("t-dyn.service", "serve 8001", "DynamicUser=yes"),
    ]);
    lab.config(&with_services("services = [\"t-svc\", \"t-dyn\"]\ndns = [\"10.40.0.1\", \"fd28::1\"]\ndns-search = [\"example.org\"]"));
    // a name service that leads out of the namespace, as on a host with systemd-resolved
    let original = lab.read_file("/etc/nsswitch.conf");
    let changed = original
        .lines()
        .map(|line| if line.starts_with("hosts:") { "hosts: mymachines resolve [!UNAVAIL=return] files dns" } else { line });
    lab.write_file("/etc/nsswitch.conf", &(changed.collect::<Vec<_>>().join("\n") + "\n"));
    lab.sync_changes(&[]);
    lab.start(&["t-dns"]);
    lab.start(&["t-svc", "t-dyn"]);
    for port in ["8000", "8001"] {
        let text = lab.ask("10.40.0.2", port, "cat /etc/resolv.conf");
        assert!(text.ends_with("\nnameserver 10.40.0.1\nnameserver fd28::1\nsearch example.org\n"), "{text}");
        let text = lab.ask("10.40.0.2", port, "cat /etc/nsswitch.conf");
        assert!(text.contains("\nhosts: files dns\n") && !text.contains("resolve"), "{text}");
        assert_eq!(lab.ask("10.40.0.2", port, "resolve www.example.com"), "10.40.0.2\n");
        assert_eq!(lab.ask("10.40.0.2", port, "resolve localhost"), "127.0.0.1\n");
    }
    let hosts = lab.read_file("/etc/resolv.conf");
    assert_eq!(hosts, "nameserver 192.0.2.53\n", "the host keeps its own");
    // a change of servers shows without a restart: the file is what is bound, and it is replaced by rename
    let text =
        lab.read_file("/etc/netns-networkd/test.toml").replace("\"10.40.0.1\", \"fd28::1\"]\ndns-search", "\"fd28::1\"]\ndns-search");
    lab.config(&text);
    let output = lab.sync(&[]).ok();
    assert!(output.stdout.contains("change file /etc/netns/box/resolv.conf\n"), "{output}");
    lab.systemctl(&["restart", "t-svc"]);
    assert!(lab.ask("10.40.0.2", "8000", "cat /etc/resolv.conf").ends_with("\nnameserver fd28::1\nsearch example.org\n"));
    // without dns there is nothing bound
    lab.config(&with_services("services = [\"t-svc\", \"t-dyn\"]"));
    let _ = lab.sync(&["--restart"]).ok();
    lab.systemctl(&["restart", "t-svc", "t-dyn"]);
    assert_eq!(lab.ask("10.40.0.2", "8000", "cat /etc/resolv.conf"), hosts);
    lab.write_file("/etc/nsswitch.conf", &original);
}

fn resolv_conf_of_the_host_may_be_anything(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[
        ("t-svc.service", "serve 8000", ""),
        ("t-dyn.service", "serve 8001", "DynamicUser=yes\nProtectSystem=strict\nPrivateTmp=yes"),
    ]);
    lab.config(&with_services("services = [\"t-svc\", \"t-dyn\"]\ndns = [\"fd28::1\"]"));
    lab.sync_changes(&[]);
    let _ = lab
        .sh("cp -a /etc/resolv.conf /var/tmp/resolv.conf; mkdir -p /run/t-resolve; echo nameserver 127.0.0.53 >/run/t-resolve/stub.conf")
        .ok();
    for (what, script) in [
        ("a link", "ln -sf ../run/t-resolve/stub.conf /etc/resolv.conf"),
        ("a dangling link", "ln -sf ../run/t-nowhere/stub.conf /etc/resolv.conf"),
        ("missing", "rm -f /etc/resolv.conf"),
        ("a file", "rm -f /etc/resolv.conf; cp -a /var/tmp/resolv.conf /etc/resolv.conf"),
    ] {
        let _ = lab.sh(script).ok();
        lab.start(&["t-svc", "t-dyn"]);
        for port in ["8000", "8001"] {
            let text = lab.ask("10.40.0.2", port, "cat /etc/resolv.conf");
            assert!(text.ends_with("\nnameserver fd28::1\n"), "the host's resolv.conf is {what}: {text}");
        }
        lab.sync_nothing();
        lab.stop(&["t-svc", "t-dyn"]);
    }
    let _ = lab.sh("cmp /etc/resolv.conf /var/tmp/resolv.conf; rm -r /var/tmp/resolv.conf /run/t-resolve").ok();
}

fn hardened_services_run_inside(suite: Suite) {
    let lab = Lab::new(suite);
    let hardening = "DynamicUser=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\nProtectKernelTunables=yes\n\
                     ProtectControlGroups=yes\nRestrictNamespaces=yes\nNoNewPrivileges=yes\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
                     ExecStartPre=/usr/bin/python3 -c \"import os; assert os.stat('/proc/self/ns/net').st_ino != os.stat('/run/t-host').st_ino\"\n";
    lab.units(&[("t-hard.service", "serve 8000 fd28::2 10.40.0.2", hardening)]);
    let _ = lab.sh("touch /run/t-host; mount --bind /proc/1/ns/net /run/t-host").ok();
    lab.config(&with_services("services = [\"t-hard\"]\ndns = [\"fd28::1\"]"));
    lab.sync_changes(&[]);
    for _ in 0..2 {
        lab.start(&["t-hard"]);
        lab.assert_answers("fd28::2", "8000");
        lab.assert_answers("10.40.0.2", "8000");
        assert_eq!(lab.netns_of("t-hard"), lab.named_netns("box"));
        lab.stop(&["t-hard"]);
    }
    let _ = lab.sh("umount /run/t-host; rm /run/t-host").ok();
}

fn networkd_restarts_and_reloads_lose_no_packet(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.config(&with_services("services = [\"t-svc\"]"));
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    lab.assert_answers("10.40.0.2", "8000");
    lab.assert_answers("fd28::2", "8000");
    let before = (lab.property("t-svc", "MainPID"), lab.named_netns("box"), lab.sh("bridge link show").ok().stdout);
    let port = "networkctl --no-legend list box-eth0 | grep -E 'enslaved +configured'";
    let _ = lab.wait_until("networkd has the port", Duration::from_secs(10), port);
    for (what, lost, command) in [
        ("reload", 0, "networkctl reload"),
        ("reload of touched files", 2, "touch /etc/systemd/network/*netns-networkd*; networkctl reload"),
        ("reconfigure of the port", 2, "networkctl reconfigure box-eth0"),
        ("restart", 2, "systemctl restart systemd-networkd"),
        ("stop and start", 2, "systemctl stop systemd-networkd.socket systemd-networkd; systemctl start systemd-networkd"),
    ] {
        let output = lab
            .sh(&format!(
                "ping -n -q -i 0.02 -c 75 -W 1 10.40.0.2 >/run/t-ping4 & four=$!; ping -n -q -i 0.02 -c 75 -W 1 fd28::2 >/run/t-ping6 & six=$!
                 {command}; wait $four || true; wait $six || true; cat /run/t-ping4 /run/t-ping6; rm /run/t-ping4 /run/t-ping6"
            ))
            .ok();
        let received: Vec<u32> =
            output.stdout.lines().filter_map(|line| line.split_once(" packets transmitted, ")?.1.split_once(' ')?.0.parse().ok()).collect();
        assert!(received.len() == 2 && received.iter().all(|received| received + lost >= 75), "{what}: {received:?} of 75\n{output}");
        let _ = lab.wait_until("networkd has the port", Duration::from_secs(10), port);
        let now = (lab.property("t-svc", "MainPID"), lab.named_netns("box"), lab.sh("bridge link show").ok().stdout);
        assert_eq!(before, now, "{what}");
        assert_eq!(lab.source_of("10.40.0.2", "8000", "fd28::1"), "fd28::2", "{what}");
        lab.sync_nothing();
    }
    assert_eq!(lab.ask("10.40.0.2", "8000", &format!("ask 198.51.100.2 {HOST_PORT} who")).split(' ').next(), Some("10.40.0.2"));
}

/// `make install` puts nothing outside of DESTDIR, and what it installs names the prefix.
fn installs_below_a_prefix(suite: Suite) {
    let lab = Lab::new(suite);
    for prefix in ["/usr", "/usr/local", "/opt/nn"] {
        let tree = "/var/tmp/t-install";
        let destdir = format!("DESTDIR={}{tree}", lab.root());
        let _ = run("", &["make", "-s", "-C", REPO, "install", &format!("PREFIX={prefix}"), &destdir, &format!("BIN={BIN}")]).ok();
        let files = lab.sh(&format!("cd {tree}; find . -type f -printf '%P %m\\n' | sort")).ok().stdout;
        let prefix = &prefix[1..];
        for wanted in [
            "bin/netns-networkd 755",
            "lib/systemd/system/netns@.service 644",
            "lib/systemd/system/netns-hold@.service 644",
            "share/doc/netns-networkd/README.md 644",
            "share/doc/netns-networkd/LICENSE 644",
        ] {
            assert!(files.lines().any(|line| line == format!("{prefix}/{wanted}")), "{prefix}/{wanted} is missing:\n{files}");
        }
        assert!(files.lines().all(|line| line.starts_with(prefix)), "{files}");
        let unit = lab.read_file(&format!("{tree}/{prefix}/lib/systemd/system/netns@.service"));
        let starts: Vec<_> = unit.lines().filter(|line| line.starts_with("Exec")).collect();
        assert_eq!(starts.len(), 3, "{unit}");
        assert!(starts.iter().all(|line| line.contains(&format!("/{prefix}/bin/netns-networkd"))), "{unit}");
        let _ = lab.run(&["rm", "-r", tree]).ok();
    }
}
