import { useEffect, useState } from "react";
import { get, type Query } from "../api/client";
import { findResources } from "../api/resources";
import type { ValueCount } from "../api/types";
import { number } from "../text/time";
import { comparison, isCounted, words } from "./expression";
import { CATEGORY, type Field, FIELDS, lastWord, searchedFor } from "./fields";

export interface Suggestion {
  /** The replacement for the last word. */
  text: string;
  detail: string;
  /** Whether a value must follow to complete the term. */
  isOpen?: boolean;
  /** Whether it replaces everything typed. */
  isWhole?: boolean;
}

const MAX_VALUES = 20;
const NONE: Suggestion[] = [];
const NONE_KNOWN: string[] = [];

/** Suggestions for the typed text. Values come from the server, with their number of events. */
export function useSuggestions(typed: string, scope: Query): Suggestion[] {
  const [counted, setCounted] = useState<{ typed: string; values: Suggestion[] }>({ typed: "", values: NONE });
  const key = JSON.stringify(scope);
  useEffect(() => {
    const abort = new AbortController();
    void valuesOf(typed, scope, abort.signal).then(
      (values) => !abort.signal.aborted && setCounted({ typed, values }),
      () => undefined,
    );
    return () => abort.abort();
  }, [typed, key]);
  const known = namesOf(typed);
  // Matching old values stay while new ones load, so that a choice by the arrow keys keeps its place.
  const { text } = lastWord(typed);
  const values = counted.typed === typed ? counted.values : counted.values.filter((value) => value.text.toLowerCase().includes(text.toLowerCase()));
  const counts = new Map(values.map((value) => [value.text, value]));
  const named = known.map((name) => counts.get(name.text) ?? name);
  return [...named, ...values.filter((value) => !named.includes(value))];
}

/** Fields and known values that start with the text, and a search for the whole text. */
function namesOf(typed: string): Suggestion[] {
  const { field, operator, text } = lastWord(typed);
  if (field !== null) {
    const values = FIELDS.find(({ name }) => name === field)?.values ?? NONE_KNOWN;
    return values.filter((value) => value.startsWith(text)).map((value) => ({ text: `${field}${operator}${value}`, detail: "" }));
  }
  const lower = text.toLowerCase();
  const named = FIELDS.filter(({ name, label }) => name.toLowerCase().startsWith(lower) || (lower && label.toLowerCase().startsWith(lower)));
  const fields = named.map((found) => ({ text: opened(found), detail: found.label, isOpen: true }));
  const isPhrase = /\s/.test(typed.trim()) && !/["()=<>:]|\b(AND|OR|NOT|IN)\b/i.test(typed);
  return [...(isPhrase ? [{ text: words(typed.trim()), detail: "These words together", isWhole: true }] : []), ...fields];
}

function opened({ name }: Field): string {
  if (name.endsWith(".")) return name;
  return name === "is" ? "is:" : `${name}=`;
}

async function valuesOf(typed: string, scope: Query, signal: AbortSignal): Promise<Suggestion[]> {
  const { field, operator, text } = lastWord(typed);
  const asked = field !== null ? [field] : text ? searchedFor(text) : [];
  const found = await Promise.allSettled(asked.map((name) => countsOf(name, text, scope, signal)));
  return found.flatMap((one, index) =>
    one.status === "rejected" ? [] : one.value.map(({ value, detail }) => ({ text: comparison(asked[index] ?? "", value, operator !== "!="), detail })),
  );
}

async function countsOf(field: string, prefix: string, scope: Query, signal: AbortSignal): Promise<{ value: string; detail: string }[]> {
  if (["resource", "resourcename"].includes(field.toLowerCase())) {
    const found = await findResources({ ...scope, prefix }, signal);
    const names = found.flatMap(({ name, type, aliases }) => [name, ...aliases].filter((each) => each.startsWith(prefix)).map((value) => ({ value, detail: type ?? "" })));
    return names.filter(({ value }, index) => names.findIndex((other) => other.value === value) === index).slice(0, MAX_VALUES);
  }
  if (!isCounted(field)) return [];
  const conditions = field === CATEGORY ? { ...scope, categories: "all" } : scope;
  const { values } = await get<{ values: ValueCount[] }>("values", { ...conditions, field, prefix }, signal);
  return values.map(({ value, count }) => ({ value, detail: `${number(count)} ${count === 1 ? "event" : "events"}` }));
}
