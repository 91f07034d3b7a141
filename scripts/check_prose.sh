#!/bin/sh
# Checks spelling and grammar of documents and messages with Harper; without Node, says that it is left out.
# Tables of AWS's names are not prose.
set -eu
cd "$(dirname "$0")/.."
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "==> Node is missing: the check of spelling and grammar is left out"
    exit 0
fi
[ scripts/prose/node_modules/.package-lock.json -nt scripts/prose/package-lock.json ] ||
    npm ci --prefix scripts/prose --ignore-scripts --no-audit --no-fund --loglevel=error
git ls-files README.md CHANGELOG.md CONTRIBUTING.md 'docs/*.md' |
    grep -v -e hidden-values.md -e operations.md -e event-permissions.md |
    xargs node scripts/prose/check.mjs
