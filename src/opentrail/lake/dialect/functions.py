"""The functions that statements may call: parameters, result, and DuckDB's expression for them.

Each line reads `name(parameters) -> result = expression`. `{0}` is the first argument, `{*}` all of
them; `T...` takes one or more; `fn(T, U)` is a lambda from T to U. One capital letter is a type
variable: `O` must be orderable. Functions and macros that begin with `lake_` are defined in
`engine.py`. A call that matches no line is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from opentrail.lake.dialect.types import Type, parse_type

SCALARS = r"""
upper(varchar) -> varchar = upper({0})
lower(varchar) -> varchar = lower({0})
length(varchar) -> bigint = length({0})
length(varbinary) -> bigint = octet_length({0})
concat(varchar, varchar...) -> varchar = ({|})
concat(array(T), array(T)...) -> array(T) = ({|})
concat_ws(varchar, varchar...) -> varchar = concat_ws({*})
trim(varchar) -> varchar = trim({0}, lake_blank())
ltrim(varchar) -> varchar = ltrim({0}, lake_blank())
rtrim(varchar) -> varchar = rtrim({0}, lake_blank())
lpad(varchar, bigint, varchar) -> varchar = lake_lpad({0}, {1}, {2})
rpad(varchar, bigint, varchar) -> varchar = lake_rpad({0}, {1}, {2})
substr(varchar, bigint) -> varchar = lake_substr({0}, {1}, NULL)
substr(varchar, bigint, bigint) -> varchar = lake_substr({0}, {1}, {2})
substring(varchar, bigint) -> varchar = lake_substr({0}, {1}, NULL)
substring(varchar, bigint, bigint) -> varchar = lake_substr({0}, {1}, {2})
replace(varchar, varchar) -> varchar = lake_replace({0}, {1}, '')
replace(varchar, varchar, varchar) -> varchar = lake_replace({0}, {1}, {2})
reverse(varchar) -> varchar = lake_reverse({0})
reverse(array(T)) -> array(T) = list_reverse({0})
strpos(varchar, varchar) -> bigint = strpos({0}, {1})
strpos(varchar, varchar, bigint) -> bigint = lake_strpos({0}, {1}, {2})
position(varchar, varchar) -> bigint = strpos({1}, {0})
starts_with(varchar, varchar) -> boolean = starts_with({0}, {1})
chr(bigint) -> varchar = lake_chr({0})
codepoint(varchar) -> integer = lake_codepoint({0})
split(varchar, varchar) -> array(varchar) = lake_split({0}, {1}, NULL)
split(varchar, varchar, bigint) -> array(varchar) = lake_split({0}, {1}, {2})
split_part(varchar, varchar, bigint) -> varchar = lake_split_part({0}, {1}, {2})
split_to_map(varchar, varchar, varchar) -> map(varchar, varchar) = lake_split_to_map({0}, {1}, {2})
split_to_multimap(varchar, varchar, varchar) -> map(varchar, array(varchar)) = lake_split_to_multimap({0}, {1}, {2})
soundex(varchar) -> varchar = lake_soundex({0})
levenshtein_distance(varchar, varchar) -> bigint = levenshtein({0}, {1})
hamming_distance(varchar, varchar) -> bigint = lake_hamming({0}, {1})
translate(varchar, varchar, varchar) -> varchar = lake_translate({0}, {1}, {2})
normalize(varchar) -> varchar = nfc_normalize({0})
format_number(bigint) -> varchar = lake_format_number({0})
format_number(double) -> varchar = lake_format_number({0})
to_utf8(varchar) -> varbinary = encode({0})
from_utf8(varbinary) -> varchar = lake_from_utf8({0})
to_hex(varbinary) -> varchar = hex({0})
from_hex(varchar) -> varbinary = lake_from_hex({0})
to_base64(varbinary) -> varchar = to_base64({0})
from_base64(varchar) -> varbinary = lake_from_base64({0})
to_base64url(varbinary) -> varchar = lake_to_base64url({0})
from_base64url(varchar) -> varbinary = lake_from_base64url({0})
md5(varbinary) -> varbinary = unhex(md5({0}))
sha1(varbinary) -> varbinary = unhex(sha1({0}))
sha256(varbinary) -> varbinary = unhex(sha256({0}))
sha512(varbinary) -> varbinary = lake_sha512({0})
crc32(varbinary) -> bigint = lake_crc32({0})
regexp_like(varchar, varchar) -> boolean = regexp_matches({0}, {1})
regexp_replace(varchar, varchar) -> varchar = regexp_replace({0}, {1}, '', 'g')
regexp_replace(varchar, varchar, varchar) -> varchar = regexp_replace({0}, {1}, {2}, 'g')
regexp_extract(varchar, varchar) -> varchar = lake_regexp_extract({0}, {1}, 0)
regexp_extract(varchar, varchar, integer) -> varchar = lake_regexp_extract({0}, {1}, {2})
regexp_extract_all(varchar, varchar) -> array(varchar) = regexp_extract_all({0}, {1})
regexp_extract_all(varchar, varchar, integer) -> array(varchar) = regexp_extract_all({0}, {1}, {2})
regexp_split(varchar, varchar) -> array(varchar) = regexp_split_to_array({0}, {1})
regexp_count(varchar, varchar) -> bigint = len(regexp_extract_all({0}, {1}))
url_extract_host(varchar) -> varchar = lake_url({0}, 'host')
url_extract_path(varchar) -> varchar = lake_url({0}, 'path')
url_extract_query(varchar) -> varchar = lake_url({0}, 'query')
url_extract_fragment(varchar) -> varchar = lake_url({0}, 'fragment')
url_extract_protocol(varchar) -> varchar = lake_url({0}, 'protocol')
url_extract_port(varchar) -> bigint = CAST(lake_url({0}, 'port') AS BIGINT)
url_extract_parameter(varchar, varchar) -> varchar = lake_url_parameter({0}, {1})
url_encode(varchar) -> varchar = lake_url_encode({0})
url_decode(varchar) -> varchar = lake_url_decode({0})
contains(varchar, ipaddress) -> boolean = lake_in_network({0}, {1})
json_parse(varchar) -> json = lake_json_parse({0})
json_format(json) -> varchar = {0}
json_extract(varchar, varchar) -> json = lake_json_extract({0}, {1})
json_extract(json, varchar) -> json = lake_json_extract({0}, {1})
json_extract_scalar(varchar, varchar) -> varchar = lake_json_scalar({0}, {1})
json_extract_scalar(json, varchar) -> varchar = lake_json_scalar({0}, {1})
json_array_length(varchar) -> bigint = lake_json_array_length({0})
json_array_length(json) -> bigint = lake_json_array_length({0})
json_array_contains(varchar, varchar) -> boolean = lake_json_array_contains({0}, 's' || {1})
json_array_contains(json, varchar) -> boolean = lake_json_array_contains({0}, 's' || {1})
json_array_contains(varchar, bigint) -> boolean = lake_json_array_contains({0}, 'n' || {1})
json_array_contains(json, bigint) -> boolean = lake_json_array_contains({0}, 'n' || {1})
json_array_contains(varchar, double) -> boolean = lake_json_array_contains({0}, 'n' || {1})
json_array_contains(json, double) -> boolean = lake_json_array_contains({0}, 'n' || {1})
json_array_contains(varchar, boolean) -> boolean = lake_json_array_contains({0}, 'b' || {1})
json_array_contains(json, boolean) -> boolean = lake_json_array_contains({0}, 'b' || {1})
json_array_get(varchar, bigint) -> json = lake_json_array_get({0}, {1})
json_array_get(json, bigint) -> json = lake_json_array_get({0}, {1})
json_size(varchar, varchar) -> bigint = lake_json_size({0}, {1})
json_size(json, varchar) -> bigint = lake_json_size({0}, {1})
is_json_scalar(varchar) -> boolean = lake_is_json_scalar({0})
is_json_scalar(json) -> boolean = lake_is_json_scalar({0})
cardinality(array(T)) -> bigint = len({0})
cardinality(map(K, V)) -> bigint = cardinality({0})
contains(array(T), T) -> boolean = lake_contains({0}, {1})
array_position(array(T), T) -> bigint = lake_position({0}, {1})
array_distinct(array(T)) -> array(T) = lake_distinct({0})
array_union(array(T), array(T)) -> array(T) = lake_distinct({0} || {1})
array_intersect(array(T), array(T)) -> array(T) = lake_intersect({0}, {1})
array_except(array(T), array(T)) -> array(T) = lake_except({0}, {1})
arrays_overlap(array(T), array(T)) -> boolean = lake_overlap({0}, {1})
array_remove(array(T), T) -> array(T) = lake_remove({0}, {1})
array_max(array(O)) -> O = lake_array_max({0})
array_min(array(O)) -> O = lake_array_min({0})
array_sort(array(O)) -> array(O) = list_sort({0}, 'ASC', 'NULLS LAST')
array_join(array(varchar), varchar) -> varchar = lake_array_join({0}, {1}, NULL)
array_join(array(varchar), varchar, varchar) -> varchar = lake_array_join({0}, {1}, {2})
array_join(array(bigint), varchar) -> varchar = lake_array_join(CAST({0} AS VARCHAR[]), {1}, NULL)
array_join(array(bigint), varchar, varchar) -> varchar = lake_array_join(CAST({0} AS VARCHAR[]), {1}, {2})
array_histogram(array(T)) -> map(T, bigint) = lake_array_histogram({0})
slice(array(T), bigint, bigint) -> array(T) = lake_slice({0}, {1}, {2})
trim_array(array(T), bigint) -> array(T) = {0}[:len({0}) - {1}]
flatten(array(array(T))) -> array(T) = flatten(list_filter({0}, lambda e_: e_ IS NOT NULL))
repeat(T, bigint) -> array(T) = list_transform(range({1}), lambda e_: {0})
sequence(bigint, bigint) -> array(bigint) = lake_sequence({0}, {1}, CASE WHEN {0} <= {1} THEN 1 ELSE -1 END)
sequence(bigint, bigint, bigint) -> array(bigint) = lake_sequence({0}, {1}, {2})
sequence(date, date) -> array(date) = lake_dates({0}, {1}, 86400000)
sequence(date, date, interval day to second) -> array(date) = lake_dates({0}, {1}, {2})
sequence(timestamp(3), timestamp(3), interval day to second) -> array(timestamp(3)) = lake_times({0}, {1}, {2})
ngrams(array(T), bigint) -> array(array(T)) = lake_ngrams({0}, {1})
transform(array(T), fn(T, U)) -> array(U) = list_transform({0}, {1})
filter(array(T), fn(T, boolean)) -> array(T) = list_filter({0}, {1})
any_match(array(T), fn(T, boolean)) -> boolean = lake_any(list_transform({0}, {1}))
all_match(array(T), fn(T, boolean)) -> boolean = lake_all(list_transform({0}, {1}))
none_match(array(T), fn(T, boolean)) -> boolean = NOT lake_any(list_transform({0}, {1}))
map_keys(map(K, V)) -> array(K) = map_keys({0})
map_values(map(K, V)) -> array(V) = map_values({0})
map_from_entries(array(row(K, V))) -> map(K, V) = lake_map_of({0})
split_to_map(varchar, varchar, varchar) -> map(varchar, varchar) = lake_split_to_map({0}, {1}, {2})
map_concat(map(K, V), map(K, V)) -> map(K, V) = lake_map_concat({0}, {1})
abs(N) -> N = abs({0})
sign(N) -> N = sign({0})
sqrt(double) -> double = lake_sqrt({0})
cbrt(double) -> double = cbrt({0})
exp(double) -> double = exp({0})
ln(double) -> double = lake_ln({0})
log2(double) -> double = lake_ln({0}) / ln(2.0)
log10(double) -> double = lake_log10({0})
log(double, double) -> double = lake_ln({1}) / lake_ln({0})
power(double, double) -> double = pow({0}, {1})
pow(double, double) -> double = pow({0}, {1})
pi() -> double = pi()
e() -> double = exp(1.0)
sin(double) -> double = sin({0})
cos(double) -> double = cos({0})
tan(double) -> double = tan({0})
asin(double) -> double = asin({0})
acos(double) -> double = acos({0})
atan(double) -> double = atan({0})
atan2(double, double) -> double = atan2({0}, {1})
degrees(double) -> double = degrees({0})
radians(double) -> double = radians({0})
is_nan(double) -> boolean = isnan({0})
is_finite(double) -> boolean = isfinite({0})
is_infinite(double) -> boolean = isinf({0})
nan() -> double = CAST('nan' AS DOUBLE)
infinity() -> double = CAST('inf' AS DOUBLE)
ceil(double) -> double = ceil({0})
ceiling(double) -> double = ceil({0})
floor(double) -> double = floor({0})
truncate(double) -> double = trunc({0})
round(double) -> double = round({0})
round(double, bigint) -> double = lake_round({0}, {1})
bitwise_and(bigint, bigint) -> bigint = ({0} & {1})
bitwise_or(bigint, bigint) -> bigint = ({0} | {1})
bitwise_xor(bigint, bigint) -> bigint = xor({0}, {1})
bitwise_not(bigint) -> bigint = (~{0})
to_base(bigint, bigint) -> varchar = lake_to_base({0}, {1})
from_base(varchar, bigint) -> bigint = lake_from_base({0}, {1})
width_bucket(double, double, double, bigint) -> bigint = lake_width_bucket({0}, {1}, {2}, {3})
year(date) -> bigint = year({0})
quarter(date) -> bigint = quarter({0})
month(date) -> bigint = month({0})
day(date) -> bigint = day({0})
week(date) -> bigint = weekofyear({0})
day_of_week(date) -> bigint = isodow({0})
day_of_year(date) -> bigint = dayofyear({0})
year_of_week(date) -> bigint = isoyear({0})
year(timestamp(6)) -> bigint = year({0})
quarter(timestamp(6)) -> bigint = quarter({0})
month(timestamp(6)) -> bigint = month({0})
day(timestamp(6)) -> bigint = day({0})
week(timestamp(6)) -> bigint = weekofyear({0})
day_of_week(timestamp(6)) -> bigint = isodow({0})
day_of_year(timestamp(6)) -> bigint = dayofyear({0})
year_of_week(timestamp(6)) -> bigint = isoyear({0})
hour(timestamp(6)) -> bigint = hour({0})
minute(timestamp(6)) -> bigint = minute({0})
second(timestamp(6)) -> bigint = second({0})
millisecond(timestamp(6)) -> bigint = (millisecond({0}) % 1000)
year(timestamp(6) with time zone) -> bigint = year({0})
quarter(timestamp(6) with time zone) -> bigint = quarter({0})
month(timestamp(6) with time zone) -> bigint = month({0})
day(timestamp(6) with time zone) -> bigint = day({0})
week(timestamp(6) with time zone) -> bigint = weekofyear({0})
day_of_week(timestamp(6) with time zone) -> bigint = isodow({0})
day_of_year(timestamp(6) with time zone) -> bigint = dayofyear({0})
year_of_week(timestamp(6) with time zone) -> bigint = isoyear({0})
hour(timestamp(6) with time zone) -> bigint = hour({0})
minute(timestamp(6) with time zone) -> bigint = minute({0})
second(timestamp(6) with time zone) -> bigint = second({0})
millisecond(timestamp(6) with time zone) -> bigint = (millisecond({0}) % 1000)
day(interval day to second) -> bigint = trunc({0} / 86400000)
hour(interval day to second) -> bigint = (trunc({0} / 3600000) % 24)
minute(interval day to second) -> bigint = (trunc({0} / 60000) % 60)
second(interval day to second) -> bigint = (trunc({0} / 1000) % 60)
to_milliseconds(interval day to second) -> bigint = {0}
parse_duration(varchar) -> interval day to second = lake_parse_duration({0})
last_day_of_month(date) -> date = last_day({0})
last_day_of_month(timestamp(6)) -> date = last_day({0})
date_format(timestamp(6), varchar) -> varchar = lake_date_format({0}, {1})
date_format(timestamp(6) with time zone, varchar) -> varchar = lake_date_format({0}, {1})
date_parse(varchar, varchar) -> timestamp(3) = lake_date_parse({0}, {1})
format_datetime(timestamp(6), varchar) -> varchar = lake_format_datetime({0}, {1})
format_datetime(timestamp(6) with time zone, varchar) -> varchar = lake_format_datetime({0}, {1})
parse_datetime(varchar, varchar) -> timestamp(3) with time zone = lake_parse_datetime({0}, {1})
from_iso8601_date(varchar) -> date = lake_iso_date({0})
from_iso8601_timestamp(varchar) -> timestamp(3) with time zone = lake_iso_time({0})
to_iso8601(date) -> varchar = strftime({0}, '%Y-%m-%d')
from_unixtime(double) -> timestamp(3) with time zone = lake_from_unixtime({0})
to_unixtime(timestamp(6)) -> double = (epoch_us({0}) / 1000000.0::DOUBLE)
to_unixtime(timestamp(6) with time zone) -> double = (epoch_us({0}) / 1000000.0::DOUBLE)
current_timezone() -> varchar = 'UTC'
uuid() -> uuid = uuid()
"""

AGGREGATES = r"""
count(T) -> bigint = count({0})
count_if(boolean) -> bigint = count_if({0})
sum(bigint) -> bigint = CAST(sum({0}) AS BIGINT)
sum(double) -> double = sum({0})
sum(interval day to second) -> interval day to second = CAST(sum({0}) AS BIGINT)
avg(bigint) -> double = avg({0})
avg(double) -> double = avg({0})
min(O) -> O = min({0})
max(O) -> O = max({0})
min(O, bigint) -> array(O) = min({0}, {1})
max(O, bigint) -> array(O) = max({0}, {1})
min_by(T, O) -> T = arg_min_null({0}, {1})
max_by(T, O) -> T = arg_max_null({0}, {1})
arbitrary(T) -> T = any_value({0})
any_value(T) -> T = any_value({0})
bool_and(boolean) -> boolean = bool_and({0})
bool_or(boolean) -> boolean = bool_or({0})
every(boolean) -> boolean = bool_and({0})
array_agg(T) -> array(T) = list({0})
map_agg(K, V) -> map(K, V) = lake_map_first(list({'k': {0}, 'v': {1}}))
multimap_agg(K, V) -> map(K, array(V)) = lake_multimap(list({'k': {0}, 'v': {1}}))
histogram(T) -> map(T, bigint) = lake_array_histogram(list({0}))
approx_distinct(T) -> bigint = count(DISTINCT {0})
approx_distinct(T, double) -> bigint = count(DISTINCT {0})
approx_percentile(bigint, double) -> bigint = lake_percentile(list({0}), {1})
approx_percentile(double, double) -> double = lake_percentile(list({0}), {1})
approx_percentile(bigint, array(double)) -> array(bigint) = lake_percentiles(list({0}), {1})
approx_percentile(double, array(double)) -> array(double) = lake_percentiles(list({0}), {1})
stddev(double) -> double = stddev_samp({0})
stddev_samp(double) -> double = stddev_samp({0})
stddev_pop(double) -> double = stddev_pop({0})
variance(double) -> double = var_samp({0})
var_samp(double) -> double = var_samp({0})
var_pop(double) -> double = var_pop({0})
corr(double, double) -> double = corr({0}, {1})
covar_pop(double, double) -> double = covar_pop({0}, {1})
covar_samp(double, double) -> double = covar_samp({0}, {1})
geometric_mean(double) -> double = exp(avg(ln({0})))
bitwise_and_agg(bigint) -> bigint = bit_and({0})
bitwise_or_agg(bigint) -> bigint = bit_or({0})
bitwise_xor_agg(bigint) -> bigint = bit_xor({0})
"""

WINDOWS = r"""
row_number() -> bigint = row_number()
rank() -> bigint = rank()
dense_rank() -> bigint = dense_rank()
percent_rank() -> double = percent_rank()
cume_dist() -> double = cume_dist()
ntile(bigint) -> bigint = ntile({0})
lag(T) -> T = lag({0})
lag(T, bigint) -> T = lag({0}, {1})
lag(T, bigint, T) -> T = lag({0}, {1}, {2})
lead(T) -> T = lead({0})
lead(T, bigint) -> T = lead({0}, {1})
lead(T, bigint, T) -> T = lead({0}, {1}, {2})
first_value(T) -> T = first_value({0})
last_value(T) -> T = last_value({0})
nth_value(T, bigint) -> T = nth_value({0}, {1})
"""

#: Other names of functions.
ALIASES = {
    "char_length": "length",
    "dow": "day_of_week",
    "doy": "day_of_year",
    "day_of_month": "day",
    "week_of_year": "week",
    "yow": "year_of_week",
    "ceiling": "ceil",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """One form of a function."""

    name: str
    parameters: tuple[Type, ...]
    is_variadic: bool
    result: Type
    expression: str

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.parameters))
        return f"{self.name}({shown}{'...' if self.is_variadic else ''})"

    def types(self, count: int) -> tuple[Type, ...] | None:
        """Returns the types of a number of arguments; None if it takes another number."""
        missing = count - len(self.parameters)
        if missing == 0 or (missing > 0 and self.is_variadic):
            return self.parameters + self.parameters[-1:] * missing
        return None


_LINE = re.compile(r"(\w+)\((.*)\) -> (.*?) = (.*)")


def _table(lines: str) -> dict[str, list[Signature]]:
    table: dict[str, list[Signature]] = defaultdict(list)
    for line in filter(None, lines.splitlines()):
        found = _LINE.fullmatch(line)
        name, parameters, result, expression = found.groups() if found else (line, "", "", "")
        kind = parse_type(f"fn({parameters.removesuffix('...')})") if parameters else None
        returned = parse_type(result)
        if returned is None or (kind is None and parameters):
            raise ValueError(line)
        table[name].append(
            Signature(
                name,
                kind.args if kind else (),
                parameters.endswith("..."),
                returned,
                expression,
            )
        )
    return dict(table)


scalars = _table(SCALARS)
aggregates = _table(AGGREGATES)
windows = _table(WINDOWS)
