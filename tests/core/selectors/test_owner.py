"""Who selects, and how his selection is refused."""

from __future__ import annotations

from opentrail.core.selectors.owner import SelectorOwner, refused, shown


def test_every_refusal_has_awss_one_code() -> None:
    error = refused("Field a is not supported.")
    assert (error.code, error.message, error.status) == (
        "InvalidEventSelectorsException",
        "Field a is not supported.",
        400,
    )


def test_a_long_value_is_shown_by_its_beginning() -> None:
    assert shown("a" * 200) == "a" * 200
    assert shown("a" * 2048) == "a" * 200 + "…"


def test_takers_are_named_as_texts_name_them() -> None:
    assert {taker.value for taker in SelectorOwner} == {"trail", "event data store"}
