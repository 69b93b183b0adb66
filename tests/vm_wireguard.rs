//! WireGuard links, on a kernel that has them. The far ends are made by hand with wg(8), each in a namespace of its own that a pair
//! connects to the host; the namespace of the configuration has nothing but its tunnel.

use std::sync::MutexGuard;

use libtest_mimic::Trial;

use crate::common::{Output, Shell, Vm};
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        tunnel_goes_by_the_hosts_network,
        nothing_leaves_beside_the_tunnel,
        keys_are_read_nowhere_else,
        keys_open_to_others_are_refused,
        peers_change_one_by_one,
        drift_is_mended_and_roaming_is_none,
        keys_change_with_their_files,
        many_peers,
        port_is_free_for_the_next_start,
        credentials,
    ]
}

/// The host's ends are 10.9.0.1 and 10.8.0.1, the far ends' own 10.9.0.2 and 10.8.0.2, in their tunnels 10.100.9.1 and 10.100.8.1.
const PREPARE: &str = r"
umask 077; mkdir -p /root/keys /etc/wireguard /etc/netns-networkd; cd /root/keys
for name in vpn next office home; do wg genkey >$name.key; wg pubkey <$name.key >$name.pub; done
wg genpsk >office.psk; cp vpn.key office.psk /etc/wireguard; umask 022
far() { # NAME NUMBER PSK
    ip netns add $1; ip link add far-$1 type veth peer eth0 netns $1
    ip addr add 10.$2.0.1/24 dev far-$1; ip link set far-$1 up
    ip -n $1 addr add 10.$2.0.2/24 dev eth0; ip -n $1 link set eth0 up
    ip -n $1 link add wg0 type wireguard; ip -n $1 addr add 10.100.$2.1/32 dev wg0; ip -n $1 addr add fd00:100::$2/128 dev wg0
    ip netns exec $1 wg set wg0 listen-port 51820 private-key $1.key
    ip netns exec $1 wg set wg0 peer $(cat vpn.pub) preshared-key $3 allowed-ips 10.100.0.2/32,fd00:100::2/128
    ip -n $1 link set wg0 up; ip -n $1 route add 10.100.0.2/32 dev wg0; ip -n $1 -6 route add fd00:100::2/128 dev wg0
}
far office 9 office.psk; far home 8 /dev/null
# the host has a link of the same name
ip link add wg0 type dummy
printf '%s\n' '[Service]' Type=notify 'ExecStart=/usr/bin/python3 /usr/local/lib/talk.py serve 8080' >/etc/systemd/system/t-vpn.service
systemctl daemon-reload
";

const HOME: &str = "[[namespace.vpn.interface.wg0.peers]]
public-key = \"HOME\"
endpoint = \"10.8.0.2:51820\"
allowed-ips = [\"10.100.8.1/32\"]
";

/// The virtual machine with two far ends, for one test.
struct Tunnel {
    vm: &'static Vm,
    _alone: MutexGuard<'static, ()>,
}

impl Tunnel {
    /// Gives none where this machine cannot run a virtual machine.
    #[track_caller]
    fn new() -> Result<Self, String> {
        let vm = Vm::shared()?;
        let tunnel = Self { _alone: vm.lock(), vm };
        let _ = tunnel.sh(PREPARE).ok();
        Ok(tunnel)
    }

    fn key(&self, file: &str) -> String {
        self.read_file(&format!("/root/keys/{file}")).trim().to_owned()
    }

    /// Writes the configuration: the office as the way to everywhere, more keys of the interface, more tables.
    #[track_caller]
    fn config(&self, keys: &str, more: &str) {
        let private = if keys.contains("private-key-file") { "" } else { "private-key-file = \"/etc/wireguard/vpn.key\"" };
        let preshared = if more.contains("preshared-key-file") { "" } else { "preshared-key-file = \"/etc/wireguard/office.psk\"" };
        let text = format!(
            "[namespace.vpn]\nservices = [\"t-vpn.service\"]\n[namespace.vpn.interface.wg0]\nkind = \"wireguard\"\n{private}\n\
             addresses = [\"10.100.0.2/32\", \"fd00:100::2/128\"]\nroutes = [{{ to = \"0.0.0.0/0\" }}, {{ to = \"::/0\" }}]\n{keys}\n\
             [[namespace.vpn.interface.wg0.peers]]\npublic-key = \"{}\"\nendpoint = \"10.9.0.2:51820\"\n\
             allowed-ips = [\"0.0.0.0/0\", \"::/0\"]\n{preshared}\n{}",
            self.key("office.pub"),
            more.replace("HOME", &self.key("home.pub")),
        );
        self.write_file("/etc/netns-networkd/vpn.toml", &text);
    }

    fn sync(&self) -> Output {
        self.run(&["netns-networkd", "sync"])
    }

    /// Syncs, which must change this and leave nothing to do.
    #[track_caller]
    fn sync_changes(&self, what: &str) {
        let output = self.sync().ok();
        assert!(output.stdout.contains(what) && output.stderr.is_empty(), "sync should {what}\n{output}");
        self.sync_nothing();
    }

    #[track_caller]
    fn sync_nothing(&self) {
        let output = self.sync().ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "sync has nothing to do or say");
    }

    #[track_caller]
    fn up(&self) {
        let _ = self.sync().ok();
        let _ = self.sh("systemctl start t-vpn || { journalctl -b -u netns@vpn -o cat; exit 1; }").ok();
    }

    /// Pings from inside.
    fn ping(&self, address: &str) -> Output {
        self.run(&["ip", "netns", "exec", "vpn", "ping", "-n", "-c", "1", "-W", "3", address])
    }

    #[track_caller]
    fn wg(&self, arguments: &str) -> String {
        self.sh(&format!("cd /root/keys; ip netns exec vpn wg {arguments}")).ok().stdout.trim().to_owned()
    }

    /// The value of a far end in one of `wg show wg0 …`.
    #[track_caller]
    fn of_peer(&self, what: &str, peer: &str) -> String {
        let (key, all) = (self.key(&format!("{peer}.pub")), self.wg(&format!("show wg0 {what}")));
        let line = all.lines().find_map(|line| line.strip_prefix(&key));
        line.unwrap_or_else(|| panic!("no {peer} in\n{all}")).trim().to_owned()
    }
}

