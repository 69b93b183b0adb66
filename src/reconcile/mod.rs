//! The pipeline: observe, diff, plan, apply, verify.

mod apply;
mod checks;
pub mod dhcp;
pub mod exec;
mod former;
pub mod host;
mod keys;
pub mod netns;
pub mod rollback;
mod sockets;
pub mod status;
pub mod sync;
