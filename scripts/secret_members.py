"""Lists unreviewed members of AWS's models that suggest a secret; exits with 1 if there are any.

With `--all` it lists every such member, with the rule that hides it or why it is shown. A test and
`reference.py` use it as well.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import botocore
import orjson

from opentrail.capture.record_rules import has_s3_form, lower_first, rules, source_of
from opentrail.capture.redaction import actions
from opentrail.core.event import Json
from opentrail.core.secrets.secret_names import (
    names_environment,
    names_secret,
    naming_members,
    sounds_secret,
)
from opentrail.wire.service_models import Service, ServiceCatalog

#: Names that suggest a secret; wider than the names that are hidden.
_NAME = re.compile(
    r"pass(word|phrase|code|wd)|pwd$|secret|token|credential|keys?$|key_?(value|body|data|string)"
    r"|key_?(material|block|tab)|plain_?text|user_?data|zip_?file|^auth|auth(code|data|state)?$"
    r"|authorization$|otp$|pin$|cookies?$|bearer|assertion|salt$|signature|(?<![as]s)(?<!un)signed|unlock_?code|verifier"
    r"|(access|verification|confirmation|activation|security|pin|auth\w*|recovery|user|device"
    r"|challenge|invite|invitation|setup|pairing|redemption|accept|validation)_?codes?$|^code$"
    r"|nonce|jwt|hmac"
    r"|connection_?strings?$|webhook_?url|invitation_?url|headers?$|header_?values?$|variables?$"
    r"|option_?settings$|(default|override)\w*arguments$|licen[cs]e$",
    re.I,
)
#: Words in the first sentence of a member's documentation that suggest a secret.
_WORDS = re.compile(
    r"pass(word|phrase|code)|secret|credential|api key|(private|shared|signing|auth\w*) key"
    r"|(access|bearer|auth\w*|security|session|refresh|registration|one-time) tokens?\b"
    r"|one-time|pre-?signed|sensitive",
    re.I,
)
#: A string with such words has one of these, in lowercase; to look for them first is quicker.
_PARTS = ("pass", "secret", "credential", " key", " token", "one-time", "signed", "sensitive")
#: Phrases with such words that do not describe the member's value.
_PHRASES = re.compile(
    r"case[- ](in)?sensitive|(confidential|identifying).{0,20}sensitive information"
    r"|sensitive information in this field|sensitive data|non-secret|one-time (schedule|job|fee)"
    r"|secrets manager|security token service",
    re.I,
)
_MARKUP = re.compile(r"<[^>]+>")
_SENTENCE = re.compile(r"(?<=[a-z)])\. ")
#: Actions that show a value; of statements only the literals are hidden.
_NOT_HIDING = (None, "show", "literals")
_TEXTS = frozenset({"string", "blob"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that may hold a secret.

    `hidden_by` is the rule that hides it: "model" (marked sensitive), "name", "environment",
    "table" (of redaction.toml) or "bytes" (which are never recorded); "" if it is shown.
    """

    service: str
    member: str
    hidden_by: str
    beside: frozenset[str]


@dataclass(frozen=True, slots=True)
class Review:
    """Why members that suggest a secret are shown.

    A rule holds for every member whose name, or `Shape.name`, matches; `members` are by service.
    """

    why: str
    names: re.Pattern[str] | None
    beside: str
    members: Mapping[str, frozenset[str]]

    def covers(self, candidate: Candidate) -> bool:
        if candidate.member in self.members.get(candidate.service, ()):
            return True
        if self.names is None or (self.beside and self.beside not in candidate.beside):
            return False
        return self.names.search(candidate.member) is not None


@cache
def reviews() -> tuple[Review, ...]:
    """Returns the reviews of rules/reviewed.toml."""
    return tuple(
        Review(
            row["why"],
            re.compile(row["names"]) if "names" in row else None,
            row.get("beside", ""),
            {service: frozenset(names) for service, names in row.get("members", {}).items()},
        )
        for row in rules("reviewed")["shown"]
    )


def unreviewed() -> list[Candidate]:
    """Returns the members that may hold a secret, are shown and have no review."""
    return [
        candidate
        for candidate in candidates()
        if not candidate.hidden_by and not any(review.covers(candidate) for review in reviews())
    ]


@cache
def candidates() -> tuple[Candidate, ...]:
    """Returns the members of all services' requests and answers that may hold a secret."""
    services = ServiceCatalog().services.values()
    return tuple(candidate for service in services for candidate in _of_service(service))


def _of_service(service: Service) -> Iterator[Candidate]:
    model = _Model(service)
    for name in sorted(model.reachable()):
        shape = model.shapes[name]
        beside = frozenset(member.lower() for member in shape.get("members", ()))
        for member, reference in shape.get("members", {}).items():
            if model.suggests_secret(name, member, reference):
                yield Candidate(
                    service.name,
                    f"{name}.{member}",
                    model.hidden_by(name, member, reference),
                    beside,
                )


