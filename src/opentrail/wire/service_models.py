"""botocore's service models: an index of all; each model is loaded when first needed."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import botocore
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from opentrail.core.event import Json

#: Maximum operations with cached compiled models; callers may invent operation names.
OPERATIONS = 4_096
_HEAD_BYTES = 8_192


@dataclass(frozen=True, eq=False)
class Service:
    """A service with the metadata of its model; `model` loads the model itself.

    A catalog has one of each, which is equal to itself alone: services are keys of several caches.
    """

    name: str
    api_version: str
    endpoint_prefix: str
    signing_name: str
    protocols: tuple[str, ...]
    target_prefix: str | None
    #: Its name in variables and settings of SDKs: `CloudWatch Logs`.
    service_id: str
    #: Whether calls carry `Authorization: Bearer` instead of a signature.
    bearer: bool = False

    @cached_property
    def model(self) -> ServiceModel:
        """The whole model, loaded from botocore's data on first use."""
        description = _loader().load_service_model(self.name, "service-2", self.api_version_folder)
        return ServiceModel(description, service_name=self.name)

    @cached_property
    def _operations(self) -> dict[str, OperationModel]:
        return {}

    @property
    def api_version_folder(self) -> str:
        """The name of the model's folder (it may differ from the API's version)."""
        return _folders(self.name)[-1]

    def operation(self, name: str) -> OperationModel | None:
        """Returns the operation, or None if the model does not have it."""
        operation = self._operations.get(name)
        if operation is None and name in self.model.operation_names:
            operation = self._operations[name] = self.model.operation_model(name)
        return operation

    def error_shape(self, code: str) -> Shape | None:
        """Returns the exception shape behind an error code on the wire."""
        return self.model.shape_for_error_code(code)


class ServiceCatalog:
    """Every service of botocore, by the names that requests contain."""

    def __init__(self) -> None:
        self.services = {service.name: service for service in _read_index()}
        self._by_signing_name = self._group(lambda s: [s.signing_name])
        self._by_target = self._group(lambda s: [s.target_prefix] if s.target_prefix else [])
        self._by_version = self._group(
            lambda s: [s.api_version] if {"query", "ec2"} & set(s.protocols) else []
        )
        self.bearer_services = [s for s in self.services.values() if s.bearer]
        # Old SDKs still send SQS's query protocol, which the model no longer lists.
        self._by_version["2012-11-05"].append(self.services["sqs"])

    def _group(self, marks: Any) -> defaultdict[str, list[Service]]:
        grouped: defaultdict[str, list[Service]] = defaultdict(list)
        for service in self.services.values():
            for mark in marks(service):
                grouped[mark].append(service)
        return grouped

    @property
    def names(self) -> frozenset[str]:
        """Names and signing names of all services."""
        return frozenset(self.services) | frozenset(self._by_signing_name)

    def signed_as(self, signing_name: str) -> list[Service]:
        """Returns the services that share a signing name."""
        return self._by_signing_name.get(signing_name, [])

    def targeted(self, target_prefix: str) -> list[Service]:
        """Returns the services whose `X-Amz-Target` starts with this prefix."""
        return self._by_target.get(target_prefix, [])

    def of_version(self, api_version: str) -> list[Service]:
        """Returns the query services with this `Version`."""
        return self._by_version.get(api_version, [])

    def query_services(self, signing_name: str) -> list[Service]:
        """Returns the services of a signing name that speak a query protocol."""
        return [
            service
            for service in self.signed_as(signing_name)
            if service.name == "sqs" or {"query", "ec2"} & set(service.protocols)
        ]


@cache
def _loader() -> Loader:
    """Returns the loader of all models; a new one would list all services' folders, 10 ms each."""
    return Loader()


def _folders(service: str) -> list[str]:
    root = Path(botocore.__file__).parent / "data" / service
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir())


def _read_index() -> list[Service]:
    """Reads the metadata at the head of each newest model: 30 ms for all, against 3 s whole."""
    decoder = json.JSONDecoder()
    services = []
    for folder in sorted((Path(botocore.__file__).parent / "data").iterdir()):
        versions = sorted(folder.glob("*/service-2.json.gz")) if folder.is_dir() else []
        if versions:
            metadata = _read_metadata(decoder, versions[-1])
            services.append(_service(folder.name, metadata))
    return services


def _read_metadata(decoder: json.JSONDecoder, file: Path) -> Json:
    raw = file.read_bytes()
    text = zlib.decompressobj(31).decompress(raw, _HEAD_BYTES).decode(errors="ignore")
    start = text.find('"metadata"')
    try:
        value: Json = decoder.raw_decode(text, text.index("{", start))[0]
    except ValueError:
        value = json.loads(zlib.decompress(raw, 31))["metadata"]
    return value


def _service(name: str, metadata: Json) -> Service:
    endpoint_prefix = metadata["endpointPrefix"]
    return Service(
        name=name,
        api_version=metadata["apiVersion"],
        endpoint_prefix=endpoint_prefix,
        signing_name=metadata.get("signingName") or endpoint_prefix,
        protocols=tuple(metadata.get("protocols") or [metadata["protocol"]]),
        target_prefix=metadata.get("targetPrefix"),
        service_id=metadata.get("serviceId") or name,
        bearer=metadata.get("signatureVersion") == "bearer"
        or "smithy.api#httpBearerAuth" in metadata.get("auth", ()),
    )
