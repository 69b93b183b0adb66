//! A throw-away host without systemd, for what only talks to the kernel: namespaces around a few commands.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{BIN, Shell, assert_root};

const SANDBOX_SH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/sandbox.sh");

/// Its own network, mounts, processes and hostname; a private /run and /var/lib, and an /etc that can be written.
///
/// The product is in its PATH. There is no bus, no networkd and no systemd. /tmp is the machine's. Whatever is left
/// inside ends with the value, or with the runner.
pub struct Sandbox {
    keeper: Child,
    pid: u32,
}

impl Sandbox {
    #[track_caller]
    pub fn new() -> Self {
        assert_root();
        let mut keeper = Command::new("unshare")
            .args(["-n", "-m", "-p", "-u", "-i", "-f", "--kill-child", SANDBOX_SH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare(1)");
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("read from sandbox.sh");
        let pid = line.trim().parse().expect("sandbox.sh prints its PID; what went wrong is on standard error");
        Self { keeper, pid }
    }
}

impl Shell for Sandbox {
    fn enter(&self) -> Vec<String> {
        let bin = Path::new(BIN).parent().expect("the binary is in a folder").display();
        let path = format!("PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin");
        let pid = self.pid.to_string();
        ["nsenter", "-t", &pid, "-a", "--", "env", "-i", &path, "HOME=/root", "LANG=C.UTF-8"].map(ToOwned::to_owned).to_vec()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
