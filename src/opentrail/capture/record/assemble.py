"""From an exchange to CloudTrail's record of it.

`Assembler` makes a record in this order: identity, parameters, error, answer, place, resources;
then the record's members in AWS's order, further records of the call, and the size limits. Each
step fills in members of a `Draft`. A `Form` holds the exceptions of S3 and EC2. The JSON bytes are
made once, here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opentrail.capture.record.client_address import Networks
from opentrail.capture.record.ec2_form import ec2_answer, ec2_parameters
from opentrail.capture.record.exchange import Exchange, Signature
from opentrail.capture.record.model_form import (
    decode_parameters,
    model_answer,
    model_parameters,
)
from opentrail.capture.record.resources import resources_of
from opentrail.capture.record.s3_form import (
    Deletion,
    additional_data,
    decode_s3_values,
    deletion_in,
    s3_answer,
    s3_parameters,
    s3_place,
)
from opentrail.capture.record_limits import (
    MAX_NAME_LENGTH,
    MAX_OWNERS,
    MAX_REASON_LENGTH,
    MAX_REGION_LENGTH,
    MAX_RESOURCES,
    MAX_TEXT_BYTES,
    encode_record,
    truncate,
)
from opentrail.capture.record_rules import (
    OperationTraits,
    has_s3_form,
    is_signing_name,
    rules,
    traits_of,
    traits_of_custom_service,
)
from opentrail.capture.redaction import redact_message, without_words_of
from opentrail.core.event import (
    EVENT_VERSION,
    MANAGEMENT,
    Json,
    NewEntry,
    format_time,
    is_account,
    is_region,
    new_event_id,
)
from opentrail.core.identity import (
    ANONYMOUS,
    DEFAULT_ACCOUNT,
    Identity,
    account_in,
    account_of_key,
    federated_caller,
    identity_by_arn,
    unknown,
)
from opentrail.core.secrets.embedded import redact, search_limit
from opentrail.core.text import cached_if_short
from opentrail.core.trail import GLOBAL_REGION
from opentrail.core.user_agents import read_agent
from opentrail.core.value_class import value_class
from opentrail.wire.message import Request, Response
from opentrail.wire.responses import WireError, decode_answer, read_error, request_id
from opentrail.wire.routing import Route
from opentrail.wire.service_models import Service
from opentrail.wire.sigv4 import Credential, signing_texts

log = logging.getLogger(__name__)

#: The note on an unknown caller's key.
UNVERIFIED = "unverified: neither the directory nor a recorded call says whose key this is"
#: Members of `additionalEventData.opentrail`.
Notes = Json


def _nothing_more(_exchange: Exchange, _category: str) -> Json:
    return {}


def _no_deletion(_exchange: Exchange, _notes: Notes) -> Deletion | None:
    return None


@dataclass(frozen=True, slots=True)
class Form:
    """The recording of a service's calls; these raise ValueError for undecodable input.

    Attributes:
        parameters: returns `requestParameters`; adds notes.
        decode: returns the parameters with their secrets, None if it cannot.
        answer: returns `responseElements` of a successful call.
        additional: returns members of `additionalEventData`.
        deletion: returns the deleted objects; each has a record.
    """

    parameters: Callable[[Route, Request, Notes], Json | None]
    decode: Callable[[Route, Request], Json | None]
    answer: Callable[[Route, Response], Json | None]
    additional: Callable[[Exchange, str], Json] = _nothing_more
    deletion: Callable[[Exchange, Notes], Deletion | None] = _no_deletion


_MODEL = Form(model_parameters, decode_parameters, model_answer)
_EC2 = Form(ec2_parameters, decode_parameters, ec2_answer)
_S3 = Form(s3_parameters, decode_s3_values, s3_answer, additional_data, deletion_in)


def _form_of(service: Service | None) -> Form:
    if service is None:
        return _MODEL
    if has_s3_form(service.name):
        return _S3
    return _EC2 if service.name == "ec2" else _MODEL


@value_class(frozen=True, slots=True)
class Assembled:
    """A record as an object and in its journal form.

    `more` are further records of the call: for other accounts that own its resources, and for each
    object to delete.
    """

    record: Mapping[str, Any]
    entry: NewEntry
    decoded: bool
    more: tuple[NewEntry, ...] = ()


@dataclass(slots=True)
class Draft:
    """A record under construction."""

    exchange: Exchange
    traits: OperationTraits
    form: Form
    notes: Notes
    identity: Json
    account: str
    parameters: Json | None = None
    deletion: Deletion | None = None
    #: `errorCode` and `errorMessage`.
    error: dict[str, str] = field(default_factory=dict)
    answer: Json | None = None
    region: str = GLOBAL_REGION
    resources: list[dict[str, str]] | None = None


class Assembler:
    """Makes records.

    Args:
        resolve: returns the identity behind an access key id.
        networks: trusted proxies and VPC endpoints, or None.
        known_account: returns the upstream's own account; None until known.
    """

    def __init__(
        self,
        resolve: Callable[[str], Identity],
        networks: Networks | None = None,
        known_account: Callable[[], str | None] = lambda: DEFAULT_ACCOUNT,
    ) -> None:
        self._resolve = resolve
        self._networks = networks
        self._known_account = known_account

    def identity(self, access_key_id: str) -> Identity:
        """Returns the identity behind an access key id."""
        return self._resolve(truncate(access_key_id))

    def caller(self, exchange: Exchange) -> tuple[str, str]:
        """Returns the account and Region of a call."""
        region, _ = region_of_head(_traits(exchange), exchange.credential)
        described = exchange.described
        return self._identity(exchange, {})[1], described.region if described else region

    @search_limit()
    def assemble(self, exchange: Exchange) -> Assembled:
        """Returns the record of `exchange`, with a note of undecodable parts."""
        try:
            return self._assemble(exchange)
        except Exception as error:
            log.exception("a call could not be decoded", extra={"eventID": exchange.event_id})
            notes = {"decodeError": f"unexpected {type(error).__name__}"}
        undecoded = replace(exchange, route=Route(exchange.route.service, None, None), notes=notes)
        return self._assemble(undecoded)

    def _assemble(self, exchange: Exchange) -> Assembled:
        notes = dict(exchange.notes)
        identity, account = self._identity(exchange, notes)
        form = _form_of(exchange.route.service)
        draft = Draft(exchange, _traits(exchange), form, notes, identity, account)
        _add_parameters(draft)
        if draft.traits.event_name == "AssumeRole" and exchange.credential is not None:
            _add_incoming_tags(draft, self.identity(exchange.credential.access_key_id))
        _add_error(draft)
        _add_answer(draft)
        if draft.identity.get("type") == "Unknown" and not draft.error:
            self._name_caller(draft)
        _add_place(draft)
        _add_resources(draft)
        return _assembled(draft, self._record(draft))

    def _identity(self, exchange: Exchange, notes: Notes) -> tuple[Json, str]:
        """Returns `userIdentity` and the account of the caller."""
        if exchange.described is not None:
            return dict(exchange.described.identity), exchange.described.account
        if exchange.signature is not Signature.NOT_CHECKED:
            notes["verified"] = exchange.signature is Signature.VERIFIED
        if exchange.credential is None:
            return dict(ANONYMOUS), self.account
        key_id = truncate(exchange.credential.access_key_id)
        if exchange.signature is Signature.REFUSED:
            # The record names the key but not its owner, who need not have made the call.
            account = account_of_key(key_id) or self.account
            return unknown(account, key_id).as_record(), account
        identity = exchange.identity or self._resolve(key_id)
        if identity.user_identity.get("type") == "Unknown":
            notes["identity"] = UNVERIFIED
        elif identity.deleted_by is not None:
            notes["identity"] = f"this access key was deleted: event {identity.deleted_by}"
        if identity.agent_tag is not None:
            notes["agentTag"] = identity.agent_tag
        return identity.as_record(), identity.account

    @property
    def account(self) -> str:
        """The account of callers whose key names none."""
        return self._known_account() or DEFAULT_ACCOUNT

    def _name_caller(self, draft: Draft) -> None:
        """Names an unknown caller, or its account, from the upstream's answer."""
        exchange = draft.exchange
        if draft.traits.event_name == "GetCallerIdentity" and exchange.credential is not None:
            answer = _decoded_answer(exchange) or {}
            arn, user_id = str(answer.get("Arn")), str(answer.get("UserId"))
            identity = identity_by_arn(truncate(exchange.credential.access_key_id), arn, user_id)
            if identity is not None:
                draft.identity, draft.account = identity.as_record(), identity.account
                draft.notes.pop("identity", None)
        elif self._known_account() is None and (account := account_in(draft.answer)):
            draft.identity["accountId"] = draft.account = account

    def _record(self, draft: Draft) -> Json:
        """Returns the record's members in AWS's order."""
        exchange, traits = draft.exchange, draft.traits
        record: Json = {
            "eventVersion": EVENT_VERSION,
            "userIdentity": draft.identity,
            "eventTime": format_time(exchange.completed_at),
            "eventSource": traits.event_source,
            "eventName": traits.event_name,
            "awsRegion": draft.region,
            "sourceIPAddress": exchange.source_ip,
        }
        if user_agent := _user_agent(exchange.request.headers.get("user-agent", "")):
            # S3 writes user agents in brackets, no other service does (268 of 282 real records).
            in_brackets = traits.source.startswith("s3")
            record["userAgent"] = f"[{user_agent}]" if in_brackets else user_agent
        record.update(draft.error)
        record["requestParameters"] = draft.parameters or None
        record["responseElements"] = draft.answer or None
        session = draft.identity.get("sessionContext")
        source_identity = session.get("sourceIdentity") if session.__class__ is dict else None
        agent = read_agent(
            user_agent,
            str(draft.identity.get("arn"))[:MAX_TEXT_BYTES],
            str(source_identity or "")[:MAX_TEXT_BYTES],
            draft.notes.get("agentTag", ""),
        )
        if agent is not None:
            draft.notes["agent"] = agent
        extra = draft.form.additional(exchange, traits.category)
        if draft.notes:
            extra["opentrail"] = draft.notes
        if extra:
            record["additionalEventData"] = extra
        record["requestID"] = _request_id(exchange)
        record["eventID"] = exchange.event_id
        record["readOnly"] = traits.is_read_only
        if draft.resources:
            record["resources"] = draft.resources
        record["eventType"] = "AwsApiCall"
        if traits.api_version:
            record["apiVersion"] = traits.api_version
        record["managementEvent"] = traits.category == MANAGEMENT
        record["recipientAccountId"] = draft.account
        if _other_owners(draft):
            record["sharedEventID"] = new_event_id()
        if self._networks is not None:
            record.update(_vpc_endpoint(self._networks, draft))
        record["eventCategory"] = traits.category
        if exchange.tls is not None:
            host = exchange.request.headers.get("host", "")
            record["tlsDetails"] = {**exchange.tls, "clientProvidedHostHeader": host}
        return record


