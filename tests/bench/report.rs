//! What was measured: one row for each program, job and size; as a table, as curves, for other programs.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

/// One thing that was measured again and again.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What is done: `up W1`, `sync, nothing to do`.
    pub job: String,
    /// Who does it.
    pub program: String,
    /// How many namespaces there are on the host.
    pub namespaces: u32,
    /// Milliseconds on the clock, one for each round.
    pub wall: Vec<f64>,
    /// Milliseconds of CPU, of the processes that were started.
    pub cpu: Vec<f64>,
    /// The most memory that one of the processes had, in KiB.
    pub memory: Option<u64>,
    pub execs: Option<u32>,
    pub system_calls: Option<u32>,
    /// Why it could not be measured.
    pub missing: Option<String>,
}

impl Row {
    pub fn new(job: &str, program: &str, namespaces: u32) -> Self {
        Self { job: job.to_owned(), program: program.to_owned(), namespaces, ..Self::default() }
    }

    pub fn add(&mut self, one: Measure) {
        self.wall.push(one.wall);
        self.cpu.push(one.cpu);
        self.memory = self.memory.max(one.memory);
    }
}

/// One run of a command.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Milliseconds.
    pub wall: f64,
    /// Milliseconds.
    pub cpu: f64,
    /// KiB; none where the work is done by others.
    pub memory: Option<u64>,
}

/// The middle, and where a quarter lies below and above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: usize| sorted.get((sorted.len().checked_sub(1)?) * part / 4).copied();
        Some(Self { low: at(1)?, median: at(2)?, high: at(3)? })
    }
}

/// All rows of a run, in order.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub date: String,
    pub machine: String,
    /// The product's version and commit.
    pub product: String,
    pub rows: Vec<Row>,
}

/// What others are compared with.
pub const FLOOR: &str = "floor";

impl Report {
    /// The rows as text, each job in a table of its own with ratios to the floor, where there is one.
    pub fn table(&self) -> String {
        let mut text = format!("{} · {} · {}\n", self.date, self.machine, self.product);
        let mut jobs: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !jobs.contains(&row.job.as_str()) {
                jobs.push(&row.job);
            }
        }
        let median = |samples: &[f64]| Spread::of(samples).map(|spread| spread.median);
        for job in jobs {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.job == job).collect();
            let floors: BTreeMap<u32, &Row> = rows.iter().filter(|row| row.program == FLOOR).map(|row| (row.namespaces, *row)).collect();
            let _ = write!(
                text,
                "\n### {job}\n\n| | namespaces | wall ms | (quartiles) | to floor | CPU ms | to floor | peak MiB | execs | system calls |\n"
            );
            text.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
            for row in rows {
                let Some(wall) = Spread::of(&row.wall) else {
                    let _ = writeln!(
                        text,
                        "| {} | {} | {} | | | | | | | |",
                        row.program,
                        row.namespaces,
                        row.missing.as_deref().unwrap_or("not measured")
                    );
                    continue;
                };
                let floor = floors.get(&row.namespaces);
                let ratio = |of: Option<f64>, to: Option<f64>| {
                    of.zip(to).filter(|(_, to)| *to > 0.0).map_or_else(String::new, |(of, to)| format!("{:.2}", of / to))
                };
                let (cpu, memory) = (median(&row.cpu), row.memory.map(|kib| kib as f64 / 1024.0));
                let number = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.2} | {:.2}–{:.2} | {} | {} | {} | {} | {} | {} |",
                    row.program,
                    row.namespaces,
                    wall.median,
                    wall.low,
                    wall.high,
                    ratio(Some(wall.median), floor.and_then(|floor| median(&floor.wall))),
                    cpu.map_or_else(String::new, |cpu| format!("{cpu:.2}")),
                    ratio(cpu, floor.and_then(|floor| median(&floor.cpu))),
                    memory.map_or_else(String::new, |mib| format!("{mib:.1}")),
                    number(row.execs),
                    number(row.system_calls),
                );
            }
        }
        text
    }
}
