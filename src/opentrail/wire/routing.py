"""Routing: the service and operation that a request calls (cloudtrail-format §10.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from urllib.parse import parse_qsl, unquote, urlencode

from botocore.model import OperationModel

from opentrail.core.value_class import value_class
from opentrail.wire.form_fields import field_values, form_text, query_pairs, unquoted
from opentrail.wire.message import Request
from opentrail.wire.service_models import Service, ServiceCatalog
from opentrail.wire.sigv4 import Credential

#: Characters of the name of an operation or of a signer's service, which caches keep; real ones are
#: shorter, but callers may send any.
_MAX_NAME = 256
#: Maximum bytes of a search form that are read to find its operation.
_MAX_SEARCH_BYTES = 64 * 1024
_CBOR_PATH = re.compile(r"/service/([^/]+)/operation/([^/]+)$")
#: Services with REST operations that need no signature, tried before anonymous S3.
_UNSIGNED_REST = ("sso", "sso-oidc", "signin")
#: Signing names of services that use another service's model.
_ALIASES = {"s3express": "s3", "s3-object-lambda": "s3"}
#: Services whose model includes other services' operations with the same version and action.
_SUPERSETS = ("rds",)
#: S3 operations by the query parameter that they must have.
_MADE_BY_QUERY = {"CompleteMultipartUpload": "uploadId"}
_AWS_S3_HOST = re.compile(
    r"^(?P<bucket>.+)\.s3(?:express)?(?:-[a-z0-9-]+)?(?:\.[a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?$",
    re.I,
)
#: AWS's hosts of S3's interface endpoints: the endpoint's own names are no bucket (S3 user guide).
_INTERFACE_ENDPOINT = re.compile(
    r"^(?:(?P<bucket>.+)\.)?(?:bucket|accesspoint|control)\.vpce-[a-z0-9-]+"
    r"\.s3\.[a-z0-9-]+\.vpce\.amazonaws\.com(?:\.cn)?$",
    re.I,
)
#: AWS's hosts of S3 Control. No bucket is named so, and only this service signs for them.
_AWS_CONTROL_HOST = re.compile(
    r"^(?:\d{12}\.)?s3(?:express)?-control(?:-fips)?(?:\.dualstack)?\.[a-z]+(?:-[a-z]+)+-\d+"
    r"\.amazonaws\.com(?:\.cn)?$",
    re.I,
)
#: A label before an address is a bucket, which SDKs put there.
_BEFORE_ADDRESS = re.compile(r"^(?P<bucket>.+?)\.\d{1,3}(?:\.\d{1,3}){3}$")
#: Signing name -> the start of its hosts; SDKs never send these calls path style.
_LABELS_BY_SIGNER = {
    "s3-object-lambda": re.compile(r"^(?P<bucket>[a-z0-9-]+-\d{12})\.", re.I),
    "s3-outposts": re.compile(r"^(?P<bucket>[a-z0-9-]+-\d{12}\.op-[a-z0-9]+)\.", re.I),
}
_CONTROL_SIGNERS = frozenset({"s3", "s3express", "s3-outposts"})
_CONTROL_PATH = "/v20180820/"
_OBJECT_LAMBDA_PATH = "/WriteGetObjectResponse"
#: Separators of a path's segments, for upstreams that decode a path before they split it.
_SLASH = re.compile("/|%2f", re.I)
_SLASHES = re.compile("(?:/|%2f)+", re.I)
_PLAIN_SLASHES = re.compile("/{2,}")
#: Query operations of links in messages: unsigned, without a version (SNS guide).
_LINKED = {"ConfirmSubscription": "sns", "Unsubscribe": "sns"}


@value_class(frozen=True, slots=True)
class Route:
    """The service and operation of a request, each if known."""

    service: Service | None
    operation: str | None
    #: `json`, `query`, `ec2`, `rest-json`, `rest-xml` or `cbor`.
    protocol: str | None
    #: Raw (still quoted) path labels of REST operations.
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> OperationModel | None:
        """The operation's model, None if the service's model does not have it."""
        if self.service is None or self.operation is None:
            return None
        return self.service.operation(self.operation)


NOTHING = Route(None, None, None)


class Router:
    """Finds service and operation; `base_hosts` are the endpoint's names without port."""

    def __init__(self, catalog: ServiceCatalog, base_hosts: Iterable[str] = ()) -> None:
        self._catalog = catalog
        self._base_hosts = tuple(sorted(map(str.lower, base_hosts), key=len, reverse=True))
        self._target = lru_cache(4096)(self._find_target)
        self._of_action = lru_cache(4096)(self._find_action)
        self._bucket = lru_cache(4096)(self._find_bucket)

    def identify(self, request: Request, credential: Credential | None) -> Route:
        """Returns the call of a request; unknown parts are None.

        Contradictory requests are left unknown: an upstream might read them differently.
        """
        signing_name = credential.service if credential else None
        if signing_name is not None:
            signing_name = signing_name[:_MAX_NAME]
        form = "form-urlencoded" in request.headers.get("content-type", "")
        if credential is None and form and not request.body_is_whole:
            return NOTHING  # the body names the service of an unsigned query call, but is missing
        route = self._other_than_action(request, signing_name)
        if signing_name not in ("s3", "s3express"):
            action = self._action(request, signing_name)
            if action is not None and route and route.operation not in (None, action.operation):
                return Route(action.service, None, None)
            if action is not None:
                return action
            if signing_name is None and request.path == "/" and _has_action(request):
                return NOTHING  # an unknown query service; S3 has no such request
        return route or self._rest(request, signing_name)

    def _other_than_action(self, request: Request, signing_name: str | None) -> Route | None:
        """Returns the call that a header, or CBOR's path, names."""
        if request.headers.get("smithy-protocol", "").lower() == "rpc-v2-cbor":
            return self._cbor(request, signing_name)
        target = request.headers.get("x-amz-target")
        if not target:
            return None
        find = self._target if len(target) <= _MAX_NAME else self._find_target
        return find(target, signing_name)

    def _cbor(self, request: Request, signing_name: str | None) -> Route:
        match = _CBOR_PATH.search(request.path)
        if not match:
            return NOTHING
        prefix, operation = match[1], match[2][:_MAX_NAME]
        service = _choose(self._catalog.targeted(prefix), signing_name, operation)
        return Route(service or self._only(signing_name), operation, "cbor")

    def _find_target(self, target: str, signing_name: str | None) -> Route:
        prefix, _, operation = target.rpartition(".")
        service = _choose(self._catalog.targeted(prefix), signing_name, operation)
        name = (operation or target)[:_MAX_NAME]
        return Route(service or self._only(signing_name), name, "json")

    def _action(self, request: Request, signing_name: str | None) -> Route | None:
        """Reads `Action` and `Version` of the query protocols, from form body and query string."""
        form = form_text(request)
        actions: set[str] = set()
        for text in filter(None, field_values(form, "Action")):
            actions.add(unquoted(text))
            if len(actions) > 1:
                break  # there may be millions
        if not actions:
            return None
        version = unquoted(next(iter(field_values(form, "Version")), ""))
        if len(actions) > 1:
            candidates = self._of_query(version, signing_name)
            if not candidates:
                return None
            return Route(candidates[0] if signing_name else None, None, None)
        action = actions.pop()[:_MAX_NAME]
        is_short = len(action) + len(version) <= 2 * _MAX_NAME
        find = self._of_action if is_short else self._find_action
        match = find(action, version, signing_name)
        return match and Route(match[0], action, match[1])

    def _find_action(
        self, action: str, version: str, signing_name: str | None
    ) -> tuple[Service | None, str] | None:
        """Returns service and protocol of an action, None if no service has this version."""
        candidates = self._of_query(version, signing_name)
        if not candidates and signing_name is None and not version and action in _LINKED:
            return self._catalog.services[_LINKED[action]], "query"
        if not candidates:
            return None
        service = _choose(candidates, signing_name, action)
        return service, "ec2" if service and "ec2" in service.protocols else "query"

    def _of_query(self, version: str, signing_name: str | None) -> list[Service]:
        """Returns the query services of a version, which a signed call may leave out."""
        candidates = self._catalog.of_version(version)
        if signing_name is None:
            return candidates
        signed = [s for s in candidates if s.signing_name == signing_name]
        if not self._catalog.signed_as(signing_name):
            return candidates  # a signing name that only endpoints know, as of Import/Export
        return signed or self._catalog.query_services(signing_name)

    def _only(self, signing_name: str | None) -> Service | None:
        services = self._catalog.signed_as(signing_name) if signing_name else []
        return services[0] if len(services) == 1 else None

    def _rest(self, request: Request, signing_name: str | None) -> Route:
        s3 = self._catalog.services["s3"]
        if request.headers.get("authorization", "").lower().startswith("bearer "):
            bearer_route = _route_in(self._catalog.bearer_services, request)
            if bearer_route is not None:
                return bearer_route
        if signing_name is None:
            for name in _UNSIGNED_REST:
                route = _route_in([self._catalog.services[name]], request)
                if route is not None and route.model and route.model.auth_type == "none":
                    return route
            return self._s3(request, s3)
        if self._is_s3_control(request, signing_name):
            return _route_in([self._catalog.services["s3control"]], request) or NOTHING
        if _ALIASES.get(signing_name, signing_name) == "s3" or self._is_on_outpost(
            request, signing_name
        ):
            return self._s3(request, s3, signing_name)
        services = self._catalog.signed_as(signing_name)
        route = _route_in(services, request)
        if route is None and request.method == "POST" and signing_name == "cloudsearch":
            # SDKs send searches as forms, unlike the model.
            start = replace(request, body=request.body[:_MAX_SEARCH_BYTES])
            form = urlencode(query_pairs(start), errors="surrogateescape")
            get = replace(request, method="GET", query=form, body=b"")
            route = best_route(services, get, request.path)
        return route or Route(services[0] if len(services) == 1 else None, None, None)

    def _is_s3_control(self, request: Request, signing_name: str) -> bool:
        """Returns whether a call is one of S3 Control, whose paths look like object paths.

        SDKs put the account before the host name, where S3 has the bucket. In S3 Control the
        label is equal to the account's header.
        """
        if signing_name not in _CONTROL_SIGNERS or not request.path.startswith(_CONTROL_PATH):
            return False
        host = _host_name(request.headers.get("host", ""))
        if _AWS_CONTROL_HOST.match(host):
            return True
        account = request.headers.get("x-amz-account-id")
        bucket = self.bucket_of_host(host, signing_name)
        if bucket is None:  # outside of S3 Control, calls for outposts have their label
            return account is not None or signing_name == "s3-outposts"
        labels = (account, f"{account}.s3-control", "s3-control")
        return account is not None and bucket.lower() in labels

    def _s3(self, request: Request, s3: Service, signing_name: str | None = None) -> Route:
        path = request.path
        bucket = self.bucket_of_host(request.headers.get("host", ""), signing_name)
        if "x-amz-request-route" in request.headers and path == _OBJECT_LAMBDA_PATH:
            bucket = None  # the label is the route of an answer
        path = f"/{bucket}{path}" if bucket else _with_bucket_first(path)
        route = best_route([s3], request, path)
        if route is None:
            form = "multipart/form-data" in request.headers.get("content-type", "")
            if form and request.method == "POST":
                return Route(s3, "PostObject", "rest-xml", {"Bucket": path.strip("/")})
            return Route(s3, None, "rest-xml")
        needed = _MADE_BY_QUERY.get(route.operation or "")
        if needed is not None and needed not in dict(parse_qsl(request.query)):
            return Route(s3, None, "rest-xml")
        if signing_name == "s3express" and route.operation == "ListBuckets":
            return Route(s3, "ListDirectoryBuckets", "rest-xml")
        return route

    def _is_on_outpost(self, request: Request, signing_name: str) -> bool:
        """Returns whether a call is one of S3 for a bucket on an outpost."""
        pattern = _LABELS_BY_SIGNER["s3-outposts"]
        host = _host_name(request.headers.get("host", ""))
        return signing_name == "s3-outposts" and pattern.match(host) is not None

    def bucket_of_host(self, host: str, signing_name: str | None = None) -> str | None:
        """Returns the bucket of a virtual-host style request, None for path style.

        An access point counts as a bucket. Host names have no case.
        """
        is_short = len(host) + len(signing_name or "") <= _MAX_NAME
        find = self._bucket if is_short else self._find_bucket
        return find(host, signing_name)

    def _find_bucket(self, host: str, signing_name: str | None) -> str | None:
        name = _host_name(host).lower()
        match = (
            _INTERFACE_ENDPOINT.match(name)
            or _AWS_S3_HOST.match(name)
            or _BEFORE_ADDRESS.match(name)
        )
        if match is None and signing_name in _LABELS_BY_SIGNER:
            match = _LABELS_BY_SIGNER[signing_name].match(name)
        if match:
            return match.group("bucket")
        for base in self._base_hosts:
            if name.endswith(f".{base}"):
                bucket = name[: -len(base) - 1]
                return None if bucket == "s3" else bucket.removesuffix(".s3")
        return None


