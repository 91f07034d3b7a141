"""JSON (and CBOR) values by shape; one decoder per shape, compiled once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from botocore.model import Shape

from opentrail.wire.protocols.values import ByShape, Decoder, from_json


class JsonDecoders(ByShape):
    """Decoders of one service's shapes."""

    def decoder(self, shape: Shape) -> Decoder:
        make = {"structure": self._structure, "list": self._list, "map": self._map}.get(
            shape.type_name
        )
        if make is None or getattr(shape, "is_document_type", False):
            return from_json(shape)
        return self.memoize(shape.name, lambda: make(shape))

    def _structure(self, shape: Any) -> Decoder:
        members: dict[str, tuple[str, Decoder]] = {}
        for name, member in shape.members.items():
            wire_name = member.serialization.get("name", name)
            members[wire_name] = (name, self.decoder(member))

        def decode(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            decoded = {}
            for wire_name, item in value.items():
                if item is None:
                    continue
                member_decoder = members.get(wire_name)
                if member_decoder is None:
                    decoded[wire_name] = item
                else:
                    decoded[member_decoder[0]] = member_decoder[1](item)
            return decoded

        return decode

    def _list(self, shape: Any) -> Decoder:
        item = self.decoder(shape.member)

        def decode(value: Any) -> Any:
            return [item(v) for v in value] if isinstance(value, list) else value

        return decode

    def _map(self, shape: Any) -> Decoder:
        item = self.decoder(shape.value)

        def decode(value: Any) -> Any:
            return {k: item(v) for k, v in value.items()} if isinstance(value, dict) else value

        return decode


@lru_cache(maxsize=1024)
def json_decoders(service: str) -> JsonDecoders:
    """Returns the decoders of a service, shared by all requests."""
    del service
    return JsonDecoders()
