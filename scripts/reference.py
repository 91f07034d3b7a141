"""Writes docs/reference/ and what the web console repeats of the server from the code.

With --check it says what is out of date and exits 1.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, partial
from pathlib import Path

import api_types
import msgspec
from secret_members import candidates

from opentrail import settings
from opentrail.access.policies import AWS_MANAGED
from opentrail.api.cloudtrail import server
from opentrail.api.cloudtrail.permissions import ACCESS_RULES, Permission
from opentrail.api.cloudtrail.operation import REGISTER
from opentrail.api.v1.openapi import GROUPS
from opentrail.api.v1.routes import PREFIX, rules_in
from opentrail.cli import parser
from opentrail.core import errors
from opentrail.core.arns import CHANNEL, STORE
from opentrail.core.event import ACTIVITY
from opentrail.core.event_data_store import STORE_CATEGORIES
from opentrail.core.selectors import SelectorOwner
from opentrail.core.selectors.advanced import field_rules
from opentrail.api.cloudtrail.selectors import KNOWN_TYPES
from opentrail.core.version import __version__
from opentrail.detections.rule_files import technique_of
from opentrail.detections.rules import DetectionRule
from opentrail.detections.sigma import read_rules
from opentrail.lake.dialect.expressions import CALLS
from opentrail.lake.dialect.functions import ALIASES, Overload, aggregates, scalars, windows
from opentrail.lake.dialect.record_members import lowered
from opentrail.lake.dialect.types import Type
from opentrail.lake.dialect.statements import EXPRESSION_MODULES
from opentrail.lake.event_history import schema
from opentrail.lake.samples import SAMPLES
from opentrail.permissions.event_actions import ACTION_NAMES, S3_VERSIONED, WITHOUT_PERMISSION
from opentrail.wire.service_models import ServiceCatalog

ROOT = Path(__file__).parent.parent
MADE = "<!-- Made by scripts/reference.py; do not edit. -->\n"


def settings_page() -> str:
    """Returns the table of settings, with the comments of the dataclass."""
    source = inspect.getsource(settings.Settings)
    comments = re.findall(r"((?:    #: .*\n)+)    (\w+):", source)
    effects = {name: " ".join(re.findall(r"#: (.*)", text)) for text, name in comments}
    lines = [
        MADE,
        "# Settings\n",
        "Flags override the environment, which overrides the configuration file. In the file, a",
        "setting has the name of its flag, or the place in a table that is shown instead, such as",
        "`[webhook] form`. Flags can't set secrets, because other users of the machine could see",
        "them.\n",
        "The file can also contain two types of tables. `[directory.ACCESS-KEY-ID]` names a key's owner, with",
        "`user = NAME` or `root = true`, and optionally `account`, `arn` and `principal_id`.",
        "`[upstream.SERVICE]` sets `url` and optionally `access_key_id`, `secret_access_key`,",
        "`session_token` and `region` for one service; `[upstream.default]` sets them for all",
        "other services. opentrail delivers files with the credentials of `s3`. If a service has",
        "`resign = true`, opentrail re-signs its calls with the service's credentials.\n",
        "| flag, or place in the file | variable | default | effect |",
        "|---|---|---|---|",
    ]
    defaults = settings.Settings()
    for field in fields(settings.Settings):
        setting = settings.SETTINGS.get(field.name)
        if setting is None or setting.is_hidden:
            continue
        value = getattr(defaults, field.name)
        if isinstance(value, settings.Address):
            value = f"{value.host}:{value.port}"
        shown = "" if value == {} else f"`{value}`"
        key = field.name.removeprefix(f"{setting.table}_")
        places = [f"`--{field.name.replace('_', '-')}`"] if setting.group else []
        places += [f"`[{setting.table}] {key}`"] if setting.table else []
        flag = ", ".join(places)
        effect = effects[field.name].replace("|", "\\|")
        lines.append(f"| {flag} | `OPENTRAIL_{field.name.upper()}` | {shown} | {effect} |")
    return "\n".join(lines) + "\n"


def _supported(names: Sequence[str], of: str = "of the") -> str:
    """Returns the number of implemented operations, and of all: `44 of the 60`."""
    return f"{sum(name in REGISTER for name in names)} {of} {len(names)}"


def operations_page() -> str:
    """Returns the table of all operations in AWS's model, with their implemented parts."""
    model = ServiceCatalog().services["cloudtrail"].model
    assert server.OPERATION_MODULES
    lines = [
        MADE,
        "# Operations\n",
        f"opentrail supports {_supported(model.operation_names)} operations of the CloudTrail API. Other",
        "operations, and the parameters listed under *without*, cause an",
        "`UnsupportedOperationException`. opentrail also supports `PutAuditEvents`, the only operation",
        "of the CloudTrail Data API.\n",
        "| operation | supported | without |",
        "|---|---|---|",
    ]
    for name in sorted(model.operation_names):
        found = REGISTER.get(name)
        lacks = ", ".join(sorted(found.without)) if found else ""
        lines.append(f"| {name} | {'yes' if found else ''} | {lacks} |")
    return "\n".join(lines) + "\n"


