"""Says at the start what answers behind each upstream, and what that means for signatures."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from opentrail.adapters.aws.probe import AWS, Probe
from opentrail.core.text import printable
from opentrail.settings import Settings


class UpstreamCheck:
    """Asks every upstream in a thread; `lines` waits for the answers.

    Args:
        settings: name the upstreams, and the authorities of their certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        urls = dict.fromkeys(settings.upstream.values())
        threads = ThreadPoolExecutor(max(1, min(8, len(urls))), "upstream-check")
        self._found: dict[str, Future[str]] = {
            url: threads.submit(self._describe, url) for url in urls
        }
        threads.shutdown(wait=False)

    def lines(self) -> list[str]:
        """Returns a line for each upstream: what it is, and what it does with signatures."""
        lines = []
        for service, url in sorted(self._settings.upstream.items()):
            access = self._settings.access.get(service)
            answer = self._found[url].result()
            if access is not None and access.resign and answer.startswith(f"{AWS.name};"):
                answer = "AWS; calls are signed again for it"
            lines.append(f"{service}={url}  {answer}" if service else f"{url}  {answer}")
        return lines

    def _describe(self, url: str) -> str:
        kind, answer = Probe(url, self._settings.upstream_ca).kind()
        if answer.failure is not None:
            return f"nothing answers yet ({printable(answer.failure)}); until then calls get 502"
        if kind is None:
            server = answer.headers.get("server")
            return f"answers ({printable(server)})" if server else "answers"
        return f"{kind.name}; {kind.signatures}"
