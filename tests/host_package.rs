//! The Debian package: what it puts in place, and that installing, upgrading, removing and purging it disturbs nothing that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{BIN, FreshHost, Host, Output, REPO, Shell, Suite, TALK_PY, run, talk_unit};
use crate::{suite_trials, trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![a_package_is_the_same_whoever_builds_it, a_tarball_needs_only_make_to_install];
    trials.extend(suite_trials![upgrades_and_removals_leave_services_alone, a_purge_leaves_nothing, a_purge_leaves_the_host_its_network]);
    trials
}

/// A folder of the machine that goes at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("netns-networkd-{name}-{}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    fn at(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The product of this test run without debug information: packing that takes longer than all the rest.
fn binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = format!("{BIN}-stripped");
        let _ = run("", &["sh", "-euc", &format!("strip -o {path}.{pid} {BIN}; mv {path}.{pid} {path}", pid = std::process::id())]).ok();
        path
    })
}

/// Builds a package of a version; gives its path.
#[track_caller]
fn package(version: &str, folder: &str, how: &[&str]) -> String {
    let what = [&format!("{REPO}/deb/build"), binary(), folder];
    // by which systemd sees that units are others
    let time = format!("SOURCE_DATE_EPOCH=170000000{}", &version[..1]);
    let environment = [&time, "DEB_COMPRESSION=none", &format!("DEB_VERSION={version}")];
    let output = run("", &[&["env"], environment.as_slice(), how, what.as_slice()].concat()).ok();
    output.stdout.trim().to_owned()
}

fn a_package_is_the_same_whoever_builds_it() {
    let folder = Folder::new("package");
    let one = package("1-1", &folder.at("one"), &[]);
    let script = "umask 077; cd /; exec \"$@\"";
    let other = package("1-1", &folder.at("other"), &["TZ=Asia/Tokyo", "LANG=C", "TMPDIR=/var/tmp", "bash", "-c", script, "bash"]);
    assert_ne!(one, other);
    let _ = run("", &["cmp", &one, &other]).ok();

    let listing = run("", &["dpkg-deb", "--contents", &one]).ok().stdout;
    let entries: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    for entry in &entries {
        let [mode, owner, _, date, _, path, ..] = entry[..] else { panic!("{entry:?}") };
        assert!(owner == "root/root" && date == "2023-11-14" && matches!(mode, "drwxr-xr-x" | "-rwxr-xr-x" | "-rw-r--r--"), "{entry:?}");
        let is_for_config = ["./", "./etc/", "./etc/netns-networkd/"].contains(&path);
        assert!(path.starts_with("./usr/") || is_for_config, "{entry:?}");
        // nothing is enabled by a link in the package
        assert!(!path.contains(".wants/") && !path.contains(".requires/"), "{entry:?}");
    }
    for wanted in [
        "bin/netns-networkd",
        "lib/systemd/system/netns@.service",
        "lib/systemd/network/10-netns-gone.network",
        "share/man/man8/netns-networkd.8.gz",
        "share/man/man8/netns@.service.8.gz",
        "share/man/man5/netns-networkd.toml.5.gz",
        "share/bash-completion/completions/netns-networkd",
        "share/zsh/vendor-completions/_netns-networkd",
        "share/fish/vendor_completions.d/netns-networkd.fish",
        "share/doc/netns-networkd/README.md",
        "share/doc/netns-networkd/copyright",
        "share/doc/netns-networkd/changelog.gz",
        "share/doc/netns-networkd/changelog.Debian.gz",
        "share/doc/netns-networkd/third-party.gz",
    ] {
        assert!(entries.iter().any(|entry| entry[5] == format!("./usr/{wanted}")), "the package lacks {wanted}:\n{listing}");
    }
    // each licence of each crate is there
    let third_party =
        run("", &["sh", "-c", "dpkg-deb --fsys-tarfile $0 | tar -xO ./usr/share/doc/netns-networkd/third-party.gz | zcat", &one]);
    let third_party = third_party.ok().stdout;
    assert!(third_party.contains("Apache License") && third_party.contains("\nzbus  "), "{third_party}");
}

