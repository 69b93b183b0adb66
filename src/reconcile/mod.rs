//! The pipeline: observe, diff, plan, apply, verify.

pub mod netns;
