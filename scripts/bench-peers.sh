#!/usr/bin/env bash
# Installs the peers that the bench measures beside pg_courier, on Debian.
#
# Quick when nothing is missing. As root it installs; as anyone else it prints the
# command and fails. The PostgreSQL server itself is never upgraded on the way, and
# no daemon of a peer is started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${GO:-go}

missing() { "$go" run ./bench -packages; }

mapfile -t packages < <(missing)
if [ ${#packages[@]} -eq 0 ]; then
    echo "bench-peers: every peer is installed"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "bench-peers: no apt-get here; the bench leaves out what is not installed. Debian's packages would be: ${packages[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "bench-peers: run" >&2
    echo "    sudo apt-get update && sudo apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi

apt-get update -qq
for package in "${packages[@]}"; do
    if ! apt-cache show "$package" >/dev/null 2>&1; then
        echo "bench-peers: there is no package $package here; its system will be left out" >&2
        packages=("${packages[@]/$package/}")
    fi
done
read -r -a packages <<<"${packages[*]}"
[ ${#packages[@]} -gt 0 ] || exit 1
if upgraded=$(apt-get -s install --no-install-recommends "${packages[@]}" | grep -E '^Inst postgresql-[0-9]+ \['); then
    echo "bench-peers: this would upgrade the server; do that by itself first:" >&2
    echo "$upgraded" >&2
    exit 1
fi
# RUNLEVEL=1: invoke-rc.d starts nothing.
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}"

mapfile -t packages < <(missing)
if [ ${#packages[@]} -gt 0 ]; then
    echo "bench-peers: still not found by ${PG_CONFIG:-pg_config}, which is perhaps not Debian's PostgreSQL: ${packages[*]}" >&2
    exit 1
fi
