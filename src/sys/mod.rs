//! The only room with effects: files, namespaces, netlink, D-Bus. It knows `model` and changes, never `config`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bus;
pub mod enter;
#[cfg(debug_assertions)]
mod fault;
#[cfg(not(debug_assertions))]
#[path = "no_fault.rs"]
mod fault;
pub mod firewall;
pub mod fs;
pub mod host_end;
pub mod inside;
pub mod journal;
pub mod kernel;
pub mod key;
pub mod manifest;
pub mod netlink;
pub mod netns;
pub mod networkd;
pub mod nftables;
pub mod observe;
pub mod occupants;
pub mod processes;
pub mod program;
pub mod ready;
pub mod sysctl;
pub mod terminal;
pub mod wireguard;
