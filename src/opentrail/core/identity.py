"""Identities of callers, and their extraction from records.

Only key ids, names and ARNs are stored; never a secret or a session token (guarantee S4).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from opentrail.core.event import Json, Record, as_object, format_time, is_account, objects_in
from opentrail.core.user_agents import agent_tag_of
from opentrail.core.value_class import value_class

DEFAULT_ACCOUNT = "123456789012"
#: Key ids of IAM and STS ("IAM identifiers": AKIA for long-term keys, ASIA for temporary ones).
_KEY_ID = re.compile(r"A[A-Z]{2}A[A-Z2-7]{16}")
#: A session tag's value (STS API reference), with ASCII letters only.
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{1,256}", re.ASCII)


@value_class(frozen=True, slots=True)
class Identity:
    """The identity behind an access key id.

    `user_identity` is the record's `userIdentity` object without `accessKeyId`, in AWS's order.
    """

    access_key_id: str
    account: str
    user_identity: Mapping[str, Any] = field(default_factory=dict)
    #: Event from which the identity was learned, such as CreateAccessKey or AssumeRole.
    learned_from: str | None = None
    #: Event that deleted the key; later calls with it still have this identity.
    deleted_by: str | None = None
    #: The session tag `agent`, which names an agent: `agent=VALUE`.
    agent_tag: str | None = None
    #: The session tags that roles assumed from it keep: key → value.
    transitive_tags: Mapping[str, str] = field(default_factory=dict)
    #: When a temporary key expires; None if unknown.
    expires: str | None = None
    #: The form in records, once requested.
    _shown: Json | None = field(default=None, init=False, repr=False, compare=False)

    def as_record(self) -> Json:
        """Returns the `userIdentity` member of a record made with this key."""
        if self._shown is None:
            member_values: Json = {}
            for name, value in self.user_identity.items():
                member_values[name] = value
                if name == "accountId":
                    member_values["accessKeyId"] = self.access_key_id
            member_values.setdefault("accessKeyId", self.access_key_id)
            object.__setattr__(self, "_shown", member_values)
        return dict(self._shown or {})


@value_class(frozen=True, slots=True)
class Learned:
    """The identities of keys and ids of users learned from one record."""

    identities: tuple[Identity, ...] = ()
    #: (account, user name, `principalId`, `arn`) of users; the last two are '' for a deleted or
    #: renamed user.
    users: tuple[tuple[str, str, str, str], ...] = ()
    #: (access key id, event id) of deleted keys.
    deleted: tuple[tuple[str, str], ...] = ()
    #: The account of callers whose key names none; '' if unknown.
    account: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.identities or self.users or self.deleted or self.account)


@lru_cache(4096)
def account_of_key(access_key_id: str) -> str | None:
    """Returns the account that a key id encodes, or None for old and hand-made ids.

    Bits 1 to 40 of the base32 text after the four-letter prefix are the account
    (cloudtrail-format §2.4).

    >>> account_of_key("AKIAQEBALCAAAAAAAAAA") is None
    False
    """
    if not _KEY_ID.fullmatch(access_key_id):
        return None
    raw = base64.b32decode(access_key_id[4:])
    account = (int.from_bytes(raw[:6], "big") & 0x7FFFFFFFFF80) >> 7
    return f"{account:012d}" if raw[0] & 0x80 and account < 10**12 else None


def key_for_account(account: str, prefix: str = "AKIA", tail: bytes = b"opnt") -> str:
    """Returns a well-formed access key id that encodes `account`; the inverse of `account_of_key`.

    Keys of an account differ by their four last bytes, `tail`.

    >>> account_of_key(key_for_account("123456789012"))
    '123456789012'
    """
    head = (int(account) << 7) | (1 << 47)
    return prefix + base64.b32encode(head.to_bytes(6, "big") + tail).decode()


def iam_user(account: str, name: str, principal_id: str | None, arn: str | None) -> Json:
    """Returns the `userIdentity` of an IAM user, without the key id."""
    identity: Json = {"type": "IAMUser"}
    if principal_id:
        identity["principalId"] = principal_id
    identity["arn"] = arn or f"arn:aws:iam::{account}:user/{name}"
    identity["accountId"] = account
    identity["userName"] = name
    return identity


def root(account: str) -> Json:
    """Returns the `userIdentity` of an account's root user, without the key id."""
    return {
        "type": "Root",
        "principalId": account,
        "arn": f"arn:aws:iam::{account}:root",
        "accountId": account,
    }


