"""Decoding and assembling in this process, by protocol, over calls that botocore makes."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.ec2_form import ec2_parameters
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.s3_form import s3_parameters
from opentrail.core.identity import unknown
from opentrail.wire.message import Request, Response, fold_headers
from opentrail.wire.requests import decode_request
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from opentrail.wire.sigv4 import read_credential
from tests.conformance.answers import Answer, answer_of
from tests.conformance.expect import EXCEPTED
from tests.conformance.generate import Case, cases, sampled
from tests.conformance.send import Sender

Figures = dict[str, float]
#: Services by protocol, well-known ones where there is a choice; so many operations of each.
SERVICES = {
    "json": ("dynamodb", "kms", "ssm", "secretsmanager", "logs", "ecs", "sqs", "cloudtrail"),
    "query": ("iam", "sts", "sns", "cloudformation", "rds", "elbv2", "autoscaling", "redshift"),
    "ec2": ("ec2",),
    "rest-json": ("lambda", "eks", "apigateway", "batch", "efs", "glacier", "iot", "guardduty"),
    "rest-xml": ("s3", "cloudfront", "route53", "s3control"),
    "smithy-rpc-v2-cbor": ("cloudwatch", "codebuild", "codedeploy", "datasync", "ds", "shield"),
}
OPERATIONS, ROUNDS = 80, 60
_KEY, _SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_EMPTY = Answer(200, {"Content-Type": "application/xml"}, b"", None)


@dataclass(frozen=True, slots=True)
class Sample:
    """A call as capture sees it, with the function that decodes its request."""

    exchange: Exchange
    decode: Callable[[Any, Request], Any]


def decoding() -> Figures:
    """Times naming, decoding and the whole assembly; each operation was seen once before."""
    catalog = ServiceCatalog()
    router = Router(catalog, {"localhost"})
    assembler = Assembler(lambda key_id: unknown("123456789012", key_id))
    sender = Sender("http://127.0.0.1:4747", _KEY, _SECRET)
    figures: Figures = {}
    for protocol in SERVICES:
        samples = [_sample(case, sender, router) for case in _cases(protocol)]
        figures[f"{protocol} calls"] = len(samples)
        for label, work in (
            ("naming", _naming(router)),
            (
                "decode",
                lambda sample: sample.decode(sample.exchange.route, sample.exchange.request),
            ),
            ("decode + assemble", lambda sample: assembler.assemble(sample.exchange)),
        ):
            figures[f"{protocol} {label} p50 us"] = _median_microseconds(samples, work)
    return figures


def _naming(router: Router) -> Callable[[Sample], Any]:
    def name(sample: Sample) -> Any:
        request = sample.exchange.request
        return router.identify(request, read_credential(request))

    return name


def _cases(protocol: str) -> Iterator[Case]:
    services = SERVICES[protocol]
    for service in services:
        for case in cases(service, sampled(service, OPERATIONS // len(services))):
            if case.protocol == protocol and (service, case.operation) not in EXCEPTED:
                yield case


def _sample(case: Case, sender: Sender, router: Router) -> Sample:
    """Returns a call with its answer; it must be named right, or it would not be decoded."""
    request = _request(sender.bytes_of(case))
    credential = read_credential(request)
    route = router.identify(request, credential)
    if route.operation != case.operation:
        raise RuntimeError(f"{case} was taken for {route.operation}")
    answer = _EMPTY if case.service == "s3" else answer_of(case)
    headers = {name.lower(): text for name, text in answer.headers.items()}
    now = datetime.now(UTC)
    exchange = Exchange(
        event_id="7a62c49f-347e-4fc4-9331-6e8e6e8e6e8e",
        started_at=now,
        completed_at=now,
        source_ip="127.0.0.1",
        request=request,
        credential=credential,
        route=route,
        response=Response(answer.status, headers, answer.body),
    )
    # S3 and EC2 are recorded in forms of their own, which have decoders of their own.
    forms = {"s3": s3_parameters, "ec2": ec2_parameters}
    form = forms.get(case.service)
    return Sample(exchange, decode_request if form is None else partial(form, notes={}))


def _request(raw: bytes) -> Request:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ")
    path, _, query = target.partition("?")
    pairs = [line.partition(b": ")[::2] for line in lines]
    return Request(method, path, query, fold_headers(pairs), body)


def _median_microseconds(samples: list[Sample], work: Callable[[Sample], Any]) -> float:
    """Returns the median over all calls, each timed in some rounds after a first one."""
    for sample in samples:
        work(sample)
    gc.collect()
    taken: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(ROUNDS):
        for sample in samples:
            started = clock()
            work(sample)
            taken.append(clock() - started)
    return statistics.median(taken) / 1000


BENCHMARKS = {"Recorder: decode and assemble": decoding}
