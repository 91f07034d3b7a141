"""Checkpoints: the starts and the newest digest of a chain, from another source (guarantee L10)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from opentrail.core.errors import UsageError
from opentrail.validation.bucket_objects import (
    ChainId,
    digest_name,
    format_time,
    read_time,
    split_key,
)
from opentrail.validation.chains import Chain, DigestFile, Place, UncoveredPeriod
from opentrail.validation.digests import Digest
from opentrail.validation.report import FindingKind, Report

_VERSION = 1


@dataclass(frozen=True, slots=True)
class KnownDigest:
    """A digest that existed at an earlier validation."""

    bucket: str
    key: str
    sha256: str
    #: Needed for copies, which have no metadata; "" if unknown.
    signature: str = field(default="", compare=False)

    @property
    def place(self) -> Place:
        return self.bucket, self.key

    @property
    def end(self) -> datetime | None:
        """Its end time, from its name."""
        name = digest_name(split_key(self.key)[1])
        return name.stamp if name else None

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def as_json(self) -> dict[str, str]:
        document = {"bucket": self.bucket, "key": self.key, "sha256": self.sha256}
        return {**document, "signature": self.signature} if self.signature else document


@dataclass(frozen=True, slots=True)
class Known:
    """A server's or an earlier run's knowledge of a chain.

    `starts` are all digests that start or restart the chain from `since` on; all there ever were if
    `since` is None. `ends` are the digests before each restart. `newest` is the newest digest at
    the time of the checkpoint.
    """

    chain: ChainId
    starts: tuple[KnownDigest, ...]
    ends: tuple[KnownDigest, ...]
    newest: KnownDigest
    since: datetime | None
    origin: str
    #: Whether this comes from the trail's server now; then the trail did not exist before `since`.
    is_current: bool = False

    def runs(self) -> list[tuple[datetime | None, datetime]]:
        """Returns when the chain ran: the ends of its first and last digests, until each restart.

        None: it started before `since`.
        """
        starts = [mark.end for mark in self.starts]
        ends = [mark.end for mark in (*self.ends, self.newest) if mark.end is not None]
        return list(zip([*[None] * (len(ends) - len(starts)), *starts], ends, strict=False))

    def knows_beginning(self, start: datetime) -> bool:
        """Returns whether all digests before a start are known."""
        return self.since is None or (self.is_current and self.since <= start)

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.chain.account,
            "region": self.chain.region,
            "trail": self.chain.trail,
            "homeRegion": self.chain.home_region,
            "organization": self.chain.organization,
            "backfill": self.chain.backfill,
            "since": format_time(self.since) if self.since else None,
            "starts": [mark.as_json() for mark in self.starts],
            "ends": [mark.as_json() for mark in self.ends],
            "newest": self.newest.as_json(),
        }


def known_from(document: Mapping[str, Any], origin: str, is_current: bool = False) -> Known:
    """Reads the result of `Known.as_json`.

    Raises:
        UsageError: the document has another form.
    """
    try:
        chain = ChainId(
            str(document["account"]),
            str(document["region"]),
            str(document["trail"]),
            str(document["homeRegion"]),
            str(document.get("organization") or ""),
            bool(document.get("backfill")),
        )
        since = None if document["since"] is None else read_time(document["since"])
        starts = tuple(_mark(mark) for mark in document["starts"])
        ends = tuple(_mark(mark) for mark in document["ends"])
        return Known(chain, starts, ends, _mark(document["newest"]), since, origin, is_current)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{origin} does not describe chains in the expected form: {error!r}"
        ) from error


def _mark(document: Mapping[str, Any]) -> KnownDigest:
    signature = str(document.get("signature", ""))
    mark = KnownDigest(
        str(document["bucket"]), str(document["key"]), str(document["sha256"]), signature
    )
    if mark.end is None:
        raise ValueError(f"{mark.key} is not the name of a digest file")
    return mark


def read_checkpoint(file: Path) -> list[Known]:
    """Reads the checkpoint of an earlier run; returns [] if the file does not exist.

    Raises:
        UsageError: the file cannot be read or is not a checkpoint.
    """
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{file} is not JSON") from error
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise UsageError(f"{file} is not a checkpoint of version {_VERSION}")
    chains = document.get("chains")
    if not isinstance(chains, list):
        raise UsageError(f"{file} has no list chains")
    return [known_from(chain, str(file)) for chain in chains]


def write_checkpoint(file: Path, checkpoints: Iterable[Known], sync: Callable[[int], None]) -> None:
    """Replaces the checkpoint file atomically; `sync` returns once a descriptor's file is on disk.

    Raises:
        UsageError: the file cannot be written.
    """
    chains = [
        checkpoint.as_json()
        for checkpoint in sorted(checkpoints, key=lambda checkpoint: checkpoint.chain)
    ]
    document = {"version": _VERSION, "chains": chains}
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8") as text:
            text.write(json.dumps(document, indent=1) + "\n")
            text.flush()
            sync(text.fileno())
        part.replace(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error


def advance_checkpoint(chain: Chain, earlier: Known | None, since: datetime | None) -> Known | None:
    """Returns the checkpoint of a chain after it was validated without an error."""
    proven = [(file, file.digest) for file in chain.good if file.digest and file.is_proven]
    if not proven:
        return earlier
    oldest, newest = proven[0][1], _mark_of(*proven[-1])
    starts = {_mark_of(file, digest) for file, digest in proven if digest.previous is None}
    ends = {_mark_of(*before) for before, after in pairwise(proven) if after[1].previous is None}
    complete = since
    if earlier is not None:
        if earlier.newest.end is not None and oldest.start > earlier.newest.end:
            return earlier  # the time between was not validated
        if earlier.since is None or (since is not None and earlier.since < since):
            complete = earlier.since
        starts |= set(earlier.starts)
        ends |= set(earlier.ends)
        newest = max(newest, earlier.newest, key=_end)
    return Known(chain.id, _in_order(starts), _in_order(ends), newest, complete, "")


def _in_order(marks: Iterable[KnownDigest]) -> tuple[KnownDigest, ...]:
    return tuple(sorted(marks, key=lambda mark: (_end(mark), mark.key)))


def _end(mark: KnownDigest) -> str:
    return format_time(mark.end) if mark.end else ""


def _mark_of(file: DigestFile, digest: Digest) -> KnownDigest:
    return KnownDigest(*file.place, digest.sha256, file.proof or "")


class CheckpointChecks:
    """Compares chains with checkpoints."""

    def __init__(
        self,
        report: Report,
        checkpoints: Iterable[Known],
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        self._report = report
        self._known: dict[ChainId, list[Known]] = {}
        for checkpoint in checkpoints:
            self._known.setdefault(checkpoint.chain, []).append(checkpoint)
        self._since = since
        self._until = until

    @property
    def chains(self) -> list[ChainId]:
        """The chains that have a checkpoint."""
        return list(self._known)

    def check(self, chain: Chain) -> None:
        """Reports known digests that are missing, and unknown ends of chains."""
        for checkpoint in self._known.get(chain.id, ()):
            self._newest(chain, checkpoint)
            self._starts(chain, checkpoint)
            self._runs(chain, checkpoint)
        self._unknown(chain)

    def _newest(self, chain: Chain, checkpoint: Known) -> None:
        end = checkpoint.newest.end
        if end is None or not self._is_in_range(end):
            return
        good = chain.good
        reached = good[-1].end if good else None
        if self._is_there(
            chain, checkpoint.newest, f"is the newest that {checkpoint.origin} knows"
        ):
            return
        if reached is None or reached < end:
            start = reached or (chain.files[0].end if chain.files else end)
            chain.gaps.append(UncoveredPeriod(min(start, end), end))

    def _starts(self, chain: Chain, checkpoint: Known) -> None:
        for mark in checkpoint.starts:
            if mark.end is not None and self._is_in_range(mark.end):
                self._is_there(chain, mark, f"begins a chain that {checkpoint.origin} knows")
        for mark in checkpoint.ends:
            if mark.end is not None and self._is_in_range(mark.end):
                self._is_there(chain, mark, f"ends a chain that {checkpoint.origin} knows")
        places = {mark.place for mark in checkpoint.starts}
        for file in chain.good:
            digest = file.digest
            if digest is None or digest.previous is not None or file.place in places:
                continue
            is_early = checkpoint.since is not None and digest.start < checkpoint.since
            if checkpoint.newest.end is None or digest.end > checkpoint.newest.end or is_early:
                continue
            reason = f"begins a chain that {checkpoint.origin} does not know"
            self._report.bad(FindingKind.DIGEST, file.address, reason)

    def _runs(self, chain: Chain, checkpoint: Known) -> None:
        """Reports the end of the range if the chain ran then, but no digest covers it."""
        reached = max((file.end for file in chain.files), default=None)
        if self._until is None or (reached is not None and reached >= self._until):
            return
        for begin, end in checkpoint.runs():
            if end < self._until or (begin is not None and begin >= self._until):
                continue
            start = reached or self._since or begin or self._until
            reason = f"no digest file covers this time, in which {checkpoint.origin} knows some"
            chain_name = chain.id.describe()
            self._report.bad(FindingKind.GAP, chain_name, reason, start, self._until)

    def _is_there(self, chain: Chain, mark: KnownDigest, what: str) -> bool:
        """Returns whether a known digest exists unchanged; reports it if it does not."""
        file = chain.file(mark.place)
        if file is None:
            if not any(
                finding.name == mark.address and finding.kind is FindingKind.DIGEST
                for finding in self._report.findings
            ):
                self._report.count(chain.id).digests += 1
                self._report.bad(FindingKind.DIGEST, mark.address, f"is missing; it {what}")
            return False
        if file.is_accepted and file.digest is not None and file.digest.sha256 != mark.sha256:
            self._report.bad(FindingKind.DIGEST, file.address, f"{what} with another hash")
            return False
        return file.is_accepted

    def _unknown(self, chain: Chain) -> None:
        """Reports the ends of a chain that no source knows."""
        checkpoints, good = self._known.get(chain.id, []), chain.good
        if not good or good[0].digest is None:
            return
        oldest, newest = good[0].digest, good[-1]
        is_cut_off = self._since is not None and oldest.start <= self._since
        is_start = oldest.previous is None
        is_known = any(checkpoint.knows_beginning(oldest.start) for checkpoint in checkpoints)
        if is_start and not is_cut_off and not is_known:
            self._report.unknown(
                FindingKind.CHAIN,
                chain.id.describe(),
                f"not known whether there were digest files before {format_time(oldest.start)}",
            )
        if not checkpoints and (self._until is None or newest.end < self._until):
            self._report.unknown(
                FindingKind.CHAIN,
                chain.id.describe(),
                f"not known whether there were digest files after {format_time(newest.end)}",
            )

    def _is_in_range(self, end: datetime) -> bool:
        is_late = self._since is None or end > self._since
        return is_late and (self._until is None or end < self._until)
