"""Routing: the service and operation that a request calls (cloudtrail-format §10.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import cache, lru_cache
from urllib.parse import parse_qsl, unquote, urlencode

from botocore.model import OperationModel

from opentrail.core.value_class import value_class
from opentrail.wire.form_fields import field_values, form_text, query_pairs, unquoted
from opentrail.wire.message import Request
from opentrail.wire.service_models import Service, ServiceCatalog
from opentrail.wire.sigv4 import S3_NAMES, Credential

#: Characters of the name of an operation or of a signer's service, which caches keep; real ones are
#: shorter, but callers may send any.
_MAX_NAME = 256
#: Maximum bytes of a search form that are read to find its operation.
_MAX_SEARCH_BYTES = 64 * 1024
_CBOR_PATH = re.compile(r"/service/([^/]+)/operation/([^/]+)")
#: Services with REST operations that need no signature, tried before anonymous S3.
_UNSIGNED_REST = ("sso", "sso-oidc", "signin")
#: Names of services in a scope. Some upstreams lowercase or trim a name before they compare it.
_SIGNING_NAME = re.compile(r"[a-z0-9-]+")
#: Signing names that only botocore's endpoints contain.
_ENDPOINT_SIGNING_NAMES = {"IngestionService": "importexport"}
#: Services whose model includes other services' operations with the same version and action.
_SUPERSETS = ("rds",)
#: S3 operations by the query parameter that they must have.
_MADE_BY_QUERY = {"CompleteMultipartUpload": "uploadId"}
_AWS_S3_HOST = re.compile(
    r"^(?P<bucket>.+)\.s3(?:express)?(?:-[a-z0-9-]+)?(?:\.[a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?\Z",
    re.I,
)
#: AWS's hosts of S3's interface endpoints: the endpoint's own names are no bucket (S3 user guide).
_INTERFACE_ENDPOINT = re.compile(
    r"^(?:(?P<bucket>.+)\.)?(?:bucket|accesspoint|control)\.vpce-[a-z0-9-]+"
    r"\.s3\.[a-z0-9-]+\.vpce\.amazonaws\.com(?:\.cn)?\Z",
    re.I,
)
#: AWS's hosts of S3 Control. No bucket is named so, and only this service signs for them.
_AWS_CONTROL_HOST = re.compile(
    r"^(?:\d{12}\.)?s3(?:express)?-control(?:-fips)?(?:\.dualstack)?\.[a-z]+(?:-[a-z]+)+-\d+"
    r"\.amazonaws\.com(?:\.cn)?\Z",
    re.I,
)
#: AWS's hosts of S3 without a bucket.
_AWS_S3_BASE = re.compile(r"^s3[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?\Z", re.I)
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
#: A label before an address is a bucket, which SDKs put there. Public name servers resolve an
#: address before their own domain to that address.
_BEFORE_ADDRESS = re.compile(
    r"^(?:(?P<bucket>.+?)\.)?\d{1,3}(?:\.\d{1,3}){3}(?:\.nip\.io|\.sslip\.io)?\Z"
)
#: Labels before the endpoint's name that may end with S3's, in a Region or not.
_S3_LABELS = re.compile(
    r"s3(?:\.[a-z]{2}(?:-[a-z]+)+-\d+)?|(?P<bucket>.+?)(?:\.s3(?:\.[a-z]{2}(?:-[a-z]+)+-\d+)?)?"
)
#: Names of services in Kubernetes, which are no buckets.
_SERVICE_HOST = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.svc(?:\.cluster\.local)?")
#: Hosts of functions, APIs and load balancers, whose calls are no calls of AWS's APIs.
_FUNCTION_HOST = re.compile(
    r"[a-z0-9-]+\.(?:execute-api|lambda-url|appsync-api|appsync-realtime-api|cloudfront|elb|alb)\.",
    re.I,
)
#: A host that upstreams read alike: some compare names as sent, with a final dot or capitals.
_PLAIN_HOST = re.compile(r"[a-z0-9._-]*[a-z0-9_-](?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?|")
#: Signing name -> the start of its hosts; SDKs never send these calls path style.
_LABELS_BY_SIGNER = {
    "s3-object-lambda": re.compile(r"^(?P<bucket>[a-z0-9-]+-\d{12})\.", re.I),
    "s3-outposts": re.compile(r"^(?P<bucket>[a-z0-9-]+-\d{12}\.op-[a-z0-9]+)\.", re.I),
}
#: Ends of names of directory buckets and of their access points.
_DIRECTORY_BUCKETS = ("--x-s3", "--xa-s3")
_CONTROL_SIGNERS = frozenset({"s3", "s3express", "s3-outposts"})
_CONTROL_PATH = "/v20180820/"
_OBJECT_LAMBDA_PATH = "/WriteGetObjectResponse"
#: Separators of a path's segments, for upstreams that decode a path before they split it.
_SLASH = re.compile("/|%2f", re.I)
_SLASHES = re.compile("(?:/|%2f)+", re.I)
_PLAIN_SLASHES = re.compile("/{2,}")
#: Query operations of links in messages: unsigned, without a version (SNS guide).
_LINKED = {"ConfirmSubscription": "sns", "Unsubscribe": "sns"}


class KnownBy(Enum):
    """How the bucket in a host name is known."""

    #: A name, a domain or an address of the endpoint: every upstream reads it in the same way.
    NAME = auto()
    #: A host name of AWS, which other upstreams may not read.
    AWS = auto()
    #: A label before a name or an address of the endpoint, which only some upstreams read.
    LABEL = auto()
    #: Neither: the first label may be a bucket.
    NOTHING = auto()


@value_class(frozen=True, slots=True)
class S3Host:
    """The reading of a `Host` header of S3; without a bucket, the path names it."""

    bucket: str | None
    known_by: KnownBy


@value_class(frozen=True, slots=True)
class Route:
    """The service and operation of a request, each if known."""

    service: Service | None
    operation: str | None
    #: `json`, `query`, `ec2`, `rest-json`, `rest-xml` or `cbor`.
    protocol: str | None
    #: Raw (still quoted) path labels of REST operations.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Why upstreams may read the request as different calls; None: they all read this one.
    conflict: str | None = None

    @property
    def model(self) -> OperationModel | None:
        """The operation's model, None if the service's model does not have it."""
        if self.service is None or self.operation is None:
            return None
        return self.service.operation(self.operation)


NOTHING = Route(None, None, None)


class Router:
    """Finds service and operation.

    Args:
        catalog: all services.
        base_hosts: names of the endpoint, without port.
        domains: names under which the upstream, too, reads `BUCKET.NAME` as a virtual host.
    """

    def __init__(
        self,
        catalog: ServiceCatalog,
        base_hosts: Iterable[str] = (),
        domains: Iterable[str] = (),
    ) -> None:
        self._catalog = catalog
        self._base_hosts = tuple(sorted(map(str.lower, base_hosts), key=len, reverse=True))
        self._domains = tuple(sorted(map(str.lower, domains), key=len, reverse=True))
        self._target = lru_cache(4096)(self._find_target)
        self._of_action = lru_cache(4096)(self._find_action)
        self._host = lru_cache(4096)(self._read_host)

    def identify(self, request: Request, credential: Credential | None) -> Route:
        """Returns the call of a request; unknown parts are None.

        The service is the one that the signature names: nothing else in a request changes it. A
        request with parts that name another has a `conflict`, and no operation.
        """
        signing_name = credential.service if credential else None
        if signing_name is not None:
            signing_name = signing_name[:_MAX_NAME]
        form = "form-urlencoded" in request.headers.get("content-type", "")
        if credential is None and form and not request.body_is_whole:
            return NOTHING  # the body names the service of an unsigned query call, but is missing
        route = self._other_than_action(request, signing_name)
        if signing_name in S3_NAMES:
            of_s3 = self._rest(request, signing_name)
            conflict = _conflict_of_signer(of_s3, request, signing_name)
            if route is not None:
                conflict = "a call to S3 has no X-Amz-Target and no smithy-protocol"
            return self._unless(conflict, of_s3)
        action = self._action(request, signing_name)
        if (
            action is not None
            and route
            and (route.conflict or route.operation not in (None, action.operation))
        ):
            conflict = route.conflict or "it names two operations"
            route = Route(action.service, None, None, {}, conflict)
        elif action is not None:
            route = self._unless(self._conflict_of_action(request, signing_name), action)
        elif route is not None:
            route = self._unless(_conflict_of_body_call(request), route)
        elif signing_name is None and request.path == "/" and _has_action(request):
            return NOTHING  # an unknown query service; S3 has no such request
        else:
            route = self._rest(request, signing_name)
        return self._unless(self._conflict_of_scope(credential), route)

    def _unless(self, conflict: str | None, route: Route) -> Route:
        if conflict is None or route.conflict is not None:
            return route
        return Route(route.service, None, route.protocol, {}, conflict)

    def _conflict_of_scope(self, credential: Credential | None) -> str | None:
        """Returns why upstreams may read another service from the scope of a signature.

        moto finds a service by a pattern in `SERVICE.REGION`, and splits a scope at each slash.
        """
        if credential is None or credential.version == "SigV2":
            return None
        name = credential.service or ""
        is_known = self._catalog.signed_as(name) or name in _ENDPOINT_SIGNING_NAMES
        if not is_known and not _SIGNING_NAME.fullmatch(name):
            return f"the credential names no service but {name[:_MAX_NAME]!r}"
        if "/" in credential.access_key_id or "s3" in (credential.region or ""):
            return "the credential may be read as one for S3"
        return None

    def _conflict_of_action(self, request: Request, signing_name: str | None) -> str | None:
        """Returns why a call of a query protocol may be read as a call to S3."""
        if request.path == "/" and request.method in ("GET", "POST"):
            # S3 reads a GET as ListBuckets, or in a virtual host as a list of the bucket.
            is_post = request.method == "POST"
            if is_post or self.bucket_of_host(request.headers.get("host", "")) is None:
                return None
        if signing_name == "sqs" and request.method in ("GET", "POST"):
            return None  # the path is the queue
        return self._conflict_with_s3(request)

    def _conflict_with_s3(self, request: Request) -> str | None:
        return "it may be a call to S3" if self.is_like_s3(request) else None

    def is_like_s3(self, request: Request) -> bool:
        """Returns whether a store of S3 that ignores signing names finds an operation."""
        return self._s3(request, self._catalog.services["s3"]).operation is not None

    def _other_than_action(self, request: Request, signing_name: str | None) -> Route | None:
        """Returns the call that a header, or CBOR's path, names."""
        target = request.headers.get("x-amz-target")
        if request.headers.get("smithy-protocol", "").lower() == "rpc-v2-cbor":
            route = self._cbor(request, signing_name)
            return self._unless("it has an X-Amz-Target, too" if target else None, route)
        if not target:
            return None
        find = self._target if len(target) <= _MAX_NAME else self._find_target
        return find(target, signing_name)

    def _cbor(self, request: Request, signing_name: str | None) -> Route:
        match = _CBOR_PATH.fullmatch(request.path)
        if not match:
            service, conflict = self._only(signing_name), "its path has no service and operation"
            return Route(service, None, "cbor", {}, conflict)
        prefix, operation = match[1], match[2][:_MAX_NAME]
        return self._targeted(prefix, operation, signing_name, "cbor")

    def _find_target(self, target: str, signing_name: str | None) -> Route:
        prefix, _, operation = target.rpartition(".")
        name = (operation or target)[:_MAX_NAME]
        return self._targeted(prefix, name, signing_name, "json")

    def _targeted(
        self, prefix: str, operation: str, signing_name: str | None, protocol: str
    ) -> Route:
        """Returns the call to an operation of the services with a prefix.

        An unknown prefix may be one of an older version.
        """
        candidates, only = self._catalog.targeted(prefix), self._only(signing_name)
        if signing_name is not None:
            signed = [s for s in candidates if s.signing_name == signing_name]
            if candidates and not signed:
                conflict = f"it is signed for {signing_name}, but {prefix} is not of this service"
                return Route(only, None, protocol, {}, conflict)
            candidates = signed
        if not candidates and self._has_operation(prefix, signing_name):
            return Route(only, None, protocol, {}, "it names two operations")
        service = _choose(candidates, signing_name, operation) or only
        return Route(service, operation, protocol)

    def _has_operation(self, prefix: str, signing_name: str | None) -> bool:
        """Returns whether an unknown prefix holds an operation, which moto takes for the call's."""
        services = self._catalog.signed_as(signing_name) if signing_name else []
        return any(s.operation(word) for s in services for word in prefix.split("."))

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
        name = _ENDPOINT_SIGNING_NAMES.get(signing_name, signing_name)
        signed = [s for s in candidates if s.signing_name == name]
        return signed or self._catalog.query_services(name)

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
            if is_function_host(request.headers.get("host", "")):
                return NOTHING
            for name in _UNSIGNED_REST:
                route = _route_in([self._catalog.services[name]], request)
                if route is not None and route.model and route.model.auth_type == "none":
                    return route
            return self._s3(request, s3)
        if self._is_s3_control(request, signing_name):
            return _route_in([self._catalog.services["s3control"]], request) or NOTHING
        if signing_name in S3_NAMES:
            of_outposts = self._of_outposts(request, signing_name)
            return of_outposts or self._s3(request, s3, signing_name)
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
        needed = _MADE_BY_QUERY.get(route.operation or "") if route else None
        if route is None or (needed is not None and needed not in dict(parse_qsl(request.query))):
            return _other_s3_post(s3, request, path) or Route(
                s3, None, "rest-xml", _s3_labels(path)
            )
        if signing_name == "s3express" and route.operation == "ListBuckets":
            return Route(s3, "ListDirectoryBuckets", "rest-xml")
        return route

    def _of_outposts(self, request: Request, signing_name: str) -> Route | None:
        """Returns the call of S3 on Outposts that manages endpoints, None for one to a bucket."""
        if signing_name != "s3-outposts" or self._is_on_outpost(request):
            return None
        return _route_in(self._catalog.signed_as(signing_name), request)

    def _is_on_outpost(self, request: Request) -> bool:
        """Returns whether a call signed for outposts is one for a bucket."""
        host = _host_name(request.headers.get("host", ""))
        return _LABELS_BY_SIGNER["s3-outposts"].match(host) is not None

    def bucket_of_host(self, host: str, signing_name: str | None = None) -> str | None:
        """Returns the bucket of a virtual-host style request, None for path style.

        An access point counts as a bucket. Host names have no case.
        """
        return self.read_host(host, signing_name).bucket

    def read_host(self, host: str, signing_name: str | None = None) -> S3Host:
        """Returns the reading of a `Host` header."""
        is_short = len(host) + len(signing_name or "") <= _MAX_NAME
        read = self._host if is_short else self._read_host
        return read(host, signing_name)

    def _read_host(self, host: str, signing_name: str | None) -> S3Host:
        name = _host_name(host).lower()
        exact = KnownBy.NAME if _PLAIN_HOST.fullmatch(host) else KnownBy.LABEL
        for domain in self._domains:
            if name == domain:
                return S3Host(None, exact)
            if name.endswith(f".{domain}"):
                return S3Host(name[: -len(domain) - 1], exact)
        match = _INTERFACE_ENDPOINT.match(name) or _AWS_S3_HOST.match(name)
        if match is None and _AWS_S3_BASE.match(name):
            return S3Host(None, exact)
        if match or is_aws_host(name):
            return S3Host(match.group("bucket") if match else None, KnownBy.AWS)
        if signing_name in _LABELS_BY_SIGNER:
            match = _LABELS_BY_SIGNER[signing_name].match(name)
        match = _BEFORE_ADDRESS.match(name) or match
        if match and match.group("bucket"):
            return S3Host(match.group("bucket"), KnownBy.LABEL)
        if match or "." not in name or _SERVICE_HOST.fullmatch(name):
            return S3Host(None, exact)
        return self._read_name(name, exact)

    def _read_name(self, name: str, exact: KnownBy) -> S3Host:
        for base in self._base_hosts:
            if name == base:
                return S3Host(None, exact)
            if name.endswith(f".{base}"):
                labels = _S3_LABELS.fullmatch(name[: -len(base) - 1])
                return S3Host(labels and labels["bucket"], KnownBy.LABEL)
        return S3Host(None, KnownBy.NOTHING)


