"""Generated policies for the principals of real records, compared with other programs'."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opentrail.permissions.generate import PREFIX, generate, kinds_of
from opentrail.permissions.outcomes import CallOutcome, outcome_of
from tests.collection import needs_the_whole
from tests.conformance.installed import installed
from tests.permissions.by_principal import Record, records_by_principal

pytestmark = [pytest.mark.conformance, needs_the_whole]

JUDGE = Path(__file__).parent / "judge_policies.py"
Document = dict[str, Any]
TIMED = {"eventTime": "2024-01-01T00:00:00Z"}

#: An event that does not exist, and two actions that are missing in both programs.
UNKNOWN_ACTIONS = {
    "application-insights:ListApplications",
    "es:ListNotifications",
    "iam:NotCreateUser",
}
#: parliament's findings on policies that IAM accepts: opinions, not errors of form.
OPINIONS = {"RESOURCE_STAR", "RESOURCE_POLICY_PRIVILEGE_ESCALATION"}
#: Anonymized accounts and Regions: `0123456789`, `me-south-1r`; and `aws`, whose managed
#: policies parliament attributes to an account.
INVENTED = {
    "Account expected to be of form like 123456789012",
    "Region expected to be of form like us-east-1",
}
#: An example with a blank in its name; ReEncryptFrom and ReEncryptTo as one pattern; a call for
#: which IAM requires PutAccountPublicAccessBlock; and DeleteObjects, each of whose deletions has
#: its own record, or else is listed as unmapped.
NOT_OURS = {
    "ec2-instance-connect:sendsshpublickey ",
    "kms:reencrypt*",
    "s3:deleteaccountpublicaccessblock",
    "s3:deleteobject",
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    return installed(folder, "parliament", "policy_sentry", "trailscraper", "setuptools<81")


@pytest.fixture(scope="module")
def principals() -> list[tuple[list[Record], list[Document]]]:
    """The records of each principal, and the generated policies."""
    return [
        (records, generate(kinds_of(records), PREFIX).documents)
        for records in records_by_principal().values()
    ]


def run(command: Path, *arguments: str, given: Any) -> Any:
    done = subprocess.run(
        [str(command), *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_they_are_well_formed_with_existing_actions(
    commands: Path, principals: list[tuple[list[Record], list[Document]]]
) -> None:
    policies = [document for _, documents in principals for document in documents]
    assert len(policies) >= 99
    judged = run(commands / "python", str(JUDGE), given=policies)
    assert set(judged["unknown"]) == UNKNOWN_ACTIONS
    wrong = [
        (issue, detail, location)
        for issue, detail, location in judged["findings"]
        if issue not in OPINIONS
        and detail not in INVENTED
        and not any(name.partition(":")[2] in detail for name in UNKNOWN_ACTIONS)
        and "application-insights" not in detail
    ]
    # DeleteDBCluster without a last snapshot names none.
    assert all("rds:DeleteDBCluster" in detail for _, detail, _ in wrong), wrong
    assert len(wrong) <= 1


def test_they_are_more_complete_and_narrower_than_trailscrapers(
    commands: Path,
    principals: list[tuple[list[Record], list[Document]]],
    record_property: Callable[[str, object], None],
) -> None:
    missed_by_us: Counter[str] = Counter()
    missed_by_it: Counter[str] = Counter()
    ours, its = Widths(), Widths()
    for records, documents in principals:
        # trailscraper reads only one form of time, and some publishers have another.
        allowed = [r | TIMED for r in records if outcome_of(r) is CallOutcome.ALLOWED]
        if not allowed:
            continue
        other = run(commands / "trailscraper", "generate", given={"Records": allowed})
        our_actions = set().union(*(ours.add(document) for document in documents))
        its_actions = its.add(other)
        missed_by_us.update(its_actions - our_actions)
        missed_by_it.update(our_actions - its_actions)
    figures = (
        f"missed by us {missed_by_us.total()}, by trailscraper {missed_by_it.total()}; "
        f"on any resource {ours.any} of {ours.all} and {its.any} of {its.all}"
    )
    record_property("figures", figures)
    assert set(missed_by_us) <= NOT_OURS
    assert "iam:passrole" in missed_by_it
    assert ours.any / ours.all < 0.8 * its.any / its.all


class Widths:
    """Counts of actions, and of actions allowed on any resource."""

    def __init__(self) -> None:
        self.all = self.any = 0

    def add(self, policy: Document) -> set[str]:
        """Returns the actions of a policy, in lower case, as IAM compares them."""
        actions = set()
        for statement in policy["Statement"]:
            self.all += len(statement["Action"])
            if statement["Resource"] in ("*", ["*"]):
                self.any += len(statement["Action"])
            actions |= {action.lower() for action in statement["Action"]}
        return actions
