"""An export can be validated without bucket and server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from opentrail.core.errors import UsageError
from opentrail.validation.buckets import KEYS, Export
from opentrail.validation.public_keys import PublicKeys, read_keys
from tests.trails.world import BUCKET
from tests.validation.delivered import six_hours


def test_export_is_validated_with_its_keys_and_signatures(tmp_path: Path) -> None:
    trail = six_hours()
    folder = tmp_path / "export"
    learned = trail.validate(export=Export(folder)).known
    for key in [*trail.logs(), *trail.digests()]:
        assert (folder / BUCKET / key).read_bytes() == trail.bucket[key].content
    trail.objects.clear()
    keys = PublicKeys(read_keys(folder / KEYS))
    outcome = trail.validate_copy(folder, known=learned, keys=keys)
    assert outcome.code == 0, outcome.text()
    assert [c.good_logs for c in outcome.report.counts.values()] == [18, 18]


def test_invalid_records_are_exported_unchanged(tmp_path: Path) -> None:
    trail = six_hours()
    one, two = trail.logs()[3:5]
    trail.put(one, b"other")
    trail.bucket[two] = replace(trail.bucket[two], content=b"no gzip" * 100_000)
    assert trail.validate(export=Export(tmp_path)).code == 1
    for key in (one, two):
        assert (tmp_path / BUCKET / key).read_bytes() == trail.bucket[key].content


def test_existing_output_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        Export(tmp_path)


def test_an_impossible_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--export"):
        Export(tmp_path / "file" / "export")


@pytest.mark.parametrize("key", ["../x", "a/../x", "/x", "a//x", "a/./x", "a\0"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    export = Export(tmp_path / "export")
    with pytest.raises(UsageError, match="cannot be the name of a file"):
        export.open_copy("bucket", key)
    assert list((tmp_path / "export").iterdir()) == []
