"""A bucket filled by the writer, ways to tamper with it, and the verifier over it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.core.errors import ObjectMissing
from opentrail.ports.signer import SigningKey
from opentrail.validation.bucket_objects import Inventory, Source, Wanted
from opentrail.validation.buckets import Buckets, Folder
from opentrail.validation.checkpoints import Known, known_from
from opentrail.validation.public_keys import PublicKey, PublicKeys
from opentrail.validation.report import Finding, Report, Status
from opentrail.validation.run import Task, Validation
from tests.fakes import StoredObject, run
from tests.trails.world import BUCKET, World

FAR = "eu-west-1"
Objects = dict[str, dict[str, StoredObject]]


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    size: int


class Body(io.BytesIO):
    """An object being read."""

    def __init__(self, stored: StoredObject) -> None:
        super().__init__(stored.content)
        self.metadata: Mapping[str, str] = stored.metadata


class MemoryReader:
    """Reads buckets in memory; `refused` are unreadable keys."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.opened: list[str] = []

    def keys(self, bucket: str, prefix: str) -> Iterator[Listed]:
        """Yields the objects under a prefix."""
        for key, stored in sorted(self.objects.get(bucket, {}).items()):
            if key.startswith(prefix):
                yield Listed(key, len(stored.content))

    def open(self, bucket: str, key: str) -> Body:
        """Returns an object."""
        self.opened.append(key)
        if key not in self.objects.get(bucket, {}):
            raise ObjectMissing("NoSuchKey", key)
        return Body(self.objects[bucket][key])


@dataclass
class Trail:
    """The deliveries of a trail."""

    objects: Objects
    keys: list[SigningKey]
    #: The chains in the server of the trail.
    known: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> Trail:
        """Returns a copy for tampering."""
        return replace(self, objects=deepcopy(self.objects), known=deepcopy(self.known))

    @property
    def bucket(self) -> dict[str, StoredObject]:
        return self.objects[BUCKET]

    def digests(self, region: str = "us-east-1") -> list[str]:
        """Returns the keys of a Region's digests, oldest first."""
        return sorted(k for k in self.bucket if f"/CloudTrail-Digest/{region}/" in k)

    def logs(self, region: str = "us-east-1") -> list[str]:
        """Returns the keys of a Region's log files, oldest first."""
        return sorted(k for k in self.bucket if f"/CloudTrail/{region}/" in k)

    def content(self, key: str) -> bytes:
        """Returns the unpacked content of an object."""
        return gzip.decompress(self.bucket[key].content)

    def put(self, key: str, content: bytes, like: str | None = None, **metadata: str) -> None:
        """Writes an object like anyone with access to the bucket."""
        stored = self.bucket[like or key]
        packed = gzip.compress(content)
        self.bucket[key] = replace(stored, content=packed, metadata={**stored.metadata, **metadata})

    def edit(self, key: str, **members: Any) -> None:
        """Changes members of a JSON object."""
        document = json.loads(self.content(key))
        document.update(members)
        self.put(key, json.dumps(document, separators=(",", ":")).encode())

    def public_keys(self) -> list[PublicKey]:
        """Returns the trail's public keys."""
        return [
            PublicKey(k.fingerprint, k.public_der, k.valid_from, k.valid_until) for k in self.keys
        ]

    def server_knows(self) -> list[Known]:
        """Returns the server's answer to the verifier."""
        return [known_from(known, "the server", is_current=True) for known in self.known]

    def validate(
        self,
        known: list[Known] | None = None,
        wanted: Wanted | None = None,
        prefix: str = "",
        **task: Any,
    ) -> Outcome:
        """Validates the bucket, with the server's knowledge by default."""
        buckets = Buckets(lambda: MemoryReader(self.objects))
        source = buckets.under(BUCKET, prefix)
        return self._run(buckets, [source], known, wanted, task)

    def validate_copy(self, folder: Path, known: list[Known] | None = None, **task: Any) -> Outcome:
        """Validates a folder."""
        source = Folder(str(folder))
        task.setdefault("signatures", source.signatures)
        return self._run(Buckets(lambda: MemoryReader(self.objects)), [source], known, None, task)

    def _run(
        self,
        buckets: Buckets,
        sources: list[Source],
        known: list[Known] | None,
        wanted: Wanted | None,
        task: dict[str, Any],
    ) -> Outcome:
        inventory, report = Inventory(wanted or Wanted()), Report()
        for source in sources:
            inventory.add(source, lambda _count: None)
        task.setdefault("keys", PublicKeys(self.public_keys()))
        known = self.server_knows() if known is None else known
        given = Task(verifier=RsaVerifier(), known=known, **task)
        after = Validation(inventory, buckets, given, report).run()
        return Outcome(report, after)

    def write(self, folder: Path, bucket: str = BUCKET) -> Path:
        """Writes a copy of a bucket into a folder, like `aws s3 sync`."""
        for key, stored in self.objects[bucket].items():
            if not key.endswith("/"):
                (folder / key).parent.mkdir(parents=True, exist_ok=True)
                (folder / key).write_bytes(stored.content)
        return folder


