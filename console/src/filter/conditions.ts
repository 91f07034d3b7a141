/** The conditions of a search: the same names in the address, on the command line and in the server's calls. */

import { useMemo, useRef } from "react";
import type { Query } from "../api/client";
import { changeQuery, useRoute } from "../app/router";
import { EMPTY, type Filter, isGroup, literal, type Token, toExpression, toFilter } from "./expression";

/** Events that only read are hidden until the reader removes this token, as on AWS's page. */
export const DEFAULT_EXPRESSION = "is:write";

export interface Range {
  /** Such as `7d`, counted back from now; or absolute times, or neither for all time. */
  last: string | null;
  since: string | null;
  until: string | null;
}

export interface Conditions {
  expression: string;
  filter: Filter;
  range: Range;
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
  let last = query.get("last");
  if (last !== null && !LAST.test(last)) {
    ignored.push(`last=${last}`);
    last = null;
  }
  const expression = query.get("expression") ?? DEFAULT_EXPRESSION;
  return {
    expression,
    filter: toFilter(expression),
    range: { last, since: time("since"), until: time("until") },
    account: query.get("account"),
    region: query.get("region"),
    all: query.get("categories") === "all",
    ignored,
  };
}

export function sinceOf(last: string, now: number): string {
  const [, count, unit] = LAST.exec(last) ?? [];
  return new Date(now - Number(count) * (UNITS[unit ?? ""] ?? 0)).toISOString().replace(/\.\d+Z$/, "Z");
}

/** The conditions as the server takes them; `now` is what a relative range counts back from. */
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

export function setFilter(filter: Filter): void {
  changeQuery({ ...NOT_A_POSITION, expression: toExpression(filter) });
}

export function setRange(range: Range): void {
  changeQuery({ ...NOT_A_POSITION, last: range.last, since: range.since, until: range.until });
}

function tokenFor(field: string, value: string, include: boolean): Token {
  return { propertyKey: field, operator: include ? "=" : "!=", value: literal(value) };
}

function isSame(part: Filter["tokens"][number], token: Token): boolean {
  return !isGroup(part) && part.propertyKey === token.propertyKey && part.operator === token.operator && part.value === token.value;
}

/** Whether all events of a filter have a value, or lack it. */
export function hasToken(filter: Filter, field: string, value: string, include: boolean): boolean {
  if (filter.operation === "or" && filter.tokens.length > 1) return false;
  return filter.tokens.some((part) => isSame(part, tokenFor(field, value, include)));
}

/** Takes away the comparison that `withToken` adds. */
export function withoutToken(filter: Filter, field: string, value: string): Filter {
  return { ...filter, tokens: filter.tokens.filter((part) => !isSame(part, tokenFor(field, value, true))) };
}

/** Adds a comparison to a filter: one that a value was clicked for. */
export function withToken(filter: Filter, field: string, value: string, include: boolean): Filter {
  const token = tokenFor(field, value, include);
  if (filter.tokens.some((part) => isSame(part, token))) return filter;
  if (filter.operation === "and" || filter.tokens.length < 2) return { operation: "and", tokens: [...filter.tokens, token] };
  const tokens = filter.tokens.flatMap((part) => (isGroup(part) ? [] : [part]));
  const whole = tokens.length === filter.tokens.length;
  const first = whole
    ? { operation: filter.operation, tokens }
    : { propertyKey: "expression", operator: "=", value: toExpression(filter) };
  return { operation: "and", tokens: [first, token] };
}

/** The only text that a filter searches for in all values; null: there is none, or there are several. */
export function textIn(filter: Filter): string | null {
  if (filter.operation === "or" && filter.tokens.length > 1) return null;
  const texts = filter.tokens.flatMap((part) => (!isGroup(part) && part.propertyKey === undefined && part.operator === ":" ? [part.value] : []));
  return texts.length === 1 ? (texts[0] ?? null) : null;
}

/** A filter for the events that name something as a resource or as the caller, instead of a text that is anywhere. */
export function naming(filter: Filter, name: string): Filter {
  const tokens = filter.tokens.filter((part) => isGroup(part) || part.propertyKey !== undefined);
  const names = ["resourceName", "username"].map((field) => tokenFor(field, name, true));
  return { operation: "and", tokens: [...tokens, { operation: "or", tokens: names }] };
}

/** An expression that finds one value of a field. */
export function finding(field: string, value: string): string {
  return toExpression(withToken(EMPTY, field, value, true));
}
