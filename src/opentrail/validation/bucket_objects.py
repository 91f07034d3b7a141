"""Objects of a bucket, from one listing: digest files, log files and misnamed files.

Keys are parsed independently of the writer (cloudtrail-format §5.1).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from opentrail.core.errors import ObjectMissing
from opentrail.validation.content import Readable

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

# Years from 2000 to 2999: arithmetic on other times could overflow.
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
    """Returns the minute of a log file's delivery; None if it is not a time."""
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


class OpenedObject(Readable, Protocol):
    """A stream of bytes that can be closed."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An open object, with the signature in its metadata."""

    stream: OpenedObject
    signature: str | None
    algorithm: str | None


class Root(ABC):
    """The parent of `AWSLogs/`, in a bucket or in a copy."""

    #: Whether this is the bucket itself, with metadata.
    is_live = True

    def __init__(self, bucket: str | None = None, prefix: str | None = None) -> None:
        #: Bucket and prefix; of a copy they are known once its digests are read.
        self.bucket = bucket
        self.prefix = prefix

    @abstractmethod
    def covers(self, tail: str) -> bool:
        """Returns whether an object with this tail would be here."""

    @abstractmethod
    def address(self, tail: str) -> str:
        """Returns the address of an object for messages."""

    @abstractmethod
    def open(self, tail: str) -> Opened:
        """Returns an object.

        Raises:
            ObjectMissing, ObjectStoreError: the object does not exist or cannot be read.
        """


class Source(Protocol):
    """A bucket or folder to list."""

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields root, tail and size of each file of a trail."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FoundDigest:
    root: Root
    tail: str
    name: DigestName


@dataclass(frozen=True, slots=True)
class MisnamedFile:
    """A file in a trail's folder that does not have the name of a log or digest file."""

    root: Root
    tail: str
    folder: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters for objects to validate; None selects all."""

    accounts: Sequence[str] | None = None
    regions: Sequence[str] | None = None
    trails: Sequence[str] | None = None
    home_regions: Sequence[str] | None = None

    def includes_place(self, account: str, region: str) -> bool:
        """Returns whether objects of an account and Region are validated."""
        return _fits(account, self.accounts) and _fits(region, self.regions)

    def includes(self, chain: ChainId) -> bool:
        """Returns whether a chain is validated."""
        is_placed = self.includes_place(chain.account, chain.region)
        is_home = _fits(chain.home_region, self.home_regions)
        return is_placed and is_home and _fits(chain.trail, self.trails)


@dataclass(slots=True)
class Inventory:
    """All listed files. A log file takes about 120 bytes of memory."""

    wanted: Wanted
    digests: list[FoundDigest] = field(default_factory=list)
    #: Log files that no digest read so far lists.
    logs: dict[tuple[Root, LogPlace], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    misnamed: list[MisnamedFile] = field(default_factory=list)
    roots: list[Root] = field(default_factory=list)
    log_bytes: int = 0

    def add(self, source: Source, advance: Callable[[int], object]) -> None:
        """Adds all files of a source; `advance` is called after each 1,000.

        Raises:
            ObjectStoreError: the source cannot be listed.
        """
        for number, (root, tail, size) in enumerate(source.files(), 1):
            if root not in self.roots:
                self.roots.append(root)
            self._add(root, tail, size)
            if not number % 1000:
                advance(1000)

    def _add(self, root: Root, tail: str, size: int) -> None:
        if tail.endswith("/") and not size:
            return  # an empty object that marks a folder
        log = log_name(tail)
        if log is not None:
            if self.wanted.includes_place(log.place.account, log.place.region):
                self.logs[root, log.place].add(log.short)
                self.log_bytes += size
            return
        digest = digest_name(tail)
        if digest is not None:
            # Digests of other trails are needed too: they list their log files.
            if self.wanted.includes_place(digest.chain.account, digest.chain.region):
                self.digests.append(FoundDigest(root, tail, digest))
        elif (folder := folder_of(tail)) and self._is_near(tail):
            self.misnamed.append(MisnamedFile(root, tail, folder))

    def _is_near(self, tail: str) -> bool:
        """Returns whether a misnamed file may belong to a validated trail."""
        parts = tail.split("/")
        account = next((p for p in parts[1:3] if p.isdigit()), "")
        after = parts[parts.index(folder_of(tail)) + 1 :]
        return self.wanted.includes_place(account, after[0] if after else "")

    def identify_copies(self, claims: Iterable[tuple[Root, str, str, str]]) -> None:
        """Sets bucket and prefix of copies to the values that most of their digests name.

        Args:
            claims: root and tail of a digest, and the bucket and key in it.
        """
        votes: dict[Root, Counter[tuple[str, str]]] = defaultdict(Counter)
        for root, tail, bucket, key in claims:
            if not root.is_live and key.endswith(tail):
                votes[root][bucket, split_key(key)[0]] += 1
        for root, count in votes.items():
            (root.bucket, root.prefix), _ = count.most_common(1)[0]

    def locations(self, bucket: str, key: str) -> list[tuple[Root, str]]:
        """Returns the roots that may have an object, and its tail."""
        prefix, tail = split_key(key)
        return [
            (root, tail)
            for root in self.roots
            if root.bucket in (bucket, None) and root.prefix in (prefix, None) and root.covers(tail)
        ]

    def open(self, bucket: str, key: str) -> tuple[Root, str, Opened] | None:
        """Returns an object from the first root that has it; None if no root covers it.

        Raises:
            ObjectMissing: the object does not exist.
            ObjectStoreError: the object cannot be read.
        """
        places = self.locations(bucket, key)
        missing: ObjectMissing | None = None
        for root, tail in places:
            try:
                return root, tail, root.open(tail)
            except ObjectMissing as error:
                missing = error
        if missing is not None:
            raise missing
        return None

    def mark_listed(self, bucket: str, key: str) -> None:
        """Removes a log file from the unlisted log files."""
        log = log_name(split_key(key)[1])
        if log is not None:
            for root, _ in self.locations(bucket, key):
                self.logs.get((root, log.place), set()).discard(log.short)


def _fits(value: str, allowed: Sequence[str] | None) -> bool:
    return allowed is None or value in allowed