impl Shell for Tunnel {
    fn enter(&self) -> Vec<String> {
        self.vm.enter()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let clean =
            "systemctl stop t-vpn netns@vpn; rm -f /etc/netns-networkd/*; ip netns delete office; ip netns delete home; ip link delete wg0
             ip link delete far-office; ip link delete far-home; ip netns delete by-hand
             rm -rf /etc/systemd/system/t-vpn.service /etc/credstore /etc/credstore.encrypted /etc/wireguard/*";
        let _ = self.run(&["sh", "-c", clean]);
        let _ = self.run(&["systemctl", "daemon-reload"]);
        let synced = self.sync();
        let left = self.sh(
            "ip netns; ls /sys/class/net | grep -vxE 'lo|ens[345]'; ls /var/lib/netns-networkd/netns /run/netns-networkd/netns; ss -Hlun 'sport >= 51000 and sport <= 52000'; true",
        );
        if !std::thread::panicking() {
            assert_eq!((synced.code, left.stdout.as_str()), (0, ""), "left behind\n{synced}");
        }
    }
}

/// Begins a test, or skips it.
macro_rules! tunnel {
    () => {
        match Tunnel::new() {
            Ok(tunnel) => tunnel,
            Err(why) => skip!("{why}"),
        }
    };
}

fn tunnel_goes_by_the_hosts_network() {
    let net = tunnel!();
    net.config("listen-port = 51900\nfwmark = 0xca6c", "");
    net.up();
    // the tunnel's own packets have the mark, for the host's firewall
    let _ = net
        .sh("nft 'table ip marked { chain out { type filter hook output priority 0; meta mark 0xca6c udp dport 51820 counter; }; }'")
        .ok();
    for address in ["10.100.9.1", "fd00:100::9"] {
        let _ = net.ping(address).ok();
    }
    let _ = net.sh("nft list chain ip marked out | grep -E 'packets [1-9]'; nft delete table ip marked").ok();
    let _ = net.sh("ip netns exec office ping -n -c 1 -W 3 10.100.0.2").ok();
    let who = net.sh("ip netns exec office python3 /usr/local/lib/talk.py ask 10.100.0.2 8080 who").ok().stdout;
    assert!(who.starts_with("10.100.9.1 10.100.0.2 "), "{who}");

    assert_eq!(
        net.sh("ls /proc/$(systemctl show -P MainPID t-vpn)/root/sys/class/net >/dev/null; ip -n vpn -o link | cut -d: -f2").ok().stdout,
        " lo\n wg0\n"
    );
    assert_eq!(net.sh("ss -Hlun sport = 51900 | wc -l; ip netns exec vpn ss -Hlun | wc -l").ok().stdout, "2\n0\n");
    assert_eq!(net.sh("ip -d -o link show wg0 | grep -c dummy").ok().stdout, "1\n", "the host's own wg0");
    net.sync_nothing();
}

/// Adds a way around the tunnel to the namespace, as an admin might, and a counter of what comes by it.
const WAY_AROUND: &str = r"
ip link add around type veth peer eth9 netns vpn; ip addr add 10.7.0.1/24 dev around; ip link set around up
ip -n vpn addr add 10.7.0.2/24 dev eth9; ip -n vpn link set eth9 up";

fn nothing_leaves_beside_the_tunnel() {
    let net = tunnel!();
    let rules = "table inet fence {
    chain out { type filter hook output priority 0; policy drop; oifname { lo, wg0 } accept; }
    chain in { type filter hook input priority 0; policy drop; iifname lo accept; ct state established,related accept; }
}
";
    net.write_file("/etc/netns-networkd/vpn.nft", rules);
    let config = |nftables: &str| {
        net.config("", "");
        let text = net.read_file("/etc/netns-networkd/vpn.toml").replace("services", &format!("{nftables}services"));
        net.write_file("/etc/netns-networkd/vpn.toml", &text);
    };
    config("nftables = \"/etc/netns-networkd/vpn.nft\"\n");
    net.up();
    let _ = net.ping("10.100.9.1").ok();
    // the uplink's address is the host's: without the tunnel, nobody answers for it
    let _ = net.sh("ip -n office link set wg0 down").ok();
    let _ = net.ping("198.51.100.2").fails(1);
    let _ = net.sh(WAY_AROUND).ok();
    let fenced = net.ping("10.7.0.1");
    assert_ne!(fenced.code, 0, "{fenced}");
    // the fence is what holds it back
    config("");
    net.sync_changes("remove nftables ruleset");
    let _ = net.ping("10.7.0.1").ok();
    let _ = net.sh("ip link delete around").ok();
}

fn keys_are_read_nowhere_else() {
    let net = tunnel!();
    net.config("", "");
    net.up();
    let search = r"
    for key in $(cat /root/keys/vpn.key /root/keys/office.psk); do
        grep -rlF -e $key /etc /var/lib/netns-networkd /run --exclude-dir=wireguard --exclude-dir=credentials 2>/dev/null
        journalctl -b --no-pager | grep -F -e $key
        systemctl show '*' | grep -F -e $key
        for process in /proc/[0-9]*; do
            case $(readlink $process/exe) in */bash | */grep) continue ;; esac
            grep -lasF -e $key $process/cmdline $process/environ
        done
    done; true";
    // strings in the script itself: it reads the keys from their files
    assert_eq!(net.sh(search).stdout, "");
    // the search finds what there is
    let _ = net.sh("cp /root/keys/vpn.key /run/netns-networkd/found").ok();
    assert_eq!(net.sh(search).stdout, "/run/netns-networkd/found\n");
    let _ = net.sh("rm /run/netns-networkd/found").ok();
}

