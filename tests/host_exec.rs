//! `exec`: a command inside a namespace, as if it were run by hand there, and the namespace up as long as it runs.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![
        a_command_is_as_if_run_by_hand_inside,
        the_namespace_is_up_as_long_as_the_command_runs,
        files_and_links_are_the_namespaces,
        what_cannot_be_entered_is_named,
    ]
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.41.0.1/24"]
[namespace.box]
dns = ["10.41.0.1"]
services = ["t-svc"]
interface.eth0 = { bridge = "br0", addresses = ["10.41.0.2/24"] }
"#;

fn lab(suite: Suite) -> Lab {
    let lab = Lab::new(suite);
    lab.services(&[("t-svc.service", "8000")]);
    lab.config(CONFIG);
    lab.sync_changes(&[]);
    lab
}

/// Runs a command inside in the background; gives its PID, which is that of the command.
#[track_caller]
fn start(lab: &Lab, command: &str) -> String {
    let script = format!("netns-networkd exec box -- {command} >/run/t-exec 2>&1 </dev/null & echo $!; disown");
    lab.sh(&script).ok().stdout.trim().to_owned()
}

fn a_command_is_as_if_run_by_hand_inside(suite: Suite) {
    let lab = lab(suite);
    lab.start(&["t-svc"]);
    let exec = |command: &str| lab.sh(&format!("netns-networkd exec box {command}"));
    assert_eq!(exec("stat -Lc %i /proc/self/ns/net").ok().stdout.trim(), lab.named_netns("box"));
    assert_eq!(exec("-- sh -c 'ip -br -4 addr show dev eth0 | grep -o 10.41[0-9./]*'").ok().stdout, "10.41.0.2/24\n");
    // exit code, input, arguments with dashes and spaces, environment, folder
    let output = exec("-- sh -c 'echo \"$0|$1|$HOME\"; pwd >&2; exit 42' --color 'a  b'").fails(42);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("--color|a  b|/root\n", "/\n"), "{output}");
    assert_eq!(lab.sh("cd /usr; echo in | netns-networkd exec box sh -c 'cat; pwd'").ok().stdout, "in\n/usr\n");
    let output = exec("no-such-command").fails(127);
    assert_eq!(output.stderr, "error: failed to run no-such-command: No such file or directory (os error 2)\n");
    let output = exec("/etc/passwd").fails(126);
    assert_eq!(output.stderr, "error: failed to run /etc/passwd: Permission denied (os error 13)\n");
    // a pipe that nobody reads ends it, as it would a command in a shell
    assert_eq!(lab.sh("set +o pipefail; netns-networkd exec box yes | head -n 1; echo ${PIPESTATUS[0]}").ok().stdout, "y\n141\n");

    // signals go to the command, for it is the same process
    let pid = start(&lab, r#"sh -c 'trap "echo got it; exit 5" USR1; echo ready; while :; do sleep 0.05; done'"#);
    let _ = lab.wait_until("it runs", SECONDS, "grep ready /run/t-exec");
    let _ = lab.sh(&format!("kill -USR1 {pid}")).ok();
    let _ = lab.wait_until("it has got the signal", SECONDS, "grep 'got it' /run/t-exec");
    // the terminal is the command's, and without a command there is a shell on it
    let shell = r"printf '%s\n' 'tty; ip -color=never -br -4 addr show dev eth0; exit 7' | SHELL=/bin/sh script -qec 'netns-networkd exec box' /dev/null";
    let output = lab.sh(shell).fails(7);
    assert!(output.stdout.contains("/dev/pts/") && output.stdout.contains("10.41.0.2/24"), "{output}");
    lab.stop(&["t-svc"]);
}

