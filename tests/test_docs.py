"""Citations in code and documents exist: sections, guarantees, pages, tests, layers."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from opentrail.core.version import __version__
from opentrail.trails.otlp import logs_of
from tests.factories import a_record, an_entry

ROOT = Path(__file__).parent.parent
FORMAT = ROOT / "docs/reference/cloudtrail-format.md"
ARCHITECTURE = ROOT / "docs/explanation/architecture.md"
GUARANTEES = ROOT / "docs/explanation/guarantees.md"
#: Files with citations: source code, its tables, scripts, tests, documents.
SUFFIXES = {".py", ".toml", ".md", ".sh", ".in"}
#: Minimum number of cited sections and guarantees: a test that finds none proves nothing.
ENOUGH = 50

_SECTION = r"§\d+(?:\.\d+)?"
_CITED_SECTIONS = re.compile(rf"cloudtrail-format (?:{_SECTION}(?:, | and )?)+")
_NUMBER = r"[A-Z]\d{1,2}"
_CITED_GUARANTEES = re.compile(rf"[Gg]uarantees? (?:{_NUMBER}(?:, | and )?\b)+")
#: Numbers in the form of a guarantee; `S3` is Amazon's.
_BARE_GUARANTEE = re.compile(r"(?<![\w%./:-])(?:[DLNZ]\d{1,2}|S[1245])(?![\w./:-])")
_PAGE = re.compile(r"[\w./-]+\.md\b")
_MARKED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`( \*\(campaign\)\*)?")
#: Words without a limit, and words for limits.
_ABSOLUTE = re.compile(r"\b(never|always|any|anything)\b", re.I)
_LIMIT = re.compile(r"\b(unless|except|until|beyond|only|without)\b", re.I)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
#: A module in a sentence; not a pattern such as `test_<name>.py`.
_MODULE = re.compile(r"(?<![\w<>*/.-])[a-z_][\w/]*\.py\b")
_NO_PAGE = re.compile(r"cloudtrail-facts|\bfacts \d|capture\.md|real-records\.md")
#: Tasks that contributors must find: a section each on a page linked from CONTRIBUTING.md.
ADDED = (
    *("an API operation", "a command", "an adapter", "an importer", "a setting", "a sink"),
    *("a resource type", "a page to the web console"),
)


@cache
def texts() -> dict[Path, str]:
    """Returns every committed or new text file with possible citations, except this one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    files = [ROOT / name for name in listed if Path(name).suffix in SUFFIXES]
    return {file: file.read_text() for file in files if file.is_file() and file != Path(__file__)}


def citations(pattern: re.Pattern[str], part: str) -> Iterator[tuple[str, str]]:
    """Yields the file and each part of every citation."""
    for file, text in texts().items():
        for found in pattern.finditer(_in_one_line(text)):
            for cited in re.findall(part, found[0]):
                yield str(file.relative_to(ROOT)), cited


def _in_one_line(text: str) -> str:
    return re.sub(r"\s+(?:#:? )?", " ", text)


def sections() -> set[str]:
    """Returns the numbers of the sections of the format page."""
    return set(re.findall(r"^##+ (\d+(?:\.\d+)?) ", FORMAT.read_text(), re.M))


def guarantees() -> dict[str, str]:
    """Returns each guarantee's text by its number."""
    return dict(_numbered_guarantees())


def _numbered_guarantees() -> list[tuple[str, str]]:
    parts = re.split(rf"^- \*\*({_NUMBER})\*\* ", GUARANTEES.read_text(), flags=re.M)
    return [
        (number, body.partition("\n## ")[0])
        for number, body in zip(parts[1::2], parts[2::2], strict=True)
    ]


@pytest.mark.slow
def test_every_cited_section_exists() -> None:
    cited = list(citations(_CITED_SECTIONS, r"§([\d.]*\d)"))
    assert len(cited) >= ENOUGH
    assert [one for one in cited if one[1] not in sections()] == []


@pytest.mark.slow
def test_section_sign_refers_to_format_or_rfc() -> None:
    known = re.compile(rf"{_CITED_SECTIONS.pattern}|RFC \d+ §")
    strays = [
        str(file.relative_to(ROOT))
        for file, text in texts().items()
        if file != FORMAT and "§" in known.sub("", _in_one_line(text))
    ]
    assert strays == []


