"""Parses user agents: the method of a call, and the agent or tool that made it.

Callers choose their user agent, session name and source identity, so an agent is a claim and proves
nothing. Only `invokedBy` and the events of AWS's own MCP servers are AWS's words. Ordinary use of
the SDKs, the AWS CLI and the console is by no agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from opentrail.core.event import Record, as_object

AgentKind = Literal["agent", "iac", "ci", "scanner", "workflow", "tool"]


MethodKind = Literal["console", "cli", "sdk", "code", "service", "opentrail", "other"]
AWS_CONSOLE = "the AWS Management Console"
OWN_CONSOLE = "the opentrail console"


class Method(NamedTuple):
    """The method of a call; `code` is infrastructure as code, such as Terraform."""

    kind: MethodKind
    name: str


#: Methods by user agent; the first match wins.
_METHODS: tuple[tuple[re.Pattern[str], MethodKind, str], ...] = (
    (re.compile(r"\bopentrail-console/"), "opentrail", OWN_CONSOLE),
    (re.compile(r"^opentrail/"), "opentrail", "the opentrail command line"),
    (
        re.compile(r"^\[?(console|signin)\.|^\[?Mozilla\b|AWSConsole|S3Console|EC2Console"),
        "console",
        AWS_CONSOLE,
    ),
    (re.compile(r"AWS;? Internal|aws-internal/"), "service", "an AWS service"),
    (re.compile(r"exec-env/CloudShell"), "cli", "AWS CloudShell"),
    (re.compile(r"Terraform|terraform-provider"), "code", "Terraform"),
    (re.compile(r"Pulumi", re.I), "code", "Pulumi"),
    (re.compile(r"\baws-cdk\b", re.I), "code", "the AWS CDK"),
    (re.compile(r"Ansible", re.I), "code", "Ansible"),
    (re.compile(r"AWSPowerShell|AWS\.Tools"), "cli", "the AWS Tools for PowerShell"),
    (re.compile(r"\baws-cli/"), "cli", "the AWS CLI"),
    (re.compile(r"Boto3/|Botocore/", re.I), "sdk", "the AWS SDK for Python (Boto3)"),
    (re.compile(r"aws-sdk-go"), "sdk", "the AWS SDK for Go"),
    (re.compile(r"aws-sdk-java"), "sdk", "the AWS SDK for Java"),
    (re.compile(r"aws-sdk-js|aws-sdk-nodejs"), "sdk", "the AWS SDK for JavaScript"),
    (re.compile(r"aws-sdk-rust"), "sdk", "the AWS SDK for Rust"),
    (re.compile(r"aws-sdk-dotnet"), "sdk", "the AWS SDK for .NET"),
    (re.compile(r"aws-sdk-cpp"), "sdk", "the AWS SDK for C++"),
    (re.compile(r"aws-sdk-kotlin"), "sdk", "the AWS SDK for Kotlin"),
    (re.compile(r"aws-sdk-php"), "sdk", "the AWS SDK for PHP"),
    (re.compile(r"aws-sdk-ruby"), "sdk", "the AWS SDK for Ruby"),
    (re.compile(r"aws-sdk-swift"), "sdk", "the AWS SDK for Swift"),
    (re.compile(r"ec2-api-tools"), "cli", "the EC2 API tools"),
)


def method_of_user_agent(user_agent: str) -> Method | None:
    """Returns the method that a user agent names; None if unknown."""
    for pattern, kind, name in _METHODS:
        if pattern.search(user_agent):
            return Method(kind, name)
    return None


class Agent(TypedDict):
    """A call's claims about the agent or tool that made it.

    `session` is the agent's own name of its session or run, `delegator` the principal it acts for.
    """

    name: str
    kind: AgentKind
    session: NotRequired[str]
    delegator: NotRequired[str]


class _Mark(NamedTuple):
    """The mark of an agent in a user agent; programs write it in one case only.

    `word` occurs in all user agents that match, in lower case. Without a `name` the pattern has a
    group of that name; a group `session` is optional.
    """

    word: str
    pattern: str
    kind: AgentKind
    name: str | None = None


#: Maximum characters read of a user agent; the longest that AWS published has 331.
_MAX_USER_AGENT_LENGTH = 512
#: Maximum characters read of other strings.
_MAX_LENGTH = 1_024

_AWS_MCP = "aws-mcp.amazonaws.com"
_AWS_MCP_SERVER = "AWS MCP Server"
#: The event source of Amazon Bedrock AgentCore, whose InvokeMcp is a call of an agent.
AGENTCORE = "bedrock-agentcore.amazonaws.com"
_BEDROCK_AGENTCORE = "Bedrock AgentCore"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

#: Agents by their words in session names, source identities, application ids and names of MCP
#: clients. A word with a hyphen is sufficient; others, which may be names of persons, need `agent-`
#: or `agent+` in front of them.
_AGENTS = {
    "aider": "Aider",
    "amazon-q": "Amazon Q Developer",
    "amazon-q-developer": "Amazon Q Developer",
    "claude": "Claude",
    "claude-ai": "Claude",
    "claude-code": "Claude Code",
    "claude-desktop": "Claude Desktop",
    "cline": "Cline",
    "codex": "Codex",
    "codex-cli": "Codex",
    "codex-mcp-client": "Codex",
    "copilot": "GitHub Copilot",
    "cursor": "Cursor",
    "cursor-agent": "Cursor",
    "cursor-vscode": "Cursor",
    "devin": "Devin",
    "gemini": "Gemini",
    "gemini-cli": "Gemini CLI",
    "github-copilot": "GitHub Copilot",
    "goose": "Goose",
    "jules": "Jules",
    "kiro": "Kiro",
    "kiro-cli": "Kiro CLI",
    "opencode": "opencode",
    "openhands": "OpenHands",
    "visual-studio-code": "Visual Studio Code",
    "windsurf": "Windsurf",
}


def _any_of(words: list[str]) -> str:
    """Returns a pattern of the longest matching word."""
    return "|".join(sorted(words, key=len, reverse=True))


_UNMISTAKABLE = [word for word in _AGENTS if "-" in word]
#: `agent+NAME+DELEGATOR`, `agent-NAME` of a known agent, or its unmistakable name; anything may
#: follow.
_CONVENTION = re.compile(
    rf"""(?:
        agent\+(?P<any>[\w.-]{{1,64}})(?=\+|\Z)
        |(?:agent-(?P<known>{_any_of(list(_AGENTS))})|(?P<alone>{_any_of(_UNMISTAKABLE)}))(?![a-z0-9])
    )(?:\+(?P<delegator>[\w.=,@-]{{1,64}}))?""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
