//! The head of `status`: what is wrong, with what mends it.

use super::paper::{Cell, Paper, Text, Tone, word, words};
use crate::{
    model::NetnsName,
    report::{ConfigurationState, DriftKind, Namespace, NetnsState, OrphanKind, Report, Unit},
};

/// A sign at the beginning of a line, which says the same as its colour.
pub(crate) fn sign(tone: Tone, paper: Paper) -> Cell {
    let (unicode, ascii) = match tone {
        Tone::Bad => ("×", "x"),
        Tone::Warn => ("!", "!"),
        Tone::Good => ("●", "*"),
        _ => ("○", "o"),
    };
    word(tone, if paper.unicode { unicode } else { ascii })
}

pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Says that all is as it should be.
pub(crate) fn as_configured(report: &Report) -> String {
    let states = [NetnsState::Up, NetnsState::ComingUp, NetnsState::GoingDown, NetnsState::Down];
    let n = |state| report.namespaces.iter().filter(|netns| netns.state == state).count();
    let parts = states.map(|state| (n(state), state.as_str())).into_iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, state)| format!("{n} {state}")).collect();
    let all = count(report.namespaces.len(), "namespace", "namespaces");
    format!("as configured: {all}{}{}", if parts.is_empty() { "" } else { ", " }, parts.join(", "))
}

/// The word for what is left over.
pub(crate) fn orphan_kind(kind: OrphanKind) -> &'static str {
    match kind {
        OrphanKind::Namespace => "namespace",
        OrphanKind::Record => "record",
        OrphanKind::Bridge => "bridge",
        OrphanKind::HostEnd => "host end",
        OrphanKind::File => "file",
    }
}

/// Writes what is wrong, the worst first.
pub(super) fn summary(report: &Report, text: &mut Text) {
    let paper = text.paper();
    let mut section = |tone: Tone, title: &str, rows: Vec<Vec<Cell>>| {
        let head: Cell = sign(tone, paper).into_iter().chain(words(Tone::Strong, title)).collect();
        text.paragraph(0, 2, &head);
        text.table(4, &rows);
    };
    let name = |netns: Option<&NetnsName>| word(Tone::Strong, netns.map_or("", NetnsName::as_str));
    let plain = |text: &str| words(Tone::Plain, text);
    if report.ok {
        section(Tone::Good, &as_configured(report), Vec::new());
    }
    let wrong: Vec<&Namespace> = report.namespaces.iter().filter(|netns| netns.state.is_wrong()).collect();
    if !wrong.is_empty() {
        let rows = wrong.iter().map(|netns| vec![name(Some(&netns.name)), plain(&why_wrong(netns))]).collect();
        section(Tone::Bad, &format!("{} wrong:", count(wrong.len(), "namespace is", "namespaces are")), rows);
    }
    let failed = report.namespaces.iter().flat_map(|netns| netns.units.iter().map(move |unit| (netns, unit)));
    let failed: Vec<_> = failed.filter(|(_, unit)| unit.active_state.as_deref() == Some("failed")).collect();
    if !failed.is_empty() {
        let row = |(netns, unit): &(&Namespace, &Unit)| {
            vec![name(Some(&netns.name)), plain(&format!("{0}: `journalctl -b -u {0}` shows why", unit.name))]
        };
        section(Tone::Bad, &format!("{} failed:", count(failed.len(), "unit", "units")), failed.iter().map(row).collect());
    }
    let compared = "what is there is compared with the records of the last sync";
    let error = report.configuration.error.as_deref().unwrap_or_default();
    match report.configuration.state {
        ConfigurationState::Valid => {}
        ConfigurationState::Faulty => section(Tone::Bad, &format!("the configuration has {error}; {compared}"), Vec::new()),
        ConfigurationState::Unreadable => {
            section(Tone::Bad, &format!("the configuration cannot be used; {compared}:"), error.lines().map(|l| vec![plain(l)]).collect());
        }
    }
    if !report.drift.is_empty() {
        let (leases, drift): (Vec<_>, Vec<_>) = report.drift.iter().partition(|drift| drift.kind == DriftKind::Lease);
        let (left, drift): (Vec<_>, Vec<_>) = drift.into_iter().partition(|drift| drift.left_alone);
        let rows = |drifts: &[&crate::report::Drift]| -> Vec<Vec<Cell>> {
            let inside = |netns: &NetnsName| format!(" in netns '{netns}'");
            let row = |drift: &&crate::report::Drift| {
                let change = drift.netns.as_ref().and_then(|netns| drift.change.strip_suffix(&inside(netns))).unwrap_or(&drift.change);
                vec![name(drift.netns.as_ref()), plain(change)]
            };
            drifts.iter().map(row).collect()
        };
        if !drift.is_empty() {
            let by_records = report.configuration.state != ConfigurationState::Valid;
            let says = if by_records { " from the records; to mend them:" } else { "; `netns-networkd sync` would:" };
            let title = format!("{}{says}", count(drift.len(), "difference", "differences"));
            section(Tone::Warn, &title, rows(&drift));
        }
        if !leases.is_empty() {
            let title = format!("{} by DHCP missing:", count(leases.len(), "address", "addresses"));
            section(Tone::Warn, &title, rows(&leases));
        }
        if !left.is_empty() {
            let title = format!("{} by somebody else:", count(left.len(), "file was changed or made", "files were changed or made"));
            section(Tone::Warn, &title, rows(&left));
        }
    }
    let pending: Vec<_> = report.pending.iter().filter(|waiting| !is_orphan(report, waiting.netns.as_ref())).collect();
    if !pending.is_empty() {
        let rows = pending.iter().map(|waiting| vec![name(waiting.netns.as_ref()), plain(&waiting.text)]).collect();
        section(Tone::Warn, &format!("{} pending:", count(pending.len(), "restart is", "restarts are")), rows);
    }
    if !report.orphans.is_empty() {
        let rows = report
            .orphans
            .iter()
            .map(|orphan| vec![plain(orphan_kind(orphan.kind)), word(Tone::Strong, &orphan.name), plain(&orphan.remedy)]);
        let title = format!("{} left over:", count(report.orphans.len(), "thing is", "things are"));
        section(Tone::Warn, &title, rows.collect());
    }
    let paragraphs = |list: &[String]| list.iter().map(|text| vec![plain(&text.replace('\n', " "))]).collect();
    if !report.warnings.is_empty() {
        section(Tone::Warn, &format!("{}:", count(report.warnings.len(), "warning", "warnings")), paragraphs(&report.warnings));
    }
    if !report.not_seen.is_empty() {
        section(Tone::Faint, "not seen:", paragraphs(&report.not_seen));
    }
}

fn is_orphan(report: &Report, netns: Option<&NetnsName>) -> bool {
    let is_it = |name: &NetnsName| report.orphans.iter().any(|o| o.kind == OrphanKind::Namespace && o.netns.as_ref() == Some(name));
    netns.is_some_and(is_it)
}

fn why_wrong(netns: &Namespace) -> String {
    let name = &netns.name;
    match netns.state {
        NetnsState::Failed => format!("failed to come up: `journalctl -b -u netns@{name}` shows why"),
        NetnsState::Lost => {
            format!("systemd has it as up, but it has gone: `systemctl restart netns@{name}` makes it again, and restarts its services")
        }
        _ => format!("/run/netns/{name} was not made by netns-networkd: if nothing needs it, `ip netns delete {name}`"),
    }
}
