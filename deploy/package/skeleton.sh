#!/bin/sh
# Puts an empty source file wherever a manifest of the workspace in DIRECTORY names one, unless it is there:
#
#   skeleton.sh DIRECTORY
#
# With the manifests, Cargo.lock and these, cargo compiles and describes the dependencies without Brock's own
# code, so that a change of that code does not concern them. Used by the Dockerfile and by package.sh.
set -eu
cd "$1"
for manifest in Cargo.toml src/*/Cargo.toml; do
    directory=$(dirname "$manifest")
    for file in $(sed -n 's/^\(path\|build\) = "\(.*\.rs\)"$/\2/p' "$manifest"); do
        [ ! -e "$directory/$file" ] || continue
        mkdir -p "$(dirname "$directory/$file")"
        case $file in */main.rs | build.rs) echo 'fn main() {}' ;; *) echo ;; esac >"$directory/$file"
    done
done
