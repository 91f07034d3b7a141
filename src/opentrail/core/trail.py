"""A trail, its tags (cloudtrail-format §8.4) and spans, and their documents in the state store."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json, format_time, parse_time
from opentrail.core.logfile import DeliveryPlace

MAX_TAGS = 50
#: Maximum characters of a tag's key.
_MAX_KEY_LENGTH = 128
#: Maximum characters of a tag's value.
_MAX_VALUE_LENGTH = 256
_SIGNS = "_.:/=+-@"

#: Key and value of each tag, by key.
Tags = tuple[tuple[str, str], ...]


def read_tags(tag_list: Sequence[Mapping[str, Any]]) -> Tags:
    """Returns the tags of an API call, by key.

    Raises:
        CloudTrailError: `InvalidTagParameterException`.
    """
    tags: dict[str, str] = {}
    for tag in tag_list:
        key, value = str(tag.get("Key", "")), str(tag.get("Value", ""))
        _check("key", key, 1, _MAX_KEY_LENGTH)
        _check("value", value, 0, _MAX_VALUE_LENGTH)
        if key.lower().startswith("aws:"):
            raise _invalid(f"Tag key {key!r} is reserved: keys must not start with aws:")
        if key in tags:
            raise _invalid(f"Tag key {key!r} is given more than once.")
        tags[key] = value
    return tuple(sorted(tags.items()))


def with_tags(current: Tags, added: Tags) -> Tags:
    """Returns current tags with added ones, which replace tags with the same keys.

    Raises:
        CloudTrailError: `TagsLimitExceededException`.
    """
    tags = dict([*current, *added])
    if len(tags) > MAX_TAGS:
        raise CloudTrailError(
            "TagsLimitExceededException",
            f"A resource can have {MAX_TAGS} tags at most; it would have {len(tags)}.",
        )
    return tuple(sorted(tags.items()))


def without_tags(current: Tags, removed: Iterable[str]) -> Tags:
    """Returns current tags except the removed keys, which need not exist."""
    keys = frozenset(removed)
    return tuple(tag for tag in current if tag[0] not in keys)


def as_tag_list(tags: Tags) -> list[dict[str, str]]:
    """Returns tags as ListTags does."""
    return [{"Key": key, "Value": value} for key, value in tags]


def _check(what: str, text: str, min_length: int, max_length: int) -> None:
    if not min_length <= len(text) <= max_length:
        raise _invalid(f"Tag {what} {text!r} must have {min_length} to {max_length} characters.")
    wrong = next((c for c in text if c not in _SIGNS and not _is_plain(c)), None)
    if wrong is not None:
        raise _invalid(
            f"Tag {what} {text!r} must not have {wrong!r}: letters, digits, spaces and {_SIGNS} "
            "are allowed."
        )


def _is_plain(character: str) -> bool:
    return unicodedata.category(character)[0] in "LZN"


def _invalid(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidTagParameterException", message)


# Trails

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")
_LOG_GROUP = re.compile(
    r"arn:aws[a-z-]*:logs:[a-z0-9-]+:(\d{12}):log-group:[A-Za-z0-9_/.#-]{1,512}:\*"
)
#: The ARN of an IAM role; its group is the account.
ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]{1,576}")
_KEY_ID = r"(mrk-)?[0-9a-f-]{32,36}"
_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_KMS_KEY = re.compile(
    rf"{_KEY_ID}|{_ALIAS}|arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{{12}}:(key/{_KEY_ID}|{_ALIAS})"
)


def topic_arn(name_or_arn: str, region: str, account: str) -> str:
    """Returns a topic's ARN; a bare name is in the trail's Region and account.

    Raises:
        CloudTrailError: `InvalidSnsTopicNameException`.

    >>> topic_arn("news", "us-east-1", "123456789012")
    'arn:aws:sns:us-east-1:123456789012:news'
    """
    if _TOPIC_NAME.fullmatch(name_or_arn):
        return f"arn:aws:sns:{region}:{account}:{name_or_arn}"
    if _TOPIC.fullmatch(name_or_arn):
        return name_or_arn
    raise CloudTrailError(
        "InvalidSnsTopicNameException",
        f"SnsTopicName {name_or_arn!r} is not valid: expected the ARN of a topic that is not FIFO, "
        "or a name of 1 to 256 letters, digits, hyphens and underscores.",
    )


def check_log_group(arn: str, account: str) -> None:
    """Raises `InvalidCloudWatchLogsLogGroupArnException` unless it is a group of the account."""
    match = _LOG_GROUP.fullmatch(arn)
    if match is None or match[1] != account:
        raise CloudTrailError(
            "InvalidCloudWatchLogsLogGroupArnException",
            f"CloudWatchLogsLogGroupArn {arn!r} is not valid: expected "
            f"arn:aws:logs:REGION:{account}:log-group:NAME:*",
        )


def check_log_role(arn: str, account: str) -> None:
    """Raises `InvalidCloudWatchLogsRoleArnException` unless it is a role of the account."""
    match = ROLE_ARN.fullmatch(arn)
    if match is None or match[1] != account:
        raise CloudTrailError(
            "InvalidCloudWatchLogsRoleArnException",
            f"CloudWatchLogsRoleArn {arn!r} is not valid: expected "
            f"arn:aws:iam::{account}:role/NAME",
        )


def check_kms_key(key: str) -> None:
    """Raises `InvalidKmsKeyIdException` unless it is a key's id or ARN, an alias or its ARN."""
    if not _KMS_KEY.fullmatch(key):
        raise CloudTrailError(
            "InvalidKmsKeyIdException",
            f"KmsKeyId {key!r} is not valid: expected the id or ARN of a key, alias/NAME, or the "
            "ARN of an alias.",
        )


