//! Ten faults that people meet, planted on a booted host: what they look at names the cause, as the snapshots in tests/cases/causes
//! show, and what it says mends it. A case has what is planted, what a person runs then, the words that give it away, and the cure.

use std::time::Duration;

use libtest_mimic::Trial;
use serde::Deserialize;

use crate::common::{Case, Lab, Shell, Suite, case_list, trial};

pub fn trials() -> Vec<Trial> {
    let all = |suite| {
        case_list("causes").into_iter().map(move |case| trial(&format!("host_causes::{}::{suite}", case.name), move || finds(suite, &case)))
    };
    Suite::all().into_iter().flat_map(all).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    plant: String,
    looks: Vec<String>,
    cause: String,
    mend: String,
}

const CONFIG: &str = r#"[bridge.br-lan]
addresses = ["10.66.0.1/24", "fd42::1/64"]

[namespace.web]
services = ["t-web"]
[namespace.web.interface.eth0]
bridge = "br-lan"
addresses = ["10.66.0.2/24", "fd42::2/64"]
"#;

fn finds(suite: Suite, case: &Case) {
    let fault: Fault = toml::from_str(&case.read("case.toml")).unwrap();
    let lab = Lab::new(suite);
    lab.services(&[("t-web.service", "8000"), ("t-late.service", "8001")]);
    lab.config(CONFIG);
    lab.write_file("/run/good.toml", CONFIG);
    lab.sync_changes(&[]);
    lab.start(&["t-web"]);
    let well = || {
        lab.assert_answers("10.66.0.2", "8000");
        lab.sync_nothing();
        let _ = lab.wait_until("the doctor finds nothing", Duration::from_secs(10), "netns-networkd doctor");
    };
    well();

    let _ = lab.sh(&format!("date +%s.%N | sed s/^/@/ >/run/planted; {}", fault.plant)).ok();
    let mut said = String::new();
    for look in &fault.looks {
        let output = lab.sh(&format!("{look} 2>&1"));
        let command = look.split(" | ").next().unwrap_or(look).replace(" --since=\"$(cat /run/planted)\"", "");
        said += &format!("$ {command}\n{}", output.stdout);
    }
    let _ = lab.sh(&fault.mend).ok();
    well();
    assert!(said.contains(&fault.cause), "{}: '{}' is not in\n{said}", case.name, fault.cause);
    case.expect("said.txt", &said);
}
