//! `sync` on booted hosts: it changes what is asked for and nothing else, and strands no running service.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, diff, program, run};
use crate::{suite_trials, trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = suite_trials![
        second_sync_does_nothing,
        dry_run_shows_and_changes_nothing,
        what_leaves_the_configuration_leaves_the_host,
        edited_file_is_kept,
        foreign_file_is_kept,
        deleted_file_comes_back,
        live_change_of_a_running_namespace,
        running_service_is_adopted,
        running_service_is_adopted_with_restart,
        running_service_is_released,
        running_service_moves_to_another_namespace,
        namespace_goes_while_its_service_runs,
        names_limit_what_is_done,
        image_is_prepared_offline,
        killed_sync_is_mended_by_the_next,
        cut_off_while_a_namespace_comes_up,
        nobody_reads_what_sync_says,
        two_syncs_at_once,
        sync_while_services_come_and_go,
        catch_all_of_an_admin_is_named,
        release_cut_off_before_the_reload,
    ];
    trials.extend(trials![
        a_folder_that_is_not_there_is_no_image,
        who_has_waited_reads_the_configuration_anew,
        none_of_many_files_is_overlooked
    ]);
    trials
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.30.0.1/24", "fd1e::1/64"]

[namespace.web]
description = "the web"
services = ["t-web"]
dns = ["10.30.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.30.0.2/24", "fd1e::2/64"], gateways = ["10.30.0.1", "fd1e::1"] }
"#;

fn web(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000")]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab
}

fn second_sync_does_nothing(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000")]);
    lab.config(CONFIG);
    let first = lab.sync(&[]).ok();
    let wanted = "\
        add file /etc/netns/web/nsswitch.conf\n\
        add file /etc/netns/web/resolv.conf\n\
        add file /etc/systemd/network/10-netns-networkd-bridge-br0.netdev\n\
        add file /etc/systemd/network/10-netns-networkd-bridge-br0.network\n\
        add file /etc/systemd/network/10-netns-networkd-port-web-eth0.network\n\
        add file /var/lib/netns-networkd/netns/web.json\n\
        reload systemd-networkd\n\
        add file /etc/systemd/system/netns@web.service.d/50-netns-networkd.conf\n\
        add file /etc/systemd/system/t-web.service.d/50-netns-networkd.conf\n\
        reload systemd\n";
    assert!(first.stdout == wanted && first.stderr.is_empty(), "{}", diff(wanted, &first.to_string()));
    assert_eq!(lab.property("netns@web", "Description"), "Network namespace web: the web");

    let _ = lab.run(&["systemctl", "service-log-level", "systemd-networkd", "debug"]).ok();
    for service in ["stop", "start"] {
        lab.systemctl(&[service, "t-web"]);
        // networkd looks at the port in its own time
        let settled = "! ip link show web-eth0 || networkctl --no-legend list web-eth0 | grep ' configured'
                       ! networkctl --no-legend list | grep -E 'configuring|pending'";
        let _ = lab.wait_until("networkd has settled", SECONDS, settled);
        let before = lab.fingerprint();
        for arguments in [&[][..], &["web"], &["--restart"], &["--force"], &["--dry-run"]] {
            let said = lab.journal_of("systemd-networkd", || {
                let output = lab.sync(arguments).ok();
                assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "sync {arguments:?}");
            });
            assert!(!said.contains("Reload") && !said.contains("Configuring") && !said.contains(".network"), "sync {arguments:?}\n{said}");
        }
        lab.assert_unchanged(&before);
    }
    // the journal would have told
    let _ = lab.sh("touch /etc/systemd/network/10-netns-networkd-bridge-br0.network").ok();
    let said = lab.journal_of("systemd-networkd", || drop(lab.run(&["networkctl", "reload"]).ok()));
    assert!(said.contains("Reload") && said.contains("10-netns-networkd-bridge-br0.network"), "{said}");
    let _ = lab.run(&["systemctl", "service-log-level", "systemd-networkd", "info"]).ok();
}

fn dry_run_shows_and_changes_nothing(suite: Suite) {
    let lab = web(suite);
    lab.services(&[("t-old.service", "8001")]);
    lab.start(&["t-web", "t-old"]);
    lab.config(&format!(
        "{}\n[bridge.br1]\n[namespace.old]\nservices = [\"t-old\"]\ninterface.eth0 = {{ bridge = \"br1\", addresses = [\"10.30.1.2/24\"] }}\n",
        CONFIG.replace("\"10.30.0.2/24\", ", "\"10.30.0.3/24\", ").replace("description = \"the web\"", "")
    ));
    let before = lab.fingerprint();
    let output = lab.sync(&["--dry-run"]).fails(3);
    assert_eq!(output.stderr, "");
    for wanted in [
        "--- /dev/null\n+++ /etc/systemd/network/10-netns-networkd-bridge-br1.netdev\n@@ -0,0 +1,5 @@\n",
        "\n+Name=br1\n+Kind=bridge\n",
        "--- /var/lib/netns-networkd/netns/web.json\n+++ /var/lib/netns-networkd/netns/web.json\n",
        "\n-          \"address\": \"10.30.0.2/24\"\n+          \"address\": \"10.30.0.3/24\"\n",
        "--- /etc/systemd/system/netns@web.service.d/50-netns-networkd.conf\n+++ /dev/null\n",
        "\n-Description=Network namespace web: the web\n",
        "\n+BindsTo=netns@old.service\n+After=netns@old.service\n",
        "\nwould reload systemd-networkd\n",
        "\nwould reload systemd\n",
        "\nwould change netns 'web' while it runs\n",
        "  remove address 10.30.0.2/24 from link 'eth0'\n",
        "  add address 10.30.0.3/24 to link 'eth0'\n",
        "pending: t-old.service still runs on the host and will run in netns 'old' when it is restarted: \
         `systemctl restart t-old.service` or `netns-networkd sync --restart`\n",
    ] {
        assert!(output.stdout.contains(wanted), "not in the dry run: {wanted}\n{output}");
    }
    let restart = lab.sync(&["--dry-run", "--restart"]).fails(3);
    assert!(restart.stdout.contains("\nwould restart t-old.service\n") && !restart.stdout.contains("pending"), "{restart}");
    // and without root
    let output = lab.run(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "netns-networkd", "sync", "--dry-run"]);
    assert!(output.code == 3 && output.stdout.contains("\n+Name=br1\n"), "{output}");
    lab.assert_unchanged(&before);
    lab.assert_answers("10.30.0.2", "8000");
}

