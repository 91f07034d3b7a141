"""The sample queries."""

from __future__ import annotations

import pytest

from opentrail.lake.samples import SAMPLES, Sample, search


def test_samples_have_different_names_and_statements() -> None:
    assert len(SAMPLES) >= 60
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)
    assert len({sample.statement for sample in SAMPLES}) == len(SAMPLES)
    assert all(sample.statement.startswith(("SELECT ", "WITH ")) for sample in SAMPLES)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_description_finds_its_sample_first(sample: Sample) -> None:
    found = search(sample.description)
    assert found[0][1] <= 1
    best = [each.name for each, relevance in found if relevance == found[0][1]]
    assert sample.name in best


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("Who deleted S3 objects?", "deleted-objects"),
        ("show me new IAM users", "created-users"),
        ("which KMS keys are scheduled for deletion", "kms-keys"),
        ("DeactivateMFADevice", "mfa-removed"),
    ],
)
def test_questions_find_samples(phrase: str, name: str) -> None:
    assert name in [sample.name for sample, _ in search(phrase)[:3]]


@pytest.mark.parametrize("phrase", ["", "the", "xyzzy", "?!"])
def test_unknown_words_find_nothing(phrase: str) -> None:
    assert search(phrase) == []
