"""Builds a release of the last commit into a folder: `build_dist.py FOLDER`.

A commit with unreleased changes in CHANGELOG.md has a development version of the next release, with
the number of commits and its hash: `0.3.0.dev1250+g1a2b3c4d`. So a later build upgrades an earlier
one.

A wheel, a source distribution with the container's recipe, a CycloneDX bill of materials of the
Python packages and one of the packages in the web console, NOTES.txt with what changed, and
SHA256SUMS over all of them. Two builds of a commit with the same tools have the same bytes: they
are made in a copy of the commit, with its time, and name neither the machine nor the package
registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Builds, and prints the checksums."""
    if len(arguments) != 1:
        print("usage: build_dist.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    if _output("git", "status", "--porcelain"):
        print("warning: there are uncommitted changes, which the release has not", file=sys.stderr)
    os.environ["SOURCE_DATE_EPOCH"] = _output("git", "log", "-1", "--format=%ct").strip()
    os.environ["OPENTRAIL_REQUIRE_CONSOLE"] = "1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary)
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x"], cwd=source, input=archive.stdout, check=True)
        changelog = (source / "CHANGELOG.md").read_text()
        if not is_released(changelog):
            _set_version(source / "src/opentrail/core/version.py")
        build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel")
        subprocess.run([*build, "-d", str(folder)], cwd=source, check=True)
        (wheel,) = folder.glob("*.whl")
        version = wheel.name.split("-")[1]
        (folder / "NOTES.txt").write_text(notes_of(version, changelog))
        for what, bill in (("python", _python_bill(source)), ("console", _console_bill(source))):
            bill["metadata"]["component"]["version"] = version
            _write_bill(folder / f"opentrail-{version}-{what}.cdx.json", bill)
    sums = "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.iterdir())
    )
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    return 0


def is_released(changelog: str) -> bool:
    """Returns whether the first section of a changelog is a version's, or has no changes."""
    title, _, changes = changelog.partition("\n## ")[2].partition("\n## ")[0].partition("\n")
    return not title.startswith("[Unreleased]") or not changes.strip()


def _set_version(file: Path) -> None:
    """Replaces the released version in a file by the development version of the last commit."""
    text = file.read_text()
    (released,) = re.findall(r'^__version__ = "(.*)"$', text, re.M)
    count, commit = (
        _output("git", *command).strip()
        for command in (("rev-list", "--count", "HEAD"), ("rev-parse", "--short=8", "HEAD"))
    )
    version = development_version(released, int(count), commit)
    file.write_text(text.replace(f'"{released}"', f'"{version}"', 1))


def development_version(released: str, count: int, commit: str) -> str:
    """Returns the version (PEP 440) of a commit after a release.

    >>> development_version("0.2.0", 1250, "1a2b3c4d")
    '0.3.0.dev1250+g1a2b3c4d'
    """
    major, minor = released.split(".")[:2]
    return f"{major}.{int(minor) + 1}.0.dev{count}+g{commit}"


def notes_of(version: str, changelog: str) -> str:
    """Returns the section of a version in a changelog, else what is not released yet."""
    sections = changelog.split("\n## ")[1:]
    named = [text for text in sections if text.startswith(f"[{version}]")]
    return "## " + (named or sections)[0].strip() + "\n"


def _output(*command: str, folder: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _python_bill(source: Path) -> Any:
    program = Path(sys.executable).parent / "cyclonedx-py"
    options = ("--pyproject", "pyproject.toml", "--output-reproducible", "--short-PURLs")
    return json.loads(
        _output(str(program), "requirements", *options, "requirements/release.txt", folder=source)
    )


def _console_bill(source: Path) -> Any:
    npm = (sys.executable, str(source / "hatch_build.py"), "--npm")
    options = ("--sbom-format", "cyclonedx", "--sbom-type", "application")
    return json.loads(_output(*npm, "sbom", *options, "--omit", "dev", "--package-lock-only"))


def _write_bill(file: Path, bill: Any) -> None:
    """Writes a bill of materials without what differs from build to build, and without URLs.

    The hashes of the Python packages are in requirements/release.txt.
    """
    bill.pop("serialNumber", None)
    for name in ("timestamp", "tools"):
        bill["metadata"].pop(name, None)
    for component in bill["components"]:
        component.pop("externalReferences", None)
        if component["bom-ref"].startswith("requirements-"):
            component.pop("description", None)
    file.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