def authorization_page() -> str:
    """Returns the table of the permissions that each operation needs."""
    lines = [
        MADE,
        "# Authorization\n",
        "When opentrail verifies callers, [policies](policies.md) apply to every call to the",
        "CloudTrail API: the ones attached to the calling user or the calling session's role, and",
        "the resource's own policy, if it has one. A call is denied unless a policy allows it.",
        "The root user can do anything in its account, but federated users have no policies and so",
        "no permissions. If a caller isn't allowed to access a resource in another account, the",
        "response is the same as for a missing resource. The one exception is a channel with a",
        "policy: it answers `ChannelInsufficientPermission`. Input is validated before permissions are",
        "checked.\n",
        "## Operations\n",
        "A call needs permission for the action on every resource it names. The column *on* shows",
        "which members name resources; `*` means that only a policy for all resources allows the",
        "call. This also applies to calls without any of the listed members. If a resource doesn't",
        "have an id yet, use `TYPE/*`. StartQuery needs permission for an event data store if its",
        "id or name occurs anywhere in the statement, even in a string literal.\n",
        "| operation | action | access | on | condition keys |",
        "|---|---|---|---|---|",
    ]
    for name, rule in sorted(ACCESS_RULES.items()):
        actions = "<br>".join(_action(permission) for permission in rule.permissions)
        places = "<br>".join(_places(permission) for permission in rule.permissions)
        keys = ", ".join(f"`{key}`" for key in rule.condition_keys)
        lines.append(f"| {name} | {actions} | {rule.level.value} | {places} | {keys} |")
    lines += [
        "",
        "The key `aws:ResourceTag` works only for trails and event data stores, because nothing",
        "else has tags. Every call has the keys `aws:CurrentTime`, `aws:EpochTime`,",
        "`aws:PrincipalAccount`, `aws:PrincipalArn` (for a session, its role's ARN),",
        "`aws:PrincipalType` (`Account`, `User`, `AssumedRole` or `FederatedUser`),",
        "`aws:RequestedRegion`, `aws:SecureTransport`, `aws:SourceIp`, `aws:UserAgent`,",
        "`aws:ViaAWSService` and `aws:PrincipalIsAWSService` (both `false`). Calls by users also",
        "have `aws:username`. `aws:userid` is set for the root user, and for roles and users",
        "with ids known from records. For other role sessions, it's `ROLE:SESSION`, with the",
        "role's name instead of its id.\n",
        "## AWS managed policies\n",
        "opentrail includes these policies, limited to CloudTrail actions.\n",
        "| name | allows |",
        "|---|---|",
    ]
    for name, document in sorted(AWS_MANAGED.items()):
        [statement] = json.loads(document)["Statement"]
        allowed = ", ".join(f"`{action}`" for action in statement["Action"])
        lines.append(f"| {name} | {allowed} |")
    lines += [
        "",
        'Source: "Actions, resources, and condition keys for AWS CloudTrail" and "… for AWS',
        'CloudTrail Data" in the Service Authorization Reference,',
        "<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudtrail.html>;",
        '"ListInsightsMetricData" in the API Reference; the AWS Managed Policy Reference.',
    ]
    return "\n".join(lines) + "\n"


