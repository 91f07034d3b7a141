"""Verifier on cryptography; it shares no code with the signer."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

_MIN_BITS = 2048


class RsaVerifier:
    """A `Verifier` that caches parsed keys."""

    def __init__(self) -> None:
        self._keys: dict[bytes, RSAPublicKey] = {}

    def verifies(self, public_der: bytes, signature: bytes, content: bytes) -> bool:
        """Returns whether the key made this signature.

        Raises:
            ValueError: the key is not an RSA key of 2048 bits or more in PKCS#1 DER.
        """
        key = self._keys.get(public_der)
        if key is None:
            key = self._keys[public_der] = _read(public_der)
        try:
            key.verify(signature, content, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def _read(der: bytes) -> RSAPublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a public key in DER form: {error}") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _MIN_BITS:
        raise ValueError(f"not an RSA key of at least {_MIN_BITS} bits")
    return key
