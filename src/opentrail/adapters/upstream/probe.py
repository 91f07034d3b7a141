"""Requests by which opentrail finds out what an upstream is."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
from functools import partial
from pathlib import Path

from opentrail.adapters.upstream.emulator_folder import EmulatorFolder, folder_of
from opentrail.adapters.upstream.kinds import (
    AWS,
    AWS_EMULATOR,
    Kind,
    ProbeAnswer,
    is_aws,
    recognize,
)
from opentrail.wire.pinning import opener_with

_MAX_SECONDS = 5.0
_MAX_ANSWER_BYTES = 65_536


class Probe:
    """Asks one upstream.

    Args:
        url: its address.
        ca: PEM file with the authorities of its certificate; None: those of this machine, or of
            the AWS Emulator's folder.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.url = url
        self.folder: EmulatorFolder | None = None if ca else folder_of(url)
        self._ca = ca

    def context(self) -> ssl.SSLContext | None:
        """Returns the context of TLS connections to it; None without TLS."""
        if not self.url.startswith("https:"):
            return None
        return self.folder.context() if self.folder else ssl.create_default_context(cafile=self._ca)

    def get(self, path: str) -> ProbeAnswer:
        """Returns the answer to a GET without credentials."""
        try:
            opener = opener_with(self.context())
            try:
                response = opener.open(self.url.rstrip("/") + path, timeout=_MAX_SECONDS)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return ProbeAnswer(headers, response.read(_MAX_ANSWER_BYTES), response.status)
        except urllib.error.URLError as error:
            return ProbeAnswer(failure=str(getattr(error.reason, "strerror", None) or error.reason))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return ProbeAnswer(failure=str(error) or type(error).__name__)

    def kind(self) -> tuple[Kind | None, ProbeAnswer]:
        """Returns the kind of the upstream, None if it is not known, and its answer to `/`."""
        if is_aws(self.url):
            return AWS, ProbeAnswer()
        first = self.get("/")
        if first.failure is not None:
            return None, first
        if self.folder is not None and self.folder.is_there:
            return AWS_EMULATOR, first
        return recognize(partial(self._get_after, first)), first

    def _get_after(self, first: ProbeAnswer, path: str) -> ProbeAnswer:
        return first if path == "/" else self.get(path)
