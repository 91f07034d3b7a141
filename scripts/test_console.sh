#!/bin/sh
# Runs the web console's own tests, with the Node that built it; without one, says that they are left out.
set -eu
cd "$(dirname "$0")/.."
npm() { .venv/bin/python hatch_build.py --npm "$@"; }
if ! npm --version >/dev/null 2>&1; then
    echo "==> Node is missing: the web console's own tests are left out"
    exit 0
fi
[ console/node_modules/.package-lock.json -nt console/package-lock.json ] || npm ci --ignore-scripts --loglevel=error
npm test --silent
