//! What to do on the host, in order: nothing of it costs the host its own network.

use std::collections::BTreeSet;

use super::{
    Files, Origin,
    host::{INTERFACES, NAMESPACES},
    interfaces::Interfaces,
    units::{Bound, FOLDERS},
    world::{Kind, World},
    write::Written,
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    /// Commands of a shell.
    pub commands: Vec<String>,
}

/// Files of the configuration, below its folder.
pub const CONFIG: &str = "/etc/netns-networkd";

/// Lists what to do. `folder` is where the configuration was written.
pub fn steps(world: &World, interfaces: &Interfaces, units: &[Bound], written: &Written, files: &Files, folder: &str) -> Vec<Step> {
    let folder = &quote(folder);
    let mut steps = Vec::new();
    if written.names.is_empty() {
        return steps;
    }
    let mut step = |text: &str, commands: Vec<String>| steps.push(Step { text: text.to_owned(), commands });
    let services: Vec<String> = units.iter().map(|unit| quote(&unit.name)).collect();
    let netns: Vec<String> = written.names.iter().map(|name| quote(&format!("netns@{name}.service"))).collect();
    if folder != CONFIG {
        step("Put the configuration in its place.", vec![format!("install -Dm644 -t {CONFIG} {folder}/imported.toml")]);
    }
    step("Look at the file, and check it. Nothing has changed on the host yet.", vec!["netns-networkd check".to_owned()]);
    step(
        "Keep what the namespaces are like now, to compare it later. Their services run.",
        vec![format!("sh {folder}/imported/state.sh >{folder}/imported/before")],
    );
    step(
        "Let systemd-networkd run beside ifupdown: it leaves alone every link that it has no file for. As long as it has none of the host's own network, nobody has to wait for it at boot.",
        vec![
            "systemctl enable --now systemd-networkd.service".to_owned(),
            "systemctl disable systemd-networkd-wait-online.service".to_owned(),
        ],
    );
    if !world.keys.is_empty() {
        step("Put the keys into files of their own.", world.keys.clone());
    }
    let drop_ins: Vec<String> = units
        .iter()
        .filter(|unit| !unit.plain.is_empty())
        .map(|unit| {
            let name = quote(&unit.name);
            format!("install -Dm644 {folder}/imported/{name}.conf /etc/systemd/system/{name}.d/zz-imported.conf")
        })
        .collect();
    if !drop_ins.is_empty() {
        step("Take `ip netns exec` out of the units. This counts from the next start.", drop_ins);
    }
    let pin = |bridge: &String| format!("ip link set dev {0} address \"$(cat /sys/class/net/{0}/address)\"", quote(bridge));
    let pins: Vec<String> = bridges(world, written).iter().map(pin).collect();
    if !pins.is_empty() {
        step("Keep the MAC addresses of the bridges: they would change with their ports, and neighbours lose the host for a while.", pins);
    }
    step("Stop the services, and the namespaces as they were.", {
        let makers: Vec<String> = world.netns.values().flat_map(|netns| &netns.makers).map(|unit| quote(unit)).collect();
        let mut commands = vec![format!("systemctl stop {}", [services.clone(), makers.clone(), netns].concat().join(" "))];
        // none of them starts again at the next boot
        commands.extend((!makers.is_empty()).then(|| format!("systemctl disable {}", makers.join(" "))));
        commands
    });
    let (moves, mut commands) = old(world, interfaces, files);
    // with their folders: files of one name may be in several
    let folders: BTreeSet<&str> = moves.iter().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
    commands.extend(folders.iter().map(|old| format!("mkdir -p {folder}/imported/old{}", quote(old))));
    commands.extend(moves.iter().map(|path| format!("mv {0} {folder}/imported/old{0}", quote(path))));
    if !commands.is_empty() {
        step("Put the old set-up away. The bridges stay ifupdown's, and up.", commands);
    }
    step("Make the host as the new file says.", vec!["systemctl daemon-reload".to_owned(), "netns-networkd sync".to_owned()]);
    if !services.is_empty() {
        step("Start the services: the namespaces come with them.", vec![format!("systemctl start {}", services.join(" "))]);
    }
    step(
        "Compare: no output means that links, addresses, routes and ports are as they were.",
        vec![format!("sh {folder}/imported/state.sh | diff {folder}/imported/before -"), "netns-networkd status".to_owned()],
    );
    if written.bridges.is_some() {
        let (_, edits) = taken(interfaces, |name| written.of_bridges.iter().any(|bridge| bridge == name));
        let mut commands = edits;
        commands.push(format!("install -Dm644 -t {CONFIG} {folder}/imported/bridges.toml"));
        commands.push("systemctl enable systemd-networkd-wait-online.service".to_owned());
        // one line: a connection over the bridge lives through it, a person who types the second half does not
        let gone = written.of_bridges.iter().map(|bridge| format!("ip link delete {}", quote(bridge)));
        commands.push(gone.chain(["netns-networkd sync".to_owned()]).collect::<Vec<_>>().join("; "));
        step(
            "Later, if the bridges are to move, too: with a console at hand, for the host is away for some seconds. Take them out of ifupdown's files, then let networkd make them anew. (Back again: undo the edits, take bridges.toml away, `ifup` the bridges.)",
            commands,
        );
    }
    steps
}