def _action(permission: Permission) -> str:
    condition = f" if `{permission.if_given}` is given" if permission.if_given else ""
    return f"`{permission.action}`{condition}"


def _places(permission: Permission) -> str:
    places = []
    for each in permission.members:
        naming = each.naming.value
        if each.types[0] in (STORE, CHANNEL):
            naming = naming.replace("name", "id")
        places.append(f"{' or '.join(each.types)}: `{each.member}` ({naming})")
    return ", ".join(places) or "`*`"


def command_line_page() -> str:
    """Returns the help of every command."""
    (_, summary), *commands = helps(parser(), width=100)
    lines = [MADE, "# The command line\n", "```text", summary, "```\n"]
    for name, text in commands:
        lines += [f"## {name}\n", "```text", text, "```\n"]
    lines.append("[Errors](errors.md) lists the exit codes and the messages.")
    return "\n".join(lines) + "\n"


def man_page() -> str:
    """Returns the page of `man opentrail`, with the help of every command."""
    title = f'.TH OPENTRAIL 1 "" "opentrail {__version__}" "User Commands"'
    lines = [title, ".SH NAME", r"opentrail \- the CloudTrail that anyone can run"]
    (_, summary), *commands = helps(parser(), width=72)
    for name, text in [("SYNOPSIS", summary), *commands]:
        lines += [f".SH {name}", ".nf", text.translate(ROFF), ".fi"]
    lines += [".SH EXIT STATUS", ".nf"]
    lines += [f"{code:<5}{meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join([*lines, ".fi"]) + "\n"


def helps(command: argparse.ArgumentParser, width: int) -> Iterator[tuple[str, str]]:
    """Yields name and help of a command and its subcommands."""
    command.formatter_class = partial(argparse.HelpFormatter, width=width, max_help_position=34)
    yield command.prog, command.format_help().rstrip()
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from helps(inner, width)


#: Characters that a manual page would change or omit.
ROFF = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "~": r"\(ti", "`": r"\(ga"})
#: Exit code of a command → meaning.
EXIT_CODES = {
    0: "success",
    1: "negative result, or failure",
    2: "invalid arguments or settings",
    3: "the data directory is in use",
    4: "data of a newer version",
    5: "cannot be decided",
    74: "storage failed, or output cannot be written",
    130: "interrupted by Ctrl-C",
}
#: What a command says if it found nothing to report on or to decide by: the command, its words,
#: and its exit code. A test runs each on a new server.
OVER_NOTHING = (
    ("verify-store", "nothing to verify", 5),
    ("validate EMPTY", "there are none to validate", 5),
    ("import EMPTY", "nothing to import", 5),
    ("policy generate Mary", "no call of Mary since", 5),
    ("policy test POLICY --principal Mary", "no call of Mary since", 5),
    ("policy unused Mary POLICY", "no call of Mary since", 5),
    ("detections test RULE", "the rules were not tested", 5),
    ("detections test EMPTY", "there are no Sigma rules in", 2),
    ("detections enable EMPTY", "there are no Sigma rules in", 2),
    ("insights", "because Insights is off", 5),
    ("who Mary", "no record shows who created Mary (0 events name it)", 1),
    ("timeline Mary", "No event is about Mary.", 1),
    ("lookup", "no events found", 0),
    ("query 'SELECT eventName FROM event_history'", "eventName", 0),
    ("export --ndjson OUT", "0 events in 1 file", 0),
    ("backup OUT.tar", "all up to position 0", 0),
    ("exec --policy OUT.json true", "is not written, because there was no call", 0),
    ("trail list", "there are no trails", 0),
    ("detections list", "no rules are enabled", 0),
    ("keys list", "the key directory has no access keys", 0),
    ("directory list", "no keys are named", 0),
    ("users list", "there are no users", 0),
    ("principals", "no principals", 0),
    ("resources", "no resources", 0),
    ("unused-keys", "no keys", 0),
)
#: Areas of messages by folder or module of src/opentrail, in the page's order.
AREAS = {
    "settings": "Settings and flags",
    "setting_sources": "Settings and flags",
    "setting_values": "Settings and flags",
    "app": "Starting a server",
    "commands": "Commands",
    "cli": "Commands",
    "access": "Access keys, policies and users",
    "identity": "Access keys, policies and users",
    "adapters": "Storage and other servers",
    "validation": "Validation",
    "imports": "Import",
    "core/expression": "Search expressions",
    "core/policies": "Policy documents",
    "core": "Organizations",
    "capture": "Recording from within",
    "pytest_plugin": "The pytest plugin",
}


