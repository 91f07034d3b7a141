"""No secret in a string is recorded, whatever its name, spelling and place (guarantee S4)."""

from __future__ import annotations

import pytest

from opentrail.capture.record.assemble import Assembler
from opentrail.core.identity import unknown
from opentrail.wire.message import Request, Response
from tests.capture.test_secrets import leaks
from tests.capture.text_canaries import HARMLESS, NAMED, NAMELESS, PLACES, cases, harmless
from tests.factories import ACCOUNT, an_exchange

pytestmark = [pytest.mark.slow, pytest.mark.campaign]


def recorded(request: Request, response: Response) -> bytes:
    assembler = Assembler(lambda key: unknown(ACCOUNT, key))
    return assembler.assemble(an_exchange(request, response)).entry.record


def test_no_canary_in_a_string_is_recorded() -> None:
    found = [
        f"{case.place}: {case.text}"
        for number, case in enumerate(cases())
        if leaks(recorded(case.request, case.response), [number])
    ]
    assert found == []


def test_cases_cover_names_spellings_and_places() -> None:
    drawn = cases()[len(cases()) // 2 :]
    assert len(cases()) >= 5_000
    assert {case.place for case in cases()} == set(PLACES)
    assert {case.spelling for case in cases()} >= {*NAMED, *NAMELESS}
    assert len({case.spelling for case in drawn}) >= 1_000


def test_harmless_value_of_each_place_is_recorded() -> None:
    tried, hidden = 0, list[str]()
    for number in range(len(HARMLESS)):
        for place, call in PLACES.items():
            tried += 1
            if not leaks(recorded(*call(harmless(number))), [number]):
                hidden.append(f"{place}: {harmless(number)}")
    assert tried >= 300
    assert hidden == []
