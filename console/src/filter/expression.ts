/**
 * Search expressions, the language of `opentrail lookup`: the console writes them, the server reads them.
 */

import { get } from "../api/client";
import type { ExpressionTerms, Term } from "../api/types";
import { useCall } from "../api/useCall";
import language from "./language.json";

const FIELDS = new Set<string>(language.fields);
const COUNTED = new Set<string>(language.counted);
const MEMBERS = new Set<string>(language.members);

/** Whether a name is a field, or a path into the record such as `requestParameters.bucketName`. */
export function isField(name: string): boolean {
  if (FIELDS.has(name.toLowerCase())) return true;
  const members = name.split(/(?<!\\)\./);
  return MEMBERS.has(members[0] ?? "") && members.every(Boolean);
}

/** Whether the server counts the events by the values of a field. */
export function isCounted(name: string): boolean {
  return COUNTED.has(name.toLowerCase());
}

// Writing

/** Writes a value so that wildcards in it are literal. */
export function literal(value: string): string {
  return value.replace(/[\\*?]/g, "\\$&");
}

/** The comparison of a field with one value. */
export function comparison(field: string, value: string, include = true): string {
  return `${field}${include ? "=" : "!="}${word(literal(value).replaceAll('"', '\\"'))}`;
}

/** The comparison of a field with the beginning of its values. */
export function beginning(field: string, prefix: string): string {
  return `${field}=${word(`${literal(prefix).replaceAll('"', '\\"')}*`)}`;
}

/** The search for words in all values. */
export function words(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&")}"`;
}

export function allOf(...terms: string[]): string {
  return terms.filter(Boolean).join(" AND ");
}

/** Alternatives, as one term. */
export function anyOf(...terms: string[]): string {
  return terms.length > 1 ? `(${terms.join(" OR ")})` : terms.join();
}

const SAFE = /^[A-Za-z0-9_.\-/*?@]+(:+[A-Za-z0-9_.\-/*?@]+)*$/;

function word(text: string): string {
  return SAFE.test(text) ? text : `"${text}"`;
}

// Reading

const MAX_KNOWN = 200;
/** Expression → its terms from the server. */
const known = new Map<string, ExpressionTerms>([["", { terms: [], error: null }]]);

/** Reads an expression; an invalid one is one term. */
export async function read(expression: string, signal?: AbortSignal): Promise<ExpressionTerms> {
  const before = known.get(expression);
  if (before) return before;
  const found = await get<ExpressionTerms>("expression", { expression }, signal);
  // An invalid expression is shown and edited as one term.
  if (found.error) found.terms = [{ text: expression, field: null, operator: null, value: null }];
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(expression, found);
  return found;
}

/** The terms of an expression; none until they are read. */
export function useTerms(expression: string): readonly Term[] {
  const { data } = useCall((signal) => read(expression, signal).then((found) => ({ expression, ...found })), [expression]);
  return data?.expression === expression ? data.terms : (known.get(expression)?.terms ?? NONE);
}

const NONE: readonly Term[] = [];

/** The terms of an expression as strings. An unread expression is one term. */
export function termTexts(expression: string): string[] {
  const terms = known.get(expression)?.terms;
  if (terms?.length) return terms.map(({ text }) => text);
  return expression ? [`(${expression})`] : [];
}
