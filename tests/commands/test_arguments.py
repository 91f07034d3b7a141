"""Arguments that argparse refuses."""

import pytest

from tests.commands.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "here"),
        ("serve", "--listen"),
        ("serve", "--s3", "moto"),
        ("sandbox", "here"),
        ("lookup", "--limit"),
        ("who",),
        ("who", "Mary", "John"),
        ("tail", "--since", "2020-01-01"),
        ("export",),
        ("export", "a=b"),
        ("export", "--csv", "here", "--ndjson", "there"),
        ("insights", "fly"),
        ("import",),
        ("import", "--rejected"),
        ("trail",),
        ("trail", "fly"),
        ("trail", "flush"),
        ("validate",),
        ("keys",),
        ("keys", "create"),
        ("keys", "create", "--user", "a", "--root"),
        ("keys", "disable"),
        ("policy", "attach", "p"),
        ("policy", "put"),
        ("users",),
        ("users", "create", "john"),
        ("users", "delete"),
        ("console", "now"),
        ("status", "now"),
        ("verify-store", "here"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)
