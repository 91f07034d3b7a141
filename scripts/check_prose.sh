#!/bin/sh
# Checks spelling and grammar of documents and messages with Harper, by the Node that built the console;
# without one, says that it is left out.
set -eu
cd "$(dirname "$0")/.."
npm() { .venv/bin/python hatch_build.py --npm --prefix ../scripts/prose "$@"; }
if ! npm --version >/dev/null 2>&1; then
    echo "==> Node is missing: the check of spelling and grammar is left out"
    exit 0
fi
[ scripts/prose/node_modules/.package-lock.json -nt scripts/prose/package-lock.json ] ||
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
# Tables of AWS's names are not prose.
files=$(git ls-files README.md CHANGELOG.md CONTRIBUTING.md 'docs/*.md' |
    grep -v -e hidden-values.md -e operations.md -e event-permissions.md | sed 's|^|../../|')
# shellcheck disable=SC2086
npm run --silent check -- $files
