"""Chains of digests: each is proven by its signature and linked to the one before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from opentrail.core.errors import ObjectMissing, ObjectStoreError
from opentrail.ports.verifier import Verifier
from opentrail.validation.bucket_objects import (
    ChainId,
    FoundDigest,
    digest_name,
    format_time,
    split_key,
)
from opentrail.validation.content import BadContent
from opentrail.validation.digests import (
    SIGNATURE_ALGORITHM,
    Digest,
    read_digest,
    signature_bytes,
)
from opentrail.validation.public_keys import PublicKeys
from opentrail.validation.report import FindingKind, Report

#: Maximum compressed bytes of a digest file.
_MAX_PACKED_BYTES = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024

#: Bucket and key of a digest.
Place = tuple[str, str]
Signatures = Mapping[Place, str]


@dataclass(slots=True)
class DigestFile:
    """A digest file, its content and the result of its checks."""

    found: FoundDigest
    digest: Digest | None
    #: Signature and algorithm in the object's metadata.
    signature: str | None = None
    algorithm: str | None = None
    #: Why the file is invalid; None if it is valid.
    reason: str | None = None
    #: A signature that proves the content, from metadata, the next digest or `--signatures`.
    proof: str | None = None
    #: Whether no source knows its signature.
    is_unsigned: bool = False
    #: Why the file could not be read; None if it was read.
    unread: str | None = None

    @property
    def is_proven(self) -> bool:
        """Whether a signature of it verifies."""
        return self.proof is not None

    @property
    def is_accepted(self) -> bool:
        """Whether its list of log files and its links are used."""
        return self.digest is not None and (self.is_proven or self.is_unsigned)

    @property
    def end(self) -> datetime:
        """Its end time, from its name."""
        return self.found.name.stamp

    @property
    def address(self) -> str:
        """Its address for messages."""
        return self.found.root.address(self.found.tail)

    @property
    def place(self) -> Place:
        """Bucket and key at which it was found."""
        root = self.found.root
        return root.bucket or "", f"{root.prefix or ''}{self.found.tail}"


@dataclass(frozen=True, slots=True)
class Ending:
    """An event after which no digests are expected."""

    name: str
    time: datetime


@dataclass(slots=True)
class UncoveredPeriod:
    """A time that no digest of a chain covers."""

    start: datetime
    end: datetime
    #: Set if the chain ended with this file and began again later: logging may have been off.
    ended_with: DigestFile | None = None
    #: The event that shows that logging was off.
    ending: Ending | None = None
    #: Number of log files delivered in this time that no digest lists.
    logs: int = 0


@dataclass(slots=True)
class Chain:
    """The digests of a trail, account and Region that are in range, oldest first."""

    id: ChainId
    files: list[DigestFile]
    gaps: list[UncoveredPeriod] = field(default_factory=list)
    #: The event that ended the chain after its newest digest.
    ending: Ending | None = None
    #: The first digest after the range.
    following: DigestFile | None = None
    #: First digests written while logging was on: older log files may have arrived late.
    begins_late: list[Digest] = field(default_factory=list)

    @property
    def good(self) -> list[DigestFile]:
        """The accepted digests."""
        return [file for file in self.files if file.is_accepted]

    def has_unread(self, gap: UncoveredPeriod) -> bool:
        """Returns whether digests of a gap exist but could not be read."""
        return any(f.unread and gap.start <= f.end <= gap.end for f in self.files)

    def file(self, place: Place) -> DigestFile | None:
        return next((file for file in self.files if file.place == place), None)


def load_digest(location: FoundDigest) -> DigestFile:
    """Returns a digest file, read and parsed; its signature is not checked yet."""
    file = DigestFile(location, None)
    try:
        opened = location.root.open(location.tail)
        file.signature, file.algorithm = opened.signature, opened.algorithm
        packed = bytearray()
        with closing(opened.stream) as stream:
            while piece := stream.read(_READ_BYTES):
                packed += piece
                if len(packed) > _MAX_PACKED_BYTES:
                    raise BadContent(f"larger than {_MAX_PACKED_BYTES >> 20} MiB")
        file.digest = read_digest(bytes(packed))
    except ObjectMissing:
        file.reason = "is missing"
    except ObjectStoreError as error:
        file.unread = f"cannot be read: {error}"
    except BadContent as error:
        file.reason = f"invalid format: {error}"
    return file


class DigestChecks:
    """Checks digest files one by one, newest first."""

    def __init__(
        self, verifier: Verifier, keys: PublicKeys, signatures: Iterable[tuple[Place, str]]
    ) -> None:
        self._verifier = verifier
        self._keys = keys
        self._given = list(signatures)

    def check(self, files: Sequence[DigestFile]) -> None:
        """Sets the result of each file of a chain; files are sorted, oldest first."""
        claimed: dict[Place, list[str]] = defaultdict(list)
        for file in files:
            if file.digest is not None and file.digest.previous is not None:
                before = file.digest.previous
                claimed[before.bucket, before.key].append(before.signature)
        for place, signature in self._given:
            claimed[place].append(signature)
        for file in files:
            if file.digest is not None:
                reason = self._misplaced(file, file.digest)
                file.reason = reason or self._unproven(file, file.digest, claimed)

    def _misplaced(self, file: DigestFile, digest: Digest) -> str | None:
        """Returns why the digest does not belong where it was found; None if it does."""
        if (digest.bucket, digest.key) != file.place:
            return f"has been moved from s3://{digest.bucket}/{digest.key}"
        name = file.found.name
        if digest.account != name.chain.account:
            return f"is of account {digest.account}"
        if not name.chain.backfill and digest.end != name.stamp:
            return f"ends at {digest.end_text}, which is not the time in its name"
        return None

    def _unproven(
        self, file: DigestFile, digest: Digest, claimed: Mapping[Place, Sequence[str]]
    ) -> str | None:
        if digest.algorithm != SIGNATURE_ALGORITHM:
            return f"digestSignatureAlgorithm is not {SIGNATURE_ALGORITHM}"
        region = file.found.name.chain.region
        keys = self._keys.find(region, digest.fingerprint)
        if not keys:
            return f"no public key of fingerprint {digest.fingerprint} is known"
        if not file.found.name.chain.backfill:
            keys = [key for key in keys if key.is_valid_at(digest.end)]
            if not keys:
                return f"public key {digest.fingerprint} was not valid when it was signed"
        try:
            return self._signed(file, digest, [key.der for key in keys], claimed[file.place])
        except ValueError as error:
            return f"public key {digest.fingerprint} cannot be used: {error}"

    def _signed(
        self, file: DigestFile, digest: Digest, keys: Sequence[bytes], claimed: Sequence[str]
    ) -> str | None:
        text = digest.text_to_sign()

        def holds(signature: str) -> bool:
            raw = signature_bytes(signature)
            return raw is not None and any(self._verifier.verifies(k, raw, text) for k in keys)

        file.proof = next((signature for signature in claimed if holds(signature)), None)
        if not file.found.root.is_live:
            if file.is_proven:
                return None
            if not claimed:
                file.is_unsigned = True
                return None
            return "signature verification failed"
        if file.signature is None:
            return "has no signature in its metadata"
        if not holds(file.signature):
            more = "; the next digest file has the right one" if file.is_proven else ""
            return f"signature verification failed{more}"
        file.proof = file.signature
        if file.algorithm != SIGNATURE_ALGORITHM:
            return f"signature-algorithm in its metadata is not {SIGNATURE_ALGORITHM}"
        return None


class LinkChecks:
    """Checks the links between the digests of a chain.

    Args:
        since: the start of the validated range; older digests are not expected.
        is_there: returns whether a digest file exists at a place, in range or not.
        is_given: returns whether the sources given to the command cover a place.
    """

    def __init__(
        self,
        report: Report,
        since: datetime | None,
        is_there: Callable[[Place], bool],
        is_given: Callable[[Place], bool],
    ) -> None:
        self._report = report
        self._since = since
        self._is_there = is_there
        self._is_given = is_given

    def check(self, chain: Chain) -> None:
        """Reports errors and records the times that no digest covers."""
        good = chain.good
        self._after_range(chain, good[-1] if good else None)
        if not good:
            self._none_accepted(chain)
            return
        self._head(chain, good[0])
        for before, after in pairwise(good):
            self._pair(chain, before, after)
        newer = [file for file in chain.files if file.end > good[-1].end]
        if newer:
            chain.gaps.append(UncoveredPeriod(good[-1].end, newer[-1].end))

    def _none_accepted(self, chain: Chain) -> None:
        if chain.files:
            begin = min(
                (f.digest.start for f in chain.files if f.digest), default=chain.files[0].end
            )
            chain.gaps.append(UncoveredPeriod(min(begin, chain.files[0].end), chain.files[-1].end))

    def _head(self, chain: Chain, oldest: DigestFile) -> None:
        digest = oldest.digest
        if digest is None or digest.previous is None:
            older = [file for file in chain.files if file.end < oldest.end]
            if digest is not None and older:
                chain.gaps.append(UncoveredPeriod(older[0].end, digest.start))
            return
        if self._since is not None and digest.start <= self._since:
            return
        self._missing(chain, oldest, digest.start)

    def _after_range(self, chain: Chain, newest: DigestFile | None) -> None:
        """Reports digests that the first digest after the range shows to be missing in it."""
        after = chain.following
        if after is None or after.digest is None or not after.is_accepted:
            return
        previous = after.digest.previous
        if previous is None:
            if newest is not None:
                chain.gaps.append(UncoveredPeriod(newest.end, after.digest.start, newest))
        elif chain.file((previous.bucket, previous.key)) is None:
            since = newest.end if newest else self._since
            self._missing(chain, after, since or after.digest.start)

    def _missing(self, chain: Chain, after: DigestFile, since: datetime) -> None:
        """Reports the previous digest that `after` names if it does not exist."""
        digest = after.digest
        if digest is None or digest.previous is None:
            return
        place = (digest.previous.bucket, digest.previous.key)
        name = digest_name(split_key(place[1])[1])
        start = min(since, name.stamp if name else since)
        chain.gaps.append(UncoveredPeriod(start, digest.start))
        if self._is_there(place):
            return
        address = f"s3://{place[0]}/{place[1]}"
        if not self._is_given(place):
            reason = f"is in a place that was not given, and {after.address} follows it"
            self._report.unknown(FindingKind.DIGEST, address, reason)
            return
        count = self._report.count(chain.id)
        count.digests += 1
        self._report.bad(FindingKind.DIGEST, address, f"is missing; {after.address} follows it")

    def _pair(self, chain: Chain, before: DigestFile, after: DigestFile) -> None:
        digest, older = after.digest, before.digest
        if digest is None or older is None:
            return
        if digest.previous is None:
            chain.gaps.append(UncoveredPeriod(older.end, digest.start, before))
            return
        place = (digest.previous.bucket, digest.previous.key)
        if place != before.place:
            earlier = chain.file(place)
            if earlier is not None and earlier.end < before.end:
                self._report.bad(
                    FindingKind.DIGEST,
                    before.address,
                    f"is not in the chain: {after.address} follows another",
                )
            self._missing(chain, after, older.end)
            return
        for reason in self._differences(chain, before, older, after, digest):
            self._report.bad(FindingKind.DIGEST, before.address, reason)

    @staticmethod
    def _differences(
        chain: Chain, before: DigestFile, older: Digest, after: DigestFile, digest: Digest
    ) -> Iterator[str]:
        assert digest.previous is not None  # noqa: S101 - it has a previous digest
        if digest.previous.sha256 != older.sha256:
            yield f"its hash differs from the hash in {after.address}"
        own = before.signature
        if (
            before.reason is None
            and own is not None
            and own.lower() != digest.previous.signature.lower()
        ):
            yield f"its signature differs from the signature in {after.address}"
        if not chain.id.backfill and digest.start != older.end:
            yield (
                f"ends at {format_time(older.end)}, but {after.address}"
                f" starts at {format_time(digest.start)}"
            )


def report_files(files: Iterable[DigestFile], report: Report) -> None:
    """Reports and counts the result of each digest file of a chain."""
    for file in files:
        count = report.count(file.found.name.chain)
        count.digests += 1
        if file.unread is not None:
            report.unknown(FindingKind.DIGEST, file.address, file.unread)
        elif file.reason is not None:
            report.bad(FindingKind.DIGEST, file.address, file.reason)
        elif file.is_unsigned:
            report.unknown(
                FindingKind.DIGEST,
                file.address,
                "its signature is not known: no digest file follows it,"
                " and a copy has no metadata (--signatures FILE)",
            )
        else:
            count.good_digests += 1
        if file.digest is not None and file.is_accepted:
            count.start = min(count.start or file.digest.start, file.digest.start)
            count.end = max(count.end or file.digest.end, file.digest.end)
