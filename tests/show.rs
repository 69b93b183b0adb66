//! A report in, text out: each folder under tests/cases/show has a `report.json`, the document of `status --json`, and the text that
//! a pipe and terminals of 80 and 40 columns get.

use std::fs;

use libtest_mimic::Trial;
use netns_networkd::{
    report::{Document, Report},
    show::{Paper, list, status},
};
use unicode_width::UnicodeWidthStr;

use crate::common::{Case, cases, schema};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![every_word_of_a_schema_is_in_a_case];
    trials.extend(cases("show", shows));
    trials
}

const PIPE: Paper = Paper { width: None, color: false, unicode: true };

fn read(case: &Case) -> Report {
    serde_json::from_str(&case.read("report.json")).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn shows(case: &Case) {
    let report = read(case);
    let document = serde_json::to_string(&Document::new(report.clone())).unwrap();
    schema::conforms("status", &document);
    schema::conforms("list", &serde_json::to_string(&Document::new(report.list())).unwrap());

    let both = |paper: Paper| status(&report, paper) + "\n---\n" + &list(&report.list(), paper);
    let plain = both(PIPE);
    case.expect("pipe.txt", &plain);
    case.expect("80.txt", &both(Paper { width: Some(80), ..PIPE }));
    case.expect("40.txt", &both(Paper { width: Some(40), ..PIPE }));

    let words: Vec<&str> = plain.split_whitespace().collect();
    for width in 1..150 {
        let narrow = both(Paper { width: Some(width), ..PIPE });
        assert_eq!(narrow.split_whitespace().collect::<Vec<_>>(), words, "nothing is cut or left out at {width} columns");
        let long = |line: &&str| line.width() > width && line.trim_start().contains(' ');
        // what stays together may have spaces in it: `PID 813`
        let too_long: Vec<&str> = narrow.lines().filter(long).filter(|line| width >= 40 && !line.contains("PID ")).collect();
        assert!(too_long.is_empty(), "lines over {width} columns: {too_long:#?}");
    }
    let colored = both(Paper { color: true, ..PIPE });
    assert_eq!(without_colors(&colored), plain, "colours change nothing else");
    let ascii = status(&report, Paper { unicode: false, ..PIPE });
    assert!(!ascii.contains(['●', '○', '×']), "{ascii}");
    assert!(!plain.lines().any(|line| line.ends_with(' ')), "{plain}");
}

pub fn without_colors(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

/// Or a state could have a text that nobody has seen.
fn every_word_of_a_schema_is_in_a_case() {
    let mut all = String::new();
    for case in fs::read_dir(format!("{}/tests/cases/show", crate::common::REPO)).unwrap() {
        all += &fs::read_to_string(case.unwrap().path().join("report.json")).unwrap();
    }
    schema::walk(&schema::schema("status"), "$", &mut |path, schema| {
        for word in schema.get("enum").and_then(|list| list.as_array()).into_iter().flatten().filter_map(|word| word.as_str()) {
            // of routes and addresses, which are written as they are
            let is_plain =
                ["scope", "type"].contains(&path.rsplit('.').next().unwrap_or_default()) || path.ends_with(".configuration.state");
            assert!(is_plain || all.contains(&format!("\"{word}\"")), "{path}: no case has '{word}'");
        }
    });
}
