"""Every secret-sounding member of AWS's models: reviewed, and hidden or shown as decided."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import pytest

from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record_rules import keeps_answer, source_of
from opentrail.core.identity import unknown
from opentrail.core.secrets.secret_names import HIDDEN, naming_members
from opentrail.wire.message import Response
from opentrail.wire.service_models import Service
from scripts.secret_members import Candidate, candidates, reviews, unreviewed
from tests.conformance.answers import answer_with
from tests.factories import ACCOUNT, MOMENT, an_exchange, an_sdk_request, catalog

pytestmark = pytest.mark.slow

#: Maximum canaries per call, so that its record is not cut.
_MAX_CANARIES = 25
_MAX_DEPTH = 4
_LIST, _MAP = "[]", "{}"
Path = tuple[str, ...]


def test_every_secret_sounding_member_is_hidden_or_reviewed() -> None:
    """A newer botocore adds members: docs/howto/extend-opentrail.md explains the next steps."""
    found = [f"{one.service} {one.member}" for one in unreviewed()]
    assert found == []


def test_every_review_has_reason_and_visible_member() -> None:
    shown = [one for one in candidates() if not one.hidden_by]
    known = {(one.service, one.member) for one in shown}
    for review in reviews():
        assert len(review.why) > 10
        assert any(review.covers(one) for one in shown), review.why
        stale = {(s, m) for s, names in review.members.items() for m in names} - known
        assert not stale, "no longer in the models, or hidden"


@pytest.mark.parametrize(
    ("service", "member"),
    [
        ("elasticache", "CreateUserMessage.Passwords"),
        ("memorydb", "AuthenticationMode.Passwords"),
        ("codepipeline", "WebhookAuthConfiguration.SecretToken"),
        ("appflow", "DatadogConnectorProfileCredentials.applicationKey"),
        ("appflow", "DynatraceConnectorProfileCredentials.apiToken"),
        ("directconnect", "NewBGPPeer.authKey"),
        ("securitylake", "HttpsNotificationConfiguration.authorizationApiKeyValue"),
        ("pinpoint", "GCMChannelRequest.ApiKey"),
        ("invoicing", "ProcurementPortalPreference.ProcurementPortalSharedSecret"),
        ("codebuild", "ProjectEnvironment.environmentVariables"),
        ("batch", "ContainerProperties.environment"),
        ("sagemaker", "ContainerDefinition.Environment"),
        ("amplify", "CreateAppRequest.environmentVariables"),
        ("lambda", "Environment.Variables"),
        ("ecs", "ContainerDefinition.environment"),
        ("elasticbeanstalk", "ConfigurationOptionSetting.Value"),
        ("cognito-idp", "VerifyUserAttributeRequest.Code"),
        ("sso-oidc", "CreateTokenRequest.code"),
        ("sso-oidc", "CreateTokenWithIAMRequest.code"),
        ("signin", "CreateOAuth2TokenRequestBody.code"),
        ("securityagent", "GitHubIntegrationInput.code"),
        ("ssm-contacts", "AcceptPageRequest.AcceptCode"),
        ("invoicing", "VerifyProcurementPortalValidationRequest.Code"),
    ],
)
def test_a_formerly_recorded_secret_is_hidden(service: str, member: str) -> None:
    known = {(one.service, one.member): one.hidden_by for one in candidates()}
    assert known[service, member]


# Each in a call of its service


@dataclass
class Plan:
    """A call that carries canaries: member paths by canary, and whether each must be absent."""

    service: Service
    operation: str
    is_answer: bool
    places: dict[int, tuple[Path, Candidate, bool]] = field(default_factory=dict)


@cache
def canary(number: int) -> str:
    return f"Qx{number:06d}vZ"


_CANARY = re.compile(rb"Qx(\d{6})vZ")


def reached(service: Service) -> dict[str, tuple[str, bool, Path, bool]]:
    """Returns, by structure: operation, whether in its answer, path, whether below a hidden member.

    Requests come before answers, and visible structures before those below a hidden member.
    """
    hidden = {one.member for one in candidates() if one.service == service.name and one.hidden_by}
    found: dict[str, tuple[str, bool, Path, bool]] = {}
    for below in (False, True):
        seen: set[str] = set()
        for is_answer in (False, True):
            for name in service.model.operation_names:
                model = service.model.operation_model(name)
                root = model.output_shape if is_answer else model.input_shape
                left: list[tuple[Any, Path, bool]] = [] if root is None else [(root, (), False)]
                for shape, path, is_below in left:
                    if shape.type_name == "list":
                        left.append((shape.member, (*path, _LIST), is_below))
                    elif shape.type_name == "map":
                        left.append((shape.value, (*path, _MAP), is_below))
                    elif shape.type_name == "structure" and shape.name not in seen:
                        seen.add(shape.name)
                        found.setdefault(shape.name, (name, is_answer, path, is_below))
                        for member, inner in shape.members.items():
                            deeper = is_below or f"{shape.name}.{member}" in hidden
                            if below or not deeper:
                                left.append((inner, (*path, member), deeper))
    return found


def plans() -> Iterator[Plan]:
    by_service: dict[str, list[Candidate]] = defaultdict(list)
    for one in candidates():
        by_service[one.service].append(one)
    number = 0
    for name, members in by_service.items():
        service = catalog().services[name]
        places = reached(service)
        open_plans: dict[tuple[str, bool], Plan] = {}
        for one in members:
            holder, _, member = one.member.partition(".")
            operation, is_answer, path, below = places[holder]
            here = (operation, is_answer)
            plan = open_plans.setdefault(here, Plan(service, operation, is_answer))
            plan.places[number] = ((*path, member), one, below)
            number += 1
            if len(plan.places) == _MAX_CANARIES:
                yield open_plans.pop(here)
        yield from open_plans.values()


def parameters(plan: Plan) -> dict[str, Any]:
    """Returns the request or the answer with the canaries in their places."""
    model = plan.service.model.operation_model(plan.operation)
    shape: Any = model.output_shape if plan.is_answer else model.input_shape
    root: dict[str, Any] = {}
    for number, (path, _, _) in sorted(plan.places.items(), key=lambda one: len(one[1][0])):
        put(root, shape, path, partial(full, number=number))
    return root if plan.is_answer else with_head(root, shape)


def with_head(root: dict[str, Any], shape: Any) -> dict[str, Any]:
    """Returns a request with the required parts of its path, query and headers."""
    for name, member in shape.members.items():
        if member.serialization.get("location") in ("uri", "querystring", "header"):
            root.setdefault(name, filler(member))
            if root[name] is None:
                del root[name]
    return root


def filler(shape: Any) -> Any:
    if shape.type_name == "string":
        return (shape.metadata.get("enum") or ["x" * 12])[0]
    return None


def put(value: Any, shape: Any, path: Path, make: Callable[[Any], Any]) -> None:
    """Makes a value of the last shape, and puts it at the end of a path."""
    for step, following in zip(path, (*path[1:], None), strict=True):
        inner = {_LIST: "member", _MAP: "value"}.get(step)
        shape = getattr(shape, inner) if inner else shape.members[step]
        key: Any = 0 if step == _LIST else "k" if step == _MAP else step
        present: Any = [] if following == _LIST else {}
        if following is None:
            present = make(shape)
        elif step == _LIST and value:
            present = value[0]
        elif step != _LIST:
            present = value.get(key) or present
        if step == _LIST:
            value[:1] = [present]
        else:
            value[key] = present
        value = present


def full(shape: Any, number: int, depth: int = 0) -> Any:
    """Returns a value of a shape with the canary in every string, in pairs in the value only."""
    kind = shape.type_name
    if kind == "structure":
        if depth > _MAX_DEPTH or getattr(shape, "is_document_type", False):
            return {}
        pair = naming_members(shape.members)
        named = set(shape.members) if pair is None else {*pair[1]}
        return {
            name: full(inner, number, depth + 1) if name in named else "NAME"
            for name, inner in shape.members.items()
            if name in named or inner.type_name == "string"
        }
    if kind == "list":
        return [full(shape.member, number, depth + 1)]
    if kind == "map":
        return {"k": full(shape.value, number, depth + 1)}
    if kind in ("string", "blob"):
        return canary(number).encode() if kind == "blob" else canary(number)
    plain: Mapping[str, Any] = {"boolean": True, "timestamp": MOMENT}
    return plain.get(kind, 1)


def record_of(plan: Plan, given: dict[str, Any]) -> tuple[bytes, bool]:
    """Returns the record of the call, and whether the recorder identified the operation."""
    model = plan.service.model.operation_model(plan.operation)
    protocol = plan.service.protocols[0]
    if plan.is_answer:
        request = an_sdk_request(plan.service.name, plan.operation, minimal(model))
        answer = answer_with(model, protocol, given)
        headers = {name.lower(): text for name, text in answer.headers.items()}
        response = Response(200, headers, answer.body)
    else:
        request = an_sdk_request(plan.service.name, plan.operation, given)
        response = Response(200, {}, b"")
    exchange = an_exchange(request, response)
    assembled = Assembler(lambda key: unknown(ACCOUNT, key)).assemble(exchange)
    known = exchange.route.service is not None and (
        exchange.route.service.name == plan.service.name
        and exchange.route.operation == plan.operation
    )
    raw = b"\n".join([assembled.entry.record, *(one.record for one in assembled.more)])
    return raw, known and assembled.decoded and b"answerDecodeError" not in raw


def minimal(model: Any) -> dict[str, Any]:
    """Returns the required parts of the path."""
    members = model.input_shape.members.items() if model.input_shape is not None else ()
    found = {
        name: filler(member)
        for name, member in members
        if member.serialization.get("location") == "uri"
    }
    return {name: value for name, value in found.items() if value is not None}


#: Calls in two models are recorded as the older service's; its marks count.
TAKEN_FOR_ANOTHER = frozenset({"chime-sdk-voice"})
#: Services whose records consist of headers and show no body of an answer.
NO_BODY = frozenset({"s3"})
#: For these models, botocore needs more than a string in the path.
NOT_MADE = frozenset({"appconfig", "ebs", "networkmanager", "s3control", "wellarchitected"})


@pytest.mark.campaign
def test_only_visible_members_are_in_records() -> None:
    """Every member with a secret-sounding name, in a request or an answer of its service."""
    leaked: list[str] = []
    missing: list[str] = []
    tried: Counter[str] = Counter()
    for plan in plans():
        try:
            raw, is_understood = record_of(plan, parameters(plan))
        except KeyError:
            assert plan.service.name in NOT_MADE
            continue
        present = {int(found) for found in _CANARY.findall(raw)}
        reads = plan.is_answer and not keeps_answer(source_of(plan.service), plan.operation)
        for number, (_, one, below) in plan.places.items():
            where = f"{one.service} {one.member} in {plan.operation}"
            if one.hidden_by:
                tried["hidden"] += 1
                if number in present and one.service not in TAKEN_FOR_ANOTHER:
                    leaked.append(where)
            elif is_understood and not below and not reads and one.service not in NO_BODY:
                tried["shown"] += 1
                if number not in present:
                    missing.append(where)
    assert leaked == []
    assert missing == ["dataexchange SendApiAssetResponse.ResponseHeaders in SendApiAsset"]
    assert tried["hidden"] > 6_800
    assert tried["shown"] > 8_000


# A name here, its value there

_NAMING = re.compile(
    r"(name|key|path|id|attribute|field|option|parameter|variable|header|tag)$", re.I
)
_NAMED = re.compile(r"(?<!modified)values?$", re.I)  # modified values are settings
_CHOSEN_NAME = "DBPassword"


def chosen(shape: Any) -> bool:
    """Returns whether a caller can choose the name of a secret here."""
    return bool(shape.type_name == "string" and not shape.metadata.get("enum"))


def texts_in(shape: Any, depth: int = 0) -> bool:
    if shape.type_name in ("list", "map"):
        return texts_in(shape.member if shape.type_name == "list" else shape.value, depth)
    if shape.type_name == "structure":
        members = shape.members.values()
        return depth < _MAX_DEPTH and any(texts_in(member, depth + 1) for member in members)
    return chosen(shape)


def pairs() -> Iterator[tuple[Plan, dict[str, Any], str]]:
    """Yields a call for each structure of a name and a value, with a canary for each value."""
    number = 0
    for service in catalog().services.values():
        for holder, (operation, is_answer, path, _) in reached(service).items():
            members = service.model.shape_for(holder).members
            naming = [name for name in members if _NAMING.search(name) and chosen(members[name])]
            named = [name for name in members if _NAMED.search(name) and texts_in(members[name])]
            if not naming or not named or set(naming) & set(named):
                continue
            for key in naming:
                plan = Plan(service, operation, is_answer)
                model = service.model.operation_model(operation)
                shape: Any = model.output_shape if is_answer else model.input_shape
                root: dict[str, Any] = {}
                for member in named:
                    put(root, shape, (*path, member), partial(full, number=number))
                put(root, shape, (*path, key), lambda _shape: _CHOSEN_NAME)
                yield plan, root if is_answer else with_head(root, shape), f"{holder}.{key}"
            number += 1


@pytest.mark.campaign
def test_value_next_to_secret_name_is_hidden() -> None:
    """Tries every structure of all models, in its service's protocol, in requests and answers."""
    leaked: list[str] = []
    tried: Counter[str] = Counter()
    for plan, given, where in pairs():
        try:
            raw, is_understood = record_of(plan, given)
        except KeyError:
            assert plan.service.name in NOT_MADE
            continue
        tried["answers" if plan.is_answer else "requests"] += is_understood
        if _CANARY.search(raw):
            leaked.append(f"{plan.service.name} {where} in {plan.operation}")
    assert leaked == []
    assert tried["requests"] > 700
    assert tried["answers"] > 200


