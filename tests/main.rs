//! The one test runner. Each behaviour has a file here with `pub fn trials() -> Vec<Trial>`, named in `main`.

// src keeps files, processes and the environment in one room; a test is all effects.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;
mod config;
mod diff;
mod docs;
mod doctor;
mod faults;
mod fuzz;
mod graph;
mod harness;
mod host_bad_input;
mod host_boot;
mod host_causes;
mod host_confirm;
mod host_dhcp;
mod host_dns;
mod host_docs;
mod host_doctor;
mod host_drift;
mod host_errors;
mod host_exec;
mod host_failures;
mod host_faults;
mod host_graph;
mod host_import;
mod host_keys;
mod host_live;
mod host_main;
mod host_many;
mod host_outside;
mod host_package;
mod host_prune;
mod host_published;
mod host_restart;
mod host_rollback;
mod host_sockets;
mod host_status;
mod host_sync;
mod host_units;
mod hostile;
mod import;
mod inside;
mod laws;
mod netns;
mod netns_change;
mod render;
mod report;
mod show;
mod vm_host;
mod vm_links;
mod vm_vlan;
mod vm_wireguard;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let behaviours: &[fn() -> Vec<Trial>] = &[
        config::trials,
        diff::trials,
        docs::trials,
        doctor::trials,
        faults::trials,
        fuzz::trials,
        graph::trials,
        harness::trials,
        host_bad_input::trials,
        host_boot::trials,
        host_causes::trials,
        host_confirm::trials,
        host_dhcp::trials,
        host_drift::trials,
        host_dns::trials,
        host_docs::trials,
        host_doctor::trials,
        host_errors::trials,
        host_exec::trials,
        host_failures::trials,
        host_keys::trials,
        host_graph::trials,
        host_import::trials,
        host_live::trials,
        host_faults::trials,
        host_main::trials,
        host_many::trials,
        host_outside::trials,
        host_package::trials,
        host_prune::trials,
        host_published::trials,
        host_restart::trials,
        host_rollback::trials,
        host_sockets::trials,
        host_status::trials,
        host_sync::trials,
        host_units::trials,
        hostile::trials,
        import::trials,
        inside::trials,
        laws::trials,
        netns::trials,
        netns_change::trials,
        render::trials,
        report::trials,
        show::trials,
    ];
    let of_the_vm: &[fn() -> Vec<Trial>] =
        &[host_docs::vm_trials, vm_host::trials, vm_links::trials, vm_vlan::trials, vm_wireguard::trials];
    let all = |behaviours: &[fn() -> Vec<Trial>]| behaviours.iter().flat_map(|trials| trials()).collect();

    common::keep_panics_of_trials();
    let mut arguments = Arguments::from_args();
    // host tests wait more than they compute
    arguments.test_threads.get_or_insert(6);
    let conclusion = libtest_mimic::run(&arguments, spread(all(of_the_vm), all(behaviours)));
    common::stop_all_hosts();
    conclusion.exit_code()
}

/// Puts trials that take turns evenly between the others, so that they do not wait for each other.
fn spread(turns: Vec<Trial>, others: Vec<Trial>) -> Vec<Trial> {
    let between = others.len() / turns.len().max(1);
    let mut others = others.into_iter();
    let mut all = Vec::new();
    for trial in turns {
        all.push(trial);
        all.extend(others.by_ref().take(between));
    }
    all.extend(others);
    all
}
