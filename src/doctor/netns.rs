//! Namespaces: where they are mounted, who sees that, and what is left of them.

use super::{Entry, Facts, Finding, Left, Namespace, Unit, UnitFile, settings};
use crate::model::NetnsName;

const FOLDER: &str = "/run/netns";

fn unit_of(netns: &NetnsName) -> String {
    format!("netns@{netns}.service")
}

fn is_up(facts: &Facts, netns: &NetnsName) -> Option<bool> {
    let unit = facts.units.get(&unit_of(netns))?;
    Some(["active", "activating", "reloading", "deactivating"].contains(&unit.active_state.as_str()))
}

/// A namespace that is mounted where others do not see it.
pub(super) fn private_directory(facts: &Facts) -> Vec<Finding> {
    let is_private = facts.run_netns.shared == Some(false);
    let finding = || {
        Finding::fault(
            format!("{FOLDER} is mounted, and not shared"),
            "a namespace that comes is seen only where it was made: services that systemd starts in a mount namespace of their own fail \
             with 225/NETWORK",
            format!("`mount --make-rshared {FOLDER}`; who mounted it should use `mount --make-shared`, as `ip netns add` does"),
        )
    };
    is_private.then(finding).into_iter().collect()
}

/// Settings that give a service a mount namespace (systemd.exec(5), "Sandboxing"), and the values that do not. With a list, an empty
/// value takes back what was before.
const PRIVATE: [(&str, &[&str]); 27] = [
    ("PrivateMounts", NO),
    ("PrivateTmp", NO),
    ("PrivateDevices", NO),
    ("PrivateNetwork", NO),
    ("PrivateIPC", NO),
    ("ProtectSystem", NO),
    ("ProtectHome", NO),
    ("ProtectKernelTunables", NO),
    ("ProtectKernelModules", NO),
    ("ProtectKernelLogs", NO),
    ("ProtectControlGroups", NO),
    ("ProtectProc", &["", "default"]),
    ("ProcSubset", &["", "all"]),
    ("DynamicUser", NO),
    ("MountAPIVFS", NO),
    ("RootDirectory", &["", "/"]),
    ("RootImage", &[""]),
    ("MountFlags", &["", "shared"]),
    ("NetworkNamespacePath", &[""]),
    ("LogNamespace", &[""]),
    ("TemporaryFileSystem", &[""]),
    ("BindPaths", &[""]),
    ("BindReadOnlyPaths", &[""]),
    ("ReadWritePaths", &[""]),
    ("ReadOnlyPaths", &[""]),
    ("InaccessiblePaths", &[""]),
    ("ExecPaths", &[""]),
];
const NO: &[&str] = &["", "no", "false", "off", "0", "n", "f"];

/// The last line of a unit's files that gives a setting a value; nothing if that takes it back.
fn in_force<'a>(unit: &'a Unit, key: &str, off: &[&str]) -> Option<(&'a UnitFile, settings::Setting<'a>)> {
    let lines = unit.files.iter().flat_map(|file| settings::settings(&file.text).map(move |setting| (file, setting)));
    lines
        .filter(|(_, setting)| setting.section == "Service" && setting.key == key)
        .last()
        .filter(|(_, setting)| !off.contains(&setting.value))
}

/// What hides the mounts of `netns@…` from everybody else.
pub(super) fn hidden(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, unit) in &facts.units {
        let Some(netns) = name.strip_prefix("netns@").and_then(|rest| rest.strip_suffix(".service")) else { continue };
        for (key, off) in PRIVATE {
            let Some((file, setting)) = in_force(unit, key, off) else { continue };
            let place = format!("{}:{}: {}={}", file.path, setting.line, key, setting.value);
            match found.iter_mut().find(|(known, _)| *known == place) {
                Some((_, all)) => all.push(netns),
                None => found.push((place, vec![netns])),
            }
        }
    }
    let finding = |(place, netns): (String, Vec<&str>)| {
        let setting = place.rsplit_once(": ").map_or(place.as_str(), |(_, setting)| setting);
        let key = setting.split('=').next().unwrap_or_default();
        Finding::fault(
            format!("{place} gives netns@{}.service a mount namespace of its own", if let [one] = netns[..] { one } else { "" }),
            "it would mount the namespace where nobody else sees it: none comes up, and one that is there cannot be taken away",
            format!(
                "take `{setting}` out, or set `{key}=` to nothing or `no` for netns@ alone, in \
                 /etc/systemd/system/netns@.service.d/50-local.conf; then `systemctl daemon-reload` and restart the services"
            ),
        )
    };
    found.into_iter().map(finding).collect()
}

fn is_lost(facts: &Facts, name: &NetnsName, netns: &Namespace) -> bool {
    let is_active = facts.units.get(&unit_of(name)).is_some_and(|unit| ["active", "reloading"].contains(&unit.active_state.as_str()));
    is_active && !netns.there && !netns.busy
}

/// What systemd has as up and is not there.
pub(super) fn lost(facts: &Facts) -> Vec<Finding> {
    let finding = |(name, _): (&NetnsName, &Namespace)| {
        let stands = facts.run_netns.entries.get(name.as_str()).map_or("nothing is there", |_| "a plain file is there");
        Finding::fault(
            format!("netns@{name}.service is active, and {FOLDER}/{name} is no namespace: {stands}"),
            "services that run keep the namespace that they have, unseen; one that starts now fails with 225/NETWORK",
            "`netns-networkd sync` gives the one that its services are in its name again; if none runs, it makes it anew".to_owned(),
        )
        .of(name)
    };
    facts.namespaces.iter().filter(|(name, netns)| is_lost(facts, name, netns)).map(finding).collect()
}

