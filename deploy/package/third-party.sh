#!/usr/bin/env bash
# Prints the licences of the crates that the binaries contain, and of the C and C++ libraries in them: each
# text once, after the names of the crates that it comes with. Called by package.sh and the Dockerfile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')
manifests=$(cargo metadata --locked --format-version 1 --filter-platform "$host" | tr ',' '\n' \
    | sed -n 's|^"manifest_path":"\(.*\)/Cargo.toml"$|\1|p')
crates=$(cargo tree --locked --target "$host" --edges normal,no-proc-macro --prefix none --format '{p}|{l}' \
    | grep -v '(/' | sed 's/ (\*)$//; s/ v\([^ |]*\)[^|]*|/-\1|/' | sort -u)

printf 'Brock contains these crates, under these licences:\n\n'
sed 's/^\(.*\)|\(.*\)$/  \1: \2/' <<<"$crates"

# The lines "SUM CRATE FILE", sorted by text.
texts() {
    local crate directory
    while IFS='|' read -r crate _; do
        directory=$(grep -m1 "/$crate\$" <<<"$manifests")
        find "$directory" -maxdepth 5 -type f \
            \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'copyright*' -o -iname 'notice*' \) \
            ! -name '*.rs' ! -name '*.py' ! -name '*.toml' ! -name '*.html' ! -path '*/tests/*' -size +0 \
            -exec sha256sum {} + | sed "s|  |  $crate |"
    done <<<"$crates" | sort
}

last=''
while read -r sum crate file; do
    if [ "$sum" != "$last" ]; then
        [ -z "$last" ] || cat "$text"
        printf '\n\n================================================================================\n'
    fi
    printf '%s: %s\n' "$crate" "${file##*"/$crate/"}"
    last=$sum text=$file
done < <(texts)
[ -z "$last" ] || cat "$text"
