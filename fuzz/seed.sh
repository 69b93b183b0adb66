#!/bin/sh
# Makes an input for the fuzzer of each case of tests/cases/import.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/import
for root in ../tests/cases/import/*/root; do
    name=$(basename "$(dirname "$root")")
    (cd "$root" && find . -type f | sort | while read -r file; do
        printf '=== %s\n' "${file#.}"
        cat "$file"
    done) >"corpus/import/$name"
done
