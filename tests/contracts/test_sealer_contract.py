"""The guarantees of every sealer (ports/sealer.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.core.errors import StorageFailed
from opentrail.ports.signer import Sealer


def sealer(fill: bytes = b"k") -> Sealer:
    return AesGcmSealer(fill * 32)


@pytest.mark.hypothesis
@given(plain=st.binary(max_size=100), context=st.text(max_size=10))
def test_sealed_secrets_open_in_their_context(plain: bytes, context: str) -> None:
    sealed = sealer().seal(plain, context)
    assert sealer().unseal(sealed, context) == plain
    with pytest.raises(StorageFailed):
        sealer().unseal(sealed, context + "x")


def test_sealed_form_is_random_and_hides_the_secret() -> None:
    texts = {sealer().seal(b"very-secret", "x") for _ in range(100)}
    assert len(texts) == 100
    assert not any("very-secret" in text for text in texts)


def test_another_master_key_opens_nothing() -> None:
    sealed = sealer().seal(b"plain", "access key AKIA")
    with pytest.raises(StorageFailed, match="access key AKIA was sealed by master key"):
        sealer(b"l").unseal(sealed, "access key AKIA")


@pytest.mark.hypothesis
@given(data=st.data())
def test_any_change_of_the_sealed_form_is_detected(data: st.DataObject) -> None:
    sealed = sealer().seal(b"plain", "x")
    place = data.draw(st.integers(0, len(sealed) - 1))
    char = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    changed = sealed[:place] + char + sealed[place + 1 :]
    if changed != sealed:
        with pytest.raises(StorageFailed):
            sealer().unseal(changed, "x")
