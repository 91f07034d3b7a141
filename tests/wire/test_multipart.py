"""The text fields of a browser's form upload."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.wire.form_fields import FIELDS_BYTES, form_fields

FORM = {"content-type": "multipart/form-data; boundary=XX"}


def form(*fields: tuple[str, str], boundary: str = "XX") -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    return f"{''.join(parts)}--{boundary}--\r\n".encode()


def test_fields_are_read_by_lower_case_name() -> None:
    body = form(("Key", "in/${filename}"), ("X-Amz-Credential", "AKIA/x"), ("policy", "eyJ9"))
    assert form_fields(FORM, body) == {
        "key": "in/${filename}",
        "x-amz-credential": "AKIA/x",
        "policy": "eyJ9",
    }


@pytest.mark.parametrize("filename", ["a b.txt", "C:\\\\mail\\\\a b.txt", "/home/mary/a b.txt"])
def test_key_may_contain_the_name_of_the_file(filename: str) -> None:
    body = (
        form(("key", "in/${filename}")).removesuffix(b"--XX--\r\n")
        + (
            f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
            "the object\r\n--XX--\r\n"
        ).encode()
    )
    assert form_fields(FORM, body) == {"key": "in/a b.txt"}


def test_fields_after_the_file_are_ignored() -> None:
    body = form(("key", "k"), ("file", "the object"), ("policy", "late"))
    assert form_fields(FORM, body) == {"key": "k"}


def test_values_may_have_several_lines_and_parts_headers() -> None:
    body = (
        b'--XX\r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name="note"\r\n\r\n'
        b"one\r\ntwo\r\n--XX--"
    )
    assert form_fields(FORM, body) == {"note": "one\r\ntwo"}


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="XX"',
        "Multipart/Form-Data; Boundary=XX",
        "multipart/form-data; charset=utf-8; boundary=XX; x=y",
    ],
)
def test_a_boundary_has_several_spellings(content_type: str) -> None:
    assert form_fields({"content-type": content_type}, form(("key", "k"))) == {"key": "k"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "multipart/form-data"},
        {"content-type": "application/x-www-form-urlencoded; boundary=XX"},
        {"content-type": "multipart/form-data; boundary=OTHER"},
    ],
)
def test_a_body_of_another_kind_has_no_fields(headers: dict[str, str]) -> None:
    assert form_fields(headers, form(("key", "k"))) == {}


def test_fields_are_found_at_the_beginning_only() -> None:
    body = form(("key", "k"), ("note", "n" * FIELDS_BYTES), ("policy", "late"))
    fields = form_fields(FORM, body)
    assert fields["key"] == "k"
    assert "policy" not in fields


@pytest.mark.hypothesis
@settings(deadline=None)
@given(
    st.binary(max_size=60)
    | st.text(st.sampled_from('-X\r\nContent-Disposition: name="key";'), max_size=80).map(
        str.encode
    ),
    st.text(max_size=20),
)
def test_random_bodies_have_no_broken_fields(body: bytes, boundary: str) -> None:
    for name in ("XX", boundary):
        fields = form_fields({"content-type": f"multipart/form-data; boundary={name}"}, body)
        assert all(field == field.lower() for field in fields)
