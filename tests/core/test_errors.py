"""Errors: the exit code of a command, and the answer to API clients."""

import pytest

from opentrail.core import errors


@pytest.mark.parametrize(
    ("family", "code"),
    [
        (errors.OpentrailError, 1),
        (errors.UsageError, 2),
        (errors.DataDirectoryInUse, 3),
        (errors.DataTooNew, 4),
        (errors.StorageFailed, 74),
        (errors.RecordRefused, 1),
    ],
)
def test_each_error_family_has_its_documented_exit_code(
    family: type[errors.OpentrailError], code: int
) -> None:
    assert family("why").exit_code == code
    assert str(family("why")) == "why"


def test_every_error_is_of_our_own_family() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) > 5
    assert all(issubclass(found, errors.OpentrailError) for found in classes)


def test_an_api_error_carries_code_message_and_status() -> None:
    error = errors.CloudTrailError("TrailNotFoundException", "Unknown trail: x", 404)
    assert (error.code, error.message, error.status) == (
        "TrailNotFoundException",
        "Unknown trail: x",
        404,
    )
    assert str(error) == "Unknown trail: x"


def test_api_error_is_a_bad_request_by_default() -> None:
    assert errors.CloudTrailError("TrailNotFoundException", "Unknown trail: x").status == 400


def test_error_names_the_unsupported_operation() -> None:
    error = errors.Unsupported("CreateEventDataStore")
    assert error.code == "UnsupportedOperationException"
    assert "CreateEventDataStore" in error.message
    assert error.status == 400


def test_object_store_error_keeps_the_code_of_s3() -> None:
    error = errors.ObjectMissing("NoSuchBucket", "the bucket is gone")
    assert isinstance(error, errors.ObjectStoreError)
    assert error.code == "NoSuchBucket"
    assert str(error) == "NoSuchBucket: the bucket is gone"
