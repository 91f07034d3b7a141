"""The phrases for calls, against AWS's models."""

import re

import pytest

from opentrail.api.v1.users import ACTIONS
from opentrail.who.sentence import CALL_PHRASES, VERBS
from tests.who.test_changes import operations

#: Events with another name than the operation in records, or without an operation.
OTHER_NAMES = {
    *("PutBucketLifecycle", "PutBucketPublicAccessBlock", "DeleteBucketPublicAccessBlock"),
    *("ConsoleLogin", "SwitchRole", "McpToolCall", "PostObject"),
}
#: opentrail's own sources → their events.
OWN = {
    "console": {
        "CreateConsoleUser",
        "CreatePersonalToken",
        "RemovePersonalToken",
        *ACTIONS.values(),
    },
    "detections": {"DisableDetection", "EnableDetection"},
    "insights": {"ExpectIncident"},
}


@pytest.mark.parametrize("source", sorted(CALL_PHRASES))
def test_words_are_for_existing_operations(source: str) -> None:
    known = OWN.get(source) or (set() if source in ("signin", "mcp") else operations(source))
    assert set(CALL_PHRASES[source]) - known <= OTHER_NAMES


def test_words_fit_into_a_sentence() -> None:
    for words in (*VERBS.values(), *(w for calls in CALL_PHRASES.values() for w in calls.values())):
        assert words == words.strip()
        assert words[0].islower()
        assert not words.endswith(".")
        assert re.fullmatch(r"[^{}]*(\{[\w-]+\}[^{}]*)*", words)
