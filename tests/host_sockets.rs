//! Sockets: they listen where they are listed; one that stays on the host is told of, or meant.

use std::{collections::BTreeSet, time::Duration};

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        listens_inside_only,
        one_service_for_each_connection,
        socket_without_its_service_and_the_other_way_round,
        sockets_that_separate_nothing_make_no_noise,
        port_on_the_host_answered_inside,
        port_on_the_host_by_socket_proxyd,
        service_that_joins_another_is_refused,
        service_that_starts_before_networkd_is_refused,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.42.0.1/24", "fd2a::1/64"]
[namespace.box]
services = SERVICES
interface.eth0 = { bridge = "br0", addresses = ["10.42.0.2/24", "fd2a::2/64"], gateways = ["10.42.0.1"] }
"#;

fn config(services: &[&str]) -> String {
    CONFIG.replace("SERVICES", &format!("{services:?}"))
}

fn socket(lab: &Lab, name: &str, settings: &str) {
    lab.write_file(&format!("/etc/systemd/system/{name}"), &format!("[Socket]\n{settings}\n[Install]\nWantedBy=sockets.target\n"));
    lab.systemctl(&["daemon-reload"]);
}

const REFUSED: &str = "failed: [Errno 111] Connection refused\n";

/// Asserts that a port is open inside, at all of its addresses, and at none of the host's.
#[track_caller]
fn assert_inside(lab: &Lab, port: &str) {
    let netns = lab.named_netns("box");
    for address in ["10.42.0.2", "fd2a::2"] {
        let who = lab.who(address, port);
        assert_eq!((who.own.trim_start_matches("::ffff:"), &who.netns), (address, &netns));
    }
    for address in ["127.0.0.1", "::1", "10.42.0.1", "198.51.100.2"] {
        assert_eq!(lab.answer("127.0.0.1", "9000", &format!("ask {address} {port} who")), REFUSED, "{address}");
    }
}

fn listens_inside_only(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-sock.service", "inherit", "")]);
    socket(&lab, "t-sock.socket", "ListenStream=8001\nListenStream=/run/t-sock");
    lab.config(&config(&["t-sock.socket", "t-sock.service"]));
    lab.sync_changes(&[]);
    lab.start(&["t-sock.socket"]);
    assert_inside(&lab, "8001");
    // restarts and crashes of the service lose no port
    let netns = lab.named_netns("box");
    for command in ["systemctl restart t-sock.service", "systemctl kill --signal=KILL t-sock.service", "systemctl stop t-sock.service"] {
        let _ = lab.sh(command).ok();
        assert_inside(&lab, "8001");
        assert_eq!(lab.named_netns("box"), netns, "the socket keeps it");
    }
    lab.sync_nothing();
    // a socket that listens is adopted, and released, with a restart alone
    lab.systemctl(&["stop", "t-sock.service"]);
    lab.config(&config(&[]));
    let output = lab.sync(&[]).ok().stdout;
    assert!(output.contains("pending: t-sock.socket still runs in netns 'box' and will run on the host when it is restarted"), "{output}");
    assert_eq!(lab.who("fd2a::2", "8001").netns, lab.host_netns(), "the service that it starts now is another matter");
    let _ = lab.sh("systemctl stop t-sock.service; netns-networkd sync --restart").ok();
    assert_eq!(lab.who("127.0.0.1", "8001").netns, lab.host_netns());
    lab.systemctl(&["stop", "t-sock.service"]);
    lab.config(&config(&["t-sock.socket", "t-sock.service"]));
    let output = lab.sync(&[]).ok().stdout;
    assert!(output.contains("pending: t-sock.socket still runs on the host and will run in netns 'box' when it is restarted"), "{output}");
    let _ = lab.sync(&["--restart"]).ok();
    assert_inside(&lab, "8001");
}

