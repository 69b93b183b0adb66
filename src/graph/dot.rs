//! A picture for Graphviz: a node for each box, with a table in it, and an edge for each wire.

use super::{
    picture::{Bus, Line, Node, Picture, Wire},
    svg,
};
use crate::show::paper::{Tone, Word};

/// Writes a graph. All that others have named is in labels, which are markup like XML.
pub(super) fn draw(picture: &Picture) -> String {
    let mut dot = format!(
        "graph \"netns-networkd\" {{\n  graph [rankdir=LR, ranksep=1.5, labelloc=t, fontname=\"monospace\", fontsize=12, label=<{}>]\n  \
         node [shape=plain, fontname=\"monospace\", fontsize=11]\n  edge [fontname=\"monospace\", fontsize=10]\n",
        std::iter::once(&picture.headline).chain(&picture.notes).map(|words| line(words) + "<br align=\"left\"/>").collect::<String>()
    );
    for (n, Bus { node: bus, uplinks }) in picture.buses.iter().enumerate() {
        dot += &format!("  bus{n} {}", node(bus, "#ddf4ff"));
        for (m, uplink) in uplinks.iter().enumerate() {
            dot += &format!("  uplink{n}_{m} {}", node(uplink, "#ffffff"));
            dot += &format!("  uplink{n}_{m} -- bus{n} [{}]\n", style(uplink.wire));
        }
    }
    for (n, netns) in picture.namespaces.iter().enumerate() {
        dot += &format!("  netns{n} {}", node(netns, if netns.wire == Wire::AtRest { "#ffffff" } else { "#f6f8fa" }));
        for (m, Line { tap, .. }) in netns.lines.iter().enumerate() {
            if let Some(tap) = tap {
                let label = escape(&tap.port);
                dot += &format!("  bus{} -- netns{n}:line{m}:w [{}, label=<{label}>]\n", tap.bus, style(tap.wire));
            }
        }
    }
    dot + "}\n"
}

/// As in XML, but Graphviz takes `\N` and its like for names of nodes in the text of markup, too, and `\\` for a backslash.
fn escape(text: &str) -> String {
    svg::escape(text).replace('\\', "\\\\")
}

fn style(wire: Wire) -> &'static str {
    match wire {
        Wire::Whole => "color=\"#57606a\"",
        Wire::AtRest => "color=\"#8c959f\", style=dashed",
        Wire::Broken => "color=\"#cf222e\", style=dashed",
    }
}

fn node(node: &Node, fill: &str) -> String {
    let border = color(node.tone).unwrap_or("#57606a");
    let mut label = format!("<table border=\"1\" cellborder=\"0\" cellspacing=\"0\" color=\"{border}\" bgcolor=\"{fill}\">");
    for (n, Line { indent, words, .. }) in node.lines.iter().enumerate() {
        label += &format!("<tr><td align=\"left\" port=\"line{n}\">{}{}</td></tr>", "&#160;".repeat(*indent), line(words));
    }
    format!("[label=<{label}</table>>]\n")
}

fn line(words: &[Word]) -> String {
    let part = |part: &[Word]| {
        let text = escape(&part.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "));
        match (part[0].tone, color(part[0].tone)) {
            (Tone::Strong, _) => format!("<b>{text}</b>"),
            (_, Some(color)) => format!("<font color=\"{color}\">{text}</font>"),
            (_, None) => text,
        }
    };
    words.chunk_by(|a, b| a.tone == b.tone).map(part).collect::<Vec<_>>().join(" ")
}

fn color(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain | Tone::Strong => None,
        Tone::Good => Some("#1a7f37"),
        Tone::Warn => Some("#9a6700"),
        Tone::Bad => Some("#cf222e"),
        Tone::Faint => Some("#636c76"),
    }
}
