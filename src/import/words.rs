//! Lines and words as a shell and ifupdown cut them; nothing here knows what they mean.

use std::collections::BTreeMap;

/// A line with those that continue it, and the number of its first, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: usize,
    pub text: String,
}

/// Joins lines that end in a backslash and leaves out empty ones and those that are comments (interfaces(5)).
///
/// `glue` takes the place of backslash and end of line: nothing for a shell and ifupdown, a space for systemd. A comment among lines
/// that are joined is left out, too, as ifupdown and systemd do.
#[must_use]
pub fn lines(text: &str, comments: &[char], glue: &str) -> Vec<Line> {
    let mut joined: Vec<Line> = Vec::new();
    let mut open = false;
    for (number, text) in (1..).zip(text.lines()) {
        if text.trim_start().starts_with(comments) {
            continue;
        }
        let (text, goes_on) = match text.strip_suffix('\\') {
            Some(text) => (text, true),
            None => (text, false),
        };
        match joined.last_mut().filter(|_| open) {
            Some(line) => {
                line.text.push_str(glue);
                line.text.push_str(text);
            }
            None => joined.push(Line { number, text: text.to_owned() }),
        }
        open = goes_on;
    }
    joined.retain_mut(|line| {
        line.text = line.text.trim().to_owned();
        !line.text.is_empty()
    });
    joined
}

/// One command of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    pub words: Vec<String>,
    /// Where `>` sends what it prints.
    pub to: Option<String>,
    /// Something in it is known when it runs only: the name of a variable, `$(…)`.
    pub unknown: Option<String>,
}

/// Variables that are known.
pub type Vars = BTreeMap<String, String>;

/// Cuts a line of a shell into its commands, at `;`, `&&`, `||`, `|` and `&`; quotes are taken off, known variables filled in.
#[must_use]
pub fn commands(line: &str, vars: &Vars) -> Vec<Command> {
    let mut cutter = Cutter::default();
    let mut chars = line.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (quote, '\\') if quote != Some('\'') => chars.next().into_iter().for_each(|c| cutter.push(c)),
            (quote, '$') if quote != Some('\'') => {
                let (name, value) = variable(&mut chars, vars);
                match value {
                    // what is not in quotes is cut at spaces
                    Some(value) if quote.is_none() => {
                        value.chars().for_each(|c| if c.is_whitespace() { cutter.end_word() } else { cutter.push(c) });
                    }
                    Some(value) => value.chars().for_each(|c| cutter.push(c)),
                    None => cutter.unknown(&name),
                }
            }
            (quote, '`') if quote != Some('\'') => {
                let inner: String = chars.by_ref().take_while(|c| *c != '`').collect();
                cutter.unknown(&format!("`{inner}`"));
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                // an empty string is a word
                cutter.word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => cutter.end_word(),
            (None, '#') if cutter.word.is_none() => break,
            (None, '>' | '<') => {
                // the number of a descriptor
                let of = cutter.word.take_if(|word| word.chars().all(|c| c.is_ascii_digit()));
                cutter.end_word();
                chars.next_if_eq(&'>');
                if chars.next_if_eq(&'&').is_some() {
                    while chars.next_if(|c| c.is_ascii_digit() || *c == '-').is_some() {}
                } else {
                    cutter.redirected = Some(c == '>' && of.is_none_or(|of| of == "1"));
                }
            }
            (None, ';' | '&' | '|' | '\n') => {
                chars.next_if_eq(&c);
                cutter.end_command();
            }
            (_, c) => cutter.push(c),
        }
    }
    cutter.end_command();
    cutter.commands
}

/// Reads the name of a variable after its `$`, and finds its value.
fn variable(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, vars: &Vars) -> (String, Option<String>) {
    if chars.next_if_eq(&'(').is_some() {
        let mut depth = 1;
        let inner: String = chars
            .by_ref()
            .take_while(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth > 0
            })
            .collect();
        return (format!("$({inner})"), None);
    }
    if chars.next_if_eq(&'{').is_some() {
        let inner: String = chars.by_ref().take_while(|c| *c != '}').collect();
        let name: String = inner.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let rest = inner.get(name.len()..).unwrap_or_default();
        let value = vars.get(&name).filter(|value| !value.is_empty());
        let value = match rest {
            "" => value.cloned(),
            // as in `${GATEWAY%%/*}`: what is before the slash
            "%%/*" | "%/*" => value.map(|value| value.split('/').next().unwrap_or_default().to_owned()),
            _ => rest
                .strip_prefix(":-")
                .or(rest.strip_prefix('-'))
                .filter(|_| value.is_none())
                .map(str::to_owned)
                .or(value.cloned().filter(|_| rest.starts_with([':', '-']))),
        };
        return (format!("${{{inner}}}"), value);
    }
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
        // `$12` is `$1` and a 2
        if name.len() == 1 && c.is_ascii_digit() {
            break;
        }
    }
    if name.is_empty() {
        name.extend(chars.next_if(|c| matches!(c, '@' | '*' | '#' | '?' | '$' | '!')));
    }
    let value = vars.get(&name).cloned();
    (format!("${name}"), value)
}

