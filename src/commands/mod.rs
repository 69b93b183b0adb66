//! One file a verb: wiring and words, no work.

/// `println!` that does not end the program where nobody reads what it says.
macro_rules! say { ($($text:tt)*) => { crate::sys::terminal::say(format_args!($($text)*)) } }
/// `eprintln!` that does not, either.
macro_rules! complain { ($($text:tt)*) => { crate::sys::terminal::complain(format_args!($($text)*)) } }

mod check;
pub mod completions;
mod doctor;
mod exec;
mod graph;
mod import;
mod list;
mod prune;
mod rollback;
mod status;
mod sync;
mod teller;

use std::process::ExitCode;

use anyhow::{Error, Result};
use serde::Serialize;

use crate::{
    cli::{Cli, Command},
    config::{Faults, is_hidden},
    error::{self, OfNetns, Refused, Usage},
    model::NetnsName,
    reconcile::{
        dhcp,
        netns::{self, Reach},
    },
    report::{Document, Failure, Outcome, Reason},
    show::Paper,
    sys::{
        fs::{self, Root},
        journal, processes, terminal,
    },
};

/// What every entry about a failure has in the journal (`journalctl MESSAGE_ID=…`, systemd.journal-fields(7)).
const FAILED_ID: &str = "14f4ef8789e64df7954e162d947157f8";

/// Exit codes, as the contract has them.
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const CHANGES: u8 = 3;
pub const UNVERIFIED: u8 = 4;

/// What every command knows.
struct Context {
    root: Root,
    verbose: bool,
    /// One document on standard output instead of text.
    json: bool,
    /// Standard output, and standard error, take colours.
    color: (bool, bool),
}

impl Context {
    /// The word that a warning on standard error begins with.
    fn warning(&self) -> &'static str {
        if self.color.1 { "\x1b[1;33mwarning\x1b[0m" } else { "warning" }
    }

    /// The word that an error begins with.
    fn error(&self) -> &'static str {
        if self.color.1 { "\x1b[1;31merror\x1b[0m" } else { "error" }
    }
}

/// Runs a command; prints its errors.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let Cli { root, color, verbose, json, command } = cli;
    let context = Context { root: Root::new(root), verbose, json, color: terminal::colors(color) };
    let netns = match &command {
        Command::Up(args) => Some(args.name.clone()),
        Command::Down(args) => Some(args.name.clone()),
        Command::Online(args) => Some(args.name.clone()),
        Command::DhcpEvent(args) => Some(args.name.clone()),
        _ => None,
    };
    match dispatch(&context, command) {
        Ok(_) if terminal::is_output_lost() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(error) => report(&context, &error, netns.as_ref()),
    }
}

