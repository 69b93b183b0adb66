//! What `doctor` makes of facts: each folder under tests/cases/doctor has what is known of a host and what is said of it. A folder is
//! named after the check that it is about, or `good-…` where there is nothing to say.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use netns_networkd::{
    doctor::{CHECKS, Diagnosis, Facts, examine},
    report::Document,
    show::{Paper, doctor},
};

use crate::common::{Case, REPO, cases, schema};
use crate::trials;

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![every_check_has_a_case];
    trials.extend(cases("doctor", examines));
    trials
}

const PIPE: Paper = Paper { width: None, color: false, unicode: true };

fn examines(case: &Case) {
    let facts: Facts = toml::from_str(&case.read("facts.toml")).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let findings = examine(&facts);
    let checks: BTreeSet<&str> = findings.iter().map(|finding| finding.check.as_str()).collect();
    let about = case.name.split('.').next().unwrap();
    if case.name.starts_with("good-") {
        assert!(findings.is_empty(), "nothing is wrong here, and yet: {findings:#?}");
        return;
    }
    assert_eq!(checks, BTreeSet::from([about]), "the case is about one check alone: {findings:#?}");
    for finding in &findings {
        let texts = [&finding.found, &finding.why, &finding.remedy];
        assert!(texts.iter().all(|text| !text.is_empty() && !text.ends_with('.') && !text.contains("  `")), "{finding:#?}");
        assert!(texts.iter().all(|text| text.matches('`').count() % 2 == 0), "commands are in pairs of backquotes: {finding:#?}");
    }
    let diagnosis = Diagnosis { ok: false, checks: CHECKS.len(), findings, not_seen: vec!["the rest".to_owned()] };
    schema::conforms("doctor", &serde_json::to_string(&Document::new(diagnosis.clone())).unwrap());
    let text = doctor(&diagnosis, PIPE);
    let said = text.split_once("\n\n").unwrap().1.rsplit_once("\n\n").unwrap().0;
    case.expect("expected.txt", &format!("{said}\n"));
    let narrow = doctor(&diagnosis, Paper { width: Some(60), ..PIPE });
    assert_eq!(narrow.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>(), "nothing is cut");
}

fn every_check_has_a_case() {
    let folders = std::fs::read_dir(format!("{REPO}/tests/cases/doctor")).unwrap();
    let names: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let about: BTreeSet<&str> =
        names.iter().filter(|name| !name.starts_with("good-")).map(|name| name.split('.').next().unwrap()).collect();
    assert_eq!(about, CHECKS.iter().map(|(name, _)| *name).collect());
}
