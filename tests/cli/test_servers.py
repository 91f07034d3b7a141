"""Arguments of servers."""

from pathlib import Path

import pytest

from opentrail.cli import main
from tests.cli.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "here"),
        ("serve", "--listen"),
        ("serve", "--s3", "moto"),
        ("sandbox", "here"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("serve", "--listen", "nowhere"), "--listen"),
        (("serve", "--console-listen", "0.0.0.0:1"), "--console-listen"),
        (("serve", "--upstream", "localhost"), "--upstream"),
        (("serve", "--delivery-interval", "soon"), "--delivery-interval"),
        (("serve", "--history-retention-days", "0"), "--history-retention-days"),
        (("serve", "--auth", "open"), "--auth"),
        (("serve", "--unknown-keys", "refuse"), "--unknown-keys"),
        (("serve", "--on-record-failure", "ignore"), "--on-record-failure"),
        (("serve", "--recorders", "257"), "--recorders"),
        (("serve", "--config", "gone.toml"), "gone.toml"),
        (("sandbox", "--listen", "nowhere"), "--listen"),
        (("sandbox", "--s3", "ceph"), "--s3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_setting_is_wrong_use_and_starts_nothing(
    arguments: tuple[str, ...],
    named: str,
    capsys: pytest.CaptureFixture[str],
    empty_folder: Path,
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("opentrail: ")
    assert named in said
    assert list(empty_folder.iterdir()) == []