fn what_leaves_the_configuration_leaves_the_host(suite: Suite) {
    let lab = web(suite);
    lab.services(&[("t-sql.service", "8001")]);
    lab.config(&format!(
        "{CONFIG}\n[bridge.br1]\nmtu = 1400\n[namespace.sql]\nservices = [\"t-sql\"]\ndns = [\"10.30.1.1\"]\ninterface.eth0 = {{ bridge = \"br1\" }}\n"
    ));
    lab.sync_changes(&[]);
    lab.start(&["t-web", "t-sql"]);
    let pid = lab.property("t-web", "MainPID");
    let ours = "find /etc/systemd /etc/netns /var/lib/netns-networkd | grep -E 'sql|br1' | grep -v t-sql.service$ || true; ip -br link | grep -E '^(br1|sql-)' || true";
    assert_eq!(lab.sh(ours).ok().stdout.lines().count(), 3 + 2 + 3 + 1 + 2, "{}", lab.sh(ours));
    lab.stop(&["t-sql"]);
    let stranger = "/etc/systemd/system/t-sql.service.d/override.conf";
    lab.write_file(stranger, "[Service]\nNice=5\n");

    lab.config(CONFIG);
    let said = lab.sync_changes(&[]);
    let wanted = "\
        remove file /etc/netns/sql/nsswitch.conf\n\
        remove file /etc/netns/sql/resolv.conf\n\
        remove file /etc/systemd/network/10-netns-networkd-bridge-br1.netdev\n\
        remove file /etc/systemd/network/10-netns-networkd-bridge-br1.network\n\
        remove file /etc/systemd/network/10-netns-networkd-port-sql-eth0.network\n\
        remove file /var/lib/netns-networkd/netns/sql.json\n\
        reload systemd-networkd\n\
        remove file /etc/systemd/system/t-sql.service.d/50-netns-networkd.conf\n\
        reload systemd\n\
        remove bridge 'br1'\n";
    assert!(said == wanted, "{}", diff(wanted, &said));
    assert_eq!(
        lab.sh(ours).ok().stdout,
        format!("{}\n{stranger}\n", stranger.trim_end_matches("/override.conf")),
        "only what somebody else made"
    );
    lab.systemctl(&["start", "t-sql"]);
    assert_eq!(lab.netns_of("t-sql"), lab.host_netns(), "released, it runs on the host");
    assert_eq!(lab.property("t-web", "MainPID"), pid);
    lab.assert_answers("10.30.0.2", "8000");
    let _ = lab.sh(&format!("systemctl stop t-sql; rm -r $(dirname {stranger})")).ok();
}

fn edited_file_is_kept(suite: Suite) {
    let lab = web(suite);
    let edited = "/etc/systemd/network/10-netns-networkd-port-web-eth0.network";
    let drop_in = "/etc/systemd/system/t-web.service.d/50-netns-networkd.conf";
    let original = lab.read_file(edited);
    let _ = lab.sh(&format!("echo '# by hand' >>{edited}; echo '# by hand' >>{drop_in}")).ok();
    let before = lab.fingerprint();
    let kept = |path: &str| format!("{path} was changed by hand and is left alone: `netns-networkd sync --force` replaces it\n");
    for _ in 0..2 {
        let output = lab.sync(&[]).ok();
        assert_eq!(output.stdout, "");
        assert_eq!(output.stderr, format!("warning: {}warning: {}", kept(edited), kept(drop_in)));
    }
    lab.assert_unchanged(&before);
    // other changes are made meanwhile
    lab.config(&CONFIG.replace("the web", "the best"));
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stdout, "change file /etc/systemd/system/netns@web.service.d/50-netns-networkd.conf\nreload systemd\n");
    // and it is not removed either
    let all = lab.read_file("/etc/netns-networkd/test.toml");
    lab.config("");
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, format!("warning: {}warning: {}", kept(edited), kept(drop_in)));
    let _ = lab.run(&["ls", edited, drop_in]).ok();
    lab.config(&all);
    let _ = lab.sync(&[]).ok();

    let output = lab.sync(&["--force"]).ok();
    assert_eq!(output.stdout, format!("change file {edited}\nreload systemd-networkd\nchange file {drop_in}\nreload systemd\n"));
    assert_eq!(output.stderr, "");
    assert_eq!(lab.read_file(edited), original);
    lab.sync_nothing();
    lab.start(&["t-web"]);
    lab.assert_answers("fd1e::2", "8000");
}

/// A file of one of our names that we did not make, a link to /dev/null above all, is somebody's will.
fn foreign_file_is_kept(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000")]);
    let path = "/etc/netns/web/resolv.conf";
    lab.write_file(path, "nameserver 10.30.0.99\n");
    let masked = "/etc/systemd/system/netns@web.service.d/50-netns-networkd.conf";
    let _ = lab.sh(&format!("mkdir -p $(dirname {masked}); ln -s /dev/null {masked}")).ok();
    lab.config(CONFIG);
    let kept = |path: &str| {
        format!("warning: {path} was not made by netns-networkd and is left alone: `netns-networkd sync --force` replaces it\n")
    };
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, kept(path) + &kept(masked));
    assert_eq!(lab.read_file(path), "nameserver 10.30.0.99\n");
    lab.start(&["t-web"]);
    assert_eq!(lab.ask("10.30.0.2", "8000", "cat /etc/resolv.conf"), "nameserver 10.30.0.99\n");
    lab.stop(&["t-web"]);
    let output = lab.sync(&["--force"]).ok();
    assert_eq!(output.stderr, "");
    assert!(lab.read_file(path).ends_with("nameserver 10.30.0.1\n"));
    assert_eq!(
        lab.sh(&format!("test ! -L {masked}; cat {masked} | tail -n 1")).ok().stdout,
        "Description=Network namespace web: the web\n"
    );
    assert_eq!(lab.sh("ls -l /dev/null").ok().stdout.chars().next(), Some('c'));
    lab.sync_nothing();
}

