"""What is there: digest files, log files and what is neither, found by listing once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from opentrail.core.errors import ObjectMissing
from opentrail.validation.content import Readable
from opentrail.validation.names import (
    DIGESTS,
    ChainId,
    DigestName,
    LogPlace,
    digest_name,
    folder_of,
    log_name,
    split_key,
)


class OpenedObject(Readable, Protocol):
    """Bytes that are read once."""

    def close(self) -> None:
        """Ends the reading."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An object being read, with what its metadata say of its signature."""

    stream: OpenedObject
    signature: str | None
    algorithm: str | None


class Root(ABC):
    """Where a bucket's `AWSLogs/` is found: in the bucket itself, or in a copy."""

    #: Whether it is the bucket itself, metadata and all.
    is_live = True

    def __init__(self, bucket: str | None = None, prefix: str | None = None) -> None:
        #: Which bucket and prefix it is; of a copy it shows only once its digests are read.
        self.bucket = bucket
        self.prefix = prefix

    @abstractmethod
    def covers(self, tail: str) -> bool:
        """Returns whether an object of this tail would be here."""

    @abstractmethod
    def told(self, tail: str) -> str:
        """Returns the name of an object here, for people."""

    @abstractmethod
    def open(self, tail: str) -> Opened:
        """Returns an object.

        Raises:
            ObjectMissing, ObjectStoreError: it is not there, or cannot be read.
        """


class Source(Protocol):
    """Something that is listed."""

    def files(self) -> Iterator[tuple[Root, str, int]]:
        """Yields each file of a trail: where it lies, its tail, its size."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FoundDigest:
    """A digest file, by its name."""

    root: Root
    tail: str
    name: DigestName


@dataclass(frozen=True, slots=True)
class Strange:
    """A file in a trail's folder whose name is none that a trail gives."""

    root: Root
    tail: str
    folder: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be validated of all that is found; None is all."""

    accounts: Sequence[str] | None = None
    regions: Sequence[str] | None = None
    trails: Sequence[str] | None = None
    home_regions: Sequence[str] | None = None

    def takes_place(self, account: str, region: str) -> bool:
        """Returns whether objects of an account and Region are wanted."""
        return _fits(account, self.accounts) and _fits(region, self.regions)

    def takes(self, chain: ChainId) -> bool:
        """Returns whether a chain is wanted."""
        is_placed = self.takes_place(chain.account, chain.region)
        is_home = _fits(chain.home_region, self.home_regions)
        return is_placed and is_home and _fits(chain.trail, self.trails)


@dataclass(slots=True)
class Inventory:
    """All that was listed. A log file takes some 120 bytes of memory."""

    wanted: Wanted
    digests: list[FoundDigest] = field(default_factory=list)
    #: Log files that no digest is known to list, yet.
    logs: dict[tuple[Root, LogPlace], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    strange: list[Strange] = field(default_factory=list)
    roots: list[Root] = field(default_factory=list)
    log_bytes: int = 0

    def add(self, source: Source, listed: Callable[[int], object]) -> None:
        """Takes in all that a source has; `listed` is told of each thousand.

        Raises:
            ObjectStoreError: it cannot be listed.
        """
        for number, (root, tail, size) in enumerate(source.files(), 1):
            if root not in self.roots:
                self.roots.append(root)
            self._add(root, tail, size)
            if not number % 1000:
                listed(1000)

    def _add(self, root: Root, tail: str, size: int) -> None:
        if tail.endswith("/") and not size:
            return  # an empty object by which tools make folders
        log = log_name(tail)
        if log is not None:
            if self.wanted.takes_place(log.place.account, log.place.region):
                self.logs[root, log.place].add(log.short)
                self.log_bytes += size
            return
        digest = digest_name(tail)
        if digest is not None:
            # Those of other trails say which log files are theirs.
            if self.wanted.takes_place(digest.chain.account, digest.chain.region):
                self.digests.append(FoundDigest(root, tail, digest))
        elif (folder := folder_of(tail)) and self._is_near(tail):
            self.strange.append(Strange(root, tail, folder))

    def _is_near(self, tail: str) -> bool:
        """Returns whether a strange file may have to do with what is wanted."""
        parts = tail.split("/")
        account = next((p for p in parts[1:3] if p.isdigit()), "")
        after = parts[parts.index(folder_of(tail)) + 1 :]
        return self.wanted.takes_place(account, after[0] if after else "")

    def settle(self, claims: Iterable[tuple[Root, str, str, str]]) -> None:
        """Finds out which bucket a copy is of: what most of its digests say of themselves.

        Args:
            claims: root, tail, and the bucket and key that a digest there says it has.
        """
        votes: dict[Root, Counter[tuple[str, str]]] = defaultdict(Counter)
        for root, tail, bucket, key in claims:
            if not root.is_live and key.endswith(tail):
                votes[root][bucket, split_key(key)[0]] += 1
        for root, counted in votes.items():
            (root.bucket, root.prefix), _ = counted.most_common(1)[0]

    def at(self, bucket: str, key: str) -> list[tuple[Root, str]]:
        """Returns where an object would be: roots that stand for the place, and its tail."""
        prefix, tail = split_key(key)
        return [
            (root, tail)
            for root in self.roots
            if root.bucket in (bucket, None) and root.prefix in (prefix, None) and root.covers(tail)
        ]

    def open(self, bucket: str, key: str) -> tuple[Root, str, Opened] | None:
        """Returns an object from wherever it is first found, None if no place was given for it.

        Raises:
            ObjectMissing: it is nowhere.
            ObjectStoreError: it cannot be read.
        """
        places = self.at(bucket, key)
        missing: ObjectMissing | None = None
        for root, tail in places:
            try:
                return root, tail, root.open(tail)
            except ObjectMissing as error:
                missing = error
        if missing is not None:
            raise missing
        return None

    def strike(self, bucket: str, key: str) -> None:
        """Takes a log file off the list of those that no digest lists."""
        log = log_name(split_key(key)[1])
        if log is not None:
            for root, _ in self.at(bucket, key):
                self.logs.get((root, log.place), set()).discard(log.short)


def is_digest_folder(strange: Strange) -> bool:
    """Returns whether a strange file lies among digests."""
    return strange.folder == DIGESTS


def _fits(value: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or value in wanted
