#!/bin/sh
# Runs .ci/run as CI does: in a clean clone of the last commit, with CI=true and files that are their owner's alone.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Tests look for larger collections of records beside the checkout.
[ ! -e ../shared ] || ln -s "$(cd ../shared && pwd)" "$folder/shared"
git clone -q . "$folder/opentrail"
umask 077
CI=true sh "$folder/opentrail/.ci/run" </dev/null
