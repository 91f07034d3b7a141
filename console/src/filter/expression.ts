/**
 * Search expressions, the language of `opentrail lookup`, and the tokens of the filter.
 *
 * The filter holds comparisons joined by "and" or "or", in groups of one level. Any other part of an
 * expression becomes a token of its own with the part's text, so that nothing is lost either way.
 */

import language from "./language.json";

export type Operation = "and" | "or";

export interface Token {
  /** Absent for a text that is searched for in all values. */
  propertyKey?: string;
  operator: string;
  value: string;
}

export interface Group {
  operation: Operation;
  tokens: Token[];
}

export interface Filter {
  operation: Operation;
  tokens: (Token | Group)[];
}

export const EMPTY: Filter = { operation: "and", tokens: [] };
/** The property of tokens that hold a part of an expression as text. */
export const EXPRESSION = "expression";

const FIELDS = new Set<string>(language.fields);
const MEMBERS = new Set<string>(language.members);

export function isGroup(part: Token | Group): part is Group {
  return "tokens" in part;
}

/** Whether a name is a field, or a path into the record such as `requestParameters.bucketName`. */
export function isField(name: string): boolean {
  if (FIELDS.has(name.toLowerCase())) return true;
  const members = name.split(/(?<!\\)\./);
  return MEMBERS.has(members[0] ?? "") && members.every(Boolean);
}

/** Writes a value so that wildcards in it are literal. */
export function literal(value: string): string {
  return value.replace(/[\\*?]/g, "\\$&");
}

// Writing

export function toExpression(filter: Filter): string {
  const only = filter.tokens[0];
  if (filter.tokens.length === 1 && only && !isGroup(only) && only.propertyKey === EXPRESSION) return only.value;
  return join(filter.operation, filter.tokens.map((part) => (isGroup(part) ? group(part) : written(part))));
}

function group(part: Group): string {
  const inner = join(part.operation, part.tokens.map(written));
  return part.tokens.length > 1 ? `(${inner})` : inner;
}

function join(operation: Operation, parts: string[]): string {
  return parts.filter(Boolean).join(operation === "and" ? " AND " : " OR ");
}

function written({ propertyKey, operator, value }: Token): string {
  const negated = operator.startsWith("!") && operator !== "!=";
  const prefix = negated ? "NOT " : "";
  const plain = negated ? operator.slice(1) : operator;
  if (propertyKey === EXPRESSION) return `(${value})`;
  if (propertyKey === undefined) return `${operator === "!=" ? "NOT " : prefix}${quoted(escaped(value))}`;
  if (propertyKey === "is") return `${operator === "!=" ? "NOT " : ""}is:${value}`;
  if (plain === "^") return `${prefix}${propertyKey}=${word(`${pattern(literal(value))}*`)}`;
  if (plain === "=" || plain === "!=") return `${prefix}${propertyKey}${plain}${word(pattern(value))}`;
  return `${prefix}${propertyKey}${plain}${word(escaped(value))}`;
}

const SAFE = /^[A-Za-z0-9_.\-/*?@]+(:+[A-Za-z0-9_.\-/*?@]+)*$/;

function word(text: string): string {
  return SAFE.test(text) ? text : quoted(text);
}

function quoted(text: string): string {
  return `"${text}"`;
}

function escaped(text: string): string {
  return text.replace(/[\\"]/g, "\\$&");
}

/** Escapes the quotation marks of a pattern, and a backslash at its end. */
function pattern(text: string): string {
  return text.replace(/\\([\s\S])|\\$|"/g, (found, after) => (after !== undefined ? found : found === "\\" ? "\\\\" : '\\"'));
}

// Reading

/** Reads an expression; one that the filter's tokens cannot express remains whole, as a text. */
export function toFilter(text: string): Filter {
  if (!text.trim()) return EMPTY;
  let parts: Part;
  try {
    parts = new Reader(text).whole();
  } catch (error) {
    if (error instanceof Invalid) return single(text.trim());
    throw error;
  }
  return topLevel(parts, text);
}

function single(text: string): Filter {
  return { operation: "and", tokens: [{ propertyKey: EXPRESSION, operator: "=", value: text }] };
}

/** A part of an expression with its place, parentheses included; `core` is the place within them. */
type Part = { start: number; end: number; core?: [number, number] } & (
  | { kind: "token"; token: Token }
  | { kind: Operation; parts: Part[] }
  | { kind: "other" }
);

function sourceOf(part: Part, text: string): string {
  return text.slice(...(part.core ?? [part.start, part.end]));
}

function topLevel(part: Part, text: string): Filter {
  if (part.kind === "token") return { operation: "and", tokens: [part.token] };
  if (part.kind === "other") return single(sourceOf(part, text));
  return { operation: part.kind, tokens: part.parts.map((inner) => oneLevelDown(inner, text)) };
}

function oneLevelDown(part: Part, text: string): Token | Group {
  if (part.kind === "token") return part.token;
  if (part.kind !== "other" && part.parts.every((inner) => inner.kind === "token")) {
    return { operation: part.kind, tokens: part.parts.flatMap((inner) => (inner.kind === "token" ? [inner.token] : [])) };
  }
  return { propertyKey: EXPRESSION, operator: "=", value: sourceOf(part, text) };
}

class Invalid extends Error {}

interface Lexeme {
  kind: "word" | "quoted" | "operator" | "(" | ")" | "," | "end";
  text: string;
  start: number;
  end: number;
}

const PIECE = /\s*(?:([(),])|(!=|<=|>=|=|<|>)|"((?:[^"\\]|\\[\s\S])*)"|((?:[^\s()",=<>!:\\]|!(?!=)|\\[\s\S]|:)+))/y;

