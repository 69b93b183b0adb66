//! The pipeline: observe, diff, plan, apply, verify.

mod apply;
mod checks;
pub mod dhcp;
pub mod host;
mod keys;
pub mod netns;
pub mod prune;
pub mod rollback;
mod sockets;
pub mod sync;
mod users;
