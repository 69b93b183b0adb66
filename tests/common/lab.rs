//! Hosts for tests that run `sync`, which is about the whole host: one test at a time on each, cleaned between two.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::host::FreshHost;
use super::{Host, Output, Shell, Suite};

pub const TALK_PY: &str = include_str!("talk.py");
/// On every lab, outside of all namespaces.
pub const HOST_PORT: &str = "9000";

/// Labs that nobody uses at the moment; they end with the run.
static IDLE: Mutex<Vec<(Suite, FreshHost)>> = Mutex::new(Vec::new());

/// A booted host with the product, no configuration, and `talk.py`, for one test alone.
///
/// Units of a test are called `t-SOMETHING`. When the value goes, services are stopped and the configuration is removed, and
/// `sync` must then have removed all that it made: a part of every test. What a test made by hand it removes itself.
pub struct Lab {
    suite: Suite,
    host: Option<FreshHost>,
}

/// What a service says about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub peer: String,
    pub own: String,
    pub pid: String,
    pub netns: String,
}

impl Lab {
    #[track_caller]
    pub fn new(suite: Suite) -> Self {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|(of, _)| *of == suite).map(|index| idle.swap_remove(index).1);
        drop(idle);
        Self { suite, host: Some(found.unwrap_or_else(|| Self::boot(suite))) }
    }

    #[track_caller]
    fn boot(suite: Suite) -> FreshHost {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let host = Host::fresh(suite, &format!("lab-{suite}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        host.install_product();
        host.write_file("/usr/local/lib/talk.py", TALK_PY);
        host.write_file("/etc/systemd/system/lab.service", &talk_unit(&format!("serve {HOST_PORT}"), ""));
        let _ = host.run(&["systemctl", "start", "lab.service"]).ok();
        host
    }

    /// Restarts the host.
    #[track_caller]
    pub fn reboot(&self) {
        (**self).reboot();
        self.systemctl(&["start", "lab.service"]);
    }

    /// Writes a file of the configuration.
    #[track_caller]
    pub fn config(&self, text: &str) {
        self.write_file("/etc/netns-networkd/test.toml", text);
    }

    /// Writes units that run `talk.py` with these arguments, and more settings of `[Service]`.
    #[track_caller]
    pub fn units(&self, units: &[(&str, &str, &str)]) {
        for (name, arguments, settings) in units {
            self.write_file(&format!("/etc/systemd/system/{name}"), &talk_unit(arguments, settings));
        }
        let _ = self.run(&["systemctl", "daemon-reload"]).ok();
    }

    /// Writes services that answer on a port.
    #[track_caller]
    pub fn services(&self, services: &[(&str, &str)]) {
        let units: Vec<_> = services.iter().map(|(name, port)| (*name, format!("serve {port}"))).collect();
        self.units(&units.iter().map(|(name, arguments)| (*name, arguments.as_str(), "")).collect::<Vec<_>>());
    }

    pub fn sync(&self, arguments: &[&str]) -> Output {
        self.run(&[&["netns-networkd", "sync"], arguments].concat())
    }

    /// Syncs, and asserts that there was something to do and that it is done.
    #[track_caller]
    pub fn sync_changes(&self, arguments: &[&str]) -> String {
        let output = self.sync(arguments).ok();
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "sync should print changes, and no warning\n{output}");
        self.sync_nothing();
        output.stdout
    }

    /// Asserts that there is nothing to do.
    #[track_caller]
    pub fn sync_nothing(&self) {
        let output = self.sync(&[]).ok();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "sync should have nothing to do or say\n{output}");
    }

    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.run(&[&["systemctl"], arguments].concat()).ok().stdout
    }

    /// Returns a property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "-P", property, unit]).trim_end().to_owned()
    }

    #[track_caller]
    pub fn assert_active(&self, units: &[&str]) {
        let output = self.run(&[&["systemctl", "is-active"], units].concat());
        // its exit code is 0 where one of them is
        assert!(output.stdout.lines().eq(units.iter().map(|_| "active")), "{output}\n{}", self.journal(units));
    }

    pub fn journal(&self, units: &[&str]) -> String {
        let units: Vec<_> = units.iter().map(|unit| format!("--unit={unit}")).collect();
        let units: Vec<_> = units.iter().map(String::as_str).collect();
        self.run(&[&["journalctl", "--boot", "--no-pager", "--lines=40", "--output=cat"], units.as_slice()].concat()).stdout
    }

    /// Returns what programs of an identifier write to the journal while `work` runs, each entry with a newline behind it.
    #[track_caller]
    pub fn journal_of(&self, identifier: &str, work: impl FnOnce()) -> String {
        let entries = self.entries_of(identifier, work);
        // one with control characters is a list of bytes
        let bytes = |message: &serde_json::Value| -> Option<Vec<u8>> {
            message.as_array()?.iter().map(|byte| byte.as_u64().and_then(|byte| byte.try_into().ok())).collect()
        };
        let text = |message: &serde_json::Value| match message.as_str() {
            Some(text) => text.to_owned(),
            None => String::from_utf8_lossy(&bytes(message).expect("a text or bytes")).into_owned(),
        };
        entries.iter().map(|entry| text(&entry["MESSAGE"]) + "\n").collect()
    }

    /// The same as entries with all their fields.
    ///
    /// journalctl's own choice of an identifier is no use: 252 leaves out the first line after a cursor that is another's.
    #[track_caller]
    pub fn entries_of(&self, identifier: &str, work: impl FnOnce()) -> Vec<serde_json::Value> {
        let journal = "journalctl --sync; journalctl --boot --quiet --output=json --cursor-file=/run/lab-cursor";
        let _ = self.sh(&format!("rm -f /run/lab-cursor; {journal} --lines=0")).ok();
        work();
        let entries = self.sh(journal).ok().stdout;
        let entries = entries.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        entries.filter(|entry: &serde_json::Value| entry["SYSLOG_IDENTIFIER"] == identifier).collect()
    }

    /// Starts units; when one does not start, the panic has the journal of all, and of their namespaces.
    #[track_caller]
    pub fn start(&self, units: &[&str]) {
        let output = self.run(&[&["systemctl", "start"], units].concat());
        let more = [units, &["netns@*", "systemd-networkd.service"]].concat();
        assert!(output.code == 0, "{output}\n--- journal\n{}", self.journal(&more));
    }

    /// Stops units and waits until their namespaces have gone: systemd stops netns@ after it has answered.
    #[track_caller]
    pub fn stop(&self, units: &[&str]) {
        self.systemctl(&[&["stop"], units].concat());
        self.wait_gone();
    }

    /// Waits until no namespace is there that no unit needs.
    #[track_caller]
    pub fn wait_gone(&self) {
        let _ = self.wait_until(
            "unneeded namespaces have gone",
            // a DHCP client has 10 s to end
            Duration::from_secs(20),
            // a unit that has stopped may stay loaded, and then it is still named in BoundBy
            "for unit in $(systemctl list-units --plain --no-legend --state=active,activating,deactivating 'netns@*' | cut -d' ' -f1); do
                 needed=
                 for by in $(systemctl show --value -p BoundBy -p RequiredBy $unit); do
                     # it goes, too, when nobody needs it
                     [[ $by == netns-online@* || $(systemctl show -P ActiveState $by) =~ ^(inactive|failed)$ ]] || needed=$by
                 done
                 [[ $needed && $(systemctl show -P ActiveState $unit) = active ]] || { systemctl status $unit; exit 1; }
             done",
        );
    }

    /// Asks the server at an address, which must do as it is asked.
    #[track_caller]
    pub fn ask(&self, address: &str, port: &str, words: &str) -> String {
        let answer = self.answer(address, port, words);
        assert!(!answer.starts_with("failed"), "{address} port {port}, asked to '{words}': {answer}");
        answer
    }

    /// Asks the server at an address; its answer may be that something failed.
    #[track_caller]
    pub fn answer(&self, address: &str, port: &str, words: &str) -> String {
        let words: Vec<_> = words.split(' ').collect();
        self.run(&[&["python3", "/usr/local/lib/talk.py", "ask", address, port], words.as_slice()].concat()).ok().stdout
    }

    #[track_caller]
    pub fn who(&self, address: &str, port: &str) -> Who {
        who(&self.ask(address, port, "who"))
    }

    /// Returns the source address that a service's packets to `to`, an address of the host, have.
    #[track_caller]
    pub fn source_of(&self, address: &str, port: &str, to: &str) -> String {
        who(&self.ask(address, port, &format!("ask {to} {HOST_PORT} who"))).peer
    }

    /// Asserts that an address answers a ping and that a service does at it.
    #[track_caller]
    pub fn assert_answers(&self, address: &str, port: &str) {
        let _ = self.run(&["ping", "-n", "-c", "1", "-W", "2", address]).ok();
        assert_eq!(self.who(address, port).own, address);
    }

    /// Returns the inode of the network namespace of a unit's main process.
    #[track_caller]
    pub fn netns_of(&self, unit: &str) -> String {
        self.sh(&format!("stat -Lc %i /proc/$(systemctl show -P MainPID {unit})/ns/net")).ok().stdout.trim().to_owned()
    }

    #[track_caller]
    pub fn netns_of_process(&self, pid: &str) -> String {
        self.sh(&format!("stat -Lc %i /proc/{pid}/ns/net")).ok().stdout.trim().to_owned()
    }

    #[track_caller]
    pub fn host_netns(&self) -> String {
        self.sh("stat -Lc %i /proc/1/ns/net").ok().stdout.trim().to_owned()
    }

    /// Returns the inode of a named namespace.
    #[track_caller]
    pub fn named_netns(&self, name: &str) -> String {
        self.sh(&format!("stat -Lc %i /run/netns/{name}")).ok().stdout.trim().to_owned()
    }

    /// Returns what tells whether anything was changed: every file and folder of the tool and of systemd's with inode, time
    /// of change, mode and content, links, addresses, routes, units and namespaces with their PIDs.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        self.sh(concat!(
            "cd /; exec 2>&1; folders=$(ls -d etc/systemd/{network,system} etc/netns var/lib/netns-networkd run/netns run/netns-networkd || true)\n",
            "find $folders -printf '%p %y %i %m %T@ %C@\\n' | sort\n",
            "find $folders -type f -not -path 'run/netns/*' -exec sha256sum {} + | sort -k2\n",
            // carrier and duplicate detection take their time after the ports that came or went
            "kernel() { sed 's/ [a-z_]*_timer *[0-9.]*//g; s/ tentative//; s/ linkdown//; s/ state [A-Z]* / /; s/<[A-Z,_-]*>//'; }\n",
            "ip -d link | kernel; ip -o addr | sed 's/ *\\(valid\\|preferred\\)_lft.*//' | kernel\n",
            "{ ip route; ip -6 route | sed 's/ expires [0-9]*sec//'; } | kernel\n",
            "for name in $(ip netns list | cut -d' ' -f1); do echo netns $name; ip -n $name -br link; ip -n $name -br addr\n",
            "    ip -n $name route; ip -n $name -6 route; done\n",
            "systemctl show -P UnitsLoadStartTimestampMonotonic\n",
            "systemctl list-units --all --plain --no-legend 't-*' 'netns*' systemd-networkd.service\n",
            "systemctl show -p Id,MainPID,ActiveEnterTimestampMonotonic 't-*' 'netns*' systemd-networkd.service\n",
        ))
        .ok()
        .stdout
    }

    /// Asserts that nothing has changed since a fingerprint was taken.
    #[track_caller]
    pub fn assert_unchanged(&self, before: &str) {
        let now = self.fingerprint();
        assert!(before == now, "something has changed:\n{}", super::diff(before, &now));
    }

    /// Ends what a test has begun; what is then left is a fault.
    #[track_caller]
    fn clean(&self) {
        let _ = self
            .sh("rm -f /etc/netns-networkd/* /run/netns-networkd/*.toml
                 cd /etc/systemd/system; systemctl stop 't-*' 'netns-hold@*'
                 rm -rf t-*.service t-*.socket; systemctl daemon-reload; systemctl reset-failed")
            .ok();
        self.stop(&["t-*"]);
        let output = self.sync(&[]).ok();
        assert!(output.stderr.is_empty(), "sync without a configuration warns\n{output}");
        self.sync_nothing();
        let left = self.sh(concat!(
            "ls /etc/systemd/network; ls -d /etc/systemd/system/*netns* /etc/systemd/system/*.d; ls /etc/netns\n",
            "ls -A /var/lib/netns-networkd/netns; grep '\"' /var/lib/netns-networkd/manifest.toml\n",
            "ls -A /run/netns; ls -A /run/netns-networkd/netns; ls -A /run/netns-networkd/held\n",
            "ls /sys/class/net | grep -vxE 'eno1|lan|lo'\n",
            "systemctl list-units --plain --no-legend 'netns*' 't-*'; true\n",
        ));
        assert!(left.stdout.is_empty(), "not removed with the configuration:\n{}", left.stdout);
    }
}

fn who(answer: &str) -> Who {
    let words: Vec<_> = answer.split_whitespace().map(ToOwned::to_owned).collect();
    let [peer, own, pid, netns] = words.try_into().unwrap_or_else(|_| panic!("not an answer to 'who': {answer}"));
    Who { peer, own, pid, netns }
}

/// The text of a unit that runs `talk.py`; it counts as started when it listens, and may start as often as it likes.
pub fn talk_unit(arguments: &str, settings: &str) -> String {
    format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nTimeoutStopSec=5\n\
         ExecStart=/usr/bin/python3 /usr/local/lib/talk.py {arguments}\n{settings}\n[Install]\nWantedBy=multi-user.target\n"
    )
}

impl std::ops::Deref for Lab {
    type Target = Host;
    fn deref(&self) -> &Host {
        self.host.as_ref().expect("there until the value goes")
    }
}

impl Shell for Lab {
    fn enter(&self) -> Vec<String> {
        (**self).enter()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the host goes: who knows what is on it
        }
        self.clean();
        let host = self.host.take().expect("there until now");
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push((self.suite, host));
    }
}
