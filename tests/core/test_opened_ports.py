"""Calls that open a port; tests/test_recipes.py has the recipe that uses it."""

from __future__ import annotations

from typing import Any

from opentrail.core.expression.tree import opens


def test_rules_of_all_forms_are_read() -> None:
    cases: list[tuple[object, bool]] = [
        ({"ipProtocol": "tcp", "fromPort": 22, "toPort": 22}, True),
        ({"ipProtocol": "tcp", "fromPort": "0", "toPort": "1024"}, True),
        ({"ipProtocol": "tcp", "fromPort": 23, "toPort": 1024}, False),
        ({"ipProtocol": "-1"}, True),
        ({"ipProtocol": -1}, True),
        ({"ipProtocol": "icmp", "fromPort": 8, "toPort": -1}, False),
        ({"ipProtocol": "icmp", "fromPort": 22, "toPort": 22}, False),
        ({"ipProtocol": "tcp", "fromPort": None, "toPort": []}, False),
        ({"ipPermissions": {"items": [{"ipProtocol": "tcp", "fromPort": 22, "toPort": 22}]}}, True),
        (
            {
                "ipPermissions": {
                    "items": [
                        {"ipProtocol": "tcp", "fromPort": 0, "toPort": 10},
                        {"ipProtocol": "tcp", "fromPort": 80, "toPort": 90},
                    ]
                }
            },
            False,
        ),
        ({"portInfo": {"fromPort": 22, "toPort": 22, "protocol": "TCP"}}, True),
        ({"portInfos": [{"fromPort": 1, "toPort": 9, "protocol": "all"}]}, True),
        ("text", False),
        (None, False),
    ]
    wrong = [
        parameters
        for parameters, expected in cases
        if opens(_call("AuthorizeSecurityGroupIngress", parameters), 22) is not expected
    ]
    assert not wrong
    assert not opens(_call("RevokeSecurityGroupIngress", {"ipProtocol": "-1"}), 22)


def _call(name: str, parameters: object) -> dict[str, Any]:
    return {"eventName": name, "requestParameters": parameters}
