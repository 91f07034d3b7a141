from __future__ import annotations

from opentrail.core.insight_types import CALL_RATE, ERROR_RATE, PRINCIPAL_TYPES, insight_type


def test_every_type_has_a_unique_name_in_records() -> None:
    names = {insight_type(name) for name in PRINCIPAL_TYPES}
    assert names == {
        "OpenTrail.NewApi",
        "OpenTrail.NewRegion",
        "OpenTrail.NewPrincipal",
        "OpenTrail.NewUserAgent",
        "OpenTrail.NewAgent",
        "OpenTrail.AccessDenied",
        "OpenTrail.ApiFanOut",
    }
    assert not names & {CALL_RATE, ERROR_RATE}
