//! An image prepared offline: at its first boot everything is in place.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{BIN, Host, Shell, Suite, TALK_PY, install, run, talk_unit};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![image_is_in_place_at_its_first_boot]
}

const CONFIG: &str = r#"
[bridge.br0]
addresses = ["10.60.0.1/24", "fd3c::1/64"]
[namespace.one]
services = ["t-one", "t-sock.socket", "t-sock"]
dns = ["10.60.0.1"]
interface.eth0 = { bridge = "br0", addresses = ["10.60.0.2/24", "fd3c::2/64"], gateways = ["10.60.0.1", "fd3c::1"] }
[namespace.two]
services = ["t-two"]
interface.eth0 = { bridge = "br0", addresses = ["10.60.0.3/24", "fd3c::3/64"] }
"#;

/// A folder of the machine, removed with the value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn image_is_in_place_at_its_first_boot(suite: Suite) {
    let seed = Folder(std::env::temp_dir().join(format!("netns-networkd-seed-{suite}-{}", std::process::id())));
    let path = seed.0.display().to_string();
    let write = |file: &str, text: &str| {
        let file = seed.0.join(file);
        fs::create_dir_all(file.parent().unwrap())
            .and_then(|()| fs::write(&file, text))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    };
    install(&path, BIN);
    write("usr/local/lib/talk.py", TALK_PY);
    let system = "etc/systemd/system";
    // each binds to its addresses alone, which must be usable by then
    write(&format!("{system}/t-one.service"), &talk_unit("serve 8000 10.60.0.2 fd3c::2", ""));
    write(&format!("{system}/t-two.service"), &talk_unit("serve 8000 10.60.0.3 fd3c::3", ""));
    write(&format!("{system}/t-sock.service"), &talk_unit("inherit", ""));
    write(&format!("{system}/t-sock.socket"), "[Socket]\nListenStream=[fd3c::2]:8001\n[Install]\nWantedBy=sockets.target\n");
    for (target, unit) in [("multi-user", "t-one.service"), ("multi-user", "t-two.service"), ("sockets", "t-sock.socket")] {
        let wants = seed.0.join(format!("{system}/{target}.target.wants"));
        fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink(Path::new("..").join(unit), wants.join(unit)).unwrap();
    }
    write("etc/netns-networkd/test.toml", CONFIG);
    let _ = run("", &[format!("{path}/usr/bin/netns-networkd").as_str(), "--root", path.as_str(), "sync"]).ok();

    let host = Host::seeded(suite, &format!("boot-{suite}"), &path);
    assert_eq!(host.run(&["systemctl", "is-system-running"]).ok().stdout, "running\n");
    let units = host.run(&["systemctl", "is-active", "t-one", "t-two", "t-sock.socket", "netns@one", "netns@two"]);
    assert_eq!(units.ok().stdout, "active\n".repeat(5));
    for (address, port) in [("10.60.0.2", "8000"), ("fd3c::2", "8000"), ("10.60.0.3", "8000"), ("fd3c::3", "8000"), ("fd3c::2", "8001")] {
        let answer = host.run(&["python3", "/usr/local/lib/talk.py", "ask", address, port, "who"]).ok().stdout;
        assert!(answer.contains(&format!(" {address} ")), "{answer}");
    }
    let cycle = host.sh("journalctl --boot --output=cat | grep -iE 'ordering cycle|deleted to break' || true").ok().stdout;
    assert_eq!(cycle, "");
    let _ = host.wait_until(
        "networkd has settled",
        Duration::from_secs(10),
        "test $(networkctl --no-legend list | grep -cE '(one-eth0|two-eth0|br0) .* configured') = 3",
    );
    let first = host.run(&["netns-networkd", "sync"]).ok();
    // the image had no nsswitch.conf of the host's to take over
    let nsswitch = "change file /etc/netns/one/nsswitch.conf\n";
    assert!(["", nsswitch].contains(&first.stdout.as_str()) && first.stderr.is_empty(), "{first}");
    let again = host.run(&["netns-networkd", "sync"]).ok();
    assert!(again.stdout.is_empty() && again.stderr.is_empty(), "{again}");

    // and at shutdown nothing hangs: everything stops in order
    let start = std::time::Instant::now();
    let _ = host.run(&["systemctl", "isolate", "--no-block", "rescue.target"]);
    let _ = host.wait_until(
        "services and namespaces have stopped",
        Duration::from_secs(20),
        "[[ -z $(ls /run/netns) ]]; ! systemctl is-active t-one t-two netns@one netns@two | grep -vx inactive",
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}
