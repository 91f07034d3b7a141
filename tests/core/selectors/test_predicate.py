"""Selected events: sixty cases by hand, and ten thousands against the naive evaluator."""

from __future__ import annotations

from typing import Any

import pytest

from opentrail.core.event_record import EventFields, EventRecord
from opentrail.core.selectors import Selection, SelectorOwner, predicate_of, read_selection
from tests.core.selectors import naive
from tests.core.selectors.agreement import ENOUGH, PAIRS, judge
from tests.core.selectors.generated import Asked, conditions, variants
from tests.factories import (
    ABSENT,
    ACCOUNT,
    a_data_record,
    a_record,
    an_assumed_role,
    an_iam_user,
    real_records,
    record_bytes,
)

Json = dict[str, Any]
OWN = f"us-east-1:{ACCOUNT}"


# Records


def call(source: str, name: str, read: bool = False, **more: Any) -> Json:
    return a_record(eventSource=f"{source}.amazonaws.com", eventName=name, readOnly=read, **more)


def s3(name: str, arn: str, read: bool = False, **more: Any) -> Json:
    bucket = arn.partition("/")[0]
    touched = [
        {"type": "AWS::S3::Object", "ARN": arn},
        {"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": bucket},
    ]
    given = {"resources": touched, **more}
    return a_data_record(eventName=name, readOnly=read, **given)


def touching(source: str, name: str, kind: str, *arns: str, **more: Any) -> Json:
    touched = [{"accountId": ACCOUNT, "type": kind, "ARN": arn} for arn in arns]
    return a_data_record(
        eventSource=f"{source}.amazonaws.com", eventName=name, resources=touched, **more
    )


def invoked(function: str) -> Json:
    arn = f"arn:aws:lambda:{OWN}:function:{function}"
    return touching("lambda", "Invoke", "AWS::Lambda::Function", arn)


def item(name: str, *tables: str, **more: Any) -> Json:
    arns = [f"arn:aws:dynamodb:{OWN}:table/{table}" for table in tables]
    return touching("dynamodb", name, "AWS::DynamoDB::Table", *arns, **more)


def network(source: str, name: str, **more: Any) -> Json:
    return a_record(
        **{
            "eventSource": f"{source}.amazonaws.com",
            "eventName": name,
            "eventType": "AwsVpceEvent",
            "eventCategory": "NetworkActivity",
            "vpcEndpointId": "vpce-1234abcd",
            "vpcEndpointAccountId": ACCOUNT,
            **dict.fromkeys(("readOnly", "managementEvent", "requestParameters"), ABSENT),
            **dict.fromkeys(("responseElements", "userAgent"), ABSENT),
            **more,
        }
    )


# Selections


def basic(**members: Any) -> Json:
    return {"EventSelectors": [members]}


def only_data(kind: str, *values: str, **members: Any) -> Json:
    resource = {"Type": kind, "Values": list(values)}
    return basic(IncludeManagementEvents=False, DataResources=[resource], **members)


def fields(category: str, *given: tuple[str, str, str | list[str]]) -> Json:
    by_field: dict[str, Json] = {"eventCategory": {"Equals": [category]}}
    for field, operator, values in given:
        listed = [values] if isinstance(values, str) else values
        by_field.setdefault(field, {})[operator] = listed
    return {"FieldSelectors": [{"Field": field, **by_field[field]} for field in by_field]}


def advanced(*selectors: Json) -> Json:
    return {"AdvancedEventSelectors": list(selectors)}


def data(kind: str, *given: tuple[str, str, str | list[str]]) -> Json:
    return advanced(fields("Data", ("resources.type", "Equals", kind), *given))


def vpce(source: str, *given: tuple[str, str, str | list[str]]) -> Json:
    event_source = ("eventSource", "Equals", f"{source}.amazonaws.com")
    return advanced(fields("NetworkActivity", event_source, *given))


