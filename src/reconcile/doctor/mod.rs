//! `doctor`: looks at a host, changes nothing, waits for nobody, and goes on without what it cannot see.

mod inside;
mod links;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use self::{inside::tracked, links::interface};
use super::{netns, status::status};
use crate::{
    desired::{NETWORKD, RESOLV_CONF, etc_path},
    doctor::{self, Chain, Diagnosis, Facts, Fill, Namespace, NetworkdFile, Role, Unit, UnitFile, examine, stanzas},
    error,
    model::{Netns, NetnsName, UnitName},
    report::{self, Binding, Report},
    sys::{
        bus::{Bus, UnitFiles},
        firewall,
        fs::{self, Root},
        journal, kernel,
        manifest::Manifest,
        netns::{Found, find},
        networkd, sysctl,
    },
};
/// How long another program may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The journal is asked for so many units at most.
const ASKED: usize = 5;

/// Units of others that matter.
const OTHERS: [&str; 5] =
    ["systemd-networkd.service", "systemd-networkd-wait-online.service", "NetworkManager.service", "dhcpcd.service", "connman.service"];

/// Looks at the host and says what is wrong with it.
pub fn diagnose() -> Result<Diagnosis> {
    if kernel::shares_with_init("net") == Some(false) {
        return Err(anyhow!("this shell is in a network namespace, and doctor looks at the host"))
            .context("hint: `nsenter --target 1 --net --mount netns-networkd doctor`");
    }
    let (facts, not_seen) = Look::default().at_host();
    let findings = examine(&facts);
    Ok(Diagnosis { ok: findings.is_empty(), checks: doctor::CHECKS.len(), findings, not_seen })
}

/// What is collected on the way.
#[derive(Default)]
struct Look {
    facts: Facts,
    not_seen: Vec<String>,
    /// What the last sync has written down of each namespace.
    records: BTreeMap<NetnsName, Netns>,
    manifest: Manifest,
}

impl Look {
    fn at_host(mut self) -> (Facts, Vec<String>) {
        if !fs::is_root() {
            self.not_seen.push(
                "without root: what is inside namespaces, which processes are in them, firewalls, and what the kernel would refuse"
                    .to_owned(),
            );
        }
        if kernel::shares_with_init("mnt") == Some(false) {
            self.not_seen.push("mounts as the host sees them: this shell has a mount namespace of its own".to_owned());
        }
        let report = status(&[]);
        let report = self.keep(report, |look, error| look.facts.status.failure = Some(error));
        let manifest = Manifest::read(&Root::new("/"));
        self.manifest = self.keep(manifest, |look, error| look.facts.status.failure = Some(error)).unwrap_or_default();
        if let Some(report) = &report {
            self.namespaces(report);
            self.facts.status.differences = report.drift.len() + report.orphans.len();
            self.facts.status.pending = report.pending.len();
            // networkd is looked at by itself
            self.facts.status.warnings = report.warnings.iter().filter(|text| !text.starts_with("systemd-networkd does not run")).count();
            self.facts.status.configuration.clone_from(&report.configuration.error);
            self.not_seen.extend(report.not_seen.iter().filter(|text| !text.starts_with("without root")).cloned());
        }
        let report = report.as_ref();
        let looked = self.links(report);
        self.note("links", looked);
        let looked = self.files();
        self.note("files of networkd", looked);
        let looked = self.units(report);
        self.note("units", looked);
        let looked = self.inside();
        self.note("namespaces", looked);
        let looked = self.processes(report);
        self.note("processes", looked);
        self.firewalls();
        let looked = self.others();
        self.note("files of others", looked);
        self.kernel();
        (self.facts, self.not_seen)
    }

    /// Notes what could not be looked at.
    fn note(&mut self, what: &str, looked: Result<()>) {
        if let Err(error) = looked {
            let text = error::render(&error);
            self.not_seen.push(format!("{what}: {}", text.lines().next().unwrap_or_default()));
        }
    }

    fn keep<T>(&mut self, result: Result<T>, note: impl FnOnce(&mut Self, String)) -> Option<T> {
        result.map_err(|error| note(self, error::render(&error).lines().next().unwrap_or_default().to_owned())).ok()
    }

