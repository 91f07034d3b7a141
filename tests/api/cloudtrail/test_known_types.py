"""The resource types in AWS's guide."""

from __future__ import annotations

import re

from opentrail.api.cloudtrail.selectors import KNOWN_TYPES
from opentrail.core.selectors.basic import RESOURCE_TYPES


def test_every_known_type_has_a_valid_form() -> None:
    assert all(re.fullmatch(r"AWS::[A-Za-z0-9]+::[A-Za-z0-9]+", name) for name in KNOWN_TYPES)


def test_the_types_of_the_guide_are_known() -> None:
    assert len(KNOWN_TYPES) == 250
    assert set(RESOURCE_TYPES) <= KNOWN_TYPES
    assert {"AWS::SQS::Queue", "AWS::SNS::PlatformEndpoint", "AWS::XRay::Trace"} <= KNOWN_TYPES
    assert "AWS::S3::Bucket" not in KNOWN_TYPES
