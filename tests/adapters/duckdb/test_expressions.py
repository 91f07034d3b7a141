"""The expressions that SQL decides alone; its conditions never lose an event.

The contract of event stores compares them with a plain evaluation.
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address

import duckdb
import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb.expressions import _FLOAT as FLOATS
from opentrail.adapters.duckdb.expressions import _OCTET as OCTET
from opentrail.adapters.duckdb.expressions import condition_of
from opentrail.core.attributes import Attributes, attributes_of
from opentrail.core.expression import Compare, Expression, Text, holds, parse
from opentrail.core.expression.tree import as_text, network_of, occurs, values_at
from tests.factories import MOMENT, a_record

#: `Mary Ann` as whole words in JSON.
WORDS = r"((^|[^A-Za-z0-9]|\\[bfnrt])(?i:mary\ ann)|[A-Za-z0-9]M(?i:ary\ ann))([^a-z0-9]|$)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name=CreateUser user!=John",
        "name=Create* OR is:write",
        "NOT (source=iam AND resource=x)",
        "time>=2020-01-01 until 2020-01-02",
        "readonly=true",
        r"name=100\%_*",
        "name:create",
        "NOT user:john",
        "source=s*",
        "resource=Mar*",
        "resource:mar",
        "NOT resourcetype=AWS::IAM::*",
        "resourcetype:user",
    ],
)
def test_typed_columns_are_filtered_in_sql(text: str) -> None:
    assert condition_of(parse(text, MOMENT)).exact


@pytest.mark.parametrize(
    ("text", "looked_for"),
    [
        ("requestParameters.bucketName=logs-*-x/y", ('"bucketName"', "logs-")),
        ("requestParameters.bucketName:LOGS", ('"bucketName"', "logs")),
        ('"Mary Ann"', ("mary ann", WORDS)),
        ("requestParameters.name=größe", ('"name"',)),
        ("requestParameters.größe=x", ("x",)),
        ("requestParameters.count=1000", ('"count"', "1000", FLOATS)),
        ("1e3", ()),
        ("10.5", ()),
        ("123456789012", ("123456789012", FLOATS)),
        ("203.0.113.7", ("203.0.113.7",)),
        ("2020-01-01", ("2020-01-01",)),
        ("ip=10.0.0.0/8", ("10.", rf"(10)\.{OCTET}\.{OCTET}\.{OCTET}")),
        ("ip=2001:db8::/32", ()),
        ("requestParameters.cidrIp=10.0.0.0/8", ('"cidrIp"',)),
        ("NOT requestParameters.a=b", ()),
        ("requestParameters.a!=b", ()),
        ("requestParameters.count>5", ('"count"',)),
        ("text:mary", ("mary",)),
        ("is:success", ()),
        ("is:failure", ("signin.amazonaws.com",)),
    ],
)
def test_other_terms_only_narrow_the_search(text: str, looked_for: tuple[str, ...]) -> None:
    found = condition_of(parse(text, MOMENT))
    assert not found.exact
    assert found.arguments == looked_for


def test_agent_search_uses_the_words_of_its_family() -> None:
    def looked_for(text: str) -> set[str]:
        found = condition_of(parse(text, MOMENT))
        assert not found.exact
        return set(found.arguments[0].removeprefix("(?i)").split("|"))

    of_any = looked_for("agent=my-own")
    assert looked_for("agent=Terraform") == of_any | {"terraform"}
    assert looked_for("agent:AIDE") == looked_for("agent=Aider") == of_any | {"aider"}
    assert looked_for("agent=*") == looked_for("agent>=A") > looked_for("agent=C*") > of_any


DATABASE = duckdb.connect(":memory:", config={"threads": 1})
WRITTEN = st.recursive(
    st.one_of(
        st.integers(-(10**25), 10**25).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.from_regex(
            r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,8})?([eE][-+]?[0-9]{1,2})?", fullmatch=True
        ),
        st.text("aE1.=/\u00e9", max_size=9).map(json.dumps),
        st.text("aE1.=/\u00e9", max_size=9).map(lambda t: json.dumps(t, ensure_ascii=False)),
        st.text("aE1.=", max_size=9).map(lambda t: '"' + "".join(map(numbered, t)) + '"'),
        st.sampled_from(["true", "null"]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=4,
)


def numbered(character: str) -> str:
    """Returns a character in one of its JSON spellings."""
    return f"\\u{ord(character):04x}"


@pytest.mark.hypothesis
@settings(max_examples=300, deadline=None)
@given(data=st.data(), written=WRITTEN)
@pytest.mark.slow
def test_a_value_is_found_in_every_json_spelling(data: st.DataObject, written: str) -> None:
    record = f'{{"requestParameters": {{"a": {written}}}}}'
    values = [
        as_text(value) for value in values_at(orjson.loads(record), ("requestParameters", "a"))
    ]
    for value in values:
        begin = data.draw(st.integers(0, len(value)))
        part = value[begin : data.draw(st.integers(begin, len(value)))]
        words = [Text(part)] if occurs(Text(part), value) else []
        expressions: list[Expression] = [
            *words,
            Text(part, is_part=True),
            Compare(("requestParameters", "a"), ":", part, False),
            Compare(("requestParameters", "a"), "=", f"*{_escaped(part)}*", False),
        ]
        for expression in expressions:
            found = condition_of(expression)
            asked = f"SELECT {found.sql} FROM (SELECT ? AS record)"  # noqa: S608
            rows = DATABASE.execute(asked, [*found.arguments, record]).fetchall()
            assert rows == [(True,)], (part, found)


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" for character in text)


ADDRESSES = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda two: f"{IPv4Address(two[0])}/{two[1]}"
    ),
    st.from_regex(r"10\.[0-9]{1,3}\.(0|00|1|256)\.[0-9]{1,4}(/24|\n|x)?", fullmatch=True),
    st.sampled_from(["10.1", "ec2.amazonaws.com", "2001:db8::1", "::ffff:10.1.2.3", "", "10"]),
)


@pytest.mark.hypothesis
@settings(max_examples=300, deadline=None)
@given(texts=st.lists(ADDRESSES, min_size=1), prefix=st.integers(0, 32), data=st.data())
@pytest.mark.slow
def test_addresses_of_a_network_are_found_as_strings(
    texts: list[str], prefix: int, data: st.DataObject
) -> None:
    address = data.draw(st.sampled_from(["10.1.2.3", "10.200.1.77", *texts]))
    expression = Compare(("source_ip",), "=", f"{address.partition('/')[0]}/{prefix}", True)
    network = network_of(expression)
    assume(network is not None and network.version == 4)
    found = condition_of(expression)
    certain, arguments = found.certain
    rows = DATABASE.execute(
        f"SELECT source_ip, {found.sql}, {certain} FROM (SELECT unnest(?::VARCHAR[]) AS source_ip)",  # noqa: S608
        [*found.arguments, *arguments, texts],
    ).fetchall()
    for text, possible, is_certain in rows:
        is_within = holds(expression, _with_address(text), {})
        assert is_certain <= is_within <= possible, (text, expression)


def _with_address(text: str) -> Attributes:
    return replace(attributes_of(a_record()), source_ip=text)


@pytest.mark.slow
def test_a_part_is_found_next_to_any_character() -> None:
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    lower = condition_of(parse("name:x", MOMENT)).sql.removeprefix("contains(").removesuffix(", ?)")
    rows = DATABASE.execute(
        f"SELECT event_name, {lower} FROM (SELECT unnest(?::VARCHAR[]) AS event_name)",  # noqa: S608
        [characters],
    ).fetchall()
    assert len(rows) == len(characters)
    for character, found in rows:
        expected = character.lower()
        is_ascii = any(each.isascii() for each in expected + found)
        assert found == expected or not is_ascii, hex(ord(character))


def test_characters_of_like_are_taken_literally() -> None:
    assert condition_of(parse(r"name=a%b_c*", MOMENT)).arguments == (r"a\%b\_c%",)
