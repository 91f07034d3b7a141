"""Checkpoints are written whole, read strictly, and only move forward."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.errors import UsageError
from opentrail.validation.checkpoints import known_from, read_checkpoint, write_checkpoint
from tests.fakes import utc
from tests.validation.delivered import six_hours, stopped_and_started


def test_written_values_are_read(tmp_path: Path) -> None:
    known = stopped_and_started().validate(known=[]).known
    file = tmp_path / "checkpoint.json"
    write_checkpoint(file, known, os.fsync)
    assert read_checkpoint(file) == [replace(k, origin=str(file)) for k in known]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.json"]
    assert [len(k.starts) for k in known] == [2, 2]
    assert [len(k.ends) for k in known] == [1, 1]


def test_no_file_is_no_knowledge(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "not a checkpoint of version 1"),
        ('{"version": 2, "chains": []}', "not a checkpoint of version 1"),
        ('{"version": 1}', "has no list chains"),
        ('{"version": 1, "chains": [{}]}', "does not describe chains in the expected form"),
    ],
)
def test_an_invalid_checkpoint_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "checkpoint.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_checkpoint(file)


@pytest.mark.parametrize(
    "change",
    [{"newest": {"bucket": "b", "key": "k", "sha256": "s"}}, {"since": "noon"}, {"starts": None}],
)
def test_an_invalid_entry_is_an_error(change: dict[str, Any]) -> None:
    (known, _) = six_hours().validate(known=[]).known
    with pytest.raises(UsageError, match="FILE does not describe"):
        known_from({**known.as_json(), **change}, "FILE")


def test_an_unwritable_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        write_checkpoint(tmp_path / "none" / "checkpoint.json", [], os.fsync)


def test_checkpoint_of_a_range_leaves_the_past_open() -> None:
    trail = six_hours()
    learned = trail.validate(known=[], since=utc("2020-01-01T12:00:00")).known
    assert all(k.since == utc("2020-01-01T12:00:00") for k in learned)
    outcome = trail.validate(known=learned)
    assert outcome.code == 5
    assert "before 2020-01-01T09:00:00Z" in outcome.text()


def test_start_that_the_server_never_made_is_named() -> None:
    trail = stopped_and_started()
    for known in trail.known:
        known["starts"] = known["starts"][:1]
    outcome = trail.validate()
    assert outcome.code == 1
    assert "begins a chain that the server does not know" in outcome.reason(trail.digests()[4])


def test_a_missing_end_is_named() -> None:
    trail = stopped_and_started()
    end = trail.digests()[3]
    listed = json.loads(trail.content(end))["logFiles"]
    for key in [end, *(log["s3Object"] for log in listed)]:
        del trail.bucket[key]
    outcome = trail.validate()
    assert "ends a chain that the server knows" in outcome.reason(end)


def test_server_of_an_earlier_version_knows_no_beginning() -> None:
    trail = six_hours()
    for known in trail.known:
        known.update(starts=[], ends=[], since="2020-01-01T15:00:00Z")
    outcome = trail.validate()
    assert outcome.code == 5
    assert "before 2020-01-01T09:00:00Z" in outcome.text()
