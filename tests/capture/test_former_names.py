"""Modules that moved can still be imported by their former public names."""

from importlib import import_module

import pytest

from opentrail.capture import in_process


@pytest.mark.parametrize("module", ["hooks", "middleware", "shipping"])
def test_former_names_give_the_same_classes(module: str) -> None:
    former = import_module(f"opentrail.capture.{module}")
    assert former.__all__
    for name in former.__all__:
        assert getattr(former, name) is getattr(in_process, name)
