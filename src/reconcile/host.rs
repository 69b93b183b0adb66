//! What is on the host: the configuration's files, our own, units, bridges, running namespaces -> [`State`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;

use super::netns::{self, Sight};
use crate::{
    config::{self, Config, SourceFile, load},
    desired::{self, NETNS_ETC, NETWORKD, NSSWITCH_CONF, RESOLV_CONF, SYSTEMD},
    error::Refused,
    lease,
    model::{File, HostLink, LinkName, Maker, NetnsName, Place, Route, State, Unit, UnitName, Wireguard, joined},
    sys::{
        bus::{Bus, LoadedUnit},
        fs::{self, Found, Root},
        key::{self, Stored},
        manifest::{Manifest, judge},
        netlink::{self, Socket},
        netns::Named,
    },
};

/// Reads and checks the configuration of a host.
///
/// # Errors
///
/// [`config::Faults`] for what is wrong in the files, and the kernel's words for a file that cannot be read.
pub fn read_config(root: &Root) -> Result<Config> {
    let mut config = read_files(&config_files(root)?)?;
    // faults name the file where it is; what is written names it where it will be when the image runs
    let netns = config.namespaces.values_mut().map(|namespace| &mut namespace.netns);
    let of_netns = netns.flat_map(|netns| std::iter::once(&mut netns.source).chain(netns.places.values_mut()));
    let sources = of_netns.chain(config.bridges.values_mut().map(|bridge| &mut bridge.source));
    for source in sources {
        *source = root.inside(source);
    }
    Ok(config)
}

/// Lists the files of the configuration, in the order in which they count.
pub fn config_files(root: &Root) -> Result<Vec<PathBuf>> {
    let mut candidates = Vec::new();
    for directory in load::SEARCH_PATH {
        for entry in fs::list(&root.at(directory))? {
            let masked = entry.target.as_deref() == Some(Path::new("/dev/null"));
            candidates.push(load::Candidate { path: entry.path, masked });
        }
    }
    Ok(load::select(candidates).iter().map(|path| root.target(root.inside(&path.to_string_lossy()))).collect())
}

/// Reads and checks some files as if they were the whole configuration.
pub fn read_files(paths: &[PathBuf]) -> Result<Config> {
    let files: Result<Vec<SourceFile>> = paths.iter().map(|path| source_file(path)).collect();
    Ok(config::parse(&files?)?)
}

/// Reads one file for the configuration.
pub fn source_file(path: &Path) -> Result<SourceFile> {
    let bytes = fs::read_bytes(path)?.with_context(|| format!("failed to read {}: no such file", path.display()))?;
    Ok(SourceFile { path: path.display().to_string(), bytes })
}

/// Reads what stands where the manifest has files, in its order, while something else is done; nothing where there are few.
pub fn read_meanwhile<T>(root: &Root, manifest: &Manifest, other: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Found>)> {
    /// Below that, a second thread takes longer to start than it saves.
    const MANY: usize = 500;
    if manifest.files.len() < MANY {
        return Ok((other()?, Vec::new()));
    }
    thread::scope(|scope| {
        let reader = scope.spawn(|| manifest.files.keys().map(|path| fs::read_plain(&root.at(path))).collect());
        let done = other()?;
        Ok((done, reader.join().unwrap_or_else(|_| Err(anyhow!("the thread that reads files panicked")))?))
    })
}

/// Observes the files that are desired and those that are ours, of which some may have been read.
pub fn files(root: &Root, desired: &State, manifest: &Manifest, read: Vec<Found>) -> Result<BTreeMap<PathBuf, File>> {
    let mut read = read.into_iter();
    let look = |(path, wanted, listed): (&PathBuf, _, Option<_>)| {
        let found = listed.and_then(|_| read.next()).map_or_else(|| fs::read_plain(&root.at(path)), Ok)?;
        Ok(judge(found, listed, wanted).map(|file| (path.clone(), file)))
    };
    joined(&desired.files, &manifest.files).map(look).filter_map(Result::transpose).collect()
}

/// Lists the bridges that we made and the uplinks that we made ports, which are gone from the configuration.
#[must_use]
pub fn former_links(manifest: &Manifest, desired: &State) -> Vec<LinkName> {
    let name = |path: &PathBuf| {
        let file = path.to_str()?.strip_prefix(NETWORKD)?.strip_prefix("/10-netns-networkd-")?;
        let of = |kind, suffix| file.strip_prefix(kind).and_then(|name| name.strip_suffix(suffix));
        of("bridge-", ".netdev").or(of("uplink-", ".network")).and_then(|name| LinkName::parse(name).ok())
    };
    let links = manifest.files.keys().filter_map(|path| Some((path, name(path)?)));
    let gone = links.filter(|(path, name)| !desired.files.contains_key(*path) && !desired.links.contains_key(name));
    gone.map(|(_, name)| name).collect()
}