/// Names of the configuration that somebody else has taken.
pub(super) fn foreign(facts: &Facts) -> Vec<Finding> {
    let taken = facts.namespaces.iter().filter(|(_, netns)| netns.configured && netns.there && !netns.ours && !netns.busy);
    let finding = |(name, _): (&NetnsName, &Namespace)| {
        Finding::fault(
            format!("{FOLDER}/{name} is a namespace that netns-networkd has not made"),
            format!("netns@{name}.service leaves it alone and fails, and so do its services"),
            format!("if nothing needs it (`ip netns pids {name}`), `ip netns delete {name}`; else call one of the two something else"),
        )
        .of(name)
    };
    taken.map(finding).collect()
}

/// Plain files in the folder, left when a namespace went another way than by `ip netns delete`.
pub(super) fn stale(facts: &Facts) -> Vec<Finding> {
    // said by `lost`, or on its way
    let is_known = |name: &str| {
        let is_busy = |name: &NetnsName| facts.namespaces.get(name).is_some_and(|netns| netns.busy);
        NetnsName::parse(name).is_ok_and(|name| is_up(facts, &name) == Some(true) || is_busy(&name))
    };
    let stale = facts.run_netns.entries.iter().filter(|(name, entry)| !entry.is_netns && !is_known(name));
    let finding = |(name, _): (&String, &Entry)| {
        Finding::risk(
            format!("{FOLDER}/{name} is a plain file, not a namespace"),
            "who takes it for one fails: `ip netns exec` with \"Invalid argument\", a service with 225/NETWORK",
            format!("`rm {FOLDER}/{name}`"),
        )
    };
    stale.map(finding).collect()
}

/// Namespaces that nobody takes down.
pub(super) fn leaked(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, _) in facts.namespaces.iter().filter(|(_, netns)| netns.there && netns.ours && !netns.busy) {
        if is_up(facts, name) == Some(false) {
            findings.push(
                Finding::risk(
                    format!("netns '{name}' is up, and netns@{name}.service, which would take it down, is not"),
                    "it stays, with its addresses, until the next boot: somebody ran `netns-networkd up`, or systemd lost count of it",
                    format!("`netns-networkd down {name}`, unless something uses it (`ip netns pids {name}`)"),
                )
                .of(name),
            );
        }
    }
    let is_known = |name: &str| NetnsName::parse(name).is_ok_and(|name| facts.namespaces.contains_key(&name));
    for (name, _) in facts.run_netns.entries.iter().filter(|(name, e)| e.is_netns && e.is_empty == Some(true) && !is_known(name)) {
        findings.push(Finding::risk(
            format!("{FOLDER}/{name} is a namespace that nobody uses: no process and no link but lo is in it"),
            "it was left by somebody, and is in the way of whoever wants the name",
            format!("`ip netns delete {name}`"),
        ));
    }
    findings
}

/// Processes that hold a namespace which has no name any more.
pub(super) fn left_processes(facts: &Facts) -> Vec<Finding> {
    let finding = |Left { pid, command, unit, netns }: &Left| {
        let of = unit.as_ref().map(|unit| format!(" of {unit}")).unwrap_or_default();
        let which = netns.as_ref().map_or_else(|| "a namespace of ours".to_owned(), |netns| format!("netns '{netns}' as it was once"));
        let service = unit.as_ref().filter(|unit| unit.ends_with(".service"));
        let finding = Finding::fault(
            format!("process {pid} ({command}){of} is in {which}, which has gone from {FOLDER}"),
            "nobody sees or changes that namespace any more, and it keeps its addresses: the process answers on them, or on none, and may \
             be in the way of the new namespace",
            service.map_or_else(|| format!("`kill {pid}`"), |unit| format!("`systemctl restart {unit}`")),
        );
        match netns {
            Some(netns) => finding.of(netns),
            None => finding,
        }
    };
    // of a namespace that was lost, `lost` speaks
    let is_lost =
        |left: &&Left| left.netns.as_ref().is_some_and(|name| facts.namespaces.get(name).is_some_and(|netns| is_lost(facts, name, netns)));
    facts.left.iter().filter(|left| !is_lost(left)).map(finding).collect()
}

/// The kernel's limit on network namespaces.
pub(super) fn limit(facts: &Facts) -> Vec<Finding> {
    const KEY: &str = "user.max_net_namespaces";
    let needed = facts.namespaces.values().filter(|netns| netns.configured).count();
    let limit = facts.parameters.get(KEY).and_then(|value| value.parse::<usize>().ok()).filter(|limit| *limit <= needed && needed > 0);
    let finding = |limit: usize| {
        Finding::fault(
            format!("{KEY} is {limit}, and the configuration has {needed} namespaces"),
            "the kernel makes no more than that, and says \"No space left on device\"",
            format!("`sysctl -w {KEY}={}`, and the same in a file in /etc/sysctl.d", (needed * 4).max(1024)),
        )
    };
    limit.map(finding).into_iter().collect()
}
