//! WireGuard tunnels. Secrets are never in here: only the names of the files that have them.

use std::{fmt, net::SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where systemd puts the credentials of a unit that runs: its `$CREDENTIALS_DIRECTORY` is a folder here.
pub const CREDENTIALS: &str = "/run/credentials";

/// A tunnel and its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wireguard {
    /// Absolute path of the file with the private key, or the name of a credential (systemd.exec(5)).
    pub private_key_file: String,
    /// UDP port on the host; none is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Mark of the tunnel's own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
}

impl Wireguard {
    /// Lists the files that the keys are in.
    pub fn key_files(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.private_key_file).chain(self.peers.iter().filter_map(|peer| peer.preshared_key_file.as_ref()))
    }

    /// The same, to change them.
    pub fn key_files_mut(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.private_key_file).chain(self.peers.iter_mut().filter_map(|peer| peer.preshared_key_file.as_mut()))
    }

    /// Lists the credentials that systemd is to give to the namespace's unit.
    pub fn credentials(&self) -> impl Iterator<Item = &String> {
        self.key_files().filter(|file| is_credential(file))
    }
}

/// Tells whether a key file is named as a credential of systemd's and not by its path.
#[must_use]
pub fn is_credential(file: &str) -> bool {
    !file.contains('/')
}

/// The other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    pub public_key: PublicKey,
    /// As `private_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between packets that keep the way open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<u16>,
}

/// A public key, written in base64 as wg(8) does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        decode_key(&text).map(Self)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// Why a text is no key. It does not repeat the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a WireGuard key is 44 characters of base64, as `wg genkey` and `wg pubkey` print it")
    }
}

impl std::error::Error for KeyError {}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Reads a key of 32 bytes in base64.
pub fn decode_key(text: &str) -> Result<[u8; 32], KeyError> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43).ok_or(KeyError)?;
    let (mut key, mut bits, mut count, mut at) = ([0; 32], 0_u32, 0, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit).and_then(|n| u32::try_from(n).ok()).ok_or(KeyError)?;
        (bits, count) = ((bits << 6 | value) & 0xffff, count + 6);
        if count >= 8 {
            count -= 8;
            key[at] = (bits >> count & 0xff) as u8;
            at += 1;
        }
    }
    // the last digit has two bits beyond the key
    if bits.trailing_zeros() >= 2 { Ok(key) } else { Err(KeyError) }
}

fn encode_key(key: &[u8; 32]) -> String {
    let mut text = String::with_capacity(44);
    for three in key.chunks(3) {
        let group = three.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * n) & 63) as usize]));
        }
    }
    text + "="
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written() {
        let text = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        assert_eq!(PublicKey::try_from(text.to_owned()).unwrap().to_string(), text);
        let mut key = [0; 32];
        key[31] = 1;
        assert_eq!(decode_key(&encode_key(&key)), Ok(key));
        for bad in ["", "a", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml=", &"é".repeat(22)]
        {
            assert_eq!(decode_key(bad), Err(KeyError), "{bad}");
        }
    }
}
