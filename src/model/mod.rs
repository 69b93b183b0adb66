//! What a host and its namespaces look like: one [`State`] type for what is desired and for what is observed.
//!
//! Only std, serde and ipnet here; every room may use it. No defaults of the configuration (see `config`), no effects.

mod address;
mod mac;
mod name;
mod netns;
mod seen;
mod state;
mod wireguard;

pub use address::{Address, Dad, Fwmark, MAIN_TABLE, Route, RouteKey, RouteType, Rule, Scope};
pub use mac::{Mac, MacError};
pub use name::{LinkName, NameError, NetnsName, RESERVED_PREFIXES, UnitName};
pub use netns::{Drift, HostEnd, Kind, Link, Need, Netns, Port, PortVlans, Ruleset, Subject, ranges};
pub use seen::{Maker, Seen, SeenAddress, SeenLink, SeenRoute};
pub use state::{File, HostLink, Place, Provenance, State, Unit, joined};
pub use wireguard::{CREDENTIALS, KeyError, Peer, PublicKey, Wireguard, decode_key, is_credential};