_APPLICATION = re.compile(r"\bapp/([^\s\]]{1,200})")
#: A session name or a source identity (STS API reference).
_STS_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)

#: Marks of user agents; the first that matches names the agent.
_MARKS = (
    _Mark("mcp-proxy-for-aws", r"\bmcp-proxy-for-aws/\S{1,32} (?P<name>[\w.-]{1,64})/", "agent"),
    _Mark("mcp-proxy-for-aws", r"\bmcp-proxy-for-aws/", "agent", "MCP Proxy for AWS"),
    _Mark("mcpclient", r"\bMCPClient/(?P<name>[\w.-]{1,64})", "agent"),
    _Mark("client#", r"\bmd/client#(?P<name>[\w.-]{1,64})", "agent"),
    _Mark("awslabs", r"\bawslabs(?:#mcp#|/mcp/|\.)(?P<name>[\w.-]{1,64})", "agent"),
    _Mark("agentcore-mcp-server", r"\bagentcore-mcp-server/", "agent", "agentcore-mcp-server"),
    _Mark("bedrock-agentcore", r"\bbedrock-agentcore/", "agent", _BEDROCK_AGENTCORE),
    _Mark("amazonq-for-", r"\b(?:exec-env|app)/AmazonQ-For-", "agent", "Amazon Q Developer"),
    *(
        _Mark(word, rf"(?:^|[ \[(]){word}/", "agent", name)
        for word, name in _AGENTS.items()
        if word in _UNMISTAKABLE
    ),
    _Mark("stratus", rf"\bstratus-red-team_(?P<session>{_UUID})", "tool", "Stratus Red Team"),
    _Mark("grimoire", rf"\bgrimoire_(?P<session>{_UUID})", "tool", "Grimoire"),
    _Mark("trufflehog", r"\bTruffleHog", "tool", "TruffleHog"),
    _Mark("s3 browser", r"\bS3 Browser", "tool", "S3 Browser"),
    _Mark("opentofu", r"\bOpenTofu", "iac", "OpenTofu"),
    _Mark("pulumi", r"\bPulumi", "iac", "Pulumi"),
    _Mark("terraform", r"\bTerraform/|\bterraform-(?:provider|exec)", "iac", "Terraform"),
    _Mark("aws-cdk", r"\baws-cdk/", "iac", "AWS CDK"),
    _Mark("ansible", r"\bAnsible/", "iac", "Ansible"),
    _Mark("c7n", r"\bc7n[/#]", "scanner", "Cloud Custodian"),
    _Mark("cloudcustodian", r"\bCloudCustodian\b", "scanner", "Cloud Custodian"),
    _Mark("apn_1826889", r"\bAPN_1826889\b", "scanner", "Prowler"),
    _Mark(
        "airflow", rf"\bAirflow/.*\bDagRunKey/(?P<session>{_UUID})", "workflow", "Apache Airflow"
    ),
    _Mark("airflow", r"\bAirflow/", "workflow", "Apache Airflow"),
    _Mark(
        "github-actions",
        r"\bconfigure-aws-credentials-for-github-actions",
        "ci",
        "GitHub Actions",
    ),
)
_PATTERNS = tuple((mark, re.compile(mark.pattern, re.ASCII)) for mark in _MARKS)
#: Session names that tools choose themselves.
_SESSIONS: dict[str, Agent] = {
    "GitHubActions": {"name": "GitHub Actions", "kind": "ci"},
    "ProwlerAssessmentSession": {"name": "Prowler", "kind": "scanner"},
}

