#!/bin/sh
# Fuzzes one reader (config, import, lease, netlink, records, units), from what tests/corpus has of it:
#
#   fuzz/run.sh TARGET [SECONDS]   goes on for so long (300); new inputs stay in fuzz/corpus/TARGET, what fails in fuzz/artifacts
#                                  (some inputs of import take seconds: 100,000 commands are followed)
#   fuzz/run.sh TARGET keep        puts the fewest small inputs that reach as much into tests/corpus/TARGET
#
# Needs a nightly compiler and cargo-fuzz.
set -eu
cd "$(dirname "$0")"
target=$1 how=${2:-300}
kept=../tests/corpus/$target
mkdir -p "corpus/$target"
if [ "$how" != keep ]; then
    exec cargo +nightly fuzz run "$target" "corpus/$target" "$kept" -- -max_total_time="$how" -max_len=4096 -timeout=600 -print_final_stats=1
fi
cp "$kept"/* "corpus/$target"
cargo +nightly fuzz cmin "$target" "corpus/$target"
# what a person has named stays
find "$kept" -type f -name '????????????????????????????????????????' -delete
# names are hashes: any of them
find "corpus/$target" -type f -size -4 | sort | head -n 100 | xargs -r cp -t "$kept"
