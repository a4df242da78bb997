#!/bin/sh
# Makes the certificates of the cluster in compose.yml with `brock cert`, and a key that its backups are
# encrypted to, once: what is there stays.
# Runs in the image's target `tools`; the argument is for trying it elsewhere.
set -eu
pki=${1:-/pki}

if [ ! -e "$pki/safe/ca.key" ]; then
    brock cert ca --certs-dir "$pki/ca" --ca-key "$pki/safe/ca.key"
fi

# leaf DIRECTORY FILE WHAT…: certificate and key of one holder, in a directory of its own.
leaf() {
    directory=$1 file=$2
    shift 2
    [ ! -e "$directory/$file" ] || return 0
    cp "$pki/ca/ca.crt" "$directory/"
    brock cert "$@" --certs-dir "$directory" --ca-key "$pki/safe/ca.key"
}

for number in 1 2 3; do
    leaf "$pki/node-$number" node.key node --node-id "node-$number" \
        --host "node-$number" --host nodes --host localhost --host 127.0.0.1
done
leaf "$pki/admin" client.key admin --name operator

# The nodes get the public part. Nobody has written the other one down: this is for trying out.
if [ ! -e "$pki/config/brock.toml" ]; then
    [ ! -e "$pki/safe/backups.key" ] || rm "$pki/safe/backups.key"
    recipient=$(brock backup keygen --yes --out "$pki/safe/backups.key")
    printf '[node.backup]\nrecipient = ["%s"]\n' "$recipient" >"$pki/config/brock.toml.new"
    mv "$pki/config/brock.toml.new" "$pki/config/brock.toml"
fi
