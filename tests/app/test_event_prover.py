"""The process that proves events, over buckets in memory; tests/live runs the real process."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest

from opentrail.app.event_prover import answer
from opentrail.validation.event_proof import EventQuestion
from tests.validation.delivered import MemoryReader, Trail, six_hours, time_of
from tests.validation.test_event_proof import question


def asked(trail: Trail, *questions: EventQuestion) -> bytes:
    """Returns questions in the server's form."""
    keys = [key.as_json() for key in trail.public_keys()]
    return msgspec.json.encode({"questions": questions, "keys": keys})


def test_each_question_gets_an_answer_in_its_place() -> None:
    trail = six_hours()
    log = trail.logs()[0]
    given = asked(
        trail,
        question(trail, log, event_id="of another trail", is_selected=None),
        question(trail, log),
    )
    now = time_of(trail.digests()[-1]) + timedelta(hours=1)
    first, second = json.loads(answer(given, lambda: MemoryReader(trail.objects), now))
    assert first is None
    assert (second["state"], second["key"]) == ("proven", log)
    assert second["digestKey"] in trail.digests()
    assert second["message"]


def test_a_question_in_another_form_is_refused() -> None:
    trail = six_hours()
    with pytest.raises(msgspec.ValidationError, match="event_id"):
        answer(
            b'{"questions": [{}], "keys": []}',
            lambda: MemoryReader(trail.objects),
            time_of(trail.digests()[-1]),
        )
