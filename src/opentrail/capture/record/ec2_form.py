"""EC2's two forms of parameters and answers (cloudtrail-format §4.2).

Earlier operations have hand-made names and `{"items": [...]}`, later ones are XML turned into JSON.
`rules/ec2.toml` lists the earlier operations and their names. AWS's mark replaces values that are
secrets by name or by the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import datetime
from functools import cache
from typing import Any, Final

from opentrail.capture.record.model_form import ABSENT
from opentrail.capture.record.s3_form import add_child, loose_text
from opentrail.capture.record_rules import lower_first, rules
from opentrail.capture.redaction import REMOVED_MARK, actions
from opentrail.core.event import Json
from opentrail.core.secrets.embedded import redact
from opentrail.core.secrets.secret_names import hidden_members, is_value, names_secret
from opentrail.core.text import cached_if_short
from opentrail.wire.body_formats import Element, Tree, parse_xml, tree_of
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.requests import operation_fields, repeated_fields
from opentrail.wire.routing import Route
from opentrail.wire.values import from_text

_HIDING: Final = frozenset({"hide", "literals", "mark", "remove"})
#: Maximum characters of a cached name.
_MAX_CACHED_NAME: Final = 100
_BOOLEANS: Final = {"true": True, "false": False}
#: Members of a structure: name → (shape, whether it is hidden entirely).
Members = dict[str, tuple[Any, bool]]


def ec2_parameters(route: Route, request: Request, notes: Json) -> Json:
    """Returns `requestParameters` of an EC2 call; notes a form with a repeated field.

    Raises:
        ValueError: the body does not match its headers.
    """
    fields = [(_readable(name), _readable(value)) for name, value in operation_fields(request)]
    operation = route.operation or ""
    shape = route.model.input_shape if route.model is not None else None
    tree = tree_of(fields)
    if is_earlier(operation):
        parameters = _Earlier(operation).parameters(tree, shape)
    else:
        root = rules("ec2")["later_root"].get(operation, f"{operation}Request")
        parameters = {root: _later_node(tree, shape)}
    notes.update(dict.fromkeys(repeated_fields(fields), True))
    return parameters


def ec2_answer(route: Route, response: Response) -> Json | None:
    """Returns `responseElements` of an EC2 call.

    Raises:
        ValueError: the answer is not XML.
    """
    body = plain_body(response.headers, response.body)
    if not body.strip():
        return None
    root = parse_xml(body)
    operation = route.operation or ""
    shape = route.model.output_shape if route.model is not None else None
    if not is_earlier(operation):
        return {f"{operation}Response": _later_element(root, shape)}
    answer = _EarlierAnswer(operation).element(root, shape)
    return answer if isinstance(answer, dict) else None


def _readable(text: str) -> str:
    """Returns a string with U+FFFD for bytes that are not UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@cache
def is_earlier(operation: str) -> bool:
    """Returns whether an operation has the form of EC2's SOAP days.

    >>> is_earlier("RunInstances"), is_earlier("CreateFlowLogs")
    (True, False)
    """
    return operation in rules("ec2")["earlier"]["operations"]


def _is_secret(name: str, shape: Any) -> bool:
    """Returns whether a member is hidden entirely."""
    if shape is not None and (shape.metadata.get("sensitive") or _holds_sensitive_items(shape)):
        return True
    return _is_hidden_name(name)


def _member_of(members: Members, name: str) -> tuple[Any, bool]:
    """Returns a member's shape, None if the model does not have it, and whether it is a secret."""
    return members.get(name) or (None, _is_secret(name, None))


@cached_if_short(_MAX_CACHED_NAME)
def _is_hidden_name(name: str) -> bool:
    action = actions("ec2").get(lower_first(name))
    return action in _HIDING or (action != "show" and names_secret(name))


def _holds_sensitive_items(shape: Any) -> bool:
    return shape.type_name == "list" and bool(shape.member.metadata.get("sensitive"))


#: Members by the name of their structure, for requests and for answers.
_requests: dict[str, Members] = {}
_answers: dict[str, Members] = {}


def _request_members(shape: Any) -> Members:
    """Returns the members of a request's structure by wire name."""
    return _members(shape, _requests, _request_name)


def _answer_members(shape: Any) -> Members:
    """Returns the members of an answer's structure by element."""
    return _members(shape, _answers, _answer_name)


def _members(
    shape: Any, members_by_shape: dict[str, Members], name_of: Callable[[str, Any], str]
) -> Members:
    if shape is None or shape.type_name != "structure":
        return {}
    members = members_by_shape.get(shape.name)
    if members is None:
        pairs = [(name_of(name, member), member) for name, member in shape.members.items()]
        members = {name: (member, _is_secret(name, member)) for name, member in pairs}
        members_by_shape[shape.name] = members
    return members


def _answer_name(name: str, member: Any) -> str:
    return str(member.serialization.get("name", name))


