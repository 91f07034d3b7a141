from __future__ import annotations

from opentrail.insights.detector import MAX_MINUTES, Incident


def an_incident(rises: bool = True) -> Incident:
    """Returns an incident of three minutes, with 10 times or a tenth of the usual calls."""
    calls, expected = (10.0, 1.0) if rises else (1.0, 10.0)
    incident = Incident(
        row=0,
        start=100,
        found=102,
        rises=rises,
        learned=False,
        calls=[calls] * 3,
        expected=[expected] * 3,
        last_unusual=102,
    )
    incident.refresh(102)
    return incident


def feed(incident: Incident, calls: float, expected: float, minutes: int) -> int | None:
    """Adds equal minutes; returns the first one after which the incident is over."""
    first = incident.start + len(incident.calls)
    for minute in range(first, first + minutes):
        incident.add(minute, calls, expected)
        if incident.is_over(minute):
            return minute
    return None


def test_an_incident_ends_after_ten_quiet_minutes() -> None:
    incident = an_incident()
    assert feed(incident, 10.0, 1.0, 20) is None
    over = feed(incident, 1.0, 1.0, 30)
    assert incident.end == 100 + 23
    assert over is not None
    assert 100 + 23 + 9 <= over <= 100 + 23 + 15


def test_a_pause_is_not_the_end() -> None:
    incident = an_incident()
    assert feed(incident, 0.0, 1.0, 5) is None
    assert feed(incident, 10.0, 1.0, 5) is None
    assert incident.end == 100 + 13


def test_a_drop_is_over_when_calls_are_back() -> None:
    incident = an_incident(rises=False)
    assert feed(incident, 0.0, 10.0, 60) is None
    assert feed(incident, 10.0, 10.0, 30) is not None
    assert incident.end == 100 + 63


def test_after_a_day_it_ends_in_any_case() -> None:
    assert feed(an_incident(), 10.0, 1.0, 2 * MAX_MINUTES) == 100 + MAX_MINUTES
