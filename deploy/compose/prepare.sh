#!/bin/sh
# Makes what compose.yaml needs in the folder secrets/: sh prepare.sh HOST. What is there already stays as it is.
set -eu
host=${1:?"usage: sh prepare.sh HOST, such as id.example.com"}
cd "$(dirname "$0")"

# The servers run as another user, who has to be able to read the files. Nobody else gets into the folder.
umask 022
mkdir -p secrets
chmod 0700 secrets
cd secrets

random() { openssl rand "-$1" 32; }

[ -s kek ] || random base64 > kek
[ -s postgres-password ] || random hex > postgres-password
[ -s database-url ] ||
    printf 'postgres://keywheel:%s@postgres/keywheel\n' "$(cat postgres-password)" > database-url

# To try it with: a certificate that nobody knows.
[ -s privkey.pem ] ||
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj "/CN=$host" -addext "subjectAltName=DNS:$host" -addext "basicConstraints=critical,CA:FALSE" \
        -keyout privkey.pem -out fullchain.pem 2> /dev/null
chmod 0644 privkey.pem