S3, FUNCTION, TABLE = "AWS::S3::Object", "AWS::Lambda::Function", "AWS::DynamoDB::Table"
NO_KMS = basic(ExcludeManagementEventSources=["kms.amazonaws.com"])
NO_RDS = advanced(fields("Management", ("eventSource", "NotEquals", "rdsdata.amazonaws.com")))
WRITES, READS = basic(ReadWriteType="WriteOnly"), basic(ReadWriteType="ReadOnly")
ONE_BUCKET = only_data(S3, "arn:aws:s3:::evidence/")
ONE_PREFIX = only_data(S3, "arn:aws:s3:::evidence/in/2020")
ALL_S3 = basic(DataResources=[{"Type": S3, "Values": ["arn:aws:s3"]}])
ORDERS = only_data(TABLE, f"arn:aws:dynamodb:{OWN}:table/Orders")
HELLO = only_data(FUNCTION, f"arn:aws:lambda:{OWN}:function:helloworld")
NOT_LOGS = data(S3, ("resources.ARN", "NotStartsWith", ["arn:aws:s3:::logs/", "arn:aws:s3:::tmp/"]))
CSV = data(
    S3,
    ("resources.ARN", "StartsWith", "arn:aws:s3:::evidence/"),
    ("resources.ARN", "EndsWith", ".csv"),
)
NO_CSV = data(
    S3,
    ("resources.ARN", "StartsWith", "arn:aws:s3:::evidence/"),
    ("resources.ARN", "NotEndsWith", ".csv"),
)
NOT_ETL = data(
    S3,
    ("userIdentity.arn", "NotEquals", f"arn:aws:sts::{ACCOUNT}:assumed-role/DataRole/etl"),
)
FROM_CONSOLE = data(S3, ("sessionCredentialFromConsole", "Equals", "true"))
NOT_CONSOLE = data(S3, ("sessionCredentialFromConsole", "NotEquals", "true"))
DENIED = vpce("kms", ("errorCode", "Equals", "VpceAccessDenied"))
#: AWS's guide: all except the DeleteObject records of one DeleteObjects call.
NO_DELETES = data(S3, ("eventName", "NotEquals", ["DeleteObject"]))
TWO = advanced(
    fields("Management", ("readOnly", "Equals", "false")),
    fields("Data", ("resources.type", "Equals", FUNCTION)),
)
CHINA = "arn:aws-cn:s3:::evidence/a"
COPY: dict[str, Any] = {
    "resources": [
        {"type": S3, "ARN": "arn:aws:s3:::logs/a"},
        {"type": S3, "ARN": "arn:aws:s3:::evidence/b.csv"},
    ]
}
#: A function that reads an object; the event names both.
TWO_KINDS: dict[str, Any] = {
    "resources": [
        {"type": FUNCTION, "ARN": f"arn:aws:lambda:{OWN}:function:helloworld"},
        {"type": S3, "ARN": "arn:aws:s3:::evidence/b.csv"},
    ]
}
LISTED: dict[str, Any] = {
    "resources": [{"type": S3, "ARNPrefix": "arn:aws:s3:::evidence/in/2020/"}]
}
CONSOLE: dict[str, Any] = {"sessionCredentialFromConsole": "true"}

