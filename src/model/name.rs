//! Names that the kernel, systemd-networkd and systemd take, checked once where they enter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Prefixes of link names that files shipped with systemd match (`80-container-ve.network` and its neighbours): networkd would
/// give such a link an address, a DHCP server and masquerading.
pub const RESERVED_PREFIXES: [&str; 5] = ["ve-", "vb-", "vz-", "vt-", "ns-"];

/// Longest name in bytes: `IFNAMSIZ` (16) less the terminating NUL. Namespaces keep to it too, so that names derived from them do.
const MAX_BYTES: usize = 15;

/// Why a name is refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

fn check(what: &str, name: &str) -> Result<(), NameError> {
    let fail = |why: String| Err(NameError(why));
    if name.is_empty() {
        return fail(format!("a {what} name cannot be empty"));
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
        return fail(format!("a {what} name has only letters, digits, '.', '_' and '-', not {bad:?}"));
    }
    if name.len() > MAX_BYTES {
        return fail(format!("a {what} name has at most {MAX_BYTES} bytes, this one has {}", name.len()));
    }
    if name.starts_with(['-', '.']) {
        return fail(format!("a {what} name does not begin with '-' or '.'"));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name; the error says what is allowed.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<String, NameError> = $parse;
                check(name).map(Self)
            }

            /// Shows the name as it stands in files and messages.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type! {
    /// The name of a network namespace: `mail` in `[namespace.mail]`, `/run/netns/mail` and `netns@mail.service`.
    NetnsName,
    |name| check("namespace", name).map(|()| name.to_owned())
}

name_type! {
    /// The name of a link that exists or may be created: `eth0`, `br-lan`. At most 15 bytes, as in the kernel.
    LinkName,
    |name| {
        check("link", name)?;
        if matches!(name, "all" | "default" | "lo") {
            return Err(NameError(format!("'{name}' means something else to the kernel, it cannot be a link's name")));
        }
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError("a link name of digits alone is taken for an index by networkd".to_owned()));
        }
        Ok(name.to_owned())
    }
}

impl LinkName {
    /// The loopback link, which every namespace has and no configuration names.
    #[must_use]
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// Checks the name of a link that we create: as [`Self::parse`], and outside the prefixes that systemd's own files match.
    pub fn parse_ours(name: &str) -> Result<Self, NameError> {
        let parsed = Self::parse(name)?;
        match RESERVED_PREFIXES.iter().find(|p| name.starts_with(**p)) {
            Some(p) => Err(NameError(format!(
                "names that begin with '{p}' are configured by systemd's own .network files (reserved: {})",
                RESERVED_PREFIXES.join(" ")
            ))),
            None => Ok(parsed),
        }
    }
}

name_type! {
    /// The name of a unit that runs in a namespace: `postfix.service`, `foo@.service`, `ssh.socket`.
    UnitName,
    |name| {
        // systemd.unit(5): the characters of a unit name; '\' is left out, nothing that is escaped runs in a namespace
        let full = if name.contains('.') && (name.ends_with(".service") || name.ends_with(".socket")) {
            name.to_owned()
        } else {
            let other = ["mount", "automount", "swap", "target", "path", "timer", "slice", "scope", "device"];
            if let Some((_, suffix)) = name.rsplit_once('.').filter(|(_, s)| other.contains(s)) {
                return Err(NameError(format!("a .{suffix} unit has no network namespace; .service and .socket units have")));
            }
            format!("{name}.service")
        };
        if let Some(bad) = full.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-' | ':' | '@')) {
            return Err(NameError(format!("a unit name has only letters, digits, '.', '_', '-', ':' and '@', not {bad:?}")));
        }
        if full.len() > 255 {
            return Err(NameError(format!("a unit name has at most 255 bytes, this one has {}", full.len())));
        }
        let stem = full.rsplit_once('.').map_or("", |(stem, _)| stem);
        if stem.is_empty() || stem.starts_with(['@', '.']) {
            return Err(NameError("a unit has a name before its suffix".to_owned()));
        }
        if full.starts_with("netns@") || full.starts_with("netns-hold@") {
            return Err(NameError(format!("'{full}' makes the namespace, it cannot run inside one")));
        }
        if stem == "systemd-networkd" {
            // netns@ comes after it: a cycle, which systemd resolves at boot by not starting it
            return Err(NameError(format!("'{full}' makes the host's links, which every namespace waits for")));
        }
        Ok(full)
    }
}

