"""Every example in the docs runs and prints the documented output."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from threading import Thread

import pytest

from opentrail.cli import parser
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from opentrail.setting_sources import load
from tests.cases import case
from tests.certificates import issue, write
from tests.live.ministack import PROGRAM as MINISTACK
from tests.live.processes import (
    BIN,
    TIMEOUT_SECONDS,
    Opentrail,
    clean_environment,
    free_port,
    opentrail_server,
)

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
#: Varying parts of outputs, in the order of their replacement.
VOLATILE = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"On \w+ \d+, \d{4} at \d+:\d\d [AP]M", "WHEN"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"TIME  [0-9a-f]{8}\b", "TIME ID"),
    (r"AKIA[A-Z0-9]{16}", "KEY"),
    (r"aws-cli/.*", "AGENT"),
    (r"(made \d+ calls?) in \d+\.\d s", r"\1 in SECONDS"),
    (r"http://127\.0\.0\.1:\d+/console/#t=[\w-]{43}", "LINK"),
    (r"sign-in: [\w-]{20}$", "sign-in: PASSWORD"),
    (r"^ot_[\w-]{43}$", "TOKEN"),
    (r"position [\d,]+, [\d,]+ bytes", "POSITION"),
    (r"[\d,]+ records? verified in \d+ journal segments?, \d+ sealed files?", "VERIFIED"),
    (r"^\d+% of .* left\n", ""),  # progress of slow work
    (r"^opentrail \d+\.\d+\.\d+", "opentrail VERSION"),
    (r"[ \t]+", " "),
)
#: Ports in the pages, each replaced by a free one.
PORTS = ("4566", "4747", "4748", "5000", "8080", "8333", "8888", "9333")
#: Commands that run until they are stopped, each in its own terminal.
SERVERS = ("opentrail serve", "moto_server", "ministack", "weed")


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yields each command of the console blocks with its output."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def plain(text: str) -> list[str]:
    for pattern, name in VOLATILE:
        text = re.sub(pattern, name, text, flags=re.M)
    return [line.strip() for line in text.strip().splitlines()]


class Ports:
    """Free ports in place of a page's ports."""

    def __init__(self, sandbox: Opentrail | None = None) -> None:
        # SeaweedFS adds 10,000 for a second port of each kind, which must not be one of these.
        self.free = {port: str(free_port(below=42_000)) for port in PORTS}
        if sandbox is not None:
            self.free["4747"] = sandbox.url.rpartition(":")[2]
            self.free["4748"] = sandbox.console.rpartition(":")[2]

    def replace(self, command: str) -> str:
        """Returns a command with the free ports."""
        for port, free in self.free.items():
            command = re.sub(rf"\b{port}\b", free, command)
        return command

    def restore(self, output: str) -> str:
        """Returns an output with the page's ports."""
        for port, free in self.free.items():
            output = re.sub(rf"\b{free}\b", port, output)
        return output


class Shell:
    """One bash in a folder, so that variables last across commands."""

    def __init__(self, environment: dict[str, str], folder: Path, ports: Ports) -> None:
        self._environment, self._folder, self.ports = environment, folder, ports
        self._servers: list[subprocess.Popen[str]] = []
        self._bash = self._start("--norc")

    def _start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self._environment, **more},
            cwd=self._folder,
        )

    def run(self, command: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{self.ports.replace(command)}\necho '[[done]]'\n")
        self._bash.stdin.flush()
        lines = []
        for line in self._bash.stdout:
            if line == "[[done]]\n":
                break
            lines.append(line)
        return self.ports.restore("".join(lines))

    def serve(self, command: str, shown: str) -> str:
        """Starts a server in its own terminal and waits until it has printed the lines shown.

        Returns the printed lines among them.
        """
        server = self._start(
            "-c",
            f"exec {self.ports.replace(re.sub('^ministack', str(MINISTACK), command))}",
            BIND_HOST="127.0.0.1",
            GATEWAY_PORT=self.ports.free["4566"],
            OPENTRAIL_LISTEN=f"127.0.0.1:{self.ports.free['4747']}",
            OPENTRAIL_CONSOLE_LISTEN=f"127.0.0.1:{self.ports.free['4748']}",
        )
        self._servers.append(server)
        assert server.stdout is not None
        expected, printed, found = plain(shown), "", list[str]()
        while len(found) < len(expected) and (line := server.stdout.readline()):
            printed += (line := self.ports.restore(line))
            if expected[len(found)] in "".join(plain(line)):
                found.append(expected[len(found)])
        if len(found) == len(expected):
            Thread(target=server.stdout.read, daemon=True).start()
            return shown
        return printed

    def close(self) -> None:
        self._bash.communicate(timeout=TIMEOUT_SECONDS)
        for server in reversed(self._servers):
            server.terminate()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()  # SeaweedFS takes 15 seconds
                server.wait(TIMEOUT_SECONDS)


def settings_in(text: str) -> list[str]:
    """Returns the TOML blocks of a document."""
    return re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)