/// Lists the bridges that pairs are on, and those that were written.
fn bridges(world: &World, written: &Written) -> BTreeSet<String> {
    let used = world.links.iter().filter(|link| world.is_host_end(link)).filter_map(|link| Some(link.master.as_ref()?.value.clone()));
    used.chain(written.of_bridges.iter().cloned()).collect()
}

/// Lists what is not needed any more: files to move away, and edits of those that have more in them.
fn old(world: &World, interfaces: &Interfaces, files: &Files) -> (Vec<String>, Vec<String>) {
    let ours = |name: &str| {
        let name = name.split(':').next().unwrap_or(name);
        world.is_taken(name) && !is_host_link(world, name)
    };
    let (mut moves, edits) = taken(interfaces, ours);
    moves.extend(files.paths().filter(|path| path.starts_with(&format!("{NAMESPACES}/"))).map(str::to_owned));
    let unit = format!("{}/netns@.service", FOLDERS[0]);
    moves.extend(files.paths().filter(|path| **path == unit || path.starts_with(&format!("{unit}.d/"))).map(str::to_owned));
    (moves, edits)
}

/// Tells whether the host itself has a link of this name that no namespace takes.
fn is_host_link(world: &World, name: &str) -> bool {
    world.find(None, name).is_some_and(|link| !world.is_host_end(&world.links[link]) && world.links[link].kind != Kind::Found)
}

/// Lists files that have nothing but stanzas that are taken, and edits that comment such stanzas out elsewhere.
fn taken(interfaces: &Interfaces, is_taken: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let files: BTreeSet<&str> = interfaces.stanzas.iter().map(|stanza| &*stanza.from.file).collect();
    let (mut moves, mut edits) = (Vec::new(), Vec::new());
    for file in files {
        let stanzas = || interfaces.stanzas.iter().filter(|stanza| &*stanza.from.file == file);
        if file != INTERFACES && stanzas().all(|stanza| is_taken(&stanza.name)) {
            moves.push(file.to_owned());
            continue;
        }
        for stanza in stanzas().filter(|stanza| is_taken(&stanza.name)) {
            edits.push(comment_out(file, stanza.from.line, stanza.until));
        }
    }
    for (_, name, from) in interfaces.classes.iter().filter(|(_, name, from)| is_taken(name) && !moves.contains(&(*from.file).to_owned())) {
        // others may be in the same line
        let Origin { file, line } = from;
        let edit = format!(r"{line}s/[[:space:]]{}\>//", name.replace(['.', '/', '*', '[', '\\', '&', '^', '$'], "."));
        edits.push(format!("sed -i {} {}", quote_always(&edit), quote(file)));
    }
    // what a line names has all gone
    for (pattern, from) in &interfaces.sources {
        let named: Vec<&str> =
            interfaces.stanzas.iter().map(|stanza| &*stanza.from.file).filter(|file| super::words::matches(pattern, file)).collect();
        if !named.is_empty() && named.iter().all(|file| moves.iter().any(|moved| moved == file)) {
            edits.push(comment_out(&from.file, from.line, from.line));
        }
    }
    (moves, edits)
}

fn comment_out(file: &str, from: usize, to: usize) -> String {
    format!("sed -i '{from},{to}s/^/#/' {}", quote(file))
}

/// Quotes a word for a shell, where that is needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | ':' | '+' | ',');
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { quote_always(word) }
}

fn quote_always(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes the script that prints what the namespaces are like, without what changes by itself.
pub fn state_script(world: &World, written: &Written) -> String {
    let names: Vec<String> = written.names.iter().map(|name| quote(name)).collect();
    let bridges: Vec<String> = bridges(world, written).iter().map(|name| quote(name)).collect();
    format!(
        r#"# Prints links, addresses, routes and ports of the namespaces, without what is another number each time.
for netns in {}; do
    # the last addresses are being checked for duplicates
    for try in 1 2 3 4 5 6 7 8 9 10; do
        ip -n "$netns" -6 addr show tentative | grep -q . || break
        sleep 0.5
    done
    echo "netns $netns"
    {{
        ip -n "$netns" -br link
        ip -n "$netns" -o addr
        ip -n "$netns" route show table all
        ip -n "$netns" -6 route show table all
        ip -n "$netns" rule
        ip -n "$netns" -6 rule
    }} | sed 's/@if[0-9]*//g; s/^[0-9]*: //; s/ proto [^ ]*//; s/ brd [^ ]*//; s/\\.*//; s/  */ /g; s/ *$//'
done
for bridge in {}; do
    echo "bridge $bridge"
    ls "/sys/class/net/$bridge/brif"
done
"#,
        names.join(" "),
        bridges.join(" ")
    )
}
