//! Makes the man pages from the reference and the command line: `make man` writes docs/man.
//!
//! The documents are Markdown of a simple kind; what else they come to use, this refuses.

// clippy.toml is about the product
#![allow(clippy::disallowed_methods)]

use std::{fmt::Write, fs};

use clap::CommandFactory;
use netns_networkd::cli::Cli;
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// A page: name, section of the manual, what it is in one line, documents, what it refers to.
const PAGES: [(&str, &str, &str, &str, &[&str]); 3] = [
    (
        "netns-networkd",
        "8",
        "gives plain systemd services IP addresses of their own",
        "commands.md",
        &["netns-networkd.toml(5)", "netns@.service(8)", "systemd-networkd(8)", "networkctl(1)", "ip-netns(8)"],
    ),
    (
        "netns-networkd.toml",
        "5",
        "configuration of netns-networkd",
        "configuration.md",
        &["netns-networkd(8)", "netns@.service(8)", "systemd.network(5)", "systemd.netdev(5)", "nft(8)", "dhcpcd(8)", "wg(8)"],
    ),
    (
        "netns@.service",
        "8",
        "units of netns-networkd",
        "units.md",
        &["netns-networkd(8)", "netns-networkd.toml(5)", "systemd.unit(5)", "systemd.exec(5)"],
    ),
];

/// Gives the pages, each with its file name.
#[must_use]
pub fn pages(repo: &str) -> Vec<(String, String)> {
    let page = |(name, section, about, document, see): &(&str, &str, &str, &str, &[&str])| {
        let text = fs::read_to_string(format!("{repo}/docs/{document}")).expect("the document is there");
        let mut page = format!(
            ".\\\" Made from docs/{document} by `make man`.\n.TH {} {section} \"\" \"netns-networkd {}\" \"netns-networkd\"\n\
             .nh\n.ad l\n.SH NAME\n{} \\- {about}\n",
            escape(&name.to_uppercase()),
            env!("CARGO_PKG_VERSION"),
            escape(name)
        );
        if *document == "commands.md" {
            page += ".SH SYNOPSIS\n.B netns\\-networkd\n[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n";
        }
        if *document == "configuration.md" {
            page +=
                ".SH SYNOPSIS\n/etc/netns\\-networkd/*.toml\n.br\n/run/netns\\-networkd/*.toml\n.br\n/usr/lib/netns\\-networkd/*.toml\n";
        }
        page += &body(&text);
        if *document == "commands.md" {
            page += &options();
        }
        page += &format!(".SH SEE ALSO\n{}\n", see.iter().map(|page| escape(page)).collect::<Vec<_>>().join(",\n"));
        page += "Guides and decisions are in /usr/share/doc/netns\\-networkd.\n";
        (format!("{name}.{section}"), page)
    };
    PAGES.iter().map(page).collect()
}

/// Gives the options of each command, as `--help` has them.
fn options() -> String {
    let mut text = ".SH OPTIONS\n".to_owned();
    let mut cli = Cli::command();
    cli.build();
    let list = |text: &mut String, command: &clap::Command, global: bool| {
        for arg in command.get_arguments().filter(|arg| arg.is_global_set() == global && !arg.is_hide_set()) {
            let names = [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
            let names: Vec<String> = names.into_iter().flatten().collect();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if ["help", "version"].contains(&arg.get_id().as_str()) || names.is_empty() {
                continue;
            }
            let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
            let value = value.map(|names| format!(" {}", names[0])).unwrap_or_default();
            let _ = write!(text, ".TP\n\\fB{}\\fR\\fI{}\\fR\n{}\n", escape(&names.join(", ")), escape(&value), escape(&help));
        }
    };
    list(&mut text, &cli, true);
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let mut its = String::new();
        list(&mut its, command, false);
        if !its.is_empty() {
            let _ = write!(text, ".SS {}\n{its}", escape(command.get_name()));
        }
    }
    text
}

/// Text that troff takes for nothing else: backslashes, dashes that are copied, dots and quotes at the start of a line.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...").replace(['“', '”'], "\"");
    let lines = text.split('\n').map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