    /// What the report and the records say of namespaces.
    fn namespaces(&mut self, report: &Report) {
        for netns in &report.namespaces {
            self.records.extend(netns::read_record(&netns.name).ok().flatten().map(|record| (netns.name.clone(), record)));
            let record = self.records.get(&netns.name);
            let is_own = |unit: &&report::Unit| unit.bound != Binding::Tool;
            let namespace = Namespace {
                configured: netns.configured,
                there: matches!(find(&netns.name), Ok(Found::Netns(_))),
                ours: netns::read_applied(&netns.name).is_ok_and(|applied| applied.is_some()),
                busy: matches!(netns.state, report::NetnsState::ComingUp | report::NetnsState::GoingDown),
                services: netns.units.iter().any(|unit| is_own(&unit)),
                own_resolv_conf: fs::exists(&etc_path(&netns.name, RESOLV_CONF)) || netns.interfaces.iter().any(|link| link.dhcp),
                interfaces: netns
                    .interfaces
                    .iter()
                    .filter(|link| link.name != "lo")
                    .map(|link| (link.name.clone(), interface(link, record)))
                    .collect(),
                marks: record.is_some_and(|record| record.rules.iter().any(|rule| rule.fwmark.is_some() || rule.iif.is_some())),
                ..Namespace::default()
            };
            self.facts.namespaces.insert(netns.name.clone(), namespace);
        }
    }

    fn files(&mut self) -> Result<()> {
        let ours: BTreeSet<&PathBuf> = self.manifest.files.keys().filter(|path| path.starts_with(NETWORKD)).collect();
        let files = networkd::files()?.into_iter().map(|file| {
            let networkd::File { path, masked, unreadable, text } = file;
            NetworkdFile { ours: ours.contains(&path), path, masked, unreadable, text }
        });
        self.facts.files = files.collect();
        Ok(())
    }

    fn units(&mut self, report: Option<&Report>) -> Result<()> {
        let bus = Bus::connect()?;
        let mut units: BTreeMap<String, Unit> = OTHERS.iter().map(|name| ((*name).to_owned(), Unit::default())).collect();
        for netns in report.iter().flat_map(|report| &report.namespaces) {
            units.insert(format!("netns@{}.service", netns.name), Unit::default());
            for unit in netns.units.iter().filter(|unit| UnitName::parse(&unit.name).is_ok_and(|name| !name.is_template())) {
                let is_own = unit.bound != Binding::Tool;
                let unit_facts =
                    Unit { netns: is_own.then(|| netns.name.clone()), by_hand: unit.bound == Binding::Hand, ..Unit::default() };
                units.insert(unit.name.clone(), unit_facts);
            }
            if netns.interfaces.iter().any(|interface| interface.dhcp) {
                units.insert(format!("netns-online@{}.service", netns.name), Unit::default());
            }
        }
        let names: Vec<String> = units.keys().cloned().collect();
        let states = bus.states(&names)?;
        let mut texts: HashMap<String, String> = HashMap::new();
        let mut asked = 0;
        for (((name, unit), (load_state, active_state, _)), files) in units.iter_mut().zip(states).zip(bus.unit_files(&names)?) {
            let UnitFiles { state, paths, binds_to, after, network_namespace_path } = files;
            // many units share theirs
            let mut file = |path: String| {
                let text = || fs::read_text(Path::new(&path)).ok().flatten().unwrap_or_default();
                UnitFile { text: texts.entry(path.clone()).or_insert_with(text).clone(), path }
            };
            unit.files = paths.into_iter().map(&mut file).collect();
            if active_state == "failed" && name.starts_with("netns") && asked < ASKED {
                asked += 1;
                unit.words = journal::last_error(name, ANSWER).unwrap_or_default();
            }
            *unit = Unit { load_state, active_state, file_state: state, binds_to, after, network_namespace_path, ..unit.clone() };
        }
        let has_network_manager = units.get("NetworkManager.service").is_some_and(|unit| unit.active_state == "active");
        if has_network_manager {
            // if it does not say, its files do
            self.facts.managed_by_network_manager = bus.managed_by_network_manager().ok();
        }
        self.facts.units = units;
        Ok(())
    }

