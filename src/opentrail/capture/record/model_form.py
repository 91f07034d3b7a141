"""The form of most services: CloudTrail's names and times (cloudtrail-format §4.1).

Each shape of a model has a renderer, made on first use. A renderer returns `ABSENT` for an
unrecorded member.

Requests of DynamoDB have other members than their models (developer guide, "Understanding DynamoDB
log file entries").
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final

from botocore.model import Shape

from opentrail.capture.record.template_parameters import (
    has_template_parameters,
    without_template_parameters,
)
from opentrail.capture.record_rules import is_sensitive, lower_first, rules, source_of
from opentrail.capture.redaction import (
    PLACEHOLDERS,
    actions,
    without_literals,
    without_named_fields,
)
from opentrail.core.event import Json
from opentrail.core.secrets.embedded import by_name, redact, without_variables
from opentrail.core.secrets.free_text import without_argument_secrets
from opentrail.core.secrets.secret_names import (
    HIDDEN,
    hidden_members,
    names_environment,
    names_secret,
    naming_members,
    sounds_secret,
)
from opentrail.wire.message import Request, Response
from opentrail.wire.requests import decode_request
from opentrail.wire.responses import decode_answer
from opentrail.wire.routing import Route
from opentrail.wire.service_models import OPERATIONS, Service
from opentrail.wire.values import ByShape, WireTime


def as_recorded(operation: str, parameters: Json) -> Json:
    """Returns the rendered parameters of a call in the form of its records."""
    if operation == "TransactWriteItems" and isinstance(parameters.get("transactItems"), list):
        return _renamed(
            parameters, "transactItems", [_operation(item) for item in parameters["transactItems"]]
        )
    if operation == "BatchExecuteStatement" and isinstance(parameters.get("statements"), list):
        return _renamed(parameters, "statements", parameters["statements"])
    return parameters


def _renamed(parameters: Json, name: str, items: Any) -> Json:
    return {
        ("requestItems" if each == name else each): (items if each == name else value)
        for each, value in parameters.items()
    }


def _operation(item: Any) -> Any:
    """Returns `{"operation": "Put", "tableName": …}` of `{"put": {"tableName": …}}`."""
    if not isinstance(item, dict) or len(item) != 1:
        return item
    ((name, members),) = item.items()
    if not isinstance(members, dict):
        return item
    return {"operation": f"{name[:1].upper()}{name[1:]}", **members}


ABSENT: Final = object()
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
Renderer = Callable[[Any], Any]


def model_parameters(route: Route, request: Request, notes: Json) -> Json | None:
    """Returns `requestParameters`; notes a form with a repeated field.

    Raises:
        ValueError: the request does not match its protocol.
    """
    parameters, remarks = decode_request(route, request)
    rendered = _rendered_request(route, parameters)
    notes.update(dict.fromkeys(remarks, True))
    return rendered if isinstance(rendered, dict) else None


def _rendered_request(route: Route, parameters: Json) -> Any:
    render = _request_renderer(route.service, route.operation)
    if render is None:
        return by_name(without_named_fields(parameters), lower_first)
    return render(parameters)


@lru_cache(maxsize=OPERATIONS)
def _request_renderer(service: Service | None, operation: str | None) -> Renderer | None:
    """Returns the renderer of an operation's requests, None for an unknown operation."""
    model = Route(service, operation, None).model
    if service is None or model is None or model.input_shape is None:
        return None
    if is_sensitive(model.input_shape):
        return lambda _parameters: None
    render, source = renderers(service).of(model.input_shape), source_of(service)
    if source == "dynamodb":
        return lambda parameters: as_recorded(str(operation), render(parameters))
    if defaults := rules("names")["default_parameter"].get(service.name, {}).get(operation):
        return lambda parameters: {**defaults, **render(parameters)}
    if not has_template_parameters(source):
        return render
    return lambda parameters: render(without_template_parameters(source, parameters))


def decode_parameters(route: Route, request: Request) -> Json | None:
    """Returns the original parameters, secrets included; None for an unknown operation.

    Raises:
        ValueError: the request does not match its protocol.
    """
    return decode_request(route, request)[0] if route.operation is not None else None


def model_answer(route: Route, response: Response) -> Json | None:
    """Returns `responseElements`.

    Raises:
        ValueError: the answer does not match its protocol.
    """
    decoded = decode_answer(route, response)
    render = _answer_renderer(route.service, route.operation)
    return render(decoded) if render is not None else None


@lru_cache(maxsize=OPERATIONS)
def _answer_renderer(service: Service | None, operation: str | None) -> Renderer | None:
    """Returns the renderer of an operation's answers, None if unrecorded."""
    model = Route(service, operation, None).model
    if service is None or model is None or model.output_shape is None:
        return None
    render, name = renderers(service).of(model.output_shape), service.name

    def recorded(decoded: Json) -> Json | None:
        rendered = render(decoded)
        return _recorded_answer(name, rendered) if isinstance(rendered, dict) else None

    return recorded


