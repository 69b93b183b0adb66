//! The pipeline: observe, diff, plan, apply, verify.

mod apply;
mod checks;
pub mod dhcp;
pub mod doctor;
pub mod exec;
mod former;
pub mod host;
pub mod import;
mod keep;
mod keys;
pub mod netns;
mod networkd;
pub mod prune;
pub mod rollback;
mod sockets;
pub mod status;
pub mod sync;
mod uplinks;
mod users;