fn a_tarball_needs_only_make_to_install() {
    let folder = Folder::new("tarball");
    let build = |to: &str, how: &[&str]| {
        let what = [&format!("{REPO}/deb/tarball"), binary(), &folder.at(to)];
        run("", &[&["env", "SOURCE_DATE_EPOCH=1700000000"], how, what.as_slice()].concat()).ok().stdout.trim().to_owned()
    };
    let one = build("one", &[]);
    let other = build("other", &["TZ=Asia/Tokyo", "bash", "-c", "umask 077; exec \"$@\"", "bash"]);
    let _ = run("", &["cmp", &one, &other]).ok();
    // no cargo, no git: another distribution
    let script = "cd $0; mkdir bin; for tool in sh make install sed find test; do ln -s $(command -v $tool) bin/; done
        tar -xf $1; cd netns-networkd-*/; env -i PATH=$0/bin make install PREFIX=/opt/nn DESTDIR=$0/root; cmp $2 $0/root/opt/nn/bin/netns-networkd";
    let installed = run("", &["bash", "-euc", script, &folder.at(""), &one, binary()]).ok();
    assert_eq!(installed.stderr, "");
    let unit = fs::read_to_string(folder.at("root/opt/nn/lib/systemd/system/netns@.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/nn/bin/netns-networkd up"), "{unit}");
}

const SECONDS: Duration = Duration::from_secs(10);

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.95.0.1/24", "fd5f::1/64"]
[namespace.box]
services = ["t-svc"]
dns = ["10.95.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.95.0.2/24", "fd5f::2/64"], gateways = ["10.95.0.1", "fd5f::1"] }
[namespace.other]
services = ["t-other"]
interface.eth0 = { bridge = "br0", addresses = ["10.95.0.3/24", "fd5f::3/64"] }
"#;

/// A host without the product, and packages of two versions on it.
struct Packaged(FreshHost);

impl Packaged {
    #[track_caller]
    fn new(suite: Suite, name: &str) -> Self {
        static PACKAGES: OnceLock<[String; 2]> = OnceLock::new();
        // not in /tmp: nobody would remove them
        let packages = PACKAGES.get_or_init(|| ["1-1", "2-1"].map(|version| package(version, &format!("{BIN}-packages"), &[])));
        let host = Host::fresh(suite, &format!("{name}-{suite}"));
        for (package, to) in packages.iter().zip(["one.deb", "two.deb"]) {
            let _ = run("", &["cp", package, &format!("{}/var/tmp/{to}", host.root())]).ok();
        }
        // the root file systems of tests leave documents out
        host.write_file("/etc/dpkg/dpkg.cfg.d/zz-all", "path-include=/usr/share/*\n");
        host.write_file("/usr/local/lib/talk.py", TALK_PY);
        for (unit, port) in [("t-svc", 8000), ("t-other", 8001)] {
            host.write_file(&format!("/etc/systemd/system/{unit}.service"), &talk_unit(&format!("serve {port}"), ""));
        }
        let _ = host.run(&["systemctl", "daemon-reload"]).ok();
        Self(host)
    }

    #[track_caller]
    fn apt(&self, arguments: &str) -> Output {
        self.0.sh(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends --allow-downgrades {arguments} 2>&1"
        ))
    }

    #[track_caller]
    fn start(&self, config: &str) {
        self.0.write_file("/etc/netns-networkd/test.toml", config);
        let _ = self.0.sh("netns-networkd sync; systemctl start t-svc").ok();
        // the host's own, which are tentative for a second or two after an uplink has joined
        let _ = self.0.wait_until("the bridge has its addresses", SECONDS, "[[ -z $(ip -6 addr show dev br0 tentative) ]]");
    }

    /// Who serves, as the service says it to somebody who asks at its address.
    #[track_caller]
    fn who(&self) -> String {
        let script = "systemctl show -P MainPID t-svc; for a in 10.95.0.2 fd5f::2; do python3 /usr/local/lib/talk.py ask $a 8000 who | cut -d' ' -f2-; done";
        self.0.wait_until("the service answers", SECONDS, script).stdout
    }

    /// Every file that is not this test's or the package manager's, and every link and unit.
    #[track_caller]
    fn picture(&self) -> String {
        self.0
            // the folder of namespaces is iproute2's, too
            .sh("cd /; { find etc usr var/lib run/netns?* -xdev -printf '%p %y %l\\n' 2>/dev/null || true; } | sort |
                 grep -vE '^(etc/systemd/system/t-|etc/dpkg|var/lib/(dpkg|apt|systemd)/|usr/lib/python)'
                 ls /sys/class/net; systemctl list-units --all --plain --no-legend 'netns*'; systemctl list-unit-files --no-legend 'netns*' || true")
            .ok()
            .stdout
    }
}

