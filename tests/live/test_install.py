"""Installed opentrail: wheels from a source tree and from a source distribution."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from opentrail.core import version
from tests.live.processes import BIN, Opentrail, clean_environment, opentrail_server
from tests.live.sources import ROOT, copy_of_source

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

_SECONDS = 300


def _run(*command: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        # Otherwise pip spends tens of seconds on compiling modules that no test imports.
        env=clean_environment(OPENTRAIL_REQUIRE_CONSOLE="1", PIP_COMPILE="0", **environment),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the files in git, so without a built console."""
    return copy_of_source(tmp_path / "source")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without Node."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_source(folder / "source")
    return _wheel(source, folder / "made", _without_node(folder / "path"))


def _without_node(folder: Path) -> str:
    """Returns a PATH with a shell and without Node."""
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    return str(folder)


def _wheel(source: Path, folder: Path, path: str) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check")
    _run(*pip, "--wheel-dir", str(folder), str(source), folder=source.parent, PATH=path)
    (wheel,) = folder.glob("opentrail-*.whl")
    return wheel


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    return set(names)


def _files(wheel: Path) -> set[str]:
    """Returns the names of the files in a wheel, without versions."""
    return {re.sub(r"^opentrail-[^/]*\.", "opentrail.", name) for name in _names(wheel)}


def test_a_wheel_built_without_node_has_the_console(wheel: Path, tmp_path: Path) -> None:
    names = _names(wheel)
    assert "opentrail/console_static/index.html" in names
    strays = [n for n in names if n.split("/")[0] != "opentrail" and ".d" not in n.split("/")[0]]
    assert strays == []
    assert any(name.endswith("data/share/man/man1/opentrail.1") for name in names)
    _serve(wheel, tmp_path)


def test_a_source_distribution_makes_the_same_wheel(source: Path, tmp_path: Path) -> None:
    path = _without_node(tmp_path / "path")
    hatch = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path))
    _copy_console(source)
    _run(*hatch, folder=source, PATH=path)
    (distribution,) = tmp_path.glob("opentrail-*.tar.gz")
    from_distribution = _wheel(distribution, tmp_path / "chain", path)
    direct = _wheel(source, tmp_path / "direct", path)
    assert _names(from_distribution) == _names(direct)


def _copy_console(source: Path, packages: Path = ROOT / "src") -> None:
    """Gives a source the built console of the wheel tests, to save another build."""
    static = "opentrail/console_static"
    shutil.copytree(packages / static, source / "src" / static)


def _serve(wheel: Path, folder: Path) -> None:
    """Installs a wheel next to this environment's packages, and asks it for the console."""
    made = folder / "installed"
    venv.create(made, with_pip=False)
    python = str(made / "bin/python")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps")
    _run(*pip, "--disable-pip-version-check", str(wheel), folder=folder)
    (packages,) = made.glob("lib/python*/site-packages")
    (here,) = Path(sys.executable).parent.parent.glob("lib/python*/site-packages")
    (packages / "beside.pth").write_text(f"{here}\n")
    server = Opentrail(folder / "data", "--upstream", "http://127.0.0.1:9", python=python)
    try:
        server.start()
        page = f"{server.console}/console/"
        with urllib.request.urlopen(page, timeout=30) as answer:  # noqa: S310 - http
            assert b'<div id="root">' in answer.read()
    finally:
        server.close()