fn one_service_for_each_connection(suite: Suite) {
    let lab = Lab::new(suite);
    let answer = "/bin/sh -c 'read line; echo $REMOTE_ADDR $(stat -Lc %%i /proc/self/ns/net)'";
    lab.write_file(
        "/etc/systemd/system/t-acc@.service",
        &format!("[Service]\nExecStart=-{answer}\nStandardInput=socket\nStandardError=journal\n"),
    );
    socket(&lab, "t-acc.socket", "ListenStream=8001\nAccept=yes");
    lab.config(&config(&["t-acc.socket", "t-acc@.service"]));
    lab.sync_changes(&[]);
    lab.start(&["t-acc.socket"]);
    let netns = lab.named_netns("box");
    for (address, from) in [("10.42.0.2", "10.42.0.1"), ("fd2a::2", "fd2a::1"), ("10.42.0.2", "10.42.0.1")] {
        assert_eq!(lab.ask(address, "8001", "hello").replace("::ffff:", ""), format!("{from} {netns}\n"));
    }
    assert_eq!(lab.answer("127.0.0.1", "9000", "ask 127.0.0.1 8001 who"), REFUSED);
    lab.sync_nothing();
    lab.stop(&["t-acc.socket", "t-acc@*.service"]);
    // left on the host, with the services inside
    lab.config(&config(&["t-acc@.service"]));
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, "", "it does not listen");
    lab.systemctl(&["start", "t-acc.socket"]);
    lab.config(&(config(&["t-acc@.service"]) + "[namespace.other]\n"));
    assert_eq!(lab.sync(&[]).ok().stderr, on_host("t-acc", "[::]:8001", "t-acc@.service"));
    let answer = lab.ask("127.0.0.1", "8001", "hello").replace("::ffff:", "");
    assert!(answer.starts_with("127.0.0.1 ") && !answer.contains(&lab.host_netns()), "in a namespace that has gone with it: {answer}");
    // and the other way round
    lab.config(&config(&["t-acc.socket"]));
    assert_eq!(lab.sync(&["--restart"]).ok().stderr, started_on_host("t-acc", "t-acc@.service"));
}

fn on_host(name: &str, addresses: &str, service: &str) -> String {
    format!(
        "warning: {name}.socket listens on the host ({addresses}) and starts {service} in netns 'box': list it under `services` too if it \
         should listen inside; `NetworkNamespacePath=/proc/1/ns/net` there says that this is meant\n"
    )
}

fn started_on_host(name: &str, service: &str) -> String {
    format!(
        "warning: {name}.socket listens in netns 'box' and starts {service} on the host: list it under `services` too if it should run \
         inside; `NetworkNamespacePath=/proc/1/ns/net` there says that this is meant\n"
    )
}

fn socket_without_its_service_and_the_other_way_round(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-sock.service", "inherit", "")]);
    socket(&lab, "t-sock.socket", "ListenStream=0.0.0.0:8001\nListenDatagram=[::1]:8001\nListenStream=/run/t-sock");
    // one of another name, enabled and not active
    socket(&lab, "t-other.socket", "ListenStream=127.0.0.1:8002\nService=t-sock.service");
    lab.systemctl(&["start", "t-sock.socket"]);
    let _ = lab.sh("systemctl enable t-other.socket").ok();
    lab.config(&config(&["t-sock"]));
    let both = on_host("t-other", "127.0.0.1:8002", "t-sock.service") + &on_host("t-sock", "0.0.0.0:8001, [::1]:8001", "t-sock.service");
    assert_eq!(lab.sync(&["--dry-run"]).fails(3).stderr, both);
    assert_eq!(lab.sync(&[]).ok().stderr, both);
    lab.sync_nothing();
    lab.systemctl(&["disable", "t-other.socket"]);

    lab.config(&config(&["t-sock.socket"]));
    assert_eq!(lab.sync(&["--restart"]).ok().stderr, started_on_host("t-sock", "t-sock.service"));
    lab.sync_nothing();
    assert_eq!(lab.who("10.42.0.2", "8001").netns, lab.host_netns(), "as it says");
    // both said to be meant
    for (services, unit, section) in [("t-sock.socket", "t-sock.service", "Service"), ("t-sock.service", "t-sock.socket", "Socket")] {
        lab.systemctl(&["stop", "t-sock.socket", "t-sock.service"]);
        lab.config(&config(&[]));
        let _ = lab.sync(&[]).ok();
        lab.write_file(&format!("/etc/systemd/system/{unit}.d/mine.conf"), &format!("[{section}]\nNetworkNamespacePath=/proc/1/ns/net\n"));
        lab.systemctl(&["daemon-reload"]);
        lab.config(&config(&[services]));
        lab.sync_changes(&[]);
        lab.start(&["t-sock.socket"]);
        let address = if section == "Service" { "10.42.0.2" } else { "198.51.100.2" };
        let netns = lab.who(address, "8001").netns;
        assert_eq!(netns, if section == "Service" { lab.host_netns() } else { lab.named_netns("box") });
        let _ = lab.sh(&format!("rm /etc/systemd/system/{unit}.d/mine.conf; rmdir --ignore-fail-on-non-empty /etc/systemd/system/{unit}.d; systemctl stop t-sock.socket t-sock.service")).ok();
    }
}

