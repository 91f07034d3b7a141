/** The conditions of a search: the same names in the address, on the command line and in the server's calls. */

import { useMemo, useRef } from "react";
import type { Query } from "../api/client";
import type { Term } from "../api/types";
import { changeQuery, currentQuery, useRoute } from "../app/router";
import { allOf, anyOf, comparison, literal, termTexts } from "./expression";

/** Events that only read are hidden until the reader removes this token, as on AWS's page. */
export const DEFAULT_EXPRESSION = "is:write";
/** The default range. */
const AUTO = "auto";
const ALL_TIME = "all";
export const NO_RANGE: Range = { last: null, since: null, until: null };
const LAST_DAY: Range = { ...NO_RANGE, last: "1d" };

export interface Range {
  /** Such as `7d`, counted back from now; or absolute times, or neither for all time. */
  last: string | null;
  since: string | null;
  until: string | null;
}

export interface Conditions {
  expression: string;
  range: Range;
  /** Whether the range is the default: the last 24 hours, or the range with the newest events. */
  isAuto: boolean;
  account: string | null;
  region: string | null;
  /** Data events too, not only management events. */
  all: boolean;
  /** Parts of the address that were ignored. */
  ignored: string[];
}

const LAST = /^(\d{1,5})([mhdw])$/;
const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

export function readConditions(query: URLSearchParams): Conditions {
  const ignored: string[] = [];
  const time = (name: "since" | "until"): string | null => {
    const text = query.get(name);
    if (text === null) return null;
    if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(Date.parse(text))) return text;
    ignored.push(`${name}=${text}`);
    return null;
  };
  const isAuto = hasNoRange(query);
  let last = query.get("last");
  if (last !== null && !LAST.test(last)) {
    if (last !== AUTO && last !== ALL_TIME) ignored.push(`last=${last}`);
    last = null;
  }
  return {
    expression: query.get("expression") ?? DEFAULT_EXPRESSION,
    range: isAuto ? LAST_DAY : { last, since: time("since"), until: time("until") },
    isAuto,
    account: query.get("account"),
    region: query.get("region"),
    all: query.get("categories") === "all",
    ignored,
  };
}

/** Whether an address leaves the range to the page. A link with only an expression covers all time. */
function hasNoRange(query: URLSearchParams): boolean {
  if (query.get("last") === AUTO) return true;
  return ["last", "since", "until", "expression"].every((name) => query.get(name) === null);
}

/** The shortest of some ranges that includes a time. */
export function rangeSince(time: string, lengths: readonly string[], now: number): Range {
  const last = lengths.find((length) => sinceOf(length, now) <= time);
  return last ? { ...NO_RANGE, last } : NO_RANGE;
}

export function sinceOf(last: string, now: number): string {
  const [, count, unit] = LAST.exec(last) ?? [];
  return new Date(now - Number(count) * (UNITS[unit ?? ""] ?? 0)).toISOString().replace(/\.\d+Z$/, "Z");
}

/** The conditions in the server's form. A relative range ends at `now`. */
export function toQuery({ expression, range, account, region, all }: Conditions, now: number): Query {
  return {
    expression,
    since: range.last ? sinceOf(range.last, now) : range.since,
    until: range.last ? null : range.until,
    account,
    region,
    categories: all ? "all" : null,
  };
}

/** The conditions in the address, and the same as a call; `refresh` counts a relative range again. */
export function useConditions(): { conditions: Conditions; now: number; key: string } {
  const { query } = useRoute();
  const names = ["expression", "last", "since", "until", "account", "region", "categories"];
  const key = JSON.stringify(names.map((name) => query.get(name)));
  const conditions = useMemo(() => readConditions(query), [key]);
  const began = useRef({ key, now: Date.now() });
  if (began.current.key !== key) began.current = { key, now: Date.now() };
  return { conditions, now: began.current.now, key };
}

const NOT_A_POSITION = { cursor: null, event: null };

export function setExpression(expression: string): void {
  changeQuery({ ...NOT_A_POSITION, expression, ...(hasNoRange(currentQuery()) && { last: AUTO }) });
}

/** A range as parts of an address. */
export function rangeParts({ last, since, until }: Range): Record<keyof Range, string | null> {
  return { last: last ?? (since || until ? null : ALL_TIME), since, until };
}

export function setRange(range: Range): void {
  changeQuery({ ...NOT_A_POSITION, ...rangeParts(range) });
}

function isSame(term: Term, field: string, value: string, include: boolean): boolean {
  return term.field === field && term.operator === (include ? "=" : "!=") && term.value === literal(value);
}

/** Whether all events of a search have a value, or no event has it. */
export function hasValue(terms: readonly Term[], field: string, value: string, include: boolean): boolean {
  return terms.some((term) => isSame(term, field, value, include));
}

/** Removes the comparison that `withValue` adds. */
export function withoutValue(terms: readonly Term[], field: string, value: string): string {
  return allOf(...terms.filter((term) => !isSame(term, field, value, true)).map(({ text }) => text));
}

/** Adds a comparison with a clicked value to an expression. */
export function withValue(expression: string, field: string, value: string, include: boolean): string {
  const before = termTexts(expression);
  const added = comparison(field, value, include);
  return allOf(...before, ...(before.includes(added) ? [] : [added]));
}

/** The only word or phrase searched for in all values; null: none or several. */
export function textIn(terms: readonly Term[]): string | null {
  const texts = terms.filter(isText);
  return texts.length === 1 ? (texts[0]?.value ?? null) : null;
}

function isText({ field, value }: Term): boolean {
  return field === null && value !== null;
}

/** The search for events that name a resource or caller, instead of a word in any value. */
export function naming(terms: readonly Term[], name: string): string {
  const others = terms.filter((term) => !isText(term)).map(({ text }) => text);
  return allOf(...others, anyOf(...["resourceName", "username"].map((field) => comparison(field, name))));
}