fn keys_open_to_others_are_refused() {
    let net = tunnel!();
    net.config("", "");
    for (file, mode) in [("vpn.key", "0644"), ("office.psk", "0660")] {
        let _ = net
            .sh(&format!("chmod {mode} /etc/wireguard/{file}; chgrp {} /etc/wireguard/{file}", if mode == "0660" { "adm" } else { "root" }))
            .ok();
        let output = net.sync().fails(2);
        let said = format!(
            "error: /etc/netns-networkd/vpn.toml:1: key file /etc/wireguard/{file} is open to others than root (mode {mode})\n  \
             hint: `chmod 600 /etc/wireguard/{file}`; who has read the key since can still use it\nerror: nothing was changed\n"
        );
        assert_eq!(output.stderr, said);
        let _ = net.sh(&format!("chmod 600 /etc/wireguard/{file}")).ok();
    }
    let _ = net.sh("chown nobody /etc/wireguard/vpn.key").ok();
    assert!(net.sync().fails(2).stderr.contains("key file /etc/wireguard/vpn.key belongs to another user than root"));
    let _ = net.sh("chown root /etc/wireguard/vpn.key; echo nonsense >/etc/wireguard/vpn.key").ok();
    let output = net.sync().fails(2);
    assert!(output.stderr.contains("/etc/wireguard/vpn.key has no key in it") && !output.stderr.contains("nonsense"), "{output}");
    assert_eq!(net.sh("ls /var/lib/netns-networkd/netns").stdout, "");
}

