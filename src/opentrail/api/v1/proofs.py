"""Proofs of events, and the latest findings in the bucket of each trail."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import astuple
from datetime import timedelta
from typing import Any, Literal, TypedDict

import msgspec
import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.routes import AUDITOR, route
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.event import Entry, Json, format_time, parse_time
from opentrail.core.logfile import LOG_KINDS, DeliveryPlace
from opentrail.core.trail import Trail
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.event_store import FoundEvent
from opentrail.trails.plans import EntrySelector, LogFilePlan, load_state
from opentrail.who.event_rows import find_event

_KIND = "ConsoleVerification"
#: Maximum findings of a trail; further ones are counted.
_MAX_FINDINGS = 20
#: Prefix of lines of `opentrail validate` about invalid objects.
_BAD = "NOT GOOD"


class DamagedObject(TypedDict):
    """An object in a trail's bucket that differs from the delivered one."""

    name: str
    reason: str
    #: The event whose proof found the damage; None if a verification found it.
    event: str | None


class Verification(TypedDict):
    """The latest findings in a trail's bucket."""

    at: str
    valid: bool
    findings: list[DamagedObject]
    #: The number of further findings.
    more: int


class Verifications:
    """The latest verification of each trail, in the control store."""

    def __init__(self, control: ControlStore, clock: Clock) -> None:
        self._control = control
        self._clock = clock

    async def of(self, trail: Trail) -> Verification | None:
        """Returns the latest verification of a trail; None if there was none."""
        stored = await self._control.get(_KIND, trail.uid)
        return msgspec.convert(stored.document, Verification) if stored else None

    async def store(self, trail: Trail, is_valid: bool, lines: list[str]) -> None:
        """Replaces the findings of a trail by new ones of `opentrail validate`."""
        cells = [line.split("\t") for line in lines]
        bad: list[DamagedObject] = [
            {"name": row[2], "reason": row[3], "event": None}
            for row in cells
            if len(row) == 4 and row[0] == _BAD
        ]
        await self._put(trail, is_valid, bad[:_MAX_FINDINGS], max(len(bad) - _MAX_FINDINGS, 0))

    async def add_broken(self, trail: Trail, event_id: str, proof: Mapping[str, Any]) -> None:
        """Adds a finding: the proof of an event is broken."""
        verification = await self.of(trail)
        name = f"s3://{proof['bucket']}/{proof['fault'] or ''}"
        finding: DamagedObject = {"name": name, "reason": proof["message"], "event": event_id}
        findings, more = (
            (verification["findings"], verification["more"]) if verification else ([], 0)
        )
        others = [other for other in findings if other["event"] != event_id]
        await self._put(trail, False, [finding, *others][:_MAX_FINDINGS], more)

    async def _put(
        self, trail: Trail, is_valid: bool, findings: list[DamagedObject], more: int
    ) -> None:
        document: Verification = {
            "at": format_time(self._clock.now()),
            "valid": is_valid,
            "findings": findings,
            "more": more,
        }
        await self._control.apply([Put(_KIND, trail.uid, {**document})])


#: Answers questions in the form of `app/event_prover.py`, in order.
Prove = Callable[[Json], Awaitable[list[Any]]]
#: Maximum time between an event and the creation of a trail that delivers it: calls take time.
_MAX_CALL_TIME = timedelta(hours=1)


class Proof(TypedDict):
    """The proof of an event from a trail's bucket."""

    trail: str
    arn: str
    state: Literal["proven", "pending", "broken", "unsigned", "unknown"]
    message: str
    bucket: str
    key: str | None
    digestKey: str | None
    #: The object that differs from the delivered one.
    fault: str | None


class EventProofs(TypedDict):
    """The proofs of an event, one per trail; an imported event has none."""

    trails: list[Proof]
    imported: bool