def _vpc_endpoint(networks: Networks, draft: Draft) -> dict[str, str]:
    endpoint = networks.endpoint_of(draft.exchange.source_ip)
    if endpoint is None:
        return {}
    account = endpoint.account or draft.account
    return {"vpcEndpointId": endpoint.id, "vpcEndpointAccountId": account}


@cached_if_short(MAX_TEXT_BYTES, 512)
@search_limit()  # separate: a call's remaining limit must not affect the cache
def _user_agent(text: str) -> str:
    """Returns a user agent without secrets."""
    return truncate(redact(text))


# Operation


def signed_as(credential: Credential | None) -> str | None:
    """Returns the service that a call is signed for; None for an overlong one."""
    if credential is None or credential.service is None:
        return None
    return credential.service[:MAX_NAME_LENGTH]


def region_of_head(
    traits: OperationTraits, credential: Credential | None
) -> tuple[str, str | None]:
    """Returns the call's Region, and a malformed one found in its place."""
    if traits.is_global or credential is None or not credential.region:
        return GLOBAL_REGION, None
    if is_region(credential.region):
        return credential.region, None
    return GLOBAL_REGION, credential.region


def _traits(exchange: Exchange) -> OperationTraits:
    if exchange.described is not None:
        described = exchange.described
        return traits_of_custom_service(
            described.event_source, described.event_name, described.is_read_only
        )
    route = exchange.route
    return traits_of(route.service, route.operation, signed_as(exchange.credential))