    fn firewalls(&mut self) {
        if fs::is_root() {
            let (chains, not_seen) = firewall::forward_chains(ANSWER);
            self.facts.chains = chains.into_iter().map(|(family, name, rules)| Chain { family, name, rules }).collect();
            self.not_seen.extend(not_seen);
        }
    }

    /// Files of other programs that configure links, and of the host's resolver.
    fn others(&mut self) -> Result<()> {
        let read = |path: &Path| Ok::<_, anyhow::Error>(fs::read_text(path)?.unwrap_or_default());
        let folder = |path: &str, suffix: &str| -> Result<Vec<PathBuf>> {
            let entries = fs::list(Path::new(path))?.into_iter().map(|entry| entry.path);
            Ok(entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(suffix))).collect())
        };
        if ["/usr/sbin/ifup", "/sbin/ifup"].iter().any(|path| fs::exists(Path::new(path))) {
            let mut files = vec![PathBuf::from("/etc/network/interfaces")];
            files.extend(folder("/etc/network/interfaces.d", "")?);
            for file in files {
                self.facts.stanzas.extend(stanzas(&file.display().to_string(), &read(&file)?));
            }
        }
        let mut files = vec![PathBuf::from("/etc/NetworkManager/NetworkManager.conf")];
        for top in ["/usr/lib", "/run", "/etc"] {
            files.extend(folder(&format!("{top}/NetworkManager/conf.d"), ".conf")?);
        }
        for file in files {
            self.facts.unmanaged_devices.extend(doctor::unmanaged_devices(&read(&file)?));
        }
        self.facts.dhcpcd_links = fs::read_text(Path::new("/etc/dhcpcd.conf"))?.map(|text| doctor::denied_links(&text));
        self.facts.resolv_conf = fs::read_text(Path::new("/etc/resolv.conf"))?;
        Ok(())
    }

    /// What the kernel is like.
    fn kernel(&mut self) {
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "user.max_net_namespaces"] {
            self.facts.parameters.extend(sysctl::read(key).ok().flatten().map(|value| (key.to_owned(), value)));
        }
        let number = |key: &str| sysctl::read(key).ok().flatten().and_then(|value| value.parse::<u64>().ok());
        self.facts.tables.extend(tracked().ok().flatten());
        for (table, family) in [("arp_cache", "ipv4"), ("ndisc_cache", "ipv6")] {
            let parameter = format!("net.{family}.neigh.default.gc_thresh3");
            if let (Some(used), Some(limit)) = (kernel::neighbours(table), number(&parameter)) {
                self.facts.tables.push(Fill { netns: None, parameter, used, limit });
            }
        }
        let kinds = self.records.values().flat_map(|record| record.links.values()).map(|link| link.kind.as_str());
        let mut kinds: BTreeSet<&str> = kinds.filter(|kind| !["veth", "physical"].contains(kind)).collect();
        let has_vlans = self
            .manifest
            .files
            .keys()
            .any(|path| path.starts_with(NETWORKD) && path.to_string_lossy().contains("/10-netns-networkd-vlan-"));
        kinds.extend(has_vlans.then_some("vlan"));
        for kind in kinds {
            let known = kernel::has_kind(kind, fs::is_root()).ok().flatten();
            self.facts.kinds.extend(known.map(|known| (kind.to_owned(), known)));
        }
        let addresses =
            |record: &Netns| record.links.values().flat_map(|link| &link.addresses).any(|address| address.address.addr().is_ipv6());
        if self.records.values().any(addresses) {
            self.facts.ipv6 = Some(!sysctl::is_void("net.ipv6."));
        }
        for (name, link) in self.facts.links.iter_mut().filter(|(_, link)| link.role == Role::Bridge && link.there) {
            let netdev = self.facts.files.iter().find(|file| file.path.to_string_lossy().ends_with(&format!("-bridge-{name}.netdev")));
            if netdev.is_some_and(|file| file.text.lines().any(|line| line == "VLANFiltering=yes")) {
                link.vlan_aware = Some(kernel::has_link_attribute(name, "bridge/vlan_filtering"));
            }
        }
    }
}