@dataclass
class Outcome:
    """The result of a validation."""

    report: Report
    known: list[Known]

    @property
    def code(self) -> int:
        return self.report.exit_code

    def of(self, *statuses: Status) -> list[Finding]:
        """Returns the problems among the findings."""
        wanted = statuses or (Status.BAD, Status.UNKNOWN)
        return [finding for finding in self.report.findings if finding.status in wanted]

    def names(self, *statuses: Status) -> set[str]:
        """Returns the names in such findings."""
        return {finding.name for finding in self.of(*statuses)}

    def reason(self, name: str) -> str:
        """Returns the reason for a bad object."""
        return "; ".join(f.reason for f in self.report.findings if f.name.endswith(name))

    def text(self) -> str:
        """Returns all lines."""
        return "\n".join([*(f.line() for f in self.report.findings), *self.report.summary()])


async def hours(world: World, count: int, regions: tuple[str, ...] = ("us-east-1", FAR)) -> None:
    """Lets hours pass with events each twenty minutes, delivered immediately."""
    for _ in range(count * 3):
        world.clock.advance(1200)
        for region in regions:
            await world.event(2, awsRegion=region)
        await world.deliver()


async def delivered(world: World) -> Trail:
    """Returns the content of the buckets, and the server's knowledge."""
    known = []
    for stored in await world.registry.all():
        known += await world.deliveries.known_digests(stored.trail)
    return Trail(world.buckets.objects, await world.signer.keys(), known)


def after_hours(count: int, regions: tuple[str, ...] = ("us-east-1",), **trail: Any) -> Trail:
    """Returns a trail, by arguments of `World.add`, after hours of logging."""

    async def story() -> Trail:
        world = World()
        await world.add(**trail)
        await world.start_logging()
        await hours(world, count, regions)
        return await delivered(world)

    return run(story())


@cache
def _six_hours() -> Trail:
    return after_hours(6, ("us-east-1", FAR), multi_region=True, validation=True)


def six_hours() -> Trail:
    """Returns a trail of two Regions after six hours."""
    return _six_hours().copy()


@cache
def _stopped_and_started() -> Trail:
    async def story() -> Trail:
        world = World()
        await world.add(multi_region=True, validation=True)
        await world.start_logging()
        await hours(world, 3)
        await world.stop_logging()
        await world.deliver()
        world.clock.advance(7200)
        await world.start_logging()
        await hours(world, 3)
        return await delivered(world)

    return run(story())


def stopped_and_started() -> Trail:
    """Returns a trail that did not log for two hours between three and three."""
    return _stopped_and_started().copy()


def time_of(key: str) -> datetime:
    """Returns the end time in a digest's name."""
    return datetime.strptime(f"{key[-24:-8]}+0000", "%Y%m%dT%H%M%SZ%z")