# Parameters


def _add_parameters(draft: Draft) -> None:
    exchange, notes = draft.exchange, draft.notes
    if exchange.described is not None:
        draft.parameters = exchange.described.parameters
        return
    route, request = exchange.route, exchange.request
    try:
        if route.service is not None and route.operation is not None:
            draft.parameters = draft.form.parameters(route, request, notes)
        else:
            notes.setdefault("decodeError", "the operation is not known")
            notes["request"] = {"method": request.method, "path": request.path}
            if route.labels and route.service is not None and route.service.name == "s3":
                draft.parameters = s3_place(route, request)
    except (ValueError, RecursionError) as error:
        notes["decodeError"] = str(error)[:MAX_REASON_LENGTH]
        notes["request"] = {"method": request.method, "path": request.path}
    draft.deletion = draft.form.deletion(exchange, notes)


# Error


def _add_error(draft: Draft) -> None:
    error = _error(draft.exchange)
    if error is None:
        return
    draft.error["errorCode"] = truncate(_error_code(draft.exchange, error.code))
    if error.message and (message := _without_secrets(error.message, draft)):
        draft.error["errorMessage"] = truncate(message)


def _error(exchange: Exchange) -> WireError | None:
    """Returns the answer's error, else why the call broke off; None for a successful call."""
    error, failure = _answered_error(exchange), exchange.failure
    if failure is None:
        return error
    if error is None:
        return WireError(failure.code, failure.message)
    return error if error.message else WireError(error.code, failure.message)