#: Services whose events are always recorded in us-east-1 (cloudtrail-format §8.2).
GLOBAL_SERVICES = frozenset(
    {
        "iam.amazonaws.com",
        "cloudfront.amazonaws.com",
        "route53.amazonaws.com",
        "organizations.amazonaws.com",
        "account.amazonaws.com",
        "waf.amazonaws.com",
        "shield.amazonaws.com",
        "support.amazonaws.com",
    }
)
GLOBAL_REGION = "us-east-1"

_BUCKET_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_IPV4 = re.compile(r"^\d{1,3}(\.\d{1,3}){3}\Z")
_PREFIX = re.compile(r"^[A-Za-z0-9!_.*'()/ \-]+\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """A range of journal positions that a trail delivers under one configuration.

    It holds positions `after < position <= until`; `until` None is an open end. `closing_event` is
    the call that ends the span, until its position is known.
    """

    after: int
    until: int | None
    started_at: str
    bucket: str
    prefix: str
    every_region: bool
    global_services: bool
    validation: bool
    closing_event: str | None = None
    #: Whether the previous span's digest chain continues (settings changed while logging).
    continues: bool = False
    #: ARNs of the key that encrypts files, of the topic for notifications, and of the log group
    #: that also receives the events.
    kms_key: str = ""
    topic: str = ""
    log_group: str = ""
    #: The selectors in effect, in the API's form; None are the default ones.
    selectors: Json | None = None
    insight_selectors: list[Json] = field(default_factory=list)
    #: Id of the organization whose events it delivers, and its accounts at that time; empty for
    #: other trails, which deliver only their account's events.
    organization: str = ""
    accounts: tuple[str, ...] = ()

    @property
    def open(self) -> bool:
        """Whether the span is still open."""
        return self.until is None and self.closing_event is None

    def place(self, account: str, region: str) -> DeliveryPlace:
        """Returns the place of an account's events in a Region."""
        return DeliveryPlace(self.organization, account, region)

    @classmethod
    def from_document(cls, document: Json) -> Self:
        """Returns the span that a part of a trail's document describes."""
        return cls(**{**document, "accounts": tuple(document.get("accounts", ()))})


@dataclass(frozen=True, slots=True)
class Trail:
    """The configuration of a trail; `uid` distinguishes trails with the same name over time."""

    uid: str
    name: str
    account: str
    home_region: str
    bucket: str
    prefix: str = ""
    include_global_services: bool = True
    multi_region: bool = False
    validation: bool = False
    created_at: str = ""
    logging: bool = False
    started_at: str | None = None
    stopped_at: str | None = None
    deleted: bool = False
    spans: tuple[Span, ...] = field(default_factory=tuple)
    #: ARN of the key that encrypts files.
    kms_key: str = ""
    #: The topic as given, and its ARN.
    topic_name: str = ""
    topic: str = ""
    log_group: str = ""
    log_role: str = ""
    tags: Tags = ()
    #: Event selectors in the API's form; None if never configured.
    selectors: Json | None = None
    #: Insight selectors in the API's form; Insights is off without any.
    insight_selectors: list[Json] = field(default_factory=list)
    #: Id of the organization of an organization trail, and the accounts in it, sorted. Its
    #: `account` is the management account.
    organization: str = ""
    accounts: tuple[str, ...] = ()

    @property
    def arn(self) -> str:
        """The trail's ARN (cloudtrail-format §1.2)."""
        return f"arn:aws:cloudtrail:{self.home_region}:{self.account}:trail/{self.name}"

    @property
    def home(self) -> DeliveryPlace:
        """The place that gets digests from the start of logging on."""
        return DeliveryPlace(self.organization, self.account, self.home_region)

    def is_visible_to(self, account: str) -> bool:
        """Returns whether an account sees the trail: its own trail, or its organization's."""
        return account == self.account or account in self.accounts

    def span_of(self, position: int) -> Span | None:
        """Returns the span that contains a position; None if no known one does."""
        for span in self.spans:
            if span.after < position and (span.until is None or position <= span.until):
                return span
        return None

    def started(self, after: int, now: str) -> Self:
        """Returns the trail with logging on, from the position after `after`."""
        span = self._span(after, now)
        return replace(self, logging=True, started_at=now, spans=(*self.spans, span))

    def stopped(self, event_id: str, now: str) -> Self:
        """Returns the trail with logging off; the call `event_id` is the last one delivered."""
        return replace(self, logging=False, stopped_at=now, spans=self._closed(event_id))

    def reconfigured(self, event_id: str, after: int, now: str) -> Self:
        """Returns the trail with its current settings in effect from the call `event_id` on."""
        if not self.logging:
            return self
        span = replace(self._span(after, now), continues=True)
        return replace(self, spans=(*self._closed(event_id), span))

    def with_accounts(self, accounts: tuple[str, ...], after: int, now: str) -> Self:
        """Returns an organization trail with these accounts, from the position after `after`."""
        changed = replace(self, accounts=accounts)
        if not self.logging:
            return changed
        ended_spans = tuple(replace(s, until=after) if s.open else s for s in self.spans)
        span = replace(changed._span(after, now), continues=True)
        return replace(changed, spans=(*ended_spans, span))

    def with_closed_span(self, event_id: str, position: int) -> Self:
        """Returns the trail with the position of the call `event_id` filled in."""
        spans = list(self.spans)
        for index, span in enumerate(spans):
            if span.closing_event != event_id:
                continue
            spans[index] = replace(span, until=max(position, span.after), closing_event=None)
            if index + 1 < len(spans):
                later = spans[index + 1]
                spans[index + 1] = replace(later, after=max(position, later.after))
        return replace(self, spans=tuple(spans))

    def _span(self, after: int, now: str) -> Span:
        return Span(
            after,
            None,
            now,
            self.bucket,
            self.prefix,
            self.multi_region,
            self.include_global_services,
            self.validation,
            kms_key=self.kms_key,
            topic=self.topic,
            log_group=self.log_group,
            selectors=self.selectors,
            insight_selectors=self.insight_selectors,
            organization=self.organization,
            accounts=self.accounts,
        )

    def _closed(self, event_id: str) -> tuple[Span, ...]:
        return tuple(replace(s, closing_event=event_id) if s.open else s for s in self.spans)

    def document(self) -> Json:
        return asdict(self)

    @classmethod
    def from_document(cls, document: Json) -> Self:
        """Returns the trail that `document` describes; the inverse of `document`."""
        spans = tuple(Span.from_document(span) for span in document["spans"])
        tags = tuple((key, value) for key, value in document.get("tags", ()))
        accounts = tuple(document.get("accounts", ()))
        return cls(**{**document, "spans": spans, "tags": tags, "accounts": accounts})


def includes(span: Span, home_region: str, region: str, event_source: str) -> bool:
    """Returns whether a span has events of this Region and source (cloudtrail-format §8.2)."""
    if span.every_region:
        return True
    if region != home_region:
        return False
    return span.global_services or event_source not in GLOBAL_SERVICES


def epoch(text: str) -> float:
    """Returns seconds since 1970 of a stored time."""
    return parse_time(text).timestamp()


def stored_time(moment: datetime) -> str:
    """Returns the form of times in documents: ISO 8601, UTC, microseconds."""
    return moment.isoformat(timespec="microseconds")


def shown_time(stored: str) -> str:
    """Returns CloudTrail's form of a stored time.

    >>> shown_time("2020-01-01T09:00:00.000001+00:00")
    '2020-01-01T09:00:00Z'
    """
    return format_time(parse_time(stored))


_ALPHANUMERIC = re.compile("[A-Za-z0-9]")


def check_trail_name(name: str) -> None:
    """Raises `InvalidTrailNameException` with AWS's message unless `name` is a trail name."""
    if len(name) < 3:
        raise _bad_name(
            "Trail name too short. Minimum allowed length: 3 characters. "
            f"Specified name length: {len(name)} characters."
        )
    if len(name) > 128:
        raise _bad_name(
            "Trail name too long. Maximum allowed length: 128 characters. "
            f"Specified name length: {len(name)} characters."
        )
    if not _ALPHANUMERIC.match(name):
        raise _bad_name("Trail name must starts with a letter or number.")
    if not _ALPHANUMERIC.match(name[-1]):
        raise _bad_name("Trail name must ends with a letter or number.")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise _bad_name(
            "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, "
            "periods (.), hyphens (-), and underscores (_)."
        )
    if re.search(r"[._-]{2}", name):
        raise _bad_name("Trail name cannot have adjacent periods, underscores or hyphens.")
    if _IPV4.match(name):
        raise _bad_name("Trail name cannot be in IP address format.")


def _bad_name(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidTrailNameException", message)


def check_bucket_name(name: str) -> None:
    """Raises `InvalidS3BucketNameException` unless `name` follows S3's naming rules."""
    labels = name.split(".")
    valid = 3 <= len(name) <= 63 and all(_BUCKET_LABEL.fullmatch(label) for label in labels)
    if not valid or _IPV4.fullmatch(name):
        raise CloudTrailError(
            "InvalidS3BucketNameException", f"Bucket name {name!r} is not a valid S3 bucket name."
        )


def check_prefix(prefix: str) -> None:
    """Raises `InvalidS3PrefixException` unless `prefix` can precede `AWSLogs/`."""
    parts = prefix.split("/")
    bad = len(prefix) > 200 or prefix.startswith("/") or not _PREFIX.fullmatch(prefix)
    if bad or any(part in ("", ".", "..") for part in parts[:-1]) or parts[-1] in (".", ".."):
        raise CloudTrailError(
            "InvalidS3PrefixException",
            f"S3 key prefix {prefix!r} is not valid: at most 200 characters, "
            "no leading slash, no empty or dot segments.",
        )
