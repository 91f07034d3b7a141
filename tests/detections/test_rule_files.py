"""Rules from files, from a string, and opentrail's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from opentrail import detections
from opentrail.core.errors import UsageError
from opentrail.detections.rule_files import read, read_text
from tests.detections.sample import DETECTIONS, sample_rule


def test_files_and_starter_rules_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(sample_rule("a", DETECTIONS["names"]))
    rules = read([str(tmp_path), "starter:root_activity"]).rules
    assert [rule.name for rule in rules] == ["a", "root_activity"]


def test_a_string_is_read() -> None:
    text = sample_rule("a", DETECTIONS["names"])
    [rule] = read_text(text).rules
    assert (rule.name, rule.source) == ("a", text)


def test_only_sigma_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(detections, "sigma", raising=False)
    monkeypatch.setitem(sys.modules, "opentrail.detections.sigma", None)
    assert len(read(["starter:all"]).rules) == 30
    with pytest.raises(UsageError, match=r"Sigma rules need pySigma: .*detections"):
        read_text("title: x")
