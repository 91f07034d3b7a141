"""Log files: their events, names and bytes, and no repeated event whatever breaks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import ObjectMissing, ObjectStoreError, ObjectTaken
from opentrail.core.event_record import EventRecord
from opentrail.core.insight_types import PRINCIPAL_TYPES, insight_type
from opentrail.core.trail import stored_time
from opentrail.ports.control import Put
from opentrail.ports.journal import LostPositions
from opentrail.trails.plans import DELIVERY, load_state, load_undelivered, union, without
from tests.factories import (
    ABSENT,
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_new_entry,
    a_record,
)
from tests.fakes import Breaker, Fault, PowerCutError, asynchronous
from tests.trails.world import BUCKET, World

UID = "4f1c6a52-trail"

OTHER = "eu-west-1"
#: Management events, and events in one bucket.
ONE_BUCKET = {
    "EventSelectors": [
        {"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::my-bucket/"]}]}
    ]
}
WRITES = {"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}
READS = {"EventSelectors": [{"ReadWriteType": "ReadOnly"}]}
NETWORK_TOO = {
    "AdvancedEventSelectors": [
        {"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]},
        {
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["NetworkActivity"]},
                {"Field": "eventSource", "Equals": ["s3.amazonaws.com"]},
                {"Field": "errorCode", "Equals": ["VpceAccessDenied"]},
            ]
        },
    ]
}
RATE, ERRORS = {"InsightType": "ApiCallRateInsight"}, {"InsightType": "ApiErrorRateInsight"}
#: The members of an Insights event about an error rate.
OF_ERRORS = {"insightType": "ApiErrorRateInsight", "errorCode": "AccessDenied"}
#: A call refused by a VPC endpoint's policy.
REFUSED: dict[str, Any] = {
    "eventCategory": "NetworkActivity",
    "eventType": "AwsVpceEvent",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "errorCode": "VpceAccessDenied",
    "vpcEndpointId": "vpce-1234abcd",
    "managementEvent": ABSENT,
    "readOnly": ABSENT,
}


def in_bucket(name: str = "my-bucket", **changes: Any) -> dict[str, Any]:
    """Returns the members of an S3 data event for `World.event`."""
    arn = f"arn:aws:s3:::{name}"
    given = {"resources": [{"type": "AWS::S3::Object", "ARN": f"{arn}/in/a.csv"}], **changes}
    record = a_data_record(**given)
    return {key: value for key, value in record.items() if key not in ("eventID", "eventTime")}


# Which events


@asynchronous
async def test_every_management_event_is_in_exactly_one_file() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    for count in (3, 0, 1, 20):
        expected += await world.event(count)
        await world.deliver()
        world.clock.advance(300)
    assert await world.deliver() is not None
    delivered = await world.check(expected)
    assert [len(log.records) for log in delivered.logs] == [4, 1, 20]


@asynchronous
async def test_events_outside_logging_are_not_delivered() -> None:
    world = World()
    await world.add()
    await world.event(5)
    first = await world.start_logging()
    between = await world.event(3)
    last = await world.stop_logging()
    await world.event(5)
    await world.deliver()
    await world.deliver()
    delivered = await world.check([first, *between, last])
    (log,) = delivered.logs
    assert [log.records[0]["eventName"], log.records[-1]["eventName"]] == [
        "StartLogging",
        "StopLogging",
    ]


@asynchronous
async def test_each_stretch_of_logging_is_delivered() -> None:
    world = World()
    await world.add()
    expected = []
    for _ in range(3):
        await world.event(2)
        expected.append(await world.start_logging())
        expected += await world.event(2)
        expected.append(await world.stop_logging())
    await world.event(2)
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_unselected_events_are_not_delivered() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    await world.event(eventCategory="Data", managementEvent=False)
    await world.event(eventCategory="Insight")
    await world.event(origin="import")
    await world.event(recipientAccountId="210987654321")
    expected += await world.event(origin="api")
    expected += await world.event(origin="hook")
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_single_region_trail_has_its_region_and_globals() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    expected += await world.event(eventSource="ec2.amazonaws.com")
    await world.event(eventSource="ec2.amazonaws.com", awsRegion=OTHER)
    expected += await world.event(eventSource="iam.amazonaws.com")
    await world.deliver()
    delivered = await world.check(expected)
    assert {log.region for log in delivered.logs} == {"us-east-1"}


@asynchronous
async def test_global_service_events_can_be_left_out() -> None:
    world = World()
    await world.add(include_global_services=False)
    expected = [await world.start_logging()]
    await world.event(eventSource="iam.amazonaws.com")
    expected += await world.event(eventSource="ec2.amazonaws.com")
    expected += await world.event(eventSource="sts.amazonaws.com")
    await world.event(eventSource="cloudfront.amazonaws.com")
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    # After a restart, the file is rebuilt from the journal with the same selection.
    await world.restarted().deliver()
    await world.check(expected)


@asynchronous
async def test_a_multi_region_trail_splits_regions_into_files() -> None:
    world = World()
    await world.add(multi_region=True)
    expected = [await world.start_logging()]
    for region in (OTHER, "us-east-1", "ap-south-1", OTHER):
        expected += await world.event(awsRegion=region)
    await world.deliver()
    delivered = await world.check(expected)
    counts = {log.region: len(log.records) for log in delivered.logs}
    assert counts == {"us-east-1": 2, OTHER: 2, "ap-south-1": 1}
    assert (await world.state()).regions == ("ap-south-1", OTHER, "us-east-1")


@asynchronous
async def test_trails_do_not_share_files() -> None:
    world = World()
    await world.add()
    await world.add(name="second", uid="second")
    expected = [await world.start_logging(), await world.start_logging("second")]
    expected += await world.event(3)
    await world.deliver()
    await world.deliver(uid="second")
    delivered = await world.verified()
    (first, second) = sorted(delivered.logs, key=lambda log: -len(log.records))
    assert first.event_ids == expected
    assert second.event_ids == expected[1:]


# Selected events


@asynchronous
async def test_only_trails_with_data_selectors_deliver_data_events() -> None:
    world = World()
    await world.add(selectors=ONE_BUCKET)
    await world.add(name="plain", uid="plain", prefix="plain")
    both = [await world.start_logging(), await world.start_logging("plain")]
    both += await world.event()
    data = await world.event(2, **in_bucket())
    await world.event(**in_bucket("other-bucket"))
    both += await world.event()
    await world.deliver()
    await world.deliver(uid="plain")
    delivered = await world.verified()
    found = {log.key.startswith("plain/"): log.event_ids for log in delivered.logs}
    assert found[False] == [*both[:3], *data, *both[3:]]
    assert found[True] == both[1:]


@asynchronous
async def test_network_activity_has_separate_files_in_one_digest() -> None:
    world = World()
    await world.add(selectors=NETWORK_TOO, validation=True, multi_region=True)
    expected = [await world.start_logging()]
    expected += await world.event(**REFUSED)
    expected += await world.event(**{**REFUSED, "awsRegion": OTHER})
    await world.event(**{**REFUSED, "errorCode": ABSENT})
    await world.event(**{**REFUSED, "eventSource": "kms.amazonaws.com"})
    await world.deliver(flush=True)
    delivered = await world.check(expected, chains=1)
    folders = sorted(log.key.split("/")[2:4] for log in delivered.logs)
    assert folders == [
        ["CloudTrail", "us-east-1"],
        ["CloudTrail-NetworkActivity", OTHER],
        ["CloudTrail-NetworkActivity", "us-east-1"],
    ]
    (home,) = delivered.chains["us-east-1"]
    assert [len(digest.logs) for digest in home] == [2]


@asynchronous
async def test_insights_events_are_not_delivered_without_insight_selectors() -> None:
    world = World()
    await world.add(selectors=NETWORK_TOO)
    expected = [await world.start_logging()]
    await world.event(eventCategory="Insight", eventType="AwsCloudTrailInsight")
    await world.insight()
    await world.event(eventCategory="Unheard-of")
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_insights_events_have_separate_files_in_one_digest() -> None:
    world = World()
    await world.add(insight_selectors=[RATE, ERRORS], validation=True, multi_region=True)
    expected = [await world.start_logging()]
    expected += await world.insight()
    expected += await world.insight("End")
    expected += await world.insight(awsRegion=OTHER, **OF_ERRORS)
    await world.deliver(flush=True)
    delivered = await world.check(expected, chains=1)
    assert sorted(log.key.split("/")[2:4] for log in delivered.logs) == [
        ["CloudTrail", "us-east-1"],
        ["CloudTrail-Insight", OTHER],
        ["CloudTrail-Insight", "us-east-1"],
    ]
    (home,) = delivered.chains["us-east-1"]
    assert [len(digest.logs) for digest in home] == [2]


ARN = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/my-trail"
OF_DATA = {"sourceEventCategory": "Data"}


@pytest.mark.parametrize(
    ("selectors", "changes", "is_delivered"),
    [
        ([RATE], {}, True),
        ([RATE], OF_ERRORS, False),
        ([ERRORS], OF_ERRORS, True),
        ([ERRORS], {}, False),
        *(([RATE, ERRORS], {"insightType": insight_type(n)}, False) for n in PRINCIPAL_TYPES),
        ([RATE], {"recipientAccountId": "210987654321"}, False),
        ([RATE], {"awsRegion": OTHER}, False),
        ([RATE], {"eventSource": "ec2.amazonaws.com"}, True),
        ([RATE], {"insightDetails": None}, False),
        ([RATE], {**OF_DATA, "insightSource": ARN}, False),
        ([{**RATE, "EventCategories": ["Data"]}], {**OF_DATA, "insightSource": ARN}, True),
        ([{**RATE, "EventCategories": ["Data"]}], {**OF_DATA, "insightSource": f"{ARN}2"}, False),
        ([{**RATE, "EventCategories": ["Data"]}], OF_DATA, False),
        ([{**RATE, "EventCategories": ["Data"]}], {}, False),
        ([{**RATE, "EventCategories": ["Data", "Management"]}], {}, True),
    ],
)
@asynchronous
async def test_a_trail_has_only_insights_of_its_selectors(
    selectors: list[dict[str, Any]], changes: dict[str, Any], is_delivered: bool
) -> None:
    world = World()
    await world.add(insight_selectors=selectors)
    expected = [await world.start_logging()]
    found = await world.insight(**changes)
    await world.deliver()
    await world.check(expected + (found if is_delivered else []))


@asynchronous
async def test_without_global_services_their_insights_are_left_out() -> None:
    world = World()
    await world.add(insight_selectors=[RATE], include_global_services=False)
    expected = [await world.start_logging()]
    await world.insight(eventSource="iam.amazonaws.com")
    expected += await world.insight(eventSource="ec2.amazonaws.com")
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_new_insight_selectors_apply_from_their_call() -> None:
    world = World()
    await world.add(validation=True)
    expected = [await world.start_logging()]
    await world.insight()
    expected.append(await world.update(insight_selectors=[RATE]))
    expected += await world.insight()
    expected.append(await world.update(insight_selectors=[]))
    await world.insight()
    await world.deliver(flush=True)
    await world.check(expected, chains=1)


@asynchronous
async def test_a_rebuilt_insights_file_uses_its_original_selectors() -> None:
    world = World()
    await world.add(insight_selectors=[{**RATE, "EventCategories": ["Data"]}, ERRORS])
    expected = [await world.start_logging()]
    expected += await world.insight(**OF_DATA, insightSource=ARN)
    expected += await world.insight(**OF_ERRORS)
    await world.insight()
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    expected.append(await world.update(insight_selectors=[]))
    await world.restarted().deliver()
    await world.check(expected)


@asynchronous
async def test_insights_events_reach_log_group_and_topic() -> None:
    world = World()
    group, topic = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:g", f"arn:aws:sns:{REGION}:1:t"
    world.services.groups[group] = {}
    world.services.topics[topic] = []
    data = {**RATE, "EventCategories": ["Data"]}
    await world.add(insight_selectors=[data], log_group=f"{group}:*", topic=topic)
    expected = [await world.start_logging(), *await world.insight(**OF_DATA, insightSource=ARN)]
    await world.insight()
    await world.deliver()
    for sink in world.sinks:
        await sink.send(UID)
    (stream,) = world.services.groups[group].items()
    assert stream[0] == f"{ACCOUNT}_CloudTrail_{REGION}"
    assert [json.loads(event.message)["eventID"] for event in stream[1]] == expected
    keys = [json.loads(text)["s3ObjectKey"][0] for _, text in world.services.topics[topic]]
    assert sorted(key.split("/")[2] for key in keys) == ["CloudTrail", "CloudTrail-Insight"]


@asynchronous
async def test_selectors_apply_within_regions_and_global_services() -> None:
    world = World()
    await world.add(selectors=WRITES, include_global_services=False)
    expected = [await world.start_logging()]
    ec2 = "ec2.amazonaws.com"
    await world.event(eventSource="iam.amazonaws.com", readOnly=False)
    await world.event(eventSource=ec2, readOnly=False, awsRegion=OTHER)
    await world.event(eventSource=ec2, readOnly=True)
    expected += await world.event(eventSource=ec2, readOnly=False)
    await world.deliver()
    await world.check(expected)


@asynchronous
async def test_new_selectors_take_effect_at_the_calls_position() -> None:
    world = World()
    await world.add(validation=True)
    expected = [await world.start_logging()]
    await world.event(**in_bucket())
    expected.append(await world.update(selectors=ONE_BUCKET))
    expected += await world.event(**in_bucket())
    await world.deliver(flush=True)
    expected += await world.event(readOnly=True)
    expected.append(await world.update(selectors=WRITES))
    await world.event(readOnly=True)
    await world.event(**in_bucket())
    expected += await world.event(readOnly=False)
    expected.append(await world.update(selectors=None))
    expected += await world.event(readOnly=True)
    await world.event(**in_bucket())
    world.clock.advance(60)
    await world.deliver(flush=True)
    # One chain: its digests continue, whatever the selectors.
    await world.check(expected, chains=1)


@pytest.mark.parametrize("moment", range(1, 13))
@asynchronous
async def test_new_selectors_apply_at_any_moment(
    moment: int,
) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(2)]
    await world.event(**in_bucket())

    async def change_just_then() -> None:
        expected.append(await world.update(selectors=ONE_BUCKET))
        expected.extend(await world.event(2, **in_bucket()))

    world.breaker.before_next(moment, change_just_then)
    for _ in range(4):
        await world.deliver()
    await world.check(expected)


@pytest.mark.anomaly
@pytest.mark.parametrize(
    "selectors", [ONE_BUCKET, WRITES, NETWORK_TOO], ids=["one bucket", "writes", "network"]
)
@pytest.mark.parametrize("global_services", [True, False])
@asynchronous
async def test_a_rebuilt_file_uses_its_original_selectors(
    selectors: dict[str, Any], global_services: bool
) -> None:
    world = World()
    await world.add(selectors=selectors, include_global_services=global_services)
    await world.start_logging()
    await world.event(3, readOnly=True, eventSource="ec2.amazonaws.com")
    await world.event(3, eventSource="iam.amazonaws.com")
    await world.event(2, **in_bucket())
    await world.event(2, **REFUSED)
    world.objects.faults.extend([Fault.LOST_ANSWER, None, None])
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    await world.restarted().deliver()
    first = {key: stored.content for key, stored in world.buckets.objects[BUCKET].items()}
    assert len(first) == (2 if selectors is NETWORK_TOO else 1)

    # The same, but the process ends between plan and PUT, and then selectors change.
    again = World(clock=world.clock)
    await again.add(selectors=selectors, include_global_services=global_services)
    (span,) = (await world.stored()).trail.spans
    again.entries.extend(world.entries)
    trail = await again.stored()
    await again.registry.change(trail, replace(trail.trail, logging=True, spans=(span,)))
    again.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await again.deliver()
    await again.update(selectors=READS)
    again = again.restarted()
    await again.deliver()
    made = {key: stored.content for key, stored in again.buckets.objects[BUCKET].items()}
    assert first.items() <= made.items()


@asynchronous
async def test_a_plan_without_selectors_is_written() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(2)]
    await world.event(**in_bucket())
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    (plan,) = [key for key in world.documents if key[0] == "plan"]
    version, text = world.documents[plan]
    document = json.loads(text)
    for member in ("kind", "selectors", "insight_selectors", "trail"):
        del document[member]
    world.documents[plan] = (version, json.dumps(document))
    await world.restarted().deliver()
    await world.check(expected)


@asynchronous
async def test_records_are_parsed_only_where_necessary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parse(*_: object) -> NoReturn:
        raise AssertionError("a record was parsed")

    monkeypatch.setattr(EventRecord, "fields", property(parse))
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(2)]
    await world.event(**in_bucket())
    await world.event(awsRegion=OTHER)
    await world.deliver()
    await world.check(expected)
    await world.update(selectors=WRITES)
    await world.event()
    with pytest.raises(AssertionError, match="parsed"):
        await world.deliver()


# Names and bytes


@pytest.mark.parametrize(
    ("prefix", "start"),
    [("", ""), ("audit", "audit/"), ("audit/2020/", "audit/2020//")],
)
@asynchronous
async def test_files_name_has_awss_form_and_the_time(prefix: str, start: str) -> None:
    world = World()
    await world.add(prefix=prefix)
    expected = [await world.start_logging()]
    world.clock.moment = MOMENT + timedelta(days=40, hours=7, minutes=5, seconds=59)
    done = await world.deliver()
    (key,) = done.logs
    assert key[: -len("0123456789abcdef.json.gz")] == (
        f"{start}AWSLogs/123456789012/CloudTrail/us-east-1/2020/02/10/"
        "123456789012_CloudTrail_us-east-1_20200210T1605Z_"
    )
    assert world.log_keys() == [key]
    await world.check(expected)


@asynchronous
async def test_files_of_the_same_minute_have_different_names() -> None:
    world = World()
    await world.add(multi_region=True)
    expected = [await world.start_logging()]
    for _ in range(10):
        expected += await world.event()
        expected += await world.event(awsRegion=OTHER)
        await world.deliver()
    assert len(world.log_keys()) == 20
    await world.check(expected)


@asynchronous
async def test_file_has_records_in_the_order_of_recording() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    for second in (50, 10, 30):
        time = f"{MOMENT + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"
        expected += await world.event(eventTime=time)
    await world.deliver()
    (log,) = (await world.check(expected)).logs
    assert log.event_ids == expected


@asynchronous
async def test_empty_interval_writes_nothing() -> None:
    world = World()
    await world.add()
    assert (await world.deliver()).logs == []
    expected = [await world.start_logging()]
    await world.deliver()
    await world.event(3, eventCategory="Data")
    world.clock.advance(300)
    assert (await world.deliver()).logs == []
    await world.check(expected)


@pytest.mark.slow
@asynchronous
async def test_a_file_holds_at_most_fifty_megabytes_uncompressed() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    padding = "x" * 1_000_000
    large = [a_new_entry(a_record(eventID=f"e-{n}", userAgent=padding)) for n in range(60)]
    await world.journal.append(large)
    await world.deliver()
    delivered = await world.verified()
    assert len(delivered.logs) > 1
    assert all(len(log.content) <= 50_000_000 for log in delivered.logs)
    ids = [i for log in delivered.logs for i in log.event_ids if i.startswith("e-")]
    assert sorted(ids) == sorted(f"e-{number}" for number in range(60))


# Changed settings


@asynchronous
async def test_new_bucket_and_prefix_apply_from_the_call() -> None:
    world = World()
    await world.add()
    before = [await world.start_logging(), *await world.event(3)]
    before.append(await world.update(bucket="other-bucket", prefix="new"))
    after = await world.event(3)
    after.append(await world.stop_logging())
    await world.deliver()
    delivered = await world.check(before + after)
    by_bucket = {log.bucket: log for log in delivered.logs}
    assert by_bucket[BUCKET].event_ids == before
    assert by_bucket["other-bucket"].event_ids == after
    assert by_bucket["other-bucket"].key.startswith("new/AWSLogs/")


@asynchronous
async def test_many_changes_each_have_their_stretch() -> None:
    world = World()
    await world.add()
    stretches = [[await world.start_logging()]]
    for number in range(4):
        stretches[-1] += await world.event(2)
        stretches[-1].append(await world.update(prefix=f"p{number}"))
        stretches.append([])
    stretches[-1] += await world.event(2)
    await world.deliver()
    delivered = await world.check([event_id for stretch in stretches for event_id in stretch])
    assert sorted(log.event_ids for log in delivered.logs) == sorted(stretches)


@asynchronous
async def test_multi_region_trail_adds_regions_from_the_call() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    await world.event(awsRegion=OTHER)
    expected.append(await world.update(multi_region=True))
    expected += await world.event(awsRegion=OTHER)
    expected.append(await world.update(multi_region=False))
    await world.event(awsRegion=OTHER)
    await world.deliver()
    await world.check(expected)


@pytest.mark.parametrize("moment", range(1, 13))
@asynchronous
async def test_events_after_stop_logging_are_not_delivered(moment: int) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(2)]

    async def stop_just_then() -> None:
        expected.append(await world.stop_logging())
        await world.event(4)

    world.breaker.before_next(moment, stop_just_then)
    for _ in range(4):
        await world.deliver()
    await world.check(expected)


@pytest.mark.parametrize("moment", range(1, 13))
@asynchronous
async def test_new_bucket_applies_at_any_moment(
    moment: int,
) -> None:
    world = World()
    await world.add()
    before = [await world.start_logging(), *await world.event(2)]
    after: list[str] = []

    async def change_just_then() -> None:
        before.append(await world.update(bucket="other-bucket"))
        after.extend(await world.event(4))

    world.breaker.before_next(moment, change_just_then)
    for _ in range(4):
        await world.deliver()
    delivered = await world.check(before + after)
    found: dict[str, list[str]] = {BUCKET: [], "other-bucket": []}
    for log in delivered.logs:
        found[log.bucket] += log.event_ids
    assert {bucket: sorted(ids) for bucket, ids in found.items()} == {
        BUCKET: sorted(before),
        "other-bucket": sorted(after),
    }


@asynchronous
async def test_deleted_trail_delivers_its_rest_then_disappears() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    expected.append(await world.delete())
    await world.event(3)
    await world.deliver()
    await world.check(expected)
    assert world.worker().finished
    assert world.documents == {}


# Failing stores


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.LOST_ANSWER])
@asynchronous
async def test_a_failed_put_is_repeated_unchanged(fault: Fault) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    world.objects.faults.append(fault)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    held = dict(world.buckets.objects[BUCKET])
    world.clock.advance(3_600)
    later = await world.event(2)
    await world.deliver()
    delivered = await world.check(expected + later)
    assert held.items() <= world.buckets.objects[BUCKET].items()
    assert len(delivered.logs) == 2


@asynchronous
async def test_planned_files_precede_new_plans() -> None:
    world = World()
    await world.add(multi_region=True)
    first = [await world.start_logging(), *await world.event(awsRegion=OTHER)]
    world.objects.faults.extend([None, Fault.UNAVAILABLE])
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert len(world.log_keys()) == 1
    second = await world.event(2)
    world = world.restarted()
    done = await world.deliver()
    assert len(done.logs) == 2
    await world.check(first + second)


@asynchronous
async def test_wrong_stored_bytes_raise_an_alarm() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world.objects.faults.append(Fault.WRONG_BYTES)
    for _ in range(3):
        with pytest.raises(ObjectStoreError, match="not what was written") as error:
            await world.deliver()
        assert error.value.code == "ObjectMismatch"
    assert (await world.state()).latest_error == "ObjectMismatch"
    assert len(world.buckets.stored) == 1
    assert (await world.state()).latest_delivery is None


async def taken_names(world: World, count: int) -> tuple[World, dict[str, Any]]:
    """Gives other objects the first names of a file; returns the next process, and those names."""
    world.objects.faults.append(Fault.WRONG_BYTES)
    for _ in range(count):
        with pytest.raises(ObjectStoreError, match="not what was written"):
            await world.deliver()
        world = world.restarted()
        world.objects.faults.extend([None, Fault.WRONG_BYTES])
    world.objects.faults.clear()
    return world, dict(world.buckets.objects[BUCKET])


@pytest.mark.parametrize("count", [1, 2, 3])
@asynchronous
async def test_a_file_with_taken_names_gets_another(count: int) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging(), *await world.event(3)]
    world, others = await taken_names(world, count)
    assert len(others) == count
    written = (await world.deliver()).logs
    objects = world.buckets.objects[BUCKET]
    assert others.items() <= objects.items()
    assert len(objects) == count + 1
    assert written == [key for key in objects if key not in others]
    assert len({len(each) for each in objects}) == 1
    assert len({each[:-24] for each in objects}) == 1
    for other in others:
        del objects[other]
    await world.check(expected)


@asynchronous
async def test_a_file_gets_four_names_at_most() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    world, others = await taken_names(world, 4)
    with pytest.raises(ObjectTaken):
        await world.deliver()
    assert world.buckets.objects[BUCKET] == others
    assert len(others) == 4


@asynchronous
async def test_state_has_the_last_delivery_of_each_region() -> None:
    world = World()
    await world.add(multi_region=True)
    await world.start_logging()
    await world.deliver()
    first = world.clock.now()
    world.clock.advance(3_600)
    await world.event(awsRegion=OTHER)
    await world.deliver()
    state = await world.state()
    assert state.deliveries == {
        REGION: stored_time(first),
        OTHER: stored_time(world.clock.now()),
    }


@asynchronous
async def test_a_missing_bucket_is_reported_and_used_later() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    gone = world.buckets.objects.pop(BUCKET)
    for _ in range(3):
        expected += await world.event(2)
        world.clock.advance(300)
        with pytest.raises(ObjectMissing):
            await world.deliver()
    state = await world.state()
    assert state.latest_error == "NoSuchBucket"
    assert state.latest_delivery is None
    assert state.latest_attempt == world.clock.now().isoformat(timespec="microseconds")
    world.buckets.objects[BUCKET] = gone
    await world.deliver()
    await world.check(expected)
    state = await world.state()
    assert state.latest_error is None
    assert state.latest_delivery == world.clock.now().isoformat(timespec="microseconds")


@asynchronous
async def test_a_silent_endpoint_is_reported() -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    world.objects.down = "ConnectTimeoutError"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert (await world.state()).latest_error == "ConnectTimeoutError"
    world.objects.down = None
    await world.deliver()
    assert (await world.state()).latest_error is None
    await world.check(expected)


@asynchronous
async def test_old_events_still_go_to_the_old_bucket() -> None:
    world = World()
    await world.add()
    before = [await world.start_logging()]
    world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    before.append(await world.update(bucket="other-bucket"))
    after = await world.event(1)
    world.objects.down = None
    await world.deliver()
    delivered = await world.check(before + after)
    in_old = [i for log in delivered.logs if log.bucket == BUCKET for i in log.event_ids]
    assert sorted(in_old) == sorted(before)


async def with_a_plan(count: int = 0, **options: Any) -> tuple[World, list[str]]:
    """Returns a trail whose planned file could not be written, and its events."""
    world = World()
    await world.add(**options)
    events = [await world.start_logging(), *(await world.event(count) if count else [])]
    world.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    return world, events


@asynchronous
async def test_a_plan_with_changed_records_is_not_written() -> None:
    world, _ = await with_a_plan()
    world.entries[0] = replace(world.entries[0], record=world.entries[0].record + b" ")
    with pytest.raises(ObjectStoreError, match="have changed") as error:
        await world.restarted().deliver()
    assert error.value.code == "PlanMismatch"
    assert world.log_keys() == []


@pytest.mark.parametrize("missing", [{1}, {2, 3}, {5}])
@asynchronous
async def test_records_lost_after_planning_cost_no_other_event(missing: set[int]) -> None:
    cut_at, is_cut = 0, True
    while is_cut:
        cut_at += 1
        world, events = await with_a_plan(4, validation=True)
        (planned,) = await world.control.scan("plan")
        cut = world.restarted(Breaker(cut_at))
        cut.journal.missing = missing
        with suppress(PowerCutError):
            await cut.deliver()
        is_cut = cut.breaker.tripped
        again = world.restarted()
        again.journal.missing = missing
        events += await again.event(2)
        await again.deliver(flush=True)
        await again.check([e for n, e in enumerate(events, 1) if n not in missing], chains=1)
        assert planned.document["key"] not in world.log_keys()
        undelivered = await load_undelivered(again.control, UID)
        assert undelivered is not None
        assert undelivered.ranges == [[min(missing), max(missing)]]


@asynchronous
async def test_a_file_without_remaining_records_is_not_written() -> None:
    world, _ = await with_a_plan()
    again = world.restarted()
    again.journal.missing = {1}
    events = await again.event(2)
    await again.deliver()
    await again.check(events)


@asynchronous
async def test_events_expired_before_planning_are_named() -> None:
    world = World()
    await world.add()
    events = [await world.start_logging(), *await world.event(6)]
    world.journal.missing = {2, 3, 5}
    await world.deliver()
    await world.check([e for n, e in enumerate(events, 1) if n not in {2, 3, 5}])
    undelivered = await load_undelivered(world.control, UID)
    assert undelivered is not None
    assert (undelivered.ranges, undelivered.count) == ([[2, 3], [5, 5]], 3)
    assert undelivered.is_current((await world.stored()).trail)
    await world.stop_logging()
    world.clock.advance(1)
    await world.start_logging()
    assert not undelivered.is_current((await world.stored()).trail)


@asynchronous
async def test_lost_and_delivered_positions_did_not_expire() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    await world.event(6)
    world.journal.missing = {2, 3, 5}
    world.journal.lost.append(LostPositions(5, 5, "damage"))
    state = await world.state()
    state.skipped = [[3, 4]]
    await world.control.apply([Put(DELIVERY, UID, state.document())])
    await world.deliver()
    undelivered = await load_undelivered(world.control, UID)
    assert undelivered is not None
    assert undelivered.ranges == [[2, 2]]


_RANGES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=8)


@given(
    ranges=_RANGES,
    removed=_RANGES,
)
def test_ranges_have_the_positions_of_sets(
    ranges: list[tuple[int, int]], removed: list[tuple[int, int]]
) -> None:
    spans = [[[first, first + more] for first, more in each] for each in (ranges, removed)]
    left = positions(without(union(spans[0]), spans[1]))
    assert left == sorted(set(positions(spans[0])) - set(positions(spans[1])))


def positions(ranges: Sequence[Sequence[int]]) -> list[int]:
    """Returns the positions in ranges, in their order."""
    return [position for first, last in ranges for position in range(first, last + 1)]


@asynchronous
async def test_a_file_written_before_a_loss_stays_whole() -> None:
    world = World()
    await world.add(validation=True)
    events = [await world.start_logging(), *await world.event(4)]
    world.objects.faults.append(Fault.LOST_ANSWER)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    again = world.restarted()
    again.journal.missing = {2}
    await again.deliver(flush=True)
    await again.check(events, chains=1)


@pytest.mark.parametrize("code", ["AccessDenied", "ObjectMismatch"])
@asynchronous
async def test_held_bucket_gets_no_writes(code: str) -> None:
    world = World()
    await world.add()
    expected = [await world.start_logging()]
    world.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    trail = (await world.stored()).trail
    held = {BUCKET: ObjectStoreError(code, "the content of the bucket is unknown")}
    with pytest.raises(ObjectStoreError, match="is unknown"):
        await world.delivery.finish_plans(trail, await world.state(), held)
    assert world.log_keys() == []
    assert await world.delivery.is_planned(trail, trail.spans[-1])
    assert len(await world.delivery.finish_plans(trail, await world.state())) == 1
    assert not await world.delivery.is_planned(trail, trail.spans[-1])
    await world.check(expected)


@pytest.mark.parametrize("is_held", [False, True], ids=["fails", "is held"])
@asynchronous
async def test_an_unwritable_file_expires_after_30_days(is_held: bool) -> None:
    world = World()
    await world.add()
    await world.start_logging()
    failure = world.objects.down = "SlowDown"
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    trail = (await world.stored()).trail
    held = {BUCKET: ObjectStoreError(failure, "the content of the bucket is unknown")}
    for days, is_left in ((29.9, True), (0.2, False)):
        world.clock.advance(days * 86_400)
        with suppress(ObjectStoreError):
            await world.delivery.finish_plans(trail, await world.state(), held if is_held else None)
        assert await world.delivery.is_planned(trail, trail.spans[-1]) is is_left
        given_up = world.metrics.registry.get_sample_value("opentrail_given_up_files_total")
        assert given_up == (0 if is_left else 1)
    world.objects.down = None
    await world.deliver()
    assert world.log_keys() == []


@pytest.mark.anomaly
@asynchronous
async def test_a_file_rewritten_after_a_restart_is_unchanged() -> None:
    world = World(breaker=Breaker())
    await world.add(multi_region=True, include_global_services=True)
    expected = [await world.start_logging()]
    expected += await world.event(3, awsRegion=OTHER)
    world.objects.faults.append(Fault.LOST_ANSWER)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    ((key, first),) = world.buckets.objects[BUCKET].items()
    world.buckets.objects[BUCKET].clear()
    world.buckets.stored.clear()
    world.clock.advance(86_400)
    world = world.restarted()
    await world.deliver()
    assert world.buckets.objects[BUCKET][key] == first
    await world.check(expected)


# Status and figures


@asynchronous
async def test_state_has_the_time_of_the_latest_delivery() -> None:
    world = World()
    await world.add()
    assert await load_state(world.control, UID) == await world.state()
    assert (await world.state()).latest_delivery is None
    await world.start_logging()
    await world.deliver()
    first = (await world.state()).latest_delivery
    assert first == MOMENT.isoformat(timespec="microseconds")
    world.clock.advance(300)
    await world.deliver()
    assert (await world.state()).latest_delivery == first
    await world.event()
    await world.deliver()
    later = MOMENT + timedelta(minutes=5)
    assert (await world.state()).latest_delivery == later.isoformat(timespec="microseconds")
    assert (await world.state()).latest_attempt == (await world.state()).latest_delivery
    await world.event()
    world.clock.advance(300)
    world.objects.faults.append(Fault.UNAVAILABLE)
    with pytest.raises(ObjectStoreError):
        await world.deliver()
    assert (await world.state()).latest_delivery == later.isoformat(timespec="microseconds")
    attempt = MOMENT + timedelta(minutes=10)
    assert (await world.state()).latest_attempt == attempt.isoformat(timespec="microseconds")


@asynchronous
async def test_files_and_failures_are_counted() -> None:
    world, _ = await with_a_plan()
    sample = world.metrics.registry.get_sample_value
    assert sample("opentrail_delivery_failures_total") == 1
    await world.deliver()
    assert sample("opentrail_delivered_files_total", {"kind": "log"}) == 1
    assert sample("opentrail_delivery_failures_total") == 1


@asynchronous
async def test_log_file_is_gzipped_json() -> None:
    world = World()
    await world.add()
    await world.start_logging()
    await world.deliver()
    (stored,) = world.buckets.objects[BUCKET].values()
    document = json.loads(gzip.decompress(stored.content))
    assert [record["eventName"] for record in document["Records"]] == ["StartLogging"]
    assert stored.content[4:8] == b"\0\0\0\0", "no time stamp, or equal files would differ"
