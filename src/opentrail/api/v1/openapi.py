"""The OpenAPI 3.1 description of the JSON API, from its routes and their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, get_type_hints

import msgspec
from starlette.responses import Response

from opentrail.api.console.oidc import OidcSignIn
from opentrail.api.console.sign_in import SignIn
from opentrail.api.console.web import WebSession
from opentrail.api.v1.administration import AccessAdministration, ImportedFiles, ReceivedRecords
from opentrail.api.v1.counts import EventCounts
from opentrail.api.v1.detections import Detections
from opentrail.api.v1.events import EventExport, Events
from opentrail.api.v1.incidents import Incidents
from opentrail.api.v1.proofs import Proofs
from opentrail.api.v1.questions import AgentQuestions
from opentrail.api.v1.routes import PREFIX, Rule, rules_in
from opentrail.api.v1.server import QuestionRoutes
from opentrail.api.v1.state import State
from opentrail.api.v1.stores import EventDataStores
from opentrail.api.v1.stories import Stories
from opentrail.api.v1.streams import Streams
from opentrail.api.v1.tail import Marks, Tail
from opentrail.api.v1.trail_administration import TrailAdministration
from opentrail.api.v1.trails import Trails
from opentrail.api.v1.users import UserAdministration, UserTokenAdministration
from opentrail.api.v1.views import Views
from opentrail.core.event import Json
from opentrail.core.version import __version__
from opentrail.questions.question import required

#: In the order in which the reference describes them.
GROUPS: tuple[type, ...] = (
    Events,
    EventExport,
    EventCounts,
    Streams,
    Tail,
    Marks,
    Stories,
    QuestionRoutes,
    Incidents,
    Detections,
    Trails,
    TrailAdministration,
    EventDataStores,
    Proofs,
    State,
    AccessAdministration,
    ReceivedRecords,
    ImportedFiles,
    AgentQuestions,
    WebSession,
    SignIn,
    OidcSignIn,
    UserAdministration,
    UserTokenAdministration,
    Views,
)


_REFERENCE = "#/components/schemas/{name}"
_PART = re.compile(r"\{(\w+)(?::path)?\}")
_ERROR = {
    "type": "object",
    "description": "Why a request failed.",
    "properties": {
        "error": {"type": "string", "description": "what is wrong, in words"},
        "code": {"type": "string"},
        "requestId": {"type": "string", "description": "names the request in the server's log"},
    },
    "required": ["error"],
}


def describe(groups: Sequence[type]) -> Json:
    """Returns the description of all routes of groups."""
    routes = [route for group in groups for route in rules_in(group)]
    shapes = {
        rule: get_type_hints(handler, include_extras=True)["return"] for rule, handler in routes
    }
    typed = [rule for rule, shape in shapes.items() if not _is_response(shape)]
    schemas, components = msgspec.json.schema_components(
        [shapes[rule] for rule in typed], ref_template=_REFERENCE
    )
    answers = dict(zip(typed, schemas, strict=True))
    paths: dict[str, Json] = {}
    for rule, handler in routes:
        path = PREFIX + _PART.sub(r"{\1}", rule.path)
        paths.setdefault(path, {})[rule.method.lower()] = _operation(
            rule, handler, answers.get(rule)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "opentrail",
            "version": __version__,
            "description": "The JSON API on the console's port.",
        },
        "paths": paths,
        "components": {
            "schemas": {**dict(sorted(components.items())), "Error": _ERROR},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "of server.json"},
                "session": {"type": "apiKey", "in": "cookie", "name": "ot-session"},
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


def _operation(rule: Rule, handler: Callable[..., Any], answer: Json | None) -> Json:
    parts = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PART.findall(rule.path)
    ]
    needed = required(rule.question) if rule.question else ()
    query = [
        {
            "name": name,
            "in": "query",
            "description": schema.pop("description", ""),
            **({"required": True} if name in needed else {}),
            "schema": schema,
        }
        for name, schema in rule.parameter_schemas().items()
    ]
    content = {} if answer is None else {"content": {"application/json": {"schema": answer}}}
    error = {"$ref": _REFERENCE.format(name="Error")}
    operation: Json = {
        "operationId": f"{handler.__qualname__}",
        "summary": rule.purpose,
        "description": (handler.__doc__ or "").partition("\n")[0],
        "x-least-role": None if rule.least is None else str(rule.least),
        "responses": {
            "200": {"description": "the answer", **content},
            "default": {
                "description": "the request failed",
                "content": {"application/json": {"schema": error}},
            },
        },
    }
    if parts or query:
        operation["parameters"] = parts + query
    if rule.body is not None:
        example = msgspec.json.decode(rule.body)
        media = {"schema": {"type": "object"}, "example": example}
        operation["requestBody"] = {"content": {"application/json": media}}
    if rule.least is None:
        operation["security"] = []
    if rule.token_only:
        operation["security"] = [{"token": []}]
    return operation


def _is_response(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, Response)
