#!/bin/sh
# Makes the certificates of the cluster in compose.yml with `brock cert`, the key for its encrypted backups,
# and the password of its consoles. Existing files are kept. Runs in the image's target `tools`; the argument
# names another directory.
set -eu
pki=${1:-/pki}

if [ ! -e "$pki/safe/ca.key" ]; then
    brock cert ca --certs-dir "$pki/ca" --ca-key "$pki/safe/ca.key"
fi

# leaf DIRECTORY FILE WHAT…: makes the certificate and key of one holder, in its own directory.
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

# Every user of the machine reaches the published ports, so the consoles ask for it.
token=$pki/config/console-token
if [ ! -e "$token" ]; then
    (umask 077 && od -An -vtx1 -N16 /dev/urandom | tr -d ' \n' >"$token.new")
    mv "$token.new" "$token"
fi

# The nodes get only the public part. The private part is not stored elsewhere, as this is not for production.
if [ ! -e "$pki/config/brock.toml" ]; then
    [ ! -e "$pki/safe/backups.key" ] || rm "$pki/safe/backups.key"
    recipient=$(brock backup keygen --yes --out "$pki/safe/backups.key")
    printf '[node.backup]\nrecipient = ["%s"]\n' "$recipient" >"$pki/config/brock.toml.new"
    mv "$pki/config/brock.toml.new" "$pki/config/brock.toml"
fi
