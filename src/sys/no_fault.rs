//! What takes the place of `fault.rs` where there are no faults on purpose: every call is simply made.

use std::{fmt::Arguments, time::Duration};

pub use std::fs;

pub fn look<T, E>(_: Arguments<'_>, look: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    look()
}

pub fn change<T, E>(_: Arguments<'_>, change: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    change()
}

pub fn question<T, E>(_: Arguments<'_>, question: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    question()
}

pub fn batch<E>(bytes: &mut [u8], send: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<Option<(u32, rustix::io::Errno)>, E> {
    send(bytes).map(|()| None)
}

pub fn disturbs() -> bool {
    false
}

pub async fn answer<T>(
    _: bool,
    _: &str,
    limit: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<zbus::Result<T>, tokio::time::error::Elapsed> {
    tokio::time::timeout(limit, call).await
}
