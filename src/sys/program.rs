//! Programs of others, run to read what they print: they get a deadline, for a doctor must not hang with its patient.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// Runs a program and gives what it printed; an error if it fails, is not installed, or takes longer than `limit`.
pub fn read(program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    let failed = || format!("failed to run {program}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(failed)?;
    let mut text = Vec::new();
    let mut read = || -> Result<bool> {
        let mut pipe = child.stdout.take().with_context(failed)?;
        let mut buffer = [0; 8192];
        while wait_for(&pipe, deadline).with_context(failed)? {
            match pipe.read(&mut buffer).with_context(failed)? {
                0 => {
                    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).with_context(failed)?;
                    let end = pidfd_open(pid, PidfdFlags::empty()).with_context(failed)?;
                    return wait_for(&end, deadline).with_context(failed);
                }
                n => text.extend_from_slice(&buffer[..n]),
            }
        }
        Ok(false)
    };
    let ended = read();
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
    }
    let status = child.wait().with_context(failed)?;
    if !ended? {
        bail!("{program} did not end within {} s", limit.as_secs());
    }
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Waits until there is something to read; false if the deadline has passed.
fn wait_for(file: &impl std::os::fd::AsFd, deadline: Instant) -> rustix::io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(n) => return Ok(n > 0),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn output_and_ends() {
        assert_eq!(read("sh", &["-c", "echo a; exec >&-; :"], 10 * SECOND).unwrap(), "a\n");
        let long = read("sh", &["-c", "head -c 300000 /dev/zero"], 10 * SECOND).unwrap();
        assert_eq!(long.len(), 300_000);
        let error = |script: &str| read("sh", &["-c", script], SECOND / 2).unwrap_err().to_string();
        assert_eq!(error("echo a; exit 3"), "sh ended with exit status: 3");
        let start = Instant::now();
        assert_eq!(error("echo a; exec sleep 60"), "sh did not end within 0 s");
        assert_eq!(error("exec >&-; exec sleep 60"), "sh did not end within 0 s");
        assert!(start.elapsed() < 20 * SECOND);
        assert!(read("no-such-program", &[], SECOND).unwrap_err().to_string().contains("no-such-program"));
    }
}
