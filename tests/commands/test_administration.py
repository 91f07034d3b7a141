"""Actions without a server, and policies given by name or file."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.commands.administration import KEYS, administer, policy_of
from opentrail.core.errors import DataDirectoryInUse, UsageError


def options(folder: Path) -> Namespace:
    return Namespace(data_dir=str(folder), endpoint=None, config=None)


@pytest.mark.slow
def test_a_data_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.open()
    with pytest.raises(DataDirectoryInUse):
        administer(options(tmp_path / "data"), KEYS, {"action": "list"})
    data.close()
    assert administer(options(tmp_path / "data"), KEYS, {"action": "list"}) == {"AccessKeys": []}


def test_policy_is_given_by_name_or_by_file(tmp_path: Path) -> None:
    file = tmp_path / "ListOnly.json"
    file.write_text("{}")
    assert policy_of("SecurityAudit") == {"name": "SecurityAudit"}
    assert policy_of(str(file)) == {"name": "ListOnly", "document": "{}"}
    with pytest.raises(UsageError, match="cannot be read"):
        policy_of(str(tmp_path / "none.json"))
