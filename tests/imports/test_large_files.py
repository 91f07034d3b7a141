"""Large packed files, part by part."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.imports import large_files
from opentrail.imports.gzipped import Large
from opentrail.imports.large_files import (
    TOO_LARGE_A_RECORD,
    elements_of,
    lines_of,
    wraps_one_list,
)
from opentrail.imports.records import NOT_JSON, Unfit

OBJECTS = st.dictionaries(
    st.sampled_from("ab"),
    st.text(max_size=30) | st.lists(st.dictionaries(st.sampled_from("xy"), st.text(max_size=9))),
)


def in_parts(text: bytes, size: int) -> Iterator[bytes]:
    for position in range(0, len(text), size):
        yield text[position : position + size]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of 50 to 400 bytes."""
    monkeypatch.setattr(large_files, "_WINDOW", 50)
    monkeypatch.setattr(large_files, "_LARGEST_WINDOW", 400)


@given(st.binary(), st.integers(1, 50))
def test_lines_are_the_same_however_the_text_comes(text: bytes, size: int) -> None:
    lines = list(lines_of(in_parts(text, size)))
    assert b"".join(lines) == text.removeprefix(b"\xef\xbb\xbf") or size < 3
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines[:-1])


@pytest.mark.hypothesis
@given(st.lists(OBJECTS), st.integers(1, 200), st.sampled_from([None, 0, 3]), st.booleans())
def test_elements_are_the_same_however_the_text_comes(
    records: list[Any], size: int, indent: int | None, bom: bool
) -> None:
    text = json.dumps({"Records": records}, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large_files, "_WINDOW", 50)
        whole = b"\xef\xbb\xbf" * bom + text + b"\n"
        elements = list(elements_of(in_parts(whole, size + 30)))
    assert [json.loads(element) for element in elements] == records


@pytest.mark.parametrize(
    ("head", "tail", "does"),
    [
        (b'{"Records":[{', b"}]}", True),
        (b'\xef\xbb\xbf\n{ "Events" : [', b" ] \n} \n", True),
        (b'{"Records":[', b'],"x":[1]}', True),
        (b'{"x":1,"Records":[', b"]}", False),
        (b'{"Records":[', b'],"x":1}', False),
        (b"[{", b"}]", False),
    ],
)
def test_a_log_file_is_known_by_its_ends(head: bytes, tail: bytes, does: bool) -> None:
    assert wraps_one_list(Large(head, tail)) is does


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "rest", [b'{"a":}', b"{} {}", b'{"a":1', b'{}],"x":[{}', b'{}],"Records":[{}']
)
def test_what_is_wrong_later_leaves_what_came_before(rest: bytes) -> None:
    text = b'{"Records":[' + b'{"a":1},' * 50 + rest + b"]}"
    given: list[bytes] = []
    with pytest.raises(Unfit) as refused:
        given.extend(elements_of(in_parts(text, 60)))
    assert refused.value.reason == NOT_JSON
    assert 40 <= len(given) <= 51


@pytest.mark.usefixtures("small")
def test_a_record_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b'{"Records":[{"a":"'
        while True:
            read += 100
            yield b"x" * 100

    with pytest.raises(Unfit) as refused:
        list(elements_of(endless()))
    assert refused.value.reason == TOO_LARGE_A_RECORD
    assert read < 1000


@pytest.mark.usefixtures("small")
def test_a_list_that_never_begins_is_refused() -> None:
    with pytest.raises(Unfit):
        list(elements_of([b"[]"]))