#: Words in lower case, each with the name of its agent; None: shared by several agents.
_WORDS = (
    ("agent+", None),
    ("agent=", None),
    ("aws-mcp.", _AWS_MCP_SERVER),
    *_AGENTS.items(),
    *((mark.word, mark.name) for mark in _MARKS),
    *((session.lower(), agent["name"]) for session, agent in _SESSIONS.items()),
)


def words_of(matches: Callable[[str], bool]) -> list[str]:
    """Returns words of which each record of a matching agent contains one, in any case."""
    return sorted({word for word, name in _WORDS if name is None or matches(name)})


def agent_of(record: Record) -> Agent | None:
    """Returns the agent that made the call of a record; None: an ordinary caller.

    >>> agent_of({"userAgent": "aws-cli/2.31.0 md/awscrt#0.27.6 app/agent-claude-code"})
    {'name': 'Claude Code', 'kind': 'agent'}
    """
    identity = as_object(record.get("userIdentity"))
    return agent_in(
        record.get("userAgent"),
        identity.get("arn"),
        as_object(identity.get("sessionContext")).get("sourceIdentity"),
        agent_tag_of(record),
        identity.get("invokedBy"),
        record.get("eventSource"),
        record.get("eventName"),
    )


def agent_in(
    user_agent: Any,
    arn: Any,
    source_identity: Any,
    tag: Any,
    invoked_by: Any,
    event_source: Any,
    event_name: Any = None,
) -> Agent | None:
    """Returns the agent that these members of a record name; a record may hold anything there.

    Reads the event name for `AGENTCORE` only.
    """
    if invoked_by == _AWS_MCP:
        return {"name": _AWS_MCP_SERVER, "kind": "agent"}
    agent = read_agent(
        _text(user_agent),
        _text(arn),
        _text(source_identity),
        _text(tag),
    )
    if agent is not None:
        return agent
    if _text(event_source).startswith("aws-mcp."):
        return {"name": _AWS_MCP_SERVER, "kind": "agent"}
    if event_source == AGENTCORE and event_name == "InvokeMcp":
        return {"name": _BEDROCK_AGENTCORE, "kind": "agent"}
    return None


