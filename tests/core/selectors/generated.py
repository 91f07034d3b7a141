"""Records of all three categories, and selectors with their values.

One seed makes the questions of every run the same.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.core.selectors.naive import advanced_takes, category_of, values_of

Json = dict[str, Any]

OPERATORS = ("Equals", "StartsWith", "EndsWith", "NotEquals", "NotStartsWith", "NotEndsWith")
TEXTS = ("eventSource", "eventName", "eventType", "userIdentity.arn")
NETWORK_SOURCES = ("s3", "kms", "ec2", "cloudtrail", "secretsmanager")
_S3, _BUCKET = "AWS::S3::Object", "AWS::S3::Bucket"
_TABLE, _FUNCTION = "AWS::DynamoDB::Table", "AWS::Lambda::Function"
_OWN = "us-east-1:123456789012"
#: Resources in data events of a self-hosted service: usual and odd forms.
RESOURCES: tuple[Any, ...] = (
    *(
        [
            {"type": _S3, "ARN": f"arn:{partition}:s3:::{bucket}/{key}"},
            {"accountId": "123456789012", "type": _BUCKET, "ARN": f"arn:{partition}:s3:::{bucket}"},
        ]
        for partition, bucket, key in (
            ("aws", "evidence", "in/a.csv"),
            ("aws", "evidence", "out/b.parquet"),
            ("aws", "evidence-2", "in/a.csv"),
            ("aws", "logs", "in/2020/01/01/x.json.gz"),
            ("aws-cn", "evidence", "in/a.csv"),
            ("aws-us-gov", "logs", "b.parquet"),
        )
    ),
    [
        {"type": _S3, "ARNPrefix": "arn:aws:s3:::evidence/"},
        {"type": _BUCKET, "ARN": "arn:aws:s3:::evidence"},
    ],
    [{"type": _S3, "ARN": "arn:aws:s3:::logs/a"}, {"type": _S3, "ARN": "arn:aws:s3:::evidence/b"}],
    [{"type": _S3}],
    *(
        [{"type": _TABLE, "ARN": f"arn:aws:dynamodb:{_OWN}:table/{t}"}]
        for t in ("T", "Orders", "Orders2", "Orders/stream/1")
    ),
    [{"type": _TABLE, "ARN": f"arn:aws:dynamodb:{_OWN}:table/Orders/index/by-day"}],
    [
        {"type": _TABLE, "ARN": f"arn:aws:dynamodb:{_OWN}:table/T"},
        {"type": _TABLE, "ARN": f"arn:aws:dynamodb:{_OWN}:table/Orders"},
    ],
    *(
        [{"type": _FUNCTION, "ARN": f"arn:aws:lambda:{_OWN}:function:{f}"}]
        for f in ("hi", "hi2", "pay")
    ),
    [{"type": "AWS::SQS::Queue", "ARN": f"arn:aws:sqs:{_OWN}:jobs"}],
    [{"accountId": "123456789012", "ARN": f"arn:aws:iam::{_OWN[10:]}:role/R"}],
    [{"type": _S3, "arn": "arn:aws:s3:::evidence/c"}, "odd", None],
    [{"type": 7, "ARN": ["odd"]}],
    None,
    "odd",
)
#: Odd forms of members in records that were trimmed, anonymised or written by others.
_ODD: tuple[Json, ...] = (
    {"userIdentity": None},
    {"userIdentity": "somebody"},
    {"userIdentity": {"type": "AWSService", "invokedBy": "s3.amazonaws.com", "arn": 7}},
    {"readOnly": "true"},
    {"readOnly": None},
    {"sessionCredentialFromConsole": 1},
    {"eventType": None},
    {"errorCode": 403},
)


def variants(records: Sequence[Mapping[str, Any]], each: int, seed: int = 7) -> list[Json]:
    """Returns the records, and `each` of every category derived from them by setting members."""
    chance = random.Random(seed)
    made = [dict(copy.deepcopy(record)) for record in records]
    for category in ("Management", "Data", "NetworkActivity"):
        for _ in range(each):
            record = dict(copy.deepcopy(chance.choice(records)))
            record.update(eventCategory=category, managementEvent=category == "Management")
            record["readOnly"] = chance.random() < 0.5
            record["eventType"] = chance.choice(
                ("AwsApiCall", "AwsServiceEvent", "AwsConsoleAction", "AwsConsoleSignIn")
            )
            record["sessionCredentialFromConsole"] = chance.choice(("true", True, "false", None))
            _OF_CATEGORY[category](record, chance)
            if chance.random() < 0.1:
                record.update(copy.deepcopy(chance.choice(_ODD)))
            for name in ("readOnly", "resources", "sessionCredentialFromConsole", "userIdentity"):
                if chance.random() < 0.05:
                    record.pop(name, None)
            made.append(record)
    return made


def _management(record: Json, chance: random.Random) -> None:
    if chance.random() < 0.3:
        record["eventSource"] = chance.choice(("kms.amazonaws.com", "rdsdata.amazonaws.com"))


def _data(record: Json, chance: random.Random) -> None:
    record["resources"] = copy.deepcopy(chance.choice(RESOURCES))


def _network(record: Json, chance: random.Random) -> None:
    record["eventSource"] = f"{chance.choice(NETWORK_SOURCES)}.amazonaws.com"
    record["eventType"] = "AwsVpceEvent"
    record["vpcEndpointId"] = chance.choice((None, "vpce-1234abcd", "vpce-12aa", "vpce-0aa"))
    record.pop("errorCode", None)
    if chance.random() < 0.6:
        record["errorCode"] = chance.choice(("VpceAccessDenied",) * 3 + ("AccessDenied",))
    del record["readOnly"], record["managementEvent"]


_OF_CATEGORY = {"Management": _management, "Data": _data, "NetworkActivity": _network}


@dataclass(frozen=True)
class Asked:
    """A selection for the test; `condition` is the deciding one, if there is one."""

    document: Json
    store: bool = False
    condition: str = ""

    @property
    def base(self) -> Json:
        """The same selector without its condition: where it matches, the condition decides."""
        (selector,) = self.document["AdvancedEventSelectors"]
        required = ("eventCategory", "resources.type", "eventSource")
        field = self.condition.split()[1]
        kept = [
            f for f in selector["FieldSelectors"] if f["Field"] in required and f["Field"] != field
        ]
        return {"AdvancedEventSelectors": [{"FieldSelectors": kept}]}


#: Category → fields and operators, each tested with the required ones.
CONDITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Management": {
        "readOnly": ("Equals",),
        "sessionCredentialFromConsole": ("Equals", "NotEquals"),
        **dict.fromkeys(TEXTS, OPERATORS),
    },
    "Data": {
        "readOnly": ("Equals",),
        "sessionCredentialFromConsole": ("Equals", "NotEquals"),
        **dict.fromkeys((*TEXTS, "resources.ARN"), OPERATORS),
        "resources.type": ("Equals",),
    },
    "NetworkActivity": {
        "eventSource": ("Equals",),
        "errorCode": ("Equals",),
        **dict.fromkeys(("eventName", "vpcEndpointId", "userIdentity.arn"), OPERATORS),
    },
}


class Generator:
    """Makes selectors from values in records."""

    def __init__(self, records: Iterable[Mapping[str, Any]], seed: int = 11) -> None:
        self._chance = random.Random(seed)
        self._by_category: dict[str, list[Mapping[str, Any]]] = {}
        for record in records:
            self._by_category.setdefault(category_of(record), []).append(record)

    def single(self, category: str, field: str, operator: str) -> Asked:
        """Returns a selection with one deciding condition."""
        required = self._required(category, field)
        fields = [*required, {"Field": field, operator: self._values(category, field, required)}]
        # An event data store has all of a trail's fields for management events, and more.
        store = category == "Management"
        return Asked(_advanced(fields), store, f"{category} {field} {operator}")

    def mixed(self) -> Asked:
        """Returns several selectors of several fields, some with several operators."""
        selectors: list[Json] = []
        for _ in range(self._chance.randint(1, 4)):
            category = self._chance.choice(tuple(CONDITIONS))
            fields = self._required(category, "")
            free = [f for f in CONDITIONS[category] if f not in {g["Field"] for g in fields}]
            for field in self._chance.sample(free, self._chance.randint(0, 3)):
                fields.append(self._several(category, field, fields))
            selectors.append({"FieldSelectors": fields, "Name": "mixed"})
        store = any(
            field["Field"] not in ("eventCategory", "readOnly")
            for selector in selectors
            if selector["FieldSelectors"][0]["Equals"] == ["Management"]
            for field in selector["FieldSelectors"]
        )
        if store:
            # Only trails may select the caller of a network activity event.
            for selector in selectors:
                if selector["FieldSelectors"][0]["Equals"] == ["NetworkActivity"]:
                    selector["FieldSelectors"] = [
                        f for f in selector["FieldSelectors"] if f["Field"] != "userIdentity.arn"
                    ]
        return Asked({"AdvancedEventSelectors": selectors}, store)

    def trails_management(self) -> Asked:
        """Returns a trail's valid selector of management events."""
        sources = ["kms.amazonaws.com", "rdsdata.amazonaws.com"]
        fields: list[Json] = [{"Field": "eventCategory", "Equals": ["Management"]}]
        chosen = self._chance.sample(sources, self._chance.randint(1, 2))
        fields.append({"Field": "eventSource", "NotEquals": chosen})
        if self._chance.random() < 0.5:
            fields.append({"Field": "readOnly", "Equals": [self._chance.choice(("true", "false"))]})
        return Asked(_advanced(fields))

    def basic(self) -> Asked:
        """Returns basic selectors."""
        selectors = []
        for _ in range(self._chance.randint(1, 5)):
            selector: Json = {}
            if self._chance.random() < 0.8:
                selector["ReadWriteType"] = self._chance.choice(("All", "ReadOnly", "WriteOnly"))
            if self._chance.random() < 0.7:
                selector["IncludeManagementEvents"] = self._chance.random() < 0.5
            if selector.get("IncludeManagementEvents", True) and self._chance.random() < 0.6:
                selector["ExcludeManagementEventSources"] = self._chance.sample(
                    ["kms.amazonaws.com", "rdsdata.amazonaws.com"], self._chance.randint(0, 2)
                )
            if self._chance.random() < 0.8:
                selector["DataResources"] = [
                    self._chance.choice(_BASIC_RESOURCES) for _ in range(self._chance.randint(0, 3))
                ]
            selectors.append(selector)
        return Asked({"EventSelectors": selectors})

    def _required(self, category: str, but: str) -> list[Json]:
        fields: list[Json] = [{"Field": "eventCategory", "Equals": [category]}]
        if category == "Data" and but != "resources.type":
            kind = self._chance.choice((_S3, _S3, _TABLE, _FUNCTION))
            fields.append({"Field": "resources.type", "Equals": [kind]})
        if category == "NetworkActivity" and but != "eventSource":
            source = f"{self._chance.choice(NETWORK_SOURCES)}.amazonaws.com"
            fields.append({"Field": "eventSource", "Equals": [source]})
        return fields

    def _several(self, category: str, field: str, fields: list[Json]) -> Json:
        operators = CONDITIONS[category][field]
        count = self._chance.randint(1, min(3, len(operators)))
        made: Json = {"Field": field}
        for operator in self._chance.sample(operators, count):
            given = self._values(category, field, fields)
            taken = {*made.get("Equals", []), *made.get("NotEquals", [])}
            left = [value for value in given if value not in taken]
            if left:
                made[operator] = left
        return made

    def _values(self, category: str, field: str, fields: list[Json]) -> list[str]:
        if field in ("readOnly", "sessionCredentialFromConsole"):
            return [self._chance.choice(("true", "false"))]
        if field == "errorCode":
            return ["VpceAccessDenied"]
        single = field == "resources.type" or (category, field) == (
            "NetworkActivity",
            "eventSource",
        )
        wanted = 1 if single else self._chance.choice((1, 5, 20, 60))
        found: dict[str, None] = {}
        selector = {"FieldSelectors": fields}
        for record in self._chance.choices(self._by_category[category], k=20 * wanted + 40):
            held = values_of(field, selector, record)
            if held and advanced_takes({"FieldSelectors": fields[:2]}, record):
                value = self._chance.choice(held)
                found[value if single else self._cut(value)] = None
            if len(found) >= wanted:
                break
        if field == "resources.type":
            return [v for v in found if v.startswith("AWS::")][:1] or [_S3]
        return list(found) or ["nobody"]

    def _cut(self, value: str) -> str:
        """Returns a value, or for the two other operators often its beginning or end."""
        length = self._chance.randint(max(1, len(value) // 3), len(value))
        return self._chance.choice((value, value, value[:length], value[-length:]))


_BASIC_RESOURCES: tuple[Json, ...] = (
    *(
        {"Type": _S3, "Values": values}
        for values in (
            ["arn:aws:s3"],
            ["arn:aws:s3:::"],
            ["arn:aws:s3:::evidence/"],
            ["arn:aws:s3:::evidence/in", "arn:aws:s3:::logs/in/2020"],
            ["arn:aws-cn:s3:::evidence/in/a.csv"],
            ["arn:aws-us-gov:s3:::logs/", "arn:aws:s3:::falsimentis-log/"],
        )
    ),
    {"Type": _TABLE, "Values": ["arn:aws:dynamodb"]},
    {"Type": _TABLE, "Values": [f"arn:aws:dynamodb:{_OWN}:table/Orders"]},
    {"Type": _FUNCTION, "Values": ["arn:aws:lambda"]},
    {"Type": _FUNCTION, "Values": [f"arn:aws:lambda:{_OWN}:function:hi"]},
)


def _advanced(fields: list[Json]) -> Json:
    return {"AdvancedEventSelectors": [{"FieldSelectors": fields}]}


def conditions() -> Iterator[tuple[str, str, str]]:
    """Yields each category, field and operator."""
    for category, fields in CONDITIONS.items():
        for field, operators in fields.items():
            for operator in operators:
                yield category, field, operator