def test_every_section_names_its_source() -> None:
    parts = re.split(r"^##+ (\d+(?:\.\d+)?) .*$", FORMAT.read_text(), flags=re.M)
    numbers, bodies = parts[1::2], parts[2::2]
    lacking = [
        number
        for number, body in zip(numbers, bodies, strict=True)
        if "\nSource: " not in body and not any(n.startswith(f"{number}.") for n in numbers)
    ]
    assert lacking == []


@pytest.mark.slow
def test_every_cited_guarantee_exists() -> None:
    cited = list(citations(_CITED_GUARANTEES, _NUMBER))
    assert len(cited) >= ENOUGH
    assert [one for one in cited if one[1] not in guarantees()] == []


@pytest.mark.slow
def test_every_guarantee_number_has_the_word() -> None:
    strays = [
        (str(file.relative_to(ROOT)), found)
        for file, text in texts().items()
        if file != GUARANTEES
        for found in _BARE_GUARANTEE.findall(_CITED_GUARANTEES.sub("", _in_one_line(text)))
    ]
    assert strays == []


@pytest.mark.parametrize("number", guarantees())
def test_every_guarantee_names_existing_tests(number: str) -> None:
    named = _TEST.findall(guarantees()[number])
    assert named, "no test"
    for file, function in named:
        assert function in _functions(ROOT / file), f"{file}::{function}"


def test_examples_print_this_version() -> None:
    printed = {
        (file.name, version)
        for file, text in texts().items()
        if file.suffix == ".md" and file.parent.name != "decisions"
        for version in re.findall(r"^opentrail (\d+\.\d+\.\d+)", text, re.M)
    }
    assert len(printed) > 5
    assert {version for _, version in printed} == {__version__}, printed


def test_each_guarantee_has_its_own_number() -> None:
    numbers = [number for number, _ in _numbered_guarantees()]
    assert [number for number, times in Counter(numbers).items() if times > 1] == []


@pytest.mark.parametrize("number", guarantees())
def test_every_guarantee_is_tested_in_make_test(number: str) -> None:
    """The page marks the tests that `make test` leaves out, and each guarantee has others."""
    cited = {
        (file, function): bool(marked)
        for file, function, marked in _MARKED_TEST.findall(guarantees()[number])
    }
    left_out = {
        (file, function): "campaign" in _functions(ROOT / file)[function]
        for file, function in cited
    }
    assert cited == left_out
    assert not all(cited.values())


@pytest.mark.parametrize("number", guarantees())
def test_every_guarantee_names_the_limits_of_its_words(number: str) -> None:
    prose = re.sub(r"`[^`]*`", "", _in_one_line(guarantees()[number]))
    for sentence in re.split(r"(?<=[.:;])\s+(?=[A-Z])", prose):
        if _ABSOLUTE.search(sentence):
            assert _LIMIT.search(sentence), sentence


@cache
def _functions(file: Path) -> dict[str, frozenset[str]]:
    """Returns a module's functions with their marks, which may come from the module."""
    tree = ast.parse(file.read_text() if file.is_file() else "")
    of_module = {
        mark
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
        for mark in re.findall(r"pytest\.mark\.(\w+)", ast.unparse(node.value))
    }
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: frozenset(
            of_module
            | {ast.unparse(each).removeprefix("pytest.mark.") for each in node.decorator_list}
        )
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    }


@pytest.mark.slow
def test_every_cited_page_is_in_the_repository() -> None:
    names = {file.name for file in texts()}
    strays = [
        (str(file.relative_to(ROOT)), cited)
        for file, text in texts().items()
        if file.suffix != ".md" or "docs" in file.parts
        for cited in _PAGE.findall(text)
        if Path(cited).name not in names
    ]
    assert strays == []
    assert [str(file) for file, text in texts().items() if _NO_PAGE.search(text)] == []


@pytest.mark.parametrize("what", ADDED)
def test_contributors_find_how_to_add_things(what: str) -> None:
    page = "docs/howto/extend-opentrail.md"
    assert f"\n## Add {what}\n" in (ROOT / page).read_text()
    assert f"({page})" in (ROOT / "CONTRIBUTING.md").read_text()