function lexemes(text: string): Lexeme[] {
  const found: Lexeme[] = [];
  const length = text.trimEnd().length;
  PIECE.lastIndex = 0;
  while (PIECE.lastIndex < length) {
    const match = PIECE.exec(text);
    if (!match) throw new Invalid();
    const [whole, parenthesis, operator, inQuotes, plain] = match;
    const end = PIECE.lastIndex;
    const start = end - whole.trimStart().length;
    if (parenthesis) found.push({ kind: parenthesis as "(", text: parenthesis, start, end });
    else if (operator) found.push({ kind: "operator", text: operator, start, end });
    else if (inQuotes !== undefined) found.push({ kind: "quoted", text: inQuotes, start, end });
    else found.push(...splitWord(plain ?? "", start, found.at(-1), COMPARED.test(text.slice(end))));
  }
  found.push({ kind: "end", text: "", start: length, end: length });
  return found;
}

/** What follows a path whose members may have colons: `tags.aws:team=x`. */
const COMPARED = /^\s*(?:!=|<=|>=|=|<|>)/;

function splitWord(text: string, start: number, before: Lexeme | undefined, compared: boolean): Lexeme[] {
  const colon = text.search(/(?<!\\):/);
  const name = colon < 0 ? text : text.slice(0, colon);
  const isPath = MEMBERS.has(name.split(".")[0] ?? "");
  const known = FIELDS.has(name.toLowerCase()) || isPath || name === "is" || name === PART || name === OPENS;
  const end = start + text.length;
  if (before?.kind === "operator" || colon < 0 || !known || text.startsWith("arn:aws") || (isPath && compared)) {
    return [{ kind: "word", text, start, end }];
  }
  const middle = start + colon;
  const parts: Lexeme[] = [
    { kind: "word", text: name, start, end: middle },
    { kind: "operator", text: ":", start: middle, end: middle + 1 },
  ];
  if (middle + 1 < end) parts.push({ kind: "word", text: text.slice(colon + 1), start: middle + 1, end });
  return parts;
}

/** `text:` finds parts of words. */
const PART = "text";
/** `opens:22` finds calls that let traffic in to a port. */
const OPENS = "opens";
const STATES = new Set(["success", "failure", "read", "write"]);
const TIMES = new Set(["last", "since", "until"]);
const TIME_FIELDS = new Set(["eventtime", "time"]);

class Reader {
  private readonly lexemes: Lexeme[];
  private next = 0;
  private depth = 0;

  constructor(text: string) {
    this.lexemes = lexemes(text);
  }

  whole(): Part {
    const found = this.anyOf();
    if (this.peek.kind !== "end") throw new Invalid();
    return found;
  }

  private get peek(): Lexeme {
    return this.lexemes[this.next] as Lexeme;
  }

  private take(): Lexeme {
    const lexeme = this.peek;
    if (lexeme.kind !== "end") this.next += 1;
    return lexeme;
  }

  /** Whether the next word is AND, OR, NOT or IN, in any case. */
  private isOperator(name: string): boolean {
    return this.peek.kind === "word" && this.peek.text.toUpperCase() === name;
  }

  private anyOf(): Part {
    const parts = [this.allOf()];
    while (this.isOperator("OR")) {
      this.take();
      parts.push(this.allOf());
    }
    return combined("or", parts);
  }

  private allOf(): Part {
    const parts = [this.one()];
    while (this.peek.kind !== "end" && this.peek.kind !== ")" && !this.isOperator("OR")) {
      if (this.isOperator("AND")) this.take();
      parts.push(this.one());
    }
    return combined("and", parts);
  }

  private one(): Part {
    this.depth += 1;
    if (this.depth > 100) throw new Invalid();
    try {
      if (this.isOperator("NOT")) {
        const { start } = this.take();
        return negated(this.one(), start);
      }
      if (this.peek.kind !== "(") return this.term();
      const opening = this.take();
      const inner = this.anyOf();
      const closing = this.take();
      if (closing.kind !== ")") throw new Invalid();
      return { ...inner, start: opening.start, end: closing.end, core: inner.core ?? [inner.start, inner.end] };
    } finally {
      this.depth -= 1;
    }
  }

