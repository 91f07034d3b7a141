"""The agent or tool that made a call, from its record.

The user agents of agents come from the named programs: read in their packages, or sent by them.
Terraform's, Stratus Red Team's and the ordinary ones are in records that AWS wrote
(`tests/data/SOURCES.md`).
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.user_agents import Agent, agent_of, words_of
from tests.collection import at_least, collected_records
from tests.factories import a_record, an_assumed_role

BOTO3 = "Boto3/1.44.0 md/Botocore#1.44.0 ua/2.1 os/linux#6.1 md/arch#x86_64 lang/python#3.12.3"
CLI = "aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/linux#6.1 lang/python#3.13.7 md/command#s3.ls"
STRATUS = "stratus-red-team_f4a5b3c2-1d2e-4f60-8a9b-0c1d2e3f4a5b"
STRATUS_ID = STRATUS.partition("_")[2]
APN = "APN/1.0 HashiCorp/1.0 Terraform"

AGENTS = [
    # Set by operators.
    (f"{CLI} app/agent-claude-code", "Claude Code", "agent"),
    (f"{CLI} app/claude-code-ada", "Claude Code", "agent"),
    (f"{BOTO3} app/agent+payroll-bot+ada", "payroll-bot", "agent"),
    (f"[{BOTO3} app/agent-cursor]", "Cursor", "agent"),
    (f"{BOTO3} app/github-copilot", "GitHub Copilot", "agent"),
    ("aws-sdk-go-v2/1.40.0 os/linux lang/go#1.25 app/gemini-cli", "Gemini CLI", "agent"),
    ("aws-sdk-java/2.35.0 md/internal app/agent-goose", "Goose", "agent"),
    # Set by programs.
    (
        f"{BOTO3} md/awslabs#mcp#cloudwatch-mcp-server#0.0.20",
        "cloudwatch-mcp-server",
        "agent",
    ),
    (
        f"{BOTO3} md/awslabs#mcp#amazon-translate-mcp-server/1.0.0",
        "amazon-translate-mcp-server",
        "agent",
    ),
    (f"{BOTO3} awslabs/mcp/mysql_mcp_server/1.0.9", "mysql_mcp_server", "agent"),
    (
        f"{BOTO3} awslabs.cloudwatch-applicationsignals-mcp-server/0.1.21",
        "cloudwatch-applicationsignals-mcp-server",
        "agent",
    ),
    (f"{BOTO3} agentcore-mcp-server/0.1.5 memory-control", "agentcore-mcp-server", "agent"),
    (
        f"{BOTO3} md/awslabs#mcp#security-agent-mcp-server#0.1.0 md/client#claude-code",
        "Claude Code",
        "agent",
    ),
    (
        f"{CLI} md/awslabs#mcp#aws-api-mcp-server#1.5.6 md/via/AWS-API-MCP"
        " MCPClient/claude-code#2.1.284 cfg/ro#1 cfg/consent#0 cfg/scripts#0",
        "Claude Code",
        "agent",
    ),
    (
        f"{CLI} md/awslabs#mcp#aws-api-mcp-server#1.5.6 md/via/AWS-API-MCP MCPClient/my-own#0.1",
        "my-own",
        "agent",
    ),
    (f"{CLI} md/awslabs#mcp#aws-api-mcp-server#1.5.6 cfg/ro#0", "aws-api-mcp-server", "agent"),
    (
        "python-httpx/0.28.1 mcp-proxy-for-aws/1.7.0 claude-code/2.1.284",
        "Claude Code",
        "agent",
    ),
    ("python-httpx/0.28.1 mcp-proxy-for-aws/1.7.0 cursor-vscode/1.0.0", "Cursor", "agent"),
    ("python-httpx/0.28.1 mcp-proxy-for-aws/1.7.0", "MCP Proxy for AWS", "agent"),
    ("aws-cli/2.37.3 claude-code/2.1.280", "Claude Code", "agent"),
    (
        f"{BOTO3} bedrock-agentcore/1.25.0 (integration_source=langgraph; feature=payments)",
        "Bedrock AgentCore",
        "agent",
    ),
    (f"{CLI} exec-env/AmazonQ-For-CLI-Version-1.2.3", "Amazon Q Developer", "agent"),
    (f"{BOTO3} exec-env/AmazonQ-For-IDE-Version-1.4.0", "Amazon Q Developer", "agent"),
    (
        "aws-sdk-rust/1.3.8 os/macos lang/rust/1.87.0 md/appVersion-1.19.0 app/AmazonQ-For-CLI",
        "Amazon Q Developer",
        "agent",
    ),
    # Infrastructure as code.
    (
        f"{APN}/1.1.2 (+https://www.terraform.io) terraform-provider-aws/3.76.1"
        " (+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go/1.42.52"
        " (go1.17.6; darwin; amd64)",
        "Terraform",
        "iac",
    ),
    (f"[{APN}/1.1.2 (+https://www.terraform.io)]", "Terraform", "iac"),
    (f"{APN}/1.9.5 HashiCorp-terraform-exec/0.21.0", "Terraform", "iac"),
    ("APN/1.0 OpenTofu-S3-Backend/1.0 OpenTofu/1.10.0", "OpenTofu", "iac"),
    ("APN/1.0 Pulumi/3.130.0 PulumiAwsNative/1.0.0", "Pulumi", "iac"),
    ("aws-sdk-js/3.716.0 os/linux lang/js md/nodejs#20.9.0 aws-cdk/2.1029.0", "AWS CDK", "iac"),
    ("APN/1.0 Ansible/2.17.1 amazon.aws/8.0.1", "Ansible", "iac"),
    ("APN/1.0 Ansible/2.16.0 community.aws/7.2.0", "Ansible", "iac"),
    # Scanners, workflows, continuous integration, and others.
    ("c7n/0.9.53 Python/3.11 Linux/6.1 c7n/policy#ec2-untagged", "Cloud Custodian", "scanner"),
    ("CloudCustodian(ec2-untagged)/0.8.44 Boto3/1.9.0", "Cloud Custodian", "scanner"),
    (f"{BOTO3} APN_1826889", "Prowler", "scanner"),
    ("Airflow/2.9.1 AmPP/8.20.0 Caller/S3ListOperator", "Apache Airflow", "workflow"),
    (
        "aws-sdk-js/3.899.0 ua/2.1 configure-aws-credentials-for-github-actions",
        "GitHub Actions",
        "ci",
    ),
    (f"{APN}/1.1.2 (+https://www.terraform.io) {STRATUS}", "Stratus Red Team", "tool"),
    (STRATUS, "Stratus Red Team", "tool"),
    ("TruffleHog", "TruffleHog", "tool"),
    ("[S3 Browser/11.6.7 (https://s3browser.com)]", "S3 Browser", "tool"),
]
#: Current programs: SDKs, with optional parts about their environment and purpose.
SDKS = [
    CLI,
    BOTO3,
    "aws-cli/1.42.40 md/Botocore#1.40.40 ua/2.1 os/windows#10 lang/python#3.11.9",
    "aws-sdk-go-v2/1.39.0 ua/2.1 os/linux lang/go#1.25.1 md/GOOS#linux api/s3#1.88.1",
    "aws-sdk-java/2.33.8 md/io#sync md/http#Apache ua/2.1 os/Linux#6.1 lang/java#21.0.8",
    "aws-sdk-js/3.899.0 ua/2.1 os/darwin#24.6.0 lang/js md/nodejs#22.19.0 api/sts#3.899.0",
    "aws-sdk-rust/1.3.8 ua/2.1 api/s3/1.106.0 os/linux lang/rust/1.88.0",
    "aws-sdk-dotnet-coreclr/4.0.7.4 ua/2.1 os/linux#6.1 lang/.NET_Core#8.0.20",
    "aws-sdk-php/3.356.28 ua/2.1 OS/Linux#6.1 lang/php#8.3.25 GuzzleHttp/7",
    "aws-sdk-ruby3/3.233.0 ua/2.1 api/s3#1.199.1 os/linux md/x86_64 lang/ruby#3.4.5",
    "aws-sdk-cpp/1.11.657 ua/2.1 md/aws-crt# os/Linux#6.1 lang/c++#C++11",
    "aws-sdk-swift/1.5.51 ua/2.1 api/s3#1.5.51 os/linux lang/swift#6.1",
]
ADDITIONS = [
    "",
    " exec-env/CloudShell",
    " exec-env/AWS_Lambda_python3.13",
    " exec-env/AWS_ECS_FARGATE",
    " cfg/retry-mode#standard m/b,C,n",
    " app/billing",
    " app/data-platform_etl.v2",
]
#: Words of agents, or the form of their marks, in user agents of other programs.
FALSE_FRIENDS = [
    f"{CLI} app/billing",
    f"{CLI} app/agent-nightly-report",
    f"{BOTO3} app/cursor",
    f"{BOTO3} app/goose-migrations",
    "aws-sdk-go/1.41.4 (go1.18.3; linux; amd64) amazon-ssm-agent/",
    f"{CLI} exec-env/CloudShell",
    f"{BOTO3} exec-env/AWS_Lambda_python3.13",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Cursor/0.50 Chrome/132.0.0.0",
    "aws-cli/2.31.0 md/command#s3.ls --bucket claude-code-logs",
    "cloudformation.amazonaws.com",
    "my-terraform-tool/1.0",
    "awslabsish/1.0",
]


@pytest.mark.parametrize(("user_agent", "name", "kind"), AGENTS)
def test_user_agents_of_agents_and_tools_name_them(user_agent: str, name: str, kind: str) -> None:
    agent = agent_of(a_record(userAgent=user_agent))

    assert agent is not None
    assert (agent["name"], agent["kind"]) == (name, kind)


def test_the_list_has_forty_agents() -> None:
    assert len(AGENTS) >= 40


@pytest.mark.parametrize("addition", ADDITIONS)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdks_name_no_agent(sdk: str, addition: str) -> None:
    assert agent_of(a_record(userAgent=sdk + addition)) is None
    assert agent_of(a_record(userAgent=f"[{sdk}{addition}]")) is None


@pytest.mark.parametrize("user_agent", [*FALSE_FRIENDS, "", "[]", "app/", "agent+"])
def test_other_ordinary_user_agents_name_no_agent(user_agent: str) -> None:
    assert agent_of(a_record(userAgent=user_agent)) is None


@pytest.mark.slow
def test_aws_records_of_tools_have_an_agent() -> None:
    ordinary: set[tuple[str, str]] = set()
    tools: set[tuple[str, str]] = set()
    for _, record in collected_records():
        agent = agent_of(record)
        if agent is None:
            # The same program is another case under another principal.
            arn = (record.get("userIdentity") or {}).get("arn")
            ordinary.add((str(record.get("userAgent")), str(arn)))
        else:
            tools.add((agent["name"], agent["kind"]))

    known = {("Terraform", "iac"), ("Stratus Red Team", "tool")}
    assert known <= tools <= {*known, ("Grimoire", "tool"), ("Cloud Custodian", "scanner")}
    assert len(ordinary) >= at_least(150, 40)
    assert not [program for program, _ in ordinary if re.search("(?i)terraform|stratus", program)]


# Sessions


def in_session(
    session: str, source_identity: str | None = None, tag: str | None = None, **members: Any
) -> Agent | None:
    identity = an_assumed_role(session=session)
    if tag is not None:
        members["additionalEventData"] = {"opentrail": {"agentTag": tag}}
    if source_identity is not None:
        identity["sessionContext"]["sourceIdentity"] = source_identity
    return agent_of(a_record(userIdentity=identity, **{"userAgent": CLI, **members}))


@pytest.mark.parametrize(
    ("session", "agent"),
    [
        ("agent+claude-code+ada", {"name": "Claude Code", "delegator": "ada"}),
        ("agent+payroll", {"name": "payroll"}),
        (
            "agent+payroll+ada@example.com+run-7",
            {"name": "payroll", "delegator": "ada@example.com"},
        ),
        ("agent-codex", {"name": "Codex"}),
        ("claude-code-1732659000", {"name": "Claude Code"}),
        ("Kiro-CLI", {"name": "Kiro CLI"}),
    ],
)
def test_a_session_name_names_agent_and_delegator(session: str, agent: dict[str, str]) -> None:
    assert in_session(session) == {**agent, "kind": "agent", "session": session}


@pytest.mark.parametrize(
    "session", ["devin", "claude", "agent-smith", "goose-1", "botocore-session-17", "release"]
)
def test_plausible_names_of_people_name_no_agent(session: str) -> None:
    assert in_session(session) is None


def test_sessions_of_continuous_integration_and_scanners_are_known() -> None:
    assert in_session("GitHubActions") == {"name": "GitHub Actions", "kind": "ci"}
    assert in_session("ProwlerAssessmentSession") == {"name": "Prowler", "kind": "scanner"}


def test_only_role_sessions_name_an_agent() -> None:
    user = {"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/agent+claude-code"}
    assert agent_of(a_record(userIdentity=user, userAgent=CLI)) is None


def test_source_identity_is_the_delegator_or_an_agent() -> None:
    claude = {"name": "Claude Code", "kind": "agent"}

    assert in_session("release", "ada", userAgent=f"{CLI} app/agent-claude-code") == {
        **claude,
        "delegator": "ada",
    }
    assert in_session("agent+claude-code+bob", "ada") == {
        **claude,
        "delegator": "bob",
        "session": "agent+claude-code+bob",
    }
    assert in_session("release", "agent+claude-code+ada") == {**claude, "delegator": "ada"}
    assert in_session("release", "ada") is None


@pytest.mark.parametrize(
    ("tag", "agent"),
    [
        ("agent=claude-code", {"name": "Claude Code"}),
        ("agent=payroll.bot_2", {"name": "payroll.bot_2"}),
        ("agent=claude-code+ada", {"name": "Claude Code", "delegator": "ada"}),
        ("agent=agent+cursor", {"name": "Cursor"}),
    ],
)
def test_a_session_tag_names_the_agent(tag: str, agent: dict[str, str]) -> None:
    assert in_session("agent+codex", tag=tag) == {**agent, "kind": "agent"}
    assert in_session("night", tag=tag, userAgent=f"{APN}/1.9.5") == {**agent, "kind": "agent"}


@pytest.mark.parametrize("tag", ["agent=", "agent=a b", "agent", "team=claude-code", 5, None])
def test_other_tags_name_no_agent(tag: Any) -> None:
    assert in_session("night", tag=tag) is None


def test_a_source_identity_precedes_a_session_tag() -> None:
    agent = in_session("night", "agent+cursor", "agent=codex")
    assert agent == {"name": "Cursor", "kind": "agent"}
    agent = in_session("night", "ada", "agent=codex")
    assert agent == {"name": "Codex", "kind": "agent", "delegator": "ada"}


def test_operator_settings_override_the_program() -> None:
    terraform = f"{APN}/1.9.5 app/agent-codex"

    assert in_session("release", userAgent=terraform) == {"name": "Codex", "kind": "agent"}
    assert in_session("GitHubActions", userAgent=terraform) == {"name": "Codex", "kind": "agent"}
    session = in_session("agent+claude-code", userAgent=terraform)
    assert session is not None
    assert session["name"] == "Claude Code"
    source = in_session("agent+claude-code", "agent+cursor", userAgent=terraform)
    assert source == {"name": "Cursor", "kind": "agent"}


def test_runs_in_the_user_agent_are_named() -> None:
    run = "Airflow/2.9.1 Caller/S3ListOperator DagRunKey/f4a5b3c2-1d2e-5f60-8a9b-0c1d2e3f4a5b x"

    assert agent_of({"userAgent": STRATUS}) == {
        "name": "Stratus Red Team",
        "kind": "tool",
        "session": STRATUS_ID,
    }
    agent = agent_of({"userAgent": run})
    assert agent is not None
    assert agent["session"] == "f4a5b3c2-1d2e-5f60-8a9b-0c1d2e3f4a5b"


# AWS's MCP server


def test_calls_through_awss_mcp_server_have_its_name() -> None:
    host = "aws-mcp.amazonaws.com"
    identity = {**an_assumed_role(session="agent+codex"), "invokedBy": host}
    record = a_record(userIdentity=identity, userAgent=host, sourceIPAddress=host)

    assert agent_of(record) == {"name": "AWS MCP Server", "kind": "agent"}


def test_awss_mcp_server_calls_have_their_client() -> None:
    call = {"eventSource": "aws-mcp.amazonaws.com", "eventType": "AwsMcpEvent"}
    proxy = "python-httpx/0.28.1 mcp-proxy-for-aws/1.7.0 claude-code/2.1.284"

    assert agent_of({**call, "userAgent": proxy}) == {"name": "Claude Code", "kind": "agent"}
    assert agent_of(call) == {"name": "AWS MCP Server", "kind": "agent"}
    early = {"eventSource": "aws-mcp.us-east-1.api.aws"}
    assert agent_of(early) == {"name": "AWS MCP Server", "kind": "agent"}


def test_agentcore_gateway_calls_have_their_client() -> None:
    gateway = {"eventSource": "bedrock-agentcore.amazonaws.com", "eventType": "AwsApiCall"}
    call = {**gateway, "eventName": "InvokeMcp", "userAgent": "python-httpx/0.28.1"}

    assert agent_of(call) == {"name": "Bedrock AgentCore", "kind": "agent"}
    assert agent_of({**call, "userAgent": "claude-code/2.1.284 (cli)"}) == {
        "name": "Claude Code",
        "kind": "agent",
    }
    assert agent_of({**call, "eventSource": "iam.amazonaws.com"}) is None
    administration = {**gateway, "eventName": "CreateGateway", "userAgent": BOTO3}
    assert agent_of(administration) is None


# Values that callers choose

PLAIN = re.compile(r"[\w+=,.@ -]{1,64}", re.ASCII)
pieces = st.sampled_from(
    [
        *(user_agent for user_agent, _, _ in AGENTS),
        "agent+",
        "agent-",
        "claude-code",
        "+",
        " ",
        "\n",
    ]
)
texts = st.one_of(
    st.text(max_size=200),
    st.lists(pieces | st.text(max_size=5), max_size=6).map("".join),
    st.lists(pieces, min_size=1, max_size=3).map(lambda parts: "".join(parts) * 200),
)
anything = st.one_of(texts, st.none(), st.booleans(), st.integers(), st.lists(texts, max_size=2))


@given(
    user_agent=anything,
    session=anything,
    source_identity=anything,
    invoked_by=anything | st.just("aws-mcp.amazonaws.com"),
    event_source=anything
    | st.sampled_from(["aws-mcp.amazonaws.com", "bedrock-agentcore.amazonaws.com"]),
    event_name=anything | st.just("InvokeMcp"),
    tag=anything | texts.map("agent={}".format),
)
def test_any_agents_name_is_short_and_plain(
    user_agent: Any,
    session: Any,
    source_identity: Any,
    invoked_by: Any,
    event_source: Any,
    event_name: Any,
    tag: Any,
) -> None:
    record = {
        "additionalEventData": {"opentrail": {"agentTag": tag}},
        "userAgent": user_agent,
        "eventSource": event_source,
        "eventName": event_name,
        "userIdentity": {
            "arn": f"arn:aws:sts::123456789012:assumed-role/R/{session}",
            "invokedBy": invoked_by,
            "sessionContext": {"sourceIdentity": source_identity},
        },
    }
    agent = agent_of(record)
    if agent is not None:
        assert all(PLAIN.fullmatch(text) for text in agent.values() if isinstance(text, str))
        # A search for the agent's name looks for these words in the record.
        name, text = agent["name"], json.dumps(record, ensure_ascii=False).lower()
        assert any(word in text for word in words_of(lambda other: other == name))


@given(value=st.recursive(anything, lambda inner: st.dictionaries(texts, inner, max_size=2)))
def test_members_of_any_form_have_no_agent(value: Any) -> None:
    agent_of({"userIdentity": value, "userAgent": {"name": value}, "eventSource": value})
    agent_of({"userIdentity": {"arn": value, "sessionContext": value}})
    agent_of({"additionalEventData": value})
    agent_of({"additionalEventData": {"opentrail": value}})


def test_words_of_all_agents_are_plain_in_json() -> None:
    words = words_of(lambda _: True)
    assert all(re.fullmatch(r"[a-z0-9 _.#+=-]*[a-z][a-z0-9 _.#+=-]*", word) for word in words)
    assert set(words_of(lambda name: name == "Terraform")) < set(words)
    assert "terraform" in words_of(lambda name: name == "Terraform")
    assert "terraform" not in words_of(lambda name: name == "Codex")
