"""Requests without a caller are anonymous."""

from __future__ import annotations

from opentrail.core.policies.request import AccessRequest, Caller


def test_a_caller_without_names_is_anonymous() -> None:
    caller = AccessRequest(Caller(), "s3:GetObject", "*", "111122223333").caller
    assert (caller.account, caller.arn, caller.is_root) == (None, None, False)
