"""A process that proves one event: a line of questions as input, answers on standard output.

It reads the buckets with the credentials in its environment, as `opentrail validate` does. Bucket
contents are hostile, and unpacking them takes time: both belong outside the server process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from opentrail.adapters.aws.downloads import S3Gets
from opentrail.adapters.ipc.parent import end_with_parent
from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.validation.buckets import BucketReader
from opentrail.validation.event_proof import EventProver, EventQuestion
from opentrail.validation.public_keys import PublicKeys


class Questions(msgspec.Struct, frozen=True):
    """The copies of an event in several trails, and the trusted keys."""

    questions: list[EventQuestion]
    #: In the form of `aws cloudtrail list-public-keys`.
    keys: list[Mapping[str, Any]]


def answer(body: bytes, reader: Callable[[], BucketReader], now: datetime) -> bytes:
    """Returns the answers to questions in JSON, null where the trail did not deliver the event."""
    questions = msgspec.json.decode(body, type=Questions)
    keys = PublicKeys(ask=lambda _region, _start, _end: questions.keys)
    prover = EventProver(reader(), RsaVerifier(), keys, now)
    return msgspec.json.encode([prover.prove(question) for question in questions.questions])


if __name__ == "__main__":
    line = sys.stdin.buffer.readline()
    end_with_parent()
    sys.stdout.buffer.write(answer(line, S3Gets, datetime.now(UTC)))