def test_printed_variables_work_in_another_terminal(source: Path, tmp_path: Path) -> None:
    """The tutorial's first two minutes, without aws-cli."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    if shutil.which("aws", path=path) or not shutil.which("make", path=path):
        pytest.skip("needs make, and no aws-cli in /usr/bin")
    _copy_console(source)
    environment = clean_environment(PATH=path, PYTHON=sys.executable, VIRTUAL_ENV="")
    listeners = "--listen 127.0.0.1:0 --console-listen 127.0.0.1:0"
    sandbox = subprocess.Popen(
        ["make", "run", f"ARGS={listeners}"],
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert sandbox.stdout is not None
    said = ""
    for line in sandbox.stdout:
        said += line
        if line.startswith("export PATH="):
            break
    assert f"aws-cli  is in {source}/.venv/commands, which the last line below adds" in said
    _, _, pasted = said.partition("as always:\n")
    typed = f"""{pasted}
        aws iam create-user --user-name Mary --query User.Arn --output text
        opentrail who Mary
        ls {source}/.venv/commands"""
    try:
        done = subprocess.run(
            ["bash", "-e"],
            input=typed,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        sandbox.terminate()
        rest, _ = sandbox.communicate(timeout=60)
    assert done.returncode == 0, done.stderr + said + rest
    arn, who, *_ = done.stdout.splitlines()
    assert arn.endswith(":user/Mary")
    assert who.endswith("IAM user admin created IAM user Mary through the AWS CLI.")
    assert done.stdout.split()[-2:] == ["aws", "opentrail"]


@dataclass(frozen=True)
class Installer:
    """A tool that installs a wheel, and its places for environment and command."""

    install: Callable[[Path, str], list[list[str]]]
    python: str
    program: str


#: `_tools` has the tools use these folders.
INSTALLERS = {
    "pip": Installer(
        lambda folder, wheel: [
            [sys.executable, "-m", "venv", str(folder / "venv")],
            [str(folder / "venv/bin/pip"), "install", "-q", wheel],
        ],
        "venv/bin/python",
        "venv/bin/opentrail",
    ),
    "pipx": Installer(
        lambda _, wheel: [["pipx", "install", wheel]],
        "pipx/venvs/opentrail/bin/python",
        "bin/opentrail",
    ),
    "uv": Installer(
        lambda _, wheel: [["uv", "tool", "install", "-q", "--python", sys.executable, wheel]],
        "uv/opentrail/bin/python",
        "bin/opentrail",
    ),
}


def _tools(folder: Path) -> dict[str, str]:
    """Returns the environment for pipx and uv, with their folders."""
    return {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PIPX_HOME": str(folder / "pipx"),
        "PIPX_BIN_DIR": str(folder / "bin"),
        "PIPX_MAN_DIR": str(folder / "man"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        "UV_TOOL_DIR": str(folder / "uv"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
    }


@pytest.mark.parametrize("tool", INSTALLERS)
def test_installed_wheel_records_a_call_with_its_caller(
    tool: str, wheel: Path, tmp_path: Path
) -> None:
    installer, environment = INSTALLERS[tool], _tools(tmp_path)
    for command in installer.install(tmp_path, f"{wheel}[sandbox]"):
        _run(*command, folder=tmp_path, **environment)
    python, program = (str(tmp_path / path) for path in (installer.python, installer.program))
    with opentrail_server(tmp_path / "data", command="sandbox", python=python) as server:
        server.boto("iam").create_user(UserName="Mary")
        who = subprocess.run(
            [program, "who", "Mary", "--data-dir", str(server.data_dir)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert "created IAM user Mary" in who.stdout, who.stderr
    advice = "from opentrail.core.version import command_for; print(command_for('oidc'))"
    advised = subprocess.check_output([python, "-c", advice], text=True)
    _run("sh", "-c", advised, folder=tmp_path, **environment)
    _run(python, "-c", "import joserfc", folder=tmp_path)


def test_two_release_builds_have_equal_bytes(wheel: Path, tmp_path: Path) -> None:
    """Builds in two clones, so in different folders.

    One commit has the wheel's console, built on a machine without Node; the other one has this
    checkout's console. The console is built once more if the commit's sources differ.
    """
    status = ("git", "status", "--porcelain")
    git = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("this is not a git checkout")
    shutil.unpack_archive(wheel, tmp_path / "wheel", "zip")
    for name, packages in (("one", tmp_path / "wheel"), ("two", ROOT / "src")):
        clone = tmp_path / f"clone-{name}"
        _run("git", "clone", "-q", str(ROOT), str(clone), folder=tmp_path)
        _commit_console(clone, packages)
        script = str(clone / "scripts/build_dist.py")
        _run(sys.executable, script, str(tmp_path / name), folder=tmp_path)
    one, two = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two
    assert len(one) == 6
    built = re.compile(r"opentrail-\d+\.\d+\.0\.dev\d+\+g[0-9a-f]{8}-py3-none-any\.whl")
    if one["NOTES.txt"].startswith(b"## [Unreleased]"):
        assert any(map(built.fullmatch, one))
    else:
        assert one["NOTES.txt"].startswith(f"## [{version.__version__}] - ".encode())
    (archive,) = (tmp_path / "one").glob("*.tar.gz")
    with tarfile.open(archive) as distribution:
        names = {name.partition("/")[2] for name in distribution.getnames()}
    assert {"Containerfile", "compose.yaml", "packaging/opentrail.service"} <= names
    (released,) = (tmp_path / "one").glob("*.whl")
    if not git.stdout:  # uncommitted changes would be in the wheel only
        assert _files(released) == _files(wheel)
    _run("sha256sum", "--check", "--strict", "SHA256SUMS", folder=tmp_path / "one")
    for name in one:
        if name.endswith(".cdx.json"):
            assert b"://" not in one[name].replace(b"http://cyclonedx.org", b"")


def _commit_console(clone: Path, packages: Path) -> None:
    """Adds a built console to the last commit of a clone, with the same time."""
    _copy_console(clone, packages)
    _run("git", "add", "--force", "src/opentrail/console_static", folder=clone)
    time = subprocess.check_output(["git", "log", "-1", "--format=%cI"], cwd=clone, text=True)
    author = {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}
    amend = ("git", "commit", "-q", "--amend", "--no-edit")
    _run(*amend, folder=clone, GIT_COMMITTER_DATE=time.strip(), **author)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone whose `origin` is a repository of the test, with stand-ins for `make` and `gh`."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    clone = tmp_path / "clone"
    _run("git", "init", "-q", "--bare", str(tmp_path / "origin"), folder=tmp_path)
    _run("git", "clone", "-q", str(ROOT), str(clone), folder=tmp_path)
    _run("git", "remote", "set-url", "origin", str(tmp_path / "origin"), folder=clone)
    programs = tmp_path / "programs"
    programs.mkdir()
    # `make dist` has its own test, `make bench-trees` takes minutes; `gh` would publish.
    for name, script in (
        ("make", 'echo "$@" >> ../made; mkdir -p dist; touch dist/NOTES.txt dist/opentrail.whl'),
        ("gh", 'echo "$@" > ../published'),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    return clone


def _release(checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout.parent / 'programs'}:{os.environ['PATH']}"
    identity = {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com"}
    return subprocess.run(
        ["sh", "scripts/release.sh"],
        cwd=checkout,
        env=clean_environment(PATH=path, **identity),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_is_tagged_pushed_and_published_once(checkout: Path) -> None:
    tag = f"v{version.__version__}"
    for former in _tags(checkout):
        _run("git", "tag", "--delete", former, folder=checkout)
    done = _release(checkout)
    assert done.returncode == 0, done.stderr
    assert _tags(checkout.parent / "origin") == [tag]
    audited, measured, built = (checkout.parent / "made").read_text().splitlines()
    assert audited == "--no-print-directory audit"
    assert re.fullmatch(r"--no-print-directory bench-trees BASE=[0-9a-f]{40}", measured)
    assert built == "--no-print-directory dist"
    published = (checkout.parent / "published").read_text()
    assert published.startswith(f"release create {tag} dist/NOTES.txt dist/opentrail.whl ")
    again = _release(checkout)
    assert again.returncode == 2
    assert f"{tag} exists" in again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("echo more >> README.md", "not committed"),
        ("git remote remove origin", "no remote 'origin'"),
        ("echo '## [x]' > CHANGELOG.md; git commit -qam x", "DATE"),
    ],
)
def test_an_unready_release_is_refused(checkout: Path, change: str, said: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    script = change.replace("git commit", " ".join(("git", *author, "commit")))
    _run("sh", "-c", script, folder=checkout)
    done = _release(checkout)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (checkout.parent / "published").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [("bench-trees", "slower than v0.0.1"), ("audit", "a package has a known vulnerability")],
)
def test_worse_release_is_refused(checkout: Path, target: str, said: str) -> None:
    _run("git", "tag", "v0.0.1", folder=checkout)
    make = checkout.parent / "programs" / "make"
    make.write_text(f'#!/bin/sh\ncase "$*" in *{target}*) exit 1 ;; esac\n')
    done = _release(checkout)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (checkout.parent / "published").exists()


def _tags(repository: Path) -> list[str]:
    listed = subprocess.check_output(["git", "tag", "--list"], cwd=repository, text=True)
    return listed.split()
