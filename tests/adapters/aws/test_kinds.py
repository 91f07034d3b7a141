"""Kinds of upstream, by recorded answers or by answers in their sources."""

from __future__ import annotations

import json

import pytest

from opentrail.adapters.aws.probe import AWS, KINDS, ProbeAnswer, is_aws, recognize


def json_answer(**members: object) -> ProbeAnswer:
    """Returns an answer with JSON."""
    return ProbeAnswer({"content-type": "application/json"}, json.dumps(members).encode(), 200)


_BUCKETS = b'<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
_DENIED = "<Error><Code>AccessDenied</Code>{}<Resource>/</Resource></Error>"
_GARAGE = _DENIED.format(
    "<Message>Forbidden: Garage does not support anonymous access yet</Message>"
).encode()
_MINISTACK = json_answer(
    services={"iam": "available", "s3": "available"},
    auth="disabled",
    edition="light",
    version="1.5.33",
)
_FLOCI = json_answer(
    services={"iam": "running"},
    edition="community",
    original_edition="floci-always-free",
    version="1.2.0",
)
_LOCALSTACK = json_answer(services={"s3": "available"}, edition="pro", version="4.10.0")
#: Kind → its answers, by path; every other path is not found.
RECORDED = {
    "AWS": {"/": ProbeAnswer({"server": "AmazonS3"}, b"", 307)},
    "SeaweedFS": {"/": ProbeAnswer({"server": "SeaweedFS 30GB 4.48"}, b"", 403)},
    "Ceph": {"/": ProbeAnswer({"x-amz-request-id": "tx000001-00659-1-default"}, _BUCKETS, 200)},
    "MinIO": {"/": ProbeAnswer({"server": "MinIO"}, _DENIED.format("").encode(), 403)},
    "Garage": {"/": ProbeAnswer({}, _GARAGE, 403)},
    "moto": {
        "/": ProbeAnswer({}, _BUCKETS, 200),
        "/moto-api/config": json_answer(batch={"use_docker": True}),
        "/moto-api/data.json": ProbeAnswer({}, b"Internal Server Error", 500),
    },
    "MiniStack": {
        "/": ProbeAnswer({}, _BUCKETS, 200),
        "/health": _MINISTACK,
        "/_localstack/health": _MINISTACK,
        "/_ministack/health": _MINISTACK,
    },
    "Floci": {"/_floci/health": _FLOCI, "/_localstack/health": _FLOCI},
    "fakecloud": {
        "/_fakecloud/health": json_answer(status="ok", version="0.31.0", services=["iam", "s3"])
    },
    "cloudemu": {"/_cloudemu/health": json_answer(status="ok")},
    "LocalEmu": {
        "/_localemu/health": json_answer(services={"s3": "running"}, version="1.0"),
        "/_localstack/health": json_answer(services={"s3": "running"}, version="1.0"),
    },
    "LocalStack": {"/": ProbeAnswer({}, b"", 200), "/_localstack/health": _LOCALSTACK},
}


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_a_kind_is_recognized_by_its_answers(name: str) -> None:
    answers = RECORDED[name]
    kind = recognize(lambda path: answers.get(path, ProbeAnswer(status=404)))
    assert kind is not None
    assert kind.name == name


def test_ceph_is_also_recognized_by_its_name() -> None:
    server = ProbeAnswer({"server": "Ceph Object Gateway (squid)"}, b"", 200)
    kind = recognize(lambda path: server if path == "/" else ProbeAnswer(status=404))
    assert kind is not None
    assert kind.name == "Ceph"


@pytest.mark.parametrize("body", [b"[]", b"text", b"{}", b"\xff"])
def test_unknown_answers_match_no_kind(body: bytes) -> None:
    assert recognize(lambda _path: ProbeAnswer({"server": "nginx"}, body, 200)) is None


def test_each_path_is_probed_once() -> None:
    asked: list[str] = []

    def get(path: str) -> ProbeAnswer:
        asked.append(path)
        return ProbeAnswer(status=404)

    assert recognize(get) is None
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("https://{service}.{region}.amazonaws.com", True),
        ("https://ec2.cn-north-1.amazonaws.com.cn", True),
        ("https://lambda.us-east-1.api.aws", True),
        ("https://amazonaws.com.example.org", False),
        ("http://127.0.0.1:5000", False),
    ],
)
def test_aws_is_known_by_its_name(url: str, expected: bool) -> None:
    assert is_aws(url) is expected


def test_kinds_that_check_signatures_name_no_key() -> None:
    asked = {kind.name for kind in KINDS if kind.names_any_key}
    assert not asked & {"AWS", "SeaweedFS", "Ceph", "MinIO", "Garage"}
    assert all("no signatures" in kind.signatures for kind in KINDS if kind.name in asked)
    assert "resign" in AWS.signatures
