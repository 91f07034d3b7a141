"""The macros and functions of DuckDB to which statements are translated, by the prefix `lake_`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from opentrail.lake.dialect import (
    json_functions,
    number_functions,
    text_functions,
    time_functions,
)
from opentrail.lake.dialect.python_functions import FUNCTIONS
from opentrail.lake.dialect.text_functions import BLANK, FOLDED

#: Modules whose import registers functions.
FUNCTION_MODULES = (json_functions, number_functions, text_functions, time_functions)
_MACROS = r"""
lake_ok(bad, message) = CASE WHEN bad THEN lake_fail(message) ELSE true END
lake_tried() = CASE WHEN lake_refuse_unsupported() THEN NULL END
lake_no_nan(x) = CASE WHEN lake_ok(isnan(x), 'NaN is not supported here') THEN x END
lake_defined(x) = CASE WHEN NOT isnan(x) THEN x END
lake_values(l) = list_transform(l, lambda e_: e_.f)
lake_upper(s) = CASE WHEN contains(s, 'ß') THEN array_to_string(list_transform(string_split(s, 'ß'), lambda e_: upper(e_)), 'ß') ELSE upper(s) END
lake_searched(s, has_words, has_cases, has_end) = CASE WHEN lake_ok(has_words AND strlen(s) <> length(s), 'letters beyond ASCII are not supported with \\b') AND lake_ok(has_cases AND strlen(s) <> length(s) AND regexp_matches(s, lake_folded()), 'letters such as ß are not supported with (?i)') AND lake_ok(has_end AND ends_with(s, chr(10)), 'a line break at the end is not supported with $') THEN s END
lake_count(n) = CASE WHEN lake_ok(n > 10000, 'the second argument must be less than or equal to 10000') THEN n END
lake_offset(n, least) = CASE WHEN lake_ok(n IS NULL OR n < least, 'Offset must be at least ' || least) THEN n END
lake_levenshtein(a, b) = CASE WHEN lake_ok(strlen(a) <> length(a) OR strlen(b) <> length(b), 'levenshtein_distance of letters beyond ASCII is not supported') THEN levenshtein(a, b) END
lake_uuid(s) = CASE WHEN lake_ok(NOT regexp_full_match(s, '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}'), 'Cannot cast value to UUID: ' || s) THEN CAST(s AS UUID) END
lake_divide(a, b) = CASE WHEN lake_ok(b = 0, 'Division by zero') THEN a // b END
lake_modulo(a, b) = CASE WHEN lake_ok(b = 0, 'Division by zero') THEN a % b END
lake_compare(a, b, plain, differs) = CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN isnan(a) OR isnan(b) THEN differs ELSE plain END
lake_item(l, i) = CASE WHEN l IS NULL OR i IS NULL THEN NULL WHEN lake_ok(i = 0, 'SQL array indices start at 1') AND lake_ok(i < 0, 'Array subscript is negative: ' || i) AND lake_ok(i > len(l), 'Array subscript must be less than or equal to array length: ' || i || ' > ' || len(l)) THEN l[i] END
lake_element(l, i) = CASE WHEN lake_ok(i = 0, 'SQL array indices start at 1') THEN l[i] END
lake_entry(m, k, shown) = CASE WHEN m IS NULL OR k IS NULL THEN NULL WHEN lake_ok(NOT map_contains(m, k), 'Key not present in map: ' || shown) THEN m[k] END
lake_map_of(l) = CASE WHEN lake_ok(len(list_distinct(list_transform(l, lambda e_: e_.f0))) <> len(l), 'Duplicate map keys are not allowed') THEN map_from_entries(l) END
lake_map(k, v) = CASE WHEN lake_ok(len(list_filter(k, lambda e_: e_ IS NULL)) > 0, 'map key cannot be null') AND lake_ok(len(list_distinct(k)) <> len(k), 'Duplicate map keys are not allowed') AND lake_ok(len(k) <> len(v), 'Key and value arrays must be the same length') THEN map(k, v) END
lake_map_concat(a, b) = map_concat(a, b)
lake_distinct(l) = list_filter(l, lambda e_, i_: coalesce(list_position(l, e_), CASE WHEN e_ IS NULL THEN list_position(list_transform(l, lambda n_: n_ IS NULL), true) END) = i_)
lake_map_first(l) = CASE WHEN len(list_filter(l, lambda e_: e_.k IS NOT NULL)) > 0 THEN map_from_entries(list_transform(lake_distinct(list_transform(list_filter(l, lambda e_: e_.k IS NOT NULL), lambda e_: e_.k)), lambda k_: {'k': k_, 'v': list_filter(l, lambda e_: e_.k = k_)[1].v})) END
lake_multimap(l) = CASE WHEN len(list_filter(l, lambda e_: e_.k IS NOT NULL)) > 0 THEN map_from_entries(list_transform(lake_distinct(list_transform(list_filter(l, lambda e_: e_.k IS NOT NULL), lambda e_: e_.k)), lambda k_: {'k': k_, 'v': list_transform(list_filter(l, lambda e_: e_.k = k_), lambda e_: e_.v)})) END
lake_array_histogram(l) = CASE WHEN l IS NOT NULL THEN map_from_entries(list_transform(list_distinct(l), lambda k_: {'k': k_, 'v': len(list_filter(l, lambda e_: e_ = k_))})) END
lake_histogram(l) = CASE WHEN len(list_filter(l, lambda e_: e_ IS NOT NULL)) > 0 THEN lake_array_histogram(l) END
lake_trim_array(l, n) = CASE WHEN lake_ok(n < 0, 'size must not be negative') AND lake_ok(n > len(l), 'size must not exceed array cardinality') THEN l[:len(l) - n] END
lake_repeat(x, n) = CASE WHEN lake_ok(n < 0, 'count argument of repeat function must be greater than or equal to 0') AND lake_ok(n > 10000, 'count argument of repeat function must be less than or equal to 10000') THEN list_transform(range(n), lambda e_: x) END
lake_has_null(l) = len(list_filter(l, lambda e_: e_ IS NULL)) > 0
lake_contains(l, x) = CASE WHEN l IS NULL OR x IS NULL THEN NULL WHEN list_contains(l, x) THEN true WHEN lake_has_null(l) THEN NULL ELSE false END
lake_position(l, x) = coalesce(list_position(l, x), CASE WHEN l IS NOT NULL AND x IS NOT NULL THEN 0 END)
lake_in(l, x) = CASE WHEN x IS NULL THEN lake_has_null(l) ELSE list_contains(l, x) END
lake_intersect(a, b) = CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN lake_distinct(list_filter(a, lambda x_: lake_in(b, x_))) END
lake_except(a, b) = CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN lake_distinct(list_filter(a, lambda x_: NOT lake_in(b, x_))) END
lake_overlap(a, b) = CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN len(list_filter(a, lambda x_: x_ IS NOT NULL AND list_contains(b, x_))) > 0 THEN true WHEN (lake_has_null(a) AND len(b) > 0) OR (lake_has_null(b) AND len(a) > 0) THEN NULL ELSE false END
lake_remove(l, x) = CASE WHEN l IS NULL OR x IS NULL THEN NULL WHEN lake_ok(lake_has_null(l), 'array_remove of an array with NULL is not supported') THEN list_filter(l, lambda e_: e_ <> x) END
lake_array_max(l) = CASE WHEN NOT lake_has_null(l) THEN list_max(l) END
lake_array_min(l) = CASE WHEN NOT lake_has_null(l) THEN list_min(l) END
lake_array_join(l, s, n) = CASE WHEN l IS NULL OR s IS NULL THEN NULL ELSE coalesce(array_to_string(list_filter(list_transform(l, lambda e_: coalesce(e_, n)), lambda e_: e_ IS NOT NULL), s), '') END
lake_slice(l, s, n) = CASE WHEN lake_ok(s = 0, 'SQL array indices start at 1') AND lake_ok(n < 0, 'length must be greater than or equal to 0') THEN CASE WHEN abs(s) > len(l) OR n = 0 THEN l[1:0] WHEN s > 0 THEN l[s:s + n - 1] ELSE l[len(l) + s + 1:len(l) + s + n] END END
lake_concat(a, b) = CASE WHEN a IS NOT NULL AND b IS NOT NULL THEN list_concat(a, b) END
lake_sequence(a, b, s) = CASE WHEN lake_ok(s = 0 OR (s > 0 AND a > b) OR (s < 0 AND a < b), 'sequence stop value should be greater than or equal to start value if step is greater than zero otherwise stop should be less than or equal to start') AND lake_ok(abs((b - a) // s) >= 10000, 'result of sequence function must not have more than 10000 entries') THEN generate_series(a, b, s) END
lake_days(s) = CASE WHEN lake_ok(s % 86400000 <> 0, 'sequence step must be a day interval if start and end values are dates') THEN s // 86400000 END
lake_dates(a, b, s) = list_transform(lake_sequence(0, datediff('day', a, b)::BIGINT, lake_days(s)), lambda n_: (a + n_::INTEGER)::DATE)
lake_times(a, b, s) = list_transform(lake_sequence(epoch_ms(a), epoch_ms(b), s), lambda n_: epoch_ms(n_)::TIMESTAMP)
lake_ngrams(l, n) = CASE WHEN NOT lake_ok(n <= 0, 'N must be positive') THEN NULL WHEN len(l) <= n THEN [l] ELSE list_transform(range(1, len(l) - n + 2), lambda i_: l[i_:i_ + n - 1]) END
lake_any(l) = CASE WHEN l IS NULL THEN NULL WHEN list_contains(l, true) THEN true WHEN lake_has_null(l) THEN NULL ELSE false END
lake_all(l) = CASE WHEN l IS NULL THEN NULL WHEN list_contains(l, false) THEN false WHEN lake_has_null(l) THEN NULL ELSE true END
lake_no_nulls_array(a, b) = CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE lake_ok(lake_has_null(a) OR lake_has_null(b), 'comparing arrays with NULL is not supported') END
lake_no_nulls_map(a, b) = CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE lake_ok(lake_has_null(map_values(a)) OR lake_has_null(map_values(b)), 'comparing maps with NULL is not supported') END
lake_substr(s, i, n) = CASE WHEN s IS NULL OR i IS NULL THEN NULL WHEN i = 0 OR abs(i) > length(s) OR n <= 0 THEN '' WHEN i > 0 THEN CASE WHEN n IS NULL THEN s[i:] ELSE s[i:i + n - 1] END ELSE CASE WHEN n IS NULL THEN s[length(s) + i + 1:] ELSE s[length(s) + i + 1:length(s) + i + n] END END
lake_replace(s, a, b) = CASE WHEN a = '' THEN lake_between(s, b) ELSE replace(s, a, b) END
lake_split_part(s, d, i) = CASE WHEN lake_ok(i <= 0, 'Index must be greater than zero') AND lake_ok(d = '', 'The delimiter may not be the empty string') THEN string_split(s, d)[i] END
lake_split(s, d, n) = CASE WHEN lake_ok(d = '', 'The delimiter may not be the empty string') AND lake_ok(n <= 0, 'The limit must be positive') THEN CASE WHEN n IS NULL THEN string_split(s, d) ELSE lake_split_some(s, d, n) END END
lake_strpos(s, a, n) = lake_nth_position(s, a, n)
lake_regexp_extract(s, p, g) = CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p, g) END
lake_divide_doubles(a, b) = CASE WHEN b <> 0 OR isnan(b) THEN a / b WHEN a = 0 OR isnan(a) THEN 'nan'::DOUBLE WHEN (a < 0) <> starts_with(b::VARCHAR, '-') THEN '-inf'::DOUBLE WHEN a IS NOT NULL AND b IS NOT NULL THEN 'inf'::DOUBLE END
lake_modulo_doubles(a, b) = CASE WHEN b = 0 OR isinf(a) THEN 'nan'::DOUBLE WHEN isinf(b) THEN a ELSE a % b END
lake_same_map(a, b) = CASE WHEN lake_no_nulls_map(a, b) THEN cardinality(a) = cardinality(b) AND len(list_filter(map_keys(a), lambda k_: b[k_] IS NULL OR b[k_] <> a[k_])) = 0 END
lake_mean(l, s) = CASE WHEN len(list_filter(l, lambda e_: e_ IS NOT NULL)) > 0 THEN lake_decimals(list_sum(l)::VARCHAR, len(list_filter(l, lambda e_: e_ IS NOT NULL))::VARCHAR, '/', 38, s) END
lake_sqrt(x) = CASE WHEN x < 0 THEN 'nan'::DOUBLE ELSE sqrt(x) END
lake_ln(x) = CASE WHEN x < 0 THEN 'nan'::DOUBLE WHEN x = 0 THEN '-inf'::DOUBLE ELSE ln(x) END
lake_log10(x) = CASE WHEN x < 0 THEN 'nan'::DOUBLE WHEN x = 0 THEN '-inf'::DOUBLE ELSE log10(x) END
lake_round(x, n) = CASE WHEN isfinite(x) THEN round(x, n::INTEGER) ELSE x END
lake_date_plus(d, ms) = CASE WHEN lake_ok(ms % 86400000 <> 0, 'Cannot add hour, minutes or seconds to a date') THEN d + (ms // 86400000)::INTEGER END
lake_add_months(t, n) = t + to_months(n::INTEGER)
lake_round_time(t, us) = make_timestamp(((epoch_us(t) + us // 2) // us) * us)
lake_time_text(t, p) = strftime(t, '%Y-%m-%d %H:%M:%S') || CASE WHEN p = 0 THEN '' ELSE '.' || strftime(t, '%f')[:p] END
lake_ranked(l, p) = CASE WHEN lake_ok(NOT p BETWEEN 0 AND 1, 'Percentile must be between 0 and 1') THEN l[least(len(l), floor(p * len(l))::BIGINT + 1)] END
lake_percentile(l, p) = lake_ranked(list_sort(list_filter(l, lambda e_: e_ IS NOT NULL)), p)
lake_percentiles(l, ps) = CASE WHEN len(l) > 0 THEN list_transform(ps, lambda p_: lake_percentile(l, p_)) END
lake_member(r, p) = TRY(r ->> p)
lake_part(r, p) = TRY(CASE WHEN json_type(r, p) <> 'NULL' THEN json_extract(r, p)::VARCHAR END)
lake_string_map(j) = CASE WHEN json_type(j) = 'OBJECT' THEN map(json_keys(j), json_extract_string(j, '$.*')) END
lake_objects(j) = CASE WHEN json_type(j) = 'ARRAY' THEN CAST(json_extract(j, '$[*]') AS VARCHAR[]) END
lake_moment(t) = TRY_CAST(replace(t, 'Z', '') AS TIMESTAMP)
lake_json_field(j, names, n, keeps) = lake_json_fields(j, names, keeps)[n + 1]
"""


#: A name of a macro or a function.
_NAME = re.compile(r"\blake_\w+")
_PYTHON = {f"lake_{name}": function for name, function in FUNCTIONS.items()}


class EngineConnection(Protocol):
    """The methods of a DuckDB connection that this package uses."""

    def execute(self, statement: str, /) -> Any:
        """Run a statement."""

    @property
    def create_function(self) -> Any:
        """Defines a function."""


def prepare(connection: EngineConnection, statement: str | None = None) -> None:
    """Defines what a translated statement calls; without one, everything.

    An error in a branch that is not taken, or inside TRY, must not end the query: constants are not
    computed in advance, and equal expressions not once for all.
    """
    connection.execute("SET disabled_optimizers = 'expression_rewriter,common_subexpressions'")
    macros = _macros()
    names = {*macros, *_PYTHON} if statement is None else _called(statement, macros)
    for name in names & _PYTHON.keys():
        call, parameters, result = _PYTHON[name]
        # DuckDB's own handling of NULL refuses functions that return it.
        connection.create_function(name, call, parameters, result, null_handling="special")
    for name, macro in macros.items():
        if name in names:
            connection.execute(f"CREATE MACRO {macro}")


def _macros() -> dict[str, str]:
    """Returns the definitions of the macros by name, each after those that it calls."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    lines = [
        f"lake_blank() = '{BLANK}'",
        f"lake_folded() = '{FOLDED}'",
        f"lake_now() = CAST('{now}' AS TIMESTAMP)",
        *_MACROS.strip().splitlines(),
    ]
    return {line.partition("(")[0]: line.replace(" = ", " AS ", 1) for line in lines}


def _called(statement: str, macros: Mapping[str, str]) -> set[str]:
    names, texts = set[str](), [statement]
    while texts:
        for name in _NAME.findall(texts.pop()):
            if name not in names:
                names.add(name)
                texts.append(macros.get(name, ""))
    return names
