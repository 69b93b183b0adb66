//! The command line, as clap types.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum, ValueHint};

use crate::model::NetnsName;

/// Gives plain systemd services IP addresses of their own, on hosts with systemd-networkd.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, disable_help_subcommand = true, color = ColorChoice::Auto, after_help = EXIT_CODES)]
pub struct Cli {
    /// Works on the files of an image below DIR, offline.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Prints one JSON document instead of text; docs/schema describes it.
    #[arg(long, global = true)]
    pub json: bool,
    /// Colours the output: auto, always, never.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Says more.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Understands what the units run, `up NAME`, `up --live NAME` and `down NAME`, each perhaps with `--` before the name, without putting
    /// the whole command line together, which takes longer than all that is needed of it (docs/decisions/0025). Anything else is none.
    #[must_use]
    pub fn of_unit(arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        // one more than there can be
        let words: Vec<String> = arguments.take(5).map(OsString::into_string).collect::<Result<_, _>>().ok()?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let name = |name: &str| NetnsName::parse(name).ok();
        let command = match words[..] {
            ["up", word] | ["up", "--", word] => Command::Up(Up { name: name(word)?, live: false }),
            ["up", "--live", word] | ["up", "--live", "--", word] => Command::Up(Up { name: name(word)?, live: true }),
            ["down", word] | ["down", "--", word] => Command::Down(Down { name: name(word)? }),
            _ => return None,
        };
        Some(Self { root: "/".into(), json: false, color: ColorChoice::Auto, verbose: false, command })
    }
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 something is not as configured, 4 applied but not verified.\n\
Configuration: /etc/netns-networkd/*.toml, then /run and /usr/lib; see /usr/share/doc/netns-networkd.";

/// A verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validates the configuration; offline, without root.
    Check(Check),
    /// Makes the host match the configuration; prints one line for each change, nothing when there is none.
    Sync(Sync),
    /// Shows namespaces, bridges and services as they are, against what they should be. Exit code 3 if they differ.
    Status(Status),
    /// Shows a line for each namespace.
    List,
    /// Draws uplinks, bridges, namespaces, addresses and services as they are. Exit code 3 if they are not as configured.
    Graph(Graph),
    /// Looks for what breaks hosts with namespaces: what was found, why it matters, what mends it. Exit code 3 if anything was.
    Doctor,
    /// Keeps the changes of a `sync --confirm`.
    Confirm,
    /// Takes the changes of a `sync --confirm` back at once; what its timer runs.
    Rollback,
    /// Removes what belongs to no configuration and to no unit that runs; only what netns-networkd has made.
    Prune(Prune),
    /// Makes a namespace as the last sync recorded it; what netns@NAME.service runs.
    Up(Up),
    /// Removes a namespace; what netns@NAME.service runs when its last service has stopped.
    Down(Down),
    /// Runs a command inside a namespace, which stays up meanwhile; without a command, a shell.
    Exec(Exec),
    /// Turns namespaces made by ifupdown, ip(8) in scripts and edited units, systemd-named-netns or wg-netns into a configuration. Exit
    /// code 3 if something is not in it.
    Import(Import),
    /// Prints a script for a shell that completes arguments, also names of namespaces.
    Completions(Completions),
    /// Waits until a namespace has its addresses by DHCP; what netns-online@NAME.service runs.
    Online(Online),
    /// Takes over what a DHCP client has learned, from its environment; what dhcpcd in netns-dhcp@NAME.service runs.
    DhcpEvent(DhcpEvent),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netns-networkd check\n  netns-networkd check mail.toml web.toml")]
pub struct Check {
    /// Files to validate instead of the host's configuration.
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netns-networkd sync --dry-run      what would change, and what would be restarted\n  \
    netns-networkd sync --confirm 60   taken back unless `netns-networkd confirm` is run within a minute\n  \
    netns-networkd sync mail           only namespace mail, and the bridges\n  \
    netns-networkd sync --restart      also moves running services into their namespaces")]
pub struct Sync {
    /// Only these namespaces, and the bridges of the configuration.
    #[arg(value_name = "NAME", value_parser = NetnsName::parse)]
    pub names: Vec<NetnsName>,
    /// Shows the diff of every file and the actions; changes nothing. Exit code 3 if there is something to do.
    #[arg(long)]
    pub dry_run: bool,
    /// Also restarts what changes only by a restart: services in the wrong place, namespaces whose links are to be made anew.
    #[arg(long)]
    pub restart: bool,
    /// Replaces files that were edited by hand or made by somebody else.
    #[arg(long)]
    pub force: bool,
    /// Takes everything back after this many seconds unless it is confirmed: here, or by `netns-networkd confirm`.
    #[arg(long, value_name = "SECS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub confirm: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netns-networkd status\n  netns-networkd status mail\n  netns-networkd status --json | jq .")]
pub struct Status {
    /// Only these namespaces, and the bridges that they use.
    #[arg(value_name = "NAME", value_parser = NetnsName::parse)]
    pub names: Vec<NetnsName>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netns-networkd graph\n  \
    netns-networkd graph --format svg >network.svg\n  \
    netns-networkd graph --format dot | dot -Tpdf >network.pdf")]
pub struct Graph {
    /// Only these namespaces, and the bridges that they use.
    #[arg(value_name = "NAME", value_parser = NetnsName::parse)]
    pub names: Vec<NetnsName>,
    /// Draws with characters, or writes a page for a browser, or what Graphviz or Mermaid draw.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    pub format: Format,
}

/// What a picture is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Svg,
    Dot,
    Mermaid,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Shows what would go; removes nothing. Exit code 3 if there is anything.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Up {
    #[arg(value_parser = NetnsName::parse)]
    pub name: NetnsName,
    /// Leaves out what a running service would not survive.
    #[arg(long)]
    pub live: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    #[arg(value_parser = NetnsName::parse)]
    pub name: NetnsName,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netns-networkd exec mail                                a shell\n  \
    netns-networkd exec mail -- ss -tlnp                    who listens inside\n  \
    netns-networkd exec mail -- runuser -u postfix -- id    as somebody else")]
pub struct Exec {
    #[arg(value_parser = NetnsName::parse)]
    pub name: NetnsName,
    /// The command and its arguments; $SHELL if there is none.
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netns-networkd import --dry-run                       what it would write, and what to do then\n  \
    netns-networkd import                                 writes it; changes nothing else\n  \
    netns-networkd import --from /mnt/old --output /tmp   from a copy of another host")]
pub struct Import {
    /// Reads the files of a host below this folder, instead of this host's.
    #[arg(long, value_name = "ROOT")]
    pub from: Option<PathBuf>,
    /// Writes into this folder instead of /etc/netns-networkd.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Shows what would be written; writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replaces what an earlier import wrote, or somebody else.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netns-networkd completions bash >/etc/bash_completion.d/netns-networkd   for all\n  \
    source <(netns-networkd completions zsh)                                 for this shell")]
pub struct Completions {
    pub shell: Shell,
}

/// A shell that can be told how to complete.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub struct Online {
    #[arg(value_parser = NetnsName::parse)]
    pub name: NetnsName,
}

#[derive(Debug, Args)]
pub struct DhcpEvent {
    #[arg(value_parser = NetnsName::parse)]
    pub name: NetnsName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_units_run_means_the_same_without_clap() {
        let of_unit = |words: &str| Cli::of_unit(words.split(' ').map(OsString::from));
        for words in ["up mail", "up --live mail", "down mail", "up -- mail", "up --live -- mail", "down -- mail"] {
            let parsed = Cli::try_parse_from(std::iter::once("netns-networkd").chain(words.split(' '))).unwrap();
            assert_eq!(format!("{:?}", of_unit(words).unwrap()), format!("{parsed:?}"));
        }
        for words in ["up", "up --help", "up -h", "down -h", "down -v", "up --live", "up mail --json", "up mail mail", "up a/b", "list"] {
            assert!(of_unit(words).is_none(), "{words}");
        }
        for words in ["up -- --help", "up -- -- mail", "up -- --live mail", "up --live --", "down --"] {
            assert!(of_unit(words).is_none(), "{words}");
        }
    }
}
