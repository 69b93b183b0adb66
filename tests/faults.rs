//! Faults on purpose (docs/decisions/0016): `up` and `down` are killed after each of their changes, and each of their calls to the
//! kernel fails in each way that it can. What is left is then mended by the next run, and the error says what happened.
//!
//! By default some are done every so often: `NETNS_TEST_FAULTS=all` has all of it.

use libtest_mimic::Trial;
use rustix::io::Errno;

use crate::common::Shell;
use crate::netns::Net;
use crate::{skip, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        killed_at_every_change_of_up,
        killed_at_every_change_of_down,
        killed_at_every_change_of_a_live_change,
        every_error_of_up,
        every_error_of_down,
        every_error_of_a_live_change,
        dumps_that_others_disturb,
        no_call_goes_around_the_room,
    ]
}

/// One of everything that this machine's kernel has.
const CONFIG: &str = r#"
[namespace.mail]
loopback-addresses = ["10.9.9.1"]
sysctl = { "net.ipv4.ip_forward" = 1 }
nftables = "/etc/mail.nft"
rules = [{ from = "192.0.2.10", table = 100, priority = 1000 }]
[namespace.mail.interface.eth0]
bridge = "br0"
dad = "off"
mtu = 1500
isolated = true
addresses = ["192.0.2.10/24", "2001:db8:1::10/64"]
gateways = ["192.0.2.1", "2001:db8:1::1"]
routes = [{ to = "default", via = "192.0.2.1", table = 100 }]
[namespace.mail.interface.p2p]
dad = "off"
addresses = ["10.1.1.2/24"]
host-addresses = ["10.1.1.1/24"]
[namespace.mail.interface.mac0]
kind = "macvlan"
parent = "br0"
dad = "off"
addresses = ["192.0.2.20/24"]
"#;

/// The kernel would not give it back as it does with hardware, so a `down` that fails must not meet it.
const PHYSICAL: &str = r#"
[namespace.mail.interface.phys]
kind = "physical"
parent = "port1"
dad = "off"
addresses = ["10.2.2.2/24"]
"#;

/// All of it otherwise: the link that is of another kind waits for a restart.
const OTHER: &str = r#"
[namespace.mail]
loopback-addresses = ["10.9.9.2"]
sysctl = { "net.ipv4.conf.all.log_martians" = 1 }
rules = [{ from = "192.0.2.11", table = 101, priority = 1001 }]
[namespace.mail.interface.eth0]
bridge = "br0"
dad = "off"
mtu = 1400
addresses = ["192.0.2.11/24", "2001:db8:1::11/64"]
gateways = ["192.0.2.1"]
routes = [{ to = "default", via = "192.0.2.1", table = 101 }]
[namespace.mail.interface.p2p]
dad = "off"
addresses = ["10.1.3.2/24"]
host-addresses = ["10.1.3.1/24"]
[namespace.mail.interface.mac0]
bridge = "br0"
dad = "off"
addresses = ["192.0.2.20/24"]
[namespace.mail.interface.eth1]
bridge = "br0"
dad = "off"
addresses = ["2001:db8:1::12/64"]
"#;

/// An address that is waited for.
const WAITS: &str = "[namespace.mail.interface.eth0]\nbridge = \"br0\"\naddresses = [\"2001:db8:1::12/64\"]\n";

/// A host with the records of both, and what a script needs for rounds of faults.
#[track_caller]
fn host() -> Net {
    let net = Net::new();
    net.write_file("/etc/mail.nft", "table inet mail {\n chain input {\n }\n}\n");
    let one = CONFIG.to_owned() + PHYSICAL;
    for (name, config) in [("bare", CONFIG), ("one", &one), ("other", OTHER), ("waits", WAITS)] {
        net.configure(config);
        let _ = net.sh(&format!("cp -a /var/lib/netns-networkd/netns /run/{name}")).ok();
    }
    let pictures = "for record in one bare waits; do record $record; mend up; keep $record; mend down; done; keep down
                    record one; mend up; record other; mend up --live; keep live; mend up; record one; mend up; is one; mend down; is down";
    assert_eq!(net.sh(&format!("{ROUNDS}{pictures}")).ok().stdout, "");
    net
}

