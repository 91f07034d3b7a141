"""Copies of buckets, whole and in part, with and without side files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from opentrail.core.errors import ObjectMissing, ObjectStoreError, UsageError
from opentrail.validation.buckets import SIGNATURES, Folder, read_signatures
from opentrail.validation.report import Status
from tests.trails.world import BUCKET
from tests.validation.delivered import Trail, six_hours


def signatures_of(trail: Trail) -> list[dict[str, str]]:
    return [
        {"bucket": BUCKET, "key": key, "signature": trail.bucket[key].metadata["signature"]}
        for key in [*trail.digests(), *trail.digests("eu-west-1")]
    ]


def write_signatures(trail: Trail, file: Path) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in signatures_of(trail)))
    return file


def test_copy_is_valid_except_the_newest_digests_signature(tmp_path: Path) -> None:
    trail = six_hours()
    outcome = trail.validate_copy(trail.write(tmp_path), known=[])
    assert outcome.code == 5
    unsigned = [f for f in outcome.of(Status.UNKNOWN) if "--signatures FILE" in f.reason]
    newest = {trail.digests()[-1], trail.digests("eu-west-1")[-1]}
    assert {f.name for f in unsigned} == {str(tmp_path / key) for key in newest}


def test_a_copy_with_a_signature_file_is_valid(tmp_path: Path) -> None:
    trail = six_hours()
    trail.write(tmp_path)
    write_signatures(trail, tmp_path / SIGNATURES)
    starts = [
        {**known, "newest": {k: v for k, v in known["newest"].items() if k != "signature"}}
        for known in trail.known
    ]
    trail.known = starts
    outcome = trail.validate_copy(tmp_path)
    assert outcome.code == 0, outcome.text()
    (tmp_path / SIGNATURES).unlink()
    assert trail.validate_copy(tmp_path).code == 5


def test_newest_digest_has_a_known_signature(tmp_path: Path) -> None:
    trail = six_hours()
    outcome = trail.validate_copy(trail.write(tmp_path))
    assert outcome.code == 0, outcome.text()


@pytest.mark.parametrize("below", ["", "my-bucket", "a/b/my-bucket"])
def test_a_copy_may_have_any_depth(tmp_path: Path, below: str) -> None:
    trail = six_hours()
    trail.write(tmp_path / below)
    assert trail.validate_copy(tmp_path).code == 0


def test_a_copy_may_begin_within_the_keys(tmp_path: Path) -> None:
    trail = six_hours()
    trail.write(tmp_path)
    outcome = trail.validate_copy(tmp_path / "AWSLogs" / "123456789012")
    assert outcome.code == 0, outcome.text()


@pytest.mark.parametrize("number", [0, 2, 5])
def test_an_altered_digest_of_a_copy_is_named(tmp_path: Path, number: int) -> None:
    trail = six_hours()
    key = trail.digests()[number]
    trail.edit(key, logFiles=[])
    outcome = trail.validate_copy(trail.write(tmp_path))
    assert outcome.code == 1
    assert outcome.reason(key) == "signature verification failed"


def test_a_moved_digest_of_a_copy_is_named(tmp_path: Path) -> None:
    trail = six_hours()
    key = trail.digests()[2]
    trail.bucket[key.replace("/2020/01/01/", "/2020/01/02/")] = trail.bucket.pop(key)
    outcome = trail.validate_copy(trail.write(tmp_path))
    assert outcome.code == 1
    assert any("does not have the name" in f.reason for f in outcome.of(Status.BAD))


def test_a_copy_may_lie_in_parts(tmp_path: Path) -> None:
    trail = six_hours()
    trail.write(tmp_path / "later")
    for key in trail.digests()[:3]:
        (tmp_path / "earlier" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "later" / key).rename(tmp_path / "earlier" / key)
    outcome = trail.validate_copy(tmp_path)
    assert outcome.code == 0, outcome.text()


def test_symbolic_links_are_reported_and_not_followed(tmp_path: Path) -> None:
    trail = six_hours()
    copy, outside = tmp_path / "copy", tmp_path / "outside"
    trail.write(copy)
    key = trail.logs()[4]
    outside.mkdir()
    (copy / key).rename(outside / "log")
    (copy / key).symlink_to(outside / "log")
    folder = copy / "AWSLogs" / "123456789012" / "CloudTrail" / "eu-west-1"
    folder.rename(outside / "eu-west-1")
    folder.symlink_to(outside / "eu-west-1")
    source = Folder(str(copy))
    names = {tail for _, tail, _ in source.files()}
    assert key not in names
    assert sorted(source.links) == sorted([str(copy / key), str(folder)])
    outcome = trail.validate_copy(copy)
    assert outcome.code == 1
    missing = outcome.names(Status.BAD, Status.UNKNOWN)
    assert f"s3://{BUCKET}/{key}" in missing or str(copy / key) in missing
    assert len([name for name in missing if "/CloudTrail/eu-west-1/" in name]) == 18


def test_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    trail = six_hours()
    trail.write(tmp_path)
    folder = (tmp_path / trail.logs()[0]).parent
    (folder / os.fsdecode(b"\xff.json.gz")).write_bytes(b"x")
    outcome = trail.validate_copy(tmp_path)
    assert outcome.code == 1
    assert any(r"\xff.json.gz" in name for name in outcome.names(Status.BAD))


def test_only_files_are_read(tmp_path: Path) -> None:
    trail = six_hours()
    trail.write(tmp_path)
    key = trail.logs()[4]
    ((root, _, _), *_) = Folder(str(tmp_path)).files()
    (tmp_path / key).unlink()
    os.mkfifo(tmp_path / key)
    with pytest.raises(ObjectStoreError, match="is not a regular file"):
        root.open(key)
    with pytest.raises(ObjectMissing):
        root.open(f"{key}x")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        Folder(str(tmp_path / "none"))


@pytest.mark.parametrize("line", ["{", "[]", '{"bucket": "b"}'])
def test_an_invalid_signature_file_is_an_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "s"
    file.write_text(f'{{"bucket": "b", "key": "k", "signature": "00"}}\n{line}\n')
    with pytest.raises(UsageError, match="s:2 is not a JSON object with bucket"):
        read_signatures(file)


def test_a_missing_signature_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_signatures(tmp_path / "none")