CASES: dict[str, tuple[Json | None, Json, bool]] = {
    # Never configured
    "management by default": (None, call("iam", "CreateUser"), True),
    "reads by default": (None, call("iam", "GetUser", read=True), True),
    "no data by default": (None, s3("PutObject", "arn:aws:s3:::evidence/a"), False),
    "no network activity by default": (None, network("s3", "GetObject"), False),
    # Management
    "kms is excluded": (NO_KMS, call("kms", "Decrypt", read=True), False),
    "others than kms are not": (NO_KMS, call("sts", "AssumeRole", read=True), True),
    "kms is not excluded by rdsdata": (NO_RDS, call("kms", "Decrypt", read=True), True),
    "rdsdata is excluded": (NO_RDS, call("rdsdata", "ExecuteStatement"), False),
    "excluded by one, taken by another": (
        {"EventSelectors": [*NO_KMS["EventSelectors"], {"ReadWriteType": "WriteOnly"}]},
        call("kms", "CreateKey"),
        True,
    ),
    "a write of writes": (WRITES, call("ec2", "RunInstances"), True),
    "a read of writes": (WRITES, call("ec2", "GetConsoleOutput", read=True), False),
    "a read of reads": (READS, call("ec2", "GetConsoleOutput", read=True), True),
    "a write of reads": (READS, call("ec2", "RunInstances"), False),
    "without readOnly of writes": (WRITES, a_record(readOnly=ABSENT), True),
    "without readOnly of reads": (READS, a_record(readOnly=ABSENT), False),
    "management switched off": (
        basic(IncludeManagementEvents=False),
        call("s3", "ListBuckets"),
        False,
    ),
    "advanced reads": (
        advanced(fields("Management", ("readOnly", "Equals", "true"))),
        call("iam", "GetUser", read=True),
        True,
    ),
    "advanced reads, a write": (
        advanced(fields("Management", ("readOnly", "Equals", "true"))),
        call("iam", "CreateUser"),
        False,
    ),
    "an old record without category": (
        WRITES,
        a_record(eventCategory=ABSENT, managementEvent=ABSENT, readOnly=False),
        True,
    ),
    # S3, basic
    "one bucket": (ONE_BUCKET, s3("PutObject", "arn:aws:s3:::evidence/in/a.csv"), True),
    "another bucket": (ONE_BUCKET, s3("PutObject", "arn:aws:s3:::other/in/a.csv"), False),
    "a longer name": (ONE_BUCKET, s3("PutObject", "arn:aws:s3:::evidence-2/in/a.csv"), False),
    "a prefix": (ONE_PREFIX, s3("GetObject", "arn:aws:s3:::evidence/in/2020/a", read=True), True),
    "a prefix within a name": (ONE_PREFIX, s3("GetObject", "arn:aws:s3:::evidence/in/2020a"), True),
    "beside a prefix": (ONE_PREFIX, s3("GetObject", "arn:aws:s3:::evidence/in/2019/a"), False),
    "a list below a prefix": (ONE_PREFIX, s3("ListObjects", "arn:aws:s3:::x/y", **LISTED), True),
    "all of S3": (ALL_S3, s3("PutObject", "arn:aws:s3:::anything/a"), True),
    "all of S3, management too": (ALL_S3, call("s3", "CreateBucket"), True),
    "all of S3 in the old form": (
        only_data(S3, "arn:aws:s3:::"),
        s3("HeadObject", "arn:aws:s3:::anything/a", read=True),
        True,
    ),
    "not management with only data": (ONE_BUCKET, call("s3", "CreateBucket"), False),
    "all of S3 is not all of Lambda": (ALL_S3, invoked("helloworld"), False),
    "only reads of S3": (
        only_data(S3, "arn:aws:s3", ReadWriteType="ReadOnly"),
        s3("PutObject", "arn:aws:s3:::evidence/a"),
        False,
    ),
    "China": (only_data(S3, "arn:aws-cn:s3:::evidence/"), s3("PutObject", CHINA), True),
    "not China": (ONE_BUCKET, s3("PutObject", CHINA), False),
    # Lambda and DynamoDB, basic
    "one function": (HELLO, invoked("helloworld"), True),
    "a longer function": (HELLO, invoked("helloworld2"), False),
    "all functions": (only_data(FUNCTION, "arn:aws:lambda"), invoked("helloworld2"), True),
    "one table": (ORDERS, item("PutItem", "Orders"), True),
    "another table": (ORDERS, item("PutItem", "Orders2"), False),
    "an index of the table": (ORDERS, item("Query", "Orders/index/by-day"), True),
    "a stream of the table": (ORDERS, item("GetRecords", "Orders/stream/2020"), False),
    "one of two tables": (ORDERS, item("TransactWriteItems", "Users", "Orders"), True),
    "all tables": (only_data(TABLE, "arn:aws:dynamodb"), item("Scan", "Users"), True),
    # Data, advanced
    "not from two buckets": (NOT_LOGS, s3("PutObject", "arn:aws:s3:::logs/a"), False),
    "from any other": (NOT_LOGS, s3("PutObject", "arn:aws:s3:::evidence/a"), True),
    "copied out of an excluded one": (
        NOT_LOGS,
        s3("CopyObject", "arn:aws:s3:::x/y", **COPY),
        False,
    ),
    "both operators": (CSV, s3("PutObject", "arn:aws:s3:::evidence/in/a.csv"), True),
    "only one operator": (CSV, s3("PutObject", "arn:aws:s3:::evidence/in/a.txt"), False),
    "only the other operator": (CSV, s3("PutObject", "arn:aws:s3:::other/in/a.csv"), False),
    "one of two objects": (CSV, s3("CopyObject", "arn:aws:s3:::x/y", **COPY), True),
    "no object of the kind at all": (NOT_LOGS, item("PutItem", "Orders"), False),
    "not excluded, but not demanded either": (
        NO_CSV,
        s3("PutObject", "arn:aws:s3:::other/a"),
        False,
    ),
    "demanded and not excluded": (NO_CSV, s3("PutObject", "arn:aws:s3:::evidence/a"), True),
    "demanded, but excluded": (NO_CSV, s3("PutObject", "arn:aws:s3:::evidence/a.csv"), False),
    "an object after another kind": (
        NOT_LOGS,
        s3("GetObject", "arn:aws:s3:::x/y", **TWO_KINDS),
        True,
    ),
    "the bucket's own ARN matches no object": (
        data(S3, ("resources.ARN", "Equals", "arn:aws:s3:::evidence")),
        s3("PutObject", "arn:aws:s3:::evidence/a"),
        False,
    ),
    "one queue": (
        data("AWS::SQS::Queue", ("resources.ARN", "Equals", f"arn:aws:sqs:{OWN}:jobs")),
        touching("sqs", "SendMessage", "AWS::SQS::Queue", f"arn:aws:sqs:{OWN}:jobs"),
        True,
    ),
    "event names that begin so": (
        data(TABLE, ("eventName", "StartsWith", ["Put", "Batch"])),
        item("BatchWriteItem", "Orders"),
        True,
    ),
    "event names that end otherwise": (
        data(TABLE, ("eventName", "NotEndsWith", ["Item"])),
        item("PutItem", "Orders"),
        False,
    ),
    "DeleteObject of DeleteObjects": (NO_DELETES, s3("DeleteObject", "arn:aws:s3:::a/b"), False),
    "DeleteObjects itself": (NO_DELETES, s3("DeleteObjects", "arn:aws:s3:::a/b"), True),
    "everybody but one role": (
        NOT_ETL,
        s3("PutObject", "arn:aws:s3:::a/b", userIdentity=an_iam_user("John")),
        True,
    ),
    "the one role": (
        NOT_ETL,
        s3("PutObject", "arn:aws:s3:::a/b", userIdentity=an_assumed_role()),
        False,
    ),
    "somebody without an ARN": (
        NOT_ETL,
        s3("PutObject", "arn:aws:s3:::a/b", userIdentity={"type": "AWSService"}),
        True,
    ),
    "from the console": (FROM_CONSOLE, s3("PutObject", "arn:aws:s3:::a/b", **CONSOLE), True),
    "not from the console": (FROM_CONSOLE, s3("PutObject", "arn:aws:s3:::a/b"), False),
    "only the console, by excluding the rest": (
        data(S3, ("sessionCredentialFromConsole", "NotEquals", "false")),
        s3("PutObject", "arn:aws:s3:::a/b", **CONSOLE),
        True,
    ),
    "no console wanted": (NOT_CONSOLE, s3("PutObject", "arn:aws:s3:::a/b", **CONSOLE), False),
    "no console wanted and none there": (NOT_CONSOLE, s3("PutObject", "arn:aws:s3:::a/b"), True),
    "the other of two selectors": (TWO, invoked("helloworld"), True),
    "neither of two selectors": (TWO, s3("PutObject", "arn:aws:s3:::a/b"), False),
    # Network activity
    "denied by an endpoint's policy": (
        DENIED,
        network("kms", "Decrypt", errorCode="VpceAccessDenied"),
        True,
    ),
    "allowed by it": (DENIED, network("kms", "Decrypt"), False),
    "denied to another service": (
        DENIED,
        network("s3", "GetObject", errorCode="VpceAccessDenied"),
        False,
    ),
    "a management call of the source": (vpce("kms"), call("kms", "CreateKey"), False),
    "through one endpoint": (
        vpce("s3", ("vpcEndpointId", "Equals", "vpce-1234abcd")),
        network("s3", "GetObject"),
        True,
    ),
    "through another endpoint": (
        vpce("s3", ("vpcEndpointId", "NotEquals", "vpce-1234abcd")),
        network("s3", "GetObject"),
        False,
    ),
    "not by somebody": (
        vpce("s3", ("userIdentity.arn", "NotStartsWith", f"arn:aws:iam::{ACCOUNT}:user/Jo")),
        network("s3", "GetObject"),
        False,
    ),
}