/// Runs with faults in a shell: `fault` runs, `report` says what came of it, `errors` lists what can go wrong.
pub const FAULTS: &str = r#"
    fault() { # FAULT ARGUMENTS...
        rm -f /run/calls; fault=$1 call= code=0
        { NETNS_NETWORKD_FAULT=$1 NETNS_NETWORKD_FAULT_LOG=/run/calls netns-networkd "${@:2}"; } >/run/said 2>&1 || code=$?
        case $1 in
        kill:*) call=$(tail -n1 /run/calls) ;;
        error:*) local n=${1#error:}; call=$(sed -n "${n%:*}p" /run/calls) ;;
        esac
        said=$(</run/said)
    }
    report() { [[ $code != 137 ]] || killed=yes; printf '%s\x1f%s\x1f%s\x1f%s\x1f%s\x1e' "$fault" "$call" $code "$said" "$1"; }
    list() { rm -f /run/list; NETNS_NETWORKD_FAULT_LOG=/run/list netns-networkd "$@" >/dev/null; }
    errnos() { # KIND WORD: what such a call can fail with
        case "$1 $2" in
        'look receive') echo 4 11 105 ;; # EINTR, EAGAIN (no answer in time), ENOBUFS
        'look send') echo 4 105 ;;
        'look poll') echo 4 12 ;; # ENOMEM
        'look flock') echo 4 37 ;; # ENOLCK
        message* | question*) echo 12 ;;
        change*) echo 28 ;; # ENOSPC
        bus*) echo 104 110 ;; # ECONNRESET, ETIMEDOUT (done, and no answer)
        *) echo 5 ;; # EIO
        esac
    }
    # CHANGES OTHERS [all]: an error for every so many calls of the list, or one for each way in which each of them can fail. Without
    # `all`, a question to the kernel is one call, which it refuses: sent, and not answered, ends the same
    errors() {
        local n=0 kind word rest errnos batch= changes=0 others=0
        while read -r kind word rest; do
            ((++n)); errnos=$(errnos $kind $word)
            if [[ $3 != all ]]; then
                case "$kind $word" in
                message*) batch=yes ;;
                question*) batch= ;;
                'look send') continue ;;
                'look receive') [[ $batch ]] || continue ;;
                esac
                errnos=${errnos##* }
            fi
            case $kind in
            look | question) ((++others % $2 == 0)) || continue ;;
            *) ((++changes % $1 == 0)) || continue ;;
            esac
            printf "error:$n:%s\n" $errnos
        done </run/list
    }
"#;