def _answered_error(exchange: Exchange) -> WireError | None:
    if exchange.described is not None:
        code = exchange.described.error
        return WireError(code, None) if code else None
    if exchange.response is None:
        return None
    return read_error(exchange.route, exchange.response, exchange.request.query)


@search_limit()  # separate: a large failed call needs its message most
def _without_secrets(message: str, draft: Draft) -> str:
    """Returns an error message without values of the call that its record hides."""
    route, request = draft.exchange.route, draft.exchange.request
    parameters: Json | None = None
    with contextlib.suppress(ValueError, RecursionError):
        parameters = draft.form.decode(route, request) if route.service is not None else None
    if parameters is None:
        body = request.body + b"\n" + request.query.encode("utf-8", "replace")
        message = without_words_of(body, message, f"{request.path} {route.operation}")
    return redact_message(message, parameters, draft.parameters, list(signing_texts(request)))


def _error_code(exchange: Exchange, code: str) -> str:
    """Returns an error code as CloudTrail spells it (cloudtrail-format §2.5)."""
    if code == "AccessDeniedException":
        return "AccessDenied"
    service, spelling = exchange.route.service, rules("names")["error_code"]
    if service is None:
        return code
    if service.name in spelling["client_prefix"] and "." not in code[:7]:
        return f"Client.{code}"
    if service.name in spelling["shape_name"]:
        shape = service.error_shape(code)
        return str(shape.name) if shape is not None else code
    return code


def _add_incoming_tags(draft: Draft, caller: Identity) -> None:
    """Adds the tags that a session passes on when it assumes another role, in AWS's form."""
    if caller.transitive_tags and draft.parameters is not None:
        kept = {"incomingTransitiveTags": dict(caller.transitive_tags)}
        draft.parameters = {**kept, **draft.parameters}


# Answer


def _add_answer(draft: Draft) -> None:
    """Adds `responseElements`, for successful writes only (cloudtrail-format §2.5).

    The answer to an unsigned call such as AssumeRoleWithSAML also names the caller.
    """
    exchange = draft.exchange
    draft.answer = _answer(draft)
    if exchange.credential is None and exchange.described is None:
        name = draft.traits.event_name
        token = _web_identity_token(exchange) if name == "AssumeRoleWithWebIdentity" else None
        caller = federated_caller(name, draft.parameters, draft.answer, token)
        if caller is not None:
            draft.identity, draft.account = caller[0], caller[1] or draft.account


def _web_identity_token(exchange: Exchange) -> object:
    """Returns the token of a request, which is never recorded."""
    with contextlib.suppress(ValueError, RecursionError):
        given = decode_parameters(exchange.route, exchange.request)
        return given.get("WebIdentityToken") if given else None
    return None


def _answer(draft: Draft) -> Json | None:
    route, response = draft.exchange.route, draft.exchange.response
    if response is None or draft.error or not draft.traits.keeps_answer:
        return None
    try:
        return draft.form.answer(route, response)
    except (ValueError, RecursionError) as error:
        draft.notes["answerDecodeError"] = str(error)[:MAX_REASON_LENGTH]
        return None


