"""Log files are compared by many threads and reported in order."""

from __future__ import annotations

import hashlib

from opentrail.core.errors import ObjectStoreError
from opentrail.validation.bucket_objects import ChainId, Inventory, Wanted
from opentrail.validation.buckets import Buckets
from opentrail.validation.digests import ListedLog
from opentrail.validation.report import ChainCount, Report, Status
from opentrail.validation.run import THREADS, LogChecks
from tests.trails.world import BUCKET
from tests.validation.delivered import Body, MemoryReader, Trail, six_hours

COUNT = ChainCount(ChainId("123456789012", "us-east-1", "my-trail", "us-east-1"))


def checked(
    trail: Trail, reader: MemoryReader, logs: list[ListedLog]
) -> tuple[Report, ChainCount, LogChecks]:
    inventory, report = Inventory(Wanted()), Report()
    inventory.add(Buckets(lambda: reader).under(BUCKET, ""), lambda _count: None)
    count = ChainCount(COUNT.chain)
    checks = LogChecks(inventory, report, lambda _size, _files: None)
    checks.check((log, count) for log in logs)
    return report, count, checks


def listed(trail: Trail) -> list[ListedLog]:
    return [
        ListedLog(BUCKET, key, hashlib.sha256(trail.content(key)).hexdigest())
        for key in trail.logs()
    ]


def test_each_log_file_is_fetched_once_and_counted() -> None:
    trail = six_hours()
    reader = MemoryReader(trail.objects)
    logs = listed(trail)
    report, count, checks = checked(trail, reader, logs)
    assert sorted(reader.opened) == sorted(trail.logs())
    assert (count.good_logs, count.logs) == (18, 18)
    assert report.bytes_unpacked == sum(len(trail.content(key)) for key in trail.logs())
    assert not checks.bad


def test_few_files_are_read_ahead() -> None:
    trail = six_hours()
    taken = 0
    reader = MemoryReader(trail.objects)

    def many() -> object:
        nonlocal taken
        for _ in range(40):
            for log in listed(trail):
                taken += 1
                assert taken - len(reader.opened) <= 3 * THREADS
                yield log, COUNT

    inventory = Inventory(Wanted())
    inventory.add(Buckets(lambda: reader).under(BUCKET, ""), lambda _count: None)
    LogChecks(inventory, Report(), lambda _size, _files: None).check(many())  # type: ignore[arg-type]
    assert taken == 40 * 18


def test_moved_log_file_has_a_new_place() -> None:
    trail = six_hours()
    logs = listed(trail)
    one, two, gone, lost = trail.logs()[:4]
    trail.bucket[one], trail.bucket[two] = trail.bucket[two], trail.bucket[one]
    del trail.bucket[gone], trail.bucket[lost]
    report, count, checks = checked(trail, MemoryReader(trail.objects), logs)
    assert checks.is_any_missing
    assert count.good_logs == 14
    checks.report_bad({logs[2].sha256: "s3://my-bucket/new-name"})
    reasons = {finding.name: finding.reason for finding in report.findings}
    assert reasons == {
        f"s3://{BUCKET}/{one}": f"holds the content of s3://{BUCKET}/{two}",
        f"s3://{BUCKET}/{two}": f"holds the content of s3://{BUCKET}/{one}",
        f"s3://{BUCKET}/{gone}": "has been renamed to s3://my-bucket/new-name",
        f"s3://{BUCKET}/{lost}": "is missing",
    }


def test_missing_or_unreadable_values_are_unknown() -> None:
    class Refusing(MemoryReader):
        def open(self, bucket: str, key: str) -> Body:
            raise ObjectStoreError("AccessDenied", key)

    trail = six_hours()
    elsewhere = ListedLog("elsewhere", trail.logs()[0], "0" * 64)
    report, _, checks = checked(trail, Refusing(trail.objects), [listed(trail)[0], elsewhere])
    checks.report_bad({})
    assert [finding.status for finding in report.findings] == [Status.UNKNOWN] * 2
    assert "AccessDenied" in report.findings[0].reason
    assert report.findings[1].reason == "is in a place that was not given"