def _request_name(name: str, member: Any) -> str:
    located = _answer_name(name, member)
    return member.serialization.get("queryName") or located[:1].upper() + located[1:]


def _item_shape(shape: Any) -> Any:
    return shape.member if shape is not None and shape.type_name == "list" else None


def _named_children(node: Tree) -> list[tuple[str, Tree]]:
    return [(part, child) for part, child in node.items() if part is not None]


def _hidden_children(node: Tree) -> tuple[str, ...]:
    """Returns the children that other children name as secrets."""
    if not any(name is not None and is_value(name) for name in node):
        return ()
    return hidden_members({name: child.get(None, "") for name, child in _named_children(node)})


def _hidden_elements(element: Element) -> tuple[str, ...]:
    """Returns the names of child elements that other children name as secrets."""
    if not any(is_value(child.local_name) for child in element.children):
        return ()
    return hidden_members({child.local_name: child.text for child in element.children})


def _is_leaf(node: Tree) -> bool:
    """Returns whether a node has no children, only a value if any."""
    return not node or (len(node) == 1 and None in node)


def _items(node: Tree) -> list[tuple[int, Tree]] | None:
    """Returns the numbered children in order; None if the node is not a list."""
    if _is_leaf(node):
        return None
    children = _named_children(node)
    if not all(part.isascii() and part.isdigit() for part, _ in children):
        return None
    return sorted(((int(part), child) for part, child in children), key=lambda pair: pair[0])


# Later operations: XML turned into JSON.


def _later_node(node: Tree, shape: Any) -> Any:
    if _is_leaf(node):
        return loose_text(node.get(None, ""))
    members = _request_members(shape)
    result: Json = {"content": loose_text(node[None])} if None in node else {}
    hidden = _hidden_children(node)
    for name, child in _named_children(node):
        member, is_secret = _member_of(members, name)
        is_secret = is_secret or name in hidden
        result[name] = REMOVED_MARK if is_secret else _later_member(child, member)
    return result


def _later_member(node: Tree, shape: Any) -> Any:
    items = _items(node)
    if items is None:
        return _later_node(node, shape)
    values = []
    for number, item in items:
        value = _later_node(item, _item_shape(shape))
        inner = value if isinstance(value, dict) else {"content": value}
        values.append({"tag": number, **inner})
    return values[0] if len(values) == 1 else values


def _later_element(element: Element, shape: Any) -> Any:
    if not element.children and not element.attributes:
        return loose_text(element.text)
    result: Json = {name: loose_text(text) for name, text in element.attributes.items()}
    members = _answer_members(shape)
    hidden = _hidden_elements(element)
    for child in element.children:
        name = child.local_name
        if name == "item":
            member = _item_shape(shape)
            is_secret = _is_secret(name, member)
        else:
            member, is_secret = _member_of(members, name)
        is_secret = is_secret or name in hidden
        add_child(result, name, REMOVED_MARK if is_secret else _later_element(child, member))
    if not element.children and element.text.strip():
        result["content"] = loose_text(element.text)
    return result


# Earlier operations: hand-made names.


