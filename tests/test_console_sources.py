"""Parts that the web console's sources share with the server, searches, selectors; its build."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

import hatch_build
from opentrail.core.event_record import EventRecord
from opentrail.core.expression import Compare, parse
from opentrail.core.expression.tree import FIELDS, MEMBERS
from opentrail.core.selectors import SelectorOwner, predicate_of, read_selection
from opentrail.ports.event_store import CountedField
from scripts.screenshots import SOURCES, digest_of_sources
from tests.core.selectors.generated import variants
from tests.core.selectors.naive import category_of
from tests.factories import a_data_record, a_record, record_bytes

ROOT = Path(__file__).parent.parent
CONSOLE = ROOT / "console"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CASES = json.loads((CONSOLE / "tests" / "expressions.json").read_text())
SELECTORS = json.loads((CONSOLE / "tests" / "selectors.json").read_text())


def test_the_console_knows_the_fields_of_expressions() -> None:
    language = json.loads((CONSOLE / "src" / "filter" / "language.json").read_text())

    counted = get_args(CountedField)
    assert language == {
        "fields": sorted(FIELDS),
        "counted": sorted(name for name, field in FIELDS.items() if field in counted),
        "members": sorted(MEMBERS),
    }


@pytest.mark.parametrize("case", CASES, ids=[case["written"] for case in CASES])
def test_a_comparison_of_the_console_has_its_value(case: dict[str, Any]) -> None:
    found = parse(case["written"], NOW)
    assert isinstance(found, Compare)
    assert (found.path, found.operator) == ((case["field"],), "=" if case["include"] else "!=")
    assert found.pattern.plain == case["value"]


@pytest.mark.parametrize("case", SELECTORS, ids=[case["of"] for case in SELECTORS])
def test_basic_and_advanced_selectors_of_the_console_agree(
    case: dict[str, Any],
) -> None:
    basic, advanced = (
        predicate_of(read_selection(selectors, SelectorOwner.TRAIL))
        for selectors in (
            {"EventSelectors": case["basic"]},
            {"AdvancedEventSelectors": case["advanced"]},
        )
    )
    selected = 0
    for record in variants([a_record(), a_data_record()], each=500):
        category, fields = category_of(record), EventRecord(record_bytes(record)).fields
        assert advanced.matches(category, fields) is basic.matches(category, fields), record
        selected += basic.matches(category, fields)
    assert selected


def test_the_lock_file_has_hashes_without_a_registry() -> None:
    text = (CONSOLE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]

    assert "resolved" not in text
    assert not re.search(r"https?://[^\"]*/-/", text)
    assert all("integrity" in package for name, package in packages.items() if name)


def test_picture_in_the_documentation_is_of_these_sources() -> None:
    """`make screenshots` retakes it."""
    assert SOURCES.read_text().strip() == digest_of_sources()


def test_change_of_a_source_asks_for_a_build(tmp_path: Path) -> None:
    for source in hatch_build.SOURCES:
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    static = tmp_path / hatch_build.STATIC
    static.mkdir(parents=True)
    (static / ".src.sha256").write_text(hatch_build.digest(tmp_path) + "\n")
    assert hatch_build.is_fresh(tmp_path)

    (tmp_path / "console/src/new.ts").write_text("export {};\n")

    assert not hatch_build.is_fresh(tmp_path)


def test_a_failed_build_is_a_warning_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENTRAIL_REQUIRE_CONSOLE", raising=False)
    warnings: list[str] = []

    hatch_build.build_or_warn(tmp_path, warnings.append)

    assert len(warnings) == 1
    assert "there is no web console" in warnings[0]
    monkeypatch.setenv("OPENTRAIL_REQUIRE_CONSOLE", "1")
    with pytest.raises(OSError, match="console"):
        hatch_build.build_or_warn(tmp_path, warnings.append)