def _text(value: Any) -> str:
    return value[:_MAX_LENGTH] if isinstance(value, str) else ""


def agent_tag_of(record: Record) -> str | None:
    """Returns the tag `agent` of the session that made a call, if opentrail recorded it."""
    extra = as_object(as_object(record.get("additionalEventData")).get("opentrail"))
    tag = extra.get("agentTag")
    return tag if isinstance(tag, str) else None


@lru_cache(512)
def read_agent(user_agent: str, arn: str, source_identity: str, tag: str = "") -> Agent | None:
    """Returns the agent that a caller claims to be; each argument has at most a kilobyte.

    An operator's settings precede a program's own claims.
    """
    session = _sts_name(arn.rpartition("/")[2]) if ":assumed-role/" in arn else ""
    source = _sts_name(source_identity)
    user_agent = user_agent[:_MAX_USER_AGENT_LENGTH]
    said = f"{user_agent} {session} {source} {tag}".lower()
    if not any(word in said for word, _ in _WORDS):
        return None
    application = _APPLICATION.search(user_agent)
    source_agent = _by_convention(source)
    agent = (
        source_agent
        or _by_tag(tag)
        or _by_convention(session, is_session=True)
        or (_by_convention(application[1]) if application else None)
        or _SESSIONS.get(session)
        or _in_user_agent(user_agent)
    )
    if agent is not None and agent["kind"] == "agent" and source and source_agent is None:
        return {**agent, "delegator": agent.get("delegator", source)}
    return agent


def _sts_name(text: str) -> str:
    return text if _STS_NAME.fullmatch(text) else ""


def _by_convention(text: str, *, is_session: bool = False) -> Agent | None:
    match = _CONVENTION.match(text)
    if match is None:
        return None
    word = match["any"] or match["known"] or match["alone"]
    agent: Agent = {"name": _name_of(word), "kind": "agent"}
    if is_session:
        agent["session"] = text
    if match["delegator"]:
        agent["delegator"] = match["delegator"]
    return agent


def _by_tag(tag: str) -> Agent | None:
    """Returns the agent of a tag: its value is the name, or has the form of a session name."""
    key, _, value = tag.partition("=")
    return _by_convention(f"agent+{value.removeprefix('agent+')}") if key == "agent" else None


def _in_user_agent(user_agent: str) -> Agent | None:
    said = user_agent.lower()
    for mark, pattern in _PATTERNS:
        match = pattern.search(user_agent) if mark.word in said else None
        if match is not None:
            groups = match.groupdict()
            agent: Agent = {"name": mark.name or _name_of(groups["name"]), "kind": mark.kind}
            if groups.get("session"):
                agent["session"] = groups["session"]
            return agent
    return None


def _name_of(word: str) -> str:
    return _AGENTS.get(word.lower().replace("_", "-"), word)


#: Group 1 is the family; DuckDB also reads this. S3's records have user agents in brackets, and
#: user agents of AWS's partners begin with `APN/1.0`.
FAMILY = "^\\[?(?:APN/[^ ]* )?([^][/ ,;()]{1,64})"
_FAMILY = re.compile(FAMILY)


def family_of(user_agent: str) -> str | None:
    """Returns the family of a user agent, or None.

    >>> family_of("aws-cli/2.15.30 md/awscrt#0.19.19"), family_of("[Boto3/1.34.69 md/Botocore]")
    ('aws-cli', 'Boto3')
    >>> family_of("APN/1.0 HashiCorp/1.0 Terraform/1.7.5"), family_of("console.amazonaws.com")
    ('HashiCorp', 'console.amazonaws.com')
    """
    match = _FAMILY.match(user_agent)
    return match[1] if match else None