fn deleted_file_comes_back(suite: Suite) {
    let lab = web(suite);
    let files = lab.sh("grep -o '^\"/[^\"]*\"' /var/lib/netns-networkd/manifest.toml | tr -d '\"'").ok().stdout;
    assert_eq!(files.lines().count(), 8, "{files}");
    lab.start(&["t-web"]);
    let pid = lab.property("t-web", "MainPID");
    for file in files.lines() {
        let before = lab.read_file(file);
        let _ = lab.run(&["rm", file]).ok();
        let said = lab.sync_changes(&[]);
        assert!(said.starts_with(&format!("add file {file}\n")) || said.contains(&format!("\nadd file {file}\n")), "{file}: {said}");
        assert_eq!(lab.read_file(file), before);
        assert_eq!(lab.property("t-web", "MainPID"), pid, "{file}");
    }
    // all at once, and the bridge too
    let _ = lab.sh(&format!("rm {}", files.replace('\n', " "))).ok();
    lab.sync_changes(&[]);
    lab.assert_answers("10.30.0.2", "8000");
    assert_eq!(lab.property("t-web", "MainPID"), pid);
    lab.stop(&["t-web"]);
    let _ = lab.run(&["ip", "link", "delete", "br0"]).ok();
    let said = lab.sync_changes(&[]);
    assert_eq!(said, "reload systemd-networkd\n");
    lab.start(&["t-web"]);
    lab.assert_answers("10.30.0.2", "8000");
    lab.assert_answers("fd1e::2", "8000");
}

fn live_change_of_a_running_namespace(suite: Suite) {
    let lab = web(suite);
    lab.start(&["t-web"]);
    let identity = || {
        let mut text = lab.property("t-web", "MainPID") + &lab.named_netns("web");
        text += &lab.property("netns@web", "ActiveEnterTimestampMonotonic");
        text + &lab.sh("ip -n web -o link show eth0 | cut -d: -f1; ip -o link show web-eth0 | cut -d: -f1").ok().stdout
    };
    let before = identity();
    let change = |interface: &str, said: &[&str]| {
        let (head, _) = CONFIG.split_once("interface.eth0").unwrap();
        lab.config(&format!("{head}{interface}\n"));
        let output = lab.sync_changes(&[]);
        for line in said {
            assert!(output.contains(&format!("{line} in netns 'web'\n")), "{line}\nis not in\n{output}");
        }
        assert_eq!(output.lines().filter(|line| line.ends_with(" in netns 'web'")).count(), said.len(), "{output}");
        assert_eq!(identity(), before, "the service, the namespace and the link are the same as before");
    };
    // an address more, while somebody is connected
    let _ = lab
        .sh("rm -f /run/t-answer; mkfifo /run/t-fifo; exec 9<>/dev/tcp/fd1e::2/8000
             setsid bash -c 'cat /run/t-fifo >&9; cat <&9 >/run/t-answer.new; mv /run/t-answer.new /run/t-answer' >/dev/null 2>&1 & disown")
        .ok();
    change(
        r#"interface.eth0 = { bridge = "br0", addresses = ["10.30.0.2/24", "10.30.0.3/24", "fd1e::2/64", "fd1e::3/64"], gateways = ["10.30.0.1", "fd1e::1"] }"#,
        // the last that is added is the kernel's first choice, and the first that is written is ours
        &[
            "add address 10.30.0.3/24 to link 'eth0'",
            "add address fd1e::3/64 to link 'eth0'",
            "move address fd1e::2/64 of link 'eth0' to its place among the others",
        ],
    );
    let _ = lab.sh("echo who >/run/t-fifo").ok();
    let _ = lab.wait_until("the open connection is answered", SECONDS, "test -e /run/t-answer");
    assert_eq!(lab.read_file("/run/t-answer").split(' ').nth(1), Some("fd1e::2"), "a connection that was open all the time");
    for address in ["10.30.0.2", "10.30.0.3", "fd1e::2", "fd1e::3"] {
        lab.assert_answers(address, "8000");
    }
    assert_eq!(lab.source_of("10.30.0.3", "8000", "fd1e::1"), "fd1e::2", "still the first");
    assert_eq!(lab.source_of("10.30.0.3", "8000", "10.30.0.1"), "10.30.0.2", "still the first");
    // the first address of its subnet goes, the others and the routes stay
    change(
        r#"interface.eth0 = { bridge = "br0", addresses = ["10.30.0.3/24", "fd1e::3/64"], gateways = ["10.30.0.1", "fd1e::1"] }"#,
        &["remove address 10.30.0.2/24 from link 'eth0'", "remove address fd1e::2/64 from link 'eth0'"],
    );
    for address in ["10.30.0.3", "fd1e::3"] {
        lab.assert_answers(address, "8000");
    }
    let _ = lab.sh("if ping -n -c 1 -W 1 10.30.0.2 >&2; then exit 1; fi; ip -n web route show default | grep -F 'via 10.30.0.1'; ip -n web -6 route show default | grep -F 'via fd1e::1'").ok();
    // routes come, change and go
    change(
        r#"interface.eth0 = { bridge = "br0", addresses = ["10.30.0.3/24", "fd1e::3/64"], gateways = ["10.30.0.1", "fd1e::1"], routes = [{ to = "10.96.0.0/16", via = "10.30.0.1" }, { to = "fd60::/16", via = "fd1e::1" }] }"#,
        &["add route 10.96.0.0/16 via 10.30.0.1 to link 'eth0'", "add route fd60::/16 via fd1e::1 to link 'eth0'"],
    );
    change(
        r#"interface.eth0 = { bridge = "br0", addresses = ["10.30.0.3/24", "fd1e::3/64"], gateways = ["10.30.0.9", "fd1e::1"], routes = [{ to = "10.96.0.0/16", via = "10.30.0.9" }] }"#,
        &[
            "replace route IPv4 default via 10.30.0.1 by IPv4 default via 10.30.0.9 on link 'eth0'",
            "replace route 10.96.0.0/16 via 10.30.0.1 by 10.96.0.0/16 via 10.30.0.9 on link 'eth0'",
            "remove route fd60::/16 via fd1e::1 from link 'eth0'",
        ],
    );
    let route = lab.sh("ip -n web route get 10.96.1.1; ip -n web route get 192.0.2.1").ok().stdout;
    assert_eq!(route.matches("via 10.30.0.9 dev eth0").count(), 2, "{route}");
    // the MTU, of both ends
    change(
        r#"interface.eth0 = { bridge = "br0", mtu = 1400, addresses = ["10.30.0.3/24", "fd1e::3/64"] }"#,
        &[
            "set MTU of link 'eth0' and host end 'web-eth0' to 1400",
            "remove route IPv4 default via 10.30.0.9 from link 'eth0'",
            "remove route 10.96.0.0/16 via 10.30.0.9 from link 'eth0'",
            "remove route IPv6 default via fd1e::1 from link 'eth0'",
        ],
    );
    let mtu = lab.sh("ip -n web link show eth0; ip link show web-eth0").ok().stdout;
    assert_eq!(mtu.matches(" mtu 1400 ").count(), 2, "{mtu}");
    lab.assert_answers("fd1e::3", "8000");
    // a second interface
    let second = r#"interface.eth0 = { bridge = "br0", mtu = 1400, addresses = ["10.30.0.3/24", "fd1e::3/64"] }
        interface.eth1 = { bridge = "br0", addresses = ["10.30.9.2/24", "fd1e:9::2/64"] }"#;
    let (head, _) = CONFIG.split_once("interface.eth0").unwrap();
    lab.config(&format!("{}{second}\n", head.replace("\"fd1e::1/64\"", "\"fd1e::1/64\", \"10.30.9.1/24\", \"fd1e:9::1/64\"")));
    let said = lab.sync_changes(&[]);
    assert!(said.contains("add link 'eth1' with host end 'web-eth1' on bridge 'br0' in netns 'web'\n"), "{said}");
    for address in ["10.30.9.2", "fd1e:9::2", "10.30.0.3", "fd1e::3"] {
        lab.assert_answers(address, "8000");
    }
    assert_eq!(lab.source_of("10.30.0.3", "8000", "10.30.9.1"), "10.30.9.2");
    assert_eq!(identity(), before);
    let _ = lab.sh("rm /run/t-fifo /run/t-answer").ok();
    // and it goes again
    change(
        r#"interface.eth0 = { bridge = "br0", mtu = 1400, addresses = ["10.30.0.3/24", "fd1e::3/64"] }"#,
        &["remove link 'eth1' with host end 'web-eth1'"],
    );
    assert_eq!(lab.sh("ip -br link show master br0 | wc -l; ip -n web -br link | wc -l").ok().stdout, "1\n2\n");
    lab.assert_answers("10.30.0.3", "8000");
}

fn still_runs(unit: &str, place: &str, goal: &str) -> String {
    format!(
        "pending: {unit} still runs {place} and will run {goal} when it is restarted: `systemctl restart {unit}` or `netns-networkd sync --restart`\n"
    )
}

/// Asserts that `sync` says each time that this is pending, and does nothing.
#[track_caller]
fn assert_pending(lab: &Lab, pending: &str) {
    let before = lab.fingerprint();
    for _ in 0..2 {
        let output = lab.sync(&[]).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), (pending, ""));
    }
    lab.assert_unchanged(&before);
}

