//! WireGuard keys: files that only root can read, systemd's credentials among them. A key is never printed, logged or written.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    fault,
    fs::{self, Root},
};
use crate::model::{CREDENTIALS, decode_key};

/// A private or preshared key.
pub type Key = [u8; 32];

/// Where systemd looks for a credential that a unit loads by name (`LoadCredential=`, systemd.exec(5)); for an encrypted one it
/// looks in the folders of these names with `.encrypted` first.
const STORES: [&str; 4] = ["/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"];
/// What the machine itself was given, by its hypervisor, its boot loader or the kernel command line.
const OF_THE_SYSTEM: [&str; 2] = ["/run/credentials/@system", "/run/credentials/@encrypted"];

/// Reads a key from a file that nobody but root can read or change.
pub fn read(path: &Path) -> Result<Key> {
    let failed = || format!("failed to read key file {}", path.display());
    // a pipe must not make us wait
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = || OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match fault::look(format_args!("open {}", path.display()), open) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(e).context(hint_missing(path)).with_context(failed),
        other => other.with_context(failed)?,
    };
    let metadata = file.metadata().with_context(failed)?;
    if !metadata.is_file() {
        bail!("key file {} is not a file", path.display());
    }
    if metadata.uid() != 0 && fs::is_root() {
        return Err(anyhow!("key file {} belongs to another user than root", path.display()))
            .context(format!("hint: `chown root:root {0} && chmod 600 {0}`", path.display()));
    }
    let others = if metadata.gid() == 0 { 0o007 } else { 0o077 };
    if metadata.mode() & others != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(anyhow!("key file {} is open to others than root (mode {mode:04o})", path.display()))
            .context(format!("hint: `chmod 600 {}`; who has read the key since can still use it", path.display()));
    }
    let mut text = String::new();
    // a longer file is no key, whatever it is
    let whole = file.take(1024).read_to_string(&mut text);
    let key = whole.ok().and_then(|_| decode_key(text.trim_ascii()).ok());
    // the text of the file stays out of the message
    key.with_context(|| format!("{} has no key in it: 44 characters of base64, as `wg genkey` prints them", path.display()))
}

fn hint_missing(path: &Path) -> String {
    match path.strip_prefix(CREDENTIALS).ok().and_then(|path| Some((path.parent()?, path.file_name()?))) {
        Some((unit, name)) => format!(
            "hint: systemd gives it to {0} when that starts, from /etc/credstore/{1}, or /etc/credstore.encrypted/{1} \
             (`systemd-creds encrypt`): put it there, run `netns-networkd sync`, then `systemctl restart {0}`",
            unit.display(),
            name.display()
        ),
        None => format!("hint: `(umask 077; wg genkey > {})` makes a private key, `wg genpsk` a preshared one", path.display()),
    }
}

/// What there is of a credential before systemd has given it to a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    Plain(PathBuf),
    /// Only systemd can read it.
    Encrypted,
    /// Given to the machine, not kept by it.
    OfTheSystem,
    Nowhere,
}

/// Looks for a credential as systemd will.
#[must_use]
pub fn stored(root: &Root, name: &str) -> Stored {
    let there = |directory: &str| Some(root.at(directory).join(name)).filter(|path| fs::exists(path));
    if STORES.iter().any(|store| there(&format!("{store}.encrypted")).is_some()) {
        return Stored::Encrypted;
    }
    match STORES.iter().find_map(|store| there(store)) {
        Some(path) => Stored::Plain(path),
        None if OF_THE_SYSTEM.iter().any(|directory| there(directory).is_some()) => Stored::OfTheSystem,
        None => Stored::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error;

    #[test]
    fn only_a_key_that_root_alone_can_read_is_read() {
        const TEXT: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let directory = std::env::temp_dir().join(format!("netns-networkd-key-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("key");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let refusal = || error::render(&read(&path).unwrap_err()).replace(&*path.to_string_lossy(), "KEY");

        let missing = "failed to read key file KEY: No such file or directory (os error 2)\n  hint: `(umask 077; wg genkey > KEY)` makes a private key, `wg genpsk` a preshared one";
        assert_eq!(refusal(), missing);
        for mode in [0o600, 0o400, 0o640] {
            write(&format!("{TEXT}\n"), mode);
            assert!(read(&path).is_ok(), "{mode:o}");
        }
        write(TEXT, 0o604);
        let open =
            "key file KEY is open to others than root (mode 0604)\n  hint: `chmod 600 KEY`; who has read the key since can still use it";
        assert_eq!(refusal(), open);
        for mode in [0o602, 0o644, 0o666] {
            write(TEXT, mode);
            assert!(read(&path).is_err(), "{mode:o}");
        }
        for text in ["", "nothing", &TEXT.repeat(2), &TEXT[1..], &" ".repeat(2000)] {
            write(text, 0o600);
            assert_eq!(refusal(), "KEY has no key in it: 44 characters of base64, as `wg genkey` prints them");
        }
        std::fs::remove_dir_all(&directory).unwrap();
        let credential = read(Path::new("/run/credentials/netns@no-such.service/vpn.key")).unwrap_err();
        assert!(
            error::render(&credential)
                .contains("hint: systemd gives it to netns@no-such.service when that starts, from /etc/credstore/vpn.key,")
        );
    }
}
