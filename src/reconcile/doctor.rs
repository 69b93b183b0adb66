//! `doctor`: looks at a host, changes nothing, waits for nobody, and goes on without what it cannot see.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;

use super::{netns, status::status};
use crate::{
    derive::{self, End},
    desired::{self, NETWORKD, RESOLV_CONF, etc_path, networkd_path},
    doctor::{
        self, Chain, Diagnosis, Entry, Facts, Fill, Interface, Left, Link, Namespace, NetworkdFile, Role, Unit, UnitFile, examine, stanzas,
    },
    error,
    model::{LinkName, Mac, Netns, NetnsName, UnitName},
    report::{self, Address, AddressState, Binding, Report},
    sys::{
        bus::{Bus, UnitFiles},
        firewall,
        fs::{self, Root},
        journal, kernel,
        manifest::Manifest,
        netlink::{self, KernelLink, Socket},
        netns::{DIRECTORY, Found, find, find_at, identity, inside},
        networkd,
        processes::{self, Process},
        sysctl,
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

    /// The links of the host that matter: bridges, their ports, and what should be one of them.
    fn links(&mut self, report: Option<&Report>) -> Result<()> {
        let mut socket = Socket::open()?;
        let kernel_links = netlink::links(&mut socket)?;
        let names: HashMap<u32, &str> = kernel_links.iter().map(|link| (link.index, link.name.as_str())).collect();
        let mut links: BTreeMap<String, Link> = kernel_links.iter().map(|link| (link.name.clone(), see(link, &names))).collect();
        for state in netlink::addresses(&mut socket)?.into_iter().filter(|state| state.duplicate) {
            if let Some(link) = names.get(&state.index).and_then(|name| links.get_mut(*name)) {
                link.duplicates.push(state.address.address);
            }
        }
        let written = |kind: &str, name: &LinkName| {
            let path = networkd_path(kind, name, "network");
            self.manifest.files.contains_key(&path).then_some(path)
        };
        for (netns, record) in &self.records {
            for end in record.links.values().filter_map(|link| link.kind.host_end()) {
                let link = links.entry(end.name.to_string()).or_default();
                link.role = Role::HostEnd;
                link.netns = Some(netns.clone());
                link.wanted_bridge = end.bridge.as_ref().map(ToString::to_string);
                link.wanted_file = written("port", &end.name);
                link.kind.get_or_insert_with(|| "veth".to_owned());
            }
        }
        for bridge in report.iter().flat_map(|report| &report.bridges) {
            let link = links.entry(bridge.name.to_string()).or_default();
            link.role = if bridge.configured { Role::Bridge } else { Role::ForeignBridge };
            link.wanted_file = written("bridge", &bridge.name);
            for port in bridge.ports.iter().filter(|port| port.role == report::Role::Uplink) {
                let link = links.entry(port.name.clone()).or_default();
                link.role = Role::Uplink;
                link.wanted_bridge = Some(bridge.name.to_string());
                link.wanted_file = LinkName::parse(&port.name).ok().and_then(|name| written("uplink", &name));
            }
        }
        links.retain(|_, link| link.role != Role::Other || link.bridge.is_some() || link.required.is_some());
        self.facts.links = links;
        Ok(())
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

    /// What only a look from within shows.
    fn inside(&mut self) -> Result<()> {
        if !fs::is_root() {
            return Ok(());
        }
        for (name, netns) in self.facts.namespaces.iter_mut().filter(|(_, netns)| netns.there) {
            let Ok(Found::Netns(fd)) = find(name) else { continue };
            let links = netns.interfaces.keys().map(|link| link.replace('.', "/")).chain(["all".to_owned()]);
            let keys: Vec<String> = links.map(|link| format!("net.ipv4.conf.{link}.rp_filter")).collect();
            let (parameters, tracked) = inside(&fd, || {
                let mut found = BTreeMap::new();
                for key in keys {
                    found.extend(sysctl::read(&key)?.map(|value| (key, value)));
                }
                Ok((found, tracked()?))
            })
            .with_context(|| format!("failed to look into netns '{name}'"))?;
            netns.parameters = parameters;
            self.facts.tables.extend(tracked.map(|table| Fill { netns: Some(name.clone()), ..table }));
        }
        Ok(())
    }

    /// Who is in which namespace, and who is in one that has no name any more.
    fn processes(&mut self, report: Option<&Report>) -> Result<()> {
        self.facts.run_netns.shared = kernel::is_shared_mount(DIRECTORY);
        let mut by_netns = if fs::is_root() { processes::by_netns(processes::elsewhere()?) } else { BTreeMap::new() };
        for entry in fs::list(Path::new(DIRECTORY))? {
            let Some(name) = entry.path.file_name().and_then(|name| name.to_str()) else { continue };
            let fd = if let Found::Netns(fd) = find_at(&entry.path)? { Some(fd) } else { None };
            let there = identity(&entry.path).and_then(|identity| by_netns.remove(&identity)).unwrap_or_default();
            let known = NetnsName::parse(name).ok().filter(|name| self.facts.namespaces.contains_key(name));
            let is_empty = match &fd {
                Some(fd) if known.is_none() && fs::is_root() => Some(there.is_empty() && is_bare(fd)?),
                _ => None,
            };
            self.facts.run_netns.entries.insert(name.to_owned(), Entry { is_netns: fd.is_some(), is_empty });
            if let Some(netns) = known.as_ref().and_then(|name| Some((report?, self.facts.namespaces.get_mut(name)?))) {
                netns.1.unbound = unbound(&there, netns.0, known.as_ref());
            }
        }
        self.facts.left = by_netns.into_values().flat_map(|processes| self.left(&processes).unwrap_or_default()).collect();
        Ok(())
    }

    /// The processes of a namespace without a name, if it was one of ours: those begin with parameters that no other has.
    fn left(&self, processes: &[Process]) -> Result<Vec<Left>> {
        let Some(first) = processes.first() else { return Ok(Vec::new()) };
        let fd = processes::open_netns(first.pid)?;
        let (is_ours, macs) = inside(&fd, || {
            // those that nobody else has a reason to set
            let rare = ["arp_notify", "ndisc_notify", "router_solicitation_delay"];
            let mut is_ours = true;
            for (key, value) in desired::SYSCTL.iter().filter(|(key, _)| rare.iter().any(|rare| key.ends_with(rare))) {
                is_ours &= sysctl::is_void(key) || sysctl::read(key)?.as_deref() == Some(*value);
            }
            Ok((is_ours, netlink::links(&mut Socket::open()?)?.into_iter().filter_map(|link| link.mac).collect::<Vec<Mac>>()))
        })?;
        if !is_ours {
            return Ok(Vec::new());
        }
        let of_unit = |unit: &String| self.facts.units.get(unit).and_then(|unit| unit.netns.clone());
        let netns = self.netns_with(&macs).or_else(|| processes.iter().find_map(|process| of_unit(process.unit.as_ref()?)));
        let left = |Process { pid, netns: _, command, unit }: &Process| Left {
            pid: *pid,
            command: command.clone(),
            unit: unit.clone(),
            netns: netns.clone(),
        };
        Ok(processes.iter().map(left).collect())
    }

    /// Gives the namespace whose links have one of these addresses.
    fn netns_with(&self, macs: &[Mac]) -> Option<NetnsName> {
        let machine_id = fs::machine_id(&Root::new("/")).ok()??;
        let is_its = |netns: &NetnsName, record: &Netns| {
            record
                .links
                .iter()
                .any(|(name, link)| macs.contains(&link.mac.unwrap_or_else(|| derive::mac(&machine_id, netns, name, End::Inside))))
        };
        self.records.iter().find(|(netns, record)| is_its(netns, record)).map(|(netns, _)| netns.clone())
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

/// What the report says of a link inside, and the record of its bridge: it may not be a port of that at the moment.
fn interface(link: &report::Interface, record: Option<&Netns>) -> Interface {
    let is_default = |ipv4: bool| {
        link.routes.iter().any(|route| route.to.prefix_len() == 0 && route.table.is_none() && route.to.addr().is_ipv4() == ipv4)
    };
    let end = link.host_end.as_ref();
    let recorded = record.and_then(|record| record.links.get(&LinkName::parse(&link.name).ok()?));
    let bridge = recorded.map_or(link.bridge.as_ref(), |recorded| recorded.kind.bridge());
    let addresses = || link.addresses.iter().chain(end.iter().flat_map(|end| &end.addresses));
    Interface {
        kind: link.kind.clone().unwrap_or_default(),
        mtu: link.mtu.filter(|_| link.state != report::LinkState::Absent),
        host_end: end.map(|end| end.name.to_string()),
        bridge: bridge.map(ToString::to_string),
        parent: link.parent.as_ref().map(ToString::to_string),
        addresses: link.addresses.iter().map(|address| address.address).collect(),
        gateways: [is_default(true), is_default(false)],
        duplicates: addresses().filter(|a: &&Address| a.state == AddressState::Duplicate).map(|a| a.address).collect::<Vec<IpNet>>(),
    }
}

/// A link of the host, as the kernel and networkd show it.
fn see(link: &KernelLink, names: &HashMap<u32, &str>) -> Link {
    let KernelLink { index, name, kind, mac, mtu, up, carrier, master, bridge, .. } = link;
    let attribute = |attribute: &str| kernel::link_attribute(name, attribute);
    let is_bridge = kind.as_deref() == Some("bridge");
    let calls = |tool: &str| {
        let of_all = sysctl::read(&format!("net.bridge.bridge-nf-call-{tool}")).ok().flatten();
        is_bridge && [of_all, attribute(&format!("bridge/nf_call_{tool}"))].iter().flatten().any(|value| value == "1")
    };
    let state = networkd::link_state(*index).unwrap_or_default();
    Link {
        there: true,
        kind: kind.clone(),
        up: *up,
        carrier: *carrier,
        mtu: *mtu,
        bridge: master.and_then(|index| names.get(&index)).map(|name| (*name).to_owned()),
        file: state.file,
        state: Some(state.state).filter(|state| !state.is_empty()),
        required: state.required,
        // NET_ADDR_SET: what somebody has set does not follow the ports (`br_stp_recalculate_bridge_id`)
        mac_is_set: if is_bridge { attribute("addr_assign_type").map(|kind| kind == "3") } else { None },
        mac: mac.map(|mac| mac.to_string()),
        wireless: kernel::has_link_attribute(name, "phy80211") || kernel::has_link_attribute(name, "wireless"),
        forward_delay: bridge
            .as_ref()
            .filter(|bridge| bridge.stp)
            // in hundredths of a second
            .and_then(|_| attribute("bridge/forward_delay")?.parse::<u32>().ok())
            .map(|delay| delay.div_ceil(100)),
        nf_call: if is_bridge { [calls("iptables"), calls("ip6tables")] } else { [false; 2] },
        ..Link::default()
    }
}

/// Counts the connections that are tracked in the namespace of the calling thread.
fn tracked() -> Result<Option<Fill>> {
    const LIMIT: &str = "net.netfilter.nf_conntrack_max";
    let number = |key: &str| Ok::<_, anyhow::Error>(sysctl::read(key)?.and_then(|value| value.parse::<u64>().ok()));
    let (used, limit) = (number("net.netfilter.nf_conntrack_count")?, number(LIMIT)?);
    Ok(used.zip(limit).map(|(used, limit)| Fill { netns: None, parameter: LIMIT.to_owned(), used, limit }))
}

/// Tells whether nothing is in a namespace but what every one has.
fn is_bare(fd: &std::os::fd::OwnedFd) -> Result<bool> {
    // the kernel's modules for tunnels put one of theirs into each namespace, which is down
    const TUNNELS: [&str; 9] = ["ipip", "gre", "gretap", "erspan", "vti", "vti6", "sit", "ip6tnl", "ip6gre"];
    let is_fallback = |link: &KernelLink| !link.up && link.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind));
    inside(fd, || Ok(netlink::links(&mut Socket::open()?)?.iter().all(|link| link.name == "lo" || is_fallback(link))))
}

/// Services with processes in a namespace that are not bound to it.
fn unbound(processes: &[Process], report: &Report, name: Option<&NetnsName>) -> BTreeSet<String> {
    let bound: BTreeSet<&str> = report
        .namespaces
        .iter()
        .filter(|netns| Some(&netns.name) == name)
        .flat_map(|netns| &netns.units)
        .map(|unit| unit.name.as_str())
        .collect();
    let is_bound = |unit: &str| {
        let template = UnitName::parse(unit).ok().and_then(|unit| unit.template());
        bound.contains(unit) || template.is_some_and(|template| bound.contains(template.as_str()))
    };
    let units = processes.iter().filter_map(|process| process.unit.as_deref());
    // `exec` and shells are in scopes; units of ours come and go with the namespace
    units.filter(|unit| unit.ends_with(".service") && !unit.starts_with("netns") && !is_bound(unit)).map(str::to_owned).collect()
}