def errors_page() -> str:
    """Returns every message that can end a command, by area and exit code."""
    listed: dict[str, dict[str, int]] = {area: {} for area in AREAS.values()}
    for file in sorted((ROOT / "src/opentrail").rglob("*.py")):
        parts = file.relative_to(ROOT / "src/opentrail").with_suffix("").parts
        area = AREAS.get("/".join(parts[:2])) or AREAS.get(parts[0])
        if area:
            listed[area].update(messages(file.read_text()))
    lines = [
        MADE,
        "# Errors of the command line\n",
        "A command that fails prints one line, `opentrail: MESSAGE`, to standard error, and exits",
        "with one of these codes:\n",
        "| code | means |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
        "",
        "Words in capitals are placeholders. `SOURCE` and `SETTING` are the flag, variable, key",
        "or file that contains the value; `…` is any other text. The most common messages are",
        "explained in [Troubleshooting](../howto/troubleshoot.md). [Records](records.md) lists",
        "the error codes in records. The API, described in [operations](operations.md), returns",
        "the same errors as AWS.\n",
        "## Answers over nothing\n",
        "No command reports success because it found nothing to check. If a verdict would rest on",
        "no record, call, event or file, the exit code is 5. Lists may be empty. `EMPTY` is an",
        "empty folder, and `OUT` a new file or folder. In the pytest plugin, `assert_only_allowed`",
        "fails if no call was recorded, and no golden trail is written without calls.\n",
        "| `opentrail` | says, if there is nothing | exit code |",
        "|---|---|---|",
        *(f"| `{command}` | {_cell(words)} | {code} |" for command, words, code in OVER_NOTHING),
    ]
    for area, of_area in listed.items():
        lines += [f"\n## {area}\n", "| message | exit code |", "|---|---|"]
        lines += [f"| {_cell(text)} | {code} |" for text, code in sorted(of_area.items())]
    return "\n".join(lines) + "\n"


def _kinds(kind: type[errors.OpentrailError]) -> dict[str, type[errors.OpentrailError]]:
    found = {kind.__name__: kind}
    for inner in kind.__subclasses__():
        found |= _kinds(inner)
    return found


#: Every kind of error by its name.
KINDS = _kinds(errors.OpentrailError)
#: Kinds whose messages come from services.
OF_SERVICES = (errors.CloudTrailError, errors.ObjectStoreError, errors.ServiceError)


def messages(source: str) -> dict[str, int]:
    """Returns the message and exit code of each error of ours that a module raises."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
            continue
        kind = KINDS.get(node.func.id)
        if kind is None or issubclass(kind, OF_SERVICES):
            continue
        text = _shown(node.args[0])
        if re.search("[a-z]{2}", text):
            found[text] = kind.exit_code
    return found


def _shown(message: ast.expr) -> str:
    """Returns a message with the names of its parts in capitals."""
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return message.value
    if isinstance(message, ast.JoinedStr):
        return "".join(map(_shown, message.values))
    if isinstance(message, ast.FormattedValue):
        quote = "'" if message.conversion == ord("r") else ""
        return f"{quote}{_shown(message.value)}{quote}"
    if isinstance(message, ast.Attribute):
        return NAMES.get(message.attr, message.attr.strip("_").replace("_", "-").upper())
    if isinstance(message, ast.Name):
        return NAMES.get(message.id, message.id.strip("_").replace("_", "-").upper())
    return "…"


#: Parts of messages whose names in code say less than these.
NAMES = {
    "error": "REASON",
    "strerror": "REASON",
    "hint": "",
    "shown": "…",
    "text": "VALUE",
    "source": "SETTING",
}


def _cell(text: str) -> str:
    """Returns text as code in a table's cell."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|").replace("\n", " ")


