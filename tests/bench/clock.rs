//! The clock: floor.c started in a throw-away host, which runs the commands that it is given and says what they took.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::common::Shell;
use crate::report::Measure;

/// Compiles floor.c. `gcc` is what Rust links with anyway.
pub fn build_floor(folder: &Path) -> PathBuf {
    let floor = folder.join("floor");
    let status = Command::new("gcc").args(["-O2", "-Wall", "-static", "tests/bench/floor.c", "-o"]).arg(&floor).status();
    assert!(status.expect("start gcc").success(), "gcc cannot compile tests/bench/floor.c: is libc6-dev installed?");
    floor
}

pub struct Clock {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Clock {
    pub fn start(host: &impl Shell, floor: &Path) -> Self {
        let enter = host.enter();
        let mut child = Command::new(&enter[0])
            .args(&enter[1..])
            .arg(floor)
            .arg("clock")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the clock");
        let (commands, answers) = (child.stdin.take().expect("stdin"), BufReader::new(child.stdout.take().expect("stdout")));
        Self { child, commands, answers }
    }

    /// Runs commands one after the other as one thing; they have to succeed.
    pub fn time(&mut self, commands: &[Vec<String>]) -> Measure {
        let line = commands.iter().map(|words| words.join("\t")).collect::<Vec<_>>().join("\t;\t");
        writeln!(self.commands, "{line}").expect("write to the clock");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("read from the clock");
        let numbers: Vec<u64> = answer.split_whitespace().map(|word| word.parse().expect("the clock gives numbers")).collect();
        let [wall, cpu, memory, code] = numbers[..] else { panic!("the clock says {answer:?} of {line}") };
        assert_eq!(code, 0, "{line}");
        #[allow(clippy::cast_precision_loss)]
        Measure { wall: wall as f64 / 1e6, cpu: cpu as f64 / 1e3, memory: Some(memory) }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
