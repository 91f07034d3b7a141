"""Reads values of settings.

Each function gets the value from a flag, a variable or a file, and the source that errors name; it
returns the value for `Settings`, or raises `UsageError`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from opentrail.core.errors import UsageError
from opentrail.core.insight_types import PRINCIPAL_TYPES
from opentrail.core.selectors import selection
from opentrail.core.selectors.selection import Selection

#: Networks that the internet does not route (RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291).
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"),
    )
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
#: A bucket of S3, perhaps with a prefix.
_PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w!.*'()/-]*)?")
_SIZE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?([MGT]B)", re.ASCII | re.IGNORECASE)
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_MIN_SIZE_BYTES = 10 * 10**6
_MAX_SIZE_BYTES = 10**15
#: A DNS name that is not an address.
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?!.*\.\d+\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
#: A host in a URL, in lowercase, without brackets.
_HOST = re.compile(r"[a-z0-9.-]+|[0-9a-f:.]+")
#: Issuers on this machine, which need no TLS.
_LOCAL_ISSUERS = ("http://localhost:", "http://127.0.0.1:")


def read_networks(value: Any, source: str) -> tuple[str, ...]:
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts:
        raise UsageError(f"{source} must be networks like 10.0.0.0/8, not {value!r}")
    for text in texts:
        try:
            ipaddress.ip_network(str(text).strip())
        except ValueError as error:
            raise UsageError(
                f"{source} must be networks like 10.0.0.0/8, not {text!r}: {error}"
            ) from error
    return tuple(str(text).strip() for text in texts)


def read_private_networks(value: Any, source: str) -> tuple[str, ...]:
    networks = read_networks(value, source)
    for text in networks:
        network = ipaddress.ip_network(text)
        if not any(
            network.version == block.version and network.subnet_of(block)  # type: ignore[arg-type]
            for block in _PRIVATE
        ):
            raise UsageError(
                f"{source} must be private networks, such as 172.16.0.0/12, not {text!r}"
            )
    return networks


def read_insights_types(value: Any, source: str) -> tuple[str, ...]:
    """Reads names of types, or `all`, with commas between them or in a list."""
    parts = value.split(",") if isinstance(value, str) else value
    names = [str(part).strip() for part in parts] if isinstance(parts, list | tuple) else None
    if names == ["all"]:
        return PRINCIPAL_TYPES
    if names is None or not set(names) <= {*PRINCIPAL_TYPES, ""}:
        expected = f"all, or some of {', '.join(PRINCIPAL_TYPES)}"
        raise UsageError(f"{source} must be {expected}, not {value!r}")
    return tuple(name for name in PRINCIPAL_TYPES if name in names)


def read_database(value: Any, source: str) -> str:
    """Returns `sqlite` or a URL; messages never contain the URL, which may have a password."""
    form = "sqlite or postgresql://USER:PASSWORD@HOST/DATABASE"
    if not isinstance(value, str):
        raise UsageError(f"{source} must be {form}")
    if value == "sqlite":
        return value
    scheme, mark, _ = value.partition("://")
    if scheme != "postgresql" or not mark:
        shown = f", not {scheme}://" if mark and scheme.isascii() and scheme.isalnum() else ""
        raise UsageError(f"{source} must be {form}{shown}")
    try:
        parts = urlsplit(value)
        has_password = parts.password is not None or "password" in parse_qs(parts.query)
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise UsageError(f"{source} must be {form}; its host or port is not valid") from None
    if has_password and source.startswith("--"):
        variable = f"OPENTRAIL_{source[2:].replace('-', '_').upper()}"
        raise UsageError(
            f"{source} must not have a password, which other users of this machine could see; set "
            f"{variable}, or the password alone as PGPASSWORD or in ~/.pgpass"
        )
    return value


def read_record(value: Any, source: str) -> str | Selection:
    """Reads `all`, advanced event selectors, or the name of a JSON file with a list of them."""
    if value == "all":
        return "all"
    if isinstance(value, str):
        try:
            document = json.loads(Path(value).read_bytes())
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
            raise UsageError(
                f"{source} must be all, or a JSON file of advanced event selectors, not {value!r}: "
                f"{problem}"
            ) from error
        value, source = document, f"{source}: {value}"
    recording = selection.read_recording(value, source)
    from opentrail.capture.record.recordable import check_recordable  # loads botocore

    check_recordable(recording, source)
    return recording


def read_place(value: Any, source: str) -> str:
    if not isinstance(value, str) or not _PLACE.fullmatch(value):
        raise UsageError(f"{source} must be s3://BUCKET or s3://BUCKET/PREFIX, not {value!r}")
    return value


def read_size(value: Any, source: str) -> int:
    """Reads a number of bytes with its unit, such as `20GB`; units are powers of 1,000."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not _MIN_SIZE_BYTES <= size < _MAX_SIZE_BYTES:
        raise UsageError(f"{source} must be a size of at least 10MB, such as 20GB, not {value!r}")
    return size


