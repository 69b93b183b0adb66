//! Tests made of data: each folder under tests/cases/KIND is one, so adding a case adds files, not Rust.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Trial;
use similar::TextDiff;

use super::{REPO, in_ci, trial};

/// One folder of files.
pub struct Case {
    pub name: String,
    pub dir: PathBuf,
}

/// Returns a trial named `KIND::FOLDER` for each folder under tests/cases/KIND.
pub fn cases(kind: &'static str, test: fn(&Case)) -> Vec<Trial> {
    case_list(kind).into_iter().map(|case| trial(&format!("{kind}::{}", case.name), move || test(&case))).collect()
}

/// Returns the folders under tests/cases/KIND.
pub fn case_list(kind: &str) -> Vec<Case> {
    let dir = PathBuf::from(REPO).join("tests/cases").join(kind);
    let mut cases: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("list the cases"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| Case { name: entry.file_name().into_string().expect("a case's name is UTF-8"), dir: entry.path() })
        .collect();
    assert!(!cases.is_empty(), "no cases under {}", dir.display());
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        let path = self.path(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Panics with a diff unless the file holds `actual`; `UPDATE_EXPECT=1` writes it instead.
    #[track_caller]
    pub fn expect(&self, file: &str, actual: &str) {
        let path = self.path(file);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            assert!(!in_ci(), "UPDATE_EXPECT is set in CI: nothing would be tested");
            fs::write(&path, actual).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else if !path.exists() {
            panic!("{} is missing; UPDATE_EXPECT=1 writes it, as:\n{actual}", path.display());
        } else {
            let expected = self.read(file);
            assert!(expected == actual, "{} (UPDATE_EXPECT=1 makes it what it is now):\n{}", path.display(), diff(&expected, actual));
        }
    }
}

/// Returns a unified diff.
pub fn diff(expected: &str, actual: &str) -> String {
    TextDiff::from_lines(expected, actual).unified_diff().header("expected", "actual").to_string()
}
