"""The questions of `opentrail.questions` as routes of the JSON API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request

from opentrail.access.users import ConsoleRole
from opentrail.api.services import Services
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.conditions import max_events
from opentrail.api.v1.progress import is_followed, report
from opentrail.api.v1.routes import route
from opentrail.core.event import Json
from opentrail.questions.question import Asked, Question, answer_type, load_all, path_of, read


class QuestionRoutes:
    """The calls that ask one question each.

    Args:
        services: what operations use.
        missing: returns a description of each range that event history lacks.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing
        #: Held by an answer that holds thousands of events.
        self._turns = {question: asyncio.Lock() for _, question in load_all()}

    def asked(self, request: Request) -> Asked:
        """Returns what answers a request."""
        history = seen_by(request, self._services).history
        follow = partial(report, request) if is_followed(request) else None
        return Asked(
            history,
            self._services.control,
            self._services.clock.now(),
            max_events(request),
            self._missing(),
            follow,
        )


def _handler(question: type[Question]) -> Callable[[QuestionRoutes, Request], Awaitable[Any]]:
    async def ask(self: QuestionRoutes, request: Request, body: Json | None = None) -> Any:
        given = request.query_params if body is None else body
        arguments = read(question, {**given, **request.path_params})
        async with self._turns[question] if question.is_large else nullcontext():
            return msgspec.to_builtins(await arguments.answer(self.asked(request)))

    ask.__qualname__ = f"QuestionRoutes.{question.__name__}"
    ask.__doc__ = question.__doc__
    ask.__annotations__ = {"return": answer_type(question)}
    return ask


for _name, _question in load_all():
    _declare = route(
        "POST" if _question.body else "GET",
        path_of(_name),
        ConsoleRole.parse(_question.role),
        _question.purpose,
        query=() if _question.body else _question.__struct_fields__,
        body=_question.body,
        is_followed=_question.is_followed,
        question=_question,
    )
    setattr(QuestionRoutes, _name.replace("-", "_"), _declare(_handler(_question)))
