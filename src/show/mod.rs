//! Text for people: a report -> lines. Pure: what it is printed on comes in as [`Paper`].
//!
//! Names, addresses and commands are words, and a word is never cut: what is too long for a line goes on in the next one.

mod doctor;
mod list;
pub(crate) mod paper;
pub(crate) mod status;
pub(crate) mod summary;

pub use doctor::doctor;
pub use list::list;
pub use paper::Paper;
pub use status::status;
