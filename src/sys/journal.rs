//! The journal: what units said, and an entry of our own with fields.

use std::{
    io::{self, stderr},
    os::unix::net::UnixDatagram,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::fs::fstat;

use super::program;

/// journald's own socket (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>).
const SOCKET: &str = "/run/systemd/journal/socket";

/// Tells whether standard error goes to the journal: systemd names the socket that it gave a service.
#[must_use]
pub fn is_stderr() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let named = named.as_deref().and_then(|text| text.split_once(':')).and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    named.is_some_and(|(dev, ino): (u64, u64)| fstat(stderr()).is_ok_and(|found| (found.st_dev, found.st_ino) == (dev, ino)))
}

/// Writes one entry. An error leaves it unwritten: the caller still has standard error.
pub fn write(fields: &[(&str, &str)]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // what journald cannot take now it may never take
    socket.set_nonblocking(true)?;
    socket.send_to(&datagram(fields), SOCKET).map(drop)
}

fn datagram(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.extend(name.bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend((value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend(value.bytes());
        bytes.push(b'\n');
    }
    bytes
}

fn read(matches: &[&str], lines: usize, limit: Duration) -> Result<Vec<String>> {
    let lines = format!("--lines={lines}");
    let arguments = [&["--boot", "--quiet", "--no-pager", "--output=cat", lines.as_str()], matches].concat();
    let text = program::read("journalctl", &arguments, limit).context("failed to read the journal")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads the last error of this program that a unit has in the journal: its lines, the hints among them.
pub fn last_error(unit: &str, limit: Duration) -> Result<Vec<String>> {
    let said = read(&[&format!("--unit={unit}")], 30, limit)?;
    Ok(error_of(&said))
}

fn error_of(said: &[String]) -> Vec<String> {
    let Some(start) = said.iter().rposition(|line| line.starts_with("error: ")) else { return Vec::new() };
    let rest = said[start + 1..].iter().take_while(|line| line.starts_with("  "));
    let first = said[start].trim_start_matches("error: ").to_owned();
    std::iter::once(first).chain(rest.cloned()).collect()
}

/// Reads the last warnings and errors of networkd in this boot about a link, or about a file of its.
pub fn of_networkd(link: &str, file: &str, limit: Duration) -> Result<Vec<String>> {
    const UNIT: &str = "_SYSTEMD_UNIT=systemd-networkd.service";
    let (link, file) = (format!("INTERFACE={link}"), format!("CONFIG_FILE={file}"));
    read(&["--priority=notice", UNIT, &link, "+", UNIT, &file], 3, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_has_its_length_before_it() {
        assert_eq!(datagram(&[("A", "b"), ("C", "d\ne")]), b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n");
    }

    #[test]
    fn the_last_error_is_taken() {
        let said = |text: &str| error_of(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(
            said("Starting\nerror: a\nStopped\nerror: b: c\n  note: d\n  hint: e\nFailed to start\n"),
            ["b: c", "  note: d", "  hint: e"]
        );
        assert_eq!(said("Starting\n"), [""; 0]);
    }
}
