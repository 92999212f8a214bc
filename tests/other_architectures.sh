#!/bin/bash
# Runs the core's tests where a platform could show: big-endian s390x, 64- and 32-bit ARM, 32-bit x86, and x86-64 once
# without vector arithmetic and once with AVX2. As root on an amd64 Debian that reaches deb.debian.org and crates.io:
#
#     tests/other_architectures.sh [arguments for cargo test, such as --release]
#
# Needs 8 GB and, on two processors, some 20 minutes, nearly all to build the dependencies; let ERASE_ARCHITECTURES name
# a folder to keep for later runs. Results go to stdout, progress to stderr.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
arguments=("$@")
if [[ -n ${ERASE_ARCHITECTURES:-} ]]; then
    mkdir -p "$ERASE_ARCHITECTURES"
    folder=$(cd "$ERASE_ARCHITECTURES" && pwd)
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
root=$folder/trixie

# Nothing of the host's own toolchain may leak in. Nothing is mounted either, so that the folder can simply be removed.
inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" "$@"
}

# rustup would have a compiled std for these targets, but Debian has too, together with the libraries to link and run
# against. rustc-web is Debian's recent compiler; its plain rustc is older than the workspace admits.
prepare() {
    apt-get update -q
    apt-get install -qy debootstrap ca-certificates
    rm -rf "$root"
    debootstrap --variant=minbase trixie "$root" http://deb.debian.org/debian
    # The host's resolver, and its certificates: they may include those of a proxy.
    cp -L /etc/resolv.conf "$root/etc/"
    mkdir -p "$root/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    local packages=(rustc-web cargo-web gcc libc6-dev qemu-user) architecture
    for architecture in s390x arm64 armhf i386; do
        inside dpkg --add-architecture "$architecture"
        packages+=("libstd-rust-web-dev:$architecture" "libc6-dev:$architecture")
    done
    packages+=(gcc-s390x-linux-gnu gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-i686-linux-gnu)
    inside apt-get update -q
    inside apt-get install -qy --no-install-recommends "${packages[@]}"
    touch "$root/ready"
}
[[ -e $root/ready ]] || prepare >&2

# Extracted with the time of now: cargo must not take a file that was edited during the last build for an old one.
rm -rf "$root/source"
mkdir "$root/source"
tar -C "$repository" --exclude=./target --exclude=./.git --exclude=./.venv -cf - . | tar -C "$root/source" -xmf -

failed=()
# check NAME TARGET LINKER EMULATOR [more arguments for cargo]
check() {
    local name=$1 target=$2 linker=$3 emulator=$4
    local options=(
        --locked --manifest-path /source/Cargo.toml --package erase-core --tests --target "$target"
        --target-dir /build --config "target.$target.linker='$linker'" --config "target.$target.runner='$emulator'"
        "${@:5}" "${arguments[@]}"
    )
    printf '\n=== %s: %s under %s\n' "$name" "$target" "$emulator"
    # Two commands, so that the second prints results alone.
    if ! { inside nice cargo test --no-run "${options[@]}" >&2 && inside nice cargo test "${options[@]}"; }; then
        failed+=("$name")
    fi
}

inside rustc --version
inside qemu-s390x --version | head -n 1
check 'big-endian' s390x-unknown-linux-gnu s390x-linux-gnu-gcc qemu-s390x
check 'ARM, 64 bits' aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc qemu-aarch64
check 'ARM, 32 bits' armv7-unknown-linux-gnueabihf arm-linux-gnueabihf-gcc qemu-arm
check 'x86, 32 bits' i686-unknown-linux-gnu i686-linux-gnu-gcc qemu-i386
# As scalar as x86-64 gets: SSE2 is part of its ABI, so that floats, copies of memory and hashbrown still use it. The
# emulated processor has nothing beyond SSE3 that a run-time dispatch could find.
check 'no vectors' x86_64-unknown-linux-gnu cc 'qemu-x86_64 -cpu qemu64' \
    --config "build.rustflags='-C no-vectorize-loops -C no-vectorize-slp'" \
    --features blake3/pure,blake3/no_sse2,blake3/no_sse41,blake3/no_avx2,blake3/no_avx512
check 'AVX2' x86_64-unknown-linux-gnu cc 'qemu-x86_64 -cpu max' --config "build.rustflags='-C target-cpu=x86-64-v3'"

if ((${#failed[@]})); then
    printf '\nFAILED on: %s\n' "$(IFS=';' && echo "${failed[*]}")"
    exit 1
fi
printf '\nAll passed.\n'
