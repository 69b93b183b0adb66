//! What `sync` says about the files that WireGuard's keys are in.

use super::sync::Run;
use crate::{
    error,
    model::{NetnsName, Wireguard, is_credential},
    sys::{
        fs,
        key::{self, Stored},
    },
};

impl Run<'_> {
    /// Lists the key files of the configuration, each with the place in the configuration; those of an image are below its root.
    fn key_files(&self) -> impl Iterator<Item = (&str, &NetnsName, &String)> {
        self.config.namespaces.iter().flat_map(|(name, namespace)| {
            let tunnels = namespace.netns.links.values().filter_map(|link| link.kind.wireguard());
            tunnels.flat_map(Wireguard::key_files).map(move |file| (namespace.netns.source.as_str(), name, file))
        })
    }

    /// Reads the WireGuard keys that can be read from here.
    pub(super) fn bad_keys(&self) -> Vec<String> {
        let root = &self.options.root;
        let mut reasons = Vec::new();
        for (source, _, file) in self.key_files() {
            let stored = if is_credential(file) { key::stored(root, file) } else { Stored::Plain(root.at(file)) };
            let Stored::Plain(path) = stored else { continue };
            // an image may get its keys at its first boot
            if !root.is_host() && !fs::exists(&path) {
                continue;
            }
            if let Err(error) = key::read(&path) {
                let hidden = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
                if fs::is_root() || !hidden {
                    reasons.push(format!("{source}: {}", error::render(&error)));
                }
            }
        }
        reasons
    }

    /// Names the keys that a namespace cannot come up without, and that somebody may still put there.
    pub(super) fn missing_keys(&self) -> Vec<String> {
        let root = &self.options.root;
        let missing = self.key_files().filter_map(|(_, netns, file)| {
            let what = if is_credential(file) {
                let text = format!("credential '{file}' is neither in /etc/credstore nor, encrypted, in /etc/credstore.encrypted");
                Some(text).filter(|_| key::stored(root, file) == Stored::Nowhere)
            } else {
                Some(format!("key file {file} is not there")).filter(|_| !fs::exists(&root.at(file)))
            };
            Some(format!("{}: netns '{netns}' cannot come up until it is", what?))
        });
        missing.collect()
    }
}
