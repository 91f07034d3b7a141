"""Lists unreviewed members of AWS's models that suggest a secret; exits with 1 if there are any.

With `--all` it lists every such member, with the rule that hides it or why it is shown.
"""

from __future__ import annotations

import sys

from opentrail.capture.redaction.secret_members import candidates, reviews, unreviewed


def main() -> int:
    """Lists the members, one per line."""
    if "--all" in sys.argv:
        for one in candidates():
            why = next((review.why for review in reviews() if review.covers(one)), "NOT REVIEWED")
            verdict = f"hidden by {one.hidden_by}" if one.hidden_by else f"shown: {why}"
            print(f"{one.service}\t{one.member}\t{verdict}")
        return 0
    found = unreviewed()
    for one in found:
        print(f"{one.service}\t{one.member}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
