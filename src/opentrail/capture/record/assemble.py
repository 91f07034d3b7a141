"""From an exchange to a complete CloudTrail record, its bytes made once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from opentrail.capture.record import ec2_form, s3_form
from opentrail.capture.record.deleted_objects import deletion_in
from opentrail.capture.record.event_ids import new_event_id
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.limits import cut, limited
from opentrail.capture.record.networks import Networks
from opentrail.capture.record.render import lower_first, renderers
from opentrail.capture.record.resources import touched_resources
from opentrail.capture.record.response import (
    add_error,
    answer_of,
    error_of,
    is_secret,
    request_id_of,
    told_by_answer,
)
from opentrail.capture.record.rules import (
    OperationTraits,
    has_s3_form,
    is_signer,
    kind_of,
    own_kind,
)
from opentrail.capture.redaction.embedded import within
from opentrail.capture.redaction.redact import by_name, scrubbed, without_words_of
from opentrail.core.event import (
    EVENT_VERSION,
    MANAGEMENT,
    NewEntry,
    format_time,
    is_account,
    is_region,
)
from opentrail.core.identity import ANONYMOUS, DEFAULT_ACCOUNT, Identity, federated_caller
from opentrail.core.trail import GLOBAL_REGION
from opentrail.core.values import value_class
from opentrail.wire.protocols import (
    decode_request,
    repeated_fields,
)
from opentrail.wire.routing import Call
from opentrail.wire.sigv4 import signing_texts

log = logging.getLogger(__name__)

#: Longer names are the caller's own.
_LONGEST_NAME = 256
#: Of what is no Region, so much is shown.
_SHOWN_REGION = 64
#: A call names at most so many resources in its record, and is shared with so many accounts.
_MOST_RESOURCES, _MOST_OWNERS = 250, 20
#: Noted where nobody knows who is behind a key.
UNVERIFIED = "unverified: neither the directory nor a recorded call says whose key this is"


@value_class(frozen=True, slots=True)
class Assembled:
    """A record as an object, and ready for the journal.

    `more` are further records of the call: for other accounts whose resources were touched, and of
    each object that was to be deleted.
    """

    record: Mapping[str, Any]
    entry: NewEntry
    decoded: bool
    more: tuple[NewEntry, ...] = ()


class Assembler:
    """Makes records. `resolve` tells whom an access key id stands for."""

    def __init__(
        self,
        resolve: Callable[[str], Identity],
        default_account: str = DEFAULT_ACCOUNT,
        networks: Networks | None = None,
    ) -> None:
        self._resolve = resolve
        self._networks = networks or Networks()
        self._default_account = default_account

    def identity(self, access_key_id: str) -> Identity:
        """Returns whom an access key id stands for."""
        return self._resolve(access_key_id)

    def caller(self, exchange: Exchange) -> tuple[str, str]:
        """Returns account and Region that a call is made in."""
        return self._identity(exchange, {})[1], _region(exchange, _kind(exchange), {})

    def assemble(self, exchange: Exchange) -> Assembled:
        """Returns the record of `exchange`; whatever cannot be decoded is noted in our block."""
        try:
            return self._assemble(exchange)
        except Exception as error:
            log.exception("a call could not be decoded", extra={"eventID": exchange.event_id})
            notes = {"decodeError": f"unexpected {type(error).__name__}"}
        undecoded = replace(exchange, call=Call(exchange.call.service, None, None), notes=notes)
        return self._assemble(undecoded)

    def _assemble(self, exchange: Exchange) -> Assembled:
        own: dict[str, Any] = dict(exchange.notes)
        kind = _kind(exchange)
        label = kind.label
        identity, account = self._identity(exchange, own)
        error = error_of(exchange)
        parameters = _parameters(exchange, own)
        deletion = deletion_in(exchange, own)
        if error is not None and error.message:
            error = replace(error, message=_told(error.message, exchange, parameters))
        answer = answer_of(exchange, kind, error, own)
        if exchange.credential is None and exchange.described is None:
            identity, account = _unsigned_caller(kind.name, parameters, answer, identity, account)
        region = _region(exchange, kind, own)
        _note_scope(exchange, own)
        record: dict[str, Any] = {
            "eventVersion": EVENT_VERSION,
            "userIdentity": identity,
            "eventTime": format_time(exchange.completed_at),
            "eventSource": kind.source,
            "eventName": kind.name,
            "awsRegion": region,
            "sourceIPAddress": exchange.source_ip,
        }
        _add_agent(record, exchange, label)
        add_error(record, exchange, error, own)
        if parameters and record.get("errorCode") in kind.parameters_left_out:
            own["requestParameters"], parameters = parameters, None
        record["requestParameters"] = parameters or None
        record["responseElements"] = answer or None
        told = told_by_answer(exchange) if kind.reads_answer and error is None else None
        touched = touched_resources(
            exchange.call, label, parameters or {}, told or answer, region, account
        )
        touched = _few(touched, own)
        extra = _additional(exchange, kind.category)
        if own:
            extra["opentrail"] = own
        if extra:
            record["additionalEventData"] = extra
        record["requestID"] = request_id_of(exchange)
        record["eventID"] = exchange.event_id
        record["readOnly"] = kind.is_read_only
        if touched:
            record["resources"] = touched
        record["eventType"] = "AwsApiCall"
        if kind.api_version:
            record["apiVersion"] = kind.api_version
        record["managementEvent"] = kind.category == MANAGEMENT
        record["recipientAccountId"] = account
        owners = _other_owners(touched, account) if error is None else []
        if owners:
            record["sharedEventID"] = new_event_id()
        _add_way_in(record, exchange, self._networks)
        record["eventCategory"] = kind.category
        if exchange.tls is not None:
            host = exchange.request.headers.get("host", "")
            record["tlsDetails"] = {**exchange.tls, "clientProvidedHostHeader": host}
        parts = deletion.records(record, exchange.response, own) if deletion is not None else []
        raw = limited(record)
        entry = NewEntry(
            exchange.origin,
            exchange.completed_at,
            account,
            region,
            kind.category,
            exchange.event_id,
            raw,
        )
        more = [_copy(record, entry, owner) for owner in owners]
        more += [replace(entry, event_id=event_id, record=part) for event_id, part in parts]
        return Assembled(record, entry, "decodeError" not in own, tuple(more))

    def _identity(self, exchange: Exchange, own: dict[str, Any]) -> tuple[dict[str, Any], str]:
        if exchange.described is not None:
            return dict(exchange.described.identity), exchange.described.account
        if exchange.credential is None:
            return dict(ANONYMOUS), self._default_account
        identity = self._resolve(cut(exchange.credential.access_key_id))
        if identity.user_identity.get("type") == "Unknown":
            own["identity"] = UNVERIFIED
        elif identity.deleted_by is not None:
            own["identity"] = f"this access key was deleted: event {identity.deleted_by}"
        return identity.as_record(), identity.account


def _add_agent(record: dict[str, Any], exchange: Exchange, label: str) -> None:
    agent = _shown_agent(exchange.request.headers.get("user-agent", ""))
    if agent:
        # S3 wraps user agents in brackets, nobody else does (268 of 282 real records).
        record["userAgent"] = f"[{agent}]" if label.startswith("s3") else agent


@lru_cache(256)
def _shown_agent(text: str) -> str:
    return cut(within(text))


def _add_way_in(record: dict[str, Any], exchange: Exchange, networks: Networks) -> None:
    entrance = networks.endpoint_of(exchange.source_ip)
    if entrance is not None:
        record["vpcEndpointId"] = entrance.id
        record["vpcEndpointAccountId"] = entrance.account or record["recipientAccountId"]


def _unsigned_caller(
    name: str,
    parameters: Mapping[str, Any] | None,
    answer: Mapping[str, Any] | None,
    identity: dict[str, Any],
    account: str,
) -> tuple[dict[str, Any], str]:
    """Returns the caller and account of an unsigned call: what a token tells, else as given."""
    told = federated_caller(name, parameters, answer)
    return (identity, account) if told is None else (told[0], told[1] or account)


def _few(touched: list[dict[str, str]], own: dict[str, Any]) -> list[dict[str, str]]:
    if len(touched) > _MOST_RESOURCES:
        own["resourcesLeftOut"] = len(touched) - _MOST_RESOURCES
    return touched[:_MOST_RESOURCES]


def _other_owners(touched: list[dict[str, str]], account: str) -> list[str]:
    owners = dict.fromkeys(resource.get("accountId", account) for resource in touched)
    return [owner for owner in owners if owner != account and is_account(owner)][:_MOST_OWNERS]


def _copy(record: Mapping[str, Any], entry: NewEntry, owner: str) -> NewEntry:
    """Returns the record that the owner of a touched resource gets, as AWS writes it.

    Of the caller it shows the account and the principal only; `sharedEventID` joins the two.
    """
    event_id, caller = new_event_id(), record["userIdentity"]
    shown = {
        "type": "AWSAccount",
        "principalId": caller.get("principalId", ""),
        "accountId": record["recipientAccountId"],
    }
    theirs = [one for one in record["resources"] if one.get("accountId") == owner]
    copied = {
        **record,
        "userIdentity": shown,
        "eventID": event_id,
        "resources": theirs,
        "recipientAccountId": owner,
    }
    return replace(entry, account=owner, event_id=event_id, record=limited(copied))


def _kind(exchange: Exchange) -> OperationTraits:
    if exchange.described is not None:
        told = exchange.described
        return own_kind(told.event_source, told.event_name, told.is_read_only)
    call, credential = exchange.call, exchange.credential
    kind = kind_of(call.service, call.operation, credential.service if credential else None)
    if len(kind.name) > _LONGEST_NAME or len(kind.source) > _LONGEST_NAME:
        return replace(kind, source=cut(kind.source), name=cut(kind.name))
    return kind


def _region(exchange: Exchange, kind: OperationTraits, own: dict[str, Any]) -> str:
    """Returns the call's Region; whatever else stands in its place is only shown (guarantee N6)."""
    if exchange.described is not None:
        return exchange.described.region
    if kind.is_global or exchange.credential is None or not exchange.credential.region:
        return GLOBAL_REGION
    region = exchange.credential.region
    if is_region(region):
        return region
    own["region"] = region[:_SHOWN_REGION]
    return GLOBAL_REGION


