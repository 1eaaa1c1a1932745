#!/bin/sh
# Builds a Debian package of this source: sh deploy/debian/build.sh. It needs cargo-deb (cargo install --locked cargo-deb), and
# says where the package is. What goes into it is listed in crates/issuer/Cargo.toml.
set -eu
cd "$(dirname "$0")/../.."
release=${CARGO_TARGET_DIR:-target}/release

cargo build --locked --release --package keywheel --bin keywheel

# Manual pages and completions are told by the program itself.
pages=$release/packaging
rm -rf "$pages"
mkdir -p "$pages/completions"
"$release/keywheel" manual "$pages/man"
gzip -9n "$pages"/man/*.1
"$release/keywheel" completions bash > "$pages/completions/keywheel"
"$release/keywheel" completions zsh > "$pages/completions/_keywheel"
"$release/keywheel" completions fish > "$pages/completions/keywheel.fish"

# --no-build: cargo-deb would build with other options.
cargo deb --no-build --package keywheel
