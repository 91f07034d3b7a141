"""The wing of permissions: makes policies of what principals did, and tests policies on it."""

from __future__ import annotations

from collections.abc import Sequence

from opentrail.api.services import Services
from opentrail.api.v1.least_privilege import LeastPrivilege
from opentrail.app.wing import Core, Missing, Wing


def start(_core: Core) -> Wing:
    """Answers from event history alone."""

    def groups(services: Services, missing: Missing) -> Sequence[object]:
        return (LeastPrivilege(services, missing),)

    return Wing(groups=groups)
