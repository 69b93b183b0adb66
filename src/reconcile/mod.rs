//! The pipeline: observe, diff, plan, apply, verify.

pub mod host;
pub mod netns;
pub mod sync;