def _host_name(host: str) -> str:
    """Returns the name of a `Host` header, without its port."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return name.removesuffix(".")


def _with_bucket_first(path: str) -> str:
    """Returns a path-style path of S3 with the bucket as its first segment.

    No bucket's name is empty or holds a slash, encoded or not. A key may begin with one.
    """
    first = path[1:].partition("/")[0]
    if first and "%2" not in first:
        return path
    rest = _SLASHES.sub("", path, count=1)
    if unquote(rest).startswith("arn:"):
        return f"/{rest}"  # of an access point
    return f"/{_SLASH.sub('/', rest, count=1)}"


def has_parent_segments(path: str, depth: int) -> bool:
    """Returns whether a path leads out of its first segments.

    Programs before an upstream may resolve `.` and `..`; others take them for names.

    Args:
        path: the path as sent.
        depth: the number of segments that `..` must not remove.

    >>> has_parent_segments("/bucket/../other/key", 1), has_parent_segments("/bucket/a/../b", 1)
    (True, False)
    """
    reached = 0
    for segment in filter(None, _SLASH.split(path)):
        name = segment.lower().replace("%2e", ".")
        reached += {".": 0, "..": -1}.get(name, 1)
        if reached < depth and name in (".", ".."):
            return True
    return False


def _has_action(request: Request) -> bool:
    return bool(field_values(form_text(request), "Action"))


def _choose(candidates: list[Service], signing_name: str | None, operation: str) -> Service | None:
    """Returns the best of several services: by signing name, by operation, or a superset."""
    signed = [s for s in candidates if s.signing_name == signing_name] or candidates
    if len(signed) > 1:
        signed = [s for s in signed if s.operation(operation)] or signed
    for service in signed:
        if service.name in _SUPERSETS:
            return service
    return signed[0] if signed else None


@dataclass(frozen=True, slots=True)
class _Pattern:
    service: Service
    operation: str
    pattern: re.Pattern[str]
    literal_length: int
    labels: int
    trailing_slash: bool
    fixed_query: tuple[tuple[str, str | None], ...]
    required_query: tuple[str, ...]
    required_headers: tuple[str, ...]
    known_query: frozenset[str]
    deprecated: bool

    def fits(self, query: Mapping[str, str]) -> bool:
        """Returns whether a query has the fixed parameters."""
        for name, value in self.fixed_query:
            if name not in query or (value is not None and query[name] != value):
                return False
        return True

    def score(self, request: Request, path: str, query: Mapping[str, str]) -> tuple[int, ...]:
        """Returns the quality of the match; the greatest wins (cloudtrail-format §10.2)."""
        required = [*(n in query for n in self.required_query)]
        required += [*(n in request.headers for n in self.required_headers)]
        return (
            all(required),
            self.literal_length,
            len(self.fixed_query),
            not self.deprecated,
            sum(required),
            len(self.known_query & query.keys()),
            -self.labels,
            self.trailing_slash == path.endswith("/"),
        )


def _route_in(services: Iterable[Service], request: Request) -> Route | None:
    """Returns the operation of a REST request, whose path may have empty or encoded segments."""
    path, services = request.path, list(services)
    route = best_route(services, request, path)
    for slashes in (_PLAIN_SLASHES, _SLASHES):
        if route is None and (other := slashes.sub("/", path)) != path:
            route = best_route(services, request, other)
    return route


def best_route(services: Iterable[Service], request: Request, path: str) -> Route | None:
    """Returns the best operation of `services` for a REST request, None if none matches."""
    query = dict(parse_qsl(request.query, keep_blank_values=True)) if request.query else {}
    found: list[tuple[_Pattern, re.Match[str]]] = []
    for service in services:
        for pattern in _patterns(service, bool(query)).get(request.method, ()):
            match = pattern.pattern.match(path)
            if match is not None and (not pattern.fixed_query or pattern.fits(query)):
                found.append((pattern, match))
    if not found:
        return None
    pattern, match = found[0]
    if len(found) > 1:
        pattern, match = max(found, key=lambda each: each[0].score(request, path, query))
    labels = {_unslot(slot): text for slot, text in match.groupdict().items()}
    protocol = "rest-xml" if "rest-xml" in pattern.service.protocols else "rest-json"
    return Route(pattern.service, pattern.operation, protocol, labels)


@lru_cache(maxsize=1024)
def _patterns(service: Service, has_query: bool) -> dict[str, list[_Pattern]]:
    """Returns the patterns by method of a service's REST operations that a request may match.

    Most operations of S3 need a query; most calls have none.
    """
    patterns: dict[str, list[_Pattern]] = {}
    if not has_query:
        for method, of_method in _patterns(service, True).items():
            patterns[method] = [each for each in of_method if not each.fixed_query]
        return patterns
    if not {"rest-json", "rest-xml"} & set(service.protocols):
        return patterns
    for operation in service.model.operation_names:
        model = service.model.operation_model(operation)
        patterns.setdefault(model.http["method"], []).append(_pattern_of(service, model))
    return patterns


def _pattern_of(service: Service, model: OperationModel) -> _Pattern:
    path, _, fixed = model.http["requestUri"].partition("?")
    trailing_slash = len(path) > 1 and path.endswith("/")
    pieces, labels, literal = [], 0, 0
    for piece in re.split(r"(\{[^}]+\})", path.rstrip("/")):
        if piece.startswith("{"):
            labels += 1
            name = piece[1:-1]
            pieces.append(
                f"(?P<{_slot(name.rstrip('+'))}>{'.+' if name.endswith('+') else '[^/]+'})"
            )
        else:
            literal += len(piece.replace("/", ""))
            pieces.append(re.escape(piece))
    shape = model.input_shape
    members = shape.members if shape else {}
    required = set(shape.required_members) if shape else set()
    at: dict[str, list[tuple[str, bool]]] = {"querystring": [], "header": []}
    for name, member in members.items():
        location = member.serialization.get("location")
        if location in at:
            at[location].append((member.serialization.get("name", name), name in required))
    return _Pattern(
        service=service,
        operation=model.name,
        pattern=re.compile(f"^{''.join(pieces)}/?$", re.S),
        literal_length=literal,
        labels=labels,
        trailing_slash=trailing_slash,
        fixed_query=tuple(_fixed(fixed)),
        required_query=tuple(n for n, needed in at["querystring"] if needed),
        required_headers=tuple(n.lower() for n, needed in at["header"] if needed),
        known_query=frozenset(n for n, _ in at["querystring"]),
        deprecated=bool(model.deprecated),
    )


def _fixed(text: str) -> Iterable[tuple[str, str | None]]:
    for part in filter(None, text.split("&")):
        name, equals, value = part.partition("=")
        yield unquote(name), unquote(value) if equals else None


def _slot(label: str) -> str:
    """Returns a label's name as a group name of a regular expression."""
    return "L_" + label.encode().hex()


@cache
def _unslot(slot: str) -> str:
    return bytes.fromhex(slot[2:]).decode()
