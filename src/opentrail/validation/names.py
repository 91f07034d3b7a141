"""What the keys of delivered objects say (cloudtrail-format §5.1), read independently."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: What a trail's folders are called, by what they hold.
DIGESTS = "CloudTrail-Digest"
LOG_FOLDERS = (
    "CloudTrail",
    "CloudTrail-Insight",
    "CloudTrail-NetworkActivity",
    "CloudTrail-Aggregated",
)
#: The part of a key that begins what CloudTrail itself names.
ROOT = "AWSLogs/"

_PLACE = (
    r"AWSLogs/(?:(?P<organization>o-[a-z0-9]{10,32})/)?(?P<account>[0-9]{12})/"
    r"(?P<folder>CloudTrail[A-Za-z-]*)/(?P<region>[a-z0-9-]+)/(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/"
    r"(?P=account)_(?P<infix>CloudTrail[A-Za-z-]*)_(?P=region)_"
)
_LOG = re.compile(_PLACE + r"(?P<stamp>[0-9]{8}T[0-9]{4}Z)_(?P<unique>[A-Za-z0-9]{16})\.json\.gz")
_DIGEST = re.compile(
    _PLACE + r"(?P<trail>[A-Za-z0-9._-]{3,128})_(?P<home>[a-z0-9-]+)_"
    r"(?P<stamp>[0-9]{8}T[0-9]{6}Z)(?P<backfill>_backfill)?\.json\.gz"
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, order=True)
class ChainId:
    """Whose digests they are; the bucket may change while the chain goes on."""

    account: str
    region: str
    trail: str
    home_region: str
    organization: str = ""
    backfill: bool = False

    def told(self) -> str:
        """Returns the chain as people name it."""
        kind = " (backfill)" if self.backfill else ""
        owner = f"{self.organization}/{self.account}" if self.organization else self.account
        return f"trail {self.trail} of {self.home_region}, {owner} {self.region}{kind}"


@dataclass(frozen=True, slots=True)
class DigestName:
    """A digest file by its name; `stamp` is its end time."""

    chain: ChainId
    stamp: datetime


@dataclass(frozen=True, slots=True, order=True)
class LogPlace:
    """The folder of all log files of an account, Region and kind, behind bucket and prefix."""

    organization: str
    account: str
    folder: str
    infix: str
    region: str

    @property
    def folder_tail(self) -> str:
        """The folder's key behind the prefix."""
        owner = f"{self.organization}/{self.account}" if self.organization else self.account
        return f"{ROOT}{owner}/{self.folder}/{self.region}/"

    def tail(self, short: bytes) -> str:
        """Returns the key behind the prefix of the log file `short`; inverse of `log_name`."""
        text = short.decode()
        day = f"{text[:4]}/{text[4:6]}/{text[6:8]}"
        file = f"{self.account}_{self.infix}_{self.region}_{text}.json.gz"
        return f"{self.folder_tail}{day}/{file}"


@dataclass(frozen=True, slots=True)
class LogName:
    """A log file by its name; `short` is what tells it from others of its place."""

    place: LogPlace
    short: bytes


def split_key(key: str) -> tuple[str, str]:
    """Returns a key's prefix and what CloudTrail named behind it; no tail if it named nothing.

    >>> split_key("team/AWSLogs/1/x")
    ('team/', 'AWSLogs/1/x')
    """
    at = 0 if key.startswith(ROOT) else key.find(f"/{ROOT}") + 1
    return (key[:at], key[at:]) if at or key.startswith(ROOT) else (key, "")


def log_name(tail: str) -> LogName | None:
    """Returns what the tail of a log file's key says, None if it is not a log file's."""
    found = _LOG.fullmatch(tail)
    if found is None or found["folder"] not in LOG_FOLDERS or not _is_in_its_day(found):
        return None
    if found["infix"] not in LOG_FOLDERS:
        return None
    place = LogPlace(
        found["organization"] or "",
        found["account"],
        found["folder"],
        found["infix"],
        found["region"],
    )
    return LogName(place, f"{found['stamp']}_{found['unique']}".encode())


def digest_name(tail: str) -> DigestName | None:
    """Returns what the tail of a digest file's key says, None if it is not a digest file's."""
    found = _DIGEST.fullmatch(tail)
    if found is None or (found["folder"], found["infix"]) != (DIGESTS, DIGESTS):
        return None
    if not _is_in_its_day(found):
        return None
    chain = ChainId(
        found["account"],
        found["region"],
        found["trail"],
        found["home"],
        found["organization"] or "",
        found["backfill"] is not None,
    )
    try:
        stamp = datetime.strptime(found["stamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return DigestName(chain, stamp)


def folder_of(tail: str) -> str:
    """Returns the folder of a trail in which an object lies, "" if in none."""
    for part in tail.split("/")[2:4]:
        if part == DIGESTS or part in LOG_FOLDERS:
            return part
    return ""


def log_minute(short: bytes) -> datetime | None:
    """Returns the minute in which a log file was delivered, None if there is no such time."""
    try:
        return datetime.strptime(short[:14].decode(), "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def minute_of(moment: datetime) -> datetime:
    """Returns the minute that a moment is in."""
    return moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)


def minute_after(minute: datetime) -> datetime:
    """Returns the minute that follows."""
    return minute + _MINUTE


def read_time(text: object) -> datetime:
    """Returns a time in the one form that digests have.

    Raises:
        ValueError: it is not of this form.
    """
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError(f"{text!r} is no time like 2020-01-01T09:00:00Z")
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def told_time(moment: datetime) -> str:
    """Returns a time in the form that digests have."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_in_its_day(found: re.Match[str]) -> bool:
    return found["stamp"][:8] == found["day"].replace("/", "")
