#!/usr/bin/env bash
# gofmt and go vet over the whole tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
go=${GO:-go}

unformatted=$("$("$go" env GOROOT)/bin/gofmt" -l $(git ls-files -co --exclude-standard -- '*.go' 2>/dev/null || find . -name '*.go'))
if [ -n "$unformatted" ]; then
    echo "gofmt: not formatted:" >&2
    echo "$unformatted" >&2
    exit 1
fi
"$go" vet ./...