def _suggests_a_secret(documentation: str) -> bool:
    """Returns whether the first sentence of a member's documentation suggests a secret."""
    lower = documentation.lower()
    if not any(part in lower for part in _PARTS) or not _WORDS.search(documentation):
        return False
    text = unescape(_MARKUP.sub("", documentation)).strip()
    return bool(_WORDS.search(_PHRASES.sub("", _SENTENCE.split(text, maxsplit=1)[0][:300])))


@cache
def _is_named_as_a_secret(member: str) -> bool:
    return _NAME.search(member) is not None


class _Model:
    """A service's model as JSON, which is many times faster to walk than botocore's objects."""

    def __init__(self, service: Service) -> None:
        folder = Path(botocore.__file__).parent / "data" / service.name
        file = folder / service.api_version_folder / "service-2.json.gz"
        model = orjson.loads(gzip.decompress(file.read_bytes()))
        self.shapes: dict[str, Json] = model["shapes"]
        self._operations = model["operations"].values()
        self._actions = actions(source_of(service))
        self._has_s3_form = has_s3_form(service.name)

    def reachable(self) -> set[str]:
        """Returns the structures of requests and answers."""
        pending = [
            operation[way]["shape"]
            for operation in self._operations
            for way in ("input", "output")
            if way in operation
        ]
        names: set[str] = set()
        while pending:
            name = pending.pop()
            if name in names:
                continue
            names.add(name)
            shape = self.shapes[name]
            inner = [*shape.get("members", {}).values()]
            inner += [shape[part] for part in ("member", "key", "value") if part in shape]
            pending.extend(reference["shape"] for reference in inner)
        return names

    def suggests_secret(self, holder: str, member: str, reference: Mapping[str, Any]) -> bool:
        """Returns whether type, name or documentation of a member suggest a secret."""
        if self._is_sensitive(reference) or self._is_environment(member, reference):
            return True
        if self._action_for(holder, member) not in _NOT_HIDING:
            return True
        if not self._holds_text(reference):
            return False
        if _is_named_as_a_secret(member):
            return True
        return _suggests_a_secret(reference.get("documentation") or "")

    def hidden_by(self, holder: str, member: str, reference: Mapping[str, Any]) -> str:
        """Returns the rule that hides a member, "" if it is shown."""
        action = self._action_for(holder, member)
        if action not in _NOT_HIDING:
            return "table"
        if self._has_s3_form:
            return self._hidden_in_s3_form(member, reference)
        if self._is_sensitive(reference):
            return "model"
        if action != "show" and names_secret(member):
            return "name"
        if action != "show" and self._is_environment(member, reference):
            return "environment"
        return "bytes" if self._scalar(reference)["type"] == "blob" else ""

    def _action_for(self, holder: str, member: str) -> str | None:
        recorded_name = lower_first(member)
        return self._actions.get(f"{holder}.{recorded_name}") or self._actions.get(recorded_name)

    def _hidden_in_s3_form(self, member: str, reference: Mapping[str, Any]) -> str:
        """Returns the rule in S3's form, where names decide and the model does not."""
        headers = rules("redaction")["s3_headers"]
        location = reference.get("locationName", member)
        if location in (*headers["never"], *headers["hide"]):
            return "table"
        return "name" if sounds_secret(location) else ""

    def _scalar(self, reference: Mapping[str, Any]) -> Json:
        shape = self.shapes[reference["shape"]]
        while shape["type"] in ("list", "map"):
            shape = self.shapes[shape["member" if shape["type"] == "list" else "value"]["shape"]]
        return shape

    def _holds_text(self, reference: Mapping[str, Any]) -> bool:
        shape = self._scalar(reference)
        return shape["type"] in _TEXTS and "enum" not in shape

    def _is_sensitive(self, reference: Mapping[str, Any]) -> bool:
        shape = self.shapes[reference["shape"]]
        if reference.get("sensitive") or shape.get("sensitive"):
            return True
        return any(
            self._is_sensitive(shape[part]) for part in ("member", "key", "value") if part in shape
        )

    def _is_environment(self, member: str, reference: Mapping[str, Any]) -> bool:
        if not names_environment(member):
            return False
        shape = self.shapes[reference["shape"]]
        if shape["type"] == "map":
            return self._holds_text(reference)
        item = self.shapes[shape["member"]["shape"]] if shape["type"] == "list" else shape
        return shape["type"] == "list" and naming_members(item.get("members", {})) is not None


def main() -> int:
    """Lists the members, one per line."""
    if "--all" in sys.argv:
        for one in candidates():
            why = next((review.why for review in reviews() if review.covers(one)), "NOT REVIEWED")
            verdict = f"hidden by {one.hidden_by}" if one.hidden_by else f"shown: {why}"
            print(f"{one.service}\t{one.member}\t{verdict}")
        return 0
    found = unreviewed()
    for one in found:
        print(f"{one.service}\t{one.member}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