# Place


def _add_place(draft: Draft) -> None:
    """Adds the Region; notes flaws of the credential's scope and why the call broke off."""
    exchange, notes = draft.exchange, draft.notes
    credential = exchange.credential
    if exchange.described is not None:
        draft.region = exchange.described.region
    else:
        draft.region, odd = region_of_head(draft.traits, credential)
        if odd is not None:  # guarantee N6
            notes["region"] = odd[:MAX_REGION_LENGTH]
    if credential is not None:
        if credential.flaw is not None:
            notes["credentialScope"] = credential.flaw
        signed_as = credential.service
        if exchange.route.service is None and signed_as and not is_signing_name(signed_as):
            notes["service"] = truncate(signed_as)
    if exchange.failure:
        notes["failure"] = redact(exchange.failure.message)


# Resources


def _add_resources(draft: Draft) -> None:
    """Adds `resources`; first moves parameters that AWS omits for failed calls to a note."""
    if draft.parameters and draft.error.get("errorCode") in draft.traits.parameters_left_out:
        draft.notes["requestParameters"], draft.parameters = draft.parameters, None
    answer = draft.answer
    if draft.traits.reads_answer and not draft.error:
        answer = _decoded_answer(draft.exchange) or answer
    source, parameters = draft.traits.source, draft.parameters or {}
    route, region, account = draft.exchange.route, draft.region, draft.account
    resources = resources_of(route, source, parameters, answer, region, account)
    if len(resources) > MAX_RESOURCES:
        draft.notes["resourcesLeftOut"] = len(resources) - MAX_RESOURCES
    draft.resources = resources[:MAX_RESOURCES]


def _decoded_answer(exchange: Exchange) -> Json | None:
    """Returns the elements of an answer that names resources, such as KMS's key."""
    if exchange.response is None:
        return None
    try:
        return decode_answer(exchange.route, exchange.response)
    except (ValueError, RecursionError):
        return None


# The record and the further records of its call


def _request_id(exchange: Exchange) -> str:
    """Returns the upstream's id of the request, or a new one."""
    response, text = exchange.response, None
    if response is not None and exchange.described is not None:
        text = response.headers.get("x-request-id")
    elif response is not None:
        text = request_id(response)
    return truncate(text) if text else new_event_id()


def _assembled(draft: Draft, record: Json) -> Assembled:
    """Makes the bytes of the record and of further records of its call."""
    exchange, notes = draft.exchange, draft.notes
    parts: Sequence[tuple[str, bytes]] = ()
    if draft.deletion is not None:
        parts = draft.deletion.records(record, exchange.response, notes)
    entry = NewEntry(
        exchange.origin,
        exchange.completed_at,
        draft.account,
        draft.region,
        draft.traits.category,
        exchange.event_id,
        encode_record(record),
    )
    more: list[NewEntry] = []
    if "sharedEventID" in record:
        more = [_copy(record, entry, owner) for owner in _other_owners(draft)]
    for event_id, raw in parts:
        more.append(replace(entry, event_id=event_id, record=raw))
    return Assembled(record, entry, "decodeError" not in notes, tuple(more))


def _other_owners(draft: Draft) -> list[str]:
    """Returns the other accounts that own resources of a successful call."""
    if draft.error or not draft.resources:
        return []
    owners = dict.fromkeys(resource.get("accountId", draft.account) for resource in draft.resources)
    others = [owner for owner in owners if owner != draft.account and is_account(owner)]
    return others[:MAX_OWNERS]


def _copy(record: Mapping[str, Any], entry: NewEntry, owner: str) -> NewEntry:
    """Returns the record for an owner of the call's resources.

    It shows only the caller's account and principal; `sharedEventID` joins the two records.
    """
    event_id, caller = new_event_id(), record["userIdentity"]
    identity = {
        "type": "AWSAccount",
        "principalId": caller.get("principalId", ""),
        "accountId": record["recipientAccountId"],
    }
    owned = [resource for resource in record["resources"] if resource.get("accountId") == owner]
    copied = {
        **record,
        "userIdentity": identity,
        "eventID": event_id,
        "resources": owned,
        "recipientAccountId": owner,
    }
    return replace(entry, account=owner, event_id=event_id, record=encode_record(copied))
