//! netns-networkd: IP addresses of their own for plain systemd services.
//!
//! Data flows one way (docs/architecture.md has the whole picture):
//!
//! ```text
//! TOML -> config -> desired --+
//!                             +-- diff -> plan -> reconcile (apply) -> observe -> diff again: must be empty
//! kernel, files, units -------+
//! ```

pub mod cli;
pub mod commands;
pub mod config;
pub mod derive;
pub mod desired;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod graph;
pub mod import;
pub mod lease;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod render;
pub mod report;
pub mod show;
pub mod sys;