fn upgrades_and_removals_leave_services_alone(suite: Suite) {
    let host = Packaged::new(suite, "upgrade");
    let networkd = host.0.sh("systemctl show -P MainPID systemd-networkd").ok();
    let _ = host.apt("install /var/tmp/one.deb").ok();
    // nothing has started, and nothing will
    let enabled =
        "systemctl list-unit-files --no-legend 'netns*' | awk '{ print $1, $2 }'; systemctl list-units --all --plain --no-legend 'netns*'";
    let wanted = "netns-dhcp@.service static\nnetns-hold@.service disabled\nnetns-networkd-rollback.service static\n\
                  netns-online@.service static\nnetns@.service static\n";
    assert_eq!(host.0.sh(enabled).ok().stdout, wanted);
    assert_eq!(host.0.sh("systemctl show -P MainPID systemd-networkd").ok().stdout, networkd.stdout);
    assert_eq!(host.0.sh("dpkg --verify netns-networkd; dpkg-query -W -f '${Version}' netns-networkd").ok().stdout, "1-1");

    host.start(CONFIG);
    let before = host.who();
    let assert_runs_on = |what: &str| assert_eq!(host.who(), before, "after {what}");
    let ping = "exec ping -n -q -i 0.01 10.95.0.2";
    let meanwhile = |what: &str, arguments: &str| {
        host.0.write_file("/run/ping.sh", ping);
        let _ = host.0.sh("systemd-run -q --unit t-ping -p KillSignal=SIGINT -p StandardOutput=file:/run/ping sh /run/ping.sh").ok();
        let said = host.apt(arguments).ok();
        let pings = host.0.sh("systemctl stop t-ping; cat /run/ping").ok();
        assert!(pings.stdout.contains(" 0% packet loss"), "{what}: {said}\n{pings}");
        assert_runs_on(what);
        said
    };

    let said = meanwhile("an upgrade", "install /var/tmp/two.deb");
    assert!(!said.stdout.contains("netns-networkd:"), "{said}");
    assert_eq!(host.0.sh("systemctl show -P NeedDaemonReload netns@box t-svc; netns-networkd sync 2>&1").ok().stdout, "no\n\nno\n");
    // the new version has what the old one made
    let _ = host.0.sh("systemctl start t-other; ping -n -c 1 -W 2 10.95.0.3; systemctl stop t-other; systemctl restart t-svc").ok();
    let before = host.who();
    let assert_runs_on = |what: &str| assert_eq!(host.who(), before, "after {what}");
    let _ = host.apt("install /var/tmp/one.deb").ok();
    assert_runs_on("a downgrade");

    // changes that nobody could take back any more
    let waits = "/var/lib/netns-networkd/rollback";
    let _ = host.0.sh(&format!("mkdir -p {waits}; touch {waits}/snapshot.toml")).ok();
    let refused = host.apt("remove netns-networkd").fails(100);
    assert!(refused.stdout.contains("netns-networkd: run 'netns-networkd confirm' or 'netns-networkd rollback' first."), "{refused}");
    let _ = host.0.sh(&format!("rm -r {waits}; netns-networkd --version")).ok();

    let said = host.apt("remove netns-networkd").ok();
    assert!(said.stdout.contains("netns-networkd: these run on in their network namespaces: t-svc.service\n"), "{said}");
    assert_runs_on("a removal");
    // it cannot be started again, and nobody stops it for that
    let refused = host.0.run(&["systemctl", "restart", "t-svc"]);
    assert!(refused.code != 0 && refused.stderr.contains("Unit netns@box.service not found."), "{refused}");
    assert_runs_on("a restart that is refused");
    let _ = host.0.sh("systemctl daemon-reload; systemctl daemon-reexec; networkctl reload").ok();
    assert_runs_on("reloads");

    let _ = host.apt("install /var/tmp/two.deb").ok();
    assert_runs_on("an installation");
    assert_eq!(host.0.sh("netns-networkd sync 2>&1").ok().stdout, "");
    let _ = host.0.sh("systemctl restart t-svc").ok();
    let _ = host.who();
    let _ = host.0.sh("systemctl stop t-svc").ok();
    let _ = host.0.wait_until("its namespace has gone", SECONDS, "! test -e /run/netns/box");
}

