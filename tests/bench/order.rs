//! Finds what of the program `up` and `down` run, and writes it down for the linker (src/hot.ld): next to each other, it takes a
//! fraction of the page faults and of the memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{Options, common::REPO, netns};

const HEADER: &str = "\
/* What `up` and `down` run, next to each other; the linker puts everything else behind it. Written by `make order`
 * (docs/decisions/0026): a line that no longer fits a name costs some speed, nothing else. */
SECTIONS {
  .hot : {
";

/// `map` is the linker's, of the program in `options`, which has to have its names.
pub fn run(options: &Options, map: &Path) {
    let sections = sections(&fs::read_to_string(map).expect("the linker's map"));
    let mut sizes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let run: BTreeSet<u64> = netns::addresses_run(&options.bin)
        .into_iter()
        .filter_map(|address| sections.range(..=address).next_back().filter(|(_, (end, _))| address < *end).map(|(start, _)| *start))
        .collect();
    for (start, (end, pattern)) in &sections {
        let (all, of_it) = sizes.entry(pattern).or_default();
        *all += end - start;
        *of_it += if run.contains(start) { end - start } else { 0 };
    }
    // where a pattern stands for much else, that would only be in the way
    let lines: Vec<String> =
        sizes.iter().filter(|(_, (all, run))| *run > 0 && *all <= 2 * run + 512).map(|(pattern, _)| format!("    {pattern}\n")).collect();
    assert!(lines.len() > 300, "only {} pieces of code were seen", lines.len());
    eprintln!("src/hot.ld has {} pieces of code", lines.len());
    let text = HEADER.to_owned() + &lines.concat() + "  }\n} INSERT BEFORE .text;\n";
    fs::write(Path::new(REPO).join("src/hot.ld"), text).expect("write src/hot.ld");
}

/// Code by its address: where it ends, and what names it in a linker script.
fn sections(map: &str) -> BTreeMap<u64, (u64, String)> {
    let hex = |word: Option<&str>| u64::from_str_radix(word?.trim_start_matches("0x"), 16).ok();
    let section = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, size, file, name) = if line.starts_with(" .text") {
            // GNU ld: the name, then where it is, how long, and the file
            let name = words.next()?;
            (hex(words.next())?, hex(words.next())?, words.next()?, name)
        } else {
            // lld: the address, that in memory, the size, the alignment, and the file with the name
            let (file, name) = line.rsplit_once(":(")?;
            (hex(words.next())?, hex(words.nth(1))?, file, name.strip_suffix(')')?)
        };
        let of_library = file.rsplit_once('/')?.1.strip_suffix(')').and_then(|file| file.split_once('('));
        let pattern = match of_library {
            // the same for other processors: `strlen-avx2.o`, `strlen-evex.o`
            Some((library, object)) if object.contains("-avx") || object.contains("-sse") => {
                format!("*{library}:{}-*.o(.text*)", object.split('-').next().unwrap_or_default())
            }
            Some((library, object)) => format!("*{library}:{object}({name})"),
            None => format!("*(.text.{})", without_numbers(name.strip_prefix(".text.")?)),
        };
        (name.starts_with(".text") && start > 0 && size > 0).then_some((start, (start + size, pattern)))
    };
    // GNU ld goes on in the next line after a long name
    map.replace("\n                0x", " 0x").lines().filter_map(section).collect()
}

/// The numbers of crates in names differ from compiler to compiler: `Cs…_` before the name of a crate.
fn without_numbers(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("Cs") {
        text += before;
        let number = after.find('_').filter(|end| after[..*end].chars().all(char::is_alphanumeric));
        text += if number.is_some() { "Cs*_" } else { "Cs" };
        rest = number.map_or(after, |end| &after[end + 1..]);
    }
    let text = text + rest;
    // what the compiler has made of it besides
    text.split_once('.').map_or(text.clone(), |(name, _)| format!("{name}*"))
}
