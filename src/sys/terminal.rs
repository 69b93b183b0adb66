//! The terminal, if there is one.

use std::io::{IsTerminal, stderr, stdout};

use clap::ColorChoice;

/// Tells whether standard output and standard error take colours. `NO_COLOR` (no-color.org) counts for `auto`.
#[must_use]
pub fn colors(choice: ColorChoice) -> (bool, bool) {
    match choice {
        ColorChoice::Always => (true, true),
        ColorChoice::Never => (false, false),
        ColorChoice::Auto => {
            let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            (wanted && stdout().is_terminal(), wanted && stderr().is_terminal())
        }
    }
}
