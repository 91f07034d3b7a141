"""Every example of the documents runs, and says what the document says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from opentrail.settings import load
from tests.live.processes import (
    BIN,
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    opentrail_server,
)

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
#: What differs from run to run, in the order in which it is replaced.
VOLATILE = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"On \w+ \d+, \d{4} at \d+:\d\d [AP]M", "WHEN"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"TIME  [0-9a-f]{8}\b", "TIME ID"),
    (r"AKIA[A-Z0-9]{16}", "KEY"),
    (r"aws-cli/.*", "AGENT"),
    (r"http://127\.0\.0\.1:\d+/console/#t=[\w-]{43}", "LINK"),
    (r"sign-in: [\w-]{20}$", "sign-in: PASSWORD"),
    (r"position [\d,]+, [\d,]+ bytes", "POSITION"),
    (r"[\d,]+ records verified in \d+ journal segments, \d+ sealed files", "VERIFIED"),
    (r"[ \t]+", " "),
)


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Gives each command of the console blocks with the output that is shown for it."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def plain(text: str) -> list[str]:
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text, flags=re.M)
    return [line.strip() for line in text.strip().splitlines()]


class Shell:
    """One bash in a folder, so that variables last from one command to the next."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
        )

    def run(self, command: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho '[[done]]'\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            if line == "[[done]]\n":
                break
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        self._bash.communicate(timeout=TIMEOUT_SECONDS)


def settings_in(text: str) -> list[str]:
    """Returns the TOML blocks of a document."""
    return re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)


def test_settings_that_a_document_shows_are_settings(tmp_path: Path) -> None:
    shown = [block for document in DOCUMENTS for block in settings_in(document.read_text())]
    assert shown
    for number, block in enumerate(shown):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        load({"upstream": ["http://127.0.0.1:1"]}, {}, file)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Opentrail]:
    # What is delivered by itself every few seconds would change what the examples count.
    rarely = ("--delivery-interval", "300", "--digest-interval", "3600")
    with opentrail_server(tmp_path / "opentrail-data", *rarely, command="sandbox") as server:
        yield server


def follow(documents: Iterable[Path], sandbox: Opentrail, folder: Path) -> int:
    """Runs the examples of documents in one shell; returns how many there were."""
    shell = Shell(
        clean_environment(
            PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
            AWS_ENDPOINT_URL=sandbox.url,
            AWS_ACCESS_KEY_ID=ADMIN_KEY_ID,
            AWS_SECRET_ACCESS_KEY=ADMIN_SECRET,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_CONFIG_FILE=os.devnull,
            AWS_PAGER="",
        ),
        folder,
    )
    count = 0
    for document in documents:
        for command, shown in examples(document.read_text()):
            said = shell.run(command)
            assert plain(said) == plain(shown), f"{document.name}: $ {command}\n{said}"
            count += 1
    shell.close()
    return count


WITH_EXAMPLES = [d for d in DOCUMENTS if "```console" in d.read_text()]


@pytest.mark.live
@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=lambda d: str(d.relative_to(ROOT)))
def test_the_examples_of_a_document_say_what_it_says(
    document: Path, sandbox: Opentrail, tmp_path: Path
) -> None:
    assert follow([document], sandbox, tmp_path)


@pytest.mark.live
def test_documents_may_be_followed_one_after_the_other(sandbox: Opentrail, tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    others = [document for document in WITH_EXAMPLES if document != readme]
    assert follow([readme, *others], sandbox, tmp_path) > 40


def test_the_settings_page_has_whole_sentences() -> None:
    rows = [
        line
        for line in (ROOT / "docs/reference/settings.md").read_text().splitlines()
        if line.startswith("| `--")
    ]
    for row in rows:
        effect = row.rstrip(" |").rpartition(" | ")[2]
        assert effect[0].isupper() or effect[0] == "`", row
        assert effect.endswith("."), row


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} names {target}"


def test_the_reference_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
