/** The properties of the filter, with the names that the Event history of AWS has. */

import type { PropertyFilterProps } from "@cloudscape-design/components/property-filter";
import { hidden, visible } from "../text/visible";
import { EXPRESSION, type Filter, type Group, isGroup, type Token } from "./expression";

const WORDS = ["=", "!=", ":", "!:", "^", "!^"] as const;
const EXACT = ["=", "!="] as const;

interface Property {
  key: string;
  label: string;
  group?: string;
  operators?: readonly PropertyFilterProps.ComparisonOperator[];
  /** The values, if they are few and known. */
  values?: string[];
  /** Whether the server counts those, too. */
  counted?: boolean;
}

export const CATEGORY = "eventCategory";

export const PROPERTIES: Property[] = [
  { key: "eventName", label: "Event name" },
  { key: "username", label: "User name" },
  { key: "eventSource", label: "Event source" },
  { key: "resourceName", label: "Resource name" },
  { key: "resourceType", label: "Resource type" },
  { key: "result", label: "Result", operators: EXACT, values: ["Success", "Failure"] },
  { key: "readOnly", label: "Read-only", operators: ["="], values: ["false", "true"] },
  { key: "sourceIPAddress", label: "Source IP address" },
  { key: "errorCode", label: "Error code" },
  { key: "awsRegion", label: "AWS Region" },
  { key: "recipientAccountId", label: "Account" },
  { key: "arn", label: "Principal ARN" },
  { key: "accessKeyId", label: "AWS access key" },
  { key: CATEGORY, label: "Event category", operators: EXACT, values: ["Management", "Data", "Insight", "NetworkActivity"], counted: true },
  { key: "eventId", label: "Event ID", operators: EXACT },
  { key: "userAgent", label: "User agent" },
  { key: "agent", label: "Agent" },
  { key: "requestID", label: "Request ID", operators: EXACT },
  { key: EXPRESSION, label: "Expression", operators: ["="] },
];

const KNOWN = new Map(PROPERTIES.map((property) => [property.key, property]));

export function labelOf(key: string): string {
  return KNOWN.get(key)?.label ?? key;
}

/** The properties for a filter: the known ones, and paths into the record that it uses. */
export function filteringProperties(filter: Filter): PropertyFilterProps.FilteringProperty[] {
  const used = filter.tokens.flatMap((part) => (isGroup(part) ? part.tokens : [part])).flatMap(({ propertyKey }) => propertyKey ?? []);
  const paths = [...new Set(used)].filter((key) => key !== "is" && !KNOWN.has(key)).map((key) => ({ key, label: key }));
  return [...PROPERTIES, ...paths].map(({ key, label, operators }: Property) => ({
    key,
    propertyLabel: label,
    groupValuesLabel: `${label} values`,
    operators: [...(operators ?? (KNOWN.has(key) ? WORDS : [...WORDS, ">" as const, ">=" as const, "<" as const, "<=" as const]))],
  }));
}

/** The values of properties that have a few known ones. */
export const FIXED_OPTIONS: PropertyFilterProps.FilteringOption[] = PROPERTIES.flatMap(({ key, values }) =>
  (values ?? []).map((value) => ({ propertyKey: key, value })),
);

/** Properties whose values the server suggests for what someone types without naming one. */
export function searchedFor(text: string): string[] {
  if (!text) return [];
  if (/^arn:/i.test(text)) return ["arn", "resourceName"];
  const keys = /^A[KS]IA/i.test(text) ? ["accessKeyId"] : [];
  return [...keys, "eventName", "username", "resourceName", "eventSource"];
}

const STATES: Record<string, { propertyKey: string; value: string }> = {
  success: { propertyKey: "result", value: "Success" },
  failure: { propertyKey: "result", value: "Failure" },
  read: { propertyKey: "readOnly", value: "true" },
  write: { propertyKey: "readOnly", value: "false" },
};
const OPPOSITE: Record<string, string> = { success: "failure", failure: "success", read: "write", write: "read" };

function shown(token: Token): PropertyFilterProps.Token {
  if (token.propertyKey !== "is") return { ...token, value: visible(token.value) } as PropertyFilterProps.Token;
  const state = STATES[token.value];
  if (state?.propertyKey === "readOnly" && token.operator === "!=") {
    return { ...STATES[OPPOSITE[token.value] ?? ""], operator: "=" } as PropertyFilterProps.Token;
  }
  return { ...state, operator: token.operator } as PropertyFilterProps.Token;
}

function entered({ propertyKey, operator, value }: PropertyFilterProps.Token): Token {
  const text = hidden(String(value ?? ""));
  const state = Object.entries(STATES).find(
    ([, known]) => known.propertyKey === propertyKey && known.value.toLowerCase() === text.toLowerCase(),
  );
  if (state) return { propertyKey: "is", operator, value: state[0] };
  return propertyKey === undefined ? { operator, value: text } : { propertyKey, operator, value: text };
}

export function toShown(filter: Filter): PropertyFilterProps.Query {
  const tokenGroups = filter.tokens.map((part) =>
    isGroup(part) ? { operation: part.operation, tokens: part.tokens.map(shown) } : shown(part),
  );
  return { operation: filter.operation, tokens: [], tokenGroups };
}

export function fromShown(query: PropertyFilterProps.Query): Filter {
  const parts = (query.tokenGroups ?? query.tokens).flatMap((part): (Token | Group)[] => {
    if (!("tokens" in part)) return [entered(part)];
    const tokens = part.tokens.flatMap((inner) => ("tokens" in inner ? [] : [entered(inner)]));
    return tokens.length > 1 ? [{ operation: part.operation, tokens }] : tokens;
  });
  return { operation: query.operation, tokens: parts };
}