def taken(document: Json | None, record: Json) -> bool:
    selection = (
        Selection.from_document(None)
        if document is None
        else read_selection(document, SelectorOwner.TRAIL)
    )
    fields = EventRecord(record_bytes(record)).fields
    return predicate_of(selection).matches(naive.category_of(record), fields)


@pytest.mark.parametrize("name", CASES)
def test_a_selection_matches_awss_guide(name: str) -> None:
    document, record, expected = CASES[name]
    assert taken(document, record) is expected
    # The evaluator that judges the generated ones must pass the same cases.
    assert naive.takes(document or basic(), record) is expected


def test_both_outcomes_have_enough_cases() -> None:
    outcomes = [expected for _, _, expected in CASES.values()]
    assert len(outcomes) >= 60
    assert min(outcomes.count(True), outcomes.count(False)) >= 25


@pytest.mark.campaign
@pytest.mark.slow
def test_naive_evaluator_agrees_about_variants_of_real_records() -> None:
    found = judge(variants(real_records(), 1_400))
    assert found.pairs >= PAIRS
    for category, field, operator in conditions():
        condition = f"{category} {field} {operator}"
        assert found.matches[condition] >= ENOUGH, condition
        assert found.refusals[condition] >= ENOUGH, condition


def test_a_store_selects_other_events_by_category() -> None:
    for category in ("Insight", "ConfigurationItem", "Evidence", "ActivityAuditLog"):
        selection = read_selection(advanced(fields(category)), SelectorOwner.EVENT_DATA_STORE)
        predicate = predicate_of(selection)
        assert predicate.decides(category) is True
        assert predicate.matches(category, EventFields())
        assert predicate.decides("Management") is False