#[derive(Default)]
struct Cutter {
    commands: Vec<Command>,
    command: Command,
    word: Option<String>,
    /// The next word is a file; whether what is printed goes there.
    redirected: Option<bool>,
}

impl Cutter {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn unknown(&mut self, what: &str) {
        self.word.get_or_insert_default().push_str(what);
        self.command.unknown.get_or_insert_with(|| what.to_owned());
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take() {
            match self.redirected.take() {
                Some(true) => self.command.to = Some(word),
                Some(false) => {}
                None => self.command.words.push(word),
            }
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirected = None;
        let command = std::mem::take(&mut self.command);
        if !command.words.is_empty() || command.unknown.is_some() {
            self.commands.push(command);
        }
    }
}

/// Tells whether a path matches a pattern of a shell: `*` and `?` for anything but a slash, `[…]` for one of several.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    patterns.len() == parts.len()
        && patterns.iter().zip(parts).all(|(pattern, part)| {
            // a pattern does not find hidden files
            (pattern.starts_with('.') || !part.starts_with('.'))
                && matches_part(&pattern.chars().collect::<Vec<_>>(), &part.chars().collect::<Vec<_>>())
        })
}

fn matches_part(pattern: &[char], text: &[char]) -> bool {
    // where to go on after the last `*`, in both
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => one_of(&pattern[p..], text[t]),
            Some(c) if *c == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(step), _) => (p, t) = (p + step, t + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|c| *c == '*')
}

/// Gives the length of `[…]` at the beginning of a pattern if it has a character.
fn one_of(pattern: &[char], c: char) -> Option<usize> {
    let end = (2..pattern.len()).find(|at| pattern[*at] == ']')?;
    let inner = &pattern[1..end];
    let (not, inner) = match inner.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    let mut at = 0;
    while let Some(first) = inner.get(at) {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some('-'), Some(last)) => {
                found |= (*first..=*last).contains(&c);
                at += 3;
            }
            _ => {
                found |= *first == c;
                at += 1;
            }
        }
    }
    (found != not).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> Vec<Vec<String>> {
        let vars = Vars::from([("NS".to_owned(), "mail".to_owned()), ("IP".to_owned(), "ip -n mail".to_owned())]);
        commands(line, &vars).into_iter().map(|command| command.words).collect()
    }

    #[test]
    fn words_are_a_shells() {
        assert_eq!(cut("a 'b c'  \"d\"e\\ f"), [["a", "b c", "de f"]]);
        assert_eq!(cut("a; b && c || d | e & f # g"), [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]);
        assert_eq!(
            cut("$IP link add ${NS}0 \"$NS\" ${MTU:-1500} '$NS' 2>/dev/null >&2"),
            [["ip", "-n", "mail", "link", "add", "mail0", "mail", "1500", "$NS"]]
        );
        let echo = commands("echo 1 >/proc/sys/net/ipv4/ip_forward", &Vars::new());
        assert_eq!(echo[0].to.as_deref(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(commands("a $(b (c)) d", &Vars::new())[0].unknown.as_deref(), Some("$(b (c))"));
        assert_eq!(commands("a $b", &Vars::new())[0].unknown.as_deref(), Some("$b"));
    }

    #[test]
    fn lines_are_joined_and_numbered() {
        let line = |number, text: &str| Line { number, text: text.to_owned() };
        assert_eq!(lines("# a\\\nb \\\n#c\n  d\n\n e#f\n", &['#'], ""), [line(2, "b   d"), line(6, "e#f")]);
    }

    #[test]
    fn patterns_are_a_shells() {
        for (pattern, yes, no) in [
            ("/etc/network/services/*", "/etc/network/services/a", "/etc/network/services/a/b"),
            ("/a/*.cfg", "/a/b.cfg", "/a/b.cfg~"),
            ("/a/[a-c]?", "/a/bx", "/a/dx"),
            ("/a/[!a]*z", "/a/bzyz", "/a/abz"),
            ("/a/*", "/a/b", "/a/.b"),
        ] {
            assert!(matches(pattern, yes) && !matches(pattern, no), "{pattern}");
        }
    }
}
