from __future__ import annotations

import pytest

from opentrail.core.user_agents import family_of


@pytest.mark.parametrize(
    ("user_agent", "family"),
    [
        ("aws-cli/2.15.30 md/awscrt#0.19.19 ua/2.0", "aws-cli"),
        ("[aws-cli/1.18.1 Python/3.8]", "aws-cli"),
        ("APN/1.0 HashiCorp/1.0 Terraform/1.7.5", "HashiCorp"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla"),
        ("AWS Internal", "AWS"),
        ("console.amazonaws.com", "console.amazonaws.com"),
        ("a" * 100, "a" * 64),
        ("", None),
        ("/1.0", None),
        ("[]", None),
    ],
)
def test_a_family_is_a_program_without_its_version(user_agent: str, family: str | None) -> None:
    assert family_of(user_agent) == family
