//! `list`: a line for each namespace.

use super::{
    paper::{Cell, Paper, Text, Tone, words},
    status::netns_state,
};
use crate::report::List;

/// Writes a list.
#[must_use]
pub fn list(list: &List, paper: Paper) -> String {
    let mut text = Text::new(paper);
    let rows = list.namespaces.iter().map(|netns| {
        let (_, state) = netns_state(netns);
        let units = match (netns.units, netns.units_running) {
            (0, _) => words(Tone::Faint, "no units"),
            (_, None) => words(Tone::Faint, "units not seen"),
            (all, Some(running)) => words(Tone::Plain, &format!("{running} of {all} units")),
        };
        let join = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
        let on = join(&mut netns.on.iter().map(ToString::to_string));
        let addresses = join(&mut netns.addresses.iter().map(ToString::to_string));
        let or_dash = |text: &str| -> Cell { words(Tone::Plain, if text.is_empty() { "-" } else { text }) };
        vec![words(Tone::Strong, netns.name.as_str()), state, units, or_dash(&on), or_dash(&addresses)]
    });
    text.table(0, &rows.collect::<Vec<_>>());
    text.finish()
}