@lru_cache(4096)
def unknown(account: str, access_key_id: str) -> Identity:
    """Returns the identity of an unknown key with a known account."""
    return Identity(access_key_id, account, {"type": "Unknown", "accountId": account})


#: The caller of an unsigned request (cloudtrail-format §2.3).
ANONYMOUS: Mapping[str, Any] = {
    "type": "AWSAccount",
    "principalId": "",
    "accountId": "ANONYMOUS_PRINCIPAL",
}


#: Issuers of tokens that IAM knows by name; others are OpenID Connect providers of an account.
_WELL_KNOWN_ISSUERS = frozenset({"accounts.google.com", "www.amazon.com", "graph.facebook.com"})
#: Maximum characters of a token (STS API reference, with room for other servers).
_MAX_TOKEN_LENGTH = 100_000


def federated_caller(
    event_name: str,
    parameters: Mapping[str, Any] | None,
    answer: Mapping[str, Any] | None,
    token: object = None,
) -> tuple[Json, str | None] | None:
    """Returns the caller of an unsigned STS call, and the account of the call.

    The caller is in a web identity or SAML token; the response has the token's contents ("Logging
    IAM and AWS STS API calls with AWS CloudTrail"). The request's `token` supplies web identity
    members missing from an emulator's response. None: it is another call.
    """
    claims = answer or {}
    role = str((parameters or {}).get("roleArn", "")).split(":")
    account = role[4] if len(role) > 5 and is_account(role[4]) else None
    if event_name == "AssumeRoleWithWebIdentity":
        stated = {} if "subjectFromWebIdentityToken" in claims else _claims_of(token, account)
        provider, audience, subject = (
            claims.get(name) or stated.get(name)
            for name in ("provider", "audience", "subjectFromWebIdentityToken")
        )
        return _token_user(
            "WebIdentityUser", (provider, audience, subject), subject, provider
        ), account
    if event_name == "AssumeRoleWithSAML":
        qualifier, subject = claims.get("nameQualifier"), claims.get("subject")
        return _token_user("SAMLUser", (qualifier, subject), subject, qualifier), account
    return None


def _claims_of(token: object, account: str | None) -> dict[str, str]:
    """Returns a JSON Web Token's claims by the names of STS's answer; {} for other strings."""
    parts = token.split(".") if isinstance(token, str) and len(token) < _MAX_TOKEN_LENGTH else []
    if len(parts) != 3:
        return {}
    try:
        claims = as_object(
            json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        )
    except (ValueError, RecursionError):
        return {}
    audience = claims.get("azp") or claims.get("aud")
    if isinstance(audience, list):
        audience = audience[0] if audience else None
    issuer = claims.get("iss")
    host = issuer.removeprefix("https://").rstrip("/") if isinstance(issuer, str) else ""
    is_own = host and host not in _WELL_KNOWN_ISSUERS and account
    said = {
        "provider": f"arn:aws:iam::{account}:oidc-provider/{host}" if is_own else host,
        "audience": audience,
        "subjectFromWebIdentityToken": claims.get("sub"),
    }
    return {name: text for name, text in said.items() if isinstance(text, str) and text}


def _token_user(kind: str, parts: Sequence[Any], name: Any, provider: Any) -> Json:
    members = {
        "principalId": ":".join(str(part) for part in parts if part),
        "userName": str(name or ""),
        "identityProvider": str(provider or ""),
    }
    return {"type": kind, **{member: text for member, text in members.items() if text}}


