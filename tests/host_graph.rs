//! `graph` on booted hosts: it draws what `status` sees.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::common::{Lab, Shell, Suite, schema};
use crate::suite_trials;

pub fn trials() -> Vec<Trial> {
    suite_trials![pictures_show_the_host_and_its_drift]
}

const SECONDS: Duration = Duration::from_secs(10);

fn pictures_show_the_host_and_its_drift(suite: Suite) {
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-idle.service", "8001")]);
    lab.config(
        r#"
        [bridge.br0]
        addresses = ["10.41.0.1/24", "fd41::1/64"]
        [namespace.web]
        description = "the <web> & more"
        services = ["t-web"]
        interface.eth0 = { bridge = "br0", addresses = ["10.41.0.2/24", "fd41::2/64"] }
        [namespace.idle]
        services = ["t-idle"]
        interface.p2p0 = { host-addresses = ["10.41.1.0/31"], addresses = ["10.41.1.1/31"] }
        "#,
    );
    lab.sync_changes(&[]);
    lab.start(&["t-web"]);
    let settled = "networkctl --no-legend list web-eth0 | grep ' configured'; ! ip address show br0 | grep tentative";
    let _ = lab.wait_until("networkd has settled", SECONDS, settled);
    let graph = |code: i32, arguments: &[&str]| {
        let output = lab.run(&[&["env", "LC_ALL=C.UTF-8", "netns-networkd", "graph"], arguments].concat()).fails(code);
        assert_eq!(output.stderr, "");
        output.stdout
    };
    let before = lab.fingerprint();
    assert_eq!(graph(0, &[]), FINE);
    // what is broken in each of the ways that a picture has: an address, a wire
    lab.assert_unchanged(&before);
    // or it would mend the wire
    lab.systemctl(&["stop", "systemd-networkd.socket", "systemd-networkd.service"]);
    let _ = lab.sh("ip -n web address del 10.41.0.2/24 dev eth0; ip link set web-eth0 nomaster").ok();
    assert_eq!(graph(3, &["web"]), DRIFTED);
    for (format, start, words) in [
        ("svg", "<svg ", "<tspan class=\"bad\">missing</tspan>"),
        ("dot", "graph ", "<font color=\"#cf222e\">missing</font>"),
        ("mermaid", "%%{init", "10.41.0.2/24 missing"),
    ] {
        let picture = graph(3, &["--format", format]);
        assert!(picture.starts_with(start) && picture.contains(words) && picture.contains("2 differences"), "{picture}");
    }
    let svg = graph(3, &["--format", "svg"]);
    roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    // JSON is what pictures are made of
    schema::conforms("status", &graph(3, &["--json"]));
    let both = lab.run(&["netns-networkd", "graph", "--json", "--format", "svg"]).fails(2);
    assert!(both.stdout.contains("cannot be used with") && both.stderr.is_empty(), "{both}");
    let ascii = lab.run(&["env", "LC_ALL=C", "netns-networkd", "graph"]).fails(3);
    assert!(ascii.stdout.is_ascii(), "{ascii}");
    lab.systemctl(&["start", "systemd-networkd"]);
    lab.sync_changes(&[]);
    let _ = lab.wait_until("all is as it was", SECONDS, &format!("{settled}; netns-networkd graph"));
    assert_eq!(graph(0, &[]), FINE);
}

const FINE: &str = "\
● as configured: 2 namespaces, 1 up, 1 down

┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
┃ ● bridge br0: up, MTU 1500                ┃
┃   10.41.0.1/24, fd41::1/64                ┃
┗┯━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
 │ ┌────────────────────────────────────────┐
 │ │ ● netns web: up                        │
 │ │ the <web> & more                       │
 └─┤ eth0: web-eth0 on br0                  │
   │   10.41.0.2/24                         │
   │   fd41::2/64                           │
   │ t-web.service active (running)         │
   └────────────────────────────────────────┘

┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
┃ the host itself                           ┃
┗┯━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
 ╎ ┌────────────────────────────────────────┐
 ╎ │ ○ netns idle: down                     │
 └╌┤ p2p0: idle-p2p0, host has 10.41.1.0/31 │
   │   10.41.1.1/31                         │
   │ t-idle.service inactive                │
   └────────────────────────────────────────┘
";

const DRIFTED: &str = "\
! 2 differences: `netns-networkd status` shows what to do

┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
┃ ● bridge br0: up, MTU 1500        ┃
┃   10.41.0.1/24, fd41::1/64        ┃
┗┯━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
 │ ┌────────────────────────────────┐
 │ │ ! netns web: up, 2 differences │
 │ │ the <web> & more               │
 └×┤ eth0: web-eth0, not on br0     │
   │   10.41.0.2/24 missing         │
   │   fd41::2/64                   │
   │ t-web.service active (running) │
   │ ! sync would: put host end     │
   │   'web-eth0' on bridge 'br0'   │
   │ ! sync would: add address      │
   │   10.41.0.2/24 to link 'eth0'  │
   └────────────────────────────────┘

! warning: systemd-networkd does not run: bridges and ports stay as they are,
  and none comes: `systemctl start systemd-networkd`
";
