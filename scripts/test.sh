#!/usr/bin/env bash
# Everything `make test` runs once the build is installed. Every step runs,
# also after one has failed; the last line sums up and the exit status is 0
# only if all passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

go=${GO:-go}
export COURIER_BIN=$PWD/bin/courier
results=()
failed=0

# Every server of the tests lives in here; what is left at the end is a
# failure. The server's user must get through, hence 0711.
TMPDIR=$(mktemp -d /tmp/courier-test-XXXXXX)
export TMPDIR
chmod 711 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT

step() {
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        results+=("$name: ok ($((SECONDS - started)) s)")
    else
        results+=("$name: FAILED ($((SECONDS - started)) s)")
        failed=$((failed + 1))
    fi
}

unit_packages() {
    "$go" list ./... | grep -v '/test/e2e'
}

# Databases are real, so a cached result proves nothing: -count=1.
unit() {
    # shellcheck disable=SC2046
    "$go" test -race -count=1 -timeout 12m $(unit_packages)
}

end_to_end() {
    if [ -z "$(find test/e2e -name '*_test.go' 2>/dev/null | head -n 1)" ]; then
        echo "no tests in test/e2e"
        return 1
    fi
    "$go" test -race -count=1 -timeout 50m ./test/e2e/...
}

"$go" build -buildvcs=false -o build/regress-runner ./test/regress

step "lint" scripts/lint.sh
step "unit tests" unit
step "pg_regress" build/regress-runner
step "pg_regress, preloaded" build/regress-runner -preload
step "end to end" end_to_end

# A watchdog removes a directory a moment after its process has ended.
nothing_left() {
    local deadline=$((SECONDS + 10))
    while compgen -G "$TMPDIR/pgtest-*" >/dev/null; do
        if [ $SECONDS -ge $deadline ]; then
            ls -d "$TMPDIR"/pgtest-*
            return 1
        fi
        sleep 0.1
    done
}
step "nothing left behind" nothing_left

printf '\n'
printf '  %s\n' "${results[@]}"
if [ "$failed" -ne 0 ]; then
    echo "make test: FAILED, $failed of ${#results[@]} steps, in $SECONDS s"
    exit 1
fi
echo "make test: ok, ${#results[@]} steps in $SECONDS s"
