//! Every key of the reference on booted hosts: in place when the services start, changed, taken out and put in again while they
//! run. tests/cases/keys.toml says what of it shows; keys that this kernel cannot do are in the tests of the virtual machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use libtest_mimic::Trial;
use serde::Deserialize;

use crate::common::{Lab, Shell, Suite, diff, talk_unit, trial};
use crate::{docs, suite_trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = suite_trials![every_key_changes_live];
    trials.push(trial("host_keys::no_key_is_forgotten", no_key_is_forgotten));
    trials
}

#[derive(Deserialize)]
struct Table {
    base: Vec<Base>,
    key: Vec<Key>,
}

/// What the keys stand on.
#[derive(Deserialize)]
struct Base {
    r#in: String,
    list: Option<String>,
    lines: String,
}

/// A row of the table; the arrays are as the services start, changed, and taken out.
#[derive(Deserialize)]
struct Key {
    of: String,
    r#in: String,
    list: Option<String>,
    lines: [String; 3],
    /// Of each step to the next state, and from the last to the first.
    says: [String; 3],
    look: String,
    shows: [String; 3],
}

impl Table {
    fn read() -> Self {
        toml::from_str(include_str!("cases/keys.toml")).unwrap_or_else(|error| panic!("tests/cases/keys.toml: {error}"))
    }

