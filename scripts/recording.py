"""Runs the README's first example in a sandbox and draws it as docs/images/terminal.svg."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.live.processes import BIN, clean_environment, opentrail_server  # noqa: E402

README = ROOT / "README.md"
TARGET = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 110
#: How many of the README's commands are shown.
COMMANDS = 5
END = "[[end]]"
#: Fonts of the reader's machine: the drawing loads nothing from other hosts.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.S).replace(
    "Fira Code", "ui-monospace, Menlo, Consolas"
)


def main() -> None:
    """Writes the drawing."""
    console = Console(width=COLUMNS, record=True, file=io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "opentrail-data")
        with opentrail_server(data, command="sandbox") as server:
            path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
            environment = clean_environment(**server.access(), PATH=path, AWS_PAGER="")
            blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(), re.M | re.S)
            commands = re.findall(r"^\$ (.*)", "".join(blocks), re.M)[:COMMANDS]
            script = f"\necho '{END}'\n".join(commands)
            done = subprocess.run(
                ["/bin/bash", "--norc", "-c", script],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            for command, said in zip(commands, done.stdout.split(f"{END}\n"), strict=True):
                console.print(Text("$ ", "green bold"), Text(command, "bold"), sep="")
                if said.strip():
                    console.print(Text(re.sub(r"(aws-cli/\S+).*", r"\1 …", said).rstrip()))
    TARGET.write_text(console.export_svg(title="opentrail", code_format=FORMAT) + "\n")


if __name__ == "__main__":
    main()
