//! What `sync` says about a host: reasons not to begin, what a person should look at, and why something does not show.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Result;

use super::{
    dhcp, host, netns,
    sockets::namespace_of,
    sync::{Event, Run, Situation},
};
use crate::{
    config::{Namespace, Uplink},
    desired::{self, networkd_path},
    diff::{Change, NetnsChange, gives, takes},
    error::{self, Refused},
    model::{Kind, LinkName, Need, Netns, NetnsName, State, UnitName},
    plan::Plan,
    render,
    sys::{self, fs, nftables, sysctl},
};

/// What has started before any namespace can come up (`After=` of netns@.service and of systemd-networkd.service): a unit inside that is to
/// start before one of these is in a cycle.
const EARLY: [&str; 9] = [
    "systemd-networkd.service",
    "network-pre.target",
    "sysinit.target",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-udevd.service",
    "local-fs.target",
    "local-fs-pre.target",
    "systemd-networkd.socket",
];

impl Run<'_> {
    /// Finds what would do harm on this host, before anything is changed.
    pub(super) fn refuse(&mut self, situation: &Situation) -> Result<()> {
        let mut reasons = Vec::new();
        for (name, bridge) in &self.config.bridges {
            let source = &bridge.source;
            let netdev = networkd_path("bridge", name, "netdev");
            // where the manifest was lost, the file tells
            let content = |state: &State| state.files.get(&netdev).map(|file| file.content.clone());
            let (found, wanted) = (content(&situation.observed), content(&situation.desired));
            let ours = self.manifest.files.contains_key(&netdev) || (found.is_some() && (found == wanted || self.options.force));
            if let Some(link) = situation.observed.links.get(name).filter(|_| !ours) {
                let what = if link.is_bridge { "bridge" } else { "link" };
                reasons.push(format!(
                    "{source}: {what} '{name}' exists already and was not made by netns-networkd\n  hint: to use the bridge as it is, remove \
                     [bridge.{name}]; to have it made from here, remove it where it is configured now, then delete it (`ip link delete {name}`)"
                ));
            }
            for uplink in &bridge.uplinks {
                let link = situation.observed.links.get(uplink.name()).filter(|link| link.master.as_ref() != Some(name));
                if let Some(link) = link {
                    reasons.extend(self.network_of_uplink(name, bridge, uplink.name(), link)?);
                }
            }
        }
        reasons.extend(self.links_in_use()?);
        let by_dhcp = self.config.namespaces.iter().find(|(_, namespace)| !namespace.dhcp.is_empty());
        if let Some((name, namespace)) = by_dhcp.filter(|_| !fs::exists(&self.options.root.at(dhcp::CLIENT))) {
            let source = &namespace.netns.source;
            reasons.push(format!(
                "{source}: netns '{name}' gets addresses by DHCP, and there is no {}\n  {}",
                dhcp::CLIENT,
                dhcp::NO_CLIENT
            ));
        }
        for (name, unit) in &situation.loaded {
            let joined: Vec<_> = unit.joins_namespace_of.iter().filter(|other| *other != name.as_str()).cloned().collect();
            if !joined.is_empty() && situation.desired.units.contains_key(name) {
                reasons.push(format!(
                    "{name} has JoinsNamespaceOf={}, which wins over the namespace it is to run in\n  hint: `systemctl cat {name}` shows where",
                    joined.join(" ")
                ));
            }
        }
        for (name, unit) in &situation.loaded {
            let netns = situation.desired.units.get(name).and_then(|goal| goal.bound_to.as_ref());
            let early = unit.before.iter().find(|other| EARLY.contains(&other.as_str()));
            if let (Some(netns), Some(early)) = (netns, early) {
                reasons.push(format!(
                    "{name} is to start before {early} (Before=), and its netns '{netns}' comes up after that: at boot systemd leaves out one unit \
                     of such a cycle, which may be systemd-networkd\n  hint: `systemctl edit --full {name}` takes it out; a drop-in cannot"
                ));
            }
        }
        reasons.extend(self.in_two_netns(situation));
        reasons.extend(self.taken_from_others(situation));
        reasons.extend(self.bad_keys());
        reasons.extend(self.tried_out(situation));
        if reasons.is_empty() { Ok(()) } else { Err(Refused(reasons).into()) }
    }

    /// Names units that two namespaces list, each by another of their names; the same name in two is found in the files.
    fn in_two_netns(&self, situation: &Situation) -> Vec<String> {
        let mut first: BTreeMap<&str, (&UnitName, &NetnsName)> = BTreeMap::new();
        let mut reasons = Vec::new();
        let units = situation.desired.units.iter();
        for (name, netns, id) in units.filter_map(|(name, unit)| Some((name, unit.bound_to.as_ref()?, &situation.loaded.get(name)?.id))) {
            let (other, there) = *first.entry(id).or_insert((name, netns));
            if there != netns {
                let source = self.config.namespaces.get(netns).map(|namespace| namespace.netns.source.as_str()).unwrap_or_default();
                reasons.push(format!(
                    "{source}: netns '{netns}' has {name}, which is {other} of netns '{there}' by another name\n  hint: list the unit once; \
                     `systemctl show -P Names {name}` gives all its names"
                ));
            }
        }
        reasons
    }

    /// Names what namespaces that were asked for are to have and others would keep, in which nothing is to be changed.
    fn taken_from_others(&self, situation: &Situation) -> Vec<String> {
        let names = &self.options.names;
        let asked_for = self.known.iter().filter(|(name, _)| names.contains(name));
        let mut wanted: BTreeMap<NetnsName, Netns> = asked_for.map(|(name, netns)| (name.clone(), netns.clone())).collect();
        let records = situation.observed.files.iter().filter_map(|(path, file)| Some((desired::record_of(path)?, file)));
        let others = records.filter(|(name, _)| !names.is_empty() && !names.contains(name) && !situation.retired.contains(name));
        let mut reasons = Vec::new();
        for (other, record) in others {
            let record = serde_json::from_str(&record.content).ok();
            let Some(has) = situation.observed.netns.get(&other).or(record.as_ref()) else { continue };
            // what it is to keep it does not give
            wanted.extend(self.known.get(&other).map(|netns| (other.clone(), netns.clone())));
            let all = gives(&other, has, &wanted);
            wanted.remove(&other);
            for give in all {
                let what = match &give {
                    NetnsChange::RemoveAddress { address, .. } => format!("address {}", address.address),
                    NetnsChange::RemoveLink { kind, .. } => match &**kind {
                        Kind::Veth(end) => format!("host-name '{}'", end.name),
                        Kind::Physical { parent } => format!("link '{parent}'"),
                        _ => continue,
                    },
                    _ => continue,
                };
                let takers = wanted.iter().filter(|(_, netns)| takes(netns, &give));
                reasons.extend(takers.map(|(name, netns)| {
                    let how = if self.known.contains_key(&other) { format!("sync {name} {other}") } else { "sync".to_owned() };
                    format!(
                        "{}: netns '{name}' is to have {what}, which netns '{other}' has by now\n  hint: `netns-networkd {how}` moves it",
                        netns.source
                    )
                }));
            }
        }
        reasons
    }

    /// Tries out what only the kernel and nft can check, in throw-away namespaces: parameters and rulesets that are about to change.
    fn tried_out<'s>(&self, situation: &'s Situation) -> Vec<String> {
        let mut reasons = Vec::new();
        for (name, namespace) in self.config.namespaces.iter().filter(|_| fs::is_root()) {
            let Namespace { nftables, netns, .. } = namespace;
            if nftables.is_none() && netns.sysctl.is_empty() {
                continue;
            }
            let changes = |path: PathBuf| {
                let content = |state: &'s State| state.files.get(&path).map(|file| &file.content);
                content(&situation.observed) != content(&situation.desired)
            };
            if !changes(desired::record_path(name)) && !changes(desired::ruleset_path(name)) {
                continue;
            }
            let links: Vec<&LinkName> = netns.links.keys().collect();
            let try_out = || {
                netns.sysctl.iter().try_for_each(|(key, value)| sysctl::write(key, value))?;
                nftables.iter().try_for_each(|path| nftables::check(&self.options.root.target(path)))
            };
            reasons.extend(sys::netns::scratch(&links, try_out).err().map(|error| format!("{}: {}", netns.source, error::render(&error))));
        }
        reasons
    }

    /// Names the physical links that are to go into namespaces and that the host itself uses.
    fn links_in_use(&mut self) -> Result<Vec<String>> {
        let mut reasons = Vec::new();
        let physical: Vec<(String, LinkName)> = (self.config.namespaces.values())
            .flat_map(|n| n.netns.links.values().map(|link| (&n.netns.source, &link.kind)))
            .filter_map(|(source, kind)| if let Kind::Physical { parent } = kind { Some((source.clone(), parent.clone())) } else { None })
            .collect();
        let found = if self.options.root.is_host() { host::links(physical.iter().map(|(_, link)| link.clone()))? } else { BTreeMap::new() };
        for (source, name) in physical.iter().filter(|(_, name)| found.contains_key(name)) {
            if let Some(own) = host::own_name(name)? {
                reasons.push(format!("{source}: {}", sys::inside::other_name(name, &own)));
                continue;
            }
            let host::Addressing { addresses, learned, routes: _ } = host::addressing(name)?;
            let file = self.file_of_somebody_else(name)?;
            let mut own: BTreeSet<String> = addresses.union(&learned).map(ToString::to_string).chain(file.addresses).collect();
            own.extend(file.dhcp.map(|dhcp| format!("DHCP={dhcp}")));
            reasons.push(match &found[name].master {
                // the kernel puts no macvlan on a port either
                Some(master) => format!(
                    "{source}: link '{name}' is a port of '{master}', which would lose it\n  hint: take it from there first, or make the interface \
                     a port, too: bridge = \"{master}\""
                ),
                None if own.is_empty() => continue,
                None => format!(
                    "{source}: link '{name}' has addresses of its own ({}); moved into a namespace it would take them from the host\n  hint: take \
                     them from its .network file (`networkctl status {name}` names it), or choose kind = \"macvlan\"",
                    own.into_iter().collect::<Vec<_>>().join(", ")
                ),
            });
        }
        Ok(reasons)
    }

    /// Names the `.network` file that networkd takes for a link, if it is not ours.
    pub(super) fn taken_by(&mut self, link: &LinkName) -> Result<Option<PathBuf>> {
        let file = host::network_file(self.bus()?, link);
        Ok(file.filter(|file| !self.manifest.files.contains_key(file)))
    }

    /// Reads what the `.network` file that a link has now gives it; nothing if that file is ours.
    pub(super) fn file_of_somebody_else(&mut self, link: &LinkName) -> Result<render::OwnSettings> {
        let Some(file) = self.taken_by(link)? else { return Ok(render::OwnSettings::default()) };
        let mut texts: Vec<String> = fs::read_text(&file)?.into_iter().collect();
        texts.extend(host::drop_ins(&self.options.root, &file)?);
        Ok(render::own_settings(&texts))
    }

    pub(super) fn warn(&mut self, situation: &Situation) {
        let mut warnings = self.missing_keys();
        warnings.extend(situation.left_out.iter().cloned());
        for (name, unit) in situation.loaded.iter().filter(|(_, unit)| unit.load_state != "loaded") {
            if let Some(netns) = namespace_of(self.config, name) {
                warnings.push(format!("{name} of netns '{netns}' is {}: its drop-in waits for it", unit.load_state));
            }
        }
        if self.options.root.is_host() && self.has_bus() {
            warnings.extend(self.separated(situation).unwrap_or_else(|e| vec![format!("sockets were not looked at: {e:#}")]));
        }
        let known: BTreeSet<_> = self.config.bridges.keys().cloned().collect();
        let applied = |name| netns::read_applied(name).ok().flatten().unwrap_or_default();
        let needs = self.config.namespaces.iter().flat_map(|(name, namespace)| netns::needs(&namespace.netns, &applied(name)));
        let needs: BTreeMap<LinkName, Need> = needs.filter(|(name, _)| !known.contains(name)).collect();
        let found = if self.options.root.is_host() { host::links(needs.keys().cloned()).ok() } else { None };
        for (link, need) in needs {
            let missing = found.as_ref().is_some_and(|found| !found.contains_key(&link));
            match need {
                Need::Bridge if missing => warnings.push(format!(
                    "bridge '{link}' does not exist and no [bridge.{link}] makes it: the namespaces on it cannot start until somebody else does"
                )),
                Need::Up | Need::There if missing => {
                    warnings.push(format!("link '{link}' does not exist: the namespaces that need it cannot start until it does"));
                }
                _ => {}
            }
        }
        warnings.sort();
        warnings.into_iter().for_each(|text| (self.tell)(Event::Warning(text)));
    }

    /// Names the files of others that networkd takes for host ends of the namespaces that a plan is to mend: what it has done, it
    /// will do again.
    pub(super) fn warn_of_takers(&mut self, plan: &Plan, situation: &Situation) {
        let name = |change: &Change| if let Change::Netns { name, .. } = change { Some(name.clone()) } else { None };
        let changed: BTreeSet<_> = plan.changes.iter().filter_map(name).collect();
        let links = changed.iter().filter_map(|name| situation.observed.netns.get(name)).flat_map(|netns| netns.links.values());
        for end in links.filter_map(|link| link.kind.host_end()) {
            let file = networkd_path("port", &end.name, "network");
            if self.taken_by(&end.name).is_ok_and(|taker| taker.is_some())
                && let Some(why) = self.bus().ok().and_then(|bus| host::explain_link(bus, &end.name, &file))
            {
                (self.tell)(Event::Warning(why));
            }
        }
    }

    /// Lists the VLAN links among the uplinks, each with its parent.
    fn vlans(&self) -> Vec<(LinkName, LinkName)> {
        let uplinks = self.config.bridges.values().flat_map(|bridge| &bridge.uplinks);
        let vlans = uplinks.filter_map(|uplink| match uplink {
            Uplink::Vlan { parent, .. } => Some((uplink.name().clone(), parent.clone())),
            Uplink::Link(_) => None,
        });
        vlans.collect()
    }

    /// Lists the VLAN links on links that are ours, too.
    pub(super) fn own_vlans(&self) -> BTreeMap<LinkName, LinkName> {
        let bridges = &self.config.bridges;
        let is_ours =
            |link: &LinkName| bridges.contains_key(link) || bridges.values().any(|b| b.uplinks.iter().any(|uplink| uplink.name() == link));
        self.vlans().into_iter().filter(|(_, parent)| is_ours(parent)).collect()
    }

    /// Lists the VLAN links that networkd makes: those whose parent is ours, or has them in its `.network` file.
    pub(super) fn vlans_to_come(&mut self) -> BTreeSet<LinkName> {
        let mut to_come: BTreeSet<LinkName> = self.own_vlans().into_keys().collect();
        for (name, parent) in self.vlans() {
            let file = self.bus().ok().and_then(|bus| host::network_file(bus, &parent));
            let text = || file.and_then(|file| fs::read_text(&file).ok().flatten()).unwrap_or_default();
            if !to_come.contains(&name) && text().lines().any(|line| line.trim() == format!("VLAN={name}")) {
                to_come.insert(name);
            }
        }
        to_come
    }

    /// Says what is missing for a VLAN link whose parent somebody else configures: networkd makes it for the parent's own file.
    pub(super) fn how_to_stack(&mut self, name: &LinkName) -> String {
        let Some((_, parent)) = self.vlans().into_iter().find(|(vlan, _)| vlan == name) else { return String::new() };
        if self.vlans_to_come().contains(name) {
            return format!("\n  hint: `networkctl reconfigure {parent}` makes systemd-networkd make it again");
        }
        let file = self.bus().ok().and_then(|bus| host::network_file(bus, &parent));
        let file = file.map_or_else(|| format!("a .network file for '{parent}'"), |file| file.display().to_string());
        format!("\n  hint: put `VLAN={name}` into [Network] of {file}, then `networkctl reload`")
    }

    /// Says what was applied and does not show, with networkd's own view where it is networkd's to do.
    pub(super) fn unverified(&mut self, change: &Change, situation: &Situation) -> String {
        let text = format!("not verified: {change}");
        match change {
            Change::HostLink { name, before, after: Some(after) } => {
                if before.is_none() && !after.is_bridge {
                    return format!("{text}: there is no link '{name}' on this host{}", self.how_to_stack(name));
                }
                let kind = if after.is_bridge { "bridge" } else { "uplink" };
                let file = networkd_path(kind, name, "network");
                let why = self.bus().ok().and_then(|bus| host::explain_link(bus, name, &file));
                why.map_or(text.clone(), |why| format!("{text}: {why}"))
            }
            Change::Unit { name, .. } => {
                let path = situation.loaded.get(name).map(|unit| unit.network_namespace_path.as_str()).unwrap_or_default();
                format!("{text}: its effective NetworkNamespacePath= is '{path}'; `systemctl cat {name}` shows which file comes last")
            }
            _ => text,
        }
    }
}
