//! The only room with effects: files, namespaces, netlink, D-Bus. It knows `model` and changes, never `config`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bus;
pub mod enter;
pub mod fs;
pub mod host_end;
pub mod inside;
pub mod key;
pub mod manifest;
pub mod netlink;
pub mod netns;
pub mod nftables;
pub mod observe;
pub mod ready;
pub mod sysctl;
pub mod terminal;
pub mod wireguard;