fn the_namespace_is_up_as_long_as_the_command_runs(suite: Suite) {
    let lab = lab(suite);
    let gone = || {
        lab.wait_gone();
        let _ = lab.sh("ls /run/netns/box").fails(2);
        assert_eq!(lab.sh("systemctl list-units --all --plain --no-legend 'netns-exec*'").ok().stdout, "");
    };
    // no service runs: it comes up for the command alone
    let _ = lab.run(&["netns-networkd", "exec", "box", "ip", "link", "show", "eth0"]).ok();
    gone();
    // two at once, each of which keeps it; one dies of kill -9
    let [first, second] = [start(&lab, "sleep 60"), start(&lab, "sleep 60")];
    let scopes = format!("systemctl is-active netns-exec-box-{first}.scope netns-exec-box-{second}.scope");
    let _ = lab.wait_until("both run", SECONDS, &format!("{scopes} && test \"$(cat /proc/{{{first},{second}}}/comm)\" = $'sleep\\nsleep'"));
    lab.sync_nothing();
    lab.start(&["t-svc"]);
    let netns = lab.named_netns("box");
    let _ = lab.sh(&format!("kill -9 {first}; systemctl stop t-svc")).ok();
    let _ = lab.wait_until("the first has ended", SECONDS, &format!("! systemctl is-active netns-exec-box-{first}.scope"));
    assert_eq!(lab.netns_of_process(&second), netns, "the service's end is not the namespace's");
    assert_eq!(lab.named_netns("box"), netns);
    let _ = lab.sh(&format!("kill {second}")).ok();
    gone();
    // systemd starts no command again: it is left without links, and said to be
    let command = start(&lab, "sleep 60");
    let _ = lab.wait_until("it runs", SECONDS, &format!("grep -qx sleep /proc/{command}/comm"));
    lab.config(&CONFIG.replacen("bridge = \"br0\"", "bridge = \"br0\", host-name = \"t-other\"", 1));
    let said = lab.sync(&[]).ok();
    assert!(said.stdout.contains("sleep") && !said.stdout.contains("netns-exec"), "{said}");
    let said = lab.sync(&["--restart"]).ok();
    assert!(said.stdout.contains("restart netns@box.service\n") && !said.stdout.contains("netns-exec"), "{said}");
    let _ = lab.sh(&format!("kill {command}")).ok();
    gone();
    lab.config(CONFIG);
    let _ = lab.sync(&[]).ok();
    // what a command leaves in the background keeps it, too
    let _ = lab.run(&["netns-networkd", "exec", "box", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $! >/run/t-left"]).ok();
    lab.assert_active(&["netns@box.service"]);
    let _ = lab.sh("kill $(cat /run/t-left)").ok();
    gone();
    // an admin who stops the namespace ends the command
    let third = start(&lab, "sleep 60");
    let _ = lab.wait_until("it runs", SECONDS, &format!("grep -x sleep /proc/{third}/comm"));
    lab.systemctl(&["stop", "netns@box"]);
    let _ = lab.wait_until("it has ended", SECONDS, &format!("! test -e /proc/{third}"));
    gone();
}

fn files_and_links_are_the_namespaces(suite: Suite) {
    let lab = lab(suite);
    lab.start(&["t-svc"]);
    // sockets of the host's resolvers, which know another network
    let _ = lab.sh("mkdir -p /run/nscd; echo >/run/nscd/socket").ok();
    let look = "ls /run/nscd /run/systemd/resolve | grep -e socket -e io.systemd; cat /etc/resolv.conf; grep -o 'only inside' /etc/hosts; ls /sys/class/net; ls -d /sys/fs/cgroup/system.slice";
    lab.write_file("/etc/netns/box/hosts", "10.41.0.1 only inside\n");
    lab.write_file("/etc/netns/box/no-such-file-in-etc", "");
    lab.write_file("/etc/netns/box/.hidden", "");
    for resolv_conf in [
        "rm /etc/resolv.conf; echo nameserver 192.0.2.53 >/etc/resolv.conf",
        "mkdir -p /run/systemd/resolve; cd /run/systemd/resolve; echo | tee stub-resolv.conf >io.systemd.Resolve; ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
        "rm -r /run/systemd/resolve",
        "ln -sf /run/t-nowhere/file /etc/resolv.conf",
        "rm /etc/resolv.conf",
    ] {
        let _ = lab.sh(resolv_conf).ok();
        let output = lab.run(&["netns-networkd", "exec", "box", "--", "sh", "-c", look]).ok();
        let shown: Vec<_> = output.stdout.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(shown, ["nameserver 10.41.0.1", "only inside", "eth0", "lo", "/sys/fs/cgroup/system.slice"], "{resolv_conf}\n{output}");
        let missing =
            "warning: /etc/netns/box/no-such-file-in-etc is not seen as /etc/no-such-file-in-etc: No such file or directory (os error 2)\n";
        assert_eq!(output.stderr, missing, "{resolv_conf}");
        // nothing of it on the host
        let _ =
            lab.sh("! cat /etc/resolv.conf /etc/hosts 2>/dev/null | grep -e 10.41.0.1 -e 'only inside'; test -e /sys/class/net/br0").ok();
    }
    let _ = lab
        .sh("echo nameserver 192.0.2.53 >/etc/resolv.conf; rm -r /etc/netns/box/{hosts,no-such-file-in-etc,.hidden} /run/t-nowhere")
        .ok();
    lab.stop(&["t-svc"]);
}

fn what_cannot_be_entered_is_named(suite: Suite) {
    let lab = lab(suite);
    let exec = |arguments: &str| lab.sh(&format!("netns-networkd exec {arguments}"));
    let output = exec("bix true").fails(2);
    assert_eq!(output.stderr, "error: there is no [namespace.bix] in the configuration\n  hint: did you mean 'box'?\n");
    let _ = lab.sh("ip netns add t-foreign").ok();
    let output = exec("t-foreign true").fails(1);
    assert_eq!(
        output.stderr,
        "error: failed to enter netns 't-foreign': it was not made by netns-networkd\n  hint: `ip netns exec t-foreign` enters it\n"
    );
    let _ = lab.sh("ip netns delete t-foreign").ok();
    let output = lab.run(&["setpriv", "--reuid=65534", "--clear-groups", "netns-networkd", "exec", "box", "true"]).fails(1);
    assert_eq!(output.stderr, "error: failed to enter netns 'box': only root can do this\n");
    let record = "/var/lib/netns-networkd/netns/box.json";
    let _ = lab.sh(&format!("mv {record} /run/t-kept; echo broken >{record}")).ok();
    let output = exec("box true").fails(1);
    assert!(output.stderr.starts_with(&format!("error: {record} is broken: ")), "{output}");
    // its namespace does not come up
    let _ = lab.sh(&format!("mv /run/t-kept {record}; ip netns add box")).ok();
    let output = exec("box true").fails(1);
    let says = "error: failed to enter netns 'box': failed to start netns-exec-box-";
    assert!(output.stderr.starts_with(says), "{output}");
    assert!(
        output.stderr.contains("systemd says 'dependency'\n  hint: `journalctl -b -u netns@box.service` shows why it does not come up"),
        "{output}"
    );
    let _ = lab.sh("ip netns delete box; systemctl reset-failed").ok();
    // without a bus, what is up can be entered all the same
    lab.start(&["t-svc"]);
    let output = lab.sh("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/nobody netns-networkd exec box stat -Lc %i /proc/self/ns/net").ok();
    assert_eq!(output.stdout.trim(), lab.named_netns("box"));
    assert!(output.stderr.starts_with("warning: nothing keeps netns 'box' up for this command: failed to connect"), "{output}");
    lab.stop(&["t-svc"]);
}