def test_documented_settings_exist(tmp_path: Path) -> None:
    shown = [block for document in DOCUMENTS for block in settings_in(document.read_text())]
    assert shown
    for number, block in enumerate(shown):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        load({"upstream": ["http://127.0.0.1:1"]}, {}, file)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Opentrail]:
    # Deliveries every few seconds would change the counts in the examples.
    rarely = ("--delivery-interval", "300", "--digest-interval", "3600")
    with opentrail_server(tmp_path / "opentrail-data", *rarely, command="sandbox") as server:
        yield server


def new_shell(folder: Path, sandbox: Opentrail | None = None) -> Shell:
    """Returns a shell with the sandbox's variables, or without a server's."""
    environment = clean_environment(
        PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_PAGER="",
    )
    if sandbox is not None:
        environment |= {
            "AWS_ENDPOINT_URL": sandbox.url,
            "AWS_ACCESS_KEY_ID": ADMIN_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    return Shell(environment, folder, Ports(sandbox))


def follow(document: Path, shell: Shell) -> int:
    """Runs the examples of a document; returns their number."""
    count = 0
    for command, shown in examples(document.read_text()):
        is_server = command.startswith(SERVERS)
        said = shell.serve(command, shown) if is_server else shell.run(command)
        assert plain(said) == plain(shown), f"{document.name}: $ {command}\n{said}"
        count += 1
    return count


def has_servers(document: Path) -> bool:
    """Returns whether a page starts servers, so that it needs no sandbox."""
    return any(command.startswith(SERVERS) for command, _ in examples(document.read_text()))


def write_files(document: Path, folder: Path) -> None:
    """Writes the files that a page presupposes."""
    parts = re.split(r"^```(?:toml|hcl|python)\n(.*?)^```", document.read_text(), flags=re.M | re.S)
    for prose, content in zip(parts[::2], parts[1::2], strict=False):
        for name in re.findall(r"`([\w-]+\.(?:toml|tf|py))`", prose)[-1:]:
            (folder / name).write_text(content)


def missing_for(document: Path, folder: Path) -> str | None:
    """Returns a missing program of a page, None if there is none."""
    commands = [command for command, _ in examples(document.read_text())]
    if shutil.which("curl") is None and any(re.search(r"\bcurl\b", each) for each in commands):
        return "curl is not installed"
    if not any(each.startswith("terraform") for each in commands):
        return None
    missing = "Terraform or its AWS provider is missing"
    if shutil.which("terraform") is None:
        return missing
    command = ["terraform", "init", "-no-color"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return missing if done.returncode else None


README = ROOT / "README.md"
WITH_EXAMPLES = [d for d in DOCUMENTS if "```console" in d.read_text()]


@pytest.mark.live
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(
            document,
            id=str(document.relative_to(ROOT)),
            marks=() if document == README else pytest.mark.campaign,
        )
        for document in WITH_EXAMPLES
    ],
)
def test_the_examples_of_a_document_print_its_output(
    document: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    write_files(document, tmp_path)
    if missing := missing_for(document, tmp_path):
        pytest.skip(missing)
    sandbox = None if has_servers(document) else request.getfixturevalue("sandbox")
    with closing(new_shell(tmp_path, sandbox)) as shell:
        assert follow(document, shell)


@pytest.mark.campaign
@pytest.mark.live
def test_documents_may_be_followed_in_sequence(sandbox: Opentrail, tmp_path: Path) -> None:
    """Runs the documents that use the sandbox; the others start their own servers."""
    count = 0
    with closing(new_shell(tmp_path, sandbox)) as shell:
        for document in [README, *(d for d in WITH_EXAMPLES if d != README)]:
            if has_servers(document):
                continue
            write_files(document, tmp_path)
            if not missing_for(document, tmp_path):
                count += follow(document, shell)
    assert count > 40


#: Prefixes of lines in shell blocks that no test runs, with the reasons.
NOT_RUN = {
    "make ": "runs for minutes, or until it is stopped",
    "pip install ": "would install the packages of the test environment",
    "python3 -m venv ": "tests/live/test_install.py has it",
    "~/opentrail/": "tests/live/test_install.py has it",
    "pipx ": "tests/live/test_install.py has it",
    "uv tool ": "tests/live/test_install.py has it",
    "dbt ": "tests/conformance/test_dbt.py has it",
    "podman ": "tests/live/test_container.py has it, by buildah",
    "sudo ": "changes the machine",
    "sha256sum ": "needs a release",
    "kubectl ": "needs a Kubernetes cluster",
    "helm ": "tests/live/test_helm.py has it",
    "otelcol-contrib ": "tests/test_docs.py checks the configurations",
    "npx cdk": "set-up does not install AWS CDK",
    "sam ": "set-up does not install AWS SAM",
    "psql ": "needs a PostgreSQL server",
    "createdb ": "needs a PostgreSQL server",
    "createuser ": "needs a PostgreSQL server",
    "pg_basebackup ": "needs a PostgreSQL server",
    "export ": "sets variables for the lines after it",
    "mkdir ": "in the home directory",
    "aws ": "needs the server that the page is about",
    ".venv/bin/python scripts/": "a script of this repository, which other tests run",
}
#: Servers of shell blocks that the test does not start.
NOT_STARTED = {
    "OPENTRAIL_CONTROL_STORE": "needs a PostgreSQL server",
}


def shell_lines(text: str) -> Iterator[str]:
    """Yields each command of the sh blocks, and each opentrail command of the text blocks."""
    for language, block in re.findall(r"^```(sh|text)\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+# .*", "", line).strip()
            is_ours = re.match(r"opentrail [a-z]", command)
            if command and (language == "sh" or is_ours):
                yield command


def test_code_blocks_name_their_language() -> None:
    """Other tests check the blocks of a language."""
    for document in DOCUMENTS:
        fences = re.findall(r"^ *```(\S*)", document.read_text(), re.M)
        assert all(fences[::2]), document.name


def test_unrun_commands_are_accepted_or_have_a_reason() -> None:
    for document in DOCUMENTS:
        for command in shell_lines(document.read_text()):
            with case(f"{document.name}: {command}"):
                words = shlex.split(command)
                if words[0] == "opentrail":
                    arguments = takewhile(lambda word: word not in ("|", ">", "<"), words[1:])
                    parser(words[1]).parse_args(list(arguments))
                else:
                    assert command.startswith(tuple(NOT_RUN)), "run it"


STARTED = [
    pytest.param(command, id=f"{document.stem}-{number}")
    for document in DOCUMENTS
    for number, command in enumerate(shell_lines(document.read_text()))
    if command.startswith("opentrail serve")
    if not any(reason in document.read_text() for reason in NOT_STARTED)
]


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("command", STARTED)
def test_documented_servers_start(command: str, tmp_path: Path) -> None:
    made = issue("127.0.0.1", "127.0.0.1", is_authority=False)
    write(made, tmp_path / "certificate.pem", tmp_path / "key.pem")
    (tmp_path / "opentrail.toml").write_text('[directory.AKIAIOSFODNN7EXAMPLE]\nuser = "alice"\n')
    with closing(new_shell(tmp_path)) as shell:
        shown = "  data "
        assert shell.serve(command.replace("0.0.0.0", "127.0.0.1"), shown) == shown  # noqa: S104


def test_code_in_documents_is_valid() -> None:
    for document in DOCUMENTS:
        for block in re.findall(r"^ *```python\n(.*?)^ *```", document.read_text(), re.M | re.S):
            source = textwrap.dedent(block)
            if not source.startswith('"'):  # a row of a table
                compile(source, str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


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


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse formats help differently")
def test_the_reference_pages_match_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
