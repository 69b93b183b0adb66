//! What a person should know of: what differs, what waits, what is left over.

use serde::{Deserialize, Serialize};

use crate::model::{NetnsName, UnitName};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    pub kind: DriftKind,
    /// The namespace that it is about; none for what is the host's own.
    pub netns: Option<NetnsName>,
    /// The path, link, unit or namespace.
    pub object: String,
    /// What would mend it, in the words of `sync`.
    pub change: String,
    /// `sync` leaves it alone: a file of somebody else, without `--force`; an address that a server has not given.
    pub left_alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftKind {
    File,
    Link,
    Unit,
    Netns,
    DhcpClient,
    /// An address that a server has not given yet.
    Lease,
    /// What an earlier `sync` has begun and not ended.
    Sync,
}

/// What waits for a restart that nobody has asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub netns: Option<NetnsName>,
    pub unit: Option<UnitName>,
    pub text: String,
}

/// Something of ours that no configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub kind: OrphanKind,
    /// Name or path.
    pub name: String,
    /// The namespace that it was for.
    pub netns: Option<NetnsName>,
    /// How it goes.
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanKind {
    Namespace,
    Record,
    Bridge,
    HostEnd,
    File,
}