def _recorded_answer(service: str, answer: Json) -> Json:
    """Returns an answer with recorded names, without its wrapper if AWS omits it."""
    renamed, is_unwrapped = _answer_names(service)
    if renamed:
        answer = {renamed.get(name, name): item for name, item in answer.items()}
    if is_unwrapped and len(answer) == 1:
        only = next(iter(answer.values()))
        return only if isinstance(only, dict) else answer
    return answer


@cache
def _answer_names(service: str) -> tuple[Mapping[str, str], bool]:
    """Returns the renamed members of a service's answers, and whether they have a wrapper."""
    names = rules("names")
    members = names["answer_member"].get(service, {}).items()
    renamed = {lower_first(modelled): recorded for modelled, recorded in members}
    return renamed, service in names["answer_unwrapped"]["services"]


@lru_cache(maxsize=512)
def renderers(service: Service) -> Renderers:
    """Returns the renderers of a service, shared by all records."""
    return Renderers(service)


class Renderers(ByShape):
    """Renderers of one service's shapes."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        names = rules("names")
        self._actions = actions(source_of(service))
        self._kept_names = set(names["member_name"].get(service.name, ()))
        self._as_modelled = service.name in names["casing"]["as_modelled"]
        self._comma = service.name not in names["times"]["without_second_comma"]
        self._as_on_the_wire = service.name in names["times"]["as_on_the_wire"]
        self._epoch = service.name in names["times"]["epoch_milliseconds"]
        self._dynamodb = service.name in ("dynamodb", "dynamodbstreams")

    def member_name(self, name: str) -> str:
        """Returns a member's name as recorded."""
        text = str(name)
        if self._as_modelled or text in self._kept_names:
            return text
        return lower_first(text)

    def of(self, shape: Shape) -> Renderer:
        """Returns the renderer of values of a shape; it returns ABSENT for unrecorded ones."""
        return self._renderer(shape, in_key=False)

    def _renderer(self, shape: Shape, in_key: bool) -> Renderer:
        if self._dynamodb:
            in_key = in_key or shape.name == "Key"
            special = self._attribute_values(shape, in_key)
            if special is not None:
                return special
        if getattr(shape, "is_document_type", False):
            return lambda value: by_name(value, str)
        make = {"structure": self._structure, "list": self._list, "map": self._map}.get(
            shape.type_name
        )
        if make is None:
            return self._scalar(shape)
        return self.memoize((shape.name, in_key), lambda: make(shape, in_key))

    def _action_for(self, name: str, holder: str) -> str | None:
        """Returns the table that lists a member, alone or as `Holder.member`."""
        recorded_name = self.member_name(name)
        return self._actions.get(f"{holder}.{recorded_name}") or self._actions.get(recorded_name)

    def _member(self, name: str, shape: Shape, in_key: bool, holder: str) -> Renderer:
        """Returns the renderer of a member, redacted by tables, model and name."""
        action = self._action_for(name, holder)
        if action == "remove":
            return lambda _value: ABSENT
        if action in PLACEHOLDERS:
            placeholder = PLACEHOLDERS[action]
            return lambda _value: placeholder
        if action == "literals":
            return without_literals
        if shape.metadata.get("sensitive"):
            return _hidden
        # Models leave some secrets unmarked. A member that cannot hold a string is not a secret.
        if action != "show" and names_secret(name) and holds_text(shape):
            return _hidden
        if action == "values" or (action != "show" and is_environment(name, shape)):
            return self._values_hidden(shape, in_key)
        return self._renderer(shape, in_key)

    def _values_hidden(self, shape: Any, in_key: bool) -> Renderer:
        """Returns the renderer of named values, such as environment variables; shows names."""
        if shape.type_name == "map":
            return lambda value: dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else HIDDEN
        pair = naming_members(shape.member.members)
        item = self._renderer(shape.member, in_key)

        def render(value: Any) -> Any:
            if not isinstance(value, list) or pair is None:
                return HIDDEN
            return [item(_without(pair[1], v)) if isinstance(v, dict) else HIDDEN for v in value]

        return render

    def _structure(self, shape: Any, in_key: bool) -> Renderer:
        members = {
            name: (
                self._recorded_name(name, member, shape.name),
                self._member(name, member, in_key, shape.name),
            )
            for name, member in shape.members.items()
        }
        is_pair = naming_members(shape.members) is not None
        folded = {name.lower(): name for name in members}

        def render(value: Any) -> Any:
            if not isinstance(value, dict):
                return _plain(value)
            rendered = {}
            # An unknown name may be another spelling of a name in the model.
            hidden = hidden_members(value) if is_pair or not members.keys() >= value.keys() else ()
            for name, item in value.items():
                entry = members.get(name)
                if entry is None:
                    shown_name = self.member_name(name)
                    twin = members.get(folded.get(str(name).lower(), ""))
                    rendered_item = twin[1](item) if twin else self._unknown(str(name), item)
                else:
                    shown_name, rendered_item = entry[0], entry[1](item)
                if rendered_item is not ABSENT:
                    rendered[shown_name] = HIDDEN if name in hidden else rendered_item
            return rendered

        return render

    def _unknown(self, name: str, item: Any) -> Any:
        """Returns the recorded value of a member missing from the model."""
        if self._action_for(name, "") not in (None, "show"):
            return HIDDEN
        # In DynamoDB such a member may be an item.
        if self._dynamodb or sounds_secret(name):
            return HIDDEN
        return by_name(item, self.member_name)

    def _recorded_name(self, name: str, member: Any, holder: str) -> str:
        """Returns the name of a member.

        AWS records an item's attribute names as `item` of PutItem, else as `items`.
        """
        if self._dynamodb and name == "Item" and _holds_attribute_values(member):
            return "item" if holder == "PutItemInput" else "items"
        return self.member_name(name)

    def _list(self, shape: Any, in_key: bool) -> Renderer:
        item = self._element(shape.member, in_key)

        def render(value: Any) -> Any:
            if not isinstance(value, list):
                return _plain(value)
            items = without_argument_secrets(value)
            return [rendered for v in items if (rendered := item(v)) is not ABSENT]

        return render

    def _map(self, shape: Any, in_key: bool) -> Renderer:
        if shape.key.metadata.get("sensitive"):
            return lambda _value: HIDDEN
        item = self._element(shape.value, in_key)

        def render(value: Any) -> Any:
            if not isinstance(value, dict):
                return _plain(value)
            rendered = {
                key: HIDDEN
                if sounds_secret(str(key))
                else item(without_variables(str(key), v) if isinstance(v, str) else v)
                for key, v in value.items()
            }
            return {
                key: rendered_item
                for key, rendered_item in rendered.items()
                if rendered_item is not ABSENT
            }

        return render

    def _element(self, shape: Shape, in_key: bool) -> Renderer:
        if shape.metadata.get("sensitive"):
            return _hidden
        return self._renderer(shape, in_key)

    def _scalar(self, shape: Shape) -> Renderer:
        if shape.type_name == "blob":
            return lambda _value: ABSENT
        if shape.type_name == "timestamp":
            return self._time
        return _plain

    def _time(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        if self._as_on_the_wire:
            if isinstance(value, WireTime):
                return value.text
            return value.isoformat().replace("+00:00", "Z")
        if self._epoch:
            return int(value.timestamp() * 1000)
        hour, half = value.hour % 12 or 12, "AM" if value.hour < 12 else "PM"
        comma = "," if self._comma else ""
        return (
            f"{_MONTHS[value.month - 1]} {value.day}, {value.year}{comma} "
            f"{hour}:{value.minute:02}:{value.second:02} {half}"
        )

    # DynamoDB: attribute values are data; only key attributes are recorded.

    def _attribute_values(self, shape: Any, in_key: bool) -> Renderer | None:
        if shape.name == "AttributeValue":
            return _key_value if in_key else lambda _value: HIDDEN
        if in_key:
            return None
        if _holds_attribute_values(shape):
            return lambda value: list(value) if isinstance(value, dict) else HIDDEN
        if shape.type_name == "list" and shape.member.name == "AttributeValue":
            return lambda _value: HIDDEN
        return None


def _holds_attribute_values(shape: Any) -> bool:
    return bool(shape.type_name == "map" and shape.value.name == "AttributeValue")


def _without(names: tuple[str, ...], item: Json) -> Json:
    """Returns a structure with these members hidden; absent values and flags stay."""
    hidden = [name for name in names if not isinstance(item.get(name), bool | None)]
    return {**item, **dict.fromkeys(hidden, HIDDEN)}


def _hidden(_value: Any) -> str:
    return HIDDEN


def holds_text(shape: Any) -> bool:
    """Returns whether a shape holds strings or bytes of any content, alone or in lists and maps."""
    if shape.type_name == "list":
        return holds_text(shape.member)
    if shape.type_name == "map":
        return holds_text(shape.value)
    return shape.type_name in ("string", "blob") and "enum" not in shape.metadata


def is_environment(name: str, shape: Any) -> bool:
    """Returns whether a member holds environment variables: a map, or a list of named values."""
    if not names_environment(name):
        return False
    if shape.type_name == "map":
        return holds_text(shape)
    is_list_of_structures = shape.type_name == "list" and shape.member.type_name == "structure"
    return is_list_of_structures and naming_members(shape.member.members) is not None


def _plain(value: Any) -> Any:
    """Returns a scalar without secrets, or another value in the place of a scalar."""
    if value.__class__ is str:
        return redact(value)
    if isinstance(value, dict | list | bytes):
        return by_name(value, str)
    return value


def _key_value(value: Any) -> Any:
    """Returns the scalar of a key attribute without its type, as AWS shows it."""
    if not isinstance(value, dict) or len(value) != 1:
        return _plain(value)
    inner = next(iter(value.values()))
    return base64.b64encode(inner).decode() if isinstance(inner, bytes) else _plain(inner)
