"""This verifier's own behaviour; tests/contracts has the rest."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opentrail.adapters.keys.rsa_verifier import RsaVerifier


def test_a_key_of_another_kind_is_an_error() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ValueError, match="not an RSA key"):
        RsaVerifier().verifies(der, b"signature", b"content")
