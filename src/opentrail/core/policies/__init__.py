"""IAM policies: documents, compiled once, and decisions on requests.

`parse_policy` reads and checks a document, `decide` evaluates identity-based and resource-based
policies. Permissions boundaries, session policies and control policies are not evaluated.
"""

from opentrail.core.policies.document import (
    Decision,
    Outcome,
    Policy,
    PolicyKind,
    decide,
    documents_in,
    parse_policies,
    parse_policy,
)
from opentrail.core.policies.request import AccessRequest, Caller

__all__ = [
    "AccessRequest",
    "Caller",
    "Decision",
    "Outcome",
    "Policy",
    "PolicyKind",
    "decide",
    "documents_in",
    "parse_policies",
    "parse_policy",
]