class _Earlier:
    """Makes the parameters of one earlier operation."""

    def __init__(self, operation: str) -> None:
        tables = rules("ec2")
        self._lists = tables["lists"].get(operation, {}), tables["lists"]["*"]
        self._names = tables["names"].get(operation, {})
        self._values = tables["values"].get(operation, {}), tables["values"]["*"]
        self._left_out = tables["left_out"].get(operation, ())
        self._as_text = tables["as_text"].get(operation, ())
        self._always = tables["always"].get(operation, {})
        self._always_inside = tables["always_inside"]
        self._root: Json = {}

    def parameters(self, tree: Tree, shape: Any) -> Json:
        """Returns the request's names, and the members that AWS always shows."""
        self._structure(self._root, tree, shape, ())
        for name, value in self._always.items():
            self._root.setdefault(name, deepcopy(value))
        return self._root

    def _structure(self, target: Json, node: Tree, shape: Any, path: tuple[str, ...]) -> Json:
        members = _request_members(shape)
        if None in node and path:
            target["value"] = _typed(node[None], None)
        hidden = _hidden_children(node)
        for name, child in _named_children(node):
            if not path and name in self._left_out:
                continue
            member, is_secret = _member_of(members, name)
            self._member(target, child, (member, is_secret or name in hidden), (*path, name))
        return target

    def _member(
        self, target: Json, node: Tree, member: tuple[Any, bool], path: tuple[str, ...]
    ) -> None:
        name, (shape, is_secret) = path[-1], member
        where = self._names.get(".".join(path))
        if is_secret:
            _put(self._root if where else target, where or lower_first(name), REMOVED_MARK)
            return
        items = _items(node)
        if items is not None:
            self._list(target, [item for _, item in items], shape, path)
            return
        if _is_leaf(node):
            value = self._scalar(node.get(None, ""), shape, path)
        else:
            value = self._structure({}, node, shape, path)
            if not value:
                return  # all members were put elsewhere
        _put(self._root if where else target, where or lower_first(name), value)

    def _list(self, target: Json, nodes: list[Tree], shape: Any, path: tuple[str, ...]) -> None:
        place, _, rest = self._place_of_list(path, nodes).partition(".")
        wrapper, _, scalar_name = rest.partition(".")
        items = [self._item(node, _item_shape(shape), path, scalar_name) for node in nodes]
        if wrapper:
            _items_at(target, place, wrapper).extend(items)
        else:
            _put(target, place, items)

    def _place_of_list(self, path: tuple[str, ...], nodes: list[Tree]) -> str:
        of_operation, of_all = self._lists
        for place in (
            of_operation.get(".".join(path)),
            of_all.get(".".join(path[-2:])),
            of_all.get(path[-1]),
        ):
            if place:
                return str(place)
        name = lower_first(path[-1])
        scalars = all(map(_is_leaf, nodes))
        return f"{name}Set.items.{name}" if scalars else f"{name}Set.items"

    def _item(self, node: Tree, shape: Any, path: tuple[str, ...], scalar_name: str) -> Any:
        if _is_leaf(node):
            value = self._scalar(node.get(None, ""), shape, path)
            return {scalar_name: value} if scalar_name else value
        item = self._structure({}, node, shape, path)
        for name, value in self._always_inside.get(path[-1], {}).items():
            item.setdefault(name, deepcopy(value))
        return item

    def _scalar(self, text: str, shape: Any, path: tuple[str, ...]) -> Any:
        of_operation, of_all = self._values
        spelt = of_operation.get(".".join(path)) or of_all.get(path[-1]) or {}
        if text in spelt:
            return deepcopy(spelt[text])
        return redact(text) if lower_first(path[-1]) in self._as_text else _typed(text, shape)


def _put(target: Json, where: str, value: Any) -> None:
    """Puts a value at `name`, or at `name.items.inner`, which is in the list's only item.

    An existing value becomes a list with it.
    """
    name, _, rest = where.partition(".")
    if not rest:
        add_child(target, name, value)
        return
    wrapper, _, inner = rest.partition(".")
    items = _items_at(target, name, wrapper)
    if not items or not isinstance(items[0], dict):
        items.insert(0, {})
    add_child(items[0], inner, value)


def _items_at(target: Json, name: str, wrapper: str) -> list[Any]:
    """Returns the list at `name.wrapper`; a single value there becomes its first item."""
    wrapped = target.get(name)
    if not isinstance(wrapped, dict):
        wrapped = target[name] = {} if wrapped is None else {wrapper: wrapped}
    items = wrapped.get(wrapper)
    if not isinstance(items, list):
        items = wrapped[wrapper] = [] if items is None else [items]
    return items


class _EarlierAnswer:
    """Makes the answer of one earlier operation."""

    def __init__(self, operation: str) -> None:
        tables = rules("ec2")
        names = tables["answer_names"]
        self._names = {**names["*"], **names.get(operation, {})}
        self._as_text = tables["as_text"].get(operation, ())
        self._item_lists = tables["answer_item"]["elements"]

    def element(self, element: Element, shape: Any) -> Any:
        """Returns the content of an element; ABSENT for an empty scalar, which AWS leaves out."""
        children = element.children
        if not children:
            return self._leaf(element, shape)
        if all(child.local_name == "item" for child in children):
            wrapper = "item" if element.local_name in self._item_lists else "items"
            return {wrapper: self._shown_items(children, _item_shape(shape))}
        members = _answer_members(shape)
        result: Json = {}
        hidden = _hidden_elements(element)
        for child in children:
            name = child.local_name
            member, is_secret = _member_of(members, name)
            value = REMOVED_MARK if is_secret or name in hidden else self.element(child, member)
            if value is not ABSENT:
                add_child(result, self._names.get(name, name), value)
        return result

    def _shown_items(self, items: Iterable[Element], shape: Any) -> list[Any]:
        values = [self.element(item, shape) for item in items]
        return [value for value in values if value is not ABSENT]

    def _leaf(self, element: Element, shape: Any) -> Any:
        if shape is not None and shape.type_name not in ("list", "structure"):
            if not element.text:
                return ABSENT
            if element.local_name in self._as_text:
                return redact(element.text)
            return _typed(element.text, shape)
        return _typed(element.text, None) if element.text.strip() else {}


def _typed(text: str, shape: Any) -> Any:
    """Returns a scalar by the model: numbers, booleans, times in epoch milliseconds."""
    if shape is None or shape.type_name in ("list", "structure"):
        return _BOOLEANS[text] if text in _BOOLEANS else redact(text)
    if shape.type_name == "blob":
        return redact(text)
    value = from_text(shape)(text)
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    return redact(value) if isinstance(value, str) else value
