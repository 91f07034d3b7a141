"""Quick checks let through every string that the search for secrets would change.

The strings combine beginnings of secrets, names and commands with separators and values. The tests
run each step of the search without its quick check.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from opentrail.core.secrets import embedded, free_text, secret_names
from opentrail.core.secrets.embedded import redact
from opentrail.core.secrets.secret_names import HIDDEN, sounds_secret
from tests.capture.text_canaries import cases

SPELLINGS = [case.text for case in cases()]
WORDS = [
    *(
        "password",
        "API_TOKEN",
        "x-amz-signature",
        "*secret",
        "sig",
        "ap\u0131_key",
        "pa\u017f\u017fword",
        "PIN",
    ),
    *("mysql", "curl", "net", "user", "login", "docker", "zip", "create", "secret", "noecho"),
    *("default", "securestring", "--value", "-p", "-P", "-u", "-a", "-c", "/rp", "-b", "x=1"),
    *("insert into t(", "password)", "values (", "ghp_", "xoxb-", "hvs.", "eyJ", "Bearer", "arn:"),
    *("jdbc:a:", "://", "@h", "|", "chpasswd", "echo", "</password>", "<password>", "&lt;a", "%3D"),
    *("h:6000:d:u:", "x1y2z3x1y2z3", "A" * 12, "kind: Secret", "acl", "setuser", ">x", "for"),
    *("hooks.slack.com/services/", "PRIVATE KEY----", "---- BEGIN ", "\u212aey", "\ud800"),
]
SEPARATORS = [
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "=",
    ": ",
    ":",
    ",",
    "'",
    '"',
    "(",
    "\\t",
    "\x1f",
    "\n- ",
    "\xa0",
]
MIXED = st.lists(st.sampled_from([*WORDS, *SEPARATORS]), min_size=1, max_size=14).map("".join)
#: Their checks define markup.
MARKUP = (embedded._in_xml, embedded._in_escaped_xml)
TEXTS = st.one_of(MIXED, st.sampled_from(SPELLINGS))


@settings(max_examples=300)
@given(TEXTS)
@example("ghp_0123456789abcdefghij")
@example("token:ghp_x")
@example("*abc: x")
@example("signature : x")
def test_step_changes_only_what_its_quick_check_passes(text: str) -> None:
    for step in embedded._STEPS:
        if step.change not in MARKUP and not step.may_change(text):
            assert step.change(text, 0) == text, step


@settings(max_examples=300)
@given(TEXTS)
@example("--password)x")
def test_each_match_has_a_sign_or_mark(text: str) -> None:
    for form in embedded._FORMS:
        if form.expression.search(text):
            assert any(mark in text for mark in form.marks), form
    for place in free_text._PLACES:
        if text.isascii() and place.expression.search(text):
            assert any(sign in text.lower() for sign in place.signs), place
    if list(free_text._in_places(text)):
        assert free_text.may_hold_text_secret(text)
    if list(free_text._Names(text).spans()) or list(free_text._inserted(text)):
        assert free_text.may_name_secret(text)


@settings(max_examples=300)
@given(
    st.one_of(
        st.from_regex(secret_names._SECRET_NAME),
        st.from_regex(secret_names._SECRET_SOUND),
        st.sampled_from(WORDS),
    )
)
def test_each_name_of_a_secret_passes(name: str) -> None:
    if sounds_secret(name):
        assert free_text.may_name_secret(f"{name}: x"), name


def test_listed_secrets_pass_the_quick_check() -> None:
    long = [text for text in SPELLINGS if len(text) >= embedded._MIN_LENGTH]
    changed = [text for text in long if HIDDEN in embedded._redact(text, 0)]
    assert len(changed) > 4_000
    assert [text for text in changed if HIDDEN not in redact(text)] == []