/// For `up` and `down`.
const ROUNDS: &str = r#"
    picture() { # all that is ours, and the rest of the host
        # what `down` has put aside goes by itself, in a moment
        for n in {1..500}; do if ! compgen -G '/sys/class/net/gone-*' >/dev/null; then break; fi; read -t 0.02 <> <(:) || true; done
        { if [[ -e /run/netns/mail ]]; then
              for what in link addr 'route show table all' rule; do ip -o -n mail $what | sed -E 's/^[0-9]+: //; s/ linkdown//' | sort; done
              ip netns exec mail sh -c 'nft list ruleset; cd /proc/sys/net; cat ipv4/ip_forward ipv4/conf/all/log_martians ipv6/neigh/*/retrans_time_ms'
          fi
          for what in link addr; do ip -o $what | sed -E 's/^[0-9]+: //' | sort; done; ls -A /run/netns /run/netns-networkd/netns
          awk '$5 ~ "^/run/netns(/|$)" {print $5}' /proc/self/mountinfo | sort -u; grep -c ' /run/netns ' /proc/self/mountinfo
        } 2>&1 | sed -E '/fe80:|ff00:/d; s/@if[0-9]+//; s/NO-CARRIER,|,LOWER_UP//g; s/ link-netns.*//; s/ qdisc .*(mode|group)/ \1/; s/ *valid_lft.*//'
    }
    keep() { picture >/run/picture-$1; }
    is() { diff /run/picture-$1 <(picture) || echo "that is not '$1'"; } # says how the host differs from it
    mend() { netns-networkd "$@" mail 2>&1 || echo "$* fails"; }
    record() { cp /run/$1/* /var/lib/netns-networkd/netns/; }
"#;

/// What came of a run with a fault.
#[derive(Debug)]
pub struct Run {
    pub fault: String,
    pub call: String,
    pub code: i32,
    pub said: String,
    /// What is wrong afterwards.
    pub wrong: String,
}

impl Run {
    /// Says what is wrong with a run one of whose calls failed.
    pub fn fault(&self) -> Option<String> {
        let errno: i32 = self.fault.rsplit(':').next()?.parse().ok()?;
        let word = self.call.split(' ').nth(1).unwrap_or_default();
        let interrupted = errno == Errno::INTR.raw_os_error() && ["send", "receive", "poll", "flock"].contains(&word);
        let overrun = errno == Errno::NOBUFS.raw_os_error() && self.call == "look receive events";
        if self.code == 0 {
            return (!self.wrong.is_empty()).then(|| "all is said to be well".to_owned());
        }
        let Some((_, said)) = self.said.split_once("error: failed to ") else { return Some("no error".to_owned()) };
        let said = &format!("failed to {said}");
        let never = errno == Errno::AGAIN.raw_os_error() && said.contains("the kernel did not answer a netlink request within 30 s")
            || errno == Errno::TIMEDOUT.raw_os_error() && said.contains(": no answer within ");
        let reason = never || said.contains(&format!("(os error {errno})"));
        let named = match self.object() {
            Some(object) => said.replace("/.", "/").replace(".netns-networkd-new", "").contains(&object),
            None => said.split("failed to ").skip(2).any(|part| !part.starts_with("send") && !part.starts_with("receive")),
        };
        let faults = [
            (self.code != 1, "another exit code"),
            (interrupted, "that was a signal"),
            (overrun, "what was missed is looked at again"),
            (!reason, "the reason is not named"),
            (!named, "what it was about is not named"),
            (!self.wrong.is_empty(), "the host is not as it should be"),
        ];
        faults.into_iter().find_map(|(is, text)| is.then(|| text.to_owned()))
    }

    /// What the error has to name; of requests to the kernel only the sender knows.
    fn object(&self) -> Option<String> {
        let (kind, object) = self.call.split_once(' ')?;
        if kind == "bus" || kind == "question" && !["get", "dump"].contains(&object) {
            return Some(format!("failed to {object}"));
        }
        if let Some(key) = object.split_once("/proc/sys/") {
            return Some(key.1.replace('/', "."));
        }
        match object.split_once(" /") {
            Some((_, path)) if path.starts_with("proc/") => Some("network namespace".to_owned()),
            Some((_, path)) => Some(path.replace("/.", "/").replace(".netns-networkd-new", "")),
            None if object.contains("nft") => Some("nft".to_owned()),
            None if object.starts_with("flock") => Some("failed to lock".to_owned()),
            None if object.starts_with("open") => Some(object.to_owned()),
            None if matches!(object, "poll" | "receive events") => Some("netlink events".to_owned()),
            None if matches!(object, "setns" | "unshare") => Some("network namespace".to_owned()),
            None => None,
        }
    }
}

/// Runs a script, which says what comes of runs with `report`.
#[track_caller]
fn runs(shell: &impl Shell, script: &str) -> Vec<Run> {
    let output = shell.sh(&format!("{FAULTS}\n{script}"));
    let said = output.stdout.replace('\x1e', "\n");
    assert!(output.code == 0, "{said}\n--- stderr\n{}\n--- exit code {}", output.stderr, output.code);
    let mut reports: Vec<&str> = output.stdout.split('\x1e').collect();
    assert_eq!(reports.pop(), Some(""), "said beside the reports\n{}", output.stdout);
    let run = |report: &&str| {
        let [fault, call, code, said, wrong] = report.split('\x1f').collect::<Vec<_>>()[..] else { panic!("no report: {report}") };
        let [fault, call, said, wrong] = [fault, call, said, wrong].map(str::to_owned);
        Run { fault, call, code: code.parse().unwrap(), said, wrong }
    };
    reports.iter().map(run).collect()
}

/// Kills a command after each of its changes, or after some. `script` has a function `round`, which gets a fault, makes ready, runs the
/// command with it, mends, and reports what is wrong then; it may do so with several.
#[track_caller]
pub fn kills(shell: &impl Shell, script: &str, (first, stride): (usize, usize)) -> Vec<Run> {
    let mut all = Vec::new();
    let mut from = first;
    loop {
        let to = from + CHUNK * stride;
        let some = runs(
            shell,
            &format!("{script}\nfor ((n = {from}; n < {to}; n += {stride})); do killed=; round kill:$n; [[ $killed ]] || break; done"),
        );
        let last = some.last().map(|run| run.fault.clone());
        let ended = some.iter().filter(|run| Some(&run.fault) == last.as_ref()).all(|run| run.code != 137);
        all.extend(some);
        if ended {
            return all;
        }
        from = to;
    }
}

/// Has calls of a command fail: those that change something, and of the others every so many; in one way each, or in `all` ways.
/// `script` also has a function `calls`, which lists them.
#[track_caller]
pub fn errors(shell: &impl Shell, script: &str, strides: (usize, usize), all: &str) -> Vec<Run> {
    let list = format!("{FAULTS}{script}\ncalls >/dev/null; errors {} {} '{all}'", strides.0, strides.1);
    let list = shell.sh(&list).ok().stdout;
    let list: Vec<&str> = list.lines().collect();
    let some = |faults: &[&str]| runs(shell, &format!("{script}\nfor fault in {}; do round $fault; done", faults.join(" ")));
    list.chunks(CHUNK).flat_map(some).collect()
}

/// Says which of some runs were wrong, and in what.
#[track_caller]
pub fn assert_right(runs: &[Run], at_least: usize) {
    let killed = |run: &Run| (!run.wrong.is_empty()).then(|| "the host is not as it should be".to_owned());
    let fault = |run: &Run| if run.fault.starts_with("kill") { killed(run) } else { run.fault() };
    let faults: Vec<_> = runs.iter().filter_map(|run| Some((fault(run)?, run))).collect();
    assert!(faults.is_empty(), "{} of {} runs: {faults:#?}", faults.len(), runs.len());
    assert!(runs.len() >= at_least, "{} runs do not mean much", runs.len());
}

/// So many rounds in one script: no command of a test may take longer than two minutes, however busy the machine is.
const CHUNK: usize = 8;

/// Every so many calls; every one if that is asked for.
pub fn every(some: usize) -> usize {
    if std::env::var("NETNS_TEST_FAULTS").is_ok_and(|which| which == "all") { 1 } else { some }
}

/// Kills a command after every so many of its changes, and says what is wrong when it was mended.
#[track_caller]
fn assert_survives_kills(net: &Net, stride: usize, before: &str, command: &str, after: &str) {
    let round = format!("{ROUNDS} round() {{ {before}; fault $1 {command} mail; report \"$({after})\"; }}");
    assert_right(&kills(net, &round, (1, every(stride))), 11);
}

/// The kernel keeps the namespace for nft, which ends a moment after who has started it.
const MEND_DOWN: &str = "mend down | grep -v 'the kernel keeps it'; is down";

fn killed_at_every_change_of_up() {
    let net = host();
    assert_survives_kills(&net, 1, "mend down", "up", "mend up; is one");
    assert_survives_kills(&net, 3, "mend down", "up", MEND_DOWN);
}

fn killed_at_every_change_of_down() {
    let net = host();
    assert_survives_kills(&net, 1, "mend up", "down", "mend up; is one");
    assert_survives_kills(&net, 1, "mend up", "down", "mend down; is down");
}

fn killed_at_every_change_of_a_live_change() {
    let net = host();
    assert_survives_kills(&net, 1, "record one; mend up; record other", "up --live", "mend up --live; is live");
    assert_survives_kills(&net, 2, "record other; mend up; record one", "up", "mend up; is one");
    assert_survives_kills(&net, 5, "record other; mend up; record one", "up", MEND_DOWN);
}

fn every_error_of_up() {
    let net = host();
    // the second has what the first never waits for
    for (record, strides) in [("one", (every(1), every(2))), ("waits", (every(4), every(2)))] {
        let script = format!(
            r#"{ROUNDS}
            calls() {{ record {record}; list up mail; mend down; }}
            round() {{
                fault $1 up mail
                # a lock that could not be taken may be another's
                [[ $said != *"failed to lock /run/netns-networkd/"* ]] || rm -f /run/netns-networkd/netns/mail.lock
                if ((code)); then report "$(is down)"; else report "$(is {record}; mend down)"; fi
            }}"#
        );
        assert_right(&errors(&net, &script, strides, "all"), 50);
    }
}

/// With a process left inside, so that what is not removed before the namespace does not go with it.
fn every_error_of_down() {
    let script = r#"
        calls() { record bare; mend up; list down mail; }
        round() {
            mend up; exec 3< <(ip netns exec mail sh -c 'echo; exec sleep 100'); read -ru 3; inside=$!
            fault $1 down mail
            if ((code && ++round % 2)); then report "$(mend up; is bare)"; else report "$(mend down | grep -v 'the kernel keeps it'; is down)"; fi
            kill $inside
        }"#;
    assert_right(&errors(&host(), &format!("{ROUNDS} round=0; {script}"), (1, 1), ""), 40);
}

fn every_error_of_a_live_change() {
    let net = host();
    let (one, other) = ((every(1), every(4)), (every(3), every(6)));
    for (before, after, command, wanted, strides) in [("one", "other", "up --live", "live", one), ("other", "one", "up", "one", other)] {
        let script = format!(
            "{ROUNDS}
            before() {{ record {before}; mend up; record {after}; }}
            calls() {{ before; list {command} mail; }}
            round() {{ before; fault $1 {command} mail; report \"$(((code)) && mend {command}; is {wanted})\"; }}"
        );
        assert_right(&errors(&net, &script, strides, ""), 30);
    }
}

/// Under constant churn nearly every dump is disturbed: it is read again, and the last one is taken.
fn dumps_that_others_disturb() {
    let net = host();
    let dumps = |n: u32, command: &str, wanted: &str| {
        let script = format!("record one; mend up; fault disturb:{n} {command} mail; report \"$(is {wanted}; grep -c dump /run/calls)\"");
        let runs = runs(&net, &format!("{ROUNDS}{script}"));
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert!(run.code == 0 && run.said.is_empty(), "{run:?}");
        run.wrong.trim().parse::<u32>().unwrap_or_else(|_| panic!("{run:?}"))
    };
    for (command, wanted) in [("up", "one"), ("down", "down")] {
        let calm = dumps(0, command, wanted);
        assert!(calm > 0);
        assert_eq!(dumps(1, command, wanted), calm + 1);
        assert_eq!(dumps(5, command, wanted), calm + 4, "the fifth is taken");
        assert_eq!(dumps(1000, command, wanted), 5 * calm);
    }
}

/// What these tests can have fail is all that there is: counts system calls, and calls of the room that lead to them.
fn no_call_goes_around_the_room() {
    let net = host();
    if net.sh("strace -f -o /dev/null true").code != 0 {
        skip!("strace is missing: apt-get install strace");
    }
    net.write_file("/run/image/etc/netns-networkd/test.toml", CONFIG);
    let _ = net.sh("cp /etc/mail.nft /run/image/etc").ok();
    let script = r#"
        record one
        counts() { # COMMAND...: what the kernel saw, and what the room did
            rm -f /run/calls
            NETNS_NETWORKD_FAULT_LOG=/run/calls strace -f -qq -o /run/trace netns-networkd "$@" >/dev/null
            awk '/execve\(.*"nft"/ {other[$1] = 1} !other[$1]' /run/trace >/run/ours
            for pair in 'openat open|create|write' 'mount|umount2 mount|share|unmount' 'unshare unshare' 'setns setns' 'rename rename' 'unlink remove_file' \
                        'sendto send' 'recvfrom receive' 'fsync|fdatasync sync' 'fchmod chmod' 'flock flock' 'symlink symlink'; do
                seen=$(grep -E "^[0-9]+ +(${pair% *})\(" /run/ours | grep -vcE 'O_RDONLY|"/run/calls"' || true)
                done=$(grep -v '^look open' /run/calls | grep -cE "^[a-z]+ (${pair#* })( |$)" || true)
                [[ $seen = "$done" ]] || echo "$1: $seen of ${pair% *}, $done of ${pair#* }"
            done
        }
        counts up mail; counts up mail; record other; counts up mail; counts down mail; counts --root /run/image sync"#;
    assert_eq!(net.sh(&format!("{FAULTS}{ROUNDS}{script}")).ok().stdout, "");
}