def read_issuer(value: Any, source: str) -> str:
    if not isinstance(value, str) or not value.startswith(("https://", *_LOCAL_ISSUERS)):
        raise UsageError(f"{source} must be an https URL, not {value!r}")
    return value


def read_console_url(value: Any, source: str) -> str:
    """Returns the address of the console in the form of browsers' `Origin`."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or not _is_origin(parts) or not _HOST.fullmatch(host):
        raise UsageError(f"{source} must be https://HOST or https://HOST:PORT, not {value!r}")
    name = f"[{host}]" if ":" in host else host
    return f"https://{name}" if port in (None, 443) else f"https://{name}:{port}"


def _is_origin(parts: SplitResult) -> bool:
    """Returns whether a URL has only a scheme, a host and optionally a port."""
    has_more = parts.username is not None or parts.query or parts.fragment
    return parts.scheme == "https" and parts.path in ("", "/") and not has_more


def read_text(value: Any, source: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{source} must be a non-empty string, not {value!r}")
    return value


def read_secret(value: Any, source: str) -> str:
    if source.startswith("--"):
        name = source.removeprefix("--").replace("-", "_").upper()
        raise UsageError(
            f"{source} would be seen by other users of this machine; set OPENTRAIL_{name}"
        )
    if not isinstance(value, str) or not value:
        raise UsageError(f"{source} must be a non-empty string")
    return value


def _parts_of(value: Any) -> SplitResult | None:
    """Returns the parts of an HTTP URL; None for other values."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except (AttributeError, TypeError, ValueError):
        return None
    is_url = isinstance(value, str) and parts.scheme in ("http", "https") and parts.hostname
    return parts if is_url else None


def read_collector(value: Any, source: str) -> str:
    parts = _parts_of(value)
    if parts is None:
        raise UsageError(f"{source} must be a URL such as http://127.0.0.1:4318")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"{source} must be a URL without user, query and fragment")
    return str(value)


def read_webhook(value: Any, source: str) -> str:
    """Reads a URL; messages never contain it, since a path or query may be a secret."""
    parts = _parts_of(value)
    if parts is None or not value.isprintable():
        raise UsageError(f"{source} must be a URL such as https://alerts.example/opentrail")
    if parts.username or parts.password or parts.fragment or " " in str(value):
        raise UsageError(f"{source} must be a URL without user, spaces and fragment")
    return str(value)


def read_headers(value: Any, source: str) -> dict[str, str]:
    """Reads `NAME=VALUE,NAME=VALUE`, or a table; messages never contain values, maybe secrets."""
    if source.startswith("--"):
        raise UsageError(
            f"{source} would be seen by other users of this machine; set OPENTRAIL_OTLP_HEADERS"
        )
    if isinstance(value, dict):
        pairs = [(str(name), str(text)) for name, text in value.items()]
    else:
        entries = [entry.partition("=") for entry in str(value).split(",")]
        pairs = [(name.strip(), text.strip()) for name, _, text in entries]
    for name, text in pairs:
        if not _HEADER_NAME.fullmatch(name) or not text or not _HEADER_VALUE.fullmatch(text):
            raise UsageError(f"{source} must be headers: NAME=VALUE,NAME=VALUE")
    return dict(pairs)


def read_upstreams(value: Any, source: str) -> dict[str, str]:
    """Reads `URL` and `SERVICE=URL` entries."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise UsageError(f"{source} must be URL or SERVICE=URL, not {value!r}")
    urls = {}
    for entry in entries:
        service, equals, url = str(entry).strip().partition("=")
        if not equals or "://" in service:
            service, url = "", str(entry).strip()
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{source} must be URL or SERVICE=URL, not {entry!r}")
        urls[service] = url
    return urls


def read_domains(value: Any, source: str) -> tuple[str, ...]:
    """Reads a DNS name or a list of them."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise UsageError(f"{source} must be a DNS name like s3.example.org, not {value!r}")
    for name in names:
        if not isinstance(name, str) or not _DOMAIN.fullmatch(name.strip().lower()):
            raise UsageError(f"{source} must be a DNS name like s3.example.org, not {name!r}")
    return tuple(name.strip().lower() for name in names)


def read_file(value: Any, source: str) -> Path:
    try:
        if isinstance(value, str | Path) and Path(value).is_file():
            return Path(value)
    except OSError:  # such as a name that is too long
        pass
    raise UsageError(f"{source} must name a file, not {value!r}")


def read_number(value: Any, source: str, is_whole: bool = False) -> float:
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (OverflowError, TypeError, ValueError):
        number = -1.0
    if not 0 < number < 1e9 or (is_whole and number != int(number)):
        kind = "whole number" if is_whole else "number"
        raise UsageError(
            f"{source} must be a {kind} greater than 0 and less than 10^9, not {value!r}"
        )
    return number