_PRINCIPAL = re.compile(r"arn:[\w-]+:(iam|sts)::(\d{12}):(root|user/.+|assumed-role/[^/]+/.+)")


def identity_by_arn(access_key_id: str, arn: str, user_id: str) -> Identity | None:
    """Returns the identity that GetCallerIdentity describes; None for other principals.

    moto returns an STS ARN for the user of every unknown key.
    """
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        return None
    account, principal = found[2], found[3]
    if principal == "root":
        return Identity(access_key_id, account, root(account))
    if principal.startswith("user/"):
        own = arn.replace(":sts:", ":iam:", 1)
        user = iam_user(account, principal.rpartition("/")[2], user_id, own)
        return Identity(access_key_id, account, user)
    session = {"arn": arn, "assumedRoleId": user_id}
    return Identity(access_key_id, account, _assumed_role(session, {}, {}))


def account_in(answer: Mapping[str, Any] | None) -> str | None:
    """Returns the account in the ARN of an IAM call's result, or None."""
    for made in (answer or {}).values():
        parts = str(made.get("arn")).split(":", 5) if isinstance(made, Mapping) else []
        if len(parts) > 5 and parts[2] == "iam" and is_account(parts[4]):
            return parts[4]
    return None


_TEACHERS = ("iam.amazonaws.com", "sts.amazonaws.com")
_NOTHING = Learned()


def learn(record: Record, users: Mapping[tuple[str, str], tuple[str, str]]) -> Learned:
    """Returns the keys and users in a successful IAM or STS record.

    Args:
        record: a complete record.
        users: known users: (account, name) → (principal id, arn).
    """
    source = record.get("eventSource")
    if source not in _TEACHERS:
        return _NOTHING
    answer = as_object(record.get("responseElements"))
    caller = as_object(record.get("userIdentity"))
    if record.get("errorCode") or (
        caller.get("type") == "AWSAccount" and "sharedEventID" in record
    ):
        return _NOTHING  # the caller's record of a shared call has everything in this copy
    if source == "iam.amazonaws.com":
        learned = _learn_iam(record, answer, users)
        is_guess = caller.get("type") == "Unknown"
        return replace(learned, account=account_in(answer) or "") if is_guess else learned
    if record.get("eventName") == "GetCallerIdentity":
        return _learn_caller(record, caller)
    if source == "sts.amazonaws.com" and answer:
        return _learn_sts(record, answer)
    return Learned()


def _learn_caller(record: Record, caller: Mapping[str, Any]) -> Learned:
    """Learns the caller of GetCallerIdentity from the answer (`Assembler`)."""
    key_id, account = caller.get("accessKeyId"), str(record.get("recipientAccountId"))
    if not key_id or caller.get("type") not in ("IAMUser", "Root"):
        return _NOTHING
    named = {name: value for name, value in caller.items() if name != "accessKeyId"}
    return Learned((Identity(str(key_id), account, named, str(record.get("eventID"))),))


def _learn_iam(
    record: Record, answer: Mapping[str, Any], users: Mapping[tuple[str, str], tuple[str, str]]
) -> Learned:
    account = str(record.get("recipientAccountId", ""))
    name = record.get("eventName")
    if name == "DeleteAccessKey":
        key_id = as_object(record.get("requestParameters")).get("accessKeyId")
        return Learned(deleted=((str(key_id), str(record.get("eventID"))),) if key_id else ())
    if name == "DeleteUser":
        user_name = as_object(record.get("requestParameters")).get("userName")
        return Learned(users=((account, str(user_name), "", ""),) if user_name else ())
    if name == "CreateUser" and isinstance(answer.get("user"), Mapping):
        user = answer["user"]
        user_entry = (
            account,
            str(user.get("userName")),
            str(user.get("userId")),
            str(user.get("arn")),
        )
        return Learned(users=(user_entry,))
    if name == "CreateAccessKey" and isinstance(answer.get("accessKey"), Mapping):
        key = answer["accessKey"]
        user_name, key_id = str(key.get("userName") or ""), str(key.get("accessKeyId"))
        if not user_name:  # a key of the account itself
            caller = as_object(record.get("userIdentity"))
            is_root = caller.get("type") == "Root"
            root_identity = Identity(key_id, account, root(account), str(record.get("eventID")))
            return Learned((root_identity,) if is_root else ())
        principal_id, arn = users.get((account, user_name), (None, None))
        identity = iam_user(account, user_name, principal_id, arn)
        return Learned((Identity(key_id, account, identity, str(record.get("eventID"))),))
    return Learned()