def test_every_named_module_exists() -> None:
    """A name such as `sinks/sns.py` may leave out the folders before it.

    The files of a tutorial, and the initial files of an example, are the reader's.
    """
    files = [f"/{file.relative_to(ROOT)}" for file in texts() if file.suffix == ".py"]
    strays = [
        (str(file.relative_to(ROOT)), named)
        for file, text in texts().items()
        if file.is_relative_to(ROOT / "src") or file.suffix == ".md"
        if not file.is_relative_to(ROOT / "docs/tutorial")
        for named in _MODULE.findall(text)
        if f"\n# {named}\n" not in text
        if not any(known.endswith(f"/{named}") for known in files)
    ]
    assert strays == []


def test_architecture_page_lists_the_layers_of_the_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["name"] == "Layers point downward only"
    )
    layers = [layer.replace("opentrail.", "") for layer in contract["layers"]]
    _, _, page = ARCHITECTURE.read_text().partition("<!-- layers -->\n\n")
    block, _, _ = page.partition("\n\n")
    assert [line.strip() for line in block.splitlines()] == layers


@cache
def source_texts() -> str:
    """Returns the strings of the source, with adjacent literals joined."""
    parts = []
    for file, text in texts().items():
        if file.is_relative_to(ROOT / "src") and file.suffix == ".py":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts.append(node.value)
    return "\n".join(parts)


@pytest.mark.slow
def test_messages_quoted_in_troubleshooting_occur_in_the_source() -> None:
    page = (ROOT / "docs/howto/troubleshoot.md").read_text()
    # The shell's own messages are not ours.
    headings = re.findall(r"^### (?!`command not found|`Connection)(.*`.*)", page, re.M)
    quoted = [one for heading in headings for one in re.findall(r"`([^`]+)`", heading)]
    assert len(quoted) > 10
    placeholder = r"'?\b[A-Z][A-Z-]+\b'?|…"
    lacking = [
        part
        for message in quoted
        for part in re.split(placeholder, message)
        if len(part) > 3 and part not in source_texts()
    ]
    assert lacking == []


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    named = re.findall(r"'([\w/.-]+\.md)'", str(nav))
    pages = [str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted(pages)


def test_pages_link_to_pages_and_pictures_only() -> None:
    """The site has only these; pages name other files as code."""
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", without_code(page.read_text())):
            found = (page.parent / target).resolve()
            assert found.is_file(), f"{page.name}: {target}"
            assert found.is_relative_to(ROOT / "docs"), f"{page.name}: name {target} as code"


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


# Configurations of the OpenTelemetry Collector

COLLECTOR = ROOT / "docs/howto/configure-a-collector.md"
CONFIGURATIONS = re.findall(r"^```yaml\n(.*?)^```", COLLECTOR.read_text(), re.M | re.S)
DESTINATIONS = ("splunk_hec", "otlp_http/loki", "elasticsearch", "kafka")


def test_each_destination_has_a_configuration() -> None:
    found = [next(iter(yaml.safe_load(text)["exporters"])) for text in CONFIGURATIONS]
    assert found == list(DESTINATIONS)


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=DESTINATIONS)
def test_a_pipeline_has_exactly_the_declared_components(text: str) -> None:
    configuration = yaml.safe_load(text)
    (pipeline,) = configuration["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert list(configuration[kind]) == pipeline[kind]
    endpoint = configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert f"--otlp-endpoint http://{endpoint}" in COLLECTOR.read_text()


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=DESTINATIONS)
def test_a_collector_waits_for_its_destination(text: str) -> None:
    """Otherwise the journal would drop records before the destination has them."""
    (exporter,) = yaml.safe_load(text)["exporters"].values()
    assert exporter["sending_queue"] == {"enabled": False}
    assert "batch" not in text


def test_the_kept_attributes_are_sent() -> None:
    record = a_record(errorCode="AccessDenied", errorMessage="no")
    (resource,) = logs_of([an_entry(1, record)])["resourceLogs"]
    (one,) = resource["scopeLogs"][0]["logRecords"]
    sent = {attribute["key"] for attribute in one["attributes"]}
    kept = set(
        re.findall(r'"([\w.]+)"', "".join(re.findall(r"keep_keys\(log.*", "".join(CONFIGURATIONS))))
    )
    assert kept
    assert kept <= sent
