"""Results for short strings are cached, those for long ones are not."""

from __future__ import annotations

from opentrail.core.text import cached_if_short


def test_function_is_called_once_for_each_short_text() -> None:
    calls: list[str] = []

    @cached_if_short(3)
    def doubled(text: str) -> str:
        """Doubles."""
        calls.append(text)
        return text * 2

    assert [doubled(text) for text in ("abc", "ab", "abc", "abcd", "abcd")] == [
        *("abcabc", "abab", "abcabc", "abcdabcd", "abcdabcd")
    ]
    assert calls == ["abc", "ab", "abcd", "abcd"]
    assert doubled.__doc__ == "Doubles."


def test_cache_has_at_most_its_number_of_entries() -> None:
    calls: list[str] = []

    @cached_if_short(3, entries=2)
    def noted(text: str) -> int:
        calls.append(text)
        return len(calls)

    assert [noted(text) for text in ("a", "b", "c", "c", "a")] == [1, 2, 3, 3, 4]