@value_class(frozen=True, slots=True)
class Renamed:
    """A user with a new name or path; `path` is None if unchanged."""

    account: str
    old: str
    new: str
    path: str | None

    def arn(self, old: str) -> str:
        """Returns the new ARN for a user's old ARN.

        >>> Renamed("123456789012", "John", "Jack", None).arn("arn:aws:iam::1:user/x/John")
        'arn:aws:iam::1:user/x/Jack'
        """
        head, _, rest = old.partition(":user/")
        path = self.path or f"/{rest.removesuffix(self.old)}"
        return f"{head}:user{path}{self.new}"


def renamed(record: Record) -> Renamed | None:
    """Returns the changes of a successful UpdateUser, None for any other record."""
    if record.get("eventName") != "UpdateUser" or record.get("errorCode"):
        return None
    if record.get("eventSource") != "iam.amazonaws.com":
        return None
    parameters = as_object(record.get("requestParameters"))
    old, new, path = (parameters.get(name) for name in ("userName", "newUserName", "newPath"))
    if not isinstance(old, str) or not (new or path):
        return None
    account = str(record.get("recipientAccountId", ""))
    return Renamed(account, old, str(new or old), str(path) if path else None)


def _learn_sts(record: Record, answer: Mapping[str, Any]) -> Learned:
    credentials = answer.get("credentials")
    if not isinstance(credentials, Mapping) or not credentials.get("accessKeyId"):
        return Learned()
    key_id = str(credentials["accessKeyId"])
    created, parameters = str(record.get("eventTime")), as_object(record.get("requestParameters"))
    attributes = {"creationDate": created, "mfaAuthenticated": _used_mfa(parameters)}
    if isinstance(answer.get("assumedRoleUser"), Mapping):
        identity = _assumed_role(answer["assumedRoleUser"], parameters, attributes)
        # Once set, it stays through every role assumed from this one (STS guide).
        session = as_object(as_object(record.get("userIdentity")).get("sessionContext"))
        sources = (parameters, answer, session)
        source = next((m["sourceIdentity"] for m in sources if m.get("sourceIdentity")), None)
        if source is not None:
            identity["sessionContext"]["sourceIdentity"] = source
        caller = as_object(record.get("userIdentity"))
        web = caller if caller.get("type") == "WebIdentityUser" else {}
        if provider := answer.get("provider") or web.get("identityProvider"):
            # The form of sessions of a Kubernetes service account (IRSA).
            federation = {"federatedProvider": str(provider), "attributes": {}}
            identity["sessionContext"]["webIdFederationData"] = federation
    elif isinstance(answer.get("federatedUser"), Mapping):
        identity = _federated_user(answer["federatedUser"], record, attributes)
    elif record.get("eventName") == "AssumeRoot":
        identity = root(_account_in(parameters.get("targetPrincipal")))
        identity["sessionContext"] = {"attributes": attributes, "assumedRoot": "true"}
        if answer.get("sourceIdentity"):
            identity["sessionContext"]["sourceIdentity"] = answer["sourceIdentity"]
    elif record.get("eventName") == "GetSessionToken":
        caller = as_object(record.get("userIdentity"))
        identity = {k: v for k, v in caller.items() if k != "accessKeyId"}
        identity["sessionContext"] = {"attributes": attributes}
    else:
        return Learned()
    claimed = identity.get("accountId")
    account = str(claimed if is_account(claimed) else record.get("recipientAccountId"))
    tag = _agent_tag(parameters) or agent_tag_of(record)
    event_id, kept = str(record.get("eventID")), _transitive_tags(parameters)
    expires = _expiration(credentials)
    return Learned((Identity(key_id, account, identity, event_id, None, tag, kept, expires),))