# In every form in which models nest strings


@pytest.mark.parametrize(
    ("service", "operation", "given", "shown"),
    [
        (
            "elasticache",
            "CreateUser",
            {"UserId": "u", "Passwords": ["one", "two"]},
            {"userId": "u", "passwords": HIDDEN},
        ),
        (
            "elasticache",
            "CreateUser",
            {"UserId": "u", "AuthenticationMode": {"Type": "password", "Passwords": ["one"]}},
            {"userId": "u", "authenticationMode": {"type": "password", "passwords": HIDDEN}},
        ),
        (
            "amplify",
            "CreateApp",
            {"name": "a", "environmentVariables": {"STAGE": "secret"}},
            {"name": "a", "environmentVariables": {"STAGE": HIDDEN}},
        ),
        (
            "codebuild",
            "StartBuild",
            {
                "projectName": "p",
                "environmentVariablesOverride": [
                    {"name": "STAGE", "value": "secret", "type": "PLAINTEXT"}
                ],
            },
            {
                "projectName": "p",
                "environmentVariablesOverride": [
                    {"name": "STAGE", "value": HIDDEN, "type": "PLAINTEXT"}
                ],
            },
        ),
        (
            "elasticbeanstalk",
            "UpdateEnvironment",
            {"OptionSettings": [{"Namespace": "n", "OptionName": "STAGE", "Value": "secret"}]},
            {"optionSettings": [{"namespace": "n", "optionName": "STAGE", "value": HIDDEN}]},
        ),
        (
            "glue",
            "CreateJob",
            {
                "Name": "j",
                "Role": "r",
                "DefaultArguments": {"--TempDir": "s3://b/", "--API_KEY": "secret"},
            },
            {
                "name": "j",
                "role": "r",
                "defaultArguments": {"--TempDir": "s3://b/", "--API_KEY": HIDDEN},
            },
        ),
        (
            "redshift",
            "ModifyCluster",
            {"ClusterIdentifier": "c", "MasterPasswordSecretKmsKeyId": "k"},
            {"clusterIdentifier": "c", "masterPasswordSecretKmsKeyId": "k"},
        ),
    ],
)
def test_nested_secrets_are_hidden_without_their_metadata(
    service: str, operation: str, given: dict[str, Any], shown: dict[str, Any]
) -> None:
    exchange = an_exchange(an_sdk_request(service, operation, given))
    record = Assembler(lambda key: unknown(ACCOUNT, key)).assemble(exchange).record
    assert record["requestParameters"] == shown
