"""Parses the keys of delivered objects (cloudtrail-format §5.1), independently of the writer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: Names of a trail's folders.
DIGESTS = "CloudTrail-Digest"
LOG_FOLDERS = (
    "CloudTrail",
    "CloudTrail-Insight",
    "CloudTrail-NetworkActivity",
    "CloudTrail-Aggregated",
)
#: Where the part of a key begins that CloudTrail names.
ROOT = "AWSLogs/"

# Years are those from 2000 to 2999: other times could not be added to.
_PLACE = (
    r"AWSLogs/(?:(?P<organization>o-[a-z0-9]{10,32})/)?(?P<account>[0-9]{12})/"
    r"(?P<folder>CloudTrail[A-Za-z-]*)/(?P<region>[a-z0-9-]+)/(?P<day>2[0-9]{3}/[0-9]{2}/[0-9]{2})/"
    r"(?P=account)_(?P<infix>CloudTrail[A-Za-z-]*)_(?P=region)_"
)
_LOG = re.compile(_PLACE + r"(?P<stamp>[0-9]{8}T[0-9]{4}Z)_(?P<unique>[A-Za-z0-9]{16})\.json\.gz")
_DIGEST = re.compile(
    _PLACE + r"(?P<trail>[A-Za-z0-9._-]{3,128})_(?P<home>[a-z0-9-]+)_"
    r"(?P<stamp>[0-9]{8}T[0-9]{6}Z)(?P<backfill>_backfill)?\.json\.gz"
)
_TIME = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, order=True)
class ChainId:
    """Identifies a chain; its bucket may change over time."""

    account: str
    region: str
    trail: str
    home_region: str
    organization: str = ""
    backfill: bool = False

    def describe(self) -> str:
        """Returns the chain's name for messages."""
        kind = " (backfill)" if self.backfill else ""
        owner = f"{self.organization}/{self.account}" if self.organization else self.account
        return f"trail {self.trail} of {self.home_region}, {owner} {self.region}{kind}"


@dataclass(frozen=True, slots=True)
class DigestName:
    """The parsed name of a digest file; `stamp` is its end time."""

    chain: ChainId
    stamp: datetime


@dataclass(frozen=True, slots=True, order=True)
class LogPlace:
    """The folder of log files of an account, Region and kind, without bucket and prefix."""

    organization: str
    account: str
    folder: str
    infix: str
    region: str

    @property
    def folder_tail(self) -> str:
        """The folder's key without the prefix."""
        owner = f"{self.organization}/{self.account}" if self.organization else self.account
        return f"{ROOT}{owner}/{self.folder}/{self.region}/"

    def tail(self, short: bytes) -> str:
        """Returns the key of the log file `short` without the prefix; inverse of `log_name`."""
        text = short.decode()
        day = f"{text[:4]}/{text[4:6]}/{text[6:8]}"
        file = f"{self.account}_{self.infix}_{self.region}_{text}.json.gz"
        return f"{self.folder_tail}{day}/{file}"


@dataclass(frozen=True, slots=True)
class LogName:
    """The parsed name of a log file; `short` identifies it in its place."""

    place: LogPlace
    short: bytes


def split_key(key: str) -> tuple[str, str]:
    """Splits a key before `AWSLogs/` into prefix and tail; the tail is "" if it has none.

    >>> split_key("team/AWSLogs/1/x")
    ('team/', 'AWSLogs/1/x')
    """
    at = 0 if key.startswith(ROOT) else key.find(f"/{ROOT}") + 1
    return (key[:at], key[at:]) if at or key.startswith(ROOT) else (key, "")


def log_name(tail: str) -> LogName | None:
    """Parses the tail of a log file's key; None if it is not one."""
    match = _LOG.fullmatch(tail)
    if match is None or match["folder"] not in LOG_FOLDERS or not _is_in_its_day(match):
        return None
    if match["infix"] not in LOG_FOLDERS:
        return None
    place = LogPlace(
        match["organization"] or "",
        match["account"],
        match["folder"],
        match["infix"],
        match["region"],
    )
    return LogName(place, f"{match['stamp']}_{match['unique']}".encode())


def digest_name(tail: str) -> DigestName | None:
    """Parses the tail of a digest file's key; None if it is not one."""
    match = _DIGEST.fullmatch(tail)
    if match is None or (match["folder"], match["infix"]) != (DIGESTS, DIGESTS):
        return None
    if not _is_in_its_day(match):
        return None
    chain = ChainId(
        match["account"],
        match["region"],
        match["trail"],
        match["home"],
        match["organization"] or "",
        match["backfill"] is not None,
    )
    try:
        stamp = datetime.strptime(match["stamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return DigestName(chain, stamp)


def folder_of(tail: str) -> str:
    """Returns the trail's folder that an object is in; "" if it is in none."""
    for part in tail.split("/")[2:4]:
        if part == DIGESTS or part in LOG_FOLDERS:
            return part
    return ""


def log_minute(short: bytes) -> datetime | None:
    """Returns the minute in which a log file was delivered; None if it is not a time."""
    try:
        return datetime.strptime(short[:14].decode(), "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def minute_of(moment: datetime) -> datetime:
    return moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)


def minute_after(minute: datetime) -> datetime:
    return minute + _MINUTE


def read_time(text: object) -> datetime:
    """Parses a time in the form that digests have.

    Raises:
        ValueError: the text has another form.
    """
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is not a time like 2020-01-01T09:00:00Z")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Formats a time as in digests."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_in_its_day(match: re.Match[str]) -> bool:
    return match["stamp"][:8] == match["day"].replace("/", "")
