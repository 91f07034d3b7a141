#!/bin/sh
# Makes .venv and installs opentrail into it: "set_up.sh run" what `make run` needs, "set_up.sh dev"
# what the tests need too. Says what it does; does nothing when nothing has changed.
set -eu
cd "$(dirname "$0")/.."
kind=$1
requirements=requirements/$kind.txt
stamp=.venv/.opentrail-$kind

say() { printf '==> %s\n' "$*"; }

if [ -e "$stamp" ] && [ "$stamp" -nt "$requirements" ] && [ "$stamp" -nt pyproject.toml ]; then
    exit 0
fi

python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "opentrail needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "opentrail needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Set PYTHON=..." >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing the Debian package python3-venv"
        log=$(mktemp)
        if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq \
            --no-install-recommends python3-venv; } >"$log" 2>&1; then
            cat "$log" >&2
            exit 2
        fi
        rm -f "$log"
    else
        echo "python3-venv is missing; run: sudo apt-get install python3-venv" >&2
        exit 2
    fi
fi
if [ ! -x .venv/bin/python ]; then
    say "making .venv"
    "$python" -m venv .venv
fi
say "installing the packages of $requirements (about a minute the first time)"
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: \
    -r "$requirements"
say "installing opentrail"
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
touch "$stamp"
# The development packages hold everything that running needs.
[ "$kind" != dev ] || touch .venv/.opentrail-run
