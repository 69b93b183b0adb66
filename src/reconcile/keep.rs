//! Files that stay, although the configuration has no use for them any more, as long as something that runs has.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{host, netns, sync::Run};
use crate::{
    desired::{self, NETNS_ETC, SYSTEMD, networkd_path},
    model::{Link, NetnsName, State},
};

impl Run<'_> {
    /// Keeps the files of a namespace that runs although the configuration no longer names it, and of its bridges: its services
    /// still need them.
    pub(super) fn keep_files(&self, name: &NetnsName, desired: &mut State) -> Result<()> {
        let mut paths = vec![
            desired::record_path(name),
            desired::dhcp_path(name),
            Path::new(SYSTEMD).join(format!("netns@{name}.service.d/50-netns-networkd.conf")),
        ];
        let applied = netns::read_applied(name)?.or(netns::read_record(name)?).unwrap_or_default();
        for link in applied.links.values() {
            paths.extend(self.files_of(link)?);
        }
        let etc = Path::new(NETNS_ETC).join(name.as_str());
        paths.extend(self.manifest.files.keys().filter(|path| path.starts_with(&etc)).cloned());
        self.keep(paths, desired)
    }

    /// Keeps the files of links that are to be made anew, until they are: networkd takes its addresses from a link without a file.
    pub(super) fn keep_files_of_old_links(&self, name: &NetnsName, desired: &mut State) -> Result<()> {
        let applied = netns::read_applied(name)?.unwrap_or_default();
        let wanted = desired.netns.get(name).map(|netns| netns.links.clone()).unwrap_or_default();
        for (link_name, link) in applied.links {
            if wanted.get(&link_name).is_some_and(|after| !after.kind.is_same_link(&link.kind)) {
                self.keep(self.files_of(&link)?, desired)?;
            }
        }
        Ok(())
    }

    /// Lists networkd's files for the host end of a link and the bridge that it is on.
    fn files_of(&self, link: &Link) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        paths.extend(link.kind.host_end().map(|end| networkd_path("port", &end.name, "network")));
        if let Some(bridge) = link.kind.bridge() {
            paths.extend(["netdev", "network"].map(|suffix| networkd_path("bridge", bridge, suffix)));
            paths.extend(host::uplink_files(&self.options.root, &self.manifest, bridge)?);
        }
        Ok(paths)
    }

    /// Takes files of ours as they are for desired, unless others are.
    fn keep(&self, paths: Vec<PathBuf>, desired: &mut State) -> Result<()> {
        for path in paths.into_iter().filter(|path| self.manifest.files.contains_key(path)) {
            if let Some(file) = self.manifest.look_at(&self.options.root, &path)? {
                desired.files.entry(path).or_insert(file);
            }
        }
        Ok(())
    }
}
