"""Secrets in strings that hold documents; other strings stay unchanged."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import tracemalloc
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.secrets import embedded
from opentrail.core.secrets.embedded import (
    MAX_SEARCHED_LENGTH,
    by_name,
    redact,
    search_limit,
    without_secrets,
)
from opentrail.core.secrets.secret_names import HIDDEN, looks_secret
from tests.collection import at_least, collected_records
from tests.factories import real_records

SECRET = "canary-7f3a9c"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


DOCUMENTS = [
    json.dumps({"password": SECRET}),
    json.dumps({"a": [{"dbPassword": SECRET}]}),
    json.dumps({"credentials": {"x": SECRET}}),
    json.dumps([{"Name": "DB_PASSWORD", "Value": SECRET}]),
    json.dumps({"parameters": [{"parameterKey": "MasterPassword", "parameterValue": SECRET}]}),
    json.dumps({"inner": json.dumps({"clientSecret": SECRET})}),
    json.dumps({"inner": encoded(json.dumps({"secret_access_key": SECRET}))}),
    json.dumps({"inner": f"<a><password>{SECRET}</password></a>"}),
    json.dumps({"url": f"https://h/?X-Amz-Security-Token={SECRET}"}),
    "  " + json.dumps({"password": SECRET}, indent=2),
    json.dumps({"password": SECRET, "more": "x" * 50})[:-3],  # cut
    f'{{"password": "{SECRET}',  # cut in the secret
    f'{{\'no\': json, "password": "{SECRET}"}}',
    f"<login><user>a</user><password>{SECRET}</password></login>",
    f"<login><ns:Password type='x'>{SECRET}</ns:Password></login>",
    f"<login><password><![CDATA[{SECRET}]]></password></login>",
    f'<login user="a" password="{SECRET}"/>',
    f"<?xml version='1.0'?><c><x>{encoded(json.dumps({'password': SECRET}))}</x></c>",
    f"user=a&password={SECRET}&b=c",
    f"Server=db;User Id=a;Password={SECRET};",
    f"https://h/k?X-Amz-Date=1&X-Amz-Signature={SECRET}",
    f"https://h/k?a=b&Signature={SECRET}",
    f"postgres://admin:{SECRET}@db.local/app",
    encoded(json.dumps({"password": SECRET})),
    encoded(f"<p><password>{SECRET}</password></p>"),
    encoded(json.dumps({"inner": encoded(json.dumps({"password": SECRET}))})),
    f'payload: {{"password": "{SECRET}"}}',
    "\ufeff" + json.dumps({"password": SECRET}),
    f"{{'password': '{SECRET}'}}",
    f"{{password: {SECRET}, user: a}}",
    json.dumps(json.dumps({"password": SECRET})),
    json.dumps({"a": 1})[:-1] + f', "b": "{{\\"password\\":\\"{SECRET}\\"',
    quote(json.dumps({"password": SECRET})),
    quote(quote(json.dumps({"password": SECRET}))),
    "https://h/?payload=" + quote(json.dumps({"password": SECRET})),
    encoded("\n  " + json.dumps({"password": SECRET})),
    encoded(f"user=a&password={SECRET}"),
    base64.urlsafe_b64encode(json.dumps({"ÿþ~?": 1, "password": SECRET}).encode()).decode(),
    base64.urlsafe_b64encode(json.dumps({"?>": 1, "password": SECRET}).encode()).decode(),
    f'password="{SECRET}"',
    f"x=password={SECRET}",
    f"password = {SECRET}",
    f"pass%77ord={SECRET}",
    f"https://h/cb#access_token={SECRET}&state=1",
    f"mysql --password {SECRET} --user a",
    f"MasterUserPassword: {SECRET}",
    f"  db:\n    password: '{SECRET}'\n    user: a",
    f"Authorization: Bearer {SECRET}",
    f"it said: Bearer {SECRET}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    json.dumps({"secret": SECRET}),
    json.dumps({"token": SECRET}),
    json.dumps({"apiKey": SECRET}),
    json.dumps({"headers": {"X-Api-Key": SECRET, "Authorization": SECRET}}),
    json.dumps([{"name": "API_TOKEN", "value": SECRET}]),
    f"<t><Name>password</Name><Value>{SECRET}</Value></t>",
    f"<c><Credentials><x>{SECRET}</x></Credentials></c>",
    f"<c><inner>&lt;password&gt;{SECRET}&lt;/password&gt;</inner></c>",
    f"could not log in: password: {SECRET}",
    f"db:   password: {SECRET}",
    f"bad: {{'password': '{SECRET}'}}",
    f"it sent: Cookie: a=1; sid={SECRET}",
    f"curl -H 'X-Api-Key: {SECRET}' https://h",
    f"a: b\ndb:\n  password: |\n    first\n    {SECRET}\n  user: a",
    f"--conf=spark.db.password={SECRET}",
    f"OPTIONS='db.password={SECRET}'",
    f"note <password>{SECRET}</password>",
    f"failed for <c><password><![CDATA[{SECRET}]]></password></c>",
    f'given [{{"name": "DB_PASSWORD", "value": "{SECRET}"}}] and {{"a": 1}}',
    f'rejected {{"passwords": ["a", "{SECRET}"]}}: wrong',
    f'{{"a": 1}}\n{{"password": {{"value": "{SECRET}"}}}}',
    json.dumps({"args": ["login", "--password", SECRET]}),
    f'[1,"--password","{SECRET}"]',
    json.dumps({"environment": [{"name": "PLAIN", "value": SECRET}]}),
    json.dumps({"Environment": {"Variables": {"PLAIN": SECRET}}}),
    json.dumps({"environmentVariables": {"PLAIN": SECRET}}),
    json.dumps({"EnvironmentVariables": json.dumps([{"name": "PLAIN", "value": SECRET}])}),
    f'<c connectionString="Server=db;Password={SECRET}"/>',
    f'<c connection="Server=db;Password=a > {SECRET}"/>',
    f"https://hooks.slack.com/services/T/B/{SECRET}",
    f"PuTTY-User-Key-File-3: ssh\nPrivate-Lines: 1\n{SECRET}\nPrivate-MAC: 0",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{SECRET}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"kind: Secret\ndata:\n  a: {SECRET}\ntype: Opaque",
    json.dumps({"auths": {"r.example": {"auth": SECRET}}}),
    f"password%3A%20{SECRET}&a=b",
    f"<plist><dict><key>password</key><string>{SECRET}</string></dict></plist>",
    f"<key>user</key><string>a</string>\n<key>apiKey</key>\n<data>{SECRET}</data>",
    f"<!-- https://hooks.slack.com/services/T/B/{SECRET} -->",
    f"-----BEGIN OpenVPN Static key V1-----\n{SECRET}\n-----END OpenVPN Static key V1-----",
]
#: Tokens known by their beginning, without a name.
TOKENS = [
    *(f"{kind}_{SECRET}x" for kind in ("ghp", "gho", "ghs", "github_pat", "sk_live", "rk_test")),
    *(f"{kind}-{SECRET}x" for kind in ("xoxb", "xoxp", "xapp", "glpat", "glrt", "sk-ant")),
    *(f"hvs.{SECRET}x", f"shpat_{SECRET}x", f"dckr_pat_{SECRET}x", f"SG.{SECRET}xxx.{SECRET}xxx"),
]


def revealed(text: str) -> set[str]:
    """Returns a string and all its decoded forms."""
    seen, waiting = set[str](), [text]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for part in [one, *one.replace('"', " ").replace("<", " ").replace(">", " ").split()]:
            try:
                usual = part.replace("-", "+").replace("_", "/")
                waiting.append(base64.b64decode(usual, validate=True).decode())
            except ValueError:
                continue
    return seen


@pytest.mark.parametrize("secret", ["hunter2", 4711, 47.11])
def test_an_options_value_of_any_type_is_hidden(secret: Any) -> None:
    given = [5432, "x", None, "--port", 5432, {"a": 1}, "--password", secret, "--quiet", True]
    assert without_secrets(given) == [*given[:7], HIDDEN, *given[8:]]
    flag = ["--password", True, "--password", None, "--password", "--user", "a"]
    assert without_secrets(flag) == flag


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_no_secret_stays_in_a_document(document: str) -> None:
    assert any(SECRET in text for text in revealed(document)), "the test itself"
    shown = redact(document)
    assert not any(SECRET in text for text in revealed(shown))
    assert any(HIDDEN in text for text in revealed(shown))


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("place", ["{}", "a/{}/b", "cloned with {} today", "key={}&a=b", "['{}']"])
def test_known_token_needs_no_name(place: str, token: str) -> None:
    shown = redact(place.format(token))
    assert SECRET not in shown
    assert shown.replace(HIDDEN, "") in (place.format(""), place.partition("{}")[0], "key=&a=b")
    assert HIDDEN in without_secrets([place.format(token)])[0]


def test_property_list_shows_other_values() -> None:
    text = "<dict><key>user</key><string>a</string><key>password</key><string>x1</string></dict>"
    assert redact(text) == text.replace("x1", HIDDEN)


@pytest.mark.parametrize("text", ["the bearer authenticates", "Basic settings of a thing"])
def test_word_in_sentence_is_no_credential(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("document", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_shown_values_stay(document: str) -> None:
    shown = redact(document)
    assert redact(shown) == shown


def test_packed_secrets_are_hidden_whole() -> None:
    packed = base64.b64encode(gzip.compress(json.dumps({"password": SECRET}).encode())).decode()
    harmless = base64.b64encode(gzip.compress(b'{"a": "b"}')).decode()
    assert redact(packed) == HIDDEN
    assert redact(harmless) == harmless


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    ["", "a: '", 'a: "', '{"a', "a=", "--a '", '{\\"a\\":\\"', "<a>", "<Credentials>", "eyJ"],
)
@pytest.mark.parametrize("letters", ["x", "\\\\x", "ab: ", "a=", "%7B", "<a", "&lt;"])
def test_a_long_text_costs_little_memory(start: str, letters: str) -> None:
    """Some regular expressions take hundreds of bytes for each letter."""
    text = start + letters * (100_000 // len(letters))
    tracemalloc.start()
    try:
        redact(text)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_string_beyond_the_record_limit_is_not_searched() -> None:
    text = json.dumps({"password": SECRET, "x": "x" * 110_000})
    assert redact(text) is text


def test_a_signed_token_is_hidden_whole() -> None:
    parts = (encoded('{"alg":"HS256"}'), encoded('{"sub":"a"}'), "c2lnbmF0dXJl")
    assert redact(".".join(part.rstrip("=") for part in parts)) == HIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "plain",
        "arn:aws:iam::123456789012:user/Mary",
        "a=b",
        '{"token.actions.githubusercontent.com:aud":"sts.amazonaws.com","aws:TokenIssueTime":"x"}',
        '{"nextToken":"abc","maxTokens":5,"clientRequestToken":"x","secretId":"name"}',
        "User: arn:aws:iam::123456789012:user/Mary is not authorized to perform: iam:CreateUser",
        "Resources:\n  Bucket:\n    Type: AWS::S3::Bucket # not 100% --sure\n",
        "a%20file%2Fname.txt",
        "AIDAQEBALCAAAAAAAAAAAAAA",
        "i-0123456789abcdef0123456789",
        'W/"etag-1234567890"',
        "https://host/path?prefix=x&max-keys=2",
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*"}]}',
        '{ "spaced" : 1.0 }',
        '{"NoEcho":true,"password":null}',
        "[1, 2",
        "<a b='c'>text</a>",
        "<not closed",
        "eyJhIjogMX0=",
        "WyJhIl0=",
        "PGE+Yjwv",
        "eyJub3QgYmFzZTY0",
    ],
)
def test_values_without_secrets_keep_their_bytes(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_any_text_is_accepted(text: str) -> None:
    assert isinstance(redact(text), str)
    assert redact("{" + text)[:1] in ("{", "H")
    assert isinstance(redact(quote(text, safe="=&")), str)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "name", "value", "list"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON)
def test_json_without_secrets_is_unchanged(value: Any) -> None:
    written = json.dumps(value)
    assert redact(written) == written


@pytest.mark.parametrize(
    ("before", "repeated", "after"),
    [
        ("<a>", " ", "</a>"),
        ("", "<a><![CDATA[", "</a>"),
        ("<a ", "-", ">x</a>"),
        ("", '[\\"', ""),
        ("", 'a=\\"', ""),
        ("", "\\", "="),
        ("ey", " ", "!"),
        ("ab", "\n", "!!"),
        ("", "eyJaaaaaaaa-", "!"),
        ("a: x", " ", "y"),
        ("a:\n  b: x", " ", "y"),
    ],
)
def test_reading_a_long_string_takes_linear_time(before: str, repeated: str, after: str) -> None:
    # An expression that tries all divisions takes from seconds to hours.
    text = before + repeated * (90_000 // len(repeated)) + after
    assert redact(text) == text


def test_each_secret_element_is_hidden_to_its_end() -> None:
    elements = "".join(f"<t{i}Token a='b'><x>{SECRET}</x></t{i}Token >" for i in range(1_500))
    shown = "".join(f"<t{i}Token a='b'>{HIDDEN}</t{i}Token >" for i in range(1_500))
    assert redact(elements) == shown
    assert redact(f"<Token><Token>a</x>{elements}") == f"<Token>{HIDDEN}"
    assert redact(f"<n:Token><b>{SECRET}</b></n:Token><c>d</c>") == (
        f"<n:Token>{HIDDEN}</n:Token><c>d</c>"
    )


@pytest.mark.slow
def test_strings_beyond_a_calls_search_limit_are_hidden() -> None:
    text = "is_secret=no " * 5_000
    with search_limit():
        shown = without_secrets([text] * 20)
    count = MAX_SEARCHED_LENGTH // len(text)
    assert shown == [text] * count + [HIDDEN] * (20 - count)
    assert without_secrets([text] * 20) == [text] * 20


@pytest.mark.slow
def test_a_decompression_bomb_is_hidden() -> None:
    packed = base64.b64encode(gzip.compress(b"a=b " * 60_000)).decode()
    with search_limit():
        assert json.loads(redact(json.dumps([packed] * 3))) == [packed, packed, HIDDEN]


def test_a_token_is_hidden_after_other_letters() -> None:
    token = f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.x"
    assert redact(f"session-{token} eyJ.a x-eyJshort.b") == f"session-{HIDDEN} eyJ.a x-eyJshort.b"


def test_nesting_has_an_end() -> None:
    text = json.dumps({"password": SECRET})
    for _ in range(8):
        text = json.dumps({"a": text})
    assert SECRET not in redact(text)
    assert without_secrets({"a": [{"password": 5}]}) == {"a": [{"password": HIDDEN}]}


def test_nesting_of_percent_signs_has_an_end() -> None:
    assert redact("a" + "%" + "25" * 3 + "3Db") == "a" + "%" + "25" * 3 + "3Db"
    assert HIDDEN in redact("a%" + "25" * 5_000 + "3Db")


def test_nesting_of_base64_has_an_end() -> None:
    text = '{"a": "a harmless text"}'
    for _ in range(4):
        text = encoded(text)
        assert redact(text) == text
    for _ in range(4):
        text = encoded(text)
    assert redact(text) != text


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def test_awss_own_records_have_no_hidden_value() -> None:
    """AWS shows no secrets, so anything hidden here is hidden by mistake."""
    shown = [text for record in real_records() for text in texts(record)]
    assert len(shown) > 1_000
    assert [text for text in shown if redact(text) != text] == []


@pytest.mark.slow
def test_no_real_record_has_a_hidden_value() -> None:
    shown = [text for _, record in collected_records() for text in texts(record)]
    assert len(shown) > at_least(100_000, 4_000)
    assert [text for text in shown if redact(text) != text] == []


@pytest.mark.parametrize(
    "document",
    [
        {"Environment": "prod"},
        {"Environment": {"Type": "AWS::Batch::X", "Properties": {"A": "b"}}},
        {"environment": [{"id": "a"}, "b"], "environmentId": "e"},
        {"args": ["--user", "a", "--secret-id", "b"], "more": ["--token", "--quiet"]},
    ],
)
def test_lookalike_variables_and_options_are_shown(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert redact(text) == text


def test_an_unmodelled_value_is_renamed_and_redacted() -> None:
    value = {
        "UserName": "Mary",
        "Password": "secret",
        "Nested": [{"SessionToken": {"a": "secret"}, "Kept": 1}],
        "Blob": b"secret",
    }
    assert by_name(value, str.swapcase) == {
        "uSERnAME": "Mary",
        "pASSWORD": HIDDEN,
        "nESTED": [{"sESSIONtOKEN": HIDDEN, "kEPT": 1}],
        "bLOB": HIDDEN,
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Password", "sessionToken", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


def leaves(value: Any, secret: bool = False) -> list[tuple[bool, Any]]:
    if isinstance(value, dict):
        found = [leaves(item, secret or looks_secret(str(name))) for name, item in value.items()]
        return [leaf for leaf_list in found for leaf in leaf_list]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, secret)]
    return [(secret, value)]


@pytest.mark.hypothesis
@settings(deadline=None)
@given(VALUES)
def test_no_bytes_or_secret_members_survive(value: Any) -> None:
    for secret, leaf in leaves(by_name(value, str)):
        assert not isinstance(leaf, bytes)
        assert not secret or leaf == HIDDEN


def test_unsearchable_string_is_hidden_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(text: str) -> str:
        if SECRET in text:
            raise SystemError(text)
        return text

    monkeypatch.setattr(embedded, "without_text_secrets", fail)
    caplog.set_level(logging.ERROR)
    assert redact(f"password={SECRET}") == HIDDEN
    inner = {"a": f"password={SECRET}", "b": "user=shown"}
    assert by_name(inner, str) == {"a": HIDDEN, "b": "user=shown"}
    assert json.loads(redact(json.dumps(inner))) == {"a": HIDDEN, "b": "user=shown"}
    assert "SystemError" in str([vars(record) for record in caplog.records])
    assert SECRET not in str([vars(record) for record in caplog.records])


def test_lone_surrogates_hide_the_string() -> None:
    assert redact("\ud800%22password%22%3Dx") == HIDDEN