/// Asserts that a service stays where it is when an admin has systemd read its units again, right after a sync.
#[track_caller]
fn assert_survives_reloads(lab: &Lab, unit: &str) {
    let look = || (lab.property(unit, "MainPID"), lab.netns_of(unit), lab.sh("ls /run/netns; ip -br link show type veth").ok().stdout);
    let before = look();
    for command in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
        lab.systemctl(&[command]);
        assert_eq!(look(), before, "after {command}");
    }
}

const ADOPTED: &str = r#"
[bridge.br0]
addresses = ["10.31.0.1/24"]
[namespace.one]
services = ["t-svc", "t-idle"]
interface.eth0 = { bridge = "br0", addresses = ["10.31.0.2/24"] }
[namespace.two]
interface.eth0 = { bridge = "br0", addresses = ["10.31.0.3/24"] }
"#;

fn running_service_is_adopted(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-idle.service", "8001")]);
    lab.start(&["t-svc"]);
    let pid = lab.property("t-svc", "MainPID");
    lab.config(ADOPTED);
    let output = lab.sync(&[]).ok();
    let pending = still_runs("t-svc.service", "on the host", "in netns 'one'");
    assert!(output.stdout.ends_with(&pending) && output.stderr.is_empty(), "{output}");
    assert_eq!((lab.property("t-svc", "MainPID"), lab.netns_of("t-svc")), (pid.clone(), lab.host_netns()), "it runs on");
    assert_survives_reloads(&lab, "t-svc");
    assert_pending(&lab, &pending);

    lab.systemctl(&["restart", "t-svc"]);
    assert_eq!(lab.netns_of("t-svc"), lab.named_netns("one"));
    lab.assert_answers("10.31.0.2", "8000");
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, "");
    assert!(!output.stdout.contains("pending"), "{output}");
    lab.sync_nothing();
    lab.assert_answers("10.31.0.2", "8000");
    lab.stop(&["t-svc"]);
    assert_eq!(lab.sh("ls /run/netns; systemctl list-units --plain --no-legend 'netns*'").ok().stdout, "", "nothing holds the namespace");
}

fn running_service_is_adopted_with_restart(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-idle.service", "8001")]);
    lab.start(&["t-svc"]);
    lab.config(ADOPTED);
    let output = lab.sync(&["--restart"]).ok();
    assert!(output.stdout.contains("\nrestart t-svc.service\n") && output.stderr.is_empty(), "{output}");
    assert_eq!(lab.netns_of("t-svc"), lab.named_netns("one"));
    lab.assert_answers("10.31.0.2", "8000");
    assert_eq!(lab.property("t-idle", "ActiveState"), "inactive", "what does not run is not started");
    lab.sync_nothing();
    assert_eq!(lab.systemctl(&["list-units", "--plain", "--no-legend", "netns-hold@*"]), "");
}

