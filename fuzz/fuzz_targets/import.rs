//! `import` on the files of any host: no panic, and what it writes is TOML.
//!
//! A line `=== PATH` begins a file. `fuzz/seed.sh` makes the first inputs of the cases in tests/cases/import; then, with a nightly
//! compiler and cargo-fuzz: `cargo +nightly fuzz run import`.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use netns_networkd::{
    config::{SourceFile, parse},
    import::{CONFIG, Files, import},
};

fuzz_target!(|text: &str| {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut path = "/etc/network/interfaces".to_owned();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("=== ") {
            Some(name) => path = name.trim_end().to_owned(),
            None => files.entry(path.clone()).or_default().push_str(line),
        }
    }
    let import = import(&Files::new(files), CONFIG);
    for text in std::iter::once(import.namespaces).chain(import.bridges) {
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
        let _ = parse(&[SourceFile { path: "imported.toml".to_owned(), bytes: text.into_bytes() }]);
    }
});
