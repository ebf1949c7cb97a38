#!/usr/bin/env bash
# Installs what building and testing pg_courier need, on Debian and its kin.
#
#   deps.sh system   compiler, server, its headers, dblink, pgbench
#   deps.sh go       only checks: Go comes from https://go.dev/dl
#
# Quick when nothing is missing. As root it installs; as anyone else it
# prints the command and fails. It leaves no cluster and no server running
# that was not there before.
set -euo pipefail

pg_config=${PG_CONFIG:-pg_config}
go_needed=1.26

check_go() {
    local go=${GO:-go} version
    if ! command -v "$go" >/dev/null; then
        echo "deps: Go $go_needed or newer is needed and '$go' was not found; get it from https://go.dev/dl" >&2
        exit 1
    fi
    # "go env GOVERSION" is the toolchain's, also where go.mod asks for more.
    version=$("$go" env GOVERSION)
    version=${version#go}
    if [ "$(printf '%s\n' "$go_needed" "${version%%[- ]*}" | sort -V | head -n 1)" != "$go_needed" ]; then
        echo "deps: Go $go_needed or newer is needed, '$go' is $version; get it from https://go.dev/dl" >&2
        exit 1
    fi
}

# Says what of the server's side is absent; says nothing when all is there.
missing_server() {
    command -v "$pg_config" >/dev/null || { echo pg_config; return; }
    local bindir sharedir headers pgxs include
    { read -r bindir; read -r sharedir; read -r headers; read -r pgxs; read -r include; } < <(
        "$pg_config" --bindir --sharedir --includedir-server --pgxs --includedir 2>/dev/null || true) || true
    [ -x "${bindir:-}/postgres" ] || echo "server"
    [ -x "${bindir:-}/psql" ] || echo "psql"
    [ -x "${bindir:-}/pgbench" ] || echo "pgbench"
    [ -e "${sharedir:-}/extension/dblink.control" ] || echo "dblink"
    [ -e "${headers:-}/postgres.h" ] || echo "server headers"
    [ -e "${pgxs:-}" ] || echo "PGXS"
    [ -e "${include:-}/libpq-fe.h" ] || echo "libpq headers"
}

# The major version to work with: the one PG_CONFIG's path names, else the
# newest server installed, else Debian's default.
server_major() {
    local path newest
    path=$(command -v "$pg_config" || echo "$pg_config")
    if [[ $path =~ /postgresql/([0-9]+)/ ]]; then
        echo "${BASH_REMATCH[1]}"
        return
    fi
    newest=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sed 's,.*/postgresql/\([0-9]*\)/.*,\1,' | sort -n | tail -n 1)
    if [ -n "$newest" ]; then
        echo "$newest"
        return
    fi
    apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1
}

# The headers in the server's own minor version where the archive still has
# it: a server that is running is not restarted for our sake.
headers_package() {
    local major=$1 installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "postgresql-$major" 2>/dev/null | sed -n 's/^installed //p')
    if [ -n "$installed" ] && apt-cache madison "postgresql-server-dev-$major" 2>/dev/null | grep -qF "| $installed |"; then
        echo "postgresql-server-dev-$major=$installed"
    else
        echo "postgresql-server-dev-$major"
    fi
}

packages=()

# Fills packages from the archive's lists as they are now.
choose_packages() {
    local major
    packages=()
    command -v gcc >/dev/null || packages+=(gcc libc6-dev)
    command -v make >/dev/null || packages+=(make)
    [ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
    if [ -n "$(missing_server)" ]; then
        major=$(server_major)
        if [ -z "$major" ]; then
            packages+=(postgresql postgresql-server-dev-all)
            return
        fi
        [ -x "/usr/lib/postgresql/$major/bin/postgres" ] || packages+=("postgresql-$major")
        packages+=("$(headers_package "$major")" libpq-dev)
    fi
}

install_packages() {
    local dropin=/etc/postgresql-common/createcluster.d made=
    apt-get update -qq
    choose_packages
    echo "deps: installing ${packages[*]}"

    # Debian's server package makes and starts a cluster "main" when it is
    # first installed. We only want the programs.
    [ -d "$dropin" ] || made=$dropin
    mkdir -p "$dropin"
    echo "create_main_cluster = false" > "$dropin/pg_courier.conf"
    # shellcheck disable=SC2064
    trap "rm -f '$dropin/pg_courier.conf'; [ -z '$made' ] || rmdir '$made' 2>/dev/null || true" EXIT

    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2
}

check_system() {
    local absent
    absent=$(missing_server)
    command -v gcc >/dev/null || absent+=$'\ngcc'
    [ -e /usr/include/stdio.h ] || command -v gcc >/dev/null || absent+=$'\nlibc headers'
    [ -n "$absent" ] || return 0

    absent=$(echo "$absent" | sed '/^$/d' | paste -sd, | sed 's/,/, /g')
    if ! command -v apt-get >/dev/null; then
        echo "deps: missing: $absent" >&2
        echo "deps: install PostgreSQL with its contrib modules and server headers, and a C compiler; PG_CONFIG=$pg_config names the server" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        choose_packages
        echo "deps: missing: $absent; run" >&2
        echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
        echo "deps: (or 'sudo make deps', which makes no database cluster on the way)" >&2
        exit 1
    fi
    install_packages
    hash -r
    absent=$(missing_server)
    if [ -n "$absent" ]; then
        echo "deps: still missing for PG_CONFIG=$pg_config: $(echo "$absent" | paste -sd, | sed 's/,/, /g')" >&2
        exit 1
    fi
}

case ${1:-} in
    go) check_go ;;
    system) check_system ;;
    *) echo "usage: deps.sh system|go" >&2; exit 2 ;;
esac