fn a_purge_leaves_nothing(suite: Suite) {
    let host = Packaged::new(suite, "purge");
    let before = host.picture();
    let _ = host.apt("install /var/tmp/one.deb").ok();
    host.start(CONFIG);
    let _ = host
        .0
        .sh("systemctl -q enable netns-hold@other; echo '# edited' >>/etc/systemd/system/t-other.service.d/50-netns-networkd.conf
             touch /etc/systemd/network/.10-netns-networkd-port-box-eth0.network.netns-networkd-new; systemctl stop t-svc")
        .ok();
    let _ = host.0.wait_until("its namespace has gone", SECONDS, "! test -e /run/netns/box");
    let said = host.apt("purge netns-networkd").ok();
    assert!(!said.stdout.contains("netns-networkd:"), "{said}");
    let after = host.picture();
    assert!(before == after, "{}", crate::common::diff(&before, &after));
    assert_eq!(host.0.run(&["systemctl", "is-system-running"]).ok().stdout, "running\n");
    // without it, the service is the host's
    let _ = host.0.sh("systemctl start t-svc; test /proc/$(systemctl show -P MainPID t-svc)/ns/net -ef /proc/1/ns/net").ok();
}

fn a_purge_leaves_the_host_its_network(suite: Suite) {
    let host = Packaged::new(suite, "uplink");
    let _ = host.apt("install /var/tmp/one.deb").ok();
    let uplink = "uplinks = [\"eno1\"]\naddresses = [\"198.51.100.2/24\", \"2001:db8:ffff::2/64\", ";
    host.start(&CONFIG.replace("addresses = [\"10.95.0.1/24\", ", &format!("{uplink}\"10.95.0.1/24\", ")));
    let before = host.who();
    // what `import` has an admin put away is in no other place
    let _ = host.0.sh("cd /etc/netns-networkd; mkdir -p imported/old/namespaces; echo 'iface eth0' >imported/old/namespaces/box; touch imported/state.sh").ok();
    let said = host.apt("purge netns-networkd").ok();
    assert!(
        said.stdout.contains("netns-networkd: the set-up before `netns-networkd import` stays in /etc/netns-networkd/imported/old\n"),
        "{said}"
    );
    assert_eq!(
        host.0.sh("cd /etc/netns-networkd; find . -type f; rm -r /etc/netns-networkd").ok().stdout,
        "./imported/old/namespaces/box\n"
    );
    let network = "/etc/systemd/network/10-netns-networkd-bridge-br0.netdev /etc/systemd/network/10-netns-networkd-bridge-br0.network \
                   /etc/systemd/network/10-netns-networkd-uplink-eno1.network";
    assert!(said.stdout.contains(&format!("netns-networkd: these stay, for the host has its network by them: {network}\n")), "{said}");
    assert!(said.stdout.contains("these run on in their network namespaces: t-svc.service\n"), "{said}");
    assert_eq!(host.who(), before);
    let _ = host.0.sh("systemctl daemon-reload; networkctl reload").ok();
    assert_eq!(host.who(), before);
    let left = "ls -d /etc/systemd/network/* /etc/systemd/system/*.d /etc/netns* /var/lib/netns-networkd /usr/bin/netns-networkd 2>/dev/null | xargs";
    assert_eq!(host.0.sh(left).stdout.trim(), network);

    let _ = host.0.sh("systemctl -q enable t-svc").ok();
    host.0.reboot();
    let _ = host.0.wait_until(
        "the host has its network",
        SECONDS,
        "test \"$(ip -br addr show br0 | grep -cE '198.51.100.2/24.*10.95.0.1/24')\" = 1 && bridge link show dev eno1 | grep forwarding",
    );
    let at = host.0.sh("python3 /usr/local/lib/talk.py ask 10.95.0.1 8000 who | cut -d' ' -f2").ok().stdout;
    assert_eq!(at, "10.95.0.1\n", "the service is the host's now");
    assert!(Path::new(&host.0.root()).exists());
}
