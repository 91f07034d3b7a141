"""The inventory sorts objects by their names."""

from __future__ import annotations

import pytest

from opentrail.core.errors import ObjectMissing
from opentrail.validation.bucket_objects import Inventory, Wanted, log_name
from opentrail.validation.buckets import BucketRoot, Buckets
from tests.fakes import StoredObject
from tests.trails.world import BUCKET
from tests.validation.delivered import FAR, MemoryReader, Trail, six_hours


def listed(trail: Trail, wanted: Wanted | None = None) -> Inventory:
    inventory = Inventory(wanted or Wanted())
    source = Buckets(lambda: MemoryReader(trail.objects)).under(BUCKET, "")
    inventory.add(source, lambda _count: None)
    return inventory


def test_log_files_and_digests_are_distinguished() -> None:
    trail = six_hours()
    inventory = listed(trail)
    assert sorted(f.tail for f in inventory.digests) == sorted(
        [*trail.digests(), *trail.digests(FAR)]
    )
    names = {place.tail(short) for (_, place), shorts in inventory.logs.items() for short in shorts}
    assert names == {*trail.logs(), *trail.logs(FAR)}
    assert inventory.log_bytes == sum(len(trail.bucket[name].content) for name in names)
    assert inventory.misnamed == []


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted(regions=[FAR]), 18),
        (Wanted(regions=["us-west-2"]), 0),
        (Wanted(accounts=["123456789012"]), 36),
        (Wanted(accounts=["999999999999"]), 0),
        (Wanted(trails=["other"]), 36),
    ],
)
def test_filters_select_accounts_and_regions(wanted: Wanted, count: int) -> None:
    inventory = listed(six_hours(), wanted)
    assert sum(map(len, inventory.logs.values())) == count


def test_strange_files_are_reported_in_trails_folders() -> None:
    trail = six_hours()
    empty = StoredObject(b"x", {}, "", None)
    for key in (
        "AWSLogs/123456789012/Config/x",
        "AWSLogs/x",
        "other",
        "AWSLogs/123456789012/CloudTrail/",
    ):
        trail.bucket[key] = empty
    marked = "AWSLogs/123456789012/CloudTrail/us-east-1/2020/x"
    trail.bucket[marked] = empty
    strange = {found.tail for found in listed(trail).misnamed}
    assert strange == {marked, "AWSLogs/123456789012/CloudTrail/"}
    assert {f.tail for f in listed(trail, Wanted(regions=[FAR])).misnamed} == set()


def test_object_is_searched_for_in_all_its_places() -> None:
    trail = six_hours()
    inventory = listed(trail)
    key = trail.logs()[0]
    found = inventory.open(BUCKET, key)
    assert found is not None
    assert found[0].address(found[1]) == f"s3://{BUCKET}/{key}"
    assert found[2].stream.read(1 << 20) == trail.bucket[key].content
    with pytest.raises(ObjectMissing):
        inventory.open(BUCKET, f"{key}x")
    assert inventory.open("elsewhere", key) is None


def test_listed_log_files_are_checked_off() -> None:
    trail = six_hours()
    inventory = listed(trail)
    key = trail.logs()[0]
    inventory.mark_listed(BUCKET, key)
    inventory.mark_listed(BUCKET, key)
    inventory.mark_listed(BUCKET, "AWSLogs/nothing")
    log = log_name(key)
    assert log is not None
    assert all(
        log.short not in shorts
        for (_, place), shorts in inventory.logs.items()
        if place == log.place
    )


def test_a_copy_belongs_to_most_digests_bucket() -> None:
    class Copy(BucketRoot):
        is_live = False

    root = Copy(MemoryReader({}), "", "")
    root.bucket = root.prefix = None
    inventory = Inventory(Wanted(), roots=[root])
    tail = "AWSLogs/1/a"
    claims = (
        [("one", f"team/{tail}")] * 2
        + [("two", tail), ("three", "AWSLogs/1/b")] * 2
        + [("one", f"team/{tail}")]
    )
    inventory.identify_copies([(root, tail, bucket, key) for bucket, key in claims])
    assert [root.bucket, root.prefix] == ["one", "team/"]