def _conflict_of_signer(route: Route, request: Request, signing_name: str) -> str | None:
    """Returns why a call for S3's other signing names may be one to a common bucket."""
    if signing_name == "s3" or route.service is None or route.service.name != "s3":
        return None
    bucket = unquote(route.labels.get("Bucket", ""))
    host = _host_name(request.headers.get("host", ""))
    if bucket.startswith("arn:"):
        is_its = f":{signing_name}:" in bucket
    elif signing_name == "s3express":
        is_its = bucket.endswith(_DIRECTORY_BUCKETS) or route.operation == "ListDirectoryBuckets"
    else:
        is_its = _LABELS_BY_SIGNER[signing_name].match(host) is not None
    is_its = is_its or route.operation == "WriteGetObjectResponse"
    return None if is_its else f"a call signed for {signing_name} to a bucket of S3"


def _conflict_of_body_call(request: Request) -> str | None:
    """Returns why a call whose operation a header names may be read as a call to S3.

    SDKs send it as a POST without a query, in which S3 reads nothing but a form's upload.
    """
    if request.method != "POST" or request.query:
        return "a call with X-Amz-Target or smithy-protocol must be a POST without a query"
    if "multipart/" in request.headers.get("content-type", "").lower():
        return "it may be an upload to S3"
    return None


