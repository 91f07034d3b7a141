# opentrail: `make run` sets up and starts the sandbox, `make test` sets up and runs the tests.

# Cache compiled tests: compiling them takes a fifth of `make check`.
unexport PYTHONDONTWRITEBYTECODE

# A file runs in one process, since its tests share servers; the longest files go first.
PYTEST_PARALLEL = --dist loadfile --no-loadscope-reorder

# What takes neither long nor other services.
FAST = not slow and not live and not anomaly and not campaign and not conformance

.PHONY: help run check lint console-tests prose test test-pythons test-all test-like-ci docs bench bench-trees conformance dist audit release screenshots requirements clean

help:
	@echo "make run          set up .venv, start the sandbox (ARGS='--listen 127.0.0.1:5000' passes flags)"
	@echo "make check        format, lint, types, layers, fast tests: under a minute"
	@echo "make test         what a change may break in daily work, and what CI runs: 20 minutes"
	@echo "make test-pythons the fast tests on this machine's oldest and newest Python"
	@echo "make test-all     the same and the campaigns, an hour more: before a release"
	@echo "make test-like-ci the same as CI does: a clean clone of the last commit, CI=true, umask 077"
	@echo "make conformance  every operation of every service, and moto's own tests: minutes"
	@echo "make docs         build the documentation site into site/"
	@echo "make bench        benchmarks against nginx and mitmproxy, minutes"
	@echo "make bench-trees  speed of this tree as a ratio to the last release's, or BASE=COMMIT"
	@echo "make dist         wheel, source distribution, SBOMs and checksums of the last commit, into dist/"
	@echo "make audit        look for published vulnerabilities of the packages of a release"
	@echo "make release      tag the last commit as the version, and publish what make dist makes"
	@echo "make requirements update the hashed requirement files"

run:
	@scripts/set_up.sh run
	@exec .venv/bin/opentrail sandbox $(ARGS)

check:
	@scripts/set_up.sh dev
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest -q -n 2 -m "$(FAST)"

# Each of the three uses one core most of the time.
test:
	@scripts/set_up.sh dev
	@scripts/set_up.sh docs
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint console-tests prose
	.venv/bin/pytest -n 2 $(PYTEST_PARALLEL) -m "not campaign and not conformance"

test-pythons:
	@scripts/set_up.sh dev
	.venv/bin/python scripts/test_pythons.py -q -n 2 -m "$(FAST)"

lint:
	.venv/bin/ruff format --check src tests benchmarks
	.venv/bin/ruff check src tests benchmarks
	.venv/bin/mypy
	.venv/bin/lint-imports

console-tests:
	@scripts/test_console.sh

prose:
	@scripts/check_prose.sh

# Four, since campaigns wait a third of their time: for registries, loads, intervals.
test-all: test
	.venv/bin/pytest -n 4 $(PYTEST_PARALLEL) -m "campaign and not conformance"

test-like-ci:
	@scripts/test_like_ci.sh

docs:
	@scripts/set_up.sh dev
	@scripts/set_up.sh docs
	.venv/bin/zensical build --strict

conformance:
	@scripts/set_up.sh dev
	.venv/bin/pytest -n 2 --dist loadfile -m conformance tests/conformance

bench:
	@scripts/set_up.sh dev
	.venv/bin/python -m benchmarks

# What to compare the working tree with: the last release, or a commit.
BASE ?= $(shell git describe --tags --abbrev=0 2>/dev/null)

bench-trees:
	@scripts/set_up.sh dev
	.venv/bin/python -m benchmarks trees $(or $(BASE),$(error name a commit: make bench-trees BASE=COMMIT))

dist:
	@scripts/set_up.sh dev
	.venv/bin/python scripts/build_dist.py dist

# The packages of a release against published vulnerabilities, which needs the internet.
audit:
	@scripts/set_up.sh dev
	.venv/bin/uv tool run --from 'pip-audit>=2.10,<3' pip-audit --strict --disable-pip --require-hashes \
	    -r requirements/release.txt

release:
	@scripts/release.sh

screenshots:
	@scripts/set_up.sh dev
	.venv/bin/python scripts/screenshots.py screenshots

requirements:
	@scripts/set_up.sh dev
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header requirements/node.in -o requirements/node.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header requirements/build.in requirements/node.in -c requirements/dev.txt -o requirements/build.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header pyproject.toml --extra sandbox requirements/build.in requirements/run.in -o requirements/run.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header pyproject.toml --extra detections --extra postgres --extra oidc -o requirements/release.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header pyproject.toml --extra sandbox-s3 --extra postgres --extra oidc --extra mcp --extra detections --extra iceberg --group dev requirements/build.in -o requirements/dev.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header requirements/ministack.in -o requirements/ministack.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header requirements/uv.in -c requirements/dev.txt -o requirements/uv.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --group docs -c requirements/dev.txt -o requirements/docs.txt

clean:
	rm -rf .venv dist site scripts/prose/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis console/node_modules console/.build \
	    src/opentrail/console_static
