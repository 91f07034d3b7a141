"""Certificates of the endpoint."""

from __future__ import annotations

from pathlib import Path

from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificate,
)


def names_in_certificate(file: Path) -> list[str]:
    """Returns the DNS names of the first certificate in a PEM file; wildcards start with `*.`.

    Without a readable certificate or names: an empty list.
    """
    try:
        certificate = load_pem_x509_certificate(file.read_bytes())
        extension = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except (OSError, ValueError, ExtensionNotFound):
        return []
    return extension.value.get_values_for_type(DNSName)
