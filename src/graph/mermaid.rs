//! A picture as a flowchart for Mermaid.

use super::picture::{Bus, Line, Node, Picture, Wire};
use crate::{
    config::is_hidden,
    show::paper::{Tone, Word},
};

/// Mermaid breaks lines at 200 pixels unless it is told otherwise.
const HEAD: &str = "%%{init: {\"flowchart\": {\"wrappingWidth\": 600}}}%%
flowchart LR
  classDef plain fill:#f6f8fa,stroke:#57606a,color:#1f2328,text-align:left
  classDef bus fill:#ddf4ff,stroke:#0969da,color:#1f2328,text-align:left
  classDef rest fill:#ffffff,stroke:#8c959f,color:#636c76,stroke-dasharray:4 3,text-align:left
  classDef about fill:none,stroke:none,text-align:left
  classDef warn fill:#fff8c5,stroke:#9a6700,color:#1f2328,text-align:left
  classDef bad fill:#ffebe9,stroke:#cf222e,color:#1f2328,text-align:left
";

/// Writes a flowchart.
pub(super) fn draw(picture: &Picture) -> String {
    let about: Vec<String> = std::iter::once(&picture.headline).chain(&picture.notes).map(|words| line(words)).collect();
    let mut chart = format!("{HEAD}  about[\"{}\"]:::about\n", about.join("<br/>"));
    let mut wires = Vec::new();
    let mut wire = |chart: &mut String, from: &str, to: &str, label: &str, wire: Wire| {
        let arrow = if wire == Wire::Whole { "---" } else { "-.-" };
        let label = if label.is_empty() { String::new() } else { format!("|\"{label}\"|") };
        *chart += &format!("  {from} {arrow}{label} {to}\n");
        wires.push(wire);
    };
    for (n, Bus { node: bus, uplinks }) in picture.buses.iter().enumerate() {
        chart += &node(&format!("bus{n}"), bus, "bus");
        for (m, uplink) in uplinks.iter().enumerate() {
            let name = format!("uplink{n}_{m}");
            chart += &node(&name, uplink, "plain");
            wire(&mut chart, &name, &format!("bus{n}"), "", uplink.wire);
        }
    }
    for (n, netns) in picture.namespaces.iter().enumerate() {
        let name = format!("netns{n}");
        chart += &node(&name, netns, if netns.wire == Wire::AtRest { "rest" } else { "plain" });
        for tap in netns.lines.iter().filter_map(|line| line.tap.as_ref()) {
            wire(&mut chart, &format!("bus{}", tap.bus), &name, &escape(&tap.port), tap.wire);
        }
    }
    let broken: Vec<String> = wires.iter().enumerate().filter(|(_, wire)| **wire == Wire::Broken).map(|(n, _)| n.to_string()).collect();
    if !broken.is_empty() {
        chart += &format!("  linkStyle {} stroke:#cf222e\n", broken.join(","));
    }
    chart
}

fn node(name: &str, node: &Node, class: &str) -> String {
    let class = match node.tone {
        Tone::Bad => "bad",
        Tone::Warn => "warn",
        _ => class,
    };
    let lines: Vec<String> = node.lines.iter().map(|Line { indent, words, .. }| "&nbsp;".repeat(*indent) + &line(words)).collect();
    format!("  {name}[\"{}\"]:::{class}\n", lines.join("<br/>"))
}

fn line(words: &[Word]) -> String {
    words.iter().map(|word| escape(&word.text)).collect::<Vec<_>>().join(" ")
}

/// Writes as a character reference, which Mermaid begins with `#`, whatever is not known to be without a meaning of its own:
/// quotes and markup, but also `%%{` (a directive, even within quotes) and a backtick (Markdown).
fn escape(text: &str) -> String {
    let shown = |c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).fold(String::with_capacity(text.len()), |mut all, c| {
        if c.is_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '@' | ',' | '(' | ')') {
            all.push(c);
        } else {
            all += &format!("#{};", u32::from(c));
        }
        all
    })
}
