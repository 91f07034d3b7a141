"""Run by another Python: findings of parliament and policy-sentry about policies, as JSON."""

from __future__ import annotations

import importlib
import json
import sys
import warnings

warnings.simplefilter("ignore")


def main() -> None:
    """Reads a list of policies; writes parliament's findings, and unknown actions."""
    parliament = importlib.import_module("parliament")
    queries = importlib.import_module("policy_sentry.querying.all")
    known = {action.lower() for action in queries.get_all_actions()}
    findings: list[list[str]] = []
    unknown: set[str] = set()
    for policy in json.load(sys.stdin):
        for finding in parliament.analyze_policy_string(json.dumps(policy)).findings:
            findings.append([finding.issue, str(finding.detail), str(finding.location)])
        for statement in policy["Statement"]:
            unknown |= {each for each in statement["Action"] if each.lower() not in known}
    json.dump({"findings": findings, "unknown": sorted(unknown)}, sys.stdout)


if __name__ == "__main__":
    main()
