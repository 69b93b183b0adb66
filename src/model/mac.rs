//! Ethernet addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A unicast Ethernet address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// Why a MAC address is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacError(&'static str);

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        const FORM: MacError = MacError("a MAC address is six pairs of hexadecimal digits: 02:00:5e:10:00:01");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(FORM)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| FORM)?;
        }
        if parts.next().is_some() {
            return Err(FORM);
        }
        if bytes[0] & 1 == 1 {
            return Err(MacError("this is a multicast address (the first byte is odd); a link takes a unicast one"));
        }
        if bytes == [0; 6] {
            return Err(MacError("a link cannot have the MAC address 00:00:00:00:00:00"));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;
    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        assert_eq!("02-AB-00-00-00-01".parse::<Mac>().unwrap().to_string(), "02:ab:00:00:00:01");
        let refused = |t: &str| t.parse::<Mac>().unwrap_err().to_string();
        assert_eq!(refused("02:ab"), "a MAC address is six pairs of hexadecimal digits: 02:00:5e:10:00:01");
        assert_eq!(refused("02:ab:00:00:00:01:02"), "a MAC address is six pairs of hexadecimal digits: 02:00:5e:10:00:01");
        assert_eq!(refused("01:00:00:00:00:00"), "this is a multicast address (the first byte is odd); a link takes a unicast one");
    }
}
