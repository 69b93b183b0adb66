//! What a host and its namespaces look like: one [`State`] type for what is desired and for what is observed.
//!
//! Only std, serde and ipnet here; every room may use it. No defaults of the configuration (see `config`), no effects.

mod address;
mod mac;
mod name;
mod netns;
mod state;

pub use address::{Address, Dad, Route, Scope};
pub use mac::{Mac, MacError};
pub use name::{LinkName, NameError, NetnsName, RESERVED_PREFIXES, UnitName};
pub use netns::{HostEnd, Link, Netns};
pub use state::{File, HostLink, Place, Provenance, State, Unit};