    fn config(&self, state: usize) -> String {
        let base = self.base.iter().map(|base| (&base.r#in, &base.list, &base.lines));
        let keys = self.key.iter().map(|key| (&key.r#in, &key.list, &key.lines[state]));
        let mut tables: BTreeMap<&str, (String, BTreeMap<&str, Vec<&str>>)> = BTreeMap::new();
        for (table, list, text) in base.chain(keys) {
            let (lines, lists) = tables.entry(table).or_default();
            match list {
                None => writeln!(lines, "{text}").unwrap(),
                Some(list) => lists.entry(list).or_default().extend(Some(text.as_str()).filter(|text| !text.is_empty())),
            }
        }
        let mut text = String::new();
        for (table, (lines, lists)) in tables {
            writeln!(text, "[{table}]\n{lines}").unwrap();
            for (list, entries) in lists {
                writeln!(text, "{list} = [\n{}\n]", entries.join(",\n")).unwrap();
            }
        }
        text
    }

    /// What shows of each key, as `shows` has it.
    fn shown(&self, lab: &Lab, state: usize) -> String {
        let looks: Vec<_> = self.key.iter().map(|key| format!("echo '== '; {{ {}; }} 2>&1\n", key.look)).collect();
        let text = lab.sh(&format!("set +e +o pipefail\n{HELPERS}\n{}true", looks.concat())).ok().stdout;
        let mut shown = String::new();
        for (key, row) in self.key.iter().zip(text.split("== \n").skip(1)) {
            let words: Vec<String> = row.lines().flat_map(words).collect();
            let is_it = key.shows[state].split(" or ").any(|wanted| wanted == words.join(" "));
            writeln!(shown, "{}: {}", key.of, if is_it { key.shows[state].clone() } else { words.join(" ") }).unwrap();
        }
        shown
    }

    fn wanted(&self, state: usize) -> String {
        self.key.iter().map(|key| format!("{}: {}\n", key.of, key.shows[state])).collect::<Vec<_>>().concat()
    }
}

/// The words of a line of ip(8), without numbers of links, lifetimes, the marks of what is ours, and what carriers make of it.
fn words(line: &str) -> Vec<String> {
    let line = line.split('\\').next().unwrap_or_default();
    let rest = line.split_once(": ").filter(|(number, rest)| number.parse::<u32>().is_ok() && rest.contains(" inet"));
    let line = MARKS.iter().fold(rest.map_or(line, |(_, rest)| rest).to_owned(), |line, mark| line.replace(mark, ""));
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

const MARKS: [&str; 5] = [" proto 78", " proto kernel_lo", " proto 0x4e", " pref medium", " linkdown"];

const HELPERS: &str = r#"
seen() { cat /proc/$(systemctl show -P MainPID t-$1)/root/etc/resolv.conf; }
other_end() { grep -lx $(ip netns exec $1 cat /sys/class/net/$2/iflink) /sys/class/net/*/ifindex | cut -d/ -f5; }
port() { bridge -d link show dev keys-eth0 | grep -o "$1"; }
route() { if [[ $1 == *:* ]]; then ip -n keys -6 route show table all root $1; else ip -n keys route show table all root $1; fi; }
"#;

/// Links that are somebody else's, and a DHCP server.
const PREPARE: &str = r"
for link in t-lan t-up0 t-up1 t-par0 t-par1; do ip link add $link type veth peer name ${link}p; ip link set $link up; ip link set ${link}p up; done
echo 'table inet one {}' >/etc/t-one.nft; echo 'table inet two {}' >/etc/t-two.nft
cat >/etc/systemd/system/t-dhcpd.service <<END
[Service]
Type=forking
ExecStart=/usr/sbin/dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --port=0 --user=root --pid-file=/run/t-dhcpd.pid \
 --interface=br-dhcp --bind-dynamic --dhcp-leasefile=/run/t-leases --dhcp-authoritative --no-ping \
 --dhcp-range=10.71.0.100,10.71.0.120,255.255.255.0,1h --dhcp-range=fd47::100,fd47::120,64,1h --enable-ra
END
systemctl daemon-reload";

const CLEAN_UP: &str =
    "for link in t-lan t-up0 t-up1 t-par0 t-par1; do ip link delete $link; done; rm /etc/t-one.nft /etc/t-two.nft /run/t-leases";

/// How many addresses `leased` gets by DHCP in each state.
const LEASES: [usize; 3] = [1, 2, 0];

/// What the neighbour, the host, believes of the addresses of `keys`' eth3.
const STALE: &str = "for n in 1 2 3; do ip neigh replace 10.70.0.7$n lladdr 02:00:00:00:70:99 dev br0 nud reachable; done";

const UNITS: [&str; 8] = ["t-keys", "t-names", "t-four", "t-moves", "t-leased", "t-fixed", "t-more", "t-late"];

/// Links that live through all changes.
const INDEXES: &str =
    "for netns in keys names four moves leased; do ip -n $netns -o link; ip -o link | grep \" $netns-\"; done | cut -d@ -f1
    ip -o link | grep ': br' | cut -d: -f1,2";

fn every_key_changes_live(suite: Suite) {
    let lab = Lab::new(suite);
    let table = Table::read();
    for (number, unit) in UNITS.iter().enumerate() {
        lab.write_file(&format!("/etc/systemd/system/{unit}.service"), &talk_unit(&format!("serve {}", 8000 + number), ""));
    }
    let _ = lab.sh(PREPARE).ok();
    lab.config(&table.config(0));
    let _ = lab.sync(&[]).ok();
    let _ = lab.sh(STALE).ok();
    lab.start(&["t-dhcpd"]);
    lab.start(&UNITS);
    lab.sync_nothing();
    assert_shows(&lab, &table, 0);

    let pids = || UNITS.map(|unit| lab.property(unit, "MainPID"));
    let indexes = || lab.sh(INDEXES).ok().stdout;
    let before = indexes();
    for (step, state) in [1, 2, 0].into_iter().enumerate() {
        lab.config(&table.config(state));
        let dry = lab.sync(&["--dry-run"]).fails(3).stdout;
        let unsaid: Vec<_> = table.key.iter().filter(|key| !dry.contains(&key.says[step])).map(|key| (&key.of, &key.says[step])).collect();
        assert!(unsaid.is_empty(), "a dry run does not say {unsaid:#?}:\n{dry}");
        let running = pids();
        let _ = lab.sh(STALE).ok();
        let said = lab.sync(&[]).ok();
        assert_eq!(said.stderr, "");
        assert_eq!(pids(), running, "the same processes");
        // what waits for a restart, waits, and nothing else
        let pending = said.stdout.split_inclusive('\n').filter(|line| line.starts_with("pending: ")).collect::<String>();
        let again = lab.sync(&[]).ok();
        assert_eq!((&again.stdout, again.stderr.as_str()), (&pending, ""), "a second sync has nothing to do");
        for line in pending.lines() {
            let command = line.split('`').nth(1).unwrap_or_else(|| panic!("{line} names no command"));
            let _ = lab.sh(command).ok();
        }
        lab.start(&UNITS);
        let _ = lab.sync(&[]).ok();
        lab.sync_nothing();
        assert_shows(&lab, &table, state);
        assert_eq!(indexes(), before, "the same links");
    }
    lab.systemctl(&["stop", "t-dhcpd"]);
    lab.stop(&UNITS);
    let _ = lab.sh(CLEAN_UP).ok();
}

/// Asserts that everything is as the table has it, when networkd and the DHCP client have done their part.
#[track_caller]
fn assert_shows(lab: &Lab, table: &Table, state: usize) {
    let settled = format!(
        "! networkctl --no-legend list | grep -E 'configuring|pending|initialized'
         [[ $(ip -n leased -o addr show dynamic scope global -tentative | wc -l) == {} ]]",
        LEASES[state]
    );
    let _ = lab.wait_until("networkd and dhcpcd have settled", Duration::from_secs(20), &settled);
    let (wanted, shown) = (table.wanted(state), table.shown(lab, state));
    assert!(shown == wanted, "state {state}:\n{}", diff(&wanted, &shown));
}

/// The table has every key of the reference but those that a test of the virtual machine has, and no other.
fn no_key_is_forgotten() {
    let table = Table::read();
    let ours: BTreeSet<&str> = table.key.iter().flat_map(|key| key.of.split(' ')).collect();
    let text = docs::document("docs/configuration.md");
    let mut all = BTreeSet::new();
    let mut elsewhere = BTreeSet::new();
    for (heading, keys, cells) in docs::rows(&text) {
        let names = keys.iter().map(|key| format!("{}.{key}", docs::table_of(heading)));
        if cells.last().is_some_and(|tests| tests.contains("`vm_")) { elsewhere.extend(names) } else { all.extend(names) }
    }
    let forgotten: Vec<_> = all.iter().filter(|key| !ours.contains(key.as_str())).collect();
    assert!(forgotten.is_empty(), "not in tests/cases/keys.toml: {forgotten:?}");
    let unknown: Vec<_> = ours.iter().filter(|key| !all.contains(**key) && !elsewhere.contains(**key)).collect();
    assert!(unknown.is_empty(), "in tests/cases/keys.toml and not in docs/configuration.md: {unknown:?}");
}
