"""The first public name of `BotocoreHook`, kept for those who import it."""

from opentrail.capture.in_process.hooks import BotocoreHook

__all__ = ["BotocoreHook"]