fn peers_change_one_by_one() {
    let net = tunnel!();
    net.config("", "");
    net.up();
    let _ = net.ping("10.100.9.1").ok();
    let handshake = net.of_peer("latest-handshakes", "office");
    let received = |net: &Tunnel| net.of_peer("transfer", "office").split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let before = received(&net);
    let set = "set keys and peers of WireGuard link 'wg0'";

    net.config("", HOME);
    net.sync_changes(set);
    let _ = net.ping("10.100.8.1").ok();
    net.config("", &format!("{HOME}keepalive = 7"));
    net.sync_changes(set);
    assert_eq!(
        (net.of_peer("persistent-keepalive", "home"), net.of_peer("persistent-keepalive", "office")),
        ("7".to_owned(), "off".to_owned())
    );
    net.config("", "");
    net.sync_changes(set);
    assert_eq!(net.wg("show wg0 peers"), net.key("office.pub"));
    let _ = net.ping("10.100.9.1").ok();
    // the same session from beginning to end
    assert_eq!(net.of_peer("latest-handshakes", "office"), handshake);
    assert!(received(&net) > before, "the counters went on");
}

fn drift_is_mended_and_roaming_is_none() {
    let net = tunnel!();
    net.config("listen-port = 51900", "");
    net.up();
    net.wg("set wg0 fwmark 0x55 listen-port 51999 private-key next.key peer $(cat office.pub) preshared-key /dev/null allowed-ips 10.100.9.1/32");
    net.sync_changes("set keys and peers");
    assert_eq!(
        net.wg("show wg0 fwmark; ip netns exec vpn wg show wg0 listen-port; ip netns exec vpn wg show wg0 public-key"),
        format!("off\n51900\n{}", net.key("vpn.pub"))
    );
    assert_eq!(net.of_peer("allowed-ips", "office"), "0.0.0.0/0 ::/0");
    let _ = net.ping("10.100.9.1").ok();

    // a peer of somebody else's is nobody's fault
    net.wg("set wg0 peer $(cat home.pub) allowed-ips 10.100.8.1/32");
    net.sync_nothing();
    net.wg("set wg0 peer $(cat home.pub) remove");

    let roam = "ip -n office addr add 10.9.0.3/24 dev eth0; ip -n office route replace 10.9.0.1/32 dev eth0 src 10.9.0.3
         ip netns exec office wg set wg0 fwmark 1; ip netns exec office wg set wg0 fwmark 0; ip netns exec office ping -n -c 1 -W 3 10.100.0.2";
    let _ = net.sh(roam).ok();
    assert_eq!(net.of_peer("endpoints", "office"), "10.9.0.3:51820");
    net.sync_nothing();
    // a change of something else leaves it where it is, one of the endpoint does not
    net.config("listen-port = 51900\nfwmark = 0x42", "");
    net.sync_changes("set keys and peers");
    assert_eq!(net.of_peer("endpoints", "office"), "10.9.0.3:51820");
    let text = net.read_file("/etc/netns-networkd/vpn.toml").replace("10.9.0.2:51820", "10.9.0.4:51820");
    net.write_file("/etc/netns-networkd/vpn.toml", &text);
    // a packet of the peer's would bring its own address back
    let _ = net.sh("ip -n office link set eth0 down").ok();
    net.sync_changes("set keys and peers");
    assert_eq!(net.of_peer("endpoints", "office"), "10.9.0.4:51820");
    let _ = net.sh("ip -n office link set eth0 up").ok();
}

fn keys_change_with_their_files() {
    let net = tunnel!();
    net.config("", "");
    net.up();
    let _ = net.ping("10.100.9.1").ok();
    let far = "ip netns exec office wg set wg0 peer $(cat vpn.pub) remove
         ip netns exec office wg set wg0 peer $(cat next.pub) preshared-key next.psk allowed-ips 10.100.0.2/32,fd00:100::2/128";
    let _ = net
        .sh(&format!(
            "cd /root/keys; wg genpsk >next.psk; {far}; cp next.key /etc/wireguard/vpn.key; cp next.psk /etc/wireguard/office.psk"
        ))
        .ok();
    let _ = net.ping("10.100.9.1").fails(1);
    net.sync_changes("set keys and peers of WireGuard link 'wg0' in netns 'vpn'");
    assert_eq!(net.wg("show wg0 public-key"), net.key("next.pub"));
    let _ = net.ping("10.100.9.1").ok();
}

