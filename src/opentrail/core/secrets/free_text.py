"""Secrets in commands, scripts, configuration and messages (guarantee S4).

There is no grammar. From a name or an option of a secret to the end of its line, or of the string
around both, everything is hidden. A word without a name is recognized by its place: the option of a
command, a word of SQL.

Callers choose the strings, of up to a hundred kilobytes: everything here takes time linear in the
length. Repetitions in an expression are possessive, limited, or begin in one place, and no place is
searched twice. Only single characters are repeated possessively: CPython 3.11.2 matches possessive
groups wrongly.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import unquote

from opentrail.core.secrets.secret_names import HIDDEN, means_secret, sounds_secret
from opentrail.core.text import cached_if_short

#: In lowercase, a part of each secret's name that is not in `_SHORT_PARTS`, and of each other word
#: that names a secret in YAML.
_NAME_PARTS = (
    *("pass", "secret", "token", "credential", "authorization", "auths", "masterauth", "cookie"),
    *("pw", "pswd", "psk", "otp", "cvv", "cvc", "jwt", "bearer", "dsn", "kubeconfig"),
    *("kube_config", "kube-config", "plaintext", "plain_text", "plain-text", "zipfile", "zip_file"),
    *("zip-file", "userdata", "user_data", "user-data", "stringdata", "string_data", "dockerc"),
    *("docker_c", "docker-c", "%", "signature", "noecho", "securestring"),
)
#: Parts of words in `_SHORT_PARTS`.
_SHORT_LETTERS = ("key", "pat", "pin", "sig", "*")
_SHORT_PARTS = re.compile(
    r"(?:private|auth|shared|api|app|application|subscription|functions|license|client|sec|signing"
    r"|account|access|master|hmac|ssh|deploy|webhook|fernet|encryption)[ _.-]?key"
    r"|p(?:at|in)(?![a-z])|(?<![a-z])sig(?![a-z])|\*[a-z]"
)
#: A secret is in a string only if one of these is before it, or a colon.
_BEFORE = re.compile(r"[\s=,<>\\\"'`&(){}\[\]]")


class _Place(NamedTuple):
    """An expression that ends before a secret, and signs, one of which each match contains."""

    #: In lowercase.
    signs: tuple[str, ...]
    expression: re.Pattern[str]


#: A string in quotes. A quote after a letter, such as an apostrophe, does not begin one.
_STRING = re.compile(
    r"""(?<![\w\\])(?:"[^"\\]*+(?:\\.[^"\\]*+)*"|'[^'\\]*+(?:\\.[^'\\]*+)*')""", re.DOTALL
)
#: The rest of a line, with the strings and continued lines in it.
_REST = re.compile(
    r"""(?:[^\n"'\\]++|\\"[^"\\]*+\\"|\\.|"[^"\\]*+(?:\\.[^"\\]*+)*"|(?<!\w)'[^']*+'|["'\\])*""",
    re.DOTALL,
)
#: A possible name. A letter after a backslash is an escape, as in `a=1\npassword=x`.
_NAME = re.compile(r"(?:(?<!\\)|(?<=\\)(?:[nrt]|(?![nrt])))((?<!-)-*+[\w%][\w.%-]*+)")
#: The separator between a name and its value, after the end of quotes and brackets.
_SEPARATOR = re.compile(
    r"""(?P<closed>\\*+["'`]|&quot;|&\#3[49];)?(?:\[[^\]\s]{0,40}\]|[\])}]|>>)*"""
    r"""(?P<gap>(?:[ \t]|\\t)*(?:(?<=[ \t])(?:is|was)\b[ \t]*+)?)"""
    r"""(?:(?P<sets>=>|->|<-|:=|[-+?:|.!~^]{0,2}={1,3}|:(?!:|//)|\((?=[ \t]*\\*["']))"""
    r"""|(?P<comma>,))?[ \t]*+"""
)
#: The end of a line before an option's value on the next line.
_CONTINUED = re.compile(r"[\\`^]\r?\n[ \t]*|\r?\n[ \t]*- +")
_WORD = re.compile(r"\S{1,100}")
#: A word of a sentence: the next word after a name in a message is not a value.
_PROSE = re.compile(r"\(?(?:[A-Z]?[a-z]+|[A-Z]+)(?:[-'/][A-Za-z]++)*[).,;:!?]*+(?!\S)|[-/|&;]|arn:")
#: A word directly before a name and its adjoining value.
_SETS = re.compile(
    r"(?:\b(?:setx?|setenv|env|arg|export)|--arg(?:json)?)(?:[ \t]+-\w+)*[ \t]+[\"']?$", re.I
)
#: Secrets in addresses.
_SIGNATURE = re.compile(r"(?:signature|^sig)$", re.I)
#: Characters before a name that decide whether it is a reference.
_MAX_REFERENCE_LENGTH = 300
_NETRC = re.compile(r"\b(?:machine|login)[ \t]")
#: The second word of names such as `api key`.
_SECOND_WORDS = frozenset({"access", "key", "keys", "code", "token", "value"})
#: Values that are no secrets; text after a YAML mark is hidden there.
_NOT_A_SECRET = re.compile(
    rf"(?:|true|false|null|none|~|yes|no|(?:[!&]\S+\s+)*[|>][-+\d]*)$|{HIDDEN}", re.I
)
_QUERY_END = re.compile(r"""&(?=[\w.%\[\]-]{1,100}=)|[\s"'<>]|$""")
_STRING_END = re.compile(r"[\s,;:)\]}|&<>]|$")
_LIST_END = re.compile(r"\s*[,\])}]")
_HEREDOC = re.compile(r"<<[-~]?[ \t]*[\"']?(\w{1,40})")
_BRACKET = re.compile(r"[(\[{)\]}]")
#: A member before the name that it holds, and a member that holds the named value. The commands
#: `reg` and `Set-Item` have their own.
_NAMING = (
    r"(?:name|key|path|id|identifier|attribute|field|option|property|parameter|variable|header"
    r"|setting|label|tag)(?:\\*[\"'])?[ \t]*"
)
_NAMED_BY = re.compile(
    rf"(?:{_NAMING}[=:> ]|(?<!\S)/v[ \t])[ \t]*(?:\\*[\"'])?(?:[\w.~/-]*[/:])?$|\benv:\\?$", re.I
)
_NAMING_MEMBER = re.compile(rf"{_NAMING}[=:>]", re.I)
_VALUE_MEMBER = re.compile(
    r"(?:(?:values?|\bdefault)(?:\\*[\"'])?[ \t]*[=:>]|(?<!\w)(?:--?values?|/d)[ \t])[ \t]*", re.I
)
#: Separators of a command's words, or of its argument list.
_BLANKS = r"[\ \t\x1f\"',\[\]]"
_ITEM = rf"\n[\ \t]*+-[\ \t]{_BLANKS}{{0,20}}+"
_B = rf"(?:{_BLANKS}{{1,20}}+(?:{_ITEM})?|{_ITEM})"
#: Words of the same command: a semicolon before a quotation mark is part of a string.
_W = r"(?:[^\n;|]|\n[\ \t]*+-[\ \t]|[;|](?=[^\n\"']{0,60}[\"'])){0,300}?"
#: Places of secrets in commands, SQL and templates. The quick check is made of their signs.
_PLACES = tuple(
    _Place(tuple(signs.split("|")), re.compile(rf"\b(?:{source})", re.I | re.VERBOSE))
    for signs, source in (
        (
            "mysql|mariadb|mongo|sshpass|cqlsh|useradd|usermod|7z",
            rf"(?<!--name\ )(?:mysql\w*|mariadb[\w-]*|mongo\w*|sshpass|cqlsh|user(?:add|mod)|7za?)"
            rf"{_W}{_B}(?-i:-p)",
        ),
        (
            "login",
            rf"(?:docker|podman|nerdctl|helm|oras|skopeo|buildah|crane|az|oc|cf|ibmcloud)"
            rf"(?:{_B}[\w-]{{1,20}}){{0,2}}?{_B}login\b{_W}{_B}-p",
        ),
        (
            "sqlcmd|bcp |bcp\x1f|mosquitto_|zip |zip\x1f|ipmitool|knife",
            rf"(?:sqlcmd|(?:bcp|zip|unzip)(?=[\ \x1f])|mosquitto_\w+|ipmitool|knife)"
            rf"{_W}{_B}(?-i:-P)",
        ),
        ("ldap", rf"ldap\w+{_W}{_B}-w"),
        (
            "redis-cli|http |https |http\x1f|https\x1f",
            rf"(?:redis-cli|https?(?=[\ \x1f])){_W}{_B}-a(?={_B})",
        ),
        ("openssl", rf"openssl{_W}{_B}-k(?={_B})"),
        ("twine", rf"twine{_W}{_B}(?-i:-p)"),
        ("schtasks", rf"schtasks{_W}{_B}/r?p(?=:|{_B})"),
        ("winrs", rf"winrs{_W}{_B}[-/]p:"),
        ("snmp", rf"snmp(?!-server)\w*{_W}{_B}(?-i:-[AXc])"),
        ("snmp-server", rf"snmp-server{_W}{_B}(?:community|auth{_B}(?:md5|sha[-\w]*)){_B}"),
        ("createuser", rf"createuser{_B}\S+{_B}(?:md5|sha[-\w]*)(?={_B})"),
        ("rocommunity|rwcommunity", rf"r[ow]community6?(?={_B})"),
        ("setuser", rf"acl{_B}setuser\b{_W}{_B}[<>](?=\S)"),
        (
            " >|\t>",
            r"user[\ \t]+\S{1,60}[\ \t]+(?:on|off|reset\w*)\b[^\n]{0,200}?[\ \t]>(?=\S)",
        ),
        ("jenkins", rf"jenkins{_W}{_B}-auth{_B}[^\s:@\"']{{1,100}}:"),
        (
            "curl|wget|smbclient|rpcclient",
            rf"(?:curl|wget|smbclient|rpcclient)\b{_W}{_B}"
            rf"(?:(?:-[a-z]{{0,5}}u|--(?:proxy-)?user)=?(?:{_B})?[^\s:%,\"']{{0,100}}(?:[%,]|:(?!//))"
            rf"|(?-i:-[a-zA-Z]{{0,5}}b)(?=(?:{_B})?[^\s=;\"']{{1,100}}=))",
        ),
        (
            "--user|--proxy-user",
            r"(?<=--)(?:proxy-)?user[\"']?"
            r"(?:[\ =,]{1,3}[\"']|[\ \t]*\n[\ \t]*-[\ \t]+[\"']?"
            r"|(?:(?<=[\"'\[]--user)|(?<=-\ --user))[\ =])"
            r"(?P<user>[a-z_][\w.@-]{0,60}):(?!(?P=user)(?:[\s\"\',\]]|$))(?=[^\s:/])",
        ),
        (
            "sqlplus",
            rf"sqlplus\b(?:{_B}-\S+)*{_B}[\w$\#\[\]-]{{1,100}}/(?=[^@\s])",
        ),
        (
            "sqlplus|sqlldr|expdp|impdp|rman|sqlcl",
            rf"(?:sqlplus|sqlldr|expdp|impdp|rman|sqlcl)\b{_W}[\s=\"'][\w$\#\[\]-]{{1,100}}/"
            rf"(?=[^/\s@]+@)",
        ),
        (
            "htpasswd|mosquitto_passwd",
            rf"(?:htpasswd|mosquitto_passwd)(?:{_B}-\w+)*?{_B}-\w*b\w*(?:{_B}-\w+)*{_B}[^\s\"']+"
            rf"(?={_B})",
        ),
        ("vault", rf"vault{_B}login(?:{_B}-\S+)*(?={_B}\S)"),
        (
            "net user|net1 user|net\x1fuser|net1\x1fuser",
            rf"net1?[\ \x1f]user{_B}[^\s/]+(?={_B}[^\s/])",
        ),
        ("rabbitmqctl", rf"rabbitmqctl{_B}(?:add_user|\w+_password){_B}\S+(?={_B})"),
        ("convertto-securestring", rf"convertto-securestring\b(?:{_B}-\w+)*(?={_B}[^\s-])"),
        ("identified", r"identified\s+(?:with\s+\S+\s+)?(?:by|as)\b"),
        (
            " secret|\tsecret|\nsecret",
            r"create\s+(?:or\s+replace\s+)?(?:(?:persistent|temporary)\s+)?"
            r"(?<=[\ \t\n])secret\s(?=\s*[\w(\"])",
        ),
        (
            "securestring",
            r"securestring\b[^\n]{0,400}?[ \t]--value\b"
            r"|(?<=--)value(?=[\s=:\"'])(?=[^\n]{0,400}?\bsecurestring\b)",
        ),
        (
            "noecho",
            r"noecho\b(?=\W{0,3}[:=])(?!\W+(?:false|no)\b)[^\n{}]{0,400}?"
            r"\b(?:default|allowedvalues)\b"
            r"|(?:default|allowedvalues)\b"
            r"(?=\W{1,9}\w[^\n{}]{0,400}?\bnoecho\b(?=\W{0,3}[:=])(?!\W+(?:false|no)\b))",
        ),
    )
)
_PLACE_SIGNS = tuple(dict.fromkeys(sign for place in _PLACES for sign in place.signs))
#: A line of a PostgreSQL password file. Years are not ports.
_PGPASS = re.compile(
    r"(?<![\w.:-])(?!\d{4}-\d\d)[\w.*-]{1,100}:(?:(?!(?:19|20)\d\d:)\d{4,5}|\*):"
    r"[A-Za-z_*][^\s:]{0,100}:[A-Za-z_*][^\s:]{0,100}:(?=[^\s:])"
)
#: The columns of a statement with their values after them.
_INSERT = re.compile(
    r"\b(?:insert|replace|upsert)\b[^;()]{1,300}\((?P<columns>[^()]{1,4000})\)\s*"
    r"(?:(?:overriding|output)\s[\w\s.,]{1,200}?)?(?:values?\b|select\b)\s*",
    re.I,
)
_STATEMENT = re.compile(r"""(?:[^;"']++|"[^"]*+"|'[^']*+'|["'])*""")
#: A value that is in a later argument, as in `printf`.
_PLACEHOLDER = re.compile(
    r"%[-+.\d]{0,9}[a-zA-Z](?!\w)|%\(\w{1,40}\)|\{\w{0,40}\}|\$[\d@*]|\?(?!\w)|(?<![\w:]):\w{1,40}"
)
_CONTAINER = re.compile(r"\b(?:docker|podman|nerdctl|compose)\b", re.I)
#: Words between a name in a message and its value.
_FOR = re.compile(r"[ \t]+(?:for|of|to)[ \t]+[^\n:=]{1,80}?(?:[:=]|[ \t](?:is|to)\b)[ \t]*")
_LAST = re.compile(r"[\"'`.;)\]} \t]*(?:\r?\n|$)")
#: Commands in which the word `secret` is before names of secrets, not before a value.
_LISTING = re.compile(
    r"\b(?:kubectl|oc|docker|podman)\b[^\n;|&]{0,100}"
    r"\b(?:get|describe|delete|edit|label|annotate|patch|inspect|rm|wait)\s[^\n;|&]{0,100}$",
    re.I,
)
_SECRETS = re.compile(r"\ssecrets?[ \t][\w./ \t-]*$", re.I)
_AFTER_PLACE = re.compile(rf"(?:{_B}|[=:\s])*")
#: Commands that read a secret from a pipe, and the pipe's source.
_SINK = re.compile(
    r">[ \t]*[\"']?[\w./~-]{0,100}openvpn[\w./~-]{0,60}?(?:auth|cred|pass|login)"
    r"|\bchpasswd|--(?:password-)?stdin|--with-token|\bsudo[ \t]+-S\b|\bconvertto-securestring",
    re.I,
)
_ECHO = re.compile(r"\b(?:echo|printf|write-output)[ \t]+|(?<!\w)[\"'](?=\S)", re.I)
#: Words before a word that may name or be a secret without a dash.
_VERBS = frozenset({"set", "setx", "setenv", "login", "user", "add_user", "change_password"})
#: User and password in a JDBC address: `thin:user/password@host`, `//user:password@host`. A run
#: longer than any password is hidden whether an `@` ends it or not: each of many adjacent addresses
#: would be read to the end.
_JDBC = re.compile(
    r"""(?P<before>\bjdbc:(?:[\w.+-]{1,100}:){1,4}(?://)?@?(?:"[^"]*"|[^\s"'<>:/@?;&,()]*)[:/])"""
    r"""(?P<value>"[^"\n]*"(?=@)|[^\s"'<>?;]{501,}+|[^\s"'<>?;]+(?=@))""",
    re.I,
)
#: User information in any other address; also a token in the place of the user.
_LOGIN = re.compile(r"(?P<before>://[^/\s:@\"'<>]*:)(?P<value>[^/\s\"'<>]+)(?=@)")
_TOKEN_LOGIN = re.compile(
    r"(?P<before>\bhttps?://)(?P<value>[\w.~-]{20,}(?=:?@)|[\w.~-]++(?=:x-oauth-basic@))"
)


def may_hold_text_secret(text: str) -> bool:
    """Returns whether `without_text_secrets` may change a string; a quick check."""
    return not _is_word(text) and (_has_name(text) or _has_place(text))


def may_name_secret(text: str) -> bool:
    """Returns whether a string may have a name and its value; a quick check."""
    return not _is_word(text) and _has_name(text)


def _has_name(text: str) -> bool:
    if _has(_NAME_PARTS, text):
        return True
    return _has(_SHORT_LETTERS, text) and _SHORT_PARTS.search(text.lower()) is not None


def _has_place(text: str) -> bool:
    if _has(_PLACE_SIGNS, text) or (":" in text and _PGPASS.search(text) is not None):
        return True
    return ("|" in text or ">" in text) and _SINK.search(text) is not None


def _is_word(text: str) -> bool:
    """Returns whether a string has no value after something else: a word, or an ARN."""
    if _BEFORE.search(text) is not None:
        return False
    return ":" not in text or (text[:4] == "arn:" and len(text) < _MAX_REFERENCE_LENGTH)


def _has(parts: tuple[str, ...], text: str) -> bool:
    """Returns whether a string has one of the parts, which are in lowercase."""
    return not text.isascii() or any(map(text.lower().__contains__, parts))


def without_text_secrets(text: str) -> str:
    r"""Returns a string without the values after the names of secrets in it.

    >>> without_text_secrets("mysql -h db -u root -phunter2")
    'mysql -h db -u root -pHIDDEN_DUE_TO_SECURITY_REASONS'
    >>> without_text_secrets('bash -c "export PASSWORD=\'hunter2\'" x')
    'bash -c "export PASSWORD=HIDDEN_DUE_TO_SECURITY_REASONS" x'
    """
    spans = list[tuple[int, int]]()
    if _is_word(text):
        return text
    if _has_name(text):
        spans += _Names(text).spans()
        spans += _inserted(text)
    if _has_place(text):
        spans += _in_places(text)
    parts, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            parts += [text[end:start], HIDDEN]
        end = max(end, stop)
    return "".join((*parts, text[end:])) if parts else text


def without_logins(text: str) -> str:
    """Returns a string without the passwords in its addresses.

    >>> without_logins("jdbc:oracle:thin:scott/tiger@db:1521/orcl")
    'jdbc:oracle:thin:scott/HIDDEN_DUE_TO_SECURITY_REASONS@db:1521/orcl'
    """
    if not may_hold_login(text):
        return text
    text = _JDBC.sub(_login, text)
    return _LOGIN.sub(_login, _TOKEN_LOGIN.sub(_login, text))


def may_hold_login(text: str) -> bool:
    """Returns whether `without_logins` may change a string; a quick check."""
    return "@" in text and ("://" in text or not text.isascii() or "jdbc:" in text.lower())


def _login(match: re.Match[str]) -> str:
    return match["before"] + HIDDEN


class _Names:
    """The values after the names of secrets in a string."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._strings = _strings(text)
        self._is_netrc = _NETRC.search(text) is not None
        #: End of the last hidden part.
        self._hidden_to = 0

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yields the start and end of each value."""
        text, first, before = self._text, 0, -1  # where the words before begin and end
        for word in _NAME.finditer(text):
            start, end = word.span(1)
            if start < self._hidden_to:
                continue
            is_name = _is_name_of_secret(word[1])
            is_second = before == start - 1 and text[before] == " " and start - first < 40
            if is_second and not is_name and word[1].lower() in _SECOND_WORDS:
                is_name = sounds_secret(text[first:end])
            else:
                first = start
            before = end
            if not is_name or self._is_reference(start):
                continue
            value = self._value(start, end)
            if value is None:
                continue
            stop = self._end(start, *value)
            if not _NOT_A_SECRET.match(text[value[0] : stop].strip("\"'`\\,; \t\r")):
                self._hidden_to = stop
                yield value[0], stop

    def _is_reference(self, start: int) -> bool:
        """Returns whether a name is part of an ARN, of a reference to a secret or of a command."""
        before = self._text[max(0, start - _MAX_REFERENCE_LENGTH) : start]
        if _begins(self._text, start):
            is_kind = self._text.startswith(("secret ", "secrets "), start)
            is_listed = is_kind or (
                self._text[start] != "-" and _SECRETS.search(before) is not None
            )
            return is_listed and _LISTING.search(before) is not None
        word = before.split()[-1]
        return "arn:" in word or "{{resolve:" in word

    def _value(self, start: int, end: int) -> tuple[int, str] | None:
        """Returns the start of a name's value and the separator; None without a value."""
        text, separator = self._text, _SEPARATOR.match(self._text, end)
        if separator is None:
            return None
        value, closed = separator.end(), separator["closed"]
        if separator["sets"] != "=" and _SIGNATURE.search(text, start, end):
            return None
        if separator["sets"]:
            return value, separator["sets"]
        if separator["comma"]:
            if self._is_paired(start, value, closed):
                return value, ","
        elif text[start] == "-" or (text[start - 1 : start] == "/" and _begins(text, start - 1)):
            return self._of_option(end, value, closed)
        elif separator["gap"]:
            if self._is_set_by_blank(start, value, closed):
                return value, " "
            if (later := self._after_words(end)) is not None:
                return later, ":"
        return self._named(start, end)

    def _of_option(self, end: int, value: int, closed: str | None) -> tuple[int, str] | None:
        below = _CONTINUED.match(self._text, value)
        value = value if below is None else below.end()
        following = _WORD.match(self._text, value)
        if following is not None and value > end and (following[0][0] != "-" or closed):
            return value, " "
        return None

    def _is_paired(self, start: int, value: int, closed: str | None) -> bool:
        """Returns whether a comma is between a name and its value, not between two names."""
        if not self._text.startswith(("'", '"', "\\", "`", "<<"), value):
            return False
        return self._is_quoted_name(start) if closed else self._text.endswith(("{", "{:"), 0, start)

    def _after_words(self, end: int) -> int | None:
        """Returns the start of a value after a name and more words, as in `password for a: x`."""
        words = _FOR.match(self._text, end)
        following = None if words is None else _WORD.match(self._text, words.end())
        if words is None or following is None:
            return None
        is_value = not _PROSE.match(following[0]) or _LAST.match(self._text, following.end())
        return words.end() if is_value else None

    def _is_set_by_blank(self, start: int, value: int, closed: str | None) -> bool:
        text, following = self._text, _WORD.match(self._text, value)
        if following is None or "<" in text[max(0, start - 2) : start]:
            return False
        if closed and not self._is_quoted_name(start):
            return False
        if self._is_netrc or not _PROSE.match(following[0]):
            return True
        return _SETS.search(text, max(0, start - 40), start) is not None

    def _is_quoted_name(self, start: int) -> bool:
        """Returns whether a word begins a string that is not another name's value."""
        before = self._text[max(0, start - 20) : start]
        quoted = before.rstrip("\"'`\\")
        return quoted != before and quoted.rstrip()[-1:] not in (":", "=")

    def _named(self, start: int, end: int) -> tuple[int, str] | None:
        """Returns the value for a name in a pair such as `Key=password,Value=x`."""
        text, line = self._text, max(self._hidden_to, start - 300)
        line = max(line, text.rfind("\n", line, start) + 1)
        naming = _NAMED_BY.search(text, max(line, start - 80), start)
        if naming is None or not means_secret(text[start:end]):
            return None
        value = _VALUE_MEMBER.search(text, line, naming.start())
        if value is None or _NAMING_MEMBER.search(text, line, value.start()):
            next_line = text.find("\n", end, end + 400)
            value = _VALUE_MEMBER.search(text, end, end + 400 if next_line < 0 else next_line)
        return None if value is None else (value.end(), ";")

    def _end(self, start: int, value: int, between: str) -> int:
        """Returns the end of a value: the end of its line, or of the string or list around it."""
        text = self._text
        if between == ",":
            string = _STRING.match(text, value)
            if string is not None and _LIST_END.match(text, string.end()):
                return string.end()
        elif between == "=" and text[start - 1 : start] in ("?", "&"):
            end = _QUERY_END.search(text, value)
            if end is not None and end.start() > value:
                return end.start()
        return _value_end(text, self._strings, start, value)


@cached_if_short(200)
def _is_name_of_secret(word: str) -> bool:
    name = word.lstrip("-").rstrip(".-")
    names = [name, unquote(name).strip("%")] if "%" in name else [name]
    if word[:2] == "-D":
        names.append(name[1:])
    return any(map(sounds_secret, names)) or _SIGNATURE.search(name) is not None


def _begins(text: str, at: int) -> bool:
    return at == 0 or text[at - 1].isspace()


def _strings(text: str) -> list[tuple[int, int]]:
    return [string.span() for string in _STRING.finditer(text)]


def _limit(text: str, strings: list[tuple[int, int]], name: int, value: int) -> int:
    """Returns the end of the string around a name and its value, else the end of the text."""
    start, end = strings[at] if (at := bisect_left(strings, (name, 0)) - 1) >= 0 else (0, 0)
    is_inside = start < name and value < end - 1 and _STRING_END.match(text, end) is not None
    return end - 1 if is_inside else len(text)


def _value_end(text: str, strings: list[tuple[int, int]], name: int, value: int) -> int:
    """Returns the end of a value: of its line, also after a string with only its place."""
    limit = _limit(text, strings, name, value)
    if limit < len(text) and _PLACEHOLDER.match(text, value) is not None:
        return _line_end(text, limit + 1, len(text))
    return _line_end(text, value, limit)


def _inserted(text: str) -> Iterator[tuple[int, int]]:
    """Yields the values of statements with a column for secrets, to the end of each statement."""
    strings, hidden_to = None, 0
    for insert in _INSERT.finditer(text):
        if insert.start() < hidden_to:
            continue
        columns = [column.strip(" \t\r\n\"`[]'\\") for column in insert["columns"].split(",")]
        if not any(map(sounds_secret, columns)):
            continue
        strings = _strings(text) if strings is None else strings
        start = insert.end()
        limit = _limit(text, strings, insert.start(), start)
        statement = _STATEMENT.match(text, start, limit)
        end = limit if statement is None else statement.end()
        if limit < len(text) and _PLACEHOLDER.search(text, start, limit) is not None:
            end = _line_end(text, limit + 1, len(text))
        hidden_to = end
        if not text.startswith(HIDDEN, start):
            yield start, end


def _line_end(text: str, start: int, limit: int) -> int:
    """Returns the end of a line and its continuation: strings, brackets, documents."""
    end = start
    while True:
        rest = _REST.match(text, end, limit)
        line, end = end, rest.end() if rest is not None else limit
        if end >= limit:
            return limit
        heredoc, last = _HEREDOC.search(text, line, end), text[line:end].rstrip()[-1:]
        if heredoc is not None:
            closing = text.find(f"\n{heredoc[1]}", end, limit)
            end = limit if closing < 0 else closing + 1
        elif last and last in "`^":
            end += 1
        elif last and last in "([{":
            end = _closing(text, end, limit)
        else:
            return end - (end > start and text[end - 1] == "\r")


def _closing(text: str, start: int, end: int) -> int:
    """Returns the end of the bracket left open by a line."""
    depth = 1
    for bracket in _BRACKET.finditer(text, start, end):
        depth += 1 if bracket[0] in "([{" else -1
        if not depth:
            return bracket.end()
    return end


def _in_places(text: str) -> Iterator[tuple[int, int]]:
    """Yields the secrets recognized by their place, to the end of their line."""
    strings, hidden_to = _strings(text), 0
    lower = text.lower() if text.isascii() else None
    tried = [
        place.expression
        for place in _PLACES
        if lower is None or any(map(lower.__contains__, place.signs))
    ]
    found = chain.from_iterable(expression.finditer(text) for expression in (*tried, _PGPASS))
    for place in sorted(found, key=re.Match.end):
        if "user" in place.re.groupindex and _is_of_container(text, place.start()):
            continue
        after = _AFTER_PLACE.match(text, place.end())
        start = place.end() if after is None else after.end()
        if start >= hidden_to and start < len(text) and not text.startswith(HIDDEN, start):
            hidden_to = _line_end(text, start, _limit(text, strings, place.end() - 1, start))
            yield start, hidden_to
    for sink in _SINK.finditer(text):
        line = max(0, sink.start() - 1000)
        line = text.rfind("\n", line, sink.start()) + 1 or line
        echo = _ECHO.search(text, line, sink.start())
        start = sink.start() if echo is None else echo.end()
        is_read = sink[0][0] == ">" or "|" in text[start : sink.start()]
        if is_read and not text.startswith(HIDDEN, start):
            yield start, _line_end(text, sink.start(), len(text))


def _is_of_container(text: str, option: int) -> bool:
    """Returns whether `--user` names the user and the group of a container."""
    line = max(text.rfind("\n", 0, option) + 1, option - _MAX_REFERENCE_LENGTH)
    return _CONTAINER.search(text, line, option) is not None


def without_argument_secrets(items: list[Any]) -> list[Any]:
    """Returns a command's arguments with secrets hidden.

    >>> without_argument_secrets(["login", "--password", "hunter2", "--user", "a"])
    ['login', '--password', 'HIDDEN_DUE_TO_SECURITY_REASONS', '--user', 'a']
    >>> without_argument_secrets(["redis-cli", "-a", "hunter2"])
    ['redis-cli', '-a', 'HIDDEN_DUE_TO_SECURITY_REASONS']
    """
    words = [item if isinstance(item, str) else "" for item in items]
    if not any(word[:1] == "-" or word in _VERBS for word in words):
        return items
    shown = list(items)
    for at, item in enumerate(items[1:], 1):
        is_value = item[:1] != "-" if isinstance(item, str) else type(item) in (int, float)
        if is_value and _is_option(words[at - 1], words[at - 2] if at > 1 else ""):
            shown[at] = HIDDEN
    line = "\x1f".join(words)
    for start, _ in _in_places(line) if _has_place(line) else ():
        at = line.count("\x1f", 0, start)
        shown[at] = words[at][: start - line.rfind("\x1f", 0, start) - 1] + HIDDEN
    return shown


def _is_option(word: str, before: str) -> bool:
    """Returns whether an argument names the next one as a secret."""
    if "=" in word or " " in word or not (word[:1] == "-" or before in _VERBS):
        return False
    return sounds_secret(word.lstrip("-"))
