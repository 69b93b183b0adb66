//! What reads the words of others takes any bytes: the inputs that fuzzing has kept in tests/corpus, and damaged copies of them.
//!
//! The short run of fuzz/, which needs no nightly compiler. `NETNS_FUZZ_CASES=100000` makes it a long one.

#[path = "../fuzz/readers.rs"]
mod readers;

use std::{collections::BTreeMap, fs, path::Path};

use libtest_mimic::Trial;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config as Limits, TestRunner},
};

use crate::common::{REPO, trial};
use crate::import::all_cases;

/// Damaged inputs for each reader: a second or two.
const CASES: u32 = 1000;

pub fn trials() -> Vec<Trial> {
    readers::READERS.map(|(name, read)| trial(&format!("fuzz::{name}"), move || any_bytes_are_read(name, read))).into()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(REPO).join("tests/corpus").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut inputs: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    if name == "import" {
        let add = |all: String, (path, text): (&String, &String)| all + "=== " + path + "\n" + text;
        let host = |files: BTreeMap<String, String>| files.iter().fold(String::new(), add);
        inputs.extend(all_cases().into_iter().map(|files| host(files).into_bytes()));
    }
    assert!(inputs.len() >= 10, "{name} has no corpus");
    inputs
}

/// Words that mean something to one reader or another, and numbers at their ends.
const WORDS: [&[u8]; 31] = [
    b"ip ",
    b"netns ",
    b"exec ",
    b"link ",
    b"add ",
    b"type veth peer name ",
    b"via ",
    b"dev ",
    b"-n ",
    b"iface a inet static\n",
    b"\\\n",
    b"$(",
    b"${x:-",
    b"'",
    b"\"",
    b"source /etc/network/*\n",
    b"%i",
    b"/",
    b"0",
    b"[",
    b"]]",
    b"= ",
    b"\xc3\xa9",
    b"\xff",
    b"\x1b[2J",
    b"\0",
    b"\n",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\x03\x00",
    b"=== /etc/systemd/system/netns@.service\n",
];

/// How an input is damaged in one place: where, how much goes, what comes there, of another input how much.
type Damage = (Index, usize, Vec<u8>, (Index, Index, usize));

fn damaged(inputs: &[Vec<u8>], which: Index, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = inputs[which.index(inputs.len())].clone();
    for (at, cut, insert, (other, from, length)) in damages {
        let start = at.index(bytes.len() + 1);
        let end = (start + cut).min(bytes.len());
        let other = &inputs[other.index(inputs.len())];
        let piece = other.get(from.index(other.len() + 1)..).unwrap_or_default();
        bytes.splice(start..end, insert.iter().chain(&piece[..piece.len().min(*length)]).copied());
    }
    bytes
}

fn any_bytes_are_read(name: &str, read: readers::Reader) {
    let inputs = corpus(name);
    inputs.iter().for_each(|input| read(input));
    let insert = prop_oneof![vec(any::<u8>(), 0..3), select(WORDS.to_vec()).prop_map(<[u8]>::to_vec)];
    let piece = (any::<Index>(), any::<Index>(), prop_oneof![4 => Just(0_usize), 1 => 0..64_usize]);
    let damage = (any::<Index>(), 0..9_usize, insert, piece);
    let cases = std::env::var("NETNS_FUZZ_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(CASES);
    let limits = Limits { cases, failure_persistence: None, ..Limits::default() };
    // other random numbers in each run: what one finds, the message has all of
    let result = TestRunner::new(limits).run(&(any::<Index>(), vec(damage, 1..12)), |(which, damages)| {
        let bytes = damaged(&inputs, which, &damages);
        std::panic::catch_unwind(|| read(&bytes)).map_err(|_| TestCaseError::fail(format!("reads b\"{}\"", bytes.escape_ascii())))
    });
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
}