def console_roles_page() -> str:
    """Returns the table of the API's routes, each with the least role that it needs."""
    lines = [
        MADE,
        "# Roles of the console\n",
        "The web console and the command line share one JSON API. The table shows the minimum",
        "role for each of its calls. From least to most powerful, the roles are viewer, auditor,",
        "operator and admin; see [Let a team use the console](../howto/console-users.md). A",
        "client with the token in `server.json` can make any call.\n",
        "| call | minimum role | purpose |",
        "|---|---|---|",
    ]
    for rule in [rule for group in GROUPS for rule, _ in rules_in(group)]:
        role = "anybody" if rule.least is None else str(rule.least)
        role += " of all accounts" if rule.all_accounts else ""
        role = "the token only" if rule.token_only else role
        lines.append(f"| `{rule.method} {PREFIX}{rule.path}` | {role} | {rule.purpose} |")
    return "\n".join(lines) + "\n"


def hidden_values_page() -> str:
    """Returns the rules for hidden values, with counts per service."""
    counts: dict[str, Counter[str]] = {}
    for one in candidates():
        counts.setdefault(one.service, Counter())[one.hidden_by or "shown"] += 1
    columns = ("model", "name", "environment", "table", "bytes", "shown")
    total = Counter[str]()
    for of_service in counts.values():
        total.update(of_service)
    lines = [
        MADE,
        "# Hidden values\n",
        "Values that may be secrets are never written to disk. opentrail hides a request or",
        "response member, and all values below it, if AWS's model marks the member as sensitive",
        "(*model*), if its name suggests that its strings are secrets (*name*), if it contains",
        "environment variables (*environment*; their names remain visible), or if",
        "`redaction.toml` lists it (*table*). Bytes are never recorded (*bytes*). In maps, in",
        "name-value pairs, and in documents without a model, opentrail goes by the names callers",
        "choose, such as a tag `db-password`, a patch of `/variables/API_TOKEN`, or a",
        "header `X-Api-Key`. It also searches JSON, YAML, XML, forms, addresses and shell",
        "commands, even if they're base64-encoded. Names that only describe a secret are",
        "ignored, such as `password-policy`, `PasswordResetRequired`, `is_secret`, or the `name`",
        "and `key` of a `secretKeyRef`.\n",
        "In commands, scripts, configuration and messages, opentrail hides everything from a",
        "secret's name or option to the end of the line, or to the end of the string, list",
        "element or query parameter that contains both, if that comes first. A string, bracket or",
        "document (`<<EOF`) that begins on the line is hidden to its end. In",
        '`bash -c "export PW=a; run" --host h`, for example, the host is visible, but `run` is',
        "hidden. opentrail also hides some secrets without a name: `redis-cli -a x`, `curl -u user:x`,",
        "`IDENTIFIED BY 'x'`, private keys, webhook addresses, and tokens that begin like",
        "GitHub's `ghp_`. If a column of an `INSERT` is named like a secret, all its values are",
        "hidden. The recognized commands and statements are listed in `free_text.py`, the tokens",
        "in `embedded.py`. [Guarantee S4](../explanation/guarantees.md) lists the values that",
        "remain visible.\n",
        "The value of a template parameter, such as an AWS CloudFormation stack parameter, is",
        "visible only if the template is part of the call and doesn't set `NoEcho` for the",
        "parameter. It's hidden if the template is at a URL, comes from an earlier call, or is in",
        "a format opentrail can't read.\n",
        "The table shows, for each service, how many members in botocore's models have a type,",
        "name or documentation that suggests a secret. We have reviewed the visible",
        "ones (*shown*), and `reviewed.toml` gives the reason for each. To list every",
        "member, run `scripts/secret_members.py --all`.\n",
        "Hidden values are replaced with `HIDDEN_DUE_TO_SECURITY_REASONS`, or with",
        "`<sensitiveDataRemoved>` in EC2. Where AWS omits a value, so does opentrail. It also",
        "hides all session tokens, even though AWS records STS session tokens in plain text. Page",
        "tokens and idempotency tokens remain visible.\n",
        f"| service | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for service, of_service in [("all", total), *sorted(counts.items())]:
        cells = " | ".join(str(of_service[column] or "") for column in columns)
        lines.append(f"| {service} | {cells} |")
    return "\n".join(lines) + "\n"


def permissions_page() -> str:
    """Returns the tables of events whose permissions have other names."""
    lines = [
        MADE,
        "# Events and their permissions\n",
        "`assert_only_allowed` in the [pytest plugin](pytest-plugin.md) checks whether a policy",
        "grants the permission a call needs. This permission has the same name as the event,",
        "without the API version at the end (as in `CreateFunction20150331`), except for these",
        "events:\n",
        "| event | permission |",
        "|---|---|",
    ]
    lines += [
        f"| `{service}:{event}` | `{service}:{action}` |"
        for service, names in sorted(ACTION_NAMES.items())
        for event, action in sorted(names.items())
    ]
    listed = ", ".join(f"`{event}`" for event in sorted(WITHOUT_PERMISSION))
    lines += [
        "",
        f"These events need no permission: {listed}. For",
        "`DeleteObjects`, each object's `DeleteObject` event is checked instead.\n",
        "Other rules:\n",
        "- `dynamodb:TransactWriteItems` needs the permissions of its items: `PutItem`,",
        "  `UpdateItem`, `DeleteItem`, `ConditionCheckItem`.",
        "- API Gateway events need the permission for the HTTP method, such as",
        "  `apigateway:GET` or `apigateway:POST`.",
        "- Some S3 calls need a second permission: a copy needs `s3:GetObject` for its source, an",
        "  upload with an ACL or tags needs `s3:PutObjectAcl` or `s3:PutObjectTagging`, and",
        "  `GetObjectAttributes` needs `s3:GetObject`.",
        "- S3 calls that name an object version need",
        "  " + ", ".join(f"`s3:{one}`" for one in sorted(S3_VERSIONED.values())) + ".",
    ]
    return "\n".join(lines) + "\n"


def selector_rules() -> str:
    """Returns the fields and values in the web console's form for advanced event selectors."""
    members = ("operators", "values", "required", "single")
    fields_of = {
        owner.value: {
            category: {
                name: {member: getattr(rule, member) for member in members}
                for name, rule in rules.items()
            }
            for category, rules in field_rules(owner).items()
            if category in STORE_CATEGORIES
        }
        for owner in (SelectorOwner.TRAIL, SelectorOwner.EVENT_DATA_STORE)
    }
    rules = {"fields": fields_of, "resourceTypes": sorted(KNOWN_TYPES)}
    return json.dumps(rules, indent=2) + "\n"


def expressions_text() -> str:
    """Returns the description of search expressions for agents: the table of terms, and the fields."""
    page = (ROOT / "docs/howto/search-events.md").read_text()
    terms = re.search(r"^\| term .*?\n\n", page, re.M | re.S)
    names = re.search(r"^Fields are .*?\n(?=\n)", page, re.M | re.S)
    assert terms
    assert names
    lines = [
        MADE,
        "# Search expressions\n",
        "Adjacent terms must all match; `OR`, `NOT` and parentheses combine them.\n",
        terms[0] + names[0],
    ]
    return "\n".join(lines)


def record_text() -> str:
    """Returns the description of records for agents: their format, and opentrail's additions."""
    form = (ROOT / "docs/reference/cloudtrail-format.md").read_text()
    section = re.search(r"^## 2 Event record\n(.*?)(?=^## )", form, re.M | re.S)
    assert section
    members = re.sub(r"^Source: .*?\n\n|^###? [\d.]+ ", _heading, section[1], flags=re.M | re.S)
    own = (ROOT / "docs/reference/records.md").read_text()
    return f"{MADE}\n# Event records\n{_without_links(members)}{_without_links(own)}"


def _heading(match: re.Match[str]) -> str:
    """Returns the heading of a section without its number, and nothing for sources."""
    return "## " if match[0].startswith("#") else ""


def _without_links(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


STARTER = ROOT / "src/opentrail/detections/starter"


@cache
def starter_rules() -> list[DetectionRule]:
    """Returns the starter rules from their files."""
    found = read_rules([STARTER])
    assert not (found.refused or found.warnings), (found.refused, found.warnings)
    return sorted(found.rules, key=lambda rule: rule.name)


def compiled_starter_rules() -> str:
    """Returns the starter rules, compiled: a rule a line, without its source."""
    defaults = msgspec.to_builtins(DetectionRule("", ""))
    lines = [
        json.dumps(
            {
                key: value
                for key, value in msgspec.to_builtins(rule).items()
                if value != defaults[key] and key != "source"
            },
            separators=(",", ":"),
        )
        for rule in starter_rules()
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def starter_rules_page() -> str:
    """Returns the table of the starter rules."""
    lines = [
        MADE,
        "# Starter rules\n",
        f"These {len(starter_rules())} Sigma rules come with opentrail and are disabled by default. To enable them, see",
        "[Detect attacks](../howto/detect-attacks.md#enable-the-starter-rules); to print one, run",
        "`opentrail detections starter NAME`. Technique ids are from",
        "[MITRE ATT&CK](https://attack.mitre.org/matrices/enterprise/cloud/iaas/).",
    ]
    for rule in starter_rules():
        harmless = " ".join(rule.falsepositives)
        lines += [
            f"\n## {rule.title}\n",
            f"`{rule.name}`, {rule.level}, {technique_of(rule)}. {rule.description}\n",
            f"False positives: {harmless}",
        ]
    return "\n".join(lines) + "\n"


def sql_page() -> str:
    """Returns the page of SQL: the table's columns, and each function in each form."""
    lines = [
        "# SQL\n",
        "The `event_history` table has one row per event and the same columns as CloudTrail Lake.",
        "Most [event data stores](../howto/query-with-sql.md#keep-events-longer-in-a-store) also have",
        "them; use their ids in `FROM`. The dialect is Trino 476's. For examples, see [Query event history",
        "with SQL](../howto/query-with-sql.md). If a statement uses anything not on this page, it's",
        "rejected, and the error gives the line and column.\n",
        "## Columns\n",
        "| column | type |",
        "|---|---|",
        *_columns(schema()),
        "\n[Event data stores with `ActivityAuditLog` events](../howto/record-your-services.md) have these"
        " columns:\n",
        "| column | type |",
        "|---|---|",
        *_columns(schema(ACTIVITY)),
        "\n## Statements\n",
        "`WITH [RECURSIVE]`, `SELECT [DISTINCT]`, `FROM`, `JOIN` (inner, left, right, full, cross)"
        " with `ON` or `USING`,",
        "`LATERAL`, `UNNEST … [WITH ORDINALITY]`, `VALUES`, `WHERE`, `GROUP BY` (with `ROLLUP`,"
        " `CUBE` and `GROUPING SETS`),",
        "`HAVING`, `WINDOW`, `ORDER BY`, `OFFSET`, `LIMIT`, `FETCH FIRST`, `UNION`, `INTERSECT`,"
        " `EXCEPT`, and subqueries.\n",
        "A table's name may have its database and catalog, as in"
        " `awsdatacatalog.default.event_history`.\n",
        "If a string is compared with a time, it's read as a time, as in",
        "`eventTime > '2026-01-01 00:00:00'`. All times are in UTC; other time zones are",
        "rejected.\n",
        "## Types\n",
        "`boolean`, `tinyint`, `smallint`, `integer`, `bigint`, `real`, `double`, `decimal(p, s)`,"
        " `varchar`, `varbinary`,",
        "`json`, `date`, `timestamp(0…6)` with or without time zone, intervals, `ipaddress`, `uuid`,"
        " `array`, `map`, `row`.\n",
    ]
    for title, table in (
        ("Functions", scalars),
        ("Aggregate functions", aggregates),
        ("Window functions", windows),
    ):
        lines += [f"## {title}\n", "| function | returns |", "|---|---|"]
        for name in sorted(table):
            lines += [f"| `{_form(form)}` | `{form.result}` |" for form in table[name]]
        lines.append("")
    # The modules fill the table of calls.
    others = sorted(CALLS.keys() - scalars.keys()) if EXPRESSION_MODULES else []
    lines += [
        "`T`, `U`, `K` and `V` are any type, `O` is any orderable type, and"
        " `function(T, U)` is a lambda from `T` to `U`.",
        "Arguments are converted as in Trino.\n",
        "These functions take arguments of several types: "
        + ", ".join(f"`{name}`" for name in others)
        + "; also `concat`, `listagg`, `extract`, `cast` and `try_cast`. Other names: "
        + ", ".join(f"`{name}` for `{of}`" for name, of in sorted(ALIASES.items()))
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _columns(schema: Mapping[str, Type]) -> list[str]:
    return [f"| `{name.lower()}` | `{lowered(kind)}` |" for name, kind in schema.items()]


def sql_functions() -> str:
    """Returns the functions that the console's editor completes, each with its first form."""
    shown = {name: "arguments of several types" for name in CALLS if name.isidentifier()}
    for table in (scalars, aggregates, windows):
        shown |= {name: f"{_form(forms[0])} → {forms[0].result}" for name, forms in table.items()}
    functions = [{"name": name, "form": shown[name]} for name in sorted(shown)]
    return json.dumps(functions, indent=1, ensure_ascii=False) + "\n"


def sample_queries() -> str:
    """Returns the sample queries, for the console."""
    return json.dumps([sample._asdict() for sample in SAMPLES], indent=2) + "\n"


def _form(form: Overload) -> str:
    return str(form).replace("|", "\\|")


def comparison_page() -> str:
    """Returns the comparison with the current number of operations."""
    page = (ROOT / "docs/explanation/comparison.md").read_text()
    model = ServiceCatalog().services["cloudtrail"].model
    count = _supported(model.operation_names, "of")
    return re.sub(r"(?<=\| operations of the CloudTrail API \| )\d+ of \d+", count, page)


PAGES = {
    "../explanation/comparison.md": comparison_page,
    "../../src/opentrail/detections/starter/compiled.json": compiled_starter_rules,
    "starter-rules.md": starter_rules_page,
    "settings.md": settings_page,
    "sql.md": sql_page,
    "../../console/src/pages/sampleQueries.json": sample_queries,
    "../../console/src/pages/sqlFunctions.json": sql_functions,
    "operations.md": operations_page,
    "authorization.md": authorization_page,
    "command-line.md": command_line_page,
    "hidden-values.md": hidden_values_page,
    "console-roles.md": console_roles_page,
    "opentrail.1": man_page,
    "event-permissions.md": permissions_page,
    "errors.md": errors_page,
    "openapi.json": api_types.description,
    "../../src/opentrail/mcp/expressions.md": expressions_text,
    "../../src/opentrail/mcp/record.md": record_text,
    "../../console/src/api/schema.ts": api_types.types,
    "../../console/src/pages/selectorRules.json": selector_rules,
}


def main() -> int:
    """Writes or checks the pages."""
    stale = []
    for name, page in PAGES.items():
        file = ROOT / "docs" / "reference" / name
        text = page()
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run scripts/reference.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
