"""Secrets in strings: names x spellings x places, half of the spellings drawn from a grammar.

A seed makes the cases of each run the same.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote
from xml.sax.saxutils import escape

from opentrail.wire.message import Request, Response
from tests.factories import a_json_request, a_query_request, a_response, an_s3_request

SEED = 68
NAMES = (
    *("password", "PASSWORD", "DB_PASSWORD", "masterUserPassword", "db.password", "dbpass"),
    *("secret", "clientSecret", "secretValue", "tokenValue", "API_TOKEN", "auth-token"),
    *("aws_secret_access_key", "api_key", "X-Api-Key", "masterKey", "hmacKey", "ssh_key"),
    *("jwt", "bearer", "SENTRY_DSN", "GITHUB_PAT", "kubeconfig", "PGPASSWORD", "MYSQL_PWD"),
    *("private_key", "passphrase", "accessToken", "client-secret", "DB_PW", "credentials"),
    *("DD-APPLICATION-KEY", "Ocp-Apim-Subscription-Key", "client-key-data", "aws_sec_key"),
)
#: Strings with a name and a value; `{v}` is an unquoted value, `{q}` one within double quotes.
NAMED = (
    *("{n}={v}", "{n}: {v}", "{n} = {v}", "{n}:{v}", "{n} => {v}", "'{n}' => '{q}',", "{n} := {v}"),
    *(
        "{n}+={v}",
        "--{n} {v}",
        "--{n}={v}",
        '--{n} "{q}"',
        '--{n}=\\"{q}\\"',
        "/{n}:{v}",
        "-{n} {v}",
    ),
    *("export {n}={v}", 'export {n}="{q}"', "set -x; export {n}='{q}'; run", "{n}={v} ./run"),
    *('bash -c "export {n}=\\"{q}\\""', "sh -c '{n}={v} ./run'", 'ssh h "run --{n} {v}"'),
    *("setx {n} {v}", "setenv {n} {v}", "ENV {n} {v}", "ENV {n}={v}", "ARG {n}={v}", "set {n}={v}"),
    *(
        "$env:{n} = '{q}'",
        "@{{ '{n}' = '{q}' }}",
        "define('{n}', '{q}');",
        "os.environ['{n}'] = '{q}'",
    ),
    *('variable "{n}" {{ default = "{q}" }}', 'variable "{n}" {{\n  default = "{q}"\n}}'),
    *(
        '{n} = "{q}"',
        "{n} = '{q}'",
        'const {n} = "{q}";',
        "{n}: '{q}'",
        '{n}: "{q}"',
        '"{n}": "{q}",',
    ),
    *('{n}: "first\n  second {q}"', "{n}: |\n  first\n  {v}\nuser: a", "{n}: >-\n  {v}\n  more"),
    *(
        "db:\n  user: a\n  {n}: {v}\n  host: b",
        "- name: {n}\n  value: '{q}'",
        "{{{n}: {v}, user: a}}",
    ),
    *('echo -e "a=1\\n{n}={q}"', "printf 'a=1\\n{n}={q}\\n' > f", "cat > f <<EOF\n{n}={v}\nEOF"),
    *("{{'{n}': '{q}', 'user': 'a'}}", '{{"{n}": "{q}"', '"{{\\"{n}\\": \\"{q}\\"}}"'),
    *('run \'{{"{n}": "{q}"}}\'', 'run --json "{{\\"user\\": \\"a\\", \\"{n}\\": \\"{q}\\"}}"'),
    *("Server=db;User Id=a;{n}={v};", "https://h/?{n}={u}&a=b", "user=a&{n}={u}&b=c"),
    *('<c connection="Server=db;{n}={q}"/>', "<add key='{n}' value='{q}'/>", "<{n}>{x}</{n}>"),
    *("curl -H '{n}: {q}' https://h", 'curl -d \'{{"{n}":"{q}"}}\' https://h'),
    *(
        "Name={n},Value={v}",
        "--parameters ParameterKey={n},ParameterValue={v}",
        "jq --arg {n} '{q}'",
    ),
    *("kubectl create secret generic s --from-literal={n}={v}", "helm install --set db.{n}={v}"),
    *(
        "- --{n}\n- {v}",
        "run --{n} \\\n  {v}",
        "{n}=$(echo {v})",
        "{n}=( \n {v}\n)",
        "terraform -var '{n}={q}'",
    ),
    *(
        "docker run -e {n}={v} image",
        "java -D{n}={v} -jar a",
        "failed: {n}: {v}",
        "invalid {n} '{q}'",
    ),
    *("aws configure set {n} {v}", '["run", "--{n}", "{q}"]', '["run","--{n}={q}"]', "{n} ?= {v}"),
    # a name and its value with words between
    *("printf '{n}=%s\\n' '{s}' > f", "printf '%s\\n{n}=%s' a '{s}'", '"{n}={{}}".format("{s}")'),
    *("<key>{n}</key><string>{x}</string>", "<dict>\n<key>{n}</key>\n<data>{x}</data>\n</dict>"),
    *(
        '{{{n}, <<"{s}">>}}',
        '{{<<"{n}">>, <<"{s}">>}}',
        '{{:{n}, "{s}"}}',
        "Set-Item Env:\\{n} '{s}'",
    ),
    *(
        "Set-Item -Path Env:\\{n} -Value '{s}'",
        "INSERT INTO t({k}) OUTPUT inserted.id VALUES ('{s}')",
    ),
    *('{{{n}, "{s}"}}', '{{ {{{n}, "{s}"}}, {{user, "a"}} }}', "{n} for user 'a': {u}"),
    *("Enter the {n} of the host h: {u}", "the {n} for a is {u}", "{n} for db = {u}"),
    *('Set-ItemProperty -Path p -Name {n} -Value "{s}"', 'Set-Item Env:{n} -Value "{s}"'),
    *("New-ItemProperty -Name '{n}' -PropertyType String -Value {u}", "Set-Item -Path Env:{n} {s}"),
    *("reg add HKLM\\a /v {n} /t REG_SZ /d {u} /f", 'reg add "HKLM\\a" /f /v "{n}" /d "{s}"'),
    *("insert into t(a,{k}) values ('a','{s}')", "INSERT INTO t (`{k}`, b)\nVALUES\n('{s}', 1)"),
    *("REPLACE INTO t ({k}) VALUES ('a'),('{s}')", "psql -c \"insert into t({k}) values('{s}')\""),
    *("execute('INSERT INTO t ({k}) VALUES (?)', ['{s}'])", "insert into t({k}) select '{s}'"),
)
#: Strings with a value in a place that needs no name.
NAMELESS = (
    *(
        "Authorization: token {v}",
        "Authorization: Bearer {u}",
        "curl -H 'Authorization: token {q}' h",
    ),
    *('["redis-cli","-a","{q}"]', '["mysql","-p","{q}"]', '["curl","-u","admin:{q}"]'),
    *("redis-cli -h h -a {v} ping", "mysql -u root -p{v} db", 'mysql -u root -p"{q}" db'),
    *(
        "mysqldump -h h -p {v}",
        "curl -s -u admin:{v} https://h",
        "curl --user 'admin:{q}' https://h",
    ),
    *("ALTER USER a IDENTIFIED BY '{s}'", "CREATE USER a WITH PASSWORD '{s}' LOGIN"),
    *("mysql -e \"CREATE USER a IDENTIFIED BY '{s}'\"", "psql -c \"ALTER ROLE a PASSWORD '{s}'\""),
    *("CREATE SECRET c (TYPE S3, KEY_ID 'a', SECRET '{s}')", "SET PASSWORD FOR a = '{s}'"),
    *(
        "CREATE SECRET c (\n  TYPE S3,\n  SECRET '{s}'\n)",
        "GRANT ALL ON d TO a IDENTIFIED BY '{s}'",
    ),
    *('<add connectionString="Server=db;Password={x}"/>', "https://h/o?X-Goog-Signature={u}&a=b"),
    *("https://h/o?sv=1&sig={u}", "https://hooks.slack.com/services/T1/B1/{u}"),
    *("https://api.telegram.org/bot1:{u}/sendMessage", "https://discord.com/api/webhooks/1/{u}"),
    *("aws configure set aws_secret_access_key {v}", "cmdkey /add:h /user:a /pass:{v}"),
    *("aws ssm put-parameter --name n --type SecureString --value {v}", "sshpass -p {v} ssh h"),
    *(
        "aws ssm put-parameter --name n --value '{q}' --type SecureString",
        "openssl -passin pass:{v}",
    ),
    *("openssl enc -aes-256-cbc -k {v}", "keytool -list -storepass {v}", "keytool -keypass {v}"),
    *(
        "useradd -m -p {v} bob",
        "htpasswd -b /f bob {v}",
        "htpasswd -nb bob {v}",
        "ldapsearch -x -w {v}",
    ),
    *("ConvertTo-SecureString '{q}' -AsPlainText -Force", "$p = '{q}' | ConvertTo-SecureString"),
    *(
        "ConvertTo-SecureString -String '{q}' -AsPlainText",
        "vault login {v}",
        "vault login -no-print {v}",
    ),
    *(
        "machine h login a password {v}",
        "machine h\n  login a\n  password {v}",
        "docker login -u a -p {v} h",
    ),
    *("localhost:5432:db:a:{u}", "echo 'h:5432:*:a:{u}' > ~/.pgpass", "*:*:*:a:{u}"),
    *("echo {v} | docker login -u a --password-stdin", "printf '%s' '{q}' | passwd --stdin a"),
    *("echo 'root:{q}' | chpasswd", "net user bob {v} /add", "sqlplus scott/{u}@orcl"),
    *("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{u}\n-----END PGP PRIVATE KEY BLOCK-----",),
    *("-----BEGIN OPENSSH PRIVATE KEY-----\n{u}\n-----END OPENSSH PRIVATE KEY-----",),
    *("PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\n{u}\nPrivate-MAC: 0",),
    *(
        "apiVersion: v1\nkind: Secret\nstringData:\n  a: {v}\n",
        '{{"kind": "Secret", "stringData": {{"a": "{q}"}}}}',
    ),
    *('{{"auths": {{"r.example": {{"auth": "{q}"}}}}}}', "auths:\n  r.example:\n    auth: {v}\n"),
    *("postgres://a:{u}@h/d", "jdbc:oracle:thin:scott/{u}@h:1521/d", "sh -c \"mysql -p'{q}' d\""),
    *(
        "- redis-cli\n- -a\n- {v}\n",
        "rabbitmqctl change_password a {v}",
        "bash -c 'redis-cli -a {v}'",
    ),
    *("oc login https://h -u a -p {v}", "https://{u}:x-oauth-basic@h/r", "h:6000:db:a:{u}"),
    *("db.example:15432:*:a:{u}", 'run: curl --user "a:{s}" https://h', '- --user\n- "a:{s}"\n'),
    *(
        "schtasks /create /tn t /ru a /rp {v}",
        "winrs -r:h -u:a -p:{u} dir",
        "twine upload -p {v} d",
    ),
    *("ipmitool -I lanplus -H h -U a -P {v} power on", "knife bootstrap h -U a -P {v}"),
    *('redis-cli ACL SETUSER a on ">{s}" ~* +@all', "ACL SETUSER a on >{u} allkeys"),
    *("snmpwalk -v3 -l authPriv -u a -a SHA -A {v} h", "snmpget -v 3 -u a -x AES -X {v} h"),
    *("snmpwalk -v2c -c {v} h", "rwcommunity {v} 10.0.0.0/8", "createUser a SHA {v} AES"),
    *("java -jar jenkins-cli.jar -s http://h -auth a:{v} build j", "curl -b 'sid={s}' https://h"),
    *("curl -s -b sid={u} https://h", "openvpn --auth-user-pass <(echo {v})"),
    *(
        "<auth-user-pass>\na\n{x}\n</auth-user-pass>",
        "cloned with ghp_{t} today",
        "xoxb-{t}",
        "hvs.{t}",
    ),
    *("winrs /r:h /u:a /p:{u} dir", "twine upload -u a -p{u} d", "user bob on >{u} ~* +@all"),
    *("curl -sb 'sid={s}' https://h", "curl -su a:{u} https://h", '- "--user=a:{u}"\n- b'),
    *("printf 'a\\n{u}\\n' > /etc/openvpn/auth.txt", "Set-ItemProperty p DefaultPassword '{s}'"),
    *("see glpat-{t}", "github_pat_{t}", "a: sk_live_{t}", "- sk-ant-{t}"),
)
#: Values by their spelling, without quotes around them. C is the place of the canary.
_BARE = (
    *("C", "C", "C", "a,C", "a\\ C", "a\\ b\\ C", "$(echo C)", "x&C", "a<C", "'a'\"C\"", '"a"C'),
    *("C!", "%C", "a:C", "a=C", "a@C", "a;C", "#C", "a|C", "a'C", 'a"C', "{C}", "[C]", "a)C", "$C"),
)
#: Values within double or single quotes.
_QUOTED = (
    *("C", "C", "C", "a,C", "a b C", "$(echo C)", "x&C", "a<C", "C!", "%C", "a:C", "a=C", "a;C"),
    *("#C", "a|C", "{C}", "[C]", "a)C", "$C", "a > C", "a -b C", "a\\\\C"),
)
#: Values in addresses, forms, XML and SQL.
_PLAIN = ("C", "C", "aC", "C-b", "C.b", "C_b", "a~C")


@dataclass(frozen=True)
class TextCase:
    """A string with a secret, and the call that carries it."""

    spelling: str
    text: str
    place: str
    request: Request
    response: Response

    def sent(self) -> str:
        parts = (self.request.path, self.request.query, *self.request.headers.values())
        bodies = (self.request.body, self.response.body)
        return "\n".join((*parts, *(body.decode() for body in bodies)))


def written(spelling: str, name: str, canary: str, choose: random.Random) -> str:
    """Returns a string with a name, and a value that contains the canary."""

    def value(forms: tuple[str, ...]) -> str:
        return choose.choice(forms).replace("C", canary)

    plain = value(_PLAIN)
    values = {
        "u": plain,
        "x": escape(value(_PLAIN)),
        "s": plain,
        "t": f"0123{canary}",
        "k": name if name.replace("_", "").isalnum() else "password",
        "v": value(_BARE),
        "q": value(_QUOTED),
    }
    return spelling.format(n=name, **values)


def drawn(choose: random.Random) -> str:
    """Returns a spelling drawn from a grammar: a setting or an option, in strings, in a line."""
    before, setting, quoted = choose.choice(
        [
            ("", "{n}={}", True),
            (
                choose.choice(["export ", "env ", "sudo ", "RUN ", "local ", "readonly ", "ENV "]),
                "{n}={}",
                True,
            ),
            (choose.choice(["", "  ", "- ", "let ", "var ", "my $"]), "{n}{sep}{}", True),
            (
                choose.choice(["run ", "tool sub ", "a | b ", "x; y ", "/usr/bin/z "]),
                "--{n}{opt}{}",
                True,
            ),
            (
                choose.choice(["-e ", "--env ", "-D", "--set ", "-var ", "--from-literal="]),
                "{n}={}",
                True,
            ),
            ("", "'{n}'{sep}{}", True),
            ("", '"{n}"{sep}{}', True),
            (choose.choice(["curl -H ", "http h ", "wget --header="]), '"{n}: {q}"', False),
        ]
    )
    sep = choose.choice([": ", " = ", "=", " => ", ":=", " := ", ": ", "+=", " ?= ", ":"])
    opt = choose.choice([" ", "=", "  "])
    value = choose.choice(["{v}", '"{q}"', "'{q}'", '\\"{q}\\"']) if quoted else ""
    setting = setting.replace("{sep}", sep).replace("{opt}", opt).replace("{}", value)
    after = choose.choice(
        ["", "", " --region r", "; echo", " # why", "\nnext: 1", ", a: b", " > f"]
    )
    line = f"{before}{setting}{after}"
    wraps = [
        "L",
        "L",
        "L",
        "a: 1\nL\nb: 2",
        "echo x && L",
        "if a; then L; fi",
        "cat <<EOF > f\nL\nEOF",
    ]
    if '"' not in line:
        wraps += [
            'bash -c "L"',
            'ssh h "L" x',
            'echo "L" > f',
            'printf "a\\nL\\n"',
            'text "L" after',
        ]
    elif '\\"' in line and '"' not in line.replace('\\"', ""):
        wraps += ['bash -c "L"', 'echo "L"']
    if "'" not in line:
        wraps += ["sh -c 'L'", "echo 'L' | tee f", "awk 'L'"]
    return choose.choice(wraps).replace("L", line)


def _ssm(
    parameters: Callable[[str], dict[str, object]],
) -> Callable[[str], tuple[Request, Response]]:
    return lambda text: (
        a_json_request("ssm", "AmazonSSM.SendCommand", {"DocumentName": "d", **parameters(text)}),
        a_response(),
    )


def _error(text: str) -> tuple[Request, Response]:
    body = json.dumps({"__type": "ValidationException", "message": text}).encode()
    return a_json_request("ssm", "AmazonSSM.SendCommand", {"DocumentName": "d"}), a_response(
        body, 400
    )


def _answer(text: str) -> tuple[Request, Response]:
    body = json.dumps({"DocumentDescription": {"Description": text}}).encode()
    return a_json_request("ssm", "AmazonSSM.CreateDocument", {"Name": "d"}), a_response(body)


def _task(text: str) -> tuple[Request, Response]:
    given = {"family": "f", "containerDefinitions": [{"name": "c", "command": ["sh", "-c", text]}]}
    target = "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition"
    return a_json_request("ecs", target, given), a_response()


def _tag(text: str) -> tuple[Request, Response]:
    fields = {"ResourceId.1": "i-1", "Tag.1.Key": "note", "Tag.1.Value": text}
    return a_query_request("ec2", "CreateTags", "2016-11-15", fields), a_response()


def _s3_tag(text: str) -> tuple[Request, Response]:
    tag = f"<Tag><Key>note</Key><Value>{escape(text)}</Value></Tag>"
    body = f"<Tagging><TagSet>{tag}</TagSet></Tagging>".encode()
    return an_s3_request("PUT", "/b", "tagging", body=body), a_response()


def _unknown(text: str) -> tuple[Request, Response]:
    return a_query_request("iam", "CreateThing", "2010-05-08", {"Note": text}), a_response()


def _json(service: str, target: str, member: str) -> Callable[[str], tuple[Request, Response]]:
    return lambda text: (a_json_request(service, target, {member: text}), a_response())


def _query(
    service: str, action: str, version: str, member: str
) -> Callable[[str], tuple[Request, Response]]:
    return lambda text: (a_query_request(service, action, version, {member: text}), a_response())


def _encoded(text: str) -> str:
    return base64.b64encode(f"#!/bin/sh\n{text}\n".encode()).decode()


#: Calls that carry a string.
PLACES: dict[str, Callable[[str], tuple[Request, Response]]] = {
    "build": _json("codebuild", "CodeBuild_20161006.StartBuild", "buildspecOverride"),
    "description": _json("kms", "TrentService.CreateKey", "Description"),
    "parameter": _json("ssm", "AmazonSSM.PutParameter", "Description"),
    "rule": _json("events", "AWSEvents.PutRule", "Description"),
    "policy": _query("iam", "CreatePolicy", "2010-05-08", "Description"),
    "tag of a group": _query(
        "autoscaling", "CreateOrUpdateTags", "2011-01-01", "Tags.member.1.Value"
    ),
    "list": _ssm(lambda text: {"Comment": json.dumps(["sh", "-c", text])}),
    "script": _ssm(lambda text: {"Comment": f"#!/bin/sh\n{text}\nexit 0"}),
    "comment": _ssm(lambda text: {"Comment": text}),
    "base64": _ssm(lambda text: {"Comment": _encoded(text)}),
    "JSON": _ssm(lambda text: {"Comment": json.dumps({"steps": [{"run": text}]})}),
    "address": _ssm(lambda text: {"Comment": f"https://h/?text={quote(text, safe='')}"}),
    "task": _task,
    "tag": _tag,
    "S3 tag": _s3_tag,
    "error": _error,
    "answer": _answer,
    "unknown": _unknown,
}


@cache
def cases() -> tuple[TextCase, ...]:
    """Returns all cases: every third one has a random spelling."""
    return tuple(_cases())


def canary(number: int) -> str:
    return f"Cnry{number:05d}Zq"


def _cases() -> Iterator[TextCase]:
    choose = random.Random(SEED)
    places = sorted(PLACES)
    listed = [(s, n) for s in NAMED for n in choose.sample(NAMES, 18)]
    listed += [(s, "") for s in NAMELESS for _ in range(18)]
    spellings = [*listed, *((drawn(choose), choose.choice(NAMES)) for _ in listed)]
    for number, (spelling, name) in enumerate(spellings):
        text = written(spelling, name, canary(number), choose)
        place = places[choose.randrange(len(places))]
        yield TextCase(spelling, text, place, *PLACES[place](text))


#: Strings whose canary is no secret, though one may be after it or on another line.
HARMLESS = (
    *("echo {c} --region r", "mkdir -p /{c}", "docker run -p 80:80 {c}", "tar -xzf {c}.tgz"),
    *("password-policy: {c}", "PasswordResetRequired={c}", "is_secret={c}", "--secret-id {c}"),
    *("password-rotation={c}", "secretKeyRef:\n  name: {c}\n  key: password", "nextToken: {c}"),
    *('{{"valueFrom": {{"secretKeyRef": {{"name": "{c}", "key": "password"}}}}}}', "team={c}"),
    *('{{"StringEquals": {{"aws:PrincipalTag/password-team": "{c}"}}}}', "max_tokens={c}"),
    *(
        "run --user {c} --password x1y2z3",
        "user: {c}\npassword: x1y2z3",
        "password: x1y2z3\nuser: {c}",
    ),
    *(
        "mysql -h {c} -u root -px1y2z3",
        "export A={c}; export PASSWORD=x1y2z3",
        "a\n{c}\npassword=x1y2z3",
    ),
    *(
        'bash -c "export PASSWORD=x1y2z3" {c}',
        "https://h/?password=x1y2z3&a={c}",
        "a={c}&password=x1y2z3",
    ),
    *(
        "redis-cli -h {c} -a x1y2z3",
        "The security token included in {c} is invalid",
        "git clone h/{c}",
    ),
    *("kubectl get secret {c} -o yaml", "helm install --set auth.existingSecret={c} r c"),
    *("kubectl -n n describe secret {c}", "docker run --user '{c}:{c}' i", "curl -b {c} https://h"),
    *("insert into {c}(a) values ('b')", "reg query HKLM /v {c}", "token for {c} expired"),
    *("password reset for {c} requested", "{c}:8080:a", "printf '%s' {c}", "ghp_short {c}"),
    *(
        "basic setting {c}",
        "winrs -r:{c} dir",
        "snmpwalk -v2c {c}",
        "<key>name</key><string>{c}</string>",
    ),
    *("CREATE TABLE {c} (password text)", "curl -o {c} https://h", "User {c} is not authorized"),
)


def harmless(number: int) -> str:
    return HARMLESS[number % len(HARMLESS)].format(c=canary(number))