  private term(): Part {
    const first = this.take();
    const { start } = first;
    if (first.kind === "quoted") return text(first);
    if (first.kind !== "word" || ["AND", "OR", "IN"].includes(first.text.toUpperCase())) throw new Invalid();
    if (this.peek.kind === "operator") {
      const operator = this.take().text;
      const value = this.value();
      return comparison(first.text, operator, value, start);
    }
    if (this.isOperator("IN") && isField(first.text)) return this.oneOf(first);
    if (TIMES.has(first.text) && ["word", "quoted"].includes(this.peek.kind)) {
      return { kind: "other", start, end: this.take().end };
    }
    if (/^(\d{4}-\d\d-\d\d.*\.\.|\.\.\d{4}-\d\d-\d\d)/.test(first.text)) return { kind: "other", start, end: first.end };
    return text(first);
  }

  private oneOf(field: Lexeme): Part {
    this.take();
    if (this.take().kind !== "(") throw new Invalid();
    const parts = [comparison(field.text, "=", this.value(), field.start)];
    while (this.peek.kind === ",") {
      this.take();
      parts.push(comparison(field.text, "=", this.value(), field.start));
    }
    const closing = this.take();
    if (closing.kind !== ")") throw new Invalid();
    const found = combined("or", parts);
    return { ...found, start: field.start, end: closing.end };
  }

  private value(): Lexeme {
    const lexeme = this.take();
    if (lexeme.kind !== "word" && lexeme.kind !== "quoted") throw new Invalid();
    return lexeme;
  }
}

function text(lexeme: Lexeme): Part {
  return part({ operator: ":", value: unescaped(lexeme.text) }, lexeme.start, lexeme.end);
}

function part(token: Token, start: number, end: number): Part {
  return { kind: "token", token, start, end };
}

function comparison(name: string, operator: string, value: Lexeme, start: number): Part {
  const { end } = value;
  if (name === "is") {
    if (!(operator === ":" || operator === "=") || !STATES.has(value.text)) throw new Invalid();
    return part({ propertyKey: "is", operator: "=", value: value.text }, start, end);
  }
  if ((name === PART || name === OPENS) && operator === ":") return { kind: "other", start, end };
  if (!isField(name)) throw new Invalid();
  if (TIME_FIELDS.has(name.toLowerCase())) return { kind: "other", start, end };
  const propertyKey = canonical(name);
  if (operator !== "=" && operator !== "!=") {
    return part({ propertyKey, operator, value: unescaped(value.text) }, start, end);
  }
  const beginning = operator === "=" ? /^((?:[^\\*?]|\\[\s\S])+)\*$/.exec(value.text) : null;
  if (beginning?.[1]) return part({ propertyKey, operator: "^", value: unescaped(beginning[1]) }, start, end);
  const pattern = value.text.replace(/\\([\s\S])/g, (found, after) => (after === '"' ? after : found));
  return part({ propertyKey, operator, value: pattern }, start, end);
}

function negated(inner: Part, start: number): Part {
  const { end } = inner;
  if (inner.kind !== "token") return { kind: "other", start, end };
  const { token } = inner;
  const opposite = { "=": token.propertyKey === "is" ? "!=" : null, ":": "!:", "^": "!^" }[token.operator] ?? null;
  return opposite ? part({ ...token, operator: opposite }, start, end) : { kind: "other", start, end };
}

function combined(kind: Operation, parts: Part[]): Part {
  const [first] = parts;
  const last = parts.at(-1);
  if (!first || !last || parts.length === 1) return first as Part;
  return { kind, parts, start: first.start, end: last.end };
}

function unescaped(value: string): string {
  return value.replace(/\\([\s\S])/g, "$1");
}

/** One name for each field, that of the filter's properties; paths stay as they are. */
function canonical(name: string): string {
  return NAMES[name.toLowerCase()] ?? name;
}

const NAMES: Record<string, string> = Object.fromEntries(
  (
    [
      ["eventId", "id"],
      ["eventName", "event", "name"],
      ["eventSource", "source", "service"],
      ["username", "user"],
      ["accessKeyId", "key"],
      ["arn", "principal"],
      ["sourceIPAddress", "sourceIp", "ip"],
      ["errorCode", "error"],
      ["awsRegion", "region"],
      ["recipientAccountId", "account"],
      ["eventCategory", "category"],
      ["readOnly"],
      ["agent"],
      ["resourceName", "resource"],
      ["resourceType"],
    ] as const
  ).flatMap(([name, ...others]) => [name, ...others].map((alias) => [alias.toLowerCase(), name])),
);