/// Says that the command line cannot be understood, in JSON where that was asked for; `--help` and `--version` come here, too.
#[must_use]
pub fn misused(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        // what is wrong, a tip, how it is used
        let text = error.render().to_string();
        let mut parts = text.split("\n\n");
        let message = parts.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message).to_owned();
        let hints = parts.filter_map(|part| part.trim().strip_prefix("tip: ")).map(str::to_owned).collect();
        let reason = Reason { message, hints, ..Reason::of_text("") };
        print_json(&Document::failure(Failure { reasons: vec![reason] }));
    } else {
        // a pipe that nobody reads from is no concern of ours
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

fn dispatch(context: &Context, command: Command) -> Result<ExitCode> {
    if !context.root.is_host() {
        if !matches!(command, Command::Check(_) | Command::Sync(_) | Command::Import(_)) {
            return Err(Usage(vec!["only check, sync and import work on an image; this command is for the running host".to_owned()]).into());
        }
        let top = context.root.at("/");
        if fs::is_directory(&top) != Some(true) {
            return Err(Usage(vec![format!("there is no folder {}, which --root names", top.display())]).into());
        }
    }
    match command {
        Command::Check(args) => check::run(context, &args),
        Command::Sync(args) => sync::run(context, args),
        Command::Status(args) => status::run(context, &args),
        Command::List => list::run(context),
        Command::Graph(args) => graph::run(context, &args),
        Command::Doctor => doctor::run(context),
        Command::Confirm => rollback::confirm(context),
        Command::Rollback => rollback::rollback(context),
        Command::Prune(args) => prune::run(context, &args),
        Command::Up(args) => {
            let changes = netns::up(&args.name, if args.live { Reach::Live } else { Reach::Whole })?;
            if context.verbose && !context.json {
                changes.iter().for_each(|change| say!("{change}"));
            }
            let told = if context.json { &changes[..] } else { &[] };
            Ok(done(context, Outcome { changes: told.iter().map(ToString::to_string).collect(), ..Outcome::default() }))
        }
        Command::Down(args) => {
            let warnings: Vec<String> = netns::down(&args.name)?.into_iter().collect();
            if !context.json {
                warnings.iter().for_each(|text| complain!("{}: {text}", context.warning()));
            }
            Ok(done(context, Outcome { warnings, ..Outcome::default() }))
        }
        Command::Exec(args) => exec::run(context, args),
        Command::Import(args) => import::run(context, args),
        Command::Completions(args) => completions::run(&args),
        Command::Online(args) => dhcp::online(&args.name).map(|()| done(context, Outcome::default())),
        Command::DhcpEvent(args) => dhcp::event(&args.name, &fs::environment()).map(|()| done(context, Outcome::default())),
    }
}

/// Ends a command that has nothing left to say but in JSON.
fn done(context: &Context, outcome: Outcome) -> ExitCode {
    if context.json {
        print_json(&Document::new(outcome));
    }
    ExitCode::SUCCESS
}

/// What standard output is for text.
fn paper(context: &Context) -> Paper {
    Paper { width: terminal::width(), color: context.color.0, unicode: terminal::is_unicode() }
}

fn print_json(document: &impl Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => terminal::print(&format!("{}\n", in_ascii_where_hidden(&text))),
        Err(error) => complain!("error: failed to write JSON: {error}"),
    }
}

/// Writes what a terminal would act on, or not show, as JSON's escapes: there is none of it but in strings, where others named something so.
fn in_ascii_where_hidden(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if c != '\n' && is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
        } else {
            text.push(c);
        }
        text
    })
}

/// Gives the exit code of an error.
fn code_of(error: &Error) -> u8 {
    if error.is::<Faults>() || error.is::<Refused>() || error.is::<Usage>() { USAGE } else { FAILED }
}

fn report(context: &Context, error: &Error, netns: Option<&NetnsName>) -> ExitCode {
    if context.json {
        print_json(&Document::failure(Failure::new(error)));
    } else {
        let text = match error.downcast_ref::<Faults>() {
            Some(faults) => faults.render(context.color.1).trim_end().to_owned(),
            None => format!("{}: {}", context.error(), error::render(error)),
        };
        if !(journal::is_stderr() && put_down(error, netns, &text)) {
            complain!("{text}");
        }
    }
    ExitCode::from(code_of(error))
}

/// Puts what failed into the journal as one entry, with fields to search for; tells whether that could be done.
fn put_down(error: &Error, netns: Option<&NetnsName>, text: &str) -> bool {
    let unit = processes::own_unit();
    let place = error.downcast_ref::<OfNetns>().and_then(|failed| failed.place.rsplit_once(':'));
    let mut fields = vec![("MESSAGE", text), ("PRIORITY", "3"), ("SYSLOG_IDENTIFIER", "netns-networkd"), ("MESSAGE_ID", FAILED_ID)];
    fields.extend(netns.map(|netns| ("NETNS", netns.as_str())));
    fields.extend(place.map(|(file, _)| ("CONFIG_FILE", file)));
    fields.extend(place.map(|(_, line)| ("CONFIG_LINE", line)));
    // journald asks whose an entry is, and by then this process may have ended
    fields.extend(unit.as_deref().map(|unit| ("OBJECT_SYSTEMD_UNIT", unit)));
    journal::write(&fields).is_ok()
}
