//! What a report is made of: both sides of the diff, its plan, and what else was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Configuration, Orphan};
use crate::{
    model::{LinkName, Netns, NetnsName, Seen, SeenLink, State, UnitName},
    plan::Plan,
};

/// What was seen, and what should be.
#[derive(Debug)]
pub struct Facts<'a> {
    pub configuration: Configuration,
    pub observed: &'a State,
    pub desired: &'a State,
    pub plan: &'a Plan,
    /// The files that this tool has written.
    pub written: &'a BTreeSet<PathBuf>,
    /// Every namespace that somebody has heard of.
    pub netns: BTreeMap<NetnsName, NetnsFacts<'a>>,
    /// The namespace that each unit of the configuration is to run in.
    pub listed: &'a BTreeMap<UnitName, NetnsName>,
    /// Units by name, as far as systemd could be asked.
    pub units: BTreeMap<String, UnitFacts>,
    /// Where the table of each bridge is.
    pub bridge_sources: BTreeMap<LinkName, String>,
    /// The links of the host.
    pub host: &'a [SeenLink],
    /// What of ours was found that is in no record of ours.
    pub strays: Vec<Orphan>,
    pub networkd_running: Option<bool>,
    pub warnings: Vec<String>,
    pub not_seen: Vec<String>,
}

/// One namespace.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each was seen by itself")]
pub struct NetnsFacts<'a> {
    pub configured: bool,
    pub description: Option<String>,
    /// What is to be in it: by the configuration, else by its record.
    pub goal: Option<&'a Netns>,
    /// What of ours is in it.
    pub now: Option<&'a Netns>,
    /// All that is in it; none if it was not looked at.
    pub seen: Option<&'a Seen>,
    /// `ActiveState` of `netns@NAME.service`.
    pub active_state: Option<String>,
    /// A namespace of the name exists.
    pub there: bool,
    /// This tool has made it, or was about to.
    pub ours: bool,
    /// `up` or `down` is at work on it.
    pub busy: bool,
    /// Interfaces that get addresses by DHCP.
    pub dhcp: BTreeSet<String>,
    /// Addresses that its client has not got.
    pub no_lease: Vec<String>,
    /// The units that are bound to it without being listed.
    pub bound: Vec<String>,
}

/// One unit, as systemd has it.
#[derive(Debug, Clone, Default)]
pub struct UnitFacts {
    pub load_state: String,
    pub active_state: String,
    pub sub_state: String,
    pub main_pid: Option<u32>,
    pub pids: Vec<u32>,
    /// Where it was seen to run, if it is not among those that are compared.
    pub runs_in: Option<crate::model::Place>,
    /// Its processes, if it has any, could be looked at.
    pub place_seen: bool,
}