/// Turns a document into the sections of a page.
#[allow(clippy::too_many_lines)]
fn body(markdown: &str) -> String {
    let (mut page, mut text) = (String::new(), String::new());
    // of a table: the titles, the cells of the row so far
    let (mut titles, mut cells, mut in_head): (Vec<String>, Vec<String>, bool) = (Vec::new(), Vec::new(), false);
    let (mut level, mut code, mut items) = (HeadingLevel::H1, false, Vec::<Option<u64>>::new());
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Text(words) if code => page += &escape(&words),
            Event::Text(words) => text += &escape(&words),
            Event::Code(words) => {
                let _ = write!(text, "\\fB{}\\fR", escape(&words));
            }
            Event::SoftBreak => text.push('\n'),
            Event::HardBreak => text += "\n.br\n",
            Event::Start(Tag::Heading { level: new, .. }) => level = new,
            Event::End(TagEnd::Heading(_)) => {
                let title = std::mem::take(&mut text);
                match level {
                    // the page has a name of its own
                    HeadingLevel::H1 => page += ".SH DESCRIPTION\n",
                    HeadingLevel::H2 => {
                        let _ = writeln!(page, ".SH {}", title.replace("\\fB", "").replace("\\fR", "").to_uppercase());
                    }
                    _ => {
                        let _ = writeln!(page, ".SS {title}");
                    }
                }
            }
            Event::End(TagEnd::Paragraph) => {
                let words = std::mem::take(&mut text);
                // the first paragraph of an item is on its line
                let begins = items.is_empty() || !page.ends_with(".IP \\(bu 2\n");
                // tests are for developers
                if !words.starts_with("In the tables, \\fBtest\\fR") {
                    let _ = writeln!(page, "{}{}", if begins { ".PP\n" } else { "" }, words.trim());
                }
            }
            Event::Start(Tag::CodeBlock(_)) => {
                code = true;
                page += ".PP\n.RS 4\n.nf\n";
            }
            Event::End(TagEnd::CodeBlock) => {
                code = false;
                page += ".fi\n.RE\n";
            }
            Event::Start(Tag::List(first)) => items.push(first),
            Event::End(TagEnd::List(_)) => {
                items.pop();
            }
            Event::Start(Tag::Item) => page += ".IP \\(bu 2\n",
            Event::End(TagEnd::Item) => {
                let words = std::mem::take(&mut text);
                if !words.is_empty() {
                    let _ = writeln!(page, "{}", words.trim());
                }
            }
            Event::Start(Tag::TableHead) => (in_head, titles) = (true, Vec::new()),
            Event::End(TagEnd::TableHead) => in_head = false,
            Event::End(TagEnd::TableCell) => {
                let cell = std::mem::take(&mut text);
                if in_head { titles.push(cell) } else { cells.push(cell) }
            }
            Event::End(TagEnd::TableRow) => page += &row(&titles, &std::mem::take(&mut cells)),
            // a link within these documents is no use in a page; its words are
            Event::Start(
                Tag::Paragraph | Tag::Table(_) | Tag::TableRow | Tag::TableCell | Tag::Link { .. } | Tag::Emphasis | Tag::Strong,
            )
            | Event::End(TagEnd::Table | TagEnd::Link | TagEnd::Emphasis | TagEnd::Strong) => {}
            // pictures are for browsers
            Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => text.clear(),
            other => panic!("not known how to say in a man page: {other:?}"),
        }
    }
    without_contents(&page)
}

/// A row of a table: its first cell, and the others below. Which test holds a key is for developers.
fn row(titles: &[String], cells: &[String]) -> String {
    let mut text = format!(".TP\n{}\n", cells[0]);
    let mut rest: Vec<String> = Vec::new();
    for (title, cell) in titles.iter().zip(cells).skip(1).filter(|(title, cell)| *title != "test" && !cell.is_empty()) {
        match title.as_str() {
            "default" => rest.push(if cell == "required" { "Required.".to_owned() } else { format!("Default: {cell}.") }),
            "why" => rest.push(format!("({cell})")),
            _ => rest.push(cell.clone()),
        }
    }
    text += &rest.join("\n");
    text.trim_end().to_owned() + "\n"
}

/// Takes the list of links at the top of a document away.
fn without_contents(page: &str) -> String {
    match page.split_once(".SH DESCRIPTION\n.IP ") {
        Some((before, after)) => {
            let end = after.find("\n.PP\n").map_or(after.len(), |at| at + 1);
            format!("{before}.SH DESCRIPTION\n{}", &after[end..])
        }
        None => page.to_owned(),
    }
}

#[allow(dead_code)] // a test takes the rest
fn main() {
    let repo = env!("CARGO_MANIFEST_DIR");
    for (name, text) in pages(repo) {
        fs::create_dir_all(format!("{repo}/docs/man")).expect("make docs/man");
        fs::write(format!("{repo}/docs/man/{name}"), text).expect("write the page");
    }
}