# One predicate, decided as early as possible


def test_equivalent_selections_share_one_predicate() -> None:
    one = read_selection(NOT_LOGS, SelectorOwner.TRAIL)
    (selector,) = NOT_LOGS["AdvancedEventSelectors"]
    named = read_selection(
        advanced({**selector, "Name": "all but logs"}), SelectorOwner.EVENT_DATA_STORE
    )
    assert predicate_of(one) is predicate_of(named)
    assert predicate_of(one) is not predicate_of(read_selection(CSV, SelectorOwner.TRAIL))
    assert predicate_of(read_selection(basic(), SelectorOwner.TRAIL)) is predicate_of(
        Selection.from_document(None)
    )


@pytest.mark.parametrize(
    ("document", "management", "data_events", "network_activity"),
    [
        (basic(), True, False, False),
        (NO_KMS, None, False, False),
        (WRITES, None, False, False),
        (basic(IncludeManagementEvents=False), False, False, False),
        (ALL_S3, True, None, False),
        (ONE_BUCKET, False, None, False),
        (advanced(fields("Management")), True, False, False),
        (TWO, None, None, False),
        (advanced(fields("Management"), *TWO["AdvancedEventSelectors"]), True, None, False),
        (DENIED, False, False, None),
    ],
)
def test_the_category_decides_where_it_can(
    document: Json,
    management: bool | None,
    data_events: bool | None,
    network_activity: bool | None,
) -> None:
    predicate = predicate_of(read_selection(document, SelectorOwner.TRAIL))
    assert predicate.decides("Management") is management
    assert predicate.decides("Data") is data_events
    assert predicate.decides("NetworkActivity") is network_activity
    assert predicate.decides("Insight") is False
    assert not predicate.matches("Insight", EventFields("a", "b"))


def test_the_base_of_a_condition_omits_only_it() -> None:
    given = data(S3, ("eventName", "Equals", "PutObject"))
    asked = Asked(given, condition="Data eventName Equals")
    assert asked.base == data(S3)
    by_type = Asked(data(S3), condition="Data resources.type Equals")
    assert by_type.base == advanced(fields("Data"))