def _expiration(credentials: Mapping[str, Any]) -> str | None:
    """Returns when temporary credentials expire, None if their record does not say."""
    try:
        expiration = f"{credentials.get('expiration')} +0000"
        return format_time(datetime.strptime(expiration, "%b %d, %Y, %I:%M:%S %p %z"))
    except ValueError:
        return None


def _transitive_tags(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Returns the tags that roles assumed from a new session keep, including tags it kept itself.

    Keys ignore case ("Pass session tags in AWS STS", IAM guide).
    """
    incoming = as_object(parameters.get("incomingTransitiveTags"))
    kept = {str(key): str(value) for key, value in incoming.items()}
    keys = parameters.get("transitiveTagKeys")
    names = {str(key).lower() for key in keys} if isinstance(keys, list) else set()
    for tag in objects_in(parameters.get("tags")):
        if str(tag.get("key")).lower() in names:
            kept[str(tag.get("key"))] = str(tag.get("value", ""))
    return kept


def _agent_tag(parameters: Mapping[str, Any]) -> str | None:
    """Returns the session tag `agent` that a call requests."""
    tags = objects_in(parameters.get("tags"))
    values = [tag.get("value") for tag in tags if str(tag.get("key")).lower() == "agent"]
    is_value = values and isinstance(values[0], str) and _TAG_VALUE.fullmatch(values[0])
    return f"agent={values[0]}" if is_value else None


def _account_in(principal: Any) -> str:
    """Returns the account of an ARN, or of a bare account id."""
    parts = str(principal).split(":")
    return parts[4] if len(parts) > 5 else parts[0]


def _used_mfa(parameters: Mapping[str, Any]) -> str:
    return "true" if parameters.get("serialNumber") and parameters.get("tokenCode") else "false"


def _assumed_role(
    role_user: Mapping[str, Any], parameters: Mapping[str, Any], attributes: Mapping[str, str]
) -> Json:
    """Builds an AssumedRole identity from `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`."""
    arn, principal_id = str(role_user.get("arn", "")), str(role_user.get("assumedRoleId", ""))
    parts = arn.split(":")
    account = parts[4] if len(parts) > 5 else ""
    role = arn.rpartition(":")[2].partition("/")[2].partition("/")[0]
    role_arn = str(parameters.get("roleArn") or f"arn:aws:iam::{account}:role/{role}")
    context: Json = {
        "sessionIssuer": {
            "type": "Role",
            "principalId": principal_id.partition(":")[0],
            "arn": role_arn,
            "accountId": account,
            "userName": role,
        },
        "webIdFederationData": {},
        "attributes": dict(attributes),
    }
    return {
        "type": "AssumedRole",
        "principalId": principal_id,
        "arn": arn,
        "accountId": account,
        "sessionContext": context,
    }


def _federated_user(
    federated: Mapping[str, Any], record: Record, attributes: Mapping[str, str]
) -> Json:
    issuer = as_object(record.get("userIdentity"))
    account = str(record.get("recipientAccountId"))
    issuer_members = ("type", "principalId", "arn", "accountId", "userName")
    return {
        "type": "FederatedUser",
        "principalId": str(federated.get("federatedUserId", "")),
        "arn": str(federated.get("arn", "")),
        "accountId": account,
        "sessionContext": {
            "sessionIssuer": {k: issuer[k] for k in issuer_members if k in issuer},
            "webIdFederationData": {},
            "attributes": dict(attributes),
        },
    }
