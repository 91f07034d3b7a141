"""Tags: their form, their number, adding and removing (cloudtrail-format §8.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import MAX_TAGS, as_tag_list, read_tags, with_tags, without_tags

PLAIN = st.text(st.sampled_from("abcXYZ019 _.:/=+-@\u00e9\u4e2d"), min_size=1, max_size=20)
TAGS = st.dictionaries(PLAIN, PLAIN, max_size=10).map(lambda tags: tuple(sorted(tags.items())))


def refused(*given: dict[str, str]) -> str:
    with pytest.raises(CloudTrailError) as caught:
        read_tags(given)
    assert caught.value.code == "InvalidTagParameterException"
    return caught.value.message


@given(TAGS)
def test_listed_values_are_read_again(tags: tuple[tuple[str, str], ...]) -> None:
    assert read_tags(as_tag_list(tags)) == tags


@given(TAGS, TAGS)
def test_added_tags_replace_values_of_the_same_keys(
    present: tuple[tuple[str, str], ...], added: tuple[tuple[str, str], ...]
) -> None:
    together = with_tags(present, added)
    assert dict(together) == {**dict(present), **dict(added)}
    assert list(together) == sorted(together)
    assert dict(without_tags(together, dict(added))) == {
        key: value for key, value in present if key not in dict(added)
    }


def test_a_tag_needs_no_value() -> None:
    assert read_tags([{"Key": "team"}]) == (("team", ""),)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ({"Key": "", "Value": "x"}, "1 to 128"),
        ({"Key": "k" * 129, "Value": "x"}, "1 to 128"),
        ({"Key": "k", "Value": "v" * 257}, "0 to 256"),
        ({"Key": "aws:team", "Value": "x"}, "aws:"),
        ({"Key": "AWS:team", "Value": "x"}, "aws:"),
        ({"Key": "a#b", "Value": "x"}, "'#'"),
        ({"Key": "k", "Value": "a\nb"}, "'\\n'"),
        ({"Key": "k", "Value": "\u202e"}, "must not have"),
    ],
    ids=["empty", "long key", "long value", "reserved", "Reserved", "sign", "line", "bidi"],
)
def test_a_wrong_tag_is_refused_and_named(tag: dict[str, str], expected: str) -> None:
    assert expected in refused(tag)


def test_a_repeated_key_is_refused() -> None:
    assert "'k'" in refused({"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"})


def test_a_trail_has_at_most_fifty_tags() -> None:
    fifty = read_tags([{"Key": f"k{n}", "Value": ""} for n in range(MAX_TAGS)])
    assert len(with_tags((), fifty)) == 50
    assert len(with_tags(fifty, (("k7", "new"),))) == 50
    with pytest.raises(CloudTrailError) as caught:
        with_tags(fifty, (("more", ""),))
    assert caught.value.code == "TagsLimitExceededException"
