"""Principals in statements."""

from __future__ import annotations

import pytest

from opentrail.core.policies.request import Caller, Grade, read_principals


@pytest.mark.parametrize(
    "text", ["111122223333", "arn:aws:iam::111122223333:root", "arn:aws-cn:iam::111122223333:root"]
)
def test_an_account_is_its_number_or_its_root(text: str) -> None:
    found = read_principals({"AWS": [text]})
    assert found.grade(Caller("111122223333", "arn")) is Grade.ACCOUNT
    assert found.grade(Caller("444455556666", "arn")) is Grade.NONE


def test_a_federated_caller_is_named_by_its_provider() -> None:
    found = read_principals({"Federated": ["cognito-identity.amazonaws.com"]})
    caller = Caller(federated="cognito-identity.amazonaws.com")
    assert found.grade(caller) is Grade.CALLER
    assert found.grade(Caller()) is Grade.NONE


@pytest.mark.parametrize("text", ["", "ann", "11112222333", "arn:aws:s3:::bucket", "a*"])
def test_other_values_are_no_principal(text: str) -> None:
    with pytest.raises(ValueError, match="AWS"):
        read_principals({"AWS": [text]})