/// Sockets in the file system lead through any network namespace; those that do not listen are no matter.
fn sockets_that_separate_nothing_make_no_noise(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-unix.service", "inherit", ""), ("t-off.service", "serve 8003", ""), ("t-hand.service", "inherit", "")]);
    socket(&lab, "t-unix.socket", "ListenStream=/run/t-unix.sock");
    socket(&lab, "t-off.socket", "ListenStream=8003");
    // bound by hand
    lab.write_file(
        "/etc/systemd/system/t-hand.socket",
        "[Unit]\nBindsTo=netns@box.service\nAfter=netns@box.service\n[Socket]\nListenStream=8004\nNetworkNamespacePath=/run/netns/box\n",
    );
    lab.systemctl(&["daemon-reload"]);
    lab.systemctl(&["start", "t-unix.socket"]);
    lab.config(&config(&["t-unix", "t-off", "t-hand"]));
    lab.sync_changes(&[]);
    lab.start(&["t-hand.socket"]);
    assert_inside(&lab, "8004");
    let _ = lab.sh("python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/t-unix.sock'); s.send(b'cat /proc/self/cmdline\\n'); s.recv(100)\"").ok();
    lab.assert_active(&["t-unix.service"]);
    assert_eq!(lab.netns_of("t-unix.service"), lab.named_netns("box"));
}

fn port_on_the_host_answered_inside(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-fwd.service", "inherit", "")]);
    socket(
        &lab,
        "t-fwd.socket",
        "ListenStream=0.0.0.0:8001\nListenStream=[::]:8001\nBindIPv6Only=ipv6-only\nNetworkNamespacePath=/proc/1/ns/net",
    );
    lab.systemctl(&["enable", "--now", "t-fwd.socket"]);
    lab.config(&config(&["t-fwd.service"]));
    lab.sync_changes(&[]);
    let answers = |what: &str| {
        let addresses = ["127.0.0.1", "198.51.100.2", "::1", "2001:db8:ffff::2", "10.42.0.1"];
        let pids: BTreeSet<String> = addresses
            .map(|address| {
                let who = lab.who(address, "8001");
                assert_eq!((who.own.as_str(), who.netns), (address, lab.named_netns("box")), "{what}");
                who.pid
            })
            .into();
        assert_eq!(pids.len(), 1, "{what}");
        // its own packets are the namespace's
        assert_eq!(lab.source_of("198.51.100.2", "8001", "198.51.100.2"), "10.42.0.2", "{what}");
        assert_eq!(lab.answer("198.51.100.2", "8001", "ask 10.42.0.2 8001 who"), REFUSED, "inside nothing listens");
        pids
    };
    let mut pids = answers("started by the first connection, and its namespace with it");
    lab.systemctl(&["restart", "t-fwd.service"]);
    pids.extend(answers("restarted"));
    lab.systemctl(&["kill", "--signal=KILL", "t-fwd.service"]);
    let _ = lab.wait_until("it has ended", SECONDS, "[[ $(systemctl show -P MainPID t-fwd.service) = 0 ]]");
    pids.extend(answers("killed"));
    lab.systemctl(&["stop", "t-fwd.service"]);
    lab.wait_gone();
    let _ = lab.wait_until("the socket does not need it", Duration::from_secs(20), "[[ -z $(ls /run/netns) ]]");
    pids.extend(answers("started again"));
    lab.systemctl(&["restart", "netns@box.service"]);
    pids.extend(answers("in a new namespace"));
    assert_eq!(pids.len(), 5, "{pids:?}");
    lab.sync_nothing();
    lab.systemctl(&["disable", "--now", "t-fwd.socket"]);
}

