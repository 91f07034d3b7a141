"""What the figures must be."""

from __future__ import annotations

import operator

_MEANING = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}

_PROTOCOLS = ("json", "query", "ec2", "rest-json", "rest-xml", "smithy-rpc-v2-cbor")
#: A ratio of two trees: a call on one server of a cluster until another server finds it.
ON_ANOTHER_SERVER = "visible on another server, p50"
#: By the label of the figure.
REQUIRED = {
    ON_ANOTHER_SERVER: "<= 1.3",
    "added by allow p50 ms": "< 0.5",
    "added by refuse p50 ms": "< 1.5",
    "refuse calls/s": ">= 5000",
    "allow calls/s": ">= 5000",
    "functions of a warm call": "<= 250",
    "modules of a warm call": "<= 28",
    # The budget of a call by stage: what a change adds must be saved in the same stage.
    "bytecodes of a warm call": "<= 7150",
    "bytecodes of a warm call, capture/proxy": "<= 3500",
    "bytecodes of a warm call, capture/record": "<= 1530",
    "bytecodes of a warm call, wire": "<= 1250",
    "bytecodes of a warm call, adapters": "<= 240",
    "bytecodes of a warm call, others": "<= 650",
    "refuse / mitmproxy, ratio": ">= 5",
    "allow / mitmproxy, ratio": ">= 5",
    "refuse at half load p99 ms": "< 10",
    "allow at half load p99 ms": "< 10",
    "Insights on / off, calls/s ratio": ">= 0.9",
    "Insights on / off, visible p99 ms ratio": "<= 1.1",
    "500 rules at 2,000 events/s: cores": "< 0.5",
    "with rules / without, visible p99 ratio": "<= 1.1",
    "opentrail up MB/s": ">= 300",
    "opentrail down MB/s": ">= 300",
    "opentrail up memory growth MB": "< 20",
    "opentrail down memory growth MB": "< 20",
    "page of 50, worst p99 ms": "< 120",
    "500/s arriving, page of 50, worst p99 ms": "< 120",
    "sealings meanwhile": ">= 5",
    "import records/s": ">= 15000",
    "bytes a record": "<= 220",
    **{f"{kind}, worst p95 ms": "<= 500" for kind in ("count", "histogram", "facets", "values")},
    "page turns, worst p95 ms": "<= 150",
    "validate-logs / opentrail validate, ratio": ">= 3",
    "memory at most MB": "< 1500",
    "10,000/s for 60 s: records/s durable": ">= 9900",
    "10,000/s for 60 s: durable to visible p99 ms": "< 1000",
    "5,000/s for 600 s: records/s durable": ">= 4990",
    "5,000/s for 600 s: durable to visible p99 ms": "< 1000",
    "5 trails, backlog: records/s": ">= 10000",
    "5,000/s to 5 trails: in S3 after the interval p99 s": "< 5",
    "10,000/s to 5 trails: in S3 after the interval p99 s": "< 5",
    "decision, 50 statements, p50 us": "< 30",
    "verify p50 us": "< 60",
    "GetTrailStatus calls/s, verified": ">= 1500",
    "enforced / permissive, calls/s ratio": ">= 0.85",
    "left out / recorded, calls/s ratio": ">= 1.8",
    "left out / recorded, added p50 ratio": "<= 0.5",
    "unknown key / wrong secret, ratio": "<= 1.05",
    **{f"{protocol} decode p50 us": "<= 30" for protocol in _PROTOCOLS},
    **{f"{protocol} decode + assemble p50 us": "<= 80" for protocol in _PROTOCOLS},
}


def is_met(label: str, value: float) -> bool:
    """Returns whether a figure is what is required of it."""
    sign, _, limit = REQUIRED[label].partition(" ")
    return bool(_MEANING[sign](value, float(limit)))
