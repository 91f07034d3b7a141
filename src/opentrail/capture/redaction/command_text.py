"""Secrets in commands of shells and in addresses: their place in the text says what they are."""

from __future__ import annotations

import re

from opentrail.capture.redaction.secret_names import hidden_members, placeholder_for, sounds_secret

_QUOTED = r""""(?:[^"\\]++|\\.)*+"?|'(?:[^'\\]++|\\.)*+'?"""
_VALUE = rf"(?P<value>{_QUOTED}|[^\s;|&\"']+)"
#: Up to an option of the same command; commands that are longer are rare.
_SAME = r"[^\n;|&]{0,400}?"
#: A part of each command below, in lower case.
_COMMANDS = (
    *("setx ", "setenv ", "env ", "arg ", "set -", "net user", "net1 user", "curl ", "chpasswd"),
    *("mysql", "mariadb", "mongo", "redis-cli", "sqlcmd", "bcp ", "sshpass", " login"),
    *("sqlplus", "sqlldr", "expdp", "impdp", "rman ", "sqlcl "),
)
#: Commands that set a variable without `=`.
_SETTING = re.compile(
    r"(?P<before>\b(?:setx|setenv|env|arg|set[ \t]+-\w+)[ \t]+(?P<name>[\w.-]{1,100})[ \t]+)"
    rf"{_VALUE}",
    re.I,
)
#: Options whose short names say nothing, by command.
_OPTIONS = tuple(
    re.compile(rf"(?P<before>\b{command}\b{_SAME}[ \t]{option}){_VALUE}")
    for command, option in (
        (r"(?:mysql\w*|mariadb[\w-]*|mongo\w*|sshpass)", r"-p[ \t=]*"),
        (
            rf"(?:docker|podman|nerdctl|helm|oras|skopeo|buildah|az)\b(?>{_SAME}\blogin)",
            r"-p[ \t=]*",
        ),
        (r"(?:sqlcmd|bcp)", r"-P[ \t]*"),
        (r"redis-cli", r"-a[ \t]+"),
    )
)
_USER = re.compile(
    rf"(?P<before>\bcurl\b{_SAME}[ \t](?:-u|-U|--user|--proxy-user)[ \t=]*[\"']?[^\s:\"']+:)"
    r"(?P<value>[^\s\"']+)"
)
_CHPASSWD = re.compile(
    r"(?P<before>\becho[ \t]+[\"']?[^\s:\"']{1,100}:)(?P<value>[^\s\"'|]+)"
    r"(?=[\"']?[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd)"
)
_NET_USER = re.compile(r"(?P<before>\bnet1?[ \t]+user[ \t]+\S+[ \t]+)(?P<value>[^\s/]\S*)", re.I)
#: User and password in a JDBC address: `thin:user/password@host`, `//user:password@host`. What is
#: longer than passwords are is hidden whether an `@` ends it or not: each of many addresses beside
#: each other would be read to the end.
_JDBC = re.compile(
    r"""(?P<before>\bjdbc:(?:[\w.+-]{1,100}:){1,4}(?://)?@?(?:"[^"]*"|[^\s"'<>:/@?;&,()]*)[:/])"""
    r"""(?P<value>"[^"\n]*"(?=@)|[^\s"'<>?;]{501,}+|[^\s"'<>?;]+(?=@))""",
    re.I,
)
#: The same for tools of Oracle.
_ORACLE = (
    re.compile(
        r"(?P<before>\bsqlplus(?:[ \t]+-\S+)*[ \t]+[\"']?[\w$#\[\]-]{1,100}/)"
        r"""(?P<value>"[^"\n]*"|[^\s"'/@]+)"""
    ),
    re.compile(
        rf"(?P<before>\b(?:sqlplus|sqlldr|expdp|impdp|rman|sqlcl)\b{_SAME}"
        r"""[\s=]["']?[\w$#\[\]-]{1,100}/)(?P<value>"[^"\n]*"|[^\s"'/@]+)(?=@)"""
    ),
)
#: User information in any other address; and a token in the place of the user.
_LOGIN = re.compile(r"(?P<before>://[^/\s:@\"'<>]*:)(?P<value>[^/\s\"'<>]+)(?=@)")
_TOKEN_LOGIN = re.compile(r"(?P<before>\bhttps?://)(?P<value>[\w.~-]{20,})(?=@)")
#: A name and a value of one pair, in forms, queries and the shorthand of aws-cli.
_PAIRED = re.compile(rf"(?P<name>[\w.\[\]-]{{1,200}}+)=(?P<value>{_QUOTED}|[^&;\s,\"'<>}}]+)")


def may_command(text: str) -> bool:
    """Returns whether a string may hold a command with a secret; a quick check."""
    lower = text.lower()
    return any(command in lower for command in _COMMANDS)


def without_command_secrets(text: str) -> str:
    """Returns a string without passwords in commands of shells.

    >>> without_command_secrets("mysql -u root -phunter2")
    'mysql -u root -pHIDDEN_DUE_TO_SECURITY_REASONS'
    """
    if not may_command(text):
        return text
    text = _SETTING.sub(_setting, text)
    if " -" in text or "\t-" in text:
        for option in _OPTIONS:
            text = option.sub(_hidden, text)
        text = _USER.sub(_hidden, text)
    if "chpasswd" in text:
        text = _CHPASSWD.sub(_hidden, text)
    text = _NET_USER.sub(_hidden, text) if "user" in text.lower() else text
    for option in _ORACLE if "/" in text else ():
        text = option.sub(_hidden, text)
    return text


def without_logins(text: str) -> str:
    """Returns a string without the passwords in its addresses.

    >>> without_logins("jdbc:oracle:thin:scott/tiger@db:1521/orcl")
    'jdbc:oracle:thin:scott/HIDDEN_DUE_TO_SECURITY_REASONS@db:1521/orcl'
    """
    if "@" not in text:
        return text
    if "jdbc:" in text.lower():
        text = _JDBC.sub(_hidden, text)
    if "://" in text:
        text = _TOKEN_LOGIN.sub(_hidden, _LOGIN.sub(_hidden, text))
    return text


def without_paired_fields(text: str) -> str:
    """Returns a string without the values of fields that the field beside them names as secrets.

    >>> without_paired_fields("ParameterKey=Password,ParameterValue=x")
    'ParameterKey=Password,ParameterValue=HIDDEN_DUE_TO_SECURITY_REASONS'
    """
    groups: dict[tuple[str, int], dict[str, re.Match[str]]] = {}
    rounds: dict[str, int] = {}
    for match in _PAIRED.finditer(text):
        prefix, _, name = match["name"].rpartition(".")
        if prefix.rpartition(".")[2].isdigit() and name.isdigit():
            continue
        turn = rounds.setdefault(prefix, 0)
        if name in groups.get((prefix, turn), {}):
            turn = rounds[prefix] = turn + 1
        groups.setdefault((prefix, turn), {})[name] = match
    hidden = [
        fields[name]
        for fields in groups.values()
        for name in hidden_members({n: field["value"].strip("\"'") for n, field in fields.items()})
    ]
    parts, end = [], 0
    for match in sorted(hidden, key=lambda field: field.start()):
        if match.start() >= end:
            parts += [text[end : match.start("value")], placeholder_for(match["value"])]
            end = match.end("value")
    return "".join((*parts, text[end:]))


def _hidden(match: re.Match[str]) -> str:
    return match["before"] + placeholder_for(match["value"])


def _setting(match: re.Match[str]) -> str:
    return _hidden(match) if sounds_secret(match["name"]) else match.group()
