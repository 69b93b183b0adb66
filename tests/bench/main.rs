//! `make bench`: how long the product takes, beside the least that the kernel needs and beside what people use today.
//!
//! No test: it never fails by a time. Parts: `netns` (`up` and `down` in a throw-away host), `host` (`sync` and the others on a booted
//! one), `boot` (services at the start of a host). Results: tables on standard output, `results.json` and curves in the folder given.

mod report;

use std::path::PathBuf;

use report::Report;

/// What to measure, and with what.
pub struct Options {
    /// The product, as it is packaged.
    pub bin: PathBuf,
    /// Rounds of each job.
    pub rounds: u32,
    /// The numbers of namespaces.
    pub sizes: Vec<u32>,
}

fn main() {}