fn running_service_is_released(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-idle.service", "8001")]);
    lab.config(ADOPTED);
    lab.sync_changes(&[]);
    let released = ADOPTED.replace("\"t-svc\", ", "");
    for restart in [false, true] {
        lab.start(&["t-svc"]);
        let pid = lab.property("t-svc", "MainPID");
        let netns = lab.named_netns("one");
        lab.config(&released);
        if restart {
            let output = lab.sync(&["--restart"]).ok();
            assert!(output.stdout.contains("restart t-svc.service\n") && output.stderr.is_empty(), "{output}");
        } else {
            let output = lab.sync(&[]).ok();
            let pending = still_runs("t-svc.service", "in netns 'one'", "on the host");
            assert!(output.stdout.ends_with(&pending) && output.stderr.is_empty(), "{output}");
            let there = (pid, netns);
            assert_eq!((lab.property("t-svc", "MainPID"), lab.netns_of("t-svc")), there, "it runs on");
            assert_survives_reloads(&lab, "t-svc");
            lab.assert_answers("10.31.0.2", "8000");
            assert_pending(&lab, &pending);
            for name in ["one", "two"] {
                let _ = lab.sync(&[name]).ok();
                assert_eq!((lab.property("t-svc", "MainPID"), lab.netns_of("t-svc")), there, "a look at one namespace ends no hold");
                lab.assert_answers("10.31.0.2", "8000");
            }
            lab.systemctl(&["restart", "t-svc"]);
        }
        assert_eq!(lab.netns_of("t-svc"), lab.host_netns());
        let _ = lab.sync(&[]).ok();
        lab.sync_nothing();
        lab.wait_gone();
        assert_eq!(
            lab.sh("ls /run/netns; systemctl list-units --plain --no-legend 'netns*'").ok().stdout,
            "",
            "nothing holds the namespace"
        );
        lab.config(ADOPTED);
        lab.stop(&["t-svc"]);
        lab.sync_changes(&[]);
    }
}

fn running_service_moves_to_another_namespace(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-idle.service", "8001")]);
    let moved = ADOPTED.replace("\"t-svc\", ", "").replace("[namespace.two]\n", "[namespace.two]\nservices = [\"t-svc\"]\n");
    for restart in [false, true] {
        lab.config(ADOPTED);
        lab.sync_changes(&[]);
        lab.start(&["t-svc"]);
        let before = (lab.property("t-svc", "MainPID"), lab.netns_of("t-svc"));
        lab.config(&moved);
        if restart {
            let output = lab.sync(&["--restart"]).ok();
            assert!(output.stdout.contains("\nrestart t-svc.service\n") && output.stderr.is_empty(), "{output}");
        } else {
            let output = lab.sync(&[]).ok();
            let pending = still_runs("t-svc.service", "in netns 'one'", "in netns 'two'");
            assert!(output.stdout.ends_with(&pending) && output.stderr.is_empty(), "{output}");
            assert_eq!((lab.property("t-svc", "MainPID"), lab.netns_of("t-svc")), before, "it runs on");
            assert_survives_reloads(&lab, "t-svc");
            lab.assert_answers("10.31.0.2", "8000");
            assert_pending(&lab, &pending);
            lab.systemctl(&["restart", "t-svc"]);
        }
        assert_eq!(lab.netns_of("t-svc"), lab.named_netns("two"));
        lab.assert_answers("10.31.0.3", "8000");
        let _ = lab.sync(&[]).ok();
        lab.sync_nothing();
        lab.wait_gone();
        assert_eq!(lab.sh("ls /run/netns").ok().stdout, "two\n");
        lab.stop(&["t-svc"]);
        assert_eq!(lab.sh("ls /run/netns; systemctl list-units --plain --no-legend 'netns*'").ok().stdout, "");
    }
}

fn namespace_goes_while_its_service_runs(suite: Suite) {
    let lab = web(suite);
    lab.start(&["t-web"]);
    let before = (lab.property("t-web", "MainPID"), lab.netns_of("t-web"));
    lab.config("[bridge.br0]\naddresses = [\"10.30.0.1/24\", \"fd1e::1/64\"]\n");
    let retired = "pending: netns 'web' is no longer in the configuration and goes with the next sync after its last unit has stopped: \
                   t-web.service\n";
    let pending = still_runs("t-web.service", "in netns 'web'", "on the host") + retired;
    let output = lab.sync(&[]).ok();
    assert!(output.stdout.ends_with(&pending) && output.stderr.is_empty(), "{output}");
    assert_eq!((lab.property("t-web", "MainPID"), lab.netns_of("t-web")), before, "it runs on");
    assert_survives_reloads(&lab, "t-web");
    for address in ["10.30.0.2", "fd1e::2"] {
        lab.assert_answers(address, "8000");
    }
    assert_pending(&lab, &pending);
    let _ = lab.sh("networkctl reload; systemctl restart systemd-networkd").ok();
    lab.assert_answers("10.30.0.2", "8000");
    // the bridge goes from the configuration too: not from under a running service
    lab.config("");
    let _ = lab.sync(&[]);
    assert_eq!((lab.property("t-web", "MainPID"), lab.netns_of("t-web")), before, "it runs on");
    lab.assert_answers("10.30.0.2", "8000");

    lab.systemctl(&["restart", "t-web"]);
    assert_eq!(lab.netns_of("t-web"), lab.host_netns());
    let output = lab.sync(&[]).ok();
    assert_eq!(output.stderr, "");
    lab.wait_gone();
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    assert_eq!(
        lab.sh("ls /run/netns /run/netns-networkd/netns /var/lib/netns-networkd/netns; ip -br link show type bridge")
            .ok()
            .stdout
            .matches("web")
            .count(),
        0
    );
}

fn names_limit_what_is_done(suite: Suite) {
    let lab = web(suite);
    lab.services(&[("t-sql.service", "8001")]);
    lab.start(&["t-web"]);
    let files = "cd /; find etc/systemd etc/netns var/lib/netns-networkd -printf '%p %i %T@\\n' | grep -E 'web' | sort";
    let before = lab.sh(files).ok().stdout;
    let both = CONFIG.replace("10.30.0.2/24", "10.30.0.7/24")
        + "[namespace.sql]\nservices = [\"t-sql\"]\ninterface.eth0 = { bridge = \"br0\", addresses = [\"10.30.0.4/24\"] }\n";
    lab.config(&both);
    let output = lab.sync(&["nosuch"]).fails(2);
    assert_eq!(output.stderr, "error: there is no [namespace.nosuch] in the configuration\nerror: nothing was changed\n");
    let output = lab.sync(&["sql"]).ok();
    assert!(output.stdout.contains("netns/sql.json\n") && !output.stdout.contains("web") && output.stderr.is_empty(), "{output}");
    assert_eq!(lab.sync(&["sql"]).ok().stdout, "");
    assert_eq!(lab.sh(files).ok().stdout, before, "nothing of the other namespace is touched");
    lab.assert_answers("10.30.0.2", "8000");
    lab.start(&["t-sql"]);
    lab.assert_answers("10.30.0.4", "8001");
    let output = lab.sync(&["--dry-run"]).fails(3);
    assert!(output.stdout.contains("10.30.0.7/24") && !output.stdout.contains("sql"), "{output}");
    let _ = lab.sync(&["sql", "web"]).ok();
    lab.sync_nothing();
    lab.assert_answers("10.30.0.7", "8000");
}