fn many_peers() {
    let net = tunnel!();
    // more than fit into one message, each way
    let keys = net.sh("for n in $(seq 300); do wg genkey | wg pubkey; done").ok().stdout;
    let mut tables = String::new();
    for (n, key) in keys.lines().enumerate() {
        let ips: Vec<String> = if n == 0 {
            (0..3000).map(|n| format!("\"2001:db8:{n:x}::/48\"")).collect()
        } else {
            vec![format!("\"10.200.{}.{}\"", n / 250, n % 250)]
        };
        tables += &format!("[[namespace.vpn.interface.wg0.peers]]\npublic-key = \"{key}\"\nallowed-ips = [{}]\n", ips.join(", "));
    }
    net.config("", &tables);
    net.up();
    assert_eq!(
        net.wg("show wg0 allowed-ips | wc -lw").split_whitespace().collect::<Vec<_>>(),
        ["301", &(301 + 2 + 3000 + 299).to_string()]
    );
    net.sync_nothing();
    net.config("", "");
    net.sync_changes("set keys and peers");
    assert_eq!(net.wg("show wg0 peers"), net.key("office.pub"));
}

fn port_is_free_for_the_next_start() {
    let net = tunnel!();
    net.config("listen-port = 51900", "");
    net.up();
    for _ in 0..5 {
        // both ways: with its service, and with the last one that needs it
        let _ = net.sh("systemctl restart netns@vpn; systemctl stop t-vpn; systemctl start t-vpn").ok();
    }
    let _ = net.ping("10.100.9.1").ok();
    let _ = net
        .sh("systemctl stop t-vpn netns@vpn; ip link add taken type wireguard; wg set taken listen-port 51900; ip link set taken up")
        .ok();
    let output = net.run(&["systemctl", "start", "t-vpn"]).fails(1);
    let journal = net.sh("journalctl -b -u netns@vpn -o cat -n 20").stdout;
    let said =
        "failed to set link 'wg0' up: kernel: Address already in use (os error 98)\n  hint: `ss -ulnp` on the host shows which program";
    assert!(journal.contains(said), "{output}\n{journal}");
    assert_eq!(net.sh("ip link delete taken; ip netns | sed -n /^vpn/p; ls /run/netns-networkd/netns").stdout, "");
}

fn credentials() {
    let net = tunnel!();
    let store = "umask 077; mkdir -p /etc/credstore /etc/credstore.encrypted; cp vpn.key /etc/credstore/wg.key
         systemd-creds encrypt -q --with-key=host --name=wg.psk office.psk /etc/credstore.encrypted/wg.psk";
    net.config("private-key-file = \"wg.key\"", "preshared-key-file = \"wg.psk\"");
    let output = net.sync().ok();
    let warning = |name: &str| {
        format!(
            "warning: credential '{name}' is neither in /etc/credstore nor, encrypted, in /etc/credstore.encrypted: netns 'vpn' cannot come up until it is\n"
        )
    };
    assert_eq!(output.stderr, warning("wg.key") + &warning("wg.psk"));
    let _ = net.run(&["systemctl", "start", "t-vpn"]).fails(1);
    let journal = net.sh("journalctl -b -u netns@vpn -o cat -n 20").stdout;
    let said = "wg.key: No such file or directory (os error 2)\n  hint: systemd gives it to netns@vpn.service when that starts, from /etc/credstore/wg.key,";
    assert!(journal.contains(said), "{journal}");

    let _ = net.sh(&format!("cd /root/keys; {store}")).ok();
    net.up();
    let _ = net.ping("10.100.9.1").ok();
    net.sync_nothing();
    assert_eq!(
        net.read_file("/etc/systemd/system/netns@vpn.service.d/50-netns-networkd.conf").lines().skip(2).collect::<Vec<_>>(),
        ["[Service]", "LoadCredential=wg.key", "LoadCredentialEncrypted=wg.psk"]
    );
    let _ = net.run(&["systemctl", "reload", "netns@vpn"]).ok();
    let _ = net.ping("10.100.9.1").ok();

    // what systemd has not given to the unit waits until it starts again
    let _ = net.sh("cp /root/keys/next.key /etc/credstore/next.key; chmod 600 /etc/credstore/next.key").ok();
    net.config("private-key-file = \"next.key\"", "preshared-key-file = \"wg.psk\"");
    let pending = "pending: netns 'vpn' cannot be changed like this while it is up: set keys and peers of WireGuard link 'wg0': `netns-networkd sync --restart`; restarts with it: t-vpn.service\n";
    for _ in 0..2 {
        let output = net.sync().ok();
        assert!(format!("{}{}", output.stdout, output.stderr).ends_with(pending), "{output}");
    }
    assert_eq!(net.wg("show wg0 public-key"), net.key("vpn.pub"));
    let _ = net.sh("systemctl restart netns@vpn; systemctl start t-vpn").ok();
    assert_eq!(net.wg("show wg0 public-key"), net.key("next.pub"));
    net.sync_nothing();
}
