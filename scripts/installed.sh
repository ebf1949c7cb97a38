#!/usr/bin/env bash
# Compares what is built with what PG_CONFIG's server has.
#
#   installed.sh same       succeeds when every file is there and identical
#   installed.sh writable   succeeds when this user may install; else says how
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pg_config=${PG_CONFIG:-pg_config}
{ read -r bindir; read -r libdir; read -r sharedir; } < <("$pg_config" --bindir --pkglibdir --sharedir)

same() {
    local file
    for file in build/*.so; do
        cmp -s "$file" "$libdir/${file##*/}" || return 1
    done
    for file in build/pg_courier.control build/pg_courier--*.sql; do
        cmp -s "$file" "$sharedir/extension/${file##*/}" || return 1
    done
    cmp -s bin/courier "$bindir/courier"
}

writable() {
    local directory
    for directory in "$bindir" "$libdir" "$sharedir/extension"; do
        if [ ! -w "$directory" ]; then
            echo "tests run against the installed extension, and $directory is not yours to write; run" >&2
            echo "    sudo make install PG_CONFIG=$(command -v "$pg_config")" >&2
            echo "and then this again" >&2
            return 1
        fi
    done
}

case ${1:-} in
    same | writable) "$1" ;;
    *) echo "usage: installed.sh same|writable" >&2; exit 2 ;;
esac
