#!/bin/sh
# Makes a CA, a node certificate and an operator's certificate with openssl.
#
#   make-certs.sh [DIR] [HOST...] [spiffe://DOMAIN/node/ID] [spiffe://DOMAIN/admin/NAME]
#
# The script creates two directories in DIR (default: the current directory): `certs`, for
# --node.certs-dir, and `safe-directory`, with the CA's key, which no node needs. HOST are the names and
# IP addresses of the node (default: localhost 127.0.0.1). The URIs state what the holders are, which
# node.trust=distributed needs: the first one goes into the node's certificate, the second one into the operator's
# (/client/ instead of /admin/ makes it an application's). It uses an existing CA again, never replaces a key,
# and needs no network.
set -eu

recipe=$(cd "$(dirname "$0")" && pwd)
dir=.
if [ $# -gt 0 ]; then
    dir=$1
    shift
fi

names=
node_uri=
client_uri=
for host in "$@"; do
    case $host in
    spiffe://*[!A-Za-z0-9./_-]*)
        echo "make-certs.sh: '$host' has a character that no role has" >&2
        exit 2
        ;;
    spiffe://?*/node/?*)
        node_uri=,URI:$host
        continue
        ;;
    spiffe://?*/admin/?* | spiffe://?*/client/?*)
        client_uri=$host
        continue
        ;;
    "" | *[!A-Za-z0-9.:_-]*)
        echo "make-certs.sh: '$host' is neither a host name, an IP address nor a role such as spiffe://brock/node/node-1" >&2
        exit 2
        ;;
    *:*) name=IP:$host ;;
    *[!0-9.]*) name=DNS:$host ;;
    *) name=IP:$host ;;
    esac
    names=$names,$name
done

mkdir -p "$dir"
cd "$dir"
for key in certs/node.key certs/client.key; do
    if [ -e "$key" ]; then
        echo "make-certs.sh: $dir/$key exists already: move it and its .crt to where they belong first" >&2
        exit 1
    fi
done
mkdir -p certs safe-directory
cp "$recipe/ca.cnf" "$recipe/client.cnf" .
if [ -n "$names" ]; then
    sed "s/^subjectAltName = .*/subjectAltName = critical$names/" "$recipe/node.cnf" > node.cnf
else
    cp "$recipe/node.cnf" .
fi
if [ -n "$node_uri" ]; then
    sed "s|^subjectAltName = .*|&$node_uri|" node.cnf > node.cnf.new
    mv node.cnf.new node.cnf
fi
# openssl joins sections of one name.
if [ -n "$client_uri" ]; then
    printf '[ req ]\nreq_extensions = extensions\n[ extensions ]\nsubjectAltName = URI:%s\n' "$client_uri" >> client.cnf
fi

# Step 1: the CA key and certificate.
if [ ! -e safe-directory/ca.key ]; then
    openssl genrsa -out safe-directory/ca.key 2048
    chmod 400 safe-directory/ca.key
    openssl req -new -x509 -config ca.cnf -key safe-directory/ca.key -out certs/ca.crt -days 365 -batch
    rm -f index.txt serial.txt
    touch index.txt
    echo '01' > serial.txt
fi

# Step 2: a key, a signing request and a certificate. $1 is node or client.
make_pair() {
    openssl genrsa -out "certs/$1.key" 2048
    chmod 400 "certs/$1.key"
    openssl req -new -config "$1.cnf" -key "certs/$1.key" -out "$1.csr" -batch
    openssl ca -config ca.cnf -keyfile safe-directory/ca.key -cert certs/ca.crt -policy signing_policy \
        -extensions "signing_$1_req" -out "certs/$1.crt" -outdir certs/ -in "$1.csr" -batch
}
make_pair node
make_pair client

# Duplicates of the .crt files.
rm -f certs/*.pem

openssl x509 -in certs/node.crt -noout -text | grep "X509v3 Subject Alternative Name" -A 1
