"""Hidden and visible parts of commands, settings and messages."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.secrets.free_text import (
    without_argument_secrets,
    without_logins,
    without_text_secrets,
)
from opentrail.core.secrets.secret_names import HIDDEN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run --user a --password x --host h", "run --user a --password {}"),
        ("a=1\npassword=x y\nb=2", "a=1\npassword={}\nb=2"),
        ("a=1\r\npassword=x\r\nb=2", "a=1\r\npassword={}\r\nb=2"),
        ('bash -c "export PW=x; run" --host h', 'bash -c "export PW={}" --host h'),
        ("sh -c 'PW='\\''x'\\''' after", "sh -c 'PW={}"),
        (
            "define('DB_PASSWORD', 'x'); define('A', 'b')",
            "define('DB_PASSWORD', {}); define('A', 'b')",
        ),
        ('variable "pw" {\n  default = "x"\n}\nb = 1', 'variable "pw" {}\nb = 1'),
        ("password='first\nx'\nuser: a", "password={}\nuser: a"),
        ("run --password \\\n  x \\\n  --host h\nnext", "run --password \\\n  {}\nnext"),
        ("cat > f <<E\npassword=x\nhost=h\nE", "cat > f <<E\npassword={}\nhost=h\nE"),
        ("password=$(cat <<E\nx\nE\n)\nnext", "password={}\n)\nnext"),
        ("- --password\n- x\n- --host\n", "- --password\n- {}\n- --host\n"),
        ("the api key: x", "the api key: {}"),
        ("https://h/?password=x&a=b", "https://h/?password={}&a=b"),
        ("Key=password,Value=x", "Key=password,Value={}"),
        ("Value=x,Key=password", "Value={}"),
        ("machine h login a password x", "machine h login a password {}"),
        ("aws configure set aws_secret_access_key x", "aws configure set aws_secret_access_key {}"),
        ("CREATE USER a IDENTIFIED BY 'x'", "CREATE USER a IDENTIFIED BY '{}"),
        ("h:5432:db:a:x", "h:5432:db:a:{}"),
        ("h:6000:db:a:x", "h:6000:db:a:{}"),
        (
            "INSERT INTO u(name,password) VALUES ('a','x'); a",
            "INSERT INTO u(name,password) VALUES {}; a",
        ),
        (
            "mysql -e \"INSERT INTO u (`a`, `api_key`) VALUES ('a', 'x')\" db",
            'mysql -e "INSERT INTO u (`a`, `api_key`) VALUES {}" db',
        ),
        (
            'execute("INSERT INTO u (password) VALUES (%s)", ("x",))\na',
            'execute("INSERT INTO u (password) VALUES {}\na',
        ),
        ("printf 'DB_PASSWORD=%s' 'x'\na", "printf 'DB_PASSWORD={}\na"),
        ('"password={}".format("x")'.replace("{}", "{0}"), '"password={}'),
        ('{password, "x"}.', "{password, {}}."),
        ("password for user 'a': x", "password for user 'a': {}"),
        ("the token for bob is x1", "the token for bob is {}"),
        (
            'Set-ItemProperty -Path p -Name DefaultPassword -Value "x"',
            "Set-ItemProperty -Path p -Name DefaultPassword -Value {}",
        ),
        ('Set-Item Env:DB_PASSWORD -Value "x"', "Set-Item Env:DB_PASSWORD -Value {}"),
        (
            'reg add "HKLM\\a" /v AutoAdminPassword /t REG_SZ /d x',
            'reg add "HKLM\\a" /v AutoAdminPassword /t REG_SZ /d {}',
        ),
        ("args:\n- --user\n- a:x\n", "args:\n- --user\n- a:{}\n"),
    ],
)
def test_rest_of_line_or_string_is_hidden(text: str, shown: str) -> None:
    found = without_text_secrets(text)
    assert found == shown.replace("{}", HIDDEN)
    assert without_text_secrets(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "setx API_TOKEN {}",
        "ENV PW {}",
        "set -x PW {}",
        "mysqldump -h h -u a -p{}",
        "mysql -p={}",
        "kubectl exec p -- mysql -p{}",
        "sudo docker login -u a -p {}",
        "sqlcmd -S h -P {}",
        "redis-cli -h h -a {}",
        "curl -s --user a:{}",
        "curl -ua:{}",
        "echo {} | sudo chpasswd",
        "net user a {}",
        "sqlplus a/{}",
        "expdp directory=d userid=a/{}@h",
        "htpasswd -b f {}",
        "htpasswd -nb a {}",
        "vault login {}",
        "ConvertTo-SecureString {}",
        "/usr/bin/redis-cli -a {}",
        "oc login https://h -u a -p {}",
        "schtasks /create /tn t /ru a /rp {}",
        "winrs -r:h -u:a -p:{}",
        "ipmitool -H h -U a -P {}",
        "twine upload -u a -p {}",
        "knife bootstrap h -P {}",
        'redis-cli ACL SETUSER a on ">{}',
        "snmpwalk -v3 -u a -a SHA -A {}",
        "snmpget -v2c -c {}",
        "rocommunity {}",
        "createUser a SHA {}",
        "java -jar jenkins-cli.jar -s http://h -auth a:{}",
    ],
)
def test_secret_without_name_is_hidden(text: str) -> None:
    shown = without_text_secrets(text.format("x1y2z3"))
    assert shown.partition(HIDDEN)[0] == text.partition("{}")[0]
    assert "x1y2z3" not in shown
    assert without_text_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "setx PATH /usr/bin",
        "ENV HOST h",
        "mkdir -p /a/b",
        "docker run -p 80:80 image",
        "docker run --name mysql -p 3306:3306 mysql:8",
        "curl -o a https://h/a:b",
        "net user",
        "sqlplus / as sysdba",
        "mysql; mkdir -p a",
        "mysql --user=a --host=h < dump.sql",
        "aws secretsmanager get-secret-value --secret-id a",
        "aws-cli/2.15.17 Python/3.11.6 command/iam.create-login-profile",
        "run --password-policy strict --is_secret no",
        "The security token included in the request is invalid.",
        "Secrets Manager can't find the specified secret.",
        "Value at 'masterUserPassword' failed to satisfy constraint: Member must not be null",
        "User: a is not authorized to perform: sts:GetSessionToken on resource: "
        "arn:aws:secretsmanager:us-east-1:1:secret:prod/db-abc",
        "password: '{{resolve:secretsmanager:Secret:SecretString:password}}'"[10:],
        "ManageMasterUserPassword: true",
        "echo a | docker run -i image",
        "kubectl get secret db-pass -o yaml",
        "kubectl -n prod describe secrets db-pass api-token-x1",
        "helm install --set auth.existingSecret=db-pass r c",
        "docker run --user 'www:www' image",
        'docker run --user "app:staff" image',
        "curl -u https://h",
        "2024-05-01:1200:abc:def:ghi",
        "INSERT INTO a (b, password_changed_at) VALUES ('x', '2024-01-01')",
        "curl -b cookies.txt https://h",
        "at 12:2026:jan:mon:x",
        "SELECT password FROM users",
        "INSERT INTO users (name, password_length) VALUES ('a', 8)",
        "token for the page expired",
        "redis-cli ACL LIST",
        "reg query HKLM /v Version",
    ],
)
def test_text_without_secret_stays(text: str) -> None:
    assert without_text_secrets(text) == text


@pytest.mark.parametrize(
    ("items", "hidden"),
    [
        (["redis-cli", "-a", "x", "ping"], [2]),
        (["mysql", "-u", "a", "-p", "x"], [4]),
        (["run", "--password", "x", "--port", 5], [2]),
        (["keytool", "-storepass", "x"], [2]),
        (["aws", "configure", "set", "aws_secret_access_key", "x"], [4]),
        (["vault", "login", "x"], [2]),
        (["net", "user", "a", "x", "/add"], [3]),
        (["run", "--token", "--quiet"], []),
        (["password", "user"], []),
        (["docker", "run", "-p", "80:80"], []),
    ],
)
def test_arguments_lose_only_the_secret(items: list[object], hidden: list[int]) -> None:
    shown = [HIDDEN if at in hidden else item for at, item in enumerate(items)]
    assert without_argument_secrets(items) == shown


def test_cookies_of_a_command_are_hidden() -> None:
    assert "x1y2z3" not in without_text_secrets("curl -b 'session=x1y2z3' https://h")
    assert "x1y2z3" not in without_text_secrets("curl -b a=x1y2z3 https://h")


def test_user_stays_before_password() -> None:
    assert without_argument_secrets(["curl", "-u", "admin:x"]) == ["curl", "-u", f"admin:{HIDDEN}"]
    assert without_argument_secrets(["mysql", "-px"]) == ["mysql", f"-p{HIDDEN}"]


@pytest.mark.parametrize(
    "text",
    [
        "jdbc:oracle:thin:a/{}@h:1521/s",
        "jdbc:oracle:thin:@a/{}@h",
        "jdbc:mysql://a:{}@h/d?user=b@c",
        "postgres://a:{}@h/d",
        "https://{}@github.com/o/r",
        "https://{}:@api.example",
    ],
)
def test_password_of_address_is_hidden(text: str) -> None:
    secret = "x1y2z3" if "@h" in text else "ghp_0123456789abcdefghij"
    shown = without_logins(text.format(secret))
    assert shown == text.format(HIDDEN)
    assert without_logins(shown) == shown


def test_token_in_place_of_user_is_hidden() -> None:
    assert without_logins("https://x1:x-oauth-basic@h/r") == f"https://{HIDDEN}:{HIDDEN}@h/r"


@pytest.mark.parametrize(
    "text",
    [
        "jdbc:oracle:thin:@//h:1521/s",
        "jdbc:oracle:thin:@h:1521:s",
        "jdbc:postgresql://h:5432/d?user=a@b",
        "jdbc:sqlserver://h:1433;user=a",
        "https://org@dev.azure.com/org",
        "ssh://git@h/x",
        "git@github.com:o/r",
        "repository/image@sha256:0123",
        "a@b.example, http://h:80/x",
    ],
)
def test_address_without_password_stays(text: str) -> None:
    assert without_logins(text) == text


def test_many_addresses_are_read_once() -> None:
    addresses = "jdbc:a:" * 14_000
    assert without_logins(f"{addresses} a@b") == f"{'jdbc:a:' * 3}{HIDDEN} a@b"
    assert without_logins(f"jdbc:a://u:{'x' * 600}@h") == f"jdbc:a://u:{HIDDEN}"


@given(st.text())
def test_any_text_is_accepted(text: str) -> None:
    given_text = f"curl -u {text} jdbc:a:{text}@ key={text} password {text}"
    assert isinstance(without_logins(given_text), str)
    assert isinstance(without_text_secrets(given_text), str)
    assert isinstance(without_argument_secrets(["set", "-p", text, text]), list)


@given(
    st.lists(
        st.sampled_from(
            [
                "password",
                "=",
                ": ",
                " ",
                "'",
                '"',
                "\\",
                "\n",
                "x",
                "(",
                ")",
                ",",
                "--",
                "mysql -p",
                "key=",
                "value=",
                "|",
                "echo ",
            ]
        )
    )
)
def test_hiding_hidden_text_changes_nothing(parts: list[str]) -> None:
    shown = without_text_secrets("".join(parts))
    assert without_text_secrets(shown) == shown


#: Repeated, each of these once took quadratic time.
_PIECES = (
    *("password ", "password=x ", '"password=x" ', "api key ", "key key ", "---", "?password=x&"),
    *("password=(\n", "<<a\n", "Key=password ", "Value=x Key=password ", "mysql -p ", "curl -u "),
    *("identified by ", "noecho: x ", "a:5432:", "it's ", '"', "'", '\\"', "- --password\n", "%3A"),
    *("insert into t(password) values (", "password for a: ", '--user "a:'),
    *("sh -c 'sh -c \"mysql -px\"' ", "echo x | ", "'password', 'x', ", "<a b='c:password=d'>"),
)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "password: ", "x='", "mysql "])
@pytest.mark.parametrize("piece", _PIECES)
def test_long_text_costs_little_memory(before: str, piece: str) -> None:
    text = before + piece * (100_000 // len(piece))
    tracemalloc.start()
    try:
        without_text_secrets(text)
        without_logins(text)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