/// `--root`: files into an image, offline. What they do when it boots is in `host_boot`.
fn image_is_prepared_offline(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000")]);
    let image = "/var/tmp/t-image";
    lab.write_file(&format!("{image}/etc/netns-networkd/test.toml"), CONFIG);
    let before = lab.fingerprint();
    let run = |arguments: &[&str]| lab.run(&[&["netns-networkd", "--root", image], arguments].concat());
    let output = run(&["sync", "--dry-run"]).fails(3);
    assert!(output.stdout.contains("+++ /etc/systemd/network/10-netns-networkd-bridge-br0.netdev\n"), "{output}");
    let output = run(&["sync"]).ok();
    assert!(output.stdout.contains("add file /etc/systemd/network/10-netns-networkd-bridge-br0.netdev\n"), "{output}");
    assert!(!output.stdout.contains("reload") && output.stderr.is_empty(), "{output}");
    let output = run(&["sync"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    lab.assert_unchanged(&before);
    let made = lab.sh(&format!("cd {image}; find . -type f -printf '%p %m\\n' | sort")).ok().stdout;
    let wanted = "\
        ./etc/netns-networkd/test.toml 644\n\
        ./etc/netns/web/nsswitch.conf 644\n\
        ./etc/netns/web/resolv.conf 644\n\
        ./etc/systemd/network/10-netns-networkd-bridge-br0.netdev 644\n\
        ./etc/systemd/network/10-netns-networkd-bridge-br0.network 644\n\
        ./etc/systemd/network/10-netns-networkd-port-web-eth0.network 644\n\
        ./etc/systemd/system/netns@web.service.d/50-netns-networkd.conf 644\n\
        ./etc/systemd/system/t-web.service.d/50-netns-networkd.conf 644\n\
        ./var/lib/netns-networkd/lock 600\n\
        ./var/lib/netns-networkd/manifest.toml 644\n\
        ./var/lib/netns-networkd/netns/web.json 644\n";
    assert!(made == wanted, "{}", diff(wanted, &made));
    assert_eq!(lab.sh(&format!("grep -r {image} {image} || true")).ok().stdout, "", "no file names the image's folder");
    for verb in ["up", "down", "online", "dhcp-event"] {
        assert_eq!(
            run(&[verb, "web"]).fails(2).stderr,
            "error: only check, sync and import work on an image; this command is for the running host\n"
        );
    }
    // an image that is laid over a host is what sync on it would have made
    let _ = lab.sh(&format!("cp -a {image}/etc {image}/var /; networkctl reload; systemctl daemon-reload; rm -r {image}")).ok();
    let _ = lab.wait_until("networkd has made the bridge", SECONDS, "networkctl --no-legend list br0 | grep configured");
    lab.start(&["t-web"]);
    lab.assert_answers("10.30.0.2", "8000");
    lab.assert_answers("fd1e::2", "8000");
    let output = lab.sync(&[]).ok();
    // the host's own nsswitch.conf may differ from the image's, which had none
    let expected = ["", "change file /etc/netns/web/nsswitch.conf\n"];
    assert!(expected.contains(&output.stdout.as_str()) && output.stderr.is_empty(), "{output}");
    lab.sync_nothing();
}

fn killed_sync_is_mended_by_the_next(suite: Suite) {
    let lab = web(suite);
    lab.services(&[("t-sql.service", "8001")]);
    lab.start(&["t-web", "t-sql"]);
    let pid = lab.property("t-web", "MainPID");
    let other = CONFIG.replace("10.30.0.2/24\", ", "10.30.0.2/24\", \"10.30.0.22/24\", ")
        + "[bridge.br1]\naddresses = [\"10.30.1.1/24\"]\n[namespace.sql]\nservices = [\"t-sql\"]\ndns = [\"10.30.1.1\"]\n\
           interface.eth0 = { bridge = \"br1\", addresses = [\"10.30.1.2/24\"] }\n";
    lab.write_file("/var/tmp/one.toml", CONFIG);
    lab.write_file("/var/tmp/two.toml", &other);
    // killed at a moment of its run, from its start to its end; then the next one, on the same or on the other configuration
    let rounds = lab.sh(
        r#"cd /var/tmp; next=two; killed=0; ended=0
        # how long one takes, to have them killed at all moments of their run
        for file in two one two one; do
            start=$(date +%s%N); cp $file.toml /etc/netns-networkd/test.toml; netns-networkd sync >/dev/null
            took=$((($(date +%s%N) - start) / 1000))
        done
        for i in $(seq 30); do
            cp $next.toml /etc/netns-networkd/test.toml
            netns-networkd sync >/var/tmp/out 2>&1 & pid=$!
            delay=$((took * i / 33)); sleep $((delay / 1000000)).$(printf %06d $((delay % 1000000)))
            if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); else ended=$((ended + 1)); fi
            wait $pid 2>/dev/null || true
            if ((i % 3 == 0)); then
                # the administrator has changed their mind meanwhile
                [[ $next = two ]] && now=one || now=two
                cp $now.toml /etc/netns-networkd/test.toml
            else
                now=$next
            fi
            netns-networkd sync >/var/tmp/out 2>&1 || { echo "round $i, $now after $next: the next sync fails" >&2; cat /var/tmp/out >&2; exit 1; }
            ! grep -vE '^pending: |^(add|change|remove) file |^reload |in netns |^link |^add bridge|^remove bridge|^(un)?bind|^release|^hold|^end ' /var/tmp/out >&2 || {
                echo "round $i, $now after $next: unexpected words" >&2; exit 1; }
            again=$(netns-networkd sync 2>&1 | grep -v '^pending: t-sql.service ' || true)
            [[ -z $again ]] || { echo "round $i, $now after $next: there is more to do: $again" >&2; exit 1; }
            left=$(find /etc/systemd /etc/netns /var/lib/netns-networkd /run/netns-networkd -name '*netns-networkd-new*')
            [[ -z $left ]] || { echo "round $i, $now after $next: left behind: $left" >&2; exit 1; }
            things=$(ls -d /sys/class/net/br1 /etc/netns/sql /etc/systemd/system/t-sql.service.d /var/lib/netns-networkd/netns/sql.json 2>/dev/null | xargs || true); there=$(wc -w <<<"$things")
            addresses=$(ip -n web -4 -o addr show dev eth0 | wc -l)
            [[ $now = two ]] && wanted='4 2' || wanted='0 1'
            [[ "$there $addresses" = "$wanted" ]] || { echo "round $i, $now after $next: $things, $addresses addresses, not $wanted" >&2; cat /var/tmp/out >&2; exit 1; }
            [[ $(systemctl is-active t-web t-sql | xargs) = 'active active' ]] || { echo "round $i: a service stopped" >&2; exit 1; }
            [[ $now = two ]] && next=one || next=two
        done
        echo $killed $ended; rm one.toml two.toml out"#,
    );
    assert!(rounds.code == 0, "{rounds}\n{}", lab.journal(&["t-web", "t-sql", "netns@*", "netns-hold@*"]));
    let killed: u32 = rounds.stdout.split(' ').next().and_then(|n| n.parse().ok()).unwrap();
    assert!(killed >= 10, "too few were killed in the middle for this test to mean anything: {rounds}");
    assert_eq!(lab.property("t-web", "MainPID"), pid);
    lab.assert_answers("10.30.0.2", "8000");
    lab.systemctl(&["stop", "t-sql"]);
}

/// The namespace that a killed run had begun to start comes up only after the next run has looked.
fn cut_off_while_a_namespace_comes_up(suite: Suite) {
    let lab = web(suite);
    lab.services(&[("t-sql.service", "8001")]);
    lab.start(&["t-sql"]);
    let pid = lab.property("t-sql", "MainPID");
    lab.config(
        &(CONFIG.to_owned()
            + "[bridge.br1]\naddresses = [\"10.30.1.1/24\"]\n[namespace.sql]\nservices = [\"t-sql\"]\n\
               interface.eth0 = { bridge = \"br1\", addresses = [\"10.30.1.2/24\"] }\n"),
    );
    lab.write_file("/var/tmp/one.toml", CONFIG);
    let output = lab.sh(
        "record=/var/lib/netns-networkd/netns/sql.json; mkdir -p /run/netns-networkd/netns
         exec 9>/run/netns-networkd/netns/sql.lock; flock 9
         netns-networkd sync 9>&- >/dev/null 2>&1 & sync=$!
         until pid=$(systemctl show -P MainPID netns@sql) && [[ $pid != 0 ]] && grep -qE \"flock|locks_lock\" /proc/$pid/{stack,wchan} 2>/dev/null; do
             sleep 0.01; done
         kill -9 $sync; wait $sync || true
         mv /var/tmp/one.toml /etc/netns-networkd/test.toml
         netns-networkd sync 9>&- >/run/t-out 2>&1 & sync=$!
         for i in $(seq 40); do [[ -e $record ]] || break; sleep 0.05; done
         exec 9>&-
         wait $sync; cat /run/t-out; rm /run/t-out",
    );
    assert!(output.code == 0 && !output.stdout.contains("warning"), "{output}\n{}", lab.journal(&["netns@sql", "netns-hold@sql"]));
    lab.wait_gone();
    lab.sync_nothing();
    let left =
        lab.sh("ls /run/netns /var/lib/netns-networkd/netns /run/netns-networkd/held; ls /sys/class/net | grep -E 'br1|sql' || true");
    assert_eq!(left.ok().stdout, "/run/netns:\n\n/run/netns-networkd/held:\n\n/var/lib/netns-networkd/netns:\nweb.json\n");
    assert_eq!(lab.property("t-sql", "MainPID"), pid);
    lab.systemctl(&["stop", "t-sql"]);
}

/// A pipe that has closed, and a full disk: work that nobody is told of is done all the same.
fn nobody_reads_what_sync_says(suite: Suite) {
    let lab = Lab::new(suite);
    for (config, output) in [("[bridge.br1]", "| true"), ("[bridge.br1]\n[bridge.br2]", ">/dev/full 2>&1"), ("[bridge.br3]", ">&- 2>&-")] {
        lab.config(config);
        let _ = lab.sh(&format!("set +o pipefail; netns-networkd sync {output}; exit ${{PIPESTATUS[0]}}")).ok();
        lab.sync_nothing();
    }
}

fn two_syncs_at_once(suite: Suite) {
    let lab = web(suite);
    lab.start(&["t-web"]);
    for (old, new) in [("10.30.0.2/24", "10.30.0.5/24"), ("the web", "the best"), ("br0", "br2")] {
        let text = lab.read_file("/etc/netns-networkd/test.toml").replace(old, new);
        if new == "br2" {
            lab.stop(&["t-web"]);
        }
        lab.config(&text);
        let output = lab
            .sh("for i in 1 2 3 4; do netns-networkd sync >/run/out$i 2>&1 & pids+=\" $!\"; done
                 for pid in $pids; do wait $pid; done; for i in 1 2 3 4; do echo \"--- $i\"; cat /run/out$i; done")
            .ok()
            .stdout;
        let runs: Vec<_> = output.split("--- ").skip(1).filter(|run| run.lines().count() > 1).collect();
        assert_eq!(runs.len(), 1, "one does the work, the others find it done:\n{output}");
        lab.sync_nothing();
    }
    lab.start(&["t-web"]);
    lab.assert_answers("10.30.0.5", "8000");
    assert_eq!(lab.sh("ip -br link show master br2 | wc -l; ls /sys/class/net").ok().stdout, "1\nbr2\neno1\nlan\nlo\nweb-eth0\n");
}

/// Whatever they meet of each other, neither fails.
fn sync_while_services_come_and_go(suite: Suite) {
    let lab = web(suite);
    lab.write_file("/var/tmp/one.toml", CONFIG);
    lab.write_file("/var/tmp/two.toml", &CONFIG.replace("10.30.0.2/24\", ", "10.30.0.2/24\", \"10.30.0.22/24\", "));
    let output = lab.sh(
        r"cd /var/tmp; touch busy
        while [[ -e busy ]]; do systemctl restart t-web && systemctl stop t-web && systemctl start t-web || { touch failed; break; }; done & other=$!
        for i in $(seq 10); do for file in two one; do
            cp $file.toml /etc/netns-networkd/test.toml
            netns-networkd sync >out 2>&1 || { cat out >&2; echo $i $file >&2; rm busy; wait $other; exit 1; }
        done; done
        rm busy; wait $other; [[ ! -e failed ]]; rm one.toml two.toml out",
    );
    assert!(output.code == 0, "{output}\n{}", lab.journal(&["t-web", "netns@web"]));
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    lab.assert_answers("10.30.0.2", "8000");
    let counts = "ip -n web -4 -o addr show dev eth0 | wc -l; grep -c ' /run/netns ' /proc/self/mountinfo; ls /run/netns";
    assert_eq!(lab.sh(counts).ok().stdout, "1\n1\nweb\n");
}

fn a_folder_that_is_not_there_is_no_image() {
    let folder = std::env::temp_dir().join(format!("netns-networkd-none-{}", std::process::id()));
    for command in ["sync", "check", "import"] {
        let output = run("", &[program().as_str(), "--root", folder.to_str().unwrap(), command]).fails(2);
        assert_eq!(output.stderr, format!("error: there is no folder {}, which --root names\n", folder.display()));
    }
    assert!(!folder.exists());
}

/// Two wait for a third: whoever comes last does not bring back what the configuration was when it came.
fn who_has_waited_reads_the_configuration_anew() {
    let script = r#"
        top=$(mktemp -d); trap 'rm -r "$top"' EXIT; cd "$top"; mkdir -p etc/netns-networkd var/lib/netns-networkd
        echo '[namespace.old.interface.eth0]' >etc/netns-networkd/a.toml
        exec 9>var/lib/netns-networkd/lock; flock 9
        "$BIN" --root "$top" sync 9>&- & sync=$!
        until grep -qE "flock|locks_lock" /proc/$sync/{stack,wchan}; do sleep 0.01; done 2>/dev/null
        echo '[namespace.new.interface.eth0]' >etc/netns-networkd/a.toml
        exec 9>&-; wait $sync; ls var/lib/netns-networkd/netns"#;
    let output = run("", &["env", &format!("BIN={}", program()), "timeout", "20", "bash", "-euo", "pipefail", "-c", script]).ok();
    assert!(output.stdout.ends_with("new.json\n") && !output.stdout.contains("old"), "{output}");
}

/// A second thread reads those that are listed.
fn none_of_many_files_is_overlooked() {
    let script = r#"
        top=$(mktemp -d); trap 'rm -r "$top"' EXIT; cd "$top"; mkdir -p etc/netns-networkd
        for n in {100..399}; do printf '[namespace.n%s]\nservices = ["s%s"]\n[namespace.n%s.interface.eth0]\nbridge = "br0"\n' $n $n $n; done >etc/netns-networkd/a.toml
        sync() { "$BIN" --root "$top" sync; }
        sync | wc -l; sync
        cd "$top"; rm etc/systemd/network/*-n100-eth0.network var/lib/netns-networkd/netns/n399.json; echo '# edited' >>etc/systemd/network/10-netns-networkd-port-n101-eth0.network
        echo '# edited' >>var/lib/netns-networkd/netns/n398.json; sync 2>&1; sync 2>/dev/null
        printf '[namespace.n250b.interface.eth0]\nbridge = "br0"\n' >>etc/netns-networkd/a.toml; sync 2>/dev/null; sync 2>/dev/null"#;
    let output = run("", &["env", &format!("BIN={}", program()), "bash", "-euo", "pipefail", "-c", script]).ok();
    let edited = |file: &str| format!("warning: {file} was changed by hand and is left alone: `netns-networkd sync --force` replaces it\n");
    let wanted = "900\n".to_owned()
        + &edited("/etc/systemd/network/10-netns-networkd-port-n101-eth0.network")
        + &edited("/var/lib/netns-networkd/netns/n398.json")
        + "add file /etc/systemd/network/10-netns-networkd-port-n100-eth0.network\nadd file /var/lib/netns-networkd/netns/n399.json\n"
        // among those that are listed, one that is not
        + "add file /etc/systemd/network/10-netns-networkd-port-n250b-eth0.network\nadd file /var/lib/netns-networkd/netns/n250b.json\n";
    assert!(output.stdout == wanted, "{}", diff(&wanted, &output.stdout));
}

/// An admin's file that comes first by name takes the bridge: applied, but not verified, and the culprit is named.
fn catch_all_of_an_admin_is_named(suite: Suite) {
    let lab = Lab::new(suite);
    let culprit = "/etc/systemd/network/05-all.network";
    lab.write_file(culprit, "[Match]\nName=br-*\n[Network]\nLinkLocalAddressing=no\n");
    lab.config("[bridge.br-a]\naddresses = [\"10.61.0.1/24\"]\n");
    let output = lab.sync(&[]).fails(4);
    let wanted = format!(
        "warning: not verified: link 'br-a': add address 10.61.0.1/24: networkd takes {culprit} for link 'br-a', not \
         /etc/systemd/network/10-netns-networkd-bridge-br-a.network: rename that file so that it sorts later, or narrow its [Match]\n"
    );
    assert_eq!(output.stderr, wanted);
    let _ = lab.sh(&format!("rm {culprit}")).ok();
    assert_eq!(lab.sync_changes(&[]), "reload systemd-networkd\nlink 'br-a': add address 10.61.0.1/24\n");
    let _ = lab.sh("ip -o addr show dev br-a | grep 10.61.0.1/24").ok();
}

/// As a sync leaves it that is killed between the removal of a drop-in and systemd's reload: the next one must not end the hold.
fn release_cut_off_before_the_reload(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000"), ("t-idle.service", "8001")]);
    lab.config(ADOPTED);
    lab.sync_changes(&[]);
    lab.start(&["t-svc"]);
    let there = (lab.property("t-svc", "MainPID"), lab.netns_of("t-svc"));
    let cut_off = "systemctl start netns-hold@one; mkdir -p /run/netns-networkd/held; touch /run/netns-networkd/held/one
        rm /etc/systemd/system/t-svc.service.d/50-netns-networkd.conf
        sed -i '1i unfinished = true' /var/lib/netns-networkd/manifest.toml";
    let _ = lab.sh(cut_off).ok();
    lab.config(&ADOPTED.replace("\"t-svc\", ", ""));
    let pending = still_runs("t-svc.service", "in netns 'one'", "on the host");
    for _ in 0..2 {
        let output = lab.sync(&[]).ok();
        assert!(output.stdout.ends_with(&pending), "{output}");
        assert_eq!((lab.property("t-svc", "MainPID"), lab.netns_of("t-svc")), there, "it runs on");
        lab.assert_answers("10.31.0.2", "8000");
    }
    lab.systemctl(&["restart", "t-svc"]);
    let _ = lab.sync(&[]).ok();
    lab.sync_nothing();
    lab.wait_gone();
}
