//! netns-networkd: IP addresses of their own for plain systemd services.

pub mod config;
pub mod derive;
pub mod desired;
pub mod diff;
pub mod error;
pub mod model;
pub mod reconcile;
pub mod render;
pub mod sys;