def is_function_host(host: str) -> bool:
    """Returns whether a `Host` header names an emulator's function, API or load balancer."""
    return _FUNCTION_HOST.match(host) is not None


def is_aws_host(name: str) -> bool:
    """Returns whether a host name is AWS's own."""
    return name.endswith(_AWS_DOMAINS)


def _host_name(host: str) -> str:
    """Returns the name of a `Host` header, without its port."""
    name = host.rpartition(":")[0] if re.search(r":\d+\Z", host) else host
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


def _other_s3_post(s3: Service, request: Request, path: str) -> Route | None:
    """Returns the call of a POST to S3 that the model does not describe."""
    if request.method != "POST":
        return None
    bucket = path.split("/")[1]
    if "delete" in dict(parse_qsl(request.query, keep_blank_values=True)):
        # SeaweedFS deletes the objects in the body, whatever follows the bucket.
        return best_route([s3], request, f"/{bucket}")
    is_form = "multipart/form-data" in request.headers.get("content-type", "")
    if is_form and path.strip("/") == bucket:
        return Route(s3, "PostObject", "rest-xml", {"Bucket": bucket})
    return None


def _s3_labels(path: str) -> dict[str, str]:
    """Returns bucket and key in the path of an unknown operation."""
    bucket, _, key = path[1:].partition("/")
    return {name: text for name, text in (("Bucket", bucket), ("Key", key)) if text}


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
        pattern=re.compile(rf"^{''.join(pieces)}/?\Z", re.S),
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