/// For a service that cannot be given a socket.
fn port_on_the_host_by_socket_proxyd(suite: Suite) {
    let lab = Lab::new(suite);
    lab.units(&[("t-web.service", "serve 8000 127.0.0.1", "")]);
    socket(&lab, "t-proxy.socket", "ListenStream=0.0.0.0:8001\nNetworkNamespacePath=/proc/1/ns/net");
    lab.write_file(
        "/etc/systemd/system/t-proxy.service",
        "[Unit]\nRequires=t-web.service\nAfter=t-web.service\n[Service]\nType=notify\n\
         ExecStart=/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:8000\nDynamicUser=yes\nPrivateTmp=yes\n",
    );
    lab.systemctl(&["daemon-reload"]);
    lab.systemctl(&["start", "t-proxy.socket"]);
    lab.config(&config(&["t-web", "t-proxy.service"]));
    lab.sync_changes(&[]);
    for _ in 0..2 {
        // one connection starts the proxy, what it leads to, and their namespace
        let who = lab.who("198.51.100.2", "8001");
        assert_eq!((who.peer.as_str(), who.netns), ("127.0.0.1", lab.named_netns("box")), "the service sees the proxy");
        assert_eq!(lab.answer("127.0.0.1", "9000", "ask 127.0.0.1 8000 who"), REFUSED, "not the host's localhost");
        lab.sync_nothing();
        lab.systemctl(&["restart", "t-web.service"]);
    }
    lab.stop(&["t-web.service", "t-proxy.service"]);
    assert_eq!(lab.who("198.51.100.2", "8001").peer, "127.0.0.1");
}

/// At the next boot the host would be without networkd.
fn service_that_starts_before_networkd_is_refused(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000")]);
    lab.config(&config(&[]));
    lab.sync_changes(&[]);
    lab.config(&config(&["t-one"]));
    for early in ["network-pre.target", "sysinit.target"] {
        lab.write_file("/etc/systemd/system/t-one.service.d/early.conf", &format!("[Unit]\nDefaultDependencies=no\nBefore={early}\n"));
        lab.systemctl(&["daemon-reload"]);
        let before = lab.fingerprint();
        for arguments in [&["--dry-run"][..], &[], &["--restart", "--force"]] {
            assert_eq!(
                lab.sync(arguments).fails(2).stderr,
                format!(
                    "error: t-one.service is to start before {early} (Before=), and its netns 'box' comes up after that: at boot systemd leaves \
                     out one unit of such a cycle, which may be systemd-networkd\n  hint: `systemctl edit --full t-one.service` takes it out; a \
                     drop-in cannot\nerror: nothing was changed\n"
                ),
                "{arguments:?}"
            );
        }
        lab.assert_unchanged(&before);
    }
    let _ = lab.sh("rm -r /etc/systemd/system/t-one.service.d; systemctl daemon-reload").ok();
    lab.sync_changes(&[]);
}

fn service_that_joins_another_is_refused(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-one.service", "8000"), ("t-two.service", "8001")]);
    lab.write_file("/etc/systemd/system/t-one.service.d/join.conf", "[Unit]\nJoinsNamespaceOf=t-two.service\n");
    lab.systemctl(&["daemon-reload"]);
    lab.config(&config(&[]));
    lab.sync_changes(&[]);
    lab.config(&config(&["t-one"]));
    let before = lab.fingerprint();
    for arguments in [&["--dry-run"][..], &[], &["--restart", "--force"], &["box"]] {
        assert_eq!(
            lab.sync(arguments).fails(2).stderr,
            "error: t-one.service has JoinsNamespaceOf=t-two.service, which wins over the namespace it is to run in\n  \
             hint: `systemctl cat t-one.service` shows where\nerror: nothing was changed\n",
            "{arguments:?}"
        );
    }
    lab.assert_unchanged(&before);
    let _ = lab.sh("rm -r /etc/systemd/system/t-one.service.d; systemctl daemon-reload").ok();
    lab.sync_changes(&[]);
    lab.start(&["t-one"]);
    lab.assert_answers("10.42.0.2", "8000");
}
