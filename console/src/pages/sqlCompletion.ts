/** Suggestions while a SQL statement is written. */

import type { QueryColumn, TablesAnswer, TableSummary } from "../api/types";
import functions from "./sqlFunctions.json";

export interface Suggestion {
  /** Replaces the word at the cursor. */
  text: string;
  detail: string;
}

export interface Completion {
  /** Offset of the first character to replace; the cursor is the end. */
  from: number;
  suggestions: Suggestion[];
}

const KEYWORDS =
  "SELECT FROM WHERE GROUP ORDER BY HAVING LIMIT OFFSET WITH DISTINCT JOIN LEFT RIGHT FULL CROSS INNER ON USING UNION ALL INTERSECT EXCEPT UNNEST CASE WHEN THEN ELSE END AND OR NOT IN IS NULL LIKE BETWEEN EXISTS CAST TRY_CAST AS ASC DESC INTERVAL OVER PARTITION".split(
    " ",
  );
const MAX_SUGGESTIONS = 12;
const WORD = /[\w.]*$/;
/** A table is expected here; the name may already have its opening quote. */
const TABLE = /\b(?:FROM|JOIN)\s+"?([\w.-]*)$/i;

/** The category of the events that other services send to channels. */
export const ACTIVITY = "ActivityAuditLog";

/** Returns the columns of the tables that a statement names; of most tables if it names none. */
export function columnsIn(statement: string, { tables, columns, activityColumns }: TablesAnswer): QueryColumn[] {
  const named = tables.filter(({ sql, name, id }) => [sql, name, id].some((each) => each !== null && statement.includes(each)));
  const others = named.filter(({ category }) => category === ACTIVITY);
  return [...(others.length ? activityColumns : []), ...(others.length && others.length === named.length ? [] : columns)];
}

/** Returns the suggestions at the cursor; null in strings, quoted names and comments. */
export function completion(statement: string, cursor: number, tables: TableSummary[], columns: QueryColumn[]): Completion | null {
  const before = statement.slice(0, cursor);
  const table = TABLE.exec(before);
  const inside = openedBy(before);
  if (table && (inside === null || inside === '"')) {
    const typed = table[1] ?? "";
    const from = cursor - typed.length - (inside ? 1 : 0);
    const names = tables.map(({ sql, name, status }) => ({ word: name, text: sql, detail: sql.includes(name) ? status.toLowerCase() : name }));
    return result(from, typed, names);
  }
  if (inside !== null) return null;
  const word = WORD.exec(before)?.[0] ?? "";
  const path = word.split(".");
  const typed = path.pop() ?? "";
  const from = cursor - typed.length;
  if (path.length) return result(from, typed, members(path, columns).map(named));
  return result(from, typed, [
    ...columns.map(named),
    ...KEYWORDS.map((word) => ({ word, text: word, detail: "" })),
    ...functions.map(({ name, form }) => ({ word: name, text: `${name}(`, detail: form })),
  ]);
}

interface Candidate extends Suggestion {
  word: string;
}

const named = ({ name, type }: QueryColumn): Candidate => ({ word: name, text: name, detail: type });

function result(from: number, typed: string, candidates: Candidate[]): Completion {
  const start = typed.toLowerCase();
  const suggestions = candidates
    .filter(({ word }) => word.toLowerCase().startsWith(start))
    .slice(0, MAX_SUGGESTIONS)
    .map(({ text, detail }) => ({ text, detail }));
  return { from, suggestions };
}

/** Returns the delimiter of the string, quoted name or comment that is still open at the end; null: none is. */
function openedBy(text: string): string | null {
  const closed = text.replace(/'[^']*'|"[^"]*"|--[^\n]*\n|\/\*[^]*?\*\//g, "");
  return /'|"|--|\/\*/.exec(closed)?.[0] ?? null;
}

/** Returns the fields of the row that a path of names leads to. */
function members(path: string[], columns: QueryColumn[]): QueryColumn[] {
  let found = columns;
  for (const step of path) {
    const type = found.find(({ name }) => name.toLowerCase() === step.toLowerCase())?.type ?? "";
    found = fields(type);
  }
  return found;
}

/** Returns the fields of a type such as `row(arn varchar, tags map(varchar, varchar))`. */
function fields(type: string): QueryColumn[] {
  if (!type.startsWith("row(")) return [];
  const found: string[] = [""];
  let depth = 0;
  for (const character of type.slice("row(".length, -1)) {
    if (character === "," && depth === 0) found.push("");
    else found[found.length - 1] += character;
    depth += { "(": 1, ")": -1 }[character] ?? 0;
  }
  return found.map((each) => {
    const [name = "", ...rest] = each.trim().split(" ");
    return { name, type: rest.join(" ") };
  });
}