class Proofs:
    """The call about the proof of an event."""

    def __init__(self, services: Services, prove: Prove, verifications: Verifications) -> None:
        self._services = services
        self._prove = prove
        self._verifications = verifications

    @route("POST", "/events/{id}/proof", AUDITOR, "prove an event")
    async def of(self, request: Request) -> EventProofs:
        """Returns the proof of an event from the bucket of each trail that delivers it."""
        history = seen_by(request, self._services).history
        event = await find_event(history, request.path_params["id"])
        if event.is_imported:
            return {"trails": [], "imported": True}
        attributes = attributes_of(orjson.loads(event.record))
        entries = await self._services.journal.read(event.position - 1, 1)
        trails = [stored.trail for stored in await self._services.trails.all(attributes.account)]
        questions = []
        for trail in trails:
            question = await self._question(trail, event, attributes, entries)
            if question is not None:
                others = [other for other in trails if other is not trail]
                question["is_shared"] = any(_writes_to(other, question) for other in others)
                questions.append((trail, question))
        proven = await self._answer_all([question for _, question in questions])
        proofs: list[Proof] = []
        for (trail, _), answer in zip(questions, proven, strict=True):
            if answer is None:
                continue
            about = {"trail": trail.name, "arn": trail.arn}
            proofs.append(msgspec.convert({**answer, **about}, Proof))
            if answer["state"] == "broken":
                await self._verifications.add_broken(trail, event.event_id, answer)
        return {"trails": proofs, "imported": False}

    async def _question(
        self, trail: Trail, event: FoundEvent, attributes: Attributes, entries: list[Entry]
    ) -> Json | None:
        """Returns the question to prove; None if the trail cannot have delivered the event."""
        folder = LOG_KINDS.get(attributes.category)
        is_near = trail.multi_region or attributes.region == trail.home_region
        created = parse_time(trail.created_at) if trail.created_at else attributes.event_time
        is_later = created > attributes.event_time + _MAX_CALL_TIME or trail.started_at is None
        if folder is None or not is_near or is_later:
            return None
        span = trail.span_of(event.position)
        is_selected = None
        if span is not None and entries:
            is_selected = EntrySelector.selects(trail, span, entries[0])
            if not is_selected:
                return None
        place = span or trail
        files = DeliveryPlace(place.organization, attributes.account, attributes.region)
        return {
            "event_id": event.event_id,
            "event_time": format_time(attributes.event_time),
            "record": event.record,
            "account": attributes.account,
            "region": attributes.region,
            "folder": folder,
            "trail": trail.name,
            "home_region": trail.home_region,
            "bucket": place.bucket,
            "prefix": place.prefix,
            "organization": place.organization,
            "validation": place.validation,
            "is_selected": is_selected,
            "is_delivered": await self._is_delivered(trail, files, event.position),
            "known": await self._chain_of(trail, files),
        }

    async def _is_delivered(self, trail: Trail, place: DeliveryPlace, position: int) -> bool:
        """Returns whether the log file with a position must be in the bucket."""
        state = await load_state(self._services.control, trail.uid)
        if state.position < position:
            return False
        rows = await self._services.control.scan("plan", f"{trail.uid}/")
        plans = [LogFilePlan(**row.document) for row in rows]
        return not any(
            plan.place(trail.account) == place and plan.after < position <= plan.until
            for plan in plans
        )

    async def _chain_of(self, trail: Trail, place: DeliveryPlace) -> Json | None:
        """Returns the state of the digest chain of a place; None if it has no digest."""
        for chain in await self._services.deliveries.known_digests(trail):
            if (chain["organization"], chain["account"], chain["region"]) == astuple(place):
                return chain
        return None

    async def _answer_all(self, questions: list[Json]) -> list[Any]:
        """Returns the answers; does not search for undelivered log files."""
        ready = [question for question in questions if not _is_to_come(question)]
        proven = iter(
            await self._prove({"questions": ready, "keys": await self._keys()}) if ready else ()
        )
        return [_to_come(q) if _is_to_come(q) else next(proven) for q in questions]

    async def _keys(self) -> list[Json]:
        """Returns the public keys in the form of `aws cloudtrail list-public-keys`."""
        return [
            {
                "Value": base64.b64encode(key.public_der).decode(),
                "ValidityStartTime": format_time(key.valid_from),
                "ValidityEndTime": format_time(key.valid_until),
                "Fingerprint": key.fingerprint,
            }
            for key in await self._services.signer.keys()
        ]


def _writes_to(trail: Trail, question: Json) -> bool:
    """Returns whether a trail writes log files to the folder in a question."""
    places = [(trail.bucket, trail.prefix, trail.organization)]
    places += [(span.bucket, span.prefix, span.organization) for span in trail.spans]
    return (question["bucket"], question["prefix"], question["organization"]) in places


def _is_to_come(question: Json) -> bool:
    return question["is_selected"] is True and not question["is_delivered"]


def _to_come(question: Json) -> Json:
    message = "The log file is still to come."
    place = {"bucket": question["bucket"], "key": None, "digestKey": None, "fault": None}
    return {"state": "pending", "message": message, **place}