def _note_scope(exchange: Exchange, own: dict[str, Any]) -> None:
    """Notes what is wrong with the scope of a credential, and a service that is none."""
    credential = exchange.credential
    if credential is None:
        return
    if credential.flaw is not None:
        own["credentialScope"] = credential.flaw
    if exchange.call.service is None and credential.service and not is_signer(credential.service):
        own["service"] = cut(credential.service)


def _parameters(exchange: Exchange, own: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the parameters as they are recorded."""
    if exchange.described is not None:
        return exchange.described.parameters
    call, request = exchange.call, exchange.request
    if call.service is None or call.operation is None:
        own.setdefault("decodeError", "the operation is not known")
        own["request"] = {"method": request.method, "path": request.path}
        return None
    notes: list[str] = []
    try:
        if has_s3_form(call.service.name):
            own.update(s3_form.own_details(request))
            return s3_form.s3_parameters(call, request)
        if call.service.name == "ec2":
            notes = repeated_fields(call, request)
            shown: Any = ec2_form.ec2_parameters(call, request)
        else:
            given, notes = decode_request(call, request)
            shown = _rendered(call, given)
    except (ValueError, RecursionError) as error:
        own["decodeError"] = str(error)[:300]
        own["request"] = {"method": request.method, "path": request.path}
        return None
    for note in notes:
        own[note] = True
    return shown if isinstance(shown, dict) else None


def _told(message: str, exchange: Exchange, parameters: dict[str, Any] | None) -> str:
    """Returns an error's text without what the call gave and its record does not show."""
    call, request = exchange.call, exchange.request
    never = list(signing_texts(request))
    given: dict[str, Any] | None = None
    with contextlib.suppress(ValueError, RecursionError):
        if call.service is not None and has_s3_form(call.service.name):
            given = s3_form.given(call, request)
        elif call.service is not None and call.operation is not None:
            given = decode_request(call, request)[0]
    if given is None:
        body = request.body + b"\n" + request.query.encode("utf-8", "replace")
        message = without_words_of(body, message, f"{request.path} {call.operation}")
    return scrubbed(message, given, parameters, never)


def _rendered(call: Call, decoded: dict[str, Any]) -> Any:
    model = call.model
    if call.service is None or model is None or model.input_shape is None:
        return by_name(decoded, lower_first)
    if is_secret(model.input_shape):
        return None
    return renderers(call.service).render(model.input_shape, decoded)


def _additional(exchange: Exchange, category: str) -> dict[str, Any]:
    """Returns `additionalEventData`, which S3 records have (cloudtrail-format §2.7)."""
    if exchange.call.service is None or not has_s3_form(exchange.call.service.name):
        return {}
    extra: dict[str, Any] = {}
    if exchange.credential is not None:
        extra["SignatureVersion"] = exchange.credential.version
    if exchange.tls is not None:
        extra["CipherSuite"] = exchange.tls["cipherSuite"]
    sent, received = exchange.bytes_in, exchange.bytes_out
    decoded_length = exchange.request.headers.get("x-amz-decoded-content-length", "")
    if decoded_length.isdigit():
        sent = int(decoded_length)
    # AWS writes these as floats in data events and as whole numbers elsewhere.
    extra["bytesTransferredIn"] = sent if category == MANAGEMENT else float(sent)
    if exchange.credential is not None:
        extra["AuthenticationMethod"] = exchange.credential.method
    if exchange.response is not None and "x-amz-id-2" in exchange.response.headers:
        extra["x-amz-id-2"] = exchange.response.headers["x-amz-id-2"]
    extra["bytesTransferredOut"] = received if category == MANAGEMENT else float(received)
    return extra
