"""All wings are listed, each once, and the process of one wing loads no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from opentrail.app import wings
from opentrail.app.wings.register import WINGS


def test_every_function_that_starts_a_wing_is_listed() -> None:
    (folder,) = wings.__path__
    starting = {
        (f"opentrail.app.wings.{file.stem}", name)
        for file in Path(folder).glob("*.py")
        for name in re.findall(
            r"^def (\w+)\(_?core: Core\) -> Wing:$", file.read_text(), re.MULTILINE
        )
    }
    assert {(start.__module__, start.__name__) for start in WINGS} == starting
    assert len(WINGS) == len(starting)


@pytest.mark.slow
def test_the_process_of_one_wing_loads_no_other() -> None:
    program = "import sys, opentrail.app.wings.insights_process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.split()
    assert "numpy" in loaded
    heavy = ("starlette", "boto3", "httptools", "opentrail.app.wings.console")
    assert [name for name in heavy if name in loaded] == []
