"""The names in a certificate."""

from pathlib import Path

import pytest

from opentrail.adapters.certificates import names_in_certificate
from tests.certificates import issue, write


def test_names_are_read(tmp_path: Path) -> None:
    pem = tmp_path / "certificate.pem"
    write(issue("*.s3.example", "127.0.0.1"), pem, tmp_path / "key.pem")
    assert names_in_certificate(pem) == ["*.s3.example"]


@pytest.mark.parametrize("content", ["no certificate", "", None])
def test_unreadable_certificate_has_no_names(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "certificate.pem"
    if content is not None:
        file.write_text(content)
    assert names_in_certificate(file) == []
