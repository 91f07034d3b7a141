"""The first public name of `BotocoreHook`, for compatibility."""

from opentrail.capture.in_process.hooks import BotocoreHook

__all__ = ["BotocoreHook"]