impl UnitName {
    /// Tells whether this is a `.socket` unit (its settings stand in `[Socket]`).
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.0.ends_with(".socket")
    }

    /// Gives the socket unit that starts a service unless the socket says otherwise: `foo.socket` of `foo.service`, and with
    /// `Accept=yes` of `foo@.service`.
    #[must_use]
    pub fn socket(&self) -> Option<Self> {
        let stem = self.0.strip_suffix(".service")?;
        Some(Self(format!("{}.socket", stem.strip_suffix('@').unwrap_or(stem))))
    }

    /// Gives the template of the services that a socket with `Accept=yes` starts: `foo@.service` of `foo.socket`.
    #[must_use]
    pub fn accepted(&self) -> Option<Self> {
        Some(Self(format!("{}@.service", self.0.strip_suffix(".socket")?)))
    }

    /// Gives the template of an instance: `foo@.service` of `foo@a.service`. Its drop-ins count for the instance too.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        let (stem, rest) = self.0.split_once('@')?;
        let (instance, suffix) = rest.rsplit_once('.')?;
        (!instance.is_empty()).then(|| Self(format!("{stem}@.{suffix}")))
    }

    /// Tells whether this is a template (`foo@.service`), which is never itself loaded.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.0.contains("@.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_follow_kernel_and_networkd() {
        for good in ["eth0", "br-lan", "eno1.20", "a", "abcdefghijklmno"] {
            assert_eq!(LinkName::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "a link name cannot be empty"),
            ("abcdefghijklmnop", "a link name has at most 15 bytes, this one has 16"),
            ("a b", "a link name has only letters, digits, '.', '_' and '-', not ' '"),
            ("veth%d", "a link name has only letters, digits, '.', '_' and '-', not '%'"),
            ("a\nb", "a link name has only letters, digits, '.', '_' and '-', not '\\n'"),
            ("lo", "'lo' means something else to the kernel, it cannot be a link's name"),
            ("..", "a link name does not begin with '-' or '.'"),
            ("12", "a link name of digits alone is taken for an index by networkd"),
        ] {
            assert_eq!(LinkName::parse(bad).unwrap_err().to_string(), why);
        }
        assert_eq!(
            LinkName::parse_ours("ve-x").unwrap_err().to_string(),
            "names that begin with 've-' are configured by systemd's own .network files (reserved: ve- vb- vz- vt- ns-)"
        );
    }

    #[test]
    fn unit_names_get_their_suffix() {
        assert_eq!(UnitName::parse("postfix").unwrap().as_str(), "postfix.service");
        assert_eq!(UnitName::parse("php8.2-fpm").unwrap().as_str(), "php8.2-fpm.service");
        assert_eq!(UnitName::parse("foo@.service").unwrap().as_str(), "foo@.service");
        assert!(UnitName::parse("foo@.service").unwrap().is_template());
        assert!(!UnitName::parse("foo@a.service").unwrap().is_template());
        assert!(UnitName::parse("ssh.socket").unwrap().is_socket());
        assert_eq!(
            UnitName::parse("var.mount").unwrap_err().to_string(),
            "a .mount unit has no network namespace; .service and .socket units have"
        );
        assert_eq!(
            UnitName::parse("../x").unwrap_err().to_string(),
            "a unit name has only letters, digits, '.', '_', '-', ':' and '@', not '/'"
        );
    }
}
