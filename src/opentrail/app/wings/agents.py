"""The wing of agents: records what they ask through `opentrail mcp`."""

from __future__ import annotations

from collections.abc import Sequence

from opentrail.api.services import Services
from opentrail.api.v1.questions import AgentQuestions
from opentrail.app.wing import Core, Missing, Wing


def start(core: Core) -> Wing:
    """Appends questions to the journal before they are answered."""
    engines = core.engines

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (AgentQuestions(engines.journal, engines.clock, core.account),)

    return Wing(groups=groups)