/// Lists the files of ours that make links ports of a bridge.
pub fn uplink_files(root: &Root, manifest: &Manifest, bridge: &LinkName) -> Result<Vec<PathBuf>> {
    let prefix = format!("{NETWORKD}/10-netns-networkd-uplink-");
    let line = format!("Bridge={bridge}");
    let mut files = Vec::new();
    for path in manifest.files.keys().filter(|path| path.to_str().is_some_and(|p| p.starts_with(&prefix))) {
        if fs::read_text(&root.at(path))?.is_some_and(|text| text.lines().any(|l| l == line)) {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Lists the units that we wrote drop-ins for and that the configuration names no more.
#[must_use]
pub fn former_units(manifest: &Manifest, desired: &State) -> Vec<UnitName> {
    let name = |path: &PathBuf| {
        let name = path.to_str()?.strip_prefix(SYSTEMD)?.strip_prefix('/')?.strip_suffix(".d/50-netns-networkd.conf")?;
        UnitName::parse(name).ok()
    };
    manifest.files.keys().filter_map(name).filter(|name| !desired.units.contains_key(name)).collect()
}

/// Gives the name of a link where it was found by an alternative one.
pub fn own_name(link: &LinkName) -> Result<Option<String>> {
    let found = netlink::link_by_name(&mut Socket::open()?, link.as_str())?;
    Ok(found.map(|found| found.name).filter(|own| own != link.as_str()))
}

/// Observes links of the host by name, with their addresses; those that are not there are left out.
pub fn links(names: impl IntoIterator<Item = LinkName>) -> Result<BTreeMap<LinkName, HostLink>> {
    let mut links = BTreeMap::new();
    let mut socket = Socket::open()?;
    let mut indexes = BTreeMap::new();
    let mut has_vlans = false;
    for name in names {
        let Some(found) = netlink::link_by_name(&mut socket, name.as_str())? else { continue };
        let master = match found.master {
            Some(index) => netlink::link_by_index(&mut socket, index)?,
            None => None,
        };
        let bridge = master.as_ref().and_then(|m| m.bridge.as_ref()).or(found.bridge.as_ref());
        has_vlans |= bridge.is_some_and(|bridge| bridge.vlan_filtering);
        let link = HostLink {
            is_bridge: found.kind.as_deref() == Some("bridge"),
            up: found.up,
            master: master.and_then(|master| LinkName::parse(&master.name).ok()),
            mac: found.mac,
            mtu: Some(found.mtu),
            addresses: BTreeSet::new(),
            stp: found.bridge.as_ref().map(|bridge| bridge.stp),
            vlan_filtering: found.bridge.as_ref().map(|bridge| bridge.vlan_filtering),
            vlans: None,
        };
        indexes.insert(found.index, name.clone());
        links.insert(name, link);
    }
    if has_vlans {
        for (index, vlans) in netlink::vlans(&mut socket)? {
            if let Some(link) = indexes.get(&index).and_then(|name| links.get_mut(name)) {
                link.vlans = Some(vlans);
            }
        }
    }
    if !links.is_empty() {
        for state in netlink::addresses(&mut socket)? {
            // an IPv6 address stays tentative as long as a bridge has no carrier, so as long as no service runs: that is no fault
            let usable = !state.duplicate;
            if let Some(link) = indexes.get(&state.index).and_then(|name| links.get_mut(name)).filter(|_| usable) {
                link.addresses.insert(state.address.address);
            }
        }
    }
    Ok(links)
}

/// Lists the namespaces of the configuration, each with its description, and of the records. What cannot be read is left out.
#[must_use]
pub fn names() -> BTreeMap<NetnsName, Option<String>> {
    let records = fs::list(Path::new(desired::RECORDS)).unwrap_or_default();
    let mut names: BTreeMap<_, _> = records.iter().filter_map(|entry| desired::record_of(&entry.path)).map(|name| (name, None)).collect();
    let config = read_config(&Root::new("/")).unwrap_or_default();
    names.extend(config.namespaces.into_iter().map(|(name, namespace)| (name, namespace.description)));
    names
}

/// Lists the namespaces that `up` has made and that are there.
pub fn running_netns() -> Result<Vec<NetnsName>> {
    let mut names = Vec::new();
    for entry in fs::list(Path::new("/run/netns-networkd/netns"))? {
        let stem = entry.path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
        names.extend(stem.filter(|n| !n.starts_with('.')).and_then(|n| NetnsName::parse(n).ok()));
    }
    Ok(names)
}

/// Lists the namespaces that a `sync` holds until services have been restarted.
pub fn held_netns() -> Result<BTreeSet<NetnsName>> {
    let entries = fs::list(Path::new(HELD))?;
    Ok(entries.iter().filter_map(|e| NetnsName::parse(e.path.file_name()?.to_str()?).ok()).collect())
}

/// Markers of the holds that `sync` has begun; those that an admin began with `systemctl start netns-hold@NAME` have none.
pub const HELD: &str = "/run/netns-networkd/held";

/// Observes units: the namespace that they are bound to by all three settings, where their processes are, and which files of
/// their namespace these see, of those that are desired.
#[must_use]
pub fn units(
    loaded: &HashMap<UnitName, LoadedUnit>,
    files: &BTreeMap<PathBuf, File>,
    desired: &State,
    named: &Named,
) -> BTreeMap<UnitName, Unit> {
    let unit = |(name, loaded): (&UnitName, &LoadedUnit)| {
        let bound_to = bound_to(loaded);
        let runs_in = loaded.running.then(|| place(name, loaded, bound_to.as_ref(), named));
        let settings = name.template().into_iter().chain([name.clone()]).map(|unit| desired::drop_in_path(&unit));
        let changed = |path: &Path| fs::replaced(path).is_some_and(|when| when > loaded.active_since);
        let will_change = |path: &Path| files.get(path).map(|f| &f.content) != desired.files.get(path).map(|f| &f.content);
        let etc = match (&runs_in, desired.units.get(name)) {
            (Some(Place::Netns(netns)), Some(unit)) => {
                let new_settings = settings.into_iter().any(|path| changed(&path) || will_change(&path));
                seen(loaded, netns, &unit.etc, new_settings, changed)
            }
            _ => BTreeSet::new(),
        };
        (name.clone(), Unit { bound_to, runs_in, etc })
    };
    loaded.iter().map(unit).collect()
}

/// Lists what of `/etc/netns/NAME` a service sees under `/etc`: what is wanted, less what is not so yet, and what is no longer
/// wanted.
///
/// A process keeps the files that were there when it started. A file that has been replaced since, on either side (a bind mount
/// is gone when the file under it is replaced), or come or gone, shows with the next start. Only where something has changed
/// since the start is the process looked at: otherwise it is as its settings say, and a restart would not help.
fn seen(
    loaded: &LoadedUnit,
    netns: &NetnsName,
    wanted: &BTreeSet<String>,
    new_settings: bool,
    changed: impl Fn(&Path) -> bool,
) -> BTreeSet<String> {
    let mut seen = wanted.clone();
    let Some(pid) = loaded.main_pid.filter(|pid| fs::has_root_of_its_own(*pid) == Some(false)) else { return seen };
    for file in wanted {
        let (source, target) = (desired::etc_path(netns, file), Path::new("/etc").join(file));
        if (new_settings || changed(&source) || changed(&target)) && fs::sees(pid, &target, &source) == Some(false) {
            seen.remove(file);
        }
    }
    if new_settings {
        seen.extend(fs::mounted_from(pid, &format!("/netns/{netns}/")).into_iter().filter(|file| !wanted.contains(file)));
    }
    seen
}

fn bound_to(loaded: &LoadedUnit) -> Option<NetnsName> {
    let name = loaded.network_namespace_path.strip_prefix("/run/netns/").and_then(|n| NetnsName::parse(n).ok())?;
    let unit = format!("netns@{name}.service");
    (loaded.binds_to.contains(&unit) && loaded.after.contains(&unit)).then_some(name)
}

fn place(name: &UnitName, loaded: &LoadedUnit, bound_to: Option<&NetnsName>, named: &Named) -> Place {
    let processes = || fs::control_group_processes(&loaded.control_group);
    let mut started = loaded.main_pid.into_iter().chain(processes()).filter(|pid| !fs::is_starting(*pid));
    if let Some(place) = started.find_map(|pid| named.place_of(pid)) {
        return place;
    }
    // a socket, or a service that has done its work, or has just been forked: nothing of it can be looked at, so its start is
    // compared to its settings
    if let Some(place) = noted_place(name, loaded) {
        return place;
    }
    let changed = fs::modified(&desired::drop_in_path(name));
    match bound_to {
        Some(netns) if changed.is_none_or(|changed| changed <= loaded.active_since) => Place::Netns(netns.clone()),
        Some(_) => Place::Other,
        None => Place::Host,
    }
}

/// Notes of where units were when their settings changed: a file for each, with the name of the namespace.
pub const PLACES: &str = "/run/netns-networkd/places";

/// Writes down where a unit without processes is, before its settings no longer tell.
pub fn note_place(name: &UnitName, place: &Place) -> Result<()> {
    let text = match place {
        Place::Netns(netns) => netns.as_str(),
        Place::Host => "",
        Place::Other => return Ok(()),
    };
    fs::write_volatile(&Path::new(PLACES).join(name.as_str()), text)
}

/// Gives the place that was noted of a unit, if it has not been restarted since.
fn noted_place(name: &UnitName, loaded: &LoadedUnit) -> Option<Place> {
    let note = Path::new(PLACES).join(name.as_str());
    fs::modified(&note).filter(|when| *when > loaded.active_since)?;
    let text = fs::read_text(&note).ok()??;
    if text.is_empty() { Some(Place::Host) } else { NetnsName::parse(&text).ok().map(Place::Netns) }
}

/// Removes the notes of all units but these.
pub fn forget_places(keep: &[&UnitName]) -> Result<()> {
    for note in fs::list(Path::new(PLACES))? {
        if !keep.iter().any(|unit| note.path.ends_with(unit.as_str())) {
            fs::remove(&note.path)?;
        }
    }
    Ok(())
}

/// Observes the namespaces that run, against what is desired in them; `desired` is filled in from the host.
pub fn netns(desired: &mut State, running: &[NetnsName]) -> Result<State> {
    let mut observed = State::default();
    let mut gone = BTreeSet::new();
    desired.netns.retain(|name, _| running.contains(name));
    for (name, wanted) in &mut desired.netns {
        match netns::observe(name, wanted).with_context(|| format!("failed to look into netns '{name}'"))? {
            Sight::Netns(netns) => drop(observed.netns.insert(name.clone(), *netns)),
            Sight::Lost => {}
            Sight::Gone => drop(gone.insert(name.clone())),
        }
    }
    desired.netns.retain(|name, _| !gone.contains(name));
    Ok(observed)
}

/// Reads the facts that the desired state depends on, and says what an admin has put under `/etc/netns` in vain.
pub fn facts(root: &Root, manifest: &Manifest, config: &Config) -> Result<(desired::Facts, Vec<String>)> {
    let mut facts = desired::Facts { nsswitch: fs::read_text(&root.target("/etc/nsswitch.conf"))?, ..desired::Facts::default() };
    let links = config.namespaces.values().flat_map(|namespace| namespace.netns.links.values());
    let credentials = links.filter_map(|link| link.kind.wireguard()).flat_map(Wireguard::credentials);
    facts.encrypted = credentials.filter(|name| key::stored(root, name) == Stored::Encrypted).cloned().collect();
    let mut left_out = Vec::new();
    let has_etc = fs::exists(&root.at(NETNS_ETC));
    for (netns, namespace) in &config.namespaces {
        if let Some(path) = &namespace.nftables {
            let text = fs::read_text(&root.target(path))?;
            let missing = || Refused(vec![format!("{}: there is no nftables ruleset {path}", namespace.netns.source)]);
            let text = text.ok_or_else(missing)?;
            facts.rulesets.insert(netns.clone(), text);
        }
        let own = facts.etc.entry(netns.clone()).or_default();
        for entry in if has_etc { fs::list(&root.at(desired::etc_path(netns, "")))? } else { Vec::new() } {
            let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // files with a dot are those of editors, and of ours that wait
            if name.starts_with('.') || manifest.files.contains_key(&desired::etc_path(netns, &name)) {
                continue;
            }
            if name == RESOLV_CONF && fs::read_text(&entry.path)?.is_some_and(|text| lease::is_from_leases(&text)) {
                continue;
            }
            match cannot_be_bound(root, &name, &entry) {
                None => own.extend([name]),
                Some(why) => left_out.push(format!("{NETNS_ETC}/{netns}/{} is not seen by its services: {why}", name.escape_debug())),
            }
        }
    }
    Ok((facts, left_out))
}

/// Says why an entry of `/etc/netns/NAME` cannot be bound over one of `/etc`, by the rules of `ip netns exec`: there must be one.
fn cannot_be_bound(root: &Root, name: &str, entry: &fs::Entry) -> Option<String> {
    // what needs no quotes in systemd.exec(5)'s `BindReadOnlyPaths=`
    if name.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | '+' | '@')) {
        return Some("names there have only letters, digits, '.', '_', '-', '+' and '@'".to_owned());
    }
    let target = Path::new("/etc").join(name);
    let Some(is_directory) = fs::is_directory(&entry.path) else { return Some("it is a link to nothing".to_owned()) };
    match fs::is_directory(&root.at(&target)) {
        Some(other) if other == is_directory => None,
        Some(true) => Some(format!("{} is a folder, and this is none", target.display())),
        Some(false) => Some(format!("{} is no folder, and this is one", target.display())),
        // systemd would make an empty one, which the whole host would see
        None if [RESOLV_CONF, NSSWITCH_CONF].contains(&name) => None,
        None => Some(format!("there is no {} that it could be seen in place of", target.display())),
    }
}

fn describe(bus: &Bus, name: &LinkName) -> Option<serde_json::Value> {
    // a question would start it
    bus.networkd_runs().ok().filter(|runs| *runs)?;
    serde_json::from_str(&bus.describe_link(name.as_str()).ok()?).ok()
}

/// Gives the `.network` file that networkd takes for a link; none if there is none, or networkd cannot tell.
#[must_use]
pub fn network_file(bus: &Bus, name: &LinkName) -> Option<PathBuf> {
    describe(bus, name)?.get("NetworkFile")?.as_str().map(PathBuf::from)
}

/// Reads the drop-ins of a `.network` file (systemd.network(5)), which networkd 252 does not name.
pub fn drop_ins(root: &Root, file: &Path) -> Result<Vec<String>> {
    let folder = format!("{}.d", file.file_name().unwrap_or_default().to_string_lossy());
    let mut texts = Vec::new();
    for directory in ["/usr/lib/systemd/network", "/run/systemd/network", NETWORKD] {
        for entry in fs::list(&root.at(Path::new(directory).join(&folder)))? {
            if entry.path.extension().is_some_and(|suffix| suffix == "conf") {
                texts.extend(fs::read_text(&entry.path)?);
            }
        }
    }
    Ok(texts)
}

/// How a link of the host is reached and reaches others, as the kernel has it now.
#[derive(Debug, Default)]
pub struct Addressing {
    pub addresses: BTreeSet<IpNet>,
    /// By DHCP or router advertisements.
    pub learned: BTreeSet<IpNet>,
    /// That somebody configured.
    pub routes: Vec<Route>,
}

/// Observes how a link of the host is reached; link-local addresses are every link's own.
pub fn addressing(link: &LinkName) -> Result<Addressing> {
    let mut socket = Socket::open()?;
    let mut addressing = Addressing::default();
    let Some(found) = netlink::link_by_name(&mut socket, link.as_str())? else { return Ok(addressing) };
    let is_link_local = |net: &IpNet| match net {
        IpNet::V4(net) => net.addr().is_link_local(),
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    };
    for state in netlink::addresses(&mut socket)?.into_iter().filter(|state| state.index == found.index && !state.duplicate) {
        let net = state.address.address;
        if !is_link_local(&net) {
            let of_origin =
                if state.for_a_time && state.maker != Maker::Ours { &mut addressing.learned } else { &mut addressing.addresses };
            of_origin.insert(net);
        }
    }
    let routes = netlink::routes_of(&mut socket, found.index)?.into_iter();
    addressing.routes = routes.filter(|state| state.maker == Maker::Admin).map(|state| state.route).collect();
    Ok(addressing)
}

/// Tells whether networkd is still at work on a link.
pub fn is_configuring(bus: &Bus, name: &LinkName) -> bool {
    let state = describe(bus, name).and_then(|json| Some(json.get("AdministrativeState")?.as_str()?.to_owned()));
    state.is_some_and(|state| ["pending", "initialized", "configuring"].contains(&state.as_str()))
}

/// Says why networkd does not do with a link what its file asks for, in networkd's own terms; nothing if it cannot tell.
#[must_use]
pub fn explain_link(bus: &Bus, name: &LinkName, file: &Path) -> Option<String> {
    let json = describe(bus, name)?;
    let state = json.get("AdministrativeState")?.as_str()?;
    Some(match json.get("NetworkFile").and_then(|f| f.as_str()) {
        Some(used) if Path::new(used) != file => {
            format!(
                "networkd takes {used} for link '{name}', not {}: rename that file so that it sorts later, or narrow its [Match]",
                file.display()
            )
        }
        Some(used) => format!("networkd has link '{name}' as '{state}' with {used}: `networkctl status {name}` shows its log"),
        None => format!("networkd has link '{name}' as '{state}', with no .network file"),
    })
}
